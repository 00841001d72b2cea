/*-------------------------------------------------------------------------
 *
 * sandbox.h
 *	  What the files of the embedded provider "sandbox" share.
 *
 * The sandbox is a payment provider that needs no network.  It has two sides
 * that meet only in JSON:
 *
 *	sandbox.c				the side that every provider has: requests, answers, events
 *	sandbox_character.c		what can be done, and by whose rules (behave_as)
 *	sandbox_snapshots.c		objects of the far side to snapshots
 *	sandbox_perform.c		the far side: requests come in here, answers go out
 *	sandbox_customers.c		what requests do to a customer and its methods
 *	sandbox_payments.c		payment intents
 *	sandbox_vouchers.c		payments that are made elsewhere: OXXO, SPEI
 *	sandbox_setups.c		setup intents
 *	sandbox_refunds.c		refunds
 *	sandbox_disputes.c		disputes
 *	sandbox_fees.c			what the sandbox keeps of them
 *	sandbox_checkout.c		checkout sessions, the portal
 *	sandbox_subscriptions.c	what requests do to a subscription
 *	sandbox_pauses.c		how a subscription stands still and goes on
 *	sandbox_invoices.c		what requests do to an invoice
 *	sandbox_usage.c			what it is told of usage
 *	sandbox_billing.c		invoices of subscriptions, charges, dunning
 *	sandbox_clock.c			what time does
 *	sandbox_buyer.c			what the buyer does
 *	sandbox_state.c			the far side's memory, one jsonb per customer
 *	sandbox_records.c		the same for payments and what comes of them
 *	sandbox_tokens.c		the test payment methods
 *
 * The wire: POST /<operation> with the arguments and "reference" as a JSON
 * object; the answer is 200 {"objects": [...]}, the objects that changed, or
 * an error {"error": {"type", "code"}}.  POST /lookup {reference, operation,
 * request} answers {"found": true, "objects": [...]} or {"found": false}.
 * Times on the wire and in the state are unix seconds, 0 and absent mean none.
 *
 * The far side is pure: state, request and time come out of the EmbeddedExchange,
 * new state and events go back.  What is said about a person is not even read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_SANDBOX_H
#define JANUA_SANDBOX_H

#include "provider.h"

#include "json.h"
#include "period.h"

#define SANDBOX_SIGNATURE_HEADER "Sandbox-Signature"

/* ------------------------------------------------------------------------
 * Test payment methods (sandbox_tokens.c)
 * ------------------------------------------------------------------------
 */

typedef enum SandboxBehaviour
{
	SANDBOX_PAYS,               /* every charge succeeds */
	SANDBOX_NOT_ATTACHED,       /* attaching is declined with the code */
	SANDBOX_DECLINES,           /* attaches, every charge declines with the code */
	SANDBOX_AUTHENTICATES,      /* customer present: has to act, each time; else declines */
	SANDBOX_AUTHENTICATES_ONCE, /* the same until the customer has done it once */
	SANDBOX_SETTLES,            /* delayed: processing, then succeeds */
	SANDBOX_BOUNCES,            /* delayed: processing, then fails with the code */
	SANDBOX_KEEPS_PROCESSING    /* delayed: until the buyer settles it */
} SandboxBehaviour;

/* What comes of a payment after it has succeeded. */
typedef enum SandboxSequel
{
	SANDBOX_STAYS_PAID,
	SANDBOX_IS_DISPUTED,        /* the next day, and the money is taken */
	SANDBOX_IS_INQUIRED,        /* the next day, the money stays */
	SANDBOX_REFUNDS_PEND,       /* a refund takes a day */
	SANDBOX_REFUNDS_FAIL,       /* a refund succeeds and fails a day later */
	SANDBOX_REFUSES_INSTALMENTS /* no sequel: declines when it is to be paid in instalments */
} SandboxSequel;

typedef struct SandboxToken
{
	const char *name;
	const char *type;  /* card, us_bank_account, sepa_debit */
	const char *brand; /* NULL: none */
	const char *last4;
	SandboxBehaviour behaviour;
	SandboxSequel sequel;
	const char *code; /* of the decline; NULL where nothing declines */
} SandboxToken;

typedef enum SandboxChargeOutcome
{
	SANDBOX_CHARGE_SUCCEEDED,
	SANDBOX_CHARGE_DECLINED,
	SANDBOX_CHARGE_NEEDS_ACTION,
	SANDBOX_CHARGE_PROCESSING
} SandboxChargeOutcome;

/* NULL when there is no such token. */
extern const SandboxToken *sandbox_token(const char *name);

/* What stands for a reference to be paid to: of type oxxo, spei, cash_recurrent, spei_recurrent. */
extern const SandboxToken *sandbox_reference_token(const char *type);

/* What a charge comes to; authenticated: the customer has done 3-D Secure before. */
extern SandboxChargeOutcome sandbox_token_outcome(const SandboxToken *token, bool authenticated,
												  bool off_session);

/* A sentence that lists the tokens, for an errhint. */
extern const char *sandbox_token_hint(void);

/* Seconds from a charge to its settlement; 0 for what is not delayed. */
extern int64 sandbox_settlement_delay(const SandboxToken *token);

/* Is there no use in trying the same method again? */
extern bool sandbox_decline_is_final(const char *code);

/* ------------------------------------------------------------------------
 * State (sandbox_state.c)
 * ------------------------------------------------------------------------
 */

typedef enum SandboxStatus
{
	SANDBOX_INCOMPLETE,
	SANDBOX_INCOMPLETE_EXPIRED,
	SANDBOX_TRIALING,
	SANDBOX_ACTIVE,
	SANDBOX_PAST_DUE,
	SANDBOX_PAUSED,
	SANDBOX_CANCELED
} SandboxStatus;

typedef enum SandboxInvoiceStatus
{
	SANDBOX_INVOICE_DRAFT,
	SANDBOX_INVOICE_OPEN,
	SANDBOX_INVOICE_PAID,
	SANDBOX_INVOICE_VOID,
	SANDBOX_INVOICE_UNCOLLECTIBLE
} SandboxInvoiceStatus;

typedef struct SandboxMethod
{
	const char *id;
	const char *reference;
	const SandboxToken *token;
	const char *number; /* that the customer pays to; NULL: no such method */
	int64 exp_year;     /* 0: not a card */
	bool authenticated; /* SANDBOX_AUTHENTICATES_ONCE: it was done */
} SandboxMethod;

typedef struct SandboxSubscription
{
	const char *id;
	const char *reference;
	const char *price; /* our uuid of the price */
	int64 amount;      /* minor units per piece and period */
	int64 quantity;
	const char *currency;
	PeriodRule rule;
	SandboxStatus status;
	const char *method;             /* id of its own payment method, NULL: the customer's default */
	const char *trial_end_behavior; /* cancel, pause or create_invoice */
	int64 created;
	int64 period_start;
	int64 period_end;
	int64 trial_start;
	int64 trial_end;
	int64 trial_notice_at; /* 0: sent, or no trial */
	bool cancel_at_period_end;
	int64 cancel_at; /* 0 with cancel_at_period_end */
	int64 canceled_at;
	int64 ended_at;
	int64 expires_at; /* incomplete and waiting for the buyer until then */
	int64 pending;    /* prorations for the next invoice, negative: credit */
	bool pause_at_period_end;
	int64 resumes_at; /* paused, or going to be: until then; 0: until it is resumed */
} SandboxSubscription;

typedef struct SandboxInvoice
{
	const char *id;
	const char *number;       /* NULL: a draft */
	const char *subscription; /* id */
	const char *currency;
	const char *billing_reason;
	const char *method;       /* id of the payment method tried last */
	const char *failure_code; /* why that failed */
	const char *payment;      /* id of the payment that the attempts are of, NULL: none yet */
	SandboxInvoiceStatus status;
	int64 total;
	int64 attempt_count;
	int64 created;
	int64 period_start;
	int64 period_end;
	int64 paid_at;
	int64 first_failed_at;
	int64 next_attempt_at;
	bool needs_action;       /* the buyer can authenticate the last attempt */
	bool processing;         /* a delayed attempt is on its way */
	int64 settle_at;         /* 0: only when the buyer settles it */
	const char *settle_code; /* how it will fail; NULL: it will succeed */
} SandboxInvoice;

/*
 * Payments, what comes of them, and checkout sessions.  Each begins with its
 * id and our reference, so that sandbox_find() can look through any of them.
 */
typedef struct SandboxRecord
{
	const char *id;
	const char *reference; /* NULL: it came to be without us */
} SandboxRecord;

typedef enum SandboxPaymentStatus
{
	SANDBOX_PAYMENT_PENDING,
	SANDBOX_PAYMENT_REQUIRES_ACTION,
	SANDBOX_PAYMENT_PROCESSING,
	SANDBOX_PAYMENT_REQUIRES_CAPTURE,
	SANDBOX_PAYMENT_SUCCEEDED,
	SANDBOX_PAYMENT_FAILED,
	SANDBOX_PAYMENT_CANCELED
} SandboxPaymentStatus;

typedef struct SandboxPayment
{
	SandboxRecord record;
	const char *charge;  /* id of the latest charge */
	const char *session; /* id of the checkout session that made it */
	const char *invoice; /* id, like the next */
	const char *subscription;
	int status; /* SandboxPaymentStatus */
	int64 amount;
	int64 amount_received;
	int64 amount_refunded; /* by refunds that have succeeded */
	const char *currency;
	const char *kind;          /* card, oxxo, ...; NULL: not chosen yet */
	const SandboxToken *token; /* what pays it */
	const char *method;        /* id of the attached method, NULL: the token is used once */
	bool manual_capture;
	bool save;          /* the token becomes a method of the customer */
	bool authenticated; /* the buyer has done 3-D Secure for it */
	bool microdeposits; /* requires_action: until the buyer tells their amounts */
	int64 installments;
	const char *error_code;
	const char *decline_code;
	const char *cancellation_reason;
	int64 created;
	int64 paid_at;
	int64 expires_at;        /* of the number */
	const char *number;      /* reference or CLABE that the buyer pays to */
	int64 pay_at;            /* the buyer will pay to it; 0: not by himself */
	int64 pay_amount;        /* so much */
	int64 settle_at;         /* processing: 0: only when the buyer settles it */
	const char *settle_code; /* how it will fail; NULL: it will succeed */
	int64 dispute_at;
	FeeSnapshot fee;
} SandboxPayment;

typedef struct SandboxSetup
{
	SandboxRecord record;
	int status; /* SandboxPaymentStatus */
	const char *session;
	const char *method; /* id, NULL: none yet */
	const SandboxToken *token;
	const char *error_code;
	int64 created;
} SandboxSetup;

typedef enum SandboxRefundStatus
{
	SANDBOX_REFUND_PENDING,
	SANDBOX_REFUND_SUCCEEDED,
	SANDBOX_REFUND_FAILED,
	SANDBOX_REFUND_CANCELED
} SandboxRefundStatus;

typedef struct SandboxRefund
{
	SandboxRecord record;
	const char *payment; /* id */
	const char *charge;
	int status; /* SandboxRefundStatus */
	bool requires_action;
	int64 amount;
	const char *currency;
	const char *reason;
	const char *error_code;
	int64 created;
	int64 settle_at; /* 0: nothing more happens by itself */
	bool settle_fails;
	FeeSnapshot fee;
} SandboxRefund;

typedef enum SandboxDisputeStatus
{
	SANDBOX_DISPUTE_WARNING_NEEDS_RESPONSE,
	SANDBOX_DISPUTE_WARNING_UNDER_REVIEW,
	SANDBOX_DISPUTE_WARNING_CLOSED,
	SANDBOX_DISPUTE_NEEDS_RESPONSE,
	SANDBOX_DISPUTE_UNDER_REVIEW,
	SANDBOX_DISPUTE_WON,
	SANDBOX_DISPUTE_LOST
} SandboxDisputeStatus;

typedef struct SandboxDispute
{
	SandboxRecord record;
	const char *payment; /* id */
	const char *charge;
	int status; /* SandboxDisputeStatus */
	int64 amount;
	const char *currency;
	const char *reason;
	bool withdrawn;
	bool reinstated;
	bool evidence_submitted;
	int64 evidence_due_by;
	int64 created;
	int64 decide_at; /* 0: when somebody decides it */
	bool decide_won;
	FeeSnapshot fee;
} SandboxDispute;

typedef enum SandboxSessionStatus
{
	SANDBOX_SESSION_OPEN,
	SANDBOX_SESSION_COMPLETE,
	SANDBOX_SESSION_EXPIRED
} SandboxSessionStatus;

typedef struct SandboxSession
{
	SandboxRecord record;
	const char *mode; /* payment, subscription, setup */
	int status;       /* SandboxSessionStatus */
	bool paid;
	int64 amount;
	const char *currency;
	const char *url;
	const char *payment; /* id, like the next four */
	const char *subscription;
	const char *setup;
	const char *invoice;
	const char *upgraded; /* the subscription that gets the terms */
	const char *payment_reference;
	const char *subscription_reference;
	const char *wish;   /* metadata.sandbox */
	const Jsonb *terms; /* of the subscription that it makes */
	int64 created;
	int64 expires_at;
} SandboxSession;

/* An answer that is given again when its key comes again. */
typedef struct SandboxAnswer
{
	const char *wire_key;
	int64 status;
	const Jsonb *body;
} SandboxAnswer;

/* Everything about one customer. */
typedef struct SandboxState
{
	const char *id; /* NULL: not created yet */
	const char *reference;
	bool deleted;
	const char *default_method; /* id */
	int64 counter;              /* ids are made of it */
	int64 invoice_counter;
	List *methods;       /* of SandboxMethod *, oldest first, like all of these */
	List *subscriptions; /* of SandboxSubscription * */
	List *invoices;      /* of SandboxInvoice * */
	List *payments;      /* of SandboxPayment * */
	List *setups;        /* of SandboxSetup * */
	List *refunds;       /* of SandboxRefund * */
	List *disputes;      /* of SandboxDispute * */
	List *sessions;      /* of SandboxSession * */
	List *usage;         /* of Jsonb *, {event_name at quantity}: the oldest first */
	List *answers;       /* of SandboxAnswer * */
} SandboxState;

/* What is answered to a request. */
typedef struct SandboxReply
{
	int status;
	const char *error_type;
	const char *error_code;
	List *objects; /* of Jsonb * */
} SandboxReply;

/* One exchange at work. */
typedef struct Sandbox
{
	SandboxState state;
	int64 now;             /* unix seconds */
	List *events;          /* of EmbeddedEvent *, in the order in which they happened */
	const char *behave_as; /* NULL: as itself */
	const Jsonb *fees;     /* NULL: none, see sandbox_fees.h */
} Sandbox;

extern void sandbox_state_read(SandboxState *state, const Jsonb *json);
extern Jsonb *sandbox_state_write(const SandboxState *state);

/* "sub_sbx_<reference without dashes>_00000017" */
extern const char *sandbox_new_id(SandboxState *state, const char *prefix);

/* Where the state stands among the events: an answer tells it, as an event does by its id. */
extern const char *sandbox_position(const SandboxState *state);

/* By id or reference, NULL when there is none. */
extern SandboxMethod *sandbox_method(const SandboxState *state, const char *id);
extern SandboxSubscription *sandbox_subscription(const SandboxState *state, const char *id);
extern SandboxSubscription *sandbox_subscription_by_reference(const SandboxState *state,
															  const char *reference);

extern SandboxInvoice *sandbox_invoice(const SandboxState *state, const char *id);

/* By id or reference, in any list of records; NULL when there is none. */
extern void *sandbox_find(const List *records, const char *key);

/* The same, by the argument of a request; refuses with 404. */
extern void *sandbox_requested(const List *records, const Jsonb *arguments, const char *key,
							   SandboxReply *reply);

/* Objects as they stand in answers and events. */
extern Jsonb *sandbox_customer_object(const SandboxState *state);
extern Jsonb *sandbox_method_object(const SandboxState *state, const SandboxMethod *method,
									bool attached);
extern Jsonb *sandbox_subscription_object(const SandboxState *state,
										  const SandboxSubscription *subscription);
extern Jsonb *sandbox_invoice_object(const SandboxState *state, const SandboxInvoice *invoice);
extern Jsonb *sandbox_payment_object(const SandboxState *state, const SandboxPayment *payment);
extern Jsonb *sandbox_setup_object(const SandboxState *state, const SandboxSetup *setup);
extern Jsonb *sandbox_refund_object(const SandboxState *state, const SandboxRefund *refund);
extern Jsonb *sandbox_dispute_object(const SandboxState *state, const SandboxDispute *dispute);
extern Jsonb *sandbox_session_object(const SandboxState *state, const SandboxSession *session);

/* {type, reference or clabe, ...}: where the buyer pays to. */
extern void sandbox_add_number(JsonBuilder *builder, const char *key, const char *kind,
							   const char *number, int64 expires_at);

/* The records of a state, to and from its jsonb (sandbox_records.c). */
extern void sandbox_records_write(JsonBuilder *builder, const SandboxState *state);
extern void sandbox_records_read(SandboxState *state, const Jsonb *json);
extern void sandbox_records_forget(SandboxState *state);

/* Records that something happened; object as it is at this moment. */
extern void sandbox_event(Sandbox *sandbox, const char *type, const Jsonb *object);
extern void sandbox_subscription_event(Sandbox *sandbox, const char *type,
									   const SandboxSubscription *subscription);

/* The types of the events by which a change of a subscription is told, in order, ended by NULL. */
extern const char *const *sandbox_event_sequence(const Sandbox *sandbox, const char *type);

/* A timestamp as unix seconds, without its fraction. */
extern int64 sandbox_unix_seconds(TimestampTz moment);

/* Opens the state of an exchange, and puts back what became of it. */
extern void sandbox_open(Sandbox *sandbox, const EmbeddedExchange *exchange);
extern void sandbox_close(Sandbox *sandbox, EmbeddedExchange *exchange);

/* ------------------------------------------------------------------------
 * Answers (sandbox_perform.c)
 * ------------------------------------------------------------------------
 */

/* A request that is wrong (400, 404), and a payment that was refused (402); objects stay. */
extern void sandbox_refuse(SandboxReply *reply, int status, const char *code);
extern void sandbox_decline(SandboxReply *reply, const char *code);
extern void sandbox_reply_object(SandboxReply *reply, const Jsonb *object);

/* Takes what is there, leaves what is not; false when it is no integer. */
extern bool sandbox_take_int(const Jsonb *arguments, const char *key, int64 *value);
extern bool sandbox_text_is(const char *text, const char *wanted);

/* EmbeddedProvider.perform */
extern void sandbox_perform(EmbeddedExchange *exchange, const ProviderRequest *request,
							const char *wire_key, HttpResponse *response);

/* ------------------------------------------------------------------------
 * Charges and invoices (sandbox_billing.c)
 * ------------------------------------------------------------------------
 */

typedef struct SandboxCharge
{
	SandboxChargeOutcome outcome;
	const SandboxMethod *method; /* NULL: nothing to pay, or nothing to pay with */
	const char *code;            /* of a decline */
} SandboxCharge;

/* The method that pays for the subscription, NULL when there is none. */
extern SandboxMethod *sandbox_paying_method(const Sandbox *sandbox,
											const SandboxSubscription *subscription);

/* What becomes of a charge; changes nothing. */
extern SandboxCharge sandbox_charge(const Sandbox *sandbox, const SandboxSubscription *subscription,
									int64 amount, bool off_session);

/*
 * An open invoice over the amount and the pending prorations; credit that is
 * left over stays pending, so that no total is negative.
 */
extern SandboxInvoice *sandbox_bill(Sandbox *sandbox, SandboxSubscription *subscription,
									const char *reason, int64 amount);

/* Lets the invoice and its subscription have the outcome of a charge. */
extern void sandbox_collect(Sandbox *sandbox, SandboxSubscription *subscription,
							SandboxInvoice *invoice, const SandboxCharge *charge);

/* An incomplete subscription waits 23 hours for the buyer to pay. */
extern void sandbox_await_buyer(Sandbox *sandbox, SandboxSubscription *subscription);

/* Has an attempt for an open invoice of it failed? */
extern bool sandbox_is_behind(const Sandbox *sandbox, const SandboxSubscription *subscription);

/* Nothing is tried by itself for its open invoices from now on. */
extern void sandbox_stop_retries(Sandbox *sandbox, const SandboxSubscription *subscription);

/* The invoice will not be paid: void or uncollectible. */
extern void sandbox_close_invoice(Sandbox *sandbox, SandboxInvoice *invoice,
								  SandboxInvoiceStatus status, const char *event);

/* The end of what sandbox_collect() left open. */
extern void sandbox_pay(Sandbox *sandbox, SandboxSubscription *subscription,
						SandboxInvoice *invoice);
extern void sandbox_fail(Sandbox *sandbox, SandboxSubscription *subscription,
						 SandboxInvoice *invoice, const char *code);

/* Plays one entry of the retry schedule. */
extern void sandbox_retry(Sandbox *sandbox, SandboxSubscription *subscription,
						  SandboxInvoice *invoice);

/* Ends the subscription now. */
extern void sandbox_cancel(Sandbox *sandbox, SandboxSubscription *subscription);

/* An incomplete subscription that nobody paid for. */
extern void sandbox_expire(Sandbox *sandbox, SandboxSubscription *subscription);

/* ------------------------------------------------------------------------
 * Subscriptions (sandbox_subscriptions.c)
 *
 * Each takes the arguments of its operation and fills the reply.
 * ------------------------------------------------------------------------
 */

extern void sandbox_subscription_create(Sandbox *sandbox, const Jsonb *arguments,
										SandboxReply *reply);
extern void sandbox_subscription_update(Sandbox *sandbox, const Jsonb *arguments,
										SandboxReply *reply);
extern void sandbox_subscription_cancel(Sandbox *sandbox, const Jsonb *arguments,
										SandboxReply *reply);
extern void sandbox_subscription_cancel_later(Sandbox *sandbox, const Jsonb *arguments,
											  SandboxReply *reply);
extern void sandbox_subscription_uncancel(Sandbox *sandbox, const Jsonb *arguments,
										  SandboxReply *reply);

/* The subscription of a request; refuses one that is unknown or over. */
extern SandboxSubscription *sandbox_requested_subscription(const Sandbox *sandbox,
														   const Jsonb *arguments,
														   SandboxReply *reply);
extern void sandbox_reply_subscription(const Sandbox *sandbox,
									   const SandboxSubscription *subscription,
									   SandboxReply *reply);
extern void sandbox_reply_invoice(const Sandbox *sandbox, const SandboxInvoice *invoice,
								  SandboxReply *reply);

/*
 * Goes into the period that begins at the moment: a whole one, or the rest of
 * one up to the next boundary of the rule; *cost is its share.
 */
extern bool sandbox_enter_period(SandboxSubscription *subscription, int64 moment, int64 *cost);

/* Bills the period that it is in. */
extern void sandbox_bill_period(Sandbox *sandbox, SandboxSubscription *subscription, int64 cost);

/* Charges what a change costs, and makes the change (told as event) if that works out. */
extern void sandbox_change_and_charge(Sandbox *sandbox, SandboxSubscription *subscription,
									  const SandboxSubscription *changed, int64 cost,
									  const char *event, SandboxReply *reply);

/* What a whole period costs. */
extern int64 sandbox_period_total(const SandboxSubscription *subscription);

/* What time does to it. */
extern void sandbox_renew(Sandbox *sandbox, SandboxSubscription *subscription);
extern void sandbox_end_trial(Sandbox *sandbox, SandboxSubscription *subscription);

/* ------------------------------------------------------------------------
 * Pauses (sandbox_pauses.c)
 * ------------------------------------------------------------------------
 */

extern void sandbox_subscription_pause(Sandbox *sandbox, const Jsonb *arguments,
									   SandboxReply *reply);
extern void sandbox_subscription_resume(Sandbox *sandbox, const Jsonb *arguments,
										SandboxReply *reply);

/* It stands still from now on. */
extern void sandbox_pause(Sandbox *sandbox, SandboxSubscription *subscription);

/* resumes_at has come. */
extern void sandbox_resume(Sandbox *sandbox, SandboxSubscription *subscription);

/* ------------------------------------------------------------------------
 * Customers and their methods (sandbox_customers.c)
 * ------------------------------------------------------------------------
 */

extern void sandbox_customer_create(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_customer_update(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_customer_delete(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_customer_fetch(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_method_attach(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_method_set_default(Sandbox *sandbox, const Jsonb *arguments,
									   SandboxReply *reply);
extern void sandbox_method_detach(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_method_list(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);

/* Makes a method of a token and tells it; reference may be NULL. */
extern SandboxMethod *sandbox_method_new(Sandbox *sandbox, const SandboxToken *token,
										 const char *reference);

/* ------------------------------------------------------------------------
 * Payments (sandbox_payments.c)
 * ------------------------------------------------------------------------
 */

extern void sandbox_payment_create(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_payment_confirm(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_payment_capture(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_payment_cancel(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_payment_verify(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_payment_fetch(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);

/* A payment over the amount that nobody has tried to pay yet. */
extern SandboxPayment *sandbox_payment_new(Sandbox *sandbox, const char *reference, int64 amount,
										   const char *currency);

/*
 * A new attempt to pay an invoice by the method: the payment that it is told
 * by.  What comes of it decides the invoice; the payment follows by the functions
 * below.
 */
extern SandboxPayment *sandbox_payment_of_invoice(Sandbox *sandbox, SandboxInvoice *invoice,
												  const SandboxMethod *method);
extern void sandbox_payment_wait(Sandbox *sandbox, SandboxPayment *payment, bool processing);

/* Tries to pay it by what the payment says. */
extern void sandbox_payment_attempt(Sandbox *sandbox, SandboxPayment *payment, bool off_session);

/* Money has come, an attempt has failed, nobody will pay it any more. */
extern void sandbox_payment_receive(Sandbox *sandbox, SandboxPayment *payment, int64 amount);
extern void sandbox_payment_fail(Sandbox *sandbox, SandboxPayment *payment, const char *code);
extern void sandbox_payment_end(Sandbox *sandbox, SandboxPayment *payment, const char *reason);

/* The buyer has done 3-D Secure. */
extern void sandbox_payment_authenticated(Sandbox *sandbox, SandboxPayment *payment);

extern void sandbox_payment_event(Sandbox *sandbox, const char *type,
								  const SandboxPayment *payment);

/* ------------------------------------------------------------------------
 * Payments that are made elsewhere (sandbox_vouchers.c)
 * ------------------------------------------------------------------------
 */

/* What metadata.sandbox wants of the buyer. */
typedef struct SandboxWish
{
	bool expires;     /* nobody pays */
	int64 pay_after;  /* seconds after the beginning */
	int64 late;       /* seconds after the expiry; 0: in time */
	int64 difference; /* of what is paid from the amount */
} SandboxWish;

/* text NULL: the default; false: it cannot be read. */
extern bool sandbox_wish_read(const char *text, SandboxWish *wish);

/* Is it paid to a number? */
extern bool sandbox_is_voucher(const char *kind);

/* A number of that kind, made of an id. */
extern const char *sandbox_voucher_number(const char *kind, const char *id);

/* Gives the payment a number and a date; expires_at 0: the usual one. */
extern void sandbox_voucher_issue(Sandbox *sandbox, SandboxPayment *payment, int64 expires_at,
								  const char *wish);

/* Somebody pays to the number of a payment; the same for one of a method. */
extern void sandbox_voucher_pay(Sandbox *sandbox, SandboxPayment *payment, int64 amount);
extern void sandbox_number_pay(Sandbox *sandbox, const SandboxMethod *method, int64 amount);

/* ------------------------------------------------------------------------
 * Setup intents, refunds and disputes (sandbox_setups.c, _refunds.c, _disputes.c)
 * ------------------------------------------------------------------------
 */

extern void sandbox_setup_create(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_setup_cancel(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern SandboxSetup *sandbox_setup_new(Sandbox *sandbox, const char *reference);
extern void sandbox_setup_attempt(Sandbox *sandbox, SandboxSetup *setup);
extern void sandbox_setup_authenticated(Sandbox *sandbox, SandboxSetup *setup, bool success);

extern void sandbox_refund_create(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_refund_cancel(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_refund_fetch(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_refund_settle(Sandbox *sandbox, SandboxRefund *refund, bool succeeded);

/* What can still be given back, or disputed, of the payment. */
extern int64 sandbox_refundable(const SandboxState *state, const SandboxPayment *payment);

extern void sandbox_dispute_evidence(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_dispute_accept(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_dispute_fetch(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_dispute_open(Sandbox *sandbox, SandboxPayment *payment, int64 amount,
								 const char *reason, bool inquiry);
extern void sandbox_dispute_decide(Sandbox *sandbox, SandboxDispute *dispute, bool won);
extern bool sandbox_dispute_is_over(const SandboxDispute *dispute);

/* ------------------------------------------------------------------------
 * Checkout (sandbox_checkout.c)
 * ------------------------------------------------------------------------
 */

extern void sandbox_session_create(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_session_expire_now(Sandbox *sandbox, const Jsonb *arguments,
									   SandboxReply *reply);
extern void sandbox_session_fetch(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_portal_create(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_session_expire(Sandbox *sandbox, SandboxSession *session);

/* The buyer pays with a token, or by oxxo or spei.  NULL, or why he cannot. */
extern const char *sandbox_session_complete(Sandbox *sandbox, SandboxSession *session,
											const char *payment_method);

/* A payment, setup or subscription has changed: its session, if it has one, follows. */
extern void sandbox_session_follow_payment(Sandbox *sandbox, const SandboxPayment *payment);
extern void sandbox_session_follow_setup(Sandbox *sandbox, const SandboxSetup *setup);
extern void sandbox_session_follow_subscription(Sandbox *sandbox,
												const SandboxSubscription *subscription);

/* ------------------------------------------------------------------------
 * Invoices by request, and usage (sandbox_invoices.c, sandbox_usage.c)
 * ------------------------------------------------------------------------
 */

extern void sandbox_subscription_fetch(Sandbox *sandbox, const Jsonb *arguments,
									   SandboxReply *reply);
extern void sandbox_subscription_retry(Sandbox *sandbox, const Jsonb *arguments,
									   SandboxReply *reply);
extern void sandbox_invoice_fetch(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_invoice_list(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_invoice_finalize(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_invoice_pay(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_invoice_void(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_invoice_give_up(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);
extern void sandbox_usage_report(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);

/* ------------------------------------------------------------------------
 * Time and the buyer (sandbox_clock.c, sandbox_buyer.c)
 * ------------------------------------------------------------------------
 */

/* When sandbox_elapse() has something to do next; 0: never. */
extern int64 sandbox_next_due(const Sandbox *sandbox);

/* A delayed payment of a subscription has arrived (code NULL) or failed. */
extern void sandbox_settle_invoice(Sandbox *sandbox, SandboxInvoice *invoice, const char *code);

/* EmbeddedProvider.elapse and .act */
extern void sandbox_elapse(EmbeddedExchange *exchange);
extern void sandbox_act(EmbeddedExchange *exchange, const char *action, const char *reference,
						const Jsonb *arguments);

/* ------------------------------------------------------------------------
 * The side that every provider has (sandbox_character.c, sandbox_snapshots.c)
 * ------------------------------------------------------------------------
 */

/* Provider.supports and .missing */
extern Support sandbox_supports(Operation operation, const Jsonb *arguments,
								const ProviderAccount *account, const char **alternative);
extern ProviderBilling sandbox_billing(const ProviderAccount *account);
extern const char *sandbox_missing(Operation operation, const Jsonb *arguments,
								   const ProviderAccount *account);

/* What an object says; NULL when it is none of the sandbox. */
extern ProviderSnapshot *sandbox_snapshot(const Jsonb *object);

#endif /* JANUA_SANDBOX_H */

/*-------------------------------------------------------------------------
 *
 * sandbox.h
 *	  What the files of the embedded provider "sandbox" share.
 *
 * The sandbox is a payment provider that needs no network.  It has two sides
 * that meet only in JSON:
 *
 *	sandbox.c				the side that every provider has: requests, answers, events
 *	sandbox_perform.c		the far side: requests come in here, answers go out
 *	sandbox_subscriptions.c	what requests do to a subscription
 *	sandbox_billing.c		invoices, charges, dunning
 *	sandbox_clock.c			what time does, and what the buyer does
 *	sandbox_state.c			the far side's memory, one jsonb per customer
 *	sandbox_tokens.c		the test payment methods
 *
 * The wire: POST /<operation> with the arguments and "reference" as a JSON
 * object; the answer is 200 {"objects": [...]}, the objects that changed, or
 * an error {"error": {"type", "code"}}.  POST /lookup {reference, operation,
 * request} answers {"found": true, "objects": [...]} or {"found": false}.
 * Times on the wire and in the state are unix seconds, 0 and absent mean none.
 *
 * The far side is pure: it takes the state, the request and the time out of
 * the EmbeddedExchange and puts the new state and the events back.  It keeps
 * no personal data; what a request says about a person is not even read.
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

typedef struct SandboxToken
{
	const char *name;
	const char *type;  /* card, us_bank_account, sepa_debit */
	const char *brand; /* NULL: none */
	const char *last4;
	SandboxBehaviour behaviour;
	const char *code; /* of the decline; NULL where nothing declines */
} SandboxToken;

/* NULL when there is no such token. */
extern const SandboxToken *sandbox_token(const char *name);

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
	SANDBOX_INVOICE_VOID
} SandboxInvoiceStatus;

typedef struct SandboxMethod
{
	const char *id;
	const char *reference;
	const SandboxToken *token;
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
	List *answers;       /* of SandboxAnswer * */
} SandboxState;

/* One exchange at work. */
typedef struct Sandbox
{
	SandboxState state;
	int64 now;    /* unix seconds */
	List *events; /* of EmbeddedEvent *, in the order in which they happened */
} Sandbox;

extern void sandbox_state_read(SandboxState *state, const Jsonb *json);
extern Jsonb *sandbox_state_write(const SandboxState *state);

/* "sub_sbx_<reference without dashes>_00000017" */
extern const char *sandbox_new_id(SandboxState *state, const char *prefix);

/* By id or reference, NULL when there is none. */
extern SandboxMethod *sandbox_method(const SandboxState *state, const char *id);
extern SandboxSubscription *sandbox_subscription(const SandboxState *state, const char *id);
extern SandboxSubscription *sandbox_subscription_by_reference(const SandboxState *state,
															  const char *reference);

/* Objects as they stand in answers and events. */
extern Jsonb *sandbox_customer_object(const SandboxState *state);
extern Jsonb *sandbox_method_object(const SandboxState *state, const SandboxMethod *method,
									bool attached);
extern Jsonb *sandbox_subscription_object(const SandboxState *state,
										  const SandboxSubscription *subscription);
extern Jsonb *sandbox_invoice_object(const SandboxState *state, const SandboxInvoice *invoice);

/* Records that something happened; object as it is at this moment. */
extern void sandbox_event(Sandbox *sandbox, const char *type, const Jsonb *object);
extern void sandbox_subscription_event(Sandbox *sandbox, const char *type,
									   const SandboxSubscription *subscription);

/* A timestamp as unix seconds, without its fraction. */
extern int64 sandbox_unix_seconds(TimestampTz moment);

/* Opens the state of an exchange, and puts back what became of it. */
extern void sandbox_open(Sandbox *sandbox, const EmbeddedExchange *exchange);
extern void sandbox_close(Sandbox *sandbox, EmbeddedExchange *exchange);

/* ------------------------------------------------------------------------
 * Answers (sandbox_perform.c)
 * ------------------------------------------------------------------------
 */

typedef struct SandboxReply
{
	int status;
	const char *error_type;
	const char *error_code;
	List *objects; /* of Jsonb * */
} SandboxReply;

/* A request that is wrong (400, 404), and a payment that was refused (402). */
extern void sandbox_refuse(SandboxReply *reply, int status, const char *code);
extern void sandbox_decline(SandboxReply *reply, const char *code);

/* EmbeddedProvider.perform */
extern void sandbox_perform(EmbeddedExchange *exchange, const ProviderRequest *request,
							const char *wire_key, HttpResponse *response);

/* ------------------------------------------------------------------------
 * Charges and invoices (sandbox_billing.c)
 * ------------------------------------------------------------------------
 */

typedef enum SandboxChargeOutcome
{
	SANDBOX_CHARGE_SUCCEEDED,
	SANDBOX_CHARGE_DECLINED,
	SANDBOX_CHARGE_NEEDS_ACTION,
	SANDBOX_CHARGE_PROCESSING
} SandboxChargeOutcome;

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
extern void sandbox_subscription_resume(Sandbox *sandbox, const Jsonb *arguments,
										SandboxReply *reply);

/* What time does to it. */
extern void sandbox_renew(Sandbox *sandbox, SandboxSubscription *subscription);
extern void sandbox_end_trial(Sandbox *sandbox, SandboxSubscription *subscription);

/* ------------------------------------------------------------------------
 * Time and the buyer (sandbox_clock.c)
 * ------------------------------------------------------------------------
 */

/* When sandbox_elapse() has something to do next; 0: never. */
extern int64 sandbox_next_due(const Sandbox *sandbox);

/* EmbeddedProvider.elapse and .act */
extern void sandbox_elapse(EmbeddedExchange *exchange);
extern void sandbox_act(EmbeddedExchange *exchange, const char *action, const char *reference,
						const char *outcome);

#endif /* JANUA_SANDBOX_H */

/*-------------------------------------------------------------------------
 *
 * payments.h
 *	  What the files of payments, setup intents, refunds and disputes share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_PAYMENTS_H
#define JANUA_PAYMENTS_H

#include "json.h"
#include "routing.h"
#include "subjects.h"

typedef struct PaymentIntent
{
	pg_uuid_t *id;
	pg_uuid_t *customer_id;
	char *organization_id;
	char *provider;
	char *account;
	bool livemode;
	char *status;
	int64 amount; /* minor units, like the next four */
	char *currency;
	int64 amount_capturable;
	int64 amount_received;
	int64 refunded_elsewhere;
	char *method;
	pg_uuid_t *payment_method_id;
	bool off_session;
	int installments; /* months; 0: none */
	TimestampTz expires_at;
	pg_uuid_t *invoice_id;
	pg_uuid_t *checkout_session_id;
	TimestampTz paid_at;
	char *provider_id; /* NULL: no provider knows it */
} PaymentIntent;

/* NULL when there is none. */
extern PaymentIntent *payment_intent_load(const pg_uuid_t *id);

/* Under the lock of its customer, so that its state stands still; JB005 when there is none. */
extern PaymentIntent *payment_intent_load_locked(const pg_uuid_t *id);

/* The payment that a provider's ids are about; NULL when it is not known. */
extern pg_uuid_t *payment_intent_told(const char *payment_intent, const char *charge,
									  const News *news);

/* succeeded, partially_refunded or refunded: the money has arrived. */
extern bool payment_arrived(const char *status);

/* pending, requires_action or failed: nothing of it is on its way. */
extern bool payment_confirmable(const char *status);

/*
 * Is an attempt to pay this invoice on its way, or its outcome unknown?  until
 * (may be NULL): when that ends by itself, as a page that nobody uses does; 0: by news only.
 */
extern bool payment_in_flight(const pg_uuid_t *invoice_id, TimestampTz *until);

/* JB010 when one is, other than a page on which nobody is paying yet. */
extern void payment_refuse_beside_page(const pg_uuid_t *invoice_id);

/* What an invoice of ours is charged to: a method that is attached, or a reference that is made. */
typedef struct InvoiceCharge
{
	const pg_uuid_t *invoice_id;
	int64 amount; /* minor units */
	const char *currency;
	const char *description;
	const pg_uuid_t *payment_method_id;
	const char *method;     /* oxxo, spei; NULL: the method is charged */
	bool customer_present;  /* and can answer his bank */
	TimestampTz expires_at; /* of a reference */
	const Jsonb *metadata;
	const char *provider;
	const char *account;
} InvoiceCharge;

/*
 * A payment of an invoice, as a rule without the customer: the same checks and errors as
 * create_payment_intent().  The caller holds the customer.
 */
extern pg_uuid_t *payment_intent_for_invoice(const Customer *customer, const InvoiceCharge *charge);

/* payment_ends.c: a payment that no provider has heard of is not wanted any more; one that was sent goes on. */
extern void payment_intent_withdraw(const pg_uuid_t *id);

/* payment_ends.c: a payment that waits for the customer is not wanted any more; done where the provider can. */
extern void payment_intent_call_off(const pg_uuid_t *id);

/* ---- payment_terms.c: arguments that payments and setup intents have in common ---- */

/* What the caller pays with: at most one of the two is set. */
typedef struct PaymentMethodChoice
{
	pg_uuid_t *method_id; /* attached */
	const char *token;    /* the provider's, to be used once */
	char *provider;       /* of the attached method */
	char *account;
	char *type;
} PaymentMethodChoice;

/*
 * text is the id of an attached method, the provider's id of one, or a token;
 * NULL chooses nothing.  JB005 an id that is none of the customer's, JB008 a
 * method that is refused or detached.
 */
extern PaymentMethodChoice payment_method_choose(const Customer *customer, const char *text);

/* The customer's default method at this account; false when he has none. */
extern bool payment_method_default(const Customer *customer, const Account *account,
								   PaymentMethodChoice *choice);

/* 22023 when the method that is chosen belongs to another account. */
extern void payment_method_check_account(const PaymentMethodChoice *choice, const Account *account);

/*
 * The account of a new payment: the method's, where one is attached, else as
 * the rules of routing say.
 */
extern Account *payment_account(const RouteTerms *call, const PaymentMethodChoice *choice);

/*
 * What somebody said that is nobody else's business, as it is sealed:
 * {return_url, mandate}; NULL when there is neither.  22023 for a mandate that
 * is not {type, ip_address, user_agent, accepted_at}, or a URL that is none.
 */
extern char *private_terms(const char *return_url, const Jsonb *mandate);

/* The mandate in the members of operation.h, its time in unix seconds; 22023 for any other. NULL is fine. */
extern Jsonb *checked_mandate(const Jsonb *mandate);

/* 22023 unless it can be the name of a method. NULL is fine. */
extern void check_method(const char *method);

/* The currency of the call, else of the customer, else of the settings. */
extern char *payment_currency(const Customer *customer, const char *currency);

/* 23502 with the name of the argument that the provider requires and that is missing. */
extern void payment_require_arguments(const Account *account, Operation operation,
									  const Jsonb *arguments);

/* The lines of a payment, in the form in which they are kept in the request. */
typedef struct PaymentLines
{
	Jsonb *line_items;     /* NULL: none */
	Jsonb *tax_lines;      /* NULL: none */
	pg_uuid_t *blocked_by; /* the request that makes a price of theirs; NULL: none */
} PaymentLines;

/*
 * Checks lines and their sum (22023), and sees to it that the prices they name
 * exist at the account.
 */
extern PaymentLines payment_lines(const Account *account, const Jsonb *line_items,
								  const Jsonb *tax_lines, int64 amount, const char *currency);

/*
 * Adds line_items and tax_lines of a request in the provider's units; false
 * when a price of theirs does not exist there yet.
 */
extern bool payment_lines_to_wire(JsonBuilder *b, const OutboxRow *row, const char *currency);

/* 22023 unless the provider's banks split this amount into so many months. 0: none asked for. */
extern void check_installments(const Account *account, int installments, int64 amount,
							   const char *currency, const char *method, bool off_session);

/* ---- payment_sync.c ---- */

/*
 * The provider's id of an attached method for a request.  False when it was
 * refused or detached meanwhile: nothing is charged to what is not there.
 */
extern bool payment_method_at_provider(const OutboxRow *row, const pg_uuid_t *method,
									   char **provider_id);

/* ---- payment_details.c ---- */

/* An attempt that there was, sooner or later; false: it was known. */
extern bool payment_add_charge(const PaymentIntent *payment, const char *charge, const News *news);

/*
 * The latest attempt, as the payment itself tells it; refunds and disputes are
 * told by it.  newest: of its news of one second these are the last.
 */
extern void payment_note_charge(const PaymentIntent *payment, const char *charge, bool newest,
								const News *news);

/*
 * Receipt, instalments and method of told->charge, tried at told->charged_at;
 * false when those of a later one are known, or it is nothing new.
 */
extern bool payment_take_details(const PaymentIntent *payment, const PaymentIntentSnapshot *told);

/*
 * JB004: what a provider sells as the seller it alone collects, and it collects
 * nothing else: it adds tax.
 */
extern void payment_refuse_other_seller(const pg_uuid_t *invoice_id, const char *provider);

/* The tax that a provider which is the seller has added to one that is paid, and its number of the sale: before the state. */
extern void payment_take_sale(const PaymentIntent *payment, const PaymentIntentSnapshot *told,
							  const News *news);

/* What the provider keeps of a payment, a refund or a dispute, where it is told: after its state. */
extern void fee_take(BillingObject type, const pg_uuid_t *id, const FeeSnapshot *told,
					 const News *news);

/* What is told of a payment beside its state: of its charges, of its invoice, and its fee. */
extern Applied payment_details_apply(const ProviderSnapshot *snapshot, const News *news,
									 const char **waiting_for);

/* ---- refunds.c ---- */

/*
 * What the provider says was given back of a payment in all, minor units, and
 * when; false for one that is not newer than what is known: it changes nothing.
 */
extern bool refunds_told(const pg_uuid_t *payment_intent_id, int64 amount, TimestampTz as_of);

/*
 * Computes what was given back of a payment and its status from the refunds;
 * to be called after any of them has changed.  Records the event.
 */
extern void refunds_settle(const pg_uuid_t *payment_intent_id);

/*
 * What could be given back of a payment, minor units; 0 while it is not paid.
 * Locks its row; the caller has locked the customer.
 */
extern int64 refund_left(const pg_uuid_t *payment_intent_id);

/* As create_refund(), for a credit note: the caller has locked the customer and inserted the note. */
extern pg_uuid_t *refund_for_credit_note(const pg_uuid_t *payment_intent_id, int64 amount,
										 const char *reason, const pg_uuid_t *credit_note_id);

/* Where it is made. */
extern Account *payment_intent_account(const PaymentIntent *payment);

/*
 * JB008 while nobody knows what became of an earlier request of that kind: a
 * second one might be done twice.  what: "captured", ...
 */
extern void payment_intent_refuse_while_unknown(const pg_uuid_t *id, Operation operation,
												const char *what);

#endif /* JANUA_PAYMENTS_H */

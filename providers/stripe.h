/*-------------------------------------------------------------------------
 *
 * stripe.h
 *	  What the files of the Stripe provider share.
 *
 *	  stripe.c					the Provider, keys, options, authorisation, signatures
 *	  stripe_supports.c			what Stripe does not offer, and what to do instead
 *	  stripe_requests.c			forms and requests; which steps an operation takes
 *	  stripe_responses.c		answers become outcomes
 *	  stripe_customers.c, stripe_payment_methods.c, stripe_catalog.c,
 *	  stripe_subscriptions.c, stripe_payments.c, stripe_refunds.c,
 *	  stripe_checkout.c, stripe_invoices.c, stripe_account.c, stripe_usage.c
 *								the steps of each subject's operations
 *	  stripe_objects.c			Stripe's objects become snapshots
 *	  stripe_payment_objects.c	those that have to do with a payment
 *	  stripe_events.c			events become snapshots
 *
 * No other file of the extension includes this header.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_STRIPE_H
#define JANUA_STRIPE_H

#include "common.h"

/* Requests are written, and answers read, as this version has them. */
#define STRIPE_VERSION "2026-10-28.endive"

/* The metadata members that carry our ids; a user's member of that name is dropped. */
#define STRIPE_REFERENCE    "janua_ref"
#define STRIPE_ORGANIZATION "organization_id"

/* ------------------------------------------------------------------------
 * Steps
 * ------------------------------------------------------------------------
 */

/* By what a look-up knows whether the step was carried out. */
typedef enum StripeProof
{
	PROOF_REPEAT, /* it only reads: the look-up is the same request again */
	PROOF_OBJECT, /* the object shows what was wanted */
	PROOF_LIST,   /* the list has one with our reference */
	PROOF_SEARCH  /* so has a search, but that lags behind */
} StripeProof;

/* One request of an operation: how it is written and what its answer means. */
typedef struct StripeStep
{
	BillingObject type;   /* of the object in the answer */
	const char *argument; /* the argument with the id of that object; NULL: the answer brings it */
	StripeProof proof;

	/*
	 * What was to end may have ended before, and then Stripe refuses it; the
	 * next step looks.  Only for operations of one step.
	 */
	bool confirms;
	bool removes;         /* 404 is the wanted end */
	bool may_be_unknown;  /* 404 to the look-up: it was not carried out */
	const char *known;    /* the code of the refusal that says it was carried out before */
	bool makes_reference; /* the answer is about our object even if it does not say so */

	void (*build)(const ProviderCall *call, ProviderRequest *request);

	/* The answer of a success, body NULL for 404 to what removes; NULL: stripe_take_object. */
	void (*take)(const ProviderCall *call, const Jsonb *body, CallResult *result);

	/* The look-up; NULL for PROOF_REPEAT. */
	void (*build_lookup)(const ProviderCall *call, ProviderRequest *request);

	/* PROOF_OBJECT: was it carried out?  NULL: never known, and harmless twice. */
	bool (*shows)(const ProviderCall *call, const Jsonb *object);

	/* The answer of a look-up in words of its own; NULL: as the proof says. */
	void (*found)(const ProviderCall *call, const Jsonb *body, CallResult *result);
} StripeStep;

typedef struct StripeOperation
{
	Operation operation;
	const StripeStep *step;                              /* of what takes one request */
	const StripeStep *(*pick)(const ProviderCall *call); /* of what takes several */
} StripeOperation;

typedef struct StripeOperations
{
	const StripeOperation *operations;
	size_t count;
} StripeOperations;

extern const StripeOperations stripe_customer_operations;
extern const StripeOperations stripe_payment_method_operations;
extern const StripeOperations stripe_catalog_operations;
extern const StripeOperations stripe_subscription_operations;
extern const StripeOperations stripe_payment_operations;
extern const StripeOperations stripe_refund_operations;
extern const StripeOperations stripe_checkout_operations;
extern const StripeOperations stripe_invoice_operations;
extern const StripeOperations stripe_account_operations;
extern const StripeOperations stripe_usage_operations;

/* stripe_requests.c */

/* The step that the call is at; *confirming: it only looks whether the one before was needed. */
extern const StripeStep *stripe_step(const ProviderCall *call, bool *confirming);

/* Of an answer: the key may charge, and not read what Stripe keeps. */
#define STRIPE_FEE_FORBIDDEN "fee_not_readable"

/*
 * Does the call ask for what Stripe kept?  Not where the account's option
 * read_fees is false, nor after an answer that its key may not read that.
 */
extern bool stripe_asks_for_fee(const ProviderCall *call);

extern void stripe_build_request(const ProviderCall *call, ProviderRequest *request);
extern void stripe_build_lookup(const ProviderCall *call, ProviderRequest *request);

/* Look-ups that several subjects write alike. */
extern void stripe_search(const ProviderCall *call, const char *collection,
						  ProviderRequest *request);
/* The newest hundred of a parent's; expand: NULL, or what to expand in each. */
extern void stripe_list_children(const ProviderCall *call, const char *collection,
								 const char *parent, const char *expand, ProviderRequest *request);

/* stripe_supports.c */
extern Support stripe_supports(Operation operation, const Jsonb *arguments,
							   const ProviderAccount *account, const char **alternative);
extern const char *stripe_missing(Operation operation, const Jsonb *arguments,
								  const ProviderAccount *account);

/* ------------------------------------------------------------------------
 * Answers: stripe_responses.c
 * ------------------------------------------------------------------------
 */
extern void stripe_read_response(const ProviderCall *call, const HttpResponse *response,
								 CallResult *result);
extern void stripe_read_lookup(const ProviderCall *call, const HttpResponse *response,
							   CallResult *result);

/* DONE with the snapshots of the object that the call is about, UNKNOWN when it is another. */
extern void stripe_take_object(const ProviderCall *call, const Jsonb *object, CallResult *result);

/* DONE with a snapshot of each object of a list, and on to the next page. */
extern void stripe_take_page(const ProviderCall *call, const Jsonb *list, CallResult *result);

/* A page's request says where it begins; nothing on the first. */
extern const char *stripe_page_start(const ProviderCall *call);

extern void stripe_set_unreadable(CallResult *result);

/* DONE, and on to the next step with carry (NULL: none). */
extern void stripe_continue(const ProviderCall *call, const Jsonb *carry, CallResult *result);

/* carry {name: value}. */
extern const Jsonb *stripe_carry(const char *name, const char *value);

/* Is the argument not given, or equal to what the object has?  Null is equal to none. */
extern bool stripe_shows_argument(const ProviderCall *call, const char *argument,
								  const char *actual);

/* ------------------------------------------------------------------------
 * Objects: stripe_objects.c, stripe_payment_objects.c, stripe_events.c
 * ------------------------------------------------------------------------
 */

/*
 * The snapshot of a Stripe object; NULL when it is of a kind that we do not
 * keep or has no id.  livemode is for objects that do not say it themselves
 * (deleted ones, refunds).
 */
extern ProviderSnapshot *stripe_snapshot(const Jsonb *object, bool livemode);

/* What is known of an object that Stripe does not know any more. */
extern ProviderSnapshot *stripe_gone_snapshot(BillingObject type, const char *id, bool livemode);
extern void stripe_mark_gone(ProviderSnapshot *snapshot);

/* The id at path, where Stripe gives either the id or the whole object. */
extern char *stripe_id_at(const Jsonb *object, const char *path);
/* "" where the member is there and null. */
extern char *stripe_id_or_none_at(const Jsonb *object, const char *path);

/* The id of the subscription that an invoice is for, NULL for none. */
extern char *stripe_invoice_subscription(const Jsonb *invoice);

/* A subscription whose collection is paused: to us it is paused. */
extern bool stripe_collection_paused(const char *status, const Jsonb *pause_collection);

/*
 * What objects tell of others beside their state; NULL when they name none:
 * a charge and an invoice's payment of a payment intent, a mandate of a method.
 */
extern ProviderSnapshot *stripe_charge_snapshot(const Jsonb *charge, bool livemode);
extern ProviderSnapshot *stripe_invoice_payment_snapshot(const Jsonb *object, bool livemode);
extern ProviderSnapshot *stripe_mandate_snapshot(const Jsonb *mandate, bool livemode);

extern void stripe_read_setup_intent(const Jsonb *object, ProviderSnapshot *snapshot);
extern void stripe_read_payment_intent(const Jsonb *object, ProviderSnapshot *snapshot);
extern void stripe_read_refund(const Jsonb *object, ProviderSnapshot *snapshot);
extern void stripe_read_dispute(const Jsonb *object, ProviderSnapshot *snapshot);
extern void stripe_read_checkout_session(const Jsonb *object, ProviderSnapshot *snapshot);
extern void stripe_read_payment_link(const Jsonb *object, ProviderSnapshot *snapshot);
extern void stripe_read_portal_session(const Jsonb *object, ProviderSnapshot *snapshot);
extern void stripe_read_meter(const Jsonb *object, ProviderSnapshot *snapshot); /* stripe_usage.c */

/* What a thin event says of a meter's errors; NULL when it is about something else. */
extern ProviderSnapshot *stripe_meter_errors(const Jsonb *event, bool livemode);

/* The type of the next event that moves our rows; NULL at the end, *next from 0. */
extern const char *stripe_next_event_type(size_t *next);

extern bool stripe_identify_event(const Jsonb *payload, const WebhookHeaders *headers,
								  EventIdentity *identity);
extern void stripe_read_event(const Jsonb *payload, EventReading *reading);

#endif /* JANUA_STRIPE_H */

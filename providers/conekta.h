/*-------------------------------------------------------------------------
 *
 * conekta.h
 *	  What the files of the Conekta provider share.
 *
 *	  conekta.c				the Provider, keys, authorisation, signatures
 *	  conekta_support.c		what Conekta can do, and what to do instead
 *	  conekta_requests.c	operations become requests
 *	  conekta_orders.c		the bodies of orders, charges and checkouts
 *	  conekta_endpoints.c	webhook endpoints and the keys that sign
 *	  conekta_responses.c	answers become outcomes
 *	  conekta_lookups.c		whether a request was carried out whose answer was lost
 *	  conekta_objects.c		Conekta's objects become snapshots
 *	  conekta_events.c		and so do its webhooks
 *
 * No other file of the extension includes this header.
 *
 * Conekta keeps no idempotency keys.  What is created carries our reference
 * where there is room for it, so that a look-up finds it; for what has no room
 * (payment sources, subscriptions, refunds) the one that is not in known[] is
 * ours.
 *
 * Ids.  A payment intent is an order.  A checkout session is a checkout (the
 * hosted page of an order, or a payment link), because that is what can be
 * fetched and cancelled; its order carries the reference of the payment intent
 * as janua_ref and that of the session as janua_session, so that an order's
 * event finds both.  A price is a plan whose id is made from our reference.
 *
 * Steps.  Most operations are one request, step 0.  These are more:
 *
 *	  customer.set_tax_ids		0 reads the customer, 1 changes or adds the fiscal entity
 *	  payment_method.attach		1 makes it the default
 *	  payment_method.list, webhook_endpoint.list	each further step is a page
 *	  subscription.create		1 cancels what could not be paid (all_or_nothing)
 *	  subscription.retry_payment 0 changes the card where one is named, 1 retries
 *	  payment_intent.confirm	0 makes the charge, 1 reads the order
 *	  payment_intent.capture	0 reads the amount where none is named, 1 captures
 *	  checkout_session.fetch	0 reads the checkout, 1 the orders that it made
 *	  webhook_endpoint.create	0 makes it, 1 reads the keys, 2 makes one if none is active
 *	  webhook_endpoint.rotate	0 reads it, 1 reads the keys, 2 makes one, 3... retire the old
 *
 * and any of them may end in one of the two steps that look, below.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_CONEKTA_H
#define JANUA_CONEKTA_H

#include "common.h"

#include "json.h"

/* The metadata members that carry our ids; a user's member of that name is dropped. */
#define CONEKTA_REFERENCE    "janua_ref"
#define CONEKTA_SESSION      "janua_session"
#define CONEKTA_ORGANIZATION "organization_id"

/* A plan's id is ours: this and the reference of the price. */
#define CONEKTA_PLAN_PREFIX "janua-"

/* It was refused: is it perhaps so already? */
#define CONEKTA_STEP_LOOK_REFUSED 100
/* The payment was declined: what is left of it? */
#define CONEKTA_STEP_LOOK_DECLINED 101

/* conekta_support.c */
extern Support conekta_supports(Operation operation, const Jsonb *arguments,
								const ProviderAccount *account, const char **alternative);
extern const char *conekta_missing(Operation operation, const Jsonb *arguments,
								   const ProviderAccount *account);

/* conekta_requests.c */
extern void conekta_build_request(const ProviderCall *call, ProviderRequest *request);
extern void conekta_build_lookup(const ProviderCall *call, ProviderRequest *request);

/* A request without and with a body; a page of a list, from the cursor in carry {next} on. */
extern void conekta_start(const ProviderCall *call, const char *method, const char *path,
						  ProviderRequest *request);
extern void conekta_get(const ProviderCall *call, const char *path, ProviderRequest *request);
extern void conekta_get_page(const ProviderCall *call, const char *path, ProviderRequest *request);
extern void conekta_send_json(const ProviderCall *call, const char *method, const char *path,
							  const Jsonb *body, ProviderRequest *request);

/* Does this step only read, so that it may be sent again at any time? */
extern bool conekta_step_reads(const ProviderCall *call);

/* A capture without an amount begins with reading it: Conekta wants it said. */
extern bool conekta_step_reads_amount(const ProviderCall *call);

/* A payment that is retried with another card begins with giving that card to the subscription. */
extern bool conekta_step_changes_card(const ProviderCall *call);

/* "es" or "en": of the call, else of the account. */
extern const char *conekta_language(const ProviderCall *call);

/* conekta_orders.c */
extern Jsonb *conekta_order_body(const ProviderCall *call);
extern Jsonb *conekta_charge_body(const ProviderCall *call);
extern Jsonb *conekta_checkout_body(const ProviderCall *call);
extern Jsonb *conekta_payment_link_body(const ProviderCall *call);

/* The name of a payment link, and whether a checkout is the link that the call makes. */
extern const char *conekta_link_name(const ProviderCall *call);
extern bool conekta_is_link(const ProviderCall *call, const Jsonb *checkout);

/* "card", "cash" or "spei" for a method of ours; NULL for one that Conekta does not have. */
extern const char *conekta_method(const char *method);

/* The user's metadata and our ids, as the member "metadata". */
extern void conekta_add_metadata(const ProviderCall *call, JsonBuilder *body, const char *reference,
								 const char *session);

/* conekta_endpoints.c */
extern void conekta_build_endpoint(const ProviderCall *call, ProviderRequest *request);
extern void conekta_build_endpoint_lookup(const ProviderCall *call, ProviderRequest *request);
extern void conekta_take_endpoint(const ProviderCall *call, const Jsonb *body, CallResult *result);

/* The active webhook keys that are not in carry {old}; false when there is none. */
extern bool conekta_take_webhook_keys(const ProviderCall *call, const Jsonb *list,
									  CallResult *result);

/* conekta_responses.c */
extern void conekta_read_response(const ProviderCall *call, const HttpResponse *response,
								  CallResult *result);

/* Empties the result and returns the body; NULL without an answer or without JSON in it. */
extern Jsonb *conekta_open_answer(const HttpResponse *response, CallResult *result);
extern void conekta_read_error(const ProviderCall *call, const HttpResponse *response,
							   const Jsonb *body, CallResult *result);

/* Success without what it should bring: nobody knows what was done. */
extern void conekta_unreadable(CallResult *result);

/* The kind of object that the answer to this call is, and its id where we know it. */
extern BillingObject conekta_expected_type(const ProviderCall *call);
extern char *conekta_expected_id(const ProviderCall *call);

/*
 * DONE (perhaps with a next step) when object is what the answer to the call
 * should be, and UNKNOWN otherwise.
 */
extern void conekta_take_answer(const ProviderCall *call, const Jsonb *object, CallResult *result);

/* conekta_lookups.c */
extern void conekta_read_lookup(const ProviderCall *call, const HttpResponse *response,
								CallResult *result);

/* What the two steps that look make of the answer. */
extern void conekta_read_look_refused(const ProviderCall *call, const HttpResponse *response,
									  CallResult *result);
extern void conekta_read_look_declined(const ProviderCall *call, const HttpResponse *response,
									   CallResult *result);

/* Does the order's metadata name this checkout session of ours? */
extern bool conekta_order_of_session(const Jsonb *order, const char *reference);

/* Is text an element of the array at path? */
extern bool conekta_listed(const Jsonb *json, const char *path, const char *text);

/* Either may be missing, and then they are not the same. */
extern bool conekta_same(const char *a, const char *b);

/* conekta_objects.c */

/*
 * The snapshots of a Conekta object: its own first, then those of what an
 * order contains (refunds, disputes, the checkout).  NIL when it is of a kind
 * that we do not keep or has no id.
 */
extern List *conekta_snapshots(const Jsonb *object, bool livemode);

/* Of a webhook endpoint: its "object" does not say what it is. */
extern ProviderSnapshot *conekta_endpoint_snapshot(const Jsonb *object, bool livemode);

/* The snapshots of a charge's refunds and of its chargeback. */
extern List *conekta_charge_snapshots(const Jsonb *charge, const char *order, bool livemode,
									  List *snapshots);
extern ProviderSnapshot *conekta_chargeback_snapshot(const Jsonb *chargeback, bool livemode);

/* Fills in what follows from a chargeback's status, Conekta's word; NULL: it does not say. */
extern void conekta_set_chargeback_state(ProviderSnapshot *snapshot, const char *status);

/* Our word for the status of a payment or a charge; NULL for one that is not known. */
extern const char *conekta_payment_status(const char *status);

/* What is known of an object that is not there any more. */
extern ProviderSnapshot *conekta_gone_snapshot(BillingObject type, const char *id, bool livemode);

/* Our word for a subscription's status; NULL for one that is not known. */
extern const char *conekta_subscription_status(const char *status);

/* conekta_events.c */
extern bool conekta_identify_event(const Jsonb *payload, const WebhookHeaders *headers,
								   EventIdentity *identity);
extern void conekta_read_event(const Jsonb *payload, EventReading *reading);

/* The types of event that move our rows, as an array in the member name. */
extern void conekta_add_event_types(JsonBuilder *body, const char *name);

#endif /* JANUA_CONEKTA_H */

/*-------------------------------------------------------------------------
 *
 * polar.h
 *	  What the files of the Polar provider share.
 *
 *	  polar.c				the Provider, keys, authorisation, signatures
 *	  polar_support.c		what Polar does not offer, and what to do instead
 *	  polar_requests.c		operations become requests: steps, reading, look-ups
 *	  polar_changes.c		... those that make or change something
 *	  polar_usage.c			... and meters and what they are told
 *	  polar_responses.c		answers become outcomes
 *	  polar_lookups.c		... those of look-ups
 *	  polar_objects.c		Polar's objects become snapshots
 *	  polar_events.c		and so do its webhooks
 *
 * No other file of the extension includes this header.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_POLAR_H
#define JANUA_POLAR_H

#include "json.h"
#include "common.h"

/* Requests are written, and answers read, as this version has them. */
#define POLAR_VERSION "2026-10"

/*
 * The metadata members that carry our ids.  Polar copies the metadata of a
 * checkout to the order and the subscription that come out of it (and that of
 * a link to the checkouts), so each kind of object has a member of its own: an
 * order is not taken for the session it came from.  A customer's reference is
 * its external_id.
 */
#define POLAR_OWN_PREFIX   "janua_"    /* a user's member that begins so is dropped */
#define POLAR_REFERENCE    "janua_ref" /* products, refunds: copied nowhere */
#define POLAR_SESSION      "janua_session"
#define POLAR_LINK         "janua_link"
#define POLAR_PAYMENT      "janua_payment"
#define POLAR_SUBSCRIPTION "janua_subscription"
#define POLAR_ORGANIZATION "organization_id"

/* Lists are read in pages of the largest size, and not for ever. */
#define POLAR_PAGE_SIZE  100
#define POLAR_PAGE_LIMIT 50

/*
 * What the request of a step is.  The builder, the reader and the look-up of
 * an operation have to agree on it.
 */
typedef enum PolarStep
{
	POLAR_CREATE,   /* POST: makes the object that the operation is about */
	POLAR_CHANGE,   /* POST, PATCH or DELETE of an object, which is answered */
	POLAR_REMOVE,   /* DELETE: nothing is answered */
	POLAR_FINALIZE, /* POST: charges a draft order */
	POLAR_TRIGGER,  /* POST: begins to make the invoice's document */
	POLAR_INGEST,  /* POST: events, each of which counts once by its id, however often it is sent */
	POLAR_READ,    /* GET: what it answers is the result */
	POLAR_LIST,    /* GET: a page of a list; the next step is the next page */
	POLAR_PREPARE, /* GET: what the next step has to know */
	POLAR_CONFIRM, /* GET, after a refusal: had it been done before? */
	POLAR_DECLINE  /* GET, after a decline: why? */
} PolarStep;

/* Steps that are no page and no next request; above POLAR_PAGE_LIMIT. */
#define POLAR_CONFIRM_STEP 100
#define POLAR_DECLINE_STEP 101

/* Of an invoice's document: asks for its URL; the step after it reads the order. */
#define POLAR_DOCUMENT_STEP 2

extern PolarStep polar_step(const ProviderCall *call);

/* Of a confirmation: the step whose refusal it looks into. */
extern int polar_refused_step(const ProviderCall *call);

/*
 * A change of a subscription is one request for product, discount and trial
 * and another for the seats: each request takes one kind of change only.
 */
extern bool polar_changes_base(const ProviderCall *call);
extern bool polar_changes_seats(const ProviderCall *call);
extern bool polar_step_changes_seats(const ProviderCall *call);

/* "create_prorations" and so on in Polar's words; NULL: it has no such thing. */
extern const char *polar_proration(const Jsonb *arguments);

/* Under what an amount without a product of its own is sold: the account's option, NULL without it. */
extern char *polar_charge_product(const ProviderAccount *account);

/* polar_support.c */
extern Support polar_supports(Operation operation, const Jsonb *arguments,
							  const ProviderAccount *account, const char **alternative);
extern const char *polar_missing(Operation operation, const Jsonb *arguments,
								 const ProviderAccount *account);

/* polar_requests.c */
extern void polar_build_request(const ProviderCall *call, ProviderRequest *request);
extern void polar_build_lookup(const ProviderCall *call, ProviderRequest *request);

/* Is there such an argument, null or not? */
extern bool polar_given(const ProviderCall *call, const char *argument);

/* A request without a body. */
extern void polar_start(ProviderRequest *request, const char *method, const char *path);

/* A request with what has been put into body, which it closes. */
extern void polar_send_json(ProviderRequest *request, const char *method, const char *path,
							JsonBuilder *body);

/* polar_path(call, "customers", "customer") is "/v1/customers/<uuid>". */
extern char *polar_path(const ProviderCall *call, const char *collection, const char *argument);
extern char *polar_order_path(const ProviderCall *call);

/* The path of the object that the operation is about. */
extern char *polar_object_path(const ProviderCall *call);

/* "organization_id" of what is made or listed; NULL where the token says it. */
extern char *polar_organization(const ProviderCall *call);

/* The id of the order that a payment's step is about: of the arguments, else out of the step before. */
extern char *polar_order_id(const ProviderCall *call);

/* polar_changes.c */
extern void polar_build_create(const ProviderCall *call, ProviderRequest *request);
extern void polar_build_change(const ProviderCall *call, ProviderRequest *request);
extern void polar_build_finalize(const ProviderCall *call, ProviderRequest *request);

/* What the (first) line sells: Polar's id of its product, which is that of our price. */
extern char *polar_line_product(const ProviderCall *call);

/* A JsonVisitor: a user's member of metadata, as Polar takes it, into the JsonBuilder. */
extern void polar_add_metadata(const char *key, const JsonbValue *value, void *context);

/* polar_usage.c */
extern void polar_build_meter(const ProviderCall *call, ProviderRequest *request);
extern void polar_build_ingest(const ProviderCall *call, ProviderRequest *request);
extern void polar_take_ingested(const Jsonb *body, CallResult *result);
extern void polar_read_meter(const Jsonb *object, ProviderSnapshot *snapshot);

/* polar_responses.c */
extern void polar_read_response(const ProviderCall *call, const HttpResponse *response,
								CallResult *result);
/* What answers and look-ups have in common. */

/*
 * Empties the result, takes what every answer has, and returns the body; NULL
 * when the call got no answer or an answer without JSON.
 */
extern Jsonb *polar_open_answer(const HttpResponse *response, CallResult *result);

/* Nothing can have been changed by a request of this kind, or it changes nothing twice. */
extern bool polar_is_harmless(PolarStep step);

/* An answer that cannot be understood. */
extern void polar_unreadable(CallResult *result);

/* An answer that says no; body: NULL when it is not JSON, as from a proxy on the way. */
extern void polar_read_error(const HttpResponse *response, const Jsonb *body, bool harmless,
							 CallResult *result);

/* DONE when object is what the call is about, and UNKNOWN otherwise. */
extern void polar_take_object(const ProviderCall *call, const Jsonb *object, CallResult *result);

/* DONE: what the call was to remove is not there. */
extern void polar_take_removed(const ProviderCall *call, const HttpResponse *response,
							   CallResult *result);

/* polar_lookups.c */
extern void polar_read_lookup(const ProviderCall *call, const HttpResponse *response,
							  CallResult *result);

/* polar_objects.c */

/*
 * The snapshots of one object: an order is a payment and, when a subscription
 * asked for it, an invoice; a refund may bring a dispute.  In the order in
 * which to apply them; NIL when the object has no id.
 */
extern List *polar_snapshots(BillingObject type, const Jsonb *object);

/* What is known of an object that Polar does not know any more, by then at the latest. */
extern ProviderSnapshot *polar_gone_snapshot(BillingObject type, const char *id, TimestampTz as_of);

/* It is no more. */
extern void polar_mark_deleted(ProviderSnapshot *snapshot);

/* polar_events.c */

/* The types of events that are read, for a webhook endpoint. */
extern const char *const *polar_event_types(int *count);

extern bool polar_identify_event(const Jsonb *payload, const WebhookHeaders *headers,
								 EventIdentity *identity);
extern void polar_read_event(const Jsonb *payload, EventReading *reading);

#endif /* JANUA_POLAR_H */

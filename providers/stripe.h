/*-------------------------------------------------------------------------
 *
 * stripe.h
 *	  What the files of the Stripe provider share.
 *
 *	  stripe.c				the Provider, keys, authorisation, signatures
 *	  stripe_requests.c		operations become requests
 *	  stripe_responses.c	answers become outcomes
 *	  stripe_objects.c		Stripe's objects and events become snapshots
 *
 * No other file of the extension includes this header.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_STRIPE_H
#define JANUA_STRIPE_H

#include "provider.h"

/* Requests are written, and answers read, as this version has them. */
#define STRIPE_VERSION "2026-10-28.endive"

/* The metadata members that carry our ids; a user's member of that name is dropped. */
#define STRIPE_REFERENCE    "janua_ref"
#define STRIPE_ORGANIZATION "organization_id"

/* stripe_requests.c */
extern void stripe_build_request(const ProviderCall *call, ProviderRequest *request);
extern void stripe_build_lookup(const ProviderCall *call, ProviderRequest *request);

/*
 * Operations that are several requests say here which one a step is; the
 * reader of the answer has to know what the builder had asked.
 */

/* A plan change without the item's id begins with reading it: a price without it would be a second item. */
extern bool stripe_step_reads_item(const ProviderCall *call);

/* The end of something was refused; this step looks whether it had ended before. */
extern bool stripe_step_confirms_end(const ProviderCall *call);

/* stripe_responses.c */
extern void stripe_read_response(const ProviderCall *call, const HttpResponse *response,
								 CallResult *result);
extern void stripe_read_lookup(const ProviderCall *call, const HttpResponse *response,
							   CallResult *result);

/* stripe_objects.c */

/*
 * The snapshot of a Stripe object; NULL when it is of a kind that we do not
 * keep or has no id.  livemode is for objects that do not say it themselves
 * (deleted ones).
 */
extern ProviderSnapshot *stripe_snapshot(const Jsonb *object, bool livemode);

/* What is known of an object that Stripe does not know any more. */
extern ProviderSnapshot *stripe_gone_snapshot(BillingObject type, const char *id, bool livemode);

/* The id at path, where Stripe gives either the id or the whole object. */
extern char *stripe_id_at(const Jsonb *object, const char *path);

extern bool stripe_identify_event(const Jsonb *payload, const WebhookHeaders *headers,
								  EventIdentity *identity);
extern void stripe_read_event(const Jsonb *payload, EventReading *reading);

#endif /* JANUA_STRIPE_H */

/*-------------------------------------------------------------------------
 *
 * webhooks.h
 *	  The door for what providers say.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_WEBHOOKS_H
#define JANUA_WEBHOOKS_H

#include "db.h"
#include "provider.h"
#include "refs.h"

typedef struct WebhookResult
{
	const char *event_id;
	const char *type;
	const char *status; /* applied, ignored, waiting, failed, duplicate */
} WebhookResult;

/* handle_webhook() inside the caller's connection to SPI. */
extern WebhookResult webhook_handle(const char *provider, const char *payload, size_t length,
									const Jsonb *headers, const char *account);

/*
 * unsigned_webhooks.c: an event that came without a signature that could be
 * checked.  False: no account takes such, or it is no event at all.
 */
extern bool webhook_take_unsigned(const char *provider, const char *payload, size_t length,
								  const WebhookHeaders *headers, const char *account,
								  WebhookResult *result);

/*
 * doubts.c: asks the provider for what an event leaves open, after its
 * snapshots are applied, and notes in *asked that it did (or will be, by a
 * request that waits).  Returns the provider's id of an object that is not
 * known here, NULL when there is none.
 */
extern const char *doubts_settle(const EventReading *reading, const News *news, bool *asked);

/* Our object that a snapshot is about, by the provider's ids alone; NULL: unknown. */
extern pg_uuid_t *doubt_object(const ProviderSnapshot *glimpse, const News *news);

/* Applies again what failed or waited and is due. Returns how many. */
extern int webhooks_retry(void);

#endif /* JANUA_WEBHOOKS_H */

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

typedef struct WebhookResult
{
	const char *event_id;
	const char *type;
	const char *status; /* applied, ignored, waiting, failed, duplicate */
} WebhookResult;

/* handle_webhook() inside the caller's connection to SPI. */
extern WebhookResult webhook_handle(const char *provider, const char *payload, size_t length,
									const Jsonb *headers, const char *account);

/* Applies again what failed or waited and is due. Returns how many. */
extern int webhooks_retry(void);

#endif /* JANUA_WEBHOOKS_H */

/*-------------------------------------------------------------------------
 *
 * webhook_headers.h
 *	  The headers of a webhook, as the application passes them on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_WEBHOOK_HEADERS_H
#define JANUA_WEBHOOK_HEADERS_H

#include "provider.h"

/*
 * Headers as {"name": "value"} or {"name": ["value", ...]}, names in any case;
 * "headers" must live on.  22023 for anything but an object.
 */
extern WebhookHeaders webhook_headers_of(const Jsonb *headers);

/*
 * Of the headers of a stored webhook only the one that names the event is
 * known: every name has the event's id as its value.
 */
extern WebhookHeaders webhook_headers_kept(const char *event_id);

#endif /* JANUA_WEBHOOK_HEADERS_H */

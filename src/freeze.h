/*-------------------------------------------------------------------------
 *
 * freeze.h
 *	  Requests and answers as text, to be sealed into the outbox.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_FREEZE_H
#define JANUA_FREEZE_H

#include "db.h"
#include "provider.h"

extern bytea *freeze_request(const pg_uuid_t *id, const ProviderRequest *request);
extern void thaw_request(const pg_uuid_t *id, const bytea *frozen, ProviderRequest *request);

extern bytea *freeze_answer(const pg_uuid_t *id, const HttpResponse *response);
extern void thaw_answer(const pg_uuid_t *id, const bytea *frozen, HttpResponse *response);

#endif /* JANUA_FREEZE_H */

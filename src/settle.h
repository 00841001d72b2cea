/*-------------------------------------------------------------------------
 *
 * settle.h
 *	  Applies answers and finishes requests.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_SETTLE_H
#define JANUA_SETTLE_H

#include "operations.h"
#include "outbox.h"
#include "pace.h"

/* A request between its claim and its end, in memory. */
typedef struct Delivery
{
	MemoryContext memory; /* its own, everything below lives in it */
	OutboxRow row;
	const Provider *module;
	ProviderAccount *account;
	AccountPace *pace; /* NULL: its answer lay in the row already */
	ProviderCall call;
	ProviderRequest request;
	bytea *frozen; /* NULL for a look-up */
	char wire_key[80];
	bool lookup;   /* asks whether the request went through */
	bool stored;   /* its answer lay in the row already */
	HttpDone done; /* owner NULL: not from the network */
	HttpResponse response;
	CallResult result;
} Delivery;

/*
 * Applies the answers of a batch (List of Delivery *) inside the caller's
 * unit.  An answer whose key is locked by somebody is stored in its row; the
 * result is true when there are such.
 */
extern bool settle_batch(List *batch, const pg_uuid_t *lease_token);

/* Takes the lock of a request's key if it is free. */
extern bool settle_lock_key(KeyKind kind, pg_uuid_t *key);

#endif /* JANUA_SETTLE_H */

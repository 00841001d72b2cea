/*-------------------------------------------------------------------------
 *
 * operations.h
 *	  What each operation means to its subject, in one table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_OPERATIONS_H
#define JANUA_OPERATIONS_H

#include "outbox.h"
#include "refs.h"

/* What a request is kept in order with. */
typedef enum KeyKind
{
	KEY_CUSTOMER,
	KEY_PLAN,
	KEY_ACCOUNT, /* the account at the provider, by its id */
	KEY_KIND_COUNT
} KeyKind;

typedef struct OperationTraits
{
	BillingObject object_type;
	KeyKind key;
	bool holds;  /* creates: while it is dead its followers wait */
	bool urgent; /* passes waiting updates */
	bool many;   /* its answer tells of objects of this type, none of which it was about */
	bool
		asks; /* changes nothing there: asked again it is answered anew, and taken over as from a webhook */
	bool pays; /* money may be asked for: a decline is an answer, elsewhere it is a refusal */
	/* completes the arguments when the request is about to be sent */
	Description (*describe)(const OutboxRow *row);
	/* a definite refusal or decline; NULL when there is nothing to note */
	void (*refused)(const OutboxRow *row, const CallResult *result);
	/* done; NULL when the snapshots say it all */
	void (*done)(const OutboxRow *row, const CallResult *result);
	/* done or declined, and gone from the outbox; NULL when nobody waits for that */
	void (*gone)(const OutboxRow *row);
} OperationTraits;

extern const OperationTraits *operation_traits(Operation operation);

/* "customer", "plan", "account" as in outbox.key_type. */
extern const char *key_kind_name(KeyKind kind);
extern KeyKind key_kind_by_name(const char *name);

/* Locks the row that a request is kept in order with, FOR NO KEY UPDATE; in outbox.c. */
extern void outbox_lock_key(KeyKind kind, const pg_uuid_t *key);

/* How a snapshot went down. */
typedef enum Applied
{
	SNAPSHOT_APPLIED,
	SNAPSHOT_STALE,  /* what we have is newer */
	SNAPSHOT_UNKNOWN /* it is about an object that we do not know (yet) */
} Applied;

/*
 * The one writer path: what providers answer and what they send as webhooks
 * both come here.  waiting_for: the provider's id of the object that is not
 * known, for SNAPSHOT_UNKNOWN.
 */
extern Applied snapshot_apply(const ProviderSnapshot *snapshot, const News *news,
							  const char **waiting_for);

#endif /* JANUA_OPERATIONS_H */

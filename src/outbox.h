/*-------------------------------------------------------------------------
 *
 * outbox.h
 *	  Requests to providers, written in the caller's transaction.
 *
 * Subjects enqueue; the delivery claims and finishes.  What an operation
 * means to its subject (how its arguments are completed when it is sent, what
 * happens when it is refused) stands in one table, operations.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_OUTBOX_H
#define JANUA_OUTBOX_H

#include "accounts.h"
#include "db.h"
#include "provider.h"

/* A request as it lies in the outbox. */
typedef struct OutboxRow
{
	pg_uuid_t *id;
	int64 seq;
	Operation operation;
	char *provider;
	char *account;
	bool livemode;
	char *object_type;
	pg_uuid_t *object_id;
	char *key_type;
	pg_uuid_t *ordering_key;
	Jsonb *arguments;
	char *state;
	int step;
	Jsonb *carry;
	int attempts;
	int generation;
	TimestampTz first_sent_at;
	TimestampTz sent_at;
	bytea *request; /* sealed */
	bytea *answer;  /* sealed */
	char *error_code;
} OutboxRow;

typedef enum Readiness
{
	READY,    /* arguments are complete: send */
	OBSOLETE, /* nothing to send any more: cancel, with the reason */
	NOT_YET   /* something it needs is not there: try later */
} Readiness;

typedef struct Description
{
	Readiness readiness;
	Jsonb *arguments;
	const char *reason;
} Description;

/*
 * Enqueues and returns the request's id.  Locks the row of the ordering key
 * (customer, plan or account) FOR NO KEY UPDATE, draws the sequence, and queues the
 * request or lets it wait behind others of its key.  blocked_by: a request
 * under another key that has to be done first, NULL for none.  The worker is
 * woken when the transaction commits.  Raises JB004 when the provider cannot
 * do it.
 */
extern pg_uuid_t *outbox_enqueue(const Account *account, Operation operation,
								 const pg_uuid_t *object_id, const pg_uuid_t *ordering_key,
								 const Jsonb *arguments, const pg_uuid_t *blocked_by);

/* customer_lock() of customer_lock.c: false when there is none. */
extern bool outbox_lock_customer(const pg_uuid_t *customer_id);

/* The unfinished request of that operation about an object, NULL when there is none. */
extern pg_uuid_t *outbox_pending(const pg_uuid_t *object_id, Operation operation);

/*
 * Is a request of that operation about the object on its way?  What is dead is
 * not: it can be asked for again, and what the provider refused is given up.
 * The caller holds the key.
 */
extern bool outbox_under_way(const pg_uuid_t *object_id, Operation operation);

/* Has the object an unfinished request of any kind (dead ones count)? */
extern bool outbox_busy(const pg_uuid_t *object_id);

/*
 * Keeps a text that somebody wrote beside the request, sealed: arguments lie
 * in clear.  It is in the row's carry when the request is described.
 */
extern void outbox_keep_private(const pg_uuid_t *id, const char *name, const char *text);

/*
 * Adds members to the arguments of a request that is described for the first
 * time.  What a look-up compares with has to be what was known when the
 * request went out: news that came since would make it look undone.
 */
extern void outbox_remember(const OutboxRow *row, const Jsonb *members);

/* Is it about to be built, not to be sent again, looked up or read once more? */
extern bool outbox_is_fresh(const OutboxRow *row);

/*
 * Argument known[] of a request: the one jsonb value that the query returns
 * when the request is built for the first time, remembered from then on.
 */
extern Jsonb *outbox_known(const OutboxRow *row, SqlQuery *query, const Arg *args);

/*
 * Gives up the object's request of that operation when it is dead and the
 * provider has refused it, so that nothing was done.  The caller holds the key.
 */
extern bool outbox_give_up(const pg_uuid_t *object_id, Operation operation);

/*
 * Withdraws the making of an object, and all else about it, when the provider
 * cannot know it: nothing was sent, or it was refused.  False, and nothing is
 * withdrawn that was sent, when it may exist there.  The caller holds the key
 * and promotes it.
 */
extern bool outbox_withdraw_creation(const pg_uuid_t *object_id, Operation creation);

/*
 * Queues what is next under each key, unless something of the key is being
 * sent or holds it.  The rows of the keys must be locked by the caller's
 * transaction.
 */
extern void outbox_promote(ArrayType *ordering_keys);

/* Moves a request to outbox_finished. */
extern void outbox_finish(const pg_uuid_t *id, const char *state, const char *error_type,
						  const char *error_code, const char *provider_request_id);

#endif /* JANUA_OUTBOX_H */

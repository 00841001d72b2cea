/*-------------------------------------------------------------------------
 *
 * outbox.c
 *	  Requests to providers, written in the caller's transaction.
 *
 * Order.  Requests to one account under one key (a customer, a plan of the
 * catalogue, or the account itself for what concerns nobody in particular) go
 * out one after the other in the order of seq.  An enqueue locks the row of the
 * key before it draws seq, so that seq follows the order of commits.  Only the
 * first unfinished request of a key at an account is "queued"; the others wait
 * and finishing one promotes the next, so that claiming costs the same however
 * many wait.
 *
 * Whoever promotes holds the lock of the key, too: otherwise an enqueue that
 * still saw the predecessor would let its own request wait for ever.  The
 * delivery takes that lock only if it is free (see delivery.c): a long
 * transaction of the application must not stop the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "outbox.h"

#include "access/xact.h"
#include "errors.h"
#include "json.h"
#include "operations.h"
#include "subjects.h"

QUERY(lock_plan, "SELECT FROM billing.plans WHERE id = $1 FOR NO KEY UPDATE", UUIDOID);
QUERY(lock_account, "SELECT FROM billing.provider_accounts WHERE id = $1 FOR NO KEY UPDATE",
	  UUIDOID);

bool
outbox_lock_customer(const pg_uuid_t *customer_id)
{
	return customer_lock(customer_id);
}

/*
 * A request waits when an older one of its key is unfinished or a dead one
 * holds the key.  A cancellation passes what waits, but never the making of
 * something: it might be about just that.
 */
QUERY(
	insert_request,
	"INSERT INTO billing.outbox (id, seq, provider, account, livemode, operation, object_type, "
	"object_id, key_type, ordering_key, blocked_by, holds, arguments, urgent, state) "
	"SELECT $1, nextval('billing.outbox_seq'), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, "
	"$13 AND NOT EXISTS (SELECT FROM billing.outbox WHERE ordering_key = $9 AND provider = $2 AND account = $3 "
	"AND state IN ('waiting', 'dead') AND holds), "
	"CASE WHEN $10 IS NOT NULL "
	"OR EXISTS (SELECT FROM billing.outbox WHERE ordering_key = $9 AND provider = $2 AND account = $3 "
	"AND state <> 'waiting' AND (state <> 'dead' OR holds)) "
	"OR EXISTS (SELECT FROM billing.outbox WHERE ordering_key = $9 AND provider = $2 AND account = $3 "
	"AND state = 'waiting') "
	"THEN 'waiting' ELSE 'queued' END",
	UUIDOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TEXTOID, UUIDOID, TEXTOID, UUIDOID, UUIDOID,
	BOOLOID, JSONBOID, BOOLOID);

void
outbox_lock_key(KeyKind kind, const pg_uuid_t *key)
{
	switch (kind)
	{
		case KEY_CUSTOMER:
			customer_lock(key);
			break;
		case KEY_PLAN:
			RUN(lock_plan, arg_uuid(key));
			break;
		case KEY_ACCOUNT:
			RUN(lock_account, arg_uuid(key));
			break;
		case KEY_KIND_COUNT:
			elog(ERROR, "no such kind of key");
	}
}

pg_uuid_t *
outbox_enqueue(const Account *account, Operation operation, const pg_uuid_t *object_id,
			   const pg_uuid_t *ordering_key, const Jsonb *arguments, const pg_uuid_t *blocked_by)
{
	const OperationTraits *traits = operation_traits(operation);
	pg_uuid_t *id = new_id();

	account_require(account, operation, arguments);
	outbox_lock_key(traits->key, ordering_key);
	RUN(insert_request, arg_uuid(id), arg_text(account->provider), arg_text(account->account),
		arg_bool(account->livemode), arg_text(operation_name(operation)),
		arg_text(object_type_name(traits->object_type)), arg_uuid(object_id),
		arg_text(key_kind_name(traits->key)), arg_uuid(ordering_key), arg_uuid(blocked_by),
		arg_bool(traits->holds), arg_json(arguments), arg_bool(traits->urgent));
	worker_wake_at_commit();
	return id;
}

QUERY(pending_request,
	  "SELECT id FROM billing.outbox WHERE object_id = $1 AND operation = $2 ORDER BY seq LIMIT 1",
	  UUIDOID, TEXTOID);

pg_uuid_t *
outbox_pending(const pg_uuid_t *object_id, Operation operation)
{
	if (RUN(pending_request, arg_uuid(object_id), arg_text(operation_name(operation))) == 0)
		return NULL;
	return row_uuid(0, 1);
}

QUERY(remember_arguments, "UPDATE billing.outbox SET arguments = arguments || $2 WHERE id = $1",
	  UUIDOID, JSONBOID);

void
outbox_remember(const OutboxRow *row, const Jsonb *members)
{
	RUN(remember_arguments, arg_uuid(row->id), arg_json(members));
}

bool
outbox_is_fresh(const OutboxRow *row)
{
	return row->request == NULL && row->step == 0;
}

Jsonb *
outbox_known(const OutboxRow *row, SqlQuery *query, const Arg *args)
{
	Jsonb *known;
	JsonBuilder b;

	if (!outbox_is_fresh(row))
		return json_part(row->arguments, "known");
	if (query_run(query, args) == 0)
		elog(ERROR, "object %s of request %s is gone", uuid_text(row->object_id),
			 uuid_text(row->id));
	known = row_json(0, 1);
	json_open(&b);
	json_add_json(&b, "known", known);
	outbox_remember(row, json_close(&b));
	return known;
}

QUERY(busy_object, "SELECT FROM billing.outbox WHERE object_id = $1 LIMIT 1", UUIDOID);

bool
outbox_busy(const pg_uuid_t *object_id)
{
	return RUN(busy_object, arg_uuid(object_id)) > 0;
}

QUERY(
	finish_requests,
	"WITH gone AS (DELETE FROM billing.outbox WHERE id = $1 RETURNING *) "
	"INSERT INTO billing.outbox_finished (id, seq, provider, account, livemode, operation, object_type, "
	"object_id, ordering_key, state, attempts, generation, error_type, error_code, "
	"provider_request_id, created_at, sent_at, finished_at) "
	"SELECT id, seq, provider, account, livemode, operation, object_type, object_id, ordering_key, "
	"$2, attempts, generation, $3, $4, $5, created_at, sent_at, clock_timestamp() FROM gone",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID);
void
outbox_finish(const pg_uuid_t *id, const char *state, const char *error_type,
			  const char *error_code, const char *provider_request_id)
{
	RUN(finish_requests, arg_uuid(id), arg_text(state), arg_text(error_type), arg_text(error_code),
		arg_text(provider_request_id));
}

/*
 * The next of each key at each account: an urgent one first, then by seq;
 * nothing while the key is busy there, held by a dead request, or its next one
 * is blocked.
 *
 * Whether a key is busy is asked in a subquery of its own, key by key.  NOT
 * EXISTS would become a join with all that is queued, of every key: the plan
 * may stem from a time when that was next to nothing.
 */
QUERY(promote_keys,
	  "UPDATE billing.outbox SET state = 'queued', next_attempt_at = now() "
	  "WHERE id = ANY (ARRAY("
	  "SELECT (SELECT w.id FROM billing.outbox AS w "
	  "WHERE w.ordering_key = k.key AND w.provider = p.provider AND w.account = p.account "
	  "AND w.state = 'waiting' ORDER BY w.urgent DESC, w.seq LIMIT 1) "
	  "FROM unnest($1) AS k (key) CROSS JOIN billing.provider_accounts AS p "
	  "WHERE (SELECT a.id FROM billing.outbox AS a "
	  "WHERE a.ordering_key = k.key AND a.provider = p.provider AND a.account = p.account "
	  "AND a.state <> 'waiting' AND (a.state <> 'dead' OR a.holds) LIMIT 1) IS NULL)) "
	  "AND blocked_by IS NULL AND state = 'waiting'",
	  UUIDARRAYOID);

void
outbox_promote(ArrayType *ordering_keys)
{
	RUN(promote_keys, arg_datum(PointerGetDatum(ordering_keys), false));
}

/*-------------------------------------------------------------------------
 *
 * requests.c
 *	  Requests in the hands of people: wait for them, retry them, cancel them.
 *
 *-------------------------------------------------------------------------
 */
#include "outbox.h"

#include "access/transam.h"
#include "access/xact.h"
#include "check.h"
#include "errors.h"
#include "json.h"
#include "keys.h"
#include "operations.h"
#include "storage/latch.h"
#include "subjects.h"

#define AWAIT_PAUSE_MS 10

/* ---- await ---- */

/* Of what we bill also: its method, the number of its invoice, and a charge that is due or under way. */
QUERY(
	unfinished,
	"SELECT 1 FROM billing.outbox WHERE object_id = $1 AND state <> 'dead' "
	"UNION ALL SELECT 1 FROM billing.subscriptions AS s JOIN billing.outbox AS o ON o.object_id = s.payment_method_id "
	"WHERE s.id = $1 AND s.managed_by = 'local' AND o.state <> 'dead' "
	"UNION ALL SELECT 1 FROM billing.invoices AS i LEFT JOIN billing.sandbox_clocks AS k ON k.organization_id = i.organization_id "
	"WHERE (i.id = $1 OR i.subscription_id = $1) AND i.managed_by = 'local' AND (i.status = 'draft' AND i.marked_at IS NOT NULL "
	"OR i.status = 'open' AND (i.next_attempt_at <= coalesce(k.now, clock_timestamp()) OR EXISTS (SELECT FROM billing.payment_intents AS p "
	"JOIN billing.outbox AS o ON o.object_id = p.id WHERE p.invoice_id = i.id AND o.state <> 'dead'))) LIMIT 1",
	UUIDOID);
QUERY(made_here,
	  "SELECT i.xmin FROM billing.invoices AS i WHERE (i.id = $1 OR i.subscription_id = $1) "
	  "AND i.managed_by = 'local' AND i.status = 'draft' ORDER BY i.created_at DESC LIMIT 1",
	  UUIDOID);
QUERY(newest_request,
	  "SELECT xmin FROM billing.outbox WHERE object_id = $1 AND state <> 'dead' "
	  "ORDER BY seq DESC LIMIT 1",
	  UUIDOID);
QUERY(
	object_state,
	"SELECT CASE WHEN deleted_at IS NULL THEN 'active' ELSE 'deleted' END FROM billing.customers WHERE id = $1 "
	"UNION ALL SELECT state FROM billing.payment_methods WHERE id = $1 "
	"UNION ALL SELECT status FROM billing.subscriptions WHERE id = $1 "
	"UNION ALL SELECT status FROM billing.invoices WHERE id = $1 "
	"UNION ALL SELECT status FROM billing.payment_intents WHERE id = $1 "
	"UNION ALL SELECT status FROM billing.setup_intents WHERE id = $1 "
	"UNION ALL SELECT status FROM billing.refunds WHERE id = $1 "
	"UNION ALL SELECT status FROM billing.disputes WHERE id = $1 "
	"UNION ALL SELECT CASE WHEN stopped_at IS NULL THEN 'active' ELSE 'stopped' END FROM billing.provider_accounts WHERE id = $1 "
	"UNION ALL SELECT status FROM billing.checkout_sessions WHERE id = $1 "
	"UNION ALL SELECT status FROM billing.portal_sessions WHERE id = $1 "
	"UNION ALL SELECT state FROM billing.webhook_endpoints WHERE id = $1 "
	"UNION ALL SELECT state FROM billing.usage_forwarding WHERE id = $1 "
	"UNION ALL SELECT CASE WHEN retired_at IS NULL THEN 'active' ELSE 'retired' END FROM billing.plans WHERE id = $1 "
	"UNION ALL SELECT CASE WHEN retired_at IS NULL THEN 'active' ELSE 'retired' END FROM billing.prices WHERE id = $1",
	UUIDOID);

/*
 * A request of our own transaction would never be finished, and neither would
 * the older ones: we hold the customer's row.
 */
static void
check_committed(const pg_uuid_t *id)
{
	bool isnull;
	TransactionId xmin;

	if (RUN(newest_request, arg_uuid(id)) == 0 && RUN(made_here, arg_uuid(id)) == 0)
		return;
	xmin = DatumGetTransactionId(rows_datum(rows_keep(), 0, 1, &isnull));
	if (TransactionIdIsCurrentTransactionId(xmin))
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE), errmsg("the request belongs to this transaction"),
				 errdetail("It is sent after the transaction has committed."),
				 errhint("COMMIT first, then call billing.await().")));
}

SQL_FUNCTION(billing_await)
{
	pg_uuid_t *id = ARG_UUID(0);
	Interval *timeout = PG_ARGISNULL(1) ? NULL : PG_GETARG_INTERVAL_P(1);
	TimestampTz end;

	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("billing.await() cannot see what others commit in this isolation level"),
				 errhint("Call it in a transaction of isolation READ COMMITTED.")));
	db_open();
	check_given("id", id != NULL);
	check_given("timeout", timeout != NULL);
	if (RUN(object_state, arg_uuid(id)) == 0)
		unknown_object("object", uuid_text(id), NULL);
	end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												  TimestampTzGetDatum(GetCurrentTimestamp()),
												  IntervalPGetDatum(timeout)));
	check_committed(id);
	while (RUN(unfinished, arg_uuid(id)) > 0 && GetCurrentTimestamp() < end)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, AWAIT_PAUSE_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	RUN(object_state, arg_uuid(id));
	PG_RETURN_DATUM(db_close_text(row_text(0, 1)));
}

/* ---- retry and cancel ---- */

typedef struct Request
{
	Operation operation;
	pg_uuid_t *object_id;
	char *state;
	char *key_type;
	pg_uuid_t *ordering_key;
	bool was_sent;
	bool has_answer;
	bool outcome_known;
} Request;

QUERY(request_key, "SELECT key_type, ordering_key FROM billing.outbox WHERE id = $1", UUIDOID);
QUERY(
	load_request,
	"SELECT state, key_type, ordering_key, attempts > 0 OR generation > 0 OR step > 0, answer IS NOT NULL, request IS NULL, "
	"operation, object_id FROM billing.outbox WHERE id = $1 FOR UPDATE",
	UUIDOID);
QUERY(finished_state, "SELECT state FROM billing.outbox_finished WHERE id = $1", UUIDOID);

static void
refuse(const pg_uuid_t *id, const char *state, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_JB_STATE), errmsg("request \"%s\" is %s", uuid_text(id), state),
					hint == NULL ? 0 : errhint("%s", hint)));
}

/* The key first, then the row: the order in which the delivery takes them. */
static void
load_locked(const pg_uuid_t *id, Request *request)
{
	check_given("id", id != NULL);
	if (RUN(request_key, arg_uuid(id)) > 0)
		outbox_lock_key(key_kind_by_name(row_text(0, 1)), row_uuid(0, 2));
	if (RUN(load_request, arg_uuid(id)) == 0)
	{
		if (RUN(finished_state, arg_uuid(id)) > 0)
			refuse(id, row_text(0, 1), NULL);
		unknown_object("request", uuid_text(id), "billing.outbox_status lists them.");
	}
	request->state = row_text(0, 1);
	request->key_type = row_text(0, 2);
	request->ordering_key = row_uuid(0, 3);
	request->was_sent = row_bool(0, 4);
	request->has_answer = row_bool(0, 5);
	request->outcome_known = row_bool(0, 6);
	request->operation = operation_by_name(row_text(0, 7));
	request->object_id = row_uuid(0, 8);
}

QUERY(
	revive,
	"UPDATE billing.outbox SET state = 'waiting', attempts = 0, generation = generation + 1, request = NULL, "
	"first_sent_at = NULL, lookup = false, error_type = NULL, error_code = NULL, next_attempt_at = now() WHERE id = $1",
	UUIDOID);
QUERY(key_active,
	  "SELECT FROM billing.outbox AS o JOIN billing.outbox AS r "
	  "ON o.ordering_key = r.ordering_key AND o.provider = r.provider AND o.account = r.account "
	  "WHERE r.id = $1 AND o.state IN ('queued', 'sending', 'unknown') LIMIT 1",
	  UUIDOID);
QUERY(
	look_up_first,
	"UPDATE billing.outbox SET state = 'unknown', attempts = 0, next_attempt_at = now() WHERE id = $1",
	UUIDOID);
QUERY(apply_answer,
	  "UPDATE billing.outbox SET state = 'sending', lease_token = $2, leased_until = now(), "
	  "error_type = NULL, error_code = NULL WHERE id = $1",
	  UUIDOID, UUIDOID);
QUERY(at_once, "UPDATE billing.outbox SET next_attempt_at = now() WHERE id = $1", UUIDOID);

/*
 * Did the provider say no, so that nothing was done?  The bytes of a request
 * are kept as long as its outcome is open.
 */
static bool
definitely_refused(const Request *request)
{
	return !request->was_sent || request->outcome_known;
}

/*
 * A definite refusal is sent anew under a new key.  Where nobody knows what
 * became of it, the provider is asked first.  An answer that could not be
 * applied is applied again.
 */
SQL_FUNCTION(billing_retry_request)
{
	pg_uuid_t *id = ARG_UUID(0);
	Request request;

	db_open();
	load_locked(id, &request);
	if (strcmp(request.state, "sending") == 0)
		refuse(id, "being sent", "Wait for its outcome.");
	if (strcmp(request.state, "waiting") == 0)
		refuse(id, "waiting for an older request of the same customer or plan",
			   "billing.outbox_status says which.");
	if (strcmp(request.state, "dead") != 0)
		RUN(at_once, arg_uuid(id));
	else if (request.has_answer)
		RUN(apply_answer, arg_uuid(id), arg_uuid(new_id()));
	else if (definitely_refused(&request))
	{
		RUN(revive, arg_uuid(id));
		outbox_promote(uuid_array(&request.ordering_key, 1));
	}
	else
	{
		/* it let its followers pass when it died: two of a key are never sent at once */
		if (RUN(key_active, arg_uuid(id)) > 0)
			refuse(id, "behind another request of the same customer or plan that is being sent",
				   "Try again when that one is done.");
		RUN(look_up_first, arg_uuid(id));
	}
	worker_wake_at_commit();
	db_close();
	PG_RETURN_VOID();
}

/* The subject hears that it will not happen, as after a refusal. */
static void
tell_subject(const Request *request)
{
	OutboxRow row = {.operation = request->operation, .object_id = request->object_id};
	CallResult result = {.outcome = OUTCOME_REFUSED, .error_code = "canceled"};
	const OperationTraits *traits = operation_traits(request->operation);

	if (traits->refused != NULL)
		traits->refused(&row, &result);
}

SQL_FUNCTION(billing_cancel_request)
{
	pg_uuid_t *id = ARG_UUID(0);
	Request request;

	db_open();
	load_locked(id, &request);
	if (strcmp(request.state, "sending") == 0 || strcmp(request.state, "unknown") == 0 ||
		!definitely_refused(&request) || (request.was_sent && strcmp(request.state, "dead") != 0))
		refuse(id, "sent, and its outcome is not known",
			   "Wait for it, or use billing.retry_request(): it asks the provider first.");
	outbox_finish(id, "canceled", "canceled", "by cancel_request", NULL);
	outbox_promote(uuid_array(&request.ordering_key, 1));
	tell_subject(&request);
	worker_wake_at_commit();
	db_close();
	PG_RETURN_VOID();
}

/* ---- withdrawn by their subject ---- */

QUERY(
	never_sent,
	"SELECT id FROM billing.outbox WHERE object_id = $1 AND attempts = 0 AND generation = 0 AND step = 0 "
	"AND state IN ('queued', 'waiting') FOR UPDATE",
	UUIDOID);

QUERY(refused_request,
	  "SELECT id, ordering_key FROM billing.outbox WHERE object_id = $1 AND operation = $2 "
	  "AND state = 'dead' AND request IS NULL AND answer IS NULL FOR UPDATE",
	  UUIDOID, TEXTOID);

bool
outbox_give_up(const pg_uuid_t *object_id, Operation operation)
{
	pg_uuid_t *key;

	if (RUN(refused_request, arg_uuid(object_id), arg_text(operation_name(operation))) == 0)
		return false;
	key = row_uuid(0, 2);
	outbox_finish(row_uuid(0, 1), "canceled", "obsolete", "the object was given up", NULL);
	outbox_promote(uuid_array(&key, 1));
	return true;
}

QUERY(
	alive_request,
	"SELECT FROM billing.outbox WHERE object_id = $1 AND operation = $2 AND state <> 'dead' LIMIT 1",
	UUIDOID, TEXTOID);

bool
outbox_under_way(const pg_uuid_t *object_id, Operation operation)
{
	while (outbox_give_up(object_id, operation))
		;
	return RUN(alive_request, arg_uuid(object_id), arg_text(operation_name(operation))) > 0;
}

QUERY(sent_creation,
	  "SELECT FROM billing.outbox WHERE object_id = $1 AND operation = $2 "
	  "AND (attempts > 0 OR generation > 0 OR step > 0)",
	  UUIDOID, TEXTOID);
QUERY(set_carry, "UPDATE billing.outbox SET carry = $2 WHERE id = $1", UUIDOID, BYTEAOID);

void
outbox_keep_private(const pg_uuid_t *id, const char *name, const char *text)
{
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, name, text);
	RUN(set_carry, arg_uuid(id),
		arg_bytes(seal_text("outbox.carry", id, json_string(json_close(&b)))));
}

bool
outbox_withdraw_creation(const pg_uuid_t *object_id, Operation creation)
{
	int64 count;
	Rows rows;

	(void) outbox_give_up(object_id, creation);
	count = RUN(never_sent, arg_uuid(object_id));
	rows = rows_keep();
	if (RUN(sent_creation, arg_uuid(object_id), arg_text(operation_name(creation))) > 0)
		return false;
	for (int64 i = 0; i < count; i++)
		outbox_finish(rows_uuid(rows, i, 1), "canceled", "obsolete", "the object was given up",
					  NULL);
	return true;
}

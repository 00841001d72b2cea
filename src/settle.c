/*-------------------------------------------------------------------------
 *
 * settle.c
 *	  Applies answers and finishes requests.
 *
 * A batch is applied in one subtransaction; when that fails, each answer gets
 * one of its own, so that a bad one ends dead and the others go through.
 *
 *-------------------------------------------------------------------------
 */
#include "settle.h"

#include <math.h>

#include "audit.h"
#include "common/pg_prng.h"
#include "freeze.h"
#include "json.h"
#include "keys.h"
#include "operations.h"
#include "subjects.h"

/* A look-up follows soon: whoever waits for the answer waits for this. */
#define LOOKUP_PAUSE_SECONDS 1.0

/* ---- locks ---- */

QUERY(
	lock_free_customers,
	"SELECT id FROM billing.customers WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED",
	UUIDARRAYOID);
QUERY(lock_free_plans,
	  "SELECT id FROM billing.plans WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED",
	  UUIDARRAYOID);
QUERY(
	lock_free_accounts,
	"SELECT id FROM billing.provider_accounts WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED",
	UUIDARRAYOID);
QUERY(still_ours,
	  "SELECT id, attempts FROM billing.outbox WHERE id = ANY ($1) AND lease_token = $2 FOR UPDATE",
	  UUIDARRAYOID, UUIDOID);

static bool
contains(Rows rows, const pg_uuid_t *id)
{
	for (int64 i = 0; i < rows_count(rows); i++)
	{
		bool isnull;

		if (uuid_equal(DatumGetUUIDP(rows_datum(rows, i, 1, &isnull)), id))
			return true;
	}
	return false;
}

static SqlQuery *const lock_free[KEY_KIND_COUNT] = {
	[KEY_CUSTOMER] = &lock_free_customers,
	[KEY_PLAN] = &lock_free_plans,
	[KEY_ACCOUNT] = &lock_free_accounts,
};

static KeyKind
key_kind(const OutboxRow *row)
{
	return operation_traits(row->operation)->key;
}

bool
settle_lock_key(KeyKind kind, pg_uuid_t *key)
{
	return query_run(lock_free[kind], (const Arg[]){arg_uuids(&key, 1)}) > 0;
}

static Rows
lock_keys(List *batch, KeyKind kind)
{
	pg_uuid_t **keys = palloc(sizeof(pg_uuid_t *) * list_length(batch));
	int count = 0;
	ListCell *cell;

	foreach (cell, batch)
	{
		const OutboxRow *row = &((Delivery *) lfirst(cell))->row;

		if (key_kind(row) == kind)
			keys[count++] = row->ordering_key;
	}
	if (count == 0)
		return NULL;
	query_run(lock_free[kind], (const Arg[]){arg_uuids(keys, count)});
	return rows_keep();
}

/* ---- what the answer means ---- */

/* Without an answer there is nobody to ask what it means but the transport. */
static const char *
transport_error(HttpTransport transport)
{
	switch (transport)
	{
		case HTTP_NOT_SENT:
			return "not_sent";
		case HTTP_NO_ANSWER:
			return "no_answer";
		case HTTP_TOO_LARGE:
			return "answer_too_large";
		case HTTP_MALFORMED:
			return "answer_malformed";
		case HTTP_ANSWERED:
			break;
	}
	return "unreadable_answer";
}

static void
interpret(Delivery *delivery)
{
	CallResult *result = &delivery->result;

	memset(result, 0, sizeof(*result));
	result->retry_after = -1;
	if (delivery->lookup)
		delivery->module->read_lookup(&delivery->call, &delivery->response, result);
	else
		delivery->module->read_response(&delivery->call, &delivery->response, result);
	if (result->outcome != OUTCOME_DONE && result->outcome != OUTCOME_ABSENT &&
		result->error_type == NULL)
		result->error_type = transport_error(delivery->response.transport);
}

/* Providers date to the second; what is compared with that has to be cut alike. */
static TimestampTz
whole_second(TimestampTz time)
{
	return time - ((time % USECS_PER_SEC) + USECS_PER_SEC) % USECS_PER_SEC;
}

/*
 * When the provider's state was what it told: when we asked, by its clock, to
 * the second, as its webhooks count.  Its Date is the second in which it
 * answered: we cannot have asked later, or a webhook about what happens next
 * would look older than the answer.  An answer that was kept for us and is
 * replayed tells of the first sending.
 */
static TimestampTz
told_as_of(const Delivery *delivery)
{
	const HttpResponse *response = &delivery->response;
	TimestampTz as_of = response->sent_at;
	TimestampTz date;

	if (delivery->module->embedded == NULL)
	{
		if (!delivery->lookup && delivery->row.attempts > 1 && delivery->row.first_sent_at != 0 &&
			!operation_traits(delivery->row.operation)->asks)
			as_of = delivery->row.first_sent_at;
		if (http_date(response, &date))
		{
			as_of += Max(date - whole_second(response->received_at), 0);
			as_of = Min(as_of, date);
		}
	}
	return whole_second(as_of);
}

/*
 * Key, options and answers have to agree on the mode: what was made in the
 * other one is not what was asked for, and nothing more of it may be made.
 */
static void
check_mode_of_answer(Delivery *delivery)
{
	CallResult *result = &delivery->result;
	bool livemode = delivery->row.livemode;
	ListCell *cell;

	foreach (cell, result->snapshots)
	{
		const ProviderSnapshot *snapshot = lfirst(cell);

		if (!snapshot->has_livemode || snapshot->livemode == livemode)
			continue;
		result->outcome = OUTCOME_ACCOUNT_STOPPED;
		result->error_type = "mode";
		result->error_code = livemode
								 ? "the key is of a live account, its answers are of test mode"
								 : "the key is of a test account, its answers are of live mode";
		return;
	}
}

static void
apply_snapshots(const Delivery *delivery)
{
	const OutboxRow *row = &delivery->row;
	const OperationTraits *traits = operation_traits(row->operation);
	News news = {
		.provider = row->provider,
		.account = row->account,
		.livemode = row->livemode,
		.as_of = told_as_of(delivery),
		.event_id = "",
		.own_id = traits->many ? NULL : row->object_id,
		.own_type = traits->object_type,
		.asked = traits->asks,
	};
	ListCell *cell;

	foreach (cell, delivery->result.snapshots)
	{
		const ProviderSnapshot *snapshot = lfirst(cell);
		const char *waiting_for = NULL;

		/* an answer that is already overtaken by a webhook is fine */
		(void) snapshot_apply(snapshot, &news, &waiting_for);
	}
}

/* ---- what becomes of the request ---- */

QUERY(
	requeue,
	"UPDATE billing.outbox SET state = $2, lease_token = NULL, leased_until = NULL, answer = NULL, "
	"next_attempt_at = clock_timestamp() + make_interval(secs => $3), error_type = $4, error_code = $5, "
	"provider_request_id = coalesce($6, provider_request_id) WHERE id = $1",
	UUIDOID, TEXTOID, FLOAT8OID, TEXTOID, TEXTOID, TEXTOID);
QUERY(
	next_generation,
	"UPDATE billing.outbox SET state = 'queued', lease_token = NULL, leased_until = NULL, answer = NULL, "
	"lookup = false, request = NULL, first_sent_at = NULL, generation = generation + 1, "
	"next_attempt_at = clock_timestamp() + make_interval(secs => $2) WHERE id = $1",
	UUIDOID, FLOAT8OID);
QUERY(
	next_step,
	"UPDATE billing.outbox SET state = 'queued', lease_token = NULL, leased_until = NULL, answer = NULL, "
	"lookup = false, request = NULL, first_sent_at = NULL, step = $2, carry = $3, attempts = 0, generation = 0, "
	"next_attempt_at = clock_timestamp() WHERE id = $1",
	UUIDOID, INT4OID, BYTEAOID);
QUERY(
	finish_batch,
	"WITH gone AS (DELETE FROM billing.outbox AS o USING unnest($1, $2, $3, $4, $5) "
	"AS f (id, state, error_type, error_code, request_id) WHERE o.id = f.id "
	"RETURNING o.*, f.state AS final_state, f.error_type AS final_type, f.error_code AS final_code, f.request_id) "
	"INSERT INTO billing.outbox_finished (id, seq, provider, account, livemode, operation, object_type, "
	"object_id, ordering_key, state, attempts, generation, error_type, error_code, provider_request_id, "
	"created_at, sent_at, finished_at) "
	"SELECT id, seq, provider, account, livemode, operation, object_type, object_id, ordering_key, final_state, "
	"attempts, generation, final_type, final_code, request_id, created_at, sent_at, clock_timestamp() FROM gone",
	UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID);
QUERY(
	unblock,
	"UPDATE billing.outbox SET blocked_by = NULL WHERE blocked_by = ANY ($1) RETURNING ordering_key",
	UUIDARRAYOID);

static Arg
arg_seconds(double seconds)
{
	return arg_datum(Float8GetDatum(seconds), false);
}

/* Exponential with full jitter; what the provider asks for is the least. */
static double
pause_before_retry(const Delivery *delivery)
{
	double base = setting_seconds("retry_base", 2);
	double cap = setting_seconds("retry_cap", 3600);
	double ceiling = base * pow(2, Min(delivery->row.attempts - 1, 30));
	double pause = Min(ceiling, cap) * pg_prng_double(&pg_global_prng_state);

	return Max(pause, (double) delivery->result.retry_after);
}

static void
put_back(const Delivery *delivery, const char *state, double pause)
{
	const CallResult *result = &delivery->result;

	RUN(requeue, arg_uuid(delivery->row.id), arg_text(state), arg_seconds(pause),
		arg_text(result->error_type), arg_text(result->error_code),
		arg_text(result->provider_request_id));
}

/* What was refused need not be known byte by byte; a refused look-up says nothing about it. */
QUERY(drop_frozen,
	  "UPDATE billing.outbox SET request = NULL, step = CASE WHEN $2 THEN 0 ELSE step END, "
	  "carry = CASE WHEN $2 THEN NULL ELSE carry END WHERE id = $1",
	  UUIDOID, BOOLOID);

static void
refused(Delivery *delivery)
{
	const OperationTraits *traits = operation_traits(delivery->row.operation);

	put_back(delivery, "dead", 0);
	if (!delivery->lookup)
		RUN(drop_frozen, arg_uuid(delivery->row.id), arg_bool(delivery->result.start_over));
	if (traits->refused != NULL)
		traits->refused(&delivery->row, &delivery->result);
}

static void
try_again(Delivery *delivery, const char *state, double pause)
{
	if (delivery->row.attempts >= setting_int("max_attempts", 20))
		put_back(delivery, "dead", 0);
	else
		put_back(delivery, state, pause);
}

/*
 * Nothing was done: again under a new key, no sooner than after any other
 * failure.  The look-up was an attempt, too, but not the last one.
 */
static void
send_anew(Delivery *delivery)
{
	RUN(next_generation, arg_uuid(delivery->row.id), arg_seconds(pause_before_retry(delivery)));
	if (delivery->row.attempts > setting_int("max_attempts", 20))
	{
		delivery->result.error_type = "not_done";
		put_back(delivery, "dead", 0);
	}
}

/* A request that is over; collected, so that all of a batch leave in one statement. */
typedef struct FinishList
{
	pg_uuid_t **ids;
	const char **states;
	const char **types;
	const char **codes;
	const char **request_ids;
	const OutboxRow **rows;
	int count;
} FinishList;

static void
finish_later(FinishList *list, const Delivery *delivery)
{
	int i = list->count++;

	list->ids[i] = delivery->row.id;
	list->states[i] = "done";
	list->types[i] = delivery->result.error_type;
	list->codes[i] = delivery->result.error_code;
	list->request_ids[i] = delivery->result.provider_request_id;
	list->rows[i] = &delivery->row;
}

static void
done(Delivery *delivery, FinishList *finished)
{
	const OperationTraits *traits = operation_traits(delivery->row.operation);
	const CallResult *result = &delivery->result;

	apply_snapshots(delivery);
	if (traits->done != NULL)
		traits->done(&delivery->row, result);
	if (result->next_step == 0)
		finish_later(finished, delivery);
	else
		RUN(next_step, arg_uuid(delivery->row.id), arg_int4(result->next_step),
			arg_bytes(result->carry == NULL ? NULL
											: seal_text("outbox.carry", delivery->row.id,
														json_string(result->carry))));
}

/*
 * That a payment is declined is an answer.  Of anything else it would be taken
 * for done, although it is not: there it is a refusal like any other.
 */
static void
declined(Delivery *delivery, FinishList *finished)
{
	const OperationTraits *traits = operation_traits(delivery->row.operation);

	if (!traits->pays)
	{
		refused(delivery);
		return;
	}
	apply_snapshots(delivery);
	if (traits->refused != NULL)
		traits->refused(&delivery->row, &delivery->result);
	finish_later(finished, delivery);
}

typedef struct Settlement
{
	Delivery *delivery;
	FinishList *finished;
} Settlement;

static void
settle(void *context)
{
	Delivery *delivery = ((Settlement *) context)->delivery;
	FinishList *finished = ((Settlement *) context)->finished;

	interpret(delivery);
	check_mode_of_answer(delivery);
	switch (delivery->result.outcome)
	{
		case OUTCOME_DONE:
			done(delivery, finished);
			break;
		case OUTCOME_DECLINED:
			declined(delivery, finished);
			break;
		case OUTCOME_RETRY:
			try_again(delivery, delivery->lookup ? "unknown" : "queued",
					  pause_before_retry(delivery));
			break;
		case OUTCOME_UNKNOWN:
			try_again(delivery, "unknown", Max(LOOKUP_PAUSE_SECONDS, delivery->result.retry_after));
			break;
		case OUTCOME_ABSENT:
			send_anew(delivery);
			break;
		case OUTCOME_REFUSED:
			refused(delivery);
			break;
		case OUTCOME_ACCOUNT_STOPPED:
			account_stop(delivery->row.provider, delivery->row.account,
						 delivery->result.error_code != NULL ? delivery->result.error_code
															 : "the provider refused the key");
			put_back(delivery, "queued", 0);
			break;
	}
}

/* What was blocked is promoted here if its key is of this kind and free, else by the sweep. */
static void
promote_free(KeyKind kind, ArrayType *keys)
{
	Rows locked;
	pg_uuid_t **ready;

	if (query_run(lock_free[kind], (const Arg[]){arg_datum(PointerGetDatum(keys), false)}) == 0)
		return;
	locked = rows_keep();
	ready = palloc(sizeof(pg_uuid_t *) * rows_count(locked));
	for (int64 i = 0; i < rows_count(locked); i++)
		ready[i] = rows_uuid(locked, i, 1);
	outbox_promote(uuid_array(ready, (int) rows_count(locked)));
}

static void
tell_gone(const FinishList *finished)
{
	for (int i = 0; i < finished->count; i++)
	{
		const OperationTraits *traits = operation_traits(finished->rows[i]->operation);

		if (traits->gone != NULL)
			traits->gone(finished->rows[i]);
	}
}

static void
finish_all(const FinishList *finished)
{
	pg_uuid_t **unblocked;
	Rows keys;

	if (finished->count == 0)
		return;
	RUN(finish_batch, arg_uuids(finished->ids, finished->count),
		arg_text_array(finished->states, finished->count),
		arg_text_array(finished->types, finished->count),
		arg_text_array(finished->codes, finished->count),
		arg_text_array(finished->request_ids, finished->count));
	tell_gone(finished);
	if (RUN(unblock, arg_uuids(finished->ids, finished->count)) == 0)
		return;
	keys = rows_keep();
	unblocked = palloc(sizeof(pg_uuid_t *) * rows_count(keys));
	for (int64 i = 0; i < rows_count(keys); i++)
		unblocked[i] = rows_uuid(keys, i, 1);
	for (int kind = 0; kind < KEY_KIND_COUNT; kind++)
		promote_free((KeyKind) kind, uuid_array(unblocked, (int) rows_count(keys)));
}

/* ---- a batch ---- */

typedef struct Batch
{
	List *deliveries;
} Batch;

static void
settle_list(void *context)
{
	List *deliveries = ((Batch *) context)->deliveries;
	int count = list_length(deliveries);
	FinishList finished = {
		.ids = palloc(sizeof(pg_uuid_t *) * count),
		.states = palloc(sizeof(char *) * count),
		.types = palloc(sizeof(char *) * count),
		.codes = palloc(sizeof(char *) * count),
		.request_ids = palloc(sizeof(char *) * count),
		.rows = palloc(sizeof(OutboxRow *) * count),
	};
	pg_uuid_t **keys = palloc(sizeof(pg_uuid_t *) * count);
	ListCell *cell;

	foreach (cell, deliveries)
	{
		Delivery *delivery = lfirst(cell);
		Settlement settlement = {delivery, &finished};

		keys[foreach_current_index(cell)] = delivery->row.ordering_key;
		audit_caused(AUDIT_REQUEST, uuid_text(delivery->row.id), settle, &settlement);
	}
	finish_all(&finished);
	outbox_promote(uuid_array(keys, count));
}

QUERY(
	apply_failed,
	"UPDATE billing.outbox SET state = 'dead', lease_token = NULL, leased_until = NULL, answer = $2, "
	"error_type = 'internal', error_code = $3 WHERE id = $1",
	UUIDOID, BYTEAOID, TEXTOID);

QUERY(
	store_answer,
	"UPDATE billing.outbox SET answer = $2, leased_until = clock_timestamp() + interval '1 minute' "
	"WHERE id = $1",
	UUIDOID, BYTEAOID);

/* Kept in the row, to be applied when what is in the way has gone. */
static void
keep_answer(const Delivery *delivery)
{
	if (!delivery->stored)
		RUN(store_answer, arg_uuid(delivery->row.id),
			arg_bytes(freeze_answer(delivery->row.id, &delivery->response)));
}

/*
 * False when the answer has to wait.  One that can never be applied is kept,
 * too: retry_request() applies it again instead of sending.
 */
static bool
settle_alone(Delivery *delivery)
{
	Batch batch = {list_make1(delivery)};
	char *sqlstate;
	char *message;

	if (guarded(settle_list, &batch, &sqlstate, &message))
		return true;
	if (sqlstate_passes(sqlstate))
	{
		keep_answer(delivery);
		return false;
	}
	ereport(LOG, (errmsg("the answer to request %s of billing cannot be applied: %s",
						 uuid_text(delivery->row.id), message)));
	RUN(apply_failed, arg_uuid(delivery->row.id),
		arg_bytes(freeze_answer(delivery->row.id, &delivery->response)), arg_text(sqlstate));
	return true;
}

/* Sorts a batch: what is not ours any more is dropped, what is locked is stored. */
static List *
applicable(List *batch, const pg_uuid_t *lease_token, bool *any_stored)
{
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * list_length(batch));
	Rows locked[KEY_KIND_COUNT];
	Rows ours;
	List *result = NIL;
	ListCell *cell;

	for (int kind = 0; kind < KEY_KIND_COUNT; kind++)
		locked[kind] = lock_keys(batch, (KeyKind) kind);
	foreach (cell, batch)
		ids[foreach_current_index(cell)] = ((Delivery *) lfirst(cell))->row.id;
	RUN(still_ours, arg_uuids(ids, list_length(batch)), arg_uuid(lease_token));
	ours = rows_keep();
	foreach (cell, batch)
	{
		Delivery *delivery = lfirst(cell);

		if (!contains(ours, delivery->row.id))
			continue;
		if (contains(locked[key_kind(&delivery->row)], delivery->row.ordering_key))
			result = lappend(result, delivery);
		else
		{
			*any_stored = true;
			keep_answer(delivery);
		}
	}
	return result;
}

bool
settle_batch(List *deliveries, const pg_uuid_t *lease_token)
{
	bool any_stored = false;
	Batch batch = {applicable(deliveries, lease_token, &any_stored)};
	char *sqlstate;
	char *message;
	ListCell *cell;

	if (batch.deliveries == NIL || guarded(settle_list, &batch, &sqlstate, &message))
		return any_stored;
	foreach (cell, batch.deliveries)
		any_stored |= !settle_alone(lfirst(cell));
	return any_stored;
}

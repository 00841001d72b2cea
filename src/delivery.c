/*-------------------------------------------------------------------------
 *
 * delivery.c
 *	  Carries out what lies in the outbox: claim, send, apply.
 *
 * One unit claims as many requests as there are free slots: their arguments
 * are completed, their bytes frozen, attempts and lease committed; only then
 * do they go on the wire, so that a request that kills the process shows.
 * Another unit applies every answer that has come and finishes the requests.
 * Nothing is open in the database while bytes travel.
 *
 * An answer is applied under the lock of the request's key, but the worker
 * takes that lock only when it is free: an application that holds a
 * customer's row in a long transaction delays that customer alone.  The
 * answer is kept in the row meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "delivery.h"

#include "audit.h"
#include "common/pg_prng.h"
#include "embedded.h"
#include "freeze.h"
#include "json.h"
#include "keys.h"
#include "operations.h"
#include "settle.h"
#include "subjects.h"
#include "unit.h"
#include "utils/memutils.h"

/* A request may take its time-out; the lease is longer, so that it never ends before. */
#define LEASE_MARGIN_SECONDS 60

static pg_uuid_t lease_token;
static MemoryContext delivery_memory = NULL;

/* Answers that have come and wait for the next unit. */
static List *answered = NIL;
static int in_flight = 0;
/* Something is due and waits for its account's bucket, see pace.c. */
static bool filling = false;
/* Was something due whose account pauses, or fills up? */
static bool held = false;
/* Rows of ours whose answer lies in the row, see settle.c. */
static bool stored_answers = true;

void
delivery_open(const pg_uuid_t *token)
{
	lease_token = *token;
	if (delivery_memory == NULL)
		/* lives as long as the process; one child context per request in flight */
		delivery_memory = AllocSetContextCreate(TopMemoryContext, "billing deliveries",
												ALLOCSET_SMALL_SIZES);
	answered = NIL;
	in_flight = 0;
	stored_answers = true;
	http_open(http_max_in_flight);
	pace_open();
}

void
delivery_close(void)
{
	http_close();
	answered = NIL;
	in_flight = 0;
	if (delivery_memory != NULL)
		MemoryContextReset(delivery_memory);
}

int
delivery_in_flight(void)
{
	return in_flight;
}

QUERY(note_key,
	  "UPDATE billing.worker_state SET last_error = $1, last_error_at = clock_timestamp()",
	  TEXTOID);

/*
 * Without the key file nothing can be sent and no answer applied; it waits
 * until the file is back, and says so once.
 */
static bool
key_there(void)
{
	static bool told = false;

	if (keys_available())
	{
		told = false;
		return true;
	}
	if (!told && unit_begin())
	{
		RUN(note_key, arg_text("JB012: the key file cannot be used, nothing is sent until it can"));
		unit_commit();
		told = true;
		ereport(LOG, (errmsg("the key file of billing cannot be used"),
					  errdetail("Nothing is sent until it can be read again.")));
	}
	return false;
}

/* ---- claim ---- */

#define OUTBOX_COLUMNS                                                                                  \
	"id, seq, operation, provider, account, livemode, object_type, object_id, key_type, ordering_key, " \
	"arguments, state, step, carry, attempts, generation, first_sent_at, sent_at, request, answer, lookup, error_code"

/* Claims by account, so that one that is stopped or bound elsewhere is not even looked at. */
QUERY_IN_ORDER(
	claimable,
	"SELECT " OUTBOX_COLUMNS " FROM billing.outbox "
	"WHERE provider = $1 AND account = $2 AND state IN ('queued', 'unknown') AND next_attempt_at <= clock_timestamp() "
	"ORDER BY next_attempt_at, seq LIMIT $3 FOR UPDATE SKIP LOCKED",
	TEXTOID, TEXTOID, INT8OID);
QUERY(
	stored,
	"SELECT " OUTBOX_COLUMNS " FROM billing.outbox "
	"WHERE state = 'sending' AND answer IS NOT NULL AND (lease_token = $1 OR leased_until < clock_timestamp()) "
	"ORDER BY leased_until LIMIT $2 FOR UPDATE SKIP LOCKED",
	UUIDOID, INT8OID);

static void
read_row(Delivery *delivery, Rows rows, int64 i)
{
	OutboxRow *row = &delivery->row;
	bytea *carry;

	row->id = rows_uuid(rows, i, 1);
	row->seq = rows_int(rows, i, 2);
	row->operation = operation_by_name(rows_text(rows, i, 3));
	row->provider = rows_text(rows, i, 4);
	row->account = rows_text(rows, i, 5);
	row->livemode = rows_bool(rows, i, 6);
	row->object_type = rows_text(rows, i, 7);
	row->object_id = rows_uuid(rows, i, 8);
	row->key_type = rows_text(rows, i, 9);
	row->ordering_key = rows_uuid(rows, i, 10);
	row->arguments = rows_json(rows, i, 11);
	row->state = rows_text(rows, i, 12);
	row->step = rows_int4(rows, i, 13);
	carry = rows_bytes(rows, i, 14);
	row->attempts = rows_int4(rows, i, 15);
	row->generation = rows_int4(rows, i, 16);
	row->first_sent_at = rows_time(rows, i, 17);
	row->sent_at = rows_time(rows, i, 18);
	row->request = rows_bytes(rows, i, 19);
	row->answer = rows_bytes(rows, i, 20);
	delivery->lookup = rows_bool(rows, i, 21);
	row->error_code = rows_text(rows, i, 22);
	if (row->operation == OPERATION_COUNT)
		elog(ERROR, "unknown operation in the outbox");
	if (carry != NULL)
	{
		const char *reason;
		char *text = unseal_text("outbox.carry", row->id, carry);

		row->carry = json_parse(text, strlen(text), &reason);
	}
}

/* Runs in a subtransaction: what goes wrong here concerns one request. */
typedef struct Preparation
{
	Delivery *delivery;
	Rows rows;
	int64 index;
	const Account *account;
	Description description;
	void (*prepare)(void *context);
} Preparation;

/*
 * Past the provider's memory of keys a resend would run anew: ask first.  A
 * provider without keys is asked in the state unknown only: what is queued
 * again was answered by "not done".
 */
static bool
key_forgotten(const Delivery *delivery)
{
	const OutboxRow *row = &delivery->row;

	return delivery->module->idempotency_window > 0 && row->attempts > 0 &&
		   row->first_sent_at != 0 &&
		   TimestampDifferenceExceeds(row->first_sent_at, GetCurrentTimestamp(),
									  delivery->module->idempotency_window * 1000);
}

static void
prepare(void *context)
{
	Preparation *p = context;
	Delivery *delivery = p->delivery;
	OutboxRow *row = &delivery->row;
	ProviderCall *call = &delivery->call;

	read_row(delivery, p->rows, p->index);
	delivery->account = account_open(p->account);
	delivery->pace = pace_of(p->account);
	delivery->module = p->account->module;
	p->description = operation_traits(row->operation)->describe(row);
	if (p->description.readiness != READY)
		return;
	*call = (ProviderCall){
		.operation = row->operation,
		.step = row->step,
		.reference = uuid_text(row->object_id),
		.request_id = uuid_text(row->id),
		.arguments = p->description.arguments,
		.carry = row->carry,
		.sent_at = row->sent_at,
		.last_error = row->error_code,
		.account = delivery->account,
	};
	delivery->lookup = strcmp(row->state, "unknown") == 0 ||
					   (row->request != NULL && key_forgotten(delivery));
	snprintf(delivery->wire_key, sizeof(delivery->wire_key), "%s:%d:%d", call->request_id,
			 row->step, row->generation);
	if (delivery->lookup)
		delivery->module->build_lookup(call, &delivery->request);
	else if (row->request != NULL)
		thaw_request(row->id, row->request, &delivery->request);
	else
		delivery->module->build_request(call, &delivery->request);
	delivery->frozen = delivery->lookup       ? NULL
					   : row->request != NULL ? row->request
											  : freeze_request(row->id, &delivery->request);
}

/* What is seen only now, such as a payment method that was refused, the request brings about. */
static void
prepare_as_cause(void *context)
{
	const Preparation *p = context;

	audit_caused(AUDIT_REQUEST, uuid_text(rows_uuid(p->rows, p->index, 1)), p->prepare, context);
}

static Delivery *
delivery_new(void)
{
	MemoryContext memory = AllocSetContextCreate(delivery_memory, "billing delivery",
												 ALLOCSET_SMALL_SIZES);
	Delivery *delivery = MemoryContextAllocZero(memory, sizeof(Delivery));

	delivery->memory = memory;
	return delivery;
}

QUERY(
	postpone,
	"UPDATE billing.outbox SET next_attempt_at = clock_timestamp() + interval '5 seconds' WHERE id = $1",
	UUIDOID);
QUERY(
	kill_request,
	"UPDATE billing.outbox SET state = 'dead', lease_token = NULL, leased_until = NULL, error_type = 'internal', error_code = $2 WHERE id = $1",
	UUIDOID, TEXTOID);

/* Not sent: withdrawn when it has no purpose any more, else tried later. */
static void
set_aside(Delivery *delivery, const Description *description)
{
	if (description->readiness == OBSOLETE &&
		settle_lock_key(operation_traits(delivery->row.operation)->key, delivery->row.ordering_key))
	{
		outbox_finish(delivery->row.id, "canceled", "obsolete", description->reason, NULL);
		outbox_promote(uuid_array(&delivery->row.ordering_key, 1));
	}
	else
		RUN(postpone, arg_uuid(delivery->row.id));
}

/* What is about the moment is tried later; what is about the request ends it. */
static void
give_up(const pg_uuid_t *id, const char *sqlstate, const char *message)
{
	ereport(LOG,
			(errmsg("request %s of billing cannot be carried out: %s", uuid_text(id), message)));
	if (sqlstate_passes(sqlstate))
		RUN(postpone, arg_uuid(id));
	else
		RUN(kill_request, arg_uuid(id), arg_text(sqlstate));
}

/* True when the delivery is ready to be sent. */
static bool
prepare_delivery(Delivery *delivery, Rows rows, int64 index, const Account *account)
{
	Preparation p = {
		.delivery = delivery, .rows = rows, .index = index, .account = account, .prepare = prepare};
	MemoryContext old = MemoryContextSwitchTo(delivery->memory);
	char *sqlstate;
	char *message;
	bool ok;

	ok = guarded(prepare_as_cause, &p, &sqlstate, &message);
	MemoryContextSwitchTo(old);
	if (!ok)
	{
		give_up(rows_uuid(rows, index, 1), sqlstate, message);
		return false;
	}
	if (p.description.readiness == READY)
		return true;
	set_aside(delivery, &p.description);
	return false;
}

QUERY(
	lease,
	"UPDATE billing.outbox AS o SET state = 'sending', attempts = o.attempts + 1, lease_token = $1, "
	"leased_until = clock_timestamp() + make_interval(secs => c.seconds), "
	"request = coalesce(c.request, o.request), lookup = c.lookup, "
	"first_sent_at = coalesce(o.first_sent_at, clock_timestamp()), "
	"sent_at = CASE WHEN c.lookup THEN o.sent_at ELSE clock_timestamp() END "
	"FROM unnest($2, $3, $4, $5) AS c (id, request, lookup, seconds) WHERE o.id = c.id",
	UUIDOID, UUIDARRAYOID, BYTEAARRAYOID, BOOLARRAYOID, INT4ARRAYOID);

/* Attempts, lease and the frozen bytes, for all in one statement. */
static void
lease_all(List *ready)
{
	int count = list_length(ready);
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * count);
	Datum *frozen = palloc(sizeof(Datum) * count);
	bool *absent = palloc(sizeof(bool) * count);
	Datum *lookups = palloc(sizeof(Datum) * count);
	Datum *seconds = palloc(sizeof(Datum) * count);
	int lower = 1;
	ListCell *cell;

	foreach (cell, ready)
	{
		Delivery *delivery = lfirst(cell);
		int i = foreach_current_index(cell);
		int timeout = http_timeout(delivery->request.timeout_ms);

		ids[i] = delivery->row.id;
		frozen[i] = PointerGetDatum(delivery->frozen);
		absent[i] = delivery->frozen == NULL;
		lookups[i] = BoolGetDatum(delivery->lookup);
		seconds[i] = Int32GetDatum(timeout / 1000 + LEASE_MARGIN_SECONDS);
		delivery->row.attempts++;
	}
	RUN(lease, arg_uuid(&lease_token), arg_uuids(ids, count),
		arg_datum(PointerGetDatum(construct_md_array(frozen, absent, 1, &count, &lower, BYTEAOID,
													 -1, false, TYPALIGN_INT)),
				  false),
		arg_datum(PointerGetDatum(construct_array(lookups, count, BOOLOID, 1, true, TYPALIGN_CHAR)),
				  false),
		arg_datum(PointerGetDatum(construct_array(seconds, count, INT4OID, 4, true, TYPALIGN_INT)),
				  false));
}

static List *
claim_account(const Account *account, int slots)
{
	List *ready = NIL;
	Rows rows;

	RUN(claimable, arg_text(account->provider), arg_text(account->account), arg_int(slots));
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows); i++)
	{
		Delivery *delivery = delivery_new();

		if (prepare_delivery(delivery, rows, i, account))
		{
			MemoryContext old = MemoryContextSwitchTo(delivery_memory);

			ready = lappend(ready, delivery);
			MemoryContextSwitchTo(old);
		}
		else
			MemoryContextDelete(delivery->memory);
	}
	return ready;
}

/* ---- send ---- */

static void
take_answer(Delivery *delivery)
{
	MemoryContext old = MemoryContextSwitchTo(delivery_memory);

	answered = lappend(answered, delivery);
	MemoryContextSwitchTo(old);
}

static void
add_header(const char *name, const JsonbValue *value, void *context)
{
	List **headers = context;
	size_t length = strlen(name);
	ListCell *cell;

	/* the account's own says it in place of the module */
	foreach (cell, *headers)
	{
		const char *line = lfirst(cell);

		if (pg_strncasecmp(line, name, length) == 0 && line[length] == ':')
			*headers = foreach_delete_current(*headers, cell);
	}
	*headers = lappend(*headers, psprintf("%s: %s", name, json_scalar_text(value)));
}

/* The option headers of the account, such as an Accept for a twin of the API. */
static List *
with_headers_of(const ProviderAccount *account, List *headers)
{
	Jsonb *more = json_part(account->options, "headers");

	if (more != NULL)
		json_visit(more, add_header, &headers);
	return headers;
}

static void
send_over_network(Delivery *delivery)
{
	const ProviderRequest *frozen = &delivery->request;
	List *headers = delivery->module->authorize(delivery->account, frozen, delivery->wire_key,
												list_copy(frozen->headers));
	HttpRequest request = {
		.method = frozen->method,
		.url = psprintf("%s%s", delivery->account->base_url, frozen->path),
		.headers = with_headers_of(delivery->account, headers),
		.body = frozen->body,
		.body_length = frozen->body_length,
		.timeout_ms = frozen->timeout_ms,
	};

	if (!http_start(&request, delivery))
		elog(ERROR, "no free slot for a request that was claimed");
}

static void
send_delivery(Delivery *delivery)
{
	MemoryContext old = MemoryContextSwitchTo(delivery->memory);

	in_flight++;
	pace_sent(delivery->pace);
	if (delivery->module->embedded == NULL)
		send_over_network(delivery);
	else
	{
		if (!embedded_perform(&delivery->row, delivery->account, &delivery->request,
							  delivery->wire_key, &delivery->response))
			delivery->response = (HttpResponse){.transport = HTTP_NOT_SENT, .headers = ""};
		take_answer(delivery);
	}
	MemoryContextSwitchTo(old);
}

/*
 * A provider that hangs keeps its slots for as long as its time-out: then a
 * call to another one must still find a free slot.  So an account gets an
 * equal part of the slots as soon as several are at work, and alone it leaves
 * a few to each of those that are idle.
 */
#define IDLE_SHARE 8 /* an eighth */

QUERY(
	has_work,
	"SELECT FROM billing.outbox WHERE provider = $1 AND account = $2 AND state IN ('queued', 'unknown') "
	"AND next_attempt_at <= clock_timestamp() LIMIT 1",
	TEXTOID, TEXTOID);

static bool
over_network(const Account *account)
{
	return account->module->embedded == NULL;
}

static int
slots_per_account(List *accounts)
{
	int all = 0;
	int busy = 0;
	ListCell *cell;

	foreach (cell, accounts)
		all += over_network(lfirst(cell));
	if (all <= 1)
		return http_max_in_flight;
	foreach (cell, accounts)
	{
		const Account *account = lfirst(cell);

		if (over_network(account) &&
			(pace_in_flight(pace_of(account)) > 0 ||
			 RUN(has_work, arg_text(account->provider), arg_text(account->account)) > 0))
			busy++;
	}
	busy = Max(busy, 1);
	return Max(
		1, Max(http_max_in_flight / all,
			   Min(http_max_in_flight / busy,
				   http_max_in_flight - (all - busy) * Max(1, http_max_in_flight / IDLE_SHARE))));
}

/* How many requests of the account may be claimed; embedded ones need no slot. */
static int
room_for(const Account *account, int share, int free_slots)
{
	AccountPace *pace = pace_of(account);

	if (!over_network(account))
		return http_max_in_flight;
	return Min(Min(free_slots, share - pace_in_flight(pace)), pace_allowance(pace));
}

int
delivery_claim(void)
{
	int free_slots = http_free_slots();
	List *accounts;
	List *ready = NIL;
	ListCell *cell;
	int share;
	int count;

	if (list_length(answered) >= http_max_in_flight || !key_there() || !unit_begin())
		return 0;
	accounts = accounts_runnable();
	share = slots_per_account(accounts);
	foreach (cell, accounts)
	{
		const Account *account = lfirst(cell);
		int room = room_for(account, share, free_slots);

		if (room > 0)
		{
			List *more = claim_account(account, room);
			MemoryContext old = MemoryContextSwitchTo(delivery_memory);

			if (over_network(account))
				free_slots -= list_length(more);
			ready = list_concat(ready, more);
			list_free(more);
			MemoryContextSwitchTo(old);
		}
	}
	if (ready != NIL)
		lease_all(ready);
	unit_commit();
	foreach (cell, ready)
		send_delivery(lfirst(cell));
	count = list_length(ready);
	list_free(ready);
	return count;
}

/* ---- apply ---- */

static void
collect_network(void)
{
	HttpDone done[64];
	int count;

	while ((count = http_collect(done, lengthof(done))) > 0)
	{
		for (int i = 0; i < count; i++)
		{
			Delivery *delivery = done[i].owner;

			delivery->done = done[i];
			delivery->response = done[i].response;
			take_answer(delivery);
		}
	}
}

static void
delivery_free(Delivery *delivery)
{
	if (delivery->done.owner != NULL)
		http_release(&delivery->done);
	pace_released(delivery->pace);
	MemoryContextDelete(delivery->memory);
	in_flight--;
}

int
delivery_complete(void)
{
	List *batch;
	ListCell *cell;
	int count;

	collect_network();
	if (answered == NIL || !key_there() || !unit_begin())
		return 0;
	batch = answered;
	if (settle_batch(batch, &lease_token))
		stored_answers = true;
	foreach (cell, batch)
	{
		Delivery *delivery = lfirst(cell);

		pace_answered(delivery->pace, &delivery->response);
	}
	pace_note();
	unit_commit();
	answered = NIL;
	foreach (cell, batch)
		delivery_free(lfirst(cell));
	count = list_length(batch);
	list_free(batch);
	return count;
}

/* The provider's call as it was when the answer came; its arguments are completed again. */
static void
prepare_stored(void *context)
{
	Preparation *p = context;
	Delivery *delivery = p->delivery;
	OutboxRow *row = &delivery->row;

	read_row(delivery, p->rows, p->index);
	p->account = account_get(row->provider, row->account);
	delivery->account = account_public(p->account);
	delivery->module = p->account->module;
	thaw_answer(row->id, row->answer, &delivery->response);
	p->description = operation_traits(row->operation)->describe(row);
	delivery->call = (ProviderCall){
		.operation = row->operation,
		.step = row->step,
		.reference = uuid_text(row->object_id),
		.request_id = uuid_text(row->id),
		.arguments = p->description.readiness == READY ? p->description.arguments : row->arguments,
		.carry = row->carry,
		.sent_at = row->sent_at,
		.last_error = row->error_code,
		.account = delivery->account,
	};
}

QUERY(take_over,
	  "UPDATE billing.outbox SET lease_token = $2, "
	  "leased_until = clock_timestamp() + interval '1 minute' WHERE id = $1",
	  UUIDOID, UUIDOID);

/* NULL when its answer cannot be read now, or not at all: then the request is dead. */
static Delivery *
load_stored(Rows rows, int64 i)
{
	Delivery *delivery = delivery_new();
	MemoryContext old = MemoryContextSwitchTo(delivery->memory);
	Preparation p = {.delivery = delivery, .rows = rows, .index = i, .prepare = prepare_stored};
	pg_uuid_t *id = rows_uuid(rows, i, 1);
	char *sqlstate;
	char *message;
	bool ok = guarded(prepare_as_cause, &p, &sqlstate, &message);

	MemoryContextSwitchTo(old);
	RUN(take_over, arg_uuid(id), arg_uuid(&lease_token));
	if (ok)
	{
		delivery->stored = true;
		return delivery;
	}
	if (!sqlstate_passes(sqlstate))
		give_up(id, sqlstate, message);
	MemoryContextDelete(delivery->memory);
	return NULL;
}

int
delivery_apply_stored(void)
{
	List *batch = NIL;
	Rows rows;
	ListCell *cell;
	bool locked;
	bool more;

	if (!stored_answers || !key_there() || !unit_begin())
		return 0;
	more = RUN(stored, arg_uuid(&lease_token), arg_int(http_max_in_flight)) == http_max_in_flight;
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows); i++)
	{
		Delivery *delivery = load_stored(rows, i);

		if (delivery != NULL)
			batch = lappend(batch, delivery);
	}
	locked = batch != NIL && settle_batch(batch, &lease_token);
	foreach (cell, batch)
		MemoryContextDelete(((Delivery *) lfirst(cell))->memory);
	unit_commit();
	stored_answers = locked || more;
	return locked ? 0 : list_length(batch);
}

void
delivery_expect_stored(void)
{
	stored_answers = true;
}

bool
delivery_has_stored(void)
{
	return stored_answers;
}

/* ---- time ---- */

QUERY(next_due,
	  "SELECT min(next_attempt_at) FROM billing.outbox "
	  "WHERE provider = $1 AND account = $2 AND state IN ('queued', 'unknown')",
	  TEXTOID, TEXTOID);

/* What is due before its account may send waits for the account. */
static TimestampTz
due_at(const Account *account, TimestampTz due, int share)
{
	AccountPace *pace = pace_of(account);
	TimestampTz ready;

	if (due == 0 || !over_network(account))
		return due;
	/* with every slot taken, or a probe under way, the next answer is what to wait for */
	if (http_free_slots() == 0 || pace_in_flight(pace) >= share)
		return 0;
	ready = pace_ready_at(pace);
	if (ready == 0 && pace_allowance(pace) == 0)
		return 0;
	if (ready > due)
	{
		held = true;
		filling = filling || pace_only_filling(pace);
	}
	return Max(due, ready);
}

long
delivery_next_due(void)
{
	TimestampTz earliest = 0;
	TimestampTz now = GetCurrentTimestamp();
	List *accounts;
	ListCell *cell;
	int share;

	filling = false;
	held = false;
	if (!keys_available() || !unit_begin())
		return -1;
	accounts = accounts_runnable();
	share = slots_per_account(accounts);
	foreach (cell, accounts)
	{
		const Account *account = lfirst(cell);
		TimestampTz due;

		RUN(next_due, arg_text(account->provider), arg_text(account->account));
		due = due_at(account, row_time(0, 1), share);
		if (due != 0 && (earliest == 0 || due < earliest))
			earliest = due;
	}
	unit_commit();
	return earliest == 0 ? -1 : earliest <= now ? 0 : (long) ((earliest - now) / 1000) + 1;
}

bool
delivery_held(void)
{
	return held;
}

bool
delivery_filling(void)
{
	return filling;
}

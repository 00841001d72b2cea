/*-------------------------------------------------------------------------
 *
 * usage_forward.c
 *	  Finds the hours whose usage a provider has to be told, and enqueues it.
 *
 * The rollup marks the hours that it changes.  A mark is due some minutes
 * (usage_forward_delay) after its hour is over, or after a late event; what
 * came in by then is one call.  An hour that a billing period cuts is two: the
 * part before the edge goes with this hour, the part after it with the next
 * one, so that each hour is of one period.  Some minutes before a period ends
 * all that is known of it is told, and again after its end; a provider that
 * bills an hour after the end has it by then.
 *
 * To forward an hour, its mark is removed first and its usage read afterwards,
 * totals and tail: whatever comes later leaves a new mark.  What it comes to is
 * another revision, kept with the request that tells it in one transaction;
 * there is never more than one revision on its way.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "access/table.h"
#include "check.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "json.h"
#include "unit.h"
#include "usage.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

/* Organisations of one run, so that none lasts long. */
#define RUN_ORGANIZATIONS 100

/* Events of one call, where a provider takes several. */
#define BATCH_MAX 100

/* ------------------------------------------------------------------------
 * Marks
 * ------------------------------------------------------------------------
 */
QUERY(any_forwarding, "SELECT FROM billing.usage_forwarding WHERE enabled LIMIT 1", InvalidOid);
QUERY(mark_hours, "SELECT billing.mark_forwarding($1, $2, $3)", TEXTARRAYOID, TEXTARRAYOID,
	  TIMESTAMPTZARRAYOID);

void
usage_forwarding_touched(Arg organization_ids, Arg metrics, Arg buckets)
{
	if (RUN(any_forwarding, arg_null()) > 0)
		RUN(mark_hours, organization_ids, metrics, buckets);
}

QUERY(put_mark,
	  "INSERT INTO billing.usage_forward_marks (organization_id, metric, hour, due_at) "
	  "VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

/* What is known of a period that is about to end is told while it lasts. */
QUERY(
	flush_periods,
	"WITH ending AS (UPDATE billing.usage_forward_periods AS p SET flushed_at = now() "
	"WHERE p.flushed_at IS NULL AND p.ends_at <= coalesce((SELECT k.now FROM billing.sandbox_clocks AS k "
	"WHERE k.organization_id = p.organization_id), now()) + make_interval(secs => $1) RETURNING p.*) "
	"UPDATE billing.usage_forward_marks AS m SET due_at = '-infinity' FROM ending AS p "
	"WHERE m.organization_id = p.organization_id AND m.hour < p.ends_at "
	"AND m.hour >= date_trunc('hour', p.ends_at, 'UTC') - interval '1 hour'",
	FLOAT8OID);

/* By its clock, an organisation that has one is due at another time. */
QUERY_IN_ORDER(
	due_organizations,
	"SELECT organization_id FROM ("
	"(SELECT m.organization_id, m.due_at FROM billing.usage_forward_marks AS m WHERE m.due_at <= now() "
	"AND NOT EXISTS (SELECT FROM billing.sandbox_clocks AS k WHERE k.organization_id = m.organization_id) "
	"ORDER BY m.due_at LIMIT $1 * 10) UNION ALL "
	"(SELECT m.organization_id, m.due_at FROM billing.sandbox_clocks AS k "
	"JOIN billing.usage_forward_marks AS m ON m.organization_id = k.organization_id WHERE m.due_at <= k.now LIMIT $1 * 10)) AS d "
	"GROUP BY organization_id ORDER BY min(due_at), organization_id LIMIT $1",
	INT8OID);
QUERY(
	take_marks,
	"WITH taken AS (DELETE FROM billing.usage_forward_marks WHERE organization_id = $1 AND due_at <= $2 RETURNING metric, hour) "
	"SELECT metric, hour FROM taken ORDER BY metric, hour",
	TEXTOID, TIMESTAMPTZOID);
QUERY(postpone_marks,
	  "UPDATE billing.usage_forward_marks SET due_at = $2::timestamptz + interval '1 minute' "
	  "WHERE organization_id = $1 AND due_at <= $2",
	  TEXTOID, TIMESTAMPTZOID);

/* ------------------------------------------------------------------------
 * What an hour comes to
 * ------------------------------------------------------------------------
 */
QUERY(hour_range,
	  "SELECT lower(r.span), upper(r.span) FROM billing.usage_hour_range($1, $2) AS r (span)",
	  TEXTOID, TIMESTAMPTZOID);
QUERY(period_start,
	  "SELECT max(starts_at) FROM billing.usage_forward_periods "
	  "WHERE organization_id = $1 AND starts_at < $2",
	  TEXTOID, TIMESTAMPTZOID);

static UsageRange
range_of_hour(const char *organization_id, TimestampTz hour)
{
	READ(hour_range, arg_text(organization_id), arg_datum(TimestampTzGetDatum(hour), false));
	return (UsageRange){row_time(0, 1), row_time(0, 2)};
}

/* A level is that at the end, whenever in the period it was told. */
static Numeric
quantity_of_hour(const char *organization_id, const Meter *meter, const UsageTail *tail,
				 UsageRange hour)
{
	if (meter->aggregation == AGGREGATE_LATEST)
	{
		READ(period_start, arg_text(organization_id), arg_time(hour.end));
		if (!row_null(0, 1))
			hour.start = Min(hour.start, row_time(0, 1));
	}
	return usage_quantity(organization_id, meter, tail, hour);
}

SQL_FUNCTION(billing_forwarded_quantity)
{
	char *organization_id = ARG_TEXT(0);
	char *metric = ARG_TEXT(1);
	const Meter *meter;
	Relation events;
	Datum quantity;
	UsageRange range;

	check_given("organization_id", organization_id != NULL);
	check_given("metric", metric != NULL);
	check_given("hour", !PG_ARGISNULL(2));
	db_open();
	meter = meter_named(metric);
	if (meter == NULL)
		unknown_object("metric", metric, "billing.meters lists them.");
	/* no partition is removed meanwhile */
	events = table_open(usage_tables()->events, AccessShareLock);
	range = range_of_hour(organization_id, PG_GETARG_TIMESTAMPTZ(2));
	quantity = NumericGetDatum(
		quantity_of_hour(organization_id, meter, usage_tail(organization_id), range));
	quantity = SPI_datumTransfer(quantity, false, -1);
	table_close(events, AccessShareLock);
	db_close();
	PG_RETURN_DATUM(quantity);
}

/* ------------------------------------------------------------------------
 * Batches of a run, for providers that take many events at once
 * ------------------------------------------------------------------------
 */
typedef struct UsageBatch
{
	Account *account;
	pg_uuid_t *id;
	int count;
	bool full;
} UsageBatch;

typedef struct ForwardRun
{
	double delay; /* seconds */
	List *batches;
	int told;
	/* of the organisation at hand */
	const char *organization_id;
	TimestampTz now;
	UsageTail *tail;
} ForwardRun;

static UsageBatch *
batch_of(ForwardRun *run, Account *account)
{
	ListCell *cell;
	UsageBatch *batch;

	foreach (cell, run->batches)
	{
		batch = lfirst(cell);
		if (batch->count < BATCH_MAX && strcmp(batch->account->provider, account->provider) == 0 &&
			strcmp(batch->account->account, account->account) == 0)
			return batch;
	}
	batch = palloc0(sizeof(UsageBatch));
	batch->account = account;
	batch->id = new_id();
	run->batches = lappend(run->batches, batch);
	return batch;
}

static void
send_batches(ForwardRun *run)
{
	ListCell *cell;

	foreach (cell, run->batches)
	{
		const UsageBatch *batch = lfirst(cell);

		if (batch->count > 0)
			outbox_enqueue(batch->account, OPERATION_USAGE_INGEST, batch->id, batch->account->id,
						   json_empty(), NULL);
	}
}

/* ------------------------------------------------------------------------
 * One hour, at one provider
 * ------------------------------------------------------------------------
 */
typedef struct Hour
{
	const Meter *meter;
	TimestampTz hour;
	UsageRange range;
	Numeric quantity;
	TimestampTz due_at; /* some minutes after it is over */
	bool keep;          /* its mark */
} Hour;

typedef struct Target
{
	char *provider;
	char *account;
	bool ready; /* the meter is there, and the customer */
	bool differences;
	bool after_close;
	pg_uuid_t *customer_id;
} Target;

/*
 * Where the organisation had a subscription in this hour.  What is in use is
 * locked, so that stop_forwarding() is not overtaken.
 */
QUERY(
	find_targets,
	"SELECT f.provider, f.account, f.state = 'active' AND r.provider_id IS NOT NULL, f.differences, "
	"NOT EXISTS (SELECT FROM billing.usage_forward_periods AS p WHERE p.organization_id = $1 AND p.provider = f.provider "
	"AND p.account = f.account AND p.starts_at < $5 AND (p.ends_at IS NULL OR p.ends_at > greatest($4, $6 - interval '1 hour'))), c.id "
	"FROM billing.usage_forwarding AS f JOIN billing.customers AS c ON c.organization_id = $1 AND c.deleted_at IS NULL "
	"LEFT JOIN billing.provider_refs AS r ON r.object_id = c.id AND r.object_type = 'customer' AND r.provider = f.provider "
	"AND r.account = f.account "
	"WHERE f.metric = $2 AND f.enabled AND f.state <> 'failed' AND f.since <= $3 AND EXISTS (SELECT FROM billing.usage_forward_periods AS p "
	"WHERE p.organization_id = $1 AND p.provider = f.provider AND p.account = f.account AND p.starts_at < $5 "
	"AND (p.ends_at IS NULL OR p.ends_at > $4)) ORDER BY f.provider, f.account FOR SHARE OF f",
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

/* A request that was taken back was never sent; what was refused is in this revision, and not tried again. */
#define OF_HOUR \
	"w.organization_id = $1 AND w.metric = $2 AND w.hour = $3 AND w.provider = $4 AND w.account = $5 "
QUERY(
	detach_failed,
	"UPDATE billing.usage_forwards AS w SET batch = billing.new_id(), state = 'failed', "
	"error_code = coalesce(w.error_code, 'canceled') WHERE " OF_HOUR
	"AND (w.state = 'failed' OR w.state = 'sent' AND EXISTS (SELECT FROM billing.outbox_finished AS o "
	"WHERE o.object_id = w.batch AND o.state = 'canceled') "
	"AND NOT EXISTS (SELECT FROM billing.outbox AS o WHERE o.object_id = w.batch))",
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID);
QUERY(
	read_history,
	"SELECT coalesce(max(w.revision), 0)::int8, (array_agg(w.quantity ORDER BY w.revision DESC) FILTER (WHERE w.state <> 'failed'))[1], "
	"coalesce(sum(w.told) FILTER (WHERE w.state IN ('sent', 'accepted')), 0), coalesce(bool_or(w.state = 'sent'), false) "
	"FROM billing.usage_forwards AS w WHERE " OF_HOUR,
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID);
QUERY(
	insert_revision,
	"INSERT INTO billing.usage_forwards (organization_id, metric, hour, provider, account, revision, quantity, told, state, "
	"after_close, identifier, customer_id, batch) VALUES ($1, $2, $3, $4, $5, $6::int8::integer, $7, $8, $9, $10, $11, $12, $13)",
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, INT8OID, NUMERICOID, NUMERICOID, TEXTOID,
	BOOLOID, TEXTOID, UUIDOID, UUIDOID);
QUERY(too_old, "SELECT $1 < $2 - interval '35 days' + interval '1 hour'", TIMESTAMPTZOID,
	  TIMESTAMPTZOID);

/* Made of what it names, so that it is the same whenever it is made again. */
static char *
identifier_of(const ForwardRun *run, const Hour *hour, const Target *target, int64 revision)
{
	char *text = psprintf("%s\n%s\n%s\n%s\n" INT64_FORMAT "\n" INT64_FORMAT, run->organization_id,
						  hour->meter->metric, target->provider, target->account, hour->hour,
						  revision);
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	char hex[PG_SHA256_DIGEST_LENGTH * 2 + 1];
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	if (pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) text, strlen(text)) < 0 ||
		pg_cryptohash_final(context, digest, sizeof(digest)) < 0)
		elog(ERROR, "an identifier could not be made: %s", pg_cryptohash_error(context));
	pg_cryptohash_free(context);
	hex_encode((const char *) digest, sizeof(digest), hex);
	/* as long as a uuid's text: short for the wire, and long enough */
	hex[36] = '\0';
	return pstrdup(hex);
}

static Arg
arg_number(Numeric value)
{
	return arg_datum(NumericGetDatum(value), false);
}

static Arg
arg_moment(TimestampTz value)
{
	return arg_datum(TimestampTzGetDatum(value), false);
}

typedef struct Revision
{
	int64 number;
	Numeric told;
	const char *state;
	pg_uuid_t *batch;
} Revision;

static void
keep_revision(const ForwardRun *run, const Hour *hour, const Target *target,
			  const Revision *revision)
{
	RUN(insert_revision, arg_text(run->organization_id), arg_text(hour->meter->metric),
		arg_moment(hour->hour), arg_text(target->provider), arg_text(target->account),
		arg_int(revision->number), arg_number(hour->quantity), arg_number(revision->told),
		arg_text(revision->state), arg_bool(target->after_close),
		arg_text(identifier_of(run, hour, target, revision->number)), arg_uuid(target->customer_id),
		arg_uuid(revision->batch));
}

/* A level depends on those before it: the next one that was told may have changed. */
QUERY(
	mark_next,
	"SELECT billing.mark_forwarding(ARRAY[$1], ARRAY[$2], ARRAY[n.hour]) FROM (SELECT min(w.hour) AS hour "
	"FROM billing.usage_forwards AS w WHERE w.organization_id = $1 AND w.metric = $2 AND w.hour > $3) AS n WHERE n.hour IS NOT NULL",
	TEXTOID, TEXTOID, TIMESTAMPTZOID);

static void
send_revision(ForwardRun *run, const Hour *hour, const Target *target, Revision *revision)
{
	Account *account = account_get(target->provider, target->account);
	UsageBatch *batch;

	revision->state = "sent";
	run->told++;
	if (target->differences)
	{
		batch = batch_of(run, account);
		batch->count++;
		revision->batch = batch->id;
		keep_revision(run, hour, target, revision);
		return;
	}
	revision->batch = new_id();
	keep_revision(run, hour, target, revision);
	outbox_enqueue(account, OPERATION_USAGE_REPORT, revision->batch, target->customer_id,
				   json_empty(), NULL);
}

static bool
is_too_old(const ForwardRun *run, const Hour *hour)
{
	RUN(too_old, arg_moment(hour->hour), arg_moment(run->now));
	return row_bool(0, 1);
}

static void
forward_to(ForwardRun *run, Hour *hour, const Target *target)
{
	Arg organization_id = arg_text(run->organization_id);
	Arg metric = arg_text(hour->meter->metric);
	Arg provider = arg_text(target->provider);
	Arg account = arg_text(target->account);
	Revision revision = {0};
	Numeric before;
	Numeric told;
	bool isnull;

	if (!target->ready)
	{
		hour->keep = true;
		return;
	}
	RUN(detach_failed, organization_id, metric, arg_moment(hour->hour), provider, account);
	RUN(read_history, organization_id, metric, arg_moment(hour->hour), provider, account);
	revision.number = row_int(0, 1) + 1;
	before = row_null(0, 2) ? int64_to_numeric(0)
							: DatumGetNumeric(rows_datum(SPI_tuptable, 0, 2, &isnull));
	told = DatumGetNumeric(rows_datum(SPI_tuptable, 0, 3, &isnull));
	if (row_bool(0, 4))
	{
		hour->keep = true;
		return;
	}
	if (numeric_order(before, hour->quantity) == 0)
		return;
	revision.told = target->differences ? numeric_minus(hour->quantity, told) : hour->quantity;
	if (is_too_old(run, hour))
	{
		revision.state = "too_old";
		revision.batch = new_id();
		keep_revision(run, hour, target, &revision);
	}
	else
		send_revision(run, hour, target, &revision);
	if (hour->meter->aggregation == AGGREGATE_LATEST)
		RUN(mark_next, organization_id, metric, arg_moment(hour->hour));
}

static Hour
hour_at(const ForwardRun *run, const Meter *meter, TimestampTz at)
{
	Hour hour = {.meter = meter, .hour = at};

	hour.range = range_of_hour(run->organization_id, at);
	hour.due_at = hour.range.end + (int64) (run->delay * USECS_PER_SEC);
	return hour;
}

static void forward_hour(ForwardRun *run, Hour *hour);

/* What comes after the edge in an hour is told with the next one. */
static void
forward_rest(ForwardRun *run, const Hour *cut)
{
	Hour next = hour_at(run, cut->meter, cut->hour + USECS_PER_HOUR);

	if (run->now >= next.due_at)
		forward_hour(run, &next);
	else
		RUN(put_mark, arg_text(run->organization_id), arg_text(next.meter->metric),
			arg_moment(next.hour), arg_moment(next.due_at));
}

static void
forward_hour(ForwardRun *run, Hour *hour)
{
	Rows targets;

	if (hour->range.end < hour->hour + USECS_PER_HOUR)
		forward_rest(run, hour);
	if (RUN(find_targets, arg_text(run->organization_id), arg_text(hour->meter->metric),
			arg_moment(hour->hour), arg_moment(hour->range.start), arg_moment(hour->range.end),
			arg_moment(run->now)) == 0)
		return;
	targets = rows_keep();
	hour->quantity = quantity_of_hour(run->organization_id, hour->meter, run->tail, hour->range);
	for (int64 i = 0; i < rows_count(targets); i++)
	{
		Target target = {rows_text(targets, i, 1), rows_text(targets, i, 2),
						 rows_bool(targets, i, 3), rows_bool(targets, i, 4),
						 rows_bool(targets, i, 5), rows_uuid(targets, i, 6)};

		forward_to(run, hour, &target);
	}
	if (hour->keep || run->now < hour->due_at)
		RUN(put_mark, arg_text(run->organization_id), arg_text(hour->meter->metric),
			arg_moment(hour->hour), arg_moment(hour->keep ? run->now : hour->due_at));
}

/* ------------------------------------------------------------------------
 * A run
 * ------------------------------------------------------------------------
 */
static void
forward_organization(void *context)
{
	ForwardRun *run = context;
	Rows marks;

	RUN(take_marks, arg_text(run->organization_id), arg_moment(run->now));
	marks = rows_keep();
	/* after the marks: what it does not see leaves new ones */
	PushActiveSnapshot(GetLatestSnapshot());
	run->tail = usage_tail(run->organization_id);
	for (int64 i = 0; i < rows_count(marks); i++)
	{
		const Meter *meter = meter_named(rows_text(marks, i, 1));
		Hour hour = {0};

		if (meter == NULL)
			continue;
		hour = hour_at(run, meter, rows_time(marks, i, 2));
		forward_hour(run, &hour);
	}
	PopActiveSnapshot();
}

/* One organisation whose row is held by a session holds up no other. */
static void
forward_guarded(ForwardRun *run)
{
	char *sqlstate;
	char *message;

	run->now = clock_now(run->organization_id);
	if (guarded(forward_organization, run, &sqlstate, &message))
		return;
	RUN(postpone_marks, arg_text(run->organization_id), arg_moment(run->now));
	if (!sqlstate_passes(sqlstate))
		ereport(LOG, (errmsg("usage of organization \"%s\" cannot be forwarded: %s",
							 run->organization_id, message)));
}

static void
forward_due(void *context)
{
	ForwardRun run = {.delay = setting_seconds("usage_forward_delay", 300)};
	Relation events;
	Rows due;

	if (!usage_tables()->bound || RUN(any_forwarding, arg_null()) == 0)
		return;
	RUN(flush_periods, arg_datum(Float8GetDatum(run.delay), false));
	if (RUN(due_organizations, arg_int(RUN_ORGANIZATIONS)) == 0)
		return;
	due = rows_keep();
	/* no partition is removed meanwhile */
	events = table_open(usage_tables()->events, AccessShareLock);
	for (int64 i = 0; i < rows_count(due); i++)
	{
		run.organization_id = rows_text(due, i, 1);
		forward_guarded(&run);
	}
	table_close(events, AccessShareLock);
	send_batches(&run);
	*(int *) context = run.told;
}

int
usage_forward(void)
{
	int told = 0;

	return unit_run(forward_due, &told, "forward usage") ? told : 0;
}

/*-------------------------------------------------------------------------
 *
 * usage_rollup.c
 *	  Moves the tail of usage_events into the tables of totals.
 *
 * A run takes the row of the state, then a snapshot; what this snapshot sees
 * and the mark in the row does not have is added up in memory and written
 * together with the new mark.  The mark is cut at a transaction number, so
 * that a run stays short however long the tail is; transactions below it that
 * are still open stay named in it, and hold nothing else up.
 *
 * What later events can change in other ways than by adding (a level that is
 * voided, an average over time) is added up again from the events of its
 * quarter of an hour.
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "access/transam.h"
#include "access/xact.h"
#include "accounts.h"
#include "columns.h"
#include "common/hashfn.h"
#include "subjects.h"
#include "unit.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Groups that are kept in memory before they are written. */
#define GROUPS_MAX 20000

/* How many transactions a run looks at; follows the time that a run takes. */
#define WINDOW_FIRST 20000
#define WINDOW_MIN   500
#define WINDOW_MAX   10000000
#define RUN_SHORT_MS 100
#define RUN_LONG_MS  400

/* Nobody tells the worker of usage: the tail that readers add is about so long. */
#define ROLLUP_INTERVAL_MS 1000

typedef struct TotalGroup
{
	struct TotalGroup *next; /* of the same slot */
	uint32 hash;
	text *organization_id;
	const Meter *meter;
	TimestampTz bucket;
	Jsonb *dimensions;
	text *value; /* of unique, in the table of values; else NULL */
	Fold fold;
} TotalGroup;

typedef struct GroupTable
{
	TotalGroup **slots;
	uint32 slot_count; /* a power of 2 */
	uint32 count;
} GroupTable;

typedef struct Run
{
	MemoryContext memory;
	UsageMark before;
	UsageMark after;
	GroupTable totals;
	GroupTable values;
	GroupTable again; /* quarters of an hour that are added up from the events */
	Jsonb *no_dimensions;
	int64 events;
} Run;

/* ------------------------------------------------------------------------
 * Groups
 * ------------------------------------------------------------------------
 */
static void
groups_clear(GroupTable *table)
{
	table->slot_count = 1024;
	table->count = 0;
	table->slots = palloc0(sizeof(TotalGroup *) * table->slot_count);
}

static void
groups_grow(GroupTable *table)
{
	uint32 slot_count = table->slot_count * 4;
	TotalGroup **slots = palloc0(sizeof(TotalGroup *) * slot_count);

	for (uint32 i = 0; i < table->slot_count; i++)
	{
		TotalGroup *next;

		for (TotalGroup *group = table->slots[i]; group != NULL; group = next)
		{
			next = group->next;
			group->next = slots[group->hash & (slot_count - 1)];
			slots[group->hash & (slot_count - 1)] = group;
		}
	}
	pfree(table->slots);
	table->slots = slots;
	table->slot_count = slot_count;
}

static uint32
hash_varlena(const void *value)
{
	return value == NULL
			   ? 0
			   : hash_bytes((const unsigned char *) VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

static bool
same_varlena(const void *a, const void *b)
{
	if (a == b)
		return true;
	if (a == NULL || b == NULL)
		return false;
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

static void *
copy_varlena(const void *value)
{
	void *copy;

	if (value == NULL)
		return NULL;
	copy = palloc(VARSIZE_ANY(value));
	memcpy(copy, value, VARSIZE_ANY(value));
	return copy;
}

/* The rules may have been read again meanwhile. */
static bool
is_meter(const Meter *a, const Meter *b)
{
	return a == b || strcmp(a->metric, b->metric) == 0;
}

static TotalGroup *
group_of(GroupTable *table, const TotalGroup *wanted)
{
	uint32 hash = hash_varlena(wanted->organization_id);
	TotalGroup *group;

	hash = hash_combine(hash, hash_bytes_uint32((uint32) (wanted->bucket / USAGE_BUCKET)));
	hash = hash_combine(hash, hash_bytes((const unsigned char *) wanted->meter->metric,
										 strlen(wanted->meter->metric)));
	if (wanted->meter->dimension_count > 0)
		hash = hash_combine(hash, hash_varlena(wanted->dimensions));
	if (wanted->value != NULL)
		hash = hash_combine(hash, hash_varlena(wanted->value));
	for (group = table->slots[hash & (table->slot_count - 1)]; group != NULL; group = group->next)
	{
		if (group->hash == hash && group->bucket == wanted->bucket &&
			is_meter(group->meter, wanted->meter) &&
			same_varlena(group->organization_id, wanted->organization_id) &&
			same_varlena(group->dimensions, wanted->dimensions) &&
			same_varlena(group->value, wanted->value))
			return group;
	}
	if (table->count >= table->slot_count)
		groups_grow(table);
	group = palloc0(sizeof(TotalGroup));
	*group = *wanted;
	group->hash = hash;
	group->organization_id = copy_varlena(wanted->organization_id);
	if (wanted->meter->dimension_count > 0)
		group->dimensions = copy_varlena(wanted->dimensions);
	group->value = copy_varlena(wanted->value);
	group->next = table->slots[hash & (table->slot_count - 1)];
	table->slots[hash & (table->slot_count - 1)] = group;
	table->count++;
	return group;
}

/* All of them, in an array; for the arguments of a query. */
static TotalGroup **
groups_list(const GroupTable *table)
{
	TotalGroup **list = palloc(sizeof(TotalGroup *) * Max(table->count, 1));
	uint32 count = 0;

	for (uint32 i = 0; i < table->slot_count; i++)
	{
		for (TotalGroup *group = table->slots[i]; group != NULL; group = group->next)
			list[count++] = group;
	}
	return list;
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------
 */
QUERY(
	write_totals,
	"INSERT INTO billing.usage_totals AS t (organization_id, metric, bucket, dimensions, sum, events, largest, "
	"first_at, latest_at, latest_id, latest, area) "
	"SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) "
	"ON CONFLICT (organization_id, metric, bucket, dimensions) DO UPDATE SET "
	"sum = t.sum + excluded.sum, events = t.events + excluded.events, "
	"largest = greatest(t.largest, excluded.largest), first_at = least(t.first_at, excluded.first_at), "
	"(latest_at, latest_id, latest) = (SELECT CASE WHEN later THEN excluded.latest_at ELSE t.latest_at END, "
	"CASE WHEN later THEN excluded.latest_id ELSE t.latest_id END, CASE WHEN later THEN excluded.latest ELSE t.latest END "
	"FROM (SELECT t.latest_at IS NULL OR (excluded.latest_at, excluded.latest_id) > (t.latest_at, t.latest_id) AS later) AS l)",
	TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID, NUMERICARRAYOID, INT8ARRAYOID,
	NUMERICARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, UUIDARRAYOID, NUMERICARRAYOID,
	NUMERICARRAYOID);
QUERY(
	write_values,
	"INSERT INTO billing.usage_values AS v (organization_id, metric, bucket, dimensions, value, events) "
	"SELECT * FROM unnest($1, $2, $3, $4, $5, $6) "
	"ON CONFLICT (organization_id, metric, bucket, dimensions, value) DO UPDATE SET "
	"events = v.events + excluded.events",
	TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID, TEXTARRAYOID, INT8ARRAYOID);

/* The columns that both tables have. */
typedef struct Keys
{
	Column organization_id;
	Column metric;
	Column bucket;
	Column dimensions;
} Keys;

static Keys
keys_of(TotalGroup *const *list, uint32 count)
{
	Keys keys = {COLUMN_TEXT(count), COLUMN_TEXT(count), COLUMN_TIME(count), COLUMN_JSON(count)};

	for (uint32 i = 0; i < count; i++)
	{
		column_pointer(&keys.organization_id, i, list[i]->organization_id);
		keys.metric.values[i] = CStringGetTextDatum(list[i]->meter->metric);
		keys.bucket.values[i] = TimestampTzGetDatum(list[i]->bucket);
		column_pointer(&keys.dimensions, i, list[i]->dimensions);
	}
	return keys;
}

/* The same where the quarters of an hour were empty before. */
QUERY_CUSTOM(
	put_totals,
	"INSERT INTO billing.usage_totals (organization_id, metric, bucket, dimensions, sum, events, largest, "
	"first_at, latest_at, latest_id, latest, area) "
	"SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
	TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID, NUMERICARRAYOID, INT8ARRAYOID,
	NUMERICARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, UUIDARRAYOID, NUMERICARRAYOID,
	NUMERICARRAYOID);
QUERY_CUSTOM(
	put_values,
	"INSERT INTO billing.usage_values (organization_id, metric, bucket, dimensions, value, events) "
	"SELECT * FROM unnest($1, $2, $3, $4, $5, $6)",
	TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID, TEXTARRAYOID, INT8ARRAYOID);

static void
write_total_groups(SqlQuery *query, GroupTable *table)
{
	uint32 count = table->count;
	TotalGroup **list = groups_list(table);
	Keys keys = keys_of(list, count);
	Column sum = COLUMN_NUMBER(count);
	Column events = COLUMN_INT(count);
	Column largest = COLUMN_NUMBER(count);
	Column first_at = COLUMN_TIME(count);
	Column latest_at = COLUMN_TIME(count);
	Column latest_id = COLUMN_UUID(count);
	Column latest = COLUMN_NUMBER(count);
	Column area = COLUMN_NUMBER(count);

	if (count == 0)
		return;
	for (uint32 i = 0; i < count; i++)
	{
		Fold *fold = &list[i]->fold;
		bool none = fold->latest == NULL;

		column_pointer(&sum, i, fold_sum(fold));
		events.values[i] = Int64GetDatum(fold->events);
		column_pointer(&largest, i, fold->largest);
		first_at.values[i] = TimestampTzGetDatum(fold->first_at);
		latest_at.values[i] = TimestampTzGetDatum(fold->latest_at);
		first_at.nulls[i] = latest_at.nulls[i] = none;
		column_pointer(&latest_id, i, none ? NULL : &fold->latest_id);
		column_pointer(&latest, i, fold->latest);
		column_pointer(&area, i, fold->area);
	}
	RUN(*query, column_arg(&keys.organization_id, count), column_arg(&keys.metric, count),
		column_arg(&keys.bucket, count), column_arg(&keys.dimensions, count),
		column_arg(&sum, count), column_arg(&events, count), column_arg(&largest, count),
		column_arg(&first_at, count), column_arg(&latest_at, count), column_arg(&latest_id, count),
		column_arg(&latest, count), column_arg(&area, count));
}

static void
write_value_groups(SqlQuery *query, GroupTable *table)
{
	uint32 count = table->count;
	TotalGroup **list = groups_list(table);
	Keys keys = keys_of(list, count);
	Column value = COLUMN_TEXT(count);
	Column events = COLUMN_INT(count);

	if (count == 0)
		return;
	for (uint32 i = 0; i < count; i++)
	{
		column_pointer(&value, i, list[i]->value);
		events.values[i] = Int64GetDatum(list[i]->fold.events);
	}
	RUN(*query, column_arg(&keys.organization_id, count), column_arg(&keys.metric, count),
		column_arg(&keys.bucket, count), column_arg(&keys.dimensions, count),
		column_arg(&value, count), column_arg(&events, count));
}

/* ------------------------------------------------------------------------
 * Adding up
 * ------------------------------------------------------------------------
 */
static TotalGroup
group_key(Run *run, const UsageEvent *event, const Meter *meter)
{
	TotalGroup wanted = {0};

	wanted.organization_id = event->organization_id;
	wanted.meter = meter;
	wanted.bucket = usage_bucket(event->occurred_at);
	wanted.dimensions = run->no_dimensions;
	if (meter->dimension_count > 0 && event->properties != NULL)
		wanted.dimensions = meter_dimensions(meter,
											 DatumGetJsonbP(PointerGetDatum(event->properties)));
	return wanted;
}

static void
add_value(Run *run, const UsageEvent *event, TotalGroup wanted)
{
	if (event->kind == 'c' || event->properties == NULL)
		return;
	wanted.value = meter_value(wanted.meter, DatumGetJsonbP(PointerGetDatum(event->properties)));
	if (wanted.value != NULL)
		group_of(&run->values, &wanted)->fold.events += event->kind == 'u' ? 1 : -1;
}

static bool
has_levels(const Meter *meter)
{
	return meter->aggregation == AGGREGATE_MAX || meter->aggregation == AGGREGATE_LATEST ||
		   meter->aggregation == AGGREGATE_WEIGHTED;
}

static void
write_groups(Run *run)
{
	write_total_groups(&write_totals, &run->totals);
	write_value_groups(&write_values, &run->values);
	groups_clear(&run->totals);
	groups_clear(&run->values);
}

static void
add_event(const UsageEvent *event, void *context)
{
	Run *run = context;
	MemoryContext old = MemoryContextSwitchTo(run->memory);
	const Meter *meter = meter_find(event->metric);
	TotalGroup wanted;
	TotalGroup *group;

	if (meter == NULL)
		elog(ERROR, "there is usage of metric \"%s\", which is unknown",
			 text_to_cstring(event->metric));
	run->events++;
	wanted = group_key(run, event, meter);
	if (has_levels(meter) && (event->kind != 'u' || meter->aggregation == AGGREGATE_WEIGHTED))
	{
		/* of the whole quarter of an hour, all dimensions */
		wanted.dimensions = run->no_dimensions;
		(void) group_of(&run->again, &wanted);
		MemoryContextSwitchTo(old);
		return;
	}
	group = group_of(&run->totals, &wanted);
	fold_event(&group->fold, event);
	if (has_levels(meter))
		fold_level(&group->fold, event->occurred_at, &event->id, event->quantity);
	if (meter->aggregation == AGGREGATE_UNIQUE)
		add_value(run, event, wanted);
	if (run->totals.count + run->values.count >= GROUPS_MAX)
		write_groups(run);
	MemoryContextSwitchTo(old);
}

/* ------------------------------------------------------------------------
 * Adding up again
 * ------------------------------------------------------------------------
 */
QUERY(remove_totals,
	  "DELETE FROM billing.usage_totals WHERE organization_id = $1 AND metric = $2 AND bucket = $3",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID);

typedef struct Again
{
	const UsageMark *mark;
	Levels *levels;
} Again;

static void
add_marked(const UsageEvent *event, void *context)
{
	Again *again = context;

	if (mark_has(again->mark, event->recorded_in))
		levels_add(event, again->levels);
}

static void
add_up_again(Run *run, const TotalGroup *quarter)
{
	char *organization_id = text_to_cstring(quarter->organization_id);
	Again again = {&run->after, levels_new()};
	GroupTable groups;
	Level **levels;
	int64 count;

	usage_scan_time(organization_id, quarter->meter->metric, quarter->bucket,
					quarter->bucket + USAGE_BUCKET, add_marked, &again);
	levels = levels_sorted(again.levels, &count);
	groups_clear(&groups);
	for (int64 i = 0; i < count; i++)
	{
		UsageEvent event = {.occurred_at = levels[i]->at,
							.organization_id = quarter->organization_id,
							.quantity = levels[i]->quantity,
							.kind = 'u',
							.properties = levels[i]->properties};
		TotalGroup wanted = group_key(run, &event, quarter->meter);
		Fold *fold = &group_of(&groups, &wanted)->fold;

		fold_event(fold, &event);
		fold_level(fold, levels[i]->at, &levels[i]->id, levels[i]->quantity);
	}
	RUN(remove_totals, arg_text(organization_id), arg_text(quarter->meter->metric),
		arg_datum(TimestampTzGetDatum(quarter->bucket), false));
	write_total_groups(&write_totals, &groups);
}

/* ------------------------------------------------------------------------
 * On shards: quarters of an hour with marks, added up from their events
 * ------------------------------------------------------------------------
 */
/* The largest number that a run takes. */
#define QUARTERS_MAX 200
/* A quarter of an hour is added up once it is over; readers add up the present one themselves. */
#define QUARTER_OVER "now() - interval '16 minutes'"

QUERY_CUSTOM(past_quarters,
			 "SELECT organization_id, metric, bucket, array_agg(id) FROM billing.usage_dirty "
			 "WHERE bucket < $1 GROUP BY organization_id, metric, bucket LIMIT $2",
			 TIMESTAMPTZOID, INT8OID);
QUERY(quarter_over, "SELECT " QUARTER_OVER, InvalidOid);
QUERY(note_run, "UPDATE billing.usage_rollup_state SET rolled_up_at = now()", InvalidOid);
QUERY(remove_values,
	  "DELETE FROM billing.usage_values WHERE organization_id = $1 AND metric = $2 AND bucket = $3",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID);
QUERY(remove_marks,
	  "DELETE FROM billing.usage_dirty WHERE organization_id = $1 AND metric = $2 AND bucket = $3 "
	  "AND id = ANY ($4)",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID, UUIDARRAYOID);

static void
add_corrected(Run *run, const Meter *meter, text *organization_id, const Level *level)
{
	UsageEvent event = {.occurred_at = level->at,
						.organization_id = organization_id,
						.quantity = level->quantity,
						.kind = 'u',
						.properties = level->properties};
	TotalGroup wanted = group_key(run, &event, meter);
	Fold *fold = &group_of(&run->totals, &wanted)->fold;

	fold_event(fold, &event);
	if (has_levels(meter))
		fold_level(fold, level->at, &level->id, level->quantity);
	if (meter->aggregation == AGGREGATE_UNIQUE)
		add_value(run, &event, wanted);
}

/*
 * The marks were seen before the events are read, so the events of each of
 * them are among these; there may be more, whose marks stay.
 */
static void
add_up_quarter(Run *run, const char *organization_id, const Meter *meter, TimestampTz bucket,
			   Datum marks)
{
	Arg at = arg_datum(TimestampTzGetDatum(bucket), false);
	Arg organization = arg_text(organization_id);
	Arg metric = arg_text(meter->metric);
	Levels *levels = levels_new();
	Level **sorted;
	int64 count;

	usage_scan_time(organization_id, meter->metric, bucket, bucket + USAGE_BUCKET, levels_add,
					levels);
	sorted = levels_sorted(levels, &count);
	for (int64 i = 0; i < count; i++)
		add_corrected(run, meter, DatumGetTextPP(organization.value), sorted[i]);
	RUN(remove_totals, organization, metric, at);
	if (meter->aggregation == AGGREGATE_UNIQUE)
		RUN(remove_values, organization, metric, at);
	RUN(remove_marks, organization, metric, at, arg_datum(marks, false));
}

/* True when there are more of them. A session that asks for it has the present one added up, too. */
static bool
move_quarters(Run *run)
{
	TimestampTz until = DT_NOEND;
	int64 count;
	Rows rows;

	if (!unit_in_session())
	{
		RUN(quarter_over, arg_null());
		until = row_time(0, 1);
	}
	count = RUN(past_quarters, arg_datum(TimestampTzGetDatum(until), false), arg_int(QUARTERS_MAX));
	rows = rows_keep();
	for (int64 i = 0; i < count; i++)
	{
		char *metric = rows_text(rows, i, 2);
		const Meter *meter = meter_named(metric);
		bool isnull;

		if (meter == NULL)
			elog(ERROR, "there is usage of metric \"%s\", which is unknown", metric);
		add_up_quarter(run, rows_text(rows, i, 1), meter, rows_time(rows, i, 3),
					   rows_datum(rows, i, 4, &isnull));
	}
	write_total_groups(&put_totals, &run->totals);
	write_value_groups(&put_values, &run->values);
	if (count > 0)
		RUN(note_run, arg_null());
	return count == QUARTERS_MAX;
}

/* ------------------------------------------------------------------------
 * A run
 * ------------------------------------------------------------------------
 */
/* Of a snapshot's 32 bits: at most one wrap behind the next number to be given. */
static int64
widen(TransactionId xid, FullTransactionId next)
{
	uint32 epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return (int64) U64FromFullTransactionId(FullTransactionIdFromEpochAndXid(epoch, xid));
}

/* What the snapshot has seen of the transactions below the limit. */
static UsageMark
mark_of_snapshot(Snapshot snapshot, int64 base, int64 limit)
{
	FullTransactionId next = ReadNextFullTransactionId();
	UsageMark mark = {0};

	mark.until = Min(limit, base + widen(snapshot->xmax, next));
	mark.open = palloc(sizeof(int64) * Max(snapshot->xcnt, 1));
	for (uint32 i = 0; i < snapshot->xcnt; i++)
	{
		int64 transaction = base + widen(snapshot->xip[i], next);

		if (transaction < mark.until)
			mark.open[mark.open_count++] = transaction;
	}
	return mark;
}

/* SKIP LOCKED: one process rolls up at a time. */
QUERY(
	take_state,
	"SELECT base, distributed FROM billing.usage_rollup_state WHERE bound_to = $1 FOR UPDATE SKIP LOCKED",
	TEXTOID);
/* Of shards: whoever asks for it waits for the worker's run, which may take a second. */
QUERY(wait_for_state, "SELECT base FROM billing.usage_rollup_state WHERE bound_to = $1 FOR UPDATE",
	  TEXTOID);
QUERY(write_mark,
	  "UPDATE billing.usage_rollup_state SET seen_until = $1, open = $2, rolled_up_at = now()",
	  INT8OID, INT8ARRAYOID);

static void
put_mark(const UsageMark *mark)
{
	Datum *open = palloc(sizeof(Datum) * Max(mark->open_count, 1));

	for (int i = 0; i < mark->open_count; i++)
		open[i] = Int64GetDatum(mark->open[i]);
	RUN(write_mark, arg_int(mark->until),
		arg_datum(PointerGetDatum(construct_array(open, mark->open_count, INT8OID, sizeof(int64),
												  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)),
				  false));
}

static int64 window = WINDOW_FIRST;

static void
see_event(const UsageEvent *event, void *seen)
{
	*(bool *) seen = true;
}

/* Looked at without a lock: where nothing is used nothing is written. */
static bool
is_there_a_tail(void)
{
	UsageMark mark = usage_mark();
	bool seen = false;

	if (usage_scan_next(&mark) != PG_INT64_MAX)
		return true;
	/* of the open ones alone */
	if (mark.open_count > 0)
		usage_scan_tail(&mark, mark.until, see_event, &seen);
	return seen;
}

/* True when the mark was cut, and there is more. */
static bool
move_tail(Run *run, int64 base)
{
	Snapshot snapshot = GetActiveSnapshot();
	TotalGroup **again;
	int64 next;
	int64 limit = PG_INT64_MAX;

	run->before = usage_mark();
	next = usage_scan_next(&run->before);
	if (next != PG_INT64_MAX)
		limit = next + window;
	run->after = mark_of_snapshot(snapshot, base, limit);
	usage_scan_tail(&run->before, run->after.until, add_event, run);
	write_groups(run);
	again = groups_list(&run->again);
	for (uint32 i = 0; i < run->again.count; i++)
		add_up_again(run, again[i]);
	put_mark(&run->after);
	return run->after.until == limit;
}

static void
follow_time(TimestampTz begin)
{
	long ms = TimestampDifferenceMilliseconds(begin, GetCurrentTimestamp());

	if (ms > RUN_LONG_MS)
		window = Max(window / 2, WINDOW_MIN);
	else if (ms < RUN_SHORT_MS)
		window = Min(window * 2, WINDOW_MAX);
}

typedef struct Duty
{
	bool at_once;
	bool more;
} Duty;

static void
run_clear(Run *run)
{
	run->memory = CurrentMemoryContext;
	run->no_dimensions = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	groups_clear(&run->totals);
	groups_clear(&run->values);
	groups_clear(&run->again);
}

/* Quarters of an hour end seldom: it asks all shards now and then only. */
static void
roll_up_shards(Duty *duty)
{
	static bool left = false;
	SqlQuery *take = unit_in_session() ? &wait_for_state : &take_state;
	Run run = {0};

	if ((!duty->at_once && !left) || RUN(*take, arg_text(database_binding())) == 0)
		return;
	shards_one_after_another();
	run_clear(&run);
	duty->more = left = move_quarters(&run);
}

static void
roll_up(void *context)
{
	Duty *duty = context;
	TimestampTz begin = GetCurrentTimestamp();
	Run run = {0};
	bool tail;
	int64 base;

	if (!usage_tables()->bound)
		return;
	if (usage_tables()->distributed)
	{
		roll_up_shards(duty);
		return;
	}
	PushActiveSnapshot(GetLatestSnapshot());
	tail = is_there_a_tail();
	PopActiveSnapshot();
	if (!tail || RUN(take_state, arg_text(database_binding())) == 0)
		return;
	/* handed over a moment ago */
	if (row_bool(0, 2))
		return;
	base = row_int(0, 1);
	run_clear(&run);
	/* after the lock: it sees the mark that the last run left */
	PushActiveSnapshot(GetLatestSnapshot());
	duty->more = move_tail(&run, base);
	PopActiveSnapshot();
	follow_time(begin);
}

int
usage_rollup(bool at_once)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();
	Duty duty = {at_once, false};

	if (!at_once && !TimestampDifferenceExceeds(last, now, ROLLUP_INTERVAL_MS))
		return 0;
	/* the rest of a long tail follows after what else is due */
	if (unit_run(roll_up, &duty, "add up usage") && duty.more)
		last = 0;
	else
		last = now;
	return duty.more;
}

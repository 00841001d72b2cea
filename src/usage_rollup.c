/*-------------------------------------------------------------------------
 *
 * usage_rollup.c
 *	  Moves the tail of usage_events into the tables of totals.
 *
 * A run takes the row of the state, then a snapshot; what this snapshot sees
 * and the mark in the row does not have is added up in memory and written
 * together with the new mark.  A run takes events in the order of their
 * numbers and stops after so many, within a large transaction as well, so that
 * it stays short however long the tail is.  In order, because a void may only
 * be taken in with or after what it voids.  Transactions that are still open
 * stay named in the mark, and hold nothing else up.
 *
 * What later events can change in other ways than by adding (a level that is
 * voided, an average over time) is added up again from the events of its
 * quarter of an hour.  usage_groups.c has what is added up in memory, and
 * writes it.
 *
 *-------------------------------------------------------------------------
 */

#include "usage_groups.h"

#include "access/transam.h"
#include "access/xact.h"
#include "accounts.h"
#include "subjects.h"
#include "unit.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Groups that are kept in memory before they are written. */
#define GROUPS_MAX 20000

/* How many events a run takes in; follows the time that a run takes. */
#define EVENTS_FIRST 50000
#define EVENTS_MIN   5000
#define EVENTS_MAX   500000
#define RUN_SHORT_MS 100
#define RUN_LONG_MS  400

/* Nobody tells the worker of usage: the tail that readers add is about so long. */
#define ROLLUP_INTERVAL_MS 1000

typedef struct Run
{
	MemoryContext memory;
	MemoryContext groups_memory; /* of totals and values, until they are written */
	MemoryContext event_memory;  /* of what is worked out for one event */
	UsageMark before;
	UsageMark after;
	GroupTable totals;
	GroupTable values;
	GroupTable again; /* quarters of an hour that are added up from the events */
	Jsonb *no_dimensions;
} Run;

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
	if (wanted.value == NULL)
		return;
	MemoryContextSwitchTo(run->groups_memory);
	totals_group(&run->values, &wanted)->fold.events += event->kind == 'u' ? 1 : -1;
}

static bool
has_levels(const Meter *meter)
{
	return meter->aggregation == AGGREGATE_MAX || meter->aggregation == AGGREGATE_LATEST ||
		   meter->aggregation == AGGREGATE_WEIGHTED;
}

static void
groups_new(Run *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->groups_memory);

	totals_clear(&run->totals);
	totals_clear(&run->values);
	MemoryContextSwitchTo(old);
}

static void
write_groups(Run *run)
{
	totals_touch(&run->totals);
	totals_add(&run->totals);
	totals_add_values(&run->values);
	MemoryContextReset(run->groups_memory);
	groups_new(run);
}

static void
add_to_groups(Run *run, const UsageEvent *event, const Meter *meter)
{
	TotalGroup wanted = group_key(run, event, meter);
	TotalGroup *group;

	if (has_levels(meter) && (event->kind != 'u' || meter->aggregation == AGGREGATE_WEIGHTED))
	{
		/* of the whole quarter of an hour, all dimensions */
		wanted.dimensions = run->no_dimensions;
		MemoryContextSwitchTo(run->memory);
		(void) totals_group(&run->again, &wanted);
		return;
	}
	if (meter->aggregation == AGGREGATE_UNIQUE)
		add_value(run, event, wanted);
	MemoryContextSwitchTo(run->groups_memory);
	group = totals_group(&run->totals, &wanted);
	fold_event(&group->fold, event);
	if (has_levels(meter))
		fold_level(&group->fold, event->occurred_at, &event->id, event->quantity);
}

static void
add_event(const UsageEvent *event, void *context)
{
	Run *run = context;
	MemoryContext old = MemoryContextSwitchTo(run->event_memory);
	const Meter *meter = meter_find(event->metric);

	if (meter == NULL)
		elog(ERROR, "there is usage of metric \"%s\", which is unknown",
			 text_to_cstring(event->metric));
	add_to_groups(run, event, meter);
	MemoryContextReset(run->event_memory);
	if (run->totals.count + run->values.count >= GROUPS_MAX)
	{
		MemoryContextSwitchTo(run->groups_memory);
		write_groups(run);
	}
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
	MemoryContext memory = AllocSetContextCreate(run->memory, "billing usage quarter",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	char *organization_id = text_to_cstring(quarter->organization_id);
	Again again = {&run->after, levels_new()};
	GroupTable groups;
	Level **levels;
	int64 count;

	usage_scan_time(organization_id, quarter->meter->metric, quarter->bucket,
					quarter->bucket + USAGE_BUCKET, add_marked, &again);
	levels = levels_sorted(again.levels, &count);
	totals_clear(&groups);
	for (int64 i = 0; i < count; i++)
	{
		UsageEvent event = {.occurred_at = levels[i]->at,
							.organization_id = quarter->organization_id,
							.quantity = levels[i]->quantity,
							.kind = 'u',
							.properties = levels[i]->properties};
		TotalGroup wanted = group_key(run, &event, quarter->meter);
		Fold *fold = &totals_group(&groups, &wanted)->fold;

		fold_event(fold, &event);
		fold_level(fold, levels[i]->at, &levels[i]->id, levels[i]->quantity);
	}
	RUN(remove_totals, arg_text(organization_id), arg_text(quarter->meter->metric),
		arg_datum(TimestampTzGetDatum(quarter->bucket), false));
	totals_add(&groups);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
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
/*
 * A statement over all shards: from then on Citus prepares what was written on
 * the nodes, and commits it after what is noted here for alerts and forwarding.
 */
QUERY_CUSTOM(prepare_on_nodes, "DELETE FROM billing.usage_dirty WHERE bucket = '-infinity'",
			 InvalidOid);
QUERY(note_run, "UPDATE billing.usage_rollup_state SET rolled_up_at = now()", InvalidOid);
QUERY(remove_values,
	  "DELETE FROM billing.usage_values WHERE organization_id = $1 AND metric = $2 AND bucket = $3",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID);
QUERY(remove_marks,
	  "DELETE FROM billing.usage_dirty WHERE organization_id = $1 AND metric = $2 AND bucket = $3 "
	  "AND id = ANY ($4)",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID, UUIDARRAYOID);

/* What the marks of a quarter of an hour say. */
typedef struct Quarter
{
	text *organization_id;
	const Meter *meter;
	TimestampTz bucket;
	Datum marks;
} Quarter;

static void
add_corrected(Run *run, const Quarter *quarter, const Level *level)
{
	UsageEvent event = {.occurred_at = level->at,
						.organization_id = quarter->organization_id,
						.quantity = level->quantity,
						.kind = 'u',
						.properties = level->properties};
	TotalGroup wanted = group_key(run, &event, quarter->meter);
	Fold *fold = &totals_group(&run->totals, &wanted)->fold;

	fold_event(fold, &event);
	if (has_levels(quarter->meter))
		fold_level(fold, level->at, &level->id, level->quantity);
	if (quarter->meter->aggregation == AGGREGATE_UNIQUE)
		add_value(run, &event, wanted);
}

/* Also one of which nothing is left has changed. */
static void
note_quarter(Run *run, const Quarter *quarter)
{
	TotalGroup wanted = {.organization_id = quarter->organization_id,
						 .meter = quarter->meter,
						 .bucket = quarter->bucket,
						 .dimensions = run->no_dimensions};

	(void) totals_group(&run->again, &wanted);
}

/*
 * The marks were seen before the events are read, so the events of each of
 * them are among these; there may be more, whose marks stay.
 */
static void
add_up_quarter(Run *run, const Quarter *quarter)
{
	Arg at = arg_datum(TimestampTzGetDatum(quarter->bucket), false);
	Arg organization = arg_datum(PointerGetDatum(quarter->organization_id), false);
	Arg metric = arg_text(quarter->meter->metric);
	Levels *levels = levels_new();
	Level **sorted;
	int64 count;

	note_quarter(run, quarter);
	usage_scan_time(text_to_cstring(quarter->organization_id), quarter->meter->metric,
					quarter->bucket, quarter->bucket + USAGE_BUCKET, levels_add, levels);
	sorted = levels_sorted(levels, &count);
	for (int64 i = 0; i < count; i++)
		add_corrected(run, quarter, sorted[i]);
	RUN(remove_totals, organization, metric, at);
	if (quarter->meter->aggregation == AGGREGATE_UNIQUE)
		RUN(remove_values, organization, metric, at);
	RUN(remove_marks, organization, metric, at, arg_datum(quarter->marks, false));
}

static Quarter
quarter_of_row(Rows rows, int64 row)
{
	char *metric = rows_text(rows, row, 2);
	bool isnull;
	Quarter quarter = {.organization_id = cstring_to_text(rows_text(rows, row, 1)),
					   .meter = meter_named(metric),
					   .bucket = rows_time(rows, row, 3),
					   .marks = rows_datum(rows, row, 4, &isnull)};

	if (quarter.meter == NULL)
		elog(ERROR, "there is usage of metric \"%s\", which is unknown", metric);
	return quarter;
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
		Quarter quarter = quarter_of_row(rows, i);

		add_up_quarter(run, &quarter);
	}
	totals_touch(&run->again);
	totals_put(&run->totals);
	totals_put_values(&run->values);
	if (count > 0)
	{
		RUN(prepare_on_nodes, arg_null());
		RUN(note_run, arg_null());
	}
	return count == QUARTERS_MAX;
}

/* ------------------------------------------------------------------------
 * A run
 * ------------------------------------------------------------------------
 */
static bool
has_number(const UsageSight *sight, int64 number)
{
	for (int i = 0; i < sight->running_count; i++)
	{
		if (sight->running[i] == number)
			return true;
	}
	return false;
}

/* After a run: what the snapshot saw, and was taken in before the run stopped. */
static UsageMark
mark_of_run(const UsageMark *before, const UsageSight *sight, int64 reached)
{
	UsageMark mark = {.until = sight->until};

	if (reached < mark.until)
		mark.until = Max(reached, before->until);
	mark.open = palloc(sizeof(int64) * (sight->running_count + before->open_count + 1));
	for (int i = 0; i < sight->running_count; i++)
	{
		if (sight->running[i] < mark.until)
			mark.open[mark.open_count++] = sight->running[i];
	}
	/* those that ran before and are over, and were not taken in, or only in part */
	for (int i = 0; i < before->open_count; i++)
	{
		int64 open = before->open[i];

		if (reached <= usage_last_number(open) && !has_number(sight, open))
			mark.open[mark.open_count++] = Max(open, reached);
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

static int64 events_of_run = EVENTS_FIRST;

static void
see_event(const UsageEvent *event, void *context)
{
}

/* Looked at without a lock: where nothing is used nothing is written. */
static bool
is_there_a_tail(void)
{
	UsageMark mark = usage_mark();

	return usage_scan_tail_in_order(&mark, 1, see_event, NULL).events > 0;
}

/* True when it stopped before the end of the tail. */
static bool
move_tail(Run *run)
{
	UsageSight sight = usage_sight(usage_tables());
	TotalGroup **again;
	TailScan done;

	run->before = usage_mark();
	done = usage_scan_tail_in_order(&run->before, events_of_run, add_event, run);
	run->after = mark_of_run(&run->before, &sight, done.reached);
	write_groups(run);
	totals_touch(&run->again);
	again = totals_list(&run->again);
	for (uint32 i = 0; i < run->again.count; i++)
		add_up_again(run, again[i]);
	put_mark(&run->after);
	return done.reached != PG_INT64_MAX;
}

static void
follow_time(TimestampTz begin)
{
	long ms = TimestampDifferenceMilliseconds(begin, GetCurrentTimestamp());

	if (ms > RUN_LONG_MS)
		events_of_run = Max(events_of_run / 2, EVENTS_MIN);
	else if (ms < RUN_SHORT_MS)
		events_of_run = Min(events_of_run * 2, EVENTS_MAX);
}

typedef struct Duty
{
	bool at_once;
	bool more;
	bool elsewhere; /* there is something to move, and another process has the lock */
} Duty;

static bool is_elsewhere = false;

static void
run_begin(Run *run)
{
	run->memory = CurrentMemoryContext;
	run->groups_memory = AllocSetContextCreate(run->memory, "billing usage groups",
											   ALLOCSET_DEFAULT_SIZES);
	run->event_memory = AllocSetContextCreate(run->memory, "billing usage event",
											  ALLOCSET_SMALL_SIZES);
	run->no_dimensions = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	groups_new(run);
	totals_clear(&run->again);
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
	run_begin(&run);
	duty->more = left = move_quarters(&run);
}

static void
roll_up(void *context)
{
	Duty *duty = context;
	TimestampTz begin = GetCurrentTimestamp();
	Run run = {0};
	bool tail;

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
	if (!tail)
		return;
	duty->elsewhere = RUN(take_state, arg_text(database_binding())) == 0;
	if (duty->elsewhere)
		return;
	/* bound anew, or handed over, a moment ago: the next run knows */
	if (row_int(0, 1) != usage_tables()->base || row_bool(0, 2))
		return;
	run_begin(&run);
	/* after the lock: it sees the mark that the last run left */
	PushActiveSnapshot(GetLatestSnapshot());
	duty->more = move_tail(&run);
	PopActiveSnapshot();
	follow_time(begin);
}

int
usage_rollup(bool at_once)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();
	Duty duty = {.at_once = at_once};

	if (!at_once && !TimestampDifferenceExceeds(last, now, ROLLUP_INTERVAL_MS))
		return 0;
	/* the rest of a long tail follows after what else is due */
	if (unit_run(roll_up, &duty, "add up usage") && duty.more)
		last = 0;
	else
		last = now;
	is_elsewhere = duty.elsewhere;
	return duty.more;
}

bool
usage_rollup_is_elsewhere(void)
{
	return is_elsewhere;
}

/*-------------------------------------------------------------------------
 *
 * usage_read.c
 *	  How much was used in a range.
 *
 * Exact on the active snapshot, whatever the worker does: whole quarters of
 * an hour come from the totals, the edges of the range from the events, and so
 * does the tail, which the totals do not hold yet (usage_tail.c).  A quarter
 * of an hour in which the tail changes what cannot be changed by adding is
 * added up from its events instead.
 *
 * What is asked for may be a slice of the dimensions: some of their values
 * only, or each combination of the values of some of them by itself.  Totals
 * are kept by all dimensions of the meter, so slices are added up from them:
 * the largest of the largest, the latest of the latest, the values that are
 * different in all of them together.
 *
 * Where Citus distributes the tables, events and totals of a question come by
 * one statement (usage_shards_read.c), and there is no tail.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "common/hashfn.h"
#include "usage.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"

/* What is added up by itself. */
typedef struct Portion
{
	Jsonb *dimensions; /* the key of the hash table: values of those that are grouped by */
	Fold fold;
	HTAB *values;  /* of unique */
	Numeric level; /* of weighted; NULL for none */
	int64 events;
} Portion;

/* One metric in one range: whole quarters of an hour in [inner.start, inner.end). */
typedef struct Question
{
	const char *organization_id;
	const Meter *meter;
	Aggregation aggregation; /* the meter's, or count to ask for the number of events */
	const UsageTail *tail;
	UsageRange range;
	UsageRange inner; /* empty when start = end */
	Datum *again;     /* beginnings of the quarters in it that are added up from events */
	int again_count;
	const UsageSlice *slice; /* NULL: of all dimensions together */
	Portion all;             /* the only group, where nothing is grouped by */
	HTAB *groups;            /* else all of them */
	ShardAnswer *shards;     /* where usage is distributed: all that it takes */
} Question;

/* ------------------------------------------------------------------------
 * Groups
 * ------------------------------------------------------------------------
 */
static uint32
hash_dimensions(const void *key, Size size)
{
	const Jsonb *dimensions = *(Jsonb *const *) key;

	return hash_bytes((const unsigned char *) VARDATA_ANY(dimensions),
					  VARSIZE_ANY_EXHDR(dimensions));
}

static int
compare_dimensions(const void *a, const void *b, Size size)
{
	const Jsonb *left = *(Jsonb *const *) a;
	const Jsonb *right = *(Jsonb *const *) b;

	if (VARSIZE_ANY_EXHDR(left) != VARSIZE_ANY_EXHDR(right))
		return 1;
	return memcmp(VARDATA_ANY(left), VARDATA_ANY(right), VARSIZE_ANY_EXHDR(left));
}

static HTAB *
groups_new(void)
{
	HASHCTL control = {.keysize = sizeof(Jsonb *),
					   .entrysize = sizeof(Portion),
					   .hash = hash_dimensions,
					   .match = compare_dimensions,
					   .hcxt = CurrentMemoryContext};

	return hash_create("billing usage groups", 64, &control,
					   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

static Portion *
group_named(Question *question, Jsonb *dimensions)
{
	bool found;
	Portion *group = hash_search(question->groups, &dimensions, HASH_ENTER, &found);

	if (!found)
		*group = (Portion){.dimensions = dimensions};
	return group;
}

static bool
contains(Jsonb *dimensions, Jsonb *wanted)
{
	return DatumGetBool(
		DirectFunctionCall2(jsonb_contains, JsonbPGetDatum(dimensions), JsonbPGetDatum(wanted)));
}

/* NULL: outside of the slice. */
static Portion *
group_of(Question *question, Jsonb *dimensions)
{
	const UsageSlice *slice = question->slice;
	Meter grouped_by;

	if (slice == NULL)
		return &question->all;
	if (slice->contains != NULL && !contains(dimensions, slice->contains))
		return NULL;
	if (slice->dimension_count == 0)
		return &question->all;
	grouped_by = (Meter){.dimension_count = slice->dimension_count,
						 .dimensions = slice->dimensions};
	return group_named(question, meter_dimensions(&grouped_by, dimensions));
}

static Portion *
group_of_properties(Question *question, Jsonb *properties)
{
	if (question->slice == NULL)
		return &question->all;
	if (properties != NULL)
		properties = DatumGetJsonbP(PointerGetDatum(properties));
	return group_of(question, meter_dimensions(question->meter, properties));
}

/* Of a row of totals. */
static Portion *
group_of_row(Question *question, const TotalRows *totals, int64 row, int column)
{
	if (question->slice == NULL)
		return &question->all;
	return group_of(question,
					rows_json(totals->rows, total_row(totals, row), totals->shift + column));
}

/* ------------------------------------------------------------------------
 * Parts of a range
 * ------------------------------------------------------------------------
 */
static bool
in_range(UsageRange range, TimestampTz at)
{
	return at >= range.start && at < range.end;
}

static bool
is_added_again(const Question *question, TimestampTz bucket)
{
	for (int i = 0; i < question->again_count; i++)
	{
		if (DatumGetTimestampTz(question->again[i]) == bucket)
			return true;
	}
	return false;
}

static List *
tail_of(const Question *question)
{
	return usage_tail_events(question->tail, question->organization_id, question->meter->metric);
}

static void
find_again(Question *question)
{
	Aggregation aggregation = question->aggregation;
	List *events = tail_of(question);
	ListCell *cell;

	question->again = palloc(sizeof(Datum) * (list_length(events) + 1));
	question->again_count = 0;
	if (aggregation != AGGREGATE_MAX && aggregation != AGGREGATE_LATEST &&
		aggregation != AGGREGATE_WEIGHTED)
		return;
	foreach (cell, events)
	{
		const UsageEvent *event = lfirst(cell);
		TimestampTz bucket = usage_bucket(event->occurred_at);

		if (in_range(question->inner, event->occurred_at) &&
			(aggregation == AGGREGATE_WEIGHTED || event->kind != 'u') &&
			!is_added_again(question, bucket))
			question->again[question->again_count++] = TimestampTzGetDatum(bucket);
	}
}

static Question
question_of(const char *organization_id, const Meter *meter, Aggregation aggregation,
			const UsageTail *tail, UsageRange range, const UsageSlice *slice)
{
	Question question = {.organization_id = organization_id,
						 .meter = meter,
						 .aggregation = aggregation,
						 .tail = tail,
						 .range = range,
						 .inner = range,
						 .slice = slice};

	if (range.start != DT_NOBEGIN)
		question.inner.start = usage_bucket(range.start + USAGE_BUCKET - 1);
	if (range.end != DT_NOEND)
		question.inner.end = usage_bucket(range.end);
	if (question.inner.end <= question.inner.start)
		question.inner = (UsageRange){range.end, range.end};
	find_again(&question);
	if (slice != NULL && slice->dimension_count > 0)
		question.groups = groups_new();
	return question;
}

/* Totals cannot be cut, and the events are gone. */
static void
check_kept(TimestampTz from, TimestampTz until)
{
	/* as it is now, for all that the snapshot may be old: the caller's lock keeps it so */
	TimestampTz raw_since = usage_tables()->raw_since;

	if (from >= until || from >= raw_since)
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("usage of %s is known by quarters of an hour only",
						   pstrdup(timestamptz_to_str(from))),
					errdetail("The setting usage_retention has removed the events before %s.",
							  pstrdup(timestamptz_to_str(raw_since))),
					errhint("Pass bounds at full quarters of an hour.")));
}

/* The events at both edges, and of quarters that are added up again. */
static void
scan_events(const Question *question, VisitUsage visit, void *context)
{
	UsageRange range = question->range;
	UsageRange inner = question->inner;

	check_kept(range.start, Min(inner.start, range.end));
	check_kept(inner.end, range.end);
	if (question->shards != NULL)
	{
		shards_visit(question->shards, visit, context);
		return;
	}
	usage_scan_time(question->organization_id, question->meter->metric, range.start,
					Min(inner.start, range.end), visit, context);
	for (int i = 0; i < question->again_count; i++)
	{
		TimestampTz bucket = DatumGetTimestampTz(question->again[i]);

		usage_scan_time(question->organization_id, question->meter->metric, bucket,
						bucket + USAGE_BUCKET, visit, context);
	}
	if (inner.start < inner.end)
		usage_scan_time(question->organization_id, question->meter->metric, inner.end, range.end,
						visit, context);
}

/* What the tail adds to the totals of whole quarters. */
static void
scan_tail(const Question *question, VisitUsage visit, void *context)
{
	ListCell *cell;

	foreach (cell, tail_of(question))
	{
		const UsageEvent *event = lfirst(cell);

		if (in_range(question->inner, event->occurred_at) &&
			!is_added_again(question, usage_bucket(event->occurred_at)))
			visit(event, context);
	}
}

static Arg
again_arg(const Question *question)
{
	return arg_datum(
		PointerGetDatum(construct_array(question->again, question->again_count, TIMESTAMPTZOID, 8,
										FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)),
		false);
}

static Arg
moment(TimestampTz at)
{
	return arg_datum(TimestampTzGetDatum(at), false);
}

/* ------------------------------------------------------------------------
 * The aggregations
 *
 * Queries come in two forms: for all dimensions together, and by them.
 * ------------------------------------------------------------------------
 */
#define WHOLE_QUARTERS "WHERE organization_id = $1 AND metric = $2 AND bucket >= $3 AND bucket < $4"
#define NOT_AGAIN      " AND bucket <> ALL ($5)"

QUERY(read_sum, "SELECT sum(sum), sum(events)::bigint FROM billing.usage_totals " WHOLE_QUARTERS,
	  TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
QUERY(read_sum_by,
	  "SELECT sum(sum), sum(events)::bigint, dimensions FROM billing.usage_totals " WHOLE_QUARTERS
	  " GROUP BY dimensions",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
QUERY(read_largest, "SELECT max(largest) FROM billing.usage_totals " WHOLE_QUARTERS NOT_AGAIN,
	  TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZARRAYOID);
QUERY(read_largest_by,
	  "SELECT max(largest), dimensions FROM billing.usage_totals " WHOLE_QUARTERS NOT_AGAIN
	  " GROUP BY dimensions",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZARRAYOID);
QUERY_IN_ORDER(read_latest_quarter,
			   "SELECT bucket FROM billing.usage_totals " WHOLE_QUARTERS NOT_AGAIN
			   " AND latest IS NOT NULL AND dimensions @> $6 ORDER BY bucket DESC LIMIT 1",
			   TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZARRAYOID, JSONBOID);
QUERY(
	read_latest_by,
	"SELECT DISTINCT ON (dimensions) latest, latest_at, latest_id, dimensions FROM billing.usage_totals " WHOLE_QUARTERS
		NOT_AGAIN " AND latest IS NOT NULL ORDER BY dimensions, latest_at DESC, latest_id DESC",
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZARRAYOID);
QUERY(
	read_quarters,
	"SELECT first_at, latest_at, latest_id, latest, area, largest FROM billing.usage_totals " WHOLE_QUARTERS
		NOT_AGAIN " AND latest IS NOT NULL",
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZARRAYOID);
QUERY(read_values,
	  "SELECT value, sum(events)::bigint FROM billing.usage_values " WHOLE_QUARTERS
	  " GROUP BY value",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
QUERY(read_values_by,
	  "SELECT value, sum(events)::bigint, dimensions FROM billing.usage_values " WHOLE_QUARTERS
	  " GROUP BY dimensions, value",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

/* The rows of whole quarters; "whole" where nothing is told apart, else "by". */
static TotalRows
read_totals(const Question *question, SqlQuery *whole, SqlQuery *by)
{
	SqlQuery *query = question->slice == NULL ? whole : by;
	TotalRows totals = {0};

	if (question->shards != NULL)
		return shards_totals(question->shards);
	totals.count = READ(*query, arg_text(question->organization_id),
						arg_text(question->meter->metric), moment(question->inner.start),
						moment(question->inner.end), again_arg(question));
	totals.rows = rows_keep();
	return totals;
}

static Numeric
numeric_at(const TotalRows *totals, int64 row, int column)
{
	bool isnull;
	Datum value = rows_datum(totals->rows, total_row(totals, row), totals->shift + column, &isnull);

	return isnull ? NULL : DatumGetNumericCopy(value);
}

static int64
int_at(const TotalRows *totals, int64 row, int column)
{
	return rows_int(totals->rows, total_row(totals, row), totals->shift + column);
}

static TimestampTz
time_at(const TotalRows *totals, int64 row, int column)
{
	return rows_time(totals->rows, total_row(totals, row), totals->shift + column);
}

static const pg_uuid_t *
uuid_at(const TotalRows *totals, int64 row, int column)
{
	return rows_uuid(totals->rows, total_row(totals, row), totals->shift + column);
}

static const char *
text_at(const TotalRows *totals, int64 row, int column)
{
	return rows_text(totals->rows, total_row(totals, row), totals->shift + column);
}

static void
add_event(const UsageEvent *event, void *question)
{
	Portion *group = group_of_properties(question, event->properties);

	if (group != NULL)
		fold_event(&group->fold, event);
}

static void
answer_sum(Question *question)
{
	TotalRows totals;

	scan_events(question, add_event, question);
	scan_tail(question, add_event, question);
	totals = read_totals(question, &read_sum, &read_sum_by);
	for (int64 i = 0; i < totals.count; i++)
	{
		Portion *group = group_of_row(question, &totals, i, 3);
		Fold fold = {.sum = numeric_at(&totals, i, 1), .events = int_at(&totals, i, 2)};

		if (group != NULL && fold.sum != NULL)
			fold_append(&group->fold, &fold);
	}
}

static void
add_level(const UsageEvent *event, void *question)
{
	Portion *group = group_of_properties(question, event->properties);

	if (group != NULL)
		fold_level(&group->fold, event->occurred_at, &event->id, event->quantity);
}

/* Levels of the events that are read one by one, corrected. */
static Level **
levels_of(const Question *question, int64 *count)
{
	Levels *levels = levels_new();

	scan_events(question, levels_add, levels);
	return levels_sorted(levels, count);
}

/* The largest and the latest of the range, without an order of time. */
static void
add_extremes(Question *question)
{
	int64 count;
	Level **levels = levels_of(question, &count);

	for (int64 i = 0; i < count; i++)
	{
		Portion *group = group_of_properties(question, levels[i]->properties);

		if (group != NULL)
			fold_level(&group->fold, levels[i]->at, &levels[i]->id, levels[i]->quantity);
	}
	scan_tail(question, add_level, question);
}

static void
answer_max(Question *question)
{
	TotalRows totals;

	add_extremes(question);
	totals = read_totals(question, &read_largest, &read_largest_by);
	for (int64 i = 0; i < totals.count; i++)
	{
		Portion *group = group_of_row(question, &totals, i, 2);
		Numeric largest = numeric_at(&totals, i, 1);

		if (group != NULL && largest != NULL &&
			(group->fold.largest == NULL || numeric_order(largest, group->fold.largest) > 0))
			group->fold.largest = largest;
	}
}

static Jsonb *
no_dimensions(void)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
}

/* What the dimensions have to contain. */
static Jsonb *
wanted_of(const Question *question)
{
	const UsageSlice *slice = question->slice;

	return slice != NULL && slice->contains != NULL ? slice->contains : no_dimensions();
}

/*
 * Where nothing is grouped by, that is in the last of the quarters that has any:
 * one step back from the end, for all that a level may be years old. False: none.
 */
static bool
keep_to_latest_quarter(Question *question)
{
	UsageRange *inner = &question->inner;

	if (READ(read_latest_quarter, arg_text(question->organization_id),
			 arg_text(question->meter->metric), moment(inner->start), moment(inner->end),
			 again_arg(question), arg_json(wanted_of(question))) == 0)
		return false;
	inner->start = row_time(0, 1);
	inner->end = inner->start + USAGE_BUCKET;
	return true;
}

static void
answer_latest(Question *question)
{
	TotalRows totals;

	add_extremes(question);
	if (question->groups == NULL && question->shards == NULL && !keep_to_latest_quarter(question))
		return;
	totals = read_totals(question, &read_latest_by, &read_latest_by);
	for (int64 i = 0; i < totals.count; i++)
	{
		Portion *group = group_of_row(question, &totals, i, 4);

		if (group != NULL)
			fold_level(&group->fold, time_at(&totals, i, 2), uuid_at(&totals, i, 3),
					   numeric_at(&totals, i, 1));
	}
}

static void
add_value(const UsageEvent *event, void *context)
{
	Question *question = context;
	Portion *group = group_of_properties(question, event->properties);
	text *value;

	if (group == NULL || event->kind == 'c' || event->properties == NULL)
		return;
	value = meter_value(question->meter, DatumGetJsonbP(PointerGetDatum(event->properties)));
	if (value != NULL)
		values_count(&group->values, text_to_cstring(value), event->kind == 'u' ? 1 : -1);
}

static void
answer_unique(Question *question)
{
	TotalRows totals;

	scan_events(question, add_value, question);
	scan_tail(question, add_value, question);
	totals = read_totals(question, &read_values, &read_values_by);
	for (int64 i = 0; i < totals.count; i++)
	{
		Portion *group = group_of_row(question, &totals, i, 3);

		if (group != NULL)
			values_count(&group->values, text_at(&totals, i, 1), int_at(&totals, i, 2));
	}
}

/* Events and totals at one moment; on tables of this server the snapshot sees to that. */
static void
ask_shards(Question *question, Aggregation aggregation)
{
	if (usage_tables()->distributed)
		question->shards = shards_ask(&(ShardQuestion){
			question->organization_id, question->meter->metric, aggregation, question->range,
			question->inner, question->groups == NULL ? wanted_of(question) : NULL});
}

/* ------------------------------------------------------------------------
 * A level over time
 * ------------------------------------------------------------------------
 */
static int
part_order(const void *a, const void *b)
{
	const Fold *left = a;
	const Fold *right = b;

	if (left->first_at != right->first_at)
		return left->first_at < right->first_at ? -1 : 1;
	if (left->latest_at != right->latest_at)
		return left->latest_at < right->latest_at ? -1 : 1;
	return memcmp(&left->latest_id, &right->latest_id, sizeof(pg_uuid_t));
}

/* Quarters and single events of the range, in order of time. */
static Fold *
parts_of(const Question *question, int64 *part_count)
{
	int64 level_count;
	Level **levels = levels_of(question, &level_count);
	TotalRows totals = read_totals(question, &read_quarters, &read_quarters);
	Fold *parts = palloc0(sizeof(Fold) * (level_count + totals.count + 1));

	for (int64 i = 0; i < totals.count; i++)
	{
		parts[i].first_at = time_at(&totals, i, 1);
		parts[i].latest_at = time_at(&totals, i, 2);
		parts[i].latest_id = *uuid_at(&totals, i, 3);
		parts[i].latest = numeric_at(&totals, i, 4);
		parts[i].area = numeric_at(&totals, i, 5);
		parts[i].largest = numeric_at(&totals, i, 6);
	}
	for (int64 i = 0; i < level_count; i++)
		fold_level(&parts[totals.count + i], levels[i]->at, &levels[i]->id, levels[i]->quantity);
	*part_count = totals.count + level_count;
	qsort(parts, *part_count, sizeof(Fold), part_order);
	return parts;
}

/* The level at the start is a part, too, and so is none at the end, up to which the last one holds. */
static void
answer_weighted(Question *question)
{
	UsageRange range = question->range;
	pg_uuid_t no_id = {{0}};
	Fold fold = {0};
	int64 count;
	Fold *parts = parts_of(question, &count);

	if (question->meter->carried)
	{
		Question before = question_of(question->organization_id, question->meter,
									  AGGREGATE_WEIGHTED, question->tail,
									  (UsageRange){DT_NOBEGIN, range.start}, NULL);

		ask_shards(&before, AGGREGATE_LATEST);
		answer_latest(&before);
		if (before.all.fold.latest != NULL)
			fold_level(&fold, range.start, &no_id, before.all.fold.latest);
	}
	for (int64 i = 0; i < count; i++)
		fold_append(&fold, &parts[i]);
	if (fold.latest == NULL)
		return;
	fold_level(&fold, range.end, &no_id, int64_to_numeric(0));
	question->all.level = numeric_over(fold.area == NULL ? int64_to_numeric(0) : fold.area,
									   int64_div_fast_to_numeric(range.end - range.start, 6));
}

/* ------------------------------------------------------------------------
 * Answers
 * ------------------------------------------------------------------------
 */
static void
answer(Question *question)
{
	ask_shards(question, question->aggregation);
	switch (question->aggregation)
	{
		case AGGREGATE_SUM:
		case AGGREGATE_COUNT:
			answer_sum(question);
			break;
		case AGGREGATE_MAX:
			answer_max(question);
			break;
		case AGGREGATE_LATEST:
			answer_latest(question);
			break;
		case AGGREGATE_UNIQUE:
			answer_unique(question);
			break;
		default:
			answer_weighted(question);
			break;
	}
}

/* By the meter's aggregation; NULL: there was nothing. */
static Numeric
found_in(const Portion *group, Aggregation aggregation)
{
	switch (aggregation)
	{
		case AGGREGATE_SUM:
			return fold_sum(&group->fold);
		case AGGREGATE_COUNT:
			return int64_to_numeric(group->fold.events);
		case AGGREGATE_MAX:
			return group->fold.largest;
		case AGGREGATE_LATEST:
			return group->fold.latest;
		case AGGREGATE_UNIQUE:
			return values_different(group->values);
		default:
			return group->level;
	}
}

static Numeric
quantity_of(const Portion *group, Aggregation aggregation)
{
	Numeric found = found_in(group, aggregation);

	if (found == NULL)
		return int64_to_numeric(0);
	return DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(found)));
}

static Question
ask(const char *organization_id, const Meter *meter, const UsageTail *tail, UsageRange range,
	const UsageSlice *slice)
{
	Question question;

	if (meter->carried && meter->aggregation != AGGREGATE_WEIGHTED)
		range.start = DT_NOBEGIN;
	question = question_of(organization_id, meter, meter->aggregation, tail, range, slice);
	answer(&question);
	return question;
}

Numeric
usage_quantity(const char *organization_id, const Meter *meter, const UsageTail *tail,
			   UsageRange range)
{
	return usage_quantity_in(organization_id, meter, tail, range, NULL);
}

Numeric
usage_quantity_in(const char *organization_id, const Meter *meter, const UsageTail *tail,
				  UsageRange range, const UsageSlice *slice)
{
	Question question = ask(organization_id, meter, tail, range, slice);

	return quantity_of(&question.all, meter->aggregation);
}

/*
 * How many events there were: of every aggregation the totals have it, and
 * what comes later is added.
 */
static void
count_events(Question *question, UsageRange range)
{
	Question counted = question_of(question->organization_id, question->meter, AGGREGATE_COUNT,
								   question->tail, range, question->slice);
	HASH_SEQ_STATUS status;
	Portion *group;

	answer(&counted);
	question->all.events = counted.all.fold.events;
	if (counted.groups == NULL)
		return;
	hash_seq_init(&status, counted.groups);
	while ((group = hash_seq_search(&status)) != NULL)
		group_named(question, group->dimensions)->events = group->fold.events;
}

static UsageAnswer *
answer_of(const Portion *group, Aggregation aggregation)
{
	UsageAnswer *made = palloc(sizeof(UsageAnswer));

	made->dimensions = group->dimensions;
	made->quantity = quantity_of(group, aggregation);
	made->events = group->events;
	return made;
}

List *
usage_answers(const char *organization_id, const Meter *meter, const UsageTail *tail,
			  UsageRange range, const UsageSlice *slice)
{
	Question question = ask(organization_id, meter, tail, range, slice);
	List *answers = NIL;
	HASH_SEQ_STATUS status;
	Portion *group;

	count_events(&question, range);
	if (question.groups == NULL)
	{
		question.all.dimensions = no_dimensions();
		return list_make1(answer_of(&question.all, meter->aggregation));
	}
	hash_seq_init(&status, question.groups);
	while ((group = hash_seq_search(&status)) != NULL)
	{
		UsageAnswer *made = answer_of(group, meter->aggregation);

		/* all of it void */
		if (made->events != 0 || numeric_order(made->quantity, int64_to_numeric(0)) != 0)
			answers = lappend(answers, made);
	}
	return answers;
}

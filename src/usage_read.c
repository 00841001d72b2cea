/*-------------------------------------------------------------------------
 *
 * usage_read.c
 *	  How much was used in a range.
 *
 * Exact on the active snapshot, whatever the worker does: whole quarters of
 * an hour come from the totals, the edges of the range from the events, and so
 * does the tail, which the totals do not hold yet (usage_state.c).  A quarter
 * of an hour in which the tail changes what cannot be changed by adding is
 * added up from its events instead.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "usage.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* ------------------------------------------------------------------------
 * The tail, read once for all metrics
 * ------------------------------------------------------------------------
 */
typedef struct TailOfMetric
{
	char metric[NAMEDATALEN]; /* the key of the hash table */
	List *events;             /* UsageEvent, in no order */
} TailOfMetric;

struct UsageTail
{
	MemoryContext memory;
	UsageMark mark;
	text *organization_id;
	HTAB *by_metric;
};

static void
keep_event(const UsageEvent *event, void *context)
{
	UsageTail *tail = context;
	int length = VARSIZE_ANY_EXHDR(event->organization_id);
	char name[NAMEDATALEN];
	MemoryContext old;
	TailOfMetric *of_metric;
	UsageEvent *kept;
	bool found;

	if (length != (int) VARSIZE_ANY_EXHDR(tail->organization_id) ||
		memcmp(VARDATA_ANY(event->organization_id), VARDATA_ANY(tail->organization_id), length) !=
			0)
		return;
	old = MemoryContextSwitchTo(tail->memory);
	text_to_cstring_buffer(event->metric, name, sizeof(name));
	of_metric = hash_search(tail->by_metric, name, HASH_ENTER, &found);
	if (!found)
		of_metric->events = NIL;
	kept = palloc(sizeof(UsageEvent));
	*kept = *event;
	kept->quantity = DatumGetNumericCopy(NumericGetDatum(event->quantity));
	if (event->properties != NULL)
		kept->properties = DatumGetJsonbPCopy(PointerGetDatum(event->properties));
	if (event->corrects != NULL)
	{
		pg_uuid_t *corrects = palloc(sizeof(pg_uuid_t));

		*corrects = *event->corrects;
		kept->corrects = corrects;
	}
	of_metric->events = lappend(of_metric->events, kept);
	MemoryContextSwitchTo(old);
}

UsageTail *
usage_tail(const char *organization_id)
{
	HASHCTL control = {
		.keysize = NAMEDATALEN, .entrysize = sizeof(TailOfMetric), .hcxt = CurrentMemoryContext};
	UsageTail *tail = palloc(sizeof(UsageTail));

	tail->memory = CurrentMemoryContext;
	tail->mark = usage_mark();
	tail->organization_id = cstring_to_text(organization_id);
	tail->by_metric = hash_create("billing usage tail", 16, &control,
								  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	/* on shards the totals and what they lack are read at once, by usage_quantity() */
	if (!usage_tables()->distributed)
		usage_scan_tail(&tail->mark, PG_INT64_MAX, keep_event, tail);
	return tail;
}

static List *
tail_of(const UsageTail *tail, const Meter *meter)
{
	TailOfMetric *found = hash_search(tail->by_metric, meter->metric, HASH_FIND, NULL);

	return found == NULL ? NIL : found->events;
}

/* ------------------------------------------------------------------------
 * Parts of a range
 * ------------------------------------------------------------------------
 */
/* One metric in one range: whole quarters of an hour in [inner.start, inner.end). */
typedef struct Question
{
	const char *organization_id;
	const Meter *meter;
	const UsageTail *tail;
	UsageRange range;
	UsageRange inner; /* empty when start = end */
	Datum *again;     /* beginnings of the quarters in it that are added up from events */
	int again_count;
} Question;

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

static void
find_again(Question *question)
{
	Aggregation aggregation = question->meter->aggregation;
	List *events = tail_of(question->tail, question->meter);
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

UsageRange
usage_full_quarters(UsageRange range)
{
	UsageRange inner = range;

	if (range.start != DT_NOBEGIN)
		inner.start = usage_bucket(range.start + USAGE_BUCKET - 1);
	if (range.end != DT_NOEND)
		inner.end = usage_bucket(range.end);
	if (inner.end <= inner.start)
		return (UsageRange){range.end, range.end};
	return inner;
}

static Question
question_of(const char *organization_id, const Meter *meter, const UsageTail *tail,
			UsageRange range)
{
	Question question = {organization_id, meter, tail, range, usage_full_quarters(range), NULL, 0};

	find_again(&question);
	return question;
}

/* Totals cannot be cut, and the events are gone. */
void
usage_check_kept(TimestampTz from, TimestampTz until)
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

	usage_check_kept(range.start, Min(inner.start, range.end));
	usage_check_kept(inner.end, range.end);
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

	foreach (cell, tail_of(question->tail, question->meter))
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
 * ------------------------------------------------------------------------
 */
QUERY(read_sum,
	  "SELECT coalesce(sum(sum), 0), coalesce(sum(events), 0)::bigint FROM billing.usage_totals "
	  "WHERE organization_id = $1 AND metric = $2 AND bucket >= $3 AND bucket < $4",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
QUERY(
	read_largest,
	"SELECT max(largest) FROM billing.usage_totals "
	"WHERE organization_id = $1 AND metric = $2 AND bucket >= $3 AND bucket < $4 AND bucket <> ALL ($5)",
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZARRAYOID);
QUERY_IN_ORDER(
	read_latest,
	"SELECT latest, latest_at, latest_id FROM billing.usage_totals "
	"WHERE organization_id = $1 AND metric = $2 AND bucket >= $3 AND bucket < $4 AND bucket <> ALL ($5) "
	"AND latest IS NOT NULL ORDER BY bucket DESC LIMIT 1",
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZARRAYOID);
QUERY(read_same_quarter,
	  "SELECT latest, latest_at, latest_id FROM billing.usage_totals "
	  "WHERE organization_id = $1 AND metric = $2 AND bucket = $3 AND latest IS NOT NULL "
	  "ORDER BY latest_at DESC, latest_id DESC LIMIT 1",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID);
QUERY(
	read_quarters,
	"SELECT first_at, latest_at, latest_id, latest, area, largest FROM billing.usage_totals "
	"WHERE organization_id = $1 AND metric = $2 AND bucket >= $3 AND bucket < $4 AND bucket <> ALL ($5) "
	"AND latest IS NOT NULL",
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZARRAYOID);
QUERY(read_values,
	  "SELECT value, sum(events)::bigint FROM billing.usage_values "
	  "WHERE organization_id = $1 AND metric = $2 AND bucket >= $3 AND bucket < $4 GROUP BY value",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

static Numeric
numeric_at(int64 row, int column)
{
	bool isnull;
	Datum value = rows_datum(SPI_tuptable, row, column, &isnull);

	return isnull ? NULL : DatumGetNumericCopy(value);
}

static void
add_to_fold(const UsageEvent *event, void *fold)
{
	fold_event(fold, event);
}

static Numeric
answer_sum(const Question *question)
{
	Fold fold = {0};

	scan_events(question, add_to_fold, &fold);
	scan_tail(question, add_to_fold, &fold);
	READ(read_sum, arg_text(question->organization_id), arg_text(question->meter->metric),
		 moment(question->inner.start), moment(question->inner.end));
	if (question->meter->aggregation == AGGREGATE_COUNT)
		return int64_to_numeric(fold.events + row_int(0, 2));
	return numeric_plus(fold_sum(&fold), numeric_at(0, 1));
}

static void
add_level(const UsageEvent *event, void *fold)
{
	fold_level(fold, event->occurred_at, &event->id, event->quantity);
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
static Fold
extremes_of(const Question *question)
{
	Fold fold = {0};
	int64 count;
	Level **levels = levels_of(question, &count);

	for (int64 i = 0; i < count; i++)
		fold_level(&fold, levels[i]->at, &levels[i]->id, levels[i]->quantity);
	scan_tail(question, add_level, &fold);
	return fold;
}

static Numeric
answer_max(const Question *question)
{
	Fold fold = extremes_of(question);
	Numeric largest;

	READ(read_largest, arg_text(question->organization_id), arg_text(question->meter->metric),
		 moment(question->inner.start), moment(question->inner.end), again_arg(question));
	largest = numeric_at(0, 1);
	if (largest == NULL || (fold.largest != NULL && numeric_order(fold.largest, largest) > 0))
		return fold.largest;
	return largest;
}

static Numeric
answer_latest(const Question *question)
{
	Fold fold = extremes_of(question);
	Arg organization_id = arg_text(question->organization_id);
	Arg metric = arg_text(question->meter->metric);

	if (READ(read_latest, organization_id, metric, moment(question->inner.start),
			 moment(question->inner.end), again_arg(question)) > 0)
	{
		/* of the dimensions of that quarter */
		READ(read_same_quarter, organization_id, metric, moment(usage_bucket(row_time(0, 2))));
		fold_level(&fold, row_time(0, 2), row_uuid(0, 3), numeric_at(0, 1));
	}
	return fold.latest;
}

typedef struct Values
{
	const Meter *meter;
	HTAB *counts;
} Values;

typedef struct ValueCount
{
	char value[256]; /* the key: at most 255 bytes, by usage_rules.c */
	int64 events;
} ValueCount;

static void
count_value(HTAB *values, const char *value, int64 events)
{
	bool found;
	ValueCount *entry = hash_search(values, value, HASH_ENTER, &found);

	entry->events = events + (found ? entry->events : 0);
}

static void
add_value(const UsageEvent *event, void *context)
{
	Values *values = context;
	text *value;

	if (event->kind == 'c' || event->properties == NULL)
		return;
	value = meter_value(values->meter, DatumGetJsonbP(PointerGetDatum(event->properties)));
	if (value != NULL)
		count_value(values->counts, text_to_cstring(value), event->kind == 'u' ? 1 : -1);
}

static Numeric
answer_unique(const Question *question)
{
	HASHCTL control = {
		.keysize = 256, .entrysize = sizeof(ValueCount), .hcxt = CurrentMemoryContext};
	Values values = {question->meter, NULL};
	HASH_SEQ_STATUS status;
	ValueCount *entry;
	int64 count;
	int64 different = 0;

	values.counts = hash_create("billing usage values", 256, &control,
								HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	scan_events(question, add_value, &values);
	scan_tail(question, add_value, &values);
	count = READ(read_values, arg_text(question->organization_id),
				 arg_text(question->meter->metric), moment(question->inner.start),
				 moment(question->inner.end));
	for (int64 i = 0; i < count; i++)
		count_value(values.counts, row_text(i, 1), row_int(i, 2));
	hash_seq_init(&status, values.counts);
	while ((entry = hash_seq_search(&status)) != NULL)
		different += entry->events > 0;
	return int64_to_numeric(different);
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
	int64 quarter_count = READ(read_quarters, arg_text(question->organization_id),
							   arg_text(question->meter->metric), moment(question->inner.start),
							   moment(question->inner.end), again_arg(question));
	Fold *parts = palloc0(sizeof(Fold) * (level_count + quarter_count + 1));

	for (int64 i = 0; i < quarter_count; i++)
	{
		parts[i].first_at = row_time(i, 1);
		parts[i].latest_at = row_time(i, 2);
		parts[i].latest_id = *row_uuid(i, 3);
		parts[i].latest = numeric_at(i, 4);
		parts[i].area = numeric_at(i, 5);
		parts[i].largest = numeric_at(i, 6);
	}
	for (int64 i = 0; i < level_count; i++)
		fold_level(&parts[quarter_count + i], levels[i]->at, &levels[i]->id, levels[i]->quantity);
	*part_count = quarter_count + level_count;
	qsort(parts, *part_count, sizeof(Fold), part_order);
	return parts;
}

/* The level at the start is a part, too, and so is none at the end, up to which the last one holds. */
static Numeric
answer_weighted(const Question *question)
{
	UsageRange range = question->range;
	pg_uuid_t no_id = {{0}};
	Fold fold = {0};
	int64 count;
	Fold *parts = parts_of(question, &count);

	if (question->meter->carried)
	{
		Question before = question_of(question->organization_id, question->meter, question->tail,
									  (UsageRange){DT_NOBEGIN, range.start});
		Numeric level = answer_latest(&before);

		if (level != NULL)
			fold_level(&fold, range.start, &no_id, level);
	}
	for (int64 i = 0; i < count; i++)
		fold_append(&fold, &parts[i]);
	if (fold.latest == NULL)
		return NULL;
	fold_level(&fold, range.end, &no_id, int64_to_numeric(0));
	return numeric_over(fold.area == NULL ? int64_to_numeric(0) : fold.area,
						int64_div_fast_to_numeric(range.end - range.start, 6));
}

static Numeric
trimmed(Numeric quantity)
{
	return DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(quantity)));
}

Numeric
usage_quantity(const char *organization_id, const Meter *meter, const UsageTail *tail,
			   UsageRange range)
{
	UsageRange asked = range;
	Question question;
	Numeric found;

	if (meter->carried && meter->aggregation != AGGREGATE_WEIGHTED)
		asked.start = DT_NOBEGIN;
	if (usage_tables()->distributed)
	{
		found = shards_quantity(organization_id, meter, asked);
		return found == NULL ? int64_to_numeric(0) : trimmed(found);
	}
	question = question_of(organization_id, meter, tail, asked);
	switch (meter->aggregation)
	{
		case AGGREGATE_SUM:
		case AGGREGATE_COUNT:
			found = answer_sum(&question);
			break;
		case AGGREGATE_MAX:
			found = answer_max(&question);
			break;
		case AGGREGATE_LATEST:
			found = answer_latest(&question);
			break;
		case AGGREGATE_UNIQUE:
			found = answer_unique(&question);
			break;
		default:
			found = answer_weighted(&question);
			break;
	}
	return found == NULL ? int64_to_numeric(0) : trimmed(found);
}

/*-------------------------------------------------------------------------
 *
 * usage_shards_read.c
 *	  How much was used in a range, where Citus distributes the tables.
 *
 * There is no snapshot of all nodes, but one statement about one organisation
 * runs on one node, on one snapshot of it.  So each metric is one statement:
 * totals of the quarters of an hour that no mark says are behind, and the
 * events of the others and of the edges of the range.  What it returns is
 * folded here; usage_read.c calls it in place of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "utils/hsearch.h"

/* ------------------------------------------------------------------------
 * The statements.  $1, $2: organisation and metric; $3, $6: the range; $4, $5:
 * its full quarters.
 * ------------------------------------------------------------------------
 */
#define TYPES TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID

#define EVENT            "SELECT 'event', e.occurred_at, e.id, e.quantity, e.kind, e.properties, e.corrects"
#define OF_METRIC(alias) alias ".organization_id = $1 AND " alias ".metric = $2 AND "

/* Both edges, then the quarters whose totals are behind. */
#define EVENTS(more)                                                                               \
	EVENT more " FROM billing.usage_events AS e WHERE " OF_METRIC(                                 \
		"e") "e.occurred_at >= $3 AND e.occurred_at < least($4, $6) UNION ALL " EVENT              \
		more " FROM billing.usage_events AS e WHERE " OF_METRIC(                                   \
			"e") "e.occurred_at >= $5 AND e.occurred_at < $6 UNION ALL " EVENT                     \
			more " FROM (SELECT DISTINCT m.bucket FROM billing.usage_dirty AS m WHERE " OF_METRIC( \
				"m") "m.bucket >= $4 AND m.bucket < $5) AS d JOIN billing.usage_events AS e ON " OF_METRIC("e") "e.occurred_at >= d.bucket AND e.occurred_at < d.bucket + interval '15 minutes'"

#define CLEAN                                                       \
	OF_METRIC("t")                                                  \
	"t.bucket >= $4 AND t.bucket < $5 AND NOT EXISTS (SELECT FROM " \
	"billing.usage_dirty AS m WHERE " OF_METRIC("m") "m.bucket = t.bucket)"

/* Columns of totals: latest_at, latest_id, latest; first_at, area, largest; sum, events. */
QUERY_CUSTOM(
	read_sums,
	EVENTS(
		", NULL::numeric, NULL::bigint, NULL::numeric") " UNION ALL (SELECT 'total', NULL, NULL, NULL, NULL, NULL, NULL, sum(t.sum), sum(t.events)::bigint, max(t.largest) "
														"FROM billing.usage_totals AS t WHERE " CLEAN
														")"
														" UNION ALL (SELECT 'level', t.latest_at, t.latest_id, t.latest, NULL, NULL, NULL, NULL, NULL, NULL "
														"FROM billing.usage_totals AS t WHERE " CLEAN
														" AND t.latest IS NOT NULL "
														"ORDER BY t.bucket DESC, t.latest_at DESC, t.latest_id DESC LIMIT 1)",
	TYPES);
QUERY_CUSTOM(
	read_quarters,
	EVENTS(
		", NULL::timestamptz, NULL::numeric, NULL::numeric") " UNION ALL SELECT 'level', t.latest_at, t.latest_id, t.latest, NULL, NULL, NULL, t.first_at, t.area, t.largest "
															 "FROM billing.usage_totals AS t WHERE " CLEAN
															 " AND t.latest IS NOT NULL",
	TYPES);
QUERY_CUSTOM(
	read_values,
	EVENTS(
		", NULL::text, NULL::bigint") " UNION ALL (SELECT 'value', NULL, NULL, NULL, NULL, NULL, NULL, t.value, sum(t.events)::bigint "
									  "FROM billing.usage_values AS t WHERE " CLEAN
									  " GROUP BY t.value)",
	TYPES);

/* What a statement returned: column 1 is its kind. */
typedef struct Answer
{
	const Meter *meter;
	UsageRange range;
	Rows rows;
	int64 count;
} Answer;

static Arg
moment(TimestampTz at)
{
	return arg_datum(TimestampTzGetDatum(at), false);
}

static Answer
ask(SqlQuery *query, const char *organization_id, const Meter *meter, UsageRange range)
{
	UsageRange inner = usage_full_quarters(range);
	Answer answer = {meter, range, NULL, 0};

	usage_check_kept(range.start, Min(inner.start, range.end));
	usage_check_kept(inner.end, range.end);
	answer.count = READ(*query, arg_text(organization_id), arg_text(meter->metric),
						moment(range.start), moment(inner.start), moment(inner.end),
						moment(range.end));
	answer.rows = rows_keep();
	return answer;
}

static bool
is_kind(const Answer *answer, int64 row, const char *kind)
{
	return strcmp(rows_text(answer->rows, row, 1), kind) == 0;
}

static Numeric
numeric_at(const Answer *answer, int64 row, int column)
{
	bool isnull;
	Datum value = rows_datum(answer->rows, row, column, &isnull);

	return isnull ? NULL : DatumGetNumericCopy(value);
}

static void
visit_events(const Answer *answer, VisitUsage visit, void *context)
{
	for (int64 i = 0; i < answer->count; i++)
	{
		UsageEvent event = {0};

		CHECK_FOR_INTERRUPTS();
		if (!is_kind(answer, i, "event"))
			continue;
		event.occurred_at = rows_time(answer->rows, i, 2);
		event.id = *rows_uuid(answer->rows, i, 3);
		event.quantity = numeric_at(answer, i, 4);
		event.kind = *rows_text(answer->rows, i, 5);
		event.properties = rows_null(answer->rows, i, 6) ? NULL : rows_json(answer->rows, i, 6);
		event.corrects = rows_uuid(answer->rows, i, 7);
		visit(&event, context);
	}
}

/* ------------------------------------------------------------------------
 * The aggregations
 * ------------------------------------------------------------------------
 */
static void
add_event(const UsageEvent *event, void *fold)
{
	fold_event(fold, event);
}

static Numeric
answer_sum(const Answer *answer)
{
	Numeric sum = NULL;
	int64 events = 0;
	Fold fold = {0};

	for (int64 i = 0; i < answer->count; i++)
	{
		if (!is_kind(answer, i, "total"))
			continue;
		sum = numeric_at(answer, i, 8);
		events = rows_int(answer->rows, i, 9);
	}
	visit_events(answer, add_event, &fold);
	if (answer->meter->aggregation == AGGREGATE_COUNT)
		return int64_to_numeric(fold.events + events);
	return sum == NULL ? fold_sum(&fold) : numeric_plus(fold_sum(&fold), sum);
}

/* A quarter of an hour of the totals, or an event as it was corrected. */
static Fold *
levels_of(const Answer *answer, int64 *part_count)
{
	Levels *levels = levels_new();
	int64 level_count;
	int64 count = 0;
	Level **sorted;
	Fold *parts;

	visit_events(answer, levels_add, levels);
	sorted = levels_sorted(levels, &level_count);
	parts = palloc0(sizeof(Fold) * (level_count + answer->count + 1));
	for (int64 i = 0; i < level_count; i++)
		fold_level(&parts[count++], sorted[i]->at, &sorted[i]->id, sorted[i]->quantity);
	for (int64 i = 0; i < answer->count; i++)
	{
		if (!is_kind(answer, i, "level"))
			continue;
		parts[count].latest_at = rows_time(answer->rows, i, 2);
		parts[count].latest_id = *rows_uuid(answer->rows, i, 3);
		parts[count].latest = numeric_at(answer, i, 4);
		count++;
	}
	*part_count = count;
	return parts;
}

static Numeric
answer_max(const Answer *answer)
{
	Numeric largest = NULL;
	int64 count;
	Fold *parts = levels_of(answer, &count);

	for (int64 i = 0; i < answer->count; i++)
	{
		if (is_kind(answer, i, "total"))
			largest = numeric_at(answer, i, 10);
	}
	for (int64 i = 0; i < count; i++)
	{
		if (parts[i].largest != NULL &&
			(largest == NULL || numeric_order(parts[i].largest, largest) > 0))
			largest = parts[i].largest;
	}
	return largest;
}

static Numeric
answer_latest(const Answer *answer)
{
	Fold fold = {0};
	int64 count;
	Fold *parts = levels_of(answer, &count);

	for (int64 i = 0; i < count; i++)
		fold_level(&fold, parts[i].latest_at, &parts[i].latest_id, parts[i].latest);
	return fold.latest;
}

typedef struct ValueCount
{
	char value[256]; /* the key: at most 255 bytes, by usage_rules.c */
	int64 events;
} ValueCount;

typedef struct Values
{
	const Meter *meter;
	HTAB *counts;
} Values;

static void
count_value(Values *values, const char *value, int64 events)
{
	bool found;
	ValueCount *entry = hash_search(values->counts, value, HASH_ENTER, &found);

	entry->events = events + (found ? entry->events : 0);
}

static void
add_value(const UsageEvent *event, void *context)
{
	Values *values = context;
	text *value;

	if (event->kind == 'c' || event->properties == NULL)
		return;
	value = meter_value(values->meter, event->properties);
	if (value != NULL)
		count_value(values, text_to_cstring(value), event->kind == 'u' ? 1 : -1);
}

static Numeric
answer_unique(const Answer *answer)
{
	HASHCTL control = {
		.keysize = 256, .entrysize = sizeof(ValueCount), .hcxt = CurrentMemoryContext};
	Values values = {answer->meter, NULL};
	HASH_SEQ_STATUS status;
	ValueCount *entry;
	int64 different = 0;

	values.counts = hash_create("billing usage values", 256, &control,
								HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	visit_events(answer, add_value, &values);
	for (int64 i = 0; i < answer->count; i++)
	{
		if (is_kind(answer, i, "value"))
			count_value(&values, rows_text(answer->rows, i, 8), rows_int(answer->rows, i, 9));
	}
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

/* Those of the totals come last, in the order of the rows. */
static Fold *
quarters_of(const Answer *answer, int64 *count)
{
	Fold *parts = levels_of(answer, count);
	int64 quarter = *count;

	for (int64 i = answer->count - 1; i >= 0; i--)
	{
		if (!is_kind(answer, i, "level"))
			continue;
		quarter--;
		parts[quarter].first_at = rows_time(answer->rows, i, 8);
		parts[quarter].area = numeric_at(answer, i, 9);
		parts[quarter].largest = numeric_at(answer, i, 10);
	}
	qsort(parts, *count, sizeof(Fold), part_order);
	return parts;
}

/* The level at the start is read by a statement of its own, a moment later. */
static Numeric
answer_weighted(const char *organization_id, const Answer *answer)
{
	UsageRange range = answer->range;
	pg_uuid_t no_id = {{0}};
	Fold fold = {0};
	int64 count;
	Fold *parts = quarters_of(answer, &count);

	if (answer->meter->carried)
	{
		Answer before = ask(&read_sums, organization_id, answer->meter,
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

Numeric
shards_quantity(const char *organization_id, const Meter *meter, UsageRange range)
{
	SqlQuery *query = &read_sums;
	Answer answer;

	if (meter->aggregation == AGGREGATE_UNIQUE)
		query = &read_values;
	else if (meter->aggregation == AGGREGATE_WEIGHTED)
		query = &read_quarters;
	answer = ask(query, organization_id, meter, range);
	switch (meter->aggregation)
	{
		case AGGREGATE_SUM:
		case AGGREGATE_COUNT:
			return answer_sum(&answer);
		case AGGREGATE_MAX:
			return answer_max(&answer);
		case AGGREGATE_LATEST:
			return answer_latest(&answer);
		case AGGREGATE_UNIQUE:
			return answer_unique(&answer);
		default:
			return answer_weighted(organization_id, &answer);
	}
}

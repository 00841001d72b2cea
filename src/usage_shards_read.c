/*-------------------------------------------------------------------------
 *
 * usage_shards_read.c
 *	  What a question about usage takes, where Citus distributes the tables.
 *
 * There is no snapshot of all nodes, but one statement about one organisation
 * runs on one node, on one snapshot of it.  So each question is one statement:
 * totals of the quarters of an hour that no mark says are behind, and the
 * events of the others and of the edges of the range.  usage_read.c makes the
 * answer of them, as it does of what it reads itself.
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

/* ------------------------------------------------------------------------
 * The statements.  $1, $2: organisation and metric; $3, $6: the range; $4, $5:
 * its full quarters; $7: of a level that nothing is grouped by, what its
 * dimensions contain.
 * ------------------------------------------------------------------------
 */
#define TYPES TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID

/* Column 1 is the kind of a row, so many more are of events, the others of totals. */
#define TOTALS_SHIFT 7

#define EVENT            "SELECT 'event', e.occurred_at, e.id, e.quantity, e.kind, e.properties, e.corrects"
#define OF_METRIC(alias) alias ".organization_id = $1 AND " alias ".metric = $2 AND "

/* clang-format off */
/* Both edges, then the quarters whose totals are behind. */
#define EVENTS(nothing)                                                                          \
	EVENT nothing " FROM billing.usage_events AS e WHERE " OF_METRIC("e")                        \
	"e.occurred_at >= $3 AND e.occurred_at < least($4, $6) UNION ALL "                           \
	EVENT nothing " FROM billing.usage_events AS e WHERE " OF_METRIC("e")                        \
	"e.occurred_at >= $5 AND e.occurred_at < $6 UNION ALL "                                      \
	EVENT nothing " FROM (SELECT DISTINCT m.bucket FROM billing.usage_dirty AS m WHERE "         \
	OF_METRIC("m") "m.bucket >= $4 AND m.bucket < $5) AS d JOIN billing.usage_events AS e ON "   \
	OF_METRIC("e") "e.occurred_at >= d.bucket AND e.occurred_at < d.bucket + interval '15 minutes'"

#define CLEAN(table)                                                                             \
	" FROM billing." table " AS t WHERE " OF_METRIC("t")                                         \
	"t.bucket >= $4 AND t.bucket < $5 AND NOT EXISTS (SELECT FROM billing.usage_dirty AS m WHERE " \
	OF_METRIC("m") "m.bucket = t.bucket)"

#define TOTALS(select, columns) \
	" UNION ALL (SELECT " select "'total', NULL, NULL, NULL, NULL, NULL, NULL, " columns

/* The columns of totals are those of usage_read.c, by dimensions. */
QUERY_CUSTOM(ask_sums,
			 EVENTS(", NULL::numeric, NULL::bigint, NULL::jsonb")
			 TOTALS("", "sum(t.sum), sum(t.events)::bigint, t.dimensions")
			 CLEAN("usage_totals") " GROUP BY t.dimensions)",
			 TYPES);
QUERY_CUSTOM(ask_largest,
			 EVENTS(", NULL::numeric, NULL::jsonb")
			 TOTALS("", "max(t.largest), t.dimensions")
			 CLEAN("usage_totals") " GROUP BY t.dimensions)",
			 TYPES);
QUERY_CUSTOM(ask_latest,
			 EVENTS(", NULL::numeric, NULL::timestamptz, NULL::uuid, NULL::jsonb")
			 TOTALS("", "t.latest, t.latest_at, t.latest_id, t.dimensions")
			 CLEAN("usage_totals") " AND t.latest IS NOT NULL AND t.dimensions @> $7 "
			 "ORDER BY t.bucket DESC, t.latest_at DESC, t.latest_id DESC LIMIT 1)",
			 TYPES, JSONBOID);
QUERY_CUSTOM(ask_latest_by,
			 EVENTS(", NULL::numeric, NULL::timestamptz, NULL::uuid, NULL::jsonb")
			 TOTALS("DISTINCT ON (t.dimensions) ", "t.latest, t.latest_at, t.latest_id, t.dimensions")
			 CLEAN("usage_totals") " AND t.latest IS NOT NULL "
			 "ORDER BY t.dimensions, t.latest_at DESC, t.latest_id DESC)",
			 TYPES);
QUERY_CUSTOM(ask_quarters,
			 EVENTS(", NULL::timestamptz, NULL::timestamptz, NULL::uuid, NULL::numeric, NULL::numeric, NULL::numeric")
			 TOTALS("", "t.first_at, t.latest_at, t.latest_id, t.latest, t.area, t.largest")
			 CLEAN("usage_totals") " AND t.latest IS NOT NULL)",
			 TYPES);
QUERY_CUSTOM(ask_values,
			 EVENTS(", NULL::text, NULL::bigint, NULL::jsonb")
			 TOTALS("", "t.value, sum(t.events)::bigint, t.dimensions")
			 CLEAN("usage_values") " GROUP BY t.dimensions, t.value)",
			 TYPES);
/* clang-format on */

/* ------------------------------------------------------------------------
 * Asking
 * ------------------------------------------------------------------------
 */
struct ShardAnswer
{
	Rows rows;
	int64 *events; /* the rows that are of events */
	int64 event_count;
	int64 *totals;
	int64 total_count;
};

static SqlQuery *
statement_for(const ShardQuestion *question)
{
	switch (question->aggregation)
	{
		case AGGREGATE_SUM:
		case AGGREGATE_COUNT:
			return &ask_sums;
		case AGGREGATE_MAX:
			return &ask_largest;
		case AGGREGATE_LATEST:
			return question->contains != NULL ? &ask_latest : &ask_latest_by;
		case AGGREGATE_UNIQUE:
			return &ask_values;
		default:
			return &ask_quarters;
	}
}

static Arg
moment(TimestampTz at)
{
	return arg_datum(TimestampTzGetDatum(at), false);
}

ShardAnswer *
shards_ask(const ShardQuestion *question)
{
	SqlQuery *statement = statement_for(question);
	ShardAnswer *answer = palloc0(sizeof(ShardAnswer));
	int64 count = READ(*statement, arg_text(question->organization_id), arg_text(question->metric),
					   moment(question->range.start), moment(question->inner.start),
					   moment(question->inner.end), moment(question->range.end),
					   arg_json(question->contains));

	answer->rows = rows_keep();
	answer->events = palloc(sizeof(int64) * Max(count, 1));
	answer->totals = palloc(sizeof(int64) * Max(count, 1));
	for (int64 i = 0; i < count; i++)
	{
		if (strcmp(rows_text(answer->rows, i, 1), "event") == 0)
			answer->events[answer->event_count++] = i;
		else
			answer->totals[answer->total_count++] = i;
	}
	return answer;
}

/* ------------------------------------------------------------------------
 * What came of it
 * ------------------------------------------------------------------------
 */
static Numeric
numeric_at(Rows rows, int64 row, int column)
{
	bool isnull;
	Datum value = rows_datum(rows, row, column, &isnull);

	return isnull ? NULL : DatumGetNumericCopy(value);
}

void
shards_visit(const ShardAnswer *answer, VisitUsage visit, void *context)
{
	Rows rows = answer->rows;

	for (int64 i = 0; i < answer->event_count; i++)
	{
		int64 row = answer->events[i];
		UsageEvent event = {0};

		CHECK_FOR_INTERRUPTS();
		event.occurred_at = rows_time(rows, row, 2);
		event.id = *rows_uuid(rows, row, 3);
		event.quantity = numeric_at(rows, row, 4);
		event.kind = *rows_text(rows, row, 5);
		event.properties = rows_null(rows, row, 6) ? NULL : rows_json(rows, row, 6);
		event.corrects = rows_uuid(rows, row, 7);
		visit(&event, context);
	}
}

TotalRows
shards_totals(const ShardAnswer *answer)
{
	return (TotalRows){answer->rows, answer->total_count, answer->totals, TOTALS_SHIFT};
}

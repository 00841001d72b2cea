/*-------------------------------------------------------------------------
 *
 * usage_closings.c
 *	  close_usage_period(): what is billed of a period, once and for all.
 *
 * A closing writes down the usage of its period and, of every period that was
 * closed before, the difference between what it comes to now and what was
 * billed of it so far.  Nothing is said of single events: one that a closing
 * does not see, because its transaction is open, makes the difference of the
 * next one.  For that each closing has to see all that those before it saw, and
 * their lines.  So closings of one organisation wait for each other, and read
 * on a snapshot that is taken then, whatever the isolation of the caller.
 *
 * Periods into which nothing can have come since a closing looked at them are
 * left out: those without a mark (usage_closing_marks) and without an event in
 * the tail.
 *
 * Events of a quarter of an hour may be gone (usage_retention) when a period
 * that begins or ends inside of it changes.  Whole quarters are still known, so
 * from then on differences are taken of the period as if it began, or began
 * and ended, with such a quarter: what lies between two periods then counts
 * with the later one, as it does there.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "access/table.h"
#include "check.h"
#include "common/hashfn.h"
#include "errors.h"
#include "storage/lock.h"
#include "usage.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

/* Of advisory locks; the functions of SQL use 1 and 2, the worker 3. */
#define ADVISORY_SPACE 4

/* Of a level over time: the average to so many decimals, as a division has no end. */
#define WEIGHTED_DECIMALS 6

/* One organisation, as the active snapshot has it. */
typedef struct Scope
{
	const char *organization_id;
	const UsageTail *tail;
	List *meters;
	Rows marks; /* as list_marks has them */
	int64 mark_count;
	List *left; /* TimestampTz *: where closed periods begin that are for others to look at */
} Scope;

static Arg
moment(TimestampTz at)
{
	return arg_datum(TimestampTzGetDatum(at), false);
}

static Numeric
zero(void)
{
	return int64_to_numeric(0);
}

static Numeric
trimmed(Numeric value)
{
	return DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(value)));
}

/* ------------------------------------------------------------------------
 * What there is
 * ------------------------------------------------------------------------
 */
static Numeric
used_in(const Scope *scope, const Meter *meter, UsageRange range)
{
	Numeric quantity;

	/* cut, a short period may have nothing left; what is carried has no beginning */
	if (range.start >= range.end && (!meter->carried || meter->aggregation == AGGREGATE_WEIGHTED))
		return zero();
	quantity = usage_quantity(scope->organization_id, meter, scope->tail, range);
	if (meter->aggregation == AGGREGATE_WEIGHTED)
		quantity = DatumGetNumeric(DirectFunctionCall2(numeric_round, NumericGetDatum(quantity),
													   Int32GetDatum(WEIGHTED_DECIMALS)));
	return trimmed(quantity);
}

/* The period, cut as it is still known after its events are gone. */
static UsageRange
cut_of(UsageRange period, UsageCut cut)
{
	if (cut != CUT_EXACT)
		period.start = usage_bucket(period.start);
	if (cut == CUT_IN_QUARTERS)
		period.end = usage_bucket(period.end);
	return period;
}

static bool
is_known(TimestampTz edge)
{
	return usage_bucket(edge) == edge || usage_bucket(edge) >= usage_tables()->raw_since;
}

/* The first one that is known. */
static UsageCut
known_cut(UsageRange period)
{
	if (!is_known(period.end))
		return CUT_IN_QUARTERS;
	return is_known(period.start) ? CUT_EXACT : CUT_FROM_QUARTER;
}

static bool
same_range(UsageRange a, UsageRange b)
{
	return a.start == b.start && a.end == b.end;
}

/* Of the next cut, when the one before is known: sums take the events between the two. */
static Numeric
used_in_next(const Scope *scope, const Meter *meter, UsageRange before, UsageRange range,
			 Numeric quantity)
{
	bool adds = meter->aggregation == AGGREGATE_SUM || meter->aggregation == AGGREGATE_COUNT;

	if (same_range(before, range))
		return quantity;
	if (!adds || meter->carried || range.start >= range.end)
		return used_in(scope, meter, range);
	if (range.start < before.start)
		quantity = numeric_plus(quantity,
								used_in(scope, meter, (UsageRange){range.start, before.start}));
	if (range.end < before.end)
		quantity = numeric_minus(quantity,
								 used_in(scope, meter, (UsageRange){range.end, before.end}));
	return trimmed(quantity);
}

/* amounts[] from the first cut on. */
static void
amounts_in(const Scope *scope, const Meter *meter, UsageRange period, UsageCut first,
		   Numeric *amounts)
{
	amounts[first] = used_in(scope, meter, cut_of(period, first));
	for (int cut = first + 1; cut < USAGE_CUTS; cut++)
		amounts[cut] = used_in_next(scope, meter, cut_of(period, cut - 1), cut_of(period, cut),
									amounts[cut - 1]);
}

/* ------------------------------------------------------------------------
 * Lines
 * ------------------------------------------------------------------------
 */
static UsageLine *
line_new(const char *metric, bool correction, UsageRange period)
{
	UsageLine *line = palloc0(sizeof(UsageLine));

	strlcpy(line->metric, metric, sizeof(line->metric));
	line->correction = correction;
	line->period = period;
	return line;
}

static bool
is_something(const UsageLine *line)
{
	for (int cut = CUT_EXACT; cut < USAGE_CUTS; cut++)
	{
		if (numeric_order(line->amounts[cut], zero()) != 0)
			return true;
	}
	return false;
}

static List *
add_line(List *lines, UsageLine *line)
{
	return is_something(line) ? lappend(lines, line) : lines;
}

static void
row_amounts(int64 row, int column, Numeric *amounts)
{
	bool isnull;

	for (int cut = CUT_EXACT; cut < USAGE_CUTS; cut++)
		amounts[cut] = DatumGetNumericCopy(rows_datum(SPI_tuptable, row, column + cut, &isnull));
}

QUERY(
	read_billed,
	"SELECT coalesce(sum(quantity), 0), coalesce(sum(from_quarter), 0), coalesce(sum(in_quarters), 0) "
	"FROM billing.usage_closing_lines WHERE organization_id = $1 AND period_start = $2 AND metric = $3",
	TEXTOID, TIMESTAMPTZOID, TEXTOID);

/* The cuts that are not known any more, and never again, follow the first one that is. */
static UsageLine *
correction_of(const Scope *scope, const Meter *meter, UsageRange period)
{
	UsageLine *line = line_new(meter->metric, true, period);
	UsageCut first = known_cut(period);
	Numeric now[USAGE_CUTS];
	Numeric billed[USAGE_CUTS];

	amounts_in(scope, meter, period, first, now);
	READ(read_billed, arg_text(scope->organization_id), moment(period.start),
		 arg_text(meter->metric));
	row_amounts(0, 1, billed);
	for (int cut = CUT_EXACT; cut < USAGE_CUTS; cut++)
	{
		int known = Max(cut, (int) first);

		line->amounts[cut] = trimmed(numeric_minus(now[known], billed[known]));
	}
	return line;
}

static bool
is_marked(const Scope *scope, const Meter *meter, UsageRange period)
{
	for (int64 i = 0; i < scope->mark_count; i++)
	{
		if (rows_time(scope->marks, i, 1) == period.start &&
			(rows_null(scope->marks, i, 2) ||
			 strcmp(rows_text(scope->marks, i, 2), meter->metric) == 0))
			return true;
	}
	return false;
}

/* As usage_closings_touched() looks at what is in the totals. */
static bool
is_in_tail(const Scope *scope, const Meter *meter, UsageRange period)
{
	ListCell *cell;

	/* there what the totals lack is told by marks, and not by the events */
	if (usage_tables()->distributed)
		return true;
	foreach (cell, usage_tail_events(scope->tail, scope->organization_id, meter->metric))
	{
		const UsageEvent *event = lfirst(cell);

		if (event->occurred_at < period.end &&
			(meter->carried || event->occurred_at >= usage_bucket(period.start)))
			return true;
	}
	return false;
}

/*
 * What retention had left behind when a closing looked at it stays as it is:
 * nothing is added to it any more.
 */
QUERY(
	read_closed,
	"SELECT u.period_start, u.period_end, EXISTS (SELECT FROM billing.usage_closing_prices AS p "
	"JOIN billing.prices AS r ON r.id = p.price_id WHERE p.organization_id = u.organization_id "
	"AND p.period_start = u.period_start AND r.currency <> $2) "
	"FROM billing.usage_closings AS u WHERE u.organization_id = $1 AND u.period_end > u.period_start "
	"AND u.period_end > (SELECT coalesce(max(c.raw_since), '-infinity') FROM billing.usage_closings AS c WHERE c.organization_id = $1) "
	"ORDER BY u.period_start",
	TEXTOID, TEXTOID);

static void
leave(Scope *scope, TimestampTz period_start)
{
	TimestampTz *start = palloc(sizeof(TimestampTz));

	*start = period_start;
	scope->left = lappend(scope->left, start);
}

static bool
is_left(const Scope *scope, TimestampTz period_start)
{
	ListCell *cell;

	foreach (cell, scope->left)
	{
		if (*(const TimestampTz *) lfirst(cell) == period_start)
			return true;
	}
	return false;
}

static List *
corrections_of(Scope *scope, const UsageBuyer *buyer)
{
	int64 count = READ(read_closed, arg_text(scope->organization_id),
					   arg_text(buyer == NULL ? NULL : buyer->currency));
	Rows rows = rows_keep();
	List *lines = NIL;

	for (int64 i = 0; i < count; i++)
	{
		UsageRange period = {rows_time(rows, i, 1), rows_time(rows, i, 2)};
		ListCell *cell;

		if (rows_bool(rows, i, 3))
		{
			leave(scope, period.start);
			continue;
		}
		foreach (cell, scope->meters)
		{
			const Meter *meter = lfirst(cell);

			if (is_marked(scope, meter, period) || is_in_tail(scope, meter, period))
				lines = add_line(lines, correction_of(scope, meter, period));
		}
	}
	return lines;
}

static List *
usage_of(const Scope *scope, UsageRange period)
{
	List *lines = NIL;
	ListCell *cell;

	foreach (cell, scope->meters)
	{
		const Meter *meter = lfirst(cell);
		UsageLine *line = line_new(meter->metric, false, period);

		amounts_in(scope, meter, period, CUT_EXACT, line->amounts);
		lines = add_line(lines, line);
	}
	return lines;
}

/* ------------------------------------------------------------------------
 * Closings
 * ------------------------------------------------------------------------
 */
QUERY(list_meters, "SELECT metric FROM billing.meters ORDER BY metric", InvalidOid);
QUERY(
	list_marks,
	"SELECT period_start, metric, array_agg(id) FILTER (WHERE marked_in IS DISTINCT FROM pg_current_xact_id_if_assigned()) "
	"FROM billing.usage_closing_marks WHERE organization_id = $1 GROUP BY period_start, metric",
	TEXTOID);

static Scope
scope_open(const char *organization_id)
{
	Scope scope = {.organization_id = organization_id, .tail = usage_tail(organization_id)};
	int64 count = READ(list_meters, arg_null());
	Rows rows = rows_keep();

	for (int64 i = 0; i < count; i++)
	{
		const Meter *meter = meter_named(rows_text(rows, i, 1));

		/* made by a transaction that is not over, and unknown to the rules: not used yet */
		if (meter != NULL)
			scope.meters = lappend(scope.meters, (void *) meter);
	}
	scope.mark_count = READ(list_marks, arg_text(organization_id));
	scope.marks = rows_keep();
	return scope;
}

QUERY(
	read_lines,
	"SELECT metric, kind = 'correction', period_start, period_end, quantity, from_quarter, in_quarters FROM billing.usage_closing_lines "
	"WHERE organization_id = $1 AND closing_start = $2 ORDER BY kind DESC, period_start, metric",
	TEXTOID, TIMESTAMPTZOID);

static List *
lines_of_closing(const char *organization_id, TimestampTz start)
{
	int64 count = READ(read_lines, arg_text(organization_id), moment(start));
	List *lines = NIL;

	for (int64 i = 0; i < count; i++)
	{
		UsageLine *line = line_new(row_text(i, 1), row_bool(i, 2),
								   (UsageRange){row_time(i, 3), row_time(i, 4)});

		row_amounts(i, 5, line->amounts);
		lines = lappend(lines, line);
	}
	return lines;
}

QUERY(
	read_overlapping,
	"SELECT period_start, period_end FROM billing.usage_closings WHERE organization_id = $1 "
	"AND period_start < $3 AND period_end > $2 AND period_end > period_start ORDER BY period_start LIMIT 1",
	TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

/* True when this very period is closed; JB008 when another one overlaps it. */
static bool
is_closed(const char *organization_id, UsageRange period)
{
	UsageRange other;

	if (READ(read_overlapping, arg_text(organization_id), moment(period.start),
			 moment(period.end)) == 0)
		return false;
	other = (UsageRange){row_time(0, 1), row_time(0, 2)};
	if (other.start == period.start && other.end == period.end)
		return true;
	ereport(ERROR,
			(errcode(ERRCODE_JB_STATE), errmsg("the period overlaps one that is closed"),
			 errdetail("Usage of \"%s\" from %s to %s was closed.", organization_id,
					   pstrdup(timestamptz_to_str(other.start)),
					   pstrdup(timestamptz_to_str(other.end))),
			 errhint("Begin where the last closed period ends: billing.usage_closings has them.")));
}

static void
check_period(UsageRange period)
{
	if (period.end > period.start && !TIMESTAMP_NOT_FINITE(period.start) &&
		!TIMESTAMP_NOT_FINITE(period.end))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("end_at is not after start_at, or one of them is infinite"),
			 errdetail("The period is from %s to %s.", pstrdup(timestamptz_to_str(period.start)),
					   pstrdup(timestamptz_to_str(period.end))),
			 errhint("Periods are half-open: end_at is the first moment that does not count.")));
}

static List *
lines_of(Scope *scope, UsageRange period, const UsageBuyer *buyer)
{
	return list_concat(usage_of(scope, period), corrections_of(scope, buyer));
}

List *
usage_period_preview(const char *organization_id, UsageRange period, const UsageBuyer *buyer)
{
	Relation events;
	Scope scope;
	List *lines;

	check_period(period);
	if (is_closed(organization_id, period))
		return lines_of_closing(organization_id, period.start);
	/* no partition is removed meanwhile */
	events = table_open(usage_tables()->events, AccessShareLock);
	scope = scope_open(organization_id);
	lines = lines_of(&scope, period, buyer);
	table_close(events, AccessShareLock);
	return lines;
}

List *
usage_late_preview(const char *organization_id, const UsageBuyer *buyer)
{
	/* no partition is removed meanwhile */
	Relation events = table_open(usage_tables()->events, AccessShareLock);
	Scope scope = scope_open(organization_id);
	List *lines = corrections_of(&scope, buyer);

	table_close(events, AccessShareLock);
	return lines;
}

/* Until the end of the transaction, also of one that is prepared. */
static void
lock_closings(const char *organization_id)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) organization_id,
									  strlen(organization_id), 0);
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash, ADVISORY_SPACE);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/* The second that it ends in may go on: what that brings is a correction. */
static void
check_over(const char *organization_id, UsageRange period)
{
	TimestampTz now = clock_now(organization_id);

	if (period.end - period.end % USECS_PER_SEC <= now)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_JB_STATE), errmsg("the period is not over"),
			 errdetail("It ends at %s, and it is %s.", pstrdup(timestamptz_to_str(period.end)),
					   pstrdup(timestamptz_to_str(now))),
			 errhint("billing.preview_usage_period() says what it comes to so far.")));
}

QUERY(write_marks,
	  "INSERT INTO billing.usage_closing_marks (organization_id, period_start, metric) "
	  "SELECT DISTINCT c.organization_id, c.period_start, u.metric "
	  "FROM unnest($1, $2, $3) AS u (organization_id, metric, bucket) "
	  "JOIN billing.meters AS m ON m.metric = u.metric "
	  "JOIN billing.usage_closings AS c ON c.organization_id = u.organization_id "
	  "AND c.period_end > u.bucket "
	  "AND (m.carried OR c.period_start < u.bucket + interval '15 minutes') "
	  "WHERE EXISTS (SELECT FROM billing.usage_closings)",
	  TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID);
QUERY(write_own_mark,
	  "INSERT INTO billing.usage_closing_marks (organization_id, period_start) VALUES ($1, $2)",
	  TEXTOID, TIMESTAMPTZOID);
QUERY(take_marks,
	  "DELETE FROM billing.usage_closing_marks WHERE organization_id = $1 AND id = ANY ($2)",
	  TEXTOID, UUIDARRAYOID);

/* Always a new row: one that is there may be taken by a closing that does not see what is marked. */
void
usage_closings_touched(Arg organization_ids, Arg metrics, Arg buckets)
{
	RUN(write_marks, organization_ids, metrics, buckets);
}

/*
 * What this transaction has marked itself stays for the next one: what runs
 * take in that do not see it yet is visible only to who comes after it.
 */
static void
take_all_marks(const Scope *scope)
{
	for (int64 i = 0; i < scope->mark_count; i++)
	{
		bool isnull;
		Datum ids = rows_datum(scope->marks, i, 3, &isnull);

		if (!isnull && !is_left(scope, rows_time(scope->marks, i, 1)))
			RUN(take_marks, arg_text(scope->organization_id), arg_datum(ids, false));
	}
}

QUERY(
	insert_closing,
	"INSERT INTO billing.usage_closings (organization_id, period_start, period_end, raw_since, subscription_id) VALUES ($1, $2, $3, $4, $5)",
	TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDOID);
QUERY(
	insert_line,
	"INSERT INTO billing.usage_closing_lines (organization_id, closing_start, metric, kind, period_start, period_end, "
	"quantity, from_quarter, in_quarters) "
	"VALUES ($1, $2, $3, CASE WHEN $4 THEN 'correction' ELSE 'usage' END, $5, $6, $7, $8, $9)",
	TEXTOID, TIMESTAMPTZOID, TEXTOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID, NUMERICOID,
	NUMERICOID, NUMERICOID);

static Arg
number(Numeric value)
{
	return arg_datum(NumericGetDatum(value), false);
}

/* Which left some to others has not taken over all that was known then. */
static void
write_closing(const Scope *scope, UsageRange period, const List *lines, const UsageBuyer *buyer)
{
	Arg organization_id = arg_text(scope->organization_id);
	TimestampTz raw_since = scope->left == NIL ? usage_tables()->raw_since : DT_NOBEGIN;
	ListCell *cell;

	RUN(insert_closing, organization_id, moment(period.start), moment(period.end),
		moment(raw_since), arg_uuid(buyer == NULL ? NULL : buyer->subscription_id));
	foreach (cell, lines)
	{
		const UsageLine *line = lfirst(cell);

		RUN(insert_line, organization_id, moment(period.start), arg_text(line->metric),
			arg_bool(line->correction), moment(line->period.start), moment(line->period.end),
			number(line->amounts[CUT_EXACT]), number(line->amounts[CUT_FROM_QUARTER]),
			number(line->amounts[CUT_IN_QUARTERS]));
	}
}

/*
 * One closing at a time, on what was committed before it.  The lock of the table
 * comes before the snapshot: no partition is removed after it.
 */
static Relation
closing_begin(const char *organization_id)
{
	Relation events = table_open(usage_tables()->events, AccessShareLock);

	lock_closings(organization_id);
	/* what this transaction has recorded counts */
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	return events;
}

static void
closing_end(Relation events)
{
	PopActiveSnapshot();
	table_close(events, NoLock);
}

List *
usage_period_close(const char *organization_id, UsageRange period, const UsageBuyer *buyer)
{
	Relation events;
	List *lines;

	check_period(period);
	check_over(organization_id, period);
	events = closing_begin(organization_id);
	if (is_closed(organization_id, period))
		lines = lines_of_closing(organization_id, period.start);
	else
	{
		Scope scope = scope_open(organization_id);

		lines = lines_of(&scope, period, buyer);
		write_closing(&scope, period, lines, buyer);
		take_all_marks(&scope);
		RUN(write_own_mark, arg_text(organization_id), moment(period.start));
	}
	closing_end(events);
	return lines;
}

/*
 * Periods begin with whole seconds, or with the last microsecond of one where
 * something ended in it: this is none of theirs, and covers no time.
 */
QUERY(
	free_moment,
	"SELECT coalesce(max(c.period_start), s.second) + interval '1 microsecond' "
	"FROM (SELECT date_trunc('second', $2::timestamptz) AS second) AS s LEFT JOIN billing.usage_closings AS c "
	"ON c.organization_id = $1 AND c.period_start >= s.second AND c.period_start < s.second + interval '0.999999 seconds' "
	"GROUP BY s.second",
	TEXTOID, TIMESTAMPTZOID);

List *
usage_late_take(const char *organization_id, TimestampTz at, const UsageBuyer *buyer,
				TimestampTz *closing)
{
	Relation events = closing_begin(organization_id);
	Scope scope = scope_open(organization_id);
	List *lines = corrections_of(&scope, buyer);

	if (lines != NIL)
	{
		READ(free_moment, arg_text(organization_id), moment(at));
		*closing = row_time(0, 1);
		write_closing(&scope, (UsageRange){*closing, *closing}, lines, buyer);
	}
	take_all_marks(&scope);
	closing_end(events);
	return lines;
}

/* ------------------------------------------------------------------------
 * SQL functions
 * ------------------------------------------------------------------------
 */
static void
put_lines(ReturnSetInfo *result, const List *lines, bool all_are_late)
{
	ListCell *cell;

	foreach (cell, lines)
	{
		const UsageLine *line = lfirst(cell);
		Datum values[5];
		bool nulls[5] = {false};
		int n = 0;

		/* it has changed a quarter at an edge of its period only */
		if (numeric_order(line->amounts[CUT_EXACT], zero()) == 0)
			continue;
		values[n++] = CStringGetTextDatum(line->metric);
		if (!all_are_late)
			values[n++] = CStringGetTextDatum(line->correction ? "correction" : "usage");
		values[n++] = TimestampTzGetDatum(line->period.start);
		values[n++] = TimestampTzGetDatum(line->period.end);
		values[n++] = NumericGetDatum(line->amounts[CUT_EXACT]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

static Datum
answer_period(FunctionCallInfo fcinfo, List *(*find)(const char *, UsageRange, const UsageBuyer *) )
{
	char *organization_id = ARG_TEXT(0);

	check_given("organization_id", organization_id != NULL && *organization_id != '\0');
	check_given("start_at", !PG_ARGISNULL(1));
	check_given("end_at", !PG_ARGISNULL(2));
	InitMaterializedSRF(fcinfo, 0);
	db_open();
	put_lines((ReturnSetInfo *) fcinfo->resultinfo,
			  find(organization_id,
				   (UsageRange){PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(2)}, NULL),
			  false);
	db_close();
	return (Datum) 0;
}

SQL_FUNCTION(billing_close_usage_period)
{
	return answer_period(fcinfo, usage_period_close);
}

SQL_FUNCTION(billing_preview_usage_period)
{
	return answer_period(fcinfo, usage_period_preview);
}

SQL_FUNCTION(billing_late_usage)
{
	char *organization_id = ARG_TEXT(0);
	Relation events;
	Scope scope;

	check_given("organization_id", organization_id != NULL);
	InitMaterializedSRF(fcinfo, 0);
	db_open();
	events = table_open(usage_tables()->events, AccessShareLock);
	scope = scope_open(organization_id);
	put_lines((ReturnSetInfo *) fcinfo->resultinfo, corrections_of(&scope, NULL), true);
	table_close(events, AccessShareLock);
	db_close();
	return (Datum) 0;
}

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
 * Events of a quarter of an hour may be gone (usage_retention) when a period
 * that begins inside of it changes.  Its whole quarters are still known, so
 * from then on differences are taken of the period with that quarter.
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
} Scope;

/* What a period has of a metric, or what was billed of that. */
typedef struct Amount
{
	Numeric quantity; /* NULL: not known any more */
	Numeric whole;    /* from the quarter of an hour on that the period begins in */
} Amount;

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
	Numeric quantity = usage_quantity(scope->organization_id, meter, scope->tail, range);

	if (meter->aggregation == AGGREGATE_WEIGHTED)
		quantity = DatumGetNumeric(DirectFunctionCall2(numeric_round, NumericGetDatum(quantity),
													   Int32GetDatum(WEIGHTED_DECIMALS)));
	return trimmed(quantity);
}

static bool
begins_with_quarter(UsageRange period)
{
	return usage_bucket(period.start) == period.start;
}

/* Sums take the events between the beginning of the quarter and the period; others are read again. */
static Numeric
used_with_quarter(const Scope *scope, const Meter *meter, UsageRange period, Numeric quantity)
{
	TimestampTz quarter = usage_bucket(period.start);

	if (quantity != NULL && !meter->carried &&
		(meter->aggregation == AGGREGATE_SUM || meter->aggregation == AGGREGATE_COUNT))
		return trimmed(
			numeric_plus(quantity, used_in(scope, meter, (UsageRange){quarter, period.start})));
	return used_in(scope, meter, (UsageRange){quarter, period.end});
}

static Amount
amount_in(const Scope *scope, const Meter *meter, UsageRange period, bool start_is_kept)
{
	Amount amount = {NULL, NULL};

	if (start_is_kept)
		amount.quantity = used_in(scope, meter, period);
	if (begins_with_quarter(period))
		amount.whole = amount.quantity;
	else
		amount.whole = used_with_quarter(scope, meter, period, amount.quantity);
	return amount;
}

/* ------------------------------------------------------------------------
 * Lines
 * ------------------------------------------------------------------------
 */
static UsageLine *
line_new(const Meter *meter, bool correction, UsageRange period, Numeric quantity, Numeric whole)
{
	UsageLine *line = palloc0(sizeof(UsageLine));

	strlcpy(line->metric, meter->metric, sizeof(line->metric));
	line->correction = correction;
	line->period = period;
	line->quantity = trimmed(quantity);
	line->whole = begins_with_quarter(period) ? NULL : trimmed(whole);
	return line;
}

static bool
is_something(const UsageLine *line)
{
	return numeric_order(line->quantity, zero()) != 0 ||
		   (line->whole != NULL && numeric_order(line->whole, zero()) != 0);
}

static List *
add_line(List *lines, UsageLine *line)
{
	return is_something(line) ? lappend(lines, line) : lines;
}

QUERY(
	read_billed,
	"SELECT coalesce(sum(quantity), 0), coalesce(sum(coalesce(whole, quantity)), 0) FROM billing.usage_closing_lines "
	"WHERE organization_id = $1 AND period_start = $2 AND metric = $3",
	TEXTOID, TIMESTAMPTZOID, TEXTOID);

static Amount
billed_of(const Scope *scope, const Meter *meter, UsageRange period)
{
	Amount billed;
	bool isnull;

	READ(read_billed, arg_text(scope->organization_id), moment(period.start),
		 arg_text(meter->metric));
	billed.quantity = DatumGetNumericCopy(rows_datum(SPI_tuptable, 0, 1, &isnull));
	billed.whole = DatumGetNumericCopy(rows_datum(SPI_tuptable, 0, 2, &isnull));
	return billed;
}

static UsageLine *
correction_of(const Scope *scope, const Meter *meter, UsageRange period)
{
	bool start_is_kept = begins_with_quarter(period) ||
						 usage_bucket(period.start) >= usage_tables()->raw_since;
	Amount now = amount_in(scope, meter, period, start_is_kept);
	Amount billed = billed_of(scope, meter, period);
	Numeric whole = numeric_minus(now.whole, billed.whole);

	return line_new(meter, true, period,
					start_is_kept ? numeric_minus(now.quantity, billed.quantity) : whole, whole);
}

/* Nothing is added before raw_since, so that what ends there stays as it is. */
QUERY(read_closed,
	  "SELECT period_start, period_end FROM billing.usage_closings WHERE organization_id = $1 "
	  "AND period_end > $2 ORDER BY period_start",
	  TEXTOID, TIMESTAMPTZOID);

static List *
corrections_of(const Scope *scope)
{
	int64 count = READ(read_closed, arg_text(scope->organization_id),
					   moment(usage_tables()->raw_since));
	Rows rows = rows_keep();
	List *lines = NIL;

	for (int64 i = 0; i < count; i++)
	{
		UsageRange period = {rows_time(rows, i, 1), rows_time(rows, i, 2)};
		ListCell *cell;

		foreach (cell, scope->meters)
			lines = add_line(lines, correction_of(scope, lfirst(cell), period));
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
		Amount amount = amount_in(scope, meter, period, true);

		lines = add_line(lines, line_new(meter, false, period, amount.quantity, amount.whole));
	}
	return lines;
}

/* ------------------------------------------------------------------------
 * Closings
 * ------------------------------------------------------------------------
 */
QUERY(list_meters, "SELECT metric FROM billing.meters ORDER BY metric", InvalidOid);

static Scope
scope_open(const char *organization_id)
{
	Scope scope = {organization_id, usage_tail(organization_id), NIL};
	int64 count = READ(list_meters, arg_null());
	Rows rows = rows_keep();

	for (int64 i = 0; i < count; i++)
	{
		const Meter *meter = meter_named(rows_text(rows, i, 1));

		/* made by a transaction that is not over, and unknown to the rules: not used yet */
		if (meter != NULL)
			scope.meters = lappend(scope.meters, (void *) meter);
	}
	return scope;
}

QUERY(
	read_lines,
	"SELECT metric, kind = 'correction', period_start, period_end, quantity, whole FROM billing.usage_closing_lines "
	"WHERE organization_id = $1 AND closing_start = $2 ORDER BY kind DESC, period_start, metric",
	TEXTOID, TIMESTAMPTZOID);

static List *
lines_of_closing(const char *organization_id, TimestampTz start)
{
	int64 count = READ(read_lines, arg_text(organization_id), moment(start));
	Rows rows = rows_keep();
	List *lines = NIL;

	for (int64 i = 0; i < count; i++)
	{
		UsageLine *line = palloc0(sizeof(UsageLine));
		bool isnull;

		strlcpy(line->metric, rows_text(rows, i, 1), sizeof(line->metric));
		line->correction = rows_bool(rows, i, 2);
		line->period = (UsageRange){rows_time(rows, i, 3), rows_time(rows, i, 4)};
		line->quantity = DatumGetNumericCopy(rows_datum(rows, i, 5, &isnull));
		lines = lappend(lines, line);
	}
	return lines;
}

QUERY(read_overlapping,
	  "SELECT period_start, period_end FROM billing.usage_closings WHERE organization_id = $1 "
	  "AND period_start < $3 AND period_end > $2 ORDER BY period_start LIMIT 1",
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

List *
usage_period_preview(const char *organization_id, UsageRange period)
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
	lines = list_concat(usage_of(&scope, period), corrections_of(&scope));
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

static void
check_over(const char *organization_id, UsageRange period)
{
	TimestampTz now = clock_now(organization_id);

	if (period.end <= now)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_JB_STATE), errmsg("the period is not over"),
			 errdetail("It ends at %s, and it is %s.", pstrdup(timestamptz_to_str(period.end)),
					   pstrdup(timestamptz_to_str(now))),
			 errhint("billing.preview_usage_period() says what it comes to so far.")));
}

QUERY(
	insert_closing,
	"INSERT INTO billing.usage_closings (organization_id, period_start, period_end) VALUES ($1, $2, $3)",
	TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
QUERY(
	insert_line,
	"INSERT INTO billing.usage_closing_lines (organization_id, closing_start, metric, kind, period_start, period_end, quantity, whole) "
	"VALUES ($1, $2, $3, CASE WHEN $4 THEN 'correction' ELSE 'usage' END, $5, $6, $7, $8)",
	TEXTOID, TIMESTAMPTZOID, TEXTOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID, NUMERICOID,
	NUMERICOID);

static void
write_closing(const char *organization_id, UsageRange period, const List *lines)
{
	ListCell *cell;

	RUN(insert_closing, arg_text(organization_id), moment(period.start), moment(period.end));
	foreach (cell, lines)
	{
		const UsageLine *line = lfirst(cell);

		RUN(insert_line, arg_text(organization_id), moment(period.start), arg_text(line->metric),
			arg_bool(line->correction), moment(line->period.start), moment(line->period.end),
			arg_datum(NumericGetDatum(line->quantity), false),
			arg_datum(NumericGetDatum(line->whole), line->whole == NULL));
	}
}

List *
usage_period_close(const char *organization_id, UsageRange period)
{
	List *lines;

	check_period(period);
	check_over(organization_id, period);
	lock_closings(organization_id);
	/* what this transaction has recorded counts */
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	lines = usage_period_preview(organization_id, period);
	if (!is_closed(organization_id, period))
		write_closing(organization_id, period, lines);
	PopActiveSnapshot();
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

		/* it has changed the quarter before its period only */
		if (numeric_order(line->quantity, zero()) == 0)
			continue;
		values[n++] = CStringGetTextDatum(line->metric);
		if (!all_are_late)
			values[n++] = CStringGetTextDatum(line->correction ? "correction" : "usage");
		values[n++] = TimestampTzGetDatum(line->period.start);
		values[n++] = TimestampTzGetDatum(line->period.end);
		values[n++] = NumericGetDatum(line->quantity);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

static Datum
answer_period(FunctionCallInfo fcinfo, List *(*find)(const char *, UsageRange))
{
	char *organization_id = ARG_TEXT(0);

	check_given("organization_id", organization_id != NULL && *organization_id != '\0');
	check_given("start_at", !PG_ARGISNULL(1));
	check_given("end_at", !PG_ARGISNULL(2));
	InitMaterializedSRF(fcinfo, 0);
	db_open();
	put_lines(
		(ReturnSetInfo *) fcinfo->resultinfo,
		find(organization_id, (UsageRange){PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(2)}),
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
	put_lines((ReturnSetInfo *) fcinfo->resultinfo, corrections_of(&scope), true);
	table_close(events, AccessShareLock);
	db_close();
	return (Datum) 0;
}

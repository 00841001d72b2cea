/*-------------------------------------------------------------------------
 *
 * usage.c
 *	  What organisations consume, and how much of it their plan allows.
 *
 * record_usage() appends one row; usage_summary() adds them up on the snapshot
 * of the calling query, so that a row counts as soon as it is committed.
 * Quantities are numeric and exact.  Time ranges are half-open.  A metric's
 * limit is the feature of the same name (entitlements.c).
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "entitlements.h"
#include "errors.h"
#include "mb/pg_wchar.h"
#include "utils/tuplestore.h"

#define TEXT_MAX 255 /* of an organisation's id and of a key */

/* As the constraint of usage_events. */
#define QUANTITY_BOUND "1e30"

/* How fine a quantity may be. */
#define DECIMALS_MAX 12

/* Before it there is no usage that anybody is billed for: 2000-01-01, the zero of TimestampTz. */
#define OCCURRED_AT_MIN 0

/* How far ahead of our clock a caller's clock may be. */
#define AHEAD_MAX USECS_PER_DAY

#define METRIC_LIST "SELECT metric FROM billing.meters ORDER BY metric"

static Numeric
calculate(PGFunction function, Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)));
}

static bool
compare(PGFunction function, Numeric a, Numeric b)
{
	return DatumGetBool(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)));
}

/* ------------------------------------------------------------------------
 * Recording
 * ------------------------------------------------------------------------
 */
static void
check_short_text(const char *argument, const char *value)
{
	if (value != NULL && (*value == '\0' || pg_mbstrlen(value) > TEXT_MAX))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s is empty or longer than %d characters", argument, TEXT_MAX)));
}

/*
 * NaN is greater than every number for PostgreSQL, as is Infinity.  Zeros at
 * the end do not count as decimals, since every division makes some.
 */
static void
check_quantity(Numeric quantity)
{
	int decimals;

	if (!compare(numeric_ge, quantity, int64_to_numeric(0)) ||
		!compare(numeric_lt, quantity, numeric_of_text(QUANTITY_BOUND)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("quantity cannot be counted"),
				 errdetail("quantity is %s.", DatumGetCString(DirectFunctionCall1(
												  numeric_out, NumericGetDatum(quantity)))),
				 errhint("It is a number from 0, below " QUANTITY_BOUND ".")));
	decimals = DatumGetInt32(DirectFunctionCall1(numeric_min_scale, NumericGetDatum(quantity)));
	if (decimals > DECIMALS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("quantity has too many decimals"),
				 errdetail("It has %d.", decimals),
				 errhint("There may be %d: round(quantity, %d).", DECIMALS_MAX, DECIMALS_MAX)));
}

static void
check_occurred_at(TimestampTz occurred_at, TimestampTz now)
{
	if (TIMESTAMP_NOT_FINITE(occurred_at) || occurred_at < OCCURRED_AT_MIN ||
		occurred_at > now + AHEAD_MAX)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("occurred_at is not a time that usage can have"),
			 errdetail("occurred_at is %s.", timestamptz_to_str(occurred_at)),
			 errhint(
				 "Pass when it happened, from the year 2000, at most a day ahead of billing.now() for the organisation.")));
}

static void
check_properties(const Jsonb *properties)
{
	if (properties != NULL && !JB_ROOT_IS_OBJECT(properties))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("properties is not an object"),
				 errhint("Pass something like '{\"region\": \"eu\"}'.")));
}

QUERY(
	claim_key,
	"INSERT INTO billing.usage_keys (organization_id, key) VALUES ($1, $2) ON CONFLICT DO NOTHING",
	TEXTOID, TEXTOID);
QUERY(insert_usage,
	  "INSERT INTO billing.usage_events (organization_id, id, metric, quantity, occurred_at, "
	  "idempotency_key, properties) "
	  "SELECT $1, $2, m.metric, $4, $5, $6, $7 FROM billing.meters AS m WHERE m.metric = $3",
	  TEXTOID, UUIDOID, TEXTOID, NUMERICOID, TIMESTAMPTZOID, TEXTOID, JSONBOID);

/* The key comes first: a known one is false whatever the rest says. */
SQL_FUNCTION(billing_record_usage)
{
	char *organization_id = ARG_TEXT(0);
	char *metric = ARG_TEXT(1);
	char *key = ARG_TEXT(4);
	Jsonb *properties = ARG_JSON(5);
	Numeric quantity;
	TimestampTz now;
	TimestampTz occurred_at;

	check_given("organization_id", organization_id != NULL);
	check_short_text("organization_id", organization_id);
	check_short_text("idempotency_key", key);
	db_open();
	if (key != NULL && RUN(claim_key, arg_text(organization_id), arg_text(key)) == 0)
	{
		db_close();
		PG_RETURN_BOOL(false);
	}

	check_given("metric", metric != NULL);
	check_given("quantity", !PG_ARGISNULL(2));
	quantity = PG_GETARG_NUMERIC(2);
	check_quantity(quantity);
	quantity = DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(quantity)));
	check_properties(properties);
	now = clock_now(organization_id);
	occurred_at = PG_ARGISNULL(3) ? now : PG_GETARG_TIMESTAMPTZ(3);
	check_occurred_at(occurred_at, now);
	if (RUN(insert_usage, arg_text(organization_id), arg_uuid(new_id()), arg_text(metric),
			arg_datum(NumericGetDatum(quantity), false),
			arg_datum(TimestampTzGetDatum(occurred_at), false), arg_text(key),
			arg_json(properties)) == 0)
		unknown_object("metric", metric, psprintf("There are: %s.", hint_list(METRIC_LIST)));
	db_close();
	PG_RETURN_BOOL(true);
}

/* ------------------------------------------------------------------------
 * Adding up
 * ------------------------------------------------------------------------
 */
typedef struct Range
{
	TimestampTz start;
	TimestampTz end;
} Range;

/* An organisation may have subscriptions in several groups: that of the default group goes first. */
QUERY(
	current_period,
	"SELECT e.current_period_start, e.current_period_end FROM billing.entitlements AS e "
	"WHERE e.organization_id = $1 AND e.current_period_start IS NOT NULL AND e.current_period_end IS NOT NULL "
	"ORDER BY e.plan_group = 'default' DESC, e.current_period_start DESC, e.subscription_id LIMIT 1",
	TEXTOID);
QUERY(current_month,
	  "SELECT date_trunc('month', $1, 'UTC'), "
	  "(date_trunc('month', $1 AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'",
	  TIMESTAMPTZOID);

static Range
default_range(const char *organization_id)
{
	TimestampTz now;

	if (READ(current_period, arg_text(organization_id)) > 0)
		return (Range){row_time(0, 1), row_time(0, 2)};
	now = clock_now(organization_id);
	READ(current_month, arg_datum(TimestampTzGetDatum(now), false));
	return (Range){row_time(0, 1), row_time(0, 2)};
}

static Range
range_of_call(FunctionCallInfo fcinfo, const char *organization_id)
{
	Range range = {0, 0};

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		range = default_range(organization_id);
	if (!PG_ARGISNULL(1))
		range.start = PG_GETARG_TIMESTAMPTZ(1);
	if (!PG_ARGISNULL(2))
		range.end = PG_GETARG_TIMESTAMPTZ(2);
	if (range.end <= range.start)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("end_at is not after start_at"),
				 errdetail("The range is from %s to %s.", pstrdup(timestamptz_to_str(range.start)),
						   pstrdup(timestamptz_to_str(range.end))),
				 errhint("Ranges are half-open: end_at is the first moment that does not count.")));
	return range;
}

QUERY(add_up,
	  "SELECT m.metric, coalesce(CASE m.aggregation "
	  "WHEN 'latest' THEN (SELECT u.quantity FROM billing.usage_events AS u "
	  "WHERE u.organization_id = $1 AND u.metric = m.metric AND u.occurred_at < $3 "
	  "AND u.occurred_at >= CASE WHEN m.carried THEN '-infinity' ELSE $2 END "
	  "ORDER BY u.occurred_at DESC, u.recorded_at DESC, u.id DESC LIMIT 1) "
	  "ELSE (SELECT CASE m.aggregation WHEN 'sum' THEN sum(u.quantity) "
	  "WHEN 'count' THEN count(*) ELSE max(u.quantity) END "
	  "FROM billing.usage_events AS u "
	  "WHERE u.organization_id = $1 AND u.metric = m.metric AND u.occurred_at < $3 "
	  "AND u.occurred_at >= CASE WHEN m.carried THEN '-infinity' ELSE $2 END) END, 0) "
	  "FROM billing.meters AS m ORDER BY m.metric",
	  TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

/* What no feature limits is unlimited. */
static Numeric
limit_of_metric(const char *organization_id, const char *metric)
{
	Entitlement found;

	if (entitlement_find(organization_id, metric, &found) && found.kind == FEATURE_LIMIT)
		return found.limit;
	return numeric_of_text("Infinity");
}

static Numeric
remaining_of(Numeric quantity, Numeric limit)
{
	if (compare(numeric_ge, quantity, limit))
		return int64_to_numeric(0);
	return calculate(numeric_sub, limit, quantity);
}

/* Of a limit of 0 nothing is 0 % and anything is infinitely much. */
static Numeric
percentage_of(Numeric quantity, Numeric limit)
{
	Numeric zero = int64_to_numeric(0);
	Numeric hundredfold = calculate(numeric_mul, quantity, int64_to_numeric(100));
	Numeric ratio;

	if (compare(numeric_eq, limit, zero))
		return numeric_of_text(compare(numeric_eq, quantity, zero) ? "0.00" : "Infinity");
	ratio = calculate(numeric_div, hundredfold, limit);
	return DatumGetNumeric(
		DirectFunctionCall2(numeric_round, NumericGetDatum(ratio), Int32GetDatum(2)));
}

static void
put_summary(ReturnSetInfo *result, const char *metric, Numeric quantity, Numeric limit, Range range)
{
	bool unlimited = numeric_is_inf(limit);
	Datum values[7] = {0};
	bool nulls[7] = {false};

	values[0] = CStringGetTextDatum(metric);
	values[1] = NumericGetDatum(quantity);
	values[2] = NumericGetDatum(limit);
	values[3] = NumericGetDatum(remaining_of(quantity, limit));
	nulls[4] = unlimited;
	if (!unlimited)
		values[4] = NumericGetDatum(percentage_of(quantity, limit));
	values[5] = TimestampTzGetDatum(range.start);
	values[6] = TimestampTzGetDatum(range.end);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

SQL_FUNCTION(billing_usage_summary)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *organization_id = ARG_TEXT(0);
	Range range;
	int64 count;
	Rows rows;

	check_given("organization_id", organization_id != NULL);
	InitMaterializedSRF(fcinfo, 0);
	db_open();
	range = range_of_call(fcinfo, organization_id);
	count = READ(add_up, arg_text(organization_id),
				 arg_datum(TimestampTzGetDatum(range.start), false),
				 arg_datum(TimestampTzGetDatum(range.end), false));
	rows = rows_keep();
	for (int64 i = 0; i < count; i++)
	{
		char *metric = rows_text(rows, i, 1);
		bool isnull;
		Datum quantity = rows_datum(rows, i, 2, &isnull);

		put_summary(result, metric, DatumGetNumeric(quantity),
					limit_of_metric(organization_id, metric), range);
	}
	db_close();
	return (Datum) 0;
}

/*-------------------------------------------------------------------------
 *
 * usage_summary.c
 *	  usage_summary(): what was used in a range, and how much may be.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "access/table.h"
#include "check.h"
#include "entitlements.h"
#include "usage.h"
#include "utils/tuplestore.h"

static UsageRange
range_of_call(FunctionCallInfo fcinfo, const char *organization_id)
{
	UsageRange range = {0, 0};

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		range = usage_period(organization_id);
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

/* ------------------------------------------------------------------------
 * Limits
 * ------------------------------------------------------------------------
 */
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
	if (numeric_order(quantity, limit) >= 0)
		return int64_to_numeric(0);
	return numeric_minus(limit, quantity);
}

/* Of a limit of 0 nothing is 0 % and anything is infinitely much. */
static Numeric
percentage_of(Numeric quantity, Numeric limit)
{
	Numeric zero = int64_to_numeric(0);
	Numeric hundredfold = numeric_times(quantity, int64_to_numeric(100));
	Numeric ratio;

	if (numeric_order(limit, zero) == 0)
		return numeric_of_text(numeric_order(quantity, zero) == 0 ? "0.00" : "Infinity");
	ratio = numeric_over(hundredfold, limit);
	return DatumGetNumeric(
		DirectFunctionCall2(numeric_round, NumericGetDatum(ratio), Int32GetDatum(2)));
}

/* What it comes to at the end of the range when it goes on like this; whole units as they are. */
static Numeric
projection_of(const Meter *meter, Numeric quantity, UsageRange range, TimestampTz now)
{
	Numeric ratio;

	if (meter->carried || now <= range.start || now >= range.end ||
		(meter->aggregation != AGGREGATE_SUM && meter->aggregation != AGGREGATE_COUNT))
		return quantity;
	ratio = numeric_over(numeric_times(quantity, int64_to_numeric(range.end - range.start)),
						 int64_to_numeric(now - range.start));
	return DatumGetNumeric(
		DirectFunctionCall2(numeric_round, NumericGetDatum(ratio), Int32GetDatum(2)));
}

static void
put_summary(ReturnSetInfo *result, const Meter *meter, Numeric quantity, Numeric limit,
			UsageRange range, TimestampTz now)
{
	bool unlimited = numeric_is_inf(limit);
	bool over = numeric_order(quantity, limit) > 0;
	Datum values[9] = {0};
	bool nulls[9] = {false};

	values[0] = CStringGetTextDatum(meter->metric);
	values[1] = NumericGetDatum(quantity);
	values[2] = NumericGetDatum(limit);
	values[3] = NumericGetDatum(remaining_of(quantity, limit));
	nulls[4] = unlimited;
	if (!unlimited)
		values[4] = NumericGetDatum(percentage_of(quantity, limit));
	values[5] = TimestampTzGetDatum(range.start);
	values[6] = TimestampTzGetDatum(range.end);
	values[7] = NumericGetDatum(projection_of(meter, quantity, range, now));
	values[8] = NumericGetDatum(over ? numeric_minus(quantity, limit) : int64_to_numeric(0));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

QUERY(list_meters, "SELECT metric FROM billing.meters ORDER BY metric", InvalidOid);
QUERY(test_clock, "SELECT now FROM billing.sandbox_clocks WHERE organization_id = $1", TEXTOID);

static TimestampTz
now_of(const char *organization_id)
{
	if (READ(test_clock, arg_text(organization_id)) > 0)
		return row_time(0, 1);
	return GetCurrentTransactionStartTimestamp();
}

SQL_FUNCTION(billing_usage_summary)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *organization_id = ARG_TEXT(0);
	TimestampTz now;
	UsageRange range;
	int64 count;
	Relation events;
	UsageTail *tail;
	Rows rows;

	check_given("organization_id", organization_id != NULL);
	InitMaterializedSRF(fcinfo, 0);
	db_open();
	range = range_of_call(fcinfo, organization_id);
	now = now_of(organization_id);
	/* no partition is removed meanwhile */
	events = table_open(usage_tables()->events, AccessShareLock);
	tail = usage_tail(organization_id);
	count = READ(list_meters, arg_null());
	rows = rows_keep();
	for (int64 i = 0; i < count; i++)
	{
		const Meter *meter = meter_named(rows_text(rows, i, 1));

		/* made by a transaction that is not over, and unknown to the rules: not used yet */
		if (meter == NULL)
			continue;
		put_summary(result, meter, usage_quantity(organization_id, meter, tail, range),
					limit_of_metric(organization_id, meter->metric), range, now);
	}
	table_close(events, AccessShareLock);
	db_close();
	return (Datum) 0;
}

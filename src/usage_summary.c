/*-------------------------------------------------------------------------
 *
 * usage_summary.c
 *	  What was used in a range, and how much may be: usage_summary(), and
 *	  usage_report_of() for the view usage_report.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "entitlements.h"
#include "usage.h"
#include "utils/tuplestore.h"

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

#define SUMMARY_COLUMNS 9

static void
fill_summary(Datum *values, bool *nulls, const Meter *meter, Numeric quantity, Numeric limit,
			 UsageRange range, TimestampTz now)
{
	bool unlimited = numeric_is_inf(limit);
	bool over = numeric_order(quantity, limit) > 0;

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

/* Columns of every row that follow those of the summary. */
typedef struct MoreColumns
{
	int count;
	Datum values[2];
	bool nulls[2];
} MoreColumns;

static void
put_meters(ReturnSetInfo *result, const char *organization_id, const UsageTail *tail,
		   UsageRange range, const MoreColumns *more)
{
	TimestampTz now = now_of(organization_id);
	int64 count = READ(list_meters, arg_null());
	Rows rows = rows_keep();

	for (int64 i = 0; i < count; i++)
	{
		const Meter *meter = meter_named(rows_text(rows, i, 1));
		Datum values[SUMMARY_COLUMNS + lengthof(more->values)] = {0};
		bool nulls[SUMMARY_COLUMNS + lengthof(more->values)] = {false};

		/* made by a transaction that is not over, and unknown to the rules: not used yet */
		if (meter == NULL)
			continue;
		fill_summary(values, nulls, meter, usage_quantity(organization_id, meter, tail, range),
					 limit_of_metric(organization_id, meter->metric), range, now);
		memcpy(values + SUMMARY_COLUMNS, more->values, sizeof(Datum) * more->count);
		memcpy(nulls + SUMMARY_COLUMNS, more->nulls, sizeof(bool) * more->count);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

SQL_FUNCTION(billing_usage_summary)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *organization_id = ARG_TEXT(0);
	MoreColumns none = {0};
	UsageReader reader;

	InitMaterializedSRF(fcinfo, 0);
	reader = usage_reader_open(fcinfo, organization_id);
	put_meters(result, organization_id, reader.tail, usage_range(fcinfo, 1, organization_id),
			   &none);
	usage_reader_close(reader);
	return (Datum) 0;
}

/* ------------------------------------------------------------------------
 * For the report
 * ------------------------------------------------------------------------
 */
/* The same subscription as that of usage_period(). */
QUERY(
	current_plan,
	"SELECT p.plan, e.status FROM billing.entitlements AS e JOIN billing.plans AS p ON p.id = e.plan_id "
	"WHERE e.organization_id = $1 "
	"ORDER BY e.current_period_start IS NOT NULL AND e.current_period_end IS NOT NULL DESC, "
	"e.plan_group = 'default' DESC, e.current_period_start DESC, e.subscription_id LIMIT 1",
	TEXTOID);
QUERY(default_plan,
	  "SELECT plan, NULL::text FROM billing.plans WHERE is_default "
	  "ORDER BY plan_group = 'default' DESC, plan LIMIT 1",
	  InvalidOid);

static MoreColumns
plan_columns(const char *organization_id)
{
	MoreColumns columns = {.count = 2, .nulls = {true, true}};

	if (READ(current_plan, arg_text(organization_id)) == 0 && READ(default_plan, arg_null()) == 0)
		return columns;
	for (int i = 0; i < columns.count; i++)
	{
		columns.nulls[i] = row_null(0, i + 1);
		if (!columns.nulls[i])
			columns.values[i] = CStringGetTextDatum(row_text(0, i + 1));
	}
	return columns;
}

SQL_FUNCTION(billing_usage_report_of)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *organization_id = ARG_TEXT(0);
	UsageReader reader;
	MoreColumns plan;

	InitMaterializedSRF(fcinfo, 0);
	reader = usage_reader_open(fcinfo, organization_id);
	plan = plan_columns(organization_id);
	put_meters(result, organization_id, reader.tail, usage_period(organization_id), &plan);
	usage_reader_close(reader);
	return (Datum) 0;
}

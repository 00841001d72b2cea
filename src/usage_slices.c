/*-------------------------------------------------------------------------
 *
 * usage_slices.c
 *	  One metric in any range: usage_quantity(), by its dimensions
 *	  (usage_by_dimension()), and by hours, days or months (usage_series()).
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "usage.h"
#include "utils/tuplestore.h"

/* Rows of a series: a year by the hour is fewer. */
#define SERIES_MOST 10000

/* ------------------------------------------------------------------------
 * Arguments
 * ------------------------------------------------------------------------
 */
#define METRIC_LIST "SELECT metric FROM billing.meters ORDER BY metric"

static const Meter *
meter_of_call(FunctionCallInfo fcinfo, int number)
{
	char *metric = ARG_TEXT(number);
	const Meter *meter;

	check_given("metric", metric != NULL);
	meter = meter_named(metric);
	if (meter == NULL)
		unknown_object("metric", metric, psprintf("There are: %s.", hint_list(METRIC_LIST)));
	return meter;
}

static bool
has_dimension(const Meter *meter, const char *name, int length)
{
	for (int i = 0; i < meter->dimension_count; i++)
	{
		if ((int) strlen(meter->dimensions[i]) == length &&
			memcmp(meter->dimensions[i], name, length) == 0)
			return true;
	}
	return false;
}

static char *
dimension_list(const Meter *meter)
{
	StringInfoData list;

	if (meter->dimension_count == 0)
		return "Its totals are not kept apart: see billing.meters.dimensions.";
	initStringInfo(&list);
	for (int i = 0; i < meter->dimension_count; i++)
		appendStringInfo(&list, "%s%s", i == 0 ? "" : ", ", meter->dimensions[i]);
	return psprintf("There are: %s.", list.data);
}

static void
check_dimension(const Meter *meter, const char *name, int length)
{
	if (!has_dimension(meter, name, length))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("metric \"%s\" has no dimension \"%.*s\"", meter->metric, length, name),
				 errhint("%s", dimension_list(meter))));
}

/* NULL where everything is wanted, which is read in fewer steps. */
static Jsonb *
filter_of_call(FunctionCallInfo fcinfo, int number, const Meter *meter)
{
	Jsonb *filter = ARG_JSON(number);
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue value;

	if (filter == NULL)
		return NULL;
	if (!JB_ROOT_IS_OBJECT(filter))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("dimensions is not an object"),
				 errhint("Pass something like '{\"region\": \"eu\"}'.")));
	iterator = JsonbIteratorInit(&filter->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			check_dimension(meter, value.val.string.val, value.val.string.len);
	}
	return JB_ROOT_COUNT(filter) == 0 ? NULL : filter;
}

/* NULL: all of them. */
static UsageSlice
slice_by(FunctionCallInfo fcinfo, int number, const Meter *meter)
{
	UsageSlice slice = {NULL, meter->dimension_count, meter->dimensions};
	Datum *elements;
	bool *nulls;

	if (PG_ARGISNULL(number))
		return slice;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, &slice.dimension_count);
	slice.dimensions = palloc(sizeof(char *) * Max(slice.dimension_count, 1));
	for (int i = 0; i < slice.dimension_count; i++)
	{
		check_given("dimensions", !nulls[i]);
		slice.dimensions[i] = TextDatumGetCString(elements[i]);
		check_dimension(meter, slice.dimensions[i], (int) strlen(slice.dimensions[i]));
	}
	return slice;
}

/* ------------------------------------------------------------------------
 * One number, and by dimension
 * ------------------------------------------------------------------------
 */
SQL_FUNCTION(billing_usage_quantity)
{
	char *organization_id = ARG_TEXT(0);
	UsageReader reader = usage_reader_open(fcinfo, organization_id);
	const Meter *meter = meter_of_call(fcinfo, 1);
	UsageRange range = usage_range(fcinfo, 2, organization_id);
	UsageSlice slice = {filter_of_call(fcinfo, 4, meter), 0, NULL};
	Numeric quantity = usage_quantity_in(organization_id, meter, reader.tail, range,
										 slice.contains == NULL ? NULL : &slice);
	Datum result = SPI_datumTransfer(NumericGetDatum(quantity), false, -1);

	usage_reader_close(reader);
	return result;
}

SQL_FUNCTION(billing_usage_by_dimension)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *organization_id = ARG_TEXT(0);
	UsageReader reader;
	const Meter *meter;
	UsageSlice slice;
	ListCell *cell;

	InitMaterializedSRF(fcinfo, 0);
	reader = usage_reader_open(fcinfo, organization_id);
	meter = meter_of_call(fcinfo, 1);
	slice = slice_by(fcinfo, 2, meter);
	foreach (cell, usage_answers(organization_id, meter, reader.tail,
								 usage_range(fcinfo, 3, organization_id), &slice))
	{
		const UsageAnswer *answer = lfirst(cell);
		Datum values[3] = {JsonbPGetDatum(answer->dimensions), NumericGetDatum(answer->quantity),
						   Int64GetDatum(answer->events)};
		bool nulls[3] = {false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	usage_reader_close(reader);
	return (Datum) 0;
}

/* ------------------------------------------------------------------------
 * Series
 * ------------------------------------------------------------------------
 */
/*
 * Where rows begin after the start: full months, days (or weeks) of the time
 * zone, by its calendar; shorter steps all have the same length, from
 * midnight on. $2 to $4: months, days, time of the step; $7: how many to try.
 */
QUERY(
	series_bounds,
	"SELECT DISTINCT s.at FROM (SELECT CASE "
	"WHEN $2 > 0 THEN (date_trunc('year', l.start) + make_interval(months => n * $2)) AT TIME ZONE $5 "
	"WHEN $3 > 0 THEN (date_trunc(CASE WHEN $3 % 7 = 0 THEN 'week' ELSE 'day' END, l.start) + make_interval(days => n * $3)) AT TIME ZONE $5 "
	"ELSE date_trunc('day', l.start) AT TIME ZONE $5 + n * $4 END AS at "
	"FROM (SELECT $1 AT TIME ZONE $5 AS start) AS l, generate_series(0, $7) AS n) AS s "
	"WHERE s.at > $1 AND s.at < $6 ORDER BY s.at",
	TIMESTAMPTZOID, INT4OID, INT4OID, INTERVALOID, TEXTOID, TIMESTAMPTZOID, INT4OID);

/* The shortest that it may be; 0 when it mixes units or is below a minute. */
static int64
length_of(const Interval *step)
{
	if (step->month > 0 && step->day == 0 && step->time == 0)
		return (int64) step->month * 28 * USECS_PER_DAY;
	if (step->day > 0 && step->month == 0 && step->time == 0)
		return step->day * (USECS_PER_DAY - USECS_PER_HOUR);
	if (step->time >= USECS_PER_MINUTE && step->month == 0 && step->day == 0)
		return step->time;
	return 0;
}

/* At most so long before the start they are counted from. */
static int64
time_before(const Interval *step)
{
	if (step->month > 0)
		return 366 * USECS_PER_DAY;
	return step->day > 0 ? 8 * USECS_PER_DAY : 2 * USECS_PER_DAY;
}

/* How many have to be tried. */
static int32
step_count(UsageRange range, const Interval *step)
{
	int64 length = length_of(step);

	if (length <= 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("step is not a length of time in one unit"),
			 errhint("Pass months, days, or at least a minute: '1 month', '7 days', '1 hour'.")));
	if (TIMESTAMP_NOT_FINITE(range.start) || TIMESTAMP_NOT_FINITE(range.end) ||
		(range.end - range.start) / length > SERIES_MOST)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the series has more than %d rows", SERIES_MOST),
						errhint("Pass a shorter range or a longer step.")));
	return (int32) ((range.end - range.start + time_before(step)) / length + 2);
}

static int64
read_bounds(FunctionCallInfo fcinfo, UsageRange range)
{
	char *time_zone = ARG_TEXT(5);
	Interval *step;

	check_given("step", !PG_ARGISNULL(4));
	check_given("time_zone", time_zone != NULL);
	step = PG_GETARG_INTERVAL_P(4);
	return READ(
		series_bounds, arg_datum(TimestampTzGetDatum(range.start), false), arg_int4(step->month),
		arg_int4(step->day), arg_datum(IntervalPGetDatum(step), false), arg_text(time_zone),
		arg_datum(TimestampTzGetDatum(range.end), false), arg_int4(step_count(range, step)));
}

static void
put_step(ReturnSetInfo *result, UsageRange range, const UsageAnswer *answer)
{
	Datum values[4] = {TimestampTzGetDatum(range.start), TimestampTzGetDatum(range.end),
					   NumericGetDatum(answer->quantity), Int64GetDatum(answer->events)};
	bool nulls[4] = {false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

SQL_FUNCTION(billing_usage_series)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *organization_id = ARG_TEXT(0);
	UsageReader reader;
	const Meter *meter;
	UsageRange range;
	UsageRange row;
	UsageSlice slice = {0};
	int64 count;
	Rows bounds;

	InitMaterializedSRF(fcinfo, 0);
	reader = usage_reader_open(fcinfo, organization_id);
	meter = meter_of_call(fcinfo, 1);
	range = usage_range(fcinfo, 2, organization_id);
	slice.contains = filter_of_call(fcinfo, 6, meter);
	count = read_bounds(fcinfo, range);
	bounds = rows_keep();
	row.end = range.start;
	for (int64 i = 0; i <= count; i++)
	{
		row.start = row.end;
		row.end = i < count ? rows_time(bounds, i, 1) : range.end;
		put_step(result, row,
				 linitial(usage_answers(organization_id, meter, reader.tail, row,
										slice.contains == NULL ? NULL : &slice)));
	}
	usage_reader_close(reader);
	return (Datum) 0;
}

/*-------------------------------------------------------------------------
 *
 * price_quotes.c
 *	  quote_price(): what a quantity would cost, line by line.
 *
 * The lines are those of the arithmetic that bills (rating.h), so that a page
 * of prices says what an invoice will.  Discounts, taxes and parts of periods
 * are matters of a subscription: billing.preview_invoice() knows them.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "check.h"
#include "errors.h"
#include "funcapi.h"
#include "utils/numeric.h"

#define QUOTE_COLUMNS 5

static const char *
kind_name(RatedKind kind)
{
	static const char *const names[] = {[RATED_FLAT] = "flat",
										[RATED_FREE] = "free",
										[RATED_UNITS] = "units",
										[RATED_TIER_FEE] = "tier_fee",
										[RATED_PACKAGES] = "packages",
										[RATED_PERCENT] = "percent",
										[RATED_MINIMUM] = "minimum",
										[RATED_MAXIMUM] = "maximum",
										[RATED_COMMITMENT] = "commitment"};

	return names[kind];
}

static void
put_line(ReturnSetInfo *result, const RatedLine *line)
{
	Datum values[QUOTE_COLUMNS] = {
		CStringGetTextDatum(kind_name(line->kind)), Int32GetDatum(line->tier),
		NumericGetDatum(numeric_of_fraction(line->quantity)),
		NumericGetDatum(numeric_of_fraction(line->unit_price)), Int64GetDatum(line->amount)};
	bool nulls[QUOTE_COLUMNS] = {false, line->tier < 0, false, false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

SQL_FUNCTION(billing_quote_price)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	pg_uuid_t *id = ARG_UUID(0);
	const ComponentPrice *price;
	MoneyFraction quantity;
	RatedLine *lines;
	RatingStatus status;
	int64 amount;
	int count;

	check_given("price", id != NULL);
	check_given("quantity", !PG_ARGISNULL(1));
	quantity = fraction_of_numeric(PG_GETARG_NUMERIC(1), "quantity");
	InitMaterializedSRF(fcinfo, 0);
	db_open();
	price = component_price(id);
	lines = palloc(sizeof(RatedLine) * (Size) RATING_LINES(price->rated.tier_count));
	status = price_lines(&price->rated, quantity, lines, RATING_LINES(price->rated.tier_count),
						 &count, &amount);
	if (status != RATING_OK)
		ereport(ERROR, (errcode(status == RATING_OVERFLOW ? ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE
														  : ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the price of this quantity cannot be calculated"),
						errdetail("%s", rating_reason(status)),
						errhint("Quantities are 0 or more, with at most 12 decimals.")));
	for (int i = 0; i < count; i++)
		put_line(result, &lines[i]);
	db_close();
	return (Datum) 0;
}

/*-------------------------------------------------------------------------
 *
 * fractions.c
 *	  numeric of PostgreSQL and MoneyFraction of the arithmetic.
 *
 * Both hold 12 decimals exactly, so that nothing is rounded on the way.
 * Called by whatever reads or writes unit prices and quantities.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

MoneyFraction
fraction_of_numeric(Numeric value, const char *what)
{
	MoneyFraction fraction;
	char *text = numeric_normalize(value);

	if (money_fraction_parse(text, strlen(text), &fraction) != MONEY_OK)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s cannot be calculated with", what), errdetail("It is %s.", text),
						errhint("A number has at most %d decimals, and some 25 digits before them.",
								MONEY_FRACTION_DECIMALS)));
	pfree(text);
	return fraction;
}

Numeric
numeric_of_fraction(MoneyFraction value)
{
	char text[MONEY_TEXT_SIZE];

	money_fraction_format(value, text);
	return DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
											   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/*-------------------------------------------------------------------------
 *
 * wire_amounts.c
 *	  Amounts of ours and the units in which a provider counts.
 *
 * Called by the subjects where an operation is described and where a snapshot
 * is applied; the arithmetic is in money.c.
 *
 *-------------------------------------------------------------------------
 */
#include "wire_amounts.h"

#include "errors.h"
#include "money.h"

/* One row always: a currency that is not in our table counts as one of two decimals. */
QUERY(find_rule,
	  "SELECT coalesce(c.exponent, 2)::integer, coalesce(r.wire_exponent, c.exponent, 2)::integer, "
	  "coalesce(r.step, 1), r.max_amount, coalesce(r.min_amount, 0) "
	  "FROM (SELECT) AS one LEFT JOIN billing.currencies AS c ON c.code = $2 "
	  "LEFT JOIN billing.provider_currencies AS r ON r.provider = $1 AND r.currency = $2",
	  TEXTOID, TEXTOID);

typedef struct CurrencyRule
{
	int exponent; /* of ours */
	MoneyRule rule;
	int64 min_charge; /* in the provider's units; not a limit of prices */
} CurrencyRule;

static CurrencyRule
currency_rule(const char *provider, const char *currency)
{
	CurrencyRule found;

	RUN(find_rule, arg_text(provider), arg_text(currency));
	found.exponent = row_int4(0, 1);
	found.rule.wire_exponent = row_int4(0, 2);
	found.rule.step = row_int(0, 3);
	found.rule.min = 0;
	found.rule.max = row_null(0, 4) ? PG_INT64_MAX : row_int(0, 4);
	found.min_charge = row_int(0, 5);
	return found;
}

QUERY(takes_currency,
	  "SELECT FROM billing.providers AS p "
	  "LEFT JOIN billing.provider_currencies AS r ON r.provider = p.name AND r.currency = $2 "
	  "WHERE p.name = $1 AND NOT coalesce(r.retired, p.currencies_listed)",
	  TEXTOID, TEXTOID);

bool
provider_takes_currency(const char *provider, const char *currency)
{
	return RUN(takes_currency, arg_text(provider), arg_text(currency)) > 0;
}

QUERY(
	currencies_taken,
	"SELECT count(*), string_agg(currency, ', ' ORDER BY currency) FROM billing.provider_currencies "
	"WHERE provider = $1 AND NOT retired",
	TEXTOID);

/* Enough to see at a glance; more of them are a table to look at. */
#define CURRENCIES_IN_A_HINT 20

void
provider_require_currency(const char *provider, const char *currency)
{
	if (currency == NULL || provider_takes_currency(provider, currency))
		return;
	RUN(currencies_taken, arg_text(provider));
	ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
					errmsg("provider \"%s\" does not take %s", provider, currency),
					row_int(0, 1) > 0 && row_int(0, 1) <= CURRENCIES_IN_A_HINT
						? errhint("It takes %s.", row_text(0, 2))
						: errhint("billing.provider_currencies lists what it takes.")));
}

bool
provider_takes_amount(const char *provider, const char *currency, int64 amount)
{
	CurrencyRule found = currency_rule(provider, currency);
	MoneyWire wire;

	found.rule.min = found.min_charge;
	return money_to_wire(amount, found.exponent, &found.rule, &wire) == MONEY_OK;
}

static char *
neighbours(const MoneyWire *wire)
{
	if (wire->has_lower && wire->has_upper)
		return psprintf("The nearest amounts are " INT64_FORMAT " and " INT64_FORMAT ".",
						wire->lower, wire->upper);
	return psprintf("The nearest amount is " INT64_FORMAT ".",
					wire->has_lower ? wire->lower : wire->upper);
}

static int64
to_wire(const char *provider, const char *currency, const CurrencyRule *found, int64 amount)
{
	MoneyWire wire;

	switch (money_to_wire(amount, found->exponent, &found->rule, &wire))
	{
		case MONEY_OK:
			return wire.wire;
		case MONEY_BELOW_MINIMUM:
		case MONEY_ABOVE_MAXIMUM:
		case MONEY_OFF_STEP:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("provider \"%s\" cannot take an amount of " INT64_FORMAT " in %s",
							provider, amount, currency),
					 wire.has_lower || wire.has_upper ? errhint("%s", neighbours(&wire)) : 0));
		default:
			ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
							errmsg("an amount of " INT64_FORMAT
								   " in %s is out of range for provider \"%s\"",
								   amount, currency, provider)));
	}
}

int64
wire_price(const char *provider, const char *currency, int64 amount)
{
	CurrencyRule found = currency_rule(provider, currency);

	return to_wire(provider, currency, &found, amount);
}

int64
wire_charge(const char *provider, const char *currency, int64 amount)
{
	CurrencyRule found = currency_rule(provider, currency);

	found.rule.min = found.min_charge;
	return to_wire(provider, currency, &found, amount);
}

int64
amount_from_wire(const char *provider, const char *currency, int64 wire)
{
	CurrencyRule found = currency_rule(provider, currency);
	int64 amount;
	MoneyStatus status = money_from_wire(wire, found.rule.wire_exponent, found.exponent, &amount);

	if (status != MONEY_OK && status != MONEY_INEXACT)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("an amount of provider \"%s\" in %s is out of range", provider, currency)));
	return amount;
}

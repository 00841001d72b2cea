/*
 * rating.c
 *		What a quantity costs: prices, and the lines that explain an amount.
 *
 * See rating.h.  Called by the billing engine for each line that it bills or
 * previews; calls money.c.  There are two ways to the amount of a quantity: an
 * exact one that takes everything a price may hold, and a short one for prices
 * and quantities below 18 million, which is nearly all of them, where a product
 * fits in 128 bits with all its decimals.  Both are exact, so they agree.
 */
#include "rating.h"

#include <stddef.h>

typedef unsigned __int128 Unsigned128;

#define ONE ((MoneyInt128) INT64_C(1000000000000))

/* 10^24 is 2^24 times 5^24, and the second fits in 64 bits: that divides faster. */
#define FIVE_TO_24 UINT64_C(59604644775390625)
#define HALF_AT_24 ((Unsigned128) FIVE_TO_24 << 23)

/* What a quantity costs before rounding: (units / divisor) + fees. */
typedef struct RatedSum
{
	MoneyExact units;
	int divisor;
	int64_t fees;
	MoneyFraction billable; /* the quantity without free units */
	int tier;               /* that the quantity reaches; -1 without tiers */
	MoneyFraction packages;
} RatedSum;

static MoneyFraction
no_fraction(void)
{
	return (MoneyFraction){0};
}

static RatingStatus
from_money(MoneyStatus status)
{
	return status == MONEY_OK ? RATING_OK : RATING_OVERFLOW;
}

/* ---- rounding ---- */

/* 24 decimals to none, half away from zero; false where adding the half overflows. */
static inline bool
round_24(Unsigned128 value, int64_t *amount)
{
	if (__builtin_add_overflow(value, HALF_AT_24, &value))
		return false;
	*amount = (int64_t) ((value >> 24) / FIVE_TO_24);
	return true;
}

/* Units times a unit price, rounded, where the product fits in 128 bits. */
static inline bool
round_product(MoneyFraction units, MoneyFraction price, int64_t *amount)
{
	if (units.scaled > UINT64_MAX || price.scaled > UINT64_MAX)
		return false;
	return round_24((Unsigned128) (uint64_t) units.scaled * (uint64_t) price.scaled, amount);
}

/* ---- preparing a price ---- */

static bool
has_tiers(const RatedPrice *price)
{
	return price->model == PRICE_GRADUATED || price->model == PRICE_VOLUME;
}

static RatingStatus
check_tiers(const RatedPrice *price)
{
	MoneyInt128 above = 0;

	if (price->tiers == NULL || price->tier_count < 1 || price->tier_count > RATING_MAX_TIERS)
		return RATING_BAD_TIERS;
	for (int i = 0; i < price->tier_count; i++)
	{
		const PriceTier *tier = &price->tiers[i];

		if (tier->unit_price.scaled < 0 || tier->flat_fee < 0)
			return RATING_NEGATIVE_PRICE;
		if (tier->unbounded != (i == price->tier_count - 1))
			return RATING_BAD_TIERS;
		if (!tier->unbounded && tier->up_to.scaled <= above)
			return RATING_BAD_TIERS;
		above = tier->up_to.scaled;
	}
	return RATING_OK;
}

static RatingStatus
check_limits(const RatedPrice *price)
{
	if ((price->has_minimum || price->has_maximum) && price->model != PRICE_PERCENTAGE)
		return RATING_BAD_LIMITS;
	if ((price->has_minimum && price->minimum < 0) || (price->has_maximum && price->maximum < 0) ||
		price->commitment < 0)
		return RATING_NEGATIVE_PRICE;
	if (price->has_maximum && ((price->has_minimum && price->minimum > price->maximum) ||
							   price->commitment > price->maximum))
		return RATING_BAD_LIMITS;
	return RATING_OK;
}

static RatingStatus
check_price(const RatedPrice *price)
{
	RatingStatus status = RATING_OK;

	if (price->model < PRICE_FLAT || price->model > PRICE_PERCENTAGE)
		return RATING_BAD_MODEL;
	if (price->flat_fee < 0 || price->unit_price.scaled < 0 || price->free_units.scaled < 0)
		return RATING_NEGATIVE_PRICE;
	if (price->model == PRICE_PACKAGE && price->package_size.scaled <= 0)
		return RATING_BAD_PACKAGE;
	if (price->model == PRICE_PERCENTAGE &&
		(price->percent.scaled < 0 || price->percent.scaled > 100 * ONE))
		return RATING_BAD_PERCENT;
	if (has_tiers(price))
		status = check_tiers(price);
	return status == RATING_OK ? check_limits(price) : status;
}

/* Adds up the tiers below each tier, and what of it fits the short way. */
static RatingStatus
add_up_tiers(RatedPrice *price)
{
	MoneyFraction above = no_fraction();
	MoneyExact before = {0, 0};
	int64_t fees = 0;

	for (int i = 0; i < price->tier_count; i++)
	{
		PriceTier *tier = &price->tiers[i];
		MoneyFraction width;

		if (money_add(fees, tier->flat_fee, &fees) != MONEY_OK)
			return RATING_OVERFLOW;
		tier->above = above;
		tier->before = before;
		tier->fees = fees;

		/* prices and quantities below 2^64 keep every sum of their products below 2^128 */
		price->fast = price->fast && tier->unit_price.scaled <= UINT64_MAX &&
					  (tier->unbounded || tier->up_to.scaled <= UINT64_MAX);
		if (price->fast)
		{
			tier->fast_up_to = tier->unbounded ? UINT64_MAX : (uint64_t) tier->up_to.scaled;
			tier->fast_above = (uint64_t) above.scaled;
			tier->fast_price = (uint64_t) tier->unit_price.scaled;
			tier->fast_before = (Unsigned128) before.scaled * ONE + (Unsigned128) before.rest;
		}
		if (tier->unbounded)
			break;
		width.scaled = tier->up_to.scaled - above.scaled;
		if (money_exact_add_product(&before, tier->unit_price, width) != MONEY_OK)
			return RATING_OVERFLOW;
		above = tier->up_to;
	}
	return RATING_OK;
}

RatingStatus
price_prepare(RatedPrice *price)
{
	RatingStatus status = check_price(price);

	price->prepared = false;
	price->fast = has_tiers(price) ||
				  (price->model == PRICE_PER_UNIT && price->unit_price.scaled <= UINT64_MAX);
	if (status == RATING_OK && has_tiers(price))
		status = add_up_tiers(price);
	price->prepared = status == RATING_OK;
	return status;
}

/* ---- the exact way ---- */

static RatingStatus
check_call(const RatedPrice *price, MoneyFraction quantity)
{
	if (!price->prepared)
		return RATING_BAD_MODEL;
	return quantity.scaled < 0 ? RATING_NEGATIVE_QUANTITY : RATING_OK;
}

static MoneyFraction
without_free_units(const RatedPrice *price, MoneyFraction quantity)
{
	if (quantity.scaled <= price->free_units.scaled)
		return no_fraction();
	return (MoneyFraction){quantity.scaled - price->free_units.scaled};
}

static int
tier_of(const RatedPrice *price, MoneyFraction quantity)
{
	int i = 0;

	while (!price->tiers[i].unbounded && quantity.scaled > price->tiers[i].up_to.scaled)
		i++;
	return i;
}

/* A package that is begun counts. */
static RatingStatus
count_packages(const RatedPrice *price, MoneyFraction quantity, MoneyFraction *packages)
{
	MoneyInt128 size = price->package_size.scaled;
	MoneyInt128 count = quantity.scaled / size + (quantity.scaled % size > 0);

	return __builtin_mul_overflow(count, ONE, &packages->scaled) ? RATING_OVERFLOW : RATING_OK;
}

static RatingStatus
add_up(const RatedPrice *price, MoneyFraction quantity, RatedSum *sum)
{
	MoneyFraction each = price->unit_price;
	MoneyFraction units = without_free_units(price, quantity);
	const PriceTier *tier;

	*sum = (RatedSum){.divisor = 1, .tier = -1, .billable = units};
	switch (price->model)
	{
		case PRICE_FLAT:
			sum->fees = price->flat_fee;
			return RATING_OK;
		case PRICE_PER_UNIT:
			break;
		case PRICE_GRADUATED:
			sum->tier = tier_of(price, units);
			tier = &price->tiers[sum->tier];
			sum->units = tier->before;
			sum->fees = tier->fees;
			each = tier->unit_price;
			units.scaled -= tier->above.scaled;
			break;
		case PRICE_VOLUME:
			sum->tier = tier_of(price, units);
			sum->fees = price->tiers[sum->tier].flat_fee;
			each = price->tiers[sum->tier].unit_price;
			break;
		case PRICE_PACKAGE:
			if (count_packages(price, units, &units) != RATING_OK)
				return RATING_OVERFLOW;
			sum->packages = units;
			break;
		case PRICE_PERCENTAGE:
			sum->divisor = 100;
			each = price->percent;
			break;
	}
	return from_money(money_exact_add_product(&sum->units, each, units));
}

/* Half away from zero; what the division by 100 cuts off cannot lift it over a half. */
static RatingStatus
round_units(const RatedSum *sum, int64_t *amount)
{
	return from_money(
		money_fraction_ratio((MoneyFraction){sum->units.scaled}, 1, sum->divisor, amount));
}

static RatingStatus
exact_amount(const RatedPrice *price, MoneyFraction quantity, int64_t *amount)
{
	RatedSum sum;
	RatingStatus status = add_up(price, quantity, &sum);

	if (status == RATING_OK)
		status = round_units(&sum, amount);
	if (status == RATING_OK)
		status = from_money(money_add(*amount, sum.fees, amount));
	return status;
}

RatingStatus
price_exact(const RatedPrice *price, MoneyFraction quantity, MoneyFraction *exact)
{
	RatedSum sum;
	MoneyFraction fees;
	RatingStatus status = check_call(price, quantity);

	if (status == RATING_OK)
		status = add_up(price, quantity, &sum);
	if (status != RATING_OK)
		return status;

	fees = money_fraction_from_int(sum.fees);
	return from_money(
		money_fraction_add((MoneyFraction){sum.units.scaled / sum.divisor}, fees, exact));
}

/* ---- the short way ---- */

/*
 * False where something does not fit: then the exact way finds the amount, or
 * that there is none.
 */
static inline bool
fast_amount(const RatedPrice *price, MoneyFraction quantity, int64_t *amount)
{
	uint64_t units;
	Unsigned128 sum;
	int64_t fees = 0;
	const PriceTier *tier = price->tiers;

	quantity = without_free_units(price, quantity);
	if (!price->fast || quantity.scaled > UINT64_MAX)
		return false;
	units = (uint64_t) quantity.scaled;

	if (price->model == PRICE_PER_UNIT)
		sum = (Unsigned128) units * (uint64_t) price->unit_price.scaled;
	else
	{
		while (units > tier->fast_up_to)
			tier++;
		sum = (Unsigned128) (units - tier->fast_above) * tier->fast_price;
		fees = tier->fees;
		if (price->model == PRICE_VOLUME)
		{
			sum = (Unsigned128) units * tier->fast_price;
			fees = tier->flat_fee;
		}
		else
			sum += tier->fast_before;
	}
	return round_24(sum, amount) && !__builtin_add_overflow(*amount, fees, amount);
}

/* ---- amounts and lines ---- */

/* What minimum and maximum make of an amount. */
static int64_t
within_limits(const RatedPrice *price, int64_t amount, bool used)
{
	if (price->has_minimum && used && amount < price->minimum)
		return price->minimum;
	if (price->has_maximum && amount > price->maximum)
		return price->maximum;
	return amount;
}

RatingStatus
price_amount(const RatedPrice *price, MoneyFraction quantity, int64_t *amount)
{
	int64_t rated;
	RatingStatus status = check_call(price, quantity);

	if (status != RATING_OK)
		return status;
	if (!fast_amount(price, quantity, &rated))
	{
		status = exact_amount(price, quantity, &rated);
		if (status != RATING_OK)
			return status;
	}

	if (price->model == PRICE_PERCENTAGE)
		rated = within_limits(price, rated, quantity.scaled > price->free_units.scaled);
	*amount = rated < price->commitment ? price->commitment : rated;
	return RATING_OK;
}

typedef struct LineList
{
	RatedLine *lines;
	int room;
	int count;
	int64_t total;
} LineList;

static RatingStatus
add_line(LineList *list, RatedLine line)
{
	if (list->count == list->room)
		return RATING_NO_ROOM;
	list->lines[list->count++] = line;
	return from_money(money_add(list->total, line.amount, &list->total));
}

static RatingStatus
add_fee(LineList *list, RatedKind kind, int tier, int64_t fee)
{
	RatedLine line = {kind, tier, money_fraction_from_int(1), money_fraction_from_int(fee), fee};

	return fee != 0 || kind == RATED_FLAT ? add_line(list, line) : RATING_OK;
}

/* The quantity of 1 and the price are those of a correction: its own amount. */
static RatingStatus
add_difference(LineList *list, RatedKind kind, int64_t wanted)
{
	int64_t amount;
	RatingStatus status = from_money(money_sub(wanted, list->total, &amount));

	return status == RATING_OK ? add_fee(list, kind, -1, amount) : status;
}

/*
 * The units in one tier.  Each line is rounded by itself, but takes no more than
 * is left of the whole, so that none becomes negative; the last takes the rest.
 */
static RatingStatus
add_units(LineList *list, const PriceTier *tier, RatedLine line, bool last, int64_t *left)
{
	MoneyExact exact = {0, 0};

	/* the last one is not rounded: it takes the rest */
	if (!last && !round_product(line.quantity, tier->unit_price, &line.amount) &&
		(money_exact_add_product(&exact, tier->unit_price, line.quantity) != MONEY_OK ||
		 money_exact_round(exact, &line.amount) != MONEY_OK))
		return RATING_OVERFLOW;
	if (last || line.amount > *left)
		line.amount = *left;
	*left -= line.amount;
	return add_line(list, line);
}

static RatingStatus
add_graduated(LineList *list, const RatedPrice *price, const RatedSum *sum, int64_t amount)
{
	RatingStatus status = RATING_OK;

	for (int i = 0; i <= sum->tier && status == RATING_OK; i++)
	{
		const PriceTier *tier = &price->tiers[i];
		MoneyInt128 top = i == sum->tier ? sum->billable.scaled : tier->up_to.scaled;
		RatedLine line = {RATED_UNITS, i, {top - tier->above.scaled}, tier->unit_price, 0};

		status = add_fee(list, RATED_TIER_FEE, i, tier->flat_fee);
		if (status == RATING_OK)
			status = add_units(list, tier, line, i == sum->tier, &amount);
	}
	return status;
}

/* amount: of the units, rounded, without fees */
static RatingStatus
add_model_lines(LineList *list, const RatedPrice *price, const RatedSum *sum, int64_t amount)
{
	RatedLine line = {RATED_UNITS, -1, sum->billable, price->unit_price, amount};
	RatingStatus status = RATING_OK;

	switch (price->model)
	{
		case PRICE_FLAT:
			return add_fee(list, RATED_FLAT, -1, sum->fees);
		case PRICE_PER_UNIT:
			break;
		case PRICE_GRADUATED:
			return add_graduated(list, price, sum, amount);
		case PRICE_VOLUME:
			line.tier = sum->tier;
			line.unit_price = price->tiers[sum->tier].unit_price;
			status = add_fee(list, RATED_TIER_FEE, sum->tier, sum->fees);
			break;
		case PRICE_PACKAGE:
			line.kind = RATED_PACKAGES;
			line.quantity = sum->packages;
			break;
		case PRICE_PERCENTAGE:
			line.kind = RATED_PERCENT;
			line.unit_price = price->percent;
			break;
	}
	return status == RATING_OK ? add_line(list, line) : status;
}

static RatingStatus
add_corrections(LineList *list, const RatedPrice *price, bool used)
{
	RatingStatus status = RATING_OK;

	if (price->model == PRICE_PERCENTAGE)
	{
		int64_t limited = within_limits(price, list->total, used);

		status = add_difference(list, limited < list->total ? RATED_MAXIMUM : RATED_MINIMUM,
								limited);
	}
	if (status == RATING_OK && list->total < price->commitment)
		status = add_difference(list, RATED_COMMITMENT, price->commitment);
	return status;
}

RatingStatus
price_lines(const RatedPrice *price, MoneyFraction quantity, RatedLine *lines, int room, int *count,
			int64_t *amount)
{
	LineList list = {lines, room, 0, 0};
	RatedSum sum;
	int64_t units = 0;
	RatingStatus status = check_call(price, quantity);

	if (status == RATING_OK)
		status = add_up(price, quantity, &sum);
	if (status == RATING_OK)
		status = round_units(&sum, &units);
	if (status == RATING_OK && price->model != PRICE_FLAT && price->free_units.scaled > 0 &&
		quantity.scaled > 0)
	{
		MoneyFraction unbilled = {quantity.scaled - sum.billable.scaled};
		RatedLine free_line = {RATED_FREE, -1, unbilled, no_fraction(), 0};

		status = add_line(&list, free_line);
	}
	if (status == RATING_OK)
		status = add_model_lines(&list, price, &sum, units);
	if (status == RATING_OK)
		status = add_corrections(&list, price, sum.billable.scaled > 0);
	if (status != RATING_OK)
		return status;

	*count = list.count;
	*amount = list.total;
	return RATING_OK;
}

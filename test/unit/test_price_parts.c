/*
 * test_price_parts.c
 *		What a price is for a part of a period: June, whose day is a 30th, in
 *		amounts computed by hand; and that parts add up.
 */
/* timegm() is not C11 */
#define _DEFAULT_SOURCE

#include "price_parts.h"

#include "unit.h"
#include "zones.h"

#define ONE_UNIT ((MoneyInt128) INT64_C(1000000000000))

static const Proration by_second = {PRORATE_BY_SECOND, NULL};
static const Proration by_day = {PRORATE_BY_DAY, NULL};

static int64_t
june(int day, int hour)
{
	return utc(2031, 6, day, hour, 0);
}

static Period
whole_june(void)
{
	return (Period){june(1, 0), utc(2031, 7, 1, 0, 0)};
}

/* A price with all that can be in proportion. */
static RatedPrice
full_price(PriceTier *tiers)
{
	RatedPrice price = {.model = PRICE_GRADUATED,
						.tiers = tiers,
						.tier_count = 2,
						.free_units = {50 * ONE_UNIT},
						.commitment = 3000};

	tiers[0] = (PriceTier){
		.up_to = {100 * ONE_UNIT}, .unit_price = {2 * ONE_UNIT}, .flat_fee = 600};
	tiers[1] = (PriceTier){.unbounded = true, .unit_price = {ONE_UNIT}, .flat_fee = 200};
	ok(price_prepare(&price) == RATING_OK, "a price to cut");
	return price;
}

static void
test_halves(void)
{
	PriceTier tiers[2];
	PriceTier room[2];
	RatedPrice price = full_price(tiers);
	RatedPrice made = {.tiers = room};
	Period whole = whole_june();
	Period half = {june(16, 0), whole.end};
	int64_t amount = 0;

	ok(price_for_part(&by_second, &price, &whole, &half, &made) == PRORATION_OK, "half of June");
	ok(made.commitment == 1500, "half of the commitment");
	ok(made.free_units.scaled == 25 * ONE_UNIT, "half of the free units");
	ok(made.tiers[0].flat_fee == 300 && made.tiers[1].flat_fee == 100, "half of the fees of tiers");
	ok(made.tiers[0].up_to.scaled == 100 * ONE_UNIT && made.tiers[1].unit_price.scaled == ONE_UNIT,
	   "bounds and unit prices stay");
	/* 25 free, 100 at 2 with 300, 900 at 1 with 100 */
	ok(price_amount(&made, (MoneyFraction){1025 * ONE_UNIT}, &amount) == RATING_OK &&
		   amount == 1500,
	   "and it can be rated");
	ok(price.commitment == 3000 && tiers[0].flat_fee == 600, "the price itself stays");

	half = (Period){whole.start, june(16, 18)};
	ok(price_for_part(&by_day, &price, &whole, &half, &made) == PRORATION_OK &&
		   made.commitment == 1500,
	   "by day the day of the change belongs to what comes after it");
}

static void
test_limits(void)
{
	RatedPrice price = {.model = PRICE_PERCENTAGE,
						.percent = {10 * ONE_UNIT},
						.has_minimum = true,
						.minimum = 1,
						.has_maximum = true,
						.maximum = 2,
						.commitment = 1};
	RatedPrice made = {0};
	Period whole = whole_june();
	/* half is left at its begin, a quarter at its end: 1 of 1, and none of 2 */
	Period part = {june(16, 0), june(23, 12)};
	Period all = whole;

	ok(price_prepare(&price) == RATING_OK, "a percentage with limits");
	ok(price_for_part(&by_second, &price, &whole, &part, &made) == PRORATION_OK,
	   "rounding does not lift a minimum above its maximum");
	ok(made.minimum == 1 && made.maximum == 1, "the larger of the two counts");
	ok(price_for_part(&by_second, &price, &whole, &all, &made) == PRORATION_OK &&
		   made.minimum == 1 && made.maximum == 2 && made.commitment == 1,
	   "all of a period is the price");
	part.end = whole.end + 1;
	ok(price_for_part(&by_second, &price, &whole, &part, &made) == PRORATION_BAD_PERIOD,
	   "a part beyond the period is refused");
}

static void
test_flat(void)
{
	RatedPrice price = {.model = PRICE_FLAT, .flat_fee = 3000};
	RatedPrice made = {0};
	Period whole = whole_june();
	Period part = {whole.start, june(11, 0)};

	ok(price_prepare(&price) == RATING_OK &&
		   price_for_part(&by_second, &price, &whole, &part, &made) == PRORATION_OK &&
		   made.flat_fee == 1000,
	   "10 of 30 days of a flat fee");
}

/* Cut anywhere, however often: all parts have what the whole has. */
/* Free units of a part, in thousandths of a unit. */
static int64_t
free_thousandths(MoneyInt128 scaled, Period part)
{
	PriceTier tier = {.unbounded = true};
	PriceTier room[1];
	RatedPrice price = {
		.model = PRICE_VOLUME, .tiers = &tier, .tier_count = 1, .free_units = {scaled}};
	RatedPrice made = {.tiers = room};
	Period whole = whole_june();

	if (price_prepare(&price) != RATING_OK ||
		price_for_part(&by_second, &price, &whole, &part, &made) != PRORATION_OK)
		return -1;
	return (int64_t) (made.free_units.scaled * 1000 / ONE_UNIT);
}

static void
test_free_units(void)
{
	Period whole = whole_june();
	Period first = {whole.start, june(16, 0) + 1};
	Period third = {whole.start, june(11, 0)};

	/* 30 units, 15 days and a second: 15.00001 */
	ok(free_thousandths(30 * ONE_UNIT, first) == 15000, "free units of a part are whole");
	ok(free_thousandths(30 * ONE_UNIT, (Period){first.end, whole.end}) == 15000, "in both of two");
	/* 50 units: a third is 16.67 */
	ok(free_thousandths(50 * ONE_UNIT, third) == 17000, "rounded to the nearest");
	ok(free_thousandths(50 * ONE_UNIT, (Period){third.end, whole.end}) == 33000,
	   "the rest is the rest");
	/* 2.5 units: a third is 0.83 */
	ok(free_thousandths(5 * ONE_UNIT / 2, third) == 800, "of decimals as many as the whole has");
	ok(free_thousandths(5 * ONE_UNIT / 2, (Period){third.end, whole.end}) == 1700,
	   "and the rest again");
}

static void
test_sums(void)
{
	bool added_up = true;

	for (int round = 0; round < 2000; round++)
	{
		PriceTier tier = {.unbounded = true};
		PriceTier room[1];
		RatedPrice price = {.model = PRICE_VOLUME, .tiers = &tier, .tier_count = 1};
		RatedPrice made = {.tiers = room};
		Period whole = whole_june();
		Period part = {whole.start, whole.start};
		int64_t fees = 0;
		int64_t commitment = 0;
		MoneyInt128 free_units = 0;

		tier.flat_fee = (int64_t) (random_bits() % 100000);
		price.commitment = (int64_t) (random_bits() % 100000);
		price.free_units.scaled = (MoneyInt128) (random_bits() % 100000) *
								  (round % 3 == 0 ? ONE_UNIT / 1000 : ONE_UNIT);
		if (price_prepare(&price) != RATING_OK)
			added_up = false;
		while (part.end < whole.end)
		{
			part.start = part.end;
			part.end += 1 + (int64_t) (random_bits() % 1000000);
			if (part.end > whole.end)
				part.end = whole.end;
			if (price_for_part(round % 2 == 0 ? &by_second : &by_day, &price, &whole, &part,
							   &made) != PRORATION_OK)
				added_up = false;
			fees += made.tiers[0].flat_fee;
			commitment += made.commitment;
			free_units += made.free_units.scaled;
		}
		added_up = added_up && fees == tier.flat_fee && commitment == price.commitment &&
				   free_units == price.free_units.scaled;
	}
	ok(added_up, "parts add up to the whole");
}

int
main(void)
{
	seed_random();
	test_halves();
	test_limits();
	test_flat();
	test_free_units();
	test_sums();
	return done_testing();
}

/*
 * price_parts.c
 *		A price of usage for a part of a period.
 *
 * See price_parts.h.  Called by the billing engine for usage; calls proration.c
 * and rating.c.
 */
#include "price_parts.h"

#include <stddef.h>

/* The part of a whole that amounts are taken for. */
typedef struct Part
{
	const Proration *how;
	const Period *whole;
	const Period *part;
	ProrationStatus status; /* the first thing that failed */
} Part;

static int64_t
part_of_amount(Part *p, int64_t amount)
{
	int64_t part = 0;

	if (p->status == PRORATION_OK && amount != 0)
		p->status = proration_amount(p->how, money_fraction_from_int(amount), p->whole, p->part,
									 &part);
	return part;
}

/* One unit, or what of it the free units are counted in: half a unit is five tenths. */
static MoneyInt128
step_of(MoneyFraction free_units)
{
	MoneyInt128 step = money_fraction_from_int(1).scaled;

	while (free_units.scaled % step != 0)
		step /= 10;
	return step;
}

/* As proration_amount(): rounded half away from zero, so that parts add up. */
static MoneyInt128
free_units_left(Part *p, MoneyFraction free_units, MoneyInt128 step, int64_t moment)
{
	ProrationShare share = {0, 1};
	MoneyInt128 product = 0;

	if (p->status == PRORATION_OK)
		p->status = proration_left(p->how, p->whole, moment, &share);
	if (p->status == PRORATION_OK &&
		__builtin_mul_overflow(free_units.scaled / step, (MoneyInt128) share.part, &product))
		p->status = PRORATION_OVERFLOW;
	return money_divide_rounded(product, share.whole) * step;
}

static MoneyFraction
part_of_free_units(Part *p, MoneyFraction free_units)
{
	MoneyInt128 step;

	if (free_units.scaled == 0)
		return free_units;
	step = step_of(free_units);
	return (MoneyFraction){free_units_left(p, free_units, step, p->part->start) -
						   free_units_left(p, free_units, step, p->part->end)};
}

static int64_t
larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

ProrationStatus
price_for_part(const Proration *how, const RatedPrice *price, const Period *whole,
			   const Period *part, RatedPrice *made)
{
	Part p = {how, whole, part, PRORATION_OK};
	PriceTier *tiers = made->tiers;

	*made = *price;
	made->tiers = price->tier_count > 0 ? tiers : NULL;
	for (int i = 0; i < price->tier_count; i++)
	{
		tiers[i] = price->tiers[i];
		tiers[i].flat_fee = part_of_amount(&p, price->tiers[i].flat_fee);
	}
	made->flat_fee = part_of_amount(&p, price->flat_fee);
	made->free_units = part_of_free_units(&p, price->free_units);
	made->minimum = part_of_amount(&p, price->minimum);
	made->commitment = part_of_amount(&p, price->commitment);
	made->maximum = part_of_amount(&p, price->maximum);
	/* each is rounded by itself: the larger one may have come out smaller */
	if (made->has_maximum)
		made->maximum = larger(made->maximum, larger(made->minimum, made->commitment));
	if (p.status == PRORATION_OK && price_prepare(made) != RATING_OK)
		p.status = PRORATION_BAD_AMOUNT;
	return p.status;
}

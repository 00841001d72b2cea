/*
 * rating.h
 *		What a quantity costs: prices, and the lines that explain an amount.
 *
 * Six models.  With 150 units, tiers up to 100 at 2 cents and then 1 cent:
 *
 *	flat		the flat fee, whatever the quantity is
 *	per unit	150 times the unit price
 *	graduated	100 at 2 and 50 at 1: each unit at the price of the tier it is in
 *	volume		150 at 1: all units at the price of the tier that the last is in
 *	package		begun packages of so many units, at the unit price each
 *	percentage	a part of the quantity, which is an amount of money in minor units
 *
 * A tier ends with its upper bound, inclusive, and the last one has none; its
 * flat fee is due once when the quantity reaches it.  A quantity of 0 is in the
 * first tier.  Free units are taken off the quantity before all else.
 *
 * Prices are in minor units and, like quantities, have 12 decimals
 * (MoneyFraction); money_fraction_from_major() makes them from dollars or
 * dinars by the currency's exponent.  Products are exact, to 24 decimals.  The
 * one rounding is that of the amount, half away from zero; the lines are split
 * from it, each rounded by itself, and the last line of units takes what is
 * left, so that the lines always add up to the amount.
 *
 * Pure: no memory of its own, no SQL, no float.
 */
#ifndef JANUA_BILLING_RATING_H
#define JANUA_BILLING_RATING_H

#include <stdbool.h>
#include <stdint.h>

#include "money.h"

/* More tiers than a person can read; keeps sums over tiers far from overflow of int. */
#define RATING_MAX_TIERS 1000

/* The most lines that a price with so many tiers can give. */
#define RATING_LINES(tier_count) (2 * (tier_count) + 4)

typedef enum RatingStatus
{
	RATING_OK,
	RATING_NEGATIVE_QUANTITY,
	RATING_NEGATIVE_PRICE, /* a price, fee, free quantity, minimum, maximum or commitment */
	RATING_BAD_MODEL,      /* no such model, or the price was not prepared */
	RATING_BAD_TIERS,      /* none, too many, bounds not ascending, the last one bounded */
	RATING_BAD_PACKAGE,    /* a package of no units */
	RATING_BAD_PERCENT,    /* not within 0 and 100 */
	RATING_BAD_LIMITS,     /* of another model, or minimum or commitment above the maximum */
	RATING_NO_ROOM,        /* more lines than the caller has room for */
	RATING_OVERFLOW        /* an amount leaves int64, or a product 128 bits */
} RatingStatus;

typedef enum PriceModel
{
	PRICE_FLAT = 1, /* 0 is a price that was forgotten */
	PRICE_PER_UNIT,
	PRICE_GRADUATED,
	PRICE_VOLUME,
	PRICE_PACKAGE,
	PRICE_PERCENTAGE
} PriceModel;

typedef struct PriceTier
{
	MoneyFraction up_to; /* inclusive; not looked at where unbounded */
	bool unbounded;      /* the last tier, and only it */
	MoneyFraction unit_price;
	int64_t flat_fee;

	/* set by price_prepare(), of all tiers below this one */
	MoneyFraction above; /* the quantity in them */
	MoneyExact before;   /* what that quantity costs, without fees */
	int64_t fees;        /* their fees and that of this tier */

	/* the same where it fits, with 12, 12, 12 and 24 decimals */
	uint64_t fast_up_to;
	uint64_t fast_above;
	uint64_t fast_price;
	MoneyUnsigned128 fast_before;
} PriceTier;

/*
 * A price is filled in by its owner, with 0 for what its model does not use,
 * prepared once, and then used for any number of quantities.
 */
typedef struct RatedPrice
{
	PriceModel model;
	int64_t flat_fee;           /* flat */
	MoneyFraction unit_price;   /* per unit; package: of one package */
	MoneyFraction package_size; /* package: units in it, above 0 */
	MoneyFraction percent;      /* percentage: 2.9 is 2.9 % */
	PriceTier *tiers;           /* graduated, volume: owned by the caller */
	int tier_count;

	MoneyFraction free_units;
	bool has_minimum; /* percentage: of an amount that is not 0 */
	bool has_maximum;
	int64_t minimum;
	int64_t maximum;
	int64_t commitment; /* due in any case, used or not */

	bool prepared; /* set by price_prepare() */
	bool fast;
} RatedPrice;

typedef enum RatedKind
{
	RATED_FLAT,      /* one flat fee of the price */
	RATED_FREE,      /* units that are free */
	RATED_UNITS,     /* units; of a tier where there are tiers */
	RATED_TIER_FEE,  /* one flat fee of a tier */
	RATED_PACKAGES,  /* quantity counts packages */
	RATED_PERCENT,   /* quantity is money, unit_price the percentage */
	RATED_MINIMUM,   /* what is missing to the minimum */
	RATED_MAXIMUM,   /* what is above the maximum, negative */
	RATED_COMMITMENT /* what is missing to the commitment */
} RatedKind;

typedef struct RatedLine
{
	RatedKind kind;
	int tier; /* 0 is the first; -1 without tiers */
	MoneyFraction quantity;
	MoneyFraction unit_price;
	int64_t amount; /* minor units */
} RatedLine;

/* Checks a price and adds up its tiers.  What is wrong is told once, here. */
extern RatingStatus price_prepare(RatedPrice *price);

/* What the quantity costs, in minor units. */
extern RatingStatus price_amount(const RatedPrice *price, MoneyFraction quantity, int64_t *amount);

/*
 * The same with its lines, at least one; RATING_LINES(tier_count) are always
 * room enough.  They add up to the amount.
 */
extern RatingStatus price_lines(const RatedPrice *price, MoneyFraction quantity, RatedLine *lines,
								int room, int *count, int64_t *amount);

/*
 * What a licensed quantity (seats) costs before it is rounded, for proration.
 * Decimals past the twelfth are cut off.  Without minimum, maximum and
 * commitment, which are whole amounts of a whole period.
 */
extern RatingStatus price_exact(const RatedPrice *price, MoneyFraction quantity,
								MoneyFraction *exact);

#endif /* JANUA_BILLING_RATING_H */

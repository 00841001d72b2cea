/*
 * money.h
 *		Arithmetic on money that is exact or says that it cannot be.
 *
 * An amount is an int64 in ISO 4217 minor units of its currency (cents for
 * USD, whole yen for JPY); an exponent is the number of decimals of those
 * units (2, 0, ...).  Unit prices and quantities may be finer: a MoneyFraction
 * has 12 decimals.  Nothing is ever a float, overflow is a status, and an
 * output is written only when the status is MONEY_OK unless its function says
 * otherwise.  Pure: calls nothing but libc.
 *
 * Rounding is half away from zero, once per invoice line.
 */
#ifndef JANUA_BILLING_MONEY_H
#define JANUA_BILLING_MONEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* more decimals than any currency has (ISO 4217 ends at 4) */
#define MONEY_EXPONENT_MAX 12

#define MONEY_FRACTION_DECIMALS 12

/* the longest formatted amount or fraction, with its NUL */
#define MONEY_TEXT_SIZE 48

/* palloc() aligns to 8 bytes, and the compiler would count on 16. */
typedef __int128 MoneyInt128 __attribute__((aligned(8)));
typedef unsigned __int128 MoneyUnsigned128 __attribute__((aligned(8)));

/* units * 10^12; of minor units where it is a price, of pieces where a quantity */
typedef struct MoneyFraction
{
	MoneyInt128 scaled;
} MoneyFraction;

/*
 * A sum of products of fractions with nothing cut off: scaled + rest / 10^12,
 * in units * 10^12, so 24 decimals in all.  0 <= rest < 10^12, also below zero.
 */
typedef struct MoneyExact
{
	MoneyInt128 scaled;
	int64_t rest;
} MoneyExact;

typedef enum MoneyStatus
{
	MONEY_OK,
	MONEY_OVERFLOW,      /* the result does not fit */
	MONEY_INVALID,       /* exponent, step, divisor or text out of range */
	MONEY_INEXACT,       /* has no whole number of minor units */
	MONEY_BELOW_MINIMUM, /* under the provider's minimum */
	MONEY_ABOVE_MAXIMUM, /* over the provider's maximum */
	MONEY_OFF_STEP       /* between two amounts that the provider takes */
} MoneyStatus;

/*
 * How a provider takes a currency: one row of provider_currencies.  step, min
 * and max are in the provider's wire units, which have wire_exponent decimals.
 */
typedef struct MoneyRule
{
	int wire_exponent;
	int64_t step; /* at least 1; every wire amount is a multiple */
	int64_t min;
	int64_t max; /* INT64_MAX where there is none */
} MoneyRule;

/* The neighbours are amounts of ours (minor units), not wire amounts. */
typedef struct MoneyWire
{
	int64_t wire;   /* valid with MONEY_OK */
	bool has_lower; /* valid with BELOW, ABOVE and OFF_STEP */
	bool has_upper;
	int64_t lower; /* the nearest smaller amount that fits */
	int64_t upper; /* the nearest larger amount that fits */
} MoneyWire;

/* Half away from zero; the divisor is positive. */
extern MoneyInt128 money_divide_rounded(MoneyInt128 value, MoneyInt128 divisor);

extern MoneyStatus money_add(int64_t a, int64_t b, int64_t *out);
extern MoneyStatus money_sub(int64_t a, int64_t b, int64_t *out);
extern MoneyStatus money_mul(int64_t amount, int64_t factor, int64_t *out);

/*
 * amount * numerator / denominator, rounded once: tax on a net amount
 * (rate / 1), the tax inside a gross amount (rate / (1 + rate)), the share of
 * a period that is left (seconds / seconds).  The denominator is positive.
 */
extern MoneyStatus money_ratio(int64_t amount, int64_t numerator, int64_t denominator,
							   int64_t *out);

/*
 * Spreads total over count parts in proportion to their weights by largest
 * remainder (ties: the earlier part), so that the parts add up to total.
 * Weights may be negative (credit lines) but not add up to 0.  -total spreads
 * into the negated parts, so that a credit note mirrors its invoice.  With
 * MONEY_OVERFLOW, which only negative weights can cause, parts are undefined.
 */
extern MoneyStatus money_spread(int64_t total, const int64_t *weights, int count, int64_t *parts);

/*
 * Converts an amount with exponent decimals into the provider's wire units.
 * An amount that does not fit is refused, never rounded, and *out names its
 * neighbours that do, for the errhint.
 */
extern MoneyStatus money_to_wire(int64_t amount, int exponent, const MoneyRule *rule,
								 MoneyWire *out);

/*
 * Converts what a provider reports into our minor units.  Steps and limits do
 * not apply: what was received is booked.  With MONEY_INEXACT *amount is the
 * rounded value, so that the caller can book it and say so.
 */
extern MoneyStatus money_from_wire(int64_t wire, int wire_exponent, int exponent, int64_t *amount);

/* Exact: every int64 fits. */
extern MoneyFraction money_fraction_from_int(int64_t value);

/*
 * Reads "12", "-0.5", "0.000000000001": digits with at most 12 decimals, a
 * point only between digits, no exponent, no blanks.
 */
extern MoneyStatus money_fraction_parse(const char *text, size_t length, MoneyFraction *out);

/* The shortest text that reads back as the same value. */
extern void money_fraction_format(MoneyFraction fraction, char out[MONEY_TEXT_SIZE]);

extern MoneyStatus money_fraction_add(MoneyFraction a, MoneyFraction b, MoneyFraction *out);

/*
 * unit price * quantity.  Decimals past the twelfth are cut off, not rounded,
 * so that rounding the product afterwards rounds it for the first time.
 */
extern MoneyStatus money_fraction_multiply(MoneyFraction price, MoneyFraction quantity,
										   MoneyFraction *out);

/* Rounds to whole minor units, half away from zero. */
extern MoneyStatus money_round(MoneyFraction fraction, int64_t *out);

/*
 * fraction * numerator / denominator in whole minor units, rounded once: the
 * part of a price that is not rounded yet.  None of the three is negative, and
 * the denominator not 0.
 */
extern MoneyStatus money_fraction_ratio(MoneyFraction fraction, int64_t numerator,
										int64_t denominator, int64_t *out);

/*
 * A price in whole units of its currency (dollars, dinars) in minor units:
 * 0.0125 with exponent 2 is 1.25 cents.
 */
extern MoneyStatus money_fraction_from_major(MoneyFraction major, int exponent, MoneyFraction *out);

/* And back, as the shortest text, which may have 12 + exponent decimals. */
extern MoneyStatus money_fraction_format_major(MoneyFraction fraction, int exponent,
											   char out[MONEY_TEXT_SIZE]);

/* *sum += price * quantity, exactly. */
extern MoneyStatus money_exact_add_product(MoneyExact *sum, MoneyFraction price,
										   MoneyFraction quantity);

/* Rounds to whole minor units, half away from zero. */
extern MoneyStatus money_exact_round(MoneyExact exact, int64_t *out);

/* "-12.05" for -1205 with exponent 2; no currency, no grouping. */
extern MoneyStatus money_format(int64_t amount, int exponent, char out[MONEY_TEXT_SIZE]);

#endif /* JANUA_BILLING_MONEY_H */

/*
 * proration.h
 *		What a part of a period costs, and what is given back of one.
 *
 * A fraction of a period is counted in seconds, or in days of the customer's
 * zone; the day of a change belongs to what comes after it.  What is left from
 * a moment to the end of a whole period costs
 *
 *		left(moment) = round(price of the whole * units left / units of the whole)
 *
 * and a part of it, from one moment to another, left(from) - left(to).  Parts
 * that touch therefore add up to the price of the whole, however it is cut, and
 * each is rounded at its two ends only.
 *
 * A credit is computed from the line that was billed, never from a price list:
 * its discount and its tax go back in proportion, and no more than was paid for
 * it and not credited before.  A change that is undone in the same instant gives
 * back all of the new line, so it nets to zero.
 *
 * Amounts are int64 minor units; the price of the whole is a MoneyFraction of
 * them, not rounded before.  Pure: no memory, no clock.
 */
#ifndef JANUA_BILLING_PRORATION_H
#define JANUA_BILLING_PRORATION_H

#include <stdbool.h>
#include <stdint.h>

#include "local_time.h"
#include "money.h"
#include "period.h"

typedef enum ProrationStatus
{
	PRORATION_OK,
	PRORATION_BAD_PERIOD, /* of no length, or the part lies outside of the whole */
	PRORATION_BAD_AMOUNT, /* below 0, or a discount above what it is taken from */
	PRORATION_BAD_ZONE,   /* no local day can be found */
	PRORATION_BAD_UNIT,   /* neither by second nor by day */
	PRORATION_OVERFLOW
} ProrationStatus;

typedef enum ProrationUnit
{
	PRORATE_BY_SECOND = 1,
	PRORATE_BY_DAY
} ProrationUnit;

typedef struct Proration
{
	ProrationUnit unit;
	const LocalZone *zone; /* of the days; NULL is UTC */
} Proration;

typedef struct ProrationShare
{
	int64_t part; /* seconds or days */
	int64_t whole;
} ProrationShare;

/*
 * The units left from a moment to the end, and those of the whole period.  A
 * moment before the start counts as the start, one after the end as the end.
 */
extern ProrationStatus proration_left(const Proration *how, const Period *whole, int64_t moment,
									  ProrationShare *share);

/* What the part of a whole costs; the part lies within the whole. */
extern ProrationStatus proration_amount(const Proration *how, MoneyFraction price,
										const Period *whole, const Period *part, int64_t *amount);

/*
 * What a plan costs from a moment to the end of a period.  trial_end: time
 * before it is worth nothing; INT64_MIN where there is no trial.
 */
extern ProrationStatus proration_debit(const Proration *how, MoneyFraction price,
									   const Period *whole, int64_t moment, int64_t trial_end,
									   int64_t *amount);

/*
 * A line as it was billed.  Where it was not prorated, billed is the whole
 * period.  A trial is no part of billed: it was worth nothing.
 */
typedef struct BilledLine
{
	MoneyFraction price; /* of the whole period, before discount */
	Period whole;
	Period billed;
	int64_t discount;  /* taken off what the billed part costs */
	int64_t tax;       /* of the line */
	bool tax_is_added; /* tax exclusive: what was paid is the line and its tax */
	int64_t paid;      /* of the line with its tax; all of it where it is not invoiced yet */
	int64_t credited;  /* of that, by earlier credits */
} BilledLine;

/* All are positive, and to be given back; net + tax = total. */
typedef struct ProrationCredit
{
	int64_t net;
	int64_t tax;
	int64_t total;
	int64_t not_covered; /* what the cap took off: time that was not paid for */

	/* before discount: what is given back, and the line that it is a part of */
	int64_t unused;
	int64_t billed;
} ProrationCredit;

/* What is given back of a line for the time from the moment on. */
extern ProrationStatus proration_credit(const Proration *how, const BilledLine *line,
										int64_t moment, ProrationCredit *credit);

/*
 * A line of usage that was billed and turns out to be less.  What is taken off
 * it counts from the line as it was billed, so that however often it is
 * corrected nothing is rounded twice: all that was taken gives back all of its
 * discount and tax.
 */
typedef struct CorrectedLine
{
	int64_t amount;    /* before discount */
	int64_t discount;  /* of the line */
	int64_t tax;       /* of the line */
	bool tax_is_added; /* as of BilledLine */
	int64_t paid;      /* of the line with its tax */
	int64_t gone;      /* of that, by whatever gave back of it */
	int64_t given;     /* of what is gone, what corrections gave before, with its tax */
	int64_t given_tax; /* of given */
	int64_t taken;     /* off the amount in all, with this correction */
} CorrectedLine;

/* What is still to be given back of it; not_covered is what corrections have not given so far. */
extern ProrationStatus correction_credit(const CorrectedLine *line, ProrationCredit *credit);

#endif /* JANUA_BILLING_PRORATION_H */

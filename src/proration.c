/*
 * proration.c
 *		What a part of a period costs, and what is given back of one.
 *
 * See proration.h.  Called by the billing engine when a plan or a quantity
 * changes within a period, when a first period is a part, and when a canceled
 * one is credited; calls money.c and local_time.c.
 */
#include "proration.h"

#include <stddef.h>

static ProrationStatus
from_money(MoneyStatus status)
{
	return status == MONEY_OK ? PRORATION_OK : PRORATION_OVERFLOW;
}

static int64_t
clamp(int64_t moment, const Period *period)
{
	if (moment < period->start)
		return period->start;
	return moment > period->end ? period->end : moment;
}

/* Seconds, or midnights, from one moment to another. */
static ProrationStatus
count_units(const Proration *how, int64_t from, int64_t to, int64_t *units)
{
	int64_t first;
	int64_t last;

	switch (how->unit)
	{
		case PRORATE_BY_SECOND:
			*units = to - from;
			return PRORATION_OK;
		case PRORATE_BY_DAY:
			if (!local_day(how->zone, from, &first) || !local_day(how->zone, to, &last))
				return PRORATION_BAD_ZONE;
			*units = last - first;
			return PRORATION_OK;
	}
	return PRORATION_BAD_UNIT;
}

ProrationStatus
proration_left(const Proration *how, const Period *whole, int64_t moment, ProrationShare *share)
{
	ProrationShare made;
	ProrationStatus status;

	if (!moment_in_range(whole->start) || !moment_in_range(whole->end) ||
		whole->start >= whole->end)
		return PRORATION_BAD_PERIOD;
	status = count_units(how, whole->start, whole->end, &made.whole);
	if (status == PRORATION_OK)
		status = count_units(how, clamp(moment, whole), whole->end, &made.part);
	if (status != PRORATION_OK)
		return status;
	if (made.whole <= 0)
		return PRORATION_BAD_PERIOD;

	/* at midnight clocks may be set back, and a date come twice */
	if (made.part < 0)
		made.part = 0;
	if (made.part > made.whole)
		made.part = made.whole;
	*share = made;
	return PRORATION_OK;
}

/* left(moment) of the header: the only place where a fraction is rounded. */
static ProrationStatus
price_left(const Proration *how, MoneyFraction price, const Period *whole, int64_t moment,
		   int64_t *amount)
{
	ProrationShare share;
	ProrationStatus status = proration_left(how, whole, moment, &share);

	if (status != PRORATION_OK)
		return status;
	if (price.scaled < 0)
		return PRORATION_BAD_AMOUNT;
	return from_money(money_fraction_ratio(price, share.part, share.whole, amount));
}

static bool
lies_within(const Period *part, const Period *whole)
{
	return whole->start <= part->start && part->start <= part->end && part->end <= whole->end;
}

ProrationStatus
proration_amount(const Proration *how, MoneyFraction price, const Period *whole, const Period *part,
				 int64_t *amount)
{
	int64_t from = 0;
	int64_t to = 0;
	ProrationStatus status = lies_within(part, whole) ? PRORATION_OK : PRORATION_BAD_PERIOD;

	if (status == PRORATION_OK)
		status = price_left(how, price, whole, part->start, &from);
	if (status == PRORATION_OK)
		status = price_left(how, price, whole, part->end, &to);
	if (status == PRORATION_OK)
		*amount = from - to;
	return status;
}

ProrationStatus
proration_debit(const Proration *how, MoneyFraction price, const Period *whole, int64_t moment,
				int64_t trial_end, int64_t *amount)
{
	return price_left(how, price, whole, moment > trial_end ? moment : trial_end, amount);
}

/* ---- credits ---- */

static ProrationStatus
check_line(const BilledLine *line)
{
	if (!lies_within(&line->billed, &line->whole))
		return PRORATION_BAD_PERIOD;
	if (line->price.scaled < 0 || line->discount < 0 || line->tax < 0 || line->paid < 0 ||
		line->credited < 0)
		return PRORATION_BAD_AMOUNT;
	return PRORATION_OK;
}

/* part / whole of an amount; a whole of 0 has no parts. */
static ProrationStatus
share_of(int64_t amount, int64_t part, int64_t whole, int64_t *share)
{
	*share = 0;
	return whole == 0 ? PRORATION_OK : from_money(money_ratio(amount, part, whole, share));
}

/*
 * Of a line of `billed` before discount, what is given back for the part of it
 * that costs `unused`.  Tax that is inside of the line goes back inside of it.
 */
static ProrationStatus
take_back(const BilledLine *line, int64_t billed, int64_t unused, ProrationCredit *credit)
{
	int64_t charged = billed - line->discount;
	int64_t discount = 0;
	int64_t amount;
	ProrationStatus status;

	if (line->discount > billed || (!line->tax_is_added && line->tax > charged))
		return PRORATION_BAD_AMOUNT;
	status = share_of(line->discount, unused, billed, &discount);
	amount = unused - discount;
	if (status == PRORATION_OK)
		status = share_of(line->tax, amount, charged, &credit->tax);
	if (status != PRORATION_OK)
		return status;

	credit->not_covered = 0;
	credit->unused = unused;
	credit->billed = billed;
	if (!line->tax_is_added)
	{
		credit->total = amount;
		credit->net = amount - credit->tax;
		return PRORATION_OK;
	}
	credit->net = amount;
	return from_money(money_add(amount, credit->tax, &credit->total));
}

/* No more goes back than came in; its tax shrinks with it. */
static ProrationStatus
cap(const BilledLine *line, ProrationCredit *credit)
{
	int64_t limit = line->paid > line->credited ? line->paid - line->credited : 0;
	ProrationStatus status;

	if (credit->total <= limit)
		return PRORATION_OK;
	status = share_of(credit->tax, limit, credit->total, &credit->tax);
	credit->not_covered = credit->total - limit;
	credit->total = limit;
	credit->net = limit - credit->tax;
	return status;
}

ProrationStatus
proration_credit(const Proration *how, const BilledLine *line, int64_t moment,
				 ProrationCredit *credit)
{
	Period unused = line->billed;
	int64_t billed = 0;
	int64_t given_back = 0;
	ProrationCredit made;
	ProrationStatus status = check_line(line);

	unused.start = clamp(moment, &line->billed);
	if (status == PRORATION_OK)
		status = proration_amount(how, line->price, &line->whole, &line->billed, &billed);
	if (status == PRORATION_OK)
		status = proration_amount(how, line->price, &line->whole, &unused, &given_back);
	if (status == PRORATION_OK)
		status = take_back(line, billed, given_back, &made);
	if (status == PRORATION_OK)
		status = cap(line, &made);
	if (status == PRORATION_OK)
		*credit = made;
	return status;
}

/* ---- corrections ---- */

ProrationStatus
correction_credit(const CorrectedLine *line, ProrationCredit *credit)
{
	BilledLine billed = {.discount = line->discount,
						 .tax = line->tax,
						 .tax_is_added = line->tax_is_added,
						 .paid = line->paid,
						 .credited = line->gone};
	ProrationCredit made;
	ProrationStatus status;

	if (line->taken < 0 || line->taken > line->amount || line->discount < 0 || line->tax < 0 ||
		line->paid < 0)
		return PRORATION_BAD_AMOUNT;
	status = take_back(&billed, line->amount, line->taken, &made);
	if (status != PRORATION_OK)
		return status;
	made.total = made.total > line->given ? made.total - line->given : 0;
	made.tax = made.tax > line->given_tax ? made.tax - line->given_tax : 0;
	if (made.tax > made.total)
		made.tax = made.total;
	made.net = made.total - made.tax;
	status = cap(&billed, &made);
	if (status == PRORATION_OK)
		*credit = made;
	return status;
}

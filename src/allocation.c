/*
 * allocation.c
 *		From the lines of an invoice to what is due: discount, tax, credit.
 *
 * See allocation.h.  Called by the billing engine when it makes or previews an
 * invoice; calls money.c.  Sums are __int128, so that only what is stored can
 * overflow.
 */
#include "allocation.h"

#include <stddef.h>

#define ONE         ((MoneyInt128) INT64_C(1000000000000))
#define HUNDRED     (100 * ONE)
#define HIGHEST_TAX (1000 * ONE)

static AllocationStatus
narrow(MoneyInt128 value, int64_t *out)
{
	if (value > INT64_MAX || value < INT64_MIN)
		return ALLOCATION_OVERFLOW;
	*out = (int64_t) value;
	return ALLOCATION_OK;
}

/* What is left of a line after the discounts so far. */
static MoneyInt128
discounted(const AllocatedLine *line)
{
	return (MoneyInt128) line->amount - line->discount;
}

/* The two halves of the scratch memory: weights go in, parts come out. */
static int64_t *
weights_of(const Allocation *allocation)
{
	return allocation->scratch;
}

static int64_t *
parts_of(const Allocation *allocation)
{
	return allocation->scratch + allocation->line_count;
}

static bool
has_room(const Allocation *allocation)
{
	return allocation->scratch_count / 2 >= allocation->line_count;
}

/* ---- discounts ---- */

static bool
coupon_is_valid(const Coupon *coupon)
{
	if (coupon->kind == COUPON_PERCENT)
		return coupon->percent.scaled > 0 && coupon->percent.scaled <= HUNDRED;
	return coupon->kind == COUPON_AMOUNT && coupon->amount >= 0;
}

AllocationStatus
allocate_discount(Allocation *allocation, const Coupon *coupon, int64_t *taken)
{
	int64_t *weights = weights_of(allocation);
	int64_t *parts = parts_of(allocation);
	MoneyInt128 base = 0;
	MoneyInt128 discount;

	if (!coupon_is_valid(coupon))
		return ALLOCATION_BAD_COUPON;
	if (!has_room(allocation))
		return ALLOCATION_NO_ROOM;

	for (int i = 0; i < allocation->line_count; i++)
	{
		const AllocatedLine *line = &allocation->lines[i];
		MoneyInt128 left = discounted(line) - line->cut;

		/* a line that takes part is above 0, and so is its discount */
		weights[i] = line->takes_part && left > 0 ? (int64_t) left : 0;
		base += weights[i];
	}
	if (base > INT64_MAX)
		return ALLOCATION_OVERFLOW;

	discount = coupon->amount;
	if (coupon->kind == COUPON_PERCENT)
		discount = money_divide_rounded(base * coupon->percent.scaled, HUNDRED);
	*taken = (int64_t) (discount < base ? discount : base);
	if (*taken == 0)
		return ALLOCATION_OK;

	/* parts of positive weights are none above its weight: nothing overflows */
	if (money_spread(*taken, weights, allocation->line_count, parts) != MONEY_OK)
		return ALLOCATION_OVERFLOW;
	for (int i = 0; i < allocation->line_count; i++)
		allocation->lines[i].discount += parts[i];
	return ALLOCATION_OK;
}

/* ---- tax ---- */

static AllocationStatus
check_tax(const Allocation *allocation)
{
	for (int i = 0; i < allocation->rate_count; i++)
	{
		const TaxRate *rate = &allocation->rates[i];

		if (rate->percent.scaled < 0 || rate->percent.scaled > HIGHEST_TAX ||
			(rate->behavior != TAX_EXCLUSIVE && rate->behavior != TAX_INCLUSIVE))
			return ALLOCATION_BAD_RATE;
	}
	for (int i = 0; i < allocation->line_count; i++)
	{
		int rate = allocation->lines[i].tax_rate;

		if (rate != NO_TAX_RATE && (rate < 0 || rate >= allocation->rate_count))
			return ALLOCATION_BAD_LINE;
	}
	return has_room(allocation) ? ALLOCATION_OK : ALLOCATION_NO_ROOM;
}

/* A percentage of a sum, or the one that is inside of it. */
static MoneyInt128
tax_on(MoneyInt128 sum, const TaxRate *rate)
{
	MoneyInt128 whole = HUNDRED;

	if (rate->behavior == TAX_INCLUSIVE)
		whole += rate->percent.scaled;
	return money_divide_rounded(sum * rate->percent.scaled, whole);
}

/* The tax of one rate, on the lines that have none of their own. */
static AllocationStatus
tax_rate_lines(Allocation *allocation, int index)
{
	TaxRate *rate = &allocation->rates[index];
	int64_t *weights = weights_of(allocation);
	int64_t *parts = parts_of(allocation);
	MoneyInt128 sum = 0;
	MoneyInt128 own_sum = 0;
	MoneyInt128 own_tax = 0;
	int64_t tax;
	AllocationStatus status = ALLOCATION_OK;

	for (int i = 0; i < allocation->line_count && status == ALLOCATION_OK; i++)
	{
		const AllocatedLine *line = &allocation->lines[i];

		weights[i] = 0;
		if (line->tax_rate != index)
			continue;
		if (line->has_own_tax)
		{
			own_sum += discounted(line);
			own_tax += line->tax;
			continue;
		}
		status = narrow(discounted(line), &weights[i]);
		sum += weights[i];
	}

	/* the product with a percentage needs the sum to fit */
	if (status == ALLOCATION_OK)
		status = narrow(sum, &tax);
	if (status == ALLOCATION_OK)
		status = narrow(tax_on(sum, rate), &tax);
	if (status == ALLOCATION_OK && sum != 0 &&
		money_spread(tax, weights, allocation->line_count, parts) != MONEY_OK)
		status = ALLOCATION_OVERFLOW;
	if (status != ALLOCATION_OK)
		return status;

	for (int i = 0; i < allocation->line_count; i++)
	{
		AllocatedLine *line = &allocation->lines[i];

		if (line->tax_rate == index && !line->has_own_tax)
			line->tax = sum != 0 ? parts[i] : 0;
	}
	own_tax += tax;
	own_sum += sum - (rate->behavior == TAX_INCLUSIVE ? own_tax : 0);
	status = narrow(own_sum, &rate->taxable);
	return status == ALLOCATION_OK ? narrow(own_tax, &rate->tax) : status;
}

AllocationStatus
allocate_tax(Allocation *allocation)
{
	AllocationStatus status = check_tax(allocation);

	for (int i = 0; i < allocation->line_count && status == ALLOCATION_OK; i++)
	{
		AllocatedLine *line = &allocation->lines[i];

		if (line->tax_rate == NO_TAX_RATE && !line->has_own_tax)
			line->tax = 0;
	}
	for (int i = 0; i < allocation->rate_count && status == ALLOCATION_OK; i++)
		status = tax_rate_lines(allocation, i);
	return status;
}

/* ---- totals ---- */

/* Own tax without a rate was inside of what was billed: nothing is added. */
static bool
tax_is_added(const Allocation *allocation, const AllocatedLine *line)
{
	return line->tax_rate != NO_TAX_RATE &&
		   allocation->rates[line->tax_rate].behavior == TAX_EXCLUSIVE;
}

AllocationStatus
allocation_totals(const Allocation *allocation, AllocationTotals *totals)
{
	MoneyInt128 subtotal = 0;
	MoneyInt128 discount = 0;
	MoneyInt128 tax = 0;
	MoneyInt128 added = 0;

	for (int i = 0; i < allocation->line_count; i++)
	{
		const AllocatedLine *line = &allocation->lines[i];

		subtotal += line->amount;
		discount += line->discount;
		tax += line->tax;
		if (tax_is_added(allocation, line))
			added += line->tax;
	}
	if (narrow(subtotal, &totals->subtotal) != ALLOCATION_OK ||
		narrow(discount, &totals->discount) != ALLOCATION_OK ||
		narrow(tax, &totals->tax) != ALLOCATION_OK ||
		narrow(added, &totals->added_tax) != ALLOCATION_OK)
		return ALLOCATION_OVERFLOW;
	return narrow(subtotal - discount + added, &totals->total);
}

/* ---- credit ---- */

static int64_t
smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

AllocationStatus
allocation_settle(int64_t total, PrepaidCredit *credits, int credit_count, int64_t balance,
				  Settlement *settlement)
{
	int64_t left = total > 0 ? total : 0;
	MoneyInt128 due;
	Settlement made = {0};

	for (int i = 0; i < credit_count; i++)
	{
		if (credits[i].available < 0)
			return ALLOCATION_BAD_CREDIT;
	}
	for (int i = 0; i < credit_count; i++)
	{
		credits[i].used = smaller(credits[i].available, left);
		left -= credits[i].used;
		made.credit_used += credits[i].used; /* no more than the total */
	}

	/* what is left, less the balance: below 0 it stays with the customer */
	due = (MoneyInt128) (total > 0 ? left : total) - balance;
	made.due = 0;
	if (due > 0 && narrow(due, &made.due) != ALLOCATION_OK)
		return ALLOCATION_OVERFLOW;
	if (narrow(due > 0 ? 0 : -due, &made.balance_after) != ALLOCATION_OK ||
		narrow((MoneyInt128) balance - made.balance_after, &made.balance_used) != ALLOCATION_OK)
		return ALLOCATION_OVERFLOW;
	*settlement = made;
	return ALLOCATION_OK;
}

/*
 * allocation.h
 *		From the lines of an invoice to what is due: discount, tax, credit.
 *
 * In this order, each step once:
 *
 *	1. discounts, coupon after coupon, on the lines that take part
 *	2. tax, one amount per rate on the sum of its lines after discount
 *	3. the total
 *	4. prepaid credits in the order given, then the customer's balance
 *	5. what is due
 *
 * A discount and a tax are computed on a sum, rounded once, and spread over its
 * lines by largest remainder, so that the lines add up to what is printed below
 * them.  Rounding is half away from zero.
 *
 * Amounts are int64 minor units of one currency, percentages MoneyFraction
 * (8.875 is 8.875 %).  Pure; the caller owns all memory, and after a failure the
 * results in it are undefined.
 */
#ifndef JANUA_BILLING_ALLOCATION_H
#define JANUA_BILLING_ALLOCATION_H

#include <stdbool.h>
#include <stdint.h>

#include "money.h"

typedef enum AllocationStatus
{
	ALLOCATION_OK,
	ALLOCATION_BAD_COUPON, /* percentage not above 0 up to 100, amount below 0, no such kind */
	ALLOCATION_BAD_RATE,   /* tax not within 0 and 1000 %, no such behaviour */
	ALLOCATION_BAD_LINE,   /* a line names a rate that is not there */
	ALLOCATION_BAD_CREDIT, /* a prepaid credit below 0 */
	ALLOCATION_NO_ROOM,    /* more lines than there is scratch memory for */
	ALLOCATION_OVERFLOW    /* a sum leaves int64 */
} AllocationStatus;

typedef enum CouponKind
{
	COUPON_PERCENT = 1,
	COUPON_AMOUNT
} CouponKind;

typedef struct Coupon
{
	CouponKind kind;
	MoneyFraction percent;
	int64_t amount;
} Coupon;

typedef enum TaxBehavior
{
	TAX_EXCLUSIVE = 1, /* amounts are net, tax is added */
	TAX_INCLUSIVE      /* amounts are gross, tax is inside */
} TaxBehavior;

typedef struct TaxRate
{
	MoneyFraction percent;
	TaxBehavior behavior;

	/* set by allocate_tax() */
	int64_t taxable; /* its lines after discount, without the tax inside */
	int64_t tax;
} TaxRate;

#define NO_TAX_RATE (-1)

/*
 * A credit for something that was billed before keeps the tax that was billed
 * with it: has_own_tax, with tax given.
 */
typedef struct AllocatedLine
{
	int64_t amount;  /* before discount; negative on a credit */
	int64_t cut;     /* of amount: what another line takes off it again, as a maximum does */
	bool takes_part; /* in discounts, without what is cut; a line that is not above 0 never does */
	int tax_rate;    /* index of its rate, or NO_TAX_RATE */
	bool has_own_tax;

	int64_t discount; /* set by allocate_discount(), 0 before it */
	int64_t tax;      /* set by allocate_tax() */
} AllocatedLine;

/*
 * The lines of one invoice, and room for computing: twice as many int64 as
 * there are lines.
 */
typedef struct Allocation
{
	AllocatedLine *lines;
	int line_count;
	TaxRate *rates;
	int rate_count;
	int64_t *scratch;
	int scratch_count;
} Allocation;

typedef struct AllocationTotals
{
	int64_t subtotal; /* of the lines before discount */
	int64_t discount;
	int64_t tax;       /* inside the amounts or added */
	int64_t added_tax; /* the part of it that is added */
	int64_t total;     /* subtotal - discount + added_tax; may be negative */
} AllocationTotals;

/*
 * Takes a coupon off the lines.  It never takes more than the lines that take
 * part have left; *taken tells how much.
 */
extern AllocationStatus allocate_discount(Allocation *allocation, const Coupon *coupon,
										  int64_t *taken);

/* Fills in the tax of the rates and of their lines. */
extern AllocationStatus allocate_tax(Allocation *allocation);

extern AllocationStatus allocation_totals(const Allocation *allocation, AllocationTotals *totals);

/* A prepaid credit, as it can be used for this invoice. */
typedef struct PrepaidCredit
{
	int64_t available;
	int64_t used; /* set by allocation_settle() */
} PrepaidCredit;

typedef struct Settlement
{
	int64_t credit_used;   /* of all prepaid credits */
	int64_t balance_used;  /* negative where the balance was owed, or the invoice is a credit */
	int64_t balance_after; /* of the customer */
	int64_t due;           /* never negative */
} Settlement;

/*
 * What remains to be paid of a total.  balance: above 0 we owe it to the
 * customer, below 0 he owes it (an amount that was too small to be charged) and
 * it becomes due with this invoice.  A negative total goes to the balance: it
 * becomes credit, never a payout.
 */
extern AllocationStatus allocation_settle(int64_t total, PrepaidCredit *credits, int credit_count,
										  int64_t balance, Settlement *settlement);

#endif /* JANUA_BILLING_ALLOCATION_H */

/*-------------------------------------------------------------------------
 *
 * coupon_amounts.c
 *	  Coupons with an amount, when a subscription changes within a period.
 *
 * An amount belongs to the invoice of a period: it is taken once, off what that
 * bills.  A change gives back of a line what was paid of it, so without the part
 * that its amounts took; what is billed for the rest of the period instead is
 * discounted by exactly as much, where there is as much of it.  So whoever
 * changes neither gets an amount a second time nor loses it.
 *
 * Each line remembers what every amount took of it (AmountTaken), by the row that
 * applied the coupon: it may have ended, or been used up, since.  On a credit
 * stands what it takes back, and on a debit that takes a credit back to the cent
 * what that had taken: it is net of it already.
 *
 * Asked by coupons.c and invoice_drafts.c when a draft is completed, and by
 * engine_changes.c for what goes back.
 *
 *-------------------------------------------------------------------------
 */
#include "draft_steps.h"

/*
 * A change within the hour that a draft waits for usage bills parts of the
 * period of that draft: they are lines of it as any other.
 */
bool
line_is_of_change(const InvoiceDraft *draft, const InvoiceLine *line)
{
	return line->kind == LINE_PRORATION_DEBIT &&
		   (draft->period_end == 0 || line->period_start < draft->period_start);
}

/* An invoice of a change alone has no period. */
bool
draft_takes_amounts(const InvoiceDraft *draft)
{
	return draft->period_end != 0 || strcmp(draft->reason, "subscription_update") != 0;
}

List *
amount_taken(List *amounts, const pg_uuid_t *applied_id, int64 amount)
{
	AmountTaken *taken;

	if (amount == 0)
		return amounts;
	taken = palloc(sizeof(AmountTaken));
	*taken = (AmountTaken){applied_id, amount};
	return lappend(amounts, taken);
}

List *
amounts_taken_back(const InvoiceLine *line, const ProrationCredit *credit)
{
	List *back = NIL;
	ListCell *cell;

	if (credit->billed == 0)
		return NIL;
	foreach (cell, line->amounts)
	{
		const AmountTaken *taken = lfirst(cell);
		int64 part;

		if (money_ratio(taken->amount, credit->unused, credit->billed, &part) != MONEY_OK)
			elog(ERROR, "the part of a discount does not fit");
		back = amount_taken(back, taken->applied_id, part);
	}
	return back;
}

static int64
amount_of(const InvoiceLine *line, const pg_uuid_t *applied_id)
{
	int64 amount = 0;
	ListCell *cell;

	foreach (cell, line->amounts)
	{
		const AmountTaken *taken = lfirst(cell);

		if (uuid_equal(taken->applied_id, applied_id))
			amount += taken->amount;
	}
	return amount;
}

int64
amount_kept(const InvoiceDraft *draft, const pg_uuid_t *applied_id)
{
	int64 kept = 0;
	ListCell *cell;

	foreach (cell, draft->lines)
	{
		const InvoiceLine *line = lfirst(cell);

		if (line->kind == LINE_PRORATION_CREDIT)
			kept += amount_of(line, applied_id);
		else if (line->kind == LINE_PRORATION_DEBIT && line->reverses != NULL)
			kept -= amount_of(line, applied_id);
	}
	return Max(kept, 0);
}

/*-------------------------------------------------------------------------
 *
 * coupon_amounts.c
 *	  Coupons with an amount, when a subscription changes within a period.
 *
 * An amount belongs to the invoice of a period: it is taken once, off what that
 * bills.  A change gives back of a line what was paid of it, so without the part
 * that its amounts took; what is billed for the rest of the period instead is
 * discounted by exactly as much.  So whoever changes neither gets an amount a
 * second time nor loses it, unless what he changes to costs less than that: then
 * it is free, and the rest is gone.
 *
 * Each line remembers what every amount took of it (AmountTaken), by the row that
 * applied the coupon: it may have ended, or been used up, since.  On a credit
 * stands what it takes back, and on a debit that takes a credit back to the cent
 * what that had taken: it is net of it already.
 *
 * Asked by coupons.c and invoice_drafts.c when a draft is completed, and by
 * engine_rest.c for what goes back.
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

/* ------------------------------------------------------------------------
 * What is kept, by time
 * ------------------------------------------------------------------------
 */

/* A credit gives, and a debit that takes one back takes; 0: neither. */
static int
direction(const InvoiceLine *line)
{
	if (line->kind == LINE_PRORATION_CREDIT)
		return 1;
	return line->kind == LINE_PRORATION_DEBIT && line->reverses != NULL ? -1 : 0;
}

static Period
time_of(const InvoiceLine *line)
{
	return (Period){unix_seconds(line->period_start), unix_seconds(line->period_end)};
}

static int64
cost_within(const InvoiceDraft *draft, MoneyFraction price, const Period *whole, const Period *time,
			const Period *part)
{
	Proration how = engine_proration(draft->subscription);
	Period common = {Max(time->start, part->start), Min(time->end, part->end)};
	int64 amount = 0;
	ProrationStatus status;

	if (common.start >= common.end)
		return 0;
	status = proration_amount(&how, price, whole, &common, &amount);
	if (status != PRORATION_OK)
		elog(ERROR, "a part of a discount cannot be computed: status %d", status);
	return amount;
}

int64
debit_within(const InvoiceDraft *draft, const InvoiceLine *line, const Period *time)
{
	Period whole = {unix_seconds(line->whole_start), unix_seconds(line->whole_end)};
	Period own = time_of(line);

	return cost_within(draft, line->whole_price, &whole, &own, time);
}

static int64
kept_within(const InvoiceDraft *draft, const pg_uuid_t *applied_id, const Period *time)
{
	int64 kept = 0;
	ListCell *cell;

	foreach (cell, draft->lines)
	{
		const InvoiceLine *line = lfirst(cell);
		int64 amount = direction(line) == 0 ? 0 : amount_of(line, applied_id);
		Period own = time_of(line);

		if (amount != 0)
			kept += direction(line) *
					cost_within(draft, money_fraction_from_int(amount), &own, &own, time);
	}
	return Max(kept, 0);
}

static int
by_moment(const ListCell *a, const ListCell *b)
{
	const int64 *first = lfirst(a);
	const int64 *second = lfirst(b);

	return *first < *second ? -1 : *first > *second;
}

static List *
add_moment(List *moments, int64 moment)
{
	int64 *added = palloc(sizeof(int64));

	*added = moment;
	return lappend(moments, added);
}

/* Where a credit, or a debit of a change, begins or ends; NIL: no credit has anything of this coupon. */
static List *
moments_of_change(const InvoiceDraft *draft, const pg_uuid_t *applied_id)
{
	List *moments = NIL;
	bool gives = false;
	ListCell *cell;

	foreach (cell, draft->lines)
	{
		const InvoiceLine *line = lfirst(cell);
		Period time = time_of(line);

		if (direction(line) == 0 && !line_is_of_change(draft, line))
			continue;
		gives = gives || (direction(line) > 0 && amount_of(line, applied_id) > 0);
		moments = add_moment(add_moment(moments, time.start), time.end);
	}
	if (!gives)
		return NIL;
	list_sort(moments, by_moment);
	return moments;
}

/*
 * A debit that waits may have been shortened since: it keeps what was taken back
 * for its time, and not for what comes after it.
 */
List *
amounts_kept(const InvoiceDraft *draft, const pg_uuid_t *applied_id)
{
	List *moments = moments_of_change(draft, applied_id);
	List *kept = NIL;

	for (int i = 1; i < list_length(moments); i++)
	{
		const int64 *start = list_nth(moments, i - 1);
		const int64 *end = list_nth(moments, i);
		KeptAmount part = {.time = {*start, *end}};

		part.amount = kept_within(draft, applied_id, &part.time);
		if (part.amount > 0)
			kept = lappend(kept, memcpy(palloc(sizeof(KeptAmount)), &part, sizeof(KeptAmount)));
	}
	return kept;
}

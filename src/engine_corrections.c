/*-------------------------------------------------------------------------
 *
 * engine_corrections.c
 *	  Usage that was billed and turns out to be less: it is void or corrected,
 *	  or what came late makes all of it cheaper.
 *
 * What the period costs less is given back of the lines that billed it, the
 * newest first.  A line that is final is credited: its discount and its tax go
 * back in proportion, up to what was paid of it and not given back otherwise,
 * and what is paid later is given back then (given_back.c).  Each such credit
 * keeps how much it took off the line (taken_off), so that those of one line
 * after each other give back what one would.  A line that nobody has been billed
 * by yet becomes less where it stands.
 *
 * Lines of void invoices are no more, so nothing of them is given back: what is
 * taken off is what the standing ones cost above what the period does now.
 *
 * Called by engine_late.c.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "errors.h"

/* A line that stands; one below 0 (what was above a maximum) is counted with the line before it. */
typedef struct StandingLine
{
	InvoiceLine *line;
	int64 amount; /* before discount */
	int64 tax;
	bool is_final;
} StandingLine;

static int64
left_of(const StandingLine *standing)
{
	return standing->amount - standing->line->taken_off;
}

/* ------------------------------------------------------------------------
 * What stands, in the tables and in this run
 * ------------------------------------------------------------------------
 */

/* Those of the customer that this run holds: on drafts, waiting, or cut. */
static List *
lines_of_run(const BillingRun *run, const InvoiceDraft *draft)
{
	List *lines = list_copy(draft->lines);
	ListCell *cell;

	foreach (cell, run->drafts)
	{
		const InvoiceDraft *other = lfirst(cell);

		if (other != draft && other->customer == draft->customer)
			lines = list_concat(lines, other->lines);
	}
	foreach (cell, run->subscriptions)
	{
		const BilledSubscription *s = lfirst(cell);

		if (s->customer == draft->customer)
			lines = list_concat(lines, s->pending);
	}
	return list_concat(lines, run->cut_lines);
}

static InvoiceLine *
line_by_id(const List *lines, const pg_uuid_t *id)
{
	ListCell *cell;

	foreach (cell, lines)
	{
		InvoiceLine *line = lfirst(cell);

		if (uuid_equal(line->id, id))
			return line;
	}
	return NULL;
}

static bool
was_dropped(const BillingRun *run, const pg_uuid_t *id)
{
	ListCell *cell;

	foreach (cell, run->dropped_lines)
	{
		if (uuid_equal(lfirst(cell), id))
			return true;
	}
	return false;
}

/* As the run has it, with what the tables tell of it. */
static InvoiceLine *
line_in_run(const List *held, InvoiceLine *stored)
{
	InvoiceLine *line = line_by_id(held, stored->id);

	if (line == NULL)
		return stored;
	line->invoiced = stored->invoiced;
	line->paid = stored->paid;
	line->credited = stored->credited;
	line->credited_tax = stored->credited_tax;
	line->noted = stored->noted;
	line->made_up = stored->made_up;
	line->made_up_tax = stored->made_up_tax;
	line->left = stored->left;
	line->taken_off = stored->taken_off;
	return line;
}

static bool
bills(const InvoiceLine *line, const UsageDecrease *decrease)
{
	return line->kind == LINE_USAGE && line->reverses == NULL &&
		   strcmp(line->component, decrease->component) == 0 &&
		   line->period_start == decrease->usage.period.start &&
		   line->period_end == decrease->usage.period.end;
}

static void
count_credit(InvoiceLine *line, const InvoiceLine *credit)
{
	int64 given = -line_gross(credit);

	line->credited += given;
	line->credited_tax -= credit->tax;
	line->taken_off += credit->taken_off;
	if (line->left != NULL)
		*line->left -= given;
}

/* Credits that this run has made and not written are in no table yet. */
static void
count_new_credits(const List *lines, const List *held)
{
	ListCell *cell;

	foreach (cell, held)
	{
		const InvoiceLine *credit = lfirst(cell);
		InvoiceLine *line;

		if (credit->stored || credit->taken_off == 0 || credit->reverses == NULL)
			continue;
		line = line_by_id(lines, credit->reverses);
		if (line != NULL)
			count_credit(line, credit);
	}
}

/* InvoiceLine, oldest first. */
static List *
lines_that_bill(const BillingRun *run, const InvoiceDraft *draft, const UsageDecrease *decrease)
{
	List *held = lines_of_run(run, draft);
	List *lines = NIL;
	ListCell *cell;

	foreach (cell, billed_usage(draft->customer->organization_id, decrease->usage.period,
								decrease->component))
	{
		InvoiceLine *stored = lfirst(cell);

		if (!was_dropped(run, stored->id))
			lines = lappend(lines, line_in_run(held, stored));
	}
	foreach (cell, held)
	{
		InvoiceLine *line = lfirst(cell);

		if (!line->stored && bills(line, decrease))
			lines = list_append_unique_ptr(lines, line);
	}
	count_new_credits(lines, held);
	return lines;
}

static List *
standing_lines(const BillingRun *run, const InvoiceDraft *draft, const UsageDecrease *decrease)
{
	List *standing = NIL;
	StandingLine *before = NULL;
	ListCell *cell;

	foreach (cell, lines_that_bill(run, draft, decrease))
	{
		InvoiceLine *line = lfirst(cell);

		if (line->amount < 0 && before != NULL)
		{
			before->amount += line->amount;
			before->tax += line->tax;
			continue;
		}
		before = palloc(sizeof(StandingLine));
		*before = (StandingLine){line, line->amount, line->tax,
								 line->invoiced || completed_in_run(run, line)};
		standing = lappend(standing, before);
	}
	return standing;
}

/* ------------------------------------------------------------------------
 * Less of them
 * ------------------------------------------------------------------------
 */
static void
drop(BillingRun *run, InvoiceDraft *draft, InvoiceLine *line)
{
	draft->lines = list_delete_ptr(draft->lines, line);
	line_drop(run, run_subscription(run, line->subscription_id), line);
}

/* Nobody has been billed yet: they are billed as if it had been known. */
static void
bill_again(BillingRun *run, InvoiceDraft *draft, const UsageDecrease *decrease)
{
	ListCell *cell;

	foreach (cell, lines_that_bill(run, draft, decrease))
		drop(run, draft, lfirst(cell));
	bill_usage(draft, decrease->component, decrease->price, decrease->quantity, &decrease->usage);
}

static void
shorten(BillingRun *run, InvoiceDraft *draft, InvoiceLine *line, int64 by)
{
	line->amount -= by;
	if (line->amount == 0)
	{
		drop(run, draft, line);
		return;
	}
	line->has_quantity = false;
	line->description = psprintf("%s, corrected", line->description);
	if (line->stored)
		run->cut_lines = list_append_unique_ptr(run->cut_lines, line);
}

static ProrationCredit
credit_of(const BillingRun *run, const StandingLine *standing, int64 by)
{
	const InvoiceLine *line = standing->line;
	CorrectedLine corrected = {.amount = standing->amount,
							   .discount = Min(line->discount, standing->amount),
							   .tax = Max(standing->tax, 0),
							   .tax_is_added = !line->tax_inclusive,
							   .paid = completed_in_run(run, line) ? line_gross(line) : line->paid,
							   .gone = line->credited + line->noted,
							   .given = line->credited + line->made_up,
							   .given_tax = line->credited_tax + line->made_up_tax,
							   .taken = line->taken_off + by};
	ProrationCredit credit;

	if (line->left != NULL)
		corrected.paid = Min(corrected.paid, corrected.gone + Max(*line->left, 0));
	if (correction_credit(&corrected, &credit) != PRORATION_OK)
		elog(ERROR, "what is given back of line %s cannot be computed", uuid_text(line->id));
	return credit;
}

/* Also one of nothing is written: what it took off the line may be paid later. */
static void
credit_line(BillingRun *run, InvoiceDraft *draft, const UsageDecrease *decrease,
			const StandingLine *standing, int64 by)
{
	InvoiceLine *line = standing->line;
	ProrationCredit credit = credit_of(run, standing, by);
	InvoiceLine *back = add_usage_line(draft, decrease->component, decrease->price,
									   line->tax_inclusive ? -credit.total : -credit.net, NULL,
									   decrease->usage.period);

	back->description = psprintf("%s, corrected", line->description);
	back->price_id = line->price_id;
	back->tier = line->tier;
	back->tax = -credit.tax;
	back->tax_rate_id = line->tax_rate_id;
	back->tax_inclusive = line->tax_inclusive;
	back->untaxed = line->untaxed;
	back->own_tax = true;
	back->reverses = line->id;
	back->not_covered = credit.not_covered;
	back->taken_off = by;
	if (line->given_up != NULL)
		run->given_up = lappend(run->given_up, unconstify(pg_uuid_t *, line->given_up));
	count_credit(line, back);
}

static bool
any_final(const List *standing)
{
	ListCell *cell;

	foreach (cell, standing)
	{
		if (((const StandingLine *) lfirst(cell))->is_final)
			return true;
	}
	return false;
}

static int64
all_left(const List *standing)
{
	int64 sum = 0;
	ListCell *cell;

	foreach (cell, standing)
		sum += left_of(lfirst(cell));
	return sum;
}

void
usage_give_back(BillingRun *run, InvoiceDraft *draft, const UsageDecrease *decrease)
{
	List *standing = standing_lines(run, draft, decrease);
	int64 left = all_left(standing);
	int64 back = decrease->by_hand ? Min(decrease->before - decrease->after, left)
								   : left - decrease->after;

	if (back <= 0)
		return;
	if (!decrease->by_hand && !any_final(standing))
	{
		bill_again(run, draft, decrease);
		return;
	}
	for (int i = list_length(standing) - 1; i >= 0 && back > 0; i--)
	{
		const StandingLine *line = list_nth(standing, i);
		int64 by = Min(Max(left_of(line), 0), back);

		if (by == 0)
			continue;
		if (line->is_final)
			credit_line(run, draft, decrease, line, by);
		else
			shorten(run, draft, line->line, by);
		back -= by;
	}
}

/*-------------------------------------------------------------------------
 *
 * engine_rest.c
 *	  The rest of a period: given back as it was billed, and billed anew.
 *
 * What is on no final invoice yet is shortened where it stands; what is on one is
 * credited.  The lines wait for the next invoice.
 *
 * Back in the same instant: a line that begins then covers no time and is given
 * back in full, and what was given back for its sake is billed again as it was
 * given back.  So it nets to zero, whatever discount, tax or cap there was, also
 * where it was not billed as it was (engine_undo.c).
 *
 * Called by engine_changes.c and engine_ends.c.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

#include "draft_steps.h"

static Period
period_between(TimestampTz start, TimestampTz end)
{
	return (Period){unix_seconds(start), unix_seconds(end)};
}

void
require_proration(ProrationStatus status, const BilledSubscription *s)
{
	if (status == PRORATION_OK)
		return;
	if (status == PRORATION_OVERFLOW)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("an amount of subscription \"%s\" is too large", uuid_text(s->id)),
						errdetail("Amounts are up to " INT64_FORMAT " minor units.", INT64_MAX),
						errhint("Its quantities are too large for their prices.")));
	elog(ERROR, "a part of a period of subscription %s cannot be computed: status %d",
		 uuid_text(s->id), status);
}

/* ------------------------------------------------------------------------
 * Lines
 * ------------------------------------------------------------------------
 */
static InvoiceLine *
add_waiting(BilledSubscription *s, LineKind kind, const char *component, int64 amount,
			const char *description)
{
	InvoiceLine *line = palloc0(sizeof(InvoiceLine));

	line->id = new_id();
	line->kind = kind;
	line->tier = -1;
	line->subscription_id = s->id;
	line->component = component;
	line->amount = amount;
	line->description = description;
	s->pending = lappend(s->pending, line);
	return line;
}

/* Its draft is completed: it is as final as one on an invoice, and will be paid. */
bool
completed_in_run(const BillingRun *run, const InvoiceLine *line)
{
	ListCell *cell;

	foreach (cell, run->drafts)
	{
		const InvoiceDraft *draft = lfirst(cell);

		if (draft->is_final && list_member_ptr(draft->lines, line))
			return true;
	}
	return false;
}

static void
take_off_drafts(BillingRun *run, InvoiceLine *line)
{
	ListCell *cell;

	foreach (cell, run->drafts)
	{
		InvoiceDraft *draft = lfirst(cell);

		if (!list_member_ptr(draft->lines, line))
			continue;
		draft->lines = list_delete_ptr(draft->lines, line);
		draft->changed = true;
	}
}

/* A line that waits, or is on a draft that is not final, is no more. */
void
line_drop(BillingRun *run, BilledSubscription *s, InvoiceLine *line)
{
	if (s != NULL)
	{
		s->pending = list_delete_ptr(s->pending, line);
		s->billed = list_delete_ptr(s->billed, line);
	}
	take_off_drafts(run, line);
	run->cut_lines = list_delete_ptr(run->cut_lines, line);
	if (line->stored)
		run->dropped_lines = lappend(run->dropped_lines, line->id);
}

/* It ends at the moment; parts of a whole add up, so nothing is rounded twice. */
static void
cut_line(BillingRun *run, BilledSubscription *s, InvoiceLine *line, TimestampTz at)
{
	Proration how = engine_proration(s);
	Period whole = period_between(line->whole_start, line->whole_end);
	Period part = period_between(line->period_start, at);

	if (at <= line->period_start)
	{
		line_drop(run, s, line);
		return;
	}
	require_proration(proration_amount(&how, line->whole_price, &whole, &part, &line->amount), s);
	/* by day, within the one that it began */
	if (line->amount == 0)
	{
		line_drop(run, s, line);
		return;
	}
	line->period_end = at;
	s->billed = list_delete_ptr(s->billed, line);
	if (line->stored)
		run->cut_lines = list_append_unique_ptr(run->cut_lines, line);
}

/* What a credit of a final line has to give: as it was billed, capped by what was paid. */
static ProrationCredit
credit_of(const BillingRun *run, const BilledSubscription *s, const InvoiceLine *line,
		  TimestampTz at)
{
	Proration how = engine_proration(s);
	int64 whole = line_gross(line);
	/* no time of it has passed, or it is paid with the invoice that this run makes */
	bool in_full = line->period_start >= at || completed_in_run(run, line);
	BilledLine billed = {.price = line->whole_price,
						 .whole = period_between(line->whole_start, line->whole_end),
						 .billed = period_between(line->period_start, line->period_end),
						 .discount = line->discount,
						 .tax = line->tax,
						 .tax_is_added = !line->tax_inclusive,
						 .paid = in_full ? whole : line->paid,
						 .credited = line->credited + line->noted};
	ProrationCredit credit;

	if (line->left != NULL)
		billed.paid = Min(billed.paid, billed.credited + Max(*line->left, 0));
	require_proration(proration_credit(&how, &billed, unix_seconds(at), &credit), s);
	return credit;
}

/* What was given back of what is given up is taken from the balance, when the run is written. */
static void
note_given_up(BillingRun *run, const InvoiceLine *line)
{
	if (line->given_up != NULL)
		run->given_up = lappend(run->given_up, unconstify(pg_uuid_t *, line->given_up));
}

/* Also one of nothing (nothing was paid) is written: the line is over from then on. */
static void
credit_line(BillingRun *run, BilledSubscription *s, InvoiceLine *line, ProrationCredit credit,
			TimestampTz at)
{
	InvoiceLine *back = add_waiting(s, LINE_PRORATION_CREDIT, line->component,
									line->tax_inclusive ? -credit.total : -credit.net,
									psprintf("%s: unused time", line->description));

	back->price_id = line->price_id;
	back->has_quantity = line->has_quantity;
	back->quantity = line->quantity;
	back->unit_amount = line->unit_amount;
	back->tax = -credit.tax;
	back->tax_rate_id = line->tax_rate_id;
	back->tax_inclusive = line->tax_inclusive;
	back->own_tax = true;
	back->period_start = Max(at, line->period_start);
	back->period_end = line->period_end;
	back->reverses = line->id;
	back->not_covered = credit.not_covered;
	back->amounts = amounts_taken_back(line, &credit);
	note_given_up(run, line);
	line->credited += credit.total;
	line->credited_tax += credit.tax;
	if (line->left != NULL)
		*line->left -= credit.total;
	line->given_back_at = back->period_start;
}

static bool
covers(const BilledSubscription *s, const InvoiceLine *line, const char *component, TimestampTz at)
{
	return line->component != NULL && strcmp(line->component, component) == 0 &&
		   line->whole_start != 0 && line->whole_price.scaled > 0 && line->given_back_at == 0 &&
		   line_counts(s, line) && line->period_end > at && line->kind != LINE_PRORATION_CREDIT;
}

bool
line_is_for_price(const InvoiceLine *line, const BilledItem *item)
{
	return line->component != NULL && strcmp(line->component, item->component) == 0 &&
		   line->price_id != NULL && uuid_equal(line->price_id, item->price->id);
}

static bool
line_is_for(const InvoiceLine *line, const BilledItem *item)
{
	return line_is_for_price(line, item) &&
		   line->whole_price.scaled == item_whole_price(item).scaled;
}

static void
give_back_line(BillingRun *run, BilledSubscription *s, InvoiceLine *line, TimestampTz at,
			   ItemBefore *before)
{
	if (line->invoiced || completed_in_run(run, line))
	{
		item_before_credited(before, line);
		credit_line(run, s, line, credit_of(run, s, line, at), at);
		return;
	}
	item_before_cut(before, line, at);
	cut_line(run, s, line, at);
}

static ItemBefore *
give_back(BillingRun *run, BilledSubscription *s, const char *component, TimestampTz at)
{
	List *billed = list_copy(s->billed);
	const BilledItem *item = item_named(s, component);
	ItemBefore *before = item_before(s, component);
	ListCell *cell;

	foreach (cell, billed)
	{
		InvoiceLine *line = lfirst(cell);

		if (!covers(s, line, component, at))
			continue;
		if (item == NULL || !line_is_for(line, item))
			before->billed_otherwise = true;
		else if (line->period_start <= at)
			before->billed_as_it_is = true;
		give_back_line(run, s, line, at, before);
	}
	return before;
}

void
rest_give_back(BillingRun *run, BilledSubscription *s, const char *component, TimestampTz at)
{
	ItemBefore *before;

	undo_leave(s, component, at);
	before = give_back(run, s, component, at);
	if (before->billed_otherwise || !before->billed_as_it_is)
		undo_keep(s, before, at);
}

void
subscription_give_back(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	ListCell *cell;

	foreach (cell, s->items)
	{
		const BilledItem *item = lfirst(cell);

		if (!item->removed && item->price->metric == NULL)
			(void) give_back(run, s, item->component, at);
	}
	/* also of what was taken away in a pause, or while it was unpaid */
	foreach (cell, pause_kept(s))
		(void) give_back(run, s, ((ItemChange *) lfirst(cell))->component, at);
}

/* ------------------------------------------------------------------------
 * The rest of the period
 * ------------------------------------------------------------------------
 */
/* The credit itself while it is not final and no credit note refers to it; NULL when it is on an invoice. */
static InvoiceLine *
waiting_credit_of(const BillingRun *run, const BilledSubscription *s, const InvoiceLine *line)
{
	ListCell *cell;

	foreach (cell, lines_not_final(run, s))
	{
		InvoiceLine *other = lfirst(cell);

		if (other->kind == LINE_PRORATION_CREDIT && other->reverses != NULL && !other->is_made_up &&
			uuid_equal(other->reverses, line->id))
			return other;
	}
	return NULL;
}

/* What its credit took back of amounts. */
static List *
amounts_back_at(const BillingRun *run, const BilledSubscription *s, const InvoiceLine *line)
{
	ProrationCredit credit;

	if (line->amounts == NIL)
		return NIL;
	credit = credit_of(run, s, line, line->given_back_at);
	return amounts_taken_back(line, &credit);
}

/*
 * What was credited is billed again, to the cent, and what a credit note made up
 * for; from then on the old line counts.
 */
static void
take_credit_back(BillingRun *run, BilledSubscription *s, InvoiceLine *line)
{
	InvoiceLine *credit = waiting_credit_of(run, s, line);
	int64 tax = line->credited_tax + line->made_up_tax;
	int64 net = line->credited + line->made_up - (line->tax_inclusive ? 0 : tax);
	InvoiceLine *again;

	if (credit != NULL)
		line_drop(run, s, credit);
	else
	{
		again = add_waiting(s, LINE_PRORATION_DEBIT, line->component, net,
							psprintf("%s: remaining time", line->description));
		again->price_id = line->price_id;
		again->has_quantity = line->has_quantity;
		again->quantity = line->quantity;
		again->unit_amount = line->unit_amount;
		again->tax = tax;
		again->tax_rate_id = line->tax_rate_id;
		again->tax_inclusive = line->tax_inclusive;
		again->own_tax = true;
		again->amounts = amounts_back_at(run, s, line);
		again->period_start = line->given_back_at;
		again->period_end = line->period_end;
		again->reverses = line->id;
	}
	note_given_up(run, line);
	if (line->left != NULL)
		*line->left += line->credited + line->made_up;
	line->credited = -line->made_up;
	line->credited_tax = -line->made_up_tax;
	line->given_back_at = 0;
}

void
take_back_credit_of(BillingRun *run, BilledSubscription *s, const pg_uuid_t *line_id)
{
	ListCell *cell;

	foreach (cell, s->billed)
	{
		InvoiceLine *line = lfirst(cell);

		if (uuid_equal(line->id, line_id) && line->given_back_at != 0)
			take_credit_back(run, s, line);
	}
}

/*
 * Was the same billed before, and given back at this very moment?  It may have
 * begun then, too.  The last one is meant, and none of a period that was left at
 * this moment for another one.
 */
static bool
restore(BillingRun *run, BilledSubscription *s, const BilledItem *item, TimestampTz at)
{
	for (int i = list_length(s->billed) - 1; i >= 0; i--)
	{
		InvoiceLine *line = list_nth(s->billed, i);

		if (line->given_back_at == at && line_counts(s, line) && line_is_for(line, item))
		{
			take_credit_back(run, s, line);
			return true;
		}
	}
	return false;
}

void
bill_part_of_line(BilledSubscription *s, const InvoiceLine *part)
{
	Proration how = engine_proration(s);
	Period whole = period_between(part->whole_start, part->whole_end);
	Period time = period_between(part->period_start, part->period_end);
	InvoiceLine *line;
	int64 amount = 0;

	require_proration(proration_amount(&how, part->whole_price, &whole, &time, &amount), s);
	if (amount == 0)
		return;
	line = palloc(sizeof(InvoiceLine));
	*line = *part;
	line->id = new_id();
	line->subscription_id = s->id;
	line->amount = line->paid = amount;
	s->pending = lappend(s->pending, line);
	s->billed = lappend(s->billed, line);
}

/* From a moment to the end of its period. */
void
rest_bill_from(BillingRun *run, BilledSubscription *s, BilledItem *item, TimestampTz at)
{
	Proration how = engine_proration(s);
	BillingPeriod period = period_containing(s, at);
	MoneyFraction price = item_whole_price(item);
	int64 trial_end = s->trial_end == 0 ? INT64_MIN : unix_seconds(s->trial_end);
	int64 amount = 0;
	InvoiceLine *line;

	if (price.scaled == 0 || restore(run, s, item, at))
		return;
	require_proration(
		proration_debit(&how, price, &period.full, unix_seconds(at), trial_end, &amount), s);
	if (amount == 0)
		return;
	line = add_waiting(s, LINE_PRORATION_DEBIT, item->component, amount,
					   psprintf("%s: remaining time", item_description(s, item)));
	line->price_id = item->price->id;
	line_say_quantity(line, item);
	line->discountable = true;
	line->tax_inclusive = item->price->tax_inclusive;
	line->period_start = at;
	line->period_end = moment_of_unix(period.full.end);
	line->whole_start = moment_of_unix(period.full.start);
	line->whole_end = line->period_end;
	line->whole_price = price;
	line->paid = amount;
	s->billed = lappend(s->billed, line);
}

/* And all of the next one, where that is invoiced already. */
void
rest_bill(BillingRun *run, BilledSubscription *s, BilledItem *item, TimestampTz at, bool ahead)
{
	rest_bill_from(run, s, item, at);
	if (ahead)
		rest_bill_from(run, s, item, s->period_end);
}

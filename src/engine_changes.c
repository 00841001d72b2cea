/*-------------------------------------------------------------------------
 *
 * engine_changes.c
 *	  Plan, price and quantity of a local subscription, now or when a change
 *	  that was planned is due.
 *
 * Computed in memory, as all of the engine (engine.h): items change, and the
 * rest of the present period is given back as it was billed and billed anew as
 * it is now.  What is on no final invoice yet is shortened where it stands; what
 * is on one is credited.  The lines wait for the next invoice or make one; where
 * a draft waits for late usage, that is the next invoice, and they stand on it.
 *
 * Back in the same instant: a line that begins then covers no time and is given
 * back in full, and what was given back for its sake is billed again as it was
 * given back.  So it nets to zero, whatever discount, tax or cap there was; only
 * what an earlier change with none left unbilled is billed then.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

#include "draft_steps.h"
#include "errors.h"

ProrationBehavior
proration_behavior_named(const char *name)
{
	if (strcmp(name, "always_invoice") == 0)
		return PRORATION_INVOICED;
	return strcmp(name, "none") == 0 ? PRORATION_NONE : PRORATION_WAITS;
}

/*
 * Before its first period, in the trial or before that has begun.  Also while it
 * is paused in it: nothing is billed for that time.
 */
static bool
in_trial(const BilledSubscription *s, TimestampTz at)
{
	if (subscription_starts_at(s) != 0)
		return true;
	return is_status(s, "trialing") || (is_status(s, "paused") && s->trial_end > at);
}

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

/*
 * Nothing is given back of an invoice that is void.  But what it was for, and is
 * there without being billed by another one, is over from then on as any other:
 * back in the same instant it is not billed again (restore).
 */
static void
leave_voided(BillingRun *run, BilledSubscription *s, const char *component, TimestampTz at)
{
	const BilledItem *item = item_named(s, component);

	for (int i = list_length(s->voided) - 1; item != NULL && i >= 0; i--)
	{
		InvoiceLine *line = list_nth(s->voided, i);

		if (!covers(s, line, component, at) || line->period_start > at || !line_is_for(line, item))
			continue;
		credit_line(run, s, line, (ProrationCredit){0}, at);
		return;
	}
}

/* Was any of it billed for the item as it is? */
static bool
give_back(BillingRun *run, BilledSubscription *s, const char *component, TimestampTz at)
{
	List *billed = list_copy(s->billed);
	const BilledItem *item = item_named(s, component);
	bool as_it_is = false;
	ListCell *cell;

	foreach (cell, billed)
	{
		InvoiceLine *line = lfirst(cell);

		if (!covers(s, line, component, at))
			continue;
		if (item != NULL && line->period_start <= at && line_is_for(line, item))
			as_it_is = true;
		if (line->invoiced || completed_in_run(run, line))
			credit_line(run, s, line, credit_of(run, s, line, at), at);
		else
			cut_line(run, s, line, at);
	}
	return as_it_is;
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

/*
 * Was the same billed before, and given back at this very moment?  It may have
 * begun then, too.  The last one is meant, and none of a period that was left at
 * this moment for another one.
 */
static bool
restore_from(BillingRun *run, BilledSubscription *s, List *lines, const BilledItem *item,
			 TimestampTz at)
{
	for (int i = list_length(lines) - 1; i >= 0; i--)
	{
		InvoiceLine *line = list_nth(lines, i);

		if (line->given_back_at == at && line_counts(s, line) && line_is_for(line, item))
		{
			take_credit_back(run, s, line);
			return true;
		}
	}
	return false;
}

/* What is billed by a void invoice was beside what was billed before: that is as it was, too. */
static bool
restore(BillingRun *run, BilledSubscription *s, const BilledItem *item, TimestampTz at)
{
	ListCell *cell;

	if (restore_from(run, s, s->billed, item, at))
		return true;
	if (!restore_from(run, s, s->voided, item, at))
		return false;
	foreach (cell, s->billed)
	{
		InvoiceLine *line = lfirst(cell);

		if (line->given_back_at == at && line->period_start < at && line_counts(s, line) &&
			line->component != NULL && strcmp(line->component, item->component) == 0)
			take_credit_back(run, s, line);
	}
	return true;
}

/* From a moment to the end of its period. */
static void
bill_rest_of(BillingRun *run, BilledSubscription *s, BilledItem *item, TimestampTz at)
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
static void
bill_rest(BillingRun *run, BilledSubscription *s, BilledItem *item, TimestampTz at, bool ahead)
{
	bill_rest_of(run, s, item, at);
	if (ahead)
		bill_rest_of(run, s, item, s->period_end);
}

/* A trial's usage is free, so counting begins with its end. */
static void
set_usage_from(BilledSubscription *s, TimestampTz at)
{
	if (!subscription_is_metered(s) || subscription_starts_at(s) != 0)
		s->usage_from = 0;
	else if (s->usage_from == 0)
		s->usage_from = in_trial(s, at) ? s->trial_end : usage_begins(s, at);
}

/* ------------------------------------------------------------------------
 * Items
 * ------------------------------------------------------------------------
 */
static bool
differs(const BilledItem *item, const ItemChange *change)
{
	if (item == NULL || change->price == NULL)
		return item != NULL || change->price != NULL;
	return item->quantity != change->quantity || !uuid_equal(item->price->id, change->price->id);
}

static List *
only_different(const BilledSubscription *s, List *changes)
{
	List *different = NIL;
	ListCell *cell;

	foreach (cell, changes)
	{
		ItemChange *change = lfirst(cell);

		if (differs(item_named(s, change->component), change))
			different = lappend(different, change);
	}
	return different;
}

static bool
changes_usage(const BilledSubscription *s, List *changes)
{
	ListCell *cell;

	foreach (cell, changes)
	{
		const ItemChange *change = lfirst(cell);
		const BilledItem *item = item_named(s, change->component);

		if ((item != NULL && item->price->metric != NULL) ||
			(change->price != NULL && change->price->metric != NULL))
			return true;
	}
	return false;
}

static void
put_item(BilledSubscription *s, const ItemChange *change)
{
	BilledItem *item = item_named(s, change->component);

	/* it came and went in a pause, or while it was unpaid */
	if (item == NULL && change->price == NULL)
		return;
	s->changed = true;
	if (change->price == NULL)
	{
		item->removed = true;
		return;
	}
	if (item == NULL)
	{
		item = palloc0(sizeof(BilledItem));
		item->component = pstrdup(change->component);
		item->is_new = true;
		item->billed_once = was_billed_once(s, change->price);
		s->items = lappend(s->items, item);
	}
	item->price = change->price;
	item->quantity = change->quantity;
	item->changed = true;
}

QUERY(plan_by_id, "SELECT plan, name, plan_group FROM billing.plans WHERE id = $1", UUIDOID);

/* The plan is that of the base price. */
static void
follow_plan(BilledSubscription *s)
{
	pg_uuid_t *plan_id = base_item(s)->price->plan_id;

	if (uuid_equal(plan_id, s->plan_id))
		return;
	if (RUN(plan_by_id, arg_uuid(plan_id)) == 0)
		elog(ERROR, "no plan %s", uuid_text(plan_id));
	s->plan_id = plan_id;
	s->plan = row_text(0, 1);
	s->plan_name = row_text(0, 2);
	s->plan_group = row_text(0, 3);
}

void
subscription_put_items(BilledSubscription *s, List *changes, TimestampTz at)
{
	ListCell *cell;

	foreach (cell, changes)
		put_item(s, lfirst(cell));
	follow_plan(s);
	set_usage_from(s, at);
}

/* ------------------------------------------------------------------------
 * A change
 * ------------------------------------------------------------------------
 */
static bool
same_interval(const ComponentPrice *a, const ComponentPrice *b)
{
	return strcmp(a->interval, b->interval) == 0 && a->interval_count == b->interval_count;
}

static void
prorate_items(BillingRun *run, BilledSubscription *s, List *changes, bool ahead, TimestampTz at)
{
	ListCell *cell;

	foreach (cell, changes)
	{
		const ItemChange *change = lfirst(cell);
		BilledItem *item = item_named(s, change->component);

		if (item == NULL || item->price->metric != NULL)
			continue;
		if (item->price->one_time)
			bill_unless_billed(s, item, at);
		else
			bill_rest(run, s, item, at, ahead);
	}
}

/* What waits is invoiced; what is below 0 becomes balance. */
static void
invoice_waiting(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	if (s->pending != NIL)
		draft_complete(run, draft_for(run, s, "subscription_update", at));
}

/* The period ends here, and another one begins with a new anchor. */
static void
start_anew(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	TimestampTz old_end = s->period_end;

	forgo_period(s);
	s->billing_anchor = s->schedule_start = at;
	s->period_end = at;
	if (is_billed(s))
		engine_begin_period(run, s, at, "subscription_update");
	plans_follow_period(s, old_end);
}

/*
 * At the end of a period, or in a trial: nothing is prorated.  The engine goes
 * on with the next period, which another interval counts from here.
 */
static void
change_between_periods(BillingRun *run, BilledSubscription *s, List *changes, bool new_interval,
					   TimestampTz at)
{
	bool trialing = in_trial(s, at);

	if (!trialing && changes_usage(s, changes))
		bill_usage_to_pending(run, s, at);
	subscription_put_items(s, changes, at);
	if (new_interval && !trialing)
		s->billing_anchor = s->schedule_start = at;
}

/* Paused or unpaid: what is billed by the period counts when it goes on; another period then begins, too. */
static void
change_in_pause(BillingRun *run, BilledSubscription *s, List *changes, ProrationBehavior behavior,
				TimestampTz at)
{
	bool prorated = behavior != PRORATION_NONE;
	ListCell *cell;

	if (prorated)
	{
		pause_keep(s, changes);
		change_all_once(run, s, changes, at);
	}
	subscription_put_items(s, changes, at);
	foreach (cell, changes)
	{
		BilledItem *item = item_named(s, ((ItemChange *) lfirst(cell))->component);

		if (prorated && item != NULL && item->price->one_time)
			bill_unless_billed(s, item, at);
	}
	if (behavior == PRORATION_INVOICED)
		invoice_waiting(run, s, at);
}

/*
 * Who is to be invoiced now has what waits for late usage first: what the change
 * gives back is given back of that, with what coupons took off it.
 */
static void
complete_waiting_drafts(BillingRun *run, const BilledSubscription *s, TimestampTz at)
{
	InvoiceDraft *draft;

	while ((draft = draft_that_waits(run, s, at)) != NULL)
		draft_complete(run, draft);
}

static void
change_in_period(BillingRun *run, BilledSubscription *s, List *changes, bool anew,
				 ProrationBehavior behavior, TimestampTz at)
{
	bool prorated = behavior != PRORATION_NONE;
	bool ahead;
	ListCell *cell;

	if (behavior == PRORATION_INVOICED)
		complete_waiting_drafts(run, s, at);
	if (anew)
		ahead_call_off_and_go_on(run, s);
	ahead = ahead_until(s) != 0;
	/* in arrears, so it is owed in any case */
	if (anew || changes_usage(s, changes))
		bill_usage_to_pending(run, s, at);
	if (anew && prorated)
		subscription_give_back(run, s, at);
	else if (prorated)
	{
		foreach (cell, changes)
		{
			const char *component = ((ItemChange *) lfirst(cell))->component;

			if (!give_back(run, s, component, at))
				leave_voided(run, s, component, at);
		}
	}
	if (prorated)
		change_all_once(run, s, changes, at);
	subscription_put_items(s, changes, at);
	if (anew)
		start_anew(run, s, at);
	else if (prorated)
		prorate_items(run, s, changes, ahead, at);

	/* nothing else would ever be invoiced for one that has become free */
	if (behavior == PRORATION_INVOICED || subscription_is_free(s))
		invoice_waiting(run, s, at);
}

void
subscription_change_items(BillingRun *run, BilledSubscription *s, List *changes,
						  ProrationBehavior behavior, TimestampTz at)
{
	const ComponentPrice *before = base_item(s)->price;
	bool was_free = subscription_is_free(s);
	bool new_interval = false;
	bool free_after = true;
	bool anew;
	ListCell *cell;

	changes = only_different(s, changes);
	if (changes == NIL)
		return;
	foreach (cell, changes)
	{
		const ItemChange *change = lfirst(cell);

		if (strcmp(change->component, "base") == 0)
			new_interval = !same_interval(before, change->price);
		if (change->price != NULL && !component_price_is_free(change->price))
			free_after = false;
	}
	if (changes_usage(s, changes))
		bill_usage_of_waiting_drafts(run, s);
	anew = new_interval || (was_free && !free_after);
	if (in_trial(s, at) || s->period_end == 0 || at >= s->period_end)
		change_between_periods(run, s, changes, new_interval, at);
	else if (!is_billed(s) && !(anew && behavior == PRORATION_NONE))
		change_in_pause(run, s, changes, behavior, at);
	else
		change_in_period(run, s, changes, anew, behavior, at);
	pending_to_draft(run, s, at);
	run_event(run, "subscription.updated", "subscription", s->id, s->customer->organization_id,
			  s->status, s->status);
}

void
engine_apply_successor(BillingRun *run, BilledSubscription *s, BilledItem *item, TimestampTz at)
{
	ItemChange *change = palloc(sizeof(ItemChange));

	/* a version may be made with a time that is over */
	at = Max(at, s->period_start);
	*change = (ItemChange){item->component, component_price_successor(item->price, at),
						   item->quantity};
	subscription_change_items(run, s, list_make1(change), PRORATION_WAITS, at);
}

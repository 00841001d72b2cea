/*-------------------------------------------------------------------------
 *
 * engine_changes.c
 *	  Plan, price and quantity of a local subscription, now or when a change
 *	  that was planned is due.
 *
 * Computed in memory, as all of the engine (engine.h): items change, and the
 * rest of the present period is given back as it was billed and billed anew as
 * it is now (engine_rest.c).  The lines wait for the next invoice or make one;
 * where a draft waits for late usage, that is the next invoice, and they stand
 * on it.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

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

		if (undo_restore(run, s, change->component, at))
			continue;
		if (item == NULL || item->price->metric != NULL)
			continue;
		if (item->price->one_time)
			bill_unless_billed(s, item, at);
		else
			rest_bill(run, s, item, at, ahead);
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
			rest_give_back(run, s, ((ItemChange *) lfirst(cell))->component, at);
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

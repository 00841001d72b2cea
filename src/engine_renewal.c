/*-------------------------------------------------------------------------
 *
 * engine_renewal.c
 *	  The life of a subscription by its due times: trial, renewal, and what a
 *	  period is billed for.
 *
 * engine_play() takes one due time after the other, each as if it was that
 * moment: after a month of standstill there is an invoice for each period, made
 * at its own time.  What ends, pauses or changes stands in engine_ends.c and
 * engine_changes.c.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

#include "errors.h"

/* More due times than a subscription can have in a hundred years of days. */
#define STEPS_MAX 40000

/* ------------------------------------------------------------------------
 * A period
 * ------------------------------------------------------------------------
 */
static LineKind
kind_of_item(const BilledItem *item)
{
	if (item->price->one_time)
		return LINE_ONE_TIME;
	if (strcmp(item->component, "base") == 0)
		return LINE_BASE;
	if (strcmp(item->component, "seats") == 0)
		return LINE_SEATS;
	return LINE_COMPONENT;
}

/* Is there anything to bill of it in advance? */
static bool
is_due_in_advance(const BilledItem *item)
{
	if (item->removed || item->price->metric != NULL || item->quantity == 0 ||
		component_price_is_free(item->price))
		return false;
	return !item->price->one_time || !item->billed_once;
}

bool
anything_in_advance(const BilledSubscription *s)
{
	ListCell *cell;

	foreach (cell, s->items)
	{
		if (is_due_in_advance(lfirst(cell)))
			return true;
	}
	return false;
}

void
bill_in_advance(InvoiceDraft *draft, BilledSubscription *s, const BillingPeriod *period)
{
	ListCell *cell;

	foreach (cell, s->items)
	{
		BilledItem *item = lfirst(cell);

		if (!is_due_in_advance(item))
			continue;
		bill_item(draft, s, item, period, kind_of_item(item));
		if (item->price->one_time)
			item->billed_once = item->changed = true;
	}
}

BillingPeriod
period_containing(const BilledSubscription *s, TimestampTz at)
{
	PeriodSchedule schedule = engine_schedule(s);
	BillingPeriod period;
	PeriodStatus status = period_of(&schedule, unix_seconds(at), &period);

	if (status != PERIOD_OK)
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("subscription \"%s\" has no period at %s", uuid_text(s->id),
							   timestamptz_to_str(at)),
						errdetail("Status %d of the calendar.", status),
						errhint("Periods begin and end between the years 1970 and 9999.")));
	return period;
}

/* What is metered from here on, and what no longer is. */
static void
begin_metering(BilledSubscription *s, TimestampTz at)
{
	if (!subscription_is_metered(s))
		s->usage_from = 0;
	else if (s->usage_from == 0)
		s->usage_from = usage_begins(s, at);
}

/* draft: has the usage of the period before; NULL: there is none so far.  One that waits for late usage is completed later. */
static void
begin_period(BillingRun *run, BilledSubscription *s, TimestampTz at, const char *reason,
			 InvoiceDraft *draft)
{
	BillingPeriod period = period_containing(s, at);

	s->period_start = moment_of_unix(period.billed.start);
	s->period_end = moment_of_unix(period.billed.end);
	forgone_follow_period(s);
	undo_forget(s);
	s->changed = true;
	if (draft == NULL && (anything_in_advance(s) || s->pending != NIL))
		draft = draft_for(run, s, reason, at);
	begin_metering(s, at);
	if (s->usage_from == 0)
		draft = bill_late_usage(run, s, draft, reason, at);
	if (draft == NULL)
		return;
	draft->period_start = s->period_start;
	draft->period_end = s->period_end;
	bill_in_advance(draft, s, &period);
	if (draft->finalize_at == 0)
		draft_complete(run, draft);
}

/* ------------------------------------------------------------------------
 * Renewal
 * ------------------------------------------------------------------------
 */
/* The first one; an end before what else was planned for that moment. */
static ScheduledChange *
change_due(const BilledSubscription *s, TimestampTz at)
{
	ScheduledChange *first = NULL;
	ListCell *cell;

	foreach (cell, s->changes)
	{
		ScheduledChange *change = lfirst(cell);

		if (strcmp(change->state, "pending") != 0 || change->due_at > at)
			continue;
		if (first == NULL || change->due_at < first->due_at ||
			(change->due_at == first->due_at && strcmp(change->kind, "cancel") == 0))
			first = change;
	}
	return first;
}

static bool
moves_to_another_version(const BilledSubscription *s, TimestampTz at, bool metered_only)
{
	ListCell *cell;

	foreach (cell, s->items)
	{
		const BilledItem *item = lfirst(cell);

		if (!item->removed && (item->price->metric != NULL || !metered_only) &&
			component_price_successor(item->price, at) != item->price)
			return true;
	}
	return false;
}

static void
move_to_new_versions(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	ListCell *cell;

	if (!moves_to_another_version(s, at, false))
		return;
	/* invoices may wait longer for late usage than a period lasts */
	if (moves_to_another_version(s, at, true))
		bill_usage_of_waiting_drafts(run, s);
	foreach (cell, s->items)
	{
		BilledItem *item = lfirst(cell);
		const ComponentPrice *price = component_price_successor(item->price, at);

		if (!item->removed && price != item->price)
		{
			item->price = price;
			item->changed = true;
		}
	}
	s->changed = true;
	run_event(run, "subscription.updated", "subscription", s->id, s->customer->organization_id,
			  s->status, s->status);
}

/*
 * What was used after the end of a period, while none went on, is nobody's.  Who
 * begins one by a call has the prices that it named.
 */
void
engine_begin_period(BillingRun *run, BilledSubscription *s, TimestampTz at, const char *reason)
{
	bool goes_on = strcmp(reason, "subscription_cycle") == 0;
	TimestampTz used_until = Min(at, s->period_end);
	InvoiceDraft *draft = NULL;

	if (s->usage_from != 0 && s->usage_from < used_until)
	{
		draft = draft_for(run, s, reason, at);
		bill_usage_until(run, draft, s, used_until,
						 !goes_on || !moves_to_another_version(s, at, true));
	}
	if (s->usage_from != 0)
		s->usage_from = Max(s->usage_from, at);
	if (goes_on)
		move_to_new_versions(run, s, at);
	begin_period(run, s, at, reason, draft);
}

/*
 * Changes that were planned for this moment come first, after the usage of the
 * period that ends has been taken at the prices that it had.
 */
static void
renew(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	ScheduledChange *change = change_due(s, at);
	InvoiceDraft *draft = NULL;
	TimestampTz period_end = s->period_end;

	if (s->cancel_at_period_end)
	{
		engine_end(run, s, at);
		return;
	}
	if (s->pause_at_period_end)
	{
		engine_pause(run, s, at);
		return;
	}
	if (moves_to_another_version(s, at, true) && ahead_until(s) != 0)
		bill_usage_to_pending(run, s, at);
	if (ahead_begin(s))
	{
		move_to_new_versions(run, s, at);
		/* changes that were planned for then are made in it */
		return;
	}
	if (s->usage_from != 0 && s->usage_from < at)
	{
		draft = draft_for(run, s, "subscription_cycle", at);
		bill_usage_until(run, draft, s, at,
						 change == NULL && !moves_to_another_version(s, at, true));
	}
	for (; change != NULL; change = change_due(s, at))
	{
		engine_carry_out(run, s, change, at);
		Assert(strcmp(change->state, "pending") != 0);
		/* it may have ended, paused or begun a period of its own */
		if (s->period_end != period_end || engine_next_due(s) != period_end)
			break;
	}
	if (engine_next_due(s) == 0 || is_status(s, "paused") || s->period_end > at)
	{
		if (draft != NULL && !draft->is_final && draft->finalize_at == 0)
			draft_complete(run, draft);
		return;
	}
	move_to_new_versions(run, s, at);
	begin_period(run, s, at, "subscription_cycle", draft);
}

/* ------------------------------------------------------------------------
 * Trial
 * ------------------------------------------------------------------------
 */
static void
announce_trial_end(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	s->trial_notice_at = at;
	s->changed = true;
	run_event(run, "subscription.trial_will_end", "subscription", s->id,
			  s->customer->organization_id, s->status, s->status);
}

static bool
cannot_be_charged(const BilledSubscription *s)
{
	return strcmp(s->collection_method, "charge_automatically") == 0 && s->collect_by == NULL &&
		   !s->has_payment_method && !subscription_is_free(s);
}

/* What was used in it is free. */
static void
end_trial(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	bool unpayable = cannot_be_charged(s);

	if (s->usage_from != 0)
	{
		s->usage_from = at;
		s->changed = true;
	}
	if (s->cancel_at_period_end || (unpayable && strcmp(s->trial_end_behavior, "cancel") == 0))
	{
		engine_end(run, s, at);
		return;
	}
	if (unpayable && strcmp(s->trial_end_behavior, "pause") == 0)
	{
		engine_pause(run, s, at);
		return;
	}
	set_status(run, s, "active", at);
	engine_begin_period(run, s, at, "subscription_cycle");
}

/* ------------------------------------------------------------------------
 * Prices that change at once
 * ------------------------------------------------------------------------
 */
BilledItem *
item_with_new_version(const BilledSubscription *s, TimestampTz at)
{
	ListCell *cell;

	foreach (cell, s->items)
	{
		BilledItem *item = lfirst(cell);
		TimestampTz moves_at = item->removed ? 0 : component_price_moves_at(item->price);

		if (moves_at != 0 && moves_at <= at)
			return item;
	}
	return NULL;
}

/* ------------------------------------------------------------------------
 * One due time after the other
 * ------------------------------------------------------------------------
 */
/* A price that changes for all by then is the one that it begins with. */
static void
step_before_start(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	BilledItem *moving = item_with_new_version(s, at);

	if (moving != NULL)
		engine_apply_successor(run, s, moving, at);
	else
		engine_carry_out(run, s, change_due(s, at), at);
}

static void
step(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	ScheduledChange *change = change_due(s, at);
	BilledItem *moving = item_with_new_version(s, at);
	bool at_boundary = s->period_end <= at && is_billed(s);

	if (subscription_starts_at(s) != 0)
		step_before_start(run, s, at);
	else if (is_status(s, "incomplete"))
		engine_expire(run, s, at);
	else if (at_boundary)
		renew(run, s, at);
	else if (change != NULL)
	{
		engine_carry_out(run, s, change, at);
		Assert(strcmp(change->state, "pending") != 0);
	}
	else if (is_status(s, "trialing") && s->trial_end <= at)
		end_trial(run, s, at);
	else if (moving != NULL)
		engine_apply_successor(run, s, moving, at);
	else if (ahead_due(s) != 0 && ahead_due(s) <= at)
		engine_invoice_ahead(run, s, at);
	else if (is_status(s, "trialing"))
		announce_trial_end(run, s, at);
	else if (is_status(s, "paused"))
		engine_resume(run, s, at);
	else
		elog(ERROR, "nothing is due for subscription %s at %s", uuid_text(s->id),
			 timestamptz_to_str(at));
}

/* Late usage was waited for by then: balance and coupons are for these before they are for what comes. */
static void
complete_waited(BillingRun *run, const BilledSubscription *s, TimestampTz until)
{
	InvoiceDraft *draft;

	while ((draft = draft_that_waits(run, s, 0)) != NULL && draft->finalize_at < until)
		draft_complete(run, draft);
}

void
engine_play(BillingRun *run, BilledSubscription *s, TimestampTz until)
{
	TimestampTz due = engine_next_due(s);

	for (int steps = 0; due != 0 && due <= until; steps++)
	{
		if (steps == STEPS_MAX)
			elog(ERROR, "subscription %s is due again and again at %s", uuid_text(s->id),
				 timestamptz_to_str(due));
		complete_waited(run, s, due);
		step(run, s, due);
		due = engine_next_due(s);
	}
	if (s->next_due_at != due)
	{
		s->next_due_at = due;
		s->changed = true;
	}
}

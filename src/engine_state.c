/*-------------------------------------------------------------------------
 *
 * engine_state.c
 *	  What a local subscription is: its items, its calendar, its states, and
 *	  when something is due for it.
 *
 * Nothing here reads or writes a table.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "subscriptions.h"

BilledItem *
item_named(const BilledSubscription *s, const char *component)
{
	ListCell *cell;

	foreach (cell, s->items)
	{
		BilledItem *item = lfirst(cell);

		if (!item->removed && strcmp(item->component, component) == 0)
			return item;
	}
	return NULL;
}

BilledItem *
base_item(const BilledSubscription *s)
{
	BilledItem *base = item_named(s, "base");

	if (base == NULL)
		elog(ERROR, "subscription %s has no item for its base price", uuid_text(s->id));
	return base;
}

bool
subscription_is_free(const BilledSubscription *s)
{
	ListCell *cell;

	foreach (cell, s->items)
	{
		const BilledItem *item = lfirst(cell);

		if (!item->removed && !component_price_is_free(item->price))
			return false;
	}
	return true;
}

bool
subscription_is_metered(const BilledSubscription *s)
{
	ListCell *cell;

	foreach (cell, s->items)
	{
		const BilledItem *item = lfirst(cell);

		if (!item->removed && item->price->metric != NULL)
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------------
 * Calendar
 * ------------------------------------------------------------------------
 */
static const LocalZone *
zone_of(const BilledSubscription *s)
{
	const LocalZone *zone = zone_named(s->zone_name);

	if (zone == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("time zone \"%s\" of subscription \"%s\" is not known to this server",
					s->zone_name, uuid_text(s->id)),
			 errdetail("Its periods are counted in that zone, which it has had since it began."),
			 errhint(
				 "Update the server's time zone data; pg_timezone_names has those that it knows.")));
	return zone;
}

PeriodSchedule
engine_schedule(const BilledSubscription *s)
{
	const ComponentPrice *price = base_item(s)->price;
	PeriodSchedule schedule = {
		.rule = {.anchor = unix_seconds(s->billing_anchor), .count = price->interval_count},
		.zone = zone_of(s),
		.start = unix_seconds(s->schedule_start)};

	if (!period_interval_by_name(price->interval, &schedule.rule.interval))
		elog(ERROR, "price %s has no interval of a calendar", uuid_text(price->id));
	return schedule;
}

Proration
engine_proration(const BilledSubscription *s)
{
	return (Proration){s->settings->proration_unit, zone_of(s)};
}

/* ------------------------------------------------------------------------
 * States
 * ------------------------------------------------------------------------
 */
/* The same state again is no change. */
void
set_status(BillingRun *run, BilledSubscription *s, const char *status, TimestampTz at)
{
	const char *before = s->status;

	if (before != NULL && strcmp(before, status) == 0)
		return;
	s->status = status;
	s->status_since = subscription_status_is_dated(status) ? at : 0;
	if (strcmp(status, "incomplete") != 0)
		s->incomplete_until = 0;
	if (strcmp(status, "canceled") == 0)
	{
		if (s->canceled_at == 0)
			s->canceled_at = at;
		s->ended_at = at;
	}
	s->changed = true;
	run_event(run, psprintf("subscription.%s", status), "subscription", s->id,
			  s->customer->organization_id, before, status);
}

/* ------------------------------------------------------------------------
 * When something is due
 * ------------------------------------------------------------------------
 */
static TimestampTz
sooner(TimestampTz a, TimestampTz b)
{
	return a == 0 ? b : b == 0 ? a : Min(a, b);
}

static TimestampTz
next_change(const BilledSubscription *s)
{
	TimestampTz due = 0;
	ListCell *cell;

	foreach (cell, s->changes)
	{
		const ScheduledChange *change = lfirst(cell);

		if (strcmp(change->state, "pending") == 0)
			due = sooner(due, change->due_at);
	}
	return due;
}

TimestampTz
subscription_starts_at(const BilledSubscription *s)
{
	ListCell *cell;

	foreach (cell, s->changes)
	{
		const ScheduledChange *change = lfirst(cell);

		if (strcmp(change->kind, "start") == 0 && strcmp(change->state, "pending") == 0)
			return change->due_at;
	}
	return 0;
}

/* A later version of a price that subscriptions move to at once. */
static TimestampTz
next_version(const BilledSubscription *s)
{
	TimestampTz due = 0;
	ListCell *cell;

	foreach (cell, s->items)
	{
		const BilledItem *item = lfirst(cell);

		if (!item->removed)
			due = sooner(due, component_price_moves_at(item->price));
	}
	return due;
}

static TimestampTz
trial_notice_due(const BilledSubscription *s)
{
	if (s->trial_notice_at != 0 || s->trial_end == 0)
		return 0;
	return Max(s->trial_start, s->trial_end - s->settings->trial_notice * USECS_PER_SEC);
}

TimestampTz
engine_next_due(const BilledSubscription *s)
{
	if (subscription_ended(s->status))
		return 0;
	if (subscription_starts_at(s) != 0)
		return sooner(next_change(s), next_version(s));
	if (is_status(s, "incomplete"))
		return s->incomplete_until;
	if (is_status(s, "trialing"))
		return sooner(sooner(trial_notice_due(s), s->trial_end),
					  sooner(next_change(s), next_version(s)));
	if (is_status(s, "paused"))
		return sooner(s->resumes_at, next_change(s));
	if (is_status(s, "unpaid"))
		return next_change(s);
	return sooner(sooner(s->period_end, ahead_due(s)), sooner(next_change(s), next_version(s)));
}

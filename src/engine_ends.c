/*-------------------------------------------------------------------------
 *
 * engine_ends.c
 *	  How a local subscription ends, pauses and goes on, and what is planned
 *	  for it.
 *
 * In memory, as all of the engine (engine.h).  What is planned is a row of
 * billing.scheduled_changes that a person can read and take back; the columns of
 * the subscription that say the same (cancel_at_period_end, resumes_at, ...)
 * follow it.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

#include "draft_steps.h"

/* ------------------------------------------------------------------------
 * What is planned
 * ------------------------------------------------------------------------
 */
ScheduledChange *
planned(const BilledSubscription *s, const char *kind)
{
	ListCell *cell;

	foreach (cell, s->changes)
	{
		ScheduledChange *change = lfirst(cell);

		if (strcmp(change->state, "pending") == 0 && strcmp(change->kind, kind) == 0)
			return change;
	}
	return NULL;
}

ScheduledChange *
plan_change(BilledSubscription *s, const char *kind, TimestampTz due_at, const Jsonb *terms)
{
	ScheduledChange *change = planned(s, kind);

	if (change == NULL)
	{
		change = palloc0(sizeof(ScheduledChange));
		change->id = new_id();
		change->kind = kind;
		change->state = "pending";
		change->is_new = true;
		s->changes = lappend(s->changes, change);
	}
	change->due_at = due_at;
	change->terms = terms;
	change->changed = true;
	s->changed = true;
	return change;
}

static void
finish(BilledSubscription *s, ScheduledChange *change, const char *state)
{
	change->state = state;
	change->changed = true;
	s->changed = true;
}

/* What says the same on the subscription goes with it. */
void
unplan(BilledSubscription *s, const char *kind)
{
	ScheduledChange *change = planned(s, kind);

	if (change != NULL)
		finish(s, change, "canceled");
	if (strcmp(kind, "cancel") == 0)
	{
		s->cancel_at_period_end = false;
		s->cancel_at = 0;
		s->canceled_at = 0;
	}
	else if (strcmp(kind, "pause") == 0)
	{
		s->pause_at_period_end = false;
		s->resumes_at = 0;
	}
	else if (strcmp(kind, "resume") == 0)
		s->resumes_at = 0;
	s->changed = true;
}

/* It has come to it, by its row or by what the subscription says. */
static void
fulfil(BilledSubscription *s, const char *kind, TimestampTz at)
{
	ScheduledChange *change = planned(s, kind);

	if (change != NULL)
		finish(s, change, change->due_at <= at ? "done" : "canceled");
}

/* What was planned for the end of the period is so for the end of another one. */
void
plans_follow_period(BilledSubscription *s, TimestampTz old_end)
{
	ListCell *cell;

	foreach (cell, s->changes)
	{
		ScheduledChange *change = lfirst(cell);

		/* a resume and an end by date are planned for a moment, whatever period it lies in */
		if (strcmp(change->kind, "resume") == 0 ||
			(strcmp(change->kind, "cancel") == 0 && s->cancel_at != 0))
			continue;
		if (strcmp(change->state, "pending") == 0 && change->due_at == old_end &&
			s->period_end != old_end)
		{
			change->due_at = s->period_end;
			change->changed = true;
		}
	}
}

/* ------------------------------------------------------------------------
 * The end
 * ------------------------------------------------------------------------
 */

/*
 * Moments of the engine are whole seconds, those of usage are not: what ends
 * within a period ends with its second.  A part of a second has no part of a
 * price: all of them are taken by the whole seconds that they begin and end in.
 */
static TimestampTz
used_until(const BilledSubscription *s, TimestampTz at)
{
	return Min(at + USECS_PER_SEC - 1, s->period_end);
}

/*
 * With usage it waits for what comes late, as every invoice does.  What was used
 * in a pause, or while it was unpaid, is nobody's.  What was carried to the next
 * invoice is written off on this one, where there is nothing else on it, too.
 */
static void
final_invoice(BillingRun *run, BilledSubscription *s, bool bill_usage, TimestampTz at)
{
	TimestampTz until = used_until(s, at);
	bool counts = !is_status(s, "paused") && !is_status(s, "unpaid");
	bool usage = bill_usage && counts && s->usage_from != 0 && s->usage_from < until;
	InvoiceDraft *draft = NULL;

	if (usage || s->pending != NIL || credits_owe_small(run, s))
		draft = draft_for(run, s, "subscription_end", at);
	if (bill_usage && !usage)
		draft = bill_late_usage(run, s, draft, "subscription_end", at);
	if (draft == NULL)
		return;
	draft->period_end = at;
	if (usage)
		bill_usage_until(run, draft, s, until, true);
	if (draft->finalize_at == 0)
		draft_complete(run, draft);
}

/* What is paid of a period that will not come. */
static void
give_back_ahead(BillingRun *run, BilledSubscription *s)
{
	if (ahead_until(s) != 0)
		subscription_give_back(run, s, s->period_end);
}

void
end_now(BillingRun *run, BilledSubscription *s, bool prorate, bool bill_usage, TimestampTz at)
{
	bool billed = !is_status(s, "trialing") && !is_status(s, "incomplete");

	ahead_call_off(run, s);
	give_back_ahead(run, s);
	if (prorate && billed)
		subscription_give_back(run, s, at);
	if (billed)
		final_invoice(run, s, bill_usage, at);
	fulfil(s, "cancel", at);
	for (int i = 0; i < list_length(s->changes); i++)
	{
		ScheduledChange *change = list_nth(s->changes, i);

		if (strcmp(change->state, "pending") == 0)
			finish(s, change, "canceled");
	}
	s->pause_at_period_end = false;
	s->resumes_at = 0;
	s->usage_from = 0;
	s->before_pause = NULL;
	undo_forget(s);
	set_status(run, s, "canceled", at);
}

void
engine_end(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	end_now(run, s, false, true, at);
}

QUERY(
	being_paid,
	"SELECT FROM billing.invoices AS i JOIN billing.payment_intents AS p ON p.invoice_id = i.id "
	"WHERE i.subscription_id = $1 AND i.managed_by = 'local' AND i.status IN ('draft', 'open', 'uncollectible') "
	"AND p.status IN ('pending', 'processing', 'requires_capture') LIMIT 1",
	UUIDOID);

/*
 * A debit takes days: what is on its way may yet pay.  It is looked at again after
 * a day, or when it has failed (engine_news.c).
 */
void
engine_expire(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	if (RUN(being_paid, arg_uuid(s->id)) > 0)
	{
		s->incomplete_until = at + USECS_PER_DAY;
		s->changed = true;
		return;
	}
	for (int i = 0; i < list_length(s->changes); i++)
		finish(s, list_nth(s->changes, i), "canceled");
	s->usage_from = 0;
	s->ended_at = at;
	set_status(run, s, "incomplete_expired", at);
}

/* ------------------------------------------------------------------------
 * Pause
 * ------------------------------------------------------------------------
 */
void
engine_pause(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	TimestampTz resumes_at = s->resumes_at > at ? s->resumes_at : 0;

	bill_usage_to_pending(run, s, used_until(s, at));
	pending_to_draft(run, s, at);
	ahead_call_off(run, s);
	fulfil(s, "pause", at);
	s->pause_at_period_end = false;
	s->resumes_at = resumes_at;
	if (resumes_at != 0)
		(void) plan_change(s, "resume", resumes_at, NULL);
	set_status(run, s, "paused", at);
}

void
give_up_collecting(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	const char *end = setting_text("dunning_end");

	if (end != NULL && strcmp(end, "canceled") == 0)
	{
		engine_end(run, s, at);
		return;
	}
	bill_usage_to_pending(run, s, used_until(s, at));
	pending_to_draft(run, s, at);
	set_status(run, s, "unpaid", at);
}

QUERY(
	owed,
	"SELECT bool_or(i.status = 'open' AND i.next_attempt_at IS NOT NULL) FROM billing.invoices AS i "
	"WHERE i.subscription_id = $1 AND i.managed_by = 'local' "
	"AND i.status IN ('open', 'uncollectible') AND i.attempt_count > 0 HAVING count(*) > 0",
	UUIDOID);

/* A pause ends no dunning: what could not be collected before it, or in it, is owed. */
static void
end_pause(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	if (RUN(owed, arg_uuid(s->id)) == 0)
		set_status(run, s, "active", at);
	else if (row_bool(0, 1))
		set_status(run, s, "past_due", at);
	else
		give_up_collecting(run, s, at);
}

/* What was billed goes on to its end; after it a period begins here. */
void
engine_resume(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	if (!is_status(s, "paused") && !is_status(s, "unpaid"))
		return;
	fulfil(s, "resume", at);
	s->resumes_at = 0;
	if (s->trial_end > at)
	{
		set_status(run, s, "trialing", at);
		return;
	}
	if (s->usage_from != 0)
		s->usage_from = Max(s->usage_from, at);
	if (is_status(s, "paused"))
		end_pause(run, s, at);
	else
		set_status(run, s, "active", at);
	if (!is_billed(s))
		return;
	if (at < s->period_end || (ahead_until(s) > at && ahead_begin(s)))
	{
		pause_catch_up(run, s, at);
		return;
	}
	s->before_pause = NULL;
	s->billing_anchor = s->schedule_start = at;
	engine_begin_period(run, s, at, "subscription_cycle");
}

/* ------------------------------------------------------------------------
 * What was planned is due
 * ------------------------------------------------------------------------
 */
void
engine_carry_out(BillingRun *run, BilledSubscription *s, ScheduledChange *change, TimestampTz at)
{
	if (strcmp(change->kind, "start") == 0)
	{
		finish(s, change, "done");
		engine_start(run, s, at);
		return;
	}
	if (strcmp(change->kind, "cancel") == 0)
		engine_end(run, s, at);
	else if (strcmp(change->kind, "pause") == 0)
		engine_pause(run, s, at);
	else if (strcmp(change->kind, "resume") == 0)
		engine_resume(run, s, at);
	else
		subscription_change_items(run, s, changes_of_terms(s, change->terms),
								  at < s->period_end ? PRORATION_WAITS : PRORATION_NONE, at);
	finish(s, change, "done");
}

/*-------------------------------------------------------------------------
 *
 * subscription_local.c
 *	  Calls about subscriptions that our own engine bills.
 *
 * subscriptions.c hands them over when it has checked the arguments.  Each call
 * is a run of the engine over one subscription: what was due until now is played
 * first, then it is changed in memory, then all is written.  What begins at a
 * later time is planned as a row of billing.scheduled_changes.
 *
 *-------------------------------------------------------------------------
 */
#include "subscriptions.h"

#include "check.h"
#include "draft_steps.h"
#include "engine_plans.h"
#include "errors.h"
#include "json.h"
#include "keys.h"

/* ------------------------------------------------------------------------
 * A run over one
 * ------------------------------------------------------------------------
 */
BillingRun *
local_open(const pg_uuid_t *id, bool preview, BilledSubscription **s)
{
	BillingRun *run;

	*s = run_load_one(id, preview, &run);
	if (*s == NULL)
		unknown_object("local subscription", uuid_text(id),
					   "Only one with managed_by local is billed here.");
	engine_play(run, *s, (*s)->customer->now);
	return run;
}

/* What it has become is played, and written. */
static void
local_close(BillingRun *run, BilledSubscription *s)
{
	engine_play(run, s, s->customer->now);
	s->changed = true;
	run_write(run);
	worker_wake_at_commit();
}

static void
tell_updated(BillingRun *run, const BilledSubscription *s)
{
	run_event(run, "subscription.updated", "subscription", s->id, s->customer->organization_id,
			  s->status, s->status);
}

/* What was due may have ended it. */
void
local_require_changeable(const BilledSubscription *s)
{
	if (subscription_ended(s->status))
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("subscription \"%s\" has ended", uuid_text(s->id)),
						errdetail("Its status is %s.", s->status),
						errhint("Use billing.subscribe() to make a new one.")));
	if (is_status(s, "incomplete") && subscription_starts_at(s) == 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("subscription \"%s\" is incomplete and cannot be changed",
							   uuid_text(s->id)),
						errdetail("It waits for its first payment."),
						errhint("Pay its invoice by billing.pay_invoice(), or cancel it and use "
								"billing.subscribe().")));
}

/* The end of what is paid, or free. */
static TimestampTz
period_end_of(const BilledSubscription *s)
{
	TimestampTz end = is_status(s, "trialing") ? s->trial_end : s->period_end;

	if (end == 0 || end <= s->customer->now)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("subscription \"%s\" is in no period", uuid_text(s->id)),
				 errdetail("Its status is %s.", s->status),
				 errhint("Resume it by billing.resume_subscription() first, or do it at once.")));
	return end;
}

/* ------------------------------------------------------------------------
 * Add-ons
 * ------------------------------------------------------------------------
 */

/* Whoever has it keeps the version that he has. */
void
local_set_add_on(const pg_uuid_t *id, const char *add_on, int64 quantity)
{
	ItemChange change = {.component = psprintf("addon.%s", add_on), .quantity = quantity};
	BilledSubscription *s;
	BillingRun *run = local_open(id, false, &s);
	const ComponentPrice *base;
	const BilledItem *present;

	local_require_changeable(s);
	base = base_item(s)->price;
	present = item_named(s, change.component);
	if (quantity > 0)
		change.price = present != NULL ? present->price
									   : add_on_price(add_on, s->currency, base->interval,
													  base->interval_count, s->customer->now);
	if (present != NULL || quantity > 0)
		subscription_change_items(run, s, list_make1(&change), PRORATION_WAITS, s->customer->now);
	local_close(run, s);
}

/* ------------------------------------------------------------------------
 * Change
 * ------------------------------------------------------------------------
 */

/* When the present period was last billed anew; 0: never. */
static TimestampTz
last_prorated_at(const BilledSubscription *s)
{
	TimestampTz last = 0;
	ListCell *cell;

	foreach (cell, s->billed)
	{
		const InvoiceLine *line = lfirst(cell);
		TimestampTz at = Max(line->period_start, line->given_back_at);

		/* one that is billed ahead begins later */
		if (at <= s->customer->now && (last == 0 || at > last))
			last = at;
	}
	return last;
}

TimestampTz
local_proration_date(const BilledSubscription *s, TimestampTz named)
{
	TimestampTz at = named == 0 ? s->customer->now : moment_of_unix(unix_seconds(named));
	TimestampTz prorated_at = last_prorated_at(s);

	if (at > s->customer->now || at < s->period_start)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("proration_date is not in the present period"),
						errdetail("proration_date is %s; the period began at %s.",
								  pstrdup(timestamptz_to_str(at)),
								  pstrdup(timestamptz_to_str(s->period_start))),
						errhint("Pass what billing.preview_update() returned, or leave it out.")));
	if (prorated_at != 0 && at < prorated_at)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("proration_date is before an earlier change"),
						errdetail("proration_date is %s; the period was billed anew from %s on.",
								  pstrdup(timestamptz_to_str(at)),
								  pstrdup(timestamptz_to_str(prorated_at))),
						errhint("Ask billing.preview_update() again, and pass what it returns.")));
	return at;
}

static void
set_trial_end(BilledSubscription *s, TimestampTz named)
{
	TimestampTz end = Max(moment_of_unix(unix_seconds(named)), s->customer->now);
	TimestampTz old = s->trial_end;

	if (!is_status(s, "trialing"))
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("subscription \"%s\" is not in a trial", uuid_text(s->id)),
						errdetail("Its status is %s.", s->status),
						errhint("A trial is given by billing.subscribe(trial_days => ...).")));
	s->trial_end = s->period_end = s->schedule_start = end;
	if (s->billing_anchor == old)
		s->billing_anchor = end;
	if (s->usage_from == old)
		s->usage_from = end;
	s->trial_notice_at = 0;
	plans_follow_period(s, old);
}

static void
set_payment_method(const BillingRun *run, BilledSubscription *s, const char *token)
{
	const Customer *customer;

	s->has_payment_method = true;
	if (run->preview)
		return;
	customer = customer_load(s->customer->id, false);
	s->payment_method_id = payment_method_attach(customer, account_get(s->provider, s->account),
												 token, -1, NULL);
}

static ChangeTerms
wanted(const BillingRun *run, const UpdateTerms *terms)
{
	return (ChangeTerms){.plan = terms->plan,
						 .price = terms->price,
						 .amount = terms->amount,
						 .quantity = terms->quantity,
						 .items = terms->items,
						 .preview = run->preview};
}

bool
local_changes_items(const UpdateTerms *terms)
{
	return terms->plan != NULL || terms->price != NULL || terms->amount != NO_AMOUNT ||
		   terms->quantity > 0 || terms->items != NULL;
}

static void
change_later(const BillingRun *run, BilledSubscription *s, const UpdateTerms *terms)
{
	ScheduledChange *before = planned(s, "change");
	ChangeTerms change = wanted(run, terms);
	List *changes = change_targets(s, &change, before == NULL ? NULL : before->terms);

	if (terms->proration_date != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("proration_date is for a change that is made now"),
						errdetail("effective is period_end, proration_date %s.",
								  pstrdup(timestamptz_to_str(terms->proration_date))),
						errhint("Leave it out: at the end of a period nothing is prorated.")));
	if (proration_behavior_named(terms->proration_behavior) == PRORATION_INVOICED)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("always_invoice is for a change that is made now"),
						errhint("Leave it out: at the end of a period nothing is prorated.")));
	if (changes == NIL)
		unplan(s, "change");
	else
		(void) plan_change(s, "change", period_end_of(s), changes_as_terms(s, changes));
}

/* Another plan or price takes the place of one that was planned. */
static void
change_now(BillingRun *run, BilledSubscription *s, const UpdateTerms *terms)
{
	ChangeTerms change = wanted(run, terms);
	List *changes = change_targets(s, &change, NULL);

	if (terms->plan != NULL || terms->price != NULL || terms->amount != NO_AMOUNT)
		unplan(s, "change");
	subscription_change_items(run, s, changes, proration_behavior_named(terms->proration_behavior),
							  local_proration_date(s, terms->proration_date));
}

void
local_change(BillingRun *run, BilledSubscription *s, const UpdateTerms *terms)
{
	bool later = strcmp(terms->effective, "period_end") == 0;

	local_require_changeable(s);
	if (terms->payment_method != NULL)
		set_payment_method(run, s, terms->payment_method);
	if (terms->trial_end != 0)
		set_trial_end(s, terms->trial_end);
	if (terms->cancel_at != 0)
	{
		check_end_after_start(subscription_starts_at(s), terms->cancel_at);
		unplan(s, "cancel");
		s->cancel_at = Max(moment_of_unix(unix_seconds(terms->cancel_at)), s->customer->now);
		(void) plan_change(s, "cancel", s->cancel_at, NULL);
	}
	if (terms->coupon != NULL)
		coupon_apply_in_run(run, s, terms->coupon, s->customer->now);
	if (local_changes_items(terms) && later)
		change_later(run, s, terms);
	else if (local_changes_items(terms))
		change_now(run, s, terms);
}

void
local_update(const Subscription *row, const UpdateTerms *terms)
{
	BilledSubscription *s;
	BillingRun *run = local_open(row->id, false, &s);

	local_change(run, s, terms);
	tell_updated(run, s);
	local_close(run, s);
	if (terms->payment_method != NULL)
		collection_method_arrived(s->customer->id);
}

/* ------------------------------------------------------------------------
 * End
 * ------------------------------------------------------------------------
 */
static void
say_why(ScheduledChange *change, const CancelTerms *terms)
{
	change->reason = terms->reason;
	change->comment = seal_text("scheduled_changes.comment", change->id, terms->comment);
}

static void
cancel_later(BillingRun *run, BilledSubscription *s, const CancelTerms *terms)
{
	TimestampTz end = period_end_of(s);
	ScheduledChange *change = planned(s, "cancel");

	/* the same again; one by date may end then as well, and says less */
	if (change != NULL && change->due_at == end && s->cancel_at_period_end &&
		terms->reason == NULL && terms->comment == NULL)
		return;
	unplan(s, "cancel");
	ahead_call_off(run, s);
	s->cancel_at_period_end = true;
	say_why(plan_change(s, "cancel", end, NULL), terms);
}

/* What was said of it stands in a row that is done. */
static void
cancel_now(BillingRun *run, BilledSubscription *s, const CancelTerms *terms)
{
	TimestampTz now = s->customer->now;

	if (terms->reason != NULL || terms->comment != NULL)
	{
		unplan(s, "cancel");
		say_why(plan_change(s, "cancel", now, NULL), terms);
	}
	end_now(run, s, terms->prorate > 0, terms->invoice_now != 0, now);
}

void
local_cancel(const Subscription *row, const CancelTerms *terms)
{
	BilledSubscription *s;
	BillingRun *run = local_open(row->id, false, &s);

	if (!subscription_ended(s->status))
	{
		if (terms->at_period_end && (is_status(s, "active") || is_status(s, "trialing")))
		{
			cancel_later(run, s, terms);
			tell_updated(run, s);
		}
		else
			cancel_now(run, s, terms);
	}
	local_close(run, s);
}

/* ------------------------------------------------------------------------
 * Pause, and back
 * ------------------------------------------------------------------------
 */
void
local_pause(const Subscription *row, bool at_period_end, TimestampTz resumes_at)
{
	BilledSubscription *s;
	BillingRun *run = local_open(row->id, false, &s);

	local_require_changeable(s);
	if (resumes_at != 0)
		resumes_at = Max(moment_of_unix(unix_seconds(resumes_at)),
						 s->customer->now + USECS_PER_SEC);
	unplan(s, "pause");
	s->resumes_at = resumes_at;
	if (!at_period_end)
		engine_pause(run, s, s->customer->now);
	else
	{
		TimestampTz end = period_end_of(s);

		if (resumes_at != 0 && resumes_at <= end)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("resumes_at is before the pause begins"),
							errdetail("It begins at %s.", timestamptz_to_str(end)),
							errhint("Pass a later time, or at_period_end => false.")));
		ahead_call_off_and_go_on(run, s);
		s->pause_at_period_end = true;
		(void) plan_change(s, "pause", end, NULL);
		tell_updated(run, s);
	}
	local_close(run, s);
}

void
local_resume(const Subscription *row)
{
	BilledSubscription *s;
	BillingRun *run = local_open(row->id, false, &s);

	local_require_changeable(s);
	if (is_status(s, "paused"))
	{
		unplan(s, "resume");
		engine_resume(run, s, s->customer->now);
	}
	else if (planned(s, "pause") != NULL || planned(s, "cancel") != NULL || s->cancel_at_period_end)
	{
		unplan(s, "pause");
		unplan(s, "cancel");
		tell_updated(run, s);
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("subscription \"%s\" is neither paused nor about to be canceled",
						uuid_text(s->id)),
				 errdetail("Its status is %s.", s->status),
				 errhint("There is nothing to resume; billing.get_subscription() shows it.")));
	local_close(run, s);
}

/* ------------------------------------------------------------------------
 * What is planned, taken back
 * ------------------------------------------------------------------------
 */
void
local_unplan(const Subscription *row, const pg_uuid_t *scheduled_change_id)
{
	BilledSubscription *s;
	BillingRun *run = local_open(row->id, false, &s);
	const char *kind = NULL;
	ListCell *cell;

	foreach (cell, s->changes)
	{
		const ScheduledChange *change = lfirst(cell);

		if (strcmp(change->state, "pending") == 0 && uuid_equal(change->id, scheduled_change_id))
			kind = change->kind;
	}
	if (kind == NULL)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("scheduled change \"%s\" is done", uuid_text(scheduled_change_id)),
						errdetail("Its time had come."),
						errhint("billing.list_scheduled_changes() tells what is pending.")));
	if (strcmp(kind, "start") == 0)
		end_now(run, s, false, false, s->customer->now);
	else
	{
		unplan(s, kind);
		tell_updated(run, s);
	}
	local_close(run, s);
}

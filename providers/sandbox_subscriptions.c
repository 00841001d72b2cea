/*-------------------------------------------------------------------------
 *
 * sandbox_subscriptions.c
 *	  What the sandbox does to a subscription: by request, and as periods and
 *	  trials end.
 *
 * Called by sandbox_perform.c and sandbox_clock.c; money moves in
 * sandbox_billing.c.  A request that has to be paid at once and is not paid
 * (a change that is invoiced now, a new interval, a resume) changes nothing
 * and is answered 402; only a new subscription stays, as incomplete.
 *
 * A part of a period costs its share by the second, rounded half away from
 * zero.  Time of a trial is worth nothing.  Credit stays pending with its
 * subscription and is lost when that ends without being invoiced.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

#include "money.h"

#define TRIAL_NOTICE_SECONDS (3 * PERIOD_SECONDS_PER_DAY)

/*
 * Largest amount of a period, in minor units.  Nothing costs a trillion; and
 * nine million prorations of it in a row still fit an int64.
 */
#define MAX_TOTAL INT64CONST(1000000000000)

/* ------------------------------------------------------------------------
 * Money of a period
 * ------------------------------------------------------------------------
 */

/* What a whole period costs; checked by read_terms(). */
int64
sandbox_period_total(const SandboxSubscription *subscription)
{
	return subscription->amount * subscription->quantity;
}

/*
 * Goes into the period that begins at the moment.  That is a whole one, or
 * the rest of one up to the next boundary of the rule; *cost is its share.
 */
bool
sandbox_enter_period(SandboxSubscription *subscription, int64 moment, int64 *cost)
{
	Period whole;

	if (!period_at(&subscription->rule, moment, &whole) ||
		money_ratio(sandbox_period_total(subscription), whole.end - moment, whole.end - whole.start,
					cost) != MONEY_OK)
		return false;
	subscription->period_start = moment;
	subscription->period_end = whole.end;
	return true;
}

/* What the current period costs from the moment on, by the terms given. */
static int64
rest_of_period(const SandboxSubscription *current, int64 total, int64 moment)
{
	Period whole;
	int64 rest;

	if (!period_at(&current->rule, current->period_start, &whole) ||
		money_ratio(total, current->period_end - moment, whole.end - whole.start, &rest) !=
			MONEY_OK)
		elog(ERROR, "sandbox subscription has no current period");
	return rest;
}

void
sandbox_bill_period(Sandbox *sandbox, SandboxSubscription *subscription, int64 cost)
{
	SandboxInvoice *invoice = sandbox_bill(sandbox, subscription, "subscription_cycle", cost);
	SandboxCharge charge = sandbox_charge(sandbox, subscription, invoice->total, true);

	sandbox_collect(sandbox, subscription, invoice, &charge);
}

/* ------------------------------------------------------------------------
 * Reading arguments
 * ------------------------------------------------------------------------
 */

/* The subscription of a request; refuses one that is unknown or over. */
SandboxSubscription *
sandbox_requested_subscription(const Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxSubscription *subscription = sandbox_subscription(&sandbox->state,
															 json_text(arguments, "subscription"));

	if (subscription == NULL)
		sandbox_refuse(reply, 404, "resource_missing");
	else if (subscription->ended_at != 0)
		sandbox_refuse(reply, 400, "subscription_ended");
	else
		return subscription;
	return NULL;
}

static void
take_text(const Jsonb *arguments, const char *key, const char **value)
{
	if (json_has(arguments, key))
		*value = json_text(arguments, key);
}

/* A time that null clears. */
static bool
take_time(const Jsonb *arguments, const char *key, int64 *value)
{
	if (json_has(arguments, key) && json_text(arguments, key) == NULL)
	{
		*value = 0;
		return true;
	}
	return sandbox_take_int(arguments, key, value);
}

/* Price, amount, interval, quantity: over what the subscription has. */
static bool
take_terms(const Jsonb *arguments, SandboxSubscription *subscription)
{
	const char *interval = period_interval_name(subscription->rule.interval);
	int64 count = subscription->rule.count;
	int64 total;

	take_text(arguments, "price", &subscription->price);
	take_text(arguments, "currency", &subscription->currency);
	take_text(arguments, "interval", &interval);
	if (!sandbox_take_int(arguments, "amount", &subscription->amount) ||
		!sandbox_take_int(arguments, "quantity", &subscription->quantity) ||
		!sandbox_take_int(arguments, "interval_count", &count))
		return false;

	if (!period_interval_by_name(interval, &subscription->rule.interval) || count < 1 ||
		count > PERIOD_MAX_COUNT)
		return false;
	subscription->rule.count = (int32) count;

	return subscription->currency != NULL && subscription->amount >= 0 &&
		   subscription->quantity >= 1 &&
		   money_mul(subscription->amount, subscription->quantity, &total) == MONEY_OK &&
		   total <= MAX_TOTAL;
}

static bool
read_terms(const Jsonb *arguments, SandboxSubscription *subscription, SandboxReply *reply)
{
	if (!take_terms(arguments, subscription) ||
		!take_time(arguments, "cancel_at", &subscription->cancel_at))
	{
		sandbox_refuse(reply, 400, "parameter_invalid");
		return false;
	}
	if (json_has(arguments, "cancel_at"))
		subscription->cancel_at_period_end = false;
	return true;
}

static bool
read_method(const Sandbox *sandbox, const Jsonb *arguments, SandboxSubscription *subscription,
			SandboxReply *reply)
{
	take_text(arguments, "payment_method", &subscription->method);
	if (subscription->method == NULL ||
		sandbox_method(&sandbox->state, subscription->method) != NULL)
		return true;
	sandbox_refuse(reply, 404, "resource_missing");
	return false;
}

void
sandbox_reply_subscription(const Sandbox *sandbox, const SandboxSubscription *subscription,
						   SandboxReply *reply)
{
	reply->objects = lappend(reply->objects,
							 sandbox_subscription_object(&sandbox->state, subscription));
}

void
sandbox_reply_invoice(const Sandbox *sandbox, const SandboxInvoice *invoice, SandboxReply *reply)
{
	reply->objects = lappend(reply->objects, sandbox_invoice_object(&sandbox->state, invoice));
}

/* ------------------------------------------------------------------------
 * subscription.create
 * ------------------------------------------------------------------------
 */

/* A trial of whole days of 24 hours, or up to a moment. */
static bool
read_trial(const Sandbox *sandbox, const Jsonb *arguments, SandboxSubscription *subscription)
{
	int64 days = 0;
	int64 end = 0;

	if (!sandbox_take_int(arguments, "trial_days", &days) ||
		!take_time(arguments, "trial_end", &end) || days < 0 || days > PERIOD_MAX_COUNT)
		return false;
	if (end == 0 && days > 0)
		end = sandbox->now + days * PERIOD_SECONDS_PER_DAY;
	if (end > sandbox->now)
	{
		subscription->trial_start = sandbox->now;
		subscription->trial_end = end;
	}
	return true;
}

static void
start_trial(const Sandbox *sandbox, SandboxSubscription *subscription)
{
	subscription->status = SANDBOX_TRIALING;
	subscription->period_start = sandbox->now;
	subscription->period_end = subscription->trial_end;
	subscription->trial_notice_at = Max(sandbox->now,
										subscription->trial_end - TRIAL_NOTICE_SECONDS);
}

/* First period and status; *cost is what is due now. */
static bool
start_subscription(const Sandbox *sandbox, const Jsonb *arguments,
				   SandboxSubscription *subscription, int64 *cost)
{
	int64 start = sandbox->now;

	if (!read_trial(sandbox, arguments, subscription))
		return false;
	if (subscription->trial_end != 0)
		start = subscription->trial_end;
	subscription->rule.anchor = start;
	if (!sandbox_take_int(arguments, "billing_anchor", &subscription->rule.anchor))
		return false;

	/* A trial must have a period to go on with. */
	if (!sandbox_enter_period(subscription, start, cost))
		return false;
	if (subscription->trial_end != 0)
	{
		start_trial(sandbox, subscription);
		*cost = 0;
	}
	else
		subscription->status = *cost == 0 ? SANDBOX_ACTIVE : SANDBOX_INCOMPLETE;
	return true;
}

/* What the trial's end does, and how money is collected: only one way is known. */
static bool
read_wishes(const Jsonb *arguments, SandboxSubscription *subscription)
{
	const char *wish = json_text(arguments, "trial_end_behavior");
	const char *method = json_text(arguments, "collection_method");

	subscription->trial_end_behavior = wish != NULL ? wish : "cancel";
	return (method == NULL || strcmp(method, "charge_automatically") == 0) &&
		   (wish == NULL || strcmp(wish, "cancel") == 0 || strcmp(wish, "pause") == 0 ||
			strcmp(wish, "create_invoice") == 0);
}

static SandboxSubscription *
read_subscription(const Sandbox *sandbox, const Jsonb *arguments, int64 *cost, SandboxReply *reply)
{
	SandboxSubscription *subscription = palloc0(sizeof(SandboxSubscription));

	subscription->created = sandbox->now;
	subscription->reference = json_text(arguments, "reference");
	subscription->quantity = 1;
	subscription->rule.count = 1;
	subscription->rule.interval = PERIOD_MONTH;
	if (!read_terms(arguments, subscription, reply) ||
		!read_method(sandbox, arguments, subscription, reply))
		return NULL;

	if (!json_has(arguments, "amount") || subscription->reference == NULL ||
		!read_wishes(arguments, subscription) ||
		!start_subscription(sandbox, arguments, subscription, cost))
	{
		sandbox_refuse(reply, 400, "parameter_invalid");
		return NULL;
	}
	return subscription;
}

/* Nothing comes to be when the first payment fails or takes its time. */
static bool
pays_at_once(const Sandbox *sandbox, const SandboxSubscription *subscription,
			 const Jsonb *arguments, int64 cost, SandboxReply *reply)
{
	SandboxCharge charge = sandbox_charge(sandbox, subscription, cost,
										  json_bool(arguments, "off_session", false));

	if (charge.method != NULL && charge.outcome == SANDBOX_CHARGE_SUCCEEDED)
		return true;
	sandbox_decline(reply, charge.method == NULL ? "payment_method_missing"
						   : charge.code != NULL ? charge.code
												 : "payment_incomplete");
	return false;
}

void
sandbox_subscription_create(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	int64 cost;
	SandboxSubscription *subscription = read_subscription(sandbox, arguments, &cost, reply);
	SandboxInvoice *invoice;
	SandboxCharge charge;

	if (subscription == NULL)
		return;
	if (json_bool(arguments, "all_or_nothing", false) && cost > 0 &&
		!pays_at_once(sandbox, subscription, arguments, cost, reply))
		return;

	subscription->id = sandbox_new_id(&sandbox->state, "sub");
	sandbox->state.subscriptions = lappend(sandbox->state.subscriptions, subscription);
	sandbox_subscription_event(sandbox, "customer.subscription.created", subscription);

	invoice = sandbox_bill(sandbox, subscription, "subscription_create", cost);
	charge = sandbox_charge(sandbox, subscription, invoice->total,
							json_bool(arguments, "off_session", false));
	if (invoice->total > 0 && charge.method == NULL)
		sandbox_await_buyer(sandbox, subscription);
	else
		sandbox_collect(sandbox, subscription, invoice, &charge);

	sandbox_reply_subscription(sandbox, subscription, reply);
	sandbox_reply_invoice(sandbox, invoice, reply);
}

/* ------------------------------------------------------------------------
 * subscription.update
 * ------------------------------------------------------------------------
 */

static bool
same_interval(const SandboxSubscription *a, const SandboxSubscription *b)
{
	return a->rule.interval == b->rule.interval && a->rule.count == b->rule.count;
}

/* Moves the end of a running trial; the periods after it move along. */
static void
move_trial(const Sandbox *sandbox, SandboxSubscription *subscription, int64 end)
{
	if (subscription->rule.anchor == subscription->trial_end)
		subscription->rule.anchor = end;
	subscription->trial_end = end;
	subscription->period_end = end;
	subscription->trial_notice_at = Max(sandbox->now, end - TRIAL_NOTICE_SECONDS);
}

static void
update_trial(Sandbox *sandbox, SandboxSubscription *subscription, SandboxSubscription *changed,
			 const Jsonb *arguments, SandboxReply *reply)
{
	int64 end = changed->trial_end;
	Period first;

	if (!take_time(arguments, "trial_end", &end) ||
		!period_at(&changed->rule, Max(end, sandbox->now), &first))
	{
		sandbox_refuse(reply, 400, "parameter_invalid");
		return;
	}
	end = Max(end, sandbox->now);
	if (end != changed->trial_end)
		move_trial(sandbox, changed, end);

	*subscription = *changed;
	sandbox_subscription_event(sandbox, "customer.subscription.updated", subscription);
	if (end == sandbox->now)
		sandbox_end_trial(sandbox, subscription);
	sandbox_reply_subscription(sandbox, subscription, reply);
}

/* Charges what a change costs, and makes the change (told as event) if that works out. */
void
sandbox_change_and_charge(Sandbox *sandbox, SandboxSubscription *subscription,
						  const SandboxSubscription *changed, int64 cost, const char *event,
						  SandboxReply *reply)
{
	SandboxCharge charge = sandbox_charge(sandbox, changed, Max(changed->pending + cost, 0), true);
	SandboxInvoice *invoice;

	if (charge.outcome == SANDBOX_CHARGE_DECLINED)
	{
		sandbox_decline(reply, charge.code);
		return;
	}

	*subscription = *changed;
	sandbox_subscription_event(sandbox, event, subscription);
	invoice = sandbox_bill(sandbox, subscription, "subscription_update", cost);
	sandbox_collect(sandbox, subscription, invoice, &charge);
	sandbox_reply_subscription(sandbox, subscription, reply);
	sandbox_reply_invoice(sandbox, invoice, reply);
}

/* When the new terms begin to count: proration_date within the period, or now. */
static bool
read_proration(const Sandbox *sandbox, const SandboxSubscription *subscription,
			   const Jsonb *arguments, const char **behavior, int64 *moment)
{
	*behavior = "create_prorations";
	take_text(arguments, "proration_behavior", behavior);
	*moment = sandbox->now;
	if (*behavior == NULL || !sandbox_take_int(arguments, "proration_date", moment))
		return false;

	*moment = Min(Max(*moment, subscription->period_start), subscription->period_end);
	return strcmp(*behavior, "create_prorations") == 0 || strcmp(*behavior, "none") == 0 ||
		   strcmp(*behavior, "always_invoice") == 0;
}

/*
 * New terms of a subscription that runs.  Another interval, or a price where
 * there was none, ends the period and begins one that is paid at once.
 */
static void
update_terms(Sandbox *sandbox, SandboxSubscription *subscription, SandboxSubscription *changed,
			 const Jsonb *arguments, SandboxReply *reply)
{
	bool restart = !same_interval(subscription, changed) ||
				   (sandbox_period_total(subscription) == 0 && sandbox_period_total(changed) > 0);
	const char *behavior;
	int64 moment;
	int64 cost = 0;
	int64 credit = 0;
	bool valid = read_proration(sandbox, subscription, arguments, &behavior, &moment);
	bool prorated = valid && strcmp(behavior, "none") != 0;

	if (prorated)
		credit = rest_of_period(subscription, sandbox_period_total(subscription), moment);
	if (restart)
	{
		changed->rule.anchor = sandbox->now;
		valid = valid && sandbox_enter_period(changed, sandbox->now, &cost);
	}
	else if (prorated)
		cost = rest_of_period(subscription, sandbox_period_total(changed), moment);
	if (!valid)
	{
		sandbox_refuse(reply, 400, "parameter_invalid");
		return;
	}

	cost -= credit;
	if (restart || (strcmp(behavior, "always_invoice") == 0 && changed->pending + cost > 0))
	{
		sandbox_change_and_charge(sandbox, subscription, changed, cost,
								  "customer.subscription.updated", reply);
		return;
	}
	changed->pending += cost;
	*subscription = *changed;
	sandbox_subscription_event(sandbox, "customer.subscription.updated", subscription);
	sandbox_reply_subscription(sandbox, subscription, reply);
}

void
sandbox_subscription_update(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxSubscription *subscription = sandbox_requested_subscription(sandbox, arguments, reply);
	SandboxSubscription changed;
	bool same_terms;

	if (subscription == NULL)
		return;
	changed = *subscription;
	if (!read_terms(arguments, &changed, reply) ||
		!read_method(sandbox, arguments, &changed, reply))
		return;
	same_terms = same_interval(subscription, &changed) &&
				 sandbox_period_total(subscription) == sandbox_period_total(&changed);

	if (subscription->status == SANDBOX_TRIALING)
		update_trial(sandbox, subscription, &changed, arguments, reply);
	else if (json_has(arguments, "trial_end"))
		sandbox_refuse(reply, 400, "trial_not_running");
	else if (strcmp(subscription->currency, changed.currency) != 0)
		sandbox_refuse(reply, 400, "currency_mismatch");
	else if (same_terms || subscription->status == SANDBOX_PAUSED)
	{
		*subscription = changed;
		sandbox_subscription_event(sandbox, "customer.subscription.updated", subscription);
		sandbox_reply_subscription(sandbox, subscription, reply);
	}
	else if (subscription->status == SANDBOX_INCOMPLETE)
		sandbox_refuse(reply, 400, "subscription_incomplete");
	else
		update_terms(sandbox, subscription, &changed, arguments, reply);
}

/* ------------------------------------------------------------------------
 * Canceling
 * ------------------------------------------------------------------------
 */

/*
 * prorate gives credit for the rest of the period; invoice_now charges what is
 * pending after that.  The invoice comes after the end, so that a failed
 * charge does not start dunning.
 */
void
sandbox_subscription_cancel(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxSubscription *subscription = sandbox_requested_subscription(sandbox, arguments, reply);

	if (subscription == NULL)
		return;

	if (json_bool(arguments, "prorate", false) &&
		(subscription->status == SANDBOX_ACTIVE || subscription->status == SANDBOX_PAST_DUE))
		subscription->pending -= rest_of_period(subscription, sandbox_period_total(subscription),
												Min(sandbox->now, subscription->period_end));
	sandbox_cancel(sandbox, subscription);
	if (json_bool(arguments, "invoice_now", false) && subscription->pending > 0)
	{
		SandboxInvoice *invoice = sandbox_bill(sandbox, subscription, "subscription_update", 0);
		SandboxCharge charge = sandbox_charge(sandbox, subscription, invoice->total, true);

		sandbox_collect(sandbox, subscription, invoice, &charge);
		sandbox_reply_invoice(sandbox, invoice, reply);
	}
	sandbox_reply_subscription(sandbox, subscription, reply);
}

/* What is not paid for, or stands still, has no period to wait for. */
void
sandbox_subscription_cancel_later(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxSubscription *subscription = sandbox_requested_subscription(sandbox, arguments, reply);

	if (subscription == NULL)
		return;

	if (subscription->status == SANDBOX_ACTIVE || subscription->status == SANDBOX_TRIALING)
	{
		subscription->cancel_at_period_end = true;
		subscription->cancel_at = 0;
		subscription->canceled_at = sandbox->now;
		sandbox_subscription_event(sandbox, "customer.subscription.to_be_canceled", subscription);
	}
	else
		sandbox_cancel(sandbox, subscription);
	sandbox_reply_subscription(sandbox, subscription, reply);
}

void
sandbox_subscription_uncancel(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxSubscription *subscription = sandbox_requested_subscription(sandbox, arguments, reply);

	if (subscription == NULL)
		return;

	subscription->cancel_at_period_end = false;
	subscription->cancel_at = 0;
	subscription->canceled_at = 0;
	sandbox_subscription_event(sandbox, "customer.subscription.uncanceled", subscription);
	sandbox_reply_subscription(sandbox, subscription, reply);
}

/* ------------------------------------------------------------------------
 * Time
 * ------------------------------------------------------------------------
 */

/* The new period begins where the old one ended, however late this is played. */
void
sandbox_renew(Sandbox *sandbox, SandboxSubscription *subscription)
{
	int64 cost;

	if (subscription->cancel_at_period_end)
	{
		sandbox_cancel(sandbox, subscription);
		return;
	}
	if (subscription->pause_at_period_end)
	{
		sandbox_pause(sandbox, subscription);
		return;
	}
	if (!sandbox_enter_period(subscription, subscription->period_end, &cost))
		elog(ERROR, "sandbox calendar ends");
	sandbox_subscription_event(sandbox, "customer.subscription.cycled", subscription);
	sandbox_bill_period(sandbox, subscription, cost);
}

/* Without a method the subscription's own wish decides. */
void
sandbox_end_trial(Sandbox *sandbox, SandboxSubscription *subscription)
{
	const char *wish = subscription->trial_end_behavior;
	bool unpayable = sandbox_period_total(subscription) > 0 &&
					 sandbox_paying_method(sandbox, subscription) == NULL;

	subscription->trial_notice_at = 0;
	if (unpayable && strcmp(wish, "pause") == 0 && !subscription->cancel_at_period_end)
		sandbox_pause(sandbox, subscription);
	else if (unpayable && strcmp(wish, "create_invoice") != 0)
		sandbox_cancel(sandbox, subscription);
	else
	{
		subscription->status = SANDBOX_ACTIVE;
		sandbox_renew(sandbox, subscription);
	}
}

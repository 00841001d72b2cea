/*-------------------------------------------------------------------------
 *
 * sandbox_pauses.c
 *	  How a subscription of the sandbox stands still and goes on.
 *
 * Called by sandbox_perform.c for requests, by sandbox_subscriptions.c when a
 * trial or period ends in a pause, by sandbox_clock.c when resumes_at has come.
 *
 * While it stands still nothing is billed and nothing is tried again.  What was
 * paid for stays paid for: resumed before its period (or trial) is over it
 * goes on in it, later it begins a new period, which is paid at once.  When
 * that fails a request changes nothing, while a resumption by the clock is
 * behind with payment like any other period.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

void
sandbox_pause(Sandbox *sandbox, SandboxSubscription *subscription)
{
	subscription->status = SANDBOX_PAUSED;
	subscription->pause_at_period_end = false;
	sandbox_stop_retries(sandbox, subscription);
	sandbox_subscription_event(sandbox, "customer.subscription.paused", subscription);
}

static bool
can_pause(const SandboxSubscription *subscription)
{
	return subscription->status == SANDBOX_ACTIVE || subscription->status == SANDBOX_TRIALING ||
		   subscription->status == SANDBOX_PAST_DUE;
}

/* At the end of the period only what will have a next one can be paused. */
void
sandbox_subscription_pause(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxSubscription *subscription = sandbox_requested_subscription(sandbox, arguments, reply);
	bool later = json_bool(arguments, "at_period_end", false);
	int64 resumes_at = 0;

	if (subscription == NULL)
		return;
	if (!sandbox_take_int(arguments, "resumes_at", &resumes_at) ||
		(resumes_at != 0 && resumes_at <= sandbox->now) ||
		(later && resumes_at != 0 && resumes_at < subscription->period_end))
	{
		sandbox_refuse(reply, 400, "parameter_invalid");
		return;
	}
	if (!can_pause(subscription) || (later && subscription->cancel_at_period_end))
	{
		sandbox_refuse(reply, 400, "subscription_not_active");
		return;
	}

	subscription->resumes_at = resumes_at;
	if (later)
	{
		subscription->pause_at_period_end = true;
		sandbox_subscription_event(sandbox, "customer.subscription.updated", subscription);
	}
	else
		sandbox_pause(sandbox, subscription);
	sandbox_reply_subscription(sandbox, subscription, reply);
}

/* The subscription as it goes on now; *cost is that of a new period, -1 without one. */
static bool
go_on(const Sandbox *sandbox, const SandboxSubscription *subscription, SandboxSubscription *changed,
	  int64 *cost)
{
	*changed = *subscription;
	*cost = -1;
	changed->resumes_at = 0;
	changed->pause_at_period_end = false;
	if (subscription->trial_end > sandbox->now)
	{
		changed->status = SANDBOX_TRIALING;
		return true;
	}
	changed->status = sandbox_is_behind(sandbox, subscription) ? SANDBOX_PAST_DUE : SANDBOX_ACTIVE;
	if (subscription->period_end > sandbox->now)
		return true;
	changed->rule.anchor = sandbox->now;
	return sandbox_enter_period(changed, sandbox->now, cost);
}

static void
resume_by_request(Sandbox *sandbox, SandboxSubscription *subscription, SandboxReply *reply)
{
	SandboxSubscription changed;
	int64 cost;

	if (!go_on(sandbox, subscription, &changed, &cost))
	{
		sandbox_refuse(reply, 400, "parameter_invalid");
		return;
	}
	if (cost >= 0)
	{
		sandbox_change_and_charge(sandbox, subscription, &changed, cost,
								  "customer.subscription.resumed", reply);
		return;
	}
	*subscription = changed;
	sandbox_subscription_event(sandbox, "customer.subscription.resumed", subscription);
	sandbox_reply_subscription(sandbox, subscription, reply);
}

/* Of one that is only going to be paused it takes the intention back. */
void
sandbox_subscription_resume(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxSubscription *subscription = sandbox_requested_subscription(sandbox, arguments, reply);

	if (subscription == NULL)
		return;
	if (subscription->status == SANDBOX_PAUSED)
		resume_by_request(sandbox, subscription, reply);
	else if (subscription->pause_at_period_end)
	{
		subscription->pause_at_period_end = false;
		subscription->resumes_at = 0;
		sandbox_subscription_event(sandbox, "customer.subscription.updated", subscription);
		sandbox_reply_subscription(sandbox, subscription, reply);
	}
	else
		sandbox_refuse(reply, 400, "subscription_not_paused");
}

void
sandbox_resume(Sandbox *sandbox, SandboxSubscription *subscription)
{
	SandboxSubscription changed;
	int64 cost;

	if (!go_on(sandbox, subscription, &changed, &cost))
		elog(ERROR, "sandbox calendar ends");
	*subscription = changed;
	sandbox_subscription_event(sandbox, "customer.subscription.resumed", subscription);
	if (cost >= 0)
		sandbox_bill_period(sandbox, subscription, cost);
}

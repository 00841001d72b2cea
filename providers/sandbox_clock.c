/*-------------------------------------------------------------------------
 *
 * sandbox_clock.c
 *	  What time does in the sandbox, and what the buyer does.
 *
 * Everything that will happen by itself is a date in the state: the notice
 * before a trial ends, the end of a trial or period, a retry, a settlement,
 * an expiry, an end that was wished for.  The core moves the clock from one
 * such date to the next and has each played alone (sandbox_elapse).  Of items
 * due at the same second money comes first, so that what was just paid does
 * not end.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

/* In the order in which they are played when they are due together. */
typedef enum DueKind
{
	DUE_SETTLEMENT,
	DUE_RETRY,
	DUE_TRIAL_NOTICE,
	DUE_EXPIRY,
	DUE_CANCELLATION,
	DUE_TRIAL_END,
	DUE_PERIOD_END
} DueKind;

typedef struct DueItem
{
	int64 at; /* 0: nothing is due, ever */
	DueKind kind;
	SandboxSubscription *subscription;
	SandboxInvoice *invoice; /* of a settlement or retry */
} DueItem;

/* Keeps the item if it comes before the one found so far. */
static void
consider(DueItem *first, int64 at, DueKind kind, SandboxSubscription *subscription,
		 SandboxInvoice *invoice)
{
	if (at == 0 || (first->at != 0 && (at > first->at || (at == first->at && kind >= first->kind))))
		return;
	first->at = at;
	first->kind = kind;
	first->subscription = subscription;
	first->invoice = invoice;
}

static void
consider_subscription(DueItem *first, SandboxSubscription *subscription)
{
	switch (subscription->status)
	{
		case SANDBOX_INCOMPLETE:
			consider(first, subscription->expires_at, DUE_EXPIRY, subscription, NULL);
			break;
		case SANDBOX_TRIALING:
			consider(first, subscription->trial_notice_at, DUE_TRIAL_NOTICE, subscription, NULL);
			consider(first, subscription->trial_end, DUE_TRIAL_END, subscription, NULL);
			break;
		case SANDBOX_ACTIVE:
		case SANDBOX_PAST_DUE:
			consider(first, subscription->period_end, DUE_PERIOD_END, subscription, NULL);
			break;
		case SANDBOX_PAUSED:
			break;
		case SANDBOX_INCOMPLETE_EXPIRED:
		case SANDBOX_CANCELED:
			return;
	}
	consider(first, subscription->cancel_at, DUE_CANCELLATION, subscription, NULL);
}

static DueItem
first_due(const SandboxState *state)
{
	DueItem first = {0};
	ListCell *cell;

	foreach (cell, state->invoices)
	{
		SandboxInvoice *invoice = lfirst(cell);
		SandboxSubscription *subscription = sandbox_subscription(state, invoice->subscription);

		consider(&first, invoice->settle_at, DUE_SETTLEMENT, subscription, invoice);
		consider(&first, invoice->next_attempt_at, DUE_RETRY, subscription, invoice);
	}
	foreach (cell, state->subscriptions)
		consider_subscription(&first, lfirst(cell));
	return first;
}

/*
 * Never in the past: a first payment may be settled after the period that it
 * was for, and the clock does not go back to renew it.
 */
int64
sandbox_next_due(const Sandbox *sandbox)
{
	int64 at = first_due(&sandbox->state).at;

	return at == 0 ? 0 : Max(at, sandbox->now);
}

static void
settle(Sandbox *sandbox, SandboxSubscription *subscription, SandboxInvoice *invoice,
	   const char *code)
{
	if (code == NULL)
		sandbox_pay(sandbox, subscription, invoice);
	else
		sandbox_fail(sandbox, subscription, invoice, code);
}

static void
play(Sandbox *sandbox, const DueItem *item)
{
	SandboxSubscription *subscription = item->subscription;

	switch (item->kind)
	{
		case DUE_SETTLEMENT:
			settle(sandbox, subscription, item->invoice, item->invoice->settle_code);
			break;
		case DUE_RETRY:
			sandbox_retry(sandbox, subscription, item->invoice);
			break;
		case DUE_TRIAL_NOTICE:
			subscription->trial_notice_at = 0;
			sandbox_subscription_event(sandbox, "customer.subscription.trial_will_end",
									   subscription);
			break;
		case DUE_EXPIRY:
			sandbox_expire(sandbox, subscription);
			break;
		case DUE_CANCELLATION:
			sandbox_cancel(sandbox, subscription);
			break;
		case DUE_TRIAL_END:
			sandbox_end_trial(sandbox, subscription);
			break;
		case DUE_PERIOD_END:
			sandbox_renew(sandbox, subscription);
			break;
	}
}

/* Does nothing when it is called too early: then next_due says when. */
void
sandbox_elapse(EmbeddedExchange *exchange)
{
	Sandbox sandbox;
	DueItem item;

	sandbox_open(&sandbox, exchange);
	item = first_due(&sandbox.state);
	if (item.at != 0 && item.at <= sandbox.now)
		play(&sandbox, &item);
	sandbox_close(&sandbox, exchange);
}

/* ------------------------------------------------------------------------
 * The buyer
 * ------------------------------------------------------------------------
 */

/* The oldest open invoice of the subscription that waits for this. */
static SandboxInvoice *
waiting_invoice(const SandboxState *state, const SandboxSubscription *subscription, bool settlement)
{
	ListCell *cell;

	foreach (cell, state->invoices)
	{
		SandboxInvoice *invoice = lfirst(cell);

		if (strcmp(invoice->subscription, subscription->id) == 0 &&
			(settlement ? invoice->processing : invoice->needs_action))
			return invoice;
	}
	return NULL;
}

static const char *
authenticate(Sandbox *sandbox, SandboxSubscription *subscription, bool succeeded)
{
	SandboxInvoice *invoice = waiting_invoice(&sandbox->state, subscription, false);
	SandboxMethod *method;

	if (invoice == NULL)
		return "no payment of this subscription waits for an authentication";

	method = sandbox_method(&sandbox->state, invoice->method);
	if (succeeded && method != NULL)
		method->authenticated = true;
	settle(sandbox, subscription, invoice,
		   succeeded ? NULL : "payment_intent_authentication_failure");
	return NULL;
}

/* A failure without a reason of its own has one that allows another try. */
static const char *
settle_now(Sandbox *sandbox, SandboxSubscription *subscription, bool succeeded)
{
	SandboxInvoice *invoice = waiting_invoice(&sandbox->state, subscription, true);
	const char *code = "processing_error";

	if (invoice == NULL)
		return "no payment of this subscription is being processed";

	if (invoice->settle_code != NULL)
		code = invoice->settle_code;
	settle(sandbox, subscription, invoice, succeeded ? NULL : code);
	return NULL;
}

static const char *
act_on(Sandbox *sandbox, const char *action, const char *reference, const char *outcome)
{
	SandboxSubscription *subscription = sandbox_subscription_by_reference(&sandbox->state,
																		  reference);
	bool succeeded = strcmp(outcome, "succeeded") == 0;

	if (!succeeded && strcmp(outcome, "failed") != 0)
		return "the outcome is \"succeeded\" or \"failed\"";
	if (subscription == NULL)
		return "the sandbox has no such subscription";
	if (strcmp(action, "authenticate") == 0)
		return authenticate(sandbox, subscription, succeeded);
	if (strcmp(action, "settle") == 0)
		return settle_now(sandbox, subscription, succeeded);
	return "the sandbox knows the actions \"authenticate\" and \"settle\"";
}

void
sandbox_act(EmbeddedExchange *exchange, const char *action, const char *reference,
			const char *outcome)
{
	Sandbox sandbox;

	sandbox_open(&sandbox, exchange);
	exchange->refused = act_on(&sandbox, action, reference, outcome);
	sandbox_close(&sandbox, exchange);
}

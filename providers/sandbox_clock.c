/*-------------------------------------------------------------------------
 *
 * sandbox_clock.c
 *	  What time does in the sandbox.
 *
 * Everything that will happen by itself is a date in the state: the notice
 * before a trial ends, the end of a trial or period, a retry, a settlement,
 * a payment to a number, a refund, a dispute and its decision, an expiry, an
 * end or a resumption that was wished for.  The core moves the clock from one
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
	DUE_PAYMENT_SETTLEMENT,
	DUE_NUMBER_PAYMENT,
	DUE_REFUND_SETTLEMENT,
	DUE_RETRY,
	DUE_DISPUTE,
	DUE_DECISION,
	DUE_TRIAL_NOTICE,
	DUE_NUMBER_EXPIRY,
	DUE_SESSION_EXPIRY,
	DUE_EXPIRY,
	DUE_CANCELLATION,
	DUE_TRIAL_END,
	DUE_PERIOD_END,
	DUE_RESUMPTION
} DueKind;

typedef struct DueItem
{
	int64 at; /* 0: nothing is due, ever */
	DueKind kind;
	void *object; /* the invoice, payment, refund, ..., by kind */
} DueItem;

/* Keeps the item if it comes before the one found so far. */
static void
consider(DueItem *first, int64 at, DueKind kind, void *object)
{
	if (at == 0 || (first->at != 0 && (at > first->at || (at == first->at && kind >= first->kind))))
		return;
	first->at = at;
	first->kind = kind;
	first->object = object;
}

static void
consider_subscription(DueItem *first, SandboxSubscription *subscription)
{
	switch (subscription->status)
	{
		case SANDBOX_INCOMPLETE:
			consider(first, subscription->expires_at, DUE_EXPIRY, subscription);
			break;
		case SANDBOX_TRIALING:
			consider(first, subscription->trial_notice_at, DUE_TRIAL_NOTICE, subscription);
			consider(first, subscription->trial_end, DUE_TRIAL_END, subscription);
			break;
		case SANDBOX_ACTIVE:
		case SANDBOX_PAST_DUE:
			consider(first, subscription->period_end, DUE_PERIOD_END, subscription);
			break;
		case SANDBOX_PAUSED:
			consider(first, subscription->resumes_at, DUE_RESUMPTION, subscription);
			break;
		case SANDBOX_INCOMPLETE_EXPIRED:
		case SANDBOX_CANCELED:
			return;
	}
	consider(first, subscription->cancel_at, DUE_CANCELLATION, subscription);
}

static void
consider_payment(DueItem *first, SandboxPayment *payment)
{
	consider(first, payment->settle_at, DUE_PAYMENT_SETTLEMENT, payment);
	consider(first, payment->pay_at, DUE_NUMBER_PAYMENT, payment);
	consider(first, payment->dispute_at, DUE_DISPUTE, payment);
	if (payment->status == SANDBOX_PAYMENT_REQUIRES_ACTION && payment->number != NULL)
		consider(first, payment->expires_at, DUE_NUMBER_EXPIRY, payment);
}

static DueItem
first_due(const SandboxState *state)
{
	DueItem first = {0};
	ListCell *cell;

	foreach (cell, state->invoices)
	{
		SandboxInvoice *invoice = lfirst(cell);

		consider(&first, invoice->settle_at, DUE_SETTLEMENT, invoice);
		consider(&first, invoice->next_attempt_at, DUE_RETRY, invoice);
	}
	foreach (cell, state->payments)
		consider_payment(&first, lfirst(cell));
	foreach (cell, state->refunds)
		consider(&first, ((SandboxRefund *) lfirst(cell))->settle_at, DUE_REFUND_SETTLEMENT,
				 lfirst(cell));
	foreach (cell, state->disputes)
		consider(&first, ((SandboxDispute *) lfirst(cell))->decide_at, DUE_DECISION, lfirst(cell));
	foreach (cell, state->sessions)
	{
		SandboxSession *session = lfirst(cell);

		if (session->status == SANDBOX_SESSION_OPEN)
			consider(&first, session->expires_at, DUE_SESSION_EXPIRY, session);
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

void
sandbox_settle_invoice(Sandbox *sandbox, SandboxInvoice *invoice, const char *code)
{
	SandboxSubscription *subscription = sandbox_subscription(&sandbox->state,
															 invoice->subscription);

	if (code == NULL)
		sandbox_pay(sandbox, subscription, invoice);
	else
		sandbox_fail(sandbox, subscription, invoice, code);
}

static void
settle_payment(Sandbox *sandbox, SandboxPayment *payment)
{
	if (payment->settle_code == NULL)
		sandbox_payment_receive(sandbox, payment, payment->amount);
	else
		sandbox_payment_fail(sandbox, payment, payment->settle_code);
}

/* The money may be back already: then there is nothing to dispute. */
static void
dispute_payment(Sandbox *sandbox, SandboxPayment *payment)
{
	int64 amount = sandbox_refundable(&sandbox->state, payment);
	bool inquiry = payment->token->sequel == SANDBOX_IS_INQUIRED;

	payment->dispute_at = 0;
	if (amount > 0)
		sandbox_dispute_open(sandbox, payment, amount, inquiry ? "general" : "fraudulent", inquiry);
}

static void
notify_trial_end(Sandbox *sandbox, SandboxSubscription *subscription)
{
	subscription->trial_notice_at = 0;
	sandbox_subscription_event(sandbox, "customer.subscription.trial_will_end", subscription);
}

static void
retry(Sandbox *sandbox, SandboxInvoice *invoice)
{
	sandbox_retry(sandbox, sandbox_subscription(&sandbox->state, invoice->subscription), invoice);
}

static void
play(Sandbox *sandbox, const DueItem *item)
{
	void *object = item->object;

	switch (item->kind)
	{
		case DUE_SETTLEMENT:
			sandbox_settle_invoice(sandbox, object, ((SandboxInvoice *) object)->settle_code);
			break;
		case DUE_PAYMENT_SETTLEMENT:
			settle_payment(sandbox, object);
			break;
		case DUE_NUMBER_PAYMENT:
			sandbox_voucher_pay(sandbox, object, ((SandboxPayment *) object)->pay_amount);
			break;
		case DUE_REFUND_SETTLEMENT:
			sandbox_refund_settle(sandbox, object, !((SandboxRefund *) object)->settle_fails);
			break;
		case DUE_RETRY:
			retry(sandbox, object);
			break;
		case DUE_DISPUTE:
			dispute_payment(sandbox, object);
			break;
		case DUE_DECISION:
			sandbox_dispute_decide(sandbox, object, ((SandboxDispute *) object)->decide_won);
			break;
		case DUE_TRIAL_NOTICE:
			notify_trial_end(sandbox, object);
			break;
		case DUE_NUMBER_EXPIRY:
			sandbox_payment_end(sandbox, object, "expired");
			break;
		case DUE_SESSION_EXPIRY:
			sandbox_session_expire(sandbox, object);
			break;
		case DUE_EXPIRY:
			sandbox_expire(sandbox, object);
			break;
		case DUE_CANCELLATION:
			sandbox_cancel(sandbox, object);
			break;
		case DUE_TRIAL_END:
			sandbox_end_trial(sandbox, object);
			break;
		case DUE_PERIOD_END:
			sandbox_renew(sandbox, object);
			break;
		case DUE_RESUMPTION:
			sandbox_resume(sandbox, object);
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

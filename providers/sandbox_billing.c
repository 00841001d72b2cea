/*-------------------------------------------------------------------------
 *
 * sandbox_billing.c
 *	  How the sandbox charges: invoices, attempts, retries, and the end.
 *
 * Called by the files that know when and what to bill.  A charge is decided
 * first (sandbox_charge, which changes nothing) and takes effect afterwards
 * (sandbox_collect), so that a change of a subscription that is not paid for
 * can be refused as a whole.
 *
 * Rules of the house, where real providers leave a choice:
 *	- A delayed method (bank debit) leaves a new subscription incomplete until
 *	  its first payment is settled; it does not expire while that is under way.
 *	- A failed renewal is tried again 3, 5 and 7 days after the first failure.
 *	  A final decline keeps the dates, but the same method is not charged again.
 *	  After the last one the subscription is canceled and its invoice stays open.
 *	- A renewal that would need the customer's authentication fails, and the
 *	  customer can still authenticate it while the invoice is open.
 *	- Credit is never paid out: it waits for the next invoice.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

#include "money.h"

#define INCOMPLETE_SECONDS (23 * 60 * 60)

/* Days after the first failure. */
static const int retry_days[] = {3, 5, 7};

static void
invoice_event(Sandbox *sandbox, const char *type, const SandboxInvoice *invoice)
{
	sandbox_event(sandbox, type, sandbox_invoice_object(&sandbox->state, invoice));
}

static bool
belongs_to(const SandboxInvoice *invoice, const SandboxSubscription *subscription)
{
	return strcmp(invoice->subscription, subscription->id) == 0;
}

/* ------------------------------------------------------------------------
 * Charges
 * ------------------------------------------------------------------------
 */

SandboxMethod *
sandbox_paying_method(const Sandbox *sandbox, const SandboxSubscription *subscription)
{
	const char *id = subscription->method;

	return sandbox_method(&sandbox->state, id != NULL ? id : sandbox->state.default_method);
}

SandboxCharge
sandbox_charge(const Sandbox *sandbox, const SandboxSubscription *subscription, int64 amount,
			   bool off_session)
{
	SandboxCharge charge = {SANDBOX_CHARGE_SUCCEEDED, NULL, NULL};

	if (amount == 0)
		return charge;

	charge.method = sandbox_paying_method(sandbox, subscription);
	if (charge.method == NULL)
	{
		charge.outcome = SANDBOX_CHARGE_DECLINED;
		charge.code = "no_payment_method";
		return charge;
	}
	charge.outcome = sandbox_token_outcome(charge.method->token, charge.method->authenticated,
										   off_session);
	charge.code = charge.method->token->code;
	return charge;
}

/* ------------------------------------------------------------------------
 * Invoices
 * ------------------------------------------------------------------------
 */

/* Unique, and told apart from the numbers of a real series at first sight. */
static const char *
next_number(SandboxState *state)
{
	size_t length = strlen(state->reference);
	const char *tail = state->reference + (length > 12 ? length - 12 : 0);

	state->invoice_counter++;
	return psprintf("SBX-%s-%04lld", tail, (long long) state->invoice_counter);
}

/* Pending and amount are each far from the limits of int64: see MAX_TOTAL. */
static int64
take_pending(SandboxSubscription *subscription, int64 amount)
{
	int64 total = amount + subscription->pending;

	subscription->pending = Min(total, 0);
	return Max(total, 0);
}

SandboxInvoice *
sandbox_bill(Sandbox *sandbox, SandboxSubscription *subscription, const char *reason, int64 amount)
{
	SandboxInvoice *invoice = palloc0(sizeof(SandboxInvoice));

	invoice->id = sandbox_new_id(&sandbox->state, "in");
	invoice->subscription = subscription->id;
	invoice->currency = subscription->currency;
	invoice->billing_reason = reason;
	invoice->total = take_pending(subscription, amount);
	invoice->created = sandbox->now;
	invoice->period_start = subscription->period_start;
	invoice->period_end = subscription->period_end;
	sandbox->state.invoices = lappend(sandbox->state.invoices, invoice);
	invoice_event(sandbox, "invoice.created", invoice);

	invoice->status = SANDBOX_INVOICE_OPEN;
	invoice->number = next_number(&sandbox->state);
	invoice_event(sandbox, "invoice.finalized", invoice);
	return invoice;
}

/* Whatever was going on with the invoice is over. */
static void
end_attempt(SandboxInvoice *invoice)
{
	invoice->next_attempt_at = 0;
	invoice->needs_action = false;
	invoice->processing = false;
	invoice->settle_at = 0;
	invoice->settle_code = NULL;
}

static SandboxPayment *
payment_of(const Sandbox *sandbox, const SandboxInvoice *invoice)
{
	return sandbox_find(sandbox->state.payments, invoice->payment);
}

static void
begin_processing(Sandbox *sandbox, SandboxInvoice *invoice, const SandboxToken *token)
{
	end_attempt(invoice);
	invoice->processing = true;
	if (token->behaviour != SANDBOX_KEEPS_PROCESSING)
		invoice->settle_at = sandbox->now + sandbox_settlement_delay(token);
	if (token->behaviour == SANDBOX_BOUNCES)
		invoice->settle_code = token->code;
	invoice_event(sandbox, "invoice.updated", invoice);
}

void
sandbox_collect(Sandbox *sandbox, SandboxSubscription *subscription, SandboxInvoice *invoice,
				const SandboxCharge *charge)
{
	SandboxPayment *payment = NULL;

	if (charge->method != NULL)
	{
		invoice->attempt_count++;
		invoice->method = charge->method->id;
		payment = sandbox_payment_of_invoice(sandbox, invoice, charge->method);
	}

	switch (charge->outcome)
	{
		case SANDBOX_CHARGE_SUCCEEDED:
			sandbox_pay(sandbox, subscription, invoice);
			break;
		case SANDBOX_CHARGE_DECLINED:
			sandbox_fail(sandbox, subscription, invoice, charge->code);
			break;
		case SANDBOX_CHARGE_PROCESSING:
			sandbox_payment_wait(sandbox, payment, true);
			begin_processing(sandbox, invoice, charge->method->token);
			break;
		case SANDBOX_CHARGE_NEEDS_ACTION:
			sandbox_payment_wait(sandbox, payment, false);
			invoice->needs_action = true;
			invoice_event(sandbox, "invoice.payment_action_required", invoice);
			sandbox_await_buyer(sandbox, subscription);
			break;
	}
}

void
sandbox_await_buyer(Sandbox *sandbox, SandboxSubscription *subscription)
{
	subscription->expires_at = sandbox->now + INCOMPLETE_SECONDS;
}

/* ------------------------------------------------------------------------
 * Success
 * ------------------------------------------------------------------------
 */

bool
sandbox_is_behind(const Sandbox *sandbox, const SandboxSubscription *subscription)
{
	ListCell *cell;

	foreach (cell, sandbox->state.invoices)
	{
		SandboxInvoice *invoice = lfirst(cell);

		if (belongs_to(invoice, subscription) && invoice->status == SANDBOX_INVOICE_OPEN &&
			invoice->first_failed_at != 0)
			return true;
	}
	return false;
}

void
sandbox_pay(Sandbox *sandbox, SandboxSubscription *subscription, SandboxInvoice *invoice)
{
	SandboxPayment *payment = payment_of(sandbox, invoice);

	end_attempt(invoice);
	invoice->failure_code = NULL;
	if (payment != NULL)
		sandbox_payment_receive(sandbox, payment, invoice->total);
	invoice->status = SANDBOX_INVOICE_PAID;
	invoice->paid_at = sandbox->now;
	invoice_event(sandbox, "invoice.paid", invoice);

	if (subscription->status == SANDBOX_INCOMPLETE ||
		(subscription->status == SANDBOX_PAST_DUE && !sandbox_is_behind(sandbox, subscription)))
	{
		subscription->status = SANDBOX_ACTIVE;
		subscription->expires_at = 0;
		sandbox_subscription_event(sandbox, "customer.subscription.updated", subscription);
		sandbox_session_follow_subscription(sandbox, subscription);
	}
}

/* ------------------------------------------------------------------------
 * Failure
 * ------------------------------------------------------------------------
 */

/* The next date of the retry schedule, 0 after the last. */
static int64
next_retry(const Sandbox *sandbox, const SandboxInvoice *invoice)
{
	for (size_t i = 0; i < lengthof(retry_days); i++)
	{
		int64 at = invoice->first_failed_at + retry_days[i] * PERIOD_SECONDS_PER_DAY;

		if (at > sandbox->now)
			return at;
	}
	return 0;
}

/* After a failure: behind with payment, or given up. */
static void
continue_dunning(Sandbox *sandbox, SandboxSubscription *subscription, const SandboxInvoice *invoice)
{
	if (invoice->next_attempt_at == 0)
		sandbox_cancel(sandbox, subscription);
	else if (subscription->status == SANDBOX_ACTIVE)
	{
		subscription->status = SANDBOX_PAST_DUE;
		sandbox_subscription_event(sandbox, "customer.subscription.updated", subscription);
	}
}

void
sandbox_fail(Sandbox *sandbox, SandboxSubscription *subscription, SandboxInvoice *invoice,
			 const char *code)
{
	bool dunned = subscription->status == SANDBOX_ACTIVE ||
				  subscription->status == SANDBOX_PAST_DUE;
	SandboxPayment *payment = payment_of(sandbox, invoice);

	end_attempt(invoice);
	if (payment != NULL && payment->status != SANDBOX_PAYMENT_FAILED)
		sandbox_payment_fail(sandbox, payment, code);
	invoice->failure_code = code;
	invoice->needs_action = strcmp(code, "authentication_required") == 0;
	if (invoice->first_failed_at == 0)
		invoice->first_failed_at = sandbox->now;
	if (dunned)
		invoice->next_attempt_at = next_retry(sandbox, invoice);

	invoice_event(sandbox, "invoice.payment_failed", invoice);
	if (invoice->needs_action)
		invoice_event(sandbox, "invoice.payment_action_required", invoice);

	if (dunned)
		continue_dunning(sandbox, subscription, invoice);
	else if (subscription->status == SANDBOX_INCOMPLETE)
		sandbox_await_buyer(sandbox, subscription);
}

void
sandbox_retry(Sandbox *sandbox, SandboxSubscription *subscription, SandboxInvoice *invoice)
{
	SandboxMethod *method = sandbox_paying_method(sandbox, subscription);
	SandboxCharge charge;

	if (method != NULL && invoice->method != NULL && strcmp(method->id, invoice->method) == 0 &&
		sandbox_decline_is_final(invoice->failure_code))
	{
		invoice->next_attempt_at = next_retry(sandbox, invoice);
		invoice_event(sandbox, "invoice.updated", invoice);
		continue_dunning(sandbox, subscription, invoice);
		return;
	}
	charge = sandbox_charge(sandbox, subscription, invoice->total, true);
	sandbox_collect(sandbox, subscription, invoice, &charge);
}

/* ------------------------------------------------------------------------
 * The end
 * ------------------------------------------------------------------------
 */

/* A payment that was begun ends with its invoice. */
static void
end_payment(Sandbox *sandbox, const SandboxInvoice *invoice)
{
	SandboxPayment *payment = payment_of(sandbox, invoice);

	if (payment != NULL)
		sandbox_payment_end(sandbox, payment, "void_invoice");
}

/*
 * Nothing more is tried for the open invoices of a subscription that ended.
 * What is being processed goes on: the money is on its way.
 */
static void
stop_collecting(Sandbox *sandbox, const SandboxSubscription *subscription, bool make_void)
{
	ListCell *cell;

	foreach (cell, sandbox->state.invoices)
	{
		SandboxInvoice *invoice = lfirst(cell);
		bool scheduled = invoice->next_attempt_at != 0;

		if (!belongs_to(invoice, subscription) || invoice->status != SANDBOX_INVOICE_OPEN ||
			invoice->processing)
			continue;

		end_attempt(invoice);
		if (make_void)
		{
			end_payment(sandbox, invoice);
			invoice->status = SANDBOX_INVOICE_VOID;
		}
		if (make_void || scheduled)
			invoice_event(sandbox, make_void ? "invoice.voided" : "invoice.updated", invoice);
	}
}

void
sandbox_stop_retries(Sandbox *sandbox, const SandboxSubscription *subscription)
{
	stop_collecting(sandbox, subscription, false);
}

void
sandbox_close_invoice(Sandbox *sandbox, SandboxInvoice *invoice, SandboxInvoiceStatus status,
					  const char *event)
{
	end_attempt(invoice);
	if (status == SANDBOX_INVOICE_VOID)
		end_payment(sandbox, invoice);
	invoice->status = status;
	invoice_event(sandbox, event, invoice);
}

void
sandbox_cancel(Sandbox *sandbox, SandboxSubscription *subscription)
{
	bool incomplete = subscription->status == SANDBOX_INCOMPLETE;

	subscription->status = SANDBOX_CANCELED;
	subscription->ended_at = sandbox->now;
	if (subscription->canceled_at == 0)
		subscription->canceled_at = sandbox->now;
	stop_collecting(sandbox, subscription, incomplete);
	sandbox_subscription_event(sandbox, "customer.subscription.deleted", subscription);
	sandbox_session_follow_subscription(sandbox, subscription);
}

void
sandbox_expire(Sandbox *sandbox, SandboxSubscription *subscription)
{
	subscription->status = SANDBOX_INCOMPLETE_EXPIRED;
	subscription->ended_at = sandbox->now;
	stop_collecting(sandbox, subscription, true);
	sandbox_subscription_event(sandbox, "customer.subscription.updated", subscription);
	sandbox_session_follow_subscription(sandbox, subscription);
}

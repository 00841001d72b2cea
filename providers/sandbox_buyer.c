/*-------------------------------------------------------------------------
 *
 * sandbox_buyer.c
 *	  The buyer of the sandbox, and his bank: EmbeddedProvider.act.
 *
 * What a person does in a browser, at a till or with the bank, for tests.  Each
 * action says what it is about by the provider's id or our reference, and is
 * refused with a sentence when there is nothing to do.  What follows of an
 * action is told by webhooks, as if it had happened by itself.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

/* ------------------------------------------------------------------------
 * 3-D Secure
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

static SandboxSubscription *
find_subscription(const SandboxState *state, const char *reference)
{
	SandboxSubscription *subscription = sandbox_subscription(state, reference);

	return subscription != NULL ? subscription
								: sandbox_subscription_by_reference(state, reference);
}

static const char *
authenticate_invoice(Sandbox *sandbox, SandboxInvoice *invoice, bool success)
{
	SandboxMethod *method;

	if (invoice == NULL || !invoice->needs_action)
		return "no payment of this subscription waits for an authentication";
	method = sandbox_method(&sandbox->state, invoice->method);
	if (success && method != NULL)
		method->authenticated = true;
	sandbox_settle_invoice(sandbox, invoice,
						   success ? NULL : "payment_intent_authentication_failure");
	return NULL;
}

static const char *
authenticate_payment(Sandbox *sandbox, SandboxPayment *payment, bool success)
{
	if (payment->invoice != NULL)
		return authenticate_invoice(sandbox, sandbox_invoice(&sandbox->state, payment->invoice),
									success);
	if (payment->status != SANDBOX_PAYMENT_REQUIRES_ACTION || payment->number != NULL ||
		payment->microdeposits)
		return "the payment does not wait for an authentication";
	if (success)
		sandbox_payment_authenticated(sandbox, payment);
	else
		sandbox_payment_fail(sandbox, payment, "payment_intent_authentication_failure");
	return NULL;
}

static const char *
authenticate(Sandbox *sandbox, const char *reference, const Jsonb *arguments)
{
	bool success = json_bool(arguments, "success", true);
	SandboxSubscription *subscription = find_subscription(&sandbox->state, reference);
	SandboxPayment *payment = sandbox_find(sandbox->state.payments, reference);
	SandboxSetup *setup = sandbox_find(sandbox->state.setups, reference);

	if (subscription != NULL)
		return authenticate_invoice(sandbox, waiting_invoice(&sandbox->state, subscription, false),
									success);
	if (payment != NULL)
		return authenticate_payment(sandbox, payment, success);
	if (setup == NULL)
		return "the sandbox has no such payment";
	if (setup->status != SANDBOX_PAYMENT_REQUIRES_ACTION)
		return "the setup does not wait for an authentication";
	sandbox_setup_authenticated(sandbox, setup, success);
	return NULL;
}

/* ------------------------------------------------------------------------
 * Settlement
 * ------------------------------------------------------------------------
 */

/* A failure without a reason of its own has one that allows another try. */
static const char *
failure_code(const char *settle_code, bool succeeded)
{
	if (succeeded)
		return NULL;
	return settle_code != NULL ? settle_code : "processing_error";
}

static const char *
settle_invoice(Sandbox *sandbox, SandboxInvoice *invoice, bool succeeded)
{
	if (invoice == NULL || !invoice->processing)
		return "no payment of this subscription is being processed";
	sandbox_settle_invoice(sandbox, invoice, failure_code(invoice->settle_code, succeeded));
	return NULL;
}

static const char *
settle_payment(Sandbox *sandbox, SandboxPayment *payment, bool succeeded)
{
	if (payment->invoice != NULL)
		return settle_invoice(sandbox, sandbox_invoice(&sandbox->state, payment->invoice),
							  succeeded);
	if (payment->status != SANDBOX_PAYMENT_PROCESSING)
		return "the payment is not being processed";
	if (succeeded)
		sandbox_payment_receive(sandbox, payment, payment->amount);
	else
		sandbox_payment_fail(sandbox, payment, failure_code(payment->settle_code, false));
	return NULL;
}

/* A refund that succeeded can still fail; one that failed stays so. */
static const char *
settle_refund(Sandbox *sandbox, SandboxRefund *refund, bool succeeded)
{
	if (refund->status != SANDBOX_REFUND_PENDING &&
		(succeeded || refund->status != SANDBOX_REFUND_SUCCEEDED))
		return "the refund is not pending";
	sandbox_refund_settle(sandbox, refund, succeeded);
	return NULL;
}

static const char *
settle(Sandbox *sandbox, const char *reference, const Jsonb *arguments)
{
	const char *outcome = json_text(arguments, "outcome");
	bool succeeded = sandbox_text_is(outcome, "succeeded");
	SandboxSubscription *subscription = find_subscription(&sandbox->state, reference);
	SandboxPayment *payment = sandbox_find(sandbox->state.payments, reference);
	SandboxRefund *refund = sandbox_find(sandbox->state.refunds, reference);

	if (!succeeded && !sandbox_text_is(outcome, "failed"))
		return "the outcome is \"succeeded\" or \"failed\"";
	if (subscription != NULL)
		return settle_invoice(sandbox, waiting_invoice(&sandbox->state, subscription, true),
							  succeeded);
	if (payment != NULL)
		return settle_payment(sandbox, payment, succeeded);
	if (refund != NULL)
		return settle_refund(sandbox, refund, succeeded);
	return "the sandbox has no such payment";
}

/* ------------------------------------------------------------------------
 * Checkout, and numbers to pay to
 * ------------------------------------------------------------------------
 */

static const char *
complete_checkout(Sandbox *sandbox, const char *reference, const Jsonb *arguments)
{
	SandboxSession *session = sandbox_find(sandbox->state.sessions, reference);

	if (session == NULL)
		return "the sandbox has no such checkout session";
	return sandbox_session_complete(sandbox, session, json_text(arguments, "payment_method"));
}

static SandboxPayment *
payment_by_number(const SandboxState *state, const char *number)
{
	ListCell *cell;

	foreach (cell, state->payments)
	{
		SandboxPayment *payment = lfirst(cell);

		if (sandbox_text_is(payment->number, number))
			return payment;
	}
	return NULL;
}

static SandboxMethod *
method_by_number(const SandboxState *state, const char *number)
{
	ListCell *cell;

	foreach (cell, state->methods)
	{
		SandboxMethod *method = lfirst(cell);

		if (sandbox_text_is(method->number, number))
			return method;
	}
	return NULL;
}

/* By the number, as at the till; without an amount the rest of what is asked for. */
static const char *
pay_reference(Sandbox *sandbox, const char *number, const Jsonb *arguments)
{
	SandboxPayment *payment = payment_by_number(&sandbox->state, number);
	SandboxMethod *method = method_by_number(&sandbox->state, number);
	int64 amount = 0;

	if (payment != NULL)
		amount = Max(payment->amount - payment->amount_received, 0);
	if (!sandbox_take_int(arguments, "amount", &amount) || amount < 1)
		return "there is no amount to pay: say how much";
	if (payment != NULL)
		sandbox_voucher_pay(sandbox, payment, amount);
	else if (method != NULL)
		sandbox_number_pay(sandbox, method, amount);
	else
		return "nobody has given out this number";
	return NULL;
}

static const char *
expire(Sandbox *sandbox, const char *reference, const Jsonb *arguments)
{
	SandboxSession *session = sandbox_find(sandbox->state.sessions, reference);
	SandboxPayment *payment = sandbox_find(sandbox->state.payments, reference);
	SandboxSubscription *subscription = find_subscription(&sandbox->state, reference);

	if (session != NULL && session->status == SANDBOX_SESSION_OPEN)
		sandbox_session_expire(sandbox, session);
	else if (payment != NULL && payment->status == SANDBOX_PAYMENT_REQUIRES_ACTION)
	{
		payment->pay_at = 0;
		sandbox_payment_end(sandbox, payment, "expired");
	}
	else if (subscription != NULL && subscription->status == SANDBOX_INCOMPLETE)
		sandbox_expire(sandbox, subscription);
	else
		return "nothing of it can expire";
	return NULL;
}

/* ------------------------------------------------------------------------
 * Disputes
 * ------------------------------------------------------------------------
 */

static const char *
dispute(Sandbox *sandbox, const char *reference, const Jsonb *arguments)
{
	SandboxPayment *payment = sandbox_find(sandbox->state.payments, reference);
	const char *reason = json_text(arguments, "reason");
	int64 rest;
	int64 amount;

	if (payment == NULL)
		return "the sandbox has no such payment";
	rest = sandbox_refundable(&sandbox->state, payment);
	amount = rest;
	if (rest < 1)
		return "nothing of the payment is left to dispute";
	if (!sandbox_take_int(arguments, "amount", &amount) || amount < 1 || amount > rest)
		return psprintf("the amount is not between 1 and %lld, what is left of the payment",
						(long long) rest);
	sandbox_dispute_open(sandbox, payment, amount, reason != NULL ? reason : "fraudulent", false);
	return NULL;
}

static const char *
resolve_dispute(Sandbox *sandbox, const char *reference, const Jsonb *arguments)
{
	SandboxDispute *found = sandbox_find(sandbox->state.disputes, reference);

	if (found == NULL)
		return "the sandbox has no such dispute";
	if (sandbox_dispute_is_over(found))
		return "the dispute is decided already";
	sandbox_dispute_decide(sandbox, found, sandbox_text_is(json_text(arguments, "outcome"), "won"));
	return NULL;
}

/* ------------------------------------------------------------------------
 * All of it
 * ------------------------------------------------------------------------
 */

typedef const char *(*Action)(Sandbox *sandbox, const char *reference, const Jsonb *arguments);

static const struct
{
	const char *name;
	Action action;
} actions[] = {
	{"authenticate", authenticate},
	{"settle", settle},
	{"complete_checkout", complete_checkout},
	{"pay_reference", pay_reference},
	{"expire", expire},
	{"dispute", dispute},
	{"resolve_dispute", resolve_dispute},
};

void
sandbox_act(EmbeddedExchange *exchange, const char *action, const char *reference,
			const Jsonb *arguments)
{
	Sandbox sandbox;

	sandbox_open(&sandbox, exchange);
	exchange->refused = "the sandbox knows no such action";
	for (size_t i = 0; i < lengthof(actions); i++)
	{
		if (strcmp(actions[i].name, action) == 0)
			exchange->refused = actions[i].action(&sandbox, reference, arguments);
	}
	sandbox_close(&sandbox, exchange);
}

/*-------------------------------------------------------------------------
 *
 * sandbox_refunds.c
 *	  Refunds of the sandbox.
 *
 * Called by sandbox_perform.c for requests, by sandbox_clock.c and
 * sandbox_buyer.c when a refund that takes time is over.  Cards get their
 * money at once, unless the token says otherwise; a debit of a bank account
 * takes as long as the debit took; what was paid with cash or by a transfer
 * waits for the buyer to say where the money shall go (sandbox_settle()).
 * The payment counts what has been given back, not what is on its way.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox_fees.h"

static SandboxPayment *
payment_of(const SandboxState *state, const SandboxRefund *refund)
{
	return sandbox_find(state->payments, refund->payment);
}

static void
refund_event(Sandbox *sandbox, const char *type, const SandboxRefund *refund)
{
	sandbox_event(sandbox, type, sandbox_refund_object(&sandbox->state, refund));
}

/* The refund first: what is given back is known before the payment says so. */
static void
reply_refund(const Sandbox *sandbox, const SandboxRefund *refund, SandboxReply *reply)
{
	SandboxPayment *payment = payment_of(&sandbox->state, refund);

	sandbox_reply_object(reply, sandbox_refund_object(&sandbox->state, refund));
	if (payment != NULL)
		sandbox_reply_object(reply, sandbox_payment_object(&sandbox->state, payment));
}

/* ------------------------------------------------------------------------
 * Amounts
 * ------------------------------------------------------------------------
 */

int64
sandbox_refundable(const SandboxState *state, const SandboxPayment *payment)
{
	int64 rest = payment->amount_received;
	ListCell *cell;

	foreach (cell, state->refunds)
	{
		SandboxRefund *refund = lfirst(cell);

		if (strcmp(refund->payment, payment->record.id) == 0 &&
			(refund->status == SANDBOX_REFUND_PENDING ||
			 refund->status == SANDBOX_REFUND_SUCCEEDED))
			rest -= refund->amount;
	}
	foreach (cell, state->disputes)
	{
		SandboxDispute *dispute = lfirst(cell);

		if (strcmp(dispute->payment, payment->record.id) == 0 && dispute->withdrawn &&
			!dispute->reinstated)
			rest -= dispute->amount;
	}
	return rest;
}

/* ------------------------------------------------------------------------
 * What becomes of it
 * ------------------------------------------------------------------------
 */

static void
give_back(Sandbox *sandbox, SandboxRefund *refund)
{
	SandboxPayment *payment = payment_of(&sandbox->state, refund);

	refund->status = SANDBOX_REFUND_SUCCEEDED;
	refund->requires_action = false;
	refund->fee = sandbox_fee_of(sandbox, "refund", refund->currency);
	if (payment != NULL)
		payment->amount_refunded += refund->amount;
}

void
sandbox_refund_settle(Sandbox *sandbox, SandboxRefund *refund, bool succeeded)
{
	SandboxPayment *payment = payment_of(&sandbox->state, refund);
	bool given = refund->status == SANDBOX_REFUND_SUCCEEDED;

	refund->settle_at = 0;
	refund->settle_fails = false;
	if (succeeded)
		give_back(sandbox, refund);
	else
	{
		refund->status = SANDBOX_REFUND_FAILED;
		refund->requires_action = false;
		refund->error_code = "expired_or_canceled_card";
		if (given && payment != NULL)
			payment->amount_refunded -= refund->amount;
	}
	refund_event(sandbox, succeeded ? "refund.updated" : "refund.failed", refund);
	if (payment != NULL && (succeeded || given))
		sandbox_payment_event(sandbox, "charge.refunded", payment);
}

/* Status of a new refund, and what will happen to it. */
static void
begin(Sandbox *sandbox, const SandboxPayment *payment, SandboxRefund *refund)
{
	int64 delay = payment->token == NULL ? 0 : sandbox_settlement_delay(payment->token);
	SandboxSequel sequel = payment->token == NULL ? SANDBOX_STAYS_PAID : payment->token->sequel;

	if (sandbox_is_voucher(payment->kind))
		refund->requires_action = true;
	else if (sequel == SANDBOX_REFUNDS_PEND)
		refund->settle_at = sandbox->now + PERIOD_SECONDS_PER_DAY;
	else if (delay != 0)
		refund->settle_at = sandbox->now + delay;
	else
		give_back(sandbox, refund);
	if (sequel == SANDBOX_REFUNDS_FAIL)
	{
		refund->settle_at = sandbox->now + PERIOD_SECONDS_PER_DAY;
		refund->settle_fails = true;
	}
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

static const char *
reason_to_refuse(const SandboxState *state, const SandboxPayment *payment, const Jsonb *arguments,
				 int64 *amount)
{
	int64 rest = sandbox_refundable(state, payment);

	if (json_text(arguments, "reference") == NULL)
		return "parameter_invalid";
	if (payment->amount_received == 0)
		return "payment_intent_unexpected_state";
	*amount = rest;
	if (!sandbox_take_int(arguments, "amount", amount))
		return "parameter_invalid";
	if (rest <= 0)
		return "charge_already_refunded";
	return *amount < 1 || *amount > rest ? "amount_too_large" : NULL;
}

void
sandbox_refund_create(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxPayment *payment = sandbox_requested(sandbox->state.payments, arguments,
												"payment_intent", reply);
	SandboxRefund *refund;
	const char *refusal;
	int64 amount;

	if (payment == NULL)
		return;
	refusal = reason_to_refuse(&sandbox->state, payment, arguments, &amount);
	if (refusal != NULL)
	{
		sandbox_refuse(reply, 400, refusal);
		return;
	}

	refund = palloc0(sizeof(SandboxRefund));
	refund->record.id = sandbox_new_id(&sandbox->state, "re");
	refund->record.reference = json_text(arguments, "reference");
	refund->payment = payment->record.id;
	refund->charge = payment->charge;
	refund->amount = amount;
	refund->currency = payment->currency;
	refund->reason = json_text(arguments, "reason");
	refund->created = sandbox->now;
	begin(sandbox, payment, refund);
	sandbox->state.refunds = lappend(sandbox->state.refunds, refund);
	refund_event(sandbox, "refund.created", refund);
	if (refund->status == SANDBOX_REFUND_SUCCEEDED)
		sandbox_payment_event(sandbox, "charge.refunded", payment);
	reply_refund(sandbox, refund, reply);
}

void
sandbox_refund_cancel(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxRefund *refund = sandbox_requested(sandbox->state.refunds, arguments, "refund", reply);

	if (refund == NULL)
		return;
	if (refund->status != SANDBOX_REFUND_PENDING)
	{
		sandbox_refuse(reply, 400, "refund_unexpected_state");
		return;
	}
	refund->status = SANDBOX_REFUND_CANCELED;
	refund->requires_action = false;
	refund->settle_at = 0;
	refund_event(sandbox, "refund.updated", refund);
	reply_refund(sandbox, refund, reply);
}

void
sandbox_refund_fetch(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxRefund *refund = sandbox_requested(sandbox->state.refunds, arguments, "refund", reply);

	if (refund != NULL)
		reply_refund(sandbox, refund, reply);
}

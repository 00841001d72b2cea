/*-------------------------------------------------------------------------
 *
 * sandbox_invoices.c
 *	  What requests do to an invoice of the sandbox, or ask about it.
 *
 * Called by sandbox_perform.c; how invoices come to be and are charged by
 * themselves is in sandbox_billing.c.  An invoice is finalised as soon as it
 * is made, so that finalising one again is always refused.  A payment that is
 * asked for is off session: what the buyer would have to authenticate fails,
 * and he can still do so afterwards.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

static SandboxInvoice *
requested_invoice(const Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxInvoice *invoice = sandbox_invoice(&sandbox->state, json_text(arguments, "invoice"));

	if (invoice == NULL)
		sandbox_refuse(reply, 404, "resource_missing");
	return invoice;
}

/* One for which nothing is under way. */
static SandboxInvoice *
open_invoice(const Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxInvoice *invoice = requested_invoice(sandbox, arguments, reply);

	if (invoice == NULL)
		return NULL;
	if (invoice->status != SANDBOX_INVOICE_OPEN || invoice->processing)
	{
		sandbox_refuse(reply, 400,
					   invoice->processing ? "invoice_payment_processing" : "invoice_not_open");
		return NULL;
	}
	return invoice;
}

/* ------------------------------------------------------------------------
 * Paying
 * ------------------------------------------------------------------------
 */

/* By the method named, which is used this once, else by that of the subscription. */
static bool
charge_invoice(Sandbox *sandbox, const Jsonb *arguments, const SandboxInvoice *invoice,
			   SandboxCharge *charge, SandboxReply *reply)
{
	SandboxSubscription *subscription = sandbox_subscription(&sandbox->state,
															 invoice->subscription);
	SandboxSubscription payer = *subscription;

	if (json_has(arguments, "payment_method"))
	{
		payer.method = json_text(arguments, "payment_method");
		if (payer.method == NULL || sandbox_method(&sandbox->state, payer.method) == NULL)
		{
			sandbox_refuse(reply, 404, "resource_missing");
			return false;
		}
	}
	*charge = sandbox_charge(sandbox, &payer, invoice->total, true);
	return true;
}

static void
pay(Sandbox *sandbox, const Jsonb *arguments, SandboxInvoice *invoice, SandboxReply *reply)
{
	SandboxSubscription *subscription = sandbox_subscription(&sandbox->state,
															 invoice->subscription);
	SandboxCharge charge;

	if (!charge_invoice(sandbox, arguments, invoice, &charge, reply))
		return;
	sandbox_collect(sandbox, subscription, invoice, &charge);
	if (charge.outcome == SANDBOX_CHARGE_DECLINED)
		sandbox_decline(reply, charge.code);
	sandbox_reply_invoice(sandbox, invoice, reply);
	sandbox_reply_subscription(sandbox, subscription, reply);
}

void
sandbox_invoice_pay(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxInvoice *invoice = open_invoice(sandbox, arguments, reply);

	if (invoice != NULL)
		pay(sandbox, arguments, invoice, reply);
}

/* The oldest invoice of the subscription that is open and not being paid. */
static SandboxInvoice *
oldest_open(const SandboxState *state, const SandboxSubscription *subscription)
{
	ListCell *cell;

	foreach (cell, state->invoices)
	{
		SandboxInvoice *invoice = lfirst(cell);

		if (strcmp(invoice->subscription, subscription->id) == 0 &&
			invoice->status == SANDBOX_INVOICE_OPEN && !invoice->processing)
			return invoice;
	}
	return NULL;
}

void
sandbox_subscription_retry(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxSubscription *subscription = sandbox_requested_subscription(sandbox, arguments, reply);
	SandboxInvoice *invoice;

	if (subscription == NULL)
		return;
	if (json_has(arguments, "invoice"))
		invoice = open_invoice(sandbox, arguments, reply);
	else
	{
		invoice = oldest_open(&sandbox->state, subscription);
		if (invoice == NULL)
			sandbox_refuse(reply, 400, "nothing_to_pay");
	}
	if (invoice != NULL)
		pay(sandbox, arguments, invoice, reply);
}

/* ------------------------------------------------------------------------
 * Closing
 * ------------------------------------------------------------------------
 */

void
sandbox_invoice_void(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxInvoice *invoice = open_invoice(sandbox, arguments, reply);

	if (invoice == NULL)
		return;
	sandbox_close_invoice(sandbox, invoice, SANDBOX_INVOICE_VOID, "invoice.voided");
	sandbox_reply_invoice(sandbox, invoice, reply);
}

void
sandbox_invoice_give_up(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxInvoice *invoice = open_invoice(sandbox, arguments, reply);

	if (invoice == NULL)
		return;
	sandbox_close_invoice(sandbox, invoice, SANDBOX_INVOICE_UNCOLLECTIBLE,
						  "invoice.marked_uncollectible");
	sandbox_reply_invoice(sandbox, invoice, reply);
}

void
sandbox_invoice_finalize(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	if (requested_invoice(sandbox, arguments, reply) != NULL)
		sandbox_refuse(reply, 400, "invoice_not_draft");
}

/* ------------------------------------------------------------------------
 * Questions
 * ------------------------------------------------------------------------
 */

void
sandbox_invoice_fetch(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxInvoice *invoice = requested_invoice(sandbox, arguments, reply);

	if (invoice != NULL)
		sandbox_reply_invoice(sandbox, invoice, reply);
}

void
sandbox_invoice_list(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	const char *subscription = json_text(arguments, "subscription");
	ListCell *cell;

	foreach (cell, sandbox->state.invoices)
	{
		SandboxInvoice *invoice = lfirst(cell);

		if (subscription == NULL || strcmp(invoice->subscription, subscription) == 0)
			sandbox_reply_invoice(sandbox, invoice, reply);
	}
}

/* One that is over can be asked about, too. */
void
sandbox_subscription_fetch(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxSubscription *subscription = sandbox_subscription(&sandbox->state,
															 json_text(arguments, "subscription"));

	if (subscription == NULL)
		sandbox_refuse(reply, 404, "resource_missing");
	else
		sandbox_reply_subscription(sandbox, subscription, reply);
}

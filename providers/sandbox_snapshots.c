/*-------------------------------------------------------------------------
 *
 * sandbox_snapshots.c
 *	  What the objects of the sandbox say, in our words.
 *
 * Called by sandbox.c for answers and for events, which hold the same objects.
 * The far side uses our words already, so that there is nothing to map.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

static bool
is_text(const Jsonb *object, const char *key, const char *wanted)
{
	return sandbox_text_is(json_text(object, key), wanted);
}

static int64
read_amount(const Jsonb *object, const char *key)
{
	int64 amount;

	return json_int(object, key, &amount) ? amount : NO_AMOUNT;
}

static int64
read_number(const Jsonb *object, const char *key)
{
	int64 number;

	return json_int(object, key, &number) ? number : 0;
}

/* Told with its currency only; of nothing there is no number. */
static FeeSnapshot
read_fee(const Jsonb *object)
{
	return (FeeSnapshot){read_number(object, "fee"), json_text(object, "fee_currency")};
}

static void
read_customer(const Jsonb *object, ProviderSnapshot *snapshot)
{
	snapshot->deleted = json_bool(object, "deleted", false);
	snapshot->terminal = snapshot->deleted;
	snapshot->customer.default_payment_method = json_text(object, "default_payment_method");
}

/* A detached method cannot be attached again. */
static void
read_payment_method(const Jsonb *object, ProviderSnapshot *snapshot)
{
	PaymentMethodSnapshot *method = &snapshot->payment_method;

	method->customer = json_text(object, "customer");
	method->type = json_text(object, "type");
	method->brand = json_text(object, "brand");
	method->last4 = json_text(object, "last4");
	method->exp_month = (int) read_number(object, "exp_month");
	method->exp_year = (int) read_number(object, "exp_year");
	method->is_default = json_bool(object, "is_default", false);
	method->reference = json_part(object, "number");
	snapshot->deleted = method->customer == NULL;
	snapshot->terminal = snapshot->deleted;
}

static void
read_subscription(const Jsonb *object, ProviderSnapshot *snapshot)
{
	SubscriptionSnapshot *subscription = &snapshot->subscription;

	snapshot->terminal = is_text(object, "status", "canceled") ||
						 is_text(object, "status", "incomplete_expired");
	subscription->customer = json_text(object, "customer");
	subscription->price = json_text(object, "price");
	subscription->status = json_text(object, "status");
	subscription->provider_status = subscription->status;
	subscription->quantity = read_number(object, "quantity");
	subscription->currency = json_text(object, "currency");
	subscription->current_period_start = json_unix_time(object, "current_period_start");
	subscription->current_period_end = json_unix_time(object, "current_period_end");
	subscription->trial_start = json_unix_time(object, "trial_start");
	subscription->trial_end = json_unix_time(object, "trial_end");
	subscription->cancel_at_period_end = json_bool(object, "cancel_at_period_end", false);
	subscription->cancel_at = json_unix_time(object, "cancel_at");
	subscription->canceled_at = json_unix_time(object, "canceled_at");
	subscription->ended_at = json_unix_time(object, "ended_at");
	subscription->created_at = json_unix_time(object, "created");
	subscription->payment_method = json_text(object, "payment_method");
	subscription->pause_at_period_end = json_bool(object, "pause_at_period_end", false);
	subscription->resumes_at = json_unix_time(object, "resumes_at");
	subscription->client_secret = json_text(object, "client_secret");
}

static void
read_invoice(const Jsonb *object, ProviderSnapshot *snapshot)
{
	InvoiceSnapshot *invoice = &snapshot->invoice;

	snapshot->terminal = is_text(object, "status", "paid") || is_text(object, "status", "void");
	invoice->customer = json_text(object, "customer");
	invoice->subscription = json_text(object, "subscription");
	invoice->number = json_text(object, "number");
	invoice->status = json_text(object, "status");
	invoice->currency = json_text(object, "currency");
	invoice->total = read_amount(object, "total");
	invoice->tax = read_amount(object, "tax");
	invoice->amount_due = read_amount(object, "amount_due");
	invoice->amount_paid = read_amount(object, "amount_paid");
	invoice->amount_remaining = read_amount(object, "amount_remaining");
	invoice->billing_reason = json_text(object, "billing_reason");
	invoice->attempt_count = (int) read_number(object, "attempt_count");
	invoice->period_start = json_unix_time(object, "period_start");
	invoice->period_end = json_unix_time(object, "period_end");
	invoice->paid_at = json_unix_time(object, "paid_at");
	invoice->next_attempt_at = json_unix_time(object, "next_attempt_at");
	invoice->created_at = json_unix_time(object, "created");
	invoice->payment_intent = json_text(object, "payment_intent");
	invoice->hosted_url = json_text(object, "hosted_url");
	invoice->pdf_url = json_text(object, "pdf_url");
}

static void
read_setup_intent(const Jsonb *object, ProviderSnapshot *snapshot)
{
	SetupIntentSnapshot *setup = &snapshot->setup_intent;

	setup->customer = json_text(object, "customer");
	setup->status = json_text(object, "status");
	setup->provider_status = setup->status;
	setup->payment_method = json_text(object, "payment_method");
	setup->client_secret = json_text(object, "client_secret");
	setup->next_action = json_part(object, "next_action");
	setup->error_code = json_text(object, "error_code");
	snapshot->terminal = is_text(object, "status", "succeeded") ||
						 is_text(object, "status", "canceled");
}

static void
read_payment_intent(const Jsonb *object, ProviderSnapshot *snapshot)
{
	PaymentIntentSnapshot *intent = &snapshot->payment_intent;

	intent->customer = json_text(object, "customer");
	intent->status = json_text(object, "status");
	intent->provider_status = intent->status;
	intent->currency = json_text(object, "currency");
	intent->amount = read_amount(object, "amount");
	intent->amount_capturable = read_amount(object, "amount_capturable");
	intent->amount_received = read_amount(object, "amount_received");
	intent->amount_refunded = read_amount(object, "amount_refunded");
	intent->method = json_text(object, "method");
	intent->payment_method = json_text(object, "payment_method");
	intent->charge = json_text(object, "charge");
	intent->client_secret = json_text(object, "client_secret");
	intent->next_action = json_part(object, "next_action");
	intent->expires_at = json_unix_time(object, "expires_at");
	intent->installments = (int) read_number(object, "installments");
	intent->error_code = json_text(object, "error_code");
	intent->decline_code = json_text(object, "decline_code");
	intent->cancellation_reason = json_text(object, "cancellation_reason");
	intent->invoice = json_text(object, "invoice");
	intent->subscription = json_text(object, "subscription");
	intent->checkout_session = json_text(object, "checkout_session");
	intent->paid_at = json_unix_time(object, "paid_at");
	intent->created_at = json_unix_time(object, "created");
	intent->fee = read_fee(object);
	snapshot->terminal = is_text(object, "status", "succeeded") ||
						 is_text(object, "status", "canceled");
}

/* One that has succeeded can still fail. */
static void
read_refund(const Jsonb *object, ProviderSnapshot *snapshot)
{
	RefundSnapshot *refund = &snapshot->refund;

	refund->payment_intent = json_text(object, "payment_intent");
	refund->charge = json_text(object, "charge");
	refund->status = json_text(object, "status");
	refund->requires_action = json_bool(object, "requires_action", false);
	refund->currency = json_text(object, "currency");
	refund->amount = read_amount(object, "amount");
	refund->reason = json_text(object, "reason");
	refund->error_code = json_text(object, "error_code");
	refund->created_at = json_unix_time(object, "created");
	refund->fee = read_fee(object);
	snapshot->terminal = is_text(object, "status", "failed") ||
						 is_text(object, "status", "canceled");
}

static void
read_dispute(const Jsonb *object, ProviderSnapshot *snapshot)
{
	DisputeSnapshot *dispute = &snapshot->dispute;

	dispute->payment_intent = json_text(object, "payment_intent");
	dispute->charge = json_text(object, "charge");
	dispute->status = json_text(object, "status");
	dispute->provider_status = dispute->status;
	dispute->currency = json_text(object, "currency");
	dispute->amount = read_amount(object, "amount");
	dispute->funds_withdrawn = json_bool(object, "funds_withdrawn", false);
	dispute->funds_reinstated = json_bool(object, "funds_reinstated", false);
	dispute->reason = json_text(object, "reason");
	dispute->evidence_submitted = json_bool(object, "evidence_submitted", false);
	dispute->evidence_due_by = json_unix_time(object, "evidence_due_by");
	dispute->created_at = json_unix_time(object, "created");
	dispute->fee = read_fee(object);
	snapshot->terminal = is_text(object, "status", "won") || is_text(object, "status", "lost") ||
						 is_text(object, "status", "warning_closed");
}

/* One that is complete can still be paid, which is told by the same status. */
static void
read_checkout_session(const Jsonb *object, ProviderSnapshot *snapshot)
{
	CheckoutSessionSnapshot *session = &snapshot->checkout_session;

	session->kind = "session";
	session->status = json_text(object, "status");
	session->provider_status = session->status;
	session->payment_status = json_text(object, "payment_status");
	session->url = json_text(object, "url");
	session->customer = json_text(object, "customer");
	session->payment_intent = json_text(object, "payment_intent");
	session->subscription = json_text(object, "subscription");
	session->setup_intent = json_text(object, "setup_intent");
	session->invoice = json_text(object, "invoice");
	session->currency = json_text(object, "currency");
	session->amount_total = read_amount(object, "amount_total");
	session->expires_at = json_unix_time(object, "expires_at");
	snapshot->terminal = !is_text(object, "status", "open");
}

static void
read_portal_session(const Jsonb *object, ProviderSnapshot *snapshot)
{
	PortalSessionSnapshot *portal = &snapshot->portal_session;

	portal->customer = json_text(object, "customer");
	portal->url = json_text(object, "url");
	portal->expires_at = json_unix_time(object, "expires_at");
}

static const struct
{
	const char *object;
	BillingObject type;
	void (*read)(const Jsonb *object, ProviderSnapshot *snapshot);
} readers[] = {
	{"customer", BILLING_CUSTOMER, read_customer},
	{"payment_method", BILLING_PAYMENT_METHOD, read_payment_method},
	{"subscription", BILLING_SUBSCRIPTION, read_subscription},
	{"invoice", BILLING_INVOICE, read_invoice},
	{"setup_intent", BILLING_SETUP_INTENT, read_setup_intent},
	{"payment_intent", BILLING_PAYMENT_INTENT, read_payment_intent},
	{"refund", BILLING_REFUND, read_refund},
	{"dispute", BILLING_DISPUTE, read_dispute},
	{"checkout_session", BILLING_CHECKOUT_SESSION, read_checkout_session},
	{"portal_session", BILLING_PORTAL_SESSION, read_portal_session},
};

ProviderSnapshot *
sandbox_snapshot(const Jsonb *object)
{
	const char *id = object == NULL ? NULL : json_text(object, "id");
	ProviderSnapshot *snapshot;

	for (size_t i = 0; id != NULL && i < lengthof(readers); i++)
	{
		if (!is_text(object, "object", readers[i].object))
			continue;
		snapshot = snapshot_new(readers[i].type, id, false);
		snapshot->reference = json_text(object, "reference");
		readers[i].read(object, snapshot);
		return snapshot;
	}
	return NULL;
}

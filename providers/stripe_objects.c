/*-------------------------------------------------------------------------
 *
 * stripe_objects.c
 *	  Stripe's objects become snapshots.
 *
 * The same readers serve the answers to our own calls and the objects inside
 * of events, so that both say the same.  Where Stripe moved a field, its
 * former place is read too: an endpoint may be pinned to an older version of
 * the API, and then its events look as that version had them.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe.h"

#include "common/int.h"

#include "json.h"

/* ------------------------------------------------------------------------
 * Objects
 * ------------------------------------------------------------------------
 */
char *
stripe_id_at(const Jsonb *object, const char *path)
{
	char *id = json_text(object, path);

	return id != NULL ? id : json_text(object, psprintf("%s.id", path));
}

char *
stripe_id_or_none_at(const Jsonb *object, const char *path)
{
	char *id = stripe_id_at(object, path);

	return id == NULL ? text_or_none_at(object, path) : id;
}

static void
read_customer(const Jsonb *object, ProviderSnapshot *snapshot)
{
	CustomerSnapshot *customer = &snapshot->customer;

	customer->email = text_or_none_at(object, "email");
	customer->name = text_or_none_at(object, "name");
	customer->phone = text_or_none_at(object, "phone");
	customer->default_payment_method = stripe_id_or_none_at(
		object, "invoice_settings.default_payment_method");
}

/* The details stand in a member that is called like the type ("card": {...}). */
static void
read_payment_method(const Jsonb *object, ProviderSnapshot *snapshot)
{
	PaymentMethodSnapshot *method = &snapshot->payment_method;
	Jsonb *details;

	method->customer = stripe_id_at(object, "customer");
	method->type = json_text(object, "type");
	details = method->type == NULL ? NULL : json_part(object, method->type);
	if (details == NULL)
		return;
	method->brand = json_text(details, "brand");
	method->last4 = json_text(details, "last4");
	method->exp_month = small_int_at(details, "exp_month");
	method->exp_year = small_int_at(details, "exp_year");
	method->wallet = json_text(details, "wallet.type");
}

/* Periods belong to the items; formerly they belonged to the subscription. */
static TimestampTz
item_time(const Jsonb *object, const char *name)
{
	TimestampTz time = json_unix_time(object, psprintf("items.data.0.%s", name));

	return time != 0 ? time : json_unix_time(object, name);
}

/* Prices were called plans, and a subscription may have had one itself. */
static char *
item_price(const Jsonb *object)
{
	static const char *const places[] = {"items.data.0.price", "items.data.0.plan", "plan"};
	char *price = NULL;

	for (size_t i = 0; price == NULL && i < lengthof(places); i++)
		price = stripe_id_at(object, places[i]);
	return price;
}

/* For the browser that pays the first invoice: formerly it was its payment's. */
static char *
confirmation_secret(const Jsonb *object)
{
	char *secret = json_text(object, "latest_invoice.confirmation_secret.client_secret");

	return secret != NULL ? secret
						  : json_text(object, "latest_invoice.payment_intent.client_secret");
}

/*
 * A subscription whose collection is paused goes on as active at Stripe; to
 * us it is paused, and provider_status tells how to resume it.
 */
bool
stripe_collection_paused(const char *status, const Jsonb *pause_collection)
{
	static const char *const running[] = {"active", "trialing", "past_due", NULL};

	return pause_collection != NULL && is_one_of(status, running);
}

static void
read_subscription_status(const Jsonb *object, ProviderSnapshot *snapshot)
{
	static const char *const final[] = {"canceled", "incomplete_expired", NULL};
	SubscriptionSnapshot *subscription = &snapshot->subscription;

	subscription->status = json_text(object, "status");
	subscription->provider_status = subscription->status;
	snapshot->terminal = is_one_of(subscription->status, final);
	if (stripe_collection_paused(subscription->status, json_part(object, "pause_collection")))
	{
		subscription->status = "paused";
		subscription->provider_status = "pause_collection";
	}
}

static void
read_subscription(const Jsonb *object, ProviderSnapshot *snapshot)
{
	SubscriptionSnapshot *subscription = &snapshot->subscription;
	int64 quantity;

	read_subscription_status(object, snapshot);
	subscription->customer = stripe_id_at(object, "customer");
	subscription->item = json_text(object, "items.data.0.id");
	subscription->price = item_price(object);
	if (json_int(object, "items.data.0.quantity", &quantity) ||
		json_int(object, "quantity", &quantity))
		subscription->quantity = quantity;
	subscription->currency = currency_at(object, "currency");
	subscription->current_period_start = item_time(object, "current_period_start");
	subscription->current_period_end = item_time(object, "current_period_end");
	subscription->trial_start = json_unix_time(object, "trial_start");
	subscription->trial_end = json_unix_time(object, "trial_end");
	subscription->cancel_at_period_end = json_bool(object, "cancel_at_period_end", false);
	subscription->cancel_at = json_unix_time(object, "cancel_at");
	subscription->canceled_at = json_unix_time(object, "canceled_at");
	subscription->ended_at = json_unix_time(object, "ended_at");
	subscription->created_at = json_unix_time(object, "created");
	/* a change that waits for its payment */
	subscription->pending_price = stripe_id_at(object, "pending_update.subscription_items.0.price");
	subscription->payment_method = stripe_id_or_none_at(object, "default_payment_method");
	subscription->client_secret = confirmation_secret(object);
}

/* The sum of the taxes, in the list that was called otherwise before 2025; not told when it overflows. */
static int64
tax_of(const Jsonb *object)
{
	Jsonb *taxes = json_part(object, "total_taxes");
	int64 sum = 0;
	int count;

	if (taxes == NULL)
		taxes = json_part(object, "total_tax_amounts");
	if (taxes == NULL)
		return amount_at(object, "tax");
	count = json_length(taxes, "");
	for (int i = 0; i < count; i++)
	{
		int64 amount;

		if (!json_int(taxes, psprintf("%d.amount", i), &amount) ||
			pg_add_s64_overflow(sum, amount, &sum))
			return NO_AMOUNT;
	}
	return sum;
}

/* The payment that collects it: the default one, else the last in the list. */
static char *
payment_of(const Jsonb *object)
{
	char *intent = NULL;
	int count = json_length(object, "payments.data");

	for (int i = 0; i < count; i++)
	{
		char *path = psprintf("payments.data.%d", i);
		char *found = stripe_id_at(object, psprintf("%s.payment.payment_intent", path));

		if (found == NULL)
			continue;
		intent = found;
		if (json_bool(object, psprintf("%s.is_default", path), false))
			break;
	}
	return intent != NULL ? intent : stripe_id_at(object, "payment_intent");
}

char *
stripe_invoice_subscription(const Jsonb *invoice)
{
	char *subscription = stripe_id_at(invoice, "parent.subscription_details.subscription");

	return subscription != NULL ? subscription : stripe_id_at(invoice, "subscription");
}

static void
read_invoice(const Jsonb *object, ProviderSnapshot *snapshot)
{
	static const char *const final[] = {"paid", "void", NULL};
	static const char *const others[] = {"draft", "open", "uncollectible", NULL};
	InvoiceSnapshot *invoice = &snapshot->invoice;

	invoice->customer = stripe_id_at(object, "customer");
	invoice->subscription = stripe_invoice_subscription(object);
	invoice->number = json_text(object, "number");
	invoice->status = json_text(object, "status");
	snapshot->terminal = is_one_of(invoice->status, final);
	if (!snapshot->terminal && !is_one_of(invoice->status, others))
		invoice->status = NULL;
	invoice->currency = currency_at(object, "currency");
	invoice->total = amount_at(object, "total");
	invoice->tax = tax_of(object);
	invoice->amount_due = amount_at(object, "amount_due");
	invoice->amount_paid = amount_at(object, "amount_paid");
	invoice->amount_remaining = amount_at(object, "amount_remaining");
	invoice->billing_reason = json_text(object, "billing_reason");
	invoice->attempt_count = small_int_at(object, "attempt_count");
	invoice->period_start = json_unix_time(object, "period_start");
	invoice->period_end = json_unix_time(object, "period_end");
	invoice->due_at = json_unix_time(object, "due_date");
	invoice->paid_at = json_unix_time(object, "status_transitions.paid_at");
	invoice->next_attempt_at = json_unix_time(object, "next_payment_attempt");
	invoice->created_at = json_unix_time(object, "created");
	invoice->payment_intent = payment_of(object);
	invoice->error_code = json_text(object, "last_finalization_error.code");
	invoice->hosted_url = json_text(object, "hosted_invoice_url");
	invoice->pdf_url = json_text(object, "invoice_pdf");
}

static void
read_webhook_endpoint(const Jsonb *object, ProviderSnapshot *snapshot)
{
	WebhookEndpointSnapshot *endpoint = &snapshot->webhook_endpoint;

	endpoint->url = json_text(object, "url");
	endpoint->secret = json_text(object, "secret");
	endpoint->enabled = is_one_of(json_text(object, "status"),
								  (const char *const[]){"enabled", NULL});
	endpoint->events = json_part(object, "enabled_events");
	endpoint->api_version = json_text(object, "api_version");
}

/* Nothing but its id and our reference is kept of a product or a price. */
static void
read_nothing_more(const Jsonb *object, ProviderSnapshot *snapshot)
{
}

typedef struct ObjectReader
{
	const char *word; /* Stripe's, in the member "object" */
	BillingObject type;
	void (*read)(const Jsonb *object, ProviderSnapshot *snapshot);
} ObjectReader;

static const ObjectReader readers[] = {
	{"customer", BILLING_CUSTOMER, read_customer},
	{"payment_method", BILLING_PAYMENT_METHOD, read_payment_method},
	{"product", BILLING_PRODUCT, read_nothing_more},
	{"price", BILLING_PRICE, read_nothing_more},
	{"subscription", BILLING_SUBSCRIPTION, read_subscription},
	{"invoice", BILLING_INVOICE, read_invoice},
	{"setup_intent", BILLING_SETUP_INTENT, stripe_read_setup_intent},
	{"payment_intent", BILLING_PAYMENT_INTENT, stripe_read_payment_intent},
	{"refund", BILLING_REFUND, stripe_read_refund},
	{"dispute", BILLING_DISPUTE, stripe_read_dispute},
	{"checkout.session", BILLING_CHECKOUT_SESSION, stripe_read_checkout_session},
	{"payment_link", BILLING_CHECKOUT_SESSION, stripe_read_payment_link},
	{"billing_portal.session", BILLING_PORTAL_SESSION, stripe_read_portal_session},
	{"webhook_endpoint", BILLING_WEBHOOK_ENDPOINT, read_webhook_endpoint},
	{"billing.meter", BILLING_METER, stripe_read_meter},
};

void
stripe_mark_gone(ProviderSnapshot *snapshot)
{
	snapshot->deleted = true;
	snapshot->terminal = true;
}

ProviderSnapshot *
stripe_snapshot(const Jsonb *object, bool livemode)
{
	char *word = json_text(object, "object");
	char *id = json_text(object, "id");

	if (word == NULL || id == NULL || *id == '\0')
		return NULL;

	for (size_t i = 0; i < lengthof(readers); i++)
	{
		ProviderSnapshot *snapshot;

		if (strcmp(word, readers[i].word) != 0)
			continue;
		snapshot = snapshot_new(readers[i].type, id, json_bool(object, "livemode", livemode));
		snapshot->has_livemode = json_has(object, "livemode");
		snapshot->reference = json_text(object, "metadata." STRIPE_REFERENCE);
		readers[i].read(object, snapshot);
		if (json_bool(object, "deleted", false))
			stripe_mark_gone(snapshot);
		return snapshot;
	}
	return NULL;
}

/* Only a mandate that is active lets its method be charged. */
ProviderSnapshot *
stripe_mandate_snapshot(const Jsonb *mandate, bool livemode)
{
	char *method = stripe_id_at(mandate, "payment_method");
	char *status = json_text(mandate, "status");
	ProviderSnapshot *snapshot;

	if (method == NULL || status == NULL)
		return NULL;
	snapshot = snapshot_new(BILLING_PAYMENT_METHOD, method,
							json_bool(mandate, "livemode", livemode));
	snapshot->has_livemode = json_has(mandate, "livemode");
	snapshot->partial = true;
	if (same_text(status, "inactive"))
		snapshot->payment_method.unusable = "mandate_inactive";
	return snapshot;
}

ProviderSnapshot *
stripe_gone_snapshot(BillingObject type, const char *id, bool livemode)
{
	ProviderSnapshot *snapshot = snapshot_new(type, id, livemode);

	stripe_mark_gone(snapshot);
	return snapshot;
}

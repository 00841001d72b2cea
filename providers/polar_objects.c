/*-------------------------------------------------------------------------
 *
 * polar_objects.c
 *	  Polar's objects become snapshots.
 *
 * An object does not say of what kind it is, so the caller does.  The same
 * readers serve the answers to our own calls and the objects inside of events
 * (polar_events.c).
 *
 * The order is Polar's invoice and its payment in one: each becomes a
 * snapshot with the same id, of which the kind is a part.  Polar is the seller
 * and adds the tax itself, so amounts of orders and refunds are told without
 * it; ours are what the customer pays and gets back.
 *
 *-------------------------------------------------------------------------
 */
#include "polar.h"

#include "common/int.h"
#include "utils/timestamp.h"

#include "json.h"

/* Not told when one of them is not, or when the sum is absurd. */
static int64
sum_of(int64 a, int64 b)
{
	int64 sum;

	if (a == NO_AMOUNT || b == NO_AMOUNT || pg_add_s64_overflow(a, b, &sum))
		return NO_AMOUNT;
	return sum;
}

/* A word of Polar's and ours for it. */
typedef struct Word
{
	const char *theirs;
	const char *ours;
	bool terminal; /* a state that is not left again */
} Word;

/* NULL for a word that this version does not know: then nothing is told. */
static const Word *
find_word(const Word *words, size_t count, const char *theirs)
{
	for (size_t i = 0; theirs != NULL && i < count; i++)
	{
		if (strcmp(words[i].theirs, theirs) == 0)
			return &words[i];
	}
	return NULL;
}

#define FIND_WORD(words, theirs) find_word(words, lengthof(words), theirs)

void
polar_mark_deleted(ProviderSnapshot *snapshot)
{
	snapshot->deleted = true;
	snapshot->terminal = true;
}

/* ------------------------------------------------------------------------
 * Customers, payment methods
 * ------------------------------------------------------------------------
 */
static void
read_customer(const Jsonb *object, ProviderSnapshot *snapshot)
{
	CustomerSnapshot *customer = &snapshot->customer;

	snapshot->reference = json_text(object, "external_id");
	customer->email = json_text(object, "email");
	customer->name = text_or_none_at(object, "name");
	customer->default_payment_method = json_text(object, "default_payment_method_id");
	if (json_text(object, "deleted_at") != NULL)
		polar_mark_deleted(snapshot);
}

static void
read_payment_method(const Jsonb *object, ProviderSnapshot *snapshot)
{
	PaymentMethodSnapshot *method = &snapshot->payment_method;

	method->customer = json_text(object, "customer_id");
	method->type = json_text(object, "type");
	method->brand = json_text(object, "method_metadata.brand");
	method->last4 = json_text(object, "method_metadata.last4");
	method->exp_month = small_int_at(object, "method_metadata.exp_month");
	method->exp_year = small_int_at(object, "method_metadata.exp_year");
	method->wallet = json_text(object, "method_metadata.wallet");
	method->is_default = json_bool(object, "is_default", false);
}

/* A product stands for one price version; nothing but its id and our reference is kept. */
static void
read_price(const Jsonb *object, ProviderSnapshot *snapshot)
{
	snapshot->reference = json_text(object, "metadata." POLAR_REFERENCE);
}

/* ------------------------------------------------------------------------
 * Subscriptions
 * ------------------------------------------------------------------------
 */

/*
 * The status is one of the eight words that are also ours.  A subscription
 * that is to be canceled goes on as active; ends_at says until when.
 */
static void
read_subscription(const Jsonb *object, ProviderSnapshot *snapshot)
{
	SubscriptionSnapshot *subscription = &snapshot->subscription;
	int64 seats;

	snapshot->reference = json_text(object, "metadata." POLAR_SUBSCRIPTION);
	subscription->customer = json_text(object, "customer_id");
	subscription->price = json_text(object, "product_id");
	subscription->status = json_text(object, "status");
	subscription->provider_status = subscription->status;
	snapshot->terminal = same_text(subscription->status, "canceled") ||
						 same_text(subscription->status, "incomplete_expired");
	if (json_int(object, "seats", &seats))
		subscription->quantity = seats;
	subscription->currency = currency_at(object, "currency");
	subscription->created_at = json_rfc3339_time(object, "created_at");
	subscription->current_period_start = json_rfc3339_time(object, "current_period_start");
	subscription->current_period_end = json_rfc3339_time(object, "current_period_end");
	subscription->trial_start = json_rfc3339_time(object, "trial_start");
	subscription->trial_end = json_rfc3339_time(object, "trial_end");
	subscription->cancel_at_period_end = json_bool(object, "cancel_at_period_end", false);
	subscription->canceled_at = json_rfc3339_time(object, "canceled_at");
	subscription->ended_at = json_rfc3339_time(object, "ended_at");
	if (subscription->ended_at == 0)
		subscription->cancel_at = json_rfc3339_time(object, "ends_at");
	subscription->pause_at_period_end = json_bool(object, "pause_at_period_end", false);
	subscription->resumes_at = json_rfc3339_time(object, "resumes_at");
	subscription->pending_price = json_text(object, "pending_update.product_id");
}

/* ------------------------------------------------------------------------
 * Orders: payment and invoice
 * ------------------------------------------------------------------------
 */
static const Word payment_states[] = {
	{"draft", "pending", false},
	{"pending", "pending", false},
	{"paid", "succeeded", true},
	{"refunded", "refunded", true},
	{"partially_refunded", "partially_refunded", true},
	{"void", "canceled", true},
};

static const Word invoice_states[] = {
	{"draft", "draft", false},  {"pending", "open", false},           {"paid", "paid", true},
	{"refunded", "paid", true}, {"partially_refunded", "paid", true}, {"void", "void", true},
};

/*
 * What the customer pays: the total, less what his balance at Polar takes over
 * and with what he owes there (a negative and a positive amount).  due_amount
 * says it, but of an order that is paid or void it may be what is still due.
 */
static int64
payable(const Jsonb *order)
{
	int64 due = amount_at(order, "due_amount");
	int64 total = amount_at(order, "total_amount");
	int64 balance = amount_at(order, "applied_balance_amount");
	int64 sum;

	if (due != NO_AMOUNT && due > 0)
		return due;
	sum = balance == NO_AMOUNT ? total : sum_of(total, balance);
	return sum == NO_AMOUNT ? sum : Max(sum, 0);
}

/*
 * The tax that comes on top of what was asked for; where the price contains it,
 * the customer pays what was asked for.
 */
static int64
added_tax(const Jsonb *order)
{
	int64 tax = amount_at(order, "tax_amount");
	int64 total = amount_at(order, "total_amount");
	int64 asked = amount_at(order, "subtotal_amount");
	int64 discount = amount_at(order, "discount_amount");

	if (tax == NO_AMOUNT || total == NO_AMOUNT || asked == NO_AMOUNT)
		return NO_AMOUNT;
	asked -= discount == NO_AMOUNT ? 0 : discount;
	return Min(Max(total - asked, 0), Max(tax, 0));
}

/* Older orders of a subscription carry the metadata of its checkout, too: theirs is not that payment. */
static bool
may_carry_reference(const Jsonb *order)
{
	char *reason = json_text(order, "billing_reason");

	return same_text(reason, "purchase") || same_text(reason, "subscription_create");
}

static void
read_payment(const Jsonb *order, ProviderSnapshot *snapshot)
{
	PaymentIntentSnapshot *intent = &snapshot->payment_intent;
	const Word *state;

	if (may_carry_reference(order))
		snapshot->reference = json_text(order, "metadata." POLAR_PAYMENT);
	intent->customer = json_text(order, "customer_id");
	intent->provider_status = json_text(order, "status");
	state = FIND_WORD(payment_states, intent->provider_status);
	if (state != NULL)
	{
		intent->status = state->ours;
		snapshot->terminal = state->terminal;
	}
	/* it waits for the next try of Polar's dunning: the last one failed */
	if (same_text(intent->provider_status, "pending") &&
		json_text(order, "next_payment_attempt_at") != NULL)
		intent->status = "failed";
	intent->currency = currency_at(order, "currency");
	intent->amount = payable(order);
	if (json_has(order, "paid"))
		intent->amount_received = json_bool(order, "paid", false) ? intent->amount : 0;
	intent->amount_refunded = sum_of(amount_at(order, "refunded_amount"),
									 amount_at(order, "refunded_tax_amount"));
	intent->provider_tax = added_tax(order);
	intent->provider_number = json_text(order, "invoice_number");
	intent->subscription = json_text(order, "subscription_id");
	if (intent->subscription != NULL)
		intent->invoice = snapshot->provider_id;
	intent->checkout_session = json_text(order, "checkout_id");
	intent->created_at = json_rfc3339_time(order, "created_at");
	/* 0 and no currency until the payment is through */
	if (json_int(order, "platform_fee_amount", &intent->fee.amount))
		intent->fee.currency = currency_at(order, "platform_fee_currency");
}

/*
 * An order tells no period of its own, but its subscription's present one; it
 * is the order's where a period began the order, within which it was made.
 */
static void
read_invoice_period(const Jsonb *order, InvoiceSnapshot *invoice)
{
	TimestampTz start = json_rfc3339_time(order, "subscription.current_period_start");
	TimestampTz end = json_rfc3339_time(order, "subscription.current_period_end");

	if (!same_text(invoice->billing_reason, "subscription_create") &&
		!same_text(invoice->billing_reason, "subscription_cycle"))
		return;
	if (start == 0 || end == 0 || invoice->created_at < start || invoice->created_at >= end)
		return;
	invoice->period_start = start;
	invoice->period_end = end;
}

static void
read_invoice(const Jsonb *order, ProviderSnapshot *snapshot)
{
	InvoiceSnapshot *invoice = &snapshot->invoice;
	const Word *state = FIND_WORD(invoice_states, json_text(order, "status"));
	bool paid = json_bool(order, "paid", false);

	invoice->customer = json_text(order, "customer_id");
	invoice->subscription = json_text(order, "subscription_id");
	invoice->number = json_text(order, "invoice_number");
	if (state != NULL)
	{
		invoice->status = state->ours;
		snapshot->terminal = state->terminal;
	}
	invoice->currency = currency_at(order, "currency");
	invoice->total = amount_at(order, "total_amount");
	invoice->tax = amount_at(order, "tax_amount");
	invoice->amount_due = payable(order);
	invoice->amount_paid = paid ? invoice->amount_due : 0;
	invoice->amount_remaining = paid || same_text(invoice->status, "void") ? 0
																		   : invoice->amount_due;
	invoice->billing_reason = json_text(order, "billing_reason");
	invoice->next_attempt_at = json_rfc3339_time(order, "next_payment_attempt_at");
	invoice->created_at = json_rfc3339_time(order, "created_at");
	invoice->payment_intent = snapshot->provider_id;
	read_invoice_period(order, invoice);
}

/* ------------------------------------------------------------------------
 * Refunds, disputes
 * ------------------------------------------------------------------------
 */
static const Word refund_states[] = {
	{"pending", "pending", false},
	{"succeeded", "succeeded", false}, /* may fail late */
	{"failed", "failed", true},
	{"canceled", "canceled", true},
};

static const Word refund_reasons[] = {
	{"customer_request", "requested_by_customer", false},
	{"duplicate", "duplicate", false},
	{"fraudulent", "fraudulent", false},
	{"service_disruption", "service_disruption", false},
	{"satisfaction_guarantee", "satisfaction_guarantee", false},
	{"dispute_prevention", "other", false}, /* its dispute tells the rest */
	{"other", "other", false},
};

static const Word dispute_states[] = {
	{"early_warning", "warning_needs_response", false},
	{"needs_response", "needs_response", false},
	{"under_review", "under_review", false},
	{"prevented", "prevented", true},
	{"won", "won", true},
	{"lost", "lost", true},
};

static void
read_refund(const Jsonb *object, ProviderSnapshot *snapshot)
{
	RefundSnapshot *refund = &snapshot->refund;
	const Word *state = FIND_WORD(refund_states, json_text(object, "status"));
	const Word *reason = FIND_WORD(refund_reasons, json_text(object, "reason"));

	snapshot->reference = json_text(object, "metadata." POLAR_REFERENCE);
	refund->payment_intent = json_text(object, "order_id");
	if (state != NULL)
	{
		refund->status = state->ours;
		snapshot->terminal = state->terminal;
	}
	refund->currency = currency_at(object, "currency");
	refund->amount = sum_of(amount_at(object, "amount"), amount_at(object, "tax_amount"));
	refund->reason = reason == NULL ? NULL : reason->ours;
	refund->dispute = json_text(object, "dispute.id");
	refund->created_at = json_rfc3339_time(object, "created_at");
}

/*
 * Polar answers disputes itself and tells no movement of money but by the
 * status: what is lost was taken, of everything else nothing is told.
 */
static void
read_dispute(const Jsonb *object, ProviderSnapshot *snapshot)
{
	DisputeSnapshot *dispute = &snapshot->dispute;
	const Word *state;

	dispute->payment_intent = json_text(object, "order_id");
	dispute->provider_status = json_text(object, "status");
	state = FIND_WORD(dispute_states, dispute->provider_status);
	if (state != NULL)
	{
		dispute->status = state->ours;
		snapshot->terminal = state->terminal;
	}
	dispute->funds_withdrawn = same_text(dispute->provider_status, "lost");
	dispute->currency = currency_at(object, "currency");
	dispute->amount = sum_of(amount_at(object, "amount"), amount_at(object, "tax_amount"));
	dispute->reason = json_text(object, "reason");
	dispute->evidence_due_by = json_rfc3339_time(object, "evidence_due_by");
	dispute->created_at = json_rfc3339_time(object, "created_at");
}

/* ------------------------------------------------------------------------
 * Checkout, portal, webhook endpoints
 * ------------------------------------------------------------------------
 */
static const Word checkout_states[] = {
	{"open", "open", false},    {"confirmed", "processing", false}, {"succeeded", "complete", true},
	{"failed", "failed", true}, {"expired", "expired", true},
};

static const char *
payment_status_of(const Jsonb *checkout)
{
	if (!json_bool(checkout, "is_payment_required", true))
		return "no_payment_required";
	return same_text(json_text(checkout, "status"), "succeeded") ? "paid" : "unpaid";
}

static void
read_checkout(const Jsonb *object, ProviderSnapshot *snapshot)
{
	CheckoutSessionSnapshot *session = &snapshot->checkout_session;
	const Word *state;

	snapshot->reference = json_text(object, "metadata." POLAR_SESSION);
	session->kind = "session";
	session->provider_status = json_text(object, "status");
	state = FIND_WORD(checkout_states, session->provider_status);
	if (state != NULL)
	{
		session->status = state->ours;
		snapshot->terminal = state->terminal;
	}
	session->payment_status = payment_status_of(object);
	session->url = json_text(object, "url");
	session->client_secret = json_text(object, "client_secret");
	session->customer = json_text(object, "customer_id");
	session->subscription = json_text(object, "subscription_id");
	session->currency = currency_at(object, "currency");
	session->amount_total = amount_at(object, "total_amount");
	session->expires_at = json_rfc3339_time(object, "expires_at");
}

/* A link has no state: it is there, and open, until it is deleted. */
static void
read_link(const Jsonb *object, ProviderSnapshot *snapshot)
{
	CheckoutSessionSnapshot *link = &snapshot->checkout_session;

	snapshot->reference = json_text(object, "metadata." POLAR_LINK);
	link->kind = "link";
	link->status = "open";
	link->url = json_text(object, "url");
	link->client_secret = json_text(object, "client_secret");
}

static void
read_portal(const Jsonb *object, ProviderSnapshot *snapshot)
{
	PortalSessionSnapshot *portal = &snapshot->portal_session;

	portal->customer = json_text(object, "customer_id");
	portal->url = json_text(object, "customer_portal_url");
	portal->token = json_text(object, "token");
	portal->expires_at = json_rfc3339_time(object, "expires_at");
}

static void
read_endpoint(const Jsonb *object, ProviderSnapshot *snapshot)
{
	WebhookEndpointSnapshot *endpoint = &snapshot->webhook_endpoint;

	endpoint->url = json_text(object, "url");
	endpoint->secret = json_text(object, "secret");
	endpoint->enabled = json_bool(object, "enabled", true);
	endpoint->events = json_part(object, "events");
	endpoint->api_version = POLAR_VERSION;
}

/* ------------------------------------------------------------------------
 * Objects
 * ------------------------------------------------------------------------
 */
typedef void (*ObjectReader)(const Jsonb *object, ProviderSnapshot *snapshot);

static const ObjectReader readers[BILLING_OBJECT_COUNT] = {
	[BILLING_CUSTOMER] = read_customer,
	[BILLING_PAYMENT_METHOD] = read_payment_method,
	[BILLING_PRICE] = read_price,
	[BILLING_SUBSCRIPTION] = read_subscription,
	[BILLING_INVOICE] = read_invoice,
	[BILLING_PAYMENT_INTENT] = read_payment,
	[BILLING_REFUND] = read_refund,
	[BILLING_DISPUTE] = read_dispute,
	[BILLING_CHECKOUT_SESSION] = read_checkout,
	[BILLING_PORTAL_SESSION] = read_portal,
	[BILLING_WEBHOOK_ENDPOINT] = read_endpoint,
	[BILLING_METER] = polar_read_meter,
};

/*
 * When it came into the state that is shown.  Polar says it to the microsecond,
 * in answers and events alike; by an answer's own date, which is a second, the
 * events of that second could not be told from those before and after it.
 */
static TimestampTz
state_time(const Jsonb *object)
{
	TimestampTz modified = json_rfc3339_time(object, "modified_at");

	return modified != 0 ? modified : json_rfc3339_time(object, "created_at");
}

/*
 * An object in a state that this version has no word for is not told at all:
 * half of it would be taken for the whole.
 */
static bool
is_told(const ProviderSnapshot *snapshot)
{
	switch (snapshot->type)
	{
		case BILLING_SUBSCRIPTION:
			return snapshot->subscription.status != NULL;
		case BILLING_INVOICE:
			return snapshot->invoice.status != NULL;
		case BILLING_PAYMENT_INTENT:
			return snapshot->payment_intent.status != NULL;
		case BILLING_REFUND:
			return snapshot->refund.status != NULL;
		case BILLING_DISPUTE:
			return snapshot->dispute.status != NULL;
		case BILLING_CHECKOUT_SESSION:
			return snapshot->checkout_session.status != NULL;
		default:
			return true;
	}
}

/* Objects tell no mode: tokens, hosts and webhook secrets of the two are different ones. */
static List *
read_one(List *snapshots, BillingObject type, const Jsonb *object)
{
	char *id = json_text(object, "id");
	ObjectReader reader = readers[type];
	ProviderSnapshot *snapshot;

	if (id == NULL || *id == '\0')
		return snapshots;
	/* a link has products to choose from and no status; a checkout has one */
	if (type == BILLING_CHECKOUT_SESSION && !json_has(object, "status"))
		reader = read_link;
	snapshot = snapshot_new(type, id, false);
	snapshot->as_of = state_time(object);
	reader(object, snapshot);
	return is_told(snapshot) ? lappend(snapshots, snapshot) : snapshots;
}

List *
polar_snapshots(BillingObject type, const Jsonb *object)
{
	List *snapshots = NIL;
	Jsonb *dispute;

	Assert(readers[type] != NULL);
	switch (type)
	{
		case BILLING_PAYMENT_INTENT:
		case BILLING_INVOICE:
			if (json_text(object, "subscription_id") != NULL)
				snapshots = read_one(snapshots, BILLING_INVOICE, object);
			return read_one(snapshots, BILLING_PAYMENT_INTENT, object);
		case BILLING_REFUND:
			dispute = json_part(object, "dispute");
			if (dispute != NULL)
				snapshots = read_one(snapshots, BILLING_DISPUTE, dispute);
			return read_one(snapshots, BILLING_REFUND, object);
		default:
			return read_one(snapshots, type, object);
	}
}

ProviderSnapshot *
polar_gone_snapshot(BillingObject type, const char *id, TimestampTz as_of)
{
	ProviderSnapshot *snapshot = snapshot_new(type, id, false);

	snapshot->as_of = as_of;

	polar_mark_deleted(snapshot);
	if (type == BILLING_CHECKOUT_SESSION)
	{
		snapshot->checkout_session.kind = "link";
		snapshot->checkout_session.status = "canceled";
	}
	return snapshot;
}

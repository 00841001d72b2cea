/*-------------------------------------------------------------------------
 *
 * stripe_objects.c
 *	  Stripe's objects and events become snapshots.
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
#include "utils/formatting.h"

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

static char *
currency_at(const Jsonb *object, const char *path)
{
	char *currency = json_text(object, path);

	return currency == NULL ? NULL : asc_toupper(currency, strlen(currency));
}

static int64
amount_at(const Jsonb *object, const char *path)
{
	int64 amount;

	return json_int(object, path, &amount) ? amount : NO_AMOUNT;
}

/* Small counts and dates of cards; 0 when absent or absurd. */
static int
small_int_at(const Jsonb *object, const char *path)
{
	int64 value;

	if (!json_int(object, path, &value) || value < 0 || value > PG_INT32_MAX)
		return 0;
	return (int) value;
}

static bool
is_one_of(const char *word, const char *const *words)
{
	for (; word != NULL && *words != NULL; words++)
	{
		if (strcmp(word, *words) == 0)
			return true;
	}
	return false;
}

static void
read_customer(const Jsonb *object, ProviderSnapshot *snapshot)
{
	CustomerSnapshot *customer = &snapshot->customer;

	customer->email = json_text(object, "email");
	customer->name = json_text(object, "name");
	customer->phone = json_text(object, "phone");
	customer->default_payment_method = stripe_id_at(object,
													"invoice_settings.default_payment_method");
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

/*
 * A subscription whose collection is paused goes on as active at Stripe; to
 * us it is paused, and provider_status tells how to resume it.
 */
static bool
collection_paused(const char *status, const Jsonb *pause_collection)
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
	if (collection_paused(subscription->status, json_part(object, "pause_collection")))
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
	subscription->price = stripe_id_at(object, "items.data.0.price");
	if (json_int(object, "items.data.0.quantity", &quantity))
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
	subscription->payment_method = stripe_id_at(object, "default_payment_method");
	subscription->client_secret = json_text(object,
											"latest_invoice.confirmation_secret.client_secret");
}

/* The sum of total_taxes; not told when the list is missing or the sum overflows. */
static int64
tax_of(const Jsonb *object)
{
	Jsonb *taxes = json_part(object, "total_taxes");
	int64 sum = 0;
	int count;

	if (taxes == NULL)
		return NO_AMOUNT;
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

static void
read_invoice(const Jsonb *object, ProviderSnapshot *snapshot)
{
	static const char *const final[] = {"paid", "void", NULL};
	InvoiceSnapshot *invoice = &snapshot->invoice;

	invoice->customer = stripe_id_at(object, "customer");
	invoice->subscription = stripe_id_at(object, "parent.subscription_details.subscription");
	if (invoice->subscription == NULL)
		invoice->subscription = stripe_id_at(object, "subscription");
	invoice->number = json_text(object, "number");
	invoice->status = json_text(object, "status");
	snapshot->terminal = is_one_of(invoice->status, final);
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
};

static void
mark_deleted(ProviderSnapshot *snapshot)
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
		snapshot->reference = json_text(object, "metadata." STRIPE_REFERENCE);
		readers[i].read(object, snapshot);
		if (json_bool(object, "deleted", false))
			mark_deleted(snapshot);
		return snapshot;
	}
	return NULL;
}

ProviderSnapshot *
stripe_gone_snapshot(BillingObject type, const char *id, bool livemode)
{
	ProviderSnapshot *snapshot = snapshot_new(type, id, livemode);

	mark_deleted(snapshot);
	return snapshot;
}

/* ------------------------------------------------------------------------
 * Events
 * ------------------------------------------------------------------------
 */
typedef enum EventEffect
{
	EFFECT_COPY, /* the object is as the event shows it */
	EFFECT_GONE  /* the event shows what it was: it is no more */
} EventEffect;

typedef struct EventRule
{
	const char *type;
	EventEffect effect;
} EventRule;

/*
 * What moves our rows; any other type of event does not.  The status always
 * comes from the object, never from the name of the event, because several
 * events may carry the same state and arrive in any order.
 */
static const EventRule event_rules[] = {
	{"customer.created", EFFECT_COPY},
	{"customer.updated", EFFECT_COPY},
	{"customer.deleted", EFFECT_GONE},
	{"payment_method.attached", EFFECT_COPY},
	{"payment_method.updated", EFFECT_COPY},
	{"payment_method.automatically_updated", EFFECT_COPY},
	{"payment_method.detached", EFFECT_GONE},
	{"customer.subscription.created", EFFECT_COPY},
	{"customer.subscription.updated", EFFECT_COPY},
	{"customer.subscription.paused", EFFECT_COPY},
	{"customer.subscription.resumed", EFFECT_COPY},
	{"customer.subscription.deleted", EFFECT_COPY}, /* its status is canceled */
	{"customer.subscription.trial_will_end", EFFECT_COPY},
	{"customer.subscription.pending_update_applied", EFFECT_COPY},
	{"customer.subscription.pending_update_expired", EFFECT_COPY},
	{"invoice.created", EFFECT_COPY},
	{"invoice.updated", EFFECT_COPY},
	{"invoice.finalized", EFFECT_COPY},
	{"invoice.paid", EFFECT_COPY},
	{"invoice.payment_succeeded", EFFECT_COPY},
	{"invoice.payment_failed", EFFECT_COPY},
	{"invoice.payment_action_required", EFFECT_COPY},
	{"invoice.finalization_failed", EFFECT_COPY},
	{"invoice.voided", EFFECT_COPY},
	{"invoice.marked_uncollectible", EFFECT_COPY},
	{"invoice.deleted", EFFECT_GONE},
	{"price.created", EFFECT_COPY},
	{"price.updated", EFFECT_COPY},
	{"price.deleted", EFFECT_GONE},
	{"product.created", EFFECT_COPY},
	{"product.updated", EFFECT_COPY},
	{"product.deleted", EFFECT_GONE},
};

static const EventRule *
find_rule(const char *type)
{
	for (size_t i = 0; type != NULL && i < lengthof(event_rules); i++)
	{
		if (strcmp(event_rules[i].type, type) == 0)
			return &event_rules[i];
	}
	return NULL;
}

/* An event of version 2 of the API: it names an object and does not contain it. */
static bool
is_thin(const Jsonb *payload)
{
	char *word = json_text(payload, "object");

	return word != NULL && strcmp(word, "v2.core.event") == 0;
}

/*
 * The time of a thin event is text and stays untold: nothing is ordered by it,
 * because nothing of it is applied.
 */
bool
stripe_identify_event(const Jsonb *payload, const WebhookHeaders *headers, EventIdentity *identity)
{
	char *word = json_text(payload, "object");
	bool thin = is_thin(payload);

	memset(identity, 0, sizeof(*identity));
	if (!thin && (word == NULL || strcmp(word, "event") != 0))
		return false;

	identity->id = json_text(payload, "id");
	identity->type = json_text(payload, "type");
	if (identity->id == NULL || *identity->id == '\0' || identity->type == NULL)
		return false;
	identity->time = json_unix_time(payload, "created");
	identity->has_livemode = json_has(payload, "livemode");
	identity->livemode = json_bool(payload, "livemode", false);
	identity->sub_account = json_text(payload, thin ? "context" : "account");
	return true;
}

/* An update lists the former values of what it changed; the rest is as it was. */
static void
read_previous_status(const Jsonb *payload, SubscriptionSnapshot *subscription)
{
	const char *const previous = "data.previous_attributes";
	const char *status = json_text(payload, psprintf("%s.status", previous));
	char *pause = psprintf("%s.pause_collection", previous);

	if (!json_has(payload, previous))
		return;
	if (status == NULL)
		status = json_text(payload, "data.object.status");
	if (!json_has(payload, pause))
		pause = "data.object.pause_collection";
	subscription->previous_status = collection_paused(status, json_part(payload, pause)) ? "paused"
																						 : status;
}

void
stripe_read_event(const Jsonb *payload, EventReading *reading)
{
	const EventRule *rule;
	Jsonb *object;
	ProviderSnapshot *snapshot;

	memset(reading, 0, sizeof(*reading));
	if (is_thin(payload))
	{
		reading->ignored = "thin event";
		return;
	}
	rule = find_rule(json_text(payload, "type"));
	if (rule == NULL)
	{
		reading->ignored = "no effect on our rows";
		return;
	}
	object = json_part(payload, "data.object");
	snapshot = object == NULL ? NULL
							  : stripe_snapshot(object, json_bool(payload, "livemode", false));
	if (snapshot == NULL)
	{
		reading->ignored = "no object that could be read";
		return;
	}
	if (rule->effect == EFFECT_GONE)
		mark_deleted(snapshot);
	if (snapshot->type == BILLING_SUBSCRIPTION)
		read_previous_status(payload, &snapshot->subscription);
	reading->snapshots = list_make1(snapshot);
}

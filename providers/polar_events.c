/*-------------------------------------------------------------------------
 *
 * polar_events.c
 *	  Polar's webhooks become snapshots.
 *
 * The state always comes from the object, never from the name of the event:
 * subscription.canceled, for one, is not the end but the decision to end, and
 * the subscription in it is still active.  The end is subscription.revoked.
 *
 *-------------------------------------------------------------------------
 */
#include "polar.h"

#include "json.h"

typedef enum EventEffect
{
	EFFECT_COPY,  /* the object is as the event shows it */
	EFFECT_OURS,  /* so it is, but only of what we made: others make their own */
	EFFECT_GONE,  /* the event shows what it was: it is no more */
	EFFECT_PAID,  /* the object is as shown, and came into that state by the event */
	EFFECT_STATE, /* of a customer: himself, and all of his subscriptions that run */
	EFFECT_NONE   /* moves nothing of ours */
} EventEffect;

typedef struct EventRule
{
	const char *type; /* one that ends in ".*" stands for all that begin so */
	EventEffect effect;
	BillingObject object;
	const char *why; /* of EFFECT_NONE */
} EventRule;

/* Every type there is, in the order in which the provider's events are described. */
static const EventRule rules[] = {
	{"checkout.created", EFFECT_COPY, BILLING_CHECKOUT_SESSION},
	{"checkout.updated", EFFECT_COPY, BILLING_CHECKOUT_SESSION},
	{"checkout.expired", EFFECT_COPY, BILLING_CHECKOUT_SESSION},
	{"customer.created", EFFECT_OURS, BILLING_CUSTOMER},
	{"customer.updated", EFFECT_COPY, BILLING_CUSTOMER},
	{"customer.deleted", EFFECT_GONE, BILLING_CUSTOMER},
	{"customer.state_changed", EFFECT_STATE, BILLING_CUSTOMER},
	/* an order is invoice and payment */
	{"order.created", EFFECT_COPY, BILLING_PAYMENT_INTENT},
	{"order.updated", EFFECT_COPY, BILLING_PAYMENT_INTENT},
	{"order.paid", EFFECT_PAID, BILLING_PAYMENT_INTENT},
	{"order.refunded", EFFECT_COPY, BILLING_PAYMENT_INTENT},
	{"subscription.created", EFFECT_COPY, BILLING_SUBSCRIPTION},
	{"subscription.updated", EFFECT_COPY, BILLING_SUBSCRIPTION},
	{"subscription.active", EFFECT_COPY, BILLING_SUBSCRIPTION},
	{"subscription.cycled", EFFECT_COPY, BILLING_SUBSCRIPTION},
	{"subscription.uncanceled", EFFECT_COPY, BILLING_SUBSCRIPTION},
	{"subscription.canceled", EFFECT_COPY, BILLING_SUBSCRIPTION}, /* not the end */
	{"subscription.revoked", EFFECT_COPY, BILLING_SUBSCRIPTION},  /* the end */
	{"subscription.past_due", EFFECT_COPY, BILLING_SUBSCRIPTION},
	{"subscription.paused", EFFECT_COPY, BILLING_SUBSCRIPTION},
	{"subscription.resumed", EFFECT_COPY, BILLING_SUBSCRIPTION},
	/* with the dispute that it was made because of */
	{"refund.created", EFFECT_COPY, BILLING_REFUND},
	{"refund.updated", EFFECT_COPY, BILLING_REFUND},
	/* the rest */
	{"product.created", EFFECT_OURS, BILLING_PRICE},
	{"product.updated", EFFECT_COPY, BILLING_PRICE},
	{"discount.*", EFFECT_NONE, .why = "discounts are named by their id and not kept here"},
	{"benefit.*", EFFECT_NONE, .why = "what a plan gives is said by its features"},
	{"benefit_grant.*", EFFECT_NONE, .why = "what a plan gives is said by its features"},
	{"customer_seat.*", EFFECT_NONE, .why = "who has a seat is not kept here"},
	{"member.*", EFFECT_NONE, .why = "members of a customer are not kept here"},
	{"organization.updated", EFFECT_NONE, .why = "the account is configured here"},
};

static const EventRule *
find_rule(const char *type)
{
	for (size_t i = 0; type != NULL && i < lengthof(rules); i++)
	{
		if (event_type_is(type, rules[i].type))
			return &rules[i];
	}
	return NULL;
}

const char *const *
polar_event_types(int *count)
{
	static const char *types[lengthof(rules)];

	*count = 0;
	for (size_t i = 0; i < lengthof(rules); i++)
	{
		if (rules[i].effect != EFFECT_NONE)
			types[(*count)++] = rules[i].type;
	}
	return types;
}

/*
 * The id is only in the header; it is the same when the event is delivered
 * again.
 */
bool
polar_identify_event(const Jsonb *payload, const WebhookHeaders *headers, EventIdentity *identity)
{
	memset(identity, 0, sizeof(*identity));
	identity->id = webhook_header(headers, "webhook-id");
	identity->type = json_string_at(payload, "type");
	identity->time = json_rfc3339_time(payload, "timestamp");
	if (identity->id == NULL || *identity->id == '\0' || identity->type == NULL ||
		identity->time == 0 || json_part(payload, "data") == NULL)
		return false;
	return true;
}

/* An order does not say when it was paid; the event does. */
static void
note_paid_at(const Jsonb *payload, List *snapshots)
{
	TimestampTz time = json_rfc3339_time(payload, "timestamp");
	ListCell *cell;

	foreach (cell, snapshots)
	{
		ProviderSnapshot *snapshot = lfirst(cell);

		if (snapshot->type == BILLING_PAYMENT_INTENT)
			snapshot->payment_intent.paid_at = time;
		else if (snapshot->type == BILLING_INVOICE)
			snapshot->invoice.paid_at = time;
	}
}

/* What is gone need not say when it was changed for the last time. */
static void
mark_gone(const Jsonb *payload, ProviderSnapshot *snapshot)
{
	polar_mark_deleted(snapshot);
	snapshot->as_of = Max(snapshot->as_of, json_rfc3339_time(payload, "timestamp"));
}

/*
 * A customer's state lists his subscriptions that run, each without some of
 * its fields: where one was changed since we heard of it, or is not known here,
 * Polar is asked for the whole of it.
 */
static void
read_state(const Jsonb *customer, EventReading *reading)
{
	EventRoll *roll = palloc0(sizeof(EventRoll));
	int count = json_length(customer, "active_subscriptions");

	roll->customer = json_text(customer, "id");
	for (int i = 0; i < count; i++)
	{
		Jsonb *object = json_part(customer, psprintf("active_subscriptions.%d", i));
		List *one = object == NULL ? NIL : polar_snapshots(BILLING_SUBSCRIPTION, object);
		ProviderSnapshot *subscription;

		if (one == NIL)
			continue;
		subscription = linitial(one);
		subscription->subscription.customer = roll->customer;
		roll->subscriptions = lappend(roll->subscriptions,
									  unconstify(char *, subscription->provider_id));
		event_doubt(reading, subscription, true);
	}
	if (roll->customer != NULL && json_part(customer, "active_subscriptions") != NULL)
		reading->roll = roll;
}

static void
read_rule(const Jsonb *payload, const Jsonb *object, const EventRule *rule, EventReading *reading)
{
	ProviderSnapshot *own;

	reading->snapshots = polar_snapshots(rule->object, object);
	if (reading->snapshots == NIL)
		return;
	own = llast(reading->snapshots);
	reading->subject = own;
	if (rule->effect == EFFECT_OURS && own->reference == NULL)
	{
		reading->snapshots = NIL;
		reading->ignored = "made by others";
	}
	else if (rule->effect == EFFECT_GONE)
		mark_gone(payload, own);
	else if (rule->effect == EFFECT_PAID)
		note_paid_at(payload, reading->snapshots);
	else if (rule->effect == EFFECT_STATE)
		read_state(object, reading);
}

void
polar_read_event(const Jsonb *payload, EventReading *reading)
{
	const EventRule *rule = find_rule(json_text(payload, "type"));
	Jsonb *object = json_part(payload, "data");

	memset(reading, 0, sizeof(*reading));
	if (rule == NULL)
		reading->ignored = "a type of event that this version does not know";
	else if (rule->effect == EFFECT_NONE)
		reading->ignored = rule->why;
	else if (object != NULL)
		read_rule(payload, object, rule, reading);
	if (reading->ignored == NULL && reading->snapshots == NIL)
		reading->ignored = "no object that could be read";
}

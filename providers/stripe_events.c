/*-------------------------------------------------------------------------
 *
 * stripe_events.c
 *	  Stripe's events become snapshots.
 *
 * An event contains the object as it was then; it is read as the answers to
 * our own calls are.  What the object does not tell (that money was taken
 * back, that a delayed payment has failed) the type of the event does.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe.h"

#include "json.h"

typedef enum EventEffect
{
	EFFECT_COPY,   /* the object is as the event shows it */
	EFFECT_OURS,   /* so it is, but only of what we made: others make their own */
	EFFECT_GONE,   /* the event shows what it was: it is no more */
	EFFECT_REFUNDS /* of a charge: what was paid back of it, where that is told */
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
	{"customer.created", EFFECT_OURS},
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
	{"price.created", EFFECT_OURS},
	{"price.updated", EFFECT_COPY},
	{"price.deleted", EFFECT_GONE},
	{"product.created", EFFECT_OURS},
	{"product.updated", EFFECT_COPY},
	{"product.deleted", EFFECT_GONE},
	{"setup_intent.created", EFFECT_COPY},
	{"setup_intent.requires_action", EFFECT_COPY},
	{"setup_intent.succeeded", EFFECT_COPY},
	{"setup_intent.setup_failed", EFFECT_COPY},
	{"setup_intent.canceled", EFFECT_COPY},
	{"payment_intent.created", EFFECT_COPY},
	{"payment_intent.requires_action", EFFECT_COPY},
	{"payment_intent.processing", EFFECT_COPY},
	{"payment_intent.partially_funded", EFFECT_COPY},
	{"payment_intent.amount_capturable_updated", EFFECT_COPY},
	{"payment_intent.succeeded", EFFECT_COPY},
	{"payment_intent.payment_failed", EFFECT_COPY},
	{"payment_intent.canceled", EFFECT_COPY},
	{"refund.created", EFFECT_COPY},
	{"refund.updated", EFFECT_COPY},
	{"refund.failed", EFFECT_COPY},
	{"charge.refund.updated", EFFECT_COPY}, /* its object is the refund */
	{"charge.refunded", EFFECT_REFUNDS},
	{"charge.dispute.created", EFFECT_COPY},
	{"charge.dispute.updated", EFFECT_COPY},
	{"charge.dispute.funds_withdrawn", EFFECT_COPY},
	{"charge.dispute.funds_reinstated", EFFECT_COPY},
	{"charge.dispute.closed", EFFECT_COPY},
	{"checkout.session.completed", EFFECT_COPY},
	{"checkout.session.async_payment_succeeded", EFFECT_COPY},
	{"checkout.session.async_payment_failed", EFFECT_COPY},
	{"checkout.session.expired", EFFECT_COPY},
	{"payment_link.updated", EFFECT_COPY},
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

const char *
stripe_next_event_type(size_t *next)
{
	return *next < lengthof(event_rules) ? event_rules[(*next)++].type : NULL;
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

	identity->id = json_string_at(payload, "id");
	identity->type = json_string_at(payload, "type");
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
	subscription->previous_status = stripe_collection_paused(status, json_part(payload, pause))
										? "paused"
										: status;
}

/* Types that say what the object does not. */
static void
read_type(const char *type, ProviderSnapshot *snapshot)
{
	if (strcmp(type, "charge.dispute.funds_withdrawn") == 0)
		snapshot->dispute.funds_withdrawn = true;
	else if (strcmp(type, "charge.dispute.funds_reinstated") == 0)
		snapshot->dispute.funds_reinstated = true;
	else if (strcmp(type, "checkout.session.async_payment_failed") == 0)
	{
		snapshot->checkout_session.status = "failed";
		snapshot->terminal = true;
	}
}

/* Newer versions tell each refund by an event of its own and leave the list out. */
static void
read_refunds(const Jsonb *charge, bool livemode, EventReading *reading)
{
	int count = json_length(charge, "refunds.data");

	for (int i = 0; i < count; i++)
	{
		Jsonb *refund = json_part(charge, psprintf("refunds.data.%d", i));
		ProviderSnapshot *snapshot = refund == NULL ? NULL : stripe_snapshot(refund, livemode);

		if (snapshot != NULL)
			reading->snapshots = lappend(reading->snapshots, snapshot);
	}
	if (reading->snapshots == NIL)
		reading->ignored = "each refund has events of its own";
}

static void
read_object(const Jsonb *payload, const Jsonb *object, const EventRule *rule, EventReading *reading)
{
	ProviderSnapshot *snapshot = stripe_snapshot(object, json_bool(payload, "livemode", false));

	if (snapshot == NULL)
	{
		reading->ignored = "no object that could be read";
		return;
	}
	if (rule->effect == EFFECT_OURS && snapshot->reference == NULL)
	{
		reading->ignored = "made by others";
		return;
	}
	if (rule->effect == EFFECT_GONE)
		stripe_mark_gone(snapshot);
	if (snapshot->type == BILLING_SUBSCRIPTION)
		read_previous_status(payload, &snapshot->subscription);
	read_type(rule->type, snapshot);
	reading->snapshots = list_make1(snapshot);
}

void
stripe_read_event(const Jsonb *payload, EventReading *reading)
{
	const EventRule *rule;
	Jsonb *object;

	memset(reading, 0, sizeof(*reading));
	if (is_thin(payload))
	{
		reading->ignored = "thin event";
		return;
	}
	rule = find_rule(json_text(payload, "type"));
	object = json_part(payload, "data.object");
	if (rule == NULL)
		reading->ignored = "no effect on our rows";
	else if (object == NULL)
		reading->ignored = "no object that could be read";
	else if (rule->effect == EFFECT_REFUNDS)
		read_refunds(object, json_bool(payload, "livemode", false), reading);
	else
		read_object(payload, object, rule, reading);
}

/*-------------------------------------------------------------------------
 *
 * conekta_events.c
 *	  Conekta's webhooks become snapshots.
 *
 * The state always comes from the object, never from the name of the event,
 * because several events may carry the same state and arrive in any order.
 *
 * A charge is a part of an order.  An order's own events tell the payment; of
 * a charge's events are read only its refunds and its chargeback, and that it
 * was reversed, for which an order has no event.
 *
 *-------------------------------------------------------------------------
 */
#include "conekta.h"

typedef enum EventEffect
{
	EFFECT_COPY,     /* the object is as the event shows it */
	EFFECT_GONE,     /* the event shows what it was: it is no more */
	EFFECT_CHARGE,   /* the refunds and the chargeback of the charge */
	EFFECT_REVERSED, /* money was taken back */
	EFFECT_BLOCKED   /* a card that cannot be charged any more */
} EventEffect;

typedef struct EventRule
{
	const char *type;
	EventEffect effect;
} EventRule;

/* What moves our rows; any other type of event does not. */
static const EventRule rules[] = {
	{"order.created", EFFECT_COPY},
	{"order.updated", EFFECT_COPY},
	{"order.pending_payment", EFFECT_COPY},
	{"order.pre_authorized", EFFECT_COPY},
	{"order.under_fraud_review", EFFECT_COPY},
	{"order.paid", EFFECT_COPY},
	{"order.declined", EFFECT_COPY},
	{"order.fraudulent", EFFECT_COPY},
	{"order.expired", EFFECT_COPY},
	{"order.canceled", EFFECT_COPY},
	{"order.voided", EFFECT_COPY},
	{"order.refunded", EFFECT_COPY},
	{"order.partially_refunded", EFFECT_COPY},
	{"order.charged_back", EFFECT_COPY},
	{"charge.refunded", EFFECT_CHARGE},
	{"charge.reversed", EFFECT_REVERSED},
	{"charge.chargeback.created", EFFECT_CHARGE},
	{"charge.chargeback.under_review", EFFECT_CHARGE},
	{"charge.chargeback.updated", EFFECT_CHARGE},
	{"charge.chargeback.won", EFFECT_CHARGE},
	{"charge.chargeback.lost", EFFECT_CHARGE},
	{"subscription.created", EFFECT_COPY},
	{"subscription.updated", EFFECT_COPY},
	{"subscription.paid", EFFECT_COPY},
	{"subscription.payment_failed", EFFECT_COPY},
	{"subscription.paused", EFFECT_COPY},
	{"subscription.resumed", EFFECT_COPY},
	{"subscription.canceled", EFFECT_COPY},
	{"subscription.expired", EFFECT_COPY},
	{"customer.created", EFFECT_COPY},
	{"customer.updated", EFFECT_COPY},
	{"customer.deleted", EFFECT_GONE},
	{"customer.payment_source.card.blocked", EFFECT_BLOCKED},
	{"plan.created", EFFECT_COPY},
	{"plan.updated", EFFECT_COPY},
	{"plan.deleted", EFFECT_GONE},
};

static const EventRule *
find_rule(const char *type)
{
	/* as it was spelled in former days */
	if (type != NULL && strcmp(type, "subscription.cancelled") == 0)
		type = "subscription.canceled";
	for (size_t i = 0; type != NULL && i < lengthof(rules); i++)
	{
		if (strcmp(rules[i].type, type) == 0)
			return &rules[i];
	}
	return NULL;
}

void
conekta_add_event_types(JsonBuilder *body, const char *name)
{
	json_open_array(body, name);
	for (size_t i = 0; i < lengthof(rules); i++)
		json_append_text(body, rules[i].type);
	json_close_array(body);
}

bool
conekta_identify_event(const Jsonb *payload, const WebhookHeaders *headers, EventIdentity *identity)
{
	char *word = json_text(payload, "object");

	memset(identity, 0, sizeof(*identity));
	if (word == NULL || strcmp(word, "event") != 0)
		return false;
	identity->id = json_string_at(payload, "id");
	identity->type = json_string_at(payload, "type");
	if (identity->id == NULL || *identity->id == '\0' || identity->type == NULL)
		return false;
	identity->time = json_unix_time(payload, "created_at");
	identity->has_livemode = json_has(payload, "livemode");
	identity->livemode = json_bool(payload, "livemode", false);
	return true;
}

/* An update lists the former values of what it changed. */
static void
read_previous_status(const Jsonb *payload, List *snapshots)
{
	ProviderSnapshot *snapshot = linitial(snapshots);

	if (snapshot->type == BILLING_SUBSCRIPTION)
		snapshot->subscription.previous_status = conekta_subscription_status(
			json_text(payload, "data.previous_attributes.status"));
}

/*
 * The whole charge was taken back.  Our orders have one charge that succeeds,
 * so that what is true of it is true of the payment.
 */
static List *
reversed_payment(const Jsonb *charge, const char *order, bool livemode)
{
	ProviderSnapshot *snapshot;
	int64 amount;

	if (order == NULL || !json_int(charge, "amount", &amount))
		return NIL;
	snapshot = snapshot_new(BILLING_PAYMENT_INTENT, order, livemode);
	snapshot->has_livemode = json_has(charge, "livemode");
	snapshot->terminal = true;
	snapshot->payment_intent.status = "refunded";
	snapshot->payment_intent.provider_status = "reversed";
	snapshot->payment_intent.amount_refunded = amount;
	snapshot->payment_intent.charge = json_text(charge, "id");
	return list_make1(snapshot);
}

/* The event carries the charge, or only its chargeback. */
static List *
read_charge(const Jsonb *object, EventEffect effect, bool livemode)
{
	char *order = json_text(object, "order_id");

	if (conekta_same(json_text(object, "object"), "chargeback"))
	{
		ProviderSnapshot *snapshot = conekta_chargeback_snapshot(object, livemode);

		if (snapshot != NULL)
			snapshot->dispute.payment_intent = order;
		return snapshot == NULL ? NIL : list_make1(snapshot);
	}
	livemode = json_bool(object, "livemode", livemode);
	if (effect == EFFECT_REVERSED)
		return reversed_payment(object, order, livemode);
	return conekta_charge_snapshots(object, order, livemode, NIL);
}

/* The event is about a payment source, or names it. */
static List *
read_blocked(const Jsonb *object, bool livemode)
{
	char *id = json_text(object, conekta_same(json_text(object, "object"), "payment_source")
									 ? "id"
									 : "payment_source_id");

	return id == NULL ? NIL
					  : list_make1(conekta_gone_snapshot(BILLING_PAYMENT_METHOD, id, livemode));
}

static List *
read_object(const Jsonb *object, EventEffect effect, bool livemode)
{
	List *snapshots;
	ProviderSnapshot *snapshot;

	switch (effect)
	{
		case EFFECT_CHARGE:
		case EFFECT_REVERSED:
			return read_charge(object, effect, livemode);
		case EFFECT_BLOCKED:
			return read_blocked(object, livemode);
		case EFFECT_COPY:
		case EFFECT_GONE:
			break;
	}
	snapshots = conekta_snapshots(object, livemode);
	if (snapshots == NIL || effect != EFFECT_GONE)
		return snapshots;
	snapshot = linitial(snapshots);
	snapshot->deleted = true;
	snapshot->terminal = true;
	return snapshots;
}

void
conekta_read_event(const Jsonb *payload, EventReading *reading)
{
	char *type = json_text(payload, "type");
	const EventRule *rule = find_rule(type);
	Jsonb *object = json_part(payload, "data.object");

	memset(reading, 0, sizeof(*reading));
	if (rule == NULL && type != NULL && strncmp(type, "charge.", 7) == 0)
		reading->ignored = "the event of its order tells the payment";
	else if (rule == NULL)
		reading->ignored = "no effect on our rows";
	if (rule == NULL)
		return;
	if (object != NULL)
		reading->snapshots = read_object(object, rule->effect,
										 json_bool(payload, "livemode", false));
	if (reading->snapshots == NIL)
		reading->ignored = "no object that could be read";
	else
		read_previous_status(payload, reading->snapshots);
}

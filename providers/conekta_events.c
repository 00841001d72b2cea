/*-------------------------------------------------------------------------
 *
 * conekta_events.c
 *	  Conekta's webhooks become snapshots.
 *
 * The state always comes from the object, never from the name of the event,
 * because several events may carry the same state and arrive in any order.
 *
 * A charge is a part of an order, and an order may have several: one that was
 * declined before another was paid, or the parts that it was split into.  So
 * a charge does not say how its order stands.  The order's own events do; a
 * charge's event makes us ask for the order where it says something else than
 * what we know (an endpoint may be sent charges only).  What a charge alone
 * tells, its refunds, its chargeback and that it was reversed, is read.
 *
 *-------------------------------------------------------------------------
 */
#include "conekta.h"

typedef enum EventEffect
{
	EFFECT_COPY,     /* the object is as the event shows it */
	EFFECT_OURS,     /* so it is, but only of what we made: others make their own */
	EFFECT_GONE,     /* the event shows what it was: it is no more */
	EFFECT_GLIMPSE,  /* of a charge: its order is asked for where it stands otherwise here */
	EFFECT_CHARGE,   /* the refunds and the chargeback of the charge */
	EFFECT_REVERSED, /* money was taken back */
	EFFECT_BLOCKED,  /* a card that cannot be charged any more */
	EFFECT_NONE      /* moves nothing of ours */
} EventEffect;

typedef struct EventRule
{
	const char *type; /* one that ends in ".*" stands for all that begin so */
	EventEffect effect;
	const char
		*says; /* of EFFECT_NONE: why; of a chargeback: its state where it does not say it itself */
} EventRule;

/* Every type there is, in the order in which the provider's events are described. */
static const EventRule rules[] = {
	/* pending; requires_action by cash and SPEI, with what is to be paid to */
	{"order.created", EFFECT_COPY},
	{"order.pending_payment", EFFECT_COPY},
	{"charge.created", EFFECT_GLIMPSE},
	{"charge.pending_confirmation", EFFECT_GLIMPSE},
	/* requires_capture; processing */
	{"order.pre_authorized", EFFECT_COPY},
	{"charge.preauthorized", EFFECT_GLIMPSE},
	{"order.under_fraud_review", EFFECT_COPY},
	{"charge.under_fraud_review", EFFECT_GLIMPSE},
	/* succeeded: when the whole order is paid, not with the first of its charges */
	{"order.paid", EFFECT_COPY},
	{"charge.paid", EFFECT_GLIMPSE},
	/* failed, with its code; the order may be charged again */
	{"order.declined", EFFECT_COPY},
	{"charge.declined", EFFECT_GLIMPSE},
	{"order.fraudulent", EFFECT_COPY},
	{"charge.fraudulent", EFFECT_GLIMPSE},
	/* canceled, with the reason */
	{"order.expired", EFFECT_COPY},
	{"charge.expired", EFFECT_GLIMPSE},
	{"order.canceled", EFFECT_COPY},
	{"charge.canceled", EFFECT_GLIMPSE},
	{"order.voided", EFFECT_COPY},
	/* refunded, partially_refunded by what the order says was given back */
	{"order.refunded", EFFECT_COPY},
	{"charge.refunded", EFFECT_CHARGE},
	{"order.partially_refunded", EFFECT_COPY},
	{"charge.reversed", EFFECT_REVERSED},
	/* disputes */
	{"order.charged_back", EFFECT_COPY},
	{"charge.chargeback.created", EFFECT_CHARGE, "action_required"},
	{"charge.chargeback.under_review", EFFECT_CHARGE, "under_review"},
	{"charge.chargeback.updated", EFFECT_CHARGE},
	{"charge.chargeback.won", EFFECT_CHARGE, "won"},
	{"charge.chargeback.lost", EFFECT_CHARGE, "lost"},
	{"order.updated", EFFECT_COPY},
	{"charge.score_updated", EFFECT_NONE, "scores of fraud are not kept here"},
	/* as its status says; there is no invoice: the order of the cycle is its payment */
	{"subscription.created", EFFECT_COPY},
	{"subscription.updated", EFFECT_COPY},
	{"subscription.paid", EFFECT_COPY},
	{"subscription.payment_failed", EFFECT_COPY},
	{"subscription.paused", EFFECT_COPY},
	{"subscription.resumed", EFFECT_COPY},
	{"subscription.canceled", EFFECT_COPY},
	{"subscription.cancelled", EFFECT_COPY}, /* as it was spelled in former days */
	{"subscription.expired", EFFECT_COPY},
	/* customers */
	{"customer.created", EFFECT_OURS},
	{"customer.updated", EFFECT_COPY},
	{"customer.deleted", EFFECT_GONE},
	{"customer.payment_source.card.blocked", EFFECT_BLOCKED},
	/* the rest */
	{"plan.created", EFFECT_OURS},
	{"plan.updated", EFFECT_COPY},
	{"plan.deleted", EFFECT_GONE},
	{"webhook.*", EFFECT_NONE, "endpoints are read by refresh_webhooks()"},
	{"receipt.created", EFFECT_NONE, "receipts are not kept here"},
	{"payout.*", EFFECT_NONE, "payouts are not kept here"},
	{"payee.*", EFFECT_NONE, "payouts are not kept here"},
	{"cashout.*", EFFECT_NONE, "payouts are not kept here"},
	{"webhook_ping", EFFECT_NONE, "a test of the endpoint"},
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

/* An endpoint of ours is sent what tells something: charges say again what their orders say. */
static bool
is_wanted(const EventRule *rule)
{
	return rule->effect != EFFECT_NONE && rule->effect != EFFECT_GLIMPSE &&
		   strcmp(rule->type, "subscription.cancelled") != 0;
}

void
conekta_add_event_types(JsonBuilder *body, const char *name)
{
	json_open_array(body, name);
	for (size_t i = 0; i < lengthof(rules); i++)
	{
		if (is_wanted(&rules[i]))
			json_append_text(body, rules[i].type);
	}
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

/* ------------------------------------------------------------------------
 * Charges
 * ------------------------------------------------------------------------
 */

/* An event about a charge carries the charge, or only its chargeback. */
static bool
is_chargeback(const Jsonb *object)
{
	return conekta_same(json_text(object, "object"), "chargeback");
}

/* The payment that a charge is a part of, by the order's id or, without that, its own. */
static ProviderSnapshot *
payment_of_charge(const Jsonb *charge, bool livemode)
{
	char *order = json_text(charge, "order_id");
	char *id = json_text(charge, is_chargeback(charge) ? "charge_id" : "id");
	ProviderSnapshot *snapshot;

	if (order == NULL && id == NULL)
		return NULL;
	snapshot = snapshot_new(BILLING_PAYMENT_INTENT, order, json_bool(charge, "livemode", livemode));
	snapshot->has_livemode = json_has(charge, "livemode");
	snapshot->payment_intent.charge = id;
	return snapshot;
}

static void
glimpse_order(const Jsonb *charge, const Jsonb *payload, EventReading *reading)
{
	ProviderSnapshot *payment = payment_of_charge(charge, false);

	if (payment == NULL)
		return;
	payment->as_of = json_unix_time(payload, "created_at");
	payment->payment_intent.status = conekta_payment_status(json_text(charge, "status"));
	event_doubt(reading, payment, false);
}

/*
 * The whole charge was taken back.  Our orders have one charge that succeeds,
 * so that what is true of it is true of the payment.
 */
static void
read_reversed(const Jsonb *charge, bool livemode, EventReading *reading)
{
	ProviderSnapshot *payment = payment_of_charge(charge, livemode);
	int64 amount;

	if (payment == NULL || payment->provider_id == NULL || !json_int(charge, "amount", &amount))
		return;
	payment->terminal = true;
	payment->payment_intent.status = "refunded";
	payment->payment_intent.provider_status = "reversed";
	payment->payment_intent.amount_refunded = amount;
	reading->snapshots = list_make1(payment);
}

/* A chargeback that does not say how it stands: the event does. */
static void
read_chargeback_state(const EventRule *rule, List *snapshots)
{
	ListCell *cell;

	foreach (cell, snapshots)
	{
		ProviderSnapshot *snapshot = lfirst(cell);

		if (snapshot->type == BILLING_DISPUTE && rule->says != NULL &&
			snapshot->dispute.provider_status == NULL)
			conekta_set_chargeback_state(snapshot, rule->says);
	}
}

/*
 * Refunds and the chargeback of a charge.  Without any the charge says only
 * that there is something: the order has it.
 */
static void
read_charge(const Jsonb *object, const EventRule *rule, bool livemode, EventReading *reading)
{
	ProviderSnapshot *payment = payment_of_charge(object, livemode);

	if (payment == NULL)
		return;
	if (is_chargeback(object))
	{
		ProviderSnapshot *chargeback = conekta_chargeback_snapshot(object, livemode);

		if (chargeback != NULL)
		{
			chargeback->dispute.payment_intent = payment->provider_id;
			reading->snapshots = list_make1(chargeback);
		}
	}
	else
		reading->snapshots = conekta_charge_snapshots(object, payment->provider_id,
													  payment->livemode, NIL);
	read_chargeback_state(rule, reading->snapshots);
	if (reading->snapshots == NIL)
		event_doubt(reading, payment, false);
}

/* ------------------------------------------------------------------------
 * Everything else
 * ------------------------------------------------------------------------
 */

/* The event is about a payment source, or names it. */
static void
read_blocked(const Jsonb *object, bool livemode, EventReading *reading)
{
	char *id = json_text(object, conekta_same(json_text(object, "object"), "payment_source")
									 ? "id"
									 : "payment_source_id");
	ProviderSnapshot *source;

	if (id == NULL)
		return;
	source = snapshot_new(BILLING_PAYMENT_METHOD, id, livemode);
	source->partial = true;
	source->payment_method.unusable = "card_blocked";
	reading->snapshots = list_make1(source);
}

static bool
tells_dispute(const List *snapshots)
{
	ListCell *cell;

	foreach (cell, snapshots)
	{
		if (((ProviderSnapshot *) lfirst(cell))->type == BILLING_DISPUTE)
			return true;
	}
	return false;
}

static void
read_object(const Jsonb *object, const EventRule *rule, bool livemode, EventReading *reading)
{
	ProviderSnapshot *own;

	reading->snapshots = conekta_snapshots(object, livemode);
	if (reading->snapshots == NIL)
		return;
	own = linitial(reading->snapshots);
	if (rule->effect == EFFECT_OURS && own->reference == NULL)
	{
		reading->snapshots = NIL;
		reading->ignored = "made by others";
		return;
	}
	if (rule->effect == EFFECT_GONE)
		own->deleted = own->terminal = true;
	/* the money is gone, and nothing is told of the dispute: the order as it is now may */
	if (strcmp(rule->type, "order.charged_back") == 0 && !tells_dispute(reading->snapshots))
		event_doubt(reading, snapshot_new(BILLING_PAYMENT_INTENT, own->provider_id, livemode),
					false);
}

/* What Conekta could be asked for instead of believing the event. */
static const ProviderSnapshot *
subject_of(const Jsonb *object, const EventRule *rule, bool livemode)
{
	List *snapshots;

	if (strncmp(rule->type, "charge.", strlen("charge.")) == 0)
		return payment_of_charge(object, livemode);
	snapshots = conekta_snapshots(object, livemode);
	return snapshots == NIL ? NULL : linitial(snapshots);
}

static void
read_rule(const Jsonb *payload, const Jsonb *object, const EventRule *rule, EventReading *reading)
{
	bool livemode = json_bool(payload, "livemode", false);

	reading->subject = subject_of(object, rule, livemode);
	switch (rule->effect)
	{
		case EFFECT_COPY:
		case EFFECT_OURS:
		case EFFECT_GONE:
			read_object(object, rule, livemode, reading);
			break;
		case EFFECT_GLIMPSE:
			glimpse_order(object, payload, reading);
			break;
		case EFFECT_CHARGE:
			read_charge(object, rule, livemode, reading);
			break;
		case EFFECT_REVERSED:
			read_reversed(object, livemode, reading);
			break;
		case EFFECT_BLOCKED:
			read_blocked(object, livemode, reading);
			break;
		case EFFECT_NONE:
			break;
	}
}

void
conekta_read_event(const Jsonb *payload, EventReading *reading)
{
	const EventRule *rule = find_rule(json_text(payload, "type"));
	Jsonb *object = json_part(payload, "data.object");

	memset(reading, 0, sizeof(*reading));
	if (rule == NULL)
		reading->ignored = "a type of event that this version does not know";
	else if (rule->effect == EFFECT_NONE)
		reading->ignored = rule->says;
	else if (object != NULL)
		read_rule(payload, object, rule, reading);
	if (reading->ignored == NULL && reading->snapshots == NIL && reading->doubts == NIL)
		reading->ignored = "no object that could be read";
}

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
	EFFECT_COPY,            /* the object is as the event shows it */
	EFFECT_OURS,            /* so it is, but only of what we made: others make their own */
	EFFECT_GONE,            /* the event shows what it was: it is no more */
	EFFECT_CHARGE,          /* details of a payment, and the refunds that are listed */
	EFFECT_MANDATE,         /* whether a payment method can be charged */
	EFFECT_INVOICE_PAYMENT, /* which payment pays an invoice */
	EFFECT_UPCOMING,        /* an invoice that does not exist yet: a notice */
	EFFECT_FRAUD_WARNING,   /* a notice about a payment */
	EFFECT_NONE             /* known, and nothing of ours: the reason says why */
} EventEffect;

typedef struct EventRule
{
	const char *type; /* with a * at the end: all that begin so and are not named before */
	EventEffect effect;
	const char *notice; /* what it says beside the state, in our words; NULL: nothing */
	const char *reason; /* of EFFECT_NONE: kept in webhook_events */
} EventRule;

#define COUPONS       "coupons and codes are the provider's own"
#define TAX_RATES     "tax rates are the provider's own"
#define CREDIT_NOTES  "an invoice tells what is left of it itself"
#define TAX_IDS       "tax ids are kept as they were given to us"
#define METERS        "meters are the provider's own"
#define SCHEDULES     "a subscription tells itself what its schedule made of it"
#define PLANS         "a plan is told as a price, too"
#define INVOICE_ITEMS "an invoice tells its amounts itself"
#define NOT_BILLING   "about nothing that is kept here"

/*
 * All types, in the order of the table of Stripe's events in the facts that
 * this module is written from (one paragraph here is one row there), then what
 * else there is.  The status always comes from the object, never from the name
 * of the event, because several events may carry the same state and arrive in
 * any order.
 */
static const EventRule event_rules[] = {
	{"customer.created", EFFECT_OURS},
	{"customer.updated", EFFECT_COPY},
	{"customer.deleted", EFFECT_GONE},

	{"payment_method.attached", EFFECT_COPY},
	{"payment_method.updated", EFFECT_COPY},
	{"payment_method.automatically_updated", EFFECT_COPY},
	{"payment_method.detached", EFFECT_GONE},
	{"mandate.updated", EFFECT_MANDATE},

	{"setup_intent.succeeded", EFFECT_COPY},
	{"setup_intent.setup_failed", EFFECT_COPY},
	{"setup_intent.canceled", EFFECT_COPY},
	{"setup_intent.requires_action", EFFECT_COPY},

	{"payment_intent.created", EFFECT_COPY},
	{"payment_intent.requires_action", EFFECT_COPY},
	{"payment_intent.processing", EFFECT_COPY},
	{"payment_intent.amount_capturable_updated", EFFECT_COPY},
	{"payment_intent.partially_funded", EFFECT_COPY},

	{"payment_intent.succeeded", EFFECT_COPY},
	{"payment_intent.payment_failed", EFFECT_COPY},
	{"payment_intent.canceled", EFFECT_COPY},

	{"charge.succeeded", EFFECT_CHARGE},
	{"charge.failed", EFFECT_CHARGE},
	{"charge.captured", EFFECT_CHARGE},
	{"charge.pending", EFFECT_CHARGE},
	{"charge.expired", EFFECT_CHARGE},
	{"charge.updated", EFFECT_CHARGE},

	{"charge.refunded", EFFECT_CHARGE},

	{"refund.created", EFFECT_COPY},
	{"refund.updated", EFFECT_COPY},
	{"refund.failed", EFFECT_COPY},
	{"charge.refund.updated", EFFECT_COPY}, /* its object is the refund */

	{"charge.dispute.created", EFFECT_COPY},
	{"charge.dispute.updated", EFFECT_COPY},
	{"charge.dispute.funds_withdrawn", EFFECT_COPY},
	{"charge.dispute.funds_reinstated", EFFECT_COPY},
	{"charge.dispute.closed", EFFECT_COPY},

	{"checkout.session.completed", EFFECT_COPY},

	{"checkout.session.async_payment_succeeded", EFFECT_COPY},
	{"checkout.session.async_payment_failed", EFFECT_COPY},
	{"checkout.session.expired", EFFECT_COPY},

	{"customer.subscription.created", EFFECT_COPY},
	{"customer.subscription.updated", EFFECT_COPY},
	{"customer.subscription.paused", EFFECT_COPY},
	{"customer.subscription.resumed", EFFECT_COPY},
	{"customer.subscription.deleted", EFFECT_COPY},

	{"customer.subscription.trial_will_end", EFFECT_COPY, .notice = "subscription.trial_will_end"},
	{"customer.subscription.pending_update_applied", EFFECT_COPY},
	{"customer.subscription.pending_update_expired", EFFECT_COPY},

	{"invoice.created", EFFECT_COPY},
	{"invoice.updated", EFFECT_COPY},
	{"invoice.finalized", EFFECT_COPY},
	{"invoice.sent", EFFECT_COPY},
	{"invoice.overdue", EFFECT_COPY, .notice = "invoice.overdue"},
	{"invoice.will_be_due", EFFECT_COPY, .notice = "invoice.will_be_due"},
	{"invoice.upcoming", EFFECT_UPCOMING},

	{"invoice.paid", EFFECT_COPY},
	{"invoice.payment_succeeded", EFFECT_COPY},
	{"invoice.payment_failed", EFFECT_COPY},
	{"invoice.payment_action_required", EFFECT_COPY, .notice = "invoice.payment_action_required"},
	{"invoice.finalization_failed", EFFECT_COPY, .notice = "invoice.finalization_failed"},

	{"invoice.voided", EFFECT_COPY},
	{"invoice.marked_uncollectible", EFFECT_COPY},
	{"invoice.deleted", EFFECT_GONE},
	{"invoice_payment.paid", EFFECT_INVOICE_PAYMENT},

	{"price.created", EFFECT_OURS},
	{"price.updated", EFFECT_COPY},
	{"price.deleted", EFFECT_GONE},
	{"product.created", EFFECT_OURS},
	{"product.updated", EFFECT_COPY},
	{"product.deleted", EFFECT_GONE},
	{"coupon.created", EFFECT_NONE, .reason = COUPONS},
	{"coupon.updated", EFFECT_NONE, .reason = COUPONS},
	{"coupon.deleted", EFFECT_NONE, .reason = COUPONS},
	{"promotion_code.created", EFFECT_NONE, .reason = COUPONS},
	{"promotion_code.updated", EFFECT_NONE, .reason = COUPONS},
	{"tax_rate.created", EFFECT_NONE, .reason = TAX_RATES},
	{"tax_rate.updated", EFFECT_NONE, .reason = TAX_RATES},
	{"credit_note.created", EFFECT_NONE, .reason = CREDIT_NOTES},
	{"credit_note.updated", EFFECT_NONE, .reason = CREDIT_NOTES},
	{"credit_note.voided", EFFECT_NONE, .reason = CREDIT_NOTES},
	{"customer.tax_id.created", EFFECT_NONE, .reason = TAX_IDS},
	{"customer.tax_id.updated", EFFECT_NONE, .reason = TAX_IDS},
	{"customer.tax_id.deleted", EFFECT_NONE, .reason = TAX_IDS},
	{"billing.meter.created", EFFECT_NONE, .reason = METERS},
	{"billing.meter.updated", EFFECT_NONE, .reason = METERS},
	{"billing.meter.deactivated", EFFECT_NONE, .reason = METERS},
	{"billing.meter.reactivated", EFFECT_NONE, .reason = METERS},
	{"subscription_schedule.created", EFFECT_NONE, .reason = SCHEDULES},
	{"subscription_schedule.updated", EFFECT_NONE, .reason = SCHEDULES},
	{"subscription_schedule.released", EFFECT_NONE, .reason = SCHEDULES},
	{"subscription_schedule.canceled", EFFECT_NONE, .reason = SCHEDULES},
	{"subscription_schedule.completed", EFFECT_NONE, .reason = SCHEDULES},
	{"subscription_schedule.aborted", EFFECT_NONE, .reason = SCHEDULES},
	{"subscription_schedule.expiring", EFFECT_NONE, .reason = SCHEDULES},

	/* what is not in that table */
	{"setup_intent.created", EFFECT_COPY},
	{"payment_link.created", EFFECT_COPY},
	{"payment_link.updated", EFFECT_COPY},
	{"invoice.overpaid", EFFECT_COPY},
	{"invoice.payment_attempt_required", EFFECT_COPY},
	{"radar.early_fraud_warning.created", EFFECT_FRAUD_WARNING,
	 .notice = "payment_intent.early_fraud_warning"},
	{"radar.early_fraud_warning.updated", EFFECT_NONE,
	 .reason = "a warning is told when it is made"},
	{"customer.discount.created", EFFECT_NONE, .reason = COUPONS},
	{"customer.discount.updated", EFFECT_NONE, .reason = COUPONS},
	{"customer.discount.deleted", EFFECT_NONE, .reason = COUPONS},
	{"invoiceitem.created", EFFECT_NONE, .reason = INVOICE_ITEMS},
	{"invoiceitem.deleted", EFFECT_NONE, .reason = INVOICE_ITEMS},
	{"plan.created", EFFECT_NONE, .reason = PLANS},
	{"plan.updated", EFFECT_NONE, .reason = PLANS},
	{"plan.deleted", EFFECT_NONE, .reason = PLANS},
	{"billing_portal.session.created", EFFECT_NONE, .reason = "our own call is answered by it"},

	/* whole families that are none of billing's business */
	{"account.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"application_fee.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"apps.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"balance.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"balance_settings.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"billing.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"billing_portal.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"capability.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"cash_balance.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"climate.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"customer.source.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"customer_cash_balance_transaction.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"entitlements.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"file.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"financial_connections.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"identity.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"issuing_*", EFFECT_NONE, .reason = NOT_BILLING},
	{"payout.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"person.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"quote.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"reporting.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"reserve.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"review.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"sigma.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"source.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"tax.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"terminal.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"test_helpers.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"three_d_secure.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"topup.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"transfer.*", EFFECT_NONE, .reason = NOT_BILLING},
	{"treasury.*", EFFECT_NONE, .reason = NOT_BILLING},
};

static const EventRule *
find_rule(const char *type)
{
	for (size_t i = 0; i < lengthof(event_rules); i++)
	{
		if (event_type_is(type, event_rules[i].type))
			return &event_rules[i];
	}
	return NULL;
}

const char *
stripe_next_event_type(size_t *next)
{
	while (*next < lengthof(event_rules))
	{
		const EventRule *rule = &event_rules[(*next)++];

		if (rule->effect != EFFECT_NONE)
			return rule->type;
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
 * because nothing of it is applied, but for what it says of a meter's errors.
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
	if (thin && stripe_meter_errors(payload, false) != NULL)
		identity->time = json_rfc3339_time(payload, "created");
	identity->has_livemode = json_has(payload, "livemode");
	identity->livemode = json_bool(payload, "livemode", false);
	identity->sub_account = json_text(payload, thin ? "context" : "account");
	return true;
}

/*
 * Types that say what the object does not: a session tells its status since
 * 2021 only, and never that a slow payment has failed.
 */
static void
read_type(const char *type, ProviderSnapshot *snapshot)
{
	CheckoutSessionSnapshot *session = &snapshot->checkout_session;

	if (strcmp(type, "charge.dispute.funds_withdrawn") == 0)
		snapshot->dispute.funds_withdrawn = true;
	else if (strcmp(type, "charge.dispute.funds_reinstated") == 0)
		snapshot->dispute.funds_reinstated = true;
	else if (strcmp(type, "checkout.session.async_payment_failed") == 0)
	{
		session->status = "failed";
		snapshot->terminal = true;
	}
	else if (strcmp(type, "checkout.session.completed") == 0 && session->status == NULL)
		session->status = "complete";
}

/* ------------------------------------------------------------------------
 * Effects
 * ------------------------------------------------------------------------
 */
typedef struct Event
{
	const EventRule *rule;
	const Jsonb *object;
	const Jsonb *former; /* of members that have changed; NULL: not told */
	bool livemode;       /* for objects that do not say it themselves */
} Event;

/* Why nothing is left to apply. */
#define UNREADABLE "no object that could be read"

/* What is detached is nobody's any more; whose it was is told beside it. */
static void
read_gone(const Event *event, ProviderSnapshot *snapshot)
{
	stripe_mark_gone(snapshot);
	if (snapshot->type == BILLING_PAYMENT_METHOD && snapshot->payment_method.customer == NULL &&
		event->former != NULL)
		snapshot->payment_method.customer = stripe_id_at(event->former, "customer");
}

static void
read_object(const Event *event, EventReading *reading)
{
	const EventRule *rule = event->rule;
	ProviderSnapshot *snapshot = stripe_snapshot(event->object, event->livemode);

	if (snapshot == NULL)
	{
		reading->ignored = UNREADABLE;
		return;
	}
	if (rule->effect == EFFECT_OURS && snapshot->reference == NULL)
	{
		reading->ignored = "made by others";
		return;
	}
	if (rule->effect == EFFECT_GONE)
		read_gone(event, snapshot);
	read_type(rule->type, snapshot);
	reading->snapshots = list_make1(snapshot);
	if (rule->notice != NULL)
		event_notice(reading, rule->notice, snapshot->type, snapshot->provider_id);
}

/*
 * Since 2022-11-15 each refund is told by events of its own and the list is
 * left out; the sum of them is told either way.  What is listed comes first,
 * so that the sum finds it counted.
 */
static void
read_charge(const Event *event, EventReading *reading)
{
	ProviderSnapshot *charge = stripe_charge_snapshot(event->object, event->livemode);
	int count = json_length(event->object, "refunds.data");

	for (int i = 0; i < count; i++)
	{
		Jsonb *refund = json_part(event->object, psprintf("refunds.data.%d", i));
		ProviderSnapshot *snapshot = refund == NULL ? NULL
													: stripe_snapshot(refund, event->livemode);

		if (snapshot != NULL)
			reading->snapshots = lappend(reading->snapshots, snapshot);
	}
	if (charge != NULL)
		reading->snapshots = lappend(reading->snapshots, charge);
	if (reading->snapshots == NIL)
		reading->ignored = "a charge of no payment intent";
}

static void
read_part(ProviderSnapshot *snapshot, const char *missing, EventReading *reading)
{
	if (snapshot == NULL)
		reading->ignored = missing;
	else
		reading->snapshots = list_make1(snapshot);
}

/* It has no id yet, so that it is told of what will be billed. */
static void
read_upcoming(const Event *event, EventReading *reading)
{
	char *subscription = stripe_invoice_subscription(event->object);
	char *customer = stripe_id_at(event->object, "customer");

	if (subscription != NULL)
		event_notice(reading, "subscription.invoice_upcoming", BILLING_SUBSCRIPTION, subscription);
	else if (customer != NULL)
		event_notice(reading, "customer.invoice_upcoming", BILLING_CUSTOMER, customer);
	else
		reading->ignored = UNREADABLE;
}

/* The payment may be named by its charge alone. */
static void
read_fraud_warning(const Event *event, EventReading *reading)
{
	char *intent = stripe_id_at(event->object, "payment_intent");
	char *charge = stripe_id_at(event->object, "charge");

	if (intent == NULL && charge == NULL)
		reading->ignored = UNREADABLE;
	else
		event_notice(reading, event->rule->notice, BILLING_PAYMENT_INTENT, intent)->charge = charge;
}

static void
read_effect(const Event *event, EventReading *reading)
{
	switch (event->rule->effect)
	{
		case EFFECT_COPY:
		case EFFECT_OURS:
		case EFFECT_GONE:
			read_object(event, reading);
			break;
		case EFFECT_CHARGE:
			read_charge(event, reading);
			break;
		case EFFECT_MANDATE:
			read_part(stripe_mandate_snapshot(event->object, event->livemode), UNREADABLE, reading);
			break;
		case EFFECT_INVOICE_PAYMENT:
			read_part(stripe_invoice_payment_snapshot(event->object, event->livemode),
					  "paid by no payment intent", reading);
			break;
		case EFFECT_UPCOMING:
			read_upcoming(event, reading);
			break;
		case EFFECT_FRAUD_WARNING:
			read_fraud_warning(event, reading);
			break;
		case EFFECT_NONE:
			reading->ignored = event->rule->reason;
			break;
	}
}

void
stripe_read_event(const Jsonb *payload, EventReading *reading)
{
	char *type = json_text(payload, "type");
	Event event = {
		.object = json_part(payload, "data.object"),
		.former = json_part(payload, "data.previous_attributes"),
		.livemode = json_bool(payload, "livemode", false),
	};

	memset(reading, 0, sizeof(*reading));
	event.rule = type == NULL ? NULL : find_rule(type);
	if (is_thin(payload))
		read_part(stripe_meter_errors(payload, event.livemode), "thin event", reading);
	else if (event.rule == NULL)
		reading->ignored = "a type of event that is not known here";
	else if (event.object == NULL && event.rule->effect != EFFECT_NONE)
		reading->ignored = UNREADABLE;
	else
		read_effect(&event, reading);
}

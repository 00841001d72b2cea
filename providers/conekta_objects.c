/*-------------------------------------------------------------------------
 *
 * conekta_objects.c
 *	  Conekta's objects become snapshots.
 *
 * The same readers serve the answers to our own calls and the objects inside
 * of events, so that both say the same.  An order is a payment intent, and
 * contains its charges with their refunds and chargebacks, and the hosted page
 * that it is paid on.
 *
 *-------------------------------------------------------------------------
 */
#include "conekta.h"

#include "common/int.h"

/* ------------------------------------------------------------------------
 * Values
 * ------------------------------------------------------------------------
 */
typedef struct Word
{
	const char *theirs;
	const char *ours;
} Word;

/* NULL for a word that is not in the list. */
static const char *
translate(const char *theirs, const Word *words, int count)
{
	for (int i = 0; theirs != NULL && i < count; i++)
	{
		if (pg_strcasecmp(theirs, words[i].theirs) == 0)
			return words[i].ours;
	}
	return NULL;
}

#define TRANSLATE(theirs, words) translate((theirs), (words), lengthof(words))

/* What was paid back comes with a minus sign. */
static int64
positive(int64 amount)
{
	return amount == NO_AMOUNT || amount >= 0 ? amount : -amount;
}

static int
digits_at(const Jsonb *object, const char *path)
{
	int64 value;
	char *text = json_text(object, path);

	if (!json_int(object, path, &value))
		value = text == NULL ? 0 : strtol(text, NULL, 10); /* "05" */
	return value < 0 || value > PG_INT32_MAX ? 0 : (int) value;
}

static ProviderSnapshot *
new_snapshot(BillingObject type, const Jsonb *object, bool livemode)
{
	char *id = json_text(object, "id");
	ProviderSnapshot *snapshot;

	if (id == NULL || *id == '\0')
		return NULL;
	snapshot = snapshot_new(type, id, json_bool(object, "livemode", livemode));
	snapshot->has_livemode = json_has(object, "livemode");
	return snapshot;
}

/* ------------------------------------------------------------------------
 * Customers and payment sources
 * ------------------------------------------------------------------------
 */
static void
read_customer(const Jsonb *object, ProviderSnapshot *snapshot)
{
	CustomerSnapshot *customer = &snapshot->customer;

	snapshot->reference = json_text(object, "metadata." CONEKTA_REFERENCE);
	if (snapshot->reference == NULL)
		snapshot->reference = json_text(object, "custom_reference");
	customer->email = json_text(object, "email");
	customer->name = json_text(object, "name");
	customer->phone = json_text(object, "phone");
	customer->default_payment_method = json_text(object, "default_payment_source_id");
}

/* What a reusable reference is paid to: a CLABE, or a number with its barcode. */
static Jsonb *
reusable_reference(const Jsonb *object, bool spei)
{
	int64 expires_at;
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, "type", spei ? "spei" : "oxxo");
	json_add_text(&b, spei ? "clabe" : "reference", json_text(object, "reference"));
	json_add_text(&b, "bank", json_text(object, "bank"));
	json_add_text(&b, "barcode_url", json_text(object, "barcode_url"));
	if (json_int(object, "expires_at", &expires_at) && expires_at > 0)
		json_add_int(&b, "expires_at", expires_at);
	return json_close(&b);
}

static void
read_payment_source(const Jsonb *object, ProviderSnapshot *snapshot)
{
	static const Word types[] = {{"oxxo_recurrent", "cash_recurrent"},
								 {"cash_recurrent", "cash_recurrent"},
								 {"cash", "cash_recurrent"},
								 {"spei_recurrent", "spei_recurrent"},
								 {"spei", "spei_recurrent"}};
	PaymentMethodSnapshot *method = &snapshot->payment_method;
	char *type = json_text(object, "type");
	const char *reusable = TRANSLATE(type, types);

	method->customer = json_text(object, "parent_id");
	method->type = reusable != NULL ? reusable : type;
	method->is_default = json_bool(object, "default", false);
	if (reusable != NULL)
	{
		method->reference = reusable_reference(object, strcmp(reusable, "spei_recurrent") == 0);
		return;
	}
	method->brand = json_text(object, "brand");
	method->last4 = json_text(object, "last4");
	method->exp_month = digits_at(object, "exp_month");
	method->exp_year = digits_at(object, "exp_year");
	if (method->exp_year > 0 && method->exp_year < 100)
		method->exp_year += 2000;
}

/* ------------------------------------------------------------------------
 * Plans and subscriptions
 * ------------------------------------------------------------------------
 */
static void
read_plan(const Jsonb *object, ProviderSnapshot *snapshot)
{
	const size_t prefix = strlen(CONEKTA_PLAN_PREFIX);

	if (strncmp(snapshot->provider_id, CONEKTA_PLAN_PREFIX, prefix) == 0)
		snapshot->reference = snapshot->provider_id + prefix;
}

const char *
conekta_subscription_status(const char *status)
{
	static const Word words[] = {
		{"in_trial", "trialing"}, {"trialing", "trialing"}, {"active", "active"},
		{"past_due", "past_due"}, {"unpaid", "unpaid"},     {"paused", "paused"},
		{"canceled", "canceled"}, {"expired", "canceled"},  {"incomplete", "incomplete"}};

	return TRANSLATE(status, words);
}

static void
read_subscription(const Jsonb *object, ProviderSnapshot *snapshot)
{
	SubscriptionSnapshot *subscription = &snapshot->subscription;

	subscription->provider_status = json_text(object, "status");
	subscription->status = conekta_subscription_status(subscription->provider_status);
	/* a word that we do not know entitles to nothing, and moves nothing that runs */
	if (subscription->status == NULL)
		subscription->status = "incomplete";
	subscription->customer = json_text(object, "customer_id");
	subscription->price = json_text(object, "plan_id");
	subscription->quantity = 1;
	subscription->created_at = json_unix_time(object, "created_at");
	subscription->payment_method = json_text(object, "card_id");
	subscription->trial_start = json_unix_time(object, "trial_start");
	subscription->trial_end = json_unix_time(object, "trial_end");
	subscription->current_period_start = json_unix_time(object, "billing_cycle_start");
	subscription->current_period_end = json_unix_time(object, "billing_cycle_end");
	/* the first cycle begins when the trial ends */
	if (subscription->current_period_end == 0)
	{
		subscription->current_period_start = subscription->trial_start;
		subscription->current_period_end = subscription->trial_end;
	}
	subscription->canceled_at = json_unix_time(object, "canceled_at");
	if (conekta_same(subscription->status, "canceled"))
	{
		subscription->ended_at = subscription->canceled_at;
		snapshot->terminal = true;
	}
}

/* ------------------------------------------------------------------------
 * Charges: refunds, chargebacks, what the customer has to do
 * ------------------------------------------------------------------------
 */
static const char *
refund_status(const char *status)
{
	static const Word words[] = {{"pending", "pending"},   {"processing", "pending"},
								 {"failed", "failed"},     {"declined", "failed"},
								 {"canceled", "canceled"}, {"cancelled", "canceled"},
								 {"expired", "canceled"},  {"voided", "canceled"}};
	const char *known = TRANSLATE(status, words);

	/* the refund of a card is done when it is there, whatever word it has */
	return known != NULL ? known : "succeeded";
}

static ProviderSnapshot *
refund_snapshot(const Jsonb *refund, const Jsonb *charge, const char *order, bool livemode)
{
	ProviderSnapshot *snapshot = new_snapshot(BILLING_REFUND, refund, livemode);

	if (snapshot == NULL)
		return NULL;
	snapshot->refund.payment_intent = order;
	snapshot->refund.charge = json_text(charge, "id");
	snapshot->refund.status = refund_status(json_text(refund, "status"));
	snapshot->refund.currency = currency_at(charge, "currency");
	snapshot->refund.amount = positive(amount_at(refund, "amount"));
	snapshot->refund.created_at = json_unix_time(refund, "created_at");
	snapshot->terminal = strcmp(snapshot->refund.status, "pending") != 0;
	return snapshot;
}

void
conekta_set_chargeback_state(ProviderSnapshot *snapshot, const char *status)
{
	static const Word words[] = {{"won", "won"},
								 {"covered", "won"},
								 {"lost", "lost"},
								 {"action_required", "needs_response"},
								 {"rt", "under_review"},
								 {"pending_review", "under_review"},
								 {"rt_sent", "under_review"},
								 {"under_review", "under_review"},
								 {"represented", "under_review"}};
	static const char *const answered[] = {"represented", "rt_sent", NULL};
	DisputeSnapshot *dispute = &snapshot->dispute;

	dispute->provider_status = status;
	dispute->status = TRANSLATE(status, words);
	if (dispute->status == NULL)
		dispute->status = "under_review";
	dispute->evidence_submitted = is_one_of(status, answered);
	dispute->funds_withdrawn = conekta_same(dispute->status, "lost");
	dispute->funds_reinstated = conekta_same(dispute->status, "won");
	snapshot->terminal = dispute->funds_withdrawn || dispute->funds_reinstated;
}

ProviderSnapshot *
conekta_chargeback_snapshot(const Jsonb *chargeback, bool livemode)
{
	ProviderSnapshot *snapshot = new_snapshot(BILLING_DISPUTE, chargeback, livemode);
	DisputeSnapshot *dispute;

	if (snapshot == NULL)
		return NULL;
	conekta_set_chargeback_state(snapshot, json_text(chargeback, "status"));
	dispute = &snapshot->dispute;
	dispute->charge = json_text(chargeback, "charge_id");
	dispute->reason = json_text(chargeback, "reason");
	dispute->evidence_due_by = json_unix_time(chargeback, "evidence_due_by");
	dispute->created_at = json_unix_time(chargeback, "created_at");
	return snapshot;
}

/* The list of refunds is an object with data in an order, and a bare array elsewhere. */
List *
conekta_charge_snapshots(const Jsonb *charge, const char *order, bool livemode, List *snapshots)
{
	const char *path = json_part(charge, "refunds.data") != NULL ? "refunds.data" : "refunds";
	int refunds = json_length(charge, path);
	Jsonb *chargeback = json_part(charge, "chargeback");
	ProviderSnapshot *snapshot;

	livemode = json_bool(charge, "livemode", livemode);
	for (int i = 0; i < refunds; i++)
	{
		Jsonb *refund = json_part(charge, psprintf("%s.%d", path, i));

		snapshot = refund == NULL ? NULL : refund_snapshot(refund, charge, order, livemode);
		if (snapshot != NULL)
			snapshots = lappend(snapshots, snapshot);
	}
	snapshot = chargeback == NULL ? NULL : conekta_chargeback_snapshot(chargeback, livemode);
	if (snapshot != NULL)
	{
		snapshot->dispute.payment_intent = order;
		snapshot->dispute.charge = json_text(charge, "id");
		snapshot->dispute.currency = currency_at(charge, "currency");
		snapshot->dispute.amount = amount_at(charge, "amount");
		if (conekta_same(json_text(charge, "status"), "charged_back"))
			snapshot->dispute.funds_withdrawn = true;
		snapshots = lappend(snapshots, snapshot);
	}
	return snapshots;
}

static const char *
charge_method(const Jsonb *charge)
{
	static const Word words[] = {{"card_payment", "card"},
								 {"card", "card"},
								 {"credit", "card"},
								 {"debit", "card"},
								 {"prepaid", "card"},
								 {"cash_payment", "oxxo"},
								 {"cash", "oxxo"},
								 {"oxxo", "oxxo"},
								 {"oxxo_cash", "oxxo"},
								 {"bank_transfer_payment", "spei"},
								 {"bank_transfer", "spei"},
								 {"spei", "spei"},
								 {"bnpl_payment", "bnpl"},
								 {"bnpl", "bnpl"},
								 {"pay_by_bank_payment", "pay_by_bank"},
								 {"pay_by_bank", "pay_by_bank"}};
	const char *method = TRANSLATE(json_text(charge, "payment_method.object"), words);

	return method != NULL ? method : TRANSLATE(json_text(charge, "payment_method.type"), words);
}

static Jsonb *
redirect_to(const char *url)
{
	JsonBuilder b;

	if (url == NULL)
		return NULL;
	json_open(&b);
	json_add_text(&b, "type", "redirect");
	json_add_text(&b, "url", url);
	return json_close(&b);
}

/* A reference or an account to pay to; of an order that waits for the customer. */
static Jsonb *
charge_action(const Jsonb *charge, const char *method)
{
	Jsonb *details = charge == NULL ? NULL : json_part(charge, "payment_method");
	bool oxxo = conekta_same(method, "oxxo");
	const char *account;
	int64 expires_at;
	JsonBuilder b;

	if (details == NULL)
		return NULL;
	if (!oxxo && !conekta_same(method, "spei"))
		return redirect_to(json_text(details, "redirect_url"));
	account = json_text(details, oxxo ? "reference" : "clabe");
	if (account == NULL && !oxxo)
		account = json_text(details, "receiving_account_number");
	if (account == NULL)
		return NULL;
	json_open(&b);
	json_add_text(&b, "type", method);
	json_add_text(&b, oxxo ? "reference" : "clabe", account);
	json_add_text(&b, "barcode_url", oxxo ? json_text(details, "barcode_url") : NULL);
	json_add_text(&b, "bank", oxxo ? NULL : json_text(details, "bank"));
	if (json_int(details, "expires_at", &expires_at) && expires_at > 0)
		json_add_int(&b, "expires_at", expires_at);
	return json_close(&b);
}

/* ------------------------------------------------------------------------
 * Orders
 * ------------------------------------------------------------------------
 */
static const Word payment_words[] = {{"pending_payment", "requires_action"},
									 {"pending_confirmation", "requires_action"},
									 {"pre_authorized", "requires_capture"},
									 {"preauthorized", "requires_capture"},
									 {"paid", "succeeded"},
									 {"declined", "failed"},
									 {"fraudulent", "failed"},
									 {"expired", "canceled"},
									 {"canceled", "canceled"},
									 {"cancelled", "canceled"},
									 {"voided", "canceled"},
									 {"refunded", "refunded"},
									 {"reversed", "refunded"},
									 {"partially_refunded", "partially_refunded"},
									 {"charged_back", "succeeded"},
									 {"under_fraud_review", "processing"},
									 {"partially_paid", "processing"},
									 {"processing", "processing"}};

const char *
conekta_payment_status(const char *status)
{
	return TRANSLATE(status, payment_words);
}

/* The newest, which is the one that counts: an order is charged again after a decline. */
static Jsonb *
latest_charge(const Jsonb *order)
{
	int count = json_length(order, "charges.data");
	TimestampTz newest = 0;
	int latest = -1;

	for (int i = 0; i < count; i++)
	{
		TimestampTz created = json_unix_time(order, psprintf("charges.data.%d.created_at", i));

		if (latest < 0 || created >= newest)
		{
			newest = created;
			latest = i;
		}
	}
	return latest < 0 ? NULL : json_part(order, psprintf("charges.data.%d", latest));
}

/* A new order has no payment status; the charge that was tried has one. */
static void
read_payment_status(const Jsonb *order, const Jsonb *charge, PaymentIntentSnapshot *intent)
{
	Jsonb *action = redirect_to(json_text(order, "next_action.redirect_to_url.url"));

	intent->provider_status = json_text(order, "payment_status");
	if (intent->provider_status == NULL && charge != NULL)
		intent->provider_status = json_text(charge, "status");
	intent->status = intent->provider_status == NULL
						 ? "pending"
						 : TRANSLATE(intent->provider_status, payment_words);
	if (intent->status == NULL)
		intent->status = "processing";
	if (action != NULL && conekta_same(intent->status, "pending"))
		intent->status = "requires_action";
	if (!conekta_same(intent->status, "requires_action"))
		return;
	intent->next_action = action != NULL ? action : charge_action(charge, intent->method);
	if (intent->next_action == NULL)
		intent->status = "processing";
}

static void
read_charge(const Jsonb *charge, PaymentIntentSnapshot *intent)
{
	static const char *const failed[] = {"failed", "canceled", NULL};

	intent->charge = json_text(charge, "id");
	intent->installments = digits_at(charge, "monthly_installments");
	intent->payment_method = json_text(charge, "payment_method.payment_source_id");
	intent->expires_at = json_unix_time(charge, "payment_method.expires_at");
	intent->paid_at = json_unix_time(charge, "paid_at");
	if (is_one_of(intent->status, failed))
	{
		intent->error_code = json_text(charge, "failure_code");
		intent->decline_code = intent->error_code;
	}
}

static const char *const received[] = {"succeeded", "partially_refunded", "refunded", NULL};
static const char *const reversed[] = {"reversed", NULL};

static bool
was_received(const char *status)
{
	return is_one_of(conekta_payment_status(status), received);
}

/* An order does not always say that a shop took back what was paid there; its charge does. */
static bool
was_reversed(const char *status)
{
	return is_one_of(status, reversed);
}

/*
 * What is kept of each charge that was paid; one that waits for the customer
 * names its fee before there is any.  Not told where one of them does not.
 */
static void
read_fee(const Jsonb *order, PaymentIntentSnapshot *intent)
{
	int count = json_length(order, "charges.data");
	int64 sum = NO_AMOUNT;

	for (int i = 0; i < count; i++)
	{
		char *at = psprintf("charges.data.%d", i);
		int64 fee = amount_at(order, psprintf("%s.fee", at));

		if (!was_received(json_text(order, psprintf("%s.status", at))))
			continue;
		if (fee == NO_AMOUNT || pg_add_s64_overflow(sum == NO_AMOUNT ? 0 : sum, fee, &sum))
			return;
	}
	if (sum != NO_AMOUNT)
		intent->fee = (FeeSnapshot){sum, intent->currency};
}

/* Of the charges in such a state: an order may be split into several.  NO_AMOUNT: there is none. */
static int64
sum_of_charges(const Jsonb *order, bool (*counts)(const char *status))
{
	int count = json_length(order, "charges.data");
	int64 sum = NO_AMOUNT;

	for (int i = 0; i < count; i++)
	{
		char *at = psprintf("charges.data.%d", i);
		int64 amount = amount_at(order, psprintf("%s.amount", at));

		if (amount == NO_AMOUNT || !counts(json_text(order, psprintf("%s.status", at))))
			continue;
		if (sum == NO_AMOUNT)
			sum = amount;
		else if (pg_add_s64_overflow(sum, amount, &sum))
			return NO_AMOUNT;
	}
	return sum;
}

static void
read_amounts(const Jsonb *order, const Jsonb *charge, PaymentIntentSnapshot *intent)
{
	int64 charged = charge == NULL ? NO_AMOUNT : amount_at(charge, "amount");
	int64 paid = sum_of_charges(order, was_received);

	intent->as_asked = true;
	intent->currency = currency_at(order, "currency");
	intent->amount = amount_at(order, "amount");
	intent->amount_refunded = Max(positive(amount_at(order, "amount_refunded")),
								  sum_of_charges(order, was_reversed));
	intent->amount_capturable = 0;
	intent->amount_received = 0;
	if (charged == NO_AMOUNT)
		charged = intent->amount;
	if (paid != NO_AMOUNT)
		intent->amount_received = paid;
	else if (is_one_of(intent->status, received))
		intent->amount_received = charged;
	else if (conekta_same(intent->status, "requires_capture"))
		intent->amount_capturable = charged;
}

static void
read_order(const Jsonb *order, ProviderSnapshot *snapshot)
{
	static const char *const final[] = {"succeeded", "partially_refunded", "refunded", "canceled",
										NULL};
	PaymentIntentSnapshot *intent = &snapshot->payment_intent;
	Jsonb *charge = latest_charge(order);

	snapshot->reference = json_text(order, "metadata." CONEKTA_REFERENCE);
	intent->customer = json_text(order, "customer_info.customer_id");
	intent->created_at = json_unix_time(order, "created_at");
	intent->checkout_session = json_text(order, "checkout.id");
	if (intent->checkout_session == NULL)
		intent->checkout_session = json_text(order, "channel.checkout_request_id");
	intent->method = charge == NULL ? NULL : charge_method(charge);
	read_payment_status(order, charge, intent);
	if (charge != NULL)
		read_charge(charge, intent);
	read_amounts(order, charge, intent);
	read_fee(order, intent);
	if (conekta_same(intent->status, "canceled"))
		intent->cancellation_reason = intent->provider_status;
	snapshot->terminal = is_one_of(intent->status, final);
}

/* ------------------------------------------------------------------------
 * Checkouts and portals
 * ------------------------------------------------------------------------
 */
static void
read_checkout(const Jsonb *object, ProviderSnapshot *snapshot)
{
	static const Word words[] = {{"issued", "open"},        {"pending", "open"},
								 {"finalized", "complete"}, {"paid", "complete"},
								 {"completed", "complete"}, {"expired", "expired"},
								 {"canceled", "canceled"},  {"cancelled", "canceled"}};
	CheckoutSessionSnapshot *session = &snapshot->checkout_session;

	snapshot->reference = json_text(object, "metadata." CONEKTA_SESSION);
	session->kind = conekta_same(json_text(object, "type"), "PaymentLink") ? "link" : "session";
	session->provider_status = json_text(object, "status");
	session->status = TRANSLATE(session->provider_status, words);
	if (session->status == NULL)
		session->status = "open";
	session->url = json_text(object, "url");
	session->expires_at = json_unix_time(object, "expires_at");
	snapshot->terminal = strcmp(session->status, "open") != 0;
}

/* The order knows what was paid; the page itself only whether it can still be used. */
static ProviderSnapshot *
checkout_of_order(const Jsonb *order, const ProviderSnapshot *payment)
{
	static const char *const paid[] = {"succeeded", "partially_refunded", "refunded", NULL};
	static const char *const waiting[] = {"requires_action", "processing", "requires_capture",
										  NULL};
	const PaymentIntentSnapshot *intent = &payment->payment_intent;
	Jsonb *object = json_part(order, "checkout");
	ProviderSnapshot *snapshot = object == NULL ? NULL
												: new_snapshot(BILLING_CHECKOUT_SESSION, object,
															   payment->livemode);
	CheckoutSessionSnapshot *session;

	if (snapshot == NULL)
		return NULL;
	read_checkout(object, snapshot);
	session = &snapshot->checkout_session;
	snapshot->reference = json_text(order, "metadata." CONEKTA_SESSION);
	session->customer = intent->customer;
	session->payment_intent = payment->provider_id;
	session->currency = intent->currency;
	session->amount_total = intent->amount;
	session->payment_status = is_one_of(intent->status, paid) ? "paid" : "unpaid";
	if (is_one_of(intent->status, paid))
		session->status = "complete";
	else if (is_one_of(intent->status, waiting) && conekta_same(session->status, "open"))
		session->status = "processing";
	snapshot->terminal = (conekta_same(session->status, "complete") &&
						  conekta_same(session->payment_status, "paid")) ||
						 conekta_same(session->status, "expired") ||
						 conekta_same(session->status, "canceled");
	return snapshot;
}

static void
read_portal(const Jsonb *object, ProviderSnapshot *snapshot)
{
	snapshot->portal_session.url = json_text(object, "portal_url");
	snapshot->portal_session.customer = json_text(object, "customer_id");
}

ProviderSnapshot *
conekta_endpoint_snapshot(const Jsonb *object, bool livemode)
{
	ProviderSnapshot *snapshot = new_snapshot(BILLING_WEBHOOK_ENDPOINT, object, livemode);

	if (snapshot == NULL)
		return NULL;
	snapshot->webhook_endpoint.url = json_text(object, "url");
	snapshot->webhook_endpoint.enabled = json_bool(object, "active", true);
	snapshot->webhook_endpoint.events = json_part(object, "subscribed_events");
	return snapshot;
}

/* ------------------------------------------------------------------------
 * All objects
 * ------------------------------------------------------------------------
 */
static const struct
{
	const char *word; /* Conekta's, in the member "object" */
	BillingObject type;
	void (*read)(const Jsonb *object, ProviderSnapshot *snapshot);
} readers[] = {
	{"customer", BILLING_CUSTOMER, read_customer},
	{"payment_source", BILLING_PAYMENT_METHOD, read_payment_source},
	{"order", BILLING_PAYMENT_INTENT, read_order},
	{"plan", BILLING_PRICE, read_plan},
	{"subscription", BILLING_SUBSCRIPTION, read_subscription},
	{"checkout", BILLING_CHECKOUT_SESSION, read_checkout},
	{"customer_portal", BILLING_PORTAL_SESSION, read_portal},
};

static List *
add_contents(const Jsonb *order, const ProviderSnapshot *payment, List *snapshots)
{
	int charges = json_length(order, "charges.data");
	ProviderSnapshot *checkout = checkout_of_order(order, payment);

	for (int i = 0; i < charges; i++)
		snapshots = conekta_charge_snapshots(json_part(order, psprintf("charges.data.%d", i)),
											 payment->provider_id, payment->livemode, snapshots);
	return checkout == NULL ? snapshots : lappend(snapshots, checkout);
}

List *
conekta_snapshots(const Jsonb *object, bool livemode)
{
	char *word = json_text(object, "object");

	for (size_t i = 0; word != NULL && i < lengthof(readers); i++)
	{
		ProviderSnapshot *snapshot;

		if (strcmp(word, readers[i].word) != 0)
			continue;
		snapshot = new_snapshot(readers[i].type, object, livemode);
		if (snapshot == NULL)
			return NIL;
		readers[i].read(object, snapshot);
		if (snapshot->type == BILLING_PAYMENT_INTENT)
			return add_contents(object, snapshot, list_make1(snapshot));
		return list_make1(snapshot);
	}
	return NIL;
}

ProviderSnapshot *
conekta_gone_snapshot(BillingObject type, const char *id, bool livemode)
{
	ProviderSnapshot *snapshot = snapshot_new(type, id, livemode);

	snapshot->deleted = true;
	snapshot->terminal = true;
	return snapshot;
}

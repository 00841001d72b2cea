/*-------------------------------------------------------------------------
 *
 * stripe_payment_objects.c
 *	  Stripe's objects that have to do with a payment become snapshots:
 *	  intents, refunds, disputes, and the pages on which one pays.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe.h"

#include "common/int.h"

#include "json.h"

static bool
is(const Jsonb *object, const char *path, const char *word)
{
	return same_text(json_text(object, path), word);
}

/* ------------------------------------------------------------------------
 * What the customer has to do
 *
 * Stripe's next_action is {type, <type>: {...}}; ours is told in snapshot.h.
 * ------------------------------------------------------------------------
 */
static void
add_number(JsonBuilder *action, const char *name, const Jsonb *details, const char *path)
{
	int64 value;

	if (json_int(details, path, &value))
		json_add_int(action, name, value);
}

static void
add_redirect(JsonBuilder *action, const Jsonb *details)
{
	json_add_text(action, "type", "redirect");
	json_add_text(action, "url", json_text(details, "url"));
}

/* The page shows the barcode, too. */
static void
add_oxxo(JsonBuilder *action, const Jsonb *details)
{
	json_add_text(action, "type", "oxxo");
	json_add_text(action, "reference", json_text(details, "number"));
	json_add_text(action, "url", json_text(details, "hosted_voucher_url"));
	add_number(action, "expires_at", details, "expires_after");
}

static void
add_microdeposits(JsonBuilder *action, const Jsonb *details)
{
	json_add_text(action, "type", "verify_microdeposits");
	json_add_text(action, "url", json_text(details, "hosted_verification_url"));
	add_number(action, "arrival", details, "arrival_date");
}

/* A CLABE where the transfer is SPEI's; other transfers have their page. */
static void
add_transfer(JsonBuilder *action, const Jsonb *details)
{
	int count = json_length(details, "financial_addresses");

	for (int i = 0; i < count; i++)
	{
		char *path = psprintf("financial_addresses.%d.spei", i);

		if (json_part(details, path) == NULL)
			continue;
		json_add_text(action, "type", "spei");
		json_add_text(action, "clabe", json_text(details, psprintf("%s.clabe", path)));
		json_add_text(action, "bank", json_text(details, psprintf("%s.bank_name", path)));
		json_add_text(action, "url", json_text(details, "hosted_instructions_url"));
		return;
	}
	json_add_text(action, "type", "other");
	json_add_text(action, "action", "display_bank_transfer_instructions");
	json_add_text(action, "reference", json_text(details, "reference"));
	json_add_text(action, "url", json_text(details, "hosted_instructions_url"));
}

/* What only Stripe's own scripts in the browser can do, by Stripe's word for it. */
static void
add_other(JsonBuilder *action, const char *type, const Jsonb *details)
{
	static const char *const pages[] = {"hosted_voucher_url", "hosted_instructions_url", "url"};

	json_add_text(action, "type", "other");
	json_add_text(action, "action", type);
	for (size_t i = 0; details != NULL && i < lengthof(pages); i++)
	{
		if (json_has(details, pages[i]))
		{
			json_add_text(action, "url", json_text(details, pages[i]));
			return;
		}
	}
}

typedef struct ActionReader
{
	const char *type;
	void (*add)(JsonBuilder *action, const Jsonb *details);
} ActionReader;

static const ActionReader action_readers[] = {
	{"redirect_to_url", add_redirect},
	{"oxxo_display_details", add_oxxo},
	{"verify_with_microdeposits", add_microdeposits},
	{"display_bank_transfer_instructions", add_transfer},
};

/* NULL when there is nothing to do. */
static const Jsonb *
read_next_action(const Jsonb *object)
{
	JsonBuilder action;
	char *type = json_text(object, "next_action.type");
	Jsonb *details;

	if (type == NULL)
		return NULL;
	details = json_part(object, psprintf("next_action.%s", type));
	json_open(&action);
	for (size_t i = 0; i < lengthof(action_readers); i++)
	{
		if (details != NULL && strcmp(action_readers[i].type, type) == 0)
		{
			action_readers[i].add(&action, details);
			return json_close(&action);
		}
	}
	add_other(&action, type, details);
	return json_close(&action);
}

/* ------------------------------------------------------------------------
 * Intents
 * ------------------------------------------------------------------------
 */

/*
 * Without a method it waits for one: at first, or because an attempt has
 * failed.  Methods were called sources before 2019-02-11.  A word that is not
 * known is not told.
 */
static const char *
intent_status(const Jsonb *object, const char *error)
{
	static const char *const without_method[] = {"requires_payment_method", "requires_source",
												 NULL};
	static const char *const acting[] = {"requires_action", "requires_source_action", NULL};
	static const char *const ours[] = {"processing", "requires_capture", "succeeded", "canceled",
									   NULL};
	char *status = json_text(object, "status");

	if (is_one_of(status, without_method))
		return json_part(object, error) != NULL ? "failed" : "pending";
	if (same_text(status, "requires_confirmation"))
		return "pending";
	if (is_one_of(status, acting))
		return "requires_action";
	return is_one_of(status, ours) ? status : NULL;
}

void
stripe_read_setup_intent(const Jsonb *object, ProviderSnapshot *snapshot)
{
	static const char *const final[] = {"succeeded", "canceled", NULL};
	SetupIntentSnapshot *setup = &snapshot->setup_intent;

	setup->customer = stripe_id_at(object, "customer");
	setup->provider_status = json_text(object, "status");
	setup->status = intent_status(object, "last_setup_error");
	snapshot->terminal = is_one_of(setup->status, final);
	setup->payment_method = stripe_id_or_none_at(object, "payment_method");
	setup->client_secret = json_text(object, "client_secret");
	setup->next_action = read_next_action(object);
	setup->error_code = json_text(object, "last_setup_error.decline_code");
	if (setup->error_code == NULL)
		setup->error_code = json_text(object, "last_setup_error.code");
}

/* A transfer in pesos is SPEI's. */
static const char *
method_in(const char *type, const char *currency)
{
	return same_text(type, "customer_balance") && same_text(currency, "MXN") ? "spei" : type;
}

/*
 * The type of the method, from wherever it is told.  Not from the error of an
 * attempt: the next one may be made by another.
 */
static const char *
method_of(const Jsonb *object, const Jsonb *charge, const char *currency)
{
	static const char *const places[] = {"payment_method.type"};
	const char *type = charge == NULL ? NULL : json_text(charge, "payment_method_details.type");

	for (size_t i = 0; type == NULL && i < lengthof(places); i++)
		type = json_text(object, places[i]);
	if (type == NULL && json_length(object, "allowed_payment_method_types") == 1)
		type = json_text(object, "allowed_payment_method_types.0");
	if (type == NULL && json_length(object, "payment_method_types") == 1)
		type = json_text(object, "payment_method_types.0");
	return method_in(type, currency);
}

/*
 * What was paid back of a charge.  Of one that was never captured, or not as a
 * whole, what was let go counts as refunded, too: there the refunds tell.  A
 * failed attempt has nothing to give back, whatever came back of another one.
 */
static int64
refunded_of(const Jsonb *charge)
{
	int64 captured = amount_at(charge, "amount_captured");

	if (!json_bool(charge, "captured", true) || is(charge, "status", "failed") ||
		(captured != NO_AMOUNT && captured != amount_at(charge, "amount")))
		return NO_AMOUNT;
	return amount_at(charge, "amount_refunded");
}

/*
 * What Stripe keeps stands in the movement of the balance, in the currency of
 * the balance; told where the movement came along, and not its id alone.
 */
static FeeSnapshot
fee_of(const Jsonb *movement)
{
	FeeSnapshot fee = {0, NULL};

	if (movement != NULL && json_int(movement, "fee", &fee.amount))
		fee.currency = currency_at(movement, "currency");
	return fee;
}

/* What was paid back, the receipt, the plan: in a payment, and in an event of the charge. */
static void
read_charge_details(const Jsonb *charge, PaymentIntentSnapshot *intent)
{
	int64 months;

	intent->charge = json_text(charge, "id");
	intent->charged_at = json_unix_time(charge, "created");
	intent->amount_refunded = refunded_of(charge);
	intent->receipt_url = json_text(charge, "receipt_url");
	/* what is kept of one that is pending comes back when it fails */
	if (is(charge, "status", "succeeded"))
		intent->fee = fee_of(json_part(charge, "balance_transaction"));
	if (json_int(charge, "payment_method_details.card.installments.plan.count", &months) &&
		months > 0 && months <= PG_INT16_MAX)
		intent->installments = (int) months;
}

/* The latest charge where it came along; before 2022-11-15 all of them did, the latest first. */
static Jsonb *
charge_in(const Jsonb *object)
{
	Jsonb *charge = json_part(object, "latest_charge");

	return charge != NULL ? charge : json_part(object, "charges.data.0");
}

static void
read_charge(const Jsonb *charge, PaymentIntentSnapshot *intent)
{
	read_charge_details(charge, intent);
	if (!same_text(intent->status, "succeeded"))
		return;
	if (intent->amount_refunded != NO_AMOUNT && intent->amount_refunded > 0)
		intent->status = json_bool(charge, "refunded", false) ? "refunded" : "partially_refunded";
	/* a card is charged when it is asked; the charge of a slow method is older than its money */
	if (is(charge, "payment_method_details.type", "card"))
		intent->paid_at = json_unix_time(charge, "created");
}

void
stripe_read_payment_intent(const Jsonb *object, ProviderSnapshot *snapshot)
{
	static const char *const final[] = {"succeeded", "canceled", NULL};
	PaymentIntentSnapshot *intent = &snapshot->payment_intent;
	Jsonb *charge = charge_in(object);

	intent->customer = stripe_id_at(object, "customer");
	intent->provider_status = json_text(object, "status");
	intent->status = intent_status(object, "last_payment_error");
	snapshot->terminal = is_one_of(intent->provider_status, final);
	intent->currency = currency_at(object, "currency");
	intent->amount = amount_at(object, "amount");
	intent->amount_capturable = amount_at(object, "amount_capturable");
	intent->amount_received = amount_at(object, "amount_received");
	intent->method = method_of(object, charge, intent->currency);
	intent->payment_method = stripe_id_or_none_at(object, "payment_method");
	intent->charge = json_text(object, "latest_charge");
	intent->client_secret = json_text(object, "client_secret");
	intent->next_action = read_next_action(object);
	intent->expires_at = json_unix_time(object, "next_action.oxxo_display_details.expires_after");
	intent->error_code = json_text(object, "last_payment_error.code");
	intent->decline_code = json_text(object, "last_payment_error.decline_code");
	intent->cancellation_reason = json_text(object, "cancellation_reason");
	intent->invoice = stripe_id_at(object, "invoice");
	intent->created_at = json_unix_time(object, "created");
	if (charge != NULL)
		read_charge(charge, intent);
}

/*
 * A charge tells details of its payment, and no state: that is the payment's
 * own.  A bank's word for a decline is the reason of the outcome.
 */
ProviderSnapshot *
stripe_charge_snapshot(const Jsonb *charge, bool livemode)
{
	char *intent = stripe_id_at(charge, "payment_intent");
	ProviderSnapshot *snapshot;
	PaymentIntentSnapshot *told;

	if (intent == NULL || json_text(charge, "id") == NULL)
		return NULL;
	snapshot = snapshot_new(BILLING_PAYMENT_INTENT, intent,
							json_bool(charge, "livemode", livemode));
	snapshot->has_livemode = json_has(charge, "livemode");
	snapshot->partial = true;
	told = &snapshot->payment_intent;
	told->currency = currency_at(charge, "currency");
	told->method = method_in(json_text(charge, "payment_method_details.type"), told->currency);
	told->error_code = json_text(charge, "failure_code");
	if (is(charge, "outcome.type", "issuer_declined"))
		told->decline_code = json_text(charge, "outcome.reason");
	read_charge_details(charge, told);
	return snapshot;
}

/* Which payment intent pays an invoice; NULL when it is paid otherwise. */
ProviderSnapshot *
stripe_invoice_payment_snapshot(const Jsonb *object, bool livemode)
{
	char *intent = stripe_id_at(object, "payment.payment_intent");
	char *invoice = stripe_id_at(object, "invoice");
	ProviderSnapshot *snapshot;

	if (intent == NULL || invoice == NULL)
		return NULL;
	snapshot = snapshot_new(BILLING_PAYMENT_INTENT, intent,
							json_bool(object, "livemode", livemode));
	snapshot->has_livemode = json_has(object, "livemode");
	snapshot->partial = true;
	snapshot->payment_intent.invoice = invoice;
	return snapshot;
}

/* ------------------------------------------------------------------------
 * Refunds and disputes
 * ------------------------------------------------------------------------
 */
void
stripe_read_refund(const Jsonb *object, ProviderSnapshot *snapshot)
{
	static const char *const final[] = {"failed", "canceled", NULL};
	static const char *const running[] = {"pending", "succeeded", NULL};
	RefundSnapshot *refund = &snapshot->refund;

	refund->payment_intent = stripe_id_at(object, "payment_intent");
	refund->charge = stripe_id_at(object, "charge");
	refund->status = json_text(object, "status");
	if (same_text(refund->status, "requires_action"))
	{
		refund->status = "pending";
		refund->requires_action = true;
	}
	snapshot->terminal = is_one_of(refund->status, final);
	if (!snapshot->terminal && !is_one_of(refund->status, running))
		refund->status = NULL;
	refund->currency = currency_at(object, "currency");
	refund->amount = amount_at(object, "amount");
	refund->reason = json_text(object, "reason");
	refund->error_code = json_text(object, "failure_reason");
	refund->created_at = json_unix_time(object, "created");
	refund->fee = fee_of(json_part(object, "balance_transaction"));
}

/*
 * An appeal is the same question asked again.  Before 2022 an inquiry that a
 * refund had settled was called so.  A word that is not known is not told.
 */
static const char *
dispute_status(const char *word)
{
	static const char *const ours[] = {"warning_needs_response",
									   "warning_under_review",
									   "warning_closed",
									   "needs_response",
									   "under_review",
									   "won",
									   "lost",
									   "prevented",
									   NULL};

	if (same_text(word, "appeal_needs_response"))
		return "needs_response";
	if (same_text(word, "appeal_under_review"))
		return "under_review";
	if (same_text(word, "charge_refunded"))
		return "warning_closed";
	return is_one_of(word, ours) ? word : NULL;
}

/* The fees of all movements; not told where one of them is not, or their currencies differ. */
static FeeSnapshot
sum_of_fees(FeeSnapshot sum, FeeSnapshot fee)
{
	if (!same_text(sum.currency, fee.currency) ||
		pg_add_s64_overflow(sum.amount, fee.amount, &sum.amount))
		return (FeeSnapshot){0, NULL};
	return sum;
}

/* Money that was taken and given back, and the fees, stand in the transactions of the balance. */
static void
read_movements(const Jsonb *object, DisputeSnapshot *dispute)
{
	int count = json_length(object, "balance_transactions");

	for (int i = 0; i < count; i++)
	{
		Jsonb *movement = json_part(object, psprintf("balance_transactions.%d", i));
		FeeSnapshot fee = fee_of(movement);
		int64 amount = movement == NULL ? NO_AMOUNT : amount_at(movement, "amount");

		dispute->fee = i == 0 ? fee : sum_of_fees(dispute->fee, fee);
		if (amount == NO_AMOUNT)
			continue;
		dispute->funds_withdrawn |= amount < 0;
		dispute->funds_reinstated |= amount > 0;
	}
}

void
stripe_read_dispute(const Jsonb *object, ProviderSnapshot *snapshot)
{
	static const char *const final[] = {"won", "lost", "warning_closed", "prevented", NULL};
	DisputeSnapshot *dispute = &snapshot->dispute;
	int64 submissions;

	dispute->payment_intent = stripe_id_at(object, "payment_intent");
	dispute->charge = stripe_id_at(object, "charge");
	dispute->provider_status = json_text(object, "status");
	dispute->status = dispute_status(dispute->provider_status);
	snapshot->terminal = is_one_of(dispute->status, final);
	dispute->currency = currency_at(object, "currency");
	dispute->amount = amount_at(object, "amount");
	dispute->reason = json_text(object, "reason");
	dispute->evidence_submitted = json_int(object, "evidence_details.submission_count",
										   &submissions) &&
								  submissions > 0;
	dispute->evidence_due_by = json_unix_time(object, "evidence_details.due_by");
	dispute->created_at = json_unix_time(object, "created");
	read_movements(object, dispute);
}

/* ------------------------------------------------------------------------
 * Pages
 * ------------------------------------------------------------------------
 */

static bool
is_unpaid(const Jsonb *session)
{
	return is(session, "status", "complete") && is(session, "payment_status", "unpaid");
}

/*
 * Complete and unpaid is not paid: a slow method is on its way.  That it has
 * failed is told by the payment, where it came along.
 */
static const char *
session_status(const Jsonb *object)
{
	static const char *const failed[] = {"requires_payment_method", "canceled", NULL};
	static const char *const ours[] = {"open", "complete", "expired", NULL};
	char *status = json_text(object, "status");

	if (is_unpaid(object) && is_one_of(json_text(object, "payment_intent.status"), failed))
		return "failed";
	return is_one_of(status, ours) ? status : NULL;
}

/*
 * Of a session that a payment link made, the metadata is the link's: the
 * reference in it is not the session's.
 */
void
stripe_read_checkout_session(const Jsonb *object, ProviderSnapshot *snapshot)
{
	static const char *const final[] = {"complete", "expired", "failed", NULL};
	CheckoutSessionSnapshot *session = &snapshot->checkout_session;

	if (stripe_id_at(object, "payment_link") != NULL)
		snapshot->reference = NULL;
	session->kind = "session";
	session->provider_status = json_text(object, "status");
	session->status = session_status(object);
	snapshot->terminal = is_one_of(session->status, final) &&
						 !(is_unpaid(object) && same_text(session->status, "complete"));
	session->payment_status = json_text(object, "payment_status");
	session->url = json_text(object, "url");
	session->client_secret = json_text(object, "client_secret");
	session->customer = stripe_id_at(object, "customer");
	session->payment_intent = stripe_id_at(object, "payment_intent");
	session->subscription = stripe_id_at(object, "subscription");
	session->setup_intent = stripe_id_at(object, "setup_intent");
	session->invoice = stripe_id_at(object, "invoice");
	session->currency = currency_at(object, "currency");
	session->amount_total = amount_at(object, "amount_total");
	session->expires_at = json_unix_time(object, "expires_at");
}

void
stripe_read_payment_link(const Jsonb *object, ProviderSnapshot *snapshot)
{
	CheckoutSessionSnapshot *link = &snapshot->checkout_session;

	link->kind = "link";
	link->provider_status = json_bool(object, "active", true) ? "active" : "inactive";
	link->status = json_bool(object, "active", true) ? "open" : "canceled";
	link->url = json_text(object, "url");
	link->currency = currency_at(object, "currency");
}

void
stripe_read_portal_session(const Jsonb *object, ProviderSnapshot *snapshot)
{
	PortalSessionSnapshot *session = &snapshot->portal_session;

	session->customer = stripe_id_at(object, "customer");
	session->url = json_text(object, "url");
}

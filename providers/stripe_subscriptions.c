/*-------------------------------------------------------------------------
 *
 * stripe_subscriptions.c
 *	  Subscriptions that Stripe runs.
 *
 * Several operations begin with reading the subscription: a plan change needs
 * the id of its item, a pause the way in which it is billed, a retry its
 * latest invoice.  What was read goes to the next step in carry.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe_requests.h"

/*
 * Without this Stripe tells the id of the invoice only, and the client secret
 * with which the customer confirms its payment stays unknown.
 */
#define CONFIRMATION_SECRET "latest_invoice.confirmation_secret"

static char *
subscription_path(const ProviderCall *call)
{
	return stripe_path(call, "subscriptions", "subscription");
}

static void
build_get(const ProviderCall *call, ProviderRequest *request)
{
	stripe_get(request, subscription_path(call), NULL);
}

static bool
has_ended(const Jsonb *subscription)
{
	static const char *const ended[] = {"canceled", "incomplete_expired", NULL};

	return is_one_of(json_text(subscription, "status"), ended);
}

/* ------------------------------------------------------------------------
 * Create
 * ------------------------------------------------------------------------
 */

/* By days or by date; trial_days 0 is no trial. */
static bool
form_trial(Form *form)
{
	int64 days;

	if (json_int(form->arguments, "trial_days", &days) && days > 0)
		form_argument(form, "trial_period_days", "trial_days");
	else if (json_text(form->arguments, "trial_end") != NULL)
		form_argument(form, "trial_end", "trial_end");
	else
		return false;
	return true;
}

/*
 * How the first payment is made.  A method at hand is charged at once, and
 * when that fails the subscription stays incomplete; without one it begins
 * incomplete and the customer pays with the confirmation secret.  Stripe asks
 * for neither when nothing is due or an invoice is sent.  True when there may
 * be a secret to be told.
 */
static bool
form_first_payment(Form *form)
{
	char *collection = json_text(form->arguments, "collection_method");

	if (collection != NULL && strcmp(collection, "send_invoice") == 0)
		return false;
	if (json_bool(form->arguments, "all_or_nothing", false))
	{
		form_add(form, "payment_behavior", "error_if_incomplete");
		return false;
	}
	if (json_text(form->arguments, "payment_method") != NULL)
	{
		form_add(form, "payment_behavior", "allow_incomplete");
		return true;
	}
	if (!json_bool(form->arguments, "due_now", false))
		return false;
	form_add(form, "payment_behavior", "default_incomplete");
	form_add(form, "payment_settings[save_default_payment_method]", "on_subscription");
	return true;
}

/* null takes off what there is. */
static void
form_coupon(Form *form)
{
	if (json_text(form->arguments, "coupon") != NULL)
		form_argument(form, "discounts[0][coupon]", "coupon");
	else
		form_argument(form, "discounts", "coupon");
}

static void
build_create(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	bool has_trial;
	bool has_secret;
	char *trial_end_behavior = json_text(call->arguments, "trial_end_behavior");

	form_open(&form, call);
	form_argument(&form, "customer", "customer");
	form_argument(&form, "items[0][price]", "price");
	form_argument(&form, "items[0][quantity]", "quantity");
	has_trial = form_trial(&form);
	form_argument(&form, "default_payment_method", "payment_method");
	has_secret = form_first_payment(&form);
	if (has_trial)
		form_add(&form, "trial_settings[end_behavior][missing_payment_method]",
				 trial_end_behavior != NULL ? trial_end_behavior : "cancel");
	form_argument(&form, "collection_method", "collection_method");
	form_argument(&form, "days_until_due", "days_until_due");
	form_argument(&form, "cancel_at", "cancel_at");
	form_argument(&form, "billing_cycle_anchor", "billing_anchor");
	form_argument(&form, "off_session", "off_session");
	form_given(&form, "discounts[0][coupon]", "coupon");
	form_given(&form, "automatic_tax[enabled]", "automatic_tax");
	form_reference(&form, call);
	if (has_secret)
		form_add(&form, "expand[0]", CONFIRMATION_SECRET);
	stripe_post(request, "/v1/subscriptions", &form);
}

static void
list_created(const ProviderCall *call, ProviderRequest *request)
{
	stripe_list_children(call, "subscriptions", "customer", CONFIRMATION_SECRET, request);
}

static const StripeStep create = {
	.type = BILLING_SUBSCRIPTION,
	.proof = PROOF_LIST,
	.makes_reference = true,
	.build = build_create,
	.build_lookup = list_created,
};

/* ------------------------------------------------------------------------
 * Update
 * ------------------------------------------------------------------------
 */
static bool
changes_item(const ProviderCall *call)
{
	return json_text(call->arguments, "price") != NULL ||
		   json_text(call->arguments, "quantity") != NULL;
}

static void
build_update(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	if (changes_item(call))
	{
		char *item = json_text(call->arguments, "item");

		form_add(&form, "items[0][id]", item != NULL ? item : json_text(call->carry, "item"));
		form_argument(&form, "items[0][price]", "price");
		form_argument(&form, "items[0][quantity]", "quantity");
	}
	form_argument(&form, "proration_behavior", "proration_behavior");
	form_argument(&form, "proration_date", "proration_date");
	form_argument(&form, "default_payment_method", "payment_method");
	form_argument(&form, "trial_end", "trial_end");
	form_argument(&form, "cancel_at", "cancel_at");
	form_coupon(&form);
	stripe_post(request, subscription_path(call), &form);
}

/* A coupon on the object has another id than the coupon, and an update twice does no harm. */
static bool
shows_update(const ProviderCall *call, const Jsonb *subscription)
{
	return !json_has(call->arguments, "coupon") &&
		   stripe_shows_argument(call, "price", stripe_id_at(subscription, "items.data.0.price")) &&
		   stripe_shows_argument(call, "quantity",
								 json_text(subscription, "items.data.0.quantity")) &&
		   stripe_shows_argument(call, "payment_method",
								 stripe_id_at(subscription, "default_payment_method")) &&
		   stripe_shows_argument(call, "trial_end", json_text(subscription, "trial_end")) &&
		   stripe_shows_argument(call, "cancel_at", json_text(subscription, "cancel_at"));
}

/* The item that a plan change is about; the change itself is the next step. */
static void
take_item(const ProviderCall *call, const Jsonb *subscription, CallResult *result)
{
	char *item = json_text(subscription, "items.data.0.id");

	if (item == NULL)
		result_set_error(result, OUTCOME_REFUSED, "no_item", NULL);
	else
		stripe_continue(call, stripe_carry("item", item), result);
}

static const StripeStep read_item = {
	.type = BILLING_SUBSCRIPTION,
	.argument = "subscription",
	.proof = PROOF_REPEAT,
	.build = build_get,
	.take = take_item,
};

static const StripeStep update = {
	.type = BILLING_SUBSCRIPTION,
	.argument = "subscription",
	.proof = PROOF_OBJECT,
	.build = build_update,
	.build_lookup = build_get,
	.shows = shows_update,
};

/* A price without the item's id would be a second item. */
static const StripeStep *
pick_update_step(const ProviderCall *call)
{
	bool reads = call->step == 0 && changes_item(call) &&
				 json_text(call->arguments, "item") == NULL;

	return reads ? &read_item : &update;
}

/* ------------------------------------------------------------------------
 * Cancel
 * ------------------------------------------------------------------------
 */

/* Stripe takes its own words as a reason; any other is said in the comment. */
static void
form_cancellation_details(Form *form)
{
	static const char *const feedbacks[] = {
		"customer_service", "low_quality",   "missing_features", "other", "switched_service",
		"too_complex",      "too_expensive", "unused",           NULL};
	char *reason = json_text(form->arguments, "reason");
	char *comment = json_text(form->arguments, "comment");
	const char *feedback = reason;

	if (reason != NULL && !is_one_of(reason, feedbacks))
	{
		feedback = "other";
		comment = comment == NULL ? reason : psprintf("%s: %s", reason, comment);
	}
	form_add(form, "cancellation_details[comment]", comment);
	form_add(form, "cancellation_details[feedback]", feedback);
}

static void
build_cancel(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_argument(&form, "invoice_now", "invoice_now");
	form_argument(&form, "prorate", "prorate");
	form_cancellation_details(&form);
	stripe_delete(request, subscription_path(call), &form);
}

static bool
shows_canceled(const ProviderCall *call, const Jsonb *subscription)
{
	return has_ended(subscription);
}

static const StripeStep cancel = {
	.type = BILLING_SUBSCRIPTION,
	.argument = "subscription",
	.proof = PROOF_OBJECT,
	.confirms = true,
	.build = build_cancel,
	.build_lookup = build_get,
	.shows = shows_canceled,
};

static void
build_end_with_period(const ProviderCall *call, const char *wanted, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "cancel_at_period_end", wanted);
	form_cancellation_details(&form);
	stripe_post(request, subscription_path(call), &form);
}

static void
build_cancel_at_period_end(const ProviderCall *call, ProviderRequest *request)
{
	build_end_with_period(call, "true", request);
}

static void
build_uncancel(const ProviderCall *call, ProviderRequest *request)
{
	build_end_with_period(call, "false", request);
}

static bool
shows_end_with_period(const ProviderCall *call, const Jsonb *subscription)
{
	return has_ended(subscription) || json_bool(subscription, "cancel_at_period_end", false);
}

static bool
shows_no_end(const ProviderCall *call, const Jsonb *subscription)
{
	return !has_ended(subscription) && !json_bool(subscription, "cancel_at_period_end", false);
}

static const StripeStep cancel_at_period_end = {
	.type = BILLING_SUBSCRIPTION,
	.argument = "subscription",
	.proof = PROOF_OBJECT,
	.build = build_cancel_at_period_end,
	.build_lookup = build_get,
	.shows = shows_end_with_period,
};

static const StripeStep uncancel = {
	.type = BILLING_SUBSCRIPTION,
	.argument = "subscription",
	.proof = PROOF_OBJECT,
	.build = build_uncancel,
	.build_lookup = build_get,
	.shows = shows_no_end,
};

/* ------------------------------------------------------------------------
 * Pause and resume
 *
 * With flexible billing Stripe pauses the subscription itself; otherwise, or
 * when it is told what shall become of the invoices meanwhile or when to go
 * on, it only stops collecting.
 * ------------------------------------------------------------------------
 */
static bool
pauses_collection(const ProviderCall *call)
{
	return json_text(call->arguments, "behavior") != NULL ||
		   json_text(call->arguments, "resumes_at") != NULL ||
		   (call->step > 0 && !same_text(json_text(call->carry, "billing_mode"), "flexible"));
}

static void
build_pause(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "type", "subscription");
	stripe_post(request, psprintf("%s/pause", subscription_path(call)), &form);
}

static void
build_pause_collection(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	char *behavior = json_text(call->arguments, "behavior");

	form_open(&form, call);
	form_add(&form, "pause_collection[behavior]", behavior != NULL ? behavior : "void");
	form_given(&form, "pause_collection[resumes_at]", "resumes_at");
	stripe_post(request, subscription_path(call), &form);
}

static void
take_billing_mode(const ProviderCall *call, const Jsonb *subscription, CallResult *result)
{
	char *mode = json_text(subscription, "billing_mode.type");

	if (json_text(subscription, "id") == NULL)
		stripe_set_unreadable(result);
	else
		stripe_continue(call, stripe_carry("billing_mode", mode != NULL ? mode : "classic"),
						result);
}

static bool
shows_paused(const ProviderCall *call, const Jsonb *subscription)
{
	return same_text(json_text(subscription, "status"), "paused") ||
		   json_part(subscription, "pause_collection") != NULL;
}

static const StripeStep read_billing_mode = {
	.type = BILLING_SUBSCRIPTION,
	.argument = "subscription",
	.proof = PROOF_REPEAT,
	.build = build_get,
	.take = take_billing_mode,
};

static const StripeStep pause_subscription = {
	.type = BILLING_SUBSCRIPTION,
	.argument = "subscription",
	.proof = PROOF_OBJECT,
	.build = build_pause,
	.build_lookup = build_get,
	.shows = shows_paused,
};

static const StripeStep pause_collection = {
	.type = BILLING_SUBSCRIPTION,
	.argument = "subscription",
	.proof = PROOF_OBJECT,
	.build = build_pause_collection,
	.build_lookup = build_get,
	.shows = shows_paused,
};

static const StripeStep *
pick_pause_step(const ProviderCall *call)
{
	if (pauses_collection(call))
		return &pause_collection;
	return call->step == 0 ? &read_billing_mode : &pause_subscription;
}

/*
 * A paused subscription is resumed with a new period; one whose collection is
 * paused is active to Stripe and only loses that mark.
 */
static void
build_resume(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	char *path = subscription_path(call);
	char *status = json_text(call->arguments, "provider_status");

	form_open(&form, call);
	if (status != NULL && strcmp(status, "paused") == 0)
	{
		form_add(&form, "billing_cycle_anchor[type]", "now");
		path = psprintf("%s/resume", path);
	}
	else
		form_add(&form, "pause_collection", "");
	stripe_post(request, path, &form);
}

static bool
shows_running(const ProviderCall *call, const Jsonb *subscription)
{
	return !has_ended(subscription) && !shows_paused(call, subscription);
}

static const StripeStep resume = {
	.type = BILLING_SUBSCRIPTION,
	.argument = "subscription",
	.proof = PROOF_OBJECT,
	.build = build_resume,
	.build_lookup = build_get,
	.shows = shows_running,
};

/* ------------------------------------------------------------------------
 * Fetch, and pay what is open
 *
 * A retry takes up to three steps: which invoice (unless the call says it),
 * carry {invoice}; its payment, carry {paid}; and what has become of the
 * subscription.
 * ------------------------------------------------------------------------
 */
static void
build_fetch(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "expand[0]", CONFIRMATION_SECRET);
	stripe_get(request, subscription_path(call), &form);
}

static const char *
invoice_to_pay(const ProviderCall *call)
{
	char *invoice = json_text(call->arguments, "invoice");

	return invoice != NULL || call->carry == NULL ? invoice : json_text(call->carry, "invoice");
}

static void
take_latest_invoice(const ProviderCall *call, const Jsonb *subscription, CallResult *result)
{
	char *invoice = stripe_id_at(subscription, "latest_invoice");

	if (json_text(subscription, "id") == NULL)
		stripe_set_unreadable(result);
	else if (invoice == NULL)
		result_set_error(result, OUTCOME_REFUSED, "no_invoice", NULL);
	else
		stripe_continue(call, stripe_carry("invoice", invoice), result);
}

static char *
invoice_path(const ProviderCall *call)
{
	return psprintf("/v1/invoices/%s", path_part(invoice_to_pay(call), "invoice"));
}

static void
build_pay(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_given(&form, "payment_method", "payment_method");
	stripe_post(request, psprintf("%s/pay", invoice_path(call)), &form);
}

static void
build_get_invoice(const ProviderCall *call, ProviderRequest *request)
{
	stripe_get(request, invoice_path(call), NULL);
}

static bool
shows_paid(const ProviderCall *call, const Jsonb *invoice)
{
	return same_text(json_text(invoice, "status"), "paid");
}

static void
take_paid(const ProviderCall *call, const Jsonb *invoice, CallResult *result)
{
	stripe_take_object(call, invoice, result);
	if (result->outcome == OUTCOME_DONE)
		stripe_continue(call, stripe_carry("paid", "true"), result);
}

static const StripeStep read_latest_invoice = {
	.type = BILLING_SUBSCRIPTION,
	.argument = "subscription",
	.proof = PROOF_REPEAT,
	.build = build_get,
	.take = take_latest_invoice,
};

static const StripeStep pay = {
	.type = BILLING_INVOICE,
	.proof = PROOF_OBJECT,
	.build = build_pay,
	.take = take_paid,
	.build_lookup = build_get_invoice,
	.shows = shows_paid,
};

static const StripeStep fetch = {
	.type = BILLING_SUBSCRIPTION,
	.argument = "subscription",
	.proof = PROOF_REPEAT,
	.build = build_fetch,
};

static const StripeStep *
pick_retry_step(const ProviderCall *call)
{
	if (call->carry != NULL && json_has(call->carry, "paid"))
		return &fetch;
	return invoice_to_pay(call) != NULL ? &pay : &read_latest_invoice;
}

static const StripeOperation operations[] = {
	{OPERATION_SUBSCRIPTION_CREATE, &create},
	{OPERATION_SUBSCRIPTION_UPDATE, .pick = pick_update_step},
	{OPERATION_SUBSCRIPTION_CANCEL, &cancel},
	{OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END, &cancel_at_period_end},
	{OPERATION_SUBSCRIPTION_UNCANCEL, &uncancel},
	{OPERATION_SUBSCRIPTION_PAUSE, .pick = pick_pause_step},
	{OPERATION_SUBSCRIPTION_RESUME, &resume},
	{OPERATION_SUBSCRIPTION_RETRY_PAYMENT, .pick = pick_retry_step},
	{OPERATION_SUBSCRIPTION_FETCH, &fetch},
};

const StripeOperations stripe_subscription_operations = {operations, lengthof(operations)};

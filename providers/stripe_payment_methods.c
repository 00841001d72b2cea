/*-------------------------------------------------------------------------
 *
 * stripe_payment_methods.c
 *	  Payment methods of a customer at Stripe, and setup intents.
 *
 * A method whose owner has agreed to be debited (a mandate) is attached by a
 * setup intent that is confirmed at once: Stripe keeps the mandate only that
 * way.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe_requests.h"

static void
build_get_method(const ProviderCall *call, ProviderRequest *request)
{
	stripe_get(request, stripe_path(call, "payment_methods", "payment_method"), NULL);
}

static void
build_get_customer(const ProviderCall *call, ProviderRequest *request)
{
	stripe_get(request, stripe_path(call, "customers", "customer"), NULL);
}

/* ------------------------------------------------------------------------
 * The default
 *
 * Attaching a token may make a method with an id of its own, which the second
 * step of attaching takes from carry {payment_method}.
 * ------------------------------------------------------------------------
 */
static const char *
wanted_default(const ProviderCall *call)
{
	return json_text(call->operation == OPERATION_PAYMENT_METHOD_ATTACH ? call->carry
																		: call->arguments,
					 "payment_method");
}

static void
build_set_default(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "invoice_settings[default_payment_method]", wanted_default(call));
	stripe_post(request, stripe_path(call, "customers", "customer"), &form);
}

static bool
shows_default(const ProviderCall *call, const Jsonb *customer)
{
	return same_text(stripe_id_at(customer, "invoice_settings.default_payment_method"),
					 wanted_default(call));
}

static const StripeStep set_default = {
	.type = BILLING_CUSTOMER,
	.argument = "customer",
	.proof = PROOF_OBJECT,
	.build = build_set_default,
	.build_lookup = build_get_customer,
	.shows = shows_default,
};

/* ------------------------------------------------------------------------
 * Attach, detach, list
 * ------------------------------------------------------------------------
 */
static void
build_attach(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_argument(&form, "customer", "customer");
	stripe_post(request,
				psprintf("%s/attach", stripe_path(call, "payment_methods", "payment_method")),
				&form);
}

/* It carries no reference of ours: it is no setup intent of ours. */
static void
build_mandate(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_given(&form, "customer", "customer");
	form_given(&form, "payment_method", "payment_method");
	form_given(&form, "allowed_payment_method_types[0]", "type");
	form_add(&form, "confirm", "true");
	form_add(&form, "usage", "off_session");
	form_mandate(&form);
	form_add(&form, "expand[0]", "payment_method");
	stripe_post(request, "/v1/setup_intents", &form);
}

/* A method that is attached as the default takes a second request. */
static void
take_attached(const ProviderCall *call, const Jsonb *method, CallResult *result)
{
	ProviderSnapshot *snapshot;

	stripe_take_object(call, method, result);
	if (result->outcome != OUTCOME_DONE)
		return;
	snapshot = linitial(result->snapshots);
	snapshot->payment_method.customer = json_text(call->arguments, "customer");
	if (json_bool(call->arguments, "set_default", false))
		stripe_continue(call, stripe_carry("payment_method", snapshot->provider_id), result);
}

/* One that the owner has yet to verify belongs to nobody so far. */
static void
take_mandate(const ProviderCall *call, const Jsonb *setup_intent, CallResult *result)
{
	char *status = json_text(setup_intent, "status");
	Jsonb *method = json_part(setup_intent, "payment_method");

	if (same_text(status, "succeeded") || same_text(status, "processing"))
		take_attached(call, method, result);
	else if (status != NULL)
		result_set_error(result, OUTCOME_DECLINED, "setup_intent", status);
	else
		stripe_set_unreadable(result);
}

static bool
shows_attached(const ProviderCall *call, const Jsonb *method)
{
	return same_text(stripe_id_at(method, "customer"), json_text(call->arguments, "customer"));
}

static void
find_attached(const ProviderCall *call, const Jsonb *method, CallResult *result)
{
	if (shows_attached(call, method))
		take_attached(call, method, result);
	else
		result->outcome = OUTCOME_ABSENT;
}

static const StripeStep attach = {
	.type = BILLING_PAYMENT_METHOD,
	.proof = PROOF_OBJECT,
	.may_be_unknown = true,
	.makes_reference = true,
	.build = build_attach,
	.take = take_attached,
	.build_lookup = build_get_method,
	.found = find_attached,
};

static const StripeStep attach_with_mandate = {
	.type = BILLING_PAYMENT_METHOD,
	.proof = PROOF_OBJECT,
	.may_be_unknown = true,
	.makes_reference = true,
	.build = build_mandate,
	.take = take_mandate,
	.build_lookup = build_get_method,
	.found = find_attached,
};

static const StripeStep *
pick_attach_step(const ProviderCall *call)
{
	if (call->step > 0)
		return &set_default;
	return json_part(call->arguments, "mandate") != NULL ? &attach_with_mandate : &attach;
}

static void
build_detach(const ProviderCall *call, ProviderRequest *request)
{
	stripe_verb(call, request, stripe_path(call, "payment_methods", "payment_method"), "detach");
}

static bool
shows_detached(const ProviderCall *call, const Jsonb *method)
{
	return stripe_id_at(method, "customer") == NULL;
}

static void
take_detached(const ProviderCall *call, const Jsonb *method, CallResult *result)
{
	ProviderSnapshot *snapshot;

	stripe_take_object(call, method, result);
	if (result->outcome != OUTCOME_DONE)
		return;
	snapshot = linitial(result->snapshots);
	if (snapshot->payment_method.customer == NULL)
		stripe_mark_gone(snapshot);
}

static const StripeStep detach = {
	.type = BILLING_PAYMENT_METHOD,
	.argument = "payment_method",
	.proof = PROOF_OBJECT,
	.confirms = true,
	.removes = true,
	.build = build_detach,
	.take = take_detached,
	.build_lookup = build_get_method,
	.shows = shows_detached,
};

static void
build_list(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "limit", STRIPE_LIST_LIMIT);
	form_add(&form, "starting_after", stripe_page_start(call));
	stripe_get(request, psprintf("%s/payment_methods", stripe_path(call, "customers", "customer")),
			   &form);
}

static const StripeStep list_page = {
	.type = BILLING_PAYMENT_METHOD,
	.proof = PROOF_REPEAT,
	.build = build_list,
	.take = stripe_take_page,
};

/* ------------------------------------------------------------------------
 * Setup intents
 * ------------------------------------------------------------------------
 */

/* Stripe wants to know where to return to unless no method that leads away may be used. */
static void
build_setup(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	bool confirm = json_bool(call->arguments, "confirm", false);
	char *method = json_text(call->arguments, "payment_method");

	form_open(&form, call);
	form_given(&form, "customer", "customer");
	form_add(&form, "payment_method",
			 method != NULL ? method : json_text(call->arguments, "token"));
	form_add(&form, "automatic_payment_methods[enabled]", "true");
	if (confirm && json_text(call->arguments, "return_url") == NULL)
		form_add(&form, "automatic_payment_methods[allow_redirects]", "never");
	form_given(&form, "usage", "usage");
	if (confirm)
	{
		form_add(&form, "confirm", "true");
		form_given(&form, "return_url", "return_url");
		form_mandate(&form);
	}
	form_given(&form, "description", "description");
	form_reference(&form, call);
	stripe_post(request, "/v1/setup_intents", &form);
}

static void
list_setups(const ProviderCall *call, ProviderRequest *request)
{
	stripe_list_children(call, "setup_intents", "customer", NULL, request);
}

static const StripeStep create_setup = {
	.type = BILLING_SETUP_INTENT,
	.proof = PROOF_LIST,
	.makes_reference = true,
	.build = build_setup,
	.build_lookup = list_setups,
};

static void
build_setup_cancel(const ProviderCall *call, ProviderRequest *request)
{
	stripe_verb(call, request, stripe_path(call, "setup_intents", "setup_intent"), "cancel");
}

static void
build_get_setup(const ProviderCall *call, ProviderRequest *request)
{
	stripe_get(request, stripe_path(call, "setup_intents", "setup_intent"), NULL);
}

static bool
shows_canceled(const ProviderCall *call, const Jsonb *setup_intent)
{
	return same_text(json_text(setup_intent, "status"), "canceled");
}

static const StripeStep cancel_setup = {
	.type = BILLING_SETUP_INTENT,
	.argument = "setup_intent",
	.proof = PROOF_OBJECT,
	.confirms = true,
	.build = build_setup_cancel,
	.build_lookup = build_get_setup,
	.shows = shows_canceled,
};

static const StripeOperation operations[] = {
	{OPERATION_PAYMENT_METHOD_ATTACH, .pick = pick_attach_step},
	{OPERATION_PAYMENT_METHOD_SET_DEFAULT, &set_default},
	{OPERATION_PAYMENT_METHOD_DETACH, &detach},
	{OPERATION_PAYMENT_METHOD_LIST, &list_page},
	{OPERATION_SETUP_INTENT_CREATE, &create_setup},
	{OPERATION_SETUP_INTENT_CANCEL, &cancel_setup},
};

const StripeOperations stripe_payment_method_operations = {operations, lengthof(operations)};

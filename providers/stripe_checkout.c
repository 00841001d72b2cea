/*-------------------------------------------------------------------------
 *
 * stripe_checkout.c
 *	  Pages of Stripe's: checkouts, payment links, the customer portal.
 *
 * What a checkout makes carries our references too, so that the payment
 * intent or the subscription finds its row whichever event comes first.  A
 * payment link may be used many times; what comes of it is not ours
 * beforehand and carries none.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe_requests.h"

#define LINK_PREFIX "plink_"

/* ------------------------------------------------------------------------
 * Lines
 * ------------------------------------------------------------------------
 */

/* A price made for this one sale. */
static void
form_price_data(Form *form, const char *to, const char *from)
{
	char *interval = json_text(form->arguments, psprintf("%s.interval", from));
	char *product = json_text(form->arguments, psprintf("%s.product", from));
	bool own_currency = json_text(form->arguments, psprintf("%s.currency", from)) != NULL;

	form_currency(form, psprintf("%s[currency]", to),
				  own_currency ? psprintf("%s.currency", from) : "currency");
	form_add(form, psprintf("%s[product]", to), product);
	if (product == NULL)
	{
		form_given(form, psprintf("%s[product_data][name]", to), psprintf("%s.name", from));
		form_given(form, psprintf("%s[product_data][description]", to),
				   psprintf("%s.description", from));
	}
	if (interval != NULL && strcmp(interval, "one_time") != 0)
	{
		form_add(form, psprintf("%s[recurring][interval]", to), interval);
		form_given(form, psprintf("%s[recurring][interval_count]", to),
				   psprintf("%s.interval_count", from));
	}
	form_given(form, psprintf("%s[unit_amount]", to), psprintf("%s.amount", from));
}

static void
form_line_items(Form *form)
{
	int count = json_length(form->arguments, "line_items");

	for (int i = 0; i < count; i++)
	{
		char *from = psprintf("line_items.%d", i);
		char *to = psprintf("line_items[%d]", i);
		char *price = json_text(form->arguments, psprintf("%s.price", from));

		form_add(form, psprintf("%s[price]", to), price);
		if (price == NULL)
			form_price_data(form, psprintf("%s[price_data]", to), from);
		form_given(form, psprintf("%s[quantity]", to), psprintf("%s.quantity", from));
	}
}

/*
 * Where a link says what is paid for; NULL when that cannot be known because a
 * line names a price, which may recur or not.
 */
static const char *
description_of_link(const Form *form)
{
	const char *name = "payment_intent_data[description]";
	int count = json_length(form->arguments, "line_items");

	for (int i = 0; i < count; i++)
	{
		char *interval = json_text(form->arguments, psprintf("line_items.%d.interval", i));

		if (json_text(form->arguments, psprintf("line_items.%d.price", i)) != NULL)
			return NULL;
		if (interval != NULL && strcmp(interval, "one_time") != 0)
			name = "subscription_data[description]";
	}
	return name;
}

/* ------------------------------------------------------------------------
 * Checkout sessions
 * ------------------------------------------------------------------------
 */
static bool
mode_is(const Form *form, const char *mode)
{
	return same_text(json_text(form->arguments, "mode"), mode);
}

/* The types of method that may be used, by name; SPEI is a transfer into the customer's balance. */
static void
form_methods(Form *form)
{
	const char *const balance = "payment_method_options[customer_balance]";
	int count = json_length(form->arguments, "methods");
	bool spei = false;

	for (int i = 0; i < count; i++)
	{
		char *method = json_text(form->arguments, psprintf("methods.%d", i));

		if (same_text(method, "spei"))
		{
			method = "customer_balance";
			spei = true;
		}
		form_add(form, psprintf("allowed_payment_method_types[%d]", i), method);
	}
	if (json_length(form->arguments, "installments") > 0)
		form_add(form, "payment_method_options[card][installments][enabled]", "true");
	if (spei)
	{
		form_add(form, psprintf("%s[bank_transfer][type]", balance), "mx_bank_transfer");
		form_add(form, psprintf("%s[funding_type]", balance), "bank_transfer");
	}
}

/*
 * What the buyer enters goes to the customer that we gave, and only when we
 * say so: Stripe refuses to collect tax ids and to compute tax otherwise.
 */
static void
form_tax(Form *form)
{
	bool automatic = json_bool(form->arguments, "automatic_tax", false);
	bool collects = json_bool(form->arguments, "collect_tax_id", false);

	if (automatic)
		form_add(form, "automatic_tax[enabled]", "true");
	if (collects)
		form_add(form, "tax_id_collection[enabled]", "true");
	if (automatic)
		form_add(form, "customer_update[address]", "auto");
	if (collects)
		form_add(form, "customer_update[name]", "auto");
}

/* What the session makes, under our references. */
static void
form_outcome(Form *form, const ProviderCall *call)
{
	char *payment = json_text(call->arguments, "payment_reference");
	char *subscription = json_text(call->arguments, "subscription_reference");
	int64 days;

	if (mode_is(form, "payment") && payment != NULL)
		form_reference_of(form, "payment_intent_data", payment);
	if (!mode_is(form, "subscription"))
		return;
	if (subscription != NULL)
		form_reference_of(form, "subscription_data", subscription);
	if (json_int(call->arguments, "trial_days", &days) && days > 0)
		form_given(form, "subscription_data[trial_period_days]", "trial_days");
}

static void
build_create(const ProviderCall *call, ProviderRequest *request)
{
	static const char *const locales[] = {
		"de", "en", "fr",     "nl", "en-GB", "fr-CA", "es",    "it",    "pl", "bg", "cs",
		"da", "el", "es-419", "et", "fi",    "fil",   "hi-IN", "hr",    "hu", "id", "ja",
		"ko", "lt", "lv",     "ms", "mt",    "nb",    "pt",    "pt-BR", "ro", "ru", "sk",
		"sl", "sv", "th",     "tr", "vi",    "zh",    "zh-HK", "zh-TW"};
	Form form;

	form_open(&form, call);
	form_given(&form, "mode", "mode");
	form_given(&form, "customer", "customer");
	if (mode_is(&form, "setup"))
		form_currency(&form, "currency", "currency");
	else
		form_line_items(&form);
	form_given(&form, "success_url", "success_url");
	form_given(&form, "cancel_url", "cancel_url");
	form_methods(&form);
	form_given(&form, "discounts[0][coupon]", "coupon");
	/* never both: the other one is refused in the call */
	if (json_text(call->arguments, "coupon") == NULL)
		form_given(&form, "allow_promotion_codes", "allow_promotion_codes");
	form_tax(&form);
	form_locale(&form, locales, lengthof(locales));
	form_given(&form, "expires_at", "expires_at");
	form_outcome(&form, call);
	form_reference(&form, call);
	stripe_post(request, "/v1/checkout/sessions", &form);
}

static void
list_created(const ProviderCall *call, ProviderRequest *request)
{
	stripe_list_children(call, "checkout/sessions", "customer", NULL, request);
}

static const StripeStep create = {
	.type = BILLING_CHECKOUT_SESSION,
	.proof = PROOF_LIST,
	.makes_reference = true,
	.build = build_create,
	.build_lookup = list_created,
};

static bool
is_link(const ProviderCall *call)
{
	char *id = json_text(call->arguments, "checkout_session");

	return id != NULL && strncmp(id, LINK_PREFIX, strlen(LINK_PREFIX)) == 0;
}

static char *
session_path(const ProviderCall *call)
{
	return stripe_path(call, is_link(call) ? "payment_links" : "checkout/sessions",
					   "checkout_session");
}

/* Whether a delayed payment has failed is told by the payment only. */
static void
build_fetch(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	if (!is_link(call))
		form_add(&form, "expand[0]", "payment_intent");
	stripe_get(request, session_path(call), &form);
}

static void
build_expire(const ProviderCall *call, ProviderRequest *request)
{
	stripe_verb(call, request, session_path(call), "expire");
}

static bool
shows_expired(const ProviderCall *call, const Jsonb *session)
{
	return same_text(json_text(session, "status"), "expired");
}

static const StripeStep expire = {
	.type = BILLING_CHECKOUT_SESSION,
	.argument = "checkout_session",
	.proof = PROOF_OBJECT,
	.confirms = true,
	.build = build_expire,
	.build_lookup = build_fetch,
	.shows = shows_expired,
};

static const StripeStep fetch = {
	.type = BILLING_CHECKOUT_SESSION,
	.argument = "checkout_session",
	.proof = PROOF_REPEAT,
	.build = build_fetch,
};

/* ------------------------------------------------------------------------
 * Payment links
 * ------------------------------------------------------------------------
 */
static void
build_link(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	int methods = json_length(call->arguments, "methods");

	form_open(&form, call);
	form_line_items(&form);
	for (int i = 0; i < methods; i++)
		form_given(&form, psprintf("payment_method_types[%d]", i), psprintf("methods.%d", i));
	if (json_text(call->arguments, "success_url") != NULL)
	{
		form_add(&form, "after_completion[type]", "redirect");
		form_given(&form, "after_completion[redirect][url]", "success_url");
	}
	form_given(&form, "restrictions[completed_sessions][limit]", "max_payments");
	if (description_of_link(&form) != NULL)
		form_given(&form, description_of_link(&form), "name");
	form_reference(&form, call);
	stripe_post(request, "/v1/payment_links", &form);
}

static void
list_links(const ProviderCall *call, ProviderRequest *request)
{
	stripe_list_children(call, "payment_links", NULL, NULL, request);
}

static void
build_link_end(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "active", "false");
	stripe_post(request, session_path(call), &form);
}

static bool
shows_link_ended(const ProviderCall *call, const Jsonb *link)
{
	return !json_bool(link, "active", true);
}

static const StripeStep create_link = {
	.type = BILLING_CHECKOUT_SESSION,
	.proof = PROOF_LIST,
	.makes_reference = true,
	.build = build_link,
	.build_lookup = list_links,
};

static const StripeStep cancel_link = {
	.type = BILLING_CHECKOUT_SESSION,
	.argument = "checkout_session",
	.proof = PROOF_OBJECT,
	.build = build_link_end,
	.build_lookup = build_fetch,
	.shows = shows_link_ended,
};

/* ------------------------------------------------------------------------
 * The portal
 *
 * Its sessions are neither listed nor found again; a second one does no harm.
 * ------------------------------------------------------------------------
 */
static void
build_portal(const ProviderCall *call, ProviderRequest *request)
{
	static const char *const locales[] = {
		"de", "en", "fr", "nl", "en-AU", "en-CA",  "en-GB", "en-IE", "en-NZ", "fr-CA", "es", "it",
		"pl", "bg", "cs", "da", "el",    "es-419", "et",    "fi",    "fil",   "hr",    "hu", "id",
		"ja", "ko", "lt", "lv", "ms",    "mt",     "nb",    "pt",    "pt-BR", "ro",    "ru", "sk",
		"sl", "sv", "th", "tr", "vi",    "zh",     "zh-HK", "zh-TW", "en-IN", "en-SG"};
	Form form;

	form_open(&form, call);
	form_given(&form, "customer", "customer");
	form_given(&form, "return_url", "return_url");
	form_locale(&form, locales, lengthof(locales));
	stripe_post(request, "/v1/billing_portal/sessions", &form);
}

static void
build_get_customer(const ProviderCall *call, ProviderRequest *request)
{
	stripe_get(request, stripe_path(call, "customers", "customer"), NULL);
}

static const StripeStep create_portal = {
	.type = BILLING_PORTAL_SESSION,
	.proof = PROOF_OBJECT,
	.makes_reference = true,
	.build = build_portal,
	.build_lookup = build_get_customer,
};

static const StripeOperation operations[] = {
	{OPERATION_CHECKOUT_SESSION_CREATE, &create},
	{OPERATION_CHECKOUT_SESSION_EXPIRE, &expire},
	{OPERATION_CHECKOUT_SESSION_FETCH, &fetch},
	{OPERATION_PAYMENT_LINK_CREATE, &create_link},
	{OPERATION_PAYMENT_LINK_CANCEL, &cancel_link},
	{OPERATION_PORTAL_SESSION_CREATE, &create_portal},
};

const StripeOperations stripe_checkout_operations = {operations, lengthof(operations)};

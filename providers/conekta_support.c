/*-------------------------------------------------------------------------
 *
 * conekta_support.c
 *	  What Conekta can do, and what to do instead of what it cannot.
 *
 * Asked when somebody calls the SQL function, so that nothing is queued that
 * will be refused.  An argument that is absent refuses nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "conekta.h"

#include "mb/pg_wchar.h"

/* Names of lines; shorter and longer ones are refused there. */
#define NAME_LEAST 3
#define NAME_MOST  249

/* What there is no request for, whatever the arguments. */
static const struct
{
	Operation operation;
	const char *alternative;
} refused[] = {
	{OPERATION_SETUP_INTENT_CREATE,
	 "Make a token in the browser with the publishable key and pass it to "
	 "billing.attach_payment_method()."},
	{OPERATION_SETUP_INTENT_CANCEL, "Conekta has no setup intents."},
	{OPERATION_PRODUCT_CREATE, "Conekta has no products; a price is a plan there."},
	{OPERATION_PRODUCT_UPDATE, "Conekta has no products; a price is a plan there."},
	{OPERATION_PAYMENT_INTENT_VERIFY_MICRODEPOSITS,
	 "Conekta has no bank debits; use the method spei."},
	{OPERATION_DISPUTE_SUBMIT_EVIDENCE,
	 "Submit the evidence in Conekta's panel; its webhooks tell how the dispute goes on."},
	{OPERATION_DISPUTE_ACCEPT,
	 "Accept the dispute in Conekta's panel; its webhooks tell how it ends."},
	{OPERATION_DISPUTE_FETCH,
	 "Conekta tells a dispute with its payment: fetch that, or wait for the webhook."},
	{OPERATION_DISPUTE_LIST,
	 "Conekta tells disputes by webhook; register one by billing.register_webhook()."},
	{OPERATION_INVOICE_FETCH, "Conekta has no invoices; ask for the payment by billing.refresh()."},
	{OPERATION_INVOICE_LIST, "Conekta has no invoices; see billing.list_payment_intents()."},
	{OPERATION_INVOICE_FINALIZE, "Conekta has no invoices; use billing.create_payment_intent()."},
	{OPERATION_INVOICE_PAY, "Conekta has no invoices; use billing.create_payment_intent()."},
	{OPERATION_INVOICE_VOID, "Conekta has no invoices; use billing.cancel_payment_intent()."},
	{OPERATION_INVOICE_SEND,
	 "Conekta has no invoices; send a link by billing.create_payment_link()."},
	{OPERATION_INVOICE_MARK_UNCOLLECTIBLE,
	 "Conekta has no invoices; use billing.cancel_payment_intent()."},
	{OPERATION_INVOICE_DOCUMENT, "Conekta has no invoices and makes no fiscal documents."},
};

/* ------------------------------------------------------------------------
 * Looking at arguments
 * ------------------------------------------------------------------------
 */
static bool
given(const Jsonb *arguments, const char *name)
{
	return json_text(arguments, name) != NULL || json_part(arguments, name) != NULL;
}

/* Given, and none of these words. */
static bool
other_than(const Jsonb *arguments, const char *name, const char *const *words)
{
	char *text = json_text(arguments, name);

	for (; text != NULL && *words != NULL; words++)
	{
		if (strcmp(text, *words) == 0)
			return false;
	}
	return text != NULL;
}

static bool
number_other_than(const Jsonb *arguments, const char *name, int64 wanted)
{
	int64 number;

	return json_text(arguments, name) != NULL &&
		   (!json_int(arguments, name, &number) || number != wanted);
}

/* An argument that is refused as soon as it has a value. */
typedef struct Refusal
{
	const char *argument;
	const char *alternative;
} Refusal;

static const char *
refuse_given(const Jsonb *arguments, const Refusal *refusals, int count)
{
	for (int i = 0; i < count; i++)
	{
		char *text = json_text(arguments, refusals[i].argument);

		/* false asks for nothing */
		if (given(arguments, refusals[i].argument) && !(text != NULL && strcmp(text, "false") == 0))
			return refusals[i].alternative;
	}
	return NULL;
}

static bool
is_term(const char *months)
{
	static const char *const terms[] = {"3", "6", "9", "12", "18"};

	for (size_t i = 0; i < lengthof(terms); i++)
	{
		if (strcmp(months, terms[i]) == 0)
			return true;
	}
	return false;
}

static const char *
refuse_installments(const Jsonb *arguments)
{
	const char *const hint = "Conekta's instalments are 3, 6, 9, 12 or 18 months.";
	char *months = json_text(arguments, "installments");
	int count = json_length(arguments, "installments");

	if (months != NULL && !is_term(months))
		return hint;
	for (int i = 0; i < count; i++)
	{
		months = json_text(arguments, psprintf("installments.%d", i));
		if (months == NULL || !is_term(months))
			return hint;
	}
	return NULL;
}

static const char *
refuse_currency(const Jsonb *arguments, const ProviderAccount *account)
{
	static const char *const pesos[] = {"MXN", NULL};
	static const char *const pesos_and_dollars[] = {"MXN", "USD", NULL};
	bool dollars = json_bool(account->options, "usd_orders", false);

	return other_than(arguments, "currency", dollars ? pesos_and_dollars : pesos)
			   ? "Conekta takes payments in MXN; name another provider for other currencies."
			   : NULL;
}

/* Conekta wants 3 to 249 characters. */
static const char *
refuse_names(const Jsonb *arguments, const char *lines, const char *member)
{
	int count = json_length(arguments, lines);

	for (int i = 0; i < count; i++)
	{
		char *name = json_text(arguments, psprintf("%s.%d.%s", lines, i, member));
		int length = name == NULL ? NAME_LEAST : pg_mbstrlen(name);

		if (length < NAME_LEAST || length > NAME_MOST)
			return "Conekta wants names and descriptions of lines to have 3 to 249 characters.";
	}
	return NULL;
}

static const char *
refuse_lines(const Jsonb *arguments)
{
	const char *hint = refuse_names(arguments, "line_items", "name");

	if (hint == NULL)
		hint = refuse_names(arguments, "line_items", "description");
	return hint != NULL ? hint : refuse_names(arguments, "tax_lines", "description");
}

/* ------------------------------------------------------------------------
 * Customers and their payment methods
 * ------------------------------------------------------------------------
 */
static const char *
refuse_tax_ids(const Jsonb *arguments)
{
	static const char *const kinds[] = {"mx_rfc", NULL};
	int count = json_length(arguments, "tax_ids");

	if (count > 1)
		return "Conekta keeps one RFC in the fiscal entity of a customer.";
	if (count == 1 && other_than(arguments, "tax_ids.0.type", kinds))
		return "Conekta keeps a Mexican RFC only: pass a tax id of type mx_rfc.";
	return NULL;
}

static const char *
refuse_customer(const Jsonb *arguments, const ProviderAccount *account)
{
	return refuse_tax_ids(arguments);
}

static const char *
refuse_set_tax_ids(const Jsonb *arguments, const ProviderAccount *account)
{
	if (json_has(arguments, "tax_ids") && json_length(arguments, "tax_ids") == 0)
		return "Conekta cannot forget the RFC of a customer; set another one.";
	return refuse_tax_ids(arguments);
}

static const char *
refuse_customer_update(const Jsonb *arguments, const ProviderAccount *account)
{
	static const char *const needed[] = {"name", "email", "phone"};

	for (size_t i = 0; i < lengthof(needed); i++)
	{
		if (json_has(arguments, needed[i]) && json_text(arguments, needed[i]) == NULL)
			return psprintf("Conekta cannot forget the %s of a customer; set another one.",
							needed[i]);
	}
	return NULL;
}

static const char *
refuse_attach(const Jsonb *arguments, const ProviderAccount *account)
{
	static const char *const types[] = {"card", "cash_recurrent", "oxxo_recurrent",
										"spei_recurrent", NULL};
	static const char *const card[] = {"card", NULL};

	if (other_than(arguments, "type", types))
		return "Conekta keeps cards, and references of type cash_recurrent and spei_recurrent.";
	if (other_than(arguments, "type", card) && given(arguments, "payment_method"))
		return "A reusable reference is made without a token.";
	if (given(arguments, "mandate"))
		return "Conekta has no mandates; leave mandate out.";
	return NULL;
}

/* ------------------------------------------------------------------------
 * Plans and subscriptions
 * ------------------------------------------------------------------------
 */
static const char *
refuse_price(const Jsonb *arguments, const ProviderAccount *account)
{
	static const char *const intervals[] = {"week", "month", "year", NULL};
	static const char *const currencies[] = {"MXN", "USD", NULL};

	if (other_than(arguments, "interval", intervals))
		return "Conekta bills by week, month or year; add such a price to the plan.";
	if (other_than(arguments, "currency", currencies))
		return "Conekta's plans are in MXN or USD; add such a price to the plan.";
	return NULL;
}

static const char *
refuse_price_update(const Jsonb *arguments, const ProviderAccount *account)
{
	if (given(arguments, "active") && !json_bool(arguments, "active", true))
		return "Conekta has no archive: to delete a plan there would end its subscriptions. Leave it "
			   "as it is; it is no longer sold from here.";
	return NULL;
}

#define SENDS_NO_INVOICES \
	"Conekta charges the card by itself; send a link by billing.create_payment_link() instead."

static const char *
refuse_subscription(const Jsonb *arguments, const ProviderAccount *account)
{
	static const char *const collection[] = {"charge_automatically", NULL};
	static const char *const trial_end[] = {"cancel", NULL};
	static const Refusal refusals[] = {
		{"coupon", "Conekta has no coupons: add a price with the discount to the plan."},
		{"automatic_tax", "Conekta calculates no tax: use a price with the tax in it."},
		{"days_until_due", SENDS_NO_INVOICES},
		{"cancel_at", "Cancel it by billing.cancel_subscription(), also at the end of a period."},
		{"billing_anchor", "Conekta bills from the first day on; use trial_days to begin later."},
	};

	if (number_other_than(arguments, "quantity", 1))
		return "A subscription at Conekta has no quantity: add a price for the whole to the plan.";
	if (other_than(arguments, "collection_method", collection))
		return SENDS_NO_INVOICES;
	if (other_than(arguments, "trial_end_behavior", trial_end))
		return "Conekta charges the card when the trial ends.";
	return refuse_given(arguments, refusals, lengthof(refusals));
}

static const char *
refuse_subscription_create(const Jsonb *arguments, const ProviderAccount *account)
{
	const char *hint = refuse_price(arguments, account);

	return hint != NULL ? hint : refuse_subscription(arguments, account);
}

static const char *
refuse_subscription_update(const Jsonb *arguments, const ProviderAccount *account)
{
	static const char *const prorations[] = {"none", NULL};
	static const char *const effects[] = {"now", NULL};
	const char *hint = refuse_subscription_create(arguments, account);

	if (hint != NULL)
		return hint;
	if (other_than(arguments, "proration_behavior", prorations))
		return "Conekta does not prorate: pass proration_behavior => 'none', and the new price is "
			   "charged from the next period on.";
	if (other_than(arguments, "effective", effects))
		return "At Conekta a new plan is charged from the next period on: pass effective => 'now' and "
			   "proration_behavior => 'none'.";
	return given(arguments, "proration_date") ? "Conekta does not prorate." : NULL;
}

static const char *
refuse_cancel(const Jsonb *arguments, const ProviderAccount *account)
{
	static const Refusal refusals[] = {
		{"prorate", "Conekta does not prorate: pay back by billing.create_refund()."},
		{"invoice_now", "Conekta has no invoices."},
	};

	return refuse_given(arguments, refusals, lengthof(refusals));
}

static const char *
refuse_pause(const Jsonb *arguments, const ProviderAccount *account)
{
	static const char *const behaviors[] = {"void", NULL};

	if (json_bool(arguments, "at_period_end", false))
		return "Conekta pauses at once: call it without at_period_end when the period ends.";
	if (given(arguments, "resumes_at"))
		return "Conekta does not resume by itself: call billing.resume_subscription() then.";
	if (other_than(arguments, "behavior", behaviors))
		return "A paused subscription is not charged at Conekta (behavior void).";
	return NULL;
}

/* ------------------------------------------------------------------------
 * Payments
 * ------------------------------------------------------------------------
 */
static const char *
refuse_method(const Jsonb *arguments)
{
	char *method = json_text(arguments, "method");
	const char *type = method == NULL ? NULL : conekta_method(method);

	if (method != NULL && type == NULL)
		return "Conekta's methods are card, oxxo and spei.";
	if (type != NULL && strcmp(type, "card") != 0)
	{
		if (given(arguments, "installments"))
			return "Instalments are for cards.";
		if (given(arguments, "payment_method") || given(arguments, "token"))
			return "Payments by oxxo and spei take no payment method: the payment gets a reference.";
	}
	return NULL;
}

static const char *
refuse_payment(const Jsonb *arguments, const ProviderAccount *account)
{
	const char *hint = refuse_method(arguments);

	if (hint == NULL)
		hint = refuse_installments(arguments);
	if (hint == NULL)
		hint = refuse_currency(arguments, account);
	if (hint == NULL)
		hint = refuse_lines(arguments);
	if (hint == NULL && given(arguments, "mandate"))
		hint = "Conekta has no mandates; leave mandate out.";
	return hint;
}

/* Of a charge by card, or of none that is known yet, Conekta takes no end. */
static bool
is_by_reference(const Jsonb *arguments)
{
	char *method = json_text(arguments, "method");
	const char *type = method == NULL ? NULL : conekta_method(method);

	return type != NULL && strcmp(type, "card") != 0;
}

static const char *
refuse_expiry(const Jsonb *arguments)
{
	if (!given(arguments, "expires_at") || is_by_reference(arguments))
		return NULL;
	return "At Conekta only payments by oxxo and spei expire: pass expires_at with one of these "
		   "methods.";
}

/* An order keeps what it is charged with only when it is charged at once. */
static const char *
refuse_unused(const Jsonb *arguments)
{
	if (given(arguments, "token") && !json_bool(arguments, "confirm", true))
		return "Conekta keeps no token with an order that is not charged: pass it to "
			   "billing.confirm_payment_intent().";
	if (given(arguments, "description") && json_length(arguments, "line_items") > 0)
		return "Conekta describes an order by its lines: leave description out, or line_items.";
	return NULL;
}

static const char *
refuse_payment_create(const Jsonb *arguments, const ProviderAccount *account)
{
	static const char *const captures[] = {"automatic", NULL};
	static const Refusal refusals[] = {
		{"setup_future_usage", "Attach the token by billing.attach_payment_method() and pay with "
							   "that payment method."},
		{"statement_descriptor_suffix", "Conekta's statements have no text of their own."},
		{"receipt_email", "Conekta writes to the customer's e-mail address."},
	};
	const char *hint = refuse_payment(arguments, account);

	if (hint == NULL)
		hint = refuse_expiry(arguments);
	if (hint == NULL)
		hint = refuse_unused(arguments);
	if (hint != NULL)
		return hint;
	if (is_by_reference(arguments) && other_than(arguments, "capture_method", captures))
		return "Only cards are captured later.";
	return refuse_given(arguments, refusals, lengthof(refusals));
}

static const char *
refuse_confirm(const Jsonb *arguments, const ProviderAccount *account)
{
	static const Refusal refusals[] = {
		{"return_url", "Conekta takes the return URL when the payment is made: pass return_url to "
					   "billing.create_payment_intent()."},
	};
	const char *hint = refuse_payment(arguments, account);

	if (hint == NULL)
		hint = refuse_expiry(arguments);
	return hint != NULL ? hint : refuse_given(arguments, refusals, lengthof(refusals));
}

/* ------------------------------------------------------------------------
 * Checkouts, portals, webhooks
 * ------------------------------------------------------------------------
 */
static const char *
refuse_sale(const Jsonb *arguments, const ProviderAccount *account)
{
	const char *hint = refuse_currency(arguments, account);

	if (hint == NULL)
		hint = refuse_installments(arguments);
	return hint != NULL ? hint : refuse_lines(arguments);
}

static const char *
refuse_checkout_subscription(const Jsonb *arguments)
{
	if (json_length(arguments, "line_items") > 1)
		return "A checkout at Conekta sells one subscription: make one checkout for each plan.";
	if (number_other_than(arguments, "line_items.0.quantity", 1))
		return "A subscription at Conekta has no quantity.";
	return NULL;
}

static const char *
refuse_checkout(const Jsonb *arguments, const ProviderAccount *account)
{
	static const Refusal refusals[] = {
		{"trial_days", "A checkout at Conekta sells no trials: use billing.subscribe()."},
		{"coupon", "Conekta has no coupons: sell a price with the discount."},
		{"allow_promotion_codes", "Conekta has no promotion codes."},
		{"collect_tax_id", "Conekta does not ask for tax ids: pass tax_ids to the customer."},
		{"automatic_tax", "Conekta calculates no tax: pass tax_lines."},
		{"subscription", "Conekta's checkout does not change subscriptions: use "
						 "billing.update_subscription()."},
	};
	const char *hint = refuse_sale(arguments, account);
	char *mode = json_text(arguments, "mode");

	if (hint == NULL && mode != NULL && strcmp(mode, "setup") == 0)
		hint = "Make a token in the browser and pass it to billing.attach_payment_method().";
	if (hint == NULL && mode != NULL && strcmp(mode, "subscription") == 0)
		hint = refuse_checkout_subscription(arguments);
	return hint != NULL ? hint : refuse_given(arguments, refusals, lengthof(refusals));
}

static const char *
refuse_portal(const Jsonb *arguments, const ProviderAccount *account)
{
	if ((json_has(arguments, "subscription") && !given(arguments, "subscription")) ||
		(json_has(arguments, "subscription_id") && !given(arguments, "subscription_id")))
		return "Conekta has a portal for each subscription: pass subscription_id.";
	if (given(arguments, "return_url"))
		return "Conekta's portal leads back nowhere, the customer closes it: leave return_url out.";
	return NULL;
}

static const char *
refuse_endpoint(const Jsonb *arguments, const ProviderAccount *account)
{
	char *url = json_text(arguments, "url");

	if (url != NULL && (strstr(url, "localhost") != NULL || strstr(url, "127.0.0.1") != NULL))
		return "Conekta must be able to reach the URL: pass a public one.";
	return NULL;
}

static const char *
refuse_usage(const Jsonb *arguments, const ProviderAccount *account)
{
	return "Conekta bills no usage: sell the plan with managed_by => 'local', and billing charges it.";
}

/* ------------------------------------------------------------------------
 * All operations
 * ------------------------------------------------------------------------
 */
static const struct
{
	Operation operation;
	const char *(*refuse)(const Jsonb *arguments, const ProviderAccount *account);
} checks[] = {
	{OPERATION_CUSTOMER_CREATE, refuse_customer},
	{OPERATION_CUSTOMER_UPDATE, refuse_customer_update},
	{OPERATION_CUSTOMER_SET_TAX_IDS, refuse_set_tax_ids},
	{OPERATION_PAYMENT_METHOD_ATTACH, refuse_attach},
	{OPERATION_PRICE_CREATE, refuse_price},
	{OPERATION_PRICE_UPDATE, refuse_price_update},
	{OPERATION_SUBSCRIPTION_CREATE, refuse_subscription_create},
	{OPERATION_SUBSCRIPTION_UPDATE, refuse_subscription_update},
	{OPERATION_SUBSCRIPTION_CANCEL, refuse_cancel},
	{OPERATION_SUBSCRIPTION_PAUSE, refuse_pause},
	{OPERATION_PAYMENT_INTENT_CREATE, refuse_payment_create},
	{OPERATION_PAYMENT_INTENT_CONFIRM, refuse_confirm},
	{OPERATION_CHECKOUT_SESSION_CREATE, refuse_checkout},
	{OPERATION_PAYMENT_LINK_CREATE, refuse_sale},
	{OPERATION_PORTAL_SESSION_CREATE, refuse_portal},
	{OPERATION_METER_CREATE, refuse_usage},
	{OPERATION_METER_FETCH, refuse_usage},
	{OPERATION_USAGE_REPORT, refuse_usage},
	{OPERATION_USAGE_INGEST, refuse_usage},
	{OPERATION_WEBHOOK_ENDPOINT_CREATE, refuse_endpoint},
	{OPERATION_WEBHOOK_ENDPOINT_UPDATE, refuse_endpoint},
};

Support
conekta_supports(Operation operation, const Jsonb *arguments, const ProviderAccount *account,
				 const char **alternative)
{
	const char *hint = NULL;

	for (size_t i = 0; i < lengthof(refused); i++)
	{
		if (refused[i].operation == operation)
			hint = refused[i].alternative;
	}
	for (size_t i = 0; i < lengthof(checks); i++)
	{
		if (checks[i].operation == operation)
			hint = checks[i].refuse(arguments, account);
	}
	if (hint != NULL)
	{
		*alternative = hint;
		return UNSUPPORTED;
	}
	if (operation == OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END)
		*alternative =
			"We cancel it shortly before its period ends: billing.list_scheduled_changes().";
	else if (operation == OPERATION_SUBSCRIPTION_UNCANCEL)
		*alternative = "We take back what we had scheduled; Conekta hears of neither.";
	else
		return SUPPORTED;
	return EMULATED;
}

/* The first of these that has no value. */
static const char *
first_missing(const Jsonb *arguments, const char *const *names)
{
	for (; *names != NULL; names++)
	{
		if (!given(arguments, *names))
			return *names;
	}
	return NULL;
}

/* A fiscal entity has an address, and an address there has these. */
const char *
conekta_missing(Operation operation, const Jsonb *arguments, const ProviderAccount *account)
{
	static const char *const customer[] = {"name", "email", "phone", NULL};
	static const char *const address[] = {"address", "address.line1", "address.postal_code",
										  "address.city", NULL};
	static const char *const card[] = {"card", NULL};
	const char *missing = NULL;

	if (operation == OPERATION_CUSTOMER_CREATE)
		missing = first_missing(arguments, customer);
	if (missing == NULL && operation == OPERATION_CUSTOMER_CREATE &&
		json_length(arguments, "tax_ids") > 0)
		missing = first_missing(arguments, address);
	if (operation == OPERATION_PAYMENT_METHOD_ATTACH && !other_than(arguments, "type", card) &&
		!given(arguments, "payment_method"))
		missing = "payment_method";
	if (operation == OPERATION_PORTAL_SESSION_CREATE && !given(arguments, "subscription") &&
		!given(arguments, "subscription_id"))
		missing = "subscription_id";
	/* what is charged later has to be said when it is charged */
	if (operation == OPERATION_PAYMENT_INTENT_CONFIRM && !is_by_reference(arguments) &&
		!given(arguments, "payment_method") && !given(arguments, "token"))
		missing = "payment_method";
	return missing;
}

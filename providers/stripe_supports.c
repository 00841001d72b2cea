/*-------------------------------------------------------------------------
 *
 * stripe_supports.c
 *	  What Stripe does not offer, and what to do instead.
 *
 * Stripe has nearly every operation, so what is refused are arguments.  OXXO,
 * SPEI and instalments depend on the account: which one has them is known to
 * the routing (billing.optional_methods), and to Stripe itself.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe.h"

#include "json.h"

static bool
is_given(const Jsonb *arguments, const char *path)
{
	return json_text(arguments, path) != NULL || json_part(arguments, path) != NULL;
}

static bool
is(const Jsonb *arguments, const char *path, const char *word)
{
	return same_text(json_text(arguments, path), word);
}

/* Is the text an element of the array at path? */
static bool
lists(const Jsonb *json, const char *path, const char *word)
{
	int count = json_length(json, path);

	for (int i = 0; i < count; i++)
	{
		if (same_text(json_text(json, psprintf("%s.%d", path, i)), word))
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------------
 * Methods
 * ------------------------------------------------------------------------
 */
static const char *const method_types[] = {"acss_debit",
										   "affirm",
										   "afterpay_clearpay",
										   "alipay",
										   "alma",
										   "amazon_pay",
										   "au_becs_debit",
										   "bacs_debit",
										   "bancontact",
										   "billie",
										   "bizum",
										   "blik",
										   "boleto",
										   "card",
										   "cashapp",
										   "crypto",
										   "customer_balance",
										   "eps",
										   "fpx",
										   "giropay",
										   "grabpay",
										   "ideal",
										   "kakao_pay",
										   "klarna",
										   "konbini",
										   "kr_card",
										   "link",
										   "mb_way",
										   "mobilepay",
										   "multibanco",
										   "naver_pay",
										   "nz_bank_account",
										   "oxxo",
										   "p24",
										   "pay_by_bank",
										   "payco",
										   "paynow",
										   "paypal",
										   "paypay",
										   "payto",
										   "pix",
										   "promptpay",
										   "revolut_pay",
										   "samsung_pay",
										   "satispay",
										   "scalapay",
										   "sepa_debit",
										   "sequra",
										   "sofort",
										   "spei",
										   "sunbit",
										   "swish",
										   "twint",
										   "upi",
										   "us_bank_account",
										   "wechat_pay",
										   "zip",
										   NULL};

/* Methods of accounts in Mexico: NULL when it can be right, or it is another method. */
static const char *
mexican_method_trouble(const char *method, const Jsonb *arguments)
{
	static const char *const mexican[] = {"oxxo", "spei", NULL};
	char *currency = json_text(arguments, "currency");

	if (!is_one_of(method, mexican))
		return NULL;
	if (currency != NULL && pg_strcasecmp(currency, "MXN") != 0)
		return psprintf("Stripe takes %s in MXN only; use another method for other currencies.",
						method);
	return NULL;
}

static const char *
method_trouble(const char *method, const Jsonb *arguments)
{
	if (method == NULL)
		return NULL;
	if (!is_one_of(method, method_types))
		return psprintf("Stripe has no method \"%s\"; leave it out to offer what the account has "
						"switched on, or use provider conekta for payments in cash.",
						method);
	return mexican_method_trouble(method, arguments);
}

static const char *
methods_trouble(const Jsonb *arguments)
{
	int count = json_length(arguments, "methods");
	const char *trouble = NULL;

	for (int i = 0; trouble == NULL && i < count; i++)
		trouble = method_trouble(json_text(arguments, psprintf("methods.%d", i)), arguments);
	return trouble;
}

/* ------------------------------------------------------------------------
 * Operations
 * ------------------------------------------------------------------------
 */

/* preferred_locales is the one field that takes no empty value. */
static const char *
customer_update_trouble(const Jsonb *arguments, const ProviderAccount *account)
{
	if (json_has(arguments, "locale") && json_text(arguments, "locale") == NULL)
		return "Stripe cannot forget the locale of a customer; set another one.";
	return NULL;
}

static const char *
attach_trouble(const Jsonb *arguments, const ProviderAccount *account)
{
	if (is(arguments, "type", "cash_recurrent") || is(arguments, "type", "spei_recurrent"))
		return "Stripe has no references that can be paid again and again; use provider conekta, "
			   "or a payment intent with method oxxo or spei for each payment.";
	return NULL;
}

static const char *
update_trouble(const Jsonb *arguments, const ProviderAccount *account)
{
	if (is(arguments, "effective", "period_end"))
		return "Stripe changes a subscription at once; use proration_behavior => 'none', which "
			   "bills the new price from the next period on.";
	return NULL;
}

static const char *
pause_trouble(const Jsonb *arguments, const ProviderAccount *account)
{
	if (json_bool(arguments, "at_period_end", false))
		return "Stripe pauses at once; leave at_period_end out, or cancel_subscription() at the "
			   "end of the period.";
	return NULL;
}

/* What goes with a confirmation has no place in a setup that the browser confirms. */
static const char *
setup_trouble(const Jsonb *arguments, const ProviderAccount *account)
{
	if (json_bool(arguments, "confirm", false))
		return NULL;
	if (is_given(arguments, "return_url") || is_given(arguments, "mandate"))
		return "Stripe takes return_url and mandate with the confirmation: pass payment_method, or "
			   "leave both to the browser, which confirms it.";
	return NULL;
}

/* A line has a name, an amount and a quantity; a price is described by its product. */
static const char *
lines_trouble(const Jsonb *arguments, bool may_describe)
{
	int count = json_length(arguments, "line_items");

	for (int i = 0; i < count; i++)
	{
		bool priced = json_text(arguments, psprintf("line_items.%d.price_id", i)) != NULL;

		if (is_given(arguments, psprintf("line_items.%d.description", i)) &&
			(priced || !may_describe))
			return priced ? "Stripe shows the description of a price's product; leave that of the "
							"line out."
						  : "Lines of a payment have no description at Stripe; put it into name, "
							"or into the description of the payment.";
	}
	return NULL;
}

static const char *
attempt_trouble(const Jsonb *arguments, const ProviderAccount *account)
{
	const char *trouble = method_trouble(json_text(arguments, "method"), arguments);

	if (trouble == NULL)
		trouble = lines_trouble(arguments, false);

	if (trouble == NULL && is_given(arguments, "expires_at") && !is(arguments, "method", "oxxo"))
		trouble = "With Stripe only a payment by oxxo expires; cancel_payment_intent() ends "
				  "another one, and a checkout session may expire.";
	return trouble;
}

static const char *
checkout_trouble(const Jsonb *arguments, const ProviderAccount *account)
{
	const char *trouble = methods_trouble(arguments);

	if (trouble == NULL)
		trouble = lines_trouble(arguments, true);
	if (trouble == NULL && is_given(arguments, "coupon") &&
		json_bool(arguments, "allow_promotion_codes", false))
		trouble = "A checkout of Stripe has a coupon or takes promotion codes, not both; leave one "
				  "of them out.";
	if (trouble == NULL && is_given(arguments, "subscription"))
		trouble = "Stripe changes a subscription without a checkout; use update_subscription().";
	if (trouble == NULL && json_length(arguments, "tax_lines") > 0)
		trouble = "A checkout of Stripe computes tax itself with automatic_tax => true; a tax of "
				  "your own can be a line item.";
	return trouble;
}

static const char *
link_trouble(const Jsonb *arguments, const ProviderAccount *account)
{
	const char *trouble = methods_trouble(arguments);

	if (trouble == NULL)
		trouble = lines_trouble(arguments, true);
	if (trouble == NULL && lists(arguments, "methods", "spei"))
		trouble = "A payment link of Stripe does not take spei; use create_checkout_session().";
	if (trouble == NULL && json_length(arguments, "installments") > 0)
		trouble = "A payment link of Stripe has no instalments; use create_checkout_session().";
	if (trouble == NULL && is_given(arguments, "expires_at"))
		trouble = "A payment link of Stripe does not expire; limit it with max_payments, cancel "
				  "it, or use create_checkout_session().";
	return trouble;
}

/* ---- evidence ---- */

static const char *const evidence_fields[] = {"access_activity_log",
											  "billing_address",
											  "cancellation_policy",
											  "cancellation_policy_disclosure",
											  "cancellation_rebuttal",
											  "customer_communication",
											  "customer_email_address",
											  "customer_name",
											  "customer_purchase_ip",
											  "customer_signature",
											  "duplicate_charge_documentation",
											  "duplicate_charge_explanation",
											  "duplicate_charge_id",
											  "product_description",
											  "receipt",
											  "refund_policy",
											  "refund_policy_disclosure",
											  "refund_refusal_explanation",
											  "service_date",
											  "service_documentation",
											  "shipping_address",
											  "shipping_carrier",
											  "shipping_date",
											  "shipping_documentation",
											  "shipping_tracking_number",
											  "uncategorized_file",
											  "uncategorized_text",
											  NULL};

static void
find_unknown_field(const char *key, const JsonbValue *value, void *context)
{
	const char **unknown = context;

	if (*unknown == NULL && !is_one_of(key, evidence_fields))
		*unknown = pstrdup(key);
}

static const char *
evidence_trouble(const Jsonb *arguments, const ProviderAccount *account)
{
	Jsonb *evidence = json_part(arguments, "evidence");
	const char *unknown = NULL;

	if (evidence != NULL)
		json_visit(evidence, find_unknown_field, &unknown);
	if (unknown == NULL)
		return NULL;
	return psprintf("Stripe has no evidence \"%s\"; what has no field of its own goes into "
					"uncategorized_text.",
					unknown);
}

static const char *
ingest_trouble(const Jsonb *arguments, const ProviderAccount *account)
{
	return "Stripe is told what an hour comes to, by usage.report.";
}

typedef struct Refusal
{
	Operation operation;
	/* NULL, or what to do instead */
	const char *(*trouble)(const Jsonb *arguments, const ProviderAccount *account);
} Refusal;

static const Refusal refusals[] = {
	{OPERATION_CUSTOMER_UPDATE, customer_update_trouble},
	{OPERATION_PAYMENT_METHOD_ATTACH, attach_trouble},
	{OPERATION_SETUP_INTENT_CREATE, setup_trouble},
	{OPERATION_SUBSCRIPTION_UPDATE, update_trouble},
	{OPERATION_SUBSCRIPTION_PAUSE, pause_trouble},
	{OPERATION_PAYMENT_INTENT_CREATE, attempt_trouble},
	{OPERATION_PAYMENT_INTENT_CONFIRM, attempt_trouble},
	{OPERATION_DISPUTE_SUBMIT_EVIDENCE, evidence_trouble},
	{OPERATION_CHECKOUT_SESSION_CREATE, checkout_trouble},
	{OPERATION_PAYMENT_LINK_CREATE, link_trouble},
	{OPERATION_USAGE_INGEST, ingest_trouble},
};

Support
stripe_supports(Operation operation, const Jsonb *arguments, const ProviderAccount *account,
				const char **alternative)
{
	for (size_t i = 0; i < lengthof(refusals); i++)
	{
		if (refusals[i].operation != operation)
			continue;
		*alternative = refusals[i].trouble(arguments, account);
		return *alternative == NULL ? SUPPORTED : UNSUPPORTED;
	}
	return SUPPORTED;
}

const char *
stripe_missing(Operation operation, const Jsonb *arguments, const ProviderAccount *account)
{
	if (operation == OPERATION_PAYMENT_METHOD_ATTACH && !is_given(arguments, "payment_method"))
		return "payment_method";
	return NULL;
}

/*-------------------------------------------------------------------------
 *
 * sandbox_character.c
 *	  What can be done in the sandbox, by its own rules or by those of the
 *	  provider that it is told to behave as.
 *
 * Provider.supports and .missing, asked in the SQL call.  The account's option
 * "behave_as" (stripe, conekta, polar) lets an application meet the refusals
 * of a provider before it has an account there.  What a provider does not
 * do stands in one table: per operation, for all arguments or for those that a
 * small function finds.  A row only counts for its provider; what no row
 * refuses is done.  A second table has the order in which a provider tells what
 * happens to a subscription, where it has one.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

/* Are the arguments such that the row is meant? */
typedef bool (*Condition)(const Jsonb *arguments);

typedef struct Rule
{
	const char *provider; /* NULL: the sandbox itself, whatever it behaves as */
	Operation operation;
	Condition when; /* NULL: always */
	Support support;
	const char *alternative;
} Rule;

/* ------------------------------------------------------------------------
 * Conditions; an absent argument meets none of them
 * ------------------------------------------------------------------------
 */

static bool
is_text(const Jsonb *arguments, const char *key, const char *wanted)
{
	return arguments != NULL && sandbox_text_is(json_text(arguments, key), wanted);
}

static bool
has(const Jsonb *arguments, const char *key)
{
	return arguments != NULL && json_text(arguments, key) != NULL;
}

static bool
is_more_than(const Jsonb *arguments, const char *key, int64 limit)
{
	int64 value;

	return arguments != NULL && json_int(arguments, key, &value) && value > limit;
}

static bool
sends_invoice(const Jsonb *arguments)
{
	return is_text(arguments, "collection_method", "send_invoice");
}

static bool
has_coupon(const Jsonb *arguments)
{
	return has(arguments, "coupon");
}

static bool
keeps_drafts(const Jsonb *arguments)
{
	return has(arguments, "behavior") && !is_text(arguments, "behavior", "void");
}

static bool
wish_is_unknown(const Jsonb *arguments)
{
	SandboxWish wish;

	return arguments != NULL && !sandbox_wish_read(json_text(arguments, "metadata.sandbox"), &wish);
}

static bool
method_is_unknown(const Jsonb *arguments)
{
	static const char *const known[] = {"card", "us_bank_account", "sepa_debit", "oxxo", "spei"};
	const char *method = arguments == NULL ? NULL : json_text(arguments, "method");

	for (size_t i = 0; i < lengthof(known); i++)
	{
		if (method == NULL || strcmp(method, known[i]) == 0)
			return false;
	}
	return true;
}

static bool
has_quantity(const Jsonb *arguments)
{
	return is_more_than(arguments, "quantity", 1);
}

static bool
prorates(const Jsonb *arguments)
{
	return has(arguments, "proration_behavior") &&
		   !is_text(arguments, "proration_behavior", "none");
}

static bool
does_not_prorate(const Jsonb *arguments)
{
	return is_text(arguments, "proration_behavior", "none");
}

static bool
is_not_in_pesos(const Jsonb *arguments)
{
	return has(arguments, "currency") && !is_text(arguments, "currency", "MXN");
}

static bool
is_setup(const Jsonb *arguments)
{
	return is_text(arguments, "mode", "setup");
}

static bool
has_several_lines(const Jsonb *arguments)
{
	return arguments != NULL && json_length(arguments, "line_items") > 1;
}

static bool
is_reference(const Jsonb *arguments)
{
	return is_text(arguments, "type", "cash_recurrent") ||
		   is_text(arguments, "type", "spei_recurrent");
}

static bool
is_no_card(const Jsonb *arguments)
{
	return is_text(arguments, "type", "us_bank_account") ||
		   is_text(arguments, "type", "sepa_debit");
}

static bool
pays_by_bank_debit(const Jsonb *arguments)
{
	return is_text(arguments, "method", "us_bank_account") ||
		   is_text(arguments, "method", "sepa_debit");
}

static bool
pays_by_spei(const Jsonb *arguments)
{
	return is_text(arguments, "method", "spei");
}

static bool
pays_by_number(const Jsonb *arguments)
{
	return is_text(arguments, "method", "oxxo") || pays_by_spei(arguments);
}

static bool
has_instalments(const Jsonb *arguments)
{
	return is_more_than(arguments, "installments", 1);
}

static bool
is_captured_later(const Jsonb *arguments)
{
	return is_text(arguments, "capture_method", "manual");
}

static bool
is_paid(const Jsonb *arguments)
{
	return is_more_than(arguments, "amount", 0);
}

static bool
pauses_now(const Jsonb *arguments)
{
	return arguments != NULL && json_has(arguments, "at_period_end") &&
		   !json_bool(arguments, "at_period_end", true);
}

static bool
pauses_later(const Jsonb *arguments)
{
	return arguments != NULL && json_bool(arguments, "at_period_end", false);
}

/* ------------------------------------------------------------------------
 * The table
 * ------------------------------------------------------------------------
 */

#define NO_CATALOGUE "The sandbox has no catalogue; subscribe without pushing the price."
#define NO_LINKS     "Use billing.create_checkout_session()."
#define NO_ENDPOINTS "The sandbox delivers its own webhooks; there is nothing to register."
#define NO_COUPONS   "The sandbox keeps no discounts; leave out coupon."
#define BY_CHECKOUT  "The customer pays by checkout: use billing.create_checkout_session()."
#define BY_PORTAL    "The customer does it in the portal: use billing.create_portal_session()."
#define CARDS_ONLY   "Use a card."

/* For a provider that does nothing of a kind. */
#define NEVER(provider, operation, alternative)                         \
	{                                                                   \
		provider, OPERATION_##operation, NULL, UNSUPPORTED, alternative \
	}
#define WHEN(condition, provider, operation, alternative)                    \
	{                                                                        \
		provider, OPERATION_##operation, condition, UNSUPPORTED, alternative \
	}
#define INSTEAD(provider, operation)                          \
	{                                                         \
		provider, OPERATION_##operation, NULL, EMULATED, NULL \
	}

static const Rule rules[] = {
	NEVER(NULL, PRODUCT_CREATE, NO_CATALOGUE),
	NEVER(NULL, PRODUCT_UPDATE, NO_CATALOGUE),
	NEVER(NULL, PRICE_CREATE, NO_CATALOGUE),
	NEVER(NULL, PRICE_UPDATE, NO_CATALOGUE),
	NEVER(NULL, PAYMENT_LINK_CREATE, NO_LINKS),
	NEVER(NULL, PAYMENT_LINK_CANCEL, NO_LINKS),
	NEVER(NULL, DISPUTE_LIST, "The sandbox tells of each dispute by webhook."),
	NEVER(NULL, INVOICE_SEND, "The sandbox sends no mail; use billing.pay_invoice()."),
	NEVER(NULL, WEBHOOK_ENDPOINT_CREATE, NO_ENDPOINTS),
	NEVER(NULL, WEBHOOK_ENDPOINT_UPDATE, NO_ENDPOINTS),
	NEVER(NULL, WEBHOOK_ENDPOINT_ROTATE, NO_ENDPOINTS),
	NEVER(NULL, WEBHOOK_ENDPOINT_DELETE, NO_ENDPOINTS),
	NEVER(NULL, WEBHOOK_ENDPOINT_LIST, NO_ENDPOINTS),
	WHEN(sends_invoice, NULL, SUBSCRIPTION_CREATE, "Use collection_method charge_automatically."),
	WHEN(has_coupon, NULL, SUBSCRIPTION_CREATE, NO_COUPONS),
	WHEN(has_coupon, NULL, SUBSCRIPTION_UPDATE, NO_COUPONS),
	WHEN(has_coupon, NULL, CHECKOUT_SESSION_CREATE, NO_COUPONS),
	WHEN(keeps_drafts, NULL, SUBSCRIPTION_PAUSE,
		 "Use behavior void: nothing is invoiced while it is paused."),
	WHEN(wish_is_unknown, NULL, PAYMENT_INTENT_CREATE,
		 "metadata.sandbox is one or more of pay_after:P2D, expire, late:P1D, under:500, over:500, "
		 "with commas between them."),
	WHEN(wish_is_unknown, NULL, CHECKOUT_SESSION_CREATE,
		 "metadata.sandbox is one or more of pay_after:P2D, expire, late:P1D, under:500, over:500, "
		 "with commas between them."),
	WHEN(method_is_unknown, NULL, PAYMENT_INTENT_CREATE,
		 "The sandbox knows the methods card, us_bank_account, sepa_debit, oxxo and spei."),

	WHEN(is_reference, "stripe", PAYMENT_METHOD_ATTACH,
		 "Use billing.create_payment_intent() with method oxxo for each payment."),
	WHEN(pays_by_spei, "stripe", PAYMENT_INTENT_CREATE, "Use conekta, or the method oxxo."),

	NEVER("conekta", SETUP_INTENT_CREATE,
		  "Use billing.attach_payment_method() with a token of the browser."),
	NEVER("conekta", SETUP_INTENT_CANCEL, "There are no setup intents at conekta."),
	NEVER("conekta", PAYMENT_INTENT_VERIFY_MICRODEPOSITS, CARDS_ONLY),
	NEVER("conekta", DISPUTE_SUBMIT_EVIDENCE, "Answer it in the panel of conekta."),
	NEVER("conekta", DISPUTE_ACCEPT, "Answer it in the panel of conekta."),
	NEVER("conekta", INVOICE_FETCH, "conekta has no invoices."),
	NEVER("conekta", INVOICE_LIST, "conekta has no invoices."),
	NEVER("conekta", INVOICE_FINALIZE, "conekta has no invoices."),
	NEVER("conekta", INVOICE_PAY, "Use billing.retry_payment()."),
	NEVER("conekta", INVOICE_VOID, "conekta has no invoices."),
	NEVER("conekta", INVOICE_MARK_UNCOLLECTIBLE, "conekta has no invoices."),
	NEVER("conekta", INVOICE_DOCUMENT, "conekta has no invoices."),
	INSTEAD("conekta", SUBSCRIPTION_CANCEL_AT_PERIOD_END),
	INSTEAD("conekta", SUBSCRIPTION_UNCANCEL),
	WHEN(is_no_card, "conekta", PAYMENT_METHOD_ATTACH,
		 "Use a card, or type cash_recurrent or spei_recurrent."),
	WHEN(pays_by_bank_debit, "conekta", PAYMENT_INTENT_CREATE, "Use card, oxxo or spei."),
	WHEN(is_not_in_pesos, "conekta", PAYMENT_INTENT_CREATE, "conekta takes MXN."),
	WHEN(is_not_in_pesos, "conekta", CHECKOUT_SESSION_CREATE, "conekta takes MXN."),
	WHEN(is_setup, "conekta", CHECKOUT_SESSION_CREATE,
		 "Use billing.attach_payment_method() with a token of the browser."),
	WHEN(has_quantity, "conekta", SUBSCRIPTION_CREATE,
		 "Its plans have no quantity: use a price for the whole."),
	WHEN(has_quantity, "conekta", SUBSCRIPTION_UPDATE,
		 "Its plans have no quantity: use a price for the whole."),
	WHEN(prorates, "conekta", SUBSCRIPTION_UPDATE, "Use proration_behavior none."),
	WHEN(pauses_later, "conekta", SUBSCRIPTION_PAUSE, "Use at_period_end => false."),

	NEVER("polar", PAYMENT_METHOD_ATTACH, BY_PORTAL),
	NEVER("polar", PAYMENT_METHOD_SET_DEFAULT, BY_PORTAL),
	NEVER("polar", PAYMENT_METHOD_DETACH, BY_PORTAL),
	NEVER("polar", SETUP_INTENT_CREATE, BY_PORTAL),
	NEVER("polar", SETUP_INTENT_CANCEL, BY_PORTAL),
	NEVER("polar", PAYMENT_INTENT_CAPTURE, "polar captures by itself."),
	NEVER("polar", PAYMENT_INTENT_CANCEL, "A draft at polar is never charged by itself."),
	NEVER("polar", PAYMENT_INTENT_VERIFY_MICRODEPOSITS, CARDS_ONLY),
	NEVER("polar", REFUND_CANCEL, "A refund at polar cannot be taken back."),
	NEVER("polar", DISPUTE_SUBMIT_EVIDENCE, "polar answers disputes itself."),
	NEVER("polar", CHECKOUT_SESSION_EXPIRE, "It expires by itself."),
	NEVER("polar", SUBSCRIPTION_RETRY_PAYMENT, BY_PORTAL),
	NEVER("polar", INVOICE_FINALIZE, "polar finalises its orders itself."),
	NEVER("polar", INVOICE_PAY, BY_PORTAL),
	NEVER("polar", INVOICE_VOID, "Use billing.create_refund()."),
	NEVER("polar", INVOICE_MARK_UNCOLLECTIBLE, "polar is the seller and follows up itself."),
	WHEN(is_paid, "polar", SUBSCRIPTION_CREATE, BY_CHECKOUT),
	WHEN(is_setup, "polar", CHECKOUT_SESSION_CREATE, BY_PORTAL),
	WHEN(has_several_lines, "polar", CHECKOUT_SESSION_CREATE,
		 "polar sells one product per checkout: pass combine => true."),
	WHEN(pays_by_number, "polar", PAYMENT_INTENT_CREATE, BY_CHECKOUT),
	WHEN(pays_by_bank_debit, "polar", PAYMENT_INTENT_CREATE, BY_CHECKOUT),
	WHEN(has_instalments, "polar", PAYMENT_INTENT_CREATE, "Leave out installments."),
	WHEN(is_captured_later, "polar", PAYMENT_INTENT_CREATE, "Use capture_method automatic."),
	WHEN(does_not_prorate, "polar", SUBSCRIPTION_UPDATE,
		 "Use proration_behavior create_prorations or always_invoice."),
	WHEN(pauses_now, "polar", SUBSCRIPTION_PAUSE, "Use at_period_end => true."),
};

/* The token that an operation names; a wrong one is refused by the list of those that there are. */
static bool
token_is_known(Operation operation, const Jsonb *arguments)
{
	const char *key = operation == OPERATION_PAYMENT_METHOD_ATTACH ? "payment_method" : "token";

	return !has(arguments, key) || sandbox_token(json_text(arguments, key)) != NULL;
}

Support
sandbox_supports(Operation operation, const Jsonb *arguments, const ProviderAccount *account,
				 const char **alternative)
{
	const char *behave_as = json_text(account->options, "behave_as");

	for (size_t i = 0; i < lengthof(rules); i++)
	{
		const Rule *rule = &rules[i];

		if (rule->operation != operation ||
			(rule->provider != NULL && !sandbox_text_is(behave_as, rule->provider)) ||
			(rule->when != NULL && !rule->when(arguments)))
			continue;
		*alternative = rule->alternative;
		return rule->support;
	}
	if (!token_is_known(operation, arguments))
	{
		*alternative = sandbox_token_hint();
		return UNSUPPORTED;
	}
	return SUPPORTED;
}

/* ------------------------------------------------------------------------
 * How changes of a subscription are told
 * ------------------------------------------------------------------------
 */

#define MAX_SEQUENCE 4 /* and the NULL at its end */

typedef struct Sequence
{
	const char *provider; /* NULL: the others */
	const char *type;     /* as the sandbox calls it; what is not here is told as it is */
	const char *told[MAX_SEQUENCE];
} Sequence;

#define SUBSCRIPTION(what) "customer.subscription." what

/* Those of a provider before those of all others. */
static const Sequence sequences[] = {
	{"polar",
	 SUBSCRIPTION("deleted"),
	 {SUBSCRIPTION("updated"), SUBSCRIPTION("canceled"), SUBSCRIPTION("revoked")}},
	{"polar", SUBSCRIPTION("cycled"), {SUBSCRIPTION("cycled"), SUBSCRIPTION("updated")}},
	{"polar", SUBSCRIPTION("resumed"), {SUBSCRIPTION("updated"), SUBSCRIPTION("resumed")}},
	{"polar", SUBSCRIPTION("to_be_canceled"), {SUBSCRIPTION("updated"), SUBSCRIPTION("canceled")}},
	{"polar", SUBSCRIPTION("uncanceled"), {SUBSCRIPTION("updated"), SUBSCRIPTION("uncanceled")}},
	{NULL, SUBSCRIPTION("cycled"), {SUBSCRIPTION("updated")}},
	{NULL, SUBSCRIPTION("to_be_canceled"), {SUBSCRIPTION("updated")}},
	{NULL, SUBSCRIPTION("uncanceled"), {SUBSCRIPTION("updated")}},
};

const char *const *
sandbox_event_sequence(const Sandbox *sandbox, const char *type)
{
	const char **itself;

	for (size_t i = 0; i < lengthof(sequences); i++)
	{
		const Sequence *sequence = &sequences[i];

		if (strcmp(sequence->type, type) == 0 &&
			(sequence->provider == NULL || sandbox_text_is(sandbox->behave_as, sequence->provider)))
			return sequence->told;
	}
	itself = palloc0(2 * sizeof(const char *));
	itself[0] = type;
	return itself;
}

/* ------------------------------------------------------------------------
 * What is required
 * ------------------------------------------------------------------------
 */

static const struct
{
	const char *provider; /* NULL: always */
	Operation operation;
	const char *argument;
} required[] = {
	{NULL, OPERATION_PORTAL_SESSION_CREATE, "return_url"},
	{"conekta", OPERATION_CUSTOMER_CREATE, "name"},
	{"conekta", OPERATION_CUSTOMER_CREATE, "email"},
	{"conekta", OPERATION_CUSTOMER_CREATE, "phone"},
	{"conekta", OPERATION_PORTAL_SESSION_CREATE, "subscription"},
	{"polar", OPERATION_CUSTOMER_CREATE, "email"},
};

const char *
sandbox_missing(Operation operation, const Jsonb *arguments, const ProviderAccount *account)
{
	const char *behave_as = json_text(account->options, "behave_as");

	for (size_t i = 0; i < lengthof(required); i++)
	{
		const char *value;

		if (required[i].operation != operation ||
			(required[i].provider != NULL && !sandbox_text_is(behave_as, required[i].provider)))
			continue;
		value = json_text(arguments, required[i].argument);
		if (value == NULL || *value == '\0')
			return required[i].argument;
	}
	return NULL;
}

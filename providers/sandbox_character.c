/*-------------------------------------------------------------------------
 *
 * sandbox_character.c
 *	  What can be done in the sandbox, by its own rules or by those of the
 *	  provider that it is told to behave as.
 *
 * Provider.supports and .missing, asked in the SQL call.  The account's option
 * "behave_as" (stripe, conekta, polar) lets an application meet the refusals
 * of a provider before it has an account there: that provider is asked itself,
 * by the contract, so that the answers are always its own.  What the sandbox
 * never does stands in one table; another one has the order in which a
 * provider tells what happens to a subscription, where it has one.  Who runs a
 * subscription by default is that provider's default, too; without a character
 * it is our own engine.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

/* Are the arguments such that the row is meant? */
typedef bool (*Condition)(const Jsonb *arguments);

/* What the sandbox does not do, whoever it behaves as. */
typedef struct Rule
{
	Operation operation;
	Condition when; /* NULL: always */
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

/* ------------------------------------------------------------------------
 * The table
 * ------------------------------------------------------------------------
 */

#define NO_CATALOGUE "The sandbox has no catalogue; subscribe without pushing the price."
#define NO_LINKS     "Use billing.create_checkout_session()."
#define NO_ENDPOINTS "The sandbox delivers its own webhooks; there is nothing to register."
#define NO_METERS    "The sandbox needs no meter: it is told what an hour comes to, by usage.report."
#define NO_COUPONS   "The sandbox keeps no discounts; leave out coupon."
#define NEVER(operation, alternative)            \
	{                                            \
		OPERATION_##operation, NULL, alternative \
	}
#define WHEN(condition, operation, alternative)       \
	{                                                 \
		OPERATION_##operation, condition, alternative \
	}

static const Rule rules[] = {
	NEVER(PRODUCT_CREATE, NO_CATALOGUE),
	NEVER(PRODUCT_UPDATE, NO_CATALOGUE),
	NEVER(PRICE_CREATE, NO_CATALOGUE),
	NEVER(PRICE_UPDATE, NO_CATALOGUE),
	NEVER(PAYMENT_LINK_CREATE, NO_LINKS),
	NEVER(PAYMENT_LINK_CANCEL, NO_LINKS),
	NEVER(DISPUTE_LIST, "The sandbox tells of each dispute by webhook."),
	NEVER(INVOICE_SEND, "The sandbox sends no mail; use billing.pay_invoice()."),
	NEVER(WEBHOOK_ENDPOINT_CREATE, NO_ENDPOINTS),
	NEVER(WEBHOOK_ENDPOINT_UPDATE, NO_ENDPOINTS),
	NEVER(WEBHOOK_ENDPOINT_ROTATE, NO_ENDPOINTS),
	NEVER(WEBHOOK_ENDPOINT_DELETE, NO_ENDPOINTS),
	NEVER(WEBHOOK_ENDPOINT_LIST, NO_ENDPOINTS),
	NEVER(METER_CREATE, NO_METERS),
	NEVER(METER_FETCH, NO_METERS),
	NEVER(USAGE_INGEST, NO_METERS),
	WHEN(sends_invoice, SUBSCRIPTION_CREATE, "Use collection_method charge_automatically."),
	WHEN(has_coupon, SUBSCRIPTION_CREATE, NO_COUPONS),
	WHEN(has_coupon, SUBSCRIPTION_UPDATE, NO_COUPONS),
	WHEN(has_coupon, CHECKOUT_SESSION_CREATE, NO_COUPONS),
	WHEN(keeps_drafts, SUBSCRIPTION_PAUSE,
		 "Use behavior void: nothing is invoiced while it is paused."),
	WHEN(wish_is_unknown, PAYMENT_INTENT_CREATE,
		 "metadata.sandbox is one or more of pay_after:P2D, expire, late:P1D, under:500, over:500, "
		 "with commas between them."),
	WHEN(wish_is_unknown, CHECKOUT_SESSION_CREATE,
		 "metadata.sandbox is one or more of pay_after:P2D, expire, late:P1D, under:500, over:500, "
		 "with commas between them."),
	WHEN(method_is_unknown, PAYMENT_INTENT_CREATE,
		 "The sandbox knows the methods card, us_bank_account, sepa_debit, oxxo and spei."),
};

/* The token that an operation names; a wrong one is refused by the list of those that there are. */
static bool
token_is_known(Operation operation, const Jsonb *arguments)
{
	const char *key = operation == OPERATION_PAYMENT_METHOD_ATTACH ? "payment_method" : "token";

	return !has(arguments, key) || sandbox_token(json_text(arguments, key)) != NULL;
}

/* Whom the account behaves as; NULL: the sandbox itself. */
static const Provider *
model_of(const ProviderAccount *account)
{
	const char *name = json_text(account->options, "behave_as");
	const Provider *model = name == NULL ? NULL : provider_find(name);

	return model != NULL && model->embedded == NULL ? model : NULL;
}

Support
sandbox_supports(Operation operation, const Jsonb *arguments, const ProviderAccount *account,
				 const char **alternative)
{
	const Provider *model = model_of(account);

	for (size_t i = 0; i < lengthof(rules); i++)
	{
		const Rule *rule = &rules[i];

		if (rule->operation != operation || (rule->when != NULL && !rule->when(arguments)))
			continue;
		*alternative = rule->alternative;
		return UNSUPPORTED;
	}
	if (!token_is_known(operation, arguments))
	{
		*alternative = sandbox_token_hint();
		return UNSUPPORTED;
	}
	if (model == NULL)
		return SUPPORTED;
	/* which of the two ways usage is told by is a matter of the wire */
	if (operation == OPERATION_USAGE_REPORT &&
		model->supports(OPERATION_USAGE_INGEST, arguments, account, alternative) == SUPPORTED)
		return SUPPORTED;
	return model->supports(operation, arguments, account, alternative);
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

const char *
sandbox_missing(Operation operation, const Jsonb *arguments, const ProviderAccount *account)
{
	const Provider *model = model_of(account);

	if (operation == OPERATION_PORTAL_SESSION_CREATE && json_text(arguments, "return_url") == NULL)
		return "return_url";
	return model == NULL ? NULL : model->missing(operation, arguments, account);
}

/* ------------------------------------------------------------------------
 * Who bills
 * ------------------------------------------------------------------------
 */

ProviderBilling
sandbox_billing(const ProviderAccount *account)
{
	const Provider *model = model_of(account);

	return model == NULL ? BILLING_NONE : model->billing;
}

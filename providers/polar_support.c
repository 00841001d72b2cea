/*-------------------------------------------------------------------------
 *
 * polar_support.c
 *	  What Polar does not offer, and what to do instead.
 *
 * Polar is the seller: the customer meets its checkout and its portal, and
 * what belongs to them (payment methods, tax, receipts, evidence in disputes)
 * is done there and not by its API.  All of this is data: a line for each
 * thing that is refused, with the way out.  Asked in the SQL call, with
 * arguments that hold our ids, so a member may be called x or x_id.
 *
 *-------------------------------------------------------------------------
 */
#include "polar.h"

#include "json.h"

typedef enum Condition
{
	ALWAYS,     /* whatever the arguments are */
	GIVEN,      /* the argument is there and not null */
	CLEARED,    /* the argument is there and null */
	SAYS_TRUE,  /* ... is true */
	SAYS_FALSE, /* ... is said and is false */
	ABOVE,      /* ... is a number greater than limit */
	MORE_THAN,  /* ... is an array of more elements than limit */
	OTHER_THAN, /* ... is text, but not word */
	EQUALS,     /* ... is word */
} Condition;

typedef struct Refusal
{
	Operation operation;
	Condition condition;
	const char *argument;
	const char *word;
	int64 limit;
	const char *alternative;
} Refusal;

#define USE_PORTAL \
	"The customer does it in Polar's portal: call billing.create_portal_session() and show its URL."
#define USE_CHECKOUT \
	"The customer pays, and leaves a card, in Polar's checkout: call billing.create_checkout_session()."
#define POLAR_INVOICES \
	"Polar is the seller and runs its invoices itself; billing.create_portal_session() lets the customer pay."
#define POLAR_TAX "Polar is the seller and computes the tax itself; leave it out."
#define CARD_ONLY \
	"Polar charges a saved card here; other methods are for its checkout: call billing.create_checkout_session()."
#define POLAR_EXPIRY  "Polar decides when it expires; leave expires_at out."
#define POLAR_METHODS "Polar's checkout decides which methods to offer; leave methods out."
#define POLAR_PRODUCT "Polar shows the description of the product; leave that of the line out."
#define POLAR_RETURN \
	"Polar charges a saved card without leading the customer away; leave return_url out."
#define POLAR_RECEIPTS "Polar sends receipts to the address of the customer; leave it out."
#define POLAR_LATEST \
	"A meter of Polar has no latest value: sell the plan with managed_by => 'local', or by provider stripe."
#define SOLD_BY_CHECKOUT \
	"A checkout sells it: pass success_url to billing.subscribe(), or call billing.create_checkout_session()."
#define RETRY_BY_POLAR \
	"Polar tries again by itself, and the customer can pay in its portal: call billing.create_portal_session()."

/* clang-format off */
static const Refusal refusals[] = {
	{OPERATION_CUSTOMER_CREATE, MORE_THAN, "tax_ids", NULL, 1, "Polar keeps one tax id of a customer; pass the one of the billing country."},
	{OPERATION_CUSTOMER_CREATE, EQUALS, "tax_exempt", "exempt", 0, "Polar is the seller and decides about the tax itself; pass the customer's tax id instead."},
	{OPERATION_CUSTOMER_CREATE, EQUALS, "tax_exempt", "reverse", 0, "Polar is the seller and decides about the tax itself; pass the customer's tax id instead."},
	{OPERATION_CUSTOMER_UPDATE, EQUALS, "tax_exempt", "exempt", 0, "Polar is the seller and decides about the tax itself; set the customer's tax id instead."},
	{OPERATION_CUSTOMER_UPDATE, EQUALS, "tax_exempt", "reverse", 0, "Polar is the seller and decides about the tax itself; set the customer's tax id instead."},
	{OPERATION_CUSTOMER_UPDATE, CLEARED, "email", NULL, 0, "A customer of Polar always has an email; set another one."},
	{OPERATION_CUSTOMER_SET_TAX_IDS, MORE_THAN, "tax_ids", NULL, 1, "Polar keeps one tax id of a customer; pass the one of the billing country."},

	{OPERATION_PAYMENT_METHOD_ATTACH, ALWAYS, NULL, NULL, 0, USE_PORTAL},
	{OPERATION_PAYMENT_METHOD_DETACH, ALWAYS, NULL, NULL, 0, USE_PORTAL},
	{OPERATION_PAYMENT_METHOD_SET_DEFAULT, ALWAYS, NULL, NULL, 0, USE_PORTAL},
	{OPERATION_SETUP_INTENT_CREATE, ALWAYS, NULL, NULL, 0, USE_PORTAL},
	{OPERATION_SETUP_INTENT_CANCEL, ALWAYS, NULL, NULL, 0, USE_PORTAL},

	{OPERATION_METER_CREATE, EQUALS, "aggregation", "latest", 0, POLAR_LATEST},
	{OPERATION_METER_FETCH, EQUALS, "aggregation", "latest", 0, POLAR_LATEST},
	{OPERATION_USAGE_INGEST, EQUALS, "aggregation", "latest", 0, POLAR_LATEST},
	{OPERATION_USAGE_REPORT, ALWAYS, NULL, NULL, 0, "Polar is told by how much an hour has changed, by usage.ingest."},

	{OPERATION_PRODUCT_CREATE, ALWAYS, NULL, NULL, 0, "A product of Polar has one price: each price of a plan becomes one."},
	{OPERATION_PRODUCT_UPDATE, ALWAYS, NULL, NULL, 0, "A product of Polar has one price: change the plan's prices."},

	{OPERATION_SUBSCRIPTION_CREATE, ABOVE, "amount", NULL, 0, "Polar sells subscriptions by its checkout: call billing.create_checkout_session() with mode => 'subscription'."},
	{OPERATION_SUBSCRIPTION_CREATE, ABOVE, "quantity", NULL, 1, "Seats are sold by Polar's checkout: call billing.create_checkout_session() with mode => 'subscription'."},
	{OPERATION_SUBSCRIPTION_CREATE, ABOVE, "trial_days", NULL, 0, "Trials begin in Polar's checkout: call billing.create_checkout_session() with mode => 'subscription' and trial_days."},
	{OPERATION_SUBSCRIPTION_CREATE, GIVEN, "trial_end", NULL, 0, "Trials begin in Polar's checkout: call billing.create_checkout_session() with mode => 'subscription' and trial_days."},
	{OPERATION_SUBSCRIPTION_CREATE, GIVEN, "coupon", NULL, 0, "Discounts are given in Polar's checkout: call billing.create_checkout_session() with mode => 'subscription' and coupon."},
	{OPERATION_SUBSCRIPTION_CREATE, EQUALS, "collection_method", "send_invoice", 0, "Polar charges by itself: leave collection_method out."},
	{OPERATION_SUBSCRIPTION_CREATE, GIVEN, "cancel_at", NULL, 0, "Polar ends a subscription with a period: call billing.cancel_subscription() in the last one."},
	{OPERATION_SUBSCRIPTION_CREATE, GIVEN, "billing_anchor", NULL, 0, "Periods begin with the subscription; leave billing_anchor out."},

	{OPERATION_SUBSCRIPTION_UPDATE, GIVEN, "payment_method", NULL, 0, USE_PORTAL},
	{OPERATION_SUBSCRIPTION_UPDATE, GIVEN, "cancel_at", NULL, 0, "Polar ends a subscription with a period: call billing.cancel_subscription() in the last one."},
	{OPERATION_SUBSCRIPTION_UPDATE, GIVEN, "proration_date", NULL, 0, "Polar prorates to the moment of the change; leave proration_date out."},
	{OPERATION_SUBSCRIPTION_CANCEL, SAYS_TRUE, "prorate", NULL, 0, "Polar gives nothing back for a canceled period: use billing.create_refund()."},
	{OPERATION_SUBSCRIPTION_CANCEL, SAYS_TRUE, "invoice_now", NULL, 0, "Polar bills what is used by itself; leave invoice_now out."},
	{OPERATION_SUBSCRIPTION_PAUSE, SAYS_FALSE, "at_period_end", NULL, 0, "Polar pauses at the end of the period: pass at_period_end => true."},
	{OPERATION_SUBSCRIPTION_PAUSE, GIVEN, "behavior", NULL, 0, "A paused subscription is not invoiced; leave behavior out."},
	{OPERATION_SUBSCRIPTION_RETRY_PAYMENT, ALWAYS, NULL, NULL, 0, RETRY_BY_POLAR},

	{OPERATION_PAYMENT_INTENT_CREATE, OTHER_THAN, "method", "card", 0, CARD_ONLY},
	{OPERATION_PAYMENT_INTENT_CREATE, GIVEN, "token", NULL, 0, USE_CHECKOUT},
	{OPERATION_PAYMENT_INTENT_CREATE, ABOVE, "installments", NULL, 1, "Polar has no instalments: choose a provider that has."},
	{OPERATION_PAYMENT_INTENT_CREATE, EQUALS, "capture_method", "manual", 0, "Polar captures at once: leave capture_method out, or create the payment with confirm => false and confirm it later."},
	{OPERATION_PAYMENT_INTENT_CREATE, GIVEN, "expires_at", NULL, 0, "A draft order of Polar does not expire; leave expires_at out."},
	{OPERATION_PAYMENT_INTENT_CREATE, MORE_THAN, "tax_lines", NULL, 0, POLAR_TAX},
	{OPERATION_PAYMENT_INTENT_CREATE, GIVEN, "statement_descriptor_suffix", NULL, 0, "Polar is the seller and has a descriptor of its own; leave it out."},
	{OPERATION_PAYMENT_INTENT_CREATE, GIVEN, "receipt_email", NULL, 0, POLAR_RECEIPTS},
	{OPERATION_PAYMENT_INTENT_CREATE, GIVEN, "setup_future_usage", NULL, 0, USE_CHECKOUT},
	{OPERATION_PAYMENT_INTENT_CREATE, GIVEN, "mandate", NULL, 0, CARD_ONLY},
	{OPERATION_PAYMENT_INTENT_CREATE, GIVEN, "return_url", NULL, 0, POLAR_RETURN},
	{OPERATION_PAYMENT_INTENT_CREATE, MORE_THAN, "line_items", NULL, 1, "An order of Polar has one product: pass one line, or none and a description."},
	{OPERATION_PAYMENT_INTENT_CREATE, GIVEN, "line_items.0.description", NULL, 0, "An order of Polar has one description: pass that of the payment."},
	{OPERATION_PAYMENT_INTENT_CONFIRM, OTHER_THAN, "method", "card", 0, CARD_ONLY},
	{OPERATION_PAYMENT_INTENT_CONFIRM, GIVEN, "token", NULL, 0, USE_CHECKOUT},
	{OPERATION_PAYMENT_INTENT_CONFIRM, ABOVE, "installments", NULL, 1, "Polar has no instalments: choose a provider that has."},
	{OPERATION_PAYMENT_INTENT_CONFIRM, GIVEN, "expires_at", NULL, 0, "A draft order of Polar does not expire; leave expires_at out."},
	{OPERATION_PAYMENT_INTENT_CONFIRM, GIVEN, "mandate", NULL, 0, CARD_ONLY},
	{OPERATION_PAYMENT_INTENT_CONFIRM, GIVEN, "return_url", NULL, 0, POLAR_RETURN},
	{OPERATION_PAYMENT_INTENT_CAPTURE, ALWAYS, NULL, NULL, 0, "Polar captures at once: a payment that succeeded needs no capture."},
	{OPERATION_PAYMENT_INTENT_CANCEL, ALWAYS, NULL, NULL, 0, "A draft order of Polar is charged only by billing.confirm_payment_intent(): leave it alone."},
	{OPERATION_PAYMENT_INTENT_VERIFY_MICRODEPOSITS, ALWAYS, NULL, NULL, 0, "Polar takes no bank debits."},

	{OPERATION_REFUND_CANCEL, ALWAYS, NULL, NULL, 0, "A refund at Polar cannot be taken back."},
	{OPERATION_DISPUTE_SUBMIT_EVIDENCE, ALWAYS, NULL, NULL, 0, "Polar is the seller and answers disputes itself; what can be done is to accept one: billing.accept_dispute()."},

	{OPERATION_CHECKOUT_SESSION_CREATE, EQUALS, "mode", "setup", 0, USE_PORTAL},
	{OPERATION_CHECKOUT_SESSION_CREATE, MORE_THAN, "line_items", NULL, 1, "Polar sells one product in a checkout: pass one line, or combine => true."},
	{OPERATION_CHECKOUT_SESSION_CREATE, GIVEN, "line_items.0.description", NULL, 0, POLAR_PRODUCT},
	{OPERATION_CHECKOUT_SESSION_CREATE, MORE_THAN, "installments", NULL, 0, "Polar has no instalments: choose a provider that has."},
	{OPERATION_CHECKOUT_SESSION_CREATE, MORE_THAN, "methods", NULL, 0, POLAR_METHODS},
	{OPERATION_CHECKOUT_SESSION_CREATE, MORE_THAN, "tax_lines", NULL, 0, POLAR_TAX},
	{OPERATION_CHECKOUT_SESSION_CREATE, SAYS_FALSE, "automatic_tax", NULL, 0, POLAR_TAX},
	{OPERATION_CHECKOUT_SESSION_CREATE, GIVEN, "expires_at", NULL, 0, POLAR_EXPIRY},
	{OPERATION_CHECKOUT_SESSION_CREATE, ABOVE, "trial_days", NULL, 1000, "Polar's trials last 1000 days at most."},
	{OPERATION_CHECKOUT_SESSION_EXPIRE, ALWAYS, NULL, NULL, 0, "A checkout of Polar ends by itself within an hour or so; show the customer a new one."},
	{OPERATION_PAYMENT_LINK_CREATE, MORE_THAN, "line_items", NULL, 1, "Polar sells one product by a link: pass one line."},
	{OPERATION_PAYMENT_LINK_CREATE, GIVEN, "line_items.0.description", NULL, 0, POLAR_PRODUCT},
	{OPERATION_PAYMENT_LINK_CREATE, MORE_THAN, "installments", NULL, 0, "Polar has no instalments: choose a provider that has."},
	{OPERATION_PAYMENT_LINK_CREATE, MORE_THAN, "methods", NULL, 0, POLAR_METHODS},
	{OPERATION_PAYMENT_LINK_CREATE, GIVEN, "expires_at", NULL, 0, "A link of Polar does not expire: delete it by billing.cancel_payment_link()."},
	{OPERATION_PAYMENT_LINK_CREATE, GIVEN, "max_payments", NULL, 0, "A link of Polar can be used any number of times: leave max_payments out, or use billing.create_checkout_session()."},

	{OPERATION_PORTAL_SESSION_CREATE, GIVEN, "locale", NULL, 0, "Polar's portal speaks the language of the customer: set it by billing.update_customer(), and leave locale out."},

	{OPERATION_INVOICE_FINALIZE, ALWAYS, NULL, NULL, 0, POLAR_INVOICES},
	{OPERATION_INVOICE_PAY, ALWAYS, NULL, NULL, 0, POLAR_INVOICES},
	{OPERATION_INVOICE_VOID, ALWAYS, NULL, NULL, 0, POLAR_INVOICES},
	{OPERATION_INVOICE_SEND, ALWAYS, NULL, NULL, 0, POLAR_INVOICES},
	{OPERATION_INVOICE_MARK_UNCOLLECTIBLE, ALWAYS, NULL, NULL, 0, POLAR_INVOICES},
};
/* clang-format on */

/* By its name, or by the name it has while it holds an id of ours. */
static const char *
name_in(const Jsonb *arguments, const char *argument)
{
	return json_has(arguments, argument) ? argument : psprintf("%s_id", argument);
}

static bool
applies(const Refusal *refusal, const Jsonb *arguments)
{
	const char *name;
	char *text;
	int64 number;

	if (refusal->condition == ALWAYS)
		return true;
	name = name_in(arguments, refusal->argument);
	if (!json_has(arguments, name))
		return false;
	text = json_text(arguments, name);
	switch (refusal->condition)
	{
		case GIVEN:
			return text != NULL || json_part(arguments, name) != NULL;
		case CLEARED:
			return text == NULL && json_part(arguments, name) == NULL;
		case SAYS_TRUE:
			return json_bool(arguments, name, false);
		case SAYS_FALSE:
			return !json_bool(arguments, name, true);
		case ABOVE:
			return json_int(arguments, name, &number) && number > refusal->limit;
		case MORE_THAN:
			return json_length(arguments, name) > refusal->limit;
		case OTHER_THAN:
			return text != NULL && strcmp(text, refusal->word) != 0;
		case EQUALS:
			return text != NULL && strcmp(text, refusal->word) == 0;
		case ALWAYS:
			break;
	}
	return true;
}

/* A line of a catalogue: the price or the product that it names. */
static bool
names_product(const Jsonb *arguments, int line)
{
	static const char *const members[] = {"price",      "price_id", "product",
										  "product_id", "plan",     "plan_id"};

	for (size_t i = 0; i < lengthof(members); i++)
	{
		if (json_text(arguments, psprintf("line_items.%d.%s", line, members[i])) != NULL)
			return true;
	}
	return false;
}

static bool
sells_subscription(const Jsonb *arguments)
{
	char *mode = json_text(arguments, "mode");

	return mode != NULL && strcmp(mode, "subscription") == 0;
}

/* Does it change what is paid for?  Only then does a way of prorating matter. */
static bool
changes_terms(const Jsonb *arguments)
{
	static const char *const members[] = {"price", "price_id", "plan", "plan_id", "quantity"};

	for (size_t i = 0; i < lengthof(members); i++)
	{
		if (json_has(arguments, members[i]))
			return true;
	}
	return false;
}

/*
 * Polar sells products and nothing else.  An amount without one needs the
 * account's product for such charges.
 */
static bool
lacks_product(Operation operation, const Jsonb *arguments, const ProviderAccount *account)
{
	int lines = json_length(arguments, "line_items");

	switch (operation)
	{
		case OPERATION_PAYMENT_INTENT_CREATE:
			if (!json_has(arguments, "currency") || (lines == 1 && names_product(arguments, 0)))
				return false;
			return polar_charge_product(account) == NULL;
		case OPERATION_CHECKOUT_SESSION_CREATE:
		case OPERATION_PAYMENT_LINK_CREATE:
			if (lines == 0 || names_product(arguments, 0))
				return false;
			return operation == OPERATION_PAYMENT_LINK_CREATE || sells_subscription(arguments) ||
				   polar_charge_product(account) == NULL;
		default:
			return false;
	}
}

static Support
refuse(const char **alternative, const char *what)
{
	*alternative = what;
	return UNSUPPORTED;
}

Support
polar_supports(Operation operation, const Jsonb *arguments, const ProviderAccount *account,
			   const char **alternative)
{
	for (size_t i = 0; i < lengthof(refusals); i++)
	{
		if (refusals[i].operation == operation && applies(&refusals[i], arguments))
			return refuse(alternative, refusals[i].alternative);
	}
	if (operation == OPERATION_SUBSCRIPTION_UPDATE && changes_terms(arguments) &&
		json_has(arguments, "proration_behavior") && polar_proration(arguments) == NULL)
		return refuse(
			alternative,
			"Polar always prorates a change at once: pass proration_behavior => 'create_prorations' or "
			"'always_invoice', or effective => 'period_end'.");
	if (operation == OPERATION_SUBSCRIPTION_CREATE)
	{
		*alternative = SOLD_BY_CHECKOUT;
		return EMULATED;
	}
	if (!lacks_product(operation, arguments, account))
		return SUPPORTED;
	if (operation == OPERATION_PAYMENT_LINK_CREATE || sells_subscription(arguments))
		return refuse(alternative, "Polar sells products: pass one line with a price of a plan.");
	return refuse(
		alternative,
		"Polar sells products: pass one line with a price, or name a one-time product of Polar for "
		"all other charges by configure_provider('polar', options => '{\"product_id\": \"...\"}').");
}

const char *
polar_missing(Operation operation, const Jsonb *arguments, const ProviderAccount *account)
{
	bool needs_country = json_part(arguments, "address") != NULL ||
						 json_length(arguments, "tax_ids") > 0;

	if (operation != OPERATION_CUSTOMER_CREATE)
		return NULL;
	if (json_text(arguments, "email") == NULL)
		return "email";
	return needs_country && json_text(arguments, "address.country") == NULL ? "country" : NULL;
}

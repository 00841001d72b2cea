/*-------------------------------------------------------------------------
 *
 * conekta_orders.c
 *	  The bodies of orders, charges, checkouts and payment links.
 *
 * An order is charged when it is made, as soon as a charge stands in it; one
 * without charges waits for a later one, or for the hosted page that makes it.
 * Conekta adds up: lines + taxes = charges.
 *
 *-------------------------------------------------------------------------
 */
#include "conekta.h"

#include "mb/pg_wchar.h"

/* Of a line's name, in characters. */
#define NAME_LEAST 3
#define NAME_MOST  249

/* A payment link must end some day; this is ours where the caller names none (at most 365). */
#define LINK_DAYS 30

/* ------------------------------------------------------------------------
 * Parts
 * ------------------------------------------------------------------------
 */
static const struct
{
	const char *method; /* ours */
	const char *charge; /* type of a charge there */
	const char *page;   /* word of the hosted page */
} methods[] = {
	{"card", "card", "card"},
	{"oxxo", "cash", "cash"},
	{"cash", "cash", "cash"},
	{"spei", "spei", "bank_transfer"},
	{"apple_pay", NULL, "apple"},
	{"google_pay", NULL, "google"},
	{"bnpl", NULL, "bnpl"},
	{"pay_by_bank", NULL, "pay_by_bank"},
	{"bank_transfer", "spei", "bank_transfer"},
};

const char *
conekta_method(const char *method)
{
	for (size_t i = 0; i < lengthof(methods); i++)
	{
		if (strcmp(method, methods[i].method) == 0)
			return methods[i].charge;
	}
	return NULL;
}

/* A word that we do not know is sent as it is: Conekta's own words count, too. */
static const char *
page_method(const char *method)
{
	for (size_t i = 0; i < lengthof(methods); i++)
	{
		if (strcmp(method, methods[i].method) == 0)
			return methods[i].page;
	}
	return method;
}

typedef struct MetadataCopy
{
	JsonBuilder *body;
	bool update;
} MetadataCopy;

static void
copy_metadata_member(const char *key, const JsonbValue *value, void *context)
{
	MetadataCopy *copy = context;
	char *text = json_scalar_text(value);

	if (strcmp(key, CONEKTA_REFERENCE) == 0 || strcmp(key, CONEKTA_SESSION) == 0 ||
		strcmp(key, CONEKTA_ORGANIZATION) == 0 || value->type == jbvBinary)
		return;
	if (text != NULL)
		json_add_text(copy->body, key, text);
	else if (copy->update)
		json_add_null(copy->body, key);
}

/*
 * Our ids go with every change, too: where Conekta replaces the metadata they
 * stay, and where it merges them a null removes what was removed here.
 */
void
conekta_add_metadata(const ProviderCall *call, JsonBuilder *body, const char *reference,
					 const char *session)
{
	Jsonb *metadata = json_part(call->arguments, "metadata");
	MetadataCopy copy = {body, call->operation == OPERATION_CUSTOMER_UPDATE};

	json_open_object(body, "metadata");
	if (metadata != NULL)
		json_visit(metadata, copy_metadata_member, &copy);
	json_add_text(body, CONEKTA_REFERENCE, reference);
	json_add_text(body, CONEKTA_SESSION, session);
	json_add_text(body, CONEKTA_ORGANIZATION, json_text(call->arguments, "organization_id"));
	json_close_object(body);
}

/* The argument where it is given, as it is. */
static void
copy_argument(JsonBuilder *body, const ProviderCall *call, const char *name, const char *argument)
{
	int64 number;
	Jsonb *part = json_part(call->arguments, argument);

	if (part != NULL)
		json_add_json(body, name, part);
	else if (json_int(call->arguments, argument, &number))
		json_add_int(body, name, number);
	else
		json_add_text(body, name, json_text(call->arguments, argument));
}

static int64
argument_amount(const Jsonb *json, const char *path)
{
	int64 amount;

	if (!json_int(json, path, &amount))
		elog(ERROR, "argument \"%s\" is missing", path);
	return amount;
}

/* What a line is called that has no name of its own. */
static const char *
line_name(const ProviderCall *call, const char *name)
{
	int length;

	if (name == NULL || pg_mbstrlen(name) < NAME_LEAST)
		name = strcmp(conekta_language(call), "en") == 0 ? "Payment" : "Pago";
	length = pg_mbcharcliplen(name, (int) strlen(name), NAME_MOST);
	return pnstrdup(name, length);
}

static void
append_line(JsonBuilder *body, const ProviderCall *call, const char *name, const char *description,
			int64 unit_price, int64 quantity)
{
	JsonBuilder line;

	json_open(&line);
	json_add_text(&line, "name", line_name(call, name));
	json_add_int(&line, "unit_price", unit_price);
	json_add_int(&line, "quantity", quantity);
	if (description != NULL && pg_mbstrlen(description) >= NAME_LEAST)
		json_add_text(&line, "description", line_name(call, description));
	json_append_json(body, json_close(&line));
}

/*
 * The lines and taxes of the arguments; without lines one for the whole.  The
 * caller has checked that they add up to the amount.
 */
static void
add_lines(JsonBuilder *body, const ProviderCall *call)
{
	const Jsonb *arguments = call->arguments;
	int lines = json_length(arguments, "line_items");
	int taxes = json_length(arguments, "tax_lines");
	int64 left = argument_amount(arguments, "amount");

	for (int i = 0; i < taxes; i++)
		left -= argument_amount(arguments, psprintf("tax_lines.%d.amount", i));

	json_open_array(body, "line_items");
	for (int i = 0; i < lines; i++)
	{
		char *at = psprintf("line_items.%d", i);
		int64 quantity;

		if (!json_int(arguments, psprintf("%s.quantity", at), &quantity))
			quantity = 1;
		append_line(body, call, json_text(arguments, psprintf("%s.name", at)),
					json_text(arguments, psprintf("%s.description", at)),
					argument_amount(arguments, psprintf("%s.amount", at)), quantity);
	}
	if (lines == 0)
		append_line(body, call, json_text(arguments, "description"), NULL, left, 1);
	json_close_array(body);

	if (taxes == 0)
		return;
	json_open_array(body, "tax_lines");
	for (int i = 0; i < taxes; i++)
	{
		JsonBuilder tax;

		json_open(&tax);
		json_add_text(&tax, "description",
					  json_text(arguments, psprintf("tax_lines.%d.description", i)));
		json_add_int(&tax, "amount",
					 argument_amount(arguments, psprintf("tax_lines.%d.amount", i)));
		json_append_json(body, json_close(&tax));
	}
	json_close_array(body);
}

static void
add_customer(JsonBuilder *body, const ProviderCall *call)
{
	char *customer = json_text(call->arguments, "customer");

	if (customer == NULL)
		return;
	json_open_object(body, "customer_info");
	json_add_text(body, "customer_id", customer);
	json_close_object(body);
}

/* ------------------------------------------------------------------------
 * Orders and charges
 * ------------------------------------------------------------------------
 */

/* The type of the charge; NULL when the arguments name nothing to charge. */
static const char *
charge_type(const ProviderCall *call)
{
	char *method = json_text(call->arguments, "method");
	const char *type;

	if (method == NULL)
		return json_text(call->arguments, "token") != NULL ||
					   json_text(call->arguments, "payment_method") != NULL
				   ? "card"
				   : NULL;
	type = conekta_method(method);
	if (type == NULL)
		elog(ERROR, "no such method");
	return type;
}

static Jsonb *
charge(const ProviderCall *call, const char *type, const char *reference)
{
	JsonBuilder body;

	json_open(&body);
	json_add_int(&body, "amount", argument_amount(call->arguments, "amount"));
	json_add_text(&body, "reference_id", reference);
	json_open_object(&body, "payment_method");
	json_add_text(&body, "type", type);
	if (strcmp(type, "card") == 0)
	{
		if (json_text(call->arguments, "token") != NULL)
			copy_argument(&body, call, "token_id", "token");
		else
			copy_argument(&body, call, "payment_source_id", "payment_method");
		copy_argument(&body, call, "monthly_installments", "installments");
	}
	else
		copy_argument(&body, call, "expires_at", "expires_at");
	json_close_object(&body);
	return json_close(&body);
}

/* Only while the customer is there can a bank ask for proof. */
static void
add_authentication(JsonBuilder *body, const ProviderCall *call)
{
	if (json_bool(call->arguments, "off_session", false) ||
		json_text(call->arguments, "return_url") == NULL)
		return;
	copy_argument(body, call, "return_url", "return_url");
	json_add_text(body, "three_ds_mode", json_text(call->account->options, "three_ds_mode"));
}

static bool
is_manual(const ProviderCall *call)
{
	char *capture = json_text(call->arguments, "capture_method");

	return capture != NULL && strcmp(capture, "manual") == 0;
}

Jsonb *
conekta_order_body(const ProviderCall *call)
{
	const char *type = charge_type(call);
	JsonBuilder body;

	json_open(&body);
	copy_argument(&body, call, "currency", "currency");
	add_customer(&body, call);
	add_lines(&body, call);
	if (type != NULL && json_bool(call->arguments, "confirm", true))
	{
		json_open_array(&body, "charges");
		json_append_json(&body, charge(call, type, call->reference));
		json_close_array(&body);
	}
	if (is_manual(call))
		json_add_bool(&body, "pre_authorize", true);
	add_authentication(&body, call);
	conekta_add_metadata(call, &body, call->reference, NULL);
	return json_close(&body);
}

/*
 * One order may be charged several times, after a decline: the id of the
 * request tells the charges apart.
 */
Jsonb *
conekta_charge_body(const ProviderCall *call)
{
	const char *type = charge_type(call);

	return charge(call, type != NULL ? type : "card", call->request_id);
}

/* ------------------------------------------------------------------------
 * Hosted pages and links
 * ------------------------------------------------------------------------
 */
static bool
sells_subscription(const ProviderCall *call)
{
	char *mode = json_text(call->arguments, "mode");

	return mode != NULL && strcmp(mode, "subscription") == 0;
}

/* A subscription is charged again and again, which only a card allows. */
static void
add_page_methods(JsonBuilder *body, const ProviderCall *call)
{
	static const char *const usual[] = {"card", "cash", "bank_transfer"};
	int wanted = json_length(call->arguments, "methods");
	int count = sells_subscription(call) ? 1 : (int) lengthof(usual);

	json_open_array(body, "allowed_payment_methods");
	for (int i = 0; i < wanted; i++)
	{
		char *method = json_text(call->arguments, psprintf("methods.%d", i));

		if (method != NULL)
			json_append_text(body, page_method(method));
	}
	for (int i = 0; wanted == 0 && i < count; i++)
		json_append_text(body, usual[i]);
	json_close_array(body);
}

static void
add_page_installments(JsonBuilder *body, const ProviderCall *call)
{
	if (json_length(call->arguments, "installments") == 0)
		return;
	json_add_bool(body, "monthly_installments_enabled", true);
	copy_argument(body, call, "monthly_installments_options", "installments");
}

Jsonb *
conekta_checkout_body(const ProviderCall *call)
{
	JsonBuilder body;

	json_open(&body);
	copy_argument(&body, call, "currency", "currency");
	add_customer(&body, call);
	add_lines(&body, call);
	json_open_object(&body, "checkout");
	json_add_text(&body, "type", "HostedPayment");
	add_page_methods(&body, call);
	add_page_installments(&body, call);
	if (sells_subscription(call))
	{
		json_open_array(&body, "plan_ids");
		json_append_text(&body, json_text(call->arguments, "line_items.0.price"));
		json_close_array(&body);
	}
	copy_argument(&body, call, "success_url", "success_url");
	copy_argument(&body, call, "failure_url", "cancel_url");
	copy_argument(&body, call, "expires_at", "expires_at");
	json_close_object(&body);
	conekta_add_metadata(call, &body, json_text(call->arguments, "payment_reference"),
						 call->reference);
	return json_close(&body);
}

/*
 * Without an end of the caller's it is the same whenever it is asked for: the
 * time in the id of the request counts, so that a look-up knows the link by it.
 */
static int64
link_end(const ProviderCall *call)
{
	int64 end;
	unsigned int high;
	unsigned int low;

	if (json_int(call->arguments, "expires_at", &end))
		return end;
	if (sscanf(call->request_id, "%8x-%4x", &high, &low) != 2)
		elog(ERROR, "the id of a request is no uuid");
	return (((int64) high << 16) | low) / 1000 + (int64) LINK_DAYS * SECS_PER_DAY;
}

const char *
conekta_link_name(const ProviderCall *call)
{
	return line_name(call, json_text(call->arguments, "name"));
}

/* By our reference; where the link does not show it, by its name and its end. */
bool
conekta_is_link(const ProviderCall *call, const Jsonb *checkout)
{
	char *session = json_text(checkout, "metadata." CONEKTA_SESSION);
	int64 end;

	if (session != NULL)
		return conekta_same(session, call->reference);
	return conekta_same(json_text(checkout, "name"), conekta_link_name(call)) &&
		   json_int(checkout, "expires_at", &end) && end == link_end(call);
}

/* A link is paid once when max_payments is 1, and else by whoever has it. */
static void
add_link_limit(JsonBuilder *body, const ProviderCall *call)
{
	int64 limit;
	bool limited = json_int(call->arguments, "max_payments", &limit);

	json_add_bool(body, "recurrent", !limited || limit > 1);
	if (limited && limit > 1)
		json_add_int(body, "payments_limit_count", limit);
}

Jsonb *
conekta_payment_link_body(const ProviderCall *call)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "name", conekta_link_name(call));
	json_add_text(&body, "type", "PaymentLink");
	add_link_limit(&body, call);
	json_add_int(&body, "expires_at", link_end(call));
	json_add_bool(&body, "needs_shipping_contact", false);
	add_page_methods(&body, call);
	add_page_installments(&body, call);
	copy_argument(&body, call, "success_url", "success_url");
	json_open_object(&body, "order_template");
	copy_argument(&body, call, "currency", "currency");
	add_lines(&body, call);
	conekta_add_metadata(call, &body, NULL, call->reference);
	json_close_object(&body);
	return json_close(&body);
}

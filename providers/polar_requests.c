/*-------------------------------------------------------------------------
 *
 * polar_requests.c
 *	  Operations become requests to Polar's API.
 *
 * Bodies are JSON, collection URLs end in a slash (without it Polar redirects,
 * and a redirect is never followed), times are RFC 3339.  Polar knows no
 * idempotency keys: whatever makes something carries our reference, and the
 * look-ups at the end of this file find it by that.
 *
 * An operation may be several requests; polar_step() says what each one is.
 *
 *-------------------------------------------------------------------------
 */
#include "polar.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/formatting.h"
#include "utils/timestamp.h"

#include "json.h"

/* To finalize an order charges a card in line; other requests are quick. */
#define TIMEOUT_MS 60000

/* Of a product; counted in characters. */
#define PRODUCT_NAME_MIN 3
#define PRODUCT_NAME_MAX 64

#define DESCRIPTION_MAX    500 /* of an order */
#define METADATA_VALUE_MAX 500
#define METADATA_KEY_MAX   40

/* ------------------------------------------------------------------------
 * Steps
 * ------------------------------------------------------------------------
 */
static bool
is_given(const ProviderCall *call, const char *argument)
{
	return json_has(call->arguments, argument);
}

int
polar_refused_step(const ProviderCall *call)
{
	int64 step;

	if (call->carry == NULL || !json_int(call->carry, "step", &step) || step < 0 ||
		step >= POLAR_CONFIRM_STEP)
		elog(ERROR, "nothing says which step was refused");
	return (int) step;
}

bool
polar_changes_base(const ProviderCall *call)
{
	return is_given(call, "price") || is_given(call, "coupon") || is_given(call, "trial_end");
}

bool
polar_changes_seats(const ProviderCall *call)
{
	return is_given(call, "quantity");
}

bool
polar_step_changes_seats(const ProviderCall *call)
{
	return call->step == 1 || !polar_changes_base(call);
}

PolarStep
polar_step(const ProviderCall *call)
{
	if (call->step == POLAR_CONFIRM_STEP)
		return POLAR_CONFIRM;
	if (call->step == POLAR_DECLINE_STEP)
		return POLAR_DECLINE;

	switch (call->operation)
	{
		case OPERATION_CUSTOMER_CREATE:
		case OPERATION_PRICE_CREATE:
		case OPERATION_SUBSCRIPTION_CREATE:
		case OPERATION_CHECKOUT_SESSION_CREATE:
		case OPERATION_PAYMENT_LINK_CREATE:
		case OPERATION_PORTAL_SESSION_CREATE:
		case OPERATION_WEBHOOK_ENDPOINT_CREATE:
			return POLAR_CREATE;
		case OPERATION_PAYMENT_INTENT_CREATE:
			return call->step == 0 ? POLAR_CREATE : POLAR_FINALIZE;
		case OPERATION_PAYMENT_INTENT_CONFIRM:
			return POLAR_FINALIZE;
		case OPERATION_REFUND_CREATE:
			return call->step == 0 ? POLAR_PREPARE : POLAR_CREATE;
		case OPERATION_CUSTOMER_UPDATE:
			return call->step == 0 && is_given(call, "metadata") ? POLAR_PREPARE : POLAR_CHANGE;
		case OPERATION_INVOICE_DOCUMENT:
			return call->step == 0 ? POLAR_PREPARE : call->step == 1 ? POLAR_TRIGGER : POLAR_READ;
		case OPERATION_CUSTOMER_DELETE:
		case OPERATION_PAYMENT_LINK_CANCEL:
		case OPERATION_WEBHOOK_ENDPOINT_DELETE:
			return POLAR_REMOVE;
		case OPERATION_CUSTOMER_FETCH:
		case OPERATION_SUBSCRIPTION_FETCH:
		case OPERATION_PAYMENT_INTENT_FETCH:
		case OPERATION_REFUND_FETCH:
		case OPERATION_DISPUTE_FETCH:
		case OPERATION_CHECKOUT_SESSION_FETCH:
		case OPERATION_INVOICE_FETCH:
			return POLAR_READ;
		case OPERATION_PAYMENT_METHOD_LIST:
		case OPERATION_DISPUTE_LIST:
		case OPERATION_INVOICE_LIST:
		case OPERATION_WEBHOOK_ENDPOINT_LIST:
			return POLAR_LIST;
		default:
			return POLAR_CHANGE;
	}
}

const char *
polar_proration(const Jsonb *arguments)
{
	char *effective = json_text(arguments, "effective");
	char *behavior = json_text(arguments, "proration_behavior");

	if (effective != NULL && strcmp(effective, "period_end") == 0)
		return "next_period";
	if (behavior == NULL)
		return NULL;
	if (strcmp(behavior, "create_prorations") == 0)
		return "prorate";
	return strcmp(behavior, "always_invoice") == 0 ? "invoice" : NULL;
}

char *
polar_charge_product(const ProviderAccount *account)
{
	return json_text(account->options, "product_id");
}

char *
polar_order_id(const ProviderCall *call)
{
	char *id = json_text(call->arguments, "payment_intent");

	if (id == NULL && call->carry != NULL)
		id = json_text(call->carry, "order");
	return id;
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

/* A header of the account's options; checked, because a line break would begin another one. */
static void
add_header(const char *name, const JsonbValue *value, void *context)
{
	ProviderRequest *request = context;
	char *text = json_scalar_text(value);
	const char *const name_characters =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	bool safe = text != NULL && *name != '\0' && name[strspn(name, name_characters)] == '\0';

	for (char *p = text; safe && *p != '\0'; p++)
		safe = (unsigned char) *p >= ' ' && *p != 0x7f;
	if (!safe)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a header in the options of the account cannot be sent"),
						errdetail("Header: \"%s\".", name),
						errhint("Correct options.headers by billing.configure_provider().")));
	request->headers = lappend(request->headers, psprintf("%s: %s", name, text));
}

static void
start_request(const ProviderCall *call, ProviderRequest *request, const char *method,
			  const char *path)
{
	Jsonb *headers = json_part(call->account->options, "headers");

	memset(request, 0, sizeof(*request));
	request->method = method;
	request->path = path;
	request->headers = list_make1(pstrdup("Polar-Version: " POLAR_VERSION));
	request->timeout_ms = TIMEOUT_MS;
	if (headers != NULL)
		json_visit(headers, add_header, request);
}

static void
send_json(const ProviderCall *call, ProviderRequest *request, const char *method, const char *path,
		  JsonBuilder *body)
{
	start_request(call, request, method, path);
	request->headers = lappend(request->headers, pstrdup("Content-Type: application/json"));
	request->body = json_string(json_close(body));
	request->body_length = strlen(request->body);
}

/*
 * A part of a path.  The core never enqueues an operation without its ids; an
 * empty one would turn a request about one object into one about all of them.
 */
static char *
path_part(const char *id, const char *argument)
{
	StringInfoData out;

	if (id == NULL || *id == '\0')
		elog(ERROR, "argument \"%s\" is missing", argument);
	initStringInfo(&out);
	http_escape(&out, id, strlen(id));
	return out.data;
}

/* path_of(call, "customers", "customer") is "/v1/customers/<uuid>". */
static char *
path_of(const ProviderCall *call, const char *collection, const char *argument)
{
	return psprintf("/v1/%s/%s", collection,
					path_part(json_text(call->arguments, argument), argument));
}

static char *
order_path(const ProviderCall *call)
{
	return psprintf("/v1/orders/%s", path_part(polar_order_id(call), "payment_intent"));
}

/*
 * "organization_id" of what is made or listed; a token of an organisation
 * acts for that one and must not name it.
 */
static char *
organization_of(const ProviderCall *call)
{
	if (strncmp(call->account->secret_key, "polar_oat_", 10) == 0)
		return NULL;
	return json_text(call->account->options, "organization_id");
}

static void
query_add(StringInfo path, const char *name, const char *value)
{
	if (value == NULL)
		return;
	appendStringInfo(path, "%c%s=", strchr(path->data, '?') == NULL ? '?' : '&', name);
	http_escape(path, value, strlen(value));
}

static void
open_list(const ProviderCall *call, StringInfo path, const char *collection)
{
	initStringInfo(path);
	appendStringInfoString(path, collection);
	query_add(path, "organization_id", organization_of(call));
}

static void
send_list(const ProviderCall *call, ProviderRequest *request, StringInfo path, int page)
{
	query_add(path, "page", psprintf("%d", page));
	query_add(path, "limit", psprintf("%d", POLAR_PAGE_SIZE));
	start_request(call, request, "GET", path->data);
}

/* ------------------------------------------------------------------------
 * Parts of bodies
 * ------------------------------------------------------------------------
 */

/* The text argument: left out when absent, null when null. */
static void
add_argument(JsonBuilder *body, const char *member, const ProviderCall *call, const char *argument)
{
	char *text = json_text(call->arguments, argument);

	if (text != NULL)
		json_add_text(body, member, text);
	else if (is_given(call, argument))
		json_add_null(body, member);
}

static void
add_amount(JsonBuilder *body, const char *member, const Jsonb *arguments, const char *argument)
{
	int64 amount;

	if (json_int(arguments, argument, &amount))
		json_add_int(body, member, amount);
}

/* Unix seconds of the argument; what has passed is "now", a word that Polar has for trials. */
static void
add_time(JsonBuilder *body, const char *member, const ProviderCall *call, const char *argument)
{
	TimestampTz time = json_unix_time(call->arguments, argument);

	if (time != 0)
		json_add_text(body, member, rfc3339_text(time));
	else if (is_given(call, argument))
		json_add_null(body, member);
}

static void
add_currency(JsonBuilder *body, const char *member, const ProviderCall *call)
{
	char *currency = json_text(call->arguments, "currency");

	if (currency != NULL)
		json_add_text(body, member, asc_tolower(currency, strlen(currency)));
}

static char *
clipped(const char *text, int characters)
{
	int length = (int) strlen(text);

	return pnstrdup(text, pg_mbcharcliplen(text, length, characters));
}

static int
length_of(const char *text)
{
	return pg_mbstrlen_with_len(text, (int) strlen(text));
}

/* Polar wants 3 to 64 characters; the same name always becomes the same. */
static char *
product_name(const char *name)
{
	if (name == NULL || *name == '\0')
		return pstrdup("Plan");
	if (length_of(name) < PRODUCT_NAME_MIN)
		return psprintf("%s plan", name);
	if (length_of(name) > PRODUCT_NAME_MAX)
		return psprintf("%s...", clipped(name, PRODUCT_NAME_MAX - 3));
	return pstrdup(name);
}

static void
add_address(JsonBuilder *body, const ProviderCall *call)
{
	static const char *const lines[] = {"line1", "line2",       "city",
										"state", "postal_code", "country"};

	if (json_text(call->arguments, "address.country") == NULL)
	{
		if (is_given(call, "address") && json_part(call->arguments, "address") == NULL)
			json_add_null(body, "billing_address");
		return;
	}
	json_open_object(body, "billing_address");
	for (size_t i = 0; i < lengthof(lines); i++)
		json_add_text(body, lines[i], json_text(call->arguments, psprintf("address.%s", lines[i])));
	json_close_object(body);
}

/* Text of 1 to 500 characters, numbers and booleans are what Polar takes. */
void
polar_add_metadata(const char *key, const JsonbValue *value, void *context)
{
	char *text = json_scalar_text(value);

	if (text == NULL || *text == '\0' || strncmp(key, POLAR_OWN_PREFIX, 6) == 0 ||
		strcmp(key, POLAR_ORGANIZATION) == 0 || length_of(key) > METADATA_KEY_MAX)
		return;
	if (value->type == jbvString)
		json_add_text(context, key, clipped(text, METADATA_VALUE_MAX));
	else
		json_add_json(context, key, JsonbValueToJsonb(unconstify(JsonbValue *, value)));
}

/* Of what is made: by these an event or a look-up finds the way to our row. */
static void
open_metadata(JsonBuilder *body, const ProviderCall *call, const char *member)
{
	Jsonb *metadata = json_part(call->arguments, "metadata");

	json_open_object(body, "metadata");
	if (metadata != NULL)
		json_visit(metadata, polar_add_metadata, body);
	json_add_text(body, POLAR_ORGANIZATION, json_text(call->arguments, "organization_id"));
	if (member != NULL)
		json_add_text(body, member, call->reference);
}

static void
add_metadata(JsonBuilder *body, const ProviderCall *call, const char *member)
{
	open_metadata(body, call, member);
	json_close_object(body);
}

/* ------------------------------------------------------------------------
 * Customers
 *
 * Polar keeps no phone and no description of a customer; they stay with us.
 * ------------------------------------------------------------------------
 */
static void
build_customer_create(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "external_id", call->reference);
	json_add_text(&body, "email", json_text(call->arguments, "email"));
	json_add_text(&body, "name", json_text(call->arguments, "name"));
	add_address(&body, call);
	json_add_text(&body, "tax_id", json_text(call->arguments, "tax_ids.0.value"));
	json_add_text(&body, "locale", json_text(call->arguments, "locale"));
	json_add_text(&body, "organization_id", organization_of(call));
	add_metadata(&body, call, NULL);
	send_json(call, request, "POST", "/v1/customers/", &body);
}

/* Metadata is replaced as a whole there, so the step before has merged it. */
static void
build_customer_update(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	add_argument(&body, "email", call, "email");
	add_argument(&body, "name", call, "name");
	add_address(&body, call);
	add_argument(&body, "locale", call, "locale");
	if (call->carry != NULL)
		json_add_json(&body, "metadata", json_part(call->carry, "metadata"));
	send_json(call, request, "PATCH", path_of(call, "customers", "customer"), &body);
}

static void
build_set_tax_ids(const ProviderCall *call, ProviderRequest *request)
{
	char *value = json_text(call->arguments, "tax_ids.0.value");
	JsonBuilder body;

	json_open(&body);
	if (value != NULL)
		json_add_text(&body, "tax_id", value);
	else
		json_add_null(&body, "tax_id");
	send_json(call, request, "PATCH", path_of(call, "customers", "customer"), &body);
}

/* ------------------------------------------------------------------------
 * Catalogue: a price version is a product with one price
 * ------------------------------------------------------------------------
 */
static void
add_fixed_price(JsonBuilder *body, const ProviderCall *call)
{
	JsonBuilder price;

	json_open(&price);
	json_add_text(&price, "amount_type", "fixed");
	add_amount(&price, "price_amount", call->arguments, "amount");
	add_currency(&price, "price_currency", call);
	json_append_json(body, json_close(&price));
}

static void
build_price_create(const ProviderCall *call, ProviderRequest *request)
{
	char *interval = json_text(call->arguments, "interval");
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "name", product_name(json_text(call->arguments, "name")));
	json_add_text(&body, "description", json_text(call->arguments, "description"));
	json_open_array(&body, "prices");
	add_fixed_price(&body, call);
	json_close_array(&body);
	if (interval != NULL && strcmp(interval, "one_time") != 0)
	{
		json_add_text(&body, "recurring_interval", interval);
		add_amount(&body, "recurring_interval_count", call->arguments, "interval_count");
	}
	else
		json_add_null(&body, "recurring_interval");
	json_add_text(&body, "organization_id", organization_of(call));
	add_metadata(&body, call, POLAR_REFERENCE);
	send_json(call, request, "POST", "/v1/products/", &body);
}

/* Our nickname of a price is nothing that Polar keeps. */
static void
build_price_update(const ProviderCall *call, ProviderRequest *request)
{
	char *name = json_text(call->arguments, "name");
	JsonBuilder body;

	json_open(&body);
	if (name != NULL)
		json_add_text(&body, "name", product_name(name));
	if (is_given(call, "active"))
		json_add_bool(&body, "is_archived", !json_bool(call->arguments, "active", true));
	send_json(call, request, "PATCH", path_of(call, "products", "price"), &body);
}

/* ------------------------------------------------------------------------
 * Subscriptions
 * ------------------------------------------------------------------------
 */

/* Free ones only; the others begin in a checkout. */
static void
build_subscription_create(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "product_id", json_text(call->arguments, "price"));
	json_add_text(&body, "customer_id", json_text(call->arguments, "customer"));
	add_metadata(&body, call, POLAR_SUBSCRIPTION);
	send_json(call, request, "POST", "/v1/subscriptions/", &body);
}

/* A trial whose end has passed by now ends at once, for which Polar has a word. */
static void
add_trial_end(JsonBuilder *body, const ProviderCall *call)
{
	TimestampTz end = json_unix_time(call->arguments, "trial_end");

	if (end != 0 && end <= GetCurrentTimestamp())
		json_add_text(body, "trial_end", "now");
	else
		add_time(body, "trial_end", call, "trial_end");
}

static void
build_subscription_update(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	if (polar_step_changes_seats(call))
	{
		add_amount(&body, "seats", call->arguments, "quantity");
		json_add_text(&body, "proration_behavior", polar_proration(call->arguments));
	}
	else
	{
		json_add_text(&body, "product_id", json_text(call->arguments, "price"));
		if (is_given(call, "price"))
			json_add_text(&body, "proration_behavior", polar_proration(call->arguments));
		add_argument(&body, "discount_id", call, "coupon");
		add_trial_end(&body, call);
	}
	send_json(call, request, "PATCH", path_of(call, "subscriptions", "subscription"), &body);
}

/* Polar takes its own words as a reason; any other is said in the comment. */
static void
add_cancellation(JsonBuilder *body, const ProviderCall *call)
{
	static const char *const reasons[] = {
		"customer_service", "low_quality", "missing_features", "other",
		"switched_service", "too_complex", "too_expensive",    "unused"};
	char *reason = json_text(call->arguments, "reason");
	char *comment = json_text(call->arguments, "comment");
	const char *word = NULL;

	for (size_t i = 0; reason != NULL && i < lengthof(reasons); i++)
	{
		if (strcmp(reason, reasons[i]) == 0)
			word = reasons[i];
	}
	if (reason != NULL && word == NULL)
	{
		word = "other";
		comment = comment == NULL ? reason : psprintf("%s: %s", reason, comment);
	}
	json_add_text(body, "customer_cancellation_reason", word);
	json_add_text(body, "customer_cancellation_comment", comment);
}

/* With a reason it is a change like the others, without one a removal. */
static void
build_subscription_cancel(const ProviderCall *call, ProviderRequest *request)
{
	char *path = path_of(call, "subscriptions", "subscription");
	JsonBuilder body;

	if (!is_given(call, "reason") && !is_given(call, "comment"))
	{
		start_request(call, request, "DELETE", path);
		return;
	}
	json_open(&body);
	json_add_bool(&body, "revoke", true);
	add_cancellation(&body, call);
	send_json(call, request, "PATCH", path, &body);
}

static void
build_cancel_at_period_end(const ProviderCall *call, bool wanted, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_bool(&body, "cancel_at_period_end", wanted);
	if (wanted)
		add_cancellation(&body, call);
	send_json(call, request, "PATCH", path_of(call, "subscriptions", "subscription"), &body);
}

static void
build_subscription_pause(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_bool(&body, "pause_at_period_end", true);
	add_time(&body, "resumes_at", call, "resumes_at");
	send_json(call, request, "PATCH", path_of(call, "subscriptions", "subscription"), &body);
}

/* One that is paused begins a new period; one that only is to be goes on as it was. */
static void
build_subscription_resume(const ProviderCall *call, ProviderRequest *request)
{
	char *status = json_text(call->arguments, "provider_status");
	JsonBuilder body;

	json_open(&body);
	if (status == NULL || strcmp(status, "paused") == 0)
		json_add_bool(&body, "resume", true);
	else
		json_add_bool(&body, "pause_at_period_end", false);
	send_json(call, request, "PATCH", path_of(call, "subscriptions", "subscription"), &body);
}

/* ------------------------------------------------------------------------
 * Payments and refunds
 * ------------------------------------------------------------------------
 */

/* What a line sells: Polar's id of its product, which is that of our price. */
static char *
line_product(const ProviderCall *call)
{
	char *product = json_text(call->arguments, "line_items.0.price");

	return product != NULL ? product : json_text(call->arguments, "line_items.0.product");
}

static char *
product_to_charge(const ProviderCall *call)
{
	char *product = json_length(call->arguments, "line_items") == 1 ? line_product(call) : NULL;

	return product != NULL ? product : polar_charge_product(call->account);
}

static void
build_order(const ProviderCall *call, ProviderRequest *request)
{
	char *description = json_text(call->arguments, "description");
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "customer_id", json_text(call->arguments, "customer"));
	json_add_text(&body, "product_id", product_to_charge(call));
	add_amount(&body, "amount", call->arguments, "amount");
	add_currency(&body, "currency", call);
	if (description != NULL)
		json_add_text(&body, "description", clipped(description, DESCRIPTION_MAX));
	json_add_text(&body, "organization_id", organization_of(call));
	add_metadata(&body, call, POLAR_PAYMENT);
	send_json(call, request, "POST", "/v1/orders/", &body);
}

/* Without a method Polar charges the customer's default one. */
static void
build_finalize(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "payment_method_id", json_text(call->arguments, "payment_method"));
	send_json(call, request, "POST", psprintf("%s/finalize", order_path(call)), &body);
}

/* The newest failed payment of the order tells why. */
static void
build_decline(const ProviderCall *call, ProviderRequest *request)
{
	StringInfoData path;

	open_list(call, &path, "/v1/payments/");
	query_add(&path, "order_id", polar_order_id(call));
	query_add(&path, "status", "failed");
	query_add(&path, "sorting", "-created_at");
	query_add(&path, "page", "1");
	query_add(&path, "limit", "1");
	start_request(call, request, "GET", path.data);
}

static const char *
refund_reason(const ProviderCall *call)
{
	static const char *const same[] = {"duplicate", "fraudulent", "service_disruption",
									   "satisfaction_guarantee"};
	char *reason = json_text(call->arguments, "reason");

	if (reason != NULL && strcmp(reason, "requested_by_customer") == 0)
		return "customer_request";
	for (size_t i = 0; reason != NULL && i < lengthof(same); i++)
	{
		if (strcmp(reason, same[i]) == 0)
			return same[i];
	}
	return "other";
}

/* The amount is without tax, as the step before has computed it from the order. */
static void
build_refund(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "order_id", polar_order_id(call));
	json_add_text(&body, "reason", refund_reason(call));
	add_amount(&body, "amount", call->carry, "amount");
	json_add_text(&body, "comment", json_text(call->arguments, "description"));
	add_metadata(&body, call, POLAR_REFERENCE);
	send_json(call, request, "POST", "/v1/refunds/", &body);
}

/* ------------------------------------------------------------------------
 * Checkout
 * ------------------------------------------------------------------------
 */
static int64
line_quantity(const ProviderCall *call)
{
	int64 quantity;

	return json_int(call->arguments, "line_items.0.quantity", &quantity) ? quantity : 1;
}

/*
 * What is sold.  A product with its own price, or one with a price made for
 * this checkout, where the sum is not that price: an amount without a product,
 * or several of one.  Several of a subscription are seats.
 */
static void
add_goods(JsonBuilder *body, const ProviderCall *call)
{
	char *mode = json_text(call->arguments, "mode");
	bool recurring = mode != NULL && strcmp(mode, "subscription") == 0;
	char *product = line_product(call);
	bool own_price = product == NULL || (line_quantity(call) > 1 && !recurring);

	if (product == NULL)
		product = polar_charge_product(call->account);
	json_open_array(body, "products");
	json_append_text(body, product);
	json_close_array(body);
	if (own_price && product != NULL)
	{
		json_open_object(body, "prices");
		json_open_array(body, product);
		add_fixed_price(body, call);
		json_close_array(body);
		json_close_object(body);
	}
	else if (line_quantity(call) > 1)
		json_add_int(body, "seats", line_quantity(call));
}

/* The product may have a trial of its own, which 0 days switch off. */
static void
add_trial(JsonBuilder *body, const ProviderCall *call)
{
	int64 days;

	if (!json_int(call->arguments, "trial_days", &days))
		return;
	json_add_bool(body, "allow_trial", days > 0);
	if (days <= 0)
		return;
	json_add_text(body, "trial_interval", "day");
	json_add_int(body, "trial_interval_count", days);
}

static void
build_checkout(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	add_goods(&body, call);
	json_add_text(&body, "customer_id", json_text(call->arguments, "customer"));
	add_currency(&body, "currency", call);
	json_add_text(&body, "success_url", json_text(call->arguments, "success_url"));
	json_add_text(&body, "return_url", json_text(call->arguments, "cancel_url"));
	json_add_text(&body, "discount_id", json_text(call->arguments, "coupon"));
	json_add_bool(&body, "allow_discount_codes",
				  json_bool(call->arguments, "allow_promotion_codes", false));
	add_trial(&body, call);
	json_add_text(&body, "locale", json_text(call->arguments, "locale"));
	json_add_text(&body, "subscription_id", json_text(call->arguments, "subscription"));
	open_metadata(&body, call, POLAR_SESSION);
	json_add_text(&body, POLAR_SUBSCRIPTION, json_text(call->arguments, "subscription_reference"));
	json_add_text(&body, POLAR_PAYMENT, json_text(call->arguments, "payment_reference"));
	json_close_object(&body);
	send_json(call, request, "POST", "/v1/checkouts/", &body);
}

static void
build_link(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	/* the name of the only one that there is, and required */
	json_add_text(&body, "payment_processor", "stripe");
	json_open_array(&body, "products");
	json_append_text(&body, line_product(call));
	json_close_array(&body);
	if (line_quantity(call) > 1)
		json_add_int(&body, "seats", line_quantity(call));
	json_add_text(&body, "label", json_text(call->arguments, "name"));
	json_add_text(&body, "success_url", json_text(call->arguments, "success_url"));
	json_add_bool(&body, "allow_discount_codes", false);
	add_metadata(&body, call, POLAR_LINK);
	send_json(call, request, "POST", "/v1/checkout-links/", &body);
}

static void
build_portal(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "customer_id", json_text(call->arguments, "customer"));
	json_add_text(&body, "return_url", json_text(call->arguments, "return_url"));
	send_json(call, request, "POST", "/v1/customer-sessions/", &body);
}

/* ------------------------------------------------------------------------
 * Webhook endpoints
 * ------------------------------------------------------------------------
 */
static void
add_events(JsonBuilder *body, const ProviderCall *call)
{
	int given = json_length(call->arguments, "events");
	int count;
	const char *const *types = polar_event_types(&count);

	json_open_array(body, "events");
	for (int i = 0; i < given; i++)
		json_append_text(body, json_text(call->arguments, psprintf("events.%d", i)));
	for (int i = 0; given == 0 && i < count; i++)
		json_append_text(body, types[i]);
	json_close_array(body);
}

static void
build_endpoint_create(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "url", json_text(call->arguments, "url"));
	json_add_text(&body, "name", json_text(call->arguments, "description"));
	json_add_text(&body, "format", "raw");
	add_events(&body, call);
	json_add_text(&body, "organization_id", organization_of(call));
	send_json(call, request, "POST", "/v1/webhooks/endpoints", &body);
}

static void
build_endpoint_update(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "url", json_text(call->arguments, "url"));
	if (is_given(call, "enabled"))
		json_add_bool(&body, "enabled", json_bool(call->arguments, "enabled", true));
	if (is_given(call, "events"))
		add_events(&body, call);
	send_json(call, request, "PATCH", path_of(call, "webhooks/endpoints", "webhook_endpoint"),
			  &body);
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */
static void
build_list(const ProviderCall *call, int page, ProviderRequest *request)
{
	StringInfoData path;

	switch (call->operation)
	{
		case OPERATION_PAYMENT_METHOD_LIST:
			initStringInfo(&path);
			appendStringInfo(&path, "%s/payment-methods", path_of(call, "customers", "customer"));
			break;
		case OPERATION_DISPUTE_LIST:
			open_list(call, &path, "/v1/disputes/");
			break;
		case OPERATION_INVOICE_LIST:
			open_list(call, &path, "/v1/orders/");
			query_add(&path, "customer_id", json_text(call->arguments, "customer"));
			query_add(&path, "subscription_id", json_text(call->arguments, "subscription"));
			break;
		default:
			open_list(call, &path, "/v1/webhooks/endpoints");
			break;
	}
	send_list(call, request, &path, page);
}

/* GET of the object that the operation is about. */
static char *
object_path(const ProviderCall *call)
{
	switch (call->operation)
	{
		case OPERATION_CUSTOMER_CREATE:
			return psprintf("/v1/customers/external/%s", path_part(call->reference, "reference"));
		case OPERATION_CUSTOMER_UPDATE:
		case OPERATION_CUSTOMER_SET_TAX_IDS:
		case OPERATION_CUSTOMER_DELETE:
		case OPERATION_CUSTOMER_FETCH:
		case OPERATION_PORTAL_SESSION_CREATE:
			return path_of(call, "customers", "customer");
		case OPERATION_PRICE_UPDATE:
			return path_of(call, "products", "price");
		case OPERATION_SUBSCRIPTION_UPDATE:
		case OPERATION_SUBSCRIPTION_CANCEL:
		case OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END:
		case OPERATION_SUBSCRIPTION_UNCANCEL:
		case OPERATION_SUBSCRIPTION_PAUSE:
		case OPERATION_SUBSCRIPTION_RESUME:
		case OPERATION_SUBSCRIPTION_FETCH:
			return path_of(call, "subscriptions", "subscription");
		case OPERATION_PAYMENT_INTENT_CREATE:
		case OPERATION_PAYMENT_INTENT_CONFIRM:
		case OPERATION_PAYMENT_INTENT_FETCH:
		case OPERATION_REFUND_CREATE:
			return order_path(call);
		case OPERATION_DISPUTE_ACCEPT:
		case OPERATION_DISPUTE_FETCH:
			return path_of(call, "disputes", "dispute");
		case OPERATION_CHECKOUT_SESSION_FETCH:
			return path_of(call, "checkouts", "checkout_session");
		case OPERATION_PAYMENT_LINK_CANCEL:
			return path_of(call, "checkout-links", "checkout_session");
		case OPERATION_INVOICE_FETCH:
		case OPERATION_INVOICE_DOCUMENT:
			return path_of(call, "orders", "invoice");
		case OPERATION_WEBHOOK_ENDPOINT_UPDATE:
		case OPERATION_WEBHOOK_ENDPOINT_ROTATE:
		case OPERATION_WEBHOOK_ENDPOINT_DELETE:
			return path_of(call, "webhooks/endpoints", "webhook_endpoint");
		default:
			elog(ERROR, "operation %s reads no object", operation_name(call->operation));
	}
}

/* A refund has no URL of its own; the list finds it by its id. */
static void
build_read(const ProviderCall *call, ProviderRequest *request)
{
	StringInfoData path;

	if (call->operation == OPERATION_REFUND_FETCH)
	{
		open_list(call, &path, "/v1/refunds/");
		query_add(&path, "id", json_text(call->arguments, "refund"));
		send_list(call, request, &path, 1);
		return;
	}
	start_request(call, request, "GET",
				  call->operation == OPERATION_INVOICE_DOCUMENT
					  ? psprintf("%s/invoice", object_path(call))
					  : object_path(call));
}

/* ------------------------------------------------------------------------
 * All operations
 * ------------------------------------------------------------------------
 */
static void
build_create(const ProviderCall *call, ProviderRequest *request)
{
	switch (call->operation)
	{
		case OPERATION_CUSTOMER_CREATE:
			build_customer_create(call, request);
			break;
		case OPERATION_PRICE_CREATE:
			build_price_create(call, request);
			break;
		case OPERATION_SUBSCRIPTION_CREATE:
			build_subscription_create(call, request);
			break;
		case OPERATION_PAYMENT_INTENT_CREATE:
			build_order(call, request);
			break;
		case OPERATION_REFUND_CREATE:
			build_refund(call, request);
			break;
		case OPERATION_CHECKOUT_SESSION_CREATE:
			build_checkout(call, request);
			break;
		case OPERATION_PAYMENT_LINK_CREATE:
			build_link(call, request);
			break;
		case OPERATION_PORTAL_SESSION_CREATE:
			build_portal(call, request);
			break;
		default:
			build_endpoint_create(call, request);
			break;
	}
}

static void
build_change(const ProviderCall *call, ProviderRequest *request)
{
	switch (call->operation)
	{
		case OPERATION_CUSTOMER_UPDATE:
			build_customer_update(call, request);
			break;
		case OPERATION_CUSTOMER_SET_TAX_IDS:
			build_set_tax_ids(call, request);
			break;
		case OPERATION_PRICE_UPDATE:
			build_price_update(call, request);
			break;
		case OPERATION_SUBSCRIPTION_UPDATE:
			build_subscription_update(call, request);
			break;
		case OPERATION_SUBSCRIPTION_CANCEL:
			build_subscription_cancel(call, request);
			break;
		case OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END:
			build_cancel_at_period_end(call, true, request);
			break;
		case OPERATION_SUBSCRIPTION_UNCANCEL:
			build_cancel_at_period_end(call, false, request);
			break;
		case OPERATION_SUBSCRIPTION_PAUSE:
			build_subscription_pause(call, request);
			break;
		case OPERATION_SUBSCRIPTION_RESUME:
			build_subscription_resume(call, request);
			break;
		case OPERATION_DISPUTE_ACCEPT:
			start_request(call, request, "POST", psprintf("%s/accept", object_path(call)));
			break;
		case OPERATION_WEBHOOK_ENDPOINT_UPDATE:
			build_endpoint_update(call, request);
			break;
		case OPERATION_WEBHOOK_ENDPOINT_ROTATE:
			start_request(call, request, "PATCH", psprintf("%s/secret", object_path(call)));
			break;
		default:
			elog(ERROR, "operation %s is not offered by Polar", operation_name(call->operation));
	}
}

void
polar_build_request(const ProviderCall *call, ProviderRequest *request)
{
	switch (polar_step(call))
	{
		case POLAR_CREATE:
			build_create(call, request);
			break;
		case POLAR_CHANGE:
			build_change(call, request);
			break;
		case POLAR_REMOVE:
			start_request(call, request, "DELETE", object_path(call));
			break;
		case POLAR_FINALIZE:
			build_finalize(call, request);
			break;
		case POLAR_TRIGGER:
			start_request(call, request, "POST", psprintf("%s/invoice", object_path(call)));
			break;
		case POLAR_READ:
			build_read(call, request);
			break;
		case POLAR_LIST:
			build_list(call, call->step + 1, request);
			break;
		case POLAR_PREPARE:
			start_request(call, request, "GET", object_path(call));
			break;
		case POLAR_CONFIRM:
			polar_build_lookup(call, request);
			break;
		case POLAR_DECLINE:
			build_decline(call, request);
			break;
	}
}

/* ------------------------------------------------------------------------
 * Look-ups
 *
 * What was made is found by our reference: a customer by its external_id,
 * everything else in the newest page of a list, where a lost one is, by the
 * reference in its metadata; a webhook endpoint has none and is found by its
 * URL.  Of anything else the object itself tells.
 * ------------------------------------------------------------------------
 */
static void
build_search(const ProviderCall *call, ProviderRequest *request)
{
	StringInfoData path;

	switch (call->operation)
	{
		case OPERATION_PRICE_CREATE:
			open_list(call, &path, "/v1/products/");
			query_add(&path, "metadata[" POLAR_REFERENCE "]", call->reference);
			break;
		case OPERATION_SUBSCRIPTION_CREATE:
			open_list(call, &path, "/v1/subscriptions/");
			query_add(&path, "customer_id", json_text(call->arguments, "customer"));
			query_add(&path, "metadata[" POLAR_SUBSCRIPTION "]", call->reference);
			break;
		case OPERATION_PAYMENT_INTENT_CREATE:
			open_list(call, &path, "/v1/orders/");
			query_add(&path, "customer_id", json_text(call->arguments, "customer"));
			query_add(&path, "metadata[" POLAR_PAYMENT "]", call->reference);
			break;
		case OPERATION_REFUND_CREATE:
			open_list(call, &path, "/v1/refunds/");
			query_add(&path, "order_id", polar_order_id(call));
			break;
		case OPERATION_CHECKOUT_SESSION_CREATE:
			open_list(call, &path, "/v1/checkouts/");
			query_add(&path, "customer_id", json_text(call->arguments, "customer"));
			break;
		case OPERATION_PAYMENT_LINK_CREATE:
			open_list(call, &path, "/v1/checkout-links/");
			query_add(&path, "product_id", line_product(call));
			break;
		default:
			open_list(call, &path, "/v1/webhooks/endpoints");
			break;
	}
	send_list(call, request, &path, 1);
}

/*
 * A portal session leaves nothing that could be looked up: whether the
 * customer is there is all that is asked before another one is made, which
 * harms nothing because both expire.
 */
static void
build_created(const ProviderCall *call, ProviderRequest *request)
{
	if (call->operation == OPERATION_CUSTOMER_CREATE ||
		call->operation == OPERATION_PORTAL_SESSION_CREATE)
		start_request(call, request, "GET", object_path(call));
	else
		build_search(call, request);
}

void
polar_build_lookup(const ProviderCall *call, ProviderRequest *request)
{
	ProviderCall asked = *call;

	switch (polar_step(call))
	{
		case POLAR_CREATE:
			build_created(call, request);
			break;
		case POLAR_CHANGE:
		case POLAR_REMOVE:
		case POLAR_FINALIZE:
		case POLAR_TRIGGER:
			start_request(call, request, "GET", object_path(call));
			break;
		case POLAR_CONFIRM:
			asked.step = polar_refused_step(call);
			polar_build_lookup(&asked, request);
			break;
		case POLAR_READ:
		case POLAR_LIST:
		case POLAR_PREPARE:
		case POLAR_DECLINE:
			polar_build_request(call, request);
			break;
	}
}

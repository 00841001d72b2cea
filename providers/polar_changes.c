/*-------------------------------------------------------------------------
 *
 * polar_changes.c
 *	  The requests that make or change something at Polar.
 *
 * Called by polar_build_request().  Times are RFC 3339, currencies lower case.
 * A member that is absent is left out, an argument that is JSON null is sent
 * as null, which clears the field.
 *
 *-------------------------------------------------------------------------
 */
#include "polar.h"

#include "mb/pg_wchar.h"
#include "utils/formatting.h"
#include "utils/timestamp.h"

#include "json.h"

/* Of a product; counted in characters. */
#define PRODUCT_NAME_MIN 3
#define PRODUCT_NAME_MAX 64

#define DESCRIPTION_MAX    500 /* of an order */
#define METADATA_VALUE_MAX 500
#define METADATA_KEY_MAX   40

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
	else if (polar_given(call, argument))
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
	else if (polar_given(call, argument))
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
		if (polar_given(call, "address") && json_part(call->arguments, "address") == NULL)
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
	json_add_text(&body, "organization_id", polar_organization(call));
	add_metadata(&body, call, NULL);
	polar_send_json(request, "POST", "/v1/customers/", &body);
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
	polar_send_json(request, "PATCH", polar_path(call, "customers", "customer"), &body);
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
	polar_send_json(request, "PATCH", polar_path(call, "customers", "customer"), &body);
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
	if (json_bool(call->arguments, "tax_added", false))
		json_add_text(&price, "tax_behavior", "exclusive");
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
	json_add_text(&body, "organization_id", polar_organization(call));
	add_metadata(&body, call, POLAR_REFERENCE);
	polar_send_json(request, "POST", "/v1/products/", &body);
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
	if (polar_given(call, "active"))
		json_add_bool(&body, "is_archived", !json_bool(call->arguments, "active", true));
	polar_send_json(request, "PATCH", polar_path(call, "products", "price"), &body);
}

/* ------------------------------------------------------------------------
 * Subscriptions
 * ------------------------------------------------------------------------
 */

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
		if (polar_given(call, "price"))
			json_add_text(&body, "proration_behavior", polar_proration(call->arguments));
		add_argument(&body, "discount_id", call, "coupon");
		add_trial_end(&body, call);
	}
	polar_send_json(request, "PATCH", polar_path(call, "subscriptions", "subscription"), &body);
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
	char *path = polar_path(call, "subscriptions", "subscription");
	JsonBuilder body;

	if (!polar_given(call, "reason") && !polar_given(call, "comment"))
	{
		polar_start(request, "DELETE", path);
		return;
	}
	json_open(&body);
	json_add_bool(&body, "revoke", true);
	add_cancellation(&body, call);
	polar_send_json(request, "PATCH", path, &body);
}

static void
build_cancel_at_period_end(const ProviderCall *call, bool wanted, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_bool(&body, "cancel_at_period_end", wanted);
	if (wanted)
		add_cancellation(&body, call);
	polar_send_json(request, "PATCH", polar_path(call, "subscriptions", "subscription"), &body);
}

static void
build_subscription_pause(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_bool(&body, "pause_at_period_end", true);
	add_time(&body, "resumes_at", call, "resumes_at");
	polar_send_json(request, "PATCH", polar_path(call, "subscriptions", "subscription"), &body);
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
	polar_send_json(request, "PATCH", polar_path(call, "subscriptions", "subscription"), &body);
}

/* ------------------------------------------------------------------------
 * Payments and refunds
 * ------------------------------------------------------------------------
 */

/* What a line sells: Polar's id of its product, which is that of our price. */
char *
polar_line_product(const ProviderCall *call)
{
	char *product = json_text(call->arguments, "line_items.0.price");

	return product != NULL ? product : json_text(call->arguments, "line_items.0.product");
}

static char *
product_to_charge(const ProviderCall *call)
{
	char *product = json_length(call->arguments, "line_items") == 1 ? polar_line_product(call)
																	: NULL;

	return product != NULL ? product : polar_charge_product(call->account);
}

static void
build_order(const ProviderCall *call, ProviderRequest *request)
{
	char *description = json_text(call->arguments, "description");
	JsonBuilder body;

	/* the account's product says nothing about what is sold */
	if (description == NULL)
		description = json_text(call->arguments, "line_items.0.name");
	json_open(&body);
	json_add_text(&body, "customer_id", json_text(call->arguments, "customer"));
	json_add_text(&body, "product_id", product_to_charge(call));
	add_amount(&body, "amount", call->arguments, "amount");
	add_currency(&body, "currency", call);
	if (description != NULL)
		json_add_text(&body, "description", clipped(description, DESCRIPTION_MAX));
	json_add_text(&body, "organization_id", polar_organization(call));
	add_metadata(&body, call, POLAR_PAYMENT);
	polar_send_json(request, "POST", "/v1/orders/", &body);
}

/* Without a method Polar charges the customer's default one. */
void
polar_build_finalize(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "payment_method_id", json_text(call->arguments, "payment_method"));
	polar_send_json(request, "POST", psprintf("%s/finalize", polar_order_path(call)), &body);
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
	polar_send_json(request, "POST", "/v1/refunds/", &body);
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
	char *product = polar_line_product(call);
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
	polar_send_json(request, "POST", "/v1/checkouts/", &body);
}

static void
build_link(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	/* the name of the only one that there is, and required */
	json_add_text(&body, "payment_processor", "stripe");
	json_open_array(&body, "products");
	json_append_text(&body, polar_line_product(call));
	json_close_array(&body);
	if (line_quantity(call) > 1)
		json_add_int(&body, "seats", line_quantity(call));
	json_add_text(&body, "label", json_text(call->arguments, "name"));
	json_add_text(&body, "success_url", json_text(call->arguments, "success_url"));
	json_add_bool(&body, "allow_discount_codes", false);
	add_metadata(&body, call, POLAR_LINK);
	polar_send_json(request, "POST", "/v1/checkout-links/", &body);
}

static void
build_portal(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "customer_id", json_text(call->arguments, "customer"));
	json_add_text(&body, "return_url", json_text(call->arguments, "return_url"));
	polar_send_json(request, "POST", "/v1/customer-sessions/", &body);
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
	json_add_text(&body, "organization_id", polar_organization(call));
	polar_send_json(request, "POST", "/v1/webhooks/endpoints", &body);
}

static void
build_endpoint_update(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "url", json_text(call->arguments, "url"));
	if (polar_given(call, "enabled"))
		json_add_bool(&body, "enabled", json_bool(call->arguments, "enabled", true));
	if (polar_given(call, "events"))
		add_events(&body, call);
	polar_send_json(request, "PATCH", polar_path(call, "webhooks/endpoints", "webhook_endpoint"),
					&body);
}

/* ------------------------------------------------------------------------
 * All operations
 * ------------------------------------------------------------------------
 */
void
polar_build_create(const ProviderCall *call, ProviderRequest *request)
{
	switch (call->operation)
	{
		case OPERATION_CUSTOMER_CREATE:
			build_customer_create(call, request);
			break;
		case OPERATION_PRICE_CREATE:
			build_price_create(call, request);
			break;
		case OPERATION_METER_CREATE:
			polar_build_meter(call, request);
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

void
polar_build_change(const ProviderCall *call, ProviderRequest *request)
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
			polar_start(request, "POST", psprintf("%s/accept", polar_object_path(call)));
			break;
		case OPERATION_WEBHOOK_ENDPOINT_UPDATE:
			build_endpoint_update(call, request);
			break;
		case OPERATION_WEBHOOK_ENDPOINT_ROTATE:
			polar_start(request, "PATCH", psprintf("%s/secret", polar_object_path(call)));
			break;
		default:
			elog(ERROR, "operation %s is not offered by Polar", operation_name(call->operation));
	}
}

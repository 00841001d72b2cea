/*-------------------------------------------------------------------------
 *
 * conekta_requests.c
 *	  Operations become requests to Conekta's API 2.3.
 *
 * Bodies are JSON.  Which step of an operation is which request stands in
 * conekta.h; the look-ups are at the end.
 *
 *-------------------------------------------------------------------------
 */
#include "conekta.h"

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#define ACCEPT "application/vnd.conekta-v2.3.0+json"

/* What Conekta's own client waits. */
#define TIMEOUT_MS 30000

/* The most that a list gives at once. */
#define LIST "limit=250"

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

static void
add_own_header(const char *name, const JsonbValue *value, void *context)
{
	List **headers = context;
	char *text = json_scalar_text(value);

	if (text != NULL)
		*headers = lappend(*headers, psprintf("%s: %s", name, text));
}

/* A line break would begin another header; options may have changed since the key was checked. */
static void
check_headers(const List *headers)
{
	ListCell *cell;

	foreach (cell, headers)
	{
		for (const char *at = lfirst(cell); *at != '\0'; at++)
		{
			if ((unsigned char) *at < ' ' || *at == 127)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("an option of the account does not fit into a header"),
						 errhint("Look at accept, child_company and headers in its options.")));
		}
	}
}

const char *
conekta_language(const ProviderCall *call)
{
	char *locale = json_text(call->arguments, "locale");
	char *language = json_text(call->account->options, "language");

	if (locale != NULL && pg_strncasecmp(locale, "en", 2) == 0)
		return "en";
	if (locale != NULL && pg_strncasecmp(locale, "es", 2) == 0)
		return "es";
	return language != NULL ? language : "es";
}

void
conekta_start(const ProviderCall *call, const char *method, const char *path,
			  ProviderRequest *request)
{
	const Jsonb *options = call->account->options;
	char *accept = json_text(options, "accept");
	char *child = json_text(options, "child_company");
	Jsonb *own = json_part(options, "headers");

	memset(request, 0, sizeof(*request));
	request->method = method;
	request->path = path;
	request->timeout_ms = TIMEOUT_MS;
	request->headers = list_make2(psprintf("Accept: %s", accept != NULL ? accept : ACCEPT),
								  psprintf("Accept-Language: %s", conekta_language(call)));
	if (child != NULL)
		request->headers = lappend(request->headers, psprintf("X-Child-Company-Id: %s", child));
	if (own != NULL)
		json_visit(own, add_own_header, &request->headers);
	check_headers(request->headers);
}

void
conekta_get(const ProviderCall *call, const char *path, ProviderRequest *request)
{
	conekta_start(call, "GET", path, request);
}

void
conekta_send_json(const ProviderCall *call, const char *method, const char *path, const Jsonb *body,
				  ProviderRequest *request)
{
	conekta_start(call, method, path, request);
	request->headers = lappend(request->headers, pstrdup("Content-Type: application/json"));
	request->body = json_string(body);
	request->body_length = strlen(request->body);
}

/* path_of(call, "customers", "customer") is "/customers/cus_1". */
static char *
path_of(const ProviderCall *call, const char *collection, const char *argument)
{
	return psprintf("/%s/%s", collection,
					path_part(json_text(call->arguments, argument), argument));
}

static char *
customer_path(const ProviderCall *call)
{
	return path_of(call, "customers", "customer");
}

static char *
order_path(const ProviderCall *call)
{
	return path_of(call, "orders", "payment_intent");
}

static char *
checkout_path(const ProviderCall *call)
{
	return path_of(call, "checkouts", "checkout_session");
}

static char *
sources_path(const ProviderCall *call)
{
	return psprintf("%s/payment_sources", customer_path(call));
}

static char *
subscriptions_path(const ProviderCall *call)
{
	return psprintf("%s/subscriptions", customer_path(call));
}

static char *
subscription_path(const ProviderCall *call)
{
	char *id = json_text(call->arguments, "subscription");

	/* of one that this operation has made */
	if (id == NULL && call->carry != NULL)
		id = json_text(call->carry, "subscription");
	return psprintf("%s/%s", subscriptions_path(call), path_part(id, "subscription"));
}

/* Our own plans have an id that follows from the reference. */
static char *
plan_path(const ProviderCall *call)
{
	if (call->operation == OPERATION_PRICE_CREATE)
		return psprintf("/plans/" CONEKTA_PLAN_PREFIX "%s", call->reference);
	return path_of(call, "plans", "price");
}

/* A list from the cursor on that the step before left. */
void
conekta_get_page(const ProviderCall *call, const char *path, ProviderRequest *request)
{
	char *next = call->carry == NULL ? NULL : json_text(call->carry, "next");

	path = psprintf("%s?" LIST, path);
	if (next != NULL)
		path = psprintf("%s&next=%s", path, path_part(next, "next"));
	conekta_get(call, path, request);
}

static void
search(const ProviderCall *call, const char *collection, const char *wanted,
	   ProviderRequest *request)
{
	conekta_get(call,
				psprintf("/%s?" LIST "&search=%s", collection, path_part(wanted, "reference")),
				request);
}

/* The argument as text or number, where it has a value. */
static void
copy_text(JsonBuilder *body, const ProviderCall *call, const char *name, const char *argument)
{
	json_add_text(body, name, json_text(call->arguments, argument));
}

static void
copy_int(JsonBuilder *body, const ProviderCall *call, const char *name, const char *argument)
{
	int64 number;

	if (json_int(call->arguments, argument, &number))
		json_add_int(body, name, number);
}

/* ------------------------------------------------------------------------
 * Customers
 * ------------------------------------------------------------------------
 */

/* What goes into a fiscal entity: the RFC, and who it is. */
static Jsonb *
fiscal_entity(const ProviderCall *call)
{
	JsonBuilder body;

	json_open(&body);
	copy_text(&body, call, "tax_id", "tax_ids.0.value");
	copy_text(&body, call, "company_name", "name");
	copy_text(&body, call, "email", "email");
	copy_text(&body, call, "phone", "phone");
	if (json_part(call->arguments, "address") != NULL)
	{
		json_open_object(&body, "address");
		copy_text(&body, call, "street1", "address.line1");
		copy_text(&body, call, "street2", "address.line2");
		copy_text(&body, call, "postal_code", "address.postal_code");
		copy_text(&body, call, "city", "address.city");
		copy_text(&body, call, "state", "address.state");
		copy_text(&body, call, "country", "address.country");
		json_close_object(&body);
	}
	return json_close(&body);
}

static void
build_customer_create(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	copy_text(&body, call, "name", "name");
	copy_text(&body, call, "email", "email");
	copy_text(&body, call, "phone", "phone");
	json_add_text(&body, "custom_reference", call->reference);
	if (json_length(call->arguments, "tax_ids") > 0)
	{
		json_open_array(&body, "fiscal_entities");
		json_append_json(&body, fiscal_entity(call));
		json_close_array(&body);
	}
	conekta_add_metadata(call, &body, call->reference, NULL);
	conekta_send_json(call, "POST", "/customers", json_close(&body), request);
}

/* Of an address or a language Conekta keeps nothing: then it is only read. */
static void
build_customer_update(const ProviderCall *call, ProviderRequest *request)
{
	static const char *const kept[] = {"name", "email", "phone", "metadata"};
	JsonBuilder body;
	bool any = false;

	for (size_t i = 0; i < lengthof(kept); i++)
		any |= json_has(call->arguments, kept[i]);
	if (!any)
	{
		conekta_get(call, customer_path(call), request);
		return;
	}
	json_open(&body);
	copy_text(&body, call, "name", "name");
	copy_text(&body, call, "email", "email");
	copy_text(&body, call, "phone", "phone");
	if (json_has(call->arguments, "metadata"))
		conekta_add_metadata(call, &body, call->reference, NULL);
	conekta_send_json(call, "PUT", customer_path(call), json_close(&body), request);
}

/* Conekta removes no fiscal entity, so the one that is there is changed: carry {entity}. */
static void
build_set_tax_ids(const ProviderCall *call, ProviderRequest *request)
{
	char *entity = call->carry == NULL ? NULL : json_text(call->carry, "entity");
	char *path = psprintf("%s/fiscal_entities", customer_path(call));

	if (call->step == 0)
		conekta_get(call, customer_path(call), request);
	else if (entity != NULL)
		conekta_send_json(call, "PUT", psprintf("%s/%s", path, path_part(entity, "entity")),
						  fiscal_entity(call), request);
	else
		conekta_send_json(call, "POST", path, fiscal_entity(call), request);
}

/* ------------------------------------------------------------------------
 * Payment sources
 * ------------------------------------------------------------------------
 */
static void
build_set_default(const ProviderCall *call, const char *source, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "default_payment_source_id", source);
	conekta_send_json(call, "PUT", customer_path(call), json_close(&body), request);
}

static void
build_attach(const ProviderCall *call, ProviderRequest *request)
{
	char *type = json_text(call->arguments, "type");
	JsonBuilder body;

	if (call->step == 1)
	{
		build_set_default(call, json_text(call->carry, "payment_method"), request);
		return;
	}
	/* the former name of the same */
	if (type != NULL && strcmp(type, "oxxo_recurrent") == 0)
		type = "cash_recurrent";
	json_open(&body);
	json_add_text(&body, "type", type != NULL ? type : "card");
	copy_text(&body, call, "token_id", "payment_method");
	copy_int(&body, call, "expires_at", "expires_at");
	conekta_send_json(call, "POST", sources_path(call), json_close(&body), request);
}

static char *
source_path(const ProviderCall *call)
{
	return psprintf("%s/%s", sources_path(call),
					path_part(json_text(call->arguments, "payment_method"), "payment_method"));
}

/* ------------------------------------------------------------------------
 * Plans and subscriptions
 * ------------------------------------------------------------------------
 */
static void
build_price_create(const ProviderCall *call, ProviderRequest *request)
{
	char *name = json_text(call->arguments, "name");
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "id", psprintf(CONEKTA_PLAN_PREFIX "%s", call->reference));
	json_add_text(&body, "name", name != NULL ? name : json_text(call->arguments, "nickname"));
	copy_int(&body, call, "amount", "amount");
	copy_text(&body, call, "currency", "currency");
	copy_text(&body, call, "interval", "interval");
	copy_int(&body, call, "frequency", "interval_count");
	conekta_send_json(call, "POST", "/plans", json_close(&body), request);
}

/* The amount would change what subscribers pay, so nothing but the name is ever told. */
static void
build_price_update(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	if (json_text(call->arguments, "name") == NULL)
	{
		conekta_get(call, plan_path(call), request);
		return;
	}
	json_open(&body);
	copy_text(&body, call, "name", "name");
	conekta_send_json(call, "PUT", plan_path(call), json_close(&body), request);
}

/* Conekta knows the end of a trial, not its length. */
static void
add_trial(JsonBuilder *body, const ProviderCall *call)
{
	int64 days;

	if (json_int(call->arguments, "trial_days", &days) && days > 0)
		json_add_int(body, "trial_end",
					 (int64) timestamptz_to_time_t(GetCurrentTimestamp()) + days * SECS_PER_DAY);
	else
		copy_int(body, call, "trial_end", "trial_end");
}

static void
build_subscription(const ProviderCall *call, const char *method, const char *path,
				   ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	copy_text(&body, call, "plan_id", "price");
	copy_text(&body, call, "card_id", "payment_method");
	add_trial(&body, call);
	conekta_send_json(call, method, path, json_close(&body), request);
}

static void
build_subscription_verb(const ProviderCall *call, const char *verb, ProviderRequest *request)
{
	conekta_start(call, "POST", psprintf("%s/%s", subscription_path(call), verb), request);
}

static void
build_subscription_create(const ProviderCall *call, ProviderRequest *request)
{
	if (call->step == 1)
		build_subscription_verb(call, "cancel", request);
	else
		build_subscription(call, "POST", subscriptions_path(call), request);
}

bool
conekta_step_changes_card(const ProviderCall *call)
{
	return call->operation == OPERATION_SUBSCRIPTION_RETRY_PAYMENT && call->step == 0 &&
		   json_text(call->arguments, "payment_method") != NULL;
}

static void
build_retry_payment(const ProviderCall *call, ProviderRequest *request)
{
	if (conekta_step_changes_card(call))
		build_subscription(call, "PUT", subscription_path(call), request);
	else
		build_subscription_verb(call, "retry", request);
}

/* ------------------------------------------------------------------------
 * Payments
 * ------------------------------------------------------------------------
 */
static void
build_confirm(const ProviderCall *call, ProviderRequest *request)
{
	if (call->step == 1)
		conekta_get(call, order_path(call), request);
	else
		conekta_send_json(call, "POST", psprintf("%s/charges", order_path(call)),
						  conekta_charge_body(call), request);
}

bool
conekta_step_reads_amount(const ProviderCall *call)
{
	return call->operation == OPERATION_PAYMENT_INTENT_CAPTURE && call->step == 0 &&
		   json_text(call->arguments, "amount") == NULL;
}

static void
build_capture(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;
	int64 amount;

	if (conekta_step_reads_amount(call))
	{
		conekta_get(call, order_path(call), request);
		return;
	}
	if (!json_int(call->arguments, "amount", &amount) &&
		(call->carry == NULL || !json_int(call->carry, "amount", &amount)))
		elog(ERROR, "argument \"amount\" is missing");
	json_open(&body);
	json_add_int(&body, "amount", amount);
	conekta_send_json(call, "POST", psprintf("%s/capture", order_path(call)), json_close(&body),
					  request);
}

/* Conekta's words; a reason is obligatory there. */
static const char *
refund_reason(const char *reason)
{
	static const char *const words[][2] = {
		{"requested_by_customer", "requested_by_client"},
		{"duplicate", "duplicated_transaction"},
		{"fraudulent", "suspected_fraud"},
		{"service_disruption", "cannot_be_fulfilled"},
	};

	for (size_t i = 0; reason != NULL && i < lengthof(words); i++)
	{
		if (strcmp(reason, words[i][0]) == 0)
			return words[i][1];
	}
	return reason == NULL ? "requested_by_client" : "other";
}

static void
build_refund(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	copy_int(&body, call, "amount", "amount");
	json_add_text(&body, "reason", refund_reason(json_text(call->arguments, "reason")));
	conekta_send_json(call, "POST", psprintf("%s/refunds", order_path(call)), json_close(&body),
					  request);
}

static void
build_refund_cancel(const ProviderCall *call, ProviderRequest *request)
{
	conekta_start(call, "DELETE",
				  psprintf("%s/refunds/%s", order_path(call),
						   path_part(json_text(call->arguments, "refund"), "refund")),
				  request);
}

/* ------------------------------------------------------------------------
 * Checkouts, portals
 * ------------------------------------------------------------------------
 */
static void
build_checkout_fetch(const ProviderCall *call, ProviderRequest *request)
{
	if (call->step == 0)
		conekta_get(call, checkout_path(call), request);
	else
		search(call, "orders", call->reference, request);
}

static char *
portal_path(const ProviderCall *call)
{
	return psprintf("%s/customer_portal", path_of(call, "subscriptions", "subscription"));
}

/* ------------------------------------------------------------------------
 * All operations
 * ------------------------------------------------------------------------
 */
static void
build_customer_operation(const ProviderCall *call, ProviderRequest *request)
{
	switch (call->operation)
	{
		case OPERATION_CUSTOMER_CREATE:
			build_customer_create(call, request);
			break;
		case OPERATION_CUSTOMER_UPDATE:
			build_customer_update(call, request);
			break;
		case OPERATION_CUSTOMER_SET_TAX_IDS:
			build_set_tax_ids(call, request);
			break;
		case OPERATION_CUSTOMER_DELETE:
			conekta_start(call, "DELETE", customer_path(call), request);
			break;
		case OPERATION_CUSTOMER_FETCH:
			conekta_get(call, customer_path(call), request);
			break;
		case OPERATION_PAYMENT_METHOD_ATTACH:
			build_attach(call, request);
			break;
		case OPERATION_PAYMENT_METHOD_SET_DEFAULT:
			build_set_default(call, json_text(call->arguments, "payment_method"), request);
			break;
		case OPERATION_PAYMENT_METHOD_DETACH:
			conekta_start(call, "DELETE", source_path(call), request);
			break;
		case OPERATION_PAYMENT_METHOD_LIST:
			conekta_get_page(call, sources_path(call), request);
			break;
		case OPERATION_PORTAL_SESSION_CREATE:
			conekta_start(call, "POST", portal_path(call), request);
			break;
		default:
			conekta_build_endpoint(call, request);
	}
}

static void
build_subscription_operation(const ProviderCall *call, ProviderRequest *request)
{
	switch (call->operation)
	{
		case OPERATION_PRICE_CREATE:
			build_price_create(call, request);
			break;
		case OPERATION_PRICE_UPDATE:
			build_price_update(call, request);
			break;
		case OPERATION_SUBSCRIPTION_CREATE:
			build_subscription_create(call, request);
			break;
		case OPERATION_SUBSCRIPTION_UPDATE:
			build_subscription(call, "PUT", subscription_path(call), request);
			break;
		case OPERATION_SUBSCRIPTION_CANCEL:
			build_subscription_verb(call, "cancel", request);
			break;
		case OPERATION_SUBSCRIPTION_PAUSE:
			build_subscription_verb(call, "pause", request);
			break;
		case OPERATION_SUBSCRIPTION_RESUME:
			build_subscription_verb(call, "resume", request);
			break;
		case OPERATION_SUBSCRIPTION_RETRY_PAYMENT:
			build_retry_payment(call, request);
			break;
		case OPERATION_SUBSCRIPTION_FETCH:
			conekta_get(call, subscription_path(call), request);
			break;
		default:
			build_customer_operation(call, request);
	}
}

static void
build_step(const ProviderCall *call, ProviderRequest *request)
{
	switch (call->operation)
	{
		case OPERATION_PAYMENT_INTENT_CREATE:
			conekta_send_json(call, "POST", "/orders", conekta_order_body(call), request);
			break;
		case OPERATION_PAYMENT_INTENT_CONFIRM:
			build_confirm(call, request);
			break;
		case OPERATION_PAYMENT_INTENT_CAPTURE:
			build_capture(call, request);
			break;
		case OPERATION_PAYMENT_INTENT_CANCEL:
			conekta_start(call, "POST", psprintf("%s/cancel", order_path(call)), request);
			break;
		case OPERATION_PAYMENT_INTENT_FETCH:
		case OPERATION_REFUND_FETCH:
			conekta_get(call, order_path(call), request);
			break;
		case OPERATION_REFUND_CREATE:
			build_refund(call, request);
			break;
		case OPERATION_REFUND_CANCEL:
			build_refund_cancel(call, request);
			break;
		case OPERATION_CHECKOUT_SESSION_CREATE:
			conekta_send_json(call, "POST", "/orders", conekta_checkout_body(call), request);
			break;
		case OPERATION_CHECKOUT_SESSION_FETCH:
			build_checkout_fetch(call, request);
			break;
		case OPERATION_CHECKOUT_SESSION_EXPIRE:
		case OPERATION_PAYMENT_LINK_CANCEL:
			conekta_start(call, "PUT", psprintf("%s/cancel", checkout_path(call)), request);
			break;
		case OPERATION_PAYMENT_LINK_CREATE:
			conekta_send_json(call, "POST", "/checkouts", conekta_payment_link_body(call), request);
			break;
		default:
			build_subscription_operation(call, request);
	}
}

void
conekta_build_request(const ProviderCall *call, ProviderRequest *request)
{
	ProviderCall looked_up = *call;

	if (call->step != CONEKTA_STEP_LOOK_REFUSED && call->step != CONEKTA_STEP_LOOK_DECLINED)
	{
		build_step(call, request);
		return;
	}
	looked_up.step = 0;
	conekta_build_lookup(&looked_up, request);
}

/* The builders know what is a question; nobody else has to. */
bool
conekta_step_reads(const ProviderCall *call)
{
	ProviderRequest request;

	conekta_build_request(call, &request);
	return strcmp(request.method, "GET") == 0;
}

/* ------------------------------------------------------------------------
 * Look-ups
 *
 * By our reference where the object has it, in the list of its parent where
 * it has none.  For anything else the object itself tells.
 * ------------------------------------------------------------------------
 */
static void
build_lookup_of_object(const ProviderCall *call, ProviderRequest *request)
{
	switch (conekta_expected_type(call))
	{
		case BILLING_CUSTOMER:
			conekta_get(call, customer_path(call), request);
			break;
		case BILLING_PRICE:
			conekta_get(call, plan_path(call), request);
			break;
		case BILLING_SUBSCRIPTION:
			conekta_get(call, subscription_path(call), request);
			break;
		case BILLING_CHECKOUT_SESSION:
			conekta_get(call, checkout_path(call), request);
			break;
		case BILLING_PORTAL_SESSION:
			conekta_get(call, portal_path(call), request);
			break;
		default:
			conekta_get(call, order_path(call), request);
	}
}

void
conekta_build_lookup(const ProviderCall *call, ProviderRequest *request)
{
	bool first = call->step == 0;

	if (call->step == CONEKTA_STEP_LOOK_REFUSED || call->step == CONEKTA_STEP_LOOK_DECLINED ||
		conekta_step_reads(call))
		conekta_build_request(call, request);
	else if (call->operation == OPERATION_CUSTOMER_CREATE)
		search(call, "customers", call->reference, request);
	else if (call->operation == OPERATION_PAYMENT_INTENT_CREATE ||
			 call->operation == OPERATION_CHECKOUT_SESSION_CREATE)
		search(call, "orders", call->reference, request);
	else if (call->operation == OPERATION_PAYMENT_LINK_CREATE)
		search(call, "checkouts", conekta_link_name(call), request);
	else if (first && (call->operation == OPERATION_PAYMENT_METHOD_ATTACH ||
					   call->operation == OPERATION_PAYMENT_METHOD_DETACH))
		conekta_get(call, psprintf("%s?" LIST, sources_path(call)), request);
	else if (first && call->operation == OPERATION_SUBSCRIPTION_CREATE)
		conekta_get(call, psprintf("%s?" LIST, subscriptions_path(call)), request);
	else if (conekta_expected_type(call) == BILLING_WEBHOOK_ENDPOINT)
		conekta_build_endpoint_lookup(call, request);
	else
		build_lookup_of_object(call, request);
}

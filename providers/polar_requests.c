/*-------------------------------------------------------------------------
 *
 * polar_requests.c
 *	  Operations become requests to Polar's API: which one a step is, what is
 *	  read, and how a lost answer is looked up.
 *
 * Bodies are JSON (polar_changes.c writes them), collection URLs end in a
 * slash (without it Polar redirects, and a redirect is never followed).  Polar
 * knows no idempotency keys: whatever makes something carries our reference,
 * and the look-ups at the end of this file find it by that.
 *
 * An operation may be several requests; polar_step() says what each one is.
 *
 *-------------------------------------------------------------------------
 */
#include "polar.h"

#include "lib/stringinfo.h"

#include "json.h"

/* To finalize an order charges a card in line; other requests are quick. */
#define TIMEOUT_MS 60000

/* ------------------------------------------------------------------------
 * Steps
 * ------------------------------------------------------------------------
 */
bool
polar_given(const ProviderCall *call, const char *argument)
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
	return polar_given(call, "price") || polar_given(call, "coupon") ||
		   polar_given(call, "trial_end");
}

bool
polar_changes_seats(const ProviderCall *call)
{
	return polar_given(call, "quantity");
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
		case OPERATION_CHECKOUT_SESSION_CREATE:
		case OPERATION_PAYMENT_LINK_CREATE:
		case OPERATION_PORTAL_SESSION_CREATE:
		case OPERATION_WEBHOOK_ENDPOINT_CREATE:
		case OPERATION_METER_CREATE:
			return POLAR_CREATE;
		case OPERATION_USAGE_INGEST:
			return POLAR_INGEST;
		case OPERATION_PAYMENT_INTENT_CREATE:
			return call->step == 0 ? POLAR_CREATE : POLAR_FINALIZE;
		case OPERATION_PAYMENT_INTENT_CONFIRM:
			return POLAR_FINALIZE;
		case OPERATION_REFUND_CREATE:
			return call->step == 0 ? POLAR_PREPARE : POLAR_CREATE;
		case OPERATION_CUSTOMER_UPDATE:
			return call->step == 0 && polar_given(call, "metadata") ? POLAR_PREPARE : POLAR_CHANGE;
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
		case OPERATION_METER_FETCH:
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

void
polar_start(ProviderRequest *request, const char *method, const char *path)
{
	memset(request, 0, sizeof(*request));
	request->method = method;
	request->path = path;
	request->headers = list_make1(pstrdup("Polar-Version: " POLAR_VERSION));
	request->timeout_ms = TIMEOUT_MS;
}

void
polar_send_json(ProviderRequest *request, const char *method, const char *path, JsonBuilder *body)
{
	polar_start(request, method, path);
	request->headers = lappend(request->headers, pstrdup("Content-Type: application/json"));
	request->body = json_string(json_close(body));
	request->body_length = strlen(request->body);
}

/* polar_path(call, "customers", "customer") is "/v1/customers/<uuid>". */
char *
polar_path(const ProviderCall *call, const char *collection, const char *argument)
{
	return psprintf("/v1/%s/%s", collection,
					path_part(json_text(call->arguments, argument), argument));
}

char *
polar_order_path(const ProviderCall *call)
{
	return psprintf("/v1/orders/%s", path_part(polar_order_id(call), "payment_intent"));
}

/*
 * "organization_id" of what is made or listed; a token of an organisation
 * acts for that one and must not name it.
 */
char *
polar_organization(const ProviderCall *call)
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
	query_add(path, "organization_id", polar_organization(call));
}

static void
send_list(ProviderRequest *request, StringInfo path, int page)
{
	query_add(path, "page", psprintf("%d", page));
	query_add(path, "limit", psprintf("%d", POLAR_PAGE_SIZE));
	polar_start(request, "GET", path->data);
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
			appendStringInfo(&path, "%s/payment-methods",
							 polar_path(call, "customers", "customer"));
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
	send_list(request, &path, page);
}

/* GET of the object that the operation is about. */
char *
polar_object_path(const ProviderCall *call)
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
			return polar_path(call, "customers", "customer");
		case OPERATION_PRICE_UPDATE:
			return polar_path(call, "products", "price");
		case OPERATION_SUBSCRIPTION_UPDATE:
		case OPERATION_SUBSCRIPTION_CANCEL:
		case OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END:
		case OPERATION_SUBSCRIPTION_UNCANCEL:
		case OPERATION_SUBSCRIPTION_PAUSE:
		case OPERATION_SUBSCRIPTION_RESUME:
		case OPERATION_SUBSCRIPTION_FETCH:
			return polar_path(call, "subscriptions", "subscription");
		case OPERATION_PAYMENT_INTENT_CREATE:
		case OPERATION_PAYMENT_INTENT_CONFIRM:
		case OPERATION_PAYMENT_INTENT_FETCH:
		case OPERATION_REFUND_CREATE:
			return polar_order_path(call);
		case OPERATION_DISPUTE_ACCEPT:
		case OPERATION_DISPUTE_FETCH:
			return polar_path(call, "disputes", "dispute");
		case OPERATION_CHECKOUT_SESSION_FETCH:
			return polar_path(call, "checkouts", "checkout_session");
		case OPERATION_PAYMENT_LINK_CANCEL:
			return polar_path(call, "checkout-links", "checkout_session");
		case OPERATION_INVOICE_FETCH:
		case OPERATION_INVOICE_DOCUMENT:
			return polar_path(call, "orders", "invoice");
		case OPERATION_METER_FETCH:
			return polar_path(call, "meters", "meter");
		case OPERATION_WEBHOOK_ENDPOINT_UPDATE:
		case OPERATION_WEBHOOK_ENDPOINT_ROTATE:
		case OPERATION_WEBHOOK_ENDPOINT_DELETE:
			return polar_path(call, "webhooks/endpoints", "webhook_endpoint");
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
		send_list(request, &path, 1);
		return;
	}
	polar_start(request, "GET",
				call->operation == OPERATION_INVOICE_DOCUMENT && call->step == POLAR_DOCUMENT_STEP
					? psprintf("%s/invoice", polar_object_path(call))
					: polar_object_path(call));
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
	polar_start(request, "GET", path.data);
}

/* ------------------------------------------------------------------------
 * All operations
 * ------------------------------------------------------------------------
 */
void
polar_build_request(const ProviderCall *call, ProviderRequest *request)
{
	switch (polar_step(call))
	{
		case POLAR_CREATE:
			polar_build_create(call, request);
			break;
		case POLAR_CHANGE:
			polar_build_change(call, request);
			break;
		case POLAR_REMOVE:
			polar_start(request, "DELETE", polar_object_path(call));
			break;
		case POLAR_FINALIZE:
			polar_build_finalize(call, request);
			break;
		case POLAR_TRIGGER:
			polar_start(request, "POST", psprintf("%s/invoice", polar_object_path(call)));
			break;
		case POLAR_INGEST:
			polar_build_ingest(call, request);
			break;
		case POLAR_READ:
			build_read(call, request);
			break;
		case POLAR_LIST:
			build_list(call, call->step + 1, request);
			break;
		case POLAR_PREPARE:
			polar_start(request, "GET", polar_object_path(call));
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
		case OPERATION_METER_CREATE:
			open_list(call, &path, "/v1/meters/");
			query_add(&path, "metadata[" POLAR_REFERENCE "]", call->reference);
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
			query_add(&path, "product_id", polar_line_product(call));
			break;
		default:
			open_list(call, &path, "/v1/webhooks/endpoints");
			break;
	}
	send_list(request, &path, 1);
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
		polar_start(request, "GET", polar_object_path(call));
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
			polar_start(request, "GET", polar_object_path(call));
			break;
		case POLAR_CONFIRM:
			asked.step = polar_refused_step(call);
			polar_build_lookup(&asked, request);
			break;
		case POLAR_INGEST:
		case POLAR_READ:
		case POLAR_LIST:
		case POLAR_PREPARE:
		case POLAR_DECLINE:
			polar_build_request(call, request);
			break;
	}
}

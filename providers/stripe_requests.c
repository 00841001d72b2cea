/*-------------------------------------------------------------------------
 *
 * stripe_requests.c
 *	  Operations become requests to Stripe's API.
 *
 * A request is written with exactly the bytes of Stripe's own client
 * (stripe-node 23) for the same parameters in the same order: names nested by
 * brackets, everything but A-Z a-z 0-9 - _ . ~ and the brackets escaped.  POST
 * carries them as a form, GET and DELETE in the query.  The order of the
 * parameters is the order of the lines in the build_ functions below.
 *
 * An argument that is JSON null is sent as "name=", which clears the field.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe.h"

#include "lib/stringinfo.h"
#include "utils/formatting.h"

#include "json.h"

/* What Stripe's own clients wait. */
#define TIMEOUT_MS 80000

#define LIST_LIMIT "100" /* the most that a list gives at once */

/*
 * Without this Stripe tells the id of the invoice only, and the client secret
 * with which the customer confirms its payment stays unknown.
 */
#define CONFIRMATION_SECRET "latest_invoice.confirmation_secret"

/* A form under construction, for the arguments of one call. */
typedef struct Form
{
	StringInfoData text;
	const Jsonb *arguments;
} Form;

/* ------------------------------------------------------------------------
 * Forms
 * ------------------------------------------------------------------------
 */
static void
form_open(Form *form, const ProviderCall *call)
{
	initStringInfo(&form->text);
	form->arguments = call->arguments;
}

/* Brackets stay as they are, in names and values alike, as in Stripe's client. */
static void
append_escaped(StringInfo out, const char *text)
{
	while (*text != '\0')
	{
		size_t plain = strcspn(text, "[]");

		http_escape(out, text, plain);
		text += plain;
		if (*text != '\0')
			appendStringInfoChar(out, *text++);
	}
}

/* A NULL value is left out. */
static void
form_add(Form *form, const char *name, const char *value)
{
	if (value == NULL)
		return;
	if (form->text.len > 0)
		appendStringInfoChar(&form->text, '&');
	append_escaped(&form->text, name);
	appendStringInfoChar(&form->text, '=');
	append_escaped(&form->text, value);
}

/* The scalar argument at path: left out when absent, empty when null. */
static void
form_argument(Form *form, const char *name, const char *path)
{
	char *value = json_text(form->arguments, path);

	if (value == NULL && json_has(form->arguments, path))
		value = "";
	form_add(form, name, value);
}

static void
form_address(Form *form)
{
	static const char *const lines[] = {"line1", "line2",       "city",
										"state", "postal_code", "country"};

	if (json_part(form->arguments, "address") == NULL)
	{
		form_argument(form, "address", "address");
		return;
	}
	for (size_t i = 0; i < lengthof(lines); i++)
		form_argument(form, psprintf("address[%s]", lines[i]), psprintf("address.%s", lines[i]));
}

static void
add_metadata_member(const char *key, const JsonbValue *value, void *context)
{
	Form *form = context;
	char *text = json_scalar_text(value);

	if (strcmp(key, STRIPE_REFERENCE) == 0 || strcmp(key, STRIPE_ORGANIZATION) == 0 ||
		value->type == jbvBinary)
		return;
	form_add(form, psprintf("metadata[%s]", key), text != NULL ? text : "");
}

/* The user's members; Stripe merges them into what it has, an empty one removes its key. */
static void
form_metadata(Form *form)
{
	Jsonb *metadata = json_part(form->arguments, "metadata");

	if (metadata != NULL)
		json_visit(metadata, add_metadata_member, form);
}

/* Of what is created: by these an event or a look-up finds the way to our row. */
static void
form_reference(Form *form, const ProviderCall *call)
{
	form_metadata(form);
	form_add(form, "metadata[" STRIPE_REFERENCE "]", call->reference);
	form_argument(form, "metadata[" STRIPE_ORGANIZATION "]", "organization_id");
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */
static void
start_request(ProviderRequest *request, const char *method, const char *path)
{
	memset(request, 0, sizeof(*request));
	request->method = method;
	request->path = path;
	request->headers = list_make1(pstrdup("Stripe-Version: " STRIPE_VERSION));
	request->timeout_ms = TIMEOUT_MS;
}

/* Also an empty form is a body: Stripe wants its length said. */
static void
post(ProviderRequest *request, const char *path, const Form *form)
{
	start_request(request, "POST", path);
	request->headers = lappend(request->headers,
							   pstrdup("Content-Type: application/x-www-form-urlencoded"));
	request->body = form->text.data;
	request->body_length = (size_t) form->text.len;
}

static void
send_query(ProviderRequest *request, const char *method, const char *path, const Form *form)
{
	if (form != NULL && form->text.len > 0)
		path = psprintf("%s?%s", path, form->text.data);
	start_request(request, method, path);
}

/*
 * A part of a path.  The core never enqueues an operation without its ids;
 * an empty one would turn DELETE of one object into a request on all of them.
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

/* path_of(call, "customers", "customer") is "/v1/customers/cus_1". */
static char *
path_of(const ProviderCall *call, const char *collection, const char *argument)
{
	return psprintf("/v1/%s/%s", collection,
					path_part(json_text(call->arguments, argument), argument));
}

/* ------------------------------------------------------------------------
 * Customers
 * ------------------------------------------------------------------------
 */
static void
form_customer_terms(Form *form)
{
	form_argument(form, "email", "email");
	form_argument(form, "name", "name");
	form_argument(form, "phone", "phone");
	form_argument(form, "description", "description");
	form_address(form);
}

static void
build_customer_create(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	int tax_ids = json_length(call->arguments, "tax_ids");

	form_open(&form, call);
	form_customer_terms(&form);
	for (int i = 0; i < tax_ids; i++)
	{
		form_argument(&form, psprintf("tax_id_data[%d][type]", i), psprintf("tax_ids.%d.type", i));
		form_argument(&form, psprintf("tax_id_data[%d][value]", i),
					  psprintf("tax_ids.%d.value", i));
	}
	form_argument(&form, "tax_exempt", "tax_exempt");
	form_add(&form, "preferred_locales[0]", json_text(call->arguments, "locale"));
	form_reference(&form, call);
	post(request, "/v1/customers", &form);
}

static void
build_customer_update(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_customer_terms(&form);
	form_argument(&form, "tax_exempt", "tax_exempt");
	form_add(&form, "preferred_locales[0]", json_text(call->arguments, "locale"));
	form_metadata(&form);
	post(request, path_of(call, "customers", "customer"), &form);
}

static void
build_list_tax_ids(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "limit", LIST_LIMIT);
	send_query(request, "GET", psprintf("%s/tax_ids", path_of(call, "customers", "customer")),
			   &form);
}

/*
 * Step 0 reads what is there; each further step removes or adds the first one
 * that the step before left to do in carry {remove: [id], add: [{type value}]}.
 */
static void
build_set_tax_ids(const ProviderCall *call, ProviderRequest *request)
{
	char *tax_ids;
	char *removed;
	Form form;

	if (call->step == 0)
	{
		build_list_tax_ids(call, request);
		return;
	}

	tax_ids = psprintf("%s/tax_ids", path_of(call, "customers", "customer"));
	removed = json_text(call->carry, "remove.0");
	if (removed != NULL)
	{
		send_query(request, "DELETE", psprintf("%s/%s", tax_ids, path_part(removed, "remove")),
				   NULL);
		return;
	}
	form_open(&form, call);
	form_add(&form, "type", json_text(call->carry, "add.0.type"));
	form_add(&form, "value", json_text(call->carry, "add.0.value"));
	post(request, tax_ids, &form);
}

/* ------------------------------------------------------------------------
 * Payment methods
 * ------------------------------------------------------------------------
 */
static void
build_set_default(const ProviderCall *call, const char *payment_method, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "invoice_settings[default_payment_method]", payment_method);
	post(request, path_of(call, "customers", "customer"), &form);
}

/*
 * Attaching a token may make a method with an id of its own, which the second
 * step takes from carry {payment_method}.
 */
static void
build_attach(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	if (call->step == 1)
	{
		build_set_default(call, json_text(call->carry, "payment_method"), request);
		return;
	}
	form_open(&form, call);
	form_argument(&form, "customer", "customer");
	post(request, psprintf("%s/attach", path_of(call, "payment_methods", "payment_method")), &form);
}

static void
build_detach(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	post(request, psprintf("%s/detach", path_of(call, "payment_methods", "payment_method")), &form);
}

/* ------------------------------------------------------------------------
 * Catalogue
 * ------------------------------------------------------------------------
 */
static void
build_product_create(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_argument(&form, "name", "name");
	form_argument(&form, "description", "description");
	form_reference(&form, call);
	post(request, "/v1/products", &form);
}

static void
build_price_create(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	char *currency = json_text(call->arguments, "currency");
	char *interval = json_text(call->arguments, "interval");

	form_open(&form, call);
	if (currency != NULL)
		form_add(&form, "currency", asc_tolower(currency, strlen(currency)));
	form_argument(&form, "unit_amount", "amount");
	form_argument(&form, "product", "product");
	if (interval != NULL && strcmp(interval, "one_time") != 0)
	{
		form_add(&form, "recurring[interval]", interval);
		form_argument(&form, "recurring[interval_count]", "interval_count");
	}
	form_argument(&form, "nickname", "nickname");
	form_reference(&form, call);
	post(request, "/v1/prices", &form);
}

/* ------------------------------------------------------------------------
 * Subscriptions
 * ------------------------------------------------------------------------
 */

/* By days or by date; trial_days 0 is no trial. */
static bool
form_trial(Form *form)
{
	int64 days;

	if (json_int(form->arguments, "trial_days", &days) && days > 0)
		form_argument(form, "trial_period_days", "trial_days");
	else if (json_text(form->arguments, "trial_end") != NULL)
		form_argument(form, "trial_end", "trial_end");
	else
		return false;
	return true;
}

/*
 * How the first payment is made.  A method at hand is charged at once, and
 * when that fails the subscription stays incomplete; without one it begins
 * incomplete and the customer pays with the confirmation secret.  Stripe asks
 * for neither when nothing is due or an invoice is sent.  True when there may
 * be a secret to be told.
 */
static bool
form_first_payment(Form *form)
{
	char *collection = json_text(form->arguments, "collection_method");

	if (collection != NULL && strcmp(collection, "send_invoice") == 0)
		return false;
	if (json_bool(form->arguments, "all_or_nothing", false))
	{
		form_add(form, "payment_behavior", "error_if_incomplete");
		return false;
	}
	if (json_text(form->arguments, "payment_method") != NULL)
	{
		form_add(form, "payment_behavior", "allow_incomplete");
		return true;
	}
	if (!json_bool(form->arguments, "due_now", false))
		return false;
	form_add(form, "payment_behavior", "default_incomplete");
	form_add(form, "payment_settings[save_default_payment_method]", "on_subscription");
	return true;
}

static void
build_subscription_create(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	bool has_trial;
	bool has_secret;
	char *trial_end_behavior = json_text(call->arguments, "trial_end_behavior");

	form_open(&form, call);
	form_argument(&form, "customer", "customer");
	form_argument(&form, "items[0][price]", "price");
	form_argument(&form, "items[0][quantity]", "quantity");
	has_trial = form_trial(&form);
	form_argument(&form, "default_payment_method", "payment_method");
	has_secret = form_first_payment(&form);
	if (has_trial)
		form_add(&form, "trial_settings[end_behavior][missing_payment_method]",
				 trial_end_behavior != NULL ? trial_end_behavior : "cancel");
	form_argument(&form, "collection_method", "collection_method");
	form_argument(&form, "days_until_due", "days_until_due");
	form_argument(&form, "cancel_at", "cancel_at");
	form_argument(&form, "billing_cycle_anchor", "billing_anchor");
	form_argument(&form, "off_session", "off_session");
	form_reference(&form, call);
	if (has_secret)
		form_add(&form, "expand[0]", CONFIRMATION_SECRET);
	post(request, "/v1/subscriptions", &form);
}

static bool
changes_item(const ProviderCall *call)
{
	return json_text(call->arguments, "price") != NULL ||
		   json_text(call->arguments, "quantity") != NULL;
}

bool
stripe_step_reads_item(const ProviderCall *call)
{
	return call->operation == OPERATION_SUBSCRIPTION_UPDATE && call->step == 0 &&
		   changes_item(call) && json_text(call->arguments, "item") == NULL;
}

static void
build_subscription_update(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	char *path = path_of(call, "subscriptions", "subscription");

	if (stripe_step_reads_item(call))
	{
		send_query(request, "GET", path, NULL);
		return;
	}

	form_open(&form, call);
	if (changes_item(call))
	{
		char *item = json_text(call->arguments, "item");

		form_add(&form, "items[0][id]", item != NULL ? item : json_text(call->carry, "item"));
		form_argument(&form, "items[0][price]", "price");
		form_argument(&form, "items[0][quantity]", "quantity");
	}
	form_argument(&form, "proration_behavior", "proration_behavior");
	form_argument(&form, "proration_date", "proration_date");
	form_argument(&form, "default_payment_method", "payment_method");
	form_argument(&form, "trial_end", "trial_end");
	form_argument(&form, "cancel_at", "cancel_at");
	post(request, path, &form);
}

/* Stripe takes its own words as a reason; any other is said in the comment. */
static void
form_cancellation_details(Form *form)
{
	static const char *const feedbacks[] = {
		"customer_service", "low_quality", "missing_features", "other",
		"switched_service", "too_complex", "too_expensive",    "unused"};
	char *reason = json_text(form->arguments, "reason");
	char *comment = json_text(form->arguments, "comment");
	const char *feedback = NULL;

	for (size_t i = 0; reason != NULL && i < lengthof(feedbacks); i++)
	{
		if (strcmp(reason, feedbacks[i]) == 0)
			feedback = feedbacks[i];
	}
	if (reason != NULL && feedback == NULL)
	{
		feedback = "other";
		comment = comment == NULL ? reason : psprintf("%s: %s", reason, comment);
	}
	form_add(form, "cancellation_details[comment]", comment);
	form_add(form, "cancellation_details[feedback]", feedback);
}

static void
build_subscription_cancel(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_argument(&form, "invoice_now", "invoice_now");
	form_argument(&form, "prorate", "prorate");
	form_cancellation_details(&form);
	send_query(request, "DELETE", path_of(call, "subscriptions", "subscription"), &form);
}

static void
build_cancel_at_period_end(const ProviderCall *call, const char *wanted, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "cancel_at_period_end", wanted);
	form_cancellation_details(&form);
	post(request, path_of(call, "subscriptions", "subscription"), &form);
}

/*
 * A paused subscription is resumed with a new period; one whose collection is
 * paused is active to Stripe and only loses that mark.
 */
static void
build_subscription_resume(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	char *path = path_of(call, "subscriptions", "subscription");
	char *status = json_text(call->arguments, "provider_status");

	form_open(&form, call);
	if (status != NULL && strcmp(status, "paused") == 0)
	{
		form_add(&form, "billing_cycle_anchor[type]", "now");
		path = psprintf("%s/resume", path);
	}
	else
		form_add(&form, "pause_collection", "");
	post(request, path, &form);
}

/* ------------------------------------------------------------------------
 * All operations
 * ------------------------------------------------------------------------
 */
bool
stripe_step_confirms_end(const ProviderCall *call)
{
	return call->step == 1 && (call->operation == OPERATION_CUSTOMER_DELETE ||
							   call->operation == OPERATION_PAYMENT_METHOD_DETACH ||
							   call->operation == OPERATION_SUBSCRIPTION_CANCEL);
}

void
stripe_build_request(const ProviderCall *call, ProviderRequest *request)
{
	if (stripe_step_confirms_end(call))
	{
		stripe_build_lookup(call, request);
		return;
	}

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
			send_query(request, "DELETE", path_of(call, "customers", "customer"), NULL);
			break;
		case OPERATION_PAYMENT_METHOD_ATTACH:
			build_attach(call, request);
			break;
		case OPERATION_PAYMENT_METHOD_SET_DEFAULT:
			build_set_default(call, json_text(call->arguments, "payment_method"), request);
			break;
		case OPERATION_PAYMENT_METHOD_DETACH:
			build_detach(call, request);
			break;
		case OPERATION_PRODUCT_CREATE:
			build_product_create(call, request);
			break;
		case OPERATION_PRICE_CREATE:
			build_price_create(call, request);
			break;
		case OPERATION_SUBSCRIPTION_CREATE:
			build_subscription_create(call, request);
			break;
		case OPERATION_SUBSCRIPTION_UPDATE:
			build_subscription_update(call, request);
			break;
		case OPERATION_SUBSCRIPTION_CANCEL:
			build_subscription_cancel(call, request);
			break;
		case OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END:
			build_cancel_at_period_end(call, "true", request);
			break;
		case OPERATION_SUBSCRIPTION_UNCANCEL:
			build_cancel_at_period_end(call, "false", request);
			break;
		case OPERATION_SUBSCRIPTION_RESUME:
			build_subscription_resume(call, request);
			break;
		default:
			elog(ERROR, "no such operation");
	}
}

/* ------------------------------------------------------------------------
 * Look-ups
 *
 * What was created is found by our reference in its metadata: in the list of
 * its parent where there is one, because lists are exact at once; customers
 * and products have no parent, and Stripe's search lags by up to a minute (see
 * stripe_read_lookup).  For anything else the object itself tells.
 * ------------------------------------------------------------------------
 */
static void
search(const ProviderCall *call, const char *collection, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "query", psprintf("metadata['" STRIPE_REFERENCE "']:'%s'", call->reference));
	send_query(request, "GET", psprintf("/v1/%s/search", collection), &form);
}

/* The newest hundred, where a lost one is; the archived and the ended included. */
static void
list_children(const ProviderCall *call, const char *collection, const char *parent,
			  ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_argument(&form, parent, parent);
	if (call->operation == OPERATION_SUBSCRIPTION_CREATE)
	{
		form_add(&form, "status", "all");
		form_add(&form, "expand[0]", "data." CONFIRMATION_SECRET);
	}
	form_add(&form, "limit", LIST_LIMIT);
	send_query(request, "GET", psprintf("/v1/%s", collection), &form);
}

void
stripe_build_lookup(const ProviderCall *call, ProviderRequest *request)
{
	switch (call->operation)
	{
		case OPERATION_CUSTOMER_CREATE:
			search(call, "customers", request);
			break;
		case OPERATION_PRODUCT_CREATE:
			search(call, "products", request);
			break;
		case OPERATION_PRICE_CREATE:
			list_children(call, "prices", "product", request);
			break;
		case OPERATION_SUBSCRIPTION_CREATE:
			list_children(call, "subscriptions", "customer", request);
			break;
		case OPERATION_CUSTOMER_SET_TAX_IDS:
			build_list_tax_ids(call, request);
			break;
		case OPERATION_PAYMENT_METHOD_ATTACH:
			if (call->step == 1)
				send_query(request, "GET", path_of(call, "customers", "customer"), NULL);
			else
				send_query(request, "GET", path_of(call, "payment_methods", "payment_method"),
						   NULL);
			break;
		case OPERATION_PAYMENT_METHOD_DETACH:
			send_query(request, "GET", path_of(call, "payment_methods", "payment_method"), NULL);
			break;
		case OPERATION_CUSTOMER_UPDATE:
		case OPERATION_CUSTOMER_DELETE:
		case OPERATION_PAYMENT_METHOD_SET_DEFAULT:
			send_query(request, "GET", path_of(call, "customers", "customer"), NULL);
			break;
		case OPERATION_SUBSCRIPTION_UPDATE:
		case OPERATION_SUBSCRIPTION_CANCEL:
		case OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END:
		case OPERATION_SUBSCRIPTION_UNCANCEL:
		case OPERATION_SUBSCRIPTION_RESUME:
			send_query(request, "GET", path_of(call, "subscriptions", "subscription"), NULL);
			break;
		default:
			elog(ERROR, "no such operation");
	}
}

/*-------------------------------------------------------------------------
 *
 * stripe_requests.c
 *	  Requests to Stripe's API: forms, paths, and the way from an operation to
 *	  the step that is sent.
 *
 * A request is written with exactly the bytes of Stripe's own client
 * (stripe-node 23) for the same parameters in the same order: names nested by
 * brackets, everything but A-Z a-z 0-9 - _ . ~ and the brackets escaped.  POST
 * carries them as a form, GET and DELETE in the query.  The order of the
 * parameters is the order of the lines in the build_ functions of the
 * subjects' files, where each step of an operation is described.
 *
 * Look-ups: what was created is found by our reference in its metadata, in
 * the list of its parent where there is one, because lists are exact at once;
 * customers and products have no parent, and Stripe's search lags by up to a
 * minute (see stripe_responses.c).  For anything else the object itself tells.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe_requests.h"

#include "utils/formatting.h"

/* What Stripe's own clients wait. */
#define TIMEOUT_MS 80000

/* ------------------------------------------------------------------------
 * Forms
 * ------------------------------------------------------------------------
 */
void
form_open(Form *form, const ProviderCall *call)
{
	initStringInfo(&form->text);
	form->arguments = call->arguments;
}

bool
stripe_asks_for_fee(const ProviderCall *call)
{
	return json_bool(call->account->options, "read_fees", true) &&
		   !same_text(call->last_error, STRIPE_FEE_FORBIDDEN);
}

void
form_expand_fee(Form *form, const ProviderCall *call, const char *with_fee, const char *plain)
{
	form_add(form, "expand[0]", stripe_asks_for_fee(call) ? with_fee : plain);
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

void
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

void
form_argument(Form *form, const char *name, const char *path)
{
	char *value = json_text(form->arguments, path);

	if (value == NULL && json_has(form->arguments, path))
		value = "";
	form_add(form, name, value);
}

void
form_given(Form *form, const char *name, const char *path)
{
	form_add(form, name, json_text(form->arguments, path));
}

void
form_currency(Form *form, const char *name, const char *path)
{
	char *currency = json_text(form->arguments, path);

	if (currency != NULL)
		form_add(form, name, asc_tolower(currency, strlen(currency)));
}

void
form_address(Form *form, const char *name, const char *path)
{
	static const char *const lines[] = {"line1", "line2",       "city",
										"state", "postal_code", "country"};

	if (json_part(form->arguments, path) == NULL)
	{
		form_argument(form, name, path);
		return;
	}
	for (size_t i = 0; i < lengthof(lines); i++)
		form_argument(form, psprintf("%s[%s]", name, lines[i]), psprintf("%s.%s", path, lines[i]));
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

void
form_metadata(Form *form)
{
	Jsonb *metadata = json_part(form->arguments, "metadata");

	if (metadata != NULL)
		json_visit(metadata, add_metadata_member, form);
}

void
form_reference(Form *form, const ProviderCall *call)
{
	form_metadata(form);
	form_add(form, "metadata[" STRIPE_REFERENCE "]", call->reference);
	form_argument(form, "metadata[" STRIPE_ORGANIZATION "]", "organization_id");
}

void
form_reference_of(Form *form, const char *prefix, const char *reference)
{
	form_add(form, psprintf("%s[metadata][" STRIPE_REFERENCE "]", prefix), reference);
	form_given(form, psprintf("%s[metadata][" STRIPE_ORGANIZATION "]", prefix), "organization_id");
}

void
form_mandate(Form *form)
{
	const char *const acceptance = "mandate_data[customer_acceptance]";
	char *type = json_text(form->arguments, "mandate.type");

	if (type == NULL)
		return;
	form_add(form, psprintf("%s[type]", acceptance), type);
	if (strcmp(type, "online") == 0)
	{
		form_given(form, psprintf("%s[online][ip_address]", acceptance), "mandate.ip_address");
		form_given(form, psprintf("%s[online][user_agent]", acceptance), "mandate.user_agent");
	}
	form_given(form, psprintf("%s[accepted_at]", acceptance), "mandate.accepted_at");
}

/* "es-MX" is "es" to a Stripe that does not have it. */
void
form_locale(Form *form, const char *const *words, size_t count)
{
	char *locale = json_text(form->arguments, "locale");
	const char *found = NULL;

	if (locale == NULL)
		return;
	for (size_t i = 0; i < count; i++)
	{
		size_t length = strlen(words[i]);

		if (pg_strcasecmp(words[i], locale) == 0)
		{
			form_add(form, "locale", words[i]);
			return;
		}
		if (pg_strncasecmp(words[i], locale, length) == 0 && strchr("-_", locale[length]) != NULL)
			found = words[i];
	}
	form_add(form, "locale", found);
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
void
stripe_post(ProviderRequest *request, const char *path, const Form *form)
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

void
stripe_get(ProviderRequest *request, const char *path, const Form *form)
{
	send_query(request, "GET", path, form);
}

void
stripe_delete(ProviderRequest *request, const char *path, const Form *form)
{
	send_query(request, "DELETE", path, form);
}

char *
stripe_path(const ProviderCall *call, const char *collection, const char *argument)
{
	return psprintf("/v1/%s/%s", collection,
					path_part(json_text(call->arguments, argument), argument));
}

void
stripe_verb(const ProviderCall *call, ProviderRequest *request, const char *path, const char *verb)
{
	Form form;

	form_open(&form, call);
	stripe_post(request, psprintf("%s/%s", path, verb), &form);
}

/* ------------------------------------------------------------------------
 * Steps
 * ------------------------------------------------------------------------
 */
static const StripeOperations *const subjects[] = {
	&stripe_customer_operations,     &stripe_payment_method_operations, &stripe_catalog_operations,
	&stripe_subscription_operations, &stripe_payment_operations,        &stripe_refund_operations,
	&stripe_checkout_operations,     &stripe_invoice_operations,        &stripe_account_operations,
	&stripe_usage_operations,
};

static const StripeOperation *
find_operation(Operation operation)
{
	for (size_t i = 0; i < lengthof(subjects); i++)
	{
		for (size_t j = 0; j < subjects[i]->count; j++)
		{
			if (subjects[i]->operations[j].operation == operation)
				return &subjects[i]->operations[j];
		}
	}
	elog(ERROR, "Stripe has no operation %s", operation_name(operation));
}

const StripeStep *
stripe_step(const ProviderCall *call, bool *confirming)
{
	const StripeOperation *operation = find_operation(call->operation);
	const StripeStep *step = operation->step != NULL ? operation->step : operation->pick(call);

	*confirming = operation->step != NULL && step->confirms && call->step > 0;
	return step;
}

void
stripe_build_request(const ProviderCall *call, ProviderRequest *request)
{
	bool confirming;
	const StripeStep *step = stripe_step(call, &confirming);

	if (confirming)
		step->build_lookup(call, request);
	else
		step->build(call, request);
}

void
stripe_build_lookup(const ProviderCall *call, ProviderRequest *request)
{
	bool confirming;
	const StripeStep *step = stripe_step(call, &confirming);

	if (step->proof == PROOF_REPEAT)
		step->build(call, request);
	else
		step->build_lookup(call, request);
}

void
stripe_search(const ProviderCall *call, const char *collection, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "query", psprintf("metadata['" STRIPE_REFERENCE "']:'%s'", call->reference));
	stripe_get(request, psprintf("/v1/%s/search", collection), &form);
}

void
stripe_list_children(const ProviderCall *call, const char *collection, const char *parent,
					 const char *expand, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	if (parent != NULL)
		form_given(&form, parent, parent);
	/* the ended ones too: Stripe lists subscriptions without them */
	if (call->operation == OPERATION_SUBSCRIPTION_CREATE)
		form_add(&form, "status", "all");
	if (expand != NULL)
		form_add(&form, "expand[0]", psprintf("data.%s", expand));
	form_add(&form, "limit", STRIPE_LIST_LIMIT);
	stripe_get(request, psprintf("/v1/%s", collection), &form);
}

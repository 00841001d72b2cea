/*-------------------------------------------------------------------------
 *
 * stripe_responses.c
 *	  Stripe's answers become outcomes.
 *
 * Two questions are answered here.  Of a response: was it done, and if not,
 * may the same key be sent again?  Of a look-up: had a request been carried
 * out whose answer was lost?  Both end in the same snapshots.
 *
 * Stripe keeps the answer of a key and gives it again, a failure of its own
 * (500) included.  Hence the two ways to go on after a failure: the same key
 * where no answer can have been kept, the look-up where one was.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe.h"

#include "json.h"

/* Stripe: what was written may be missing in a search for up to a minute. */
#define SEARCH_LAG 60

/* ------------------------------------------------------------------------
 * Errors
 * ------------------------------------------------------------------------
 */
static bool
header_says(const HttpResponse *response, const char *name, const char *value)
{
	char *found = http_header(response, name);

	return found != NULL && pg_strcasecmp(found, value) == 0;
}

/* Either may be missing, and then they are not the same. */
static bool
same_text(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

static const char *
transport_word(HttpTransport transport)
{
	switch (transport)
	{
		case HTTP_ANSWERED:
			return "answered";
		case HTTP_NOT_SENT:
			return "not_sent";
		case HTTP_NO_ANSWER:
			return "no_answer";
		case HTTP_TOO_LARGE:
			return "too_large";
		case HTTP_MALFORMED:
			return "malformed";
	}
	return NULL;
}

static void
set_error(CallResult *result, Outcome outcome, const char *type, const char *code)
{
	result->outcome = outcome;
	result->error_type = type;
	result->error_code = code;
}

/*
 * The status decides, Stripe-Should-Retry overrules it.  An answer with status
 * 500 and Stripe's own error in it, or one that says that it is a replay, is
 * kept under the key: to send that key again only brings it back.
 */
static Outcome
outcome_of_status(const HttpResponse *response, const char *type, const char *code)
{
	int status = response->status;
	bool replayed = header_says(response, "idempotent-replayed", "true");
	bool may_retry = !header_says(response, "stripe-should-retry", "false");

	if (status >= 500 && replayed)
		return OUTCOME_UNKNOWN;
	if (header_says(response, "stripe-should-retry", "true"))
		return OUTCOME_RETRY;
	if (status >= 500)
		return may_retry && !(status == 500 && type != NULL) ? OUTCOME_RETRY : OUTCOME_UNKNOWN;
	if (status == 409 || status == 429 || (status == 400 && same_text(code, "rate_limit")))
		return may_retry ? OUTCOME_RETRY : OUTCOME_REFUSED;
	if (status == 401)
		return OUTCOME_ACCOUNT_STOPPED;
	if (status == 402)
		return OUTCOME_DECLINED;
	/* The key had carried another body: only a look-up tells what became of that. */
	if (status == 400 && same_text(type, "idempotency_error"))
		return OUTCOME_UNKNOWN;
	return OUTCOME_REFUSED;
}

/* body: NULL when it is not JSON, as from a proxy on the way. */
static void
read_error(const HttpResponse *response, const Jsonb *body, CallResult *result)
{
	char *type = body == NULL ? NULL : json_text(body, "error.type");
	char *code = body == NULL ? NULL : json_text(body, "error.code");
	char *decline_code = body == NULL ? NULL : json_text(body, "error.decline_code");
	Outcome outcome = outcome_of_status(response, type, code);

	if (response->status >= 300 && response->status < 400)
		type = "redirect";
	else if (type == NULL)
		type = "http_error";
	if (decline_code != NULL)
		code = decline_code;
	else if (code == NULL)
		code = psprintf("%d", response->status);
	set_error(result, outcome, type, code);
	if (outcome == OUTCOME_RETRY)
		result->retry_after = http_retry_after(response);
}

/*
 * Empties the result, takes what every answer has, and returns the body; NULL
 * when the call got no answer or an answer without JSON.
 */
static Jsonb *
open_answer(const HttpResponse *response, CallResult *result)
{
	const char *reason;

	memset(result, 0, sizeof(*result));
	result->outcome = OUTCOME_UNKNOWN;
	result->retry_after = -1;
	if (response->transport != HTTP_ANSWERED)
	{
		result->error_type = "transport";
		result->error_code = transport_word(response->transport);
		return NULL;
	}
	result->provider_request_id = http_header(response, "request-id");
	return json_parse(response->body, response->body_length, &reason);
}

static bool
is_success(const HttpResponse *response)
{
	return response->transport == HTTP_ANSWERED && response->status >= 200 &&
		   response->status < 300;
}

/* ------------------------------------------------------------------------
 * Objects in answers
 * ------------------------------------------------------------------------
 */
static BillingObject
expected_type(const ProviderCall *call)
{
	switch (call->operation)
	{
		case OPERATION_PAYMENT_METHOD_ATTACH:
			return call->step == 0 ? BILLING_PAYMENT_METHOD : BILLING_CUSTOMER;
		case OPERATION_PAYMENT_METHOD_DETACH:
			return BILLING_PAYMENT_METHOD;
		case OPERATION_PRODUCT_CREATE:
			return BILLING_PRODUCT;
		case OPERATION_PRICE_CREATE:
			return BILLING_PRICE;
		case OPERATION_SUBSCRIPTION_CREATE:
		case OPERATION_SUBSCRIPTION_UPDATE:
		case OPERATION_SUBSCRIPTION_CANCEL:
		case OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END:
		case OPERATION_SUBSCRIPTION_UNCANCEL:
		case OPERATION_SUBSCRIPTION_RESUME:
			return BILLING_SUBSCRIPTION;
		default:
			return BILLING_CUSTOMER;
	}
}

/* Stripe's id of the object in question; NULL where the answer brings it. */
static char *
expected_id(const ProviderCall *call)
{
	switch (expected_type(call))
	{
		case BILLING_CUSTOMER:
			return json_text(call->arguments, "customer");
		case BILLING_SUBSCRIPTION:
			return json_text(call->arguments, "subscription");
		case BILLING_PAYMENT_METHOD:
			/* a token that is attached may become a method of another id */
			if (call->operation == OPERATION_PAYMENT_METHOD_DETACH)
				return json_text(call->arguments, "payment_method");
			return NULL;
		default:
			return NULL;
	}
}

static bool
makes_object(const ProviderCall *call)
{
	switch (call->operation)
	{
		case OPERATION_CUSTOMER_CREATE:
		case OPERATION_PRODUCT_CREATE:
		case OPERATION_PRICE_CREATE:
		case OPERATION_SUBSCRIPTION_CREATE:
			return true;
		case OPERATION_PAYMENT_METHOD_ATTACH:
			return call->step == 0;
		default:
			return false;
	}
}

/* A method that is attached as the default takes a second request. */
static void
plan_set_default(const ProviderCall *call, const char *payment_method, CallResult *result)
{
	JsonBuilder carry;

	if (call->operation != OPERATION_PAYMENT_METHOD_ATTACH || call->step != 0 ||
		!json_bool(call->arguments, "set_default", false))
		return;
	json_open(&carry);
	json_add_text(&carry, "payment_method", payment_method);
	result->carry = json_close(&carry);
	result->next_step = 1;
}

/*
 * DONE when object is what the call is about, and UNKNOWN otherwise.  The
 * latest invoice, where it came along, is a snapshot of its own.
 */
static void
take_object(const ProviderCall *call, const Jsonb *object, CallResult *result)
{
	bool livemode = call->account->livemode;
	ProviderSnapshot *snapshot = object == NULL ? NULL : stripe_snapshot(object, livemode);
	char *id = expected_id(call);
	Jsonb *invoice;

	if (snapshot == NULL || snapshot->type != expected_type(call) ||
		(id != NULL && strcmp(id, snapshot->provider_id) != 0))
	{
		set_error(result, OUTCOME_UNKNOWN, "unreadable_answer", NULL);
		return;
	}

	if (makes_object(call) && snapshot->reference == NULL)
		snapshot->reference = call->reference;
	if (call->operation == OPERATION_PAYMENT_METHOD_DETACH &&
		snapshot->payment_method.customer == NULL)
		snapshot->deleted = snapshot->terminal = true;
	result->outcome = OUTCOME_DONE;
	result->snapshots = list_make1(snapshot);
	plan_set_default(call, snapshot->provider_id, result);

	invoice = json_part(object, "latest_invoice");
	if (invoice != NULL && (snapshot = stripe_snapshot(invoice, livemode)) != NULL)
		result->snapshots = lappend(result->snapshots, snapshot);
}

/* The item that a plan change is about; the change itself is the next step. */
static void
take_item(const Jsonb *subscription, CallResult *result)
{
	JsonBuilder carry;
	char *item = subscription == NULL ? NULL : json_text(subscription, "items.data.0.id");

	if (item == NULL)
	{
		set_error(result, OUTCOME_REFUSED, "no_item", NULL);
		return;
	}
	json_open(&carry);
	json_add_text(&carry, "item", item);
	result->carry = json_close(&carry);
	result->next_step = 1;
	result->outcome = OUTCOME_DONE;
}

/* ------------------------------------------------------------------------
 * Tax ids: one request for each that is wrong or missing
 * ------------------------------------------------------------------------
 */

/* Is {type, value} among the first count elements of the array at path? */
static bool
has_tax_id(const Jsonb *json, const char *path, int count, const char *type, const char *value)
{
	for (int i = 0; i < count; i++)
	{
		if (same_text(json_text(json, psprintf("%s.%d.type", path, i)), type) &&
			same_text(json_text(json, psprintf("%s.%d.value", path, i)), value))
			return true;
	}
	return false;
}

/* Done, or on to the next step when carry {remove, add} has something left. */
static void
continue_tax_ids(const ProviderCall *call, const Jsonb *carry, CallResult *result)
{
	result->outcome = OUTCOME_DONE;
	if (json_length(carry, "remove") > 0 || json_length(carry, "add") > 0)
	{
		result->carry = carry;
		result->next_step = call->step + 1;
	}
}

static void
plan_tax_ids(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	JsonBuilder carry;
	int present = json_length(list, "data");
	int wanted = json_length(call->arguments, "tax_ids");

	json_open(&carry);
	json_open_array(&carry, "remove");
	for (int i = 0; i < present; i++)
	{
		char *type = json_text(list, psprintf("data.%d.type", i));
		char *value = json_text(list, psprintf("data.%d.value", i));

		if (!has_tax_id(call->arguments, "tax_ids", wanted, type, value))
			json_append_text(&carry, json_text(list, psprintf("data.%d.id", i)));
	}
	json_close_array(&carry);
	json_open_array(&carry, "add");
	for (int i = 0; i < wanted; i++)
	{
		char *type = json_text(call->arguments, psprintf("tax_ids.%d.type", i));
		char *value = json_text(call->arguments, psprintf("tax_ids.%d.value", i));

		if (!has_tax_id(list, "data", present, type, value) &&
			!has_tax_id(call->arguments, "tax_ids", i, type, value))
			json_append_json(&carry, json_part(call->arguments, psprintf("tax_ids.%d", i)));
	}
	json_close_array(&carry);
	continue_tax_ids(call, json_close(&carry), result);
}

/* The first of what was to do is done. */
static void
finish_tax_id(const ProviderCall *call, CallResult *result)
{
	JsonBuilder carry;
	int removals = json_length(call->carry, "remove");
	int additions = json_length(call->carry, "add");

	json_open(&carry);
	json_open_array(&carry, "remove");
	for (int i = 1; i < removals; i++)
		json_append_text(&carry, json_text(call->carry, psprintf("remove.%d", i)));
	json_close_array(&carry);
	json_open_array(&carry, "add");
	for (int i = removals > 0 ? 0 : 1; i < additions; i++)
		json_append_json(&carry, json_part(call->carry, psprintf("add.%d", i)));
	json_close_array(&carry);
	continue_tax_ids(call, json_close(&carry), result);
}

static void
take_tax_id_step(const ProviderCall *call, const Jsonb *body, CallResult *result)
{
	if (body != NULL && call->step == 0 && json_part(body, "data") != NULL)
		plan_tax_ids(call, body, result);
	else if (body != NULL && call->step > 0 && json_text(body, "id") != NULL)
		finish_tax_id(call, result);
	else
		set_error(result, OUTCOME_UNKNOWN, "unreadable_answer", NULL);
}

/* Of a step whose answer was lost: is the first of what was to do done? */
static bool
tax_id_step_shows(const ProviderCall *call, const Jsonb *list)
{
	int present = json_length(list, "data");
	char *removed = json_text(call->carry, "remove.0");

	if (removed == NULL)
		return has_tax_id(list, "data", present, json_text(call->carry, "add.0.type"),
						  json_text(call->carry, "add.0.value"));
	for (int i = 0; i < present; i++)
	{
		if (same_text(json_text(list, psprintf("data.%d.id", i)), removed))
			return false;
	}
	return true;
}

/* ------------------------------------------------------------------------
 * Answers to requests
 * ------------------------------------------------------------------------
 */
static void
read_success(const ProviderCall *call, const Jsonb *body, CallResult *result)
{
	if (call->operation == OPERATION_CUSTOMER_SET_TAX_IDS)
		take_tax_id_step(call, body, result);
	else if (stripe_step_reads_item(call))
		take_item(body, result);
	else
		take_object(call, body, result);
}

/* The end of something that may have ended already: Stripe refuses it, the object tells. */
static bool
may_have_ended(const ProviderCall *call, const HttpResponse *response)
{
	ProviderCall confirmation = *call;

	confirmation.step = 1;
	return call->step == 0 && stripe_step_confirms_end(&confirmation) &&
		   (response->status == 400 || response->status == 404);
}

/* The next step looks; it falls back on this refusal. */
static void
plan_confirmation(CallResult *result)
{
	JsonBuilder carry;

	json_open(&carry);
	json_add_text(&carry, "error_type", result->error_type);
	json_add_text(&carry, "error_code", result->error_code);
	result->carry = json_close(&carry);
	result->next_step = 1;
	set_error(result, OUTCOME_DONE, NULL, NULL);
}

static void
read_confirmation(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	stripe_read_lookup(call, response, result);
	if (result->outcome == OUTCOME_ABSENT)
	{
		set_error(result, OUTCOME_REFUSED, json_text(call->carry, "error_type"),
				  json_text(call->carry, "error_code"));
		result->start_over = true;
	}
}

static bool
removes_tax_id(const ProviderCall *call)
{
	return call->operation == OPERATION_CUSTOMER_SET_TAX_IDS && call->step > 0 &&
		   json_length(call->carry, "remove") > 0;
}

void
stripe_read_response(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	Jsonb *body;

	if (stripe_step_confirms_end(call))
	{
		read_confirmation(call, response, result);
		return;
	}

	body = open_answer(response, result);
	if (response->transport == HTTP_NOT_SENT || response->transport == HTTP_NO_ANSWER)
		result->outcome = OUTCOME_RETRY;
	else if (is_success(response))
		read_success(call, body, result);
	else if (response->transport == HTTP_ANSWERED)
	{
		read_error(response, body, result);
		if (result->outcome == OUTCOME_REFUSED && may_have_ended(call, response))
			plan_confirmation(result);
		else if (response->status == 404 && removes_tax_id(call))
		{
			set_error(result, OUTCOME_DONE, NULL, NULL);
			finish_tax_id(call, result);
		}
	}
}

/* ------------------------------------------------------------------------
 * Look-ups
 * ------------------------------------------------------------------------
 */

/* Is the argument not given, or equal to what the object has?  Null is equal to none. */
static bool
same(const ProviderCall *call, const char *argument, const char *actual)
{
	char *wanted;

	if (!json_has(call->arguments, argument))
		return true;
	wanted = json_text(call->arguments, argument);
	if (wanted == NULL || actual == NULL)
		return wanted == NULL && actual == NULL;
	return strcmp(wanted, actual) == 0;
}

/*
 * An update that is sent twice changes nothing the second time, so "no" is
 * always a safe answer; what is compared is what is easy to compare.
 */
static bool
customer_shows(const ProviderCall *call, const Jsonb *customer)
{
	return !json_has(call->arguments, "address") && !json_has(call->arguments, "locale") &&
		   !json_has(call->arguments, "metadata") &&
		   same(call, "email", json_text(customer, "email")) &&
		   same(call, "name", json_text(customer, "name")) &&
		   same(call, "phone", json_text(customer, "phone")) &&
		   same(call, "description", json_text(customer, "description")) &&
		   same(call, "tax_exempt", json_text(customer, "tax_exempt"));
}

static bool
subscription_shows(const ProviderCall *call, const Jsonb *subscription)
{
	return same(call, "price", stripe_id_at(subscription, "items.data.0.price")) &&
		   same(call, "quantity", json_text(subscription, "items.data.0.quantity")) &&
		   same(call, "payment_method", stripe_id_at(subscription, "default_payment_method")) &&
		   same(call, "trial_end", json_text(subscription, "trial_end")) &&
		   same(call, "cancel_at", json_text(subscription, "cancel_at"));
}

/* Does the object show what the operation (or this step of it) wanted? */
static bool
shows_wanted(const ProviderCall *call, const Jsonb *object)
{
	const char *const default_method = "invoice_settings.default_payment_method";
	char *status = json_text(object, "status");
	bool ended = same_text(status, "canceled") || same_text(status, "incomplete_expired");

	switch (call->operation)
	{
		case OPERATION_CUSTOMER_UPDATE:
			return customer_shows(call, object);
		case OPERATION_CUSTOMER_DELETE:
			return json_bool(object, "deleted", false);
		case OPERATION_PAYMENT_METHOD_ATTACH:
			if (call->step == 1)
				return same_text(stripe_id_at(object, default_method),
								 json_text(call->carry, "payment_method"));
			return same_text(stripe_id_at(object, "customer"),
							 json_text(call->arguments, "customer"));
		case OPERATION_PAYMENT_METHOD_SET_DEFAULT:
			return same_text(stripe_id_at(object, default_method),
							 json_text(call->arguments, "payment_method"));
		case OPERATION_PAYMENT_METHOD_DETACH:
			return stripe_id_at(object, "customer") == NULL;
		case OPERATION_SUBSCRIPTION_UPDATE:
			return subscription_shows(call, object);
		case OPERATION_SUBSCRIPTION_CANCEL:
			return ended;
		case OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END:
			return ended || json_bool(object, "cancel_at_period_end", false);
		case OPERATION_SUBSCRIPTION_UNCANCEL:
			return !ended && !json_bool(object, "cancel_at_period_end", false);
		case OPERATION_SUBSCRIPTION_RESUME:
			return !ended && !same_text(status, "paused") &&
				   json_part(object, "pause_collection") == NULL;
		default:
			return false;
	}
}

/*
 * The one with our reference.  A search may not show yet what was made less
 * than a minute ago; until then its silence proves nothing.
 */
static void
find_created(const ProviderCall *call, const HttpResponse *response, const Jsonb *list,
			 CallResult *result)
{
	bool searched = call->operation == OPERATION_CUSTOMER_CREATE ||
					call->operation == OPERATION_PRODUCT_CREATE;
	int count = json_length(list, "data");
	int64 age;

	for (int i = 0; i < count; i++)
	{
		char *reference = json_text(list, psprintf("data.%d.metadata." STRIPE_REFERENCE, i));

		if (same_text(reference, call->reference))
		{
			take_object(call, json_part(list, psprintf("data.%d", i)), result);
			return;
		}
	}

	result->outcome = OUTCOME_ABSENT;
	age = (response->received_at - call->sent_at) / USECS_PER_SEC;
	if (searched && call->sent_at != 0 && age < SEARCH_LAG)
	{
		set_error(result, OUTCOME_RETRY, "search_lag", NULL);
		result->retry_after = SEARCH_LAG - (int) Max(age, 0);
	}
}

static void
read_found(const ProviderCall *call, const HttpResponse *response, const Jsonb *body,
		   CallResult *result)
{
	bool is_list = json_part(body, "data") != NULL;

	if (call->operation == OPERATION_CUSTOMER_SET_TAX_IDS && is_list && call->step > 0)
	{
		if (tax_id_step_shows(call, body))
			finish_tax_id(call, result);
		else
			result->outcome = OUTCOME_ABSENT;
	}
	else if (call->operation == OPERATION_CUSTOMER_SET_TAX_IDS || stripe_step_reads_item(call))
		read_success(call, body, result);
	else if (makes_object(call) && call->operation != OPERATION_PAYMENT_METHOD_ATTACH && is_list)
		find_created(call, response, body, result);
	else if (shows_wanted(call, body))
		take_object(call, body, result);
	else
		result->outcome = OUTCOME_ABSENT;
}

/*
 * The object that was looked for is not there.  For what was to be removed that
 * is the wanted end; a token that was never attached need not be known.
 */
static bool
read_not_found(const ProviderCall *call, CallResult *result)
{
	switch (call->operation)
	{
		case OPERATION_CUSTOMER_DELETE:
		case OPERATION_PAYMENT_METHOD_DETACH:
			set_error(result, OUTCOME_DONE, NULL, NULL);
			result->snapshots = list_make1(stripe_gone_snapshot(
				expected_type(call), expected_id(call), call->account->livemode));
			return true;
		case OPERATION_PAYMENT_METHOD_ATTACH:
			if (call->step == 1)
				return false;
			set_error(result, OUTCOME_ABSENT, NULL, NULL);
			return true;
		default:
			return false;
	}
}

/* Asking again is always safe here, so whatever is not an answer is RETRY. */
void
stripe_read_lookup(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	Jsonb *body = open_answer(response, result);

	if (is_success(response) && body != NULL)
		read_found(call, response, body, result);
	else if (response->transport == HTTP_ANSWERED && !is_success(response))
	{
		if (response->status == 404 && read_not_found(call, result))
			return;
		read_error(response, body, result);
	}
	else if (response->transport == HTTP_ANSWERED)
		result->error_type = "unreadable_answer";
	if (result->outcome == OUTCOME_UNKNOWN)
		result->outcome = OUTCOME_RETRY;
	else if (result->outcome == OUTCOME_DECLINED)
		result->outcome = OUTCOME_REFUSED;
}

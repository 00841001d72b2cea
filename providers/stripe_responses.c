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

void
stripe_set_unreadable(CallResult *result)
{
	result_set_error(result, OUTCOME_UNKNOWN, "unreadable_answer", NULL);
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
	result_set_error(result, outcome, type, code);
	if (outcome == OUTCOME_RETRY)
		result->retry_after = http_retry_after(response);
}

/*
 * A restricted key may charge, but not read what Stripe keeps of it.  Whether it
 * was carried out before the answer was put together nobody says: that is looked
 * up, and then asked for without the fee.
 */
static bool
fee_is_forbidden(const ProviderCall *call, const StripeStep *step, const HttpResponse *response)
{
	return response->status == 403 && stripe_asks_for_fee(call) &&
		   (step->type == BILLING_PAYMENT_INTENT || step->type == BILLING_REFUND);
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
		result->error_code = http_transport_word(response->transport);
		return NULL;
	}
	result->provider_request_id = http_header(response, "request-id");
	return json_parse(response->body, response->body_length, &reason);
}

/* ------------------------------------------------------------------------
 * Objects in answers
 * ------------------------------------------------------------------------
 */
const Jsonb *
stripe_carry(const char *name, const char *value)
{
	JsonBuilder carry;

	json_open(&carry);
	json_add_text(&carry, name, value);
	return json_close(&carry);
}

void
stripe_continue(const ProviderCall *call, const Jsonb *carry, CallResult *result)
{
	result_set_error(result, OUTCOME_DONE, NULL, NULL);
	result->carry = carry;
	result->next_step = call->step + 1;
}

/* What an object contains whole, because we asked for it, is a snapshot of its own. */
static void
take_children(const ProviderCall *call, const Jsonb *object, CallResult *result)
{
	static const char *const names[] = {"latest_invoice", "payment_intent"};

	for (size_t i = 0; i < lengthof(names); i++)
	{
		Jsonb *child = json_part(object, names[i]);
		ProviderSnapshot *snapshot = child == NULL
										 ? NULL
										 : stripe_snapshot(child, call->account->livemode);

		if (snapshot != NULL)
			result->snapshots = lappend(result->snapshots, snapshot);
	}
}

void
stripe_take_object(const ProviderCall *call, const Jsonb *object, CallResult *result)
{
	bool confirming;
	const StripeStep *step = stripe_step(call, &confirming);
	ProviderSnapshot *snapshot = object == NULL ? NULL
												: stripe_snapshot(object, call->account->livemode);
	char *id = step->argument == NULL ? NULL : json_text(call->arguments, step->argument);

	if (snapshot == NULL || snapshot->type != step->type ||
		(id != NULL && strcmp(id, snapshot->provider_id) != 0))
	{
		stripe_set_unreadable(result);
		return;
	}
	if (step->makes_reference && snapshot->reference == NULL)
		snapshot->reference = call->reference;
	result_set_error(result, OUTCOME_DONE, NULL, NULL);
	result->snapshots = list_make1(snapshot);
	take_children(call, object, result);
}

/* More than ten thousand objects are not fetched by one call. */
#define PAGES_MAX 100

const char *
stripe_page_start(const ProviderCall *call)
{
	return call->carry == NULL ? NULL : json_text(call->carry, "starting_after");
}

void
stripe_take_page(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	int count = json_length(list, "data");
	char *last = NULL;

	if (json_part(list, "data") == NULL)
	{
		stripe_set_unreadable(result);
		return;
	}
	result_set_error(result, OUTCOME_DONE, NULL, NULL);
	for (int i = 0; i < count; i++)
	{
		Jsonb *object = json_part(list, psprintf("data.%d", i));
		ProviderSnapshot *snapshot = object == NULL
										 ? NULL
										 : stripe_snapshot(object, call->account->livemode);

		if (snapshot == NULL)
			continue;
		result->snapshots = lappend(result->snapshots, snapshot);
		last = pstrdup(snapshot->provider_id);
	}
	if (last != NULL && json_bool(list, "has_more", false) && call->step + 1 < PAGES_MAX)
		stripe_continue(call, stripe_carry("starting_after", last), result);
}

/* ------------------------------------------------------------------------
 * Answers to requests
 * ------------------------------------------------------------------------
 */
static void
take(const ProviderCall *call, const StripeStep *step, const Jsonb *body, CallResult *result)
{
	if (step->take != NULL)
		step->take(call, body, result);
	else
		stripe_take_object(call, body, result);
}

/* The next step looks; it falls back on this refusal. */
static void
plan_confirmation(const ProviderCall *call, CallResult *result)
{
	JsonBuilder carry;

	json_open(&carry);
	json_add_text(&carry, "error_type", result->error_type);
	json_add_text(&carry, "error_code", result->error_code);
	stripe_continue(call, json_close(&carry), result);
}

static void
read_confirmation(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	stripe_read_lookup(call, response, result);
	if (result->outcome == OUTCOME_ABSENT)
	{
		result_set_error(result, OUTCOME_REFUSED, json_text(call->carry, "error_type"),
						 json_text(call->carry, "error_code"));
		result->start_over = true;
	}
}

/* It is gone: what was made in passing is nothing to us, an object of ours is told as gone. */
static void
take_gone(const ProviderCall *call, const StripeStep *step, CallResult *result)
{
	ProviderSnapshot *snapshot;

	result_set_error(result, OUTCOME_DONE, NULL, NULL);
	if (step->argument == NULL)
	{
		take(call, step, NULL, result);
		return;
	}
	snapshot = stripe_gone_snapshot(step->type, json_text(call->arguments, step->argument),
									call->account->livemode);
	result->snapshots = list_make1(snapshot);
}

/*
 * A payment that was declined comes along in the error.  Of a setup or payment
 * that was made in passing nothing is kept.
 */
static void
take_declined(const ProviderCall *call, const StripeStep *step, const Jsonb *body,
			  CallResult *result)
{
	static const char *const names[] = {"error.payment_intent", "error.setup_intent"};

	if (step->type != BILLING_PAYMENT_INTENT && step->type != BILLING_SETUP_INTENT &&
		step->type != BILLING_INVOICE)
		return;
	for (size_t i = 0; i < lengthof(names); i++)
	{
		Jsonb *object = json_part(body, names[i]);
		ProviderSnapshot *snapshot = object == NULL
										 ? NULL
										 : stripe_snapshot(object, call->account->livemode);

		if (snapshot == NULL)
			continue;
		if (step->makes_reference && snapshot->type == step->type && snapshot->reference == NULL)
			snapshot->reference = call->reference;
		result->snapshots = lappend(result->snapshots, snapshot);
	}
}

static void
read_refusal(const ProviderCall *call, const StripeStep *step, const HttpResponse *response,
			 const Jsonb *body, CallResult *result)
{
	bool missing = response->status == 404;

	read_error(response, body, result);
	if (fee_is_forbidden(call, step, response))
		result_set_error(result, OUTCOME_UNKNOWN, result->error_type, STRIPE_FEE_FORBIDDEN);
	else if (result->outcome == OUTCOME_DECLINED && body != NULL)
		take_declined(call, step, body, result);
	else if (result->outcome != OUTCOME_REFUSED)
		return;
	else if (step->confirms && call->step == 0 && (missing || response->status == 400))
		plan_confirmation(call, result);
	else if (step->removes && missing)
		take_gone(call, step, result);
	else if (step->known != NULL && same_text(result->error_code, step->known))
		take(call, step, body, result);
}

void
stripe_read_response(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	bool confirming;
	const StripeStep *step = stripe_step(call, &confirming);
	Jsonb *body;

	if (confirming)
	{
		read_confirmation(call, response, result);
		return;
	}
	body = open_answer(response, result);
	if (response->transport == HTTP_NOT_SENT || response->transport == HTTP_NO_ANSWER)
		result->outcome = OUTCOME_RETRY;
	else if (answer_is_success(response) && body != NULL)
		take(call, step, body, result);
	else if (answer_is_success(response))
		stripe_set_unreadable(result);
	else if (response->transport == HTTP_ANSWERED)
		read_refusal(call, step, response, body, result);
}

/* ------------------------------------------------------------------------
 * Look-ups
 * ------------------------------------------------------------------------
 */
bool
stripe_shows_argument(const ProviderCall *call, const char *argument, const char *actual)
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
 * The one with our reference.  A search may not show yet what was made less
 * than a minute ago; until then its silence proves nothing.
 */
static void
find_created(const ProviderCall *call, const StripeStep *step, const HttpResponse *response,
			 const Jsonb *list, CallResult *result)
{
	int count = json_length(list, "data");
	int64 age;

	for (int i = 0; i < count; i++)
	{
		char *reference = json_text(list, psprintf("data.%d.metadata." STRIPE_REFERENCE, i));

		if (same_text(reference, call->reference))
		{
			take(call, step, json_part(list, psprintf("data.%d", i)), result);
			return;
		}
	}

	result->outcome = OUTCOME_ABSENT;
	age = (response->received_at - call->sent_at) / USECS_PER_SEC;
	if (step->proof == PROOF_SEARCH && call->sent_at != 0 && age < SEARCH_LAG)
	{
		result_set_error(result, OUTCOME_RETRY, "search_lag", NULL);
		result->retry_after = SEARCH_LAG - (int) Max(age, 0);
	}
}

static void
read_found(const ProviderCall *call, const StripeStep *step, const HttpResponse *response,
		   const Jsonb *body, CallResult *result)
{
	bool is_list = step->proof == PROOF_LIST || step->proof == PROOF_SEARCH;

	if (is_list && json_part(body, "data") == NULL)
		stripe_set_unreadable(result);
	else if (step->found != NULL)
		step->found(call, body, result);
	else if (is_list)
		find_created(call, step, response, body, result);
	else if (step->proof == PROOF_REPEAT || (step->shows != NULL && step->shows(call, body)))
		take(call, step, body, result);
	else
		result->outcome = OUTCOME_ABSENT;
}

/* Asking again is always safe here, so whatever is not an answer is RETRY. */
void
stripe_read_lookup(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	bool confirming;
	const StripeStep *step = stripe_step(call, &confirming);
	Jsonb *body = open_answer(response, result);

	if (answer_is_success(response) && body != NULL)
		read_found(call, step, response, body, result);
	else if (response->transport == HTTP_ANSWERED && !answer_is_success(response))
	{
		if (response->status == 404 && step->removes)
			take_gone(call, step, result);
		else if (response->status == 404 && step->may_be_unknown)
			result->outcome = OUTCOME_ABSENT;
		else
			read_error(response, body, result);
		if (fee_is_forbidden(call, step, response))
			result_set_error(result, OUTCOME_RETRY, result->error_type, STRIPE_FEE_FORBIDDEN);
	}
	else if (response->transport == HTTP_ANSWERED)
		result->error_type = "unreadable_answer";
	if (result->outcome == OUTCOME_UNKNOWN)
		result->outcome = OUTCOME_RETRY;
	else if (result->outcome == OUTCOME_DECLINED)
		result->outcome = OUTCOME_REFUSED;
}

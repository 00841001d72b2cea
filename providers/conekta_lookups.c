/*-------------------------------------------------------------------------
 *
 * conekta_lookups.c
 *	  Was a request carried out whose answer was lost?
 *
 * Conekta has no idempotency keys, so that nothing that changes something is
 * sent again before this has been answered.  What was made is found by our
 * reference, by its own id (a plan), or because it is not among those that we
 * know.  Asking again is always safe: whatever is no answer is RETRY.
 *
 *-------------------------------------------------------------------------
 */
#include "conekta.h"

/*
 * How long a search may not show what was just made, in seconds.  Conekta says
 * nothing about it; this is ours, and as careful as a second charge is bad.
 */
#define SEARCH_LAG 60

/* ------------------------------------------------------------------------
 * Looking at objects
 * ------------------------------------------------------------------------
 */
bool
conekta_listed(const Jsonb *json, const char *path, const char *text)
{
	int count = json == NULL ? 0 : json_length(json, path);

	for (int i = 0; i < count; i++)
	{
		if (conekta_same(json_text(json, psprintf("%s.%d", path, i)), text))
			return true;
	}
	return false;
}

bool
conekta_order_of_session(const Jsonb *order, const char *reference)
{
	return conekta_same(json_text(order, "metadata." CONEKTA_SESSION), reference);
}

/* Is the argument not given, or equal to what the object has? */
static bool
shows(const ProviderCall *call, const char *argument, const Jsonb *object, const char *path)
{
	char *wanted = json_text(call->arguments, argument);

	return wanted == NULL || conekta_same(wanted, json_text(object, path));
}

static bool
status_is(const Jsonb *object, const char *path, const char *const *words)
{
	char *status = json_text(object, path);

	for (; status != NULL && *words != NULL; words++)
	{
		if (pg_strcasecmp(status, *words) == 0)
			return true;
	}
	return false;
}

/*
 * An update that is sent twice changes nothing the second time, so "no" is
 * always a safe answer; what is compared is what is easy to compare.
 */
static bool
customer_shows(const ProviderCall *call, const Jsonb *customer)
{
	return !json_has(call->arguments, "metadata") && shows(call, "name", customer, "name") &&
		   shows(call, "email", customer, "email") && shows(call, "phone", customer, "phone");
}

static bool
subscription_shows(const ProviderCall *call, const Jsonb *subscription)
{
	return shows(call, "price", subscription, "plan_id") &&
		   shows(call, "payment_method", subscription, "card_id") &&
		   shows(call, "trial_end", subscription, "trial_end");
}

/* A plan under our id with other terms is not the one that was to be made. */
static bool
plan_shows(const ProviderCall *call, const Jsonb *plan)
{
	return shows(call, "amount", plan, "amount") && shows(call, "currency", plan, "currency") &&
		   shows(call, "interval", plan, "interval") && shows(call, "name", plan, "name");
}

static bool
fiscal_entity_shows(const ProviderCall *call, const Jsonb *customer)
{
	int count = json_length(customer, "fiscal_entities.data");
	char *wanted = json_text(call->arguments, "tax_ids.0.value");

	for (int i = 0; i < count; i++)
	{
		if (conekta_same(json_text(customer, psprintf("fiscal_entities.data.%d.tax_id", i)),
						 wanted))
			return true;
	}
	return false;
}

static bool
endpoint_shows(const ProviderCall *call, const Jsonb *endpoint)
{
	return json_part(call->arguments, "events") == NULL && shows(call, "url", endpoint, "url") &&
		   shows(call, "enabled", endpoint, "active");
}

/* The charge of this request, by its id in reference_id, or because we do not know it. */
static bool
order_has_charge(const ProviderCall *call, const Jsonb *order)
{
	int count = json_length(order, "charges.data");

	for (int i = 0; i < count; i++)
	{
		char *at = psprintf("charges.data.%d", i);
		char *reference = json_text(order, psprintf("%s.reference_id", at));

		if (conekta_same(reference, call->request_id))
			return true;
		if (reference == NULL && json_part(call->arguments, "known") != NULL &&
			!conekta_listed(call->arguments, "known", json_text(order, psprintf("%s.id", at))))
			return true;
	}
	return false;
}

/* Does the object show what the operation (or this step of it) wanted? */
static bool
shows_wanted(const ProviderCall *call, const Jsonb *object)
{
	static const char *const ended[] = {"canceled", "cancelled", "expired", "voided", NULL};
	static const char *const captured[] = {"paid", "partially_refunded", "refunded", "charged_back",
										   NULL};
	static const char *const paused[] = {"paused", NULL};
	static const char *const running[] = {"active", "in_trial", "past_due", NULL};
	static const char *const paid[] = {"active", "in_trial", NULL};

	switch (call->operation)
	{
		case OPERATION_CUSTOMER_UPDATE:
			return customer_shows(call, object);
		case OPERATION_CUSTOMER_SET_TAX_IDS:
			return fiscal_entity_shows(call, object);
		case OPERATION_PAYMENT_METHOD_SET_DEFAULT:
			return shows(call, "payment_method", object, "default_payment_source_id");
		case OPERATION_PAYMENT_METHOD_ATTACH:
			return conekta_same(json_text(object, "default_payment_source_id"),
								json_text(call->carry, "payment_method"));
		case OPERATION_PRICE_CREATE:
			return plan_shows(call, object);
		case OPERATION_PRICE_UPDATE:
			return shows(call, "name", object, "name");
		case OPERATION_SUBSCRIPTION_UPDATE:
			return subscription_shows(call, object);
		case OPERATION_SUBSCRIPTION_CREATE:
		case OPERATION_SUBSCRIPTION_CANCEL:
		case OPERATION_CHECKOUT_SESSION_EXPIRE:
		case OPERATION_PAYMENT_LINK_CANCEL:
			return status_is(object, "status", ended);
		case OPERATION_SUBSCRIPTION_PAUSE:
			return status_is(object, "status", paused);
		case OPERATION_SUBSCRIPTION_RESUME:
			return status_is(object, "status", running);
		case OPERATION_SUBSCRIPTION_RETRY_PAYMENT:
			if (conekta_step_changes_card(call))
				return subscription_shows(call, object);
			return status_is(object, "status", paid);
		case OPERATION_PAYMENT_INTENT_CAPTURE:
			return status_is(object, "payment_status", captured);
		case OPERATION_PAYMENT_INTENT_CANCEL:
			return status_is(object, "payment_status", ended);
		case OPERATION_WEBHOOK_ENDPOINT_UPDATE:
			return endpoint_shows(call, object);
		case OPERATION_PORTAL_SESSION_CREATE:
			return true;
		default:
			/* what was to be deleted is still there */
			return false;
	}
}

/* ------------------------------------------------------------------------
 * Looking for what was made
 * ------------------------------------------------------------------------
 */

/* Conekta gives all of them at once; with more of them nobody can say that it is not there. */
static bool
is_complete(const Jsonb *list, CallResult *result)
{
	if (!json_bool(list, "has_more", false))
		return true;
	result_set_error(result, OUTCOME_RETRY, "incomplete_list", NULL);
	return false;
}

static bool
is_made_by(const ProviderCall *call, const Jsonb *object)
{
	char *reference = json_text(object, "metadata." CONEKTA_REFERENCE);
	char *session = json_text(object, "metadata." CONEKTA_SESSION);

	switch (call->operation)
	{
		case OPERATION_CUSTOMER_CREATE:
			return conekta_same(reference, call->reference) ||
				   conekta_same(json_text(object, "custom_reference"), call->reference);
		case OPERATION_PAYMENT_INTENT_CREATE:
			return conekta_same(reference, call->reference) && session == NULL;
		case OPERATION_CHECKOUT_SESSION_CREATE:
			return conekta_same(session, call->reference);
		case OPERATION_PAYMENT_LINK_CREATE:
			return conekta_is_link(call, object);
		case OPERATION_WEBHOOK_ENDPOINT_CREATE:
			return shows(call, "url", object, "url");
		default:
			return !conekta_listed(call->arguments, "known", json_text(object, "id"));
	}
}

/* A source or a subscription like the one that we wanted, not only one that is new. */
static bool
is_of_this_kind(const ProviderCall *call, const Jsonb *object)
{
	char *type = json_text(call->arguments, "type");
	bool card = conekta_same(json_text(object, "type"), "card");

	if (call->operation == OPERATION_PAYMENT_METHOD_ATTACH)
		return card == (type == NULL || strcmp(type, "card") == 0);
	if (call->operation == OPERATION_SUBSCRIPTION_CREATE)
		return shows(call, "price", object, "plan_id");
	return true;
}

/* The newest of those that can be it; NULL when there is none. */
static Jsonb *
find_made(const ProviderCall *call, const Jsonb *list)
{
	int count = json_length(list, "data");
	TimestampTz newest = 0;
	Jsonb *found = NULL;

	for (int i = 0; i < count; i++)
	{
		Jsonb *object = json_part(list, psprintf("data.%d", i));
		TimestampTz created;

		if (object == NULL || !is_made_by(call, object) || !is_of_this_kind(call, object))
			continue;
		created = json_unix_time(object, "created_at");
		if (found == NULL || created > newest)
		{
			newest = created;
			found = object;
		}
	}
	return found;
}

/* Until then its silence proves nothing. */
static bool
search_may_lag(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	bool searched = call->operation == OPERATION_CUSTOMER_CREATE ||
					call->operation == OPERATION_PAYMENT_INTENT_CREATE ||
					call->operation == OPERATION_CHECKOUT_SESSION_CREATE ||
					call->operation == OPERATION_PAYMENT_LINK_CREATE;
	int64 age = (response->received_at - call->sent_at) / USECS_PER_SEC;

	if (!searched || call->sent_at == 0 || age >= SEARCH_LAG)
		return false;
	result_set_error(result, OUTCOME_RETRY, "search_lag", NULL);
	result->retry_after = SEARCH_LAG - (int) Max(age, 0);
	return true;
}

static void
read_list(const ProviderCall *call, const HttpResponse *response, const Jsonb *list,
		  CallResult *result)
{
	Jsonb *made = find_made(call, list);

	if (made != NULL)
		conekta_take_answer(call, made, result);
	else if (is_complete(list, result) && !search_may_lag(call, response, result))
		result->outcome = OUTCOME_ABSENT;
}

/* A source that is not in the list any more is detached. */
static void
read_detached(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	char *id = json_text(call->arguments, "payment_method");
	int count = json_length(list, "data");

	for (int i = 0; i < count; i++)
	{
		if (conekta_same(json_text(list, psprintf("data.%d.id", i)), id))
		{
			result->outcome = OUTCOME_ABSENT;
			return;
		}
	}
	if (!is_complete(list, result))
		return;
	result->outcome = OUTCOME_DONE;
	result->snapshots = list_make1(
		conekta_gone_snapshot(BILLING_PAYMENT_METHOD, id, call->account->livemode));
}

/* A key that is new, or one (step 3 and on) that is not active any more. */
static void
read_keys(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	char *old = call->step > 2 ? json_text(call->carry, "old.0") : NULL;
	int count = json_length(list, "data");

	if (old == NULL)
	{
		if (!conekta_take_webhook_keys(call, list, result) && is_complete(list, result))
			result->outcome = OUTCOME_ABSENT;
		return;
	}
	for (int i = 0; i < count; i++)
	{
		if (conekta_same(json_text(list, psprintf("data.%d.id", i)), old) &&
			json_bool(list, psprintf("data.%d.active", i), false))
		{
			result->outcome = OUTCOME_ABSENT;
			return;
		}
	}
	conekta_take_answer(call, list, result);
}

/* ------------------------------------------------------------------------
 * Payments
 * ------------------------------------------------------------------------
 */

/* The order is read here, so that the step that would read it is not needed any more. */
static void
read_confirmed(const ProviderCall *call, const Jsonb *order, CallResult *result)
{
	ProviderCall reading = *call;

	reading.step = 1;
	if (order_has_charge(call, order))
		conekta_take_answer(&reading, order, result);
	else
		result->outcome = OUTCOME_ABSENT;
}

/*
 * A refund that we do not know, of that amount.  When more was paid back than
 * before and none is in sight, the order is not telling all.
 */
static void
read_refunded(const ProviderCall *call, const Jsonb *order, CallResult *result)
{
	int64 refunded;
	int64 before;

	conekta_take_answer(call, order, result);
	if (result->outcome == OUTCOME_DONE)
		return;
	if (json_int(order, "amount_refunded", &refunded) &&
		json_int(call->arguments, "refunded_before", &before) && llabs(refunded) > before)
		result_set_error(result, OUTCOME_RETRY, "refund_not_shown", NULL);
	else if (json_text(order, "id") != NULL)
		result_set_error(result, OUTCOME_ABSENT, NULL, NULL);
}

/* Still in the order and not cancelled: then nothing was done. */
static void
read_refund_canceled(const ProviderCall *call, const Jsonb *order, CallResult *result)
{
	ListCell *cell;

	conekta_take_answer(call, order, result);
	if (result->outcome != OUTCOME_DONE)
		return;
	foreach (cell, result->snapshots)
	{
		const ProviderSnapshot *snapshot = lfirst(cell);

		if (snapshot->type == BILLING_REFUND && !conekta_same(snapshot->refund.status, "canceled"))
		{
			result->snapshots = NIL;
			result->outcome = OUTCOME_ABSENT;
			return;
		}
	}
}

/* ------------------------------------------------------------------------
 * Look-ups
 * ------------------------------------------------------------------------
 */
static void
read_object(const ProviderCall *call, const Jsonb *object, CallResult *result)
{
	if (!shows_wanted(call, object))
		result->outcome = OUTCOME_ABSENT;
	else if (call->operation == OPERATION_CUSTOMER_SET_TAX_IDS)
		result->outcome = OUTCOME_DONE;
	else
		conekta_take_answer(call, object, result);
}

static void
read_found(const ProviderCall *call, const HttpResponse *response, const Jsonb *body,
		   CallResult *result)
{
	bool is_list = json_part(body, "data") != NULL;
	bool keys = is_list && call->step > 1 &&
				(call->operation == OPERATION_WEBHOOK_ENDPOINT_CREATE ||
				 call->operation == OPERATION_WEBHOOK_ENDPOINT_ROTATE);

	if (keys)
		read_keys(call, body, result);
	else if (is_list && call->operation == OPERATION_PAYMENT_METHOD_DETACH)
		read_detached(call, body, result);
	else if (is_list)
		read_list(call, response, body, result);
	else if (call->operation == OPERATION_PAYMENT_INTENT_CONFIRM)
		read_confirmed(call, body, result);
	else if (call->operation == OPERATION_REFUND_CREATE)
		read_refunded(call, body, result);
	else if (call->operation == OPERATION_REFUND_CANCEL)
		read_refund_canceled(call, body, result);
	else
		read_object(call, body, result);
}

/*
 * The object that was looked for is not there.  For what was to be removed
 * that is the wanted end; what was to be made under an id of ours is not made.
 */
static bool
read_not_found(const ProviderCall *call, CallResult *result)
{
	switch (call->operation)
	{
		case OPERATION_CUSTOMER_DELETE:
		case OPERATION_PAYMENT_METHOD_DETACH:
		case OPERATION_WEBHOOK_ENDPOINT_DELETE:
			result_set_error(result, OUTCOME_DONE, NULL, NULL);
			result->snapshots = list_make1(conekta_gone_snapshot(
				conekta_expected_type(call), conekta_expected_id(call), call->account->livemode));
			return true;
		case OPERATION_PRICE_CREATE:
		case OPERATION_PORTAL_SESSION_CREATE:
			result_set_error(result, OUTCOME_ABSENT, NULL, NULL);
			return true;
		default:
			return false;
	}
}

static void
look(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	Jsonb *body = conekta_open_answer(response, result);

	if (answer_is_success(response) && body != NULL)
		read_found(call, response, body, result);
	else if (response->transport == HTTP_ANSWERED && !answer_is_success(response))
	{
		if (response->status == 404 && read_not_found(call, result))
			return;
		conekta_read_error(call, response, body, result);
		if (result->outcome == OUTCOME_DECLINED)
			result->outcome = OUTCOME_REFUSED;
	}
	else if (response->transport == HTTP_ANSWERED)
		result->error_type = "unreadable_answer";
	if (result->outcome == OUTCOME_UNKNOWN)
		result->outcome = OUTCOME_RETRY;
}

/* What only reads is asked again, and its answer is its answer. */
void
conekta_read_lookup(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	if (conekta_step_reads(call))
		conekta_read_response(call, response, result);
	else
		look(call, response, result);
}

/* ------------------------------------------------------------------------
 * The two steps that look
 * ------------------------------------------------------------------------
 */
static ProviderCall
before_the_look(const ProviderCall *call)
{
	ProviderCall before = *call;

	before.step = 0;
	return before;
}

void
conekta_read_look_refused(const ProviderCall *call, const HttpResponse *response,
						  CallResult *result)
{
	ProviderCall before = before_the_look(call);

	/* the amount of a capture was read before; here it is only in the way */
	if (conekta_step_reads_amount(&before))
		before.step = 1;
	look(&before, response, result);
	if (result->outcome == OUTCOME_ABSENT)
	{
		result_set_error(result, OUTCOME_REFUSED, json_text(call->carry, "error_type"),
						 json_text(call->carry, "error_code"));
		result->start_over = true;
	}
}

/*
 * An order whose charge was declined may look as if it had never been
 * charged; the payment has failed all the same.
 */
static void
mark_failed(const ProviderCall *call, CallResult *result)
{
	ProviderSnapshot *snapshot = result->snapshots == NIL ? NULL : linitial(result->snapshots);

	if (snapshot == NULL || snapshot->type != BILLING_PAYMENT_INTENT)
		return;
	if (conekta_same(snapshot->payment_intent.status, "pending"))
		snapshot->payment_intent.status = "failed";
	if (conekta_same(snapshot->payment_intent.status, "failed") &&
		snapshot->payment_intent.error_code == NULL)
		snapshot->payment_intent.error_code = json_text(call->carry, "error_code");
}

void
conekta_read_look_declined(const ProviderCall *call, const HttpResponse *response,
						   CallResult *result)
{
	ProviderCall before = before_the_look(call);
	Jsonb *body = conekta_open_answer(response, result);
	Jsonb *left = NULL;

	if (answer_is_success(response) && body != NULL)
		left = json_part(body, "data") != NULL ? find_made(&before, body) : body;
	else if (response->status != 404 || response->transport != HTTP_ANSWERED)
	{
		if (response->transport == HTTP_ANSWERED)
			conekta_read_error(call, response, body, result);
		if (result->outcome != OUTCOME_ACCOUNT_STOPPED)
			result->outcome = OUTCOME_RETRY;
		return;
	}
	if (left != NULL)
		result->snapshots = conekta_snapshots(left, call->account->livemode);
	if (result->snapshots != NIL && before.operation != OPERATION_PAYMENT_INTENT_CONFIRM)
	{
		ProviderSnapshot *snapshot = linitial(result->snapshots);

		if (snapshot->reference == NULL)
			snapshot->reference = call->reference;
	}
	mark_failed(call, result);
	result_set_error(result, OUTCOME_DECLINED, json_text(call->carry, "error_type"),
					 json_text(call->carry, "error_code"));
}

/*-------------------------------------------------------------------------
 *
 * polar_lookups.c
 *	  Had a request been carried out whose answer was lost?
 *
 * Also asked after some refusals, which may mean that it is already as it was
 * wanted.  A look-up ends in the same snapshots as the answer that was lost.
 *
 *-------------------------------------------------------------------------
 */
#include "polar.h"

/*
 * Where money moves, a request whose answer was lost may still be at work.
 * For so many seconds its absence proves nothing.
 */
#define SETTLING_TIME 10

/* How far our clock may be behind Polar's when a time of creation is compared. */
#define CLOCK_TOLERANCE 300

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
	return !json_has(call->arguments, "address") && !json_has(call->arguments, "metadata") &&
		   same(call, "email", json_text(customer, "email")) &&
		   same(call, "name", json_text(customer, "name")) &&
		   same(call, "locale", json_text(customer, "locale"));
}

/*
 * A change of the next period waits in pending_update.  Seats and product
 * prorate, so a change must not be sent twice where the first one shows.
 */
static bool
subscription_shows(const ProviderCall *call, const Jsonb *subscription)
{
	TimestampTz trial_end = json_unix_time(call->arguments, "trial_end");

	if (polar_step_changes_seats(call))
		return same(call, "quantity", json_text(subscription, "seats")) ||
			   same(call, "quantity", json_text(subscription, "pending_update.seats"));
	/* one that was to end at once ends at no time that we could know */
	if (json_has(call->arguments, "trial_end") &&
		json_rfc3339_time(subscription, "trial_end") != trial_end &&
		(trial_end > call->sent_at || same_text(json_text(subscription, "status"), "trialing")))
		return false;
	return (same(call, "price", json_text(subscription, "product_id")) ||
			same(call, "price", json_text(subscription, "pending_update.product_id"))) &&
		   same(call, "coupon", json_text(subscription, "discount_id"));
}

/* Does the object show what the step wanted? */
static bool
shows_wanted(const ProviderCall *call, const Jsonb *object)
{
	char *status = json_text(object, "status");
	bool ended = same_text(status, "canceled") || same_text(status, "incomplete_expired");
	bool ending = json_bool(object, "cancel_at_period_end", false);
	bool pausing = json_bool(object, "pause_at_period_end", false);

	switch (call->operation)
	{
		case OPERATION_CUSTOMER_UPDATE:
			return customer_shows(call, object);
		case OPERATION_CUSTOMER_SET_TAX_IDS:
			/* [value, kind] */
			return same_text(json_text(call->arguments, "tax_ids.0.value"),
							 json_text(object, "tax_id.0"));
		case OPERATION_PRICE_UPDATE:
			return !json_has(call->arguments, "name") &&
				   json_bool(object, "is_archived", false) !=
					   json_bool(call->arguments, "active", true);
		case OPERATION_SUBSCRIPTION_UPDATE:
			return subscription_shows(call, object);
		case OPERATION_SUBSCRIPTION_CANCEL:
			return ended;
		case OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END:
			return ended || ending;
		case OPERATION_SUBSCRIPTION_UNCANCEL:
			return !ended && !ending;
		case OPERATION_SUBSCRIPTION_PAUSE:
			return pausing || same_text(status, "paused");
		case OPERATION_SUBSCRIPTION_RESUME:
			return !ended && !pausing && !same_text(status, "paused");
		case OPERATION_PAYMENT_INTENT_CREATE:
		case OPERATION_PAYMENT_INTENT_CONFIRM:
			return !same_text(status, "draft");
		case OPERATION_DISPUTE_ACCEPT:
			/* an early warning is accepted by giving the money back */
			return same_text(status, "lost") || same_text(status, "prevented");
		case OPERATION_WEBHOOK_ENDPOINT_UPDATE:
			return !json_has(call->arguments, "events") &&
				   same(call, "url", json_text(object, "url")) &&
				   same(call, "enabled", json_text(object, "enabled"));
		default:
			/* a secret does not tell whether it is the new one; another one harms nothing */
			return false;
	}
}

/* The member of the metadata by which what the operation made is known. */
static const char *
reference_member(const ProviderCall *call)
{
	switch (call->operation)
	{
		case OPERATION_PAYMENT_INTENT_CREATE:
			return "metadata." POLAR_PAYMENT;
		case OPERATION_CHECKOUT_SESSION_CREATE:
			return "metadata." POLAR_SESSION;
		case OPERATION_PAYMENT_LINK_CREATE:
			return "metadata." POLAR_LINK;
		default:
			return "metadata." POLAR_REFERENCE;
	}
}

/*
 * Is it the one that the lost request made?  An endpoint has no metadata: it
 * is the one of that URL that was made since.  The order of a renewal carries
 * the metadata of its subscription's first payment and is not that payment.
 */
static bool
is_lost_one(const ProviderCall *call, const Jsonb *item)
{
	if (call->operation == OPERATION_WEBHOOK_ENDPOINT_CREATE)
		return same_text(json_text(item, "url"), json_text(call->arguments, "url")) &&
			   json_rfc3339_time(item, "created_at") >=
				   call->sent_at - CLOCK_TOLERANCE * USECS_PER_SEC;
	if (call->operation == OPERATION_PAYMENT_INTENT_CREATE &&
		json_text(item, "subscription_id") != NULL)
		return false;
	return same_text(json_text(item, reference_member(call)), call->reference);
}

/* Not there; where money moves that proves nothing as long as the request may be at work. */
static void
take_absent(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	bool moves_money = call->operation == OPERATION_REFUND_CREATE ||
					   polar_step(call) == POLAR_FINALIZE;
	int64 age = (response->received_at - call->sent_at) / USECS_PER_SEC;

	result_set_error(result, OUTCOME_ABSENT, NULL, NULL);
	if (!moves_money || call->sent_at == 0 || age >= SETTLING_TIME)
		return;
	result_set_error(result, OUTCOME_RETRY, "may_be_at_work", NULL);
	result->retry_after = SETTLING_TIME - (int) Max(age, 0);
}

static void
find_created(const ProviderCall *call, const HttpResponse *response, const Jsonb *list,
			 CallResult *result)
{
	int count = json_length(list, "items");

	if (json_part(list, "items") == NULL)
	{
		polar_unreadable(result);
		return;
	}
	for (int i = 0; i < count; i++)
	{
		Jsonb *item = json_part(list, psprintf("items.%d", i));

		if (item != NULL && is_lost_one(call, item))
		{
			polar_take_object(call, item, result);
			return;
		}
	}
	take_absent(call, response, result);
}

static void
read_found(const ProviderCall *call, const HttpResponse *response, const Jsonb *body,
		   CallResult *result)
{
	PolarStep step = polar_step(call);

	if (call->operation == OPERATION_PORTAL_SESSION_CREATE)
		result_set_error(result, OUTCOME_ABSENT, NULL, NULL);
	else if (step == POLAR_CREATE && call->operation != OPERATION_CUSTOMER_CREATE)
		find_created(call, response, body, result);
	else if (step == POLAR_CREATE)
		polar_take_object(call, body, result);
	else if (step == POLAR_TRIGGER && json_bool(body, "is_invoice_generated", false))
	{
		result_set_error(result, OUTCOME_DONE, NULL, NULL);
		result->next_step = POLAR_DOCUMENT_STEP;
	}
	else if (step != POLAR_TRIGGER && step != POLAR_REMOVE && shows_wanted(call, body))
		polar_take_object(call, body, result);
	else
		take_absent(call, response, result);
}

/* The object that was looked for is not there. */
static bool
read_not_found(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	if (polar_step(call) == POLAR_REMOVE)
		polar_take_removed(call, response, result);
	else if (call->operation == OPERATION_CUSTOMER_CREATE)
		result_set_error(result, OUTCOME_ABSENT, NULL, NULL);
	else
		return false;
	return true;
}

/*
 * Asking again is always safe here, so whatever is not an answer is RETRY.  A
 * step that only reads is its own look-up.
 */
void
polar_read_lookup(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	Jsonb *body;

	if (polar_is_harmless(polar_step(call)))
	{
		polar_read_response(call, response, result);
		return;
	}
	body = polar_open_answer(response, result);
	if (answer_is_success(response) && body != NULL)
		read_found(call, response, body, result);
	else if (response->transport == HTTP_ANSWERED && !answer_is_success(response))
	{
		if (response->status == 404 && read_not_found(call, response, result))
			return;
		polar_read_error(response, body, true, result);
	}
	else if (response->transport == HTTP_ANSWERED)
		result->error_type = "unreadable_answer";
	if (result->outcome == OUTCOME_UNKNOWN)
		result->outcome = OUTCOME_RETRY;
	else if (result->outcome == OUTCOME_DECLINED)
		result->outcome = OUTCOME_REFUSED;
}

/*-------------------------------------------------------------------------
 *
 * conekta_responses.c
 *	  Conekta's answers become outcomes.
 *
 * Without idempotency keys a request whose answer was lost may have been
 * carried out, and is looked up before it is sent again; so is one that was
 * answered by a failure of Conekta's own.  Only what reads may be repeated.
 *
 *-------------------------------------------------------------------------
 */
#include "conekta.h"

/* A list that is longer than this many pages is not followed to its end. */
#define MAX_PAGES 40

/* ------------------------------------------------------------------------
 * Errors
 * ------------------------------------------------------------------------
 */
bool
conekta_same(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

Jsonb *
conekta_open_answer(const HttpResponse *response, CallResult *result)
{
	const char *reason;

	memset(result, 0, sizeof(*result));
	result->outcome = OUTCOME_UNKNOWN;
	result->retry_after = -1;
	if (response->transport == HTTP_ANSWERED)
		return json_parse(response->body, response->body_length, &reason);
	result->error_type = "transport";
	result->error_code = http_transport_word(response->transport);
	return NULL;
}

static Outcome
outcome_of_status(int status)
{
	if (status == 401)
		return OUTCOME_ACCOUNT_STOPPED;
	if (status == 402)
		return OUTCOME_DECLINED;
	if (status == 409 || status == 429)
		return OUTCOME_RETRY;
	if (status == 408 || status >= 500)
		return OUTCOME_UNKNOWN;
	return OUTCOME_REFUSED;
}

/* The texts of Conekta's errors may quote what was sent; only type and code are kept. */
void
conekta_read_error(const ProviderCall *call, const HttpResponse *response, const Jsonb *body,
				   CallResult *result)
{
	char *type = body == NULL ? NULL : json_text(body, "type");
	char *code = body == NULL ? NULL : json_text(body, "details.0.code");

	if (body != NULL)
		result->provider_request_id = json_text(body, "log_id");
	if (response->status >= 300 && response->status < 400)
		type = "redirect";
	else if (type == NULL)
		type = "http_error";
	result_set_error(result, outcome_of_status(response->status), type,
					 code != NULL ? code : psprintf("%d", response->status));
	if (result->outcome == OUTCOME_RETRY || result->outcome == OUTCOME_UNKNOWN)
		result->retry_after = http_retry_after(response);
}

/* ------------------------------------------------------------------------
 * What an answer should be
 * ------------------------------------------------------------------------
 */
BillingObject
conekta_expected_type(const ProviderCall *call)
{
	switch (call->operation)
	{
		case OPERATION_PAYMENT_METHOD_ATTACH:
			return call->step == 0 ? BILLING_PAYMENT_METHOD : BILLING_CUSTOMER;
		case OPERATION_PAYMENT_METHOD_DETACH:
		case OPERATION_PAYMENT_METHOD_LIST:
			return BILLING_PAYMENT_METHOD;
		case OPERATION_PRICE_CREATE:
		case OPERATION_PRICE_UPDATE:
			return BILLING_PRICE;
		case OPERATION_SUBSCRIPTION_CREATE:
		case OPERATION_SUBSCRIPTION_UPDATE:
		case OPERATION_SUBSCRIPTION_CANCEL:
		case OPERATION_SUBSCRIPTION_PAUSE:
		case OPERATION_SUBSCRIPTION_RESUME:
		case OPERATION_SUBSCRIPTION_RETRY_PAYMENT:
		case OPERATION_SUBSCRIPTION_FETCH:
			return BILLING_SUBSCRIPTION;
		case OPERATION_PAYMENT_INTENT_CREATE:
		case OPERATION_PAYMENT_INTENT_CONFIRM:
		case OPERATION_PAYMENT_INTENT_CAPTURE:
		case OPERATION_PAYMENT_INTENT_CANCEL:
		case OPERATION_PAYMENT_INTENT_FETCH:
		case OPERATION_REFUND_CREATE:
		case OPERATION_REFUND_CANCEL:
		case OPERATION_REFUND_FETCH:
		case OPERATION_CHECKOUT_SESSION_CREATE:
			return BILLING_PAYMENT_INTENT;
		case OPERATION_CHECKOUT_SESSION_EXPIRE:
		case OPERATION_CHECKOUT_SESSION_FETCH:
		case OPERATION_PAYMENT_LINK_CREATE:
		case OPERATION_PAYMENT_LINK_CANCEL:
			return BILLING_CHECKOUT_SESSION;
		case OPERATION_PORTAL_SESSION_CREATE:
			return BILLING_PORTAL_SESSION;
		case OPERATION_WEBHOOK_ENDPOINT_CREATE:
		case OPERATION_WEBHOOK_ENDPOINT_UPDATE:
		case OPERATION_WEBHOOK_ENDPOINT_ROTATE:
		case OPERATION_WEBHOOK_ENDPOINT_DELETE:
		case OPERATION_WEBHOOK_ENDPOINT_LIST:
			return BILLING_WEBHOOK_ENDPOINT;
		default:
			return BILLING_CUSTOMER;
	}
}

char *
conekta_expected_id(const ProviderCall *call)
{
	BillingObject type = conekta_expected_type(call);

	/* a token that is attached becomes a source of another id */
	if (type == BILLING_PAYMENT_METHOD && call->operation != OPERATION_PAYMENT_METHOD_DETACH)
		return NULL;
	if (type == BILLING_PORTAL_SESSION)
		return NULL;
	return json_text(call->arguments, object_type_name(type));
}

static bool
makes_object(const ProviderCall *call)
{
	switch (call->operation)
	{
		case OPERATION_CUSTOMER_CREATE:
		case OPERATION_PRICE_CREATE:
		case OPERATION_SUBSCRIPTION_CREATE:
		case OPERATION_PAYMENT_INTENT_CREATE:
		case OPERATION_PAYMENT_LINK_CREATE:
		case OPERATION_PORTAL_SESSION_CREATE:
			return true;
		case OPERATION_PAYMENT_METHOD_ATTACH:
			return call->step == 0;
		default:
			return false;
	}
}

static bool
ends_object(const ProviderCall *call)
{
	return call->operation == OPERATION_CUSTOMER_DELETE ||
		   call->operation == OPERATION_PAYMENT_METHOD_DETACH;
}

void
conekta_unreadable(CallResult *result)
{
	result_set_error(result, OUTCOME_UNKNOWN, "unreadable_answer", NULL);
}

/* The next step finds one text in its carry. */
static void
plan_step(CallResult *result, int step, const char *name, const char *value)
{
	JsonBuilder carry;

	json_open(&carry);
	json_add_text(&carry, name, value);
	result->carry = json_close(&carry);
	result->next_step = step;
}

/* ------------------------------------------------------------------------
 * Objects in answers
 * ------------------------------------------------------------------------
 */

/* The subscription could not be paid, and then it was not wanted. */
static void
plan_undo(const ProviderCall *call, const SubscriptionSnapshot *made, const char *id,
		  CallResult *result)
{
	if (json_bool(call->arguments, "all_or_nothing", false) &&
		!conekta_same(made->status, "active") && !conekta_same(made->status, "trialing"))
		plan_step(result, 1, "subscription", id);
}

static void
plan_after(const ProviderCall *call, const ProviderSnapshot *snapshot, CallResult *result)
{
	switch (call->operation)
	{
		case OPERATION_PAYMENT_METHOD_ATTACH:
			if (call->step == 0 && json_bool(call->arguments, "set_default", false))
				plan_step(result, 1, "payment_method", snapshot->provider_id);
			break;
		case OPERATION_SUBSCRIPTION_CREATE:
			if (call->step == 0)
				plan_undo(call, &snapshot->subscription, snapshot->provider_id, result);
			else
				result_set_error(result, OUTCOME_DECLINED, "processing_error", "payment_failed");
			break;
		case OPERATION_SUBSCRIPTION_RETRY_PAYMENT:
			if (conekta_step_changes_card(call))
				plan_step(result, 1, "payment_method",
						  json_text(call->arguments, "payment_method"));
			break;
		case OPERATION_CHECKOUT_SESSION_FETCH:
			if (call->step == 0)
				plan_step(result, 1, "checkout_session", snapshot->provider_id);
			break;
		default:
			break;
	}
}

static void
take_object(const ProviderCall *call, const Jsonb *object, CallResult *result)
{
	List *snapshots = object == NULL ? NIL : conekta_snapshots(object, call->account->livemode);
	ProviderSnapshot *snapshot = snapshots == NIL ? NULL : linitial(snapshots);
	char *id = conekta_expected_id(call);

	if (snapshot == NULL || snapshot->type != conekta_expected_type(call) ||
		(id != NULL && strcmp(id, snapshot->provider_id) != 0))
	{
		conekta_unreadable(result);
		return;
	}
	if (makes_object(call) && snapshot->reference == NULL)
		snapshot->reference = call->reference;
	if (ends_object(call))
		snapshot->deleted = snapshot->terminal = true;
	result->outcome = OUTCOME_DONE;
	result->snapshots = snapshots;
	plan_after(call, snapshot, result);
}

/* ------------------------------------------------------------------------
 * Refunds
 *
 * The whole order is answered.  Of its refunds only the one that the call is
 * about is told: the core takes every refund in the answer for that one.
 * ------------------------------------------------------------------------
 */
static bool
is_this_refund(const ProviderCall *call, const ProviderSnapshot *refund)
{
	int64 amount;

	if (call->operation != OPERATION_REFUND_CREATE)
		return conekta_same(refund->provider_id, json_text(call->arguments, "refund"));
	return !conekta_listed(call->arguments, "known", refund->provider_id) &&
		   json_int(call->arguments, "amount", &amount) && refund->refund.amount == amount;
}

/* A refund that is cancelled disappears from the order, or says so. */
static ProviderSnapshot *
canceled_refund(const ProviderCall *call, const ProviderSnapshot *order)
{
	ProviderSnapshot *snapshot = snapshot_new(BILLING_REFUND, json_text(call->arguments, "refund"),
											  order->livemode);

	snapshot->refund.payment_intent = order->provider_id;
	snapshot->refund.status = "canceled";
	snapshot->terminal = true;
	return snapshot;
}

static void
take_refund(const ProviderCall *call, const Jsonb *order, CallResult *result)
{
	ProviderSnapshot *refund = NULL;
	List *others = NIL;
	ListCell *cell;

	take_object(call, order, result);
	if (result->outcome != OUTCOME_DONE)
		return;
	foreach (cell, result->snapshots)
	{
		ProviderSnapshot *snapshot = lfirst(cell);

		if (snapshot->type != BILLING_REFUND)
			others = lappend(others, snapshot);
		else if (is_this_refund(call, snapshot))
			refund = snapshot; /* of several that are new the last one is the newest */
	}
	if (refund == NULL && call->operation == OPERATION_REFUND_CANCEL)
		refund = canceled_refund(call, linitial(result->snapshots));
	result->snapshots = others;
	if (refund == NULL && call->operation == OPERATION_REFUND_FETCH)
		result_set_error(result, OUTCOME_REFUSED, "refund_not_found", NULL);
	else if (refund == NULL)
		conekta_unreadable(result);
	else
	{
		if (call->operation == OPERATION_REFUND_CREATE)
			refund->reference = call->reference;
		result->snapshots = lappend(others, refund);
	}
}

/* ------------------------------------------------------------------------
 * Steps that read
 * ------------------------------------------------------------------------
 */

/* The cursor in next_page_url; NULL at the end of the list. */
static char *
next_cursor(const Jsonb *list)
{
	char *url = json_text(list, "next_page_url");
	char *at = url == NULL ? NULL : strstr(url, "next=");

	if (at == NULL || !json_bool(list, "has_more", true))
		return NULL;
	at += strlen("next=");
	at[strcspn(at, "&#")] = '\0';
	return *at == '\0' ? NULL : at;
}

static void
take_page(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	bool endpoints = call->operation == OPERATION_WEBHOOK_ENDPOINT_LIST;
	int count = json_length(list, "data");
	char *next = next_cursor(list);

	if (json_part(list, "data") == NULL)
	{
		conekta_unreadable(result);
		return;
	}
	result->outcome = OUTCOME_DONE;
	for (int i = 0; i < count; i++)
	{
		Jsonb *object = json_part(list, psprintf("data.%d", i));
		bool livemode = call->account->livemode;

		if (object == NULL)
			continue;
		if (!endpoints)
			result->snapshots = list_concat(result->snapshots, conekta_snapshots(object, livemode));
		else if (json_text(object, "id") != NULL)
			result->snapshots = lappend(result->snapshots,
										conekta_endpoint_snapshot(object, livemode));
	}
	if (next != NULL && call->step < MAX_PAGES)
		plan_step(result, call->step + 1, "next", next);
}

/* The RFC is there already, or a fiscal entity that is to be changed, or none. */
static void
plan_fiscal_entity(const ProviderCall *call, const Jsonb *customer, CallResult *result)
{
	char *wanted = json_text(call->arguments, "tax_ids.0.value");
	char *usual = json_text(customer, "default_fiscal_entity_id");
	int count = json_length(customer, "fiscal_entities.data");

	take_object(call, customer, result);
	if (result->outcome != OUTCOME_DONE || wanted == NULL)
		return;
	for (int i = 0; i < count; i++)
	{
		if (conekta_same(json_text(customer, psprintf("fiscal_entities.data.%d.tax_id", i)),
						 wanted))
			return;
	}
	if (usual == NULL)
		usual = json_text(customer, "fiscal_entities.data.0.id");
	plan_step(result, 1, "entity", usual);
}

static void
take_fiscal_entity(const Jsonb *entity, CallResult *result)
{
	if (entity == NULL || json_text(entity, "id") == NULL)
		conekta_unreadable(result);
	else
		result->outcome = OUTCOME_DONE;
}

static void
take_amount(const ProviderCall *call, const Jsonb *order, CallResult *result)
{
	JsonBuilder carry;
	int64 amount;

	take_object(call, order, result);
	if (result->outcome != OUTCOME_DONE)
		return;
	amount = ((ProviderSnapshot *) linitial(result->snapshots))->payment_intent.amount;
	json_open(&carry);
	json_add_int(&carry, "amount", amount);
	result->carry = json_close(&carry);
	result->next_step = 1;
}

/* The orders that a page or a link has made; of sessions only the one that was asked for. */
static void
take_orders_of_session(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	char *id = json_text(call->arguments, "checkout_session");
	int count = json_length(list, "data");

	if (json_part(list, "data") == NULL)
	{
		conekta_unreadable(result);
		return;
	}
	result->outcome = OUTCOME_DONE;
	for (int i = 0; i < count; i++)
	{
		Jsonb *order = json_part(list, psprintf("data.%d", i));
		ListCell *cell;

		if (order == NULL || !conekta_order_of_session(order, call->reference))
			continue;
		foreach (cell, conekta_snapshots(order, call->account->livemode))
		{
			ProviderSnapshot *snapshot = lfirst(cell);

			if (snapshot->type != BILLING_CHECKOUT_SESSION ||
				conekta_same(snapshot->provider_id, id))
				result->snapshots = lappend(result->snapshots, snapshot);
		}
	}
}

/* ------------------------------------------------------------------------
 * Answers to requests
 * ------------------------------------------------------------------------
 */

/* The charge is made; the order tells what the payment is now. */
static void
take_charge(const Jsonb *charge, CallResult *result)
{
	if (charge == NULL || json_text(charge, "id") == NULL)
	{
		conekta_unreadable(result);
		return;
	}
	result->outcome = OUTCOME_DONE;
	plan_step(result, 1, "charge", json_text(charge, "id"));
}

/* Of a hosted page the checkout in the order is what the call is about. */
static void
take_checkout_order(const ProviderCall *call, const Jsonb *order, CallResult *result)
{
	take_object(call, order, result);
	if (result->outcome == OUTCOME_DONE && json_text(order, "checkout.id") == NULL)
		conekta_unreadable(result);
}

void
conekta_take_answer(const ProviderCall *call, const Jsonb *body, CallResult *result)
{
	switch (call->operation)
	{
		case OPERATION_CUSTOMER_SET_TAX_IDS:
			if (call->step == 0 && body != NULL)
				plan_fiscal_entity(call, body, result);
			else
				take_fiscal_entity(body, result);
			break;
		case OPERATION_PAYMENT_METHOD_LIST:
		case OPERATION_WEBHOOK_ENDPOINT_LIST:
			if (body != NULL)
				take_page(call, body, result);
			else
				conekta_unreadable(result);
			break;
		case OPERATION_PAYMENT_INTENT_CONFIRM:
			if (call->step == 0)
				take_charge(body, result);
			else
				take_object(call, body, result);
			break;
		case OPERATION_PAYMENT_INTENT_CAPTURE:
			if (conekta_step_reads_amount(call))
				take_amount(call, body, result);
			else
				take_object(call, body, result);
			break;
		case OPERATION_REFUND_CREATE:
		case OPERATION_REFUND_CANCEL:
		case OPERATION_REFUND_FETCH:
			take_refund(call, body, result);
			break;
		case OPERATION_CHECKOUT_SESSION_CREATE:
			take_checkout_order(call, body, result);
			break;
		case OPERATION_CHECKOUT_SESSION_FETCH:
			if (call->step == 1 && body != NULL)
				take_orders_of_session(call, body, result);
			else
				take_object(call, body, result);
			break;
		case OPERATION_WEBHOOK_ENDPOINT_CREATE:
		case OPERATION_WEBHOOK_ENDPOINT_UPDATE:
		case OPERATION_WEBHOOK_ENDPOINT_ROTATE:
		case OPERATION_WEBHOOK_ENDPOINT_DELETE:
			conekta_take_endpoint(call, body, result);
			break;
		default:
			take_object(call, body, result);
	}
}

/* What was to be ended, or made under an id of ours, may be so already. */
static bool
may_be_so_already(const ProviderCall *call)
{
	switch (call->operation)
	{
		case OPERATION_CUSTOMER_DELETE:
		case OPERATION_PAYMENT_METHOD_DETACH:
		case OPERATION_PRICE_CREATE:
		case OPERATION_SUBSCRIPTION_CANCEL:
		case OPERATION_SUBSCRIPTION_PAUSE:
		case OPERATION_SUBSCRIPTION_RESUME:
		case OPERATION_PAYMENT_INTENT_CAPTURE:
		case OPERATION_PAYMENT_INTENT_CANCEL:
		case OPERATION_REFUND_CANCEL:
		case OPERATION_CHECKOUT_SESSION_EXPIRE:
		case OPERATION_PAYMENT_LINK_CANCEL:
		case OPERATION_WEBHOOK_ENDPOINT_DELETE:
			return true;
		default:
			return false;
	}
}

/* A declined payment may leave something behind that ought to be known. */
static bool
may_leave_something(const ProviderCall *call)
{
	switch (call->operation)
	{
		case OPERATION_PAYMENT_INTENT_CREATE:
		case OPERATION_PAYMENT_INTENT_CONFIRM:
		case OPERATION_PAYMENT_INTENT_CAPTURE:
		case OPERATION_SUBSCRIPTION_CREATE:
		case OPERATION_SUBSCRIPTION_UPDATE:
		case OPERATION_SUBSCRIPTION_RETRY_PAYMENT:
			return true;
		default:
			return false;
	}
}

/* The next step looks; what was told now is its fallback. */
static void
plan_look(int step, CallResult *result)
{
	JsonBuilder carry;

	json_open(&carry);
	json_add_text(&carry, "error_type", result->error_type);
	json_add_text(&carry, "error_code", result->error_code);
	result->carry = json_close(&carry);
	result->next_step = step;
	result_set_error(result, OUTCOME_DONE, NULL, NULL);
}

static void
read_failure(const ProviderCall *call, const HttpResponse *response, const Jsonb *body,
			 CallResult *result)
{
	bool redirected = response->status >= 300 && response->status < 400;

	conekta_read_error(call, response, body, result);
	if (result->outcome == OUTCOME_UNKNOWN && conekta_step_reads(call))
		result->outcome = OUTCOME_RETRY;
	else if (result->outcome == OUTCOME_DECLINED && may_leave_something(call))
		plan_look(CONEKTA_STEP_LOOK_DECLINED, result);
	else if (result->outcome == OUTCOME_REFUSED && !redirected && may_be_so_already(call) &&
			 !conekta_step_reads(call))
		plan_look(CONEKTA_STEP_LOOK_REFUSED, result);
}

void
conekta_read_response(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	Jsonb *body;

	if (call->step == CONEKTA_STEP_LOOK_REFUSED)
	{
		conekta_read_look_refused(call, response, result);
		return;
	}
	if (call->step == CONEKTA_STEP_LOOK_DECLINED)
	{
		conekta_read_look_declined(call, response, result);
		return;
	}

	body = conekta_open_answer(response, result);
	if (response->transport == HTTP_NOT_SENT)
		result->outcome = OUTCOME_RETRY;
	else if (answer_is_success(response))
		conekta_take_answer(call, body, result);
	else if (response->transport == HTTP_ANSWERED)
		read_failure(call, response, body, result);
	if (result->outcome == OUTCOME_UNKNOWN && conekta_step_reads(call))
		result->outcome = OUTCOME_RETRY;
}

/*-------------------------------------------------------------------------
 *
 * polar_responses.c
 *	  Polar's answers become outcomes.
 *
 * Was it done, and if not, may it be sent again?  Polar has no idempotency keys.  What may have been carried out is UNKNOWN,
 * and only a look-up that says no lets it be sent again.  Some refusals mean
 * that it had been done before; a further step looks whether that is so.
 *
 *-------------------------------------------------------------------------
 */
#include "polar.h"

#include "json.h"
#include "money.h"

/* A subscription that is being changed is free again in seconds. */
#define LOCKED_PAUSE 5

/* Saved cards are charged only where Polar has allowed it; decline_rules knows the word. */
#define POLAR_NO_SAVED_CARDS "OffSessionChargesNotEnabled"

/* Until an invoice's document is made. */
#define DOCUMENT_PAUSE 3

/* ------------------------------------------------------------------------
 * Errors
 * ------------------------------------------------------------------------
 */

/* The class of the error; anything that does not look like one may be text about a person. */
static const char *
error_class(const Jsonb *body)
{
	char *word = body == NULL ? NULL : json_text(body, "error");

	if (word == NULL || strlen(word) > 64 ||
		word[strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")] !=
			'\0' ||
		*word == '\0')
		return NULL;
	return word;
}

/* The field that was refused ("email"), of which the message may repeat the content. */
static const char *
refused_field(const Jsonb *body)
{
	int depth = body == NULL ? 0 : json_length(body, "detail.0.loc");
	char *field;

	if (depth == 0)
		return NULL;
	field = json_text(body, psprintf("detail.0.loc.%d", depth - 1));
	if (field == NULL || *field == '\0' || strlen(field) > 64 ||
		field[strspn(field, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '\0')
		return NULL;
	return field;
}

static Outcome
outcome_of_status(int status, const char *class, bool harmless)
{
	if (status >= 500 || status == 408)
		return harmless ? OUTCOME_RETRY : OUTCOME_UNKNOWN;
	switch (status)
	{
		case 401:
			return OUTCOME_ACCOUNT_STOPPED;
		case 402:
			return OUTCOME_DECLINED;
		case 409:
			/* of the conflicts only this one waits for nobody; a lock is the other kind */
			return same_text(class, "OrderNotEligibleForInvoice") ||
						   same_text(class, "DisputeNotOpenError")
					   ? OUTCOME_REFUSED
					   : OUTCOME_RETRY;
		case 429:
			return OUTCOME_RETRY;
		default:
			return OUTCOME_REFUSED;
	}
}

/* Nothing can have been changed by it, or nothing that is changed again when it is repeated. */
bool
polar_is_harmless(PolarStep step)
{
	return step == POLAR_INGEST || step == POLAR_READ || step == POLAR_LIST ||
		   step == POLAR_PREPARE || step == POLAR_CONFIRM || step == POLAR_DECLINE;
}

/* body: NULL when it is not JSON, as from a proxy on the way. */
void
polar_read_error(const HttpResponse *response, const Jsonb *body, bool harmless, CallResult *result)
{
	const char *class = error_class(body);
	const char *code = refused_field(body);
	Outcome outcome = outcome_of_status(response->status, class, harmless);

	if (response->status >= 300 && response->status < 400)
		class = "redirect";
	else if (class == NULL)
		class = "http_error";
	if (code == NULL)
		code = same_text(class, POLAR_NO_SAVED_CARDS) ? class : psprintf("%d", response->status);
	result_set_error(result, outcome, class, code);
	if (outcome == OUTCOME_RETRY || outcome == OUTCOME_UNKNOWN)
		result->retry_after = http_retry_after(response);
	if (response->status == 409 && outcome == OUTCOME_RETRY && result->retry_after < 0)
		result->retry_after = LOCKED_PAUSE;
}

/*
 * Empties the result, takes what every answer has, and returns the body; NULL
 * when the call got no answer or an answer without JSON.
 */
Jsonb *
polar_open_answer(const HttpResponse *response, CallResult *result)
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
	return json_parse(response->body, response->body_length, &reason);
}

void
polar_unreadable(CallResult *result)
{
	result_set_error(result, OUTCOME_UNKNOWN, "unreadable_answer", NULL);
}

/* ------------------------------------------------------------------------
 * Objects in answers
 * ------------------------------------------------------------------------
 */
typedef struct Subject
{
	BillingObject type;
	const char *argument; /* that has the object's id; NULL: the answer brings it */
} Subject;

static const Subject subjects[OPERATION_COUNT] = {
	[OPERATION_CUSTOMER_CREATE] = {BILLING_CUSTOMER, NULL},
	[OPERATION_CUSTOMER_UPDATE] = {BILLING_CUSTOMER, "customer"},
	[OPERATION_CUSTOMER_SET_TAX_IDS] = {BILLING_CUSTOMER, "customer"},
	[OPERATION_CUSTOMER_DELETE] = {BILLING_CUSTOMER, "customer"},
	[OPERATION_CUSTOMER_FETCH] = {BILLING_CUSTOMER, "customer"},
	[OPERATION_PAYMENT_METHOD_LIST] = {BILLING_PAYMENT_METHOD, NULL},
	[OPERATION_PRICE_CREATE] = {BILLING_PRICE, NULL},
	[OPERATION_PRICE_UPDATE] = {BILLING_PRICE, "price"},
	[OPERATION_SUBSCRIPTION_UPDATE] = {BILLING_SUBSCRIPTION, "subscription"},
	[OPERATION_SUBSCRIPTION_CANCEL] = {BILLING_SUBSCRIPTION, "subscription"},
	[OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END] = {BILLING_SUBSCRIPTION, "subscription"},
	[OPERATION_SUBSCRIPTION_UNCANCEL] = {BILLING_SUBSCRIPTION, "subscription"},
	[OPERATION_SUBSCRIPTION_PAUSE] = {BILLING_SUBSCRIPTION, "subscription"},
	[OPERATION_SUBSCRIPTION_RESUME] = {BILLING_SUBSCRIPTION, "subscription"},
	[OPERATION_SUBSCRIPTION_FETCH] = {BILLING_SUBSCRIPTION, "subscription"},
	[OPERATION_PAYMENT_INTENT_CREATE] = {BILLING_PAYMENT_INTENT, NULL},
	[OPERATION_PAYMENT_INTENT_CONFIRM] = {BILLING_PAYMENT_INTENT, "payment_intent"},
	[OPERATION_PAYMENT_INTENT_FETCH] = {BILLING_PAYMENT_INTENT, "payment_intent"},
	[OPERATION_REFUND_CREATE] = {BILLING_REFUND, NULL},
	[OPERATION_REFUND_FETCH] = {BILLING_REFUND, "refund"},
	[OPERATION_DISPUTE_ACCEPT] = {BILLING_DISPUTE, "dispute"},
	[OPERATION_DISPUTE_FETCH] = {BILLING_DISPUTE, "dispute"},
	[OPERATION_DISPUTE_LIST] = {BILLING_DISPUTE, NULL},
	[OPERATION_CHECKOUT_SESSION_CREATE] = {BILLING_CHECKOUT_SESSION, NULL},
	[OPERATION_CHECKOUT_SESSION_FETCH] = {BILLING_CHECKOUT_SESSION, "checkout_session"},
	[OPERATION_PAYMENT_LINK_CREATE] = {BILLING_CHECKOUT_SESSION, NULL},
	[OPERATION_PAYMENT_LINK_CANCEL] = {BILLING_CHECKOUT_SESSION, "checkout_session"},
	[OPERATION_PORTAL_SESSION_CREATE] = {BILLING_PORTAL_SESSION, NULL},
	[OPERATION_INVOICE_FETCH] = {BILLING_INVOICE, "invoice"},
	[OPERATION_INVOICE_LIST] = {BILLING_INVOICE, NULL},
	[OPERATION_INVOICE_DOCUMENT] = {BILLING_INVOICE, "invoice"},
	[OPERATION_METER_CREATE] = {BILLING_METER, NULL},
	[OPERATION_METER_FETCH] = {BILLING_METER, "meter"},
	[OPERATION_WEBHOOK_ENDPOINT_CREATE] = {BILLING_WEBHOOK_ENDPOINT, NULL},
	[OPERATION_WEBHOOK_ENDPOINT_UPDATE] = {BILLING_WEBHOOK_ENDPOINT, "webhook_endpoint"},
	[OPERATION_WEBHOOK_ENDPOINT_ROTATE] = {BILLING_WEBHOOK_ENDPOINT, "webhook_endpoint"},
	[OPERATION_WEBHOOK_ENDPOINT_DELETE] = {BILLING_WEBHOOK_ENDPOINT, "webhook_endpoint"},
	[OPERATION_WEBHOOK_ENDPOINT_LIST] = {BILLING_WEBHOOK_ENDPOINT, NULL},
};

static BillingObject
type_of(const ProviderCall *call)
{
	return subjects[call->operation].type;
}

static char *
id_of(const ProviderCall *call)
{
	const char *argument = subjects[call->operation].argument;

	if (type_of(call) == BILLING_PAYMENT_INTENT)
		return polar_order_id(call);
	return argument == NULL ? NULL : json_text(call->arguments, argument);
}

static ProviderSnapshot *
snapshot_of_type(List *snapshots, BillingObject type)
{
	ListCell *cell;

	foreach (cell, snapshots)
	{
		ProviderSnapshot *snapshot = lfirst(cell);

		if (snapshot->type == type)
			return snapshot;
	}
	return NULL;
}

/*
 * Polar shows the secret of an endpoint whenever it shows the endpoint, and
 * also that of endpoints which serve others: ours is the one that we ask for.
 */
static List *
without_secrets(const ProviderCall *call, List *snapshots)
{
	ListCell *cell;

	if (call->operation == OPERATION_WEBHOOK_ENDPOINT_CREATE ||
		call->operation == OPERATION_WEBHOOK_ENDPOINT_ROTATE)
		return snapshots;
	foreach (cell, snapshots)
	{
		ProviderSnapshot *snapshot = lfirst(cell);

		if (snapshot->type == BILLING_WEBHOOK_ENDPOINT)
			snapshot->webhook_endpoint.secret = NULL;
	}
	return snapshots;
}

/*
 * The latest moment of which an answer can tell: the end of the second by which
 * Polar dates it.  For answers without an object, which would say it exactly.
 */
static TimestampTz
answered_at(const HttpResponse *response)
{
	TimestampTz date;

	return http_date(response, &date) ? date + USECS_PER_SEC - 1 : response->received_at;
}

/* ------------------------------------------------------------------------
 * On to the next step
 * ------------------------------------------------------------------------
 */

/* A draft that is to be charged; seats that are to follow a change of the product. */
static void
plan_next_step(const ProviderCall *call, const char *id, CallResult *result)
{
	JsonBuilder carry;

	if (call->operation == OPERATION_PAYMENT_INTENT_CREATE && polar_step(call) == POLAR_CREATE &&
		json_bool(call->arguments, "confirm", false))
	{
		json_open(&carry);
		json_add_text(&carry, "order", id);
		result->carry = json_close(&carry);
		result->next_step = 1;
	}
	else if (call->operation == OPERATION_SUBSCRIPTION_UPDATE && call->step == 0 &&
			 polar_changes_base(call) && polar_changes_seats(call))
		result->next_step = 1;
}

/* DONE when object is what the call is about, and UNKNOWN otherwise. */
void
polar_take_object(const ProviderCall *call, const Jsonb *object, CallResult *result)
{
	List *snapshots = object == NULL ? NIL : polar_snapshots(type_of(call), object);
	ProviderSnapshot *snapshot = snapshot_of_type(snapshots, type_of(call));
	char *id = id_of(call);

	if (snapshot == NULL || (id != NULL && strcmp(id, snapshot->provider_id) != 0))
	{
		polar_unreadable(result);
		return;
	}
	if (polar_step(call) == POLAR_CREATE && snapshot->reference == NULL)
		snapshot->reference = call->reference;
	result_set_error(result, OUTCOME_DONE, NULL, NULL);
	result->snapshots = without_secrets(call, snapshots);
	plan_next_step(call, snapshot->provider_id, result);
}

void
polar_take_removed(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	result_set_error(result, OUTCOME_DONE, NULL, NULL);
	result->snapshots = list_make1(
		polar_gone_snapshot(type_of(call), id_of(call), answered_at(response)));
}

/* A carry for a step that looks into a failure of this one. */
static void
plan_inquiry(const ProviderCall *call, const Jsonb *carried, int next_step, CallResult *result)
{
	static const char *const members[] = {"order", "amount"};
	JsonBuilder carry;
	int64 number;

	json_open(&carry);
	for (size_t i = 0; carried != NULL && i < lengthof(members); i++)
	{
		if (json_int(carried, members[i], &number))
			json_add_int(&carry, members[i], number);
		else
			json_add_text(&carry, members[i], json_text(carried, members[i]));
	}
	json_add_int(&carry, "step", call->step);
	json_add_text(&carry, "error_type", result->error_type);
	json_add_text(&carry, "error_code", result->error_code);
	result_set_error(result, OUTCOME_DONE, NULL, NULL);
	result->retry_after = -1;
	result->carry = json_close(&carry);
	result->next_step = next_step;
}

/* ------------------------------------------------------------------------
 * Lists
 * ------------------------------------------------------------------------
 */

/* What has not been touched since the time that was asked for is no news. */
static bool
is_news(const ProviderCall *call, const Jsonb *item)
{
	TimestampTz since = json_unix_time(call->arguments, "since");
	TimestampTz changed = json_rfc3339_time(item, "modified_at");

	if (changed == 0)
		changed = json_rfc3339_time(item, "created_at");
	return changed == 0 || changed >= since;
}

static void
take_page(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	bool has_since = json_has(call->arguments, "since");
	int count = json_length(list, "items");
	int64 pages;

	if (json_part(list, "items") == NULL)
	{
		polar_unreadable(result);
		return;
	}
	result_set_error(result, OUTCOME_DONE, NULL, NULL);
	for (int i = 0; i < count; i++)
	{
		Jsonb *item = json_part(list, psprintf("items.%d", i));

		if (item != NULL && (!has_since || is_news(call, item)))
			result->snapshots = list_concat(result->snapshots,
											polar_snapshots(type_of(call), item));
	}
	result->snapshots = without_secrets(call, result->snapshots);
	if (json_int(list, "pagination.max_page", &pages) && call->step + 1 < pages &&
		call->step + 1 < POLAR_PAGE_LIMIT)
		result->next_step = call->step + 1;
}

/* A list of which one element is what was asked for. */
static void
take_only(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	int count = json_length(list, "items");

	for (int i = 0; i < count; i++)
	{
		Jsonb *item = json_part(list, psprintf("items.%d", i));

		if (item != NULL && same_text(json_text(item, "id"), id_of(call)))
		{
			polar_take_object(call, item, result);
			return;
		}
	}
	if (json_part(list, "items") != NULL)
		result_set_error(result, OUTCOME_REFUSED, "ResourceNotFound", NULL);
	else
		polar_unreadable(result);
}

/* ------------------------------------------------------------------------
 * Steps that prepare the next one
 * ------------------------------------------------------------------------
 */
typedef struct Merge
{
	JsonBuilder *out;
	const Jsonb *changes;
	const char *key;
	bool changed;
} Merge;

static void
compare_key(const char *key, const JsonbValue *value, void *context)
{
	Merge *merge = context;

	merge->changed |= strcmp(key, merge->key) == 0;
}

/* Not by path, because a key may hold a dot. */
static void
keep_unless_changed(const char *key, const JsonbValue *value, void *context)
{
	Merge *merge = context;

	merge->key = key;
	merge->changed = false;
	if (strncmp(key, POLAR_OWN_PREFIX, strlen(POLAR_OWN_PREFIX)) != 0 &&
		strcmp(key, POLAR_ORGANIZATION) != 0)
		json_visit(merge->changes, compare_key, merge);
	if (!merge->changed && value->type != jbvBinary)
		json_add_json(merge->out, key, JsonbValueToJsonb(unconstify(JsonbValue *, value)));
}

/*
 * Polar replaces metadata as a whole; ours are changes: what is named is set,
 * what is null goes, the rest stays.
 */
static void
prepare_metadata(const ProviderCall *call, const Jsonb *customer, CallResult *result)
{
	Jsonb *present = json_part(customer, "metadata");
	Jsonb *changes = json_part(call->arguments, "metadata");
	JsonBuilder carry;
	Merge merge = {.out = &carry, .changes = changes};

	json_open(&carry);
	json_open_object(&carry, "metadata");
	if (present != NULL && changes != NULL)
		json_visit(present, keep_unless_changed, &merge);
	if (changes != NULL)
		json_visit(changes, polar_add_metadata, &carry);
	json_close_object(&carry);
	result_set_error(result, OUTCOME_DONE, NULL, NULL);
	result->carry = json_close(&carry);
	result->next_step = 1;
}

/*
 * How much of the order's net amount is refunded so that the customer gets
 * back the amount that we were asked for, tax included: Polar adds the tax in
 * proportion.  Never more than it says can still be refunded; 0: nothing can.
 */
static int64
net_refund(const ProviderCall *call, const Jsonb *order)
{
	int64 wanted = 0;
	int64 net = 0;
	int64 tax = 0;
	int64 total;
	int64 refundable = 0;
	int64 refundable_tax = 0;
	int64 refundable_total;
	int64 amount;

	(void) json_int(call->arguments, "amount", &wanted);
	(void) json_int(order, "net_amount", &net);
	(void) json_int(order, "tax_amount", &tax);
	(void) json_int(order, "refundable_amount", &refundable);
	(void) json_int(order, "refundable_tax_amount", &refundable_tax);
	if (refundable <= 0 || net <= 0 || tax < 0 || money_add(net, tax, &total) != MONEY_OK ||
		money_add(refundable, refundable_tax, &refundable_total) != MONEY_OK)
		return 0;
	if (json_bool(call->arguments, "whole", false) || wanted >= refundable_total)
		return refundable;
	if (money_ratio(wanted, net, total, &amount) != MONEY_OK)
		return 0;
	return Min(Max(amount, 1), refundable);
}

static void
prepare_refund(const ProviderCall *call, const Jsonb *order, CallResult *result)
{
	int64 net = net_refund(call, order);
	ProviderCall refund = *call;
	JsonBuilder carry;

	if (!json_has(order, "refundable_amount"))
	{
		polar_unreadable(result);
		return;
	}
	if (net == 0)
	{
		/* as if the next step had been refused: perhaps it was us who refunded it */
		refund.step = 1;
		result->error_type = "RefundedAlready";
		result->error_code = "nothing_refundable";
		plan_inquiry(&refund, NULL, POLAR_CONFIRM_STEP, result);
		return;
	}
	json_open(&carry);
	json_add_int(&carry, "amount", net);
	result_set_error(result, OUTCOME_DONE, NULL, NULL);
	result->carry = json_close(&carry);
	result->next_step = 1;
}

/* The document is made once; after that it only has to be fetched. */
static void
prepare_document(const Jsonb *order, CallResult *result)
{
	result_set_error(result, OUTCOME_DONE, NULL, NULL);
	result->next_step = json_bool(order, "is_invoice_generated", false) ? POLAR_DOCUMENT_STEP : 1;
}

static void
take_preparation(const ProviderCall *call, const Jsonb *object, CallResult *result)
{
	if (json_text(object, "id") == NULL)
		polar_unreadable(result);
	else if (call->operation == OPERATION_REFUND_CREATE)
		prepare_refund(call, object, result);
	else if (call->operation == OPERATION_CUSTOMER_UPDATE)
		prepare_metadata(call, object, result);
	else
		prepare_document(object, result);
}

/* The URL is all that the answer says; the order, which is read once more, has the rest. */
static void
take_document(const ProviderCall *call, const Jsonb *document, CallResult *result)
{
	char *url = json_text(document, "url");
	JsonBuilder carry;

	if (url == NULL)
	{
		polar_unreadable(result);
		return;
	}
	json_open(&carry);
	json_add_text(&carry, "url", url);
	result_set_error(result, OUTCOME_DONE, NULL, NULL);
	result->carry = json_close(&carry);
	result->next_step = POLAR_DOCUMENT_STEP + 1;
}

static void
take_documented(const ProviderCall *call, const Jsonb *order, CallResult *result)
{
	ProviderSnapshot *snapshot;

	polar_take_object(call, order, result);
	snapshot = snapshot_of_type(result->snapshots, BILLING_INVOICE);
	if (snapshot != NULL)
		snapshot->invoice.pdf_url = json_text(call->carry, "url");
}

/* ------------------------------------------------------------------------
 * Declines
 * ------------------------------------------------------------------------
 */

/*
 * The order stays a draft that can be charged again; the answer does not show
 * it, so what is told of the payment is put together here.
 */
static void
take_decline(const ProviderCall *call, const char *reason, TimestampTz failed_at,
			 CallResult *result)
{
	ProviderSnapshot *snapshot = snapshot_new(BILLING_PAYMENT_INTENT, polar_order_id(call), false);
	PaymentIntentSnapshot *intent = &snapshot->payment_intent;

	snapshot->as_of = failed_at;
	intent->status = "failed";
	intent->provider_status = "draft";
	intent->error_code = json_text(call->carry, "error_type");
	intent->decline_code = reason;
	result_set_error(result, OUTCOME_DECLINED, intent->error_code,
					 reason != NULL ? reason : json_text(call->carry, "error_code"));
	result->snapshots = list_make1(snapshot);
}

/* Asking is a courtesy: when Polar will not say why, the decline stands without a reason. */
static void
read_decline(const ProviderCall *call, const HttpResponse *response, const Jsonb *body,
			 CallResult *result)
{
	TimestampTz failed_at = 0;

	if (answer_is_success(response) && body != NULL)
	{
		failed_at = json_rfc3339_time(body, "items.0.created_at");
		take_decline(call, json_text(body, "items.0.decline_reason"),
					 failed_at != 0 ? failed_at : answered_at(response), result);
	}
	else if (response->transport == HTTP_ANSWERED)
	{
		polar_read_error(response, body, true, result);
		if (result->outcome == OUTCOME_REFUSED || result->outcome == OUTCOME_DECLINED)
			take_decline(call, NULL, answered_at(response), result);
	}
}

/* ------------------------------------------------------------------------
 * Answers to requests
 * ------------------------------------------------------------------------
 */
static void
read_success(const ProviderCall *call, const HttpResponse *response, const Jsonb *body,
			 CallResult *result)
{
	PolarStep step = polar_step(call);

	/* neither of the two answers with anything */
	if (step == POLAR_REMOVE)
		polar_take_removed(call, response, result);
	else if (step == POLAR_TRIGGER)
	{
		result_set_error(result, OUTCOME_DONE, NULL, NULL);
		result->next_step = POLAR_DOCUMENT_STEP;
	}
	else if (body == NULL)
		polar_unreadable(result);
	else if (step == POLAR_INGEST)
		polar_take_ingested(body, result);
	else if (step == POLAR_LIST)
		take_page(call, body, result);
	else if (step == POLAR_PREPARE)
		take_preparation(call, body, result);
	else if (call->operation == OPERATION_REFUND_FETCH)
		take_only(call, body, result);
	else if (call->operation == OPERATION_INVOICE_DOCUMENT && call->step == POLAR_DOCUMENT_STEP)
		take_document(call, body, result);
	else if (call->operation == OPERATION_INVOICE_DOCUMENT)
		take_documented(call, body, result);
	else
		polar_take_object(call, body, result);
}

/* Refusals that may mean: it is as you want it already. */
static bool
may_be_done(const ProviderCall *call, const HttpResponse *response, const CallResult *result)
{
	const char *class = result->error_type;

	switch (polar_step(call))
	{
		case POLAR_CHANGE:
			return same_text(class, "AlreadyCanceledSubscription") ||
				   same_text(class, "InactiveSubscription") ||
				   same_text(class, "DisputeNotOpenError");
		case POLAR_FINALIZE:
			return response->status == 412;
		case POLAR_CREATE:
			return same_text(class, "RefundedAlready") ||
				   (call->operation == OPERATION_CUSTOMER_CREATE && response->status == 422 &&
					same_text(result->error_code, "external_id"));
		default:
			return false;
	}
}

/* What the first step read is old when the request is retried some day. */
static bool
was_prepared(const ProviderCall *call)
{
	ProviderCall first = *call;

	first.step = 0;
	return polar_step(&first) == POLAR_PREPARE;
}

static void
read_refusal(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	PolarStep step = polar_step(call);

	result->start_over = was_prepared(call);
	if (result->outcome == OUTCOME_DECLINED && step == POLAR_FINALIZE)
		plan_inquiry(call, call->carry, POLAR_DECLINE_STEP, result);
	else if (result->outcome != OUTCOME_REFUSED)
		return;
	else if (may_be_done(call, response, result))
		plan_inquiry(call, call->carry, POLAR_CONFIRM_STEP, result);
	else if (response->status == 404 && step == POLAR_REMOVE)
		polar_take_removed(call, response, result);
	else if (response->status == 404 && call->operation == OPERATION_INVOICE_DOCUMENT &&
			 call->step == POLAR_DOCUMENT_STEP)
	{
		result_set_error(result, OUTCOME_RETRY, "document_not_made", NULL);
		result->retry_after = DOCUMENT_PAUSE;
	}
}

/* The look-up of the step that was refused; when it shows nothing, the refusal stands. */
static void
read_confirmation(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	ProviderCall refused = *call;

	refused.step = polar_refused_step(call);
	/* it was refused, not lost: nothing is at work any more */
	refused.sent_at = 0;
	polar_read_lookup(&refused, response, result);
	if (result->outcome == OUTCOME_ABSENT)
	{
		result_set_error(result, OUTCOME_REFUSED, json_text(call->carry, "error_type"),
						 json_text(call->carry, "error_code"));
		result->start_over = true;
	}
}

void
polar_read_response(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	bool harmless = polar_is_harmless(polar_step(call));
	Jsonb *body;

	if (polar_step(call) == POLAR_CONFIRM)
	{
		read_confirmation(call, response, result);
		return;
	}
	body = polar_open_answer(response, result);
	if (polar_step(call) == POLAR_DECLINE)
		read_decline(call, response, body, result);
	else if (answer_is_success(response))
		read_success(call, response, body, result);
	else if (response->transport == HTTP_ANSWERED)
	{
		polar_read_error(response, body, harmless, result);
		read_refusal(call, response, result);
	}
	if (response->transport == HTTP_NOT_SENT || (harmless && result->outcome == OUTCOME_UNKNOWN))
		result->outcome = OUTCOME_RETRY;
}

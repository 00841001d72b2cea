/*-------------------------------------------------------------------------
 *
 * sandbox_state.c
 *	  The memory of the sandbox: what it knows of one customer.
 *
 * Between two exchanges a customer is one jsonb that the worker keeps; during
 * an exchange it is the structs of sandbox.h.  Here is the way from one to
 * the other, the objects that go out in answers and events, and the events
 * themselves.  A subscription or an invoice in the state is its object plus
 * what only the sandbox has to know.
 *
 * Ids are made of the customer's reference and a counter, never by chance: the
 * same calls at the same times give the same ids.  The counter is padded so
 * that the ids of events sort in the order in which they happened.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

#include "utils/timestamp.h"

/* Answers that are remembered; calls of one customer come one by one. */
#define MAX_ANSWERS 50

/* Values of usage, of an hour each. */
#define MAX_USAGE_HOURS 1000

/* Finished invoices and subscriptions beyond these are forgotten. */
#define MAX_INVOICES      100
#define MAX_SUBSCRIPTIONS 100

#define UNIX_EPOCH_MICROSECONDS ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

static const char *const status_names[] = {
	[SANDBOX_INCOMPLETE] = "incomplete", [SANDBOX_INCOMPLETE_EXPIRED] = "incomplete_expired",
	[SANDBOX_TRIALING] = "trialing",     [SANDBOX_ACTIVE] = "active",
	[SANDBOX_PAST_DUE] = "past_due",     [SANDBOX_PAUSED] = "paused",
	[SANDBOX_CANCELED] = "canceled",
};

static const char *const invoice_status_names[] = {
	[SANDBOX_INVOICE_DRAFT] = "draft",
	[SANDBOX_INVOICE_OPEN] = "open",
	[SANDBOX_INVOICE_PAID] = "paid",
	[SANDBOX_INVOICE_VOID] = "void",
	[SANDBOX_INVOICE_UNCOLLECTIBLE] = "uncollectible",
};

/* ------------------------------------------------------------------------
 * Ids
 * ------------------------------------------------------------------------
 */

/* The reference without dashes; whole, so that customers never share ids. */
static const char *
compact_reference(const SandboxState *state)
{
	char *compact = pstrdup(state->reference);
	char *to = compact;

	for (const char *from = state->reference; *from != '\0'; from++)
	{
		if (*from != '-')
			*to++ = *from;
	}
	*to = '\0';
	return compact;
}

static const char *
newest_id(const SandboxState *state, const char *prefix)
{
	return psprintf("%s_sbx_%s_%08lld", prefix, compact_reference(state),
					(long long) state->counter);
}

const char *
sandbox_new_id(SandboxState *state, const char *prefix)
{
	state->counter++;
	return newest_id(state, prefix);
}

const char *
sandbox_position(const SandboxState *state)
{
	return newest_id(state, "evt");
}

/* ------------------------------------------------------------------------
 * Finding
 * ------------------------------------------------------------------------
 */

SandboxMethod *
sandbox_method(const SandboxState *state, const char *id)
{
	ListCell *cell;

	foreach (cell, state->methods)
	{
		SandboxMethod *method = lfirst(cell);

		if (id != NULL && strcmp(method->id, id) == 0)
			return method;
	}
	return NULL;
}

SandboxSubscription *
sandbox_subscription(const SandboxState *state, const char *id)
{
	ListCell *cell;

	foreach (cell, state->subscriptions)
	{
		SandboxSubscription *subscription = lfirst(cell);

		if (id != NULL && strcmp(subscription->id, id) == 0)
			return subscription;
	}
	return NULL;
}

SandboxSubscription *
sandbox_subscription_by_reference(const SandboxState *state, const char *reference)
{
	ListCell *cell;

	foreach (cell, state->subscriptions)
	{
		SandboxSubscription *subscription = lfirst(cell);

		if (reference != NULL && subscription->reference != NULL &&
			strcmp(subscription->reference, reference) == 0)
			return subscription;
	}
	return NULL;
}

SandboxInvoice *
sandbox_invoice(const SandboxState *state, const char *id)
{
	ListCell *cell;

	foreach (cell, state->invoices)
	{
		SandboxInvoice *invoice = lfirst(cell);

		if (id != NULL && strcmp(invoice->id, id) == 0)
			return invoice;
	}
	return NULL;
}

void *
sandbox_find(const List *records, const char *key)
{
	ListCell *cell;

	foreach (cell, records)
	{
		SandboxRecord *record = lfirst(cell);

		if (sandbox_text_is(record->id, key) || sandbox_text_is(record->reference, key))
			return record;
	}
	return NULL;
}

void *
sandbox_requested(const List *records, const Jsonb *arguments, const char *key, SandboxReply *reply)
{
	void *record = sandbox_find(records, json_text(arguments, key));

	if (record == NULL)
		sandbox_refuse(reply, 404, "resource_missing");
	return record;
}

/* ------------------------------------------------------------------------
 * Objects
 * ------------------------------------------------------------------------
 */

static void
add_seconds(JsonBuilder *builder, const char *key, int64 seconds)
{
	if (seconds != 0)
		json_add_int(builder, key, seconds);
}

static void
add_head(JsonBuilder *builder, const char *object, const char *id, const char *reference)
{
	json_add_text(builder, "object", object);
	json_add_text(builder, "id", id);
	json_add_text(builder, "reference", reference);
	json_add_bool(builder, "livemode", false);
}

Jsonb *
sandbox_customer_object(const SandboxState *state)
{
	JsonBuilder builder;

	json_open(&builder);
	add_head(&builder, "customer", state->id, state->reference);
	json_add_text(&builder, "default_payment_method", state->default_method);
	json_add_bool(&builder, "deleted", state->deleted);
	return json_close(&builder);
}

Jsonb *
sandbox_method_object(const SandboxState *state, const SandboxMethod *method, bool attached)
{
	JsonBuilder builder;

	json_open(&builder);
	add_head(&builder, "payment_method", method->id, method->reference);
	json_add_text(&builder, "customer", attached ? state->id : NULL);
	json_add_text(&builder, "type", method->token->type);
	json_add_text(&builder, "brand", method->token->brand);
	json_add_text(&builder, "last4", method->token->last4);
	if (method->exp_year != 0)
	{
		json_add_int(&builder, "exp_month", 12);
		json_add_int(&builder, "exp_year", method->exp_year);
	}
	if (method->number != NULL)
		sandbox_add_number(&builder, "number", method->token->type, method->number, 0);
	json_add_bool(&builder, "is_default",
				  attached && state->default_method != NULL &&
					  strcmp(state->default_method, method->id) == 0);
	return json_close(&builder);
}

/* Only while somebody has to do something with it in a browser. */
static const char *
client_secret(const SandboxSubscription *subscription)
{
	if (subscription->status != SANDBOX_INCOMPLETE || subscription->expires_at == 0)
		return NULL;
	return psprintf("sbx_secret_%s", subscription->id + strlen("sub_sbx_"));
}

static void
add_subscription(JsonBuilder *builder, const SandboxState *state,
				 const SandboxSubscription *subscription)
{
	add_head(builder, "subscription", subscription->id, subscription->reference);
	json_add_text(builder, "customer", state->id);
	json_add_text(builder, "price", subscription->price);
	json_add_text(builder, "status", status_names[subscription->status]);
	json_add_int(builder, "amount", subscription->amount);
	json_add_int(builder, "quantity", subscription->quantity);
	json_add_text(builder, "currency", subscription->currency);
	json_add_text(builder, "interval", period_interval_name(subscription->rule.interval));
	json_add_int(builder, "interval_count", subscription->rule.count);
	json_add_text(builder, "payment_method", subscription->method);
	add_seconds(builder, "created", subscription->created);
	add_seconds(builder, "current_period_start", subscription->period_start);
	add_seconds(builder, "current_period_end", subscription->period_end);
	add_seconds(builder, "trial_start", subscription->trial_start);
	add_seconds(builder, "trial_end", subscription->trial_end);
	json_add_bool(builder, "cancel_at_period_end", subscription->cancel_at_period_end);
	add_seconds(builder, "cancel_at",
				subscription->cancel_at_period_end ? subscription->period_end
												   : subscription->cancel_at);
	add_seconds(builder, "canceled_at", subscription->canceled_at);
	add_seconds(builder, "ended_at", subscription->ended_at);
	json_add_bool(builder, "pause_at_period_end", subscription->pause_at_period_end);
	add_seconds(builder, "resumes_at", subscription->resumes_at);
	json_add_text(builder, "client_secret", client_secret(subscription));
}

Jsonb *
sandbox_subscription_object(const SandboxState *state, const SandboxSubscription *subscription)
{
	JsonBuilder builder;

	json_open(&builder);
	add_subscription(&builder, state, subscription);
	return json_close(&builder);
}

static void
add_invoice(JsonBuilder *builder, const SandboxState *state, const SandboxInvoice *invoice)
{
	int64 paid = invoice->status == SANDBOX_INVOICE_PAID ? invoice->total : 0;

	add_head(builder, "invoice", invoice->id, NULL);
	json_add_text(builder, "customer", state->id);
	json_add_text(builder, "subscription", invoice->subscription);
	json_add_text(builder, "number", invoice->number);
	json_add_text(builder, "status", invoice_status_names[invoice->status]);
	json_add_text(builder, "billing_reason", invoice->billing_reason);
	json_add_text(builder, "currency", invoice->currency);
	json_add_int(builder, "total", invoice->total);
	json_add_int(builder, "tax", 0);
	json_add_int(builder, "amount_due", invoice->total);
	json_add_int(builder, "amount_paid", paid);
	json_add_int(builder, "amount_remaining", invoice->total - paid);
	json_add_int(builder, "attempt_count", invoice->attempt_count);
	add_seconds(builder, "created", invoice->created);
	add_seconds(builder, "period_start", invoice->period_start);
	add_seconds(builder, "period_end", invoice->period_end);
	add_seconds(builder, "paid_at", invoice->paid_at);
	add_seconds(builder, "next_attempt_at", invoice->next_attempt_at);
	json_add_text(builder, "payment_intent", invoice->payment);
	if (invoice->number == NULL)
		return;
	json_add_text(builder, "hosted_url",
				  psprintf("https://sandbox.invalid/invoices/%s", invoice->id));
	json_add_text(builder, "pdf_url",
				  psprintf("https://sandbox.invalid/invoices/%s.pdf", invoice->id));
}

Jsonb *
sandbox_invoice_object(const SandboxState *state, const SandboxInvoice *invoice)
{
	JsonBuilder builder;

	json_open(&builder);
	add_invoice(&builder, state, invoice);
	return json_close(&builder);
}

/* ------------------------------------------------------------------------
 * Events
 * ------------------------------------------------------------------------
 */

void
sandbox_event(Sandbox *sandbox, const char *type, const Jsonb *object)
{
	EmbeddedEvent *event = palloc0(sizeof(EmbeddedEvent));
	JsonBuilder builder;

	event->id = sandbox_new_id(&sandbox->state, "evt");
	json_open(&builder);
	json_add_text(&builder, "id", event->id);
	json_add_text(&builder, "object", "event");
	json_add_text(&builder, "type", type);
	json_add_int(&builder, "created", sandbox->now);
	json_add_bool(&builder, "livemode", false);
	json_open_object(&builder, "data");
	json_add_json(&builder, "object", object);
	json_close_object(&builder);
	event->payload = json_string(json_close(&builder));
	sandbox->events = lappend(sandbox->events, event);
}

void
sandbox_subscription_event(Sandbox *sandbox, const char *type,
						   const SandboxSubscription *subscription)
{
	const Jsonb *object = sandbox_subscription_object(&sandbox->state, subscription);

	for (const char *const *told = sandbox_event_sequence(sandbox, type); *told != NULL; told++)
		sandbox_event(sandbox, *told, object);
}

/* ------------------------------------------------------------------------
 * State to jsonb
 * ------------------------------------------------------------------------
 */

static Jsonb *
write_method(const SandboxMethod *method)
{
	JsonBuilder builder;

	json_open(&builder);
	json_add_text(&builder, "id", method->id);
	json_add_text(&builder, "reference", method->reference);
	json_add_text(&builder, "token", method->token->name);
	json_add_text(&builder, "number", method->number);
	add_seconds(&builder, "exp_year", method->exp_year);
	json_add_bool(&builder, "authenticated", method->authenticated);
	return json_close(&builder);
}

static Jsonb *
write_subscription(const SandboxState *state, const SandboxSubscription *subscription)
{
	JsonBuilder builder;

	json_open(&builder);
	add_subscription(&builder, state, subscription);
	json_add_int(&builder, "anchor", subscription->rule.anchor);
	json_add_text(&builder, "trial_end_behavior", subscription->trial_end_behavior);
	add_seconds(&builder, "trial_notice_at", subscription->trial_notice_at);
	add_seconds(&builder, "expires_at", subscription->expires_at);
	json_add_int(&builder, "pending", subscription->pending);
	return json_close(&builder);
}

static Jsonb *
write_invoice(const SandboxState *state, const SandboxInvoice *invoice)
{
	JsonBuilder builder;

	json_open(&builder);
	add_invoice(&builder, state, invoice);
	json_add_text(&builder, "method", invoice->method);
	json_add_text(&builder, "failure_code", invoice->failure_code);
	add_seconds(&builder, "first_failed_at", invoice->first_failed_at);
	json_add_bool(&builder, "needs_action", invoice->needs_action);
	json_add_bool(&builder, "processing", invoice->processing);
	add_seconds(&builder, "settle_at", invoice->settle_at);
	json_add_text(&builder, "settle_code", invoice->settle_code);
	return json_close(&builder);
}

static Jsonb *
write_answer(const SandboxAnswer *answer)
{
	JsonBuilder builder;

	json_open(&builder);
	json_add_text(&builder, "key", answer->wire_key);
	json_add_int(&builder, "status", answer->status);
	json_add_json(&builder, "body", answer->body);
	return json_close(&builder);
}

Jsonb *
sandbox_state_write(const SandboxState *state)
{
	JsonBuilder builder;
	ListCell *cell;

	json_open(&builder);
	json_add_text(&builder, "id", state->id);
	json_add_text(&builder, "reference", state->reference);
	json_add_bool(&builder, "deleted", state->deleted);
	json_add_text(&builder, "default_method", state->default_method);
	json_add_int(&builder, "counter", state->counter);
	json_add_int(&builder, "invoice_counter", state->invoice_counter);

	json_open_array(&builder, "methods");
	foreach (cell, state->methods)
		json_append_json(&builder, write_method(lfirst(cell)));
	json_close_array(&builder);

	json_open_array(&builder, "subscriptions");
	foreach (cell, state->subscriptions)
		json_append_json(&builder, write_subscription(state, lfirst(cell)));
	json_close_array(&builder);

	json_open_array(&builder, "invoices");
	foreach (cell, state->invoices)
		json_append_json(&builder, write_invoice(state, lfirst(cell)));
	json_close_array(&builder);

	sandbox_records_write(&builder, state);

	json_open_array(&builder, "usage");
	foreach (cell, state->usage)
		json_append_json(&builder, lfirst(cell));
	json_close_array(&builder);

	json_open_array(&builder, "answers");
	foreach (cell, state->answers)
		json_append_json(&builder, write_answer(lfirst(cell)));
	json_close_array(&builder);
	return json_close(&builder);
}

/* ------------------------------------------------------------------------
 * jsonb to state
 * ------------------------------------------------------------------------
 */

static int64
read_int(const Jsonb *json, const char *key)
{
	int64 value = 0;

	(void) json_int(json, key, &value);
	return value;
}

/* Index of a name that we wrote ourselves. */
static int
read_name(const Jsonb *json, const char *key, const char *const *names, int count)
{
	const char *name = json_text(json, key);

	for (int i = 0; name != NULL && i < count; i++)
	{
		if (strcmp(names[i], name) == 0)
			return i;
	}
	elog(ERROR, "sandbox state has no valid \"%s\"", key);
	return 0;
}

static void *
read_method(const Jsonb *json)
{
	SandboxMethod *method = palloc0(sizeof(SandboxMethod));

	method->id = json_text(json, "id");
	method->reference = json_text(json, "reference");
	method->token = sandbox_token(json_text(json, "token"));
	if (method->token == NULL)
		method->token = sandbox_reference_token(json_text(json, "token"));
	if (method->token == NULL)
		elog(ERROR, "sandbox state has an unknown token");
	method->number = json_text(json, "number");
	method->exp_year = read_int(json, "exp_year");
	method->authenticated = json_bool(json, "authenticated", false);
	return method;
}

static void *
read_subscription(const Jsonb *json)
{
	SandboxSubscription *subscription = palloc0(sizeof(SandboxSubscription));

	subscription->id = json_text(json, "id");
	subscription->reference = json_text(json, "reference");
	subscription->price = json_text(json, "price");
	subscription->amount = read_int(json, "amount");
	subscription->quantity = read_int(json, "quantity");
	subscription->currency = json_text(json, "currency");
	subscription->rule.anchor = read_int(json, "anchor");
	subscription->rule.count = (int32) read_int(json, "interval_count");
	if (!period_interval_by_name(json_text(json, "interval"), &subscription->rule.interval))
		elog(ERROR, "sandbox state has no valid \"interval\"");
	subscription->status = (SandboxStatus) read_name(json, "status", status_names,
													 lengthof(status_names));
	subscription->method = json_text(json, "payment_method");
	subscription->trial_end_behavior = json_text(json, "trial_end_behavior");
	subscription->created = read_int(json, "created");
	subscription->period_start = read_int(json, "current_period_start");
	subscription->period_end = read_int(json, "current_period_end");
	subscription->trial_start = read_int(json, "trial_start");
	subscription->trial_end = read_int(json, "trial_end");
	subscription->trial_notice_at = read_int(json, "trial_notice_at");
	subscription->cancel_at_period_end = json_bool(json, "cancel_at_period_end", false);
	if (!subscription->cancel_at_period_end)
		subscription->cancel_at = read_int(json, "cancel_at");
	subscription->canceled_at = read_int(json, "canceled_at");
	subscription->ended_at = read_int(json, "ended_at");
	subscription->expires_at = read_int(json, "expires_at");
	subscription->pending = read_int(json, "pending");
	subscription->pause_at_period_end = json_bool(json, "pause_at_period_end", false);
	subscription->resumes_at = read_int(json, "resumes_at");
	return subscription;
}

static void *
read_invoice(const Jsonb *json)
{
	SandboxInvoice *invoice = palloc0(sizeof(SandboxInvoice));

	invoice->id = json_text(json, "id");
	invoice->number = json_text(json, "number");
	invoice->subscription = json_text(json, "subscription");
	invoice->currency = json_text(json, "currency");
	invoice->billing_reason = json_text(json, "billing_reason");
	invoice->method = json_text(json, "method");
	invoice->payment = json_text(json, "payment_intent");
	invoice->failure_code = json_text(json, "failure_code");
	invoice->status = (SandboxInvoiceStatus) read_name(json, "status", invoice_status_names,
													   lengthof(invoice_status_names));
	invoice->total = read_int(json, "total");
	invoice->attempt_count = read_int(json, "attempt_count");
	invoice->created = read_int(json, "created");
	invoice->period_start = read_int(json, "period_start");
	invoice->period_end = read_int(json, "period_end");
	invoice->paid_at = read_int(json, "paid_at");
	invoice->first_failed_at = read_int(json, "first_failed_at");
	invoice->next_attempt_at = read_int(json, "next_attempt_at");
	invoice->needs_action = json_bool(json, "needs_action", false);
	invoice->processing = json_bool(json, "processing", false);
	invoice->settle_at = read_int(json, "settle_at");
	invoice->settle_code = json_text(json, "settle_code");
	return invoice;
}

static void *
read_answer(const Jsonb *json)
{
	SandboxAnswer *answer = palloc0(sizeof(SandboxAnswer));

	answer->wire_key = json_text(json, "key");
	answer->status = read_int(json, "status");
	answer->body = json_part(json, "body");
	return answer;
}

static List *
read_list(const Jsonb *json, const char *key, void *(*read_one)(const Jsonb *) )
{
	int count = json_length(json, key);
	List *list = NIL;

	for (int i = 0; i < count; i++)
		list = lappend(list, read_one(json_part(json, psprintf("%s.%d", key, i))));
	return list;
}

static void *
read_whole(const Jsonb *json)
{
	return unconstify(Jsonb *, json);
}

void
sandbox_state_read(SandboxState *state, const Jsonb *json)
{
	memset(state, 0, sizeof(*state));
	if (json == NULL)
		return;

	state->id = json_text(json, "id");
	state->reference = json_text(json, "reference");
	state->deleted = json_bool(json, "deleted", false);
	state->default_method = json_text(json, "default_method");
	state->counter = read_int(json, "counter");
	state->invoice_counter = read_int(json, "invoice_counter");
	state->methods = read_list(json, "methods", read_method);
	state->subscriptions = read_list(json, "subscriptions", read_subscription);
	state->invoices = read_list(json, "invoices", read_invoice);
	sandbox_records_read(state, json);
	state->usage = read_list(json, "usage", read_whole);
	state->answers = read_list(json, "answers", read_answer);
}

/* ------------------------------------------------------------------------
 * Beginning and end of an exchange
 * ------------------------------------------------------------------------
 */

/* Will nothing happen to the invoice any more? */
static bool
invoice_is_finished(const SandboxState *state, const SandboxInvoice *invoice)
{
	SandboxSubscription *subscription = sandbox_subscription(state, invoice->subscription);

	return invoice->status != SANDBOX_INVOICE_OPEN ||
		   (subscription->ended_at != 0 && !invoice->processing);
}

static bool
has_invoice(const SandboxState *state, const SandboxSubscription *subscription)
{
	ListCell *cell;

	foreach (cell, state->invoices)
	{
		SandboxInvoice *invoice = lfirst(cell);

		if (strcmp(invoice->subscription, subscription->id) == 0)
			return true;
	}
	return false;
}

/*
 * Drops what is oldest and finished, so that a state does not grow for ever.
 * A subscription outlives its invoices: what is settled late finds it.
 */
static void
forget(SandboxState *state)
{
	ListCell *cell;

	while (list_length(state->answers) > MAX_ANSWERS)
		state->answers = list_delete_first(state->answers);
	while (list_length(state->usage) > MAX_USAGE_HOURS)
		state->usage = list_delete_first(state->usage);
	sandbox_records_forget(state);

	foreach (cell, state->invoices)
	{
		if (list_length(state->invoices) <= MAX_INVOICES)
			break;
		if (invoice_is_finished(state, lfirst(cell)))
			state->invoices = foreach_delete_current(state->invoices, cell);
	}

	foreach (cell, state->subscriptions)
	{
		SandboxSubscription *subscription = lfirst(cell);

		if (list_length(state->subscriptions) <= MAX_SUBSCRIPTIONS)
			break;
		if (subscription->ended_at != 0 && !has_invoice(state, subscription))
			state->subscriptions = foreach_delete_current(state->subscriptions, cell);
	}
}

int64
sandbox_unix_seconds(TimestampTz moment)
{
	return (moment + UNIX_EPOCH_MICROSECONDS) / USECS_PER_SEC;
}

void
sandbox_open(Sandbox *sandbox, const EmbeddedExchange *exchange)
{
	sandbox_state_read(&sandbox->state, exchange->state);
	sandbox->now = sandbox_unix_seconds(exchange->now);
	sandbox->events = NIL;
	sandbox->behave_as = json_text(exchange->account->options, "behave_as");
	sandbox->fees = json_part(exchange->account->options, "fees");
}

/*
 * A customer that does not exist stays a NULL state.  What is due has whole
 * seconds, the clock need not: next_due must not lie before it all the same.
 */
void
sandbox_close(Sandbox *sandbox, EmbeddedExchange *exchange)
{
	int64 due;

	forget(&sandbox->state);
	due = sandbox_next_due(sandbox);
	exchange->new_state = sandbox->state.id == NULL ? NULL : sandbox_state_write(&sandbox->state);
	exchange->events = sandbox->events;
	exchange->next_due = 0;
	if (due != 0)
		exchange->next_due = Max(due * USECS_PER_SEC - UNIX_EPOCH_MICROSECONDS, exchange->now);
}

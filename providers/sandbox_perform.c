/*-------------------------------------------------------------------------
 *
 * sandbox_perform.c
 *	  The far side of the sandbox: requests come in, answers go out.
 *
 * What a real provider's servers do: route, remember answers by their key,
 * look up, and fail when a test wants it to.  Answers that did something (200) or decided something (402) are
 * remembered and given again when their key comes again; a request that was
 * wrong, or met a fault, is not, as at the real one.
 *
 * Faults: 429 and 500 and declined do nothing; timeout_after_success does
 * everything and loses the answer.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

typedef void (*Handler)(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply);

static void
refuse(SandboxReply *reply, int status, const char *type, const char *code)
{
	reply->status = status;
	reply->error_type = type;
	reply->error_code = code;
}

void
sandbox_refuse(SandboxReply *reply, int status, const char *code)
{
	refuse(reply, status, "invalid_request_error", code);
}

void
sandbox_decline(SandboxReply *reply, const char *code)
{
	refuse(reply, 402, "card_error", code);
}

void
sandbox_reply_object(SandboxReply *reply, const Jsonb *object)
{
	reply->objects = lappend(reply->objects, (void *) object);
}

bool
sandbox_take_int(const Jsonb *arguments, const char *key, int64 *value)
{
	return !json_has(arguments, key) || json_int(arguments, key, value);
}

bool
sandbox_text_is(const char *text, const char *wanted)
{
	return text != NULL && wanted != NULL && strcmp(text, wanted) == 0;
}

/* ------------------------------------------------------------------------
 * Look-ups
 * ------------------------------------------------------------------------
 */

/* The method that was attached under this reference. */
static Jsonb *
attached_method(const SandboxState *state, const char *reference)
{
	ListCell *cell;

	foreach (cell, state->methods)
	{
		SandboxMethod *method = lfirst(cell);

		if (sandbox_text_is(method->reference, reference))
			return sandbox_method_object(state, method, true);
	}
	return NULL;
}

/* The object that an operation made for this reference; NULL when there is none. */
static Jsonb *
created_object(const SandboxState *state, Operation operation, const char *reference)
{
	SandboxSubscription *subscription;
	void *record;

	switch (operation)
	{
		case OPERATION_CUSTOMER_CREATE:
			return sandbox_text_is(state->reference, reference) ? sandbox_customer_object(state)
																: NULL;
		case OPERATION_SUBSCRIPTION_CREATE:
			subscription = sandbox_subscription_by_reference(state, reference);
			return subscription == NULL ? NULL : sandbox_subscription_object(state, subscription);
		case OPERATION_PAYMENT_METHOD_ATTACH:
			return attached_method(state, reference);
		case OPERATION_PAYMENT_INTENT_CREATE:
			record = sandbox_find(state->payments, reference);
			return record == NULL ? NULL : sandbox_payment_object(state, record);
		case OPERATION_SETUP_INTENT_CREATE:
			record = sandbox_find(state->setups, reference);
			return record == NULL ? NULL : sandbox_setup_object(state, record);
		case OPERATION_REFUND_CREATE:
			record = sandbox_find(state->refunds, reference);
			return record == NULL ? NULL : sandbox_refund_object(state, record);
		case OPERATION_CHECKOUT_SESSION_CREATE:
			record = sandbox_find(state->sessions, reference);
			return record == NULL ? NULL : sandbox_session_object(state, record);
		default:
			return NULL;
	}
}

/* The answer that a request of the core got, whatever generation its key had. */
static const SandboxAnswer *
answer_of_request(const SandboxState *state, const char *request)
{
	ListCell *cell;

	foreach (cell, state->answers)
	{
		SandboxAnswer *answer = lfirst(cell);
		size_t length = strlen(request);

		if (answer->status == 200 && strncmp(answer->wire_key, request, length) == 0 &&
			answer->wire_key[length] == ':')
			return answer;
	}
	return NULL;
}

static Jsonb *
look_up(const SandboxState *state, const Jsonb *question)
{
	const char *operation = json_text(question, "operation");
	const char *reference = json_text(question, "reference");
	const char *request = json_text(question, "request");
	const SandboxAnswer *answer = request == NULL ? NULL : answer_of_request(state, request);
	const Jsonb *object = NULL;
	JsonBuilder builder;

	if (answer == NULL && operation != NULL && reference != NULL)
		object = created_object(state, operation_by_name(operation), reference);

	json_open(&builder);
	json_add_bool(&builder, "found", answer != NULL || object != NULL);
	if (answer != NULL)
	{
		json_add_json(&builder, "objects", json_part(answer->body, "objects"));
		json_add_text(&builder, "position", json_text(answer->body, "position"));
	}
	else if (object != NULL)
	{
		json_add_text(&builder, "position", sandbox_position(state));
		json_open_array(&builder, "objects");
		json_append_json(&builder, object);
		json_close_array(&builder);
	}
	return json_close(&builder);
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

static const Handler handlers[OPERATION_COUNT] = {
	[OPERATION_CUSTOMER_CREATE] = sandbox_customer_create,
	[OPERATION_CUSTOMER_UPDATE] = sandbox_customer_update,
	[OPERATION_CUSTOMER_SET_TAX_IDS] = sandbox_customer_update,
	[OPERATION_CUSTOMER_DELETE] = sandbox_customer_delete,
	[OPERATION_CUSTOMER_FETCH] = sandbox_customer_fetch,
	[OPERATION_PAYMENT_METHOD_ATTACH] = sandbox_method_attach,
	[OPERATION_PAYMENT_METHOD_SET_DEFAULT] = sandbox_method_set_default,
	[OPERATION_PAYMENT_METHOD_DETACH] = sandbox_method_detach,
	[OPERATION_PAYMENT_METHOD_LIST] = sandbox_method_list,
	[OPERATION_SETUP_INTENT_CREATE] = sandbox_setup_create,
	[OPERATION_SETUP_INTENT_CANCEL] = sandbox_setup_cancel,
	[OPERATION_SUBSCRIPTION_CREATE] = sandbox_subscription_create,
	[OPERATION_SUBSCRIPTION_UPDATE] = sandbox_subscription_update,
	[OPERATION_SUBSCRIPTION_CANCEL] = sandbox_subscription_cancel,
	[OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END] = sandbox_subscription_cancel_later,
	[OPERATION_SUBSCRIPTION_UNCANCEL] = sandbox_subscription_uncancel,
	[OPERATION_SUBSCRIPTION_PAUSE] = sandbox_subscription_pause,
	[OPERATION_SUBSCRIPTION_RESUME] = sandbox_subscription_resume,
	[OPERATION_SUBSCRIPTION_RETRY_PAYMENT] = sandbox_subscription_retry,
	[OPERATION_SUBSCRIPTION_FETCH] = sandbox_subscription_fetch,
	[OPERATION_PAYMENT_INTENT_CREATE] = sandbox_payment_create,
	[OPERATION_PAYMENT_INTENT_CONFIRM] = sandbox_payment_confirm,
	[OPERATION_PAYMENT_INTENT_CAPTURE] = sandbox_payment_capture,
	[OPERATION_PAYMENT_INTENT_CANCEL] = sandbox_payment_cancel,
	[OPERATION_PAYMENT_INTENT_VERIFY_MICRODEPOSITS] = sandbox_payment_verify,
	[OPERATION_PAYMENT_INTENT_FETCH] = sandbox_payment_fetch,
	[OPERATION_REFUND_CREATE] = sandbox_refund_create,
	[OPERATION_REFUND_CANCEL] = sandbox_refund_cancel,
	[OPERATION_REFUND_FETCH] = sandbox_refund_fetch,
	[OPERATION_DISPUTE_SUBMIT_EVIDENCE] = sandbox_dispute_evidence,
	[OPERATION_DISPUTE_ACCEPT] = sandbox_dispute_accept,
	[OPERATION_DISPUTE_FETCH] = sandbox_dispute_fetch,
	[OPERATION_CHECKOUT_SESSION_CREATE] = sandbox_session_create,
	[OPERATION_CHECKOUT_SESSION_EXPIRE] = sandbox_session_expire_now,
	[OPERATION_CHECKOUT_SESSION_FETCH] = sandbox_session_fetch,
	[OPERATION_PORTAL_SESSION_CREATE] = sandbox_portal_create,
	[OPERATION_INVOICE_FETCH] = sandbox_invoice_fetch,
	[OPERATION_INVOICE_LIST] = sandbox_invoice_list,
	[OPERATION_INVOICE_FINALIZE] = sandbox_invoice_finalize,
	[OPERATION_INVOICE_PAY] = sandbox_invoice_pay,
	[OPERATION_INVOICE_VOID] = sandbox_invoice_void,
	[OPERATION_INVOICE_MARK_UNCOLLECTIBLE] = sandbox_invoice_give_up,
	[OPERATION_INVOICE_DOCUMENT] = sandbox_invoice_fetch,
	[OPERATION_USAGE_REPORT] = sandbox_usage_report,
};

/* What can still be asked of a customer that is deleted: its money can go back. */
static bool
outlives_customer(Operation operation)
{
	switch (operation)
	{
		case OPERATION_CUSTOMER_DELETE:
		case OPERATION_CUSTOMER_FETCH:
		case OPERATION_SUBSCRIPTION_FETCH:
		case OPERATION_PAYMENT_INTENT_FETCH:
		case OPERATION_REFUND_CREATE:
		case OPERATION_REFUND_CANCEL:
		case OPERATION_REFUND_FETCH:
		case OPERATION_DISPUTE_SUBMIT_EVIDENCE:
		case OPERATION_DISPUTE_ACCEPT:
		case OPERATION_DISPUTE_FETCH:
		case OPERATION_CHECKOUT_SESSION_FETCH:
		case OPERATION_INVOICE_FETCH:
		case OPERATION_INVOICE_LIST:
		case OPERATION_INVOICE_DOCUMENT:
			return true;
		default:
			return false;
	}
}

/* Is the request about the customer whose state this is? */
static bool
customer_matches(const SandboxState *state, Operation operation, const Jsonb *arguments)
{
	const char *customer = json_text(arguments, "customer");

	if (operation == OPERATION_CUSTOMER_CREATE)
		return true;
	if (state->id == NULL || (state->deleted && !outlives_customer(operation)))
		return false;
	return customer == NULL || strcmp(customer, state->id) == 0;
}

static void
dispatch(Sandbox *sandbox, const char *operation_text, const Jsonb *arguments, SandboxReply *reply)
{
	Operation operation = operation_by_name(operation_text);

	if (operation == OPERATION_COUNT || handlers[operation] == NULL)
		sandbox_refuse(reply, 404, "unknown_operation");
	else if (!customer_matches(&sandbox->state, operation, arguments))
		sandbox_refuse(reply, 404, "resource_missing");
	else
		handlers[operation](sandbox, arguments, reply);
}

/* position: where what is told stands among the events; NULL for an answer that tells nothing. */
static Jsonb *
reply_body(const SandboxReply *reply, const char *position)
{
	JsonBuilder builder;
	ListCell *cell;

	json_open(&builder);
	json_add_text(&builder, "position", position);
	json_open_array(&builder, "objects");
	foreach (cell, reply->objects)
		json_append_json(&builder, lfirst(cell));
	json_close_array(&builder);
	if (reply->status != 200)
	{
		json_open_object(&builder, "error");
		json_add_text(&builder, "type", reply->error_type);
		json_add_text(&builder, "code", reply->error_code);
		json_close_object(&builder);
	}
	return json_close(&builder);
}

static const SandboxAnswer *
remembered_answer(const SandboxState *state, const char *wire_key)
{
	ListCell *cell;

	foreach (cell, state->answers)
	{
		SandboxAnswer *answer = lfirst(cell);

		if (strcmp(answer->wire_key, wire_key) == 0)
			return answer;
	}
	return NULL;
}

/* Answers a request that no fault stops. */
static SandboxAnswer
answer_request(Sandbox *sandbox, const ProviderRequest *request, const char *wire_key)
{
	SandboxAnswer answer = {wire_key, 200, NULL};
	SandboxReply reply = {200, NULL, NULL, NIL};
	const SandboxAnswer *known = remembered_answer(&sandbox->state, wire_key);
	const char *reason;
	const Jsonb *arguments = json_parse(request->body, request->body_length, &reason);

	/* A look-up changes nothing, and may come with the key of what it asks about. */
	if (arguments != NULL && strcmp(request->path, "/lookup") == 0)
	{
		answer.body = look_up(&sandbox->state, arguments);
		return answer;
	}
	if (known != NULL)
		return *known;

	if (arguments == NULL)
		sandbox_refuse(&reply, 400, "invalid_json");
	else
		dispatch(sandbox, request->path + 1, arguments, &reply);

	answer.status = reply.status;
	/* after the events of what was done, and before those of what comes next */
	sandbox->state.counter++;
	answer.body = reply_body(&reply, sandbox_position(&sandbox->state));
	if (answer.status == 200 || answer.status == 402)
	{
		SandboxAnswer *kept = palloc(sizeof(SandboxAnswer));

		*kept = answer;
		sandbox->state.answers = lappend(sandbox->state.answers, kept);
	}
	return answer;
}

/* The answer of a fault that keeps a request from being carried out; status 0: none. */
static SandboxAnswer
answer_fault(const char *fault)
{
	SandboxAnswer answer = {NULL, 0, NULL};
	SandboxReply reply = {0, NULL, NULL, NIL};

	if (fault == NULL)
		return answer;
	if (strcmp(fault, "429") == 0)
		refuse(&reply, 429, "api_error", "rate_limit");
	else if (strcmp(fault, "500") == 0)
		refuse(&reply, 500, "api_error", "internal_error");
	else if (strcmp(fault, "declined") == 0)
		sandbox_decline(&reply, "card_declined");
	else
		return answer;
	answer.status = reply.status;
	answer.body = reply_body(&reply, NULL);
	return answer;
}

static void
write_response(const EmbeddedExchange *exchange, const SandboxAnswer *answer,
			   HttpResponse *response)
{
	memset(response, 0, sizeof(*response));
	response->sent_at = exchange->now;
	response->received_at = exchange->now;
	response->headers = "";
	response->body = "";
	if (exchange->fault != NULL && strcmp(exchange->fault, "timeout_after_success") == 0)
	{
		response->transport = HTTP_NO_ANSWER;
		strlcpy(response->error, "the sandbox was told to lose the answer",
				sizeof(response->error));
		return;
	}

	response->transport = HTTP_ANSWERED;
	response->status = (int) answer->status;
	response->headers = answer->status == 429
							? "Content-Type: application/json\r\nRetry-After: 1\r\n"
							: "Content-Type: application/json\r\n";
	response->body = json_string(answer->body);
	response->body_length = strlen(response->body);
}

void
sandbox_perform(EmbeddedExchange *exchange, const ProviderRequest *request, const char *wire_key,
				HttpResponse *response)
{
	Sandbox sandbox;
	SandboxAnswer answer = answer_fault(exchange->fault);

	sandbox_open(&sandbox, exchange);
	if (answer.status == 0)
		answer = answer_request(&sandbox, request, wire_key);
	write_response(exchange, &answer, response);
	sandbox_close(&sandbox, exchange);
}

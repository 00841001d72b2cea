/*-------------------------------------------------------------------------
 *
 * sandbox_perform.c
 *	  The far side of the sandbox: requests come in, answers go out.
 *
 * What a real provider's servers do: route, keep customers and payment
 * methods, remember answers by their key, look up, and fail when a test wants
 * it to.  Answers that did something (200) or decided something (402) are
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
	reply->objects = NIL;
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

static void
reply_object(SandboxReply *reply, const Jsonb *object)
{
	reply->objects = lappend(reply->objects, (void *) object);
}

/* ------------------------------------------------------------------------
 * Customers
 * ------------------------------------------------------------------------
 */

static void
customer_event(Sandbox *sandbox, const char *type)
{
	sandbox_event(sandbox, type, sandbox_customer_object(&sandbox->state));
}

static void
reply_customer(const Sandbox *sandbox, SandboxReply *reply)
{
	reply_object(reply, sandbox_customer_object(&sandbox->state));
}

/* There is one customer per state: another one here is a mistake of the caller. */
static void
create_customer(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxState *state = &sandbox->state;
	const char *reference = json_text(arguments, "reference");

	if (reference == NULL)
	{
		sandbox_refuse(reply, 400, "parameter_invalid");
		return;
	}
	if (state->id != NULL)
	{
		sandbox_refuse(reply, 400, "resource_already_exists");
		return;
	}
	state->reference = reference;
	state->id = sandbox_new_id(state, "cus");
	customer_event(sandbox, "customer.created");
	reply_customer(sandbox, reply);
}

/* Nothing of a person is kept, so there is only the change to tell. */
static void
update_customer(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	customer_event(sandbox, "customer.updated");
	reply_customer(sandbox, reply);
}

static void
delete_customer(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxState *state = &sandbox->state;
	ListCell *cell;

	foreach (cell, state->subscriptions)
	{
		SandboxSubscription *subscription = lfirst(cell);

		if (subscription->ended_at == 0)
			sandbox_cancel(sandbox, subscription);
	}
	state->methods = NIL;
	state->default_method = NULL;
	state->deleted = true;
	customer_event(sandbox, "customer.deleted");
	reply_customer(sandbox, reply);
}

/* ------------------------------------------------------------------------
 * Payment methods
 * ------------------------------------------------------------------------
 */

static SandboxMethod *
make_method(Sandbox *sandbox, const SandboxToken *token, const char *reference)
{
	SandboxMethod *method = palloc0(sizeof(SandboxMethod));
	int year;

	method->id = sandbox_new_id(&sandbox->state, "pm");
	method->reference = reference;
	method->token = token;
	if (strcmp(token->type, "card") == 0 && period_year(sandbox->now, &year))
		method->exp_year = year + 5;
	return method;
}

static void
make_default(Sandbox *sandbox, const SandboxMethod *method, SandboxReply *reply)
{
	sandbox->state.default_method = method->id;
	customer_event(sandbox, "customer.updated");
	reply_customer(sandbox, reply);
}

static void
attach_method(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxState *state = &sandbox->state;
	const SandboxToken *token = sandbox_token(json_text(arguments, "payment_method"));
	bool set_default = json_bool(arguments, "set_default", false);
	SandboxMethod *method;

	if (token == NULL)
	{
		sandbox_refuse(reply, 400, "unknown_token");
		return;
	}
	if (token->behaviour == SANDBOX_NOT_ATTACHED)
	{
		sandbox_decline(reply, token->code);
		return;
	}

	method = make_method(sandbox, token, json_text(arguments, "reference"));
	state->methods = lappend(state->methods, method);
	sandbox_event(sandbox, "payment_method.attached", sandbox_method_object(state, method, true));
	if (set_default)
		state->default_method = method->id;
	reply_object(reply, sandbox_method_object(state, method, true));
	if (set_default)
		make_default(sandbox, method, reply);
}

static SandboxMethod *
requested_method(const Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxMethod *method = sandbox_method(&sandbox->state, json_text(arguments, "payment_method"));

	if (method == NULL)
		sandbox_refuse(reply, 404, "resource_missing");
	return method;
}

static void
set_default_method(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxMethod *method = requested_method(sandbox, arguments, reply);

	if (method != NULL)
		make_default(sandbox, method, reply);
}

/* What the method pays for falls back to the default one. */
static void
detach_method(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxState *state = &sandbox->state;
	SandboxMethod *method = requested_method(sandbox, arguments, reply);
	Jsonb *object;
	ListCell *cell;

	if (method == NULL)
		return;

	object = sandbox_method_object(state, method, false);
	sandbox_event(sandbox, "payment_method.detached", object);
	reply_object(reply, object);

	state->methods = list_delete_ptr(state->methods, method);
	foreach (cell, state->subscriptions)
	{
		SandboxSubscription *subscription = lfirst(cell);

		if (subscription->ended_at != 0 || subscription->method == NULL ||
			strcmp(subscription->method, method->id) != 0)
			continue;
		subscription->method = NULL;
		sandbox_subscription_event(sandbox, "customer.subscription.updated", subscription);
		reply_object(reply, sandbox_subscription_object(state, subscription));
	}

	if (state->default_method != NULL && strcmp(state->default_method, method->id) == 0)
	{
		state->default_method = NULL;
		customer_event(sandbox, "customer.updated");
		reply_customer(sandbox, reply);
	}
}

/* ------------------------------------------------------------------------
 * Look-ups
 * ------------------------------------------------------------------------
 */

/* The object that an operation made for this reference; NULL when there is none. */
static Jsonb *
created_object(const SandboxState *state, const char *operation, const char *reference)
{
	ListCell *cell;

	if (strcmp(operation, operation_name(OPERATION_CUSTOMER_CREATE)) == 0 &&
		state->reference != NULL && strcmp(state->reference, reference) == 0)
		return sandbox_customer_object(state);

	if (strcmp(operation, operation_name(OPERATION_SUBSCRIPTION_CREATE)) == 0)
	{
		SandboxSubscription *found = sandbox_subscription_by_reference(state, reference);

		return found == NULL ? NULL : sandbox_subscription_object(state, found);
	}

	if (strcmp(operation, operation_name(OPERATION_PAYMENT_METHOD_ATTACH)) == 0)
	{
		foreach (cell, state->methods)
		{
			SandboxMethod *method = lfirst(cell);

			if (method->reference != NULL && strcmp(method->reference, reference) == 0)
				return sandbox_method_object(state, method, true);
		}
	}
	return NULL;
}

/* The answer that a request of the core got, whatever generation its key had. */
static const Jsonb *
answer_of_request(const SandboxState *state, const char *request)
{
	ListCell *cell;

	foreach (cell, state->answers)
	{
		SandboxAnswer *answer = lfirst(cell);
		size_t length = strlen(request);

		if (answer->status == 200 && strncmp(answer->wire_key, request, length) == 0 &&
			answer->wire_key[length] == ':')
			return json_part(answer->body, "objects");
	}
	return NULL;
}

static Jsonb *
look_up(const SandboxState *state, const Jsonb *question)
{
	const char *operation = json_text(question, "operation");
	const char *reference = json_text(question, "reference");
	const char *request = json_text(question, "request");
	const Jsonb *objects = request == NULL ? NULL : answer_of_request(state, request);
	const Jsonb *object = NULL;
	JsonBuilder builder;

	if (objects == NULL && operation != NULL && reference != NULL)
		object = created_object(state, operation, reference);

	json_open(&builder);
	json_add_bool(&builder, "found", objects != NULL || object != NULL);
	json_add_json(&builder, "objects", objects);
	if (object != NULL)
	{
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
	[OPERATION_CUSTOMER_CREATE] = create_customer,
	[OPERATION_CUSTOMER_UPDATE] = update_customer,
	[OPERATION_CUSTOMER_SET_TAX_IDS] = update_customer,
	[OPERATION_CUSTOMER_DELETE] = delete_customer,
	[OPERATION_PAYMENT_METHOD_ATTACH] = attach_method,
	[OPERATION_PAYMENT_METHOD_SET_DEFAULT] = set_default_method,
	[OPERATION_PAYMENT_METHOD_DETACH] = detach_method,
	[OPERATION_SUBSCRIPTION_CREATE] = sandbox_subscription_create,
	[OPERATION_SUBSCRIPTION_UPDATE] = sandbox_subscription_update,
	[OPERATION_SUBSCRIPTION_CANCEL] = sandbox_subscription_cancel,
	[OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END] = sandbox_subscription_cancel_later,
	[OPERATION_SUBSCRIPTION_UNCANCEL] = sandbox_subscription_uncancel,
	[OPERATION_SUBSCRIPTION_RESUME] = sandbox_subscription_resume,
};

/* Is the request about the customer whose state this is? */
static bool
customer_matches(const SandboxState *state, Operation operation, const Jsonb *arguments)
{
	const char *customer = json_text(arguments, "customer");

	if (operation == OPERATION_CUSTOMER_CREATE)
		return true;
	if (state->id == NULL || (state->deleted && operation != OPERATION_CUSTOMER_DELETE))
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

static Jsonb *
reply_body(const SandboxReply *reply)
{
	JsonBuilder builder;
	ListCell *cell;

	json_open(&builder);
	if (reply->status == 200)
	{
		json_open_array(&builder, "objects");
		foreach (cell, reply->objects)
			json_append_json(&builder, lfirst(cell));
		json_close_array(&builder);
	}
	else
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
	answer.body = reply_body(&reply);
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
	answer.body = reply_body(&reply);
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

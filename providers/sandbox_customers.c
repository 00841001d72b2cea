/*-------------------------------------------------------------------------
 *
 * sandbox_customers.c
 *	  What requests do to a customer of the sandbox and its payment methods.
 *
 * Called by sandbox_perform.c, and by those who keep a method that a buyer
 * has paid with.  A state holds one customer.  Nothing of a person is read
 * out of a request, so that an update only tells that there was one.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

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
	sandbox_reply_object(reply, sandbox_customer_object(&sandbox->state));
}

/* There is one customer per state: another one here is a mistake of the caller. */
void
sandbox_customer_create(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
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
void
sandbox_customer_update(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	customer_event(sandbox, "customer.updated");
	reply_customer(sandbox, reply);
}

void
sandbox_customer_delete(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
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

void
sandbox_customer_fetch(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	reply_customer(sandbox, reply);
}

/* ------------------------------------------------------------------------
 * Payment methods
 * ------------------------------------------------------------------------
 */

SandboxMethod *
sandbox_method_new(Sandbox *sandbox, const SandboxToken *token, const char *reference)
{
	SandboxState *state = &sandbox->state;
	SandboxMethod *method = palloc0(sizeof(SandboxMethod));
	int year;

	method->id = sandbox_new_id(state, "pm");
	method->reference = reference;
	method->token = token;
	if (strcmp(token->type, "card") == 0 && period_year(sandbox->now, &year))
		method->exp_year = year + 5;
	if (sandbox_is_voucher(token->type))
		method->number = sandbox_voucher_number(token->type, method->id);
	state->methods = lappend(state->methods, method);
	sandbox_event(sandbox, "payment_method.attached", sandbox_method_object(state, method, true));
	return method;
}

static void
make_default(Sandbox *sandbox, const SandboxMethod *method, SandboxReply *reply)
{
	sandbox->state.default_method = method->id;
	customer_event(sandbox, "customer.updated");
	reply_customer(sandbox, reply);
}

/* The token, or what stands for a reference of that type, which needs none. */
static const SandboxToken *
token_to_attach(const Jsonb *arguments)
{
	const char *name = json_text(arguments, "payment_method");
	const char *type = json_text(arguments, "type");

	if (name != NULL)
		return sandbox_token(name);
	if (sandbox_text_is(type, "cash_recurrent") || sandbox_text_is(type, "spei_recurrent"))
		return sandbox_reference_token(type);
	return NULL;
}

void
sandbox_method_attach(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxState *state = &sandbox->state;
	const SandboxToken *token = token_to_attach(arguments);
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

	method = sandbox_method_new(sandbox, token, json_text(arguments, "reference"));
	if (set_default)
		state->default_method = method->id;
	sandbox_reply_object(reply, sandbox_method_object(state, method, true));
	if (set_default)
		make_default(sandbox, method, reply);
}

void
sandbox_method_list(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	ListCell *cell;

	foreach (cell, sandbox->state.methods)
		sandbox_reply_object(reply, sandbox_method_object(&sandbox->state, lfirst(cell), true));
}

static SandboxMethod *
requested_method(const Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxMethod *method = sandbox_method(&sandbox->state, json_text(arguments, "payment_method"));

	if (method == NULL)
		sandbox_refuse(reply, 404, "resource_missing");
	return method;
}

void
sandbox_method_set_default(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxMethod *method = requested_method(sandbox, arguments, reply);

	if (method != NULL)
		make_default(sandbox, method, reply);
}

/* What the method pays for falls back to the default one. */
void
sandbox_method_detach(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxState *state = &sandbox->state;
	SandboxMethod *method = requested_method(sandbox, arguments, reply);
	Jsonb *object;
	ListCell *cell;

	if (method == NULL)
		return;

	object = sandbox_method_object(state, method, false);
	sandbox_event(sandbox, "payment_method.detached", object);
	sandbox_reply_object(reply, object);

	state->methods = list_delete_ptr(state->methods, method);
	foreach (cell, state->subscriptions)
	{
		SandboxSubscription *subscription = lfirst(cell);

		if (subscription->ended_at != 0 || subscription->method == NULL ||
			strcmp(subscription->method, method->id) != 0)
			continue;
		subscription->method = NULL;
		sandbox_subscription_event(sandbox, "customer.subscription.updated", subscription);
		sandbox_reply_object(reply, sandbox_subscription_object(state, subscription));
	}

	if (state->default_method != NULL && strcmp(state->default_method, method->id) == 0)
	{
		state->default_method = NULL;
		customer_event(sandbox, "customer.updated");
		reply_customer(sandbox, reply);
	}
}

/*-------------------------------------------------------------------------
 *
 * sandbox_setups.c
 *	  Setup intents of the sandbox: a payment method is saved for later.
 *
 * Called by sandbox_perform.c for requests, by sandbox_checkout.c for a session
 * in setup mode, by sandbox_buyer.c when the buyer has done 3-D Secure.  Both
 * kinds of tokens that want authentication want it here; the one that wants it
 * once is done with it.  A token becomes a method when the setup succeeds, one
 * that cannot be attached fails.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

static void
change(Sandbox *sandbox, SandboxSetup *setup, SandboxPaymentStatus status, const char *event)
{
	setup->status = status;
	sandbox_event(sandbox, event, sandbox_setup_object(&sandbox->state, setup));
	sandbox_session_follow_setup(sandbox, setup);
}

/* The method first: it is known before the setup says that it was made. */
static void
reply_setup(const Sandbox *sandbox, const SandboxSetup *setup, SandboxReply *reply)
{
	SandboxMethod *method = sandbox_method(&sandbox->state, setup->method);

	if (method != NULL)
		sandbox_reply_object(reply, sandbox_method_object(&sandbox->state, method, true));
	sandbox_reply_object(reply, sandbox_setup_object(&sandbox->state, setup));
}

/* ------------------------------------------------------------------------
 * Outcomes
 * ------------------------------------------------------------------------
 */

static void
succeed(Sandbox *sandbox, SandboxSetup *setup, bool authenticated)
{
	SandboxMethod *method = sandbox_method(&sandbox->state, setup->method);

	if (method == NULL)
		method = sandbox_method_new(sandbox, setup->token, NULL);
	if (authenticated)
		method->authenticated = true;
	setup->method = method->id;
	setup->error_code = NULL;
	change(sandbox, setup, SANDBOX_PAYMENT_SUCCEEDED, "setup_intent.succeeded");
}

static void
fail(Sandbox *sandbox, SandboxSetup *setup, const char *code)
{
	setup->error_code = code;
	change(sandbox, setup, SANDBOX_PAYMENT_FAILED, "setup_intent.setup_failed");
}

void
sandbox_setup_attempt(Sandbox *sandbox, SandboxSetup *setup)
{
	switch (setup->token->behaviour)
	{
		case SANDBOX_NOT_ATTACHED:
			fail(sandbox, setup, setup->token->code);
			break;
		case SANDBOX_AUTHENTICATES:
		case SANDBOX_AUTHENTICATES_ONCE:
			change(sandbox, setup, SANDBOX_PAYMENT_REQUIRES_ACTION, "setup_intent.requires_action");
			break;
		case SANDBOX_PAYS:
		case SANDBOX_DECLINES:
		case SANDBOX_SETTLES:
		case SANDBOX_BOUNCES:
		case SANDBOX_KEEPS_PROCESSING:
			succeed(sandbox, setup, false);
			break;
	}
}

void
sandbox_setup_authenticated(Sandbox *sandbox, SandboxSetup *setup, bool success)
{
	if (success)
		succeed(sandbox, setup, true);
	else
		fail(sandbox, setup, "setup_intent_authentication_failure");
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

SandboxSetup *
sandbox_setup_new(Sandbox *sandbox, const char *reference)
{
	SandboxSetup *setup = palloc0(sizeof(SandboxSetup));

	setup->record.id = sandbox_new_id(&sandbox->state, "seti");
	setup->record.reference = reference;
	setup->created = sandbox->now;
	sandbox->state.setups = lappend(sandbox->state.setups, setup);
	return setup;
}

/* What is to be saved; *token NULL: that is not known yet. */
static bool
read_source(const Sandbox *sandbox, const Jsonb *arguments, const char **method_id,
			const SandboxToken **token, SandboxReply *reply)
{
	const char *token_name = json_text(arguments, "token");
	SandboxMethod *method;

	*method_id = json_text(arguments, "payment_method");
	method = sandbox_method(&sandbox->state, *method_id);
	*token = method != NULL ? method->token : sandbox_token(token_name);
	if (*method_id != NULL && method == NULL)
		sandbox_refuse(reply, 404, "resource_missing");
	else if (token_name != NULL && *token == NULL)
		sandbox_refuse(reply, 400, "unknown_token");
	else if (*token == NULL && json_bool(arguments, "confirm", false))
		sandbox_refuse(reply, 400, "payment_method_missing");
	else if (json_text(arguments, "reference") == NULL)
		sandbox_refuse(reply, 400, "parameter_invalid");
	else
		return true;
	return false;
}

void
sandbox_setup_create(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	const SandboxToken *token;
	const char *method;
	SandboxSetup *setup;

	if (!read_source(sandbox, arguments, &method, &token, reply))
		return;
	setup = sandbox_setup_new(sandbox, json_text(arguments, "reference"));
	setup->method = method;
	setup->token = token;
	sandbox_event(sandbox, "setup_intent.created", sandbox_setup_object(&sandbox->state, setup));
	if (json_bool(arguments, "confirm", false))
		sandbox_setup_attempt(sandbox, setup);
	if (setup->status == SANDBOX_PAYMENT_FAILED)
		sandbox_decline(reply, setup->error_code);
	reply_setup(sandbox, setup, reply);
}

void
sandbox_setup_cancel(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxSetup *setup = sandbox_requested(sandbox->state.setups, arguments, "setup_intent",
											reply);

	if (setup == NULL)
		return;
	if (setup->status == SANDBOX_PAYMENT_SUCCEEDED || setup->status == SANDBOX_PAYMENT_CANCELED)
	{
		sandbox_refuse(reply, 400, "setup_intent_unexpected_state");
		return;
	}
	change(sandbox, setup, SANDBOX_PAYMENT_CANCELED, "setup_intent.canceled");
	reply_setup(sandbox, setup, reply);
}

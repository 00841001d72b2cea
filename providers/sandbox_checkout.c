/*-------------------------------------------------------------------------
 *
 * sandbox_checkout.c
 *	  Checkout sessions of the sandbox, and its portal.
 *
 * Called by sandbox_perform.c for requests, by sandbox_buyer.c when the buyer
 * pays, by sandbox_clock.c when a session expires, and by whoever changes the
 * payment, setup or subscription that a session has made.
 *
 * Nobody looks at a page here: the url of a session is where the buyer would be
 * sent after it, success_url with the session's reference, and the url of
 * the portal is return_url.  A session that is paid for is complete and paid;
 * by a bank debit, OXXO or SPEI it is complete first and paid later; while the
 * buyer has to authenticate, or has been declined, it stays open.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

#define SESSION_SECONDS PERIOD_SECONDS_PER_DAY
#define PORTAL_SECONDS  3600

static void
session_event(Sandbox *sandbox, const char *type, const SandboxSession *session)
{
	sandbox_event(sandbox, type, sandbox_session_object(&sandbox->state, session));
}

static void
reply_session(const Sandbox *sandbox, const SandboxSession *session, SandboxReply *reply)
{
	sandbox_reply_object(reply, sandbox_session_object(&sandbox->state, session));
}

/* ------------------------------------------------------------------------
 * What the session is about follows it
 * ------------------------------------------------------------------------
 */

static void
complete(Sandbox *sandbox, SandboxSession *session, bool paid)
{
	session->status = SANDBOX_SESSION_COMPLETE;
	session->paid = paid;
	session_event(sandbox, "checkout.session.completed", session);
}

/* The delayed payment of a session that is complete. */
static void
paid_later(Sandbox *sandbox, SandboxSession *session, bool paid)
{
	session->paid = paid;
	session_event(sandbox,
				  paid ? "checkout.session.async_payment_succeeded"
					   : "checkout.session.async_payment_failed",
				  session);
}

void
sandbox_session_follow_payment(Sandbox *sandbox, const SandboxPayment *payment)
{
	SandboxSession *session = sandbox_find(sandbox->state.sessions, payment->session);
	bool paid = payment->status == SANDBOX_PAYMENT_SUCCEEDED;
	bool waits = payment->status == SANDBOX_PAYMENT_PROCESSING ||
				 (payment->status == SANDBOX_PAYMENT_REQUIRES_ACTION && payment->number != NULL);
	bool over = payment->status == SANDBOX_PAYMENT_FAILED ||
				payment->status == SANDBOX_PAYMENT_CANCELED;

	if (session == NULL)
		return;
	if (session->status == SANDBOX_SESSION_OPEN && (paid || waits))
		complete(sandbox, session, paid);
	else if (session->status == SANDBOX_SESSION_COMPLETE && !session->paid && (paid || over))
		paid_later(sandbox, session, paid);
}

void
sandbox_session_follow_setup(Sandbox *sandbox, const SandboxSetup *setup)
{
	SandboxSession *session = sandbox_find(sandbox->state.sessions, setup->session);

	if (session != NULL && session->status == SANDBOX_SESSION_OPEN &&
		setup->status == SANDBOX_PAYMENT_SUCCEEDED)
		complete(sandbox, session, false);
}

void
sandbox_session_follow_subscription(Sandbox *sandbox, const SandboxSubscription *subscription)
{
	bool runs = subscription->status == SANDBOX_ACTIVE || subscription->status == SANDBOX_TRIALING;
	bool over = subscription->status == SANDBOX_INCOMPLETE_EXPIRED ||
				subscription->status == SANDBOX_CANCELED;
	ListCell *cell;

	foreach (cell, sandbox->state.sessions)
	{
		SandboxSession *session = lfirst(cell);

		if (!sandbox_text_is(session->subscription, subscription->id))
			continue;
		if (session->status == SANDBOX_SESSION_OPEN && runs)
			complete(sandbox, session, true);
		else if (session->status == SANDBOX_SESSION_COMPLETE && !session->paid &&
				 session->amount > 0 && (runs || over))
			paid_later(sandbox, session, runs);
	}
}

/* ------------------------------------------------------------------------
 * The buyer pays
 * ------------------------------------------------------------------------
 */

/* The same payment again after a decline. */
static void
pay_once(Sandbox *sandbox, SandboxSession *session, const SandboxToken *token)
{
	SandboxPayment *payment = sandbox_find(sandbox->state.payments, session->payment);

	if (payment == NULL)
	{
		payment = sandbox_payment_new(sandbox, session->payment_reference, session->amount,
									  session->currency);
		payment->session = session->record.id;
		session->payment = payment->record.id;
		sandbox_payment_event(sandbox, "payment_intent.created", payment);
	}
	payment->token = token;
	payment->kind = token->type;
	if (sandbox_is_voucher(token->type))
		sandbox_voucher_issue(sandbox, payment, 0, session->wish);
	else
		sandbox_payment_attempt(sandbox, payment, false);
}

static void
set_up(Sandbox *sandbox, SandboxSession *session, const SandboxToken *token)
{
	SandboxSetup *setup = sandbox_find(sandbox->state.setups, session->setup);

	if (setup == NULL)
	{
		setup = sandbox_setup_new(sandbox, NULL);
		setup->session = session->record.id;
		session->setup = setup->record.id;
		sandbox_event(sandbox, "setup_intent.created",
					  sandbox_setup_object(&sandbox->state, setup));
	}
	setup->token = token;
	sandbox_setup_attempt(sandbox, setup);
}

/* The terms of the session as arguments of subscription.create or .update. */
static Jsonb *
subscription_arguments(const SandboxSession *session, const SandboxMethod *method)
{
	static const char *const texts[] = {"price", "currency", "interval"};
	static const char *const numbers[] = {"amount", "quantity", "interval_count", "trial_days"};
	JsonBuilder builder;
	int64 number;

	json_open(&builder);
	json_add_text(&builder, "reference", session->subscription_reference);
	json_add_text(&builder, "subscription", session->upgraded);
	json_add_text(&builder, "payment_method", method->id);
	for (size_t i = 0; i < lengthof(texts); i++)
		json_add_text(&builder, texts[i], json_text(session->terms, texts[i]));
	for (size_t i = 0; i < lengthof(numbers); i++)
	{
		if (json_int(session->terms, numbers[i], &number))
			json_add_int(&builder, numbers[i], number);
	}
	return json_close(&builder);
}

/* A method that cannot be attached, or is declined at once, buys nothing. */
static const char *
subscribe(Sandbox *sandbox, SandboxSession *session, const SandboxToken *token)
{
	SandboxReply reply = {200, NULL, NULL, NIL};
	SandboxMethod *method;
	SandboxSubscription *subscription;

	if (sandbox_is_voucher(token->type))
		return "a subscription is paid by a method that can be charged again";
	if (session->amount > 0 &&
		sandbox_token_outcome(token, false, false) == SANDBOX_CHARGE_DECLINED)
		return NULL;
	if (token->behaviour == SANDBOX_NOT_ATTACHED)
		return NULL;

	method = sandbox_method_new(sandbox, token, NULL);
	if (session->upgraded != NULL)
		sandbox_subscription_update(sandbox, subscription_arguments(session, method), &reply);
	else
		sandbox_subscription_create(sandbox, subscription_arguments(session, method), &reply);
	subscription = session->upgraded != NULL
					   ? sandbox_subscription(&sandbox->state, session->upgraded)
					   : sandbox_subscription_by_reference(&sandbox->state,
														   session->subscription_reference);
	if (subscription == NULL || reply.status != 200)
		return "the terms of the session cannot be had any more";

	session->subscription = subscription->id;
	if (subscription->status == SANDBOX_INCOMPLETE && subscription->expires_at == 0)
		complete(sandbox, session, false);
	else
		sandbox_session_follow_subscription(sandbox, subscription);
	return NULL;
}

const char *
sandbox_session_complete(Sandbox *sandbox, SandboxSession *session, const char *payment_method)
{
	const SandboxToken *token = sandbox_token(payment_method);

	if (session->status != SANDBOX_SESSION_OPEN)
		return "the session is not open any more";
	if (session->subscription != NULL)
		return "the subscription of the session waits for an authentication";
	if (token == NULL)
		token = sandbox_reference_token(payment_method);
	if (token == NULL)
		return "the sandbox knows no such payment method";

	if (strcmp(session->mode, "subscription") == 0)
		return subscribe(sandbox, session, token);
	if (strcmp(session->mode, "setup") == 0)
	{
		if (sandbox_is_voucher(token->type))
			return "what is paid to a number cannot be saved";
		set_up(sandbox, session, token);
	}
	else if (session->amount == 0)
		complete(sandbox, session, false);
	else
		pay_once(sandbox, session, token);
	return NULL;
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

/* success_url with the reference in it, before its fragment. */
static const char *
page_url(const char *success_url, const char *reference)
{
	const char *placeholder = strstr(success_url, "{CHECKOUT_SESSION_ID}");
	size_t base = strcspn(success_url, "#");
	char joint = memchr(success_url, '?', base) == NULL ? '?' : '&';

	if (placeholder != NULL)
		return psprintf("%.*s%s%s", (int) (placeholder - success_url), success_url, reference,
						placeholder + strlen("{CHECKOUT_SESSION_ID}"));
	if (strstr(success_url, reference) != NULL)
		return success_url;
	return psprintf("%.*s%csession_id=%s%s", (int) base, success_url, joint, reference,
					success_url + base);
}

/* The terms of the first line that recurs; NULL when none does. */
static Jsonb *
recurring_terms(const Jsonb *arguments)
{
	int count = json_length(arguments, "line_items");
	int64 number;
	JsonBuilder builder;

	for (int i = 0; i < count; i++)
	{
		const Jsonb *line = json_part(arguments, psprintf("line_items.%d", i));
		const char *interval = json_text(line, "interval");

		if (interval == NULL || strcmp(interval, "one_time") == 0)
			continue;
		json_open(&builder);
		json_add_text(&builder, "price", json_text(line, "price"));
		json_add_text(&builder, "currency", json_text(arguments, "currency"));
		json_add_text(&builder, "interval", interval);
		json_add_int(&builder, "interval_count",
					 json_int(line, "interval_count", &number) ? number : 1);
		json_add_int(&builder, "quantity", json_int(line, "quantity", &number) ? number : 1);
		json_add_int(&builder, "amount", json_int(line, "amount", &number) ? number : 0);
		if (json_int(arguments, "trial_days", &number))
			json_add_int(&builder, "trial_days", number);
		return json_close(&builder);
	}
	return NULL;
}

/* What is missing or does not fit together; NULL when all is well. */
static const char *
read_session(const Sandbox *sandbox, const Jsonb *arguments, SandboxSession *session)
{
	const char *success_url = json_text(arguments, "success_url");
	int64 trial_days = 0;
	SandboxWish wish;

	session->record.reference = json_text(arguments, "reference");
	session->mode = json_text(arguments, "mode");
	session->currency = json_text(arguments, "currency");
	session->payment_reference = json_text(arguments, "payment_reference");
	session->subscription_reference = json_text(arguments, "subscription_reference");
	session->upgraded = json_text(arguments, "subscription");
	session->wish = json_text(arguments, "metadata.sandbox");
	session->created = sandbox->now;
	session->expires_at = sandbox->now + SESSION_SECONDS;
	if (session->record.reference == NULL || session->mode == NULL || success_url == NULL ||
		!sandbox_take_int(arguments, "amount", &session->amount) || session->amount < 0 ||
		!sandbox_take_int(arguments, "trial_days", &trial_days) ||
		!sandbox_take_int(arguments, "expires_at", &session->expires_at) ||
		session->expires_at <= sandbox->now || !sandbox_wish_read(session->wish, &wish))
		return "parameter_invalid";
	session->url = page_url(success_url, session->record.reference);

	if (strcmp(session->mode, "setup") == 0)
		return NULL;
	if (session->currency == NULL)
		return "parameter_invalid";
	if (strcmp(session->mode, "payment") == 0)
		return NULL;
	if (strcmp(session->mode, "subscription") != 0)
		return "parameter_invalid";
	session->terms = recurring_terms(arguments);
	if (trial_days > 0)
		session->amount = 0;
	if (session->terms == NULL)
		return "line_items_without_recurring_price";
	if (json_length(arguments, "line_items") > 1)
		return "line_items_too_many";
	return session->subscription_reference == NULL && session->upgraded == NULL
			   ? "parameter_invalid"
			   : NULL;
}

void
sandbox_session_create(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxSession *session = palloc0(sizeof(SandboxSession));
	const char *refusal = read_session(sandbox, arguments, session);

	if (refusal != NULL)
	{
		sandbox_refuse(reply, 400, refusal);
		return;
	}
	if (session->upgraded != NULL &&
		sandbox_subscription(&sandbox->state, session->upgraded) == NULL)
	{
		sandbox_refuse(reply, 404, "resource_missing");
		return;
	}
	session->record.id = sandbox_new_id(&sandbox->state, "cs");
	sandbox->state.sessions = lappend(sandbox->state.sessions, session);
	session_event(sandbox, "checkout.session.created", session);
	reply_session(sandbox, session, reply);
}

/* A payment that the buyer has begun in it ends with it. */
void
sandbox_session_expire(Sandbox *sandbox, SandboxSession *session)
{
	SandboxPayment *payment = sandbox_find(sandbox->state.payments, session->payment);

	session->status = SANDBOX_SESSION_EXPIRED;
	if (payment != NULL && payment->status != SANDBOX_PAYMENT_CANCELED)
		sandbox_payment_end(sandbox, payment, "abandoned");
	session_event(sandbox, "checkout.session.expired", session);
}

void
sandbox_session_expire_now(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxSession *session = sandbox_requested(sandbox->state.sessions, arguments,
												"checkout_session", reply);

	if (session == NULL)
		return;
	if (session->status != SANDBOX_SESSION_OPEN)
	{
		sandbox_refuse(reply, 400, "checkout_session_not_open");
		return;
	}
	sandbox_session_expire(sandbox, session);
	reply_session(sandbox, session, reply);
}

void
sandbox_session_fetch(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxSession *session = sandbox_requested(sandbox->state.sessions, arguments,
												"checkout_session", reply);

	if (session != NULL)
		reply_session(sandbox, session, reply);
}

/* Nothing is remembered of it: there is no page to be looked at. */
void
sandbox_portal_create(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxState *state = &sandbox->state;
	const char *url = json_text(arguments, "return_url");
	const char *reference = json_text(arguments, "reference");
	JsonBuilder builder;

	if (url == NULL || reference == NULL)
	{
		sandbox_refuse(reply, 400, "parameter_invalid");
		return;
	}
	json_open(&builder);
	json_add_text(&builder, "object", "portal_session");
	json_add_text(&builder, "id", sandbox_new_id(state, "bps"));
	json_add_text(&builder, "reference", reference);
	json_add_bool(&builder, "livemode", false);
	json_add_text(&builder, "customer", state->id);
	json_add_text(&builder, "url", url);
	json_add_int(&builder, "expires_at", sandbox->now + PORTAL_SECONDS);
	sandbox_reply_object(reply, json_close(&builder));
}

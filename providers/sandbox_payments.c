/*-------------------------------------------------------------------------
 *
 * sandbox_payments.c
 *	  Payment intents of the sandbox: by request, and what becomes of them.
 *
 * Called by sandbox_perform.c for requests, by sandbox_clock.c and
 * sandbox_buyer.c when time or the buyer moves a payment, by
 * sandbox_checkout.c for the payment of a session.
 *
 * A payment is tried by its token (or by that of its method), which says what
 * comes of it; a payment to a number (OXXO, SPEI) is tried by giving out the
 * number.  A debit of a bank account that nobody has named waits for two
 * micro-deposits, whose amounts are 32 and 45, or the code SM11AA.  What failed
 * can be tried again; money that came never leaves a payment but by a refund.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox_fees.h"

/* The largest amount; so that sums of refunds and disputes fit an int64. */
#define MAX_AMOUNT INT64CONST(1000000000000)

#define MAX_INSTALLMENTS 48

void
sandbox_payment_event(Sandbox *sandbox, const char *type, const SandboxPayment *payment)
{
	sandbox_event(sandbox, type, sandbox_payment_object(&sandbox->state, payment));
}

/* A method that was made of it first: it is known before the payment names it. */
static void
reply_payment(const Sandbox *sandbox, const SandboxPayment *payment, SandboxReply *reply)
{
	SandboxMethod *method = payment->save ? sandbox_method(&sandbox->state, payment->method) : NULL;

	if (method != NULL)
		sandbox_reply_object(reply, sandbox_method_object(&sandbox->state, method, true));
	sandbox_reply_object(reply, sandbox_payment_object(&sandbox->state, payment));
}

/* Tells it, and lets the checkout session that it is of follow. */
static void
change(Sandbox *sandbox, SandboxPayment *payment, SandboxPaymentStatus status, const char *event)
{
	payment->status = status;
	sandbox_payment_event(sandbox, event, payment);
	sandbox_session_follow_payment(sandbox, payment);
}

/* Whatever was going on is over. */
static void
end_attempt(SandboxPayment *payment)
{
	payment->microdeposits = false;
	payment->settle_at = 0;
	payment->settle_code = NULL;
	payment->error_code = NULL;
	payment->decline_code = NULL;
}

/* ------------------------------------------------------------------------
 * Outcomes
 * ------------------------------------------------------------------------
 */

/* A card that is declined has two codes, as at Stripe; other methods have one. */
static void
set_codes(SandboxPayment *payment, const char *code)
{
	static const char *const reasons[] = {"insufficient_funds", "lost_card", "stolen_card"};

	payment->error_code = code;
	if (!sandbox_text_is(payment->kind, "card"))
		return;
	payment->decline_code = code;
	if (strcmp(code, "card_declined") == 0)
		payment->decline_code = "generic_decline";
	for (size_t i = 0; i < lengthof(reasons); i++)
	{
		if (strcmp(code, reasons[i]) == 0)
			payment->error_code = "card_declined";
	}
}

void
sandbox_payment_fail(Sandbox *sandbox, SandboxPayment *payment, const char *code)
{
	end_attempt(payment);
	set_codes(payment, code);
	change(sandbox, payment, SANDBOX_PAYMENT_FAILED, "payment_intent.payment_failed");
}

void
sandbox_payment_end(Sandbox *sandbox, SandboxPayment *payment, const char *reason)
{
	end_attempt(payment);
	payment->cancellation_reason = reason;
	change(sandbox, payment, SANDBOX_PAYMENT_CANCELED, "payment_intent.canceled");
}

/* A token that was used once becomes a method when that was wished for. */
static void
save_method(Sandbox *sandbox, SandboxPayment *payment)
{
	SandboxMethod *method;

	if (!payment->save || payment->method != NULL || payment->token == NULL ||
		sandbox_is_voucher(payment->kind))
		return;
	method = sandbox_method_new(sandbox, payment->token, NULL);
	method->authenticated = payment->authenticated;
	payment->method = method->id;
}

/* Too little leaves the payment as it is, in wait of the rest. */
void
sandbox_payment_receive(Sandbox *sandbox, SandboxPayment *payment, int64 amount)
{
	bool first = payment->amount_received == 0;

	payment->amount_received += amount;
	if (payment->amount_received < payment->amount)
	{
		change(sandbox, payment, (SandboxPaymentStatus) payment->status,
			   "payment_intent.partially_funded");
		return;
	}
	end_attempt(payment);
	if (payment->paid_at == 0)
		payment->paid_at = sandbox->now;
	sandbox_fee_of_payment(sandbox, payment);
	save_method(sandbox, payment);
	if (first && payment->token != NULL &&
		(payment->token->sequel == SANDBOX_IS_DISPUTED ||
		 payment->token->sequel == SANDBOX_IS_INQUIRED))
		payment->dispute_at = sandbox->now + PERIOD_SECONDS_PER_DAY;
	change(sandbox, payment, SANDBOX_PAYMENT_SUCCEEDED, "payment_intent.succeeded");
}

/* The customer's bank has agreed. */
static void
charge_succeeds(Sandbox *sandbox, SandboxPayment *payment)
{
	if (payment->manual_capture)
	{
		end_attempt(payment);
		change(sandbox, payment, SANDBOX_PAYMENT_REQUIRES_CAPTURE,
			   "payment_intent.amount_capturable_updated");
	}
	else
		sandbox_payment_receive(sandbox, payment, payment->amount);
}

void
sandbox_payment_authenticated(Sandbox *sandbox, SandboxPayment *payment)
{
	SandboxMethod *method = sandbox_method(&sandbox->state, payment->method);

	payment->authenticated = true;
	if (method != NULL)
		method->authenticated = true;
	charge_succeeds(sandbox, payment);
}

static void
begin_processing(Sandbox *sandbox, SandboxPayment *payment)
{
	const SandboxToken *token = payment->token;

	end_attempt(payment);
	if (token->behaviour != SANDBOX_KEEPS_PROCESSING)
		payment->settle_at = sandbox->now + sandbox_settlement_delay(token);
	if (token->behaviour == SANDBOX_BOUNCES)
		payment->settle_code = token->code;
	change(sandbox, payment, SANDBOX_PAYMENT_PROCESSING, "payment_intent.processing");
}

SandboxPayment *
sandbox_payment_of_invoice(Sandbox *sandbox, SandboxInvoice *invoice, const SandboxMethod *method)
{
	SandboxPayment *payment = sandbox_find(sandbox->state.payments, invoice->payment);

	if (payment == NULL)
	{
		payment = sandbox_payment_new(sandbox, NULL, invoice->total, invoice->currency);
		payment->invoice = invoice->id;
		payment->subscription = invoice->subscription;
		invoice->payment = payment->record.id;
	}
	end_attempt(payment);
	payment->status = SANDBOX_PAYMENT_PENDING;
	payment->method = method->id;
	payment->token = method->token;
	payment->kind = method->token->type;
	payment->charge = sandbox_new_id(&sandbox->state, "ch");
	return payment;
}

void
sandbox_payment_wait(Sandbox *sandbox, SandboxPayment *payment, bool processing)
{
	if (processing)
		change(sandbox, payment, SANDBOX_PAYMENT_PROCESSING, "payment_intent.processing");
	else
		change(sandbox, payment, SANDBOX_PAYMENT_REQUIRES_ACTION, "payment_intent.requires_action");
}

void
sandbox_payment_attempt(Sandbox *sandbox, SandboxPayment *payment, bool off_session)
{
	const SandboxToken *token = payment->token;
	SandboxMethod *method = sandbox_method(&sandbox->state, payment->method);

	end_attempt(payment);
	payment->charge = sandbox_new_id(&sandbox->state, "ch");
	if (token == NULL)
	{
		payment->microdeposits = true;
		change(sandbox, payment, SANDBOX_PAYMENT_REQUIRES_ACTION, "payment_intent.requires_action");
		return;
	}
	if (token->sequel == SANDBOX_REFUSES_INSTALMENTS && payment->installments > 1)
	{
		sandbox_payment_fail(sandbox, payment, "card_declined");
		return;
	}

	switch (sandbox_token_outcome(token, method != NULL && method->authenticated, off_session))
	{
		case SANDBOX_CHARGE_SUCCEEDED:
			charge_succeeds(sandbox, payment);
			break;
		case SANDBOX_CHARGE_DECLINED:
			sandbox_payment_fail(sandbox, payment, token->code);
			break;
		case SANDBOX_CHARGE_NEEDS_ACTION:
			change(sandbox, payment, SANDBOX_PAYMENT_REQUIRES_ACTION,
				   "payment_intent.requires_action");
			break;
		case SANDBOX_CHARGE_PROCESSING:
			begin_processing(sandbox, payment);
			break;
	}
}

/* ------------------------------------------------------------------------
 * Reading arguments
 * ------------------------------------------------------------------------
 */

/* What pays: a method, a token, or only the kind of it. */
static bool
read_source(const Sandbox *sandbox, const Jsonb *arguments, SandboxPayment *payment,
			SandboxReply *reply)
{
	const char *method_id = json_text(arguments, "payment_method");
	const char *token_name = json_text(arguments, "token");
	const char *kind = json_text(arguments, "method");
	SandboxMethod *method = sandbox_method(&sandbox->state, method_id);
	const SandboxToken *token = method != NULL ? method->token : sandbox_token(token_name);

	if (method_id != NULL && method == NULL)
		sandbox_refuse(reply, 404, "resource_missing");
	else if (token_name != NULL && token == NULL)
		sandbox_refuse(reply, 400, "unknown_token");
	else if (token != NULL && kind != NULL && strcmp(kind, token->type) != 0)
		sandbox_refuse(reply, 400, "payment_method_mismatch");
	else
	{
		if (token == NULL && kind == NULL)
			return true;
		payment->method = method_id;
		payment->token = token != NULL ? token : sandbox_reference_token(kind);
		payment->kind = token != NULL ? token->type : kind;
		return true;
	}
	return false;
}

/* Can it be tried, with what it has? */
static bool
can_attempt(const SandboxPayment *payment, SandboxReply *reply)
{
	if (payment->token == NULL && !sandbox_text_is(payment->kind, "us_bank_account"))
		sandbox_refuse(reply, 400, "payment_method_missing");
	else if (sandbox_is_voucher(payment->kind) && payment->manual_capture)
		sandbox_refuse(reply, 400, "capture_method_not_supported");
	else if (payment->installments > 1 && strcmp(payment->kind, "card") != 0)
		sandbox_refuse(reply, 400, "installments_not_supported");
	else
		return true;
	return false;
}

/* Tries what was asked for, and answers 402 when the attempt fails. */
static void
attempt_by_request(Sandbox *sandbox, const Jsonb *arguments, SandboxPayment *payment,
				   SandboxReply *reply)
{
	int64 expires_at = 0;

	(void) sandbox_take_int(arguments, "expires_at", &expires_at);
	if (sandbox_is_voucher(payment->kind))
		sandbox_voucher_issue(sandbox, payment, expires_at,
							  json_text(arguments, "metadata.sandbox"));
	else
		sandbox_payment_attempt(sandbox, payment, json_bool(arguments, "off_session", false));
	if (payment->status == SANDBOX_PAYMENT_FAILED)
		sandbox_decline(reply, payment->error_code);
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

SandboxPayment *
sandbox_payment_new(Sandbox *sandbox, const char *reference, int64 amount, const char *currency)
{
	SandboxPayment *payment = palloc0(sizeof(SandboxPayment));

	payment->record.id = sandbox_new_id(&sandbox->state, "pi");
	payment->record.reference = reference;
	payment->amount = amount;
	payment->currency = currency;
	payment->created = sandbox->now;
	sandbox->state.payments = lappend(sandbox->state.payments, payment);
	return payment;
}

static bool
read_payment(const Sandbox *sandbox, const Jsonb *arguments, SandboxPayment *payment,
			 SandboxReply *reply)
{
	SandboxWish wish;

	payment->record.reference = json_text(arguments, "reference");
	payment->currency = json_text(arguments, "currency");
	payment->manual_capture = sandbox_text_is(json_text(arguments, "capture_method"), "manual");
	payment->save = json_has(arguments, "setup_future_usage");
	if (payment->record.reference == NULL || payment->currency == NULL ||
		!json_int(arguments, "amount", &payment->amount) || payment->amount < 1 ||
		payment->amount > MAX_AMOUNT ||
		!sandbox_take_int(arguments, "installments", &payment->installments) ||
		payment->installments < 0 || payment->installments > MAX_INSTALLMENTS ||
		!sandbox_wish_read(json_text(arguments, "metadata.sandbox"), &wish))
	{
		sandbox_refuse(reply, 400, "parameter_invalid");
		return false;
	}
	return read_source(sandbox, arguments, payment, reply) &&
		   (!json_bool(arguments, "confirm", false) || can_attempt(payment, reply));
}

void
sandbox_payment_create(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxPayment terms = {0};
	SandboxPayment *payment;

	if (!read_payment(sandbox, arguments, &terms, reply))
		return;
	payment = sandbox_payment_new(sandbox, terms.record.reference, terms.amount, terms.currency);
	terms.record = payment->record;
	terms.created = payment->created;
	*payment = terms;
	sandbox_payment_event(sandbox, "payment_intent.created", payment);
	if (json_bool(arguments, "confirm", false))
		attempt_by_request(sandbox, arguments, payment, reply);
	reply_payment(sandbox, payment, reply);
}

/* The payment of a request, when it is in such a state and no invoice decides it; refuses else. */
static SandboxPayment *
payment_in(const Sandbox *sandbox, const Jsonb *arguments, const SandboxPaymentStatus *allowed,
		   int count, SandboxReply *reply)
{
	SandboxPayment *payment = sandbox_requested(sandbox->state.payments, arguments,
												"payment_intent", reply);

	if (payment == NULL)
		return NULL;
	if (payment->invoice != NULL)
	{
		sandbox_refuse(reply, 400, "payment_intent_of_invoice");
		return NULL;
	}
	for (int i = 0; i < count; i++)
	{
		if (payment->status == (int) allowed[i])
			return payment;
	}
	sandbox_refuse(reply, 400, "payment_intent_unexpected_state");
	return NULL;
}

void
sandbox_payment_confirm(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	static const SandboxPaymentStatus allowed[] = {
		SANDBOX_PAYMENT_PENDING, SANDBOX_PAYMENT_REQUIRES_ACTION, SANDBOX_PAYMENT_FAILED};
	SandboxPayment *payment = payment_in(sandbox, arguments, allowed, lengthof(allowed), reply);
	SandboxPayment changed;
	SandboxWish wish;

	if (payment == NULL)
		return;
	changed = *payment;
	if (!sandbox_take_int(arguments, "installments", &changed.installments) ||
		changed.installments < 0 || changed.installments > MAX_INSTALLMENTS ||
		!sandbox_wish_read(json_text(arguments, "metadata.sandbox"), &wish))
	{
		sandbox_refuse(reply, 400, "parameter_invalid");
		return;
	}
	if (!read_source(sandbox, arguments, &changed, reply) || !can_attempt(&changed, reply))
		return;
	*payment = changed;
	payment->number = NULL;
	payment->pay_at = 0;
	payment->expires_at = 0;
	attempt_by_request(sandbox, arguments, payment, reply);
	reply_payment(sandbox, payment, reply);
}

void
sandbox_payment_capture(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	static const SandboxPaymentStatus allowed[] = {SANDBOX_PAYMENT_REQUIRES_CAPTURE};
	SandboxPayment *payment = payment_in(sandbox, arguments, allowed, lengthof(allowed), reply);
	int64 amount;

	if (payment == NULL)
		return;
	amount = payment->amount;
	if (!sandbox_take_int(arguments, "amount", &amount) || amount < 1 || amount > payment->amount)
	{
		sandbox_refuse(reply, 400, "amount_too_large");
		return;
	}
	/* what is not taken is given free: the payment is over less than was authorised */
	payment->amount = amount;
	sandbox_payment_receive(sandbox, payment, amount);
	reply_payment(sandbox, payment, reply);
}

void
sandbox_payment_cancel(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	static const SandboxPaymentStatus allowed[] = {
		SANDBOX_PAYMENT_PENDING, SANDBOX_PAYMENT_REQUIRES_ACTION, SANDBOX_PAYMENT_REQUIRES_CAPTURE,
		SANDBOX_PAYMENT_FAILED};
	SandboxPayment *payment = payment_in(sandbox, arguments, allowed, lengthof(allowed), reply);
	const char *reason = json_text(arguments, "reason");

	if (payment == NULL)
		return;
	payment->pay_at = 0;
	sandbox_payment_end(sandbox, payment, reason != NULL ? reason : "requested_by_customer");
	reply_payment(sandbox, payment, reply);
}

/* 32 and 45, in any order, or the code. */
static bool
microdeposits_match(const Jsonb *arguments)
{
	const char *code = json_text(arguments, "descriptor_code");
	int64 first = 0;
	int64 second = 0;

	if (code != NULL)
		return strcmp(code, "SM11AA") == 0;
	(void) json_int(arguments, "amounts.0", &first);
	(void) json_int(arguments, "amounts.1", &second);
	return (first == 32 && second == 45) || (first == 45 && second == 32);
}

void
sandbox_payment_verify(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	static const SandboxPaymentStatus allowed[] = {SANDBOX_PAYMENT_REQUIRES_ACTION};
	SandboxPayment *payment = payment_in(sandbox, arguments, allowed, lengthof(allowed), reply);

	if (payment == NULL)
		return;
	if (!payment->microdeposits)
		sandbox_refuse(reply, 400, "payment_intent_unexpected_state");
	else if (!microdeposits_match(arguments))
		sandbox_refuse(reply, 400, "payment_method_microdeposit_verification_amounts_mismatch");
	else
	{
		payment->token = sandbox_token("pm_usBankAccount_success");
		begin_processing(sandbox, payment);
		reply_payment(sandbox, payment, reply);
	}
}

void
sandbox_payment_fetch(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxPayment *payment = sandbox_requested(sandbox->state.payments, arguments,
												"payment_intent", reply);

	if (payment != NULL)
		reply_payment(sandbox, payment, reply);
}

/*-------------------------------------------------------------------------
 *
 * stripe_payments.c
 *	  Payment intents at Stripe.
 *
 * An intent without a method offers what the account has switched on; one
 * with a method is bound to that type.  What belongs to the attempt (return
 * URL, mandate, instalment plan) is sent with the confirmation, which may be
 * the creation itself.  Vouchers and transfers have no token: the method is
 * described in the confirmation.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe_requests.h"

#include "utils/timestamp.h"

/* The charge has the receipt, what was refunded and how it was paid; its movement has the fee. */
#define CHARGE     "latest_charge"
#define CHARGE_FEE CHARGE ".balance_transaction"

/* How long an OXXO voucher may live, in days. */
#define OXXO_DAYS_MAX 7

static char *
intent_path(const ProviderCall *call)
{
	return stripe_path(call, "payment_intents", "payment_intent");
}

static void
build_fetch(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_expand_fee(&form, call, CHARGE_FEE, CHARGE);
	stripe_get(request, intent_path(call), &form);
}

/* ------------------------------------------------------------------------
 * The method
 * ------------------------------------------------------------------------
 */
static bool
method_is(const Form *form, const char *word)
{
	return same_text(json_text(form->arguments, "method"), word);
}

/* Stripe's word for ours: a SPEI transfer fills the customer's balance. */
static const char *
method_type(const Form *form)
{
	return method_is(form, "spei") ? "customer_balance" : json_text(form->arguments, "method");
}

/* One that is attached, or a token that is used once. */
static bool
form_token(Form *form)
{
	char *method = json_text(form->arguments, "payment_method");
	char *token = json_text(form->arguments, "token");

	if (method == NULL && token != NULL && strncmp(token, "ctoken_", 7) == 0)
		form_add(form, "confirmation_token", token);
	else
		form_add(form, "payment_method", method != NULL ? method : token);
	return method != NULL || token != NULL;
}

/* Who pays: OXXO wants a name and an e-mail. */
static void
form_payer(Form *form)
{
	const char *const details = "payment_method_data[billing_details]";
	char *email = json_text(form->arguments, "billing_details.email");

	form_add(form, psprintf("%s[email]", details),
			 email != NULL ? email : json_text(form->arguments, "receipt_email"));
	form_given(form, psprintf("%s[name]", details), "billing_details.name");
	form_given(form, psprintf("%s[phone]", details), "billing_details.phone");
}

static void
form_method_data(Form *form)
{
	if (!method_is(form, "oxxo") && !method_is(form, "spei"))
		return;
	form_add(form, "payment_method_data[type]", method_type(form));
	form_payer(form);
}

/* Calendar days until the time that was asked for; Stripe takes 1 to 7. */
static void
form_oxxo_expiry(Form *form)
{
	int64 expires_at;
	int64 now = (GetCurrentTimestamp() / USECS_PER_SEC) +
				((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY);
	int64 days;

	if (!json_int(form->arguments, "expires_at", &expires_at))
		return;
	days = (expires_at - now) / SECS_PER_DAY;
	days = Min(Max(days, 1), OXXO_DAYS_MAX);
	form_add(form, "payment_method_options[oxxo][expires_after_days]",
			 psprintf(INT64_FORMAT, days));
}

static void
form_installments(Form *form, bool confirmed)
{
	const char *const installments = "payment_method_options[card][installments]";
	int64 months;

	if (!json_int(form->arguments, "installments", &months) || months < 2)
		return;
	form_add(form, psprintf("%s[enabled]", installments), "true");
	if (!confirmed)
		return;
	form_add(form, psprintf("%s[plan][count]", installments), psprintf(INT64_FORMAT, months));
	form_add(form, psprintf("%s[plan][interval]", installments), "month");
	form_add(form, psprintf("%s[plan][type]", installments), "fixed_count");
}

static void
form_method_options(Form *form, bool confirmed)
{
	if (method_is(form, "oxxo"))
		form_oxxo_expiry(form);
	if (method_is(form, "spei"))
	{
		const char *const balance = "payment_method_options[customer_balance]";

		form_add(form, psprintf("%s[funding_type]", balance), "bank_transfer");
		form_add(form, psprintf("%s[bank_transfer][type]", balance), "mx_bank_transfer");
	}
	form_installments(form, confirmed);
}

/* What goes with an attempt, and is refused without one. */
static void
form_confirmation(Form *form)
{
	if (!form_token(form))
		form_method_data(form);
	form_given(form, "off_session", "off_session");
	form_given(form, "return_url", "return_url");
	form_mandate(form);
}

/* ------------------------------------------------------------------------
 * Create
 * ------------------------------------------------------------------------
 */

/* Without a place to return to no method may be used that leads away. */
static void
form_offer(Form *form, bool confirm)
{
	if (method_type(form) != NULL)
	{
		form_add(form, "allowed_payment_method_types[0]", method_type(form));
		return;
	}
	form_add(form, "automatic_payment_methods[enabled]", "true");
	if (confirm && json_text(form->arguments, "return_url") == NULL)
		form_add(form, "automatic_payment_methods[allow_redirects]", "never");
}

static void
form_tax(Form *form)
{
	int64 tax = 0;
	int count = json_length(form->arguments, "tax_lines");

	for (int i = 0; i < count; i++)
	{
		int64 amount;

		if (json_int(form->arguments, psprintf("tax_lines.%d.amount", i), &amount))
			tax += amount;
	}
	if (count > 0)
		form_add(form, "amount_details[tax][total_tax_amount]", psprintf(INT64_FORMAT, tax));
}

static void
form_lines(Form *form)
{
	int count = json_length(form->arguments, "line_items");

	for (int i = 0; i < count; i++)
	{
		char *to = psprintf("amount_details[line_items][%d]", i);
		char *from = psprintf("line_items.%d", i);

		form_given(form, psprintf("%s[product_name]", to), psprintf("%s.name", from));
		form_given(form, psprintf("%s[quantity]", to), psprintf("%s.quantity", from));
		form_given(form, psprintf("%s[unit_cost]", to), psprintf("%s.amount", from));
	}
	form_tax(form);
}

static void
build_create(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	bool confirm = json_bool(call->arguments, "confirm", false);

	form_open(&form, call);
	form_given(&form, "amount", "amount");
	form_currency(&form, "currency", "currency");
	form_given(&form, "customer", "customer");
	form_offer(&form, confirm);
	if (confirm)
	{
		form_add(&form, "confirm", "true");
		form_confirmation(&form);
	}
	else
		(void) form_token(&form);
	form_given(&form, "capture_method", "capture_method");
	form_given(&form, "setup_future_usage", "setup_future_usage");
	form_method_options(&form, confirm);
	form_lines(&form);
	form_given(&form, "description", "description");
	form_given(&form, "statement_descriptor_suffix", "statement_descriptor_suffix");
	form_given(&form, "receipt_email", "receipt_email");
	form_reference(&form, call);
	form_expand_fee(&form, call, CHARGE_FEE, CHARGE);
	stripe_post(request, "/v1/payment_intents", &form);
}

static void
list_created(const ProviderCall *call, ProviderRequest *request)
{
	stripe_list_children(call, "payment_intents", "customer",
						 stripe_asks_for_fee(call) ? CHARGE_FEE : CHARGE, request);
}

static const StripeStep create = {
	.type = BILLING_PAYMENT_INTENT,
	.proof = PROOF_LIST,
	.makes_reference = true,
	.build = build_create,
	.build_lookup = list_created,
};

/* ------------------------------------------------------------------------
 * Confirm, capture, cancel, verify
 * ------------------------------------------------------------------------
 */
static void
build_confirm(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_confirmation(&form);
	form_method_options(&form, true);
	form_expand_fee(&form, call, CHARGE_FEE, CHARGE);
	stripe_post(request, psprintf("%s/confirm", intent_path(call)), &form);
}

static bool
is_known(const ProviderCall *call, const char *charge)
{
	int count = json_length(call->arguments, "known");

	for (int i = 0; i < count; i++)
	{
		if (same_text(json_text(call->arguments, psprintf("known.%d", i)), charge))
			return true;
	}
	return charge == NULL;
}

/* An attempt has moved it on, or has failed with a charge that we have not seen. */
static bool
shows_confirmed(const ProviderCall *call, const Jsonb *intent)
{
	static const char *const waiting[] = {"requires_payment_method", "requires_confirmation", NULL};

	return !is_one_of(json_text(intent, "status"), waiting) ||
		   !is_known(call, stripe_id_at(intent, CHARGE));
}

static const StripeStep confirm = {
	.type = BILLING_PAYMENT_INTENT,
	.argument = "payment_intent",
	.proof = PROOF_OBJECT,
	.build = build_confirm,
	.build_lookup = build_fetch,
	.shows = shows_confirmed,
};

static void
build_capture(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_given(&form, "amount_to_capture", "amount");
	form_expand_fee(&form, call, CHARGE_FEE, CHARGE);
	stripe_post(request, psprintf("%s/capture", intent_path(call)), &form);
}

static bool
shows_succeeded(const ProviderCall *call, const Jsonb *intent)
{
	return same_text(json_text(intent, "status"), "succeeded");
}

static const StripeStep capture = {
	.type = BILLING_PAYMENT_INTENT,
	.argument = "payment_intent",
	.proof = PROOF_OBJECT,
	.confirms = true,
	.build = build_capture,
	.build_lookup = build_fetch,
	.shows = shows_succeeded,
};

static void
build_cancel(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_given(&form, "cancellation_reason", "reason");
	stripe_post(request, psprintf("%s/cancel", intent_path(call)), &form);
}

static bool
shows_canceled(const ProviderCall *call, const Jsonb *intent)
{
	return same_text(json_text(intent, "status"), "canceled");
}

static const StripeStep cancel = {
	.type = BILLING_PAYMENT_INTENT,
	.argument = "payment_intent",
	.proof = PROOF_OBJECT,
	.confirms = true,
	.build = build_cancel,
	.build_lookup = build_fetch,
	.shows = shows_canceled,
};

static void
build_verify(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	int count = json_length(call->arguments, "amounts");

	form_open(&form, call);
	for (int i = 0; i < count; i++)
		form_given(&form, psprintf("amounts[%d]", i), psprintf("amounts.%d", i));
	form_given(&form, "descriptor_code", "descriptor_code");
	stripe_post(request, psprintf("%s/verify_microdeposits", intent_path(call)), &form);
}

static bool
shows_verified(const ProviderCall *call, const Jsonb *intent)
{
	return !same_text(json_text(intent, "status"), "requires_action");
}

static const StripeStep verify = {
	.type = BILLING_PAYMENT_INTENT,
	.argument = "payment_intent",
	.proof = PROOF_OBJECT,
	.confirms = true,
	.build = build_verify,
	.build_lookup = build_fetch,
	.shows = shows_verified,
};

static const StripeStep fetch = {
	.type = BILLING_PAYMENT_INTENT,
	.argument = "payment_intent",
	.proof = PROOF_REPEAT,
	.build = build_fetch,
};

static const StripeOperation operations[] = {
	{OPERATION_PAYMENT_INTENT_CREATE, &create},
	{OPERATION_PAYMENT_INTENT_CONFIRM, &confirm},
	{OPERATION_PAYMENT_INTENT_CAPTURE, &capture},
	{OPERATION_PAYMENT_INTENT_CANCEL, &cancel},
	{OPERATION_PAYMENT_INTENT_VERIFY_MICRODEPOSITS, &verify},
	{OPERATION_PAYMENT_INTENT_FETCH, &fetch},
};

const StripeOperations stripe_payment_operations = {operations, lengthof(operations)};

/*-------------------------------------------------------------------------
 *
 * stripe_refunds.c
 *	  Refunds and disputes at Stripe.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe_requests.h"

/* ------------------------------------------------------------------------
 * Refunds
 * ------------------------------------------------------------------------
 */

/* The movement of the balance has the fee. */
#define MOVEMENT "balance_transaction"

/* Stripe has three words; those of ours that it lacks are the customer's wish, or nothing. */
static const char *
reason_word(const char *reason)
{
	static const char *const own[] = {"duplicate", "fraudulent", "requested_by_customer", NULL};
	static const char *const wishes[] = {"service_disruption", "satisfaction_guarantee", NULL};

	if (is_one_of(reason, own))
		return reason;
	return is_one_of(reason, wishes) ? "requested_by_customer" : NULL;
}

/* The payment by its intent, or by its charge where it has none. */
static const char *
refunded_by(const ProviderCall *call)
{
	return json_text(call->arguments, "payment_intent") != NULL ? "payment_intent" : "charge";
}

/*
 * The amount is always said: "all that is left" could be more than was asked
 * for when another refund fails meanwhile.
 */
static void
build_create(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_given(&form, refunded_by(call), refunded_by(call));
	form_given(&form, "amount", "amount");
	form_add(&form, "reason", reason_word(json_text(call->arguments, "reason")));
	if (!json_has(call->arguments, "metadata.description"))
		form_given(&form, "metadata[description]", "description");
	form_reference(&form, call);
	form_expand_fee(&form, call, MOVEMENT, NULL);
	stripe_post(request, "/v1/refunds", &form);
}

static void
list_created(const ProviderCall *call, ProviderRequest *request)
{
	stripe_list_children(call, "refunds", refunded_by(call),
						 stripe_asks_for_fee(call) ? MOVEMENT : NULL, request);
}

static void
build_get(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_expand_fee(&form, call, MOVEMENT, NULL);
	stripe_get(request, stripe_path(call, "refunds", "refund"), &form);
}

static void
build_cancel(const ProviderCall *call, ProviderRequest *request)
{
	stripe_verb(call, request, stripe_path(call, "refunds", "refund"), "cancel");
}

static bool
shows_canceled(const ProviderCall *call, const Jsonb *refund)
{
	return same_text(json_text(refund, "status"), "canceled");
}

static const StripeStep create = {
	.type = BILLING_REFUND,
	.proof = PROOF_LIST,
	.makes_reference = true,
	.build = build_create,
	.build_lookup = list_created,
};

static const StripeStep cancel = {
	.type = BILLING_REFUND,
	.argument = "refund",
	.proof = PROOF_OBJECT,
	.confirms = true,
	.build = build_cancel,
	.build_lookup = build_get,
	.shows = shows_canceled,
};

static const StripeStep fetch = {
	.type = BILLING_REFUND,
	.argument = "refund",
	.proof = PROOF_REPEAT,
	.build = build_get,
};

/* ------------------------------------------------------------------------
 * Disputes
 * ------------------------------------------------------------------------
 */
static char *
dispute_path(const ProviderCall *call)
{
	return stripe_path(call, "disputes", "dispute");
}

static void
build_get_dispute(const ProviderCall *call, ProviderRequest *request)
{
	stripe_get(request, dispute_path(call), NULL);
}

static void
add_evidence(const char *key, const JsonbValue *value, void *context)
{
	char *text = json_scalar_text(value);

	if (value->type != jbvBinary)
		form_add(context, psprintf("evidence[%s]", key), text != NULL ? text : "");
}

static void
build_evidence(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	Jsonb *evidence = json_part(call->arguments, "evidence");

	form_open(&form, call);
	if (evidence != NULL)
		json_visit(evidence, add_evidence, &form);
	form_given(&form, "submit", "submit");
	stripe_post(request, dispute_path(call), &form);
}

/* Kept evidence may be sent again; what was submitted may not. */
static bool
shows_submitted(const ProviderCall *call, const Jsonb *dispute)
{
	int64 count;

	return json_bool(call->arguments, "submit", false) &&
		   json_int(dispute, "evidence_details.submission_count", &count) && count > 0;
}

static void
build_accept(const ProviderCall *call, ProviderRequest *request)
{
	stripe_verb(call, request, dispute_path(call), "close");
}

static bool
shows_closed(const ProviderCall *call, const Jsonb *dispute)
{
	static const char *const closed[] = {"lost", "warning_closed", NULL};

	return is_one_of(json_text(dispute, "status"), closed);
}

static void
build_dispute_list(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_given(&form, "created[gte]", "since");
	form_add(&form, "limit", STRIPE_LIST_LIMIT);
	form_add(&form, "starting_after", stripe_page_start(call));
	stripe_get(request, "/v1/disputes", &form);
}

static const StripeStep submit_evidence = {
	.type = BILLING_DISPUTE,
	.argument = "dispute",
	.proof = PROOF_OBJECT,
	.build = build_evidence,
	.build_lookup = build_get_dispute,
	.shows = shows_submitted,
};

static const StripeStep accept_dispute = {
	.type = BILLING_DISPUTE,
	.argument = "dispute",
	.proof = PROOF_OBJECT,
	.confirms = true,
	.build = build_accept,
	.build_lookup = build_get_dispute,
	.shows = shows_closed,
};

static const StripeStep fetch_dispute = {
	.type = BILLING_DISPUTE,
	.argument = "dispute",
	.proof = PROOF_REPEAT,
	.build = build_get_dispute,
};

static const StripeStep list_disputes = {
	.type = BILLING_DISPUTE,
	.proof = PROOF_REPEAT,
	.build = build_dispute_list,
	.take = stripe_take_page,
};

static const StripeOperation operations[] = {
	{OPERATION_REFUND_CREATE, &create},
	{OPERATION_REFUND_CANCEL, &cancel},
	{OPERATION_REFUND_FETCH, &fetch},
	{OPERATION_DISPUTE_SUBMIT_EVIDENCE, &submit_evidence},
	{OPERATION_DISPUTE_ACCEPT, &accept_dispute},
	{OPERATION_DISPUTE_FETCH, &fetch_dispute},
	{OPERATION_DISPUTE_LIST, &list_disputes},
};

const StripeOperations stripe_refund_operations = {operations, lengthof(operations)};

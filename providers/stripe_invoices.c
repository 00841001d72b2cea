/*-------------------------------------------------------------------------
 *
 * stripe_invoices.c
 *	  Invoices that Stripe writes: read, and what can be done to them.
 *
 * Every answer is asked to contain the payments, because an invoice tells in
 * no other way which payment intent collects it.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe_requests.h"

#define PAYMENTS "payments"

static char *
invoice_path(const ProviderCall *call)
{
	return stripe_path(call, "invoices", "invoice");
}

static void
build_fetch(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "expand[0]", PAYMENTS);
	stripe_get(request, invoice_path(call), &form);
}

static void
build_list(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_given(&form, "customer", "customer");
	form_given(&form, "subscription", "subscription");
	form_add(&form, "expand[0]", "data." PAYMENTS);
	form_add(&form, "limit", STRIPE_LIST_LIMIT);
	form_add(&form, "starting_after", stripe_page_start(call));
	stripe_get(request, "/v1/invoices", &form);
}

/* "pay" takes a method, the other verbs nothing. */
static void
build_verb(const ProviderCall *call, const char *verb, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_given(&form, "payment_method", "payment_method");
	form_add(&form, "expand[0]", PAYMENTS);
	stripe_post(request, psprintf("%s/%s", invoice_path(call), verb), &form);
}

static void
build_finalize(const ProviderCall *call, ProviderRequest *request)
{
	build_verb(call, "finalize", request);
}

static void
build_pay(const ProviderCall *call, ProviderRequest *request)
{
	build_verb(call, "pay", request);
}

static void
build_void(const ProviderCall *call, ProviderRequest *request)
{
	build_verb(call, "void", request);
}

static void
build_send(const ProviderCall *call, ProviderRequest *request)
{
	build_verb(call, "send", request);
}

static void
build_mark_uncollectible(const ProviderCall *call, ProviderRequest *request)
{
	build_verb(call, "mark_uncollectible", request);
}

static bool
status_is(const Jsonb *invoice, const char *status)
{
	return same_text(json_text(invoice, "status"), status);
}

static bool
shows_final(const ProviderCall *call, const Jsonb *invoice)
{
	return !status_is(invoice, "draft");
}

static bool
shows_paid(const ProviderCall *call, const Jsonb *invoice)
{
	return status_is(invoice, "paid");
}

static bool
shows_void(const ProviderCall *call, const Jsonb *invoice)
{
	return status_is(invoice, "void");
}

static bool
shows_uncollectible(const ProviderCall *call, const Jsonb *invoice)
{
	return status_is(invoice, "uncollectible");
}

#define CHANGE(builder, proof_of_it)                                                             \
	{                                                                                            \
		.type = BILLING_INVOICE, .argument = "invoice", .proof = PROOF_OBJECT, .confirms = true, \
		.build = (builder), .build_lookup = build_fetch, .shows = (proof_of_it)                  \
	}

static const StripeStep finalize = CHANGE(build_finalize, shows_final);
static const StripeStep pay = CHANGE(build_pay, shows_paid);
static const StripeStep annul = CHANGE(build_void, shows_void);
static const StripeStep mark_uncollectible = CHANGE(build_mark_uncollectible, shows_uncollectible);

/* Whether it was sent is not told; a second letter does less harm than none. */
static const StripeStep post = {
	.type = BILLING_INVOICE,
	.argument = "invoice",
	.proof = PROOF_OBJECT,
	.build = build_send,
	.build_lookup = build_fetch,
};

static const StripeStep fetch = {
	.type = BILLING_INVOICE,
	.argument = "invoice",
	.proof = PROOF_REPEAT,
	.build = build_fetch,
};

static const StripeStep list_page = {
	.type = BILLING_INVOICE,
	.proof = PROOF_REPEAT,
	.build = build_list,
	.take = stripe_take_page,
};

/* Stripe has the PDF of every final invoice; its URL is in the invoice. */
static const StripeOperation operations[] = {
	{OPERATION_INVOICE_FETCH, &fetch},
	{OPERATION_INVOICE_LIST, &list_page},
	{OPERATION_INVOICE_FINALIZE, &finalize},
	{OPERATION_INVOICE_PAY, &pay},
	{OPERATION_INVOICE_VOID, &annul},
	{OPERATION_INVOICE_SEND, &post},
	{OPERATION_INVOICE_MARK_UNCOLLECTIBLE, &mark_uncollectible},
	{OPERATION_INVOICE_DOCUMENT, &fetch},
};

const StripeOperations stripe_invoice_operations = {operations, lengthof(operations)};

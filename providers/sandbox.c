/*-------------------------------------------------------------------------
 *
 * sandbox.c
 *	  The embedded provider "sandbox", as the core sees it.
 *
 * Translates like every provider: operations into requests, answers and
 * events into snapshots.  The wire is described in sandbox.h; instead of a
 * server, sandbox_perform() is at its other end.
 *
 * Of the account's options "behave_as" is read: with "conekta" a customer
 * needs a name, an email and a phone, as Conekta demands.  Nothing else of
 * another provider's character is played.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

#include "utils/fmgrprotos.h"

/* Stripe's figure; the far side keeps the last 50 answers of a customer for ever. */
#define IDEMPOTENCY_WINDOW (24 * 60 * 60)

/* ------------------------------------------------------------------------
 * Before a request
 * ------------------------------------------------------------------------
 */

static bool
is_text(const Jsonb *arguments, const char *key, const char *wanted)
{
	const char *text = arguments == NULL ? NULL : json_text(arguments, key);

	return text != NULL && strcmp(text, wanted) == 0;
}

static bool
supports_token(const Jsonb *arguments, const char **alternative)
{
	const char *token = arguments == NULL ? NULL : json_text(arguments, "payment_method");

	if (token == NULL || sandbox_token(token) != NULL)
		return true;
	*alternative = sandbox_token_hint();
	return false;
}

static Support
supports(Operation operation, const Jsonb *arguments, const ProviderAccount *account,
		 const char **alternative)
{
	switch (operation)
	{
		case OPERATION_PRODUCT_CREATE:
		case OPERATION_PRICE_CREATE:
			*alternative = "The sandbox has no catalogue; subscribe without pushing the price.";
			return UNSUPPORTED;
		case OPERATION_PAYMENT_METHOD_ATTACH:
			return supports_token(arguments, alternative) ? SUPPORTED : UNSUPPORTED;
		case OPERATION_SUBSCRIPTION_CREATE:
			if (!is_text(arguments, "collection_method", "send_invoice"))
				return SUPPORTED;
			*alternative = "Use collection_method charge_automatically.";
			return UNSUPPORTED;
		default:
			return SUPPORTED;
	}
}

static const char *
missing(Operation operation, const Jsonb *arguments, const ProviderAccount *account)
{
	static const char *const required[] = {"name", "email", "phone"};

	if (operation != OPERATION_CUSTOMER_CREATE ||
		!is_text(account->options, "behave_as", "conekta"))
		return NULL;

	for (size_t i = 0; i < lengthof(required); i++)
	{
		const char *value = json_text(arguments, required[i]);

		if (value == NULL || *value == '\0')
			return required[i];
	}
	return NULL;
}

static const char *
default_base_url(bool livemode)
{
	return "sandbox:";
}

static const char *
check_key(const char *secret_key, const Jsonb *options, bool *livemode)
{
	*livemode = false;
	if (secret_key != NULL && *secret_key != '\0')
		return "the sandbox takes no secret key";
	return NULL;
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

static void
post(ProviderRequest *request, const char *path, const Jsonb *body)
{
	memset(request, 0, sizeof(*request));
	request->method = "POST";
	request->path = path;
	request->headers = list_make1(pstrdup("Content-Type: application/json"));
	request->body = json_string(body);
	request->body_length = strlen(request->body);
}

/* The arguments as they are, and what the operation is about. */
static void
build_request(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder builder;
	Datum body;

	json_open(&builder);
	json_add_text(&builder, "reference", call->reference);
	body = DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(call->arguments),
							   JsonbPGetDatum(json_close(&builder)));
	post(request, psprintf("/%s", operation_name(call->operation)), DatumGetJsonbP(body));
}

/*
 * Our outbox row is part of every wire key, so the far side can tell for any
 * operation whether it was done; the reference finds what an older one made.
 */
static void
build_lookup(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder builder;

	json_open(&builder);
	json_add_text(&builder, "operation", operation_name(call->operation));
	json_add_text(&builder, "reference", call->reference);
	json_add_text(&builder, "request", call->request_id);
	post(request, "/lookup", json_close(&builder));
}

/* There is no key to show, and the wire key goes to perform() by itself. */
static List *
authorize(const ProviderAccount *account, const ProviderRequest *request, const char *wire_key,
		  List *headers)
{
	return headers;
}

/* ------------------------------------------------------------------------
 * Objects to snapshots
 * ------------------------------------------------------------------------
 */

static int64
read_amount(const Jsonb *object, const char *key)
{
	int64 amount;

	return json_int(object, key, &amount) ? amount : NO_AMOUNT;
}

static int64
read_number(const Jsonb *object, const char *key)
{
	int64 number;

	return json_int(object, key, &number) ? number : 0;
}

static void
read_customer(const Jsonb *object, ProviderSnapshot *snapshot)
{
	snapshot->type = BILLING_CUSTOMER;
	snapshot->deleted = json_bool(object, "deleted", false);
	snapshot->terminal = snapshot->deleted;
	snapshot->customer.default_payment_method = json_text(object, "default_payment_method");
}

/* A detached method cannot be attached again. */
static void
read_payment_method(const Jsonb *object, ProviderSnapshot *snapshot)
{
	PaymentMethodSnapshot *method = &snapshot->payment_method;

	snapshot->type = BILLING_PAYMENT_METHOD;
	method->customer = json_text(object, "customer");
	method->type = json_text(object, "type");
	method->brand = json_text(object, "brand");
	method->last4 = json_text(object, "last4");
	method->exp_month = (int) read_number(object, "exp_month");
	method->exp_year = (int) read_number(object, "exp_year");
	method->is_default = json_bool(object, "is_default", false);
	snapshot->deleted = method->customer == NULL;
	snapshot->terminal = snapshot->deleted;
}

static void
read_subscription(const Jsonb *object, ProviderSnapshot *snapshot)
{
	SubscriptionSnapshot *subscription = &snapshot->subscription;

	snapshot->type = BILLING_SUBSCRIPTION;
	snapshot->terminal = is_text(object, "status", "canceled") ||
						 is_text(object, "status", "incomplete_expired");
	subscription->customer = json_text(object, "customer");
	subscription->price = json_text(object, "price");
	subscription->status = json_text(object, "status");
	subscription->provider_status = subscription->status;
	subscription->quantity = read_number(object, "quantity");
	subscription->currency = json_text(object, "currency");
	subscription->current_period_start = json_unix_time(object, "current_period_start");
	subscription->current_period_end = json_unix_time(object, "current_period_end");
	subscription->trial_start = json_unix_time(object, "trial_start");
	subscription->trial_end = json_unix_time(object, "trial_end");
	subscription->cancel_at_period_end = json_bool(object, "cancel_at_period_end", false);
	subscription->cancel_at = json_unix_time(object, "cancel_at");
	subscription->canceled_at = json_unix_time(object, "canceled_at");
	subscription->ended_at = json_unix_time(object, "ended_at");
	subscription->payment_method = json_text(object, "payment_method");
	subscription->client_secret = json_text(object, "client_secret");
}

static void
read_invoice(const Jsonb *object, ProviderSnapshot *snapshot)
{
	InvoiceSnapshot *invoice = &snapshot->invoice;

	snapshot->type = BILLING_INVOICE;
	snapshot->terminal = is_text(object, "status", "paid") || is_text(object, "status", "void");
	invoice->customer = json_text(object, "customer");
	invoice->subscription = json_text(object, "subscription");
	invoice->number = json_text(object, "number");
	invoice->status = json_text(object, "status");
	invoice->currency = json_text(object, "currency");
	invoice->total = read_amount(object, "total");
	invoice->tax = read_amount(object, "tax");
	invoice->amount_due = read_amount(object, "amount_due");
	invoice->amount_paid = read_amount(object, "amount_paid");
	invoice->amount_remaining = read_amount(object, "amount_remaining");
	invoice->billing_reason = json_text(object, "billing_reason");
	invoice->attempt_count = (int) read_number(object, "attempt_count");
	invoice->period_start = json_unix_time(object, "period_start");
	invoice->period_end = json_unix_time(object, "period_end");
	invoice->paid_at = json_unix_time(object, "paid_at");
	invoice->next_attempt_at = json_unix_time(object, "next_attempt_at");
	invoice->created_at = json_unix_time(object, "created");
}

/* NULL when it is no object of the sandbox. */
static ProviderSnapshot *
read_object(const Jsonb *object)
{
	ProviderSnapshot *snapshot = palloc0(sizeof(ProviderSnapshot));

	if (object == NULL)
		return NULL;
	snapshot->provider_id = json_text(object, "id");
	snapshot->reference = json_text(object, "reference");
	if (snapshot->provider_id == NULL)
		return NULL;

	if (is_text(object, "object", "customer"))
		read_customer(object, snapshot);
	else if (is_text(object, "object", "payment_method"))
		read_payment_method(object, snapshot);
	else if (is_text(object, "object", "subscription"))
		read_subscription(object, snapshot);
	else if (is_text(object, "object", "invoice"))
		read_invoice(object, snapshot);
	else
		return NULL;
	return snapshot;
}

static List *
read_objects(const Jsonb *body)
{
	int count = json_length(body, "objects");
	List *snapshots = NIL;

	for (int i = 0; i < count; i++)
	{
		ProviderSnapshot *snapshot = read_object(json_part(body, psprintf("objects.%d", i)));

		if (snapshot != NULL)
			snapshots = lappend(snapshots, snapshot);
	}
	return snapshots;
}

/* ------------------------------------------------------------------------
 * Answers
 * ------------------------------------------------------------------------
 */

static Outcome
outcome_of(const HttpResponse *response)
{
	if (response->transport == HTTP_NOT_SENT)
		return OUTCOME_RETRY;
	if (response->transport != HTTP_ANSWERED || response->status >= 500)
		return OUTCOME_UNKNOWN;
	switch (response->status)
	{
		case 200:
			return OUTCOME_DONE;
		case 402:
			return OUTCOME_DECLINED;
		case 409:
		case 429:
			return OUTCOME_RETRY;
		default:
			return OUTCOME_REFUSED;
	}
}

/* The body, or NULL; sets everything of the result but the snapshots. */
static Jsonb *
read_answer(const HttpResponse *response, CallResult *result)
{
	Jsonb *body;
	const char *reason;

	memset(result, 0, sizeof(*result));
	result->outcome = outcome_of(response);
	result->retry_after = -1;
	if (response->transport != HTTP_ANSWERED)
		return NULL;

	result->retry_after = http_retry_after(response);
	body = json_parse(response->body, response->body_length, &reason);
	if (body == NULL)
	{
		if (result->outcome == OUTCOME_DONE)
			result->outcome = OUTCOME_UNKNOWN;
		return NULL;
	}
	result->error_type = json_text(body, "error.type");
	result->error_code = json_text(body, "error.code");
	return body;
}

static void
read_response(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	Jsonb *body = read_answer(response, result);

	if (body != NULL)
		result->snapshots = read_objects(body);
}

/* A look-up does nothing, so that without a clear answer it is just asked again. */
static void
read_lookup(const ProviderCall *call, const HttpResponse *response, CallResult *result)
{
	Jsonb *body = read_answer(response, result);

	if (result->outcome == OUTCOME_UNKNOWN)
		result->outcome = OUTCOME_RETRY;
	if (result->outcome != OUTCOME_DONE)
		return;
	if (json_bool(body, "found", false))
		result->snapshots = read_objects(body);
	else
		result->outcome = OUTCOME_ABSENT;
}

/* ------------------------------------------------------------------------
 * Webhooks
 * ------------------------------------------------------------------------
 */

static Jsonb *
sign(const char *payload, const char *secret, TimestampTz now)
{
	SignatureSecret key = {secret, strlen(secret)};
	char header[SIGNATURE_TIMESTAMPED_SIZE];
	JsonBuilder builder;

	if (!signature_sign_timestamped(&key, sandbox_unix_seconds(now), payload, strlen(payload),
									header))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the sandbox cannot sign a webhook"),
						errhint("Give the sandbox account a webhook secret that is not blank.")));
	json_open(&builder);
	json_add_text(&builder, SANDBOX_SIGNATURE_HEADER, header);
	return json_close(&builder);
}

static SignatureResult
verify(const void *payload, size_t length, const WebhookHeaders *headers,
	   const SignatureSecret *secrets, int secret_count, int64 now, WebhookTolerance tolerance,
	   int *matched)
{
	const char *header = webhook_header(headers, "sandbox-signature");

	return signature_verify_timestamped(header, header == NULL ? 0 : strlen(header), payload,
										length, secrets, secret_count, now, tolerance.past,
										tolerance.future, matched);
}

static bool
identify_event(const Jsonb *payload, const WebhookHeaders *headers, EventIdentity *identity)
{
	memset(identity, 0, sizeof(*identity));
	if (!is_text(payload, "object", "event"))
		return false;
	identity->id = json_text(payload, "id");
	identity->type = json_text(payload, "type");
	identity->time = json_unix_time(payload, "created");
	identity->has_livemode = json_has(payload, "livemode");
	identity->livemode = json_bool(payload, "livemode", false);
	return identity->id != NULL && identity->type != NULL;
}

static void
read_event(const Jsonb *payload, EventReading *reading)
{
	ProviderSnapshot *snapshot = read_object(json_part(payload, "data.object"));

	reading->snapshots = NIL;
	reading->ignored = NULL;
	if (snapshot == NULL)
		reading->ignored = "the event is about nothing that is kept here";
	else
		reading->snapshots = list_make1(snapshot);
}

/* ------------------------------------------------------------------------
 * The provider
 * ------------------------------------------------------------------------
 */

static const EmbeddedProvider embedded = {
	.perform = sandbox_perform,
	.elapse = sandbox_elapse,
	.act = sandbox_act,
	.sign = sign,
};

static const Provider sandbox = {
	.name = "sandbox",
	.idempotency_window = IDEMPOTENCY_WINDOW,
	.catalogue = CATALOGUE_NONE,
	.embedded = &embedded,
	.supports = supports,
	.missing = missing,
	.default_base_url = default_base_url,
	.check_key = check_key,
	.build_request = build_request,
	.read_response = read_response,
	.build_lookup = build_lookup,
	.read_lookup = read_lookup,
	.authorize = authorize,
	.verify = verify,
	.identify_event = identify_event,
	.read_event = read_event,
};

PROVIDER_REGISTER(sandbox)

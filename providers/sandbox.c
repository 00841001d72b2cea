/*-------------------------------------------------------------------------
 *
 * sandbox.c
 *	  The embedded provider "sandbox", as the core sees it.
 *
 * Translates like every provider: operations into requests, answers and
 * events into snapshots.  The wire is described in sandbox.h; instead of a
 * server, sandbox_perform() is at its other end.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox_fees.h"

#include "utils/fmgrprotos.h"

/* Stripe's figure; the far side keeps the last 50 answers of a customer for ever. */
#define IDEMPOTENCY_WINDOW (24 * 60 * 60)

/* ------------------------------------------------------------------------
 * The account
 * ------------------------------------------------------------------------
 */

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
 * Answers
 * ------------------------------------------------------------------------
 */

static List *
read_objects(const Jsonb *body)
{
	int count = json_length(body, "objects");
	List *snapshots = NIL;

	for (int i = 0; i < count; i++)
	{
		ProviderSnapshot *snapshot = sandbox_snapshot(json_part(body, psprintf("objects.%d", i)));

		if (snapshot == NULL)
			continue;
		snapshot->position = json_text(body, "position");
		snapshots = lappend(snapshots, snapshot);
	}
	return snapshots;
}

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
	if (!sandbox_text_is(json_text(payload, "object"), "event"))
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
	ProviderSnapshot *snapshot = sandbox_snapshot(json_part(payload, "data.object"));

	reading->snapshots = NIL;
	reading->ignored = NULL;
	if (snapshot == NULL)
	{
		reading->ignored = "the event is about nothing that is kept here";
		return;
	}
	snapshot->position = json_text(payload, "id");
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
	.billing = BILLING_NONE, /* it does bill, for who names it in the call */
	.billing_of = sandbox_billing,
	.embedded = &embedded,
	.supports = sandbox_supports,
	.missing = sandbox_missing,
	.default_base_url = default_base_url,
	.check_key = check_key,
	.check_options = sandbox_check_options,
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

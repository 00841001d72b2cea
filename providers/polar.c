/*-------------------------------------------------------------------------
 *
 * polar.c
 *	  Polar: the provider's struct, its keys and its signatures.
 *
 * Called by the core through the struct Provider only.  Polar is the seller of
 * what it sells (merchant of record): subscriptions begin in its checkout, it
 * computes the tax and writes the invoice.  What goes over the wire is
 * described where it is written (polar_requests.c) and read
 * (polar_responses.c, polar_objects.c); what is not offered stands in
 * polar_support.c.
 *
 * An account's options: "sandbox" (bool) says which of the two hosts the token
 * is of, because the token does not; "organization_id" is needed with personal
 * tokens (polar_pat_), which may act for several organisations; "product_id"
 * is a one-time product under which amounts without a product of their own are
 * charged.
 *
 *-------------------------------------------------------------------------
 */
#include "polar.h"

#include "json.h"

static const char *
polar_default_base_url(bool livemode)
{
	return livemode ? "https://api.polar.sh" : "https://sandbox-api.polar.sh";
}

/* The token goes into a header line, hence the look at every character. */
static const char *
polar_check_key(const char *secret_key, const Jsonb *options, bool *livemode)
{
	const char *const characters =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

	if (strncmp(secret_key, "polar_oat_", 10) != 0 && strncmp(secret_key, "polar_pat_", 10) != 0)
		return "an access token of Polar begins with polar_oat_ or polar_pat_";
	if (secret_key[strspn(secret_key, characters)] != '\0')
		return "it contains a character that no token of Polar has";
	if (secret_key[10] == '\0')
		return "nothing follows its prefix";
	if (options != NULL)
		*livemode = !json_bool(options, "sandbox", false);
	return NULL;
}

/* Polar's ids are UUIDs. */
static bool
is_uuid(const Jsonb *options, const char *option)
{
	char *text = json_text(options, option);

	if (text == NULL)
		return json_part(options, option) == NULL;
	return strlen(text) == 36 && text[strspn(text, "0123456789abcdefABCDEF-")] == '\0';
}

static const char *
polar_check_options(const Jsonb *options)
{
	if (!is_uuid(options, "organization_id"))
		return "organization_id is not an id of Polar (a UUID)";
	if (!is_uuid(options, "product_id"))
		return "product_id is not an id of Polar (a UUID)";
	return NULL;
}

/* Polar has no idempotency keys. */
static List *
polar_authorize(const ProviderAccount *account, const ProviderRequest *request,
				const char *wire_key, List *headers)
{
	return lappend(headers, psprintf("Authorization: Bearer %s", account->secret_key));
}

static SignatureResult
polar_verify(const void *payload, size_t length, const WebhookHeaders *headers,
			 const SignatureSecret *secrets, int secret_count, int64 now,
			 WebhookTolerance tolerance, int *matched)
{
	const char *id = webhook_header(headers, "webhook-id");
	const char *timestamp = webhook_header(headers, "webhook-timestamp");
	const char *signatures = webhook_header(headers, "webhook-signature");
	SignatureStandardHeaders standard = {
		.id = id,
		.id_length = id == NULL ? 0 : strlen(id),
		.timestamp = timestamp,
		.timestamp_length = timestamp == NULL ? 0 : strlen(timestamp),
		.signatures = signatures,
		.signatures_length = signatures == NULL ? 0 : strlen(signatures),
	};

	return signature_verify_standard(&standard, payload, length, secrets, secret_count, now,
									 tolerance.past, tolerance.future, matched);
}

static const Provider polar_provider = {
	.name = "polar",
	.idempotency_window = 0,
	.catalogue = CATALOGUE_PRICES,
	.billing = BILLING_FULL, /* by checkout */
	.pace = {.live = 500.0 / 60, .test = 100.0 / 60},
	.embedded = NULL,
	.supports = polar_supports,
	.missing = polar_missing,
	.default_base_url = polar_default_base_url,
	.check_key = polar_check_key,
	.check_options = polar_check_options,
	.build_request = polar_build_request,
	.read_response = polar_read_response,
	.build_lookup = polar_build_lookup,
	.read_lookup = polar_read_lookup,
	.authorize = polar_authorize,
	.verify = polar_verify,
	.identify_event = polar_identify_event,
	.read_event = polar_read_event,
};

PROVIDER_REGISTER(polar_provider)

/*-------------------------------------------------------------------------
 *
 * conekta.c
 *	  Conekta: the provider's struct, its keys and its signatures.
 *
 * Called by the core through the struct Provider only.  An account's options:
 *
 *	  sandbox		true: its key is of the test mode.  There is one host for
 *					both, and a key does not tell of which it is.
 *	  accept		the media type that is asked for; another one (and another
 *					base_url) makes the account one at the twin of this API
 *					that takes cash payments (Oxxo Pay, api.digitalfemsa.io)
 *	  language		es (default) or en
 *	  child_company	id of the company of a holding that requests are made for
 *	  headers		{name: value} that go with every request
 *	  three_ds_mode	strict, not_strict or smart; else as Conekta has it
 *	  usd_orders	true: the contract allows orders in USD
 *	  verify		api: webhooks without a signature are taken, as hints what to
 *					ask the API for; a company without a webhook key sends such
 *
 * What goes over the wire is described where it is written
 * (conekta_requests.c, conekta_orders.c) and read (conekta_responses.c,
 * conekta_lookups.c, conekta_objects.c, conekta_events.c).
 *
 *-------------------------------------------------------------------------
 */
#include "conekta.h"

/*
 * Conekta publishes no limit.  Ours is a careful guess, the same for both
 * modes because they are the same host.
 */
#define REQUESTS_PER_SECOND 10

static const char *
conekta_default_base_url(bool livemode)
{
	return "https://api.conekta.io";
}

typedef struct HeaderCheck
{
	const char *trouble;
} HeaderCheck;

/* A line break in a header would begin another one. */
static bool
fits_header(const char *text)
{
	for (; text != NULL && *text != '\0'; text++)
	{
		if ((unsigned char) *text < ' ' || *text == 127)
			return false;
	}
	return text != NULL;
}

static void
check_header(const char *name, const JsonbValue *value, void *context)
{
	HeaderCheck *check = context;

	if (*name == '\0' || strpbrk(name, ": \t") != NULL || !fits_header(name) ||
		!fits_header(json_scalar_text(value)))
		check->trouble = "options.headers has a member that is no header";
	else if (pg_strcasecmp(name, "authorization") == 0)
		check->trouble = "options.headers holds an authorization, which is what secret_key is for";
}

static bool
conekta_accepts_unsigned(const Jsonb *options)
{
	return conekta_same(json_text(options, "verify"), "api");
}

static const char *
check_options(const Jsonb *options)
{
	static const char *const in_headers[] = {"accept", "language", "child_company"};
	char *language = json_text(options, "language");
	Jsonb *headers = json_part(options, "headers");
	HeaderCheck check = {NULL};

	for (size_t i = 0; i < lengthof(in_headers); i++)
	{
		if (json_has(options, in_headers[i]) && !fits_header(json_text(options, in_headers[i])))
			return psprintf("options.%s does not fit into a header", in_headers[i]);
	}
	if (language != NULL && strcmp(language, "es") != 0 && strcmp(language, "en") != 0)
		return "options.language is es or en";
	if (json_has(options, "verify") && !conekta_accepts_unsigned(options))
		return "options.verify is api, or left out: then only what is signed is taken";
	if (headers != NULL)
		json_visit(headers, check_header, &check);
	return check.trouble;
}

/*
 * The key goes into a header line, hence the look at every character.  Its
 * mode is told by the options; without any the caller knows it.
 */
static const char *
conekta_check_key(const char *secret_key, const Jsonb *options, bool *livemode)
{
	const char *const characters =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

	if (strncmp(secret_key, "key_", 4) != 0)
		return "a private key of Conekta begins with key_";
	if (secret_key[4] == '\0')
		return "nothing follows its prefix";
	if (secret_key[strspn(secret_key, characters)] != '\0')
		return "it contains a character that no key of Conekta has";
	if (options == NULL)
		return NULL;
	*livemode = !json_bool(options, "sandbox", false);
	return check_options(options);
}

static List *
conekta_authorize(const ProviderAccount *account, const ProviderRequest *request,
				  const char *wire_key, List *headers)
{
	return lappend(headers, psprintf("Authorization: Bearer %s", account->secret_key));
}

/* No time is signed, so that nothing can be too old: a replay is found by the event's id. */
static SignatureResult
conekta_verify(const void *payload, size_t length, const WebhookHeaders *headers,
			   const SignatureSecret *secrets, int secret_count, int64 now,
			   WebhookTolerance tolerance, int *matched)
{
	const char *header = webhook_header(headers, "digest");

	return signature_verify_digest(header, header == NULL ? 0 : strlen(header), payload, length,
								   secrets, secret_count, matched);
}

static const Provider conekta_provider = {
	.name = "conekta",
	.idempotency_window = 0,
	.catalogue = CATALOGUE_PRICES,
	.billing = BILLING_FLAT_BY_CARD,
	.pace = {.live = REQUESTS_PER_SECOND, .test = REQUESTS_PER_SECOND},
	.embedded = NULL,
	.supports = conekta_supports,
	.missing = conekta_missing,
	.default_base_url = conekta_default_base_url,
	.check_key = conekta_check_key,
	.build_request = conekta_build_request,
	.read_response = conekta_read_response,
	.build_lookup = conekta_build_lookup,
	.read_lookup = conekta_read_lookup,
	.authorize = conekta_authorize,
	.verify = conekta_verify,
	.accepts_unsigned = conekta_accepts_unsigned,
	.identify_event = conekta_identify_event,
	.read_event = conekta_read_event,
};

PROVIDER_REGISTER(conekta_provider)

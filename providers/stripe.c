/*-------------------------------------------------------------------------
 *
 * stripe.c
 *	  Stripe: the provider's struct, its keys, options and signatures.
 *
 * Called by the core through the struct Provider only.  What goes over the
 * wire is described where it is written and read, see stripe.h.
 *
 * Money: the amounts of arguments and snapshots are those on the wire.  They
 * are ISO 4217 minor units for every currency but the few for which Stripe
 * counts otherwise (UGX and ISK have two decimals there); the core converts
 * these before it calls and after it has read, so that no list of currencies
 * stands here.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe.h"

#include "json.h"

/* Stripe keeps the answer of a key for 24 hours at least; an hour is for clocks that differ. */
#define IDEMPOTENCY_WINDOW (23 * SECS_PER_HOUR)

static const char *
stripe_default_base_url(bool livemode)
{
	return "https://api.stripe.com";
}

/* The key goes into a header line, hence the look at every character. */
static const char *
stripe_check_key(const char *secret_key, const Jsonb *options, bool *livemode)
{
	const char *const characters =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
	const char *mode;

	if (strncmp(secret_key, "pk_", 3) == 0)
		return "this is a publishable key; a secret key begins with sk_ or rk_";
	if (strncmp(secret_key, "sk_", 3) != 0 && strncmp(secret_key, "rk_", 3) != 0)
		return "a secret key of Stripe begins with sk_ or rk_";
	if (secret_key[strspn(secret_key, characters)] != '\0')
		return "it contains a character that no key of Stripe has";

	mode = secret_key + 3;
	if (strncmp(mode, "test_", 5) == 0)
		*livemode = false;
	else if (strncmp(mode, "live_", 5) == 0)
		*livemode = true;
	else
		return "it does not say test or live (sk_test_, sk_live_, rk_test_, rk_live_)";
	return mode[5] == '\0' ? "nothing follows its prefix" : NULL;
}

/*
 * The options that are read here: stripe_account, the connected account that is
 * spoken for, and read_fees.
 */
static const char *
stripe_check_options(const Jsonb *options)
{
	const char *const characters =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
	static const char *const truths[] = {"true", "false", NULL};
	char *account = json_text(options, "stripe_account");
	char *read_fees = json_text(options, "read_fees");

	if (read_fees != NULL && !is_one_of(read_fees, truths))
		return "read_fees is neither true nor false";
	if (!json_has(options, "stripe_account"))
		return NULL;
	if (account == NULL || strncmp(account, "acct_", 5) != 0 || account[5] == '\0' ||
		account[strspn(account, characters)] != '\0')
		return "stripe_account is not the id of an account (acct_...)";
	return NULL;
}

/* ------------------------------------------------------------------------
 * Headers and signatures
 * ------------------------------------------------------------------------
 */
/* Keys of version 1 of the API are for POST alone: GET and DELETE repeat harmlessly. */
static List *
stripe_authorize(const ProviderAccount *account, const ProviderRequest *request,
				 const char *wire_key, List *headers)
{
	char *connected = json_text(account->options, "stripe_account");

	headers = lappend(headers, psprintf("Authorization: Bearer %s", account->secret_key));
	if (wire_key != NULL && strcmp(request->method, "POST") == 0)
		headers = lappend(headers, psprintf("Idempotency-Key: %s", wire_key));
	if (connected != NULL)
		headers = lappend(headers, psprintf("Stripe-Account: %s", connected));
	return headers;
}

static SignatureResult
stripe_verify(const void *payload, size_t length, const WebhookHeaders *headers,
			  const SignatureSecret *secrets, int secret_count, int64 now,
			  WebhookTolerance tolerance, int *matched)
{
	const char *header = webhook_header(headers, "stripe-signature");

	return signature_verify_timestamped(header, header == NULL ? 0 : strlen(header), payload,
										length, secrets, secret_count, now, tolerance.past,
										tolerance.future, matched);
}

static const Provider stripe_provider = {
	.name = "stripe",
	.idempotency_window = IDEMPOTENCY_WINDOW,
	.catalogue = CATALOGUE_PRODUCTS,
	.billing = BILLING_FULL,
	.pace = {.live = 100, .test = 25},
	.embedded = NULL,
	.supports = stripe_supports,
	.missing = stripe_missing,
	.default_base_url = stripe_default_base_url,
	.check_key = stripe_check_key,
	.check_options = stripe_check_options,
	.build_request = stripe_build_request,
	.read_response = stripe_read_response,
	.build_lookup = stripe_build_lookup,
	.read_lookup = stripe_read_lookup,
	.authorize = stripe_authorize,
	.verify = stripe_verify,
	.identify_event = stripe_identify_event,
	.read_event = stripe_read_event,
};

PROVIDER_REGISTER(stripe_provider)

/*
 * test_signature.c
 *		Every signed webhook of webhook_vectors.h is accepted, and every way of
 *		bending one is refused for its own reason.
 */
#include "signature.h"
#include "crypto.h"

#include "unit.h"
#include "webhook_vectors.h"

#define COUNT(table) ((int) (sizeof(table) / sizeof((table)[0])))

static char label[200];
static int matched;

static const char *
named(const char *scheme, const char *what)
{
	snprintf(label, sizeof(label), "%s: %s", scheme, what);
	return label;
}

static bool
is(SignatureResult got, SignatureResult wanted, const char *name)
{
	bool passed = ok(got == wanted, name);

	if (!passed)
		printf("# got \"%s\", wanted \"%s\"\n", signature_reason(got), signature_reason(wanted));
	return passed;
}

static SignatureSecret
secret_of(const char *text)
{
	SignatureSecret secret = {text, strlen(text)};

	return secret;
}

/*
 * The same secret made ready, its text gone.  Every check below is made with
 * the text, and with the key twice: one message must not change it.
 */
static SignatureSecret
ready(SignatureSecret secret)
{
	char *copy = malloc(secret.length + 1);
	SignatureSecret made = {NULL, 0, NULL};

	memcpy(copy, secret.text, secret.length);
	made.key = signature_key_new(copy, secret.length);
	memset(copy, 'x', secret.length);
	free(copy);
	return made;
}

static void
drop(SignatureSecret secret)
{
	signature_key_free((SignatureKey *) secret.key);
}

/* What they all say; a result that no check wants when they differ. */
static SignatureResult
agreed(const SignatureResult results[3])
{
	if (results[0] == results[1] && results[1] == results[2])
		return results[0];
	printf("# with the text \"%s\", with a key \"%s\" and \"%s\"\n", signature_reason(results[0]),
		   signature_reason(results[1]), signature_reason(results[2]));
	return SIGNATURE_UNAVAILABLE;
}

/* ---- Stripe ---- */

static SignatureResult
stripe(const char *header, const char *body, const char *secret, int64_t now)
{
	SignatureSecret ways[3] = {secret_of(secret), ready(secret_of(secret))};
	SignatureResult results[3];

	ways[2] = ways[1];
	for (int i = 0; i < 3; i++)
		results[i] = signature_verify_timestamped(header, strlen(header), body, strlen(body),
												  &ways[i], 1, now, SIGNATURE_TOLERANCE,
												  SIGNATURE_TOLERANCE, &matched);
	drop(ways[1]);
	return agreed(results);
}

#define S1_T         "1700000000"
#define S1_HEX       "dfb4777aaaec4ea29ff455dd4df7fe6b2ef71096ad3a93a158db7e100109ea91"
#define S1_HEX_UPPER "DFB4777AAAEC4EA29FF455DD4DF7FE6B2EF71096AD3A93A158DB7E100109EA91"
#define S1_HEX_SHORT "dfb4777aaaec4ea29ff455dd4df7fe6b2ef71096ad3a93a158db7e100109ea"
#define ZEROS        "0000000000000000000000000000000000000000000000000000000000000000"

/* Headers for the body and secret of S1, judged at t + 5. */
static const struct
{
	const char *name;
	const char *header;
	SignatureResult wanted;
} stripe_headers[] = {
	{"another v1 before the right one, and a v0", "t=" S1_T ",v1=" ZEROS ",v1=" S1_HEX ",v0=ff",
	 SIGNATURE_OK},
	{"the last t counts", "t=1,t=" S1_T ",v1=" S1_HEX, SIGNATURE_OK},
	{"the last t counts, whatever the first one is", "t=abc,t=" S1_T ",v1=" S1_HEX, SIGNATURE_OK},
	{"t after v1", "v1=" S1_HEX ",t=" S1_T, SIGNATURE_OK},
	{"t changed", "t=1700000001,v1=" S1_HEX, SIGNATURE_MISMATCH},
	{"v0 in place of v1", "t=" S1_T ",v0=" S1_HEX, SIGNATURE_MALFORMED},
	{"no t", "v1=" S1_HEX, SIGNATURE_MALFORMED},
	{"t is no number", "t=abc,v1=" S1_HEX, SIGNATURE_MALFORMED},
	{"t with letters behind it", "t=" S1_T "x,v1=" S1_HEX, SIGNATURE_MALFORMED},
	{"t with a sign", "t=+" S1_T ",v1=" S1_HEX, SIGNATURE_MALFORMED},
	{"t negative", "t=-" S1_T ",v1=" S1_HEX, SIGNATURE_MALFORMED},
	{"t empty", "t=,v1=" S1_HEX, SIGNATURE_MALFORMED},
	{"t beyond int64", "t=99999999999999999999,v1=" S1_HEX, SIGNATURE_MALFORMED},
	{"t with a leading zero was not signed", "t=0" S1_T ",v1=" S1_HEX, SIGNATURE_MISMATCH},
	{"upper-case hex", "t=" S1_T ",v1=" S1_HEX_UPPER, SIGNATURE_MISMATCH},
	{"v1 cut to 62 characters", "t=" S1_T ",v1=" S1_HEX_SHORT, SIGNATURE_MISMATCH},
	{"v1 with a character too many", "t=" S1_T ",v1=" S1_HEX "0", SIGNATURE_MISMATCH},
	{"v1 empty", "t=" S1_T ",v1=", SIGNATURE_MISMATCH},
	{"a space after the comma", "t=" S1_T ", v1=" S1_HEX, SIGNATURE_MALFORMED},
	{"nothing but commas", ",,,", SIGNATURE_MALFORMED},
	{"names without values", "t,v1", SIGNATURE_MALFORMED},
	{"empty header", "", SIGNATURE_MISSING},
};

static void
test_stripe_vectors(void)
{
	for (int i = 0; i < COUNT(stripe_vectors); i++)
	{
		const StripeVector *v = &stripe_vectors[i];

		is(stripe(v->header, v->body, v->secret, v->t + 5), SIGNATURE_OK, v->name);
	}
	for (int i = 0; i < COUNT(stripe_headers); i++)
	{
		const StripeVector *v = &stripe_vectors[0];

		is(stripe(stripe_headers[i].header, v->body, v->secret, v->t + 5), stripe_headers[i].wanted,
		   named("stripe", stripe_headers[i].name));
	}
}

static void
test_stripe_body_and_secret(void)
{
	const StripeVector *v = &stripe_vectors[0];
	char longer[200];
	SignatureSecret none = {NULL, 0};

	snprintf(longer, sizeof(longer), "%s ", v->body);
	is(stripe(v->header, longer, v->secret, v->t + 5), SIGNATURE_MISMATCH,
	   "stripe: body and one space");
	is(stripe(v->header, v->body, "whsec_other", v->t + 5), SIGNATURE_MISMATCH,
	   "stripe: another secret");
	ok(matched == -1, "stripe: no secret matched");
	is(stripe(v->header, v->body, "", v->t + 5), SIGNATURE_NO_SECRET, "stripe: empty secret");
	is(stripe(v->header, v->body, " \t\n", v->t + 5), SIGNATURE_NO_SECRET, "stripe: blank secret");
	is(signature_verify_timestamped(v->header, strlen(v->header), v->body, strlen(v->body), &none,
									1, v->t, 300, 300, NULL),
	   SIGNATURE_NO_SECRET, "stripe: secret is null");
	is(signature_verify_timestamped(v->header, strlen(v->header), v->body, strlen(v->body), NULL, 0,
									v->t, 300, 300, NULL),
	   SIGNATURE_NO_SECRET, "stripe: no secrets at all");
	none = secret_of(v->secret);
	is(signature_verify_timestamped(NULL, 0, v->body, strlen(v->body), &none, 1, v->t, 300, 300,
									NULL),
	   SIGNATURE_MISSING, "stripe: no header");
}

static SignatureResult
stripe_within(int64_t now, int past, int future)
{
	const StripeVector *v = &stripe_vectors[0];
	SignatureSecret one = secret_of(v->secret);

	return signature_verify_timestamped(v->header, strlen(v->header), v->body, strlen(v->body),
										&one, 1, now, past, future, &matched);
}

static void
test_stripe_time(void)
{
	const StripeVector *v = &stripe_vectors[0];
	int64_t t = v->t;

	is(stripe_within(t + 300, 300, 300), SIGNATURE_OK, "stripe: 300 s old passes");
	is(stripe_within(t + 301, 300, 300), SIGNATURE_TOO_OLD, "stripe: 301 s old is too old");
	ok(matched == 0, "stripe: a signature that is too old still names its secret");
	is(stripe_within(t - 300, 300, 300), SIGNATURE_OK, "stripe: 300 s ahead passes");
	is(stripe_within(t - 301, 300, 300), SIGNATURE_TOO_NEW, "stripe: 301 s ahead is too new");
	is(stripe_within(t - 86400, 300, SIGNATURE_NO_LIMIT), SIGNATURE_OK,
	   "stripe: a day ahead passes without a limit, as in Stripe's SDK");
	is(stripe_within(t + 86400, SIGNATURE_NO_LIMIT, 300), SIGNATURE_OK,
	   "stripe: a day old passes without a limit");
	is(stripe_within(t, 0, 0), SIGNATURE_OK, "stripe: no tolerance, same second");
	is(stripe_within(t + 1, 0, 0), SIGNATURE_TOO_OLD, "stripe: no tolerance, next second");
	is(stripe_within(INT64_MIN, 300, 300), SIGNATURE_TOO_NEW,
	   "stripe: the lowest clock does not overflow");
	is(stripe_within(INT64_MAX, 300, 300), SIGNATURE_TOO_OLD,
	   "stripe: the highest clock does not overflow");
	is(stripe(v->header, v->body, "whsec_other", t + 301), SIGNATURE_MISMATCH,
	   "stripe: wrong and old is wrong");
	is(stripe(v->header, v->body, "whsec_other", t - 301), SIGNATURE_MISMATCH,
	   "stripe: wrong and new is wrong");
}

static void
test_stripe_rotation(void)
{
	const StripeVector *v = &stripe_vectors[0];
	SignatureSecret secrets[4];

	secrets[0] = secret_of("");
	secrets[1] = secret_of("whsec_new");
	secrets[2] = secret_of(v->secret);
	secrets[3] = secret_of(v->secret);
	is(signature_verify_timestamped(v->header, strlen(v->header), v->body, strlen(v->body), secrets,
									4, v->t, 300, 300, &matched),
	   SIGNATURE_OK, "stripe: an empty secret is skipped and the old one accepted");
	ok(matched == 2, "stripe: the first secret that matches is named");

	for (int i = 0; i < 4; i++)
		secrets[i] = ready(secrets[i]);
	is(signature_verify_timestamped(v->header, strlen(v->header), v->body, strlen(v->body), secrets,
									4, v->t, 300, 300, &matched),
	   SIGNATURE_OK, "stripe: so it is with secrets made ready");
	ok(matched == 2, "stripe: of which the first that matches is named");
	for (int i = 0; i < 4; i++)
		drop(secrets[i]);
}

static void
test_stripe_signing(void)
{
	char header[SIGNATURE_TIMESTAMPED_SIZE];
	SignatureSecret blank = secret_of(" ");
	SignatureSecret secret = secret_of("whsec_sandbox");

	for (int i = 0; i < COUNT(stripe_vectors); i++)
	{
		const StripeVector *v = &stripe_vectors[i];
		SignatureSecret own = secret_of(v->secret);

		ok(signature_sign_timestamped(&own, v->t, v->body, strlen(v->body), header) &&
			   strcmp(header, v->header) == 0,
		   named("stripe signs like", v->name));
	}
	ok(signature_sign_timestamped(&secret, 0, NULL, 0, header) &&
		   stripe(header, "", "whsec_sandbox", 0) == SIGNATURE_OK,
	   "stripe: an empty body can be signed");
	ok(signature_sign_timestamped(&secret, INT64_MAX, "x", 1, header),
	   "stripe: the longest timestamp fits the buffer");
	ok(!signature_sign_timestamped(&secret, -1, "x", 1, header),
	   "stripe: a negative time is not signed");
	ok(!signature_sign_timestamped(&blank, 1, "x", 1, header) && header[0] == '\0',
	   "stripe: a blank secret does not sign");
}

/* ---- Standard Webhooks ---- */

static SignatureResult
polar_at(const char *id, const char *timestamp, const char *signature, const char *body,
		 const char *secret, int64_t now)
{
	SignatureSecret ways[3] = {secret_of(secret), ready(secret_of(secret))};
	SignatureResult results[3];
	SignatureStandardHeaders headers = {
		id, strlen(id), timestamp, strlen(timestamp), signature, strlen(signature),
	};

	ways[2] = ways[1];
	for (int i = 0; i < 3; i++)
		results[i] = signature_verify_standard(&headers, body, strlen(body), &ways[i], 1, now, 300,
											   300, &matched);
	drop(ways[1]);
	return agreed(results);
}

static void
test_polar_vectors(void)
{
	char timestamp[24];

	for (int i = 0; i < COUNT(polar_vectors); i++)
	{
		const PolarVector *v = &polar_vectors[i];

		snprintf(timestamp, sizeof(timestamp), "%lld", (long long) v->t);
		is(polar_at(v->id, timestamp, v->signature, v->body, v->secret, v->t + 5), SIGNATURE_OK,
		   v->name);
	}
}

#define P1_T      "1700000000"
#define P1_ID     "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define P1_BASE64 "2i5zDOmoZBWfA/RFC4Oucj5DF0NsfDNDEUXYDiGmQHw="

/* The headers of P1 bent, judged at t + 5 with its body and secret. */
static const struct
{
	const char *name;
	const char *id;
	const char *timestamp;
	const char *signature;
	SignatureResult wanted;
} polar_headers[] = {
	{"another v1 before the right one", P1_ID, P1_T, "v1,AAAA v1," P1_BASE64, SIGNATURE_OK},
	{"an ed25519 signature beside the right one", P1_ID, P1_T, "v1a,AAAA v1," P1_BASE64,
	 SIGNATURE_OK},
	{"another id", "msg_x", P1_T, "v1," P1_BASE64, SIGNATURE_MISMATCH},
	{"timestamp + 1", P1_ID, "1700000001", "v1," P1_BASE64, SIGNATURE_MISMATCH},
	{"label v1a", P1_ID, P1_T, "v1a," P1_BASE64, SIGNATURE_MALFORMED},
	{"the right one under a label of its own", P1_ID, P1_T, "v1,AAAA v2," P1_BASE64,
	 SIGNATURE_MISMATCH},
	{"a character behind the right one", P1_ID, P1_T, "v1," P1_BASE64 "=", SIGNATURE_MISMATCH},
	{"label v2", P1_ID, P1_T, "v2," P1_BASE64, SIGNATURE_MALFORMED},
	{"no label", P1_ID, P1_T, P1_BASE64, SIGNATURE_MALFORMED},
	{"signature header missing", P1_ID, P1_T, "", SIGNATURE_MISSING},
	{"timestamp header missing", P1_ID, "", "v1," P1_BASE64, SIGNATURE_MISSING},
	{"id header missing", "", P1_T, "v1," P1_BASE64, SIGNATURE_MISSING},
	{"timestamp is no number", P1_ID, "abc", "v1," P1_BASE64, SIGNATURE_MALFORMED},
	{"timestamp with decimals", P1_ID, P1_T ".0", "v1," P1_BASE64, SIGNATURE_MALFORMED},
	{"signature without its padding", P1_ID, P1_T, "v1,2i5zDOmoZBWfA/RFC4Oucj5DF0NsfDNDEUXYDiGmQHw",
	 SIGNATURE_MISMATCH},
	{"URL-safe alphabet", P1_ID, P1_T,
	 "v1,2i5zDOmoZBWfA_RFC4Oucj5DF0NsfDNDEUXYDiGmQHw=", SIGNATURE_MISMATCH},
	{"a comma between signatures", P1_ID, P1_T, "v1,AAAA,v1," P1_BASE64, SIGNATURE_MISMATCH},
};

static void
test_polar_headers(void)
{
	const PolarVector *v = &polar_vectors[0];
	char longer[200];

	for (int i = 0; i < COUNT(polar_headers); i++)
		is(polar_at(polar_headers[i].id, polar_headers[i].timestamp, polar_headers[i].signature,
					v->body, v->secret, v->t + 5),
		   polar_headers[i].wanted, named("polar", polar_headers[i].name));

	snprintf(longer, sizeof(longer), "%s ", v->body);
	is(polar_at(P1_ID, P1_T, v->signature, longer, v->secret, v->t + 5), SIGNATURE_MISMATCH,
	   "polar: body and one space");
	is(polar_at(P1_ID, P1_T, v->signature, v->body, "ExampleSecret0123456789ABCDEFabcdef",
				v->t + 5),
	   SIGNATURE_MISMATCH, "polar: secret without polar_whs_");
	is(polar_at(P1_ID, P1_T, v->signature, v->body, "", v->t + 5), SIGNATURE_NO_SECRET,
	   "polar: empty secret");
	is(polar_at(P1_ID, P1_T, v->signature, v->body, v->secret, v->t + 300), SIGNATURE_OK,
	   "polar: 300 s old passes");
	is(polar_at(P1_ID, P1_T, v->signature, v->body, v->secret, v->t + 301), SIGNATURE_TOO_OLD,
	   "polar: 301 s old is too old");
	is(polar_at(P1_ID, P1_T, v->signature, v->body, v->secret, v->t - 300), SIGNATURE_OK,
	   "polar: 300 s ahead passes");
	is(polar_at(P1_ID, P1_T, v->signature, v->body, v->secret, v->t - 301), SIGNATURE_TOO_NEW,
	   "polar: 301 s ahead is too new");
	is(polar_at("msg_x", P1_T, v->signature, v->body, v->secret, v->t + 301), SIGNATURE_MISMATCH,
	   "polar: wrong and old is wrong");
}

/* P3 is signed with the decoded key: the bytes of the secret's text do not make it. */
static void
test_polar_keys(void)
{
	const PolarVector *v = &polar_vectors[2];
	const PolarVector *text_key = &polar_vectors[1];
	const SignatureStandardHeaders headers = {
		v->id, strlen(v->id), P1_T, strlen(P1_T), v->signature, strlen(v->signature),
	};
	SignatureSecret secrets[2];
	uint8_t mac[CRYPTO_SHA256_SIZE];
	char base64[CRYPTO_BASE64_SIZE(CRYPTO_SHA256_SIZE)];
	CryptoPart parts[] = {
		{v->id, strlen(v->id)},
		{"." P1_T ".", strlen(P1_T) + 2},
		{v->body, strlen(v->body)},
	};

	ok(crypto_hmac_sha256(v->secret, strlen(v->secret), parts, 3, mac) &&
		   crypto_base64_encode(mac, sizeof(mac), base64) &&
		   strcmp(base64, v->signature + 3) != 0 && strcmp(base64, text_key->signature + 3) == 0,
	   "polar: key (a) alone makes the signature of P2 and not that of P3");
	is(polar_at(v->id, P1_T, v->signature, v->body, v->secret + strlen("whsec_"), v->t),
	   SIGNATURE_MISMATCH, "polar: without whsec_ the secret is not decoded");
	is(polar_at(v->id, P1_T, v->signature, v->body, "whsec_", v->t), SIGNATURE_MISMATCH,
	   "polar: nothing behind whsec_ is no key");
	is(polar_at(v->id, P1_T, v->signature, v->body, "whsec_!!!!", v->t), SIGNATURE_MISMATCH,
	   "polar: what does not decode is no key");

	secrets[0] = secret_of("polar_whs_another");
	secrets[1] = secret_of(v->secret);
	is(signature_verify_standard(&headers, v->body, strlen(v->body), secrets, 2, v->t, 300, 300,
								 &matched),
	   SIGNATURE_OK, "polar: the second secret is tried");
	ok(matched == 1, "polar: the secret that matches is named");
}

/* ---- Conekta ---- */

static SignatureResult
conekta(const char *digest, const char *body, const char *key)
{
	SignatureSecret ways[3] = {secret_of(key), ready(secret_of(key))};
	SignatureResult results[3];

	ways[2] = ways[1];
	for (int i = 0; i < 3; i++)
		results[i] = signature_verify_digest(digest, strlen(digest), body, strlen(body), &ways[i],
											 1, &matched);
	drop(ways[1]);
	return agreed(results);
}

static void
test_conekta_vectors(void)
{
	const char *c1_body = conekta_vectors[0].body;

	for (int i = 0; i < COUNT(conekta_vectors); i++)
	{
		const ConektaVector *v = &conekta_vectors[i];
		bool refused = v->body == NULL;

		is(conekta(v->digest, refused ? c1_body : v->body, conekta_public_key),
		   refused ? SIGNATURE_MISMATCH : SIGNATURE_OK, v->name);
	}
}

static void
test_conekta_digests(void)
{
	const ConektaVector *v = &conekta_vectors[0];
	const char *key = conekta_public_key;
	char text[1000];
	uint8_t hash[CRYPTO_SHA256_SIZE];
	char hex[CRYPTO_HEX_SIZE(CRYPTO_SHA256_SIZE)];

	snprintf(text, sizeof(text), "%s\n", v->body);
	is(conekta(v->digest, text, key), SIGNATURE_MISMATCH, "conekta: body and a newline");
	snprintf(text, sizeof(text), "%.*s", (int) strlen(v->digest) - 4, v->digest);
	is(conekta(text, v->body, key), SIGNATURE_MISMATCH, "conekta: digest cut by 4");
	snprintf(text, sizeof(text), "%.*s", (int) strlen(v->digest) - 2, v->digest);
	is(conekta(text, v->body, key), SIGNATURE_MALFORMED, "conekta: digest without its padding");
	is(conekta("", v->body, key), SIGNATURE_MISSING, "conekta: empty digest");
	is(conekta("  ", v->body, key), SIGNATURE_MALFORMED, "conekta: blank digest");
	is(conekta(conekta_vectors[1].digest, v->body, key), SIGNATURE_MISMATCH,
	   "conekta: digest of C2 on the body of C1");

	crypto_sha256(v->body, strlen(v->body), hash);
	crypto_hex_encode(hash, sizeof(hash), hex);
	is(conekta(hex, v->body, key), SIGNATURE_MISMATCH, "conekta: hex SHA-256 of the body");
	crypto_base64_encode(hash, sizeof(hash), text);
	is(conekta(text, v->body, key), SIGNATURE_MISMATCH, "conekta: base64 SHA-256 of the body");

	snprintf(text, sizeof(text), "%s", v->digest);
	for (char *c = text; *c != '\0'; c++)
		*c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
	is(conekta(text, v->body, key), SIGNATURE_MALFORMED, "conekta: URL-safe base64");
	snprintf(text, sizeof(text), " \tSHA-256=%s\r\n", v->digest);
	is(conekta(text, v->body, key), SIGNATURE_OK, "conekta: sha-256= and blanks around it");
	snprintf(text, sizeof(text), "sha256= %s", v->digest);
	is(conekta(text, v->body, key), SIGNATURE_OK, "conekta: sha256=");
	snprintf(text, sizeof(text), "sha1=%s", v->digest);
	is(conekta(text, v->body, key), SIGNATURE_MALFORMED, "conekta: sha1=");
	snprintf(text, sizeof(text), "%.64s %s", v->digest, v->digest + 64);
	is(conekta(text, v->body, key), SIGNATURE_MALFORMED, "conekta: a blank inside the digest");
}

/* Copies the key with each line break replaced. */
static const char *
key_with(const char *newline)
{
	static char copy[2000];
	size_t length = 0;

	for (const char *c = conekta_public_key; *c != '\0'; c++)
	{
		if (*c == '\n')
			length += snprintf(copy + length, sizeof(copy) - length, "%s", newline);
		else
			copy[length++] = *c;
	}
	copy[length] = '\0';
	return copy;
}

static void
test_conekta_keys(void)
{
	const ConektaVector *v = &conekta_vectors[0];
	SignatureSecret keys[4];
	char text[2000];

	is(conekta(v->digest, v->body, key_with(" ")), SIGNATURE_OK,
	   "conekta: key on one line with blanks");
	is(conekta(v->digest, v->body, key_with("")), SIGNATURE_OK, "conekta: key on one line");
	is(conekta(v->digest, v->body, key_with("\\n")), SIGNATURE_OK, "conekta: key with literal \\n");
	is(conekta(v->digest, v->body, key_with("\\r\\n")), SIGNATURE_OK,
	   "conekta: key with literal \\r\\n");
	is(conekta(v->digest, v->body, key_with("\r\n")), SIGNATURE_OK, "conekta: key with CR LF");
	snprintf(text, sizeof(text), "\n  \"%s\"  \n", key_with("\\n"));
	is(conekta(v->digest, v->body, text), SIGNATURE_OK, "conekta: key in quotes");

	is(conekta(v->digest, v->body, ""), SIGNATURE_NO_SECRET, "conekta: no key");
	is(conekta(v->digest, v->body, "key_abc"), SIGNATURE_NO_SECRET,
	   "conekta: an API key is no public key");
	is(conekta(v->digest, v->body, "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----"),
	   SIGNATURE_NO_SECRET, "conekta: armour without a key");
	is(conekta(v->digest, v->body, "-----BEGIN PUBLIC KEY-----\nMIIB"), SIGNATURE_NO_SECRET,
	   "conekta: key cut off");
	snprintf(text, sizeof(text), "%s", conekta_public_key);
	text[100] = '*';
	is(conekta(v->digest, v->body, text), SIGNATURE_NO_SECRET,
	   "conekta: a damaged key is not repaired");

	keys[0] = secret_of("   ");
	keys[1] = secret_of("not a key");
	keys[2] = secret_of(conekta_public_key);
	keys[3] = secret_of(conekta_public_key);
	is(signature_verify_digest(v->digest, strlen(v->digest), v->body, strlen(v->body), keys, 4,
							   &matched),
	   SIGNATURE_OK, "conekta: any active key that verifies is enough");
	ok(matched == 2, "conekta: the key that verifies is named");
}

static const char another_public_key[] =
	"-----BEGIN PUBLIC KEY-----\n"
	"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAy8zVXpFXxsVWH7P0EdFn\n"
	"gVqAML6GU0/cVMv8CcnmiWAWJjQ6PJAh7AxKL5RrRzkF+gWoYFAFuTaYHNs4Vpw1\n"
	"K4PzUy392P+Z6CpP0on2dQc+2GlfRazDyd5+erEcZ8gjsLTvScogfN0nz/SXNc2U\n"
	"3ReRwhNkc9eOC24+aYMNH4BiCdC3gyp6IgQkL4b4sj66JksHjklBezyHSJrQhgW+\n"
	"6YUdhVF8y9vorF415yrTypeKfYa/owt2dyOwn5WdH+gScVunTIP993F5zEbMpRWK\n"
	"2SSRFGC0/XDerSKL2H5elnRQMJGjtdMjwU7SSRSBVOvGwRly9xmaCaglnGfrFWu6\n"
	"lQIDAQAB\n"
	"-----END PUBLIC KEY-----\n";

/* As they are told where a company has several active keys. */
static void
test_conekta_several_keys(void)
{
	const ConektaVector *v = &conekta_vectors[0];
	char text[8192];

	snprintf(text, sizeof(text), "%s\n%s", another_public_key, conekta_public_key);
	is(conekta(v->digest, v->body, text), SIGNATURE_OK, "conekta: the second key of a secret");
	snprintf(text, sizeof(text), "%s%s", conekta_public_key, another_public_key);
	is(conekta(v->digest, v->body, text), SIGNATURE_OK, "conekta: the first key of a secret");
	is(conekta(v->digest, v->body, another_public_key), SIGNATURE_MISMATCH,
	   "conekta: a key that did not sign");
	snprintf(text, sizeof(text), "%s\\n%s", another_public_key, conekta_public_key);
	is(conekta(v->digest, v->body, text), SIGNATURE_OK,
	   "conekta: keys with a literal \\n between them");
	text[100] = '*';
	is(conekta(v->digest, v->body, text), SIGNATURE_OK,
	   "conekta: a damaged key takes nothing from the one behind it");
}

static void
test_reasons(void)
{
	bool distinct = true;

	for (int i = SIGNATURE_OK; i <= SIGNATURE_UNAVAILABLE; i++)
	{
		for (int j = SIGNATURE_OK; j < i; j++)
			distinct = distinct && strcmp(signature_reason(i), signature_reason(j)) != 0;
	}
	ok(distinct, "every result has a reason of its own");
}

int
main(void)
{
	test_stripe_vectors();
	test_stripe_body_and_secret();
	test_stripe_time();
	test_stripe_rotation();
	test_stripe_signing();
	test_polar_vectors();
	test_polar_headers();
	test_polar_keys();
	test_conekta_vectors();
	test_conekta_digests();
	test_conekta_keys();
	test_conekta_several_keys();
	test_reasons();
	return done_testing();
}

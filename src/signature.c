/*
 * signature.c
 *		Verification of the providers' webhook signatures.
 *
 * A webhook is the only thing that a stranger can send into the billing
 * tables, so this file reads its headers strictly: what is not exactly the
 * provider's format is refused, and nothing is repaired except the layout of a
 * PEM key, which people paste.  Called by the webhook adapters of the providers
 * and by the sandbox, which signs its own events; calls crypto.c only.
 *
 * Secrets are tried in order and every comparison of a signature takes constant
 * time; which of several secrets matched is not a secret.
 */
#include "signature.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto.h"

/* enough for an RSA signature of 16384 bits, OpenSSL's own limit */
#define RSA_SIGNATURE_MAXIMUM 2048

/* enough for a public key of 16384 bits with its armour */
#define PEM_MAXIMUM 4096

/* public keys in one secret: a company has several only while it changes them */
#define RSA_KEYS_MAXIMUM 8

/* the decoded form of a whsec_ secret; the scheme allows 24 to 64 bytes */
#define STANDARD_KEY_MAXIMUM 512

/* digits in a timestamp: keeps every value inside int64 */
#define TIMESTAMP_DIGITS 18

#define HEX_LENGTH    (2 * CRYPTO_SHA256_SIZE)
#define BASE64_LENGTH (CRYPTO_BASE64_SIZE(CRYPTO_SHA256_SIZE) - 1)

/* A view into a header; never owns its bytes. */
typedef struct Slice
{
	const char *text;
	size_t length;
} Slice;

/* How far a timestamp may be from the clock; see the header file. */
typedef struct Tolerance
{
	int64_t now;
	int past;
	int future;
} Tolerance;

static bool
is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static Slice
trim(const char *text, size_t length)
{
	Slice slice = {text, length};

	while (slice.length > 0 && is_blank(slice.text[0]))
	{
		slice.text++;
		slice.length--;
	}
	while (slice.length > 0 && is_blank(slice.text[slice.length - 1]))
		slice.length--;
	return slice;
}

static bool
is_blank_text(const char *text, size_t length)
{
	return text == NULL || trim(text, length).length == 0;
}

static bool
is_usable(const SignatureSecret *secret)
{
	return secret->key != NULL || !is_blank_text(secret->text, secret->length);
}

static bool
any_usable(const SignatureSecret *secrets, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (is_usable(&secrets[i]))
			return true;
	}
	return false;
}

static bool
is_absent(const char *text, size_t length)
{
	return text == NULL || length == 0;
}

static bool
begins_with(Slice slice, const char *prefix)
{
	size_t length = strlen(prefix);

	return slice.length >= length && memcmp(slice.text, prefix, length) == 0;
}

/* Cuts the text before the next separator off *rest; false when none is left. */
static bool
next_part(Slice *rest, char separator, Slice *part)
{
	const char *end;

	if (rest->text == NULL)
		return false;
	*part = *rest;
	end = rest->length > 0 ? memchr(rest->text, separator, rest->length) : NULL;
	if (end == NULL)
	{
		rest->text = NULL;
		return true;
	}
	part->length = end - rest->text;
	rest->text = end + 1;
	rest->length -= part->length + 1;
	return true;
}

/*
 * Digits only: no sign, no blanks, nothing after the number.  The signed bytes
 * use the header's own spelling, so there is nothing to canonicalise.
 */
static bool
parse_timestamp(Slice text, int64_t *t)
{
	int64_t value = 0;

	if (text.length == 0 || text.length > TIMESTAMP_DIGITS)
		return false;
	for (size_t i = 0; i < text.length; i++)
	{
		if (text.text[i] < '0' || text.text[i] > '9')
			return false;
		value = value * 10 + (text.text[i] - '0');
	}
	*t = value;
	return true;
}

/* Called only for a signature that is right. */
static SignatureResult
judge_time(int64_t t, const Tolerance *tolerance)
{
	/* unsigned differences cannot overflow, whatever clock the caller brings */
	if (t > tolerance->now)
	{
		uint64_t ahead = (uint64_t) t - (uint64_t) tolerance->now;

		if (tolerance->future >= 0 && ahead > (uint64_t) tolerance->future)
			return SIGNATURE_TOO_NEW;
	}
	else
	{
		uint64_t behind = (uint64_t) tolerance->now - (uint64_t) t;

		if (tolerance->past >= 0 && behind > (uint64_t) tolerance->past)
			return SIGNATURE_TOO_OLD;
	}
	return SIGNATURE_OK;
}

static void
tell_matched(int *matched, int index)
{
	if (matched != NULL)
		*matched = index;
}

/* ---- secrets made ready ---- */

static const char *
find(Slice text, const char *wanted)
{
	size_t length = strlen(wanted);

	for (size_t i = 0; length <= text.length && i <= text.length - length; i++)
	{
		if (memcmp(text.text + i, wanted, length) == 0)
			return text.text + i;
	}
	return NULL;
}

/*
 * The base64 between the armour lines of a PEM key, however it was pasted, as
 * one line, which OpenSSL reads at any length.  Everything that is not a blank
 * or a literal \n or \r is kept, so that a damaged key is refused by the parser
 * and not repaired into another one.
 */
static bool
append_key(Slice inside, char *pem, size_t size, size_t *used)
{
	size_t before = *used;

	for (size_t i = 0; i < inside.length; i++)
	{
		char c = inside.text[i];

		if (is_blank(c))
			continue;
		if (c == '\\' && i + 1 < inside.length &&
			(inside.text[i + 1] == 'n' || inside.text[i + 1] == 'r'))
		{
			i++;
			continue;
		}
		if (*used == size)
			return false;
		pem[(*used)++] = c;
	}
	return *used > before;
}

/*
 * Panels and .env files hand the key out on one line or with literal "\n".
 * The text goes on behind it.
 */
static bool
normalise_pem(Slice *text, char pem[PEM_MAXIMUM], size_t *length)
{
	static const char begin[] = "-----BEGIN PUBLIC KEY-----";
	static const char end[] = "-----END PUBLIC KEY-----";
	Slice inside;
	const char *start = find(*text, begin);
	const char *stop;
	size_t used;

	if (start == NULL)
		return false;
	inside.text = start + strlen(begin);
	inside.length = text->length - (inside.text - text->text);
	stop = find(inside, end);
	if (stop == NULL)
		return false;
	text->length -= stop + strlen(end) - text->text;
	text->text = stop + strlen(end);
	inside.length = stop - inside.text;

	used = snprintf(pem, PEM_MAXIMUM, "%s\n", begin);
	if (!append_key(inside, pem, PEM_MAXIMUM - sizeof(end) - 2, &used))
		return false;
	used += snprintf(pem + used, PEM_MAXIMUM - used, "\n%s\n", end);
	*length = used;
	return true;
}

/*
 * A text does not say for which scheme it is, so it is made ready for each one
 * that it can serve.  What it cannot serve is NULL.
 */
struct SignatureKey
{
	CryptoHmacKey *whole;                /* the bytes of the text */
	CryptoHmacKey *decoded;              /* what follows "whsec_", as base64 */
	CryptoRsaKey *rsa[RSA_KEYS_MAXIMUM]; /* the public keys in PEM, one after the other */
	int rsa_count;
};

/* The part after "whsec_" as a key of Standard Webhooks; false: the library failed. */
static bool
make_decoded(Slice text, SignatureKey *made)
{
	static const char prefix[] = "whsec_";
	const size_t skip = sizeof(prefix) - 1;
	uint8_t key[CRYPTO_BASE64_DECODED_SIZE(STANDARD_KEY_MAXIMUM)];
	size_t length;

	if (!begins_with(text, prefix) || text.length - skip > STANDARD_KEY_MAXIMUM ||
		!crypto_base64_decode_forgiving(text.text + skip, text.length - skip, key, &length) ||
		length == 0)
		return true;
	made->decoded = crypto_hmac_key_new(key, length);
	crypto_wipe(key, sizeof(key));
	return made->decoded != NULL;
}

/* A key that is damaged is left out; false: the library failed. */
static bool
make_rsa(Slice text, SignatureKey *made)
{
	char pem[PEM_MAXIMUM];
	size_t length;

	while (made->rsa_count < RSA_KEYS_MAXIMUM && normalise_pem(&text, pem, &length))
	{
		CryptoRsaKey *key = NULL;

		if (crypto_rsa_key_new(pem, length, &key) == CRYPTO_FAILED)
			return false;
		if (key != NULL)
			made->rsa[made->rsa_count++] = key;
	}
	return true;
}

SignatureKey *
signature_key_new(const char *text, size_t length)
{
	Slice whole = {text, length};
	SignatureKey *made;

	if (is_blank_text(text, length))
		return NULL;
	made = calloc(1, sizeof(*made));
	if (made == NULL)
		return NULL;
	made->whole = crypto_hmac_key_new(text, length);
	if (made->whole != NULL && make_decoded(whole, made) && make_rsa(whole, made))
		return made;
	signature_key_free(made);
	return NULL;
}

void
signature_key_free(SignatureKey *key)
{
	if (key == NULL)
		return;
	crypto_hmac_key_free(key->whole);
	crypto_hmac_key_free(key->decoded);
	for (int i = 0; i < key->rsa_count; i++)
		crypto_rsa_key_free(key->rsa[i]);
	free(key);
}

/*
 * The key to use for a usable secret: the one that came with it, else one for
 * this call, in *own.  NULL: the library failed.
 */
static const SignatureKey *
borrow_key(const SignatureSecret *secret, SignatureKey **own)
{
	*own = NULL;
	if (secret->key != NULL)
		return secret->key;
	*own = signature_key_new(secret->text, secret->length);
	return *own;
}

/* ---- Stripe ---- */

/* The text after "name=" in a part, which Stripe splits at its first "=". */
static bool
timestamped_value(Slice part, const char *name, Slice *value)
{
	size_t length = strlen(name);

	if (part.length <= length || memcmp(part.text, name, length) != 0 || part.text[length] != '=')
		return false;
	value->text = part.text + length + 1;
	value->length = part.length - length - 1;
	return true;
}

/* The last t counts; false without a t or without any v1. */
static bool
read_timestamped_header(Slice header, Slice *timestamp)
{
	Slice part;
	Slice value;
	bool has_signature = false;

	timestamp->text = NULL;
	timestamp->length = 0;
	while (next_part(&header, ',', &part))
	{
		if (timestamped_value(part, "t", &value))
			*timestamp = value;
		else if (timestamped_value(part, "v1", &value))
			has_signature = true;
	}
	return has_signature && timestamp->length > 0;
}

static bool
timestamped_hmac(const CryptoHmacKey *key, Slice timestamp, const void *body, size_t body_length,
				 char hex[HEX_LENGTH + 1])
{
	uint8_t mac[CRYPTO_SHA256_SIZE];
	CryptoPart parts[] = {
		{timestamp.text, timestamp.length},
		{".", 1},
		{body, body_length},
	};

	if (!crypto_hmac_key_sign(key, parts, 3, mac))
		return false;
	crypto_hex_encode(mac, sizeof(mac), hex);
	return true;
}

static bool
timestamped_header_has(Slice header, const char *hex)
{
	Slice part;
	Slice value;

	while (next_part(&header, ',', &part))
	{
		if (timestamped_value(part, "v1", &value) && value.length == HEX_LENGTH &&
			crypto_equal(value.text, hex, HEX_LENGTH))
			return true;
	}
	return false;
}

/* Is one of the signatures the HMAC under this secret? */
static SignatureResult
timestamped_try_secret(const SignatureSecret *secret, Slice header, Slice timestamp,
					   const void *body, size_t body_length)
{
	char hex[HEX_LENGTH + 1];
	SignatureKey *own;
	const SignatureKey *key = borrow_key(secret, &own);
	SignatureResult result = SIGNATURE_UNAVAILABLE;

	if (key != NULL && timestamped_hmac(key->whole, timestamp, body, body_length, hex))
		result = timestamped_header_has(header, hex) ? SIGNATURE_OK : SIGNATURE_MISMATCH;
	signature_key_free(own);
	return result;
}

SignatureResult
signature_verify_timestamped(const char *header, size_t header_length, const void *body,
							 size_t body_length, const SignatureSecret *secrets, int count,
							 int64_t now, int tolerance_past, int tolerance_future, int *matched)
{
	Slice whole = {header, header_length};
	Tolerance tolerance = {now, tolerance_past, tolerance_future};
	Slice timestamp;
	int64_t t;

	tell_matched(matched, -1);
	if (!any_usable(secrets, count))
		return SIGNATURE_NO_SECRET;
	if (is_absent(header, header_length))
		return SIGNATURE_MISSING;
	if (!read_timestamped_header(whole, &timestamp) || !parse_timestamp(timestamp, &t))
		return SIGNATURE_MALFORMED;

	for (int i = 0; i < count; i++)
	{
		SignatureResult result;

		if (!is_usable(&secrets[i]))
			continue;
		result = timestamped_try_secret(&secrets[i], whole, timestamp, body, body_length);
		if (result == SIGNATURE_OK)
		{
			tell_matched(matched, i);
			return judge_time(t, &tolerance);
		}
		if (result != SIGNATURE_MISMATCH)
			return result;
	}
	return SIGNATURE_MISMATCH;
}

bool
signature_sign_timestamped(const SignatureSecret *secret, int64_t t, const void *body,
						   size_t body_length, char out[SIGNATURE_TIMESTAMPED_SIZE])
{
	char digits[24];
	char hex[HEX_LENGTH + 1];
	Slice timestamp;
	SignatureKey *own;
	const SignatureKey *key;
	bool done;

	out[0] = '\0';
	if (t < 0 || !is_usable(secret))
		return false;
	timestamp.text = digits;
	timestamp.length = snprintf(digits, sizeof(digits), "%" PRId64, t);
	key = borrow_key(secret, &own);
	done = key != NULL && timestamped_hmac(key->whole, timestamp, body, body_length, hex);
	signature_key_free(own);
	if (done)
		snprintf(out, SIGNATURE_TIMESTAMPED_SIZE, "t=%s,v1=%s", digits, hex);
	return done;
}

/* ---- Standard Webhooks (Polar) ---- */

static bool
standard_has_v1(Slice signatures)
{
	Slice part;

	while (next_part(&signatures, ' ', &part))
	{
		if (begins_with(part, "v1,"))
			return true;
	}
	return false;
}

/* Compared as text: the one spelling that the sender's encoder makes. */
static bool
standard_signatures_have(Slice signatures, const char *base64)
{
	Slice part;

	while (next_part(&signatures, ' ', &part))
	{
		if (begins_with(part, "v1,") && part.length == BASE64_LENGTH + 3 &&
			crypto_equal(part.text + 3, base64, BASE64_LENGTH))
			return true;
	}
	return false;
}

/* Is one of the signatures the HMAC under this key? */
static SignatureResult
standard_try_key(const CryptoHmacKey *key, const SignatureStandardHeaders *headers,
				 const void *body, size_t body_length)
{
	Slice signatures = {headers->signatures, headers->signatures_length};
	uint8_t mac[CRYPTO_SHA256_SIZE];
	char base64[BASE64_LENGTH + 1];
	CryptoPart parts[] = {
		{headers->id, headers->id_length},
		{".", 1},
		{headers->timestamp, headers->timestamp_length},
		{".", 1},
		{body, body_length},
	};

	if (!crypto_hmac_key_sign(key, parts, 5, mac) ||
		!crypto_base64_encode(mac, sizeof(mac), base64))
		return SIGNATURE_UNAVAILABLE;
	return standard_signatures_have(signatures, base64) ? SIGNATURE_OK : SIGNATURE_MISMATCH;
}

/*
 * Polar's server signs with the bytes of the whole secret, the reference
 * library of Standard Webhooks with the decoded part after "whsec_".  Polar's
 * own SDK accepts both, and so must we, or a fix on their side stops us.
 */
static SignatureResult
standard_try_secret(const SignatureSecret *secret, const SignatureStandardHeaders *headers,
					const void *body, size_t body_length)
{
	SignatureKey *own;
	const SignatureKey *key = borrow_key(secret, &own);
	SignatureResult result = SIGNATURE_UNAVAILABLE;

	if (key != NULL)
		result = standard_try_key(key->whole, headers, body, body_length);
	if (result == SIGNATURE_MISMATCH && key->decoded != NULL)
		result = standard_try_key(key->decoded, headers, body, body_length);
	signature_key_free(own);
	return result;
}

SignatureResult
signature_verify_standard(const SignatureStandardHeaders *headers, const void *body,
						  size_t body_length, const SignatureSecret *secrets, int count,
						  int64_t now, int tolerance_past, int tolerance_future, int *matched)
{
	Slice timestamp = {headers->timestamp, headers->timestamp_length};
	Slice signatures = {headers->signatures, headers->signatures_length};
	Tolerance tolerance = {now, tolerance_past, tolerance_future};
	int64_t t;

	tell_matched(matched, -1);
	if (!any_usable(secrets, count))
		return SIGNATURE_NO_SECRET;
	if (is_absent(headers->id, headers->id_length) || is_absent(timestamp.text, timestamp.length) ||
		is_absent(signatures.text, signatures.length))
		return SIGNATURE_MISSING;
	if (!parse_timestamp(timestamp, &t) || !standard_has_v1(signatures))
		return SIGNATURE_MALFORMED;

	for (int i = 0; i < count; i++)
	{
		SignatureResult result;

		if (!is_usable(&secrets[i]))
			continue;
		result = standard_try_secret(&secrets[i], headers, body, body_length);
		if (result == SIGNATURE_OK)
		{
			tell_matched(matched, i);
			return judge_time(t, &tolerance);
		}
		if (result != SIGNATURE_MISMATCH)
			return result;
	}
	return SIGNATURE_MISMATCH;
}

/* ---- Conekta ---- */

static bool
equal_ignoring_case(const char *text, const char *lower, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		char c = text[i];

		if (c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		if (c != lower[i])
			return false;
	}
	return true;
}

/* Merchants report both spellings; neither changes what is signed. */
static Slice
without_algorithm(Slice digest)
{
	static const char *const names[] = {"sha-256=", "sha256="};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		size_t length = strlen(names[i]);

		if (digest.length >= length && equal_ignoring_case(digest.text, names[i], length))
			return trim(digest.text + length, digest.length - length);
	}
	return digest;
}

static CryptoVerdict
digest_try_secret(const SignatureSecret *secret, const void *body, size_t body_length,
				  const uint8_t *signature, size_t signature_length)
{
	CryptoPart part = {body, body_length};
	SignatureKey *own;
	const SignatureKey *key = borrow_key(secret, &own);
	CryptoVerdict verdict = key == NULL ? CRYPTO_FAILED : CRYPTO_BAD_KEY;

	for (int i = 0; key != NULL && i < key->rsa_count && verdict != CRYPTO_VERIFIED &&
					verdict != CRYPTO_FAILED;
		 i++)
		verdict = crypto_rsa_key_verify(key->rsa[i], &part, 1, signature, signature_length);
	signature_key_free(own);
	return verdict;
}

SignatureResult
signature_verify_digest(const char *digest, size_t digest_length, const void *body,
						size_t body_length, const SignatureSecret *keys, int count, int *matched)
{
	uint8_t signature[CRYPTO_BASE64_DECODED_SIZE(RSA_SIGNATURE_MAXIMUM / 3 * 4 + 4)];
	size_t signature_length;
	Slice text;
	SignatureResult result = SIGNATURE_NO_SECRET;

	tell_matched(matched, -1);
	if (!any_usable(keys, count))
		return SIGNATURE_NO_SECRET;
	if (is_absent(digest, digest_length))
		return SIGNATURE_MISSING;

	text = without_algorithm(trim(digest, digest_length));
	if (CRYPTO_BASE64_DECODED_SIZE(text.length) > sizeof(signature) ||
		!crypto_base64_decode(text.text, text.length, signature, &signature_length) ||
		signature_length == 0)
		return SIGNATURE_MALFORMED;

	for (int i = 0; i < count; i++)
	{
		if (!is_usable(&keys[i]))
			continue;
		switch (digest_try_secret(&keys[i], body, body_length, signature, signature_length))
		{
			case CRYPTO_VERIFIED:
				tell_matched(matched, i);
				return SIGNATURE_OK;
			case CRYPTO_NOT_VERIFIED:
				result = SIGNATURE_MISMATCH;
				break;
			case CRYPTO_BAD_KEY:
				break; /* another key may still be readable */
			case CRYPTO_FAILED:
				return SIGNATURE_UNAVAILABLE;
		}
	}
	return result;
}

const char *
signature_reason(SignatureResult result)
{
	switch (result)
	{
		case SIGNATURE_OK:
			return "signature is right";
		case SIGNATURE_MISSING:
			return "signature header is missing";
		case SIGNATURE_MALFORMED:
			return "signature header cannot be read";
		case SIGNATURE_MISMATCH:
			return "signature does not match the payload";
		case SIGNATURE_TOO_OLD:
			return "timestamp of the signature is too old";
		case SIGNATURE_TOO_NEW:
			return "timestamp of the signature is too far in the future";
		case SIGNATURE_NO_SECRET:
			return "no usable webhook secret is configured";
		case SIGNATURE_UNAVAILABLE:
			return "signature could not be computed";
	}
	return "unknown signature result";
}

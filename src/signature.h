/*
 * signature.h
 *		Are these bytes a webhook of the provider that holds this secret?
 *
 * The three webhook schemes, byte by byte: Stripe (timestamped HMAC), Standard
 * Webhooks (Polar) and Conekta (RSA).  Pure: values in, a verdict out; the
 * caller brings the clock and the secrets and stores nothing here.  Headers
 * are values without their names; a NULL or empty value means that the
 * header was not sent.
 *
 * Times are unix seconds UTC, tolerances seconds; a difference equal to the
 * tolerance passes.  The time is told only when a signature is right: a wrong
 * signature is SIGNATURE_MISMATCH whatever its timestamp says.
 */
#ifndef JANUA_BILLING_SIGNATURE_H
#define JANUA_BILLING_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* the providers' own default, in seconds */
#define SIGNATURE_TOLERANCE 300

/* as a tolerance: no limit on this side */
#define SIGNATURE_NO_LIMIT (-1)

/* the longest "t=...,v1=..." that signature_sign_timestamped writes, with its NUL */
#define SIGNATURE_TIMESTAMPED_SIZE 96

typedef enum SignatureResult
{
	SIGNATURE_OK,
	SIGNATURE_MISSING,    /* no signature header */
	SIGNATURE_MALFORMED,  /* header cannot be read, or has no known scheme */
	SIGNATURE_MISMATCH,   /* wrong secret, or the body was changed */
	SIGNATURE_TOO_OLD,    /* right signature, timestamp too far back */
	SIGNATURE_TOO_NEW,    /* right signature, timestamp too far ahead */
	SIGNATURE_NO_SECRET,  /* no secret, or only blank or unreadable ones */
	SIGNATURE_UNAVAILABLE /* the cryptographic library failed: try again */
} SignatureResult;

/* A secret made ready for every scheme that it can serve; see below. */
typedef struct SignatureKey SignatureKey;

/*
 * A webhook secret as the provider shows it, prefix included; for Conekta
 * public keys in PEM, all that are active, one after the other.  Several are
 * tried in order while a secret is rotated; empty and blank ones are skipped,
 * because they would verify anything.
 */
typedef struct SignatureSecret
{
	const char *text;
	size_t length;           /* bytes */
	const SignatureKey *key; /* what was made of the text, which then may be gone; or NULL */
} SignatureSecret;

/* The three headers of Standard Webhooks. */
typedef struct SignatureStandardHeaders
{
	const char *id; /* webhook-id */
	size_t id_length;
	const char *timestamp; /* webhook-timestamp */
	size_t timestamp_length;
	const char *signatures; /* webhook-signature */
	size_t signatures_length;
} SignatureStandardHeaders;

/*
 * Makes a secret ready: who verifies many webhooks with it does that once and
 * puts the result into SignatureSecret.key.  It keeps no text.  NULL for a
 * blank secret, and when the library fails.
 */
extern SignatureKey *signature_key_new(const char *text, size_t length);
extern void signature_key_free(SignatureKey *key); /* wipes it; NULL is fine */

/*
 * Stripe-Signature: t=<unix>,v1=<hex>[,v1=<hex>...].  Any v1 under any secret
 * is enough.  *matched becomes the index of the secret that verified (also for
 * TOO_OLD and TOO_NEW), else -1; matched may be NULL.
 */
extern SignatureResult signature_verify_timestamped(const char *header, size_t header_length,
													const void *body, size_t body_length,
													const SignatureSecret *secrets, int count,
													int64_t now, int tolerance_past,
													int tolerance_future, int *matched);

/*
 * Standard Webhooks as Polar signs them: each secret is tried as the bytes of
 * its text and, when it begins with "whsec_", as the base64 after the prefix.
 */
extern SignatureResult signature_verify_standard(const SignatureStandardHeaders *headers,
												 const void *body, size_t body_length,
												 const SignatureSecret *secrets, int count,
												 int64_t now, int tolerance_past,
												 int tolerance_future, int *matched);

/*
 * Conekta's Digest header: base64 of RSA PKCS#1 v1.5 over SHA-256 of the body.
 * Keys may be PEM with line breaks, on one line, or with literal "\n".  There
 * is no timestamp, so a replay is found only by the event's id.
 */
extern SignatureResult signature_verify_digest(const char *digest, size_t digest_length,
											   const void *body, size_t body_length,
											   const SignatureSecret *keys, int count,
											   int *matched);

/*
 * Writes the Stripe-Signature header for body at time t (unix seconds, not
 * negative); false for a blank secret, a negative t or a failing library.
 */
extern bool signature_sign_timestamped(const SignatureSecret *secret, int64_t t, const void *body,
									   size_t body_length, char out[SIGNATURE_TIMESTAMPED_SIZE]);

/* One lower-case phrase for a log line or an errdetail. */
extern const char *signature_reason(SignatureResult result);

#endif /* JANUA_BILLING_SIGNATURE_H */

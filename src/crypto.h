/*
 * crypto.h
 *		The cryptographic primitives of janua_billing.
 *
 * Everything the extension asks of OpenSSL goes through these functions, so
 * that an upgrade or a replacement of the library concerns one file.  Plain C
 * values in and out: no postgres.h, no SQL.  Buffers belong to the caller and
 * must not overlap; the only memory handed over is that of a key made ready,
 * which lives until it is freed.
 *
 * A function that returns bool returns false when OpenSSL refuses or fails;
 * outputs are then unspecified (never secret), nothing stays allocated and
 * OpenSSL's error queue is empty.  Not thread-safe: a backend has one thread.
 */
#ifndef JANUA_BILLING_CRYPTO_H
#define JANUA_BILLING_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRYPTO_SHA256_SIZE 32
#define CRYPTO_KEY_SIZE    32
#define CRYPTO_NONCE_SIZE  12
#define CRYPTO_TAG_SIZE    16

/* how much longer a sealed value is than its plaintext, in bytes */
#define CRYPTO_SEAL_OVERHEAD (CRYPTO_NONCE_SIZE + CRYPTO_TAG_SIZE)

/* buffer sizes in bytes, with the closing NUL, for n bytes of input */
#define CRYPTO_HEX_SIZE(n)    (2 * (size_t) (n) + 1)
#define CRYPTO_BASE64_SIZE(n) (((size_t) (n) + 2) / 3 * 4 + 1)

/* buffer size in bytes that holds the decoded form of n characters */
#define CRYPTO_BASE64_DECODED_SIZE(n) ((size_t) (n) / 4 * 3 + 3)

/* one piece of a message that lies in several places */
typedef struct CryptoPart
{
	const void *data;
	size_t length; /* bytes; 0 allows data to be NULL */
} CryptoPart;

typedef enum CryptoVerdict
{
	CRYPTO_VERIFIED,
	CRYPTO_NOT_VERIFIED,
	CRYPTO_BAD_KEY, /* no RSA public key of 2048 bits or more */
	CRYPTO_FAILED   /* OpenSSL could not do the work at all */
} CryptoVerdict;

/* Fills out with length bytes fit for keys, nonces and tokens. */
extern bool crypto_random(void *out, size_t length);

/* SHA-256 (FIPS 180-4) of one buffer. */
extern bool crypto_sha256(const void *data, size_t length, uint8_t out[CRYPTO_SHA256_SIZE]);

/*
 * HMAC-SHA256 (RFC 2104) over the parts in order, as if they were one buffer.
 * An empty key is refused: everybody could make such a signature.
 */
extern bool crypto_hmac_sha256(const void *key, size_t key_length, const CryptoPart *parts,
							   int count, uint8_t out[CRYPTO_SHA256_SIZE]);

/*
 * A key of HMAC-SHA256 made ready: for many messages under one key, which then
 * costs no more than their bytes.  It holds what the key became and not the
 * key itself, so that who reads it can sign but has no secret to use elsewhere.
 * NULL for an empty key or when OpenSSL fails.
 */
typedef struct CryptoHmacKey CryptoHmacKey;
extern CryptoHmacKey *crypto_hmac_key_new(const void *key, size_t key_length);
extern bool crypto_hmac_key_sign(const CryptoHmacKey *key, const CryptoPart *parts, int count,
								 uint8_t out[CRYPTO_SHA256_SIZE]);
extern void crypto_hmac_key_free(CryptoHmacKey *key); /* wipes it; NULL is fine */

/*
 * AES-256-GCM with a fresh random nonce.  out takes plain_length +
 * CRYPTO_SEAL_OVERHEAD bytes: nonce, ciphertext, tag.  aad is authenticated
 * and not stored: "table.column" and the row's uuid, so that a value moved to
 * another place does not open.  With random nonces one key may seal at most
 * 2^32 values (NIST SP 800-38D, 8.3): use crypto_derive_key per purpose.
 */
extern bool crypto_seal(const uint8_t key[CRYPTO_KEY_SIZE], const void *aad, size_t aad_length,
						const void *plain, size_t plain_length, uint8_t *out);

/*
 * Opens what crypto_seal made.  out takes sealed_length - CRYPTO_SEAL_OVERHEAD
 * bytes and never holds plaintext when the result is false (wrong key, wrong
 * aad, or a changed byte; these cannot be told apart).
 */
extern bool crypto_open(const uint8_t key[CRYPTO_KEY_SIZE], const void *aad, size_t aad_length,
						const uint8_t *sealed, size_t sealed_length, uint8_t *out);

/*
 * A subkey for one purpose: HKDF-Expand (RFC 5869, 2.3) of key with label as
 * info.  key must already be uniformly random, so there is no extract step.
 */
extern bool crypto_derive_key(const uint8_t key[CRYPTO_KEY_SIZE], const char *label,
							  uint8_t out[CRYPTO_KEY_SIZE]);

/*
 * RSASSA-PKCS1-v1_5 over SHA-256 (RFC 8017, 8.2) of the parts in order.
 * pem is a SubjectPublicKeyInfo in well-formed PEM ("BEGIN PUBLIC KEY").
 */
extern CryptoVerdict crypto_rsa_sha256_verify(const char *pem, size_t pem_length,
											  const CryptoPart *parts, int count,
											  const uint8_t *signature, size_t signature_length);

/*
 * An RSA public key made ready: reading its PEM costs as much as verifying.
 * CRYPTO_VERIFIED and *key, or CRYPTO_BAD_KEY, or CRYPTO_FAILED.
 */
typedef struct CryptoRsaKey CryptoRsaKey;
extern CryptoVerdict crypto_rsa_key_new(const char *pem, size_t pem_length, CryptoRsaKey **key);
extern CryptoVerdict crypto_rsa_key_verify(const CryptoRsaKey *key, const CryptoPart *parts,
										   int count, const uint8_t *signature,
										   size_t signature_length);
extern void crypto_rsa_key_free(CryptoRsaKey *key); /* NULL is fine */

/* Equality in a time that depends on length only. */
extern bool crypto_equal(const void *a, const void *b, size_t length);

/* Overwrites a secret in a way that the compiler cannot leave out. */
extern void crypto_wipe(void *secret, size_t length);

/* Lower-case hex and a NUL; out takes CRYPTO_HEX_SIZE(length) bytes. */
extern void crypto_hex_encode(const void *data, size_t length, char *out);

/* Standard alphabet, padded, one line, NUL; out takes CRYPTO_BASE64_SIZE(length). */
extern bool crypto_base64_encode(const void *data, size_t length, char *out);

/*
 * Strict: standard alphabet, padding required, no blanks, no unused bits set;
 * so one value has exactly one text.  out takes
 * CRYPTO_BASE64_DECODED_SIZE(length) bytes.
 */
extern bool crypto_base64_decode(const char *text, size_t length, uint8_t *out, size_t *out_length);

/*
 * Forgiving, as in the WHATWG Infra standard: ASCII blanks are skipped,
 * padding may be missing, unused bits are ignored.
 */
extern bool crypto_base64_decode_forgiving(const char *text, size_t length, uint8_t *out,
										   size_t *out_length);

#endif /* JANUA_BILLING_CRYPTO_H */

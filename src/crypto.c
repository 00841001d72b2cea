/*
 * crypto.c
 *		The only file that includes OpenSSL.
 *
 * Called by signature.c (webhooks) and by whatever seals or opens a secret
 * column; calls nothing but OpenSSL 3.0 and libc.  Algorithms and contexts are
 * fetched once per process and kept, because a fetch costs several times the
 * HMAC of a webhook.  A kept context remembers its last key until the next
 * call; the process holds that key anyway.  A context that failed is thrown
 * away, so that the next call starts clean.
 */
#include "crypto.h"

#include <limits.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

/* below this an RSA key is no protection (NIST SP 800-131A) */
#define RSA_MINIMUM_BITS 2048

/* what SHA-256 takes at a time, and HMAC as its key (RFC 2104) */
#define HMAC_BLOCK 64

/* OpenSSL's EVP lengths are int; a PostgreSQL field ends at 1 GB anyway */
#define MESSAGE_MAXIMUM ((size_t) INT_MAX / 2)

/* per-process caches, made at first use */
static EVP_MD *sha256 = NULL;
static EVP_MAC_CTX *hmac_context = NULL;
static EVP_MD_CTX *hash_context = NULL;
static EVP_CIPHER *aes_gcm = NULL;
static EVP_CIPHER_CTX *cipher_context = NULL;

static bool
finish(bool done)
{
	/* leave no error behind that a later TLS call could mistake for its own */
	if (!done)
		ERR_clear_error();
	return done;
}

static bool
sha256_ready(void)
{
	if (sha256 == NULL)
		sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	return sha256 != NULL;
}

static bool
hmac_ready(void)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[2];
	EVP_MAC *mac;

	if (hmac_context != NULL)
		return true;

	mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	if (mac == NULL)
		return false;
	hmac_context = EVP_MAC_CTX_new(mac);
	EVP_MAC_free(mac); /* the context holds its own reference */
	if (hmac_context == NULL)
		return false;

	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0);
	params[1] = OSSL_PARAM_construct_end();
	if (EVP_MAC_CTX_set_params(hmac_context, params) == 1)
		return true;

	EVP_MAC_CTX_free(hmac_context);
	hmac_context = NULL;
	return false;
}

static bool
cipher_ready(void)
{
	if (aes_gcm == NULL)
		aes_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	if (aes_gcm != NULL && cipher_context == NULL)
		cipher_context = EVP_CIPHER_CTX_new();
	return cipher_context != NULL;
}

static void
drop_cipher_context(void)
{
	EVP_CIPHER_CTX_free(cipher_context);
	cipher_context = NULL;
}

bool
crypto_random(void *out, size_t length)
{
	if (length > INT_MAX)
		return false;
	return finish(RAND_bytes(out, (int) length) == 1);
}

bool
crypto_sha256(const void *data, size_t length, uint8_t out[CRYPTO_SHA256_SIZE])
{
	return finish(sha256_ready() &&
				  EVP_Digest(length > 0 ? data : "", length, out, NULL, sha256, NULL) == 1);
}

static bool
hmac_update(const CryptoPart *parts, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (parts[i].length > 0 &&
			EVP_MAC_update(hmac_context, parts[i].data, parts[i].length) != 1)
			return false;
	}
	return true;
}

bool
crypto_hmac_sha256(const void *key, size_t key_length, const CryptoPart *parts, int count,
				   uint8_t out[CRYPTO_SHA256_SIZE])
{
	size_t written = 0;

	if (key_length == 0)
		return false;
	if (!hmac_ready())
		return finish(false);

	if (EVP_MAC_init(hmac_context, key, key_length, NULL) == 1 && hmac_update(parts, count) &&
		EVP_MAC_final(hmac_context, out, &written, CRYPTO_SHA256_SIZE) == 1 &&
		written == CRYPTO_SHA256_SIZE)
		return true;

	EVP_MAC_CTX_free(hmac_context);
	hmac_context = NULL;
	return finish(false);
}

/*
 * The two hashes of HMAC (RFC 2104) after their first block, which is the key:
 * every message goes on from copies of them.  In OpenSSL 3.0 this is at least
 * as quick as a keyed EVP_MAC_CTX, which would keep the key beside them.
 */
struct CryptoHmacKey
{
	EVP_MD_CTX *inner;
	EVP_MD_CTX *outer;
};

/* The hash of key XOR pad, as far as that. */
static EVP_MD_CTX *
hash_of_pad(const uint8_t block[HMAC_BLOCK], uint8_t pad)
{
	uint8_t padded[HMAC_BLOCK];
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool done;

	for (int i = 0; i < HMAC_BLOCK; i++)
		padded[i] = block[i] ^ pad;
	done = context != NULL && EVP_DigestInit_ex2(context, sha256, NULL) == 1 &&
		   EVP_DigestUpdate(context, padded, sizeof(padded)) == 1;
	OPENSSL_cleanse(padded, sizeof(padded));
	if (done)
		return context;
	EVP_MD_CTX_free(context);
	return NULL;
}

/* A longer key counts as its hash, a shorter one is filled up with zeros. */
static bool
hmac_block(const void *key, size_t key_length, uint8_t block[HMAC_BLOCK])
{
	memset(block, 0, HMAC_BLOCK);
	if (key_length > HMAC_BLOCK)
		return EVP_Digest(key, key_length, block, NULL, sha256, NULL) == 1;
	memcpy(block, key, key_length);
	return true;
}

static bool
hash_ready(void)
{
	if (sha256_ready() && hash_context == NULL)
		hash_context = EVP_MD_CTX_new();
	return hash_context != NULL;
}

CryptoHmacKey *
crypto_hmac_key_new(const void *key, size_t key_length)
{
	CryptoHmacKey *made = key_length > 0 && hash_ready() ? OPENSSL_zalloc(sizeof(*made)) : NULL;
	uint8_t block[HMAC_BLOCK];

	if (made != NULL && hmac_block(key, key_length, block))
	{
		made->inner = hash_of_pad(block, 0x36);
		made->outer = hash_of_pad(block, 0x5c);
	}
	OPENSSL_cleanse(block, sizeof(block));
	if (made == NULL || made->inner == NULL || made->outer == NULL)
	{
		crypto_hmac_key_free(made);
		made = NULL;
	}
	(void) finish(made != NULL);
	return made;
}

void
crypto_hmac_key_free(CryptoHmacKey *key)
{
	if (key == NULL)
		return;
	/* OpenSSL wipes the state of a hash that it frees */
	EVP_MD_CTX_free(key->inner);
	EVP_MD_CTX_free(key->outer);
	OPENSSL_free(key);
}

static bool
hash_parts(const CryptoPart *parts, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (parts[i].length > 0 &&
			EVP_DigestUpdate(hash_context, parts[i].data, parts[i].length) != 1)
			return false;
	}
	return true;
}

bool
crypto_hmac_key_sign(const CryptoHmacKey *key, const CryptoPart *parts, int count,
					 uint8_t out[CRYPTO_SHA256_SIZE])
{
	uint8_t inner[CRYPTO_SHA256_SIZE];

	if (hash_ready() && EVP_MD_CTX_copy_ex(hash_context, key->inner) == 1 &&
		hash_parts(parts, count) && EVP_DigestFinal_ex(hash_context, inner, NULL) == 1 &&
		EVP_MD_CTX_copy_ex(hash_context, key->outer) == 1 &&
		EVP_DigestUpdate(hash_context, inner, sizeof(inner)) == 1 &&
		EVP_DigestFinal_ex(hash_context, out, NULL) == 1)
		return true;

	EVP_MD_CTX_free(hash_context);
	hash_context = NULL;
	return finish(false);
}

static bool
encrypt(const uint8_t *key, const void *aad, size_t aad_length, const void *plain,
		size_t plain_length, uint8_t *out)
{
	uint8_t *cipher = out + CRYPTO_NONCE_SIZE;
	uint8_t *tag = cipher + plain_length;
	int length = 0;

	if (RAND_bytes(out, CRYPTO_NONCE_SIZE) != 1 ||
		EVP_EncryptInit_ex2(cipher_context, aes_gcm, key, out, NULL) != 1)
		return false;
	if (aad_length > 0 &&
		EVP_EncryptUpdate(cipher_context, NULL, &length, aad, (int) aad_length) != 1)
		return false;
	if (plain_length > 0 &&
		EVP_EncryptUpdate(cipher_context, cipher, &length, plain, (int) plain_length) != 1)
		return false;

	/* GCM writes nothing here, but OpenSSL insists on a valid pointer */
	return EVP_EncryptFinal_ex(cipher_context, tag, &length) == 1 &&
		   EVP_CIPHER_CTX_ctrl(cipher_context, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG_SIZE, tag) == 1;
}

bool
crypto_seal(const uint8_t key[CRYPTO_KEY_SIZE], const void *aad, size_t aad_length,
			const void *plain, size_t plain_length, uint8_t *out)
{
	if (aad_length > MESSAGE_MAXIMUM || plain_length > MESSAGE_MAXIMUM)
		return false;
	if (!cipher_ready())
		return finish(false);
	if (encrypt(key, aad, aad_length, plain, plain_length, out))
		return true;

	drop_cipher_context();
	return finish(false);
}

static bool
decrypt(const uint8_t *key, const void *aad, size_t aad_length, const uint8_t *sealed,
		size_t plain_length, uint8_t *out)
{
	const uint8_t *cipher = sealed + CRYPTO_NONCE_SIZE;
	uint8_t tag[CRYPTO_TAG_SIZE];
	uint8_t unused[CRYPTO_TAG_SIZE];
	int length = 0;

	/* OpenSSL takes the expected tag through a non-const pointer */
	memcpy(tag, cipher + plain_length, CRYPTO_TAG_SIZE);

	if (EVP_DecryptInit_ex2(cipher_context, aes_gcm, key, sealed, NULL) != 1 ||
		EVP_CIPHER_CTX_ctrl(cipher_context, EVP_CTRL_AEAD_SET_TAG, CRYPTO_TAG_SIZE, tag) != 1)
		return false;
	if (aad_length > 0 &&
		EVP_DecryptUpdate(cipher_context, NULL, &length, aad, (int) aad_length) != 1)
		return false;
	if (plain_length > 0 &&
		EVP_DecryptUpdate(cipher_context, out, &length, cipher, (int) plain_length) != 1)
		return false;
	return EVP_DecryptFinal_ex(cipher_context, unused, &length) == 1;
}

bool
crypto_open(const uint8_t key[CRYPTO_KEY_SIZE], const void *aad, size_t aad_length,
			const uint8_t *sealed, size_t sealed_length, uint8_t *out)
{
	size_t plain_length;

	if (sealed_length < CRYPTO_SEAL_OVERHEAD)
		return false;
	plain_length = sealed_length - CRYPTO_SEAL_OVERHEAD;
	if (aad_length > MESSAGE_MAXIMUM || plain_length > MESSAGE_MAXIMUM)
		return false;
	if (!cipher_ready())
		return finish(false);
	if (decrypt(key, aad, aad_length, sealed, plain_length, out))
		return true;

	/* GCM decrypts before it checks: unauthenticated plaintext must not leave */
	if (plain_length > 0)
		OPENSSL_cleanse(out, plain_length);
	drop_cipher_context();
	return finish(false);
}

bool
crypto_derive_key(const uint8_t key[CRYPTO_KEY_SIZE], const char *label,
				  uint8_t out[CRYPTO_KEY_SIZE])
{
	/* 32 bytes are exactly the first block of the expansion */
	static const uint8_t first_block = 1;
	CryptoPart parts[2];

	parts[0].data = label;
	parts[0].length = strlen(label);
	parts[1].data = &first_block;
	parts[1].length = 1;
	return crypto_hmac_sha256(key, CRYPTO_KEY_SIZE, parts, 2, out);
}

static EVP_PKEY *
read_public_key(const char *pem, size_t pem_length)
{
	char no_password[] = "";
	BIO *bio;
	EVP_PKEY *key;

	if (pem_length == 0 || pem_length > INT_MAX)
		return NULL;
	bio = BIO_new_mem_buf(pem, (int) pem_length);
	if (bio == NULL)
		return NULL;

	/* without a password OpenSSL would ask for one on the server's terminal */
	key = PEM_read_bio_PUBKEY(bio, NULL, NULL, no_password);
	BIO_free(bio);
	if (key != NULL && (!EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_get_bits(key) < RSA_MINIMUM_BITS))
	{
		EVP_PKEY_free(key);
		return NULL;
	}
	return key;
}

static CryptoVerdict
verify_parts(EVP_MD_CTX *context, const CryptoPart *parts, int count, const uint8_t *signature,
			 size_t signature_length)
{
	for (int i = 0; i < count; i++)
	{
		if (parts[i].length > 0 &&
			EVP_DigestVerifyUpdate(context, parts[i].data, parts[i].length) != 1)
			return CRYPTO_FAILED;
	}

	/* a signature of the wrong length is reported as an error, not as 0 */
	if (EVP_DigestVerifyFinal(context, signature, signature_length) == 1)
		return CRYPTO_VERIFIED;
	return CRYPTO_NOT_VERIFIED;
}

/* The context knows the key: each message starts from a copy of it. */
struct CryptoRsaKey
{
	EVP_PKEY *key;
	EVP_MD_CTX *context;
};

CryptoVerdict
crypto_rsa_key_new(const char *pem, size_t pem_length, CryptoRsaKey **key)
{
	EVP_PKEY *read = read_public_key(pem, pem_length);
	CryptoRsaKey *made;

	*key = NULL;
	/* the decoders may queue errors of formats that they tried in vain */
	ERR_clear_error();
	if (read == NULL)
		return CRYPTO_BAD_KEY;
	made = OPENSSL_zalloc(sizeof(*made));
	if (made == NULL)
		EVP_PKEY_free(read);
	else
	{
		made->key = read;
		made->context = EVP_MD_CTX_new();
	}
	/* PKCS#1 v1.5 is OpenSSL's default padding for an RSA key */
	if (made == NULL || made->context == NULL ||
		EVP_DigestVerifyInit_ex(made->context, NULL, "SHA256", NULL, NULL, read, NULL) != 1)
	{
		crypto_rsa_key_free(made);
		ERR_clear_error();
		return CRYPTO_FAILED;
	}
	*key = made;
	return CRYPTO_VERIFIED;
}

void
crypto_rsa_key_free(CryptoRsaKey *key)
{
	if (key == NULL)
		return;
	EVP_MD_CTX_free(key->context);
	EVP_PKEY_free(key->key);
	OPENSSL_free(key);
}

CryptoVerdict
crypto_rsa_key_verify(const CryptoRsaKey *key, const CryptoPart *parts, int count,
					  const uint8_t *signature, size_t signature_length)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	CryptoVerdict verdict = CRYPTO_FAILED;

	if (context != NULL && EVP_MD_CTX_copy_ex(context, key->context) == 1)
		verdict = verify_parts(context, parts, count, signature, signature_length);
	EVP_MD_CTX_free(context);
	ERR_clear_error();
	return verdict;
}

CryptoVerdict
crypto_rsa_sha256_verify(const char *pem, size_t pem_length, const CryptoPart *parts, int count,
						 const uint8_t *signature, size_t signature_length)
{
	CryptoRsaKey *key;
	CryptoVerdict verdict = crypto_rsa_key_new(pem, pem_length, &key);

	if (verdict == CRYPTO_VERIFIED)
		verdict = crypto_rsa_key_verify(key, parts, count, signature, signature_length);
	crypto_rsa_key_free(key);
	return verdict;
}

bool
crypto_equal(const void *a, const void *b, size_t length)
{
	return CRYPTO_memcmp(a, b, length) == 0;
}

void
crypto_wipe(void *secret, size_t length)
{
	OPENSSL_cleanse(secret, length);
}

/* Hand-written: OpenSSL's encoder writes upper case, signatures are lower case. */
void
crypto_hex_encode(const void *data, size_t length, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *bytes = data;

	for (size_t i = 0; i < length; i++)
	{
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * length] = '\0';
}

bool
crypto_base64_encode(const void *data, size_t length, char *out)
{
	if (length > MESSAGE_MAXIMUM)
		return false;
	if (length == 0)
	{
		out[0] = '\0';
		return true;
	}
	return EVP_EncodeBlock((unsigned char *) out, data, (int) length) > 0;
}

/*
 * Decodes one group of four characters of which the last `missing` are
 * padding.  EVP_DecodeBlock takes "=" anywhere as zero bits, so the callers
 * say where padding is and this function refuses it everywhere else.
 */
static bool
decode_group(const char group[4], int missing, uint8_t bytes[3])
{
	char padded[4] = {'A', 'A', 'A', 'A'};

	for (int i = 0; i < 4 - missing; i++)
	{
		if (group[i] == '=')
			return false;
		padded[i] = group[i];
	}
	return EVP_DecodeBlock(bytes, (const unsigned char *) padded, 4) == 3;
}

/*
 * What does not encode back to itself is not the one canonical text: that also
 * refuses padding inside, which EVP_DecodeBlock takes as zero bits, and the
 * blanks that it skips.
 */
static bool
encodes_to(const uint8_t *bytes, size_t count, const char *text)
{
	char again[CRYPTO_BASE64_SIZE(48)];

	for (size_t at = 0; at < count; at += 48)
	{
		size_t taken = count - at < 48 ? count - at : 48;

		if (!crypto_base64_encode(bytes + at, taken, again) ||
			memcmp(text + at / 3 * 4, again, strlen(again)) != 0)
			return false;
	}
	return true;
}

bool
crypto_base64_decode(const char *text, size_t length, uint8_t *out, size_t *out_length)
{
	size_t missing = 0;
	int written;

	*out_length = 0;
	if (length == 0)
		return true;
	if (length % 4 != 0 || length > MESSAGE_MAXIMUM)
		return false;
	if (text[length - 1] == '=')
		missing = text[length - 2] == '=' ? 2 : 1;

	written = EVP_DecodeBlock(out, (const unsigned char *) text, (int) length);
	if (written < 0 || (size_t) written != length / 4 * 3 ||
		!encodes_to(out, (size_t) written - missing, text))
		return false;
	*out_length = (size_t) written - missing;
	return true;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
}

/* The length of text without blanks at its end and without its padding. */
static size_t
length_without_padding(const char *text, size_t length)
{
	size_t kept = 0;
	size_t end = length;
	int padding = 0;

	for (size_t i = 0; i < length; i++)
		kept += !is_blank(text[i]);

	/* padding counts as such only where it completes a group */
	while (kept % 4 == 0 && end > 0 && padding < 2 &&
		   (is_blank(text[end - 1]) || text[end - 1] == '='))
	{
		padding += text[end - 1] == '=';
		end--;
	}
	return end;
}

bool
crypto_base64_decode_forgiving(const char *text, size_t length, uint8_t *out, size_t *out_length)
{
	size_t end = length_without_padding(text, length);
	size_t written = 0;
	char group[4];
	int filled = 0;
	uint8_t bytes[3];

	*out_length = 0;
	for (size_t i = 0; i < end; i++)
	{
		if (is_blank(text[i]))
			continue;
		group[filled++] = text[i];
		if (filled < 4)
			continue;
		if (!decode_group(group, 0, bytes))
			return false;
		memcpy(out + written, bytes, 3);
		written += 3;
		filled = 0;
	}

	/* one left-over character carries six bits: not even a byte */
	if (filled == 1)
		return false;
	if (filled > 1)
	{
		if (!decode_group(group, 4 - filled, bytes))
			return false;
		memcpy(out + written, bytes, filled - 1);
		written += filled - 1;
	}
	*out_length = written;
	return true;
}

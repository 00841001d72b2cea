/*
 * test_crypto.c
 *		Known answers of the standards, and what must not open, decode or verify.
 */
#include "crypto.h"

/* only to see that no failure leaves an error queued */
#include <openssl/err.h>

#include "unit.h"
#include "webhook_vectors.h"

static bool
is_hex(const void *data, size_t length, const char *wanted)
{
	char hex[500];

	crypto_hex_encode(data, length, hex);
	return strcmp(hex, wanted) == 0;
}

/* Reads hex into a buffer of its own size; the tables below are the only input. */
static size_t
from_hex(const char *hex, uint8_t *out)
{
	size_t length = strlen(hex) / 2;

	for (size_t i = 0; i < length; i++)
	{
		char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

		out[i] = (uint8_t) strtoul(pair, NULL, 16);
	}
	return length;
}

static void
test_sha256(void)
{
	uint8_t hash[CRYPTO_SHA256_SIZE];

	ok(crypto_sha256("abc", 3, hash) &&
		   is_hex(hash, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
	   "SHA-256 of abc (FIPS 180-4)");
	ok(crypto_sha256(NULL, 0, hash) &&
		   is_hex(hash, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
	   "SHA-256 of nothing");
}

static void
test_hmac(void)
{
	uint8_t key[131];
	uint8_t mac[CRYPTO_SHA256_SIZE];
	CryptoPart hi = {"Hi There", 8};
	CryptoPart pieces[] = {{"what do ya ", 11}, {NULL, 0}, {"want ", 5}, {"for nothing?", 12}};
	CryptoPart large = {"Test Using Larger Than Block-Size Key - Hash Key First", 54};

	memset(key, 0x0b, 20);
	ok(crypto_hmac_sha256(key, 20, &hi, 1, mac) &&
		   is_hex(mac, 32, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
	   "HMAC-SHA256, RFC 4231 case 1");
	ok(crypto_hmac_sha256("Jefe", 4, pieces, 4, mac) &&
		   is_hex(mac, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
	   "HMAC-SHA256, RFC 4231 case 2, in pieces");
	memset(key, 0xaa, 131);
	ok(crypto_hmac_sha256(key, 131, &large, 1, mac) &&
		   is_hex(mac, 32, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
	   "HMAC-SHA256, RFC 4231 case 6, a key longer than a block");
	ok(!crypto_hmac_sha256("", 0, &hi, 1, mac), "an empty key makes no HMAC");
	ok(crypto_hmac_sha256("Jefe", 4, pieces, 4, mac) &&
		   is_hex(mac, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
	   "the kept context forgets the key before");
}

/* With one kept key: every message twice, in turns with another key. */
static void
test_hmac_keys(void)
{
	uint8_t bytes[300];
	uint8_t macs[4][CRYPTO_SHA256_SIZE];
	CryptoHmacKey *other = crypto_hmac_key_new("another key", 11);
	bool same = true;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t) random_bits();
	for (size_t length = 1; length <= 131; length++)
	{
		CryptoHmacKey *key = crypto_hmac_key_new(bytes, length);
		CryptoPart parts[] = {{bytes, 131 - length}, {NULL, 0}, {bytes + 100, 200}};

		same = same && key != NULL && crypto_hmac_sha256(bytes, length, parts, 3, macs[0]) &&
			   crypto_hmac_key_sign(key, parts, 3, macs[1]) &&
			   crypto_hmac_key_sign(other, parts, 3, macs[2]) &&
			   crypto_hmac_key_sign(key, parts, 3, macs[3]) && memcmp(macs[0], macs[1], 32) == 0 &&
			   memcmp(macs[0], macs[3], 32) == 0 && memcmp(macs[0], macs[2], 32) != 0;
		crypto_hmac_key_free(key);
	}
	ok(same, "a key made ready signs as the key itself, for keys of 1 to 131 bytes");
	crypto_hmac_key_free(other);
	ok(crypto_hmac_key_new("", 0) == NULL, "an empty key is not made ready");
	crypto_hmac_key_free(NULL);
}

static void
test_derive_key(void)
{
	uint8_t key[CRYPTO_KEY_SIZE];
	uint8_t one[CRYPTO_KEY_SIZE];
	uint8_t other[CRYPTO_KEY_SIZE];

	from_hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5", key);
	ok(crypto_derive_key(key, "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9", one) &&
		   is_hex(one, 32, "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"),
	   "HKDF-Expand, RFC 5869 case 1");
	ok(crypto_derive_key(key, "a", one) && crypto_derive_key(key, "b", other) &&
		   !crypto_equal(one, other, 32),
	   "labels make different keys");
}

/* McGrew and Viega, The Galois/Counter Mode of Operation, test case 16 */
#define GCM_KEY   "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
#define GCM_NONCE "cafebabefacedbaddecaf888"
#define GCM_AAD   "feedfacedeadbeeffeedfacedeadbeefabaddad2"
#define GCM_PLAIN                                                      \
	"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" \
	"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
#define GCM_CIPHER                                                     \
	"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa" \
	"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
#define GCM_TAG "76fc6ece0f4e1768cddf8853bb2d551b"

static void
test_gcm_known_answer(void)
{
	uint8_t key[CRYPTO_KEY_SIZE];
	uint8_t aad[20];
	uint8_t sealed[200];
	uint8_t plain[200];
	size_t length = from_hex(GCM_NONCE GCM_CIPHER GCM_TAG, sealed);

	from_hex(GCM_KEY, key);
	from_hex(GCM_AAD, aad);
	ok(crypto_open(key, aad, sizeof(aad), sealed, length, plain) &&
		   is_hex(plain, length - CRYPTO_SEAL_OVERHEAD, GCM_PLAIN),
	   "AES-256-GCM, test case 16");
}

static void
test_seal_and_open(void)
{
	uint8_t key[CRYPTO_KEY_SIZE];
	uint8_t sealed[100];
	uint8_t again[100];
	uint8_t plain[100];
	const char *text = "sk_test_secret";
	const size_t length = 14 + CRYPTO_SEAL_OVERHEAD;
	bool any_opened = false;
	bool any_left = false;

	ok(crypto_random(key, sizeof(key)) && crypto_seal(key, "t.c", 3, text, 14, sealed) &&
		   crypto_open(key, "t.c", 3, sealed, length, plain) && memcmp(plain, text, 14) == 0,
	   "what was sealed opens");
	ok(crypto_seal(key, "t.c", 3, text, 14, again) && memcmp(sealed, again, length) != 0,
	   "sealing twice gives two texts");
	ok(!crypto_open(key, "t.d", 3, sealed, length, plain), "another place does not open it");
	ok(!crypto_open(key, NULL, 0, sealed, length, plain), "no place does not open it");

	for (size_t i = 0; i < length; i++)
	{
		memset(plain, 1, sizeof(plain));
		sealed[i] ^= 1;
		any_opened = crypto_open(key, "t.c", 3, sealed, length, plain) || any_opened;
		sealed[i] ^= 1;
		for (int j = 0; j < 14; j++)
			any_left = any_left || plain[j] != 0;
	}
	ok(!any_opened, "no changed byte goes unnoticed");
	ok(!any_left, "what does not open leaves no plaintext");
	ok(!crypto_open(key, "t.c", 3, sealed, CRYPTO_SEAL_OVERHEAD - 1, plain),
	   "shorter than nonce and tag");
	ok(!crypto_open(key, "t.c", 3, sealed, length - 1, plain), "cut by a byte");
	key[0] ^= 1;
	ok(!crypto_open(key, "t.c", 3, sealed, length, plain), "another key does not open it");
	key[0] ^= 1;
	ok(crypto_open(key, "t.c", 3, sealed, length, plain) && memcmp(plain, text, 14) == 0,
	   "after failures the right one still opens");
	ok(crypto_seal(key, NULL, 0, NULL, 0, sealed) &&
		   crypto_open(key, NULL, 0, sealed, CRYPTO_SEAL_OVERHEAD, plain),
	   "an empty value can be sealed");
}

/* RFC 4648, section 10 */
static const char *const base64_texts[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
										   "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};

static void
test_base64_known_answers(void)
{
	uint8_t bytes[20];
	char text[20];
	size_t length;
	bool encodes = true;
	bool decodes = true;
	bool forgives = true;

	for (size_t i = 0; i <= 6; i++)
	{
		const char *wanted = base64_texts[i];

		encodes = encodes && crypto_base64_encode("foobar", i, text) && strcmp(text, wanted) == 0;
		decodes = decodes && crypto_base64_decode(wanted, strlen(wanted), bytes, &length) &&
				  length == i && memcmp(bytes, "foobar", i) == 0;
		forgives = forgives &&
				   crypto_base64_decode_forgiving(wanted, strcspn(wanted, "="), bytes, &length) &&
				   length == i && memcmp(bytes, "foobar", i) == 0;
	}
	ok(encodes, "base64 encodes as RFC 4648 says");
	ok(decodes, "base64 decodes as RFC 4648 says");
	ok(forgives, "the forgiving decoder does without padding");
}

static const struct
{
	const char *text;
	int strict; /* decoded length, -1 = refused */
	int forgiving;
} base64_cases[] = {
	{"Zm9v", 3, 3},       {"Zm9vYg", -1, 4},    /* padding missing */
	{"Zm9vYg=", -1, -1},                        /* half of the padding */
	{"Zh==", -1, 1},                            /* unused bits set */
	{"Zm 9v\n", -1, 3},                         /* blanks */
	{"Z g = =", -1, 1},   {"Zg==Zg==", -1, -1}, /* padding inside */
	{"=", -1, -1},        {"====", -1, -1},     {"Z===", -1, -1},         {"Zm9v====", -1, -1},
	{"Z", -1, -1},                          /* six bits are no byte */
	{"Zm9vZ", -1, -1},    {"Zm-_", -1, -1}, /* URL-safe alphabet */
	{"Zm9v----", -1, -1}, {"----", -1, -1},     {"Zm9v\xc3\xb1", -1, -1}, {"  ", -1, 0},
};

static void
test_base64_cases(void)
{
	uint8_t bytes[20];
	size_t length;
	char name[80];

	for (size_t i = 0; i < sizeof(base64_cases) / sizeof(base64_cases[0]); i++)
	{
		const char *text = base64_cases[i].text;
		int strict = -1;
		int forgiving = -1;

		if (crypto_base64_decode(text, strlen(text), bytes, &length))
			strict = (int) length;
		if (crypto_base64_decode_forgiving(text, strlen(text), bytes, &length))
			forgiving = (int) length;
		snprintf(name, sizeof(name), "base64 case %zu, strict and forgiving", i);
		if (!ok(strict == base64_cases[i].strict && forgiving == base64_cases[i].forgiving, name))
			printf("# %s: %d, %d\n", text, strict, forgiving);
	}
}

static void
test_base64_round_trip(void)
{
	uint8_t bytes[100];
	uint8_t back[CRYPTO_BASE64_DECODED_SIZE(200)];
	char text[CRYPTO_BASE64_SIZE(100)];
	size_t length;
	bool same = true;

	for (int i = 0; i < 2000; i++)
	{
		size_t size = random_bits() % (sizeof(bytes) + 1);

		for (size_t j = 0; j < size; j++)
			bytes[j] = (uint8_t) random_bits();
		same = same && crypto_base64_encode(bytes, size, text) &&
			   crypto_base64_decode(text, strlen(text), back, &length) && length == size &&
			   memcmp(bytes, back, size) == 0 &&
			   crypto_base64_decode_forgiving(text, strlen(text), back, &length) &&
			   length == size && memcmp(bytes, back, size) == 0;
	}
	ok(same, "random bytes come back from base64");
}

static const char small_rsa_key[] =
	"-----BEGIN PUBLIC KEY-----\n"
	"MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC7VJ+csp+0cSX0Nbctm/ziLSWY\n"
	"jVsX30xfD02DJ323P9XT663qu1MKalnBG2m8xjw/dcBWwkOwqO5j9sNBviFO7uJw\n"
	"T/Og1yze8N4ptPX/4HHtzl2iVq78MdvP3LvrH2ER4TrN9gO8COWODiAENTkCI61O\n"
	"oUPvYE5DzQZOkpQt2wIDAQAB\n"
	"-----END PUBLIC KEY-----\n";

static const char ec_key[] = "-----BEGIN PUBLIC KEY-----\n"
							 "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE08LHEDmY23axKC0C+NTMcJydQQGd\n"
							 "G3HnsTW0kSm0gkkacF1bQODxo7sUsZ6EQD+1VJQGNXIsBp4oXGapIwWcSQ==\n"
							 "-----END PUBLIC KEY-----\n";

/* a terminal must never be asked for a password */
static const char encrypted_pem[] = "-----BEGIN PUBLIC KEY-----\n"
									"Proc-Type: 4,ENCRYPTED\n"
									"DEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n"
									"\n"
									"MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAK==\n"
									"-----END PUBLIC KEY-----\n";

static CryptoVerdict
verify(const char *pem, const char *body, const char *digest, size_t cut)
{
	uint8_t signature[400];
	size_t length;
	CryptoPart parts[] = {{body, 10}, {body + 10, strlen(body) - 10}};

	if (!crypto_base64_decode(digest, strlen(digest), signature, &length))
		return CRYPTO_FAILED;
	return crypto_rsa_sha256_verify(pem, strlen(pem), parts, 2, signature, length - cut);
}

static void
test_rsa(void)
{
	const ConektaVector *v = &conekta_vectors[0];

	ok(verify(conekta_public_key, v->body, v->digest, 0) == CRYPTO_VERIFIED,
	   "RSA signature over two parts");
	ok(verify(conekta_public_key, v->body, v->digest, 1) == CRYPTO_NOT_VERIFIED,
	   "RSA signature cut by a byte");
	ok(verify(conekta_public_key, v->body, v->digest, 256) == CRYPTO_NOT_VERIFIED,
	   "empty RSA signature");
	ok(verify(conekta_public_key, conekta_vectors[1].body, v->digest, 0) == CRYPTO_NOT_VERIFIED,
	   "RSA signature of another body");
	ok(verify(small_rsa_key, v->body, v->digest, 0) == CRYPTO_BAD_KEY,
	   "an RSA key of 1024 bits is refused");
	ok(verify(ec_key, v->body, v->digest, 0) == CRYPTO_BAD_KEY, "an EC key is refused");
	ok(verify(encrypted_pem, v->body, v->digest, 0) == CRYPTO_BAD_KEY,
	   "an encrypted PEM is refused without asking");
	ok(verify("", v->body, v->digest, 0) == CRYPTO_BAD_KEY, "no key");
}

static void
test_rsa_keys(void)
{
	const ConektaVector *v = &conekta_vectors[0];
	uint8_t signature[400];
	size_t length = 0;
	CryptoPart part = {v->body, strlen(v->body)};
	CryptoPart other = {"x", 1};
	CryptoRsaKey *key;

	crypto_base64_decode(v->digest, strlen(v->digest), signature, &length);
	ok(crypto_rsa_key_new(conekta_public_key, strlen(conekta_public_key), &key) == CRYPTO_VERIFIED,
	   "an RSA key is made ready");
	ok(crypto_rsa_key_verify(key, &part, 1, signature, length) == CRYPTO_VERIFIED &&
		   crypto_rsa_key_verify(key, &other, 1, signature, length) == CRYPTO_NOT_VERIFIED &&
		   crypto_rsa_key_verify(key, &part, 1, signature, length - 1) == CRYPTO_NOT_VERIFIED &&
		   crypto_rsa_key_verify(key, &part, 1, signature, length) == CRYPTO_VERIFIED,
	   "it verifies again and again, also after what was wrong");
	crypto_rsa_key_free(key);
	ok(crypto_rsa_key_new(ec_key, strlen(ec_key), &key) == CRYPTO_BAD_KEY && key == NULL,
	   "an EC key is not made ready");
	crypto_rsa_key_free(NULL);
}

static void
test_small_things(void)
{
	uint8_t bytes[] = {0x00, 0x0f, 0xa5, 0xff};
	uint8_t one[32] = {0};
	uint8_t other[32] = {0};

	ok(is_hex(bytes, 4, "000fa5ff") && is_hex(bytes, 0, ""), "hex is lower case");
	ok(crypto_equal(bytes, "\x00\x0f\xa5\xff", 4) && !crypto_equal(bytes, "\x00\x0f\xa5\xfe", 4) &&
		   crypto_equal(bytes, "", 0),
	   "equality");
	ok(crypto_random(one, 32) && crypto_random(other, 32) && memcmp(one, other, 32) != 0,
	   "random bytes differ");
	crypto_wipe(one, sizeof(one));
	memset(other, 0, sizeof(other));
	ok(memcmp(one, other, 32) == 0, "wiped");
	ok(ERR_peek_error() == 0, "no failure of this program left an OpenSSL error");
}

int
main(void)
{
	seed_random();
	test_sha256();
	test_hmac();
	test_hmac_keys();
	test_derive_key();
	test_gcm_known_answer();
	test_seal_and_open();
	test_base64_known_answers();
	test_base64_cases();
	test_base64_round_trip();
	test_rsa();
	test_rsa_keys();
	test_small_things();
	return done_testing();
}

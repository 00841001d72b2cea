/*
 * fuzz_signature.c
 *		Arbitrary bytes as header, secret and body of all three schemes.
 *
 * The input is cut at its first two zero bytes into header, secret and body.
 * Beside memory errors it is a failure when a stranger's header is accepted:
 * no input may verify under the two secrets that are not in it.
 */
#include "signature.h"

#include <stdlib.h>
#include <string.h>

#define NOW 1700000000

static const char hidden_secret[] = "whsec_4ef1c7b2a09d5e836f7a1c4d9b0e2f53";

static const char hidden_key[] =
	"-----BEGIN PUBLIC KEY-----\n"
	"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA7MGxamT8VhwomgxouT7+\n"
	"AlYki+arWSlj/8Vq4t4clzAN9Td0RA/infoRkETNoe20Rr2sxzas8jVOXgrULXbI\n"
	"mIyPEvG8HK7R0LHTHCN1CwmMBw3+P047z4bosdJkB0ueD+JaGKUuVy98rxvMRhRo\n"
	"1pIAY0dT2SUgdtoNOh/kAb5trzGTHZ0My/6oUcxaVJ3hmlyz3LL3ok0+O3ye+K8t\n"
	"C0X7MN91MHPtFb8GtI5KjFElzbWganUqz51l2ZZi3pBdS0T3nGX1xwEiCHd+8O36\n"
	"6HADwiJFCrlAKV8odYf+yTB6xl3pkNilP8WuSEbrMra5j3mq7/iFHJcW6nPUT9yg\n"
	"aQIDAQAB\n"
	"-----END PUBLIC KEY-----\n";

typedef struct Field
{
	const char *text;
	size_t length;
} Field;

/* Each field gets memory of its own size, so that a read past it is seen. */
static Field
cut(const uint8_t **data, size_t *size)
{
	const uint8_t *end = *size > 0 ? memchr(*data, 0, *size) : NULL;
	Field field;
	char *copy;

	field.length = end == NULL ? *size : (size_t) (end - *data);
	copy = malloc(field.length > 0 ? field.length : 1);
	if (field.length > 0)
		memcpy(copy, *data, field.length);
	field.text = copy;
	*data += field.length + (end != NULL);
	*size -= field.length + (end != NULL);
	return field;
}

static void
must_refuse(SignatureResult result)
{
	if (result == SIGNATURE_OK || result == SIGNATURE_TOO_OLD || result == SIGNATURE_TOO_NEW)
		abort();
}

static SignatureStandardHeaders
standard_headers(Field header, Field body)
{
	SignatureStandardHeaders headers = {
		"msg_1", 5, "1700000000", 10, header.text, header.length,
	};

	/* half of the inputs bend the timestamp in place of the signatures */
	if (body.length % 2 == 1)
	{
		headers.timestamp = header.text;
		headers.timestamp_length = header.length;
		headers.signatures = "v1,2i5zDOmoZBWfA/RFC4Oucj5DF0NsfDNDEUXYDiGmQHw=";
		headers.signatures_length = strlen(headers.signatures);
	}
	return headers;
}

static void
sign_and_verify(SignatureSecret secret, Field body)
{
	char header[SIGNATURE_TIMESTAMPED_SIZE];

	if (signature_sign_timestamped(&secret, NOW, body.text, body.length, header) &&
		signature_verify_timestamped(header, strlen(header), body.text, body.length, &secret, 1,
									 NOW, 0, 0, NULL) != SIGNATURE_OK)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Field header = cut(&data, &size);
	Field own = cut(&data, &size);
	Field body = cut(&data, &size);
	SignatureSecret secret = {own.text, own.length};
	SignatureSecret hidden = {hidden_secret, sizeof(hidden_secret) - 1};
	SignatureSecret keys[] = {{own.text, own.length}, {hidden_key, sizeof(hidden_key) - 1}};
	SignatureStandardHeaders standard = standard_headers(header, body);
	int matched;

	signature_verify_timestamped(header.text, header.length, body.text, body.length, &secret, 1,
								 NOW, 300, 300, &matched);
	signature_verify_standard(&standard, body.text, body.length, &secret, 1, NOW, 300, 300,
							  &matched);
	signature_verify_digest(header.text, header.length, body.text, body.length, keys, 1, &matched);

	must_refuse(signature_verify_timestamped(header.text, header.length, body.text, body.length,
											 &hidden, 1, NOW, 300, 300, &matched));
	must_refuse(signature_verify_standard(&standard, body.text, body.length, &hidden, 1, NOW, 300,
										  300, &matched));
	must_refuse(signature_verify_digest(header.text, header.length, body.text, body.length,
										keys + 1, 1, &matched));
	sign_and_verify(secret, body);

	free((void *) header.text);
	free((void *) own.text);
	free((void *) body.text);
	return 0;
}

/*
 * verify_loop.c
 *		The bare loop beside verify_webhook(): nothing but OpenSSL over the same
 *		bytes, with a key that was made ready before.
 *
 *	  verify_loop hmac SECRET TIMESTAMP BODY_FILE ROUNDS
 *	  verify_loop rsa KEY_FILE SIGNATURE_FILE BODY_FILE ROUNDS
 *
 * Prints how many it did in a second.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

static unsigned char body[1 << 20];
static unsigned char signature[1 << 12];

static size_t
read_file(const char *path, unsigned char *into, size_t size)
{
	FILE *file = fopen(path, "rb");
	size_t length = file == NULL ? 0 : fread(into, 1, size, file);

	if (file == NULL || length == 0)
	{
		fprintf(stderr, "verify_loop: cannot read %s\n", path);
		exit(2);
	}
	fclose(file);
	return length;
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static int
hmac_rounds(const char *secret, const char *timestamp, size_t length, int rounds)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
						   OSSL_PARAM_construct_end()};
	EVP_MAC_CTX *context = EVP_MAC_CTX_new(EVP_MAC_fetch(NULL, "HMAC", NULL));
	unsigned char mac[32];
	size_t written;
	int done = 0;

	EVP_MAC_init(context, (const unsigned char *) secret, strlen(secret), params);
	for (int i = 0; i < rounds; i++)
		done += EVP_MAC_init(context, NULL, 0, NULL) == 1 &&
				EVP_MAC_update(context, (const unsigned char *) timestamp, strlen(timestamp)) == 1 &&
				EVP_MAC_update(context, (const unsigned char *) ".", 1) == 1 &&
				EVP_MAC_update(context, body, length) == 1 &&
				EVP_MAC_final(context, mac, &written, sizeof(mac)) == 1;
	return done;
}

static int
rsa_rounds(const char *key_path, size_t signature_length, size_t length, int rounds)
{
	FILE *file = fopen(key_path, "r");
	EVP_PKEY *key = file == NULL ? NULL : PEM_read_PUBKEY(file, NULL, NULL, NULL);
	EVP_MD *md = EVP_MD_fetch(NULL, "SHA256", NULL);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int done = 0;

	for (int i = 0; key != NULL && i < rounds; i++)
		done += EVP_DigestVerifyInit(context, NULL, md, NULL, key) == 1 &&
				EVP_DigestVerifyUpdate(context, body, length) == 1 &&
				EVP_DigestVerifyFinal(context, signature, signature_length) == 1;
	return done;
}

int
main(int argc, char **argv)
{
	int rounds;
	int done;
	double start;
	size_t length;
	size_t signature_length = 0;

	if (argc != 6)
		return 2;
	rounds = atoi(argv[5]);
	length = read_file(argv[4], body, sizeof(body));
	if (strcmp(argv[1], "rsa") == 0)
		signature_length = read_file(argv[3], signature, sizeof(signature));
	start = seconds();
	if (strcmp(argv[1], "hmac") == 0)
		done = hmac_rounds(argv[2], argv[3], length, rounds);
	else
		done = rsa_rounds(argv[2], signature_length, length, rounds);
	if (done != rounds)
	{
		fprintf(stderr, "verify_loop: %d of %d verified\n", done, rounds);
		return 1;
	}
	printf("%.0f\n", rounds / (seconds() - start));
	return 0;
}

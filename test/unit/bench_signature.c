/*
 * bench_signature.c
 *		How many Stripe signatures of a 2 KB webhook one core verifies in a
 *		second with keys made ready, and how many of Conekta's.  Prints the best of five runs: the
 *		others measure what else the machine does.
 */
#include "signature.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "webhook_vectors.h"

#define BODY_SIZE 2048
#define RUNS      5

static double
seconds(void)
{
	struct timespec now;

	timespec_get(&now, TIME_UTC);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static double
stripe_per_second(int rounds)
{
	static char body[BODY_SIZE];
	char header[SIGNATURE_TIMESTAMPED_SIZE];
	const StripeVector *v = &stripe_vectors[2];
	SignatureKey *key = signature_key_new(v->secret, strlen(v->secret));
	const SignatureSecret secret = {.key = key};
	int verified = 0;
	double start;

	memset(body, 'x', sizeof(body));
	signature_sign_timestamped(&secret, v->t, body, sizeof(body), header);

	start = seconds();
	for (int i = 0; i < rounds; i++)
		verified += signature_verify_timestamped(header, strlen(header), body, sizeof(body),
												 &secret, 1, v->t, 300, 300, NULL) == SIGNATURE_OK;
	signature_key_free(key);
	return verified == rounds ? rounds / (seconds() - start) : 0;
}

static double
conekta_per_second(int rounds)
{
	const ConektaVector *v = &conekta_vectors[0];
	SignatureKey *ready = signature_key_new(conekta_public_key, strlen(conekta_public_key));
	const SignatureSecret key = {.key = ready};
	int verified = 0;
	double start = seconds();

	for (int i = 0; i < rounds; i++)
		verified += signature_verify_digest(v->digest, strlen(v->digest), v->body, strlen(v->body),
											&key, 1, NULL) == SIGNATURE_OK;
	signature_key_free(ready);
	return verified == rounds ? rounds / (seconds() - start) : 0;
}

static void
print_best(const char *name, double (*measure)(int), int rounds)
{
	double best = 0;

	for (int run = 0; run < RUNS; run++)
	{
		double rate = measure(rounds);

		best = rate > best ? rate : best;
	}
	printf("%s: %.0f/s\n", name, best);
}

int
main(void)
{
	print_best("stripe signatures of a 2 KB body", stripe_per_second, 300000);
	print_best("conekta signatures", conekta_per_second, 10000);
	return 0;
}

/*
 * print_vectors.c
 *		Prints webhook_vectors.h for tests that are not in C: one vector a line,
 *		its scheme and fields in hexadecimal, with tabs between them.
 */
#include <stdint.h>
#include <stdio.h>

#include "webhook_vectors.h"

#define COUNT(table) ((int) (sizeof(table) / sizeof((table)[0])))

static void
field(const char *text)
{
	putchar('\t');
	for (const char *c = text == NULL ? "" : text; *c != '\0'; c++)
		printf("%02x", (unsigned char) *c);
}

static void
number(int64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long) value);
	field(text);
}

int
main(void)
{
	for (int i = 0; i < COUNT(stripe_vectors); i++)
	{
		const StripeVector *v = &stripe_vectors[i];

		fputs("stripe", stdout);
		field(v->name);
		field(v->secret);
		number(v->t);
		field(v->body);
		field(v->header);
		putchar('\n');
	}
	for (int i = 0; i < COUNT(polar_vectors); i++)
	{
		const PolarVector *v = &polar_vectors[i];

		fputs("polar", stdout);
		field(v->name);
		field(v->secret);
		number(v->t);
		field(v->body);
		field(v->signature);
		field(v->id);
		putchar('\n');
	}
	for (int i = 0; i < COUNT(conekta_vectors); i++)
	{
		const ConektaVector *v = &conekta_vectors[i];

		fputs("conekta", stdout);
		field(v->name);
		field(conekta_public_key);
		number(0);
		field(v->body);
		field(v->digest);
		putchar('\n');
	}
	return 0;
}

/*
 * fuzz_card_number.c
 *		Arbitrary bytes as a value and as a text.
 *
 * Beside memory errors it is a failure when the recognisers contradict each
 * other: adding words around a text must not hide a card in it, and a test
 * number must be a card number.
 */
#include "card_number.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The text with words around it, in memory of exactly its size. */
static char *
surround(const char *text, size_t size, size_t *length)
{
	static const char before[] = "paid with ";
	static const char after[] = ", thanks";
	const size_t skip = sizeof(before) - 1;
	const size_t tail = sizeof(after) - 1;
	char *out;

	*length = skip + size + tail;
	out = malloc(*length);
	memcpy(out, before, skip);
	if (size > 0)
		memcpy(out + skip, text, size);
	memcpy(out + skip + size, after, tail);
	return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *) data;
	bool whole = card_number_is(text, size);
	bool inside = card_number_inside(text, size);
	size_t length;
	char *surrounded = surround(text, size, &length);

	if (card_number_test_token(text, size) != NULL && !whole)
		abort();
	if (inside && !card_number_inside(surrounded, length))
		abort();
	free(surrounded);
	return 0;
}

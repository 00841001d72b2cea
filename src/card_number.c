/*
 * card_number.c
 *		Recognises raw card numbers, so that they can be refused.
 *
 * Calls nothing; called wherever a payment method, token, name, description,
 * metadata or other free text comes in.  Two mistakes are possible and both
 * hurt: a card number that gets into a table, and an order that is refused
 * because its description holds a bank account.  So a whole value is judged by
 * its digits alone, and inside a longer text only the ways in which people
 * write a card number count.
 */
#include "card_number.h"

#include <string.h>

/* ISO/IEC 7812-1: no card number is longer */
#define DIGITS_MAXIMUM 19

/* blanks and hyphens between two groups, as in "4242 - 4242" */
#define SEPARATOR_MAXIMUM 3

/* groups looked at from one starting point: 4-4-4-4-4 decides everything */
#define WINDOW 5

#define LENGTH(n) (1u << (n))

/* Prefixes are compared on the number of digits that they are given with. */
typedef struct Network
{
	int low;
	int high;
	int digits;
	unsigned lengths; /* a LENGTH() bit for each length in use */
} Network;

static const Network networks[] = {
	{4, 4, 1, LENGTH(13) | LENGTH(16) | LENGTH(19)}, /* Visa */
	{51, 55, 2, LENGTH(16)},                         /* Mastercard */
	{2221, 2720, 4, LENGTH(16)},
	{34, 34, 2, LENGTH(15)}, /* American Express */
	{37, 37, 2, LENGTH(15)},
	{6011, 6011, 4, LENGTH(16) | LENGTH(19)}, /* Discover */
	{644, 649, 3, LENGTH(16) | LENGTH(19)},
	{65, 65, 2, LENGTH(16) | LENGTH(19)},
	{3528, 3589, 4, LENGTH(16) | LENGTH(17) | LENGTH(18) | LENGTH(19)}, /* JCB */
	{300, 305, 3, LENGTH(14)},                                          /* Diners Club */
	{36, 36, 2, LENGTH(14)},
	{38, 38, 2, LENGTH(14)},
	{62, 62, 2, LENGTH(16) | LENGTH(17) | LENGTH(18) | LENGTH(19)}, /* UnionPay */
};

typedef struct TestNumber
{
	const char *digits;
	const char *token;
} TestNumber;

static const TestNumber test_numbers[] = {
	{"4242424242424242", "pm_card_visa"},
	{"4000000000000002", "pm_card_visa_chargeDeclined"},
	{"4000002760003184", "pm_card_authenticationRequired"},
};

/* The digits of a candidate; count is the true number, kept or not. */
typedef struct Digits
{
	char text[DIGITS_MAXIMUM];
	int count;
} Digits;

/* One run of digits in a text. */
typedef struct Group
{
	const char *text;
	size_t length;
} Group;

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_separator(char c)
{
	return c == ' ' || c == '-' || (c >= '\t' && c <= '\r');
}

static bool
is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool
has_network(const Digits *number)
{
	for (size_t i = 0; i < sizeof(networks) / sizeof(networks[0]); i++)
	{
		const Network *network = &networks[i];
		int prefix = 0;

		if ((network->lengths & LENGTH(number->count)) == 0)
			continue;
		for (int d = 0; d < network->digits; d++)
			prefix = prefix * 10 + (number->text[d] - '0');
		if (prefix >= network->low && prefix <= network->high)
			return true;
	}
	return false;
}

/* ISO/IEC 7812-1 annex B: every second digit from the right counts double. */
static bool
has_check_digit(const Digits *number)
{
	int sum = 0;

	for (int i = 0; i < number->count; i++)
	{
		int value = number->text[number->count - 1 - i] - '0';

		if (i % 2 == 1)
			value *= 2;
		sum += value > 9 ? value - 9 : value;
	}
	return sum % 10 == 0;
}

static bool
is_card(const Digits *number)
{
	return number->count <= DIGITS_MAXIMUM && has_network(number) && has_check_digit(number);
}

/* False when the value holds anything else, or more digits than a card has. */
static bool
read_digits(const char *text, size_t length, Digits *digits)
{
	digits->count = 0;
	for (size_t i = 0; i < length; i++)
	{
		if (is_separator(text[i]))
			continue;
		if (!is_digit(text[i]) || digits->count == DIGITS_MAXIMUM)
			return false;
		digits->text[digits->count++] = text[i];
	}
	return true;
}

bool
card_number_is(const char *text, size_t length)
{
	Digits digits;

	return read_digits(text, length, &digits) && is_card(&digits);
}

/* Puts the first n groups together. */
static void
join(const Group *groups, int n, Digits *digits)
{
	digits->count = 0;
	for (int i = 0; i < n; i++)
	{
		memcpy(digits->text + digits->count, groups[i].text, groups[i].length);
		digits->count += (int) groups[i].length;
	}
}

static bool
grouped_as(const Group *groups, int count, const size_t *pattern, int n)
{
	if (count < n)
		return false;
	for (int i = 0; i < n; i++)
	{
		if (groups[i].length != pattern[i])
			return false;
	}
	return true;
}

/*
 * The 18 digits of a Mexican account carry a check digit of their own.  Written
 * in fours, the accounts of the bank behind SPEI collections begin like a
 * Discover card (646).
 */
static bool
is_clabe(const Group *groups)
{
	static const int weights[] = {3, 7, 1};
	Digits digits;
	int sum = 0;

	join(groups, 5, &digits);
	for (int i = 0; i < 17; i++)
		sum += (digits.text[i] - '0') * weights[i % 3] % 10;
	return (10 - sum % 10) % 10 == digits.text[17] - '0';
}

/* Is there a card number that begins with the first of these groups? */
static bool
groups_hold_card(const Group *groups, int count, bool ends_here)
{
	static const size_t fours[] = {4, 4, 4, 4};
	static const size_t nineteen[] = {4, 4, 4, 4, 3};
	static const size_t amex[] = {4, 6, 5};
	static const size_t diners[] = {4, 6, 4};
	static const size_t clabe[] = {4, 4, 4, 4, 2};
	Digits digits;

	if (grouped_as(groups, count, nineteen, 5))
	{
		join(groups, 5, &digits);
		if (is_card(&digits))
			return true;
	}
	if (grouped_as(groups, count, fours, 4))
	{
		/* what follows four groups may be an expiry date or a security code */
		if (ends_here && grouped_as(groups, count, clabe, 5) && is_clabe(groups))
			return false;
		join(groups, 4, &digits);
		return is_card(&digits);
	}
	if (grouped_as(groups, count, amex, 3) || grouped_as(groups, count, diners, 3))
	{
		join(groups, 3, &digits);
		return is_card(&digits);
	}
	return false;
}

/*
 * "DE89 3704 ..." is an IBAN: two capitals and two digits, then a separator.
 * Its groups of four are not a card's.
 */
static bool
is_iban_head(const char *text, const Group *group)
{
	size_t before = group->text - text;

	return group->length == 2 && before >= 2 && is_upper(group->text[-1]) &&
		   is_upper(group->text[-2]) &&
		   (before == 2 || !(is_upper(group->text[-3]) || is_digit(group->text[-3])));
}

/* Reads the run of digits at *at, and skips what separates it from the next. */
static Group
next_group(const char *text, size_t length, size_t *at, bool *continues)
{
	Group group = {text + *at, 0};
	size_t gap = 0;

	while (*at + group.length < length && is_digit(group.text[group.length]))
		group.length++;
	*at += group.length;
	while (*at + gap < length && is_separator(text[*at + gap]))
		gap++;
	*continues = gap >= 1 && gap <= SEPARATOR_MAXIMUM && *at + gap < length &&
				 is_digit(text[*at + gap]);
	*at += gap;
	return group;
}

/*
 * Looks at the sequence of groups that begins at *at, from each of its groups,
 * and leaves *at behind it.
 */
static bool
sequence_holds_card(const char *text, size_t length, size_t *at)
{
	Group groups[WINDOW];
	int count = 0;
	bool continues = true;
	bool is_iban = false;
	bool is_first = true;
	bool ends_here;

	while (continues || count > 0)
	{
		while (continues && count < WINDOW)
		{
			groups[count++] = next_group(text, length, at, &continues);
			if (is_first)
				is_iban = is_iban_head(text, &groups[0]);
			is_first = false;
		}

		/* a slash makes the last group the month of an expiry date */
		ends_here = !continues && !(*at < length && text[*at] == '/');
		if (!is_iban && groups_hold_card(groups, count, ends_here))
			return true;
		memmove(groups, groups + 1, --count * sizeof(Group));
	}
	return false;
}

bool
card_number_inside(const char *text, size_t length)
{
	size_t at = 0;

	while (at < length)
	{
		if (!is_digit(text[at]))
			at++;
		else if (sequence_holds_card(text, length, &at))
			return true;
	}
	return false;
}

const char *
card_number_test_token(const char *text, size_t length)
{
	Digits digits;

	if (!read_digits(text, length, &digits))
		return NULL;
	for (size_t i = 0; i < sizeof(test_numbers) / sizeof(test_numbers[0]); i++)
	{
		if (digits.count == (int) strlen(test_numbers[i].digits) &&
			memcmp(digits.text, test_numbers[i].digits, digits.count) == 0)
			return test_numbers[i].token;
	}
	return NULL;
}

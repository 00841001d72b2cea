/*
 * test_card_number.c
 *		What is refused as a raw card number and, just as much, what is not.
 */
#include "card_number.h"

#include "unit.h"

#define COUNT(table) ((int) (sizeof(table) / sizeof((table)[0])))
#define ROUNDS       10000

static char label[300];

static const char *
named(const char *what, const char *text)
{
	snprintf(label, sizeof(label), "%s: %s", what, text);
	/* a TAP line is one line */
	for (char *c = label; *c != '\0'; c++)
		*c = *c == '\n' ? '/' : *c;
	return label;
}

static bool
is_card(const char *text)
{
	return card_number_is(text, strlen(text));
}

static bool
inside(const char *text)
{
	return card_number_inside(text, strlen(text));
}

/* Published test numbers of the networks, and each prefix at its edges. */
static const char *const cards[] = {
	"4242424242424242",    "4242 4242 4242 4242", "4242-4242-4242-4242", " 4242 42-42 4242-42 42\n",
	"4222222222222",       "4000000000000000006", "4000000000000002",    "4000002760003184",
	"5555555555554444",    "5105105105105100",    "2223003122003222",    "2221000000000009",
	"2720990000000007",    "378282246310005",     "371449635398431",     "341111111111111",
	"6011111111111117",    "6440000000000005",    "6500000000000002",    "6011000000000000001",
	"3530111333300000",    "3528000000000007",    "3589000000000003",    "353011133330000000",
	"30569309025904",      "38520000023237",      "36227206271667",      "6200000000000005",
	"6205500000000000004", "62000000000000000",
};

/* Most have a right check digit and fail for one other reason. */
static const char *const not_cards[] = {
	"",
	" ",
	"-",
	"0",
	"4",
	"4242424242424241",     /* check digit */
	"42424242424242424242", /* 20 digits */
	"424242424242",         /* 12 digits */
	"42424242424242",       /* Visa with 14 digits */
	"4242424242424242x",
	"x4242424242424242",
	"4242.4242.4242.4242",
	"4242,4242424242424",
	"2220990000000002",
	"2721000000000004", /* beside Mastercard's range */
	"5000000000000009",
	"5600000000000003",
	"3527000000000008",
	"3590000000000000", /* beside JCB's */
	"30600000000001",
	"39000000000005",
	"37000000000007", /* 14 digits, not Diners */
	"6012000000000003",
	"6430000000000007",
	"0000000000000000",
	"tok_test_visa_4242",
	"pm_card_visa",
	"3fa85f64-5717-4562-b3fc-2c963f66afa6",
	"1700000000000",
	"2023-11-14 22:13:20",
};

static const char *const inside_cards[] = {
	"4242 4242 4242 4242",
	"4242-4242-4242-4242",
	"paid with 4242 4242 4242 4242, thanks",
	"paid with 4242-4242-4242-4242.",
	"Visa:4242 4242 4242 4242",
	"4242 - 4242 - 4242 - 4242",
	"4242\n4242\n4242\n4242",
	"4242 4242 4242 4242 12/27", /* expiry date behind it */
	"4242 4242 4242 4242 12 / 27",
	"4242 4242 4242 4242 123", /* security code behind it */
	"4242 4242 4242 4242 1227 123",
	"order 1234 4242 4242 4242 4242", /* numbers before it */
	"tel. 55 1234 5678 4242 4242 4242 4242",
	"12/27 4242 4242 4242 4242",
	"REF12 4242 4242 4242 4242", /* no IBAN begins so */
	"1 2 3 4 5 6 7 8 9 4242 4242 4242 4242",
	"4000 0000 0000 0000 006",
	"amex 3782 822463 10005",
	"amex 3782-822463-10005 0930",
	"diners 3056 930902 5904",
	"{\"note\": \"5555 5555 5555 4444\"}",
	"ni\xc3\xb1o 5555 5555 5555 4444 \xe2\x9c\x93",
};

static const char *const inside_nothing[] = {
	"",
	"4",
	"4242",
	"4242 4242",
	"4242 4242 4242",
	"4242 4242 4242 424",
	"order 4242424242424242 paid", /* a bare run in a text is an id */
	"4242 4242 4242 4241",         /* check digit */
	"1234 5678 9012 3456",
	"4242    4242    4242    4242", /* columns of a table */
	"4242, 4242, 4242, 4242",
	"4242.4242.4242.4242",
	"42424242 42424242",
	"424 24242 4242 4242",
	"DE42 4242 4242 4242 4242 00", /* an IBAN in fours */
	"IBAN ES91 2100 0418 4502 0005 1332",
	"3fa85f64-4242-4242-4242-424242424242",
	"2026-11-22 15:31:00 2026-11-22",
	"+52 55 1234 5678, +52 55 8765 4321",
	"CLABE 6461 8011 1234 5608 06",
};

static void
test_tables(void)
{
	for (int i = 0; i < COUNT(cards); i++)
		ok(is_card(cards[i]), named("a card number", cards[i]));
	for (int i = 0; i < COUNT(not_cards); i++)
		ok(!is_card(not_cards[i]), named("no card number", not_cards[i]));
	for (int i = 0; i < COUNT(inside_cards); i++)
		ok(inside(inside_cards[i]), named("a card number inside", inside_cards[i]));
	for (int i = 0; i < COUNT(inside_nothing); i++)
		ok(!inside(inside_nothing[i]), named("no card number inside", inside_nothing[i]));
}

static bool
token_is(const char *text, const char *wanted)
{
	const char *token = card_number_test_token(text, strlen(text));

	return wanted == NULL ? token == NULL : token != NULL && strcmp(token, wanted) == 0;
}

static void
test_tokens(void)
{
	ok(token_is("4242 4242 4242 4242", "pm_card_visa"), "4242 4242 4242 4242 has its token");
	ok(token_is("4000000000000002", "pm_card_visa_chargeDeclined"),
	   "4000 0000 0000 0002 has its token");
	ok(token_is("4000-0027-6000-3184", "pm_card_authenticationRequired"),
	   "4000 0027 6000 3184 has its token");
	ok(token_is("5555555555554444", NULL), "another test number has none");
	ok(token_is("4242 4242 4242 4242 4", NULL), "a digit too many has none");
	ok(token_is("pm_card_visa", NULL) && token_is("", NULL), "what is no number has none");
}

/* ---- numbers that are no cards, by the thousand ---- */

static void
random_digits(char *out, int count)
{
	for (int i = 0; i < count; i++)
		out[i] = '0' + (char) (random_bits() % 10);
	out[count] = '\0';
}

/* The banks that Mexican accounts begin with; 646 collects most of SPEI. */
static void
random_clabe(char out[19])
{
	static const char *const banks[] = {"002", "012", "014", "021", "072",
										"127", "638", "646", "646", "722"};
	static const int weights[] = {3, 7, 1};
	int sum = 0;

	random_digits(out, 18);
	memcpy(out, banks[random_bits() % COUNT(banks)], 3);
	for (int i = 0; i < 17; i++)
		sum += (out[i] - '0') * weights[i % 3] % 10;
	out[17] = '0' + (char) ((10 - sum % 10) % 10);
}

/* References of cash payments have 14 digits and begin with 93 or 98. */
static void
random_reference(char out[15])
{
	random_digits(out, 14);
	memcpy(out, random_bits() % 2 ? "93" : "98", 2);
}

/* Any millisecond from 2001 to 2096: thirteen digits that do not begin with 4. */
static void
random_stamp(char out[14])
{
	snprintf(
		out, 14, "%llu",
		(unsigned long long) (UINT64_C(1000000000000) + random_bits() % UINT64_C(2999999999999)));
}

static void
in_fours(const char *digits, char separator, char *out)
{
	for (int i = 0; digits[i] != '\0'; i++)
	{
		if (i > 0 && i % 4 == 0)
			*out++ = separator;
		*out++ = digits[i];
	}
	*out = '\0';
}

/* Is the number, in a text, bare or in fours, taken for a card? */
static bool
alarms_in_text(const char *digits)
{
	char grouped[40];
	char text[120];

	snprintf(text, sizeof(text), "paid to %s on time", digits);
	if (inside(text))
		return true;
	snprintf(text, sizeof(text), "{\"ref\":\"%s\",\"n\":%s}", digits, digits);
	if (inside(text))
		return true;
	in_fours(digits, ' ', grouped);
	snprintf(text, sizeof(text), "reference %s, thank you", grouped);
	if (inside(text))
		return true;
	in_fours(digits, '-', grouped);
	return inside(grouped);
}

static void
test_references(void)
{
	char digits[20];
	int inside_alarms[3] = {0, 0, 0};
	int value_alarms[3] = {0, 0, 0};

	for (int i = 0; i < ROUNDS; i++)
	{
		random_clabe(digits);
		inside_alarms[0] += alarms_in_text(digits);
		value_alarms[0] += is_card(digits);
		random_reference(digits);
		inside_alarms[1] += alarms_in_text(digits);
		value_alarms[1] += is_card(digits);
		random_stamp(digits);
		inside_alarms[2] += alarms_in_text(digits);
		value_alarms[2] += is_card(digits);
	}
	ok(inside_alarms[0] == 0, "10,000 CLABEs in a text: no alarm");
	ok(inside_alarms[1] == 0, "10,000 OXXO references in a text: no alarm");
	ok(inside_alarms[2] == 0, "10,000 millisecond stamps in a text: no alarm");
	ok(value_alarms[0] == 0,
	   "10,000 CLABEs as whole values: no network has their prefix with 18 digits");
	ok(value_alarms[1] == 0,
	   "10,000 OXXO references as whole values: no network has their prefix with 14 digits");
	ok(value_alarms[2] == 0,
	   "10,000 millisecond stamps as whole values: no network has their prefix with 13 digits");
}

/*
 * Any 14 or 18 digits, prefix left to chance: as a whole value one in ten of
 * those with a network's prefix and length alarms, which is why such columns
 * are not looked at; inside a text none does, bare.
 */
static void
test_any_digits(void)
{
	char digits[20];
	char text[60];
	int inside_alarms = 0;
	int value_alarms = 0;

	for (int i = 0; i < ROUNDS; i++)
	{
		random_digits(digits, i % 2 ? 14 : 18);
		snprintf(text, sizeof(text), "no. %s.", digits);
		inside_alarms += inside(text);
		value_alarms += is_card(digits);
	}
	ok(inside_alarms == 0, "10,000 bare numbers of 14 or 18 digits in a text: no alarm");
	ok(value_alarms > 0 && value_alarms < ROUNDS / 100,
	   "as whole values a few of them look like cards: such columns must not be looked at");
}

/* Every real card must be found, whatever its digits are. */
static void
test_no_card_is_missed(void)
{
	char digits[20];
	char grouped[40];
	char text[100];
	int missed = 0;
	int found = 0;

	while (found < ROUNDS)
	{
		random_digits(digits, 16);
		digits[0] = '4';
		if (!is_card(digits))
			continue;
		found++;
		in_fours(digits, found % 2 ? ' ' : '-', grouped);
		snprintf(text, sizeof(text), "%llu %s %llu/27",
				 (unsigned long long) (random_bits() % 100000), grouped,
				 (unsigned long long) (1 + random_bits() % 12));
		missed += !inside(text) || !inside(grouped);
	}
	ok(missed == 0,
	   "10,000 Visa numbers with a number before and an expiry date behind: all found");
}

int
main(void)
{
	seed_random();
	test_tables();
	test_tokens();
	test_references();
	test_any_digits();
	test_no_card_is_missed();
	return done_testing();
}

/*
 * test_money.c
 *		Money against the same arithmetic done the long way: __int128 and, for
 *		decimals, plain text.
 */
#include "money.h"

#include "unit.h"

#define COUNT(table) ((int) (sizeof(table) / sizeof((table)[0])))
#define ROUNDS       100000

static char label[200];

/* Small, ordinary and extreme values in equal parts. */
static int64_t
random_amount(void)
{
	uint64_t bits = random_bits();

	return (int64_t) bits >> (random_bits() % 64);
}

static bool
fits(MoneyInt128 value)
{
	return value >= INT64_MIN && value <= INT64_MAX;
}

/* Does a function agree with the exact value, overflow included? */
static bool
agrees(MoneyStatus status, const int64_t *got, MoneyInt128 exact)
{
	return fits(exact) ? status == MONEY_OK && *got == exact : status == MONEY_OVERFLOW;
}

static void
test_arithmetic(void)
{
	bool add = true;
	bool sub = true;
	bool mul = true;
	int64_t out;

	for (int i = 0; i < ROUNDS; i++)
	{
		int64_t a = random_amount();
		int64_t b = random_amount();

		out = 0;
		add = add && agrees(money_add(a, b, &out), &out, (MoneyInt128) a + b);
		sub = sub && agrees(money_sub(a, b, &out), &out, (MoneyInt128) a - b);
		mul = mul && agrees(money_mul(a, b, &out), &out, (MoneyInt128) a * b);
	}
	ok(add, "add agrees with 128 bits");
	ok(sub, "sub agrees with 128 bits");
	ok(mul, "mul agrees with 128 bits");
	ok(money_add(INT64_MAX, 1, &out) == MONEY_OVERFLOW &&
		   money_sub(INT64_MIN, 1, &out) == MONEY_OVERFLOW &&
		   money_mul(INT64_MIN, -1, &out) == MONEY_OVERFLOW,
	   "one past each end overflows");
}

/* ---- ratios ---- */

static const struct
{
	int64_t amount;
	int64_t numerator;
	int64_t denominator;
	int64_t wanted;
	const char *name;
} ratios[] = {
	{1000, 16, 100, 160, "16 % on 10.00"},
	{1160, 16, 116, 160, "16 % inside 11.60"},
	{1, 1, 2, 1, "half a cent goes up"},
	{-1, 1, 2, -1, "minus half a cent goes down"},
	{3, 1, 2, 2, "one and a half goes to two, not to even"},
	{5, 1, 2, 3, "two and a half goes to three, not to even"},
	{49, 1, 100, 0, "0.49"},
	{-49, 1, 100, 0, "-0.49"},
	{INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, "the whole of the largest amount"},
	{INT64_MIN, INT64_MAX, INT64_MAX, INT64_MIN, "the whole of the smallest amount"},
	{2000, 1296000, 2592000, 1000, "half a month"},
};

static void
test_ratio(void)
{
	int64_t out = 0;
	bool near = true;

	for (int i = 0; i < COUNT(ratios); i++)
		ok(money_ratio(ratios[i].amount, ratios[i].numerator, ratios[i].denominator, &out) ==
				   MONEY_OK &&
			   out == ratios[i].wanted,
		   ratios[i].name);
	ok(money_ratio(1, 1, 0, &out) == MONEY_INVALID && money_ratio(1, 1, -1, &out) == MONEY_INVALID,
	   "a denominator that is not positive is invalid");
	ok(money_ratio(INT64_MAX, 2, 1, &out) == MONEY_OVERFLOW, "a ratio may overflow");

	/* |out * d - a * n| <= d / 2, and a tie lies farther from zero */
	for (int i = 0; i < ROUNDS; i++)
	{
		int64_t a = random_amount() >> 20;
		int64_t n = random_amount() >> 20;
		int64_t d = (random_amount() & INT64_MAX) % 1000000 + 1;
		MoneyInt128 exact = (MoneyInt128) a * n;
		MoneyInt128 off;

		if (money_ratio(a, n, d, &out) != MONEY_OK)
			continue;
		off = (MoneyInt128) out * d - exact;
		near = near && 2 * off <= d && -2 * off <= d;
		if (2 * off == d || -2 * off == d)
			near = near && (exact > 0 ? off > 0 : off < 0);
	}
	ok(near, "a ratio is off by half a unit at most, ties away from zero");
}

/* ---- spreading ---- */

#define PARTS_MAX 12

/* Sums up, lies within one unit of the exact share, and mirrors when negated. */
static bool
spread_holds(int64_t total, const int64_t *weights, int count)
{
	int64_t parts[PARTS_MAX];
	int64_t mirrored[PARTS_MAX];
	MoneyInt128 sum = 0;
	MoneyInt128 weight = 0;
	bool holds = true;

	if (money_spread(total, weights, count, parts) != MONEY_OK ||
		money_spread(-total, weights, count, mirrored) != MONEY_OK)
		return false;
	for (int i = 0; i < count; i++)
		weight += weights[i];
	for (int i = 0; i < count; i++)
	{
		MoneyInt128 off = parts[i] * weight - (MoneyInt128) total * weights[i];
		MoneyInt128 limit = weight < 0 ? -weight : weight;

		sum += parts[i];
		holds = holds && off < limit && -off < limit && parts[i] == -mirrored[i];
		holds = holds && (weights[i] != 0 || parts[i] == 0);
	}
	return holds && sum == total;
}

/* No part that was rounded down has a larger remainder than one rounded up. */
static bool
spread_is_largest_remainder(int64_t total, const int64_t *weights, int count)
{
	int64_t parts[PARTS_MAX];
	MoneyInt128 weight = 0;
	MoneyInt128 largest_down = -1;
	MoneyInt128 smallest_up = -1;

	money_spread(total, weights, count, parts);
	for (int i = 0; i < count; i++)
		weight += weights[i];
	for (int i = 0; i < count; i++)
	{
		MoneyInt128 remainder = (MoneyInt128) total * weights[i] % weight;
		bool up = parts[i] > (MoneyInt128) total * weights[i] / weight;

		if (up && (smallest_up < 0 || remainder < smallest_up))
			smallest_up = remainder;
		if (!up && remainder > largest_down)
			largest_down = remainder;
	}
	return smallest_up < 0 || smallest_up >= largest_down;
}

static void
test_spread(void)
{
	int64_t parts[PARTS_MAX];
	const int64_t thirds[] = {1, 1, 1};
	const int64_t lines[] = {999, 1, 0, 500};
	const int64_t cancelling[] = {5, -5};
	const int64_t extreme[] = {INT64_MAX, -INT64_MAX, 1};
	bool holds = true;
	bool largest = true;

	ok(money_spread(100, thirds, 3, parts) == MONEY_OK && parts[0] == 34 && parts[1] == 33 &&
		   parts[2] == 33,
	   "1.00 in three parts: the first gets the cent");
	ok(money_spread(-100, thirds, 3, parts) == MONEY_OK && parts[0] == -34 && parts[2] == -33,
	   "-1.00 mirrors it");
	ok(money_spread(240, lines, 4, parts) == MONEY_OK && parts[0] == 160 && parts[1] == 0 &&
		   parts[2] == 0 && parts[3] == 80,
	   "tax over invoice lines");
	ok(money_spread(1, cancelling, 2, parts) == MONEY_INVALID &&
		   money_spread(1, NULL, 0, parts) == MONEY_INVALID,
	   "weights that add up to nothing are invalid");
	ok(money_spread(3, extreme, 3, parts) == MONEY_OVERFLOW,
	   "a part that does not fit is an overflow");

	for (int round = 0; round < ROUNDS / 10; round++)
	{
		int64_t weights[PARTS_MAX];
		int count = 1 + (int) (random_bits() % PARTS_MAX);
		int64_t total = random_amount() >> 8;
		MoneyInt128 sum = 0;

		for (int i = 0; i < count; i++)
		{
			weights[i] = (random_amount() & INT64_MAX) >> 8;
			sum += weights[i];
		}
		if (sum == 0)
			continue;
		holds = holds && spread_holds(total, weights, count);
		largest = largest && spread_is_largest_remainder(total & INT64_MAX, weights, count);
	}
	ok(holds, "parts add up, stay within one unit of their share, and mirror");
	ok(largest, "the largest remainders are rounded up");

	holds = true;
	for (int round = 0; round < ROUNDS / 10; round++)
	{
		int64_t weights[4] = {10000, 0, 0, 0};

		for (int i = 1; i < 4; i++)
			weights[i] = (int64_t) (random_bits() % 3000) - 3000;
		holds = holds && spread_holds((int64_t) (random_bits() % 5000), weights, 4);
		weights[0] = -10000;
		holds = holds && spread_holds((int64_t) (random_bits() % 5000), weights, 4);
	}
	ok(holds, "credit lines take part with their sign");
}

/* ---- provider units ---- */

#define NONE INT64_MIN

static const struct
{
	const char *name;
	int64_t amount;
	int exponent;
	MoneyRule rule;
	MoneyStatus status;
	int64_t wire;  /* with MONEY_OK */
	int64_t lower; /* else, NONE where there is none */
	int64_t upper;
} wires[] = {
	{"USD 10.00", 1000, 2, {2, 1, 50, 99999999}, MONEY_OK, 1000, 0, 0},
	{"USD 0.50 is the minimum", 50, 2, {2, 1, 50, 99999999}, MONEY_OK, 50, 0, 0},
	{"USD 0.49 is below it", 49, 2, {2, 1, 50, 99999999}, MONEY_BELOW_MINIMUM, 0, NONE, 50},
	{"USD 999,999.99 is the maximum", 99999999, 2, {2, 1, 50, 99999999}, MONEY_OK, 99999999, 0, 0},
	{"USD 1,000,000.00 is above it",
	 100000000,
	 2,
	 {2, 1, 50, 99999999},
	 MONEY_ABOVE_MAXIMUM,
	 0,
	 99999999,
	 NONE},
	{"JPY 500", 500, 0, {0, 1, 50, INT64_MAX}, MONEY_OK, 500, 0, 0},
	{"UGX 5 is 500 on the wire", 5, 0, {2, 100, 0, INT64_MAX}, MONEY_OK, 500, 0, 0},
	{"BHD 1.230", 1230, 3, {3, 10, 0, INT64_MAX}, MONEY_OK, 1230, 0, 0},
	{"BHD 1.234 is between two steps",
	 1234,
	 3,
	 {3, 10, 0, INT64_MAX},
	 MONEY_OFF_STEP,
	 0,
	 1230,
	 1240},
	{"BHD -1.234 as well",
	 -1234,
	 3,
	 {3, 10, INT64_MIN, INT64_MAX},
	 MONEY_OFF_STEP,
	 0,
	 -1240,
	 -1230},
	{"MGA 500.00 without decimals on the wire",
	 50000,
	 2,
	 {0, 1, 0, INT64_MAX},
	 MONEY_OK,
	 500,
	 0,
	 0},
	{"MGA 500.20 has no wire amount",
	 50020,
	 2,
	 {0, 1, 0, INT64_MAX},
	 MONEY_OFF_STEP,
	 0,
	 50000,
	 50100},
	{"the minimum is rounded up to a step",
	 1,
	 3,
	 {3, 10, 5, 1000},
	 MONEY_BELOW_MINIMUM,
	 0,
	 NONE,
	 10},
	{"the maximum is rounded down to a step",
	 998,
	 3,
	 {3, 10, 0, 995},
	 MONEY_ABOVE_MAXIMUM,
	 0,
	 990,
	 NONE},
	{"above the maximum the nearest is far",
	 5000,
	 3,
	 {3, 10, 0, 995},
	 MONEY_ABOVE_MAXIMUM,
	 0,
	 990,
	 NONE},
	{"a step that shares a factor with the shift",
	 3,
	 0,
	 {2, 150, 0, INT64_MAX},
	 MONEY_OK,
	 300,
	 0,
	 0},
	{"and an amount off that step", 4, 0, {2, 150, 0, INT64_MAX}, MONEY_OFF_STEP, 0, 3, 6},
	{"too large once shifted",
	 INT64_MAX,
	 0,
	 {2, 1, 0, INT64_MAX},
	 MONEY_ABOVE_MAXIMUM,
	 0,
	 INT64_MAX / 100,
	 NONE},
	{"nothing fits", 7, 2, {2, 100, 10, 90}, MONEY_BELOW_MINIMUM, 0, NONE, NONE},
	{"0 is free", 0, 2, {2, 1, 0, 99999999}, MONEY_OK, 0, 0, 0},
	{"step 0 is invalid", 1, 2, {2, 0, 0, 10}, MONEY_INVALID, 0, NONE, NONE},
	{"exponent 13 is invalid", 1, 13, {2, 1, 0, 10}, MONEY_INVALID, 0, NONE, NONE},
	{"wire exponent -1 is invalid", 1, 2, {-1, 1, 0, 10}, MONEY_INVALID, 0, NONE, NONE},
};

static void
test_to_wire_table(void)
{
	for (int i = 0; i < COUNT(wires); i++)
	{
		MoneyWire out;
		MoneyStatus status = money_to_wire(wires[i].amount, wires[i].exponent, &wires[i].rule,
										   &out);
		bool right = status == wires[i].status;

		if (status == MONEY_OK)
			right = right && out.wire == wires[i].wire;
		else
			right = right && out.has_lower == (wires[i].lower != NONE) &&
					out.has_upper == (wires[i].upper != NONE) &&
					(!out.has_lower || out.lower == wires[i].lower) &&
					(!out.has_upper || out.upper == wires[i].upper);
		snprintf(label, sizeof(label), "to wire: %s", wires[i].name);
		ok(right, label);
	}
}

#define LOOK_AROUND 1000

/* A neighbour fits, and nothing close by between it and the refused amount does. */
static bool
neighbour_holds(int64_t amount, int64_t neighbour, int exponent, const MoneyRule *rule)
{
	MoneyWire out;
	int64_t step = neighbour < amount ? 1 : -1;

	if (money_to_wire(neighbour, exponent, rule, &out) != MONEY_OK)
		return false;
	for (int i = 1; i <= LOOK_AROUND && neighbour + i * step != amount; i++)
	{
		int64_t between = neighbour + i * step;

		if (money_to_wire(between, exponent, rule, &out) == MONEY_OK)
			return false;
	}
	return true;
}

static void
test_wire_properties(void)
{
	bool returns = true;
	bool near = true;
	bool inside = true;

	for (int i = 0; i < ROUNDS / 10; i++)
	{
		int exponent = (int) (random_bits() % 4);
		int64_t amount = (int64_t) (random_bits() % 4000) - 1000;
		int64_t back = 0;
		MoneyRule rule = {(int) (random_bits() % 4), 1 + (int64_t) (random_bits() % 120),
						  (int64_t) (random_bits() % 500), 0};
		MoneyWire out;

		rule.max = rule.min + (int64_t) (random_bits() % 100000);
		if (money_to_wire(amount, exponent, &rule, &out) == MONEY_OK)
		{
			returns = returns &&
					  money_from_wire(out.wire, rule.wire_exponent, exponent, &back) == MONEY_OK &&
					  back == amount;
			inside = inside && out.wire >= rule.min && out.wire <= rule.max &&
					 out.wire % rule.step == 0;
			continue;
		}
		near = near &&
			   (!out.has_lower ||
				(out.lower < amount && neighbour_holds(amount, out.lower, exponent, &rule))) &&
			   (!out.has_upper ||
				(out.upper > amount && neighbour_holds(amount, out.upper, exponent, &rule)));
	}
	ok(returns, "what goes out comes back the same");
	ok(inside, "what goes out keeps step, minimum and maximum");
	ok(near, "the neighbours fit and are the nearest");
}

static void
test_from_wire(void)
{
	int64_t amount = 0;

	ok(money_from_wire(500, 2, 0, &amount) == MONEY_OK && amount == 5, "500 on the wire is UGX 5");
	ok(money_from_wire(1250, 2, 0, &amount) == MONEY_INEXACT && amount == 13,
	   "UGX 12.50 is booked as 13 and said to be inexact");
	ok(money_from_wire(-1250, 2, 0, &amount) == MONEY_INEXACT && amount == -13,
	   "a refund of UGX 12.50 as well");
	ok(money_from_wire(-1000, 2, 2, &amount) == MONEY_OK && amount == -1000,
	   "negative refunds pass");
	ok(money_from_wire(500, 0, 2, &amount) == MONEY_OK && amount == 50000, "MGA 500");
	ok(money_from_wire(INT64_MAX, 0, 2, &amount) == MONEY_OVERFLOW, "too large for our units");
	ok(money_from_wire(INT64_MIN, 12, 0, &amount) == MONEY_INEXACT && amount == -9223372,
	   "the lowest wire amount");
	ok(money_from_wire(1, 13, 0, &amount) == MONEY_INVALID &&
		   money_from_wire(1, 0, -1, &amount) == MONEY_INVALID,
	   "exponents out of range");
}

/* ---- fractions ---- */

static MoneyFraction
fraction(const char *text)
{
	MoneyFraction out = {0};

	if (money_fraction_parse(text, strlen(text), &out) != MONEY_OK)
		printf("# cannot parse %s\n", text);
	return out;
}

static const struct
{
	const char *text;
	MoneyStatus status;
	const char *formatted;
} fraction_texts[] = {
	{"0", MONEY_OK, "0"},
	{"-0", MONEY_OK, "0"},
	{"12", MONEY_OK, "12"},
	{"007.50", MONEY_OK, "7.5"},
	{"-0.5", MONEY_OK, "-0.5"},
	{"0.000000000001", MONEY_OK, "0.000000000001"},
	{"100", MONEY_OK, "100"},
	{"170141183460469231731687303.715884105727", MONEY_OK,
	 "170141183460469231731687303.715884105727"},
	{"170141183460469231731687303.715884105728", MONEY_OVERFLOW, NULL},
	{"170141183460469231731687304", MONEY_OVERFLOW, NULL},
	{"99999999999999999999999999999999999999999", MONEY_OVERFLOW, NULL},
	{"0.0000000000001", MONEY_INVALID, NULL}, /* 13 decimals */
	{"", MONEY_INVALID, NULL},
	{"-", MONEY_INVALID, NULL},
	{".", MONEY_INVALID, NULL},
	{".5", MONEY_INVALID, NULL},
	{"5.", MONEY_INVALID, NULL},
	{"+5", MONEY_INVALID, NULL},
	{"1e3", MONEY_INVALID, NULL},
	{" 1", MONEY_INVALID, NULL},
	{"1 ", MONEY_INVALID, NULL},
	{"1,5", MONEY_INVALID, NULL},
	{"1.2.3", MONEY_INVALID, NULL},
	{"NaN", MONEY_INVALID, NULL},
	{"--1", MONEY_INVALID, NULL},
};

static void
test_fraction_texts(void)
{
	for (int i = 0; i < COUNT(fraction_texts); i++)
	{
		const char *text = fraction_texts[i].text;
		MoneyFraction value;
		char formatted[MONEY_TEXT_SIZE];
		MoneyStatus status = money_fraction_parse(text, strlen(text), &value);
		bool right = status == fraction_texts[i].status;

		if (right && status == MONEY_OK)
		{
			money_fraction_format(value, formatted);
			right = strcmp(formatted, fraction_texts[i].formatted) == 0;
		}
		snprintf(label, sizeof(label), "fraction \"%s\"", text);
		ok(right, label);
	}
}

static const struct
{
	const char *text;
	MoneyStatus status;
	int64_t wanted;
} roundings[] = {
	{"0.5", MONEY_OK, 1},
	{"-0.5", MONEY_OK, -1},
	{"0.499999999999", MONEY_OK, 0},
	{"-0.499999999999", MONEY_OK, 0},
	{"1.5", MONEY_OK, 2},
	{"2.5", MONEY_OK, 3},
	{"-2.5", MONEY_OK, -3},
	{"9223372036854775807.499999999999", MONEY_OK, INT64_MAX},
	{"9223372036854775807.5", MONEY_OVERFLOW, 0},
	{"-9223372036854775808.499999999999", MONEY_OK, INT64_MIN},
	{"-9223372036854775808.5", MONEY_OVERFLOW, 0},
};

static void
test_rounding(void)
{
	int64_t out = 0;

	for (int i = 0; i < COUNT(roundings); i++)
	{
		MoneyStatus status = money_round(fraction(roundings[i].text), &out);

		snprintf(label, sizeof(label), "rounds %s", roundings[i].text);
		ok(status == roundings[i].status && (status != MONEY_OK || out == roundings[i].wanted),
		   label);
	}
}

static bool
product_is(const char *price, const char *quantity, const char *wanted)
{
	MoneyFraction out;
	char text[MONEY_TEXT_SIZE];

	if (money_fraction_multiply(fraction(price), fraction(quantity), &out) != MONEY_OK)
		return wanted == NULL;
	money_fraction_format(out, text);
	return wanted != NULL && strcmp(text, wanted) == 0;
}

static void
test_multiply_table(void)
{
	ok(product_is("0.0025", "1000000", "2500"), "a quarter of a hundredth a million times");
	ok(product_is("0.000000000001", "1000000000000", "1"), "the finest price, 10^12 times");
	ok(product_is("1.5", "-2.5", "-3.75"), "quantities may have decimals and a sign");
	ok(product_is("0.000000000001", "0.5", "0"), "beyond the twelfth decimal is cut off");
	ok(product_is("0.999999999999", "0.500000000000", "0.499999999999"),
	   "cutting off does not turn 0.4999... into a half");
	ok(product_is("170141183460469231731687303.715884105727", "1",
				  "170141183460469231731687303.715884105727"),
	   "the largest value once");
	ok(product_is("170141183460469231731687303.715884105727", "1.000000000001", NULL),
	   "a little more overflows");
	ok(product_is("170141183460469231731687303", "170141183460469231731687303", NULL),
	   "its square overflows");
	ok(product_is("0", "-5", "0"), "nothing times anything");
}

static void
test_fraction_properties(void)
{
	bool product = true;
	bool sum = true;
	bool reads_back = true;
	bool integers = true;

	for (int i = 0; i < ROUNDS; i++)
	{
		MoneyFraction a = {random_amount()};
		MoneyFraction b = {random_amount()};
		MoneyFraction out = {0};
		MoneyFraction back = {0};
		MoneyInt128 exact = a.scaled * b.scaled;
		char text[MONEY_TEXT_SIZE];
		int64_t whole = random_amount();
		int64_t rounded = 0;

		product = product && money_fraction_multiply(a, b, &out) == MONEY_OK &&
				  out.scaled == exact / INT64_C(1000000000000);
		sum = sum && money_fraction_add(a, b, &out) == MONEY_OK &&
			  out.scaled == a.scaled + b.scaled;

		out.scaled = exact;
		money_fraction_format(out, text);
		reads_back = reads_back && money_fraction_parse(text, strlen(text), &back) == MONEY_OK &&
					 back.scaled == exact;
		integers = integers && money_round(money_fraction_from_int(whole), &rounded) == MONEY_OK &&
				   rounded == whole;
	}
	ok(product, "products agree with 128 bits, cut off toward zero");
	ok(sum, "sums agree with 128 bits");
	ok(reads_back, "a formatted fraction reads back");
	ok(integers, "every whole number survives as a fraction");
}

/* A product wider than 128 bits, done by adding: (a * 2^k) built by doubling. */
static void
test_wide_products(void)
{
	bool right = true;

	for (int i = 0; i < 1000; i++)
	{
		MoneyFraction price = {(MoneyInt128) random_amount() * 65536};
		MoneyFraction doubled = price;
		int doublings = (int) (random_bits() % 40);
		MoneyFraction out = {0};

		for (int k = 0; k < doublings; k++)
			right = right && money_fraction_add(doubled, doubled, &doubled) == MONEY_OK;
		right = right &&
				money_fraction_multiply(price, money_fraction_from_int(INT64_C(1) << doublings),
										&out) == MONEY_OK &&
				out.scaled == doubled.scaled;
	}
	ok(right, "multiplying by 2^k is doubling k times, beyond 128 bits in between");
}

static void
test_fraction_overflow(void)
{
	MoneyFraction large = fraction("170141183460469231731687303.715884105727");
	MoneyFraction finest = fraction("0.000000000001");
	MoneyFraction out = {7};

	ok(money_fraction_add(large, finest, &out) == MONEY_OVERFLOW && out.scaled == 7,
	   "an overflowing sum leaves its output alone");
}

static void
test_format(void)
{
	char text[MONEY_TEXT_SIZE];

	ok(money_format(-1205, 2, text) == MONEY_OK && strcmp(text, "-12.05") == 0, "-12.05");
	ok(money_format(5, 2, text) == MONEY_OK && strcmp(text, "0.05") == 0, "0.05");
	ok(money_format(0, 2, text) == MONEY_OK && strcmp(text, "0.00") == 0, "0.00");
	ok(money_format(500, 0, text) == MONEY_OK && strcmp(text, "500") == 0, "yen have no point");
	ok(money_format(0, 0, text) == MONEY_OK && strcmp(text, "0") == 0, "0");
	ok(money_format(INT64_MIN, 3, text) == MONEY_OK && strcmp(text, "-9223372036854775.808") == 0,
	   "the lowest amount");
	ok(money_format(1, 12, text) == MONEY_OK && strcmp(text, "0.000000000001") == 0,
	   "twelve decimals");
	ok(money_format(1, 13, text) == MONEY_INVALID && money_format(1, -1, text) == MONEY_INVALID &&
		   text[0] == '\0',
	   "exponents out of range");
}

/* ---- major units, parts and exact sums ---- */

static const struct
{
	const char *major;
	int exponent;
	const char *minor;
	const char *name;
} units[] = {
	{"12.5", 2, "1250", "12.50 dollars are 1250 cents"},
	{"0.000012", 2, "0.0012", "a price per call in dollars"},
	{"500", 0, "500", "500 yen are 500 yen"},
	{"0.75", 0, "0.75", "three quarters of a yen"},
	{"1.2345", 3, "1234.5", "1.2345 dinars are 1234.5 fils"},
	{"-0.5", 2, "-50", "minus half a dollar"},
	{"0.000000000001", 2, "0.0000000001", "the finest price in dollars"},
};

static void
test_major_units(void)
{
	MoneyFraction out = {7};
	char text[MONEY_TEXT_SIZE];

	for (int i = 0; i < COUNT(units); i++)
		ok(money_fraction_from_major(fraction(units[i].major), units[i].exponent, &out) ==
				   MONEY_OK &&
			   out.scaled == fraction(units[i].minor).scaled &&
			   money_fraction_format_major(out, units[i].exponent, text) == MONEY_OK &&
			   strcmp(text, units[i].major) == 0,
		   units[i].name);
	ok(money_fraction_format_major(fraction("0.000000000001"), 12, text) == MONEY_OK &&
		   strcmp(text, "0.000000000000000000000001") == 0,
	   "24 decimals can be written");
	out.scaled = 7;
	ok(money_fraction_from_major(fraction("1"), 13, &out) == MONEY_INVALID &&
		   money_fraction_from_major(fraction("1"), -1, &out) == MONEY_INVALID &&
		   money_fraction_format_major(fraction("1"), 13, text) == MONEY_INVALID,
	   "no currency has 13 decimals");
	ok(money_fraction_from_major(fraction("100000000000000000000000000"), 12, &out) ==
			   MONEY_OVERFLOW &&
		   out.scaled == 7,
	   "a price may overflow");
}

static const struct
{
	const char *fraction;
	int64_t numerator;
	int64_t denominator;
	int64_t wanted;
	const char *name;
} fraction_ratios[] = {
	{"1000.5", 1, 2, 500, "half of 1000.5 is 500.25"},
	{"1001", 1, 2, 501, "half of 1001 rounds up"},
	{"1000.999999999999", 1, 2, 500, "half of a little less does not"},
	{"0.499999999999", 1, 1, 0, "less than a half is none"},
	{"1000", 0, 31, 0, "nothing of it"},
	{"1000", 31, 31, 1000, "all of it"},
	{"1000", 2, 1, 2000, "and more"},
	{"0.333333333333", 3, 2, 0, "three halves of just less than a third"},
	{"0.333333333334", 3, 2, 1, "and of just more"},
	{"9223372036854775807", 31536000, 31536000, INT64_MAX, "a year of the largest amount"},
};

static void
test_fraction_ratio(void)
{
	int64_t out = 42;

	for (int i = 0; i < COUNT(fraction_ratios); i++)
		ok(money_fraction_ratio(fraction(fraction_ratios[i].fraction), fraction_ratios[i].numerator,
								fraction_ratios[i].denominator, &out) == MONEY_OK &&
			   out == fraction_ratios[i].wanted,
		   fraction_ratios[i].name);
	out = 42;
	ok(money_fraction_ratio(fraction("-1"), 1, 2, &out) == MONEY_INVALID &&
		   money_fraction_ratio(fraction("1"), -1, 2, &out) == MONEY_INVALID &&
		   money_fraction_ratio(fraction("1"), 1, 0, &out) == MONEY_INVALID,
	   "below zero there are no parts, nor of nothing");
	ok(money_fraction_ratio(fraction("9223372036854775807"), 2, 1, &out) == MONEY_OVERFLOW &&
		   money_fraction_ratio(fraction("100000000000000000000000000"), INT64_MAX, 1, &out) ==
			   MONEY_OVERFLOW &&
		   out == 42,
	   "a part may overflow");
}

static void
test_exact_sums(void)
{
	MoneyExact sum = {0, 0};
	MoneyExact edge = {0, 0};
	int64_t out = 0;
	bool same = true;

	/* 0.5 * 10^-12 and 0.5 * 0.999999999999 */
	ok(money_exact_add_product(&sum, fraction("0.000000000001"), fraction("0.5")) == MONEY_OK &&
		   money_exact_add_product(&sum, fraction("0.999999999999"), fraction("0.5")) == MONEY_OK &&
		   money_exact_round(sum, &out) == MONEY_OK && out == 1,
	   "what is cut off of two products makes a half");
	ok(money_exact_add_product(&sum, fraction("-0.000000000001"), fraction("0.000000000001")) ==
			   MONEY_OK &&
		   money_exact_round(sum, &out) == MONEY_OK && out == 0,
	   "and 10^-24 less does not");
	sum = (MoneyExact){0, 0};
	ok(money_exact_add_product(&sum, fraction("-0.5"), fraction("1")) == MONEY_OK &&
		   money_exact_round(sum, &out) == MONEY_OK && out == -1,
	   "minus a half rounds down");
	ok(money_exact_add_product(&sum, fraction("0.000000000001"), fraction("0.000000000001")) ==
			   MONEY_OK &&
		   money_exact_round(sum, &out) == MONEY_OK && out == 0,
	   "and 10^-24 more does not");

	for (int i = 0; i < ROUNDS; i++)
	{
		MoneyFraction a = {random_amount()};
		MoneyFraction b = {random_amount()};
		MoneyExact got = {0, 0};

		/* the product of two int64 has all 24 decimals in 128 bits */
		same = same && money_exact_add_product(&got, a, b) == MONEY_OK && got.rest >= 0 &&
			   got.rest < INT64_C(1000000000000) &&
			   got.scaled * INT64_C(1000000000000) + got.rest == a.scaled * b.scaled;
	}
	ok(same, "products agree with 128 bits");
	ok(money_exact_add_product(&edge, fraction("100000000000000000000000000"),
							   fraction("100000000000000000000000000")) == MONEY_OVERFLOW &&
		   edge.scaled == 0 && edge.rest == 0,
	   "a product may overflow");
}

int
main(void)
{
	seed_random();
	test_arithmetic();
	test_ratio();
	test_spread();
	test_to_wire_table();
	test_wire_properties();
	test_from_wire();
	test_fraction_texts();
	test_rounding();
	test_multiply_table();
	test_fraction_properties();
	test_wide_products();
	test_fraction_overflow();
	test_format();
	test_major_units();
	test_fraction_ratio();
	test_exact_sums();
	return done_testing();
}

/*
 * money.c
 *		Exact arithmetic on amounts, prices and provider units.
 *
 * Calls nothing; called by the subjects that add up invoices and payments, by
 * the rating of usage, and by the provider adapters, which are the only ones to
 * convert into wire units.  Intermediate values are __int128, where the product
 * of two int64 always fits, so that each function rounds at most once and
 * overflow is found before it happens.
 */
#include "money.h"

#include <string.h>

typedef unsigned __int128 Unsigned128;

#define FRACTION_ONE INT64_C(1000000000000) /* 10^12 */
#define INT128_MAX   ((MoneyInt128) (~(Unsigned128) 0 >> 1))

static MoneyStatus
narrow(MoneyInt128 value, int64_t *out)
{
	if (value > INT64_MAX || value < INT64_MIN)
		return MONEY_OVERFLOW;
	*out = (int64_t) value;
	return MONEY_OK;
}

static bool
exponent_is_valid(int exponent)
{
	return exponent >= 0 && exponent <= MONEY_EXPONENT_MAX;
}

static int64_t
power_of_ten(int exponent)
{
	int64_t power = 1;

	while (exponent-- > 0)
		power *= 10;
	return power;
}

MoneyInt128
money_divide_rounded(MoneyInt128 value, MoneyInt128 divisor)
{
	MoneyInt128 quotient = value / divisor;
	MoneyInt128 rest = value % divisor;

	if (rest < 0)
		rest = -rest;
	if (rest >= divisor - rest)
		quotient += value < 0 ? -1 : 1;
	return quotient;
}

/* Toward minus infinity; the divisor is positive. */
static MoneyInt128
divide_floor(MoneyInt128 value, MoneyInt128 divisor)
{
	MoneyInt128 quotient = value / divisor;

	return value % divisor < 0 ? quotient - 1 : quotient;
}

MoneyStatus
money_add(int64_t a, int64_t b, int64_t *out)
{
	return narrow((MoneyInt128) a + b, out);
}

MoneyStatus
money_sub(int64_t a, int64_t b, int64_t *out)
{
	return narrow((MoneyInt128) a - b, out);
}

MoneyStatus
money_mul(int64_t amount, int64_t factor, int64_t *out)
{
	return narrow((MoneyInt128) amount * factor, out);
}

MoneyStatus
money_ratio(int64_t amount, int64_t numerator, int64_t denominator, int64_t *out)
{
	if (denominator <= 0)
		return MONEY_INVALID;
	return narrow(money_divide_rounded((MoneyInt128) amount * numerator, denominator), out);
}

/* ---- spreading a total ---- */

/* A total, not negative, that is shared out by weights whose sum is positive. */
typedef struct Spread
{
	MoneyInt128 total;
	MoneyInt128 sum;
	int sign; /* of the weights, so that their sum is positive */
	const int64_t *weights;
	int count;
} Spread;

static MoneyInt128
spread_product(const Spread *spread, int i)
{
	return spread->total * spread->weights[i] * spread->sign;
}

static MoneyInt128
spread_share(const Spread *spread, int i)
{
	return divide_floor(spread_product(spread, i), spread->sum);
}

static MoneyInt128
spread_remainder(const Spread *spread, int i)
{
	return spread_product(spread, i) - spread_share(spread, i) * spread->sum;
}

static int
count_remainders_above(const Spread *spread, MoneyInt128 limit)
{
	int above = 0;

	for (int i = 0; i < spread->count; i++)
		above += spread_remainder(spread, i) > limit;
	return above;
}

/*
 * The smallest limit with no more than `wanted` remainders above it.  Found by
 * bisection: sorting would need memory, and this file allocates none.
 */
static MoneyInt128
remainder_limit(const Spread *spread, MoneyInt128 wanted)
{
	MoneyInt128 low = 0;
	MoneyInt128 high = spread->sum - 1;

	while (low < high)
	{
		MoneyInt128 middle = low + (high - low) / 2;

		if (count_remainders_above(spread, middle) <= wanted)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

MoneyStatus
money_spread(int64_t total, const int64_t *weights, int count, int64_t *parts)
{
	Spread spread = {total, 0, 1, weights, count};
	MoneyInt128 left = 0;
	MoneyInt128 limit;
	int sign = total < 0 ? -1 : 1;

	for (int i = 0; i < count; i++)
		spread.sum += weights[i];
	if (spread.sum == 0)
		return MONEY_INVALID;
	if (spread.sum < 0)
	{
		spread.sum = -spread.sum;
		spread.sign = -1;
	}
	spread.total *= sign;

	/* what the floors leave over; the floors themselves could overflow */
	for (int i = 0; i < count; i++)
		left += spread_remainder(&spread, i);
	left /= spread.sum;
	limit = remainder_limit(&spread, left);
	left -= count_remainders_above(&spread, limit);

	for (int i = 0; i < count; i++)
	{
		MoneyInt128 part = spread_share(&spread, i);
		MoneyInt128 remainder = spread_remainder(&spread, i);

		/* those above the limit get one more, and the first ones on it */
		if (remainder > limit)
			part++;
		else if (remainder == limit && left > 0)
		{
			part++;
			left--;
		}
		if (narrow(part * sign, &parts[i]) != MONEY_OK)
			return MONEY_OVERFLOW;
	}
	return MONEY_OK;
}

/* ---- provider units ---- */

static int64_t
greatest_common_divisor(int64_t a, int64_t b)
{
	while (b != 0)
	{
		int64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/*
 * The amounts that fit, in our minor units: the multiples of grain from first
 * to last.  wire = amount * up / down, with one of up and down being 1.
 */
typedef struct Grid
{
	MoneyInt128 up;
	MoneyInt128 down;
	MoneyInt128 grain;
	MoneyInt128 first;
	MoneyInt128 last;
} Grid;

static Grid
make_grid(int exponent, const MoneyRule *rule)
{
	Grid grid = {1, 1, 1, 0, 0};

	if (rule->wire_exponent >= exponent)
	{
		int64_t up = power_of_ten(rule->wire_exponent - exponent);

		grid.up = up;
		grid.grain = rule->step / greatest_common_divisor(rule->step, up);
	}
	else
	{
		grid.down = power_of_ten(exponent - rule->wire_exponent);
		grid.grain = grid.down * rule->step;
	}

	/* int64 * 10^12 stays far inside 128 bits */
	grid.first = -divide_floor(-(rule->min * grid.down), grid.up * grid.grain) * grid.grain;
	grid.last = divide_floor(rule->max * grid.down, grid.up * grid.grain) * grid.grain;
	return grid;
}

/* Our amounts are int64 too: a neighbour outside of that is none. */
static void
name_neighbours(MoneyInt128 amount, const Grid *grid, MoneyWire *out)
{
	MoneyInt128 lower = divide_floor(amount, grid->grain) * grid->grain;
	MoneyInt128 upper = -divide_floor(-amount, grid->grain) * grid->grain;

	if (lower > grid->last)
		lower = grid->last;
	if (upper < grid->first)
		upper = grid->first;
	out->has_lower = lower >= grid->first && lower <= amount &&
					 narrow(lower, &out->lower) == MONEY_OK;
	out->has_upper = upper <= grid->last && upper >= amount &&
					 narrow(upper, &out->upper) == MONEY_OK;
}

MoneyStatus
money_to_wire(int64_t amount, int exponent, const MoneyRule *rule, MoneyWire *out)
{
	Grid grid;

	memset(out, 0, sizeof(*out));
	if (!exponent_is_valid(exponent) || !exponent_is_valid(rule->wire_exponent) || rule->step < 1)
		return MONEY_INVALID;

	grid = make_grid(exponent, rule);
	if (amount >= grid.first && amount <= grid.last && amount % grid.grain == 0)
		return narrow(amount * grid.up / grid.down, &out->wire);

	name_neighbours(amount, &grid, out);
	if (amount < grid.first)
		return MONEY_BELOW_MINIMUM;
	return amount > grid.last ? MONEY_ABOVE_MAXIMUM : MONEY_OFF_STEP;
}

MoneyStatus
money_from_wire(int64_t wire, int wire_exponent, int exponent, int64_t *amount)
{
	MoneyInt128 divisor;

	if (!exponent_is_valid(exponent) || !exponent_is_valid(wire_exponent))
		return MONEY_INVALID;
	if (wire_exponent <= exponent)
		return narrow((MoneyInt128) wire * power_of_ten(exponent - wire_exponent), amount);

	divisor = power_of_ten(wire_exponent - exponent);
	*amount = (int64_t) money_divide_rounded(wire, divisor);
	return wire % divisor == 0 ? MONEY_OK : MONEY_INEXACT;
}

/* ---- fractions ---- */

MoneyFraction
money_fraction_from_int(int64_t value)
{
	MoneyFraction fraction = {(MoneyInt128) value * FRACTION_ONE};

	return fraction;
}

/* Appends one digit; false when the value leaves 127 bits. */
static bool
append_digit(MoneyInt128 *value, int digit)
{
	if (*value > (INT128_MAX - digit) / 10)
		return false;
	*value = *value * 10 + digit;
	return true;
}

/* Reads digits from *at on; *count tells how many there were. */
static MoneyStatus
read_digits(const char *text, size_t length, size_t *at, MoneyInt128 *value, int *count)
{
	*count = 0;
	while (*at < length && text[*at] >= '0' && text[*at] <= '9')
	{
		if (!append_digit(value, text[*at] - '0'))
			return MONEY_OVERFLOW;
		(*at)++;
		(*count)++;
	}
	return *count > 0 ? MONEY_OK : MONEY_INVALID;
}

MoneyStatus
money_fraction_parse(const char *text, size_t length, MoneyFraction *out)
{
	size_t at = 0;
	MoneyInt128 value = 0;
	int count;
	int decimals = 0;
	bool negative = length > 0 && text[0] == '-';
	MoneyStatus status;

	if (negative)
		at++;
	status = read_digits(text, length, &at, &value, &count);
	if (status == MONEY_OK && at < length && text[at] == '.')
	{
		at++;
		status = read_digits(text, length, &at, &value, &decimals);
	}
	if (status != MONEY_OK)
		return status;
	if (at != length || decimals > MONEY_FRACTION_DECIMALS)
		return MONEY_INVALID;

	while (decimals++ < MONEY_FRACTION_DECIMALS)
	{
		if (!append_digit(&value, 0))
			return MONEY_OVERFLOW;
	}
	out->scaled = negative ? -value : value;
	return MONEY_OK;
}

static Unsigned128
magnitude(MoneyInt128 value)
{
	return value < 0 ? -(Unsigned128) value : (Unsigned128) value;
}

/*
 * Writes value / 10^decimals with exactly that many decimals; returns the
 * length.  Digits come out last first, so they are written from the end.
 */
static size_t
write_decimal(MoneyInt128 value, int decimals, char out[MONEY_TEXT_SIZE])
{
	char reversed[MONEY_TEXT_SIZE];
	Unsigned128 rest = magnitude(value);
	size_t length = 0;

	for (int digit = 0; rest > 0 || digit <= decimals; digit++)
	{
		if (digit == decimals && decimals > 0)
			reversed[length++] = '.';
		reversed[length++] = '0' + (char) (rest % 10);
		rest /= 10;
	}
	if (value < 0)
		reversed[length++] = '-';

	for (size_t i = 0; i < length; i++)
		out[i] = reversed[length - 1 - i];
	out[length] = '\0';
	return length;
}

/* Without zeros at the end, and without a point there. */
static void
write_shortest(MoneyInt128 value, int decimals, char out[MONEY_TEXT_SIZE])
{
	size_t length = write_decimal(value, decimals, out);

	while (out[length - 1] == '0')
		length--;
	if (out[length - 1] == '.')
		length--;
	out[length] = '\0';
}

void
money_fraction_format(MoneyFraction fraction, char out[MONEY_TEXT_SIZE])
{
	write_shortest(fraction.scaled, MONEY_FRACTION_DECIMALS, out);
}

MoneyStatus
money_fraction_from_major(MoneyFraction major, int exponent, MoneyFraction *out)
{
	MoneyInt128 minor;

	if (!exponent_is_valid(exponent))
		return MONEY_INVALID;
	if (__builtin_mul_overflow(major.scaled, (MoneyInt128) power_of_ten(exponent), &minor))
		return MONEY_OVERFLOW;
	out->scaled = minor;
	return MONEY_OK;
}

MoneyStatus
money_fraction_format_major(MoneyFraction fraction, int exponent, char out[MONEY_TEXT_SIZE])
{
	out[0] = '\0';
	if (!exponent_is_valid(exponent))
		return MONEY_INVALID;
	write_shortest(fraction.scaled, MONEY_FRACTION_DECIMALS + exponent, out);
	return MONEY_OK;
}

MoneyStatus
money_fraction_add(MoneyFraction a, MoneyFraction b, MoneyFraction *out)
{
	MoneyInt128 sum;

	if (__builtin_add_overflow(a.scaled, b.scaled, &sum))
		return MONEY_OVERFLOW;
	out->scaled = sum;
	return MONEY_OK;
}

/*
 * a * b / 10^12, cut off, and what was cut off.  The product has up to 256
 * bits: it is held in four 64-bit limbs, lowest first, and divided limb by limb
 * from the top.
 */
static bool
multiply_and_scale(Unsigned128 a, Unsigned128 b, Unsigned128 *out, int64_t *cut)
{
	uint64_t left[2] = {(uint64_t) a, (uint64_t) (a >> 64)};
	uint64_t right[2] = {(uint64_t) b, (uint64_t) (b >> 64)};
	uint64_t product[4] = {0, 0, 0, 0};
	Unsigned128 rest = 0;

	for (int i = 0; i < 2; i++)
	{
		Unsigned128 carry = 0;

		for (int j = 0; j < 2; j++)
		{
			carry += (Unsigned128) left[i] * right[j] + product[i + j];
			product[i + j] = (uint64_t) carry;
			carry >>= 64;
		}
		product[i + 2] = (uint64_t) carry;
	}
	for (int i = 3; i >= 0; i--)
	{
		rest = rest << 64 | product[i];
		product[i] = (uint64_t) (rest / FRACTION_ONE);
		rest %= FRACTION_ONE;
	}
	*out = (Unsigned128) product[1] << 64 | product[0];
	*cut = (int64_t) rest;
	return product[3] == 0 && product[2] == 0;
}

MoneyStatus
money_fraction_multiply(MoneyFraction price, MoneyFraction quantity, MoneyFraction *out)
{
	Unsigned128 product;
	int64_t cut;

	if (!multiply_and_scale(magnitude(price.scaled), magnitude(quantity.scaled), &product, &cut) ||
		product > (Unsigned128) INT128_MAX)
		return MONEY_OVERFLOW;
	out->scaled = (MoneyInt128) product;
	if ((price.scaled < 0) != (quantity.scaled < 0))
		out->scaled = -out->scaled;
	return MONEY_OK;
}

MoneyStatus
money_round(MoneyFraction fraction, int64_t *out)
{
	return narrow(money_divide_rounded(fraction.scaled, FRACTION_ONE), out);
}

/*
 * f * n / d = (f / d) * n + (f % d) * n / d: only the first product can leave
 * 128 bits.  What the division of the second cuts off is less than 10^-12 and
 * cannot lift the value over a half.
 */
MoneyStatus
money_fraction_ratio(MoneyFraction fraction, int64_t numerator, int64_t denominator, int64_t *out)
{
	MoneyInt128 scaled;

	if (fraction.scaled < 0 || numerator < 0 || denominator <= 0)
		return MONEY_INVALID;
	if (__builtin_mul_overflow(fraction.scaled / denominator, (MoneyInt128) numerator, &scaled) ||
		__builtin_add_overflow(scaled, fraction.scaled % denominator * numerator / denominator,
							   &scaled))
		return MONEY_OVERFLOW;
	return narrow(money_divide_rounded(scaled, FRACTION_ONE), out);
}

/* ---- exact sums ---- */

MoneyStatus
money_exact_add_product(MoneyExact *sum, MoneyFraction price, MoneyFraction quantity)
{
	MoneyExact product;
	Unsigned128 size;

	if (!multiply_and_scale(magnitude(price.scaled), magnitude(quantity.scaled), &size,
							&product.rest) ||
		size >= (Unsigned128) INT128_MAX)
		return MONEY_OVERFLOW;
	product.scaled = (MoneyInt128) size;
	if ((price.scaled < 0) != (quantity.scaled < 0))
	{
		/* a rest is never negative, so it is taken from the next lower value */
		product.scaled = -product.scaled - (product.rest > 0);
		product.rest = product.rest > 0 ? FRACTION_ONE - product.rest : 0;
	}

	product.rest += sum->rest;
	product.scaled += product.rest / FRACTION_ONE;
	product.rest %= FRACTION_ONE;
	if (__builtin_add_overflow(product.scaled, sum->scaled, &product.scaled))
		return MONEY_OVERFLOW;
	*sum = product;
	return MONEY_OK;
}

/* Above zero a rest cannot make a half; below, it makes one a little less than a half. */
MoneyStatus
money_exact_round(MoneyExact exact, int64_t *out)
{
	if (exact.scaled < 0 && exact.rest > 0)
		exact.scaled++;
	return narrow(money_divide_rounded(exact.scaled, FRACTION_ONE), out);
}

MoneyStatus
money_format(int64_t amount, int exponent, char out[MONEY_TEXT_SIZE])
{
	out[0] = '\0';
	if (!exponent_is_valid(exponent))
		return MONEY_INVALID;
	write_decimal(amount, exponent, out);
	return MONEY_OK;
}

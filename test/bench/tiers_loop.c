/*
 * tiers_loop.c
 *		How many quantities a second are rated against a graduated price of five
 *		tiers, for the bench: tiers_loop MODE COUNT, with MODE
 *
 *			amount	their amounts
 *			lines	their amounts with the lines of an invoice
 *
 * Quantities are spread over all tiers by chance from a fixed seed.  Prints the
 * rate, and how many tiers a quantity went through on average.
 */
#include "rating.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIERS      5
#define QUANTITIES 65536

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static MoneyFraction
fraction(const char *text)
{
	MoneyFraction made = {0};

	if (money_fraction_parse(text, strlen(text), &made) != MONEY_OK)
		exit(2);
	return made;
}

/* Bounds 1,000, 10,000, 100,000, 1,000,000; a quantity has three decimals. */
static void
prepare(PriceTier *tiers, RatedPrice *price, MoneyFraction *quantities)
{
	static const char *const bounds[TIERS] = {"1000", "10000", "100000", "1000000", "0"};
	static const char *const prices[TIERS] = {"1", "0.8", "0.5", "0.25", "0.1"};
	uint64_t state = 42;
	uint64_t range = 100000;

	*price = (RatedPrice){.model = PRICE_GRADUATED, .tiers = tiers, .tier_count = TIERS};
	for (int i = 0; i < TIERS; i++)
		tiers[i] = (PriceTier){.up_to = fraction(bounds[i]),
							   .unbounded = i == TIERS - 1,
							   .unit_price = fraction(prices[i])};
	if (price_prepare(price) != RATING_OK)
		exit(2);
	for (int i = 0; i < QUANTITIES; i++)
	{
		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		range = range == UINT64_C(1000000000) ? 1000000 : range * 10;
		quantities[i].scaled = (MoneyInt128) (state % range) * 1000000000;
	}
}

static RatingStatus
rate(const RatedPrice *price, MoneyFraction quantity, int with_lines, int64_t *amount, int *count)
{
	RatedLine lines[RATING_LINES(TIERS)];

	if (with_lines)
		return price_lines(price, quantity, lines, RATING_LINES(TIERS), count, amount);
	return price_amount(price, quantity, amount);
}

static double
tiers_passed(const PriceTier *tiers, const MoneyFraction *quantities)
{
	int64_t passed = 0;

	for (int i = 0; i < QUANTITIES; i++)
	{
		int tier = 0;

		while (!tiers[tier].unbounded && quantities[i].scaled > tiers[tier].up_to.scaled)
			tier++;
		passed += tier + 1;
	}
	return (double) passed / QUANTITIES;
}

int
main(int argc, char **argv)
{
	static MoneyFraction quantities[QUANTITIES];
	PriceTier tiers[TIERS];
	RatedPrice price;
	int with_lines;
	int rounds;
	uint64_t sum = 0;
	double start;

	if (argc != 3)
		return 2;
	with_lines = strcmp(argv[1], "lines") == 0;
	rounds = atoi(argv[2]);
	prepare(tiers, &price, quantities);

	start = seconds();
	for (int i = 0; i < rounds; i++)
	{
		int64_t amount = 0;
		int count = 0;

		if (rate(&price, quantities[i % QUANTITIES], with_lines, &amount, &count) != RATING_OK)
			return 1;
		sum += (uint64_t) amount;
	}
	printf("%.0f %.2f\n", rounds / (seconds() - start), tiers_passed(tiers, quantities));
	fprintf(stderr, "tiers_loop: the amounts add up to %llu\n", (unsigned long long) sum);
	return 0;
}

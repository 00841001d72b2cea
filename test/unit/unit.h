/*
 * unit.h
 *		A test program prints one TAP line per rule and its plan at the end.
 */
#ifndef JANUA_BILLING_UNIT_H
#define JANUA_BILLING_UNIT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int unit_count = 0;
static int unit_failures = 0;
static uint64_t unit_state = 0;

static inline bool
ok(bool passed, const char *name)
{
	unit_count++;
	unit_failures += !passed;
	printf("%sok %d - %s\n", passed ? "" : "not ", unit_count, name);
	return passed;
}

static inline int
done_testing(void)
{
	printf("1..%d\n", unit_count);
	return unit_failures > 0;
}

/* Chance that can be had again: the seed is printed and taken from SEED. */
static inline void
seed_random(void)
{
	const char *given = getenv("SEED");

	unit_state = given ? strtoull(given, NULL, 10) : (uint64_t) time(NULL);
	printf("# SEED=%llu\n", (unsigned long long) unit_state);
}

static inline uint64_t
random_bits(void)
{
	uint64_t z = (unit_state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

#endif /* JANUA_BILLING_UNIT_H */

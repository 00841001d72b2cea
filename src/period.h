/*
 * period.h
 *		Billing periods: the calendar of recurring charges.
 *
 * All periods of a subscription follow from three values, its rule: an anchor,
 * an interval, and how many intervals make one period.  Boundary n lies n
 * periods after the anchor and is always computed from the anchor, never from
 * the boundary before: monthly from January 31st is February 28th (or 29th),
 * March 31st, April 30th.  Periods are half-open, [start, end), so that every
 * moment lies in exactly one.
 *
 * Plain C values in and out: no postgres.h, no SQL, no memory, no clock.
 * Moments are unix seconds, the calendar is the proleptic Gregorian one in
 * UTC.  Functions that return bool return false, and leave their outputs
 * alone, when a value or the result is outside the limits below.
 */
#ifndef JANUA_BILLING_PERIOD_H
#define JANUA_BILLING_PERIOD_H

#include <stdbool.h>
#include <stdint.h>

/* Years 1 to 9999: what ISO 8601 and every provider can write. */
#define PERIOD_MIN_TIME INT64_C(-62135596800) /* 0001-01-01, inclusive */
#define PERIOD_END_TIME INT64_C(253402300800) /* 10000-01-01, exclusive */

/* More intervals than this in one period is a mistake (100 years of days). */
#define PERIOD_MAX_COUNT 36525

#define PERIOD_SECONDS_PER_DAY INT64_C(86400)

typedef enum PeriodInterval
{
	PERIOD_DAY, /* 24 hours: UTC has no others */
	PERIOD_WEEK,
	PERIOD_MONTH,
	PERIOD_YEAR
} PeriodInterval;

typedef struct PeriodRule
{
	int64_t anchor;
	PeriodInterval interval;
	int32_t count; /* intervals per period, 1 to PERIOD_MAX_COUNT */
} PeriodRule;

typedef struct Period
{
	int64_t start; /* inclusive */
	int64_t end;   /* exclusive */
} Period;

/* "day", "week", "month", "year" and back; false for any other name. */
extern bool period_interval_by_name(const char *name, PeriodInterval *interval);
extern const char *period_interval_name(PeriodInterval interval);

/* The boundary n periods after the anchor; n may be negative. */
extern bool period_boundary(const PeriodRule *rule, int64_t n, int64_t *boundary);

/* The period in which the moment lies; also before the anchor. */
extern bool period_at(const PeriodRule *rule, int64_t moment, Period *period);

/* Year of the moment in UTC. */
extern bool period_year(int64_t moment, int *year);

#endif /* JANUA_BILLING_PERIOD_H */

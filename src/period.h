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
 * Days and months are those of the customer's zone (local_time.h), so that a
 * period begins at the same time by his clock, summer and winter; the functions
 * without a zone count in UTC.  A day that a zone left out (Samoa had no
 * December 30th 2011) is a period of no length.
 *
 * Plain C values in and out: no postgres.h, no SQL, no memory, no clock.
 * Moments are unix seconds, the calendar is the proleptic Gregorian one.
 * Functions that return bool return false when a value or the result is outside
 * the limits below; no function touches its outputs when it fails.
 */
#ifndef JANUA_BILLING_PERIOD_H
#define JANUA_BILLING_PERIOD_H

#include <stdbool.h>
#include <stdint.h>

#include "local_time.h"

#define PERIOD_MIN_TIME LOCAL_TIME_MIN
#define PERIOD_END_TIME LOCAL_TIME_END

/* More intervals than this in one period is a mistake (100 years of days). */
#define PERIOD_MAX_COUNT 36525

#define PERIOD_SECONDS_PER_DAY SECONDS_PER_DAY

typedef enum PeriodStatus
{
	PERIOD_OK,
	PERIOD_BAD_RULE,     /* anchor, interval or count outside the limits */
	PERIOD_OUT_OF_RANGE, /* the moment or the result is outside years 1 to 9999 */
	PERIOD_BAD_ZONE,     /* the zone tells offsets that no clock has */
	PERIOD_BEFORE_START  /* the schedule starts later */
} PeriodStatus;

typedef enum PeriodInterval
{
	PERIOD_DAY, /* of the zone: 23 or 25 hours when its clocks change */
	PERIOD_WEEK,
	PERIOD_MONTH,
	PERIOD_YEAR,
	PERIOD_QUARTER
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

/* "day", "week", "month", "quarter", "year" and back; false for any other name. */
extern bool period_interval_by_name(const char *name, PeriodInterval *interval);
extern const char *period_interval_name(PeriodInterval interval);

/* The boundary n periods after the anchor; n may be negative.  In UTC. */
extern bool period_boundary(const PeriodRule *rule, int64_t n, int64_t *boundary);

/* The period in which the moment lies; also before the anchor.  In UTC. */
extern bool period_at(const PeriodRule *rule, int64_t moment, Period *period);

/* Year of the moment in UTC. */
extern bool period_year(int64_t moment, int *year);

/* The same two in a zone (NULL is UTC). */
extern PeriodStatus period_boundary_in(const PeriodRule *rule, const LocalZone *zone, int64_t n,
									   int64_t *boundary);
extern PeriodStatus period_at_in(const PeriodRule *rule, const LocalZone *zone, int64_t moment,
								 Period *period);

/*
 * When a subscription is billed: periods by its rule, from a start that need
 * not be a boundary.  With anniversary billing the anchor is the start, or the
 * end of the trial.  Otherwise the first period is a part: from the start to
 * the first boundary after it.
 */
typedef struct PeriodSchedule
{
	PeriodRule rule;
	const LocalZone *zone; /* NULL is UTC */
	int64_t start;
} PeriodSchedule;

typedef struct BillingPeriod
{
	int64_t number; /* 0 is the first */
	Period billed;
	Period full; /* the whole that a first part is a part of; else the same */
} BillingPeriod;

/*
 * The anchor of calendar billing: the beginning of the day, the week (Monday),
 * the month, the quarter (January, April, July, October) or the year in which
 * the moment lies.  Several intervals count from there on.
 */
extern PeriodStatus period_calendar_anchor(PeriodInterval interval, const LocalZone *zone,
										   int64_t moment, int64_t *anchor);

/* Period number n, not negative; of no length where the zone left its days out. */
extern PeriodStatus period_numbered(const PeriodSchedule *schedule, int64_t n,
									BillingPeriod *period);

/* The period in which the moment lies.  It always has a length. */
extern PeriodStatus period_of(const PeriodSchedule *schedule, int64_t moment,
							  BillingPeriod *period);

/* The period that begins where this one ends, and the one that ends where it begins. */
extern PeriodStatus period_next(const PeriodSchedule *schedule, const BillingPeriod *period,
								BillingPeriod *next);
extern PeriodStatus period_previous(const PeriodSchedule *schedule, const BillingPeriod *period,
									BillingPeriod *previous);

#endif /* JANUA_BILLING_PERIOD_H */

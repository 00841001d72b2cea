/*
 * local_time.h
 *		Dates, and the clock on a customer's wall.
 *
 * A moment is a number of unix seconds.  A local time is what a wall clock
 * shows at some place, as the seconds that UTC would count at that reading: so
 * a day number is local time / 86400, and 1970-01-01 is day 0.  Between the two
 * stands the place's offset from UTC, which changes; who knows the tz database
 * (PostgreSQL, a test) hands the offset in as a function.
 *
 * Where clocks are set forward some readings do not exist, where they are set
 * back some come twice.  Both are read as PostgreSQL reads AT TIME ZONE: a
 * reading that was left out counts by the offset before the change (02:30
 * becomes 03:30), one that comes twice is the later of the two.
 *
 * Pure: no memory, no clock, no locale.  The calendar is the proleptic
 * Gregorian one.
 */
#ifndef JANUA_BILLING_LOCAL_TIME_H
#define JANUA_BILLING_LOCAL_TIME_H

#include <stdbool.h>
#include <stdint.h>

/* Years 1 to 9999: what ISO 8601 and every provider can write. */
#define LOCAL_TIME_MIN INT64_C(-62135596800) /* 0001-01-01, inclusive */
#define LOCAL_TIME_END INT64_C(253402300800) /* 10000-01-01, exclusive */

#define SECONDS_PER_DAY INT64_C(86400)

/*
 * Seconds east of UTC at a moment: west of Greenwich they are negative.  More
 * than a day is no offset; the tz database ends below 16 hours.
 */
typedef int32_t (*ZoneOffset)(const void *data, int64_t moment);

/* NULL in place of a zone is UTC. */
typedef struct LocalZone
{
	ZoneOffset offset_at;
	const void *data;
} LocalZone;

typedef struct CivilDate
{
	int64_t year;
	int month; /* 1 to 12 */
	int day;   /* 1 to 31 */
} CivilDate;

/* Division that rounds down, also for negative numbers; the divisor is positive. */
extern int64_t floor_div(int64_t dividend, int64_t divisor);

/* Days since 1970-01-01, and back. */
extern int64_t civil_to_day(const CivilDate *date);
extern CivilDate civil_from_day(int64_t day);
extern int civil_days_in_month(int64_t year, int month);

extern bool moment_in_range(int64_t moment);

/*
 * These return false, and leave their output alone, when the moment or the
 * result is outside the limits or the zone tells an offset that is none.
 */
extern bool local_from_moment(const LocalZone *zone, int64_t moment, int64_t *local);
extern bool local_to_moment(const LocalZone *zone, int64_t local, int64_t *moment);

/* The number of the local day in which the moment lies. */
extern bool local_day(const LocalZone *zone, int64_t moment, int64_t *day);

#endif /* JANUA_BILLING_LOCAL_TIME_H */

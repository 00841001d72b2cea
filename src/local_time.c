/*
 * local_time.c
 *		Dates, and the clock on a customer's wall.
 *
 * See local_time.h.  Called by period.c and proration.c; calls nothing but the
 * offset function that it is given.  The conversions between days and dates are
 * the usual ones that count years from March 1st, so that the leap day is the
 * last of its year.
 */
#include "local_time.h"

#include <stddef.h>

int64_t
floor_div(int64_t dividend, int64_t divisor)
{
	int64_t quotient = dividend / divisor;

	return dividend % divisor < 0 ? quotient - 1 : quotient;
}

bool
moment_in_range(int64_t moment)
{
	return moment >= LOCAL_TIME_MIN && moment < LOCAL_TIME_END;
}

/* ---- the calendar ---- */

int64_t
civil_to_day(const CivilDate *date)
{
	int64_t year = date->month <= 2 ? date->year - 1 : date->year;
	int64_t era = floor_div(year, 400);
	int64_t year_of_era = year - era * 400;
	int64_t month_from_march = (date->month + 9) % 12;
	int64_t day_of_year = (153 * month_from_march + 2) / 5 + date->day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return era * 146097 + day_of_era - 719468;
}

CivilDate
civil_from_day(int64_t day)
{
	int64_t shifted = day + 719468; /* days since 0000-03-01 */
	int64_t era = floor_div(shifted, 146097);
	int64_t day_of_era = shifted - era * 146097;
	int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 -
						   day_of_era / 146096) /
						  365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t month_from_march = (5 * day_of_year + 2) / 153;
	CivilDate date;

	date.day = (int) (day_of_year - (153 * month_from_march + 2) / 5 + 1);
	date.month = (int) (month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
	date.year = era * 400 + year_of_era + (date.month <= 2 ? 1 : 0);
	return date;
}

int
civil_days_in_month(int64_t year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month == 2 && leap ? 29 : days[month - 1];
}

/* ---- the wall clock ---- */

static bool
offset_at(const LocalZone *zone, int64_t moment, int64_t *offset)
{
	*offset = zone->offset_at(zone->data, moment);
	return *offset >= -SECONDS_PER_DAY && *offset <= SECONDS_PER_DAY;
}

bool
local_from_moment(const LocalZone *zone, int64_t moment, int64_t *local)
{
	int64_t offset = 0;

	if (!moment_in_range(moment) || (zone != NULL && !offset_at(zone, moment, &offset)))
		return false;
	*local = moment + offset;
	return true;
}

/*
 * The moment by this offset, if the clock really shows the reading then.  A
 * later one that was found already is kept.
 */
static bool
try_offset(const LocalZone *zone, int64_t local, int64_t offset, bool *found, int64_t *moment)
{
	int64_t real;

	if (!offset_at(zone, local - offset, &real))
		return false;
	if (real == offset && (!*found || local - offset > *moment))
	{
		*found = true;
		*moment = local - offset;
	}
	return true;
}

/*
 * The offsets that can be meant are those of a day before and a day after; one
 * that holds for less than that, between two changes, is met on the way.
 */
static bool
find_moment(const LocalZone *zone, int64_t local, int64_t *moment)
{
	int64_t before;
	int64_t after;
	int64_t between;
	bool found = false;

	if (!offset_at(zone, local - SECONDS_PER_DAY, &before) ||
		!offset_at(zone, local + SECONDS_PER_DAY, &after) ||
		!try_offset(zone, local, before, &found, moment))
		return false;
	if (before == after && found)
		return true;

	if (!try_offset(zone, local, after, &found, moment) ||
		!offset_at(zone, local - before, &between) ||
		!try_offset(zone, local, between, &found, moment) ||
		!offset_at(zone, local - after, &between) ||
		!try_offset(zone, local, between, &found, moment))
		return false;
	if (!found)
		*moment = local - before;
	return true;
}

bool
local_to_moment(const LocalZone *zone, int64_t local, int64_t *moment)
{
	int64_t result = local;

	/* keeps what is added to local far from the ends of int64 */
	if (local < LOCAL_TIME_MIN - SECONDS_PER_DAY || local >= LOCAL_TIME_END + SECONDS_PER_DAY)
		return false;
	if ((zone != NULL && !find_moment(zone, local, &result)) || !moment_in_range(result))
		return false;
	*moment = result;
	return true;
}

bool
local_day(const LocalZone *zone, int64_t moment, int64_t *day)
{
	int64_t local;

	if (!local_from_moment(zone, moment, &local))
		return false;
	*day = floor_div(local, SECONDS_PER_DAY);
	return true;
}

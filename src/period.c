/*
 * period.c
 *		Billing periods: the calendar of recurring charges.
 *
 * See period.h.  Called by the billing engine and by the sandbox; calls
 * nothing.  The conversions between days and dates are the usual ones that
 * count years from March 1st, so that the leap day is the last of its year.
 */
#include "period.h"

#include <stddef.h>
#include <string.h>

typedef struct CivilDate
{
	int64_t year;
	int month; /* 1 to 12 */
	int day;   /* 1 to 31 */
} CivilDate;

static const char *const interval_names[] = {
	[PERIOD_DAY] = "day",
	[PERIOD_WEEK] = "week",
	[PERIOD_MONTH] = "month",
	[PERIOD_YEAR] = "year",
};

#define INTERVAL_COUNT ((int) (sizeof(interval_names) / sizeof(interval_names[0])))

bool
period_interval_by_name(const char *name, PeriodInterval *interval)
{
	for (int i = 0; name != NULL && i < INTERVAL_COUNT; i++)
	{
		if (strcmp(interval_names[i], name) == 0)
		{
			*interval = (PeriodInterval) i;
			return true;
		}
	}
	return false;
}

const char *
period_interval_name(PeriodInterval interval)
{
	return interval_names[interval];
}

static bool
in_range(int64_t moment)
{
	return moment >= PERIOD_MIN_TIME && moment < PERIOD_END_TIME;
}

static bool
valid_rule(const PeriodRule *rule)
{
	return in_range(rule->anchor) && (int) rule->interval >= 0 &&
		   (int) rule->interval < INTERVAL_COUNT && rule->count >= 1 &&
		   rule->count <= PERIOD_MAX_COUNT;
}

/* Division that rounds down, also for negative numbers. */
static int64_t
floor_div(int64_t dividend, int64_t divisor)
{
	int64_t quotient = dividend / divisor;

	return dividend % divisor < 0 ? quotient - 1 : quotient;
}

/* Days since 1970-01-01 of a date of the years 1 to 9999. */
static int64_t
days_from_date(const CivilDate *date)
{
	int64_t year = date->month <= 2 ? date->year - 1 : date->year;
	int64_t era = floor_div(year, 400);
	int64_t year_of_era = year - era * 400;
	int64_t month_from_march = (date->month + 9) % 12;
	int64_t day_of_year = (153 * month_from_march + 2) / 5 + date->day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return era * 146097 + day_of_era - 719468;
}

static CivilDate
date_from_days(int64_t days)
{
	int64_t shifted = days + 719468; /* days since 0000-03-01 */
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

static int
days_in_month(int64_t year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month == 2 && leap ? 29 : days[month - 1];
}

/*
 * Moves a moment by whole months; the day of the month stays, or becomes the
 * month's last when there is no such day.
 */
static bool
add_months(int64_t moment, int64_t months, int64_t *result)
{
	int64_t days = floor_div(moment, PERIOD_SECONDS_PER_DAY);
	int64_t time_of_day = moment - days * PERIOD_SECONDS_PER_DAY;
	CivilDate date = date_from_days(days);
	int64_t month_number;
	int last_day;

	if (__builtin_add_overflow(date.year * 12 + date.month - 1, months, &month_number))
		return false;
	if (month_number < 12 || month_number >= 10000 * 12)
		return false;

	date.year = month_number / 12;
	date.month = (int) (month_number % 12) + 1;
	last_day = days_in_month(date.year, date.month);
	if (date.day > last_day)
		date.day = last_day;

	*result = days_from_date(&date) * PERIOD_SECONDS_PER_DAY + time_of_day;
	return true;
}

static bool
is_monthly(PeriodInterval interval)
{
	return interval == PERIOD_MONTH || interval == PERIOD_YEAR;
}

/* The length of one period: in months for months and years, else in seconds. */
static int64_t
period_length(const PeriodRule *rule)
{
	switch (rule->interval)
	{
		case PERIOD_DAY:
			return rule->count * PERIOD_SECONDS_PER_DAY;
		case PERIOD_WEEK:
			return rule->count * 7 * PERIOD_SECONDS_PER_DAY;
		case PERIOD_MONTH:
			return rule->count;
		case PERIOD_YEAR:
			return rule->count * INT64_C(12);
	}
	return 0;
}

bool
period_boundary(const PeriodRule *rule, int64_t n, int64_t *boundary)
{
	int64_t distance;
	int64_t moment;

	if (!valid_rule(rule) || __builtin_mul_overflow(period_length(rule), n, &distance))
		return false;

	if (is_monthly(rule->interval))
	{
		if (!add_months(rule->anchor, distance, &moment))
			return false;
	}
	else if (__builtin_add_overflow(rule->anchor, distance, &moment))
		return false;

	if (!in_range(moment))
		return false;
	*boundary = moment;
	return true;
}

/*
 * The index of the period in which the moment lies.  With months the first
 * guess counts calendar months only, so it can be one too high: when the
 * moment lies before the anchor's day or time in its month.
 */
static bool
period_index(const PeriodRule *rule, int64_t moment, int64_t *index)
{
	CivilDate from = date_from_days(floor_div(rule->anchor, PERIOD_SECONDS_PER_DAY));
	CivilDate to = date_from_days(floor_div(moment, PERIOD_SECONDS_PER_DAY));
	int64_t distance = moment - rule->anchor;
	int64_t boundary;

	if (!is_monthly(rule->interval))
	{
		*index = floor_div(distance, period_length(rule));
		return true;
	}

	distance = (to.year - from.year) * 12 + to.month - from.month;
	*index = floor_div(distance, period_length(rule));
	if (!period_boundary(rule, *index, &boundary))
		return false;
	if (boundary > moment)
		*index -= 1;
	return true;
}

bool
period_at(const PeriodRule *rule, int64_t moment, Period *period)
{
	int64_t index;
	Period found;

	if (!valid_rule(rule) || !in_range(moment) || !period_index(rule, moment, &index))
		return false;
	if (!period_boundary(rule, index, &found.start) ||
		!period_boundary(rule, index + 1, &found.end))
		return false;

	*period = found;
	return true;
}

bool
period_year(int64_t moment, int *year)
{
	if (!in_range(moment))
		return false;
	*year = (int) date_from_days(floor_div(moment, PERIOD_SECONDS_PER_DAY)).year;
	return true;
}

/*
 * test_period.c
 *		The calendar of billing periods against dates that a person can check,
 *		against the C library's own calendar, and against its own rules.
 */
/* timegm() and gmtime_r() are not C11 */
#define _DEFAULT_SOURCE

#include "period.h"

#include "unit.h"

static char label[200];

/* Moment of a date and time of day in UTC, by the C library. */
static int64_t
utc(int year, int month, int day, int hour, int minute)
{
	struct tm parts = {0};

	parts.tm_year = year - 1900;
	parts.tm_mon = month - 1;
	parts.tm_mday = day;
	parts.tm_hour = hour;
	parts.tm_min = minute;
	return (int64_t) timegm(&parts);
}

static PeriodRule
rule(int64_t anchor, PeriodInterval interval, int32_t count)
{
	PeriodRule made = {anchor, interval, count};

	return made;
}

static bool
boundary_is(PeriodRule made, int64_t n, int64_t wanted, const char *name)
{
	int64_t got = 0;
	bool found = period_boundary(&made, n, &got);
	bool passed = ok(found && got == wanted, name);

	if (!passed)
		printf("# got %lld, wanted %lld\n", (long long) got, (long long) wanted);
	return passed;
}

static bool
period_is(PeriodRule made, int64_t moment, int64_t start, int64_t end, const char *name)
{
	Period got = {0, 0};
	bool found = period_at(&made, moment, &got);
	bool passed = ok(found && got.start == start && got.end == end, name);

	if (!passed)
		printf("# got [%lld, %lld)\n", (long long) got.start, (long long) got.end);
	return passed;
}

static void
test_month_ends(void)
{
	PeriodRule monthly = rule(utc(2027, 1, 31, 12, 30), PERIOD_MONTH, 1);
	PeriodRule leap = rule(utc(2024, 1, 31, 0, 0), PERIOD_MONTH, 1);
	PeriodRule quarterly = rule(utc(2026, 11, 30, 8, 0), PERIOD_MONTH, 3);
	PeriodRule yearly = rule(utc(2024, 2, 29, 23, 59), PERIOD_YEAR, 1);

	boundary_is(monthly, 0, utc(2027, 1, 31, 12, 30), "boundary 0 is the anchor");
	boundary_is(monthly, 1, utc(2027, 2, 28, 12, 30), "the 31st becomes February 28th");
	boundary_is(monthly, 2, utc(2027, 3, 31, 12, 30), "the 31st comes back in March");
	boundary_is(monthly, 3, utc(2027, 4, 30, 12, 30), "the 31st becomes April 30th");
	boundary_is(monthly, 12, utc(2028, 1, 31, 12, 30), "twelve months are a year");
	boundary_is(monthly, -2, utc(2026, 11, 30, 12, 30), "boundaries go on before the anchor");
	boundary_is(leap, 1, utc(2024, 2, 29, 0, 0), "the 31st becomes February 29th in a leap year");
	boundary_is(quarterly, 1, utc(2027, 2, 28, 8, 0), "three months from November 30th");
	boundary_is(quarterly, 2, utc(2027, 5, 30, 8, 0), "and three more are May 30th");
	boundary_is(yearly, 1, utc(2025, 2, 28, 23, 59), "a year from February 29th");
	boundary_is(yearly, 4, utc(2028, 2, 29, 23, 59), "February 29th comes back after four years");
	boundary_is(rule(utc(1896, 2, 29, 0, 0), PERIOD_YEAR, 4), 1, utc(1900, 2, 28, 0, 0),
				"1900 was no leap year");
	boundary_is(rule(utc(1996, 2, 29, 0, 0), PERIOD_YEAR, 4), 1, utc(2000, 2, 29, 0, 0),
				"2000 was one");
}

static void
test_days_and_weeks(void)
{
	boundary_is(rule(utc(2026, 12, 30, 6, 0), PERIOD_DAY, 3), 1, utc(2027, 1, 2, 6, 0),
				"three days cross the year");
	boundary_is(rule(utc(2026, 2, 22, 6, 0), PERIOD_WEEK, 2), 1, utc(2026, 3, 8, 6, 0),
				"two weeks cross February");
	boundary_is(rule(utc(2026, 2, 22, 6, 0), PERIOD_WEEK, 2), -1, utc(2026, 2, 8, 6, 0),
				"weeks go on before the anchor");
}

static void
test_half_open(void)
{
	PeriodRule monthly = rule(utc(2027, 1, 31, 12, 0), PERIOD_MONTH, 1);
	int64_t jan = utc(2027, 1, 31, 12, 0);
	int64_t feb = utc(2027, 2, 28, 12, 0);
	int64_t mar = utc(2027, 3, 31, 12, 0);

	period_is(monthly, jan, jan, feb, "the start belongs to a period");
	period_is(monthly, feb - 1, jan, feb, "the second before the end belongs to it");
	period_is(monthly, feb, feb, mar, "the end belongs to the next one");
	period_is(monthly, jan - 1, utc(2026, 12, 31, 12, 0), jan,
			  "there are periods before the anchor");
	period_is(rule(jan, PERIOD_WEEK, 1), jan - 1, jan - 7 * PERIOD_SECONDS_PER_DAY, jan,
			  "also of weeks");
	period_is(rule(utc(1969, 12, 31, 23, 0), PERIOD_MONTH, 1), utc(1969, 12, 31, 22, 59),
			  utc(1969, 11, 30, 23, 0), utc(1969, 12, 31, 23, 0), "and before 1970");
}

static void
test_limits(void)
{
	PeriodRule monthly = rule(utc(2026, 1, 1, 0, 0), PERIOD_MONTH, 1);
	PeriodRule daily = rule(utc(2026, 1, 1, 0, 0), PERIOD_DAY, PERIOD_MAX_COUNT);
	PeriodRule none = rule(utc(2026, 1, 1, 0, 0), PERIOD_DAY, 0);
	PeriodRule large = rule(utc(2026, 1, 1, 0, 0), PERIOD_DAY, PERIOD_MAX_COUNT + 1);
	PeriodRule outside = rule(PERIOD_END_TIME, PERIOD_DAY, 1);
	PeriodRule strange = rule(0, (PeriodInterval) 17, 1);
	int64_t boundary = 42;
	Period period;

	ok(utc(1, 1, 1, 0, 0) == PERIOD_MIN_TIME && utc(10000, 1, 1, 0, 0) == PERIOD_END_TIME,
	   "the limits are the years 1 and 10000");
	ok(!period_boundary(&monthly, INT64_MAX, &boundary), "months beyond every year are refused");
	ok(!period_boundary(&monthly, INT64_MIN, &boundary), "and those before every year");
	ok(!period_boundary(&daily, INT64_MAX, &boundary), "days that overflow are refused");
	ok(!period_boundary(&none, 1, &boundary), "no interval per period is refused");
	ok(!period_boundary(&large, 1, &boundary), "too many intervals per period are refused");
	ok(!period_boundary(&outside, 0, &boundary), "an anchor outside the limits is refused");
	ok(!period_boundary(&strange, 1, &boundary), "an unknown interval is refused");
	ok(!period_at(&monthly, PERIOD_END_TIME, &period), "a moment outside the limits is refused");
	ok(!period_at(&monthly, PERIOD_END_TIME - 1, &period), "a period that ends outside is refused");
	ok(boundary == 42, "a refusal leaves the output alone");
}

static void
test_names(void)
{
	static const char *const names[] = {"day", "week", "month", "year"};
	PeriodInterval interval;
	int year;

	for (int i = 0; i < 4; i++)
	{
		snprintf(label, sizeof(label), "\"%s\" is an interval", names[i]);
		ok(period_interval_by_name(names[i], &interval) &&
			   strcmp(period_interval_name(interval), names[i]) == 0,
		   label);
	}
	ok(!period_interval_by_name("one_time", &interval), "\"one_time\" is none");
	ok(!period_interval_by_name("Month", &interval), "names are lower case");
	ok(!period_interval_by_name(NULL, &interval), "no name is none");
	ok(period_year(utc(2026, 12, 31, 23, 59), &year) && year == 2026,
	   "the year of its last minute");
	ok(period_year(utc(2027, 1, 1, 0, 0), &year) && year == 2027, "the year of its first minute");
	ok(!period_year(PERIOD_MIN_TIME - 1, &year), "there is no year 0");
}

static PeriodRule
random_rule(void)
{
	int64_t anchor = utc(1900, 1, 1, 0, 0) +
					 (int64_t) (random_bits() % (UINT64_C(250) * 366 * 86400));

	return rule(anchor, (PeriodInterval) (random_bits() % 4), (int32_t) (random_bits() % 13) + 1);
}

/* Boundary n by the C library's calendar; it knows nothing of clamping. */
static bool
agrees_with_libc(const PeriodRule *made, int64_t n, int64_t boundary)
{
	time_t anchor = (time_t) made->anchor;
	time_t moment = (time_t) boundary;
	struct tm from;
	struct tm to;
	int64_t months = (made->interval == PERIOD_YEAR ? 12 : 1) * made->count * n;

	gmtime_r(&anchor, &from);
	gmtime_r(&moment, &to);
	if (made->interval == PERIOD_DAY || made->interval == PERIOD_WEEK)
		return boundary ==
			   made->anchor + n * made->count * (made->interval == PERIOD_WEEK ? 7 : 1) * 86400;

	return (to.tm_year * 12 + to.tm_mon) - (from.tm_year * 12 + from.tm_mon) == months &&
		   to.tm_hour == from.tm_hour && to.tm_min == from.tm_min && to.tm_sec == from.tm_sec &&
		   (to.tm_mday == from.tm_mday ||
			(to.tm_mday < from.tm_mday &&
			 utc(to.tm_year + 1900, to.tm_mon + 1, to.tm_mday + 1, 0, 0) ==
				 utc(to.tm_year + 1900, to.tm_mon + 2, 1, 0, 0)));
}

static void
test_random_rules(void)
{
	int wrong_calendar = 0;
	int wrong_contact = 0;
	int wrong_place = 0;

	for (int i = 0; i < 200000; i++)
	{
		PeriodRule made = random_rule();
		int64_t n = (int64_t) (random_bits() % 81) - 40;
		int64_t start;
		int64_t end;
		int64_t moment;
		Period found;

		if (!period_boundary(&made, n, &start) || !period_boundary(&made, n + 1, &end))
		{
			wrong_calendar++;
			continue;
		}
		wrong_calendar += !agrees_with_libc(&made, n, start);
		moment = start + (int64_t) (random_bits() % (uint64_t) (end - start));
		wrong_place += !period_at(&made, moment, &found) || found.start != start ||
					   found.end != end;
		wrong_contact += !period_at(&made, end, &found) || found.start != end ||
						 !period_at(&made, end - 1, &found) || found.end != end;
	}
	ok(wrong_calendar == 0, "200,000 boundaries agree with the C library");
	ok(wrong_place == 0, "a moment between two boundaries finds them");
	ok(wrong_contact == 0, "one period ends where the next begins");
}

int
main(void)
{
	seed_random();
	test_month_ends();
	test_days_and_weeks();
	test_half_open();
	test_limits();
	test_names();
	test_random_rules();
	return done_testing();
}

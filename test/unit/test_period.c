/*
 * test_period.c
 *		The calendar of billing periods against dates that a person can check,
 *		against the C library's own calendar, and against its own rules.
 */
/* timegm() and gmtime_r() are not C11 */
#define _DEFAULT_SOURCE

#include "period.h"

#include "unit.h"
#include "zones.h"

static char label[200];

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
	static const char *const names[] = {"day", "week", "month", "quarter", "year"};
	PeriodInterval interval;
	int year;

	for (int i = 0; i < 5; i++)
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

/* ---- zones ---- */

#define COUNT(table) ((int) (sizeof(table) / sizeof((table)[0])))

typedef struct Clock
{
	int year, month, day, hour, minute;
} Clock;

static int64_t
at(Clock clock)
{
	return utc(clock.year, clock.month, clock.day, clock.hour, clock.minute);
}

/* Anchors and boundaries are in UTC; the names say what the clock on the wall shows. */
static const struct
{
	const LocalZone *zone;
	Clock anchor;
	PeriodInterval interval;
	int32_t count;
	int64_t n;
	Clock wanted;
	const char *name;
} zoned[] = {
	{&new_york,
	 {2026, 2, 15, 15, 0},
	 PERIOD_MONTH,
	 1,
	 1,
	 {2026, 3, 15, 14, 0},
	 "New York: 10:00 stays 10:00 over the change in March"},
	{&new_york,
	 {2026, 2, 15, 15, 0},
	 PERIOD_MONTH,
	 1,
	 9,
	 {2026, 11, 15, 15, 0},
	 "New York: and over the one in November"},
	{&new_york,
	 {2026, 3, 7, 17, 0},
	 PERIOD_DAY,
	 1,
	 1,
	 {2026, 3, 8, 16, 0},
	 "New York: the day of the change has 23 hours"},
	{&new_york,
	 {2026, 10, 31, 16, 0},
	 PERIOD_DAY,
	 1,
	 1,
	 {2026, 11, 1, 17, 0},
	 "New York: and the other one 25"},
	{&new_york,
	 {2026, 2, 8, 7, 30},
	 PERIOD_MONTH,
	 1,
	 1,
	 {2026, 3, 8, 7, 30},
	 "New York: 02:30 is left out on March 8th and becomes 03:30"},
	{&new_york,
	 {2026, 2, 8, 7, 30},
	 PERIOD_MONTH,
	 1,
	 2,
	 {2026, 4, 8, 6, 30},
	 "New York: a month later it is 02:30 again"},
	{&new_york,
	 {2026, 10, 1, 5, 30},
	 PERIOD_MONTH,
	 1,
	 1,
	 {2026, 11, 1, 6, 30},
	 "New York: 01:30 comes twice on November 1st, the second counts"},
	{&new_york,
	 {2026, 11, 1, 5, 30},
	 PERIOD_MONTH,
	 1,
	 0,
	 {2026, 11, 1, 5, 30},
	 "New York: an anchor in the first of the two stays there"},
	{&new_york,
	 {2026, 11, 1, 5, 30},
	 PERIOD_DAY,
	 1,
	 1,
	 {2026, 11, 2, 6, 30},
	 "New York: and a day after it is 01:30"},
	{&new_york,
	 {2026, 2, 1, 4, 30},
	 PERIOD_MONTH,
	 1,
	 1,
	 {2026, 3, 1, 4, 30},
	 "New York: January 31st 23:30 there is February 1st in UTC"},
	{&new_york,
	 {2026, 2, 1, 4, 30},
	 PERIOD_MONTH,
	 1,
	 2,
	 {2026, 4, 1, 3, 30},
	 "New York: and March 31st 23:30 two months later"},
	{&new_york,
	 {2026, 3, 2, 17, 0},
	 PERIOD_WEEK,
	 1,
	 1,
	 {2026, 3, 9, 16, 0},
	 "New York: a week over the change has an hour less"},
	{&berlin,
	 {2025, 12, 31, 23, 0},
	 PERIOD_MONTH,
	 1,
	 1,
	 {2026, 1, 31, 23, 0},
	 "Berlin: midnight of January 1st, then of February 1st"},
	{&berlin,
	 {2025, 12, 31, 23, 0},
	 PERIOD_MONTH,
	 1,
	 3,
	 {2026, 3, 31, 22, 0},
	 "Berlin: and of April 1st, in summer"},
	{&berlin,
	 {2026, 1, 30, 23, 0},
	 PERIOD_MONTH,
	 1,
	 1,
	 {2026, 2, 27, 23, 0},
	 "Berlin: January 31st becomes February 28th of the zone"},
	{&berlin,
	 {2026, 1, 30, 23, 0},
	 PERIOD_MONTH,
	 1,
	 2,
	 {2026, 3, 30, 22, 0},
	 "Berlin: and comes back on March 31st"},
	{&berlin,
	 {2025, 12, 31, 23, 0},
	 PERIOD_QUARTER,
	 1,
	 2,
	 {2026, 6, 30, 22, 0},
	 "Berlin: two quarters from January 1st are July 1st"},
	{&berlin,
	 {2026, 10, 24, 0, 30},
	 PERIOD_DAY,
	 1,
	 1,
	 {2026, 10, 25, 1, 30},
	 "Berlin: 02:30 comes twice on October 25th, the second counts"},
	{&berlin,
	 {2026, 3, 28, 1, 30},
	 PERIOD_DAY,
	 1,
	 1,
	 {2026, 3, 29, 1, 30},
	 "Berlin: 02:30 is left out on March 29th and becomes 03:30"},
	{&beirut,
	 {2026, 3, 27, 22, 0},
	 PERIOD_DAY,
	 1,
	 1,
	 {2026, 3, 28, 22, 0},
	 "Beirut: a midnight that is left out is the moment when it would have been"},
	{&beirut,
	 {2026, 3, 27, 22, 0},
	 PERIOD_DAY,
	 1,
	 2,
	 {2026, 3, 29, 21, 0},
	 "Beirut: the next one is in summer"},
	{&havana,
	 {2026, 10, 31, 4, 0},
	 PERIOD_DAY,
	 1,
	 1,
	 {2026, 11, 1, 5, 0},
	 "Havana: of two midnights the second counts"},
	{&lord_howe,
	 {2026, 4, 4, 1, 0},
	 PERIOD_DAY,
	 1,
	 1,
	 {2026, 4, 5, 1, 30},
	 "Lord Howe: noon again after 24 hours and a half"},
	{&apia,
	 {2011, 12, 29, 20, 0},
	 PERIOD_DAY,
	 1,
	 1,
	 {2011, 12, 30, 20, 0},
	 "Apia: December 30th 10:00 is left out and becomes the 31st"},
	{&apia,
	 {2011, 12, 29, 20, 0},
	 PERIOD_DAY,
	 1,
	 2,
	 {2011, 12, 30, 20, 0},
	 "Apia: and so is December 31st 10:00"},
	{&apia,
	 {2011, 11, 30, 20, 0},
	 PERIOD_MONTH,
	 1,
	 1,
	 {2011, 12, 30, 20, 0},
	 "Apia: a month from November 30th"},
	{&kathmandu,
	 {2026, 1, 14, 18, 15},
	 PERIOD_MONTH,
	 1,
	 1,
	 {2026, 2, 14, 18, 15},
	 "Kathmandu: midnight of the 15th"},
	{NULL,
	 {2026, 5, 31, 0, 0},
	 PERIOD_QUARTER,
	 1,
	 1,
	 {2026, 8, 31, 0, 0},
	 "a quarter from May 31st is August 31st"},
	{NULL,
	 {2026, 5, 31, 0, 0},
	 PERIOD_QUARTER,
	 1,
	 2,
	 {2026, 11, 30, 0, 0},
	 "and the next one November 30th"},
	{NULL, {2026, 5, 31, 0, 0}, PERIOD_QUARTER, 1, 3, {2027, 2, 28, 0, 0}, "then February 28th"},
	{NULL,
	 {2026, 5, 31, 0, 0},
	 PERIOD_QUARTER,
	 2,
	 1,
	 {2026, 11, 30, 0, 0},
	 "two quarters are half a year"},
};

static void
test_zones(void)
{
	for (int i = 0; i < COUNT(zoned); i++)
	{
		PeriodRule made = rule(at(zoned[i].anchor), zoned[i].interval, zoned[i].count);
		int64_t got = 0;
		PeriodStatus status = period_boundary_in(&made, zoned[i].zone, zoned[i].n, &got);

		if (!ok(status == PERIOD_OK && got == at(zoned[i].wanted), zoned[i].name))
			printf("# got %lld, wanted %lld\n", (long long) got, (long long) at(zoned[i].wanted));
	}
}

/* ---- calendar billing and first parts ---- */

static const struct
{
	const LocalZone *zone;
	PeriodInterval interval;
	Clock moment;
	Clock wanted;
	const char *name;
} calendar[] = {
	{NULL, PERIOD_DAY, {2026, 5, 14, 13, 5}, {2026, 5, 14, 0, 0}, "a day begins at midnight"},
	{NULL, PERIOD_WEEK, {2026, 5, 14, 13, 5}, {2026, 5, 11, 0, 0}, "a Thursday's week on Monday"},
	{NULL, PERIOD_WEEK, {2026, 5, 11, 0, 0}, {2026, 5, 11, 0, 0}, "a Monday's week at once"},
	{NULL, PERIOD_WEEK, {2026, 5, 10, 23, 59}, {2026, 5, 4, 0, 0}, "Sunday ends a week"},
	{NULL, PERIOD_WEEK, {1969, 12, 31, 12, 0}, {1969, 12, 29, 0, 0}, "weeks before 1970"},
	{NULL, PERIOD_MONTH, {2026, 5, 14, 13, 5}, {2026, 5, 1, 0, 0}, "a month on the 1st"},
	{NULL, PERIOD_QUARTER, {2026, 5, 14, 13, 5}, {2026, 4, 1, 0, 0}, "May's quarter in April"},
	{NULL, PERIOD_QUARTER, {2026, 12, 31, 23, 59}, {2026, 10, 1, 0, 0}, "the last in October"},
	{NULL, PERIOD_YEAR, {2026, 5, 14, 13, 5}, {2026, 1, 1, 0, 0}, "a year in January"},
	{&new_york,
	 PERIOD_MONTH,
	 {2026, 4, 1, 3, 0},
	 {2026, 3, 1, 5, 0},
	 "New York: 03:00 UTC of April 1st is March there"},
	{&new_york,
	 PERIOD_MONTH,
	 {2026, 4, 1, 4, 0},
	 {2026, 4, 1, 4, 0},
	 "New York: and April begins at 04:00 UTC"},
	{&berlin,
	 PERIOD_YEAR,
	 {2026, 7, 1, 0, 0},
	 {2025, 12, 31, 23, 0},
	 "Berlin: the year begins at 23:00 UTC"},
	{&beirut,
	 PERIOD_DAY,
	 {2026, 3, 29, 5, 0},
	 {2026, 3, 28, 22, 0},
	 "Beirut: a day without midnight begins with its first moment"},
};

static void
test_calendar(void)
{
	int64_t got = 0;

	for (int i = 0; i < COUNT(calendar); i++)
	{
		PeriodStatus status = period_calendar_anchor(calendar[i].interval, calendar[i].zone,
													 at(calendar[i].moment), &got);

		if (!ok(status == PERIOD_OK && got == at(calendar[i].wanted), calendar[i].name))
			printf("# got %lld\n", (long long) got);
	}
	ok(period_calendar_anchor((PeriodInterval) 9, NULL, 0, &got) == PERIOD_BAD_RULE,
	   "an unknown interval has no calendar");
	ok(period_calendar_anchor(PERIOD_DAY, NULL, PERIOD_END_TIME, &got) == PERIOD_OUT_OF_RANGE,
	   "nor has a moment after year 9999");
}

static bool
billing_is(PeriodStatus status, const BillingPeriod *got, int64_t number, Period billed,
		   Period full, const char *name)
{
	bool passed = ok(status == PERIOD_OK && got->number == number &&
						 got->billed.start == billed.start && got->billed.end == billed.end &&
						 got->full.start == full.start && got->full.end == full.end,
					 name);

	if (!passed)
		printf("# status %d, number %lld, [%lld, %lld)\n", (int) status, (long long) got->number,
			   (long long) got->billed.start, (long long) got->billed.end);
	return passed;
}

static Period
span(int64_t start, int64_t end)
{
	return (Period){start, end};
}

static void
test_schedules(void)
{
	int64_t jan1 = utc(2026, 1, 1, 0, 0);
	int64_t jan20 = utc(2026, 1, 20, 9, 0);
	int64_t feb1 = utc(2026, 2, 1, 0, 0);
	int64_t mar1 = utc(2026, 3, 1, 0, 0);
	int64_t apr1 = utc(2026, 4, 1, 0, 0);
	PeriodSchedule aligned = {rule(jan1, PERIOD_MONTH, 1), NULL, jan20};
	PeriodSchedule several = {rule(jan1, PERIOD_MONTH, 2), NULL, jan20};
	PeriodSchedule anniversary = {rule(jan20, PERIOD_MONTH, 1), NULL, jan20};
	PeriodSchedule later = {rule(utc(2026, 3, 15, 0, 0), PERIOD_MONTH, 1), NULL, jan20};
	BillingPeriod got = {0};
	BillingPeriod other = {0};

	billing_is(period_numbered(&aligned, 0, &got), &got, 0, span(jan20, feb1), span(jan1, feb1),
			   "calendar billing begins with a part of the month");
	billing_is(period_next(&aligned, &got, &other), &other, 1, span(feb1, mar1), span(feb1, mar1),
			   "and goes on with whole months");
	billing_is(period_previous(&aligned, &other, &got), &got, 0, span(jan20, feb1),
			   span(jan1, feb1), "the period before is the part again");
	billing_is(period_of(&aligned, mar1 - 1, &got), &got, 1, span(feb1, mar1), span(feb1, mar1),
			   "a moment finds its period");
	billing_is(period_numbered(&several, 0, &got), &got, 0, span(jan20, mar1), span(jan1, mar1),
			   "two calendar months count from the first one");
	billing_is(period_numbered(&anniversary, 1, &got), &got, 1,
			   span(utc(2026, 2, 20, 9, 0), utc(2026, 3, 20, 9, 0)),
			   span(utc(2026, 2, 20, 9, 0), utc(2026, 3, 20, 9, 0)), "an anniversary has no part");
	billing_is(period_numbered(&later, 0, &got), &got, 0, span(jan20, utc(2026, 2, 15, 0, 0)),
			   span(utc(2026, 1, 15, 0, 0), utc(2026, 2, 15, 0, 0)),
			   "an anchor in the future makes a part now");
	billing_is(period_numbered(&later, 2, &got), &got, 2,
			   span(utc(2026, 3, 15, 0, 0), utc(2026, 4, 15, 0, 0)),
			   span(utc(2026, 3, 15, 0, 0), utc(2026, 4, 15, 0, 0)), "and is met by and by");
	got.number = 42;
	ok(period_of(&aligned, jan20 - 1, &got) == PERIOD_BEFORE_START && got.number == 42,
	   "before the start there is no period");
	ok(period_numbered(&aligned, -1, &got) == PERIOD_BEFORE_START, "and no negative number");
	ok(period_numbered(&aligned, INT64_MAX, &got) == PERIOD_OUT_OF_RANGE, "nor one beyond time");
	ok(period_of(&aligned, INT64_MAX, &got) == PERIOD_OUT_OF_RANGE, "nor a moment there");
	aligned.rule.count = 0;
	ok(period_of(&aligned, apr1, &got) == PERIOD_BAD_RULE, "a bad rule is told");
}

static int32_t
mad_offset(const void *data, int64_t moment)
{
	(void) data;
	(void) moment;
	return 100000;
}

static int32_t
restless_offset(const void *data, int64_t moment)
{
	(void) data;
	return (moment / 3600) % 2 == 0 ? 80000 : -80000;
}

static void
test_odd_zones(void)
{
	static const LocalZone mad = {mad_offset, NULL};
	static const LocalZone restless = {restless_offset, NULL};
	PeriodRule daily = rule(utc(2011, 12, 28, 20, 0), PERIOD_DAY, 1);
	PeriodSchedule schedule = {daily, &apia, daily.anchor};
	int64_t got;
	Period period;
	BillingPeriod billing = {0};
	BillingPeriod next = {0};
	bool sane = true;

	ok(period_boundary_in(&daily, &mad, 1, &got) == PERIOD_BAD_ZONE,
	   "an offset of more than a day is none");
	ok(period_at_in(&daily, &mad, daily.anchor, &period) == PERIOD_BAD_ZONE, "also for a moment");
	for (int i = 0; i < 1000; i++)
	{
		int64_t moment = daily.anchor + i * 4321;
		PeriodStatus status = period_at_in(&daily, &restless, moment, &period);

		sane = sane && (status == PERIOD_BAD_ZONE ||
						(status == PERIOD_OK && period.start <= moment && moment < period.end));
	}
	ok(sane, "a zone without sense gives a right answer or none");

	ok(period_numbered(&schedule, 2, &billing) == PERIOD_OK &&
		   billing.billed.start == billing.billed.end,
	   "Apia: the day that was left out has no length");
	ok(period_numbered(&schedule, 1, &billing) == PERIOD_OK &&
		   period_next(&schedule, &billing, &next) == PERIOD_OK && next.number == 3 &&
		   next.billed.start == billing.billed.end && next.billed.end > next.billed.start,
	   "Apia: the next period leaves it out too");
}

/* ---- chance ---- */

static PeriodRule
random_rule(void)
{
	int64_t anchor = utc(1900, 1, 1, 0, 0) +
					 (int64_t) (random_bits() % (UINT64_C(250) * 366 * 86400));

	return rule(anchor, (PeriodInterval) (random_bits() % 5), (int32_t) (random_bits() % 13) + 1);
}

/* Boundary n by the C library's calendar; it knows nothing of clamping. */
static bool
agrees_with_libc(const PeriodRule *made, int64_t n, int64_t boundary)
{
	time_t anchor = (time_t) made->anchor;
	time_t moment = (time_t) boundary;
	struct tm from;
	struct tm to;
	int64_t each = made->interval == PERIOD_YEAR ? 12 : made->interval == PERIOD_QUARTER ? 3 : 1;
	int64_t months = each * made->count * n;

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
	test_zones();
	test_calendar();
	test_schedules();
	test_odd_zones();
	test_random_rules();
	return done_testing();
}

/*
 * test_local_time.c
 *		Dates against the C library's calendar, and readings of clocks that are
 *		set forward and back.
 */
/* timegm() is not C11 */
#define _DEFAULT_SOURCE

#include "local_time.h"

#include "unit.h"
#include "zones.h"

#define COUNT(table) ((int) (sizeof(table) / sizeof((table)[0])))

/* Both as year, month, day, hour, minute; the first by the wall, the second in UTC. */
static const struct
{
	const LocalZone *zone;
	int wall[5];
	int wanted[5];
	const char *name;
} readings[] = {
	{NULL, {2026, 3, 8, 2, 30}, {2026, 3, 8, 2, 30}, "UTC reads as it is"},
	{&new_york, {2026, 3, 8, 1, 59}, {2026, 3, 8, 6, 59}, "New York: the last minute of winter"},
	{&new_york, {2026, 3, 8, 2, 0}, {2026, 3, 8, 7, 0}, "New York: 02:00 is left out: 03:00"},
	{&new_york, {2026, 3, 8, 2, 59}, {2026, 3, 8, 7, 59}, "New York: 02:59 is left out: 03:59"},
	{&new_york, {2026, 3, 8, 3, 0}, {2026, 3, 8, 7, 0}, "New York: the first minute of summer"},
	{&new_york, {2026, 11, 1, 0, 59}, {2026, 11, 1, 4, 59}, "New York: before the doubled hour"},
	{&new_york, {2026, 11, 1, 1, 0}, {2026, 11, 1, 6, 0}, "New York: 01:00, the second"},
	{&new_york, {2026, 11, 1, 1, 59}, {2026, 11, 1, 6, 59}, "New York: 01:59, the second"},
	{&new_york, {2026, 11, 1, 2, 0}, {2026, 11, 1, 7, 0}, "New York: after the doubled hour"},
	{&berlin, {2026, 3, 29, 2, 30}, {2026, 3, 29, 1, 30}, "Berlin: 02:30 is left out: 03:30"},
	{&berlin, {2026, 10, 25, 2, 30}, {2026, 10, 25, 1, 30}, "Berlin: 02:30, the second"},
	{&beirut, {2026, 3, 29, 0, 0}, {2026, 3, 28, 22, 0}, "Beirut: midnight is left out"},
	{&havana, {2026, 11, 1, 0, 0}, {2026, 11, 1, 5, 0}, "Havana: the second midnight"},
	{&havana, {2026, 10, 31, 23, 59}, {2026, 11, 1, 3, 59}, "Havana: before the first"},
	{&lord_howe, {2026, 4, 5, 1, 45}, {2026, 4, 4, 15, 15}, "Lord Howe: 01:45, the second"},
	{&lord_howe,
	 {2026, 10, 4, 2, 15},
	 {2026, 10, 3, 15, 45},
	 "Lord Howe: 02:15 is left out: 02:45"},
	{&apia, {2011, 12, 29, 23, 59}, {2011, 12, 30, 9, 59}, "Apia: the last minute in the east"},
	{&apia, {2011, 12, 30, 12, 0}, {2011, 12, 30, 22, 0}, "Apia: the day that was left out"},
	{&apia, {2011, 12, 31, 0, 0}, {2011, 12, 30, 10, 0}, "Apia: the first minute in the west"},
	{&kathmandu,
	 {2026, 1, 1, 0, 0},
	 {2025, 12, 31, 18, 15},
	 "Kathmandu: three quarters of an hour"},
};

static int64_t
minute(const int clock[5])
{
	return utc(clock[0], clock[1], clock[2], clock[3], clock[4]);
}

static void
test_readings(void)
{
	for (int i = 0; i < COUNT(readings); i++)
	{
		int64_t got = 0;
		bool found = local_to_moment(readings[i].zone, minute(readings[i].wall), &got);

		if (!ok(found && got == minute(readings[i].wanted), readings[i].name))
			printf("# got %lld\n", (long long) got);
	}
}

static void
test_days(void)
{
	int64_t day = 0;

	ok(local_day(NULL, 0, &day) && day == 0, "1970-01-01 is day 0");
	ok(local_day(NULL, -1, &day) && day == -1, "the second before is of the day before");
	ok(local_day(&new_york, utc(1970, 1, 2, 4, 59), &day) && day == 0,
	   "New York: 23:59 is still the day before");
	ok(local_day(&apia, utc(2011, 12, 30, 9, 59), &day) && day == 15337,
	   "Apia: December 29th 2011 is day 15337");
	ok(local_day(&apia, utc(2011, 12, 30, 10, 0), &day) && day == 15339,
	   "Apia: and the next one is December 31st");
	ok(!local_day(NULL, LOCAL_TIME_END, &day), "no day after year 9999");
	ok(!local_to_moment(NULL, INT64_MAX, &day) && !local_to_moment(NULL, INT64_MIN, &day),
	   "no reading out of range");
	ok(civil_days_in_month(2000, 2) == 29 && civil_days_in_month(1900, 2) == 28 &&
		   civil_days_in_month(2024, 2) == 29 && civil_days_in_month(2026, 2) == 28,
	   "February of 2000, 1900, 2024 and 2026");
}

static void
test_calendar(void)
{
	bool same = true;
	bool back = true;

	for (int64_t day = -719162; day < 2932897; day += 13)
	{
		time_t moment = (time_t) (day * SECONDS_PER_DAY);
		CivilDate date = civil_from_day(day);
		struct tm parts;

		gmtime_r(&moment, &parts);
		same = same && date.year == parts.tm_year + 1900 && date.month == parts.tm_mon + 1 &&
			   date.day == parts.tm_mday;
		back = back && civil_to_day(&date) == day;
	}
	ok(same, "every 13th day of 9,999 years has the C library's date");
	ok(back, "and its date has its number");
}

/* Whatever a clock shows, it shows at the moment that is found, or the later one. */
static void
test_round_trips(void)
{
	static const LocalZone *const zones[] = {&new_york, &berlin,    &apia,     &beirut,
											 &havana,   &lord_howe, &kathmandu};
	bool round = true;

	for (int i = 0; i < 200000; i++)
	{
		const LocalZone *zone = zones[random_bits() % COUNT(zones)];
		int64_t moment = utc(2011, 12, 1, 0, 0) +
						 (int64_t) (random_bits() % (UINT64_C(16) * 366 * 86400));
		int64_t local = 0;
		int64_t found = 0;
		int64_t shown = 0;

		round = round && local_from_moment(zone, moment, &local) &&
				local_to_moment(zone, local, &found) && local_from_moment(zone, found, &shown) &&
				shown == local && found >= moment && found - moment <= 3600;
	}
	ok(round, "200,000 readings come back as they were");
}

int
main(void)
{
	seed_random();
	test_readings();
	test_days();
	test_calendar();
	test_round_trips();
	return done_testing();
}

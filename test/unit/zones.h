/*
 * zones.h
 *		Zones for tests: tables of offsets, written down from the rules of the
 *		tz database.  Whoever includes this defines _DEFAULT_SOURCE before.
 */
#ifndef JANUA_BILLING_ZONES_H
#define JANUA_BILLING_ZONES_H

#include "local_time.h"

#include "unit.h"

#define ZONE_CHANGES 64

typedef struct ZoneChange
{
	int64_t from; /* INT64_MIN in the first */
	int32_t offset;
} ZoneChange;

typedef struct ZoneTable
{
	int count;
	ZoneChange changes[ZONE_CHANGES];
} ZoneTable;

static inline int32_t
table_offset(const void *data, int64_t moment)
{
	const ZoneTable *table = data;
	int i = table->count - 1;

	while (i > 0 && moment < table->changes[i].from)
		i--;
	return table->changes[i].offset;
}

/* Moment of a date and time of day in UTC, by the C library. */
static inline int64_t
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

#define HOURS(n) ((n) *3600)

/* 02:00 becomes 03:00 on March 8th 2026, and 01:00 on November 1st (07:00Z, 06:00Z). */
static const ZoneTable new_york_table = {
	3,
	{{INT64_MIN, HOURS(-5)}, {1772953200, HOURS(-4)}, {1793512800, HOURS(-5)}},
};

/* 02:00 becomes 03:00 on March 29th 2026, 03:00 becomes 02:00 on October 25th (01:00Z both). */
static const ZoneTable berlin_table = {
	3,
	{{INT64_MIN, HOURS(1)}, {1774746000, HOURS(2)}, {1792890000, HOURS(1)}},
};

/* Samoa went from the east to the west of the date line: no December 30th 2011 (10:00Z). */
static const ZoneTable apia_table = {
	2,
	{{INT64_MIN, HOURS(-10)}, {1325239200, HOURS(14)}},
};

/* In Beirut midnight of March 29th 2026 is 01:00 (22:00Z of the day before). */
static const ZoneTable beirut_table = {
	2,
	{{INT64_MIN, HOURS(2)}, {1774735200, HOURS(3)}},
};

/* In Havana 01:00 of November 1st 2026 is midnight once more (05:00Z). */
static const ZoneTable havana_table = {
	2,
	{{INT64_MIN, HOURS(-4)}, {1793509200, HOURS(-5)}},
};

/* Lord Howe: half an hour, 02:00 becomes 01:30 on April 5th 2026 (15:00Z of the day before). */
static const ZoneTable lord_howe_table = {
	3,
	{{INT64_MIN, HOURS(11)}, {1775314800, HOURS(10) + 1800}, {1791041400, HOURS(11)}},
};

static const ZoneTable kathmandu_table = {1, {{INT64_MIN, HOURS(5) + 2700}}};

static const LocalZone new_york = {table_offset, &new_york_table};
static const LocalZone berlin = {table_offset, &berlin_table};
static const LocalZone apia = {table_offset, &apia_table};
static const LocalZone beirut = {table_offset, &beirut_table};
static const LocalZone havana = {table_offset, &havana_table};
static const LocalZone lord_howe = {table_offset, &lord_howe_table};
static const LocalZone kathmandu = {table_offset, &kathmandu_table};

#endif /* JANUA_BILLING_ZONES_H */

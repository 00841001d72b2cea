/*-------------------------------------------------------------------------
 *
 * zones.c
 *	  Time zones of the server for the pure calendar, and the engine's time.
 *
 * The calendar (local_time.h) knows no tz database: it asks for the offset at a
 * moment.  Here PostgreSQL's own answers, so that a period ends when AT TIME
 * ZONE says it does.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "pgtime.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define SECONDS_FROM_1970_TO_2000 INT64CONST(946684800)

typedef struct KnownZone
{
	char name[TZ_STRLEN_MAX + 1]; /* the key of the hash table */
	LocalZone zone;
} KnownZone;

/* There are some hundred zones, and pg_tz lives as long as the process, too. */
static HTAB *known_zones = NULL;

static int32_t
offset_at(const void *data, int64_t moment)
{
	pg_time_t at = (pg_time_t) moment;
	const struct pg_tm *local = pg_localtime(&at, (const pg_tz *) data);

	/* an offset that no clock has: the calendar refuses the zone */
	return local == NULL ? PG_INT32_MAX : (int32_t) local->tm_gmtoff;
}

const LocalZone *
zone_named(const char *name)
{
	char key[TZ_STRLEN_MAX + 1] = {0};
	KnownZone *known;
	pg_tz *zone;
	bool found;

	if (name == NULL || strlen(name) > TZ_STRLEN_MAX)
		return NULL;
	if (known_zones == NULL)
		known_zones = hash_create("billing zones", 32,
								  &(HASHCTL){.keysize = TZ_STRLEN_MAX + 1,
											 .entrysize = sizeof(KnownZone),
											 .hcxt = TopMemoryContext},
								  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	strlcpy(key, name, sizeof(key));
	known = hash_search(known_zones, key, HASH_FIND, NULL);
	if (known != NULL)
		return &known->zone;
	zone = pg_tzset(key);
	if (zone == NULL)
		return NULL;
	known = hash_search(known_zones, key, HASH_ENTER, &found);
	known->zone = (LocalZone){offset_at, zone};
	return &known->zone;
}

int64
unix_seconds(TimestampTz moment)
{
	int64 part = moment % USECS_PER_SEC;

	return (moment - part - (part < 0 ? USECS_PER_SEC : 0)) / USECS_PER_SEC +
		   SECONDS_FROM_1970_TO_2000;
}

TimestampTz
moment_of_unix(int64 seconds)
{
	return (seconds - SECONDS_FROM_1970_TO_2000) * USECS_PER_SEC;
}

int64
unix_microseconds(TimestampTz moment)
{
	return moment + SECONDS_FROM_1970_TO_2000 * USECS_PER_SEC;
}

TimestampTz
moment_of_unix_microseconds(int64 microseconds)
{
	return microseconds - SECONDS_FROM_1970_TO_2000 * USECS_PER_SEC;
}

TimestampTz
engine_now(const char *organization_id)
{
	return moment_of_unix(unix_seconds(clock_now(organization_id)));
}

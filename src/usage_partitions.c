/*-------------------------------------------------------------------------
 *
 * usage_partitions.c
 *	  Partitions of usage_events: one per month, in UTC.
 *
 * The worker makes them ahead of time; whoever writes into a month that has
 * none makes it in its own transaction, and others that need it wait for the
 * end of that one.  They are plain tables of the owner, not of the extension,
 * and carry their own indexes (sql/75_usage.sql says why).
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "subjects.h"
#include "unit.h"
#include "utils/datetime.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/snapmgr.h"

/* How many months ahead of this one there are partitions for. */
#define MONTHS_AHEAD 2
/* How long ingest may stand still behind the removal of a partition */
#define DROP_TIMEOUT "SET LOCAL lock_timeout = '100ms'"
#define KEYS_BATCH   10000
/* How long a pass removes keys. */
#define KEYS_MS 500

Oid
usage_partition_at(Relation events, TimestampTz occurred_at)
{
	PartitionKey key = RelationGetPartitionKey(events);
	PartitionDesc partitions = RelationGetPartitionDesc(events, true);
	Datum value = TimestampTzGetDatum(occurred_at);
	bool equal;
	int offset;
	int index;

	if (partitions->nparts == 0)
		return InvalidOid;
	offset = partition_range_datum_bsearch(key->partsupfunc, key->partcollation,
										   partitions->boundinfo, 1, &value, &equal);
	index = partitions->boundinfo->indexes[offset + 1];
	return index < 0 ? InvalidOid : partitions->oids[index];
}

static TimestampTz
bound_at(PartitionBoundInfo bounds, int n)
{
	switch (bounds->kind[n][0])
	{
		case PARTITION_RANGE_DATUM_MINVALUE:
			return DT_NOBEGIN;
		case PARTITION_RANGE_DATUM_MAXVALUE:
			return DT_NOEND;
		default:
			return DatumGetTimestampTz(bounds->datums[n][0]);
	}
}

List *
usage_partitions(Relation events, TimestampTz from, TimestampTz until)
{
	PartitionDesc partitions = RelationGetPartitionDesc(events, true);
	List *found = NIL;

	if (partitions->nparts == 0)
		return NIL;
	/* indexes[n] is what ends at bound n */
	for (int n = 1; n < partitions->boundinfo->ndatums; n++)
	{
		int index = partitions->boundinfo->indexes[n];
		UsagePartition *partition;

		if (index < 0 || bound_at(partitions->boundinfo, n) <= from ||
			bound_at(partitions->boundinfo, n - 1) >= until)
			continue;
		partition = palloc(sizeof(UsagePartition));
		partition->relation = partitions->oids[index];
		partition->from = bound_at(partitions->boundinfo, n - 1);
		partition->until = bound_at(partitions->boundinfo, n);
		found = lappend(found, partition);
	}
	return found;
}

/* ------------------------------------------------------------------------
 * Making them
 * ------------------------------------------------------------------------
 */
QUERY(lock_makers, "LOCK TABLE billing.usage_rollup_state IN SHARE UPDATE EXCLUSIVE MODE",
	  InvalidOid);

static void
utility(const char *statement)
{
	int result = SPI_execute(statement, false, 0);

	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", statement, SPI_result_code_string(result));
}

static void
make_partition(TimestampTz occurred_at)
{
	struct pg_tm at;
	fsec_t fraction;
	char *name;
	int next_year;
	int next_month;

	/* without a time zone: UTC */
	if (timestamp2tm(occurred_at, NULL, &at, &fraction, NULL, NULL) != 0)
		elog(ERROR, "a time of usage is out of range");
	next_year = at.tm_mon == 12 ? at.tm_year + 1 : at.tm_year;
	next_month = at.tm_mon % 12 + 1;
	name = psprintf("usage_events_%04d_%02d", at.tm_year, at.tm_mon);
	utility(psprintf("CREATE TABLE billing.%s (LIKE billing.usage_events INCLUDING ALL, "
					 "CONSTRAINT %s_pkey PRIMARY KEY (organization_id, id))",
					 name, name));
	utility(psprintf("CREATE INDEX %s_time ON billing.%s (organization_id, metric, occurred_at)",
					 name, name));
	utility(psprintf("CREATE INDEX %s_recorded_in ON billing.%s (recorded_in)", name, name));
	utility(psprintf("ALTER TABLE billing.usage_events ATTACH PARTITION billing.%s "
					 "FOR VALUES FROM ('%04d-%02d-01 00:00:00+00') TO ('%04d-%02d-01 00:00:00+00')",
					 name, at.tm_year, at.tm_mon, next_year, next_month));
}

static bool
is_missing(TimestampTz occurred_at)
{
	Relation events = table_open(usage_tables()->events, AccessShareLock);
	bool missing = !OidIsValid(usage_partition_at(events, occurred_at));

	table_close(events, AccessShareLock);
	return missing;
}

/*
 * The lock orders those who make partitions, and those who bind the database;
 * it is the first that a call takes, and whoever writes into partitions that
 * are there takes it never.
 */
void
usage_partitions_make(const TimestampTz *times, int count)
{
	Identity identity = identity_take_owner();

	db_open();
	RUN(lock_makers, arg_null());
	for (int i = 0; i < count; i++)
	{
		if (is_missing(times[i]))
			make_partition(times[i]);
	}
	db_close();
	identity_give_back(identity);
}

/* ------------------------------------------------------------------------
 * Duties
 * ------------------------------------------------------------------------
 */
QUERY(
	months_ahead,
	"SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => n)) AT TIME ZONE 'UTC' "
	"FROM generate_series(0, $1) AS n",
	INT4OID);

static void
make_ahead(void *context)
{
	TimestampTz times[MONTHS_AHEAD + 1];

	/* a database that was restored, and in which nobody writes, stays as it is */
	if (!usage_tables()->bound)
		return;
	RUN(months_ahead, arg_int4(MONTHS_AHEAD));
	for (int i = 0; i <= MONTHS_AHEAD; i++)
		times[i] = row_time(i, 1);
	for (int i = 0; i <= MONTHS_AHEAD; i++)
	{
		if (is_missing(times[i]))
		{
			usage_partitions_make(times, MONTHS_AHEAD + 1);
			return;
		}
	}
}

QUERY(
	retention_end,
	"SELECT now() - value::interval FROM billing.settings WHERE name = 'usage_retention' AND value IS NOT NULL",
	InvalidOid);
QUERY(note_removed,
	  "UPDATE billing.usage_rollup_state SET raw_since = greatest(raw_since, $1), "
	  "removed_until = greatest(removed_until, $2)",
	  TIMESTAMPTZOID, INT8OID);
QUERY_CUSTOM(dirty_in,
			 "SELECT EXISTS (SELECT 1 FROM billing.usage_dirty WHERE bucket >= $1 AND bucket < $2)",
			 TIMESTAMPTZOID, TIMESTAMPTZOID);
/* On shards a ctid means nothing: each removes its own, all of them. */
QUERY_CUSTOM(prune_shards, "DELETE FROM billing.usage_keys WHERE stamp < $1", TIMESTAMPTZOID);
QUERY(prune_keys,
	  "DELETE FROM billing.usage_keys WHERE ctid = ANY (ARRAY(SELECT ctid FROM billing.usage_keys "
	  "WHERE stamp < $1 LIMIT $2))",
	  TIMESTAMPTZOID, INT8OID);

/* The oldest one that is past retention, or NULL. */
static UsagePartition *
oldest_before(TimestampTz end)
{
	Relation events = table_open(usage_tables()->events, AccessShareLock);
	List *partitions = usage_partitions(events, DT_NOBEGIN, end);
	UsagePartition *oldest = partitions == NIL ? NULL : linitial(partitions);

	table_close(events, AccessShareLock);
	return oldest != NULL && oldest->until <= end ? oldest : NULL;
}

/* A key whose stamp is older than what any partition can hold has outlived its event. */
static TimestampTz
oldest_event(void)
{
	Relation events = table_open(usage_tables()->events, AccessShareLock);
	List *partitions = usage_partitions(events, DT_NOBEGIN, DT_NOEND);
	TimestampTz oldest = partitions == NIL ? DT_NOBEGIN
										   : ((UsagePartition *) linitial(partitions))->from;

	table_close(events, AccessShareLock);
	return oldest;
}

/* Are there events in it that the totals do not hold? */
static bool
has_tail(const UsagePartition *partition)
{
	UsageMark mark;
	bool found;

	if (usage_tables()->distributed)
	{
		RUN(dirty_in, arg_datum(TimestampTzGetDatum(partition->from), false),
			arg_datum(TimestampTzGetDatum(partition->until), false));
		return row_bool(0, 1);
	}
	PushActiveSnapshot(GetLatestSnapshot());
	mark = usage_mark();
	found = usage_scan_has_tail(partition->relation, &mark);
	PopActiveSnapshot();
	return found;
}

/* On shards numbers find nothing. */
static int64
last_number(const UsagePartition *partition)
{
	int64 last;

	if (usage_tables()->distributed)
		return -1;
	PushActiveSnapshot(GetLatestSnapshot());
	last = usage_scan_last(partition->relation);
	PopActiveSnapshot();
	return last;
}

/*
 * Under the locks that the removal takes nobody writes any more; then what the
 * totals do not hold yet is looked for again, and keeps the partition.  The
 * partition is locked first: while the parent is waited for, ingest waits, too,
 * and after that nothing is to be waited for any more.
 */
static void
remove_oldest(void *context)
{
	TimestampTz end = *(TimestampTz *) context;
	UsagePartition *oldest = oldest_before(end);
	char *name;

	if (oldest == NULL || has_tail(oldest))
		return;
	name = pstrdup(quote_identifier(get_rel_name(oldest->relation)));
	utility(DROP_TIMEOUT);
	utility(psprintf("LOCK TABLE billing.%s IN ACCESS EXCLUSIVE MODE", name));
	utility("LOCK TABLE ONLY billing.usage_events IN ACCESS EXCLUSIVE MODE");
	if (has_tail(oldest))
		return;
	RUN(note_removed, arg_datum(TimestampTzGetDatum(oldest->until), false),
		arg_int(last_number(oldest) + 1));
	CacheInvalidateRelcacheByRelid(usage_tables()->state);
	utility(psprintf("DROP TABLE billing.%s", name));
}

/* Keys with an older stamp are to be removed; DT_NOBEGIN: they are. */
static TimestampTz keys_before = DT_NOBEGIN;

static void
remove_keys(void *context)
{
	Arg before = arg_datum(TimestampTzGetDatum(keys_before), false);
	int64 *removed = context;

	if (usage_tables()->distributed)
	{
		RUN(prune_shards, before);
		*removed = 0; /* none are left */
	}
	else
		*removed = RUN(prune_keys, before, arg_int(KEYS_BATCH));
}

/* There may be as many as there are events: for a moment now, and on with the next pass. */
void
usage_keys_keep(void)
{
	TimestampTz begin = GetCurrentTimestamp();
	int64 removed = KEYS_BATCH;

	while (keys_before != DT_NOBEGIN && removed == KEYS_BATCH &&
		   !TimestampDifferenceExceeds(begin, GetCurrentTimestamp(), KEYS_MS))
	{
		removed = 0;
		(void) unit_run(remove_keys, &removed, "remove keys of usage");
	}
	if (removed < KEYS_BATCH)
		keys_before = DT_NOBEGIN;
}

typedef struct Retention
{
	TimestampTz end;
	bool has_old;
} Retention;

static void
look_for_old(void *context)
{
	Retention *retention = context;

	if (!usage_tables()->bound || RUN(retention_end, arg_null()) == 0)
		return;
	retention->end = row_time(0, 1);
	retention->has_old = oldest_before(retention->end) != NULL;
	keys_before = Min(retention->end, oldest_event());
}

void
usage_partitions_keep(void)
{
	Retention retention = {0, false};

	(void) unit_run(make_ahead, NULL, "make partitions of usage_events");
	if (unit_run(look_for_old, &retention, "look for usage that is past its retention") &&
		retention.has_old)
		(void) unit_run(remove_oldest, &retention.end, "remove usage that is past its retention");
}

/*-------------------------------------------------------------------------
 *
 * quota_limits.c
 *	  How much of a metric an organisation may use, and in which period.
 *
 * consume() asks this with every call, and what it takes to find out costs
 * more than the call.  So a session remembers it.  Of what it comes from, the
 * rows that are the organisation's own are looked at each time, by their
 * index, and only for whether they are still the same tuples (fingerprint_of):
 * subscriptions change all the time, but others'.  For changes of all other
 * tables triggers send an invalidation of the relcache for
 * billing.limits_changed, a table without content that nobody opens, so that
 * it costs nothing besides.  What changes with time alone is remembered until
 * then.  Organisations that have no such row are all alike.
 *
 * It is read on the latest snapshot, whatever the transaction's own is: the
 * limit is that of now.
 *
 *-------------------------------------------------------------------------
 */
#include "quota.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "entitlements.h"
#include "executor/tuptable.h"
#include "storage/bufmgr.h"
#include "subjects.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Longer ids of organisations are not remembered. */
#define NAME_SIZE 192
/* Then all is forgotten. */
#define REMEMBERED_MAX 20000

typedef struct Remembered
{
	char name[NAME_SIZE]; /* the key: metric, tab, organisation (nothing for those without rows) */
	uint64 fingerprint;
	Quota quota;
	TimestampTz from;
	TimestampTz until;
} Remembered;

static HTAB *remembered = NULL;
static MemoryContext remembered_memory = NULL;
static bool remembered_sandbox = false;
/* Counts what makes it wrong. */
static uint64 changes = 0;
static uint64 remembered_changes = 0;

static void
note_change(Datum arg, Oid relation)
{
	if (relation == InvalidOid || relation == usage_limits_mark())
		changes++;
}

/* Trigger of the tables that limits and periods come from. */
SQL_FUNCTION(billing_forget_limits)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "forget_limits() is a trigger");
	CacheInvalidateRelcacheByRelid(usage_table_named("limits_changed"));
	PG_RETURN_POINTER(NULL);
}

/* ------------------------------------------------------------------------
 * From the tables
 * ------------------------------------------------------------------------
 */
/* What no feature limits is unlimited. */
static Numeric
limit_of(const char *organization_id, const char *metric)
{
	Entitlement found;

	if (entitlement_find(organization_id, metric, &found) && found.kind == FEATURE_LIMIT)
		return found.limit;
	return numeric_of_text("Infinity");
}

/* The moments at which entitlements change although no row does. */
QUERY(
	next_moment,
	"SELECT min(m.moment) FROM ("
	"SELECT e.access_until FROM billing.entitlements AS e WHERE e.organization_id = $1 "
	"UNION ALL SELECT o.until FROM billing.feature_overrides AS o WHERE o.organization_id = $1 "
	"UNION ALL SELECT unnest(ARRAY[a.since, a.until]) FROM billing.organization_add_ons AS a WHERE a.organization_id = $1"
	") AS m (moment) WHERE m.moment > $2",
	TEXTOID, TIMESTAMPTZOID);

Quota
quota_read(const char *organization_id, const Meter *meter, TimestampTz now, TimestampTz *until)
{
	Quota quota;

	quota.period = meter->carried ? (UsageRange){DT_NOBEGIN, DT_NOEND}
								  : usage_period(organization_id);
	quota.limit = limit_of(organization_id, meter->metric);
	if (until == NULL)
		return quota;
	/* a period that has ended goes on until a row tells of the next */
	*until = now < quota.period.end ? quota.period.end : DT_NOEND;
	READ(next_moment, arg_text(organization_id), arg_datum(TimestampTzGetDatum(now), false));
	if (!row_null(0, 1))
		*until = Min(*until, row_time(0, 1));
	return quota;
}

UsageRange
quota_range(const Quota *quota, TimestampTz now)
{
	UsageRange range = quota->period;

	if (range.end != DT_NOEND && range.end <= now)
		range.end = now + 1;
	return range;
}

/* ------------------------------------------------------------------------
 * The organisation's own rows
 * ------------------------------------------------------------------------
 */
/* Of each row the place and the transaction that put it there: no other version has both. */
static uint64
add_rows(uint64 fingerprint, Oid table, Oid index_oid, const text *organization_id)
{
	Relation relation = table_open(table, AccessShareLock);
	Relation index;
	Snapshot snapshot;
	TupleTableSlot *slot;
	IndexScanDesc scan;
	ScanKeyData key;

	if (RelationGetNumberOfBlocks(relation) == 0)
	{
		table_close(relation, AccessShareLock);
		return fingerprint;
	}
	index = index_open(index_oid, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	slot = table_slot_create(relation, NULL);
	scan = compat_index_beginscan(relation, index, snapshot, 1);
	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid, index->rd_indcollation[0],
						   F_TEXTEQ, PointerGetDatum(organization_id));
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, NULL);
		uint64 place = ((uint64) ItemPointerGetBlockNumber(&slot->tts_tid) << 16) |
					   ItemPointerGetOffsetNumber(&slot->tts_tid);

		/* in whatever order they come */
		fingerprint += hash_bytes_extended((const unsigned char *) &place, sizeof(place),
										   HeapTupleHeaderGetRawXmin(tuple->t_data)) |
					   1;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	table_close(relation, AccessShareLock);
	return fingerprint;
}

/* 0: it has none. */
static uint64
fingerprint_of(const text *organization_id)
{
	const UsageTables *tables = usage_tables();

	uint64 fingerprint;

	fingerprint = add_rows(0, tables->subscriptions, tables->subscriptions_index, organization_id);
	fingerprint = add_rows(fingerprint, tables->overrides, tables->overrides_index,
						   organization_id);
	return add_rows(fingerprint, tables->add_ons, tables->add_ons_index, organization_id);
}

/* ------------------------------------------------------------------------
 * Remembering
 * ------------------------------------------------------------------------
 */
/* The one setting of a session that decides about entitlements. */
static bool
sandbox_counts(void)
{
	const char *value = GetConfigOption("janua_billing.allow_sandbox", true, false);
	bool on = false;

	return value != NULL && parse_bool(value, &on) && on;
}

static void
forget_old(void)
{
	HASHCTL control = {.keysize = NAME_SIZE, .entrysize = sizeof(Remembered)};
	static bool registered = false;
	bool sandbox = sandbox_counts();

	if (!registered)
	{
		CacheRegisterRelcacheCallback(note_change, (Datum) 0);
		registered = true;
	}
	/* a transaction may run for long, and open nothing new */
	AcceptInvalidationMessages();
	if (remembered != NULL && remembered_changes == changes && remembered_sandbox == sandbox &&
		hash_get_num_entries(remembered) < REMEMBERED_MAX)
		return;
	if (remembered_memory == NULL)
		/* as long as the session: what is remembered from call to call */
		remembered_memory = AllocSetContextCreate(TopMemoryContext, "billing limits",
												  ALLOCSET_DEFAULT_SIZES);
	remembered = NULL;
	MemoryContextReset(remembered_memory);
	control.hcxt = remembered_memory;
	remembered = hash_create("billing limits", 256, &control,
							 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	remembered_changes = changes;
	remembered_sandbox = sandbox;
}

static bool
make_name(char *name, const text *organization_id, const char *metric, uint64 fingerprint)
{
	int length = strlen(metric);
	int organization_length = fingerprint == 0 ? 0 : VARSIZE_ANY_EXHDR(organization_id);

	if (length + 1 + organization_length >= NAME_SIZE)
		return false;
	memcpy(name, metric, length);
	name[length] = '\t';
	memcpy(name + length + 1, VARDATA_ANY(organization_id), organization_length);
	name[length + 1 + organization_length] = '\0';
	return true;
}

static Quota
read_latest(const text *organization_id, const Meter *meter, TimestampTz now, TimestampTz *until)
{
	MemoryContext memory = CurrentMemoryContext;
	Identity identity = identity_take_owner();
	Quota quota;
	MemoryContext old;

	PushActiveSnapshot(GetLatestSnapshot());
	db_open();
	quota = quota_read(text_to_cstring(organization_id), meter, now, until);
	old = MemoryContextSwitchTo(memory);
	quota.limit = DatumGetNumericCopy(NumericGetDatum(quota.limit));
	MemoryContextSwitchTo(old);
	db_close();
	PopActiveSnapshot();
	identity_give_back(identity);
	return quota;
}

static void
remember(const char *name, uint64 fingerprint, const Quota *quota, TimestampTz from,
		 TimestampTz until)
{
	MemoryContext old = MemoryContextSwitchTo(remembered_memory);
	Numeric limit = DatumGetNumericCopy(NumericGetDatum(quota->limit));
	Remembered *entry = hash_search(remembered, name, HASH_ENTER, NULL);

	entry->fingerprint = fingerprint;
	entry->quota = (Quota){limit, quota->period};
	entry->from = from;
	entry->until = until;
	MemoryContextSwitchTo(old);
}

Quota
quota_of(const text *organization_id, const Meter *meter, TimestampTz now)
{
	char name[NAME_SIZE];
	uint64 fingerprint;
	bool has_name;
	Remembered *entry;
	TimestampTz until;
	Quota quota;

	forget_old();
	fingerprint = fingerprint_of(organization_id);
	has_name = make_name(name, organization_id, meter->metric, fingerprint);
	entry = has_name ? hash_search(remembered, name, HASH_FIND, NULL) : NULL;
	if (entry != NULL && entry->fingerprint == fingerprint && now >= entry->from &&
		now < entry->until)
	{
		/* out of what the next call may forget */
		quota = entry->quota;
		quota.limit = DatumGetNumericCopy(NumericGetDatum(quota.limit));
		return quota;
	}
	quota = read_latest(organization_id, meter, now, &until);
	/* not what changed while it was read */
	if (has_name && remembered_changes == changes && fingerprint == fingerprint_of(organization_id))
		remember(name, fingerprint, &quota, now, until);
	return quota;
}

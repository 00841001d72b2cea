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
 * then.  Organisations that have no such row are all alike; of those that have
 * one subscription and nothing else the limit is that of its plan, so that a
 * session asks for it once for all of them (plain_read).
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
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

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

/* The limit that comes of a plan. */
typedef struct PlanLimit
{
	char name[NAME_SIZE]; /* the key: metric, plan, and what else decides (plain_read) */
	Numeric limit;
} PlanLimit;

static HTAB *remembered = NULL;
static HTAB *plan_limits = NULL;
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
/* The moments at which entitlements change although no row does. */
QUERY(
	next_moment,
	"SELECT min(m.moment) FROM ("
	"SELECT e.access_until FROM billing.entitlements AS e WHERE e.organization_id = $1 "
	"UNION ALL SELECT o.until FROM billing.feature_overrides AS o WHERE o.organization_id = $1 "
	"UNION ALL SELECT unnest(ARRAY[a.since, a.until]) FROM billing.organization_add_ons AS a WHERE a.organization_id = $1"
	") AS m (moment) WHERE m.moment > $2",
	TEXTOID, TIMESTAMPTZOID);

/* A period that has ended goes on until a row tells of the next. */
static TimestampTz
quota_end(const Quota *quota, TimestampTz now)
{
	return now < quota->period.end ? quota->period.end : DT_NOEND;
}

Quota
quota_read(const char *organization_id, const Meter *meter, TimestampTz now, TimestampTz *until)
{
	Quota quota;

	quota.period = meter->carried ? (UsageRange){DT_NOBEGIN, DT_NOEND}
								  : usage_period(organization_id);
	quota.limit = metric_limit(organization_id, meter->metric);
	if (until == NULL)
		return quota;
	*until = quota_end(&quota, now);
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
typedef struct OwnScan
{
	Relation relation;
	Relation index;
	Snapshot snapshot;
	TupleTableSlot *slot;
	IndexScanDesc scan;
} OwnScan;

/* False: the table is empty, and nothing is open. */
static bool
own_open(OwnScan *own, Oid table, Oid index, const text *organization_id)
{
	ScanKeyData key;

	own->relation = table_open(table, AccessShareLock);
	if (RelationGetNumberOfBlocks(own->relation) == 0)
	{
		table_close(own->relation, AccessShareLock);
		return false;
	}
	own->index = index_open(index, AccessShareLock);
	own->snapshot = RegisterSnapshot(GetLatestSnapshot());
	own->slot = table_slot_create(own->relation, NULL);
	own->scan = compat_index_beginscan(own->relation, own->index, own->snapshot, 1);
	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   own->index->rd_indcollation[0], F_TEXTEQ,
						   PointerGetDatum(organization_id));
	index_rescan(own->scan, &key, 1, NULL, 0);
	return true;
}

static bool
own_next(OwnScan *own)
{
	return index_getnext_slot(own->scan, ForwardScanDirection, own->slot);
}

static void
own_close(OwnScan *own)
{
	index_endscan(own->scan);
	ExecDropSingleTupleTableSlot(own->slot);
	UnregisterSnapshot(own->snapshot);
	index_close(own->index, AccessShareLock);
	table_close(own->relation, AccessShareLock);
}

/* An organisation's rows: the fingerprint is 0 where it has none. */
typedef struct OwnRows
{
	uint64 fingerprint;
	int subscriptions;
	int others;
} OwnRows;

/* Of each row the place and the transaction that put it there: no other version has both. */
static int
add_rows(uint64 *fingerprint, Oid table, Oid index, const text *organization_id)
{
	OwnScan own;
	int count = 0;

	if (!own_open(&own, table, index, organization_id))
		return 0;
	for (; own_next(&own); count++)
	{
		HeapTuple tuple = ExecFetchSlotHeapTuple(own.slot, false, NULL);
		uint64 place = ((uint64) ItemPointerGetBlockNumber(&own.slot->tts_tid) << 16) |
					   ItemPointerGetOffsetNumber(&own.slot->tts_tid);

		/* in whatever order they come */
		*fingerprint += hash_bytes_extended((const unsigned char *) &place, sizeof(place),
											HeapTupleHeaderGetRawXmin(tuple->t_data)) |
						1;
	}
	own_close(&own);
	return count;
}

static OwnRows
own_rows(const text *organization_id)
{
	const UsageTables *tables = usage_tables();
	OwnRows rows = {0, 0, 0};

	rows.subscriptions = add_rows(&rows.fingerprint, tables->subscriptions,
								  tables->subscriptions_index, organization_id);
	rows.others = add_rows(&rows.fingerprint, tables->overrides, tables->overrides_index,
						   organization_id);
	rows.others += add_rows(&rows.fingerprint, tables->add_ons, tables->add_ons_index,
							organization_id);
	return rows;
}

/* ------------------------------------------------------------------------
 * One subscription and nothing else
 * ------------------------------------------------------------------------
 */
/* All of the row that decides about limit and period. */
typedef struct Plain
{
	char name[NAME_SIZE]; /* of its PlanLimit */
	UsageRange period;
} Plain;

static Datum
column_of(const OwnScan *own, const char *column, bool *isnull)
{
	return slot_getattr(own->slot, get_attnum(RelationGetRelid(own->relation), column), isnull);
}

/*
 * Whether a subscription gives access is for billing.entitlements to say, not
 * for this file; but where nothing of it hangs on time, all rows that are the
 * same in these columns are the same to that view (is_plain).  A grace hangs
 * on time: its status always has a beginning.
 */
static bool
name_plain(char *name, const OwnScan *own, const Meter *meter)
{
	bool isnull; /* none of them can be */
	Datum plan_id = column_of(own, "plan_id", &isnull);
	Datum plan_group = column_of(own, "plan_group", &isnull);
	Datum status = column_of(own, "status", &isnull);
	Datum livemode = column_of(own, "livemode", &isnull);
	char *plan = DatumGetCString(DirectFunctionCall1(uuid_out, plan_id));

	return snprintf(name, NAME_SIZE, "%s\t%s\t%s\t%d\t%s", meter->metric, plan,
					TextDatumGetCString(status), DatumGetBool(livemode),
					TextDatumGetCString(plan_group)) < NAME_SIZE;
}

/* Of an organisation that has one row, a subscription. */
static bool
plain_read(Plain *plain, const text *organization_id, const Meter *meter)
{
	const UsageTables *tables = usage_tables();
	bool starts_null;
	bool ends_null;
	bool access_ends_null;
	bool found = false;
	OwnScan own;

	if (!own_open(&own, tables->subscriptions, tables->subscriptions_index, organization_id))
		return false;
	if (own_next(&own))
	{
		Datum start = column_of(&own, "current_period_start", &starts_null);
		Datum end = column_of(&own, "current_period_end", &ends_null);

		(void) column_of(&own, "access_until", &access_ends_null);
		found = !starts_null && !ends_null && access_ends_null &&
				name_plain(plain->name, &own, meter);
		if (found && meter->carried)
			plain->period = (UsageRange){DT_NOBEGIN, DT_NOEND};
		else if (found)
			plain->period = (UsageRange){DatumGetTimestampTz(start), DatumGetTimestampTz(end)};
	}
	own_close(&own);
	return found;
}

QUERY(
	plain_access,
	"SELECT FROM billing.entitlements AS e WHERE e.organization_id = $1 AND e.access_until IS NULL",
	TEXTOID);

/* Of one that has one subscription: it gives access, and does so until a row changes. */
static bool
is_plain(const char *organization_id)
{
	return READ(plain_access, arg_text(organization_id)) == 1;
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
	HASHCTL plan_control = {.keysize = NAME_SIZE, .entrysize = sizeof(PlanLimit)};
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
		hash_get_num_entries(remembered) < REMEMBERED_MAX &&
		hash_get_num_entries(plan_limits) < REMEMBERED_MAX)
		return;
	if (remembered_memory == NULL)
		/* as long as the session: what is remembered from call to call */
		remembered_memory = AllocSetContextCreate(TopMemoryContext, "billing limits",
												  ALLOCSET_DEFAULT_SIZES);
	remembered = NULL;
	MemoryContextReset(remembered_memory);
	control.hcxt = remembered_memory;
	plan_control.hcxt = remembered_memory;
	plan_limits = hash_create("billing limits of plans", 64, &plan_control,
							  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
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

/* The quota, until when, and whether it is that of all with the same plan. */
typedef struct Found
{
	Quota quota;
	TimestampTz until;
	bool plain;
} Found;

static Found
read_latest(const text *organization, const Meter *meter, TimestampTz now, bool may_be_plain)
{
	MemoryContext memory = CurrentMemoryContext;
	Identity identity = identity_take_owner();
	char *organization_id = text_to_cstring(organization);
	MemoryContext old;
	Found found;

	PushActiveSnapshot(GetLatestSnapshot());
	db_open();
	found.quota = quota_read(organization_id, meter, now, &found.until);
	found.plain = may_be_plain && is_plain(organization_id);
	old = MemoryContextSwitchTo(memory);
	found.quota.limit = DatumGetNumericCopy(NumericGetDatum(found.quota.limit));
	MemoryContextSwitchTo(old);
	db_close();
	PopActiveSnapshot();
	identity_give_back(identity);
	return found;
}

static Numeric
kept_limit(Numeric limit)
{
	MemoryContext old = MemoryContextSwitchTo(remembered_memory);
	Numeric kept = DatumGetNumericCopy(NumericGetDatum(limit));

	MemoryContextSwitchTo(old);
	return kept;
}

static void
remember(const char *name, uint64 fingerprint, const Found *found, TimestampTz from)
{
	Numeric limit = kept_limit(found->quota.limit);
	Remembered *entry = hash_search(remembered, name, HASH_ENTER, NULL);

	entry->fingerprint = fingerprint;
	entry->quota = (Quota){limit, found->quota.period};
	entry->from = from;
	entry->until = found->until;
}

static void
remember_plan(const char *name, Numeric limit)
{
	Numeric kept = kept_limit(limit);
	PlanLimit *entry = hash_search(plan_limits, name, HASH_ENTER, NULL);

	entry->limit = kept;
}

/* By what another organisation with the same plan was found to have. */
static bool
find_by_plan(Found *found, const Plain *plain, TimestampTz now)
{
	PlanLimit *entry;

	/* plan and subscription may have changed together */
	if (remembered_changes != changes)
		return false;
	entry = hash_search(plan_limits, plain->name, HASH_FIND, NULL);
	if (entry == NULL)
		return false;
	found->quota = (Quota){DatumGetNumericCopy(NumericGetDatum(entry->limit)), plain->period};
	found->until = quota_end(&found->quota, now);
	return true;
}

/* What it does not remember; name: NULL where it cannot. */
static Quota
find_quota(const char *name, const text *organization_id, const Meter *meter, OwnRows rows,
		   TimestampTz now)
{
	Plain plain;
	Found found;
	bool may_be_plain = rows.subscriptions == 1 && rows.others == 0 &&
						plain_read(&plain, organization_id, meter);

	if (!may_be_plain || !find_by_plan(&found, &plain, now))
	{
		found = read_latest(organization_id, meter, now, may_be_plain);
		/* not what changed while it was read */
		if (remembered_changes != changes ||
			rows.fingerprint != own_rows(organization_id).fingerprint)
			return found.quota;
		if (found.plain)
			remember_plan(plain.name, found.quota.limit);
	}
	if (name != NULL)
		remember(name, rows.fingerprint, &found, now);
	return found.quota;
}

Quota
quota_of(const text *organization_id, const Meter *meter, TimestampTz now)
{
	char name[NAME_SIZE];
	OwnRows rows;
	bool has_name;
	Remembered *entry;
	Quota quota;

	forget_old();
	rows = own_rows(organization_id);
	has_name = make_name(name, organization_id, meter->metric, rows.fingerprint);
	entry = has_name ? hash_search(remembered, name, HASH_FIND, NULL) : NULL;
	if (entry == NULL || entry->fingerprint != rows.fingerprint || now < entry->from ||
		now >= entry->until)
		return find_quota(has_name ? name : NULL, organization_id, meter, rows, now);
	/* out of what the next call may forget */
	quota = entry->quota;
	quota.limit = DatumGetNumericCopy(NumericGetDatum(quota.limit));
	return quota;
}

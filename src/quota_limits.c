/*-------------------------------------------------------------------------
 *
 * quota_limits.c
 *	  How much of a metric an organisation may use, and in which period.
 *
 * consume() asks this with every call, and what it takes to find out costs
 * more than the call.  So a session remembers it, until somebody changes a row
 * that it may come from: triggers on those tables send an invalidation of the
 * relcache for billing.limits_changed, a table without content that nobody
 * opens, so that it costs nothing besides.  What changes with time alone is
 * remembered until then.
 *
 * It is read on the latest snapshot, whatever the transaction's own is: the
 * limit is that of now.
 *
 *-------------------------------------------------------------------------
 */
#include "quota.h"

#include "commands/trigger.h"
#include "entitlements.h"
#include "subjects.h"
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
	char name[NAME_SIZE]; /* the key: metric, tab, organisation */
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
	CacheInvalidateRelcacheByRelid(usage_tables()->limits);
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
QUERY(next_moment,
	  "SELECT min(s.access_until) FROM billing.subscriptions AS s "
	  "WHERE s.organization_id = $1 AND s.access_until > $2",
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
make_name(char *name, const text *organization_id, const char *metric)
{
	int length = strlen(metric);
	int organization_length = VARSIZE_ANY_EXHDR(organization_id);

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
remember(const char *name, const Quota *quota, TimestampTz from, TimestampTz until)
{
	MemoryContext old = MemoryContextSwitchTo(remembered_memory);
	Numeric limit = DatumGetNumericCopy(NumericGetDatum(quota->limit));
	Remembered *entry = hash_search(remembered, name, HASH_ENTER, NULL);

	entry->quota = (Quota){limit, quota->period};
	entry->from = from;
	entry->until = until;
	MemoryContextSwitchTo(old);
}

Quota
quota_of(const text *organization_id, const Meter *meter, TimestampTz now)
{
	char name[NAME_SIZE];
	bool has_name = make_name(name, organization_id, meter->metric);
	Remembered *entry;
	TimestampTz until;
	Quota quota;

	forget_old();
	entry = has_name ? hash_search(remembered, name, HASH_FIND, NULL) : NULL;
	if (entry != NULL && now >= entry->from && now < entry->until)
	{
		/* out of what the next call may forget */
		quota = entry->quota;
		quota.limit = DatumGetNumericCopy(NumericGetDatum(quota.limit));
		return quota;
	}
	quota = read_latest(organization_id, meter, now, &until);
	/* not what changed while it was read */
	if (has_name && remembered_changes == changes)
		remember(name, &quota, now, until);
	return quota;
}

/*-------------------------------------------------------------------------
 *
 * usage_state.c
 *	  What record_usage() remembers per session, and what the totals hold.
 *
 * Meters, limits and oids are read once per session and again after a relcache
 * invalidation of a table that they come from; the triggers
 * forget_usage_rules send one when rows change.  They are read on the latest
 * snapshot, like a catalog.
 *
 * Each event keeps the number of its transaction.  In another cluster those
 * numbers mean nothing: a restored database has a state row that names where
 * it is from, and the first one to write there binds it, with a base that puts
 * the numbers of this cluster above all that were restored.  Until then, and
 * as far as the restored events go for ever, the restored row says what the
 * restored totals hold.
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "accounts.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "commands/trigger.h"
#include "errors.h"
#include "subjects.h"
#include "utils/catcache.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

/* How often a session that records usage makes sure that there is a worker. */
#define ENSURE_INTERVAL (10 * USECS_PER_SEC)

static UsageTables tables;
static bool tables_valid = false;
static MemoryContext tables_memory = NULL;

static void
forget(Datum arg, Oid relation)
{
	if (relation == InvalidOid || relation == tables.events || relation == tables.keys ||
		relation == tables.clocks || relation == tables.meters || relation == tables.settings ||
		relation == tables.state || relation == tables.counters ||
		relation == tables.subscriptions || relation == tables.overrides ||
		relation == tables.add_ons)
		tables_valid = false;
}

Oid
usage_limits_mark(void)
{
	return tables.limits;
}

/* Trigger: whoever remembers rows of this table shall read them again. */
SQL_FUNCTION(billing_forget_usage_rules)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "forget_usage_rules() is a trigger");
	CacheInvalidateRelcache(trigger->tg_relation);
	PG_RETURN_POINTER(NULL);
}

Oid
usage_table_named(const char *name)
{
	Oid table = get_relname_relid(name, get_namespace_oid("billing", false));

	if (!OidIsValid(table))
		elog(ERROR, "billing.%s is missing", name);
	return table;
}

static Oid
primary_key_of(Oid table)
{
	Relation relation = table_open(table, AccessShareLock);
	Oid index;

	/* RelationGetPrimaryKeyIndex() has other arguments in 18 */
	(void) RelationGetIndexList(relation);
	index = relation->rd_pkindex;
	table_close(relation, AccessShareLock);
	return index;
}

QUERY(load_meters,
	  "SELECT metric, aggregation, carried, property, dimensions, enforced FROM billing.meters",
	  InvalidOid);
QUERY(
	load_state,
	"SELECT bound_to, base, raw_since, seen_until, removed_until, distributed FROM billing.usage_rollup_state",
	InvalidOid);
QUERY(
	load_ahead,
	"SELECT extract(epoch FROM value::interval)::float8 FROM billing.settings WHERE name = 'usage_ahead'",
	InvalidOid);

static Aggregation
aggregation_of_name(const char *name)
{
	switch (name[0])
	{
		case 's':
			return AGGREGATE_SUM;
		case 'c':
			return AGGREGATE_COUNT;
		case 'm':
			return AGGREGATE_MAX;
		case 'l':
			return AGGREGATE_LATEST;
		case 'u':
			return AGGREGATE_UNIQUE;
		default:
			return AGGREGATE_WEIGHTED;
	}
}

static void
read_dimensions(Meter *meter, Datum array)
{
	Datum *elements;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL,
					  &meter->dimension_count);
	meter->dimensions = MemoryContextAlloc(tables_memory,
										   sizeof(char *) * Max(meter->dimension_count, 1));
	for (int i = 0; i < meter->dimension_count; i++)
		meter->dimensions[i] = MemoryContextStrdup(tables_memory, TextDatumGetCString(elements[i]));
}

static void
read_meters(void)
{
	HASHCTL control = {.keysize = NAMEDATALEN, .entrysize = sizeof(Meter), .hcxt = tables_memory};
	int64 count;
	Rows rows;

	tables.meter_table = hash_create("billing meters", 64, &control,
									 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	tables.any_enforced = false;
	count = READ(load_meters, arg_null());
	rows = rows_keep();
	for (int64 i = 0; i < count; i++)
	{
		bool isnull;
		char *property = rows_text(rows, i, 4);
		Meter *meter = hash_search(tables.meter_table, rows_text(rows, i, 1), HASH_ENTER, NULL);

		meter->aggregation = aggregation_of_name(rows_text(rows, i, 2));
		meter->carried = rows_bool(rows, i, 3);
		meter->property = property == NULL ? NULL : MemoryContextStrdup(tables_memory, property);
		read_dimensions(meter, rows_datum(rows, i, 5, &isnull));
		meter->enforced = rows_bool(rows, i, 6);
		tables.any_enforced = tables.any_enforced || meter->enforced;
	}
}

static int64
number_of(const UsageTables *used, FullTransactionId transaction)
{
	return (used->base + (int64) U64FromFullTransactionId(transaction)) * USAGE_PARTS;
}

static void
read_state(void)
{
	double ahead = SECS_PER_DAY;
	bool isnull;

	if (READ(load_ahead, arg_null()) > 0 && !row_null(0, 1))
		ahead = DatumGetFloat8(rows_datum(SPI_tuptable, 0, 1, &isnull));
	tables.ahead = (int64) (ahead * USECS_PER_SEC);
	tables.bound = false;
	tables.base = 0;
	tables.distributed = false;
	tables.raw_since = DT_NOBEGIN;
	tables.removed_until = 0;
	if (READ(load_state, arg_null()) > 0)
	{
		tables.base = row_int(0, 2);
		/* numbers that are yet to come: restored from a later time of this database */
		tables.bound = strcmp(row_text(0, 1), database_binding()) == 0 &&
					   row_int(0, 4) <= number_of(&tables, ReadNextFullTransactionId());
		tables.raw_since = row_time(0, 3);
		tables.removed_until = row_int(0, 5);
		tables.distributed = row_bool(0, 6);
	}
}

QUERY(citus_group, "SELECT groupid FROM pg_catalog.pg_dist_local_group", InvalidOid);
QUERY(
	citus_distributes,
	"SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = 'billing.usage_events'::regclass",
	InvalidOid);

static bool
has_citus(void)
{
	return OidIsValid(get_relname_relid("pg_dist_partition", PG_CATALOG_NAMESPACE));
}

bool
usage_is_on_a_node(void)
{
	Identity identity;
	bool is;

	if (!has_citus())
		return false;
	identity = identity_take_owner();
	db_open();
	is = READ(citus_group, arg_null()) > 0 && row_int4(0, 1) != 0;
	db_close();
	identity_give_back(identity);
	return is;
}

/*
 * Rows that are written past the executor would stay here, in a table that
 * Citus only uses as a name.
 */
static void
check_citus(void)
{
	if (!has_citus())
		return;
	if (RUN(citus_group, arg_null()) > 0 && row_int4(0, 1) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_JB_NOT_SUPPORTED),
				 errmsg("usage is recorded and read on the coordinator of Citus"),
				 errdetail("This is the node of group %d, which has neither meters nor plans.",
						   row_int4(0, 1)),
				 errhint("Connect to the coordinator.")));
	if (!tables.distributed && RUN(citus_distributes, arg_null()) > 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("table billing.usage_events was distributed by hand"),
						errdetail("What the totals hold is not known for distributed tables."),
						errhint("SELECT billing.distribute_usage() makes the rest of it.")));
}

static void
read_tables(void)
{
	Identity identity = identity_take_owner();

	tables.events = usage_table_named("usage_events");
	tables.keys = usage_table_named("usage_keys");
	tables.clocks = usage_table_named("sandbox_clocks");
	tables.meters = usage_table_named("meters");
	tables.settings = usage_table_named("settings");
	tables.state = usage_table_named("usage_rollup_state");
	tables.counters = usage_table_named("usage_counters");
	tables.limits = usage_table_named("limits_changed");
	tables.subscriptions = usage_table_named("subscriptions");
	tables.subscriptions_index = usage_table_named("subscriptions_organization");
	tables.overrides = usage_table_named("feature_overrides");
	tables.overrides_index = primary_key_of(tables.overrides);
	tables.add_ons = usage_table_named("organization_add_ons");
	tables.add_ons_index = primary_key_of(tables.add_ons);
	tables.keys_index = primary_key_of(tables.keys);
	tables.clocks_index = primary_key_of(tables.clocks);
	tables.counters_index = primary_key_of(tables.counters);
	PushActiveSnapshot(GetLatestSnapshot());
	db_open();
	read_meters();
	read_state();
	check_citus();
	db_close();
	PopActiveSnapshot();
	identity_give_back(identity);
}

const UsageTables *
usage_tables(void)
{
	static bool registered = false;

	if (!registered)
	{
		CacheRegisterRelcacheCallback(forget, (Datum) 0);
		registered = true;
	}
	while (!tables_valid)
	{
		/* whoever still holds a meter has it until the end of the transaction */
		if (tables_memory != NULL)
			MemoryContextSetParent(tables_memory, TopTransactionContext);
		/* as long as the session: what is remembered from call to call */
		tables_memory = AllocSetContextCreate(TopMemoryContext, "billing usage rules",
											  ALLOCSET_SMALL_SIZES);
		/* first: what changes while it is read makes it invalid again */
		tables_valid = true;
		PG_TRY();
		{
			read_tables();
		}
		PG_CATCH();
		{
			tables_valid = false;
			PG_RE_THROW();
		}
		PG_END_TRY();
	}
	return &tables;
}

QUERY(lock_state, "LOCK TABLE billing.usage_rollup_state IN SHARE UPDATE EXCLUSIVE MODE",
	  InvalidOid);
QUERY(bind_state,
	  "INSERT INTO billing.usage_rollup_state (bound_to, base) "
	  "VALUES ($1, (SELECT coalesce(max(recorded_in) / $2 + 1, 0) FROM billing.usage_events)) "
	  "ON CONFLICT (only_one) DO UPDATE SET bound_to = excluded.bound_to, "
	  "base = greatest(excluded.base, usage_rollup_state.seen_until / $2 + 1)",
	  TEXTOID, INT8OID);

/* Two that write first: the second waits here, and finds it done. */
static void
bind_to_this_database(void)
{
	Identity identity = identity_take_owner();

	db_open();
	RUN(lock_state, arg_null());
	tables_valid = false;
	if (!usage_tables()->bound)
	{
		RUN(bind_state, arg_text(database_binding()), arg_int(USAGE_PARTS));
		CacheInvalidateRelcacheByRelid(tables.state);
		CommandCounterIncrement();
	}
	db_close();
	identity_give_back(identity);
	tables_valid = false;
}

/*
 * Nobody tells the worker of usage; but there has to be one that looks.  Now
 * and then again: a transaction that was rolled back has told nobody.
 */
static void
ensure_worker(void)
{
	static TimestampTz ensured = 0;
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	Identity identity;

	if (ensured != 0 && now >= ensured && now - ensured < ENSURE_INTERVAL)
		return;
	identity = identity_take_owner();
	db_open();
	worker_wake_at_commit();
	db_close();
	identity_give_back(identity);
	ensured = now;
}

const UsageTables *
usage_tables_bound(void)
{
	ensure_worker();
	while (!usage_tables()->bound)
		bind_to_this_database();
	return &tables;
}

/* On shards events are not found by it: the coordinator need not write a commit of its own. */
int64
usage_transaction(const UsageTables *used)
{
	if (used->distributed)
		return used->base * USAGE_PARTS;
	return number_of(used, GetTopFullTransactionId());
}

/* ------------------------------------------------------------------------
 * The mark
 * ------------------------------------------------------------------------
 */
bool
mark_has(const UsageMark *mark, int64 recorded_in)
{
	if (recorded_in >= mark->until)
		return false;
	for (int i = 0; i < mark->open_count; i++)
	{
		if (recorded_in >= mark->open[i] && recorded_in <= usage_last_number(mark->open[i]))
			return false;
	}
	return true;
}

QUERY(read_mark, "SELECT seen_until, open, removed_until FROM billing.usage_rollup_state",
	  InvalidOid);

/* When the snapshot sees the removal, its totals hold what was removed. */
static void
check_not_removed(const UsageMark *mark, int64 removed_until)
{
	int64 now = usage_tables()->removed_until;
	bool lacking = now > mark->until;

	for (int i = 0; i < mark->open_count; i++)
		lacking = lacking || mark->open[i] < now;
	if (removed_until < now && lacking)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("usage that this snapshot counts was removed meanwhile"),
						errdetail("The setting usage_retention has removed the events before %s.",
								  pstrdup(timestamptz_to_str(usage_tables()->raw_since))),
						errhint("Try again in a new transaction, which finds it in the totals.")));
}

UsageMark
usage_mark(void)
{
	UsageMark mark = {0, 0, NULL};
	Datum *open;
	bool isnull;

	/* no number of an event is in the tail: totals have marks of their own */
	if (usage_tables()->distributed)
		return (UsageMark){PG_INT64_MAX, 0, NULL};
	if (READ(read_mark, arg_null()) == 0)
		return mark;
	mark.until = row_int(0, 1);
	deconstruct_array(DatumGetArrayTypeP(rows_datum(SPI_tuptable, 0, 2, &isnull)), INT8OID,
					  sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &open, NULL,
					  &mark.open_count);
	mark.open = palloc(sizeof(int64) * Max(mark.open_count, 1));
	for (int i = 0; i < mark.open_count; i++)
		mark.open[i] = DatumGetInt64(open[i]);
	check_not_removed(&mark, row_int(0, 3));
	return mark;
}

/* ------------------------------------------------------------------------
 * What a snapshot sees
 * ------------------------------------------------------------------------
 */
/* Of a snapshot's 32 bits: at most one wrap behind the next number to be given. */
static FullTransactionId
widen(TransactionId xid, FullTransactionId next)
{
	uint32 epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return FullTransactionIdFromEpochAndXid(epoch, xid);
}

static int
number_order(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/* On a standby a snapshot has those that run among the subtransactions: there the list is empty. */
UsageSight
usage_sight(const UsageTables *used)
{
	Snapshot snapshot = GetActiveSnapshot();
	FullTransactionId next = ReadNextFullTransactionId();
	FullTransactionId own = GetTopFullTransactionIdIfAny();
	UsageSight sight = {number_of(used, widen(snapshot->xmax, next)), -1, 0, NULL};

	if (FullTransactionIdIsValid(own))
		sight.own = number_of(used, own);
	sight.running = palloc(sizeof(int64) * Max(snapshot->xcnt, 1));
	for (uint32 i = 0; i < snapshot->xcnt; i++)
	{
		int64 number = number_of(used, widen(snapshot->xip[i], next));

		if (number < sight.until && number != sight.own)
			sight.running[sight.running_count++] = number;
	}
	qsort(sight.running, sight.running_count, sizeof(int64), number_order);
	return sight;
}

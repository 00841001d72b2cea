/*-------------------------------------------------------------------------
 *
 * usage_store.c
 *	  Writes usage events and their keys, past SPI and the executor.
 *
 * A call opens a store, puts rows, and closes it.  Rows are collected per
 * partition and written a page at a time.  What INSERT would do besides is
 * done here or has been done: the rules are those of usage_rules.c, a
 * read-only transaction is refused, the partition is looked up under the lock
 * of the parent that INSERT takes as well.  EXECUTE on the SQL functions is
 * what allows it.
 *
 * Keys go through the same steps as INSERT ... ON CONFLICT DO NOTHING.  A
 * batch takes them in order, so that two batches never wait for each other.
 * Counters of enforced metrics come last, in order, too (quota_counters.c).
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "quota.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

/* Rows that are written at once: a few pages. */
#define PUT_BATCH 128
/* Random bytes are fetched for this many ids at once. */
#define RANDOM_IDS 256

typedef enum EventColumn
{
	EVENT_OCCURRED_AT,
	EVENT_RECORDED_AT,
	EVENT_RECORDED_IN,
	EVENT_ID,
	EVENT_ORGANIZATION_ID,
	EVENT_METRIC,
	EVENT_QUANTITY,
	EVENT_KIND,
	EVENT_KEY,
	EVENT_PROPERTIES,
	EVENT_CORRECTS,
	EVENT_COLUMNS
} EventColumn;

static const char *const event_columns[EVENT_COLUMNS] = {
	"occurred_at", "recorded_at", "recorded_in",     "id",         "organization_id", "metric",
	"quantity",    "kind",        "idempotency_key", "properties", "corrects"};

/* A table that is written to. */
typedef struct Target
{
	Relation relation;
	ResultRelInfo *info;
	int columns[EVENT_COLUMNS]; /* where each of them is in this partition */
	TupleTableSlot *slots[PUT_BATCH];
	int slot_count; /* that there are */
	int row_count;  /* that wait to be written */
} Target;

struct UsageStore
{
	const UsageTables *tables;
	EState *estate;
	Relation events;
	List *targets; /* a Target per partition */
	Target *last;
	TimestampTz last_from; /* what the last target holds */
	TimestampTz last_until;
	Target *keys;
	List *arbiters;
	List *counts;      /* what counters are changed by at the end */
	int64 transaction; /* the first number of its events */
	TimestampTz now;
	ShardStore *shards; /* where usage is distributed: it does all that follows */
};

/* ------------------------------------------------------------------------
 * Ids
 * ------------------------------------------------------------------------
 */
/*
 * As new_id(), but each is greater than the one before, so that of two events
 * at the same moment the later one is known, and without a call for random
 * bytes each time.
 */
void
usage_make_id(pg_uuid_t *id)
{
	static unsigned char random[RANDOM_IDS][8];
	static int used = RANDOM_IDS;
	static uint64 last = 0; /* 48 bits of milliseconds, 12 of their fraction */
	int64 us = GetCurrentTimestamp() +
			   (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	uint64 stamp = ((uint64) (us / 1000) << 12) | ((uint64) (us % 1000) * 4096 / 1000);

	if (used == RANDOM_IDS)
	{
		if (!pg_strong_random(random, sizeof(random)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
		used = 0;
	}
	if (stamp <= last)
		stamp = last + 1;
	last = stamp;
	for (int i = 0; i < 6; i++)
		id->data[i] = (unsigned char) (stamp >> (52 - 8 * i));
	id->data[6] = 0x70 | ((stamp >> 8) & 0x0f);
	id->data[7] = stamp & 0xff;
	memcpy(id->data + 8, random[used++], 8);
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
}

/* ------------------------------------------------------------------------
 * Opening
 * ------------------------------------------------------------------------
 */
/* Without the copy of the triggers that InitResultRelInfo() makes: none of them fires here. */
static Target *
open_target(Oid table, bool speculative)
{
	Target *target = palloc0(sizeof(Target));

	target->relation = table_open(table, RowExclusiveLock);
	target->info = makeNode(ResultRelInfo);
	target->info->ri_RelationDesc = target->relation;
	ExecOpenIndices(target->info, speculative);
	return target;
}

/* Columns are found by name: a partition may be older than a column of its parent. */
static void
find_columns(Target *target)
{
	TupleDesc descriptor = RelationGetDescr(target->relation);

	for (int column = 0; column < EVENT_COLUMNS; column++)
	{
		int at = column;

		if (at >= descriptor->natts ||
			strcmp(NameStr(TupleDescAttr(descriptor, at)->attname), event_columns[column]) != 0)
		{
			for (at = 0; at < descriptor->natts; at++)
			{
				if (strcmp(NameStr(TupleDescAttr(descriptor, at)->attname),
						   event_columns[column]) == 0)
					break;
			}
		}
		if (at == descriptor->natts)
			elog(ERROR, "partition \"%s\" has no column %s",
				 RelationGetRelationName(target->relation), event_columns[column]);
		target->columns[column] = at;
	}
}

/* The rules were asked before the lock was there: retention may have been faster. */
static void
check_still_kept(const TimestampTz *times, int count)
{
	TimestampTz raw_since = usage_tables()->raw_since;

	for (int i = 0; i < count; i++)
	{
		if (times[i] < raw_since)
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("the events before %s have just been removed",
								   pstrdup(timestamptz_to_str(raw_since))),
							errdetail("An event is of %s.", pstrdup(timestamptz_to_str(times[i]))),
							errhint("Try again: the rules then say what can be recorded.")));
	}
}

/*
 * The parent's lock keeps the partitions from being removed.  It is given up
 * to make one that is missing: a table that is open cannot be altered.
 */
static Relation
open_events(const UsageTables *tables, const TimestampTz *times, int count)
{
	for (;;)
	{
		Relation events = table_open(tables->events, RowExclusiveLock);
		int missing = 0;

		check_still_kept(times, count);
		while (missing < count && OidIsValid(usage_partition_at(events, times[missing])))
			missing++;
		if (missing == count)
			return events;
		table_close(events, NoLock);
		usage_partitions_make(times + missing, count - missing);
	}
}

UsageStore *
usage_store_open(const char *function, const TimestampTz *times, int count)
{
	UsageStore *store = palloc0(sizeof(UsageStore));

	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	(void) usage_tables_bound();
	store->events = open_events(usage_tables_bound(), times, count);
	/* what was read before a wait may be old */
	store->tables = usage_tables_bound();
	store->transaction = usage_transaction(store->tables);
	store->now = GetCurrentTransactionStartTimestamp();
	if (store->tables->distributed)
		store->shards = shard_store_open(store->now, store->transaction);
	else
		store->estate = CreateExecutorState();
	return store;
}

/* ------------------------------------------------------------------------
 * Keys
 * ------------------------------------------------------------------------
 */
static TupleTableSlot *
key_slot(UsageStore *store, const UsageRow *row)
{
	TupleTableSlot *slot;

	if (store->keys == NULL)
	{
		store->keys = open_target(store->tables->keys, true);
		store->arbiters = list_make1_oid(store->tables->keys_index);
		store->keys->slots[0] = table_slot_create(store->keys->relation, NULL);
	}
	slot = store->keys->slots[0];
	ExecClearTuple(slot);
	memset(slot->tts_isnull, false, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	slot->tts_values[0] = TimestampTzGetDatum(Max(store->now, row->occurred_at));
	slot->tts_values[1] = PointerGetDatum(row->organization_id);
	slot->tts_values[2] = PointerGetDatum(row->key);
	ExecStoreVirtualTuple(slot);
	return slot;
}

bool
usage_store_knows(UsageStore *store, const UsageRow *row)
{
	TupleTableSlot *slot;
	ItemPointerData conflict;
	bool known;

	if (store->shards != NULL)
		return shard_store_knows(store->shards, row);
	slot = key_slot(store, row);
	known = !compat_check_index_constraints(store->keys->info, slot, store->estate, &conflict,
											store->arbiters);
	ResetPerTupleExprContext(store->estate);
	return known;
}

/* A conflict that shows only after the row is there takes it back, and the other one is waited for. */
bool
usage_store_claim(UsageStore *store, const UsageRow *row)
{
	if (store->shards != NULL)
		return shard_store_claim(store->shards, row);
	for (;;)
	{
		TupleTableSlot *slot = key_slot(store, row);
		ItemPointerData at;
		bool conflict = false;
		uint32 token;

		if (!compat_check_index_constraints(store->keys->info, slot, store->estate, &at,
											store->arbiters))
			return false;
		token = SpeculativeInsertionLockAcquire(GetCurrentTransactionId());
		table_tuple_insert_speculative(store->keys->relation, slot, GetCurrentCommandId(true), 0,
									   NULL, token);
		list_free(compat_insert_index_tuples(store->keys->info, slot, store->estate, true,
											 &conflict, store->arbiters));
		table_tuple_complete_speculative(store->keys->relation, slot, token, !conflict);
		SpeculativeInsertionLockRelease(GetCurrentTransactionId());
		ResetPerTupleExprContext(store->estate);
		if (!conflict)
			return true;
	}
}

/*
 * Our own row, in a later command than the one that wrote it.  Others who want
 * the key wait until this transaction ends, and find it free then.
 */
void
usage_store_unclaim(UsageStore *store, const UsageRow *row)
{
	ItemPointerData at;
	TM_FailureData failure;
	TM_Result result;

	if (store->shards != NULL)
	{
		shard_store_unclaim(row);
		return;
	}
	at = store->keys->slots[0]->tts_tid;
	CommandCounterIncrement();
	result = table_tuple_delete(store->keys->relation, &at, GetCurrentCommandId(true),
								InvalidSnapshot, InvalidSnapshot, true, &failure, false);
	if (result != TM_Ok)
		elog(ERROR, "could not take a key back: %d", (int) result);
}

/* ------------------------------------------------------------------------
 * Events
 * ------------------------------------------------------------------------
 */
static void
write_rows(UsageStore *store, Target *target)
{
	CommandId command = GetCurrentCommandId(true);

	if (target->row_count == 1)
		table_tuple_insert(target->relation, target->slots[0], command, 0, NULL);
	else
		table_multi_insert(target->relation, target->slots, target->row_count, command, 0, NULL);
	for (int i = 0; i < target->row_count; i++)
	{
		(void) compat_insert_index_tuples(target->info, target->slots[i], store->estate, false,
										  NULL, NIL);
		ResetPerTupleExprContext(store->estate);
		ExecClearTuple(target->slots[i]);
	}
	target->row_count = 0;
}

static Target *
target_of(UsageStore *store, TimestampTz occurred_at)
{
	UsagePartition *partition;
	ListCell *cell;
	Target *target;

	if (store->last != NULL && occurred_at >= store->last_from && occurred_at < store->last_until)
		return store->last;
	partition = linitial(usage_partitions(store->events, occurred_at, occurred_at + 1));
	store->last_from = partition->from;
	store->last_until = partition->until;
	foreach (cell, store->targets)
	{
		store->last = lfirst(cell);
		if (RelationGetRelid(store->last->relation) == partition->relation)
			return store->last;
	}
	target = open_target(partition->relation, false);
	find_columns(target);
	store->targets = lappend(store->targets, target);
	store->last = target;
	return target;
}

/* A new number every so many events of a transaction; the last one takes the rest. */
static int64
next_number(int64 transaction)
{
	static int64 counted_of = -1;
	static int64 counted = 0;
	int64 part;

	if (counted_of != transaction)
	{
		counted_of = transaction;
		counted = 0;
	}
	part = counted++ / USAGE_PART_EVENTS;
	return transaction + Min(part, USAGE_PARTS - 1);
}

static Datum
kind_usage(void)
{
	static text *kind = NULL;

	if (kind == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext); /* a constant */

		kind = cstring_to_text("usage");
		MemoryContextSwitchTo(old);
	}
	return PointerGetDatum(kind);
}

static void
fill_slot(UsageStore *store, const Target *target, TupleTableSlot *slot, const UsageRow *row)
{
	Datum *values = slot->tts_values;
	bool *nulls = slot->tts_isnull;
	const int *at = target->columns;

	memset(nulls, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	for (int column = 0; column < EVENT_KEY; column++)
		nulls[at[column]] = false;
	values[at[EVENT_OCCURRED_AT]] = TimestampTzGetDatum(row->occurred_at);
	values[at[EVENT_RECORDED_AT]] = TimestampTzGetDatum(store->now);
	values[at[EVENT_RECORDED_IN]] = Int64GetDatum(next_number(store->transaction));
	values[at[EVENT_ID]] = UUIDPGetDatum(&row->id);
	values[at[EVENT_ORGANIZATION_ID]] = PointerGetDatum(row->organization_id);
	values[at[EVENT_METRIC]] = PointerGetDatum(row->metric);
	values[at[EVENT_QUANTITY]] = NumericGetDatum(row->quantity);
	values[at[EVENT_KIND]] = row->kind == NULL ? kind_usage() : CStringGetTextDatum(row->kind);
	nulls[at[EVENT_KEY]] = row->key == NULL;
	values[at[EVENT_KEY]] = PointerGetDatum(row->key);
	nulls[at[EVENT_PROPERTIES]] = row->properties == NULL;
	values[at[EVENT_PROPERTIES]] = PointerGetDatum(row->properties);
	nulls[at[EVENT_CORRECTS]] = row->corrects == NULL;
	values[at[EVENT_CORRECTS]] = PointerGetDatum(row->corrects);
}

void
usage_store_prepare(UsageStore *store, TimestampTz occurred_at)
{
	(void) target_of(store, occurred_at);
}

void
usage_store_put_counted(UsageStore *store, const UsageRow *row)
{
	Target *target;
	TupleTableSlot *slot;

	if (store->shards != NULL)
	{
		shard_store_put(store->shards, row);
		return;
	}
	target = target_of(store, row->occurred_at);
	if (target->row_count == target->slot_count)
		target->slots[target->slot_count++] = table_slot_create(target->relation, NULL);
	slot = target->slots[target->row_count++];
	ExecClearTuple(slot);
	fill_slot(store, target, slot, row);
	ExecStoreVirtualTuple(slot);
	if (target->row_count == PUT_BATCH)
		write_rows(store, target);
}

/* What the row points to stays as it is until it is written: by the end of the store's life. */
void
usage_store_put(UsageStore *store, const UsageRow *row)
{
	usage_store_put_counted(store, row);
	/* asked under the lock of usage_events, for which the switch waits */
	if (store->tables->any_enforced)
		store->counts = counters_note(store->counts, row);
}

static void
close_target(Target *target)
{
	for (int i = 0; i < PUT_BATCH && target->slots[i] != NULL; i++)
		ExecDropSingleTupleTableSlot(target->slots[i]);
	ExecCloseIndices(target->info);
	table_close(target->relation, NoLock);
}

void
usage_store_close(UsageStore *store)
{
	ListCell *cell;

	foreach (cell, store->targets)
	{
		Target *target = lfirst(cell);

		if (target->row_count > 0)
			write_rows(store, target);
		close_target(target);
	}
	if (store->keys != NULL)
		close_target(store->keys);
	if (store->shards != NULL)
		shard_store_close(store->shards);
	if (store->counts != NIL)
		counters_apply(store->counts);
	table_close(store->events, NoLock);
	if (store->estate != NULL)
		FreeExecutorState(store->estate);
}

/* ------------------------------------------------------------------------
 * Rows that came together
 * ------------------------------------------------------------------------
 */
typedef struct KeyedRow
{
	const UsageRow *row;
	int64 number;
} KeyedRow;

int
usage_text_order(const text *a, const text *b)
{
	int length_a = VARSIZE_ANY_EXHDR(a);
	int length_b = VARSIZE_ANY_EXHDR(b);
	int order = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(length_a, length_b));

	return order != 0 ? order : length_a - length_b;
}

/* Of two rows with the same key the first one counts. */
static int
key_order(const void *a, const void *b)
{
	const KeyedRow *left = a;
	const KeyedRow *right = b;
	int order = usage_text_order(left->row->organization_id, right->row->organization_id);

	if (order == 0)
		order = usage_text_order(left->row->key, right->row->key);
	if (order == 0)
		order = left->number < right->number ? -1 : 1;
	return order;
}

typedef struct Batch
{
	UsageRow *rows;
	int64 count;
	Refusal **refused; /* per row */
	bool *known;
} Batch;

static TimestampTz *
times_of(const Batch *batch, int *count)
{
	TimestampTz *times = palloc(sizeof(TimestampTz) * Max(batch->count, 1));
	TimestampTz first = DT_NOEND;
	TimestampTz last = DT_NOBEGIN;

	*count = 0;
	for (int64 i = 0; i < batch->count; i++)
	{
		TimestampTz at = batch->rows[i].occurred_at;

		if (batch->refused[i] != NULL)
			continue;
		/* mostly they are close together: the earliest and the latest, and what lies apart */
		if (at >= first && at <= last && last - first < 28 * USECS_PER_DAY)
			continue;
		first = Min(first, at);
		last = Max(last, at);
		times[(*count)++] = at;
	}
	return times;
}

/*
 * A known key is known whatever else the row says, so keys come before
 * refusals; but a row that is refused does not use its key up.
 */
static void
claim_keys(UsageStore *store, Batch *batch)
{
	KeyedRow *keyed = palloc(sizeof(KeyedRow) * Max(batch->count, 1));
	int64 count = 0;

	for (int64 i = 0; i < batch->count; i++)
	{
		if (batch->rows[i].key != NULL && usage_check_key(&batch->rows[i]) == NULL)
			keyed[count++] = (KeyedRow){&batch->rows[i], i};
	}
	qsort(keyed, count, sizeof(KeyedRow), key_order);
	for (int64 i = 0; i < count; i++)
	{
		int64 n = keyed[i].number;

		if (batch->refused[n] == NULL)
			batch->known[n] = !usage_store_claim(store, keyed[i].row);
		else
			batch->known[n] = usage_store_knows(store, keyed[i].row);
	}
}

static bool
any_key(const Batch *batch)
{
	for (int64 i = 0; i < batch->count; i++)
	{
		if (batch->rows[i].key != NULL)
			return true;
	}
	return false;
}

int64
usage_record(const char *function, UsageRow *rows, int64 count, int64 first_row, SkipUsage skipped)
{
	Batch batch = {rows, count, palloc0(sizeof(Refusal *) * Max(count, 1)),
				   palloc0(sizeof(bool) * Max(count, 1))};
	RuleScope scope = {0};
	UsageStore *store;
	TimestampTz *times;
	int time_count;
	int64 counted = 0;

	for (int64 i = 0; i < count; i++)
	{
		batch.refused[i] = usage_check(&rows[i], &scope);
		if (batch.refused[i] != NULL && rows[i].key == NULL && skipped == NULL)
			usage_refuse(batch.refused[i], first_row == 0 ? 0 : first_row + i);
	}
	times = times_of(&batch, &time_count);
	store = usage_store_open(function, times, time_count);
	if (any_key(&batch))
		claim_keys(store, &batch);
	for (int64 i = 0; i < count; i++)
	{
		if (batch.known[i])
			continue;
		if (batch.refused[i] == NULL)
		{
			usage_store_put(store, &rows[i]);
			counted++;
		}
		else if (skipped == NULL)
			usage_refuse(batch.refused[i], first_row == 0 ? 0 : first_row + i);
		else
			skipped(i + 1, batch.refused[i]);
	}
	usage_store_close(store);
	return counted;
}

/*-------------------------------------------------------------------------
 *
 * quota_counters.c
 *	  The counters of enforced metrics: one row per organisation and metric.
 *
 * A counter says how much was used in its period and how much is reserved.
 * It is changed in the transaction that records the event, as the last lock
 * that the call takes, past SPI and the executor, like the events themselves
 * (usage_store.c); the row stays on its page (HOT), as nothing that is indexed
 * changes.
 *
 * That no event is missed rests on the row's lock.  Whoever records an event
 * of an enforced metric holds it until his transaction ends: by changing the
 * row, or, when the event is not of the counter's period, FOR KEY SHARE; and
 * makes the row where there is none.  Whoever moves the counter to another
 * period takes it FOR UPDATE, so that all events are committed or his own, and
 * adds them up on a snapshot that is taken afterwards.  Until somebody needs a
 * quantity the row has no period, and nothing is added up.
 *
 *-------------------------------------------------------------------------
 */
#include "quota.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

typedef enum CounterColumn
{
	COUNTER_ORGANIZATION_ID,
	COUNTER_METRIC,
	COUNTER_PERIOD_START,
	COUNTER_PERIOD_END,
	COUNTER_USED,
	COUNTER_RESERVED,
	COUNTER_COLUMNS
} CounterColumn;

/* ------------------------------------------------------------------------
 * One row
 * ------------------------------------------------------------------------
 */
static void
text_key(ScanKey key, Relation index, AttrNumber column, text *value)
{
	ScanKeyEntryInitialize(key, 0, column, BTEqualStrategyNumber, InvalidOid,
						   index->rd_indcollation[column - 1], F_TEXTEQ, PointerGetDatum(value));
}

/* Copies what is needed: the page is not held while somebody waits. */
static void
take_values(Counter *counter)
{
	const Datum *values = counter->slot->tts_values;

	slot_getallattrs(counter->slot);
	counter->found = true;
	counter->at = counter->slot->tts_tid;
	counter->has_period = !counter->slot->tts_isnull[COUNTER_PERIOD_START];
	if (counter->has_period)
	{
		counter->period.start = DatumGetTimestampTz(values[COUNTER_PERIOD_START]);
		counter->period.end = DatumGetTimestampTz(values[COUNTER_PERIOD_END]);
	}
	counter->used = DatumGetNumericCopy(values[COUNTER_USED]);
	counter->reserved = DatumGetNumericCopy(values[COUNTER_RESERVED]);
	ExecClearTuple(counter->slot);
}

/* On a snapshot of this moment, or that of the transaction where it has but one. */
static void
counter_read(Counter *counter)
{
	Snapshot snapshot;
	IndexScanDesc scan;
	ScanKeyData keys[2];

	if (counter->on_shard)
	{
		shard_counter_read(counter);
		return;
	}
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	scan = compat_index_beginscan(counter->relation, counter->index, snapshot, 2);
	text_key(&keys[0], counter->index, 1, counter->organization_id);
	text_key(&keys[1], counter->index, 2, counter->metric);
	index_rescan(scan, keys, 2, NULL, 0);
	counter->found = index_getnext_slot(scan, ForwardScanDirection, counter->slot);
	if (counter->found)
		take_values(counter);
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
}

void
counter_open(Counter *counter, text *organization_id, text *metric)
{
	const UsageTables *tables = usage_tables();

	memset(counter, 0, sizeof(*counter));
	counter->organization_id = organization_id;
	counter->metric = metric;
	counter->relation = table_open(tables->counters, RowExclusiveLock);
	/* asked under the lock, for which the hand-over waits */
	counter->on_shard = usage_tables()->distributed;
	if (!counter->on_shard)
	{
		counter->index = index_open(tables->counters_index, RowExclusiveLock);
		counter->slot = table_slot_create(counter->relation, NULL);
	}
	counter_read(counter);
}

void
counter_close(Counter *counter)
{
	if (!counter->on_shard)
	{
		ExecDropSingleTupleTableSlot(counter->slot);
		index_close(counter->index, NoLock);
	}
	table_close(counter->relation, NoLock);
}

static void
fill_slot(Counter *counter, Numeric used, Numeric reserved)
{
	TupleTableSlot *slot = counter->slot;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, false, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	slot->tts_values[COUNTER_ORGANIZATION_ID] = PointerGetDatum(counter->organization_id);
	slot->tts_values[COUNTER_METRIC] = PointerGetDatum(counter->metric);
	slot->tts_isnull[COUNTER_PERIOD_START] = !counter->has_period;
	slot->tts_values[COUNTER_PERIOD_START] = TimestampTzGetDatum(counter->period.start);
	slot->tts_isnull[COUNTER_PERIOD_END] = !counter->has_period;
	slot->tts_values[COUNTER_PERIOD_END] = TimestampTzGetDatum(counter->period.end);
	slot->tts_values[COUNTER_USED] = NumericGetDatum(used);
	slot->tts_values[COUNTER_RESERVED] = NumericGetDatum(reserved);
	ExecStoreVirtualTuple(slot);
}

static _Noreturn void
changed_since_snapshot(const Counter *counter)
{
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("could not serialize access due to concurrent use of metric \"%s\"",
						   text_to_cstring(counter->metric)),
					errhint("Try the transaction again.")));
	pg_unreachable();
}

/* Whoever comes second waits for the lock here, in line, and has it when he looks again. */
static void
lock_latest(Counter *counter)
{
	TM_FailureData failure;
	TM_Result result = table_tuple_lock(
		counter->relation, &counter->at, InvalidSnapshot, counter->slot, GetCurrentCommandId(true),
		LockTupleNoKeyExclusive, LockWaitBlock, TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);

	counter->found = result == TM_Ok;
	if (result == TM_Ok)
		take_values(counter);
	else if (result != TM_Deleted)
		elog(ERROR, "could not lock a counter: %d", (int) result);
}

static void
write_index_entries(Counter *counter)
{
	EState *estate = CreateExecutorState();
	ResultRelInfo *info = makeNode(ResultRelInfo);

	info->ri_RelationDesc = counter->relation;
	ExecOpenIndices(info, false);
	(void) compat_insert_index_tuples(info, counter->slot, estate, false, NULL, NIL);
	ExecCloseIndices(info);
	FreeExecutorState(estate);
}

bool
counter_write(Counter *counter, Numeric used, Numeric reserved)
{
	CompatIndexUpdate index_update;
	TM_FailureData failure;
	LockTupleMode mode;
	TM_Result result;

	if (counter->on_shard)
		return shard_counter_write(counter, used, reserved);
	fill_slot(counter, used, reserved);
	result = table_tuple_update(counter->relation, &counter->at, counter->slot,
								GetCurrentCommandId(true), InvalidSnapshot, InvalidSnapshot, true,
								&failure, &mode, &index_update);
	if (result == TM_Ok)
	{
		if (compat_index_update_needed(index_update))
			write_index_entries(counter);
		/* a later call of the same command goes on from here */
		CommandCounterIncrement();
		return true;
	}
	if (result != TM_Updated && result != TM_Deleted)
		elog(ERROR, "could not change a counter: %d", (int) result);
	if (IsolationUsesXactSnapshot())
		changed_since_snapshot(counter);
	lock_latest(counter);
	return false;
}

/* ------------------------------------------------------------------------
 * The next period
 * ------------------------------------------------------------------------
 */
QUERY(make_counter,
	  "INSERT INTO billing.usage_counters (organization_id, metric) VALUES ($1, $2) "
	  "ON CONFLICT (organization_id, metric) DO NOTHING",
	  TEXTOID, TEXTOID);
QUERY(lock_counter,
	  "SELECT period_start, period_end FROM billing.usage_counters "
	  "WHERE organization_id = $1 AND metric = $2 FOR UPDATE",
	  TEXTOID, TEXTOID);
QUERY(
	share_counter,
	"SELECT 1 FROM billing.usage_counters WHERE organization_id = $1 AND metric = $2 FOR KEY SHARE",
	TEXTOID, TEXTOID);
QUERY(open_reservations,
	  "SELECT coalesce(sum(quantity), 0) FROM billing.usage_reservations "
	  "WHERE organization_id = $1 AND metric = $2 AND state = 'open'",
	  TEXTOID, TEXTOID);
QUERY(
	move_counter,
	"UPDATE billing.usage_counters SET period_start = $3, period_end = $4, used = $5, reserved = $6 "
	"WHERE organization_id = $1 AND metric = $2",
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, NUMERICOID, NUMERICOID);

static Arg
moment(TimestampTz at)
{
	return arg_datum(TimestampTzGetDatum(at), false);
}

/* On the active snapshot, which was taken under the lock. */
static void
add_up(const char *organization_id, const Meter *meter, const Quota *quota, TimestampTz now)
{
	Relation events = table_open(usage_tables()->events, AccessShareLock);
	Numeric used = usage_quantity(organization_id, meter, usage_tail(organization_id),
								  quota_range(quota, now));
	bool isnull;
	Datum reserved;

	READ(open_reservations, arg_text(organization_id), arg_text(meter->metric));
	reserved = rows_datum(SPI_tuptable, 0, 1, &isnull);
	RUN(move_counter, arg_text(organization_id), arg_text(meter->metric),
		moment(quota->period.start), moment(quota->period.end),
		arg_datum(NumericGetDatum(used), false), arg_datum(reserved, false));
	table_close(events, NoLock);
}

static void
renew(text *organization, const Meter *meter)
{
	char *organization_id = text_to_cstring(organization);
	TimestampTz now;
	Quota quota;

	RUN(make_counter, arg_text(organization_id), arg_text(meter->metric));
	RUN(lock_counter, arg_text(organization_id), arg_text(meter->metric));
	/* what this transaction has recorded itself, in this very command */
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	now = usage_now(organization);
	quota = quota_read(organization_id, meter, now, NULL);
	add_up(organization_id, meter, &quota, now);
	PopActiveSnapshot();
}

void
counter_renew(text *organization_id, const Meter *meter)
{
	Identity identity = identity_take_owner();

	db_open();
	renew(organization_id, meter);
	db_close();
	identity_give_back(identity);
}

/* ------------------------------------------------------------------------
 * Events that are recorded without a limit
 * ------------------------------------------------------------------------
 */
typedef struct Count
{
	const UsageRow *row;
	const Meter *meter;
	Numeric amount;
} Count;

Numeric
counter_amount(const Meter *meter, const UsageRow *row)
{
	char kind = row->kind == NULL ? 'u' : row->kind[0];

	if (meter->aggregation == AGGREGATE_SUM)
		return row->quantity;
	/* of a count a correction changes nothing */
	return kind == 'c' ? NULL : int64_to_numeric(kind == 'u' ? 1 : -1);
}

List *
counters_note(List *counts, const UsageRow *row)
{
	const Meter *meter = meter_find(row->metric);
	Numeric amount;
	Count *count;

	if (meter == NULL || !meter->enforced)
		return counts;
	amount = counter_amount(meter, row);
	if (amount == NULL)
		return counts;
	count = palloc(sizeof(Count));
	*count = (Count){row, meter, amount};
	return lappend(counts, count);
}

/* By counter. */
static int
count_order(const ListCell *a, const ListCell *b)
{
	const Count *left = lfirst(a);
	const Count *right = lfirst(b);
	int order = usage_text_order(left->row->organization_id, right->row->organization_id);

	return order != 0 ? order : usage_text_order(left->row->metric, right->row->metric);
}

/* Until its successor is known a period goes on, but not for what is yet to come. */
static bool
counts_in(const Counter *counter, TimestampTz at, TimestampTz now)
{
	return counter->has_period && at >= counter->period.start &&
		   (at < counter->period.end || at <= now);
}

/* Those from "first" on that are of one counter; how many are not of its period. */
static int
add_counts(const Counter *counter, List *counts, int first, int end, Numeric *sum)
{
	TimestampTz now = 0;
	int others = 0;

	*sum = NULL;
	for (int i = first; i < end; i++)
	{
		const Count *count = list_nth(counts, i);

		if (now == 0 && counter->has_period && count->row->occurred_at >= counter->period.end)
			now = usage_now(counter->organization_id);
		if (!counts_in(counter, count->row->occurred_at, now))
			others++;
		else
			*sum = *sum == NULL ? count->amount : numeric_plus(*sum, count->amount);
	}
	return others;
}

/* Makes the row where it is missing, and keeps it in its period until the end of the transaction. */
static void
hold_counter(const Counter *counter)
{
	Identity identity = identity_take_owner();
	Arg organization_id = arg_datum(PointerGetDatum(counter->organization_id), false);
	Arg metric = arg_datum(PointerGetDatum(counter->metric), false);

	db_open();
	if (!counter->found)
		RUN(make_counter, organization_id, metric);
	RUN(share_counter, organization_id, metric);
	db_close();
	identity_give_back(identity);
}

static void
apply_group(List *counts, int first, int end)
{
	const UsageRow *row = ((Count *) list_nth(counts, first))->row;
	bool held = false;
	Counter counter;

	counter_open(&counter, row->organization_id, row->metric);
	for (;;)
	{
		Numeric sum;
		int others = add_counts(&counter, counts, first, end, &sum);

		if (!held && (!counter.found || others > 0))
		{
			hold_counter(&counter);
			held = true;
			counter_read(&counter);
			continue;
		}
		if (sum == NULL ||
			counter_write(&counter, numeric_plus(counter.used, sum), counter.reserved))
			break;
		if (!counter.found)
			counter_read(&counter);
	}
	counter_close(&counter);
}

void
counters_apply(List *counts)
{
	int first = 0;

	list_sort(counts, count_order);
	for (int i = 1; i <= list_length(counts); i++)
	{
		if (i < list_length(counts) &&
			count_order(list_nth_cell(counts, first), list_nth_cell(counts, i)) == 0)
			continue;
		apply_group(counts, first, i);
		first = i;
	}
}

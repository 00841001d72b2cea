/*-------------------------------------------------------------------------
 *
 * quota_shards.c
 *	  Counters of enforced metrics where Citus distributes the tables.
 *
 * A counter is on the node of its organisation, beside the events, so that
 * both are changed by one transaction of one node, and what was said about its
 * lock in quota_counters.c, which calls this, holds there.  Also of a
 * transaction that is prepared: it keeps the lock until Citus has settled it.
 *
 *-------------------------------------------------------------------------
 */
#include "quota.h"

#define COLUMNS    "SELECT period_start, period_end, used, reserved FROM billing.usage_counters "
#define OF_COUNTER "WHERE organization_id = $1 AND metric = $2"

QUERY(read_counter, COLUMNS OF_COUNTER, TEXTOID, TEXTOID);
QUERY(lock_counter, COLUMNS OF_COUNTER " FOR NO KEY UPDATE", TEXTOID, TEXTOID);
/* Whoever comes second waits, and then finds that it is not what he has read. */
QUERY(change_counter,
	  "UPDATE billing.usage_counters SET used = $3, reserved = $4 " OF_COUNTER
	  " AND used = $5 AND reserved = $6 AND period_start IS NOT DISTINCT FROM $7 "
	  "AND period_end IS NOT DISTINCT FROM $8",
	  TEXTOID, TEXTOID, NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID, TIMESTAMPTZOID,
	  TIMESTAMPTZOID);

static Arg
arg_varlena(const void *value)
{
	return arg_datum(PointerGetDatum(value), false);
}

static Arg
moment(const Counter *counter, TimestampTz at)
{
	return arg_datum(TimestampTzGetDatum(at), !counter->has_period);
}

static void
take_row(Counter *counter)
{
	bool isnull;

	counter->has_period = !row_null(0, 1);
	counter->period.start = row_time(0, 1);
	counter->period.end = row_time(0, 2);
	counter->used = DatumGetNumericCopy(rows_datum(SPI_tuptable, 0, 3, &isnull));
	counter->reserved = DatumGetNumericCopy(rows_datum(SPI_tuptable, 0, 4, &isnull));
}

/* What is read outlives the connection. */
static void
read_by(SqlQuery *query, Counter *counter)
{
	MemoryContext memory = CurrentMemoryContext;
	Identity identity = identity_take_owner();

	db_open();
	counter->found = RUN(*query, arg_varlena(counter->organization_id),
						 arg_varlena(counter->metric)) > 0;
	if (counter->found)
	{
		MemoryContext old = MemoryContextSwitchTo(memory);

		take_row(counter);
		MemoryContextSwitchTo(old);
	}
	db_close();
	identity_give_back(identity);
}

void
shard_counter_read(Counter *counter)
{
	read_by(&read_counter, counter);
}

bool
shard_counter_write(Counter *counter, Numeric used, Numeric reserved)
{
	Identity identity = identity_take_owner();
	bool changed;

	db_open();
	changed = RUN(change_counter, arg_varlena(counter->organization_id),
				  arg_varlena(counter->metric), arg_varlena(used), arg_varlena(reserved),
				  arg_varlena(counter->used), arg_varlena(counter->reserved),
				  moment(counter, counter->period.start), moment(counter, counter->period.end)) > 0;
	db_close();
	identity_give_back(identity);
	if (!changed)
		read_by(&lock_counter, counter);
	return changed;
}

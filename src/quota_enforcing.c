/*-------------------------------------------------------------------------
 *
 * quota_enforcing.c
 *	  Makes a metric enforced: from then on its events change counters.
 *
 * Whoever is recording knows the metric as one without counters; whoever
 * begins after usage_events was locked against recording knows better.  That
 * lock is never waited for in line: behind whoever waits for it all usage of
 * the database would wait, and two who have recorded would wait for each
 * other.  It is tried again and again for a few seconds, while usage goes on.
 *
 *-------------------------------------------------------------------------
 */
#include "quota.h"

#include "commands/trigger.h"
#include "errors.h"
#include "executor/spi.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "subjects.h"

/* How long it is tried, and how often. */
#define TRY_FOR      (3 * USECS_PER_SEC)
#define TRY_EVERY_MS 1

/* ------------------------------------------------------------------------
 * The lock
 * ------------------------------------------------------------------------
 */
/* Against all that record; what this transaction has recorded itself is not in the way. */
static bool
lock_out_recorders(const char *metric)
{
	(void) metric;
	return ConditionalLockRelationOid(usage_tables()->events, ShareRowExclusiveLock);
}

static _Noreturn void
refuse_busy(const char *metric)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
		 errmsg("metric \"%s\" cannot be switched to hard limits now", metric),
		 errdetail("Transactions that record usage are open."),
		 errhint(
			 "Make it enforced when nobody records for long: UPDATE billing.meters SET "
			 "enforced = true WHERE metric = %s; or billing.create_meter(..., enforced => true).",
			 quote_literal_cstr(metric))));
	pg_unreachable();
}

static void
keep_trying(bool (*attempt)(const char *metric), const char *metric)
{
	TimestampTz end = GetCurrentTimestamp() + TRY_FOR;

	while (!attempt(metric))
	{
		if (GetCurrentTimestamp() >= end)
			refuse_busy(metric);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, TRY_EVERY_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* ------------------------------------------------------------------------
 * By the first use
 * ------------------------------------------------------------------------
 */
/* SKIP LOCKED: nobody shall wait for somebody else's UPDATE while usage waits for us. */
QUERY(enforce,
	  "UPDATE billing.meters SET enforced = true WHERE metric = (SELECT metric FROM billing.meters "
	  "WHERE metric = $1 AND NOT enforced FOR NO KEY UPDATE SKIP LOCKED)",
	  TEXTOID);

/* The lock comes before the row, which many may want at once: all of them try, none waits in line. */
static bool
switch_on(const char *metric)
{
	const Meter *meter;

	if (!lock_out_recorders(metric))
		return false;
	meter = meter_named(metric);
	if (meter != NULL && !meter->enforced && RUN(enforce, arg_text(metric)) > 0)
		return true;
	/* somebody else did, or has just begun to */
	UnlockRelationOid(usage_tables()->events, ShareRowExclusiveLock);
	return meter == NULL || meter->enforced;
}

void
quota_enforce(const char *metric)
{
	Identity identity = identity_take_owner();

	db_open();
	keep_trying(switch_on, metric);
	db_close();
	identity_give_back(identity);
}

/* ------------------------------------------------------------------------
 * By UPDATE
 * ------------------------------------------------------------------------
 */
static bool
is_enforced(const TriggerData *trigger, HeapTuple row)
{
	TupleDesc descriptor = RelationGetDescr(trigger->tg_relation);
	bool isnull;
	Datum enforced = SPI_getbinval(row, descriptor, SPI_fnumber(descriptor, "enforced"), &isnull);

	return !isnull && DatumGetBool(enforced);
}

/* Trigger of meters. */
SQL_FUNCTION(billing_begin_enforcing)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc descriptor;
	bool was;
	char *metric;

	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "begin_enforcing() is a trigger");
	descriptor = RelationGetDescr(trigger->tg_relation);
	metric = SPI_getvalue(trigger->tg_trigtuple, descriptor, SPI_fnumber(descriptor, "metric"));
	was = is_enforced(trigger, trigger->tg_trigtuple);
	if (was && !is_enforced(trigger, trigger->tg_newtuple))
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE), errmsg("metric \"%s\" is enforced", metric),
				 errdetail("Its counters would miss what is recorded meanwhile."),
				 errhint("Set the feature of its name to unlimited where nothing shall be refused, "
						 "or make a new metric.")));
	if (!was && is_enforced(trigger, trigger->tg_newtuple))
		keep_trying(lock_out_recorders, metric);
	return PointerGetDatum(trigger->tg_newtuple);
}

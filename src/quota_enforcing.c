/*-------------------------------------------------------------------------
 *
 * quota_enforcing.c
 *	  Makes a metric enforced: from then on its events change counters.
 *
 * Whoever is recording knows the metric as one without counters; whoever
 * begins after usage_events was locked against recording knows better.  That
 * lock is not waited for in line: behind whoever waits for it all usage of
 * the database would wait, and two who have recorded would wait for each
 * other.  It is tried again and again for a few seconds, while usage goes on;
 * and now and then in line for a moment, as where many record there is never one
 * in which nobody does.
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
#include "utils/guc.h"

/* How long it is tried, and how often. */
#define TRY_FOR      (3 * USECS_PER_SEC)
#define TRY_EVERY_MS 1
/* Each so many tries one is in line, so long. */
#define IN_LINE_EACH 50
#define IN_LINE_FOR  "20ms"

/* ------------------------------------------------------------------------
 * The lock
 * ------------------------------------------------------------------------
 */
static void
wait_for_recorders(void *context)
{
	(void) context;
	LockRelationOid(usage_tables()->events, ShareRowExclusiveLock);
}

static bool
lock_in_line(void)
{
	int level = NewGUCNestLevel();
	char *sqlstate;
	char *message;
	bool locked;

	(void) set_config_option("lock_timeout", IN_LINE_FOR, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	locked = guarded(wait_for_recorders, NULL, &sqlstate, &message);
	AtEOXact_GUC(true, level);
	if (!locked && !sqlstate_passes(sqlstate))
		elog(ERROR, "billing.usage_events cannot be locked: %s", message);
	return locked;
}

/* Against all that record; what this transaction has recorded itself is not in the way. */
static bool
lock_out_recorders(const char *metric, bool in_line)
{
	(void) metric;
	return in_line ? lock_in_line()
				   : ConditionalLockRelationOid(usage_tables()->events, ShareRowExclusiveLock);
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
keep_trying(bool (*attempt)(const char *metric, bool in_line), const char *metric)
{
	TimestampTz end = GetCurrentTimestamp() + TRY_FOR;
	int tries = 0;

	while (!attempt(metric, ++tries % IN_LINE_EACH == 0))
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
switch_on(const char *metric, bool in_line)
{
	const Meter *meter;

	if (!lock_out_recorders(metric, in_line))
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

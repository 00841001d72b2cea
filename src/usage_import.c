/*-------------------------------------------------------------------------
 *
 * usage_import.c
 *	  The triggers of usage_import, where COPY brings usage in.
 *
 * A statement collects its rows and records them many at a time, by the rules
 * of record_usage_batch().  Each row is checked when it comes, so that COPY
 * names the line that is wrong.  Statements can be nested (a function in one
 * may run another), hence a stack; what belongs to a subtransaction that is
 * rolled back goes with it.
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "utils/memutils.h"

#define IMPORT_BATCH 1000

typedef struct Import
{
	struct Import *outer;
	SubTransactionId subtransaction;
	MemoryContext memory; /* of the rows that wait */
	UsageRow *rows;
	int count;
	RuleScope scope;
} Import;

static Import *import = NULL;

static void
forget_at_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PRE_PREPARE)
		import = NULL;
}

static void
forget_at_rollback(SubXactEvent event, SubTransactionId subtransaction, SubTransactionId parent,
				   void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (import != NULL && import->subtransaction >= subtransaction)
		import = import->outer;
}

/* In the memory of the subtransaction, which ends where the stack is cut. */
static void
import_begin(void)
{
	static bool registered = false;
	Import *begun = MemoryContextAllocZero(CurTransactionContext, sizeof(Import));

	if (!registered)
	{
		RegisterXactCallback(forget_at_end, NULL);
		RegisterSubXactCallback(forget_at_rollback, NULL);
		registered = true;
	}
	begun->subtransaction = GetCurrentSubTransactionId();
	begun->memory = AllocSetContextCreate(CurTransactionContext, "billing usage import",
										  ALLOCSET_DEFAULT_SIZES);
	begun->rows = MemoryContextAlloc(CurTransactionContext, sizeof(UsageRow) * IMPORT_BATCH);
	begun->outer = import;
	import = begun;
}

static void
import_write(void)
{
	MemoryContext old = MemoryContextSwitchTo(import->memory);

	(void) usage_record("billing.usage_import", import->rows, import->count, 0, NULL);
	import->count = 0;
	import->scope = (RuleScope){0};
	MemoryContextSwitchTo(old);
	MemoryContextReset(import->memory);
}

static void *
varlena_of(HeapTuple tuple, TupleDesc descriptor, int column, bool whole)
{
	bool isnull;
	Datum value = heap_getattr(tuple, column, descriptor, &isnull);

	if (isnull)
		return NULL;
	return whole ? (void *) PG_DETOAST_DATUM_COPY(value) : (void *) PG_DETOAST_DATUM_PACKED(value);
}

static void
import_row(HeapTuple tuple, TupleDesc descriptor)
{
	MemoryContext old;
	UsageRow *row;
	Refusal *refused;
	Datum occurred_at;
	bool isnull;

	if (import == NULL)
		elog(ERROR, "a row of usage_import came before its statement");
	old = MemoryContextSwitchTo(import->memory);
	row = &import->rows[import->count];
	/* of the trigger's tuple, which goes with the row */
	tuple = heap_copytuple(tuple);
	memset(row, 0, sizeof(UsageRow));
	row->organization_id = varlena_of(tuple, descriptor, 1, false);
	row->metric = varlena_of(tuple, descriptor, 2, false);
	row->quantity = varlena_of(tuple, descriptor, 3, true);
	occurred_at = heap_getattr(tuple, 4, descriptor, &isnull);
	row->has_time = !isnull;
	row->occurred_at = isnull ? 0 : DatumGetTimestampTz(occurred_at);
	row->key = varlena_of(tuple, descriptor, 5, false);
	row->properties = varlena_of(tuple, descriptor, 6, true);
	refused = usage_check(row, &import->scope);
	if (refused != NULL && row->key == NULL)
		usage_refuse(refused, 0);
	import->count++;
	MemoryContextSwitchTo(old);
	if (import->count == IMPORT_BATCH || refused != NULL)
		import_write();
}

SQL_FUNCTION(billing_import_usage)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "import_usage() is a trigger");
	if (TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
	{
		import_row(trigger->tg_trigtuple, RelationGetDescr(trigger->tg_relation));
		return PointerGetDatum(trigger->tg_trigtuple);
	}
	if (TRIGGER_FIRED_BEFORE(trigger->tg_event))
		import_begin();
	else if (import != NULL)
	{
		Import *done = import;

		if (done->count > 0)
			import_write();
		import = done->outer;
		MemoryContextDelete(done->memory);
		pfree(done->rows);
		pfree(done);
	}
	PG_RETURN_POINTER(NULL);
}

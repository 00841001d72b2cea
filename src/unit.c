/*-------------------------------------------------------------------------
 *
 * unit.c
 *	  Units of work: short transactions of the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "unit.h"

#include "access/xact.h"
#include "audit.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/pquery.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

static bool in_session = false;
static bool extension_gone = false;
static Oid served_extension = InvalidOid; /* in a session: any */
static Identity identity;
/* Where the caller allocates: a transaction leaves us elsewhere. */
static MemoryContext caller_memory;

/*
 * DROP EXTENSION locks the extension's own object first.  Whoever cannot have
 * a share of that lock at once stays out of the way; whoever has it keeps the
 * drop waiting until the end of this short transaction.
 */
static bool
lock_extension(void)
{
	LOCKTAG tag;
	Oid extension = get_extension_oid("janua_billing", true);

	if (!OidIsValid(extension) || (OidIsValid(served_extension) && extension != served_extension))
	{
		extension_gone = true;
		return false;
	}
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, extension, 0);
	if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	AcceptInvalidationMessages();
	if (get_extension_oid("janua_billing", true) != extension)
	{
		extension_gone = true;
		return false;
	}
	extension_gone = false;
	return true;
}

/*
 * Triggers and constraints that somebody made DEFERRED on our tables fire with
 * the statement that concerns them.  At commit they would run under another
 * identity, in the background worker as a superuser, and what they refuse
 * would undo the whole unit instead of one request.
 */
static void
fire_triggers_at_once(void)
{
	ConstraintsSetStmt *statement = makeNode(ConstraintsSetStmt);

	statement->constraints = NIL; /* all */
	statement->deferred = false;
	AfterTriggerSetState(statement);
}

bool
unit_begin(void)
{
	caller_memory = CurrentMemoryContext;
	if (!in_session)
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
	}
	if (!lock_extension())
	{
		if (!in_session)
			CommitTransactionCommand();
		MemoryContextSwitchTo(caller_memory);
		return false;
	}
	if (in_session)
		EnsurePortalSnapshotExists();
	else
		PushActiveSnapshot(GetTransactionSnapshot());
	identity = identity_take_owner();
	db_open();
	fire_triggers_at_once();
	return true;
}

void
unit_commit(void)
{
	db_close();
	identity_give_back(identity);
	if (in_session)
		SPI_commit();
	else
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		pgstat_report_stat(true);
	}
	MemoryContextSwitchTo(caller_memory);
}

typedef struct Duty
{
	void (*work)(void *context);
	void *context;
} Duty;

/* Also in a session of CALL run_worker(): what it changes nobody has asked for by name. */
static void
do_duty(void *context)
{
	const Duty *duty = context;

	audit_caused(AUDIT_WORKER, NULL, duty->work, duty->context);
}

bool
unit_run(void (*work)(void *context), void *context, const char *duty)
{
	Duty todo = {work, context};
	char *sqlstate;
	char *message;
	bool done;

	if (!unit_begin())
		return false;
	/* what the work allocates for its caller outlives the unit */
	MemoryContextSwitchTo(caller_memory);
	done = guarded(do_duty, &todo, &sqlstate, &message);
	if (!done)
		ereport(LOG, (errmsg("billing could not %s: %s", duty, message)));
	unit_commit();
	return done;
}

void
unit_abort(void)
{
	AbortCurrentTransaction();
}

bool
unit_in_session(void)
{
	return in_session;
}

void
unit_serve(Oid extension)
{
	served_extension = extension;
}

bool
unit_extension_gone(void)
{
	return extension_gone;
}

void
unit_session_begin(FunctionCallInfo fcinfo, const char *procedure)
{
	bool atomic = fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
				  castNode(CallContext, fcinfo->context)->atomic;

	if (atomic)
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("%s cannot run inside a transaction block", procedure),
						errdetail("It commits what it does step by step."),
						errhint("Call it outside of BEGIN and COMMIT, and not from a function.")));
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	in_session = true;
}

void
unit_session_end(void)
{
	in_session = false;
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
}

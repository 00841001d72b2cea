/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The background worker: one per database, and the launcher.
 *
 * Without shared_preload_libraries the first writing call in a database asks
 * for its worker.  With it, the launcher starts one for every database at
 * server start (after promotion on a standby); a worker that finds no
 * extension leaves at once.
 *
 * A worker holds a lock that makes it the only one of its database.  It has no
 * name of its own: inside each transaction it is the role janua_billing.  It
 * leaves when the extension is dropped, when somebody wants the database for
 * himself (DROP DATABASE, CREATE DATABASE ... TEMPLATE), and on a worker node
 * of Citus.  Exit code 1 asks the postmaster for a restart, 0 is for good.
 *
 *-------------------------------------------------------------------------
 */
#include "worker.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "common/relpath.h"
#include "db.h"
#include "delivery.h"
#include "leases.h"
#include "drive.h"
#include "errors.h"
#include "http.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "unit.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define RESTART_SECONDS 5
/* How long DROP DATABASE may have to wait for us. */
#define DATABASE_LOOK_MS 500
/* Due work is looked for at least this often, also when nobody woke us. */
#define SAFETY_POLL_MS 5000
/* After an ERROR; doubles when another one follows soon. */
#define ERROR_PAUSE_MS     1000
#define ERROR_PAUSE_MAX_MS 30000
/* The launcher: how long it waits for a free slot, and for a worker to leave. */
#define SLOT_PATIENCE_MS 10000
#define SLOT_LOOK_MS     100
#define SETTLED_AFTER_MS 100
/* A session that holds what one customer's news needs must not hold up the others. */
#define LOCK_TIMEOUT "200ms"

typedef enum Leave
{
	STAY,
	LEAVE_FOR_GOOD,
	LEAVE_AND_RETURN
} Leave;

static bool is_worker = false;

bool
worker_is_me(void)
{
	return is_worker;
}

/* ---- start ---- */

/*
 * Called after a commit: everything is on the stack, nothing can fail.  Where
 * the database's files are goes along, so that a worker that is restarted
 * after DROP DATABASE sees that they are gone before it connects: a connection
 * to a database that is not there is FATAL, and would be tried for ever.
 */
static void
describe_worker(BackgroundWorker *worker, Oid database, Oid tablespace)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = RESTART_SECONDS;
	strlcpy(worker->bgw_library_name, "janua_billing", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, "billing_worker_main", BGW_MAXLEN);
	snprintf(worker->bgw_name, BGW_MAXLEN, "janua_billing worker for database %u", database);
	strlcpy(worker->bgw_type, "janua_billing worker", BGW_MAXLEN);
	worker->bgw_main_arg = ObjectIdGetDatum(database);
	memcpy(worker->bgw_extra, &tablespace, sizeof(tablespace));
}

bool
worker_start(Oid database)
{
	BackgroundWorker worker;

	describe_worker(&worker, database, MyDatabaseTableSpace);
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

void
worker_init(void)
{
	BackgroundWorker launcher = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = RESTART_SECONDS,
		.bgw_library_name = "janua_billing",
		.bgw_function_name = "billing_launcher_main",
		.bgw_name = "janua_billing launcher",
		.bgw_type = "janua_billing launcher",
	};

	if (process_shared_preload_libraries_in_progress)
		RegisterBackgroundWorker(&launcher);
}

/* ---- the launcher ---- */

/* Databases that can be connected to; templates are nobody's business. */
static List *
list_databases(void)
{
	Relation relation;
	TableScanDesc scan;
	HeapTuple tuple;
	List *workers = NIL;
	MemoryContext memory = CurrentMemoryContext;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		if (!database->datallowconn || database->datistemplate ||
			database->datconnlimit == DATCONNLIMIT_INVALID_DB)
			continue;
		old = MemoryContextSwitchTo(memory);
		workers = lappend(workers, palloc(sizeof(BackgroundWorker)));
		describe_worker(llast(workers), database->oid, database->dattablespace);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(memory);
	return workers;
}

/* The postmaster sets the latch when a worker of ours starts or ends. */
static void
launcher_wait(long timeout_ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* NULL when there is no free slot, also after a while. */
static BackgroundWorkerHandle *
register_patiently(BackgroundWorker *worker)
{
	TimestampTz begin = GetCurrentTimestamp();
	BackgroundWorkerHandle *handle;

	while (!RegisterDynamicBackgroundWorker(worker, &handle))
	{
		if (TimestampDifferenceExceeds(begin, GetCurrentTimestamp(), SLOT_PATIENCE_MS))
			return NULL;
		launcher_wait(SLOT_LOOK_MS);
	}
	return handle;
}

/*
 * One after the other: a worker without work leaves before the next one is
 * started, so that many databases need few of the server's worker slots.  One
 * that is still there after a moment has come to stay.
 */
static void
launch(BackgroundWorker *worker)
{
	BackgroundWorkerHandle *handle;
	TimestampTz begin;
	pid_t pid;

	worker->bgw_notify_pid = MyProcPid;
	handle = register_patiently(worker);
	if (handle == NULL)
	{
		ereport(
			WARNING,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("no slot for the billing worker of database %u",
					DatumGetObjectId(worker->bgw_main_arg)),
			 errhint(
				 "Raise max_worker_processes; the worker starts with the next billing call there.")));
		return;
	}
	(void) WaitForBackgroundWorkerStartup(handle, &pid);
	begin = GetCurrentTimestamp();
	while (GetBackgroundWorkerPid(handle, &pid) == BGWH_STARTED &&
		   !TimestampDifferenceExceeds(begin, GetCurrentTimestamp(), SETTLED_AFTER_MS))
		launcher_wait(SETTLED_AFTER_MS);
	pfree(handle);
}

void
billing_launcher_main(Datum argument)
{
	ListCell *cell;
	List *workers;

	is_worker = true;
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	workers = list_databases();
	foreach (cell, workers)
	{
		CHECK_FOR_INTERRUPTS();
		launch(lfirst(cell));
	}
	proc_exit(0);
}

/* ---- may we be here? ---- */

static bool
database_files_exist(Oid database, Oid tablespace)
{
	char *path = GetDatabasePath(database, tablespace);
	struct stat status;
	bool exist = stat(path, &status) == 0;

	pfree(path);
	return exist;
}

/* Gone for good, unless the database was only moved to another tablespace. */
static void
follow_database(Oid database, Oid tablespace)
{
	ListCell *cell;
	List *workers;

	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	workers = list_databases();
	foreach (cell, workers)
	{
		BackgroundWorker *worker = lfirst(cell);

		if (DatumGetObjectId(worker->bgw_main_arg) == database &&
			memcmp(worker->bgw_extra, &tablespace, sizeof(tablespace)) != 0)
			(void) RegisterDynamicBackgroundWorker(worker, NULL);
	}
	proc_exit(0);
}

/*
 * A database that takes no connections (ALLOW_CONNECTIONS false, or what an
 * interrupted DROP DATABASE left) refuses us by FATAL, and the postmaster would
 * have us try again for ever.  It cannot be asked before, as a background worker
 * connects only once, and nothing of ours runs after a FATAL but the exit: so
 * the refusal is noticed when it is logged, and makes this exit one for good.
 * The next call there that has work starts a worker again.
 */
static emit_log_hook_type log_hook_before = NULL;
static bool refused = false;

static void
notice_refusal(ErrorData *error)
{
	if (error->elevel == FATAL && error->sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
		refused = true;
	if (log_hook_before != NULL)
		log_hook_before(error);
}

static void
leave_when_refused(int code, Datum argument)
{
	/* an exit callback may exit again; what is left of the list is still called */
	if (refused)
		proc_exit(0);
}

static void
connect_to_database(Oid database)
{
	log_hook_before = emit_log_hook;
	emit_log_hook = notice_refusal;
	on_proc_exit(leave_when_refused, (Datum) 0);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	emit_log_hook = log_hook_before;
}

/*
 * DROP DATABASE and CREATE DATABASE ... TEMPLATE hold a lock on the database
 * and wait for everybody to leave.  Whoever can have the lock that a new
 * connection takes is not in their way.
 */
static bool
database_wanted_by_others(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
	if (LockAcquire(&tag, RowExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, RowExclusiveLock, true);
	return false;
}

/*
 * Held until the process ends.  It has to be an advisory lock: only those
 * outlive an ERROR, and only those are given back by a process that ends
 * outside of a transaction.  The functions of SQL use spaces 1 and 2.
 */
#define ADVISORY_SPACE 3

static bool
become_the_only_worker(Oid extension)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, ExtensionRelationId, extension, ADVISORY_SPACE);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

QUERY(citus_installed,
	  "SELECT FROM pg_catalog.pg_class WHERE oid = to_regclass('pg_catalog.pg_dist_local_group')",
	  InvalidOid);
QUERY(citus_group, "SELECT FROM pg_catalog.pg_dist_local_group WHERE groupid <> 0", InvalidOid);
QUERY(take_over_state,
	  "UPDATE billing.worker_state SET pid = $1, lease_token = $2, started_at = clock_timestamp() "
	  "RETURNING (SELECT lease_token FROM billing.worker_state)",
	  INT4OID, UUIDOID);
QUERY(leave_state, "UPDATE billing.worker_state SET pid = NULL WHERE pid = $1", INT4OID);
QUERY(note_error,
	  "UPDATE billing.worker_state SET last_error = $1, last_error_at = clock_timestamp()",
	  TEXTOID);

static bool
on_citus_worker_node(void)
{
	return RUN(citus_installed, arg_null()) > 0 && RUN(citus_group, arg_null()) > 0;
}

/* First unit: is there work for us here, and what did our predecessor leave? */
static Leave
arrive(const pg_uuid_t *token, pg_uuid_t **predecessor)
{
	MemoryContext memory = CurrentMemoryContext;
	Leave leave = STAY;
	Oid extension;
	bool only;

	*predecessor = NULL;
	StartTransactionCommand();
	extension = get_extension_oid("janua_billing", true);
	only = OidIsValid(extension) && become_the_only_worker(extension);
	CommitTransactionCommand();
	MemoryContextSwitchTo(memory);
	if (!only)
		return LEAVE_FOR_GOOD;
	unit_serve(extension);
	if (!unit_begin())
		return unit_extension_gone() ? LEAVE_FOR_GOOD : LEAVE_AND_RETURN;
	if (on_citus_worker_node())
		leave = LEAVE_FOR_GOOD;
	else if (RUN(take_over_state, arg_int4(MyProcPid), arg_uuid(token)) > 0 && !row_null(0, 1))
	{
		*predecessor = MemoryContextAlloc(memory, sizeof(pg_uuid_t));
		**predecessor = *row_uuid(0, 1);
	}
	unit_commit();
	MemoryContextSwitchTo(memory);
	return leave;
}

/* ---- the loop ---- */

/*
 * What went wrong will mostly go wrong again: the pauses become longer, so
 * that neither the log fills nor the provider hears the same call over and
 * over.  A reload of the settings ends the pause.
 */
static void
pause_after_error(void)
{
	static TimestampTz last = 0;
	static int pause = ERROR_PAUSE_MS;
	TimestampTz begin = GetCurrentTimestamp();

	if (last == 0 || TimestampDifferenceExceeds(last, begin, 2 * ERROR_PAUSE_MAX_MS))
		pause = ERROR_PAUSE_MS;
	last = begin;
	while (!TimestampDifferenceExceeds(begin, GetCurrentTimestamp(), pause) &&
		   !ConfigReloadPending && !database_wanted_by_others())
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(pause, DATABASE_LOOK_MS), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	pause = Min(2 * pause, ERROR_PAUSE_MAX_MS);
}

/*
 * An ERROR that reached the loop: everything is put back and tried again
 * after a pause.  When even the note of it fails, that ERROR is not noted.
 * The note is without the message, which may quote what a table keeps
 * encrypted; the message is in the log.
 */
static void
report_and_clean_up(void)
{
	static bool noting = false;
	MemoryContext memory = MemoryContextSwitchTo(TopMemoryContext);
	ErrorData *error;

	HOLD_INTERRUPTS();
	error = CopyErrorData();
	EmitErrorReport();
	FlushErrorState();
	unit_abort();
	drive_close();
	RESUME_INTERRUPTS();
	if (!noting)
	{
		noting = true;
		if (unit_begin())
		{
			RUN(note_error, arg_text(error_in_words(unpack_sql_state(error->sqlerrcode))));
			unit_commit();
		}
	}
	noting = false;
	FreeErrorData(error);
	pause_after_error();
	MemoryContextSwitchTo(memory);
}

static Leave
may_stay(void)
{
	if (database_wanted_by_others())
		return LEAVE_AND_RETURN;
	return unit_extension_gone() ? LEAVE_FOR_GOOD : STAY;
}

/* Milliseconds from now, 0 when it is past; -1 for never (0). */
static long
time_until(TimestampTz moment)
{
	if (moment == 0)
		return -1;
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), moment);
}

/*
 * The table is looked at when a session's commit set the latch, when the next
 * request is due, and now and then; in between only the network is served.
 */
static Leave
loop(pg_uuid_t *predecessor)
{
	uint32 wait_event = compat_wait_event("BillingWorkerMain");
	TimestampTz last_everything = 0;
	TimestampTz due_at = 0;
	bool woken = true;
	Leave leave;

	while ((leave = may_stay()) == STAY)
	{
		PassKind kind = PASS_NETWORK;
		long due;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			http_open(http_max_in_flight);
			woken = true;
		}
		if (predecessor != NULL)
		{
			leases_release(predecessor);
			predecessor = NULL;
		}
		if (last_everything == 0 ||
			TimestampDifferenceExceeds(last_everything, GetCurrentTimestamp(), SAFETY_POLL_MS))
			kind = PASS_EVERYTHING;
		else if (woken)
			kind = PASS_WOKEN;
		pgstat_report_activity(STATE_RUNNING, "delivering");
		due = drive_pass(kind);
		if (kind == PASS_EVERYTHING)
			last_everything = GetCurrentTimestamp();
		if (due == 0)
		{
			/* without waiting: what has come meanwhile belongs to the next batch */
			(void) http_wait(0, wait_event);
			woken = true;
			continue;
		}
		pgstat_report_activity(STATE_IDLE, NULL);
		if (due > 0)
			due_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), due);
		else if (kind != PASS_NETWORK)
			due_at = 0;
		due = time_until(due_at);
		woken = http_wait(due < 0 ? DATABASE_LOOK_MS : Min(due, DATABASE_LOOK_MS), wait_event) ||
				time_until(due_at) == 0;
	}
	return leave;
}

static void
leave_quietly(int code, Datum argument)
{
	drive_close();
}

void
billing_worker_main(Datum argument)
{
	Oid database = DatumGetObjectId(argument);
	Oid tablespace;
	sigjmp_buf recovery;
	pg_uuid_t *token;
	pg_uuid_t *predecessor;
	MemoryContext memory;
	Leave leave;

	is_worker = true;
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	memcpy(&tablespace, MyBgworkerEntry->bgw_extra, sizeof(tablespace));
	if (!database_files_exist(database, tablespace))
		follow_database(database, tablespace);
	connect_to_database(database);
	pgstat_report_appname("janua_billing worker");
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("idle_in_transaction_session_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	/* under its locks it must see what stands there, also where sessions have another default */
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);

	/* what lives as long as the loop; units come and go beside it */
	memory = AllocSetContextCreate(TopMemoryContext, "billing worker", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(memory);
	before_shmem_exit(leave_quietly, (Datum) 0);

	if (sigsetjmp(recovery, 1) != 0)
	{
		error_context_stack = NULL;
		PG_exception_stack = &recovery;
		report_and_clean_up();
	}
	PG_exception_stack = &recovery;
	MemoryContextSwitchTo(memory);
	token = drive_open();
	leave = arrive(token, &predecessor);
	if (leave == STAY)
		leave = loop(predecessor);
	if (leave == LEAVE_AND_RETURN && unit_begin())
	{
		RUN(leave_state, arg_int4(MyProcPid));
		unit_commit();
	}
	proc_exit(leave == LEAVE_FOR_GOOD ? 0 : 1);
}

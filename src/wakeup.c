/*-------------------------------------------------------------------------
 *
 * wakeup.c
 *	  Wakes the worker when a transaction commits that gave it work.
 *
 * The worker's pid stands in a row.  A backend reads it when it enqueues, and
 * remembers the process; after commit it only sets that process's latch, or
 * asks the postmaster for a worker when there is none.  What runs after a
 * commit may neither fail nor allocate: an ERROR there would be a PANIC.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "access/xact.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "worker.h"

/* A worker that was just asked for needs a moment to write its row. */
#define START_PAUSE_MS 1000

static bool callback_registered = false;
static bool wake_at_commit = false;
static PGPROC *worker_process = NULL;
static int worker_pid = 0;
static TimestampTz asked_at = 0;

QUERY(find_worker, "SELECT pid FROM billing.worker_state", InvalidOid);

/*
 * A slot of the process array may belong to another process by now: its pid
 * and database are looked at again.  To set the latch of a wrong process is
 * harmless, every wait of PostgreSQL bears it.
 */
static bool
worker_alive(void)
{
	return worker_process != NULL && worker_process->pid == worker_pid &&
		   worker_process->databaseId == MyDatabaseId;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (!wake_at_commit)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			wake_at_commit = false;
			if (worker_alive())
				SetLatch(&worker_process->procLatch);
			else if (TimestampDifferenceExceeds(asked_at, GetCurrentTimestamp(), START_PAUSE_MS))
			{
				asked_at = GetCurrentTimestamp();
				(void) worker_start(MyDatabaseId);
			}
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			/* a prepared transaction is found by the worker's next look at the table */
			wake_at_commit = false;
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			break;
	}
}

void
worker_wake_at_commit(void)
{
	if (wake_at_commit || worker_is_me())
		return;
	if (!callback_registered)
	{
		RegisterXactCallback(at_transaction_end, NULL);
		callback_registered = true;
	}
	if (!worker_alive())
	{
		worker_process = NULL;
		if (RUN(find_worker, arg_null()) > 0 && !row_null(0, 1))
		{
			worker_pid = row_int4(0, 1);
			worker_process = BackendPidGetProc(worker_pid);
		}
	}
	wake_at_commit = true;
}

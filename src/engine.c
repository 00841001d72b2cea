/*-------------------------------------------------------------------------
 *
 * engine.c
 *	  The duty of the billing engine: plays what is due, in batches.
 *
 * A batch is a unit of work of its own, so that the worker can be stopped at any
 * point: what was committed is not due any more, all else still is.  Customers
 * that a session holds are left for the next pass.  When something in a batch
 * fails, the batch is undone and each subscription of it played by itself: the
 * one that fails is put off, longer each time, and stands in attention; where not
 * even that can be written on it, or a session holds a row of it, it is left out
 * for a while (postponed.c).
 *
 * Time is the test clock's where the organisation has one; those are found by a
 * query of their own, so that the first one reads in the order of its index.
 * Held, as requests are: what is bound elsewhere, in a copy of the database.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "accounts.h"
#include "audit.h"
#include "postponed.h"
#include "unit.h"

/* As many in one transaction as a person who waits for a customer's row would not notice. */
#define BATCH_SIZE 500

#define DUE_TABLES                                         \
	"JOIN billing.customers AS u ON u.id = s.customer_id " \
	"JOIN billing.providers AS p ON p.name = s.provider "  \
	"JOIN billing.provider_accounts AS a ON a.provider = s.provider AND a.account = s.account "
#define NOT_HELD "AND (p.embedded OR a.bound_to = $2) AND " NOT_POSTPONED "s.id) "

/* Locks customers in no order, but never waits. */
QUERY_IN_ORDER(
	due_subscriptions,
	"SELECT s.id, s.organization_id FROM billing.subscriptions AS s " DUE_TABLES
	"WHERE s.next_due_at <= now() " NOT_HELD
	"AND NOT EXISTS (SELECT FROM billing.sandbox_clocks AS k WHERE k.organization_id = s.organization_id) "
	"ORDER BY s.next_due_at LIMIT $1 FOR NO KEY UPDATE OF u SKIP LOCKED",
	INT8OID, TEXTOID);
QUERY(due_by_clock,
	  "SELECT s.id, s.organization_id FROM billing.sandbox_clocks AS k "
	  "JOIN billing.subscriptions AS s ON s.organization_id = k.organization_id " DUE_TABLES
	  "WHERE s.next_due_at <= k.now " NOT_HELD
	  "ORDER BY s.next_due_at LIMIT $1 FOR NO KEY UPDATE OF u SKIP LOCKED",
	  INT8OID, TEXTOID);

typedef struct Batch
{
	pg_uuid_t **ids;
	char **organization_ids;
	int count;
	int done; /* played or put off */
} Batch;

static void
find_due(Batch *batch)
{
	SqlQuery *const queries[] = {&due_subscriptions, &due_by_clock};

	batch->ids = palloc(sizeof(pg_uuid_t *) * BATCH_SIZE);
	batch->organization_ids = palloc(sizeof(char *) * BATCH_SIZE);
	batch->count = 0;
	for (size_t q = 0; q < lengthof(queries) && batch->count < BATCH_SIZE; q++)
	{
		int64 found = query_run(queries[q], (const Arg[]){arg_int(BATCH_SIZE - batch->count),
														  arg_text(database_binding())});

		for (int64 i = 0; i < found; i++)
		{
			batch->organization_ids[batch->count] = row_text(i, 2);
			batch->ids[batch->count++] = row_uuid(i, 1);
		}
	}
}

/* ------------------------------------------------------------------------
 * Playing
 * ------------------------------------------------------------------------
 */
static void
play(void *context)
{
	Batch *batch = context;
	BillingRun *run = run_load(batch->ids, batch->count, true, false);
	ListCell *cell;

	foreach (cell, run->subscriptions)
	{
		BilledSubscription *s = lfirst(cell);

		engine_play(run, s, s->customer->now);
		/* played and written, even where only a due time was wrong */
		s->changed = true;
	}
	run_write(run);
	work_resume(batch->ids, batch->count);
	batch->done = list_length(run->subscriptions);
}

/* A subscription whose play failed, and why. */
typedef struct Failed
{
	Batch batch;
	char *sqlstate;
	char *message;
} Failed;

QUERY(
	put_off,
	"UPDATE billing.subscriptions AS s SET due_failures = least(s.due_failures + 1, 30), due_error = $2, "
	"next_due_at = coalesce((SELECT k.now FROM billing.sandbox_clocks AS k WHERE k.organization_id = s.organization_id), now()) "
	"+ make_interval(secs => least($3 * power(2, least(s.due_failures, 20)), $4)) "
	"WHERE s.id = $1 AND s.next_due_at IS NOT NULL "
	"RETURNING s.organization_id, s.status, s.due_failures = 1",
	UUIDOID, TEXTOID, INT8OID, INT8OID);

/* The first failure is an event; the others only count. */
static void
put_one_off(void *context)
{
	const Failed *failed = context;
	const pg_uuid_t *id = failed->batch.ids[0];
	char *organization_id;
	char *status;

	if (RUN(put_off, arg_uuid(id), arg_text(psprintf("%s: %s", failed->sqlstate, failed->message)),
			arg_int(ENGINE_RETRY_FIRST_SECS), arg_int(ENGINE_RETRY_MOST_SECS)) == 0 ||
		!row_bool(0, 3))
		return;
	organization_id = row_text(0, 1);
	status = row_text(0, 2);
	event_record("subscription.billing_failed", "subscription", id, organization_id, status,
				 status);
}

QUERY(
	fail_changes,
	"UPDATE billing.scheduled_changes AS h SET state = 'failed', error_code = $2, finished_at = now() "
	"WHERE h.subscription_id = $1 AND h.state = 'pending' AND h.kind = 'change' AND h.due_at <= "
	"coalesce((SELECT k.now FROM billing.sandbox_clocks AS k WHERE k.organization_id = h.organization_id), now()) "
	"RETURNING h.id, h.organization_id",
	UUIDOID, TEXTOID);

static void
play_without_changes(void *context)
{
	Failed *failed = context;
	int64 count = RUN(fail_changes, arg_uuid(failed->batch.ids[0]), arg_text(failed->sqlstate));
	Rows rows = rows_keep();

	for (int64 i = 0; i < count; i++)
		event_record("scheduled_change.failed", "scheduled_change", rows_uuid(rows, i, 1),
					 rows_text(rows, i, 2), "pending", "failed");
	/* without one the cause is another: to be undone and put off */
	if (count == 0)
		ereport(ERROR, (errmsg_internal("nothing was planned")));
	play(&failed->batch);
}

static void
leave_out(void *context)
{
	const Failed *failed = context;

	(void) work_postpone(&(Undone){.what = "subscription cannot be billed",
								   .object_type = "subscription",
								   .id = failed->batch.ids[0],
								   .organization_id = failed->batch.organization_ids[0],
								   .sqlstate = failed->sqlstate});
}

/*
 * What was planned for it may not be possible any more: then that has failed,
 * and it goes on as it is.
 */
static bool
play_or_put_off(Failed *failed)
{
	char *sqlstate;
	char *message;

	if (guarded(play_without_changes, failed, &sqlstate, &message))
	{
		ereport(LOG, (errmsg("a planned change of subscription %s cannot be carried out: %s",
							 uuid_text(failed->batch.ids[0]), failed->message),
					  errdetail("SQLSTATE %s. It is billed as it is.", failed->sqlstate)));
		return true;
	}
	ereport(LOG, (errmsg("subscription %s of billing cannot be billed: %s",
						 uuid_text(failed->batch.ids[0]), failed->message),
				  errdetail("SQLSTATE %s. It is tried again later.", failed->sqlstate)));
	/* what keeps it from being billed (a trigger of somebody) may keep it from this, too */
	return guarded(put_one_off, failed, &sqlstate, &message) ||
		   guarded(leave_out, failed, &sqlstate, &message);
}

static void
play_one_by_one(Batch *batch)
{
	int passing = 0;

	for (int i = 0; i < batch->count && passing < PASSING_MOST; i++)
	{
		Failed one = {.batch = {.ids = &batch->ids[i],
								.organization_ids = &batch->organization_ids[i],
								.count = 1}};
		char *sqlstate;
		char *message;

		if (guarded(play, &one.batch, &one.sqlstate, &one.message))
			batch->done += one.batch.done;
		else if (sqlstate_passes(one.sqlstate))
		{
			(void) guarded(leave_out, &one, &sqlstate, &message);
			passing++;
		}
		else if (play_or_put_off(&one))
			batch->done++;
	}
}

static void
play_due(void *context)
{
	Batch *batch = context;
	char *sqlstate;
	char *message;

	find_due(batch);
	if (batch->count == 0 || guarded(play, batch, &sqlstate, &message))
		return;
	batch->done = 0;
	play_one_by_one(batch);
}

int
engine_pass(void)
{
	Batch batch = {0};

	return unit_run(play_due, &batch, "bill subscriptions") ? batch.done : 0;
}

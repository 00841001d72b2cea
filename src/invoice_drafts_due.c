/*-------------------------------------------------------------------------
 *
 * invoice_drafts_due.c
 *	  Drafts that waited for late usage are made final when their time comes.
 *
 * The duty takes hundreds of them in one run.  One that cannot be completed
 * must not hold up the others: it is put off, later each time; where not even
 * that can be written on it, it is left out (postponed.c).
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "accounts.h"
#include "postponed.h"
#include "unit.h"

/* Drafts that one unit completes. */
#define FINALIZE_BATCH 500

/*
 * Customers are locked first, as everywhere; those that a session holds are left
 * for the next pass.  Held: what is bound elsewhere.
 */
#define DUE_DRAFT                                                                               \
	"JOIN billing.customers AS c ON c.id = i.customer_id "                                      \
	"JOIN billing.providers AS p ON p.name = i.provider "                                       \
	"JOIN billing.provider_accounts AS a ON a.provider = i.provider AND a.account = i.account " \
	"WHERE i.managed_by = 'local' AND i.status = 'draft' AND i.marked_at IS NULL "              \
	"AND (p.embedded OR a.bound_to = $2) AND " NOT_POSTPONED "i.id) "
#define TAKE_DUE "ORDER BY i.finalize_at LIMIT $1 FOR NO KEY UPDATE OF c SKIP LOCKED"

QUERY_IN_ORDER(
	due_drafts,
	"SELECT i.id, i.subscription_id, i.organization_id FROM billing.invoices AS i " DUE_DRAFT
	"AND i.finalize_at <= now() AND NOT EXISTS (SELECT FROM billing.sandbox_clocks AS k "
	"WHERE k.organization_id = i.organization_id) " TAKE_DUE,
	INT8OID, TEXTOID);
QUERY(
	due_drafts_by_clock,
	"SELECT i.id, i.subscription_id, i.organization_id FROM billing.sandbox_clocks AS k "
	"JOIN billing.invoices AS i ON i.organization_id = k.organization_id AND i.finalize_at <= k.now " DUE_DRAFT
		TAKE_DUE,
	INT8OID, TEXTOID);

static bool
is_one_of(const pg_uuid_t *id, pg_uuid_t *const *ids, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (uuid_equal(id, ids[i]))
			return true;
	}
	return false;
}

/* The run has those, too, that their subscriptions leave waiting. */
void
drafts_complete_stored(pg_uuid_t *const *ids, int count, pg_uuid_t *const *subscription_ids,
					   int subscription_count)
{
	BillingRun *run = run_load(subscription_ids, subscription_count, false, false);
	List *drafts;
	ListCell *cell;

	run_load_drafts(run, ids, count);
	/* one that comes to nothing leaves the run's list */
	drafts = list_copy(run->drafts);
	foreach (cell, drafts)
	{
		InvoiceDraft *draft = lfirst(cell);

		if (is_one_of(draft->id, ids, count))
			draft_complete(run, draft);
	}
	run_write(run);
}

/* Stored drafts, and the subscription of each; NULL where there is none. */
typedef struct DueDrafts
{
	pg_uuid_t **ids;
	pg_uuid_t **subscription_ids;
	char **organization_ids;
	int count;
} DueDrafts;

static void
complete_due(void *context)
{
	const DueDrafts *due = context;
	pg_uuid_t **subscription_ids = palloc(sizeof(pg_uuid_t *) * due->count);
	int subscriptions = 0;

	for (int i = 0; i < due->count; i++)
	{
		if (due->subscription_ids[i] != NULL)
			subscription_ids[subscriptions++] = due->subscription_ids[i];
	}
	drafts_complete_stored(due->ids, due->count, subscription_ids, subscriptions);
	work_resume(due->ids, due->count);
}

QUERY(
	put_off,
	"UPDATE billing.invoices AS i SET due_failures = least(i.due_failures + 1, 30), due_error = $2, updated_at = now(), "
	"finalize_at = coalesce((SELECT k.now FROM billing.sandbox_clocks AS k WHERE k.organization_id = i.organization_id), now()) "
	"+ make_interval(secs => least($3 * power(2, least(i.due_failures, 20)), $4)) "
	"WHERE i.id = $1 RETURNING i.organization_id, i.due_failures = 1",
	UUIDOID, TEXTOID, INT8OID, INT8OID);

/* A draft that could not be completed, and why. */
typedef struct FailedDraft
{
	const pg_uuid_t *id;
	const char *organization_id;
	char *sqlstate;
	char *message;
} FailedDraft;

/* The first failure is an event; the others only count. */
static void
put_one_off(void *context)
{
	const FailedDraft *failed = context;

	if (RUN(put_off, arg_uuid(failed->id),
			arg_text(psprintf("%s: %s", failed->sqlstate, failed->message)),
			arg_int(ENGINE_RETRY_FIRST_SECS), arg_int(ENGINE_RETRY_MOST_SECS)) > 0 &&
		row_bool(0, 2))
		event_record("invoice.finalization_failed", "invoice", failed->id, row_text(0, 1), "draft",
					 "draft");
}

static void
leave_out(void *context)
{
	const FailedDraft *failed = context;

	(void) work_postpone(&(Undone){.what = "invoice cannot be made final",
								   .object_type = "invoice",
								   .id = failed->id,
								   .organization_id = failed->organization_id,
								   .sqlstate = failed->sqlstate});
}

/* What keeps it from being completed (a trigger of somebody, a lock) may keep it from being put off, too. */
static bool
put_off_or_leave_out(FailedDraft *failed)
{
	char *sqlstate;
	char *message;

	if (sqlstate_passes(failed->sqlstate))
	{
		(void) guarded(leave_out, failed, &sqlstate, &message);
		return false;
	}
	ereport(LOG, (errmsg("invoice %s of billing cannot be made final: %s", uuid_text(failed->id),
						 failed->message),
				  errdetail("SQLSTATE %s. It is tried again later.", failed->sqlstate)));
	return guarded(put_one_off, failed, &sqlstate, &message) ||
		   guarded(leave_out, failed, &sqlstate, &message);
}

/*
 * One that cannot be completed must not hold up the others: then each is tried
 * by itself, and put off.  Returns how many are done.
 */
static int
complete_each(const DueDrafts *due)
{
	int done = 0;
	int passing = 0;

	for (int i = 0; i < due->count && passing < PASSING_MOST; i++)
	{
		DueDrafts one = {due->ids + i, due->subscription_ids + i, due->organization_ids + i, 1};
		FailedDraft failed = {.id = due->ids[i], .organization_id = due->organization_ids[i]};

		if (guarded_with_hint(complete_due, &one, &failed.sqlstate, &failed.message) ||
			put_off_or_leave_out(&failed))
			done++;
		else
			passing++;
	}
	return done;
}

static int
finalize_found(void)
{
	Rows rows = rows_keep();
	DueDrafts due = {.count = (int) rows_count(rows)};
	char *sqlstate;
	char *message;

	if (due.count == 0)
		return 0;
	due.ids = palloc(sizeof(pg_uuid_t *) * due.count);
	due.subscription_ids = palloc(sizeof(pg_uuid_t *) * due.count);
	due.organization_ids = palloc(sizeof(char *) * due.count);
	for (int i = 0; i < due.count; i++)
	{
		due.ids[i] = rows_uuid(rows, i, 1);
		due.subscription_ids[i] = rows_uuid(rows, i, 2);
		due.organization_ids[i] = rows_text(rows, i, 3);
	}
	if (guarded(complete_due, &due, &sqlstate, &message))
		return due.count;
	return complete_each(&due);
}

static void
finalize_due(void *context)
{
	int *done = context;

	RUN(due_drafts, arg_int(FINALIZE_BATCH), arg_text(database_binding()));
	*done = finalize_found();
	RUN(due_drafts_by_clock, arg_int(FINALIZE_BATCH), arg_text(database_binding()));
	*done += finalize_found();
}

int
drafts_finalize_due(void)
{
	int done = 0;

	return unit_run(finalize_due, &done, "make drafts of invoices final") ? done : 0;
}

/*-------------------------------------------------------------------------
 *
 * scheduled_changes.c
 *	  What we do later in a provider's stead.
 *
 * A provider-managed subscription is billed by its provider and by nobody
 * else.  The exceptions stand in one table here, each an operation that the
 * provider does not offer and says is EMULATED.
 *
 * The end of a period: a provider that can only cancel at once is told a while
 * (cancel_margin) before the period ends, so that it does not renew; the row
 * gives access until the end.
 *
 *-------------------------------------------------------------------------
 */
#include "scheduled_changes.h"

#include "audit.h"
#include "check.h"
#include "errors.h"
#include "json.h"
#include "keys.h"
#include "postponed.h"
#include "unit.h"

/* So many in one unit, so that none lasts long. */
#define RUN_BATCH 100

/* ---- what is done in a provider's stead ---- */

QUERY(
	put_cancel,
	"INSERT INTO billing.scheduled_changes (id, subscription_id, organization_id, kind, due_at, effective_at, reason, comment) "
	"SELECT $1, s.id, s.organization_id, 'cancel', "
	"greatest(least(s.current_period_end, s.current_period_end - make_interval(secs => $3)), $4), "
	"greatest(s.current_period_end, $4), $5, $6 "
	"FROM billing.subscriptions AS s WHERE s.id = $2 AND s.current_period_end IS NOT NULL "
	"ON CONFLICT DO NOTHING",
	UUIDOID, UUIDOID, FLOAT8OID, TIMESTAMPTZOID, TEXTOID, BYTEAOID);
QUERY(mark_ending,
	  "UPDATE billing.subscriptions SET cancel_at_period_end = $2, updated_at = now() "
	  "WHERE id = $1 AND cancel_at_period_end <> $2",
	  UUIDOID, BOOLOID);
QUERY(drop_changes,
	  "UPDATE billing.scheduled_changes SET state = 'canceled', finished_at = now() "
	  "WHERE subscription_id = $1 AND state = 'pending'",
	  UUIDOID);

static void
note_ending(const Subscription *s, bool ending)
{
	if (RUN(mark_ending, arg_uuid(s->id), arg_bool(ending)) > 0)
		event_record("subscription.updated", "subscription", s->id, s->organization_id, s->status,
					 s->status);
}

static void
cancel_later(const Subscription *s, const char *reason, const char *comment)
{
	pg_uuid_t *id = new_id();

	if (s->current_period_end == 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("the end of the period of subscription \"%s\" is not known yet",
							   uuid_text(s->id)),
						errdetail("Provider \"%s\" has not told it.", s->provider),
						errhint("Wait for it by billing.await(), or cancel at once.")));
	RUN(put_cancel, arg_uuid(id), arg_uuid(s->id),
		arg_datum(Float8GetDatum(setting_seconds("cancel_margin", SECS_PER_DAY)), false),
		arg_time(clock_now(s->organization_id)), arg_text(reason),
		arg_bytes(seal_text("scheduled_changes.comment", id, comment)));
	note_ending(s, true);
}

static void
keep_running(const Subscription *s, const char *reason, const char *comment)
{
	scheduled_changes_drop(s->id);
	note_ending(s, false);
}

typedef struct Emulation
{
	Operation operation;
	void (*carry_out)(const Subscription *subscription, const char *reason, const char *comment);
} Emulation;

static const Emulation emulations[] = {
	{OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END, cancel_later},
	{OPERATION_SUBSCRIPTION_UNCANCEL, keep_running},
};

bool
emulate(const Subscription *s, const Account *account, Operation operation, const char *reason,
		const char *comment)
{
	const char *alternative;

	switch (account_supports(account, operation, json_empty(), &alternative))
	{
		case SUPPORTED:
			return false;
		case UNSUPPORTED:
			account_refuse(account, operation, json_empty(), alternative);
			break;
		case EMULATED:
			break;
	}
	for (size_t i = 0; i < lengthof(emulations); i++)
	{
		if (emulations[i].operation == operation)
		{
			emulations[i].carry_out(s, reason, comment);
			return true;
		}
	}
	elog(ERROR, "operation %s has no emulation", operation_name(operation));
}

void
scheduled_changes_drop(const pg_uuid_t *subscription_id)
{
	RUN(drop_changes, arg_uuid(subscription_id));
}

QUERY(find_change,
	  "SELECT c.subscription_id, c.state FROM billing.scheduled_changes AS c WHERE c.id = $1",
	  UUIDOID);

SQL_FUNCTION(billing_cancel_scheduled_change)
{
	pg_uuid_t *id = ARG_UUID(0);
	pg_uuid_t *subscription_id;
	Subscription *s;

	db_open();
	check_given("id", id != NULL);
	if (RUN(find_change, arg_uuid(id)) == 0)
		unknown_object("scheduled change", uuid_text(id),
					   "billing.list_scheduled_changes() lists them.");
	subscription_id = row_uuid(0, 1);
	s = subscription_load(subscription_id);
	outbox_lock_customer(s->customer_id);
	(void) RUN(find_change, arg_uuid(id));
	if (strcmp(row_text(0, 2), "pending") != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("scheduled change \"%s\" is %s", uuid_text(id), row_text(0, 2)),
						errdetail("Only one that is pending can be taken back."),
						errhint("billing.list_scheduled_changes() lists those.")));
	if (s->local)
		local_unplan(s, id);
	else
		keep_running(s, NULL, NULL);
	db_close();
	PG_RETURN_VOID();
}

/* ---- when it is due ---- */

/*
 * Time is the test clock's where the organisation has one.  Held, as requests
 * are: what is bound elsewhere.  Customers are locked first, as everywhere; one
 * that a session holds is left for the next pass.
 */
QUERY_IN_ORDER(
	due_changes,
	"SELECT c.id, s.id, c.reason, c.comment, c.effective_at, s.current_period_end, c.organization_id, " WAS_POSTPONED
	"c.id) FROM billing.scheduled_changes AS c JOIN billing.subscriptions AS s ON s.id = c.subscription_id "
	"JOIN billing.customers AS u ON u.id = s.customer_id "
	"JOIN billing.providers AS p ON p.name = s.provider "
	"JOIN billing.provider_accounts AS a ON a.provider = s.provider AND a.account = s.account "
	"LEFT JOIN billing.sandbox_clocks AS k ON k.organization_id = c.organization_id "
	"WHERE c.state = 'pending' AND s.managed_by = 'provider' AND a.stopped_at IS NULL AND (p.embedded OR a.bound_to = $2) AND c.due_at <= coalesce(k.now, clock_timestamp()) AND " NOT_POSTPONED
	"c.id) ORDER BY c.due_at LIMIT $1 FOR NO KEY UPDATE OF u, c SKIP LOCKED",
	INT8OID, TEXTOID);
QUERY(finish_change,
	  "UPDATE billing.scheduled_changes SET state = $2, error_code = $3, finished_at = now() "
	  "WHERE id = $1 AND state = 'pending'",
	  UUIDOID, TEXTOID, TEXTOID);
QUERY(keep_access, "UPDATE billing.subscriptions SET access_until = $2 WHERE id = $1", UUIDOID,
	  TIMESTAMPTZOID);

typedef struct DueChange
{
	pg_uuid_t *id;
	pg_uuid_t *subscription_id;
	char *reason;
	bytea *sealed_comment;
	char *comment; /* when it is opened */
	TimestampTz effective_at;
	TimestampTz period_end;
	char *organization_id;
	bool was_left_out;
	char *sqlstate; /* of its failure */
} DueChange;

static void
open_comment(void *context)
{
	DueChange *change = context;

	change->comment = unseal_text("scheduled_changes.comment", change->id, change->sealed_comment);
}

/*
 * The request that ends it.  A period that ended meanwhile (nothing of ours
 * was running) was renewed there, and paid for: that stands in error_code and
 * so in attention.
 */
static void
carry_out(void *context)
{
	DueChange *change = context;
	Subscription *s = subscription_load(change->subscription_id);
	Account *account = account_get(s->provider, s->account);
	bool renewed = change->period_end > change->effective_at;
	char *sqlstate;
	char *message;
	JsonBuilder b;
	pg_uuid_t *request;

	if (subscription_ended(s->status))
	{
		RUN(finish_change, arg_uuid(change->id), arg_text("canceled"), arg_null());
		return;
	}
	json_open(&b);
	json_add_text(&b, "reason", change->reason);
	request = outbox_enqueue(account, OPERATION_SUBSCRIPTION_CANCEL, s->id, s->customer_id,
							 json_close(&b), NULL);
	/* what cannot be read must not let the next period be billed */
	if (!guarded(open_comment, change, &sqlstate, &message))
		ereport(LOG,
				(errmsg("a cancellation of billing goes out without its comment: %s", message)));
	if (change->comment != NULL)
		outbox_keep_private(request, "comment", change->comment);
	RUN(keep_access, arg_uuid(s->id), arg_time(change->effective_at));
	RUN(finish_change, arg_uuid(change->id), arg_text("done"),
		arg_text(renewed ? "renewed_before" : NULL));
}

static void
carry_out_as_cause(void *context)
{
	const DueChange *change = context;

	audit_caused(AUDIT_WORKER, uuid_text(change->id), carry_out, context);
}

static void
fail(void *context)
{
	const DueChange *change = context;

	RUN(finish_change, arg_uuid(change->id), arg_text("failed"), arg_text(change->sqlstate));
}

static void
leave_out(void *context)
{
	const DueChange *change = context;

	(void) work_postpone(&(Undone){.what = "scheduled change cannot be carried out",
								   .object_type = "scheduled_change",
								   .id = change->id,
								   .organization_id = change->organization_id,
								   .sqlstate = change->sqlstate});
}

/* True when it is done with. */
static bool
carry_out_one(DueChange *change)
{
	char *sqlstate;
	char *message;

	if (guarded(carry_out_as_cause, change, &change->sqlstate, &message))
	{
		if (change->was_left_out)
			work_resume(&change->id, 1);
		return true;
	}
	if (!sqlstate_passes(change->sqlstate))
	{
		ereport(LOG, (errmsg("a scheduled change of billing cannot be carried out: %s", message)));
		if (guarded(fail, change, &sqlstate, &message))
			return true;
	}
	/* by a session that holds a row, or somebody's trigger on it */
	(void) guarded(leave_out, change, &sqlstate, &message);
	return false;
}

static void
run_due(void *context)
{
	Rows rows;
	int done = 0;
	int in_the_way = 0;

	RUN(due_changes, arg_int(RUN_BATCH), arg_text(database_binding()));
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows) && in_the_way < PASSING_MOST; i++)
	{
		pg_uuid_t *id = rows_uuid(rows, i, 1);
		DueChange change = {
			.id = id,
			.subscription_id = rows_uuid(rows, i, 2),
			.reason = rows_text(rows, i, 3),
			.sealed_comment = rows_bytes(rows, i, 4),
			.effective_at = rows_time(rows, i, 5),
			.period_end = rows_time(rows, i, 6),
			.organization_id = rows_text(rows, i, 7),
			.was_left_out = rows_bool(rows, i, 8),
		};

		if (carry_out_one(&change))
			done++;
		else
			in_the_way++;
	}
	*(int *) context = done;
}

int
scheduled_changes_run(void)
{
	int done = 0;

	return unit_run(run_due, &done, "carry out scheduled changes") ? done : 0;
}

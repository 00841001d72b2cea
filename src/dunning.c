/*-------------------------------------------------------------------------
 *
 * dunning.c
 *	  What follows when our own invoice is not paid.
 *
 * The first failed attempt makes the plan: rows of dunning_attempts by the
 * setting dunning_schedule, counted from that failure, for a person to read.
 * What a decline means stands in decline_rules, how often a method may be
 * charged in attempt_limits.  When nothing of the plan is left the end comes
 * (setting dunning_end): unpaid leaves the invoice open, canceled makes it
 * uncollectible; an invoice without a subscription stays open.  The first
 * invoice of a subscription has no plan: the subscription expires by itself.
 *
 * An invoice that is sent is not charged: it is overdue at its due date, and
 * the rows of its plan are reminders.
 *
 *-------------------------------------------------------------------------
 */
#include "collection.h"

#include "given_back.h"

QUERY(
	find_rule,
	"SELECT r.action FROM billing.decline_rules AS r WHERE r.provider IN ($1, '') AND r.code IN ($2, $3) "
	"ORDER BY r.code = $2 DESC, r.provider <> '' DESC LIMIT 1",
	TEXTOID, TEXTOID, TEXTOID);

static char *
action_for(const OwnInvoice *invoice, const char *decline_code, const char *error_code)
{
	if (decline_code == NULL)
		decline_code = error_code;
	if (decline_code != NULL && RUN(find_rule, arg_text(invoice->provider), arg_text(decline_code),
									arg_text(error_code != NULL ? error_code : decline_code)) > 0)
		return row_text(0, 1);
	return pstrdup("retry");
}

/* ---- the plan ---- */

QUERY(plan_there,
	  "SELECT FROM billing.dunning_attempts WHERE invoice_id = $1 AND cause = 'schedule' LIMIT 1",
	  UUIDOID);
QUERY(
	make_plan,
	"INSERT INTO billing.dunning_attempts (invoice_id, organization_id, attempt, kind, cause, due_at) "
	"SELECT $1, $2, (SELECT coalesce(max(a.attempt), 0) FROM billing.dunning_attempts AS a WHERE a.invoice_id = $1) "
	"+ row_number() OVER (ORDER BY d.days), $3, 'schedule', $4 + make_interval(hours => 24 * d.days) "
	"FROM (SELECT DISTINCT w::integer AS days FROM billing.settings AS s CROSS JOIN LATERAL string_to_table(s.value, ' ') AS w "
	"WHERE s.name = 'dunning_schedule') AS d",
	UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
/* What is planned, or a new method that came while the last of it was in flight. */
QUERY(
	plan_left,
	"SELECT FROM billing.dunning_attempts WHERE invoice_id = $1 AND cause IN ('schedule', 'new_method') AND state = 'planned' LIMIT 1",
	UUIDOID);

/* The customer is in the middle of his first payment; nobody is reminded of it. */
static bool
has_no_plan(const OwnInvoice *invoice)
{
	return invoice->subscription_status != NULL &&
		   strcmp(invoice->subscription_status, "incomplete") == 0;
}

static char *
end_setting(void)
{
	char *end = setting_text("dunning_end");

	return end != NULL ? end : "unpaid";
}

QUERY(
	give_up,
	"UPDATE billing.invoices SET status = 'uncollectible', updated_at = now() WHERE id = $1 AND status = 'open'",
	UUIDOID);

static void
end_dunning(const OwnInvoice *invoice)
{
	engine_invoice_failed(invoice->id, true);
	if (invoice->subscription_id == NULL || strcmp(end_setting(), "canceled") != 0 ||
		RUN(give_up, arg_uuid(invoice->id)) == 0)
		return;
	given_back_settle(invoice->id);
	event_record("invoice.uncollectible", "invoice", invoice->id, invoice->organization_id, "open",
				 "uncollectible");
}

static bool
make_plan_once(const OwnInvoice *invoice, const char *kind)
{
	if (has_no_plan(invoice) || RUN(plan_there, arg_uuid(invoice->id)) > 0)
		return false;
	RUN(make_plan, arg_uuid(invoice->id), arg_text(invoice->organization_id), arg_text(kind),
		arg_time(invoice->now));
	return true;
}

/*
 * After a standstill rows of the plan are late: the plan moves as a whole, so
 * that nobody is charged or reminded twice in the same moment.  One that has
 * waited for the end of another attempt was not held up by us.
 */
QUERY(
	move_plan,
	"UPDATE billing.dunning_attempts AS a SET due_at = a.due_at + ($2 - n.due_at) FROM ("
	"SELECT min(due_at) AS due_at FROM billing.dunning_attempts WHERE invoice_id = $1 AND state = 'planned' AND cause = 'schedule' "
	"HAVING min(due_at) < $2 - interval '1 hour') AS n "
	"WHERE a.invoice_id = $1 AND a.state = 'planned' AND a.cause = 'schedule' "
	"AND NOT EXISTS (SELECT FROM billing.dunning_attempts AS b WHERE b.invoice_id = $1 AND b.finished_at > n.due_at)",
	UUIDOID, TIMESTAMPTZOID);

void
dunning_keep_distance(const OwnInvoice *invoice)
{
	RUN(move_plan, arg_uuid(invoice->id), arg_time(invoice->now));
}

/* A new method that was tried in vain after all of the plan is the last of it. */
static bool
is_of_plan(const OwnInvoice *invoice, const char *cause)
{
	return strcmp(cause, "schedule") == 0 ||
		   (strcmp(cause, "new_method") == 0 && invoice->subscription_status != NULL &&
			strcmp(invoice->subscription_status, "past_due") == 0 &&
			RUN(plan_there, arg_uuid(invoice->id)) > 0);
}

/* A row of the plan is done with, or the plan was made: is there more? */
static void
go_on(const OwnInvoice *invoice, bool of_plan)
{
	bool last = of_plan && !has_no_plan(invoice) && RUN(plan_left, arg_uuid(invoice->id)) == 0;

	if (last)
		end_dunning(invoice);
	else
		engine_invoice_failed(invoice->id, false);
	collection_schedule(invoice);
}

/* ---- an attempt that failed ---- */

QUERY(fail_attempt,
	  "UPDATE billing.dunning_attempts SET state = 'failed', decline_code = $2, action = $3, "
	  "started_at = coalesce(started_at, $4), finished_at = $4 WHERE id = $1 RETURNING cause",
	  UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
/* One that could not even be tried has failed all the same. */
QUERY(note_error, "UPDATE billing.invoices SET error_code = $2, updated_at = now() WHERE id = $1",
	  UUIDOID, TEXTOID);
/* A subscription that is not active says why by itself. */
QUERY(
	note_subscription,
	"UPDATE billing.subscriptions SET error_code = $2, updated_at = now() WHERE id = $1 AND managed_by = 'local'",
	UUIDOID, TEXTOID);

/* The customer is asked at once, in a pass of its own: this attempt is in flight still. */
QUERY(
	add_reminder,
	"INSERT INTO billing.dunning_attempts (invoice_id, organization_id, attempt, kind, cause, due_at) "
	"SELECT $1, $2, (SELECT coalesce(max(a.attempt), 0) FROM billing.dunning_attempts AS a WHERE a.invoice_id = $1) + 1, 'reminder', 'issue', $3",
	UUIDOID, TEXTOID, TIMESTAMPTZOID);

/* Paid or void: whatever an attempt comes to, it is no news of the invoice. */
static bool
is_settled(const OwnInvoice *invoice)
{
	return strcmp(invoice->status, "paid") == 0 || strcmp(invoice->status, "void") == 0;
}

void
dunning_failed(const OwnInvoice *invoice, const pg_uuid_t *attempt_id, const char *decline_code,
			   const char *error_code)
{
	const char *code = decline_code != NULL ? decline_code : error_code;
	char *action = action_for(invoice, decline_code, error_code);
	bool of_plan;
	bool by_date;

	if (RUN(fail_attempt, arg_uuid(attempt_id), arg_text(code), arg_text(action),
			arg_time(invoice->now)) == 0)
		return;
	of_plan = is_of_plan(invoice, row_text(0, 1));
	if (is_settled(invoice))
		return;
	/* one that is sent is dunned by its due date: that somebody tried in vain changes nothing of it */
	by_date = send_invoices_only(invoice);
	if (!by_date || !invoice->overdue)
		RUN(note_error, arg_uuid(invoice->id), arg_text(code));
	if (!by_date)
		RUN(note_subscription, arg_uuid(invoice->subscription_id), arg_text(code));
	event_record("invoice.payment_failed", "invoice", invoice->id, invoice->organization_id,
				 invoice->status, invoice->status);
	if (code != NULL && strcmp(code, "authentication_required") == 0)
		event_record("invoice.payment_action_required", "invoice", invoice->id,
					 invoice->organization_id, invoice->status, invoice->status);
	/* given up once, it stays so until it is paid */
	if (strcmp(invoice->status, "open") != 0)
		return;
	if (by_date)
		collection_schedule(invoice);
	else if (strcmp(action, "page") == 0)
	{
		RUN(add_reminder, arg_uuid(invoice->id), arg_text(invoice->organization_id),
			arg_time(invoice->now));
		go_on(invoice, make_plan_once(invoice, "reminder") || of_plan);
	}
	else
		go_on(invoice, make_plan_once(invoice, "charge") || of_plan);
}

QUERY(cancel_attempt,
	  "UPDATE billing.dunning_attempts SET state = 'canceled', decline_code = $2, finished_at = $3 "
	  "WHERE id = $1 RETURNING cause",
	  UUIDOID, TEXTOID, TIMESTAMPTZOID);

void
dunning_skip(const OwnInvoice *invoice, const pg_uuid_t *attempt_id, const char *why)
{
	RUN(cancel_attempt, arg_uuid(attempt_id), arg_text(why), arg_time(invoice->now));
	go_on(invoice, is_of_plan(invoice, row_text(0, 1)));
}

void
dunning_leave(const OwnInvoice *invoice, const pg_uuid_t *attempt_id, const char *why)
{
	RUN(cancel_attempt, arg_uuid(attempt_id), arg_text(why), arg_time(invoice->now));
	RUN(note_error, arg_uuid(invoice->id), arg_text(why));
	collection_schedule(invoice);
}

QUERY(
	running_attempt,
	"SELECT a.id, p.status, p.decline_code, p.error_code, a.due_at, a.payment_intent_id FROM billing.dunning_attempts AS a "
	"LEFT JOIN billing.payment_intents AS p ON p.id = a.payment_intent_id WHERE a.invoice_id = $1 AND a.state = 'running'",
	UUIDOID);

bool
dunning_catch_up(const OwnInvoice *invoice)
{
	pg_uuid_t *id;
	char *status;

	if (RUN(running_attempt, arg_uuid(invoice->id)) == 0)
		return false;
	id = row_uuid(0, 1);
	status = row_text(0, 2);
	if (status == NULL)
	{
		if (row_time(0, 5) > invoice->now)
			return false;
		dunning_failed(invoice, id, "not_paid", NULL);
		return true;
	}
	if (strcmp(status, "failed") == 0 || strcmp(status, "canceled") == 0)
	{
		bool canceled = strcmp(status, "canceled") == 0;
		char *decline_code = canceled ? "not_paid" : row_text(0, 3);

		/* nobody has tried: it was paid otherwise, voided or given up first */
		if (canceled && strcmp(invoice->status, "open") != 0)
			RUN(cancel_attempt, arg_uuid(id), arg_text("called_off"), arg_time(invoice->now));
		else
			dunning_failed(invoice, id, decline_code, canceled ? NULL : row_text(0, 4));
		return true;
	}
	return false;
}

/* ---- what must not be charged ---- */

QUERY(
	last_failure,
	"SELECT action, payment_method_id FROM billing.dunning_attempts WHERE invoice_id = $1 AND state = 'failed' "
	"AND kind = 'charge' ORDER BY finished_at DESC, attempt DESC LIMIT 1",
	UUIDOID);
QUERY(cause_of, "SELECT cause FROM billing.dunning_attempts WHERE id = $1", UUIDOID);
/* Both limits are of a charge to one account of the customer: another method is counted anew. */
QUERY(
	limit_reached,
	"SELECT FROM billing.attempt_limits AS l WHERE l.method = $2 AND l.attempts <= (SELECT count(a.payment_intent_id) "
	"FROM billing.dunning_attempts AS a WHERE a.invoice_id = $1 AND a.payment_method_id = $3 "
	"AND (l.days IS NULL OR a.started_at > $4 - make_interval(days => l.days)))",
	UUIDOID, TEXTOID, UUIDOID, TIMESTAMPTZOID);

const char *
dunning_forbids(const OwnInvoice *invoice, const pg_uuid_t *attempt_id, const pg_uuid_t *method_id,
				const char *type)
{
	bool by_schedule;
	char *action;
	pg_uuid_t *failed_method;

	RUN(cause_of, arg_uuid(attempt_id));
	by_schedule = strcmp(row_text(0, 1), "schedule") == 0;
	if (by_schedule && RUN(last_failure, arg_uuid(invoice->id)) > 0)
	{
		action = row_text(0, 1);
		failed_method = row_uuid(0, 2);
		if (action != NULL && (strcmp(action, "stop") == 0 || strcmp(action, "page") == 0))
			return "stopped";
		if (action != NULL && strcmp(action, "new_method") == 0 && method_id != NULL &&
			failed_method != NULL && uuid_equal(method_id, failed_method))
			return "same_method";
	}
	if (method_id != NULL && type != NULL &&
		RUN(limit_reached, arg_uuid(invoice->id), arg_text(type), arg_uuid(method_id),
			arg_time(invoice->now)) > 0)
		return "limit_reached";
	return NULL;
}

/* ---- invoices that are sent ---- */

QUERY(
	finish_reminder,
	"UPDATE billing.dunning_attempts SET state = 'succeeded', started_at = $2, finished_at = $2 WHERE id = $1",
	UUIDOID, TIMESTAMPTZOID);
QUERY(
	due_reminder,
	"SELECT id, cause FROM billing.dunning_attempts WHERE invoice_id = $1 AND state = 'planned' AND due_at <= $2 "
	"ORDER BY due_at, attempt LIMIT 1",
	UUIDOID, TIMESTAMPTZOID);
QUERY(any_attempt, "SELECT FROM billing.dunning_attempts WHERE invoice_id = $1 LIMIT 1", UUIDOID);

static void
tell(const OwnInvoice *invoice, const char *type)
{
	event_record(type, "invoice", invoice->id, invoice->organization_id, invoice->status,
				 invoice->status);
}

void
dunning_ask(const OwnInvoice *invoice, const pg_uuid_t *attempt_id)
{
	bool of_plan;

	RUN(cause_of, arg_uuid(attempt_id));
	of_plan = strcmp(row_text(0, 1), "schedule") == 0;
	RUN(finish_reminder, arg_uuid(attempt_id), arg_time(invoice->now));
	tell(invoice, of_plan ? "invoice.overdue" : "invoice.payment_action_required");
	invoice_page_offer(invoice);
	if (of_plan)
		go_on(invoice, true);
	else
		collection_schedule(invoice);
}

void
dunning_remind(const OwnInvoice *invoice)
{
	dunning_keep_distance(invoice);
	if (RUN(any_attempt, arg_uuid(invoice->id)) == 0)
	{
		RUN(finish_reminder, arg_uuid(attempt_add(invoice, "issue")), arg_time(invoice->now));
		tell(invoice, "invoice.sent");
		invoice_page_by_itself(invoice);
		collection_schedule(invoice);
	}
	else if (RUN(due_reminder, arg_uuid(invoice->id), arg_time(invoice->now)) > 0)
	{
		bool of_plan = strcmp(row_text(0, 2), "schedule") == 0;

		RUN(finish_reminder, arg_uuid(row_uuid(0, 1)), arg_time(invoice->now));
		tell(invoice, "invoice.overdue");
		invoice_page_by_itself(invoice);
		go_on(invoice, of_plan);
	}
	else if (invoice->due_at != 0 && invoice->due_at <= invoice->now && !invoice->overdue)
	{
		RUN(note_error, arg_uuid(invoice->id), arg_text("overdue"));
		(void) make_plan_once(invoice, "reminder");
		tell(invoice, "invoice.overdue");
		invoice_page_by_itself(invoice);
		go_on(invoice, true);
	}
	else
		collection_schedule(invoice);
}

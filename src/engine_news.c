/*-------------------------------------------------------------------------
 *
 * engine_news.c
 *	  What becomes of a subscription when its invoice is paid, or is not.
 *
 * Called by collection, in the transaction of the news.  The state changes at
 * once; what is due by it then is the duty's (engine.c).
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

QUERY(
	subscription_of_invoice,
	"SELECT s.id FROM billing.invoices AS i JOIN billing.subscriptions AS s ON s.id = i.subscription_id "
	"WHERE i.id = $1 AND i.managed_by = 'local' AND s.managed_by = 'local' "
	"AND s.status NOT IN ('canceled', 'incomplete_expired')",
	UUIDOID);

/* NULL: the invoice is of no subscription that goes on and is ours. */
static BilledSubscription *
subscription_billed(const pg_uuid_t *invoice_id, BillingRun **run)
{
	if (RUN(subscription_of_invoice, arg_uuid(invoice_id)) == 0)
		return NULL;
	return run_load_one(row_uuid(0, 1), false, run);
}

static void
finish(BillingRun *run, BilledSubscription *s)
{
	engine_play(run, s, NOTHING_YET);
	if (s->changed)
		run_write(run);
}

/* Another one that could not be collected keeps it where it is. */
QUERY(
	another_unpaid,
	"SELECT FROM billing.invoices WHERE subscription_id = $1 AND id <> $2 AND managed_by = 'local' "
	"AND status IN ('open', 'uncollectible') AND attempt_count > 0 LIMIT 1",
	UUIDOID, UUIDOID);

QUERY(forget_error,
	  "UPDATE billing.subscriptions SET error_code = NULL WHERE id = $1 AND error_code IS NOT NULL",
	  UUIDOID);

void
engine_go_on(BillingRun *run, BilledSubscription *s, const pg_uuid_t *invoice_id)
{
	if ((!is_status(s, "past_due") && !is_status(s, "unpaid")) ||
		RUN(another_unpaid, arg_uuid(s->id), arg_uuid(invoice_id)) > 0)
		return;
	if (is_status(s, "unpaid"))
		engine_resume(run, s, s->customer->now);
	else
		set_status(run, s, "active", s->customer->now);
}

void
engine_invoice_paid(const pg_uuid_t *invoice_id)
{
	BillingRun *run;
	BilledSubscription *s = subscription_billed(invoice_id, &run);

	if (s == NULL)
		return;
	if (is_status(s, "incomplete"))
		set_status(run, s, "active", s->customer->now);
	else
		engine_go_on(run, s, invoice_id);
	if (is_status(s, "active"))
		RUN(forget_error, arg_uuid(s->id));
	finish(run, s);
}

void
engine_invoice_voided(const pg_uuid_t *invoice_id)
{
	BillingRun *run;
	BilledSubscription *s = subscription_billed(invoice_id, &run);

	if (s == NULL)
		return;
	engine_go_on(run, s, invoice_id);
	finish(run, s);
}

/* The last charge was on its way when the time was over, and nothing else is. */
QUERY(
	was_waited_for,
	"SELECT FROM (SELECT a.* FROM billing.dunning_attempts AS a WHERE a.invoice_id = $1 AND a.state <> 'canceled' "
	"ORDER BY a.started_at DESC NULLS FIRST, a.attempt DESC LIMIT 1) AS l "
	"WHERE l.state = 'failed' AND l.payment_method_id IS NOT NULL AND l.started_at < $2 AND l.finished_at >= $2 "
	"AND NOT EXISTS (SELECT FROM billing.payment_intents AS p WHERE p.invoice_id = $1 "
	"AND p.status IN ('pending', 'requires_action', 'processing', 'requires_capture'))",
	UUIDOID, TIMESTAMPTZOID);

/* The first payment has failed: whoever has waited for it can pay otherwise as long as he could at first. */
static void
go_on_waiting(BilledSubscription *s, const pg_uuid_t *invoice_id)
{
	if (RUN(was_waited_for, arg_uuid(invoice_id),
			arg_time(s->period_start + ENGINE_INCOMPLETE_USECS)) == 0)
		return;
	s->incomplete_until = s->customer->now + ENGINE_INCOMPLETE_USECS;
	s->changed = true;
}

void
engine_invoice_failed(const pg_uuid_t *invoice_id, bool last_attempt)
{
	BillingRun *run;
	BilledSubscription *s = subscription_billed(invoice_id, &run);

	if (s == NULL)
		return;
	if (is_status(s, "incomplete"))
		go_on_waiting(s, invoice_id);
	if (is_status(s, "active"))
		set_status(run, s, "past_due", s->customer->now);
	if (last_attempt && is_status(s, "past_due"))
		give_up_collecting(run, s, s->customer->now);
	finish(run, s);
}

void
engine_wait_for_payment(const pg_uuid_t *subscription_id, TimestampTz until)
{
	BillingRun *run;
	BilledSubscription *s = run_load_one(subscription_id, false, &run);

	if (s == NULL || !is_status(s, "incomplete") || s->incomplete_until >= until)
		return;
	s->incomplete_until = moment_of_unix(unix_seconds(until));
	s->changed = true;
	finish(run, s);
}

void
engine_plan_again(const pg_uuid_t *subscription_id)
{
	BillingRun *run;
	BilledSubscription *s = run_load_one(subscription_id, false, &run);

	if (s != NULL)
		finish(run, s);
	worker_wake_at_commit();
}

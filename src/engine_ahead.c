/*-------------------------------------------------------------------------
 *
 * engine_ahead.c
 *	  The next period, invoiced before it begins.
 *
 * Who pays to a reference (OXXO, SPEI) needs days for it, so his renewals are
 * invoiced the setting invoice_lead_days ahead: what is due in advance for the
 * next period, and the usage of the periods that are over by then.  Usage of the
 * present one stays for the invoice after it.
 *
 * Nothing is kept of it but the lines: a period is invoiced when there is a
 * billed line that begins with it and was not given back.  Where an end, a pause
 * or a change is planned for its beginning it is not invoiced ahead.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

#include "own_invoices.h"

static bool
is_ahead(const BilledSubscription *s, const InvoiceLine *line)
{
	return s->period_end != 0 && line->whole_start != 0 && line->given_back_at == 0 &&
		   line->period_start == s->period_end && line_counts(s, line) &&
		   line->kind != LINE_PRORATION_CREDIT;
}

TimestampTz
ahead_until(const BilledSubscription *s)
{
	ListCell *cell;

	foreach (cell, s->billed)
	{
		const InvoiceLine *line = lfirst(cell);

		if (is_ahead(s, line))
			return line->period_end;
	}
	return 0;
}

/* Of its invoice: not what a change has billed of that period. */
const pg_uuid_t *
ahead_line(const BilledSubscription *s)
{
	ListCell *cell;

	foreach (cell, s->billed)
	{
		const InvoiceLine *line = lfirst(cell);

		if (s->period_end != 0 && line->period_start == s->period_end && line_counts(s, line) &&
			line->kind <= LINE_COMPONENT)
			return line->id;
	}
	return NULL;
}

/* Something else will happen where the next period would begin. */
static bool
has_plans(const BilledSubscription *s)
{
	ListCell *cell;

	if (s->cancel_at_period_end || s->pause_at_period_end)
		return true;
	foreach (cell, s->changes)
	{
		const ScheduledChange *change = lfirst(cell);

		if (strcmp(change->state, "pending") == 0 && change->due_at <= s->period_end)
			return true;
	}
	return false;
}

TimestampTz
ahead_due(const BilledSubscription *s)
{
	int days = collection_lead_days(s);

	if (days == 0 || !is_billed(s) || s->period_end == 0 || has_plans(s) ||
		!anything_in_advance(s) || ahead_until(s) != 0)
		return 0;
	return Max(s->period_start, s->period_end - days * USECS_PER_DAY);
}

/* As it will be then: at the version of its price that it moves to. */
static List *
items_then(const BilledSubscription *s)
{
	List *items = NIL;
	ListCell *cell;

	foreach (cell, s->items)
	{
		BilledItem *item = palloc(sizeof(BilledItem));

		*item = *(const BilledItem *) lfirst(cell);
		item->price = component_price_successor(item->price, s->period_end);
		items = lappend(items, item);
	}
	return items;
}

void
engine_invoice_ahead(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	BillingPeriod next = period_containing(s, s->period_end);
	InvoiceDraft *draft = draft_for(run, s, "subscription_cycle", at);
	List *items = s->items;

	draft->period_start = moment_of_unix(next.billed.start);
	draft->period_end = moment_of_unix(next.billed.end);
	bill_usage_until(run, draft, s, s->period_start, false);
	if (s->usage_from == 0)
		(void) bill_late_usage(run, s, draft, "subscription_cycle", at);
	s->items = items_then(s);
	bill_in_advance(draft, s, &next);
	s->items = items;
	s->changed = true;
	draft_complete(run, draft);
}

bool
ahead_begin(BilledSubscription *s)
{
	TimestampTz end = ahead_until(s);

	if (end == 0)
		return false;
	s->period_start = s->period_end;
	s->period_end = end;
	forgone_follow_period(s);
	undo_forget(s);
	s->changed = true;
	return true;
}

/* ------------------------------------------------------------------------
 * Called off
 * ------------------------------------------------------------------------
 */
QUERY(
	find_unpaid,
	"SELECT i.id FROM billing.invoices AS i WHERE i.subscription_id = $1 AND i.period_start = $2 "
	"AND i.managed_by = 'local' AND i.billing_reason = 'subscription_cycle' AND i.amount_paid = 0 "
	"AND (i.status = 'open' OR (i.status = 'draft' AND i.marked_at IS NOT NULL)) "
	"AND NOT EXISTS (SELECT FROM billing.payment_intents AS p WHERE p.invoice_id = i.id "
	"AND p.status IN ('pending', 'processing', 'requires_capture')) "
	"AND NOT EXISTS (SELECT FROM billing.invoice_lines AS l JOIN billing.invoice_lines AS r ON r.reverses = l.id "
	"WHERE l.invoice_id = i.id) "
	"AND NOT EXISTS (SELECT FROM billing.invoice_lines AS l WHERE l.invoice_id = i.id AND l.taken_off > 0) "
	"AND NOT EXISTS (SELECT FROM billing.invoice_lines AS l JOIN billing.credit_note_lines AS m ON m.credit_line_id = l.id "
	"WHERE l.invoice_id = i.id)",
	UUIDOID, TIMESTAMPTZOID);

static void
forget_ahead(BilledSubscription *s)
{
	ListCell *cell;

	foreach (cell, s->billed)
	{
		if (is_ahead(s, lfirst(cell)))
			s->billed = foreach_delete_current(s->billed, cell);
	}
}

/* What it was paid with comes back to the customer: what the run knows of that is asked anew. */
static void
void_in_run(BilledSubscription *s, const pg_uuid_t *invoice_id)
{
	own_invoice_call_off(invoice_id);
	s->customer->credits = NULL;
	s->customer->coupons = NULL;
}

pg_uuid_t *
ahead_call_off(BillingRun *run, BilledSubscription *s)
{
	pg_uuid_t *invoice_id;

	if (ahead_until(s) == 0)
		return NULL;
	/* the void sees all of it, and one that was made just now is voided like any other */
	if (!run->preview)
		run_write(run);
	if (RUN(find_unpaid, arg_uuid(s->id), arg_time(s->period_end)) == 0)
		return NULL;
	invoice_id = row_uuid(0, 1);
	if (!run->preview)
		void_in_run(s, invoice_id);
	forget_ahead(s);
	s->changed = true;
	return invoice_id;
}

void
ahead_call_off_and_go_on(BillingRun *run, BilledSubscription *s)
{
	const pg_uuid_t *invoice_id = ahead_call_off(run, s);

	if (invoice_id != NULL)
		engine_go_on(run, s, invoice_id);
}

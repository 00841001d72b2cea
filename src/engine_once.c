/*-------------------------------------------------------------------------
 *
 * engine_once.c
 *	  What is paid once (a setup, an installation), when a subscription changes.
 *
 * It is billed whole whenever it begins, and never given back: only what was
 * billed at this very moment is taken off again.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

static InvoiceLine *
add_once(BilledSubscription *s, const BilledItem *item, TimestampTz at)
{
	InvoiceDraft scratch = {.subscription = s, .customer = s->customer, .made_at = at};
	BillingPeriod none = {0};
	InvoiceLine *line;

	bill_item(&scratch, s, item, &none, LINE_ONE_TIME);
	line = linitial(scratch.lines);
	/* it covers no time; when it was billed tells what can be undone */
	line->period_start = line->period_end = at;
	s->pending = lappend(s->pending, line);
	return line;
}

static void
bill_once(BilledSubscription *s, BilledItem *item, TimestampTz at)
{
	(void) add_once(s, item, at);
	item->billed_once = item->changed = true;
}

void
bill_unless_billed(BilledSubscription *s, BilledItem *item, TimestampTz at)
{
	if (!item->billed_once)
		bill_once(s, item, at);
}

static int64
price_once(const BilledSubscription *s, const ComponentPrice *price, int64 quantity)
{
	const BilledItem item = {.component = price->component, .price = price, .quantity = quantity};
	int64 amount;

	if (money_round(item_whole_price(&item), &amount) != MONEY_OK)
		require_proration(PRORATION_OVERFLOW, s);
	return amount;
}

/* What was billed of it at this very moment, and is not final, is no more; returns how much that was. */
static int64
drop_once(BillingRun *run, BilledSubscription *s, const BilledItem *item, TimestampTz at)
{
	int64 dropped = 0;
	ListCell *cell;

	foreach (cell, lines_not_final(run, s))
	{
		InvoiceLine *line = lfirst(cell);

		if (line->kind != LINE_ONE_TIME || line->period_start != at ||
			!line_is_for_price(line, item))
			continue;
		dropped += line->amount;
		line_drop(run, s, line);
	}
	return dropped;
}

/* The units that come in are billed; of those that go, what was billed at this very moment is not. */
static void
change_once(BillingRun *run, BilledSubscription *s, const BilledItem *item, int64 quantity,
			TimestampTz at)
{
	int64 had = price_once(s, item->price, item->quantity);
	int64 wanted = price_once(s, item->price, quantity);
	BilledItem more = *item;
	InvoiceLine *line;

	if (wanted < had)
		had -= drop_once(run, s, item, at);
	if (wanted <= had)
		return;
	more.quantity = Max(quantity - item->quantity, 1);
	line = add_once(s, &more, at);
	line->has_quantity = line->has_quantity && line->amount == wanted - had;
	line->amount = wanted - had;
}

/* Those that are there and were billed, before they change. */
void
change_all_once(BillingRun *run, BilledSubscription *s, List *changes, TimestampTz at)
{
	ListCell *cell;

	foreach (cell, changes)
	{
		const ItemChange *change = lfirst(cell);
		const BilledItem *item = item_named(s, change->component);

		if (item == NULL || !item->price->one_time || !item->billed_once)
			continue;
		if (change->price == NULL)
			change_once(run, s, item, 0, at);
		else if (uuid_equal(change->price->id, item->price->id))
			change_once(run, s, item, change->quantity, at);
	}
}

QUERY(billed_once_before,
	  "SELECT FROM billing.invoice_lines AS l JOIN billing.prices AS r ON r.id = l.price_id "
	  "LEFT JOIN billing.invoices AS i ON i.id = l.invoice_id WHERE l.subscription_id = $1 "
	  "AND l.kind = 'one_time' AND l.component = $2 AND r.plan_id = $3 "
	  "AND i.status IS DISTINCT FROM 'void' LIMIT 1",
	  UUIDOID, TEXTOID, UUIDOID);

bool
was_billed_once(const BilledSubscription *s, const ComponentPrice *price)
{
	return price->one_time && price->plan_id != NULL &&
		   RUN(billed_once_before, arg_uuid(s->id), arg_text(price->component),
			   arg_uuid(price->plan_id)) > 0;
}

/*-------------------------------------------------------------------------
 *
 * engine_write.c
 *	  Writes a run: one statement for each table, however many rows.
 *
 * Only what has changed.  Subscriptions come first, as everything else refers
 * to them; drafts and their lines are written by invoice_store.c, lines that
 * wait for an invoice here.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

#include "columns.h"
#include "draft_steps.h"
#include "given_back.h"
#include "invoice_lines.h"
#include "own_invoices.h"
#include "subscriptions.h"

/* ------------------------------------------------------------------------
 * Subscriptions
 * ------------------------------------------------------------------------
 */
typedef struct SubscriptionColumns
{
	Column id, plan_id, plan_group, price_id, quantity, status, status_since, payment_method_id,
		trial_start, trial_end, trial_notice_at, period_start, period_end, cancel_at_period_end,
		cancel_at, canceled_at, ended_at, pause_at_period_end, resumes_at, incomplete_until,
		usage_from, next_due_at, billing_anchor, schedule_start, collection_method, days_until_due,
		trial_end_behavior, items_before_pause, forgone_lines, items_before_change;
	Column customer_id, organization_id, provider, account, livemode, currency, zone, collect_by,
		metadata;
} SubscriptionColumns;

static SubscriptionColumns
subscription_columns(int count)
{
	return (SubscriptionColumns){
		.id = COLUMN_UUID(count),
		.plan_id = COLUMN_UUID(count),
		.plan_group = COLUMN_TEXT(count),
		.price_id = COLUMN_UUID(count),
		.quantity = COLUMN_INT(count),
		.status = COLUMN_TEXT(count),
		.status_since = COLUMN_TIME(count),
		.payment_method_id = COLUMN_UUID(count),
		.trial_start = COLUMN_TIME(count),
		.trial_end = COLUMN_TIME(count),
		.trial_notice_at = COLUMN_TIME(count),
		.period_start = COLUMN_TIME(count),
		.period_end = COLUMN_TIME(count),
		.cancel_at_period_end = COLUMN_BOOL(count),
		.cancel_at = COLUMN_TIME(count),
		.canceled_at = COLUMN_TIME(count),
		.ended_at = COLUMN_TIME(count),
		.pause_at_period_end = COLUMN_BOOL(count),
		.resumes_at = COLUMN_TIME(count),
		.incomplete_until = COLUMN_TIME(count),
		.usage_from = COLUMN_TIME(count),
		.next_due_at = COLUMN_TIME(count),
		.billing_anchor = COLUMN_TIME(count),
		.schedule_start = COLUMN_TIME(count),
		.collection_method = COLUMN_TEXT(count),
		.days_until_due = COLUMN_INT(count),
		.trial_end_behavior = COLUMN_TEXT(count),
		.items_before_pause = COLUMN_JSON(count),
		.forgone_lines = COLUMN_JSON(count),
		.items_before_change = COLUMN_JSON(count),
		.customer_id = COLUMN_UUID(count),
		.organization_id = COLUMN_TEXT(count),
		.provider = COLUMN_TEXT(count),
		.account = COLUMN_TEXT(count),
		.livemode = COLUMN_BOOL(count),
		.currency = COLUMN_TEXT(count),
		.zone = COLUMN_TEXT(count),
		.collect_by = COLUMN_TEXT(count),
		.metadata = COLUMN_JSON(count),
	};
}

/* Of what it is sold by: seats where it has them, as calls that name a quantity mean them. */
static int64
quantity_of(const BilledSubscription *s, const BilledItem *base)
{
	const BilledItem *seats = item_named(s, "seats");

	return seats != NULL && seats->price->metric == NULL ? seats->quantity : base->quantity;
}

static void
put_subscription(SubscriptionColumns *c, int row, const BilledSubscription *s)
{
	const BilledItem *base = base_item(s);

	column_pointer(&c->id, row, s->id);
	column_pointer(&c->plan_id, row, s->plan_id);
	column_text(&c->plan_group, row, s->plan_group);
	column_pointer(&c->price_id, row, base->price->id);
	column_int(&c->quantity, row, quantity_of(s, base));
	column_text(&c->status, row, s->status);
	column_time(&c->status_since, row, s->status_since);
	column_pointer(&c->payment_method_id, row, s->payment_method_id);
	column_time(&c->trial_start, row, s->trial_start);
	column_time(&c->trial_end, row, s->trial_end);
	column_time(&c->trial_notice_at, row, s->trial_notice_at);
	column_time(&c->period_start, row, s->period_start);
	column_time(&c->period_end, row, s->period_end);
	column_bool(&c->cancel_at_period_end, row, s->cancel_at_period_end);
	column_time(&c->cancel_at, row, s->cancel_at);
	column_time(&c->canceled_at, row, s->canceled_at);
	column_time(&c->ended_at, row, s->ended_at);
	column_bool(&c->pause_at_period_end, row, s->pause_at_period_end);
	column_time(&c->resumes_at, row, s->resumes_at);
	column_time(&c->incomplete_until, row, s->incomplete_until);
	column_time(&c->usage_from, row, s->usage_from);
	column_time(&c->next_due_at, row, s->next_due_at);
	column_time(&c->billing_anchor, row, s->billing_anchor);
	column_time(&c->schedule_start, row, s->schedule_start);
	column_text(&c->collection_method, row, s->collection_method);
	column_count(&c->days_until_due, row, s->days_until_due);
	column_text(&c->trial_end_behavior, row, s->trial_end_behavior);
	column_pointer(&c->items_before_pause, row, s->before_pause);
	column_pointer(&c->forgone_lines, row, forgone_text(s));
	column_pointer(&c->items_before_change, row, undo_text(s));
}

/* What never changes afterwards. */
static void
put_new_subscription(SubscriptionColumns *c, int row, const BilledSubscription *s)
{
	put_subscription(c, row, s);
	column_pointer(&c->customer_id, row, s->customer->id);
	column_text(&c->organization_id, row, s->customer->organization_id);
	column_text(&c->provider, row, s->provider);
	column_text(&c->account, row, s->account);
	column_bool(&c->livemode, row, s->livemode);
	column_text(&c->currency, row, s->currency);
	column_text(&c->zone, row, s->zone_name);
	column_text(&c->collect_by, row, s->collect_by);
	column_pointer(&c->metadata, row, s->metadata);
}

#define CHANGING_TYPES                                                                      \
	UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, UUIDARRAYOID, INT8ARRAYOID, TEXTARRAYOID,     \
		TIMESTAMPTZARRAYOID, UUIDARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID,        \
		TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, BOOLARRAYOID,        \
		TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, BOOLARRAYOID,        \
		TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, \
		TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, \
		JSONBARRAYOID, JSONBARRAYOID, JSONBARRAYOID
#define CHANGING_ARGS(c, n)                                                                     \
	column_arg(&(c).id, n), column_arg(&(c).plan_id, n), column_arg(&(c).plan_group, n),        \
		column_arg(&(c).price_id, n), column_arg(&(c).quantity, n), column_arg(&(c).status, n), \
		column_arg(&(c).status_since, n), column_arg(&(c).payment_method_id, n),                \
		column_arg(&(c).trial_start, n), column_arg(&(c).trial_end, n),                         \
		column_arg(&(c).trial_notice_at, n), column_arg(&(c).period_start, n),                  \
		column_arg(&(c).period_end, n), column_arg(&(c).cancel_at_period_end, n),               \
		column_arg(&(c).cancel_at, n), column_arg(&(c).canceled_at, n),                         \
		column_arg(&(c).ended_at, n), column_arg(&(c).pause_at_period_end, n),                  \
		column_arg(&(c).resumes_at, n), column_arg(&(c).incomplete_until, n),                   \
		column_arg(&(c).usage_from, n), column_arg(&(c).next_due_at, n),                        \
		column_arg(&(c).billing_anchor, n), column_arg(&(c).schedule_start, n),                 \
		column_arg(&(c).collection_method, n), column_arg(&(c).days_until_due, n),              \
		column_arg(&(c).trial_end_behavior, n), column_arg(&(c).items_before_pause, n),         \
		column_arg(&(c).forgone_lines, n), column_arg(&(c).items_before_change, n)
#define CHANGING_NAMES                                                                          \
	"id, plan_id, plan_group, price_id, quantity, status, status_since, payment_method_id, "    \
	"trial_start, trial_end, trial_notice_at, current_period_start, current_period_end, "       \
	"cancel_at_period_end, cancel_at, canceled_at, ended_at, pause_at_period_end, resumes_at, " \
	"incomplete_until, usage_from, next_due_at, billing_anchor, schedule_start, "               \
	"collection_method, days_until_due, trial_end_behavior, items_before_pause, "               \
	"forgone_lines, items_before_change"

QUERY(
	insert_subscriptions,
	"INSERT INTO billing.subscriptions (" CHANGING_NAMES
	", customer_id, organization_id, provider, "
	"account, livemode, currency, zone, collect_by, metadata, managed_by) "
	"SELECT " CHANGING_NAMES
	", customer_id, organization_id, provider, account, livemode, currency, "
	"zone, collect_by, coalesce(metadata, '{}'), 'local' "
	"FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, "
	"$19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39) "
	"AS u (" CHANGING_NAMES
	", customer_id, organization_id, provider, account, livemode, currency, "
	"zone, collect_by, metadata)",
	CHANGING_TYPES, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID);
QUERY(
	update_subscriptions,
	"UPDATE billing.subscriptions AS s SET plan_id = u.plan_id, plan_group = u.plan_group, "
	"price_id = u.price_id, quantity = u.quantity, status = u.status, status_since = u.status_since, "
	"payment_method_id = u.payment_method_id, trial_start = u.trial_start, trial_end = u.trial_end, "
	"trial_notice_at = u.trial_notice_at, current_period_start = u.current_period_start, "
	"current_period_end = u.current_period_end, cancel_at_period_end = u.cancel_at_period_end, "
	"cancel_at = u.cancel_at, canceled_at = u.canceled_at, ended_at = u.ended_at, "
	"pause_at_period_end = u.pause_at_period_end, resumes_at = u.resumes_at, "
	"incomplete_until = u.incomplete_until, usage_from = u.usage_from, next_due_at = u.next_due_at, "
	"billing_anchor = u.billing_anchor, schedule_start = u.schedule_start, "
	"collection_method = u.collection_method, days_until_due = u.days_until_due, "
	"trial_end_behavior = u.trial_end_behavior, items_before_pause = u.items_before_pause, "
	"forgone_lines = u.forgone_lines, items_before_change = u.items_before_change, "
	"due_failures = 0, due_error = NULL, updated_at = now() "
	"FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, "
	"$19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30) AS u (" CHANGING_NAMES
	") WHERE s.id = u.id",
	CHANGING_TYPES);

static void
write_new_subscriptions(BillingRun *run)
{
	SubscriptionColumns c = subscription_columns(list_length(run->subscriptions));
	int n = 0;
	ListCell *cell;

	foreach (cell, run->subscriptions)
	{
		BilledSubscription *s = lfirst(cell);

		if (s->old_status == NULL)
			put_new_subscription(&c, n++, s);
	}
	if (n > 0)
		RUN(insert_subscriptions, CHANGING_ARGS(c, n), column_arg(&c.customer_id, n),
			column_arg(&c.organization_id, n), column_arg(&c.provider, n),
			column_arg(&c.account, n), column_arg(&c.livemode, n), column_arg(&c.currency, n),
			column_arg(&c.zone, n), column_arg(&c.collect_by, n), column_arg(&c.metadata, n));
}

static void
write_changed_subscriptions(BillingRun *run)
{
	SubscriptionColumns c = subscription_columns(list_length(run->subscriptions));
	int n = 0;
	ListCell *cell;

	foreach (cell, run->subscriptions)
	{
		BilledSubscription *s = lfirst(cell);

		if (s->old_status != NULL && s->changed)
			put_subscription(&c, n++, s);
	}
	if (n > 0)
		RUN(update_subscriptions, CHANGING_ARGS(c, n));
}

/* ------------------------------------------------------------------------
 * Items
 * ------------------------------------------------------------------------
 */
QUERY(
	put_items,
	"INSERT INTO billing.subscription_items (subscription_id, component, price_id, quantity, billed_once) "
	"SELECT * FROM unnest($1, $2, $3, $4, $5) ON CONFLICT (subscription_id, component) DO UPDATE "
	"SET price_id = excluded.price_id, quantity = excluded.quantity, "
	"billed_once = excluded.billed_once, updated_at = now()",
	UUIDARRAYOID, TEXTARRAYOID, UUIDARRAYOID, INT8ARRAYOID, BOOLARRAYOID);
QUERY(remove_items,
	  "DELETE FROM billing.subscription_items AS i USING unnest($1, $2) AS u (id, component) "
	  "WHERE i.subscription_id = u.id AND i.component = u.component",
	  UUIDARRAYOID, TEXTARRAYOID);

typedef struct ItemColumns
{
	Column subscription_id, component, price_id, quantity, billed_once;
	int count;
} ItemColumns;

static ItemColumns
item_columns(const BillingRun *run)
{
	int count = 0;
	ListCell *cell;

	foreach (cell, run->subscriptions)
		count += list_length(((BilledSubscription *) lfirst(cell))->items);
	return (ItemColumns){COLUMN_UUID(count), COLUMN_TEXT(count), COLUMN_UUID(count),
						 COLUMN_INT(count),  COLUMN_BOOL(count), 0};
}

static void
put_item(ItemColumns *c, const BilledSubscription *s, const BilledItem *item)
{
	int row = c->count++;

	column_pointer(&c->subscription_id, row, s->id);
	column_text(&c->component, row, item->component);
	column_pointer(&c->price_id, row, item->price->id);
	column_int(&c->quantity, row, item->quantity);
	column_bool(&c->billed_once, row, item->billed_once);
}

/* An item that is taken away may have a successor of the same component: deletes come first. */
static void
write_items(BillingRun *run)
{
	ItemColumns put = item_columns(run);
	ItemColumns gone = item_columns(run);
	ListCell *cell;
	ListCell *item_cell;

	foreach (cell, run->subscriptions)
	{
		const BilledSubscription *s = lfirst(cell);

		foreach (item_cell, s->items)
		{
			BilledItem *item = lfirst(item_cell);

			if (item->removed && !item->is_new)
				put_item(&gone, s, item);
			else if (!item->removed && (item->is_new || item->changed))
				put_item(&put, s, item);
			item->changed = item->is_new = false;
		}
	}
	if (gone.count > 0)
		RUN(remove_items, column_arg(&gone.subscription_id, gone.count),
			column_arg(&gone.component, gone.count));
	if (put.count > 0)
		RUN(put_items, column_arg(&put.subscription_id, put.count),
			column_arg(&put.component, put.count), column_arg(&put.price_id, put.count),
			column_arg(&put.quantity, put.count), column_arg(&put.billed_once, put.count));
}

static void
forget_removed_items(BilledSubscription *s)
{
	ListCell *cell;

	foreach (cell, s->items)
	{
		if (((BilledItem *) lfirst(cell))->removed)
			s->items = foreach_delete_current(s->items, cell);
	}
}

/* ------------------------------------------------------------------------
 * Lines that were cut and dropped
 * ------------------------------------------------------------------------
 */
QUERY(cut_lines,
	  "UPDATE billing.invoice_lines AS l SET amount = u.amount, period_end = u.period_end, "
	  "description = u.description, quantity = CASE WHEN u.counted THEN l.quantity END, "
	  "unit_amount = CASE WHEN u.counted THEN l.unit_amount END "
	  "FROM unnest($1, $2, $3, $4, $5) AS u (id, amount, period_end, description, counted) "
	  "WHERE l.id = u.id RETURNING l.invoice_id",
	  UUIDARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, BOOLARRAYOID);
QUERY(drop_lines, "DELETE FROM billing.invoice_lines WHERE id = ANY ($1) RETURNING invoice_id",
	  UUIDARRAYOID);
QUERY(
	sum_drafts,
	"UPDATE billing.invoices AS i SET subtotal = t.amount, total = t.amount, "
	"amount_due = greatest(t.amount, 0), amount_remaining = greatest(t.amount, 0), updated_at = now() "
	"FROM (SELECT u.id, coalesce((SELECT sum(l.amount) FROM billing.invoice_lines AS l "
	"WHERE l.invoice_id = u.id), 0)::bigint AS amount FROM (SELECT DISTINCT d.id FROM unnest($1) AS d (id)) AS u) AS t "
	"WHERE i.id = t.id AND i.status = 'draft' AND i.marked_at IS NULL AND i.total <> t.amount",
	UUIDARRAYOID);

/* Drafts that lines stand on; those of a subscription that is not of this run are in the tables alone. */
static List *
with_drafts_of(List *drafts, int64 count)
{
	for (int64 i = 0; i < count; i++)
	{
		if (!row_null(i, 1))
			drafts = lappend(drafts, row_uuid(i, 1));
	}
	return drafts;
}

/* What a draft says is what its lines say. */
static void
drafts_sum(const List *drafts)
{
	int count = list_length(drafts);
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * Max(count, 1));

	for (int i = 0; i < count; i++)
		ids[i] = list_nth(drafts, i);
	if (count > 0)
		RUN(sum_drafts, arg_uuids(ids, count));
}

static void
cut_lines_write(BillingRun *run)
{
	int count = list_length(run->cut_lines);
	int dropped = list_length(run->dropped_lines);
	Column id = COLUMN_UUID(Max(count, dropped));
	Column amount = COLUMN_INT(count);
	Column period_end = COLUMN_TIME(count);
	Column description = COLUMN_TEXT(count);
	Column counted = COLUMN_BOOL(count);
	List *drafts = NIL;

	for (int i = 0; i < dropped; i++)
		column_pointer(&id, i, list_nth(run->dropped_lines, i));
	if (dropped > 0)
		drafts = with_drafts_of(drafts, RUN(drop_lines, column_arg(&id, dropped)));
	for (int i = 0; i < count; i++)
	{
		const InvoiceLine *line = list_nth(run->cut_lines, i);

		column_pointer(&id, i, line->id);
		column_int(&amount, i, line->amount);
		column_time(&period_end, i, line->period_end);
		column_text(&description, i, line->description);
		column_bool(&counted, i, line->has_quantity);
	}
	if (count > 0)
		drafts = with_drafts_of(drafts,
								RUN(cut_lines, column_arg(&id, count), column_arg(&amount, count),
									column_arg(&period_end, count), column_arg(&description, count),
									column_arg(&counted, count)));
	drafts_sum(drafts);
	run->cut_lines = run->dropped_lines = NIL;
}

/* ------------------------------------------------------------------------
 * What is planned
 * ------------------------------------------------------------------------
 */
QUERY(
	insert_changes,
	"INSERT INTO billing.scheduled_changes (id, subscription_id, organization_id, kind, due_at, effective_at, terms, "
	"state, error_code, reason, comment, finished_at) "
	"SELECT u.id, u.subscription_id, u.organization_id, u.kind, u.due_at, u.due_at, u.terms, u.state, u.error_code, "
	"u.reason, u.comment, CASE WHEN u.state <> 'pending' THEN now() END "
	"FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
	"AS u (id, subscription_id, organization_id, kind, due_at, terms, state, error_code, reason, comment)",
	UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BYTEAARRAYOID);
QUERY(
	update_changes,
	"UPDATE billing.scheduled_changes AS c SET due_at = u.due_at, effective_at = u.due_at, terms = u.terms, "
	"state = u.state, error_code = u.error_code, finished_at = CASE WHEN u.state <> 'pending' THEN now() END "
	"FROM unnest($1, $2, $3, $4, $5) AS u (id, due_at, terms, state, error_code) WHERE c.id = u.id",
	UUIDARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID);

typedef struct ChangeColumns
{
	Column id, subscription_id, organization_id, kind, due_at, terms, state, error_code, reason,
		comment;
	int count;
} ChangeColumns;

static ChangeColumns
change_columns(int count)
{
	return (ChangeColumns){COLUMN_UUID(count),
						   COLUMN_UUID(count),
						   COLUMN_TEXT(count),
						   COLUMN_TEXT(count),
						   COLUMN_TIME(count),
						   COLUMN_JSON(count),
						   COLUMN_TEXT(count),
						   COLUMN_TEXT(count),
						   COLUMN_TEXT(count),
						   COLUMN_BYTES(count),
						   0};
}

static void
put_change(ChangeColumns *c, const BilledSubscription *s, const ScheduledChange *change)
{
	int row = c->count++;

	column_pointer(&c->id, row, change->id);
	column_pointer(&c->subscription_id, row, s->id);
	column_text(&c->organization_id, row, s->customer->organization_id);
	column_text(&c->kind, row, change->kind);
	column_time(&c->due_at, row, change->due_at);
	column_pointer(&c->terms, row, change->terms);
	column_text(&c->state, row, change->state);
	column_text(&c->error_code, row, change->error_code);
	column_text(&c->reason, row, change->reason);
	column_pointer(&c->comment, row, change->comment);
}

/* Those that are over first: there is one pending change of each kind at a time. */
static void
write_changes(BillingRun *run)
{
	int total = 0;
	ListCell *cell;
	ListCell *change_cell;
	ChangeColumns fresh;
	ChangeColumns changed;

	foreach (cell, run->subscriptions)
		total += list_length(((BilledSubscription *) lfirst(cell))->changes);
	if (total == 0)
		return;
	fresh = change_columns(total);
	changed = change_columns(total);
	foreach (cell, run->subscriptions)
	{
		const BilledSubscription *s = lfirst(cell);

		foreach (change_cell, s->changes)
		{
			ScheduledChange *change = lfirst(change_cell);

			if (change->is_new)
				put_change(&fresh, s, change);
			else if (change->changed)
				put_change(&changed, s, change);
			change->is_new = change->changed = false;
		}
	}
	if (changed.count > 0)
		RUN(update_changes, column_arg(&changed.id, changed.count),
			column_arg(&changed.due_at, changed.count), column_arg(&changed.terms, changed.count),
			column_arg(&changed.state, changed.count),
			column_arg(&changed.error_code, changed.count));
	if (fresh.count > 0)
		RUN(insert_changes, column_arg(&fresh.id, fresh.count),
			column_arg(&fresh.subscription_id, fresh.count),
			column_arg(&fresh.organization_id, fresh.count), column_arg(&fresh.kind, fresh.count),
			column_arg(&fresh.due_at, fresh.count), column_arg(&fresh.terms, fresh.count),
			column_arg(&fresh.state, fresh.count), column_arg(&fresh.error_code, fresh.count),
			column_arg(&fresh.reason, fresh.count), column_arg(&fresh.comment, fresh.count));
}

static void
forget_finished_changes(BilledSubscription *s)
{
	ListCell *cell;

	foreach (cell, s->changes)
	{
		if (strcmp(((ScheduledChange *) lfirst(cell))->state, "pending") != 0)
			s->changes = foreach_delete_current(s->changes, cell);
	}
}

/* ------------------------------------------------------------------------
 * Lines that wait for the next invoice
 * ------------------------------------------------------------------------
 */
static void
write_pending_lines(BillingRun *run)
{
	PlacedLine *fresh;
	int total = 0;
	int count = 0;
	ListCell *cell;
	ListCell *line_cell;

	foreach (cell, run->subscriptions)
		total += list_length(((BilledSubscription *) lfirst(cell))->pending);
	fresh = palloc(sizeof(PlacedLine) * Max(total, 1));
	foreach (cell, run->subscriptions)
	{
		foreach (line_cell, ((BilledSubscription *) lfirst(cell))->pending)
		{
			InvoiceLine *line = lfirst(line_cell);

			if (!line->stored)
				fresh[count++] = (PlacedLine){.line = line};
			line->stored = true;
		}
	}
	invoice_lines_insert(fresh, count);
}

/* ------------------------------------------------------------------------
 * Events
 * ------------------------------------------------------------------------
 */
QUERY(insert_events,
	  "WITH event AS ("
	  "INSERT INTO billing.events (type, object, id, organization_id, before_state, after_state) "
	  "SELECT * FROM unnest($1, $2, $3, $4, $5, $6) RETURNING seq) "
	  "INSERT INTO billing.events_unsent (seq) SELECT seq FROM event",
	  TEXTARRAYOID, TEXTARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID);

void
run_event(BillingRun *run, const char *type, const char *object, const pg_uuid_t *id,
		  const char *organization_id, const char *before, const char *after)
{
	EngineEvent *event = palloc(sizeof(EngineEvent));

	*event = (EngineEvent){type, object, id, organization_id, before, after};
	run->events = lappend(run->events, event);
}

static void
write_events(BillingRun *run)
{
	int count = list_length(run->events);
	Column type = COLUMN_TEXT(count);
	Column object = COLUMN_TEXT(count);
	Column id = COLUMN_UUID(count);
	Column organization_id = COLUMN_TEXT(count);
	Column before = COLUMN_TEXT(count);
	Column after = COLUMN_TEXT(count);

	if (count == 0)
		return;
	for (int i = 0; i < count; i++)
	{
		const EngineEvent *event = list_nth(run->events, i);

		column_text(&type, i, event->type);
		column_text(&object, i, event->object);
		column_pointer(&id, i, event->id);
		column_text(&organization_id, i, event->organization_id);
		column_text(&before, i, event->before);
		column_text(&after, i, event->after);
	}
	RUN(insert_events, column_arg(&type, count), column_arg(&object, count), column_arg(&id, count),
		column_arg(&organization_id, count), column_arg(&before, count), column_arg(&after, count));
	run->events = NIL;
	worker_wake_at_commit();
}

/* From here on all of it is as stored. */
static void
count_as_stored(BillingRun *run)
{
	ListCell *cell;

	foreach (cell, run->subscriptions)
	{
		BilledSubscription *s = lfirst(cell);

		s->old_status = s->status;
		s->changed = false;
		forget_removed_items(s);
		forget_finished_changes(s);
	}
}

/* ------------------------------------------------------------------------
 * What stood beside one that has ended
 * ------------------------------------------------------------------------
 */
static List *
ended_in_run(const BillingRun *run)
{
	List *ended = NIL;
	ListCell *cell;

	foreach (cell, run->subscriptions)
	{
		const BilledSubscription *s = lfirst(cell);

		if (s->old_status != NULL && !subscription_ended(s->old_status) &&
			subscription_ended(s->status))
			ended = lappend(ended, s->id);
	}
	return ended;
}

QUERY(no_conflict, "UPDATE billing.subscriptions SET conflict = false WHERE id = $1 AND conflict",
	  UUIDOID);

static void
settle_groups(const List *ended)
{
	ListCell *cell;

	foreach (cell, ended)
	{
		const pg_uuid_t *id = lfirst(cell);

		RUN(no_conflict, arg_uuid(id));
		subscription_settle_group(subscription_load(id), NULL);
	}
}

/* They were never paid for, so nobody is asked for their invoices any more. */
static List *
never_begun_in_run(const BillingRun *run)
{
	List *never_begun = NIL;
	ListCell *cell;

	foreach (cell, run->subscriptions)
	{
		BilledSubscription *s = lfirst(cell);

		if (s->old_status != NULL && strcmp(s->old_status, "incomplete") == 0 &&
			subscription_ended(s->status))
			never_begun = lappend(never_begun, s);
	}
	return never_begun;
}

/* Balances and coupons change, so what the run knows of them is asked anew. */
static void
settle_invoices(BillingRun *run, const List *never_begun)
{
	ListCell *cell;

	if (run->given_up == NIL && never_begun == NIL)
		return;
	foreach (cell, run->given_up)
		given_back_settle(lfirst(cell));
	foreach (cell, never_begun)
	{
		const BilledSubscription *s = lfirst(cell);

		own_invoices_take_back(s->id);
		coupons_end(s, s->ended_at);
	}
	foreach (cell, run->customers)
	{
		BilledCustomer *customer = lfirst(cell);

		customer->credits = NULL;
		customer->coupons = NULL;
	}
	run->given_up = NIL;
}

void
run_write(BillingRun *run)
{
	List *ended = ended_in_run(run);
	List *never_begun = never_begun_in_run(run);

	Assert(!run->preview);
	write_new_subscriptions(run);
	write_changed_subscriptions(run);
	write_items(run);
	write_changes(run);
	cut_lines_write(run);
	write_pending_lines(run);
	drafts_write(run);
	coupons_write(run);
	credits_write(run);
	write_events(run);
	count_as_stored(run);
	settle_groups(ended);
	settle_invoices(run, never_begun);
}

/*-------------------------------------------------------------------------
 *
 * invoice_store.c
 *	  Drafts of invoices in their tables.
 *
 * A run writes all of its drafts with one statement for each table, and reads
 * them back so.  What engine_write.c has written before (subscriptions, lines
 * that wait) is there already.  Called by run_write(), and by
 * invoice_drafts_due.c, which completes drafts that waited for late usage.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "columns.h"
#include "invoice_lines.h"
#include "json.h"

/* ------------------------------------------------------------------------
 * Usage that is to be billed, as it is kept with a draft
 * ------------------------------------------------------------------------
 */
static const Jsonb *
usage_json(const List *usage)
{
	JsonBuilder b;
	ListCell *cell;

	if (usage == NIL)
		return NULL;
	json_open(&b);
	json_open_array(&b, "periods");
	foreach (cell, usage)
	{
		const DraftUsage *range = lfirst(cell);
		JsonBuilder period;

		json_open(&period);
		json_add_int(&period, "start", unix_microseconds(range->period.start));
		json_add_int(&period, "end", unix_microseconds(range->period.end));
		json_add_int(&period, "whole_start", unix_microseconds(range->whole.start));
		json_add_int(&period, "whole_end", unix_microseconds(range->whole.end));
		json_append_json(&b, json_close(&period));
	}
	json_close_array(&b);
	return json_close(&b);
}

static TimestampTz
moment_in(const Jsonb *json, int period, const char *name)
{
	int64 at;

	if (!json_int(json, psprintf("periods.%d.%s", period, name), &at))
		elog(ERROR, "a draft has a period of usage without bounds");
	return moment_of_unix_microseconds(at);
}

static List *
usage_of_json(const Jsonb *json)
{
	List *usage = NIL;
	int count = json == NULL ? 0 : json_length(json, "periods");

	for (int i = 0; i < count; i++)
	{
		DraftUsage *range = palloc(sizeof(DraftUsage));

		range->period = (UsageRange){moment_in(json, i, "start"), moment_in(json, i, "end")};
		range->whole = (UsageRange){moment_in(json, i, "whole_start"),
									moment_in(json, i, "whole_end")};
		usage = lappend(usage, range);
	}
	return usage;
}

/* ------------------------------------------------------------------------
 * Writing: invoices
 * ------------------------------------------------------------------------
 */
QUERY(
	insert_invoices,
	"INSERT INTO billing.invoices (id, customer_id, organization_id, subscription_id, provider, "
	"account, livemode, status, managed_by, billing_reason, currency, subtotal, discount, total, tax, "
	"credit_used, balance_used, amount_due, amount_remaining, period_start, period_end, "
	"collection_method, days_until_due, finalize_at, marked_at, usage, seller_name, memo, metadata, "
	"issued_at) "
	"SELECT u.id, u.customer_id, u.organization_id, u.subscription_id, u.provider, u.account, "
	"u.livemode, 'draft', 'local', u.reason, u.currency, u.subtotal, u.discount, u.total, u.tax, "
	"u.credit_used, u.balance_used, u.due, u.due, u.period_start, u.period_end, "
	"u.collection_method, u.days_until_due, u.finalize_at, u.marked_at, u.usage, u.seller_name, "
	"u.memo, coalesce(u.metadata, '{}'), u.made_at "
	"FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, "
	"$19, $20, $21, $22, $23, $24, $25, $26, $27) AS u (id, customer_id, organization_id, "
	"subscription_id, provider, account, livemode, reason, currency, subtotal, discount, total, tax, "
	"credit_used, balance_used, due, period_start, period_end, collection_method, days_until_due, "
	"finalize_at, marked_at, usage, seller_name, memo, metadata, made_at)",
	UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	BOOLARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID,
	TIMESTAMPTZARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID,
	JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID, TIMESTAMPTZARRAYOID);
QUERY(
	update_invoices,
	"UPDATE billing.invoices AS i SET subtotal = u.subtotal, discount = u.discount, total = u.total, "
	"tax = u.tax, credit_used = u.credit_used, balance_used = u.balance_used, amount_due = u.due, "
	"amount_remaining = u.due, finalize_at = u.finalize_at, marked_at = u.marked_at, usage = u.usage, "
	"updated_at = now() "
	"FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS u (id, subtotal, discount, total, "
	"tax, credit_used, balance_used, due, finalize_at, marked_at, usage) "
	"WHERE i.id = u.id AND i.status = 'draft' AND i.marked_at IS NULL",
	UUIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID);

typedef struct InvoiceColumns
{
	Column id, customer_id, organization_id, subscription_id, provider, account, livemode, reason,
		currency, subtotal, discount, total, tax, credit_used, balance_used, due, period_start,
		period_end, collection_method, days_until_due, finalize_at, marked_at, usage, seller_name,
		memo, metadata, made_at;
} InvoiceColumns;

static InvoiceColumns
invoice_columns(int count)
{
	return (InvoiceColumns){
		.id = COLUMN_UUID(count),
		.customer_id = COLUMN_UUID(count),
		.organization_id = COLUMN_TEXT(count),
		.subscription_id = COLUMN_UUID(count),
		.provider = COLUMN_TEXT(count),
		.account = COLUMN_TEXT(count),
		.livemode = COLUMN_BOOL(count),
		.reason = COLUMN_TEXT(count),
		.currency = COLUMN_TEXT(count),
		.subtotal = COLUMN_INT(count),
		.discount = COLUMN_INT(count),
		.total = COLUMN_INT(count),
		.tax = COLUMN_INT(count),
		.credit_used = COLUMN_INT(count),
		.balance_used = COLUMN_INT(count),
		.due = COLUMN_INT(count),
		.period_start = COLUMN_TIME(count),
		.period_end = COLUMN_TIME(count),
		.collection_method = COLUMN_TEXT(count),
		.days_until_due = COLUMN_INT(count),
		.finalize_at = COLUMN_TIME(count),
		.marked_at = COLUMN_TIME(count),
		.usage = COLUMN_JSON(count),
		.seller_name = COLUMN_TEXT(count),
		.memo = COLUMN_TEXT(count),
		.metadata = COLUMN_JSON(count),
		.made_at = COLUMN_TIME(count),
	};
}

/* What can be said before completion: what there is so far, without discount and tax. */
static AllocationTotals
totals_so_far(const InvoiceDraft *draft)
{
	AllocationTotals totals = {0};
	ListCell *cell;

	foreach (cell, draft->lines)
	{
		const InvoiceLine *line = lfirst(cell);

		if (money_add(totals.subtotal, line->amount, &totals.subtotal) != MONEY_OK)
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("the total of invoice \"%s\" is too large", uuid_text(draft->id)),
					 errdetail("Amounts are up to " INT64_FORMAT " minor units.", INT64_MAX),
					 errhint("Its quantities are too large for their prices.")));
	}
	totals.total = totals.subtotal;
	return totals;
}

/* What completion changes. */
static void
put_sums(InvoiceColumns *c, int row, InvoiceDraft *draft)
{
	if (!draft->is_final)
	{
		draft->totals = totals_so_far(draft);
		draft->due = Max(draft->totals.total, 0);
	}
	column_pointer(&c->id, row, draft->id);
	column_int(&c->subtotal, row, draft->totals.subtotal);
	column_int(&c->discount, row, draft->totals.discount);
	column_int(&c->total, row, draft->totals.total);
	column_int(&c->tax, row, draft->totals.tax);
	column_int(&c->credit_used, row, draft->credit_used);
	column_int(&c->balance_used, row, draft->balance_used);
	column_int(&c->due, row, draft->due);
	column_time(&c->finalize_at, row, draft->finalize_at);
	column_time(&c->marked_at, row, draft->is_final ? draft->customer->now : 0);
	column_pointer(&c->usage, row, usage_json(draft->usage));
}

static void
put_invoice(InvoiceColumns *c, int row, InvoiceDraft *draft)
{
	put_sums(c, row, draft);
	column_pointer(&c->customer_id, row, draft->customer->id);
	column_text(&c->organization_id, row, draft->customer->organization_id);
	column_pointer(&c->subscription_id, row,
				   draft->subscription == NULL ? NULL : draft->subscription->id);
	column_text(&c->provider, row, draft->provider);
	column_text(&c->account, row, draft->account);
	column_bool(&c->livemode, row, draft->livemode);
	column_text(&c->reason, row, draft->reason);
	column_text(&c->currency, row, draft->currency);
	column_time(&c->period_start, row, draft->period_start);
	column_time(&c->period_end, row, draft->period_end);
	column_text(&c->collection_method, row, draft->collection_method);
	column_count(&c->days_until_due, row, draft->days_until_due);
	column_text(&c->seller_name, row, draft->seller);
	column_text(&c->memo, row, draft->memo);
	column_pointer(&c->metadata, row, draft->metadata);
	column_time(&c->made_at, row, draft->made_at);
}

static void
write_new_invoices(List *drafts)
{
	int count = list_length(drafts);
	InvoiceColumns c = invoice_columns(count);

	if (count == 0)
		return;
	for (int i = 0; i < count; i++)
		put_invoice(&c, i, list_nth(drafts, i));
	RUN(insert_invoices, column_arg(&c.id, count), column_arg(&c.customer_id, count),
		column_arg(&c.organization_id, count), column_arg(&c.subscription_id, count),
		column_arg(&c.provider, count), column_arg(&c.account, count),
		column_arg(&c.livemode, count), column_arg(&c.reason, count),
		column_arg(&c.currency, count), column_arg(&c.subtotal, count),
		column_arg(&c.discount, count), column_arg(&c.total, count), column_arg(&c.tax, count),
		column_arg(&c.credit_used, count), column_arg(&c.balance_used, count),
		column_arg(&c.due, count), column_arg(&c.period_start, count),
		column_arg(&c.period_end, count), column_arg(&c.collection_method, count),
		column_arg(&c.days_until_due, count), column_arg(&c.finalize_at, count),
		column_arg(&c.marked_at, count), column_arg(&c.usage, count),
		column_arg(&c.seller_name, count), column_arg(&c.memo, count),
		column_arg(&c.metadata, count), column_arg(&c.made_at, count));
}

/* After their lines: what is marked keeps them. */
static void
write_changed_invoices(List *drafts)
{
	int count = list_length(drafts);
	InvoiceColumns c = invoice_columns(count);

	if (count == 0)
		return;
	for (int i = 0; i < count; i++)
		put_sums(&c, i, list_nth(drafts, i));
	if (RUN(update_invoices, column_arg(&c.id, count), column_arg(&c.subtotal, count),
			column_arg(&c.discount, count), column_arg(&c.total, count), column_arg(&c.tax, count),
			column_arg(&c.credit_used, count), column_arg(&c.balance_used, count),
			column_arg(&c.due, count), column_arg(&c.finalize_at, count),
			column_arg(&c.marked_at, count), column_arg(&c.usage, count)) != count)
		elog(ERROR, "a draft was made final by somebody else");
}

/* ------------------------------------------------------------------------
 * Writing: lines
 * ------------------------------------------------------------------------
 */
/* A position is free again when a statement has ended: those that stand first move first. */
static void
write_lines(List *drafts)
{
	PlacedLine *fresh;
	PlacedLine *stored;
	int total = 0;
	int fresh_count = 0;
	int stored_count = 0;
	ListCell *cell;

	foreach (cell, drafts)
		total += list_length(((const InvoiceDraft *) lfirst(cell))->lines);
	fresh = palloc(sizeof(PlacedLine) * Max(total, 1));
	stored = palloc(sizeof(PlacedLine) * Max(total, 1));
	foreach (cell, drafts)
	{
		const InvoiceDraft *draft = lfirst(cell);

		for (int i = 0; i < list_length(draft->lines); i++)
		{
			InvoiceLine *line = list_nth(draft->lines, i);
			PlacedLine placed = {line, draft->id, i + 1};

			if (line->stored)
				stored[stored_count++] = placed;
			else
				fresh[fresh_count++] = placed;
			line->stored = true;
		}
	}
	invoice_lines_move(stored, stored_count);
	invoice_lines_insert(fresh, fresh_count);
}

/* ------------------------------------------------------------------------
 * Writing: all of it
 * ------------------------------------------------------------------------
 */
QUERY(delete_drafts,
	  "DELETE FROM billing.invoices WHERE id = ANY ($1) AND status = 'draft' AND marked_at IS NULL",
	  UUIDARRAYOID);

static void
delete_dropped(BillingRun *run)
{
	int count = list_length(run->dropped);
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * Max(count, 1));

	if (count == 0)
		return;
	for (int i = 0; i < count; i++)
		ids[i] = ((const InvoiceDraft *) list_nth(run->dropped, i))->id;
	RUN(delete_drafts, arg_uuids(ids, count));
	run->dropped = NIL;
}

void
drafts_write(BillingRun *run)
{
	List *fresh = NIL;
	List *stored = NIL;
	ListCell *cell;
	bool final = false;

	if (run->preview)
		elog(ERROR, "a preview is not written");
	foreach (cell, run->drafts)
	{
		InvoiceDraft *draft = lfirst(cell);

		if (!draft->is_new && !draft->changed)
			continue;
		/* nothing was added after all */
		if (draft->lines == NIL && draft->usage == NIL && draft->is_new)
			continue;
		final = final || draft->is_final;
		if (draft->is_new)
			fresh = lappend(fresh, draft);
		else
			stored = lappend(stored, draft);
	}
	write_new_invoices(fresh);
	write_lines(list_concat_copy(fresh, stored));
	write_changed_invoices(stored);
	delete_dropped(run);
	foreach (cell, list_concat(fresh, stored))
	{
		InvoiceDraft *draft = lfirst(cell);

		draft->is_new = false;
		draft->changed = false;
	}
	if (final)
		worker_wake_at_commit();
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */
QUERY(read_drafts,
	  "SELECT i.id, i.customer_id, i.subscription_id, i.provider, i.account, i.livemode, "
	  "i.billing_reason, i.currency, i.issued_at, i.period_start, i.period_end, i.finalize_at, "
	  "i.collection_method, i.days_until_due, i.usage, i.seller_name, i.memo, i.metadata "
	  "FROM billing.invoices AS i WHERE i.id = ANY ($1) AND i.managed_by = 'local' "
	  "AND i.status = 'draft' AND i.marked_at IS NULL ORDER BY i.issued_at, i.id",
	  UUIDARRAYOID);
QUERY(
	read_draft_lines,
	"SELECT " INVOICE_LINE_COLUMNS ", l.invoice_id, l.not_covered > 0 "
	"AND EXISTS (SELECT FROM billing.credit_note_lines AS m WHERE m.credit_line_id = l.id) "
	"FROM billing.invoice_lines AS l WHERE l.invoice_id = ANY ($1) ORDER BY l.invoice_id, l.position",
	UUIDARRAYOID);

static InvoiceDraft *
draft_of_row(BillingRun *run, Rows rows, int64 row)
{
	InvoiceDraft *draft = palloc0(sizeof(InvoiceDraft));
	const pg_uuid_t *subscription_id = rows_uuid(rows, row, 3);

	draft->id = rows_uuid(rows, row, 1);
	draft->customer = run_customer(run, rows_uuid(rows, row, 2));
	if (subscription_id != NULL)
		draft->subscription = run_subscription(run, subscription_id);
	if (subscription_id != NULL && draft->subscription == NULL)
		elog(ERROR, "the run has not loaded subscription \"%s\" of a draft",
			 uuid_text(subscription_id));
	draft->provider = rows_text(rows, row, 4);
	draft->account = rows_text(rows, row, 5);
	draft->livemode = rows_bool(rows, row, 6);
	draft->reason = rows_text(rows, row, 7);
	draft->currency = rows_text(rows, row, 8);
	draft->made_at = rows_time(rows, row, 9);
	draft->period_start = rows_time(rows, row, 10);
	draft->period_end = rows_time(rows, row, 11);
	draft->finalize_at = rows_time(rows, row, 12);
	draft->collection_method = rows_text(rows, row, 13);
	draft->days_until_due = rows_null(rows, row, 14) ? -1 : rows_int4(rows, row, 14);
	draft->usage = usage_of_json(rows_json(rows, row, 15));
	draft->seller = rows_text(rows, row, 16);
	draft->memo = rows_text(rows, row, 17);
	draft->metadata = rows_json(rows, row, 18);
	return draft;
}

static InvoiceDraft *
find_draft(List *drafts, const pg_uuid_t *id)
{
	ListCell *cell;

	foreach (cell, drafts)
	{
		InvoiceDraft *draft = lfirst(cell);

		if (uuid_equal(draft->id, id))
			return draft;
	}
	return NULL;
}

static InvoiceDraft *
draft_with_id(List *drafts, const pg_uuid_t *id)
{
	InvoiceDraft *draft = find_draft(drafts, id);

	if (draft == NULL)
		elog(ERROR, "no draft \"%s\" in the run", uuid_text(id));
	return draft;
}

/* What was billed for time that is not over is known to the run: one line is one object. */
static InvoiceLine *
draft_line(const InvoiceDraft *draft, Rows rows, int64 row)
{
	InvoiceLine *line = invoice_line_of_row(rows, row);
	ListCell *cell;

	line->is_made_up = rows_bool(rows, row, INVOICE_LINE_COLUMN_COUNT + 2);
	if (draft->subscription == NULL)
		return line;
	foreach (cell, draft->subscription->billed)
	{
		InvoiceLine *billed = lfirst(cell);

		if (uuid_equal(billed->id, line->id))
			return billed;
	}
	return line;
}

/*
 * The subscriptions have been loaded.  Lines come in the order of their
 * invoices, so that each of these is looked for once.
 */
void
run_load_drafts(BillingRun *run, pg_uuid_t *const *invoice_ids, int count)
{
	InvoiceDraft *draft = NULL;
	List *loaded = NIL;
	int64 found = RUN(read_drafts, arg_uuids(invoice_ids, count));
	Rows rows = rows_keep();
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * Max(found, 1));

	for (int64 i = 0; i < found; i++)
	{
		if (find_draft(run->drafts, rows_uuid(rows, i, 1)) != NULL)
			continue;
		draft = draft_of_row(run, rows, i);
		ids[list_length(loaded)] = draft->id;
		loaded = lappend(loaded, draft);
	}
	if (loaded == NIL)
		return;
	found = RUN(read_draft_lines, arg_uuids(ids, list_length(loaded)));
	draft = NULL;
	rows = rows_keep();
	for (int64 i = 0; i < found; i++)
	{
		const pg_uuid_t *invoice_id = rows_uuid(rows, i, INVOICE_LINE_COLUMN_COUNT + 1);

		if (draft == NULL || !uuid_equal(draft->id, invoice_id))
			draft = draft_with_id(loaded, invoice_id);
		draft->lines = lappend(draft->lines, draft_line(draft, rows, i));
	}
	run->drafts = list_concat(run->drafts, loaded);
}

/* By the index of each subscription, whatever the tables were when the plan was made. */
QUERY(waiting_drafts,
	  "SELECT i.id FROM unnest($1) AS u (id) CROSS JOIN LATERAL (SELECT o.id "
	  "FROM billing.invoices AS o WHERE o.subscription_id = u.id AND o.managed_by = 'local' "
	  "AND o.status = 'draft' AND o.marked_at IS NULL AND o.finalize_at IS NOT NULL OFFSET 0) AS i",
	  UUIDARRAYOID);

/*
 * A draft that waits is the next invoice of its subscription: what changes
 * meanwhile stands on it.
 */
void
run_load_waiting_drafts(BillingRun *run, ArrayType *subscription_ids)
{
	int count = (int) RUN(waiting_drafts, arg_datum(PointerGetDatum(subscription_ids), false));
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * Max(count, 1));

	for (int i = 0; i < count; i++)
		ids[i] = row_uuid(i, 1);
	if (count > 0)
		run_load_drafts(run, ids, count);
}

/*-------------------------------------------------------------------------
 *
 * engine_load.c
 *	  Loads a run: one statement for each table, however many subscriptions.
 *
 * Customers are locked first, in the order of their ids, then subscriptions, as
 * everywhere.  Each statement sees what was committed before it, so that what
 * stands under a lock is read as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

#include "columns.h"
#include "invoice_lines.h"
#include "check.h"
#include "subscriptions.h"
#include "utils/hsearch.h"

/* ------------------------------------------------------------------------
 * A run, and what is found in it by its id
 * ------------------------------------------------------------------------
 */
typedef struct ById
{
	pg_uuid_t id; /* the key of the hash table */
	void *object;
} ById;

static HTAB *
by_id_new(const char *name)
{
	return hash_create(name, 64,
					   &(HASHCTL){.keysize = sizeof(pg_uuid_t),
								  .entrysize = sizeof(ById),
								  .hcxt = CurrentMemoryContext},
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void *
by_id(HTAB *table, const pg_uuid_t *id)
{
	const ById *entry = hash_search(table, id, HASH_FIND, NULL);

	return entry == NULL ? NULL : entry->object;
}

static void
remember(HTAB *table, const pg_uuid_t *id, void *object)
{
	bool found;
	ById *entry = hash_search(table, id, HASH_ENTER, &found);

	entry->object = object;
}

QUERY(
	read_settings,
	"SELECT max(value) FILTER (WHERE name = 'proration_unit'), "
	"max(value) FILTER (WHERE name = 'timezone'), "
	"(max(extract(epoch FROM value::interval)) FILTER (WHERE name = 'trial_notice'))::bigint, "
	"(max(extract(epoch FROM value::interval)) FILTER (WHERE name = 'usage_grace'))::bigint, "
	"(max(value) FILTER (WHERE name = 'invoice_lead_days'))::bigint "
	"FROM billing.settings WHERE name IN ('proration_unit', 'timezone', 'trial_notice', 'usage_grace', 'invoice_lead_days')",
	InvalidOid);

static EngineSettings
settings_read(void)
{
	EngineSettings settings;
	char *unit;
	char *zone;

	query_run(&read_settings, NULL);
	unit = row_text(0, 1);
	zone = row_text(0, 2);
	settings.proration_unit = unit != NULL && strcmp(unit, "day") == 0 ? PRORATE_BY_DAY
																	   : PRORATE_BY_SECOND;
	settings.zone_name = zone != NULL ? zone : "UTC";
	settings.trial_notice = row_int(0, 3);
	settings.usage_grace = row_int(0, 4);
	settings.lead_days = (int) row_int(0, 5);
	return settings;
}

BillingRun *
run_begin(bool preview)
{
	BillingRun *run = palloc0(sizeof(BillingRun));

	run->preview = preview;
	run->settings = settings_read();
	run->customer_ids = by_id_new("billing run: customers");
	run->subscription_ids = by_id_new("billing run: subscriptions");
	return run;
}

BilledSubscription *
run_subscription(BillingRun *run, const pg_uuid_t *subscription_id)
{
	return by_id(run->subscription_ids, subscription_id);
}

void
run_add_subscription(BillingRun *run, BilledSubscription *s)
{
	s->settings = &run->settings;
	s->changed = true;
	run->subscriptions = lappend(run->subscriptions, s);
	remember(run->subscription_ids, s->id, s);
}

static ArrayType *
ids_of_customers(const BillingRun *run)
{
	int count = list_length(run->customers);
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * Max(count, 1));

	for (int i = 0; i < count; i++)
		ids[i] = ((BilledCustomer *) list_nth(run->customers, i))->id;
	return uuid_array(ids, count);
}

static ArrayType *
ids_of_subscriptions(const BillingRun *run)
{
	int count = list_length(run->subscriptions);
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * Max(count, 1));

	for (int i = 0; i < count; i++)
		ids[i] = ((BilledSubscription *) list_nth(run->subscriptions, i))->id;
	return uuid_array(ids, count);
}

static Arg
array_arg(ArrayType *array)
{
	return arg_datum(PointerGetDatum(array), false);
}

/* ------------------------------------------------------------------------
 * Customers
 * ------------------------------------------------------------------------
 */
#define CUSTOMER_COLUMNS                                                                     \
	"c.id, c.organization_id, c.country, c.tax_exempt, c.timezone, coalesce(k.now, now()), " \
	"EXISTS (SELECT FROM billing.usage_closings AS u WHERE u.organization_id = c.organization_id)"
#define CUSTOMERS_OF                                                                                        \
	"SELECT " CUSTOMER_COLUMNS " FROM billing.customers AS c "                                              \
	"LEFT JOIN billing.sandbox_clocks AS k ON k.organization_id = c.organization_id "                       \
	"WHERE c.id = ANY (ARRAY(SELECT s.customer_id FROM billing.subscriptions AS s WHERE s.id = ANY ($1))) " \
	"ORDER BY c.id"
#define CUSTOMER_NAMED                                                                \
	"SELECT " CUSTOMER_COLUMNS " FROM billing.customers AS c "                        \
	"LEFT JOIN billing.sandbox_clocks AS k ON k.organization_id = c.organization_id " \
	"WHERE c.id = $1"

QUERY(read_customers, CUSTOMERS_OF, UUIDARRAYOID);
QUERY(lock_customers, CUSTOMERS_OF " FOR NO KEY UPDATE OF c", UUIDARRAYOID);
QUERY(take_customers, CUSTOMERS_OF " FOR NO KEY UPDATE OF c SKIP LOCKED", UUIDARRAYOID);
QUERY(read_customer, CUSTOMER_NAMED, UUIDOID);
QUERY(lock_customer, CUSTOMER_NAMED " FOR NO KEY UPDATE OF c", UUIDOID);

static BilledCustomer *
add_customer(BillingRun *run, int64 row)
{
	BilledCustomer *customer = palloc0(sizeof(BilledCustomer));

	customer->id = row_uuid(row, 1);
	customer->organization_id = row_text(row, 2);
	customer->country = row_text(row, 3);
	customer->tax_exempt = row_text(row, 4);
	customer->zone_name = row_text(row, 5);
	if (customer->zone_name == NULL)
		customer->zone_name = run->settings.zone_name;
	customer->now = moment_of_unix(unix_seconds(row_time(row, 6)));
	customer->has_closings = row_bool(row, 7);
	run->customers = lappend(run->customers, customer);
	remember(run->customer_ids, customer->id, customer);
	return customer;
}

BilledCustomer *
run_customer(BillingRun *run, const pg_uuid_t *customer_id)
{
	BilledCustomer *customer = by_id(run->customer_ids, customer_id);

	if (customer != NULL)
		return customer;
	if (query_run(run->preview ? &read_customer : &lock_customer,
				  (const Arg[]){arg_uuid(customer_id)}) == 0)
		unknown_object("customer", uuid_text(customer_id), NULL);
	customer = add_customer(run, 0);
	if (!run->preview)
		customer_locked(customer->id);
	return customer;
}

static void
load_customers(BillingRun *run, ArrayType *ids, bool skip_locked)
{
	SqlQuery *query = run->preview  ? &read_customers
					  : skip_locked ? &take_customers
									: &lock_customers;
	int64 count = query_run(query, (const Arg[]){array_arg(ids)});
	ListCell *cell;

	for (int64 i = 0; i < count; i++)
		(void) add_customer(run, i);
	if (run->preview)
		return;
	foreach (cell, run->customers)
		customer_locked(((BilledCustomer *) lfirst(cell))->id);
}

/* ------------------------------------------------------------------------
 * Subscriptions
 * ------------------------------------------------------------------------
 */
#define SUBSCRIPTIONS_OF                                                                             \
	"SELECT s.id, s.customer_id, s.plan_id, p.plan, p.name, s.plan_group, s.status, s.provider, "    \
	"s.account, s.livemode, s.currency, s.zone, s.billing_anchor, s.schedule_start, s.trial_start, " \
	"s.trial_end, s.trial_notice_at, s.current_period_start, s.current_period_end, "                 \
	"s.cancel_at_period_end, s.cancel_at, s.canceled_at, s.ended_at, s.status_since, "               \
	"s.pause_at_period_end, s.resumes_at, s.items_before_pause, s.forgone_lines, "                   \
	"s.items_before_change, s.incomplete_until, "                                                    \
	"s.collection_method, s.days_until_due, "                                                        \
	"s.trial_end_behavior, s.collect_by, s.payment_method_id, s.usage_from, s.next_due_at, "         \
	"EXISTS (SELECT FROM billing.payment_methods AS m WHERE m.customer_id = s.customer_id "          \
	"AND (m.id = s.payment_method_id OR m.is_default) AND m.provider = s.provider "                  \
	"AND m.account = s.account AND m.state IN ('pending', 'attached')) "                             \
	"FROM billing.subscriptions AS s JOIN billing.plans AS p ON p.id = s.plan_id "                   \
	"WHERE s.id = ANY ($1) AND s.customer_id = ANY ($2) AND s.managed_by = 'local' ORDER BY s.id"

QUERY(read_subscriptions, SUBSCRIPTIONS_OF, UUIDARRAYOID, UUIDARRAYOID);
QUERY(lock_subscriptions, SUBSCRIPTIONS_OF " FOR NO KEY UPDATE OF s", UUIDARRAYOID, UUIDARRAYOID);
QUERY(take_subscriptions, SUBSCRIPTIONS_OF " FOR NO KEY UPDATE OF s SKIP LOCKED", UUIDARRAYOID,
	  UUIDARRAYOID);

static BilledSubscription *
subscription_of_row(BillingRun *run, int64 row)
{
	BilledSubscription *s = palloc0(sizeof(BilledSubscription));
	int column = 1;

	s->id = row_uuid(row, column++);
	s->customer = run_customer(run, row_uuid(row, column++));
	s->plan_id = row_uuid(row, column++);
	s->plan = row_text(row, column++);
	s->plan_name = row_text(row, column++);
	s->plan_group = row_text(row, column++);
	s->status = s->old_status = row_text(row, column++);
	s->provider = row_text(row, column++);
	s->account = row_text(row, column++);
	s->livemode = row_bool(row, column++);
	s->currency = row_text(row, column++);
	s->zone_name = row_text(row, column++);
	s->billing_anchor = row_time(row, column++);
	s->schedule_start = row_time(row, column++);
	s->trial_start = row_time(row, column++);
	s->trial_end = row_time(row, column++);
	s->trial_notice_at = row_time(row, column++);
	s->period_start = row_time(row, column++);
	s->period_end = row_time(row, column++);
	s->cancel_at_period_end = row_bool(row, column++);
	s->cancel_at = row_time(row, column++);
	s->canceled_at = row_time(row, column++);
	s->ended_at = row_time(row, column++);
	s->status_since = row_time(row, column++);
	s->pause_at_period_end = row_bool(row, column++);
	s->resumes_at = row_time(row, column++);
	s->before_pause = row_json(row, column++);
	s->forgone = forgone_read(row_json(row, column++));
	undo_read(s, row_json(row, column++));
	s->incomplete_until = row_time(row, column++);
	s->collection_method = row_text(row, column++);
	s->days_until_due = row_null(row, column) ? -1 : row_int4(row, column);
	column++;
	s->trial_end_behavior = row_text(row, column++);
	s->collect_by = row_text(row, column++);
	s->payment_method_id = row_uuid(row, column++);
	s->usage_from = row_time(row, column++);
	s->next_due_at = row_time(row, column++);
	s->has_payment_method = row_bool(row, column++);
	return s;
}

static void
load_subscriptions(BillingRun *run, ArrayType *ids, bool skip_locked)
{
	SqlQuery *query = run->preview  ? &read_subscriptions
					  : skip_locked ? &take_subscriptions
									: &lock_subscriptions;
	int64 count = query_run(query, (const Arg[]){array_arg(ids), array_arg(ids_of_customers(run))});

	for (int64 i = 0; i < count; i++)
	{
		BilledSubscription *s = subscription_of_row(run, i);

		run_add_subscription(run, s);
		s->changed = false;
	}
}

/*
 * now() stands still in a transaction, so that a change and one back are of one
 * moment.  But a period may have begun since the transaction did, while it waited
 * for a lock or did something else: nothing is changed before that.
 */
static void
advance_to_periods(BillingRun *run)
{
	ListCell *cell;

	foreach (cell, run->subscriptions)
	{
		const BilledSubscription *s = lfirst(cell);

		if (!subscription_ended(s->status) && s->period_start != 0)
			s->customer->now = Max(s->customer->now, s->period_start);
	}
}

/* Nor before a change of the present period that came meanwhile; what is billed ahead begins later. */
static void
advance_to_changes(BillingRun *run)
{
	ListCell *cell;

	foreach (cell, run->subscriptions)
	{
		const BilledSubscription *s = lfirst(cell);
		ListCell *of_line;

		foreach (of_line, s->billed)
		{
			const InvoiceLine *line = lfirst(of_line);
			TimestampTz at = Max(line->period_start, line->given_back_at);

			if (at < s->period_end)
				s->customer->now = Max(s->customer->now, at);
		}
		if (s->usage_from < s->period_end)
			s->customer->now = Max(s->customer->now, s->usage_from);
	}
}

/* ------------------------------------------------------------------------
 * Items
 * ------------------------------------------------------------------------
 */
QUERY(read_items,
	  "SELECT i.subscription_id, i.component, i.price_id, i.quantity, i.billed_once "
	  "FROM billing.subscription_items AS i WHERE i.subscription_id = ANY ($1) "
	  "ORDER BY i.subscription_id, i.component <> 'base', i.component",
	  UUIDARRAYOID);

/* The prices of all of them first, so that they are one statement. */
static void
load_items(BillingRun *run, ArrayType *ids)
{
	int64 count = RUN(read_items, array_arg(ids));
	Rows rows = rows_keep();
	pg_uuid_t **price_ids = palloc(sizeof(pg_uuid_t *) * Max(count, 1));

	for (int64 i = 0; i < count; i++)
		price_ids[i] = rows_uuid(rows, i, 3);
	component_prices_load(price_ids, (int) count);
	for (int64 i = 0; i < count; i++)
	{
		BilledSubscription *s = run_subscription(run, rows_uuid(rows, i, 1));
		BilledItem *item = palloc0(sizeof(BilledItem));

		item->component = rows_text(rows, i, 2);
		item->price = component_price(price_ids[i]);
		item->quantity = rows_int(rows, i, 4);
		item->billed_once = rows_bool(rows, i, 5);
		s->items = lappend(s->items, item);
	}
}

/* ------------------------------------------------------------------------
 * Lines: what was billed for time that is not over, and what waits
 * ------------------------------------------------------------------------
 */
/*
 * What credits that were made already give back of the line, with the tax that
 * was added to it, and what credit notes took back of it.  A note on the credit
 * itself undoes so much of it.
 */
#define TAKEN_BY_NOTES(line)                                                                 \
	"(SELECT coalesce(sum(c.amount + CASE WHEN c.tax_inclusive THEN 0 ELSE c.tax END), 0), " \
	"coalesce(sum(c.tax), 0), "                                                              \
	"coalesce(sum(c.amount + CASE WHEN c.tax_inclusive THEN 0 ELSE c.tax END) "              \
	"FILTER (WHERE c.credit_line_id IS NOT NULL), 0), "                                      \
	"coalesce(sum(c.tax) FILTER (WHERE c.credit_line_id IS NOT NULL), 0) "                   \
	"FROM billing.credit_note_lines AS c WHERE c.invoice_line_id = " line ".id) "
#define CREDITED                                                                                       \
	"CROSS JOIN LATERAL (SELECT "                                                                      \
	"coalesce(-sum(r.amount + CASE WHEN r.tax_inclusive THEN 0 ELSE r.tax END - h.gross), 0)::bigint " \
	"AS gross, coalesce(-sum(r.tax - h.tax), 0)::bigint AS tax, "                                      \
	"coalesce(sum(r.taken_off), 0)::bigint AS taken_off, "                                             \
	"CASE WHEN sum(CASE r.kind WHEN 'proration_credit' THEN 1 ELSE -1 END) > 0 "                       \
	"THEN max(r.period_start) FILTER (WHERE r.kind = 'proration_credit') END AS given_back_at "        \
	"FROM billing.invoice_lines AS r LEFT JOIN billing.invoices AS v ON v.id = r.invoice_id "          \
	"CROSS JOIN LATERAL " TAKEN_BY_NOTES(                                                              \
		"r") "AS h (gross, tax, made_up, made_up_tax) "                                                \
			 "WHERE r.reverses = l.id AND v.status IS DISTINCT FROM 'void') AS credited "
#define CREDITED_COLUMNS "credited.gross, credited.tax, credited.given_back_at"

/* Of lines l that stand on invoices i. */
#define BILLED_COLUMNS                                                                         \
	INVOICE_LINE_COLUMNS                                                                       \
	", i.id IS NULL OR i.status = 'draft' AND i.marked_at IS NULL, i.total - i.provider_tax, " \
	"i.amount_remaining, " CREDITED_COLUMNS                                                    \
	", noted.gross::bigint, n.total, n.applied, noted.made_up::bigint, "                       \
	"noted.made_up_tax::bigint, "                                                              \
	"CASE i.status WHEN 'uncollectible' THEN i.id END, i.id, "                                 \
	"CASE WHEN m.lost > 0 "                                                                    \
	"THEN greatest(m.kept + i.amount_remaining - m.given, 0) END, "                            \
	"i.status IS NOT DISTINCT FROM 'draft', credited.taken_off "
#define WHAT_BECAME_OF_THEM                                                            \
	CREDITED "CROSS JOIN LATERAL " TAKEN_BY_NOTES(                                     \
		"l") "AS noted (gross, tax, made_up, made_up_tax) "                            \
			 "CROSS JOIN LATERAL (SELECT coalesce(sum(c.total), 0)::bigint AS total, " \
			 "coalesce(sum(c.amount_applied), 0)::bigint AS applied "                  \
			 "FROM billing.credit_notes AS c WHERE c.invoice_id = i.id) AS n "         \
			 "LEFT JOIN LATERAL billing.money_of_invoice(i.id) AS m ON i.status <> 'draft' "

/*
 * In this order and no other: a plan that was made when the tables were empty
 * and read all lines for each subscription would be kept.
 */
QUERY(
	read_billed_lines,
	"SELECT " BILLED_COLUMNS "FROM unnest($1, $2) AS u (id, now) "
	"CROSS JOIN LATERAL (SELECT * FROM billing.invoice_lines AS a WHERE a.subscription_id = u.id "
	"AND a.period_end > u.now AND a.whole_start IS NOT NULL AND a.kind <> 'proration_credit' OFFSET 0) AS l "
	"CROSS JOIN LATERAL (SELECT * FROM billing.invoices AS b WHERE b.id = l.invoice_id OFFSET 0) AS i " WHAT_BECAME_OF_THEM
	"WHERE i.status <> 'void' ORDER BY l.id",
	UUIDARRAYOID, TIMESTAMPTZARRAYOID);
/* Also of another subscription that took over what came late into the period. */
QUERY(
	read_billed_usage,
	"SELECT " BILLED_COLUMNS
	"FROM (SELECT o.id FROM billing.subscriptions AS o WHERE o.organization_id = $1) AS s "
	"CROSS JOIN LATERAL (SELECT * FROM billing.invoice_lines AS a WHERE a.subscription_id = s.id "
	"AND a.period_end = $3 AND a.period_start = $2 AND a.kind = 'usage' AND a.component = $4 "
	"AND a.reverses IS NULL OFFSET 0) AS l "
	"LEFT JOIN LATERAL (SELECT * FROM billing.invoices AS b WHERE b.id = l.invoice_id OFFSET 0) AS i ON true " WHAT_BECAME_OF_THEM
	"WHERE i.status IS DISTINCT FROM 'void' ORDER BY l.id",
	TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID);
QUERY(read_pending_lines,
	  "SELECT " INVOICE_LINE_COLUMNS ", " CREDITED_COLUMNS ", l.not_covered > 0 "
	  "AND EXISTS (SELECT FROM billing.credit_note_lines AS m WHERE m.credit_line_id = l.id) "
	  "FROM billing.invoice_lines AS l " CREDITED
	  "WHERE l.invoice_id IS NULL AND l.subscription_id = ANY ($1) ORDER BY l.id",
	  UUIDARRAYOID);

/* What an invoice stands for, and what was done about it. */
typedef struct PaidInvoice
{
	int64 total;
	int64 remaining;
	int64 noted;   /* by credit notes */
	int64 applied; /* of that, what was taken off the amount to be paid */
	bool in_draft; /* it has no number yet */
} PaidInvoice;

/*
 * What is paid of a line with its tax: of what credit notes have left of it as
 * much as of its invoice, and what they took, which is gone by line->noted.
 *
 * Before an invoice has its number nobody could pay it, so a line on it counts
 * as one that waits: changes in quick succession bill what they differ by.
 */
static int64
paid_of(const InvoiceLine *line, const PaidInvoice *invoice)
{
	int64 whole = line_gross(line);
	int64 left = invoice->total - invoice->noted;
	int64 covered = Min(Max(invoice->total - invoice->remaining - invoice->applied, 0), left);
	int64 paid;

	if (!line->invoiced || invoice->in_draft || left <= 0)
		return whole;
	if (money_ratio(whole - line->noted, covered, left, &paid) != MONEY_OK)
		elog(ERROR, "the part of a line that is paid does not fit");
	return paid + line->noted;
}

/* What of it was given back: three columns. */
static void
read_credited(InvoiceLine *line, Rows rows, int64 row, int column)
{
	line->credited = rows_int(rows, row, column);
	line->credited_tax = rows_int(rows, row, column + 1);
	line->given_back_at = rows_time(rows, row, column + 2);
}

/*
 * Refunds and disputes are of the invoice and not of a line: one sum for all of
 * its lines, of which each credit takes its part.  What is still owed counts, as
 * it does where nothing was paid back.
 */
typedef struct LeftOf
{
	pg_uuid_t *invoice_id;
	int64 amount;
} LeftOf;

static int64 *
left_of(List **known, pg_uuid_t *invoice_id, int64 amount)
{
	ListCell *cell;
	LeftOf *left;

	foreach (cell, *known)
	{
		left = lfirst(cell);
		if (uuid_equal(left->invoice_id, invoice_id))
			return &left->amount;
	}
	left = palloc(sizeof(LeftOf));
	*left = (LeftOf){invoice_id, amount};
	*known = lappend(*known, left);
	return &left->amount;
}

static InvoiceLine *
billed_line(Rows rows, int64 i, List **left)
{
	InvoiceLine *line = invoice_line_of_row(rows, i);

	line->invoiced = !rows_bool(rows, i, INVOICE_LINE_COLUMN_COUNT + 1);
	read_credited(line, rows, i, INVOICE_LINE_COLUMN_COUNT + 4);
	line->noted = rows_int(rows, i, INVOICE_LINE_COLUMN_COUNT + 7);
	line->paid = paid_of(line, &(PaidInvoice){rows_int(rows, i, INVOICE_LINE_COLUMN_COUNT + 2),
											  rows_int(rows, i, INVOICE_LINE_COLUMN_COUNT + 3),
											  rows_int(rows, i, INVOICE_LINE_COLUMN_COUNT + 8),
											  rows_int(rows, i, INVOICE_LINE_COLUMN_COUNT + 9),
											  rows_bool(rows, i, INVOICE_LINE_COLUMN_COUNT + 15)});
	line->made_up = rows_int(rows, i, INVOICE_LINE_COLUMN_COUNT + 10);
	line->made_up_tax = rows_int(rows, i, INVOICE_LINE_COLUMN_COUNT + 11);
	line->given_up = rows_uuid(rows, i, INVOICE_LINE_COLUMN_COUNT + 12);
	line->taken_off = rows_int(rows, i, INVOICE_LINE_COLUMN_COUNT + 16);
	if (!rows_null(rows, i, INVOICE_LINE_COLUMN_COUNT + 14))
		line->left = left_of(left, rows_uuid(rows, i, INVOICE_LINE_COLUMN_COUNT + 13),
							 rows_int(rows, i, INVOICE_LINE_COLUMN_COUNT + 14));
	return line;
}

/*
 * What is due is played at its own time, which may be long ago; what is invoiced
 * ahead counts also where the clock is far beyond the period.
 */
static TimestampTz
played_from(const BilledSubscription *s)
{
	TimestampTz from = s->customer->now;

	if (s->next_due_at != 0)
		from = Min(from, s->next_due_at);
	if (s->period_end != 0)
		from = Min(from, s->period_end);
	return from;
}

static void
load_billed(BillingRun *run)
{
	int total = list_length(run->subscriptions);
	Column ids = COLUMN_UUID(total);
	Column times = COLUMN_TIME(total);
	List *left = NIL;
	int64 count;
	Rows rows;

	for (int i = 0; i < total; i++)
	{
		const BilledSubscription *s = list_nth(run->subscriptions, i);

		ids.values[i] = UUIDPGetDatum(s->id);
		times.values[i] = TimestampTzGetDatum(played_from(s));
	}
	count = RUN(read_billed_lines, column_arg(&ids, total), column_arg(&times, total));
	rows = rows_keep();
	for (int64 i = 0; i < count; i++)
	{
		InvoiceLine *line = billed_line(rows, i, &left);
		BilledSubscription *s = run_subscription(run, line->subscription_id);

		s->billed = lappend(s->billed, line);
	}
}

List *
billed_usage(const char *organization_id, UsageRange period, const char *component)
{
	int64 count = RUN(read_billed_usage, arg_text(organization_id), arg_time(period.start),
					  arg_time(period.end), arg_text(component));
	Rows rows = rows_keep();
	List *left = NIL;
	List *lines = NIL;

	for (int64 i = 0; i < count; i++)
		lines = lappend(lines, billed_line(rows, i, &left));
	return lines;
}

/* A debit that waits was billed as well: it is given back as it stands. */
static void
load_pending(BillingRun *run, ArrayType *ids)
{
	int64 count = RUN(read_pending_lines, array_arg(ids));
	Rows rows = rows_keep();

	for (int64 i = 0; i < count; i++)
	{
		InvoiceLine *line = invoice_line_of_row(rows, i);
		BilledSubscription *s = run_subscription(run, line->subscription_id);

		line->paid = paid_of(line, &(PaidInvoice){0});
		read_credited(line, rows, i, INVOICE_LINE_COLUMN_COUNT + 1);
		line->is_made_up = rows_bool(rows, i, INVOICE_LINE_COLUMN_COUNT + 4);
		s->pending = lappend(s->pending, line);
		if (line->whole_start != 0 && line->kind != LINE_PRORATION_CREDIT &&
			line->period_end > played_from(s))
			s->billed = lappend(s->billed, line);
	}
}

/* ------------------------------------------------------------------------
 * What is planned
 * ------------------------------------------------------------------------
 */
QUERY(
	read_changes,
	"SELECT c.subscription_id, c.id, c.kind, c.due_at, c.terms FROM billing.scheduled_changes AS c "
	"WHERE c.state = 'pending' AND c.subscription_id = ANY ($1) ORDER BY c.due_at, c.id",
	UUIDARRAYOID);

static void
load_changes(BillingRun *run, ArrayType *ids)
{
	int64 count = RUN(read_changes, array_arg(ids));

	for (int64 i = 0; i < count; i++)
	{
		BilledSubscription *s = run_subscription(run, row_uuid(i, 1));
		ScheduledChange *change = palloc0(sizeof(ScheduledChange));

		change->id = row_uuid(i, 2);
		change->kind = row_text(i, 3);
		change->due_at = row_time(i, 4);
		change->terms = row_json(i, 5);
		change->state = "pending";
		s->changes = lappend(s->changes, change);
	}
}

BillingRun *
run_load(pg_uuid_t *const *subscription_ids, int count, bool skip_locked, bool preview)
{
	BillingRun *run = run_begin(preview);
	ArrayType *ids = uuid_array(subscription_ids, count);

	load_customers(run, ids, skip_locked);
	load_subscriptions(run, ids, skip_locked);
	if (run->subscriptions == NIL)
		return run;
	advance_to_periods(run);
	ids = ids_of_subscriptions(run);
	load_items(run, ids);
	load_billed(run);
	load_pending(run, ids);
	advance_to_changes(run);
	load_changes(run, ids);
	run_load_waiting_drafts(run, ids);
	return run;
}

BilledSubscription *
run_load_one(const pg_uuid_t *subscription_id, bool preview, BillingRun **run)
{
	pg_uuid_t *ids[] = {unconstify(pg_uuid_t *, subscription_id)};

	*run = run_load(ids, 1, false, preview);
	return run_subscription(*run, subscription_id);
}

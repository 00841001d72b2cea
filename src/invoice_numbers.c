/*-------------------------------------------------------------------------
 *
 * invoice_numbers.c
 *	  The duty that numbers what was made final, and the series of numbers.
 *
 * A session that makes an invoice final marks it and goes on; the number comes
 * from here, in a short transaction that does nothing else: no application
 * holds a counter, and a rollback leaves no gap.  With its number an invoice
 * gets its date, its parties as they are now, and the state open, or paid where
 * nothing is due; and one that is sent has been sent, as far as that is ours: the
 * event invoice.sent tells the application to.
 *
 * What a provider sells as the seller is a statement: it gets date, parties and
 * state, and no number of ours.
 *
 * One unit numbers at a time.  It takes drafts in the order in which they were
 * marked; one that a session holds has its turn later, and then, in live mode,
 * the date of the number before it: dates ascend with numbers.  One that cannot be
 * numbered, such as when no key here opens what is known of its customer, holds
 * up nobody: it is left out until it is tried again (postponed.c).
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "accounts.h"
#include "columns.h"
#include "errors.h"
#include "invoice_numbers.h"
#include "keys.h"
#include "postponed.h"
#include "unit.h"
#include "utils/json.h"

/* Invoices that one transaction numbers: some tenths of a second. */
#define NUMBER_BATCH 1000

/* ------------------------------------------------------------------------
 * Series
 * ------------------------------------------------------------------------
 */

/* Of advisory locks: usage_closings.c has the space before this. */
QUERY(lock_numbers, "SELECT pg_advisory_xact_lock(5, 0)");
QUERY(default_seller, "SELECT seller FROM billing.sellers WHERE is_default");
QUERY(
	year_of_seller,
	"SELECT extract(year FROM $2 AT TIME ZONE timezone)::integer FROM billing.sellers WHERE seller = $1",
	TEXTOID, TIMESTAMPTZOID);
QUERY(
	make_series,
	"INSERT INTO billing.invoice_series (seller, kind, livemode, year, next_number) "
	"SELECT s.seller, $2, $3, CASE WHEN s.restart_yearly THEN $4 ELSE 0 END, "
	"CASE WHEN $3 AND NOT EXISTS (SELECT FROM billing.invoice_series AS o WHERE o.seller = s.seller "
	"AND o.kind = $2 AND o.livemode) THEN s.first_number ELSE 1 END "
	"FROM billing.sellers AS s WHERE s.seller = $1 ON CONFLICT DO NOTHING",
	TEXTOID, TEXTOID, BOOLOID, INT4OID);
QUERY(
	lock_series,
	"SELECT n.id, n.next_number, n.last_issued_at, s.restart_yearly, "
	"CASE $2 WHEN 'invoice' THEN s.invoice_pattern ELSE s.credit_note_pattern END, "
	"jsonb_strip_nulls(jsonb_build_object('seller', s.seller, 'name', s.name, 'address', s.address, "
	"'country', s.country, 'tax_ids', s.tax_ids, 'email', s.email, 'footer', s.footer, "
	"'timezone', s.timezone)) "
	"FROM billing.sellers AS s JOIN billing.invoice_series AS n ON n.seller = s.seller "
	"AND n.kind = $2 AND n.livemode = $3 AND n.year = CASE WHEN s.restart_yearly THEN $4 ELSE 0 END "
	"WHERE s.seller = $1 FOR NO KEY UPDATE OF n",
	TEXTOID, TEXTOID, BOOLOID, INT4OID);
QUERY(advance_series,
	  "UPDATE billing.invoice_series SET next_number = $2, last_issued_at = $3 WHERE id = $1",
	  UUIDOID, INT8OID, TIMESTAMPTZOID);

void
numbers_begin(void)
{
	RUN(lock_numbers, arg_null());
}

char *
seller_default(void)
{
	if (RUN(default_seller, arg_null()) == 0)
		elog(ERROR, "no seller is the default one");
	return row_text(0, 1);
}

int
seller_year(const char *seller, TimestampTz at)
{
	if (RUN(year_of_seller, arg_text(seller), arg_time(at)) == 0)
		elog(ERROR, "no seller \"%s\"", seller);
	return row_int4(0, 1);
}

static NumberSeries *
series_open(const char *seller, const char *kind, bool livemode, int year)
{
	NumberSeries *series = palloc0(sizeof(NumberSeries));

	RUN(make_series, arg_text(seller), arg_text(kind), arg_bool(livemode), arg_int4(year));
	if (RUN(lock_series, arg_text(seller), arg_text(kind), arg_bool(livemode), arg_int4(year)) == 0)
		elog(ERROR, "no series of numbers for seller \"%s\"", seller);
	series->id = row_uuid(0, 1);
	series->seller = pstrdup(seller);
	series->livemode = livemode;
	series->next_number = row_int(0, 2);
	series->last_issued_at = row_time(0, 3);
	series->yearly = row_bool(0, 4);
	series->pattern = row_text(0, 5);
	series->seller_terms = row_json(0, 6);
	series->year = year;
	return series;
}

NumberSeries *
series_of(List **open, const char *seller, const char *kind, bool livemode, int year)
{
	NumberSeries *series;
	ListCell *cell;

	foreach (cell, *open)
	{
		series = lfirst(cell);
		if (strcmp(series->seller, seller) == 0 && series->livemode == livemode &&
			(!series->yearly || series->year == year))
			return series;
	}
	series = series_open(seller, kind, livemode, year);
	*open = lappend(*open, series);
	return series;
}

/* {year}, {number} and {number:6}; the table sees that there is a number. */
static char *
printed_number(const NumberSeries *series, int year)
{
	StringInfoData text;
	const char *p = series->pattern;

	initStringInfo(&text);
	if (!series->livemode)
		appendStringInfoString(&text, "TEST-");
	while (*p != '\0')
	{
		if (strncmp(p, "{year}", 6) == 0)
		{
			appendStringInfo(&text, "%d", year);
			p += 6;
		}
		else if (strncmp(p, "{number}", 8) == 0)
		{
			appendStringInfo(&text, INT64_FORMAT, series->next_number);
			p += 8;
		}
		else if (strncmp(p, "{number:", 8) == 0 && p[8] >= '1' && p[8] <= '9' && p[9] == '}')
		{
			appendStringInfo(&text, "%0*lld", p[8] - '0', (long long) series->next_number);
			p += 10;
		}
		else
			appendStringInfoChar(&text, *p++);
	}
	return text.data;
}

char *
series_next(NumberSeries *series, int year, TimestampTz *at, int64 *number)
{
	char *text = printed_number(series, year);

	if (series->livemode && *at < series->last_issued_at)
		*at = series->last_issued_at;
	series->last_issued_at = *at;
	*number = series->next_number++;
	return text;
}

void
series_close(const List *open)
{
	ListCell *cell;

	foreach (cell, open)
	{
		const NumberSeries *series = lfirst(cell);

		RUN(advance_series, arg_uuid(series->id), arg_int(series->next_number),
			arg_time(series->last_issued_at));
	}
}

/* ------------------------------------------------------------------------
 * What is to be numbered
 * ------------------------------------------------------------------------
 */
QUERY_IN_ORDER(
	take_marked,
	"SELECT i.id, i.organization_id, i.livemode, s.seller, i.amount_due, i.collection_method, "
	"i.days_until_due, i.marked_at, extract(year FROM i.marked_at AT TIME ZONE s.timezone)::integer, "
	"c.id, c.name, c.email, c.address, c.tax_ids, c.country, c.tax_exempt, c.locale, "
	"i.amount_due > 0 AND i.collection_method = 'send_invoice' AND (p.embedded OR a.stopped_at IS NULL) "
	"AND NOT EXISTS (SELECT FROM billing.subscriptions AS n WHERE n.id = i.subscription_id AND n.collect_by IS NOT NULL) "
	"AND NOT (SELECT coalesce(h.value::boolean, false) FROM billing.settings AS h WHERE h.name = 'hosted_invoice_page'), "
	"CASE WHEN p.merchant_of_record THEN p.name END, jsonb_build_object('name', p.title) "
	"FROM billing.invoices AS i JOIN billing.customers AS c ON c.id = i.customer_id "
	"JOIN billing.sellers AS s ON s.seller = coalesce(i.seller_name, $3) "
	"JOIN billing.providers AS p ON p.name = i.provider "
	"JOIN billing.provider_accounts AS a ON a.provider = i.provider AND a.account = i.account "
	"WHERE i.managed_by = 'local' AND i.status = 'draft' AND i.marked_at IS NOT NULL "
	"AND (p.embedded OR a.bound_to = $2) AND " NOT_POSTPONED
	"i.id) ORDER BY i.marked_at, i.issued_at, i.id LIMIT $1 FOR NO KEY UPDATE OF i SKIP LOCKED",
	INT8OID, TEXTOID, TEXTOID);

QUERY(any_marked, "SELECT EXISTS (SELECT FROM billing.invoices AS i WHERE i.managed_by = 'local' "
				  "AND i.status = 'draft' AND i.marked_at IS NOT NULL AND " NOT_POSTPONED "i.id))");

/* One invoice on its way to its number. */
typedef struct Marked
{
	pg_uuid_t *id;
	char *organization_id;
	bool livemode;
	char *seller;
	bool paid; /* nothing is due */
	bool sent; /* not charged */
	int days_until_due;
	int year;
	pg_uuid_t *customer_id;
	bytea *name;
	bytea *email;
	bytea *address;
	bytea *tax_ids;
	char *country;
	char *tax_exempt;
	char *locale;
	bool told; /* it is sent at once, and looked at again when it is due */
	char *
		merchant; /* a provider that is the seller: it is a statement without a number; NULL: we are */
	Jsonb *merchant_terms;

	/* what it gets */
	const NumberSeries *series;
	int64 number;
	char *printed;
	TimestampTz issued_at;
	TimestampTz due_at;
	bytea *buyer;
} Marked;

static Marked *
marked_of_row(Rows rows, int64 row, int days_until_due)
{
	Marked *m = palloc0(sizeof(Marked));

	m->id = rows_uuid(rows, row, 1);
	m->organization_id = rows_text(rows, row, 2);
	m->livemode = rows_bool(rows, row, 3);
	m->seller = rows_text(rows, row, 4);
	m->paid = rows_int(rows, row, 5) == 0;
	m->sent = strcmp(rows_text(rows, row, 6), "send_invoice") == 0;
	m->days_until_due = !m->sent                  ? 0
						: rows_null(rows, row, 7) ? days_until_due
												  : rows_int4(rows, row, 7);
	m->issued_at = rows_time(rows, row, 8);
	m->year = rows_int4(rows, row, 9);
	m->customer_id = rows_uuid(rows, row, 10);
	m->name = rows_bytes(rows, row, 11);
	m->email = rows_bytes(rows, row, 12);
	m->address = rows_bytes(rows, row, 13);
	m->tax_ids = rows_bytes(rows, row, 14);
	m->country = rows_text(rows, row, 15);
	m->tax_exempt = rows_text(rows, row, 16);
	m->locale = rows_text(rows, row, 17);
	m->told = rows_bool(rows, row, 18);
	m->merchant = rows_text(rows, row, 19);
	m->merchant_terms = rows_json(rows, row, 20);
	return m;
}

/* ------------------------------------------------------------------------
 * The buyer as he is now
 * ------------------------------------------------------------------------
 */
static void
add_member(StringInfo json, const char *key, const char *value, bool is_json)
{
	if (value == NULL)
		return;
	appendStringInfo(json, "%s\"%s\": ", json->len > 1 ? ", " : "", key);
	if (is_json)
		appendStringInfoString(json, value);
	else
		escape_json(json, value);
}

/* What was sealed for the customer is opened and sealed again for the invoice. */
static void
seal_buyer(Marked *m)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	add_member(&json, "organization_id", m->organization_id, false);
	add_member(&json, "name", unseal_text("customers.name", m->customer_id, m->name), false);
	add_member(&json, "email", unseal_text("customers.email", m->customer_id, m->email), false);
	add_member(&json, "address", unseal_text("customers.address", m->customer_id, m->address),
			   true);
	add_member(&json, "tax_ids", unseal_text("customers.tax_ids", m->customer_id, m->tax_ids),
			   true);
	add_member(&json, "country", m->country, false);
	add_member(&json, "tax_exempt", m->tax_exempt, false);
	add_member(&json, "locale", m->locale, false);
	appendStringInfoChar(&json, '}');
	m->buyer = seal_text("invoices.buyer", m->id, json.data);
}

static void
seal_buyers(List *marked)
{
	ListCell *cell;

	foreach (cell, marked)
		seal_buyer(lfirst(cell));
}

/* ------------------------------------------------------------------------
 * Numbering
 * ------------------------------------------------------------------------
 */
QUERY(
	put_numbers,
	"UPDATE billing.invoices AS i SET number = u.number, series_id = u.series_id, "
	"series_number = u.series_number, status = CASE WHEN i.amount_due = 0 THEN 'paid' ELSE 'open' END, "
	"paid_at = CASE WHEN i.amount_due = 0 THEN u.issued_at END, issued_at = u.issued_at, "
	"due_at = u.due_at, seller_name = u.seller_name, seller = u.seller, buyer = u.buyer, merchant_of_record = u.merchant, "
	"next_attempt_at = CASE WHEN i.amount_due > 0 THEN CASE WHEN u.told THEN u.due_at ELSE u.issued_at END END, "
	"updated_at = now() "
	"FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS u (id, number, series_id, series_number, "
	"issued_at, due_at, seller_name, seller, buyer, told, merchant) WHERE i.id = u.id",
	UUIDARRAYOID, TEXTARRAYOID, UUIDARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID,
	TIMESTAMPTZARRAYOID, TEXTARRAYOID, JSONBARRAYOID, BYTEAARRAYOID, BOOLARRAYOID, TEXTARRAYOID);
QUERY(
	put_events,
	"WITH event AS ("
	"INSERT INTO billing.events (type, object, id, organization_id, before_state, after_state) "
	"SELECT e.type, 'invoice', u.id, u.organization_id, e.before, e.after "
	"FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS u (id, organization_id, paid, told, n) "
	"CROSS JOIN LATERAL (VALUES (1, 'invoice.finalized', 'draft', CASE WHEN u.paid THEN 'paid' ELSE 'open' END), "
	"(2, 'invoice.paid', 'draft', 'paid'), (3, 'invoice.sent', 'open', 'open')) AS e (m, type, before, after) "
	"WHERE CASE e.m WHEN 1 THEN true WHEN 2 THEN u.paid ELSE u.told END ORDER BY u.n, e.m RETURNING seq) "
	"INSERT INTO billing.events_unsent (seq) SELECT seq FROM event",
	UUIDARRAYOID, TEXTARRAYOID, BOOLARRAYOID, BOOLARRAYOID);
QUERY(
	put_sent,
	"INSERT INTO billing.dunning_attempts (invoice_id, organization_id, attempt, kind, cause, due_at, state, started_at, finished_at) "
	"SELECT u.id, u.organization_id, 1, 'reminder', 'issue', u.at, 'succeeded', u.at, u.at FROM unnest($1, $2, $3) AS u (id, organization_id, at)",
	UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID);

static void
give_numbers(List *marked)
{
	List *open = NIL;
	ListCell *cell;

	foreach (cell, marked)
	{
		Marked *m = lfirst(cell);
		NumberSeries *series;

		m->due_at = m->issued_at + m->days_until_due * USECS_PER_DAY;
		if (m->merchant != NULL)
			continue;
		series = series_of(&open, m->seller, "invoice", m->livemode, m->year);
		m->printed = series_next(series, m->year, &m->issued_at, &m->number);
		m->due_at = m->issued_at + m->days_until_due * USECS_PER_DAY;
		m->series = series;
	}
	series_close(open);
}

static void
write_numbers(List *marked)
{
	int count = list_length(marked);
	Column id = COLUMN_UUID(count);
	Column number = COLUMN_TEXT(count);
	Column series_id = COLUMN_UUID(count);
	Column series_number = COLUMN_INT(count);
	Column issued_at = COLUMN_TIME(count);
	Column due_at = COLUMN_TIME(count);
	Column seller_name = COLUMN_TEXT(count);
	Column seller = COLUMN_JSON(count);
	Column buyer = COLUMN_BYTES(count);
	Column told = COLUMN_BOOL(count);
	Column merchant = COLUMN_TEXT(count);

	for (int i = 0; i < count; i++)
	{
		const Marked *m = list_nth(marked, i);

		column_pointer(&id, i, m->id);
		column_text(&number, i, m->printed);
		column_pointer(&series_id, i, m->series == NULL ? NULL : m->series->id);
		column_int(&series_number, i, m->number);
		issued_at.values[i] = TimestampTzGetDatum(m->issued_at);
		due_at.values[i] = TimestampTzGetDatum(m->due_at);
		column_text(&seller_name, i, m->seller);
		column_pointer(&seller, i,
					   m->merchant != NULL ? m->merchant_terms : m->series->seller_terms);
		column_pointer(&buyer, i, m->buyer);
		column_bool(&told, i, m->told);
		column_text(&merchant, i, m->merchant);
		series_number.nulls[i] = m->merchant != NULL;
	}
	if (RUN(put_numbers, column_arg(&id, count), column_arg(&number, count),
			column_arg(&series_id, count), column_arg(&series_number, count),
			column_arg(&issued_at, count), column_arg(&due_at, count),
			column_arg(&seller_name, count), column_arg(&seller, count), column_arg(&buyer, count),
			column_arg(&told, count), column_arg(&merchant, count)) != count)
		elog(ERROR, "an invoice that was to be numbered is gone");
}

static void
announce(List *marked)
{
	int count = list_length(marked);
	Column id = COLUMN_UUID(count);
	Column organization_id = COLUMN_TEXT(count);
	Column paid = COLUMN_BOOL(count);
	Column told = COLUMN_BOOL(count);

	for (int i = 0; i < count; i++)
	{
		const Marked *m = list_nth(marked, i);

		column_pointer(&id, i, m->id);
		column_text(&organization_id, i, m->organization_id);
		column_bool(&paid, i, m->paid);
		column_bool(&told, i, m->told);
	}
	RUN(put_events, column_arg(&id, count), column_arg(&organization_id, count),
		column_arg(&paid, count), column_arg(&told, count));
}

/*
 * What collection would do with one that is sent as its first step.  Done here
 * it costs no second change of the invoice.
 */
static void
note_sent(List *marked)
{
	int total = list_length(marked);
	Column id = COLUMN_UUID(total);
	Column organization_id = COLUMN_TEXT(total);
	Column at = COLUMN_TIME(total);
	int count = 0;
	ListCell *cell;

	foreach (cell, marked)
	{
		const Marked *m = lfirst(cell);

		if (!m->told)
			continue;
		column_pointer(&id, count, m->id);
		column_text(&organization_id, count, m->organization_id);
		at.values[count++] = TimestampTzGetDatum(m->issued_at);
	}
	if (count > 0)
		RUN(put_sent, column_arg(&id, count), column_arg(&organization_id, count),
			column_arg(&at, count));
}

static void
resume(List *marked)
{
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * list_length(marked));

	for (int i = 0; i < list_length(marked); i++)
		ids[i] = ((const Marked *) list_nth(marked, i))->id;
	work_resume(ids, list_length(marked));
}

static void
number_all(void *context)
{
	List *marked = context;

	seal_buyers(marked);
	give_numbers(marked);
	write_numbers(marked);
	note_sent(marked);
	announce(marked);
	resume(marked);
}

/* ------------------------------------------------------------------------
 * One that cannot be numbered
 * ------------------------------------------------------------------------
 */
typedef struct Unnumbered
{
	const Marked *marked;
	char *sqlstate;
} Unnumbered;

/* The first failure is an event; the others only count. */
static void
put_one_off(void *context)
{
	const Unnumbered *unnumbered = context;
	const Marked *m = unnumbered->marked;

	if (work_postpone(&(Undone){.what = "invoice cannot be numbered",
								.object_type = "invoice",
								.id = m->id,
								.organization_id = m->organization_id,
								.sqlstate = unnumbered->sqlstate}))
		event_record("invoice.finalization_failed", "invoice", m->id, m->organization_id, "draft",
					 "draft");
}

/* How many of them have a number, or are put off. */
static int
number_each(List *marked)
{
	int done = 0;
	ListCell *cell;

	foreach (cell, marked)
	{
		Unnumbered one = {.marked = lfirst(cell)};
		char *sqlstate;
		char *message;

		if (guarded(number_all, list_make1(lfirst(cell)), &one.sqlstate, &message))
		{
			done++;
			continue;
		}
		ereport(LOG, (errmsg("invoice %s of billing cannot be numbered: %s",
							 uuid_text(one.marked->id), message),
					  errdetail("SQLSTATE %s. It is tried again later.", one.sqlstate)));
		done += guarded(put_one_off, &one, &sqlstate, &message);
	}
	return done;
}

/* Sellers are apart, as their series are: what is wrong with one holds up no other. */
static List *
of_first_seller(List **marked)
{
	const Marked *first = linitial(*marked);
	List *taken = NIL;
	List *left = NIL;
	ListCell *cell;

	foreach (cell, *marked)
	{
		Marked *m = lfirst(cell);

		if (strcmp(m->seller, first->seller) == 0 && m->livemode == first->livemode)
			taken = lappend(taken, m);
		else
			left = lappend(left, m);
	}
	*marked = left;
	return taken;
}

static bool
buyer_opens(const Marked *m)
{
	return (m->name == NULL || unseals("customers.name", m->customer_id, m->name)) &&
		   (m->email == NULL || unseals("customers.email", m->customer_id, m->email)) &&
		   (m->address == NULL || unseals("customers.address", m->customer_id, m->address)) &&
		   (m->tax_ids == NULL || unseals("customers.tax_ids", m->customer_id, m->tax_ids));
}

/* Those whose buyer cannot be told, told apart from the rest. */
static List *
without_buyers(List **marked)
{
	List *opened = NIL;
	List *closed = NIL;
	ListCell *cell;

	foreach (cell, *marked)
	{
		if (buyer_opens(lfirst(cell)))
			opened = lappend(opened, lfirst(cell));
		else
			closed = lappend(closed, lfirst(cell));
	}
	*marked = opened;
	return closed;
}

static void
put_all_off(List *marked, char *sqlstate)
{
	ListCell *cell;

	foreach (cell, marked)
	{
		Unnumbered one = {.marked = lfirst(cell), .sqlstate = sqlstate};

		put_one_off(&one);
	}
}

/* How many of them have a number, or are put off. */
static int
number_list(List *marked)
{
	List *closed = NIL;
	char *sqlstate;
	char *message;

	if (!guarded(number_all, marked, &sqlstate, &message))
	{
		if (sqlstate_passes(sqlstate))
		{
			/* such as a session that holds the series: the same for each of them */
			put_all_off(marked, sqlstate);
			return 0;
		}
		closed = without_buyers(&marked);
		put_all_off(closed, sqlstate);
		if (closed != NIL)
			ereport(LOG, (errmsg("%d invoices of billing wait for their numbers: %s",
								 list_length(closed), message)));
		if (closed == NIL || !guarded(number_all, marked, &sqlstate, &message))
			return list_length(closed) + number_each(marked);
	}
	return list_length(closed) + list_length(marked);
}

static void
number_marked(void *context)
{
	int days_until_due;
	char *seller;
	int64 count;
	Rows rows;
	List *marked = NIL;
	int done = 0;

	/* mostly there is nothing: then nobody waits for anybody */
	RUN(any_marked, arg_null());
	if (!row_bool(0, 1))
		return;
	numbers_begin();
	seller = seller_default();
	days_until_due = (int) setting_int("days_until_due", 0);
	count = RUN(take_marked, arg_int(NUMBER_BATCH), arg_text(database_binding()), arg_text(seller));
	rows = rows_keep();
	for (int64 i = 0; i < count; i++)
		marked = lappend(marked, marked_of_row(rows, i, days_until_due));
	while (marked != NIL)
		done += number_list(of_first_seller(&marked));
	if (done > 0)
		worker_wake_at_commit();
	*(int *) context = done;
}

int
invoices_number(void)
{
	int done = 0;

	/* without any key no buyer can be told, and none of them is to blame for it */
	if (!keys_available() || !unit_run(number_marked, &done, "number invoices"))
		done = 0;
	return done + credit_notes_number();
}

/*-------------------------------------------------------------------------
 *
 * invoice_html.c
 *	  An invoice of ours as a page.
 *
 * A final invoice shows the seller and the customer as they were when it was
 * issued; a draft shows them as they are.  Taxes are told once for each rate,
 * with the base that the lines add up to.
 *
 *-------------------------------------------------------------------------
 */
#include "printing.h"

#include "check.h"
#include "errors.h"

QUERY(
	load_invoice,
	"SELECT " DOCUMENT_COLUMNS
	", d.managed_by, d.provider, d.amount_due, d.amount_paid, d.amount_credited, d.amount_remaining, "
	"d.due_at, d.paid_outside, d.paid_elsewhere, d.paid_at, d.credit_used, d.balance_used, d.seller_name "
	"FROM billing.invoices AS d " DOCUMENT_TABLES "WHERE d.id = $1",
	UUIDOID);

typedef struct PrintedInvoice
{
	PrintedDocument document;
	char *managed_by;
	char *provider;
	int64 amount_due;
	int64 amount_paid;
	int64 amount_credited;
	int64 amount_remaining;
	TimestampTz due_at;
	char *paid_outside;
	int64 paid_elsewhere;
	TimestampTz paid_at;
	int64 credit_used;
	int64 balance_used;
	char *seller_name;
} PrintedInvoice;

static PrintedInvoice *
load(const pg_uuid_t *id)
{
	PrintedInvoice *i;
	int column = DOCUMENT_COLUMN_COUNT + 1;

	check_given("invoice_id", id != NULL);
	if (READ(load_invoice, arg_uuid(id)) == 0)
		unknown_object("invoice", uuid_text(id), NULL);
	i = palloc0(sizeof(PrintedInvoice));
	document_of_row(&i->document, id);
	i->managed_by = row_text(0, column++);
	i->provider = row_text(0, column++);
	i->amount_due = row_int(0, column++);
	i->amount_paid = row_int(0, column++);
	i->amount_credited = row_int(0, column++);
	i->amount_remaining = row_int(0, column++);
	i->due_at = row_time(0, column++);
	i->paid_outside = row_text(0, column++);
	i->paid_elsewhere = row_int(0, column++);
	i->paid_at = row_time(0, column++);
	i->credit_used = row_int(0, column++);
	i->balance_used = row_int(0, column++);
	i->seller_name = row_text(0, column);
	return i;
}

/* As they were when it was issued; those of a draft as they are. */
static void
load_parties(PrintedInvoice *i)
{
	document_load_buyer(&i->document, "invoices.buyer", i->document.id, i->document.sealed_buyer);
	if (i->document.seller == NULL)
		i->document.seller = print_seller(i->seller_name);
}

/* ---- head ---- */

static Label
status_label(const char *status)
{
	static const struct
	{
		const char *status;
		Label label;
	} labels[] = {{"draft", LABEL_DRAFT},
				  {"open", LABEL_OPEN},
				  {"paid", LABEL_PAID},
				  {"void", LABEL_VOID},
				  {"uncollectible", LABEL_UNCOLLECTIBLE}};

	for (size_t i = 0; i < lengthof(labels); i++)
	{
		if (strcmp(labels[i].status, status) == 0)
			return labels[i].label;
	}
	elog(ERROR, "status \"%s\" of an invoice", status);
}

static void
put_date_fact(PrintPage *page, Label label, TimestampTz moment)
{
	if (moment == 0)
		return;
	put_fact_open(page, label);
	put_date(page, moment);
	put_fact_close(page);
}

/* From the first to the last day of what its lines are for; else its own period. */
QUERY(
	supply_period,
	"SELECT coalesce(min(l.period_start), i.period_start), coalesce(max(l.period_end), i.period_end) "
	"FROM billing.invoices AS i LEFT JOIN billing.invoice_lines AS l ON l.invoice_id = i.id WHERE i.id = $1 "
	"GROUP BY i.id",
	UUIDOID);

static void
put_facts(PrintPage *page, const PrintedInvoice *i)
{
	put_fact_open(page, LABEL_STATUS);
	put_label(page, status_label(i->document.status));
	put_fact_close(page);
	put_date_fact(page, LABEL_ISSUED, i->document.issued_at);
	(void) READ(supply_period, arg_uuid(i->document.id));
	if (!row_null(0, 1) && !row_null(0, 2))
	{
		put_fact_open(page, LABEL_SUPPLY);
		put_period(page, row_time(0, 1), row_time(0, 2));
		put_fact_close(page);
	}
	put_date_fact(page, LABEL_DUE_DATE, i->due_at);
	put_fact_open(page, LABEL_AMOUNT_DUE);
	put_money(page, document_is_draft(&i->document) ? i->amount_due : i->amount_remaining);
	put_fact_close(page);
	document_put_parties(page, &i->document);
}

/* ---- lines ---- */

/* Each with the kinds of its lines; in this order on the page. */
static const struct
{
	Label label;
	const char *kinds;
} groups[] = {{LABEL_FEES, "{base,seats,component}"},
			  {LABEL_USAGE, "{usage}"},
			  {LABEL_CHANGES, "{proration_credit,proration_debit}"},
			  {LABEL_OTHER, "{one_time,adjustment}"}};

QUERY(
	count_groups,
	"SELECT count(DISTINCT CASE WHEN l.kind IN ('base', 'seats', 'component') THEN 'base' "
	"WHEN l.kind IN ('proration_credit', 'proration_debit') THEN 'proration' WHEN l.kind = 'adjustment' THEN 'one_time' "
	"ELSE l.kind END) FROM billing.invoice_lines AS l "
	"WHERE l.invoice_id = $1 AND l.kind NOT IN ('discount', 'tax', 'credit', 'balance')",
	UUIDOID);
QUERY(group_lines,
	  "SELECT l.description, l.period_start, l.period_end, trim_scale(l.quantity)::text, "
	  "trim_scale(l.unit_amount)::text, l.amount FROM billing.invoice_lines AS l "
	  "WHERE l.invoice_id = $1 AND l.kind = ANY ($2::text[]) ORDER BY l.position",
	  UUIDOID, TEXTOID);

static void
put_line(PrintPage *page, Rows rows, int64 row)
{
	put_html(page, "<tr><th scope=\"row\">");
	put_text(page, rows_text(rows, row, 1));
	put_html(page, "</th><td class=\"d\">");
	put_period(page, rows_time(rows, row, 2), rows_time(rows, row, 3));
	cell_close(page);
	cell_open(page, true);
	if (!rows_null(rows, row, 4))
		put_quantity(page, rows_text(rows, row, 4));
	cell_close(page);
	cell_open(page, true);
	if (!rows_null(rows, row, 5))
		put_unit_price(page, rows_text(rows, row, 5));
	cell_close(page);
	cell_open(page, true);
	put_amount(page, rows_int(rows, row, 6));
	cell_close(page);
	put_html(page, "</tr>\n");
}

static void
put_lines(PrintPage *page, const PrintedInvoice *i)
{
	static const Column columns[] = {{LABEL_DESCRIPTION},
									 {LABEL_PERIOD},
									 {LABEL_QUANTITY, true},
									 {LABEL_UNIT_PRICE, true, true},
									 {LABEL_AMOUNT, true, true}};
	bool several;

	(void) READ(count_groups, arg_uuid(i->document.id));
	several = row_int(0, 1) > 1;
	grid_open(page, LABEL_LINES, columns, lengthof(columns));
	for (size_t g = 0; g < lengthof(groups); g++)
	{
		int64 count = READ(group_lines, arg_uuid(i->document.id), arg_text(groups[g].kinds));
		Rows rows = rows_keep();

		if (count == 0)
			continue;
		rows_open(page);
		if (several)
		{
			put_html(page, "<tr><th colspan=\"5\" scope=\"rowgroup\">");
			put_label(page, groups[g].label);
			put_html(page, "</th></tr>\n");
		}
		for (int64 row = 0; row < count; row++)
			put_line(page, rows, row);
		rows_close(page);
	}
	grid_close(page);
}

/* ---- summary ---- */

QUERY(kind_lines,
	  "SELECT l.description, l.amount FROM billing.invoice_lines AS l "
	  "WHERE l.invoice_id = $1 AND l.kind = $2 ORDER BY l.position",
	  UUIDOID, TEXTOID);

/* Lines that say what they are: discounts, prepaid credits, balance. */
static int64
put_kind(PrintPage *page, const PrintedInvoice *i, const char *kind, Label label)
{
	int64 count = READ(kind_lines, arg_uuid(i->document.id), arg_text(kind));
	Rows rows = rows_keep();

	for (int64 row = 0; row < count; row++)
		put_sum(page, kind, label, rows_text(rows, row, 1), rows_int(rows, row, 2));
	return count;
}

/*
 * A line of kind tax has the percentage as its quantity and the base as its unit
 * amount; one without a rate says why nothing is taxed.
 */
QUERY(
	taxes,
	"SELECT l.description, l.tax_rate_id IS NOT NULL, trim_scale(l.quantity)::text, l.tax_inclusive, "
	"round(l.unit_amount)::bigint, l.tax FROM billing.invoice_lines AS l "
	"WHERE l.invoice_id = $1 AND l.kind = 'tax' ORDER BY l.position",
	UUIDOID);

/* What was paid and taken off comes to what is due and not remaining; what was paid back later opens nothing again. */
static void
put_settlement(PrintPage *page, const PrintedInvoice *i)
{
	int64 refunded = strcmp(i->document.status, "paid") == 0
						 ? i->amount_due - i->amount_credited - i->amount_paid
						 : 0;

	put_sum(page, "paid", LABEL_AMOUNT_PAID, NULL, i->amount_paid + refunded);
	if (i->amount_credited != 0)
		put_sum(page, "credited", LABEL_CREDITED, NULL, i->amount_credited);
	put_sum(page, "remaining strong", LABEL_REMAINING, NULL, i->amount_remaining);
	if (refunded != 0)
		put_sum(page, "refunded", LABEL_TO_REFUND, NULL, refunded);
}

static void
put_summary(PrintPage *page, const PrintedInvoice *i)
{
	bool reason_told;

	sums_open(page);
	put_sum(page, "subtotal", LABEL_SUBTOTAL, NULL, i->document.subtotal);
	(void) put_kind(page, i, "discount", LABEL_DISCOUNT);
	(void) READ(taxes, arg_uuid(i->document.id));
	reason_told = put_taxes(page, rows_keep());
	put_sum(page, "total strong", LABEL_TOTAL, NULL, i->document.total);
	if (put_kind(page, i, "credit", LABEL_PREPAID) == 0 && i->credit_used != 0)
		put_sum(page, "credit", LABEL_PREPAID, NULL, -i->credit_used);
	if (put_kind(page, i, "balance", LABEL_BALANCE) == 0 && i->balance_used != 0)
		put_sum(page, "balance", LABEL_BALANCE, NULL, -i->balance_used);
	put_sum(page, "due strong", LABEL_AMOUNT_DUE, NULL, i->amount_due);
	if (!document_is_draft(&i->document))
		put_settlement(page, i);
	rows_close(page);
	grid_close(page);
	if (i->document.tax == 0 && !reason_told)
		put_exemption(page, i->document.tax_exempt);
}

/* ---- what became of it ---- */

QUERY(
	payments,
	"SELECT p.paid_at, p.method, p.amount_received, false FROM billing.payment_intents AS p "
	"WHERE p.invoice_id = $1 AND p.amount_received > 0 AND p.paid_at IS NOT NULL UNION ALL "
	"SELECT coalesce(f.provider_created_at, f.created_at), p.method, -f.amount, true FROM billing.payment_intents AS p "
	"JOIN billing.refunds AS f ON f.payment_intent_id = p.id AND f.status = 'succeeded' WHERE p.invoice_id = $1 "
	"ORDER BY 1",
	UUIDOID);

static void
put_payment(PrintPage *page, TimestampTz at, const char *method, bool refund, int64 amount)
{
	put_html(page, "<tr><th scope=\"row\">");
	if (at != 0)
		put_date(page, at);
	put_html(page, "</th><td>");
	if (refund)
	{
		put_label(page, LABEL_REFUND);
		put_html(page, method != NULL ? ": " : "");
	}
	put_text(page, method);
	put_html(page, "</td><td class=\"n\">");
	put_amount(page, amount);
	put_html(page, "</td></tr>\n");
}

static void
put_payment_outside(PrintPage *page, const PrintedInvoice *i)
{
	const char *what = label_in(page->language, LABEL_OTHER_MEANS);

	put_html(page, "<tr><th scope=\"row\">");
	if (i->paid_at != 0)
		put_date(page, i->paid_at);
	appendStringInfo(&page->html, "</th><td>%s: ", what);
	put_text(page, i->paid_outside);
	put_html(page, "</td><td class=\"n\">");
	put_amount(page, i->paid_elsewhere);
	put_html(page, "</td></tr>\n");
}

/* What was too much is of the list, and not of what was paid. */
QUERY(
	overpaid,
	"SELECT coalesce(sum(k.credited), 0)::bigint FROM billing.invoice_payments AS k WHERE k.invoice_id = $1",
	UUIDOID);

static void
put_overpaid(PrintPage *page, const PrintedInvoice *i)
{
	int64 credited;

	READ(overpaid, arg_uuid(i->document.id));
	credited = row_int(0, 1);
	if (credited == 0)
		return;
	put_html(page, "<tr class=\"overpaid\"><th scope=\"row\"></th><td>");
	put_label(page, LABEL_TO_BALANCE);
	put_html(page, "</td><td class=\"n\">");
	put_amount(page, -credited);
	put_html(page, "</td></tr>\n");
}

static void
put_payments(PrintPage *page, const PrintedInvoice *i)
{
	static const Column columns[] = {{LABEL_DATE}, {LABEL_METHOD}, {LABEL_AMOUNT, true, true}};
	int64 count = READ(payments, arg_uuid(i->document.id));

	if (count == 0 && i->paid_outside == NULL)
		return;
	grid_open(page, LABEL_PAYMENTS, columns, lengthof(columns));
	rows_open(page);
	for (int64 row = 0; row < count; row++)
		put_payment(page, row_time(row, 1), row_text(row, 2), row_bool(row, 4), row_int(row, 3));
	if (i->paid_outside != NULL)
		put_payment_outside(page, i);
	put_overpaid(page, i);
	rows_close(page);
	grid_close(page);
}

QUERY(
	credit_notes,
	"SELECT n.issued_at, n.number, n.total, n.amount_applied, n.balance_amount, n.refund_amount FROM billing.credit_notes AS n WHERE n.invoice_id = $1 "
	"ORDER BY n.created_at, n.id",
	UUIDOID);

/* Where it went: its parts come to its amount. */
static void
put_settled(PrintPage *page, int64 row)
{
	static const Label parts[] = {LABEL_TO_AMOUNT_DUE, LABEL_TO_BALANCE, LABEL_TO_REFUND};
	bool first = true;

	put_html(page, "</td><td>");
	for (int i = 0; i < (int) lengthof(parts); i++)
	{
		if (row_int(row, 4 + i) == 0)
			continue;
		put_html(page, first ? "" : ", ");
		put_label(page, parts[i]);
		put_html(page, ": ");
		put_amount(page, row_int(row, 4 + i));
		first = false;
	}
}

static void
put_credit_notes(PrintPage *page, const PrintedInvoice *i)
{
	static const Column columns[] = {
		{LABEL_DATE}, {LABEL_NUMBER}, {LABEL_SETTLED}, {LABEL_AMOUNT, true, true}};
	int64 count = READ(credit_notes, arg_uuid(i->document.id));

	if (count == 0)
		return;
	grid_open(page, LABEL_CREDIT_NOTES, columns, lengthof(columns));
	rows_open(page);
	for (int64 row = 0; row < count; row++)
	{
		put_html(page, "<tr><th scope=\"row\">");
		put_date(page, row_time(row, 1));
		put_html(page, "</th><td>");
		if (row_null(row, 2))
			put_label(page, LABEL_DRAFT);
		put_text(page, row_text(row, 2));
		put_settled(page, row);
		put_html(page, "</td><td class=\"n\">");
		put_amount(page, row_int(row, 3));
		put_html(page, "</td></tr>\n");
	}
	rows_close(page);
	grid_close(page);
}

/* ---- the page ---- */

static char *
print(PrintedInvoice *i)
{
	PrintedDocument *document = &i->document;
	PrintPage page;
	Label mark = document_is_draft(document)             ? LABEL_DRAFT
				 : strcmp(document->status, "void") == 0 ? LABEL_VOID
														 : LABELS;

	load_parties(i);
	document_open(&page, document, LABEL_INVOICE, mark);
	put_facts(&page, i);
	put_lines(&page, i);
	put_summary(&page, i);
	put_payments(&page, i);
	put_credit_notes(&page, i);
	put_memo(&page, document->memo);
	return page_close(&page, document->seller);
}

SQL_FUNCTION(billing_invoice_html)
{
	PrintedInvoice *i;

	db_open();
	i = load(ARG_UUID(0));
	if (strcmp(i->managed_by, "local") != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("invoice \"%s\" is printed by provider \"%s\"",
							   uuid_text(i->document.id), i->provider),
						errhint("billing.invoice_links() tells where it is.")));
	PG_RETURN_DATUM(db_close_text(print(i)));
}

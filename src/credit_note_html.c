/*-------------------------------------------------------------------------
 *
 * credit_note_html.c
 *	  A credit note as a page: what invoice_html.c is for invoices.
 *
 *-------------------------------------------------------------------------
 */
#include "printing.h"

#include "check.h"

QUERY(
	load_note,
	"SELECT " DOCUMENT_COLUMNS
	", d.amount_applied, d.balance_amount, d.refund_amount, d.reason, i.number, i.issued_at, i.id, i.buyer "
	"FROM billing.credit_notes AS d " DOCUMENT_TABLES
	"JOIN billing.invoices AS i ON i.id = d.invoice_id WHERE d.id = $1",
	UUIDOID);

typedef struct PrintedNote
{
	PrintedDocument document;
	int64 applied;
	int64 to_balance;
	int64 to_refund;
	char *reason;
	char *invoice_number;
	TimestampTz invoice_issued_at;
	pg_uuid_t *invoice_id;
	bytea *invoice_buyer;
} PrintedNote;

static PrintedNote *
load(const pg_uuid_t *id)
{
	PrintedNote *n;
	int column = DOCUMENT_COLUMN_COUNT + 1;

	check_given("credit_note_id", id != NULL);
	if (READ(load_note, arg_uuid(id)) == 0)
		unknown_object("credit note", uuid_text(id), NULL);
	n = palloc0(sizeof(PrintedNote));
	document_of_row(&n->document, id);
	n->applied = row_int(0, column++);
	n->to_balance = row_int(0, column++);
	n->to_refund = row_int(0, column++);
	n->reason = row_text(0, column++);
	n->invoice_number = row_text(0, column++);
	n->invoice_issued_at = row_time(0, column++);
	n->invoice_id = row_uuid(0, column++);
	n->invoice_buyer = row_bytes(0, column);
	return n;
}

/* The words of the argument reason; "other" says nothing that is worth printing. */
static Label
reason_label(const char *reason)
{
	static const struct
	{
		const char *reason;
		Label label;
	} labels[] = {{"requested_by_customer", LABEL_REQUESTED},
				  {"duplicate", LABEL_DUPLICATE},
				  {"fraudulent", LABEL_FRAUDULENT},
				  {"service_disruption", LABEL_DISRUPTION},
				  {"satisfaction_guarantee", LABEL_GUARANTEE}};

	for (size_t i = 0; reason != NULL && i < lengthof(labels); i++)
	{
		if (strcmp(labels[i].reason, reason) == 0)
			return labels[i].label;
	}
	return LABELS;
}

static void
put_facts(PrintPage *page, const PrintedNote *n)
{
	Label reason = reason_label(n->reason);

	put_fact_open(page, LABEL_ISSUED);
	put_date(page, n->document.issued_at);
	put_fact_close(page);
	put_fact_open(page, LABEL_CORRECTS);
	put_text(page, n->invoice_number);
	put_html(page, n->invoice_number != NULL ? ", " : "");
	put_date(page, n->invoice_issued_at);
	put_fact_close(page);
	if (reason != LABELS)
	{
		put_fact_open(page, LABEL_REASON);
		put_label(page, reason);
		put_fact_close(page);
	}
	document_put_parties(page, &n->document);
}

QUERY(
	load_lines,
	"SELECT l.description, l.period_start, l.period_end, l.amount FROM billing.credit_note_lines AS l "
	"WHERE l.credit_note_id = $1 ORDER BY l.position",
	UUIDOID);

static void
put_lines(PrintPage *page, const PrintedNote *n)
{
	static const Column columns[] = {
		{LABEL_DESCRIPTION}, {LABEL_PERIOD}, {LABEL_AMOUNT, true, true}};
	int64 count = READ(load_lines, arg_uuid(n->document.id));

	grid_open(page, LABEL_LINES, columns, lengthof(columns));
	rows_open(page);
	for (int64 row = 0; row < count; row++)
	{
		put_html(page, "<tr><th scope=\"row\">");
		put_text(page, row_text(row, 1));
		put_html(page, "</th><td class=\"d\">");
		put_period(page, row_time(row, 2), row_time(row, 3));
		cell_close(page);
		cell_open(page, true);
		put_amount(page, row_int(row, 4));
		cell_close(page);
		put_html(page, "</tr>\n");
	}
	rows_close(page);
	grid_close(page);
}

/* By the tax lines of the invoice, which have names and percentages. */
QUERY(
	taxes,
	"SELECT t.description, l.tax_rate_id IS NOT NULL, trim_scale(t.quantity)::text, l.tax_inclusive, "
	"sum(l.amount - CASE WHEN l.tax_inclusive THEN l.tax ELSE 0 END)::bigint, sum(l.tax)::bigint "
	"FROM billing.credit_note_lines AS l JOIN billing.credit_notes AS n ON n.id = l.credit_note_id "
	"LEFT JOIN billing.invoice_lines AS t ON t.invoice_id = n.invoice_id AND t.kind = 'tax' "
	"AND t.tax_rate_id IS NOT DISTINCT FROM l.tax_rate_id AND (t.tax_rate_id IS NULL OR t.tax_inclusive = l.tax_inclusive) "
	"WHERE l.credit_note_id = $1 GROUP BY l.tax_rate_id, l.tax_inclusive, t.description, t.quantity "
	"HAVING l.tax_rate_id IS NOT NULL OR t.description IS NOT NULL ORDER BY min(l.position)",
	UUIDOID);

static void
put_summary(PrintPage *page, const PrintedNote *n)
{
	bool reason_told;

	sums_open(page);
	put_sum(page, "subtotal", LABEL_SUBTOTAL, NULL, n->document.subtotal);
	(void) READ(taxes, arg_uuid(n->document.id));
	reason_told = put_taxes(page, rows_keep());
	put_sum(page, "total strong", LABEL_TOTAL, NULL, n->document.total);
	if (n->applied > 0)
		put_sum(page, "applied", LABEL_TO_AMOUNT_DUE, NULL, n->applied);
	if (n->to_balance > 0)
		put_sum(page, "balance", LABEL_TO_BALANCE, NULL, n->to_balance);
	if (n->to_refund > 0)
		put_sum(page, "refund", LABEL_TO_REFUND, NULL, n->to_refund);
	rows_close(page);
	grid_close(page);
	if (n->document.tax == 0 && !reason_told)
		put_exemption(page, n->document.tax_exempt);
}

/* That of the invoice where it could not be opened when the note was made. */
static void
load_buyer(PrintedNote *n)
{
	PrintedDocument *document = &n->document;

	if (document->sealed_buyer != NULL)
		document_load_buyer(document, "credit_notes.buyer", document->id, document->sealed_buyer);
	else
		document_load_buyer(document, "invoices.buyer", n->invoice_id, n->invoice_buyer);
}

static char *
print(PrintedNote *n)
{
	PrintedDocument *document = &n->document;
	PrintPage page;

	load_buyer(n);
	document_open(&page, document, LABEL_CREDIT_NOTE,
				  document_is_draft(document) ? LABEL_DRAFT : LABELS);
	put_facts(&page, n);
	put_lines(&page, n);
	put_summary(&page, n);
	put_memo(&page, document->memo);
	return page_close(&page, document->seller);
}

SQL_FUNCTION(billing_credit_note_html)
{
	char *html;

	db_open();
	html = print(load(ARG_UUID(0)));
	PG_RETURN_DATUM(db_close_text(html));
}

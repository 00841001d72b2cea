/*-------------------------------------------------------------------------
 *
 * credit_note_html.c
 *	  A credit note as a page: what invoice_html.c is for invoices.
 *
 *-------------------------------------------------------------------------
 */
#include "printing.h"

#include "check.h"
#include "json.h"
#include "keys.h"

QUERY(
	load_note,
	"SELECT n.number, n.livemode, n.currency, c.exponent::integer, n.subtotal, n.total, n.amount_applied, n.balance_amount, "
	"n.refund_amount, n.issued_at, n.seller, n.buyer, n.memo, n.reason, i.number, i.issued_at, k.locale, "
	"coalesce(k.timezone, (SELECT s.value FROM billing.settings AS s WHERE s.name = 'timezone')), n.customer_id, n.status, "
	"k.tax_exempt, n.tax FROM billing.credit_notes AS n JOIN billing.invoices AS i ON i.id = n.invoice_id "
	"JOIN billing.customers AS k ON k.id = n.customer_id JOIN billing.currencies AS c ON c.code = n.currency "
	"WHERE n.id = $1",
	UUIDOID);

typedef struct PrintedNote
{
	const pg_uuid_t *id;
	char *number;
	bool livemode;
	char *currency;
	int exponent;
	int64 subtotal;
	int64 total;
	int64 applied;
	int64 to_balance;
	int64 to_refund;
	TimestampTz issued_at;
	Jsonb *seller;
	bytea *sealed_buyer;
	char *memo;
	char *reason;
	char *invoice_number;
	TimestampTz invoice_issued_at;
	char *locale;
	char *zone;
	pg_uuid_t *customer_id;
	char *status;
	char *tax_exempt;
	int64 tax;
} PrintedNote;

static PrintedNote *
load(const pg_uuid_t *id)
{
	PrintedNote *n;

	check_given("credit_note_id", id != NULL);
	if (READ(load_note, arg_uuid(id)) == 0)
		unknown_object("credit note", uuid_text(id), NULL);
	n = palloc0(sizeof(PrintedNote));
	n->id = id;
	n->number = row_text(0, 1);
	n->livemode = row_bool(0, 2);
	n->currency = row_text(0, 3);
	n->exponent = row_int4(0, 4);
	n->subtotal = row_int(0, 5);
	n->total = row_int(0, 6);
	n->applied = row_int(0, 7);
	n->to_balance = row_int(0, 8);
	n->to_refund = row_int(0, 9);
	n->issued_at = row_time(0, 10);
	n->seller = row_json(0, 11);
	n->sealed_buyer = row_bytes(0, 12);
	n->memo = row_text(0, 13);
	n->reason = row_text(0, 14);
	n->invoice_number = row_text(0, 15);
	n->invoice_issued_at = row_time(0, 16);
	n->locale = row_text(0, 17);
	n->zone = row_text(0, 18);
	n->customer_id = row_uuid(0, 19);
	n->status = row_text(0, 20);
	n->tax_exempt = row_text(0, 21);
	n->tax = row_int(0, 22);
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
put_facts(PrintPage *page, const PrintedNote *n, const Jsonb *buyer)
{
	Label reason = reason_label(n->reason);

	put_html(page, "<dl class=\"facts\">\n");
	if (n->number != NULL)
	{
		put_fact_open(page, LABEL_NUMBER);
		put_text(page, n->number);
		put_fact_close(page);
	}
	put_fact_open(page, LABEL_ISSUED);
	put_date(page, n->issued_at);
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
	put_html(page, "</dl>\n<div class=\"parties\">\n");
	put_party(page, LABEL_SELLER, n->seller);
	put_party(page, LABEL_CUSTOMER, buyer);
	put_html(page, "</div>\n");
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
	int64 count = READ(load_lines, arg_uuid(n->id));

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
	put_sum(page, "subtotal", LABEL_SUBTOTAL, NULL, n->subtotal);
	(void) READ(taxes, arg_uuid(n->id));
	reason_told = put_taxes(page, rows_keep());
	put_sum(page, "total strong", LABEL_TOTAL, NULL, n->total);
	if (n->applied > 0)
		put_sum(page, "applied", LABEL_TO_AMOUNT_DUE, NULL, n->applied);
	if (n->to_balance > 0)
		put_sum(page, "balance", LABEL_TO_BALANCE, NULL, n->to_balance);
	if (n->to_refund > 0)
		put_sum(page, "refund", LABEL_TO_REFUND, NULL, n->to_refund);
	rows_close(page);
	grid_close(page);
	if (n->tax == 0 && !reason_told)
		put_exemption(page, n->tax_exempt);
}

/* The customer as he was when it was made; else as he is. */
static const Jsonb *
load_buyer(PrintedNote *n)
{
	const Jsonb *buyer = print_copy("credit_notes.buyer", n->id, n->sealed_buyer);

	if (buyer == NULL)
		return print_customer(n->customer_id);
	n->tax_exempt = json_text(buyer, "tax_exempt");
	n->locale = json_text(buyer, "locale");
	return buyer;
}

static char *
print(PrintedNote *n)
{
	const Jsonb *buyer = load_buyer(n);
	bool draft = strcmp(n->status, "draft") == 0;
	PrintPage page;

	page_open(&page, n->locale, n->zone, n->currency, n->exponent);
	page_head(&page, LABEL_CREDIT_NOTE, n->number, draft ? LABEL_DRAFT : LABELS, n->livemode);
	put_facts(&page, n, buyer);
	put_lines(&page, n);
	put_summary(&page, n);
	put_memo(&page, n->memo);
	return page_close(&page, n->seller);
}

SQL_FUNCTION(billing_credit_note_html)
{
	char *html;

	db_open();
	html = print(load(ARG_UUID(0)));
	PG_RETURN_DATUM(db_close_text(html));
}

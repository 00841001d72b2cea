/*-------------------------------------------------------------------------
 *
 * printing.h
 *	  Documents as pages: what invoices and credit notes are printed with.
 *
 * A page is HTML that is well-formed XML at the same time, whole in itself: no
 * script, no picture, nothing that is fetched.  It is ASCII but for what people
 * wrote, so that it can be made in a database of any encoding.
 *
 *	  print_labels.c        the words, in every language
 *	  print_parties.c       seller and customer
 *	  print_page.c          text, amounts, dates; head, parties and foot of a page
 *	  print_documents.c     what an invoice and a credit note have in common
 *	  invoice_html.c        an invoice
 *	  credit_note_html.c    a credit note
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_PRINTING_H
#define JANUA_PRINTING_H

#include "db.h"

#include "lib/stringinfo.h"
#include "pgtime.h"

typedef enum Label
{
	LABEL_INVOICE,
	LABEL_CREDIT_NOTE,
	LABEL_DRAFT,
	LABEL_OPEN,
	LABEL_PAID,
	LABEL_VOID,
	LABEL_UNCOLLECTIBLE,
	LABEL_TEST,
	LABEL_NUMBER,
	LABEL_STATUS,
	LABEL_ISSUED,
	LABEL_SUPPLY,
	LABEL_DUE_DATE,
	LABEL_SELLER,
	LABEL_CUSTOMER,
	LABEL_TAX_ID,
	LABEL_DESCRIPTION,
	LABEL_PERIOD,
	LABEL_QUANTITY,
	LABEL_UNIT_PRICE,
	LABEL_AMOUNT,
	LABEL_LINES,
	LABEL_FEES,
	LABEL_USAGE,
	LABEL_CHANGES,
	LABEL_OTHER,
	LABEL_SUMMARY,
	LABEL_SUBTOTAL,
	LABEL_DISCOUNT,
	LABEL_TAX,
	LABEL_TAX_BASE,
	LABEL_INCLUDED,
	LABEL_TOTAL,
	LABEL_PREPAID,
	LABEL_BALANCE,
	LABEL_AMOUNT_DUE,
	LABEL_AMOUNT_PAID,
	LABEL_CREDITED,
	LABEL_REMAINING,
	LABEL_REVERSE_CHARGE,
	LABEL_EXEMPT,
	LABEL_PAYMENTS,
	LABEL_DATE,
	LABEL_METHOD,
	LABEL_REFUND,
	LABEL_OTHER_MEANS,
	LABEL_CREDIT_NOTES,
	LABEL_NOTE,
	LABEL_CORRECTS,
	LABEL_REASON,
	LABEL_REQUESTED,
	LABEL_DUPLICATE,
	LABEL_FRAUDULENT,
	LABEL_DISRUPTION,
	LABEL_GUARANTEE,
	LABEL_TO_AMOUNT_DUE,
	LABEL_TO_BALANCE,
	LABEL_TO_REFUND,
	LABEL_SETTLED,
	LABEL_ZONE,
	LABEL_NO_FISCAL_DOCUMENT,
	LABELS
} Label;

/* A page while it is written. */
typedef struct PrintPage
{
	StringInfoData html;
	int language;
	const char *currency;
	int exponent;
	pg_tz *zone;
} PrintPage;

/* ---- print_labels.c ---- */

/* The language for a locale as customers have it ("es-MX"); English for one that we do not speak. */
extern int print_language(const char *locale);

/* Its code, for the attribute lang. */
extern const char *print_language_code(int language);

/* Ready to be written: nothing in it is to be escaped. */
extern const char *label_in(int language, Label label);

/* ---- print_page.c ---- */

/* zone NULL or one that there is not: UTC. */
extern void page_open(PrintPage *page, const char *locale, const char *zone, const char *currency,
					  int exponent);

/* The head of the page down to its title; mark: what is written across it, LABELS for nothing. */
extern void page_head(PrintPage *page, Label title, const char *number, Label mark, bool livemode);

/* The end of the page, with what the seller wants to stand there; seller NULL: nothing. */
extern char *page_close(PrintPage *page, const Jsonb *seller);

extern void put_html(PrintPage *page, const char *html);
extern void put_label(PrintPage *page, Label label);

/* What people wrote: escaped; what no XML may hold becomes U+FFFD. */
extern void put_text(PrintPage *page, const char *text);

/* "1 234.50": grouped by blanks that no locale reads as a decimal point. */
extern void put_amount(PrintPage *page, int64 amount);

/* The same with the code of the currency. */
extern void put_money(PrintPage *page, int64 amount);

/* A decimal number as PostgreSQL writes it, without zeros at its end. */
extern void put_quantity(PrintPage *page, const char *number);

/* A price in minor units, in whole units with all its decimals. */
extern void put_unit_price(PrintPage *page, const char *minor_units);

/* The day in the page's zone (ISO 8601). */
extern void put_date(PrintPage *page, TimestampTz moment);

/* First and last day; the end is the moment after it. */
extern void put_period(PrintPage *page, TimestampTz start, TimestampTz end);

/* A row of the list at the top: put_fact_open(), the value, put_fact_close(). */
extern void put_fact_open(PrintPage *page, Label label);
extern void put_fact_close(PrintPage *page);

/* Seller or customer: {name, email, address, tax_ids}; NULL: none known. */
extern void put_party(PrintPage *page, Label label, const Jsonb *party);

/* A row of the summary: a label (LABELS: none), a text (NULL: none), or both. */
extern void put_sum(PrintPage *page, const char *style, Label label, const char *text,
					int64 amount);

/* A column of a table; numbers stand on the right. */
typedef struct Column
{
	Label label;
	bool is_number;
	bool in_currency; /* its code is in the head */
} Column;

extern void grid_open(PrintPage *page, Label caption, const Column *columns, int count);
extern void grid_close(PrintPage *page);
extern void sums_open(PrintPage *page);
extern void rows_open(PrintPage *page); /* a group of rows */
extern void rows_close(PrintPage *page);
extern void cell_open(PrintPage *page, bool is_number);
extern void cell_close(PrintPage *page);

/*
 * A row for each tax.  Rows: name (NULL: not known), is there a rate, percentage,
 * is the tax inside, base without the tax, tax.  Returns whether one of them
 * says why something is not taxed.
 */
extern bool put_taxes(PrintPage *page, Rows rows);

/* reverse, exempt: the sentence that the law wants; nothing for none. */
extern void put_exemption(PrintPage *page, const char *tax_exempt);

/* What was written on it; NULL: nothing. */
extern void put_memo(PrintPage *page, const char *memo);

/* ---- print_parties.c ---- */

/* The customer as he is, for documents that have no copy. */
extern Jsonb *print_customer(const pg_uuid_t *customer_id);

/* The seller as he is now; name NULL: the default one. */
extern Jsonb *print_seller(const char *name);

/* The copy of a party that a document has, opened; NULL: it has none. */
extern const Jsonb *print_copy(const char *column, const pg_uuid_t *id, const bytea *sealed);

/* ---- print_documents.c ---- */

/* What invoices and credit notes have in common. */
typedef struct PrintedDocument
{
	const pg_uuid_t *id;
	char *status;
	char *number; /* NULL: none yet */
	bool livemode;
	char *currency;
	int exponent;
	int64 subtotal;
	int64 total;
	int64 tax;
	TimestampTz issued_at;
	Jsonb *seller;
	bytea *sealed_buyer;
	const Jsonb *buyer; /* by document_load_buyer() */
	char *memo;
	pg_uuid_t *customer_id;
	char *tax_exempt;
	char *locale;
	char *zone;
} PrintedDocument;

/* The first columns of a query over billing.invoices or billing.credit_notes AS d with these tables. */
#define DOCUMENT_COLUMNS                                                                            \
	"d.status, d.number, d.livemode, d.currency, c.exponent::integer, d.subtotal, d.total, d.tax, " \
	"d.issued_at, d.seller, d.buyer, d.memo, d.customer_id, k.tax_exempt, k.locale, "               \
	"coalesce(k.timezone, (SELECT s.value FROM billing.settings AS s WHERE s.name = 'timezone'))"
#define DOCUMENT_TABLES                                    \
	"JOIN billing.customers AS k ON k.id = d.customer_id " \
	"JOIN billing.currencies AS c ON c.code = d.currency "
#define DOCUMENT_COLUMN_COUNT 16

/* Of the only row. */
extern void document_of_row(PrintedDocument *d, const pg_uuid_t *id);
extern bool document_is_draft(const PrintedDocument *d);

/* The customer as he was when it was issued, with his language and exemption of then; of a draft as he is. */
extern void document_load_buyer(PrintedDocument *d, const char *sealed_as, const pg_uuid_t *id,
								const bytea *sealed);

/* The head of the page and its list of facts, which begins with the number. */
extern void document_open(PrintPage *page, const PrintedDocument *d, Label title, Label mark);

/* Ends the list of facts. */
extern void document_put_parties(PrintPage *page, const PrintedDocument *d);

#endif /* JANUA_PRINTING_H */

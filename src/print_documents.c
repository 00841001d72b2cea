/*-------------------------------------------------------------------------
 *
 * print_documents.c
 *	  What an invoice and a credit note have in common when they are printed:
 *	  the columns that both tables have, their customer, and the top of the page.
 *
 *-------------------------------------------------------------------------
 */
#include "printing.h"

#include "json.h"

void
document_of_row(PrintedDocument *d, const pg_uuid_t *id)
{
	d->id = id;
	d->status = row_text(0, 1);
	d->number = row_text(0, 2);
	d->livemode = row_bool(0, 3);
	d->currency = row_text(0, 4);
	d->exponent = row_int4(0, 5);
	d->subtotal = row_int(0, 6);
	d->total = row_int(0, 7);
	d->tax = row_int(0, 8);
	d->issued_at = row_time(0, 9);
	d->seller = row_json(0, 10);
	d->sealed_buyer = row_bytes(0, 11);
	d->memo = row_text(0, 12);
	d->customer_id = row_uuid(0, 13);
	d->tax_exempt = row_text(0, 14);
	d->locale = row_text(0, 15);
	d->zone = row_text(0, 16);
}

bool
document_is_draft(const PrintedDocument *d)
{
	return strcmp(d->status, "draft") == 0;
}

void
document_load_buyer(PrintedDocument *d, const char *sealed_as, const pg_uuid_t *id,
					const bytea *sealed)
{
	d->buyer = print_copy(sealed_as, id, sealed);
	if (d->buyer == NULL)
	{
		d->buyer = print_customer(d->customer_id);
		return;
	}
	d->tax_exempt = json_text(d->buyer, "tax_exempt");
	d->locale = json_text(d->buyer, "locale");
}

void
document_open(PrintPage *page, const PrintedDocument *d, Label title, Label mark)
{
	page_open(page, d->locale, d->zone, d->currency, d->exponent);
	page_head(page, title, d->number, mark, d->livemode);
	put_html(page, "<dl class=\"facts\">\n");
	if (d->number == NULL)
		return;
	put_fact_open(page, LABEL_NUMBER);
	put_text(page, d->number);
	put_fact_close(page);
}

void
document_put_parties(PrintPage *page, const PrintedDocument *d)
{
	put_html(page, "</dl>\n<div class=\"parties\">\n");
	put_party(page, LABEL_SELLER, d->seller);
	put_party(page, LABEL_CUSTOMER, d->buyer);
	put_html(page, "</div>\n");
}

/*-------------------------------------------------------------------------
 *
 * invoice_lines.c
 *	  Rows of billing.invoice_lines, read as lines of the engine.
 *
 * For lines that were billed or wait (engine_load.c) and for those of stored
 * drafts (invoice_store.c).
 *
 *-------------------------------------------------------------------------
 */
#include "invoice_lines.h"

static MoneyFraction
row_fraction(Rows rows, int64 row, int column, const char *what)
{
	bool isnull;
	Datum value = rows_datum(rows, row, column, &isnull);

	return isnull ? money_fraction_from_int(0)
				  : fraction_of_numeric(DatumGetNumericCopy(value), what);
}

InvoiceLine *
invoice_line_of_row(Rows rows, int64 row)
{
	InvoiceLine *line = palloc0(sizeof(InvoiceLine));

	line->id = rows_uuid(rows, row, 1);
	line->kind = line_kind_of(rows_text(rows, row, 2));
	line->subscription_id = rows_uuid(rows, row, 3);
	line->component = rows_text(rows, row, 4);
	line->price_id = rows_uuid(rows, row, 5);
	line->metric = rows_text(rows, row, 6);
	line->tier = rows_null(rows, row, 7) ? -1 : rows_int4(rows, row, 7);
	line->description = rows_text(rows, row, 8);
	line->has_quantity = !rows_null(rows, row, 9);
	line->quantity = row_fraction(rows, row, 9, "quantity");
	line->unit_amount = row_fraction(rows, row, 10, "unit_amount");
	line->amount = rows_int(rows, row, 11);
	line->discount = rows_int(rows, row, 12);
	line->tax = rows_int(rows, row, 13);
	line->tax_rate_id = rows_uuid(rows, row, 14);
	line->tax_inclusive = rows_bool(rows, row, 15);
	line->discountable = rows_bool(rows, row, 16);
	line->coupon_id = rows_uuid(rows, row, 17);
	line->grant_id = rows_uuid(rows, row, 18);
	line->period_start = rows_time(rows, row, 19);
	line->period_end = rows_time(rows, row, 20);
	line->whole_start = rows_time(rows, row, 21);
	line->whole_end = rows_time(rows, row, 22);
	line->whole_price = row_fraction(rows, row, 23, "whole_price");
	line->reverses = rows_uuid(rows, row, 24);
	/* a credit, and a debit that takes one back */
	line->own_tax = line->reverses != NULL;
	line->untaxed = rows_bool(rows, row, 25);
	line->stored = true;
	return line;
}

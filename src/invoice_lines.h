/*-------------------------------------------------------------------------
 *
 * invoice_lines.h
 *	  Lines of the engine as rows of billing.invoice_lines.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_INVOICE_LINES_H
#define JANUA_INVOICE_LINES_H

#include "engine.h"

/* The first columns of a query that reads lines, of billing.invoice_lines AS l. */
#define INVOICE_LINE_COLUMNS                                                                      \
	"l.id, l.kind, l.subscription_id, l.component, l.price_id, l.metric, l.tier, l.description, " \
	"l.quantity, l.unit_amount, l.amount, l.discount, l.tax, l.tax_rate_id, l.tax_inclusive, "    \
	"l.discountable, l.coupon_id, l.grant_id, l.period_start, l.period_end, l.whole_start, "      \
	"l.whole_end, l.whole_price, l.reverses, l.untaxed, l.amount_coupons, l.amount_discounts"
#define INVOICE_LINE_COLUMN_COUNT 27

/* What was paid, and given back of it, is not told by its row. */
extern InvoiceLine *invoice_line_of_row(Rows rows, int64 row);

/* A line, and where it stands. */
typedef struct PlacedLine
{
	const InvoiceLine *line;
	const pg_uuid_t *invoice_id; /* NULL: it waits for the next invoice */
	int position;                /* from 1; 0: it waits */
} PlacedLine;

/* Writes lines that are not stored yet, in one statement. */
extern void invoice_lines_insert(const PlacedLine *lines, int count);

/* Of stored ones: where they stand now, and what completion has changed of them. */
extern void invoice_lines_move(const PlacedLine *lines, int count);

#endif /* JANUA_INVOICE_LINES_H */

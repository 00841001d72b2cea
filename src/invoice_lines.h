/*-------------------------------------------------------------------------
 *
 * invoice_lines.h
 *	  Rows of billing.invoice_lines, read as lines of the engine.
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
	"l.whole_end, l.whole_price, l.reverses, l.untaxed"
#define INVOICE_LINE_COLUMN_COUNT 25

/* What was paid, and given back of it, is not told by its row. */
extern InvoiceLine *invoice_line_of_row(Rows rows, int64 row);

#endif /* JANUA_INVOICE_LINES_H */

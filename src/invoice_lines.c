/*-------------------------------------------------------------------------
 *
 * invoice_lines.c
 *	  Lines of the engine as rows of billing.invoice_lines: read and written.
 *
 * For lines that were billed or wait (engine_load.c, engine_write.c) and for
 * those of drafts (invoice_store.c).
 *
 *-------------------------------------------------------------------------
 */
#include "invoice_lines.h"

#include "columns.h"
#include "draft_steps.h"

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */
static MoneyFraction
row_fraction(Rows rows, int64 row, int column, const char *what)
{
	bool isnull;
	Datum value = rows_datum(rows, row, column, &isnull);

	return isnull ? money_fraction_from_int(0)
				  : fraction_of_numeric(DatumGetNumericCopy(value), what);
}

static int
row_array(Rows rows, int64 row, int column, Oid type, Datum **elements)
{
	bool isnull;
	Datum value = rows_datum(rows, row, column, &isnull);
	bool *nulls;
	int count = 0;

	if (isnull)
		return 0;
	if (type == UUIDOID)
		deconstruct_array(DatumGetArrayTypePCopy(value), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
						  elements, &nulls, &count);
	else
		deconstruct_array(DatumGetArrayTypePCopy(value), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
						  TYPALIGN_DOUBLE, elements, &nulls, &count);
	return count;
}

static List *
row_amounts(Rows rows, int64 row, int column)
{
	Datum *coupons = NULL;
	Datum *discounts = NULL;
	int count = row_array(rows, row, column, UUIDOID, &coupons);
	List *amounts = NIL;

	if (row_array(rows, row, column + 1, INT8OID, &discounts) != count)
		elog(ERROR, "amounts of a line are not of as many coupons");
	for (int i = 0; i < count; i++)
		amounts = amount_taken(amounts, DatumGetUUIDP(coupons[i]), DatumGetInt64(discounts[i]));
	return amounts;
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
	line->amounts = row_amounts(rows, row, 26);
	line->stored = true;
	return line;
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------
 */
#define WRITTEN_COLUMNS                                                                       \
	"id, invoice_id, position, kind, subscription_id, component, price_id, metric, tier, "    \
	"description, quantity, unit_amount, amount, discount, tax, tax_rate_id, tax_inclusive, " \
	"untaxed, discountable, coupon_id, grant_id, period_start, period_end, whole_start, "     \
	"whole_end, whole_price, reverses, not_covered, taken_off"

QUERY(
	insert_lines,
	"INSERT INTO billing.invoice_lines (" WRITTEN_COLUMNS ", amount_coupons, amount_discounts) "
	"SELECT " WRITTEN_COLUMNS ", amount_coupons::uuid[], amount_discounts::bigint[] "
	"FROM unnest($1, $2, $3::integer[], $4, $5, $6, $7, $8, $9::integer[], $10, $11, $12, "
	"$13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31) "
	"AS u (" WRITTEN_COLUMNS ", amount_coupons, amount_discounts)",
	UUIDARRAYOID, UUIDARRAYOID, INT8ARRAYOID, TEXTARRAYOID, UUIDARRAYOID, TEXTARRAYOID,
	UUIDARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID,
	INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, UUIDARRAYOID, BOOLARRAYOID, BOOLARRAYOID,
	BOOLARRAYOID, UUIDARRAYOID, UUIDARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID,
	TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, NUMERICARRAYOID, UUIDARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID);
QUERY(
	move_lines,
	"UPDATE billing.invoice_lines AS l SET invoice_id = u.invoice_id, position = u.position, "
	"discount = u.discount, tax = u.tax, tax_rate_id = u.tax_rate_id, tax_inclusive = u.tax_inclusive, "
	"amount_coupons = u.amount_coupons::uuid[], amount_discounts = u.amount_discounts::bigint[] "
	"FROM unnest($1, $2, $3::integer[], $4, $5, $6, $7, $8, $9) AS u (id, invoice_id, position, "
	"discount, tax, tax_rate_id, tax_inclusive, amount_coupons, amount_discounts) WHERE l.id = u.id",
	UUIDARRAYOID, UUIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, UUIDARRAYOID,
	BOOLARRAYOID, TEXTARRAYOID, TEXTARRAYOID);

typedef struct LineColumns
{
	Column id, invoice_id, position, kind, subscription_id, component, price_id, metric, tier,
		description, quantity, unit_amount, amount, discount, tax, tax_rate_id, tax_inclusive,
		untaxed, discountable, coupon_id, grant_id, period_start, period_end, whole_start,
		whole_end, whole_price, reverses, not_covered, taken_off, amount_coupons, amount_discounts;
} LineColumns;

static LineColumns
line_columns(int count)
{
	return (LineColumns){
		.id = COLUMN_UUID(count),
		.invoice_id = COLUMN_UUID(count),
		.position = COLUMN_INT(count),
		.kind = COLUMN_TEXT(count),
		.subscription_id = COLUMN_UUID(count),
		.component = COLUMN_TEXT(count),
		.price_id = COLUMN_UUID(count),
		.metric = COLUMN_TEXT(count),
		.tier = COLUMN_INT(count),
		.description = COLUMN_TEXT(count),
		.quantity = COLUMN_NUMBER(count),
		.unit_amount = COLUMN_NUMBER(count),
		.amount = COLUMN_INT(count),
		.discount = COLUMN_INT(count),
		.tax = COLUMN_INT(count),
		.tax_rate_id = COLUMN_UUID(count),
		.tax_inclusive = COLUMN_BOOL(count),
		.untaxed = COLUMN_BOOL(count),
		.discountable = COLUMN_BOOL(count),
		.coupon_id = COLUMN_UUID(count),
		.grant_id = COLUMN_UUID(count),
		.period_start = COLUMN_TIME(count),
		.period_end = COLUMN_TIME(count),
		.whole_start = COLUMN_TIME(count),
		.whole_end = COLUMN_TIME(count),
		.whole_price = COLUMN_NUMBER(count),
		.reverses = COLUMN_UUID(count),
		.not_covered = COLUMN_INT(count),
		.taken_off = COLUMN_INT(count),
		.amount_coupons = COLUMN_TEXT(count),
		.amount_discounts = COLUMN_TEXT(count),
	};
}

static void
column_fraction(Column *column, int row, bool given, MoneyFraction value)
{
	column_pointer(column, row, given ? numeric_of_fraction(value) : NULL);
}

/* Arrays as text: there is no array of arrays. */
static void
put_amounts(LineColumns *c, int row, List *amounts)
{
	StringInfoData coupons;
	StringInfoData discounts;
	ListCell *cell;

	column_text(&c->amount_coupons, row, NULL);
	column_text(&c->amount_discounts, row, NULL);
	if (amounts == NIL)
		return;
	initStringInfo(&coupons);
	initStringInfo(&discounts);
	foreach (cell, amounts)
	{
		const AmountTaken *taken = lfirst(cell);
		char sign = cell == list_head(amounts) ? '{' : ',';

		appendStringInfo(&coupons, "%c%s", sign, uuid_text(taken->applied_id));
		appendStringInfo(&discounts, "%c" INT64_FORMAT, sign, taken->amount);
	}
	appendStringInfoChar(&coupons, '}');
	appendStringInfoChar(&discounts, '}');
	column_text(&c->amount_coupons, row, coupons.data);
	column_text(&c->amount_discounts, row, discounts.data);
}

/* What changes when a line that is stored comes to stand on an invoice. */
static void
put_place(LineColumns *c, int row, const PlacedLine *placed)
{
	const InvoiceLine *line = placed->line;

	column_pointer(&c->id, row, line->id);
	column_pointer(&c->invoice_id, row, placed->invoice_id);
	column_count(&c->position, row, placed->position > 0 ? placed->position : -1);
	column_int(&c->discount, row, line->discount);
	column_int(&c->tax, row, line->tax);
	column_pointer(&c->tax_rate_id, row, line->tax_rate_id);
	column_bool(&c->tax_inclusive, row, line->tax_inclusive);
	put_amounts(c, row, line->amounts);
}

static void
put_line(LineColumns *c, int row, const PlacedLine *placed)
{
	const InvoiceLine *line = placed->line;

	put_place(c, row, placed);
	column_text(&c->kind, row, line_kind_name(line->kind));
	column_pointer(&c->subscription_id, row, line->subscription_id);
	column_text(&c->component, row, line->component);
	column_pointer(&c->price_id, row, line->price_id);
	column_text(&c->metric, row, line->metric);
	column_count(&c->tier, row, line->tier);
	column_text(&c->description, row, line->description);
	column_fraction(&c->quantity, row, line->has_quantity, line->quantity);
	column_fraction(&c->unit_amount, row, line->has_quantity, line->unit_amount);
	column_int(&c->amount, row, line->amount);
	column_bool(&c->untaxed, row, line->untaxed);
	column_bool(&c->discountable, row, line->discountable);
	column_pointer(&c->coupon_id, row, line->coupon_id);
	column_pointer(&c->grant_id, row, line->grant_id);
	column_time(&c->period_start, row, line->period_start);
	column_time(&c->period_end, row, line->period_end);
	column_time(&c->whole_start, row, line->whole_start);
	column_time(&c->whole_end, row, line->whole_end);
	column_fraction(&c->whole_price, row, line->whole_start != 0, line->whole_price);
	column_pointer(&c->reverses, row, line->reverses);
	column_int(&c->not_covered, row, line->not_covered);
	column_int(&c->taken_off, row, line->taken_off);
}

void
invoice_lines_insert(const PlacedLine *lines, int count)
{
	LineColumns c;

	if (count == 0)
		return;
	c = line_columns(count);
	for (int i = 0; i < count; i++)
		put_line(&c, i, &lines[i]);
	RUN(insert_lines, column_arg(&c.id, count), column_arg(&c.invoice_id, count),
		column_arg(&c.position, count), column_arg(&c.kind, count),
		column_arg(&c.subscription_id, count), column_arg(&c.component, count),
		column_arg(&c.price_id, count), column_arg(&c.metric, count), column_arg(&c.tier, count),
		column_arg(&c.description, count), column_arg(&c.quantity, count),
		column_arg(&c.unit_amount, count), column_arg(&c.amount, count),
		column_arg(&c.discount, count), column_arg(&c.tax, count),
		column_arg(&c.tax_rate_id, count), column_arg(&c.tax_inclusive, count),
		column_arg(&c.untaxed, count), column_arg(&c.discountable, count),
		column_arg(&c.coupon_id, count), column_arg(&c.grant_id, count),
		column_arg(&c.period_start, count), column_arg(&c.period_end, count),
		column_arg(&c.whole_start, count), column_arg(&c.whole_end, count),
		column_arg(&c.whole_price, count), column_arg(&c.reverses, count),
		column_arg(&c.not_covered, count), column_arg(&c.taken_off, count),
		column_arg(&c.amount_coupons, count), column_arg(&c.amount_discounts, count));
}

void
invoice_lines_move(const PlacedLine *lines, int count)
{
	LineColumns c;

	if (count == 0)
		return;
	c = line_columns(count);
	for (int i = 0; i < count; i++)
		put_place(&c, i, &lines[i]);
	RUN(move_lines, column_arg(&c.id, count), column_arg(&c.invoice_id, count),
		column_arg(&c.position, count), column_arg(&c.discount, count), column_arg(&c.tax, count),
		column_arg(&c.tax_rate_id, count), column_arg(&c.tax_inclusive, count),
		column_arg(&c.amount_coupons, count), column_arg(&c.amount_discounts, count));
}

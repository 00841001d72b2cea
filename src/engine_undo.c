/*-------------------------------------------------------------------------
 *
 * engine_undo.c
 *	  An item that was not billed as it was, changed and back in one instant.
 *
 * After a change with proration_behavior none, or the void of an invoice, what was
 * billed for the rest of the period is not for the item as it is, or nothing was.
 * The next change gives that back and bills the item that it makes; a change back
 * to the item as it was finds no line of its price to restore.  So what the item
 * was and what was given back for it is kept, and the way back in the same instant
 * puts just that in its place again (subscriptions.items_before_change).
 *
 * An item that was billed as it was needs none of this: its lines tell it
 * (engine_rest.c).  At another moment what was kept counts no more; the next
 * change that keeps something, or the next period, forgets it.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

#include "json.h"

ItemBefore *
item_before(const BilledSubscription *s, const char *component)
{
	const BilledItem *item = item_named(s, component);
	ItemBefore *before = palloc0(sizeof(ItemBefore));

	before->component = pstrdup(component);
	before->ahead = ahead_line(s);
	if (item != NULL)
	{
		before->price_id = item->price->id;
		before->quantity = item->quantity;
	}
	return before;
}

void
item_before_credited(ItemBefore *before, const InvoiceLine *line)
{
	before->credited = lappend(before->credited, line->id);
}

/* The part of a line that is cut off, as a line of its own. */
void
item_before_cut(ItemBefore *before, const InvoiceLine *line, TimestampTz at)
{
	InvoiceLine *rest = palloc0(sizeof(InvoiceLine));

	rest->kind = LINE_PRORATION_DEBIT;
	rest->tier = -1;
	rest->component = before->component;
	rest->price_id = line->price_id;
	rest->description = line->kind == LINE_PRORATION_DEBIT
							? line->description
							: psprintf("%s: remaining time", line->description);
	rest->has_quantity = line->has_quantity;
	rest->quantity = line->quantity;
	rest->unit_amount = line->unit_amount;
	rest->tax_inclusive = line->tax_inclusive;
	rest->discountable = true;
	rest->period_start = Max(at, line->period_start);
	rest->period_end = line->period_end;
	rest->whole_start = line->whole_start;
	rest->whole_end = line->whole_end;
	rest->whole_price = line->whole_price;
	before->cut = lappend(before->cut, rest);
}

static bool
is_as_before(const BilledSubscription *s, const ItemBefore *before)
{
	const BilledItem *item = item_named(s, before->component);

	if (item == NULL || before->price_id == NULL)
		return item == NULL && before->price_id == NULL;
	/* what is paid by use has no quantity that counts */
	return uuid_equal(item->price->id, before->price_id) &&
		   (item->price->metric != NULL || item->quantity == before->quantity);
}

/* What was kept of an item that was as it is now. */
static ItemBefore *
kept_of(const BilledSubscription *s, const char *component, TimestampTz at)
{
	ListCell *cell;

	if (s->changed_at != at)
		return NULL;
	foreach (cell, s->before_change)
	{
		ItemBefore *before = lfirst(cell);

		if (strcmp(before->component, component) == 0 && is_as_before(s, before))
			return before;
	}
	return NULL;
}

/* Usage is billed when it is over, and what is paid once is not given back. */
static bool
is_for_a_period(const BilledItem *item)
{
	return item != NULL && item->price->metric == NULL && !item->price->one_time &&
		   item_whole_price(item).scaled > 0;
}

void
undo_leave(BilledSubscription *s, const char *component, TimestampTz at)
{
	s->before_change = list_delete_ptr(s->before_change, kept_of(s, component, at));
}

void
undo_keep(BilledSubscription *s, ItemBefore *before, TimestampTz at)
{
	if (before->credited == NIL && before->cut == NIL &&
		!is_for_a_period(item_named(s, before->component)))
		return;
	if (s->changed_at != at)
		undo_forget(s);
	s->before_change = lappend(s->before_change, before);
	s->changed_at = at;
}

void
undo_forget(BilledSubscription *s)
{
	s->changed_at = 0;
	s->before_change = NIL;
}

/* The next period was invoiced since it was kept, with what the item was then. */
static bool
is_newly_ahead(const BilledSubscription *s, const ItemBefore *before)
{
	const pg_uuid_t *ahead = ahead_line(s);

	return ahead != NULL && (before->ahead == NULL || !uuid_equal(ahead, before->ahead));
}

bool
undo_restore(BillingRun *run, BilledSubscription *s, const char *component, TimestampTz at)
{
	ItemBefore *before = kept_of(s, component, at);
	BilledItem *item = item_named(s, component);
	ListCell *cell;

	if (before == NULL)
		return false;
	foreach (cell, before->credited)
		take_back_credit_of(run, s, lfirst(cell));
	foreach (cell, before->cut)
		bill_part_of_line(s, lfirst(cell));
	if (is_newly_ahead(s, before) && is_for_a_period(item))
		rest_bill_from(run, s, item, s->period_end);
	undo_leave(s, component, at);
	return true;
}

/* ------------------------------------------------------------------------
 * As it is stored
 * ------------------------------------------------------------------------
 */
static void
add_fraction(JsonBuilder *b, const char *key, MoneyFraction value)
{
	char text[MONEY_TEXT_SIZE];

	money_fraction_format(value, text);
	json_add_text(b, key, text);
}

static MoneyFraction
fraction_at(const Jsonb *json, const char *path)
{
	const char *text = json_text(json, path);
	MoneyFraction value;

	if (text == NULL || money_fraction_parse(text, strlen(text), &value) != MONEY_OK)
		elog(ERROR, "items_before_change has no amount \"%s\"", path);
	return value;
}

static const Jsonb *
text_of_line(const InvoiceLine *line)
{
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, "price", uuid_text(line->price_id));
	json_add_text(&b, "description", line->description);
	if (line->has_quantity)
	{
		add_fraction(&b, "quantity", line->quantity);
		add_fraction(&b, "unit_amount", line->unit_amount);
	}
	json_add_bool(&b, "tax_inclusive", line->tax_inclusive);
	json_add_time(&b, "period_start", line->period_start);
	json_add_time(&b, "period_end", line->period_end);
	json_add_time(&b, "whole_start", line->whole_start);
	json_add_time(&b, "whole_end", line->whole_end);
	add_fraction(&b, "whole_price", line->whole_price);
	return json_close(&b);
}

static InvoiceLine
line_of_text(const Jsonb *json)
{
	InvoiceLine line = {.kind = LINE_PRORATION_DEBIT,
						.price_id = uuid_parse(json_text(json, "price")),
						.description = json_text(json, "description"),
						.has_quantity = json_has(json, "quantity"),
						.tax_inclusive = json_bool(json, "tax_inclusive", false),
						.period_start = json_unix_time(json, "period_start"),
						.period_end = json_unix_time(json, "period_end"),
						.whole_start = json_unix_time(json, "whole_start"),
						.whole_end = json_unix_time(json, "whole_end"),
						.whole_price = fraction_at(json, "whole_price")};

	if (line.has_quantity)
	{
		line.quantity = fraction_at(json, "quantity");
		line.unit_amount = fraction_at(json, "unit_amount");
	}
	return line;
}

static const Jsonb *
text_of_item(const ItemBefore *before)
{
	JsonBuilder b;
	ListCell *cell;

	json_open(&b);
	json_add_text(&b, "component", before->component);
	if (before->price_id != NULL)
	{
		json_add_text(&b, "price", uuid_text(before->price_id));
		json_add_int(&b, "quantity", before->quantity);
	}
	if (before->ahead != NULL)
		json_add_text(&b, "ahead", uuid_text(before->ahead));
	json_open_array(&b, "credited");
	foreach (cell, before->credited)
		json_append_text(&b, uuid_text(lfirst(cell)));
	json_close_array(&b);
	json_open_array(&b, "cut");
	foreach (cell, before->cut)
		json_append_json(&b, text_of_line(lfirst(cell)));
	json_close_array(&b);
	return json_close(&b);
}

static ItemBefore *
item_of_text(const Jsonb *json)
{
	ItemBefore *before = palloc0(sizeof(ItemBefore));
	const char *price = json_text(json, "price");
	int credited = json_length(json, "credited");
	int cut = json_length(json, "cut");

	before->component = json_text(json, "component");
	if (price != NULL)
	{
		before->price_id = uuid_parse(price);
		(void) json_int(json, "quantity", &before->quantity);
	}
	before->ahead = uuid_parse(json_text(json, "ahead"));
	for (int i = 0; i < credited; i++)
		before->credited = lappend(before->credited,
								   uuid_parse(json_text(json, psprintf("credited.%d", i))));
	for (int i = 0; i < cut; i++)
	{
		InvoiceLine line = line_of_text(json_part(json, psprintf("cut.%d", i)));

		item_before_cut(before, &line, line.period_start);
	}
	return before;
}

void
undo_read(BilledSubscription *s, const Jsonb *stored)
{
	int items = stored == NULL ? 0 : json_length(stored, "items");

	if (items == 0)
		return;
	s->changed_at = json_unix_time(stored, "at");
	for (int i = 0; i < items; i++)
		s->before_change = lappend(s->before_change,
								   item_of_text(json_part(stored, psprintf("items.%d", i))));
}

const Jsonb *
undo_text(const BilledSubscription *s)
{
	JsonBuilder b;
	ListCell *cell;

	if (s->before_change == NIL)
		return NULL;
	json_open(&b);
	json_add_time(&b, "at", s->changed_at);
	json_open_array(&b, "items");
	foreach (cell, s->before_change)
		json_append_json(&b, text_of_item(lfirst(cell)));
	json_close_array(&b);
	return json_close(&b);
}

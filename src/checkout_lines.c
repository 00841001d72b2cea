/*-------------------------------------------------------------------------
 *
 * checkout_lines.c
 *	  What is sold in a checkout session or by a payment link.
 *
 * A line is a price of the catalogue or a name with an amount.  All lines of
 * one are in one currency, and at most one of them is paid again and again:
 * that one is the subscription.
 *
 *-------------------------------------------------------------------------
 */
#include "checkout.h"

#include "common/int.h"

#include "check.h"
#include "errors.h"
#include "managers.h"
#include "mb/pg_wchar.h"
#include "wire_amounts.h"

#define LINES_MAX     100
#define LINE_NAME_MAX 250

static const char *const line_members[] = {"price",    "name",     "amount",
										   "currency", "quantity", "description"};

static _Noreturn void
bad_line(int i, const char *what, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("element %d of line_items %s", i, what),
					hint == NULL ? 0 : errhint("%s", hint)));
}

int64
checkout_sum(int64 total, int64 amount, int64 quantity)
{
	int64 product;
	int64 sum;

	if (pg_mul_s64_overflow(amount, quantity, &product) ||
		pg_add_s64_overflow(total, product, &sum))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("the sum of line_items is out of range")));
	return sum;
}

static void
check_member(const char *key, const JsonbValue *value, void *index)
{
	for (int i = 0; i < (int) lengthof(line_members); i++)
	{
		if (strcmp(key, line_members[i]) == 0)
			return;
	}
	bad_line(*(int *) index, psprintf("has an unknown member \"%s\"", key),
			 "Members are: price, or name, amount and currency; quantity, description.");
}

/* An integer of the line; false when it is absent. */
static bool
line_int(const Jsonb *line, int i, const char *member, int64 *value)
{
	if (json_text(line, member) == NULL)
		return false;
	if (!json_whole(line, member, value))
		bad_line(i, psprintf("has a %s that is no whole number", member), NULL);
	return true;
}

QUERY(plan_name, "SELECT name FROM billing.plans WHERE id = $1", UUIDOID);

static CheckoutLine *
line_of_price(Price *price, int64 quantity)
{
	CheckoutLine *line = palloc0(sizeof(CheckoutLine));

	RUN(plan_name, arg_uuid(price->plan_id));
	line->price = price;
	line->name = row_text(0, 1);
	line->amount = price->amount;
	line->currency = price->currency;
	line->quantity = quantity;
	return line;
}

static CheckoutLine *
read_priced(const Jsonb *item, int i, const Customer *customer)
{
	pg_uuid_t *id = uuid_parse(json_text(item, "price"));
	PriceChoice choice = {
		.amount = NO_AMOUNT, .price = id, .customer_id = customer == NULL ? NULL : customer->id};

	if (json_has(item, "amount") || json_has(item, "name") || json_has(item, "currency"))
		bad_line(i, "has a price and terms beside it", "Pass price, or name, amount and currency.");
	if (id == NULL)
		bad_line(i, "has a price that is no id", "billing.prices lists them.");
	return line_of_price(price_choose(&choice), 1);
}

static CheckoutLine *
read_named(const Jsonb *item, int i)
{
	CheckoutLine *line = palloc0(sizeof(CheckoutLine));

	line->name = json_text(item, "name");
	if (line->name == NULL || line->name[0] == '\0')
		bad_line(i, "has neither a price nor a name",
				 "Pass {\"price\": id} or {\"name\", \"amount\", \"currency\"}.");
	if (strlen(line->name) > LINE_NAME_MAX)
		bad_line(i, psprintf("has a name of more than %d bytes", LINE_NAME_MAX), NULL);
	if (!line_int(item, i, "amount", &line->amount))
		bad_line(i, "has no amount", "Pass minor units of the currency: 2900 is 29.00 USD.");
	if (line->amount < 0)
		bad_line(i, "has a negative amount", "Discounts are coupons.");
	line->currency = check_currency(json_text(item, "currency"));
	return line;
}

static CheckoutLine *
read_line(const Jsonb *items, int i, const Customer *customer)
{
	Jsonb *item = json_part(items, psprintf("%d", i));
	CheckoutLine *line;

	if (item == NULL || !JB_ROOT_IS_OBJECT(item))
		bad_line(i, "is not an object",
				 "Pass something like '[{\"name\": \"Ticket\", \"amount\": 2500}]'.");
	json_visit(item, check_member, &i);
	line = json_text(item, "price") != NULL ? read_priced(item, i, customer) : read_named(item, i);
	line->quantity = 1;
	if (line_int(item, i, "quantity", &line->quantity) && line->quantity < 1)
		bad_line(i, "has a quantity below 1", NULL);
	line->description = json_text(item, "description");
	return line;
}

/* The first line that says so gives the currency; those that say nothing follow. */
static const char *
common_currency(const List *lines, const char *currency, const Customer *customer)
{
	ListCell *cell;

	foreach (cell, lines)
	{
		const CheckoutLine *line = lfirst(cell);

		if (currency == NULL)
			currency = line->currency;
		if (line->currency != NULL && strcmp(line->currency, currency) != 0)
			bad_line(foreach_current_index(cell),
					 psprintf("is in %s, not in %s", line->currency, currency),
					 "All that is sold together is in one currency.");
	}
	if (currency == NULL && customer != NULL)
		currency = customer->currency;
	if (currency == NULL)
		currency = check_currency(setting_text("default_currency"));
	check_given("currency", currency != NULL);
	return currency;
}

static bool
is_recurring(const CheckoutLine *line)
{
	return line->price != NULL && strcmp(line->price->interval, "one_time") != 0;
}

static void
add_up(CheckoutLines *lines)
{
	ListCell *cell;

	lines->total = 0;
	lines->recurring = NULL;
	foreach (cell, lines->lines)
	{
		CheckoutLine *line = lfirst(cell);

		line->currency = lines->currency;
		lines->total = checkout_sum(lines->total, line->amount, line->quantity);
		if (!is_recurring(line))
			continue;
		if (lines->recurring != NULL)
			bad_line(foreach_current_index(cell), "is a second subscription",
					 "Sell one plan in a checkout; others in checkouts of their own.");
		lines->recurring = line;
	}
}

CheckoutLines *
checkout_lines_read(const Jsonb *items, const char *currency, const Customer *customer)
{
	CheckoutLines *lines = palloc0(sizeof(CheckoutLines));
	int count;

	if (!JB_ROOT_IS_ARRAY(items) || JB_ROOT_IS_SCALAR(items))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("line_items is not an array"),
				 errhint("Pass something like '[{\"name\": \"Ticket\", \"amount\": 2500, "
						 "\"currency\": \"USD\", \"quantity\": 2}]'.")));
	count = json_length(items, "");
	if (count == 0 || count > LINES_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("line_items has %d elements", count),
						errhint("It has 1 to %d.", LINES_MAX)));
	for (int i = 0; i < count; i++)
		lines->lines = lappend(lines->lines, read_line(items, i, customer));
	lines->currency = common_currency(lines->lines, currency, customer);
	add_up(lines);
	return lines;
}

CheckoutLines *
checkout_lines_of_price(const PriceChoice *choice, int64 quantity)
{
	CheckoutLines *lines = palloc0(sizeof(CheckoutLines));
	CheckoutLine *line = line_of_price(price_choose(choice), quantity);

	lines->lines = list_make1(line);
	lines->currency = line->currency;
	add_up(lines);
	return lines;
}

void
checkout_lines_combine(CheckoutLines *lines)
{
	CheckoutLine *sum = palloc0(sizeof(CheckoutLine));
	StringInfoData name;
	ListCell *cell;

	if (lines->recurring != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a subscription cannot be combined with other lines"),
						errhint("combine is for what is paid once.")));
	if (list_length(lines->lines) == 1)
		return;
	initStringInfo(&name);
	foreach (cell, lines->lines)
	{
		const CheckoutLine *line = lfirst(cell);

		appendStringInfo(&name, "%s%s", foreach_current_index(cell) == 0 ? "" : ", ", line->name);
		if (line->quantity > 1)
			appendStringInfo(&name, " (" INT64_FORMAT ")", line->quantity);
	}
	sum->name = pnstrdup(name.data, pg_mbcliplen(name.data, name.len, LINE_NAME_MAX));
	sum->amount = lines->total;
	sum->currency = lines->currency;
	sum->quantity = 1;
	lines->lines = list_make1(sum);
}

/*
 * Where the provider cannot keep a price that is paid once, the line goes with
 * its name and amount; a subscription's price has to be there.
 */
pg_uuid_t *
checkout_lines_ensure_at(const CheckoutLines *lines, const Account *account)
{
	pg_uuid_t *blocked_by = NULL;
	ListCell *cell;

	foreach (cell, lines->lines)
	{
		CheckoutLine *line = lfirst(cell);
		pg_uuid_t *push;

		if (line->price != NULL)
			manager_check_provider(line->price, line->quantity);
		(void) wire_price(account->provider, line->currency, line->amount);
		if (line->price == NULL || (!is_recurring(line) && !price_can_be_at(line->price, account)))
			continue;
		push = price_ensure_at(line->price, account);
		if (push != NULL)
			blocked_by = push;
	}
	return blocked_by;
}

static Jsonb *
line_json(const CheckoutLine *line, const char *price_member, int64 amount)
{
	JsonBuilder b;

	json_open(&b);
	if (line->price != NULL)
		json_add_text(&b, price_member, uuid_text(line->price->id));
	json_add_text(&b, "name", line->name);
	json_add_text(&b, "description", line->description);
	json_add_int(&b, "amount", amount);
	json_add_text(&b, "currency", line->currency);
	if (is_recurring(line))
		price_add_interval(&b, line->price);
	json_add_int(&b, "quantity", line->quantity);
	return json_close(&b);
}

Jsonb *
checkout_lines_json(const CheckoutLines *lines)
{
	JsonBuilder b;
	ListCell *cell;

	json_open(&b);
	json_open_array(&b, "lines");
	foreach (cell, lines->lines)
	{
		const CheckoutLine *line = lfirst(cell);

		json_append_json(&b, line_json(line, "price", line->amount));
	}
	json_close_array(&b);
	return json_part(json_close(&b), "lines");
}

/* price_id is ours; the provider's comes in when the request is sent. */
void
checkout_lines_add(JsonBuilder *builder, const CheckoutLines *lines, const char *provider)
{
	ListCell *cell;

	json_open_array(builder, "line_items");
	foreach (cell, lines->lines)
	{
		const CheckoutLine *line = lfirst(cell);

		json_append_json(builder, line_json(line, "price_id",
											wire_price(provider, line->currency, line->amount)));
	}
	json_close_array(builder);
}

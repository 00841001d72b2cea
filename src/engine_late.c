/*-------------------------------------------------------------------------
 *
 * engine_late.c
 *	  Usage that came after its period was billed.
 *
 * It is a line of its own on a later invoice: the price of all that was used in
 * the period less that of what was billed of it so far.  Where a price is linear
 * that is quantity times price; in tiers it is what the period would have cost
 * more.  The price is that by which the period was billed
 * (usage_closing_prices), whatever the subscription, its plan or its prices have
 * become since; only what was closed by hand has none, and costs what it does
 * today.
 *
 * Where the period costs less then, what was billed of it is given back
 * (engine_corrections.c).
 *
 * A closing takes it over (usage_closings.c), so that each quantity is billed
 * once.  Where nothing is metered any more, and so no period is closed, renewals
 * and the last invoice take it over by themselves.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "columns.h"

/* ------------------------------------------------------------------------
 * The prices of a period
 * ------------------------------------------------------------------------
 */
QUERY(keep_prices,
	  "INSERT INTO billing.usage_closing_prices (organization_id, period_start, period_end, "
	  "component, metric, price_id, whole_start, whole_end) "
	  "SELECT $1, $2, $3, u.component, u.metric, u.price_id, $4, $5 "
	  "FROM unnest($6, $7, $8) AS u (component, metric, price_id) ON CONFLICT DO NOTHING",
	  TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTARRAYOID,
	  TEXTARRAYOID, UUIDARRAYOID);

void
keep_usage_prices(const InvoiceDraft *draft, const DraftUsage *usage)
{
	int room = list_length(draft->subscription->items);
	Column component = COLUMN_TEXT(room);
	Column metric = COLUMN_TEXT(room);
	Column price_id = COLUMN_UUID(room);
	int count = 0;
	ListCell *cell;

	foreach (cell, draft->subscription->items)
	{
		const BilledItem *item = lfirst(cell);

		if (item->removed || item->price->metric == NULL)
			continue;
		column_text(&component, count, item->component);
		column_text(&metric, count, item->price->metric);
		column_pointer(&price_id, count++, item->price->id);
	}
	RUN(keep_prices, arg_text(draft->customer->organization_id), arg_time(usage->period.start),
		arg_time(usage->period.end), arg_time(usage->whole.start), arg_time(usage->whole.end),
		column_arg(&component, count), column_arg(&metric, count), column_arg(&price_id, count));
}

/* A price of a closed period, for all or a part of a whole one. */
typedef struct LatePrice
{
	const char *component;
	const ComponentPrice *price;
	DraftUsage usage;
	bool by_hand;
} LatePrice;

static LatePrice *
late_price(const char *component, const ComponentPrice *price, UsageRange period, UsageRange whole,
		   bool by_hand)
{
	LatePrice *late = palloc(sizeof(LatePrice));

	*late = (LatePrice){component, price, {period, whole}, by_hand};
	return late;
}

/* Those of today, for a period that was closed by hand. */
static List *
todays_prices(const BilledSubscription *s, const UsageLine *line)
{
	UsageRange whole = whole_containing(s, line->period.start);
	List *prices = NIL;
	ListCell *cell;

	foreach (cell, s->items)
	{
		const BilledItem *item = lfirst(cell);

		if (!item->removed && item->price->metric != NULL &&
			strcmp(item->price->metric, line->metric) == 0)
			prices = lappend(prices,
							 late_price(item->component, item->price, line->period, whole, true));
	}
	return prices;
}

QUERY(
	prices_of_period,
	"SELECT component, price_id, whole_start, whole_end, metric FROM billing.usage_closing_prices "
	"WHERE organization_id = $1 AND period_start = $2 ORDER BY component",
	TEXTOID, TIMESTAMPTZOID);

/* None where the period was billed without one for the metric: then it cost nothing. */
static List *
prices_of(const InvoiceDraft *draft, const UsageLine *line)
{
	int64 count = RUN(prices_of_period, arg_text(draft->customer->organization_id),
					  arg_time(line->period.start));
	Rows rows = rows_keep();
	List *prices = NIL;

	if (count == 0)
		return todays_prices(draft->subscription, line);
	for (int64 i = 0; i < count; i++)
	{
		UsageRange whole = {rows_time(rows, i, 3), rows_time(rows, i, 4)};

		if (strcmp(rows_text(rows, i, 5), line->metric) == 0)
			prices = lappend(prices, late_price(rows_text(rows, i, 1),
												component_price(rows_uuid(rows, i, 2)),
												line->period, whole, false));
	}
	return prices;
}

/* ------------------------------------------------------------------------
 * Lines
 * ------------------------------------------------------------------------
 */
QUERY(billed_before,
	  "SELECT coalesce(sum(quantity), 0) FROM billing.usage_closing_lines "
	  "WHERE organization_id = $1 AND period_start = $2 AND metric = $3 AND closing_start <> $4",
	  TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID);

static MoneyFraction
quantity_before(const InvoiceDraft *draft, const UsageLine *line, TimestampTz closing)
{
	bool isnull;

	RUN(billed_before, arg_text(draft->customer->organization_id), arg_time(line->period.start),
		arg_text(line->metric), arg_time(closing));
	return fraction_of_numeric(DatumGetNumericCopy(rows_datum(SPI_tuptable, 0, 1, &isnull)),
							   "usage");
}

static int64
amount_of(const ComponentPrice *price, const RatedPrice *rated, MoneyFraction quantity)
{
	int64 amount;

	if (quantity.scaled < 0)
		quantity = money_fraction_from_int(0);
	require_rated(price_amount(rated, quantity, &amount), price);
	return amount;
}

static void
bill_at(BillingRun *run, InvoiceDraft *draft, const LatePrice *late, MoneyFraction before,
		MoneyFraction change)
{
	const RatedPrice *rated = usage_price_for(draft->subscription, late->price, &late->usage);
	char text[MONEY_TEXT_SIZE];
	MoneyFraction after;
	int64 had;
	int64 costs;

	if (money_fraction_add(before, change, &after) != MONEY_OK)
		require_rated(RATING_OVERFLOW, late->price);
	had = amount_of(late->price, rated, before);
	costs = amount_of(late->price, rated, after);
	if (costs < had)
		usage_give_back(run, draft,
						&(UsageDecrease){late->component, late->price, late->usage, after, had,
										 costs, late->by_hand});
	if (costs <= had)
		return;
	money_fraction_format(change, text);
	(void) add_usage_line(draft, late->component, late->price, costs - had,
						  psprintf("%s%s that came late", change.scaled > 0 ? "+" : "", text),
						  late->usage.period);
}

static void
bill_correction(BillingRun *run, InvoiceDraft *draft, const UsageLine *line, TimestampTz closing)
{
	MoneyFraction change = fraction_of_numeric(line->amounts[CUT_EXACT], "usage");
	List *prices = change.scaled == 0 ? NIL : prices_of(draft, line);
	MoneyFraction before;
	ListCell *cell;

	if (prices == NIL)
		return;
	before = quantity_before(draft, line, closing);
	foreach (cell, prices)
		bill_at(run, draft, lfirst(cell), before, change);
}

/* A preview takes nothing over: each closing of it finds the same again. */
static bool
was_previewed(BillingRun *run, BilledCustomer *customer, const UsageLine *line)
{
	ListCell *cell;

	if (!run->preview)
		return false;
	foreach (cell, customer->late)
	{
		const UsageLine *other = lfirst(cell);

		if (other->period.start == line->period.start && strcmp(other->metric, line->metric) == 0)
			return true;
	}
	customer->late = lappend(customer->late, unconstify(UsageLine *, line));
	return false;
}

void
bill_corrections(BillingRun *run, InvoiceDraft *draft, const List *lines, TimestampTz closing)
{
	ListCell *cell;

	foreach (cell, lines)
	{
		const UsageLine *line = lfirst(cell);

		if (line->correction && !was_previewed(run, draft->customer, line))
			bill_correction(run, draft, line, closing);
	}
}

/* ------------------------------------------------------------------------
 * Where nothing is metered any more
 * ------------------------------------------------------------------------
 */
InvoiceDraft *
bill_late_usage(BillingRun *run, BilledSubscription *s, InvoiceDraft *draft, const char *reason,
				TimestampTz at)
{
	InvoiceDraft scratch = {.subscription = s,
							.customer = s->customer,
							.currency = s->currency,
							.reason = reason,
							.made_at = at};
	const char *organization_id = s->customer->organization_id;
	const UsageBuyer buyer = {s->id, s->currency};
	TimestampTz closing = at;
	List *lines;

	/* the first invoice is for what was subscribed alone, and usage that waits takes it along */
	if (!s->customer->has_closings || strcmp(reason, "subscription_create") == 0 ||
		(draft != NULL && draft->usage != NIL))
		return draft;
	lines = run->preview ? usage_late_preview(organization_id, &buyer)
						 : usage_late_take(organization_id, at, &buyer, &closing);
	bill_corrections(run, &scratch, lines, closing);
	if (scratch.lines == NIL)
		return draft;
	if (draft == NULL)
		draft = draft_for(run, s, reason, at);
	draft->lines = list_concat(draft->lines, scratch.lines);
	draft->changed = true;
	return draft;
}

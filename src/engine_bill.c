/*-------------------------------------------------------------------------
 *
 * engine_bill.c
 *	  What an item costs: lines of licensed components and of usage.
 *
 * A licensed component is one line in advance, from which a credit can be
 * computed later: it keeps the whole period and what that would have cost.
 * Usage has a line for each part of its rating (free units, tiers, fees), in
 * arrears.
 *
 * What came late into a period that was billed before is engine_late.c; where it
 * makes that less, engine_corrections.c.
 *
 * A period may be billed in parts: where a price changes within it, or it begins
 * or ends early.  Each part is rated by itself, at the price for a part
 * (price_parts.h), so that no fee and no commitment is due twice.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "errors.h"
#include "price_parts.h"

/* A price was checked when it was made: only a quantity can be too large for it. */
void
require_rated(RatingStatus status, const ComponentPrice *price)
{
	if (status == RATING_OK)
		return;
	ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					errmsg("component \"%s\" cannot be rated", price->component),
					errdetail("Price %s, status %d.", uuid_text(price->id), status),
					price->metric == NULL
						? errhint("Its quantity is too large for the price.")
						: errhint("Its quantity is too large for the price: take back what was "
								  "recorded wrongly by billing.void_usage().")));
}

static void
require_prorated(ProrationStatus status, const ComponentPrice *price)
{
	if (status != PRORATION_OK)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("component \"%s\" cannot be prorated", price->component),
						errdetail("Price %s, status %d.", uuid_text(price->id), status),
						errhint("Its quantity is too large for the price.")));
}

/* ------------------------------------------------------------------------
 * Licensed
 * ------------------------------------------------------------------------
 */
const char *
item_description(const BilledSubscription *s, const BilledItem *item)
{
	if (item->price->description != NULL)
		return item->price->description;
	if (strcmp(item->component, "base") == 0)
		return s->plan_name;
	return psprintf("%s: %s", s->plan_name, item->component);
}

/*
 * What a whole period costs before it is rounded.  Where a minimum, a maximum
 * or a commitment decides it is that whole amount.  No units cost nothing, also
 * where the price is flat.
 */
MoneyFraction
item_whole_price(const BilledItem *item)
{
	MoneyFraction quantity = money_fraction_from_int(item->quantity);
	MoneyFraction exact;
	int64 rounded;
	int64 amount;

	if (item->quantity == 0)
		return quantity;
	require_rated(price_amount(&item->price->rated, quantity, &amount), item->price);
	require_rated(price_exact(&item->price->rated, quantity, &exact), item->price);
	if (money_round(exact, &rounded) == MONEY_OK && rounded == amount)
		return exact;
	return money_fraction_from_int(amount);
}

/* What is printed as quantity times unit price: not where tiers have several. */
void
line_say_quantity(InvoiceLine *line, const BilledItem *item)
{
	const RatedPrice *rated = &item->price->rated;

	line->has_quantity = rated->model == PRICE_FLAT || rated->model == PRICE_PER_UNIT;
	if (!line->has_quantity)
		return;
	line->quantity = money_fraction_from_int(rated->model == PRICE_FLAT ? 1 : item->quantity);
	line->unit_amount = rated->model == PRICE_FLAT ? money_fraction_from_int(rated->flat_fee)
												   : rated->unit_price;
}

static void
bill_once(InvoiceDraft *draft, const BilledSubscription *s, const BilledItem *item)
{
	int64 amount;
	InvoiceLine *line;

	require_rated(
		price_amount(&item->price->rated, money_fraction_from_int(item->quantity), &amount),
		item->price);
	line = draft_add(draft, LINE_ONE_TIME, amount, item_description(s, item));
	line->component = item->component;
	line->price_id = item->price->id;
	line->tax_inclusive = item->price->tax_inclusive;
	line_say_quantity(line, item);
}

void
bill_item(InvoiceDraft *draft, const BilledSubscription *s, const BilledItem *item,
		  const BillingPeriod *period, LineKind kind)
{
	Proration how = engine_proration(s);
	int64 amount;
	MoneyFraction price;
	InvoiceLine *line;

	if (kind == LINE_ONE_TIME)
	{
		bill_once(draft, s, item);
		return;
	}
	price = item_whole_price(item);
	require_prorated(proration_amount(&how, price, &period->full, &period->billed, &amount),
					 item->price);
	line = draft_add(draft, kind, amount, item_description(s, item));
	line->component = item->component;
	line->price_id = item->price->id;
	line->tax_inclusive = item->price->tax_inclusive;
	line_say_quantity(line, item);
	line->period_start = moment_of_unix(period->billed.start);
	line->period_end = moment_of_unix(period->billed.end);
	line->whole_start = moment_of_unix(period->full.start);
	line->whole_end = moment_of_unix(period->full.end);
	line->whole_price = price;
	line->paid = amount;
	draft->subscription->billed = lappend(draft->subscription->billed, line);
}

/* ------------------------------------------------------------------------
 * Usage
 * ------------------------------------------------------------------------
 */
static const char *
part_of_usage(const RatedLine *part)
{
	switch (part->kind)
	{
		case RATED_FLAT:
			return "flat fee";
		case RATED_FREE:
			return "free units";
		case RATED_UNITS:
			return part->tier < 0 ? NULL : psprintf("tier %d", part->tier + 1);
		case RATED_TIER_FEE:
			return psprintf("fee of tier %d", part->tier + 1);
		case RATED_PACKAGES:
			return "packages";
		case RATED_PERCENT:
			return "percentage";
		case RATED_MINIMUM:
			return "minimum";
		case RATED_MAXIMUM:
			return "above the maximum";
		case RATED_COMMITMENT:
			return "commitment";
	}
	return NULL;
}

InvoiceLine *
add_usage_line(InvoiceDraft *draft, const char *component, const ComponentPrice *price,
			   int64 amount, const char *part, UsageRange period)
{
	const char *name = price->description != NULL ? price->description : price->metric;
	InvoiceLine *line = draft_add(draft, LINE_USAGE, amount,
								  part == NULL ? name : psprintf("%s: %s", name, part));

	line->component = component;
	line->price_id = price->id;
	line->metric = price->metric;
	line->tax_inclusive = price->tax_inclusive;
	line->period_start = moment_of_unix(unix_seconds(period.start));
	line->period_end = moment_of_unix(unix_seconds(period.end));
	return line;
}

static bool
lies_within(UsageRange part, UsageRange whole)
{
	return whole.start <= part.start && part.end <= whole.end;
}

static Period
period_of_range(UsageRange range)
{
	return (Period){unix_seconds(range.start), unix_seconds(range.end)};
}

const RatedPrice *
usage_price_for(const BilledSubscription *s, const ComponentPrice *price, const DraftUsage *usage)
{
	Proration how = engine_proration(s);
	Period whole = period_of_range(usage->whole);
	Period part = period_of_range(usage->period);
	RatedPrice *made;

	if ((part.start == whole.start && part.end == whole.end) ||
		!lies_within(usage->period, usage->whole))
		return &price->rated;
	made = palloc(sizeof(RatedPrice));
	made->tiers = palloc(sizeof(PriceTier) * Max(price->rated.tier_count, 1));
	require_prorated(price_for_part(&how, &price->rated, &whole, &part, made), price);
	return made;
}

void
bill_usage(InvoiceDraft *draft, const char *component, const ComponentPrice *price,
		   MoneyFraction quantity, const DraftUsage *usage)
{
	const RatedPrice *rated = usage_price_for(draft->subscription, price, usage);
	int room = RATING_LINES(rated->tier_count);
	RatedLine *parts = palloc(sizeof(RatedLine) * room);
	int64 amount;
	int count;

	/* corrections may take more away than there is */
	if (quantity.scaled < 0)
		quantity = money_fraction_from_int(0);
	require_rated(price_lines(rated, quantity, parts, room, &count, &amount), price);
	if (quantity.scaled == 0 && amount == 0)
		return;
	for (int i = 0; i < count; i++)
	{
		InvoiceLine *line;

		if (parts[i].amount == 0 && parts[i].quantity.scaled == 0)
			continue;
		line = add_usage_line(draft, component, price, parts[i].amount, part_of_usage(&parts[i]),
							  usage->period);
		line->tier = parts[i].tier;
		line->has_quantity = true;
		line->quantity = parts[i].quantity;
		line->unit_amount = parts[i].unit_price;
	}
}

UsageRange
whole_containing(const BilledSubscription *s, TimestampTz at)
{
	PeriodSchedule schedule = engine_schedule(s);
	BillingPeriod period;

	if (period_of(&schedule, unix_seconds(at), &period) != PERIOD_OK)
		return (UsageRange){at, at};
	return (UsageRange){moment_of_unix(period.full.start), moment_of_unix(period.full.end)};
}

static const UsageLine *
usage_of_metric(const List *lines, const char *metric)
{
	ListCell *cell;

	foreach (cell, lines)
	{
		const UsageLine *line = lfirst(cell);

		if (!line->correction && strcmp(line->metric, metric) == 0)
			return line;
	}
	return NULL;
}

static void
bill_usage_of_item(InvoiceDraft *draft, const BilledItem *item, const List *lines,
				   const DraftUsage *usage)
{
	const UsageLine *used = usage_of_metric(lines, item->price->metric);

	bill_usage(draft, item->component, item->price,
			   used == NULL ? money_fraction_from_int(0)
							: fraction_of_numeric(used->amounts[CUT_EXACT], "usage"),
			   usage);
}

static void
bill_usage_period(BillingRun *run, InvoiceDraft *draft, const DraftUsage *usage)
{
	const char *organization_id = draft->customer->organization_id;
	const UsageBuyer buyer = {draft->subscription->id, draft->currency};
	List *lines = run->preview ? usage_period_preview(organization_id, usage->period, &buyer)
							   : usage_period_close(organization_id, usage->period, &buyer);
	ListCell *cell;

	if (!run->preview)
		keep_usage_prices(draft, usage);
	foreach (cell, draft->subscription->items)
	{
		const BilledItem *item = lfirst(cell);

		if (!item->removed && item->price->metric != NULL)
			bill_usage_of_item(draft, item, lines, usage);
	}
	bill_corrections(run, draft, lines, usage->period.start);
}

void
engine_bill_usage_of(BillingRun *run, InvoiceDraft *draft)
{
	ListCell *cell;

	if (draft->subscription == NULL)
		return;
	foreach (cell, draft->usage)
		bill_usage_period(run, draft, lfirst(cell));
	draft->usage = NIL;
}

/* Periods one after the other, each with what counts for it. */
static void
add_usage(InvoiceDraft *draft, const BilledSubscription *s, TimestampTz until)
{
	TimestampTz from = s->usage_from;

	while (from < until)
	{
		DraftUsage *usage = palloc(sizeof(DraftUsage));

		usage->whole = whole_containing(s, from);
		usage->period = (UsageRange){from, until};
		if (usage->whole.end > from && usage->whole.end < until)
			usage->period.end = usage->whole.end;
		draft->usage = lappend(draft->usage, usage);
		from = usage->period.end;
	}
}

/*
 * A draft that waits is final a while later, at the prices of then: where they
 * change now, its usage is closed now, and what comes late is a correction.
 */
void
bill_usage_until(BillingRun *run, InvoiceDraft *draft, BilledSubscription *s, TimestampTz until,
				 bool may_wait)
{
	if (s->usage_from == 0 || s->usage_from >= until)
		return;
	add_usage(draft, s, until);
	s->usage_from = until;
	s->changed = true;
	draft->changed = true;
	if (may_wait && s->settings->usage_grace > 0)
		draft->finalize_at = moment_of_unix(unix_seconds(until) + s->settings->usage_grace);
	else
		engine_bill_usage_of(run, draft);
}

/* What another one has billed of the second that it ended in, or will when its last invoice is completed. */
QUERY(
	billed_of_second,
	"SELECT max(b.until) FROM (SELECT c.period_end FROM billing.usage_closings AS c "
	"WHERE c.organization_id = $1 AND c.period_end > $2 AND c.period_end > c.period_start "
	"UNION ALL SELECT $2 + ((p.period ->> 'end')::bigint - $3) * interval '1 microsecond' "
	"FROM billing.invoices AS i, jsonb_array_elements(i.usage -> 'periods') AS p (period) "
	"WHERE i.organization_id = $1 AND i.managed_by = 'local' AND i.status = 'draft') AS b (until) "
	"WHERE b.until > $2 AND b.until < $2 + interval '1 second'",
	TEXTOID, TIMESTAMPTZOID, INT8OID);

TimestampTz
usage_begins(const BilledSubscription *s, TimestampTz at)
{
	RUN(billed_of_second, arg_text(s->customer->organization_id), arg_time(at),
		arg_int(unix_microseconds(at)));
	return Max(at, row_time(0, 1));
}

/* ------------------------------------------------------------------------
 * Usage until a moment, at the prices until then
 * ------------------------------------------------------------------------
 */
/* In a run of its own, whose subscription has the items that are in force. */
void
bill_stored_usage(const pg_uuid_t *subscription_id, pg_uuid_t *draft_id)
{
	BillingRun *run;
	ListCell *cell;

	(void) run_load_one(subscription_id, false, &run);
	run_load_drafts(run, &draft_id, 1);
	foreach (cell, run->drafts)
	{
		InvoiceDraft *draft = lfirst(cell);

		if (!uuid_equal(draft->id, draft_id))
			continue;
		engine_bill_usage_of(run, draft);
		draft->changed = true;
	}
	run_write(run);
}

/*
 * Drafts that wait for late usage are billed for theirs at the prices that were
 * in force, before these change.  They wait on; what comes late is a correction.
 */
void
bill_usage_of_waiting_drafts(BillingRun *run, const BilledSubscription *s)
{
	ListCell *cell;

	foreach (cell, run->drafts)
	{
		InvoiceDraft *draft = lfirst(cell);

		if (draft->subscription != s || draft->is_final || draft->usage == NIL)
			continue;
		engine_bill_usage_of(run, draft);
		draft->changed = true;
	}
}

void
bill_usage_to_pending(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	InvoiceDraft scratch = {.subscription = s,
							.customer = s->customer,
							.currency = s->currency,
							.reason = "subscription_update",
							.made_at = at};

	if (!is_billed(s))
		return;
	bill_usage_until(run, &scratch, s, at, false);
	s->pending = list_concat(s->pending, scratch.lines);
}

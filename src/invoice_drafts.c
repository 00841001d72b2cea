/*-------------------------------------------------------------------------
 *
 * invoice_drafts.c
 *	  An invoice before it has its number: its lines, and its completion.
 *
 * All of it happens in memory; invoice_store.c writes drafts and reads them
 * back.  What a draft is completed with is asked of its owners: usage of the
 * engine, coupons of coupons.c, tax of tax.c, credit and balance of credits.c;
 * the arithmetic is allocation.c.  A draft that adds up to something else than
 * its lines is an error and never reaches a table.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "draft_steps.h"

/* ------------------------------------------------------------------------
 * Kinds of lines
 * ------------------------------------------------------------------------
 */
static const char *const kind_names[LINE_KINDS] = {
	[LINE_BASE] = "base",
	[LINE_SEATS] = "seats",
	[LINE_COMPONENT] = "component",
	[LINE_USAGE] = "usage",
	[LINE_ONE_TIME] = "one_time",
	[LINE_PRORATION_CREDIT] = "proration_credit",
	[LINE_PRORATION_DEBIT] = "proration_debit",
	[LINE_ADJUSTMENT] = "adjustment",
	[LINE_DISCOUNT] = "discount",
	[LINE_TAX] = "tax",
	[LINE_CREDIT] = "credit",
	[LINE_BALANCE] = "balance",
};

const char *
line_kind_name(LineKind kind)
{
	return kind_names[kind];
}

LineKind
line_kind_of(const char *name)
{
	for (int kind = 0; kind < LINE_KINDS; kind++)
	{
		if (strcmp(kind_names[kind], name) == 0)
			return (LineKind) kind;
	}
	elog(ERROR, "no kind of line is named \"%s\"", name);
}

/* What was sold or given back, beside what draft_complete() adds. */
static bool
is_item(const InvoiceLine *line)
{
	return line->kind < LINE_DISCOUNT;
}

/* ------------------------------------------------------------------------
 * A draft and its lines
 * ------------------------------------------------------------------------
 */

/* What waited for the next invoice comes first on it. */
static void
take_pending(InvoiceDraft *draft, BilledSubscription *s)
{
	draft->lines = list_concat(list_copy(s->pending), draft->lines);
	s->pending = NIL;
}

static InvoiceDraft *
draft_new(BillingRun *run, BilledSubscription *s, const char *reason, TimestampTz at)
{
	InvoiceDraft *draft = palloc0(sizeof(InvoiceDraft));

	draft->id = new_id();
	draft->subscription = s;
	draft->customer = s->customer;
	draft->provider = s->provider;
	draft->account = s->account;
	draft->livemode = s->livemode;
	draft->reason = reason;
	draft->currency = s->currency;
	draft->made_at = at;
	draft->period_start = at;
	draft->collection_method = s->collection_method;
	draft->days_until_due = s->days_until_due;
	draft->is_new = true;
	run->drafts = lappend(run->drafts, draft);
	return draft;
}

/*
 * The first invoice of a subscription is for what was subscribed alone; each
 * other one takes along what waits.
 */
InvoiceDraft *
draft_for(BillingRun *run, BilledSubscription *s, const char *reason, TimestampTz at)
{
	InvoiceDraft *draft = NULL;
	ListCell *cell;

	foreach (cell, run->drafts)
	{
		InvoiceDraft *other = lfirst(cell);

		if (other->subscription == s && !other->is_final && other->made_at == at &&
			strcmp(other->reason, reason) == 0)
			draft = other;
	}
	if (draft == NULL)
		draft = draft_new(run, s, reason, at);
	if (strcmp(reason, "subscription_create") != 0)
		take_pending(draft, s);
	draft->changed = true;
	return draft;
}

InvoiceDraft *
draft_that_waits(const BillingRun *run, const BilledSubscription *s, TimestampTz at)
{
	InvoiceDraft *first = NULL;
	ListCell *cell;

	foreach (cell, run->drafts)
	{
		InvoiceDraft *draft = lfirst(cell);

		if (draft->subscription == s && !draft->is_final && draft->finalize_at > at &&
			(first == NULL || draft->finalize_at < first->finalize_at))
			first = draft;
	}
	return first;
}

/* Below what is there: what a maximum takes off stays behind what it is taken off. */
void
pending_to_draft(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	InvoiceDraft *draft = s->pending == NIL ? NULL : draft_that_waits(run, s, at);

	if (draft == NULL)
		return;
	draft->lines = list_concat(draft->lines, s->pending);
	draft->changed = true;
	s->pending = NIL;
}

List *
lines_not_final(const BillingRun *run, const BilledSubscription *s)
{
	List *lines = list_copy(s->pending);
	ListCell *cell;

	foreach (cell, run->drafts)
	{
		const InvoiceDraft *draft = lfirst(cell);

		if (draft->subscription == s && !draft->is_final)
			lines = list_concat(lines, draft->lines);
	}
	return lines;
}

InvoiceLine *
draft_add(InvoiceDraft *draft, LineKind kind, int64 amount, const char *description)
{
	InvoiceLine *line = palloc0(sizeof(InvoiceLine));

	line->id = new_id();
	line->kind = kind;
	line->tier = -1;
	line->description = description;
	line->amount = amount;
	line->discountable = is_item(line) && amount > 0 && kind != LINE_ADJUSTMENT;
	if (is_item(line) && draft->subscription != NULL)
		line->subscription_id = draft->subscription->id;
	draft->lines = lappend(draft->lines, line);
	draft->changed = true;
	return line;
}

/* ------------------------------------------------------------------------
 * Completion
 * ------------------------------------------------------------------------
 */
static void
require_ok(AllocationStatus status, const InvoiceDraft *draft)
{
	if (status == ALLOCATION_OK)
		return;
	if (status == ALLOCATION_OVERFLOW)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("an amount of invoice \"%s\" is too large", uuid_text(draft->id)),
						errdetail("Amounts are up to " INT64_FORMAT " minor units.", INT64_MAX),
						errhint("Its quantities are too large for their prices.")));
	elog(ERROR, "invoice \"%s\" cannot be added up: status %d", uuid_text(draft->id), status);
}

/* A draft on its way through the arithmetic: lines[i] is the draft's line i. */
typedef struct Completion
{
	InvoiceDraft *draft;
	List *coupons;
	List *taxes;
	Allocation allocation;
} Completion;

/* What a maximum takes off stands on a line of its own, below what it is taken off. */
static bool
is_cut_by(const InvoiceLine *line, const InvoiceLine *maximum)
{
	return line->kind == LINE_USAGE && line->amount > 0 && line->reverses == NULL &&
		   strcmp(line->component, maximum->component) == 0 &&
		   line->period_start == maximum->period_start && line->period_end == maximum->period_end;
}

static void
cut_by_maximum(Allocation *a, const InvoiceDraft *draft, int n)
{
	const InvoiceLine *maximum = list_nth(draft->lines, n);
	int64 rest = -maximum->amount;

	for (int i = n - 1; i >= 0 && rest > 0; i--)
	{
		const InvoiceLine *line = list_nth(draft->lines, i);
		int64 part;

		if (!is_cut_by(line, maximum))
			return;
		part = Min(rest, line->amount);
		a->lines[i].cut = part;
		rest -= part;
	}
}

static Completion
completion_begin(BillingRun *run, InvoiceDraft *draft)
{
	int count = list_length(draft->lines);
	Completion c = {.draft = draft};
	Allocation *a = &c.allocation;

	c.coupons = coupons_of(run, draft);
	c.taxes = taxes_of(run, draft);
	a->line_count = count;
	a->lines = palloc0(sizeof(AllocatedLine) * Max(count, 1));
	a->scratch_count = 2 * count;
	a->scratch = palloc(sizeof(int64_t) * Max(2 * count, 1));
	for (int i = 0; i < count; i++)
	{
		const InvoiceLine *line = list_nth(draft->lines, i);

		a->lines[i].amount = line->amount;
		a->lines[i].has_own_tax = line->own_tax;
		a->lines[i].tax = line->own_tax ? line->tax : 0;
		a->lines[i].tax_rate = line->untaxed ? NO_TAX_RATE : tax_of_line(c.taxes, draft, line);
		if (line->kind == LINE_USAGE && line->amount < 0 && line->reverses == NULL)
			cut_by_maximum(a, draft, i);
	}
	a->rate_count = list_length(c.taxes);
	a->rates = palloc0(sizeof(TaxRate) * Max(a->rate_count, 1));
	for (int i = 0; i < a->rate_count; i++)
		a->rates[i] = ((const DraftTax *) list_nth(c.taxes, i))->terms;
	return c;
}

/* What the arithmetic says of each line. */
static void
tell_lines(const Completion *c)
{
	for (int i = 0; i < c->allocation.line_count; i++)
	{
		const AllocatedLine *told = &c->allocation.lines[i];
		InvoiceLine *line = list_nth(c->draft->lines, i);

		line->discount = told->discount;
		line->tax = told->tax;
		if (told->tax_rate != NO_TAX_RATE)
		{
			line->tax_rate_id =
				((const DraftTax *) list_nth(c->taxes, told->tax_rate))->tax_rate_id;
			line->tax_inclusive = c->allocation.rates[told->tax_rate].behavior == TAX_INCLUSIVE;
		}
	}
}

static void
take_percentage(Completion *c, DraftCoupon *coupon)
{
	for (int i = 0; i < c->allocation.line_count; i++)
		c->allocation.lines[i].takes_part = coupon_takes_line(coupon, c->draft,
															  list_nth(c->draft->lines, i));
	require_ok(allocate_discount(&c->allocation, &coupon->terms, &coupon->taken), c->draft);
}

static int64 *
discounts_so_far(const Completion *c)
{
	int64 *discounts = palloc(sizeof(int64) * Max(c->allocation.line_count, 1));

	for (int i = 0; i < c->allocation.line_count; i++)
		discounts[i] = c->allocation.lines[i].discount;
	return discounts;
}

/* Each line remembers what an amount has of it. */
static void
remember_amounts(Completion *c, const DraftCoupon *coupon, const int64 *before)
{
	for (int i = 0; i < c->allocation.line_count; i++)
	{
		InvoiceLine *line = list_nth(c->draft->lines, i);

		line->amounts = amount_taken(line->amounts, coupon->application_id,
									 c->allocation.lines[i].discount - before[i]);
	}
}

static void
take_amount(Completion *c, DraftCoupon *coupon)
{
	int64 *before = discounts_so_far(c);

	for (int i = 0; i < c->allocation.line_count; i++)
	{
		const InvoiceLine *line = list_nth(c->draft->lines, i);

		c->allocation.lines[i].takes_part = coupon_takes_line(coupon, c->draft, line) &&
											!line_is_of_change(c->draft, line);
	}
	require_ok(allocate_discount(&c->allocation, &coupon->terms, &coupon->taken), c->draft);
	remember_amounts(c, coupon, before);
}

/* Off what debits of a change cost in this time: the rest of each is cut off for it. */
static int64
take_kept_part(Completion *c, const DraftCoupon *coupon, const KeptAmount *kept,
			   const int64 *before)
{
	const Coupon terms = {.kind = COUPON_AMOUNT, .amount = kept->amount};
	int64 taken;

	for (int i = 0; i < c->allocation.line_count; i++)
	{
		const InvoiceLine *line = list_nth(c->draft->lines, i);
		AllocatedLine *told = &c->allocation.lines[i];
		int64 part = 0;

		told->takes_part = coupon_takes_line(coupon, c->draft, line) &&
						   line_is_of_change(c->draft, line) && told->amount > 0;
		if (!told->takes_part)
			continue;
		if (money_ratio(told->amount - before[i], debit_within(c->draft, line, &kept->time),
						told->amount, &part) != MONEY_OK)
			require_ok(ALLOCATION_OVERFLOW, c->draft);
		told->cut = Max(told->amount - told->discount - part, 0);
	}
	require_ok(allocate_discount(&c->allocation, &terms, &taken), c->draft);
	for (int i = 0; i < c->allocation.line_count; i++)
	{
		if (c->allocation.lines[i].takes_part)
			c->allocation.lines[i].cut = 0;
	}
	return taken;
}

static void
take_kept(Completion *c, DraftCoupon *coupon)
{
	int64 *before = discounts_so_far(c);
	ListCell *cell;

	foreach (cell, coupon->kept)
		coupon->kept_taken += take_kept_part(c, coupon, lfirst(cell), before);
	remember_amounts(c, coupon, before);
}

/* Coupon after coupon, each off what the ones before have left of its lines. */
static void
take_coupons(Completion *c)
{
	ListCell *cell;

	foreach (cell, c->coupons)
	{
		DraftCoupon *coupon = lfirst(cell);

		if (coupon->terms.kind == COUPON_PERCENT)
		{
			take_percentage(c, coupon);
			continue;
		}
		if (coupon->counts)
			take_amount(c, coupon);
		if (coupon->kept != NIL)
			take_kept(c, coupon);
	}
}

static InvoiceLine *
add_discount(const Completion *c, const DraftCoupon *coupon, int64 taken, const char *description)
{
	InvoiceLine *line = draft_add(c->draft, LINE_DISCOUNT, -taken, description);

	line->coupon_id = coupon->coupon_id;
	return line;
}

static void
add_discounts(const Completion *c)
{
	ListCell *cell;

	foreach (cell, c->coupons)
	{
		const DraftCoupon *coupon = lfirst(cell);

		if (coupon->taken != 0)
			(void) add_discount(c, coupon, coupon->taken, coupon->name);
		if (coupon->kept_taken != 0)
			add_discount(c, coupon, coupon->kept_taken,
						 psprintf("%s: remaining time", coupon->name))
				->amounts = amount_taken(NIL, coupon->application_id, coupon->kept_taken);
	}
}

static bool
rate_is_used(const Completion *c, int rate)
{
	for (int i = 0; i < c->allocation.line_count; i++)
	{
		if (c->allocation.lines[i].tax_rate == rate)
			return true;
	}
	return false;
}

/*
 * A line for each rate: its percentage is the quantity, what it is taken on the
 * unit amount.  Inclusive tax is told and adds nothing; so is a rate of 0 where
 * the law wants a reason.
 */
static void
add_taxes(const Completion *c)
{
	for (int i = 0; i < c->allocation.rate_count; i++)
	{
		const DraftTax *tax = list_nth(c->taxes, i);
		const TaxRate *rate = &c->allocation.rates[i];
		InvoiceLine *line;

		if (!tax->always && !rate_is_used(c, i))
			continue;
		line = draft_add(c->draft, LINE_TAX, rate->behavior == TAX_EXCLUSIVE ? rate->tax : 0,
						 tax->note == NULL      ? tax->name
						 : tax->name[0] == '\0' ? tax->note
												: psprintf("%s: %s", tax->name, tax->note));
		line->tax = rate->tax;
		line->tax_rate_id = tax->tax_rate_id;
		line->tax_inclusive = rate->behavior == TAX_INCLUSIVE;
		line->has_quantity = true;
		line->quantity = rate->percent;
		line->unit_amount = money_fraction_from_int(rate->taxable);
	}
}

/* The two sums that every invoice stands for. */
static void
check_sums(const InvoiceDraft *draft)
{
	MoneyInt128 total = 0;
	MoneyInt128 settled = 0;
	ListCell *cell;

	foreach (cell, draft->lines)
	{
		const InvoiceLine *line = lfirst(cell);

		if (line->kind == LINE_CREDIT || line->kind == LINE_BALANCE)
			settled += line->amount;
		else
			total += line->amount;
	}
	if (total != draft->totals.total || total + settled != draft->due || draft->due < 0 ||
		settled != -((MoneyInt128) draft->credit_used + draft->balance_used))
		elog(ERROR,
			 "invoice \"%s\" does not add up: total " INT64_FORMAT ", due " INT64_FORMAT
			 ", lines " INT64_FORMAT " and " INT64_FORMAT,
			 uuid_text(draft->id), draft->totals.total, draft->due, (int64) total, (int64) settled);
}

/* Nothing to bill: it never was, or is taken away again. */
static void
drop_draft(BillingRun *run, InvoiceDraft *draft)
{
	run->drafts = list_delete_ptr(run->drafts, draft);
	if (!draft->is_new)
		run->dropped = lappend(run->dropped, draft);
}

/* The last invoice, also when nothing is on it but what was carried to it. */
static bool
writes_off(BillingRun *run, const InvoiceDraft *draft)
{
	return strcmp(draft->reason, "subscription_end") == 0 && draft->subscription != NULL &&
		   credits_owe_small(run, draft->subscription);
}

void
draft_complete(BillingRun *run, InvoiceDraft *draft)
{
	Completion c;

	if (draft->is_final)
		elog(ERROR, "invoice \"%s\" is complete already", uuid_text(draft->id));
	if (draft->usage != NIL)
		engine_bill_usage_of(run, draft);
	draft->usage = NIL;
	if (draft->lines == NIL && !writes_off(run, draft))
	{
		drop_draft(run, draft);
		return;
	}
	c = completion_begin(run, draft);
	take_coupons(&c);
	require_ok(allocate_tax(&c.allocation), draft);
	require_ok(allocation_totals(&c.allocation, &draft->totals), draft);
	tell_lines(&c);
	add_discounts(&c);
	add_taxes(&c);
	coupons_taken(draft, c.coupons);
	credits_settle(run, draft, draft->totals.total);
	credits_spare_small(run, draft);
	check_sums(draft);
	draft->is_final = true;
	draft->changed = true;
}

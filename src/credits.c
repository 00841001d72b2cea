/*-------------------------------------------------------------------------
 *
 * credits.c
 *	  What prepaid credits and the balance of a customer pay of a draft.
 *
 * Asked by draft_complete() (invoice_drafts.c), written at the end of the run.
 * Grants and balances of all customers of the run are loaded by the first
 * question, in one statement each; what a draft takes is missing for the next
 * one of the same run, in a preview, too.  Customers are locked by the run, so
 * that nobody else uses the same credit.
 *
 * A grant counts until its expiry, at the invoice's own time.  One that is for
 * components pays no more than what their lines cost with tax.
 *
 *-------------------------------------------------------------------------
 */
#include "credits.h"

#include "columns.h"
#include "draft_steps.h"
#include "json.h"

typedef struct CreditGrant
{
	pg_uuid_t *id;
	char *name;
	char *currency;
	int64 remaining;
	TimestampTz expires_at; /* 0: never */
	List *components;       /* char; NIL: all */
} CreditGrant;

typedef struct CurrencyBalance
{
	char *currency;
	int64 balance;
} CurrencyBalance;

typedef struct GrantUse
{
	const CreditGrant *grant;
	int64 amount;
} GrantUse;

/* What a draft took, until it is written. */
typedef struct SettledDraft
{
	const InvoiceDraft *draft;
	List *uses; /* GrantUse */
} SettledDraft;

struct CustomerCredits
{
	List *grants;   /* CreditGrant, in the order in which they are used */
	List *balances; /* CurrencyBalance */
	List *settled;  /* SettledDraft, in order */
};

/* ---- loading ---- */

QUERY(load_grants,
	  "SELECT u.n, g.id, g.name, g.currency, g.remaining, g.expires_at, "
	  "array_to_json(g.components)::jsonb FROM unnest($1::uuid[]) WITH ORDINALITY AS u (id, n) "
	  "JOIN billing.credit_grants AS g ON g.customer_id = u.id AND g.remaining > 0 "
	  "ORDER BY g.priority, g.expires_at NULLS LAST, g.granted_at, g.id",
	  UUIDARRAYOID);
QUERY(load_balances,
	  "SELECT u.n, b.currency, b.balance FROM unnest($1::uuid[]) WITH ORDINALITY AS u (id, n) "
	  "JOIN billing.customer_balances AS b ON b.customer_id = u.id AND b.balance <> 0",
	  UUIDARRAYOID);

static CreditGrant *
grant_from_row(Rows rows, int64 row)
{
	CreditGrant *grant = palloc0(sizeof(CreditGrant));
	Jsonb *components = rows_json(rows, row, 7);

	grant->id = rows_uuid(rows, row, 2);
	grant->name = rows_text(rows, row, 3);
	grant->currency = rows_text(rows, row, 4);
	grant->remaining = rows_int(rows, row, 5);
	grant->expires_at = rows_time(rows, row, 6);
	for (int i = 0; components != NULL && i < json_length(components, ""); i++)
		grant->components = lappend(grant->components, json_text(components, psprintf("%d", i)));
	return grant;
}

static void
load_all(BilledCustomer **asked, pg_uuid_t *const *ids, int count)
{
	Arg customers = arg_uuids(ids, count);
	int64 found = RUN(load_grants, customers);

	for (int64 i = 0; i < found; i++)
	{
		CustomerCredits *credits = asked[row_int(i, 1) - 1]->credits;

		credits->grants = lappend(credits->grants, grant_from_row(SPI_tuptable, i));
	}
	found = RUN(load_balances, customers);
	for (int64 i = 0; i < found; i++)
	{
		CustomerCredits *credits = asked[row_int(i, 1) - 1]->credits;
		CurrencyBalance *balance = palloc(sizeof(CurrencyBalance));

		balance->currency = row_text(i, 2);
		balance->balance = row_int(i, 3);
		credits->balances = lappend(credits->balances, balance);
	}
}

/* Of all customers of the run that were not asked about yet. */
static void
credits_load(BillingRun *run, BilledCustomer *wanted)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(run));
	List *all = list_append_unique_ptr(list_copy(run->customers), wanted);
	BilledCustomer **asked = palloc(sizeof(BilledCustomer *) * list_length(all));
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * list_length(all));
	int count = 0;
	ListCell *cell;

	foreach (cell, all)
	{
		BilledCustomer *customer = lfirst(cell);

		if (customer->credits != NULL)
			continue;
		customer->credits = palloc0(sizeof(CustomerCredits));
		asked[count] = customer;
		ids[count++] = customer->id;
	}
	load_all(asked, ids, count);
	MemoryContextSwitchTo(old);
}

/* ---- what they pay ---- */

static CurrencyBalance *
balance_in(CustomerCredits *credits, const char *currency)
{
	CurrencyBalance *balance;
	ListCell *cell;

	foreach (cell, credits->balances)
	{
		balance = lfirst(cell);
		if (strcmp(balance->currency, currency) == 0)
			return balance;
	}
	balance = palloc0(sizeof(CurrencyBalance));
	balance->currency = pstrdup(currency);
	credits->balances = lappend(credits->balances, balance);
	return balance;
}

static List *
usable_grants(const CustomerCredits *credits, const InvoiceDraft *draft)
{
	List *usable = NIL;
	ListCell *cell;

	foreach (cell, credits->grants)
	{
		CreditGrant *grant = lfirst(cell);

		if (grant->remaining > 0 && strcmp(grant->currency, draft->currency) == 0 &&
			(grant->expires_at == 0 || draft->made_at < grant->expires_at))
			usable = lappend(usable, grant);
	}
	return usable;
}

static bool
grant_pays(const CreditGrant *grant, const InvoiceLine *line)
{
	ListCell *cell;

	if (grant->components == NIL)
		return true;
	foreach (cell, grant->components)
	{
		const char *component = lfirst(cell);

		if ((line->component != NULL && strcmp(component, line->component) == 0) ||
			(line->metric != NULL && strcmp(component, line->metric) == 0))
			return true;
	}
	return false;
}

/* What there is to pay of each line; of those that give back nothing. */
static int64 *
costs_of_lines(const InvoiceDraft *draft)
{
	int64 *costs = palloc0(sizeof(int64) * Max(list_length(draft->lines), 1));

	for (int i = 0; i < list_length(draft->lines); i++)
	{
		const InvoiceLine *line = list_nth(draft->lines, i);

		if (line->kind < LINE_DISCOUNT && line->amount > 0)
			costs[i] = line->amount - line->discount +
					   (line->tax_rate_id != NULL && !line->tax_inclusive ? line->tax : 0);
	}
	return costs;
}

/* Takes up to an amount off what the grant pays; returns how much that was. */
static int64
take_from_lines(const CreditGrant *grant, const InvoiceDraft *draft, int64 *costs, int64 amount)
{
	int64 taken = 0;

	for (int i = 0; i < list_length(draft->lines) && taken < amount; i++)
	{
		int64 part = Min(costs[i], amount - taken);

		if (part > 0 && grant_pays(grant, list_nth(draft->lines, i)))
		{
			costs[i] -= part;
			taken += part;
		}
	}
	return taken;
}

/* How much each grant may pay, in their order. */
static PrepaidCredit *
available_credits(List *grants, const InvoiceDraft *draft, int64 total)
{
	PrepaidCredit *credits = palloc0(sizeof(PrepaidCredit) * Max(list_length(grants), 1));
	int64 *costs = grants != NIL ? costs_of_lines(draft) : NULL;
	int64 left = Max(total, 0);

	for (int i = 0; i < list_length(grants); i++)
	{
		const CreditGrant *grant = list_nth(grants, i);
		int64 most = Min(grant->remaining, left);
		int64 paid = take_from_lines(grant, draft, costs, most);

		/* one for everything pays the total, whatever its lines are */
		credits[i].available = grant->components == NIL ? most : paid;
		left -= credits[i].available;
	}
	return credits;
}

static void
add_credit_lines(InvoiceDraft *draft, SettledDraft *settled, List *grants,
				 const PrepaidCredit *credits)
{
	for (int i = 0; i < list_length(grants); i++)
	{
		CreditGrant *grant = list_nth(grants, i);
		GrantUse *use;

		if (credits[i].used == 0)
			continue;
		use = palloc(sizeof(GrantUse));
		use->grant = grant;
		use->amount = credits[i].used;
		settled->uses = lappend(settled->uses, use);
		grant->remaining -= credits[i].used;
		draft_add(draft, LINE_CREDIT, -credits[i].used, grant->name)->grant_id = grant->id;
	}
}

/* Below 0 it is owed: that is asked for, or set off against a total below 0, before anything is kept. */
static const char *
balance_text(int64 used, int64 before)
{
	if (used > 0)
		return "Paid by balance";
	if (before >= 0)
		return "Kept as balance";
	return used >= before ? "Owed from before" : "Owed from before, the rest kept as balance";
}

void
credits_settle(BillingRun *run, InvoiceDraft *draft, int64 total)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(run));
	CustomerCredits *credits;
	CurrencyBalance *balance;
	List *grants;
	PrepaidCredit *available;
	Settlement made;
	SettledDraft *settled = palloc0(sizeof(SettledDraft));

	if (draft->customer->credits == NULL)
		credits_load(run, draft->customer);
	credits = draft->customer->credits;
	balance = balance_in(credits, draft->currency);
	grants = usable_grants(credits, draft);
	available = available_credits(grants, draft, total);
	if (allocation_settle(total, available, list_length(grants), balance->balance, &made) !=
		ALLOCATION_OK)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("the balance of organization \"%s\" is too large",
							   draft->customer->organization_id),
						errdetail("It is " INT64_FORMAT " and the invoice " INT64_FORMAT ".",
								  balance->balance, total),
						errhint("billing.adjust_balance() corrects a balance.")));
	settled->draft = draft;
	add_credit_lines(draft, settled, grants, available);
	draft->credit_used = made.credit_used;
	draft->balance_used = made.balance_used;
	draft->due = made.due;
	if (made.balance_used != 0)
		draft_add(draft, LINE_BALANCE, -made.balance_used,
				  balance_text(made.balance_used, balance->balance));
	balance->balance = made.balance_after;
	credits->settled = lappend(credits->settled, settled);
	MemoryContextSwitchTo(old);
}

/* ---- what is too little to be charged ---- */

/* Of a provider and a currency, asked once for a run. */
typedef struct SmallestCharge
{
	const char *provider;
	const char *currency;
	int64 amount; /* minor units; 0: no limit */
} SmallestCharge;

static int64
smallest_charge_of(BillingRun *run, const char *provider, const char *currency)
{
	SmallestCharge *smallest;
	ListCell *cell;

	foreach (cell, run->minimums)
	{
		smallest = lfirst(cell);
		if (strcmp(smallest->provider, provider) == 0 && strcmp(smallest->currency, currency) == 0)
			return smallest->amount;
	}
	smallest = palloc(sizeof(SmallestCharge));
	smallest->provider = provider;
	smallest->currency = currency;
	smallest->amount = collection_minimum(provider, currency);
	run->minimums = lappend(run->minimums, smallest);
	return smallest->amount;
}

/* The line of kind balance, where there is one, tells both what was owed before and what is now. */
static void
carry(InvoiceDraft *draft)
{
	CurrencyBalance *balance = balance_in(draft->customer->credits, draft->currency);
	InvoiceLine *line = NULL;
	ListCell *cell;

	foreach (cell, draft->lines)
	{
		if (((InvoiceLine *) lfirst(cell))->kind == LINE_BALANCE)
			line = lfirst(cell);
	}
	balance->balance -= draft->due;
	draft->balance_used += draft->due;
	draft->due = 0;
	if (line == NULL)
		line = draft_add(draft, LINE_BALANCE, 0, NULL);
	line->amount = -draft->balance_used;
	line->description = "Owed with the next invoice";
	if (line->amount == 0)
		draft->lines = list_delete_ptr(draft->lines, line);
}

/* Its tax stays: it is due to the state whoever pays it. */
static void
write_off(InvoiceDraft *draft)
{
	InvoiceLine *line = draft_add(draft, LINE_ADJUSTMENT, -draft->due, "Too little to be charged");

	line->untaxed = true;
	draft->totals.subtotal -= draft->due;
	draft->totals.total -= draft->due;
	draft->due = 0;
}

QUERY(
	others_of_customer,
	"SELECT s.id FROM billing.subscriptions AS s WHERE s.customer_id = $1 AND s.currency = $2 AND s.managed_by = 'local' "
	"AND s.status IN ('trialing', 'active', 'past_due', 'unpaid', 'paused')",
	UUIDOID, TEXTOID);

/* As the run has it, which is written later. */
static bool
ends_in_run(const BillingRun *run, const pg_uuid_t *id)
{
	ListCell *cell;

	foreach (cell, run->subscriptions)
	{
		const BilledSubscription *s = lfirst(cell);

		if (uuid_equal(s->id, id))
			return is_status(s, "canceled");
	}
	return false;
}

/* No other subscription of the customer will have an invoice that takes along what is owed. */
static bool
is_the_last(const BillingRun *run, const pg_uuid_t *customer_id, const char *currency,
			const BilledSubscription *ending)
{
	int64 count = RUN(others_of_customer, arg_uuid(customer_id), arg_text(currency));

	for (int64 i = 0; i < count; i++)
	{
		const pg_uuid_t *id = row_uuid(i, 1);

		if ((ending == NULL || !uuid_equal(id, ending->id)) && !ends_in_run(run, id))
			return false;
	}
	return true;
}

void
credits_spare_small(BillingRun *run, InvoiceDraft *draft)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(run));

	if (draft->due > 0 && strcmp(draft->collection_method, "charge_automatically") == 0 &&
		draft->due < smallest_charge_of(run, draft->provider, draft->currency))
	{
		if (strcmp(draft->reason, "subscription_end") == 0 &&
			is_the_last(run, draft->customer->id, draft->currency, draft->subscription))
			write_off(draft);
		else
			carry(draft);
	}
	MemoryContextSwitchTo(old);
}

bool
credits_owe_small(BillingRun *run, const BilledSubscription *s)
{
	int64 owed;

	if (strcmp(s->collection_method, "charge_automatically") != 0)
		return false;
	if (s->customer->credits == NULL)
		credits_load(run, s->customer);
	owed = -balance_in(s->customer->credits, s->currency)->balance;
	return owed > 0 && owed < smallest_charge_of(run, s->provider, s->currency) &&
		   is_the_last(run, s->customer->id, s->currency, s);
}

/* ---- writing ---- */

QUERY(
	take_grants,
	"WITH used AS (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[]) "
	"AS u (grant_id, invoice_id, amount, occurred_at)), "
	"taken AS (UPDATE billing.credit_grants AS g SET remaining = g.remaining - s.amount "
	"FROM (SELECT u.grant_id, sum(u.amount)::bigint AS amount FROM used AS u GROUP BY u.grant_id) "
	"AS s WHERE g.id = s.grant_id RETURNING g.id, g.organization_id) "
	"INSERT INTO billing.credit_grant_entries (grant_id, organization_id, kind, amount, invoice_id, "
	"occurred_at) SELECT u.grant_id, t.organization_id, 'use', -u.amount, u.invoice_id, "
	"u.occurred_at FROM used AS u JOIN taken AS t ON t.id = u.grant_id",
	UUIDARRAYOID, UUIDARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID);

/* What there is to write, one after the other. */
typedef struct Taken
{
	int uses;
	int entries;
	Column grant_id;
	Column invoice_id;
	Column amount;
	Column occurred_at;
	BalanceEntry *balance;
} Taken;

static void
count_taken(const CustomerCredits *credits, int *uses, int *entries)
{
	ListCell *cell;

	foreach (cell, credits->settled)
	{
		const SettledDraft *settled = lfirst(cell);

		*uses += list_length(settled->uses);
		*entries += settled->draft->balance_used != 0;
	}
}

static void
add_taken(Taken *taken, const BilledCustomer *customer, const SettledDraft *settled)
{
	const InvoiceDraft *draft = settled->draft;
	ListCell *cell;

	foreach (cell, settled->uses)
	{
		const GrantUse *use = lfirst(cell);

		column_pointer(&taken->grant_id, taken->uses, use->grant->id);
		column_pointer(&taken->invoice_id, taken->uses, draft->id);
		column_int(&taken->amount, taken->uses, use->amount);
		taken->occurred_at.values[taken->uses++] = TimestampTzGetDatum(draft->made_at);
	}
	if (draft->balance_used != 0)
		taken->balance[taken->entries++] = (BalanceEntry){
			.customer_id = customer->id,
			.currency = draft->currency,
			.amount = -draft->balance_used,
			.reason = "invoice",
			.source_type = "invoice",
			.source_id = draft->id,
			.occurred_at = draft->made_at,
		};
}

void
credits_write(BillingRun *run)
{
	int uses = 0;
	int entries = 0;
	Taken taken = {0};
	ListCell *cell;

	foreach (cell, run->customers)
	{
		const BilledCustomer *customer = lfirst(cell);

		if (customer->credits != NULL)
			count_taken(customer->credits, &uses, &entries);
	}
	taken.grant_id = COLUMN_UUID(uses);
	taken.invoice_id = COLUMN_UUID(uses);
	taken.amount = COLUMN_INT(uses);
	taken.occurred_at = COLUMN_TIME(uses);
	taken.balance = palloc(sizeof(BalanceEntry) * Max(entries, 1));
	foreach (cell, run->customers)
	{
		const BilledCustomer *customer = lfirst(cell);
		ListCell *one;

		if (customer->credits == NULL)
			continue;
		foreach (one, customer->credits->settled)
			add_taken(&taken, customer, lfirst(one));
		customer->credits->settled = NIL;
	}
	if (uses > 0)
		RUN(take_grants, column_arg(&taken.grant_id, uses), column_arg(&taken.invoice_id, uses),
			column_arg(&taken.amount, uses), column_arg(&taken.occurred_at, uses));
	if (entries > 0)
		(void) balance_entries_write(taken.balance, entries);
}

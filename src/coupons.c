/*-------------------------------------------------------------------------
 *
 * coupons.c
 *	  Coupons in a run: which of them a draft is discounted by.
 *
 * Asked by draft_complete() (invoice_drafts.c) and told what it took; written
 * at the end of the run.  The applied coupons of all customers of the run are
 * loaded by the first question, in one statement.  What coupons there are and
 * who gets one stands in coupon_terms.c.
 *
 * What counts is the invoice's own time: one that was applied later, or was over
 * by then, takes nothing off.  What is invoiced before its period counts by the
 * beginning of that, so that months are as many for who pays to a reference.  What a void
 * invoice used was not used.
 *
 *-------------------------------------------------------------------------
 */
#include "coupons.h"

#include "columns.h"
#include "draft_steps.h"

struct CustomerCoupons
{
	List *applied; /* AppliedCoupon, in their order */
};

/* ---- loading ---- */

/* An amount that is over counts for the rest of a period that it was taken off. */
QUERY(load_applied,
	  "SELECT u.n, a.id, a.subscription_id, a.applied_at, a.ends_at, o.is_over, " COUPON_COLUMNS
	  " FROM unnest($1::uuid[]) WITH ORDINALITY AS u (id, n) "
	  "JOIN billing.applied_coupons AS a ON a.customer_id = u.id "
	  "JOIN billing.coupons AS c ON c.id = a.coupon_id "
	  "CROSS JOIN LATERAL (SELECT a.removed_at IS NOT NULL OR a.used_up AS is_over) AS o "
	  "WHERE NOT o.is_over OR c.amount IS NOT NULL ORDER BY a.applied_at, a.id",
	  UUIDARRAYOID);

static AppliedCoupon *
applied_from_row(Rows rows, int64 row)
{
	AppliedCoupon *applied = palloc0(sizeof(AppliedCoupon));

	applied->id = rows_uuid(rows, row, 2);
	applied->subscription_id = rows_uuid(rows, row, 3);
	applied->applied_at = rows_time(rows, row, 4);
	applied->ends_at = rows_time(rows, row, 5);
	applied->used_up = rows_bool(rows, row, 6);
	applied->coupon = coupon_from_row(rows, row, 7);
	return applied;
}

/* Of all customers of the run that were not asked about yet. */
static void
coupons_load(BillingRun *run, BilledCustomer *wanted)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(run));
	List *all = list_append_unique_ptr(list_copy(run->customers), wanted);
	BilledCustomer **asked = palloc(sizeof(BilledCustomer *) * list_length(all));
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * list_length(all));
	int count = 0;
	int64 found;
	ListCell *cell;

	foreach (cell, all)
	{
		BilledCustomer *customer = lfirst(cell);

		if (customer->coupons != NULL)
			continue;
		customer->coupons = palloc0(sizeof(CustomerCoupons));
		asked[count] = customer;
		ids[count++] = customer->id;
	}
	found = RUN(load_applied, arg_uuids(ids, count));
	for (int64 i = 0; i < found; i++)
	{
		CustomerCoupons *coupons = asked[row_int(i, 1) - 1]->coupons;

		coupons->applied = lappend(coupons->applied, applied_from_row(SPI_tuptable, i));
	}
	MemoryContextSwitchTo(old);
}

static CustomerCoupons *
coupons_of_customer(BillingRun *run, BilledCustomer *customer)
{
	if (customer->coupons == NULL)
		coupons_load(run, customer);
	return customer->coupons;
}

/* ---- what counts for a draft ---- */

static bool
is_over(const AppliedCoupon *applied, const InvoiceDraft *draft)
{
	return applied->ends_at != 0 && Max(draft->made_at, draft->period_start) >= applied->ends_at;
}

static bool
counts_for(const AppliedCoupon *applied, const InvoiceDraft *draft)
{
	const StoredCoupon *coupon = applied->coupon;

	if (applied->used_up || draft->made_at < applied->applied_at || is_over(applied, draft))
		return false;
	if (coupon->currency != NULL && strcmp(coupon->currency, draft->currency) != 0)
		return false;
	if (draft->subscription == NULL)
		return applied->subscription_id == NULL && coupon->plan_ids == NIL;
	return (applied->subscription_id == NULL ||
			uuid_equal(applied->subscription_id, draft->subscription->id)) &&
		   coupon_is_for_plan(coupon, draft->subscription->plan_id);
}

/* Of a coupon for other plans nothing is kept by a change to this one. */
static List *
kept_of(const AppliedCoupon *applied, const InvoiceDraft *draft)
{
	if (applied->coupon->terms.kind != COUPON_AMOUNT || draft->subscription == NULL ||
		!coupon_is_for_plan(applied->coupon, draft->subscription->plan_id))
		return NIL;
	return amounts_kept(draft, applied->id);
}

List *
coupons_of(BillingRun *run, const InvoiceDraft *draft)
{
	List *found = NIL;
	ListCell *cell;

	foreach (cell, coupons_of_customer(run, draft->customer)->applied)
	{
		AppliedCoupon *applied = lfirst(cell);
		bool is_amount = applied->coupon->terms.kind == COUPON_AMOUNT;
		bool counts = counts_for(applied, draft) && (!is_amount || draft_takes_amounts(draft));
		List *kept = kept_of(applied, draft);
		DraftCoupon *coupon;

		if (!counts && kept == NIL)
			continue;
		coupon = palloc0(sizeof(DraftCoupon));
		coupon->counts = counts;
		coupon->kept = kept;
		coupon->coupon_id = applied->coupon->id;
		coupon->application_id = applied->id;
		coupon->name = applied->coupon->name;
		coupon->terms = applied->coupon->terms;
		coupon->applied = applied;
		found = lappend(found, coupon);
	}
	return found;
}

bool
coupon_takes_line(const DraftCoupon *coupon, const InvoiceDraft *draft, const InvoiceLine *line)
{
	ListCell *cell;

	if (!line->discountable)
		return false;
	if (coupon->applied->coupon->components == NIL)
		return true;
	foreach (cell, coupon->applied->coupon->components)
	{
		if (line->component != NULL && strcmp(lfirst(cell), line->component) == 0)
			return true;
	}
	return false;
}

void
coupons_taken(const InvoiceDraft *draft, List *coupons)
{
	ListCell *cell;

	foreach (cell, coupons)
	{
		const DraftCoupon *coupon = lfirst(cell);

		if (coupon->taken == 0)
			continue;
		coupon->applied->new_uses++;
		if (coupon->applied->coupon->once)
			coupon->applied->used_up = true;
	}
}

void
coupon_apply_in_run(BillingRun *run, BilledSubscription *s, const char *code, TimestampTz at)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(run));
	CustomerCoupons *coupons = coupons_of_customer(run, s->customer);
	CouponTarget target = {
		.customer_id = s->customer->id,
		.organization_id = s->customer->organization_id,
		.subscription_id = s->id,
		.plan_id = s->plan_id,
		.currency = s->currency,
		.zone = s->zone_name,
		.at = at,
		.starts_at = subscription_starts_at(s),
	};
	AppliedCoupon *applied;
	ListCell *cell;

	applied = coupon_redeem(code, &target, run->preview);
	foreach (cell, coupons->applied)
	{
		const AppliedCoupon *other = lfirst(cell);

		if (uuid_equal(other->coupon->id, applied->coupon->id) && other->subscription_id != NULL &&
			uuid_equal(other->subscription_id, s->id) && !other->used_up &&
			(other->ends_at == 0 || other->ends_at > at))
			coupon_refuse_twice(code);
	}
	applied->is_new = true;
	coupons->applied = lappend(coupons->applied, applied);
	run_event(run, "coupon.applied", "applied_coupon", applied->id, s->customer->organization_id,
			  NULL, "active");
	MemoryContextSwitchTo(old);
}

/* ---- writing ---- */

QUERY(
	insert_applied,
	"INSERT INTO billing.applied_coupons (id, coupon_id, customer_id, organization_id, "
	"subscription_id, applied_at, ends_at, uses, used_up) "
	"SELECT u.id, u.coupon_id, u.customer_id, c.organization_id, u.subscription_id, u.applied_at, "
	"u.ends_at, u.uses, u.used_up <> 0 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], "
	"$5::timestamptz[], $6::timestamptz[], $7::bigint[], $8::bigint[]) AS u (id, coupon_id, "
	"customer_id, subscription_id, applied_at, ends_at, uses, used_up) "
	"JOIN billing.customers AS c ON c.id = u.customer_id",
	UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID, TIMESTAMPTZARRAYOID,
	TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID);
QUERY(
	update_applied,
	"UPDATE billing.applied_coupons AS a SET uses = a.uses + u.uses, used_up = u.used_up <> 0 "
	"FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS u (id, uses, used_up) WHERE a.id = u.id",
	UUIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID);

typedef struct AppliedRow
{
	const BilledCustomer *customer;
	AppliedCoupon *applied;
} AppliedRow;

static void
insert_rows(const AppliedRow *rows, int count)
{
	Column id = COLUMN_UUID(count);
	Column coupon_id = COLUMN_UUID(count);
	Column customer_id = COLUMN_UUID(count);
	Column subscription_id = COLUMN_UUID(count);
	Column applied_at = COLUMN_TIME(count);
	Column ends_at = COLUMN_TIME(count);
	Column uses = COLUMN_INT(count);
	Column used_up = COLUMN_INT(count);

	if (count == 0)
		return;
	for (int i = 0; i < count; i++)
	{
		const AppliedCoupon *a = rows[i].applied;

		column_pointer(&id, i, a->id);
		column_pointer(&coupon_id, i, a->coupon->id);
		column_pointer(&customer_id, i, rows[i].customer->id);
		column_pointer(&subscription_id, i, a->subscription_id);
		column_time(&applied_at, i, a->applied_at);
		column_time(&ends_at, i, a->ends_at);
		column_int(&uses, i, a->new_uses);
		column_int(&used_up, i, a->used_up);
	}
	RUN(insert_applied, column_arg(&id, count), column_arg(&coupon_id, count),
		column_arg(&customer_id, count), column_arg(&subscription_id, count),
		column_arg(&applied_at, count), column_arg(&ends_at, count), column_arg(&uses, count),
		column_arg(&used_up, count));
}

static void
update_rows(const AppliedRow *rows, int count)
{
	Column id = COLUMN_UUID(count);
	Column uses = COLUMN_INT(count);
	Column used_up = COLUMN_INT(count);

	if (count == 0)
		return;
	for (int i = 0; i < count; i++)
	{
		column_pointer(&id, i, rows[i].applied->id);
		column_int(&uses, i, rows[i].applied->new_uses);
		column_int(&used_up, i, rows[i].applied->used_up);
	}
	RUN(update_applied, column_arg(&id, count), column_arg(&uses, count),
		column_arg(&used_up, count));
}

static int
applied_count(const BillingRun *run)
{
	int count = 0;
	ListCell *cell;

	foreach (cell, run->customers)
	{
		const BilledCustomer *customer = lfirst(cell);

		if (customer->coupons != NULL)
			count += list_length(customer->coupons->applied);
	}
	return count;
}

void
coupons_write(BillingRun *run)
{
	int most = applied_count(run);
	AppliedRow *added;
	AppliedRow *used;
	int added_count = 0;
	int used_count = 0;
	ListCell *cell;

	if (most == 0)
		return;
	added = palloc(sizeof(AppliedRow) * most);
	used = palloc(sizeof(AppliedRow) * most);
	foreach (cell, run->customers)
	{
		const BilledCustomer *customer = lfirst(cell);
		ListCell *one;

		if (customer->coupons == NULL)
			continue;
		foreach (one, customer->coupons->applied)
		{
			AppliedRow row = {customer, lfirst(one)};

			if (row.applied->is_new)
				added[added_count++] = row;
			else if (row.applied->new_uses > 0)
				used[used_count++] = row;
		}
	}
	insert_rows(added, added_count);
	update_rows(used, used_count);
	for (int i = 0; i < added_count; i++)
	{
		added[i].applied->is_new = false;
		added[i].applied->new_uses = 0;
	}
	for (int i = 0; i < used_count; i++)
		used[i].applied->new_uses = 0;
}

/* ---- giving back ---- */

/*
 * A line of a discount names its coupon; whose use it was, the latest ones by
 * then, as many as there are lines.  What a change keeps of an amount is no use.  One that the customer has again meanwhile
 * stays used: it counts once at a time.
 */
QUERY(
	give_back_uses,
	"UPDATE billing.applied_coupons AS a SET uses = a.uses - 1, used_up = false "
	"FROM (SELECT o.id, t.lines, row_number() OVER (PARTITION BY o.coupon_id ORDER BY o.applied_at DESC, o.id DESC) AS n "
	"FROM (SELECT l.coupon_id, i.customer_id, i.subscription_id, i.issued_at, count(*) AS lines "
	"FROM billing.invoices AS i JOIN billing.invoice_lines AS l ON l.invoice_id = i.id AND l.kind = 'discount' "
	"AND l.amount_coupons IS NULL WHERE i.id = $1 GROUP BY l.coupon_id, i.id) AS t "
	"JOIN billing.applied_coupons AS o ON o.coupon_id = t.coupon_id AND o.customer_id = t.customer_id "
	"AND (o.subscription_id IS NULL OR o.subscription_id = t.subscription_id) "
	"AND o.uses > 0 AND o.applied_at <= t.issued_at) AS u "
	"WHERE a.id = u.id AND u.n <= u.lines AND NOT (a.used_up AND EXISTS (SELECT FROM billing.applied_coupons AS b "
	"WHERE b.coupon_id = a.coupon_id AND b.customer_id = a.customer_id "
	"AND b.subscription_id IS NOT DISTINCT FROM a.subscription_id AND b.removed_at IS NULL AND NOT b.used_up AND b.ends_at IS NULL))",
	UUIDOID);

void
coupons_release(const pg_uuid_t *invoice_id)
{
	RUN(give_back_uses, arg_uuid(invoice_id));
}

/* One that took something off what was paid all the same stays redeemed. */
QUERY(
	end_applied,
	"WITH ended AS (UPDATE billing.applied_coupons AS a SET removed_at = greatest($2, a.applied_at) "
	"WHERE a.subscription_id = $1 AND a.removed_at IS NULL AND NOT a.used_up "
	"RETURNING a.id, a.coupon_id, a.uses), "
	"given AS (UPDATE billing.coupons AS c SET redemptions = c.redemptions - n.unused "
	"FROM (SELECT e.coupon_id, count(*) AS unused FROM ended AS e WHERE e.uses = 0 GROUP BY e.coupon_id) AS n "
	"WHERE c.id = n.coupon_id) "
	"SELECT e.id FROM ended AS e ORDER BY e.id",
	UUIDOID, TIMESTAMPTZOID);

void
coupons_end(const BilledSubscription *s, TimestampTz at)
{
	int64 count = RUN(end_applied, arg_uuid(s->id), arg_time(at));
	Rows rows = rows_keep();

	for (int64 i = 0; i < count; i++)
		event_record("coupon.removed", "applied_coupon", rows_uuid(rows, i, 1),
					 s->customer->organization_id, "active", "removed");
}

/*-------------------------------------------------------------------------
 *
 * given_back.c
 *	  What changes gave back of the lines of an invoice follows what is paid of it.
 *
 * A change gives back of a line for its unused time what was paid of it by then
 * (engine_rest.c); what that lacks is kept with the credit (not_covered).
 * When the invoice is paid, a credit note gives it to the balance, in the
 * transaction of the news.
 *
 * The other way round a line is given back in full, though it is not paid, when
 * no time of it has passed, or when a catch-up takes its invoice for paid.  That
 * is as good as money, since the invoice is still owed.  Where it is given up
 * that is no more so, and the balance loses what was given and not paid, at most
 * what is missing of the invoice; it gets that again as it is paid.
 *
 * Nor is it where the money goes back: callers cannot refund what was given back
 * as credit (refunds.c), but people at the provider and banks can.  What was
 * given then is more than what was kept, and the balance loses the difference,
 * until the refund fails or the bank gives it back.
 *
 * All are computed from what there is, and only what is missing is done.  So it
 * can be asked for as often as one likes, in whatever order the news come.
 * Invoices of providers have no lines of ours, so nothing of theirs is ever
 * given back by us.
 *
 *-------------------------------------------------------------------------
 */
#include "given_back.h"

#include "payments.h"

/* What the customer pays of a line; what a credit note takes back of it. */
#define GROSS(l) \
	"(" l ".amount - " l ".discount + CASE WHEN " l ".tax_inclusive THEN 0 ELSE " l ".tax END)"
#define TAKEN_BACK(l)                                                                   \
	"coalesce((SELECT sum(t.amount + CASE WHEN t.tax_inclusive THEN 0 ELSE t.tax END) " \
	"FROM billing.credit_note_lines AS t WHERE t.invoice_line_id = " l ".id), 0)"

/* By credits that count, less what others took back of them: of a line l. */
#define GIVEN                                                                                          \
	"CROSS JOIN LATERAL (SELECT coalesce(-sum(" GROSS("r") " - " TAKEN_BACK(                           \
		"r") "), 0) AS amount "                                                                        \
			 "FROM billing.invoice_lines AS r LEFT JOIN billing.invoices AS v ON v.id = r.invoice_id " \
			 "WHERE r.reverses = l.id AND v.status IS DISTINCT FROM 'void') AS given "

/* ---- what was not paid is ---- */

/* Of most invoices nothing is, and most news come to this. */
QUERY(
	any_missing,
	"SELECT FROM billing.invoices AS i JOIN billing.invoice_lines AS l ON l.invoice_id = i.id "
	"JOIN billing.invoice_lines AS r ON r.reverses = l.id "
	"WHERE i.id = $1 AND i.managed_by = 'local' AND i.status = 'paid' AND r.not_covered > 0 LIMIT 1",
	UUIDOID);
QUERY(find_missing,
	  "SELECT n.line_id, n.credit_line_id, n.description, n.period_start, n.period_end, n.amount "
	  "FROM billing.not_given_back($1) AS n",
	  UUIDOID);

static void
give_missing(const pg_uuid_t *invoice_id)
{
	List *times = NIL;
	int64 count;
	Rows rows;

	if (RUN(any_missing, arg_uuid(invoice_id)) == 0)
		return;
	count = RUN(find_missing, arg_uuid(invoice_id));
	rows = rows_keep();
	if (count == 0)
		return;
	for (int64 row = 0; row < count; row++)
	{
		UnusedTime *time = palloc(sizeof(UnusedTime));

		time->line_id = rows_uuid(rows, row, 1);
		time->credit_line_id = rows_uuid(rows, row, 2);
		time->description = rows_text(rows, row, 3);
		time->period_start = rows_time(rows, row, 4);
		time->period_end = rows_time(rows, row, 5);
		time->amount = rows_int(rows, row, 6);
		times = lappend(times, time);
	}
	credit_note_for_unused(invoice_id, times);
}

/* ---- what was given and is not paid ---- */

/*
 * What of a line is paid is reckoned as it is for its credit (engine_load.c): of
 * what credit notes have left of it as much as of its invoice.  Refunds and
 * disputes are of the invoice as a whole.
 */
QUERY(
	find_unpaid,
	"WITH i AS (SELECT n.id, n.customer_id, n.organization_id, n.currency, "
	"CASE n.status WHEN 'uncollectible' THEN n.amount_remaining ELSE 0 END AS missing, "
	"n.total - n.provider_tax - c.total AS rest, least(greatest(n.total - n.provider_tax - n.amount_remaining - c.applied, 0), "
	"n.total - n.provider_tax - c.total) AS covered, "
	"CASE n.status WHEN 'open' THEN n.amount_remaining ELSE 0 END AS owed, k.kept, k.lost, k.given, "
	"e.given_up, e.refunded FROM billing.invoices AS n CROSS JOIN LATERAL billing.money_of_invoice(n.id) AS k "
	"CROSS JOIN LATERAL (SELECT coalesce(-sum(b.amount) FILTER (WHERE b.reason = 'invoice_given_up'), 0) AS given_up, "
	"coalesce(-sum(b.amount) FILTER (WHERE b.reason = 'invoice_refunded'), 0) AS refunded "
	"FROM billing.customer_balance_entries AS b WHERE b.source_id = n.id "
	"AND b.reason IN ('invoice_given_up', 'invoice_refunded')) AS e CROSS JOIN LATERAL (SELECT coalesce(sum(o.total), 0) AS total, "
	"coalesce(sum(o.amount_applied), 0) AS applied FROM billing.credit_notes AS o WHERE o.invoice_id = n.id) AS c "
	"WHERE n.id = $1 AND n.managed_by = 'local') "
	"SELECT i.customer_id, i.organization_id, i.currency, (i.given_up - u.amount)::bigint, (i.refunded - w.amount)::bigint "
	"FROM i CROSS JOIN LATERAL (SELECT coalesce(sum(greatest(given.amount - CASE WHEN i.rest <= 0 THEN w.amount "
	"ELSE div(2 * w.amount * i.covered + i.rest, 2 * i.rest) END, 0)), 0) AS unpaid "
	"FROM billing.invoice_lines AS l " GIVEN
	"CROSS JOIN LATERAL (SELECT " GROSS("l") " - " TAKEN_BACK(
		"l") " AS amount) AS w "
			 "WHERE l.invoice_id = i.id AND l.kind NOT IN ('discount', 'tax', 'credit', 'balance') AND given.amount > 0) AS g "
			 "CROSS JOIN LATERAL (SELECT least(i.missing, g.unpaid) AS amount) AS u "
			 "CROSS JOIN LATERAL (SELECT least(i.lost, greatest(i.given - i.kept - i.owed - u.amount, 0)) AS amount) AS w "
			 "WHERE (i.missing > 0 OR i.lost > 0 OR i.given_up <> 0 OR i.refunded <> 0) "
			 "AND (i.given_up <> u.amount OR i.refunded <> w.amount)",
	UUIDOID);

/* Computed for this invoice by now, less what stands in the balance for it. */
typedef struct Unpaid
{
	pg_uuid_t *customer_id;
	char *organization_id;
	char *currency;
	int64 given_up;
	int64 refunded;
} Unpaid;

static void
take(const Unpaid *u, const pg_uuid_t *invoice_id, int64 amount, const char *reason)
{
	if (amount == 0)
		return;
	balance_add(u->customer_id, u->currency, amount, reason, "invoice", invoice_id);
	event_record("customer.balance_adjusted", "customer", u->customer_id, u->organization_id, NULL,
				 NULL);
}

static void
take_unpaid(const pg_uuid_t *invoice_id)
{
	Unpaid u;

	if (RUN(find_unpaid, arg_uuid(invoice_id)) == 0)
		return;
	u = (Unpaid){row_uuid(0, 1), row_text(0, 2), row_text(0, 3), row_int(0, 4), row_int(0, 5)};
	take(&u, invoice_id, u.given_up, "invoice_given_up");
	take(&u, invoice_id, u.refunded, "invoice_refunded");
}

void
given_back_settle(const pg_uuid_t *invoice_id)
{
	take_unpaid(invoice_id);
	give_missing(invoice_id);
}

/* ---- what gave back is gone ---- */

QUERY(find_reversed,
	  "SELECT DISTINCT o.invoice_id FROM billing.invoice_lines AS r "
	  "JOIN billing.invoice_lines AS o ON o.id = r.reverses "
	  "WHERE r.invoice_id = $1 AND o.invoice_id IS NOT NULL ORDER BY o.invoice_id",
	  UUIDOID);

void
given_back_less(const pg_uuid_t *invoice_id)
{
	int64 count = RUN(find_reversed, arg_uuid(invoice_id));
	Rows rows = rows_keep();

	for (int64 row = 0; row < count; row++)
		given_back_settle(rows_uuid(rows, row, 1));
}

/* ---- what refunds may still give back ---- */

/* Of what is left of its payments, what pays nothing of it is in the balance, and goes back as well. */
QUERY(
	given_beyond,
	"SELECT (m.given + coalesce((SELECT sum(n.balance_amount + (SELECT coalesce(sum(f.amount), 0) FROM billing.refunds AS f "
	"WHERE f.credit_note_id = n.id AND f.status IN ('failed', 'canceled'))) FROM billing.credit_notes AS n "
	"WHERE n.invoice_id = i.id), 0) - greatest(i.credit_used, 0) - greatest(i.balance_used, 0) - i.paid_elsewhere)::bigint "
	"FROM billing.invoices AS i CROSS JOIN LATERAL billing.money_of_invoice(i.id) AS m WHERE i.id = $1",
	UUIDOID);
QUERY(payments_of,
	  "SELECT id FROM billing.payment_intents WHERE invoice_id = $1 AND amount_received > 0",
	  UUIDOID);

int64
credits_leave(const pg_uuid_t *invoice_id)
{
	int64 given;
	int64 sum = 0;
	Rows rows;

	if (RUN(given_beyond, arg_uuid(invoice_id)) == 0)
		return PG_INT64_MAX;
	given = row_int(0, 1);
	if (given <= 0)
		return PG_INT64_MAX;
	RUN(payments_of, arg_uuid(invoice_id));
	rows = rows_keep();
	for (int64 row = 0; row < rows_count(rows); row++)
		sum += refund_left(rows_uuid(rows, row, 1));
	return Max(sum - given, 0);
}

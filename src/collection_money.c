/*-------------------------------------------------------------------------
 *
 * collection_money.c
 *	  Which payment paid which of our own invoices.
 *
 * What was received of a payment and not given back pays its invoice, in the
 * order in which payments were made; the rest is the customer's balance.  Both
 * are computed anew from the payments with each piece of news and kept in
 * invoice_payments, so that each unit of money counts once in whatever order
 * the news come.  A refund therefore takes back what was too much before it
 * takes from the invoice; that of a credit note gives back what paid the invoice.
 * Neither opens an invoice again, nor does a dispute.  What a bank has withdrawn is missing in the balance first, until it
 * is reinstated; what it took of the invoice is a loss.
 *
 * A statement is of what a provider sells as the seller: the tax that it adds to
 * what we ask for pays nothing of ours.  All shares are without it; what of it
 * came with them is put on top of the statement and of what is paid of it.
 *
 *-------------------------------------------------------------------------
 */
#include "collection.h"

#include "check.h"
#include "errors.h"
#include "given_back.h"
#include "payments.h"

/* ---- what is paid ---- */

/*
 * An invoice that was voided has nothing to be paid.  A part of a payment may have
 * come while the rest is waited for.  Money in another currency
 * than was asked for pays nothing: it is balance in its own.
 */
#define WITHDRAWN(tax)                                                       \
	"coalesce((SELECT sum(d.amount - billing.provider_tax_in(d.amount, " tax \
	", p.amount_received)) "                                                 \
	"FROM billing.disputes AS d WHERE d.payment_intent_id = p.id "           \
	"AND d.currency = p.currency AND d.funds_withdrawn_at IS NOT NULL AND d.funds_reinstated_at IS NULL), 0)"
QUERY(
	share_out,
	"WITH i AS (SELECT i.id, i.currency, i.merchant_of_record IS NOT NULL AS statement, CASE WHEN i.status IN ('draft', 'void') THEN 0 "
	"ELSE greatest(i.amount_due - i.provider_tax - i.amount_credited - i.paid_elsewhere, 0) END AS cap FROM billing.invoices AS i WHERE i.id = $1), "
	"n AS (SELECT p.id, p.currency, p.paid_at, p.currency = i.currency AS fits, i.cap, b.noted, t.tax, p.amount_received - t.tax AS gross, "
	"t.tax - t.back AS tax_left, greatest(p.amount_received - p.amount_refunded + b.noted - (t.tax - t.back), 0) AS net, " WITHDRAWN(
		"t.tax") " AS withdrawn FROM i JOIN billing.payment_intents AS p ON p.invoice_id = i.id CROSS JOIN LATERAL ("
				 "SELECT x.tax, billing.provider_tax_in(p.amount_refunded, x.tax, p.amount_received) AS back "
				 "FROM (SELECT CASE WHEN i.statement THEN least(p.provider_tax, p.amount_received) ELSE 0 END AS tax) AS x) AS t CROSS JOIN LATERAL ("
				 "SELECT coalesce(sum(f.amount), 0)::bigint AS noted FROM billing.refunds AS f WHERE f.payment_intent_id = p.id "
				 "AND f.credit_note_id IS NOT NULL AND f.status = 'succeeded') AS b WHERE p.amount_received > 0), "
				 "o AS (SELECT n.*, CASE WHEN n.fits THEN greatest(n.cap - coalesce(sum(n.net) FILTER (WHERE n.fits) OVER before, 0), 0) ELSE 0 END AS room, "
				 "CASE WHEN n.fits THEN greatest(n.cap - coalesce(sum(n.gross) FILTER (WHERE n.fits) OVER before, 0), 0) ELSE 0 END AS first_room FROM n "
				 "WINDOW before AS (ORDER BY n.paid_at, n.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)), "
				 "s AS (SELECT o.id, o.currency, o.paid_at, o.withdrawn, (least(o.net, o.room) - o.noted)::bigint AS amount, "
				 "(o.net - least(o.net, o.room))::bigint AS credited, "
				 "CASE WHEN o.gross > 0 THEN round(o.tax::numeric * least(o.gross, o.first_room) / o.gross) ELSE 0 END::bigint AS tax, "
				 "CASE WHEN o.net > 0 THEN round(o.tax_left::numeric * least(o.net, o.room) / o.net) ELSE 0 END::bigint AS tax_left FROM o) "
				 "SELECT s.id, s.currency, s.amount, s.credited, least(s.withdrawn, s.credited)::bigint, coalesce(k.credited, 0), coalesce(k.withdrawn, 0), "
				 "greatest(s.tax, s.tax_left), s.tax_left "
				 "FROM s LEFT JOIN billing.invoice_payments AS k ON k.payment_intent_id = s.id "
				 "WHERE k.payment_intent_id IS NULL OR k.amount <> s.amount OR k.credited <> s.credited "
				 "OR k.withdrawn <> least(s.withdrawn, s.credited) OR k.tax <> greatest(s.tax, s.tax_left) OR k.tax_left <> s.tax_left "
				 "OR k.invoice_id IS NULL ORDER BY s.paid_at, s.id",
	UUIDOID);
QUERY(
	put_share,
	"INSERT INTO billing.invoice_payments AS k (payment_intent_id, invoice_id, amount, credited, withdrawn, tax, tax_left) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7) "
	"ON CONFLICT (payment_intent_id) DO UPDATE SET invoice_id = excluded.invoice_id, amount = excluded.amount, "
	"credited = excluded.credited, withdrawn = excluded.withdrawn, tax = excluded.tax, tax_left = excluded.tax_left, updated_at = now()",
	UUIDOID, UUIDOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID);
QUERY(
	newest_dispute,
	"SELECT id FROM billing.disputes WHERE payment_intent_id = $1 ORDER BY created_at DESC, id DESC LIMIT 1",
	UUIDOID);

typedef struct Share
{
	pg_uuid_t *payment_intent_id;
	char *currency;
	int64 amount;
	int64 credited;
	int64 withdrawn; /* of credited, by a bank */
	int64 credited_before;
	int64 withdrawn_before;
	int64 tax; /* of a statement, on top of amount: the seller's */
	int64 tax_left;
} Share;

/* What was in the balance is not ours to give while a bank has it. */
static void
book_withdrawn(const Share *share, const pg_uuid_t *customer_id)
{
	if (share->withdrawn == share->withdrawn_before)
		return;
	RUN(newest_dispute, arg_uuid(share->payment_intent_id));
	balance_add(customer_id, share->currency, share->withdrawn_before - share->withdrawn, "dispute",
				"dispute", row_uuid(0, 1));
}

static void
book_share(const Share *share, const pg_uuid_t *invoice_id, const pg_uuid_t *customer_id,
		   const char *organization_id)
{
	RUN(put_share, arg_uuid(share->payment_intent_id), arg_uuid(invoice_id), arg_int(share->amount),
		arg_int(share->credited), arg_int(share->withdrawn), arg_int(share->tax),
		arg_int(share->tax_left));
	if (share->credited != share->credited_before)
		balance_add(customer_id, share->currency, share->credited - share->credited_before,
					"overpayment", "payment_intent", share->payment_intent_id);
	book_withdrawn(share, customer_id);
	if (share->credited > share->credited_before)
		event_record("payment.unapplied", "payment_intent", share->payment_intent_id,
					 organization_id, NULL, NULL);
}

/*
 * Paid stays paid.  What is left to pay of an open one is less what was given
 * back of its parts.
 */
#define PAID_NOW                                                                                               \
	"(SELECT n.id, n.status AS before, p.paid, p.tax, p.tax_left, p.numbers, p.paid_at, "                      \
	"n.amount_due - n.provider_tax AS due, CASE WHEN n.status IN ('open', 'uncollectible') "                   \
	"AND p.paid >= n.amount_due - n.provider_tax - n.amount_credited "                                         \
	"THEN 'paid' ELSE n.status END AS status FROM billing.invoices AS n CROSS JOIN LATERAL ("                  \
	"SELECT (coalesce(sum(k.amount), 0) + n.paid_elsewhere)::bigint AS paid, coalesce(sum(k.tax), 0)::bigint " \
	"AS tax, coalesce(sum(k.tax_left), 0)::bigint AS tax_left, "                                               \
	"string_agg(o.provider_number, ', ' ORDER BY o.paid_at, o.id) FILTER (WHERE k.amount > 0 OR k.tax > 0) "   \
	"AS numbers, max(o.paid_at) FILTER (WHERE k.amount > 0) AS paid_at FROM billing.invoice_payments AS k "    \
	"JOIN billing.payment_intents AS o ON o.id = k.payment_intent_id WHERE k.invoice_id = n.id) AS p "         \
	"WHERE n.id = $1) AS s "
#define ANOTHER_THAN_STORED                                                                     \
	"(i.amount_paid <> s.paid + s.tax_left OR i.status <> s.status OR i.provider_tax <> s.tax " \
	"OR i.provider_number IS DISTINCT FROM coalesce(s.numbers, i.provider_number))"

/* Most news tell nothing new, and an UPDATE that changes no row runs all that the table has for each statement. */
QUERY(not_settled,
	  "SELECT FROM " PAID_NOW
	  "JOIN billing.invoices AS i ON i.id = s.id WHERE " ANOTHER_THAN_STORED,
	  UUIDOID);
QUERY(
	settle_invoice,
	"UPDATE billing.invoices AS i SET amount_paid = s.paid + s.tax_left, status = s.status, "
	"provider_tax = s.tax, provider_tax_paid = s.tax_left, provider_number = coalesce(s.numbers, i.provider_number), "
	"total = i.total - i.provider_tax + s.tax, tax = i.tax - i.provider_tax + s.tax, amount_due = s.due + s.tax, "
	"amount_remaining = CASE WHEN s.status IN ('paid', 'void') THEN 0 ELSE greatest(s.due - i.amount_credited - s.paid, 0) END, "
	"paid_at = CASE WHEN s.status = 'paid' THEN coalesce(i.paid_at, s.paid_at, $2) END, "
	"error_code = CASE WHEN s.status <> 'paid' THEN i.error_code END, updated_at = now() "
	"FROM " PAID_NOW "WHERE i.id = s.id AND " ANOTHER_THAN_STORED " RETURNING s.before, i.status",
	UUIDOID, TIMESTAMPTZOID);

/* A statement has one line for it, from the beginning (tax.c). */
QUERY(
	settle_tax_line,
	"UPDATE billing.invoice_lines AS l SET amount = i.provider_tax, tax = i.provider_tax FROM billing.invoices AS i "
	"WHERE i.id = $1 AND i.merchant_of_record IS NOT NULL AND l.invoice_id = i.id AND l.kind = 'tax' AND l.amount <> i.provider_tax",
	UUIDOID);

QUERY(
	not_wanted,
	"SELECT id FROM billing.payment_intents WHERE invoice_id = $1 AND status = 'requires_action' ORDER BY id",
	UUIDOID);

QUERY(
	not_sent,
	"SELECT id FROM billing.payment_intents WHERE invoice_id = $1 AND status = 'pending' ORDER BY id",
	UUIDOID);

void
invoice_withdraw_charges(const pg_uuid_t *invoice_id)
{
	Rows rows;

	RUN(not_sent, arg_uuid(invoice_id));
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows); i++)
		payment_intent_withdraw(rows_uuid(rows, i, 1));
}

void
invoice_call_off_payments(const pg_uuid_t *invoice_id)
{
	Rows rows;

	invoice_withdraw_charges(invoice_id);
	RUN(not_wanted, arg_uuid(invoice_id));
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows); i++)
		payment_intent_call_off(rows_uuid(rows, i, 1));
	checkout_close_invoice_pages(invoice_id);
}

void
invoice_payment_changed(const pg_uuid_t *invoice_id)
{
	OwnInvoice *invoice = own_invoice_load(invoice_id);
	char *before = NULL;
	char *after = NULL;
	Rows rows;

	if (invoice == NULL)
		return;
	RUN(share_out, arg_uuid(invoice_id));
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows); i++)
	{
		Share share = {rows_uuid(rows, i, 1), rows_text(rows, i, 2), rows_int(rows, i, 3),
					   rows_int(rows, i, 4),  rows_int(rows, i, 5),  rows_int(rows, i, 6),
					   rows_int(rows, i, 7),  rows_int(rows, i, 8),  rows_int(rows, i, 9)};

		book_share(&share, invoice_id, invoice->customer_id, invoice->organization_id);
	}
	if (RUN(not_settled, arg_uuid(invoice_id)) > 0 &&
		RUN(settle_invoice, arg_uuid(invoice_id), arg_time(invoice->now)) > 0)
	{
		before = row_text(0, 1);
		after = row_text(0, 2);
		RUN(settle_tax_line, arg_uuid(invoice_id));
		event_record(strcmp(before, after) == 0 ? "invoice.updated" : "invoice.paid", "invoice",
					 invoice_id, invoice->organization_id, before, after);
	}
	/* before a period begins by it, which the balance pays */
	given_back_settle(invoice_id);
	if (before == NULL)
		return;
	if (strcmp(before, after) == 0)
	{
		checkout_close_invoice_pages(invoice_id);
		return;
	}
	invoice_call_off_payments(invoice_id);
	engine_invoice_paid(invoice_id);
}

/* ---- references that are used again and again ---- */

/*
 * A payment that we did not ask for, to a reference that a customer keeps: it
 * pays the oldest invoice that is open.  Where the provider does not tell the
 * reference, it is a payment that came into being there, in the way in which
 * references of this customer are paid.
 */
QUERY(
	unasked,
	"SELECT p.customer_id, p.organization_id, p.currency, greatest(p.amount_received - p.amount_refunded, 0), "
	"coalesce(k.credited, 0), (SELECT i.id FROM billing.invoices AS i WHERE i.customer_id = p.customer_id AND i.managed_by = 'local' "
	"AND i.status = 'open' AND i.currency = p.currency AND k.payment_intent_id IS NULL ORDER BY i.issued_at, i.id LIMIT 1), coalesce(k.withdrawn, 0), " WITHDRAWN(
		"0") "::bigint "
			 "FROM billing.payment_intents AS p LEFT JOIN billing.payment_methods AS m ON m.id = p.payment_method_id "
			 "LEFT JOIN billing.invoice_payments AS k ON k.payment_intent_id = p.id "
			 "WHERE p.id = $1 AND p.invoice_id IS NULL AND p.subscription_id IS NULL AND p.checkout_session_id IS NULL "
			 "AND (m.type IN ('cash_recurrent', 'spei_recurrent') OR (m.id IS NULL AND p.unasked AND EXISTS ("
			 "SELECT FROM billing.payment_methods AS r WHERE r.customer_id = p.customer_id AND r.provider = p.provider AND r.account = p.account "
			 "AND r.type = CASE p.method WHEN 'oxxo' THEN 'cash_recurrent' WHEN 'spei' THEN 'spei_recurrent' END))) AND p.status IN ('succeeded', 'partially_refunded', 'refunded') "
			 "AND EXISTS (SELECT FROM billing.invoices AS o WHERE o.customer_id = p.customer_id AND o.managed_by = 'local')",
	UUIDOID);
QUERY(
	link_invoice,
	"UPDATE billing.payment_intents AS p SET invoice_id = i.id, subscription_id = i.subscription_id FROM billing.invoices AS i "
	"WHERE p.id = $1 AND i.id = $2",
	UUIDOID, UUIDOID);

static void
unasked_payment(const pg_uuid_t *payment_intent_id)
{
	Share share = {.payment_intent_id = unconstify(pg_uuid_t *, payment_intent_id)};
	pg_uuid_t *customer_id;
	char *organization_id;
	pg_uuid_t *invoice_id;

	if (RUN(unasked, arg_uuid(payment_intent_id)) == 0)
		return;
	customer_id = row_uuid(0, 1);
	organization_id = row_text(0, 2);
	share.currency = row_text(0, 3);
	share.credited = row_int(0, 4);
	share.credited_before = row_int(0, 5);
	share.withdrawn_before = row_int(0, 7);
	share.withdrawn = Min(row_int(0, 8), share.credited);
	invoice_id = row_uuid(0, 6);
	if (invoice_id == NULL)
	{
		book_share(&share, NULL, customer_id, organization_id);
		return;
	}
	RUN(link_invoice, arg_uuid(payment_intent_id), arg_uuid(invoice_id));
	invoice_payment_changed(invoice_id);
}

/* ---- news of a payment ---- */

QUERY(
	payment_state,
	"SELECT p.invoice_id, p.status, i.managed_by = 'local', a.id, p.checkout_session_id, p.expires_at FROM billing.payment_intents AS p "
	"LEFT JOIN billing.invoices AS i ON i.id = p.invoice_id LEFT JOIN billing.dunning_attempts AS a ON a.payment_intent_id = p.id "
	"WHERE p.id = $1",
	UUIDOID);
QUERY(
	attempt_succeeded,
	"UPDATE billing.dunning_attempts SET state = 'succeeded', decline_code = NULL, action = NULL, finished_at = $2 "
	"WHERE id = $1 AND state <> 'succeeded'",
	UUIDOID, TIMESTAMPTZOID);

/* Who has taken a reference to pay by on a page has the time to pay it. */
static void
wait_for_reference(const OwnInvoice *invoice, const char *status, TimestampTz until)
{
	if (invoice->subscription_id != NULL && until != 0 && strcmp(status, "requires_action") == 0)
		engine_wait_for_payment(invoice->subscription_id, until + USECS_PER_DAY);
}

static bool
is_over(const char *status)
{
	return strcmp(status, "failed") == 0 || strcmp(status, "canceled") == 0;
}

void
collection_payment_changed(const pg_uuid_t *payment_intent_id)
{
	pg_uuid_t *invoice_id;
	pg_uuid_t *attempt_id;
	char *status;
	TimestampTz page_until;
	OwnInvoice *invoice;

	if (RUN(payment_state, arg_uuid(payment_intent_id)) == 0)
		return;
	invoice_id = row_uuid(0, 1);
	status = row_text(0, 2);
	attempt_id = row_uuid(0, 4);
	page_until = row_null(0, 5) ? 0 : row_time(0, 6);
	if (invoice_id == NULL)
	{
		if (payment_arrived(status))
			unasked_payment(payment_intent_id);
		return;
	}
	if (!row_bool(0, 3))
		return;
	invoice = own_invoice_load(invoice_id);
	if (payment_arrived(status) && attempt_id != NULL)
		RUN(attempt_succeeded, arg_uuid(attempt_id), arg_time(invoice->now));
	invoice_payment_changed(invoice_id);
	if (is_over(status))
		(void) dunning_catch_up(own_invoice_load(invoice_id));
	else if (!payment_arrived(status))
	{
		wait_for_reference(invoice, status, page_until);
		return;
	}
	/* too little, or somebody else's attempt that what is planned has waited for */
	if (!payment_in_flight(invoice_id, NULL))
		collection_go_on(invoice_id);
}

QUERY(
	look_again,
	"UPDATE billing.invoices AS i SET next_attempt_at = coalesce((SELECT k.now FROM billing.sandbox_clocks AS k "
	"WHERE k.organization_id = i.organization_id), now()) FROM billing.payment_intents AS p "
	"WHERE p.id = $1 AND i.id = p.invoice_id AND i.managed_by = 'local' AND i.status = 'open'",
	UUIDOID);

void
collection_look_again(const pg_uuid_t *payment_intent_id)
{
	RUN(look_again, arg_uuid(payment_intent_id));
}

QUERY(
	look_after_failure,
	"UPDATE billing.invoices AS i SET next_attempt_at = coalesce((SELECT k.now FROM billing.sandbox_clocks AS k "
	"WHERE k.organization_id = i.organization_id), now()) FROM billing.payment_intents AS p "
	"WHERE p.id = $1 AND p.status IN ('failed', 'canceled') AND i.id = p.invoice_id AND i.managed_by = 'local' "
	"AND i.status = 'open' AND i.next_attempt_at IS NULL",
	UUIDOID);

/*
 * Where a webhook tells of the failure before the answer comes, the next
 * attempt was due while this one still counted as in flight.
 */
void
collection_request_gone(const OutboxRow *row)
{
	RUN(look_after_failure, arg_uuid(row->object_id));
}

/* ---- paid by other ways ---- */

QUERY(
	pay_outside,
	"UPDATE billing.invoices SET paid_outside = concat_ws('; ', paid_outside, $2), paid_elsewhere = paid_elsewhere + $3, "
	"paid_at = CASE WHEN $3 >= amount_remaining THEN $4 END, updated_at = now() WHERE id = $1",
	UUIDOID, TEXTOID, INT8OID, TIMESTAMPTZOID);

static void
check_payable(const OwnInvoice *invoice)
{
	if (strcmp(invoice->status, "open") != 0 && strcmp(invoice->status, "uncollectible") != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("invoice \"%s\" is %s", uuid_text(invoice->id), invoice->status),
						errdetail("It would have to be open or uncollectible."),
						strcmp(invoice->status, "draft") == 0
							? errhint("A draft is made final by billing.finalize_invoice() first.")
							: 0));
}

OwnInvoice *
own_invoice_to_pay(const pg_uuid_t *id)
{
	OwnInvoice *invoice = own_invoice_load(id);

	if (invoice == NULL)
		return NULL;
	outbox_lock_customer(invoice->customer_id);
	invoice = own_invoice_load(id);
	check_payable(invoice);
	return invoice;
}

QUERY(invoice_exists, "SELECT FROM billing.invoices WHERE id = $1", UUIDOID);

OwnInvoice *
own_invoice_only(const pg_uuid_t *id, const char *detail, const char *hint)
{
	OwnInvoice *invoice = own_invoice_to_pay(id);

	if (invoice != NULL)
		return invoice;
	if (RUN(invoice_exists, arg_uuid(id)) == 0)
		unknown_object("invoice", uuid_text(id), NULL);
	ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
					errmsg("invoice \"%s\" is the provider's", uuid_text(id)),
					errdetail("%s", detail), errhint("%s", hint)));
}

SQL_FUNCTION(billing_mark_invoice_paid)
{
	pg_uuid_t *id = ARG_UUID(0);
	char *note = ARG_TEXT(1);
	TimestampTz paid_at = ARG_TIME(2);
	int64 amount = ARG_INT(3, NO_AMOUNT);
	OwnInvoice *invoice;

	check_no_card("note", note);
	db_open();
	check_given("invoice_id", id != NULL);
	check_given("note", note != NULL && *note != '\0');
	invoice = own_invoice_only(id, "It was made by the provider, who keeps what is paid of it.",
							   "Mark it paid in the provider's panel: we are told, and follow.");
	if (amount == NO_AMOUNT)
		amount = invoice->remaining;
	if (amount <= 0 || amount > invoice->remaining)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("amount must be from 1 to what is left to pay"),
				 errdetail("Amount is " INT64_FORMAT ", left are " INT64_FORMAT ".", amount,
						   invoice->remaining),
				 errhint("What is more belongs to the customer: see billing.grant_credit().")));
	if (paid_at != 0 && (TIMESTAMP_NOT_FINITE(paid_at) || paid_at > invoice->now))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("paid_at is a time to come"),
				 errdetail("It is %s.", timestamptz_to_str(paid_at)),
				 errhint("Leave it out where the money has come just now.")));
	RUN(pay_outside, arg_uuid(id), arg_text(note), arg_int(amount),
		arg_time(paid_at != 0 ? paid_at : invoice->now));
	invoice_payment_changed(id);
	db_close();
	PG_RETURN_VOID();
}

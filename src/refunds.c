/*-------------------------------------------------------------------------
 *
 * refunds.c
 *	  Refunds: what callers ask for, what is said to the providers and taken
 *	  over from them, and what is left of a payment.
 *
 * A refund reserves its amount when it is asked for and releases it when it
 * fails.  Who counts what is left holds the customer and the row of the
 * payment, so that two sessions together never give back more than was paid.
 * What was given back is the sum of the refunds that we know, and what the
 * provider tells beyond them (refunded_elsewhere); telling both is no double
 * count.
 *
 *-------------------------------------------------------------------------
 */
#include "payments.h"

#include "check.h"
#include "collection.h"
#include "errors.h"
#include "keys.h"
#include "wire_amounts.h"

static const char *const reason_words[] = {
	"requested_by_customer",  "duplicate", "fraudulent", "service_disruption",
	"satisfaction_guarantee", "other",     NULL};

typedef struct Refund
{
	pg_uuid_t *id;
	pg_uuid_t *payment_intent_id;
	pg_uuid_t *customer_id;
	char *organization_id;
	char *provider;
	char *account;
	char *status;
	int64 amount;
	char *currency;
	char *reason;
	bytea *description;
	Jsonb *metadata;
	char *provider_id; /* NULL: no provider knows it */
} Refund;

QUERY(
	load_refund,
	"SELECT f.id, f.payment_intent_id, f.customer_id, f.organization_id, f.provider, f.account, f.status, f.amount, "
	"f.currency, f.reason, f.description, f.metadata, r.provider_id FROM billing.refunds AS f "
	"LEFT JOIN billing.provider_refs AS r ON r.object_id = f.id AND r.object_type = 'refund' "
	"AND r.provider = f.provider AND r.account = f.account WHERE f.id = $1",
	UUIDOID);

static Refund *
refund_load(const pg_uuid_t *id)
{
	Refund *f;

	if (id == NULL || RUN(load_refund, arg_uuid(id)) == 0)
		return NULL;
	f = palloc(sizeof(Refund));
	f->id = row_uuid(0, 1);
	f->payment_intent_id = row_uuid(0, 2);
	f->customer_id = row_uuid(0, 3);
	f->organization_id = row_text(0, 4);
	f->provider = row_text(0, 5);
	f->account = row_text(0, 6);
	f->status = row_text(0, 7);
	f->amount = row_int(0, 8);
	f->currency = row_text(0, 9);
	f->reason = row_text(0, 10);
	f->description = row_bytes(0, 11);
	f->metadata = row_json(0, 12);
	f->provider_id = row_text(0, 13);
	return f;
}

/* ---- what is left ---- */

QUERY(lock_payment, "SELECT FROM billing.payment_intents WHERE id = $1 FOR UPDATE", UUIDOID);
/*
 * Reserved or given back, and taken back by a bank: while a dispute is open
 * and after it was lost, unless the money came back or was given back as a
 * refund because of it.
 */
QUERY(
	spoken_for,
	"SELECT coalesce((SELECT sum(f.amount) FROM billing.refunds AS f WHERE f.payment_intent_id = $1 "
	"AND f.status IN ('pending', 'succeeded')), 0)::bigint, "
	"coalesce((SELECT sum(d.amount) FROM billing.disputes AS d WHERE d.payment_intent_id = $1 "
	"AND d.funds_reinstated_at IS NULL "
	"AND (d.funds_withdrawn_at IS NOT NULL OR d.status IN ('needs_response', 'under_review', 'lost')) "
	"AND NOT EXISTS (SELECT FROM billing.refunds AS f WHERE f.dispute_id = d.id "
	"AND f.status IN ('pending', 'succeeded'))), 0)::bigint",
	UUIDOID);

typedef struct Rest
{
	int64 given_back; /* or about to be */
	int64 disputed;
	int64 credited; /* of what is left, given to the balance: by changes and credit notes */
	int64 left;
} Rest;

/* The caller holds the payment's row. */
static Rest
what_is_left(const PaymentIntent *p)
{
	Rest rest = {0};

	RUN(spoken_for, arg_uuid(p->id));
	rest.given_back = row_int(0, 1) + p->refunded_elsewhere;
	rest.disputed = row_int(0, 2);
	rest.left = Max(p->amount_received - rest.given_back - rest.disputed, 0);
	return rest;
}

/* What the provider knows of: what we are about to ask for is not in its sum. */
QUERY(
	known_refunds,
	"SELECT coalesce(sum(f.amount), 0)::bigint, coalesce(jsonb_agg(r.provider_id), '[]') FROM billing.refunds AS f "
	"JOIN billing.provider_refs AS r ON r.object_id = f.id AND r.object_type = 'refund' "
	"WHERE f.payment_intent_id = $1 AND f.status IN ('pending', 'succeeded')",
	UUIDOID);
/* Providers date by the second: of two sums of one the greater counts. */
QUERY(
	tell_sum,
	"UPDATE billing.payment_intents SET refunds_told = $2, refunds_told_at = date_trunc('second', $3), "
	"updated_at = now() WHERE id = $1 AND (refunds_told_at IS NULL "
	"OR (refunds_told_at, refunds_told) < (date_trunc('second', $3), $2))",
	UUIDOID, INT8OID, TIMESTAMPTZOID);

bool
refunds_told(const pg_uuid_t *payment_intent_id, int64 amount, TimestampTz as_of)
{
	return RUN(tell_sum, arg_uuid(payment_intent_id), arg_int(amount), arg_time(as_of)) > 0;
}

/*
 * What the sum contains beyond the refunds that we know: those count that there
 * were when it was told, and that had not failed before that second.  It is
 * counted anew with each refund, so that sum and refunds may be told in any
 * order.
 */
QUERY(count_elsewhere,
	  "UPDATE billing.payment_intents AS p SET refunded_elsewhere = e.amount FROM (SELECT "
	  "greatest(o.refunds_told - coalesce((SELECT sum(f.amount) FROM billing.refunds AS f "
	  "JOIN billing.provider_refs AS r ON r.object_id = f.id AND r.object_type = 'refund' "
	  "WHERE f.payment_intent_id = o.id "
	  "AND coalesce(f.provider_created_at < o.refunds_told_at + interval '1 second', true) "
	  "AND (f.status IN ('pending', 'succeeded') "
	  "OR f.failed_at >= o.refunds_told_at)), 0), 0)::bigint AS amount "
	  "FROM billing.payment_intents AS o WHERE o.id = $1 AND o.refunds_told IS NOT NULL) AS e "
	  "WHERE p.id = $1 AND p.refunded_elsewhere <> e.amount",
	  UUIDOID);

/* Mostly nothing goes back, and nothing changes. */
QUERY(
	settle_payment,
	"UPDATE billing.payment_intents AS p SET amount_refunded = s.amount, status = CASE WHEN s.amount = 0 THEN 'succeeded' "
	"WHEN s.amount >= p.amount_received THEN 'refunded' ELSE 'partially_refunded' END, updated_at = now() "
	"FROM (SELECT o.refunded_elsewhere + coalesce((SELECT sum(f.amount) FROM billing.refunds AS f "
	"WHERE f.payment_intent_id = o.id AND f.status = 'succeeded'), 0)::bigint AS amount, o.status, o.organization_id "
	"FROM billing.payment_intents AS o WHERE o.id = $1) AS s "
	"WHERE p.id = $1 AND p.status IN ('succeeded', 'partially_refunded', 'refunded') "
	"AND (p.amount_refunded <> s.amount OR s.amount > 0 OR p.status <> 'succeeded' "
	"OR EXISTS (SELECT FROM billing.refunds AS f WHERE f.payment_intent_id = p.id)) "
	"RETURNING s.status, p.status, s.organization_id",
	UUIDOID);

/*
 * What a credit note wanted to pay back and a refund did not is in the balance,
 * until the refund succeeds after all.
 */
QUERY(
	not_paid_back,
	"SELECT f.id, f.customer_id, f.currency, (n.amount - b.amount)::bigint FROM billing.refunds AS f "
	"CROSS JOIN LATERAL (SELECT CASE WHEN f.status IN ('failed', 'canceled') THEN f.amount ELSE 0 END AS amount) AS n "
	"CROSS JOIN LATERAL (SELECT coalesce(sum(e.amount), 0) AS amount FROM billing.customer_balance_entries AS e "
	"WHERE e.customer_id = f.customer_id AND e.source_type = 'refund' AND e.source_id = f.id) AS b "
	"WHERE f.payment_intent_id = $1 AND f.credit_note_id IS NOT NULL AND n.amount <> b.amount ORDER BY f.id",
	UUIDOID);

static void
keep_what_failed(const pg_uuid_t *payment_intent_id)
{
	Rows rows;

	if (RUN(not_paid_back, arg_uuid(payment_intent_id)) == 0)
		return;
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows); i++)
		balance_add(rows_uuid(rows, i, 2), rows_text(rows, i, 3), rows_int(rows, i, 4),
					"credit_note", "refund", rows_uuid(rows, i, 1));
}

void
refunds_settle(const pg_uuid_t *payment_intent_id)
{
	char *before;
	char *after;

	keep_what_failed(payment_intent_id);
	RUN(count_elsewhere, arg_uuid(payment_intent_id));
	if (RUN(settle_payment, arg_uuid(payment_intent_id)) == 0)
		return;
	before = row_text(0, 1);
	after = row_text(0, 2);
	if (strcmp(before, after) != 0)
		event_record(psprintf("payment_intent.%s", after), "payment_intent", payment_intent_id,
					 row_text(0, 3), before, after);
	collection_payment_changed(payment_intent_id);
}

/* ---- create ---- */

QUERY(find_rule,
	  "SELECT whole, partial, days FROM billing.refund_rules WHERE provider = $1 AND method = $2",
	  TEXTOID, TEXTOID);

/* What a method cannot do, by the table refund_rules. */
static void
check_rule(const PaymentIntent *p, int64 amount)
{
	bool whole;
	bool partial;
	int64 days;

	if (p->method == NULL || RUN(find_rule, arg_text(p->provider), arg_text(p->method)) == 0)
		return;
	whole = row_bool(0, 1);
	partial = row_bool(0, 2);
	days = row_int4(0, 3);
	if (!whole)
		ereport(ERROR,
				(errcode(ERRCODE_JB_NOT_SUPPORTED),
				 errmsg("provider \"%s\" cannot refund a payment by %s", p->provider, p->method),
				 errhint("Pay the customer back by a transfer of your own.")));
	if (!partial && amount < p->amount_received)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("provider \"%s\" cannot refund a part of a payment by %s",
							   p->provider, p->method),
						errhint("Refund all of it: leave amount out.")));
	if (days > 0 && p->paid_at != 0 &&
		clock_now(p->organization_id) > p->paid_at + days * USECS_PER_DAY)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("provider \"%s\" refunds a payment by %s for " INT64_FORMAT " days",
							   p->provider, p->method, days),
						errdetail("It was paid at %s.", timestamptz_to_str(p->paid_at)),
						errhint("Pay the customer back by a transfer of your own.")));
}

/* What changes and credit notes have given of its invoice, to the balance or the next one, is not paid back besides. */
static Rest
what_may_go_back(const PaymentIntent *p)
{
	Rest rest = what_is_left(p);

	if (p->invoice_id == NULL)
		return rest;
	rest.credited = Max(rest.left - credits_leave(p->invoice_id), 0);
	rest.left -= rest.credited;
	return rest;
}

/* The amount to give back: what is named, or all that is left. */
static int64
refund_amount(const PaymentIntent *p, int64 amount)
{
	Rest rest = what_may_go_back(p);
	const char *hint =
		rest.credited > 0
			? "What changes and credit notes have given back of its invoice pays the next "
			  "invoices."
			: NULL;

	if (rest.left == 0)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("nothing is left to refund of payment intent \"%s\"", uuid_text(p->id)),
				 errdetail("Received " INT64_FORMAT ", refunded or about to be " INT64_FORMAT
						   ", disputed " INT64_FORMAT
						   ", given back as credit of its invoice " INT64_FORMAT ".",
						   p->amount_received, rest.given_back, rest.disputed, rest.credited),
				 errhint("%s", hint != NULL ? hint
											: "billing.list_refunds() and billing.list_disputes() "
											  "show them.")));
	if (amount == NO_AMOUNT)
		return rest.left;
	if (amount <= 0 || amount > rest.left)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("amount must be from 1 to what is left of the payment"),
				 errdetail("Amount is " INT64_FORMAT ", left are " INT64_FORMAT " of " INT64_FORMAT
						   ": refunded or about to be " INT64_FORMAT ", disputed " INT64_FORMAT
						   ", given back as credit of its invoice " INT64_FORMAT ".",
						   amount, rest.left, p->amount_received, rest.given_back, rest.disputed,
						   rest.credited),
				 errhint("Leave amount out to refund all that is left.%s%s",
						 hint != NULL ? " " : "", hint != NULL ? hint : "")));
	(void) wire_price(p->provider, p->currency, amount);
	return amount;
}

QUERY(
	insert_refund,
	"INSERT INTO billing.refunds (id, payment_intent_id, customer_id, organization_id, provider, account, livemode, "
	"amount, currency, reason, description, metadata, credit_note_id) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, coalesce($12, '{}'), $13)",
	UUIDOID, UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT8OID, TEXTOID, TEXTOID,
	BYTEAOID, JSONBOID, UUIDOID);

/* The customer is locked, then the payment: also against who changes that row by other ways. */
static pg_uuid_t *
refund_create(const pg_uuid_t *payment_intent_id, int64 amount, const char *reason,
			  const char *description, const Jsonb *metadata, const pg_uuid_t *credit_note_id)
{
	PaymentIntent *p;
	pg_uuid_t *id = new_id();
	JsonBuilder b;

	RUN(lock_payment, arg_uuid(payment_intent_id));
	p = payment_intent_load(payment_intent_id);
	if (!payment_arrived(p->status))
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("payment intent \"%s\" is not paid", uuid_text(p->id)),
				 errdetail("Its status is %s.", p->status),
				 errhint("Use billing.cancel_payment_intent() to give it up before it is paid.")));
	amount = refund_amount(p, amount);
	check_rule(p, amount);
	RUN(insert_refund, arg_uuid(id), arg_uuid(p->id), arg_uuid(p->customer_id),
		arg_text(p->organization_id), arg_text(p->provider), arg_text(p->account),
		arg_bool(p->livemode), arg_int(amount), arg_text(p->currency), arg_text(reason),
		arg_bytes(seal_text("refunds.description", id, description)), arg_json(metadata),
		arg_uuid(credit_note_id));
	event_record("refund.created", "refund", id, p->organization_id, NULL, "pending");
	json_open(&b);
	json_add_text(&b, "reason", reason);
	json_add_text(&b, "method", p->method);
	json_add_bool(&b, "whole", amount == p->amount_received);
	outbox_enqueue(account_get(p->provider, p->account), OPERATION_REFUND_CREATE, id,
				   p->customer_id, json_close(&b), NULL);
	return id;
}

pg_uuid_t *
refund_for_credit_note(const pg_uuid_t *payment_intent_id, int64 amount, const char *reason,
					   const pg_uuid_t *credit_note_id)
{
	return refund_create(payment_intent_id, amount, reason, NULL, NULL, credit_note_id);
}

int64
refund_left(const pg_uuid_t *payment_intent_id)
{
	PaymentIntent *p;

	RUN(lock_payment, arg_uuid(payment_intent_id));
	p = payment_intent_load(payment_intent_id);
	return payment_arrived(p->status) ? what_is_left(p).left : 0;
}

SQL_FUNCTION(billing_create_refund)
{
	pg_uuid_t *payment_intent_id = ARG_UUID(0);
	int64 amount = ARG_INT(1, NO_AMOUNT);
	char *reason = ARG_TEXT(2);
	char *description = ARG_TEXT(3);
	Jsonb *metadata = ARG_JSON(4);
	char *key = ARG_TEXT(5);
	KeyedArgument arguments[] = {
		{"payment_intent_id", payment_intent_id == NULL ? NULL : uuid_text(payment_intent_id)},
		{"amount", psprintf(INT64_FORMAT, amount)},
		{"reason", reason},
		{"description", description},
		{"metadata", metadata == NULL ? NULL : json_string(metadata)},
	};
	PaymentIntent *p;
	pg_uuid_t *id;

	db_open();
	check_no_card("reason", reason);
	check_no_card("description", description);
	check_no_card_json("metadata", metadata);
	check_word("reason", reason, reason_words);
	check_metadata(metadata);
	p = payment_intent_load_locked(payment_intent_id);
	id = idempotency_find("create_refund", p->organization_id, key, arguments, lengthof(arguments));
	if (id == NULL)
	{
		id = refund_create(p->id, amount, reason, description, metadata, NULL);
		idempotency_store("create_refund", p->organization_id, key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

/* ---- cancel ---- */

QUERY(
	end_refund,
	"UPDATE billing.refunds SET status = $2, requires_action = false, error_code = $3, updated_at = now() "
	"WHERE id = $1 AND status = 'pending'",
	UUIDOID, TEXTOID, TEXTOID);

/* Releases what it had reserved. */
static void
release(const Refund *f, const char *status, const char *code)
{
	if (RUN(end_refund, arg_uuid(f->id), arg_text(status), arg_text(code)) == 0)
		return;
	event_record(psprintf("refund.%s", status), "refund", f->id, f->organization_id, f->status,
				 status);
	refunds_settle(f->payment_intent_id);
}

SQL_FUNCTION(billing_cancel_refund)
{
	pg_uuid_t *id = ARG_UUID(0);
	Refund *f;
	JsonBuilder b;

	db_open();
	check_given("refund_id", id != NULL);
	f = refund_load(id);
	if (f == NULL)
		unknown_object("refund", uuid_text(id), NULL);
	outbox_lock_customer(f->customer_id);
	f = refund_load(id);
	if (strcmp(f->status, "succeeded") == 0 || strcmp(f->status, "failed") == 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("refund \"%s\" has %s", uuid_text(id), f->status),
						errhint("Only a pending refund can be canceled.")));
	if (strcmp(f->status, "pending") == 0 && !outbox_under_way(id, OPERATION_REFUND_CANCEL))
	{
		if (f->provider_id == NULL && outbox_withdraw_creation(id, OPERATION_REFUND_CREATE))
		{
			release(f, "canceled", NULL);
			outbox_promote(uuid_array(&f->customer_id, 1));
			worker_wake_at_commit();
		}
		else
		{
			json_open(&b);
			outbox_enqueue(account_get(f->provider, f->account), OPERATION_REFUND_CANCEL, id,
						   f->customer_id, json_close(&b), NULL);
		}
	}
	db_close();
	PG_RETURN_VOID();
}

/* ---- to the provider ---- */

/*
 * What the provider has given back already and which refunds it knows: by that
 * a lost answer is found again.  Noted when the request is built, because the
 * webhook about this very refund may come before it is looked up.
 */
static void
add_known(JsonBuilder *b, const OutboxRow *row, const PaymentIntent *p)
{
	static const char *const members[] = {"known", "refunded_before", NULL};
	JsonBuilder known;
	Jsonb *noted = row->arguments;

	if (outbox_is_fresh(row))
	{
		RUN(known_refunds, arg_uuid(p->id));
		json_open(&known);
		json_add_json(&known, "known", row_json(0, 2));
		json_add_int(&known, "refunded_before",
					 wire_price(row->provider, p->currency, row_int(0, 1) + p->refunded_elsewhere));
		noted = json_close(&known);
		outbox_remember(row, noted);
	}
	json_copy(b, noted, members);
}

static Description
describe_create(const OutboxRow *row, const Refund *f, const PaymentIntent *p)
{
	JsonBuilder b;

	if (strcmp(f->status, "pending") != 0 && outbox_is_fresh(row))
		return (Description){OBSOLETE, NULL, "the refund is over: make a new one"};
	if (p->provider_id == NULL)
	{
		release(f, "failed", "payment_missing");
		return (Description){OBSOLETE, NULL, "the payment is not known there"};
	}
	json_open(&b);
	json_add_text(&b, "reference", uuid_text(f->id));
	json_add_text(&b, "organization_id", f->organization_id);
	json_add_text(&b, "payment_intent", p->provider_id);
	json_add_text(&b, "charge", ref_find("charge", p->id, row->provider, row->account));
	json_add_text(&b, "method", p->method);
	json_add_int(&b, "amount", wire_price(row->provider, f->currency, f->amount));
	json_add_bool(&b, "whole", f->amount == p->amount_received);
	json_add_text(&b, "currency", f->currency);
	json_add_text(&b, "reason", f->reason);
	json_add_text(&b, "description", unseal_text("refunds.description", f->id, f->description));
	json_add_json(&b, "metadata", f->metadata);
	add_known(&b, row, p);
	return (Description){READY, json_close(&b), NULL};
}

Description
refund_describe(const OutboxRow *row)
{
	Refund *f = refund_load(row->object_id);
	PaymentIntent *p;
	JsonBuilder b;

	if (f == NULL)
		elog(ERROR, "refund %s is gone", uuid_text(row->object_id));
	p = payment_intent_load(f->payment_intent_id);
	if (row->operation == OPERATION_REFUND_CREATE)
		return describe_create(row, f, p);
	if (f->provider_id == NULL)
		return (Description){OBSOLETE, NULL, "the refund was never made there"};
	if (row->operation == OPERATION_REFUND_CANCEL && strcmp(f->status, "pending") != 0)
		return (Description){OBSOLETE, NULL, "the refund is over"};
	json_open(&b);
	json_add_text(&b, "refund", f->provider_id);
	json_add_text(&b, "payment_intent", p->provider_id);
	json_add_text(&b, "charge", ref_find("charge", p->id, row->provider, row->account));
	json_add_text(&b, "reference", uuid_text(f->id));
	json_add_int(&b, "amount", wire_price(row->provider, f->currency, f->amount));
	json_add_text(&b, "currency", f->currency);
	return (Description){READY, json_close(&b), NULL};
}

QUERY(note_error, "UPDATE billing.refunds SET error_code = $2, updated_at = now() WHERE id = $1",
	  UUIDOID, TEXTOID);

void
refund_refused(const OutboxRow *row, const CallResult *result)
{
	const char *code = result->error_code != NULL ? result->error_code : result->error_type;
	Refund *f = refund_load(row->object_id);

	if (f == NULL)
		return;
	if (row->operation != OPERATION_REFUND_CREATE)
	{
		RUN(note_error, arg_uuid(f->id), arg_text(code));
		return;
	}
	if (code != NULL && strcmp(code, "canceled") == 0)
		release(f, "canceled", NULL);
	else
		release(f, "failed", code != NULL ? code : "refused");
}

/* ---- from the provider ---- */

/* One of ours went out and its answer is not there yet: news without our reference may be about it. */
QUERY(
	refund_on_its_way,
	"SELECT FROM billing.outbox AS o JOIN billing.refunds AS f ON f.id = o.object_id "
	"WHERE f.payment_intent_id = $1 AND o.operation = 'refund.create' AND o.request IS NOT NULL LIMIT 1",
	UUIDOID);
QUERY(
	adopt_refund,
	"INSERT INTO billing.refunds (id, payment_intent_id, customer_id, organization_id, provider, account, livemode, "
	"status, amount, currency, reason, created_at) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9, $10, coalesce($11, now()))",
	UUIDOID, UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT8OID, TEXTOID, TEXTOID,
	TIMESTAMPTZOID);

/* A refund that somebody made at the provider, of a payment that we know. */
static Refund *
adopt(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const RefundSnapshot *told = &snapshot->refund;
	PaymentIntent *p = payment_intent_load(
		payment_intent_told(told->payment_intent, told->charge, news));
	pg_uuid_t *id;

	if (p == NULL)
	{
		*waiting_for = told->payment_intent != NULL ? told->payment_intent : told->charge;
		return NULL;
	}
	news_lock_customer(news, p->customer_id);
	/* whoever held the lock may have brought it, or the answer that was waited for */
	id = snapshot_object(snapshot, news);
	if (id != NULL)
		return refund_load(id);
	if (told->amount == NO_AMOUNT || told->amount == 0 ||
		RUN(refund_on_its_way, arg_uuid(p->id)) > 0)
	{
		*waiting_for = snapshot->provider_id;
		return NULL;
	}
	id = new_id();
	RUN(adopt_refund, arg_uuid(id), arg_uuid(p->id), arg_uuid(p->customer_id),
		arg_text(p->organization_id), arg_text(p->provider), arg_text(p->account),
		arg_bool(p->livemode), arg_int(amount_from_wire(news->provider, p->currency, told->amount)),
		arg_text(p->currency), arg_text(told->reason), arg_time(told->created_at));
	event_record("refund.created", "refund", id, p->organization_id, NULL, "pending");
	return refund_load(id);
}

/* Pending is left for good; what was given up may turn out to have been paid, and the other way round. */
static bool
may_become(const char *status, const char *told)
{
	if (strcmp(status, told) == 0 || strcmp(status, "pending") == 0)
		return true;
	return strcmp(told, "pending") != 0;
}

/* How far it has come, for what is told of one second (refs.h). A bank may send it back. */
static int
stage_of(const char *status)
{
	return strcmp(status, "pending") == 0     ? STAGE(0, 0)
		   : strcmp(status, "succeeded") == 0 ? STAGE(1, 0)
											  : STAGE(2, 0);
}

QUERY(
	mirror_refund,
	"UPDATE billing.refunds SET status = $2, requires_action = $3, amount = coalesce($4, amount), "
	"reason = coalesce(reason, $5), dispute_id = coalesce($6, dispute_id), "
	"error_code = CASE WHEN $2 IN ('failed', 'canceled') THEN coalesce($7, error_code) END, "
	"failed_at = CASE WHEN $2 IN ('failed', 'canceled') THEN least(failed_at, $9) END, "
	"provider_created_at = coalesce($8, provider_created_at), updated_at = now() "
	"WHERE id = $1",
	UUIDOID, TEXTOID, BOOLOID, INT8OID, TEXTOID, UUIDOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
static void
mirror(const Refund *f, const RefundSnapshot *told, const News *news, const char *status)
{
	int64 amount = told->amount == NO_AMOUNT || told->amount == 0
					   ? f->amount
					   : amount_from_wire(news->provider, f->currency, told->amount);

	RUN(mirror_refund, arg_uuid(f->id), arg_text(status),
		arg_bool(told->requires_action && strcmp(status, "pending") == 0), arg_int(amount),
		arg_text(told->reason),
		arg_uuid(ref_object("dispute", told->dispute, news->provider, news->account)),
		arg_text(told->error_code), arg_time(told->created_at), arg_time(news->as_of));
	if (strcmp(f->status, status) != 0)
		event_record(psprintf("refund.%s", status), "refund", f->id, f->organization_id, f->status,
					 status);
	refunds_settle(f->payment_intent_id);
}

/* That it failed may be told again before it is told for the first time. */
QUERY(failed_earlier, "UPDATE billing.refunds SET failed_at = $2 WHERE id = $1 AND failed_at > $2",
	  UUIDOID, TIMESTAMPTZOID);

Applied
refund_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const RefundSnapshot *told = &snapshot->refund;
	pg_uuid_t *id = snapshot_object(snapshot, news);
	Refund *f = refund_load(id);
	const char *status;
	bool newer;

	if (f != NULL && news_lock_customer(news, f->customer_id))
		f = refund_load(id);
	if (f == NULL)
		f = adopt(snapshot, news, waiting_for);
	if (f == NULL)
		return SNAPSHOT_UNKNOWN;
	status = told->status != NULL ? told->status : f->status;
	if (stage_of(status) == stage_of("failed") && strcmp(f->status, status) == 0 &&
		RUN(failed_earlier, arg_uuid(f->id), arg_time(news->as_of)) > 0)
		refunds_settle(f->payment_intent_id);
	newer = may_become(f->status, status) && ref_advance(snapshot, f->id, news, stage_of(status));
	if (newer)
		mirror(f, told, news, status);
	fee_take(BILLING_REFUND, f->id, &told->fee, news);
	return newer ? SNAPSHOT_APPLIED : SNAPSHOT_STALE;
}

/*-------------------------------------------------------------------------
 *
 * payment_details.c
 *	  What a provider tells of a payment beside its state: of the charges that
 *	  were tried for it, which invoice it pays, and what the provider keeps.
 *
 * A charge has webhooks of its own, which come before and after those of the
 * payment.  They never change its state and nothing of the payment is ordered
 * by them: of several charges the latest counts by the time when it was tried,
 * so that the row is the same whichever webhook comes first.  A fee is told by
 * some of the news of an object and left out by others; the last one that told
 * it counts.  Called by payment_sync.c, refunds.c and disputes.c.
 *
 *-------------------------------------------------------------------------
 */
#include "payments.h"

#include "keys.h"
#include "wire_amounts.h"

/* ---- the latest charge ---- */

QUERY(add_charge,
	  "UPDATE billing.payment_intents SET charges = ARRAY("
	  "SELECT c.id FROM unnest(charges || $2) AS c (id) ORDER BY c.id) "
	  "WHERE id = $1 AND $2 <> ALL (charges)",
	  UUIDOID, TEXTOID);

/* Who says which one is the latest. */
typedef enum Teller
{
	TOLD_BY_CHARGE,
	TOLD_BEFORE, /* by the payment, which has told something later since */
	TOLD_LAST    /* by the payment, and that is its last word */
} Teller;

/*
 * The payment says it with more authority: its word (stage 1) goes over a charge
 * of the same time, and the order of its own news has decided between two words.
 * Of two charges of one second any will do, as long as it is always the same.
 */
QUERY(
	advance_charge,
	"INSERT INTO billing.provider_refs AS r (object_type, object_id, provider, account, provider_id, livemode, "
	"as_of, as_of_stage) VALUES ('charge', $1, $2, $3, $4, $5, $6, CASE $7 WHEN 0 THEN 0 ELSE 1 END) "
	"ON CONFLICT (object_id, object_type, provider, account) DO UPDATE "
	"SET provider_id = excluded.provider_id, as_of = excluded.as_of, as_of_stage = excluded.as_of_stage "
	"WHERE (r.as_of, r.as_of_stage) < (excluded.as_of, excluded.as_of_stage) "
	"OR ((r.as_of, r.as_of_stage) = (excluded.as_of, excluded.as_of_stage) "
	"AND CASE $7 WHEN 0 THEN r.provider_id < excluded.provider_id "
	"WHEN 2 THEN r.provider_id <> excluded.provider_id ELSE false END)",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TIMESTAMPTZOID, INT4OID);

bool
payment_add_charge(const PaymentIntent *payment, const char *charge, const News *news)
{
	if (RUN(add_charge, arg_uuid(payment->id), arg_text(charge)) == 0)
		return false;
	ref_appeared("charge", charge, payment->id, news);
	return true;
}

static bool
note_charge(const PaymentIntent *p, const char *charge, TimestampTz as_of, Teller teller,
			const News *news)
{
	bool added = payment_add_charge(p, charge, news);

	return RUN(advance_charge, arg_uuid(p->id), arg_text(news->provider), arg_text(news->account),
			   arg_text(charge), arg_bool(news->livemode), arg_time(as_of), arg_int4(teller)) > 0 ||
		   added;
}

void
payment_note_charge(const PaymentIntent *payment, const char *charge, bool newest, const News *news)
{
	(void) note_charge(payment, charge, news->as_of, newest ? TOLD_LAST : TOLD_BEFORE, news);
}

/* ---- the sale of a provider that is the seller ---- */

QUERY(
	take_sale,
	"UPDATE billing.payment_intents SET provider_tax = coalesce($2, provider_tax), provider_number = coalesce($3, provider_number), "
	"updated_at = now() WHERE id = $1 AND (provider_tax, provider_number) "
	"IS DISTINCT FROM (coalesce($2, provider_tax), coalesce($3, provider_number))",
	UUIDOID, INT8OID, TEXTOID);

/* They are final when it is paid. */
void
payment_take_sale(const PaymentIntent *payment, const PaymentIntentSnapshot *told, const News *news)
{
	Arg tax = told->provider_tax == NO_AMOUNT
				  ? arg_null()
				  : arg_int(
						amount_from_wire(news->provider, payment->currency, told->provider_tax));

	if (told->provider_tax != NO_AMOUNT || told->provider_number != NULL)
		RUN(take_sale, arg_uuid(payment->id), tax, arg_text(told->provider_number));
}

/* ---- what it tells ---- */

/*
 * They are those of the charge that was tried last, whether or not the payment
 * has named it yet.  Of two charges of one second the one with a receipt took
 * the money; the id only makes the choice the same in any order.  A receipt is
 * sealed anew each time: the same one is not written again.
 */
QUERY(
	take_details,
	"UPDATE billing.payment_intents SET method = coalesce($2, method), "
	"installments = CASE WHEN details_charge = $5 THEN coalesce($3, installments) ELSE $3 END, "
	"receipt_url = CASE WHEN details_charge = $5 THEN coalesce(receipt_url, $4) ELSE $4 END, "
	"details_charge = $5, details_charged_at = $6, updated_at = now() "
	"WHERE id = $1 AND CASE WHEN details_charge = $5 THEN method IS DISTINCT FROM coalesce($2, method) "
	"OR installments IS DISTINCT FROM coalesce($3, installments) OR (receipt_url IS NULL AND $4 IS NOT NULL) "
	"ELSE details_charge IS NULL OR (details_charged_at, receipt_url IS NOT NULL, details_charge) "
	"< ($6, $4 IS NOT NULL, $5) END",
	UUIDOID, TEXTOID, INT4OID, BYTEAOID, TEXTOID, TIMESTAMPTZOID);

bool
payment_take_details(const PaymentIntent *payment, const PaymentIntentSnapshot *told)
{
	bytea *receipt = seal_text("payment_intents.receipt_url", payment->id, told->receipt_url);

	return RUN(take_details, arg_uuid(payment->id), arg_text(told->method),
			   told->installments > 0 ? arg_int4(told->installments) : arg_null(),
			   arg_bytes(receipt), arg_text(told->charge), arg_time(told->charged_at)) > 0;
}

/*
 * The payment tells its error itself: the charge's is for what it leaves out,
 * as long as nothing has been tried since.
 */
QUERY(
	fill_error,
	"UPDATE billing.payment_intents AS p SET error_code = coalesce(p.error_code, $2), "
	"decline_code = coalesce(p.decline_code, $3), updated_at = now() "
	"WHERE p.id = $1 AND p.details_charge = $7 AND p.status IN ('pending', 'failed') "
	"AND ((p.error_code IS NULL AND $2 IS NOT NULL) OR (p.decline_code IS NULL AND $3 IS NOT NULL)) "
	"AND EXISTS (SELECT FROM billing.provider_refs AS r WHERE r.object_id = p.id "
	"AND r.object_type = 'payment_intent' AND r.provider = $4 AND r.account = $5 AND r.as_of <= $6)",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID);

static bool
take_error(const PaymentIntent *p, const PaymentIntentSnapshot *told, const News *news)
{
	return RUN(fill_error, arg_uuid(p->id), arg_text(told->error_code),
			   arg_text(told->decline_code), arg_text(news->provider), arg_text(news->account),
			   arg_time(news->as_of), arg_text(told->charge)) > 0;
}

/* It may be told before the money has arrived, and counts from then on. */
static bool
take_sum(const PaymentIntent *p, const PaymentIntentSnapshot *told, const News *news)
{
	bool changed;

	if (told->amount_refunded == NO_AMOUNT)
		return false;
	changed = refunds_told(
		p->id, amount_from_wire(news->provider, p->currency, told->amount_refunded), news->as_of);
	if (changed)
		refunds_settle(p->id);
	return changed;
}

/* ---- fees ---- */

/*
 * The news that tell it may be older than the state that we have: it has an
 * order of its own, and of two fees of one second the greater counts.  One in a
 * currency that is not in our table stays unknown.  The ledger follows by trigger.
 */
#define TAKE_FEE(table)                                                                           \
	"UPDATE billing." table                                                                       \
	" AS o SET fee_amount = $2, fee_currency = $3, fee_told_at = date_trunc('second', $4), "      \
	"updated_at = CASE WHEN (o.fee_amount, o.fee_currency) IS DISTINCT FROM ($2, $3) THEN now() " \
	"ELSE o.updated_at END WHERE o.id = $1 AND (o.fee_told_at IS NULL "                           \
	"OR (o.fee_told_at, o.fee_amount, o.fee_currency) < (date_trunc('second', $4), $2, $3)) "     \
	"AND EXISTS (SELECT FROM billing.currencies AS c WHERE c.code = $3)"

QUERY(take_payment_fee, TAKE_FEE("payment_intents"), UUIDOID, INT8OID, TEXTOID, TIMESTAMPTZOID);
QUERY(take_refund_fee, TAKE_FEE("refunds"), UUIDOID, INT8OID, TEXTOID, TIMESTAMPTZOID);
QUERY(take_dispute_fee, TAKE_FEE("disputes"), UUIDOID, INT8OID, TEXTOID, TIMESTAMPTZOID);

void
fee_take(BillingObject type, const pg_uuid_t *id, const FeeSnapshot *told, const News *news)
{
	Arg object = arg_uuid(id);
	Arg currency = arg_text(told->currency);
	Arg as_of = arg_time(news->as_of);
	Arg amount;

	if (told->currency == NULL || told->amount == NO_AMOUNT)
		return;
	amount = arg_int(amount_from_wire(news->provider, told->currency, told->amount));
	if (type == BILLING_REFUND)
		RUN(take_refund_fee, object, amount, currency, as_of);
	else if (type == BILLING_DISPUTE)
		RUN(take_dispute_fee, object, amount, currency, as_of);
	else
		RUN(take_payment_fee, object, amount, currency, as_of);
}

/* ---- news beside the state ---- */

/*
 * One that does not say when it was tried is an attempt that there was, and no
 * more: nobody knows whether another one came after it.  Sums have an order of
 * their own.
 */
static bool
take_charge(const PaymentIntent *p, const PaymentIntentSnapshot *told, const News *news)
{
	bool changed;

	if (told->charged_at == 0)
		changed = payment_add_charge(p, told->charge, news);
	else
	{
		changed = note_charge(p, told->charge, told->charged_at, TOLD_BY_CHARGE, news);
		changed |= payment_take_details(p, told);
		changed |= take_error(p, told, news);
	}
	changed |= take_sum(p, told, news);
	return changed;
}

Applied
payment_details_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const PaymentIntentSnapshot *told = &snapshot->payment_intent;
	pg_uuid_t *id = ref_object("payment_intent", snapshot->provider_id, news->provider,
							   news->account);
	PaymentIntent *p = payment_intent_load(id);
	pg_uuid_t *invoice = ref_object("invoice", told->invoice, news->provider, news->account);
	bool changed = false;

	*waiting_for = p == NULL ? snapshot->provider_id : told->invoice;
	if (p == NULL || (told->invoice != NULL && invoice == NULL))
		return SNAPSHOT_UNKNOWN;
	/* two webhooks at once: the second one sees what the first one made of it */
	if (news_lock_customer(news, p->customer_id))
		p = payment_intent_load(id);
	if (invoice != NULL)
		changed = payment_intent_link_invoice(snapshot->provider_id, invoice, news);
	if (told->charge != NULL)
		changed |= take_charge(p, told, news);
	fee_take(BILLING_PAYMENT_INTENT, p->id, &told->fee, news);
	return changed ? SNAPSHOT_APPLIED : SNAPSHOT_STALE;
}

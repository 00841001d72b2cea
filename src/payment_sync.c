/*-------------------------------------------------------------------------
 *
 * payment_sync.c
 *	  Payment intents between us and the providers: what a request says about
 *	  one, and what is taken over from what a provider says.
 *
 * Three rules stand above the order of news: money that has arrived is booked
 * whatever our state was, a failure or an older state never undoes it, and
 * what was given back is counted from the refunds (refunds.c), so that it is
 * not counted again when the provider tells the sum.
 *
 *-------------------------------------------------------------------------
 */
#include "payments.h"

#include "collection.h"
#include "keys.h"
#include "links.h"
#include "wire_amounts.h"

/* ---- to the provider ---- */

QUERY(
	payment_terms,
	"SELECT description, statement_descriptor_suffix, receipt_email, terms, metadata, charges, capture_method "
	"FROM billing.payment_intents WHERE id = $1",
	UUIDOID);
QUERY(method_state, "SELECT state FROM billing.payment_methods WHERE id = $1", UUIDOID);
QUERY(
	fail_payment,
	"UPDATE billing.payment_intents SET status = 'failed', error_code = coalesce($2, error_code), updated_at = now() "
	"WHERE id = $1 AND status IN ('pending', 'requires_action', 'processing') RETURNING organization_id",
	UUIDOID, TEXTOID);
QUERY(note_error,
	  "UPDATE billing.payment_intents SET error_code = $2, updated_at = now() WHERE id = $1",
	  UUIDOID, TEXTOID);

bool
payment_method_at_provider(const OutboxRow *row, const pg_uuid_t *method, char **provider_id)
{
	*provider_id = NULL;
	if (method == NULL)
		return true;
	if (RUN(method_state, arg_uuid(method)) == 0 || strcmp(row_text(0, 1), "attached") != 0)
		return false;
	*provider_id = ref_find("payment_method", method, row->provider, row->account);
	return *provider_id != NULL;
}

/*
 * It will not be tried: the row says why.  Only for a request that is about to
 * be built: what became of one that was sent the provider has to say.
 */
static Description
give_up(const PaymentIntent *p, const char *code, const char *reason)
{
	if (RUN(fail_payment, arg_uuid(p->id), arg_text(code)) > 0)
		event_record("payment_intent.failed", "payment_intent", p->id, p->organization_id,
					 p->status, "failed");
	collection_look_again(p->id);
	return (Description){OBSOLETE, NULL, reason};
}

/* return_url and mandate, which are sealed in the row. */
static void
add_private_terms(JsonBuilder *b, const pg_uuid_t *id, const bytea *sealed)
{
	static const char *const members[] = {"return_url", "mandate", NULL};
	const char *reason;
	char *text = unseal_text("payment_intents.terms", id, sealed);

	if (text != NULL)
		json_copy(b, json_parse(text, strlen(text), &reason), members);
}

/*
 * Who pays, as the customer is known now: a voucher is made out to somebody.
 * Embedded providers make theirs out to nobody, and keep what they are told.
 */
static void
add_payer(JsonBuilder *b, const OutboxRow *row, const pg_uuid_t *customer_id)
{
	CustomerTerms customer;

	if (provider_find(row->provider)->embedded != NULL)
		return;
	customer = customer_terms(customer_id, NULL);
	json_open_object(b, "billing_details");
	json_add_text(b, "name", customer.name);
	json_add_text(b, "email", customer.email);
	json_add_text(b, "phone", customer.phone);
	json_close_object(b);
}

static Description
describe_create(const OutboxRow *row, const PaymentIntent *p)
{
	static const char *const members[] = {"method",
										  "token",
										  "confirm",
										  "off_session",
										  "capture_method",
										  "installments",
										  "expires_at",
										  "setup_future_usage",
										  NULL};
	char *customer = ref_find("customer", p->customer_id, row->provider, row->account);
	char *method;
	bool ready;
	JsonBuilder b;

	if (strcmp(p->status, "canceled") == 0 && outbox_is_fresh(row))
		return (Description){OBSOLETE, NULL, "the payment was canceled"};
	if (customer == NULL)
		return give_up(p, "customer_missing", "the customer was never created there");
	if (!payment_method_at_provider(row, p->payment_method_id, &method) && outbox_is_fresh(row))
		return give_up(p, "payment_method_refused", "the payment method was refused");
	if (RUN(payment_terms, arg_uuid(p->id)) == 0)
		elog(ERROR, "payment intent %s is gone", uuid_text(p->id));
	json_open(&b);
	json_add_text(&b, "reference", uuid_text(p->id));
	json_add_text(&b, "organization_id", p->organization_id);
	json_add_text(&b, "customer", customer);
	json_add_text(&b, "payment_method", method);
	json_add_text(&b, "currency", p->currency);
	json_copy(&b, row->arguments, members);
	json_add_text(&b, "description", row_text(0, 1));
	json_add_text(&b, "statement_descriptor_suffix", row_text(0, 2));
	json_add_text(&b, "receipt_email",
				  unseal_text("payment_intents.receipt_email", p->id, row_bytes(0, 3)));
	add_private_terms(&b, p->id, row_bytes(0, 4));
	json_add_json(&b, "metadata", row_json(0, 5));
	add_payer(&b, row, p->customer_id);
	json_add_int(&b, "amount", wire_charge(row->provider, p->currency, p->amount));
	ready = payment_lines_to_wire(&b, row, p->currency);
	return (Description){ready ? READY : NOT_YET, json_close(&b),
						 ready ? NULL : "a price does not exist there"};
}

QUERY(all_charges, "SELECT to_jsonb(charges) FROM billing.payment_intents WHERE id = $1", UUIDOID);

static Description
describe_confirm(const OutboxRow *row, const PaymentIntent *p, JsonBuilder *b)
{
	static const char *const members[] = {"method",       "token",      "off_session",
										  "installments", "expires_at", NULL};
	char *named = json_text(row->arguments, "payment_method_id");
	char *method = NULL;

	if (named != NULL && !payment_method_at_provider(row, uuid_parse(named), &method) &&
		outbox_is_fresh(row))
		return give_up(p, "payment_method_refused", "the payment method was refused");
	if (RUN(payment_terms, arg_uuid(p->id)) == 0)
		elog(ERROR, "payment intent %s is gone", uuid_text(p->id));
	add_private_terms(b, p->id, row_bytes(0, 4));
	json_add_text(b, "payment_method", method);
	json_add_int(b, "amount", wire_charge(row->provider, p->currency, p->amount));
	json_copy(b, row->arguments, members);
	add_payer(b, row, p->customer_id);
	/* the attempts that there were before this one */
	json_add_json(b, "known", outbox_known(row, &all_charges, (const Arg[]){arg_uuid(p->id)}));
	return (Description){READY, json_close(b), NULL};
}

static void
add_capture_amount(JsonBuilder *b, const OutboxRow *row, const PaymentIntent *p)
{
	int64 amount;

	if (json_int(row->arguments, "amount", &amount))
		json_add_int(b, "amount", wire_charge(row->provider, p->currency, amount));
}

Description
payment_intent_describe(const OutboxRow *row)
{
	static const char *const members[] = {"reason", "amounts", "descriptor_code", NULL};
	PaymentIntent *p = payment_intent_load(row->object_id);
	JsonBuilder b;

	if (p == NULL)
		elog(ERROR, "payment intent %s is gone", uuid_text(row->object_id));
	if (row->operation == OPERATION_PAYMENT_INTENT_CREATE)
		return describe_create(row, p);
	if (p->provider_id == NULL)
		return (Description){OBSOLETE, NULL, "the payment was never made there"};
	if (row->operation != OPERATION_PAYMENT_INTENT_FETCH && outbox_is_fresh(row) &&
		(payment_arrived(p->status) || strcmp(p->status, "canceled") == 0))
		return (Description){OBSOLETE, NULL, "the payment is over"};
	if (row->operation == OPERATION_PAYMENT_INTENT_CONFIRM && outbox_is_fresh(row) &&
		!payment_confirmable(p->status))
		return (Description){OBSOLETE, NULL, "the payment is on its way"};
	json_open(&b);
	json_add_text(&b, "payment_intent", p->provider_id);
	json_add_text(&b, "reference", uuid_text(p->id));
	json_add_text(&b, "currency", p->currency);
	if (row->operation == OPERATION_PAYMENT_INTENT_CONFIRM)
		return describe_confirm(row, p, &b);
	if (row->operation == OPERATION_PAYMENT_INTENT_CAPTURE)
		add_capture_amount(&b, row, p);
	else
		json_copy(&b, row->arguments, members);
	return (Description){READY, json_close(&b), NULL};
}

QUERY(
	withdraw_payment,
	"UPDATE billing.payment_intents SET status = 'canceled', client_secret = NULL, terms = NULL, updated_at = now() "
	"WHERE id = $1 AND status = 'pending'",
	UUIDOID);

/*
 * A charge that was declined, or a request that the provider does not take.
 * A confirmation that was not taken leaves the payment as it was: another one
 * may be tried; a creation that was not taken is the end of it.
 */
void
payment_intent_refused(const OutboxRow *row, const CallResult *result)
{
	const char *code = result->error_code != NULL ? result->error_code : result->error_type;
	bool creation = row->operation == OPERATION_PAYMENT_INTENT_CREATE;
	PaymentIntent *p = payment_intent_load(row->object_id);

	if (p == NULL)
		return;
	if (creation && code != NULL && strcmp(code, "canceled") == 0)
	{
		if (RUN(withdraw_payment, arg_uuid(p->id)) > 0)
			event_record("payment_intent.canceled", "payment_intent", p->id, p->organization_id,
						 p->status, "canceled");
		collection_payment_changed(p->id);
		return;
	}
	if (!creation && result->outcome != OUTCOME_DECLINED)
	{
		RUN(note_error, arg_uuid(p->id), arg_text(code));
		event_record("payment_intent.refused", "payment_intent", p->id, p->organization_id,
					 p->status, p->status);
		return;
	}
	if (RUN(fail_payment, arg_uuid(p->id), arg_text(code)) > 0)
		event_record("payment_intent.failed", "payment_intent", p->id, p->organization_id,
					 p->status, "failed");
	collection_payment_changed(p->id);
}

/* ---- from the provider ---- */

QUERY(
	payment_of_charge,
	"SELECT id FROM billing.payment_intents WHERE charges @> ARRAY[$1] AND provider = $2 AND account = $3 LIMIT 1",
	TEXTOID, TEXTOID, TEXTOID);

pg_uuid_t *
payment_intent_told(const char *payment_intent, const char *charge, const News *news)
{
	pg_uuid_t *id = ref_object("payment_intent", payment_intent, news->provider, news->account);

	if (id == NULL)
		id = ref_object("charge", charge, news->provider, news->account);
	/* of an attempt before the last one */
	if (id == NULL && charge != NULL &&
		RUN(payment_of_charge, arg_text(charge), arg_text(news->provider),
			arg_text(news->account)) > 0)
		id = row_uuid(0, 1);
	return id;
}

QUERY(
	adopt_payment,
	"INSERT INTO billing.payment_intents (id, customer_id, organization_id, provider, account, livemode, amount, "
	"currency, unasked, created_at) "
	"SELECT $1, c.id, c.organization_id, $3, $4, $5, $6, $7, true, coalesce($8, now()) FROM billing.customers AS c "
	"WHERE c.id = $2",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, BOOLOID, INT8OID, TEXTOID, TIMESTAMPTZOID);

QUERY(customer_of_method, "SELECT customer_id FROM billing.payment_methods WHERE id = $1", UUIDOID);

/* Whose method it was paid with, or who is named. */
static pg_uuid_t *
payer(const PaymentIntentSnapshot *told, const News *news)
{
	pg_uuid_t *method = ref_object("payment_method", told->payment_method, news->provider,
								   news->account);

	if (method != NULL && RUN(customer_of_method, arg_uuid(method)) > 0)
		return row_uuid(0, 1);
	return ref_object("customer", told->customer, news->provider, news->account);
}

/*
 * A payment that came into being at the provider: of a subscription, by its
 * dashboard, by a reference that the customer pays to again and again.  It is
 * ours as soon as its customer is.
 */
static PaymentIntent *
adopt(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const PaymentIntentSnapshot *told = &snapshot->payment_intent;
	pg_uuid_t *customer = payer(told, news);
	pg_uuid_t *id;

	if (customer == NULL || told->status == NULL || told->currency == NULL ||
		told->amount == NO_AMOUNT)
	{
		*waiting_for = customer == NULL && told->customer != NULL ? told->customer
																  : snapshot->provider_id;
		return NULL;
	}
	news_lock_customer(news, customer);
	/* whoever held the lock may have brought it */
	id = snapshot_object(snapshot, news);
	if (id != NULL)
		return payment_intent_load(id);
	id = new_id();
	RUN(adopt_payment, arg_uuid(id), arg_uuid(customer), arg_text(news->provider),
		arg_text(news->account), arg_bool(news->livemode),
		arg_int(amount_from_wire(news->provider, told->currency, told->amount)),
		arg_text(told->currency), arg_time(told->created_at));
	return payment_intent_load(id);
}

QUERY(transition_allowed,
	  "SELECT FROM billing.payment_intent_transitions WHERE from_state = $1 AND to_state = $2",
	  TEXTOID, TEXTOID);

/*
 * The state that follows; NULL when what is told cannot follow what we have.
 * What the provider calls refunded is a payment that has arrived: what came
 * back of it is counted from the refunds.
 */
static const char *
next_status(const PaymentIntent *p, const PaymentIntentSnapshot *told)
{
	const char *status = told->status;

	if (status == NULL)
		return p->status;
	if (payment_arrived(status))
		return payment_arrived(p->status) ? p->status : "succeeded";
	if (strcmp(p->status, status) == 0)
		return p->status;
	return RUN(transition_allowed, arg_text(p->status), arg_text(status)) > 0 ? status : NULL;
}

/*
 * How far it has come, for what is told of one second (refs.h).  A failed
 * payment may be tried again.
 */
static int
stage_of(const char *status)
{
	static const char *const middle[] = {"requires_action", "processing", "requires_capture",
										 "failed"};

	for (size_t i = 0; i < lengthof(middle); i++)
	{
		if (strcmp(status, middle[i]) == 0)
			return STAGE(1, (int) i);
	}
	return strcmp(status, "pending") == 0    ? STAGE(0, 0)
		   : strcmp(status, "canceled") == 0 ? STAGE(2, 0)
											 : STAGE(3, 0);
}

QUERY(
	mirror_payment,
	"UPDATE billing.payment_intents SET status = $2, provider_status = coalesce($3, provider_status), "
	"amount = coalesce($4, amount), amount_capturable = coalesce($5, CASE WHEN $2 = 'requires_capture' THEN "
	"greatest(amount_capturable, coalesce($4, amount)) ELSE 0 END), "
	"amount_received = coalesce($6, CASE WHEN $21 THEN greatest(amount_received, coalesce($4, amount)) "
	"ELSE amount_received END), "
	"method = coalesce($7, method), payment_method_id = CASE WHEN $25 THEN $8 ELSE payment_method_id END, "
	"client_secret = CASE WHEN $22 THEN NULL ELSE coalesce($9, client_secret) END, "
	"next_action = CASE WHEN $2 <> 'requires_action' THEN NULL ELSE coalesce($10, next_action) END, "
	"terms = CASE WHEN $22 THEN NULL ELSE terms END, "
	"expires_at = CASE WHEN $2 = 'requires_action' THEN $11 END, installments = coalesce($12, installments), "
	"error_code = CASE WHEN $2 = 'failed' THEN coalesce($13, error_code) WHEN $23 THEN $13 ELSE error_code END, "
	"decline_code = CASE WHEN $2 = 'failed' AND $13 IS NULL THEN decline_code WHEN $2 = 'failed' THEN $14 WHEN $23 THEN $14 ELSE decline_code END, "
	"cancellation_reason = CASE WHEN $2 = 'canceled' THEN coalesce($15, cancellation_reason) END, invoice_id = coalesce($16, invoice_id), "
	"subscription_id = coalesce($17, subscription_id), "
	"checkout_session_id = coalesce($18, checkout_session_id), receipt_url = coalesce($19, receipt_url), "
	"paid_at = CASE WHEN $21 THEN least(paid_at, coalesce($20, $24)) ELSE paid_at END, updated_at = now() WHERE id = $1",
	UUIDOID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, TEXTOID, UUIDOID, BYTEAOID, BYTEAOID,
	TIMESTAMPTZOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, UUIDOID, UUIDOID, UUIDOID, BYTEAOID,
	TIMESTAMPTZOID, BOOLOID, BOOLOID, BOOLOID, TIMESTAMPTZOID, BOOLOID);

/* Amounts come in the provider's units and are kept in ours. */
static Arg
arg_told(const PaymentIntent *p, const News *news, int64 amount)
{
	return amount == NO_AMOUNT ? arg_null()
							   : arg_int(amount_from_wire(news->provider, p->currency, amount));
}

static Arg
arg_ref(const char *type, const char *provider_id, const News *news)
{
	return arg_uuid(ref_object(type, provider_id, news->provider, news->account));
}

static void
mirror(const PaymentIntent *p, const PaymentIntentSnapshot *told, const News *news,
	   const char *status)
{
	bool arrived = payment_arrived(status);
	bool dated = told->charged_at != 0; /* its details are taken by that, see note_past() */
	Jsonb *action = unconstify(Jsonb *, told->next_action);

	RUN(mirror_payment, arg_uuid(p->id), arg_text(status), arg_text(told->provider_status),
		arg_told(p, news, told->amount), arg_told(p, news, told->amount_capturable),
		arg_told(p, news, told->amount_received), arg_text(told->method),
		arg_uuid(link_find("payment_method", told->payment_method, "payment_intent", p->id, news)),
		arg_bytes(seal_text("payment_intents.client_secret", p->id, told->client_secret)),
		arg_bytes(seal_text("payment_intents.next_action", p->id,
							action == NULL ? NULL : json_string(action))),
		arg_time(told->expires_at),
		told->installments > 0 && !dated ? arg_int4(told->installments) : arg_null(),
		arg_text(told->error_code), arg_text(told->decline_code),
		arg_text(told->cancellation_reason),
		arg_uuid(link_find("invoice", told->invoice, "payment_intent", p->id, news)),
		arg_ref("subscription", told->subscription, news),
		arg_ref("checkout_session", told->checkout_session, news),
		arg_bytes(
			seal_text("payment_intents.receipt_url", p->id, dated ? NULL : told->receipt_url)),
		arg_time(told->paid_at), arg_bool(arrived),
		arg_bool(arrived || strcmp(status, "canceled") == 0), arg_bool(told->status != NULL),
		arg_time(news->as_of), arg_bool(told->payment_method != NULL));
}

QUERY(arrived_earlier,
	  "UPDATE billing.payment_intents SET paid_at = $2 WHERE id = $1 AND paid_at > $2", UUIDOID,
	  TIMESTAMPTZOID);

/*
 * What stays true of a payment however late it is told: that there was such an
 * attempt, and when the money arrived, if that was before what we know.
 */
static void
note_past(const PaymentIntent *p, const PaymentIntentSnapshot *told, const News *news)
{
	if (told->charge != NULL)
		payment_add_charge(p, told->charge, news);
	if (told->charge != NULL && told->charged_at != 0)
		payment_take_details(p, told);
	if (told->status != NULL && payment_arrived(told->status))
	{
		payment_take_sale(p, told, news);
		RUN(arrived_earlier, arg_uuid(p->id),
			arg_time(told->paid_at != 0 ? told->paid_at : news->as_of));
	}
}

/* What is told of the state goes with the state; the rest stays as newer news told it. */
QUERY(
	book_arrival,
	"UPDATE billing.payment_intents SET status = $2, "
	"amount_received = coalesce($3, greatest(amount_received, coalesce($4, amount))), "
	"paid_at = least(paid_at, $5), amount_capturable = 0, client_secret = NULL, terms = NULL, next_action = NULL, "
	"expires_at = NULL, error_code = NULL, decline_code = NULL, cancellation_reason = NULL, updated_at = now() "
	"WHERE id = $1",
	UUIDOID, TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID);

/* Money is money, also when news that are older than what we have bring it. */
static void
book_late(const PaymentIntent *p, const PaymentIntentSnapshot *told, const News *news,
		  const char *status)
{
	RUN(book_arrival, arg_uuid(p->id), arg_text(status), arg_told(p, news, told->amount_received),
		arg_told(p, news, told->amount),
		arg_time(told->paid_at != 0 ? told->paid_at : news->as_of));
}

QUERY(keep_browser,
	  "UPDATE billing.payment_intents SET client_secret = coalesce(client_secret, $2), "
	  "next_action = CASE WHEN status = 'requires_action' THEN coalesce(next_action, $3) END "
	  "WHERE id = $1 AND status IN ('pending', 'requires_action', 'processing', 'failed')",
	  UUIDOID, BYTEAOID, BYTEAOID);

/*
 * What the browser needs may come in the answer to our own call only; it is
 * kept also when a webhook was faster and has told the rest already.
 */
static void
keep_for_browser(const PaymentIntent *p, const PaymentIntentSnapshot *told)
{
	if (told->client_secret == NULL && told->next_action == NULL)
		return;
	RUN(keep_browser, arg_uuid(p->id),
		arg_bytes(seal_text("payment_intents.client_secret", p->id, told->client_secret)),
		arg_bytes(seal_text("payment_intents.next_action", p->id,
							told->next_action == NULL ? NULL : json_string(told->next_action))));
}

/* What is paid, or is to be paid, in the provider's units. */
static int64
told_money(const PaymentIntentSnapshot *told)
{
	bool arrived = told->status != NULL && payment_arrived(told->status);

	return arrived && told->amount_received != NO_AMOUNT ? told->amount_received : told->amount;
}

/* A part of what was authorised may be captured: that is less than was asked for, and right. */
QUERY(note_difference,
	  "UPDATE billing.payment_intents SET asked_amount = coalesce(asked_amount, amount), "
	  "asked_currency = coalesce(asked_currency, currency), currency = $3, updated_at = now() "
	  "WHERE id = $1 AND (currency <> $3 OR (asked_amount IS NULL AND amount <> $2 "
	  "AND NOT (capture_method = 'manual' AND $2 < amount)))",
	  UUIDOID, INT8OID, TEXTOID);

/*
 * Where what we asked for is what is paid, another amount or currency is
 * booked as it is told, and what we asked for is kept beside it, for a person
 * to look at (the view attention).  A webhook that says so is not the last
 * word: the provider is asked.
 */
static PaymentIntent *
check_asked(PaymentIntent *p, const ProviderSnapshot *snapshot, const News *news)
{
	const PaymentIntentSnapshot *told = &snapshot->payment_intent;
	const char *currency = told->currency != NULL ? told->currency : p->currency;
	pg_uuid_t *reference = uuid_parse(snapshot->reference);
	int64 money = told_money(told);

	if (!told->as_asked || money == NO_AMOUNT || reference == NULL ||
		!uuid_equal(reference, p->id) ||
		RUN(note_difference, arg_uuid(p->id),
			arg_int(amount_from_wire(news->provider, currency, money)), arg_text(currency)) == 0)
		return p;
	event_record("payment_intent.amount_differs", "payment_intent", p->id, p->organization_id,
				 p->status, p->status);
	if (news->event_id[0] != '\0')
		refresh_doubtful("payment_intent", p->id, news->provider, news->account);
	return payment_intent_load(p->id);
}

/* All that came back, as the provider counts it. */
static void
take_refunded(const PaymentIntent *p, const PaymentIntentSnapshot *told, const News *news)
{
	PaymentIntent *now = payment_intent_load(p->id);

	if (told->amount_refunded != NO_AMOUNT)
		refunds_told(p->id, amount_from_wire(news->provider, p->currency, told->amount_refunded),
					 news->as_of);
	else if (told->status != NULL && strcmp(told->status, "refunded") == 0)
		refunds_told(p->id, now->amount_received, news->as_of);
	refunds_settle(p->id);
}

QUERY(
	status_known,
	"SELECT FROM billing.payment_intent_transitions WHERE from_state = $1 OR to_state = $1 LIMIT 1",
	TEXTOID);

/* A state that nobody knows yet is as good as none. */
static ProviderSnapshot
with_known_status(const ProviderSnapshot *snapshot)
{
	ProviderSnapshot known = *snapshot;
	const char **status = &known.payment_intent.status;

	if (*status != NULL && !payment_arrived(*status) && RUN(status_known, arg_text(*status)) == 0)
		*status = NULL;
	return known;
}

/* What was told of its state, in the order of such news. */
static Applied
take_state(PaymentIntent *p, const ProviderSnapshot *snapshot, const News *news)
{
	const PaymentIntentSnapshot *told = &snapshot->payment_intent;
	const char *status = next_status(p, told);
	bool arrives;
	bool advanced;

	if (status == NULL)
		return SNAPSHOT_STALE;
	arrives = payment_arrived(status) && !payment_arrived(p->status);
	advanced = ref_advance(snapshot, p->id, news, stage_of(status));
	/* the latest attempt, as far as one knows: refunds and disputes are told by it */
	if (told->charge != NULL)
		payment_note_charge(p, told->charge, advanced, news);
	if (advanced)
	{
		p = check_asked(p, snapshot, news);
		mirror(p, told, news, status);
	}
	else if (arrives)
		book_late(p, told, news, status);
	else
	{
		keep_for_browser(p, told);
		/* sums of what came back have an order of their own */
		if (payment_arrived(p->status))
			take_refunded(p, told, news);
		return SNAPSHOT_STALE;
	}
	if (strcmp(p->status, status) != 0)
		event_record(psprintf("payment_intent.%s", status), "payment_intent", p->id,
					 p->organization_id, p->status, status);
	/* it arrived before a part of it went back, also where both are told at once */
	collection_payment_changed(p->id);
	if (payment_arrived(status))
		take_refunded(p, told, news);
	return SNAPSHOT_APPLIED;
}

Applied
payment_intent_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	ProviderSnapshot known = with_known_status(snapshot);
	const PaymentIntentSnapshot *told = &known.payment_intent;
	pg_uuid_t *id = snapshot_object(snapshot, news);
	PaymentIntent *p = payment_intent_load(id);
	Applied applied;

	if (snapshot->partial)
		return payment_details_apply(snapshot, news, waiting_for);
	/* two webhooks at once: the second one sees what the first one made of it */
	if (p != NULL && news_lock_customer(news, p->customer_id))
		p = payment_intent_load(id);
	if (p == NULL)
		p = adopt(&known, news, waiting_for);
	if (p == NULL)
		return SNAPSHOT_UNKNOWN;
	note_past(p, told, news);
	applied = take_state(p, &known, news);
	fee_take(BILLING_PAYMENT_INTENT, p->id, &told->fee, news);
	return applied;
}

QUERY(
	link_invoice,
	"UPDATE billing.payment_intents SET invoice_id = $2, "
	"subscription_id = coalesce(subscription_id, (SELECT i.subscription_id FROM billing.invoices AS i WHERE i.id = $2)) "
	"WHERE id = $1 AND invoice_id IS NULL",
	UUIDOID, UUIDOID);

bool
payment_intent_link_invoice(const char *payment_intent, const pg_uuid_t *invoice_id,
							const News *news)
{
	pg_uuid_t *id = link_find("payment_intent", payment_intent, "invoice", invoice_id, news);

	return id != NULL && RUN(link_invoice, arg_uuid(id), arg_uuid(invoice_id)) > 0;
}

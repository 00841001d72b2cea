/*-------------------------------------------------------------------------
 *
 * payment_ends.c
 *	  Payment intents: what callers ask for of one that waits for it: its
 *	  capture, its end, and the proof of a bank account.
 *
 *-------------------------------------------------------------------------
 */
#include "payments.h"

#include "check.h"
#include "collection.h"
#include "errors.h"
#include "wire_amounts.h"

static const char *const cancel_words[] = {"duplicate", "fraudulent", "requested_by_customer",
										   "abandoned", NULL};

/* ---- capture ---- */

SQL_FUNCTION(billing_capture_payment_intent)
{
	pg_uuid_t *id = ARG_UUID(0);
	int64 amount = ARG_INT(1, NO_AMOUNT);
	PaymentIntent *p;
	JsonBuilder b;

	db_open();
	p = payment_intent_load_locked(id);
	if (strcmp(p->status, "requires_capture") != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("payment intent \"%s\" has nothing to capture", uuid_text(id)),
						errdetail("Its status is %s.", p->status),
						errhint("Only payments with capture_method manual are authorised first.")));
	payment_intent_refuse_while_unknown(id, OPERATION_PAYMENT_INTENT_CAPTURE, "captured");
	if (amount != NO_AMOUNT && (amount <= 0 || amount > p->amount_capturable))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("amount must be from 1 to what is authorised"),
						errdetail("Authorised is " INT64_FORMAT ", amount is " INT64_FORMAT ".",
								  p->amount_capturable, amount)));
	json_open(&b);
	if (amount != NO_AMOUNT)
	{
		(void) wire_charge(p->provider, p->currency, amount);
		json_add_int(&b, "amount", amount);
	}
	outbox_enqueue(payment_intent_account(p), OPERATION_PAYMENT_INTENT_CAPTURE, id, p->customer_id,
				   json_close(&b), NULL);
	db_close();
	PG_RETURN_VOID();
}

/* ---- cancel ---- */

QUERY(
	cancel_here,
	"UPDATE billing.payment_intents SET status = 'canceled', cancellation_reason = coalesce($2, cancellation_reason), "
	"client_secret = NULL, next_action = NULL, terms = NULL, updated_at = now() WHERE id = $1",
	UUIDOID, TEXTOID);

static void
end_here(const PaymentIntent *p, const char *reason)
{
	RUN(cancel_here, arg_uuid(p->id), arg_text(reason));
	event_record("payment_intent.canceled", "payment_intent", p->id, p->organization_id, p->status,
				 "canceled");
	collection_payment_changed(p->id);
}

static void
refuse_cancel(const PaymentIntent *p)
{
	if (payment_arrived(p->status))
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("payment intent \"%s\" is paid", uuid_text(p->id)),
						errdetail("Its status is %s.", p->status),
						errhint("Use billing.create_refund() to give the money back.")));
	if (p->checkout_session_id != NULL && p->provider_id == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("payment intent \"%s\" belongs to a checkout session", uuid_text(p->id)),
				 errdetail("The session is %s.", uuid_text(p->checkout_session_id)),
				 errhint("Let the session expire: then it cannot be paid.")));
}

/* Never sent, given up or refused: there is nothing that could be cancelled there. */
static bool
withdraw(const PaymentIntent *p, const char *reason)
{
	if (p->provider_id != NULL || !outbox_withdraw_creation(p->id, OPERATION_PAYMENT_INTENT_CREATE))
		return false;
	end_here(p, reason);
	outbox_promote(uuid_array(&unconstify(PaymentIntent *, p)->customer_id, 1));
	worker_wake_at_commit();
	return true;
}

void
payment_intent_withdraw(const pg_uuid_t *id)
{
	PaymentIntent *p = payment_intent_load(id);

	if (p->checkout_session_id == NULL)
		(void) withdraw(p, "abandoned");
}

static void
give_up(const PaymentIntent *p, const char *reason)
{
	JsonBuilder b;

	if (withdraw(p, reason))
		return;
	json_open(&b);
	json_add_text(&b, "reason", reason);
	outbox_enqueue(payment_intent_account(p), OPERATION_PAYMENT_INTENT_CANCEL, p->id,
				   p->customer_id, json_close(&b), NULL);
}

void
payment_intent_call_off(const pg_uuid_t *id)
{
	PaymentIntent *p = payment_intent_load(id);
	Account *account = payment_intent_account(p);
	const char *alternative;

	if (p->provider_id != NULL && p->checkout_session_id == NULL &&
		!outbox_under_way(id, OPERATION_PAYMENT_INTENT_CANCEL) &&
		account_supports(account, OPERATION_PAYMENT_INTENT_CANCEL, json_empty(), &alternative) ==
			SUPPORTED)
		give_up(p, "abandoned");
}

SQL_FUNCTION(billing_cancel_payment_intent)
{
	pg_uuid_t *id = ARG_UUID(0);
	char *reason = ARG_TEXT(1);
	PaymentIntent *p;

	db_open();
	check_no_card("reason", reason);
	check_word("reason", reason, cancel_words);
	p = payment_intent_load_locked(id);
	refuse_cancel(p);
	if (strcmp(p->status, "canceled") != 0 &&
		!outbox_under_way(id, OPERATION_PAYMENT_INTENT_CANCEL))
		give_up(p, reason);
	db_close();
	PG_RETURN_VOID();
}

/* ---- micro-deposits ---- */

static void
add_deposits(JsonBuilder *b, ArrayType *amounts)
{
	Datum *values;
	bool *nulls;
	int count;

	deconstruct_array(amounts, INT4OID, sizeof(int32), true, TYPALIGN_INT, &values, &nulls, &count);
	if (count != 2 || nulls[0] || nulls[1] || DatumGetInt32(values[0]) <= 0 ||
		DatumGetInt32(values[1]) <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("amounts are not the two deposits"),
						errhint("Pass both in minor units, such as ARRAY[32, 45].")));
	json_open_array(b, "amounts");
	for (int i = 0; i < count; i++)
		json_append_int(b, DatumGetInt32(values[i]));
	json_close_array(b);
}

SQL_FUNCTION(billing_verify_microdeposits)
{
	pg_uuid_t *id = ARG_UUID(0);
	ArrayType *amounts = PG_ARGISNULL(1) ? NULL : PG_GETARG_ARRAYTYPE_P(1);
	char *code = ARG_TEXT(2);
	PaymentIntent *p;
	JsonBuilder b;

	db_open();
	if ((amounts == NULL) == (code == NULL))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("amounts or descriptor_code must be given, not both"),
						errhint("The customer finds one of them on the statement of his bank.")));
	json_open(&b);
	if (amounts != NULL)
		add_deposits(&b, amounts);
	json_add_text(&b, "descriptor_code", code);
	p = payment_intent_load_locked(id);
	if (strcmp(p->status, "requires_action") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("payment intent \"%s\" does not wait for its customer", uuid_text(id)),
				 errdetail("Its status is %s.", p->status),
				 errhint("billing.get_payment_intent() shows what it waits for.")));
	outbox_enqueue(payment_intent_account(p), OPERATION_PAYMENT_INTENT_VERIFY_MICRODEPOSITS, id,
				   p->customer_id, json_close(&b), NULL);
	db_close();
	PG_RETURN_VOID();
}

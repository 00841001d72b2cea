/*-------------------------------------------------------------------------
 *
 * payments.c
 *	  Payment intents: what callers ask for.
 *
 * A call checks, writes the row and the request and returns; status and
 * amounts change when the provider says so, in payment_sync.c.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

QUERY(
	insert_for_checkout,
	"INSERT INTO billing.payment_intents (id, customer_id, organization_id, provider, account, livemode, amount, "
	"currency, checkout_session_id, metadata) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10, '{}'))",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT8OID, TEXTOID, UUIDOID, JSONBOID);

/* The provider makes the payment itself, out of the session that was paid. */
pg_uuid_t *
payment_intent_for_checkout(const Customer *customer, const Account *account, int64 amount,
							const char *currency, const pg_uuid_t *checkout_session_id,
							const Jsonb *metadata)
{
	pg_uuid_t *id = new_id();

	RUN(insert_for_checkout, arg_uuid(id), arg_uuid(customer->id),
		arg_text(customer->organization_id), arg_text(account->provider),
		arg_text(account->account), arg_bool(account->livemode), arg_int(amount),
		arg_text(currency), arg_uuid(checkout_session_id), arg_json(metadata));
	event_record("payment_intent.created", "payment_intent", id, customer->organization_id, NULL,
				 "pending");
	return id;
}

QUERY(
	abandon,
	"UPDATE billing.payment_intents SET status = 'canceled', cancellation_reason = $2, updated_at = now() "
	"WHERE id = $1 AND status = 'pending' RETURNING organization_id",
	UUIDOID, TEXTOID);

/* Only one that nobody has begun to pay: else its own news tell what becomes of it. */
void
payment_intent_abandon(const pg_uuid_t *id, const char *reason)
{
	if (RUN(abandon, arg_uuid(id), arg_text(reason)) > 0)
		event_record("payment_intent.canceled", "payment_intent", id, row_text(0, 1), "pending",
					 "canceled");
}

/*-------------------------------------------------------------------------
 *
 * refresh.c
 *	  Asks a provider anew for an object.
 *
 * For when a webhook was lost or somebody doubts what is here, or webhooks of
 * one second contradict each other.  What the
 * provider answers is applied like all it says; a type that can be asked for
 * is a row in the table.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "errors.h"
#include "json.h"

QUERY(customer_itself, "SELECT id FROM billing.customers WHERE id = $1 AND deleted_at IS NULL",
	  UUIDOID);
QUERY(payment_customer, "SELECT customer_id FROM billing.payment_intents WHERE id = $1", UUIDOID);
QUERY(refund_customer, "SELECT customer_id FROM billing.refunds WHERE id = $1", UUIDOID);
QUERY(dispute_customer, "SELECT customer_id FROM billing.disputes WHERE id = $1", UUIDOID);
QUERY(subscription_customer, "SELECT customer_id FROM billing.subscriptions WHERE id = $1",
	  UUIDOID);
QUERY(invoice_customer, "SELECT customer_id FROM billing.invoices WHERE id = $1", UUIDOID);
QUERY(checkout_customer,
	  "SELECT customer_id FROM billing.checkout_sessions WHERE id = $1 AND kind = 'session'",
	  UUIDOID);

typedef struct Refreshable
{
	const char *object_type;
	Operation operation;
	SqlQuery *customer; /* whose it is: the key that its requests are ordered by */
} Refreshable;

static const Refreshable refreshables[] = {
	{"customer", OPERATION_CUSTOMER_FETCH, &customer_itself},
	{"payment_intent", OPERATION_PAYMENT_INTENT_FETCH, &payment_customer},
	{"refund", OPERATION_REFUND_FETCH, &refund_customer},
	{"dispute", OPERATION_DISPUTE_FETCH, &dispute_customer},
	{"subscription", OPERATION_SUBSCRIPTION_FETCH, &subscription_customer},
	{"invoice", OPERATION_INVOICE_FETCH, &invoice_customer},
	{"checkout_session", OPERATION_CHECKOUT_SESSION_FETCH, &checkout_customer},
};

QUERY(refs_of,
	  "SELECT provider, account FROM billing.provider_refs "
	  "WHERE object_id = $1 AND object_type = $2",
	  UUIDOID, TEXTOID);

/* At every account that knows it: a customer may be at several. */
static void
fetch(const Refreshable *kind, const pg_uuid_t *id, const pg_uuid_t *customer_id)
{
	int64 count = RUN(refs_of, arg_uuid(id), arg_text(kind->object_type));
	Rows rows = rows_keep();
	JsonBuilder b;

	if (count == 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("object \"%s\" is not known to any provider yet", uuid_text(id)),
						errhint("billing.outbox_status says what its requests wait for.")));
	for (int64 i = 0; i < count; i++)
	{
		json_open(&b);
		outbox_enqueue(account_get(rows_text(rows, i, 1), rows_text(rows, i, 2)), kind->operation,
					   id, customer_id, json_close(&b), NULL);
	}
}

/* What is not sent yet will ask after all that we were told until now. */
QUERY(
	asked_soon,
	"SELECT FROM billing.outbox WHERE object_id = $1 AND operation = $2 AND provider = $3 AND account = $4 "
	"AND state IN ('queued', 'waiting') LIMIT 1",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID);

static void
ask_again(const Refreshable *kind, const pg_uuid_t *id, const Account *account)
{
	JsonBuilder b;
	const Jsonb *nothing;
	const char *alternative;

	json_open(&b);
	nothing = json_close(&b);
	if (account_supports(account, kind->operation, nothing, &alternative) != SUPPORTED ||
		RUN(asked_soon, arg_uuid(id), arg_text(operation_name(kind->operation)),
			arg_text(account->provider), arg_text(account->account)) > 0 ||
		query_run(kind->customer, (const Arg[]){arg_uuid(id)}) == 0 || row_null(0, 1))
		return;
	outbox_enqueue(account, kind->operation, id, row_uuid(0, 1), nothing, NULL);
}

void
refresh_doubtful(const char *object_type, const pg_uuid_t *object_id, const char *provider,
				 const char *account)
{
	for (size_t i = 0; i < lengthof(refreshables); i++)
	{
		if (strcmp(refreshables[i].object_type, object_type) == 0)
			ask_again(&refreshables[i], object_id, account_get(provider, account));
	}
}

bool
refresh_possible(const char *object_type)
{
	for (size_t i = 0; i < lengthof(refreshables); i++)
	{
		if (strcmp(refreshables[i].object_type, object_type) == 0)
			return true;
	}
	return false;
}

SQL_FUNCTION(billing_refresh)
{
	pg_uuid_t *id = ARG_UUID(0);
	bool found = false;

	db_open();
	check_given("id", id != NULL);
	for (size_t i = 0; i < lengthof(refreshables) && !found; i++)
	{
		found = query_run(refreshables[i].customer, (const Arg[]){arg_uuid(id)}) > 0;
		if (found)
			fetch(&refreshables[i], id, row_uuid(0, 1));
	}
	if (!found)
		unknown_object("object", uuid_text(id),
					   "Pass the id of a customer, payment intent, refund, dispute, subscription, "
					   "invoice or checkout session.");
	db_close();
	PG_RETURN_VOID();
}

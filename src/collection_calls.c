/*-------------------------------------------------------------------------
 *
 * collection_calls.c
 *	  What callers ask for about the collection of our own invoices.
 *
 * pay_invoice(), send_invoice() and retry_payment() are for every invoice and
 * every subscription; their files ask here first whether it is ours.
 *
 *-------------------------------------------------------------------------
 */
#include "collection.h"

#include "check.h"
#include "errors.h"
#include "json.h"
#include "payments.h"

static const char *const reference_words[] = {"oxxo", "spei", NULL};

QUERY(provider_of_method, "SELECT provider FROM billing.payment_methods WHERE id = $1", UUIDOID);

static void
pay(const OwnInvoice *invoice, const pg_uuid_t *payment_method_id, const char *method)
{
	pg_uuid_t *attempt_id;

	if (payment_method_id != NULL)
	{
		payment_method_check(payment_method_id, invoice->customer_id);
		RUN(provider_of_method, arg_uuid(payment_method_id));
		payment_refuse_other_seller(invoice->id, row_text(0, 1));
	}
	attempt_id = attempt_add(invoice, "asked");
	attempt_start(invoice, attempt_id, payment_method_id, method);
	collection_schedule(invoice);
}

bool
own_invoice_pay(const pg_uuid_t *id, const pg_uuid_t *payment_method_id, const char *method)
{
	OwnInvoice *invoice;

	db_open();
	invoice = own_invoice_to_pay(id);
	if (invoice != NULL)
	{
		check_no_card("method", method);
		check_word("method", method, reference_words);
		if (method != NULL && payment_method_id != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("payment_method_id and method cannot both be given"),
					 errdetail("They are \"%s\" and \"%s\".", uuid_text(payment_method_id), method),
					 errhint("A reference is made without a payment method: leave one out.")));
		pay(invoice, payment_method_id, method);
	}
	db_close();
	return invoice != NULL;
}

bool
own_invoice_send(const pg_uuid_t *id)
{
	OwnInvoice *invoice;

	db_open();
	invoice = own_invoice_to_pay(id);
	if (invoice != NULL)
	{
		event_record("invoice.sent", "invoice", id, invoice->organization_id, invoice->status,
					 invoice->status);
		invoice_page_by_itself(invoice);
	}
	db_close();
	return invoice != NULL;
}

/* ---- a subscription ---- */

QUERY(
	load_subscription,
	"SELECT customer_id, managed_by, status, provider, account, currency FROM billing.subscriptions WHERE id = $1",
	UUIDOID);
QUERY(
	oldest_unpaid,
	"SELECT id FROM billing.invoices WHERE subscription_id = $1 AND managed_by = 'local' AND status = 'open' "
	"ORDER BY issued_at, id LIMIT 1",
	UUIDOID);

bool
own_subscription_retry(const pg_uuid_t *id)
{
	bool own;

	db_open();
	own = id != NULL && RUN(load_subscription, arg_uuid(id)) > 0 &&
		  strcmp(row_text(0, 2), "local") == 0;
	if (own)
	{
		outbox_lock_customer(row_uuid(0, 1));
		if (RUN(oldest_unpaid, arg_uuid(id)) == 0)
			ereport(
				ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("nothing of subscription \"%s\" is unpaid", uuid_text(id)),
				 errdetail("It has no open invoice of ours."),
				 errhint(
					 "billing.list_invoices() has its invoices; billing.explain('%s') says what it waits for.",
					 uuid_text(id))));
		pay(own_invoice_to_pay(row_uuid(0, 1)), NULL, NULL);
	}
	db_close();
	return own;
}

QUERY(put_collect_by,
	  "UPDATE billing.subscriptions SET collect_by = $2, updated_at = now() WHERE id = $1 "
	  "AND collect_by IS DISTINCT FROM $2",
	  UUIDOID, TEXTOID);

/* The provider has to be able to make one. */
static void
require_reference(const char *provider, const char *account, const char *currency,
				  const char *method)
{
	JsonBuilder b;

	if (method == NULL)
		return;
	json_open(&b);
	json_add_text(&b, "currency", currency);
	json_add_text(&b, "method", method);
	json_add_bool(&b, "confirm", true);
	account_require(account_get(provider, account), OPERATION_PAYMENT_INTENT_CREATE,
					json_close(&b));
}

SQL_FUNCTION(billing_collect_by)
{
	pg_uuid_t *id = ARG_UUID(0);
	char *method = ARG_TEXT(1);
	char *status;

	db_open();
	check_no_card("method", method);
	check_word("method", method, reference_words);
	check_given("subscription_id", id != NULL);
	if (RUN(load_subscription, arg_uuid(id)) == 0)
		unknown_object("subscription", uuid_text(id), NULL);
	outbox_lock_customer(row_uuid(0, 1));
	RUN(load_subscription, arg_uuid(id));
	status = row_text(0, 3);
	if (strcmp(row_text(0, 2), "local") != 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_JB_NOT_SUPPORTED),
			 errmsg("subscription \"%s\" is billed by %s", uuid_text(id), row_text(0, 4)),
			 errdetail("%s makes its invoices and collects them.", row_text(0, 4)),
			 errhint(
				 "Only our own invoices are collected by us: subscribe with managed_by => 'local'.")));
	if (strcmp(status, "canceled") == 0 || strcmp(status, "incomplete_expired") == 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("subscription \"%s\" is %s", uuid_text(id), status),
						errdetail("It is over, and has no more invoices."),
						errhint("Use billing.subscribe() to make a new one.")));
	require_reference(row_text(0, 4), row_text(0, 5), row_text(0, 6), method);
	if (RUN(put_collect_by, arg_uuid(id), arg_text(method)) > 0 && method != NULL)
		collection_reference_chosen(id);
	engine_plan_again(id);
	db_close();
	PG_RETURN_VOID();
}

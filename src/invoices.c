/*-------------------------------------------------------------------------
 *
 * invoices.c
 *	  Invoices of providers, as they tell them.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "subscriptions.h"
#include "wire_amounts.h"

QUERY(invoice_status, "SELECT status, attempt_count FROM billing.invoices WHERE id = $1", UUIDOID);
QUERY(customer_organization, "SELECT organization_id FROM billing.customers WHERE id = $1",
	  UUIDOID);
QUERY(
	put_invoice,
	"INSERT INTO billing.invoices AS i (id, customer_id, organization_id, subscription_id, provider, account, "
	"livemode, status, provider_number, billing_reason, currency, total, tax, amount_due, amount_paid, "
	"amount_remaining, attempt_count, period_start, period_end, due_at, paid_at, next_attempt_at, issued_at) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23) "
	"ON CONFLICT (id) DO UPDATE SET status = excluded.status, "
	"subscription_id = coalesce(excluded.subscription_id, i.subscription_id), "
	"provider_number = coalesce(excluded.provider_number, i.provider_number), "
	"billing_reason = coalesce(excluded.billing_reason, i.billing_reason), total = excluded.total, "
	"tax = excluded.tax, amount_due = excluded.amount_due, amount_paid = excluded.amount_paid, "
	"amount_remaining = excluded.amount_remaining, attempt_count = excluded.attempt_count, "
	"period_start = coalesce(excluded.period_start, i.period_start), "
	"period_end = coalesce(excluded.period_end, i.period_end), due_at = excluded.due_at, "
	"paid_at = coalesce(excluded.paid_at, i.paid_at), next_attempt_at = excluded.next_attempt_at, "
	"updated_at = now()",
	UUIDOID, UUIDOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

/* Amounts come in the provider's units and are kept in ours; not told is NULL or 0. */
static Arg
arg_told(const InvoiceSnapshot *told, const News *news, int64 amount)
{
	return amount == NO_AMOUNT ? arg_null()
							   : arg_int(amount_from_wire(news->provider, told->currency, amount));
}

static Arg
arg_due(const InvoiceSnapshot *told, const News *news, int64 amount)
{
	return amount == NO_AMOUNT ? arg_int(0) : arg_told(told, news, amount);
}

/* Paid stays paid; what was given up may still be paid. */
static bool
may_become(const char *status, const char *told)
{
	if (status == NULL || strcmp(status, told) == 0)
		return true;
	if (strcmp(status, "paid") == 0)
		return false;
	if (strcmp(status, "void") == 0 || strcmp(status, "uncollectible") == 0)
		return strcmp(told, "paid") == 0 ||
			   (strcmp(status, "uncollectible") == 0 && strcmp(told, "void") == 0);
	return strcmp(status, "draft") == 0 || strcmp(told, "draft") != 0;
}

/*
 * An invoice follows its customer and, where it has one, its subscription: a
 * webhook that is faster than both waits for them.
 */
static bool
find_parties(const InvoiceSnapshot *told, const News *news, pg_uuid_t **customer,
			 pg_uuid_t **subscription, const char **waiting_for)
{
	*subscription = NULL;
	*customer = ref_object("customer", told->customer, news->provider, news->account);
	if (*customer == NULL)
	{
		*waiting_for = told->customer;
		return false;
	}
	if (told->subscription == NULL)
		return true;
	*subscription = ref_object("subscription", told->subscription, news->provider, news->account);
	if (*subscription == NULL)
		*waiting_for = told->subscription;
	return *subscription != NULL;
}

static void
put(const pg_uuid_t *id, const InvoiceSnapshot *told, const News *news, const pg_uuid_t *customer,
	const pg_uuid_t *subscription, const char *organization_id)
{
	TimestampTz paid_at = told->paid_at;

	if (paid_at == 0 && strcmp(told->status, "paid") == 0)
		paid_at = news->as_of;
	RUN(put_invoice, arg_uuid(id), arg_uuid(customer), arg_text(organization_id),
		arg_uuid(subscription), arg_text(news->provider), arg_text(news->account),
		arg_bool(news->livemode), arg_text(told->status), arg_text(told->number),
		arg_text(told->billing_reason), arg_text(told->currency), arg_due(told, news, told->total),
		arg_told(told, news, told->tax), arg_due(told, news, told->amount_due),
		arg_due(told, news, told->amount_paid), arg_due(told, news, told->amount_remaining),
		arg_int4(told->attempt_count), arg_time(told->period_start), arg_time(told->period_end),
		arg_time(told->due_at), arg_time(paid_at), arg_time(told->next_attempt_at),
		arg_time(told->created_at != 0 ? told->created_at : news->as_of));
}

/* What the application is told; NULL when nothing that it acts on has changed. */
static const char *
event_type(const char *before, int attempts_before, const InvoiceSnapshot *told)
{
	if (before == NULL || strcmp(before, told->status) != 0)
		return psprintf("invoice.%s", told->status);
	if (strcmp(told->status, "open") == 0 && told->attempt_count > attempts_before)
		return "invoice.payment_failed";
	return NULL;
}

Applied
invoice_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const InvoiceSnapshot *told = &snapshot->invoice;
	pg_uuid_t *id;
	pg_uuid_t *customer;
	pg_uuid_t *subscription;
	char *organization_id;
	char *before = NULL;
	int attempts = 0;
	const char *type;

	if (!find_parties(told, news, &customer, &subscription, waiting_for))
		return SNAPSHOT_UNKNOWN;
	/* two webhooks about a new invoice: the second one finds the row of the first */
	outbox_lock_customer(customer);
	id = ref_object("invoice", snapshot->provider_id, news->provider, news->account);
	if (snapshot->deleted && id == NULL)
		return SNAPSHOT_STALE;
	RUN(customer_organization, arg_uuid(customer));
	organization_id = row_text(0, 1);
	if (id == NULL)
		id = new_id();
	else if (RUN(invoice_status, arg_uuid(id)) > 0)
	{
		before = row_text(0, 1);
		attempts = row_int4(0, 2);
	}
	if (!may_become(before, told->status) ||
		!ref_advance(snapshot, id, news,
					 told->attempt_count >= attempts ? TIE_FOLLOWS : TIE_PRECEDES))
		return SNAPSHOT_STALE;
	put(id, told, news, customer, subscription, organization_id);
	payment_intent_link_invoice(told->payment_intent, id, news);
	type = event_type(before, attempts, told);
	if (type != NULL)
		event_record(type, "invoice", id, organization_id, before, told->status);
	return SNAPSHOT_APPLIED;
}

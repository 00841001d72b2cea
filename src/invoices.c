/*-------------------------------------------------------------------------
 *
 * invoices.c
 *	  Invoices of providers: what is asked of them, and what they tell.
 *
 * A provider-managed invoice is the provider's: a call asks, and the row
 * changes when the provider confirms.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "collection.h"
#include "errors.h"
#include "json.h"
#include "keys.h"
#include "own_invoices.h"
#include "wire_amounts.h"

/* ---- what callers ask for ---- */

QUERY(load_invoice,
	  "SELECT customer_id, organization_id, status, amount_paid, provider, account "
	  "FROM billing.invoices WHERE id = $1",
	  UUIDOID);

typedef struct Invoice
{
	pg_uuid_t *customer_id;
	char *organization_id;
	char *status;
	int64 amount_paid;
	char *provider;
	char *account;
} Invoice;

static bool
invoice_load(const pg_uuid_t *id, Invoice *invoice)
{
	if (RUN(load_invoice, arg_uuid(id)) == 0)
		return false;
	invoice->customer_id = row_uuid(0, 1);
	invoice->organization_id = row_text(0, 2);
	invoice->status = row_text(0, 3);
	invoice->amount_paid = row_int(0, 4);
	invoice->provider = row_text(0, 5);
	invoice->account = row_text(0, 6);
	return true;
}

/* Under the lock of its customer, so that its state stands still. */
static void
invoice_load_locked(const pg_uuid_t *id, Invoice *invoice)
{
	check_given("invoice_id", id != NULL);
	if (!invoice_load(id, invoice))
		unknown_object("invoice", uuid_text(id), NULL);
	outbox_lock_customer(invoice->customer_id);
	(void) invoice_load(id, invoice);
}

/* What an invoice has to be for what is asked of it. */
typedef struct InvoiceVerb
{
	Operation operation;
	const char *states; /* separated by blanks */
	bool unpaid;        /* nothing of it may be paid */
	const char *hint;
} InvoiceVerb;

static bool
is_in_state(const InvoiceVerb *verb, const char *status)
{
	return strstr(verb->states, status) != NULL;
}

static void
check_state(const InvoiceVerb *verb, const pg_uuid_t *id, const Invoice *invoice)
{
	if (!is_in_state(verb, invoice->status))
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("invoice \"%s\" is %s", uuid_text(id), invoice->status),
				 errdetail("It would have to be %s.", verb->states), errhint("%s", verb->hint)));
	if (verb->unpaid && invoice->amount_paid > 0)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE), errmsg("invoice \"%s\" is paid in part", uuid_text(id)),
				 errhint("What was paid is given back by billing.create_refund().")));
}

static void
ask(const InvoiceVerb *verb, const pg_uuid_t *id, const pg_uuid_t *payment_method_id)
{
	Invoice invoice;
	JsonBuilder b;

	db_open();
	invoice_load_locked(id, &invoice);
	check_state(verb, id, &invoice);
	if (payment_method_id != NULL)
		payment_method_check(payment_method_id, invoice.customer_id);
	if (!outbox_under_way(id, verb->operation))
	{
		json_open(&b);
		if (payment_method_id != NULL)
			json_add_text(&b, "payment_method_id", uuid_text(payment_method_id));
		outbox_enqueue(account_get(invoice.provider, invoice.account), verb->operation, id,
					   invoice.customer_id, json_close(&b), NULL);
	}
	db_close();
}

SQL_FUNCTION(billing_finalize_invoice)
{
	static const InvoiceVerb verb = {OPERATION_INVOICE_FINALIZE, "draft", false,
									 "Only a draft is made final."};

	if (own_invoice_finalize(ARG_UUID(0)))
		PG_RETURN_VOID();
	ask(&verb, ARG_UUID(0), NULL);
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_pay_invoice)
{
	static const InvoiceVerb verb = {OPERATION_INVOICE_PAY, "open uncollectible", false,
									 "A draft is made final by billing.finalize_invoice() first."};

	if (own_invoice_pay(ARG_UUID(0), ARG_UUID(1), ARG_TEXT(2)))
		PG_RETURN_VOID();
	ask(&verb, ARG_UUID(0), ARG_UUID(1));
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_void_invoice)
{
	static const InvoiceVerb verb = {OPERATION_INVOICE_VOID, "open uncollectible", true,
									 "What was paid is given back by billing.create_refund()."};

	if (own_invoice_void(ARG_UUID(0)))
		PG_RETURN_VOID();
	ask(&verb, ARG_UUID(0), NULL);
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_send_invoice)
{
	static const InvoiceVerb verb = {OPERATION_INVOICE_SEND, "open", false,
									 "A draft is made final by billing.finalize_invoice() first."};

	if (own_invoice_send(ARG_UUID(0)))
		PG_RETURN_VOID();
	ask(&verb, ARG_UUID(0), NULL);
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_mark_invoice_uncollectible)
{
	static const InvoiceVerb verb = {OPERATION_INVOICE_MARK_UNCOLLECTIBLE, "open", false,
									 "Only what is open can be given up."};

	if (own_invoice_give_up(ARG_UUID(0)))
		PG_RETURN_VOID();
	ask(&verb, ARG_UUID(0), NULL);
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_fetch_invoice_document)
{
	static const InvoiceVerb verb = {OPERATION_INVOICE_DOCUMENT, "open paid void uncollectible",
									 false,
									 "A draft is made final by billing.finalize_invoice() first."};

	ask(&verb, ARG_UUID(0), NULL);
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_refresh_invoices)
{
	pg_uuid_t *customer_id = ARG_UUID(0);
	Customer *customer;
	JsonBuilder b;

	db_open();
	check_given("customer_id", customer_id != NULL);
	customer = customer_load(customer_id, true);
	if (customer == NULL)
		unknown_object("customer", uuid_text(customer_id), NULL);
	json_open(&b);
	outbox_enqueue(account_get(customer->provider, customer->account), OPERATION_INVOICE_LIST,
				   customer->id, customer->id, json_close(&b), NULL);
	db_close();
	PG_RETURN_VOID();
}

/* ---- to the provider ---- */

Description
invoice_list_describe(const OutboxRow *row)
{
	char *customer = ref_find("customer", row->object_id, row->provider, row->account);
	JsonBuilder b;

	if (customer == NULL)
		return (Description){OBSOLETE, NULL, "the customer was never created there"};
	json_open(&b);
	json_add_text(&b, "customer", customer);
	return (Description){READY, json_close(&b), NULL};
}

Description
invoice_describe(const OutboxRow *row)
{
	char *method = json_text(row->arguments, "payment_method_id");
	char *provider_id = ref_find("invoice", row->object_id, row->provider, row->account);
	JsonBuilder b;

	if (provider_id == NULL)
		return (Description){OBSOLETE, NULL, "the invoice is not known there"};
	json_open(&b);
	json_add_text(&b, "invoice", provider_id);
	if (method != NULL)
	{
		method = ref_find("payment_method", uuid_parse(method), row->provider, row->account);
		if (method == NULL && outbox_is_fresh(row))
			return (Description){OBSOLETE, NULL, "the payment method is not attached"};
		json_add_text(&b, "payment_method", method);
	}
	return (Description){READY, json_close(&b), NULL};
}

QUERY(note_error, "UPDATE billing.invoices SET error_code = $2, updated_at = now() WHERE id = $1",
	  UUIDOID, TEXTOID);

void
invoice_refused(const OutboxRow *row, const CallResult *result)
{
	const char *code = result->error_code != NULL ? result->error_code : result->error_type;
	Invoice invoice;

	RUN(note_error, arg_uuid(row->object_id), arg_text(code != NULL ? code : "refused"));
	if (invoice_load(row->object_id, &invoice))
		event_record("invoice.refused", "invoice", row->object_id, invoice.organization_id,
					 invoice.status, invoice.status);
}

/* ---- from the provider ---- */

QUERY(invoice_status, "SELECT status, attempt_count FROM billing.invoices WHERE id = $1", UUIDOID);
QUERY(customer_organization, "SELECT organization_id FROM billing.customers WHERE id = $1",
	  UUIDOID);
QUERY(
	put_invoice,
	"INSERT INTO billing.invoices AS i (id, customer_id, organization_id, subscription_id, provider, account, "
	"livemode, status, provider_number, billing_reason, currency, total, tax, amount_due, amount_paid, "
	"amount_remaining, attempt_count, period_start, period_end, due_at, paid_at, next_attempt_at, issued_at, "
	"hosted_url, pdf_url, error_code) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, "
	"$23, $24, $25, $26) "
	"ON CONFLICT (id) DO UPDATE SET status = excluded.status, "
	"subscription_id = coalesce(excluded.subscription_id, i.subscription_id), "
	"provider_number = coalesce(excluded.provider_number, i.provider_number), "
	"billing_reason = coalesce(excluded.billing_reason, i.billing_reason), total = excluded.total, "
	"tax = excluded.tax, amount_due = excluded.amount_due, amount_paid = excluded.amount_paid, "
	"amount_remaining = excluded.amount_remaining, attempt_count = excluded.attempt_count, "
	"period_start = coalesce(excluded.period_start, i.period_start), "
	"period_end = coalesce(excluded.period_end, i.period_end), due_at = excluded.due_at, "
	"paid_at = least(excluded.paid_at, i.paid_at), next_attempt_at = excluded.next_attempt_at, "
	"hosted_url = coalesce(excluded.hosted_url, i.hosted_url), pdf_url = coalesce(excluded.pdf_url, i.pdf_url), "
	"error_code = coalesce(excluded.error_code, CASE WHEN excluded.status = 'open' AND i.status = 'open' THEN i.error_code END), "
	"updated_at = now()",
	UUIDOID, UUIDOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BYTEAOID, BYTEAOID, TEXTOID);

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

/* How far it has come, for what is told of one second (refs.h): each attempt to collect is a part. */
static int
stage_of(const char *status, int attempts)
{
	static const char *const ends[] = {"uncollectible", "void", "paid"};

	for (size_t i = 0; i < lengthof(ends); i++)
	{
		if (strcmp(status, ends[i]) == 0)
			return STAGE(60 + (int) i, 0);
	}
	return strcmp(status, "open") == 0 ? STAGE(1 + Min(attempts, 50), 0) : STAGE(0, 0);
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

QUERY(paid_earlier, "UPDATE billing.invoices SET paid_at = $2 WHERE id = $1 AND paid_at > $2",
	  UUIDOID, TIMESTAMPTZOID);

/* Where it does not say when: the first news that it is paid tell it best. */
static TimestampTz
paid_at(const InvoiceSnapshot *told, const News *news)
{
	if (told->paid_at == 0 && strcmp(told->status, "paid") == 0)
		return news->as_of;
	return told->paid_at;
}

static void
put(const pg_uuid_t *id, const InvoiceSnapshot *told, const News *news, const pg_uuid_t *customer,
	const pg_uuid_t *subscription, const char *organization_id)
{
	RUN(put_invoice, arg_uuid(id), arg_uuid(customer), arg_text(organization_id),
		arg_uuid(subscription), arg_text(news->provider), arg_text(news->account),
		arg_bool(news->livemode), arg_text(told->status), arg_text(told->number),
		arg_text(told->billing_reason), arg_text(told->currency), arg_due(told, news, told->total),
		arg_told(told, news, told->tax), arg_due(told, news, told->amount_due),
		arg_due(told, news, told->amount_paid), arg_due(told, news, told->amount_remaining),
		arg_int4(told->attempt_count), arg_time(told->period_start), arg_time(told->period_end),
		arg_time(told->due_at), arg_time(paid_at(told, news)), arg_time(told->next_attempt_at),
		arg_time(told->created_at != 0 ? told->created_at : news->as_of),
		arg_bytes(seal_text("invoices.hosted_url", id, told->hosted_url)),
		arg_bytes(seal_text("invoices.pdf_url", id, told->pdf_url)), arg_text(told->error_code));
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

QUERY(end_draft,
	  "UPDATE billing.invoices SET status = 'void', updated_at = now() "
	  "WHERE id = $1 AND status = 'draft' RETURNING organization_id",
	  UUIDOID);

/* Only drafts can be deleted: it will never be paid. */
static Applied
invoice_gone(const ProviderSnapshot *snapshot, const News *news)
{
	pg_uuid_t *id = ref_object("invoice", snapshot->provider_id, news->provider, news->account);
	Invoice invoice;

	if (id == NULL || !invoice_load(id, &invoice))
		return SNAPSHOT_STALE;
	news_lock_customer(news, invoice.customer_id);
	if (!ref_advance(snapshot, id, news, stage_of("void", 0)))
		return SNAPSHOT_STALE;
	if (RUN(end_draft, arg_uuid(id)) > 0)
		event_record("invoice.void", "invoice", id, row_text(0, 1), "draft", "void");
	return SNAPSHOT_APPLIED;
}

Applied
invoice_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	InvoiceSnapshot now = snapshot->invoice;
	const InvoiceSnapshot *told = &now;
	pg_uuid_t *id;
	pg_uuid_t *customer;
	pg_uuid_t *subscription;
	char *organization_id;
	char *before = NULL;
	int attempts = 0;
	bool is_new;
	const char *type;

	if (snapshot->deleted && told->customer == NULL)
		return invoice_gone(snapshot, news);
	/* told in full it is kept, so that what was told before and comes later finds it */
	if (snapshot->deleted)
		now.status = "void";
	if (told->status == NULL || told->currency == NULL ||
		!find_parties(told, news, &customer, &subscription, waiting_for))
	{
		if (*waiting_for == NULL)
			*waiting_for = snapshot->provider_id;
		return SNAPSHOT_UNKNOWN;
	}
	/* two webhooks about a new invoice: the second one finds the row of the first */
	news_lock_customer(news, customer);
	id = ref_object("invoice", snapshot->provider_id, news->provider, news->account);
	RUN(customer_organization, arg_uuid(customer));
	organization_id = row_text(0, 1);
	is_new = id == NULL;
	if (is_new)
	{
		/* the row before the id by which it is known: then links to it are made */
		id = new_id();
		put(id, told, news, customer, subscription, organization_id);
	}
	else if (RUN(invoice_status, arg_uuid(id)) > 0)
	{
		before = row_text(0, 1);
		attempts = row_int4(0, 2);
	}
	if (!may_become(before, told->status) ||
		!ref_advance(snapshot, id, news, stage_of(told->status, told->attempt_count)))
	{
		RUN(paid_earlier, arg_uuid(id), arg_time(paid_at(told, news)));
		return SNAPSHOT_STALE;
	}
	if (!is_new)
		put(id, told, news, customer, subscription, organization_id);
	payment_intent_link_invoice(told->payment_intent, id, news);
	type = event_type(before, attempts, told);
	if (type != NULL)
		event_record(type, "invoice", id, organization_id, before, told->status);
	return SNAPSHOT_APPLIED;
}

/*-------------------------------------------------------------------------
 *
 * payments.c
 *	  Payment intents: what callers ask for.
 *
 * A call checks, writes the row and the request and returns; status and
 * amounts change when the provider says so, in payment_sync.c.  What somebody
 * said that is nobody else's business (where he returns to, how he gave a
 * mandate) is sealed in the row and opened when the request is sent; the
 * request's arguments hold terms and ids only.
 *
 *-------------------------------------------------------------------------
 */
#include "payments.h"

#include "check.h"
#include "collection.h"
#include "errors.h"
#include "keys.h"
#include "wire_amounts.h"

#define SUFFIX_MAX 22 /* of a statement descriptor, as card networks print it */

static const char *const capture_words[] = {"automatic", "manual", NULL};
static const char *const usage_words[] = {"on_session", "off_session", NULL};

/* Paid by a reference that is made at once; nothing is charged. */
static const char *const voucher_methods[] = {"oxxo", "spei", NULL};

/* ---- rows ---- */

QUERY(
	load_payment,
	"SELECT p.id, p.customer_id, p.organization_id, p.provider, p.account, p.livemode, p.status, p.amount, p.currency, "
	"p.amount_capturable, p.amount_received, p.refunded_elsewhere, p.method, p.payment_method_id, p.off_session, "
	"p.invoice_id, p.checkout_session_id, p.paid_at, r.provider_id, p.installments, p.expires_at "
	"FROM billing.payment_intents AS p "
	"LEFT JOIN billing.provider_refs AS r ON r.object_id = p.id AND r.object_type = 'payment_intent' "
	"AND r.provider = p.provider AND r.account = p.account WHERE p.id = $1",
	UUIDOID);

PaymentIntent *
payment_intent_load(const pg_uuid_t *id)
{
	PaymentIntent *p;

	if (id == NULL || RUN(load_payment, arg_uuid(id)) == 0)
		return NULL;
	p = palloc(sizeof(PaymentIntent));
	p->id = row_uuid(0, 1);
	p->customer_id = row_uuid(0, 2);
	p->organization_id = row_text(0, 3);
	p->provider = row_text(0, 4);
	p->account = row_text(0, 5);
	p->livemode = row_bool(0, 6);
	p->status = row_text(0, 7);
	p->amount = row_int(0, 8);
	p->currency = row_text(0, 9);
	p->amount_capturable = row_int(0, 10);
	p->amount_received = row_int(0, 11);
	p->refunded_elsewhere = row_int(0, 12);
	p->method = row_text(0, 13);
	p->payment_method_id = row_uuid(0, 14);
	p->off_session = row_bool(0, 15);
	p->invoice_id = row_uuid(0, 16);
	p->checkout_session_id = row_uuid(0, 17);
	p->paid_at = row_time(0, 18);
	p->provider_id = row_text(0, 19);
	p->installments = row_null(0, 20) ? 0 : row_int4(0, 20);
	p->expires_at = row_time(0, 21);
	return p;
}

PaymentIntent *
payment_intent_load_locked(const pg_uuid_t *id)
{
	PaymentIntent *p;

	check_given("payment_intent_id", id != NULL);
	p = payment_intent_load(id);
	if (p == NULL)
		unknown_object("payment intent", uuid_text(id), NULL);
	outbox_lock_customer(p->customer_id);
	return payment_intent_load(id);
}

bool
payment_arrived(const char *status)
{
	return strcmp(status, "succeeded") == 0 || strcmp(status, "partially_refunded") == 0 ||
		   strcmp(status, "refunded") == 0;
}

static bool
is_one_of(const char *word, const char *const *words)
{
	for (int i = 0; word != NULL && words[i] != NULL; i++)
	{
		if (strcmp(word, words[i]) == 0)
			return true;
	}
	return false;
}

Account *
payment_intent_account(const PaymentIntent *p)
{
	return account_get(p->provider, p->account);
}

/* ---- invoices: one attempt in flight ---- */

QUERY(invoice_to_pay, "SELECT currency FROM billing.invoices WHERE id = $1 AND customer_id = $2",
	  UUIDOID, UUIDOID);
/*
 * A request whose outcome nobody knows counts, even when it was given up: its bytes are kept.
 * So does a page that can still be paid, until its time is over ($3: pages on
 * which nobody is paying yet count, too).
 */
QUERY(
	attempt_in_flight,
	"SELECT p.id, p.status, c.id, CASE WHEN p.status IN ('pending', 'failed') THEN c.expires_at END FROM billing.payment_intents AS p "
	"LEFT JOIN billing.checkout_sessions AS c ON c.id = p.checkout_session_id AND c.status IN ('pending', 'open', 'processing') "
	"AND c.expires_at > coalesce((SELECT k.now FROM billing.sandbox_clocks AS k WHERE k.organization_id = p.organization_id), now()) "
	"WHERE p.invoice_id = $1 AND p.id IS DISTINCT FROM $2 "
	"AND (p.status IN ('processing', 'requires_action', 'requires_capture') "
	"OR (p.status IN ('pending', 'failed') AND (EXISTS (SELECT FROM billing.outbox AS o "
	"WHERE o.object_id = p.id AND o.operation IN ('payment_intent.create', 'payment_intent.confirm') "
	"AND (o.state <> 'dead' OR o.request IS NOT NULL)) OR c.status = 'processing' OR ($3 AND c.id IS NOT NULL)))) "
	"ORDER BY p.status IN ('pending', 'failed') AND c.id IS NOT NULL, c.expires_at DESC LIMIT 1",
	UUIDOID, UUIDOID, BOOLOID);

bool
payment_in_flight(const pg_uuid_t *invoice_id, TimestampTz *until)
{
	bool found = RUN(attempt_in_flight, arg_uuid(invoice_id), arg_null(), arg_bool(true)) > 0;

	if (until != NULL)
		*until = found ? row_time(0, 4) : 0;
	return found;
}

/* The customer is locked: two sessions cannot both find nothing. */
static void
refuse_attempt(const pg_uuid_t *invoice_id, const pg_uuid_t *own_id, bool pages)
{
	char *page;

	if (invoice_id == NULL ||
		RUN(attempt_in_flight, arg_uuid(invoice_id), arg_uuid(own_id), arg_bool(pages)) == 0)
		return;
	page = row_null(0, 3) ? NULL : uuid_text(row_uuid(0, 3));
	ereport(ERROR,
			(errcode(ERRCODE_JB_DUPLICATE_PAYMENT),
			 errmsg("invoice \"%s\" is being paid already", uuid_text(invoice_id)),
			 page == NULL ? errdetail("Payment intent %s is %s.", row_text(0, 1), row_text(0, 2))
						  : errdetail("It can be paid on the page of checkout session %s.", page),
			 page == NULL ? errhint("Wait for it by billing.await(), or give it up by "
									"billing.cancel_payment_intent().")
						  : errhint("Wait for it, or close it by "
									"billing.expire_checkout_session().")));
}

static void
refuse_second_attempt(const pg_uuid_t *invoice_id, const pg_uuid_t *own_id)
{
	refuse_attempt(invoice_id, own_id, true);
}

void
payment_refuse_beside_page(const pg_uuid_t *invoice_id)
{
	refuse_attempt(invoice_id, NULL, false);
}

/* One of ours that was given up can still be paid. */
QUERY(invoice_status,
	  "SELECT status, status = 'open' OR (status = 'uncollectible' AND managed_by = 'local') "
	  "FROM billing.invoices WHERE id = $1",
	  UUIDOID);

static void
require_open(const pg_uuid_t *invoice_id)
{
	if (invoice_id == NULL || RUN(invoice_status, arg_uuid(invoice_id)) == 0 || row_bool(0, 2))
		return;
	ereport(ERROR, (errcode(ERRCODE_JB_STATE),
					errmsg("invoice \"%s\" is %s and cannot be paid", uuid_text(invoice_id),
						   row_text(0, 1)),
					errhint("Only an open invoice is paid.")));
}

QUERY(
	another_seller,
	"SELECT i.provider FROM billing.invoices AS i WHERE i.id = $1 AND i.managed_by = 'local' AND i.provider <> $2 "
	"AND EXISTS (SELECT FROM billing.providers AS p WHERE p.merchant_of_record AND p.name IN (i.provider, $2))",
	UUIDOID, TEXTOID);

void
payment_refuse_other_seller(const pg_uuid_t *invoice_id, const char *provider)
{
	if (RUN(another_seller, arg_uuid(invoice_id), arg_text(provider)) == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
					errmsg("invoice \"%s\" cannot be paid at %s", uuid_text(invoice_id), provider),
					errdetail("It was made for %s, and one of the two is the seller of what it "
							  "collects and adds the tax.",
							  row_text(0, 1)),
					errhint("Void it, and bill at the provider that is to collect it.")));
}

static void
check_invoice(const pg_uuid_t *invoice_id, const Customer *customer, const char *currency,
			  const char *provider)
{
	char *billed;

	if (invoice_id == NULL)
		return;
	if (RUN(invoice_to_pay, arg_uuid(invoice_id), arg_uuid(customer->id)) == 0)
		unknown_object("invoice", uuid_text(invoice_id), "Pass an invoice of this customer.");
	billed = row_text(0, 1);
	require_open(invoice_id);
	payment_refuse_other_seller(invoice_id, provider);
	if (strcmp(billed, currency) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invoice \"%s\" is in %s and cannot be paid in %s",
							   uuid_text(invoice_id), billed, currency),
						errhint("Pass currency => '%s'.", billed)));
	refuse_second_attempt(invoice_id, NULL);
}

/* ---- create ---- */

/* Not said: the call decides by what else it says. */
#define UNSAID (-1)

typedef struct PaymentTerms
{
	int64 amount;
	const char *currency;
	const char *method;
	const char *payment_method;
	int confirm; /* 0, 1 or UNSAID */
	bool off_session;
	const char *capture_method;
	int installments; /* 0: none */
	TimestampTz expires_at;
	const Jsonb *line_items;
	const Jsonb *tax_lines;
	const char *description;
	const char *suffix;
	const char *receipt_email;
	const char *return_url;
	const char *setup_future_usage;
	const pg_uuid_t *invoice_id;
	const Jsonb *mandate;
	const Jsonb *metadata;
	const char *provider;
	const char *account;
} PaymentTerms;

/* Before all else: any other error would put the statement into the log. */
static void
refuse_cards(const PaymentTerms *terms)
{
	check_no_card("payment_method", terms->payment_method);
	check_no_card("method", terms->method);
	check_no_card("description", terms->description);
	check_no_card("statement_descriptor_suffix", terms->suffix);
	check_no_card("receipt_email", terms->receipt_email);
	check_no_card("return_url", terms->return_url);
	check_no_card_json("line_items", terms->line_items);
	check_no_card_json("tax_lines", terms->tax_lines);
	check_no_card_json("mandate", terms->mandate);
	check_no_card_json("metadata", terms->metadata);
}

static void
check_suffix(const char *suffix)
{
	if (suffix == NULL)
		return;
	if (*suffix == '\0' || strlen(suffix) > SUFFIX_MAX || strpbrk(suffix, "<>\\'\"*") != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("statement_descriptor_suffix cannot be printed on a statement"),
						errhint("Use 1 to %d letters, digits and blanks.", SUFFIX_MAX)));
}

static void
check_terms(const PaymentTerms *terms)
{
	if (terms->amount <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("amount must be positive"),
						errdetail("It is " INT64_FORMAT ".", terms->amount),
						errhint("Use billing.create_setup_intent() to save a payment method, "
								"billing.create_refund() to give money back.")));
	check_method(terms->method);
	check_word("capture_method", terms->capture_method, capture_words);
	check_word("setup_future_usage", terms->setup_future_usage, usage_words);
	check_suffix(terms->suffix);
	check_email(terms->receipt_email);
	check_metadata(terms->metadata);
	if (terms->installments < 0 || terms->installments == 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("installments must be a number of months from 2"),
						errhint("billing.installment_terms lists what is split; leave it out to "
								"be paid at once.")));
	if (terms->capture_method != NULL && strcmp(terms->capture_method, "manual") == 0 &&
		is_one_of(terms->method, voucher_methods))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("method \"%s\" cannot be authorised first", terms->method),
						errhint("Leave capture_method out.")));
}

static void
check_expiry(const char *organization_id, TimestampTz expires_at)
{
	if (expires_at != 0 &&
		(TIMESTAMP_NOT_FINITE(expires_at) || expires_at <= clock_now(organization_id)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("expires_at is not a time to come"),
						errdetail("It is %s.", timestamptz_to_str(expires_at)),
						errhint("Leave it out for the provider's default.")));
}

/* Charge now?  What is said counts; else, if there is something to charge or a voucher to make. */
static bool
confirms(const PaymentTerms *terms, const PaymentMethodChoice *choice)
{
	bool something = choice->method_id != NULL || choice->token != NULL ||
					 is_one_of(terms->method, voucher_methods);

	if (terms->confirm == UNSAID)
		return something;
	if (terms->confirm && !something)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
						errmsg("payment_method must be given to confirm a payment"),
						errhint("Without one leave confirm out: the browser confirms it with what "
								"billing.client_config() shows.")));
	return terms->confirm != 0;
}

static void
add_choice(JsonBuilder *b, const PaymentMethodChoice *choice)
{
	char *id = choice->method_id == NULL ? NULL : uuid_text(choice->method_id);

	json_add_text(b, "token", choice->token);
	json_add_text(b, "payment_method", id);
	json_add_text(b, "payment_method_id", id);
}

/* All that is asked for, so that the provider's module can refuse it; ids of ours stay ours. */
static Jsonb *
create_arguments(const PaymentTerms *terms, const PaymentMethodChoice *choice,
				 const PaymentLines *lines, const char *currency, bool confirm)
{
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, "currency", currency);
	json_add_text(&b, "method", terms->method != NULL ? terms->method : choice->type);
	add_choice(&b, choice);
	json_add_bool(&b, "confirm", confirm);
	json_add_bool(&b, "off_session", terms->off_session);
	json_add_text(&b, "capture_method", terms->capture_method);
	if (terms->installments > 0)
		json_add_int(&b, "installments", terms->installments);
	json_add_time(&b, "expires_at", terms->expires_at);
	json_add_json(&b, "line_items", lines->line_items);
	json_add_json(&b, "tax_lines", lines->tax_lines);
	json_add_text(&b, "description", terms->description);
	json_add_text(&b, "statement_descriptor_suffix", terms->suffix);
	json_add_text(&b, "receipt_email", terms->receipt_email);
	json_add_text(&b, "return_url", terms->return_url);
	json_add_text(&b, "setup_future_usage", terms->setup_future_usage);
	json_add_json(&b, "mandate", terms->mandate);
	return json_close(&b);
}

/* What the row has not. */
static Jsonb *
kept_in_request(const Jsonb *arguments)
{
	static const char *const members[] = {
		"currency",   "method",      "token",          "payment_method_id",
		"confirm",    "off_session", "capture_method", "installments",
		"expires_at", "line_items",  "tax_lines",      "setup_future_usage",
		NULL};
	JsonBuilder b;

	json_open(&b);
	json_copy(&b, arguments, members);
	return json_close(&b);
}

QUERY(
	insert_payment,
	"INSERT INTO billing.payment_intents (id, customer_id, organization_id, provider, account, livemode, amount, "
	"currency, method, payment_method_id, capture_method, off_session, installments, invoice_id, expires_at, "
	"description, statement_descriptor_suffix, receipt_email, terms, metadata) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, coalesce($11, 'automatic'), $12, $13, $14, $15, $16, $17, $18, "
	"$19, coalesce($20, '{}'))",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT8OID, TEXTOID, TEXTOID, UUIDOID,
	TEXTOID, BOOLOID, INT4OID, UUIDOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, BYTEAOID, BYTEAOID,
	JSONBOID);

static void
insert_row(const pg_uuid_t *id, const PaymentTerms *terms, const Customer *customer,
		   const Account *account, const PaymentMethodChoice *choice, const char *currency,
		   const char *private)
{
	RUN(insert_payment, arg_uuid(id), arg_uuid(customer->id), arg_text(customer->organization_id),
		arg_text(account->provider), arg_text(account->account), arg_bool(account->livemode),
		arg_int(terms->amount), arg_text(currency),
		arg_text(terms->method != NULL ? terms->method : choice->type), arg_uuid(choice->method_id),
		arg_text(terms->capture_method), arg_bool(terms->off_session),
		terms->installments > 0 ? arg_int4(terms->installments) : arg_null(),
		arg_uuid(terms->invoice_id), arg_time(terms->expires_at), arg_text(terms->description),
		arg_text(terms->suffix),
		arg_bytes(seal_text("payment_intents.receipt_email", id, terms->receipt_email)),
		arg_bytes(seal_text("payment_intents.terms", id, private)), arg_json(terms->metadata));
	event_record("payment_intent.created", "payment_intent", id, customer->organization_id, NULL,
				 "pending");
}

static pg_uuid_t *
payment_intent_create(const PaymentTerms *terms, const Customer *customer)
{
	char *currency = payment_currency(customer, terms->currency);
	PaymentMethodChoice choice = payment_method_choose(customer, terms->payment_method);
	Account *account = payment_account(&(RouteTerms){.provider = terms->provider,
													 .account = terms->account,
													 .currency = currency,
													 .amount = terms->amount,
													 .method = terms->method,
													 .installments = terms->installments,
													 .operation = OPERATION_PAYMENT_INTENT_CREATE,
													 .customer = customer},
									   &choice);
	char *private = private_terms(terms->return_url, terms->mandate);
	pg_uuid_t *id = new_id();
	PaymentLines lines;
	Jsonb *arguments;
	bool confirm;

	customer_check_mode(customer, account);
	if (terms->off_session && terms->payment_method == NULL &&
		!is_one_of(terms->method, voucher_methods) &&
		!payment_method_default(customer, account, &choice))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("payment_method must be given: the customer has no default one"),
				 errhint("Use billing.attach_payment_method() while the customer is there.")));
	confirm = confirms(terms, &choice);
	check_expiry(customer->organization_id, terms->expires_at);
	(void) wire_charge(account->provider, currency, terms->amount);
	check_installments(account, terms->installments, terms->amount, currency,
					   terms->method != NULL ? terms->method : choice.type, terms->off_session);
	check_invoice(terms->invoice_id, customer, currency, account->provider);
	lines = payment_lines(account, terms->line_items, terms->tax_lines, terms->amount, currency);
	arguments = create_arguments(terms, &choice, &lines, currency, confirm);
	account_require(account, OPERATION_PAYMENT_INTENT_CREATE, arguments);
	payment_require_arguments(account, OPERATION_PAYMENT_INTENT_CREATE, arguments);

	insert_row(id, terms, customer, account, &choice, currency, private);
	customer_ensure_at(customer, account);
	outbox_enqueue(account, OPERATION_PAYMENT_INTENT_CREATE, id, customer->id,
				   kept_in_request(arguments), lines.blocked_by);
	return id;
}

SQL_FUNCTION(billing_create_payment_intent)
{
	pg_uuid_t *customer_id = ARG_UUID(0);
	PaymentTerms terms = {
		.amount = ARG_INT(1, NO_AMOUNT),
		.currency = ARG_TEXT(2),
		.method = ARG_TEXT(3),
		.payment_method = ARG_TEXT(4),
		.confirm = PG_ARGISNULL(5) ? UNSAID : PG_GETARG_BOOL(5),
		.off_session = ARG_BOOL(6, false),
		.capture_method = ARG_TEXT(7),
		.installments = ARG_INT4(8, 0),
		.expires_at = ARG_TIME(9),
		.line_items = ARG_JSON(10),
		.tax_lines = ARG_JSON(11),
		.description = ARG_TEXT(12),
		.suffix = ARG_TEXT(13),
		.receipt_email = ARG_TEXT(14),
		.return_url = ARG_TEXT(15),
		.setup_future_usage = ARG_TEXT(16),
		.invoice_id = ARG_UUID(17),
		.mandate = ARG_JSON(18),
		.metadata = ARG_JSON(19),
		.provider = ARG_TEXT(20),
		.account = ARG_TEXT(21),
	};
	char *key = ARG_TEXT(22);
	KeyedArgument arguments[] = {
		{"customer_id", customer_id == NULL ? NULL : uuid_text(customer_id)},
		{"amount", psprintf(INT64_FORMAT, terms.amount)},
		{"currency", terms.currency},
		{"method", terms.method},
		{"payment_method", terms.payment_method},
		{"confirm", psprintf("%d", terms.confirm)},
		{"off_session", terms.off_session ? "true" : "false"},
		{"capture_method", terms.capture_method},
		{"installments", psprintf("%d", terms.installments)},
		{"expires_at", psprintf(INT64_FORMAT, terms.expires_at)},
		{"line_items", terms.line_items == NULL ? NULL : json_string(terms.line_items)},
		{"tax_lines", terms.tax_lines == NULL ? NULL : json_string(terms.tax_lines)},
		{"description", terms.description},
		{"statement_descriptor_suffix", terms.suffix},
		{"receipt_email", terms.receipt_email},
		{"return_url", terms.return_url},
		{"setup_future_usage", terms.setup_future_usage},
		{"invoice_id", terms.invoice_id == NULL ? NULL : uuid_text(terms.invoice_id)},
		{"mandate", terms.mandate == NULL ? NULL : json_string(terms.mandate)},
		{"metadata", terms.metadata == NULL ? NULL : json_string(terms.metadata)},
		{"provider", terms.provider},
		{"account", terms.account},
	};
	Customer *customer;
	pg_uuid_t *id;

	db_open();
	refuse_cards(&terms);
	check_given("customer_id", customer_id != NULL);
	check_given("amount", terms.amount != NO_AMOUNT);
	check_terms(&terms);
	customer = customer_load(customer_id, true);
	if (customer == NULL || customer->deleted)
		unknown_object("customer", uuid_text(customer_id), NULL);
	id = idempotency_find("create_payment_intent", customer->organization_id, key, arguments,
						  lengthof(arguments));
	if (id == NULL)
	{
		id = payment_intent_create(&terms, customer);
		idempotency_store("create_payment_intent", customer->organization_id, key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

QUERY(
	note_subscription,
	"UPDATE billing.payment_intents AS p SET subscription_id = i.subscription_id FROM billing.invoices AS i "
	"WHERE p.id = $1 AND i.id = p.invoice_id",
	UUIDOID);

pg_uuid_t *
payment_intent_for_invoice(const Customer *customer, const InvoiceCharge *charge)
{
	PaymentTerms terms = {
		.amount = charge->amount,
		.currency = charge->currency,
		.method = charge->method,
		.payment_method = charge->payment_method_id == NULL ? NULL
															: uuid_text(charge->payment_method_id),
		.confirm = UNSAID,
		.off_session = charge->payment_method_id != NULL && !charge->customer_present,
		.capture_method = "automatic",
		.expires_at = charge->expires_at,
		.description = charge->description,
		.invoice_id = charge->invoice_id,
		.metadata = charge->metadata,
		.provider = charge->provider,
		.account = charge->account,
	};
	pg_uuid_t *id;

	check_terms(&terms);
	id = payment_intent_create(&terms, customer);
	RUN(note_subscription, arg_uuid(id));
	return id;
}

QUERY(
	insert_for_checkout,
	"INSERT INTO billing.payment_intents (id, customer_id, organization_id, provider, account, livemode, amount, "
	"currency, checkout_session_id, metadata, invoice_id) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10, '{}'), $11)",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT8OID, TEXTOID, UUIDOID, JSONBOID,
	UUIDOID);

/* The provider makes the payment itself, out of the session that was paid. */
pg_uuid_t *
payment_intent_for_checkout(const Customer *customer, const Account *account, int64 amount,
							const char *currency, const pg_uuid_t *checkout_session_id,
							const pg_uuid_t *invoice_id, const Jsonb *metadata)
{
	pg_uuid_t *id = new_id();

	RUN(insert_for_checkout, arg_uuid(id), arg_uuid(customer->id),
		arg_text(customer->organization_id), arg_text(account->provider),
		arg_text(account->account), arg_bool(account->livemode), arg_int(amount),
		arg_text(currency), arg_uuid(checkout_session_id), arg_json(metadata),
		arg_uuid(invoice_id));
	if (invoice_id != NULL)
		RUN(note_subscription, arg_uuid(id));
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
	collection_payment_changed(id);
}

/* ---- confirm ---- */

bool
payment_confirmable(const char *status)
{
	static const char *const open_words[] = {"pending", "requires_action", "failed", NULL};

	return is_one_of(status, open_words);
}

static void
require_confirmable(const PaymentIntent *p)
{
	if (!payment_confirmable(p->status))
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("payment intent \"%s\" is %s and cannot be confirmed",
							   uuid_text(p->id), p->status),
						errhint("Only one that is pending, waits for its customer or has failed "
								"is charged.")));
	if (p->provider_id == NULL && !outbox_busy(p->id))
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("payment intent \"%s\" is not known to the provider", uuid_text(p->id)),
				 errhint("Use billing.create_payment_intent() to make a new one.")));
}

/*
 * Money is not moved twice: one that is on its way, or whose outcome nobody
 * knows, comes first.  What the provider refused can be asked for again.
 */
void
payment_intent_refuse_while_unknown(const pg_uuid_t *id, Operation operation, const char *what)
{
	bool under_way = outbox_under_way(id, operation);

	if (!under_way && outbox_pending(id, operation) == NULL)
		return;
	ereport(ERROR, (errcode(ERRCODE_JB_STATE),
					errmsg("payment intent \"%s\" is being %s", uuid_text(id), what),
					under_way ? errhint("Wait for it by billing.await().")
							  : errhint("Nobody knows what became of it: billing.retry_request() "
										"asks the provider; billing.outbox_status has its id.")));
}

QUERY(
	note_confirm,
	"UPDATE billing.payment_intents SET payment_method_id = coalesce($2, payment_method_id), "
	"method = coalesce($3, method), off_session = coalesce($4, off_session), "
	"installments = coalesce($5, installments), terms = coalesce($6, terms), updated_at = now() WHERE id = $1",
	UUIDOID, UUIDOID, TEXTOID, BOOLOID, INT4OID, BYTEAOID);

typedef struct ConfirmTerms
{
	const char *payment_method;
	const char *method;
	const char *return_url;
	int off_session;  /* 0, 1 or UNSAID */
	int installments; /* 0: none */
	TimestampTz expires_at;
	const Jsonb *mandate;
} ConfirmTerms;

/*
 * The first attempt is made as the payment was asked for, a later one as this
 * call says; instalments that were agreed stay agreed.
 */
static void
complete_from_row(ConfirmTerms *terms, PaymentMethodChoice *choice, const PaymentIntent *p)
{
	bool first = strcmp(p->status, "pending") == 0;
	bool named = terms->payment_method != NULL || terms->method != NULL;

	if (first && terms->off_session == UNSAID && p->off_session)
		terms->off_session = 1;
	if (first && !named)
	{
		choice->method_id = p->payment_method_id;
		terms->method = p->method;
		if (terms->expires_at == 0)
			terms->expires_at = p->expires_at;
	}
	if (terms->method == NULL)
		terms->method = choice->type;
	if (terms->installments == 0 && (terms->method == NULL || strcmp(terms->method, "card") == 0))
		terms->installments = p->installments;
}

static Jsonb *
confirm_arguments(const ConfirmTerms *terms, const PaymentMethodChoice *choice,
				  const char *currency)
{
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, "currency", currency);
	json_add_text(&b, "method", terms->method);
	add_choice(&b, choice);
	if (terms->off_session != UNSAID)
		json_add_bool(&b, "off_session", terms->off_session > 0);
	if (terms->installments > 0)
		json_add_int(&b, "installments", terms->installments);
	json_add_time(&b, "expires_at", terms->expires_at);
	json_add_text(&b, "return_url", terms->return_url);
	json_add_json(&b, "mandate", terms->mandate);
	return json_close(&b);
}

static void
payment_intent_confirm(const PaymentIntent *p, ConfirmTerms *terms)
{
	Account *account = payment_intent_account(p);
	char *private = private_terms(terms->return_url, terms->mandate);
	PaymentMethodChoice choice = payment_method_choose(customer_load(p->customer_id, false),
													   terms->payment_method);
	Jsonb *arguments;

	payment_method_check_account(&choice, account);
	complete_from_row(terms, &choice, p);
	check_installments(account, terms->installments, p->amount, p->currency, terms->method,
					   terms->off_session > 0);
	arguments = confirm_arguments(terms, &choice, p->currency);
	account_require(account, OPERATION_PAYMENT_INTENT_CONFIRM, arguments);
	payment_require_arguments(account, OPERATION_PAYMENT_INTENT_CONFIRM, arguments);
	RUN(note_confirm, arg_uuid(p->id), arg_uuid(choice.method_id), arg_text(terms->method),
		terms->off_session == UNSAID ? arg_null() : arg_bool(terms->off_session > 0),
		terms->installments > 0 ? arg_int4(terms->installments) : arg_null(),
		arg_bytes(seal_text("payment_intents.terms", p->id, private)));
	outbox_enqueue(account, OPERATION_PAYMENT_INTENT_CONFIRM, p->id, p->customer_id,
				   kept_in_request(arguments), NULL);
}

SQL_FUNCTION(billing_confirm_payment_intent)
{
	pg_uuid_t *id = ARG_UUID(0);
	ConfirmTerms terms = {
		.payment_method = ARG_TEXT(1),
		.method = ARG_TEXT(2),
		.return_url = ARG_TEXT(3),
		.off_session = PG_ARGISNULL(4) ? UNSAID : PG_GETARG_BOOL(4),
		.installments = ARG_INT4(5, 0),
		.expires_at = ARG_TIME(6),
		.mandate = ARG_JSON(7),
	};
	PaymentIntent *p;

	db_open();
	check_no_card("payment_method", terms.payment_method);
	check_no_card("return_url", terms.return_url);
	check_no_card_json("mandate", terms.mandate);
	check_method(terms.method);
	p = payment_intent_load_locked(id);
	require_confirmable(p);
	payment_intent_refuse_while_unknown(id, OPERATION_PAYMENT_INTENT_CONFIRM, "confirmed");
	require_open(p->invoice_id);
	refuse_second_attempt(p->invoice_id, p->id);
	check_expiry(p->organization_id, terms.expires_at);
	payment_intent_confirm(p, &terms);
	db_close();
	PG_RETURN_VOID();
}

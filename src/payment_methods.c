/*-------------------------------------------------------------------------
 *
 * payment_methods.c
 *	  Payment methods: attached by a token that the provider made.
 *
 * A method is pending until the provider has taken it, failed when the
 * provider refused it.  What is kept is what a person needs to recognise it;
 * the rest is the provider's (payment_method_sync.c).
 *
 *-------------------------------------------------------------------------
 */
#include "payment_methods.h"

#include "check.h"
#include "errors.h"
#include "json.h"
#include "keys.h"
#include "payments.h"

static const char *const type_words[] = {"card",           "us_bank_account", "sepa_debit",
										 "cash_recurrent", "spei_recurrent",  NULL};

/* One whose request was given up will never be attached: the token is tried anew. */
QUERY(find_token,
	  "SELECT m.id FROM billing.payment_methods AS m WHERE m.customer_id = $1 AND m.token = $2 "
	  "AND m.provider = $3 AND m.account = $4 AND m.state = 'pending' "
	  "AND EXISTS (SELECT FROM billing.outbox AS o WHERE o.object_id = m.id AND o.state <> 'dead')",
	  UUIDOID, TEXTOID, TEXTOID, TEXTOID);
QUERY(find_attached,
	  "SELECT m.id FROM billing.payment_methods AS m JOIN billing.provider_refs AS r "
	  "ON r.object_id = m.id AND r.object_type = 'payment_method' "
	  "WHERE m.customer_id = $1 AND r.provider_id = $2 AND r.provider = $3 AND r.account = $4 "
	  "AND (m.state = 'attached' OR (m.state = 'failed' AND m.unusable IS NOT NULL))",
	  UUIDOID, TEXTOID, TEXTOID, TEXTOID);
QUERY(
	has_method,
	"SELECT FROM billing.payment_methods WHERE customer_id = $1 AND state IN ('pending', 'attached') LIMIT 1",
	UUIDOID);
QUERY(
	insert_method,
	"INSERT INTO billing.payment_methods (id, customer_id, provider, account, livemode, token, type, mandate, "
	"expires_at, metadata) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10, '{}'))",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID,
	JSONBOID);

typedef struct MethodTerms
{
	const char *token; /* NULL: the provider makes a reference to be paid to */
	const char *type;  /* NULL: what the token stands for */
	int set_default;   /* 1, 0, or -1 for "if it is the first" */
	const Jsonb *mandate;
	TimestampTz expires_at;
	const Jsonb *metadata;
} MethodTerms;

/*
 * The token is a name of the provider's, no secret.  Who gave a mandate, and
 * from where, is a person's: it stays sealed in the row.
 */
static Jsonb *
attach_arguments(const MethodTerms *terms, bool set_default)
{
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, "payment_method", terms->token);
	json_add_text(&b, "type", terms->type);
	json_add_bool(&b, "set_default", set_default);
	json_add_time(&b, "expires_at", terms->expires_at);
	return json_close(&b);
}

/* The mandate is sealed in the row; the provider's module has to see that there is one. */
static void
require_mandate(const Account *account, const MethodTerms *terms)
{
	JsonBuilder b;

	if (terms->mandate == NULL)
		return;
	json_open(&b);
	json_add_text(&b, "payment_method", terms->token);
	json_add_text(&b, "type", terms->type);
	json_add_json(&b, "mandate", terms->mandate);
	account_require(account, OPERATION_PAYMENT_METHOD_ATTACH, json_close(&b));
}

static bool
is_reference(const char *type)
{
	return type != NULL &&
		   (strcmp(type, "cash_recurrent") == 0 || strcmp(type, "spei_recurrent") == 0);
}

static void
insert_row(const pg_uuid_t *id, const Customer *customer, const Account *account,
		   const MethodTerms *terms)
{
	RUN(insert_method, arg_uuid(id), arg_uuid(customer->id), arg_text(account->provider),
		arg_text(account->account), arg_bool(account->livemode), arg_text(terms->token),
		arg_text(terms->type),
		arg_bytes(terms->mandate == NULL
					  ? NULL
					  : seal_text("payment_methods.mandate", id, json_string(terms->mandate))),
		arg_time(terms->expires_at), arg_json(terms->metadata));
}

QUERY(
	find_by_id,
	"SELECT id FROM billing.payment_methods WHERE id = $1 AND customer_id = $2 AND provider = $3 AND account = $4 "
	"AND state IN ('pending', 'attached')",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID);

/* No token of a provider is a uuid: one is meant as ours. */
static pg_uuid_t *
own_method(const Customer *customer, const Account *account, const pg_uuid_t *id)
{
	if (RUN(find_by_id, arg_uuid(id), arg_uuid(customer->id), arg_text(account->provider),
			arg_text(account->account)) == 0)
		unknown_object("payment method", uuid_text(id),
					   "billing.list_payment_methods() lists those of the customer; one of another "
					   "account is of no use here.");
	return row_uuid(0, 1);
}

/* A method that is attached already, or about to be, is found again by its id or its token. */
static pg_uuid_t *
same_method(const Customer *customer, const Account *account, const char *token)
{
	if (token == NULL)
		return NULL;
	if (uuid_parse(token) != NULL)
		return own_method(customer, account, uuid_parse(token));
	if (RUN(find_token, arg_uuid(customer->id), arg_text(token), arg_text(account->provider),
			arg_text(account->account)) > 0)
		return row_uuid(0, 1);
	if (RUN(find_attached, arg_uuid(customer->id), arg_text(token), arg_text(account->provider),
			arg_text(account->account)) > 0)
		return row_uuid(0, 1);
	return NULL;
}

static pg_uuid_t *
attach(const Customer *customer, const Account *account, const MethodTerms *terms)
{
	int set_default = terms->set_default;
	pg_uuid_t *id;

	check_no_card("payment_method", terms->token);
	require_mandate(account, terms);
	customer_ensure_at(customer, account);
	outbox_lock_customer(customer->id);
	id = same_method(customer, account, terms->token);
	if (id != NULL)
		return id;
	if (set_default < 0)
		set_default = RUN(has_method, arg_uuid(customer->id)) == 0;
	id = new_id();
	insert_row(id, customer, account, terms);
	outbox_enqueue(account, OPERATION_PAYMENT_METHOD_ATTACH, id, customer->id,
				   attach_arguments(terms, set_default > 0), NULL);
	return id;
}

pg_uuid_t *
payment_method_attach(const Customer *customer, const Account *account, const char *token,
					  int set_default, const Jsonb *metadata)
{
	MethodTerms terms = {.token = token, .set_default = set_default, .metadata = metadata};

	return attach(customer, account, &terms);
}

static void
check_method_terms(const MethodTerms *terms)
{
	check_word("type", terms->type, type_words);
	if (!is_reference(terms->type))
		check_given("payment_method", terms->token != NULL && terms->token[0] != '\0');
	else if (terms->token != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a payment method of type \"%s\" has no token", terms->type),
						errhint("Leave payment_method out: the provider makes the reference.")));
	if (TIMESTAMP_NOT_FINITE(terms->expires_at) ||
		(terms->expires_at != 0 && !is_reference(terms->type)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expires_at is not a time at which a reference ends"),
				 errhint("It is for cash_recurrent and spei_recurrent; a card has its own.")));
	check_metadata(terms->metadata);
}

static const char *
json_argument(const Jsonb *value)
{
	return value == NULL ? NULL : json_string(value);
}

SQL_FUNCTION(billing_attach_payment_method)
{
	pg_uuid_t *customer_id = ARG_UUID(0);
	MethodTerms terms = {
		.token = ARG_TEXT(1),
		.type = ARG_TEXT(2),
		.set_default = PG_ARGISNULL(3) ? -1 : PG_GETARG_BOOL(3),
		.mandate = ARG_JSON(4),
		.expires_at = ARG_TIME(5),
		.metadata = ARG_JSON(6),
	};
	char *provider = ARG_TEXT(7);
	char *account_name = ARG_TEXT(8);
	char *key = ARG_TEXT(9);
	KeyedArgument arguments[] = {
		{"customer_id", customer_id == NULL ? NULL : uuid_text(customer_id)},
		{"payment_method", terms.token},
		{"type", terms.type},
		{"set_default", terms.set_default < 0   ? NULL
						: terms.set_default > 0 ? "true"
												: "false"},
		{"mandate", json_argument(terms.mandate)},
		{"expires_at",
		 terms.expires_at == 0 ? NULL : psprintf(INT64_FORMAT, (int64) terms.expires_at)},
		{"provider", provider},
		{"account", account_name},
		{"metadata", json_argument(terms.metadata)},
	};
	Customer *customer;
	pg_uuid_t *id;

	check_no_card("payment_method", terms.token);
	check_no_card_json("mandate", terms.mandate);
	check_no_card_json("metadata", terms.metadata);
	db_open();
	check_given("customer_id", customer_id != NULL);
	check_method_terms(&terms);
	terms.mandate = checked_mandate(terms.mandate);
	customer = customer_load(customer_id, true);
	if (customer == NULL || customer->deleted)
		unknown_object("customer", uuid_text(customer_id), NULL);
	id = idempotency_find("attach_payment_method", customer->organization_id, key, arguments,
						  lengthof(arguments));
	if (id == NULL)
	{
		id = attach(customer,
					account_get(provider != NULL ? provider : customer->provider,
								account_name != NULL ? account_name : customer->account),
					&terms);
		idempotency_store("attach_payment_method", customer->organization_id, key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

/* ---- changes ---- */

QUERY(
	load_method,
	"SELECT m.customer_id, m.state, m.provider, m.account, m.is_default, c.organization_id, m.token, m.mandate, m.unusable "
	"FROM billing.payment_methods AS m JOIN billing.customers AS c ON c.id = m.customer_id WHERE m.id = $1",
	UUIDOID);

bool
payment_method_load(const pg_uuid_t *id, Method *method)
{
	if (RUN(load_method, arg_uuid(id)) == 0)
		return false;
	method->customer_id = row_uuid(0, 1);
	method->state = row_text(0, 2);
	method->provider = row_text(0, 3);
	method->account = row_text(0, 4);
	method->is_default = row_bool(0, 5);
	method->organization_id = row_text(0, 6);
	method->token = row_text(0, 7);
	method->mandate = row_bytes(0, 8);
	method->unusable = row_text(0, 9);
	return true;
}

bool
payment_method_is_there(const Method *method)
{
	return strcmp(method->state, "attached") == 0 ||
		   (strcmp(method->state, "failed") == 0 && method->unusable != NULL);
}

/* Loads it under the lock of its customer, so that its state stands still. */
static void
method_load_locked(const pg_uuid_t *id, Method *method)
{
	check_given("payment_method_id", id != NULL);
	if (!payment_method_load(id, method))
		unknown_object("payment method", uuid_text(id), NULL);
	outbox_lock_customer(method->customer_id);
	if (!payment_method_load(id, method))
		elog(ERROR, "payment method %s is gone", uuid_text(id));
}

void
payment_method_check(const pg_uuid_t *id, const pg_uuid_t *customer_id)
{
	Method method;

	if (!payment_method_load(id, &method) || !uuid_equal(method.customer_id, customer_id))
		unknown_object("payment method", uuid_text(id),
					   "billing.list_payment_methods() lists those of the customer.");
	if (strcmp(method.state, "attached") != 0 && strcmp(method.state, "pending") != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("payment method \"%s\" is %s", uuid_text(id), method.state),
						errhint("Attach another one by billing.attach_payment_method().")));
}

SQL_FUNCTION(billing_detach_payment_method)
{
	pg_uuid_t *id = ARG_UUID(0);
	Method method;
	JsonBuilder b;

	db_open();
	method_load_locked(id, &method);
	if ((payment_method_is_there(&method) || strcmp(method.state, "pending") == 0) &&
		!outbox_under_way(id, OPERATION_PAYMENT_METHOD_DETACH))
	{
		json_open(&b);
		outbox_enqueue(account_get(method.provider, method.account),
					   OPERATION_PAYMENT_METHOD_DETACH, id, method.customer_id, json_close(&b),
					   NULL);
	}
	db_close();
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_set_default_payment_method)
{
	pg_uuid_t *id = ARG_UUID(0);
	Method method;
	JsonBuilder b;

	db_open();
	method_load_locked(id, &method);
	if (strcmp(method.state, "attached") != 0 && strcmp(method.state, "pending") != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("payment method \"%s\" is %s", uuid_text(id), method.state),
						errhint("Attach another one by billing.attach_payment_method().")));
	json_open(&b);
	outbox_enqueue(account_get(method.provider, method.account),
				   OPERATION_PAYMENT_METHOD_SET_DEFAULT, id, method.customer_id, json_close(&b),
				   NULL);
	db_close();
	PG_RETURN_VOID();
}

/* ---- what the provider has ---- */

QUERY(
	accounts_of_customer,
	"SELECT r.provider, r.account FROM billing.provider_refs AS r WHERE r.object_id = $1 AND r.object_type = 'customer' "
	"UNION SELECT o.provider, o.account FROM billing.outbox AS o WHERE o.object_id = $1 AND o.operation = 'customer.create'",
	UUIDOID);
QUERY(
	listing_ahead,
	"SELECT FROM billing.outbox WHERE object_id = $1 AND operation = 'payment_method.list' AND provider = $2 "
	"AND account = $3 AND state IN ('queued', 'waiting') AND attempts = 0 AND step = 0 LIMIT 1",
	UUIDOID, TEXTOID, TEXTOID);

/* One that has not been sent yet will tell what there is now, too. */
static void
refresh_at(const Customer *customer, const Account *account)
{
	JsonBuilder b;

	if (RUN(listing_ahead, arg_uuid(customer->id), arg_text(account->provider),
			arg_text(account->account)) > 0)
		return;
	json_open(&b);
	outbox_enqueue(account, OPERATION_PAYMENT_METHOD_LIST, customer->id, customer->id,
				   json_close(&b), NULL);
}

SQL_FUNCTION(billing_refresh_payment_methods)
{
	pg_uuid_t *customer_id = ARG_UUID(0);
	Customer *customer;
	Rows accounts;
	int64 count;

	db_open();
	check_given("customer_id", customer_id != NULL);
	customer = customer_load(customer_id, true);
	if (customer == NULL || customer->deleted)
		unknown_object("customer", uuid_text(customer_id), NULL);
	count = RUN(accounts_of_customer, arg_uuid(customer_id));
	accounts = rows_keep();
	for (int64 i = 0; i < count; i++)
		refresh_at(customer, account_get(rows_text(accounts, i, 1), rows_text(accounts, i, 2)));
	db_close();
	PG_RETURN_VOID();
}

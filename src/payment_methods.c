/*-------------------------------------------------------------------------
 *
 * payment_methods.c
 *	  Payment methods: attached by a token that the provider made.
 *
 * A method is pending until the provider has taken it, failed when the
 * provider refused it.  Brand, last four digits and expiry come from the
 * provider; nothing that could be charged elsewhere is ever kept.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "errors.h"
#include "json.h"

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
	  "AND m.state = 'attached'",
	  UUIDOID, TEXTOID, TEXTOID, TEXTOID);
QUERY(
	has_method,
	"SELECT FROM billing.payment_methods WHERE customer_id = $1 AND state IN ('pending', 'attached') LIMIT 1",
	UUIDOID);
QUERY(
	insert_method,
	"INSERT INTO billing.payment_methods (id, customer_id, provider, account, livemode, token, metadata) "
	"VALUES ($1, $2, $3, $4, $5, $6, coalesce($7, '{}'))",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, JSONBOID);

/* {"payment_method": token, "set_default": ...}: the token is a name of the provider's, no secret. */
static Jsonb *
attach_arguments(const char *token, bool set_default)
{
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, "payment_method", token);
	json_add_bool(&b, "set_default", set_default);
	return json_close(&b);
}

/*
 * set_default: 1, 0, or -1 for "if it is the first".  A method that is
 * attached already, or about to be, is found again.
 */
pg_uuid_t *
payment_method_attach(const Customer *customer, const Account *account, const char *token,
					  int set_default, const Jsonb *metadata)
{
	pg_uuid_t *id;

	check_no_card("payment_method", token);
	customer_ensure_at(customer, account);
	outbox_lock_customer(customer->id);
	if (RUN(find_token, arg_uuid(customer->id), arg_text(token), arg_text(account->provider),
			arg_text(account->account)) > 0)
		return row_uuid(0, 1);
	if (RUN(find_attached, arg_uuid(customer->id), arg_text(token), arg_text(account->provider),
			arg_text(account->account)) > 0)
		return row_uuid(0, 1);
	if (set_default < 0)
		set_default = RUN(has_method, arg_uuid(customer->id)) == 0;
	id = new_id();
	RUN(insert_method, arg_uuid(id), arg_uuid(customer->id), arg_text(account->provider),
		arg_text(account->account), arg_bool(account->livemode), arg_text(token),
		arg_json(metadata));
	outbox_enqueue(account, OPERATION_PAYMENT_METHOD_ATTACH, id, customer->id,
				   attach_arguments(token, set_default > 0), NULL);
	return id;
}

SQL_FUNCTION(billing_attach_payment_method)
{
	pg_uuid_t *customer_id = ARG_UUID(0);
	char *token = ARG_TEXT(1);
	int set_default = PG_ARGISNULL(2) ? -1 : PG_GETARG_BOOL(2);
	Jsonb *metadata = ARG_JSON(3);
	char *provider = ARG_TEXT(4);
	char *account_name = ARG_TEXT(5);
	char *key = ARG_TEXT(6);
	KeyedArgument arguments[] = {
		{"customer_id", customer_id == NULL ? NULL : uuid_text(customer_id)},
		{"payment_method", token},
		{"set_default", set_default < 0   ? NULL
						: set_default > 0 ? "true"
										  : "false"},
		{"provider", provider},
		{"account", account_name},
		{"metadata", metadata == NULL ? NULL : json_string(metadata)},
	};
	Customer *customer;
	Account *account;
	pg_uuid_t *id;

	check_no_card("payment_method", token);
	check_no_card_json("metadata", metadata);
	db_open();
	check_given("customer_id", customer_id != NULL);
	check_given("payment_method", token != NULL && token[0] != '\0');
	check_metadata(metadata);
	customer = customer_load(customer_id, true);
	if (customer == NULL || customer->deleted)
		unknown_object("customer", uuid_text(customer_id), NULL);
	id = idempotency_find("attach_payment_method", customer->organization_id, key, arguments,
						  lengthof(arguments));
	if (id == NULL)
	{
		account = account_get(provider != NULL ? provider : customer->provider,
							  account_name != NULL ? account_name : customer->account);
		id = payment_method_attach(customer, account, token, set_default, metadata);
		idempotency_store("attach_payment_method", customer->organization_id, key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

/* ---- changes ---- */

typedef struct Method
{
	pg_uuid_t *customer_id;
	char *state;
	char *provider;
	char *account;
	bool is_default;
	char *organization_id;
	char *token;
} Method;

QUERY(
	load_method,
	"SELECT m.customer_id, m.state, m.provider, m.account, m.is_default, c.organization_id, m.token "
	"FROM billing.payment_methods AS m JOIN billing.customers AS c ON c.id = m.customer_id WHERE m.id = $1",
	UUIDOID);

static bool
method_load(const pg_uuid_t *id, Method *method)
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
	return true;
}

/* Loads it under the lock of its customer, so that its state stands still. */
static void
method_load_locked(const pg_uuid_t *id, Method *method)
{
	check_given("payment_method_id", id != NULL);
	if (!method_load(id, method))
		unknown_object("payment method", uuid_text(id), NULL);
	outbox_lock_customer(method->customer_id);
	if (!method_load(id, method))
		elog(ERROR, "payment method %s is gone", uuid_text(id));
}

void
payment_method_check(const pg_uuid_t *id, const pg_uuid_t *customer_id)
{
	Method method;

	if (!method_load(id, &method) || !uuid_equal(method.customer_id, customer_id))
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
	if (strcmp(method.state, "detached") != 0 && strcmp(method.state, "failed") != 0 &&
		outbox_pending(id, OPERATION_PAYMENT_METHOD_DETACH) == NULL)
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

/* ---- to the provider ---- */

QUERY(
	method_failed,
	"UPDATE billing.payment_methods SET state = 'failed', error_code = $2, token = NULL, is_default = false, "
	"updated_at = now() WHERE id = $1 AND state = 'pending'",
	UUIDOID, TEXTOID);

Description
payment_method_describe(const OutboxRow *row)
{
	Method method;
	JsonBuilder b;
	char *customer = ref_find("customer", row->ordering_key, row->provider, row->account);
	char *provider_id = ref_find("payment_method", row->object_id, row->provider, row->account);

	if (!method_load(row->object_id, &method))
		elog(ERROR, "payment method %s is gone", uuid_text(row->object_id));
	if (customer == NULL)
	{
		RUN(method_failed, arg_uuid(row->object_id), arg_text("customer_missing"));
		return (Description){OBSOLETE, NULL, "the customer was never created there"};
	}
	json_open(&b);
	json_add_text(&b, "customer", customer);
	json_add_text(&b, "reference", uuid_text(row->object_id));
	if (row->operation == OPERATION_PAYMENT_METHOD_ATTACH)
	{
		json_add_text(&b, "payment_method", json_text(row->arguments, "payment_method"));
		json_add_bool(&b, "set_default", json_bool(row->arguments, "set_default", false));
		return (Description){READY, json_close(&b), NULL};
	}
	if (provider_id == NULL || strcmp(method.state, "attached") != 0)
		return (Description){OBSOLETE, NULL, "the payment method is not attached"};
	json_add_text(&b, "payment_method", provider_id);
	return (Description){READY, json_close(&b), NULL};
}

void
payment_method_refused(const OutboxRow *row, const CallResult *result)
{
	Method method;

	if (RUN(method_failed, arg_uuid(row->object_id),
			arg_text(result->error_code != NULL ? result->error_code : result->error_type)) == 0)
		return;
	if (method_load(row->object_id, &method))
		event_record("payment_method.failed", "payment_method", row->object_id,
					 method.organization_id, "pending", "failed");
}

QUERY(
	clear_default,
	"UPDATE billing.payment_methods SET is_default = false WHERE customer_id = $1 AND is_default AND id <> $2",
	UUIDOID, UUIDOID);
QUERY(set_default_row,
	  "UPDATE billing.payment_methods SET is_default = true, updated_at = now() "
	  "WHERE id = $1 AND NOT is_default AND state = 'attached'",
	  UUIDOID);
QUERY(
	method_detached,
	"UPDATE billing.payment_methods SET state = 'detached', is_default = false, token = NULL, updated_at = now() "
	"WHERE id = $1 AND state <> 'detached'",
	UUIDOID);

static void
make_default(const pg_uuid_t *customer_id, const pg_uuid_t *id)
{
	RUN(clear_default, arg_uuid(customer_id), arg_uuid(id));
	RUN(set_default_row, arg_uuid(id));
}

static void
detach_row(const pg_uuid_t *id, const Method *method)
{
	if (RUN(method_detached, arg_uuid(id)) > 0)
		event_record("payment_method.detached", "payment_method", id, method->organization_id,
					 method->state, "detached");
}

QUERY(attached_methods,
	  "SELECT id FROM billing.payment_methods WHERE customer_id = $1 AND state = 'attached'",
	  UUIDOID);

void
payment_methods_detach_all(const pg_uuid_t *customer_id)
{
	Rows methods;

	RUN(attached_methods, arg_uuid(customer_id));
	methods = rows_keep();
	for (int64 i = 0; i < rows_count(methods); i++)
	{
		pg_uuid_t *id = rows_uuid(methods, i, 1);
		Method method;

		if (method_load(id, &method))
			detach_row(id, &method);
	}
}

void
payment_method_done(const OutboxRow *row, const CallResult *result)
{
	Method method;

	if (result->next_step != 0 || !method_load(row->object_id, &method))
		return;
	if (row->operation == OPERATION_PAYMENT_METHOD_DETACH)
		detach_row(row->object_id, &method);
	else if (row->operation == OPERATION_PAYMENT_METHOD_SET_DEFAULT ||
			 json_bool(row->arguments, "set_default", false))
		make_default(method.customer_id, row->object_id);
}

/* ---- from the provider ---- */

QUERY(
	mirror_method,
	"UPDATE billing.payment_methods SET state = 'attached', token = NULL, error_code = NULL, type = coalesce($2, type), "
	"brand = coalesce($3, brand), last4 = coalesce($4, last4), exp_month = coalesce($5, exp_month), "
	"exp_year = coalesce($6, exp_year), wallet = coalesce($7, wallet), updated_at = now() WHERE id = $1",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT2OID, INT2OID, TEXTOID);
QUERY(insert_found,
	  "INSERT INTO billing.payment_methods (id, customer_id, provider, account, livemode, state) "
	  "VALUES ($1, $2, $3, $4, $5, 'pending')",
	  UUIDOID, UUIDOID, TEXTOID, TEXTOID, BOOLOID);
QUERY(
	attaching,
	"SELECT FROM billing.outbox AS o JOIN billing.payment_methods AS m ON m.id = o.object_id "
	"WHERE m.customer_id = $1 AND o.operation = 'payment_method.attach' AND o.state IN ('sending', 'unknown') LIMIT 1",
	UUIDOID);

static Arg
arg_int2(int value)
{
	return value == 0 ? arg_null() : arg_datum(Int16GetDatum((int16) value), false);
}

/*
 * A method that came into being at the provider (in its portal, in a
 * checkout).  While an attachment of ours is under way it is probably that
 * one: it cannot carry our reference, so the webhook waits for the answer.
 */
static pg_uuid_t *
adopt_method(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const char *customer = snapshot->payment_method.customer;
	pg_uuid_t *customer_id = ref_object("customer", customer, news->provider, news->account);
	pg_uuid_t *id;

	if (customer_id == NULL || !outbox_lock_customer(customer_id))
	{
		*waiting_for = customer != NULL ? customer : snapshot->provider_id;
		return NULL;
	}
	/* whoever held the lock may have brought it, or the answer that was waited for */
	id = snapshot_object(snapshot, news);
	if (id != NULL)
		return id;
	if (RUN(attaching, arg_uuid(customer_id)) > 0)
	{
		*waiting_for = snapshot->provider_id;
		return NULL;
	}
	id = new_id();
	RUN(insert_found, arg_uuid(id), arg_uuid(customer_id), arg_text(news->provider),
		arg_text(news->account), arg_bool(news->livemode));
	return id;
}

Applied
payment_method_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const PaymentMethodSnapshot *told = &snapshot->payment_method;
	pg_uuid_t *id = snapshot_object(snapshot, news);
	Method method;

	if (id == NULL && (snapshot->deleted || told->customer == NULL))
		return SNAPSHOT_STALE;
	if (id == NULL)
		id = adopt_method(snapshot, news, waiting_for);
	if (id == NULL || !method_load(id, &method))
		return SNAPSHOT_UNKNOWN;
	/* the customer first, as everybody takes it; for an answer to our own call it is locked */
	if (news->own_id == NULL &&
		(!outbox_lock_customer(method.customer_id) || !method_load(id, &method)))
		return SNAPSHOT_UNKNOWN;
	if (!ref_advance(snapshot, id, news, TIE_BY_ARRIVAL))
		return SNAPSHOT_STALE;
	if (snapshot->deleted || told->customer == NULL)
	{
		detach_row(id, &method);
		return SNAPSHOT_APPLIED;
	}
	RUN(mirror_method, arg_uuid(id), arg_text(told->type), arg_text(told->brand),
		arg_text(told->last4), arg_int2(told->exp_month), arg_int2(told->exp_year),
		arg_text(told->wallet));
	if (strcmp(method.state, "attached") != 0 || news->own_id == NULL)
		event_record(strcmp(method.state, "attached") != 0 ? "payment_method.attached"
														   : "payment_method.updated",
					 "payment_method", id, method.organization_id, method.state, "attached");
	if (told->is_default)
		make_default(method.customer_id, id);
	return SNAPSHOT_APPLIED;
}

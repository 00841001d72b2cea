/*-------------------------------------------------------------------------
 *
 * customer_changes.c
 *	  A customer is updated, and deleted.
 *
 * An update names what changed in the outbox, never the values: they are read
 * from the row when the request is built, so that the newest ones are sent.
 *
 *-------------------------------------------------------------------------
 */
#include "customers.h"

#include "check.h"
#include "errors.h"
#include "json.h"
#include "keys.h"

/* What update_customer() knows, and whether the provider hears of it. */
static const struct
{
	const char *name;
	bool provider_hears;
} customer_members[] = {
	{"email", true},       {"name", true},       {"phone", true},     {"address", true},
	{"tax_ids", true},     {"tax_exempt", true}, {"country", true},   {"locale", true},
	{"description", true}, {"metadata", true},   {"currency", false}, {"timezone", false},
};

QUERY(
	customer_accounts,
	"SELECT provider, account FROM billing.provider_refs WHERE object_id = $1 AND object_type = 'customer' "
	"UNION "
	"SELECT provider, account FROM billing.outbox WHERE object_id = $1 AND operation = 'customer.create'",
	UUIDOID);

/* Enqueues the operation at each account that knows the customer or is about to. */
static void
enqueue_everywhere(const pg_uuid_t *id, Operation operation, const Jsonb *arguments)
{
	Rows accounts;

	RUN(customer_accounts, arg_uuid(id));
	accounts = rows_keep();
	for (int64 i = 0; i < rows_count(accounts); i++)
		outbox_enqueue(account_get(rows_text(accounts, i, 1), rows_text(accounts, i, 2)), operation,
					   id, id, arguments, NULL);
}

static bool
member_known(const char *name, bool *provider_hears)
{
	for (int i = 0; i < (int) lengthof(customer_members); i++)
	{
		if (strcmp(customer_members[i].name, name) == 0)
		{
			*provider_hears = customer_members[i].provider_hears;
			return true;
		}
	}
	return false;
}

static void
check_no_card_change(const char *name, const JsonbValue *value, void *context)
{
	check_no_card("changes", name);
	if (strcmp(name, "phone") == 0)
		return;
	if (value->type == jbvBinary)
		check_no_card_json(name, JsonbValueToJsonb(unconstify(JsonbValue *, value)));
	else
		check_no_card(name, json_scalar_text(value));
}

/* Before anything else, as customer_check_no_card(); whatever the changes look like. */
static void
check_no_card_changes(const Jsonb *changes)
{
	if (changes != NULL && JB_ROOT_IS_OBJECT(changes))
		json_visit(changes, check_no_card_change, NULL);
	else
		check_no_card_json("changes", changes);
}

/* What an update has to tell the provider. */
typedef struct ChangeList
{
	JsonBuilder builder;
	int count;
	bool tax_ids;
} ChangeList;

static void
note_change(const char *name, const JsonbValue *value, void *context)
{
	ChangeList *list = context;
	bool provider_hears;

	if (!member_known(name, &provider_hears))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("a customer has no \"%s\" that could be changed", name),
			 errhint(
				 "Members are: email, name, phone, address, tax_ids, tax_exempt, country, currency, "
				 "locale, timezone, description, metadata.")));
	if (strcmp(name, "tax_ids") == 0)
		list->tax_ids = true;
	else if (provider_hears)
	{
		json_append_text(&list->builder, name);
		list->count++;
	}
}

static void
note_removed(const char *key, const JsonbValue *value, void *context)
{
	if (value->type == jbvNull)
		json_append_text((JsonBuilder *) context, key);
}

/* {"changed": ["email", ...], "removed": [keys of metadata that were cleared]} */
static Jsonb *
change_arguments(const Jsonb *changes, ChangeList *list)
{
	Jsonb *metadata = json_part(changes, "metadata");

	list->count = 0;
	list->tax_ids = false;
	json_open(&list->builder);
	json_open_array(&list->builder, "changed");
	json_visit(changes, note_change, list);
	json_close_array(&list->builder);
	json_open_array(&list->builder, "removed");
	if (metadata != NULL)
		json_visit(metadata, note_removed, &list->builder);
	json_close_array(&list->builder);
	return json_close(&list->builder);
}

static CustomerTerms
changed_terms(const Jsonb *changes)
{
	return (CustomerTerms){
		.organization_id = "unchanged",
		.email = json_text(changes, "email"),
		.name = json_text(changes, "name"),
		.phone = json_text(changes, "phone"),
		.address = json_part(changes, "address"),
		.tax_ids = json_part(changes, "tax_ids"),
		.tax_exempt = json_text(changes, "tax_exempt"),
		.country = json_text(changes, "country"),
		.currency = json_text(changes, "currency"),
		.locale = json_text(changes, "locale"),
		.timezone = json_text(changes, "timezone"),
		.description = json_text(changes, "description"),
		.metadata = json_part(changes, "metadata"),
	};
}

/* $2 is the object of changes: a member that is not there changes nothing. */
QUERY(
	update_customer_row,
	"UPDATE billing.customers SET "
	"email = CASE WHEN $2 ? 'email' THEN $3 ELSE email END, "
	"email_hash = CASE WHEN $2 ? 'email' THEN $4 ELSE email_hash END, "
	"name = CASE WHEN $2 ? 'name' THEN $5 ELSE name END, "
	"phone = CASE WHEN $2 ? 'phone' THEN $6 ELSE phone END, "
	"address = CASE WHEN $2 ? 'address' THEN $7 ELSE address END, "
	"tax_ids = CASE WHEN $2 ? 'tax_ids' THEN $8 ELSE tax_ids END, "
	"tax_exempt = CASE WHEN $2 ? 'tax_exempt' THEN coalesce($9, 'none') ELSE tax_exempt END, "
	"country = CASE WHEN $2 ? 'country' THEN $10 ELSE country END, "
	"currency = CASE WHEN $2 ? 'currency' THEN $11 ELSE currency END, "
	"locale = CASE WHEN $2 ? 'locale' THEN $12 ELSE locale END, "
	"timezone = CASE WHEN $2 ? 'timezone' THEN $13 ELSE timezone END, "
	"description = CASE WHEN $2 ? 'description' THEN $14 ELSE description END, "
	"metadata = CASE WHEN $2 ? 'metadata' THEN jsonb_strip_nulls(metadata || coalesce($15, '{}')) ELSE metadata END, "
	"updated_at = now() WHERE id = $1",
	UUIDOID, JSONBOID, BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID, TEXTOID, TEXTOID,
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID);

static void
update_row(const pg_uuid_t *id, const Jsonb *changes, const CustomerTerms *terms)
{
	RUN(update_customer_row, arg_uuid(id), arg_json(changes),
		arg_bytes(seal_text("customers.email", id, terms->email)),
		arg_bytes(email_hash(terms->email)),
		arg_bytes(seal_text("customers.name", id, terms->name)),
		arg_bytes(seal_text("customers.phone", id, terms->phone)),
		arg_bytes(terms->address == NULL
					  ? NULL
					  : seal_text("customers.address", id, json_string(terms->address))),
		arg_bytes(terms->tax_ids == NULL
					  ? NULL
					  : seal_text("customers.tax_ids", id, json_string(terms->tax_ids))),
		arg_text(terms->tax_exempt), arg_text(terms->country), arg_text(terms->currency),
		arg_text(terms->locale), arg_text(terms->timezone), arg_text(terms->description),
		arg_json(terms->metadata));
}

QUERY(
	customer_personal,
	"SELECT organization_id, email, name, phone, address, tax_ids, tax_exempt, country, locale, description, "
	"metadata, needs_data, provider, account FROM billing.customers WHERE id = $1",
	UUIDOID);
QUERY(set_needs_data, "UPDATE billing.customers SET needs_data = $2 WHERE id = $1", UUIDOID,
	  TEXTOID);

/* The customer as it stands, opened. */
CustomerTerms
customer_terms(const pg_uuid_t *id, char **needs_data)
{
	CustomerTerms terms = {0};
	Rows row;
	char *address;
	char *tax_ids;
	const char *reason;

	if (RUN(customer_personal, arg_uuid(id)) == 0)
		elog(ERROR, "customer %s is gone", uuid_text(id));
	row = rows_keep();
	terms.organization_id = rows_text(row, 0, 1);
	terms.email = unseal_text("customers.email", id, rows_bytes(row, 0, 2));
	terms.name = unseal_text("customers.name", id, rows_bytes(row, 0, 3));
	terms.phone = unseal_text("customers.phone", id, rows_bytes(row, 0, 4));
	address = unseal_text("customers.address", id, rows_bytes(row, 0, 5));
	if (address != NULL)
		terms.address = json_parse(address, strlen(address), &reason);
	tax_ids = unseal_text("customers.tax_ids", id, rows_bytes(row, 0, 6));
	if (tax_ids != NULL)
		terms.tax_ids = json_parse(tax_ids, strlen(tax_ids), &reason);
	terms.tax_exempt = rows_text(row, 0, 7);
	terms.country = rows_text(row, 0, 8);
	terms.locale = rows_text(row, 0, 9);
	terms.description = rows_text(row, 0, 10);
	terms.metadata = rows_json(row, 0, 11);
	if (needs_data != NULL)
		*needs_data = rows_text(row, 0, 12);
	terms.provider = rows_text(row, 0, 13);
	terms.account = rows_text(row, 0, 14);
	return terms;
}

/* What kept the customer from its provider may be there now. */
static void
send_if_complete(const pg_uuid_t *id, const CustomerTerms *terms)
{
	Account *account = account_get(terms->provider, terms->account);
	const char *missing = customer_missing_at(account, terms,
											  is_country_served(customer_country(terms)));

	RUN(set_needs_data, arg_uuid(id), arg_text(missing));
	if (missing == NULL)
		outbox_enqueue(account, OPERATION_CUSTOMER_CREATE, id, id,
					   customer_terms_json(&(CustomerTerms){0}), NULL);
}

/*
 * What a provider that knows the customer cannot take, or would miss, is
 * refused here; a statement on the application's own table does not fail
 * because of it.
 */
static void
check_change(const pg_uuid_t *id, const Jsonb *changes, const CustomerTerms *stored)
{
	Rows accounts;

	RUN(customer_accounts, arg_uuid(id));
	accounts = rows_keep();
	for (int64 i = 0; i < rows_count(accounts); i++)
	{
		const Account *account = account_get(rows_text(accounts, i, 1), rows_text(accounts, i, 2));
		const char *missing;

		account_require(account, OPERATION_CUSTOMER_UPDATE, changes);
		if (json_has(changes, "tax_ids"))
			account_require(account, OPERATION_CUSTOMER_SET_TAX_IDS, changes);
		missing = account_missing(account, OPERATION_CUSTOMER_CREATE, customer_terms_json(stored));
		if (missing != NULL)
			customer_refuse_missing(account, missing, psprintf("Pass %s", missing));
	}
}

void
customer_update(const pg_uuid_t *id, const Jsonb *changes, bool lenient)
{
	Customer *customer;
	CustomerTerms terms;
	CustomerTerms stored;
	ChangeList list;
	Jsonb *arguments;
	char *needs_data;

	check_no_card_changes(changes);
	customer = customer_load(id, true);
	if (customer == NULL)
		unknown_object("customer", uuid_text(id), NULL);
	if (customer->deleted)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE), errmsg("customer \"%s\" is deleted", uuid_text(id))));
	arguments = change_arguments(changes, &list);
	terms = changed_terms(changes);
	if (lenient)
	{
		terms.organization_id = customer->organization_id;
		terms.lenient = true;
		terms = customer_usable_terms(&terms);
	}
	customer_check_terms(&terms);
	(void) customer_check_countries(&terms);
	update_row(id, changes, &terms);
	event_record("customer.updated", "customer", id, customer->organization_id, "active", "active");

	stored = customer_terms(id, &needs_data);
	if (needs_data != NULL)
	{
		send_if_complete(id, &stored);
		return;
	}
	if (!lenient)
		check_change(id, changes, &stored);
	if (list.count > 0)
		enqueue_everywhere(id, OPERATION_CUSTOMER_UPDATE, arguments);
	if (list.tax_ids)
		enqueue_everywhere(id, OPERATION_CUSTOMER_SET_TAX_IDS, arguments);
}

SQL_FUNCTION(billing_update_customer)
{
	pg_uuid_t *id = ARG_UUID(0);
	Jsonb *changes = ARG_JSON(1);

	check_no_card_changes(changes);
	db_open();
	check_given("customer_id", id != NULL);
	check_given("changes", changes != NULL);
	if (!JB_ROOT_IS_OBJECT(changes))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("changes is not an object"),
				 errhint("Pass something like '{\"email\": \"billing@example.com\"}'.")));
	customer_update(id, changes, false);
	db_close();
	PG_RETURN_VOID();
}

/* ---- end ---- */

QUERY(mark_deleted,
	  "UPDATE billing.customers SET deleted_at = now(), updated_at = now(), needs_data = NULL "
	  "WHERE id = $1 AND deleted_at IS NULL RETURNING organization_id",
	  UUIDOID);

void
customer_mark_deleted(const pg_uuid_t *id)
{
	if (RUN(mark_deleted, arg_uuid(id)) == 0)
		return;
	event_record("customer.deleted", "customer", id, row_text(0, 1), "active", "deleted");
	payment_methods_detach_all(id);
}

/*
 * Subscriptions end first: the cancellations stand before the deletion in the
 * order of this customer's requests.
 */
void
customer_delete(const pg_uuid_t *id, bool final_invoice)
{
	Customer *customer = customer_load(id, true);
	JsonBuilder b;

	if (customer == NULL)
		unknown_object("customer", uuid_text(id), NULL);
	if (customer->deleted)
		return;
	subscription_cancel_all(id, final_invoice);
	customer_mark_deleted(id);
	json_open(&b);
	enqueue_everywhere(id, OPERATION_CUSTOMER_DELETE, json_close(&b));
}

SQL_FUNCTION(billing_delete_customer)
{
	pg_uuid_t *id = ARG_UUID(0);

	db_open();
	check_given("customer_id", id != NULL);
	check_given("final_invoice", !PG_ARGISNULL(1));
	customer_delete(id, PG_GETARG_BOOL(1));
	db_close();
	PG_RETURN_VOID();
}

/*-------------------------------------------------------------------------
 *
 * customers.c
 *	  Customers: one per organisation of the application.
 *
 * Personal data is sealed before it reaches a table, and opened only when a
 * request is about to be sent or somebody who may asks for it.  What may be
 * said of a customer stands in customer_terms.c, how one changes and ends in
 * customer_changes.c.
 *
 *-------------------------------------------------------------------------
 */
#include "customers.h"

#include "check.h"
#include "errors.h"
#include "json.h"
#include "keys.h"
#include "routing.h"

#define INSERT_ATTEMPTS 3

QUERY(
	load_customer,
	"SELECT id, organization_id, provider, account, livemode, currency, country, deleted_at IS NOT NULL "
	"FROM billing.customers WHERE id = $1",
	UUIDOID);
QUERY(
	load_customer_locked,
	"SELECT id, organization_id, provider, account, livemode, currency, country, deleted_at IS NOT NULL "
	"FROM billing.customers WHERE id = $1 FOR NO KEY UPDATE",
	UUIDOID);
QUERY(load_organization,
	  "SELECT id, organization_id, provider, account, livemode, currency, country, false "
	  "FROM billing.customers WHERE organization_id = $1 AND deleted_at IS NULL",
	  TEXTOID);
QUERY(load_organization_locked,
	  "SELECT id, organization_id, provider, account, livemode, currency, country, false "
	  "FROM billing.customers WHERE organization_id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE",
	  TEXTOID);

/* With the row as it was when it was locked: the check replaces the last result. */
static Customer *
customer_from_row(bool locked)
{
	Customer *customer = palloc(sizeof(Customer));

	customer->id = row_uuid(0, 1);
	customer->organization_id = row_text(0, 2);
	customer->provider = row_text(0, 3);
	customer->account = row_text(0, 4);
	customer->livemode = row_bool(0, 5);
	customer->currency = row_text(0, 6);
	customer->country = row_text(0, 7);
	customer->deleted = row_bool(0, 8);
	if (locked)
		customer_locked(customer->id);
	return customer;
}

Customer *
customer_load(const pg_uuid_t *id, bool lock)
{
	if (query_run(lock ? &load_customer_locked : &load_customer, (const Arg[]){arg_uuid(id)}) == 0)
		return NULL;
	return customer_from_row(lock);
}

Customer *
customer_of_organization(const char *organization_id, bool lock)
{
	if (query_run(lock ? &load_organization_locked : &load_organization,
				  (const Arg[]){arg_text(organization_id)}) == 0)
		return NULL;
	return customer_from_row(lock);
}

/* ---- creation ---- */

QUERY(
	insert_customer,
	"INSERT INTO billing.customers (id, organization_id, provider, account, livemode, email, email_hash, "
	"name, phone, address, tax_ids, country, currency, locale, timezone, tax_exempt, description, "
	"metadata, needs_data) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, "
	"coalesce($16, 'none'), $17, coalesce($18, '{}'), $19) "
	"ON CONFLICT (organization_id) WHERE deleted_at IS NULL DO NOTHING",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID,
	BYTEAOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID);

static bool
insert_row(const pg_uuid_t *id, const CustomerTerms *terms, const Account *account,
		   const char *missing)
{
	return RUN(insert_customer, arg_uuid(id), arg_text(terms->organization_id),
			   arg_text(account->provider), arg_text(account->account), arg_bool(account->livemode),
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
			   arg_text(terms->country), arg_text(terms->currency), arg_text(terms->locale),
			   arg_text(terms->timezone), arg_text(terms->tax_exempt), arg_text(terms->description),
			   arg_json(terms->metadata), arg_text(missing)) > 0;
}

QUERY(
	compare_customer,
	"SELECT id, email, name, phone, address, tax_ids, country, currency, locale, timezone, tax_exempt, "
	"description, metadata, provider, account FROM billing.customers "
	"WHERE organization_id = $1 AND deleted_at IS NULL",
	TEXTOID);

static bool
differs(const char *given, const char *stored)
{
	return given != NULL && (stored == NULL || strcmp(given, stored) != 0);
}

static bool
differs_json(const Jsonb *given, const char *stored)
{
	const char *reason;
	Jsonb *other;

	if (given == NULL)
		return false;
	if (stored == NULL)
		return true;
	other = json_parse(stored, strlen(stored), &reason);
	return other == NULL || compareJsonbContainers((JsonbContainer *) &given->root,
												   (JsonbContainer *) &other->root) != 0;
}

/*
 * The organisation has a customer: fine when nothing that was given says
 * otherwise, so that a retry, or a trigger that was faster, is harmless.
 */
static pg_uuid_t *
existing_customer(const CustomerTerms *terms)
{
	pg_uuid_t *id;
	Rows row;
	const char *difference;

	if (RUN(compare_customer, arg_text(terms->organization_id)) == 0)
		return NULL;
	row = rows_keep();
	id = rows_uuid(row, 0, 1);
	difference =
		differs(terms->email, unseal_text("customers.email", id, rows_bytes(row, 0, 2)))   ? "email"
		: differs(terms->name, unseal_text("customers.name", id, rows_bytes(row, 0, 3)))   ? "name"
		: differs(terms->phone, unseal_text("customers.phone", id, rows_bytes(row, 0, 4))) ? "phone"
		: differs_json(terms->address, unseal_text("customers.address", id, rows_bytes(row, 0, 5)))
			? "address"
		: differs_json(terms->tax_ids, unseal_text("customers.tax_ids", id, rows_bytes(row, 0, 6)))
			? "tax_ids"
		: differs(terms->country, rows_text(row, 0, 7))        ? "country"
		: differs(terms->currency, rows_text(row, 0, 8))       ? "currency"
		: differs(terms->locale, rows_text(row, 0, 9))         ? "locale"
		: differs(terms->timezone, rows_text(row, 0, 10))      ? "timezone"
		: differs(terms->tax_exempt, rows_text(row, 0, 11))    ? "tax_exempt"
		: differs(terms->description, rows_text(row, 0, 12))   ? "description"
		: differs_json(terms->metadata, rows_text(row, 0, 13)) ? "metadata"
		: differs(terms->provider, rows_text(row, 0, 14))      ? "provider"
															   : NULL;
	if (difference != NULL && !terms->lenient)
		ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION),
						errmsg("organization \"%s\" has a customer with another %s",
							   terms->organization_id, difference),
						errdetail("Its id is %s.", uuid_text(id)),
						errhint("Use billing.update_customer() to change it.")));
	return id;
}

/*
 * Inserts the row with this id, or finds the one that there is.  Another
 * session may delete that one before it is looked at: then there is room again.
 */
static pg_uuid_t *
insert_or_find(pg_uuid_t *id, const CustomerTerms *terms, const Account *account,
			   const char *missing)
{
	for (int i = 0; i < INSERT_ATTEMPTS; i++)
	{
		pg_uuid_t *existing;

		if (insert_row(id, terms, account, missing))
			return id;
		existing = existing_customer(terms);
		if (existing != NULL)
			return existing;
	}
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("the customer of organization \"%s\" is made and deleted by other sessions",
					terms->organization_id),
			 errhint("Retry the transaction.")));
}

/* A trigger's customer of a sanctioned country gets an account, too: it is told nothing. */
static Account *
account_of(const CustomerTerms *terms, bool served)
{
	return route_account(&(RouteTerms){
		.provider = terms->provider,
		.account = terms->account,
		.country = served ? customer_country(terms) : NULL,
		.currency = terms->currency,
		.amount = NO_AMOUNT,
		.operation = OPERATION_CUSTOMER_CREATE,
	});
}

pg_uuid_t *
customer_create(const CustomerTerms *given)
{
	CustomerTerms terms;
	pg_uuid_t *id = new_id();
	pg_uuid_t *found;
	Account *account;
	const char *missing;
	bool served;

	customer_check_no_card(given);
	terms = given->lenient ? customer_usable_terms(given) : *given;
	customer_check_terms(&terms);
	served = customer_check_countries(&terms);
	account = account_of(&terms, served);
	missing = customer_missing_at(account, &terms, served);

	/* asked first, so that a retry is not told about data that is there */
	if (missing != NULL && !terms.lenient)
	{
		pg_uuid_t *existing = existing_customer(&terms);

		if (existing != NULL)
			return existing;
		customer_refuse_missing(account, missing, psprintf("Pass %s", missing));
	}
	if (!terms.lenient)
		account_require(account, OPERATION_CUSTOMER_CREATE, customer_terms_json(&terms));
	found = insert_or_find(id, &terms, account, missing);
	if (found != id)
		return found;
	event_record("customer.created", "customer", id, terms.organization_id, NULL, "active");
	if (missing == NULL)
		outbox_enqueue(account, OPERATION_CUSTOMER_CREATE, id, id,
					   customer_terms_json(&(CustomerTerms){0}), NULL);
	return id;
}

static const char *
json_argument(const Jsonb *value)
{
	return value == NULL ? NULL : json_string(value);
}

SQL_FUNCTION(billing_create_customer)
{
	CustomerTerms terms = {
		.organization_id = ARG_TEXT(0),
		.email = ARG_TEXT(1),
		.name = ARG_TEXT(2),
		.country = ARG_TEXT(3),
		.provider = ARG_TEXT(4),
		.phone = ARG_TEXT(5),
		.address = ARG_JSON(6),
		.tax_ids = ARG_JSON(7),
		.tax_exempt = ARG_TEXT(8),
		.locale = ARG_TEXT(9),
		.currency = ARG_TEXT(10),
		.timezone = ARG_TEXT(11),
		.description = ARG_TEXT(12),
		.metadata = ARG_JSON(13),
		.account = ARG_TEXT(14),
	};
	char *key = ARG_TEXT(15);
	KeyedArgument arguments[] = {
		{"email", terms.email},
		{"name", terms.name},
		{"country", terms.country},
		{"provider", terms.provider},
		{"phone", terms.phone},
		{"address", json_argument(terms.address)},
		{"tax_ids", json_argument(terms.tax_ids)},
		{"tax_exempt", terms.tax_exempt},
		{"locale", terms.locale},
		{"currency", terms.currency},
		{"timezone", terms.timezone},
		{"description", terms.description},
		{"metadata", json_argument(terms.metadata)},
		{"account", terms.account},
	};
	pg_uuid_t *id;

	customer_check_no_card(&terms);
	db_open();
	check_given("organization_id", terms.organization_id != NULL);
	id = idempotency_find("create_customer", terms.organization_id, key, arguments,
						  lengthof(arguments));
	if (id == NULL)
	{
		id = customer_create(&terms);
		idempotency_store("create_customer", terms.organization_id, key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

/* ---- where the customer is known ---- */

QUERY(creation_at,
	  "SELECT FROM billing.outbox WHERE object_id = $1 AND operation = 'customer.create' "
	  "AND provider = $2 AND account = $3",
	  UUIDOID, TEXTOID, TEXTOID);

void
customer_check_mode(const Customer *customer, const Account *account)
{
	if (customer->livemode != account->livemode)
		ereport(
			ERROR,
			(errcode(ERRCODE_JB_MODE_MIXED),
			 errmsg("organization \"%s\" is in %s mode, account \"%s\" of %s in %s mode",
					customer->organization_id, customer->livemode ? "live" : "test",
					account->account, account->provider, account->livemode ? "live" : "test"),
			 errhint(
				 "An organization cannot mix modes: use another account, or another organization.")));
}

void
customer_ensure_at(const Customer *customer, const Account *account)
{
	JsonBuilder b;
	CustomerTerms terms;
	const char *missing;

	customer_check_mode(customer, account);
	if (ref_find("customer", customer->id, account->provider, account->account) != NULL ||
		RUN(creation_at, arg_uuid(customer->id), arg_text(account->provider),
			arg_text(account->account)) > 0)
		return;
	terms = customer_terms(customer->id, NULL);
	check_country_served(customer_country(&terms));
	missing = account_missing(account, OPERATION_CUSTOMER_CREATE, customer_terms_json(&terms));
	if (missing != NULL)
		customer_refuse_missing(account, missing,
								psprintf("Call billing.update_customer() with %s", missing));
	json_open(&b);
	outbox_enqueue(account, OPERATION_CUSTOMER_CREATE, customer->id, customer->id, json_close(&b),
				   NULL);
}

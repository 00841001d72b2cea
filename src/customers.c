/*-------------------------------------------------------------------------
 *
 * customers.c
 *	  Customers: one per organisation of the application.
 *
 * Personal data is sealed before it reaches a table, and opened only when a
 * request is about to be sent or somebody who may asks for it.  An update
 * names what changed in the outbox, never the values: they are read from the
 * row when the request is built, so that the newest ones are sent.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "errors.h"
#include "json.h"
#include "keys.h"
#include "mb/pg_wchar.h"
#include "routing.h"

#define ORGANIZATION_ID_MAX 255 /* as the constraint of the table */
#define INSERT_ATTEMPTS     3

static const char *const tax_exempt_words[] = {"none", "exempt", "reverse", NULL};

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

static Customer *
customer_from_row(void)
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
	return customer;
}

Customer *
customer_load(const pg_uuid_t *id, bool lock)
{
	if (query_run(lock ? &load_customer_locked : &load_customer, (const Arg[]){arg_uuid(id)}) == 0)
		return NULL;
	return customer_from_row();
}

Customer *
customer_of_organization(const char *organization_id, bool lock)
{
	if (query_run(lock ? &load_organization_locked : &load_organization,
				  (const Arg[]){arg_text(organization_id)}) == 0)
		return NULL;
	return customer_from_row();
}

/* ---- creation ---- */

static void
check_address(const Jsonb *address)
{
	if (address == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(address))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("address is not an object"),
			 errhint(
				 "Pass {\"line1\", \"line2\", \"city\", \"state\", \"postal_code\", \"country\"}.")));
	check_country(json_text(address, "country"));
}

static void
check_tax_ids(const Jsonb *tax_ids)
{
	if (tax_ids == NULL)
		return;
	if (!JB_ROOT_IS_ARRAY(tax_ids) || JB_ROOT_IS_SCALAR(tax_ids))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("tax_ids is not an array"),
			 errhint(
				 "Pass something like '[{\"type\": \"eu_vat\", \"value\": \"DE123456789\"}]'.")));
	for (int i = 0; i < json_length(tax_ids, ""); i++)
	{
		if (json_text(tax_ids, psprintf("%d.type", i)) == NULL ||
			json_text(tax_ids, psprintf("%d.value", i)) == NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("element %d of tax_ids has no type or no value", i)));
	}
}

static void
check_timezone(const char *timezone)
{
	if (timezone != NULL && pg_tzset(timezone) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown time zone \"%s\"", timezone),
				 errhint("Use a name such as America/Mexico_City; pg_timezone_names lists them.")));
}

/*
 * Asked before anything else: the error of any other check would put the
 * statement, and the number with it, into the log.  Tax ids of some countries
 * and phone numbers pass for card numbers now and then.
 */
static void
check_no_card_terms(const CustomerTerms *terms)
{
	check_no_card("email", terms->email);
	check_no_card("name", terms->name);
	check_no_card("country", terms->country);
	check_no_card("tax_exempt", terms->tax_exempt);
	check_no_card("locale", terms->locale);
	check_no_card("currency", terms->currency);
	check_no_card("timezone", terms->timezone);
	check_no_card("description", terms->description);
	check_no_card_json("address", terms->address);
	check_no_card_json("metadata", terms->metadata);
}

/* Values of the application's table that cannot be used are left out, with a warning. */
static CustomerTerms
usable_terms(const CustomerTerms *given)
{
	CustomerTerms terms = *given;

	if (terms.email != NULL && !is_email(terms.email))
		terms.email = NULL;
	if (terms.country != NULL && !is_country(terms.country))
		terms.country = NULL;
	if (terms.currency != NULL && !is_currency(terms.currency))
		terms.currency = NULL;
	if (terms.email != given->email || terms.country != given->country ||
		terms.currency != given->currency)
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a value of organization \"%s\" cannot be used for billing and is left out",
						terms.organization_id),
				 errdetail("Of e-mail address, country and currency at least one is not valid.")));
	return terms;
}

static void
check_terms(CustomerTerms *terms)
{
	check_given("organization_id",
				terms->organization_id != NULL && terms->organization_id[0] != '\0');
	if (pg_mbstrlen(terms->organization_id) > ORGANIZATION_ID_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("organization_id is longer than %d characters", ORGANIZATION_ID_MAX),
						errhint("Pass the application's own id of the organization.")));
	check_email(terms->email);
	terms->country = check_country(terms->country);
	terms->currency = check_currency(terms->currency);
	check_word("tax_exempt", terms->tax_exempt, tax_exempt_words);
	check_timezone(terms->timezone);
	check_address(terms->address);
	check_tax_ids(terms->tax_ids);
	check_metadata(terms->metadata);
}

/* The country of the customer, else that of the address; NULL: not told. */
static const char *
country_of(const CustomerTerms *terms)
{
	return terms->country != NULL   ? terms->country
		   : terms->address != NULL ? json_text(terms->address, "country")
									: NULL;
}

/*
 * Nothing may be sold to a sanctioned country.  A statement on the
 * application's own table does not fail because of it: the row shows the
 * country, and no provider hears of a new customer.
 */
static void
check_countries(const CustomerTerms *terms)
{
	const char *of_address = terms->address == NULL ? NULL : json_text(terms->address, "country");

	if (!terms->lenient)
	{
		check_country_served(terms->country);
		check_country_served(of_address);
	}
	else if (!is_country_served(terms->country))
		ereport(WARNING,
				(errcode(ERRCODE_JB_COUNTRY_REFUSED),
				 errmsg("nothing may be sold to organization \"%s\"", terms->organization_id),
				 errdetail("Country %s is sanctioned.", terms->country)));
}

/* The terms as the provider's module sees them, to ask what is missing. */
static Jsonb *
terms_json(const CustomerTerms *terms)
{
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, "email", terms->email);
	json_add_text(&b, "name", terms->name);
	json_add_text(&b, "phone", terms->phone);
	json_add_json(&b, "address", customer_address(terms));
	json_add_json(&b, "tax_ids", terms->tax_ids);
	return json_close(&b);
}

/* What keeps the customer from the provider; NULL: nothing. */
static const char *
missing_at(const Account *account, const CustomerTerms *terms)
{
	if (!is_country_served(country_of(terms)))
		return "a country that may be sold to";
	return account_missing(account, OPERATION_CUSTOMER_CREATE, terms_json(terms));
}

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

static void
refuse_missing(const Account *account, const char *missing, const char *remedy)
{
	ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
					errmsg("%s requires %s of a customer", account->provider, missing),
					errhint("%s, or name another provider.", remedy)));
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
account_of(const CustomerTerms *terms)
{
	const char *country = country_of(terms);

	return route_account(&(RouteTerms){
		.provider = terms->provider,
		.account = terms->account,
		.country = is_country_served(country) ? country : NULL,
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

	check_no_card_terms(given);
	terms = given->lenient ? usable_terms(given) : *given;
	check_terms(&terms);
	check_countries(&terms);
	account = account_of(&terms);
	missing = missing_at(account, &terms);

	/* asked first, so that a retry is not told about data that is there */
	if (missing != NULL && !terms.lenient)
	{
		pg_uuid_t *existing = existing_customer(&terms);

		if (existing != NULL)
			return existing;
		refuse_missing(account, missing, psprintf("Pass %s", missing));
	}
	if (!terms.lenient)
		account_require(account, OPERATION_CUSTOMER_CREATE, terms_json(&terms));
	found = insert_or_find(id, &terms, account, missing);
	if (found != id)
		return found;
	event_record("customer.created", "customer", id, terms.organization_id, NULL, "active");
	if (missing == NULL)
		outbox_enqueue(account, OPERATION_CUSTOMER_CREATE, id, id, terms_json(&(CustomerTerms){0}),
					   NULL);
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

	check_no_card_terms(&terms);
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
	check_country_served(country_of(&terms));
	missing = account_missing(account, OPERATION_CUSTOMER_CREATE, terms_json(&terms));
	if (missing != NULL)
		refuse_missing(account, missing,
					   psprintf("Call billing.update_customer() with %s", missing));
	json_open(&b);
	outbox_enqueue(account, OPERATION_CUSTOMER_CREATE, customer->id, customer->id, json_close(&b),
				   NULL);
}

/* ---- update ---- */

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

/* Before anything else, as check_no_card_terms(); whatever the changes look like. */
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
	const char *missing = missing_at(account, terms);

	RUN(set_needs_data, arg_uuid(id), arg_text(missing));
	if (missing == NULL)
		outbox_enqueue(account, OPERATION_CUSTOMER_CREATE, id, id, terms_json(&(CustomerTerms){0}),
					   NULL);
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
		missing = account_missing(account, OPERATION_CUSTOMER_CREATE, terms_json(stored));
		if (missing != NULL)
			refuse_missing(account, missing, psprintf("Pass %s", missing));
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
		terms = usable_terms(&terms);
	}
	check_terms(&terms);
	check_countries(&terms);
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
customer_delete(const pg_uuid_t *id)
{
	Customer *customer = customer_load(id, true);
	JsonBuilder b;

	if (customer == NULL)
		unknown_object("customer", uuid_text(id), NULL);
	if (customer->deleted)
		return;
	subscription_cancel_all(id);
	customer_mark_deleted(id);
	json_open(&b);
	enqueue_everywhere(id, OPERATION_CUSTOMER_DELETE, json_close(&b));
}

SQL_FUNCTION(billing_delete_customer)
{
	pg_uuid_t *id = ARG_UUID(0);

	db_open();
	check_given("customer_id", id != NULL);
	customer_delete(id);
	db_close();
	PG_RETURN_VOID();
}

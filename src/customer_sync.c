/*-------------------------------------------------------------------------
 *
 * customer_sync.c
 *	  Customers between us and the providers: what a request says about one,
 *	  and what is taken over from what a provider says.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "json.h"
#include "keys.h"

/* ---- to the provider ---- */

static void
add_member(JsonBuilder *b, const char *name, const char *value, bool clear)
{
	if (value != NULL)
		json_add_text(b, name, value);
	else if (clear)
		json_add_null(b, name);
}

static bool
listed(const Jsonb *arguments, const char *name)
{
	for (int i = 0; i < json_length(arguments, "changed"); i++)
	{
		if (strcmp(json_text(arguments, psprintf("changed.%d", i)), name) == 0)
			return true;
	}
	return false;
}

const Jsonb *
customer_address(const CustomerTerms *terms)
{
	JsonBuilder b;

	if (terms->address != NULL || terms->country == NULL)
		return terms->address;
	json_open(&b);
	json_add_text(&b, "country", terms->country);
	return json_close(&b);
}

static Jsonb *
metadata_with_removed(const CustomerTerms *terms, const Jsonb *arguments)
{
	JsonBuilder b;
	JsonbIterator *iterator = JsonbIteratorInit((JsonbContainer *) &terms->metadata->root);
	JsonbValue value;
	JsonbIteratorToken token;
	char *key = NULL;

	json_open(&b);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			key = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
			json_add_text(&b, key, json_scalar_text(&value));
	}
	for (int i = 0; i < json_length(arguments, "removed"); i++)
		json_add_null(&b, json_text(arguments, psprintf("removed.%d", i)));
	return json_close(&b);
}

static Jsonb *
describe_data(const OutboxRow *row, const CustomerTerms *terms, const char *provider_id)
{
	bool update = row->operation == OPERATION_CUSTOMER_UPDATE;
	JsonBuilder b;

#define WANTED(name) (!update || listed(row->arguments, name))
	json_open(&b);
	json_add_text(&b, "customer", provider_id);
	json_add_text(&b, "reference", uuid_text(row->object_id));
	json_add_text(&b, "organization_id", terms->organization_id);
	if (WANTED("email"))
		add_member(&b, "email", terms->email, update);
	if (WANTED("name"))
		add_member(&b, "name", terms->name, update);
	if (WANTED("phone"))
		add_member(&b, "phone", terms->phone, update);
	if (WANTED("description"))
		add_member(&b, "description", terms->description, update);
	if (WANTED("locale"))
		add_member(&b, "locale", terms->locale, update);
	if (WANTED("tax_exempt") && (update || strcmp(terms->tax_exempt, "none") != 0))
		json_add_text(&b, "tax_exempt", terms->tax_exempt);
	if (WANTED("address") || WANTED("country"))
	{
		const Jsonb *address = customer_address(terms);

		if (address != NULL)
			json_add_json(&b, "address", address);
		else if (update)
			json_add_null(&b, "address");
	}
	if (WANTED("metadata"))
		json_add_json(&b, "metadata", metadata_with_removed(terms, row->arguments));
	if (!update)
		json_add_json(&b, "tax_ids", terms->tax_ids);
#undef WANTED
	return json_close(&b);
}

static Jsonb *
describe_ids(const OutboxRow *row, const CustomerTerms *terms, const char *provider_id)
{
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, "customer", provider_id);
	json_add_text(&b, "reference", uuid_text(row->object_id));
	if (row->operation == OPERATION_CUSTOMER_SET_TAX_IDS)
	{
		const char *reason;

		json_add_json(&b, "tax_ids",
					  terms->tax_ids != NULL ? terms->tax_ids : json_parse("[]", 2, &reason));
		json_add_text(&b, "name", terms->name);
		json_add_text(&b, "email", terms->email);
		json_add_text(&b, "phone", terms->phone);
		json_add_json(&b, "address", customer_address(terms));
	}
	return json_close(&b);
}

Description
customer_describe(const OutboxRow *row)
{
	CustomerTerms terms = customer_terms(row->object_id, NULL);
	char *provider_id = NULL;

	if (row->operation != OPERATION_CUSTOMER_CREATE)
	{
		provider_id = ref_find("customer", row->object_id, row->provider, row->account);
		if (provider_id == NULL)
			return (Description){OBSOLETE, NULL, "the customer was never created there"};
	}
	if (row->operation == OPERATION_CUSTOMER_CREATE || row->operation == OPERATION_CUSTOMER_UPDATE)
		return (Description){READY, describe_data(row, &terms, provider_id), NULL};
	return (Description){READY, describe_ids(row, &terms, provider_id), NULL};
}

/* ---- from the provider ---- */

QUERY(
	customer_changing,
	"SELECT FROM billing.outbox WHERE object_id = $1 AND operation IN ('customer.create', 'customer.update') LIMIT 1",
	UUIDOID);
QUERY(mirror_customer,
	  "UPDATE billing.customers SET email = nullif(coalesce($2, email), ''), "
	  "email_hash = nullif(coalesce($3, email_hash), ''), name = nullif(coalesce($4, name), ''), "
	  "phone = nullif(coalesce($5, phone), ''), updated_at = now() WHERE id = $1",
	  UUIDOID, BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID);
QUERY(
	mirror_default_method,
	"WITH target AS (SELECT m.id FROM billing.payment_methods AS m JOIN billing.provider_refs AS r "
	"ON r.object_id = m.id AND r.object_type = 'payment_method' "
	"WHERE m.customer_id = $1 AND r.provider_id = $2 AND r.provider = $3 AND r.account = $4 AND NOT m.is_default "
	"AND m.unusable IS NULL), "
	"cleared AS (UPDATE billing.payment_methods SET is_default = false "
	"WHERE customer_id = $1 AND is_default AND EXISTS (SELECT FROM target) RETURNING id) "
	"SELECT id, (SELECT count(*) FROM cleared) FROM target",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID);
QUERY(make_default, "UPDATE billing.payment_methods SET is_default = true WHERE id = $1", UUIDOID);

/* Not told is NULL, told to be none is empty. */
static Arg
arg_told(const char *told, bytea *value)
{
	if (told == NULL || *told != '\0')
		return arg_bytes(value);
	value = palloc(VARHDRSZ);
	SET_VARSIZE(value, VARHDRSZ);
	return arg_bytes(value);
}

/*
 * What somebody changed at the provider is taken over, unless a change of ours
 * is still on its way: that one was made here, knowing less, but it will be
 * what both sides have in the end.
 */
static void
mirror_data(const pg_uuid_t *id, const CustomerSnapshot *told)
{
	if (told->email == NULL && told->name == NULL && told->phone == NULL)
		return;
	if (RUN(customer_changing, arg_uuid(id)) > 0)
		return;
	RUN(mirror_customer, arg_uuid(id),
		arg_told(told->email, seal_text("customers.email", id, told->email)),
		arg_told(told->email, email_hash(told->email)),
		arg_told(told->name, seal_text("customers.name", id, told->name)),
		arg_told(told->phone, seal_text("customers.phone", id, told->phone)));
}

Applied
customer_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	pg_uuid_t *id = snapshot_object(snapshot, news);

	/*
	 * The row before its provider_refs, in the order of everybody else; whoever
	 * applies an answer to our own call has locked it.
	 */
	if (id == NULL || (news->own_id == NULL && !outbox_lock_customer(id)))
	{
		*waiting_for = snapshot->provider_id;
		return SNAPSHOT_UNKNOWN;
	}
	if (!ref_advance(snapshot, id, news, STAGE(0, 0)))
		return SNAPSHOT_STALE;
	if (snapshot->deleted)
	{
		customer_mark_deleted(id);
		return SNAPSHOT_APPLIED;
	}
	/* an answer to a change of ours repeats what we know */
	if (news->own_id != NULL && !news->asked)
		return SNAPSHOT_APPLIED;
	mirror_data(id, &snapshot->customer);
	if (snapshot->customer.default_payment_method != NULL &&
		RUN(mirror_default_method, arg_uuid(id),
			arg_text(snapshot->customer.default_payment_method), arg_text(news->provider),
			arg_text(news->account)) > 0)
		RUN(make_default, arg_uuid(row_uuid(0, 1)));
	return SNAPSHOT_APPLIED;
}

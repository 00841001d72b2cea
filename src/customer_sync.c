/*-------------------------------------------------------------------------
 *
 * customer_sync.c
 *	  Customers between us and the providers: what a request says about one,
 *	  and what is taken over from what a provider says.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "engine.h"
#include "json.h"
#include "keys.h"
#include "links.h"

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
/*
 * What its provider told to be the default before is it no longer, even where
 * the new one is not known here, or there is none.
 */
QUERY(
	clear_default,
	"UPDATE billing.payment_methods SET is_default = false WHERE customer_id = $1 AND is_default "
	"AND id IS DISTINCT FROM $2 AND ((provider = $3 AND account = $4) "
	"OR EXISTS (SELECT FROM billing.payment_methods AS m WHERE m.id = $2 AND m.state = 'attached'))",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID);
QUERY(make_default,
	  "UPDATE billing.payment_methods SET is_default = true, updated_at = now() "
	  "WHERE id = $2 AND customer_id = $1 AND state = 'attached' AND NOT is_default",
	  UUIDOID, UUIDOID);

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

static void
mirror_default(const pg_uuid_t *id, const CustomerSnapshot *told, const News *news)
{
	pg_uuid_t *method = link_find("payment_method", told->default_payment_method, "customer", id,
								  news);

	if (told->default_payment_method == NULL)
		return;
	RUN(clear_default, arg_uuid(id), arg_uuid(method), arg_text(news->provider),
		arg_text(news->account));
	if (method != NULL && RUN(make_default, arg_uuid(id), arg_uuid(method)) > 0)
		collection_method_arrived(id);
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
	mirror_default(id, &snapshot->customer, news);
	return SNAPSHOT_APPLIED;
}

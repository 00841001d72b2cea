/*-------------------------------------------------------------------------
 *
 * catalog_sync.c
 *	  Plans and prices at providers that want to know them.
 *
 * A plan is a product there and a price is a price.  They are pushed in the
 * transaction of the first subscription that needs them (price_ensure_at), or
 * linked when they are there already (link_price).  All requests of a plan
 * have the plan as their ordering key, so that a price follows its product.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "errors.h"
#include "json.h"
#include "wire_amounts.h"

/* Of this account: outbox_pending() would also find a push to another one. */
QUERY(
	pending_push,
	"SELECT id FROM billing.outbox "
	"WHERE object_id = $1 AND operation = $2 AND provider = $3 AND account = $4 ORDER BY seq LIMIT 1",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID);

static pg_uuid_t *
push_pending(const pg_uuid_t *object_id, Operation operation, const Account *account)
{
	if (RUN(pending_push, arg_uuid(object_id), arg_text(operation_name(operation)),
			arg_text(account->provider), arg_text(account->account)) == 0)
		return NULL;
	return row_uuid(0, 1);
}

static char *
id_at(BillingObject type, const pg_uuid_t *id, const char *provider, const char *account)
{
	return ref_find(object_type_name(type), id, provider, account);
}

static Jsonb *
no_arguments(void)
{
	JsonBuilder builder;

	json_open(&builder);
	return json_close(&builder);
}

QUERY(lock_plan, "SELECT FROM billing.plans WHERE id = $1 FOR NO KEY UPDATE", UUIDOID);

/*
 * The plan is locked before the look at what is pending, so that two sessions
 * that sell it for the first time do not both push it.
 */
pg_uuid_t *
price_ensure_at(const Price *price, const Account *account)
{
	const char *provider = account->provider;
	pg_uuid_t *pending;

	provider_require_currency(provider, price->currency);
	(void) wire_price(provider, price->currency, price->amount);
	if (account->module->catalogue == CATALOGUE_NONE ||
		id_at(BILLING_PRICE, price->id, provider, account->account) != NULL)
		return NULL;

	RUN(lock_plan, arg_uuid(price->plan_id));
	if (id_at(BILLING_PRICE, price->id, provider, account->account) != NULL)
		return NULL;
	pending = push_pending(price->id, OPERATION_PRICE_CREATE, account);
	if (pending != NULL)
		return pending;

	if (account->module->catalogue == CATALOGUE_PRODUCTS &&
		id_at(BILLING_PRODUCT, price->plan_id, provider, account->account) == NULL &&
		push_pending(price->plan_id, OPERATION_PRODUCT_CREATE, account) == NULL)
		(void) outbox_enqueue(account, OPERATION_PRODUCT_CREATE, price->plan_id, price->plan_id,
							  no_arguments(), NULL);
	return outbox_enqueue(account, OPERATION_PRICE_CREATE, price->id, price->plan_id,
						  no_arguments(), NULL);
}

/* ------------------------------------------------------------------------
 * Out: what a request says when it is sent
 * ------------------------------------------------------------------------
 */
QUERY(plan_terms, "SELECT name, description, metadata FROM billing.plans WHERE id = $1", UUIDOID);

Description
product_describe(const OutboxRow *row)
{
	JsonBuilder builder;

	if (id_at(BILLING_PRODUCT, row->object_id, row->provider, row->account) != NULL)
		return (Description){OBSOLETE, NULL, "the product is there already"};
	if (RUN(plan_terms, arg_uuid(row->object_id)) == 0)
		elog(ERROR, "plan %s is gone", uuid_text(row->object_id));

	json_open(&builder);
	json_add_text(&builder, "reference", uuid_text(row->object_id));
	json_add_text(&builder, "name", row_text(0, 1));
	json_add_text(&builder, "description", row_text(0, 2));
	json_add_json(&builder, "metadata", row_json(0, 3));
	return (Description){READY, json_close(&builder), NULL};
}

Description
price_describe(const OutboxRow *row)
{
	Price *price = price_load(row->object_id);
	char *product;
	JsonBuilder builder;

	if (id_at(BILLING_PRICE, row->object_id, row->provider, row->account) != NULL)
		return (Description){OBSOLETE, NULL, "the price is there already"};
	if (price == NULL)
		elog(ERROR, "price %s is gone", uuid_text(row->object_id));
	product = id_at(BILLING_PRODUCT, price->plan_id, row->provider, row->account);
	if (product == NULL)
		return (Description){NOT_YET, NULL, "the product is not there yet"};

	json_open(&builder);
	json_add_text(&builder, "reference", uuid_text(price->id));
	json_add_text(&builder, "product", product);
	json_add_int(&builder, "amount", wire_price(row->provider, price->currency, price->amount));
	json_add_text(&builder, "currency", price->currency);
	json_add_text(&builder, "interval", price->interval);
	json_add_int(&builder, "interval_count", price->interval_count);
	json_add_text(&builder, "nickname", price->plan);
	return (Description){READY, json_close(&builder), NULL};
}

/* ------------------------------------------------------------------------
 * In: what the provider says.  Only its id is kept: the terms are ours.
 * ------------------------------------------------------------------------
 */
QUERY(plan_exists, "SELECT FROM billing.plans WHERE id = $1", UUIDOID);
QUERY(price_exists, "SELECT FROM billing.prices WHERE id = $1", UUIDOID);

static Applied
note_ref(const ProviderSnapshot *snapshot, const pg_uuid_t *id, bool exists, const News *news,
		 const char **waiting_for)
{
	if (!exists)
	{
		*waiting_for = snapshot->provider_id;
		return SNAPSHOT_UNKNOWN;
	}
	return ref_advance(snapshot, id, news, TIE_BY_ARRIVAL) ? SNAPSHOT_APPLIED : SNAPSHOT_STALE;
}

Applied
product_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	pg_uuid_t *id = snapshot_object(snapshot, news);

	return note_ref(snapshot, id, id != NULL && RUN(plan_exists, arg_uuid(id)) > 0, news,
					waiting_for);
}

Applied
price_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	pg_uuid_t *id = snapshot_object(snapshot, news);

	return note_ref(snapshot, id, id != NULL && RUN(price_exists, arg_uuid(id)) > 0, news,
					waiting_for);
}

/* ------------------------------------------------------------------------
 * Linking what is there already
 * ------------------------------------------------------------------------
 */
static void
link_object(BillingObject type, const pg_uuid_t *id, Operation push, const char *provider_id,
			const Account *account)
{
	const char *what = object_type_name(type);
	char *present = id_at(type, id, account->provider, account->account);
	pg_uuid_t *owner = ref_object(what, provider_id, account->provider, account->account);
	News news = {.provider = account->provider,
				 .account = account->account,
				 .livemode = account->livemode,
				 .as_of = GetCurrentTransactionStartTimestamp(),
				 .event_id = ""};

	if (present != NULL && strcmp(present, provider_id) == 0)
		return;
	if (present != NULL)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("the %s is linked to \"%s\" already", what, present),
						errhint("Make a new price by billing.create_price() and link that.")));
	if (owner != NULL)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("\"%s\" is linked to another %s of ours", provider_id, what),
						errdetail("It is linked to %s.", uuid_text(owner))));
	if (push_pending(id, push, account) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("the %s is being made at provider \"%s\"", what, account->provider),
				 errhint("Wait for it, or take the request back by billing.cancel_request().")));
	ref_put(what, id, provider_id, &news);
}

SQL_FUNCTION(billing_link_price)
{
	pg_uuid_t *id = ARG_UUID(0);
	char *provider = ARG_TEXT(1);
	char *provider_price = ARG_TEXT(2);
	char *provider_product = ARG_TEXT(3);
	Price *price;
	Account *account;

	check_given("price", id != NULL);
	check_given("provider_price_id", provider_price != NULL && *provider_price != '\0');
	db_open();
	price = price_load(id);
	if (price == NULL)
		unknown_object("price", uuid_text(id), "billing.prices lists them.");
	account = account_get(provider, ARG_TEXT(4));
	if (account->module->catalogue == CATALOGUE_NONE)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("provider \"%s\" has no catalogue", provider),
						errhint("Subscribe without linking the price.")));

	RUN(lock_plan, arg_uuid(price->plan_id));
	if (provider_product != NULL)
		link_object(BILLING_PRODUCT, price->plan_id, OPERATION_PRODUCT_CREATE, provider_product,
					account);
	link_object(BILLING_PRICE, price->id, OPERATION_PRICE_CREATE, provider_price, account);
	db_close();
	PG_RETURN_VOID();
}

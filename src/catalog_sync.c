/*-------------------------------------------------------------------------
 *
 * catalog_sync.c
 *	  Plans and prices at providers that want to know them.
 *
 * Where a provider has products, a plan is a product there and a price is a
 * price; where it has only one kind of thing, each version of a price has its
 * own.  They are pushed in the transaction of the first sale that needs them
 * (price_ensure_at), or linked when they are there already (link_price).  All
 * requests of a plan have the plan as their ordering key, so that a price
 * follows its product.
 *
 * What is there is only renamed or archived: a trigger (catalogue_changed)
 * tells every account that has it, whoever changed the row.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "commands/trigger.h"

#include "check.h"
#include "errors.h"
#include "json.h"
#include "managers.h"
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

/* The terms go along, so that the provider's module can refuse in the call what it cannot sell. */
static Jsonb *
price_arguments(const Price *price, const char *provider)
{
	JsonBuilder builder;

	json_open(&builder);
	json_add_int(&builder, "amount", wire_price(provider, price->currency, price->amount));
	json_add_text(&builder, "currency", price->currency);
	price_add_interval(&builder, price);
	return json_close(&builder);
}

/* No provider has quarters. */
void
price_add_interval(JsonBuilder *builder, const Price *price)
{
	bool quarter = strcmp(price->interval, "quarter") == 0;

	json_add_text(builder, "interval", quarter ? "month" : price->interval);
	json_add_int(builder, "interval_count",
				 quarter ? price->interval_count * 3 : price->interval_count);
}

bool
price_can_be_at(const Price *price, const Account *account)
{
	const char *alternative;

	return manager_provider_can(price, 1) &&
		   account_supports(account, OPERATION_PRICE_CREATE,
							price_arguments(price, account->provider), &alternative) == SUPPORTED;
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

	manager_check_provider(price, 1);
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
							  json_empty(), NULL);
	return outbox_enqueue(account, OPERATION_PRICE_CREATE, price->id, price->plan_id,
						  price_arguments(price, provider), NULL);
}

/* ------------------------------------------------------------------------
 * Out: what a request says when it is sent
 * ------------------------------------------------------------------------
 */
QUERY(plan_terms,
	  "SELECT name, description, metadata, retired_at IS NULL FROM billing.plans WHERE id = $1",
	  UUIDOID);

/* Of an update only what changed, with the value that it has by now. */
static bool
wanted(const OutboxRow *row, const char *member)
{
	return row->operation == OPERATION_PRODUCT_CREATE || row->operation == OPERATION_PRICE_CREATE ||
		   json_bool(row->arguments, member, false);
}

static void
add_description(JsonBuilder *builder, const char *description, bool update)
{
	if (description == NULL && update)
		json_add_null(builder, "description");
	else
		json_add_text(builder, "description", description);
}

Description
product_describe(const OutboxRow *row)
{
	bool update = row->operation == OPERATION_PRODUCT_UPDATE;
	char *product = id_at(BILLING_PRODUCT, row->object_id, row->provider, row->account);
	JsonBuilder builder;

	if (!update && product != NULL)
		return (Description){OBSOLETE, NULL, "the product is there already"};
	if (update && product == NULL)
		return (Description){OBSOLETE, NULL, "the product was never made there"};
	if (RUN(plan_terms, arg_uuid(row->object_id)) == 0)
		elog(ERROR, "plan %s is gone", uuid_text(row->object_id));

	json_open(&builder);
	json_add_text(&builder, "product", product);
	json_add_text(&builder, "reference", uuid_text(row->object_id));
	if (wanted(row, "name"))
		json_add_text(&builder, "name", row_text(0, 1));
	if (wanted(row, "description"))
		add_description(&builder, row_text(0, 2), update);
	if (update && wanted(row, "active"))
		json_add_bool(&builder, "active", row_bool(0, 4));
	if (!update)
		json_add_json(&builder, "metadata", row_json(0, 3));
	return (Description){READY, json_close(&builder), NULL};
}

static Catalogue
catalogue_of(const char *provider)
{
	return provider_find(provider)->catalogue;
}

static Description
describe_price_create(const OutboxRow *row, const Price *price)
{
	bool products = catalogue_of(row->provider) == CATALOGUE_PRODUCTS;
	char *product = id_at(BILLING_PRODUCT, price->plan_id, row->provider, row->account);
	JsonBuilder builder;

	if (products && product == NULL)
		return (Description){NOT_YET, NULL, "the product is not there yet"};
	RUN(plan_terms, arg_uuid(price->plan_id));
	json_open(&builder);
	json_add_text(&builder, "reference", uuid_text(price->id));
	if (products)
		json_add_text(&builder, "product", product);
	json_add_text(&builder, "name", row_text(0, 1));
	json_add_text(&builder, "description", row_text(0, 2));
	json_add_json(&builder, "metadata", row_json(0, 3));
	json_add_int(&builder, "amount", wire_price(row->provider, price->currency, price->amount));
	json_add_text(&builder, "currency", price->currency);
	price_add_interval(&builder, price);
	json_add_text(&builder, "nickname", price->plan);
	return (Description){READY, json_close(&builder), NULL};
}

QUERY(price_on_sale,
	  "SELECT r.retired_at IS NULL, p.retired_at IS NULL, p.name "
	  "FROM billing.prices AS r JOIN billing.plans AS p ON p.id = r.plan_id WHERE r.id = $1",
	  UUIDOID);

/* Where there are no products, a price is off sale with its plan. */
static Description
describe_price_update(const OutboxRow *row, const char *provider_price)
{
	bool products = catalogue_of(row->provider) == CATALOGUE_PRODUCTS;
	JsonBuilder builder;

	RUN(price_on_sale, arg_uuid(row->object_id));
	json_open(&builder);
	json_add_text(&builder, "price", provider_price);
	json_add_text(&builder, "reference", uuid_text(row->object_id));
	if (wanted(row, "name"))
		json_add_text(&builder, "name", row_text(0, 3));
	if (wanted(row, "active"))
		json_add_bool(&builder, "active", row_bool(0, 1) && (products || row_bool(0, 2)));
	return (Description){READY, json_close(&builder), NULL};
}

Description
price_describe(const OutboxRow *row)
{
	Price *price = price_load(row->object_id);
	char *provider_price = id_at(BILLING_PRICE, row->object_id, row->provider, row->account);

	if (price == NULL)
		elog(ERROR, "price %s is gone", uuid_text(row->object_id));
	if (row->operation == OPERATION_PRICE_UPDATE)
		return provider_price == NULL
				   ? (Description){OBSOLETE, NULL, "the price was never made there"}
				   : describe_price_update(row, provider_price);
	if (provider_price != NULL)
		return (Description){OBSOLETE, NULL, "the price is there already"};
	return describe_price_create(row, price);
}

/* ------------------------------------------------------------------------
 * Out: what changed of things that are there
 * ------------------------------------------------------------------------
 */
typedef struct Change
{
	bool name;
	bool description;
	bool active;
} Change;

/* Every account that has it, or is about to get it and may have been told the old name. */
QUERY(
	counterparts,
	"SELECT provider, account FROM billing.provider_refs WHERE object_id = $1 AND object_type = $2 "
	"UNION SELECT provider, account FROM billing.outbox WHERE object_id = $1 AND operation = $2 || '.create'",
	UUIDOID, TEXTOID);

/*
 * Sales of the price that were agreed before it was taken off sale are made
 * there first: the newest of them is what archiving it waits for.
 */
QUERY(
	last_sale,
	"SELECT o.id FROM billing.outbox AS o WHERE o.provider = $2 AND o.account = $3 "
	"AND (o.arguments ->> 'price_id' = $1::text "
	"OR o.arguments @> jsonb_build_object('line_items', jsonb_build_array(jsonb_build_object('price_id', $1))) "
	"OR o.object_id IN (SELECT s.id FROM billing.subscriptions AS s "
	"WHERE s.price_id = $1 AND s.status = 'incomplete')) "
	"ORDER BY o.seq DESC LIMIT 1",
	UUIDOID, TEXTOID, TEXTOID);

static Jsonb *
change_arguments(const Change *change)
{
	JsonBuilder builder;

	json_open(&builder);
	if (change->name)
		json_add_bool(&builder, "name", true);
	if (change->description)
		json_add_bool(&builder, "description", true);
	if (change->active)
		json_add_bool(&builder, "active", true);
	return json_close(&builder);
}

/*
 * An account whose provider can neither rename nor archive it is not told:
 * what is sold is decided here.
 */
static void
tell(Account *account, BillingObject type, const pg_uuid_t *id, const pg_uuid_t *plan_id,
	 const Change *change)
{
	Operation operation = type == BILLING_PRODUCT ? OPERATION_PRODUCT_UPDATE
												  : OPERATION_PRICE_UPDATE;
	Jsonb *arguments = change_arguments(change);
	pg_uuid_t *sale = NULL;
	const char *alternative;

	if (account_supports(account, operation, arguments, &alternative) != SUPPORTED)
		return;
	if (type == BILLING_PRICE && change->active &&
		RUN(last_sale, arg_uuid(id), arg_text(account->provider), arg_text(account->account)) > 0)
		sale = row_uuid(0, 1);
	(void) outbox_enqueue(account, operation, id, plan_id, arguments, sale);
}

static void
tell_everywhere(BillingObject type, const pg_uuid_t *id, const pg_uuid_t *plan_id,
				const Change *change, bool without_products)
{
	Rows accounts;

	RUN(counterparts, arg_uuid(id), arg_text(object_type_name(type)));
	accounts = rows_keep();
	for (int64 i = 0; i < rows_count(accounts); i++)
	{
		Account *account = account_get(rows_text(accounts, i, 1), rows_text(accounts, i, 2));

		if (!without_products || account->module->catalogue == CATALOGUE_PRICES)
			tell(account, type, id, plan_id, change);
	}
}

QUERY(prices_of_plan, "SELECT id FROM billing.prices WHERE plan_id = $1", UUIDOID);

static void
plan_changed(const pg_uuid_t *plan_id, const Change *change)
{
	Change of_prices = {.name = change->name, .active = change->active};
	Rows prices;

	tell_everywhere(BILLING_PRODUCT, plan_id, plan_id, change, false);
	if (!of_prices.name && !of_prices.active)
		return;
	RUN(prices_of_plan, arg_uuid(plan_id));
	prices = rows_keep();
	for (int64 i = 0; i < rows_count(prices); i++)
		tell_everywhere(BILLING_PRICE, rows_uuid(prices, i, 1), plan_id, &of_prices, true);
}

static Datum
column_of(const TriggerData *trigger, HeapTuple tuple, const char *name, bool *isnull)
{
	TupleDesc columns = trigger->tg_relation->rd_att;

	return heap_getattr(tuple, SPI_fnumber(columns, name), columns, isnull);
}

static char *
text_of(const TriggerData *trigger, HeapTuple tuple, const char *name)
{
	bool isnull;
	Datum value = column_of(trigger, tuple, name, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static bool
text_changed(const TriggerData *trigger, const char *name)
{
	char *before = text_of(trigger, trigger->tg_trigtuple, name);
	char *after = text_of(trigger, trigger->tg_newtuple, name);

	if (before == NULL || after == NULL)
		return before != after;
	return strcmp(before, after) != 0;
}

static bool
sale_changed(const TriggerData *trigger)
{
	bool was;
	bool is;

	(void) column_of(trigger, trigger->tg_trigtuple, "retired_at", &was);
	(void) column_of(trigger, trigger->tg_newtuple, "retired_at", &is);
	return was != is;
}

static pg_uuid_t *
id_of(const TriggerData *trigger, const char *name)
{
	bool isnull;

	return DatumGetUUIDP(column_of(trigger, trigger->tg_newtuple, name, &isnull));
}

/* Trigger of plans and prices, whose argument is "plan" or "price". */
SQL_FUNCTION(billing_catalogue_changed)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Change change = {0};

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		trigger->tg_trigger->tgnargs != 1)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("billing.catalogue_changed() is the trigger of billing.plans and "
							   "billing.prices")));
	if (billing_restoring)
		return PointerGetDatum(NULL);
	change.active = sale_changed(trigger);
	db_open();
	if (strcmp(trigger->tg_trigger->tgargs[0], "plan") == 0)
	{
		change.name = text_changed(trigger, "name");
		change.description = text_changed(trigger, "description");
		if (change.name || change.description || change.active)
			plan_changed(id_of(trigger, "id"), &change);
	}
	else if (change.active)
		tell_everywhere(BILLING_PRICE, id_of(trigger, "id"), id_of(trigger, "plan_id"), &change,
						false);
	db_close();
	return PointerGetDatum(NULL);
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
	/* one that somebody else made tells nothing, now or later: its terms would not be ours */
	if (!exists && snapshot->reference == NULL)
		return SNAPSHOT_STALE;
	if (!exists)
	{
		*waiting_for = snapshot->provider_id;
		return SNAPSHOT_UNKNOWN;
	}
	return ref_advance(snapshot, id, news, STAGE(0, 0)) ? SNAPSHOT_APPLIED : SNAPSHOT_STALE;
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
	if (provider_product != NULL && account->module->catalogue != CATALOGUE_PRODUCTS)
		ereport(ERROR,
				(errcode(ERRCODE_JB_NOT_SUPPORTED),
				 errmsg("provider \"%s\" has no products beside its prices", provider),
				 errhint("Pass the id of its plan or product as provider_price_id, and leave "
						 "provider_product_id out.")));

	RUN(lock_plan, arg_uuid(price->plan_id));
	if (provider_product != NULL)
		link_object(BILLING_PRODUCT, price->plan_id, OPERATION_PRODUCT_CREATE, provider_product,
					account);
	link_object(BILLING_PRICE, price->id, OPERATION_PRICE_CREATE, provider_price, account);
	db_close();
	PG_RETURN_VOID();
}

/*-------------------------------------------------------------------------
 *
 * components.c
 *	  Prices as they can be rated, and which version of them counts.
 *
 * What a price says never changes, so one that was read is remembered, with its
 * tiers prepared for rating, until the transaction ends: a run over many
 * subscriptions reads each price once, all of them in three statements
 * (component_prices_load).  Beyond the transaction nothing is remembered, for a
 * price may be one that is taken back with it, or a built-in one that a
 * restored row takes the place of.
 *
 * Versions: prices of the same plan (or add-on), component, currency, interval
 * and customer, ordered by effective_at (prices.version_of).  A price is sold
 * from its effective_at on until a later version begins or it is retired.
 * Called by the engine, subscribe.c and price_quotes.c.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "access/xact.h"
#include "check.h"
#include "errors.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

typedef struct CachedPrice
{
	pg_uuid_t id; /* the key */
	ComponentPrice *price;
} CachedPrice;

static MemoryContext cache_memory; /* NULL: nothing is remembered */
static HTAB *cache;

/* ------------------------------------------------------------------------
 * What is remembered
 * ------------------------------------------------------------------------
 */

/* A later version may have been made: pointers that were given out stay good. */
void
component_prices_forget(void)
{
	cache_memory = NULL;
	cache = NULL;
}

static void
memory_is_gone(void *memory)
{
	if (cache_memory == (MemoryContext) memory)
		component_prices_forget();
}

static void
savepoint_ended(SubXactEvent event, SubTransactionId id, SubTransactionId parent, void *unused)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		component_prices_forget();
}

static void
cache_ensure(void)
{
	static bool registered;
	MemoryContextCallback *callback;
	HASHCTL control = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(CachedPrice)};

	if (cache != NULL)
		return;
	if (!registered)
		RegisterSubXactCallback(savepoint_ended, NULL);
	registered = true;
	cache_memory = AllocSetContextCreate(TopTransactionContext, "billing prices",
										 ALLOCSET_DEFAULT_SIZES);
	callback = MemoryContextAlloc(cache_memory, sizeof(MemoryContextCallback));
	*callback = (MemoryContextCallback){.func = memory_is_gone, .arg = cache_memory};
	MemoryContextRegisterResetCallback(cache_memory, callback);
	control.hcxt = cache_memory;
	cache = hash_create("billing prices", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static CachedPrice *
remembered(const pg_uuid_t *id)
{
	return cache == NULL ? NULL : hash_search(cache, id, HASH_FIND, NULL);
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */
QUERY(
	load_prices,
	"SELECT r.id, r.plan_id, r.add_on, r.customer_id, r.component, r.currency, r.\"interval\", "
	"r.interval_count, r.metric, r.description, "
	"coalesce(r.tax_behavior, (SELECT s.value FROM billing.settings AS s WHERE s.name = 'tax_behavior')) "
	"= 'inclusive', "
	"r.model, r.amount, r.unit_amount, r.package_size, r.percentage, r.free_units, r.minimum, r.maximum, "
	"r.commitment "
	"FROM billing.prices AS r WHERE r.id = ANY ($1)",
	UUIDARRAYOID);
QUERY(load_tiers,
	  "SELECT t.price_id, t.up_to, t.unit_amount, t.flat_amount FROM billing.price_tiers AS t "
	  "WHERE t.price_id = ANY ($1) ORDER BY t.price_id, t.position",
	  UUIDARRAYOID);

/* One that was retired before its time has come was taken back. */
QUERY(load_versions,
	  "SELECT r.id, n.id, n.effective_at, n.existing = 'now' FROM billing.prices AS r "
	  "JOIN billing.prices AS n ON n.version_of = r.version_of AND n.effective_at > r.effective_at "
	  "WHERE r.id = ANY ($1) AND n.existing <> 'stay' "
	  "AND (n.retired_at IS NULL OR n.retired_at > n.effective_at) "
	  "ORDER BY r.id, n.effective_at",
	  UUIDARRAYOID);

static PriceModel
model_named(const char *name)
{
	static const struct
	{
		const char *name;
		PriceModel model;
	} models[] = {{"flat", PRICE_FLAT},           {"per_unit", PRICE_PER_UNIT},
				  {"graduated", PRICE_GRADUATED}, {"volume", PRICE_VOLUME},
				  {"package", PRICE_PACKAGE},     {"percentage", PRICE_PERCENTAGE}};

	for (int i = 0; i < (int) lengthof(models); i++)
		if (strcmp(models[i].name, name) == 0)
			return models[i].model;
	elog(ERROR, "price model \"%s\" is not known", name);
}

static MoneyFraction
row_fraction(int64 row, int column, const char *what)
{
	bool isnull;
	Datum value = rows_datum(SPI_tuptable, row, column, &isnull);

	return isnull ? (MoneyFraction){0} : fraction_of_numeric(DatumGetNumeric(value), what);
}

/* load_prices from column 12 on. */
static RatedPrice
rated_read(int64 row)
{
	MoneyFraction amount = money_fraction_from_int(row_int(row, 13));

	return (RatedPrice){.model = model_named(row_text(row, 12)),
						.flat_fee = row_int(row, 13),
						.unit_price = row_null(row, 14) ? amount
														: row_fraction(row, 14, "unit_amount"),
						.package_size = row_fraction(row, 15, "package_size"),
						.percent = row_fraction(row, 16, "percentage"),
						.free_units = row_fraction(row, 17, "free_units"),
						.has_minimum = !row_null(row, 18),
						.minimum = row_int(row, 18),
						.has_maximum = !row_null(row, 19),
						.maximum = row_int(row, 19),
						.commitment = row_int(row, 20)};
}

static ComponentPrice *
price_read(int64 row)
{
	ComponentPrice *price = palloc0(sizeof(ComponentPrice));

	price->id = row_uuid(row, 1);
	price->plan_id = row_uuid(row, 2);
	price->add_on = row_text(row, 3);
	price->customer_id = row_uuid(row, 4);
	price->component = row_text(row, 5);
	price->currency = row_text(row, 6);
	price->interval = row_text(row, 7);
	price->interval_count = row_int4(row, 8);
	price->metric = row_text(row, 9);
	price->description = row_text(row, 10);
	price->tax_inclusive = row_bool(row, 11);
	price->one_time = strcmp(price->interval, "one_time") == 0;
	price->rated = rated_read(row);
	return price;
}

/* The rows of a price stand together. */
static int
tiers_from(int64 first, int64 rows, const pg_uuid_t *price_id)
{
	int64 row = first;

	while (row < rows && uuid_equal(row_uuid(row, 1), price_id))
		row++;
	return (int) (row - first);
}

static void
tiers_read(int64 rows)
{
	for (int64 row = 0; row < rows;)
	{
		pg_uuid_t *id = row_uuid(row, 1);
		RatedPrice *rated = &remembered(id)->price->rated;

		rated->tier_count = tiers_from(row, rows, id);
		rated->tiers = palloc0(sizeof(PriceTier) * (Size) rated->tier_count);
		for (int i = 0; i < rated->tier_count; i++, row++)
			rated->tiers[i] = (PriceTier){.unbounded = row_null(row, 2),
										  .up_to = row_fraction(row, 2, "up_to"),
										  .unit_price = row_fraction(row, 3, "unit_amount"),
										  .flat_fee = row_int(row, 4)};
	}
}

static void
versions_read(int64 rows)
{
	for (int64 i = 0; i < rows; i++)
	{
		ComponentPrice *price = remembered(row_uuid(i, 1))->price;
		PriceVersion *version = palloc(sizeof(PriceVersion));

		*version = (PriceVersion){row_uuid(i, 2), row_time(i, 3), row_bool(i, 4)};
		price->later = lappend(price->later, version);
	}
}

/* Whoever made it was told then; a row that was written past create_price() is found out here. */
static void
prepare(ComponentPrice *price)
{
	RatingStatus status = price_prepare(&price->rated);

	if (status != RATING_OK)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("price %s cannot be calculated with", uuid_text(price->id)),
						errdetail("%s", rating_reason(status)),
						errhint("Retire it, and make another one by billing.create_price().")));
}

static void
load(pg_uuid_t *const *ids, int count)
{
	Arg wanted = arg_uuids(ids, count);
	MemoryContext caller;
	List *prices = NIL;
	ListCell *cell;
	int64 rows;

	rows = RUN(load_prices, wanted);
	cache_ensure();
	caller = MemoryContextSwitchTo(cache_memory);
	for (int64 i = 0; i < rows; i++)
		prices = lappend(prices, price_read(i));
	MemoryContextSwitchTo(caller);
	foreach (cell, prices)
	{
		ComponentPrice *price = lfirst(cell);

		((CachedPrice *) hash_search(cache, price->id, HASH_ENTER, NULL))->price = price;
	}

	rows = RUN(load_tiers, wanted);
	MemoryContextSwitchTo(cache_memory);
	tiers_read(rows);
	MemoryContextSwitchTo(caller);
	rows = RUN(load_versions, wanted);
	MemoryContextSwitchTo(cache_memory);
	versions_read(rows);
	MemoryContextSwitchTo(caller);
	foreach (cell, prices)
		prepare(lfirst(cell));
}

void
component_prices_load(pg_uuid_t *const *ids, int count)
{
	pg_uuid_t **missing = palloc(sizeof(pg_uuid_t *) * Max(count, 1));
	int missing_count = 0;

	for (int i = 0; i < count; i++)
		if (remembered(ids[i]) == NULL)
			missing[missing_count++] = ids[i];
	if (missing_count > 0)
		load(missing, missing_count);
	pfree(missing);
}

const ComponentPrice *
component_price(const pg_uuid_t *id)
{
	CachedPrice *found = remembered(id);
	pg_uuid_t *ids[] = {(pg_uuid_t *) id};

	if (found == NULL)
	{
		component_prices_load(ids, 1);
		found = remembered(id);
	}
	if (found == NULL)
		unknown_object("price", uuid_text(id), "billing.prices lists them.");
	return found->price;
}

static pg_uuid_t *
copy_id(const pg_uuid_t *id)
{
	pg_uuid_t *copy = palloc(sizeof(pg_uuid_t));

	*copy = *id;
	return copy;
}

void
component_price_remember(const ComponentPrice *price)
{
	MemoryContext caller;
	ComponentPrice *copy;

	cache_ensure();
	caller = MemoryContextSwitchTo(cache_memory);
	copy = palloc(sizeof(ComponentPrice));
	*copy = *price;
	copy->id = copy_id(price->id);
	copy->plan_id = copy_id(price->plan_id);
	copy->customer_id = copy_id(price->customer_id);
	copy->component = pstrdup(price->component);
	copy->currency = pstrdup(price->currency);
	copy->interval = pstrdup(price->interval);
	MemoryContextSwitchTo(caller);
	prepare(copy);
	((CachedPrice *) hash_search(cache, copy->id, HASH_ENTER, NULL))->price = copy;
}

/* ------------------------------------------------------------------------
 * What a price is
 * ------------------------------------------------------------------------
 */
const char *
rating_reason(RatingStatus status)
{
	switch (status)
	{
		case RATING_OK:
			return "It is right.";
		case RATING_NEGATIVE_QUANTITY:
			return "The quantity is negative.";
		case RATING_NEGATIVE_PRICE:
			return "An amount of it is negative.";
		case RATING_BAD_MODEL:
			return "Its model is not known.";
		case RATING_BAD_TIERS:
			return "Its tiers do not ascend, or the last one has a bound.";
		case RATING_BAD_PACKAGE:
			return "A package has no units.";
		case RATING_BAD_PERCENT:
			return "Its percentage is not from 0 to 100.";
		case RATING_BAD_LIMITS:
			return "Its minimum or commitment is above its maximum, or it is not of model percentage.";
		case RATING_NO_ROOM:
			return "It has too many lines.";
		case RATING_OVERFLOW:
			return "The amount is too large.";
	}
	return "It cannot be calculated with.";
}

static bool
tiers_are_free(const RatedPrice *rated)
{
	for (int i = 0; i < rated->tier_count; i++)
		if (rated->tiers[i].flat_fee != 0 || rated->tiers[i].unit_price.scaled != 0)
			return false;
	return true;
}

bool
component_price_is_free(const ComponentPrice *price)
{
	const RatedPrice *rated = &price->rated;

	if (rated->commitment != 0)
		return false;
	switch (rated->model)
	{
		case PRICE_FLAT:
			return rated->flat_fee == 0;
		case PRICE_PER_UNIT:
		case PRICE_PACKAGE:
			return rated->unit_price.scaled == 0;
		case PRICE_GRADUATED:
		case PRICE_VOLUME:
			return tiers_are_free(rated);
		case PRICE_PERCENTAGE:
			return (rated->percent.scaled == 0 && !(rated->has_minimum && rated->minimum > 0)) ||
				   (rated->has_maximum && rated->maximum == 0);
	}
	return false;
}

/* ------------------------------------------------------------------------
 * Which version
 * ------------------------------------------------------------------------
 */
const ComponentPrice *
component_price_successor(const ComponentPrice *price, TimestampTz at)
{
	const PriceVersion *last = NULL;
	ListCell *cell;

	foreach (cell, price->later)
	{
		const PriceVersion *version = lfirst(cell);

		if (version->effective_at <= at)
			last = version;
	}
	return last == NULL ? price : component_price(last->id);
}

TimestampTz
component_price_moves_at(const ComponentPrice *price)
{
	ListCell *cell;

	foreach (cell, price->later)
	{
		const PriceVersion *version = lfirst(cell);

		if (version->at_once)
			return version->effective_at;
	}
	return 0;
}

/* The test clock may be behind the time at which the catalogue was made: what is sold now, is sold. */
TimestampTz
sale_moment(TimestampTz at)
{
	return Max(at, GetCurrentTransactionStartTimestamp());
}

/* Of each component the one that fits, else any: then it is not sold as asked for. */
QUERY(
	find_components,
	"SELECT DISTINCT ON (r.component) r.id, r.component, f.fits, p.plan "
	"FROM billing.prices AS r JOIN billing.plans AS p ON p.id = r.plan_id "
	"CROSS JOIN LATERAL (SELECT r.currency = $2 AND ((r.\"interval\" = $3 AND r.interval_count = $4) "
	"OR (r.\"interval\" = 'one_time' AND r.component <> 'base')) AS fits) AS f "
	"WHERE r.plan_id = $1 AND r.version_of IS NOT NULL AND (r.customer_id IS NULL OR r.customer_id = $5) "
	"AND r.retired_at IS NULL AND r.effective_at <= $6 "
	"ORDER BY r.component, f.fits DESC, r.\"interval\" = 'one_time', r.customer_id NULLS LAST, "
	"r.effective_at DESC, r.id DESC",
	UUIDOID, TEXTOID, TEXTOID, INT4OID, UUIDOID, TIMESTAMPTZOID);

static void
component_is_not_sold(const char *component, const char *plan, const char *currency,
					  const char *interval, int interval_count)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		 errmsg("component \"%s\" of plan \"%s\" has no price in %s for %d %s", component, plan,
				currency, interval_count, interval),
		 errdetail(
			 "The plan sells the component in another currency or interval only, and all that a subscription is billed for has one of each."),
		 errhint(
			 "Make the price by billing.create_price('%s', ..., component => '%s', currency => '%s', \"interval\" => '%s', interval_count => %d), or subscribe by another price.",
			 plan, component, currency, interval, interval_count)));
}

List *
plan_components(const pg_uuid_t *plan_id, const char *currency, const char *interval,
				int interval_count, const pg_uuid_t *customer_id, TimestampTz at)
{
	int64 count = RUN(find_components, arg_uuid(plan_id), arg_text(currency), arg_text(interval),
					  arg_int4(interval_count), arg_uuid(customer_id), arg_time(sale_moment(at)));
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * Max(count, 1));
	List *components = NIL;
	int found = 0;

	for (int64 i = 0; i < count; i++)
	{
		bool is_base = strcmp(row_text(i, 2), "base") == 0;

		if (row_bool(i, 3))
			ids[found++] = row_uuid(i, 1);
		else if (!is_base)
			component_is_not_sold(row_text(i, 2), row_text(i, 4), currency, interval,
								  interval_count);
	}
	component_prices_load(ids, found);
	for (int i = 0; i < found; i++)
	{
		ComponentPrice *price = (ComponentPrice *) component_price(ids[i]);

		components = strcmp(price->component, "base") == 0 ? lcons(price, components)
														   : lappend(components, price);
	}
	return components;
}

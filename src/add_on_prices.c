/*-------------------------------------------------------------------------
 *
 * add_on_prices.c
 *	  What add-ons cost: their prices, and as items of a subscription.
 *
 * The price of an add-on belongs to no plan; it is billed as the component
 * "addon." and its code, beside what the plan is billed for, in the currency
 * and interval of the subscription.  set_add_on() (overrides.c) says how many
 * units an organisation has; here is what follows for its subscription.
 *
 * An add-on with prices is billed by our own engine only: no provider is told
 * of it, so a subscription that a provider bills refuses one.
 *
 *-------------------------------------------------------------------------
 */
#include "prices.h"

#include "check.h"
#include "errors.h"
#include "numeric_args.h"

#define ADD_ON_LIST "SELECT add_on FROM billing.add_ons WHERE retired_at IS NULL ORDER BY add_on"

/* ------------------------------------------------------------------------
 * Making a price
 * ------------------------------------------------------------------------
 */
QUERY(lock_add_on,
	  "SELECT retired_at IS NOT NULL FROM billing.add_ons WHERE add_on = $1 FOR NO KEY UPDATE",
	  TEXTOID);

static void
lock_sold_add_on(const char *add_on)
{
	if (RUN(lock_add_on, arg_text(add_on)) == 0)
		unknown_object("add-on", add_on, psprintf("There are: %s.", hint_list(ADD_ON_LIST)));
	if (row_bool(0, 1))
		ereport(ERROR, (errcode(ERRCODE_JB_STATE), errmsg("add-on \"%s\" is retired", add_on),
						errhint("UPDATE billing.add_ons SET retired_at = NULL WHERE add_on = '%s';",
								add_on)));
}

SQL_FUNCTION(billing_set_add_on_price)
{
	char *add_on = ARG_TEXT(0);
	PriceTerms terms = {.add_on = add_on,
						.amount = ARG_INT(1, NO_AMOUNT),
						.currency = ARG_TEXT(2),
						.interval = ARG_TEXT(3),
						.interval_count = ARG_INT4(4, 1),
						.model = ARG_TEXT(5),
						.unit_amount = ARG_NUMERIC(6),
						.tiers = ARG_JSON(7),
						.tax_behavior = ARG_TEXT(8),
						.description = ARG_TEXT(9),
						.effective_at = ARG_TIME(10),
						.existing = ARG_TEXT(11),
						.minimum = NO_AMOUNT,
						.maximum = NO_AMOUNT};

	/* before all else: any other error would put the statement into the log */
	check_no_card("description", terms.description);
	check_given("add_on", add_on != NULL);
	terms.component = psprintf("addon.%s", add_on);
	db_open();
	price_terms_check(&terms);
	lock_sold_add_on(add_on);
	return db_close_uuid(price_version(&terms));
}

/* ------------------------------------------------------------------------
 * Items
 * ------------------------------------------------------------------------
 */
QUERY(
	find_add_ons,
	"SELECT DISTINCT ON (o.add_on) o.add_on, o.quantity, r.id, f.fits "
	"FROM billing.organization_add_ons AS o JOIN billing.prices AS r ON r.add_on = o.add_on "
	"CROSS JOIN LATERAL (SELECT r.currency = $2 AND ((r.\"interval\" = $3 AND r.interval_count = $4) "
	"OR r.\"interval\" = 'one_time') AS fits) AS f "
	"WHERE o.organization_id = $1 AND (o.until IS NULL OR o.until > $5) AND r.customer_id IS NULL "
	"AND r.retired_at IS NULL AND r.effective_at <= $5 "
	"ORDER BY o.add_on, f.fits DESC, r.\"interval\" = 'one_time', r.effective_at DESC, r.id DESC",
	TEXTOID, TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID);

List *
organization_add_on_items(const char *organization_id, const char *currency, const char *interval,
						  int interval_count, TimestampTz at)
{
	int64 count = RUN(find_add_ons, arg_text(organization_id), arg_text(currency),
					  arg_text(interval), arg_int4(interval_count), arg_time(sale_moment(at)));
	Rows rows = rows_keep();
	List *items = NIL;

	for (int64 i = 0; i < count; i++)
	{
		BilledItem *item = palloc0(sizeof(BilledItem));

		if (!rows_bool(rows, i, 4))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("add-on \"%s\" has no price in %s for %d %s", rows_text(rows, i, 1),
							currency, interval_count, interval),
					 errhint("Make one by billing.set_add_on_price(), or take the add-on off by "
							 "billing.set_add_on(..., quantity => 0).")));
		item->price = component_price(rows_uuid(rows, i, 3));
		item->component = item->price->component;
		item->quantity = rows_int(rows, i, 2);
		item->is_new = true;
		items = lappend(items, item);
	}
	return items;
}

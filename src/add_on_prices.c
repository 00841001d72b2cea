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
#include "subscriptions.h"

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
						errdetail("Nobody can buy it any more, so that it gets no price."),
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
QUERY(find_add_on_price,
	  "SELECT r.id FROM billing.prices AS r WHERE r.add_on = $1 AND r.currency = $2 "
	  "AND ((r.\"interval\" = $3 AND r.interval_count = $4) OR r.\"interval\" = 'one_time') "
	  "AND r.customer_id IS NULL AND r.retired_at IS NULL AND r.effective_at <= $5 "
	  "ORDER BY r.\"interval\" = 'one_time', r.effective_at DESC, r.id DESC LIMIT 1",
	  TEXTOID, TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID);

static void
no_price(const char *add_on, const char *currency, const char *interval, int interval_count)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		 errmsg("add-on \"%s\" has no price in %s for %d %s", add_on, currency, interval_count,
				interval),
		 errdetail("The subscription is billed in %s for %d %s, and so is all that belongs to it.",
				   currency, interval_count, interval),
		 errhint("Make one by billing.set_add_on_price(), or take the add-on off by "
				 "billing.set_add_on(..., quantity => 0).")));
}

const ComponentPrice *
add_on_price(const char *add_on, const char *currency, const char *interval, int interval_count,
			 TimestampTz at)
{
	if (RUN(find_add_on_price, arg_text(add_on), arg_text(currency), arg_text(interval),
			arg_int4(interval_count), arg_time(sale_moment(at))) == 0)
		no_price(add_on, currency, interval, interval_count);
	return component_price(row_uuid(0, 1));
}

QUERY(
	find_add_ons,
	"SELECT o.add_on, o.quantity FROM billing.organization_add_ons AS o "
	"WHERE o.organization_id = $1 AND (o.until IS NULL OR o.until > $2) "
	"AND EXISTS (SELECT FROM billing.prices AS r WHERE r.add_on = o.add_on AND r.retired_at IS NULL "
	"AND r.effective_at <= $2) ORDER BY o.add_on",
	TEXTOID, TIMESTAMPTZOID);

List *
organization_add_on_items(const char *organization_id, const char *currency, const char *interval,
						  int interval_count, TimestampTz at)
{
	int64 count = RUN(find_add_ons, arg_text(organization_id), arg_time(sale_moment(at)));
	Rows rows = rows_keep();
	List *items = NIL;

	for (int64 i = 0; i < count; i++)
	{
		BilledItem *item = palloc0(sizeof(BilledItem));

		item->price = add_on_price(rows_text(rows, i, 1), currency, interval, interval_count, at);
		item->component = item->price->component;
		item->quantity = rows_int(rows, i, 2);
		item->is_new = true;
		items = lappend(items, item);
	}
	return items;
}

/* ------------------------------------------------------------------------
 * What an organisation has changes
 * ------------------------------------------------------------------------
 */
QUERY(is_priced,
	  "SELECT FROM billing.prices AS r WHERE r.add_on = $1 AND r.retired_at IS NULL "
	  "AND r.effective_at <= $2 LIMIT 1",
	  TEXTOID, TIMESTAMPTZOID);

/* The one that has it; else one that has begun, a local one, of the plan group default before others. */
QUERY(
	find_billed_subscription,
	"SELECT s.id, s.managed_by = 'local', i.component IS NOT NULL FROM billing.subscriptions AS s "
	"LEFT JOIN billing.subscription_items AS i ON i.subscription_id = s.id AND i.component = $2 "
	"WHERE s.organization_id = $1 AND s.status IN ('trialing', 'active', 'past_due', 'unpaid', 'paused', 'incomplete') "
	"AND NOT s.conflict "
	"ORDER BY i.component IS NULL, s.status = 'incomplete', s.managed_by <> 'local', s.plan_group <> 'default', s.created_at, s.id LIMIT 1",
	TEXTOID, TEXTOID);

static void
refuse_until(const char *add_on)
{
	ereport(ERROR,
			(errcode(ERRCODE_JB_NOT_SUPPORTED),
			 errmsg("add-on \"%s\" is billed until it is removed", add_on),
			 errdetail("It has a price, and until was given."),
			 errhint("Leave until out, and remove it by billing.set_add_on(..., quantity => 0).")));
}

static void
refuse_at_provider(const char *add_on, const pg_uuid_t *subscription_id)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_JB_NOT_SUPPORTED),
		 errmsg("add-on \"%s\" cannot be billed by a provider", add_on),
		 errdetail("Subscription %s is billed by its provider.", uuid_text(subscription_id)),
		 errhint("Subscribe with managed_by => 'local' to sell add-ons, or give what it entitles "
				 "to by billing.set_override().")));
}

/* The customer is locked first, so that a subscription that is being made has it or is seen here. */
void
add_on_is_set(const char *organization_id, const char *add_on, int64 quantity, bool has_until)
{
	TimestampTz now = sale_moment(clock_now(organization_id));
	bool priced = RUN(is_priced, arg_text(add_on), arg_time(now)) > 0;
	pg_uuid_t *subscription_id;
	bool local;
	bool billed;

	if (priced && has_until && quantity > 0)
		refuse_until(add_on);
	(void) customer_of_organization(organization_id, true);
	if (RUN(find_billed_subscription, arg_text(organization_id),
			arg_text(psprintf("addon.%s", add_on))) == 0)
		return;
	subscription_id = row_uuid(0, 1);
	local = row_bool(0, 2);
	billed = row_bool(0, 3);
	if (!billed && (!priced || quantity == 0))
		return;
	if (!local)
		refuse_at_provider(add_on, subscription_id);
	local_set_add_on(subscription_id, add_on, quantity);
}

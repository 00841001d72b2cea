/*-------------------------------------------------------------------------
 *
 * managers.c
 *	  Who bills a subscription: the provider, or our own engine.
 *
 * Finds out what a subscription asks for, and lets the table of manager_rules.c
 * decide.  Called by subscribe.c when one is made, and by catalog_sync.c before
 * a price goes to a provider, so that no provider ever has a part of a plan only.
 *
 *-------------------------------------------------------------------------
 */
#include "managers.h"

#include "check.h"
#include "errors.h"

static const char *const managed_words[] = {"provider", "local", NULL};

/* ------------------------------------------------------------------------
 * What is asked for
 * ------------------------------------------------------------------------
 */

/* Beside the base, by the list or agreed with the customer; of add-ons what the organisation has. */
QUERY(
	other_components,
	"SELECT count(*), coalesce(bool_or(r.metric IS NOT NULL), false) FROM billing.prices AS r "
	"WHERE r.plan_id = $1 AND r.component <> 'base' AND r.retired_at IS NULL AND r.effective_at <= $2 "
	"AND (r.customer_id IS NULL OR r.customer_id = $3)",
	UUIDOID, TIMESTAMPTZOID, UUIDOID);
QUERY(
	priced_add_ons,
	"SELECT FROM billing.organization_add_ons AS o WHERE o.organization_id = $1 "
	"AND (o.until IS NULL OR o.until > $2) "
	"AND EXISTS (SELECT FROM billing.prices AS r WHERE r.add_on = o.add_on AND r.retired_at IS NULL) LIMIT 1",
	TEXTOID, TIMESTAMPTZOID);
QUERY(
	paid_by_card,
	"SELECT FROM billing.payment_methods AS m WHERE m.type IS DISTINCT FROM 'card' AND m.type IS NOT NULL "
	"AND CASE WHEN $1 IS NULL THEN m.customer_id = $2 AND m.is_default AND m.state = 'attached' ELSE m.id = $1 END LIMIT 1",
	UUIDOID, UUIDOID);

static unsigned
demands_of_plan(const Price *price, const Customer *customer)
{
	unsigned demands = 0;
	TimestampTz at = GetCurrentTransactionStartTimestamp();

	if (customer != NULL)
		at = Max(at, clock_now(customer->organization_id));
	RUN(other_components, arg_uuid(price->plan_id), arg_time(at),
		arg_uuid(customer == NULL ? NULL : customer->id));
	if (row_int(0, 1) > 0)
		demands |= DEMAND_COMPONENTS;
	if (row_bool(0, 2))
		demands |= DEMAND_METERED;
	if (customer != NULL &&
		RUN(priced_add_ons, arg_text(customer->organization_id), arg_time(at)) > 0)
		demands |= DEMAND_COMPONENTS;
	return demands;
}

/* A fee whatever the quantity is cannot be told to a provider, which multiplies. */
static bool
is_plain(const Price *price, int64 quantity)
{
	return price->plain && (quantity == 1 || strcmp(price->model, "flat") != 0);
}

static unsigned
demands_of(const ManagerCase *wanted)
{
	unsigned demands = demands_of_plan(wanted->price, wanted->customer);

	if (!is_plain(wanted->price, wanted->quantity))
		demands |= DEMAND_MODEL;
	if (wanted->quantity != 1)
		demands |= DEMAND_QUANTITY;
	if (wanted->coupon != NULL)
		demands |= DEMAND_COUPON;
	if (wanted->automatic_tax)
		demands |= DEMAND_TAX;
	if (wanted->by_reference ||
		(wanted->collection_method != NULL &&
		 strcmp(wanted->collection_method, "send_invoice") == 0) ||
		RUN(paid_by_card, arg_uuid(wanted->payment_method_id), arg_uuid(wanted->customer->id)) > 0)
		demands |= DEMAND_NO_CARD;
	return demands;
}

/* ------------------------------------------------------------------------
 * Who
 * ------------------------------------------------------------------------
 */
static const char *
reason(const Price *price, unsigned demands)
{
	if (demands & DEMAND_METERED)
		return "It has metered components.";
	if (demands & DEMAND_COMPONENTS)
		return "It is billed for more than its base price.";
	return psprintf("Its price is of model %s, and no whole amount per unit.", price->model);
}

static void
refuse(const Price *price, unsigned demands)
{
	ereport(ERROR,
			(errcode(ERRCODE_JB_NOT_SUPPORTED),
			 errmsg("plan \"%s\" cannot be billed by a provider", price->plan),
			 errdetail("%s", reason(price, demands)),
			 errhint("Use billing.subscribe(managed_by => 'local'): then this database bills, and "
					 "the provider collects the money.")));
}

bool
manager_choose(const ManagerCase *wanted)
{
	NamedManager named = MANAGER_NOT_NAMED;
	unsigned demands;
	Manager manager;

	check_word("managed_by", wanted->managed_by, managed_words);
	if (wanted->managed_by != NULL)
		named = strcmp(wanted->managed_by, "local") == 0 ? MANAGER_NAMED_LOCAL
														 : MANAGER_NAMED_PROVIDER;
	demands = demands_of(wanted);
	manager = manager_by_rules(account_billing(wanted->account), demands, named);
	if (manager == MANAGER_REFUSED)
		refuse(wanted->price, demands);
	return manager == MANAGED_LOCALLY;
}

/* What is paid once has no other components: they come with a subscription. */
static unsigned
demands_at_provider(const Price *price, int64 quantity)
{
	unsigned demands = is_plain(price, quantity) ? 0 : DEMAND_MODEL;

	if (strcmp(price->interval, "one_time") != 0)
		demands |= demands_of_plan(price, NULL);
	return demands_of_our_own(demands);
}

bool
manager_provider_can(const Price *price, int64 quantity)
{
	return demands_at_provider(price, quantity) == 0;
}

void
manager_check_provider(const Price *price, int64 quantity)
{
	unsigned demands = demands_at_provider(price, quantity);

	if (demands != 0)
		refuse(price, demands);
}

/*
 * manager_rules.c
 *		Who runs a subscription: the provider, or our own engine.
 *
 * See manager_rules.h.  Called by managers.c only.
 */
#include "manager_rules.h"

#include <stddef.h>

/* Prices that are pushed to providers are whole amounts per unit, and one per subscription. */
#define OURS_ALONE (DEMAND_METERED | DEMAND_COMPONENTS | DEMAND_MODEL)

/*
 * What a subscription is run by our engine for, unless the call names who runs
 * it.  Where the provider bills nothing all are, those that are free as well:
 * who runs one stays the same when it moves to a plan that is not.
 */
static const struct
{
	ProviderBilling billing;
	unsigned ours;
} rules[] = {
	{BILLING_FLAT_BY_CARD,
	 OURS_ALONE | DEMAND_QUANTITY | DEMAND_COUPON | DEMAND_TAX | DEMAND_NO_CARD},
	{BILLING_FULL, OURS_ALONE},
};

unsigned
demands_of_our_own(unsigned demands)
{
	return demands & OURS_ALONE;
}

Manager
manager_by_rules(ProviderBilling billing, unsigned demands, NamedManager named)
{
	if (named == MANAGER_NAMED_LOCAL)
		return MANAGED_LOCALLY;
	if (named == MANAGER_NAMED_PROVIDER)
		return demands_of_our_own(demands) != 0 ? MANAGER_REFUSED : MANAGED_BY_PROVIDER;
	if (billing == BILLING_NONE)
		return MANAGED_LOCALLY;
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (rules[i].billing == billing && (demands & rules[i].ours) != 0)
			return MANAGED_LOCALLY;
	return MANAGED_BY_PROVIDER;
}

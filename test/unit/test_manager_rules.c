/*
 * test_manager_rules.c
 *		Each line of the rules by which a subscription is run by its provider or
 *		by our engine.
 */
#include "manager_rules.h"

#include "unit.h"

#define NONE    BILLING_NONE
#define BY_CARD BILLING_FLAT_BY_CARD
#define FULL    BILLING_FULL

typedef struct Case
{
	const char *name;
	ProviderBilling billing;
	unsigned demands;
	NamedManager named;
	Manager wanted;
} Case;

#define PLAIN 0 /* one amount for an interval, or nothing */

static const Case cases[] = {
	{"a plain price is run by a provider that bills", FULL, PLAIN, MANAGER_NOT_NAMED,
	 MANAGED_BY_PROVIDER},
	{"with a quantity, too", FULL, DEMAND_QUANTITY, MANAGER_NOT_NAMED, MANAGED_BY_PROVIDER},
	{"with a coupon, too", FULL, DEMAND_COUPON, MANAGER_NOT_NAMED, MANAGED_BY_PROVIDER},
	{"with a tax, too", FULL, DEMAND_TAX, MANAGER_NOT_NAMED, MANAGED_BY_PROVIDER},
	{"by invoice, too", FULL, DEMAND_NO_CARD, MANAGER_NOT_NAMED, MANAGED_BY_PROVIDER},
	{"what is metered is ours", FULL, DEMAND_METERED, MANAGER_NOT_NAMED, MANAGED_LOCALLY},
	{"a plan of several components is ours", FULL, DEMAND_COMPONENTS, MANAGER_NOT_NAMED,
	 MANAGED_LOCALLY},
	{"a price with tiers is ours", FULL, DEMAND_MODEL, MANAGER_NOT_NAMED, MANAGED_LOCALLY},

	{"one amount from a card is run by a provider that bills no more than that", BY_CARD, PLAIN,
	 MANAGER_NOT_NAMED, MANAGED_BY_PROVIDER},
	{"two of it are ours", BY_CARD, DEMAND_QUANTITY, MANAGER_NOT_NAMED, MANAGED_LOCALLY},
	{"with a coupon it is ours", BY_CARD, DEMAND_COUPON, MANAGER_NOT_NAMED, MANAGED_LOCALLY},
	{"with a tax it is ours", BY_CARD, DEMAND_TAX, MANAGER_NOT_NAMED, MANAGED_LOCALLY},
	{"not from a card it is ours", BY_CARD, DEMAND_NO_CARD, MANAGER_NOT_NAMED, MANAGED_LOCALLY},
	{"what is metered is ours there", BY_CARD, DEMAND_METERED, MANAGER_NOT_NAMED, MANAGED_LOCALLY},
	{"several components are ours there", BY_CARD, DEMAND_COMPONENTS, MANAGER_NOT_NAMED,
	 MANAGED_LOCALLY},
	{"tiers are ours there", BY_CARD, DEMAND_MODEL, MANAGER_NOT_NAMED, MANAGED_LOCALLY},

	{"where nothing is billed it is ours", NONE, PLAIN, MANAGER_NOT_NAMED, MANAGED_LOCALLY},
	{"with usage, too", NONE, DEMAND_METERED, MANAGER_NOT_NAMED, MANAGED_LOCALLY},

	{"local is local at a provider that bills", FULL, PLAIN, MANAGER_NAMED_LOCAL, MANAGED_LOCALLY},
	{"local is local at one that bills little", BY_CARD, PLAIN, MANAGER_NAMED_LOCAL,
	 MANAGED_LOCALLY},
	{"provider is provider where nothing is billed by default", NONE, PLAIN, MANAGER_NAMED_PROVIDER,
	 MANAGED_BY_PROVIDER},
	{"provider leaves it to the provider to refuse a quantity", BY_CARD, DEMAND_QUANTITY,
	 MANAGER_NAMED_PROVIDER, MANAGED_BY_PROVIDER},
	{"provider is refused for what is metered", FULL, DEMAND_METERED, MANAGER_NAMED_PROVIDER,
	 MANAGER_REFUSED},
	{"provider is refused for several components", FULL, DEMAND_COMPONENTS, MANAGER_NAMED_PROVIDER,
	 MANAGER_REFUSED},
	{"provider is refused for tiers", FULL, DEMAND_MODEL, MANAGER_NAMED_PROVIDER, MANAGER_REFUSED},
};

/* Whatever is asked for: no provider gets what only we can bill, and local is never overruled. */
static void
test_all_demands(void)
{
	int dropped = 0;
	int overruled = 0;

	for (unsigned demands = 0; demands < DEMANDS_END; demands++)
		for (int billing = 0; billing < PROVIDER_BILLINGS; billing++)
		{
			for (int named = MANAGER_NOT_NAMED; named <= MANAGER_NAMED_LOCAL; named++)
				dropped += demands_of_our_own(demands) != 0 &&
						   manager_by_rules((ProviderBilling) billing, demands,
											(NamedManager) named) == MANAGED_BY_PROVIDER;
			overruled += manager_by_rules((ProviderBilling) billing, demands,
										  MANAGER_NAMED_LOCAL) != MANAGED_LOCALLY;
		}
	ok(dropped == 0, "no provider ever gets what only we can bill");
	ok(overruled == 0, "who asks for local gets it");
}

int
main(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ok(manager_by_rules(cases[i].billing, cases[i].demands, cases[i].named) == cases[i].wanted,
		   cases[i].name);
	test_all_demands();
	return done_testing();
}

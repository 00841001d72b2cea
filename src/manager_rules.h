/*
 * manager_rules.h
 *		Who runs a subscription: the provider, or our own engine.
 *
 * One table says what a provider that bills so or so cannot be asked for.  Pure:
 * calls nothing.  managers.c finds out what a subscription asks for.
 */
#ifndef JANUA_MANAGER_RULES_H
#define JANUA_MANAGER_RULES_H

#include <stdbool.h>

/* How a provider bills: a member of each provider's description. */
typedef enum ProviderBilling
{
	BILLING_NONE,         /* it collects money, and bills nothing that somebody did not ask for */
	BILLING_FLAT_BY_CARD, /* one amount per interval, from a card */
	BILLING_FULL,         /* with seats, coupons, tax */
	PROVIDER_BILLINGS
} ProviderBilling;

/* What a subscription asks for, as bits. */
typedef enum Demand
{
	DEMAND_METERED = 1 << 0,    /* usage is billed */
	DEMAND_COMPONENTS = 1 << 1, /* something beside the base price */
	DEMAND_MODEL = 1 << 2,      /* a price that is not a whole amount per unit and interval */
	DEMAND_QUANTITY = 1 << 3,   /* more than one */
	DEMAND_COUPON = 1 << 4,
	DEMAND_TAX = 1 << 5,
	DEMAND_NO_CARD = 1 << 6, /* paid by something else, or by invoice */
	DEMANDS_END = 1 << 7
} Demand;

typedef enum Manager
{
	MANAGED_BY_PROVIDER,
	MANAGED_LOCALLY,
	MANAGER_REFUSED /* managed_by => 'provider' was named, and no provider can */
} Manager;

typedef enum NamedManager
{
	MANAGER_NOT_NAMED,
	MANAGER_NAMED_PROVIDER,
	MANAGER_NAMED_LOCAL
} NamedManager;

/* demands: bits of Demand. */
extern Manager manager_by_rules(ProviderBilling billing, unsigned demands, NamedManager named);

/* What of it no provider is asked for, whoever it is. */
extern unsigned demands_of_our_own(unsigned demands);

#endif /* JANUA_MANAGER_RULES_H */

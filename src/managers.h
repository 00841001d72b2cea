/*-------------------------------------------------------------------------
 *
 * managers.h
 *	  Who bills a subscription; see manager_rules.h for the rules.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_MANAGERS_H
#define JANUA_MANAGERS_H

#include "manager_rules.h"
#include "subjects.h"

/* What subscribe() is asked for, as far as it decides who bills. */
typedef struct ManagerCase
{
	const Customer *customer;
	const Account *account;
	const Price *price; /* of the base */
	int64 quantity;
	const char *coupon;
	bool automatic_tax;
	const char *collection_method;      /* NULL: not named */
	bool by_reference;                  /* paid to references, with no card */
	const pg_uuid_t *payment_method_id; /* NULL: the customer's default one, if any */
	const char *managed_by;             /* as named; NULL: not */
} ManagerCase;

/*
 * Is it run by our engine?  22023 an unknown word; JB004 managed_by => 'provider'
 * for what no provider bills: usage, several components, prices with tiers.
 */
extern bool manager_choose(const ManagerCase *wanted);

/*
 * JB004 unless a provider can be sold this price: what else the plan is billed
 * for would silently be left out there.  Also asked by price_ensure_at().
 */
extern void manager_check_provider(const Price *price, int64 quantity);

/* The same as an answer. */
extern bool manager_provider_can(const Price *price, int64 quantity);

#endif /* JANUA_MANAGERS_H */

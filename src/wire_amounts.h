/*-------------------------------------------------------------------------
 *
 * wire_amounts.h
 *	  Amounts of ours and the units in which a provider counts.
 *
 * Ours are minor units of ISO 4217; billing.provider_currencies has the
 * exceptions of each provider.  Arguments of operations and amounts in
 * snapshots are the provider's; the subjects convert them here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_WIRE_AMOUNTS_H
#define JANUA_WIRE_AMOUNTS_H

#include "db.h"

/* Does the provider take the currency at all, by billing.provider_currencies? */
extern bool provider_takes_currency(const char *provider, const char *currency);

/* JB004 when it does not, with what it takes. NULL is fine. */
extern void provider_require_currency(const char *provider, const char *currency);

/* Could this amount be charged there: by unit, minimum and maximum of its currency? */
extern bool provider_takes_amount(const char *provider, const char *currency, int64 amount);

/*
 * The price of one unit in the provider's units.  22023 when the provider
 * cannot take it, with the nearest amounts that it takes.  The provider's
 * minimum is for what is charged at once and does not count here.
 */
extern int64 wire_price(const char *provider, const char *currency, int64 amount);

/*
 * The same for what is charged at once: it has to reach the provider's minimum
 * and to stay below its maximum.
 */
extern int64 wire_charge(const char *provider, const char *currency, int64 amount);

/*
 * What a provider reports, in minor units; rounded half away from zero where
 * the provider counts finer than the currency.  22003 when it does not fit.
 */
extern int64 amount_from_wire(const char *provider, const char *currency, int64 wire);

#endif /* JANUA_WIRE_AMOUNTS_H */

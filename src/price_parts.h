/*
 * price_parts.h
 *		A price of usage for a part of a period.
 *
 * Usage is billed for a part of a period where a period begins or ends early,
 * or a price changes within it.  What a price says of a whole period counts in
 * proportion then: its flat fee, the fees of its tiers, minimum, maximum,
 * commitment, and free units.  What it says of units stays: unit prices, the
 * bounds of tiers, the size of a package, the percentage.
 *
 * Amounts are split as in proration.h, so that the parts of a period add up to
 * what the whole would have had; free units in whole units, or in the decimals that
 * those of the whole have.
 *
 * Pure: no memory, no clock, no SQL.
 */
#ifndef JANUA_BILLING_PRICE_PARTS_H
#define JANUA_BILLING_PRICE_PARTS_H

#include "period.h"
#include "proration.h"
#include "rating.h"

/*
 * The price, which is prepared, for a part of a whole period; the part lies
 * within it.  made->tiers has room for as many tiers as the price has, and made
 * is prepared afterwards.
 */
extern ProrationStatus price_for_part(const Proration *how, const RatedPrice *price,
									  const Period *whole, const Period *part, RatedPrice *made);

#endif /* JANUA_BILLING_PRICE_PARTS_H */

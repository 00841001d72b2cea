/*-------------------------------------------------------------------------
 *
 * components.h
 *	  Prices as they can be rated, which of them a plan sells at a moment, and
 *	  which version of one counts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_COMPONENTS_H
#define JANUA_COMPONENTS_H

#include "db.h"
#include "rating.h"

/* A later version of a price that subscriptions move to, at renewal or at once. */
typedef struct PriceVersion
{
	pg_uuid_t *id;
	TimestampTz effective_at;
	bool at_once;
} PriceVersion;

typedef struct ComponentPrice
{
	pg_uuid_t *id;
	pg_uuid_t *plan_id;     /* NULL: of an add-on */
	char *add_on;           /* NULL: of a plan */
	pg_uuid_t *customer_id; /* NULL: of the list */
	char *component;
	char *currency;
	char *interval;
	int interval_count;
	char *metric;      /* NULL: licensed, billed in advance */
	char *description; /* NULL: what the line says follows from plan and component */
	bool one_time;
	bool tax_inclusive;
	List *later;      /* PriceVersion, by effective_at: those that subscriptions move to */
	RatedPrice rated; /* prepared */
} ComponentPrice;

/* Loaded once per transaction; JB005 unknown. */
extern const ComponentPrice *component_price(const pg_uuid_t *id);

/* All of them in one statement, for the run. */
extern void component_prices_load(pg_uuid_t *const *ids, int count);

/* Remembers a price that no table has, for what is left of the transaction: its terms are those of a plain one. */
extern void component_price_remember(const ComponentPrice *price);

/* A version was made: what is remembered of this transaction may lack it. */
extern void component_prices_forget(void);

/* Nothing is ever due by it. */
extern bool component_price_is_free(const ComponentPrice *price);

/*
 * The components of a plan at a moment, as a customer gets them: for each
 * component the version in force of the currency and the interval, an agreed
 * price before the list (ComponentPrice).  base comes first.
 */
extern List *plan_components(const pg_uuid_t *plan_id, const char *currency, const char *interval,
							 int interval_count, const pg_uuid_t *customer_id, TimestampTz at);

/*
 * add_on_prices.c: the price of an add-on that is sold, 22023 none; and the
 * add-ons with a price that an organisation has, as items
 * of a new subscription (BilledItem); 22023 when one has none in this currency
 * and interval.
 */
extern const ComponentPrice *add_on_price(const char *add_on, const char *currency,
										  const char *interval, int interval_count, TimestampTz at);
extern List *organization_add_on_items(const char *organization_id, const char *currency,
									   const char *interval, int interval_count, TimestampTz at);

/*
 * The version that a subscription with this price has from a moment on: a later
 * one whose "existing" says renewal or now; else the same price.
 */
extern const ComponentPrice *component_price_successor(const ComponentPrice *price, TimestampTz at);

/* When a subscription with this price moves to a later version without waiting for its renewal; 0: never. */
extern TimestampTz component_price_moves_at(const ComponentPrice *price);

/* The moment that decides what is sold: never before the transaction's, whatever a test clock says. */
extern TimestampTz sale_moment(TimestampTz at);

/* What is wrong with a price, as a sentence. */
extern const char *rating_reason(RatingStatus status);

#endif /* JANUA_COMPONENTS_H */

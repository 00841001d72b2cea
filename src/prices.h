/*-------------------------------------------------------------------------
 *
 * prices.h
 *	  What catalog.c, prices.c and add_on_prices.c share: terms of a price.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_PRICES_H
#define JANUA_PRICES_H

#include "engine.h"

/* What a price says.  What is not named is NULL, 0 or NO_AMOUNT. */
typedef struct PriceTerms
{
	const pg_uuid_t *plan_id;
	const char *add_on;
	const pg_uuid_t *customer_id;
	int64 amount;
	const char *currency;
	const char *interval; /* NULL: month */
	int interval_count;
	const char *component; /* NULL: base */
	const char *model;     /* NULL: per_unit */
	const char *metric;
	Numeric unit_amount;
	Numeric package_size;
	Numeric percentage;
	const Jsonb *tiers;
	Numeric free_units;
	int64 minimum;
	int64 maximum;
	int64 commitment;
	const char *tax_behavior;
	const char *description;
	const char *existing;     /* NULL: stay */
	TimestampTz effective_at; /* 0: now */
} PriceTerms;

/* The words that an interval can be, for check_word(). */
extern const char *const price_intervals[];

/* In upper case, NULL: the setting default_currency; 22023 unknown, 23502 neither. */
extern char *price_currency(const char *currency);

/* Puts in what is not named, and refuses what cannot be a price (22023, 23502, JB005). */
extern void price_terms_check(PriceTerms *terms);

/* Writes checked terms.  Of a customer's price is_default says that it takes the place of the list, and has versions. */
extern pg_uuid_t *price_insert(const PriceTerms *terms, bool is_default);

/*
 * A price with checked terms (plain ones: an amount per unit) that is written
 * nowhere: component_price() knows it until the transaction ends.
 */
extern pg_uuid_t *price_imagine(const PriceTerms *terms);

/*
 * A new version: takes the place of the one that is sold, now or at its time,
 * and wakes local subscriptions that move to it.  Of a list price of component
 * base that is sold at once: it is the default of its currency from now on.
 */
extern pg_uuid_t *price_version(const PriceTerms *terms);

/* catalog.c: codes of plans (upper_case), features and components: 22023. */
extern void check_code(const char *argument, const char *code, bool upper_case);

#endif /* JANUA_PRICES_H */

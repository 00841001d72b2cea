/*-------------------------------------------------------------------------
 *
 * customers.h
 *	  What the files about customers share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_CUSTOMERS_H
#define JANUA_CUSTOMERS_H

#include "subjects.h"

/* JB009; before anything else, because any other error puts the statement into the log. */
extern void customer_check_no_card(const CustomerTerms *terms);

/* From a trigger: what cannot be right is left out, with a WARNING. */
extern CustomerTerms customer_usable_terms(const CustomerTerms *given);

/* 22023 for what cannot be right; countries and currencies become upper case. */
extern void customer_check_terms(CustomerTerms *terms);

/* Its own, else that of its address; NULL when neither is known. */
extern const char *customer_country(const CustomerTerms *terms);

/* JB014 for a sanctioned country; from a trigger a WARNING and false. */
extern bool customer_check_countries(const CustomerTerms *terms);

/* The terms as a provider's module sees them, to ask what is missing. */
extern Jsonb *customer_terms_json(const CustomerTerms *terms);

/* What keeps the customer from the provider; NULL: nothing. served: its country may be sold to. */
extern const char *customer_missing_at(const Account *account, const CustomerTerms *terms,
									   bool served);

/* 23502: the provider requires it. remedy: what to call. */
extern void customer_refuse_missing(const Account *account, const char *missing,
									const char *remedy);

#endif /* JANUA_CUSTOMERS_H */

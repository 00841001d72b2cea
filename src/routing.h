/*-------------------------------------------------------------------------
 *
 * routing.h
 *	  Which of our accounts a call goes to.
 *
 * A provider that the call names is taken, or the call fails.  Otherwise the
 * rules of billing.routing_rules are asked in their order, and the first one
 * counts whose account can take the call.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_ROUTING_H
#define JANUA_ROUTING_H

#include "accounts.h"
#include "subjects.h"

/* What is known of the call; NULL and 0 where nothing is. */
typedef struct RouteTerms
{
	const char *provider; /* named in the call */
	const char *account;  /* named in the call */
	const char *country;  /* of the customer, checked by the caller; NULL: that of customer */
	const char *currency;
	int64 amount;        /* minor units; NO_AMOUNT: none */
	const char *method;  /* card, oxxo, spei, msi, ... */
	int installments;    /* months; makes the method msi */
	Operation operation; /* OPERATION_COUNT: none in particular */
	const char *plan;
	const char *purpose;      /* saas, goods, custom */
	const Customer *customer; /* whom the call is about, when there is one already */
} RouteTerms;

typedef struct Route
{
	Account *account;
	const char *rule;   /* its name; "named" for what the call names */
	const char *reason; /* in words */
	List *passed_over;  /* of char *: "provider: why not" */
} Route;

/*
 * JB004 when no configured provider can do it, JB006 when none is configured,
 * JB011 when live and test would be mixed, JB014 for a sanctioned country;
 * what account_get() raises for what is named.
 */
extern Route route_choose(const RouteTerms *terms);

/*
 * The account of it.  When the rules lead nowhere and there is a customer: his
 * account, whose subject then says what is wrong with the call.
 */
extern Account *route_account(const RouteTerms *terms);

#endif /* JANUA_ROUTING_H */

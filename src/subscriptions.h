/*-------------------------------------------------------------------------
 *
 * subscriptions.h
 *	  What the two files of subscriptions share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_SUBSCRIPTIONS_H
#define JANUA_SUBSCRIPTIONS_H

#include "subjects.h"

typedef struct Subscription
{
	pg_uuid_t *id;
	pg_uuid_t *customer_id;
	char *organization_id;
	pg_uuid_t *plan_id;
	char *plan_group;
	pg_uuid_t *price_id;
	int64 quantity;
	char *status;
	char *provider;
	char *account;
	char *provider_status;
	pg_uuid_t *payment_method_id;
	bool cancel_at_period_end;
	bool superseded;
	char *provider_id; /* NULL: no provider knows it */
	TimestampTz trial_end;
	bool livemode;
} Subscription;

/* NULL when there is none. */
extern Subscription *subscription_load(const pg_uuid_t *id);

/* canceled or incomplete_expired */
extern bool subscription_ended(const char *status);

/* Ends a subscription that no provider knows. */
extern void subscription_end_here(const Subscription *subscription);

#endif /* JANUA_SUBSCRIPTIONS_H */

/*-------------------------------------------------------------------------
 *
 * subscriptions.h
 *	  What the files of subscriptions share.
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
	bool pause_at_period_end;
	bool superseded;
	char *provider_id; /* NULL: no provider knows it */
	TimestampTz trial_end;
	TimestampTz current_period_end;
	TimestampTz starts_at; /* 0: it has begun, or waits for its first payment */
	bool livemode;
	bool local; /* our engine bills it */
} Subscription;

/* What update_subscription() is told. */
typedef struct UpdateTerms
{
	const char *plan;
	int64 quantity; /* 0: unchanged */
	bool has_quantity;
	const char *proration_behavior;
	const pg_uuid_t *price;
	int64 amount; /* NO_AMOUNT: not named */
	const char *payment_method;
	TimestampTz proration_date;
	TimestampTz trial_end;
	TimestampTz cancel_at;
	const char *effective;
	const char *coupon;
	const Jsonb *items;
} UpdateTerms;

/* The arguments of update_subscription(), which preview_update() has, too: checked as far as they say it (22023, JB009). */
extern UpdateTerms subscription_update_terms(FunctionCallInfo fcinfo);

/* What cancel_subscription() is told; -1: not named. */
typedef struct CancelTerms
{
	bool at_period_end;
	int prorate;
	int invoice_now;
	const char *reason;
	const char *comment;
} CancelTerms;

/*
 * subscription_local.c: the same calls for those that our engine bills.  The
 * caller has checked the arguments and holds the customer's lock.
 */
extern void local_update(const Subscription *row, const UpdateTerms *terms);
extern void local_cancel(const Subscription *row, const CancelTerms *terms);
extern void local_pause(const Subscription *row, bool at_period_end, TimestampTz resumes_at);
extern void local_resume(const Subscription *row);
/* The organisation has so many units of an add-on from now on: the item, prorated with the next invoice. */
extern void local_set_add_on(const pg_uuid_t *id, const char *add_on, int64 quantity);
extern void local_unplan(const Subscription *row, const pg_uuid_t *scheduled_change_id);

/* NULL when there is none. */
extern Subscription *subscription_load(const pg_uuid_t *id);

/* The one of the group that is live or may become so; NULL when there is none. */
extern Subscription *subscription_of_group(const char *organization_id, const char *plan_group);

/*
 * Counts anew which one of its group comes first, when it has begun or ended;
 * the others are conflicts.  news: NULL in a call.
 */
extern void subscription_settle_group(const Subscription *subscription, const News *news);

/* canceled or incomplete_expired */
extern bool subscription_ended(const char *status);

/* subscription_status.c: a state of which is kept since when it is. */
extern bool subscription_status_is_dated(const char *status);

/* How far a state is on the way of a subscription, for what is told of one moment (refs.h). */
extern int subscription_stage(const char *status);

/* It was told, by news of this time, that the subscription is in this state. Before the state is stored. */
extern void subscription_status_told(const pg_uuid_t *id, const char *status, TimestampTz as_of);

/* What subscriptions.status_since has to be beside this status: 0 for NULL. */
extern TimestampTz subscription_status_since(const pg_uuid_t *id, const char *status);

/* Stores it, when what was told changes no state. */
extern void subscription_status_settle(const pg_uuid_t *id, const char *status);

/* Ends a subscription that no provider knows, and closes the pages on which it could be bought. */
extern void subscription_end_here(const Subscription *subscription);

/* Ends one that waits for its first payment: successor takes its place. */
extern void subscription_give_way(const Subscription *old, const pg_uuid_t *successor);

/* 22023 unless the end that a call plans is to come; what ends now is cancelled. 0 is fine. */
extern void subscription_check_cancel_at(const char *organization_id, TimestampTz cancel_at);

/* JB004: no provider keeps the dates of what costs nothing. */
extern void subscription_refuse_dates_of_free(TimestampTz trial_end, TimestampTz cancel_at);

/* subscribe.c, engine_start.c */

/* An integer that the call leaves out; no value that a caller could mean. */
#define SUBSCRIBE_NOT_NAMED PG_INT32_MIN

typedef struct SubscribeTerms
{
	const char *plan;
	const char *payment_method;
	int trial_days; /* SUBSCRIBE_NOT_NAMED: the plan's, once */
	int64 quantity;
	const char *currency;
	const pg_uuid_t *price;
	int64 amount; /* NO_AMOUNT: not named */
	const char *interval;
	const char *collection_method;
	int days_until_due; /* SUBSCRIBE_NOT_NAMED: none */
	TimestampTz cancel_at;
	const char *trial_end_behavior;
	int off_session; /* SUBSCRIBE_NOT_NAMED: the provider decides */
	const char *coupon;
	int automatic_tax;             /* SUBSCRIBE_NOT_NAMED: the provider decides */
	TimestampTz billing_anchor;    /* 0: now */
	TimestampTz starts_at;         /* 0: now */
	const char *billing_alignment; /* NULL: by the setting */
	const char *success_url;       /* a checkout may take its place */
	const char *cancel_url;
	const char *managed_by; /* NULL: by manager_choose() */
	const Jsonb *metadata;
} SubscribeTerms;

/* As named; else the plan's, once per organisation and group. */
extern int subscribe_trial_days(const SubscribeTerms *terms, const Customer *customer,
								const Price *price);

/* 22023: a price that is paid once. */
extern void subscribe_refuse_one_time(const Price *price);

/* JB008 when the organisation has a live one in the group; one that gives way, or NULL. */
extern Subscription *subscription_in_the_way(const Customer *customer, const Price *price);

/* engine_start.c: a subscription that our engine bills. */
extern pg_uuid_t *engine_subscribe(const SubscribeTerms *terms, const Customer *customer,
								   const Account *account, const Price *price);

/*
 * One of ours that waits for its first payment ends, and its invoice is voided;
 * false: it is not ours.  JB008 while it is being paid.
 */
extern bool engine_give_way(const pg_uuid_t *subscription_id);

#endif /* JANUA_SUBSCRIPTIONS_H */

/*-------------------------------------------------------------------------
 *
 * subjects.h
 *	  What the subjects offer to each other and to operations.c.
 *
 * One block per subject; its file has the same name.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_SUBJECTS_H
#define JANUA_SUBJECTS_H

#include "json.h"
#include "operations.h"

/* janua_billing.c: the setting restoring; triggers on tables of the application do nothing. */
extern bool billing_restoring;

/* customers.c */
typedef struct Customer
{
	pg_uuid_t *id;
	char *organization_id;
	char *provider;
	char *account;
	bool livemode;
	char *currency;
	char *country;
	bool deleted;
} Customer;

/*
 * customer_lock.c: FOR NO KEY UPDATE, under which what is billed stands still;
 * false when there is no such customer.  Raises 40001 in a transaction of
 * REPEATABLE READ or SERIALIZABLE whose snapshot is older than what others have
 * done to the customer.
 */
extern bool customer_lock(const pg_uuid_t *id);
extern bool customer_lock_nowait(const pg_uuid_t *id); /* 55P03 when somebody holds it */
/* For a query that has locked the row itself: the same check. */
extern void customer_locked(const pg_uuid_t *id);

/* NULL when there is none. lock: FOR NO KEY UPDATE, with the check of customer_lock(). */
extern Customer *customer_load(const pg_uuid_t *id, bool lock);
extern Customer *customer_of_organization(const char *organization_id, bool lock);

/* Live and test mode do not mix within an organisation: JB011. */
extern void customer_check_mode(const Customer *customer, const Account *account);

/* The customer must exist at this account before the caller's operation: enqueues its creation if needed. */
extern void customer_ensure_at(const Customer *customer, const Account *account);

/* One customer's data as the application gives it. Absent members are NULL. */
typedef struct CustomerTerms
{
	const char *organization_id;
	const char *email;
	const char *name;
	const char *country;
	const char *provider;
	const char *phone;
	const Jsonb *address;
	const Jsonb *tax_ids;
	const char *tax_exempt;
	const char *locale;
	const char *currency;
	const char *timezone;
	const char *description;
	const Jsonb *metadata;
	const char *account;
	/* from a trigger: what the provider misses waits instead of failing */
	bool lenient;
} CustomerTerms;
extern pg_uuid_t *customer_create(const CustomerTerms *terms);
extern void customer_update(const pg_uuid_t *id, const Jsonb *changes, bool lenient);
extern void customer_delete(const pg_uuid_t *id, bool final_invoice);
extern void customer_mark_deleted(const pg_uuid_t *id);
/* The customer as it stands, opened; needs_data may be NULL. */
extern CustomerTerms customer_terms(const pg_uuid_t *id, char **needs_data);
/* customer_sync.c */
/* The address that a provider is told: at least the country, when we know it; NULL: neither. */
extern const Jsonb *customer_address(const CustomerTerms *terms);
extern Description customer_describe(const OutboxRow *row);
extern Applied customer_apply(const ProviderSnapshot *snapshot, const News *news,
							  const char **waiting_for);

/* payment_methods.c, payment_method_sync.c */
extern pg_uuid_t *payment_method_attach(const Customer *customer, const Account *account,
										const char *token, int set_default, const Jsonb *metadata);

/* JB005 unless it is a method of the customer, JB008 unless it can be charged. */
extern void payment_method_check(const pg_uuid_t *id, const pg_uuid_t *customer_id);

/* What a provider detaches when its customer is deleted. */
extern void payment_methods_detach_all(const pg_uuid_t *customer_id);
extern Description payment_method_describe(const OutboxRow *row);
extern void payment_method_refused(const OutboxRow *row, const CallResult *result);
extern void payment_method_done(const OutboxRow *row, const CallResult *result);
extern Description payment_method_list_describe(const OutboxRow *row);
extern void payment_method_list_done(const OutboxRow *row, const CallResult *result);
extern Applied payment_method_apply(const ProviderSnapshot *snapshot, const News *news,
									const char **waiting_for);

/* catalog.c */
typedef struct Price
{
	pg_uuid_t *id;
	pg_uuid_t *plan_id;
	char *plan;
	char *plan_group;
	int plan_trial_days;
	int64 amount; /* minor units */
	char *currency;
	char *interval;
	int interval_count;
	char *model;
	bool plain;  /* amount times quantity in each interval says all of it */
	bool agreed; /* with one customer */
} Price;

/* The plan's offer: plan by code (JB005), price by id, by amount (custom), or the default in the currency. */
typedef struct PriceChoice
{
	const char *plan;
	const pg_uuid_t *price; /* NULL: not named */
	int64 amount;           /* NO_AMOUNT: not named */
	const char *interval;
	const char *currency; /* NULL: the customer's or the default */
	const pg_uuid_t *customer_id;
	bool preview; /* a price for an amount that is not agreed yet is not written */
} PriceChoice;
extern Price *price_choose(const PriceChoice *choice);
extern Price *price_load(const pg_uuid_t *id);

/* Is nothing ever due by it? */
extern bool price_is_free(const Price *price);

/*
 * The price must exist at this account: enqueues product and price if needed
 * and returns the request to be blocked by, NULL when all is there.
 */
extern pg_uuid_t *price_ensure_at(const Price *price, const Account *account);

/* interval and interval_count as providers know them. */
extern void price_add_interval(JsonBuilder *builder, const Price *price);

/* add_on_prices.c: an organisation has so many units from now on; JB004 when they cannot be billed. */
extern void add_on_is_set(const char *organization_id, const char *add_on, int64 quantity,
						  bool has_until);

/* Does the provider keep prices like this one?  Not where it has no catalogue. */
extern bool price_can_be_at(const Price *price, const Account *account);
extern Description product_describe(const OutboxRow *row);
extern Description price_describe(const OutboxRow *row);
extern Applied product_apply(const ProviderSnapshot *snapshot, const News *news,
							 const char **waiting_for);
extern Applied price_apply(const ProviderSnapshot *snapshot, const News *news,
						   const char **waiting_for);

/* subscribe.c, subscriptions.c, subscription_sync.c */
extern void subscription_cancel_all(const pg_uuid_t *customer_id, bool bill_usage);

/*
 * The row of a subscription that a checkout makes: incomplete, not known to the
 * provider.  JB008 when the organisation has a live one in the plan's group.
 */
extern pg_uuid_t *subscription_for_checkout(const Customer *customer, const Account *account,
											const Price *price, int64 quantity,
											const Jsonb *metadata);

/* The days of trial of a checkout: as named; else (below 0) the plan's, once. */
extern int subscription_trial_days(const Customer *customer, const Price *price, int named);
extern pg_uuid_t *subscription_create_default(const Customer *customer, const char *plan);
extern Description subscription_describe(const OutboxRow *row);
extern void subscription_refused(const OutboxRow *row, const CallResult *result);
extern Applied subscription_apply(const ProviderSnapshot *snapshot, const News *news,
								  const char **waiting_for);

/*
 * payments.c: the row of a payment that a checkout session will make; no
 * request, the provider makes the payment when the session is paid.  amount in
 * minor units; invoice_id: which it pays, NULL: none.
 */
extern pg_uuid_t *payment_intent_for_checkout(const Customer *customer, const Account *account,
											  int64 amount, const char *currency,
											  const pg_uuid_t *checkout_session_id,
											  const pg_uuid_t *invoice_id, const Jsonb *metadata);

/* The page on which it would have been paid is closed. */
extern void payment_intent_abandon(const pg_uuid_t *id, const char *reason);

/* payment_sync.c: an invoice is told with its payment; false when that has one, or is not known: then it is linked later. */
extern bool payment_intent_link_invoice(const char *payment_intent, const pg_uuid_t *invoice_id,
										const News *news);
extern Description payment_intent_describe(const OutboxRow *row);
extern void payment_intent_refused(const OutboxRow *row, const CallResult *result);
extern void collection_request_gone(const OutboxRow *row);
extern Applied payment_intent_apply(const ProviderSnapshot *snapshot, const News *news,
									const char **waiting_for);

/* setup_intents.c */
extern Description setup_intent_describe(const OutboxRow *row);
extern void setup_intent_refused(const OutboxRow *row, const CallResult *result);
extern Applied setup_intent_apply(const ProviderSnapshot *snapshot, const News *news,
								  const char **waiting_for);

/* refunds.c */
extern Description refund_describe(const OutboxRow *row);
extern void refund_refused(const OutboxRow *row, const CallResult *result);
extern Applied refund_apply(const ProviderSnapshot *snapshot, const News *news,
							const char **waiting_for);

/* disputes.c */
extern Description dispute_describe(const OutboxRow *row);
extern Description dispute_list_describe(const OutboxRow *row);
extern void dispute_refused(const OutboxRow *row, const CallResult *result);
extern Applied dispute_apply(const ProviderSnapshot *snapshot, const News *news,
							 const char **waiting_for);

/*
 * refresh.c: the provider is asked for an object of which webhooks told
 * different things.  Does nothing where it cannot be asked, or will be anyway.
 */
extern void refresh_doubtful(const char *object_type, const pg_uuid_t *object_id,
							 const char *provider, const char *account);

/* Is that a type of object that some provider can be asked for? */
extern bool refresh_possible(const char *object_type);

/* checkout.c: a subscription that the buyer makes in a checkout; returns its id, not the session's. */
typedef struct CheckoutSale
{
	const Price *price;
	int64 quantity;
	int trial_days;
	const char *success_url;
	const char *cancel_url;
	const char *coupon;
	int automatic_tax; /* 1, 0, -1: not named */
	const Jsonb *metadata;
} CheckoutSale;
extern pg_uuid_t *checkout_subscribe(const Customer *customer, const Account *account,
									 const CheckoutSale *sale);

/*
 * Closes the pages on which a subscription could still be bought, where the
 * provider closes any; the others run out by themselves.
 */
extern void checkout_close_pages(const pg_uuid_t *subscription_id);

/* The same for pages of an invoice that is not to be paid any more, or not by that amount. */
extern void checkout_close_invoice_pages(const pg_uuid_t *invoice_id);

/* checkout_sync.c: checkout sessions and payment links */
extern Description checkout_describe(const OutboxRow *row);
extern void checkout_refused(const OutboxRow *row, const CallResult *result);
extern Applied checkout_apply(const ProviderSnapshot *snapshot, const News *news,
							  const char **waiting_for);

/* portal.c */
extern Description portal_describe(const OutboxRow *row);
extern void portal_refused(const OutboxRow *row, const CallResult *result);
extern Applied portal_apply(const ProviderSnapshot *snapshot, const News *news,
							const char **waiting_for);

/* invoices.c */
extern Description invoice_describe(const OutboxRow *row);
extern Description invoice_list_describe(const OutboxRow *row);
extern void invoice_refused(const OutboxRow *row, const CallResult *result);
extern Applied invoice_apply(const ProviderSnapshot *snapshot, const News *news,
							 const char **waiting_for);

/* webhook_endpoints.c */
extern Description webhook_endpoint_describe(const OutboxRow *row);
extern void webhook_endpoint_refused(const OutboxRow *row, const CallResult *result);
extern void webhook_endpoint_done(const OutboxRow *row, const CallResult *result);
extern Applied webhook_endpoint_apply(const ProviderSnapshot *snapshot, const News *news,
									  const char **waiting_for);

/* usage_forwarding.c: meters at the providers */
extern Description meter_describe(const OutboxRow *row);
extern void meter_refused(const OutboxRow *row, const CallResult *result);
extern Applied meter_apply(const ProviderSnapshot *snapshot, const News *news,
						   const char **waiting_for);

/* usage_reports.c: what they are told */
extern Description usage_describe(const OutboxRow *row);
extern void usage_refused(const OutboxRow *row, const CallResult *result);
extern void usage_done(const OutboxRow *row, const CallResult *result);

/* clock.c: the time for an organisation (test clock or the transaction's time). */
extern TimestampTz clock_now(const char *organization_id);
/* The same on the active snapshot: for functions that are STABLE. Not for NULL. */
extern TimestampTz clock_read(const char *organization_id);

/* events.c: a change of state, in the transaction that makes it. type is "<object>.<what>". */
extern void event_record(const char *type, const char *object, const pg_uuid_t *id,
						 const char *organization_id, const char *before, const char *after);

/*
 * What a webhook says of objects beside their states: a row of billing.events
 * each, with the state that the object has.  All or none: NULL when all are
 * written, else the provider's id of an object that is not known.
 */
extern const char *notices_record(const List *notices, const News *news);

/* organizations.c: the setting organization_id. Called once from _PG_init. */
extern void organizations_init(void);

/* settings.c: a business setting; NULL when it has no value. */
extern char *setting_text(const char *name);
extern int64 setting_int(const char *name, int64 fallback);
extern double setting_seconds(const char *name, double fallback);

/* wakeup.c: the worker looks at the outbox when this transaction commits. */
extern void worker_wake_at_commit(void);

/* idempotency.c: callers' keys. */
typedef struct KeyedArgument
{
	const char *name;
	const char *value; /* as text; NULL for SQL NULL */
} KeyedArgument;

/*
 * The object that this key made before, NULL when it is new: then
 * idempotency_store() must follow in the same transaction.  JB007 when the
 * arguments differ, naming the first that does.  Waits for a concurrent call
 * with the same key.  key NULL: always new.
 */
extern pg_uuid_t *idempotency_find(const char *function, const char *organization_id,
								   const char *key, const KeyedArgument *arguments, int count);
extern void idempotency_store(const char *function, const char *organization_id, const char *key,
							  const pg_uuid_t *object_id);

#endif /* JANUA_SUBJECTS_H */

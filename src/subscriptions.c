/*-------------------------------------------------------------------------
 *
 * subscriptions.c
 *	  Subscriptions: what callers ask for.
 *
 * A call checks, writes the row or the request and returns; status, plan,
 * quantity and periods change when the provider confirms, in
 * subscription_sync.c.  The exception is a subscription that no provider
 * knows: a free plan needs none, so it starts, changes and ends at once.
 *
 *-------------------------------------------------------------------------
 */
#include "subscriptions.h"

#include "check.h"
#include "errors.h"
#include "json.h"

static const char *const proration_words[] = {"create_prorations", "none", "always_invoice", NULL};
static const char *const collection_words[] = {"charge_automatically", "send_invoice", NULL};
static const char *const trial_end_words[] = {"cancel", "pause", "create_invoice", NULL};
static const char *const managed_words[] = {"provider", "local", NULL};

/* ---- rows ---- */

#define SUBSCRIPTION_COLUMNS                                                                                               \
	"s.id, s.customer_id, s.organization_id, s.plan_id, s.plan_group, s.price_id, s.quantity, s.status, "                  \
	"s.provider, s.account, s.provider_status, s.payment_method_id, s.cancel_at_period_end, s.superseded_by IS NOT NULL, " \
	"r.provider_id, s.trial_end, s.livemode"

QUERY(
	load_subscription,
	"SELECT " SUBSCRIPTION_COLUMNS " FROM billing.subscriptions AS s "
	"LEFT JOIN billing.provider_refs AS r ON r.object_id = s.id AND r.object_type = 'subscription' "
	"AND r.provider = s.provider AND r.account = s.account WHERE s.id = $1",
	UUIDOID);
QUERY(
	live_subscription,
	"SELECT " SUBSCRIPTION_COLUMNS " FROM billing.subscriptions AS s "
	"LEFT JOIN billing.provider_refs AS r ON r.object_id = s.id AND r.object_type = 'subscription' "
	"AND r.provider = s.provider AND r.account = s.account "
	"WHERE s.organization_id = $1 AND s.plan_group = $2 "
	"AND s.status NOT IN ('canceled', 'incomplete_expired') AND NOT s.conflict AND s.superseded_by IS NULL",
	TEXTOID, TEXTOID);

static Subscription *
subscription_from_row(void)
{
	Subscription *s = palloc(sizeof(Subscription));

	s->id = row_uuid(0, 1);
	s->customer_id = row_uuid(0, 2);
	s->organization_id = row_text(0, 3);
	s->plan_id = row_uuid(0, 4);
	s->plan_group = row_text(0, 5);
	s->price_id = row_uuid(0, 6);
	s->quantity = row_int(0, 7);
	s->status = row_text(0, 8);
	s->provider = row_text(0, 9);
	s->account = row_text(0, 10);
	s->provider_status = row_text(0, 11);
	s->payment_method_id = row_uuid(0, 12);
	s->cancel_at_period_end = row_bool(0, 13);
	s->superseded = row_bool(0, 14);
	s->provider_id = row_text(0, 15);
	s->trial_end = row_time(0, 16);
	s->livemode = row_bool(0, 17);
	return s;
}

Subscription *
subscription_load(const pg_uuid_t *id)
{
	return RUN(load_subscription, arg_uuid(id)) == 0 ? NULL : subscription_from_row();
}

/* Loads it under the lock of its customer, so that its state stands still. */
static Subscription *
subscription_load_locked(const pg_uuid_t *id)
{
	Subscription *s;

	check_given("subscription_id", id != NULL);
	s = subscription_load(id);
	if (s == NULL)
		unknown_object("subscription", uuid_text(id), NULL);
	outbox_lock_customer(s->customer_id);
	return subscription_load(id);
}

bool
subscription_ended(const char *status)
{
	return strcmp(status, "canceled") == 0 || strcmp(status, "incomplete_expired") == 0;
}

/* Does the provider know it, or is it about to hear of it? */
static bool
at_provider(const Subscription *s)
{
	return s->provider_id != NULL || outbox_busy(s->id);
}

static void
require_alive(const Subscription *s)
{
	if (subscription_ended(s->status))
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("subscription \"%s\" has ended", uuid_text(s->id)),
						errdetail("Its status is %s.", s->status),
						errhint("Use billing.subscribe() to make a new one.")));
}

/* The end that a call plans; what ends now is cancelled. */
static void
check_cancel_at(const char *organization_id, TimestampTz cancel_at)
{
	if (cancel_at == 0 ||
		(!TIMESTAMP_NOT_FINITE(cancel_at) && cancel_at > clock_now(organization_id)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("cancel_at is not a time to come"),
			 errdetail("cancel_at is %s.", timestamptz_to_str(cancel_at)),
			 errhint("Use billing.cancel_subscription() to end a subscription now.")));
}

/* No provider keeps the dates of what costs nothing. */
static void
refuse_dates_of_free(TimestampTz trial_end, TimestampTz cancel_at)
{
	if (trial_end != 0 || cancel_at != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("a free subscription has no %s",
							   trial_end != 0 ? "trial" : "end that is planned"),
						errhint("Use billing.cancel_subscription() when it ends.")));
}

/* ---- subscribe ---- */

/* An integer that the call leaves out; no value that a caller could mean. */
#define NOT_NAMED PG_INT32_MIN

typedef struct SubscribeTerms
{
	const char *plan;
	const char *payment_method;
	int trial_days; /* NOT_NAMED: the plan's, once */
	int64 quantity;
	const char *currency;
	const pg_uuid_t *price;
	int64 amount; /* NO_AMOUNT: not named */
	const char *interval;
	const char *collection_method;
	int days_until_due; /* NOT_NAMED: none */
	TimestampTz cancel_at;
	const char *trial_end_behavior;
	int off_session; /* NOT_NAMED: the provider decides */
	const Jsonb *metadata;
} SubscribeTerms;

static void
check_subscribe_terms(const SubscribeTerms *terms)
{
	/* before all else: any other error would put the statement into the log */
	check_no_card("payment_method", terms->payment_method);
	check_no_card_json("metadata", terms->metadata);
	check_given("plan", terms->plan != NULL);
	if (terms->quantity <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("quantity must be at least 1")));
	if (terms->trial_days != NOT_NAMED && (terms->trial_days < 0 || terms->trial_days > 730))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("trial_days must be from 0 to 730")));
	if (terms->days_until_due != NOT_NAMED && terms->days_until_due < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("days_until_due must not be negative")));
	check_word("collection_method", terms->collection_method, collection_words);
	check_word("trial_end_behavior", terms->trial_end_behavior, trial_end_words);
	check_metadata(terms->metadata);
	if (terms->collection_method != NULL && strcmp(terms->collection_method, "send_invoice") == 0 &&
		terms->days_until_due == NOT_NAMED)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("days_until_due must be given with collection_method send_invoice")));
}

QUERY(
	had_trial,
	"SELECT FROM billing.subscriptions WHERE organization_id = $1 AND plan_group = $2 AND trial_start IS NOT NULL LIMIT 1",
	TEXTOID, TEXTOID);

/* The days of trial: as named; else the plan's, once per organisation and group. */
static int
trial_days_for(const SubscribeTerms *terms, const Customer *customer, const Price *price)
{
	if (terms->trial_days != NOT_NAMED)
		return terms->trial_days;
	if (price->plan_trial_days > 0 &&
		RUN(had_trial, arg_text(customer->organization_id), arg_text(price->plan_group)) > 0)
		return 0;
	return price->plan_trial_days;
}

static Jsonb *
create_arguments(const SubscribeTerms *terms, int trial_days)
{
	JsonBuilder b;

	json_open(&b);
	if (trial_days > 0)
		json_add_int(&b, "trial_days", trial_days);
	json_add_text(&b, "collection_method", terms->collection_method);
	if (terms->days_until_due != NOT_NAMED)
		json_add_int(&b, "days_until_due", terms->days_until_due);
	json_add_time(&b, "cancel_at", terms->cancel_at);
	json_add_text(&b, "trial_end_behavior", terms->trial_end_behavior);
	if (terms->off_session != NOT_NAMED)
		json_add_bool(&b, "off_session", terms->off_session != 0);
	return json_close(&b);
}

QUERY(supersede,
	  "UPDATE billing.subscriptions SET superseded_by = $2, updated_at = now() WHERE id = $1",
	  UUIDOID, UUIDOID);

/*
 * A live subscription of the group refuses a second one.  One that waits for
 * its first payment gives way, but not while the provider has not said what
 * became of it: two clicks are one subscription.
 */
static Subscription *
subscription_in_the_way(const Customer *customer, const Price *price)
{
	Subscription *live;
	bool incomplete;

	if (RUN(live_subscription, arg_text(customer->organization_id), arg_text(price->plan_group)) ==
		0)
		return NULL;
	live = subscription_from_row();
	incomplete = strcmp(live->status, "incomplete") == 0;
	if (incomplete)
		(void) outbox_give_up(live->id, OPERATION_SUBSCRIPTION_CREATE);
	if (!incomplete || outbox_pending(live->id, OPERATION_SUBSCRIPTION_CREATE) != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_JB_STATE),
			 errmsg("organization \"%s\" has a subscription in plan group \"%s\"",
					customer->organization_id, price->plan_group),
			 errdetail("Subscription %s is %s.", uuid_text(live->id), live->status),
			 outbox_pending(live->id, OPERATION_SUBSCRIPTION_CANCEL) != NULL
				 ? errhint("It is being canceled: wait for it by billing.await().")
			 : incomplete
				 ? errhint(
					   "Wait for it by billing.await(), or give it up by billing.cancel_request().")
				 : errhint(
					   "Use billing.update_subscription() to change its plan, or billing.cancel_subscription() first.")));
	return live;
}

QUERY(
	insert_subscription,
	"INSERT INTO billing.subscriptions (id, customer_id, organization_id, plan_id, plan_group, price_id, quantity, "
	"status, provider, account, livemode, payment_method_id, metadata, current_period_start) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, coalesce($13, '{}'), $14)",
	UUIDOID, UUIDOID, TEXTOID, UUIDOID, TEXTOID, UUIDOID, INT8OID, TEXTOID, TEXTOID, TEXTOID,
	BOOLOID, UUIDOID, JSONBOID, TIMESTAMPTZOID);

/* Two sessions that both found nothing meet at the unique index. */
static void
insert_row(const pg_uuid_t *id, const SubscribeTerms *terms, const Customer *customer,
		   const Account *account, const Price *price, const pg_uuid_t *payment_method_id,
		   bool free)
{
	RUN(insert_subscription, arg_uuid(id), arg_uuid(customer->id),
		arg_text(customer->organization_id), arg_uuid(price->plan_id), arg_text(price->plan_group),
		arg_uuid(price->id), arg_int(terms->quantity), arg_text(free ? "active" : "incomplete"),
		arg_text(account->provider), arg_text(account->account), arg_bool(account->livemode),
		arg_uuid(payment_method_id), arg_json(terms->metadata),
		free ? arg_time(clock_now(customer->organization_id)) : arg_null());
	event_record(free ? "subscription.active" : "subscription.created", "subscription", id,
				 customer->organization_id, NULL, free ? "active" : "incomplete");
}

static void
give_way(const Subscription *old, const pg_uuid_t *successor)
{
	JsonBuilder b;

	RUN(supersede, arg_uuid(old->id), arg_uuid(successor));
	if (old->provider_id == NULL)
	{
		subscription_end_here(old);
		return;
	}
	json_open(&b);
	outbox_enqueue(account_get(old->provider, old->account), OPERATION_SUBSCRIPTION_CANCEL, old->id,
				   old->customer_id, json_close(&b), NULL);
}

static pg_uuid_t *
subscription_create(const SubscribeTerms *terms, const Customer *customer, const Account *account)
{
	Price *price = price_choose(
		&(PriceChoice){.plan = terms->plan,
					   .price = terms->price,
					   .amount = terms->amount,
					   .interval = terms->interval,
					   .currency = terms->currency != NULL ? terms->currency : customer->currency,
					   .customer_id = customer->id});
	Subscription *old = subscription_in_the_way(customer, price);
	bool free = price->amount == 0;
	pg_uuid_t *id = new_id();
	pg_uuid_t *method = NULL;
	pg_uuid_t *blocked_by;

	customer_check_mode(customer, account);
	check_cancel_at(customer->organization_id, terms->cancel_at);
	if (free)
		refuse_dates_of_free(0, terms->cancel_at);
	if (strcmp(price->interval, "one_time") == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the price of plan \"%s\" is paid once", terms->plan),
			 errhint(
				 "A subscription needs a price with an interval; see billing.create_price().")));
	if (terms->payment_method != NULL)
		method = payment_method_attach(customer, account, terms->payment_method, -1, NULL);
	if (old != NULL)
	{
		/* out of the index before the successor is in it */
		RUN(supersede, arg_uuid(old->id), arg_uuid(old->id));
	}
	insert_row(id, terms, customer, account, price, method, free);
	if (old != NULL)
		give_way(old, id);
	if (free)
		return id;

	customer_ensure_at(customer, account);
	blocked_by = price_ensure_at(price, account);
	outbox_enqueue(account, OPERATION_SUBSCRIPTION_CREATE, id, customer->id,
				   create_arguments(terms, trial_days_for(terms, customer, price)), blocked_by);
	return id;
}

/* From a trigger of the application's table: the plan that every new customer gets. */
pg_uuid_t *
subscription_create_default(const Customer *customer, const char *plan)
{
	SubscribeTerms terms = {.plan = plan,
							.trial_days = NOT_NAMED,
							.quantity = 1,
							.amount = NO_AMOUNT,
							.days_until_due = NOT_NAMED,
							.off_session = NOT_NAMED};

	return subscription_create(&terms, customer,
							   account_get(customer->provider, customer->account));
}

static void
refuse_local(const char *managed_by)
{
	check_word("managed_by", managed_by, managed_words);
	if (managed_by != NULL && strcmp(managed_by, "local") == 0)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("subscriptions that are billed by this database are not supported"),
						errhint("Leave managed_by out: the provider bills.")));
}

SQL_FUNCTION(billing_subscribe)
{
	char *organization_id = ARG_TEXT(0);
	SubscribeTerms terms = {
		.plan = ARG_TEXT(1),
		.payment_method = ARG_TEXT(2),
		.trial_days = ARG_INT4(3, NOT_NAMED),
		.quantity = ARG_INT(4, 1),
		.currency = ARG_TEXT(5),
		.price = ARG_UUID(6),
		.amount = ARG_INT(7, NO_AMOUNT),
		.interval = ARG_TEXT(8),
		.collection_method = ARG_TEXT(9),
		.days_until_due = ARG_INT4(10, NOT_NAMED),
		.cancel_at = ARG_TIME(11),
		.trial_end_behavior = ARG_TEXT(12),
		.off_session = PG_ARGISNULL(13) ? NOT_NAMED : PG_GETARG_BOOL(13),
		.metadata = ARG_JSON(15),
	};
	char *managed_by = ARG_TEXT(14);
	char *provider = ARG_TEXT(16);
	char *account_name = ARG_TEXT(17);
	char *key = ARG_TEXT(18);
	KeyedArgument arguments[] = {
		{"plan", terms.plan},
		{"payment_method", terms.payment_method},
		{"trial_days", psprintf("%d", terms.trial_days)},
		{"quantity", psprintf(INT64_FORMAT, terms.quantity)},
		{"currency", terms.currency},
		{"price", terms.price == NULL ? NULL : uuid_text(terms.price)},
		{"amount", psprintf(INT64_FORMAT, terms.amount)},
		{"interval", terms.interval},
		{"collection_method", terms.collection_method},
		{"days_until_due", psprintf("%d", terms.days_until_due)},
		{"cancel_at", psprintf(INT64_FORMAT, terms.cancel_at)},
		{"trial_end_behavior", terms.trial_end_behavior},
		{"off_session", psprintf("%d", terms.off_session)},
		{"managed_by", managed_by},
		{"metadata", terms.metadata == NULL ? NULL : json_string(terms.metadata)},
		{"provider", provider},
		{"account", account_name},
	};
	Customer *customer;
	pg_uuid_t *id;

	db_open();
	check_subscribe_terms(&terms);
	check_given("organization_id", organization_id != NULL);
	refuse_local(managed_by);
	customer = customer_of_organization(organization_id, true);
	if (customer == NULL)
		unknown_object("customer of organization", organization_id,
					   "Use billing.create_customer() first.");
	id = idempotency_find("subscribe", organization_id, key, arguments, lengthof(arguments));
	if (id == NULL)
	{
		id = subscription_create(
			&terms, customer,
			account_get(provider != NULL ? provider : customer->provider,
						account_name != NULL ? account_name : customer->account));
		idempotency_store("subscribe", organization_id, key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

/* ---- change ---- */

typedef struct UpdateTerms
{
	const char *plan;
	int64 quantity; /* 0: unchanged */
	const char *proration_behavior;
	const pg_uuid_t *price;
	int64 amount; /* NO_AMOUNT: not named */
	const char *payment_method;
	TimestampTz proration_date;
	TimestampTz trial_end;
	TimestampTz cancel_at;
} UpdateTerms;

static void
check_update_terms(const UpdateTerms *terms)
{
	check_word("proration_behavior", terms->proration_behavior, proration_words);
	if (terms->quantity < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("quantity must be at least 1")));
	if (TIMESTAMP_NOT_FINITE(terms->trial_end) || TIMESTAMP_NOT_FINITE(terms->proration_date))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("trial_end and proration_date cannot be infinite")));
	if (terms->plan == NULL && terms->quantity == 0 && terms->price == NULL &&
		terms->amount == NO_AMOUNT && terms->payment_method == NULL && terms->trial_end == 0 &&
		terms->cancel_at == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("nothing to change is named"),
			 errhint(
				 "Pass plan, price, amount, quantity, payment_method, trial_end or cancel_at.")));
}

/* The price after the change: NULL when it stays. */
static Price *
changed_price(const UpdateTerms *terms, const Subscription *s)
{
	Price *present = price_load(s->price_id);
	Price *chosen;

	if (terms->plan == NULL && terms->price == NULL && terms->amount == NO_AMOUNT)
		return NULL;
	chosen = price_choose(&(PriceChoice){.plan = terms->plan != NULL ? terms->plan : present->plan,
										 .price = terms->price,
										 .amount = terms->amount,
										 .interval = NULL,
										 .currency = present->currency,
										 .customer_id = s->customer_id});
	if (strcmp(chosen->plan_group, s->plan_group) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("plan \"%s\" is in group \"%s\", the subscription in group \"%s\"",
							   chosen->plan, chosen->plan_group, s->plan_group),
						errhint("Plans of another group are subscribed to beside this one.")));
	if (strcmp(chosen->currency, present->currency) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a subscription in %s cannot change to a price in %s",
							   present->currency, chosen->currency)));
	return uuid_equal(chosen->id, present->id) ? NULL : chosen;
}

static Jsonb *
update_arguments(const UpdateTerms *terms, const Price *price, const pg_uuid_t *method)
{
	JsonBuilder b;

	json_open(&b);
	if (price != NULL)
		json_add_text(&b, "price_id", uuid_text(price->id));
	if (terms->quantity > 0)
		json_add_int(&b, "quantity", terms->quantity);
	json_add_text(&b, "proration_behavior", terms->proration_behavior);
	json_add_time(&b, "proration_date", terms->proration_date);
	json_add_time(&b, "trial_end", terms->trial_end);
	json_add_time(&b, "cancel_at", terms->cancel_at);
	if (method != NULL)
		json_add_text(&b, "payment_method_id", uuid_text(method));
	return json_close(&b);
}

QUERY(
	change_free,
	"UPDATE billing.subscriptions SET plan_id = coalesce($2, plan_id), price_id = coalesce($3, price_id), "
	"quantity = coalesce($4, quantity), payment_method_id = coalesce($5, payment_method_id), "
	"current_period_start = $6, status = $7, updated_at = now() WHERE id = $1",
	UUIDOID, UUIDOID, UUIDOID, INT8OID, UUIDOID, TIMESTAMPTZOID, TEXTOID);

/*
 * A free subscription that no provider knows: another free plan at once; a
 * paid one is made at the provider now, and the organisation keeps what it
 * has until that is confirmed: the row turns to the paid plan then.
 */
static void
update_free(const UpdateTerms *terms, const Subscription *s, const Customer *customer,
			const Account *account, const Price *price, const pg_uuid_t *method)
{
	JsonBuilder b;

	if (price == NULL || price->amount == 0)
	{
		refuse_dates_of_free(terms->trial_end, terms->cancel_at);
		RUN(change_free, arg_uuid(s->id), price == NULL ? arg_null() : arg_uuid(price->plan_id),
			price == NULL ? arg_null() : arg_uuid(price->id),
			terms->quantity > 0 ? arg_int(terms->quantity) : arg_null(), arg_uuid(method),
			arg_time(clock_now(s->organization_id)), arg_text("active"));
		event_record("subscription.updated", "subscription", s->id, s->organization_id, s->status,
					 "active");
		return;
	}
	customer_ensure_at(customer, account);
	json_open(&b);
	json_add_text(&b, "price_id", uuid_text(price->id));
	json_add_int(&b, "quantity", terms->quantity > 0 ? terms->quantity : s->quantity);
	json_add_bool(&b, "all_or_nothing", true);
	if (method != NULL)
		json_add_text(&b, "payment_method_id", uuid_text(method));
	json_add_time(&b, "trial_end", terms->trial_end);
	json_add_time(&b, "cancel_at", terms->cancel_at);
	outbox_enqueue(account, OPERATION_SUBSCRIPTION_CREATE, s->id, s->customer_id, json_close(&b),
				   price_ensure_at(price, account));
}

SQL_FUNCTION(billing_update_subscription)
{
	pg_uuid_t *id = ARG_UUID(0);
	UpdateTerms terms = {
		.plan = ARG_TEXT(1),
		.quantity = PG_ARGISNULL(2) ? 0 : Max(PG_GETARG_INT64(2), -1),
		.proration_behavior = PG_ARGISNULL(3) ? "create_prorations" : ARG_TEXT(3),
		.price = ARG_UUID(4),
		.amount = ARG_INT(5, NO_AMOUNT),
		.payment_method = ARG_TEXT(6),
		.proration_date = ARG_TIME(7),
		.trial_end = ARG_TIME(8),
		.cancel_at = ARG_TIME(9),
	};
	Subscription *s;
	Customer *customer;
	Account *account;
	Price *price;
	pg_uuid_t *method = NULL;

	db_open();
	if (!PG_ARGISNULL(2) && terms.quantity == 0)
		terms.quantity = -1;
	check_update_terms(&terms);
	s = subscription_load_locked(id);
	require_alive(s);
	check_cancel_at(s->organization_id, terms.cancel_at);
	customer = customer_load(s->customer_id, false);
	account = account_get(s->provider, s->account);
	price = changed_price(&terms, s);
	if (terms.payment_method != NULL)
		method = payment_method_attach(customer, account, terms.payment_method, -1, NULL);
	if (!at_provider(s))
		update_free(&terms, s, customer, account, price, method);
	else
		outbox_enqueue(account, OPERATION_SUBSCRIPTION_UPDATE, s->id, s->customer_id,
					   update_arguments(&terms, price, method),
					   price == NULL ? NULL : price_ensure_at(price, account));
	db_close();
	PG_RETURN_VOID();
}

/* ---- end, and back ---- */

QUERY(
	end_here,
	"UPDATE billing.subscriptions SET status = 'canceled', canceled_at = $2, ended_at = $2, updated_at = now() "
	"WHERE id = $1",
	UUIDOID, TIMESTAMPTZOID);

/* Ends a subscription that no provider knows. */
void
subscription_end_here(const Subscription *s)
{
	RUN(end_here, arg_uuid(s->id), arg_time(clock_now(s->organization_id)));
	event_record("subscription.canceled", "subscription", s->id, s->organization_id, s->status,
				 "canceled");
}

static Jsonb *
cancel_arguments(int prorate, int invoice_now, const char *reason)
{
	JsonBuilder b;

	json_open(&b);
	if (prorate >= 0)
		json_add_bool(&b, "prorate", prorate > 0);
	if (invoice_now >= 0)
		json_add_bool(&b, "invoice_now", invoice_now > 0);
	json_add_text(&b, "reason", reason);
	return json_close(&b);
}

static void
cancel(const Subscription *s, bool at_period_end, const Jsonb *arguments, const char *comment)
{
	bool can_wait = strcmp(s->status, "active") == 0 || strcmp(s->status, "trialing") == 0;
	Operation operation = at_period_end && can_wait ? OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END
													: OPERATION_SUBSCRIPTION_CANCEL;
	pg_uuid_t *id;

	if (subscription_ended(s->status) ||
		outbox_pending(s->id, OPERATION_SUBSCRIPTION_CANCEL) != NULL)
		return;
	if (!at_provider(s))
	{
		subscription_end_here(s);
		return;
	}
	/* never sent, given up or refused: there is nothing that could be cancelled there */
	if (s->provider_id == NULL && outbox_withdraw_creation(s->id, OPERATION_SUBSCRIPTION_CREATE))
	{
		subscription_end_here(s);
		outbox_promote(uuid_array(&unconstify(Subscription *, s)->customer_id, 1));
		worker_wake_at_commit();
		return;
	}
	id = outbox_enqueue(account_get(s->provider, s->account), operation, s->id, s->customer_id,
						arguments, NULL);
	if (comment != NULL)
		outbox_keep_private(id, "comment", comment);
}

SQL_FUNCTION(billing_cancel_subscription)
{
	pg_uuid_t *id = ARG_UUID(0);
	bool at_period_end = ARG_BOOL(1, true);
	int prorate = PG_ARGISNULL(2) ? -1 : PG_GETARG_BOOL(2);
	int invoice_now = PG_ARGISNULL(3) ? -1 : PG_GETARG_BOOL(3);
	char *reason = ARG_TEXT(4);
	char *comment = ARG_TEXT(5);

	db_open();
	check_no_card("comment", comment);
	check_no_card("reason", reason);
	cancel(subscription_load_locked(id), at_period_end,
		   cancel_arguments(prorate, invoice_now, reason), comment);
	db_close();
	PG_RETURN_VOID();
}

QUERY(
	alive_of_customer,
	"SELECT id FROM billing.subscriptions WHERE customer_id = $1 AND status NOT IN ('canceled', 'incomplete_expired')",
	UUIDOID);

/* The caller holds the customer's lock. */
void
subscription_cancel_all(const pg_uuid_t *customer_id)
{
	Rows alive;

	RUN(alive_of_customer, arg_uuid(customer_id));
	alive = rows_keep();
	for (int64 i = 0; i < rows_count(alive); i++)
		cancel(subscription_load(rows_uuid(alive, i, 1)), false, cancel_arguments(-1, -1, NULL),
			   NULL);
}

SQL_FUNCTION(billing_resume_subscription)
{
	pg_uuid_t *id = ARG_UUID(0);
	Subscription *s;
	JsonBuilder b;
	bool paused;

	db_open();
	s = subscription_load_locked(id);
	require_alive(s);
	paused = strcmp(s->status, "paused") == 0;
	if (!paused && !s->cancel_at_period_end &&
		outbox_pending(s->id, OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END) == NULL)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("subscription \"%s\" is neither paused nor about to be canceled",
							   uuid_text(id)),
						errdetail("Its status is %s.", s->status)));
	json_open(&b);
	outbox_enqueue(account_get(s->provider, s->account),
				   paused ? OPERATION_SUBSCRIPTION_RESUME : OPERATION_SUBSCRIPTION_UNCANCEL, s->id,
				   s->customer_id, json_close(&b), NULL);
	db_close();
	PG_RETURN_VOID();
}

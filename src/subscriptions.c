/*-------------------------------------------------------------------------
 *
 * subscriptions.c
 *	  Subscriptions: what callers ask for once there is one.
 *
 * How one is made stands in subscribe.c.
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
#include "collection.h"
#include "errors.h"
#include "json.h"
#include "managers.h"
#include "scheduled_changes.h"

static const char *const effective_words[] = {"now", "period_end", NULL};
static const char *const pause_words[] = {"void", "keep_as_draft", "mark_uncollectible", NULL};
static const char *const proration_words[] = {"create_prorations", "none", "always_invoice", NULL};

/* ---- rows ---- */

#define SUBSCRIPTION_COLUMNS                                                                                               \
	"s.id, s.customer_id, s.organization_id, s.plan_id, s.plan_group, s.price_id, s.quantity, s.status, "                  \
	"s.provider, s.account, s.provider_status, s.payment_method_id, s.cancel_at_period_end, s.superseded_by IS NOT NULL, " \
	"r.provider_id, s.trial_end, s.livemode, s.current_period_end, s.pause_at_period_end, s.managed_by = 'local', "        \
	"(SELECT h.due_at FROM billing.scheduled_changes AS h WHERE h.subscription_id = s.id AND h.kind = 'start' "            \
	"AND h.state = 'pending')"

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
	s->current_period_end = row_time(0, 18);
	s->pause_at_period_end = row_bool(0, 19);
	s->local = row_bool(0, 20);
	s->starts_at = row_time(0, 21);
	return s;
}

Subscription *
subscription_load(const pg_uuid_t *id)
{
	return RUN(load_subscription, arg_uuid(id)) == 0 ? NULL : subscription_from_row();
}

Subscription *
subscription_of_group(const char *organization_id, const char *plan_group)
{
	return RUN(live_subscription, arg_text(organization_id), arg_text(plan_group)) == 0
			   ? NULL
			   : subscription_from_row();
}

/*
 * A group may be of several customers of the organisation, whose news come side
 * by side.  A webhook waits, an answer does not; see news_lock_customer().
 */
#define OTHERS_OF_GROUP                                                                              \
	"SELECT FROM billing.subscriptions WHERE organization_id = $1 AND plan_group = $2 AND id <> $3 " \
	"AND status NOT IN ('canceled', 'incomplete_expired') ORDER BY id FOR NO KEY UPDATE"

QUERY(wait_for_others, OTHERS_OF_GROUP, TEXTOID, TEXTOID, UUIDOID);
QUERY(take_others, OTHERS_OF_GROUP " NOWAIT", TEXTOID, TEXTOID, UUIDOID);

/*
 * What lives comes before what waits for its first payment, the older by the
 * provider's clock before the younger: whoever told it first.  One that gave
 * way comes last, and while it only waits it is no conflict.
 */
#define RANKED_GROUP                                                                                                  \
	"WITH ranked AS (SELECT s.id, row_number() OVER (ORDER BY s.superseded_by IS NOT NULL, s.status = 'incomplete', " \
	"coalesce(s.provider_created_at, s.created_at), r.provider_id, s.id) > 1 "                                        \
	"AND (s.superseded_by IS NULL OR s.status <> 'incomplete') AS conflict "                                          \
	"FROM billing.subscriptions AS s LEFT JOIN billing.provider_refs AS r ON r.object_id = s.id "                     \
	"AND r.object_type = 'subscription' AND r.provider = s.provider AND r.account = s.account "                       \
	"WHERE s.organization_id = $1 AND s.plan_group = $2 "                                                             \
	"AND s.status NOT IN ('canceled', 'incomplete_expired')) "

/* First these, so that there are never two without it (subscriptions_one_live). */
QUERY(come_second,
	  RANKED_GROUP
	  "UPDATE billing.subscriptions AS s SET conflict = true, updated_at = now() FROM ranked AS k "
	  "WHERE s.id = k.id AND k.conflict AND NOT s.conflict",
	  TEXTOID, TEXTOID);
/* One that gave way and lives alone has its place back. */
QUERY(
	come_first,
	RANKED_GROUP
	"UPDATE billing.subscriptions AS s SET conflict = false, "
	"superseded_by = CASE WHEN s.status = 'incomplete' THEN s.superseded_by END, updated_at = now() FROM ranked AS k "
	"WHERE s.id = k.id AND NOT k.conflict "
	"AND (s.conflict OR (s.superseded_by IS NOT NULL AND s.status <> 'incomplete'))",
	TEXTOID, TEXTOID);

void
subscription_settle_group(const Subscription *s, const News *news)
{
	bool answer = news != NULL && news->event_id[0] == '\0';

	if (query_run(answer ? &take_others : &wait_for_others,
				  (const Arg[]){arg_text(s->organization_id), arg_text(s->plan_group),
								arg_uuid(s->id)}) > 0)
		RUN(come_second, arg_text(s->organization_id), arg_text(s->plan_group));
	RUN(come_first, arg_text(s->organization_id), arg_text(s->plan_group));
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
void
subscription_check_cancel_at(const char *organization_id, TimestampTz cancel_at)
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
void
subscription_refuse_dates_of_free(TimestampTz trial_end, TimestampTz cancel_at)
{
	if (trial_end != 0 || cancel_at != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("a free subscription has no %s",
							   trial_end != 0 ? "trial" : "end that is planned"),
						errhint("Use billing.cancel_subscription() when it ends.")));
}

/* ---- change ---- */

static bool
names_items(const Jsonb *items)
{
	return items != NULL && !(JB_ROOT_IS_OBJECT(items) && JB_ROOT_COUNT(items) == 0);
}

static void
check_update_terms(const UpdateTerms *terms)
{
	check_no_card("payment_method", terms->payment_method);
	check_no_card("coupon", terms->coupon);
	check_word("proration_behavior", terms->proration_behavior, proration_words);
	check_word("effective", terms->effective, effective_words);
	if (terms->has_quantity && terms->quantity <= 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("quantity must be at least 1"),
			 errdetail("It is " INT64_FORMAT ".", terms->quantity),
			 errhint(
				 "No seats at all are items => '{\"seats\": 0}'; billing.cancel_subscription() ends a subscription.")));
	if (TIMESTAMP_NOT_FINITE(terms->trial_end) || TIMESTAMP_NOT_FINITE(terms->proration_date))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trial_end and proration_date cannot be infinite"),
				 errdetail("%s is.",
						   TIMESTAMP_NOT_FINITE(terms->trial_end) ? "trial_end" : "proration_date"),
				 errhint("Both are moments.")));
	if (terms->plan == NULL && terms->quantity == 0 && terms->price == NULL &&
		terms->amount == NO_AMOUNT && terms->payment_method == NULL && terms->trial_end == 0 &&
		terms->cancel_at == 0 && terms->coupon == NULL && !names_items(terms->items))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("nothing to change is named"),
			 errhint(
				 "Pass plan, price, amount, quantity, items, payment_method, coupon, trial_end or cancel_at.")));
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
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("a subscription in %s cannot change to a price in %s", present->currency,
					chosen->currency),
			 errdetail("Price \"%s\" is one of plan \"%s\".", uuid_text(chosen->id), chosen->plan),
			 errhint("Name a price in %s, or cancel and subscribe anew.", present->currency)));
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
	if (strcmp(terms->effective, "now") != 0)
		json_add_text(&b, "effective", terms->effective);
	json_add_text(&b, "coupon", terms->coupon);
	if (method != NULL)
		json_add_text(&b, "payment_method_id", uuid_text(method));
	return json_close(&b);
}

QUERY(
	change_free,
	"UPDATE billing.subscriptions SET plan_id = coalesce($2, plan_id), price_id = coalesce($3, price_id), "
	"quantity = coalesce($4, quantity), payment_method_id = coalesce($5, payment_method_id), "
	"current_period_start = $6, updated_at = now() WHERE id = $1",
	UUIDOID, UUIDOID, UUIDOID, INT8OID, UUIDOID, TIMESTAMPTZOID);

/* What waits for its first payment is not had for a change of quantity. */
static void
refuse_unpaid(const Subscription *s)
{
	if (strcmp(s->status, "incomplete") == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_JB_STATE),
			 errmsg("subscription \"%s\" is incomplete and cannot be changed", uuid_text(s->id)),
			 errdetail("Provider \"%s\" does not know it: it waits for its buyer.", s->provider),
			 errhint("Use billing.subscribe() or billing.create_checkout_session(): a new one "
					 "takes its place.")));
}

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

	refuse_unpaid(s);
	if (price == NULL || price_is_free(price))
	{
		subscription_refuse_dates_of_free(terms->trial_end, terms->cancel_at);
		RUN(change_free, arg_uuid(s->id), price == NULL ? arg_null() : arg_uuid(price->plan_id),
			price == NULL ? arg_null() : arg_uuid(price->id),
			terms->quantity > 0 ? arg_int(terms->quantity) : arg_null(), arg_uuid(method),
			arg_time(clock_now(s->organization_id)));
		event_record("subscription.updated", "subscription", s->id, s->organization_id, s->status,
					 s->status);
		return;
	}
	checkout_close_pages(s->id);
	customer_ensure_at(customer, account);
	json_open(&b);
	json_add_text(&b, "price_id", uuid_text(price->id));
	json_add_int(&b, "amount", price->amount);
	json_add_text(&b, "currency", price->currency);
	price_add_interval(&b, price);
	json_add_int(&b, "quantity", terms->quantity > 0 ? terms->quantity : s->quantity);
	json_add_text(&b, "coupon", terms->coupon);
	json_add_bool(&b, "all_or_nothing", true);
	if (method != NULL)
		json_add_text(&b, "payment_method_id", uuid_text(method));
	json_add_time(&b, "trial_end", terms->trial_end);
	json_add_time(&b, "cancel_at", terms->cancel_at);
	outbox_enqueue(account, OPERATION_SUBSCRIPTION_CREATE, s->id, s->customer_id, json_close(&b),
				   price_ensure_at(price, account));
}

/* A provider knows one price and its quantity. */
static void
refuse_items(const Subscription *s, const Jsonb *items)
{
	if (items != NULL)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("subscription \"%s\" has no components", uuid_text(s->id)),
						errdetail("Provider \"%s\" bills it.", s->provider),
						errhint("Components are of subscriptions with managed_by => 'local'.")));
}

UpdateTerms
subscription_update_terms(FunctionCallInfo fcinfo)
{
	UpdateTerms terms = {
		.plan = ARG_TEXT(1),
		.quantity = ARG_INT(2, 0),
		.has_quantity = !PG_ARGISNULL(2),
		.proration_behavior = PG_ARGISNULL(3) ? "create_prorations" : ARG_TEXT(3),
		.price = ARG_UUID(4),
		.amount = ARG_INT(5, NO_AMOUNT),
		.payment_method = ARG_TEXT(6),
		.proration_date = ARG_TIME(7),
		.trial_end = ARG_TIME(8),
		.cancel_at = ARG_TIME(9),
		.effective = PG_ARGISNULL(10) ? "now" : ARG_TEXT(10),
		.coupon = ARG_TEXT(11),
		.items = ARG_JSON(12),
	};

	check_update_terms(&terms);
	return terms;
}

SQL_FUNCTION(billing_update_subscription)
{
	pg_uuid_t *id = ARG_UUID(0);
	UpdateTerms terms;
	Subscription *s;
	Customer *customer;
	Account *account;
	Price *price;
	pg_uuid_t *method = NULL;

	db_open();
	terms = subscription_update_terms(fcinfo);
	s = subscription_load_locked(id);
	require_alive(s);
	subscription_check_cancel_at(s->organization_id, terms.cancel_at);
	if (s->local)
	{
		local_update(s, &terms);
		db_close();
		PG_RETURN_VOID();
	}
	refuse_items(s, terms.items);
	customer = customer_load(s->customer_id, false);
	account = account_get(s->provider, s->account);
	price = changed_price(&terms, s);
	if (price != NULL || terms.quantity > 0)
		manager_check_provider(price != NULL ? price : price_load(s->price_id),
							   terms.quantity > 0 ? terms.quantity : s->quantity);
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
	"UPDATE billing.subscriptions SET status = 'canceled', canceled_at = $2, ended_at = $2, conflict = false, updated_at = now() "
	"WHERE id = $1 AND status NOT IN ('canceled', 'incomplete_expired')",
	UUIDOID, TIMESTAMPTZOID);

/* A page that is closed ends what it was to sell: that is over then. */
void
subscription_end_here(const Subscription *s)
{
	if (RUN(end_here, arg_uuid(s->id), arg_time(clock_now(s->organization_id))) == 0)
		return;
	event_record("subscription.canceled", "subscription", s->id, s->organization_id, s->status,
				 "canceled");
	subscription_settle_group(s, NULL);
	checkout_close_pages(s->id);
}

static Jsonb *
cancel_arguments(const CancelTerms *terms)
{
	JsonBuilder b;

	json_open(&b);
	if (terms->prorate >= 0)
		json_add_bool(&b, "prorate", terms->prorate > 0);
	if (terms->invoice_now >= 0)
		json_add_bool(&b, "invoice_now", terms->invoice_now > 0);
	json_add_text(&b, "reason", terms->reason);
	return json_close(&b);
}

/* The period that is paid goes on to its end: there is nothing to prorate or to invoice. */
static void
refuse_settling(const CancelTerms *terms)
{
	const char *asked = terms->prorate > 0       ? "prorate"
						: terms->invoice_now > 0 ? "invoice_now"
												 : NULL;

	if (asked != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s is for a subscription that ends now", asked),
						errhint("Pass at_period_end => false, or leave %s out.", asked)));
}

static void
cancel(const Subscription *s, const CancelTerms *terms)
{
	bool can_wait = strcmp(s->status, "active") == 0 || strcmp(s->status, "trialing") == 0;
	Operation operation = terms->at_period_end && can_wait
							  ? OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END
							  : OPERATION_SUBSCRIPTION_CANCEL;
	Account *account;
	pg_uuid_t *id;

	if (subscription_ended(s->status) || outbox_under_way(s->id, OPERATION_SUBSCRIPTION_CANCEL))
		return;
	if (operation == OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END)
		refuse_settling(terms);
	if (s->local)
	{
		local_cancel(s, terms);
		return;
	}
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
	account = account_get(s->provider, s->account);
	if (operation == OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END &&
		emulate(s, account, operation, terms->reason, terms->comment))
		return;
	scheduled_changes_drop(s->id);
	id = outbox_enqueue(account, operation, s->id, s->customer_id, cancel_arguments(terms), NULL);
	if (terms->comment != NULL)
		outbox_keep_private(id, "comment", terms->comment);
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
	cancel(subscription_load_locked(id),
		   &(CancelTerms){at_period_end, prorate, invoice_now, reason, comment});
	db_close();
	PG_RETURN_VOID();
}

QUERY(
	alive_of_customer,
	"SELECT id FROM billing.subscriptions WHERE customer_id = $1 AND status NOT IN ('canceled', 'incomplete_expired')",
	UUIDOID);

/* The caller holds the customer's lock. */
void
subscription_cancel_all(const pg_uuid_t *customer_id, bool bill_usage)
{
	Rows alive;

	RUN(alive_of_customer, arg_uuid(customer_id));
	alive = rows_keep();
	for (int64 i = 0; i < rows_count(alive); i++)
	{
		const Subscription *s = subscription_load(rows_uuid(alive, i, 1));
		/* a provider bills what it bills */
		bool leave_out = !bill_usage && s->local;

		cancel(s, &(CancelTerms){.prorate = -1, .invoice_now = leave_out ? 0 : -1});
	}
}

QUERY(
	set_status_here,
	"UPDATE billing.subscriptions SET status = $2, resumes_at = NULL, updated_at = now() WHERE id = $1",
	UUIDOID, TEXTOID);

/* Of a subscription that no provider knows. */
static void
change_status_here(const Subscription *s, const char *status)
{
	RUN(set_status_here, arg_uuid(s->id), arg_text(status));
	event_record(psprintf("subscription.%s", status), "subscription", s->id, s->organization_id,
				 s->status, status);
}

static void
resume(const Subscription *s)
{
	Account *account = account_get(s->provider, s->account);
	bool paused = strcmp(s->status, "paused") == 0 || s->pause_at_period_end ||
				  outbox_pending(s->id, OPERATION_SUBSCRIPTION_PAUSE) != NULL;
	JsonBuilder b;

	if (!paused && !s->cancel_at_period_end &&
		!outbox_under_way(s->id, OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END))
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("subscription \"%s\" is neither paused nor about to be canceled",
						uuid_text(s->id)),
				 errdetail("Its status is %s.", s->status),
				 errhint("There is nothing to resume; billing.get_subscription() shows it.")));
	if (!at_provider(s))
		change_status_here(s, "active");
	else if (paused || !emulate(s, account, OPERATION_SUBSCRIPTION_UNCANCEL, NULL, NULL))
	{
		json_open(&b);
		outbox_enqueue(account,
					   paused ? OPERATION_SUBSCRIPTION_RESUME : OPERATION_SUBSCRIPTION_UNCANCEL,
					   s->id, s->customer_id, json_close(&b), NULL);
	}
}

SQL_FUNCTION(billing_resume_subscription)
{
	pg_uuid_t *id = ARG_UUID(0);
	Subscription *s;

	db_open();
	s = subscription_load_locked(id);
	require_alive(s);
	if (s->local)
		local_resume(s);
	else
		resume(s);
	db_close();
	PG_RETURN_VOID();
}

/* ---- pause ---- */

static void
check_pause(const Subscription *s, TimestampTz resumes_at, const char *behavior)
{
	require_alive(s);
	check_word("behavior", behavior, pause_words);
	if (resumes_at != 0 &&
		(TIMESTAMP_NOT_FINITE(resumes_at) || resumes_at <= clock_now(s->organization_id)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("resumes_at is not a time to come"),
						errdetail("resumes_at is %s.", timestamptz_to_str(resumes_at)),
						errhint("Leave it out to pause until billing.resume_subscription().")));
	if (strcmp(s->status, "active") != 0 && strcmp(s->status, "trialing") != 0 &&
		strcmp(s->status, "past_due") != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("subscription \"%s\" is %s and cannot be paused", uuid_text(s->id),
							   s->status),
						errhint("Only one that is active, trialing or past due is paused.")));
}

/* We make no invoices while it is paused: there is nothing to keep. */
static void
refuse_behavior(const Subscription *s, const char *behavior)
{
	if (behavior != NULL && strcmp(behavior, "void") != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("subscription \"%s\" makes no invoices while it is paused",
							   uuid_text(s->id)),
						errdetail("behavior is %s.", behavior),
						errhint("Leave behavior out: nothing is billed for a pause.")));
}

static void
pause_here(const Subscription *s, bool at_period_end, TimestampTz resumes_at)
{
	if (at_period_end || resumes_at != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("a free subscription has no period to pause for"),
						errhint("Leave at_period_end and resumes_at out.")));
	change_status_here(s, "paused");
}

SQL_FUNCTION(billing_pause_subscription)
{
	pg_uuid_t *id = ARG_UUID(0);
	bool at_period_end = ARG_BOOL(1, false);
	TimestampTz resumes_at = ARG_TIME(2);
	char *behavior = ARG_TEXT(3);
	Subscription *s;
	JsonBuilder b;

	db_open();
	s = subscription_load_locked(id);
	check_pause(s, resumes_at, behavior);
	if (s->local)
	{
		refuse_behavior(s, behavior);
		local_pause(s, at_period_end, resumes_at);
	}
	else if (!at_provider(s))
		pause_here(s, at_period_end, resumes_at);
	else if (!outbox_under_way(s->id, OPERATION_SUBSCRIPTION_PAUSE))
	{
		json_open(&b);
		json_add_bool(&b, "at_period_end", at_period_end);
		json_add_time(&b, "resumes_at", resumes_at);
		json_add_text(&b, "behavior", behavior);
		outbox_enqueue(account_get(s->provider, s->account), OPERATION_SUBSCRIPTION_PAUSE, s->id,
					   s->customer_id, json_close(&b), NULL);
	}
	db_close();
	PG_RETURN_VOID();
}

/* ---- a failed payment ---- */

SQL_FUNCTION(billing_retry_payment)
{
	pg_uuid_t *id = ARG_UUID(0);
	Subscription *s;
	JsonBuilder b;

	if (own_subscription_retry(id))
		PG_RETURN_VOID();
	db_open();
	s = subscription_load_locked(id);
	require_alive(s);
	if (strcmp(s->status, "past_due") != 0 && strcmp(s->status, "unpaid") != 0 &&
		strcmp(s->status, "incomplete") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("nothing of subscription \"%s\" is unpaid", uuid_text(s->id)),
				 errdetail("Its status is %s.", s->status),
				 errhint("Only one that is past_due, unpaid or incomplete is paid again; see "
						 "billing.list_invoices().")));
	if (!outbox_under_way(s->id, OPERATION_SUBSCRIPTION_RETRY_PAYMENT))
	{
		json_open(&b);
		outbox_enqueue(account_get(s->provider, s->account), OPERATION_SUBSCRIPTION_RETRY_PAYMENT,
					   s->id, s->customer_id, json_close(&b), NULL);
	}
	db_close();
	PG_RETURN_VOID();
}

/*-------------------------------------------------------------------------
 *
 * subscription_sync.c
 *	  Subscriptions between us and the providers: what a request says about
 *	  one, and what is taken over from what a provider says.
 *
 *-------------------------------------------------------------------------
 */
#include "subscriptions.h"

#include "json.h"
#include "keys.h"
#include "links.h"
#include "scheduled_changes.h"
#include "wire_amounts.h"

/* ---- to the provider ---- */

QUERY(
	default_method,
	"SELECT id FROM billing.payment_methods WHERE customer_id = $1 AND provider = $2 AND account = $3 "
	"AND is_default AND state = 'attached'",
	UUIDOID, TEXTOID, TEXTOID);
QUERY(method_state, "SELECT state, error_code FROM billing.payment_methods WHERE id = $1", UUIDOID);
QUERY(subscription_metadata, "SELECT metadata FROM billing.subscriptions WHERE id = $1", UUIDOID);
QUERY(note_error,
	  "UPDATE billing.subscriptions SET error_code = $2, updated_at = now() WHERE id = $1", UUIDOID,
	  TEXTOID);

/* The payment method of a request: named in it, else the subscription's own. */
static pg_uuid_t *
wanted_method(const OutboxRow *row, const Subscription *s)
{
	char *named = json_text(row->arguments, "payment_method_id");

	return named != NULL ? uuid_parse(named) : s->payment_method_id;
}

/*
 * The method's id at the provider.  False when it was refused: a subscription
 * is not made to be paid by a card that the provider did not take.
 */
static bool
method_at_provider(const OutboxRow *row, const pg_uuid_t *method, char **provider_id)
{
	*provider_id = NULL;
	if (method == NULL)
		return true;
	if (RUN(method_state, arg_uuid(method)) == 0 || strcmp(row_text(0, 1), "attached") != 0)
		return false;
	*provider_id = ref_find("payment_method", method, row->provider, row->account);
	return *provider_id != NULL;
}

static void
add_price(JsonBuilder *b, const OutboxRow *row, const Price *price, const char *provider_price)
{
	json_add_text(b, "price", provider_price != NULL ? provider_price : uuid_text(price->id));
	json_add_int(b, "amount", wire_price(row->provider, price->currency, price->amount));
	json_add_text(b, "currency", price->currency);
	price_add_interval(b, price);
}

/* The price that the request names, else the subscription's own. */
static Price *
wanted_price(const OutboxRow *row, const Subscription *s)
{
	char *named = json_text(row->arguments, "price_id");

	return price_load(named != NULL ? uuid_parse(named) : s->price_id);
}

static void
copy_members(JsonBuilder *b, const Jsonb *arguments, const char *const *names)
{
	for (int i = 0; names[i] != NULL; i++)
	{
		int64 number;

		if (!json_has(arguments, names[i]))
			continue;
		if (json_int(arguments, names[i], &number))
			json_add_int(b, names[i], number);
		else if (strcmp(json_text(arguments, names[i]), "true") == 0 ||
				 strcmp(json_text(arguments, names[i]), "false") == 0)
			json_add_bool(b, names[i], json_bool(arguments, names[i], false));
		else
			json_add_text(b, names[i], json_text(arguments, names[i]));
	}
}

static const char *const create_members[] = {
	"trial_days", "trial_end",          "collection_method", "days_until_due",
	"cancel_at",  "trial_end_behavior", "off_session",       "all_or_nothing",
	"coupon",     "automatic_tax",      "billing_anchor",    NULL};
static const char *const update_members[] = {"quantity",       "proration_behavior",
											 "proration_date", "trial_end",
											 "effective",      "coupon",
											 "cancel_at",      NULL};
static const char *const pause_members[] = {"at_period_end", "resumes_at", "behavior", NULL};
static const char *const cancel_members[] = {"prorate", "invoice_now", "reason", NULL};

QUERY(known_subscriptions,
	  "SELECT coalesce(jsonb_agg(r.provider_id ORDER BY r.provider_id), '[]') "
	  "FROM billing.subscriptions AS s JOIN billing.provider_refs AS r "
	  "ON r.object_id = s.id AND r.object_type = 'subscription' "
	  "WHERE s.customer_id = $1 AND r.provider = $2 AND r.account = $3",
	  UUIDOID, TEXTOID, TEXTOID);

/* By what we knew when it went out a look-up finds the one that is new. */
static void
add_known(JsonBuilder *b, const OutboxRow *row, const Subscription *s)
{
	json_add_json(b, "known",
				  outbox_known(row, &known_subscriptions,
							   (const Arg[]){arg_uuid(s->customer_id), arg_text(row->provider),
											 arg_text(row->account)}));
}

static Description
describe_create(const OutboxRow *row, const Subscription *s)
{
	const Provider *module = provider_find(row->provider);
	char *customer = ref_find("customer", s->customer_id, row->provider, row->account);
	Price *price = wanted_price(row, s);
	char *provider_price = ref_find("price", price->id, row->provider, row->account);
	char *method;
	int64 number;
	JsonBuilder b;

	if (subscription_ended(s->status) && (outbox_is_fresh(row) || s->provider_id != NULL))
		return (Description){OBSOLETE, NULL, "the subscription was canceled"};
	if (customer == NULL)
		return (Description){OBSOLETE, NULL, "the customer was never created there"};
	if (module->catalogue != CATALOGUE_NONE && provider_price == NULL)
		return (Description){NOT_YET, NULL, "the price does not exist there"};
	if (!method_at_provider(row, wanted_method(row, s), &method) && outbox_is_fresh(row))
	{
		RUN(note_error, arg_uuid(s->id), arg_text("payment_method_refused"));
		return (Description){OBSOLETE, NULL, "the payment method was refused"};
	}
	if (method == NULL && RUN(default_method, arg_uuid(s->customer_id), arg_text(row->provider),
							  arg_text(row->account)) > 0)
		method = ref_find("payment_method", row_uuid(0, 1), row->provider, row->account);

	json_open(&b);
	json_add_text(&b, "reference", uuid_text(s->id));
	json_add_text(&b, "organization_id", s->organization_id);
	json_add_text(&b, "customer", customer);
	add_price(&b, row, price, provider_price);
	json_add_int(&b, "quantity",
				 json_int(row->arguments, "quantity", &number) ? number : s->quantity);
	json_add_text(&b, "payment_method", method);
	json_add_bool(&b, "due_now",
				  price->amount > 0 && !json_has(row->arguments, "trial_days") &&
					  !json_has(row->arguments, "trial_end"));
	copy_members(&b, row->arguments, create_members);
	if (RUN(subscription_metadata, arg_uuid(s->id)) > 0)
		json_add_json(&b, "metadata", row_json(0, 1));
	add_known(&b, row, s);
	return (Description){READY, json_close(&b), NULL};
}

static Description
describe_update(const OutboxRow *row, const Subscription *s, JsonBuilder *b)
{
	char *named = json_text(row->arguments, "payment_method_id");
	char *method = NULL;

	if (named != NULL && !method_at_provider(row, uuid_parse(named), &method) &&
		outbox_is_fresh(row))
	{
		RUN(note_error, arg_uuid(s->id), arg_text("payment_method_refused"));
		return (Description){OBSOLETE, NULL, "the payment method was refused"};
	}
	json_add_text(b, "item", ref_find("subscription_item", s->id, row->provider, row->account));
	if (json_has(row->arguments, "price_id"))
	{
		Price *price = wanted_price(row, s);
		char *provider_price = ref_find("price", price->id, row->provider, row->account);

		if (provider_find(row->provider)->catalogue != CATALOGUE_NONE && provider_price == NULL)
			return (Description){NOT_YET, NULL, "the price does not exist there"};
		add_price(b, row, price, provider_price);
	}
	json_add_text(b, "payment_method", method);
	copy_members(b, row->arguments, update_members);
	return (Description){READY, json_close(b), NULL};
}

QUERY(unpaid_invoice,
	  "SELECT id FROM billing.invoices WHERE subscription_id = $1 AND status = 'open' "
	  "ORDER BY issued_at DESC, id DESC LIMIT 1",
	  UUIDOID);

/* What is tried again: the newest open invoice, with the method that would be charged. */
static void
add_unpaid(JsonBuilder *b, const OutboxRow *row, const Subscription *s)
{
	pg_uuid_t *method = s->payment_method_id;

	if (RUN(unpaid_invoice, arg_uuid(s->id)) > 0)
		json_add_text(b, "invoice",
					  ref_find("invoice", row_uuid(0, 1), row->provider, row->account));
	if (method == NULL && RUN(default_method, arg_uuid(s->customer_id), arg_text(row->provider),
							  arg_text(row->account)) > 0)
		method = row_uuid(0, 1);
	if (method != NULL)
		json_add_text(b, "payment_method",
					  ref_find("payment_method", method, row->provider, row->account));
}

Description
subscription_describe(const OutboxRow *row)
{
	Subscription *s = subscription_load(row->object_id);
	JsonBuilder b;

	if (s == NULL)
		elog(ERROR, "subscription %s is gone", uuid_text(row->object_id));
	if (row->operation == OPERATION_SUBSCRIPTION_CREATE)
		return describe_create(row, s);
	if (s->provider_id == NULL)
		return (Description){OBSOLETE, NULL, "the subscription was never created there"};
	if (subscription_ended(s->status) && row->operation != OPERATION_SUBSCRIPTION_FETCH)
		return (Description){OBSOLETE, NULL, "the subscription has ended"};
	json_open(&b);
	json_add_text(&b, "subscription", s->provider_id);
	json_add_text(&b, "customer",
				  ref_find("customer", s->customer_id, row->provider, row->account));
	json_add_text(&b, "reference", uuid_text(s->id));
	if (row->operation == OPERATION_SUBSCRIPTION_UPDATE)
		return describe_update(row, s, &b);
	json_add_text(&b, "provider_status",
				  s->provider_status != NULL ? s->provider_status : s->status);
	if (row->operation == OPERATION_SUBSCRIPTION_PAUSE)
		copy_members(&b, row->arguments, pause_members);
	else if (row->operation == OPERATION_SUBSCRIPTION_RETRY_PAYMENT)
		add_unpaid(&b, row, s);
	else
		copy_members(&b, row->arguments, cancel_members);
	if (row->carry != NULL)
		json_add_text(&b, "comment", json_text(row->carry, "comment"));
	return (Description){READY, json_close(&b), NULL};
}

void
subscription_refused(const OutboxRow *row, const CallResult *result)
{
	const char *code = result->error_code != NULL ? result->error_code : result->error_type;
	Subscription *s = subscription_load(row->object_id);

	RUN(note_error, arg_uuid(row->object_id), arg_text(code != NULL ? code : "refused"));
	if (s != NULL)
		event_record("subscription.refused", "subscription", s->id, s->organization_id, s->status,
					 s->status);
}

/* ---- from the provider ---- */

QUERY(transition_allowed,
	  "SELECT FROM billing.subscription_transitions WHERE from_state = $1 AND to_state = $2",
	  TEXTOID, TEXTOID);
QUERY(find_price, "SELECT id FROM billing.prices WHERE id = $1", UUIDOID);
QUERY(find_price_at,
	  "SELECT p.id FROM billing.provider_refs AS r JOIN billing.prices AS p ON p.id = r.object_id "
	  "WHERE r.provider_id = $1 AND r.object_type = 'price' AND r.provider = $2 AND r.account = $3",
	  TEXTOID, TEXTOID, TEXTOID);
QUERY(store_secret, "UPDATE billing.subscriptions SET client_secret = $2 WHERE id = $1", UUIDOID,
	  BYTEAOID);

/* A price by the provider's id, or by ours where the provider has no catalogue. */
static pg_uuid_t *
told_price(const char *price, const News *news)
{
	pg_uuid_t *ours;

	if (price == NULL)
		return NULL;
	if (RUN(find_price_at, arg_text(price), arg_text(news->provider), arg_text(news->account)) > 0)
		return row_uuid(0, 1);
	ours = uuid_parse(price);
	return ours != NULL && RUN(find_price, arg_uuid(ours)) > 0 ? ours : NULL;
}

static bool
live_status(const char *status)
{
	return strcmp(status, "incomplete") != 0 && !subscription_ended(status);
}

/*
 * A subscription that was made at the provider itself.  It becomes a row of
 * ours when we know its customer and price; beside another one of the group it
 * is a conflict until the group is settled.
 */
QUERY(
	adopt_row,
	"INSERT INTO billing.subscriptions (id, customer_id, organization_id, plan_id, plan_group, price_id, quantity, "
	"provider, account, livemode, conflict) "
	"SELECT $1, c.id, c.organization_id, p.plan_id, l.plan_group, p.id, $4, $5, $6, $7, "
	"EXISTS (SELECT FROM billing.subscriptions AS o WHERE o.organization_id = c.organization_id "
	"AND o.plan_group = l.plan_group AND o.status NOT IN ('canceled', 'incomplete_expired') "
	"AND NOT o.conflict AND o.superseded_by IS NULL) "
	"FROM billing.customers AS c, billing.prices AS p JOIN billing.plans AS l ON l.id = p.plan_id "
	"WHERE c.id = $2 AND p.id = $3",
	UUIDOID, UUIDOID, UUIDOID, INT8OID, TEXTOID, TEXTOID, BOOLOID);

/*
 * Some providers keep no reference of ours in a subscription.  One that they
 * tell of may then be one that we are just making, or tried to make with an
 * outcome that is still open (its answer will say so, or the look-up), or what
 * a checkout of ours has sold.
 */
QUERY(being_made,
	  "SELECT FROM billing.outbox WHERE ordering_key = $1 AND operation = 'subscription.create' "
	  "AND provider = $2 AND account = $3 AND (state <> 'dead' OR request IS NOT NULL) LIMIT 1",
	  UUIDOID, TEXTOID, TEXTOID);
QUERY(
	sold_by_checkout,
	"SELECT s.id FROM billing.subscriptions AS s "
	"JOIN billing.checkout_sessions AS c ON c.subscription_id = s.id "
	"WHERE s.customer_id = $1 AND s.price_id = $2 AND s.provider = $3 AND s.account = $4 "
	"AND s.status = 'incomplete' AND s.superseded_by IS NULL AND NOT EXISTS ("
	"SELECT FROM billing.provider_refs AS r WHERE r.object_id = s.id AND r.object_type = 'subscription') "
	"ORDER BY s.created_at DESC LIMIT 1",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID);

/*
 * What lives takes the place of what only waits for its buyer.  It stays beside
 * one that is just being made: both may come to live.
 */
static Subscription *
waiting_in_group(const pg_uuid_t *customer_id, const pg_uuid_t *price_id)
{
	Customer *customer = customer_load(customer_id, false);
	Price *price = price_load(price_id);
	Subscription *s = subscription_of_group(customer->organization_id, price->plan_group);

	if (s == NULL || strcmp(s->status, "incomplete") != 0 || s->provider_id != NULL ||
		s->starts_at != 0 || outbox_busy(s->id))
		return NULL;
	return s;
}

static Subscription *
insert_adopted(const pg_uuid_t *customer, const pg_uuid_t *price, int64 quantity,
			   const char *status, const News *news)
{
	Subscription *waits = live_status(status) ? waiting_in_group(customer, price) : NULL;
	pg_uuid_t *id = new_id();

	if (waits != NULL)
		subscription_give_way(waits, id);
	RUN(adopt_row, arg_uuid(id), arg_uuid(customer), arg_uuid(price), arg_int(Max(quantity, 1)),
		arg_text(news->provider), arg_text(news->account), arg_bool(news->livemode));
	return subscription_load(id);
}

static Subscription *
adopt(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const SubscriptionSnapshot *told = &snapshot->subscription;
	pg_uuid_t *customer = ref_object("customer", told->customer, news->provider, news->account);
	pg_uuid_t *price = told_price(told->price, news);
	pg_uuid_t *id;

	if (customer == NULL || price == NULL || told->status == NULL)
	{
		const char *missing = customer == NULL ? told->customer
							  : price == NULL  ? told->price
											   : NULL;

		*waiting_for = missing != NULL ? missing : snapshot->provider_id;
		return NULL;
	}
	news_lock_customer(news, customer);
	/* whoever held the lock may have brought it */
	id = snapshot_object(snapshot, news);
	if (id != NULL)
		return subscription_load(id);
	if (snapshot->reference != NULL)
		return insert_adopted(customer, price, told->quantity, told->status, news);
	if (RUN(being_made, arg_uuid(customer), arg_text(news->provider), arg_text(news->account)) > 0)
	{
		*waiting_for = snapshot->provider_id;
		return NULL;
	}
	if (RUN(sold_by_checkout, arg_uuid(customer), arg_uuid(price), arg_text(news->provider),
			arg_text(news->account)) > 0)
		return subscription_load(row_uuid(0, 1));
	return insert_adopted(customer, price, told->quantity, told->status, news);
}

/*
 * Given up here before the provider knew it, and made there all the same: the
 * buyer still had the page open.  What has ended stays so; what is billed has a
 * row of its own.
 */
static Subscription *
adopt_given_up(const Subscription *s, const SubscriptionSnapshot *told, const News *news)
{
	pg_uuid_t *price = told_price(told->price, news);

	return insert_adopted(s->customer_id, price != NULL ? price : s->price_id,
						  told->quantity > 0 ? told->quantity : s->quantity, told->status, news);
}

QUERY(
	mirror_subscription,
	"UPDATE billing.subscriptions SET status = $2, provider_status = $3, "
	"price_id = coalesce($4, price_id), "
	"plan_id = coalesce((SELECT p.plan_id FROM billing.prices AS p WHERE p.id = $4), plan_id), "
	"quantity = coalesce($5, quantity), "
	"current_period_start = coalesce($6, current_period_start), "
	"current_period_end = coalesce($7, current_period_end), "
	"trial_start = coalesce($8, trial_start), trial_end = coalesce($9, trial_end), "
	"cancel_at_period_end = $10 OR EXISTS (SELECT FROM billing.scheduled_changes AS h "
	"WHERE h.subscription_id = $1 AND h.state = 'pending'), "
	"cancel_at = $11, canceled_at = $12, pause_at_period_end = $17, resumes_at = $18, pending_price_id = $19, "
	"ended_at = $13, payment_method_id = CASE WHEN $20 THEN $14 ELSE payment_method_id END, "
	"client_secret = CASE WHEN $2 = 'incomplete' THEN coalesce($15, client_secret) END, "
	"provider_created_at = coalesce($16, provider_created_at), "
	"error_code = CASE WHEN $2 IN ('active', 'trialing') THEN NULL ELSE error_code END, "
	"conflict = conflict AND $2 NOT IN ('canceled', 'incomplete_expired'), status_since = $21, "
	"updated_at = now() WHERE id = $1",
	UUIDOID, TEXTOID, TEXTOID, UUIDOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDOID, BYTEAOID,
	TIMESTAMPTZOID, BOOLOID, TIMESTAMPTZOID, UUIDOID, BOOLOID, TIMESTAMPTZOID);

static void
mirror(const Subscription *s, const SubscriptionSnapshot *told, const News *news)
{
	TimestampTz ended = 0;

	if (subscription_ended(told->status))
		ended = told->ended_at != 0      ? told->ended_at
				: told->canceled_at != 0 ? told->canceled_at
										 : news->as_of;
	RUN(mirror_subscription, arg_uuid(s->id), arg_text(told->status),
		arg_text(told->provider_status), arg_uuid(told_price(told->price, news)),
		told->quantity > 0 ? arg_int(told->quantity) : arg_null(),
		arg_time(told->current_period_start), arg_time(told->current_period_end),
		arg_time(told->trial_start), arg_time(told->trial_end),
		arg_bool(told->cancel_at_period_end), arg_time(told->cancel_at),
		arg_time(told->canceled_at), arg_time(ended),
		arg_uuid(link_find("payment_method", told->payment_method, "subscription", s->id, news)),
		arg_bytes(seal_text("subscriptions.client_secret", s->id, told->client_secret)),
		arg_time(told->created_at), arg_bool(told->pause_at_period_end), arg_time(told->resumes_at),
		arg_uuid(told_price(told->pending_price, news)), arg_bool(told->payment_method != NULL),
		arg_time(subscription_status_since(s->id, told->status)));
	if (ended != 0)
		scheduled_changes_drop(s->id);
}

/*
 * A client secret comes in the answer to our own call only; it is kept also
 * when a webhook was faster and has told the rest already.
 */
static void
keep_secret(const Subscription *s, const SubscriptionSnapshot *told)
{
	if (told->client_secret != NULL && strcmp(s->status, "incomplete") == 0)
		RUN(store_secret, arg_uuid(s->id),
			arg_bytes(seal_text("subscriptions.client_secret", s->id, told->client_secret)));
}

QUERY(status_known,
	  "SELECT FROM billing.subscription_transitions WHERE from_state = $1 OR to_state = $1 LIMIT 1",
	  TEXTOID);

/* A state that nobody knows yet is as good as none; the one that it has is known. */
static ProviderSnapshot
with_known_status(const ProviderSnapshot *snapshot, const Subscription *s)
{
	ProviderSnapshot known = *snapshot;
	const char **status = &known.subscription.status;

	if (*status != NULL && (s == NULL || strcmp(*status, s->status) != 0) &&
		RUN(status_known, arg_text(*status)) == 0)
		*status = NULL;
	if (*status == NULL && snapshot->deleted)
		*status = "canceled";
	return known;
}

QUERY(customer_of, "SELECT customer_id FROM billing.subscriptions WHERE id = $1", UUIDOID);

/* Two webhooks at once: the second one sees what the first one made of it. */
static Subscription *
load_standing_still(const pg_uuid_t *id, const News *news)
{
	if (id == NULL || RUN(customer_of, arg_uuid(id)) == 0)
		return NULL;
	(void) news_lock_customer(news, row_uuid(0, 1));
	return subscription_load(id);
}

Applied
subscription_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	pg_uuid_t *id = snapshot_object(snapshot, news);
	Subscription *s = load_standing_still(id, news);
	ProviderSnapshot known = with_known_status(snapshot, s);
	SubscriptionSnapshot told = known.subscription;
	bool same;

	if (s == NULL)
		s = adopt(&known, news, waiting_for);
	if (s == NULL)
		return SNAPSHOT_UNKNOWN;
	if (told.status == NULL)
		told.status = s->status;
	if (s->provider_id == NULL && subscription_ended(s->status) && live_status(told.status))
		s = adopt_given_up(s, &told, news);
	if (known.subscription.status != NULL)
		subscription_status_told(s->id, told.status, news->as_of);
	same = strcmp(s->status, told.status) == 0;
	if (!same && RUN(transition_allowed, arg_text(s->status), arg_text(told.status)) == 0)
	{
		subscription_status_settle(s->id, s->status);
		return SNAPSHOT_STALE;
	}
	if (!ref_advance(&known, s->id, news, subscription_stage(told.status)))
	{
		subscription_status_settle(s->id, s->status);
		keep_secret(s, &told);
		return SNAPSHOT_STALE;
	}
	if (told.item != NULL)
		ref_put("subscription_item", s->id, told.item, news);
	mirror(s, &told, news);
	/* it has begun or ended, or is known there only now */
	if (!same || s->provider_id == NULL)
		subscription_settle_group(s, news);
	event_record(same ? "subscription.updated" : psprintf("subscription.%s", told.status),
				 "subscription", s->id, s->organization_id, s->status, told.status);
	return SNAPSHOT_APPLIED;
}

/*-------------------------------------------------------------------------
 *
 * subscribe.c
 *	  How a subscription is made: by a call, by a trigger, by a checkout.
 *
 * The row is there at once and incomplete; the provider's confirmation makes
 * it what it is, in subscription_sync.c.  A plan that costs nothing is made
 * here alone and is active at once.  Where a provider sells only by checkout
 * the buyer makes the subscription there, and the row waits for him.
 *
 *-------------------------------------------------------------------------
 */
#include "subscriptions.h"

#include "check.h"
#include "engine.h"
#include "errors.h"
#include "json.h"
#include "managers.h"
#include "routing.h"

static const char *const collection_words[] = {"charge_automatically", "send_invoice", NULL};
static const char *const alignment_words[] = {"anniversary", "calendar", NULL};
static const char *const reference_words[] = {"oxxo", "spei", NULL};
static const char *const trial_end_words[] = {"cancel", "pause", "create_invoice", NULL};

/* What a call without any of the optional arguments asks for. */
#define PLAIN_TERMS                                                            \
	.trial_days = SUBSCRIBE_NOT_NAMED, .quantity = 1, .amount = NO_AMOUNT,     \
	.days_until_due = SUBSCRIBE_NOT_NAMED, .off_session = SUBSCRIBE_NOT_NAMED, \
	.automatic_tax = SUBSCRIBE_NOT_NAMED

static bool
is_sent(const SubscribeTerms *terms)
{
	return terms->collection_method != NULL &&
		   strcmp(terms->collection_method, "send_invoice") == 0;
}

static void
check_subscribe_terms(const SubscribeTerms *terms)
{
	/* before all else: any other error would put the statement into the log */
	check_no_card("payment_method", terms->payment_method);
	check_no_card("coupon", terms->coupon);
	check_no_card("collect_by", terms->collect_by);
	check_no_card_json("metadata", terms->metadata);
	check_given("plan", terms->plan != NULL);
	if (terms->quantity <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("quantity must be at least 1"),
				 errdetail("It is " INT64_FORMAT ".", terms->quantity),
				 errhint("It counts seats where the plan has them, else the plan itself.")));
	if (terms->trial_days != SUBSCRIBE_NOT_NAMED &&
		(terms->trial_days < 0 || terms->trial_days > 730))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("trial_days must be from 0 to 730"),
						errdetail("It is %d.", terms->trial_days),
						errhint("0 is none, also where the plan has a trial.")));
	if (terms->days_until_due != SUBSCRIBE_NOT_NAMED && terms->days_until_due < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("days_until_due must not be negative"),
						errdetail("It is %d.", terms->days_until_due),
						errhint("So many days after its date an invoice that is sent is due.")));
	check_word("collection_method", terms->collection_method, collection_words);
	check_word("trial_end_behavior", terms->trial_end_behavior, trial_end_words);
	check_word("billing_alignment", terms->billing_alignment, alignment_words);
	check_word("collect_by", terms->collect_by, reference_words);
	if (terms->billing_alignment != NULL && terms->billing_anchor != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("billing_anchor and billing_alignment are both given"),
				 errhint("Pass billing_anchor for a moment of your own, or billing_alignment.")));
	check_metadata(terms->metadata);
	if (is_sent(terms) && terms->days_until_due == SUBSCRIBE_NOT_NAMED)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("days_until_due must be given with collection_method send_invoice"),
				 errdetail("It says how long the customer has to pay an invoice that is sent."),
				 errhint("Pass days_until_due => 14, for instance.")));
}

QUERY(
	had_trial,
	"SELECT FROM billing.subscriptions WHERE organization_id = $1 AND plan_group = $2 AND trial_start IS NOT NULL LIMIT 1",
	TEXTOID, TEXTOID);

/* The days of trial: as named; else the plan's, once per organisation and group. */
int
subscribe_trial_days(const SubscribeTerms *terms, const Customer *customer, const Price *price)
{
	if (terms->trial_days != SUBSCRIBE_NOT_NAMED)
		return terms->trial_days;
	if (price->plan_trial_days > 0 &&
		RUN(had_trial, arg_text(customer->organization_id), arg_text(price->plan_group)) > 0)
		return 0;
	return price->plan_trial_days;
}

/* Amount, currency, interval and quantity are there for supports(): they are completed when it is sent. */
static Jsonb *
create_arguments(const SubscribeTerms *terms, const Price *price, int trial_days)
{
	JsonBuilder b;

	json_open(&b);
	json_add_int(&b, "amount", price->amount);
	json_add_text(&b, "currency", price->currency);
	price_add_interval(&b, price);
	json_add_int(&b, "quantity", terms->quantity);
	json_add_text(&b, "coupon", terms->coupon);
	if (terms->automatic_tax != SUBSCRIBE_NOT_NAMED)
		json_add_bool(&b, "automatic_tax", terms->automatic_tax != 0);
	json_add_time(&b, "billing_anchor", terms->billing_anchor);
	if (trial_days > 0)
		json_add_int(&b, "trial_days", trial_days);
	json_add_text(&b, "collection_method", terms->collection_method);
	if (terms->days_until_due != SUBSCRIBE_NOT_NAMED)
		json_add_int(&b, "days_until_due", terms->days_until_due);
	json_add_time(&b, "cancel_at", terms->cancel_at);
	json_add_text(&b, "trial_end_behavior", terms->trial_end_behavior);
	if (terms->off_session != SUBSCRIBE_NOT_NAMED)
		json_add_bool(&b, "off_session", terms->off_session != 0);
	return json_close(&b);
}

QUERY(supersede,
	  "UPDATE billing.subscriptions SET superseded_by = $2, updated_at = now() WHERE id = $1",
	  UUIDOID, UUIDOID);

/* What was agreed for a later day gives way to nobody. */
static void
refuse_beside_planned(const Subscription *planned)
{
	if (planned->starts_at == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_JB_STATE),
					errmsg("organization \"%s\" has a subscription in plan group \"%s\"",
						   planned->organization_id, planned->plan_group),
					errdetail("Subscription %s is to begin at %s.", uuid_text(planned->id),
							  timestamptz_to_str(planned->starts_at)),
					errhint("Use billing.update_subscription() to change what begins then, or "
							"billing.cancel_subscription() first.")));
}

/*
 * A live subscription of the group refuses a second one.  One that waits for
 * its first payment gives way, but not while the provider has not said what
 * became of it: two clicks are one subscription.
 */
Subscription *
subscription_in_the_way(const Customer *customer, const Price *price)
{
	Subscription *live;
	bool incomplete;

	live = subscription_of_group(customer->organization_id, price->plan_group);
	if (live == NULL)
		return NULL;
	refuse_beside_planned(live);
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

void
subscription_give_way(const Subscription *old, const pg_uuid_t *successor)
{
	JsonBuilder b;

	RUN(supersede, arg_uuid(old->id), arg_uuid(successor));
	if (engine_give_way(old->id))
		return;
	if (old->provider_id == NULL)
	{
		subscription_end_here(old);
		return;
	}
	subscription_settle_group(old, NULL);
	json_open(&b);
	outbox_enqueue(account_get(old->provider, old->account), OPERATION_SUBSCRIPTION_CANCEL, old->id,
				   old->customer_id, json_close(&b), NULL);
}

void
subscribe_refuse_one_time(const Price *price)
{
	if (strcmp(price->interval, "one_time") == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the price of plan \"%s\" is paid once", price->plan),
			 errhint(
				 "A subscription needs a price with an interval; see billing.create_price().")));
}

/*
 * The row of a new subscription, which takes the place of one of the group
 * that still waits for its first payment.
 */
static pg_uuid_t *
open_row(const SubscribeTerms *terms, const Customer *customer, const Account *account,
		 const Price *price, const pg_uuid_t *payment_method_id)
{
	Subscription *old = subscription_in_the_way(customer, price);
	pg_uuid_t *id = new_id();

	customer_check_mode(customer, account);
	/* out of the index before the successor is in it; behind one another may wait */
	for (; old != NULL; old = subscription_in_the_way(customer, price))
		subscription_give_way(old, id);
	insert_row(id, terms, customer, account, price, payment_method_id, price_is_free(price));
	return id;
}

static Price *
price_of_terms(const SubscribeTerms *terms, const Customer *customer)
{
	return price_choose(
		&(PriceChoice){.plan = terms->plan,
					   .price = terms->price,
					   .amount = terms->amount,
					   .interval = terms->interval,
					   .currency = terms->currency != NULL ? terms->currency : customer->currency,
					   .customer_id = customer->id});
}

/*
 * Where the provider sells by checkout only, one takes the place of the call
 * if the caller says where the buyer comes back to.
 */
static bool
sold_by_checkout(const SubscribeTerms *terms, const Account *account, const Jsonb *arguments)
{
	const char *alternative;

	return terms->success_url != NULL && account_supports(account, OPERATION_SUBSCRIPTION_CREATE,
														  arguments, &alternative) == UNSUPPORTED;
}

static pg_uuid_t *
sell_by_checkout(const SubscribeTerms *terms, const Customer *customer, const Account *account,
				 const Price *price, int trial_days)
{
	if (terms->payment_method != NULL || terms->cancel_at != 0 || terms->billing_anchor != 0 ||
		terms->collection_method != NULL || terms->days_until_due != SUBSCRIBE_NOT_NAMED ||
		terms->trial_end_behavior != NULL || terms->off_session > 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_JB_NOT_SUPPORTED),
			 errmsg("provider \"%s\" sells subscriptions by checkout only", account->provider),
			 errhint(
				 "Leave payment_method, collection_method, days_until_due, cancel_at, billing_anchor, "
				 "trial_end_behavior and off_session out: the buyer pays in the checkout.")));
	return checkout_subscribe(
		customer, account,
		&(CheckoutSale){.price = price,
						.quantity = terms->quantity,
						.trial_days = trial_days,
						.success_url = terms->success_url,
						.cancel_url = terms->cancel_url,
						.coupon = terms->coupon,
						.automatic_tax = terms->automatic_tax == SUBSCRIBE_NOT_NAMED
											 ? -1
											 : terms->automatic_tax,
						.metadata = terms->metadata});
}

static void
refuse_reference(const Account *account)
{
	ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
					errmsg("collect_by is not for a subscription that provider \"%s\" bills",
						   account->provider),
					errdetail("The provider collects what it bills."),
					errhint("Pass managed_by => 'local': this database bills then, and each of its "
							"invoices is paid to a reference.")));
}

/* Providers begin a subscription when it is made, count its periods from there, and collect in their own way. */
static void
refuse_our_own_terms(const SubscribeTerms *terms, const Customer *customer, const Account *account)
{
	const char *asked = NULL;

	if (terms->collect_by != NULL)
		refuse_reference(account);
	if (terms->starts_at != 0 &&
		unix_seconds(terms->starts_at) != unix_seconds(clock_now(customer->organization_id)))
		asked = "starts_at";
	else if (terms->billing_alignment != NULL &&
			 strcmp(terms->billing_alignment, "anniversary") != 0)
		asked = "billing_alignment";
	if (asked != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_JB_NOT_SUPPORTED),
				 errmsg("%s is not for a subscription that provider \"%s\" bills", asked,
						account->provider),
				 errdetail("It begins there when it is made, and its periods count from then."),
				 errhint("Pass managed_by => 'local': this database bills then, and the provider "
						 "collects the money.")));
}

static bool
is_run_here(const SubscribeTerms *terms, const Customer *customer, const Account *account,
			const Price *price)
{
	return manager_choose(&(ManagerCase){.customer = customer,
										 .account = account,
										 .price = price,
										 .quantity = terms->quantity,
										 .coupon = terms->coupon,
										 .automatic_tax = terms->automatic_tax == true,
										 .collection_method = terms->collection_method,
										 .by_reference = terms->collect_by != NULL,
										 .payment_method_id = uuid_parse(terms->payment_method),
										 .managed_by = terms->managed_by});
}

/* Where a checkout sells it, neither is of use (sell_by_checkout). */
static void
refuse_days_of_charges(const SubscribeTerms *terms)
{
	if (terms->days_until_due != SUBSCRIBE_NOT_NAMED && !is_sent(terms))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("days_until_due is for invoices that are sent"),
						errdetail("Those of this subscription are charged automatically."),
						errhint("Pass collection_method => 'send_invoice'.")));
}

static pg_uuid_t *
subscription_create(const SubscribeTerms *terms, const Customer *customer, const Account *account)
{
	Price *price = price_of_terms(terms, customer);
	bool free = price_is_free(price);
	int trial_days = subscribe_trial_days(terms, customer, price);
	Jsonb *arguments = create_arguments(terms, price, trial_days);
	pg_uuid_t *method = NULL;
	pg_uuid_t *id;

	if (is_run_here(terms, customer, account, price))
	{
		refuse_days_of_charges(terms);
		return engine_subscribe(terms, customer, account, price);
	}
	refuse_our_own_terms(terms, customer, account);
	subscription_check_cancel_at(customer->organization_id, terms->cancel_at);
	if (free)
		subscription_refuse_dates_of_free(0, terms->cancel_at);
	subscribe_refuse_one_time(price);
	if (!free && sold_by_checkout(terms, account, arguments))
		return sell_by_checkout(terms, customer, account, price, trial_days);
	refuse_days_of_charges(terms);
	(void) subscription_in_the_way(customer, price);
	if (terms->payment_method != NULL)
		method = payment_method_attach(customer, account, terms->payment_method, -1, NULL);
	id = open_row(terms, customer, account, price, method);
	if (free)
		return id;

	customer_ensure_at(customer, account);
	outbox_enqueue(account, OPERATION_SUBSCRIPTION_CREATE, id, customer->id, arguments,
				   price_ensure_at(price, account));
	return id;
}

/*
 * The row of a subscription that the buyer makes in a checkout: incomplete
 * until the provider tells of it, by our reference.
 */
pg_uuid_t *
subscription_for_checkout(const Customer *customer, const Account *account, const Price *price,
						  int64 quantity, const Jsonb *metadata)
{
	SubscribeTerms terms = {PLAIN_TERMS, .metadata = metadata};

	terms.quantity = quantity;
	subscribe_refuse_one_time(price);
	if (price_is_free(price))
		ereport(ERROR,
				(errcode(ERRCODE_JB_NOT_SUPPORTED),
				 errmsg("plan \"%s\" costs nothing: there is nothing to check out", price->plan),
				 errhint("Use billing.subscribe().")));
	return open_row(&terms, customer, account, price, NULL);
}

int
subscription_trial_days(const Customer *customer, const Price *price, int named)
{
	SubscribeTerms terms = {PLAIN_TERMS};

	if (named >= 0)
		terms.trial_days = named;
	return subscribe_trial_days(&terms, customer, price);
}

/* From a trigger of the application's table: the plan that every new customer gets. */
pg_uuid_t *
subscription_create_default(const Customer *customer, const char *plan)
{
	SubscribeTerms terms = {PLAIN_TERMS, .plan = plan};

	return subscription_create(&terms, customer,
							   account_get(customer->provider, customer->account));
}

SQL_FUNCTION(billing_subscribe)
{
	char *organization_id = ARG_TEXT(0);
	SubscribeTerms terms = {
		.plan = ARG_TEXT(1),
		.payment_method = ARG_TEXT(2),
		.trial_days = ARG_INT4(3, SUBSCRIBE_NOT_NAMED),
		.quantity = ARG_INT(4, 1),
		.currency = ARG_TEXT(5),
		.price = ARG_UUID(6),
		.amount = ARG_INT(7, NO_AMOUNT),
		.interval = ARG_TEXT(8),
		.collection_method = ARG_TEXT(9),
		.days_until_due = ARG_INT4(10, SUBSCRIBE_NOT_NAMED),
		.cancel_at = ARG_TIME(11),
		.trial_end_behavior = ARG_TEXT(12),
		.off_session = PG_ARGISNULL(13) ? SUBSCRIBE_NOT_NAMED : PG_GETARG_BOOL(13),
		.coupon = ARG_TEXT(14),
		.automatic_tax = PG_ARGISNULL(15) ? SUBSCRIBE_NOT_NAMED : PG_GETARG_BOOL(15),
		.billing_anchor = ARG_TIME(16),
		.starts_at = ARG_TIME(17),
		.billing_alignment = ARG_TEXT(18),
		.collect_by = ARG_TEXT(19),
		.success_url = ARG_TEXT(20),
		.cancel_url = ARG_TEXT(21),
		.managed_by = ARG_TEXT(22),
		.metadata = ARG_JSON(23),
	};
	char *provider = ARG_TEXT(24);
	char *account_name = ARG_TEXT(25);
	char *key = ARG_TEXT(26);
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
		{"coupon", terms.coupon},
		{"automatic_tax", psprintf("%d", terms.automatic_tax)},
		{"billing_anchor", psprintf(INT64_FORMAT, terms.billing_anchor)},
		{"starts_at", terms.starts_at == 0 ? NULL : psprintf(INT64_FORMAT, terms.starts_at)},
		{"billing_alignment", terms.billing_alignment},
		{"collect_by", terms.collect_by},
		{"success_url", terms.success_url},
		{"cancel_url", terms.cancel_url},
		{"managed_by", terms.managed_by},
		{"metadata", terms.metadata == NULL ? NULL : json_string(terms.metadata)},
		{"provider", provider},
		{"account", account_name},
	};
	Customer *customer;
	pg_uuid_t *id;

	db_open();
	check_subscribe_terms(&terms);
	check_given("organization_id", organization_id != NULL);
	customer = customer_of_organization(organization_id, true);
	if (customer == NULL)
		unknown_object("customer of organization", organization_id,
					   "Use billing.create_customer() first.");
	id = idempotency_find("subscribe", organization_id, key, arguments, lengthof(arguments));
	if (id == NULL)
	{
		Account *seller = route_account(&(RouteTerms){.provider = provider,
													  .account = account_name,
													  .currency = terms.currency,
													  .amount = NO_AMOUNT,
													  .operation = OPERATION_SUBSCRIPTION_CREATE,
													  .plan = terms.plan,
													  .customer = customer});

		id = subscription_create(&terms, customer, seller);
		idempotency_store("subscribe", organization_id, key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

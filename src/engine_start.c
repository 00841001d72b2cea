/*-------------------------------------------------------------------------
 *
 * engine_start.c
 *	  subscribe() where our engine bills.
 *
 * The subscription is what it is when the call returns: trialing, active, or
 * incomplete until its first invoice is paid.  One that is to begin later is
 * incomplete, too, with a change of kind start that is planned; when that is due
 * it begins as one that was just made does.  A provider hears of it only what it
 * needs to charge: the customer and his payment method.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

#include "check.h"
#include "draft_steps.h"
#include "errors.h"
#include "subscriptions.h"

/* What begins later than this is a mistake, and soon out of the calendar. */
#define START_YEARS_MOST INT64CONST(100)

/* ------------------------------------------------------------------------
 * What is refused
 * ------------------------------------------------------------------------
 */
static void
refuse_not_ours(const char *argument, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
					errmsg("%s is not for a subscription that this database bills", argument),
					errdetail("It is for what a provider's checkout makes and bills."),
					errhint("%s", hint)));
}

static void
check_terms(const SubscribeTerms *terms)
{
	if (terms->success_url != NULL || terms->cancel_url != NULL)
		refuse_not_ours(
			terms->success_url != NULL ? "success_url" : "cancel_url",
			"Leave it out: billing.client_config() of the first payment says how it is paid.");
	if (terms->automatic_tax > 0)
		refuse_not_ours(
			"automatic_tax",
			"Leave it out: billing.set_tax_rate() tells the rates of our own invoices.");
	if (terms->days_until_due != SUBSCRIBE_NOT_NAMED && terms->days_until_due > 365)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("days_until_due must be from 0 to 365"),
						errdetail("It is %d.", terms->days_until_due),
						errhint("So many days after its date an invoice that is sent is due.")));
}

static void
check_currency_of_price(const SubscribeTerms *terms, const Price *price)
{
	if (terms->currency == NULL || pg_strcasecmp(terms->currency, price->currency) == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("price %s is in %s, not in %s", uuid_text(price->id), price->currency,
						   terms->currency),
					errdetail("A subscription is billed in the currency of its price."),
					errhint("Leave currency out, or name a price in %s.", terms->currency)));
}

/* Usage is closed for an organisation as a whole, and each of it is billed once. */
static void
refuse_second_metered(const BilledSubscription *s)
{
	const pg_uuid_t *other = subscription_is_metered(s) ? other_metered_subscription(s) : NULL;

	if (other == NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_JB_STATE),
			 errmsg("usage of organization \"%s\" is billed by another subscription",
					s->customer->organization_id),
			 errdetail("Subscription %s has metered components, as has plan \"%s\".",
					   uuid_text(other), s->plan),
			 errhint("Put the metered prices into one plan, or cancel the other subscription.")));
}

/* ------------------------------------------------------------------------
 * One that gives way
 * ------------------------------------------------------------------------
 */
QUERY(
	first_payment_under_way,
	"SELECT p.id, p.status FROM billing.payment_intents AS p JOIN billing.invoices AS i ON i.id = p.invoice_id "
	"WHERE i.subscription_id = $1 AND p.status IN ('pending', 'processing', 'requires_capture') LIMIT 1",
	UUIDOID);

bool
engine_give_way(const pg_uuid_t *subscription_id)
{
	BillingRun *run;
	BilledSubscription *s = run_load_one(subscription_id, false, &run);

	if (s == NULL)
		return false;
	if (RUN(first_payment_under_way, arg_uuid(s->id)) > 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("organization \"%s\" has a subscription in plan group \"%s\"",
							   s->customer->organization_id, s->plan_group),
						errdetail("The first payment of subscription %s is %s.", uuid_text(s->id),
								  row_text(0, 2)),
						errhint("Wait for it by billing.await('%s').", row_text(0, 1))));
	engine_expire(run, s, s->customer->now);
	engine_play(run, s, NOTHING_YET);
	run_write(run);
	return true;
}

/* ------------------------------------------------------------------------
 * Items
 * ------------------------------------------------------------------------
 */
static void
add_item(BilledSubscription *s, const ComponentPrice *price)
{
	BilledItem *item = palloc0(sizeof(BilledItem));

	item->component = price->component;
	item->price = price;
	item->quantity = 1;
	item->is_new = true;
	s->items = lappend(s->items, item);
}

/* The base price is the chosen one, which may be agreed; the others are those of the plan. */
static void
add_items(BilledSubscription *s, const Price *price, int64 quantity)
{
	List *components = plan_components(price->plan_id, price->currency, price->interval,
									   price->interval_count, s->customer->id, s->customer->now);
	ListCell *cell;
	BilledItem *counted;

	add_item(s, component_price(price->id));
	foreach (cell, components)
	{
		const ComponentPrice *component = lfirst(cell);

		if (strcmp(component->component, "base") != 0)
			add_item(s, component);
	}
	s->items = list_concat(s->items, organization_add_on_items(
										 s->customer->organization_id, price->currency,
										 price->interval, price->interval_count, s->customer->now));
	counted = item_named(s, "seats");
	if (counted == NULL)
		counted = base_item(s);
	counted->quantity = quantity;
}

/* ------------------------------------------------------------------------
 * Dates
 * ------------------------------------------------------------------------
 */
static TimestampTz
whole_seconds(TimestampTz at)
{
	return moment_of_unix(unix_seconds(at));
}

/*
 * What periods are counted from: as named, or the beginning of the calendar's
 * month where billing_alignment (the argument, else the setting) says so; else
 * the start itself.
 */
static TimestampTz
anchor_for(const BilledSubscription *s, const SubscribeTerms *terms)
{
	const char *alignment = terms->billing_alignment != NULL ? terms->billing_alignment
															 : setting_text("billing_alignment");
	PeriodSchedule schedule;
	int64_t anchor;

	if (terms->billing_anchor != 0)
		return whole_seconds(terms->billing_anchor);
	if (alignment == NULL || strcmp(alignment, "calendar") != 0)
		return s->schedule_start;
	schedule = engine_schedule(s);
	if (period_calendar_anchor(schedule.rule.interval, schedule.zone, schedule.start, &anchor) !=
		PERIOD_OK)
		elog(ERROR, "the calendar has no beginning before %s",
			 timestamptz_to_str(s->schedule_start));
	return moment_of_unix(anchor);
}

static void
check_anchor(const BilledSubscription *s, TimestampTz anchor)
{
	if (anchor == 0 || (!TIMESTAMP_NOT_FINITE(anchor) && anchor > s->schedule_start))
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("billing_anchor is not after the start"),
					errdetail("billing_anchor is %s, the first period starts at %s.",
							  pstrdup(timestamptz_to_str(anchor)),
							  pstrdup(timestamptz_to_str(s->schedule_start))),
					errhint("It is a moment after the start at which a whole period begins.")));
}

static void
check_start(const BilledSubscription *s, TimestampTz starts_at)
{
	TimestampTz now = s->customer->now;
	/* infinity is the greatest moment, and -infinity the least */
	bool too_far = starts_at > now + START_YEARS_MOST * SECS_PER_YEAR * USECS_PER_SEC;

	if (!too_far && starts_at >= now)
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					too_far ? errmsg("starts_at is more than " INT64_FORMAT " years from now",
									 START_YEARS_MOST)
							: errmsg("starts_at is in the past"),
					errdetail("starts_at is %s; for organization \"%s\" it is %s.",
							  pstrdup(timestamptz_to_str(starts_at)), s->customer->organization_id,
							  pstrdup(timestamptz_to_str(now))),
					errhint("Leave it out to begin now; what was before is billed by "
							"billing.create_invoice().")));
}

/* Now, or when it is named. */
static TimestampTz
start_of(const BilledSubscription *s, const SubscribeTerms *terms)
{
	if (terms->starts_at == 0)
		return s->customer->now;
	check_start(s, terms->starts_at);
	return whole_seconds(terms->starts_at);
}

void
check_end_after_start(TimestampTz starts_at, TimestampTz cancel_at)
{
	if (starts_at == 0 || cancel_at == 0 || whole_seconds(cancel_at) > starts_at)
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("cancel_at is not after the start"),
		 errdetail("cancel_at is %s, the subscription is to begin at %s.",
				   pstrdup(timestamptz_to_str(cancel_at)), pstrdup(timestamptz_to_str(starts_at))),
		 errhint("Use billing.cancel_subscription() for one that is not to begin.")));
}

static void
set_dates(BilledSubscription *s, const SubscribeTerms *terms, TimestampTz starts_at, int trial_days)
{
	s->schedule_start = starts_at;
	if (trial_days > 0 && !subscription_is_free(s))
		s->schedule_start = s->trial_end = starts_at + trial_days * USECS_PER_DAY;
	s->billing_anchor = s->schedule_start;
	check_anchor(s, terms->billing_anchor);
	s->billing_anchor = anchor_for(s, terms);
}

static void
plan_end(BilledSubscription *s, TimestampTz cancel_at)
{
	s->cancel_at = Max(whole_seconds(cancel_at), s->customer->now + USECS_PER_SEC);
	(void) plan_change(s, "cancel", s->cancel_at, NULL);
}

/* ------------------------------------------------------------------------
 * The start
 * ------------------------------------------------------------------------
 */
QUERY(
	find_method,
	"SELECT FROM billing.payment_methods AS m WHERE m.customer_id = $1 AND m.provider = $2 AND m.account = $3 "
	"AND (m.is_default OR m.id = $4) AND m.state IN ('pending', 'attached') LIMIT 1",
	UUIDOID, TEXTOID, TEXTOID, UUIDOID);
QUERY(plan_named, "SELECT name FROM billing.plans WHERE id = $1", UUIDOID);

static void
check_zone(const BilledSubscription *s)
{
	if (zone_named(s->zone_name) == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("time zone \"%s\" is not known to this server", s->zone_name),
						errdetail("It is that of the customer, or the setting timezone."),
						errhint("pg_timezone_names has those that it knows.")));
}

static BilledSubscription *
subscription_new(BillingRun *run, const SubscribeTerms *terms, const Customer *customer,
				 const Account *account, const Price *price)
{
	BilledSubscription *s = palloc0(sizeof(BilledSubscription));

	s->id = new_id();
	s->customer = run_customer(run, customer->id);
	s->plan_id = price->plan_id;
	s->plan = price->plan;
	RUN(plan_named, arg_uuid(price->plan_id));
	s->plan_name = row_text(0, 1);
	s->plan_group = price->plan_group;
	s->status = "incomplete";
	s->provider = account->provider;
	s->account = account->account;
	s->livemode = account->livemode;
	s->currency = price->currency;
	s->zone_name = s->customer->zone_name;
	s->collection_method = terms->collection_method != NULL ? terms->collection_method
															: "charge_automatically";
	s->days_until_due = terms->days_until_due == SUBSCRIBE_NOT_NAMED ? -1 : terms->days_until_due;
	s->trial_end_behavior = terms->trial_end_behavior != NULL ? terms->trial_end_behavior
															  : "cancel";
	s->collect_by = terms->collect_by;
	s->metadata = terms->metadata;
	run_add_subscription(run, s);
	check_zone(s);
	return s;
}

static int64
due_at_start(const BillingRun *run, const BilledSubscription *s)
{
	int64 due = 0;
	ListCell *cell;

	foreach (cell, run->drafts)
	{
		const InvoiceDraft *draft = lfirst(cell);

		if (draft->subscription == s)
			due += draft->due;
	}
	return due;
}

/* Of one that is new the event tells of the first state that it has. */
static void
settle_status(BillingRun *run, BilledSubscription *s, const char *status, TimestampTz at)
{
	if (s->old_status == NULL)
		s->status = NULL;
	set_status(run, s, status, at);
}

static void
tell_incomplete(BillingRun *run, const BilledSubscription *s)
{
	run_event(run, s->old_status == NULL ? "subscription.created" : "subscription.updated",
			  "subscription", s->id, s->customer->organization_id, s->old_status, s->status);
}

void
engine_start(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	s->changed = true;
	if (s->trial_end != 0)
	{
		s->trial_start = s->period_start = at;
		s->period_end = s->trial_end;
		/* what is used in the trial is free */
		s->usage_from = subscription_is_metered(s) ? s->trial_end : 0;
		settle_status(run, s, "trialing", at);
		return;
	}
	engine_begin_period(run, s, at, "subscription_create");
	if (due_at_start(run, s) == 0 || strcmp(s->collection_method, "charge_automatically") != 0)
	{
		settle_status(run, s, "active", at);
		return;
	}
	s->incomplete_until = at + ENGINE_INCOMPLETE_USECS;
	tell_incomplete(run, s);
}

static void
start_later(BillingRun *run, BilledSubscription *s, TimestampTz starts_at, TimestampTz cancel_at)
{
	check_end_after_start(starts_at, cancel_at);
	(void) plan_change(s, "start", starts_at, NULL);
	tell_incomplete(run, s);
}

/* The customer has to be known where he is charged. */
static void
set_payment_method(BilledSubscription *s, const SubscribeTerms *terms, const Customer *customer,
				   const Account *account)
{
	if (terms->payment_method != NULL)
		s->payment_method_id = payment_method_attach(customer, account, terms->payment_method, -1,
													 NULL);
	else if (!subscription_is_free(s))
		customer_ensure_at(customer, account);
	s->has_payment_method = RUN(find_method, arg_uuid(customer->id), arg_text(account->provider),
								arg_text(account->account), arg_uuid(s->payment_method_id)) > 0;
}

pg_uuid_t *
engine_subscribe(const SubscribeTerms *terms, const Customer *customer, const Account *account,
				 const Price *price)
{
	BillingRun *run;
	BilledSubscription *s;
	Subscription *old;
	TimestampTz starts_at;

	check_terms(terms);
	check_currency_of_price(terms, price);
	collection_require_reference(account, price->currency, terms->collect_by);
	subscription_check_cancel_at(customer->organization_id, terms->cancel_at);
	subscribe_refuse_one_time(price);
	old = subscription_in_the_way(customer, price);
	customer_check_mode(customer, account);
	run = run_begin(false);
	s = subscription_new(run, terms, customer, account, price);
	for (; old != NULL; old = subscription_in_the_way(customer, price))
		subscription_give_way(old, s->id);
	add_items(s, price, terms->quantity);
	refuse_second_metered(s);
	set_payment_method(s, terms, customer, account);
	starts_at = start_of(s, terms);
	set_dates(s, terms, starts_at, subscribe_trial_days(terms, customer, price));
	if (starts_at > s->customer->now)
		start_later(run, s, starts_at, terms->cancel_at);
	if (terms->cancel_at != 0)
		plan_end(s, terms->cancel_at);
	if (terms->coupon != NULL)
		coupon_apply_in_run(run, s, terms->coupon, s->customer->now);
	if (subscription_starts_at(s) == 0)
		engine_start(run, s, starts_at);
	engine_play(run, s, NOTHING_YET);
	run_write(run);
	worker_wake_at_commit();
	return s->id;
}

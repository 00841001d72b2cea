/*-------------------------------------------------------------------------
 *
 * engine_targets.c
 *	  What a change of a local subscription asks for: from plan, price, quantity
 *	  and items to the items that will differ, and these as the terms of a change
 *	  that is planned.
 *
 * A call names little ("plan team"); what follows from it (its price in the
 * currency, its components, whose quantity is meant) is found here, and what
 * cannot be is refused here, before anything is done.  engine_changes.c does it.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "check.h"
#include "errors.h"
#include "json.h"
#include "subscriptions.h"

/* ------------------------------------------------------------------------
 * Items as they are to be: a List of ItemChange, one for each component
 * ------------------------------------------------------------------------
 */
static ItemChange *
target_named(List *targets, const char *component)
{
	ListCell *cell;

	foreach (cell, targets)
	{
		ItemChange *target = lfirst(cell);

		if (strcmp(target->component, component) == 0)
			return target;
	}
	return NULL;
}

static List *
target_put(List *targets, const char *component, const ComponentPrice *price, int64 quantity)
{
	ItemChange *target = target_named(targets, component);

	if (target == NULL)
	{
		target = palloc(sizeof(ItemChange));
		target->component = pstrdup(component);
		targets = lappend(targets, target);
	}
	target->price = price;
	target->quantity = quantity;
	return targets;
}

static List *
targets_now(const BilledSubscription *s)
{
	List *targets = NIL;
	ListCell *cell;

	foreach (cell, s->items)
	{
		const BilledItem *item = lfirst(cell);

		if (!item->removed)
			targets = target_put(targets, item->component, item->price, item->quantity);
	}
	return targets;
}

static bool
is_sold(const ItemChange *target)
{
	return target != NULL && target->price != NULL;
}

/* Whose quantity a call means that names one. */
static ItemChange *
counted_target(List *targets)
{
	ItemChange *seats = target_named(targets, "seats");

	return is_sold(seats) && seats->price->metric == NULL ? seats : target_named(targets, "base");
}

/* ------------------------------------------------------------------------
 * What is refused
 * ------------------------------------------------------------------------
 */
static void
check_component_price(const BilledSubscription *s, const char *component,
					  const ComponentPrice *price, const ComponentPrice *base)
{
	if (strcmp(price->component, component) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("price \"%s\" is not one of component \"%s\"", uuid_text(price->id),
							   component),
						errdetail("It is one of component \"%s\".", price->component),
						errhint("billing.prices has those of each component.")));
	if (strcmp(price->currency, s->currency) != 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("a subscription in %s cannot change to a price in %s", s->currency,
					price->currency),
			 errdetail(
				 "Price \"%s\" is one of component \"%s\"; all that a subscription is billed for has one currency.",
				 uuid_text(price->id), component),
			 errhint("Name a price in %s, or cancel and subscribe anew.", s->currency)));
	if (!price->one_time && (strcmp(price->interval, base->interval) != 0 ||
							 price->interval_count != base->interval_count))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("component \"%s\" is priced for %d %s, the subscription for %d %s", component,
					price->interval_count, price->interval, base->interval_count, base->interval),
			 errdetail("All that a subscription is billed for has one interval."),
			 errhint(
				 "Make the price by billing.create_price(component => '%s', \"interval\" => '%s', interval_count => %d), or remove the component in the same call: items => '{\"%s\": null}'.",
				 component, base->interval, base->interval_count, component)));
	if (price->customer_id != NULL && !uuid_equal(price->customer_id, s->customer->id))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("price \"%s\" is agreed with another customer", uuid_text(price->id)),
			 errdetail("It is of customer \"%s\", the subscription of \"%s\".",
					   uuid_text(price->customer_id), uuid_text(s->customer->id)),
			 errhint(
				 "Name a price of the list, or agree on one by billing.create_price(customer_id => ...).")));
}

static void
check_group(const BilledSubscription *s, const Price *chosen)
{
	Subscription *other;

	if (strcmp(chosen->plan_group, s->plan_group) == 0)
		return;
	other = subscription_of_group(s->customer->organization_id, chosen->plan_group);
	if (other != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("organization \"%s\" has a subscription in plan group \"%s\"",
						s->customer->organization_id, chosen->plan_group),
				 errdetail("Subscription %s is %s.", uuid_text(other->id), other->status),
				 errhint("Change that one, or cancel it by billing.cancel_subscription() first.")));
}

QUERY(
	other_metered,
	"SELECT s.id FROM billing.subscriptions AS s WHERE s.organization_id = $1 AND s.id <> $2 "
	"AND s.managed_by = 'local' AND s.status NOT IN ('canceled', 'incomplete_expired') "
	"AND EXISTS (SELECT FROM billing.subscription_items AS i JOIN billing.prices AS r ON r.id = i.price_id "
	"WHERE i.subscription_id = s.id AND r.metric IS NOT NULL) LIMIT 1",
	TEXTOID, UUIDOID);

pg_uuid_t *
other_metered_subscription(const BilledSubscription *s)
{
	return RUN(other_metered, arg_text(s->customer->organization_id), arg_uuid(s->id)) == 0
			   ? NULL
			   : row_uuid(0, 1);
}

/* Usage is closed for the organisation, so one subscription bills it. */
static void
check_metered(const BilledSubscription *s, List *targets)
{
	ListCell *cell;

	foreach (cell, targets)
	{
		const ItemChange *target = lfirst(cell);
		const pg_uuid_t *other;

		if (!is_sold(target) || target->price->metric == NULL)
			continue;
		other = other_metered_subscription(s);
		if (other == NULL)
			return;
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("the usage of organization \"%s\" is billed by another subscription",
						s->customer->organization_id),
				 errdetail("Subscription %s has metered components; \"%s\" would be another one.",
						   uuid_text(other), target->component),
				 errhint("Add the component to that subscription.")));
	}
}

/* 22003 where no amount can be made of it, for later as for now. */
static void
check_quantity(const ItemChange *target)
{
	const BilledItem item = {.price = target->price, .quantity = target->quantity};

	if (target->price->metric == NULL)
		(void) item_whole_price(&item);
}

static void
check_all(const BilledSubscription *s, List *targets)
{
	const ComponentPrice *base = target_named(targets, "base")->price;
	ListCell *cell;

	foreach (cell, targets)
	{
		const ItemChange *target = lfirst(cell);

		if (!is_sold(target))
			continue;
		check_component_price(s, target->component, target->price, base);
		check_quantity(target);
	}
	check_metered(s, targets);
}

/* ------------------------------------------------------------------------
 * Plan and price
 * ------------------------------------------------------------------------
 */

/* Add-ons stay, at the price that they have for the interval of the plan. */
static void
follow_interval(const BilledSubscription *s, ItemChange *add_on, const ComponentPrice *base)
{
	const ComponentPrice *price = add_on->price;
	const ComponentPrice *other;

	if (price->one_time || (strcmp(price->interval, base->interval) == 0 &&
							price->interval_count == base->interval_count))
		return;
	other = add_on_price(price->add_on, s->currency, base->interval, base->interval_count,
						 s->customer->now);
	/* sold once only: check_component_price() says what can be done */
	if (!other->one_time)
		add_on->price = other;
}

/*
 * How many the new plan is for where the call does not say it.  A count of seats
 * is none of a plan without them.  On the way back from a plan that is only
 * planned, the seats are those that there are.
 */
static int64
count_kept(const ItemChange *before, int64 count, const ItemChange *seats, const ItemChange *after)
{
	if (strcmp(before->component, after->component) == 0)
		return count;
	if (strcmp(after->component, "base") == 0)
		return 1;
	return count == 1 && seats != NULL ? seats->quantity : count;
}

/* All that the plan sells; what was of the old plan and is not of the new one goes. */
static List *
take_plan(const BilledSubscription *s, List *targets, const ComponentPrice *base)
{
	const ItemChange *before = counted_target(targets);
	int64 count = before->quantity;
	const ItemChange *seats;
	ItemChange *counted;
	List *components = plan_components(base->plan_id, s->currency, base->interval,
									   base->interval_count, s->customer->id, s->customer->now);
	ListCell *cell;

	foreach (cell, targets)
	{
		ItemChange *target = lfirst(cell);

		if (!is_sold(target))
			continue;
		if (target->price->add_on != NULL)
			follow_interval(s, target, base);
		else
			target->price = NULL;
	}
	seats = target_named(targets, "seats");
	targets = target_put(targets, "base", base, 1);
	foreach (cell, components)
	{
		const ComponentPrice *price = lfirst(cell);
		const ItemChange *present = target_named(targets, price->component);

		if (strcmp(price->component, "base") != 0)
			targets = target_put(targets, price->component, price,
								 present == NULL ? 1 : present->quantity);
	}
	counted = counted_target(targets);
	counted->quantity = count_kept(before, count, seats, counted);
	return targets;
}

static List *
take_price(const BilledSubscription *s, List *targets, const ChangeTerms *terms)
{
	ItemChange *base = target_named(targets, "base");
	const ComponentPrice *price;
	Price *chosen;

	if (terms->plan == NULL && terms->price == NULL && terms->amount == NO_AMOUNT)
		return targets;
	chosen = price_choose(&(PriceChoice){
		.plan = terms->plan != NULL ? terms->plan : price_load(base->price->id)->plan,
		.price = terms->price,
		.amount = terms->amount,
		.interval = NULL,
		.currency = s->currency,
		.customer_id = s->customer->id,
		.preview = terms->preview});
	check_group(s, chosen);
	price = component_price(chosen->id);
	check_component_price(s, "base", price, price);
	if (uuid_equal(price->plan_id, base->price->plan_id) &&
		strcmp(price->interval, base->price->interval) == 0 &&
		price->interval_count == base->price->interval_count)
	{
		base->price = price;
		return targets;
	}
	return take_plan(s, targets, price);
}

/* ------------------------------------------------------------------------
 * Items
 * ------------------------------------------------------------------------
 */
typedef struct ItemWish
{
	const BilledSubscription *s;
	List *targets;
	const char *counted; /* component that the argument quantity is of; NULL: it is not given */
	int64 quantity;
} ItemWish;

static _Noreturn void
refuse_item(const char *component, const char *why, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("items: \"%s\" %s", component, why),
			 errdetail("%s", detail), errhint("%s", hint)));
}

#define ITEMS_HINT \
	"Pass something like '{\"seats\": 7, \"support\": {\"quantity\": 1, \"price\": \"...\"}, \"extra\": null}'."

/* Whatever items says of it, something of the call would have no effect. */
static void
refuse_second_quantity(const ItemWish *wish, const char *component, const char *text)
{
	if (wish->counted != NULL && strcmp(component, wish->counted) == 0)
		refuse_item(component, "is what quantity counts, too",
					psprintf("quantity is " INT64_FORMAT ", items says %s.", wish->quantity, text),
					"Pass it once: as quantity, or within items.");
}

static void
set_item_quantity(const ItemWish *wish, ItemChange *target, const char *component, const char *text)
{
	int64 quantity;
	char *end;

	refuse_second_quantity(wish, component, text);
	errno = 0;
	quantity = strtoll(text, &end, 10);
	if (errno != 0 || *end != '\0' || !isdigit((unsigned char) *text))
		refuse_item(component, "has no whole quantity from 0 up", psprintf("It is %s.", text),
					ITEMS_HINT);
	if (quantity == 0 && strcmp(component, "base") == 0)
		refuse_item(component, "must be at least 1", "It is the subscription itself.",
					"Use billing.cancel_subscription() to end the subscription.");
	if (target->price->metric != NULL)
		refuse_item(component, "is metered and has no quantity",
					psprintf("It counts metric \"%s\".", target->price->metric),
					"Its quantity is what billing.record_usage() is told.");
	target->quantity = quantity;
}

/* What the plan sells, or did not sell yet when this was subscribed, comes in at the price of today. */
static ItemChange *
wished_target(ItemWish *wish, const char *component)
{
	const BilledSubscription *s = wish->s;
	ItemChange *target = target_named(wish->targets, component);
	const ComponentPrice *base = target_named(wish->targets, "base")->price;
	ListCell *cell;

	if (is_sold(target))
		return target;
	foreach (cell, plan_components(base->plan_id, s->currency, base->interval, base->interval_count,
								   s->customer->id, s->customer->now))
	{
		const ComponentPrice *price = lfirst(cell);

		if (strcmp(price->component, component) == 0)
			wish->targets = target_put(wish->targets, component, price, 1);
	}
	target = target_named(wish->targets, component);
	if (!is_sold(target))
		unknown_object(
			"component", component,
			"The plan has none of this name in this currency and interval; another price is named by "
			"'{\"support\": {\"price\": \"...\"}}'.");
	return target;
}

static void
check_item_member(const char *name, const JsonbValue *value, void *context)
{
	if (strcmp(name, "price") != 0 && strcmp(name, "quantity") != 0)
		refuse_item(context, psprintf("has an unknown member \"%s\"", name),
					"Members are price and quantity.", ITEMS_HINT);
}

static void
set_item_object(ItemWish *wish, const char *component, const Jsonb *object)
{
	char *price_text = json_text(object, "price");
	char *quantity = json_text(object, "quantity");
	pg_uuid_t *price_id = uuid_parse(price_text);
	ItemChange *target = target_named(wish->targets, component);

	json_visit(object, check_item_member, unconstify(char *, component));
	if (price_text == NULL && quantity == NULL && is_sold(target))
		refuse_item(component, "names neither price nor quantity",
					psprintf("It is %s.", json_string(object)), ITEMS_HINT);
	if (price_text != NULL && price_id == NULL)
		refuse_item(component, "names a price that is no id", psprintf("It is \"%s\".", price_text),
					"billing.prices has their ids.");
	if (price_id != NULL)
		wish->targets = target_put(wish->targets, component, component_price(price_id),
								   target == NULL ? 1 : target->quantity);
	target = wished_target(wish, component);
	if (quantity != NULL)
		set_item_quantity(wish, target, component, quantity);
}

static void
set_item(const char *component, const JsonbValue *value, void *context)
{
	ItemWish *wish = context;
	ItemChange *target = target_named(wish->targets, component);

	if (value->type == jbvBinary)
	{
		Jsonb *object = JsonbValueToJsonb(unconstify(JsonbValue *, value));

		if (!JB_ROOT_IS_OBJECT(object))
			refuse_item(component, "is an array", psprintf("It is %s.", json_string(object)),
						ITEMS_HINT);
		set_item_object(wish, component, object);
		return;
	}
	if (value->type != jbvNull)
	{
		set_item_quantity(wish, wished_target(wish, component), component, json_scalar_text(value));
		return;
	}
	if (!is_sold(target))
		unknown_object("component", component,
					   "billing.subscription_details.items has those that there are.");
	if (strcmp(component, "base") == 0)
		refuse_item(component, "cannot be removed", "It is the subscription itself.",
					"Use billing.cancel_subscription() to end the subscription.");
	refuse_second_quantity(wish, component, "null");
	target->price = NULL;
}

/* ------------------------------------------------------------------------
 * All of it
 * ------------------------------------------------------------------------
 */
static bool
is_as_now(const BilledSubscription *s, const ItemChange *target)
{
	const BilledItem *item = item_named(s, target->component);

	if (item == NULL || target->price == NULL)
		return item == NULL && target->price == NULL;
	return item->quantity == target->quantity && uuid_equal(item->price->id, target->price->id);
}

List *
change_targets(const BilledSubscription *s, const ChangeTerms *terms, const Jsonb *pending)
{
	ItemWish wish = {.s = s, .targets = targets_now(s)};
	List *different = NIL;
	ListCell *cell;

	if (pending != NULL)
	{
		foreach (cell, changes_of_terms(s, pending))
		{
			const ItemChange *change = lfirst(cell);

			wish.targets = target_put(wish.targets, change->component, change->price,
									  change->quantity);
		}
	}
	wish.targets = take_price(s, wish.targets, terms);
	if (terms->quantity > 0)
	{
		ItemChange *counted = counted_target(wish.targets);

		counted->quantity = wish.quantity = terms->quantity;
		wish.counted = counted->component;
	}
	if (terms->items != NULL)
	{
		if (!JB_ROOT_IS_OBJECT(terms->items))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("items is not an object"),
					 errdetail("It is %s.", json_string(terms->items)), errhint(ITEMS_HINT)));
		json_visit(terms->items, set_item, &wish);
	}
	foreach (cell, wish.targets)
	{
		if (!is_as_now(s, lfirst(cell)))
			different = lappend(different, lfirst(cell));
	}
	if (different != NIL)
		check_all(s, wish.targets);
	return different;
}

/* ------------------------------------------------------------------------
 * As terms of a change that is planned: {"plan", "prices", "quantities"}
 * ------------------------------------------------------------------------
 */
QUERY(plan_code, "SELECT plan FROM billing.plans WHERE id = $1", UUIDOID);

Jsonb *
changes_as_terms(const BilledSubscription *s, List *changes)
{
	ItemChange *base = target_named(changes, "base");
	JsonBuilder b;
	ListCell *cell;

	json_open(&b);
	if (base != NULL && !uuid_equal(base->price->plan_id, s->plan_id) &&
		RUN(plan_code, arg_uuid(base->price->plan_id)) > 0)
		json_add_text(&b, "plan", row_text(0, 1));
	json_open_object(&b, "prices");
	foreach (cell, changes)
	{
		const ItemChange *change = lfirst(cell);
		const BilledItem *item = item_named(s, change->component);

		if (change->price == NULL)
			json_add_null(&b, change->component);
		else if (item == NULL || !uuid_equal(item->price->id, change->price->id))
			json_add_text(&b, change->component, uuid_text(change->price->id));
	}
	json_close_object(&b);
	json_open_object(&b, "quantities");
	foreach (cell, changes)
	{
		const ItemChange *change = lfirst(cell);
		const BilledItem *item = item_named(s, change->component);

		if (change->price != NULL && (item == NULL || item->quantity != change->quantity))
			json_add_int(&b, change->component, change->quantity);
	}
	json_close_object(&b);
	return json_close(&b);
}

static void
read_price(const char *component, const JsonbValue *value, void *context)
{
	ItemWish *wish = context;
	const BilledItem *item = item_named(wish->s, component);
	const char *id = value->type == jbvNull ? NULL : json_scalar_text(value);

	wish->targets = target_put(wish->targets, component,
							   id == NULL ? NULL : component_price(uuid_parse(id)),
							   item == NULL ? 1 : item->quantity);
}

/* A component that has gone meanwhile has no quantity to change. */
static void
read_quantity(const char *component, const JsonbValue *value, void *context)
{
	ItemWish *wish = context;
	const BilledItem *item = item_named(wish->s, component);
	ItemChange *target = target_named(wish->targets, component);
	const ComponentPrice *price = target != NULL ? target->price
								  : item != NULL ? item->price
												 : NULL;

	if (price != NULL)
		wish->targets = target_put(wish->targets, component, price,
								   strtoll(json_scalar_text(value), NULL, 10));
}

List *
changes_of_terms(const BilledSubscription *s, const Jsonb *terms)
{
	ItemWish wish = {.s = s};

	json_visit(json_part(terms, "prices"), read_price, &wish);
	json_visit(json_part(terms, "quantities"), read_quantity, &wish);
	return wish.targets;
}

/*-------------------------------------------------------------------------
 *
 * engine_pause.c
 *	  What is changed in a pause, or while it is unpaid, counts from the resume on.
 *
 * The time of a pause gives no access, so a dearer plan costs nothing for it and
 * a cheaper one saves nothing.  Items change at once, since everybody asks them;
 * what they were before the pause is kept (subscriptions.items_before_pause).
 * When the subscription goes on inside the period that was billed, it is changed
 * once more, from what was kept to what it has become, at that moment: then all
 * counts as for any change, whatever was changed and changed back meanwhile.
 * Goes it on later, a new period begins with what it has become.
 *
 * One that is unpaid has no access either, and is not renewed: its time is a
 * pause that ends with the payment.  One may become the other, when a pause is
 * over and what it owes was given up in it.  While it is past due it has access,
 * so changes count at once.
 *
 * What is paid once is due when it is bought, also in a pause, and not kept.
 * Called by engine_changes.c and engine_ends.c.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

#include "json.h"

/* An item as a change would make it that is there; without a price where it is not. */
static ItemChange *
as_change(const BilledSubscription *s, const char *component)
{
	const BilledItem *item = item_named(s, component);
	ItemChange *change = palloc0(sizeof(ItemChange));

	change->component = pstrdup(component);
	if (item != NULL)
	{
		change->price = item->price;
		change->quantity = item->quantity;
	}
	return change;
}

static bool
is_kept(const List *kept, const char *component)
{
	ListCell *cell;

	foreach (cell, kept)
	{
		if (strcmp(((const ItemChange *) lfirst(cell))->component, component) == 0)
			return true;
	}
	return false;
}

/* The terms of a change back, with all of each item; changes_of_terms() reads them. */
static const Jsonb *
as_terms(const List *kept)
{
	JsonBuilder b;
	ListCell *cell;

	json_open(&b);
	json_open_object(&b, "prices");
	foreach (cell, kept)
	{
		const ItemChange *change = lfirst(cell);

		if (change->price == NULL)
			json_add_null(&b, change->component);
		else
			json_add_text(&b, change->component, uuid_text(change->price->id));
	}
	json_close_object(&b);
	json_open_object(&b, "quantities");
	foreach (cell, kept)
	{
		const ItemChange *change = lfirst(cell);

		if (change->price != NULL)
			json_add_int(&b, change->component, change->quantity);
	}
	json_close_object(&b);
	return json_close(&b);
}

static bool
is_once(const ItemChange *change)
{
	return change->price != NULL && change->price->one_time;
}

List *
pause_kept(const BilledSubscription *s)
{
	return s->before_pause == NULL ? NIL : changes_of_terms(s, s->before_pause);
}

/* The first change of an item keeps it. */
void
pause_keep(BilledSubscription *s, const List *changes)
{
	List *kept = pause_kept(s);
	ListCell *cell;

	foreach (cell, changes)
	{
		const ItemChange *change = lfirst(cell);
		ItemChange *present = as_change(s, change->component);

		if (!is_once(change) && !is_once(present) && !is_kept(kept, change->component))
			kept = lappend(kept, present);
	}
	if (kept != NIL)
		s->before_pause = as_terms(kept);
	s->changed = true;
}

/* Versions that came meanwhile, and move their subscriptions at once, count from here, too. */
static void
follow_versions(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	BilledItem *moving;

	while ((moving = item_with_new_version(s, at)) != NULL)
		engine_apply_successor(run, s, moving, at);
}

void
pause_catch_up(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	List *before = pause_kept(s);
	List *after = NIL;
	ListCell *cell;

	foreach (cell, before)
		after = lappend(after, as_change(s, ((ItemChange *) lfirst(cell))->component));
	s->before_pause = NULL;
	if (before != NIL)
	{
		subscription_put_items(s, before, at);
		subscription_change_items(run, s, after, PRORATION_WAITS, at);
	}
	follow_versions(run, s, at);
}

/*-------------------------------------------------------------------------
 *
 * engine_plans.h
 *	  What the calls about local subscriptions share: what is planned for one
 *	  (engine_ends.c), what a pause keeps (engine_pause.c), what is paid once
 *	  (engine_once.c), what a period gives up (engine_forgone.c), what a change in
 *	  the same instant takes back (engine_undo.c), and the run of a call
 *	  (subscription_local.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_ENGINE_PLANS_H
#define JANUA_ENGINE_PLANS_H

#include "engine.h"
#include "subscriptions.h"

/* The pending one of this kind; NULL when there is none. */
extern ScheduledChange *planned(const BilledSubscription *s, const char *kind);

/* Plans it, or anew: there is one of each kind. */
extern ScheduledChange *plan_change(BilledSubscription *s, const char *kind, TimestampTz due_at,
									const Jsonb *terms);

/* Takes it back, with what the subscription says of it. */
extern void unplan(BilledSubscription *s, const char *kind);

/*
 * Ends it: with credit for the time that is left, with the usage so far.  What
 * waits for the next invoice is on the last one in any case.
 */
extern void end_now(BillingRun *run, BilledSubscription *s, bool prorate, bool bill_usage,
					TimestampTz at);

/* Nothing more is tried to collect what it owes: it is unpaid, or ends (setting dunning_end). */
extern void give_up_collecting(BillingRun *run, BilledSubscription *s, TimestampTz at);

/* What was planned for the end of the period is planned for its new end. */
extern void plans_follow_period(BilledSubscription *s, TimestampTz old_end);

/* engine_start.c: 22023 unless an end by date lies after the start; 0 is fine. */
extern void check_end_after_start(TimestampTz starts_at, TimestampTz cancel_at);

/* subscription_local.c: JB008 when it has ended, or waits for its first payment. */
extern void local_require_changeable(const BilledSubscription *s);

/* subscription_local.c: when a change counts from: now, or what a preview has told.  22023 outside of the present period. */
extern TimestampTz local_proration_date(const BilledSubscription *s, TimestampTz named);

/*
 * subscription_local.c: changes one as update_subscription() is told.  In a
 * preview a payment method counts as attached.
 */
extern void local_change(BillingRun *run, BilledSubscription *s, const UpdateTerms *terms);

/* Is something of what is billed to change? */
extern bool local_changes_items(const UpdateTerms *terms);

/* subscription_local.c: loads one, locked unless it is a preview, and plays what was due until now. */
extern BillingRun *local_open(const pg_uuid_t *id, bool preview, BilledSubscription **s);

/* engine_ahead.c: a line of the invoice of the next period, given back or not; NULL: it is not invoiced. */
extern const pg_uuid_t *ahead_line(const BilledSubscription *s);

/* engine_changes.c: items become what the changes say, and nothing is billed. */
extern void subscription_put_items(BilledSubscription *s, List *changes, TimestampTz at);

/* engine_rest.c: the item at its price, whatever its quantity. */
extern bool line_is_for_price(const InvoiceLine *line, const BilledItem *item);

/* engine_rest.c: an error unless it is PRORATION_OK; 22003 when an amount does not fit. */
extern void require_proration(ProrationStatus status, const BilledSubscription *s);

/* engine_rest.c: what was given back of a billed line (its id) is billed again, to the cent. */
extern void take_back_credit_of(BillingRun *run, BilledSubscription *s, const pg_uuid_t *line_id);

/* engine_rest.c: bills this part of a whole period; the line waits. */
extern void bill_part_of_line(BilledSubscription *s, const InvoiceLine *part);

/* engine_undo.c: an item before it changes, and what the change gives back for it. */
typedef struct ItemBefore
{
	char *component;
	const pg_uuid_t *price_id; /* NULL: it was not there */
	int64 quantity;
	bool billed_as_it_is;   /* the present period */
	bool billed_otherwise;  /* that, or the next one, was billed for something else */
	const pg_uuid_t *ahead; /* a line of the next invoice, where that is made already */
	List *credited;         /* ids of billed lines */
	List *cut;              /* InvoiceLine: what was taken off lines that were not final */
} ItemBefore;

/* As it is now; nothing is given back yet. */
extern ItemBefore *item_before(const BilledSubscription *s, const char *component);
extern void item_before_credited(ItemBefore *before, const InvoiceLine *line);
extern void item_before_cut(ItemBefore *before, const InvoiceLine *line, TimestampTz at);

/* Before the item changes: what was kept of it as it is counts no more. */
extern void undo_leave(BilledSubscription *s, const char *component, TimestampTz at);

/* Before the item changes: it was not billed as it is. */
extern void undo_keep(BilledSubscription *s, ItemBefore *before, TimestampTz at);

/* After it has changed: is it what was kept in this instant?  Then what was given back for it is billed again. */
extern bool undo_restore(BillingRun *run, BilledSubscription *s, const char *component,
						 TimestampTz at);

/* What was kept counts no more. */
extern void undo_forget(BilledSubscription *s);

/* As it is stored; NULL for none. */
extern void undo_read(BilledSubscription *s, const Jsonb *stored);
extern const Jsonb *undo_text(const BilledSubscription *s);

/* engine_once.c: what is paid once and was not yet. */
extern void bill_unless_billed(BilledSubscription *s, BilledItem *item, TimestampTz at);

/* engine_once.c: items that are there and were billed, before they change. */
extern void change_all_once(BillingRun *run, BilledSubscription *s, List *changes, TimestampTz at);

/* engine_once.c: who comes back to a plan has paid what it costs once; an add-on is bought again. */
extern bool was_billed_once(const BilledSubscription *s, const ComponentPrice *price);

/*
 * engine_forgone.c: what was billed so far is for a period that is left now: it
 * is not given back any more, nor restored.
 */
extern void forgo_period(BilledSubscription *s);

/* engine_forgone.c: the present period is another one, and needs no more of it than what could be taken for its own. */
extern void forgone_follow_period(BilledSubscription *s);

/* engine_forgone.c: of the present period, or of one after it; of a billed line. */
extern bool line_counts(const BilledSubscription *s, const InvoiceLine *line);

/* engine_forgone.c: as it is stored; NULL for none. */
extern List *forgone_read(const Jsonb *ids);
extern const Jsonb *forgone_text(const BilledSubscription *s);

/* engine_pause.c: before items are changed in a pause, or unpaid: what they are is kept, to be prorated from. */
extern void pause_keep(BilledSubscription *s, const List *changes);

/* engine_pause.c: what was kept (ItemChange). */
extern List *pause_kept(const BilledSubscription *s);

/* engine_pause.c: it goes on inside of its period: what was changed meanwhile counts from here on. */
extern void pause_catch_up(BillingRun *run, BilledSubscription *s, TimestampTz at);

/* engine_renewal.c: the price of which has a version by then that subscriptions move to at once; NULL: none. */
extern BilledItem *item_with_new_version(const BilledSubscription *s, TimestampTz at);

/* engine_rest.c: gives back what was billed of all items for the time from then on; the lines wait. */
extern void subscription_give_back(BillingRun *run, BilledSubscription *s, TimestampTz at);

/* engine_rest.c: what was billed of one that changes is given back; kept for a change back in the same instant. */
extern void rest_give_back(BillingRun *run, BilledSubscription *s, const char *component,
						   TimestampTz at);

/* engine_rest.c: the item as it is now from a moment to the end of the period that it is in, or what was given back of that at this moment. */
extern void rest_bill_from(BillingRun *run, BilledSubscription *s, BilledItem *item,
						   TimestampTz at);

/* engine_rest.c: the item as it is now from then to the end of the period, and in the next one where that is invoiced already. */
extern void rest_bill(BillingRun *run, BilledSubscription *s, BilledItem *item, TimestampTz at,
					  bool ahead);

/* engine_changes.c: the item's price has a version that subscriptions move to at once, and its time has come. */
extern void engine_apply_successor(BillingRun *run, BilledSubscription *s, BilledItem *item,
								   TimestampTz at);

#endif /* JANUA_ENGINE_PLANS_H */

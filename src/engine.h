/*-------------------------------------------------------------------------
 *
 * engine.h
 *	  What the files of the billing engine share: subscriptions that we bill.
 *
 * The engine computes in memory and writes at the end.  A run loads local
 * subscriptions with their customers, items and what was billed (one statement
 * for each table, whatever their number); each is then played to a moment, which
 * changes it in memory and adds drafts of invoices; run_write() writes what has
 * changed, again one statement for each table.  A preview is the same run that
 * is not written, so it cannot tell anything else than what will be billed.
 *
 *	  engine.c              the duty: what is due, in batches
 *	  engine_state.c        what a subscription is: its items, its calendar, its states
 *	  engine_start.c        subscribe()
 *	  engine_load.c         loads a run
 *	  engine_write.c        writes a run
 *	  engine_renewal.c      one due time after the other: trial, renewal, what a period is billed for
 *	  engine_bill.c         what an item costs, and usage: the lines of a draft
 *	  engine_ahead.c        renewals that are invoiced before their period
 *	  engine_targets.c      what a change asks for, and what of it is refused
 *	  engine_changes.c      plan, quantity and price: now (prorated) or later
 *	  engine_once.c         of that, what is paid once
 *	  engine_forgone.c      what was billed for a period that was left without a credit
 *	  engine_rest.c         the rest of a period: given back, and billed anew
 *	  engine_undo.c         what is changed and changed back in one instant
 *	  engine_late.c         usage that came after its period was billed
 *	  engine_pause.c        what is changed in a pause, or unpaid, counts from the resume on
 *	  engine_corrections.c  usage that was billed and turns out to be less
 *	  engine_ends.c         cancel, pause, resume, expire; what is planned (engine_plans.h)
 *	  engine_news.c         an invoice was paid, or was not
 *	  engine_preview.c      preview_invoice, preview_update, simulate
 *	  subscription_local.c  update, cancel, pause and resume by a call
 *	  components.c          prices as they can be rated (components.h); add_on_prices.c: add-ons as items
 *	  fractions.c zones.c   numeric and MoneyFraction; time zones, and the time that it is
 *	  managers.c            who bills: a provider, or this engine (managers.h)
 *	  invoice_drafts.c      a draft: its lines, its completion
 *	  invoice_store.c       drafts in their tables, by invoice_lines.c; invoice_drafts_due.c when they wait no longer
 *	  own_invoices.c        invoices that a call makes, makes final, voids or gives up
 *	  invoice_numbers.c     numbers
 *	  coupons.c tax.c credits.c    what a draft is completed with (draft_steps.h); coupon_amounts.c: amounts in a change
 *	  given_back.c          what was given back follows what is paid
 *
 * Moments are TimestampTz of whole seconds; the calendar and the arithmetic are
 * pure C (period.h, rating.h, proration.h, price_parts.h, allocation.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_ENGINE_H
#define JANUA_ENGINE_H

#include "allocation.h"
#include "components.h"
#include "money.h"
#include "period.h"
#include "proration.h"
#include "rating.h"
#include "subjects.h"
#include "usage.h"

/* ------------------------------------------------------------------------
 * zones.c: the tz database of the server
 * ------------------------------------------------------------------------
 */

/* A zone by name, remembered for the life of the process; NULL for no zone. */
extern const LocalZone *zone_named(const char *name);

/* Whole seconds since 1970, rounded down, and back. */
extern int64 unix_seconds(TimestampTz moment);
extern TimestampTz moment_of_unix(int64 seconds);

/* Those of usage that a draft keeps. */
extern int64 unix_microseconds(TimestampTz moment);
extern TimestampTz moment_of_unix_microseconds(int64 microseconds);

/* The organisation's time in whole seconds: what every rule of the engine starts from. */
extern TimestampTz engine_now(const char *organization_id);

/* ------------------------------------------------------------------------
 * fractions.c
 * ------------------------------------------------------------------------
 */

/* numeric with 12 decimals and MoneyFraction; 22023 when it does not fit. */
extern MoneyFraction fraction_of_numeric(Numeric value, const char *what);
extern Numeric numeric_of_fraction(MoneyFraction value);

/* ------------------------------------------------------------------------
 * A run
 * ------------------------------------------------------------------------
 */
typedef struct CustomerCredits CustomerCredits; /* credits.c */
typedef struct CustomerCoupons CustomerCoupons; /* coupons.c */
typedef struct AppliedCoupon AppliedCoupon;     /* coupons.c */
typedef struct CustomerTax CustomerTax;         /* tax.c */
typedef struct RunTaxes RunTaxes;               /* tax.c */

typedef struct BilledCustomer
{
	pg_uuid_t *id;
	char *organization_id;
	char *country;
	char *tax_exempt; /* none, exempt, reverse */
	char *zone_name;
	TimestampTz
		now; /* the organisation's clock, whole seconds; not before the periods of the run */
	bool has_closings;        /* usage of the organisation was billed before */
	List *late;               /* UsageLine: what came late and is on a draft of this preview */
	CustomerCredits *credits; /* NULL until credits.c has asked for them */
	CustomerCoupons *coupons; /* coupons.c, the same */
	CustomerTax *tax;         /* tax.c, the same */
} BilledCustomer;

typedef struct BilledItem
{
	char *component;
	const ComponentPrice *price;
	int64 quantity;
	bool billed_once;
	bool is_new;
	bool changed;
	bool removed;
} BilledItem;

typedef enum LineKind
{
	LINE_BASE,
	LINE_SEATS,
	LINE_COMPONENT,
	LINE_USAGE,
	LINE_ONE_TIME,
	LINE_PRORATION_CREDIT,
	LINE_PRORATION_DEBIT,
	LINE_ADJUSTMENT,
	LINE_DISCOUNT, /* from here on added by draft_complete() */
	LINE_TAX,
	LINE_CREDIT,
	LINE_BALANCE,
	LINE_KINDS
} LineKind;

/* Of a line's discount: what a coupon with an amount took, by its row in applied_coupons. */
typedef struct AmountTaken
{
	const pg_uuid_t *applied_id;
	int64 amount;
} AmountTaken;

/* A line as it is billed, or was: the row of billing.invoice_lines. */
typedef struct InvoiceLine
{
	pg_uuid_t *id;
	LineKind kind;
	int tier; /* -1: none */
	pg_uuid_t *subscription_id;
	const char *component;
	const pg_uuid_t *price_id;
	const char *metric;
	const char *description;
	MoneyFraction quantity;
	MoneyFraction unit_amount;
	int64 amount;
	int64 discount;
	List *amounts; /* AmountTaken; of what reverses a line, see coupon_amounts.c */
	int64 tax;
	const pg_uuid_t *tax_rate_id; /* NULL: no tax */
	bool has_quantity;            /* quantity and unit_amount say something */
	bool tax_inclusive;
	bool discountable;
	bool own_tax;  /* tax is given and not computed: of a credit */
	bool untaxed;  /* no rate applies to it, whatever those of the draft are */
	bool invoiced; /* false: it is on a draft of this run, or of a draft that is not final */
	bool
		stored; /* its row is there: on a stored draft, or waiting; one that waited and is on a draft now is moved */
	const pg_uuid_t *coupon_id;
	const pg_uuid_t *grant_id; /* prepaid credit */
	TimestampTz period_start;  /* 0: none */
	TimestampTz period_end;
	TimestampTz whole_start; /* 0: it cannot be given back in part */
	TimestampTz whole_end;
	MoneyFraction whole_price;
	const pg_uuid_t *reverses;
	int64 not_covered; /* of a credit: what it would give back besides, had it been paid */
	int64
		taken_off; /* of a correction of usage: of its line before discount; of that line: by all of them */
	bool is_made_up; /* of a credit: credit notes have given some of that */

	/* of a line that was billed before (engine_load.c): what was paid of it with its tax, and given back */
	int64 paid;
	int64 credited;
	int64 noted;   /* taken back by credit notes, with its tax; not of credited */
	int64 made_up; /* of noted: what credits could not give back before it was paid */
	int64 made_up_tax;
	const pg_uuid_t *given_up; /* its invoice, where that is uncollectible */
	int64 *
		left; /* of what was paid and kept of its invoice, shared by its lines; NULL: nothing was refunded or disputed */

	TimestampTz given_back_at; /* from when on a credit has taken it back; 0: it counts */
	int64 credited_tax;        /* of credited */
} InvoiceLine;

/* What is asked for it, with its tax. */
static inline int64
line_gross(const InvoiceLine *line)
{
	return line->amount - line->discount + (line->tax_inclusive ? 0 : line->tax);
}

/* What the engine asks of billing.settings; read once for a run. */
typedef struct EngineSettings
{
	ProrationUnit proration_unit;
	char *zone_name;    /* where the customer names none */
	int64 trial_notice; /* seconds */
	int64 usage_grace;  /* seconds */
	int lead_days;      /* of what is paid to a reference */
} EngineSettings;

typedef struct BilledSubscription
{
	pg_uuid_t *id;
	BilledCustomer *customer;
	pg_uuid_t *plan_id;
	char *plan;
	char *plan_name;
	char *plan_group;
	const char *status;
	const char *old_status; /* as loaded; NULL: it is new */
	char *provider;
	char *account;
	char *currency;
	char *zone_name;
	TimestampTz billing_anchor;
	TimestampTz schedule_start;
	TimestampTz trial_start;
	TimestampTz trial_end;
	TimestampTz trial_notice_at;
	TimestampTz period_start;
	TimestampTz period_end;
	TimestampTz cancel_at;
	TimestampTz canceled_at;
	TimestampTz ended_at;
	TimestampTz status_since;
	TimestampTz resumes_at;
	const Jsonb *before_pause; /* engine_pause.c; NULL: nothing was changed in a pause, or unpaid */
	TimestampTz incomplete_until;
	const char *collection_method;
	const char *collect_by; /* oxxo, spei: paid to a reference; NULL: the method is charged */
	const char *trial_end_behavior;
	pg_uuid_t *payment_method_id;
	List *items;         /* BilledItem */
	List *billed;        /* InvoiceLine: what was billed for time that is not over, newest last */
	List *forgone;       /* ids of those that another period has given up (engine_forgone.c) */
	List *pending;       /* InvoiceLine: waits for the next invoice */
	List *before_change; /* ItemBefore, of changes at changed_at (engine_undo.c) */
	TimestampTz changed_at;
	TimestampTz usage_from; /* from when on usage is not billed yet; 0: nothing is metered */
	List *changes;          /* ScheduledChange that are pending, by due_at */
	TimestampTz next_due_at;
	const EngineSettings *settings;
	const Jsonb *metadata; /* of a new one only */
	int days_until_due;    /* -1: not named */
	bool livemode;
	bool cancel_at_period_end;
	bool pause_at_period_end;
	bool has_payment_method; /* its own, or a default one of the customer */
	bool changed;
} BilledSubscription;

typedef struct ScheduledChange
{
	pg_uuid_t *id;
	const char *kind; /* start, cancel, pause, resume, change */
	TimestampTz due_at;
	const Jsonb *terms;
	const char *state; /* pending, done, canceled, failed */
	const char *error_code;
	const char *reason;   /* of a new one */
	const bytea *comment; /* of a new one, sealed */
	bool is_new;
	bool changed;
} ScheduledChange;

/* Usage that a draft bills, and the whole period that it is all or a part of. */
typedef struct DraftUsage
{
	UsageRange period;
	UsageRange whole;
} DraftUsage;

typedef struct InvoiceDraft
{
	pg_uuid_t *id;
	BilledSubscription *subscription; /* NULL: of a customer alone */
	BilledCustomer *customer;
	char *provider;
	char *account;
	bool livemode;
	const char *
		reason; /* subscription_create, subscription_cycle, subscription_update, subscription_end, manual */
	const char *currency;
	TimestampTz made_at; /* its own time by the clock */
	TimestampTz period_start;
	TimestampTz period_end;
	TimestampTz finalize_at; /* it waits for late usage until then */
	const char *collection_method;
	int days_until_due;
	List *usage; /* DraftUsage *: periods whose usage is to be billed when it is final */
	List *lines; /* InvoiceLine */
	AllocationTotals totals; /* by draft_complete() */
	int64 credit_used;
	int64 balance_used;
	int64 due;
	const char *seller;    /* NULL: the default one */
	const char *memo;      /* what is printed below the lines; NULL: nothing */
	const Jsonb *metadata; /* NULL: none */
	bool is_new;           /* not stored yet */
	bool is_final;         /* completed: marked for its number */
	bool changed;
} InvoiceDraft;

typedef struct BillingRun
{
	bool preview; /* nothing is closed, consumed or written */
	EngineSettings settings;
	List *customers;
	List *subscriptions;
	List *drafts;
	List *dropped; /* InvoiceDraft: stored, and in the end there was nothing to bill */
	List *events;  /* EngineEvent: what is recorded, at the end */
	HTAB *customer_ids;
	HTAB *subscription_ids;
	RunTaxes *taxes;
	List *minimums;      /* SmallestCharge (credits.c): what providers charge at least */
	List *cut_lines;     /* InvoiceLine that are stored and were shortened */
	List *dropped_lines; /* ids of stored ones that are no longer */
	List *given_up;      /* ids of uncollectible invoices of which more or less is given back now */
} BillingRun;

/* engine_load.c: loads and, unless it is a preview, locks (customers first).  skip_locked leaves out who is busy. */
extern BillingRun *run_load(pg_uuid_t *const *subscription_ids, int count, bool skip_locked,
							bool preview);
extern BillingRun *run_begin(bool preview); /* an empty one */

/* A run over one subscription, which it waits for; NULL when it is not ours. */
extern BilledSubscription *run_load_one(const pg_uuid_t *subscription_id, bool preview,
										BillingRun **run);

/* Of the run; a customer who is not in it yet is loaded, and locked unless it is a preview.  JB005 unknown. */
extern BilledCustomer *run_customer(BillingRun *run, const pg_uuid_t *customer_id);

/* NULL when the run does not have it. */
extern BilledSubscription *run_subscription(BillingRun *run, const pg_uuid_t *subscription_id);

/* Adds a new one: from then on run_subscription() finds it and run_write() writes it. */
extern void run_add_subscription(BillingRun *run, BilledSubscription *s);

/* Drafts that are stored and not final, with their lines; none that the run has already. */
extern void run_load_drafts(BillingRun *run, pg_uuid_t *const *invoice_ids, int count);

/* invoice_store.c, for run_load(): those of the run's subscriptions that wait for late usage. */
extern void run_load_waiting_drafts(BillingRun *run, ArrayType *subscription_ids);

/*
 * engine_write.c.  What was written counts as stored afterwards, so that a run
 * may be written, go on and be written again.
 */
extern void run_write(BillingRun *run);

/* invoice_store.c: writes drafts and their lines; part of run_write(), after the subscriptions. */
extern void drafts_write(BillingRun *run);

typedef struct EngineEvent
{
	const char *type;
	const char *object;
	const pg_uuid_t *id;
	const char *organization_id;
	const char *before;
	const char *after;
} EngineEvent;
extern void run_event(BillingRun *run, const char *type, const char *object, const pg_uuid_t *id,
					  const char *organization_id, const char *before, const char *after);

/* ------------------------------------------------------------------------
 * engine.c: the duty
 * ------------------------------------------------------------------------
 */

/* What cannot be billed is tried again so much later, and twice as much each time. */
#define ENGINE_RETRY_FIRST_SECS 60
#define ENGINE_RETRY_MOST_SECS  (6 * SECS_PER_HOUR)

/* How long the first payment of a subscription is waited for. */
#define ENGINE_INCOMPLETE_USECS (23 * USECS_PER_HOUR)

/* Plays subscriptions that are due; above 0 when there may be more. */
extern int engine_pass(void);

/* ------------------------------------------------------------------------
 * engine_state.c: what a subscription is
 * ------------------------------------------------------------------------
 */
static inline bool
is_status(const BilledSubscription *s, const char *status)
{
	return strcmp(s->status, status) == 0;
}

/* Its periods are: paused and unpaid, nothing is billed, usage neither. */
static inline bool
is_billed(const BilledSubscription *s)
{
	return is_status(s, "active") || is_status(s, "past_due");
}

/* NULL: it has none, or not any more. */
extern BilledItem *item_named(const BilledSubscription *s, const char *component);

/* The base item: its price tells the interval. */
extern BilledItem *base_item(const BilledSubscription *s);

/* Nothing of it is ever due. */
extern bool subscription_is_free(const BilledSubscription *s);

/* Has it an item whose price counts usage? */
extern bool subscription_is_metered(const BilledSubscription *s);

/* By the base price, in its zone; 22023 where the server does not know that. */
extern PeriodSchedule engine_schedule(const BilledSubscription *s);

/* The setting proration_unit, in the subscription's zone. */
extern Proration engine_proration(const BilledSubscription *s);

/* With what follows from the state, and its event. */
extern void set_status(BillingRun *run, BilledSubscription *s, const char *status, TimestampTz at);

/* When it is to begin, where that is planned for later; 0: it has begun. */
extern TimestampTz subscription_starts_at(const BilledSubscription *s);

/* When something is due for it next, by what it is; 0: never. */
extern TimestampTz engine_next_due(const BilledSubscription *s);

/* ------------------------------------------------------------------------
 * engine_renewal.c: one due time after the other
 * ------------------------------------------------------------------------
 */

/*
 * Plays everything that is due for a subscription until a moment, each at its
 * own time, and sets next_due_at.
 */
extern void engine_play(BillingRun *run, BilledSubscription *s, TimestampTz until);

/* Until then nothing is played: it is only said when something is due. */
#define NOTHING_YET DT_NOBEGIN

extern BillingPeriod period_containing(const BilledSubscription *s, TimestampTz at);

/* Begins the period in which the moment lies: bills what is due in advance, and the usage of the period before. */
extern void engine_begin_period(BillingRun *run, BilledSubscription *s, TimestampTz at,
								const char *reason);

/* Is there something to bill in advance?  And its lines, for a period. */
extern bool anything_in_advance(const BilledSubscription *s);
extern void bill_in_advance(InvoiceDraft *draft, BilledSubscription *s,
							const BillingPeriod *period);

/* ------------------------------------------------------------------------
 * engine_bill.c: what an item costs
 * ------------------------------------------------------------------------
 */

/* What an item costs in a period that may be a part of a whole one; adds the line. */
extern void bill_item(InvoiceDraft *draft, const BilledSubscription *s, const BilledItem *item,
					  const BillingPeriod *period, LineKind kind);

/* What a line is called, what a whole period costs before it is rounded, and how that is printed. */
extern const char *item_description(const BilledSubscription *s, const BilledItem *item);
extern MoneyFraction item_whole_price(const BilledItem *item);
extern void line_say_quantity(InvoiceLine *line, const BilledItem *item);

/* What is too large for its price is an ERROR (22003). */
extern void require_rated(RatingStatus status, const ComponentPrice *price);

/* The whole period of today's calendar around a moment; of one that was counted differently there may be none. */
extern UsageRange whole_containing(const BilledSubscription *s, TimestampTz at);

/* What counts for so much of a period; the price itself for all of one. */
extern const RatedPrice *usage_price_for(const BilledSubscription *s, const ComponentPrice *price,
										 const DraftUsage *usage);
extern InvoiceLine *add_usage_line(InvoiceDraft *draft, const char *component,
								   const ComponentPrice *price, int64 amount, const char *part,
								   UsageRange period);

/* The lines of so much usage; below 0 it is none. */
extern void bill_usage(InvoiceDraft *draft, const char *component, const ComponentPrice *price,
					   MoneyFraction quantity, const DraftUsage *usage);

/* The usage of all metered items from usage_from on is on this draft; what is closed can wait for what comes late. */
extern void bill_usage_until(BillingRun *run, InvoiceDraft *draft, BilledSubscription *s,
							 TimestampTz until, bool may_wait);

/* From when on one that begins to be metered at a moment counts: after what one that ended in that second counts. */
extern TimestampTz usage_begins(const BilledSubscription *s, TimestampTz at);

/*
 * What draft_complete() asks for the usage of draft->usage: closes (previews)
 * its periods and adds the lines, those of corrections included.
 */
extern void engine_bill_usage_of(BillingRun *run, InvoiceDraft *draft);

/* Prices of usage change: drafts that wait for late usage are billed for theirs at the prices that were in force. */
extern void bill_usage_of_waiting_drafts(BillingRun *run, const BilledSubscription *s);

/* A stored draft that waits for late usage has that of now, and waits on without it. */
extern void bill_stored_usage(const pg_uuid_t *subscription_id, pg_uuid_t *draft_id);

/* The usage until a moment, billed now and at today's prices: its lines wait for the next invoice. */
extern void bill_usage_to_pending(BillingRun *run, BilledSubscription *s, TimestampTz until);

/* ------------------------------------------------------------------------
 * engine_late.c: what came late into a period that was billed before
 * ------------------------------------------------------------------------
 */

/* By which prices a closed period was billed: what comes late into it costs the same. */
extern void keep_usage_prices(const InvoiceDraft *draft, const DraftUsage *usage);

/* The corrections of these lines (UsageLine), which the closing has that begins then. */
extern void bill_corrections(BillingRun *run, InvoiceDraft *draft, const List *lines,
							 TimestampTz closing);

/*
 * What came late where no closing of this subscription will take it over, as it
 * has nothing metered any more.  On the draft, or on a new one if there is
 * something; returns that.
 */
extern InvoiceDraft *bill_late_usage(BillingRun *run, BilledSubscription *s, InvoiceDraft *draft,
									 const char *reason, TimestampTz at);

/* ------------------------------------------------------------------------
 * engine_corrections.c: usage that was billed and turns out to be less
 * ------------------------------------------------------------------------
 */
typedef struct UsageDecrease
{
	const char *component;
	const ComponentPrice *price;
	DraftUsage usage;
	MoneyFraction quantity; /* that is left */
	int64 before;           /* what the period cost until now, before discount */
	int64 after;
	bool by_hand; /* closed so: lines have only what came late */
} UsageDecrease;

/* What was billed is given back where it is final, and becomes less where it is not; nothing of what is void. */
extern void usage_give_back(BillingRun *run, InvoiceDraft *draft, const UsageDecrease *decrease);

/* engine_load.c: what stands of the usage of a component in a closed period: lines (InvoiceLine), oldest first. */
extern List *billed_usage(const char *organization_id, UsageRange period, const char *component);

/* ------------------------------------------------------------------------
 * engine_ahead.c: the next period, invoiced before it begins
 * ------------------------------------------------------------------------
 */

/* Until when the next period is invoiced already; 0: it is not. */
extern TimestampTz ahead_until(const BilledSubscription *s);

/* When that is to be done; 0: at its beginning. */
extern TimestampTz ahead_due(const BilledSubscription *s);

/* Invoices it: what is due in advance, and the usage of the periods that are over. */
extern void engine_invoice_ahead(BillingRun *run, BilledSubscription *s, TimestampTz at);

/* The next period is the present one from here on, as it is invoiced; false: it is not. */
extern bool ahead_begin(BilledSubscription *s);

/*
 * It will not come: its invoice, which is returned, is voided, unless something of it is paid or on its way (NULL).
 * For what ends or rests; whatever goes on is no longer past due if nothing else is owed.
 */
extern pg_uuid_t *ahead_call_off(BillingRun *run, BilledSubscription *s);
extern void ahead_call_off_and_go_on(BillingRun *run, BilledSubscription *s);

/* ------------------------------------------------------------------------
 * engine_changes.c: items, now.
 * ------------------------------------------------------------------------
 */
typedef enum ProrationBehavior
{
	PRORATION_WAITS,    /* create_prorations: lines for the next invoice */
	PRORATION_INVOICED, /* always_invoice: an invoice of reason subscription_update */
	PRORATION_NONE
} ProrationBehavior;

extern ProrationBehavior proration_behavior_named(const char *name);

/* An item as it is to be; without a price it goes. */
typedef struct ItemChange
{
	const char *component;
	const ComponentPrice *price;
	int64 quantity;
} ItemChange;

/*
 * Changes items at a moment of the present period: credits what was billed for
 * the rest of it, and bills the rest anew.  Another interval, or the first price
 * above 0, begins a new period.  In a trial, and at the end of the period, items
 * change and nothing else.
 */
extern void subscription_change_items(BillingRun *run, BilledSubscription *s, List *changes,
									  ProrationBehavior behavior, TimestampTz at);

/* It waits, or is on a draft that is not final: it is no more.  s is its subscription; NULL: not of this run. */
extern void line_drop(BillingRun *run, BilledSubscription *s, InvoiceLine *line);

/* Its draft was completed by this run. */
extern bool completed_in_run(const BillingRun *run, const InvoiceLine *line);

/* ------------------------------------------------------------------------
 * engine_targets.c: what a change asks for, and as terms of a scheduled change
 * ------------------------------------------------------------------------
 */
typedef struct ChangeTerms
{
	const char *plan;
	const pg_uuid_t *price;
	int64 amount;   /* NO_AMOUNT: not named */
	int64 quantity; /* 0: not named */
	const Jsonb
		*items;   /* {"seats": 7}, {"seats": {"quantity": 7, "price": "..."}}, {"seats": null} */
	bool preview; /* nothing is written, also no price for the amount */
} ChangeTerms;

/* Another subscription of the organisation that is billed for usage, as one may be; NULL: there is none. */
extern pg_uuid_t *other_metered_subscription(const BilledSubscription *s);

/* ItemChange of what will differ; pending: what is planned already counts as done. Errors: 22023, JB005, JB008. */
extern List *change_targets(const BilledSubscription *s, const ChangeTerms *terms,
							const Jsonb *pending);
extern Jsonb *changes_as_terms(const BilledSubscription *s, List *changes);
extern List *changes_of_terms(const BilledSubscription *s, const Jsonb *terms);

/* ------------------------------------------------------------------------
 * engine_ends.c: what engine_play() comes to, each at its own time and in
 * memory.  They leave next_due_at to engine_play().
 * ------------------------------------------------------------------------
 */

/*
 * A scheduled change is due: it is done afterwards.  One that cannot be carried out any more is an ERROR; engine_pass()
 * then lets it fail, and plays the subscription without it.
 */
extern void engine_carry_out(BillingRun *run, BilledSubscription *s, ScheduledChange *change,
							 TimestampTz at);

/* engine_start.c: it begins, trialing or with its first period. */
extern void engine_start(BillingRun *run, BilledSubscription *s, TimestampTz at);

/* It ends: usage so far and what waits are on an invoice of reason subscription_end; canceled. */
extern void engine_end(BillingRun *run, BilledSubscription *s, TimestampTz at);

/* Paused, until resumes_at where there is one. */
extern void engine_pause(BillingRun *run, BilledSubscription *s, TimestampTz at);

/* A pause (or being unpaid) is over: goes on in its period, or begins a new one. */
extern void engine_resume(BillingRun *run, BilledSubscription *s, TimestampTz at);

/* Nobody paid: incomplete_expired, and its invoice is called off when that is written. */
extern void engine_expire(BillingRun *run, BilledSubscription *s, TimestampTz at);

/* ------------------------------------------------------------------------
 * invoice_drafts.c
 * ------------------------------------------------------------------------
 */

/* A new draft, or the one of this reason and period that the run has already. */
extern InvoiceDraft *draft_for(BillingRun *run, BilledSubscription *s, const char *reason,
							   TimestampTz at);
extern InvoiceLine *draft_add(InvoiceDraft *draft, LineKind kind, int64 amount,
							  const char *description);

/* The next invoice of a subscription, where a draft waits for late usage beyond a moment; NULL: none does. */
extern InvoiceDraft *draft_that_waits(const BillingRun *run, const BilledSubscription *s,
									  TimestampTz at);

/* What waits for the next invoice stands on that draft from here on. */
extern void pending_to_draft(BillingRun *run, BilledSubscription *s, TimestampTz at);

/* What is billed and not final: what waits for the next invoice, and is on drafts. */
extern List *lines_not_final(const BillingRun *run, const BilledSubscription *s);

/*
 * Usage (closed, or previewed), coupons, tax, totals, prepaid credit and
 * balance, in this order.  From then on it is final.
 */
extern void draft_complete(BillingRun *run, InvoiceDraft *draft);

extern const char *line_kind_name(LineKind kind);
extern LineKind line_kind_of(const char *name);

/* ------------------------------------------------------------------------
 * What the engine, collection and the rest of the house tell each other
 * ------------------------------------------------------------------------
 */

/*
 * engine_news.c, for collection_money.c and dunning.c: an invoice of ours was paid, or an attempt to collect it
 * failed.  In the transaction of the news.
 */
extern void engine_invoice_paid(const pg_uuid_t *invoice_id);
extern void engine_invoice_failed(const pg_uuid_t *invoice_id, bool last_attempt);

/* One that nobody has paid was taken back: what waited for its money alone goes on.  A first one activates nothing. */
extern void engine_invoice_voided(const pg_uuid_t *invoice_id);

/* The same for one of a run, which nothing else may write meanwhile: nothing is owed by this invoice any more. */
extern void engine_go_on(BillingRun *run, BilledSubscription *s, const pg_uuid_t *invoice_id);

/* A first payment takes longer (a voucher, until a day after it expires): an incomplete one waits until then. */
extern void engine_wait_for_payment(const pg_uuid_t *subscription_id, TimestampTz until);

/* How it is collected has changed, and with it when it is due. */
extern void engine_plan_again(const pg_uuid_t *subscription_id);

/* collection.c: how many days before its period a renewal has to be invoiced; 0: at its beginning. */
extern int collection_lead_days(const BilledSubscription *s);

/*
 * collection.c: the least that can be charged at once, minor units; 0: no limit.
 * What is due below it is carried to the next invoice, or written off.
 */
extern int64 collection_minimum(const char *provider, const char *currency);

/* collection.c: a customer has another method to charge: what waits for it is tried at once. */
extern void collection_method_arrived(const pg_uuid_t *customer_id);

/* collection.c: a method is attached or was refused: what waits for it is looked at. */
extern void collection_method_settled(const pg_uuid_t *customer_id);

/* collection.c: a subscription is collected by reference from now on: one is made for what could not be charged. */
extern void collection_reference_chosen(const pg_uuid_t *subscription_id);

/* collection_calls.c: JB004 unless references of this kind (NULL: none) can be made there. */
extern void collection_require_reference(const Account *account, const char *currency,
										 const char *method);

/* collection.c: the duty that charges, sends and reminds; above 0 when there may be more. */
extern int collection_pass(void);

/* invoice_numbers.c: the duty that numbers what is marked; above 0 when there may be more. */
extern int invoices_number(void);

/*
 * given_back.c: what refunds of all payments of an invoice may still give back
 * when what changes and credit notes gave back of it is kept; INT64_MAX: they gave nothing.
 */
extern int64 credits_leave(const pg_uuid_t *invoice_id);

/* credit_note_numbers.c: the same for credit notes; invoices_number() calls it. */
extern int credit_notes_number(void);

/* invoice_drafts_due.c: the duty that completes drafts whose finalize_at has come; above 0 when there may be more. */
extern int drafts_finalize_due(void);

/* Completes and writes stored drafts; the caller has locked their customers.  Their subscriptions, each once or more. */
extern void drafts_complete_stored(pg_uuid_t *const *ids, int count,
								   pg_uuid_t *const *subscription_ids, int subscription_count);

/* credits.c: an invoice was voided: what credits and balance paid of it comes back.  Once, however often it is called. */
extern void credits_release(const pg_uuid_t *invoice_id);

/*
 * credit_grants.c: adds to the balance of a customer (above 0: we owe it to him), an entry that
 * never changes.  reason is a word (overpayment, credit_note, adjustment);
 * source_type and source_id, or NULL: what it comes from.  Locks the customer.
 * Not for a customer of a run that has completed drafts and is not written.
 */
extern void balance_add(const pg_uuid_t *customer_id, const char *currency, int64 amount,
						const char *reason, const char *source_type, const pg_uuid_t *source_id);

/* credit_grants.c: the duty that ends prepaid credits whose time is over; above 0 when there may be more. */
extern int credits_expire(void);

#endif /* JANUA_ENGINE_H */

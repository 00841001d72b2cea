/*-------------------------------------------------------------------------
 *
 * draft_steps.h
 *	  What a draft of the engine is completed with, in this order: what takes
 *	  something off (coupons.c), what comes on top (tax.c), what pays it before
 *	  money does (credits.c).
 *
 * draft_complete() asks them (invoice_drafts.c); what they took in a run is
 * written with it (engine_write.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_DRAFT_STEPS_H
#define JANUA_DRAFT_STEPS_H

#include "engine.h"

/* A coupon that a draft is discounted by. */
typedef struct DraftCoupon
{
	const pg_uuid_t *coupon_id;
	const pg_uuid_t *application_id; /* the row that applied it */
	const char *name;
	Coupon terms;
	bool counts; /* for the draft; false: only what is kept of it */
	int64 taken;
	List *kept;       /* KeptAmount: what debits of a change are to be discounted by */
	int64 kept_taken; /* of that, no more than the debits */
	AppliedCoupon *applied;
} DraftCoupon;

/* In their order (DraftCoupon): none that is over, but for what a change keeps of it. */
extern List *coupons_of(BillingRun *run, const InvoiceDraft *draft);

/* Does it count for this line?  What AllocatedLine.takes_part is for this coupon. */
extern bool coupon_takes_line(const DraftCoupon *coupon, const InvoiceDraft *draft,
							  const InvoiceLine *line);

/* coupon_amounts.c: for the rest of a period, which amounts count for only as far as a credit took them back? */
extern bool line_is_of_change(const InvoiceDraft *draft, const InvoiceLine *line);

/* Is the draft the invoice of a period, or of what is no change? */
extern bool draft_takes_amounts(const InvoiceDraft *draft);

/* What debits for this time are to be discounted by. */
typedef struct KeptAmount
{
	Period time;
	int64 amount;
} KeptAmount;

/* What the draft's credits took back of what an applied coupon took, less what is billed again as it was; by time. */
extern List *amounts_kept(const InvoiceDraft *draft, const pg_uuid_t *applied_id);

/* What a debit of a change costs in a part of its time. */
extern int64 debit_within(const InvoiceDraft *draft, const InvoiceLine *line, const Period *time);

/* What a credit of the line takes back of its amounts. */
extern List *amounts_taken_back(const InvoiceLine *line, const ProrationCredit *credit);

extern List *amount_taken(List *amounts, const pg_uuid_t *applied_id, int64 amount);

/*
 * They were taken (those with taken above 0): one use less.  Only the run
 * remembers it until coupons_write(), so also to be called in a preview.
 */
extern void coupons_taken(const InvoiceDraft *draft, List *coupons);

/* What the run took and applied, in one statement each.  After subscriptions and invoices are written. */
extern void coupons_write(BillingRun *run);

/* An invoice was voided: the coupons that took something off it were not used for it.  Once. */
extern void coupons_release(const pg_uuid_t *invoice_id);

/* A subscription has ended before it was paid for, and its invoices are void: its coupons end, and who never had one used did not redeem it. */
extern void coupons_end(const BilledSubscription *s, TimestampTz at);

/*
 * Applies a coupon by its code to a subscription of the run (subscribe() and
 * update_subscription() with coupon): it counts for the drafts that are
 * completed from then on.  The plan, the currency and the customer have to be
 * known, the row need not be written yet.  JB005 unknown, JB008 and 22023 with
 * the reason.
 */
extern void coupon_apply_in_run(BillingRun *run, BilledSubscription *s, const char *code,
								TimestampTz at);

typedef struct DraftTax
{
	const pg_uuid_t *tax_rate_id;
	const char *name;
	const char *note; /* what is printed: reverse charge, exempt; NULL */
	bool current;     /* false: only of lines that give back what was billed before */
	bool always;      /* there is a line for it also if it is of no line */
	TaxRate terms;
} DraftTax;

/*
 * The rates that apply to a line of this draft: index in the list, or
 * NO_TAX_RATE.  One with a note and no rate id taxes nothing, and its line is to
 * be printed with the note.  Whether tax is inside is told by
 * InvoiceLine.tax_inclusive.
 */
extern List *taxes_of(BillingRun *run, const InvoiceDraft *draft);
extern int tax_of_line(List *taxes, const InvoiceDraft *draft, const InvoiceLine *line);

/* The setting tax_behavior: what counts for a line without a price, or whose price says nothing. */
extern bool tax_is_inclusive_by_default(void);

/*
 * What prepaid credits and balance pay of a total: adds the lines of kind credit
 * and balance, and sets credit_used, balance_used and due.  In a preview nothing
 * is consumed, but the run remembers it.
 */
extern void credits_settle(BillingRun *run, InvoiceDraft *draft, int64 total);

/*
 * After credits_settle(): what is due is charged, and less than the provider
 * charges.  It is owed with the next invoice; on the last one of a subscription
 * an adjustment writes it off.
 */
extern void credits_spare_small(BillingRun *run, InvoiceDraft *draft);

/* Less than the provider charges was carried to the next invoice, and this subscription's last is the customer's. */
extern bool credits_owe_small(BillingRun *run, const BilledSubscription *s);

/* What the run consumed, in one statement for each table.  After invoices are written. */
extern void credits_write(BillingRun *run);

#endif /* JANUA_DRAFT_STEPS_H */

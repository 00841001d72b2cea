/*-------------------------------------------------------------------------
 *
 * coupons.h
 *	  What coupon_terms.c (what there is, and who gets one) and coupons.c (what
 *	  a draft is discounted by) share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_COUPONS_H
#define JANUA_COUPONS_H

#include "engine.h"

/* A row of billing.coupons, as far as it is asked for. */
typedef struct StoredCoupon
{
	pg_uuid_t *id;
	char *code;
	char *name;
	Coupon terms;
	char *currency; /* of an amount; NULL: a percentage */
	bool once;
	int months;       /* 0: not repeating */
	List *plan_ids;   /* pg_uuid_t; NIL: all */
	List *components; /* char; NIL: all */
} StoredCoupon;

/* The columns that coupon_from_row() reads, of coupons AS c. */
#define COUPON_COLUMNS                                                            \
	"c.id, c.coupon, c.name, c.percent::text, c.amount, c.currency, c.duration, " \
	"coalesce(c.months, 0), c.plan_ids, c.components"

extern StoredCoupon *coupon_from_row(Rows rows, int64 row, int column);
extern bool coupon_is_for_plan(const StoredCoupon *coupon, const pg_uuid_t *plan_id);

/* A row of billing.applied_coupons. */
struct AppliedCoupon
{
	pg_uuid_t *id;
	const StoredCoupon *coupon;
	const pg_uuid_t *subscription_id; /* NULL: of the organisation */
	TimestampTz applied_at;
	TimestampTz ends_at; /* 0: none */
	bool used_up;        /* or removed */
	bool is_new;         /* not stored yet */
	int64 new_uses;      /* not stored yet */
};

/* Who is to get a coupon. */
typedef struct CouponTarget
{
	const pg_uuid_t *customer_id;
	const char *organization_id;
	const pg_uuid_t *subscription_id; /* NULL: the organisation itself, then no plan */
	const pg_uuid_t *plan_id;
	const char *currency; /* NULL: not known */
	const char *zone;     /* NULL: the setting timezone, else UTC */
	TimestampTz at;
	TimestampTz
		starts_at; /* of a subscription that is to begin later: it counts from there; 0: from at */
} CouponTarget;

/*
 * Checks that he may have it and counts the redemption, not in a preview.  The
 * customer is locked.  The row is for the caller to write, and so is the check
 * whether he has it already.
 */
extern AppliedCoupon *coupon_redeem(const char *code, const CouponTarget *target, bool preview);
extern _Noreturn void coupon_refuse_twice(const char *code);

#endif /* JANUA_COUPONS_H */

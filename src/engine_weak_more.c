/* Weak definitions of what was added to engine.h; goes with engine_weak.c. */
#include "engine.h"
#define WEAK          __attribute__((weak))
#define MISSING(what) elog(ERROR, "%s is not merged yet", what)
WEAK void
drafts_write(BillingRun *r)
{
	if (r->drafts != NIL)
		MISSING("drafts_write");
}
WEAK int
drafts_finalize_due(void)
{
	return 0;
}

WEAK void
engine_carry_out(BillingRun *r, BilledSubscription *s, ScheduledChange *c, TimestampTz at)
{
	MISSING("engine_carry_out");
}
WEAK void
engine_end(BillingRun *r, BilledSubscription *s, TimestampTz at)
{
	MISSING("engine_end");
}
WEAK void
engine_pause(BillingRun *r, BilledSubscription *s, TimestampTz at)
{
	MISSING("engine_pause");
}
WEAK void
engine_resume(BillingRun *r, BilledSubscription *s, TimestampTz at)
{
	MISSING("engine_resume");
}
WEAK void
engine_expire(BillingRun *r, BilledSubscription *s, TimestampTz at)
{
	MISSING("engine_expire");
}

WEAK void
coupon_apply_in_run(BillingRun *r, BilledSubscription *s, const char *code, TimestampTz at)
{
	MISSING("coupon_apply_in_run");
}
WEAK void
coupons_write(BillingRun *r)
{
}
WEAK void
credits_write(BillingRun *r)
{
}

WEAK void
engine_apply_successor(BillingRun *r, BilledSubscription *s, BilledItem *i, TimestampTz at)
{
	MISSING("engine_apply_successor");
}

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
draft_take_pending(InvoiceDraft *d, BilledSubscription *s)
{
	MISSING("draft_take_pending");
}
WEAK void
engine_bill_usage_of(BillingRun *r, InvoiceDraft *d)
{
	MISSING("engine_bill_usage_of");
}
WEAK void
coupon_apply_named(BillingRun *r, BilledSubscription *s, const char *code)
{
	MISSING("coupon_apply_named");
}

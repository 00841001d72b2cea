/* Weak definitions of what terms adds; goes with engine_weak.c. */
#include "engine.h"
#define WEAK __attribute__((weak))
WEAK bool
coupon_takes_line(const DraftCoupon *coupon, const InvoiceDraft *draft, const InvoiceLine *line)
{
	return true;
}
WEAK void
credits_release(const pg_uuid_t *invoice_id)
{
}

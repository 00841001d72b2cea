/* Weak definitions while the rooms of the engine are being built; goes when all are there. */
#include "engine.h"
#define WEAK __attribute__((weak))
#define MISSING(what) elog(ERROR, "%s is not merged yet", what)
WEAK const LocalZone *zone_named(const char *name) { return NULL; }
WEAK int64 unix_seconds(TimestampTz m) { return (m - (m % USECS_PER_SEC + USECS_PER_SEC) % USECS_PER_SEC) / USECS_PER_SEC + INT64CONST(946684800); }
WEAK TimestampTz moment_of_unix(int64 s) { return (s - INT64CONST(946684800)) * USECS_PER_SEC; }
WEAK TimestampTz engine_now(const char *o) { TimestampTz t = clock_now(o); return t - (t % USECS_PER_SEC + USECS_PER_SEC) % USECS_PER_SEC; }
WEAK MoneyFraction fraction_of_numeric(Numeric v, const char *what) { MISSING("fraction_of_numeric"); }
WEAK Numeric numeric_of_fraction(MoneyFraction v) { MISSING("numeric_of_fraction"); }
WEAK const ComponentPrice *component_price(const pg_uuid_t *id) { MISSING("component_price"); }
WEAK void component_prices_load(pg_uuid_t *const *ids, int count) {}
WEAK bool component_price_is_free(const ComponentPrice *p) { MISSING("component_price_is_free"); }
WEAK List *plan_components(const pg_uuid_t *plan_id, const char *c, const char *i, int n, const pg_uuid_t *customer_id, TimestampTz at) { MISSING("plan_components"); }
WEAK const ComponentPrice *component_price_successor(const ComponentPrice *p, TimestampTz at) { return p; }
WEAK BillingRun *run_load(pg_uuid_t *const *ids, int n, bool s, bool p) { MISSING("run_load"); }
WEAK BillingRun *run_begin(bool preview) { MISSING("run_begin"); }
WEAK BilledCustomer *run_customer(BillingRun *r, const pg_uuid_t *id) { MISSING("run_customer"); }
WEAK BilledSubscription *run_subscription(BillingRun *r, const pg_uuid_t *id) { MISSING("run_subscription"); }
WEAK void run_load_drafts(BillingRun *r, pg_uuid_t *const *ids, int n) { MISSING("run_load_drafts"); }
WEAK void run_write(BillingRun *r) { MISSING("run_write"); }
WEAK void run_event(BillingRun *r, const char *t, const char *o, const pg_uuid_t *id, const char *org, const char *b, const char *a) { MISSING("run_event"); }
WEAK int engine_pass(void) { return 0; }
WEAK void engine_play(BillingRun *r, BilledSubscription *s, TimestampTz u) { MISSING("engine_play"); }
WEAK TimestampTz engine_next_due(const BilledSubscription *s) { MISSING("engine_next_due"); }
WEAK PeriodSchedule engine_schedule(const BilledSubscription *s) { MISSING("engine_schedule"); }
WEAK BilledItem *item_named(const BilledSubscription *s, const char *c) { MISSING("item_named"); }
WEAK BilledItem *base_item(const BilledSubscription *s) { MISSING("base_item"); }
WEAK bool subscription_is_free(const BilledSubscription *s) { MISSING("subscription_is_free"); }
WEAK void set_status(BillingRun *r, BilledSubscription *s, const char *st, TimestampTz at) { MISSING("set_status"); }
WEAK void engine_begin_period(BillingRun *r, BilledSubscription *s, TimestampTz at, const char *reason) { MISSING("engine_begin_period"); }
WEAK void bill_item(InvoiceDraft *d, const BilledSubscription *s, const BilledItem *i, const BillingPeriod *p, LineKind k) { MISSING("bill_item"); }
WEAK void bill_usage(InvoiceDraft *d, const BilledSubscription *s, const BilledItem *i, MoneyFraction q, UsageRange p) { MISSING("bill_usage"); }
WEAK Proration engine_proration(const BilledSubscription *s) { MISSING("engine_proration"); }
WEAK InvoiceDraft *draft_for(BillingRun *r, BilledSubscription *s, const char *reason, TimestampTz at) { MISSING("draft_for"); }
WEAK InvoiceLine *draft_add(InvoiceDraft *d, LineKind k, int64 a, const char *t) { MISSING("draft_add"); }
WEAK void draft_complete(BillingRun *r, InvoiceDraft *d) { MISSING("draft_complete"); }
WEAK const char *line_kind_name(LineKind k) { MISSING("line_kind_name"); }
WEAK LineKind line_kind_of(const char *n) { MISSING("line_kind_of"); }
WEAK List *coupons_of(BillingRun *r, const InvoiceDraft *d) { return NIL; }
WEAK void coupons_taken(const InvoiceDraft *d, List *c) {}
WEAK List *taxes_of(BillingRun *r, const InvoiceDraft *d) { return NIL; }
WEAK int tax_of_line(List *t, const InvoiceDraft *d, const InvoiceLine *l) { return NO_TAX_RATE; }
WEAK void credits_settle(BillingRun *r, InvoiceDraft *d, int64 total) { d->due = total > 0 ? total : 0; }
WEAK void engine_invoice_paid(const pg_uuid_t *id) {}
WEAK void engine_invoice_failed(const pg_uuid_t *id, bool last) {}
WEAK void invoice_payment_changed(const pg_uuid_t *id) {}
WEAK int collection_pass(void) { return 0; }
WEAK int invoices_number(void) { return 0; }
WEAK void ledger_invoices(pg_uuid_t *const *ids, int n) {}

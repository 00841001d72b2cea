/*-------------------------------------------------------------------------
 *
 * quota.c
 *	  consume() and check_quota(): keeping to a limit.
 *
 * consume() runs as its caller, like record_usage(); EXECUTE allows it.  It
 * looks at the counter without a lock first, so that what does not fit costs
 * little; then it makes everything ready that the event needs, changes the
 * counter, whose row is the last lock that it takes, and writes the event.
 * An idempotency key is claimed before, as keys are locked before counters
 * everywhere; when it does not fit the key is taken back.
 *
 *-------------------------------------------------------------------------
 */
#include "quota.h"

#include "access/table.h"
#include "access/xact.h"
#include "check.h"
#include "entitlements.h"
#include "errors.h"
#include "subjects.h"

/* More often than a period can begin while we look. */
#define RENEWALS_MAX 20

/* ------------------------------------------------------------------------
 * Metrics
 * ------------------------------------------------------------------------
 */
static const char *
aggregation_name(Aggregation aggregation)
{
	static const char *const names[] = {"sum", "count", "max", "latest", "unique", "weighted"};

	return names[aggregation];
}

const Meter *
quota_meter(const UsageRow *row)
{
	const Meter *meter = meter_find(row->metric);

	if (meter->aggregation != AGGREGATE_SUM && meter->aggregation != AGGREGATE_COUNT)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("metric \"%s\" cannot be consumed", meter->metric),
			 errdetail("Its aggregation is %s: a quantity does not add to those before.",
					   aggregation_name(meter->aggregation)),
			 errhint("Ask billing.check_quota() in a trigger, and use billing.record_usage().")));
	if (meter->aggregation == AGGREGATE_COUNT &&
		numeric_order(row->quantity, int64_to_numeric(1)) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("quantity of metric \"%s\" is not 1", meter->metric),
						errdetail("It counts events: one for each call."),
						errhint("Leave quantity out, and call it once for each event.")));
	if (!meter->enforced)
	{
		char *metric = pstrdup(meter->metric);

		quota_enforce(metric);
		meter = meter_named(metric);
		if (meter == NULL || !meter->enforced)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("metric \"%s\" was changed meanwhile", metric), errhint("Try again.")));
	}
	return meter;
}

/* ------------------------------------------------------------------------
 * What is left
 * ------------------------------------------------------------------------
 */
static bool
is_current(const Allowance *allowance)
{
	const Counter *counter = &allowance->counter;
	UsageRange period = allowance->quota.period;

	return counter->found && counter->has_period && counter->period.start == period.start &&
		   counter->period.end == period.end;
}

/* Opens it, moved to the present period if need be; others may move it on, but not for ever. */
static void
open_current(Allowance *allowance, text *organization_id, text *metric)
{
	for (int i = 0; i < RENEWALS_MAX; i++)
	{
		allowance->quota = quota_of(organization_id, allowance->meter, allowance->now);
		counter_open(&allowance->counter, organization_id, metric);
		if (is_current(allowance))
			return;
		counter_close(&allowance->counter);
		CHECK_FOR_INTERRUPTS();
		counter_renew(organization_id, allowance->meter);
	}
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("the period of metric \"%s\" keeps changing", allowance->meter->metric),
					errhint("Try again.")));
}

static void
open_again(Allowance *allowance)
{
	counter_close(&allowance->counter);
	open_current(allowance, allowance->counter.organization_id, allowance->counter.metric);
}

void
allowance_open(Allowance *allowance, text *organization_id, const Meter *meter, TimestampTz now)
{
	allowance->meter = meter;
	allowance->now = now;
	open_current(allowance, organization_id, cstring_to_text(meter->metric));
}

void
allowance_close(Allowance *allowance)
{
	counter_close(&allowance->counter);
}

static bool
fits(const Allowance *allowance, Numeric more)
{
	const Counter *counter = &allowance->counter;

	if (numeric_is_inf(allowance->quota.limit))
		return true;
	return numeric_order(numeric_plus(numeric_plus(counter->used, counter->reserved), more),
						 allowance->quota.limit) <= 0;
}

/* What has expired is in the way no longer. */
static bool
end_expired(Allowance *allowance)
{
	Identity identity;
	int64 count;

	if (numeric_order(allowance->counter.reserved, int64_to_numeric(0)) == 0)
		return false;
	identity = identity_take_owner();
	db_open();
	count = reservations_end(text_to_cstring(allowance->counter.organization_id),
							 allowance->meter->metric);
	db_close();
	identity_give_back(identity);
	if (count > 0)
		open_again(allowance);
	return count > 0;
}

/* Could it, once what has expired is ended?  Takes no lock. */
static bool
allowance_may_have(const Allowance *allowance, Numeric quantity)
{
	return fits(allowance, quantity) ||
		   numeric_order(allowance->counter.reserved, int64_to_numeric(0)) != 0;
}

bool
allowance_has(Allowance *allowance, Numeric quantity)
{
	return fits(allowance, quantity) || (end_expired(allowance) && fits(allowance, quantity));
}

bool
allowance_take(Allowance *allowance, Numeric used, Numeric reserved)
{
	Numeric more = numeric_plus(used, reserved);
	bool takes = numeric_order(more, int64_to_numeric(0)) > 0;
	Counter *counter = &allowance->counter;

	for (;;)
	{
		if (takes && !allowance_has(allowance, more))
			return false;
		if (counter_write(counter, numeric_plus(counter->used, used),
						  numeric_plus(counter->reserved, reserved)))
			return true;
		/* its period may have come to an end meanwhile, and so may the limit's */
		if (!is_current(allowance))
			open_again(allowance);
	}
}

/* ------------------------------------------------------------------------
 * consume()
 * ------------------------------------------------------------------------
 */
/* Is the key one that was counted before? */
static bool
is_known(const UsageRow *row)
{
	UsageStore *store;
	bool known;

	if (row->key == NULL || usage_check_key(row) != NULL)
		return false;
	store = usage_store_open("billing.consume()", NULL, 0);
	known = usage_store_knows(store, row);
	usage_store_close(store);
	return known;
}

/* Everything is ready that the event needs before the counter is locked. */
static bool
take_and_put(Allowance *allowance, UsageStore *store, const UsageRow *row, Numeric amount)
{
	usage_store_prepare(store, row->occurred_at);
	if (!allowance_take(allowance, amount, int64_to_numeric(0)))
		return false;
	usage_store_put_counted(store, row);
	return true;
}

static bool
consume_without_key(Allowance *allowance, UsageRow *row, Numeric amount)
{
	UsageStore *store;
	bool taken;

	if (!allowance_has(allowance, amount))
		return false;
	store = usage_store_open("billing.consume()", &row->occurred_at, 1);
	taken = take_and_put(allowance, store, row, amount);
	usage_store_close(store);
	return taken;
}

/*
 * A key that was counted before is fulfilled; one that does not fit is free
 * again.  Where nothing can fit the key is looked up after the counter was
 * read: whoever has counted it meanwhile may have taken the last of it.
 */
static bool
consume_with_key(Allowance *allowance, UsageRow *row, Numeric amount)
{
	UsageStore *store;
	bool taken = true;

	if (!allowance_may_have(allowance, amount))
		return is_known(row);
	store = usage_store_open("billing.consume()", &row->occurred_at, 1);
	if (usage_store_claim(store, row))
	{
		taken = allowance_has(allowance, amount) && take_and_put(allowance, store, row, amount);
		if (!taken)
			usage_store_unclaim(store, row);
	}
	usage_store_close(store);
	return taken;
}

static bool
consume_row(UsageRow *row, const Meter *meter)
{
	Numeric amount = counter_amount(meter, row);
	Allowance allowance;
	bool taken;

	allowance_open(&allowance, row->organization_id, meter, row->occurred_at);
	taken = row->key == NULL ? consume_without_key(&allowance, row, amount)
							 : consume_with_key(&allowance, row, amount);
	allowance_close(&allowance);
	return taken;
}

SQL_FUNCTION(billing_consume)
{
	RuleScope scope = {0};
	UsageRow row = {0};
	Refusal *refused;
	const Meter *meter;

	PreventCommandIfReadOnly("billing.consume()");
	PreventCommandIfParallelMode("billing.consume()");
	row.organization_id = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	row.metric = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	row.quantity = PG_ARGISNULL(2) ? NULL : PG_GETARG_NUMERIC(2);
	row.key = PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3);
	row.properties = PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4);
	refused = usage_check(&row, &scope);
	/* also of a call that is refused the key comes first */
	if (refused != NULL && !is_known(&row))
		usage_refuse(refused, 0);
	if (refused != NULL)
		PG_RETURN_BOOL(true);
	meter = quota_meter(&row);
	PG_RETURN_BOOL(consume_row(&row, meter));
}

/* ------------------------------------------------------------------------
 * check_quota()
 * ------------------------------------------------------------------------
 */
QUERY(read_counter,
	  "SELECT used FROM billing.usage_counters "
	  "WHERE organization_id = $1 AND metric = $2 AND period_start = $3 AND period_end = $4",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
QUERY(read_reserved,
	  "SELECT coalesce(sum(quantity), 0) FROM billing.usage_reservations "
	  "WHERE organization_id = $1 AND metric = $2 AND state = 'open' AND expires_at > $3",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID);

static Numeric
first_number(void)
{
	bool isnull;

	return DatumGetNumericCopy(rows_datum(SPI_tuptable, 0, 1, &isnull));
}

/* On the snapshot of the query: by the counter where it has one of this period. */
static Numeric
used_of(const char *organization_id, const Meter *meter, const Quota *quota, TimestampTz now)
{
	Relation events;
	Numeric used;

	if (meter->enforced && READ(read_counter, arg_text(organization_id), arg_text(meter->metric),
								arg_datum(TimestampTzGetDatum(quota->period.start), false),
								arg_datum(TimestampTzGetDatum(quota->period.end), false)) > 0)
		return first_number();
	events = table_open(usage_tables()->events, AccessShareLock);
	used = usage_quantity(organization_id, meter, usage_tail(organization_id),
						  quota_range(quota, now));
	table_close(events, AccessShareLock);
	return used;
}

static bool
has_room(const char *organization_id, const Meter *meter, Numeric quantity, TimestampTz now)
{
	Quota quota = quota_read(organization_id, meter, now, NULL);
	Numeric used;

	if (numeric_is_inf(quota.limit))
		return true;
	used = used_of(organization_id, meter, &quota, now);
	READ(read_reserved, arg_text(organization_id), arg_text(meter->metric),
		 arg_datum(TimestampTzGetDatum(now), false));
	return numeric_order(numeric_plus(numeric_plus(used, first_number()), quantity), quota.limit) <=
		   0;
}

SQL_FUNCTION(billing_check_quota)
{
	UsageRow row = {0};
	Numeric quantity = PG_ARGISNULL(2) ? NULL : PG_GETARG_NUMERIC(2);
	Refusal *refused;
	bool has;

	row.organization_id = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	row.metric = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	refused = usage_check_metric(&row);
	if (refused == NULL)
		refused = usage_check_quantity(quantity, &quantity);
	if (refused != NULL)
		usage_refuse(refused, 0);
	db_open();
	has = has_room(text_to_cstring(row.organization_id), meter_find(row.metric), quantity,
				   usage_now(row.organization_id));
	db_close();
	PG_RETURN_BOOL(has);
}

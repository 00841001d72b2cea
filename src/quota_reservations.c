/*-------------------------------------------------------------------------
 *
 * quota_reservations.c
 *	  Usage that is reserved for a while, then committed or released.
 *
 * What is reserved is held back in the counter, so that consume() leaves it
 * alone, and comes along when the counter moves on to the next period.  A
 * reservation that has expired counts for no reader from that moment on;
 * consume() frees it when it is in the way, and the worker whenever it comes
 * by.  The row of the reservation is locked before that of the counter.
 *
 *-------------------------------------------------------------------------
 */
#include "quota.h"

#include "check.h"
#include "errors.h"
#include "subjects.h"
#include "unit.h"

/* How long something may be reserved. */
#define EXPIRY_MAX (31 * USECS_PER_DAY)

/* Counters that one pass of the worker frees. */
#define KEEP_BATCH 1000

/* How long what has ended is kept for those who ask late. */
#define PRUNE_AFTER "30 days"

/* ------------------------------------------------------------------------
 * reserve_usage()
 * ------------------------------------------------------------------------
 */
QUERY(
	add_reservation,
	"INSERT INTO billing.usage_reservations (organization_id, metric, quantity, expires_at, created_at) "
	"VALUES ($1, $2, $3, $4, $5) RETURNING id",
	TEXTOID, TEXTOID, NUMERICOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

static TimestampTz
expiry_of(const Interval *expires_in, TimestampTz now)
{
	TimestampTz at = DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_pl_interval, TimestampTzGetDatum(now), IntervalPGetDatum(expires_in)));

	if (at > now && at <= now + EXPIRY_MAX)
		return at;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("expires_in is not a time that usage can be reserved for"),
			 errdetail("expires_in is %s.", DatumGetCString(DirectFunctionCall1(
												interval_out, IntervalPGetDatum(expires_in)))),
			 errhint("Pass an interval above 0, of at most 31 days.")));
}

static char *
number(Numeric value)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value)));
}

static _Noreturn void
refuse_full(const Allowance *allowance, Numeric quantity)
{
	const Counter *counter = &allowance->counter;

	ereport(ERROR, (errcode(ERRCODE_JB_QUOTA_EXCEEDED),
					errmsg("%s more of metric \"%s\" does not fit", number(quantity),
						   allowance->meter->metric),
					errdetail("Of the limit of %s, %s is used and %s reserved.",
							  number(allowance->quota.limit), number(counter->used),
							  number(counter->reserved)),
					errhint("Reserve less, release what is not needed, or change the plan.")));
	pg_unreachable();
}

static pg_uuid_t *
reserve(UsageRow *row, const Interval *expires_in)
{
	const Meter *meter = quota_meter(row);
	TimestampTz expires_at = expiry_of(expires_in, row->occurred_at);
	Allowance allowance;

	allowance_open(&allowance, row->organization_id, meter, row->occurred_at);
	if (!allowance_has(&allowance, row->quantity) ||
		!allowance_take(&allowance, int64_to_numeric(0), row->quantity))
		refuse_full(&allowance, row->quantity);
	allowance_close(&allowance);
	RUN(add_reservation, arg_datum(PointerGetDatum(row->organization_id), false),
		arg_datum(PointerGetDatum(row->metric), false),
		arg_datum(NumericGetDatum(row->quantity), false),
		arg_datum(TimestampTzGetDatum(expires_at), false),
		arg_datum(TimestampTzGetDatum(row->occurred_at), false));
	return row_uuid(0, 1);
}

SQL_FUNCTION(billing_reserve_usage)
{
	Interval *expires_in = PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3);
	RuleScope scope = {0};
	UsageRow row = {0};
	Refusal *refused;

	db_open();
	row.organization_id = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	row.metric = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	row.quantity = PG_ARGISNULL(2) ? NULL : PG_GETARG_NUMERIC(2);
	refused = usage_check(&row, &scope);
	if (refused != NULL)
		usage_refuse(refused, 0);
	check_given("expires_in", expires_in != NULL);
	return db_close_uuid(reserve(&row, expires_in));
}

/* ------------------------------------------------------------------------
 * commit_reservation() and release_reservation()
 * ------------------------------------------------------------------------
 */
QUERY_CUSTOM(find_reservation,
			 "SELECT organization_id FROM billing.usage_reservations WHERE id = $1", UUIDOID);
QUERY(lock_reservation,
	  "SELECT metric, quantity, expires_at, state FROM billing.usage_reservations "
	  "WHERE organization_id = $1 AND id = $2 FOR UPDATE",
	  TEXTOID, UUIDOID);
QUERY(end_reservation,
	  "UPDATE billing.usage_reservations SET state = $3, committed = $4, ended_at = $5 "
	  "WHERE organization_id = $1 AND id = $2",
	  TEXTOID, UUIDOID, TEXTOID, NUMERICOID, TIMESTAMPTZOID);

typedef struct Reservation
{
	const pg_uuid_t *id;
	text *organization_id;
	text *metric;
	Numeric quantity;
	TimestampTz expires_at;
	char *state;
	TimestampTz now;
} Reservation;

/* organization_id: NULL to look it up. */
static Reservation
lock_reservation_of(const pg_uuid_t *id, text *organization_id)
{
	Reservation found = {.id = id, .organization_id = organization_id};
	bool isnull;

	check_given("reservation_id", id != NULL);
	if (organization_id == NULL && RUN(find_reservation, arg_uuid(id)) > 0)
		found.organization_id = cstring_to_text(row_text(0, 1));
	if (found.organization_id == NULL ||
		RUN(lock_reservation, arg_datum(PointerGetDatum(found.organization_id), false),
			arg_uuid(id)) == 0)
		unknown_object("reservation", uuid_text(id),
					   "What has ended is kept for " PRUNE_AFTER
					   "; see billing.usage_reservations.");
	found.metric = cstring_to_text(row_text(0, 1));
	found.quantity = DatumGetNumericCopy(rows_datum(SPI_tuptable, 0, 2, &isnull));
	found.expires_at = row_time(0, 3);
	found.state = row_text(0, 4);
	found.now = usage_now(found.organization_id);
	if (strcmp(found.state, "open") == 0 && found.expires_at <= found.now)
		found.state = "expired";
	return found;
}

static void
end_as(const Reservation *reservation, const char *state, Numeric committed)
{
	RUN(end_reservation, arg_datum(PointerGetDatum(reservation->organization_id), false),
		arg_uuid(reservation->id), arg_text(state),
		arg_datum(NumericGetDatum(committed), committed == NULL),
		arg_datum(TimestampTzGetDatum(reservation->now), false));
}

static void
check_open(const Reservation *reservation)
{
	if (strcmp(reservation->state, "open") == 0)
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_JB_STATE),
		 errmsg("reservation %s is %s", uuid_text(reservation->id), reservation->state),
		 strcmp(reservation->state, "expired") == 0
			 ? errdetail("It was good until %s.",
						 pstrdup(timestamptz_to_str(reservation->expires_at)))
			 : 0,
		 errhint("Use billing.consume(), or billing.record_usage() for what was used anyway.")));
}

/* The event is of now; what was reserved and is not used is free again. */
static void
commit_quantity(const Reservation *reservation, UsageRow *row)
{
	const Meter *meter = quota_meter(row);
	UsageStore *store = usage_store_open("billing.commit_reservation()", &row->occurred_at, 1);
	Allowance allowance;

	allowance_open(&allowance, row->organization_id, meter, row->occurred_at);
	usage_store_prepare(store, row->occurred_at);
	if (!allowance_take(&allowance, row->quantity,
						numeric_minus(int64_to_numeric(0), reservation->quantity)))
		refuse_full(&allowance, numeric_minus(row->quantity, reservation->quantity));
	usage_store_put_counted(store, row);
	usage_store_close(store);
	allowance_close(&allowance);
	/* after the counter, which knows it as open where it has to be added up again */
	end_as(reservation, "committed", row->quantity);
}

SQL_FUNCTION(billing_commit_reservation)
{
	Numeric quantity = PG_ARGISNULL(1) ? NULL : PG_GETARG_NUMERIC(1);
	RuleScope scope = {0};
	Reservation reservation;
	UsageRow row = {0};
	Refusal *refused;

	db_open();
	reservation = lock_reservation_of(ARG_UUID(0), PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3));
	check_open(&reservation);
	row.organization_id = reservation.organization_id;
	row.metric = reservation.metric;
	row.quantity = quantity != NULL ? quantity : reservation.quantity;
	row.properties = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	refused = usage_check(&row, &scope);
	if (refused != NULL)
		usage_refuse(refused, 0);
	commit_quantity(&reservation, &row);
	return db_close_uuid(&row.id);
}

QUERY(free_reserved,
	  "UPDATE billing.usage_counters SET reserved = greatest(reserved - $3, 0) "
	  "WHERE organization_id = $1 AND metric = $2",
	  TEXTOID, TEXTOID, NUMERICOID);

SQL_FUNCTION(billing_release_reservation)
{
	Reservation reservation;
	bool was_open;

	db_open();
	reservation = lock_reservation_of(ARG_UUID(0), PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1));
	was_open = strcmp(reservation.state, "open") == 0;
	if (was_open)
	{
		end_as(&reservation, "released", NULL);
		RUN(free_reserved, arg_datum(PointerGetDatum(reservation.organization_id), false),
			arg_datum(PointerGetDatum(reservation.metric), false),
			arg_datum(NumericGetDatum(reservation.quantity), false));
	}
	db_close();
	PG_RETURN_BOOL(was_open);
}

/* ------------------------------------------------------------------------
 * Expiry
 * ------------------------------------------------------------------------
 */
/* SKIP LOCKED: somebody is about to commit or release it. */
QUERY_CUSTOM(
	end_expired,
	"WITH expired AS MATERIALIZED (SELECT r.id FROM billing.usage_reservations AS r "
	"WHERE r.organization_id = $1 AND r.metric = $2 AND r.state = 'open' AND r.expires_at <= $3 "
	"FOR UPDATE SKIP LOCKED), "
	"ended AS (UPDATE billing.usage_reservations AS r SET state = 'expired', ended_at = $3 FROM expired AS e "
	"WHERE r.organization_id = $1 AND r.id = e.id RETURNING r.quantity), "
	"freed AS (UPDATE billing.usage_counters AS c "
	"SET reserved = greatest(c.reserved - (SELECT sum(quantity) FROM ended), 0) "
	"WHERE c.organization_id = $1 AND c.metric = $2 AND EXISTS (SELECT 1 FROM ended)) "
	"SELECT 1 FROM ended",
	TEXTOID, TEXTOID, TIMESTAMPTZOID);

int64
reservations_end(const char *organization_id, const char *metric)
{
	TimestampTz now = usage_now(cstring_to_text(organization_id));

	return RUN(end_expired, arg_text(organization_id), arg_text(metric),
			   arg_datum(TimestampTzGetDatum(now), false));
}

/*
 * By the organisation's own time; test clocks are few.  From a place on, so that
 * those at the end have their turn where a session holds the counters of many at
 * the beginning.
 */
QUERY(
	list_expired,
	"SELECT DISTINCT w.organization_id, w.metric FROM ("
	"SELECT r.organization_id, r.metric FROM billing.usage_reservations AS r "
	"WHERE r.state = 'open' AND r.expires_at <= now() "
	"AND NOT EXISTS (SELECT FROM billing.sandbox_clocks AS k WHERE k.organization_id = r.organization_id) "
	"UNION ALL SELECT r.organization_id, r.metric FROM billing.sandbox_clocks AS k "
	"JOIN billing.usage_reservations AS r ON r.organization_id = k.organization_id "
	"WHERE r.state = 'open' AND r.expires_at <= k.now) AS w "
	"WHERE (w.organization_id, w.metric) > ($2, $3) ORDER BY w.organization_id, w.metric LIMIT $1",
	INT8OID, TEXTOID, TEXTOID);
/* On shards: of those with a test clock all, since the clock is here. */
QUERY(list_clocks, "SELECT coalesce(array_agg(organization_id), '{}') FROM billing.sandbox_clocks",
	  InvalidOid);
QUERY_CUSTOM(
	list_expired_on_shards,
	"SELECT DISTINCT r.organization_id, r.metric FROM billing.usage_reservations AS r "
	"WHERE r.state = 'open' AND CASE WHEN r.organization_id = ANY ($2) THEN true ELSE r.expires_at <= now() END "
	"AND (r.organization_id, r.metric) > ($3, $4) ORDER BY r.organization_id, r.metric LIMIT $1",
	INT8OID, TEXTARRAYOID, TEXTOID, TEXTOID);
/* A session holds it, which may last: whoever consumes ends what has expired, too. */
QUERY_CUSTOM(
	lock_counter,
	"SELECT FROM billing.usage_counters AS c WHERE c.organization_id = $1 AND c.metric = $2 "
	"FOR NO KEY UPDATE SKIP LOCKED",
	TEXTOID, TEXTOID);
QUERY_CUSTOM(
	counter_there,
	"SELECT FROM billing.usage_counters AS c WHERE c.organization_id = $1 AND c.metric = $2",
	TEXTOID, TEXTOID);
QUERY(prune_reservations,
	  "DELETE FROM billing.usage_reservations WHERE state <> 'open' "
	  "AND ended_at < now() - interval '" PRUNE_AFTER "'",
	  InvalidOid);

/* What was looked at last; empty: from the beginning. */
typedef struct Place
{
	char organization_id[4 * 255 + 1];
	char metric[NAMEDATALEN];
} Place;

static Place place;

typedef struct Expired
{
	MemoryContext memory;
	int64 count;
	char **organization_ids;
	char **metrics;
} Expired;

static int64
expired_on_shards(void)
{
	bool isnull;
	Datum clocks;

	RUN(list_clocks, arg_null());
	clocks = rows_datum(rows_keep(), 0, 1, &isnull);
	return RUN(list_expired_on_shards, arg_int(KEEP_BATCH), arg_datum(clocks, false),
			   arg_text(place.organization_id), arg_text(place.metric));
}

static void
go_on_from(const Expired *expired)
{
	memset(&place, 0, sizeof(place));
	if (expired->count < KEEP_BATCH)
		return;
	strlcpy(place.organization_id, expired->organization_ids[expired->count - 1],
			sizeof(place.organization_id));
	strlcpy(place.metric, expired->metrics[expired->count - 1], sizeof(place.metric));
}

static void
find_expired(void *context)
{
	Expired *expired = context;
	MemoryContext old;

	expired->count = usage_tables()->distributed
						 ? expired_on_shards()
						 : RUN(list_expired, arg_int(KEEP_BATCH), arg_text(place.organization_id),
							   arg_text(place.metric));
	old = MemoryContextSwitchTo(expired->memory);
	expired->organization_ids = palloc(sizeof(char *) * Max(expired->count, 1));
	expired->metrics = palloc(sizeof(char *) * Max(expired->count, 1));
	for (int64 i = 0; i < expired->count; i++)
	{
		expired->organization_ids[i] = row_text(i, 1);
		expired->metrics[i] = row_text(i, 2);
	}
	MemoryContextSwitchTo(old);
	go_on_from(expired);
	RUN(prune_reservations, arg_null());
}

typedef struct Pair
{
	const char *organization_id;
	const char *metric;
} Pair;

static void
end_one(void *context)
{
	const Pair *pair = context;
	Arg organization_id = arg_text(pair->organization_id);
	Arg metric = arg_text(pair->metric);

	if (RUN(lock_counter, organization_id, metric) > 0 ||
		RUN(counter_there, organization_id, metric) == 0)
		(void) reservations_end(pair->organization_id, pair->metric);
}

/* A unit for each counter: nobody waits for more than one of them. */
void
reservations_keep(void)
{
	Expired expired = {.memory = CurrentMemoryContext};

	if (!unit_run(find_expired, &expired, "look for reservations that have expired"))
		return;
	for (int64 i = 0; i < expired.count; i++)
	{
		Pair pair = {expired.organization_ids[i], expired.metrics[i]};

		(void) unit_run(end_one, &pair, "end reservations that have expired");
	}
}

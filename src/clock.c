/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  The time for an organisation, and how its test clock is moved.
 *
 * Every rule about dates asks clock_now().  An organisation without a test
 * clock lives in the time of the transaction.  Moving a clock plays what
 * falls due on the way, each item at its own time and in a unit of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "credits.h"
#include "drive.h"
#include "embedded.h"
#include "errors.h"
#include "postponed.h"
#include "unit.h"

QUERY(find_clock, "SELECT now FROM billing.sandbox_clocks WHERE organization_id = $1", TEXTOID);

TimestampTz
clock_now(const char *organization_id)
{
	if (organization_id != NULL && RUN(find_clock, arg_text(organization_id)) > 0)
		return row_time(0, 1);
	return GetCurrentTransactionStartTimestamp();
}

TimestampTz
clock_read(const char *organization_id)
{
	if (READ(find_clock, arg_text(organization_id)) > 0)
		return row_time(0, 1);
	return GetCurrentTransactionStartTimestamp();
}

SQL_FUNCTION(billing_now)
{
	char *organization_id = ARG_TEXT(0);
	TimestampTz now;

	db_open();
	check_given("organization_id", organization_id != NULL);
	now = clock_read(organization_id);
	db_close();
	PG_RETURN_TIMESTAMPTZ(now);
}

QUERY(
	outside_sandbox,
	"SELECT r.provider FROM billing.provider_refs AS r JOIN billing.customers AS c ON c.id = r.object_id "
	"WHERE c.organization_id = $1 AND r.provider IN (SELECT name FROM billing.providers WHERE NOT embedded) "
	"UNION ALL "
	"SELECT s.provider FROM billing.subscriptions AS s "
	"WHERE s.organization_id = $1 AND s.provider IN (SELECT name FROM billing.providers WHERE NOT embedded) "
	"LIMIT 1",
	TEXTOID);
QUERY(put_clock,
	  "INSERT INTO billing.sandbox_clocks (organization_id, now) VALUES ($1, $2) "
	  "ON CONFLICT (organization_id) DO UPDATE SET now = excluded.now",
	  TEXTOID, TIMESTAMPTZOID);
QUERY(due_until,
	  "SELECT s.customer_id, s.next_due AS due FROM billing.sandbox_state AS s "
	  "JOIN billing.customers AS c ON c.id = s.customer_id "
	  "WHERE c.organization_id = $1 AND s.next_due <= $2 "
	  "UNION ALL SELECT NULL, h.due_at FROM billing.scheduled_changes AS h "
	  "JOIN billing.subscriptions AS m ON m.id = h.subscription_id AND m.managed_by = 'provider' "
	  "WHERE h.organization_id = $1 AND h.state = 'pending' AND h.due_at <= $2 AND " NOT_POSTPONED
	  "h.id) UNION ALL SELECT NULL, b.next_due_at FROM billing.subscriptions AS b "
	  "WHERE b.organization_id = $1 AND b.next_due_at <= $2 AND " NOT_POSTPONED
	  "b.id) UNION ALL SELECT NULL, i.finalize_at FROM billing.invoices AS i "
	  "WHERE i.organization_id = $1 AND i.managed_by = 'local' AND i.status = 'draft' "
	  "AND i.marked_at IS NULL AND i.finalize_at <= $2 AND " NOT_POSTPONED
	  "i.id) UNION ALL SELECT NULL, g.expires_at FROM billing.credit_grants AS g "
	  "JOIN billing.customers AS c ON c.id = g.customer_id WHERE c.organization_id = $1 "
	  "AND g.remaining > 0 AND g.expires_at <= $2 AND NOT " GRANT_IS_STILL_WANTED
	  " AND " NOT_POSTPONED
	  "g.id) UNION ALL SELECT NULL, i.next_attempt_at FROM billing.invoices AS i "
	  "WHERE i.organization_id = $1 AND i.managed_by = 'local' AND i.status = 'open' "
	  "AND i.next_attempt_at <= $2 AND " NOT_POSTPONED "i.id) ORDER BY due LIMIT 1",
	  TEXTOID, TIMESTAMPTZOID);

/* More than this at one moment is the same thing that is due again and again. */
#define ROUNDS_MOST 50

static void
begin_unit_or_leave(void)
{
	if (!unit_begin())
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("extension janua_billing is being changed or dropped by another session")));
}

/*
 * Sets the clock and plays the item that is due then, if it still is; what is
 * ours to do the passes that follow find by the clock.  False: nothing is due
 * until then.
 */
static bool
play_next(const char *organization_id, TimestampTz target, TimestampTz *at)
{
	pg_uuid_t *customer_id;
	TimestampTz due;
	TimestampTz now;

	begin_unit_or_leave();
	now = clock_now(organization_id);
	if (RUN(due_until, arg_text(organization_id), arg_time(target)) == 0)
	{
		unit_commit();
		return false;
	}
	customer_id = row_uuid(0, 1);
	due = Max(row_time(0, 2), now);
	*at = due;
	RUN(put_clock, arg_text(organization_id), arg_time(due));
	if (customer_id != NULL)
		embedded_elapse_customer(customer_id, due);
	unit_commit();
	return true;
}

static TimestampTz
checked_target(const char *organization_id, TimestampTz target, const Interval *by)
{
	TimestampTz now;

	begin_unit_or_leave();
	check_given("organization_id", organization_id != NULL);
	if (customer_of_organization(organization_id, false) == NULL)
		unknown_object("customer of organization", organization_id,
					   "Use billing.create_customer() first.");
	if (RUN(outside_sandbox, arg_text(organization_id)) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("organization \"%s\" has objects outside the sandbox", organization_id),
				 errdetail("Provider %s knows it, and its time cannot be moved.", row_text(0, 1))));
	now = clock_now(organization_id);
	if (by != NULL)
		target = DatumGetTimestampTz(DirectFunctionCall2(
			timestamptz_pl_interval, TimestampTzGetDatum(now), IntervalPGetDatum(by)));
	if (target < now || TIMESTAMP_NOT_FINITE(target))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a clock cannot go backwards"),
				 errdetail("The clock of organization \"%s\" shows %s.", organization_id,
						   timestamptz_to_str(now))));
	/* from here on the organisation stands still between two moves */
	RUN(put_clock, arg_text(organization_id), arg_time(now));
	unit_commit();
	return target;
}

static void
move_clock(const char *organization_id, TimestampTz target, const Interval *by)
{
	TimestampTz now = 0;
	TimestampTz stands_at = 0;
	int rounds = 0;

	target = checked_target(organization_id, target, by);
	drive_until_idle();
	while (play_next(organization_id, target, &now))
	{
		CHECK_FOR_INTERRUPTS();
		drive_until_idle();
		rounds = now == stands_at ? rounds + 1 : 0;
		stands_at = now;
		if (rounds > ROUNDS_MOST)
			ereport(ERROR,
					(errcode(ERRCODE_JB_STATE),
					 errmsg("the clock of organization \"%s\" cannot be moved on", organization_id),
					 errdetail("It stands at %s: something that is due then cannot be carried out.",
							   timestamptz_to_str(now)),
					 errhint("billing.attention or the server's log says what.")));
	}
	begin_unit_or_leave();
	RUN(put_clock, arg_text(organization_id), arg_time(target));
	unit_commit();
}

SQL_FUNCTION(billing_advance_clock)
{
	char *organization_id = ARG_TEXT(0);
	Interval *by = PG_ARGISNULL(1) ? NULL : PG_GETARG_INTERVAL_P(1);

	check_given("by", by != NULL);
	drive_session_begin(fcinfo, "billing.advance_clock()");
	move_clock(organization_id, 0, by);
	drive_session_end();
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_set_clock)
{
	char *organization_id = ARG_TEXT(0);
	TimestampTz at = ARG_TIME(1);

	check_given("at", !PG_ARGISNULL(1));
	drive_session_begin(fcinfo, "billing.set_clock()");
	move_clock(organization_id, at, NULL);
	drive_session_end();
	PG_RETURN_VOID();
}

/*-------------------------------------------------------------------------
 *
 * usage_period.c
 *	  The period that an organisation's usage counts in, and ranges of calls.
 *
 * The current period of the subscription, else the calendar month in UTC.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "usage.h"

/* An organisation may have subscriptions in several groups: that of the default group goes first. */
QUERY(
	current_period,
	"SELECT e.current_period_start, e.current_period_end FROM billing.entitlements AS e "
	"WHERE e.organization_id = $1 AND e.current_period_start IS NOT NULL AND e.current_period_end IS NOT NULL "
	"ORDER BY e.plan_group = 'default' DESC, e.current_period_start DESC, e.subscription_id LIMIT 1",
	TEXTOID);
QUERY(current_month,
	  "SELECT date_trunc('month', $1, 'UTC'), "
	  "(date_trunc('month', $1 AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'",
	  TIMESTAMPTZOID);

UsageRange
usage_period(const char *organization_id)
{
	TimestampTz now;

	if (READ(current_period, arg_text(organization_id)) > 0)
		return (UsageRange){row_time(0, 1), row_time(0, 2)};
	now = clock_now(organization_id);
	READ(current_month, arg_datum(TimestampTzGetDatum(now), false));
	return (UsageRange){row_time(0, 1), row_time(0, 2)};
}

UsageRange
usage_range(FunctionCallInfo fcinfo, int first, const char *organization_id)
{
	UsageRange range = {0, 0};

	if (PG_ARGISNULL(first) || PG_ARGISNULL(first + 1))
		range = usage_period(organization_id);
	if (!PG_ARGISNULL(first))
		range.start = PG_GETARG_TIMESTAMPTZ(first);
	if (!PG_ARGISNULL(first + 1))
		range.end = PG_GETARG_TIMESTAMPTZ(first + 1);
	if (range.end <= range.start)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("end_at is not after start_at"),
				 errdetail("The range is from %s to %s.", pstrdup(timestamptz_to_str(range.start)),
						   pstrdup(timestamptz_to_str(range.end))),
				 errhint("Ranges are half-open: end_at is the first moment that does not count.")));
	return range;
}

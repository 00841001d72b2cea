/*
 * period.c
 *		Billing periods: the calendar of recurring charges.
 *
 * See period.h.  Called by the billing engine and by the sandbox; calls
 * local_time.c for the calendar and the customer's clock.  All arithmetic is
 * done on local times and turned into moments at the end: that keeps the time
 * of day when clocks change.
 */
#include "period.h"

#include <stddef.h>
#include <string.h>

static const char *const interval_names[] = {
	[PERIOD_DAY] = "day",   [PERIOD_WEEK] = "week",       [PERIOD_MONTH] = "month",
	[PERIOD_YEAR] = "year", [PERIOD_QUARTER] = "quarter",
};

#define INTERVAL_COUNT ((int) (sizeof(interval_names) / sizeof(interval_names[0])))

bool
period_interval_by_name(const char *name, PeriodInterval *interval)
{
	for (int i = 0; name != NULL && i < INTERVAL_COUNT; i++)
	{
		if (strcmp(interval_names[i], name) == 0)
		{
			*interval = (PeriodInterval) i;
			return true;
		}
	}
	return false;
}

const char *
period_interval_name(PeriodInterval interval)
{
	return interval_names[interval];
}

static bool
valid_rule(const PeriodRule *rule)
{
	return moment_in_range(rule->anchor) && (int) rule->interval >= 0 &&
		   (int) rule->interval < INTERVAL_COUNT && rule->count >= 1 &&
		   rule->count <= PERIOD_MAX_COUNT;
}

/*
 * Moves a local time by whole months; the day of the month stays, or becomes the
 * month's last when there is no such day.
 */
static bool
add_months(int64_t local, int64_t months, int64_t *result)
{
	int64_t day = floor_div(local, SECONDS_PER_DAY);
	int64_t time_of_day = local - day * SECONDS_PER_DAY;
	CivilDate date = civil_from_day(day);
	int64_t month_number;
	int last_day;

	if (__builtin_add_overflow(date.year * 12 + date.month - 1, months, &month_number))
		return false;
	if (month_number < 12 || month_number >= 10000 * 12)
		return false;

	date.year = month_number / 12;
	date.month = (int) (month_number % 12) + 1;
	last_day = civil_days_in_month(date.year, date.month);
	if (date.day > last_day)
		date.day = last_day;

	*result = civil_to_day(&date) * SECONDS_PER_DAY + time_of_day;
	return true;
}

static bool
is_monthly(PeriodInterval interval)
{
	return interval == PERIOD_MONTH || interval == PERIOD_QUARTER || interval == PERIOD_YEAR;
}

/*
 * The length of one period by the calendar: in months where it is monthly, else
 * in seconds of a clock that is never changed.
 */
static int64_t
period_length(const PeriodRule *rule)
{
	switch (rule->interval)
	{
		case PERIOD_DAY:
			return rule->count * SECONDS_PER_DAY;
		case PERIOD_WEEK:
			return rule->count * 7 * SECONDS_PER_DAY;
		case PERIOD_MONTH:
			return rule->count;
		case PERIOD_QUARTER:
			return rule->count * INT64_C(3);
		case PERIOD_YEAR:
			return rule->count * INT64_C(12);
	}
	return 0;
}

/* The local time of boundary n. */
static bool
local_boundary(const PeriodRule *rule, int64_t local_anchor, int64_t n, int64_t *local)
{
	int64_t distance;

	if (__builtin_mul_overflow(period_length(rule), n, &distance))
		return false;
	if (is_monthly(rule->interval))
		return add_months(local_anchor, distance, local);
	return !__builtin_add_overflow(local_anchor, distance, local);
}

/* Why local_from_moment() or local_to_moment() failed. */
static PeriodStatus
local_failure(int64_t time)
{
	bool inside = time >= LOCAL_TIME_MIN + SECONDS_PER_DAY &&
				  time < LOCAL_TIME_END - SECONDS_PER_DAY;

	return inside ? PERIOD_BAD_ZONE : PERIOD_OUT_OF_RANGE;
}

/*
 * The anchor is boundary 0 as it is: its reading may come twice, and then the
 * later one would be found.
 */
PeriodStatus
period_boundary_in(const PeriodRule *rule, const LocalZone *zone, int64_t n, int64_t *boundary)
{
	int64_t anchor;
	int64_t local;

	if (!valid_rule(rule))
		return PERIOD_BAD_RULE;
	if (n == 0)
	{
		*boundary = rule->anchor;
		return PERIOD_OK;
	}
	if (!local_from_moment(zone, rule->anchor, &anchor))
		return local_failure(rule->anchor);
	if (!local_boundary(rule, anchor, n, &local))
		return PERIOD_OUT_OF_RANGE;
	if (!local_to_moment(zone, local, boundary))
		return local_failure(local);
	return PERIOD_OK;
}

bool
period_boundary(const PeriodRule *rule, int64_t n, int64_t *boundary)
{
	return period_boundary_in(rule, NULL, n, boundary) == PERIOD_OK;
}

/*
 * The index of the period in which the moment should lie: counted in calendar
 * months it can be one too high, before the anchor's day or time in its month.
 */
static int64_t
guess_index(const PeriodRule *rule, int64_t local_anchor, int64_t local)
{
	CivilDate from = civil_from_day(floor_div(local_anchor, SECONDS_PER_DAY));
	CivilDate to = civil_from_day(floor_div(local, SECONDS_PER_DAY));
	int64_t months = (to.year - from.year) * 12 + to.month - from.month;

	return floor_div(is_monthly(rule->interval) ? months : local - local_anchor,
					 period_length(rule));
}

/* A period in the grid of boundaries, and its index there. */
typedef struct GridPeriod
{
	int64_t index;
	Period period;
} GridPeriod;

/* The guess is off by a day or two at most; a zone that makes it more is none. */
#define MAX_STEPS 4

static PeriodStatus
grid_at(const PeriodRule *rule, const LocalZone *zone, int64_t moment, GridPeriod *found)
{
	int64_t anchor;
	int64_t local;
	int64_t index;

	if (!valid_rule(rule))
		return PERIOD_BAD_RULE;
	if (!moment_in_range(moment))
		return PERIOD_OUT_OF_RANGE;
	if (!local_from_moment(zone, rule->anchor, &anchor) || !local_from_moment(zone, moment, &local))
		return PERIOD_BAD_ZONE;

	index = guess_index(rule, anchor, local);
	for (int step = 0; step < MAX_STEPS; step++)
	{
		GridPeriod tried = {index, {0, 0}};
		PeriodStatus status = period_boundary_in(rule, zone, index, &tried.period.start);

		if (status == PERIOD_OK && tried.period.start > moment)
		{
			index--;
			continue;
		}
		if (status == PERIOD_OK)
			status = period_boundary_in(rule, zone, index + 1, &tried.period.end);
		if (status != PERIOD_OK)
			return status;
		if (moment < tried.period.end)
		{
			*found = tried;
			return PERIOD_OK;
		}
		index++;
	}
	return PERIOD_BAD_ZONE;
}

PeriodStatus
period_at_in(const PeriodRule *rule, const LocalZone *zone, int64_t moment, Period *period)
{
	GridPeriod found;
	PeriodStatus status = grid_at(rule, zone, moment, &found);

	if (status == PERIOD_OK)
		*period = found.period;
	return status;
}

bool
period_at(const PeriodRule *rule, int64_t moment, Period *period)
{
	return period_at_in(rule, NULL, moment, period) == PERIOD_OK;
}

bool
period_year(int64_t moment, int *year)
{
	if (!moment_in_range(moment))
		return false;
	*year = (int) civil_from_day(floor_div(moment, SECONDS_PER_DAY)).year;
	return true;
}

/* ---- schedules ---- */

PeriodStatus
period_calendar_anchor(PeriodInterval interval, const LocalZone *zone, int64_t moment,
					   int64_t *anchor)
{
	int64_t day;
	CivilDate date;

	if ((int) interval < 0 || (int) interval >= INTERVAL_COUNT)
		return PERIOD_BAD_RULE;
	if (!local_day(zone, moment, &day))
		return local_failure(moment);

	date = civil_from_day(day);
	if (is_monthly(interval))
		date.day = 1;
	if (interval == PERIOD_QUARTER)
		date.month -= (date.month - 1) % 3;
	if (interval == PERIOD_YEAR)
		date.month = 1;
	day = civil_to_day(&date);
	if (interval == PERIOD_WEEK)
		day = floor_div(day + 3, 7) * 7 - 3; /* day 0 was a Thursday */

	if (!local_to_moment(zone, day * SECONDS_PER_DAY, anchor))
		return local_failure(day * SECONDS_PER_DAY);
	return PERIOD_OK;
}

/* The first period of a schedule is the whole that its start lies in. */
static PeriodStatus
first_period(const PeriodSchedule *schedule, GridPeriod *first)
{
	return grid_at(&schedule->rule, schedule->zone, schedule->start, first);
}

static void
describe(const PeriodSchedule *schedule, const GridPeriod *found, int64_t first_index,
		 BillingPeriod *period)
{
	period->number = found->index - first_index;
	period->full = found->period;
	period->billed = found->period;
	if (period->number == 0)
		period->billed.start = schedule->start;
}

PeriodStatus
period_numbered(const PeriodSchedule *schedule, int64_t n, BillingPeriod *period)
{
	GridPeriod first;
	GridPeriod found = {0, {0, 0}};
	PeriodStatus status = n < 0 ? PERIOD_BEFORE_START : first_period(schedule, &first);

	if (status != PERIOD_OK)
		return status;
	if (__builtin_add_overflow(first.index, n, &found.index) || found.index == INT64_MAX)
		return PERIOD_OUT_OF_RANGE;

	status = period_boundary_in(&schedule->rule, schedule->zone, found.index, &found.period.start);
	if (status == PERIOD_OK)
		status = period_boundary_in(&schedule->rule, schedule->zone, found.index + 1,
									&found.period.end);
	if (status == PERIOD_OK)
		describe(schedule, &found, first.index, period);
	return status;
}

PeriodStatus
period_of(const PeriodSchedule *schedule, int64_t moment, BillingPeriod *period)
{
	GridPeriod first;
	GridPeriod found;
	PeriodStatus status = moment < schedule->start ? PERIOD_BEFORE_START
												   : first_period(schedule, &first);

	if (status == PERIOD_OK)
		status = grid_at(&schedule->rule, schedule->zone, moment, &found);
	if (status == PERIOD_OK)
		describe(schedule, &found, first.index, period);
	return status;
}

PeriodStatus
period_next(const PeriodSchedule *schedule, const BillingPeriod *period, BillingPeriod *next)
{
	return period_of(schedule, period->billed.end, next);
}

PeriodStatus
period_previous(const PeriodSchedule *schedule, const BillingPeriod *period,
				BillingPeriod *previous)
{
	return period_of(schedule, period->billed.start - 1, previous);
}

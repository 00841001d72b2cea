/*-------------------------------------------------------------------------
 *
 * usage_alerts.c
 *	  Alerts when usage reaches a share of its limit.
 *
 * The rollup marks what it has added to, in its own transaction; so does a
 * trigger where a limit changes.  A duty takes marks, a few at a time, and
 * raises what is due in the transaction that removes them: whatever crashes,
 * a mark is there until its alerts are.  An alert is raised once per
 * threshold and period, by its primary key.
 *
 * What is looked at are the totals, without the tail, which is marked when it
 * is added to them.  So a look costs the same however much is being recorded;
 * and it costs little where there is no limit, or where the last threshold of
 * the period is reached.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "access/table.h"
#include "entitlements.h"
#include "unit.h"
#include "usage.h"
#include "utils/snapmgr.h"

/* Marks that are taken in one transaction. */
#define MARKS_BATCH 100
/* How long a pass of the worker looks at thresholds, and how often. */
#define LOOK_MS     100
#define INTERVAL_MS 1000

/* ------------------------------------------------------------------------
 * Marks
 * ------------------------------------------------------------------------
 */
/*
 * One that is there already is kept by a lock from being taken before this
 * transaction ends; where somebody is taking it, another one is written.
 * Nobody waits.
 */
QUERY(
	write_marks,
	"INSERT INTO billing.usage_alert_marks (organization_id, metric) "
	"SELECT w.organization_id, w.metric FROM (SELECT DISTINCT u.organization_id, u.metric "
	"FROM unnest($1, $2) AS u (organization_id, metric) "
	"JOIN billing.features AS f ON f.feature = u.metric AND f.kind = 'limit') AS w "
	"WHERE NOT EXISTS (SELECT FROM billing.usage_alert_marks AS m "
	"WHERE m.organization_id = w.organization_id AND m.metric = w.metric LIMIT 1 FOR KEY SHARE SKIP LOCKED)",
	TEXTARRAYOID, TEXTARRAYOID);
QUERY(mark_again, "INSERT INTO billing.usage_alert_marks (organization_id, metric) VALUES ($1, $2)",
	  TEXTOID, TEXTOID);
/* From a place on, so that those at the end have their turn where there are always some at the beginning. */
QUERY(
	take_marks,
	"WITH due AS MATERIALIZED (SELECT organization_id, metric, marked_in FROM billing.usage_alert_marks "
	"WHERE (organization_id, metric) > ($1, $2) ORDER BY organization_id, metric, marked_in LIMIT $3 FOR UPDATE SKIP LOCKED), "
	"taken AS (DELETE FROM billing.usage_alert_marks AS m USING due AS d "
	"WHERE m.organization_id = d.organization_id AND m.metric = d.metric AND m.marked_in = d.marked_in "
	"RETURNING m.organization_id, m.metric) "
	"SELECT organization_id, metric, count(*) FROM taken GROUP BY organization_id, metric ORDER BY organization_id, metric",
	TEXTOID, TEXTOID, INT8OID);

/* This process has added to totals since it looked last. */
static bool marked = false;

void
usage_alerts_mark(Arg organization_ids, Arg metrics)
{
	marked |= RUN(write_marks, organization_ids, metrics) > 0;
}

/* ------------------------------------------------------------------------
 * One look
 * ------------------------------------------------------------------------
 */
/* In ascending order, without those that are raised. */
QUERY(
	open_thresholds,
	"SELECT w.threshold FROM (SELECT t.thresholds FROM billing.usage_thresholds AS t "
	"WHERE t.organization_id IN ('', $1) AND t.metric IN ('', $2) "
	"ORDER BY t.organization_id <> '' DESC, t.metric <> '' DESC LIMIT 1) AS s, unnest(s.thresholds) AS w (threshold) "
	"WHERE NOT EXISTS (SELECT FROM billing.usage_alerts AS a WHERE a.organization_id = $1 AND a.metric = $2 "
	"AND a.period_start = $3 AND a.threshold = w.threshold) ORDER BY w.threshold",
	TEXTOID, TEXTOID, TIMESTAMPTZOID);
QUERY(
	insert_alert,
	"INSERT INTO billing.usage_alerts (organization_id, metric, period_start, period_end, threshold, quantity, \"limit\") "
	"VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING id, trim_scale(threshold), "
	"(SELECT trim_scale(max(a.threshold)) FROM billing.usage_alerts AS a WHERE a.organization_id = $1 AND a.metric = $2 "
	"AND a.period_start = $3 AND a.threshold < $5)",
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, NUMERICOID, NUMERICOID, NUMERICOID);

typedef struct Look
{
	const char *organization_id;
	const Meter *meter;
	UsageRange period;
	bool has_period;
} Look;

static Arg
moment(TimestampTz at)
{
	return arg_datum(TimestampTzGetDatum(at), false);
}

static Arg
number(Numeric value)
{
	return arg_datum(NumericGetDatum(value), false);
}

/* Where retention has removed the events of its beginning, the period begins with its quarter of an hour. */
static Numeric
quantity_of(const Look *look)
{
	UsageRange period = look->period;

	if (period.start < usage_tables()->raw_since)
		period.start = usage_bucket(period.start);
	return usage_quantity(look->organization_id, look->meter, usage_tail_empty(), period);
}

static bool
is_reached(Numeric threshold, Numeric quantity, Numeric limit)
{
	return numeric_order(quantity, int64_to_numeric(0)) > 0 &&
		   numeric_order(numeric_times(quantity, int64_to_numeric(100)),
						 numeric_times(threshold, limit)) >= 0;
}

static void
raise_alert(const Look *look, Numeric threshold, Numeric quantity, Numeric limit)
{
	if (RUN(insert_alert, arg_text(look->organization_id), arg_text(look->meter->metric),
			moment(look->period.start), moment(look->period.end), number(threshold),
			number(quantity), number(limit)) == 0)
		return;
	event_record("usage.threshold_reached", "usage_alert", row_uuid(0, 1), look->organization_id,
				 row_text(0, 3), row_text(0, 2));
}

static void
look_at(void *context)
{
	Look *look = context;
	Entitlement found;
	Numeric quantity = NULL;
	int64 count;
	Rows rows;

	if (!entitlement_find(look->organization_id, look->meter->metric, &found) ||
		found.kind != FEATURE_LIMIT || numeric_is_inf(found.limit))
		return;
	if (!look->has_period)
		look->period = usage_period(look->organization_id);
	look->has_period = true;
	count = READ(open_thresholds, arg_text(look->organization_id), arg_text(look->meter->metric),
				 moment(look->period.start));
	if (count == 0)
		return;
	rows = rows_keep();
	quantity = quantity_of(look);
	for (int64 i = 0; i < count; i++)
	{
		bool isnull;
		Numeric threshold = DatumGetNumeric(rows_datum(rows, i, 1, &isnull));

		if (!is_reached(threshold, quantity, found.limit))
			break;
		raise_alert(look, threshold, quantity, found.limit);
	}
}

/* ------------------------------------------------------------------------
 * The duty
 * ------------------------------------------------------------------------
 */
/* What was taken last, and whether there may be more behind it. */
typedef struct Batch
{
	char organization_id[4 * 255 + 1]; /* empty: before all */
	char metric[NAMEDATALEN];
	bool full;
} Batch;

/* What cannot be looked at holds nothing else up; what passes by itself is looked at again. */
static void
look_safely(Look *look)
{
	char *sqlstate;
	char *message;

	if (guarded(look_at, look, &sqlstate, &message))
		return;
	ereport(LOG, (errmsg("billing could not look at the thresholds of \"%s\": %s",
						 look->meter->metric, message)));
	if (sqlstate_passes(sqlstate))
		RUN(mark_again, arg_text(look->organization_id), arg_text(look->meter->metric));
}

static void
look_at_all(Rows rows)
{
	Relation events = table_open(usage_tables()->events, AccessShareLock);
	Look look = {NULL};

	/* after the marks were taken: it sees the totals that they were written with */
	PushActiveSnapshot(GetLatestSnapshot());
	for (int64 i = 0; i < rows_count(rows); i++)
	{
		char *organization_id = rows_text(rows, i, 1);

		if (look.organization_id == NULL || strcmp(look.organization_id, organization_id) != 0)
			look.has_period = false;
		look.organization_id = organization_id;
		look.meter = meter_named(rows_text(rows, i, 2));
		if (look.meter != NULL)
			look_safely(&look);
	}
	PopActiveSnapshot();
	table_close(events, AccessShareLock);
}

static void
take_batch(void *context)
{
	Batch *batch = context;
	int64 taken = 0;
	int64 count;
	Rows rows;

	count = RUN(take_marks, arg_text(batch->organization_id), arg_text(batch->metric),
				arg_int(MARKS_BATCH));
	if (count == 0)
		return;
	rows = rows_keep();
	for (int64 i = 0; i < count; i++)
		taken += rows_int(rows, i, 3);
	look_at_all(rows);
	batch->full = taken == MARKS_BATCH;
	strlcpy(batch->organization_id, rows_text(rows, count - 1, 1), sizeof(batch->organization_id));
	strlcpy(batch->metric, rows_text(rows, count - 1, 2), sizeof(batch->metric));
}

/* True when the time is over and there is more. */
static bool
look_for_a_while(Batch *batch)
{
	TimestampTz begin = GetCurrentTimestamp();

	for (;;)
	{
		bool from_start = batch->organization_id[0] == '\0';

		batch->full = false;
		(void) unit_run(take_batch, batch, "look at thresholds of usage");
		if (!batch->full)
		{
			batch->organization_id[0] = batch->metric[0] = '\0';
			if (from_start)
				return false;
		}
		if (TimestampDifferenceExceeds(begin, GetCurrentTimestamp(), LOOK_MS))
			return true;
	}
}

int
usage_alerts_raise(bool at_once)
{
	static TimestampTz last = 0;
	static Batch batch;
	TimestampTz now = GetCurrentTimestamp();

	if (!at_once && !(marked && TimestampDifferenceExceeds(last, now, INTERVAL_MS)))
		return 0;
	last = now;
	marked = look_for_a_while(&batch);
	/* the worker goes on after a pause, so that it has time for all else */
	return marked && unit_in_session();
}

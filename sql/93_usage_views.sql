-- Usage for people and dashboards, with the rights of the reader: row level
-- security limits a tenant to its own rows.
--
-- All are exact: what the worker has not added up yet is read from the events,
-- on the same snapshot.  Single organisations, metrics and days may be asked
-- for by WHERE, and cost accordingly.

-- Both conditions are needed: the first finds the events by their index, the
-- second leaves out those that were open when the totals were written.  Where
-- usage is distributed no event is found so, but all of the quarters of an hour
-- whose totals are behind; whoever adds up totals takes away those of these.
-- Citus joins what comes of that with tables of the coordinator only when the
-- branches are joins, not NOT EXISTS, and of the same types.
CREATE VIEW billing.usage_tail WITH (security_invoker = true) AS
	SELECT u.organization_id, u.metric, u.occurred_at, u.recorded_at, u.id, u.kind, u.quantity, u.properties, u.corrects
	FROM billing.usage_events AS u
	WHERE u.recorded_in >= billing.usage_tail_start() AND billing.in_usage_tail(u.recorded_in)
	UNION ALL
	SELECT u.organization_id, u.metric, u.occurred_at, u.recorded_at, u.id, u.kind, u.quantity, u.properties, u.corrects
	FROM (SELECT DISTINCT d.organization_id, d.metric, d.bucket FROM billing.usage_dirty AS d) AS m
	JOIN billing.usage_events AS u ON u.organization_id = m.organization_id AND u.metric = m.metric
		AND u.occurred_at >= m.bucket AND u.occurred_at < m.bucket + interval '15 minutes';
COMMENT ON VIEW billing.usage_tail IS
	'Events that the totals do not hold yet. Long ones mean that no worker runs: totals are exact nevertheless, but slower to read.';

CREATE VIEW billing.usage_totals_behind WITH (security_invoker = true) AS
	SELECT t.organization_id, t.metric, t.bucket, t.sum, t.events
	FROM (SELECT DISTINCT d.organization_id, d.metric, d.bucket FROM billing.usage_dirty AS d) AS m
	JOIN billing.usage_totals AS t ON t.organization_id = m.organization_id AND t.metric = m.metric AND t.bucket = m.bucket;
COMMENT ON VIEW billing.usage_totals_behind IS
	'Where usage is distributed: totals that lack something, as usage_dirty says; the tail has all events of their quarters of an hour.';

CREATE VIEW billing.reported_organizations WITH (security_invoker = true) AS
	SELECT c.organization_id FROM billing.customers AS c WHERE c.deleted_at IS NULL
	UNION
	SELECT o.organization_id FROM billing.usage_organizations AS o
	UNION
	SELECT t.organization_id FROM billing.usage_tail AS t;
COMMENT ON VIEW billing.reported_organizations IS 'Organisations that are customers or have usage.';

CREATE VIEW billing.usage_report WITH (security_invoker = true) AS
	SELECT o.organization_id, c.livemode, r.metric, r.quantity, r."limit", r.remaining, r.percentage, r.projected, r.overage,
		   r.period_start, r.period_end, r.plan, r.status
	FROM billing.reported_organizations AS o
	LEFT JOIN billing.customers AS c ON c.organization_id = o.organization_id AND c.deleted_at IS NULL
	CROSS JOIN LATERAL billing.usage_report_of(o.organization_id) AS r;
COMMENT ON VIEW billing.usage_report IS
	'What every organisation uses of every metric in its current period, and how much it may. The columns are those of usage_summary().';
COMMENT ON COLUMN billing.usage_report.livemode IS 'Of the customer; NULL when the organisation is none.';
COMMENT ON COLUMN billing.usage_report.plan IS
	'That of the subscription that the period is of (view usage_subscriptions) where that gives access, else the default plan.';
COMMENT ON COLUMN billing.usage_report.status IS
	'Of that subscription, also when it gives no access any more (unpaid, paused, past its grace); NULL without one.';

CREATE VIEW billing.quota_utilization WITH (security_invoker = true) AS
	SELECT r.organization_id, r.livemode, r.metric, r.quantity, r."limit", r.remaining, r.percentage,
		   (SELECT max(w.threshold)
			FROM (SELECT t.thresholds
				  FROM billing.usage_thresholds AS t
				  WHERE t.organization_id IN ('', r.organization_id) AND t.metric IN ('', r.metric)
				  ORDER BY t.organization_id <> '' DESC, t.metric <> '' DESC LIMIT 1) AS s,
				 unnest(s.thresholds) AS w (threshold)
			WHERE r.quantity > 0 AND 100 * r.quantity >= w.threshold * r."limit") AS threshold,
		   r.projected, r.projected > r."limit" AS projected_over, r.overage, r.period_start, r.period_end, r.plan
	FROM billing.usage_report AS r
	WHERE r."limit" < 'Infinity'
	ORDER BY r.percentage DESC, r.organization_id, r.metric;
COMMENT ON VIEW billing.quota_utilization IS 'How much of the limits is used in the current periods, those that are nearest to their limit first.';
COMMENT ON COLUMN billing.quota_utilization.threshold IS 'The highest percentage of usage_thresholds that is reached; NULL below all. By the exact quantity, as alerts are, not the rounded percentage.';
COMMENT ON COLUMN billing.quota_utilization.projected_over IS 'At the present pace it is over the limit at the end of the period.';

-- Sums and numbers of events are added up for all at once; what does not add
-- up is asked for day by day.  The empty branch is of a table that is never
-- distributed: it keeps Citus from asking on its nodes.
CREATE VIEW billing.usage_daily WITH (security_invoker = true) AS
	SELECT d.organization_id, d.metric, d.day,
		   CASE WHEN m.aggregation = 'sum' AND NOT m.carried THEN trim_scale(d.sum)
				WHEN m.aggregation = 'count' AND NOT m.carried THEN d.events::numeric
				ELSE billing.usage_quantity(d.organization_id, d.metric, d.day::timestamp AT TIME ZONE 'UTC',
											(d.day + 1)::timestamp AT TIME ZONE 'UTC') END AS quantity,
		   d.events
	FROM (
		SELECT p.organization_id, p.metric, p.day, sum(p.sum) AS sum, sum(p.events)::bigint AS events
		FROM (
			SELECT t.organization_id, t.metric, (t.bucket AT TIME ZONE 'UTC')::date AS day, t.sum, t.events
			FROM billing.usage_totals AS t
			UNION ALL
			SELECT t.organization_id, t.metric, (t.bucket AT TIME ZONE 'UTC')::date, -t.sum, -t.events
			FROM billing.usage_totals_behind AS t
			UNION ALL
			SELECT t.organization_id, t.metric, (t.occurred_at AT TIME ZONE 'UTC')::date, t.quantity,
				   CASE t.kind WHEN 'usage' THEN 1 WHEN 'void' THEN -1 ELSE 0 END::bigint
			FROM billing.usage_tail AS t) AS p
		GROUP BY p.organization_id, p.metric, p.day
		UNION ALL
		SELECT o.organization_id, NULL, NULL, NULL, NULL FROM billing.usage_organizations AS o WHERE false) AS d
	JOIN billing.meters AS m ON m.metric = d.metric
	WHERE d.events > 0;
COMMENT ON VIEW billing.usage_daily IS
	'Usage by day (UTC), for days that have events. For other time zones, and with the days without, see usage_series().';
COMMENT ON COLUMN billing.usage_daily.quantity IS 'By the aggregation of the metric; what is carried over is as it was at the end of the day.';
COMMENT ON COLUMN billing.usage_daily.events IS 'Number of events that are not void.';

CREATE VIEW billing.usage_top WITH (security_invoker = true) AS
	SELECT u.metric, rank() OVER (PARTITION BY u.metric ORDER BY u.quantity DESC) AS rank, u.organization_id, u.quantity,
		   round(100 * u.quantity / sum(u.quantity) OVER (PARTITION BY u.metric), 2) AS percentage
	FROM (
		SELECT s.metric, s.organization_id, trim_scale(CASE m.aggregation WHEN 'sum' THEN s.sum ELSE s.events END) AS quantity
		FROM (
		SELECT p.organization_id, p.metric, sum(p.sum) AS sum, sum(p.events) AS events
		FROM (
			SELECT t.organization_id, t.metric, t.sum, t.events
			FROM billing.usage_totals AS t
			WHERE t.bucket >= date_trunc('month', now(), 'UTC')
				AND t.bucket < (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'
			UNION ALL
			SELECT t.organization_id, t.metric, -t.sum, -t.events
			FROM billing.usage_totals_behind AS t
			WHERE t.bucket >= date_trunc('month', now(), 'UTC')
				AND t.bucket < (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'
			UNION ALL
			SELECT t.organization_id, t.metric, t.quantity, CASE t.kind WHEN 'usage' THEN 1 WHEN 'void' THEN -1 ELSE 0 END::bigint
			FROM billing.usage_tail AS t
			WHERE t.occurred_at >= date_trunc('month', now(), 'UTC')
				AND t.occurred_at < (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC') AS p
		GROUP BY p.organization_id, p.metric
		UNION ALL
		SELECT o.organization_id, NULL, NULL, NULL FROM billing.usage_organizations AS o WHERE false) AS s
		JOIN billing.meters AS m ON m.metric = s.metric
		WHERE m.aggregation IN ('sum', 'count') AND NOT m.carried
		UNION ALL
		SELECT m.metric, o.organization_id, q.quantity
		FROM billing.meters AS m
		CROSS JOIN billing.reported_organizations AS o
		CROSS JOIN LATERAL (
			SELECT billing.usage_quantity(o.organization_id, m.metric, date_trunc('month', now(), 'UTC'),
				(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC') AS quantity OFFSET 0) AS q
		WHERE m.aggregation NOT IN ('sum', 'count') OR m.carried) AS u
	WHERE u.quantity > 0;
COMMENT ON VIEW billing.usage_top IS
	'Organisations by what they use of each metric in the current calendar month (UTC), the heaviest with rank 1.';
COMMENT ON COLUMN billing.usage_top.percentage IS 'Of all organisations'' quantities together.';

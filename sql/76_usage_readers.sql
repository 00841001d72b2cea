-- Reading usage: one metric in any range, by its dimensions and over time.

CREATE TABLE billing.usage_organizations
(
	organization_id text PRIMARY KEY
);
COMMENT ON TABLE billing.usage_organizations IS
	'Organisations that the totals have something of; written with them. To look for them in the totals would take long.';
SELECT pg_extension_config_dump('billing.usage_organizations', '');

-- These run as their caller, since a tenant may call them, and take the
-- owner's identity by themselves (src/usage_reader.c).
CREATE FUNCTION billing.usage_quantity(
	organization_id text,
	metric text,
	start_at timestamptz DEFAULT NULL,
	end_at timestamptz DEFAULT NULL,
	dimensions jsonb DEFAULT '{}')
RETURNS numeric
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'billing_usage_quantity';
COMMENT ON FUNCTION billing.usage_quantity(text, text, timestamptz, timestamptz, jsonb) IS
	'What was used of a metric in [start_at, end_at), by its aggregation; 0 for nothing. Default: the current period of the subscription, else the '
	'calendar month (UTC). dimensions: only events whose dimensions contain it. Exact on the snapshot of the query, whether or not the worker runs. Errors: 42501 '
	'a tenant asks for another organisation, JB005 unknown metric, 22023 end_at is not after start_at, the metric has no such dimension, or a bound inside a '
	'quarter of an hour whose events retention has removed.';

CREATE FUNCTION billing.usage_by_dimension(
	organization_id text,
	metric text,
	dimensions text[] DEFAULT NULL,
	start_at timestamptz DEFAULT NULL,
	end_at timestamptz DEFAULT NULL)
RETURNS TABLE (dimensions jsonb, quantity numeric, events bigint)
LANGUAGE c STABLE ROWS 20
AS 'MODULE_PATHNAME', 'billing_usage_by_dimension';
COMMENT ON FUNCTION billing.usage_by_dimension(text, text, text[], timestamptz, timestamptz) IS
	'usage_quantity() for each combination of the values of these dimensions (default: all that the metric has; none of them: one row); an event without one of '
	'them counts where it is missing. events: their number in the range without void ones, 0 where only the quantity is carried over. Combinations without events and '
	'quantity are left out. Errors: as there.';

CREATE FUNCTION billing.usage_series(
	organization_id text,
	metric text,
	start_at timestamptz DEFAULT NULL,
	end_at timestamptz DEFAULT NULL,
	step interval DEFAULT '1 day',
	time_zone text DEFAULT 'UTC',
	dimensions jsonb DEFAULT '{}')
RETURNS TABLE (start_at timestamptz, end_at timestamptz, quantity numeric, events bigint)
LANGUAGE c STABLE ROWS 30
AS 'MODULE_PATHNAME', 'billing_usage_series';
COMMENT ON FUNCTION billing.usage_series(text, text, timestamptz, timestamptz, interval, text, jsonb) IS
	'usage_quantity() for each step of the range. step: months, days, or less but a minute, in one unit. Months, days and weeks (7 days) are those of the calendar of '
	'the time zone, whose days may have 23 or 25 hours; shorter steps all have the same length and are counted from midnight. The first and the last row are '
	'cut off by start_at and end_at. Rows without usage are there, too. Errors: as usage_quantity(), 22023 for the step, the time zone, or more than 10,000 rows.';

CREATE FUNCTION billing.usage_report_of(organization_id text)
RETURNS TABLE (metric text, quantity numeric, "limit" numeric, remaining numeric, percentage numeric,
			   period_start timestamptz, period_end timestamptz, projected numeric, overage numeric, plan text, status text)
LANGUAGE c STABLE ROWS 5
AS 'MODULE_PATHNAME', 'billing_usage_report_of';
COMMENT ON FUNCTION billing.usage_report_of(text) IS
	'The rows of one organisation in the view usage_report. Errors: 42501 a tenant asks for another organisation.';

CREATE FUNCTION billing.usage_tail_start() RETURNS bigint
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'billing_usage_tail_start';
COMMENT ON FUNCTION billing.usage_tail_start() IS 'The smallest recorded_in that the tail may have; for the view usage_tail.';

CREATE FUNCTION billing.in_usage_tail(recorded_in bigint) RETURNS boolean
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'billing_in_usage_tail';
COMMENT ON FUNCTION billing.in_usage_tail(bigint) IS 'Is an event with this recorded_in not in the totals? For the view usage_tail.';

-- Usage: what organisations consume, and how much of it their plan allows.

CREATE TABLE billing.meters
(
	metric text PRIMARY KEY CHECK (metric ~ '^[a-z][a-z0-9_.-]{0,62}$'),
	aggregation text NOT NULL DEFAULT 'sum' CHECK (aggregation IN ('sum', 'count', 'max', 'latest')),
	carried boolean NOT NULL DEFAULT false,
	unit text,
	description text,
	builtin boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE billing.meters IS 'What is counted. A metric''s limit is the feature of the same name.';
COMMENT ON COLUMN billing.meters.aggregation IS
	'sum of the quantities, count of the events, their max, or the latest quantity.';
COMMENT ON COLUMN billing.meters.carried IS
	'What was recorded before a period counts in it, too, instead of starting at 0: storage is what was recorded last, whenever that was.';
INSERT INTO billing.meters (metric, aggregation, carried, unit, builtin) VALUES
	('api_calls', 'sum', false, 'calls', true),
	('storage', 'latest', true, 'bytes', true),
	('users', 'latest', true, 'users', true),
	('teams', 'latest', true, 'teams', true);

CREATE TABLE billing.usage_events
(
	organization_id text NOT NULL,
	id uuid NOT NULL DEFAULT billing.new_id(),
	metric text NOT NULL,
	quantity numeric NOT NULL CHECK (quantity >= 0 AND quantity < 1e30),
	occurred_at timestamptz NOT NULL,
	recorded_at timestamptz NOT NULL DEFAULT now(),
	idempotency_key text,
	properties jsonb,
	PRIMARY KEY (organization_id, id)
);
COMMENT ON TABLE billing.usage_events IS 'Usage as it was recorded; append-only.';
CREATE INDEX usage_events_time ON billing.usage_events (organization_id, metric, occurred_at);

CREATE TABLE billing.usage_keys
(
	organization_id text NOT NULL,
	key text NOT NULL CHECK (key <> '' AND length(key) <= 255),
	recorded_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (organization_id, key)
);
COMMENT ON TABLE billing.usage_keys IS 'Idempotency keys of usage: a key counts once, whatever the time of the retry.';

CREATE FUNCTION billing.keep_usage() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'billing.usage_events is append-only'
		USING ERRCODE = 'JB008', HINT = 'Record a correction instead.';
END
$$;
COMMENT ON FUNCTION billing.keep_usage() IS 'Trigger of usage_events: rows never change.';
CREATE TRIGGER keep_usage BEFORE UPDATE OR DELETE ON billing.usage_events
	FOR EACH ROW EXECUTE FUNCTION billing.keep_usage();

CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.meters
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('metric');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.meters
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.meters
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Usage refers to it: stop recording instead.');

SELECT pg_extension_config_dump('billing.meters', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.usage_events', '');
SELECT pg_extension_config_dump('billing.usage_keys', '');

CREATE FUNCTION billing.record_usage(
	organization_id text,
	metric text,
	quantity numeric DEFAULT 1,
	occurred_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	properties jsonb DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_record_usage';
COMMENT ON FUNCTION billing.record_usage(text, text, numeric, timestamptz, text, jsonb) IS
	'Counts usage of a metric; false when the idempotency key was counted before, whatever the rest says. quantity: in the metric''s '
	'unit, from 0, at most 12 decimals. occurred_at: default now (by the test clock in the sandbox). Errors: JB005 unknown metric, 22023 '
	'negative or too fine quantity, or a time before 2000 or more than a day ahead.';

CREATE FUNCTION billing.usage_summary(
	organization_id text,
	start_at timestamptz DEFAULT NULL,
	end_at timestamptz DEFAULT NULL)
RETURNS TABLE (metric text, quantity numeric, "limit" numeric, remaining numeric, percentage numeric,
			   period_start timestamptz, period_end timestamptz)
LANGUAGE c STABLE SECURITY DEFINER ROWS 10
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_usage_summary';
COMMENT ON FUNCTION billing.usage_summary(text, timestamptz, timestamptz) IS
	'Per metric: what was used in [start_at, end_at), the limit of the plan (Infinity: unlimited, also where no feature limits the '
	'metric), what remains (never below 0), and the percentage used (two decimals; NULL when unlimited, Infinity for what is not in '
	'the plan). Default: the current period of the subscription, else the calendar month (UTC). Errors: 22023 end_at is not after start_at.';

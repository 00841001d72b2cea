-- Hard limits: metrics that are used no further than the plan allows.

CREATE TABLE billing.usage_counters
(
	organization_id text NOT NULL,
	metric text NOT NULL,
	period_start timestamptz,
	period_end timestamptz,
	used numeric NOT NULL DEFAULT 0,
	reserved numeric NOT NULL DEFAULT 0 CHECK (reserved >= 0),
	PRIMARY KEY (organization_id, metric),
	CHECK ((period_start IS NULL) = (period_end IS NULL)),
	CHECK (period_end > period_start)
) WITH (fillfactor = 50); -- rows are updated with every event, in their page
COMMENT ON TABLE billing.usage_counters IS
	'What was used of enforced metrics in the present period: the sum of the events, changed with each of them. Made from the events when it '
	'is first needed, and anew for each period; a dump leaves it out. consume() and its like write it without the executor.';
COMMENT ON COLUMN billing.usage_counters.period_start IS
	'NULL: nobody has asked for the quantity yet. -infinity with a metric that is carried, which has no periods.';
COMMENT ON COLUMN billing.usage_counters.reserved IS 'Sum of the open reservations, and of those that have expired and are not ended yet.';

CREATE TABLE billing.usage_reservations
(
	organization_id text NOT NULL,
	id uuid NOT NULL DEFAULT billing.new_id(),
	metric text NOT NULL,
	quantity numeric NOT NULL CHECK (quantity > 0),
	state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'committed', 'released', 'expired')),
	committed numeric CHECK (committed > 0),
	expires_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	ended_at timestamptz,
	PRIMARY KEY (organization_id, id),
	CHECK ((state = 'open') = (ended_at IS NULL)),
	CHECK ((state = 'committed') = (committed IS NOT NULL)),
	CHECK (expires_at > created_at)
);
COMMENT ON TABLE billing.usage_reservations IS
	'Usage that somebody has set aside for a while. An open one whose expires_at has passed counts no longer; the worker ends it. Kept for 30 '
	'days after it has ended.';
COMMENT ON COLUMN billing.usage_reservations.committed IS 'What was used of it in the end.';
COMMENT ON COLUMN billing.usage_reservations.expires_at IS 'By the organisation''s clock, as are the other times.';
CREATE INDEX usage_reservations_id ON billing.usage_reservations (id);
CREATE INDEX usage_reservations_open ON billing.usage_reservations (organization_id, metric) WHERE state = 'open';
CREATE INDEX usage_reservations_expiry ON billing.usage_reservations (expires_at) WHERE state = 'open';
CREATE INDEX usage_reservations_ended ON billing.usage_reservations (ended_at) WHERE state <> 'open';
SELECT pg_extension_config_dump('billing.usage_reservations', '');

-- What consume() remembers for the life of a session: limits and periods.
CREATE TABLE billing.limits_changed ();
COMMENT ON TABLE billing.limits_changed IS
	'A mark without content: when a table changes that limits come from, sessions are told by an invalidation of this one.';
CREATE FUNCTION billing.forget_limits() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'billing_forget_limits';
COMMENT ON FUNCTION billing.forget_limits() IS
	'Trigger of the tables that limits and periods come from: sessions that remember them read them again.';
DO $$
DECLARE
	source text;
BEGIN
	-- what changes with time alone, and rows of single organisations, stand in src/quota_limits.c
	FOREACH source IN ARRAY ARRAY['plans', 'features', 'plan_features', 'meters', 'settings']
	LOOP
		EXECUTE format('CREATE TRIGGER forget_limits AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON billing.%I '
					   'FOR EACH STATEMENT EXECUTE FUNCTION billing.forget_limits()', source);
	END LOOP;
END
$$;
-- accounts change with much that has nothing to do with it
CREATE TRIGGER forget_limits AFTER INSERT OR UPDATE OF livemode OR DELETE ON billing.provider_accounts
	FOR EACH STATEMENT EXECUTE FUNCTION billing.forget_limits();

-- Whoever is recording knows the metric as one without counters; whoever begins
-- after this lock is free knows better.  Only once in the life of a metric.
CREATE FUNCTION billing.begin_enforcing() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF OLD.enforced AND NOT NEW.enforced THEN
		RAISE EXCEPTION 'metric "%" is enforced', OLD.metric
			USING ERRCODE = 'JB008', DETAIL = 'Its counters would miss what is recorded meanwhile.',
				  HINT = 'Set the feature of its name to unlimited where nothing shall be refused, or make a new metric.';
	ELSIF NEW.enforced AND NOT OLD.enforced THEN
		LOCK TABLE ONLY billing.usage_events IN SHARE ROW EXCLUSIVE MODE;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION billing.begin_enforcing() IS
	'Trigger of meters: enforced stays on; before it is turned on everybody who is recording has to come to an end.';
CREATE TRIGGER b_begin_enforcing BEFORE UPDATE ON billing.meters
	FOR EACH ROW EXECUTE FUNCTION billing.begin_enforcing();

CREATE FUNCTION billing.create_meter(
	metric text,
	aggregation text DEFAULT 'sum',
	carried boolean DEFAULT false,
	property text DEFAULT NULL,
	dimensions text[] DEFAULT '{}',
	unit text DEFAULT NULL,
	description text DEFAULT NULL,
	enforced boolean DEFAULT false)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	present billing.meters;
BEGIN
	IF metric IS NULL OR aggregation IS NULL OR carried IS NULL OR dimensions IS NULL OR enforced IS NULL THEN
		RAISE EXCEPTION '% must be given', CASE WHEN metric IS NULL THEN 'metric' WHEN aggregation IS NULL THEN 'aggregation'
			WHEN carried IS NULL THEN 'carried' WHEN dimensions IS NULL THEN 'dimensions' ELSE 'enforced' END
			USING ERRCODE = 'not_null_violation';
	ELSIF metric !~ '^[a-z][a-z0-9_.-]{0,62}$' THEN
		RAISE EXCEPTION '"%" cannot name a metric', metric
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'It begins with a small letter; small letters, digits, "_", "." and "-" follow, 63 in all at most.';
	ELSIF aggregation NOT IN ('sum', 'count', 'max', 'latest', 'unique', 'weighted') THEN
		RAISE EXCEPTION 'unknown aggregation "%"', aggregation
			USING ERRCODE = 'invalid_parameter_value', HINT = 'It is one of: sum, count, max, latest, unique, weighted.';
	ELSIF (aggregation = 'unique') <> (coalesce(property, '') <> '') OR octet_length(property) > 63 THEN
		RAISE EXCEPTION 'property does not go with aggregation "%"', aggregation
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'unique counts the values of a property, named by at most 63 bytes; the others have none.';
	ELSIF cardinality(dimensions) > 4 OR array_position(dimensions, NULL) IS NOT NULL OR octet_length(array_to_string(dimensions, '')) > 252
		OR aggregation = 'weighted' AND dimensions <> '{}' THEN
		RAISE EXCEPTION 'dimensions cannot be used'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('dimensions is %s.', dimensions),
				  HINT = 'There may be 4, of 252 bytes in all; weighted has none.';
	ELSIF enforced AND aggregation NOT IN ('sum', 'count') THEN
		RAISE EXCEPTION 'metric "%" cannot be enforced', metric
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Its aggregation is %s: a quantity does not add to those before.', aggregation),
				  HINT = 'Ask billing.check_quota() in a trigger.';
	END IF;
	LOOP
		SELECT m.* INTO present FROM billing.meters AS m WHERE m.metric = create_meter.metric;
		EXIT WHEN FOUND;
		INSERT INTO billing.meters AS m (metric, aggregation, carried, property, dimensions, unit, description, enforced)
		VALUES (create_meter.metric, create_meter.aggregation, create_meter.carried, create_meter.property, create_meter.dimensions,
				create_meter.unit, create_meter.description, create_meter.enforced)
		ON CONFLICT DO NOTHING;
		IF FOUND THEN
			RETURN true;
		END IF;
	END LOOP;
	IF (present.aggregation, present.carried, present.property, present.dimensions, present.unit, present.description)
		IS DISTINCT FROM (aggregation, carried, property, dimensions, unit, description) THEN
		RAISE EXCEPTION 'metric "%" exists', metric
			USING ERRCODE = 'unique_violation', DETAIL = 'It was made with other arguments.',
				  HINT = 'UPDATE billing.meters changes unit and description; for the rest make a new metric.';
	END IF;
	UPDATE billing.meters AS m SET enforced = true
	WHERE m.metric = create_meter.metric AND create_meter.enforced AND NOT m.enforced;
	RETURN false;
END
$$;
COMMENT ON FUNCTION billing.create_meter(text, text, boolean, text, text[], text, text, boolean) IS
	'Makes a metric; the arguments are the columns of billing.meters. False when it is there already with the same ones. enforced: consume() will be '
	'used with it; given beforehand its first use waits for nobody, while for a metric that is there it waits as the first consume() does. '
	'Errors: 23505 it exists with other arguments, 22023 a bad name, aggregation, property or dimensions, or enforced with an aggregation '
	'other than sum and count, 23502.';

-- As record_usage(): no SECURITY DEFINER, which would cost as much as writing the row.
CREATE FUNCTION billing.consume(
	organization_id text,
	metric text,
	quantity numeric DEFAULT 1,
	idempotency_key text DEFAULT NULL,
	properties jsonb DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'billing_consume';
COMMENT ON FUNCTION billing.consume(text, text, numeric, text, jsonb) IS
	'Counts usage, now, if used + reserved + quantity in the present period is within the limit of the feature of the same name; else false, and nothing is '
	'counted. Without such a feature, or where it is unlimited, always. True also for an idempotency key that was counted before, by whatever '
	'call: nothing is counted again. quantity: as in record_usage(); of a metric that counts events, 1. The first call for a metric makes it enforced: it waits '
	'for all transactions that are recording usage, and new ones wait for its end, once in the life of the metric; create_meter() does so beforehand. '
	'The organisation''s others wait until the transaction ends: commit soon. Errors: as record_usage(), 22023 an aggregation other than sum and '
	'count, 40001 from REPEATABLE READ on, when somebody else has used it meanwhile.';

CREATE FUNCTION billing.check_quota(organization_id text, metric text, quantity numeric DEFAULT 1)
RETURNS boolean
LANGUAGE c STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_check_quota';
COMMENT ON FUNCTION billing.check_quota(text, text, numeric) IS
	'Would so much more be within the limit? Of any metric: what it comes to in the present period, what is reserved and quantity (from 0 on), added, are at most '
	'the limit of the feature of the same name; true without such a feature. Exact on the snapshot of the query. It holds nothing back: two that ask at '
	'the same time hear the same; consume() asks and counts in one. Errors: JB005 unknown metric, 22023 bad quantity.';

CREATE FUNCTION billing.reserve_usage(
	organization_id text,
	metric text,
	quantity numeric,
	expires_in interval DEFAULT '15 minutes')
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_reserve_usage';
COMMENT ON FUNCTION billing.reserve_usage(text, text, numeric, interval) IS
	'Holds usage back for work that takes a while, until commit_reservation() or release_reservation(), or until expires_in (at most 31 days) has '
	'passed. It goes along into the next period. The first call for a metric makes it enforced, as with consume(). Errors: JB003 it does not fit, with used, reserved and limit, '
	'JB005 unknown metric, 22023 bad quantity, expires_in or aggregation.';

CREATE FUNCTION billing.commit_reservation(
	reservation_id uuid,
	quantity numeric DEFAULT NULL,
	properties jsonb DEFAULT NULL,
	organization_id text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_commit_reservation';
COMMENT ON FUNCTION billing.commit_reservation(uuid, numeric, jsonb, text) IS
	'Counts what was reserved as used, now, and returns the id of the event. quantity: default all of it; of less the rest is free again; more counts if it '
	'fits. organization_id: saves looking it up, which matters where the tables are distributed. Errors: JB003 the part that is more does not fit, and the reservation '
	'stays as it was, JB005 unknown reservation, JB008 it has expired or ended, 22023 bad quantity or properties.';

CREATE FUNCTION billing.release_reservation(reservation_id uuid, organization_id text DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_release_reservation';
COMMENT ON FUNCTION billing.release_reservation(uuid, text) IS
	'What was reserved is free again. False when it had ended or expired. organization_id: as in commit_reservation(). Errors: JB005 unknown reservation.';

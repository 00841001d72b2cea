-- Usage: what organisations consume, and how much of it their plan allows.

CREATE TABLE billing.meters
(
	metric text PRIMARY KEY CHECK (metric ~ '^[a-z][a-z0-9_.-]{0,62}$'),
	aggregation text NOT NULL DEFAULT 'sum' CHECK (aggregation IN ('sum', 'count', 'max', 'latest', 'unique', 'weighted')),
	carried boolean NOT NULL DEFAULT false,
	property text CHECK (property <> '' AND octet_length(property) <= 63),
	dimensions text[] NOT NULL DEFAULT '{}'
		CHECK (cardinality(dimensions) <= 4 AND array_position(dimensions, NULL) IS NULL
			   AND octet_length(array_to_string(dimensions, '')) <= 252),
	unit text,
	description text,
	enforced boolean NOT NULL DEFAULT false,
	builtin boolean NOT NULL DEFAULT false,
	CHECK (NOT enforced OR aggregation IN ('sum', 'count')),
	CHECK ((aggregation = 'unique') = (property IS NOT NULL)),
	CHECK (aggregation <> 'weighted' OR dimensions = '{}')
);
ALTER TABLE billing.prices ADD FOREIGN KEY (metric) REFERENCES billing.meters (metric);
COMMENT ON TABLE billing.meters IS 'What is counted. A metric''s limit is the feature of the same name; a boolean one that is off is a limit of 0.';
COMMENT ON COLUMN billing.meters.aggregation IS
	'sum of the quantities, count of the events, their max, the latest quantity (of two at the same moment the one that was recorded later), '
	'unique: how many different values the property has, or weighted: the level''s average over the range, which is the sum of each quantity '
	'times the seconds until the next one (or the end of the range), divided by the seconds of the range; before the first one the level is 0, '
	'or, when carried, what it was at the start.';
COMMENT ON COLUMN billing.meters.carried IS
	'What was recorded before a period counts in it, too, instead of starting at 0: storage is what was recorded last, whenever that was.';
COMMENT ON COLUMN billing.meters.property IS 'Of unique: the property whose values are counted. Every event has to have it.';
COMMENT ON COLUMN billing.meters.dimensions IS
	'Properties by whose values the totals are kept apart, at most 4; texts, numbers and booleans of at most 255 bytes.';
COMMENT ON COLUMN billing.meters.enforced IS
	'Every event is added to a counter, too, so that consume() and reserve_usage() keep to the limit. The first of these, create_meter() or '
	'UPDATE turns it on, and it stays on. It looks for a moment in which nobody is recording, 3 seconds long (55P03), and all that record wait until its transaction ends. '
	'Where so many record that there is no such moment, the owner asks for it in line, in one transaction: SET LOCAL lock_timeout = ''1s''; LOCK billing.usage_events '
	'IN SHARE ROW EXCLUSIVE MODE; UPDATE.';
INSERT INTO billing.meters (metric, aggregation, carried, unit, builtin) VALUES
	('api_calls', 'sum', false, 'calls', true),
	('storage', 'latest', true, 'bytes', true),
	('users', 'latest', true, 'users', true),
	('teams', 'latest', true, 'teams', true);

INSERT INTO billing.settings (name, value, kind, description, builtin) VALUES
	('usage_ahead', '1 day', 'interval',
	 'how far ahead of our clock the time of a usage event may be', true),
	('usage_retention', '13 months', 'interval',
	 'how long single usage events and their idempotency keys are kept; totals are kept for ever', true);

-- Partitions are made by whoever first needs one (src/usage_partitions.c), by
-- month in UTC, as tables that do not belong to the extension: those are what
-- pg_dump writes down, with their rows.  The parent has no index, since pg_dump
-- writes the indexes of a partition after it is attached, and attaching it to
-- a parent that has one would have made it already.
CREATE TABLE billing.usage_events
(
	occurred_at timestamptz NOT NULL,
	recorded_at timestamptz NOT NULL DEFAULT now(),
	recorded_in bigint NOT NULL,
	id uuid NOT NULL DEFAULT billing.new_id(),
	organization_id text NOT NULL,
	metric text NOT NULL,
	quantity numeric NOT NULL CHECK (quantity > -1e30 AND quantity < 1e30),
	kind text NOT NULL DEFAULT 'usage' CHECK (kind IN ('usage', 'void', 'correction')),
	idempotency_key text,
	properties jsonb,
	corrects uuid,
	CHECK ((kind = 'usage') = (corrects IS NULL)),
	CHECK (quantity >= 0 OR kind <> 'usage')
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE billing.usage_events IS
	'Usage as it was recorded; append-only, in partitions by month (UTC) of occurred_at. record_usage() and its like write it without the '
	'executor: triggers that somebody adds for INSERT do not fire.';
COMMENT ON COLUMN billing.usage_events.recorded_in IS
	'The transaction that recorded it (of the outermost level) plus usage_rollup_state.base, times 4096, plus one for every 16,384 events of the '
	'transaction before it: what a rollup has not seen is found by it.';
COMMENT ON COLUMN billing.usage_events.kind IS
	'usage; correction: the event that it corrects counts as so much more or less; void: it counts no longer. Both have the time of that event.';

CREATE TABLE billing.usage_keys
(
	stamp timestamptz NOT NULL,
	organization_id text NOT NULL,
	key text NOT NULL CHECK (key <> '' AND length(key) <= 255),
	PRIMARY KEY (organization_id, key)
);
COMMENT ON TABLE billing.usage_keys IS 'Idempotency keys of usage: a key counts once, whatever the time of the retry.';
COMMENT ON COLUMN billing.usage_keys.stamp IS
	'When the usage occurred or was recorded, whichever is later: keys are removed by it, after their events.';
CREATE INDEX usage_keys_stamp ON billing.usage_keys USING brin (stamp) WITH (pages_per_range = 64);

CREATE TABLE billing.usage_totals
(
	bucket timestamptz NOT NULL,
	first_at timestamptz,
	latest_at timestamptz,
	latest_id uuid,
	events bigint NOT NULL,
	organization_id text NOT NULL,
	metric text NOT NULL,
	dimensions jsonb NOT NULL DEFAULT '{}',
	sum numeric NOT NULL,
	largest numeric,
	latest numeric,
	area numeric,
	PRIMARY KEY (organization_id, metric, bucket, dimensions)
) WITH (fillfactor = 50); -- rows of the present are updated every second, in their page
COMMENT ON TABLE billing.usage_totals IS
	'What usage_rollup_state says it has seen of usage_events, added up per quarter of an hour (UTC). usage_summary() adds what it has not.';
COMMENT ON COLUMN billing.usage_totals.bucket IS 'Where the 15 minutes begin.';
COMMENT ON COLUMN billing.usage_totals.events IS 'Number of events that are not void.';
COMMENT ON COLUMN billing.usage_totals.area IS 'Of weighted: quantity times seconds, from first_at to latest_at.';

CREATE TABLE billing.usage_values
(
	bucket timestamptz NOT NULL,
	events bigint NOT NULL,
	organization_id text NOT NULL,
	metric text NOT NULL,
	dimensions jsonb NOT NULL DEFAULT '{}',
	value text NOT NULL,
	PRIMARY KEY (organization_id, metric, bucket, dimensions, value)
);
COMMENT ON TABLE billing.usage_values IS
	'Of metrics that count different values: which there were in each quarter of an hour, and in how many events that are not void.';

-- One row, from the first write on.  What a dump brings along names the
-- database that it is from; the first write here binds it (src/usage_state.c).
CREATE TABLE billing.usage_rollup_state
(
	only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
	bound_to text NOT NULL,
	base bigint NOT NULL CHECK (base >= 0),
	seen_until bigint NOT NULL DEFAULT 0,
	open bigint[] NOT NULL DEFAULT '{}',
	raw_since timestamptz NOT NULL DEFAULT '-infinity',
	removed_until bigint NOT NULL DEFAULT 0,
	rolled_up_at timestamptz,
	distributed boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE billing.usage_rollup_state IS
	'What the totals hold: every event whose recorded_in is below seen_until, except those that open names. All others are the tail, which readers add.';
COMMENT ON COLUMN billing.usage_rollup_state.open IS
	'Of each transaction that was open when a rollup passed it: the first of its numbers (recorded_in) that is not in the totals.';
COMMENT ON COLUMN billing.usage_rollup_state.base IS
	'Added to the number of a transaction, so that those of this database are greater than any that a restored event has.';
COMMENT ON COLUMN billing.usage_rollup_state.removed_until IS
	'The numbers (recorded_in) of events that retention has removed are below it: a snapshot from before that lacks some of them in its totals '
	'is told so (40001).';
COMMENT ON COLUMN billing.usage_rollup_state.raw_since IS 'Before it there are totals only: retention has removed the events.';
COMMENT ON COLUMN billing.usage_rollup_state.distributed IS
	'distribute_usage() was called: the totals hold every event but those of the quarters of an hour that usage_dirty marks; seen_until and open '
	'mean nothing.';

CREATE FUNCTION billing.keep_usage() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'billing.usage_events is append-only'
		USING ERRCODE = 'JB008', HINT = 'Use billing.void_usage() or billing.correct_usage() instead.';
END
$$;
COMMENT ON FUNCTION billing.keep_usage() IS 'Trigger of usage_events: rows never change.';
CREATE TRIGGER keep_usage BEFORE UPDATE OR DELETE ON billing.usage_events
	FOR EACH ROW EXECUTE FUNCTION billing.keep_usage();

CREATE FUNCTION billing.forget_usage_rules() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'billing_forget_usage_rules';
COMMENT ON FUNCTION billing.forget_usage_rules() IS
	'Trigger of the tables that record_usage() remembers for the life of a session: all sessions read them again.';
CREATE TRIGGER forget_usage_rules AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON billing.meters
	FOR EACH STATEMENT EXECUTE FUNCTION billing.forget_usage_rules();
CREATE TRIGGER forget_usage_rules AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON billing.settings
	FOR EACH STATEMENT EXECUTE FUNCTION billing.forget_usage_rules();
CREATE TRIGGER forget_usage_rules AFTER INSERT OR UPDATE OF distributed OR DELETE OR TRUNCATE ON billing.usage_rollup_state
	FOR EACH STATEMENT EXECUTE FUNCTION billing.forget_usage_rules();

-- Totals that exist were made by the rules of their time.
CREATE FUNCTION billing.check_meter() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF (NEW.metric, NEW.property, NEW.dimensions, NEW.aggregation, NEW.carried)
		IS DISTINCT FROM (OLD.metric, OLD.property, OLD.dimensions, OLD.aggregation, OLD.carried)
		-- a column: Citus knows no rows without
		AND (EXISTS (SELECT 1 FROM billing.usage_totals AS t WHERE t.metric = OLD.metric)
			 OR EXISTS (SELECT 1 FROM billing.usage_events AS u WHERE u.metric = OLD.metric)) THEN
		RAISE EXCEPTION 'metric "%" is in use', OLD.metric
			USING ERRCODE = 'JB008', DETAIL = 'Its usage goes by its name, and was added up by its present aggregation, property and dimensions, carried or not.',
				  HINT = 'Make a new metric.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION billing.check_meter() IS 'Trigger of meters: what the totals depend on does not change once there is usage.';
CREATE TRIGGER a_check_meter BEFORE UPDATE ON billing.meters
	FOR EACH ROW EXECUTE FUNCTION billing.check_meter();
CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.meters
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('metric');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.meters
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.meters
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Usage refers to it: stop recording instead.');

SELECT pg_extension_config_dump('billing.meters', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.usage_events', '');
SELECT pg_extension_config_dump('billing.usage_keys', '');
SELECT pg_extension_config_dump('billing.usage_totals', '');
SELECT pg_extension_config_dump('billing.usage_values', '');
SELECT pg_extension_config_dump('billing.usage_rollup_state', '');

-- The functions that write check, and take the owner's identity, by themselves:
-- SECURITY DEFINER and SET would cost as much as writing the row.
CREATE FUNCTION billing.record_usage(
	organization_id text,
	metric text,
	quantity numeric DEFAULT 1,
	occurred_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	properties jsonb DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'billing_record_usage';
COMMENT ON FUNCTION billing.record_usage(text, text, numeric, timestamptz, text, jsonb) IS
	'Counts usage of a metric; false when the idempotency key was counted before, whatever the rest says. organization_id: the application''s '
	'own id; one that has no customer (yet) is counted as well, by the free plan: misspelt, it is an organisation of its own in the reports. '
	'It and idempotency_key have at most 255 characters, none of them a control character. quantity: in the metric''s '
	'unit, above 0 (0 is a level, too, and an event: only a sum refuses it), at most 12 decimals. occurred_at: default now (by the test clock in '
	'the sandbox). properties: an object of at most 8192 bytes. Errors: JB005 unknown metric, 22023 negative, absurd (from 1e30) or too fine quantity, a time before '
	'2000, before what retention has left or more than the setting usage_ahead in the future, or properties that the metric cannot use.';

CREATE FUNCTION billing.record_usage_batch(
	organization_ids text[],
	metrics text[],
	quantities numeric[],
	occurred_at timestamptz[] DEFAULT NULL,
	idempotency_keys text[] DEFAULT NULL,
	properties jsonb[] DEFAULT NULL,
	on_error text DEFAULT 'raise')
RETURNS bigint
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'billing_record_usage_batch';
COMMENT ON FUNCTION billing.record_usage_batch(text[], text[], numeric[], timestamptz[], text[], jsonb[], text) IS
	'record_usage() for many: the arrays have one element per event and the same length, those with a default may be NULL. Returns how many were '
	'counted; known idempotency keys are not. on_error: raise refuses all of them and names the row, skip counts the others, and '
	'skipped_usage() says which were left out. Keys are taken in one order, whatever that of the rows, so that two batches never wait for each '
	'other; several in one transaction, or rows of COPY, can (40P01: all of it may be tried again, since its keys count once). '
	'Errors: as record_usage(), 22023 arrays of different lengths or dimensions, 54000 more than 1,000,000 events.';

CREATE FUNCTION billing.record_usage_batch(events jsonb, on_error text DEFAULT 'raise')
RETURNS bigint
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'billing_record_usage_json';
COMMENT ON FUNCTION billing.record_usage_batch(jsonb, text) IS
	'record_usage() for many: an array of objects that have its arguments as members, such as [{"organization_id": "acme", "metric": "api_calls", '
	'"quantity": 5}]; a member that is null is not given. Returns how many were counted; known idempotency keys are not. on_error: raise refuses all '
	'of them and names the row, skip counts the others, and skipped_usage() says which were left out. A row with an '
	'unknown member or one of another type is a bad row like others (22023). Errors: as record_usage_batch() with arrays.';

CREATE FUNCTION billing.skipped_usage()
RETURNS TABLE (row_number bigint, sqlstate text, message text, detail text)
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'billing_skipped_usage';
COMMENT ON FUNCTION billing.skipped_usage() IS
	'What the last record_usage_batch() of this session with on_error => ''skip'' left out, and why. Rows are counted from 1.';

CREATE VIEW billing.usage_import AS
	SELECT NULL::text AS organization_id, NULL::text AS metric, NULL::numeric AS quantity, NULL::timestamptz AS occurred_at,
		   NULL::text AS idempotency_key, NULL::jsonb AS properties
	WHERE false;
ALTER VIEW billing.usage_import ALTER COLUMN quantity SET DEFAULT 1;
COMMENT ON VIEW billing.usage_import IS
	'For COPY billing.usage_import FROM (and INSERT): its rows are recorded as by record_usage_batch(). It is always empty. The number that COPY '
	'tells includes rows whose idempotency key was known. Triggers do it: session_replication_role = replica switches them off, and takes nothing in.';
CREATE FUNCTION billing.import_usage() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'billing_import_usage';
COMMENT ON FUNCTION billing.import_usage() IS 'Triggers of usage_import: collect its rows, and record them many at a time.';
CREATE TRIGGER begin_import BEFORE INSERT ON billing.usage_import
	FOR EACH STATEMENT EXECUTE FUNCTION billing.import_usage();
CREATE TRIGGER take_row INSTEAD OF INSERT ON billing.usage_import
	FOR EACH ROW EXECUTE FUNCTION billing.import_usage();
CREATE TRIGGER end_import AFTER INSERT ON billing.usage_import
	FOR EACH STATEMENT EXECUTE FUNCTION billing.import_usage();

CREATE FUNCTION billing.void_usage(organization_id text, event_id uuid) RETURNS boolean
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_void_usage';
COMMENT ON FUNCTION billing.void_usage(text, uuid) IS
	'The event counts no longer, nor do its corrections: recorded as an event of kind void at the same time. False when it was void before. Errors: '
	'JB005 no such event, 22023 it is no usage itself, 40001 it was recorded after this transaction began.';

CREATE FUNCTION billing.correct_usage(organization_id text, event_id uuid, quantity numeric) RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_correct_usage';
COMMENT ON FUNCTION billing.correct_usage(text, uuid, numeric) IS
	'The event counts as quantity from now on: the difference is recorded as an event of kind correction at the same time, whose id is returned; '
	'NULL when it counts as that already. Errors: as void_usage(), 22023 for the quantity, JB008 it is void.';

CREATE FUNCTION billing.usage_summary(
	organization_id text,
	start_at timestamptz DEFAULT NULL,
	end_at timestamptz DEFAULT NULL)
RETURNS TABLE (metric text, quantity numeric, "limit" numeric, remaining numeric, percentage numeric,
			   period_start timestamptz, period_end timestamptz, projected numeric, overage numeric)
LANGUAGE c STABLE ROWS 10
AS 'MODULE_PATHNAME', 'billing_usage_summary';
COMMENT ON FUNCTION billing.usage_summary(text, timestamptz, timestamptz) IS
	'Per metric: what was used in [start_at, end_at), the limit of the plan (Infinity: unlimited, also where no feature limits the '
	'metric), what remains (never below 0), and the percentage used (two decimals; NULL when unlimited, Infinity for what is not in '
	'the plan); projected: what a sum or count that starts at 0 comes to by the end of the range at its present pace (of an hour at least), else the quantity; overage: what is '
	'beyond the limit. Exact on the snapshot of the query, whether or not the worker runs. Default: the current period of the subscription, else the calendar month (UTC). Errors: 22023 end_at is not after start_at, or a bound inside a quarter '
	'of an hour whose events retention has removed.';

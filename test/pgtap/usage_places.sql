-- Usage from wherever a statement may run: triggers, exception blocks, cursors,
-- functions with a search_path, sessions of little rights, replicas of tables.
\ir helpers.psql
SELECT no_plan();
SELECT billing.record_usage('first', 'users') AS first \gset
CREATE FUNCTION used(name text) RETURNS numeric
LANGUAGE sql RETURN (SELECT quantity FROM billing.usage_summary(name) WHERE metric = 'api_calls');

-- ---------------------------------------------------------------------------
-- Triggers

CREATE TABLE uploads (owner text, bytes integer);
CREATE FUNCTION count_upload() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.record_usage(NEW.owner, 'api_calls', NEW.bytes);
	RETURN NEW;
END
$$;
CREATE TRIGGER count_upload AFTER INSERT ON uploads FOR EACH ROW EXECUTE FUNCTION count_upload();
INSERT INTO uploads SELECT 'trigger', i FROM generate_series(1, 100) AS i;
SELECT is(used('trigger'), 5050::numeric, 'a trigger of a table records');
BEGIN;
INSERT INTO uploads VALUES ('trigger', 1);
ROLLBACK;
SELECT is(used('trigger'), 5050::numeric, 'and takes back with its row');

CREATE CONSTRAINT TRIGGER count_at_commit AFTER INSERT ON uploads DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION count_upload();
DROP TRIGGER count_upload ON uploads;
BEGIN;
INSERT INTO uploads VALUES ('deferred', 7), ('deferred', 8);
SELECT is(used('deferred'), 0::numeric, 'a deferred trigger records nothing yet');
COMMIT;
SELECT is(used('deferred'), 15::numeric, 'but at the end');
DROP TRIGGER count_at_commit ON uploads;

-- A statement of COPY's way within another one, of which an inner one fails.
CREATE FUNCTION import_upload() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO billing.usage_import (organization_id, metric, quantity) VALUES (NEW.owner, 'api_calls', NEW.bytes);
	RETURN NEW;
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN NEW;
END
$$;
CREATE TRIGGER import_upload BEFORE INSERT ON uploads FOR EACH ROW EXECUTE FUNCTION import_upload();
CREATE FUNCTION uploaded(bytes integer) RETURNS integer
LANGUAGE plpgsql AS $$ BEGIN INSERT INTO uploads VALUES ('inner', bytes); RETURN bytes; END $$;
INSERT INTO billing.usage_import (organization_id, metric, quantity) SELECT 'outer', 'api_calls', uploaded(i) + 2 FROM generate_series(-1, 3) AS i;
SELECT results_eq($$SELECT o, used(o) FROM unnest(ARRAY['outer', 'inner']) AS o$$, $$VALUES ('outer', 15::numeric), ('inner', 6)$$, 'imports nest, and one that fails takes no other with it');
SELECT fails($$INSERT INTO billing.usage_import (organization_id, metric, quantity) SELECT 'outer', 'api_calls', 1 + 0 / (3 - i) FROM generate_series(1, 3) AS i$$, '22012', 'division by zero', NULL, 'an import that breaks off');
INSERT INTO billing.usage_import (organization_id, metric) VALUES ('outer', 'api_calls');
SELECT is(used('outer'), 16::numeric, 'leaves nothing to the next one');
DROP TRIGGER import_upload ON uploads;

WITH one AS (INSERT INTO billing.usage_import (organization_id, metric, quantity) VALUES ('cte', 'api_calls', 1) RETURNING quantity),
	two AS (INSERT INTO billing.usage_import (organization_id, metric, quantity) VALUES ('cte', 'api_calls', 10) RETURNING quantity)
SELECT is((SELECT sum(quantity) FROM (TABLE one UNION ALL TABLE two) AS q), 11::numeric, 'two imports in one statement');
SELECT is(used('cte'), 11::numeric, 'both count');

-- ---------------------------------------------------------------------------
-- Subtransactions

DO $$
BEGIN
	FOR i IN 1 .. 200 LOOP
		BEGIN
			PERFORM billing.record_usage('block', 'api_calls', 1, idempotency_key => 'block ' || i % 100);
			IF i % 2 = 0 AND i <= 100 THEN RAISE EXCEPTION 'no'; END IF;
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
	END LOOP;
END
$$;
SELECT is(used('block'), 100::numeric, 'what an exception block takes back does not count, and its keys are free');
SELECT is((SELECT count(*) FROM billing.usage_events WHERE organization_id = 'block'), 100::bigint, 'each of them once');

BEGIN;
SAVEPOINT a;
SELECT billing.record_usage_batch('{save,save}', '{api_calls,api_calls}', '{1,2}', NULL, '{s1,s2}') AS batch \gset
ROLLBACK TO a;
SELECT is(billing.record_usage_batch('{save,save}', '{api_calls,api_calls}', '{4,8}', NULL, '{s1,s1}'), 1::bigint, 'of two events with one key the first counts');
RELEASE a;
SAVEPOINT b;
SELECT id AS event FROM billing.usage_events WHERE organization_id = 'save' \gset
SELECT is(billing.void_usage('save', :'event'), true, 'a void in a savepoint');
ROLLBACK TO b;
SELECT is(used('save'), 4::numeric, 'which is taken back');
COMMIT;
CALL billing.run_worker();
SELECT is(used('save'), 4::numeric, 'also in the totals');

-- Many in one transaction: parts of it, each in the totals once.
INSERT INTO billing.usage_import (organization_id, metric) SELECT 'large', 'api_calls' FROM generate_series(1, 60000);
SELECT is((SELECT count(DISTINCT recorded_in) FROM billing.usage_events WHERE organization_id = 'large'), 4::bigint, 'a large transaction has parts');
SELECT is(used('large'), 60000::numeric, 'that are all in the tail');
CALL billing.run_worker();
SELECT is((SELECT sum(events)::bigint FROM billing.usage_totals WHERE organization_id = 'large'), 60000::bigint, 'and then in the totals');
SELECT is(used('large'), 60000::numeric, 'once');

-- ---------------------------------------------------------------------------
-- Snapshots, cursors, search_path, parallel plans

BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT billing.record_usage('serial', 'api_calls', 3, idempotency_key => 'one') AS recorded \gset
SELECT is(used('serial'), 3::numeric, 'a serializable transaction sees what it recorded');
COMMIT;
BEGIN;
SELECT billing.record_usage('cursor', 'api_calls', 1) AS recorded \gset
DECLARE before CURSOR FOR SELECT quantity FROM billing.usage_summary('cursor') WHERE metric = 'api_calls';
SELECT billing.record_usage('cursor', 'api_calls', 1) AS recorded \gset
SELECT is(used('cursor'), 2::numeric, 'a statement sees what was recorded before it');
FETCH before \gset old_
SELECT is(:'old_quantity'::numeric, 1::numeric, 'a cursor what was recorded before it was opened');
COMMIT;
CREATE FUNCTION elsewhere() RETURNS boolean
LANGUAGE sql SET search_path = pg_temp
AS $$ SELECT billing.record_usage('elsewhere', 'api_calls', 4) $$;
SELECT is(elsewhere(), true, 'with another search_path');
SELECT is(used('elsewhere'), 4::numeric, 'it counts as well');
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.lower(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called'; END $$;
SET search_path = hostile, public, pg_catalog;
SELECT public.is(billing.record_usage('hostile', 'api_calls', 2), true, 'also when others offer functions of the same names');
RESET search_path;

CREATE TABLE owners AS SELECT 'parallel ' || i % 10 AS owner FROM generate_series(1, 20000) AS i;
ANALYZE owners;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT is((SELECT count(billing.record_usage(owner, 'api_calls')) FROM owners), 20000::bigint, 'where a plan might be parallel');
SELECT is((SELECT sum(used('parallel ' || i)) FROM generate_series(0, 9) AS i), 20000::numeric, 'each counts once');
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;

SET session_replication_role = replica;
SELECT is(billing.record_usage('replica', 'api_calls', 5, idempotency_key => 'r'), true, 'without triggers, as replication applies changes');
SELECT is(billing.record_usage('replica', 'api_calls', 5, idempotency_key => 'r'), false, 'keys are known');
RESET session_replication_role;
SELECT is(used('replica'), 5::numeric, 'and it counts once');

-- ---------------------------------------------------------------------------
-- Rights: the level app records and has no table

CREATE ROLE usage_places_app;
CREATE ROLE usage_places_nobody;
CREATE ROLE usage_places_report;
SELECT billing.grant_access('usage_places_app', 'app') AS granted \gset
SELECT billing.grant_access('usage_places_report', 'report') AS granted \gset
GRANT SELECT ON owners TO usage_places_app;
SET ROLE usage_places_app;
SELECT billing.record_usage('role', 'api_calls', 1, now() - interval '5 months', 'k') AS recorded \gset
RESET ROLE;
SELECT is(recorded, 't', 'the level app records, into a month that has no partition yet') FROM (SELECT :'recorded' AS recorded) AS r;
SELECT is((SELECT tableowner FROM pg_tables WHERE tablename = to_char(now() - interval '5 months', '"usage_events_"YYYY_MM')), 'janua_billing', 'which is not its own');
SET ROLE usage_places_app;
INSERT INTO billing.usage_import (organization_id, metric, quantity) VALUES ('role', 'api_calls', 2);
SELECT id AS event FROM billing.usage_events WHERE organization_id = 'role' AND quantity = 2 \gset
SELECT billing.correct_usage('role', :'event', 5) AS corrected \gset
RESET ROLE;
SELECT is((SELECT quantity FROM billing.usage_summary('role', '-infinity', 'infinity') WHERE metric = 'api_calls'), 6::numeric, 'it copies and corrects');
CREATE FUNCTION refused_as(name text, statement text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', name);
	EXECUTE statement;
	RESET ROLE;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
SELECT is(refused_as(role, statement), '42501', format('%s cannot: %s', role, statement))
FROM unnest(ARRAY['usage_places_nobody', 'usage_places_report']) AS role,
	unnest(ARRAY[$$SELECT billing.record_usage('x', 'api_calls')$$, $$SELECT billing.record_usage_batch('{}', '{}', '{}')$$, $$SELECT billing.record_usage_batch('[]')$$,
		$$INSERT INTO billing.usage_import (organization_id, metric) VALUES ('x', 'api_calls')$$,
		$$SELECT billing.void_usage('x', '00000000-0000-0000-0000-000000000000')$$]) AS statement;
SELECT is(refused_as('usage_places_app', statement), '42501', format('nor can the level app: %s', statement))
FROM unnest(ARRAY[$$INSERT INTO billing.usage_events (occurred_at, recorded_in, organization_id, metric, quantity) VALUES (now(), 1, 'x', 'api_calls', 1)$$,
	$$DELETE FROM billing.usage_keys$$, $$UPDATE billing.usage_totals SET sum = 0$$, $$UPDATE billing.usage_rollup_state SET seen_until = 0$$]) AS statement;
SELECT billing.revoke_access('usage_places_app', 'app') AS revoked \gset
SELECT billing.revoke_access('usage_places_report', 'report') AS revoked \gset
DROP OWNED BY usage_places_app, usage_places_report, usage_places_nobody;
DROP ROLE usage_places_app, usage_places_report, usage_places_nobody;

-- ---------------------------------------------------------------------------
-- Read-only

BEGIN READ ONLY;
SELECT fails(statement, '25006', 'read-only', NULL, 'not in a read-only transaction: ' || statement)
FROM unnest(ARRAY[$$SELECT billing.record_usage('x', 'api_calls')$$, $$SELECT billing.record_usage_batch('{x}', '{users}', '{1}')$$, $$SELECT billing.record_usage_batch('[{"organization_id": "x", "metric": "users"}]')$$,
	format($$SELECT billing.void_usage('save', %L)$$, :'event'), format($$SELECT billing.correct_usage('save', %L, 1)$$, :'event')]) AS statement;
SELECT is(used('large'), 60000::numeric, 'while a summary can be read');
COMMIT;

SELECT * FROM finish();

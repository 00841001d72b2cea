-- A call site of has_feature() and its like remembers answers, and never one too long.
\ir helpers.psql
SELECT plan(41);

-- Organisations o0 to o1999: every third has sso by override, every fifth more users by add-on, some a plan.
SELECT billing.create_add_on('seats', 'Seats', '{"users": 10}');
SELECT billing.create_plan('plain', 'Without features', 0);
SELECT count(billing.set_override('o' || i, 'sso', 'true')) AS overrides FROM generate_series(0, 1999, 3) AS i \gset
SELECT count(billing.set_add_on('o' || i, 'seats', i % 7 + 1)) AS add_ons FROM generate_series(0, 1999, 5) AS i \gset
SELECT count(billing.create_customer('o' || i)) AS customers FROM generate_series(0, 1999, 40) AS i \gset
SELECT count(billing.subscribe('o' || i, CASE i % 80 WHEN 0 THEN 'pro' ELSE 'plain' END, CASE i % 80 WHEN 0 THEN 'pm_card_visa' END)) AS subscriptions FROM generate_series(0, 1999, 40) AS i \gset
CALL billing.run_worker();
SELECT count(billing.create_customer(o)) AS clocked FROM unnest('{o3,o6}'::text[]) AS o \gset
CALL billing.set_clock('o3', now() + interval '10 days');
SELECT billing.set_override('o6', 'sso', 'true', now() + interval '5 days');
CALL billing.set_clock('o6', now() + interval '6 days');
CREATE TABLE documents AS SELECT d AS id, 'o' || (d * 7919 % 2500) AS organization_id FROM generate_series(1, 20000) AS d;

-- ---------------------------------------------------------------------------
-- The same answers, whether looked up one by one or all at once

-- Each call in a statement of its own: nothing is remembered.
CREATE FUNCTION one_by_one(feature text, OUT organization_id text, OUT has boolean, OUT value text) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
	FOR organization_id IN SELECT 'o' || i FROM generate_series(0, 2499) AS i LOOP
		EXECUTE 'SELECT billing.has_feature($1, $2), billing.feature_value($1, $2)' INTO has, value USING organization_id, feature;
		RETURN NEXT;
	END LOOP;
END $$;
CREATE TABLE expected AS SELECT f.feature, o.* FROM unnest('{sso,users,support_level}'::text[]) AS f (feature), LATERAL one_by_one(f.feature) AS o;
SELECT is((SELECT string_agg(DISTINCT value, ' ' ORDER BY value) FROM expected WHERE feature = 'users'), '10 13 20 23 3 30 33 35 40 43 45 50 53 55 60 63 65 70 73 75 85 95', 'there are many different limits');
SELECT is_empty(format($$SELECT organization_id FROM expected WHERE feature = %1$L AND (has IS DISTINCT FROM billing.has_feature(organization_id, %1$L)
	OR value IS DISTINCT FROM billing.feature_value(organization_id, %1$L))$$, f), 'a query over all organisations has the same answers about ' || f)
FROM unnest('{sso,users,support_level}'::text[]) AS f;
SELECT is_empty($$SELECT organization_id FROM expected WHERE feature = 'users' AND coalesce(value, '0')::numeric <> billing.feature_limit(organization_id, 'users')$$, 'limits, too');
SELECT is_empty($$SELECT organization_id, feature FROM expected WHERE has IS DISTINCT FROM billing.has_feature(organization_id, feature)$$, 'and a call site that asks about several features');
SELECT is((SELECT count(*) FROM documents WHERE billing.has_feature(organization_id, 'sso')), (SELECT count(*) FROM documents JOIN expected USING (organization_id) WHERE feature = 'sso' AND has), 'each organisation many times');
SELECT is((SELECT count(*) FROM documents WHERE billing.has_feature(organization_id, 'sso') AND NOT billing.has_feature(organization_id, 'users') OR billing.feature_limit(organization_id, 'users') > 50),
		  (SELECT count(*) FROM documents AS d JOIN expected AS s ON s.organization_id = d.organization_id AND s.feature = 'sso' JOIN expected AS u ON u.organization_id = d.organization_id AND u.feature = 'users'
		   WHERE s.has AND NOT u.has OR coalesce(u.value, '0')::numeric > 50), 'several features in one query');
SET work_mem = '64kB';
SELECT is_empty($$SELECT organization_id, feature FROM expected WHERE value IS DISTINCT FROM billing.feature_value(organization_id, feature)$$, 'with little memory it is the same');
RESET work_mem;
SELECT is_empty($$SELECT organization_id FROM expected WHERE feature = 'sso' AND has IS DISTINCT FROM billing.has_feature(repeat('o', 600) || organization_id, feature) AND NOT has$$, 'long names are not confused');

-- Loading all takes more memory than there is, or meets a name that is too long to be kept.
SELECT count(billing.set_override(repeat('n', 480) || i, 'support_level', repeat('v', 480) || i)) AS long FROM generate_series(1, 260) AS i \gset
SELECT billing.set_override(repeat('n', 600), 'api_calls', '77');
SET work_mem = '256kB';
SELECT is_empty($$SELECT left(n, 10) FROM (SELECT 'z' || i AS n, 'community' AS v FROM generate_series(1, 400) AS i UNION ALL SELECT repeat('n', 480) || i, repeat('v', 480) || i FROM generate_series(1, 260) AS i) AS t
	WHERE billing.feature_value(n, 'support_level') <> v$$, 'what did not fit is looked up');
SELECT results_eq($$SELECT billing.feature_limit(n, 'api_calls') FROM (SELECT 'z' || i AS n, i FROM generate_series(1, 400) AS i UNION ALL SELECT repeat('n', 600), 401) AS t ORDER BY i DESC LIMIT 1$$, $$VALUES (77::numeric)$$, 'so is a long name');
RESET work_mem;

-- Memory: as much as work_mem, whatever the number of organisations.
SET work_mem = '256kB';
CREATE FUNCTION memo_bytes() RETURNS bigint LANGUAGE sql RETURN (SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name = 'billing entitlements');
CREATE FUNCTION most_memo(organizations integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	most bigint := 0;
	n integer := 0;
	has boolean;
BEGIN
	FOR has IN SELECT billing.has_feature('some_organization_' || i, 'sso') FROM generate_series(1, organizations) AS i LOOP
		n := n + 1;
		IF n % 500 = 0 THEN
			most := greatest(most, memo_bytes());
		END IF;
	END LOOP;
	RETURN most;
END $$;
SELECT billing.set_override('some_organization_' || i, 'teams', '1') FROM generate_series(1, 5000) AS i \g /dev/null
SELECT ok(most_memo(5000) BETWEEN 1 AND 2 * 256 * 1024, 'what is remembered is bounded');
SELECT ok(coalesce(memo_bytes(), 0) < 2 * 256 * 1024, 'and nothing piles up');
RESET work_mem;

-- ---------------------------------------------------------------------------
-- Each change is seen

CREATE FUNCTION sees_changes(organization text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	seen text := '';
	value text;
BEGIN
	FOREACH value IN ARRAY '{true,false,true,true,false}'::text[] LOOP
		PERFORM billing.set_override(organization, 'sso', value);
		IF billing.has_feature(organization, 'sso') THEN
			seen := seen || '+';
		ELSE
			seen := seen || '-';
		END IF;
	END LOOP;
	RETURN seen;
END $$;
SELECT is(sees_changes('o1'), '+-++-', 'a loop in PL/pgSQL sees each change');
SELECT is(sees_changes('o2'), '+-++-', 'again');

CREATE FUNCTION ask(organization text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN billing.has_feature(organization, 'sso'); END $$;
CREATE FUNCTION takes_back(organization text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	inside boolean;
BEGIN
	BEGIN
		PERFORM billing.set_override(organization, 'sso', 'true');
		inside := ask(organization);
		RAISE EXCEPTION 'never mind' USING ERRCODE = 'JBX01';
	EXCEPTION WHEN SQLSTATE 'JBX01' THEN NULL;
	END;
	RETURN inside || ' ' || ask(organization);
END $$;
SELECT is(takes_back('o4'), 'true false', 'what an exception took back is gone');
BEGIN;
SELECT ok(NOT ask('o4'), 'in a transaction it is not there');
SAVEPOINT here;
SELECT billing.set_override('o4', 'sso', 'true');
SELECT ok(ask('o4'), 'then it is');
ROLLBACK TO here;
SELECT ok(NOT ask('o4'), 'and after a rollback to the savepoint it is not');
SELECT billing.set_override('o4', 'sso', 'true');
RELEASE here;
SELECT ok(ask('o4'), 'set again, it is');
ROLLBACK;
SELECT ok(NOT ask('o4'), 'and not after the rollback of all');

-- A cursor keeps to its snapshot; the same function beside it does not.
BEGIN;
DECLARE documents_of CURSOR FOR SELECT billing.has_feature('o7', 'sso') AS has FROM generate_series(1, 3);
FETCH 1 FROM documents_of \gset before_
SELECT billing.set_override('o7', 'sso', 'true');
SELECT is(ask('o7'), true, 'a new statement sees the change');
FETCH 1 FROM documents_of \gset after_
SELECT is(:'before_has' || :'after_has', 'ff'::text, 'a cursor that was opened before does not');
ROLLBACK;

-- An end that comes between two transactions, in one call site.
CREATE PROCEDURE waits_for_end(INOUT seen text) LANGUAGE plpgsql AS $$
DECLARE
	ends timestamptz := clock_timestamp() + interval '300 milliseconds';
BEGIN
	PERFORM billing.set_override('o8', 'sso', 'true', ends);
	COMMIT;
	seen := '';
	LOOP
		IF billing.has_feature('o8', 'sso') THEN
			seen := left(seen || '+', 1);
		ELSE
			seen := seen || '-';
			EXIT;
		END IF;
		PERFORM pg_sleep_until(ends);
		COMMIT;
	END LOOP;
END $$;
CALL waits_for_end(NULL) \gset
SELECT is(:'seen'::text, '+-', 'an override ends with the time, also for a call site that asked before');

-- The setting that lets test subscriptions count
SELECT billing.configure_provider('stripe', 'sk_live_of_nobody', base_url => 'http://127.0.0.1:9');
CREATE FUNCTION with_setting(allowed boolean) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('janua_billing.allow_sandbox', allowed::text, true);
	RETURN billing.feature_limit('o80', 'teams') = 5;
END $$;
BEGIN;
SELECT is(array_agg(with_setting(i % 2 = 0)), '{f,t,f}'::boolean[], 'a setting that changes within a statement') FROM generate_series(1, 3) AS i;
COMMIT;

-- ---------------------------------------------------------------------------
-- In a trigger and in a policy

CREATE FUNCTION check_document() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NOT billing.has_feature(NEW.organization_id, 'sso') THEN
		RAISE EXCEPTION 'no documents for %', NEW.organization_id;
	END IF;
	RETURN NEW;
END $$;
CREATE TABLE owned (organization_id text, title text);
CREATE TRIGGER check_document BEFORE INSERT ON owned FOR EACH ROW EXECUTE FUNCTION check_document();
SELECT lives_ok($$INSERT INTO owned SELECT 'o3', 'a' FROM generate_series(1, 3)$$, 'a trigger lets pass');
SELECT throws_ok($$INSERT INTO owned VALUES ('o3', 'b'), ('o4', 'b')$$, 'no documents for o4', 'and stops');
ALTER TABLE owned DISABLE TRIGGER check_document;
INSERT INTO owned VALUES ('o4', 'c'), ('o9', 'd');

CREATE ROLE memo_tenant;
CREATE ROLE memo_app;
CREATE ROLE memo_nobody;
SELECT billing.grant_access('memo_tenant', 'tenant');
SELECT billing.grant_access('memo_app', 'app');
GRANT SELECT ON owned, documents TO memo_tenant, memo_app, memo_nobody;
ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
CREATE POLICY entitled ON owned USING (organization_id = coalesce(current_setting('janua_billing.organization_id', true), '') AND billing.has_feature(organization_id, 'sso'));
CREATE POLICY all_entitled ON owned TO memo_app USING (billing.has_feature(organization_id, 'sso'));
SET ROLE memo_app;
SELECT results_eq($$SELECT DISTINCT organization_id FROM owned ORDER BY 1$$, $$VALUES ('o3'), ('o9')$$, 'a policy for the application');
SET ROLE memo_tenant;
SELECT is_empty($$SELECT FROM owned$$, 'a tenant without a name sees nothing');
SET janua_billing.organization_id = 'o3';
SELECT is((SELECT count(*) FROM owned), 3::bigint, 'with a name it sees what is its own');
SET janua_billing.organization_id = 'o4';
SELECT is((SELECT count(*) FROM owned), 0::bigint, 'if it has the feature');
SELECT ok(NOT billing.has_feature('o4', 'sso') AND billing.feature_limit('o4', 'users') = 3 AND billing.feature_value('o4', 'sso') = 'false', 'it may ask about itself');
SELECT fails($$SELECT billing.has_feature('o3', 'sso')$$, '42501', 'may not ask about this organization', 'app or report', 'and about nobody else');
SELECT fails($$SELECT billing.has_feature(organization_id, 'sso') FROM (VALUES ('o4'), ('o3')) AS v (organization_id)$$, '42501', 'may not ask', NULL, 'also in a query that began well');
CREATE TEMP TABLE seen AS SELECT set_config('janua_billing.organization_id', o, false) AS of, billing.has_feature(o, 'sso') AS has FROM (VALUES ('o3'), ('o4'), ('o9')) AS v (o);
SELECT results_eq($$SELECT has FROM seen$$, $$VALUES (true), (false), (true)$$, 'the setting may change from row to row');
SET ROLE memo_nobody;
SELECT fails($$SELECT billing.has_feature('o3', 'sso')$$, '42501', 'permission denied', NULL, 'a role without a level may ask nothing');
RESET ROLE;
RESET janua_billing.organization_id;
CREATE FUNCTION as_role(role name) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', role, true);
	RETURN billing.has_feature('o3', 'sso');
EXCEPTION WHEN insufficient_privilege THEN
	RETURN SQLSTATE;
END $$;
SELECT is(array_agg(as_role(r)), '{true,42501,true}'::text[], 'a call site that is used by two roles answers to each what it may know') FROM unnest('{memo_app,memo_tenant,memo_app}'::name[]) AS r;
RESET ROLE;

-- ---------------------------------------------------------------------------
-- What the planner makes of it

CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || query; END $$;
SELECT ok((SELECT bool_or(line ~ 'One-Time Filter') FROM plan_of($$SELECT FROM documents WHERE billing.has_feature('o3', 'sso')$$) AS line), 'with constants it is asked once for all rows');
CREATE INDEX ON documents (id);
SET enable_seqscan = off;
SELECT ok((SELECT bool_or(line ~ 'Index Cond.*feature_limit') FROM plan_of($$SELECT FROM documents WHERE id < billing.feature_limit('o3', 'users')::integer$$) AS line), 'or once for an index');
RESET enable_seqscan;
SELECT ok((SELECT bool_or(line ~ 'id \+ 0.*has_feature') FROM plan_of($$SELECT FROM documents WHERE billing.has_feature(organization_id, 'sso') AND id + 0 > 100$$) AS line), 'and after what costs less');

SELECT * FROM finish();
DROP OWNED BY memo_tenant, memo_app, memo_nobody;
DROP ROLE memo_tenant, memo_app, memo_nobody;

-- Reading usage: by dimensions, over time and for everybody, against plain SQL
-- over a random history, half of which is in the totals and half in the tail.
\ir helpers.psql
SELECT plan(71);
UPDATE billing.settings SET value = '50 years' WHERE name = 'usage_retention';
-- compiling takes longer than these queries
SET jit = off;

SELECT coalesce(nullif(current_setting('usage_reports.seed', true), '')::float8, extract(microseconds FROM clock_timestamp()) / 60000000) AS seed \gset
\echo # seed :seed
SELECT setseed(:seed) \gset

INSERT INTO billing.meters (metric, aggregation, carried, property, dimensions) VALUES
	('d_sum', 'sum', false, NULL, '{region,tier}'), ('d_count', 'count', false, NULL, '{region}'), ('d_max', 'max', false, NULL, '{region,tier}'),
	('d_latest', 'latest', false, NULL, '{tier,region}'), ('d_seats', 'latest', true, NULL, '{region}'), ('d_total', 'sum', true, NULL, '{tier}'),
	('d_people', 'unique', false, 'person', '{region,tier}'), ('d_known', 'unique', true, 'person', '{region}'),
	('d_level', 'weighted', false, NULL, '{}'), ('d_rent', 'weighted', true, NULL, '{}');

-- ---------------------------------------------------------------------------
-- A random history around the night in which Berlin loses an hour

-- some have no region, some no tier, and 1 and 1.0 are the same tier
CREATE TABLE history AS
	SELECT i AS n, m.metric, (1 + floor(random() * 50))::numeric + CASE WHEN random() < 0.3 THEN 0.25 ELSE 0 END AS quantity,
		   '2026-03-28 00:00+00'::timestamptz
		   + CASE WHEN random() < 0.2 THEN floor(random() * 288) * interval '15 min' ELSE random() * interval '3 days' END AS at,
		   jsonb_strip_nulls(jsonb_build_object('person', 'p' || floor(random() * 9), 'note', i,
				'region', (ARRAY['eu', 'us', NULL])[1 + floor(random() * 3)],
				'tier', (ARRAY['1', '1.0', '2', '"gold"', 'null'])[1 + floor(random() * 5)]::jsonb)) AS properties,
		   random() < 0.4 AS late, false AS is_void
	FROM generate_series(1, 80) AS i
	CROSS JOIN (SELECT metric FROM billing.meters WHERE metric LIKE 'd\_%') AS m;
UPDATE history SET at = at + n * interval '1 us' WHERE metric IN ('d_latest', 'd_seats', 'd_level', 'd_rent');

-- A group per combination of the dimensions' values; averages over time have one.
CREATE FUNCTION expected(metric text, by text[], start_at timestamptz, end_at timestamptz, contained jsonb DEFAULT '{}')
RETURNS TABLE (dimensions jsonb, quantity numeric, events bigint)
LANGUAGE sql AS $$
	WITH m AS (SELECT * FROM billing.meters AS m WHERE m.metric = expected.metric),
	counted AS (
		SELECT h.quantity, h.at, h.properties ->> 'person' AS person, h.at >= start_at AS inside,
			   (SELECT coalesce(jsonb_object_agg(d, h.properties -> d), '{}') FROM unnest(by) AS d WHERE h.properties ? d) AS dimensions
		FROM history AS h, m
		WHERE h.metric = expected.metric AND NOT h.is_void AND h.at < end_at AND (m.carried OR h.at >= start_at)
			AND h.properties @> contained
	),
	levels AS (
		SELECT c.quantity, greatest(c.at, start_at) AS from_at, lead(c.at, 1, end_at) OVER (ORDER BY c.at) AS until_at FROM counted AS c
	)
	SELECT c.dimensions, trim_scale(CASE (SELECT aggregation FROM m)
			WHEN 'sum' THEN sum(c.quantity)
			WHEN 'count' THEN count(*)
			WHEN 'max' THEN max(c.quantity)
			WHEN 'latest' THEN (array_agg(c.quantity ORDER BY c.at DESC))[1]
			WHEN 'unique' THEN count(DISTINCT c.person)
			ELSE round((SELECT sum(quantity * extract(epoch FROM until_at - from_at)) FROM levels WHERE until_at > start_at)
				 / extract(epoch FROM end_at - start_at), 9) END), count(*) FILTER (WHERE c.inside)
	FROM counted AS c GROUP BY c.dimensions
$$;

CREATE TABLE ranges AS
	SELECT * FROM (VALUES
		('2026-03-01 00:00+00'::timestamptz, '2026-04-01 00:00+00'::timestamptz), ('2026-03-29 10:00+00', '2026-03-29 10:15+00'), ('2026-03-29 10:01+00', '2026-03-29 10:02+00'),
		('2026-03-29 10:14+00', '2026-03-29 10:16+00'), ('2026-03-28 10:15+00', '2026-03-29 10:15:00.000001+00')) AS r (start_at, end_at);
INSERT INTO ranges
	SELECT least(a, b), greatest(a, b) + interval '1 us'
	FROM (SELECT '2026-03-27 12:00+00'::timestamptz + random() * interval '4 days' AS a, '2026-03-27 12:00+00'::timestamptz + random() * interval '4 days' AS b
		  FROM generate_series(1, 6)) AS r;

-- What is asked by: everything, nothing, and each by itself.
CREATE TABLE questions AS
	SELECT m.metric, q.by, coalesce(q.by, m.dimensions) AS really_by, r.start_at, r.end_at
	FROM billing.meters AS m
	CROSS JOIN ranges AS r
	CROSS JOIN (VALUES (NULL::text[]), ('{}'), ('{region}'), ('{tier}')) AS q (by)
	WHERE m.metric LIKE 'd\_%' AND (q.by IS NULL OR q.by <@ m.dimensions);

CREATE FUNCTION exact_by_dimension(name text) RETURNS text
LANGUAGE sql AS $$
	SELECT is(string_agg(format('%s by %s in [%s, %s): %s instead of %s', q.metric, q.by, q.start_at, q.end_at, u.groups, e.groups), E'\n'), NULL, name || ': by dimension')
	FROM questions AS q
	CROSS JOIN LATERAL (
		SELECT coalesce(jsonb_agg(jsonb_build_array(u.dimensions, round(u.quantity, 9), u.events) ORDER BY u.dimensions), '[]') AS groups
		FROM billing.usage_by_dimension('any', q.metric, q.by, q.start_at, q.end_at) AS u
		WHERE u.events > 0 OR u.quantity <> 0) AS u
	CROSS JOIN LATERAL (
		SELECT coalesce(jsonb_agg(jsonb_build_array(e.dimensions, e.quantity, e.events) ORDER BY e.dimensions), '[]') AS groups
		FROM expected(q.metric, q.really_by, q.start_at, q.end_at) AS e) AS e
	WHERE u.groups <> e.groups
$$;

CREATE FUNCTION exact_quantities(name text) RETURNS text
LANGUAGE sql AS $$
	SELECT is(string_agg(format('%s %s in [%s, %s): %s instead of %s', m.metric, f.contained, r.start_at, r.end_at, u.quantity, e.quantity), E'\n'), NULL, name || ': filtered')
	FROM billing.meters AS m
	CROSS JOIN ranges AS r
	CROSS JOIN (VALUES ('{}'::jsonb), ('{"region": "eu"}'), ('{"tier": 1.00}'), ('{"region": "us", "tier": "gold"}'), ('{"tier": "nobody"}')) AS f (contained)
	CROSS JOIN LATERAL (SELECT billing.usage_quantity('any', m.metric, r.start_at, r.end_at, f.contained) AS quantity) AS u
	CROSS JOIN LATERAL (SELECT coalesce((SELECT quantity FROM expected(m.metric, '{}', r.start_at, r.end_at, f.contained)), 0) AS quantity) AS e
	WHERE m.metric LIKE 'd\_%' AND ARRAY(SELECT jsonb_object_keys(f.contained)) <@ m.dimensions AND round(u.quantity, 9)::float8 <> e.quantity::float8
$$;

-- Days of Berlin, hours, and days of UTC in the view.
CREATE FUNCTION exact_series(name text) RETURNS text
LANGUAGE sql AS $$
	WITH steps AS (
		SELECT interval '1 day' AS step, d AT TIME ZONE 'Europe/Berlin' AS start_at, (d + interval '1 day') AT TIME ZONE 'Europe/Berlin' AS end_at
		FROM generate_series('2026-03-28'::timestamp, '2026-03-30', '1 day') AS d
		UNION ALL
		SELECT interval '6 hours', h, least(h + interval '6 hours', '2026-03-30 22:00+00')
		FROM generate_series('2026-03-27 23:00+00'::timestamptz, '2026-03-30 17:00+00', '6 hours') AS h
	),
	series AS MATERIALIZED (
		SELECT m.metric, s.step, u.*
		FROM billing.meters AS m
		CROSS JOIN (SELECT DISTINCT step FROM steps) AS s
		CROSS JOIN LATERAL billing.usage_series('any', m.metric, '2026-03-27 23:00+00', '2026-03-30 22:00+00', s.step, 'Europe/Berlin') AS u
		WHERE m.metric LIKE 'd\_%'
	)
	SELECT is(string_agg(format('%s %s [%s, %s): %s (%s) instead of %s (%s)', s.metric, s.step, s.start_at, s.end_at, u.quantity, u.events, e.quantity, e.events), E'\n'), NULL, name || ': over time')
	FROM (SELECT m.metric, s.* FROM billing.meters AS m CROSS JOIN steps AS s WHERE m.metric LIKE 'd\_%') AS s
	FULL JOIN series AS u USING (metric, step, start_at, end_at)
	LEFT JOIN LATERAL expected(s.metric, '{}', s.start_at, s.end_at) AS e ON true
	WHERE (round(u.quantity, 9)::float8, u.events) IS DISTINCT FROM (coalesce(e.quantity, 0)::float8, coalesce(e.events, 0))
$$;
CREATE FUNCTION exact_daily(name text) RETURNS text
LANGUAGE sql AS $$
	SELECT is(string_agg(row::text, E'\n'), NULL, name || ': by day')
	FROM (
		SELECT metric, day, round(quantity, 9)::float8 AS quantity, events, count(*)
		FROM (
			SELECT metric, day, round(quantity, 9) AS quantity, events FROM billing.usage_daily WHERE organization_id = 'any'
			UNION ALL
			SELECT m.metric, d::date, e.quantity, e.events
			FROM billing.meters AS m
			CROSS JOIN generate_series('2026-03-27'::timestamp, '2026-04-01', '1 day') AS d
			CROSS JOIN LATERAL expected(m.metric, '{}', d AT TIME ZONE 'UTC', (d + interval '1 day') AT TIME ZONE 'UTC') AS e
			WHERE e.events > 0) AS sides
		GROUP BY 1, 2, 3, 4 HAVING count(*) <> 2) AS row
$$;
CREATE FUNCTION all_exact(name text) RETURNS SETOF text
LANGUAGE sql AS $$
	SELECT exact_by_dimension(name) UNION ALL SELECT exact_quantities(name) UNION ALL SELECT exact_series(name) UNION ALL SELECT exact_daily(name)
$$;

CREATE FUNCTION record(which boolean) RETURNS bigint
LANGUAGE sql AS $$
	SELECT billing.record_usage_batch(array_agg('any'::text), array_agg(metric), array_agg(quantity), array_agg(at), array_agg(metric || n), array_agg(properties))
	FROM (SELECT * FROM history WHERE late = which ORDER BY random()) AS h
$$;
CREATE FUNCTION change(share float8) RETURNS bigint
LANGUAGE sql AS $$
	WITH chosen AS MATERIALIZED (SELECT h.ctid AS row, h.*, random() AS chance FROM history AS h WHERE NOT h.is_void AND random() < share),
	events AS MATERIALIZED (
		SELECT c.row, c.metric, c.chance, c.quantity, u.id FROM chosen AS c JOIN billing.usage_events AS u
		ON u.organization_id = 'any' AND u.idempotency_key = c.metric || c.n AND u.occurred_at = c.at
	),
	voided AS MATERIALIZED (SELECT row, billing.void_usage('any', id) AS done FROM events WHERE chance < 0.5),
	corrected AS MATERIALIZED (SELECT row, billing.correct_usage('any', id, quantity * 2 + 1) AS id FROM events WHERE chance >= 0.5),
	changed AS (
		UPDATE history AS h SET is_void = h.is_void OR EXISTS (SELECT FROM voided AS v WHERE v.row = h.ctid AND v.done),
			quantity = CASE WHEN EXISTS (SELECT FROM corrected AS c WHERE c.row = h.ctid AND c.id IS NOT NULL) THEN h.quantity * 2 + 1 ELSE h.quantity END
		WHERE h.ctid IN (SELECT row FROM events) RETURNING 1
	)
	SELECT count(*) FROM changed
$$;

-- The first half goes into the totals, the other one stays in the tail.
CREATE TABLE everything AS TABLE history;
DELETE FROM history WHERE late;
SELECT record(false) AS recorded \gset
CALL billing.run_worker();
SELECT all_exact('half of it, in the totals');
SELECT is((SELECT count(*) FROM billing.usage_tail), 0::bigint, 'then there is no tail');
-- nobody adds up meanwhile, and all is undone
BEGIN;
SELECT count(*) AS held FROM (SELECT FROM billing.usage_rollup_state FOR UPDATE) AS s \gset
INSERT INTO history SELECT * FROM everything WHERE late;
SELECT record(true) AS recorded \gset
SELECT is((SELECT count(*) FROM billing.usage_tail), (SELECT count(*) FROM history WHERE late), 'the other half is the tail');
SELECT all_exact('half in the totals, half in the tail');
SELECT ok(change(0.15) > 0, 'some of both are void or corrected');
SELECT all_exact('voids and corrections in the tail');
COMMIT;
CALL billing.run_worker();
SELECT all_exact('all in the totals');
SELECT ok(change(0.1) > 0, 'more are changed');
SELECT all_exact('changed later');
CALL billing.run_worker();
SELECT all_exact('and added up again');
SELECT is((SELECT count(*) FROM billing.usage_totals WHERE metric = 'd_sum' AND dimensions ->> 'tier' = '1.0'), 0::bigint, '1.0 is kept as 1');

-- ---------------------------------------------------------------------------
-- Series

SELECT results_eq($$SELECT end_at - start_at FROM billing.usage_series('any', 'd_sum', '2026-03-28 00:00+01', '2026-03-31 00:00+02', '1 day', 'Europe/Berlin')$$,
	$$VALUES (interval '24 hours'), ('23 hours'), ('24 hours')$$, 'the day on which the clocks are set has 23 hours');
SELECT results_eq($$SELECT start_at, end_at FROM billing.usage_series('any', 'd_sum', '2026-01-15 12:00+00', '2026-04-02 00:00+00', '1 month', 'America/Mexico_City')$$,
	$$VALUES ('2026-01-15 12:00+00'::timestamptz, '2026-02-01 06:00+00'::timestamptz), ('2026-02-01 06:00+00', '2026-03-01 06:00+00'),
			 ('2026-03-01 06:00+00', '2026-04-01 06:00+00'), ('2026-04-01 06:00+00', '2026-04-02 00:00+00')$$, 'months begin with the first, the range cuts off');
SELECT results_eq($$SELECT start_at FROM billing.usage_series('any', 'd_sum', '2026-03-25 00:00+00', '2026-04-08 00:00+00', '7 days')$$,
	$$VALUES ('2026-03-25 00:00+00'::timestamptz), ('2026-03-30 00:00+00'), ('2026-04-06 00:00+00')$$, 'weeks begin on Monday');
SELECT is((SELECT count(*) FROM billing.usage_series('any', 'd_sum', '2026-03-28', '2026-03-29', '1 minute')), 1440::bigint, 'steps may be shorter than what totals are kept by');
SELECT is((SELECT sum(quantity) FROM billing.usage_series('any', 'd_sum', '2026-03-28', '2026-03-29', '7 minutes', dimensions => '{"region": "eu"}')),
	billing.usage_quantity('any', 'd_sum', '2026-03-28', '2026-03-29', '{"region": "eu"}'), 'and are filtered');
SELECT fails($$SELECT billing.usage_series('any', 'd_sum', '2026-03-28', '2026-03-29', '1 day 1 hour')$$, '22023', 'step is not', '1 month', 'a step has one unit');
SELECT fails($$SELECT billing.usage_series('any', 'd_sum', '2026-03-28', '2026-03-29', '-1 day')$$, '22023', 'step is not', '1 month', 'above 0');
SELECT fails($$SELECT billing.usage_series('any', 'd_sum', '2026-03-28 00:00', '2026-03-28 00:01', '59 seconds')$$, '22023', 'step is not', 'a minute', 'not below a minute');
SELECT fails($$SELECT billing.usage_series('any', 'd_sum', '2026-03-28', '2026-04-29', '1 minute')$$, '22023', 'more than 10000 rows', 'longer step', 'series are limited');
SELECT fails($$SELECT billing.usage_series('any', 'd_sum', '2026-03-28', 'infinity')$$, '22023', 'more than 10000 rows', 'shorter range', 'and end');
SELECT fails($$SELECT billing.usage_series('any', 'd_sum', '2026-03-28', '2026-03-29', '1 day', 'Mars')$$, '22023', 'Mars', NULL, 'time zones are known ones');

-- What cannot be asked
SELECT fails($$SELECT billing.usage_quantity('any', 'nope')$$, 'JB005', 'unknown metric "nope"', 'api_calls', 'metrics are known ones');
SELECT fails($$SELECT billing.usage_quantity('any', NULL)$$, '23502', 'metric must be given', NULL, 'a metric is given');
SELECT fails($$SELECT billing.usage_quantity(NULL, 'd_sum')$$, '23502', 'organization_id must be given', NULL, 'so is an organisation');
SELECT fails($$SELECT billing.usage_quantity('any', 'd_sum', dimensions => '{"person": "p1"}')$$, '22023', 'metric "d_sum" has no dimension "person"', 'region, tier', 'only what totals are kept apart by can be asked for');
SELECT fails($$SELECT billing.usage_by_dimension('any', 'd_level', '{region}')$$, '22023', 'no dimension "region"', 'billing.meters', 'averages have no dimensions');
SELECT fails($$SELECT billing.usage_by_dimension('any', 'd_sum', '{NULL}')$$, '23502', 'dimensions must be given', NULL, 'dimensions have names');
SELECT fails($$SELECT billing.usage_quantity('any', 'd_sum', '2026-03-28', '2026-03-28')$$, '22023', 'end_at is not after start_at', NULL, 'ranges are not empty');
SELECT fails($$SELECT billing.usage_quantity('any', 'd_sum', dimensions => '[]')$$, '22023', 'dimensions is not an object', 'region', 'a filter is an object');

-- ---------------------------------------------------------------------------
-- The tail of one among many

BEGIN;
SELECT count(*) AS held FROM (SELECT FROM billing.usage_rollup_state FOR UPDATE) AS s \gset
SELECT billing.record_usage('few', 'api_calls', 1) AS recorded \gset
SELECT billing.record_usage_batch(array_agg(CASE WHEN i % 3 = 0 THEN 'most' ELSE 'other' || i % 12 END), array_agg('api_calls'::text), array_agg(1::numeric)) AS recorded FROM generate_series(1, 3000) AS i \gset
SELECT billing.record_usage('few', 'api_calls', 2) AS recorded \gset
SELECT is(billing.usage_quantity('few', 'api_calls'), 3::numeric, 'few events are found in a long tail');
SELECT is(billing.usage_quantity('most', 'api_calls'), 1000::numeric, 'many, too');
SELECT is(billing.usage_quantity('nobody', 'api_calls'), 0::numeric, 'and none');
SELECT is((SELECT count(*) FROM billing.usage_report AS r JOIN billing.usage_summary(r.organization_id) AS s USING (metric)
		   WHERE (r.quantity, r."limit", r.remaining, r.percentage, r.period_start, r.period_end, r.projected, r.overage)
			   IS NOT DISTINCT FROM (s.quantity, s."limit", s.remaining, s.percentage, s.period_start, s.period_end, s.projected, s.overage)),
	(SELECT count(*) FROM billing.usage_report), 'the report of everybody says what the summary of each says');
SELECT is((SELECT sum(quantity) FROM billing.usage_report WHERE metric = 'api_calls'), 3003::numeric, 'of all who have usage, also if nothing is added up yet');
SELECT results_eq($$SELECT rank, organization_id, quantity, percentage FROM billing.usage_top WHERE metric = 'api_calls' AND (rank = 1 OR organization_id = 'few') ORDER BY 1$$,
	$$VALUES (1::bigint, 'most', 1000::numeric, 33.30), (10, 'few', 3, 0.10)$$, 'the heaviest comes first');
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT sum(quantity) FROM billing.usage_report WHERE metric = 'api_calls'), 3003::numeric, 'and the same from the totals');

-- What a call remembers of the tail is of its snapshot: each turn sees what was recorded before, and not what was undone.
CREATE FUNCTION read_in_loop() RETURNS numeric[]
LANGUAGE plpgsql AS $$
DECLARE
	seen numeric[] := '{}';
BEGIN
	FOR i IN 1..24 LOOP
		BEGIN
			PERFORM billing.record_usage('loop', 'api_calls');
			IF i % 2 = 0 THEN
				seen := seen || billing.usage_quantity('loop', 'api_calls');
				RAISE EXCEPTION 'undone' USING ERRCODE = 'U0001';
			END IF;
		EXCEPTION WHEN SQLSTATE 'U0001' THEN
			NULL;
		END;
		seen := seen || billing.usage_quantity('loop', 'api_calls');
	END LOOP;
	RETURN seen;
END
$$;
SELECT is(read_in_loop(), ARRAY(SELECT n FROM generate_series(1, 12) AS i, unnest(ARRAY[i, i + 1, i]) WITH ORDINALITY AS u (n, place) ORDER BY i, place)::numeric[],
	'in a loop each turn reads anew');

-- ---------------------------------------------------------------------------
-- Limits

SELECT billing.create_customer('paying', 'p@example.com', 'P', 'US', 'sandbox') AS paying \gset
SELECT billing.subscribe('paying', 'pro', 'pm_card_visa') AS pro \gset
CALL billing.run_worker();
SELECT billing.record_usage('paying', 'users', billing.feature_limit('paying', 'users') * 0.92) AS recorded \gset
SELECT results_eq($$SELECT livemode, plan, status, percentage FROM billing.usage_report WHERE organization_id = 'paying' AND metric = 'users'$$,
	$$VALUES (false, 'pro', 'active', 92.00)$$, 'the report names the plan');
SELECT results_eq($$SELECT plan, status FROM billing.usage_report WHERE organization_id = 'few' AND metric = 'users'$$,
	$$VALUES ('free', NULL)$$, 'or the default plan');
SELECT results_eq($$SELECT threshold, remaining = "limit" - quantity, projected_over FROM billing.quota_utilization WHERE organization_id = 'paying' AND metric = 'users'$$,
	$$VALUES (90, true, false)$$, 'quotas tell the threshold that was reached');
SELECT is((SELECT count(*) FROM billing.quota_utilization WHERE metric LIKE 'd\_%'), 0::bigint, 'what has no limit has no quota');

-- ---------------------------------------------------------------------------
-- Who sees what

CREATE ROLE reports_tenant;
CREATE ROLE reports_reader;
SELECT billing.grant_access('reports_tenant', 'tenant');
SELECT billing.grant_access('reports_reader', 'report');
GRANT SELECT ON history TO reports_tenant;
SET ROLE reports_tenant;
SET janua_billing.organization_id = 'few';
SELECT results_eq($$SELECT DISTINCT organization_id FROM billing.usage_report$$, $$VALUES ('few')$$, 'a tenant sees its report');
SELECT results_eq($$SELECT organization_id, quantity FROM billing.usage_daily$$, $$VALUES ('few', 3::numeric)$$, 'its days');
SELECT results_eq($$SELECT DISTINCT organization_id FROM billing.quota_utilization$$, $$VALUES ('few')$$, 'its quotas');
SELECT is(billing.usage_quantity('few', 'api_calls'), 3::numeric, 'and what it asks for');
SELECT fails($$SELECT billing.usage_quantity('most', 'api_calls')$$, '42501', 'usage of organization "most" is not for role "reports_tenant"', 'organization_id', 'of no other organisation');
SELECT fails($$SELECT * FROM billing.usage_summary('most')$$, '42501', 'usage of organization "most"', NULL, 'not by any function');
SELECT fails($$SELECT * FROM billing.usage_report_of('most')$$, '42501', 'usage of organization "most"', NULL, 'that there is');
SELECT fails($$SELECT * FROM billing.usage_top$$, '42501', 'usage_top', NULL, 'nor its rank among them');
SELECT is((SELECT count(*) FROM billing.usage_tail), 0::bigint, 'the tail has rows of others, which it does not see');
RESET ROLE;
SET ROLE reports_reader;
SELECT ok((SELECT count(DISTINCT organization_id) FROM billing.usage_report) > 10, 'a reader sees the report of everybody');
SELECT ok((SELECT count(*) FROM billing.usage_top) > 10, 'and who is the heaviest');
RESET ROLE;

SELECT * FROM finish();

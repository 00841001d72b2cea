-- Closed periods: what is billed of a period stays what it was, and what comes
-- late is a correction of the next one.
\ir helpers.psql
SELECT plan(41);
UPDATE billing.settings SET value = '50 years' WHERE name = 'usage_retention';

SELECT coalesce(nullif(current_setting('usage_periods.seed', true), '')::float8, extract(microseconds FROM clock_timestamp()) / 60000000) AS seed \gset
\echo # seed :seed
SELECT setseed(:seed) \gset

CREATE FUNCTION closed(organization text, from_day date, until_day date) RETURNS text[]
LANGUAGE sql AS $$
	SELECT coalesce(array_agg(format('%s %s %s %s', c.metric, c.kind, to_char(c.period_start AT TIME ZONE 'UTC', 'MM-DD'), c.quantity)), '{}')
	FROM billing.close_usage_period(organization, from_day::timestamp AT TIME ZONE 'UTC', until_day::timestamp AT TIME ZONE 'UTC') AS c
$$;
CREATE FUNCTION use(organization text, quantity numeric, at text, metric text DEFAULT 'api_calls') RETURNS boolean
LANGUAGE sql RETURN billing.record_usage(organization, metric, quantity, (at || '+00')::timestamptz);

-- ---------------------------------------------------------------------------
-- One after the other

SELECT use('acme', 10, '2026-01-10 10:00'), use('acme', 7, '2026-01-31 23:59:59.999999'), use('acme', 100, '2026-02-01 00:00') \gset
SELECT use('acme', 5, '2026-01-10', 'storage') \gset
SELECT is(closed('acme', '2026-01-01', '2026-02-01'), '{api_calls usage 01-01 17,storage usage 01-01 5}', 'a closing has the usage of its period, per metric');
SELECT is(closed('acme', '2026-01-01', '2026-02-01'), '{api_calls usage 01-01 17,storage usage 01-01 5}', 'and again');
SELECT is((SELECT count(*) FROM billing.usage_closings), 1::bigint, 'which closes nothing anew');
SELECT use('acme', 3, '2026-01-20 12:00') \gset
SELECT is(closed('acme', '2026-01-01', '2026-02-01'), '{api_calls usage 01-01 17,storage usage 01-01 5}', 'nor does late usage');
SELECT results_eq($$SELECT organization_id, metric, period_start, period_end, quantity FROM billing.usage_late$$,
	$$VALUES ('acme', 'api_calls', '2026-01-01 00:00+00'::timestamptz, '2026-02-01 00:00+00'::timestamptz, 3::numeric)$$, 'which a view has');
SELECT results_eq($$SELECT metric, kind, period_start, quantity FROM billing.preview_usage_period('acme', '2026-02-01 00:00+00', '2026-03-01 00:00+00')$$,
	$$VALUES ('api_calls', 'usage', '2026-02-01 00:00+00'::timestamptz, 100::numeric), ('storage', 'usage', '2026-02-01 00:00+00', 5), ('api_calls', 'correction', '2026-01-01 00:00+00', 3)$$,
	'the preview of the next period has it, too');
SELECT is((SELECT count(*) FROM billing.usage_closings), 1::bigint, 'and closes nothing');
SELECT is(closed('acme', '2026-02-01', '2026-03-01'), '{api_calls usage 02-01 100,storage usage 02-01 5,api_calls correction 01-01 3}', 'the next closing takes it over');
SELECT is_empty('SELECT * FROM billing.usage_late', 'then nothing is late');
SELECT results_eq($$SELECT metric, kind, quantity FROM billing.preview_usage_period('acme', '2026-02-01 00:00+00', '2026-03-01 00:00+00')$$,
	$$VALUES ('api_calls', 'usage', 100::numeric), ('storage', 'usage', 5), ('api_calls', 'correction', 3)$$, 'the preview of what is closed is what was closed');
SELECT is(closed('acme', '2026-03-01', '2026-04-01'), '{storage usage 03-01 5}', 'and nothing is taken over twice');

-- voids, corrections, levels
SELECT billing.void_usage('acme', id) AS done FROM billing.usage_events WHERE organization_id = 'acme' AND quantity = 7 \gset
SELECT billing.correct_usage('acme', id, 90) AS done FROM billing.usage_events WHERE organization_id = 'acme' AND quantity = 100 \gset
SELECT use('acme', 8, '2026-02-10', 'storage') \gset
SELECT is(closed('acme', '2026-04-01', '2026-05-01'),
	'{storage usage 04-01 8,api_calls correction 01-01 -7,api_calls correction 02-01 -10,storage correction 02-01 3,storage correction 03-01 3}',
	'voids and corrections come late as well; a level that is carried changes all periods since');
SELECT use('acme', 4, '2026-03-10', 'storage') \gset
SELECT billing.void_usage('acme', id) AS done FROM billing.usage_events WHERE organization_id = 'acme' AND quantity = 8 AND kind = 'usage' \gset
SELECT is(closed('acme', '2026-05-01', '2026-06-01'),
	'{storage usage 05-01 4,storage correction 02-01 -3,storage correction 03-01 -4,storage correction 04-01 -4}', 'and back again');

-- out of order, gaps, and periods that begin anywhere
SELECT use('gaps', 1, '2026-01-10'), use('gaps', 10, '2026-02-10'), use('gaps', 100, '2026-03-10') \gset
SELECT is(closed('gaps', '2026-03-01', '2026-04-01'), '{api_calls usage 03-01 100}', 'a period may be closed first');
SELECT is(closed('gaps', '2026-01-01', '2026-02-01'), '{api_calls usage 01-01 1}', 'that comes later');
SELECT use('gaps', 1000, '2026-03-10') \gset
SELECT is(closed('gaps', '2026-02-01', '2026-03-01'), '{api_calls usage 02-01 10,api_calls correction 03-01 1000}', 'and any closing takes over what came late to any other');
INSERT INTO billing.meters (metric, aggregation) VALUES ('p_new', 'count');
SELECT use('gaps', 3, '2026-01-10', 'p_new') \gset
SELECT is(closed('gaps', '2026-04-01', '2026-05-01'), '{p_new correction 01-01 1}', 'also of a metric that was not there');
SELECT is(closed('nobody', '2026-01-01', '2026-02-01'), '{}', 'where nothing was used nothing is billed');
SELECT use('nobody', 2, '2026-01-10') \gset
SELECT is(closed('nobody', '2026-02-01', '2026-03-01'), '{api_calls correction 01-01 2}', 'until something comes late');

BEGIN;
SELECT use('own', 5, '2026-01-10') \gset
SELECT is(closed('own', '2026-01-01', '2026-02-01'), '{api_calls usage 01-01 5}', 'what the transaction has recorded itself is in it');
ROLLBACK;
SELECT is_empty($$SELECT * FROM billing.usage_closings WHERE organization_id = 'own'$$, 'a closing that is rolled back is none');

-- ---------------------------------------------------------------------------
-- What is refused

SELECT fails($$SELECT billing.close_usage_period('acme', '2026-05-15', '2026-06-15')$$, 'JB008', 'overlaps one that is closed', 'usage_closings', 'a period that overlaps a closed one');
SELECT fails($$SELECT billing.close_usage_period('acme', '2026-05-01 00:00+00', '2026-05-31 00:00+00')$$, 'JB008', 'overlaps one that is closed', NULL, 'or is a part of it');
SELECT fails($$SELECT billing.close_usage_period('acme', '2025-01-01 00:00+00', '2026-10-01 00:00+00')$$, 'JB008', 'overlaps one that is closed', NULL, 'or holds it');
SELECT fails($$SELECT billing.preview_usage_period('acme', '2026-05-15', '2026-06-15')$$, 'JB008', 'overlaps one that is closed', NULL, 'also as a preview');
SELECT fails($$SELECT billing.close_usage_period('acme', '2026-07-01', '2026-07-01')$$, '22023', 'end_at is not after start_at', 'half-open', 'a period of no time');
SELECT fails($$SELECT billing.close_usage_period('acme', '-infinity', '2025-07-01')$$, '22023', 'infinite', NULL, 'or of all time');
SELECT fails($$SELECT billing.close_usage_period('acme', now() - interval '1 day', now() + interval '1 day')$$, 'JB008', 'is not over', 'preview_usage_period', 'a period that goes on');
SELECT lives_ok($$SELECT billing.preview_usage_period('acme', now() - interval '1 day', now() + interval '1 day')$$, 'which has a preview');
SELECT lives_ok($$SELECT billing.close_usage_period('acme', now() - interval '1 day', now())$$, 'it may end now');
SELECT fails($$SELECT billing.close_usage_period(NULL, '2026-07-01', '2026-07-02')$$, '23502', 'organization_id must be given', NULL, 'nobody''s period');
SELECT fails($$SELECT billing.close_usage_period('acme', NULL, '2026-07-02')$$, '23502', 'start_at must be given', NULL, 'one without a beginning');
SELECT fails($$SELECT billing.close_usage_period('acme', '2026-07-02', NULL)$$, '23502', 'end_at must be given', NULL, 'or without an end');
SELECT fails($$UPDATE billing.usage_closing_lines SET quantity = 0$$, 'JB008', 'append-only', 'correction', 'what was billed does not change');
SELECT fails($$DELETE FROM billing.usage_closings$$, 'JB008', 'append-only', NULL, 'nor does that it was');

CREATE ROLE periods_tenant;
SELECT billing.grant_access('periods_tenant', 'tenant');
SET ROLE periods_tenant;
SET janua_billing.organization_id = 'gaps';
SELECT is((SELECT array_agg(DISTINCT organization_id) FROM billing.usage_closing_lines), '{gaps}', 'a tenant sees its own lines');
SELECT fails($$SELECT * FROM billing.usage_late$$, '42501', 'permission denied', NULL, 'and asks for nothing');
RESET ROLE;

-- ---------------------------------------------------------------------------
-- Chance: events, late ones, voids and corrections between closings of random
-- periods. In the end the lines of each period come to what it has.

INSERT INTO billing.meters (metric, aggregation, carried, property, dimensions) VALUES
	('p_sum', 'sum', false, NULL, '{region}'), ('p_max', 'max', false, NULL, '{}'), ('p_latest', 'latest', true, NULL, '{}'),
	('p_people', 'unique', false, 'person', '{}'), ('p_level', 'weighted', false, NULL, '{}'), ('p_rent', 'weighted', true, NULL, '{}');

-- edges that tile ten days, some at quarters of an hour, some a moment after another
CREATE TABLE edges AS
	SELECT at, row_number() OVER (ORDER BY at) AS n
	FROM (SELECT '2026-03-01 00:00+00'::timestamptz + CASE WHEN random() < 0.3 THEN floor(random() * 960) * interval '15 min' ELSE random() * interval '10 days' END AS at
		  FROM generate_series(1, 14)
		  UNION VALUES ('2026-03-05 10:01:00+00'::timestamptz), ('2026-03-05 10:04:00.5+00'), ('2026-03-05 10:20+00')) AS e;
CREATE TABLE told (n bigint, metric text, kind text, period_start timestamptz, period_end timestamptz, quantity numeric);

CREATE PROCEDURE live()
LANGUAGE plpgsql AS $$
DECLARE
	period record;
BEGIN
	FOR period IN
		SELECT e.n, e.at AS start_at, f.at AS end_at FROM edges AS e JOIN edges AS f ON f.n = e.n + 1 ORDER BY CASE WHEN random() < 0.2 THEN random() * 16 ELSE e.n END
	LOOP
		PERFORM billing.record_usage('chance', (ARRAY['p_sum', 'p_max', 'p_latest', 'p_people', 'p_level', 'p_rent', 'p_new'])[1 + floor(random() * 7)::int],
			1 + floor(random() * 100)::numeric / 4,
			CASE WHEN random() < 0.15 THEN '2026-03-05 10:00+00'::timestamptz + random() * interval '25 min' ELSE '2026-02-28 20:00+00'::timestamptz + random() * interval '11 days' END,
			properties => jsonb_build_object('person', 'p' || floor(random() * 9), 'region', (ARRAY['eu', 'us'])[1 + floor(random() * 2)::int]))
		FROM generate_series(1, 40);
		PERFORM CASE WHEN random() < 0.5 THEN billing.void_usage('chance', u.id)
					 ELSE billing.correct_usage('chance', u.id, floor(random() * 50)::numeric) IS NULL END
		FROM billing.usage_events AS u
		WHERE u.organization_id = 'chance' AND u.kind = 'usage' AND random() < 0.04
			AND NOT EXISTS (SELECT FROM billing.usage_events AS v WHERE v.corrects = u.id AND v.kind = 'void');
		COMMIT;
		INSERT INTO told SELECT period.n, p.* FROM billing.preview_usage_period('chance', period.start_at, period.end_at) AS p;
		INSERT INTO told SELECT -period.n, p.* FROM billing.close_usage_period('chance', period.start_at, period.end_at) AS p;
		COMMIT;
	END LOOP;
END
$$;
CALL live();
SELECT is_empty($$
	(SELECT n, metric, kind, period_start, period_end, quantity FROM told WHERE n > 0 EXCEPT SELECT -n, metric, kind, period_start, period_end, quantity FROM told WHERE n < 0)
	UNION ALL
	(SELECT -n, metric, kind, period_start, period_end, quantity FROM told WHERE n < 0 EXCEPT SELECT n, metric, kind, period_start, period_end, quantity FROM told WHERE n > 0)$$,
	'every preview was what was closed');
SELECT ok((SELECT count(*) FROM told WHERE kind = 'correction' AND n < 0) > 100, 'much came late');
CALL billing.run_worker();
SELECT use('chance', 1, '2026-03-06 06:06', 'p_sum') \gset
INSERT INTO told SELECT -99, p.* FROM billing.close_usage_period('chance', '2026-01-01 00:00+00', '2026-01-02 00:00+00') AS p;
CREATE FUNCTION differing() RETURNS TABLE (period text, metric text, billed numeric, used numeric)
LANGUAGE sql AS $$
	SELECT c.period_start || ' ' || c.period_end, s.metric, coalesce(b.billed, 0), s.quantity
	FROM billing.usage_closings AS c
	CROSS JOIN LATERAL billing.usage_summary('chance', c.period_start, c.period_end) AS s
	LEFT JOIN LATERAL (SELECT sum(t.quantity) AS billed FROM told AS t WHERE t.n < 0 AND t.period_start = c.period_start AND t.metric = s.metric) AS b ON true
	WHERE c.organization_id = 'chance' AND coalesce(b.billed, 0) <> round(s.quantity, 6)
$$;
SELECT is_empty('SELECT * FROM differing()', 'in the end all that was billed of a period is what was used in it');
SELECT is((SELECT sum(quantity) FROM told WHERE n < 0 AND metric = 'p_sum'),
	(SELECT sum(quantity) FROM billing.usage_events WHERE organization_id = 'chance' AND metric = 'p_sum'
	 AND occurred_at >= (SELECT min(at) FROM edges) AND occurred_at < (SELECT max(at) FROM edges)), 'and of all periods what all events come to');
SELECT * FROM finish();

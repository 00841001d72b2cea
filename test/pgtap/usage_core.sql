-- Usage at speed: every way in, every aggregation, voids and corrections, and
-- totals that are exact whether the worker has come by or not.
\ir helpers.psql
SELECT plan(64);
-- dates in here grow old
UPDATE billing.settings SET value = '50 years' WHERE name = 'usage_retention';

-- The order is one of many; the seed says which.
SELECT coalesce(nullif(current_setting('usage_core.seed', true), '')::float8, extract(microseconds FROM clock_timestamp()) / 60000000) AS seed \gset
\echo # seed :seed
SELECT setseed(:seed) \gset

INSERT INTO billing.meters (metric, aggregation, carried, property, dimensions) VALUES
	('c_sum', 'sum', false, NULL, '{region}'), ('c_count', 'count', false, NULL, '{}'), ('c_max', 'max', false, NULL, '{region}'),
	('c_latest', 'latest', false, NULL, '{}'), ('c_seats', 'latest', true, NULL, '{region}'), ('c_total', 'sum', true, NULL, '{}'),
	('c_people', 'unique', false, 'person', '{}'), ('c_level', 'weighted', false, NULL, '{}'), ('c_rent', 'weighted', true, NULL, '{}');

-- ---------------------------------------------------------------------------
-- A random history, and what it comes to by the simplest query that there is.

-- three days around the turn of a month; many at the borders of quarters
CREATE TABLE history AS
	SELECT i AS n, m.metric, (1 + floor(random() * 50))::numeric + CASE WHEN random() < 0.3 THEN 0.25 ELSE 0 END AS quantity,
		   '2026-03-31 00:00+00'::timestamptz - interval '1 day'
		   + CASE WHEN random() < 0.2 THEN floor(random() * 288) * interval '15 min' ELSE random() * interval '3 days' END AS at,
		   jsonb_build_object('person', 'p' || floor(random() * 12), 'region', (ARRAY['eu', 'us'])[1 + floor(random() * 2)]) AS properties,
		   random() < 0.3 AS late, false AS is_void, random() AS place
	FROM generate_series(1, 100) AS i
	CROSS JOIN (SELECT metric FROM billing.meters WHERE metric LIKE 'c\_%') AS m;
UPDATE history SET at = at + n * interval '1 us' WHERE metric IN ('c_latest', 'c_seats', 'c_level', 'c_rent');

CREATE FUNCTION expected(metric text, start_at timestamptz, end_at timestamptz) RETURNS numeric
LANGUAGE sql AS $$
	WITH m AS (SELECT * FROM billing.meters AS m WHERE m.metric = expected.metric),
	counted AS (
		SELECT h.quantity, h.at, h.properties FROM history AS h, m
		WHERE h.metric = expected.metric AND NOT h.is_void AND h.at < end_at AND (m.carried OR h.at >= start_at)
	),
	-- levels from the start of the range on; what holds at its start is one of them
	levels AS (
		SELECT c.quantity, greatest(c.at, start_at) AS from_at, lead(c.at, 1, end_at) OVER (ORDER BY c.at) AS until_at FROM counted AS c
	)
	SELECT trim_scale(coalesce(CASE m.aggregation
		WHEN 'sum' THEN (SELECT sum(quantity) FROM counted)
		WHEN 'count' THEN (SELECT count(*) FROM counted)
		WHEN 'max' THEN (SELECT max(quantity) FROM counted)
		WHEN 'latest' THEN (SELECT quantity FROM counted ORDER BY at DESC LIMIT 1)
		WHEN 'unique' THEN (SELECT count(DISTINCT properties ->> 'person') FROM counted)
		ELSE (SELECT sum(quantity * extract(epoch FROM until_at - from_at)) FROM levels WHERE until_at > start_at)
			 / extract(epoch FROM end_at - start_at) END, 0))
	FROM m
$$;

CREATE TABLE ranges (start_at timestamptz, end_at timestamptz);
INSERT INTO ranges VALUES
	('2026-03-01 00:00+00', '2026-04-01 00:00+00'), ('2026-04-01 00:00+00', '2026-05-01 00:00+00'), ('2026-03-31 10:00+00', '2026-03-31 10:15+00'),
	('2026-03-31 10:01+00', '2026-03-31 10:02+00'), ('2026-03-31 10:14+00', '2026-03-31 10:16+00'), ('2026-03-30 10:15+00', '2026-03-31 10:15:00.000001+00');
INSERT INTO ranges
	SELECT least(a, b), greatest(a, b) + interval '1 us'
	FROM (SELECT '2026-03-29 12:00+00'::timestamptz + random() * interval '4 days' AS a, '2026-03-29 12:00+00'::timestamptz + random() * interval '4 days' AS b
		  FROM generate_series(1, 25)) AS r;

-- Every metric in every range; averages to nine decimals.
CREATE FUNCTION all_exact(organization text, name text) RETURNS text
LANGUAGE sql AS $$
	SELECT is(string_agg(format('%s in [%s, %s): %s instead of %s', s.metric, r.start_at, r.end_at, s.quantity, e.quantity), E'\n'), NULL, name)
	FROM ranges AS r
	CROSS JOIN LATERAL billing.usage_summary(organization, r.start_at, r.end_at) AS s
	CROSS JOIN LATERAL (SELECT expected(s.metric, r.start_at, r.end_at) AS quantity) AS e
	WHERE s.metric LIKE 'c\_%' AND round(s.quantity, 9) <> round(e.quantity, 9)
$$;

-- Most of it in one order, by arrays.
SELECT is((SELECT billing.record_usage_batch(array_agg('any'::text), array_agg(metric), array_agg(quantity), array_agg(at), array_agg(metric || n), array_agg(properties))
		   FROM (SELECT * FROM history WHERE NOT late ORDER BY place) AS h),
	(SELECT count(*) FROM history WHERE NOT late), 'a batch counts its rows');
CREATE TABLE everything AS TABLE history;
DELETE FROM history WHERE late;
SELECT all_exact('any', 'before the worker comes by every total is right');
CALL billing.run_worker();
SELECT all_exact('any', 'and after');
SELECT isnt_empty($$SELECT 1 FROM billing.usage_totals WHERE organization_id = 'any'$$, 'then there are totals');

-- The rest comes late: by COPY's way, one by one, in jsonb.
INSERT INTO history SELECT * FROM everything WHERE late;
INSERT INTO billing.usage_import (organization_id, metric, quantity, occurred_at, idempotency_key, properties)
	SELECT 'any', metric, quantity, at, metric || n, properties FROM history WHERE late AND n % 3 = 0 ORDER BY place;
SELECT count(billing.record_usage('any', metric, quantity, at, metric || n, properties)) AS recorded
FROM (SELECT * FROM history WHERE late AND n % 3 = 1 ORDER BY place) AS h \gset
SELECT billing.record_usage_batch((SELECT jsonb_agg(jsonb_build_object('organization_id', 'any', 'metric', metric, 'quantity', quantity,
	'occurred_at', at, 'idempotency_key', metric || n, 'properties', properties) ORDER BY place) FROM history WHERE late AND n % 3 = 2)) AS recorded \gset
SELECT all_exact('any', 'late events count where they happened');
SELECT is((SELECT billing.record_usage_batch(array_agg('any'::text), array_agg(metric), array_agg(quantity), NULL, array_agg(metric || n), array_agg(properties)) FROM history),
	0::bigint, 'all over again counts nothing, at another time as well');
SELECT all_exact('any', 'and changes nothing');

-- Some are void, some corrected, before and after a rollup.
CREATE FUNCTION change(share float8) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
	chosen record;
	ids jsonb;
	event uuid;
	changed bigint := 0;
BEGIN
	-- first: where usage is distributed, nobody but its owner reads what the transaction has changed
	SELECT jsonb_object_agg(u.idempotency_key, u.id) INTO ids FROM billing.usage_events AS u
	WHERE u.organization_id = 'any' AND u.idempotency_key IS NOT NULL;
	FOR chosen IN SELECT h.*, random() < 0.5 AS goes FROM history AS h WHERE NOT h.is_void AND random() < share LOOP
		event := ids ->> (chosen.metric || chosen.n);
		IF chosen.goes THEN
			UPDATE history AS h SET is_void = billing.void_usage('any', event) WHERE h.metric = chosen.metric AND h.n = chosen.n;
		ELSIF billing.correct_usage('any', event, chosen.quantity * 2 + 1) IS NOT NULL THEN
			UPDATE history AS h SET quantity = h.quantity * 2 + 1 WHERE h.metric = chosen.metric AND h.n = chosen.n;
		END IF;
		changed := changed + 1;
	END LOOP;
	RETURN changed;
END
$$;
SELECT ok(change(0.1) > 0, 'some are changed that are not in the totals yet');
SELECT all_exact('any', 'voids and corrections count at once');
CALL billing.run_worker();
SELECT all_exact('any', 'and in the totals');
SELECT ok(change(0.1) > 0, 'some are changed that are in the totals');
SELECT all_exact('any', 'which count at once, too');
CALL billing.run_worker();
SELECT all_exact('any', 'and in the totals');
SELECT is((SELECT count(*) FROM billing.usage_rollup_state), 1::bigint, 'there is one state');

-- What the totals hold, added up by hand.
SELECT results_eq($$SELECT metric, dimensions ->> 'region', sum(sum), sum(events)::bigint FROM billing.usage_totals WHERE organization_id = 'any' AND metric = 'c_sum' GROUP BY 1, 2 ORDER BY 1, 2$$,
	$$SELECT metric, properties ->> 'region', sum(quantity), count(*) FROM history WHERE metric = 'c_sum' AND NOT is_void GROUP BY 1, 2 ORDER BY 1, 2$$,
	'totals are kept apart by dimension');
SELECT results_eq($$SELECT value FROM billing.usage_values WHERE organization_id = 'any' AND metric = 'c_people' GROUP BY 1 HAVING sum(events) > 0 ORDER BY 1$$,
	$$SELECT DISTINCT properties ->> 'person' FROM history WHERE metric = 'c_people' AND NOT is_void ORDER BY 1$$, 'different values are kept');

-- Another order of the same events, one transaction.
SELECT billing.record_usage_batch(array_agg('other'::text), array_agg(metric), array_agg(quantity), array_agg(at), NULL, array_agg(properties)) AS recorded
FROM (SELECT * FROM history WHERE NOT is_void ORDER BY random()) AS h \gset
SELECT all_exact('other', 'any order of the same events gives the same');
CALL billing.run_worker();
SELECT all_exact('other', 'also from the totals');

-- ---------------------------------------------------------------------------
-- Voids and corrections by themselves

SELECT billing.record_usage('v', 'api_calls', 10) AS recorded \gset
SELECT id AS event FROM billing.usage_events WHERE organization_id = 'v' \gset
SELECT isnt(billing.correct_usage('v', :'event', 4), NULL, 'an event is corrected');
SELECT is(billing.correct_usage('v', :'event', 4), NULL, 'to what it is nothing is recorded');
SELECT results_eq($$SELECT kind, quantity, corrects IS NOT NULL FROM billing.usage_events WHERE organization_id = 'v' ORDER BY id$$,
	$$VALUES ('usage', 10::numeric, false), ('correction', -6, true)$$, 'a correction is an event, and may be negative');
SELECT isnt(billing.correct_usage('v', :'event', 5.5), NULL, 'it may be corrected again');
SELECT is((SELECT quantity FROM billing.usage_summary('v') WHERE metric = 'api_calls'), 5.5, 'the last word counts');
SELECT is(billing.void_usage('v', :'event'), true, 'and void');
SELECT is(billing.void_usage('v', :'event'), false, 'once');
SELECT is((SELECT quantity FROM billing.usage_summary('v') WHERE metric = 'api_calls'), 0::numeric, 'then it counts no longer');
SELECT fails(format($$SELECT billing.correct_usage('v', %L, 3)$$, :'event'), 'JB008', 'is void', 'again', 'what is void is not corrected');
SELECT id AS void FROM billing.usage_events WHERE organization_id = 'v' AND kind = 'void' \gset
SELECT fails(format($$SELECT billing.void_usage('v', %L)$$, :'void'), '22023', 'is no usage', 'corrects', 'a void is not voided');
SELECT fails(format($$SELECT billing.void_usage('other', %L)$$, :'event'), 'JB005', 'unknown usage event', NULL, 'an event belongs to one organisation');
SELECT fails(format($$SELECT billing.correct_usage('v', %L, -3)$$, :'event'), '22023', 'quantity cannot be counted', NULL, 'no event counts as less than nothing');
SELECT fails($$SELECT billing.void_usage('v', NULL)$$, '23502', 'event_id must be given', NULL, 'an event has to be named');

-- ---------------------------------------------------------------------------
-- Bad rows

SELECT fails($$SELECT billing.record_usage('b', 'api_calls', 0)$$, '22023', 'quantity cannot be counted', 'Record nothing', 'a sum takes no 0');
SELECT is(billing.record_usage('b', 'users', 0), true, 'a level does');
SELECT fails($$SELECT billing.record_usage('b', 'api_calls', properties => jsonb_build_object('x', repeat('x', 9000)))$$, '22023', 'properties is too large', '8192', 'properties are small');
SELECT fails($$SELECT billing.record_usage('b', 'c_people')$$, '22023', 'properties has no "person"', '"person"', 'what is counted has to be there');
SELECT fails($$SELECT billing.record_usage('b', 'c_people', properties => '{"person": ["a"]}')$$, '22023', 'property "person" cannot be used', '255', 'as a plain value');
SELECT fails($$SELECT billing.record_usage('b', 'c_sum', properties => jsonb_build_object('region', repeat('x', 256)))$$, '22023', 'property "region" cannot be used', '255', 'so has what is grouped by');
SELECT fails($$SELECT billing.record_usage('b', 'api_calls', idempotency_key => repeat('x', 256))$$, '22023', 'idempotency_key is empty or longer than 255', NULL, 'keys are short');
SELECT fails($$SELECT billing.record_usage(repeat('x', 256), 'api_calls')$$, '22023', 'organization_id is empty or longer than 255', NULL, 'so are organisations');
UPDATE billing.settings SET value = '2 days' WHERE name = 'usage_ahead';
SELECT is(billing.record_usage('b', 'api_calls', occurred_at => now() + interval '47 hours'), true, 'how far ahead is a setting');
SELECT fails($$SELECT billing.record_usage('b', 'api_calls', occurred_at => now() + interval '49 hours')$$, '22023', 'occurred_at', 'usage_ahead', 'which counts at once');

SELECT fails($$SELECT billing.record_usage_batch(ARRAY['b', 'b', 'b'], ARRAY['api_calls', 'api_calls', 'api_calls'], ARRAY[1, 'NaN'::numeric, 3])$$, '22023', 'row 2: quantity cannot be counted', 'below 1e30', 'a batch with a bad row is refused, which is named');
SELECT fails($$SELECT billing.record_usage_batch(ARRAY['b', 'b'], ARRAY['api_calls'], ARRAY[1, 3])$$, '22023', 'metrics has another length', NULL, 'arrays are of one length');
SELECT fails($$SELECT billing.record_usage_batch(ARRAY['b'], ARRAY['api_calls'], NULL)$$, '23502', 'quantities must be given', NULL, 'quantities are given');
SELECT fails($$SELECT billing.record_usage_batch('[{"organization_id": "b", "metric": "api_calls"}, {"organization_id": "b", "amount": 3}]')$$, '22023', 'row 2: member "amount"', 'quantity', 'members of jsonb are those that there are');
SELECT fails($$SELECT billing.record_usage_batch('{}'::jsonb)$$, '22023', 'events is no array', NULL, 'in an array');
SELECT fails($$SELECT billing.record_usage_batch('[]'::jsonb, 'ignore')$$, '22023', 'on_error', NULL, 'raise or skip');
SELECT is(billing.record_usage_batch('[]'::jsonb), 0::bigint, 'nothing is nothing');
SELECT is(billing.record_usage_batch(ARRAY['b', 'b', NULL, 'b', 'b'], ARRAY['users', 'nope', 'users', 'users', 'users'], ARRAY[5, 1, 1, -1, 6], NULL, ARRAY['s1', 's2', 's3', NULL, 's1'], NULL, 'skip'),
	1::bigint, 'a batch may leave bad rows out');
SELECT results_eq($$SELECT row_number, sqlstate, message FROM billing.skipped_usage()$$,
	$$VALUES (2::bigint, 'JB005', 'unknown metric "nope"'), (3, '23502', 'organization_id must be given'), (4, '22023', 'quantity cannot be counted')$$, 'and says which');
SELECT is(billing.record_usage('b', 'users', 7, idempotency_key => 's2'), true, 'a row that was left out does not use its key up');
SELECT fails($$INSERT INTO billing.usage_import (organization_id, metric, quantity) VALUES ('b', 'api_calls', 1), ('b', 'api_calls', -1)$$, '22023', 'quantity cannot be counted', NULL, 'COPY takes rows by the same rules');
SELECT results_eq($$SELECT count(*) FROM billing.usage_events WHERE organization_id = 'b' AND metric = 'api_calls'$$, ARRAY[1::bigint], 'all or none');
INSERT INTO billing.usage_import (organization_id, metric) SELECT 'import', 'api_calls' FROM generate_series(1, 2500);
SELECT is((SELECT quantity FROM billing.usage_summary('import') WHERE metric = 'api_calls'), 2500::numeric, 'many at a time');

BEGIN;
INSERT INTO billing.usage_import (organization_id, metric) VALUES ('undone', 'api_calls');
SAVEPOINT s;
INSERT INTO billing.usage_import (organization_id, metric) VALUES ('undone', 'api_calls');
ROLLBACK TO s;
INSERT INTO billing.usage_import (organization_id, metric) VALUES ('undone', 'api_calls');
SELECT is((SELECT quantity FROM billing.usage_summary('undone') WHERE metric = 'api_calls'), 2::numeric, 'what a savepoint takes back does not count');
COMMIT;
BEGIN READ ONLY;
SELECT fails($$SELECT billing.record_usage('b', 'api_calls')$$, '25006', 'read-only', NULL, 'nor does a read-only transaction record');
COMMIT;
SELECT fails($$UPDATE billing.meters SET dimensions = '{}' WHERE metric = 'c_sum'$$, 'JB008', 'metric "c_sum" is in use', 'new metric', 'what totals are kept by stays');
SELECT billing.record_usage('c_numbers', 'c_people', 1, properties => v) FROM unnest(ARRAY['{"person": 1}', '{"person": 1.0}', '{"person": 1.50}', '{"person": 1.5}']::jsonb[]) AS v;
SELECT is(used.quantity, 2::numeric, '1 and 1.0 are one value') FROM billing.usage_summary('c_numbers') AS used WHERE used.metric = 'c_people';
SELECT fails($$UPDATE billing.meters SET metric = 'c_other' WHERE metric = 'c_sum'$$, 'JB008', 'metric "c_sum" is in use', 'new metric', 'so does its name');
SELECT fails($$UPDATE billing.meters SET carried = NOT carried WHERE metric = 'c_sum'$$, 'JB008', 'metric "c_sum" is in use', 'new metric', 'and where its periods begin');

-- Quantities up to the bound, in whatever form: 1e29 takes no more bytes than 1
BEGIN;
SELECT count(billing.record_usage('large', m, q)) AS recorded
FROM unnest('{c_sum,c_max,c_latest,c_level,c_total,c_rent}'::text[]) AS m,
	 unnest('{1e29,999999999999999999999999999999,99999999999999999999,9223372036854775808,9223372036854775807,1000000000000000,999999999999999,0.000000000001,1}'::numeric[]) AS q \gset
SELECT is((SELECT quantity FROM billing.usage_summary('large') WHERE metric = 'c_sum'),
	1100000000118448744073709551613.000000000001, 'quantities that no bigint holds are added up');
SELECT is((SELECT quantity FROM billing.usage_summary('large') WHERE metric = 'c_max'), 999999999999999999999999999999::numeric, 'and compared');
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT quantity FROM billing.usage_summary('large') WHERE metric = 'c_total'),
	1100000000118448744073709551613.000000000001, 'by the worker as well');

-- Partitions
SELECT billing.record_usage('old', 'api_calls', 3, '2020-05-05 10:07+00', 'old') AS recorded \gset
SELECT ok(to_regclass('billing.usage_events_2020_05') IS NOT NULL, 'a month gets its partition with the first event');

SELECT * FROM finish();

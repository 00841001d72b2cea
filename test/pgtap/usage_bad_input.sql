-- Usage that cannot be counted: each way in refuses it with the same words, and
-- nothing of it is stored. A table of bad events goes through all of them.
\ir helpers.psql
SELECT no_plan();
-- dates in here grow old
UPDATE billing.settings SET value = '50 years' WHERE name = 'usage_retention';
INSERT INTO billing.meters (metric, aggregation, property, dimensions) VALUES ('by_region', 'sum', NULL, '{region}'), ('people', 'unique', 'person', '{}');
SELECT billing.record_usage('first', 'users') AS first \gset

CREATE TABLE bad_events (
	n integer GENERATED ALWAYS AS IDENTITY,
	what text, code text, message text,
	organization_id text DEFAULT 'bad', metric text DEFAULT 'api_calls', quantity numeric DEFAULT 1, occurred_at timestamptz DEFAULT now(),
	idempotency_key text, properties jsonb
);
INSERT INTO bad_events (what, code, message, organization_id) VALUES
	('no organisation', '23502', 'organization_id must be given', NULL),
	('an empty organisation', '22023', 'organization_id is empty', ''),
	('a long organisation', '22023', 'organization_id is empty or longer than 255', repeat('x', 256)),
	('a long organisation of wide characters', '22023', 'organization_id is empty or longer than 255', repeat('日', 256)),
	('a line end in an organisation', '22023', 'organization_id holds a control character', E'bad\n'),
	('a tab in an organisation', '22023', 'organization_id holds a control character', E'\tbad'),
	('a delete in an organisation', '22023', 'organization_id holds a control character', E'b\x7fad');
INSERT INTO bad_events (what, code, message, metric) VALUES
	('no metric', '23502', 'metric must be given', NULL),
	('an empty metric', 'JB005', 'unknown metric ""', ''),
	('an unknown metric', 'JB005', 'unknown metric "api_cals"', 'api_cals'),
	('a metric in capitals', 'JB005', 'unknown metric "API_CALLS"', 'API_CALLS'),
	('a metric of 63 bytes', 'JB005', 'unknown metric "mm', repeat('m', 63)),
	('a metric of a kilobyte', 'JB005', 'unknown metric "m{80}\.\.\."', repeat('m', 1024));
INSERT INTO bad_events (what, code, message, quantity) VALUES
	('no quantity', '23502', 'quantity must be given', NULL),
	('no number', '22023', 'quantity cannot be counted', 'NaN'),
	('infinity', '22023', 'quantity cannot be counted', 'Infinity'),
	('negative infinity', '22023', 'quantity cannot be counted', '-Infinity'),
	('a negative quantity', '22023', 'quantity cannot be counted', -1),
	('a little less than nothing', '22023', 'quantity cannot be counted', -0.000000000001),
	('zero of a sum', '22023', 'quantity cannot be counted', 0),
	('zero with decimals', '22023', 'quantity cannot be counted', 0.000),
	('too much', '22023', 'quantity cannot be counted', 1e30),
	('far too much', '22023', 'quantity cannot be counted', 1e131071),
	('too fine', '22023', 'quantity has too many decimals', 1.0000000000001),
	('far too fine', '22023', 'quantity has too many decimals', 1e-16000);
INSERT INTO bad_events (what, code, message, occurred_at) VALUES
	('for ever', '22023', 'occurred_at is not a time', 'infinity'),
	('since ever', '22023', 'occurred_at is not a time', '-infinity'),
	('before 2000', '22023', 'occurred_at is not a time', '1999-12-31 23:59:59.999999+00'),
	('before Christ', '22023', 'occurred_at is not a time', '4713-01-01 00:00:00+00 BC'),
	('the last year that there is', '22023', 'occurred_at is not a time', '294276-12-31 23:59:59+00'),
	('the day after tomorrow', '22023', 'occurred_at is not a time', now() + interval '24 hours 1 minute');
INSERT INTO bad_events (what, code, message, idempotency_key) VALUES
	('an empty key', '22023', 'idempotency_key is empty', ''),
	('a long key', '22023', 'idempotency_key is empty or longer than 255', repeat('k', 256)),
	('a long key of wide characters', '22023', 'idempotency_key is empty or longer than 255', repeat('é', 256)),
	('a line end in a key', '22023', 'idempotency_key holds a control character', E'k\r\n');
INSERT INTO bad_events (what, code, message, metric, properties) VALUES
	('properties that are an array', '22023', 'properties is not an object', 'api_calls', '[]'),
	('properties that are a text', '22023', 'properties is not an object', 'api_calls', '"x"'),
	('properties that are a number', '22023', 'properties is not an object', 'api_calls', '1'),
	('properties that are null', '22023', 'properties is not an object', 'api_calls', 'null'),
	('large properties', '22023', 'properties is too large', 'api_calls', jsonb_build_object('x', repeat('x', 8192))),
	('deep and large properties', '22023', 'properties is too large', 'api_calls', (SELECT jsonb_object_agg('p' || i, '{"a": [1, 2, 3]}'::jsonb) FROM generate_series(1, 300) AS i)),
	('a dimension that is an object', '22023', 'property "region" cannot be used by metric "by_region"', 'by_region', '{"region": {"a": 1}}'),
	('a dimension that is an array', '22023', 'property "region" cannot be used by metric "by_region"', 'by_region', '{"region": ["eu"]}'),
	('a long dimension', '22023', 'property "region" cannot be used by metric "by_region"', 'by_region', jsonb_build_object('region', repeat('x', 256))),
	('a dimension of many digits', '22023', 'property "region" cannot be used by metric "by_region"', 'by_region', jsonb_build_object('region', repeat('9', 5000)::numeric)),
	('nothing to count', '22023', 'properties has no "person"', 'people', NULL),
	('null to count', '22023', 'properties has no "person"', 'people', '{"person": null}'),
	('something else to count', '22023', 'properties has no "person"', 'people', '{"persons": "a"}'),
	('an object to count', '22023', 'property "person" cannot be used by metric "people"', 'people', '{"person": {}}');

-- ---------------------------------------------------------------------------
-- Every bad event through every way in, between two good ones

CREATE FUNCTION bad_call(way text, e bad_events) RETURNS text
LANGUAGE sql AS $$
	SELECT CASE way
		WHEN 'record_usage' THEN format('SELECT billing.record_usage(%L, %L, %L, %L, %L, %L)', e.organization_id, e.metric, e.quantity, e.occurred_at, e.idempotency_key, e.properties)
		WHEN 'arrays' THEN format(
			'SELECT billing.record_usage_batch(ARRAY[''good'', %L, ''good''], ARRAY[''users'', %L, ''users''], ARRAY[7, %L, 8]::numeric[], ARRAY[now(), %L, now()]::timestamptz[], '
			'ARRAY[''k1'', %L, ''k2''], ARRAY[NULL, %L, NULL]::jsonb[], %s)', e.organization_id, e.metric, e.quantity, e.occurred_at, e.idempotency_key, e.properties, '%L')
		WHEN 'jsonb' THEN format('SELECT billing.record_usage_batch(%L::jsonb, %s)', jsonb_build_array(
			'{"organization_id": "good", "metric": "users", "quantity": 7, "idempotency_key": "k1"}'::jsonb,
			jsonb_build_object('organization_id', e.organization_id, 'metric', e.metric, 'quantity', e.quantity, 'occurred_at', e.occurred_at,
							   'idempotency_key', e.idempotency_key, 'properties', e.properties),
			'{"organization_id": "good", "metric": "users", "quantity": 8, "idempotency_key": "k2"}'::jsonb), '%L')
		WHEN 'INSERT' THEN format(
			'INSERT INTO billing.usage_import (organization_id, metric, quantity, occurred_at, idempotency_key, properties) '
			'SELECT ''good'', ''users'', 7, NULL::timestamptz, ''k'' || i, NULL::jsonb FROM generate_series(1, 1500) AS i '
			'UNION ALL SELECT %L, %L, %L::numeric, %L::timestamptz, %L, %L::jsonb', e.organization_id, e.metric, e.quantity, e.occurred_at, e.idempotency_key, e.properties)
		ELSE format('COPY billing.usage_import (organization_id, metric, quantity, occurred_at, idempotency_key, properties) FROM %L', current_setting('data_directory') || '/bad.copy')
	END
$$;

CREATE FUNCTION stored() RETURNS text
LANGUAGE sql RETURN format('%s events, %s keys', (SELECT count(*) FROM billing.usage_events), (SELECT count(*) FROM billing.usage_keys));

-- NULL when it is refused as it should be; in a batch and in COPY the row is named.
CREATE FUNCTION refused(way text, e bad_events) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	before text := stored();
	had_code text := '00000';
	had_message text := '';
	had_context text := '';
BEGIN
	IF way = 'COPY' THEN
		EXECUTE format($f$COPY (SELECT 'good', 'users', 7, NULL::timestamptz, 'k1', NULL::jsonb UNION ALL SELECT %L, %L, %L::numeric, %L::timestamptz, %L, %L::jsonb) TO %L$f$,
			e.organization_id, e.metric, e.quantity, e.occurred_at, e.idempotency_key, e.properties, current_setting('data_directory') || '/bad.copy');
	END IF;
	BEGIN
		EXECUTE replace(bad_call(way, e), '%L', '''raise''');
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS had_code = RETURNED_SQLSTATE, had_message = MESSAGE_TEXT, had_context = PG_EXCEPTION_CONTEXT;
	END;
	IF had_code <> e.code OR had_message !~ ('^' || CASE WHEN way IN ('arrays', 'jsonb') THEN 'row 2: ' ELSE '' END || e.message)
		OR stored() <> before OR (way = 'COPY' AND had_context !~ 'COPY usage_import, line 2') THEN
		RETURN format(E'%s, %s: %s: %s; %s before, %s after; %s', e.what, way, had_code, had_message, before, stored(), had_context);
	END IF;
	RETURN NULL;
END
$$;
SELECT is((SELECT string_agg(refused(way, e), E'\n') FROM bad_events AS e WHERE way = 'record_usage' OR NOT (way = 'jsonb' AND e.quantity IN ('NaN', 'Infinity', '-Infinity') OR way = 'jsonb' AND e.properties = 'null')),
	NULL, way || ' refuses every bad event, says why, and stores nothing')
FROM unnest(ARRAY['record_usage', 'arrays', 'jsonb', 'INSERT', 'COPY']) AS way;
SELECT cmp_ok((SELECT count(*) FROM bad_events), '>', 45::bigint, 'there were many');
SELECT is(stored(), '1 events, 0 keys', 'nothing at all was stored');

-- Left out of a batch: the good ones count, the bad one is told, and does not use its key up.
CREATE FUNCTION skipped(way text, e bad_events) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	counted bigint;
	told record;
	many bigint;
BEGIN
	e.idempotency_key := coalesce(e.idempotency_key, 'unused');
	EXECUTE replace(bad_call(way, e), '%L', '''skip''') INTO counted;
	SELECT count(*) INTO many FROM billing.skipped_usage();
	SELECT * INTO told FROM billing.skipped_usage();
	IF counted <> 2 OR many <> 1 OR told.row_number <> 2 OR told.sqlstate <> e.code OR told.message !~ ('^' || e.message) OR stored() <> '3 events, 2 keys'
		OR EXISTS (SELECT FROM billing.usage_keys WHERE key NOT IN ('k1', 'k2')) THEN
		RETURN format('%s, %s: %s counted, %s skipped: %s; %s', e.what, way, counted, many, told, stored());
	END IF;
	-- undone for the next one
	RAISE EXCEPTION USING ERRCODE = 'P0099';
EXCEPTION WHEN SQLSTATE 'P0099' THEN
	RETURN NULL;
END
$$;
SELECT is((SELECT string_agg(skipped(way, e), E'\n') FROM bad_events AS e WHERE NOT (way = 'jsonb' AND e.quantity IN ('NaN', 'Infinity', '-Infinity') OR way = 'jsonb' AND e.properties = 'null')),
	NULL, way || ' may leave every bad event out')
FROM unnest(ARRAY['arrays', 'jsonb']) AS way;

-- ---------------------------------------------------------------------------
-- What is no list of events

SELECT fails(format('SELECT billing.record_usage_batch(%s)', arguments), code, message, hint, name)
FROM (VALUES
	($$ARRAY['b', 'b'], ARRAY['users'], ARRAY[1, 2]$$, '22023', 'metrics has another length than organization_ids', 'one element per event', 'fewer metrics'),
	($$ARRAY['b'], ARRAY['users', 'users'], ARRAY[1]$$, '22023', 'metrics has another length', NULL, 'more metrics'),
	($$ARRAY['b'], ARRAY['users'], ARRAY[]::numeric[]$$, '22023', 'quantities has another length', NULL, 'no quantities'),
	($$ARRAY['b'], ARRAY['users'], ARRAY[1], ARRAY[now(), now()]$$, '22023', 'occurred_at has another length', NULL, 'more times'),
	($$ARRAY['b'], ARRAY['users'], ARRAY[1], NULL, '{}'$$, '22023', 'idempotency_keys has another length', NULL, 'no keys'),
	($$ARRAY['b'], ARRAY['users'], ARRAY[1], NULL, NULL, '{}'$$, '22023', 'properties has another length', NULL, 'no properties'),
	($$ARRAY[['b', 'b']], ARRAY['users', 'users'], ARRAY[1, 2]$$, '22023', 'organization_ids has more than one dimension', 'one element per event', 'rows and columns'),
	($$ARRAY['b', 'b'], ARRAY['users', 'users'], ARRAY[[1], [2]]$$, '22023', 'quantities has more than one dimension', NULL, 'rows and columns of numbers'),
	($$NULL, ARRAY['users'], ARRAY[1]$$, '23502', 'organization_ids must be given', NULL, 'no organisations'),
	($$ARRAY['b'], NULL, ARRAY[1]$$, '23502', 'metrics must be given', NULL, 'no array of metrics'),
	($$ARRAY['b'], ARRAY['users'], NULL$$, '23502', 'quantities must be given', NULL, 'no array of quantities'),
	($$ARRAY['b'], ARRAY['users'], ARRAY[1], on_error => 'ignore'$$, '22023', 'on_error', NULL, 'a word for on_error that there is not'),
	($$ARRAY['b'], ARRAY['users'], ARRAY[1], on_error => NULL$$, '23502', 'on_error must be given', NULL, 'no on_error'),
	($$array_fill('b'::text, '{1000001}'), array_fill('users'::text, '{1000001}'), array_fill(1::numeric, '{1000001}')$$, '54000', 'more than 1000000 events', 'COPY', 'too many events'),
	($$NULL::jsonb$$, '23502', 'events must be given', NULL, 'no jsonb'),
	($$'null'::jsonb$$, '22023', 'events is no array', NULL, 'null'),
	($$'{}'::jsonb$$, '22023', 'events is no array', 'organization_id', 'an object'),
	($$'"b"'::jsonb$$, '22023', 'events is no array', NULL, 'a text'),
	($$'1'::jsonb$$, '22023', 'events is no array', NULL, 'a number'),
	($$'[]'::jsonb, 'ignore'$$, '22023', 'on_error', NULL, 'a word for on_error, with jsonb')
) AS v (arguments, code, message, hint, name);
SELECT is(billing.record_usage_batch('{}', '{}', '{}'), 0::bigint, 'no events are none');
SELECT is(billing.record_usage_batch('[]'), 0::bigint, 'in jsonb as well');

CREATE TABLE bad_json (element jsonb, message text);
INSERT INTO bad_json VALUES
	('1', 'it is no object'), ('null', 'it is no object'), ('"users"', 'it is no object'), ('[]', 'it is no object'), ('[{"metric": "users"}]', 'it is no object'),
	('{"organization_id": 1, "metric": "users"}', 'member "organization_id" cannot be read'),
	('{"organization_id": "b", "metric": ["users"]}', 'member "metric" cannot be read'),
	('{"organization_id": "b", "metric": "users", "quantity": "1"}', 'member "quantity" cannot be read'),
	('{"organization_id": "b", "metric": "users", "quantity": true}', 'member "quantity" cannot be read'),
	('{"organization_id": "b", "metric": "users", "occurred_at": 1700000000}', 'member "occurred_at" cannot be read'),
	('{"organization_id": "b", "metric": "users", "occurred_at": "yesterday at noon"}', 'member "occurred_at" cannot be read'),
	('{"organization_id": "b", "metric": "users", "occurred_at": "2026-02-30T00:00:00Z"}', 'member "occurred_at" cannot be read'),
	('{"organization_id": "b", "metric": "users", "occurred_at": "999999-01-01"}', 'member "occurred_at" cannot be read'),
	('{"organization_id": "b", "metric": "users", "idempotency_key": 5}', 'member "idempotency_key" cannot be read'),
	('{"organization_id": "b", "metric": "users", "amount": 5}', 'member "amount" cannot be read'),
	('{"organization_id": "b", "metric": "users", "": 5}', 'member "" cannot be read');
SELECT fails(format('SELECT billing.record_usage_batch(%L::jsonb)', jsonb_build_array('{"organization_id": "b", "metric": "users"}'::jsonb, b.element)),
	'22023', '^row 2: ' || b.message, '.', b.element::text || ' is no event') FROM bad_json AS b;
SELECT is(stored(), '1 events, 0 keys', 'and none stores anything');
SELECT is(billing.record_usage_batch((SELECT jsonb_agg(element) FROM bad_json), 'skip'), 0::bigint, 'all of them may be left out');
SELECT results_eq('SELECT message FROM billing.skipped_usage() ORDER BY row_number', 'SELECT message FROM bad_json', 'and each is told');
SELECT is(billing.record_usage_batch('[]', 'skip'), 0::bigint, 'the next batch');
SELECT is_empty('SELECT FROM billing.skipped_usage()', 'tells of itself only');
SELECT fails($$SELECT billing.record_usage_batch('[{"organization_id": "b", "metric": "users", "quantity": null}]')$$, '23502', 'row 1: quantity must be given', NULL, 'a quantity of null is none, and not 1');
SELECT is(billing.record_usage_batch('[{"organization_id": "b", "metric": "users", "occurred_at": null, "idempotency_key": null, "properties": null}]'), 1::bigint, 'what need not be given may be null');

-- A known key is known whatever else is wrong with its row.
SELECT is(billing.record_usage('b', 'users', 1, idempotency_key => 'known'), true, 'a key');
SELECT is(billing.record_usage_batch(('[{"organization_id": "b", "metric": "users", "idempotency_key": "known", "quantity": "x"}, '
	'{"amount": 3, "organization_id": "b", "idempotency_key": "known"}]')::jsonb), 0::bigint, 'is known when the rest cannot be read');
SELECT is((SELECT count(refused) FROM (SELECT billing.record_usage_batch(ARRAY['b'], ARRAY['nope'], ARRAY['NaN'::numeric], ARRAY['infinity'::timestamptz], ARRAY['known']) AS refused) AS r WHERE refused = 0),
	1::bigint, 'and when it makes no sense');

-- ---------------------------------------------------------------------------
-- COPY itself: a row that is none, and what came before it

CREATE FUNCTION copied(lines text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	before text := stored();
	said text;
BEGIN
	BEGIN
		EXECUTE format('COPY billing.usage_import FROM PROGRAM %L', format('printf ''%%s\n'' ''%s''', lines));
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS said = RETURNED_SQLSTATE;
	END;
	RETURN coalesce(said, 'counted') || CASE WHEN stored() = before THEN '' ELSE ' and stored' END;
END
$$;
SELECT is(copied(E'b\tusers\t1\t\\N\t\\N\t\\N\nb\tusers\tx\t\\N\t\\N\t\\N'), '22P02', 'no number');
SELECT is(copied(E'b\tusers\t1\t\\N\t\\N\t\\N\nb\tusers'), '22P04', 'too few columns');
SELECT is(copied(E'b\tusers\t1\t2026-13-01\t\\N\t\\N'), '22008', 'no time');
SELECT is(copied(E'b\tusers\t1\t\\N\tk\t{'), '22P02', 'no jsonb');
SELECT is(copied(E'b\tusers\t1\t\\N\tcopied\t\\N'), 'counted and stored', 'while a good line counts');

-- ---------------------------------------------------------------------------
-- Functions that name an event or a range

SELECT billing.record_usage('v', 'api_calls', 10) AS recorded \gset
SELECT id AS event FROM billing.usage_events WHERE organization_id = 'v' \gset
CREATE TABLE before AS SELECT stored();
SELECT fails(statement, code, message, hint, name)
FROM (VALUES
	('SELECT billing.void_usage(NULL, %L)', '23502', 'organization_id must be given', NULL, 'a void is of an organisation'),
	('SELECT billing.void_usage(''v'', NULL)', '23502', 'event_id must be given', NULL, 'of an event'),
	('SELECT billing.void_usage(''w'', %L)', 'JB005', 'unknown usage event', 'usage_events', 'of the same organisation'),
	('SELECT billing.void_usage('''', %L)', 'JB005', 'unknown usage event', NULL, 'which is named'),
	('SELECT billing.void_usage(''v'', ''00000000-0000-0000-0000-000000000000'')', 'JB005', 'unknown usage event', NULL, 'of one that there is'),
	('SELECT billing.correct_usage(NULL, %L, 1)', '23502', 'organization_id must be given', NULL, 'a correction is of an organisation'),
	('SELECT billing.correct_usage(''v'', NULL, 1)', '23502', 'event_id must be given', NULL, 'of an event too'),
	('SELECT billing.correct_usage(''w'', %L, 1)', 'JB005', 'unknown usage event', NULL, 'of the same organisation as well'),
	('SELECT billing.correct_usage(''v'', %L, NULL)', '23502', 'quantity must be given', NULL, 'to a quantity'),
	('SELECT billing.correct_usage(''v'', %L, ''NaN'')', '22023', 'quantity cannot be counted', NULL, 'that is a number'),
	('SELECT billing.correct_usage(''v'', %L, ''Infinity'')', '22023', 'quantity cannot be counted', NULL, 'and finite'),
	('SELECT billing.correct_usage(''v'', %L, -1)', '22023', 'quantity cannot be counted', NULL, 'not below nothing'),
	('SELECT billing.correct_usage(''v'', %L, 1e30)', '22023', 'quantity cannot be counted', NULL, 'not absurd'),
	('SELECT billing.correct_usage(''v'', %L, 1e-13)', '22023', 'quantity has too many decimals', NULL, 'nor too fine'),
	('SELECT * FROM billing.usage_summary(NULL)', '23502', 'organization_id must be given', NULL, 'a summary is of an organisation'),
	('SELECT * FROM billing.usage_summary(''v'', now(), now())', '22023', 'end_at is not after start_at', 'half-open', 'over some time'),
	('SELECT * FROM billing.usage_summary(''v'', now(), now() - interval ''1 second'')', '22023', 'end_at is not after start_at', NULL, 'that does not run backwards'),
	('SELECT * FROM billing.usage_summary(''v'', ''infinity'', ''infinity'')', '22023', 'end_at is not after start_at', NULL, 'nor nowhere')
) AS v (pattern, code, message, hint, name)
CROSS JOIN LATERAL (SELECT replace(v.pattern, '%L', quote_literal(:'event')) AS statement) AS s;
SELECT is(stored(), (SELECT stored FROM before), 'which all store nothing');
SELECT is(quantity, 10::numeric, 'a summary since ever and for ever is one') FROM billing.usage_summary('v', '-infinity', 'infinity') WHERE metric = 'api_calls';
SELECT is((SELECT count(*) FROM billing.usage_summary('never heard of')), (SELECT count(*) FROM billing.meters), 'an organisation that nobody knows has used nothing');

-- ---------------------------------------------------------------------------
-- What looks bad and is not

SELECT is(billing.record_usage(repeat('日', 255), 'api_calls', 1, now(), repeat('é', 255)), true, '255 wide characters are an id, and a key');
SELECT is(billing.record_usage(repeat('日', 255), 'api_calls', 1, now(), repeat('é', 255)), false, 'which is known then');
SELECT is(billing.record_usage('ok', 'api_calls', 999999999999999999999999999999.999999999999), true, 'much is counted');
SELECT is(billing.record_usage('ok', 'api_calls', 0.000000000001), true, 'and little');
SELECT is((SELECT quantity FROM billing.usage_summary('ok') WHERE metric = 'api_calls'), 1000000000000000000000000000000.000000000000, 'to the last digit');
SELECT is(billing.record_usage('ok', 'users', 0), true, 'a level may be 0');
SELECT is(billing.record_usage('ok', 'api_calls', 1, '2000-01-01 00:00+00'), true, 'the first moment of 2000');
SELECT is(billing.record_usage('ok', 'api_calls', 1, now() + interval '24 hours'), true, 'a day ahead');
SELECT is(billing.record_usage('ok', 'by_region', 1, properties => '{}'), true, 'a dimension need not be there');
SELECT is(billing.record_usage('ok', 'by_region', 1, properties => jsonb_build_object('region', repeat('x', 255))), true, 'and has 255 bytes');
SELECT is(billing.record_usage(E'o''k; -- \u200b', 'api_calls', 1, now(), '"''\'), true, 'quotes and blanks are characters');
CALL billing.run_worker();
SELECT is((SELECT quantity FROM billing.usage_summary('ok', '-infinity', 'infinity') WHERE metric = 'api_calls'), 1000000000000000000000000000002.000000000000, 'in the totals as well');
SELECT * FROM finish();

-- Usage: recorded once, added up exactly, compared with what the plan allows.
\ir helpers.psql
SELECT plan(60);
-- dates in here grow old
UPDATE billing.settings SET value = '50 years' WHERE name = 'usage_retention';

SELECT count(billing.create_customer(o)) AS customers FROM string_to_table('acme zero half many none paid', ' ') AS o \gset

-- ---------------------------------------------------------------------------
-- Recording

SELECT is(billing.record_usage('acme', 'api_calls'), true, 'usage is recorded');
SELECT is((SELECT quantity FROM billing.usage_summary('acme') WHERE metric = 'api_calls'), 1::numeric, 'as 1 by default');
SELECT is(billing.record_usage('acme', 'api_calls', 5, idempotency_key => 'k'), true, 'with a key, too');
SELECT is(billing.record_usage('acme', 'api_calls', 5, idempotency_key => 'k'), false, 'the same key is not counted again');
SELECT is(billing.record_usage('acme', 'storage', 7, '2020-01-01', 'k'), false, 'whatever the rest says');
SELECT is(billing.record_usage('acme', 'no_such_metric', -1, idempotency_key => 'k'), false, 'even when the rest is wrong');
SELECT is(billing.record_usage('many', 'api_calls', 5, idempotency_key => 'k'), true, 'keys belong to one organisation');
SELECT is((SELECT quantity FROM billing.usage_summary('acme') WHERE metric = 'api_calls'), 6::numeric, 'what was counted is counted once');
SELECT is((SELECT count(*) FROM billing.usage_events WHERE organization_id = 'acme'), 2::bigint, 'in two rows');
SELECT is(billing.record_usage('unheard of', 'api_calls'), true, 'an organisation without a customer may use something');

BEGIN;
SELECT billing.record_usage('acme', 'api_calls', 100, idempotency_key => 'rolled back') AS recorded \gset
ROLLBACK;
SELECT is((SELECT quantity FROM billing.usage_summary('acme') WHERE metric = 'api_calls'), 6::numeric, 'usage of a transaction that rolled back is none');
SELECT is(billing.record_usage('acme', 'storage', 0, idempotency_key => 'rolled back'), true, 'and its key is free');

SELECT fails($$SELECT billing.record_usage('acme', 'nope', idempotency_key => 'fresh')$$, 'JB005', 'unknown metric "nope"', 'api_calls, storage, teams, users', 'an unknown metric is refused, and those that there are are listed');
SELECT is(billing.record_usage('acme', 'storage', 0, idempotency_key => 'fresh'), true, 'a refused call does not use up its key');
SELECT fails($$SELECT billing.record_usage('acme', 'api_calls', -1)$$, '22023', 'quantity cannot be counted', 'from 0', 'a negative quantity is refused');
SELECT fails($$SELECT billing.record_usage('acme', 'api_calls', 'NaN')$$, '22023', 'quantity cannot be counted', NULL, 'what is no number is refused');
SELECT fails($$SELECT billing.record_usage('acme', 'api_calls', 'Infinity')$$, '22023', 'quantity cannot be counted', NULL, 'and infinity');
SELECT fails($$SELECT billing.record_usage('acme', 'api_calls', 1e30)$$, '22023', 'quantity cannot be counted', NULL, 'and what is too large');
SELECT fails($$SELECT billing.record_usage('acme', 'api_calls', 1e-16000)$$, '22023', 'quantity has too many decimals', 'round\(quantity, 12\)', 'and what is too fine');
SELECT fails($$SELECT billing.record_usage('acme', 'api_calls', 0.0000000000001)$$, '22023', 'quantity has too many decimals', NULL, 'which begins at the thirteenth decimal');
SELECT is(billing.record_usage('zeros', 'api_calls', 2.5000000000000000), true, 'zeros at the end are no decimals');
SELECT is((SELECT scale(quantity) FROM billing.usage_events WHERE organization_id = 'zeros'), 1, 'and are not kept');
SELECT fails($$SELECT billing.record_usage('acme', 'api_calls', NULL)$$, '23502', 'quantity must be given', NULL, 'and nothing');
SELECT fails($$SELECT billing.record_usage(NULL, 'api_calls')$$, '23502', 'organization_id must be given', NULL, 'usage is of an organisation');
SELECT fails($$SELECT billing.record_usage('', 'api_calls')$$, '22023', 'organization_id is empty', NULL, 'which has an id');
SELECT fails($$SELECT billing.record_usage('acme', NULL)$$, '23502', 'metric must be given', NULL, 'and of a metric');
SELECT fails($$SELECT billing.record_usage('acme', 'api_calls', occurred_at => now() + interval '25 hours')$$, '22023', 'occurred_at', 'a day ahead', 'usage of the day after tomorrow is refused');
SELECT fails($$SELECT billing.record_usage('acme', 'api_calls', occurred_at => 'infinity')$$, '22023', 'occurred_at', NULL, 'and of never');
SELECT fails($$SELECT billing.record_usage('acme', 'api_calls', occurred_at => '1999-12-31 23:59:59.999999+00')$$, '22023', 'occurred_at', 'from the year 2000', 'and of the last century');
SELECT is(billing.record_usage('zeros', 'api_calls', 1, '2000-01-01 00:00+00'), true, 'which ends where it ends');
SELECT fails($$SELECT billing.record_usage('acme', 'api_calls', idempotency_key => '')$$, '22023', 'idempotency_key is empty', NULL, 'an empty key is refused');
SELECT fails($$SELECT billing.record_usage('acme', 'api_calls', properties => '[1]')$$, '22023', 'properties is not an object', NULL, 'properties are an object');
SELECT fails($$UPDATE billing.usage_events SET quantity = 0$$, 'JB008', 'append-only', 'correct_usage', 'usage never changes');
SELECT fails($$DELETE FROM billing.usage_events$$, 'JB008', 'append-only', NULL, 'and is never deleted');

-- ---------------------------------------------------------------------------
-- Adding up: half-open ranges, late events, exact numbers

SELECT count(billing.record_usage('half', 'api_calls', q, t)) AS recorded
FROM (VALUES (1, '2026-01-31 23:59:59.999999+00'::timestamptz), (10, '2026-02-01 00:00+00'), (100, '2026-02-28 23:59:59.999999+00'), (1000, '2026-03-01 00:00+00')) AS v (q, t) \gset
SELECT is((SELECT quantity FROM billing.usage_summary('half', '2026-02-01 00:00+00', '2026-03-01 00:00+00') WHERE metric = 'api_calls'), 110::numeric, 'a range holds its beginning and not its end');
SELECT is((SELECT quantity FROM billing.usage_summary('half', '2026-01-01 00:00+00', '2026-02-01 00:00+00') WHERE metric = 'api_calls'), 1::numeric, 'what happened a microsecond before belongs to the range before');
SELECT is(billing.record_usage('half', 'api_calls', 0.000000000001, '2026-02-10 00:00+00'), true, 'usage may come late');
SELECT is((SELECT quantity FROM billing.usage_summary('half', '2026-02-01 00:00+00', '2026-03-01 00:00+00') WHERE metric = 'api_calls'), 110.000000000001, 'and counts where it happened, to the last decimal');
SELECT results_eq($$SELECT period_start, period_end FROM billing.usage_summary('half', '2026-02-01 00:00+00', '2026-03-01 00:00+00') WHERE metric = 'users'$$,
	$$VALUES ('2026-02-01 00:00+00'::timestamptz, '2026-03-01 00:00+00'::timestamptz)$$, 'the summary says for when it is');
SELECT fails($$SELECT * FROM billing.usage_summary('half', '2026-03-01', '2026-03-01')$$, '22023', 'end_at is not after start_at', 'half-open', 'an empty range is refused');
SELECT fails($$SELECT * FROM billing.usage_summary('half', '2026-03-01', '2026-02-01')$$, '22023', 'end_at is not after start_at', NULL, 'and one that runs backwards');

-- other aggregations, and what is carried over
INSERT INTO billing.meters (metric, aggregation, carried) VALUES
	('jobs', 'count', false), ('peak', 'max', false), ('level', 'latest', false), ('seats', 'latest', true), ('total', 'sum', true);
SELECT count(billing.record_usage('half', m, q, t))  AS recorded
FROM unnest(ARRAY['jobs', 'peak', 'level', 'seats', 'total']) AS m,
	(VALUES (50, '2026-01-15 00:00+00'::timestamptz), (7, '2026-02-10 00:00+00'), (30, '2026-02-11 00:00+00'), (20, '2026-02-12 00:00+00')) AS v (q, t) \gset
SELECT results_eq($$SELECT metric, quantity FROM billing.usage_summary('half', '2026-02-01 00:00+00', '2026-03-01 00:00+00') WHERE metric IN ('jobs', 'peak', 'level', 'seats', 'total') ORDER BY 1$$,
	$$VALUES ('jobs', 3::numeric), ('level', 20), ('peak', 30), ('seats', 20), ('total', 107)$$,
	'a metric counts events, takes the largest, the latest, or the sum, with or without what was before');
SELECT results_eq($$SELECT metric, quantity FROM billing.usage_summary('half', '2026-03-01 00:00+00', '2026-04-01 00:00+00') WHERE metric IN ('jobs', 'peak', 'level', 'seats', 'total') ORDER BY 1$$,
	$$VALUES ('jobs', 0::numeric), ('level', 0), ('peak', 0), ('seats', 20), ('total', 107)$$,
	'in the next month only what is carried is still there');
SELECT is(billing.record_usage('half', 'seats', 99, '2026-02-11 12:00+00'), true, 'a level that comes late');
SELECT is((SELECT quantity FROM billing.usage_summary('half', '2026-03-01 00:00+00', '2026-04-01 00:00+00') WHERE metric = 'seats'), 20::numeric, 'does not take the place of a later one');

-- ---------------------------------------------------------------------------
-- Limits of the plan

SELECT count(billing.record_usage('zero', m, q)) AS recorded FROM (VALUES ('api_calls', 2500), ('users', 4), ('storage', 1)) AS v (m, q) \gset
SELECT results_eq($$SELECT metric, quantity, "limit", remaining, percentage FROM billing.usage_summary('zero') WHERE metric IN ('api_calls', 'storage', 'teams', 'users') ORDER BY 1$$,
	$$VALUES ('api_calls', 2500::numeric, 10000::numeric, 7500::numeric, 25.00), ('storage', 1, 1000000000, 999999999, 0.00), ('teams', 0, 1, 1, 0.00), ('users', 4, 3, 0, 133.33)$$,
	'without a subscription the limits are those of free; what remains is never negative');
SELECT results_eq($$SELECT "limit", remaining, percentage FROM billing.usage_summary('zero') WHERE metric = 'jobs'$$,
	$$VALUES ('Infinity'::numeric, 'Infinity'::numeric, NULL::numeric)$$, 'what no feature limits is unlimited');
SELECT is((SELECT period_start FROM billing.usage_summary('zero') LIMIT 1), date_trunc('month', now(), 'UTC'), 'its period is the calendar month in UTC');
SELECT is((SELECT period_end FROM billing.usage_summary('zero') LIMIT 1), date_trunc('month', date_trunc('month', now(), 'UTC') + interval '40 days', 'UTC'), 'to its end');
SET timezone = 'Asia/Kathmandu';
SELECT is((SELECT period_start FROM billing.usage_summary('zero') LIMIT 1), date_trunc('month', now(), 'UTC'), 'also for a session elsewhere');
RESET timezone;

SELECT billing.record_usage('paid', 'api_calls', 7, now() - interval '1 hour') AS recorded \gset
SELECT billing.subscribe('paid', 'pro', 'pm_card_visa') AS paid \gset
CALL billing.run_worker();
SELECT is((SELECT "limit" FROM billing.usage_summary('paid') WHERE metric = 'api_calls'), 100000::numeric, 'with a subscription the limits are those of its plan');
SELECT results_eq($$SELECT period_start, period_end FROM billing.usage_summary('paid') LIMIT 1$$,
	format($$SELECT current_period_start, current_period_end FROM billing.subscriptions WHERE id = %L$$, :'paid'), 'and the period is its own');
SELECT billing.record_usage('paid', 'api_calls', 40) AS recorded \gset
SELECT billing.record_usage('paid', 'storage', 40) AS recorded \gset
SELECT is((SELECT quantity FROM billing.usage_summary('paid') WHERE metric = 'api_calls'), 40::numeric, 'usage of before does not count in it');
CALL billing.advance_clock('paid', '32 days');
SELECT is((SELECT quantity FROM billing.usage_summary('paid') WHERE metric = 'api_calls'), 0::numeric, 'after the renewal calls begin at 0');
SELECT is((SELECT quantity FROM billing.usage_summary('paid') WHERE metric = 'storage'), 40::numeric, 'while storage is what it was');

SELECT billing.create_plan('none', 'Nothing', 100, features => '{"api_calls": 0}') AS none \gset
SELECT billing.subscribe('none', 'none', 'pm_card_visa') AS subscription \gset
CALL billing.run_worker();
SELECT is((SELECT percentage FROM billing.usage_summary('none') WHERE metric = 'api_calls'), 0.00, 'nothing of nothing is 0 %');
SELECT billing.record_usage('none', 'api_calls') AS recorded \gset
SELECT is((SELECT percentage FROM billing.usage_summary('none') WHERE metric = 'api_calls'), 'Infinity'::numeric, 'something of nothing is infinitely much');
SELECT is((SELECT "limit" FROM billing.usage_summary('none') WHERE metric = 'users'), 0::numeric, 'what is not in the plan is limited to 0');
SELECT results_eq($$SELECT o, (SELECT quantity FROM billing.usage_summary(o) WHERE metric = 'users') FROM (VALUES ('zero'), ('paid')) AS v (o)$$,
	$$VALUES ('zero', 4::numeric), ('paid', 0)$$, 'usage joins the application''s own tables in one query');

-- ---------------------------------------------------------------------------
-- A dumped row takes the place of a built-in one; constraints of the application stay immediate.

CREATE TABLE application (n integer UNIQUE DEFERRABLE INITIALLY IMMEDIATE);
INSERT INTO application VALUES (1);
BEGIN;
INSERT INTO billing.meters (metric, aggregation, carried, unit) VALUES ('teams', 'latest', true, 'teams');
SELECT fails('INSERT INTO application VALUES (1)', '23505', 'application_n_key', NULL, 'loading a built-in row defers no constraint of the application');
COMMIT;

SELECT * FROM finish();

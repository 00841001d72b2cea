-- Hard limits: consume(), check_quota(), reservations; periods by the test clock.
\ir helpers.psql
SELECT plan(91);

INSERT INTO billing.features (feature, kind) VALUES ('jobs', 'limit'), ('runs', 'limit'), ('disk', 'limit'), ('flag', 'boolean');
SELECT count(billing.set_plan_feature(p, f, v)) AS set
FROM (VALUES ('free', 'jobs', '10'), ('pro', 'jobs', '100'), ('free', 'runs', '3'), ('free', 'disk', '5'), ('free', 'users', '3'), ('free', 'flag', 'true')) AS v (p, f, v) \gset

CREATE FUNCTION used(name text, metric text DEFAULT 'jobs') RETURNS numeric
LANGUAGE sql RETURN (SELECT s.quantity FROM billing.usage_summary(name) AS s WHERE s.metric = used.metric);
CREATE FUNCTION counter(name text, metric text DEFAULT 'jobs') RETURNS text
LANGUAGE sql RETURN (SELECT c.used || '+' || c.reserved FROM billing.usage_counters AS c WHERE c.organization_id = name AND c.metric = counter.metric);

-- ---------------------------------------------------------------------------
-- Metrics

SELECT is(billing.create_meter('jobs', unit => 'jobs', enforced => true), true, 'a metric is made');
SELECT is(billing.create_meter('jobs', unit => 'jobs', enforced => true), false, 'and is there already');
SELECT is(billing.create_meter('jobs', unit => 'jobs'), false, 'also for somebody who does not ask for enforcement');
SELECT ok((SELECT enforced FROM billing.meters WHERE metric = 'jobs'), 'which stays on');
SELECT fails($$SELECT billing.create_meter('jobs', 'count')$$, '23505', 'metric "jobs" exists', 'make a new metric', 'another one has another name');
SELECT fails($$SELECT billing.create_meter('Jobs')$$, '22023', '"Jobs" cannot name a metric', 'small letter', 'a bad name');
SELECT fails($$SELECT billing.create_meter('a', 'average')$$, '22023', 'unknown aggregation "average"', 'sum, count', 'a bad aggregation');
SELECT fails($$SELECT billing.create_meter('a', 'unique')$$, '22023', 'property', NULL, 'unique of nothing');
SELECT fails($$SELECT billing.create_meter('a', 'weighted', dimensions => '{b}')$$, '22023', 'dimensions', NULL, 'dimensions of a weighted one');
SELECT fails($$SELECT billing.create_meter('a', 'latest', enforced => true)$$, '22023', 'metric "a" cannot be enforced', 'check_quota', 'a level is not enforced');
SELECT fails($$SELECT billing.create_meter(NULL)$$, '23502', 'metric must be given', NULL, 'no name');
SELECT is(billing.create_meter('runs', 'count'), true, 'one that counts events');
SELECT is(billing.create_meter('disk', carried => true), true, 'one that goes on for ever');
SELECT is(billing.create_meter('free', description => 'no feature limits it'), true, 'one without a limit');
SELECT fails($$UPDATE billing.meters SET enforced = false WHERE metric = 'jobs'$$, 'JB008', 'metric "jobs" is enforced', 'unlimited', 'enforced stays on');
SELECT fails($$UPDATE billing.meters SET enforced = true WHERE metric = 'users'$$, '23514', '', NULL, 'and is not for levels');

-- ---------------------------------------------------------------------------
-- consume()

SELECT is(billing.consume('acme', 'jobs'), true, 'one is counted');
SELECT is(billing.consume('acme', 'jobs', 8.5), true, 'and many');
SELECT is(billing.consume('acme', 'jobs', 0.6), false, 'what does not fit is not');
SELECT is(billing.consume('acme', 'jobs', 0.5), true, 'what fits is, to the last');
SELECT is(used('acme'), 10::numeric, 'they are events');
SELECT is(counter('acme'), '10.0+0', 'and in the counter');
SELECT is((SELECT count(*) FROM billing.usage_events WHERE organization_id = 'acme'), 3::bigint, 'false writes nothing');
SELECT is((SELECT count(*) FROM generate_series(1, 30) AS i WHERE billing.consume('many', 'jobs')), 10::bigint, 'one statement stops at the limit, too');
SELECT is(counter('many'), '10+0', 'exactly');
SELECT is(billing.consume('acme', 'free', 1e12), true, 'without a limit everything fits');
SELECT is((SELECT count(*) FROM generate_series(1, 5) AS i WHERE billing.consume('acme', 'runs')), 3::bigint, 'events are counted one by one');
SELECT fails($$SELECT billing.consume('acme', 'runs', 2)$$, '22023', 'quantity of metric "runs" is not 1', 'once for each', 'which is what quantity says');
SELECT is(billing.consume('key', 'jobs', 9, 'k'), true, 'with a key');
SELECT is(billing.consume('key', 'jobs', 9, 'k'), true, 'that was counted before: it was consumed');
SELECT is(billing.consume('key', 'jobs', -1, 'k'), true, 'whatever the rest says');
SELECT is(billing.consume('key', 'jobs', 2, 'l'), false, 'a key that does not fit');
SELECT is(billing.record_usage('key', 'jobs', 1, idempotency_key => 'l'), true, 'is free again');
SELECT is(counter('key'), '10+0', 'all is counted once');
SELECT is(billing.consume('key', 'free', properties => '{"a": 1}'), true, 'properties');
SELECT is((SELECT properties FROM billing.usage_events WHERE organization_id = 'key' AND metric = 'free'), '{"a": 1}', 'are kept');

SELECT fails(format('SELECT billing.consume(%s)', arguments), code, message, NULL, 'refused: ' || arguments)
FROM (VALUES ($$'acme', 'nothing'$$, 'JB005', 'unknown metric'), ($$'acme', 'jobs', 0$$, '22023', 'cannot be counted'), ($$'acme', 'jobs', -1$$, '22023', 'cannot be counted'),
	($$'acme', 'jobs', 'NaN'$$, '22023', 'cannot be counted'), ($$'acme', 'jobs', 'Infinity'$$, '22023', 'cannot be counted'), ($$'acme', 'jobs', 1e40$$, '22023', 'cannot be counted'),
	($$'acme', 'jobs', 0.0000000000001$$, '22023', 'too many decimals'), ($$NULL, 'jobs'$$, '23502', 'organization_id'), ($$'acme', NULL$$, '23502', 'metric'),
	($$'acme', 'jobs', NULL$$, '23502', 'quantity'), ($$'acme', 'jobs', 1, ''$$, '22023', 'idempotency_key'), ($$'acme', 'users'$$, '22023', 'cannot be consumed')) AS v (arguments, code, message);

-- ---------------------------------------------------------------------------
-- The shipped metric is enforced by its first use

SELECT billing.record_usage('old', 'api_calls', 9000) AS recorded \gset
SELECT billing.record_usage('old', 'api_calls', 500, now() - interval '50 days') AS recorded \gset
SELECT is(billing.consume('old', 'api_calls', 1001), false, 'what was recorded before counts, of this period');
SELECT is(billing.consume('old', 'api_calls', 1000), true, 'exactly');
SELECT ok((SELECT enforced AND NOT builtin FROM billing.meters WHERE metric = 'api_calls'), 'it is enforced now');

-- ---------------------------------------------------------------------------
-- Other ways in change the counter as well

SELECT billing.consume('ways', 'jobs', 1) AS consumed \gset
SELECT billing.record_usage_batch(ARRAY['ways', 'ways', 'new'], ARRAY['jobs', 'jobs', 'jobs'], ARRAY[2, 3, 4]::numeric[], ARRAY[now(), now() - interval '80 days', now()]) AS counted \gset
SELECT is(counter('ways'), '3+0', 'a batch does, but for what is of another time');
SELECT is(billing.consume('new', 'jobs', 7), false, 'an organisation that came by a batch has its counter, too');
SELECT is(billing.record_usage('ways', 'jobs', 20), true, 'record_usage() may exceed the limit');
SELECT is(billing.consume('ways', 'jobs', 0.1), false, 'after which nothing fits');
SELECT id AS event FROM billing.usage_events WHERE organization_id = 'ways' AND quantity = 20 \gset
SELECT billing.correct_usage('ways', :'event', 5) IS NOT NULL AS corrected \gset
SELECT is(counter('ways'), '8+0', 'a correction corrects it');
SELECT billing.void_usage('ways', :'event') AS voided \gset
SELECT is(counter('ways'), '3+0', 'a void takes it away');
INSERT INTO billing.usage_import (organization_id, metric, quantity) VALUES ('ways', 'jobs', 4), ('ways', 'jobs', 2);
SELECT is(counter('ways'), '9+0', 'COPY''s way adds');
SELECT is((SELECT string_agg(c.organization_id, ',') FROM billing.usage_counters AS c WHERE c.period_start > '-infinity' AND c.used <> used(c.organization_id, c.metric)), NULL, 'every counter is what the events come to');
SELECT billing.record_usage('disk', 'disk', 4, now() - interval '70 days') AS recorded \gset
SELECT is(billing.consume('disk', 'disk', 2), false, 'what is carried counts from ever');
SELECT is(billing.consume('disk', 'disk', 1), true, 'and fits once');

-- ---------------------------------------------------------------------------
-- check_quota()

SELECT results_eq($$SELECT q, billing.check_quota('key', 'jobs', q) FROM unnest('{0,1}'::numeric[]) AS q$$, $$VALUES (0::numeric, true), (1, false)$$, 'of a full one');
SELECT results_eq($$SELECT o FROM (VALUES ('acme'), ('nobody')) AS v (o) WHERE billing.check_quota(o, 'jobs')$$, $$VALUES ('nobody')$$, 'in WHERE');
SELECT billing.record_usage('acme', 'users', 2) AS recorded \gset
SELECT ok(billing.check_quota('acme', 'users') AND NOT billing.check_quota('acme', 'users', 2), 'of a level, which is not enforced');
SELECT ok(billing.check_quota('acme', 'free', 1e29), 'without a limit');
SELECT fails($$SELECT billing.check_quota('acme', 'jobs', -1)$$, '22023', 'cannot be counted', NULL, 'less than nothing');
SELECT fails($$SELECT billing.check_quota('acme', 'nothing')$$, 'JB005', 'unknown metric "nothing"', 'jobs', 'of nothing');

-- ---------------------------------------------------------------------------
-- Reservations

SELECT billing.reserve_usage('res', 'jobs', 6) AS first \gset
SELECT fails($$SELECT billing.reserve_usage('res', 'jobs', 5)$$, 'JB003', '5 more of metric "jobs" does not fit', 'Reserve less', 'a reservation that does not fit');
SELECT ok(NOT billing.consume('res', 'jobs', 5) AND NOT billing.check_quota('res', 'jobs', 5) AND billing.consume('res', 'jobs', 4), 'what is reserved is in nobody''s hands');
SELECT fails(format('SELECT billing.commit_reservation(%L, 7)', :'first'), 'JB003', '1 more', NULL, 'more than was reserved has to fit');
SELECT isnt(billing.commit_reservation(:'first', 2, organization_id => 'res'), NULL, 'less may be used');
SELECT is(counter('res'), '6+0', 'and the rest is free');
SELECT fails(format('SELECT billing.commit_reservation(%L)', :'first'), 'JB008', 'is committed', NULL, 'once');
SELECT billing.reserve_usage('res', 'jobs', 1) AS second \gset
SELECT is(billing.release_reservation(:'second'), true, 'another is released');
SELECT is(billing.release_reservation(:'second', 'res'), false, 'once');
SELECT fails($$SELECT billing.release_reservation(gen_random_uuid())$$, 'JB005', 'unknown reservation', NULL, 'one that there is not');
SELECT fails($$SELECT billing.reserve_usage('res', 'jobs', 1, '-1 hour')$$, '22023', 'expires_in', 'above 0', 'one that ends before it begins');

-- An expired one, by the test clock of its organisation.
SELECT billing.create_customer('timed') IS NOT NULL AS made \gset
SELECT billing.subscribe('timed', 'free') IS NOT NULL AS subscribed \gset
CALL billing.run_worker();
SELECT billing.reserve_usage('timed', 'jobs', 10, '1 hour') AS third \gset
CALL billing.advance_clock('timed', '59 minutes');
SELECT is(billing.check_quota('timed', 'jobs'), false, 'a reservation holds until');
UPDATE billing.usage_reservations SET expires_at = expires_at - interval '1 minute' WHERE id = :'third';
SELECT is(billing.check_quota('timed', 'jobs'), true, 'it has expired, at once');
SELECT fails(format('SELECT billing.commit_reservation(%L)', :'third'), 'JB008', 'is expired', 'consume', 'then nothing of it is left');
SELECT is(billing.consume('timed', 'jobs', 10), true, 'for consume() either');
SELECT is((SELECT state FROM billing.usage_reservations WHERE id = :'third'), 'expired', 'which ends it');
SELECT is(counter('timed'), '10+0', 'in the counter');

-- ---------------------------------------------------------------------------
-- Periods and plans

SELECT period_end AS end FROM billing.usage_counters WHERE organization_id = 'timed' \gset
CALL billing.set_clock('timed', :'end');
SELECT is(billing.consume('timed', 'jobs', 10), true, 'a new period starts at nothing');
SELECT is(billing.consume('timed', 'jobs'), false, 'up to the limit');
SELECT results_eq($$SELECT used, used(organization_id) FROM billing.usage_counters WHERE organization_id = 'timed'$$, $$VALUES (10::numeric, 10::numeric)$$, 'which the counter is about');
SELECT billing.create_customer('paid') IS NOT NULL AND billing.consume('paid', 'jobs', 10) AS made \gset
SELECT is(billing.consume('paid', 'jobs'), false, 'by the default plan nothing is left');
SELECT billing.subscribe('paid', 'pro', 'pm_card_visa') IS NOT NULL AS subscribed \gset
CALL billing.run_worker();
SELECT is(status_of('paid'), 'active', 'with another plan');
SELECT is(billing.consume('paid', 'jobs', 90), true, 'more fits at once');
UPDATE billing.plan_features SET value = 'unlimited' WHERE feature = 'jobs';
SELECT is(billing.consume('timed', 'jobs', 1e20), true, 'as does another limit');
UPDATE billing.plan_features SET value = '0' WHERE feature = 'jobs';
SELECT is(billing.consume('nobody', 'jobs', 0.000001), false, 'of 0 nothing fits');
SELECT * FROM finish();

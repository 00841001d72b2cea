-- Forwarding usage to a provider: what is refused, and the story with the
-- sandbox, on a clock of its own.
\ir helpers.psql
SELECT plan(60);

INSERT INTO billing.meters (metric, aggregation, carried, property) VALUES
	('f_sum', 'sum', false, NULL), ('f_count', 'count', false, NULL), ('f_level', 'latest', false, NULL), ('f_seats', 'latest', true, NULL),
	('f_max', 'max', false, NULL), ('f_people', 'unique', false, 'person'), ('f_rent', 'weighted', false, NULL), ('f_total', 'sum', true, NULL);
SELECT billing.configure_provider('stripe', 'sk_test_x', 'whsec_x', base_url => 'http://127.0.0.1:1') IS NOT NULL AS stripe \gset
SELECT billing.configure_provider('conekta', 'key_test', NULL, base_url => 'http://127.0.0.1:1', options => '{"sandbox": true}') IS NOT NULL AS conekta \gset
SELECT billing.configure_provider('polar', 'polar_oat_x', 'polar_whs_x', base_url => 'http://127.0.0.1:1', options => '{"sandbox": true}') IS NOT NULL AS polar \gset

-- ---------------------------------------------------------------------------
-- Refusals

SELECT fails($$SELECT billing.forward_usage('f_none', 'stripe')$$, 'JB005', 'unknown metric "f_none"', 'billing.meters', 'an unknown metric is refused');
SELECT fails($$SELECT billing.forward_usage('f_sum', 'paypal')$$, 'JB005', 'unknown provider "paypal"', NULL, 'so is an unknown provider');
SELECT fails($$SELECT billing.forward_usage('f_sum', 'stripe', 'other')$$, 'JB006', 'stripe', NULL, 'and an account that is not configured');
SELECT fails($$SELECT billing.forward_usage(NULL, 'stripe')$$, '23502', 'metric must be given', NULL, 'the metric must be given');
SELECT fails($$SELECT billing.forward_usage('f_sum', NULL)$$, '23502', 'provider must be given', NULL, 'the provider must be given');
SELECT fails($$SELECT billing.forward_usage('f_sum', 'stripe', since => NULL)$$, '23502', 'since must be given', NULL, 'since must not be NULL');
SELECT fails($$SELECT billing.forward_usage('f_max', 'stripe')$$, 'JB004', 'usage of "f_max" cannot be forwarded', 'managed_by => ''local''', 'a maximum cannot be forwarded');
SELECT fails($$SELECT billing.forward_usage('f_people', 'stripe')$$, 'JB004', 'usage of "f_people" cannot be forwarded', 'managed_by => ''local''', 'nor different values');
SELECT fails($$SELECT billing.forward_usage('f_rent', 'stripe')$$, 'JB004', 'usage of "f_rent" cannot be forwarded', 'managed_by => ''local''', 'nor an average over time');
SELECT fails($$SELECT billing.forward_usage('f_total', 'stripe')$$, 'JB004', 'usage of "f_total" cannot be forwarded', 'managed_by => ''local''', 'nor a sum that is carried over');
SELECT fails($$SELECT billing.forward_usage('f_sum', 'conekta')$$, 'JB004', 'conekta', 'managed_by => ''local''', 'Conekta bills no usage');
SELECT fails($$SELECT billing.forward_usage('f_level', 'polar')$$, 'JB004', 'polar', 'latest', 'Polar has no latest value');
SELECT fails($$SELECT billing.forward_usage('f_sum', 'stripe', event_name => 'with blanks')$$, '22023', 'event_name', 'letters', 'a name has no blanks');
SELECT fails($$SELECT billing.forward_usage('f_sum', 'stripe', event_name => '')$$, '22023', 'event_name', NULL, 'and some characters');
SELECT fails($$SELECT billing.forward_usage('f_sum', 'stripe', event_name => repeat('x', 101))$$, '22023', 'event_name', '100', 'but not too many');
SELECT fails($$SELECT billing.forward_usage('f_sum', 'stripe', event_name => '4242424242424242')$$, 'JB009', 'event_name', NULL, 'a card number is no name');
SELECT fails($$SELECT billing.forward_usage('f_sum', 'stripe', link => '4242424242424242')$$, 'JB009', 'link', NULL, 'nor is it a meter');
SELECT fails($$SELECT billing.forward_usage('f_sum', 'stripe', since => now() - interval '36 days')$$, '22023', 'since', '35 days', 'what is older than 35 days cannot be told');
SELECT fails($$SELECT billing.forward_usage('f_sum', 'stripe', since => 'infinity')$$, '22023', 'since', NULL, 'and what never begins neither');
SELECT fails($$SELECT billing.stop_forwarding('f_sum', 'stripe')$$, 'JB005', 'is not forwarded', 'billing.usage_forwarding', 'what is not forwarded cannot be stopped');
SELECT is((SELECT count(*) FROM billing.usage_forwarding), 0::bigint, 'nothing of all that is there');

SELECT billing.forward_usage('f_sum', 'stripe', event_name => 'sum') AS forwarding \gset
SELECT is((SELECT state FROM billing.usage_forwarding WHERE id = :'forwarding'), 'pending', 'the meter is made later');
SELECT is((SELECT since FROM billing.usage_forwarding WHERE id = :'forwarding'), date_trunc('hour', now(), 'UTC'), 'from the beginning of this hour on');
SELECT is((SELECT count(*) FROM billing.outbox WHERE object_id = :'forwarding' AND operation = 'meter.create'), 1::bigint, 'a request is on its way');
SELECT is(billing.forward_usage('f_sum', 'stripe', event_name => 'sum'), :'forwarding', 'the same once more is the same');
SELECT is((SELECT count(*) FROM billing.outbox WHERE object_id = :'forwarding'), 1::bigint, 'and no other request');
SELECT fails($$SELECT billing.forward_usage('f_sum', 'stripe', event_name => 'total')$$, 'JB008', 'forwarded as "sum" already', 'event_name => ''sum''', 'another name is refused');
SELECT fails($$SELECT billing.forward_usage('f_count', 'stripe', event_name => 'sum')$$, 'JB008', 'that of another metric', NULL, 'a name is of one metric');
SELECT fails($$SELECT billing.forward_usage('f_sum', 'stripe', event_name => 'sum', link => 'mtr_1')$$, 'JB008', 'being made', NULL, 'a meter that is being made is not linked to another');
SELECT is(billing.stop_forwarding('f_sum', 'stripe'), true, 'it can be stopped');
SELECT is(billing.stop_forwarding('f_sum', 'stripe'), false, 'once');
SELECT billing.forward_usage('f_level', 'stripe', link => 'mtr_1') AS linked \gset
SELECT is((SELECT operation FROM billing.outbox WHERE object_id = :'linked'), 'meter.fetch', 'a meter that is linked is looked at first');
SELECT fails($$SELECT billing.forward_usage('f_seats', 'stripe', link => 'mtr_1')$$, 'JB008', 'linked to another metric', NULL, 'and belongs to one metric');

-- ---------------------------------------------------------------------------
-- With the sandbox

UPDATE billing.settings SET value = '10 minutes' WHERE name = 'usage_forward_delay';
SELECT billing.create_customer('fw', provider => 'sandbox') AS customer \gset
CALL billing.run_worker();
CALL billing.set_clock('fw', date_trunc('hour', now()) + interval '2 days 20 minutes');
SELECT billing.attach_payment_method(:'customer', 'pm_card_visa') AS card \gset
SELECT billing.subscribe('fw', 'pro', managed_by => 'provider') AS subscription \gset
CALL billing.run_worker();
SELECT is(status_of('fw'), 'active', 'a subscription of the sandbox');
SELECT billing.forward_usage('f_sum', 'sandbox', since => now() - interval '20 days') AS played \gset
SELECT is((SELECT state FROM billing.usage_forwarding WHERE id = :'played'), 'active', 'the sandbox needs no meter');
SELECT billing.forward_usage('f_seats', 'sandbox', since => now() - interval '20 days') AS seats \gset
SELECT is((SELECT count(*) FROM billing.usage_forward_periods WHERE organization_id = 'fw'), 1::bigint, 'its period is known');

CREATE FUNCTION told(metric text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(format('%s:%s', w.revision, trim_scale(w.told)), ' ' ORDER BY w.hour, w.revision) FROM billing.usage_forwards AS w
		WHERE w.organization_id = 'fw' AND w.metric = told.metric AND w.state = 'accepted');

SELECT billing.record_usage('fw', 'f_sum', 5, billing.now('fw') - interval '1 minute') AS recorded \gset
SELECT billing.record_usage('fw', 'f_sum', 2, billing.now('fw') + interval '1 minute') AS recorded \gset
SELECT billing.record_usage('fw', 'f_sum', 3, billing.now('fw') + interval '2 minutes', 'late') AS recorded \gset
CALL billing.run_worker();
SELECT is(told('f_sum'), NULL, 'nothing is told while the hour lasts');
CALL billing.advance_clock('fw', '45 minutes');
CALL billing.run_worker();
SELECT is(told('f_sum'), NULL, 'nor some minutes after it');
CALL billing.advance_clock('fw', '1 hour 10 minutes');
CALL billing.run_worker();
SELECT is(told('f_sum'), '1:5', 'what was used since the subscription began is told with the next hour, once that is over');
SELECT is((SELECT s.state -> 'usage' -> 0 ->> 'quantity' FROM billing.sandbox_state AS s WHERE s.customer_id = :'customer'), '5', 'the sandbox has it');
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.usage_forwards WHERE organization_id = 'fw'), 1::bigint, 'once');
SELECT billing.void_usage('fw', (SELECT id FROM billing.usage_events WHERE organization_id = 'fw' AND idempotency_key = 'late')) AS gone \gset
CALL billing.run_worker();
CALL billing.advance_clock('fw', '11 minutes');
CALL billing.run_worker();
SELECT is(told('f_sum'), '1:5 2:2', 'a correction is another revision, of the whole hour');
SELECT is((SELECT difference FROM billing.usage_forwarding_status WHERE organization_id = 'fw' AND metric = 'f_sum' ORDER BY hour DESC LIMIT 1), 0::numeric, 'and nothing differs');
SELECT is(billing.forwarded_quantity('fw', 'f_sum', (SELECT max(hour) FROM billing.usage_forwards WHERE metric = 'f_sum')), 2::numeric, 'by what the hour comes to');

-- a level is told again when a period begins, although nothing has changed
SELECT billing.record_usage('fw', 'f_seats', 4, billing.now('fw')) AS recorded \gset
CALL billing.run_worker();
CALL billing.advance_clock('fw', '2 hours');
CALL billing.run_worker();
SELECT is(told('f_seats'), '1:4', 'a level is told');
CALL billing.advance_clock('fw', '33 days');
CALL billing.run_worker();
SELECT is(told('f_seats'), '1:4 1:4', 'and once more in the next period');

-- a sum is told before the period ends, and again when it has ended
SELECT current_period_end - interval '8 minutes' AS almost, current_period_end FROM billing.subscriptions WHERE id = :'subscription' \gset
CALL billing.set_clock('fw', :'almost'::timestamptz - interval '5 minutes');
SELECT billing.record_usage('fw', 'f_sum', 7, billing.now('fw')) AS recorded \gset
CALL billing.run_worker();
CALL billing.set_clock('fw', :'almost');
CALL billing.run_worker();
SELECT ok(told('f_sum') LIKE '%1:7', 'a few minutes before the end of a period all that is known is told');
SELECT billing.record_usage('fw', 'f_sum', 1, billing.now('fw')) AS recorded \gset
CALL billing.set_clock('fw', :'current_period_end'::timestamptz + interval '11 minutes');
CALL billing.run_worker();
SELECT ok(told('f_sum') LIKE '%1:7 2:8', 'and the rest a few minutes after it');
SELECT is((SELECT bool_or(after_close) FROM billing.usage_forwards WHERE metric = 'f_sum'), false, 'in time for its invoice');

SELECT is(billing.stop_forwarding('f_sum', 'sandbox'), true, 'it is stopped');
SELECT billing.record_usage('fw', 'f_sum', 9, billing.now('fw') - interval '2 hours') AS recorded \gset
CALL billing.run_worker();
CALL billing.advance_clock('fw', '3 hours');
CALL billing.run_worker();
SELECT ok(told('f_sum') LIKE '%2:8', 'and nothing more is told');

-- ---------------------------------------------------------------------------
-- What is past its retention

CREATE EXTENSION dblink;
-- A session that begins does it at once.
CREATE FUNCTION keep_house() RETURNS text
LANGUAGE sql RETURN dblink_exec(format('host=%s port=%s dbname=%s user=%s', current_setting('unix_socket_directories'), current_setting('port'), current_database(), session_user), 'CALL billing.run_worker()');
SELECT billing.forward_usage('f_sum', 'sandbox') AS played \gset
UPDATE billing.usage_forwarding SET since = '2000-01-01' WHERE metric = 'f_sum';
SELECT date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - interval '2 months' AS raw_since \gset
-- the period of everything but the last hours is over; it began in the middle of a quarter
INSERT INTO billing.usage_forward_periods (organization_id, subscription_id, starts_at, ends_at, provider, account, flushed_at) VALUES
	('past', gen_random_uuid(), :'raw_since'::timestamptz - interval '20 days 53 minutes', :'raw_since'::timestamptz - interval '10 days', 'sandbox', 'default', now()),
	('past', gen_random_uuid(), :'raw_since'::timestamptz - interval '2 days 53 minutes', now() + interval '2 days', 'sandbox', 'default', NULL);
CREATE TABLE past AS
	SELECT v.name, v.state, v.revision, v.told, date_trunc('hour', :'raw_since'::timestamptz - v.ago, 'UTC') AS hour
	FROM (VALUES ('edge', 'accepted', 1, 5, interval '20 days'), ('settled', 'accepted', 1, 5, '19 days'), ('corrected', 'failed', 1, 5, '18 days'), ('corrected', 'accepted', 2, 6, '18 days'),
			  ('refused', 'accepted', 1, 5, '17 days'), ('refused', 'failed', 2, 1, '17 days'), ('on its way', 'sent', 1, 5, '16 days'), ('too late', 'too_old', 1, 5, '15 days'),
			  ('this period', 'accepted', 1, 5, '1 day'), ('events there', 'accepted', 1, 5, '-2 days')) AS v (name, state, revision, told, ago);
INSERT INTO billing.usage_forwards (organization_id, metric, hour, provider, account, revision, quantity, told, state, after_close, identifier, customer_id, batch, accepted_at)
	SELECT 'past', 'f_sum', p.hour, 'sandbox', 'default', p.revision, sum(p.told) OVER (PARTITION BY p.hour ORDER BY p.revision), p.told, p.state, false, 'past' || p.hour || p.revision,
		   :'customer', gen_random_uuid(), CASE WHEN p.state = 'accepted' THEN now() END
	FROM past AS p;
INSERT INTO billing.usage_totals (organization_id, metric, dimensions, bucket, sum, events)
	SELECT DISTINCT 'past', 'f_sum', '{}'::jsonb, p.hour, sum(p.told) OVER (PARTITION BY p.hour), 1 FROM past AS p;
CREATE FUNCTION past_shown() RETURNS text
LANGUAGE sql RETURN (SELECT string_agg(DISTINCT format('%s: %s', p.name, s.difference), ', ') FROM billing.usage_forwarding_status AS s JOIN past AS p USING (hour) WHERE s.organization_id = 'past');
CREATE FUNCTION past_kept() RETURNS text
LANGUAGE sql RETURN (SELECT string_agg(p.name || ' ' || p.revision, ', ' ORDER BY p.name, p.revision) FROM billing.usage_forwards AS w JOIN past AS p USING (hour, revision) WHERE w.organization_id = 'past');
SELECT is(past_shown(), 'corrected: 0, edge: 0, events there: 0, on its way: 5, refused: 1, settled: 0, this period: 0, too late: 5', 'the view compares what is there');
SELECT keep_house() \gset
SELECT is((SELECT count(*) FROM billing.usage_forwards WHERE organization_id = 'past'), 10::bigint, 'as long as the events are kept, so is what was told of them');
UPDATE billing.usage_rollup_state SET raw_since = :'raw_since';
SELECT is(past_shown(), 'corrected: 0, edge: 0, events there: 0, on its way: 5, refused: 1, settled: 0, this period: 0, too late: 5', 'without the events it still compares, to what was counted last');
SELECT keep_house() \gset
SELECT is(past_kept(), 'events there 1, on its way 1, refused 1, refused 2, this period 1, too late 1', 'then hours that are settled are removed once their period is over');
SELECT is(past_shown(), 'events there: 0, on its way: 5, refused: 1, this period: 0, too late: 5', 'and what has to be looked at is shown, not what was removed');
SELECT billing.forwarded_quantity('past', 'f_sum', :'raw_since'::timestamptz + interval '2 days') AS counted \gset
SELECT is(:counted, 5, 'what is not removed is counted as ever');
SELECT is(billing.forwarded_quantity('past', 'f_level', :'raw_since'::timestamptz + interval '2 days'), 0::numeric, 'a level, too, in a period whose beginning is gone');
UPDATE billing.usage_forward_periods SET ends_at = now() - interval '1 minute' WHERE organization_id = 'past';
SELECT keep_house() \gset
SELECT is(past_kept(), 'events there 1, on its way 1, refused 1, refused 2, too late 1', 'the rest when its period is over, too');
SELECT ok((SELECT count(*) > 0 FROM billing.usage_forwards WHERE organization_id = 'fw'), 'others keep theirs');

SELECT * FROM finish();

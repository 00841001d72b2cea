-- Soft limits: an alert for each threshold that is reached, once per period.
\ir helpers.psql
SELECT plan(44);
UPDATE billing.settings SET value = '50 years' WHERE name = 'usage_retention';

CREATE FUNCTION raised(organization text, wanted text DEFAULT 'api_calls') RETURNS numeric[]
LANGUAGE sql RETURN ARRAY(SELECT a.threshold FROM billing.usage_alerts AS a WHERE a.organization_id = organization AND a.metric = wanted ORDER BY a.id);
CREATE FUNCTION use(organization text, quantity numeric, metric text DEFAULT 'api_calls') RETURNS boolean
LANGUAGE sql RETURN billing.record_usage(organization, metric, quantity);

-- ---------------------------------------------------------------------------
-- Sums; the plan free has 10000 calls

SELECT use('acme', 4999.9) AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('acme'), '{}', 'below the first threshold nothing is said');
SELECT use('acme', 0.1) AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('acme'), '{50}', 'half of the limit is said at once when it is reached');
SELECT row_eq($$SELECT metric, period_start, period_end, threshold, quantity, "limit" FROM billing.usage_alerts WHERE organization_id = 'acme'$$,
	ROW('api_calls'::text, date_trunc('month', now(), 'UTC'), (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC', 50::numeric, 5000::numeric, 10000::numeric),
	'with the period, what was used, and the limit');
SELECT row_eq($$SELECT e.type, e.object, e.organization_id, e.before_state, e.after_state FROM billing.events AS e JOIN billing.usage_alerts AS a ON a.id = e.id$$,
	ROW('usage.threshold_reached'::text, 'usage_alert'::text, 'acme'::text, NULL::text, '50'::text), 'and as an event');
SELECT use('acme', 1) AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('acme'), '{50}', 'and once');
SELECT use('acme', 4500) AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('acme'), '{50,75,90}', 'thresholds that are reached together are all said, the lowest first');
SELECT results_eq($$SELECT before_state, after_state FROM billing.events WHERE type = 'usage.threshold_reached' AND organization_id = 'acme' ORDER BY seq$$,
	$$VALUES (NULL, '50'), ('50', '75'), ('75', '90')$$, 'each event names the one before');
SELECT use('acme', 1000000) AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('acme'), '{50,75,90,100}', 'the last is the limit itself');
SELECT is((SELECT count(*) FROM billing.usage_alert_marks), 0::bigint, 'nothing is left to look at');

SELECT billing.record_usage('late', 'api_calls', 20000, date_trunc('month', now(), 'UTC') - interval '1 second') AS used \gset
SELECT use('unlimited', 1) AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('late'), '{}', 'what counts in another period raises nothing in this one');

SELECT use('voided', 9600) AS used \gset
SELECT billing.void_usage('voided', id) AS done FROM billing.usage_events WHERE organization_id = 'voided' \gset
SELECT use('voided', 4900) AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('voided'), '{}', 'what was void before anybody looked was never there');

-- ---------------------------------------------------------------------------
-- Levels

SELECT use('disk', 600000000, 'storage') AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT use('disk', 1, 'storage') AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT use('disk', 800000000, 'storage') AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('disk', 'storage'), '{50,75}', 'a level that goes down and up again says each threshold once');
SELECT billing.record_usage('carried', 'users', 3, now() - interval '40 days') AS used \gset
SELECT use('carried', 1) AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('carried', 'users'), '{50,75,90,100}', 'a level from before the period holds in it');

-- ---------------------------------------------------------------------------
-- Limits that are none, that are 0, and that change

SELECT billing.create_plan('closed', 'Closed', 0, features => '{"api_calls": 0, "users": "unlimited"}') AS plan \gset
SELECT billing.create_plan('wide', 'Wide', 0, features => '{"api_calls": "unlimited"}') AS plan \gset
SELECT billing.create_plan('narrow', 'Narrow', 1000, features => '{"api_calls": 100}') AS plan \gset
SELECT billing.create_plan('small', 'Small', 0, features => '{"api_calls": 100}') AS plan \gset
SELECT count(billing.create_customer(o)) FROM string_to_table('shut open moving staying', ' ') AS o \gset
SELECT billing.subscribe('shut', 'closed') AS shut, billing.subscribe('open', 'wide') AS open \gset
CALL billing.run_worker();
SELECT use('shut', 0, 'users'), use('shut', 0.5), use('open', 1e12) \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('shut'), '{50,75,90,100}', 'of what is not in the plan anything is too much');
SELECT is(raised('shut', 'users') || raised('open'), '{}', 'of what is unlimited nothing is');

SELECT billing.set_plan_feature('wide', 'api_calls', '2000000000000');
SELECT use('open', 1) AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('open'), '{50}', 'a lower limit is reached with the next usage');
SELECT billing.set_plan_feature('wide', 'api_calls', '10000000000000');
SELECT use('open', 1) AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT billing.set_plan_feature('wide', 'api_calls', '1100000000000');
SELECT use('open', 1) AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('open'), '{50,75,90}', 'a higher one takes nothing back, and nothing is said again');
SELECT results_eq($$SELECT "limit" FROM billing.usage_alerts WHERE organization_id = 'open' ORDER BY id$$, $$VALUES (2e12::numeric), (1.1e12), (1.1e12)$$, 'each has the limit of its moment');

-- a plan that begins, with usage that is there
SELECT count(billing.record_usage(o, 'api_calls', 80, greatest(now() - interval '1 hour', date_trunc('month', now(), 'UTC')))) AS used FROM string_to_table('moving staying', ' ') AS o \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('moving') || raised('staying'), '{}', 'what is little for one plan');
SELECT billing.subscribe('staying', 'small', managed_by => 'provider') AS staying, billing.subscribe('moving', 'narrow', 'pm_card_visa') AS moving \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('staying'), '{50,75}', 'is much for another, which is said without new usage');
SELECT is(raised('moving'), '{}', 'but not where a new period begins');
SELECT billing.record_usage('moving', 'api_calls', 60, s.current_period_start) AS used FROM billing.subscriptions AS s WHERE s.id = :'moving' \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('moving'), '{50}', 'in which it counts anew');
UPDATE billing.plan_features SET value = '75' WHERE plan_id = (SELECT id FROM billing.plans WHERE plan = 'narrow');
UPDATE billing.subscriptions SET quantity = 2 WHERE id = :'moving';
CALL billing.run_worker();
CALL settle();
SELECT is(raised('moving'), '{50,75}', 'a subscription that changes is looked at without new usage');
UPDATE billing.subscriptions SET current_period_start = current_period_start - interval '1 day' WHERE id = :'moving';
CALL billing.run_worker();
CALL settle();
SELECT is((SELECT count(DISTINCT period_start) FROM billing.usage_alerts WHERE organization_id = 'moving'), 2::bigint, 'and so is a period that begins');

-- ---------------------------------------------------------------------------
-- Thresholds

SELECT billing.set_usage_thresholds('{120, 20, 20.00}', 'api_calls', 'own');
SELECT is((SELECT thresholds FROM billing.usage_thresholds WHERE organization_id = 'own'), '{20,120}', 'thresholds are kept in order, each once');
SELECT use('own', 11999) AS used \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('own'), '{20}', 'an organisation has its own for a metric');
SELECT billing.set_usage_thresholds('{10}', organization_id => 'own');
CALL billing.run_worker();
CALL settle();
SELECT is(raised('own'), '{20}', 'which go before those that it has for all');
SELECT billing.set_usage_thresholds('{119.99}', 'api_calls', 'own');
CALL billing.run_worker();
CALL settle();
SELECT is(raised('own'), '{20,119.99}', 'new ones are looked at without new usage');
SELECT billing.set_usage_thresholds(NULL, 'api_calls', 'own');
CALL billing.run_worker();
CALL settle();
SELECT is(raised('own'), '{20,119.99,10}', 'without them those for all its metrics count');
SELECT billing.set_usage_thresholds('{33}', 'api_calls');
SELECT billing.set_usage_thresholds('{}');
SELECT use('any', 3300), use('any', 3, 'users') \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('any'), '{33}', 'a metric has its own for all organisations');
SELECT is(raised('any', 'users'), '{}', 'and there may be none');
SELECT billing.set_usage_thresholds(NULL);
SELECT is((SELECT thresholds FROM billing.usage_thresholds WHERE organization_id = '' AND metric = ''), '{50,75,90,100}', 'as at first');
SELECT fails($$SELECT billing.set_usage_thresholds('{50}', 'nope')$$, 'JB005', 'unknown metric "nope"', 'api_calls, storage', 'an unknown metric is refused');
SELECT fails($$SELECT billing.set_usage_thresholds('{50, 0}')$$, '22023', 'thresholds cannot be', '\{50,75,90,100\}', 'and a threshold of nothing');
SELECT fails($$SELECT billing.set_usage_thresholds('{NaN}')$$, '22023', 'thresholds cannot be', NULL, 'and of no number');
SELECT fails($$SELECT billing.set_usage_thresholds('{50, NULL}')$$, '22023', 'thresholds cannot be', NULL, 'and of NULL');
SELECT fails($$SELECT billing.set_usage_thresholds('{{50, 60}}')$$, '22023', 'thresholds cannot be', NULL, 'and a table of them');
SELECT fails($$SELECT billing.set_usage_thresholds(array_agg(i)) FROM generate_series(1::numeric, 21) AS i$$, '22023', 'thresholds cannot be', 'At most 20', 'and too many');
SELECT fails($$SELECT billing.set_usage_thresholds('{50}', organization_id => '')$$, '22023', 'organization_id is empty', 'Leave it out', 'and an organisation without id');
SELECT fails($$DELETE FROM billing.usage_thresholds WHERE organization_id = '' AND metric = ''$$, 'JB008', 'cannot be deleted', '\{\}', 'the row for all stays');

-- ---------------------------------------------------------------------------
-- Who sees what

CREATE ROLE alerts_tenant;
SELECT billing.grant_access('alerts_tenant', 'tenant');
SET ROLE alerts_tenant;
SET janua_billing.organization_id = 'own';
SELECT is((SELECT array_agg(DISTINCT organization_id) FROM billing.usage_alerts), '{own}', 'a tenant sees its own alerts');
SELECT fails($$SELECT billing.set_usage_thresholds('{1}', organization_id => 'own')$$, '42501', 'permission denied', NULL, 'and sets nothing');
RESET ROLE;

SELECT is((SELECT count(*) FROM billing.usage_alerts AS a WHERE NOT EXISTS (SELECT FROM billing.events AS e WHERE e.id = a.id AND e.type = 'usage.threshold_reached')), 0::bigint, 'every alert has its event');
SELECT is((SELECT count(*) FROM billing.events WHERE type = 'usage.threshold_reached'), (SELECT count(*) FROM billing.usage_alerts), 'and no event is without one');
SELECT * FROM finish();

-- Entitlements: plain predicates over what an organisation has bought.
\ir helpers.psql
SELECT plan(46);

SELECT count(billing.create_customer(o)) AS customers FROM string_to_table('free paid big late over more sleep test', ' ') AS o \gset
SELECT billing.subscribe('paid', 'pro', 'pm_card_visa') AS paid \gset
SELECT billing.subscribe('big', 'enterprise', 'pm_card_visa', amount => 100000) AS big \gset
SELECT billing.subscribe('late', 'pro', 'pm_card_chargeCustomerFail', trial_days => 1) AS late \gset
SELECT billing.subscribe('over', 'pro') AS over \gset
SELECT billing.subscribe('sleep', 'pro', trial_days => 1, trial_end_behavior => 'pause') AS sleep \gset
BEGIN;
SELECT billing.subscribe('more', 'pro', 'pm_card_visa') AS more \gset
SELECT ok(NOT billing.has_feature('more', 'sso'), 'a subscription that is not confirmed gives nothing yet');
COMMIT;
CALL billing.run_worker();

SELECT ok(billing.has_feature('paid', 'sso'), 'a boolean of the plan is there');
SELECT ok(NOT billing.has_feature('free', 'sso'), 'one that is false is not');
SELECT ok(billing.has_feature('free', 'users'), 'a limit above 0 is there');
SELECT ok(billing.has_feature('free', 'support_level'), 'a text is there');
SELECT ok(billing.has_feature('big', 'storage'), 'an unlimited limit is there');
SELECT ok(NOT billing.has_feature('nobody', 'sso'), 'an organisation without a customer has what is free');
SELECT is(billing.feature_limit('nobody', 'users'), 3::numeric, 'which are three users');

SELECT is(billing.feature_limit('paid', 'storage'), 50000000000::numeric, 'a limit is a number');
SELECT is(billing.feature_limit('big', 'users'), 'Infinity'::numeric, 'unlimited is Infinity');
SELECT ok(1e29 < billing.feature_limit('big', 'users'), 'which compares as it should');
SELECT is(billing.feature_value('paid', 'support_level'), 'email', 'a text has a value');
SELECT is(billing.feature_value('paid', 'sso'), 'true', 'so has a boolean');
SELECT is(billing.feature_value('big', 'users'), 'unlimited', 'and an unlimited limit');
SELECT is(billing.feature_value('free', 'users'), '3', 'and a limit');

SELECT fails($$SELECT billing.has_feature('paid', 'flying')$$, 'JB005', 'unknown feature "flying"', 'api_calls, sso, storage, support_level, teams, users', 'an unknown feature is refused, and those that there are are listed');
SELECT fails($$SELECT billing.feature_limit('paid', 'flying')$$, 'JB005', 'unknown feature', NULL, 'by feature_limit, too');
SELECT fails($$SELECT billing.feature_value('paid', 'flying')$$, 'JB005', 'unknown feature', NULL, 'and by feature_value');
SELECT fails($$SELECT billing.feature_limit('paid', 'sso')$$, '22023', 'feature "sso" is no limit', 'has_feature', 'a boolean is no limit');
SELECT fails($$SELECT billing.has_feature(NULL, 'sso')$$, '23502', 'organization_id must be given', NULL, 'nobody has no features');
SELECT fails($$SELECT billing.has_feature('paid', NULL)$$, '23502', 'feature must be given', NULL, 'no feature is none');

-- ---------------------------------------------------------------------------
-- A predicate in a query, a policy and a trigger

CREATE TABLE organizations (id text PRIMARY KEY, seats integer);
INSERT INTO organizations VALUES ('free', 2), ('paid', 20), ('big', 9000), ('nobody', 5);
SELECT results_eq($$SELECT id FROM organizations WHERE billing.has_feature(id, 'sso') ORDER BY id$$, $$VALUES ('big'), ('paid')$$, 'has_feature works in a WHERE clause');
SELECT results_eq($$SELECT id FROM organizations WHERE seats > billing.feature_limit(id, 'users') ORDER BY id$$, $$VALUES ('nobody')$$, 'so does feature_limit');
-- In a parallel worker; the setting that makes one has another name since PostgreSQL 16.
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN ' || query; END $$;
SELECT CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'force_parallel_mode' ELSE 'debug_parallel_query' END AS parallel \gset
SET :parallel = on;
SELECT array_agg(id ORDER BY id) AS ids FROM organizations
WHERE billing.has_feature(id, 'sso') AND billing.feature_limit(id, 'users') > 0 AND billing.feature_value(id, 'sso') = 'true' \gset
SELECT count(*) AS gathers FROM plan_of($$SELECT id FROM organizations
	WHERE billing.has_feature(id, 'sso') AND billing.feature_limit(id, 'users') > 0 AND billing.feature_value(id, 'sso') = 'true'$$) AS line WHERE line ~ 'Gather' \gset
RESET :parallel;
SELECT is(:gathers, 1, 'a query with all three may run in parallel workers');
SELECT is(:'ids'::text, '{big,paid}', 'and does');
CREATE FUNCTION check_seats() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.seats > billing.feature_limit(NEW.id, 'users') THEN
		RAISE EXCEPTION 'the plan has no more seats';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER check_seats BEFORE UPDATE ON organizations FOR EACH ROW EXECUTE FUNCTION check_seats();
SELECT throws_ok($$UPDATE organizations SET seats = 26 WHERE id = 'paid'$$, 'the plan has no more seats', 'in a trigger of the application');
SELECT lives_ok($$UPDATE organizations SET seats = 25 WHERE id = 'paid'$$, 'up to the limit');

-- ---------------------------------------------------------------------------
-- Through the life of a subscription

SELECT ok(billing.has_feature('late', 'sso'), 'a trial has the features');
CALL billing.advance_clock('late', '1 day 1 minute');
SELECT is(status_of('late'), 'past_due', 'a payment fails');
SELECT ok(billing.has_feature('late', 'sso'), 'and there is a grace');
CALL billing.advance_clock('late', '8 days');
SELECT is(status_of('late'), 'unpaid', 'after the last try it is over');
SELECT ok(NOT billing.has_feature('late', 'sso'), 'and what is free is left');
SELECT is(billing.feature_limit('late', 'users'), 3::numeric, 'with its limits');
SELECT is(status_of('over'), 'incomplete', 'a subscription that waits for its first payment');
SELECT ok(NOT billing.has_feature('over', 'sso'), 'gives nothing');
CALL billing.advance_clock('sleep', '2 days');
SELECT is(status_of('sleep'), 'paused', 'a subscription that is paused');
SELECT ok(NOT billing.has_feature('sleep', 'sso'), 'gives nothing either');
SELECT billing.cancel_subscription(:'paid');
CALL billing.run_worker();
SELECT ok(billing.has_feature('paid', 'sso'), 'a cancellation at the end of the period leaves the features until then');
CALL billing.advance_clock('paid', '32 days');
SELECT ok(NOT billing.has_feature('paid', 'sso'), 'and not after that');

-- ---------------------------------------------------------------------------
-- Several plans, and changes of a plan

SELECT billing.create_plan('extra', 'Extra users', 500, plan_group => 'addons', features => '{"users": 100, "hotline": true, "support_level": "phone"}') AS extra \gset
SELECT billing.subscribe('more', 'extra', 'pm_card_visa') AS extra \gset
CALL billing.run_worker();
SELECT is(billing.feature_limit('more', 'users'), 100::numeric, 'of two plans the larger limit counts');
SELECT ok(billing.has_feature('more', 'sso') AND billing.has_feature('more', 'hotline'), 'and what either has');
SELECT billing.set_plan_feature('pro', 'hotline', 'true');
SELECT ok(billing.has_feature('more', 'hotline'), 'a feature that a plan gets is there at once');
SELECT billing.set_plan_feature('pro', 'sso', 'false');
SELECT ok(NOT billing.has_feature('more', 'sso'), 'and one that it loses is gone');

-- ---------------------------------------------------------------------------
-- Test and live

SELECT ok(billing.has_feature('more', 'hotline'), 'a subscription of the sandbox entitles while there is no live account');
SELECT billing.configure_provider('stripe', 'sk_live_of_nobody', base_url => 'http://127.0.0.1:9');
SELECT ok(NOT billing.has_feature('more', 'hotline'), 'and not any more when there is one');
SET janua_billing.allow_sandbox = on;
SELECT ok(billing.has_feature('more', 'hotline'), 'unless the setting janua_billing.allow_sandbox is on');

SELECT * FROM finish();

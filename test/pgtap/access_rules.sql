-- What the state of a subscription means for access, and the grace of a failed payment.
\ir helpers.psql
SELECT plan(47);

SELECT count(billing.create_customer(o)) AS customers FROM string_to_table('late later asleep states ends', ' ') AS o \gset
SELECT billing.subscribe('late', 'pro', 'pm_card_chargeCustomerFail', trial_days => 1) AS late \gset
SELECT billing.subscribe('later', 'pro', 'pm_card_chargeCustomerFail', trial_days => 1) AS later \gset
SELECT billing.subscribe('asleep', 'pro', 'pm_card_visa') AS asleep \gset
SELECT billing.subscribe('states', 'pro', 'pm_card_visa', managed_by => 'provider') AS states \gset
CALL billing.run_worker();

-- ---------------------------------------------------------------------------
-- As shipped: past_due for as long as it lasts

SELECT results_eq($$SELECT status, gives_access, grace FROM billing.access_rules ORDER BY status COLLATE "C"$$,
	$$VALUES ('active', true, NULL::interval), ('canceled', false, NULL), ('incomplete', false, NULL), ('incomplete_expired', false, NULL),
			 ('past_due', true, NULL), ('paused', false, NULL), ('trialing', true, NULL), ('unpaid', false, NULL)$$, 'every status has its rule');
SELECT is((SELECT status_since FROM billing.subscriptions WHERE id = :'late'), NULL, 'a trial has no grace to count');
SELECT billing.now('late') + interval '1 day' AS trial_end \gset
CALL billing.advance_clock('late', '1 day 1 minute');
SELECT is(status_of('late'), 'past_due', 'a payment fails');
SELECT ok((SELECT status_since BETWEEN :'trial_end'::timestamptz - interval '1 minute' AND :'trial_end'::timestamptz + interval '1 minute' FROM billing.subscriptions WHERE id = :'late'), 'since when is known');
SELECT status_since AS since FROM billing.subscriptions WHERE id = :'late' \gset
CALL billing.advance_clock('late', '3 days 1 hour');
SELECT is(status_of('late'), 'past_due', 'another try fails');
SELECT is((SELECT status_since FROM billing.subscriptions WHERE id = :'late'), :'since', 'and it is past due since the first');
SELECT ok(billing.has_feature('late', 'sso'), 'the plan is still there');
SELECT is((SELECT access_until FROM billing.entitlements WHERE organization_id = 'late'), NULL, 'nobody said until when');

-- ---------------------------------------------------------------------------
-- A grace

UPDATE billing.access_rules SET grace = '4 days' WHERE status = 'past_due';
SELECT is((SELECT builtin FROM billing.access_rules WHERE status = 'past_due'), false, 'the rule is the administrator''s now');
SELECT ok(billing.has_feature('late', 'sso'), 'within the grace the plan is there');
SELECT is((SELECT access_until FROM billing.entitlements WHERE organization_id = 'late'), :'since'::timestamptz + interval '96 hours', 'until when is told');
CALL billing.set_clock('late', :'since'::timestamptz + interval '96 hours' - interval '1 microsecond');
SELECT billing.record_usage('late', 'api_calls', 2) AS recorded \gset
SELECT current_period_start AS period_start, current_period_end AS period_end FROM billing.subscriptions WHERE id = :'late' \gset
SELECT ok(billing.consume('late', 'api_calls', 1) AND billing.consume('late', 'api_calls', 99996), 'its period and the plan''s limit count');
SELECT ok(billing.has_feature('late', 'sso'), 'to the last moment');
SELECT is((SELECT u."limit" FROM billing.usage_summary('late') AS u WHERE u.metric = 'users'), 25::numeric, 'reports say the same');
CALL billing.set_clock('late', :'since'::timestamptz + interval '96 hours');
SELECT is(status_of('late'), 'past_due', 'the provider has not given up');
SELECT ok(NOT billing.has_feature('late', 'sso'), 'but the grace is over');
SELECT is(billing.feature_limit('late', 'users'), 3::numeric, 'and what is free is left');
SELECT is((SELECT u."limit" FROM billing.usage_summary('late') AS u WHERE u.metric = 'users'), 3::numeric, 'in reports, too');
SELECT is_empty($$SELECT FROM billing.entitlements WHERE organization_id = 'late'$$, 'and in the view');
SELECT ok((SELECT period_start = :'period_start' AND period_end = :'period_end' AND status = 'past_due' AND plan = 'free'
		   FROM billing.usage_report WHERE organization_id = 'late' AND metric = 'api_calls'),
	'usage still counts in the period of the subscription, whose plan is not there any more');
SELECT is((SELECT quantity FROM billing.usage_summary('late') WHERE metric = 'api_calls'), 99999::numeric, 'nothing that was used in it is lost');
SELECT ok(NOT billing.consume('late', 'api_calls', 1), 'nor for what is free');
SELECT is((SELECT period_start FROM billing.usage_counters WHERE organization_id = 'late' AND metric = 'api_calls'), :'period_start'::timestamptz, 'by the same counter');
UPDATE billing.access_rules SET grace = '5 days' WHERE status = 'past_due';
SELECT ok(billing.has_feature('late', 'sso'), 'a longer grace counts at once');
UPDATE billing.access_rules SET gives_access = false, grace = NULL WHERE status = 'past_due';
SELECT ok(NOT billing.has_feature('late', 'sso'), 'none at all, too');
UPDATE billing.access_rules SET gives_access = true WHERE status = 'past_due';

-- ---------------------------------------------------------------------------
-- Every status

SELECT billing.pause_subscription(:'asleep');
CALL billing.run_worker();
SELECT is(status_of('asleep'), 'paused', 'a subscription is paused');
SELECT ok((SELECT status_since IS NOT NULL FROM billing.subscriptions WHERE id = :'asleep'), 'since a moment that is known');
SELECT ok(NOT billing.has_feature('asleep', 'sso'), 'and gives nothing');
UPDATE billing.access_rules SET gives_access = true, grace = '1 day' WHERE status = 'paused';
SELECT ok(billing.has_feature('asleep', 'sso'), 'unless the rule says so');
SELECT billing.resume_subscription(:'asleep');
CALL billing.run_worker();
SELECT is((SELECT status_since FROM billing.subscriptions WHERE id = :'asleep'), NULL, 'what runs again is not counted any more');

CREATE FUNCTION access_in(state text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	UPDATE billing.subscriptions SET status = state, ended_at = CASE WHEN state = 'canceled' THEN now() END,
		status_since = CASE WHEN state IN ('past_due', 'unpaid', 'paused') THEN now() END WHERE organization_id = 'states';
	RETURN billing.has_feature('states', 'sso');
END $$;
SELECT is(access_in(r.status), r.gives_access, r.status || CASE WHEN r.gives_access THEN ' gives access' ELSE ' gives none' END)
FROM billing.access_rules AS r WHERE r.status <> 'canceled' ORDER BY r.status COLLATE "C";
CREATE FUNCTION period_in(state text) RETURNS text LANGUAGE sql AS $$
	SELECT access_in(state);
	SELECT CASE WHEN u.period_start = s.current_period_start THEN 'its own' WHEN u.period_start = date_trunc('month', billing.now('states'), 'UTC') THEN 'the month' END
	FROM billing.subscriptions AS s, billing.usage_summary('states') AS u WHERE s.organization_id = 'states' AND u.metric = 'users';
$$;
SELECT is((SELECT string_agg(r.status || ': ' || period_in(r.status), ', ' ORDER BY r.status COLLATE "C") FROM billing.access_rules AS r),
	'active: its own, canceled: the month, incomplete: the month, incomplete_expired: the month, past_due: its own, paused: its own, trialing: its own, unpaid: its own',
	'usage counts in the period of a subscription that lives');
SELECT access_in('unpaid') AS unpaid, current_period_end AS period_end FROM billing.subscriptions WHERE organization_id = 'states' \gset
CALL billing.set_clock('states', :'period_end'::timestamptz - interval '1 microsecond');
SELECT is(period_in('unpaid'), 'its own', 'to its end');
CREATE FUNCTION period_at(state text, clock timestamptz) RETURNS text LANGUAGE sql AS $$
	INSERT INTO billing.sandbox_clocks (organization_id, now) VALUES ('states', clock) ON CONFLICT (organization_id) DO UPDATE SET now = excluded.now;
	SELECT period_in(state)
$$;
SELECT is(period_at('paused', :'period_end'), 'the month', 'after which one without access waits for nothing: what is free has its own');
SELECT is(period_at('active', :'period_end'), 'its own', 'while one with access goes on until the next one is told');
SELECT is(period_at('past_due', :'period_end'), 'its own', 'also when its payment has failed');
SELECT ok(NOT access_in('canceled'), 'canceled gives none');
UPDATE billing.subscriptions SET access_until = billing.now('states') + interval '1 day' WHERE organization_id = 'states';
SELECT ok(billing.has_feature('states', 'sso'), 'but until the end of what was paid for');

-- ---------------------------------------------------------------------------
-- What no rule may say

SELECT throws_ok($$UPDATE billing.access_rules SET grace = '1 day' WHERE status = 'active'$$, '23514', NULL, 'a grace belongs to a state that is dated');
SELECT throws_ok($$UPDATE billing.access_rules SET grace = '-1 day' WHERE status = 'past_due'$$, '23514', NULL, 'and is not negative');
SELECT fails($$DELETE FROM billing.access_rules WHERE status = 'paused'$$, 'JB008', 'cannot be deleted', 'gives_access', 'no status is without a rule');

SELECT * FROM finish();

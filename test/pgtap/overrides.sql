-- What one organisation has beside its plans: overrides and add-ons.
\ir helpers.psql
SELECT plan(69);

SELECT count(billing.create_customer(o)) AS customers FROM string_to_table('free paid big timed', ' ') AS o \gset
SELECT billing.subscribe('paid', 'pro', 'pm_card_visa') AS paid \gset
SELECT billing.subscribe('big', 'enterprise', 'pm_card_visa', amount => 100000) AS big \gset
CALL billing.run_worker();

-- ---------------------------------------------------------------------------
-- Overrides

SELECT billing.set_override('free', 'sso', 'true', reason => 'promised by sales');
SELECT ok(billing.has_feature('free', 'sso'), 'an override gives what the plan does not');
SELECT ok(NOT billing.has_feature('nobody', 'sso'), 'to this organisation only');
SELECT billing.set_override('paid', 'sso', 'false');
SELECT ok(NOT billing.has_feature('paid', 'sso'), 'and takes what the plan gives');
SELECT billing.set_override('paid', 'users', '7');
SELECT is(billing.feature_limit('paid', 'users'), 7::numeric, 'a limit may be lower');
SELECT billing.set_override('paid', 'users', '7000.5');
SELECT is(billing.feature_limit('paid', 'users'), 7000.5, 'or higher; the later one replaces the earlier one');
SELECT billing.set_override('paid', 'users', 'unlimited');
SELECT is(billing.feature_limit('paid', 'users'), 'Infinity'::numeric, 'or unlimited');
SELECT billing.set_override('paid', 'users', '0');
SELECT ok(NOT billing.has_feature('paid', 'users') AND billing.feature_limit('paid', 'users') = 0, 'and 0 is none');
SELECT billing.set_override('free', 'support_level', 'phone');
SELECT is(billing.feature_value('free', 'support_level'), 'phone', 'a text has another value');
SELECT billing.set_override('nobody', 'teams', '9');
SELECT is(billing.feature_limit('nobody', 'teams'), 9::numeric, 'an organisation needs no customer');
SELECT is((SELECT u."limit" FROM billing.usage_summary('nobody') AS u WHERE u.metric = 'teams'), 9::numeric, 'reports know it');
SELECT billing.set_override('paid', 'users', NULL);
SELECT is(billing.feature_limit('paid', 'users'), 25::numeric, 'NULL removes it');
SELECT lives_ok($$SELECT billing.set_override('paid', 'users', NULL)$$, 'also where there is none');
SELECT is((SELECT l.after - 'created_at' - 'organization_id' FROM billing.audit_log AS l WHERE l.object = 'feature_override' AND l.organization_id = 'free' ORDER BY l.seq LIMIT 1),
		  '{"value": "true", "reason": "withheld", "feature": "sso"}'::jsonb, 'who changed it is audited, and not why');
SELECT is((SELECT l.action || ' ' || l.object_key FROM billing.audit_log AS l WHERE l.object = 'feature_override' ORDER BY l.seq DESC LIMIT 1), 'delete paid/users', 'its removal, too');

-- ---------------------------------------------------------------------------
-- With an end, by the organisation's clock

SELECT billing.set_override('timed', 'sso', 'true', now() + interval '30 days');
SELECT ok(billing.has_feature('timed', 'sso'), 'one with an end counts until then');
CALL billing.advance_clock('timed', '29 days 23 hours');
SELECT ok(billing.has_feature('timed', 'sso'), 'to the last hour');
SELECT until AS until FROM billing.feature_overrides WHERE organization_id = 'timed' \gset
CALL billing.set_clock('timed', :'until'::timestamptz - interval '1 microsecond');
SELECT ok(billing.has_feature('timed', 'sso'), 'to the last moment');
CALL billing.set_clock('timed', :'until');
SELECT ok(NOT billing.has_feature('timed', 'sso'), 'the end itself is after it');
SELECT fails(format('SELECT billing.set_override(%L, %L, %L, %L)', 'timed', 'sso', 'true', :'until'), '22023', 'until has passed already', 'NULL: for good', 'what would never count is refused, by that clock');
SELECT lives_ok($$SELECT billing.set_override('timed', 'sso', 'true', 'infinity')$$, 'infinity is for good');
SELECT ok(billing.has_feature('timed', 'sso'), 'and counts');
SELECT fails($$SELECT billing.set_override('timed', 'sso', 'true', '-infinity')$$, '22023', 'until has passed already', NULL, 'the other infinity never does');

-- ---------------------------------------------------------------------------
-- What is refused

SELECT fails($$SELECT billing.set_override(NULL, 'sso', 'true')$$, '23502', 'organization_id must be given', NULL, 'an override is of an organisation');
SELECT fails($$SELECT billing.set_override('', 'sso', 'true')$$, '23502', 'organization_id must be given', NULL, 'which has a name');
SELECT fails($$SELECT billing.set_override('paid', NULL, 'true')$$, '23502', 'feature must be given', NULL, 'and of a feature');
SELECT fails($$SELECT billing.set_override('paid', 'flying', 'true')$$, 'JB005', 'unknown feature "flying"', 'api_calls, sso', 'which there is');
SELECT fails($$SELECT billing.set_override('paid', 'flying', NULL)$$, 'JB005', 'unknown feature "flying"', NULL, 'also to remove it');
SELECT fails(format('SELECT billing.set_override(%L, %L, %L)', 'paid', f, v), '22023', 'value', NULL, format('%L is no value of %s', v, f))
FROM (VALUES ('sso', 'yes'), ('sso', '1'), ('users', 'many'), ('users', '-1'), ('users', 'NaN'), ('users', 'Infinity'), ('users', '1e3'), ('users', ''), ('support_level', '')) AS v (f, v);
SELECT fails($$SELECT billing.set_override('paid', 'sso', 'true', reason => repeat('x', 501))$$, '22023', 'reason is longer than 500', NULL, 'a reason is short');
SELECT fails($$SELECT billing.set_override('paid', 'support_level', 'pays with 4242 4242 4242 4242')$$, 'JB009', 'card', NULL, 'no card number in a value');
SELECT fails($$SELECT billing.set_override('paid', 'flying', 'true', reason => '4242424242424242')$$, 'JB009', 'card', NULL, 'or a reason, before anything else is said');

-- ---------------------------------------------------------------------------
-- Add-ons

SELECT billing.create_add_on('seats', 'Ten seats', '{"users": 10}', 'sold by phone');
SELECT billing.create_add_on('security', 'Security pack', '{"sso": true, "teams": "2.5"}');
SELECT billing.create_add_on('all_calls', 'All calls', '{"api_calls": "unlimited"}');
SELECT billing.set_add_on('paid', 'seats');
SELECT is(billing.feature_limit('paid', 'users'), 35::numeric, 'a unit of an add-on is added to the limit of the plan');
SELECT is(billing.feature_value('paid', 'users'), '35', 'also in the text');
SELECT billing.set_add_on('paid', 'seats', 3);
SELECT is(billing.feature_limit('paid', 'users'), 55::numeric, 'each of them');
SELECT billing.set_add_on('paid', 'security', 2);
SELECT is(billing.feature_limit('paid', 'teams'), 10::numeric, 'fractions, too');
SELECT billing.set_override('paid', 'users', '40');
SELECT is(billing.feature_limit('paid', 'users'), 40::numeric, 'an override goes before both');
SELECT billing.set_override('paid', 'users', NULL);
SELECT billing.set_add_on('free', 'security');
SELECT billing.set_override('free', 'sso', NULL);
SELECT ok(billing.has_feature('free', 'sso'), 'a boolean is switched on');
SELECT billing.set_add_on('big', 'seats');
SELECT is(billing.feature_limit('big', 'users'), 'Infinity'::numeric, 'unlimited stays unlimited');
SELECT billing.set_add_on('free', 'all_calls', 2);
SELECT is(billing.feature_value('free', 'api_calls'), 'unlimited', 'and an add-on can lift a limit');
SELECT billing.set_add_on('free', 'all_calls', 0);
SELECT is(billing.feature_value('free', 'api_calls'), '10000', 'quantity 0 removes it');
SELECT billing.set_plan_feature('free', 'storage', NULL);
SELECT billing.create_add_on('disk', 'Disk', '{"storage": 5}');
SELECT billing.set_add_on('free', 'disk', 2);
SELECT is(billing.feature_limit('free', 'storage'), 10::numeric, 'a feature of no plan can be bought');

SELECT billing.now('timed') + interval '1 day' AS tomorrow \gset
SELECT billing.set_add_on('timed', 'seats', 1, :'tomorrow');
SELECT is(billing.feature_limit('timed', 'users'), 13::numeric, 'one with an end');
CALL billing.set_clock('timed', :'tomorrow');
SELECT is(billing.feature_limit('timed', 'users'), 3::numeric, 'ends');
SELECT billing.set_add_on('timed', 'seats', 2);
SELECT is((SELECT (h.since, h.until) FROM billing.organization_add_ons AS h WHERE h.organization_id = 'timed'), (:'tomorrow'::timestamptz, NULL::timestamptz), 'and begins anew');
UPDATE billing.add_ons SET retired_at = now() WHERE add_on = 'seats';
SELECT is(billing.feature_limit('timed', 'users'), 23::numeric, 'those who have a retired one keep it');
SELECT lives_ok($$SELECT billing.set_add_on('timed', 'seats', 4)$$, 'and can have more of it');
SELECT fails($$SELECT billing.set_add_on('free', 'seats')$$, 'JB008', 'add-on "seats" is retired', 'retired_at', 'nobody else gets it');

SELECT fails($$SELECT billing.set_add_on('free', 'wings')$$, 'JB005', 'unknown add-on "wings"', 'disk, seats, security', 'an unknown add-on');
SELECT fails($$SELECT billing.set_add_on('free', 'disk', -1)$$, '22023', 'quantity is below 0', '0 removes', 'less than none');
SELECT fails($$SELECT billing.set_add_on('free', 'disk', NULL)$$, '23502', 'quantity must be given', NULL, 'no quantity');
SELECT fails($$SELECT billing.set_add_on('free', 'disk', 1, now() - interval '1 day')$$, '22023', 'until has passed already', NULL, 'an end that is past');
SELECT fails(format('SELECT billing.create_add_on(%L, %L, %L)', c, n, f), s, m, NULL, 'no add-on: ' || m)
FROM (VALUES ('disk', 'Disk', '{"storage": 1}', '23505', 'there is an add-on "disk" already'), ('a b', 'A', '{"sso": true}', '22023', 'is no code'),
			 ('x', 'X', '{"flying": true}', 'JB005', 'unknown feature "flying"'), ('x', 'X', '{"sso": false}', '22023', 'is not true'),
			 ('x', 'X', '{"support_level": "phone"}', '22023', 'is a text'), ('x', 'X', '{"users": -1}', '22023', 'is not a limit'),
			 ('x', 'X', '{"users": [1]}', '22023', 'is not what a unit adds'), ('x', 'X', '{}', '22023', 'features is not an object with members'),
			 ('x', 'X', '[]', '22023', 'features is not an object with members')) AS v (c, n, f, s, m);

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

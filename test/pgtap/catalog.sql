-- What is sold: the plans that are there from the start, and those of one's own.
\ir helpers.psql
SELECT plan(81);

-- ---------------------------------------------------------------------------
-- From the start

SELECT results_eq(
	$$SELECT plan, amount, currency, "interval", interval_count, trial_days, plan_group FROM billing.get_plans()$$,
	$$VALUES ('free', 0::bigint, 'USD', 'month', 1, 0, 'default'), ('pro', 2900, 'USD', 'month', 1, 0, 'default'),
	         ('enterprise', NULL, NULL, NULL, NULL, 0, 'default')$$,
	'free, pro and enterprise are there after CREATE EXTENSION, in this order, with these prices');
SELECT is((SELECT features FROM billing.get_plans() WHERE plan = 'free'),
	'{"users": 3, "teams": 1, "storage": 1000000000, "api_calls": 10000, "sso": false, "support_level": "community"}'::jsonb,
	'free has exactly these features');
SELECT is((SELECT features FROM billing.get_plans() WHERE plan = 'pro'),
	'{"users": 25, "teams": 5, "storage": 50000000000, "api_calls": 100000, "sso": true, "support_level": "email"}'::jsonb,
	'pro has exactly these features');
SELECT is((SELECT features FROM billing.get_plans() WHERE plan = 'enterprise'),
	'{"users": -1, "teams": -1, "storage": -1, "api_calls": -1, "sso": true, "support_level": "dedicated"}'::jsonb,
	'enterprise has exactly these features, unlimited ones as -1');
SELECT is((SELECT array_agg(plan) FROM billing.plans WHERE is_default), '{free}', 'free is the plan of those who have none');
SELECT ok((SELECT bool_and(builtin) FROM billing.plans), 'what is there from the start is marked as built in');

-- ---------------------------------------------------------------------------
-- An own plan

SELECT lives_ok($$SELECT billing.create_plan('team', 'Team', 9900, currency => 'eur', features =>
	'{"users": 10, "sso": true, "storage": "unlimited", "regions": 2.5, "beta": false, "tone": "warm", "teams": null}',
	trial_days => 14)$$, 'an own plan can be added');
SELECT results_eq(
	$$SELECT amount, currency, "interval", trial_days FROM billing.get_plans() WHERE plan = 'team'$$,
	$$VALUES (9900::bigint, 'EUR', 'month', 14)$$,
	'its price is in the currency that was given, in upper case');
SELECT is((SELECT features FROM billing.get_plans() WHERE plan = 'team'),
	'{"users": 10, "sso": true, "storage": -1, "regions": 2.5, "beta": false, "tone": "warm"}'::jsonb,
	'it has the features that were given, and none for null');
SELECT results_eq(
	$$SELECT feature, kind FROM billing.features WHERE feature IN ('regions', 'beta', 'tone') ORDER BY 1$$,
	$$VALUES ('beta', 'boolean'), ('regions', 'limit'), ('tone', 'text')$$,
	'features that were not there before are added with the kind that their value shows');
SELECT ok((SELECT NOT builtin FROM billing.plans WHERE plan = 'team'), 'it is not built in');
SELECT lives_ok($$SELECT billing.create_plan('quote', 'On quotation')$$, 'a plan without an amount is one with a custom price');
SELECT is((SELECT custom_price FROM billing.plans WHERE plan = 'quote'), true, 'it is marked as such');
SELECT is((SELECT amount FROM billing.get_plans() WHERE plan = 'quote'), NULL::bigint, 'and has no price');
SELECT is((SELECT currency FROM billing.get_plans() WHERE plan = 'pro'), 'USD', 'without a currency the setting default_currency counts');

SELECT fails($$SELECT billing.create_plan('team', 'Again', 1)$$, '23505', 'plan "team" already', 'create_price', 'a code is taken once');
SELECT fails($$SELECT billing.create_plan('', 'No code', 1)$$, '22023', 'plan "" cannot be used', 'letters', 'an empty code is refused');
SELECT fails($$SELECT billing.create_plan('a b', 'Blank', 1)$$, '22023', 'plan "a b" cannot', NULL, 'a code with a blank is refused');
SELECT fails($$SELECT billing.create_plan(repeat('a', 64), 'Long', 1)$$, '22023', 'cannot be used as a code', '63', 'a code has 63 characters at most');
SELECT fails($$SELECT billing.create_plan(NULL, 'Null', 1)$$, '23502', 'plan must be given', NULL, 'a plan needs a code');
SELECT fails($$SELECT billing.create_plan('x', NULL, 1)$$, '23502', 'name must be given', NULL, 'a plan needs a name');
SELECT fails($$SELECT billing.create_plan('x', '', 1)$$, '22023', 'name is empty', NULL, 'an empty name is refused');
SELECT fails($$SELECT billing.create_plan('x', 'X', -1)$$, '22023', 'amount is negative', 'minor units', 'a negative amount is refused');
SELECT fails($$SELECT billing.create_plan('x', 'X', 1, currency => 'XXX')$$, '22023', 'unknown currency "XXX"', 'ISO 4217', 'an unknown currency is refused');
SELECT fails($$SELECT billing.create_plan('x', 'X', 1, "interval" => 'fortnight')$$, '22023', 'unknown interval "fortnight"', 'day, week, month, quarter, year', 'an unknown interval is refused, and those that there are are listed');
SELECT fails($$SELECT billing.create_plan('x', 'X', 1, interval_count => 0)$$, '22023', 'interval_count 0', '1 to 52', 'an interval count of 0 is refused');
SELECT fails($$SELECT billing.create_plan('x', 'X', 1, interval_count => 53)$$, '22023', 'interval_count 53', '1 to 52', 'an interval count above 52 is refused');
SELECT fails($$SELECT billing.create_plan('x', 'X', 1, "interval" => 'one_time', interval_count => 2)$$, '22023', 'interval_count 2', NULL, 'what is paid once is not paid every second time');
SELECT fails($$SELECT billing.create_plan('x', 'X', 1, trial_days => 731)$$, '22023', 'trial_days is 731', '730', 'a trial of more than two years is refused');
SELECT fails($$SELECT billing.create_plan('x', 'X', 1, trial_days => -1)$$, '22023', 'trial_days is -1', NULL, 'a negative trial is refused');
SELECT fails($$SELECT billing.create_plan('x', 'X', 1, plan_group => '')$$, '22023', 'plan_group is empty', NULL, 'an empty group is refused');
SELECT fails($$SELECT billing.create_plan('x', 'X', 1, features => '[1]')$$, '22023', 'features is not an object', NULL, 'features are an object');
SELECT fails($$SELECT billing.create_plan('x', 'X', 1, features => '{"users": [1]}')$$, '22023', 'feature "users" is an object or array', NULL, 'a feature has one value');
SELECT fails($$SELECT billing.create_plan('x', 'X', 1, features => '{"users": -1}')$$, '22023', 'not a limit', 'unlimited', 'a limit is not negative: unlimited is a word');
SELECT fails($$SELECT billing.create_plan('x', 'X', 1, features => '{"sso": "perhaps"}')$$, '22023', 'neither true nor false', NULL, 'a boolean feature is true or false');
SELECT is((SELECT count(*) FROM billing.plans WHERE plan = 'x'), 0::bigint, 'of a refused plan nothing is left');

-- ---------------------------------------------------------------------------
-- Prices

SELECT lives_ok($$SELECT billing.create_price('team', 11900, 'EUR')$$, 'a plan can get a new price');
SELECT results_eq($$SELECT amount FROM billing.get_plans() WHERE plan = 'team'$$, $$VALUES (11900::bigint)$$, 'the new price is the one on offer');
SELECT results_eq(
	$$SELECT amount, retired_at IS NOT NULL FROM billing.prices WHERE plan_id = (SELECT id FROM billing.plans WHERE plan = 'team') ORDER BY amount$$,
	$$VALUES (9900::bigint, true), (11900, false)$$, 'the old price is retired and kept for those who have it');
SELECT lives_ok($$SELECT billing.create_price('team', 12900, 'USD')$$, 'a plan can have a price in another currency');
SELECT results_eq($$SELECT currency, amount FROM billing.get_plans() WHERE plan = 'team'$$, $$VALUES ('EUR', 11900::bigint), ('USD', 12900)$$, 'both are on offer');
SELECT lives_ok($$SELECT billing.create_price('team', 119000, 'EUR', 'year')$$, 'a plan can have a price for another interval');
SELECT is((SELECT retired_at FROM billing.prices WHERE amount = 11900), NULL::timestamptz, 'a price of another interval stays on sale beside it');
SELECT fails($$SELECT billing.create_price('nope', 1)$$, 'JB005', 'unknown plan "nope"', 'free, pro, enterprise', 'a price of an unknown plan is refused, and the plans are listed');
SELECT fails($$SELECT billing.create_price('team', NULL)$$, '23502', 'amount must be given', NULL, 'a price needs an amount');
SELECT fails($$UPDATE billing.prices SET amount = 1 WHERE amount = 12900$$, 'JB008', 'terms of price', 'create_price', 'the amount of a price never changes');
SELECT fails($$UPDATE billing.prices SET currency = 'MXN' WHERE amount = 12900$$, 'JB008', 'terms of price', 'create_price', 'nor does its currency');
SELECT fails($$DELETE FROM billing.prices WHERE amount = 12900$$, 'JB008', 'cannot be deleted', 'retired_at', 'a price is retired, not deleted');
SELECT fails($$DELETE FROM billing.plans WHERE plan = 'team'$$, 'JB008', 'cannot be deleted', 'retired_at', 'a plan is retired, not deleted');
SELECT fails($$UPDATE billing.prices SET amount = 1 WHERE amount = 2900$$, 'JB008', 'terms of price', NULL, 'the terms of a built-in price do not change either');

-- ---------------------------------------------------------------------------
-- Retiring, and features of a plan

UPDATE billing.plans SET retired_at = now() WHERE plan = 'quote';
SELECT is((SELECT count(*) FROM billing.get_plans() WHERE plan = 'quote'), 0::bigint, 'a retired plan is not on offer');
SELECT fails($$SELECT billing.create_price('quote', 100)$$, 'JB008', 'plan "quote" is retired', 'retired_at', 'a retired plan gets no new price');

UPDATE billing.plans SET name = 'Professional' WHERE plan = 'pro';
SELECT is((SELECT builtin FROM billing.plans WHERE plan = 'pro'), false, 'a built-in plan that an administrator changes is his own');

SELECT billing.set_plan_feature('pro', 'users', '30');
SELECT is((SELECT features -> 'users' FROM billing.get_plans() WHERE plan = 'pro'), '30', 'a limit of a plan can be changed');
SELECT billing.set_plan_feature('pro', 'users', NULL);
SELECT is((SELECT features ? 'users' FROM billing.get_plans() WHERE plan = 'pro'), false, 'NULL takes a feature out of the plan');
SELECT fails($$SELECT billing.set_plan_feature('pro', 'teams', 'many')$$, '22023', 'value "many" of feature "teams" is not a limit', 'unlimited', 'a limit is a number or unlimited');
SELECT fails($$SELECT billing.set_plan_feature('pro', 'Big', '1')$$, '22023', 'feature "Big" cannot be used', NULL, 'a feature is written in small letters');
SELECT fails($$SELECT billing.set_plan_feature('nope', 'teams', '1')$$, 'JB005', 'unknown plan "nope"', 'free, pro', 'features of an unknown plan are refused');
SELECT fails($$SELECT billing.set_plan_feature('pro', 'nothing', NULL)$$, 'JB005', 'unknown feature "nothing"', 'users', 'an unknown feature cannot be taken out');

-- ---------------------------------------------------------------------------
-- What providers have is renamed and archived there; nothing is sent of a transaction that rolls back

SELECT billing.configure_provider('stripe', secret_key => 'sk_test_catalogue', base_url => 'http://127.0.0.1:9');
SELECT r.id AS team FROM billing.prices AS r JOIN billing.plans AS p ON p.id = r.plan_id WHERE p.plan = 'team' AND r.amount = 12900 \gset
CREATE VIEW told AS SELECT o.operation, o.arguments, o.state, o.blocked_by IS NOT NULL AS blocked FROM billing.outbox AS o;
SELECT billing.link_price(:'team', 'stripe', 'price_team', 'prod_team');
SELECT fails(format($$SELECT billing.link_price(%L, 'stripe', 'price_else')$$, :'team'), 'JB008', 'linked to "price_team" already', 'create_price', 'a price has one counterpart');

BEGIN;
UPDATE billing.plans SET name = 'The Team' WHERE plan = 'team';
SELECT results_eq($$SELECT operation, arguments FROM told$$, $$VALUES ('product.update', '{"name": true}'::jsonb)$$, 'a plan that is renamed is renamed where it is a product');
SELECT is((SELECT key_type || ' ' || (ordering_key = object_id) FROM billing.outbox), 'plan true', 'in the order of the plan');
ROLLBACK;
BEGIN;
UPDATE billing.plans SET name = name, description = 'For all', sort_order = 5 WHERE plan IN ('team', 'pro');
SELECT results_eq($$SELECT operation, arguments FROM told$$, $$VALUES ('product.update', '{"description": true}'::jsonb)$$, 'only what changed is told, only where the plan is known');
UPDATE billing.plans SET trial_days = 3 WHERE plan = 'team';
SELECT is((SELECT count(*) FROM told), 1::bigint, 'and what is ours alone is not told');
ROLLBACK;
BEGIN;
UPDATE billing.plans SET retired_at = now() WHERE plan = 'team';
SELECT results_eq($$SELECT operation, arguments FROM told$$, $$VALUES ('product.update', '{"active": true}'::jsonb)$$, 'a retired plan is archived');
UPDATE billing.plans SET retired_at = now() + interval '1 day' WHERE plan = 'team';
SELECT is((SELECT count(*) FROM told), 1::bigint, 'once');
ROLLBACK;
BEGIN;
SELECT billing.create_price('team', 13900, 'USD') AS newer \gset
SELECT results_eq($$SELECT operation, arguments, state, blocked FROM told$$, $$VALUES ('price.update', '{"active": true}'::jsonb, 'queued', false)$$, 'a replaced price is archived');
ROLLBACK;
BEGIN;
SELECT billing.create_customer('buyer', provider => 'stripe') AS buyer \gset
SELECT billing.subscribe('buyer', 'team', currency => 'USD') AS sale \gset
UPDATE billing.prices SET retired_at = now() WHERE id = :'team';
SELECT is((SELECT b.operation FROM billing.outbox AS o JOIN billing.outbox AS b ON b.id = o.blocked_by WHERE o.operation = 'price.update'), 'subscription.create',
	'after what was sold at it before');
ROLLBACK;
SELECT fails(format($$UPDATE billing.prices SET amount = 1 WHERE id = %L$$, :'team'), 'JB008', 'terms of price', 'create_price', 'its amount never changes');

-- ---------------------------------------------------------------------------
-- Plans from a file

SELECT results_eq($$SELECT * FROM billing.import_plans('[
	{"plan": "pro", "name": "Pro!", "amount": 2900, "currency": "USD", "features": {"users": 40}},
	{"plan": "agency", "name": "Agency", "trial_days": 7, "features": {"users": "unlimited", "audit": true},
	 "prices": [{"amount": 30000, "currency": "USD", "interval": "month"}, {"amount": 300000, "currency": "USD", "interval": "year"}]},
	{"plan": "free"}]')$$,
	$$VALUES ('pro', 'updated'), ('agency', 'created'), ('free', 'unchanged')$$, 'plans can be brought in together');
SELECT results_eq($$SELECT name, amount, features -> 'users', trial_days FROM billing.get_plans() WHERE plan IN ('pro', 'agency') ORDER BY plan$$,
	$$VALUES ('Agency', 300000::bigint, '-1'::jsonb, 7), ('Pro!', 2900, '40', 0)$$, 'with prices and features');
SELECT results_eq($$SELECT * FROM billing.import_plans('[
	{"plan": "pro", "name": "Pro!", "amount": 2900, "currency": "USD", "features": {"users": 40}},
	{"plan": "agency", "name": "Agency", "trial_days": 7, "features": {"users": "unlimited", "audit": true},
	 "prices": [{"amount": 30000, "currency": "USD", "interval": "month"}, {"amount": 300000, "currency": "USD", "interval": "year"}]},
	{"plan": "free"}]')$$,
	$$VALUES ('pro', 'unchanged'), ('agency', 'unchanged'), ('free', 'unchanged')$$, 'twice is no change');
SELECT is((SELECT count(*) FROM billing.prices AS r JOIN billing.plans AS p ON p.id = r.plan_id WHERE p.plan = 'agency'), 2::bigint, 'no price was made twice');
SELECT results_eq($$SELECT * FROM billing.import_plans('[{"plan": "agency", "prices": [{"amount": 31000, "interval": "month"}]}]')$$,
	$$VALUES ('agency', 'updated')$$, 'another amount is a new price');
SELECT is((SELECT array_agg(r.amount ORDER BY r.amount) FROM billing.prices AS r JOIN billing.plans AS p ON p.id = r.plan_id WHERE p.plan = 'agency' AND r.retired_at IS NULL),
	'{31000,300000}'::bigint[], 'which takes the place of the one with its interval');
SELECT fails($$SELECT billing.import_plans('{"plan": "x"}')$$, '22023', 'plans is not an array', NULL, 'plans are an array');
SELECT fails($$SELECT billing.import_plans('[{"plan": "y", "name": "Y", "amount": 1}, {"name": "X"}]')$$, '22023', 'element 1 of plans has no plan', NULL, 'a plan has its code');
SELECT fails($$SELECT billing.import_plans('[{"plan": "x", "name": "X", "price": 5}]')$$, '22023', 'element 0 of plans has an unknown member "price"', 'prices', 'an unknown member is a mistake');
SELECT fails($$SELECT billing.import_plans('[{"plan": "x"}]')$$, '22023', 'element 0 of plans has no name', NULL, 'a new plan has a name');
SELECT fails($$SELECT billing.import_plans('[{"plan": "x", "name": "4242 4242 4242 4242"}]')$$, 'JB009', 'card number', NULL, 'a card number is none');
SELECT is((SELECT count(*) FROM billing.plans WHERE plan = 'y'), 0::bigint, 'all of a call or nothing');

SELECT * FROM finish();

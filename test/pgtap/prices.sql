-- Prices: what each model costs, versions and their time, components, add-ons, and what is refused.
\ir helpers.psql
SELECT plan(86);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_plan('api', 'API', 0) AS api \gset
SELECT billing.create_meter('calls', 'sum');
CREATE FUNCTION price(arguments text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE made uuid;
BEGIN
	EXECUTE format('SELECT billing.create_price(%L, %s, component => %L)', 'api', arguments, 'part') INTO made;
	RETURN made;
END $$;
CREATE FUNCTION cost(price uuid, quantity numeric) RETURNS numeric LANGUAGE sql AS 'SELECT sum(amount) FROM billing.quote_price(price, quantity)';

-- ---------------------------------------------------------------------------
-- What each model costs, by hand

CREATE TABLE cases (arguments text, quantity numeric, cents bigint, name text);
INSERT INTO cases VALUES
	($$4900, model => 'flat'$$, 150, 4900, 'flat: the fee, whatever the quantity'),
	($$4900, model => 'flat'$$, 0, 4900, 'flat: also for nothing'),
	($$2$$, 150, 300, 'per unit: quantity times amount'),
	($$unit_amount => 0.5$$, 5, 3, 'per unit: half a cent is rounded away from zero'),
	($$unit_amount => 0.000000000001$$, 500000000000, 1, 'per unit: twelve decimals count'),
	($$model => 'graduated', tiers => '[{"up_to": 100, "unit_amount": 2}, {"unit_amount": 1}]'$$, 100, 200, 'graduated: the bound is inclusive'),
	($$model => 'graduated', tiers => '[{"up_to": 100, "unit_amount": 2}, {"unit_amount": 1}]'$$, 150, 250, 'graduated: each unit at the price of its tier'),
	($$model => 'graduated', tiers => '[{"up_to": 10, "unit_amount": 5, "flat_amount": 100}, {"up_to": 20, "unit_amount": 4, "flat_amount": 50}, {"unit_amount": 3, "flat_amount": 25}]'$$,
	 21, 268, 'graduated: the fee of each tier that is reached'),
	($$model => 'graduated', tiers => '[{"up_to": "100", "unit_amount": "0.05", "flat_amount": "500"}, {"unit_amount": "0.1"}]'$$, 150, 510, 'numbers written as strings: 5 and 500 and 5'),
	($$model => 'graduated', tiers => '[{"unit_amount": "0.145"}]'$$, 100, 15, 'are exact: 14.5 is rounded away from zero, as no float would'),
	($$model => 'volume', tiers => '[{"unit_amount": "0.000000000001", "flat_amount": "7.0"}]'$$, 500000000000, 8, 'to the twelfth decimal'),
	($$model => 'volume', tiers => '[{"up_to": 100, "unit_amount": 2}, {"unit_amount": 1}]'$$, 150, 150, 'volume: all at the price of the tier'),
	($$model => 'volume', tiers => '[{"up_to": 10, "unit_amount": 5, "flat_amount": 100}, {"up_to": 20, "unit_amount": 4, "flat_amount": 50}, {"unit_amount": 3, "flat_amount": 25}]'$$,
	 21, 88, 'volume: one fee'),
	($$500, model => 'package', package_size => 100$$, 150, 1000, 'package: begun ones count'),
	($$500, model => 'package', package_size => 100$$, 100, 500, 'package: a full one is one'),
	($$model => 'percentage', percentage => 2.9$$, 150, 4, 'percentage: 2.9 % of 1.50'),
	($$model => 'percentage', percentage => 2.9, minimum => 50$$, 100, 50, 'percentage: at least the minimum'),
	($$model => 'percentage', percentage => 2.9, minimum => 50$$, 0, 0, 'percentage: of nothing it is nothing'),
	($$model => 'percentage', percentage => 10, maximum => 500$$, 100000, 500, 'percentage: at most the maximum'),
	($$5, commitment => 1000$$, 150, 1000, 'a commitment is due in any case'),
	($$5, commitment => 1000$$, 0, 1000, 'also without usage'),
	($$model => 'graduated', free_units => 50, tiers => '[{"up_to": 100, "unit_amount": 2}, {"unit_amount": 1}]'$$, 160, 210, 'free units go off first'),
	($$7, free_units => 10$$, 10, 0, 'and may be all');
SELECT is(cost(price(arguments), quantity), cents::numeric, name) FROM cases;
SELECT results_eq(format($$SELECT line, tier, trim_scale(quantity_of_line), trim_scale(unit_amount), amount FROM billing.quote_price(%L, 160)$$,
	price($$model => 'graduated', free_units => 50, tiers => '[{"up_to": 100, "unit_amount": 2}, {"unit_amount": 1}]'$$)),
	$$VALUES ('free', NULL::integer, 50::numeric, 0::numeric, 0::bigint), ('units', 0, 100, 2, 200), ('units', 1, 10, 1, 10)$$, 'the lines are those of an invoice');

-- ---------------------------------------------------------------------------
-- What is no price

SELECT fails(format('SELECT price(%L)', b.arguments), b.code, b.message, NULL, b.name) FROM (VALUES
	('-1', '22023', 'amount is negative', 'no negative amount'),
	('unit_amount => -0.5', '22023', 'unit_amount must not be negative', 'no negative unit amount'),
	('unit_amount => 0.0000000000001', '22023', 'unit_amount cannot be calculated with', 'no thirteenth decimal'),
	('1, unit_amount => 2', '22023', 'both given', 'one of two amounts'),
	($$model => 'graduated'$$, '23502', 'tiers must be given', 'tiers need tiers'),
	($$model => 'graduated', tiers => '[]'$$, '22023', 'tiers is not an array', 'at least one'),
	($$model => 'graduated', tiers => '{"up_to": 1}'$$, '22023', 'tiers is not an array', 'an array of them'),
	($$model => 'volume', tiers => '[{"up_to": 9, "unit_amount": 1}]'$$, '22023', 'is the last one and has an up_to', 'the last has no bound'),
	($$model => 'volume', tiers => '[{"unit_amount": 1}, {"unit_amount": 1}]'$$, '22023', 'tier 1 has no up_to', 'the others have'),
	($$model => 'volume', tiers => '[{"up_to": 9}, {"up_to": 9}, {}]'$$, '22023', 'tier 2 does not end above', 'bounds ascend'),
	($$model => 'volume', tiers => '[{"amount": 9}]'$$, '22023', 'unknown member "amount"', 'members are known'),
	($$model => 'volume', tiers => '[{"unit_amount": -9}]'$$, '22023', 'negative unit_amount', 'no negative tier'),
	($$model => 'volume', tiers => '[{"flat_amount": 0.5}]'$$, '22023', 'whole minor units', 'a fee is whole'),
	($$model => 'volume', tiers => '[{"flat_amount": "0.5"}]'$$, '22023', 'tier 1 has a flat_amount that is not in whole minor units', 'as a string, too'),
	($$model => 'volume', tiers => '[{"unit_amount": "abc"}]'$$, '22023', 'tier 1 has a member "unit_amount" that is no number .*: abc', 'a string is a number'),
	($$model => 'volume', tiers => '[{"up_to": " 5", "unit_amount": 1}, {}]'$$, '22023', 'member "up_to" that is no number', 'and nothing beside it'),
	($$model => 'volume', tiers => '[{"unit_amount": "NaN"}]'$$, '22023', 'member "unit_amount" that is no number', 'not one that is none'),
	($$model => 'volume', tiers => '[{"unit_amount": "0.0000000000001"}]'$$, '22023', 'at most 12 decimals', 'nor a thirteenth decimal'),
	($$model => 'volume', tiers => '[{"unit_amount": true}]'$$, '22023', 'member "unit_amount" that is no number', 'nor true'),
	($$model => 'volume', tiers => '[{"flat_amount": "99999999999999999999"}]'$$, '22023', 'whole minor units', 'nor more than fits'),
	($$5, model => 'graduated', tiers => '[{}]'$$, '22023', 'amount does not go with model graduated', 'an argument too many'),
	($$5, tiers => '[{}]'$$, '22023', 'tiers does not go with model per_unit', 'tiers of a price without'),
	($$5, minimum => 5$$, '22023', 'minimum does not go', 'a minimum is for a percentage'),
	($$5, model => 'flat', free_units => 5$$, '22023', 'free_units does not go', 'a fee has no units'),
	($$model => 'package', package_size => 0, unit_amount => 1$$, '22023', 'package_size must be above 0', 'a package has units'),
	($$5, model => 'package'$$, '23502', 'package_size must be given', 'and a size'),
	($$model => 'percentage', percentage => 100.5$$, '22023', 'cannot be calculated', 'no percentage above 100'),
	($$model => 'percentage', percentage => 5, minimum => 10, maximum => 5$$, '22023', 'cannot be calculated', 'no minimum above the maximum'),
	($$model => 'dutch', amount => 5$$, '22023', 'unknown model "dutch"', 'a model that there is'),
	($$5, metric => 'nothing'$$, 'JB005', 'unknown metric "nothing"', 'a metric that there is'),
	($$5, metric => 'calls', "interval" => 'one_time'$$, '22023', 'cannot be paid once', 'usage has periods'),
	($$5, currency => 'XXX'$$, '22023', 'unknown currency', 'a currency that there is'),
	($$5, effective_at => now() - interval '1 s'$$, '22023', 'in the past', 'no version of the past'),
	($$5, existing => 'sometimes'$$, '22023', 'unknown existing', 'what becomes of others is a word'),
	($$5, customer_id => billing.new_id()$$, 'JB005', 'unknown customer', 'a customer that there is'),
	($$5, description => '4242 4242 4242 4242'$$, 'JB009', 'card number', 'no card number')) AS b (arguments, code, message, name);
SELECT fails($$SELECT billing.create_price('api', 5, metric => 'calls')$$, '22023', 'base cannot be metered', 'component', 'the base is not metered');
SELECT fails($$SELECT billing.create_price('api', 5, component => 'addon.x')$$, '22023', 'would be an add-on', 'set_add_on_price', 'an add-on is not made so');
SELECT price('5') AS part \gset
SELECT fails(format('SELECT * FROM billing.quote_price(%L, -1)', :'part'), '22023', 'cannot be calculated', NULL, 'no negative quantity');

-- ---------------------------------------------------------------------------
-- Versions

SELECT billing.create_plan('pro2', 'Pro two', 1000) AS pro2 \gset
SELECT billing.create_price('pro2', 2000, effective_at => now() + interval '30 days', existing => 'renewal') AS later \gset
SELECT is((SELECT amount FROM billing.get_plans() WHERE plan = 'pro2'), 1000::bigint, 'a version to come is not sold');
SELECT is((SELECT count(*) FROM billing.prices WHERE plan_id = :'pro2' AND retired_at IS NULL), 2::bigint, 'it stands beside the present one');
SELECT fails(format($$SELECT billing.create_price('pro2', 3000, effective_at => %L)$$, (SELECT effective_at FROM billing.prices WHERE id = :'later')),
	'23514', 'has a version from that moment on already', 'retired_at', 'two versions do not begin together');
SELECT billing.create_customer('early') AS early \gset
SELECT fails(format($$SELECT billing.subscribe('early', 'pro2', price => %L)$$, :'later'), '22023', 'not sold yet', NULL, 'nor is it sold by its id');
CALL billing.set_clock('early', (now() + interval '31 days')::timestamptz);
SELECT billing.subscribe('early', 'pro2', managed_by => 'provider') AS sub \gset
SELECT is((SELECT price_id FROM billing.subscriptions WHERE id = :'sub'), :'later'::uuid, 'when its time has come, it is');
SELECT fails(format($$UPDATE billing.prices SET existing = 'now' WHERE id = %L$$, :'later'), 'JB008', 'terms of price', NULL, 'what was said of it stays');
SELECT price($$model => 'volume', tiers => '[{"up_to": 5}, {}]'$$) AS tiered \gset
SELECT fails(format($$UPDATE billing.price_tiers SET unit_amount = 1 WHERE price_id = %L$$, :'tiered'), 'JB008', 'terms of price', NULL, 'as do its tiers');
SELECT fails(format($$INSERT INTO billing.price_tiers (price_id, position) VALUES (%L, 3)$$, :'tiered'), 'JB008', 'terms of price', NULL, 'and no tier is added');

-- ---------------------------------------------------------------------------
-- Customers with prices of their own

SELECT billing.create_customer('vip') AS vip \gset
SELECT billing.create_price('pro2', 700, customer_id => :'vip') AS own \gset
SELECT billing.subscribe('vip', 'pro2', managed_by => 'provider') AS vipsub \gset
SELECT is((SELECT price_id FROM billing.subscriptions WHERE id = :'vipsub'), :'own'::uuid, 'a price of the customer takes the place of the list');
SELECT fails(format($$SELECT billing.create_price('api', 700, customer_id => %L, existing => 'now')$$, :'vip'), 'JB004', 'earlier price of the customer', 'update_subscription', 'and moves nobody from the list');

-- ---------------------------------------------------------------------------
-- Who bills it

SELECT billing.create_price('pro2', 300, component => 'seats');
SELECT billing.create_customer('parts');
SELECT fails($$SELECT billing.subscribe('parts', 'pro2', managed_by => 'provider')$$, 'JB004', 'cannot be billed by a provider', 'managed_by => ''local''',
	'no provider gets a part of a plan');
SELECT fails($$SELECT billing.subscribe('parts', 'pro2', managed_by => 'nobody')$$, '22023', 'unknown managed_by', NULL, 'who bills is a word');

-- ---------------------------------------------------------------------------
-- From a file

SELECT is((SELECT array_agg(i.action ORDER BY n) FROM generate_series(1, 2) AS n, LATERAL billing.import_plans(jsonb_build_array(jsonb_build_object('n', n) - 'n' || ('[{"plan": "meter", "name": "Meter", "prices": [
	{"amount": 0}, {"component": "seats", "amount": 500, "free_units": 3},
	{"component": "calls", "metric": "calls", "model": "graduated", "tiers": [{"up_to": 1000, "unit_amount": 0.5}, {"unit_amount": 0.250}]}]}]'::jsonb -> 0))) AS i),
	'{created,unchanged}', 'components and tiers come from a file, once');
SELECT is((SELECT components FROM billing.get_plans() WHERE plan = 'meter'),
	'[{"tiers": [{"up_to": 1000, "unit_amount": 0.5}, {"unit_amount": 0.25}], "model": "graduated", "metric": "calls", "interval": "month", "component": "calls", "interval_count": 1},
	  {"model": "per_unit", "amount": 500, "interval": "month", "component": "seats", "free_units": 3, "interval_count": 1}]'::jsonb, 'and are on the page of prices');
SELECT is((SELECT i.action FROM billing.import_plans('[{"plan": "meter", "name": "Meter", "prices": [
	{"amount": "0"}, {"component": "seats", "amount": "500", "free_units": "3"},
	{"component": "calls", "metric": "calls", "model": "graduated", "tiers": [{"up_to": "1000", "unit_amount": "0.50"}, {"unit_amount": "0.25"}]}]}]') AS i),
	'unchanged', 'a number may be a string there, and is the same');
SELECT fails($$SELECT billing.import_plans('[{"plan": "meter", "prices": [{"component": "calls", "tiers": [{"up_to": 5}, {"unit_amount": "much"}]}]}]')$$, '22023',
	'a price in element 0 of plans has no number as unit_amount of tier 2: "much"', 'string', 'what is none is named');
SELECT fails($$SELECT billing.import_plans('[{"plan": "meter", "prices": [{"amount": "12.5"}]}]')$$, '22023', 'no number as amount: "12.5"', NULL, 'amounts are whole');
SELECT fails($$SELECT billing.import_plans('[{"plan": "meter", "prices": [{"cost": 5}]}]')$$, '22023', 'unknown member "cost"', 'create_price', 'a member that is none is a mistake');

-- ---------------------------------------------------------------------------
-- Add-ons

SELECT billing.create_add_on('Backup', 'Backup', '{"storage": 1000}');
SELECT lives_ok($$SELECT billing.set_add_on_price('Backup', 250)$$, 'an add-on has a price');
SELECT fails($$SELECT billing.set_add_on_price('Nothing', 250)$$, 'JB005', 'unknown add-on', 'Backup', 'one that there is');
SELECT billing.create_customer('addon');
SELECT billing.subscribe('addon', 'pro2', managed_by => 'local', collection_method => 'send_invoice', days_until_due => 5) AS addon \gset
SELECT billing.set_add_on('addon', 'Backup', 3);
SELECT results_eq(format('SELECT component, quantity FROM billing.subscription_items WHERE subscription_id = %L ORDER BY 1', :'addon'),
	$$VALUES ('addon.Backup', 3::bigint), ('base', 1), ('seats', 1)$$, 'it is an item of the local subscription');
SELECT fails($$SELECT billing.set_add_on('addon', 'Backup', 3, now() + interval '1 year')$$, 'JB004', 'billed until it is removed', NULL, 'for good');
SELECT billing.set_add_on('addon', 'Backup', 0);
SELECT is((SELECT count(*) FROM billing.subscription_items WHERE component = 'addon.Backup'), 0::bigint, 'and is none when it is removed');

SELECT * FROM finish();

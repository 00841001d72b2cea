-- Raw card numbers are refused wherever people put them by mistake, and nothing
-- else that has many digits is taken for one.
\ir helpers.psql

SELECT billing.create_customer('acme', 'a@acme.example') AS acme \gset
SELECT billing.create_plan('basic', 'Basic', 500) AS basic \gset
CALL billing.run_worker();
SELECT billing.subscribe('acme', 'basic', trial_days => 30) AS subscription \gset
CALL billing.run_worker();

CREATE TABLE numbers (network text, number text);
INSERT INTO numbers VALUES
	('Visa', '4242424242424242'), ('Visa 13', '4222222222222'), ('Visa 19', '4000000000000000006'), ('Mastercard', '5555555555554444'),
	('Mastercard 2', '2223003122003222'), ('Amex', '378282246310005'), ('Discover', '6011111111111117'), ('JCB', '3530111333300000'),
	('Diners', '30569309025904'), ('Diners 36', '36227206271667'), ('UnionPay', '6200000000000005'),
	('with blanks', '4242 4242 4242 4242'), ('with hyphens', '4000-0027-6000-3184'), ('Amex with blanks', '3782 822463 10005');

-- Every place that is looked at; %L is the number, %s stands inside of a longer text.
CREATE TABLE places (place text, call text);
INSERT INTO places VALUES
	('a payment method', $$SELECT billing.attach_payment_method(billing.find_customer('acme'), %L)$$),
	('a payment method of a subscription', $$SELECT billing.subscribe('acme', 'pro', %L)$$),
	('a payment method of a change', $$SELECT billing.update_subscription(subscription_of('acme'), payment_method => %L)$$),
	('metadata of a payment method', $$SELECT billing.attach_payment_method(billing.find_customer('acme'), 'pm_card_visa', metadata => jsonb_build_object('n', %L::text))$$),
	('the name of a customer', $$SELECT billing.create_customer('x', name => %L)$$),
	('the description of a customer', $$SELECT billing.create_customer('x', description => %L)$$),
	('the address of a customer', $$SELECT billing.create_customer('x', address => jsonb_build_object('line1', %L::text))$$),
	('metadata of a customer', $$SELECT billing.create_customer('x', metadata => jsonb_build_object('n', %L::text))$$),
	('a key of metadata', $$SELECT billing.create_customer('x', metadata => jsonb_build_object(%L::text, 1))$$),
	('a changed name', $$SELECT billing.update_customer(billing.find_customer('acme'), jsonb_build_object('name', %L::text))$$),
	('a changed description', $$SELECT billing.update_customer(billing.find_customer('acme'), jsonb_build_object('description', %L::text))$$),
	('a changed locale', $$SELECT billing.update_customer(billing.find_customer('acme'), jsonb_build_object('locale', %L::text))$$),
	('changed tax ids', $$SELECT billing.update_customer(billing.find_customer('acme'), jsonb_build_object('tax_ids', jsonb_build_array(jsonb_build_object('type', 'eu_vat', 'value', %L::text))))$$),
	('changed metadata', $$SELECT billing.update_customer(billing.find_customer('acme'), jsonb_build_object('metadata', jsonb_build_object('n', %L::text)))$$),
	('the name beside a bad e-mail address', $$SELECT billing.create_customer('x', 'bad mail', name => %L)$$),
	('the name of no organisation', $$SELECT billing.create_customer(NULL, name => %L)$$),
	('the name beside a bad key', $$SELECT billing.create_customer('x', name => %L, idempotency_key => '')$$),
	('the country of a customer', $$SELECT billing.create_customer('x', country => %L)$$),
	('the change of no customer', $$SELECT billing.update_customer(gen_random_uuid(), jsonb_build_object('name', %L::text))$$),
	('the change beside an unknown member', $$SELECT billing.update_customer(billing.find_customer('acme'), jsonb_build_object('a', 1, 'name', %L::text))$$),
	('changes that are no object', $$SELECT billing.update_customer(billing.find_customer('acme'), jsonb_build_array(%L::text))$$),
	('a payment method of no customer', $$SELECT billing.attach_payment_method(NULL, %L)$$),
	('metadata of a payment method, too deep', $$SELECT billing.attach_payment_method(billing.find_customer('acme'), '', metadata => jsonb_build_object('n', jsonb_build_array(%L::text)))$$),
	('a payment method of a subscription of nothing', $$SELECT billing.subscribe(NULL, NULL, %L, quantity => 0)$$),
	('metadata of a subscription, beside a bad quantity', $$SELECT billing.subscribe('acme', 'pro', quantity => 0, metadata => jsonb_build_object('n', %L::text))$$),
	('the name of a plan with a bad code', $$SELECT billing.create_plan('not a code', %L, 1)$$),
	('the description of a plan with a bad code', $$SELECT billing.create_plan('not a code', 'X', 1, description => %L)$$),
	('metadata of a plan with a bad code', $$SELECT billing.create_plan('not a code', 'X', 1, metadata => jsonb_build_object('n', %L::text))$$),
	('metadata of a subscription', $$SELECT billing.subscribe('acme', 'pro', metadata => jsonb_build_object('n', %L::text))$$),
	('the reason of a cancellation', $$SELECT billing.cancel_subscription(subscription_of('acme'), reason => %L)$$),
	('what is not one of the words that there are', $$SELECT billing.create_payment_intent(billing.find_customer('acme'), 100, capture_method => %L)$$),
	('the method of a confirmation', $$SELECT billing.confirm_payment_intent(NULL, method => %L)$$),
	('methods of a page', $$SELECT billing.create_checkout_session(billing.find_customer('acme'), plan => 'pro', success_url => 'https://a.example', methods => ARRAY[%L])$$),
	('the comment of a cancellation', $$SELECT billing.cancel_subscription(subscription_of('acme'), comment => %L)$$),
	('the name of a plan', $$SELECT billing.create_plan('x', %L, 1)$$),
	('the description of a plan', $$SELECT billing.create_plan('x', 'X', 1, description => %L)$$),
	('metadata of a plan', $$SELECT billing.create_plan('x', 'X', 1, metadata => jsonb_build_object('n', %L::text))$$),
	('options of an account', $$SELECT billing.configure_provider('sandbox', account => 'x', options => jsonb_build_object('behave_as', %L::text))$$),
	('a publishable key', $$SELECT billing.configure_provider('stripe', 'sk_test_x', publishable_key => %L)$$);

SELECT plan(((SELECT count(*) FROM places) * 2 + (SELECT count(*) FROM numbers) + 30)::integer);

SELECT fails(format(call, '4242424242424242'), 'JB009', 'card number', NULL, format('a card number in %s is refused', place)) FROM places;
SELECT fails(format(call, '5105-1051-0510-5100'), 'JB009', 'card number', NULL, format('with hyphens in %s, too', place)) FROM places;
SELECT fails(format($$SELECT billing.attach_payment_method(billing.find_customer('acme'), %L)$$, number), 'JB009', 'payment_method holds a card number', NULL,
	format('a number of %s is refused', network)) FROM numbers;

-- ---------------------------------------------------------------------------
-- Deeper, and inside of longer texts

SELECT fails($$SELECT billing.create_customer('x', metadata => '{"n": 4242424242424242}')$$, 'JB009', 'metadata holds', NULL, 'a number as a JSON number is found');
SELECT fails($$SELECT billing.create_customer('x', address => '{"lines": [{"deep": "5555555555554444"}]}')$$, 'JB009', 'address holds', NULL, 'nested JSON is searched');
SELECT fails($$SELECT billing.create_customer('x', description => 'paid with 4242 4242 4242 4242 by phone')$$, 'JB009', 'description holds', NULL, 'a number in groups of four is found inside of a longer text');
SELECT fails($$SELECT billing.create_customer('x', metadata => '{"note": "amex 3782-822463-10005 on file"}')$$, 'JB009', 'metadata holds', NULL, 'as it is printed on an American Express card, too');
SELECT fails($$SELECT billing.create_customer('x', name => '4242 4242 4242 4242')$$, 'JB009', 'name holds', 'pm_card_visa', 'for a published test number the token is named');
SELECT fails($$SELECT billing.create_customer('x', name => '4000 0000 0000 0002')$$, 'JB009', 'name holds', 'pm_card_(visa_)?chargeDeclined"', 'for the declined one, too');
SELECT fails($$SELECT billing.create_customer('x', name => '4000 0027 6000 3184')$$, 'JB009', 'name holds', 'pm_card_authenticationRequired"', 'and for the one with 3-D Secure');
SELECT fails($$SELECT billing.create_customer('x', name => '5555555555554444')$$, 'JB009', 'name holds', 'provider''s form', 'for any other the way to a token is named');
SELECT is((SELECT count(*) FROM billing.customers WHERE organization_id = 'x'), 0::bigint, 'of a refused call nothing is left');

-- ---------------------------------------------------------------------------
-- What is no card number

SELECT lives_ok($$SELECT billing.create_customer('near', name => '4242424242424241')$$, 'a wrong check digit is no card number');
SELECT lives_ok($$SELECT billing.create_customer('short', name => '424242424242')$$, 'twelve digits are no card number');
SELECT lives_ok($$SELECT billing.create_customer('prefix', name => '9999999999999995')$$, 'a prefix of no network is no card number');
SELECT lives_ok($$SELECT billing.create_customer('words', name => 'Order x4242424242424242y of yesterday')$$, 'digits in the middle of a word are no card number');
SELECT lives_ok($$SELECT billing.create_customer('4242424242424242')$$, 'organization_id is not searched: it is an id');
SELECT lives_ok($$SELECT billing.create_customer('phone', phone => '4242424242424242')$$, 'phone is not searched');
SELECT lives_ok($$SELECT billing.update_customer(billing.find_customer('phone'), '{"phone": "5555555555554444"}')$$, 'not when it changes, either');
SELECT lives_ok($$SELECT billing.create_customer('key', idempotency_key => '4242424242424242')$$, 'an idempotency key is not searched');
SELECT lives_ok($$SELECT billing.record_usage('acme', 'api_calls', 1, idempotency_key => '4242424242424242', properties => '{"n": "4242424242424242"}')$$, 'neither are usage keys and properties');
SELECT lives_ok($$SELECT billing.record_usage('4242424242424242', 'api_calls')$$, 'nor the organisation of usage');

-- 10,000 CLABEs, OXXO references and stamps of milliseconds, from a fixed seed.
SELECT setseed(0.42);
CREATE TABLE harmless AS
SELECT i,
	CASE i % 3
		WHEN 0 THEN lpad((random() * 1e17)::bigint::text, 17, '0') || (random() * 9)::integer  -- CLABE: 18 digits
		WHEN 1 THEN '9' || lpad((random() * 1e13)::bigint::text, 13, '0')                      -- OXXO: 14 digits
		ELSE (1600000000000 + (random() * 3e11)::bigint)::text                                 -- milliseconds since 1970: 13 digits
	END AS value
FROM generate_series(1, 10000) AS i;
-- one in ten passes the check digit, as it must be for the test to mean something
CREATE FUNCTION luhn(digits text) RETURNS boolean LANGUAGE sql AS $$
	SELECT sum(CASE WHEN p % 2 = 0 THEN CASE WHEN d * 2 > 9 THEN d * 2 - 9 ELSE d * 2 END ELSE d END) % 10 = 0
	FROM (SELECT substr(reverse(digits), i, 1)::integer AS d, i AS p FROM generate_series(1, length(digits)) AS i) AS x $$;
SELECT cmp_ok((SELECT count(*) FROM harmless WHERE luhn(value)), '>', 700::bigint, 'hundreds of these numbers pass the check digit');
SELECT lives_ok($$SELECT billing.record_usage('acme', 'api_calls', 1, idempotency_key => value, properties => jsonb_build_object('reference', value)) FROM harmless$$,
	'10,000 CLABEs, OXXO references and millisecond stamps in usage raise no alarm');
SELECT lives_ok($$SELECT billing.create_customer('ref-' || i, phone => value, idempotency_key => value) FROM harmless WHERE i <= 300$$,
	'nor do they as phone and key of customers');
SELECT lives_ok($$SELECT billing.create_customer('stamp-' || i, metadata => jsonb_build_object('at', value::bigint)) FROM harmless WHERE i % 3 = 2 AND i <= 600$$,
	'a stamp of milliseconds in metadata raises no alarm');
SELECT lives_ok($$SELECT billing.create_customer('uuid', metadata => jsonb_build_object('id', gen_random_uuid(), 'at', now()))$$, 'nor does a uuid or a time');
SELECT ok(luhn('36227206271667'), 'this tax id passes the check digit of a Diners card');
SELECT lives_ok($$SELECT billing.create_customer('cnpj', tax_ids => '[{"type": "br_cnpj", "value": "36227206271667"}]')$$, 'tax ids are not searched: those of Brazil have 14 digits');
SELECT lives_ok($$SELECT billing.create_customer('clabe', metadata => '{"clabe": "032180000118359719"}')$$, 'nor does a CLABE in metadata');

-- ---------------------------------------------------------------------------
-- Triggers of the application's table

CREATE TABLE public.companies (id integer PRIMARY KEY, title text);
SELECT billing.attach_organizations('companies', name_column => 'title');
SELECT fails($$INSERT INTO companies VALUES (1, '4242 4242 4242 4242')$$, 'JB009', 'name holds a card number', NULL, 'a card number in the application''s table is refused, too');
SELECT is((SELECT count(*) FROM companies), 0::bigint, 'with the row');
SELECT ok(NOT EXISTS (SELECT FROM billing.customers AS c WHERE c.metadata::text ~ '4242424242424242' OR c.description ~ '4242'), 'no card number is in the tables of customers');

SELECT * FROM finish();

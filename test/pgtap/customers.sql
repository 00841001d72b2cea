-- Customers: one per organisation, personal data sealed.
\ir helpers.psql
SELECT plan(76);

-- ---------------------------------------------------------------------------
-- Creating one

BEGIN;
SELECT billing.create_customer('acme', 'Billing@Acme.example', 'Acme Ltd', 'mx', phone => '+52 55 1234 5678',
	address => '{"line1": "Reforma 1", "city": "CDMX", "country": "MX"}', tax_ids => '[{"type": "mx_rfc", "value": "AAA010101AAA"}]',
	currency => 'mxn', timezone => 'America/Mexico_City', locale => 'es', description => 'first one', metadata => '{"tier": "gold"}') AS acme \gset
SELECT is((SELECT array_agg(operation || ' ' || state) FROM billing.outbox WHERE object_id = :'acme'), '{"customer.create queued"}',
	'creating a customer queues one request in the same transaction');
ROLLBACK;
SELECT is((SELECT count(*) FROM billing.customers), 0::bigint, 'a rolled-back customer is not there');
SELECT is((SELECT count(*) FROM billing.outbox), 0::bigint, 'and nothing is sent for it');

SELECT billing.create_customer('acme', 'Billing@Acme.example', 'Acme Ltd', 'mx', phone => '+52 55 1234 5678',
	address => '{"line1": "Reforma 1", "city": "CDMX", "country": "MX"}', tax_ids => '[{"type": "mx_rfc", "value": "AAA010101AAA"}]',
	currency => 'mxn', timezone => 'America/Mexico_City', locale => 'es', description => 'first one', metadata => '{"tier": "gold"}') AS acme \gset
SELECT is(billing.find_customer('acme'), :'acme', 'find_customer finds it by the organisation');
SELECT is(billing.find_customer('nobody'), NULL::uuid, 'and nothing for an organisation without one');
SELECT results_eq(
	format($$SELECT email, name, phone, address ->> 'city', tax_ids -> 0 ->> 'value', country, currency, locale, timezone, description,
		metadata, provider, livemode, tax_exempt FROM billing.get_customer(%L)$$, :'acme'),
	$$VALUES ('Billing@Acme.example', 'Acme Ltd', '+52 55 1234 5678', 'CDMX', 'AAA010101AAA', 'MX', 'MXN', 'es', 'America/Mexico_City',
		'first one', '{"tier": "gold"}'::jsonb, 'sandbox', false, 'none')$$,
	'get_customer shows what was said, with codes in upper case, in test mode at the sandbox');
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.outbox), 0::bigint, 'the worker sends it');
SELECT matches((SELECT provider_customer_id FROM billing.customer_details WHERE id = :'acme'), '^cus_sbx_', 'the provider knows it then under an id of its own');
SELECT is(billing.await(:'acme', '10 seconds'), 'active', 'await tells its state');

-- ---------------------------------------------------------------------------
-- The same again

SELECT is(billing.create_customer('acme', 'Billing@Acme.example', 'Acme Ltd'), :'acme', 'the same arguments give the same customer');
SELECT is(billing.create_customer('acme'), :'acme', 'arguments that say nothing else, too');
SELECT is((SELECT count(*) FROM billing.outbox), 0::bigint, 'and nothing is sent a second time');
SELECT fails($$SELECT billing.create_customer('acme', 'other@acme.example')$$, '23505', 'another email', 'update_customer', 'another e-mail address is refused and named');
SELECT fails($$SELECT billing.create_customer('acme', name => 'Acme SA')$$, '23505', 'another name', 'update_customer', 'another name is refused and named');
SELECT fails($$SELECT billing.create_customer('acme', country => 'US')$$, '23505', 'another country', 'update_customer', 'another country is refused and named');
SELECT fails($$SELECT billing.create_customer('acme', address => '{"line1": "Elsewhere"}')$$, '23505', 'another address', NULL, 'another address is refused and named');
SELECT fails($$SELECT billing.create_customer('acme', metadata => '{}')$$, '23505', 'another metadata', NULL, 'other metadata is refused and named');
SELECT is(billing.create_customer('acme', country => 'mx', currency => 'MXN'), :'acme', 'codes in another case are no difference');

-- ---------------------------------------------------------------------------
-- Idempotency keys

SELECT billing.create_customer('keyed', 'k@example.com', 'Keyed', idempotency_key => 'k1') AS keyed \gset
SELECT is(billing.create_customer('keyed', 'k@example.com', 'Keyed', idempotency_key => 'k1'), :'keyed', 'the same key and arguments give the same id');
SELECT fails($$SELECT billing.create_customer('keyed', 'k2@example.com', 'Keyed', idempotency_key => 'k1')$$, 'JB007', 'used with another email', 'new key', 'the key with another e-mail address is refused and names it');
SELECT fails($$SELECT billing.create_customer('keyed', 'k@example.com', idempotency_key => 'k1')$$, 'JB007', 'used with another name', 'new key', 'leaving an argument out is another argument');
SELECT fails($$SELECT billing.create_customer('keyed', 'k@example.com', 'Keyed', metadata => '{"a": 1}', idempotency_key => 'k1')$$, 'JB007', 'used with another metadata', NULL, 'the key with other metadata is refused');
SELECT fails($$SELECT billing.create_customer('x', idempotency_key => '')$$, '22023', 'idempotency_key is empty', NULL, 'an empty key is refused');
SELECT fails($$SELECT billing.create_customer('x', idempotency_key => repeat('k', 256))$$, '22023', 'longer than 255', NULL, 'a key has 255 characters at most');
SELECT isnt(billing.create_customer('keyed too', idempotency_key => 'k1'), :'keyed', 'keys belong to one organisation');
SELECT unalike((SELECT string_agg(arguments::text, ' ') FROM billing.idempotency_keys), '%k@example.com%', 'what was said is not kept with the key in clear text');

-- ---------------------------------------------------------------------------
-- What is refused

SELECT fails($$SELECT billing.create_customer(NULL)$$, '23502', 'organization_id must be given', NULL, 'a customer needs an organisation');
SELECT fails($$SELECT billing.create_customer('')$$, '23502', 'organization_id must be given', NULL, 'an empty organisation is none');
SELECT fails($$SELECT billing.create_customer(repeat('o', 256))$$, '22023', 'organization_id', NULL, 'the id of an organisation has 255 characters at most');
SELECT fails($$SELECT billing.create_customer('x', country => 'XX')$$, '22023', 'unknown country "XX"', 'ISO 3166', 'an unknown country is refused');
SELECT fails($$SELECT billing.create_customer('x', country => 'Mexico')$$, '22023', 'unknown country "Mexico"', 'two-letter', 'a country is a code, not a name');
SELECT fails($$SELECT billing.create_customer('x', currency => 'EURO')$$, '22023', 'unknown currency "EURO"', 'ISO 4217', 'an unknown currency is refused');
SELECT fails($$SELECT billing.create_customer('x', 'nobody')$$, '22023', 'email is not an e-mail address', NULL, 'what cannot be an e-mail address is refused');
SELECT fails($$SELECT billing.create_customer('x', 'a@b.example, c@d.example')$$, '22023', 'email is not an e-mail address', 'single', 'two addresses are not one');
SELECT fails($$SELECT billing.create_customer('x', provider => 'paypal')$$, 'JB005', 'unknown provider "paypal"', 'sandbox, stripe', 'an unknown provider is refused, and those that there are are listed');
SELECT fails($$SELECT billing.create_customer('x', provider => 'stripe')$$, 'JB006', 'stripe', 'configure_provider', 'a provider that is not configured is refused');
SELECT fails($$SELECT billing.create_customer('x', timezone => 'Mars/Phobos')$$, '22023', 'unknown time zone', 'pg_timezone_names', 'an unknown time zone is refused');
SELECT fails($$SELECT billing.create_customer('x', tax_exempt => 'maybe')$$, '22023', 'unknown tax_exempt', 'none, exempt, reverse', 'tax_exempt is one of three words');
SELECT fails($$SELECT billing.create_customer('x', address => '"Reforma 1"')$$, '22023', 'address is not an object', 'line1', 'an address is an object');
SELECT fails($$SELECT billing.create_customer('x', address => '{"country": "XX"}')$$, '22023', 'unknown country "XX"', NULL, 'the country of an address is checked');
SELECT fails($$SELECT billing.create_customer('x', tax_ids => '{"type": "eu_vat"}')$$, '22023', 'tax_ids is not an array', NULL, 'tax ids are a list');
SELECT fails($$SELECT billing.create_customer('x', tax_ids => '[{"type": "eu_vat"}]')$$, '22023', 'element 0 of tax_ids', NULL, 'a tax id has a type and a value');
SELECT fails($$SELECT billing.create_customer('x', metadata => '[1]')$$, '22023', 'metadata is not an object', NULL, 'metadata is an object');
SELECT fails($$SELECT billing.create_customer('x', metadata => '{"a": {"b": 1}}')$$, '22023', 'member "a" of metadata', 'flat', 'metadata is flat, as providers keep it');
SELECT is(billing.find_customer('x'), NULL::uuid, 'of a refused customer nothing is left');

-- ---------------------------------------------------------------------------
-- What a provider requires

SELECT billing.configure_provider('sandbox', account => 'mexico', options => '{"behave_as": "conekta"}');
SELECT fails($$SELECT billing.create_customer('tacos', provider => 'sandbox', account => 'mexico')$$, '23502', 'sandbox requires name', 'name', 'data that the provider requires is asked for in the call');
SELECT fails($$SELECT billing.create_customer('tacos', 'a@b.mx', 'Tacos', provider => 'sandbox', account => 'mexico')$$, '23502', 'sandbox requires phone', 'phone', 'all of it');
SELECT lives_ok($$SELECT billing.create_customer('tacos', 'a@b.mx', 'Tacos', phone => '+525512345678', provider => 'sandbox', account => 'mexico')$$, 'with it the customer is made');

-- ---------------------------------------------------------------------------
-- Updating

BEGIN;
SELECT billing.update_customer(:'acme', '{"email": "new@acme.example", "metadata": {"tier": null, "seats": 4}, "phone": null, "tax_exempt": "reverse"}');
SELECT is((SELECT array_agg(operation) FROM billing.outbox WHERE object_id = :'acme'), '{customer.update}', 'a change is one request');
SELECT unalike((SELECT arguments::text FROM billing.outbox WHERE object_id = :'acme'), '%new@acme.example%', 'that holds no personal data');
COMMIT;
SELECT results_eq(format($$SELECT email, name, phone, tax_exempt, metadata FROM billing.get_customer(%L)$$, :'acme'),
	$$VALUES ('new@acme.example', 'Acme Ltd', NULL::text, 'reverse', '{"seats": 4}'::jsonb)$$,
	'what is named changes, null clears, metadata is merged and null removes a member');
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.outbox), 0::bigint, 'the worker tells the provider');
BEGIN;
SELECT billing.update_customer(:'acme', '{"timezone": "Europe/Berlin"}');
SELECT is((SELECT count(*) FROM billing.outbox WHERE object_id = :'acme'), 0::bigint, 'what no provider keeps is no request');
COMMIT;
SELECT fails(format($$SELECT billing.update_customer(%L, '{"mail": "x"}')$$, :'acme'), '22023', 'no "mail"', 'email, name, phone', 'an unknown member is refused, and those that there are are listed');
SELECT fails(format($$SELECT billing.update_customer(%L, '{"country": "XX"}')$$, :'acme'), '22023', 'unknown country', NULL, 'a bad value is refused');
SELECT fails(format($$SELECT billing.update_customer(%L, '[]')$$, :'acme'), '22023', 'changes is not an object', NULL, 'changes are an object');
SELECT fails($$SELECT billing.update_customer('00000000-0000-7000-8000-000000000000', '{}')$$, 'JB005', 'unknown customer', NULL, 'an unknown customer is refused');

-- ---------------------------------------------------------------------------
-- Personal data

SELECT results_eq(
	$$SELECT attname::text COLLATE "default" FROM pg_attribute WHERE attrelid = 'billing.customers'::regclass AND atttypid = 'bytea'::regtype ORDER BY 1$$,
	$$VALUES ('address'), ('email'), ('email_hash'), ('name'), ('phone'), ('tax_ids')$$,
	'personal columns are bytea');
SELECT ok(NOT EXISTS (SELECT FROM billing.customers AS c WHERE c::text ~* 'acme ltd|acme\.example|reforma|AAA010101'
		OR position('acme'::bytea IN c.email) > 0 OR position('Acme'::bytea IN c.name) > 0
		OR position('Reforma'::bytea IN c.address) > 0 OR position('AAA010101'::bytea IN c.tax_ids) > 0),
	'and hold nothing of it in clear text');
SELECT isnt((SELECT email FROM billing.customers WHERE organization_id = 'keyed'),
	(SELECT email FROM billing.customers WHERE organization_id = 'tacos'), 'two addresses are sealed differently');
SELECT fails($$SELECT billing.decrypt(a.name, 'customers.name', b.id) FROM billing.customers AS a, billing.customers AS b
	WHERE a.organization_id = 'acme' AND b.organization_id = 'keyed'$$, 'JB012', '.', NULL, 'a value that is moved to another row does not open');
SELECT fails($$SELECT billing.decrypt(name, 'customers.email', id) FROM billing.customers WHERE organization_id = 'acme'$$, 'JB012', '.', NULL, 'nor does one that is moved to another column');
SELECT fails($$SELECT billing.decrypt(set_byte(name, length(name) - 1, get_byte(name, length(name) - 1) # 1), 'customers.name', id)
	FROM billing.customers WHERE organization_id = 'acme'$$, 'JB012', '.', NULL, 'nor one of which a bit was changed');
SELECT results_eq($$SELECT * FROM billing.find_customers_by_email('NEW@Acme.Example')$$, format($$VALUES (%L::uuid)$$, :'acme'), 'customers are found by e-mail in any case of letters');
SELECT is_empty($$SELECT * FROM billing.find_customers_by_email('Billing@Acme.example')$$, 'and not by an address that they no longer have');

-- ---------------------------------------------------------------------------
-- Deleting

SELECT billing.subscribe('acme', 'pro', trial_days => 7, currency => 'USD') AS subscription \gset
CALL billing.run_worker();
SELECT is(status_of('acme'), 'trialing', 'a customer has a subscription');
SELECT billing.attach_payment_method(:'acme', 'pm_card_visa') AS visa \gset
CALL billing.run_worker();
SELECT billing.delete_customer(:'acme');
SELECT billing.delete_customer(:'acme');
CALL billing.run_worker();
SELECT is((SELECT state FROM billing.payment_methods WHERE id = :'visa'), 'detached', 'a deleted customer has no payment methods');
SELECT lives_ok(format($$SELECT billing.detach_payment_method(%L)$$, :'visa'), 'detaching one of them is harmless');
SELECT is((SELECT count(*) FROM billing.outbox WHERE object_id = :'visa'), 0::bigint, 'and sends nothing');
SELECT is(status_of('acme'), 'canceled', 'deleting the customer cancels it');
SELECT is((SELECT count(*) FROM billing.outbox_finished WHERE object_id = :'acme' AND operation = 'customer.delete'), 1::bigint, 'deleting twice is one request');
SELECT is(billing.find_customer('acme'), NULL::uuid, 'a deleted customer is not found');
SELECT isnt((SELECT deleted_at FROM billing.customers WHERE id = :'acme'), NULL, 'its row stays');
SELECT is(billing.await(:'acme', '1 second'), 'deleted', 'its state is deleted');
SELECT fails(format($$SELECT billing.update_customer(%L, '{"name": "x"}')$$, :'acme'), 'JB008', 'is deleted', NULL, 'it cannot be changed any more');
SELECT isnt(billing.create_customer('acme', 'again@acme.example'), :'acme', 'the organisation can have a new customer');

SELECT * FROM finish();

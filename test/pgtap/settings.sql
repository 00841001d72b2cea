-- Business settings, seeded data, accounts and keys.
\ir helpers.psql
SELECT plan(52);

SELECT results_eq($$SELECT name, value FROM billing.settings ORDER BY name$$,
	$$VALUES ('audit_retention', NULL), ('billing_alignment', 'anniversary'), ('cancel_margin', '24 hours'), ('circuit_pause', '30 seconds'), ('circuit_threshold', '5'), ('days_until_due', '30'), ('default_currency', 'USD'), ('default_provider', NULL), ('dunning_end', 'unpaid'), ('dunning_schedule', '3 5 7'), ('hosted_invoice_page', 'false'), ('invoice_cancel_url', NULL), ('invoice_lead_days', '7'), ('invoice_page_lifetime', '23 hours'), ('invoice_success_url', NULL), ('max_attempts', '20'), ('max_webhook_size', '1048576'), ('outbox_retention', '90 days'),
		('proration_unit', 'second'), ('raw_body_retention', '90 days'), ('reference_grace', '3 days'), ('retry_base', '2 seconds'), ('retry_cap', '1 hour'), ('tax_behavior', 'exclusive'), ('tax_note_exempt', 'Exempt from tax.'), ('tax_note_reverse', 'Reverse charge: the tax is owed by the recipient.'), ('timezone', 'UTC'), ('trial_notice', '3 days'), ('usage_ahead', '1 day'), ('usage_forward_delay', '5 minutes'), ('usage_grace', '1 hour'), ('usage_retention', '13 months'),
		('webhook_patience', '1 hour'), ('webhook_tolerance', '300 seconds'), ('webhook_tolerance_future', '300 seconds'), ('webhook_url', NULL)$$,
	'these settings are there, with these values');
SELECT is((SELECT count(*) FROM billing.settings WHERE description = ''), 0::bigint, 'each says what it is for');
SELECT fails($$UPDATE billing.settings SET value = 'dollar' WHERE name = 'default_currency'$$, '22023', 'unknown currency "dollar"', 'USD', 'a currency is a code');
SELECT throws_ok($$UPDATE billing.settings SET value = '-1 day' WHERE name = 'webhook_tolerance'$$, '22023', NULL, 'a negative time is refused');
SELECT throws_ok($$UPDATE billing.settings SET value = 'a while' WHERE name = 'retry_base'$$, '22023', NULL, 'what is no time is refused');
SELECT throws_ok($$UPDATE billing.settings SET value = 'many' WHERE name = 'max_attempts'$$, '22023', NULL, 'what is no number is refused');
SELECT throws_ok($$UPDATE billing.settings SET value = '0' WHERE name = 'max_attempts'$$, '22023', NULL, 'no attempt at all is refused');
SELECT throws_ok($$UPDATE billing.settings SET value = '-5' WHERE name = 'max_webhook_size'$$, '22023', NULL, 'so is a negative size');
SELECT throws_ok($$UPDATE billing.settings SET value = '100 years' WHERE name = 'webhook_tolerance'$$, '22023', NULL, 'so is a time of a hundred years');
SELECT fails($$UPDATE billing.settings SET value = 'XXX' WHERE name = 'default_currency'$$, '22023', 'unknown currency "XXX"', 'ISO 4217', 'and a currency that there is not');
SELECT fails($$UPDATE billing.settings SET value = 'paypal' WHERE name = 'default_provider'$$, 'JB005', 'unknown provider "paypal"', 'billing.providers', 'and a provider that there is not');
SELECT fails($$DELETE FROM billing.settings WHERE name = 'max_attempts'$$, 'JB008', 'cannot be deleted', 'NULL', 'a setting cannot be deleted');

UPDATE billing.settings SET value = 'EUR' WHERE name = 'default_currency';
SELECT is((SELECT builtin FROM billing.settings WHERE name = 'default_currency'), false, 'a setting that was changed is an administrator''s');
SELECT billing.create_plan('euro', 'Euro', 100) AS euro \gset
SELECT is((SELECT currency FROM billing.get_plans() WHERE plan = 'euro'), 'EUR', 'and counts at once');
UPDATE billing.settings SET value = NULL WHERE name = 'default_currency';
SELECT fails($$SELECT billing.create_plan('none', 'None', 100)$$, '23502', 'currency must be given', NULL, 'without a default a currency has to be named');
UPDATE billing.settings SET value = 'USD' WHERE name = 'default_currency';
BEGIN;
UPDATE billing.settings SET value = 'sandbox' WHERE name = 'default_provider';
ROLLBACK;
SELECT is((SELECT value FROM billing.settings WHERE name = 'default_provider'), NULL, 'settings are transactional');

-- ---------------------------------------------------------------------------
-- Currencies and countries

SELECT is((SELECT exponent FROM billing.currencies WHERE code = 'JPY'), 0::smallint, 'the yen has no minor unit');
SELECT is((SELECT exponent FROM billing.currencies WHERE code = 'KWD'), 3::smallint, 'the dinar of Kuwait has three decimals');
SELECT is((SELECT exponent FROM billing.currencies WHERE code = 'MXN'), 2::smallint, 'the peso has two');
SELECT is((SELECT count(*) FROM billing.countries), 249::bigint, 'there are 249 countries');
UPDATE billing.currencies SET retired = true WHERE code = 'ZMW';
SELECT fails($$SELECT billing.create_plan('x', 'X', 1, 'ZMW')$$, '22023', 'unknown currency "ZMW"', NULL, 'a retired currency is not taken any more');
SELECT fails($$DELETE FROM billing.currencies WHERE code = 'USD'$$, 'JB008', 'cannot be deleted', 'retired', 'a currency is retired, not deleted');
SELECT fails($$DELETE FROM billing.countries WHERE code = 'MX'$$, 'JB008', 'cannot be deleted', 'retired', 'so is a country');

-- a dumped row takes the place of the built-in one
INSERT INTO billing.settings (name, value, kind, description, builtin) VALUES ('max_attempts', '7', 'integer', 'mine', false);
SELECT results_eq($$SELECT value, builtin FROM billing.settings WHERE name = 'max_attempts'$$, $$VALUES ('7', false)$$, 'a restored row takes the place of the built-in one');
INSERT INTO billing.prices (id, plan_id, currency, amount, retired_at, builtin)
VALUES ('00000000-0000-7000-8001-000000000002', '00000000-0000-7000-8000-000000000002', 'USD', 2500, now(), false);
SELECT results_eq($$SELECT amount, retired_at IS NOT NULL, builtin FROM billing.prices WHERE id = '00000000-0000-7000-8001-000000000002'$$, $$VALUES (2500::bigint, true, false)$$, 'a restored price, too, although terms never change otherwise');

-- ---------------------------------------------------------------------------
-- Accounts

SELECT fails($$SELECT billing.configure_provider('paypal', 'x')$$, 'JB005', 'unknown provider "paypal"', 'sandbox, stripe', 'an unknown provider is refused');
SELECT fails($$SELECT billing.configure_provider('stripe', 'pk_test_x')$$, '22023', 'secret_key cannot be a key', 'dashboard', 'a publishable key is no secret key');
SELECT fails($$SELECT billing.configure_provider('stripe', 'sk_test_x y')$$, '22023', 'secret_key cannot be a key', NULL, 'a key has no blanks');
SELECT fails($$SELECT billing.configure_provider('stripe', '')$$, '22023', 'secret_key', NULL, 'an empty key is refused');
SELECT fails($$SELECT billing.configure_provider('stripe')$$, '23502', 'secret_key must be given', NULL, 'the first time a key is needed');
SELECT fails($$SELECT billing.configure_provider('stripe', 'sk_test_x', base_url => 'http://api.example.com')$$, '22023', 'base_url', 'https', 'plain http goes to loopback only');
SELECT fails($$SELECT billing.configure_provider('stripe', 'sk_test_x', base_url => 'http://127.0.0.1.example.com')$$, '22023', 'base_url', 'https', 'and not to what only looks like it');
SELECT fails($$SELECT billing.configure_provider('stripe', 'sk_test_x', base_url => 'ftp://127.0.0.1')$$, '22023', 'base_url', NULL, 'no other protocol is taken');
SELECT fails($$SELECT billing.configure_provider('stripe', 'sk_test_x', base_url => 'https://x.example/?a=b')$$, '22023', 'query', NULL, 'a base has no query');
SELECT fails($$SELECT billing.configure_provider('stripe', 'sk_test_x', account => 'a b')$$, '22023', 'account', NULL, 'the name of an account has no blanks');
SELECT fails($$SELECT billing.configure_provider('stripe', 'sk_test_x', options => '[]')$$, '22023', 'options is not an object', NULL, 'options are an object');
SELECT is((SELECT count(*) FROM billing.provider_accounts WHERE provider = 'stripe'), 0::bigint, 'of refused calls nothing is left');

SELECT billing.configure_provider('stripe', 'sk_test_clear_text', 'whsec_clear_text', 'pk_test_shown', 'http://localhost:9/');
SELECT results_eq($$SELECT livemode, base_url, publishable_key FROM billing.provider_accounts WHERE provider = 'stripe'$$, $$VALUES (false, 'http://localhost:9', 'pk_test_shown')$$, 'the key tells the mode');
SELECT ok((SELECT position('clear_text'::bytea IN secret_key) = 0 AND position('clear_text'::bytea IN webhook_secret) = 0 FROM billing.provider_accounts WHERE provider = 'stripe'), 'secrets are kept encrypted');
SELECT is((SELECT bound_to FROM billing.provider_accounts WHERE provider = 'stripe'), billing.database_binding(), 'the account is bound to this database');
SELECT is(billing.create_customer('acme') IS NOT NULL, true, 'a customer without a provider');
SELECT is((SELECT provider FROM billing.customers WHERE organization_id = 'acme'), 'stripe', 'is one of the provider that is configured');
UPDATE billing.settings SET value = 'sandbox' WHERE name = 'default_provider';
SELECT billing.create_customer('other') AS other \gset
SELECT is((SELECT provider FROM billing.customers WHERE organization_id = 'other'), 'sandbox', 'unless the setting default_provider names another');
SELECT fails($$SELECT billing.configure_provider('stripe', 'sk_live_x')$$, 'JB011', 'live mode', 'account => ''live''', 'an account with objects does not change its mode');
SELECT billing.configure_provider('stripe', 'sk_live_x', account => 'live', base_url => 'http://localhost:9');
SELECT fails($$SELECT billing.subscribe('acme', 'euro', account => 'live', currency => 'EUR')$$, 'JB011', 'test mode', 'mix modes', 'an organisation does not mix modes');
SELECT fails($$SELECT billing.subscribe('acme', 'free', account => 'live')$$, 'JB011', 'test mode', 'mix modes', 'not even for nothing');
SELECT fails($$SELECT billing.create_customer('sandy', provider => 'sandbox')$$, 'JB011', '.', 'allow_sandbox', 'beside a live account the sandbox has to be allowed');
SET janua_billing.allow_sandbox = on;
SELECT lives_ok($$SELECT billing.create_customer('sandy', provider => 'sandbox')$$, 'by a setting of the session');

-- ---------------------------------------------------------------------------
-- Keys and ids

SELECT fails($$SELECT billing.create_key_file(current_setting('data_directory') || '/billing.key')$$, '22023', '.', NULL, 'the key file does not lie in the data directory');
SELECT fails($$SELECT billing.create_key_file(current_setting('janua_billing.key_file'))$$, '58P02', '.', NULL, 'a key file is never overwritten');
SELECT ok((SELECT bool_and(substr(id::text, 15, 1) = '7' AND substr(id::text, 20, 1) IN ('8', '9', 'a', 'b')) FROM (SELECT billing.new_id() AS id FROM generate_series(1, 100)) AS x), 'ids are of version 7');
SELECT is((SELECT count(DISTINCT billing.new_id()) FROM generate_series(1, 1000)), 1000::bigint, 'and unique');

SELECT * FROM finish();

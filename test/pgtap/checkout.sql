-- Checkout sessions, payment links and portal sessions: what calls take, write and refuse.
\ir helpers.psql
SELECT plan(70);

CREATE FUNCTION checkout(arguments text) RETURNS text
LANGUAGE sql
RETURN format('SELECT billing.create_checkout_session(billing.find_customer(''acme''), %s)', arguments);

SELECT billing.create_customer('acme', currency => 'USD') AS acme \gset
SELECT billing.create_customer('other') AS other \gset
SELECT billing.create_plan('ticket', 'Ticket', 2500, "interval" => 'one_time') AS ticket \gset
SELECT id AS ticket FROM billing.prices WHERE plan_id = :'ticket' \gset
SELECT '00000000-0000-7000-8001-000000000002' AS pro \gset
-- nothing is sent while the rows are looked at
UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'held by the test' WHERE provider = 'sandbox';

-- ---------------------------------------------------------------------------
-- A payment

SELECT billing.create_checkout_session(:'acme',
	format('[{"price": "%s", "quantity": 2}, {"name": "Delivery", "amount": 700, "description": "by tomorrow"}]', :'ticket')::jsonb,
	'https://acme.example/done?session={CHECKOUT_SESSION_ID}&again={CHECKOUT_SESSION_ID}', 'https://acme.example/back/{CHECKOUT_SESSION_ID}',
	methods => '{card,oxxo}', installments => '{3,6}', tax_lines => '[{"description": "VAT", "amount": 100}]',
	allow_promotion_codes => false, collect_tax_id => true, locale => 'es', metadata => '{"cart": "7"}') AS pay \gset
SELECT results_eq(format($$SELECT kind, mode, status, payment_status, currency, amount_total, organization_id, pending FROM billing.get_checkout_session(%L)$$, :'pay'),
	$$VALUES ('session', 'payment', 'pending', NULL, 'USD', 5800::bigint, 'acme', '{checkout_session.create}'::text[])$$,
	'a session is pending until the provider has made it; its total is the sum of lines and taxes');
SELECT is((SELECT success_url || ' ' || cancel_url FROM billing.checkout_sessions WHERE id = :'pay'),
	format('https://acme.example/done?session=%s&again=%1$s https://acme.example/back/%1$s', :'pay'), 'our id is put where the caller left room for it');
SELECT is((SELECT line_items FROM billing.checkout_sessions WHERE id = :'pay'),
	format('[{"price": "%s", "name": "Ticket", "amount": 2500, "currency": "USD", "quantity": 2},
	         {"name": "Delivery", "description": "by tomorrow", "amount": 700, "currency": "USD", "quantity": 1}]', :'ticket')::jsonb,
	'the lines are kept as they were sold');
SELECT results_eq(format($$SELECT i.status, i.amount, i.currency, i.checkout_session_id FROM billing.payment_intents AS i
	JOIN billing.checkout_sessions AS c ON c.payment_intent_id = i.id WHERE c.id = %L$$, :'pay'),
	format($$VALUES ('pending', 5800::bigint, 'USD', %L::uuid)$$, :'pay'), 'the payment that the buyer will make has its row already');
SELECT is((SELECT arguments - 'line_items' FROM billing.outbox WHERE object_id = :'pay'),
	'{"mode": "payment", "currency": "USD", "amount": 5800, "methods": ["card", "oxxo"], "installments": [3, 6], "locale": "es",
	  "tax_lines": [{"description": "VAT", "amount": 100}], "allow_promotion_codes": false, "collect_tax_id": true}'::jsonb,
	'the request holds terms, neither addresses nor ids of the provider');
SELECT is(billing.await(:'pay', '0 seconds'), 'pending', 'await tells its state');
SELECT is((SELECT count(*) FROM billing.events WHERE id = :'pay' AND type = 'checkout_session.created'), 1::bigint, 'it is announced');

SELECT billing.create_checkout_session(:'acme', '[{"name": "A", "amount": 100, "quantity": 2}, {"name": "B", "amount": 50}]', 'https://a.example', combine => true) AS combined \gset
SELECT is((SELECT line_items FROM billing.checkout_sessions WHERE id = :'combined'), '[{"name": "A (2), B", "amount": 250, "currency": "USD", "quantity": 1}]'::jsonb,
	'combined lines are one with the sum');

-- ---------------------------------------------------------------------------
-- A subscription, a setup

SELECT billing.create_checkout_session(:'acme', plan => 'pro', quantity => 3, trial_days => 7, success_url => 'https://a.example') AS sub \gset
SELECT results_eq(format($$SELECT c.mode, c.amount_total, s.status, s.quantity, p.plan FROM billing.checkout_sessions AS c
	JOIN billing.subscriptions AS s ON s.id = c.subscription_id JOIN billing.plans AS p ON p.id = s.plan_id WHERE c.id = %L$$, :'sub'),
	$$VALUES ('subscription', 8700::bigint, 'incomplete', 3::bigint, 'pro')$$, 'a plan makes a subscription, whose row waits for the buyer');
SELECT is((SELECT arguments -> 'trial_days' FROM billing.outbox WHERE object_id = :'sub'), '7', 'with the trial that was named');
SELECT billing.create_checkout_session(:'acme', format('[{"price": "%s"}, {"name": "Set-up", "amount": 1000}]', :'pro')::jsonb, 'https://a.example') AS again \gset
SELECT is((SELECT status FROM billing.checkout_sessions WHERE id = :'sub'), 'expired', 'a second page for the same plan group closes the first');
SELECT is((SELECT s.status FROM billing.checkout_sessions AS c JOIN billing.subscriptions AS s ON s.id = c.subscription_id WHERE c.id = :'sub'), 'canceled',
	'whose subscription will not come to be');
SELECT is((SELECT amount_total FROM billing.checkout_sessions WHERE id = :'again'), 3900::bigint, 'beside the plan something can be paid once');
SELECT billing.create_checkout_session(:'acme', mode => 'setup', currency => 'usd', success_url => 'https://a.example') AS setup \gset
SELECT results_eq(format($$SELECT mode, currency, amount_total, payment_intent_id, subscription_id FROM billing.checkout_sessions WHERE id = %L$$, :'setup'),
	$$VALUES ('setup', 'USD', NULL::bigint, NULL::uuid, NULL::uuid)$$, 'a setup sells nothing');
SELECT billing.subscribe('other', 'free') AS free \gset
SELECT billing.create_checkout_session(:'other', plan => 'pro', success_url => 'https://a.example') AS upgrade \gset
SELECT is((SELECT subscription_id FROM billing.checkout_sessions WHERE id = :'upgrade'), :'free', 'a free subscription is turned into the one that is paid for');
SELECT billing.expire_checkout_session(:'upgrade');
SELECT is(status_of('other'), 'active', 'and stays as it is when the page is closed');

-- ---------------------------------------------------------------------------
-- What is refused

SELECT fails(checkout($$success_url => 'https://a.example'$$), '23502', 'line_items must be given', 'plan or price', 'something has to be sold');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]'$$), '23502', 'success_url must be given', NULL, 'the buyer has to come back somewhere');
SELECT fails(checkout($$'[]', 'https://a.example'$$), '22023', 'line_items has 0 elements', '1 to 100', 'no line is refused');
SELECT fails(checkout($$'{"name": "A"}', 'https://a.example'$$), '22023', 'line_items is not an array', 'Ticket', 'lines are an array');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}, 7]', 'https://a.example'$$), '22023', 'element 1 of line_items is not an object', NULL, 'a line is an object');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}, {"amount": 7}]', 'https://a.example'$$), '22023', 'element 1 of line_items has neither a price nor a name', 'price', 'a line has a price or a name');
SELECT fails(checkout($$'[{"name": "A"}]', 'https://a.example'$$), '22023', 'element 0 of line_items has no amount', 'minor units', 'a name has an amount');
SELECT fails(checkout($$'[{"name": "A", "amount": 1.5}]', 'https://a.example'$$), '22023', 'element 0 of line_items has a amount that is no whole number', NULL, 'an amount is a whole number');
SELECT fails(checkout($$'[{"name": "A", "amount": -1}]', 'https://a.example'$$), '22023', 'element 0 of line_items has a negative amount', 'coupons', 'an amount is not negative');
SELECT fails(checkout($$'[{"name": "A", "amount": 1, "quantity": 0}]', 'https://a.example'$$), '22023', 'element 0 of line_items has a quantity below 1', NULL, 'a quantity is at least 1');
SELECT fails(checkout($$'[{"name": "A", "amount": 1, "tax": 7}]', 'https://a.example'$$), '22023', 'element 0 of line_items has an unknown member "tax"', 'price, or name', 'an unknown member is a mistake');
SELECT fails(checkout($$'[{"name": "A", "amount": 1, "currency": "MXN"}, {"name": "B", "amount": 1, "currency": "USD"}]', 'https://a.example'$$), '22023', 'element 1 of line_items is in USD, not in MXN', 'one currency', 'there is one currency');
SELECT fails(checkout($$'[{"name": "A", "amount": 1, "currency": "XXX"}]', 'https://a.example'$$), '22023', 'unknown currency', NULL, 'which has to be one');
SELECT fails(checkout($$'[{"price": "x"}]', 'https://a.example'$$), '22023', 'element 0 of line_items has a price that is no id', 'prices', 'a price is an id');
SELECT fails(checkout($$'[{"price": "00000000-0000-7000-8001-00000000ffff"}]', 'https://a.example'$$), 'JB005', 'unknown price', NULL, 'of a price that there is');
SELECT fails(checkout(format($$'[{"price": "%s", "amount": 1}]', 'https://a.example'$$, :'ticket')), '22023', 'element 0 of line_items has a price and terms', NULL, 'a price has its terms');
SELECT fails(checkout(format($$'[{"price": "%1$s"}, {"price": "%1$s"}]', 'https://a.example'$$, :'pro')), '22023', 'element 1 of line_items is a second subscription', 'of their own', 'one plan is sold at a time');
SELECT fails(checkout($$'[{"name": "A", "amount": 9000000000000000000, "quantity": 9}]', 'https://a.example'$$), '22003', 'out of range', NULL, 'a sum has to fit');
SELECT fails(checkout($$'[{"name": "A", "amount": 0}]', 'https://a.example'$$), '22023', 'nothing to pay', NULL, 'a payment of nothing is none');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]', 'https://a.example', plan => 'pro'$$), '22023', 'line_items is given beside plan', NULL, 'lines and plan exclude each other');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]', 'https://a.example', quantity => 2$$), '22023', 'quantity is given without plan', 'line_items', 'lines have their own quantity');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]', 'https://a.example', mode => 'subscription'$$), '22023', 'does not fit: no line is paid again', 'Leave mode out', 'the mode has to fit the lines');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]', 'https://a.example', mode => 'setup'$$), '22023', 'does not fit: there are line_items', NULL, 'a setup has no lines');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]', 'https://a.example', mode => 'gift'$$), '22023', 'unknown mode', 'payment, subscription, setup', 'an unknown mode is refused');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]', 'https://a.example', trial_days => 3$$), '22023', 'trial_days is for subscriptions', NULL, 'a payment has no trial');
SELECT fails(checkout($$plan => 'pro', success_url => 'https://a.example', trial_days => -1$$), '22023', 'trial_days must be', NULL, 'nor is one negative');
SELECT fails(checkout($$plan => 'pro', success_url => 'https://a.example', quantity => 0$$), '22023', 'quantity must be', NULL, 'a quantity of 0 is none');
SELECT fails(checkout($$plan => 'pro', success_url => 'https://a.example', combine => true$$), '22023', 'cannot be combined', NULL, 'a subscription is not combined');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]', 'a.example'$$), '22023', 'success_url is not an address', 'https', 'an address begins with its scheme');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]', 'https://a.example', methods => '{card,"O X"}'$$), '22023', '"O X" in methods', 'oxxo', 'methods are words');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]', 'https://a.example', installments => '{3,1}'$$), '22023', 'element 1 of installments', '3,6,9', 'instalments are months');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]', 'https://a.example', tax_lines => '[{"amount": 1}]'$$), '22023', 'element 0 of tax_lines', NULL, 'a tax has a name');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]', 'https://a.example', expires_at => now() - interval '1 hour'$$), '22023', 'expires_at is not a time to come', NULL, 'a page ends later than now');
SELECT fails(checkout($$'[{"name": "4242 4242 4242 4242", "amount": 1}]', 'https://a.example'$$), 'JB009', 'line_items holds a card number', NULL, 'a card number is refused before anything else');
SELECT fails($$SELECT billing.create_checkout_session('00000000-0000-7000-8000-000000000000', plan => 'pro', success_url => 'https://a.example')$$, 'JB005', 'unknown customer', NULL, 'an unknown customer is refused');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]', 'https://a.example', provider => 'stripe'$$), 'JB006', 'stripe', NULL, 'a provider that is not configured is refused');
SELECT billing.create_checkout_session(:'acme', '[{"name": "A", "amount": 1}]', 'https://a.example', methods => '{card}', idempotency_key => 'k') AS keyed \gset
SELECT is(billing.create_checkout_session(:'acme', '[{"name": "A", "amount": 1}]', 'https://a.example', methods => '{card}', idempotency_key => 'k'), :'keyed', 'the same key gives the same session');
SELECT fails(checkout($$'[{"name": "A", "amount": 1}]', 'https://a.example', methods => '{oxxo}', idempotency_key => 'k'$$), 'JB007', 'another methods', NULL, 'the key with other methods is refused');

-- ---------------------------------------------------------------------------
-- Closing what was never sent

SELECT billing.expire_checkout_session(:'pay');
SELECT results_eq(format($$SELECT c.status, i.status, i.cancellation_reason FROM billing.checkout_sessions AS c JOIN billing.payment_intents AS i ON i.id = c.payment_intent_id WHERE c.id = %L$$, :'pay'),
	$$VALUES ('expired', 'canceled', 'checkout_expired')$$, 'a session that was never sent is closed at once, and its payment with it');
SELECT is((SELECT count(*) FROM billing.outbox WHERE object_id = :'pay'), 0::bigint, 'nothing of it is sent');
SELECT lives_ok(format($$SELECT billing.expire_checkout_session(%L)$$, :'pay'), 'closing it twice is harmless');
SELECT fails($$SELECT billing.expire_checkout_session('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown checkout session', NULL, 'an unknown session is refused');
SELECT fails($$SELECT billing.expire_checkout_session(NULL)$$, '23502', 'checkout_session_id must be given', NULL, 'a session has to be named');
SELECT fails(format($$SELECT billing.cancel_payment_link(%L)$$, :'setup'), 'JB008', 'is a checkout session', 'expire_checkout_session', 'a session is no link');
SELECT fails($$DELETE FROM billing.checkout_sessions$$, 'JB008', 'cannot be deleted', 'expire_checkout_session', 'sessions are kept');
SELECT is((SELECT count(*) FROM billing.list_checkout_sessions('acme')), 6::bigint, 'an organisation''s sessions are listed');

-- ---------------------------------------------------------------------------
-- The portal

SELECT billing.create_portal_session(:'acme', 'https://a.example', locale => 'es', idempotency_key => 'p') AS portal \gset
SELECT is(billing.create_portal_session(:'acme', 'https://a.example', locale => 'es', idempotency_key => 'p'), :'portal', 'the same key gives the same page');
SELECT is(billing.await(:'portal', '0 seconds'), 'pending', 'a portal session is pending until the provider has made it');
SELECT fails(format($$SELECT billing.create_portal_session(%L, 'javascript:alert(1)')$$, :'acme'), '22023', 'return_url is not an address', NULL, 'an address is one of the web');
SELECT fails(format($$SELECT billing.create_portal_session(%L, subscription_id => %L)$$, :'acme', :'free'), 'JB005', 'unknown subscription', 'list_subscriptions', 'a subscription of another organisation is unknown');
SELECT fails($$SELECT billing.create_portal_session('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown customer', NULL, 'so is a customer that there is not');

-- ---------------------------------------------------------------------------
-- Row level security

CREATE ROLE checkout_tenant;
SELECT billing.grant_access('checkout_tenant', 'tenant');
SET ROLE checkout_tenant;
SET janua_billing.organization_id = 'other';
SELECT results_eq($$SELECT id FROM billing.checkout_session_details$$, format($$VALUES (%L::uuid)$$, :'upgrade'), 'a tenant sees the sessions of its organisation');
SELECT throws_ok($$SELECT url FROM billing.checkout_sessions$$, '42501', NULL, 'and no addresses');
RESET ROLE;
SELECT billing.revoke_access('checkout_tenant', 'tenant');
DROP ROLE checkout_tenant;

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

-- What a provider has no place for is refused in the call; nothing that somebody says is dropped on the way.
\ir helpers.psql

SELECT plan(35);

-- Nobody listens there: what is queued stays queued.
SELECT billing.configure_provider('stripe', 'sk_test_x', base_url => 'http://127.0.0.1:9');
SELECT billing.configure_provider('conekta', 'key_x', base_url => 'http://127.0.0.1:9', options => '{"sandbox": true}');
SELECT billing.configure_provider('polar', 'polar_oat_x', base_url => 'http://127.0.0.1:9',
	options => '{"sandbox": true, "product_id": "0197f0c0-0000-4000-8000-000000000001"}');
SELECT billing.create_customer('s', 's@example.com', provider => 'stripe') AS s \gset
SELECT billing.create_customer('c', 'c@example.com', 'Ana', provider => 'conekta', phone => '+525512345678', currency => 'MXN') AS c \gset
SELECT billing.create_customer('p', 'p@example.com', provider => 'polar') AS p \gset

-- refused(provider, call, hint): JB004, with what to do instead
CREATE FUNCTION refused(provider text, call text, hint text) RETURNS text
LANGUAGE sql
RETURN fails('SELECT billing.' || call, 'JB004', provider, hint, provider || ': ' || call);

-- ---------------------------------------------------------------------------
-- Payments

SELECT refused('conekta', format('create_payment_intent(%L, 5000, ''MXN'', %s)', :'c', argument), hint)
FROM (VALUES
	($$statement_descriptor_suffix => 'SHOP'$$, 'statements'),
	($$receipt_email => 'r@example.com'$$, 'e-mail'),
	($$setup_future_usage => 'off_session'$$, 'attach_payment_method'),
	($$mandate => '{"type": "offline"}'$$, 'mandate'),
	($$payment_method => 'tok_1', expires_at => now() + interval '1 day'$$, 'oxxo and spei'),
	($$expires_at => now() + interval '1 day'$$, 'oxxo and spei'),
	($$payment_method => 'tok_1', confirm => false$$, 'confirm_payment_intent'),
	($$description => 'Camisa', line_items => '[{"name": "Camisa", "amount": 5000}]'$$, 'line_items')) AS v (argument, hint);
SELECT refused('polar', format('create_payment_intent(%L, 5000, ''USD'', %s)', :'p', argument), hint)
FROM (VALUES
	($$statement_descriptor_suffix => 'SHOP'$$, 'descriptor'),
	($$receipt_email => 'r@example.com'$$, 'receipts'),
	($$setup_future_usage => 'off_session'$$, 'checkout'),
	($$mandate => '{"type": "offline"}'$$, 'saved card'),
	($$return_url => 'https://example.com/'$$, 'return_url'),
	($$payment_method => 'pm_1'$$, 'checkout'),
	($$tax_lines => '[{"description": "VAT", "amount": 5000}]'$$, 'tax'),
	($$line_items => '[{"name": "A", "amount": 2000}, {"name": "B", "amount": 3000}]'$$, 'one product')) AS v (argument, hint);
SELECT refused('stripe', format('create_payment_intent(%L, 5000, ''USD'', %s)', :'s', argument), hint)
FROM (VALUES
	($$method => 'card', expires_at => now() + interval '1 day'$$, 'oxxo'),
	($$line_items => '[{"name": "A", "amount": 5000, "description": "of wool"}]'$$, 'description')) AS v (argument, hint);

SELECT billing.create_payment_intent(:'c', 5000, 'MXN') AS waiting \gset
SELECT refused('conekta', format('confirm_payment_intent(%L, ''tok_1'', return_url => ''https://example.com/'')', :'waiting'), 'create_payment_intent');
SELECT refused('conekta', format('confirm_payment_intent(%L, ''tok_1'', mandate => ''{"type": "offline"}'')', :'waiting'), 'mandate');
SELECT refused('conekta', format('confirm_payment_intent(%L, ''tok_1'', expires_at => now() + interval ''1 day'')', :'waiting'), 'oxxo and spei');
SELECT fails(format('SELECT billing.confirm_payment_intent(%L)', :'waiting'), '23502', 'payment_method', NULL, 'conekta: nothing to charge');
SELECT billing.create_payment_intent(:'p', 5000, 'USD') AS draft \gset
SELECT refused('polar', format('confirm_payment_intent(%L, return_url => ''https://example.com/'')', :'draft'), 'return_url');
SELECT billing.create_payment_intent(:'c', 60000, 'MXN', installments => 6, method => 'card') AS split \gset
SELECT lives_ok(format('SELECT billing.confirm_payment_intent(%L, ''tok_2'')', :'split'), 'instalments that were agreed');
SELECT is((SELECT arguments ->> 'installments' FROM billing.outbox WHERE object_id = :'split' AND operation = 'payment_intent.confirm'), '6', 'are those of the charge');

-- ---------------------------------------------------------------------------
-- Methods, setups, pages

SELECT refused('conekta', format('attach_payment_method(%L, ''tok_1'', mandate => ''{"type": "offline"}'')', :'c'), 'mandate');
SELECT refused('stripe', format('create_setup_intent(%L, return_url => ''https://example.com/'')', :'s'), 'browser');
SELECT refused('stripe', format('create_setup_intent(%L, mandate => ''{"type": "offline"}'')', :'s'), 'browser');
SELECT refused('stripe', format('create_checkout_session(%L, ''[{"name": "A", "amount": 500}]'', ''https://example.com/'', coupon => ''C'', allow_promotion_codes => true)', :'s'), 'not both');
SELECT refused('polar', format('create_portal_session(%L, locale => ''es'')', :'p'), 'update_customer');
SELECT fails(format('SELECT billing.subscribe(''p'', ''pro'', success_url => ''https://example.com/'', %s)', argument), 'JB004', 'checkout only', NULL, 'polar: ' || argument)
FROM (VALUES ($$off_session => true$$), ($$trial_end_behavior => 'pause'$$), ('days_until_due => 7')) AS v (argument);

-- ---------------------------------------------------------------------------
-- An attached method is named by our id, too

SELECT billing.attach_payment_method(:'s', 'pm_card_visa') AS card \gset
SELECT billing.subscribe('s', 'pro', :'card') AS subscription \gset
SELECT is((SELECT payment_method_id FROM billing.subscriptions WHERE id = :'subscription'), :'card'::uuid, 'by subscribe()');
SELECT fails(format('SELECT billing.attach_payment_method(%L, %L)', :'s', billing.new_id()), 'JB005', 'payment method', 'list_payment_methods', 'an id that is none of his');

SELECT * FROM finish();

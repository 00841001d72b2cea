-- Pages on which one of our own invoices is paid: one attempt in flight, closed when it is not wanted any more.
\ir helpers.psql
\ir billing_helpers.psql
CREATE EXTENSION pgcrypto;
SELECT plan(71);

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_first', base_url => 'http://127.0.0.1:9');
UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'held by the test' WHERE provider = 'stripe';

SELECT count(billing.create_customer(o, o || '@acme.example', currency => 'USD', provider => 'sandbox')) AS customers
FROM string_to_table('paid again run voided else less note held small both first sent late keyed told', ' ') AS o \gset
SELECT billing.create_plan('collected', 'Collected', 1000, "interval" => 'year') AS plan \gset

CREATE FUNCTION page(invoice uuid, arguments text DEFAULT '') RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
	made uuid;
BEGIN
	EXECUTE format('SELECT billing.create_invoice_checkout(%L, ''https://a.example/paid'' %s)', invoice, arguments) INTO made;
	RETURN made;
END
$$;
CREATE FUNCTION session_is(id uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' ', c.status, c.payment_status) FROM billing.checkout_sessions AS c WHERE c.id = session_is.id);
CREATE FUNCTION paid_by(id uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT p.status FROM billing.payment_intents AS p WHERE p.checkout_session_id = paid_by.id);
CREATE FUNCTION balance(organization text) RETURNS bigint
LANGUAGE sql
RETURN (SELECT coalesce(sum(b.balance), 0) FROM billing.customer_balances AS b WHERE b.customer_id = billing.find_customer(organization));

-- ---------------------------------------------------------------------------
-- Paid

SELECT bill('paid', 5000, collection => 'send_invoice', days => 30) AS paid \gset
CALL billing.set_clock('paid', now());
SELECT page(:'paid', ', ''https://a.example/left''') AS page \gset
SELECT results_eq(format($$SELECT mode, amount_total, currency, invoice_id, line_items FROM billing.get_checkout_session(%L)$$, :'page'),
	format($$VALUES ('payment', 5000::bigint, 'USD', %L::uuid, '[{"name": "Invoice T-1", "amount": 5000, "currency": "USD", "quantity": 1}]'::jsonb)$$, :'paid'),
	'a page is a session for exactly what is due, named as the invoice');
SELECT results_eq(format($$SELECT invoice_id, subscription_id, status FROM billing.payment_intents WHERE checkout_session_id = %L$$, :'page'),
	format($$VALUES (%L::uuid, NULL::uuid, 'pending')$$, :'paid'), 'and its payment is one of the invoice');
CALL billing.run_worker();
SELECT is(billing.client_config(:'page') ->> 'url', 'https://a.example/paid?session_id=' || :'page', 'the session tells where it is');
SELECT is(billing.client_config(:'paid') ->> 'url', 'https://a.example/paid?session_id=' || :'page', 'and so does the invoice');
SELECT is(page(:'paid', ', ''https://a.example/left'''), :'page', 'asked for again the same page is shown');
SELECT is((SELECT round(extract(epoch FROM expires_at - billing.now('paid')) / 3600) FROM billing.checkout_sessions WHERE id = :'page'), 23::numeric, 'for as long as the setting says');
SELECT billing.sandbox_complete_checkout(:'page', 'pm_card_visa');
CALL billing.run_worker();
SELECT is(session_is(:'page') || ' ' || paid_by(:'page') || ' ' || invoice(:'paid'), 'complete paid succeeded paid 5000 0', 'who pays on it has paid the invoice');
SELECT is((SELECT count(*) FROM billing.outbox_finished WHERE object_id = :'page' AND operation = 'checkout_session.expire'), 0::bigint, 'nobody closes what was paid');
SELECT is(billing.client_config(:'paid') ->> 'url', NULL, 'and it is not shown any more');
SELECT fails(format($$SELECT page(%L)$$, :'paid'), 'JB008', 'is paid', NULL, 'there is no other page then');

-- ---------------------------------------------------------------------------
-- One that nobody uses, and another one

SELECT bill('run', 5000) AS run \gset
CALL billing.set_clock('run', now());
SELECT is(attempts(:'run'), 'issue failed no_payment_method @0, schedule planned @3, schedule planned @5, schedule planned @7', 'an invoice that cannot be charged');
SELECT page(:'run', format(', expires_at => %L', billing.now('run') + interval '4 days')) AS first \gset
CALL billing.run_worker();
SELECT fails(format($$SELECT billing.pay_invoice(%L, method => 'oxxo')$$, :'run'), 'JB010', 'is being paid already', 'billing.expire_checkout_session', 'while a page is open nothing else is charged');
SELECT billing.attach_payment_method(billing.find_customer('run'), 'pm_card_visa', set_default => true) AS card \gset
CALL billing.advance_clock('run', '3 days 12 hours');
SELECT is(invoice(:'run'), 'open 0 5000 no_payment_method', 'nor by the schedule, nor by a new method');
CALL billing.advance_clock('run', '1 day');
SELECT is(session_is(:'first') || ' ' || invoice(:'run'), 'expired unpaid paid 5000 0', 'until it has run out');

SELECT bill('again', 5000, collection => 'send_invoice', days => 30) AS again \gset
CALL billing.set_clock('again', now());
SELECT page(:'again') AS first \gset
CALL billing.run_worker();
CALL billing.advance_clock('again', '2 days');
SELECT is(session_is(:'first') || ' ' || paid_by(:'first') || ' ' || invoice(:'again'), 'expired unpaid canceled open 0 5000', 'a page that runs out fails nothing');
SELECT page(:'again') AS second \gset
SELECT is(:'second' = :'first', false, 'then there is another one');
CALL billing.run_worker();
SELECT page(:'again', ', methods => ''{card}''') AS third \gset
CALL billing.run_worker();
SELECT is(session_is(:'second') || ', ' || session_is(:'third'), 'expired unpaid, open unpaid', 'one with other terms takes its place');
SELECT billing.sandbox_complete_checkout(:'third', 'pm_card_chargeDeclined');
CALL billing.run_worker();
SELECT is(paid_by(:'third') || ' ' || session_is(:'third') || ' ' || invoice(:'again'), 'failed open unpaid open 0 5000', 'who was declined can try again');
SELECT is(billing.client_config(:'again') ->> 'url', 'https://a.example/paid?session_id=' || :'third', 'on the same page');
SELECT is(page(:'again', ', provider => ''sandbox'''), :'third', 'which is the one that is shown');
SELECT billing.sandbox_complete_checkout(:'third', 'pm_card_visa');
CALL billing.run_worker();
SELECT is(invoice(:'again'), 'paid 5000 0', 'and so it is paid');

-- ---------------------------------------------------------------------------
-- Not wanted any more, or not by that amount

SELECT bill('voided', 5000, collection => 'send_invoice', days => 30) AS voided, bill('else', 5000, collection => 'send_invoice', days => 30) AS other,
	   bill('less', 5000, collection => 'send_invoice', days => 30) AS less, bill('note', 5000, collection => 'send_invoice', days => 30) AS note \gset
SELECT page(:'voided') AS page_v, page(:'other') AS page_e, page(:'less') AS page_l, page(:'note') AS page_n \gset
CALL billing.run_worker();
SELECT lives_ok(format($$SELECT billing.void_invoice(%L)$$, :'voided'), 'an invoice can be voided while a page is open');
SELECT billing.mark_invoice_paid(:'other', 'transfer');
SELECT billing.mark_invoice_paid(:'less', 'transfer', amount => 2000);
SELECT billing.create_credit_note(:'note', amount => 1000) AS credit \gset
CALL billing.run_worker();
SELECT is(session_is(:'page_v') || ' ' || paid_by(:'page_v'), 'expired unpaid canceled', 'which is closed at the provider');
SELECT is(session_is(:'page_e') || ' ' || paid_by(:'page_e') || ' ' || invoice(:'other'), 'expired unpaid canceled paid 5000 0', 'so is the page of one that was paid otherwise');
SELECT is(session_is(:'page_l') || ' ' || session_is(:'page_n'), 'expired unpaid expired unpaid', 'and of one of which less is due than its page says');
SELECT throws_ok(format($$SELECT billing.sandbox_complete_checkout(%L, 'pm_card_visa')$$, :'page_e'), 'JB008', NULL, 'nobody can pay on it any more');
SELECT page(:'less') AS page_l, page(:'note') AS page_n \gset
CALL billing.run_worker();
SELECT is((SELECT array_agg(amount_total ORDER BY amount_total) FROM billing.checkout_sessions WHERE id IN (:'page_l', :'page_n')), '{3000,4000}', 'another page is about the rest');
SELECT billing.sandbox_complete_checkout(:'page_l', 'pm_card_visa');
CALL billing.run_worker();
SELECT is(invoice(:'less'), 'paid 5000 0', 'which pays it');
SELECT billing.expire_checkout_session(:'page_n');
CALL billing.run_worker();
SELECT is(session_is(:'page_n') || ' ' || invoice(:'note'), 'expired unpaid open 0 4000', 'a page can be closed by hand');

-- before the provider has heard of it
SELECT bill('held', 5000, collection => 'send_invoice', days => 30) AS held \gset
UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'held by the test' WHERE provider = 'sandbox';
SELECT page(:'held') AS page \gset
SELECT is(page(:'held'), :'page', 'a page that is still to be made is the page');
SELECT billing.void_invoice(:'held');
SELECT is(session_is(:'page') || ' ' || paid_by(:'page') || ' ' || (SELECT count(*) FROM billing.outbox WHERE object_id = :'page'), 'expired canceled 0', 'one that was never made never is');
UPDATE billing.provider_accounts SET stopped_at = NULL, stopped_reason = NULL WHERE provider = 'sandbox';

-- ---------------------------------------------------------------------------
-- References taken on a page, the first payment of a subscription

SELECT sell('first', 'incomplete') AS sub \gset
SELECT bill('first', 5000, 'USD', subscription => :'sub', reason => 'subscription_create') AS first \gset
CALL billing.set_clock('first', now());
SELECT page(:'first') AS page \gset
CALL billing.run_worker();
SELECT is(billing.client_config(:'sub') ->> 'url', 'https://a.example/paid?session_id=' || :'page', 'a subscription that waits for its first payment leads to the page, too');
SELECT billing.sandbox_complete_checkout(:'page', 'oxxo');
CALL billing.run_worker();
SELECT is(session_is(:'page') || ' ' || paid_by(:'page'), 'complete unpaid requires_action', 'who takes a reference there is through');
SELECT ok((SELECT incomplete_until > billing.now('first') + interval '2 days' FROM billing.subscriptions WHERE id = :'sub'), 'and the subscription waits for as long as it can be paid');
SELECT fails(format($$SELECT page(%L)$$, :'first'), 'JB010', 'is being paid already', 'billing.cancel_payment_intent', 'there is no other page beside it');
CALL billing.advance_clock('first', '2 days');
SELECT is(session_is(:'page') || ' ' || invoice(:'first') || ' ' || (SELECT status FROM billing.subscriptions WHERE id = :'sub'), 'complete paid paid 5000 0 active', 'then it is paid');

-- ---------------------------------------------------------------------------
-- By webhook only

-- Delivers an event about a checkout session of Stripe's, made so many seconds after a fixed time.
CREATE FUNCTION tell(session uuid, kind text, status text, paid text, after integer, amount bigint DEFAULT 5000) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	body text := jsonb_build_object('id', 'evt_' || session || kind, 'object', 'event', 'created', 1900000000 + after, 'type', 'checkout.session.' || kind, 'livemode', false,
		'data', jsonb_build_object('object', jsonb_build_object('object', 'checkout.session', 'id', 'cs_' || session, 'mode', 'payment', 'status', status, 'payment_status', paid,
			'currency', 'usd', 'amount_total', amount, 'payment_intent', 'pi_' || session, 'metadata', jsonb_build_object('janua_ref', session))));
	at text := floor(extract(epoch FROM now()))::text;
BEGIN
	RETURN (SELECT e.status FROM billing.handle_webhook('stripe', body, jsonb_build_object('Stripe-Signature',
		format('t=%s,v1=%s', at, encode(hmac(at || '.' || body, 'whsec_first', 'sha256'), 'hex')))) AS e);
END
$$;
SELECT bill('both', 5000, collection => 'send_invoice', days => 30) AS both, bill('late', 5000, collection => 'send_invoice', days => 30) AS late \gset
SELECT page(:'both', ', provider => ''stripe''') AS page \gset
SELECT is((SELECT provider FROM billing.checkout_sessions WHERE id = :'page'), 'stripe', 'the page can be that of another provider');
SELECT is(tell(:'page', 'completed', 'complete', 'paid', 10), 'applied', 'a webhook comes before the answer to our call');
SELECT is(invoice(:'both') || ' ' || paid_by(:'page') || ' ' || session_is(:'page'), 'paid 5000 0 succeeded complete paid', 'the invoice is paid, though nothing was told of the payment itself');
SELECT is(tell(:'page', 'completed', 'complete', 'paid', 10) || ' ' || invoice(:'both') || ' ' || balance('both'), 'duplicate paid 5000 0 0', 'once, when it comes twice');
SELECT is((SELECT count(*) FROM billing.events WHERE id = :'both' AND type = 'invoice.paid'), 1::bigint, 'and that is told once');
SELECT page(:'late', ', provider => ''stripe''') AS page \gset
DELETE FROM billing.outbox WHERE object_id = :'page';
SELECT is(tell(:'page', 'created', 'open', 'unpaid', 5), 'ignored', 'that it is open is no news of Stripe''s');
UPDATE billing.checkout_sessions SET status = 'open' WHERE id = :'page';
INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
VALUES ('checkout_session', :'page', 'stripe', 'default', 'cs_' || :'page', false, '2020-01-01');
SELECT billing.mark_invoice_paid(:'late', 'transfer');
SELECT is((SELECT array_agg(operation) FROM billing.outbox WHERE object_id = :'page'), '{checkout_session.expire}', 'a page that is open elsewhere is closed there');
SELECT is(tell(:'page', 'completed', 'complete', 'paid', 20), 'applied', 'but the buyer was faster');
SELECT is(invoice(:'late') || ' ' || balance('late'), 'paid 5000 0 5000', 'what is paid twice is his balance');
SELECT is((SELECT count(*) FROM billing.events WHERE type = 'payment.unapplied' AND organization_id = 'late'), 1::bigint, 'which is told');

-- ---------------------------------------------------------------------------
-- What is sent has a page by itself

SELECT fails($$UPDATE billing.settings SET value = 'true' WHERE name = 'hosted_invoice_page'$$, '22023', 'needs the setting invoice_success_url', 'Set invoice_success_url first', 'somebody has to say where the customer comes back to');
SELECT fails($$UPDATE billing.settings SET value = 'a.example' WHERE name = 'invoice_success_url'$$, '23514', 'settings_invoice_urls', NULL, 'by an address');
UPDATE billing.settings SET value = 'https://set.example/{CHECKOUT_SESSION_ID}' WHERE name = 'invoice_success_url';
UPDATE billing.settings SET value = 'true' WHERE name = 'hosted_invoice_page';
SELECT fails($$UPDATE billing.settings SET value = NULL WHERE name = 'invoice_success_url'$$, '22023', 'needs the setting invoice_success_url', NULL, 'as long as there are pages');
CALL billing.set_clock('sent', now());
SELECT billing.create_invoice(billing.find_customer('sent'), '[{"description": "Workshop", "amount": 7000}]', 'USD', days_until_due => 10) AS sent \gset
CALL billing.run_worker();
SELECT id AS page FROM billing.checkout_sessions WHERE invoice_id = :'sent' \gset
SELECT is(billing.client_config(:'sent') ->> 'url', 'https://set.example/' || :'page', 'an invoice that is sent has a page when it is issued');
SELECT is(happened(:'sent') || ' ' || attempts(:'sent'), 'invoice.finalized invoice.sent issue succeeded @0', 'is sent once, and not charged');
SELECT is((SELECT count(*) FROM billing.events WHERE to_jsonb(events)::text LIKE '%set.example%'), 0::bigint, 'no event says where');
CALL billing.advance_clock('sent', '2 days');
SELECT is(session_is(:'page'), 'expired unpaid', 'the page runs out');
SELECT billing.send_invoice(:'sent');
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.checkout_sessions WHERE invoice_id = :'sent' AND status = 'open'), 1::bigint, 'sent again it has another one');
CALL billing.advance_clock('sent', '8 days');
SELECT is(invoice(:'sent') || ' ' || (SELECT count(*) FROM billing.checkout_sessions WHERE invoice_id = :'sent' AND status = 'open'), 'open 0 7000 overdue 1', 'and with each reminder');
SELECT billing.create_invoice_checkout(:'sent') AS page \gset
SELECT billing.sandbox_complete_checkout(:'page', 'pm_card_visa');
CALL billing.run_worker();
SELECT is(invoice(:'sent'), 'paid 7000 0', 'on which it is paid');

-- ---------------------------------------------------------------------------
-- What is refused, and what a provider cannot do

INSERT INTO billing.provider_currencies (provider, currency, wire_exponent, min_amount) VALUES ('sandbox', 'USD', 2, 50);
SELECT bill('small', 40, collection => 'send_invoice', days => 30) AS small \gset
CALL billing.run_worker();
SELECT fails(format($$SELECT page(%L)$$, :'small'), '22023', 'amount', NULL, 'less than the provider takes is refused');
SELECT is(happened(:'small') || ' ' || invoice(:'small'), 'invoice.sent open 0 40 22023', 'and is sent without a page');
UPDATE billing.settings SET value = 'false' WHERE name = 'hosted_invoice_page';
UPDATE billing.settings SET value = NULL WHERE name = 'invoice_success_url';
SELECT bill('keyed', 5000, collection => 'send_invoice', days => 30) AS keyed, bill('told', 5000, collection => 'send_invoice', days => 30) AS told \gset
SELECT fails(format($$SELECT billing.create_invoice_checkout(%L)$$, :'keyed'), '23502', 'success_url must be given', NULL, 'without the setting an address has to be named');
SELECT fails(format($$SELECT billing.create_invoice_checkout(%L, 'a.example')$$, :'keyed'), '22023', 'success_url is not an address', NULL, 'that is one');
SELECT fails($$SELECT page('00000000-0000-7000-8000-000000000009')$$, 'JB005', 'unknown invoice', NULL, 'an unknown invoice is refused');
SELECT fails($$SELECT billing.create_invoice_checkout(NULL)$$, '23502', 'invoice_id must be given', NULL, 'one has to be named');
SELECT fails(format($$SELECT page(%L, ', metadata => ''{"card": "4242424242424242"}''')$$, :'keyed'), 'JB009', 'card number', NULL, 'a card number is refused before anything else');
SELECT fails(format($$SELECT page(%L, ', expires_at => now() - interval ''1 hour''')$$, :'keyed'), '22023', 'expires_at is not a time to come', NULL, 'a page ends later than now');
SELECT fails(format($$SELECT page(%L, ', provider => ''polar''')$$, :'keyed'), 'JB006', 'polar', NULL, 'a provider has to be configured');
INSERT INTO billing.invoices (customer_id, organization_id, provider, account, livemode, status, currency, total, amount_due, amount_remaining, issued_at)
SELECT id, organization_id, 'stripe', 'default', false, 'open', 'USD', 100, 100, 100, now() FROM billing.customers WHERE organization_id = 'keyed' RETURNING id AS theirs \gset
SELECT fails(format($$SELECT page(%L)$$, :'theirs'), 'JB004', 'is the provider''s', 'billing.invoice_links', 'an invoice of a provider has a page of its own');
SELECT page(:'keyed', ', idempotency_key => ''k''') AS page \gset
SELECT billing.mark_invoice_paid(:'keyed', 'transfer');
SELECT is(page(:'keyed', ', idempotency_key => ''k'''), :'page', 'the same key gives the same page, also when it is over');
SELECT fails(format($$SELECT page(%L, ', methods => ''{oxxo}'', idempotency_key => ''k''')$$, :'keyed'), 'JB007', 'another methods', NULL, 'with other terms it is refused');
SELECT billing.configure_provider('sandbox', options => '{"behave_as": "polar"}');
SELECT fails(format($$SELECT page(%L)$$, :'told'), 'JB004', 'checkout_session.create', 'product_id', 'Polar needs a product');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT is((SELECT count(*) FROM billing.checkout_sessions WHERE url IS NOT NULL AND status NOT IN ('open', 'processing')), 0::bigint, 'no address outlives its page');
SELECT * FROM finish();

-- Pages on which one of our own invoices is paid: one attempt in flight, closed when it is not wanted any more.
\ir helpers.psql
\ir billing_helpers.psql
CREATE EXTENSION pgcrypto;
SELECT plan(1);

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_first', base_url => 'http://127.0.0.1:9');
UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'held by the test' WHERE provider = 'stripe';

SELECT count(billing.create_customer(o, o || '@acme.example', currency => 'USD', provider => 'sandbox')) AS customers
FROM string_to_table('paid again run voided else less note small card both first oxxo sent late keyed told', ' ') AS o \gset
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
SELECT results_eq(format($$SELECT mode, status, amount_total, currency, invoice_id, line_items FROM billing.get_checkout_session(%L)$$, :'page'),
	format($$VALUES ('payment', 'pending', 5000::bigint, 'USD', %L::uuid, '[{"name": "Invoice T-1", "amount": 5000, "currency": "USD", "quantity": 1}]'::jsonb)$$, :'paid'),
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
SELECT isnt(:'second', :'first', 'then there is another one');
CALL billing.run_worker();
SELECT page(:'again', ', methods => ''{card}''') AS third \gset
CALL billing.run_worker();
SELECT is(session_is(:'second') || ', ' || session_is(:'third'), 'expired unpaid, open unpaid', 'one with other terms takes its place');
SELECT billing.sandbox_complete_checkout(:'third', 'pm_card_chargeDeclined');
CALL billing.run_worker();
SELECT is(paid_by(:'third') || ' ' || session_is(:'third') || ' ' || invoice(:'again'), 'failed open unpaid open 0 5000', 'who was declined can try again');
SELECT is(billing.client_config(:'again') ->> 'url', 'https://a.example/paid?session_id=' || :'third', 'on the same page');
SELECT is(page(:'again', ', provider => ''sandbox''') = :'third', false, 'plain terms are other terms');
CALL billing.run_worker();
SELECT billing.sandbox_complete_checkout((SELECT id FROM billing.checkout_sessions WHERE invoice_id = :'again' AND status = 'open'), 'pm_card_visa');
CALL billing.run_worker();
SELECT is(invoice(:'again'), 'paid 5000 0', 'and so it is paid');

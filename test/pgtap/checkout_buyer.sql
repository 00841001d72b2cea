-- Checkout and portal sessions to the end, with the sandbox's buyer.
\ir helpers.psql
SELECT plan(41);

CREATE FUNCTION config(id uuid, member text) RETURNS text
LANGUAGE sql
RETURN billing.client_config(id) ->> member;
CREATE FUNCTION session_is(session uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' ', c.status, c.payment_status) FROM billing.checkout_sessions AS c WHERE c.id = session);

SELECT billing.create_customer('acme') AS acme \gset
SELECT billing.create_customer('slow') AS slow \gset

-- ---------------------------------------------------------------------------
-- A payment

SELECT billing.create_checkout_session(:'acme', '[{"name": "Ticket", "amount": 2500, "quantity": 2}]', 'https://a.example/{CHECKOUT_SESSION_ID}') AS pay \gset
SELECT is(config(:'pay', 'status') || coalesce(config(:'pay', 'url'), ''), 'pending', 'what is pending has no address');
CALL billing.run_worker();
SELECT is(session_is(:'pay'), 'open unpaid', 'the provider opens the page');
SELECT is(config(:'pay', 'url'), 'https://a.example/' || :'pay', 'whose address client_config tells');
SELECT is((SELECT pg_typeof(url)::text FROM billing.checkout_sessions WHERE id = :'pay'), 'bytea', 'and nothing else');
SELECT billing.sandbox_complete_checkout(:'pay');
CALL billing.run_worker();
SELECT is(session_is(:'pay'), 'complete paid', 'a card pays at once');
SELECT results_eq(format($$SELECT i.status, i.amount_received FROM billing.payment_intents AS i JOIN billing.checkout_sessions AS c ON c.payment_intent_id = i.id WHERE c.id = %L$$, :'pay'),
	$$VALUES ('succeeded', 5000::bigint)$$, 'and the payment is the one that had its row');
SELECT is((SELECT count(*) FROM billing.payment_intents WHERE organization_id = 'acme'), 1::bigint, 'there is no second one');
SELECT results_eq(format($$SELECT url IS NULL, client_secret IS NULL, completed_at IS NOT NULL FROM billing.checkout_sessions WHERE id = %L$$, :'pay'), $$VALUES (true, true, true)$$, 'the address is gone then');
SELECT is((SELECT array_agg(type ORDER BY seq) FROM billing.events WHERE id = :'pay'), '{checkout_session.created,checkout_session.open,checkout_session.complete}', 'each step is announced');
SELECT fails(format($$SELECT billing.expire_checkout_session(%L)$$, :'pay'), 'JB008', 'is complete', 'refund', 'what is paid cannot be closed');
SELECT billing.refresh_checkout_session(:'pay');
CALL billing.run_worker();
SELECT is(session_is(:'pay'), 'complete paid', 'asking again changes nothing');

-- ---------------------------------------------------------------------------
-- Complete and unpaid is not paid

SELECT billing.create_checkout_session(:'slow', '[{"name": "Desk", "amount": 30000}]', 'https://a.example') AS debit \gset
CALL billing.run_worker();
SELECT billing.sandbox_complete_checkout(:'debit', 'pm_usBankAccount_success');
CALL billing.run_worker();
SELECT is(session_is(:'debit'), 'complete unpaid', 'a debit is complete and unpaid');
CALL billing.advance_clock('slow', '3 days');
SELECT is(session_is(:'debit'), 'complete unpaid', 'and stays so');
CALL billing.advance_clock('slow', '1 day 1 hour');
SELECT is(session_is(:'debit'), 'complete paid', 'until the money is there');
SELECT is((SELECT count(*) FROM billing.events WHERE id = :'debit' AND type = 'checkout_session.paid'), 1::bigint, 'which is announced');

-- ---------------------------------------------------------------------------
-- A subscription

SELECT billing.create_checkout_session(:'acme', plan => 'pro', success_url => 'https://a.example') AS first \gset
CALL billing.run_worker();
SELECT billing.create_checkout_session(:'acme', plan => 'pro', quantity => 2, success_url => 'https://a.example') AS buy \gset
CALL billing.run_worker();
SELECT is(session_is(:'first'), 'expired unpaid', 'a second page closes the first one at the provider');
SELECT is(status_of('acme'), 'incomplete', 'the subscription waits for the buyer');
SELECT billing.sandbox_complete_checkout(:'buy');
CALL billing.run_worker();
SELECT results_eq(format($$SELECT s.status, s.quantity, c.status FROM billing.checkout_sessions AS c JOIN billing.subscriptions AS s ON s.id = c.subscription_id WHERE c.id = %L$$, :'buy'),
	$$VALUES ('active', 2::bigint, 'complete')$$, 'which is active when he has paid');
SELECT is((SELECT count(*) FROM billing.subscriptions WHERE organization_id = 'acme' AND status = 'active'), 1::bigint, 'and the only one');
SELECT fails(format($$SELECT billing.create_checkout_session(%L, plan => 'pro', success_url => 'https://a.example')$$, :'acme'), 'JB008', 'has a subscription', 'update_subscription', 'a live one is in the way of another');

SELECT billing.create_customer('free') AS free \gset
SELECT billing.subscribe('free', 'free') AS freely \gset
SELECT billing.create_checkout_session(:'free', plan => 'pro', success_url => 'https://a.example') AS upgrade \gset
CALL billing.run_worker();
SELECT billing.sandbox_complete_checkout(:'upgrade');
CALL billing.run_worker();
SELECT results_eq(format($$SELECT s.id, p.plan, s.status FROM billing.subscriptions AS s JOIN billing.plans AS p ON p.id = s.plan_id WHERE s.organization_id = 'free'$$),
	format($$VALUES (%L::uuid, 'pro', 'active')$$, :'freely'), 'a free subscription becomes the paid one');

-- ---------------------------------------------------------------------------
-- A setup

SELECT billing.create_customer('keeper') AS keeper \gset
SELECT billing.create_checkout_session(:'keeper', mode => 'setup', success_url => 'https://a.example') AS setup \gset
CALL billing.run_worker();
SELECT billing.sandbox_complete_checkout(:'setup');
CALL billing.run_worker();
SELECT is(session_is(:'setup'), 'complete no_payment_required', 'a setup is complete without a payment');
SELECT is((SELECT count(*) FROM billing.list_payment_methods(:'keeper') WHERE state = 'attached'), 1::bigint, 'and leaves a payment method');

-- ---------------------------------------------------------------------------
-- Closed, run out

SELECT billing.create_checkout_session(:'keeper', '[{"name": "A", "amount": 100}]', 'https://a.example') AS closed \gset
CALL billing.run_worker();
SELECT billing.expire_checkout_session(:'closed');
SELECT billing.expire_checkout_session(:'closed');
CALL billing.run_worker();
SELECT is(session_is(:'closed'), 'expired unpaid', 'an open page can be closed');
SELECT is((SELECT i.status FROM billing.payment_intents AS i JOIN billing.checkout_sessions AS c ON c.payment_intent_id = i.id WHERE c.id = :'closed'), 'canceled', 'its payment will not come');
SELECT is((SELECT count(*) FROM billing.outbox_finished WHERE object_id = :'closed' AND operation = 'checkout_session.expire'), 1::bigint, 'twice is once');
SELECT billing.create_checkout_session(:'keeper', plan => 'pro', success_url => 'https://a.example') AS idle \gset
CALL billing.run_worker();
CALL billing.advance_clock('keeper', '2 days');
SELECT is(session_is(:'idle'), 'expired unpaid', 'a page that nobody used runs out');
SELECT is(status_of('keeper'), 'canceled', 'and its subscription with it');
SELECT is((SELECT count(*) FROM billing.checkout_sessions WHERE url IS NOT NULL), 0::bigint, 'no address outlives its page');
SELECT billing.create_checkout_session(:'keeper', '[{"name": "A", "amount": 100}]', 'https://a.example') AS lost \gset
SELECT billing.sandbox_fail_next('checkout_session.create', 'timeout_after_success');
CALL billing.run_worker();
UPDATE billing.outbox SET next_attempt_at = now() WHERE object_id = :'lost';
CALL billing.run_worker();
SELECT is(session_is(:'lost') || ' ' || (config(:'lost', 'url') LIKE 'https://a.example%'), 'open unpaid true', 'when the answer is lost the session is found again');
SELECT is((SELECT count(*) FROM billing.outbox WHERE object_id = :'lost'), 0::bigint, 'and its request is over');
SELECT is((SELECT count(*) FROM billing.payment_intents WHERE checkout_session_id = :'lost'), 1::bigint, 'and its payment is the one');

-- ---------------------------------------------------------------------------
-- The portal

SELECT billing.create_portal_session(:'keeper', 'https://a.example/account') AS portal \gset
CALL billing.run_worker();
SELECT is(config(:'portal', 'status') || ' ' || config(:'portal', 'url'), 'open https://a.example/account', 'the portal has an address');
SELECT results_eq(format($$SELECT pg_typeof(url)::text, expires_at > billing.now('keeper') FROM billing.portal_sessions WHERE id = %L$$, :'portal'), $$VALUES ('bytea', true)$$, 'which is sealed, and ends');
CALL billing.advance_clock('keeper', '2 hours');
SELECT is(config(:'portal', 'url'), NULL, 'after its end it is not shown');

SELECT fails(format($$SELECT billing.create_payment_link('Fund', '[{"name": "Fund", "amount": 100}]')$$), 'JB004', 'payment_link.create', 'create_checkout_session', 'the sandbox has no payment links');
SELECT fails($$SELECT billing.create_payment_link('Fund', '[{"name": "Fund", "amount": 100}]', max_payments => 0)$$, '22023', 'max_payments', NULL, 'a link can be paid once at least');
SELECT fails($$SELECT billing.create_payment_link('', '[{"name": "Fund", "amount": 100}]')$$, '23502', 'name must be given', NULL, 'a link has a name');
SELECT fails($$SELECT billing.create_payment_link('Fund', '[{"name": "Fund"}]')$$, '22023', 'element 0 of line_items has no amount', NULL, 'its lines are checked as those of sessions');
SELECT fails($$SELECT billing.cancel_payment_link('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown payment link', NULL, 'an unknown link is refused');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

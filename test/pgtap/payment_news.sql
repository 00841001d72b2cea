-- What webhooks say about payments, refunds and disputes, in any order. They are
-- those of Stripe for an account with a made-up key; nothing is sent.
\ir helpers.psql
\ir stripe_news.psql
CREATE EXTENSION pgcrypto;
SELECT plan(42);

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_first', base_url => 'http://127.0.0.1:9');
UPDATE billing.settings SET value = '1 hour' WHERE name IN ('retry_base', 'retry_cap');


CREATE FUNCTION intent(id text, status text, more jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE sql
RETURN jsonb_build_object('object', 'payment_intent', 'id', id, 'livemode', false, 'status', status, 'amount', 10000, 'currency', 'usd',
	'customer', 'cus_1', 'latest_charge', 'ch_of_' || id, 'amount_received', CASE status WHEN 'succeeded' THEN 10000 ELSE 0 END) || more;

CREATE FUNCTION refund(id text, intent text, status text, amount integer) RETURNS jsonb
LANGUAGE sql
RETURN jsonb_build_object('object', 'refund', 'id', id, 'status', status, 'amount', amount, 'currency', 'usd', 'payment_intent', intent,
	'charge', 'ch_of_' || intent);

CREATE FUNCTION dispute(id text, intent text, status text, amount integer DEFAULT 10000) RETURNS jsonb
LANGUAGE sql
RETURN jsonb_build_object('object', 'dispute', 'id', id, 'status', status, 'amount', amount, 'currency', 'usd', 'charge', 'ch_of_' || intent);

CREATE FUNCTION payment_at(provider_id text) RETURNS billing.payment_intents
LANGUAGE sql
RETURN (SELECT p FROM billing.payment_intents AS p JOIN billing.provider_refs AS r ON r.object_id = p.id
		WHERE r.object_type = 'payment_intent' AND r.provider_id = payment_at.provider_id);

SELECT billing.create_customer('acme', 'a@acme.example', provider => 'stripe') AS acme \gset

-- ---------------------------------------------------------------------------
-- A payment that we did not make

SELECT is(tell('payment_intent.succeeded', intent('pi_found', 'succeeded'), 10), 'waiting', 'a payment of a customer that nobody knows waits for him');
INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
VALUES ('customer', :'acme', 'stripe', 'default', 'cus_1', false, '2020-01-01');
UPDATE billing.webhook_events SET next_attempt_at = now();
CALL billing.run_worker();
SELECT is((payment_at('pi_found')).status, 'succeeded', 'when he is known it is his');
SELECT is((payment_at('pi_found')).organization_id, 'acme', 'and his organisation''s');
SELECT is((payment_at('pi_found')).amount_received, 10000::bigint, 'with the money');

-- ---------------------------------------------------------------------------
-- Order

SELECT is(tell('payment_intent.payment_failed', intent('pi_order', 'requires_payment_method', '{"last_payment_error": {"code": "card_declined", "decline_code": "lost_card"}}'), 100), 'applied', 'an attempt fails');
SELECT is((payment_at('pi_order')).status, 'failed', 'and the payment has failed');
SELECT is((payment_at('pi_order')).decline_code, 'lost_card', 'for this reason');
SELECT tell('payment_intent.processing', intent('pi_order', 'processing'), 90);
SELECT is((payment_at('pi_order')).status, 'failed', 'older news do not change that');
SELECT tell('payment_intent.succeeded', intent('pi_order', 'succeeded'), 110);
SELECT is((payment_at('pi_order')).status, 'succeeded', 'the next attempt succeeds');
SELECT is((payment_at('pi_order')).error_code, NULL, 'and the error is forgotten');
SELECT tell('payment_intent.payment_failed', intent('pi_order', 'requires_payment_method', '{"last_payment_error": {"code": "card_declined"}}'), 120);
SELECT is((payment_at('pi_order')).status, 'succeeded', 'a late failure of an attempt never undoes it');
SELECT is((payment_at('pi_order')).amount_received, 10000::bigint, 'nor the money');
SELECT tell('payment_intent.canceled', intent('pi_order', 'canceled'), 130);
SELECT is((payment_at('pi_order')).status, 'succeeded', 'nor does a cancellation');

SELECT tell('payment_intent.canceled', intent('pi_late', 'canceled'), 200);
SELECT tell('payment_intent.processing', intent('pi_late', 'processing'), 210);
SELECT is((payment_at('pi_late')).status, 'canceled', 'what was canceled is not processing again');
SELECT tell('payment_intent.succeeded', intent('pi_late', 'succeeded'), 190);
SELECT is((payment_at('pi_late')).status, 'succeeded', 'but money that has arrived is booked, even by older news');
SELECT is((payment_at('pi_late')).amount_received, 10000::bigint, 'with its amount');
SELECT is((SELECT count(*) FROM billing.events WHERE id = (payment_at('pi_late')).id AND type = 'payment_intent.succeeded'), 1::bigint, 'once');
SELECT tell('payment_intent.succeeded', intent('pi_late', 'succeeded'), 191);
SELECT is((SELECT count(*) FROM billing.events WHERE id = (payment_at('pi_late')).id AND type = 'payment_intent.succeeded'), 1::bigint, 'also when it is told again');

-- a second is all that the provider tells
SELECT tell('payment_intent.processing', intent('pi_second', 'processing'), 300);
SELECT tell('payment_intent.created', intent('pi_second', 'requires_payment_method'), 300);
SELECT is((payment_at('pi_second')).status, 'processing', 'of two states of one second the later one counts');

-- what the customer has to do
SELECT tell('payment_intent.requires_action', intent('pi_oxxo', 'requires_action',
	'{"payment_method_types": ["oxxo"], "client_secret": "pi_oxxo_secret_1", "next_action": {"type": "oxxo_display_details", "oxxo_display_details": {"number": "12345678901234", "expires_after": 1900100000, "hosted_voucher_url": "https://stripe.example/v"}}}'), 400);
SELECT is((SELECT (reference, action_url, method, action_type)::text FROM billing.payment_intent_details WHERE id = (payment_at('pi_oxxo')).id),
	'(12345678901234,https://stripe.example/v,oxxo,oxxo)', 'a reference can be read by those who serve the customer');
SELECT is(billing.client_config((payment_at('pi_oxxo')).id) ->> 'client_secret', 'pi_oxxo_secret_1', 'the secret only in client_config()');
SELECT ok((payment_at('pi_oxxo'))::text !~ '12345678901234|secret_1', 'neither is in the table');

-- ---------------------------------------------------------------------------
-- Refunds

SELECT is(tell('refund.created', refund('re_early', 'pi_refunded', 'succeeded', 1000), 500), 'waiting', 'a refund of a payment that nobody knows waits for it');
SELECT tell('payment_intent.succeeded', intent('pi_refunded', 'succeeded'), 499);
UPDATE billing.webhook_events SET next_attempt_at = now() WHERE state = 'waiting';
CALL billing.run_worker();
SELECT is((payment_at('pi_refunded')).status || ' ' || (payment_at('pi_refunded')).amount_refunded, 'partially_refunded 1000', 'and is taken over when it is known');

-- the sum first, the refund later: counted once
SELECT tell('payment_intent.succeeded', intent('pi_refunded', 'succeeded',
	'{"latest_charge": {"id": "ch_of_pi_refunded", "object": "charge", "amount_refunded": 4000}}'), 510);
SELECT is((payment_at('pi_refunded')).amount_refunded, 4000::bigint, 'the sum that is told counts beyond the refunds that are known');
SELECT is((payment_at('pi_refunded')).refunded_elsewhere, 3000::bigint, 'the rest is from elsewhere');
SELECT tell('refund.created', refund('re_dashboard', 'pi_refunded', 'succeeded', 3000), 511);
SELECT is((payment_at('pi_refunded')).amount_refunded, 4000::bigint, 'when the refund is told it is not counted twice');
SELECT is((payment_at('pi_refunded')).refunded_elsewhere, 0::bigint, 'and all is explained');
SELECT tell('refund.failed', refund('re_dashboard', 'pi_refunded', 'failed', 3000), 520);
SELECT is((payment_at('pi_refunded')).amount_refunded, 1000::bigint, 'a refund that fails late takes its amount back');
SELECT tell('refund.updated', refund('re_dashboard', 'pi_refunded', 'pending', 3000), 530);
SELECT is((SELECT f.status FROM billing.refunds AS f JOIN billing.provider_refs AS r ON r.object_id = f.id WHERE r.provider_id = 're_dashboard'), 'failed', 'and is not pending again');

-- ours is on its way: what is told without our reference may be about it
BEGIN;
SELECT billing.create_refund((payment_at('pi_refunded')).id, 2000) AS mine \gset
UPDATE billing.outbox SET request = '\x00', state = 'unknown', next_attempt_at = 'infinity' WHERE object_id = :'mine';
SELECT is(tell('refund.created', refund('re_of_whom', 'pi_refunded', 'succeeded', 2000), 540), 'waiting', 'a refund that may be ours waits for our answer');
SELECT is((SELECT count(*) FROM billing.refunds WHERE payment_intent_id = (payment_at('pi_refunded')).id), 3::bigint, 'and is not another one');
SELECT is(tell('refund.created', refund('re_mine', 'pi_refunded', 'succeeded', 2000) || jsonb_build_object('metadata', jsonb_build_object('janua_ref', :'mine')), 541),
	'applied', 'with our reference it is ours');
SELECT is((SELECT status FROM billing.refunds WHERE id = :'mine'), 'succeeded', 'before its answer is there');
ROLLBACK;

-- ---------------------------------------------------------------------------
-- Disputes

SELECT tell('payment_intent.succeeded', intent('pi_disputed', 'succeeded'), 600);
SELECT tell('charge.dispute.created', dispute('dp_1', 'pi_disputed', 'needs_response'), 610);
SELECT is((SELECT status FROM billing.disputes WHERE payment_intent_id = (payment_at('pi_disputed')).id), 'needs_response', 'a dispute finds its payment by the charge');
SELECT tell('charge.dispute.closed', dispute('dp_1', 'pi_disputed', 'lost'), 630);
SELECT tell('charge.dispute.funds_withdrawn', dispute('dp_1', 'pi_disputed', 'needs_response'), 620);
SELECT is((SELECT status FROM billing.disputes WHERE payment_intent_id = (payment_at('pi_disputed')).id), 'lost', 'older news do not open it again');
SELECT isnt((SELECT funds_withdrawn_at FROM billing.disputes WHERE payment_intent_id = (payment_at('pi_disputed')).id), NULL, 'but that money was withdrawn counts, however late it is told');
SELECT tell('charge.dispute.created', dispute('dp_2', 'pi_disputed', 'prevented'), 640);
SELECT is(tell('charge.dispute.updated', dispute('dp_2', 'pi_disputed', 'needs_response'), 650), 'applied', 'news that cannot follow');
SELECT is((SELECT d.status FROM billing.disputes AS d JOIN billing.provider_refs AS r ON r.object_id = d.id WHERE r.provider_id = 'dp_2'), 'prevented', 'change nothing');
SELECT is(tell('refund.created', jsonb_build_object('object', 'refund', 'id', 're_odd', 'payment_intent', 'pi_disputed'), 660), 'waiting', 'what tells no amount waits until more is told');
SELECT is((SELECT count(*) FROM billing.webhook_events WHERE state = 'failed'), 0::bigint, 'no webhook of all this has failed');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

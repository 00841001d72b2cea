-- Refunds: what goes back, never more than has come.
\ir helpers.psql
SELECT plan(58);

CREATE FUNCTION paid(organization text, amount bigint, token text DEFAULT 'pm_card_visa') RETURNS uuid
LANGUAGE sql
RETURN billing.create_payment_intent(billing.find_customer(organization), amount, 'USD', payment_method => token);

CREATE FUNCTION state(payment uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT status || ' ' || amount_refunded FROM billing.payment_intents WHERE id = payment);

SELECT billing.create_customer('acme', 'refunds@acme.example') AS acme \gset
SELECT paid('acme', 10000) AS whole, paid('acme', 10000) AS parts, paid('acme', 10000, 'pm_card_pendingRefund') AS pending,
	paid('acme', 10000, 'pm_card_refundFail') AS failing, paid('acme', 10000) AS rules, paid('acme', 10000) AS mine,
	paid('acme', 10000) AS lost \gset
CALL billing.run_worker();

-- ---------------------------------------------------------------------------
-- Whole and in parts

BEGIN;
SELECT billing.create_refund(:'whole', reason => 'requested_by_customer', description => 'Ana did not like it') AS refund \gset
SELECT is((SELECT status FROM billing.get_refund(:'refund')), 'pending', 'a refund is pending until the provider says more');
SELECT is((SELECT amount FROM billing.get_refund(:'refund')), 10000::bigint, 'without an amount it is all that is left');
SELECT is(state(:'whole'), 'succeeded 0', 'and nothing is given back yet');
SELECT fails(format($$SELECT billing.create_refund(%L, 1)$$, :'whole'), 'JB008', 'nothing is left', NULL, 'but it is reserved');
SELECT ok((SELECT description::text FROM billing.refunds WHERE id = :'refund') !~ 'Ana', 'what was written about it is sealed');
SELECT ok((SELECT arguments::text FROM billing.outbox WHERE object_id = :'refund') !~ 'Ana', 'and not in the request''s arguments');
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT status FROM billing.get_refund(:'refund')), 'succeeded', 'then it has succeeded');
SELECT isnt((SELECT provider_refund_id FROM billing.get_refund(:'refund')), NULL, 'and the provider''s id is known');
SELECT is(state(:'whole'), 'refunded 10000', 'and the payment is refunded');
SELECT is((SELECT status_simple FROM billing.get_payment_intent(:'whole')), 'refunded', 'in simple words, too');
SELECT is((SELECT refunded_elsewhere FROM billing.payment_intents WHERE id = :'whole'), 0::bigint, 'the webhook with the sum adds nothing');
SELECT is(billing.await(:'refund'), 'succeeded', 'await() tells its status');
SELECT results_eq(format($$SELECT type FROM billing.events WHERE id IN (%L, %L) AND seq > (SELECT seq FROM billing.events WHERE id = %L AND type = 'payment_intent.succeeded') ORDER BY seq$$, :'refund', :'whole', :'whole'),
	$$VALUES ('refund.created'), ('refund.succeeded'), ('payment_intent.refunded')$$, 'each change is an event');

SELECT billing.create_refund(:'parts', 4000) AS part \gset
CALL billing.run_worker();
SELECT is(state(:'parts'), 'partially_refunded 4000', 'a part can be given back');
SELECT is((SELECT status_simple FROM billing.get_payment_intent(:'parts')), 'succeeded', 'in simple words it is still paid');
SELECT fails(format($$SELECT billing.create_refund(%L, 6001)$$, :'parts'), '22023', 'what is left', 'Leave amount out', 'never more than is left');
SELECT fails(format($$SELECT billing.create_refund(%L, 0)$$, :'parts'), '22023', 'amount must be from 1', NULL, 'never nothing');
SELECT fails(format($$SELECT billing.create_refund(%L, -1)$$, :'parts'), '22023', 'amount must be from 1', NULL, 'never less');
SELECT billing.create_refund(:'parts') AS rest \gset
SELECT is((SELECT amount FROM billing.get_refund(:'rest')), 6000::bigint, 'the rest is what is left');
CALL billing.run_worker();
SELECT is(state(:'parts'), 'refunded 10000', 'and then it is refunded');
SELECT is((SELECT count(*) FROM billing.list_refunds('acme')), 3::bigint, 'an organisation''s refunds are listed');

-- ---------------------------------------------------------------------------
-- Pending and failing

SELECT billing.create_refund(:'pending', 3000) AS slow \gset
SELECT billing.create_refund(:'failing', 3000) AS bad \gset
CALL billing.run_worker();
SELECT is((SELECT status FROM billing.get_refund(:'slow')), 'pending', 'a refund may take its time');
SELECT is(state(:'pending'), 'succeeded 0', 'and is not given back until then');
SELECT is((SELECT status FROM billing.get_refund(:'bad')), 'succeeded', 'a refund that succeeds');
SELECT is(state(:'failing'), 'partially_refunded 3000', 'counts');
SELECT billing.sandbox_settle(:'slow', 'succeeded');
SELECT billing.sandbox_settle(:'bad', 'failed');
CALL billing.run_worker();
SELECT is((SELECT status FROM billing.get_refund(:'slow')), 'succeeded', 'in the end it succeeds');
SELECT is(state(:'pending'), 'partially_refunded 3000', 'and is given back then');
SELECT is((SELECT status FROM billing.get_refund(:'bad')), 'failed', 'or it fails late');
SELECT is(state(:'failing'), 'succeeded 0', 'and the payment is what it was before');
SELECT is((SELECT count(*) FROM billing.events WHERE id = :'failing' AND type = 'payment_intent.succeeded' AND before_state = 'partially_refunded'), 1::bigint, 'as an event that says so');
SELECT billing.create_refund(:'failing') AS again \gset
SELECT is((SELECT amount FROM billing.get_refund(:'again')), 10000::bigint, 'all of it can be refunded again');

-- ---------------------------------------------------------------------------
-- Taking it back, refusals of the provider, lost answers

BEGIN;
SELECT billing.create_refund(:'mine', 500) AS unsent \gset
SELECT billing.cancel_refund(:'unsent');
SELECT is((SELECT status FROM billing.get_refund(:'unsent')), 'canceled', 'a refund that was not sent is taken back at once');
SELECT lives_ok(format($$SELECT billing.cancel_refund(%L)$$, :'unsent'), 'twice is harmless');
SELECT billing.create_refund(:'mine') AS refused \gset
SELECT is((SELECT amount FROM billing.get_refund(:'refused')), 10000::bigint, 'and releases what it had reserved');
SELECT billing.sandbox_fail_next('refund.create', 'declined', 1);
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT status FROM billing.get_refund(:'refused')), 'failed', 'what the provider does not take has failed');
SELECT isnt((SELECT error_code FROM billing.get_refund(:'refused')), NULL, 'with the reason');
SELECT is(state(:'mine'), 'succeeded 0', 'and nothing is reserved');
SELECT fails(format($$SELECT billing.cancel_refund(%L)$$, :'refund'), 'JB008', 'has succeeded', NULL, 'what has succeeded is not taken back');
SELECT fails($$SELECT billing.cancel_refund('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown refund', NULL, 'an unknown refund is refused');
SELECT billing.sandbox_fail_next('refund.create', 'timeout_after_success', 1);
SELECT billing.create_refund(:'lost', 2500) AS lost_refund \gset
CALL billing.run_worker();
SELECT is(billing.await(:'lost_refund', '20 seconds'), 'succeeded', 'a lost answer is found again');
SELECT is(state(:'lost'), 'partially_refunded 2500', 'and the money went back once');
SELECT is((SELECT count(*) FROM billing.refunds WHERE payment_intent_id = :'lost'), 1::bigint, 'as one refund');

-- ---------------------------------------------------------------------------
-- Refunds of others

-- what the provider tells without telling which: it counts until it is explained
BEGIN;
UPDATE billing.payment_intents SET refunded_elsewhere = 4000, amount_refunded = 4000, status = 'partially_refunded' WHERE id = :'mine';
SELECT fails(format($$SELECT billing.create_refund(%L, 6001)$$, :'mine'), '22023', 'what is left', NULL, 'what was refunded elsewhere counts');
SELECT billing.create_refund(:'mine', 6000) AS beside \gset
SELECT fails(format($$SELECT billing.create_refund(%L, 1)$$, :'mine'), 'JB008', 'nothing is left', NULL, 'together with what is reserved');
ROLLBACK;

-- ---------------------------------------------------------------------------
-- What a method cannot do

INSERT INTO billing.refund_rules (provider, method, whole, partial) VALUES ('sandbox', 'card', true, false);
SELECT fails(format($$SELECT billing.create_refund(%L, 1)$$, :'rules'), 'JB004', 'cannot refund a part of a payment by card', 'leave amount out', 'a method may be refunded as a whole only');
UPDATE billing.refund_rules SET whole = false WHERE provider = 'sandbox';
SELECT fails(format($$SELECT billing.create_refund(%L)$$, :'rules'), 'JB004', 'cannot refund a payment by card', 'transfer', 'or not at all');
UPDATE billing.refund_rules SET whole = true, partial = true, days = 30 WHERE provider = 'sandbox';
SELECT lives_ok(format($$SELECT billing.create_refund(%L, 1)$$, :'rules'), 'or for so many days');
CALL billing.advance_clock('acme', '31 days');
SELECT fails(format($$SELECT billing.create_refund(%L, 1)$$, :'rules'), 'JB004', 'for 30 days', NULL, 'and not after them');
SELECT fails($$DELETE FROM billing.refund_rules$$, 'JB008', 'cannot be deleted', NULL, 'rules stay');
SELECT throws_ok($$INSERT INTO billing.refund_rules (provider, method, whole, partial) VALUES ('sandbox', 'spei', false, true)$$, '23514', NULL, 'a part without the whole is no rule');
UPDATE billing.refund_rules SET days = NULL WHERE provider = 'sandbox';

-- ---------------------------------------------------------------------------
-- Arguments

SELECT billing.create_refund(:'rules', 10, idempotency_key => 'r-1') AS once \gset
SELECT is(billing.create_refund(:'rules', 10, idempotency_key => 'r-1'), :'once'::uuid, 'the same key is the same refund');
SELECT fails(format($$SELECT billing.create_refund(%L, 11, idempotency_key => 'r-1')$$, :'rules'), 'JB007', 'another amount', NULL, 'with other arguments it is refused');
SELECT fails(format($$SELECT billing.create_refund(%L, 1, 'because')$$, :'rules'), '22023', 'unknown reason', 'requested_by_customer', 'reasons are listed');
SELECT fails(format($$SELECT billing.create_refund(%L, 1, description => 'card 4242 4242 4242 4242')$$, :'rules'), 'JB009', 'description holds a card number', NULL, 'a card number is refused');
SELECT fails($$SELECT billing.create_refund('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown payment intent', NULL, 'an unknown payment is refused');
SELECT fails($$SELECT billing.create_refund(NULL)$$, '23502', 'payment_intent_id must be given', NULL, 'a payment has to be named');
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.webhook_events WHERE state IN ('failed', 'waiting')), 0::bigint, 'every webhook of all this was applied');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

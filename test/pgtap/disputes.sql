-- Disputes: money that a bank takes back.
\ir helpers.psql
SELECT plan(41);

CREATE FUNCTION dispute_of(payment uuid) RETURNS billing.disputes
LANGUAGE sql
RETURN (SELECT d FROM billing.disputes AS d WHERE d.payment_intent_id = payment);

SELECT billing.create_customer('acme', 'disputes@acme.example') AS acme \gset
SELECT billing.create_payment_intent(:'acme', 10000, 'USD', payment_method => 'pm_card_createDispute') AS disputed \gset
SELECT billing.create_payment_intent(:'acme', 10000, 'USD', payment_method => 'pm_card_createDisputeInquiry') AS asked \gset
SELECT billing.create_payment_intent(:'acme', 10000, 'USD', payment_method => 'pm_card_visa') AS part \gset
SELECT billing.create_payment_intent(:'acme', 10000, 'USD', payment_method => 'pm_card_visa') AS accepted \gset
CALL billing.run_worker();
CALL billing.advance_clock('acme', '2 days');

SELECT id AS dispute FROM billing.disputes WHERE payment_intent_id = :'disputed' \gset
SELECT is((dispute_of(:'disputed')).status, 'needs_response', 'a dispute wants an answer');
SELECT is((dispute_of(:'disputed')).amount, 10000::bigint, 'it is about all of the payment');
SELECT is((dispute_of(:'disputed')).reason, 'fraudulent', 'for a reason');
SELECT ok((dispute_of(:'disputed')).evidence_due_by > billing.now('acme'), 'by a date');
SELECT ok((dispute_of(:'disputed')).funds_withdrawn_at IS NOT NULL, 'and the money is gone');
SELECT is((SELECT status FROM billing.get_payment_intent(:'disputed')), 'succeeded', 'the payment stays what it is');
SELECT fails(format($$SELECT billing.create_refund(%L)$$, :'disputed'), 'JB008', 'nothing is left', NULL, 'but what is disputed is not refunded');
SELECT is((SELECT severity FROM billing.attention WHERE object_id = :'dispute'), 'error', 'a person has to look at it');
SELECT results_eq(format($$SELECT type FROM billing.events WHERE id = %L ORDER BY seq$$, :'dispute'),
	$$VALUES ('dispute.created'), ('dispute.funds_withdrawn')$$, 'both are events');
SELECT ok(:'dispute' IN (SELECT id FROM billing.list_disputes('acme')), 'disputes are listed');
SELECT is((SELECT count(*) FROM billing.list_disputes()), 2::bigint, 'of everybody');
SELECT is(billing.await(:'dispute'), 'needs_response', 'await() tells its status');

SELECT is((dispute_of(:'asked')).status, 'warning_needs_response', 'an inquiry is a warning');
SELECT is((dispute_of(:'asked')).funds_withdrawn_at, NULL, 'without money moving');
SELECT lives_ok(format($$SELECT billing.create_refund(%L, 1)$$, :'asked'), 'so that a refund may settle it');

-- ---------------------------------------------------------------------------
-- Answering

BEGIN;
SELECT billing.submit_dispute_evidence(:'dispute', '{"customer_name": "Ana Lopez"}', submit => false);
SELECT ok((SELECT evidence::text FROM billing.disputes WHERE id = :'dispute') !~ 'Ana', 'evidence is sealed');
SELECT ok((SELECT arguments::text FROM billing.outbox WHERE object_id = :'dispute') !~ 'Ana', 'and not in the request''s arguments');
SELECT is(billing.decrypt(evidence, 'disputes.evidence', id)::jsonb, '{"customer_name": "Ana Lopez"}', 'who may can read it')
FROM billing.disputes WHERE id = :'dispute';
COMMIT;
CALL billing.run_worker();
SELECT is((dispute_of(:'disputed')).status, 'needs_response', 'a draft is no answer yet');
SELECT is((dispute_of(:'disputed')).evidence_submitted_at, NULL, 'and not handed in');
SELECT billing.submit_dispute_evidence(:'dispute', '{"uncategorized_text": "He was there."}');
CALL billing.run_worker();
SELECT is(billing.decrypt(evidence, 'disputes.evidence', id)::jsonb, '{"customer_name": "Ana Lopez", "uncategorized_text": "He was there."}', 'what was given before stays')
FROM billing.disputes WHERE id = :'dispute';
SELECT is((dispute_of(:'disputed')).status, 'under_review', 'handed in it is under review');
SELECT ok((dispute_of(:'disputed')).evidence_submitted_at IS NOT NULL, 'since then');
SELECT is((SELECT count(*) FROM billing.attention WHERE object_id = :'dispute'), 0::bigint, 'and nobody has to look at it any more');
SELECT fails(format($$SELECT billing.submit_dispute_evidence(%L, '{"a": "b"}')$$, :'dispute'), 'JB008', 'does not wait for an answer', NULL, 'it is answered once');
SELECT billing.sandbox_resolve_dispute(:'dispute', 'won');
CALL billing.run_worker();
SELECT is((dispute_of(:'disputed')).status, 'won', 'who wins');
SELECT ok((dispute_of(:'disputed')).funds_reinstated_at IS NOT NULL, 'gets the money back');
SELECT lives_ok(format($$SELECT billing.create_refund(%L, 100)$$, :'disputed'), 'and may refund it');
SELECT fails(format($$SELECT billing.accept_dispute(%L)$$, :'dispute'), 'JB008', 'is over', NULL, 'what is over cannot be accepted');

-- ---------------------------------------------------------------------------
-- A part, and giving up

SELECT billing.sandbox_dispute(:'part', 4000, 'product_not_received');
SELECT billing.sandbox_dispute(:'accepted');
CALL billing.run_worker();
SELECT fails(format($$SELECT billing.create_refund(%L, 6001)$$, :'part'), '22023', 'what is left', NULL, 'what is disputed in part is not refunded');
SELECT lives_ok(format($$SELECT billing.create_refund(%L, 6000)$$, :'part'), 'the rest may be');
SELECT id AS lost FROM billing.disputes WHERE payment_intent_id = :'accepted' \gset
SELECT billing.accept_dispute(:'lost');
CALL billing.run_worker();
SELECT is((dispute_of(:'accepted')).status, 'lost', 'what is accepted is lost');
SELECT is((dispute_of(:'accepted')).funds_reinstated_at, NULL, 'and the money stays away');
SELECT fails(format($$SELECT billing.create_refund(%L)$$, :'accepted'), 'JB008', 'nothing is left', NULL, 'so that nothing is left to refund');

-- ---------------------------------------------------------------------------
-- Arguments

SELECT fails(format($$SELECT billing.submit_dispute_evidence(%L, '[]')$$, :'dispute'), '22023', 'not an object', NULL, 'evidence is an object');
SELECT fails(format($$SELECT billing.submit_dispute_evidence(%L, '{"a": 1}')$$, :'dispute'), '22023', 'is no text', NULL, 'of texts');
SELECT fails(format($$SELECT billing.submit_dispute_evidence(%L, NULL)$$, :'dispute'), '23502', 'evidence must be given', NULL, 'and has to be given');
SELECT fails(format($$SELECT billing.submit_dispute_evidence(%L, '{"a": "4242 4242 4242 4242"}')$$, :'dispute'), 'JB009', 'evidence holds a card number', NULL, 'without card numbers');
SELECT fails($$SELECT billing.accept_dispute('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown dispute', 'list_disputes', 'an unknown dispute is refused');
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.webhook_events WHERE state IN ('failed', 'waiting')), 0::bigint, 'every webhook of all this was applied');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

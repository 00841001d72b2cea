-- The sandbox: one payment of each kind, and what comes of it by the test clock or the buyer.
\ir helpers.psql
SELECT plan(85);

-- What a person looks at first.
CREATE FUNCTION payment(id uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' ', p.status, p.amount_received, p.error_code, p.decline_code) FROM billing.payment_intents AS p WHERE p.id = payment.id);

CREATE FUNCTION refund(id uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' ', r.status, r.error_code, p.status, p.amount_refunded) FROM billing.refunds AS r
		JOIN billing.payment_intents AS p ON p.id = r.payment_intent_id WHERE r.id = refund.id);

CREATE FUNCTION dispute_of(payment uuid) RETURNS uuid
LANGUAGE sql
RETURN (SELECT d.id FROM billing.disputes AS d WHERE d.payment_intent_id = payment ORDER BY d.id DESC LIMIT 1);

CREATE FUNCTION dispute(payment uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' ', d.status, d.amount, CASE WHEN d.funds_withdrawn_at IS NOT NULL THEN 'withdrawn' END,
						 CASE WHEN d.funds_reinstated_at IS NOT NULL THEN 'reinstated' END)
		FROM billing.disputes AS d WHERE d.payment_intent_id = payment ORDER BY d.id DESC LIMIT 1);

CREATE FUNCTION number_of(payment uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT coalesce(d.reference, d.clabe) FROM billing.payment_intent_details AS d WHERE d.id = payment);

SELECT count(billing.create_customer(o)) AS customers
FROM string_to_table('card bank cash late part clabe disputed inquiry back msi secure keeper subscriber pesos', ' ') AS o \gset
CALL billing.run_worker();

CREATE FUNCTION pay(organization text, token text DEFAULT NULL, method text DEFAULT NULL, wish text DEFAULT NULL, amount bigint DEFAULT 10000) RETURNS uuid
LANGUAGE sql
RETURN billing.create_payment_intent(billing.find_customer(organization), amount, CASE WHEN method IN ('oxxo', 'spei') THEN 'MXN' ELSE 'USD' END, method => method,
									 payment_method => token, metadata => jsonb_strip_nulls(jsonb_build_object('sandbox', wish)));

-- ---------------------------------------------------------------------------
-- Cards

SELECT pay('card', 'pm_card_visa') AS visa \gset
SELECT pay('card', 'pm_card_chargeDeclined') AS declined \gset
SELECT pay('card', 'pm_card_visa_chargeDeclinedInsufficientFunds') AS poor \gset
SELECT pay('card', 'pm_card_chargeDeclinedExpiredCard') AS expired \gset
SELECT billing.create_payment_intent(billing.find_customer('card'), 10000, 'USD', payment_method => 'pm_card_visa', capture_method => 'manual') AS held \gset
CALL billing.run_worker();
SELECT is(payment(:'visa'), 'succeeded 10000', 'a card is charged');
SELECT is(payment(:'declined'), 'failed 0 card_declined generic_decline', 'or declined');
SELECT is(payment(:'poor'), 'failed 0 card_declined insufficient_funds', 'with the reason');
SELECT is(payment(:'expired'), 'failed 0 expired_card expired_card', 'of the card');
SELECT is(payment(:'held'), 'requires_capture 0', 'or the money is only held');
SELECT billing.confirm_payment_intent(:'declined', 'pm_card_mastercard');
SELECT billing.capture_payment_intent(:'held', 4000);
CALL billing.run_worker();
SELECT is(payment(:'declined'), 'succeeded 10000', 'what was declined can be tried again');
SELECT is(payment(:'held'), 'succeeded 4000', 'and a part of what was held be taken');
SELECT pay('card') AS open \gset
CALL billing.run_worker();
SELECT is(payment(:'open'), 'pending 0', 'a payment without a method waits for one');
SELECT billing.cancel_payment_intent(:'open');
CALL billing.run_worker();
SELECT is(payment(:'open'), 'canceled 0', 'or is given up');
SELECT fails($$SELECT pay('card', 'pm_card_of_mine')$$, 'JB005', 'unknown payment method "pm_card_of_mine"', 'pm_card_visa', 'an unknown token is refused by the list of those that there are');

-- ---------------------------------------------------------------------------
-- 3-D Secure

SELECT pay('secure', 'pm_card_authenticationRequired') AS secure \gset
SELECT pay('secure', 'pm_card_authenticationRequired') AS refused \gset
SELECT billing.create_payment_intent(billing.find_customer('secure'), 10000, 'USD', payment_method => 'pm_card_authenticationRequired', off_session => true) AS absent \gset
CALL billing.run_worker();
SELECT is((SELECT action_type || ' ' || (action_url LIKE 'https://sandbox.invalid/%') FROM billing.payment_intent_details WHERE id = :'secure'), 'redirect true', 'the customer is sent to his bank');
SELECT is(payment(:'absent'), 'failed 0 authentication_required authentication_required', 'who is not there cannot go');
SELECT billing.sandbox_authenticate(:'secure');
SELECT billing.sandbox_authenticate(:'refused', false);
CALL billing.run_worker();
SELECT is(payment(:'secure'), 'succeeded 10000', 'who agrees pays');
SELECT is(payment(:'refused'), 'failed 0 payment_intent_authentication_failure payment_intent_authentication_failure', 'who does not, does not');
SELECT fails(format($$SELECT billing.sandbox_authenticate(%L)$$, :'secure'), 'JB008', 'nothing to do for the buyer', NULL, 'once is enough');

SELECT billing.create_setup_intent(billing.find_customer('keeper'), 'pm_card_authenticationRequiredOnSetup') AS setup \gset
CALL billing.run_worker();
SELECT is((SELECT status FROM billing.setup_intents WHERE id = :'setup'), 'requires_action', 'a card can want it once, when it is saved');
SELECT billing.sandbox_authenticate(:'setup');
CALL billing.run_worker();
SELECT is((SELECT s.status || ' ' || m.state FROM billing.setup_intents AS s JOIN billing.payment_methods AS m ON m.id = s.payment_method_id WHERE s.id = :'setup'), 'succeeded attached', 'then it is saved');
SELECT billing.create_payment_intent(billing.find_customer('keeper'), 500, 'USD', payment_method => payment_method_id::text, off_session => true) AS later FROM billing.setup_intents WHERE id = :'setup' \gset
CALL billing.run_worker();
SELECT is(payment(:'later'), 'succeeded 500', 'and pays while the customer is away');
SELECT billing.create_setup_intent(billing.find_customer('keeper'), 'pm_card_visa_chargeDeclinedLostCard') AS lost \gset
CALL billing.run_worker();
SELECT is((SELECT status || ' ' || error_code FROM billing.setup_intents WHERE id = :'lost'), 'failed lost_card', 'a lost card is not saved');

-- ---------------------------------------------------------------------------
-- Instalments

SELECT billing.create_payment_intent(billing.find_customer('msi'), 300000, 'MXN', payment_method => 'tok_test_msi_error', installments => 3) AS msi \gset
SELECT billing.create_payment_intent(billing.find_customer('msi'), 300000, 'MXN', payment_method => 'tok_test_msi_error') AS whole \gset
SELECT billing.create_payment_intent(billing.find_customer('msi'), 300000, 'MXN', payment_method => 'tok_test_visa_4242', installments => 3) AS instalments \gset
CALL billing.run_worker();
SELECT is(payment(:'msi'), 'failed 0 card_declined generic_decline', 'a card may refuse instalments');
SELECT is(payment(:'whole'), 'succeeded 300000', 'and pay at once');
SELECT is(payment(:'instalments') || ' ' || (SELECT installments FROM billing.payment_intents WHERE id = :'instalments'), 'succeeded 300000 3', 'of one that takes them we get the whole');

-- ---------------------------------------------------------------------------
-- Bank debits

SELECT pay('bank', 'pm_usBankAccount_success') AS ach \gset
SELECT pay('bank', 'pm_usBankAccount_insufficientFunds') AS bounced \gset
SELECT pay('bank', 'pm_usBankAccount_processing') AS stuck \gset
SELECT pay('bank', 'pm_usBankAccount_dispute') AS contested \gset
SELECT pay('bank', method => 'us_bank_account') AS deposits \gset
SELECT billing.create_payment_intent(billing.find_customer('bank'), 10000, 'EUR', payment_method => 'pm_failed_de') AS sepa \gset
CALL billing.run_worker();
SELECT results_eq(format($$SELECT count(*) FROM billing.payment_intents WHERE organization_id = 'bank' AND status = 'processing'$$), $$VALUES (5::bigint)$$, 'debits take days');
SELECT billing.confirm_payment_intent(:'deposits', method => 'us_bank_account');
CALL billing.run_worker();
SELECT is((SELECT action_type FROM billing.payment_intent_details WHERE id = :'deposits'), 'verify_microdeposits', 'an account that nobody has named is proved first');
SELECT billing.verify_microdeposits(:'deposits', ARRAY[1, 2]);
CALL billing.run_worker();
SELECT is(payment(:'deposits'), 'requires_action 0 payment_method_microdeposit_verification_amounts_mismatch', 'by the right amounts');
SELECT billing.cancel_request(id) FROM billing.outbox WHERE object_id = :'deposits';
SELECT billing.verify_microdeposits(:'deposits', ARRAY[32, 45]);
CALL billing.run_worker();
SELECT is((SELECT status FROM billing.payment_intents WHERE id = :'deposits'), 'processing', 'then it is debited');
CALL billing.advance_clock('bank', '3 days 23 hours');
SELECT is((SELECT status FROM billing.payment_intents WHERE id = :'ach'), 'processing', 'ACH is not there after three days');
CALL billing.advance_clock('bank', '1 hour');
SELECT is(payment(:'ach'), 'succeeded 10000', 'but after four');
SELECT is(payment(:'bounced'), 'failed 0 insufficient_funds', 'unless the account is empty');
SELECT is((SELECT status FROM billing.payment_intents WHERE id = :'sepa'), 'processing', 'SEPA takes a day more');
CALL billing.advance_clock('bank', '1 day');
SELECT is(payment(:'sepa'), 'failed 0 generic_could_not_process', 'and can fail, too');
SELECT is(dispute(:'contested'), 'needs_response 10000 withdrawn', 'a debit that has succeeded can be disputed');
SELECT is((SELECT status FROM billing.payment_intents WHERE id = :'stuck'), 'processing', 'one waits until it is settled');
SELECT billing.sandbox_settle(:'stuck', 'failed');
CALL billing.run_worker();
SELECT is(payment(:'stuck'), 'failed 0 processing_error', 'as the test wants it');

-- ---------------------------------------------------------------------------
-- OXXO and SPEI

SELECT pay('cash', method => 'oxxo') AS oxxo \gset
SELECT pay('late', method => 'oxxo', wish => 'late:P1D') AS late \gset
SELECT pay('late', method => 'oxxo', wish => 'expire') AS never \gset
SELECT pay('part', method => 'spei', wish => 'under:500') AS less \gset
SELECT pay('part', method => 'spei', wish => 'over:500,pay_after:PT12H') AS more \gset
SELECT pay('clabe', method => 'spei', wish => 'expire') AS clabe \gset
CALL billing.run_worker();
SELECT matches(number_of(:'oxxo'), '^[0-9]{14}$', 'a reference has 14 digits');
SELECT matches(number_of(:'clabe'), '^646180[0-9]{12}$', 'a CLABE has 18, of a bank that there is');
SELECT is((SELECT (10 - sum(substr(number_of(:'clabe'), i, 1)::integer * (ARRAY[3, 7, 1])[1 + (i - 1) % 3] % 10) % 10) % 10 FROM generate_series(1, 17) AS i)::text,
	right(number_of(:'clabe'), 1), 'the last of which controls the others');
SELECT is((SELECT count(DISTINCT number_of(id)) FROM billing.payment_intents WHERE organization_id IN ('cash', 'late', 'part', 'clabe')), 6::bigint, 'no two are the same');
CALL billing.advance_clock('cash', '1 day');
SELECT is(payment(:'oxxo'), 'requires_action 0', 'the buyer takes his time');
CALL billing.advance_clock('cash', '1 day');
SELECT is(payment(:'oxxo'), 'succeeded 10000', 'of two days');
CALL billing.advance_clock('late', '3 days');
SELECT is(payment(:'never') || ' ' || (SELECT cancellation_reason FROM billing.payment_intents WHERE id = :'never'), 'canceled 0 expired', 'after three days a reference is dead');
SELECT is((SELECT status FROM billing.payment_intents WHERE id = :'late'), 'canceled', 'for everybody');
CALL billing.advance_clock('late', '1 day');
SELECT is(payment(:'late'), 'succeeded 10000', 'but money that comes late is money');
CALL billing.advance_clock('part', '2 days');
SELECT is(payment(:'less'), 'requires_action 9500', 'who pays too little still owes the rest');
SELECT is(payment(:'more'), 'succeeded 10500', 'who pays too much has paid');
SELECT billing.sandbox_pay_reference(number_of(:'less'));
CALL billing.run_worker();
SELECT is(payment(:'less'), 'succeeded 10000', 'the rest can be paid to the same number');
SELECT billing.sandbox_pay_reference(number_of(:'clabe'), 10000);
CALL billing.run_worker();
SELECT is(payment(:'clabe'), 'succeeded 10000', 'and a test can pay at once');
SELECT fails($$SELECT billing.sandbox_pay_reference('93000000000000')$$, 'JB005', 'unknown reference', 'next_action', 'a number that nobody gave out is refused');
SELECT fails($$SELECT billing.sandbox_pay_reference('93000000000000', 0)$$, '22023', 'amount', NULL, 'nothing cannot be paid');

SELECT billing.attach_payment_method(billing.find_customer('pesos'), type => 'spei_recurrent') AS again \gset
CALL billing.run_worker();
SELECT m ->> 'number' AS number FROM billing.sandbox_state, jsonb_array_elements(state -> 'methods') AS m WHERE customer_id = billing.find_customer('pesos') \gset
SELECT billing.sandbox_pay_reference(:'number', 700);
SELECT billing.sandbox_pay_reference(:'number', 800);
CALL billing.run_worker();
SELECT results_eq($$SELECT status, amount_received, payment_method_id IS NOT NULL FROM billing.payment_intents WHERE organization_id = 'pesos' ORDER BY amount$$,
	$$VALUES ('succeeded', 700::bigint, true), ('succeeded', 800, true)$$, 'to a number of the customer''s own he pays again and again');

-- ---------------------------------------------------------------------------
-- Refunds

SELECT pay('back', 'pm_card_visa') AS soon \gset
SELECT pay('back', 'pm_card_pendingRefund') AS slow \gset
SELECT pay('back', 'pm_card_refundFail') AS fails \gset
SELECT pay('back', method => 'oxxo', wish => 'pay_after:PT1H') AS notes \gset
CALL billing.advance_clock('back', '2 hours');
SELECT billing.create_refund(:'soon', 4000) AS soon_refund \gset
SELECT billing.create_refund(:'slow') AS slow_refund \gset
SELECT billing.create_refund(:'fails') AS fails_refund \gset
SELECT billing.create_refund(:'notes') AS notes_refund \gset
CALL billing.run_worker();
SELECT is(refund(:'soon_refund'), 'succeeded partially_refunded 4000', 'a card gets its money at once');
SELECT is(refund(:'slow_refund'), 'pending succeeded 0', 'or takes its time');
SELECT is(refund(:'fails_refund'), 'succeeded refunded 10000', 'or seems to have it');
SELECT is((SELECT requires_action FROM billing.refunds WHERE id = :'notes_refund'), true, 'who has paid cash must say where to');
CALL billing.advance_clock('back', '1 day');
SELECT is(refund(:'slow_refund'), 'succeeded refunded 10000', 'a day later it is there');
SELECT is(refund(:'fails_refund'), 'failed expired_or_canceled_card succeeded 0', 'or came back: the payment is whole again');
SELECT billing.sandbox_settle(:'notes_refund');
CALL billing.run_worker();
SELECT is(refund(:'notes_refund'), 'succeeded refunded 10000', 'the customer has said it');
SELECT billing.create_refund(:'fails') AS second_refund \gset
CALL billing.run_worker();
SELECT is((SELECT status FROM billing.refunds WHERE id = :'second_refund'), 'succeeded', 'what failed can be given back once more');

-- ---------------------------------------------------------------------------
-- Disputes

SELECT pay('disputed', 'pm_card_createDispute') AS won \gset
SELECT pay('disputed', 'pm_card_createDispute') AS lost \gset
SELECT pay('disputed', 'pm_card_visa') AS part \gset
CALL billing.run_worker();
SELECT is(dispute(:'won'), NULL, 'on the day of the payment nobody complains');
CALL billing.advance_clock('disputed', '1 day');
SELECT is(dispute(:'won'), 'needs_response 10000 withdrawn', 'the next day the bank takes the money');
SELECT billing.submit_dispute_evidence(dispute_of(:'won'), '{"uncategorized_text": "winning_evidence"}');
SELECT billing.submit_dispute_evidence(dispute_of(:'lost'), '{"uncategorized_text": "losing_evidence"}');
CALL billing.run_worker();
SELECT is(dispute(:'won'), 'under_review 10000 withdrawn', 'and looks at what we say');
CALL billing.advance_clock('disputed', '1 day');
SELECT is(dispute(:'won'), 'won 10000 withdrawn reinstated', 'good evidence brings it back');
SELECT is(dispute(:'lost'), 'lost 10000 withdrawn', 'bad evidence does not');
SELECT billing.sandbox_dispute(:'part', 3000, 'product_not_received');
CALL billing.run_worker();
SELECT is(dispute(:'part'), 'needs_response 3000 withdrawn', 'a test can dispute a part');
SELECT fails(format($$SELECT billing.sandbox_dispute(%L, 8000)$$, :'part'), 'JB008', 'nothing to do for the buyer', NULL, 'but not more than what is left');
SELECT billing.sandbox_resolve_dispute(dispute_of(:'part'), 'won');
CALL billing.run_worker();
SELECT is(dispute(:'part'), 'won 3000 withdrawn reinstated', 'and decide it');
SELECT fails(format($$SELECT billing.sandbox_resolve_dispute(%L, 'lost')$$, dispute_of(:'part')), 'JB008', 'nothing to do for the buyer', NULL, 'once');
SELECT billing.sandbox_dispute(:'part');
CALL billing.run_worker();
SELECT billing.accept_dispute(dispute_of(:'part'));
CALL billing.run_worker();
SELECT is(dispute(:'part'), 'lost 10000 withdrawn', 'one that is accepted is lost');

SELECT pay('inquiry', 'pm_card_createDisputeInquiry') AS asked \gset
CALL billing.run_worker();
CALL billing.advance_clock('inquiry', '1 day');
SELECT is(dispute(:'asked'), 'warning_needs_response 10000', 'a bank may only ask');
SELECT billing.sandbox_resolve_dispute(dispute_of(:'asked'), 'lost');
CALL billing.run_worker();
SELECT is(dispute(:'asked'), 'needs_response 10000 withdrawn', 'a question without an answer becomes a dispute');
CALL billing.advance_clock('inquiry', '7 days');
SELECT is(dispute(:'asked'), 'lost 10000 withdrawn', 'which is lost when nobody answers in time');

-- ---------------------------------------------------------------------------
-- A subscription pays, too

SELECT billing.subscribe('subscriber', 'pro', 'pm_card_authenticationRequired') AS subscription \gset
CALL billing.run_worker();
SELECT id AS payment FROM billing.payment_intents WHERE subscription_id = :'subscription' \gset
SELECT is(payment(:'payment'), 'requires_action 0', 'what a subscription pays is a payment');
SELECT results_eq(format($$SELECT c ->> 'status', c ->> 'payment_intent', c -> 'next_action' = billing.client_config(%L) -> 'next_action', c ->> 'client_secret' = billing.client_config(%2$L) ->> 'client_secret'
		FROM billing.client_config(%1$L) AS c$$, :'subscription', :'payment'),
	format($$VALUES ('incomplete', %L, true, true)$$, :'payment'), 'to which the subscription leads a browser');
SELECT is((SELECT billing.client_config(invoice_id) ->> 'payment_intent' FROM billing.payment_intents WHERE id = :'payment'), :'payment', 'and its invoice');
SELECT billing.sandbox_authenticate(:'subscription');
CALL billing.run_worker();
SELECT is(status_of('subscriber') || ' ' || payment(:'payment'), 'active succeeded 2900', 'of the three the buyer can act on any');
SELECT is((SELECT i.status FROM billing.payment_intents AS p JOIN billing.invoices AS i ON i.id = p.invoice_id WHERE p.id = :'payment'), 'paid', 'it belongs to its invoice');
SELECT is(billing.client_config(:'subscription') ->> 'client_secret', NULL, 'what is paid has no secret any more');
SELECT billing.create_refund(:'payment', 900) AS refund \gset
CALL billing.run_worker();
SELECT is(refund(:'refund'), 'succeeded partially_refunded 900', 'and can be given back');

-- ---------------------------------------------------------------------------
-- Trouble, and whose it is

BEGIN;
SELECT billing.sandbox_fail_next('payment_intent.create', 'timeout_after_success');
SELECT pay('card', 'pm_card_visa') AS unheard \gset
COMMIT;
SELECT is(billing.await(:'unheard', '20 seconds'), 'succeeded', 'a payment whose answer is lost is found again');
SELECT is((SELECT count(*) FROM billing.sandbox_state, jsonb_array_elements(state -> 'payments') AS p WHERE p ->> 'reference' = :'unheard'), 1::bigint, 'and was made once');
SELECT billing.sandbox_fail_next('refund.create', 'declined');
SELECT billing.create_refund(:'visa') AS refused \gset
CALL billing.run_worker();
SELECT is((SELECT status FROM billing.refunds WHERE id = :'refused'), 'failed', 'any request can be made to fail');
SELECT fails(format($$SELECT billing.sandbox_complete_checkout(%L)$$, :'visa'), 'JB005', 'unknown checkout session', NULL, 'a payment is no checkout session');
SELECT fails(format($$SELECT billing.sandbox_expire(%L)$$, :'visa'), 'JB008', 'nothing of it can expire|nothing to do', NULL, 'what is paid does not expire');
SELECT is((SELECT count(*) FROM billing.webhook_events WHERE state <> 'applied'), 0::bigint, 'every webhook was understood');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

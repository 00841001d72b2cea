-- Payments: from the call to the money, in the sandbox.
\ir helpers.psql
SELECT plan(152);

CREATE FUNCTION payment(id uuid) RETURNS billing.payment_intent_details
LANGUAGE sql
RETURN (SELECT d FROM billing.payment_intent_details AS d WHERE d.id = payment.id);

SELECT billing.create_customer('acme', 'pay@acme.example', currency => 'MXN') AS acme \gset
SELECT billing.create_customer('other', 'pay@other.example') AS other \gset
CALL billing.run_worker();

-- ---------------------------------------------------------------------------
-- A card, at once

BEGIN;
SELECT billing.create_payment_intent(:'acme', 2900, 'USD', payment_method => 'pm_card_visa', description => 'Ten lessons',
	receipt_email => 'receipts@acme.example', metadata => '{"order": 7}') AS card \gset
SELECT is((payment(:'card')).status, 'pending', 'a payment is pending until the provider says more');
SELECT is((payment(:'card')).pending, '{payment_intent.create}', 'and its request is on the way');
SELECT ok((SELECT arguments::text FROM billing.outbox WHERE object_id = :'card') !~ 'receipts@', 'nothing of a person is in the request''s arguments');
COMMIT;
CALL billing.run_worker();
SELECT is((payment(:'card')).status, 'succeeded', 'a card that works is charged');
SELECT is((payment(:'card')).status_simple, 'succeeded', 'in simple words, too');
SELECT is((payment(:'card')).amount_received, 2900::bigint, 'for the amount');
SELECT is((payment(:'card')).method, 'card', 'the method is what the provider tells');
SELECT isnt((payment(:'card')).provider_payment_id, NULL, 'the provider''s id is known');
SELECT isnt((payment(:'card')).provider_charge_id, NULL, 'and that of the charge');
SELECT ok((payment(:'card')).paid_at IS NOT NULL, 'and when it was paid');
SELECT is((payment(:'card')).receipt_email, 'receipts@acme.example', 'the address of the receipt is opened for those who may see it');
SELECT ok((SELECT receipt_email::text FROM billing.payment_intents WHERE id = :'card') !~ 'acme', 'and sealed in the table');
SELECT is(billing.await(:'card'), 'succeeded', 'await() tells its status');
SELECT results_eq(format($$SELECT type, before_state, after_state FROM billing.events WHERE id = %L ORDER BY seq$$, :'card'),
	$$VALUES ('payment_intent.created', NULL, 'pending'), ('payment_intent.succeeded', 'pending', 'succeeded')$$, 'each change of status is an event');
SELECT is(billing.client_config(:'card') ? 'client_secret', false, 'a payment that is over has no secret');

-- ---------------------------------------------------------------------------
-- What it is paid with

SELECT billing.attach_payment_method(:'acme', 'pm_card_mastercard') AS method \gset
SELECT billing.create_payment_intent(:'acme', 100, 'USD', payment_method => :'method') AS attached \gset
CALL billing.run_worker();
SELECT billing.create_payment_intent(:'acme', 100, 'USD', off_session => true) AS default_method \gset
SELECT billing.create_payment_intent(:'acme', 100, 'USD') AS browser \gset
CALL billing.run_worker();
SELECT is((payment(:'attached')).status, 'succeeded', 'an attached method is charged, even when it is attached in the same moment');
SELECT is((payment(:'attached')).payment_method_id, :'method'::uuid, 'the payment knows it');
SELECT is((payment(:'default_method')).payment_method_id, :'method'::uuid, 'off session the default method is charged');
SELECT is((payment(:'default_method')).status, 'succeeded', 'without the customer');
SELECT is((payment(:'browser')).status, 'pending', 'without a method nothing is charged');
SELECT isnt(billing.client_config(:'browser') ->> 'client_secret', NULL, 'the browser gets a secret to pay with');
SELECT is(billing.client_config(:'browser') ->> 'status', 'pending', 'and the status');
SELECT billing.confirm_payment_intent(:'browser', 'pm_card_visa');
CALL billing.run_worker();
SELECT is((payment(:'browser')).status, 'succeeded', 'a pending payment can be confirmed with a method');
SELECT fails(format($$SELECT billing.confirm_payment_intent(%L, 'pm_card_visa')$$, :'browser'), 'JB008', 'is succeeded and cannot be confirmed', NULL, 'but not twice');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, 'USD', off_session => true)$$, :'other'), '23502', 'no default', 'attach_payment_method', 'off session without a default method is refused');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, 'USD', confirm => true)$$, :'other'), '23502', 'payment_method must be given', 'client_config', 'and confirming nothing');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, 'USD', payment_method => %L)$$, :'other', :'method'), 'JB005', 'unknown payment method', 'list_payment_methods', 'the method of another customer is not known');
SELECT billing.detach_payment_method(:'method');
CALL billing.run_worker();
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, 'USD', payment_method => %L)$$, :'acme', :'method'), 'JB008', 'is detached', NULL, 'a detached method cannot be charged');

-- ---------------------------------------------------------------------------
-- Declines, 3-D Secure and trying again

SELECT billing.create_payment_intent(:'acme', 5000, payment_method => 'pm_card_chargeDeclined') AS declined \gset
SELECT billing.create_payment_intent(:'acme', 5000, payment_method => 'pm_card_authenticationRequired') AS secure \gset
CALL billing.run_worker();
SELECT is((payment(:'declined')).currency, 'MXN', 'the customer''s currency is the default');
SELECT is((payment(:'declined')).status, 'failed', 'a declined payment has failed');
SELECT is((payment(:'declined')).error_code, 'card_declined', 'with the provider''s code');
SELECT is((payment(:'declined')).decline_code, 'generic_decline', 'and the bank''s');
SELECT is((SELECT count(*) FROM billing.attention WHERE object_id = :'declined'), 0::bigint, 'which is nothing that a person has to look at');
SELECT is((payment(:'secure')).status, 'requires_action', 'a card with 3-D Secure waits for the customer');
SELECT is((payment(:'secure')).status_simple, 'pending', 'in simple words it is pending');
SELECT is((payment(:'secure')).action_type, 'redirect', 'who has to go');
SELECT isnt((payment(:'secure')).action_url, NULL, 'to this address');
SELECT is(billing.client_config(:'secure') -> 'next_action' ->> 'type', 'redirect', 'which the browser is told');
SELECT ok((SELECT next_action::text FROM billing.payment_intents WHERE id = :'secure') !~ 'sandbox', 'and which is sealed in the table');
SELECT billing.sandbox_authenticate(:'secure', true);
CALL billing.run_worker();
SELECT is((payment(:'secure')).status, 'succeeded', 'authenticated it is paid');
SELECT is((payment(:'secure')).action_type, NULL, 'and nothing is left to do');
SELECT billing.confirm_payment_intent(:'declined', 'pm_card_visa');
CALL billing.run_worker();
SELECT is((payment(:'declined')).status, 'succeeded', 'a failed payment can be tried again with another card');
SELECT is((payment(:'declined')).error_code, NULL, 'and the error is forgotten');
SELECT is((SELECT cardinality(charges) FROM billing.payment_intents WHERE id = :'declined'), 2, 'both attempts are known');

-- ---------------------------------------------------------------------------
-- Authorise first

SELECT billing.create_payment_intent(:'acme', 9000, payment_method => 'pm_card_visa', capture_method => 'manual') AS hold \gset
SELECT billing.create_payment_intent(:'acme', 9000, payment_method => 'pm_card_visa', capture_method => 'manual') AS drop \gset
CALL billing.run_worker();
SELECT is((payment(:'hold')).status, 'requires_capture', 'with capture_method manual it is authorised');
SELECT is((payment(:'hold')).status_simple, 'processing', 'in simple words it is processing');
SELECT is((payment(:'hold')).amount_capturable, 9000::bigint, 'for the amount');
SELECT is((payment(:'hold')).amount_received, 0::bigint, 'and nothing has arrived');
SELECT fails(format($$SELECT billing.capture_payment_intent(%L, 9001)$$, :'hold'), '22023', 'what is authorised', NULL, 'no more than that can be taken');
SELECT fails(format($$SELECT billing.create_refund(%L)$$, :'hold'), 'JB008', 'is not paid', 'cancel_payment_intent', 'what is only authorised is not refunded');
BEGIN;
SELECT billing.capture_payment_intent(:'hold', 6000);
SELECT fails(format($$SELECT billing.capture_payment_intent(%L)$$, :'hold'), 'JB008', 'is being captured', NULL, 'nor is it taken twice');
COMMIT;
SELECT billing.cancel_payment_intent(:'drop', 'abandoned');
CALL billing.run_worker();
SELECT is((payment(:'hold')).status, 'succeeded', 'a part can be taken');
SELECT is((payment(:'hold')).amount_received, 6000::bigint, 'and only that arrives');
SELECT is((payment(:'drop')).status, 'canceled', 'or it is given up');
SELECT is((payment(:'drop')).amount_capturable, 0::bigint, 'and nothing is authorised any more');
SELECT lives_ok(format($$SELECT billing.cancel_payment_intent(%L)$$, :'drop'), 'giving up twice is harmless');
SELECT fails(format($$SELECT billing.cancel_payment_intent(%L)$$, :'hold'), 'JB008', 'is paid', 'create_refund', 'what is paid is refunded instead');
SELECT fails(format($$SELECT billing.capture_payment_intent(%L)$$, :'card'), 'JB008', 'nothing to capture', 'manual', 'what was taken at once has nothing to capture');
BEGIN;
SELECT billing.create_payment_intent(:'acme', 10000, payment_method => 'pm_card_visa') AS unsent \gset
SELECT billing.cancel_payment_intent(:'unsent');
COMMIT;
CALL billing.run_worker();
SELECT is((payment(:'unsent')).status, 'canceled', 'what the provider has not heard of is canceled here');
SELECT is((payment(:'unsent')).provider_payment_id, NULL, 'and it never hears of it');

-- ---------------------------------------------------------------------------
-- References

SELECT billing.create_payment_intent(:'acme', 30000, method => 'oxxo') AS oxxo \gset
SELECT billing.create_payment_intent(:'acme', 30000, method => 'spei') AS spei \gset
SELECT billing.create_payment_intent(:'acme', 30000, method => 'oxxo', metadata => '{"sandbox": "expire"}') AS expires \gset
CALL billing.run_worker();
SELECT is((payment(:'oxxo')).status, 'requires_action', 'a reference waits for the customer');
SELECT matches((payment(:'oxxo')).reference, '^[0-9]{14}$', 'who pays to it');
SELECT isnt((payment(:'oxxo')).barcode_url, NULL, 'by a barcode');
SELECT ok((payment(:'oxxo')).action_expires_at > now(), 'until it expires');
SELECT matches((payment(:'spei')).clabe, '^[0-9]{18}$', 'a transfer goes to a CLABE');
SELECT is((payment(:'spei')).action_type, 'spei', 'by SPEI');
SELECT reference AS reference FROM billing.payment_intent_details WHERE id = :'oxxo' \gset
SELECT clabe AS clabe FROM billing.payment_intent_details WHERE id = :'spei' \gset
SELECT billing.sandbox_pay_reference(:'reference', 30000);
CALL billing.run_worker();
SELECT is((payment(:'oxxo')).status, 'succeeded', 'money that was paid at the counter arrives');
SELECT billing.cancel_payment_intent(:'spei');
CALL billing.run_worker();
SELECT is((payment(:'spei')).status, 'canceled', 'a transfer can be given up');
SELECT billing.sandbox_pay_reference(:'clabe', 30000);
CALL billing.run_worker();
SELECT is((payment(:'spei')).status, 'succeeded', 'and is booked all the same when it comes late');
SELECT is((payment(:'spei')).amount_received, 30000::bigint, 'with its amount');
SELECT is((SELECT before_state FROM billing.events WHERE id = :'spei' AND type = 'payment_intent.succeeded'), 'canceled', 'as an event that says so');
CALL billing.advance_clock('acme', '30 days');
SELECT is((payment(:'expires')).status, 'canceled', 'a reference that nobody pays to expires');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 30000, method => 'oxxo', expires_at => billing.now('acme') - interval '1 day')$$, :'acme'), '22023', 'not a time to come', NULL, 'an end that is past is refused');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 30000, method => 'oxxo', capture_method => 'manual')$$, :'acme'), '22023', 'cannot be authorised first', NULL, 'a reference cannot be authorised');

-- ---------------------------------------------------------------------------
-- Debits that take days

SELECT billing.create_payment_intent(:'other', 5000, 'USD', payment_method => 'pm_usBankAccount_success') AS ach \gset
SELECT billing.create_payment_intent(:'other', 5000, 'EUR', payment_method => 'pm_failed_de') AS sepa \gset
CALL billing.run_worker();
SELECT is((payment(:'ach')).status, 'processing', 'a bank debit is processing');
CALL billing.advance_clock('other', '6 days');
SELECT is((payment(:'ach')).status, 'succeeded', 'until it settles');
SELECT is((payment(:'sepa')).status, 'failed', 'or bounces');

-- ---------------------------------------------------------------------------
-- Instalments

SELECT billing.create_payment_intent(:'acme', 60000, payment_method => 'pm_card_visa', installments => 6) AS msi \gset
SELECT billing.create_payment_intent(:'acme', 60000, payment_method => 'tok_test_msi_error', installments => 3) AS msi_error \gset
CALL billing.run_worker();
SELECT is((payment(:'msi')).installments, 6, 'instalments are one payment');
SELECT is((payment(:'msi')).amount_received, 60000::bigint, 'that arrives at once');
SELECT is((payment(:'msi_error')).status, 'failed', 'a bank may refuse them');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 59999, payment_method => 'pm_card_visa', installments => 6)$$, :'acme'), '22023', 'does not split 59999 MXN into 6', '3 months', 'there is a smallest amount for each term');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 60000, payment_method => 'pm_card_visa', installments => 4)$$, :'acme'), '22023', 'into 4 instalments', '3, 6 months', 'only the terms of the table are offered');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 60000, 'USD', payment_method => 'pm_card_visa', installments => 3)$$, :'acme'), '22023', 'USD into 3', 'none', 'in the currencies of the table');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 60000, method => 'oxxo', installments => 3)$$, :'acme'), '22023', 'has no instalments', 'cards', 'only cards have them');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 60000, payment_method => 'pm_card_visa', off_session => true, installments => 3)$$, :'acme'), '22023', 'customer to be there', NULL, 'and the customer has to be there');
UPDATE billing.installment_terms SET min_amount = 10000 WHERE provider = 'sandbox' AND term = 3;
SELECT lives_ok(format($$SELECT billing.create_payment_intent(%L, 10000, payment_method => 'pm_card_visa', installments => 3)$$, :'acme'), 'the table can be changed');
SELECT is((SELECT builtin FROM billing.installment_terms WHERE provider = 'sandbox' AND term = 3), false, 'and is then an administrator''s');
SELECT fails($$DELETE FROM billing.installment_terms$$, 'JB008', 'cannot be deleted', NULL, 'its rows stay');

-- ---------------------------------------------------------------------------
-- Lines and amounts

SELECT billing.create_payment_intent(:'acme', 11600, payment_method => 'pm_card_visa',
	line_items => '[{"name": "Chair", "amount": 5000, "quantity": 2}]', tax_lines => '[{"description": "IVA", "amount": 1600}]') AS lines \gset
CALL billing.run_worker();
SELECT is((payment(:'lines')).status, 'succeeded', 'lines that add up to the amount are taken');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, line_items => '[{"name": "Chair", "amount": 99}]')$$, :'acme'), '22023', 'do not add up', NULL, 'others are refused');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, line_items => '[{"name": "Chair", "amount": 9223372036854775807, "quantity": 2}]')$$, :'acme'), '22003', 'out of range', NULL, 'also those that no number holds');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, line_items => '[{"amount": 100}]')$$, :'acme'), '22023', 'has no name', 'name, amount', 'a line has a name');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, line_items => '{}')$$, :'acme'), '22023', 'not an array', NULL, 'lines are an array');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, line_items => '[{"name": "Chair", "amount": 100, "quantity": 0}]')$$, :'acme'), '22023', 'quantity', NULL, 'a quantity is at least 1');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, line_items => '[{"price": "00000000-0000-7000-8000-000000000000"}]')$$, :'acme'), 'JB005', 'unknown price', NULL, 'an unknown price is refused');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 0)$$, :'acme'), '22023', 'amount must be positive', 'create_setup_intent', 'nothing is no payment');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, -5)$$, :'acme'), '22023', 'amount must be positive', 'create_refund', 'nor is less than nothing');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, 'XXX')$$, :'acme'), '22023', 'unknown currency', NULL, 'a currency is known');
INSERT INTO billing.provider_currencies (provider, currency, wire_exponent, min_amount, max_amount) VALUES ('sandbox', 'SEK', 2, 300, 100000);
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 299, 'SEK')$$, :'acme'), '22023', 'cannot take an amount of 299', 'nearest amount is 300', 'less than the provider''s minimum is refused, and the minimum is told');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100001, 'SEK')$$, :'acme'), '22023', 'cannot take an amount of 100001', 'nearest amount is 100000', 'and more than its maximum');
SELECT lives_ok(format($$SELECT billing.create_payment_intent(%L, 300, 'SEK')$$, :'acme'), 'the minimum itself is taken');

-- ---------------------------------------------------------------------------
-- One attempt for an invoice

SELECT billing.subscribe('other', 'pro', trial_days => 1, trial_end_behavior => 'create_invoice') AS sub \gset
CALL billing.run_worker();
CALL billing.advance_clock('other', '2 days');
SELECT id AS invoice FROM billing.invoices WHERE subscription_id = :'sub' AND status = 'open' \gset
BEGIN;
SELECT billing.create_payment_intent(:'other', 2900, 'USD', payment_method => 'pm_usBankAccount_processing', invoice_id => :'invoice') AS first \gset
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 2900, 'USD', payment_method => 'pm_card_visa', invoice_id => %L)$$, :'other', :'invoice'), 'JB010', 'is being paid already', 'await', 'an attempt on its way is the only one');
COMMIT;
CALL billing.run_worker();
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 2900, 'USD', payment_method => 'pm_card_visa', invoice_id => %L)$$, :'other', :'invoice'), 'JB010', 'is being paid already', NULL, 'also while it is processing');
SELECT billing.sandbox_settle(:'first', 'failed');
CALL billing.run_worker();
BEGIN;
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 2900, 'EUR', invoice_id => %L)$$, :'other', :'invoice'), '22023', 'is in USD', NULL, 'an invoice is paid in its currency');
SELECT lives_ok(format($$SELECT billing.create_payment_intent(%L, 2900, 'USD', payment_method => 'pm_card_visa', invoice_id => %L)$$, :'other', :'invoice'), 'after it has failed there may be another');
SELECT fails(format($$SELECT billing.confirm_payment_intent(%L, 'pm_card_visa')$$, :'first'), 'JB010', 'is being paid already', NULL, 'but the old one is not tried again beside it');
COMMIT;
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 2900, 'USD', invoice_id => %L)$$, :'acme', :'invoice'), 'JB005', 'unknown invoice', NULL, 'the invoice of another customer is not known');

-- ---------------------------------------------------------------------------
-- The same call twice

SELECT billing.create_payment_intent(:'acme', 700, payment_method => 'pm_card_visa', idempotency_key => 'order-7') AS once \gset
SELECT is(billing.create_payment_intent(:'acme', 700, payment_method => 'pm_card_visa', idempotency_key => 'order-7'), :'once'::uuid, 'the same key is the same payment');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 701, payment_method => 'pm_card_visa', idempotency_key => 'order-7')$$, :'acme'), 'JB007', 'another amount', NULL, 'with other arguments it is refused');
SELECT billing.sandbox_fail_next('payment_intent.create', 'timeout_after_success', 1);
SELECT billing.create_payment_intent(:'acme', 800, payment_method => 'pm_card_visa') AS lost \gset
CALL billing.run_worker();
SELECT is(billing.await(:'lost', '20 seconds'), 'succeeded', 'a lost answer is found again');
SELECT is((SELECT count(*) FROM billing.payment_intents WHERE amount = 800), 1::bigint, 'as one payment');

-- ---------------------------------------------------------------------------
-- What is refused before anything is written

SELECT count(*) AS before FROM billing.payment_intents \gset
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, payment_method => '4242 4242 4242 4242')$$, :'acme'), 'JB009', 'holds a card number', 'pm_card_visa', 'a card number is refused, and the token to use is named');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, line_items => '[{"name": "5555555555554444", "amount": 100}]')$$, :'acme'), 'JB009', 'line_items holds a card number', NULL, 'wherever it is');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, payment_method => 'pm_card_of_nobody')$$, :'acme'), 'JB005', 'unknown payment method "pm_card_of_nobody"', 'pm_card_visa', 'a token that the sandbox does not know is refused');
SELECT fails($$SELECT billing.create_payment_intent('00000000-0000-7000-8000-000000000000', 100)$$, 'JB005', 'unknown customer', NULL, 'an unknown customer is refused');
SELECT fails($$SELECT billing.create_payment_intent(NULL, 100)$$, '23502', 'customer_id must be given', NULL, 'a customer has to be named');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, NULL)$$, :'acme'), '23502', 'amount must be given', NULL, 'and an amount');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, method => 'Cash!')$$, :'acme'), '22023', 'unknown method', 'card', 'a method is a word');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, capture_method => 'later')$$, :'acme'), '22023', 'unknown capture_method', 'automatic, manual', 'words are listed');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, statement_descriptor_suffix => 'a suffix that is far too long')$$, :'acme'), '22023', 'statement', '22', 'a suffix has to fit on a statement');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, return_url => 'nowhere')$$, :'acme'), '22023', 'return_url is not a URL', NULL, 'return_url is a URL');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, mandate => '{"type": "online"}')$$, :'acme'), '23502', 'ip_address', NULL, 'an online mandate says from where');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, mandate => '{"type": "spoken"}')$$, :'acme'), '22023', 'type of mandate', 'online, offline', 'a mandate is given online or offline');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, account => 'second')$$, :'acme'), 'JB006', 'not configured', NULL, 'an account that there is not is refused');
SELECT is((SELECT count(*) FROM billing.payment_intents), :before::bigint, 'and nothing was written');
SELECT fails($$SELECT billing.cancel_payment_intent('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown payment intent', NULL, 'an unknown payment cannot be canceled');
SELECT fails(format($$SELECT billing.cancel_payment_intent(%L, 'tired')$$, :'card'), '22023', 'unknown reason', 'abandoned', 'nor for an unknown reason');
SELECT fails(format($$SELECT billing.verify_microdeposits(%L)$$, :'card'), '22023', 'amounts or descriptor_code', NULL, 'micro-deposits are two amounts or a code');
SELECT fails(format($$SELECT billing.verify_microdeposits(%L, ARRAY[32])$$, :'card'), '22023', 'two deposits', NULL, 'both of them');
SELECT fails(format($$SELECT billing.verify_microdeposits(%L, ARRAY[32, 45])$$, :'card'), 'JB008', 'does not wait', NULL, 'for a payment that waits for them');
SELECT fails(format($$DELETE FROM billing.payment_intents WHERE id = %L$$, :'card'), 'JB008', 'cannot be deleted', 'cancel_payment_intent', 'payments are kept');

-- ---------------------------------------------------------------------------
-- Asking anew

SELECT billing.refresh(:'card');
CALL billing.run_worker();
SELECT is((SELECT state FROM billing.outbox_finished WHERE object_id = :'card' AND operation = 'payment_intent.fetch'), 'done', 'the provider can be asked anew');
SELECT is((payment(:'card')).status, 'succeeded', 'and says the same');
SELECT billing.refresh(:'other');
CALL billing.run_worker();
SELECT is((SELECT state FROM billing.outbox_finished WHERE object_id = :'other' AND operation = 'customer.fetch'), 'done', 'also about a customer');
SELECT is((SELECT email FROM billing.get_customer(:'other')), 'pay@other.example', 'who is as he was');
SELECT fails($$SELECT billing.refresh('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown object', NULL, 'about what there is');

-- ---------------------------------------------------------------------------
-- Setup intents

SELECT billing.create_setup_intent(:'acme', 'pm_card_visa') AS setup \gset
SELECT billing.create_setup_intent(:'acme', 'pm_card_authenticationRequiredOnSetup') AS secure_setup \gset
SELECT billing.create_setup_intent(:'acme') AS browser_setup \gset
CALL billing.run_worker();
SELECT is((SELECT status FROM billing.get_setup_intent(:'setup')), 'succeeded', 'a card is saved with the customer''s consent');
SELECT isnt((SELECT payment_method_id FROM billing.get_setup_intent(:'setup')), NULL, 'as a payment method');
SELECT is((SELECT status FROM billing.get_setup_intent(:'secure_setup')), 'requires_action', '3-D Secure may be asked for');
SELECT is((SELECT action_type FROM billing.get_setup_intent(:'secure_setup')), 'redirect', 'on a page');
SELECT billing.sandbox_authenticate(:'secure_setup', true);
CALL billing.run_worker();
SELECT is(billing.await(:'secure_setup'), 'succeeded', 'once');
SELECT is((SELECT status FROM billing.get_setup_intent(:'browser_setup')), 'pending', 'without a method the browser gives it');
SELECT isnt(billing.client_config(:'browser_setup') ->> 'client_secret', NULL, 'with a secret');
SELECT billing.cancel_setup_intent(:'browser_setup');
CALL billing.run_worker();
SELECT is((SELECT status FROM billing.get_setup_intent(:'browser_setup')), 'canceled', 'it can be given up');
SELECT is(billing.client_config(:'browser_setup') ? 'client_secret', false, 'and the secret is gone');
SELECT fails(format($$SELECT billing.cancel_setup_intent(%L)$$, :'setup'), 'JB008', 'has succeeded', 'detach_payment_method', 'what has succeeded is detached instead');
SELECT fails(format($$SELECT billing.create_setup_intent(%L, '4242424242424242')$$, :'acme'), 'JB009', 'holds a card number', NULL, 'a card number is refused');
SELECT is((SELECT count(*) FROM billing.list_setup_intents('acme')), 3::bigint, 'an organisation''s setup intents are listed');
SELECT fails($$SELECT billing.client_config('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown object', 'payment intent', 'what there is not has nothing for a browser');

SELECT is((SELECT count(*) FROM billing.webhook_events WHERE state IN ('failed', 'waiting')), 0::bigint, 'every webhook of all this was applied');
SELECT is((SELECT count(*) FROM billing.outbox), 0::bigint, 'and every request is done');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

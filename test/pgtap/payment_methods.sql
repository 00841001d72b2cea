-- Payment methods in the sandbox: every token, attached and charged.
\ir helpers.psql

-- What a token does: when it is attached, and to the first payment of a
-- subscription (NULL: it was not attached, so there is none).
CREATE TABLE tokens (token text, attached text, error_code text, type text, charged text);
INSERT INTO tokens VALUES
	('pm_card_visa', 'attached', NULL, 'card', 'active'),
	('pm_card_mastercard', 'attached', NULL, 'card', 'active'),
	('pm_card_amex', 'attached', NULL, 'card', 'active'),
	('tok_test_visa_4242', 'attached', NULL, 'card', 'active'),
	('tok_test_mastercard_4444', 'attached', NULL, 'card', 'active'),
	('tok_test_amex_0005', 'attached', NULL, 'card', 'active'),
	('pm_card_chargeDeclined', 'failed', 'card_declined', NULL, NULL),
	('pm_card_visa_chargeDeclined', 'failed', 'card_declined', NULL, NULL),
	('tok_test_card_declined', 'failed', 'card_declined', NULL, NULL),
	('pm_card_visa_chargeDeclinedInsufficientFunds', 'failed', 'insufficient_funds', NULL, NULL),
	('tok_test_insufficient_funds', 'failed', 'insufficient_funds', NULL, NULL),
	('pm_card_visa_chargeDeclinedLostCard', 'failed', 'lost_card', NULL, NULL),
	('pm_card_visa_chargeDeclinedStolenCard', 'failed', 'stolen_card', NULL, NULL),
	('pm_card_chargeDeclinedExpiredCard', 'failed', 'expired_card', NULL, NULL),
	('pm_card_chargeDeclinedIncorrectCvc', 'failed', 'incorrect_cvc', NULL, NULL),
	('pm_card_chargeDeclinedProcessingError', 'failed', 'processing_error', NULL, NULL),
	('pm_card_chargeCustomerFail', 'attached', NULL, 'card', 'incomplete'),
	('pm_card_authenticationRequired', 'attached', NULL, 'card', 'incomplete'),
	('pm_card_authenticationRequiredOnSetup', 'attached', NULL, 'card', 'incomplete'),
	('pm_card_createDispute', 'attached', NULL, 'card', 'active'),
	('pm_card_createDisputeInquiry', 'attached', NULL, 'card', 'active'),
	('pm_card_pendingRefund', 'attached', NULL, 'card', 'active'),
	('pm_card_refundFail', 'attached', NULL, 'card', 'active'),
	('tok_test_msi_error', 'attached', NULL, 'card', 'active'),
	('pm_usBankAccount_success', 'attached', NULL, 'us_bank_account', 'incomplete'),
	('pm_usBankAccount_insufficientFunds', 'attached', NULL, 'us_bank_account', 'incomplete'),
	('pm_usBankAccount_accountClosed', 'attached', NULL, 'us_bank_account', 'incomplete'),
	('pm_usBankAccount_dispute', 'attached', NULL, 'us_bank_account', 'incomplete'),
	('pm_usBankAccount_processing', 'attached', NULL, 'us_bank_account', 'incomplete'),
	('pm_success_de', 'attached', NULL, 'sepa_debit', 'incomplete'),
	('pm_failed_de', 'attached', NULL, 'sepa_debit', 'incomplete'),
	('pm_disputed_de', 'attached', NULL, 'sepa_debit', 'incomplete');

SELECT plan(((SELECT count(*) FROM tokens) * 2 + 50)::integer);

SELECT count(billing.create_customer(token)) AS customers FROM tokens \gset
SELECT count(billing.subscribe(token, 'pro', token)) AS subscriptions FROM tokens \gset
CALL billing.run_worker();

SELECT results_eq(
	format($$SELECT m.state, m.error_code, m.type FROM billing.payment_methods AS m JOIN billing.customers AS c ON c.id = m.customer_id WHERE c.organization_id = %L$$, token),
	format($$VALUES (%L, %L, %L)$$, attached, error_code, type),
	format('%s %s', token, CASE attached WHEN 'attached' THEN 'attaches' ELSE 'is refused with ' || error_code END))
FROM tokens;
SELECT is((SELECT s.status || ' ' || coalesce(s.error_code, '') FROM billing.subscriptions AS s WHERE s.organization_id = token),
	coalesce(charged, 'incomplete') || ' ' || CASE WHEN attached = 'failed' THEN 'payment_method_refused' WHEN token = 'pm_card_chargeCustomerFail' THEN 'generic_decline' ELSE '' END,
	format('a subscription paid by %s is %s', token, coalesce(charged, 'incomplete and says why')))
FROM tokens;

-- ---------------------------------------------------------------------------
-- What takes its time

CALL billing.advance_clock('pm_usBankAccount_success', '3 days 23 hours');
SELECT is(status_of('pm_usBankAccount_success'), 'incomplete', 'a bank debit of the USA is not settled after 3 days and 23 hours');
CALL billing.advance_clock('pm_usBankAccount_success', '1 hour 1 second');
SELECT is(status_of('pm_usBankAccount_success'), 'active', 'it is after 4 days');
CALL billing.advance_clock('pm_usBankAccount_insufficientFunds', '4 days 1 second');
SELECT is(status_of('pm_usBankAccount_insufficientFunds'), 'incomplete', 'one without funds fails after 4 days');
SELECT is((SELECT i.status FROM billing.invoices AS i WHERE i.organization_id = 'pm_usBankAccount_insufficientFunds'), 'open', 'and its invoice stays open');
CALL billing.advance_clock('pm_usBankAccount_insufficientFunds', '23 hours');
SELECT is(status_of('pm_usBankAccount_insufficientFunds'), 'incomplete_expired', 'it expires 23 hours after that');
CALL billing.advance_clock('pm_usBankAccount_accountClosed', '5 days');
SELECT is(status_of('pm_usBankAccount_accountClosed'), 'incomplete_expired', 'one on a closed account fails, too');
CALL billing.advance_clock('pm_usBankAccount_processing', '60 days');
SELECT is(status_of('pm_usBankAccount_processing'), 'incomplete', 'one that stays in processing stays in processing');
SELECT billing.sandbox_settle(subscription_of('pm_usBankAccount_processing'));
CALL billing.run_worker();
SELECT is(status_of('pm_usBankAccount_processing'), 'active', 'until it is settled by hand');
CALL billing.advance_clock('pm_success_de', '4 days 23 hours');
SELECT is(status_of('pm_success_de'), 'incomplete', 'a SEPA debit is not settled after 4 days and 23 hours');
CALL billing.advance_clock('pm_success_de', '1 hour 1 second');
SELECT is(status_of('pm_success_de'), 'active', 'it is after 5 days');
CALL billing.advance_clock('pm_failed_de', '5 days 1 second');
SELECT is((SELECT i.status FROM billing.invoices AS i WHERE i.organization_id = 'pm_failed_de'), 'open', 'one that fails leaves its invoice open');
CALL billing.advance_clock('pm_card_chargeCustomerFail', '23 hours 1 second');
SELECT is(status_of('pm_card_chargeCustomerFail'), 'incomplete_expired', 'a first payment that is declined expires after 23 hours');

-- ---------------------------------------------------------------------------
-- 3-D Secure

SELECT billing.sandbox_authenticate(subscription_of('pm_card_authenticationRequired'));
CALL billing.run_worker();
SELECT is(status_of('pm_card_authenticationRequired'), 'active', 'with authentication the first payment goes through');
CALL billing.advance_clock('pm_card_authenticationRequired', '1 month 1 hour');
SELECT is(status_of('pm_card_authenticationRequired'), 'past_due', 'the renewal off session fails');
SELECT billing.sandbox_authenticate(subscription_of('pm_card_authenticationRequiredOnSetup'));
CALL billing.run_worker();
CALL billing.advance_clock('pm_card_authenticationRequiredOnSetup', '1 month 1 hour');
SELECT is(status_of('pm_card_authenticationRequiredOnSetup'), 'active', 'where it was done at setup the renewal succeeds');

-- ---------------------------------------------------------------------------
-- Default, listing, detaching

SELECT billing.create_customer('acme') AS acme \gset
BEGIN;
SELECT billing.attach_payment_method(:'acme', 'pm_card_visa') AS visa \gset
SELECT is((SELECT state FROM billing.payment_methods WHERE id = :'visa'), 'pending', 'a method is pending until the provider took it');
SELECT is(billing.attach_payment_method(:'acme', 'pm_card_visa'), :'visa', 'the same token twice is one method');
COMMIT;
SELECT billing.attach_payment_method(:'acme', 'pm_card_mastercard') AS mastercard \gset
SELECT billing.attach_payment_method(:'acme', 'pm_card_chargeDeclined') AS declined \gset
CALL billing.run_worker();
SELECT results_eq(format($$SELECT brand, last4, is_default, state FROM billing.list_payment_methods(%L)$$, :'acme'),
	$$VALUES ('visa', '4242', true, 'attached'), ('mastercard', '4444', false, 'attached'), (NULL, NULL, false, 'failed')$$,
	'the first one is the default; brand and last digits come from the provider');
SELECT is((SELECT count(*) FROM billing.payment_methods WHERE token IS NOT NULL), 0::bigint, 'tokens are gone once they were used');
SELECT billing.set_default_payment_method(:'mastercard');
CALL billing.run_worker();
SELECT results_eq(format($$SELECT brand FROM billing.list_payment_methods(%L) WHERE is_default$$, :'acme'), $$VALUES ('mastercard')$$, 'another one can be the default');
SELECT billing.attach_payment_method(:'acme', 'pm_card_amex', set_default => true) AS amex \gset
CALL billing.run_worker();
SELECT results_eq(format($$SELECT brand FROM billing.list_payment_methods(%L) WHERE is_default$$, :'acme'), $$VALUES ('amex')$$, 'set_default makes a new one the default');
SELECT billing.detach_payment_method(:'amex');
SELECT billing.detach_payment_method(:'amex');
CALL billing.run_worker();
SELECT is((SELECT state FROM billing.payment_methods WHERE id = :'amex'), 'detached', 'a method can be detached');
SELECT is((SELECT count(*) FROM billing.outbox_finished WHERE object_id = :'amex' AND operation = 'payment_method.detach'), 1::bigint, 'twice is once');
SELECT results_eq(format($$SELECT brand, is_default FROM billing.list_payment_methods(%L) WHERE state = 'attached'$$, :'acme'), $$VALUES ('visa', false), ('mastercard', false)$$, 'it is not listed, and no other one is the default now');
SELECT fails(format($$SELECT billing.set_default_payment_method(%L)$$, :'amex'), 'JB008', 'is detached', 'attach_payment_method', 'a detached method cannot be the default');
SELECT fails(format($$SELECT billing.set_default_payment_method(%L)$$, :'declined'), 'JB008', 'is failed', NULL, 'nor can one that was refused');
SELECT fails($$SELECT billing.detach_payment_method('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown payment method', NULL, 'an unknown method is refused');
SELECT fails($$SELECT billing.attach_payment_method('00000000-0000-7000-8000-000000000000', 'pm_card_visa')$$, 'JB005', 'unknown customer', NULL, 'so is an unknown customer');
SELECT fails(format($$SELECT billing.attach_payment_method(%L, 'pm_of_nobody')$$, :'acme'), 'JB005', 'pm_of_nobody', 'pm_card_visa, .*pm_disputed_de', 'an unknown token is refused with the list of all');
SELECT fails(format($$SELECT billing.attach_payment_method(%L, '')$$, :'acme'), '23502', 'payment_method must be given', NULL, 'an empty token is none');
SELECT billing.attach_payment_method(:'acme', 'pm_success_de', idempotency_key => 'k') AS keyed \gset
SELECT is(billing.attach_payment_method(:'acme', 'pm_success_de', idempotency_key => 'k'), :'keyed', 'the same key gives the same method');
SELECT fails(format($$SELECT billing.attach_payment_method(%L, 'pm_card_visa', idempotency_key => 'k')$$, :'acme'), 'JB007', 'another payment_method', NULL, 'the key with another token is refused');

-- ---------------------------------------------------------------------------
-- Types, mandates, references to be paid to

SELECT fails(format($$SELECT billing.attach_payment_method(%L)$$, :'acme'), '23502', 'payment_method must be given', NULL, 'a card has a token');
SELECT fails(format($$SELECT billing.attach_payment_method(%L, 'pm_card_visa', type => 'cash_recurrent')$$, :'acme'), '22023', 'has no token', 'makes the reference', 'a reference has none');
SELECT fails(format($$SELECT billing.attach_payment_method(%L, 'pm_card_visa', type => 'cheque')$$, :'acme'), '22023', 'unknown type "cheque"', 'sepa_debit, cash_recurrent', 'an unknown type is refused, and those that there are are listed');
SELECT fails(format($$SELECT billing.attach_payment_method(%L, 'pm_card_visa', expires_at => now() + interval '1 day')$$, :'acme'), '22023', 'expires_at', 'cash_recurrent', 'a card has its own end');
SELECT fails(format($$SELECT billing.attach_payment_method(%L, 'pm_success_de', mandate => '[]')$$, :'acme'), '22023', 'mandate is not an object', 'online', 'a mandate is an object');
SELECT fails(format($$SELECT billing.attach_payment_method(%L, 'pm_success_de', mandate => '{"type": "oral"}')$$, :'acme'), '22023', 'type of mandate', 'online, offline', 'given online or offline');
SELECT fails(format($$SELECT billing.attach_payment_method(%L, 'pm_success_de', mandate => '{"type": "online", "user_agent": "4242 4242 4242 4242"}')$$, :'acme'), 'JB009', 'mandate holds a card number', NULL, 'and without a card number');
BEGIN;
SELECT billing.attach_payment_method(:'acme', 'pm_failed_de', 'sepa_debit', mandate => '{"type": "online", "ip_address": "203.0.113.7", "user_agent": "Mozilla/5.0"}') AS debit \gset
SELECT is((SELECT billing.decrypt(mandate, 'payment_methods.mandate', id)::jsonb ->> 'ip_address' FROM billing.payment_methods WHERE id = :'debit'), '203.0.113.7', 'who gave a mandate is kept sealed');
SELECT is((SELECT arguments FROM billing.outbox WHERE object_id = :'debit'), '{"payment_method": "pm_failed_de", "type": "sepa_debit", "set_default": false}', 'and not in the request');
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT state || ' ' || (mandate IS NULL) FROM billing.payment_methods WHERE id = :'debit'), 'attached true', 'until it is attached');
SELECT billing.attach_payment_method(:'acme', type => 'spei_recurrent') AS reference \gset
CALL billing.run_worker();
SELECT results_eq(format($$SELECT type, state, reference IS NOT NULL FROM billing.list_payment_methods(%L) WHERE id = %L$$, :'acme', :'reference'), $$VALUES ('spei_recurrent', 'attached', true)$$, 'a reference is made by the provider');
SELECT is((SELECT pg_typeof(reference)::text FROM billing.payment_methods WHERE id = :'reference'), 'bytea', 'and kept sealed');

-- ---------------------------------------------------------------------------
-- What the provider lists

INSERT INTO billing.payment_methods (customer_id, provider, account, livemode, state) VALUES (:'acme', 'sandbox', 'default', false, 'attached') RETURNING id AS gone \gset
DELETE FROM billing.provider_refs WHERE object_id = :'mastercard';
DELETE FROM billing.payment_methods WHERE id = :'mastercard';
SELECT billing.refresh_payment_methods(:'acme');
SELECT billing.refresh_payment_methods(:'acme');
SELECT is((SELECT count(*) FROM billing.outbox WHERE operation = 'payment_method.list' AND attempts = 0) <= 1, true, 'one list is enough');
CALL billing.run_worker();
SELECT is((SELECT state FROM billing.payment_methods WHERE id = :'gone'), 'detached', 'what the provider does not list is detached');
SELECT is((SELECT count(*) FROM billing.list_payment_methods(:'acme') WHERE brand = 'mastercard' AND state = 'attached' AND id <> :'mastercard'), 1::bigint, 'what it lists and nobody knew is taken over');
SELECT is((SELECT state FROM billing.payment_methods WHERE id = :'visa'), 'attached', 'the others stay');
SELECT is((SELECT count(*) FROM billing.outbox WHERE object_id = :'acme'), 0::bigint, 'the list leaves no request behind');
SELECT fails($$SELECT billing.refresh_payment_methods('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown customer', NULL, 'an unknown customer has none');

SELECT * FROM finish();

-- What follows when our own invoice is not paid: the plan, its end, and what stops it.
\ir helpers.psql
\ir billing_helpers.psql
SELECT plan(77);

SELECT count(billing.create_customer(o)) AS customers
FROM string_to_table('good secure bank closed none end sent quiet fixed asked many given fly land spare crash still', ' ') AS o \gset
SELECT billing.create_plan('collected', 'Collected', 1000, "interval" => 'year') AS plan \gset
CREATE FUNCTION give(organization text, token text) RETURNS uuid
LANGUAGE sql
RETURN billing.attach_payment_method(billing.find_customer(organization), token, set_default => true);
SELECT give('good', 'pm_card_visa'), give('fixed', 'pm_card_chargeCustomerFail'),
	   give('end', 'pm_card_chargeCustomerFail'), give('secure', 'pm_card_authenticationRequired'), give('asked', 'pm_card_chargeCustomerFail'),
	   give('bank', 'pm_usBankAccount_insufficientFunds'), give('closed', 'pm_usBankAccount_accountClosed'), give('quiet', 'pm_card_chargeCustomerFail') \gset
CALL billing.run_worker();

-- ---------------------------------------------------------------------------
-- A card that pays, and one that does not

SELECT bill('good', 1000, subscription => sell('good')) AS good, bill('fixed', 1000, subscription => sell('fixed')) AS fixed \gset
CALL billing.set_clock('good', now());
CALL billing.set_clock('fixed', now());
CALL billing.run_worker();
SELECT is(invoice(:'good'), 'paid 1000 0', 'the default method is charged');
SELECT is(attempts(:'good'), 'issue succeeded @0', 'at once');
SELECT is(happened(:'good'), 'invoice.paid', 'and the application is told');
SELECT is(invoice(:'fixed'), 'open 0 1000 generic_decline', 'one that is declined stays open');
SELECT is(attempts(:'fixed'), 'issue failed generic_decline @0, schedule planned @3, schedule planned @5, schedule planned @7', 'and the next attempts stand there');
SELECT is((SELECT attempt_count || ' ' || round(extract(epoch FROM next_attempt_at - issued_at) / 86400) FROM billing.invoices WHERE id = :'fixed'), '1 3', 'when the next one is, too');
CALL billing.advance_clock('fixed', '4 days');
SELECT is(attempts(:'fixed'), 'issue failed generic_decline @0, schedule failed generic_decline @3, schedule planned @5, schedule planned @7', 'each at its time');
SELECT is(charged(:'fixed'), 'failed 1000, failed 1000', 'with a payment of its own');
SELECT give('fixed', 'pm_card_visa') AS visa \gset
CALL billing.run_worker();
SELECT is(invoice(:'fixed'), 'paid 1000 0', 'a new default method is charged at once');
SELECT is(attempts(:'fixed'), 'issue failed generic_decline @0, schedule failed generic_decline @3, new_method succeeded @4, schedule canceled @5, schedule canceled @7', 'and the rest of the plan is off');
SELECT is((SELECT next_attempt_at FROM billing.invoices WHERE id = :'fixed'), NULL, 'nothing is due any more');

-- ---------------------------------------------------------------------------
-- The end

SELECT bill('end', 1000, subscription => sell('end')) AS ended \gset
CALL billing.set_clock('end', now());
CALL billing.advance_clock('end', '8 days');
SELECT is(attempts(:'ended'), 'issue failed generic_decline @0, schedule failed generic_decline @3, schedule failed generic_decline @5, schedule failed generic_decline @7', 'every attempt failed');
SELECT is(invoice(:'ended'), 'open 0 1000 generic_decline', 'unpaid leaves the invoice open');
SELECT is((SELECT what FROM billing.attention WHERE object_id = :'ended'), 'invoice is past due and nothing is planned', 'for a person to look at');
UPDATE billing.settings SET value = 'canceled' WHERE name = 'dunning_end';
UPDATE billing.settings SET value = '1' WHERE name = 'dunning_schedule';
SELECT bill('end', 2000, subscription => (SELECT id FROM billing.subscriptions WHERE organization_id = 'end')) AS second, bill('end', 3000) AS by_hand \gset
CALL billing.advance_clock('end', '2 days');
SELECT is(attempts(:'second'), 'issue failed generic_decline @0, schedule failed generic_decline @1', 'the plan is the setting''s');
SELECT is(invoice(:'second'), 'uncollectible 0 2000 generic_decline', 'canceled gives the invoice up');
SELECT is(invoice(:'by_hand'), 'open 0 3000 generic_decline', 'but not one without a subscription');
SELECT give('end', 'pm_card_visa') AS visa \gset
CALL billing.run_worker();
SELECT is(invoice(:'by_hand'), 'paid 3000 0', 'a new method is tried also after the end');
SELECT billing.pay_invoice(:'second');
CALL billing.run_worker();
SELECT is(invoice(:'second'), 'paid 2000 0', 'and what was given up can be paid');
UPDATE billing.settings SET value = 'unpaid' WHERE name = 'dunning_end';
UPDATE billing.settings SET value = '3 5 7' WHERE name = 'dunning_schedule';
SELECT throws_ok($$UPDATE billing.settings SET value = 'forever' WHERE name = 'dunning_end'$$, '23514', NULL, 'there are two ends');
SELECT throws_ok($$UPDATE billing.settings SET value = '3, 5' WHERE name = 'dunning_schedule'$$, '23514', NULL, 'a schedule is days with blanks between');
UPDATE billing.settings SET value = NULL WHERE name = 'dunning_schedule';
SELECT bill('quiet', 1000, subscription => sell('quiet')) AS quiet \gset
CALL billing.run_worker();
SELECT is(attempts(:'quiet'), 'issue failed generic_decline @0', 'without a schedule one attempt is made');
UPDATE billing.settings SET value = '3 5 7' WHERE name = 'dunning_schedule';

-- ---------------------------------------------------------------------------
-- What a decline means

SELECT bill('none', 1000, subscription => sell('none')) AS none, bill('secure', 1000, subscription => sell('secure')) AS secure \gset
CALL billing.set_clock('secure', now());
CALL billing.set_clock('none', now());
CALL billing.run_worker();
SELECT is(invoice(:'none'), 'open 0 1000 no_payment_method', 'where there is no method');
SELECT is(happened(:'none'), 'invoice.payment_failed invoice.payment_action_required', 'the customer is asked for one');
SELECT is(invoice(:'secure'), 'open 0 1000 authentication_required', 'who is not there cannot prove who he is');
SELECT is(happened(:'secure'), 'invoice.payment_failed invoice.payment_action_required', 'and has to come');
CALL billing.advance_clock('secure', '4 days');
SELECT is(attempts(:'secure'), 'issue failed authentication_required @0, schedule canceled stopped @3, schedule planned @5, schedule planned @7', 'nothing is tried without him');
SELECT billing.confirm_payment_intent((SELECT id FROM billing.payment_intents WHERE invoice_id = :'secure'), 'pm_card_visa', off_session => false);
CALL billing.run_worker();
SELECT is(invoice(:'secure'), 'paid 1000 0', 'he pays the payment that was made');
SELECT is(attempts(:'secure'), 'issue succeeded @0, schedule canceled stopped @3, schedule canceled @5, schedule canceled @7', 'late success after a failure is right');
CALL billing.advance_clock('none', '4 days');
SELECT is(attempts(:'none'), 'issue failed no_payment_method @0, schedule failed no_payment_method @3, schedule planned @5, schedule planned @7', 'a method is looked for again');
SELECT give('none', 'pm_card_visa') AS visa \gset
CALL billing.run_worker();
SELECT is(invoice(:'none'), 'paid 1000 0', 'and charged when there is one');

INSERT INTO billing.decline_rules (code, action) VALUES ('generic_decline', 'new_method');
SELECT bill('asked', 1000, subscription => sell('asked')) AS asked \gset
CALL billing.set_clock('asked', now());
CALL billing.advance_clock('asked', '4 days');
SELECT is(attempts(:'asked'), 'issue failed generic_decline @0, schedule canceled same_method @3, schedule planned @5, schedule planned @7', 'a rule of one''s own counts: not the same method');
UPDATE billing.decline_rules SET action = 'retry' WHERE code = 'generic_decline';

-- ---------------------------------------------------------------------------
-- Bank accounts: days until they say no, and not too often

SELECT bill('bank', 1000, subscription => sell('bank')) AS bank, bill('closed', 1000, subscription => sell('closed')) AS closed \gset
CALL billing.set_clock('bank', now());
CALL billing.set_clock('closed', now());
CALL billing.advance_clock('bank', '1 day');
SELECT is(attempts(:'bank'), 'issue running @0', 'a debit is under way');
SELECT fails(format($$SELECT billing.pay_invoice(%L)$$, :'bank'), 'JB010', 'is being paid already', NULL, 'so that nothing else is charged');
CALL billing.advance_clock('bank', '30 days');
SELECT is(attempts(:'bank'), 'issue failed insufficient_funds @0, schedule failed insufficient_funds @7, schedule failed insufficient_funds @9, schedule canceled limit_reached @11', 'a debit is presented three times at most');
CALL billing.advance_clock('closed', '30 days');
SELECT is(attempts(:'closed'), 'issue failed account_closed @0, schedule canceled stopped @7, schedule canceled stopped @9, schedule canceled stopped @11', 'an account that is closed once');

-- A card that comes while the debit is under way is tried when that has failed, at once and not before.
SELECT give('fly', 'pm_usBankAccount_insufficientFunds'), give('land', 'pm_usBankAccount_success'), give('spare', 'pm_usBankAccount_insufficientFunds'), give('crash', 'pm_usBankAccount_insufficientFunds') \gset
CALL billing.run_worker();
SELECT bill('fly', 1000, subscription => sell('fly')) AS fly, bill('land', 1000, subscription => sell('land')) AS land, bill('spare', 1000, subscription => sell('spare')) AS spare,
	   bill('crash', 1000, subscription => sell('crash')) AS crash \gset
CALL billing.set_clock('fly', now());
CALL billing.set_clock('land', now());
CALL billing.set_clock('spare', now());
CALL billing.set_clock('crash', now());
CALL billing.advance_clock('fly', '1 day');
CALL billing.advance_clock('land', '1 day');
CALL billing.advance_clock('spare', '1 day');
SELECT give('fly', 'pm_card_visa'), give('land', 'pm_card_visa'), billing.attach_payment_method(billing.find_customer('spare'), 'pm_card_visa', set_default => false) \gset
CALL billing.run_worker();
SELECT is(attempts(:'fly'), 'issue running @0, new_method planned @1', 'a new card waits for the debit that is under way');
SELECT is(charged(:'fly'), 'processing 1000', 'one is in flight');
CALL billing.advance_clock('fly', '4 days');
SELECT is(attempts(:'fly'), 'issue failed insufficient_funds @0, new_method succeeded @1, schedule canceled @7, schedule canceled @9, schedule canceled @11', 'and is tried when that has failed');
SELECT is(invoice(:'fly'), 'paid 1000 0', 'not days later');
CALL billing.advance_clock('land', '4 days');
SELECT is(attempts(:'land'), 'issue succeeded @0, new_method canceled @1', 'a debit that goes through needs no other');
SELECT is(charged(:'land'), 'succeeded 1000', 'and is the only payment');
SELECT is(attempts(:'spare'), 'issue running @0', 'a card that is not charged is no new method');
CALL billing.advance_clock('spare', '4 days');
SELECT is(attempts(:'spare'), 'issue failed insufficient_funds @0, schedule planned @7, schedule planned @9, schedule planned @11', 'it changes nothing in the plan');
-- the last debit of the plan
UPDATE billing.attempt_limits SET attempts = 9 WHERE method = 'us_bank_account';
CALL billing.advance_clock('crash', '16 days');
SELECT is(attempts(:'crash'), 'issue failed insufficient_funds @0, schedule failed insufficient_funds @7, schedule failed insufficient_funds @9, schedule running @11', 'the last debit of the plan is under way');
SELECT give('crash', 'pm_card_visa_chargeDeclinedInsufficientFunds') AS none, give('crash', 'pm_card_authenticationRequired') AS first \gset
CALL billing.run_worker();
SELECT give('crash', 'pm_card_chargeCustomerFail') AS second \gset
CALL billing.run_worker();
SELECT is((SELECT string_agg(a.payment_method_id::text, ' ') FROM billing.dunning_attempts AS a WHERE a.invoice_id = :'crash' AND a.state = 'planned'), :'second', 'of two that come the later one is tried');
CALL billing.advance_clock('crash', '2 days');
SELECT is(status_of('crash'), 'past_due', 'the end waits for it');
CALL billing.advance_clock('crash', '2 days');
SELECT is(attempts(:'crash'), 'issue failed insufficient_funds @0, schedule failed insufficient_funds @7, schedule failed insufficient_funds @9, schedule failed insufficient_funds @11, new_method failed generic_decline @16', 'and for nothing else');
SELECT is(status_of('crash') || ' ' || invoice(:'crash'), 'unpaid open 0 1000 generic_decline', 'then it comes');
UPDATE billing.attempt_limits SET attempts = 3 WHERE method = 'us_bank_account';

-- ---------------------------------------------------------------------------
-- Invoices that are sent

SELECT bill('sent', 5000, collection => 'send_invoice', days => 14, subscription => sell('sent')) AS sent \gset
CALL billing.set_clock('sent', now());
CALL billing.run_worker();
SELECT is(happened(:'sent'), 'invoice.sent', 'the application is told to send it');
CALL billing.advance_clock('sent', '13 days');
SELECT is(happened(:'sent'), 'invoice.sent', 'and nothing else until it is due');
CALL billing.advance_clock('sent', '5 days');
SELECT is(happened(:'sent'), 'invoice.sent invoice.overdue invoice.overdue', 'then it is reminded of');
SELECT is(attempts(:'sent'), 'issue succeeded @0, schedule succeeded @17, schedule planned @19, schedule planned @21', 'as planned');
SELECT fails(format($$SELECT billing.mark_invoice_paid(%L, '')$$, :'sent'), '23502', 'note must be given', NULL, 'who says that it is paid says how');
SELECT fails(format($$SELECT billing.mark_invoice_paid(%L, 'transfer', amount => 6000)$$, :'sent'), '22023', 'amount must be from 1 to what is left', NULL, 'not more than there is to pay');
SELECT fails(format($$SELECT billing.mark_invoice_paid(%L, 'transfer', paid_at => billing.now('sent') + interval '1 day')$$, :'sent'), '22023', 'time to come', NULL, 'not tomorrow');
SELECT fails(format($$SELECT billing.mark_invoice_paid(%L, '4242 4242 4242 4242')$$, :'sent'), 'JB009', 'card', NULL, 'and not by which card');
SELECT billing.mark_invoice_paid(:'sent', 'half by transfer', amount => 2500);
SELECT is(invoice(:'sent'), 'open 2500 2500 overdue', 'a part of it');
SELECT billing.mark_invoice_paid(:'sent', 'the rest in cash', paid_at => billing.now('sent') - interval '1 day');
SELECT is(invoice(:'sent'), 'paid 5000 0', 'all of it');
SELECT is((SELECT paid_outside || ' ' || (paid_at = billing.now('sent') - interval '1 day') FROM billing.invoices WHERE id = :'sent'), 'half by transfer; the rest in cash true', 'with what was said');
SELECT is(attempts(:'sent'), 'issue succeeded @0, schedule succeeded @17, schedule canceled @19, schedule canceled @21', 'is not reminded of any more');
SELECT fails(format($$SELECT billing.mark_invoice_paid(%L, 'again')$$, :'sent'), 'JB008', 'is paid', NULL, 'nor paid twice');
SELECT fails($$SELECT billing.mark_invoice_paid('00000000-0000-7000-8000-000000000009', 'x')$$, 'JB005', 'unknown invoice', NULL, 'and one that there is not cannot be paid');

-- ---------------------------------------------------------------------------
-- Asked for by somebody

SELECT bill('given', 1000, subscription => sell('given', 'incomplete'), reason => 'subscription_create') AS first \gset
CALL billing.set_clock('given', now());
CALL billing.run_worker();
SELECT is(attempts(:'first'), 'issue failed no_payment_method @0', 'the first invoice of a subscription has no plan');
SELECT fails(format($$SELECT billing.pay_invoice(%L)$$, :'first'), '23502', 'nothing to charge', 'attach_payment_method', 'without a method there is nothing to charge');
SELECT fails(format($$SELECT billing.pay_invoice(%L, method => 'cash')$$, :'first'), '22023', 'method', NULL, 'a reference is one of two');
SELECT billing.attach_payment_method(billing.find_customer('given'), 'pm_card_visa', set_default => false) AS visa \gset
CALL billing.run_worker();
SELECT fails(format($$SELECT billing.pay_invoice(%L, %L, 'oxxo')$$, :'first', :'visa'), '22023', 'cannot both be given', NULL, 'a method or a reference');
BEGIN;
SELECT billing.pay_invoice(:'first', :'visa');
SELECT fails(format($$SELECT billing.pay_invoice(%L, %L)$$, :'first', :'visa'), 'JB010', 'is being paid already', NULL, 'once at a time');
COMMIT;
CALL billing.run_worker();
SELECT is(invoice(:'first'), 'paid 1000 0', 'the method that is named pays');
SELECT bill('many', 1000, subscription => sell('many')) AS many \gset
CALL billing.run_worker();
SELECT billing.attach_payment_method(billing.find_customer('many'), 'pm_card_chargeCustomerFail', set_default => true) AS card \gset
CALL billing.run_worker();
SELECT billing.retry_payment((SELECT id FROM billing.subscriptions WHERE organization_id = 'many'));
CALL billing.run_worker();
SELECT is(attempts(:'many'), 'issue failed no_payment_method @0, new_method failed generic_decline @0, asked failed generic_decline @0, schedule planned @3, schedule planned @5, schedule planned @7', 'asking changes nothing in the plan');
SELECT fails(format($$SELECT billing.retry_payment(%L)$$, (SELECT id FROM billing.subscriptions WHERE organization_id = 'good')), 'JB008', 'nothing of subscription', NULL, 'what is paid is not tried again');
SELECT fails($$DELETE FROM billing.decline_rules WHERE code = 'stolen_card'$$, 'JB008', 'cannot be deleted', 'retry', 'rules are changed, not deleted');

-- ---------------------------------------------------------------------------
-- After a standstill, and where the news of a failure overtake its answer

SELECT give('still', 'pm_card_chargeCustomerFail') AS card, bill('still', 1000, subscription => sell('still')) AS still \gset
CALL billing.set_clock('still', now());
UPDATE billing.sandbox_clocks SET now = now + interval '20 days' WHERE organization_id = 'still';
CALL billing.run_worker();
SELECT is(attempts(:'still'), 'issue failed generic_decline @0, schedule failed generic_decline @20, schedule planned @22, schedule planned @24', 'after a standstill the plan moves as a whole');
SELECT is((SELECT round(extract(epoch FROM next_attempt_at - issued_at) / 86400) FROM billing.invoices WHERE id = :'still'), 22::numeric, 'and goes on');
CALL billing.advance_clock('still', '5 days');
SELECT is(attempts(:'still'), 'issue failed generic_decline @0, schedule failed generic_decline @20, schedule failed generic_decline @22, schedule failed generic_decline @24', 'to its end');
UPDATE billing.settings SET value = '0' WHERE name = 'dunning_schedule';
SELECT count(billing.create_customer('again' || n)) AS customers FROM generate_series(1, 8) AS n \gset
SELECT count(give('again' || n, 'pm_card_chargeCustomerFail')) AS cards FROM generate_series(1, 8) AS n \gset
CALL billing.run_worker();
SELECT count(bill(o, 1000, subscription => s)) AS bills FROM (SELECT 'again' || n, sell('again' || n) FROM generate_series(1, 8) AS n OFFSET 0) AS sold (o, s) \gset
CALL billing.run_worker();
SELECT results_eq($$SELECT attempts(id), count(*) FROM billing.invoices WHERE organization_id LIKE 'again%' GROUP BY 1$$,
	$$VALUES ('issue failed generic_decline @0, schedule failed generic_decline @0', 8::bigint)$$, 'an attempt that is due before the answer to the last one is made after it');
UPDATE billing.settings SET value = '3 5 7' WHERE name = 'dunning_schedule';
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

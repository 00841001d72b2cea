-- Stories of money from end to end, each with a customer of its own: what he pays, gets back and keeps.
\ir helpers.psql
SELECT no_plan();

SELECT billing.set_tax_rate('DE', 19, 'VAT', valid_from => '2020-01-01') IS NOT NULL AS ready \gset

-- A customer with a card, as soon as the worker has attached it.
CREATE FUNCTION person(organization text, card text DEFAULT 'pm_card_visa', country text DEFAULT 'US', currency text DEFAULT 'USD') RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
	id uuid := billing.create_customer(organization, organization || '@people.example', country => country, currency => currency);
BEGIN
	IF card IS NOT NULL THEN
		PERFORM billing.attach_payment_method(id, card, set_default => true);
	END IF;
	RETURN id;
END
$$;
CREATE FUNCTION billed(organization text, lines jsonb, charged boolean DEFAULT false) RETURNS uuid
LANGUAGE sql
RETURN billing.create_invoice(billing.find_customer(organization), lines, collection_method => CASE WHEN charged THEN 'charge_automatically' ELSE 'send_invoice' END);
CREATE FUNCTION bill(organization text, amount bigint, charged boolean DEFAULT false) RETURNS uuid
LANGUAGE sql
RETURN billed(organization, jsonb_build_array(jsonb_build_object('description', 'Work', 'amount', amount)), charged);
-- What is paid, credited and left of an invoice.
CREATE FUNCTION invoice(id uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT format('%s %s %s %s', i.status, i.amount_paid, i.amount_credited, i.amount_remaining) FROM billing.invoices AS i WHERE i.id = invoice.id);
CREATE FUNCTION balance(organization text) RETURNS bigint
LANGUAGE sql
RETURN coalesce((SELECT b.balance FROM billing.customer_balances AS b WHERE b.organization_id = organization), 0);
CREATE FUNCTION on_account(name text) RETURNS bigint
LANGUAGE sql
RETURN (SELECT sum(b.balance)::bigint FROM billing.ledger_balances AS b WHERE b.account = name);
CREATE FUNCTION payment_of(id uuid) RETURNS uuid
LANGUAGE sql
RETURN (SELECT p.id FROM billing.payment_intents AS p WHERE p.invoice_id = payment_of.id ORDER BY p.id DESC LIMIT 1);
CREATE FUNCTION line(invoice uuid, at integer) RETURNS uuid
LANGUAGE sql
RETURN (SELECT l.id FROM billing.invoice_lines AS l WHERE l.invoice_id = invoice AND l.position = at);
CREATE FUNCTION agrees(story text) RETURNS text
LANGUAGE sql
RETURN is_empty('SELECT * FROM billing.ledger_imbalance', story || ': ledger and documents agree');

-- ---------------------------------------------------------------------------
-- Paid twice, and then taken back by a credit note

SELECT person('both') IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT bill('both', 10000) AS both \gset
CALL billing.run_worker();
BEGIN;
SELECT billing.pay_invoice(:'both') AS done \gset
UPDATE billing.outbox SET attempts = 1 WHERE object_id = payment_of(:'both');
SELECT billing.mark_invoice_paid(:'both', 'cash') AS done \gset
COMMIT;
CALL billing.run_worker();
SELECT is(invoice(:'both') || ' ' || balance('both'), 'paid 10000 0 0 10000', 'paid twice: the second time is the customer''s');
SELECT billing.create_credit_note(:'both', amount => 4000, destination => 'refund') IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT is(balance('both'), 10000::bigint, 'what a credit note pays back is what paid the invoice');
SELECT agrees('paid twice, taken back in part');
SELECT billing.create_credit_note(:'both', destination => 'refund') IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT is(balance('both') || ' ' || on_account('refunds') || ' ' || (SELECT amount_refunded FROM billing.payment_intents WHERE id = payment_of(:'both')), '10000 0 10000', 'all of it is back on the card, and the rest is kept');
SELECT agrees('paid twice, taken back');

-- ---------------------------------------------------------------------------
-- Voided after a credit note

SELECT person('credited', NULL) IS NOT NULL AS ready \gset
SELECT bill('credited', 10000) AS credited \gset
CALL billing.run_worker();
SELECT billing.create_credit_note(:'credited', amount => 3000) IS NOT NULL AS ready \gset
SELECT fails(format('SELECT billing.void_invoice(%L)', :'credited'), 'JB008', 'credit note', 'create_credit_note', 'what a credit note corrects is not voided');
SELECT billing.create_credit_note(:'credited') IS NOT NULL AS ready \gset
SELECT is(invoice(:'credited'), 'paid 0 10000 0', 'its rest is credited, too');
SELECT agrees('credited');

-- ---------------------------------------------------------------------------
-- A credit note whose tax is below zero

SELECT person('mixed', NULL, 'DE', 'EUR') IS NOT NULL AS ready \gset
SELECT billed('mixed', '[{"description": "a", "amount": 1000}, {"description": "b", "amount": -400}, {"description": "c", "amount": 500, "tax": false}]') AS mixed \gset
CALL billing.run_worker();
SELECT billing.create_credit_note(:'mixed', jsonb_build_array(jsonb_build_object('line', line(:'mixed', 1)))) IS NOT NULL AS ready \gset
SELECT billing.create_credit_note(:'mixed') AS below \gset
SELECT is((SELECT tax < 0 FROM billing.credit_notes WHERE id = :'below'), true, 'the tax of what was given back comes back');
SELECT agrees('tax below zero');

-- ---------------------------------------------------------------------------
-- Voided after the prepaid credit that it used

SELECT person('gift', NULL) IS NOT NULL AS ready \gset
SELECT billing.grant_credit('gift', 600, 'USD') AS gift \gset
SELECT bill('gift', 1000) AS gifted \gset
CALL billing.run_worker();
SELECT is(invoice(:'gifted'), 'open 0 0 400', 'a credit pays a part');
SELECT billing.void_credit_grant(:'gift') AS taken, billing.void_invoice(:'gifted') AS voided \gset
SELECT is((SELECT string_agg(kind || ' ' || amount, ', ' ORDER BY id) FROM billing.credit_grant_entries WHERE grant_id = :'gift'), 'grant 600, use -600, release 600, void -600', 'what comes back to a credit that is void is void');
SELECT is((SELECT remaining FROM billing.credit_grants WHERE id = :'gift'), 0::bigint, 'and pays nothing');
SELECT agrees('credit and invoice void');

-- ---------------------------------------------------------------------------
-- Given to the balance, and then refunded

SELECT person('again') IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT bill('again', 10000, true) AS again \gset
CALL billing.run_worker();
SELECT billing.create_credit_note(:'again', amount => 4000) IS NOT NULL AS ready \gset
SELECT fails(format('SELECT billing.create_refund(%L, 6001)', payment_of(:'again')), '22023', 'left of the payment', 'credit notes have given', 'what a credit note has given is not given twice');
SELECT billing.create_refund(payment_of(:'again')) AS rest \gset
SELECT is((SELECT amount FROM billing.refunds WHERE id = :'rest'), 6000::bigint, 'the rest is');
CALL billing.run_worker();
SELECT fails(format('SELECT billing.create_refund(%L)', payment_of(:'again')), 'JB008', 'nothing is left', NULL, 'and then nothing is left');
SELECT is(balance('again'), 4000::bigint, '10000 came, 6000 went back and 4000 are his');
SELECT agrees('balance and refund');

-- ---------------------------------------------------------------------------
-- A total below zero

SELECT person('below', NULL, 'DE', 'EUR') IS NOT NULL AS ready \gset
SELECT fails($$SELECT billed('below', '[{"description": "a", "amount": 100, "tax": false}, {"description": "b", "amount": -100}]')$$, '22023', 'below 0', 'grant_credit', 'tax does not take a total below 0');
SELECT billing.create_invoice(billing.find_customer('below'), '[{"description": "a", "amount": 100, "tax": false}, {"description": "b", "amount": -100}]', finalize => false) AS below_draft \gset
SELECT fails(format('SELECT billing.finalize_invoice(%L)', :'below_draft'), '22023', 'below 0', 'grant_credit', 'nor that of a draft');
SELECT is(balance('below'), 0::bigint, 'nothing was given');
SELECT agrees('below zero');

-- ---------------------------------------------------------------------------
-- Paid by hand while the charge waits to be sent

SELECT person('hand') IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT bill('hand', 10000) AS hand \gset
CALL billing.run_worker();
BEGIN;
SELECT billing.pay_invoice(:'hand') AS done \gset
SELECT billing.mark_invoice_paid(:'hand', 'bank') AS done \gset
COMMIT;
CALL billing.run_worker();
SELECT is(invoice(:'hand') || ' ' || balance('hand') || ' ' || (SELECT status FROM billing.payment_intents WHERE id = payment_of(:'hand')), 'paid 10000 0 0 0 canceled', 'a charge that was not sent is not sent any more');
SELECT bill('hand', 700) AS noted \gset
CALL billing.run_worker();
BEGIN;
SELECT billing.pay_invoice(:'noted') AS done \gset
SELECT billing.create_credit_note(:'noted') IS NOT NULL AS ready \gset
COMMIT;
CALL billing.run_worker();
SELECT is(invoice(:'noted') || ' ' || balance('hand') || ' ' || (SELECT status FROM billing.payment_intents WHERE id = payment_of(:'noted')), 'paid 0 700 0 0 canceled', 'nor when a credit note pays it');
SELECT bill('hand', 800) AS lost \gset
CALL billing.run_worker();
BEGIN;
SELECT billing.pay_invoice(:'lost') AS done \gset
SELECT billing.mark_invoice_uncollectible(:'lost') AS done \gset
COMMIT;
CALL billing.run_worker();
SELECT is(invoice(:'lost') || ' ' || (SELECT status FROM billing.payment_intents WHERE id = payment_of(:'lost')), 'uncollectible 0 0 800 canceled', 'nor when it is given up');
SELECT agrees('paid by hand');

-- ---------------------------------------------------------------------------
-- The refund of a credit note fails later

SELECT person('sent', 'pm_card_refundFail') IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT bill('sent', 10000, true) AS sent \gset
CALL billing.run_worker();
SELECT billing.create_credit_note(:'sent', destination => 'refund') AS sent_note \gset
CALL billing.run_worker();
CALL billing.advance_clock('sent', '3 days');
SELECT is((SELECT status FROM billing.refunds WHERE credit_note_id = :'sent_note'), 'failed', 'the bank sends it back');
SELECT is(balance('sent') || ' ' || (SELECT sum(CASE 'refunds' WHEN l.debit THEN l.amount WHEN l.credit THEN - l.amount ELSE 0 END) FROM billing.ledger AS l WHERE l.organization_id = 'sent'), '10000 0', 'what could not be paid back is the customer''s');
SELECT fails(format('SELECT billing.create_refund(%L)', payment_of(:'sent')), 'JB008', 'nothing is left', NULL, 'and is not given twice');
SELECT agrees('a refund that failed');

-- ---------------------------------------------------------------------------
-- Subscribed with a card in one call

SELECT person('swift', NULL) IS NOT NULL AS ready \gset
SELECT billing.create_plan('monthly', 'Monthly', 5000) IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT billing.subscribe('swift', 'monthly', managed_by => 'local', payment_method => 'pm_card_visa') AS swift \gset
CALL billing.run_worker();
SELECT i.id AS swift_invoice FROM billing.invoices AS i WHERE i.subscription_id = :'swift' \gset
SELECT is((SELECT string_agg(a.cause || ' ' || a.state, ', ' ORDER BY a.attempt) FROM billing.dunning_attempts AS a WHERE a.invoice_id = :'swift_invoice'), 'issue succeeded', 'the card that is being attached is waited for');
SELECT is((SELECT count(*) FROM billing.events WHERE id = :'swift_invoice' AND type = 'invoice.payment_failed'), 0::bigint, 'nobody hears of a failure');
SELECT is(status_of('swift'), 'active', 'it is paid');
SELECT person('slow', NULL) IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT billing.subscribe('slow', 'monthly', managed_by => 'local', payment_method => 'pm_card_chargeDeclined') AS slow \gset
CALL billing.run_worker();
SELECT is((SELECT string_agg(concat_ws(' ', a.cause, a.state, a.decline_code), ', ' ORDER BY a.attempt) FROM billing.dunning_attempts AS a JOIN billing.invoices AS i ON i.id = a.invoice_id WHERE i.subscription_id = :'slow'), 'issue failed payment_method_refused', 'one that is refused is waited for no longer');
SELECT agrees('subscribed with a card');

-- ---------------------------------------------------------------------------
-- Sent, and tried by card before it is due

SELECT person('early', 'pm_card_chargeCustomerFail') IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT billing.subscribe('early', 'monthly', managed_by => 'local', collection_method => 'send_invoice', days_until_due => 30) AS early \gset
CALL billing.run_worker();
SELECT i.id AS early_invoice FROM billing.invoices AS i WHERE i.subscription_id = :'early' ORDER BY i.issued_at LIMIT 1 \gset
SELECT billing.pay_invoice(:'early_invoice') AS done \gset
CALL billing.run_worker();
CALL billing.advance_clock('early', '8 days');
SELECT is(status_of('early') || ' ' || (SELECT count(*) FROM billing.dunning_attempts WHERE invoice_id = :'early_invoice' AND cause = 'schedule'), 'active 0', 'who tries in vain before it is due owes nothing yet');
SELECT is((SELECT count(*) FROM billing.events WHERE id = :'early_invoice' AND type = 'invoice.overdue'), 0::bigint, 'and is not reminded');
CALL billing.advance_clock('early', '23 days');
SELECT is(status_of('early') || ' ' || (SELECT count(*) FROM billing.events WHERE id = :'early_invoice' AND type = 'invoice.overdue'), 'past_due 1', 'at the due date it is overdue');
SELECT is((SELECT string_agg(DISTINCT a.kind, ' ') FROM billing.dunning_attempts AS a WHERE a.invoice_id = :'early_invoice' AND a.cause = 'schedule'), 'reminder', 'what is planned are reminders');
SELECT billing.pay_invoice(:'early_invoice') AS done \gset
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.events WHERE id = :'early_invoice' AND type = 'invoice.overdue'), 1::bigint, 'another try changes nothing of it');

-- ---------------------------------------------------------------------------
-- The failed renewal is voided

SELECT person('forgiven') IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT billing.subscribe('forgiven', 'monthly', managed_by => 'local') AS forgiven \gset
CALL billing.run_worker();
SELECT is(status_of('forgiven'), 'active', 'paid at first');
SELECT billing.attach_payment_method(billing.find_customer('forgiven'), 'pm_card_chargeCustomerFail', set_default => true) IS NOT NULL AS ready \gset
CALL billing.run_worker();
CALL billing.advance_clock('forgiven', '32 days');
SELECT is(status_of('forgiven'), 'past_due', 'its renewal is declined');
SELECT i.id AS forgiven_invoice FROM billing.invoices AS i WHERE i.subscription_id = :'forgiven' AND i.status = 'open' \gset
SELECT billing.void_invoice(:'forgiven_invoice') AS done \gset
SELECT is(status_of('forgiven'), 'active', 'nothing is owed when it is void');
SELECT agrees('voided renewal');
SELECT billing.subscribe('credited', 'monthly', managed_by => 'local') AS first \gset
CALL billing.run_worker();
SELECT i.id AS first_invoice FROM billing.invoices AS i WHERE i.subscription_id = :'first' \gset
SELECT billing.void_invoice(:'first_invoice') AS done \gset
SELECT is(status_of('credited'), 'incomplete', 'but who never paid does not begin by it');

-- ---------------------------------------------------------------------------
-- What is refused

SELECT person('strict', NULL) IS NOT NULL AS ready \gset
SELECT bill('strict', 1000) AS strict \gset
CALL billing.run_worker();
SELECT fails(format($$SELECT billing.create_credit_note(%L, '[{"line": "%s", "amonut": 5}]')$$, :'strict', line(:'strict', 1)), '22023', 'unknown member "amonut"', 'line and amount', 'a slip takes back nothing');
SELECT fails(format($$SELECT billing.create_credit_note(%L, '["%s"]')$$, :'strict', line(:'strict', 1)), '22023', 'object', NULL, 'a line is an object');

-- ---------------------------------------------------------------------------
-- Paid in cash and by card, on the printed page

SELECT person('printed') IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT bill('printed', 10000) AS printed \gset
CALL billing.run_worker();
SELECT billing.mark_invoice_paid(:'printed', 'cash', amount => 4000) AS done \gset
SELECT billing.pay_invoice(:'printed') AS done \gset
CALL billing.run_worker();
SELECT billing.create_refund(payment_of(:'printed')) IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT matches(billing.invoice_html(:'printed'), 'cash</td><td class="n">40\.00', 'what came in cash is what came in cash');

-- ---------------------------------------------------------------------------
-- Absurd amounts

SELECT person('absurd', NULL) IS NOT NULL AS ready \gset
SELECT fails($$SELECT bill('absurd', 9223372036854775807)$$, '22023', 'too large', '15 digits', 'two of them would stop every check of the ledger');
SELECT fails($$SELECT billed('absurd', '[{"description": "a", "unit_amount": 100000000000000, "quantity": 10}]')$$, '22023', 'too large', '15 digits', 'computed ones, too');

-- ---------------------------------------------------------------------------
-- Going live after a trial

SELECT lives_ok($$SELECT billing.set_seller('Acme', first_number => 1043)$$, 'numbers of test mode bind no live series');
SELECT fails($$UPDATE billing.settings SET value = '366' WHERE name = 'days_until_due'$$, '22023', 'days_until_due', '365', 'an invoice is due within a year');

-- ---------------------------------------------------------------------------
-- A draft that nobody owes

SELECT person('left', NULL) AS left_id \gset
SELECT billing.create_invoice(:'left_id', '[{"description": "a", "amount": 100}]', finalize => false) AS left_draft \gset
SELECT fails($$SELECT billed('left', '[{"description": " ", "amount": 1}]')$$, '22023', 'no description', NULL, 'blanks describe nothing');
SELECT fails($$SELECT billed('left', '[{"description": "a", "amount": 1, "period_end": "2027-01-01"}]')$$, '22023', 'period_end alone', NULL, 'a period has a start');
SELECT fails($$SELECT billed('left', '[{"description": "a", "amount": 1, "period_start": "infinity"}]')$$, '22023', 'without an end', NULL, 'and is finite');
SELECT billing.delete_customer(:'left_id') AS done \gset
SELECT fails(format('SELECT billing.finalize_invoice(%L)', :'left_draft'), 'JB008', 'is deleted', 'void_invoice', 'a customer who is deleted is not billed');

SELECT * FROM finish();

-- What a change gave back of an invoice follows what is paid of it: what was not paid by then is given when it is, and what never is is taken
-- back. Each story has a customer of its own; numbers are computed by hand.
\ir helpers.psql
\ir given_back_helpers.psql
SELECT no_plan();

SELECT billing.configure_provider('sandbox');
SELECT billing.set_tax_rate('DE', 20, 'VAT', valid_from => '2020-01-01') IS NOT NULL AS taxed \gset
SELECT billing.create_plan('small', 'Small', 3000, 'USD') AS p1, billing.create_plan('large', 'Large', 6000, 'USD') AS p2, billing.create_plan('team', 'Team', 1000, 'USD') AS p3 \gset
SELECT billing.create_price('team', 2000, 'USD', component => 'seats') AS seats \gset

-- An organisation with a local subscription from April 1st on, whose first invoice is open.
CREATE PROCEDURE begin_at(organization text, plan text DEFAULT 'small', country text DEFAULT 'US', card boolean DEFAULT false)
LANGUAGE plpgsql AS $$
DECLARE
	customer uuid := billing.create_customer(organization, organization || '@later.example', country => country, currency => 'USD');
BEGIN
	IF card THEN
		PERFORM billing.attach_payment_method(customer, 'pm_card_visa', set_default => true);
	END IF;
	COMMIT;
	CALL billing.run_worker();
	CALL billing.set_clock(organization, '2027-04-01 00:00+00');
	PERFORM billing.subscribe(organization, plan, collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local');
	COMMIT;
	CALL billing.run_worker();
END
$$;
CREATE FUNCTION line_of(organization text, component text DEFAULT 'base') RETURNS uuid
LANGUAGE sql
RETURN (SELECT l.id FROM billing.invoice_lines AS l WHERE l.invoice_id = invoice_of(organization) AND l.component = line_of.component);
CREATE FUNCTION pay(organization text, amount bigint DEFAULT NULL, n integer DEFAULT 1) RETURNS boolean
LANGUAGE sql
RETURN billing.mark_invoice_paid(invoice_of(organization, n), 'by transfer', amount => pay.amount) IS NULL;
CREATE FUNCTION state(organization text, n integer DEFAULT 1) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' ', i.status, i.total, i.balance_used, i.amount_due, i.amount_remaining) FROM billing.invoices AS i WHERE i.id = invoice_of(organization, n));
CREATE FUNCTION told(id uuid, what text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(e.detail, '; ') FROM billing.explain(id) AS e WHERE e.what ~ told.what);

-- ---------------------------------------------------------------------------
-- 30.00 for April, to be paid within 60 days; on the 16th half of it is left

CALL begin_at('later');
CALL billing.set_clock('later', '2027-04-16 00:00+00');
SELECT change('later', 'large') AS changed \gset
SELECT is(waits('later'), 'proration_credit 0 0, proration_debit 3000 0', 'what is not paid is not given back');
SELECT is((SELECT sum(l.not_covered) FROM billing.invoice_lines AS l WHERE l.reverses = line_of('later')), 1500::numeric, 'but remembered');
SELECT matches(told(invoice_of('later'), 'not given back'), '1500 USD of "Small', 'and explained');
SELECT pay('later') AS paid \gset
SELECT is(notes('later') || ', ' || balance('later'), '1500 0 1500, 1500', 'when it is paid, a credit note gives it to the balance');
SELECT is(told(invoice_of('later'), 'not given back'), NULL, 'and there is nothing to explain any more');
SELECT results_eq($$SELECT l.description, l.amount, l.tax, l.period_start, l.period_end FROM billing.credit_note_lines AS l JOIN billing.credit_notes AS n ON n.id = l.credit_note_id WHERE n.organization_id = 'later'$$,
	$$VALUES ('Small: unused time', 1500::bigint, 0::bigint, timestamptz '2027-04-16 00:00+00', timestamptz '2027-05-01 00:00+00')$$, 'it says for which time');
CALL billing.run_worker();
SELECT is((SELECT status || ' ' || (number IS NOT NULL) FROM billing.credit_notes WHERE organization_id = 'later'), 'issued true', 'and has a number');
SELECT fails(format('SELECT billing.create_credit_note(%L, amount => 1501)', invoice_of('later')), '22023', 'what is left', NULL, 'nobody gives more than the other half');
CALL billing.set_clock('later', '2027-05-01 00:00+00');
SELECT is(state('later', 2), 'open 9000 1500 7500 7500', 'in all 105.00: 15.00 and 30.00 for April, 60.00 for May');
SELECT is((SELECT count(*) FROM billing.credit_notes WHERE organization_id = 'later'), 1::bigint, 'it was given once');
SELECT fails(format('SELECT billing.void_invoice(%L)', invoice_of('later', 2)), 'JB008', 'made up for', 'create_credit_note', 'the invoice of the change is not voided alone');
SELECT agrees('paid later');

CALL begin_at('tax', country => 'DE');
CALL billing.set_clock('tax', '2027-04-16 00:00+00');
SELECT change('tax', 'large') AS changed, pay('tax') AS paid \gset
SELECT is(notes('tax') || ', ' || balance('tax'), '1800 300 1800, 1800', 'with its tax: 15.00 and 3.00');
SELECT agrees('tax');

-- ---------------------------------------------------------------------------
-- In parts

CALL begin_at('parts');
SELECT pay('parts', 1000) AS paid \gset
CALL billing.set_clock('parts', '2027-04-16 00:00+00');
SELECT change('parts', 'large') AS changed \gset
SELECT is(waits('parts'), 'proration_credit -1000 0, proration_debit 3000 0', 'of 15.00 what is paid is given back');
SELECT pay('parts', 1500) AS paid \gset
SELECT is(notes('parts'), NULL, 'while something is left to pay nothing more');
SELECT pay('parts', 500) AS paid \gset
SELECT is(notes('parts'), '500 0 500', 'then the rest');
SELECT agrees('parts');

CALL begin_at('team', 'team', 'DE');
CALL billing.set_clock('team', '2027-04-16 00:00+00');
SELECT billing.cancel_subscription(subscription_of('team'), at_period_end => false, prorate => true);
CALL billing.run_worker();
SELECT is(status_of('team') || ' ' || state('team', 2), 'canceled paid 0 0 0 0', 'canceled, with nothing to give back yet');
SELECT pay('team') AS paid \gset
SELECT is(notes('team') || ', ' || balance('team'), '1800 300 1800, 1800', 'both lines are given back by one note, although the subscription is over: half of 10.00 and 20.00 with tax');
SELECT is((SELECT count(*) FROM billing.credit_note_lines AS l JOIN billing.credit_notes AS n ON n.id = l.credit_note_id WHERE n.organization_id = 'team'), 2::bigint, 'each by a line');
SELECT agrees('canceled');

CALL begin_at('hopeless');
CALL billing.set_clock('hopeless', '2027-04-16 00:00+00');
SELECT change('hopeless', 'large') AS changed, billing.mark_invoice_uncollectible(invoice_of('hopeless')) \gset
SELECT is(balance('hopeless'), 0::bigint, 'nothing was given of what is given up');
SELECT pay('hopeless') AS paid \gset
SELECT is(notes('hopeless') || ', ' || balance('hopeless'), '1500 0 1500, 1500', 'paid all the same: then it is');
SELECT agrees('given up and paid');

-- ---------------------------------------------------------------------------
-- There and back in the same instant, and paid in between

CALL begin_at('between');
CALL billing.set_clock('between', '2027-04-16 00:00+00');
SELECT change('between', 'large') AS changed, pay('between') AS paid \gset
SELECT is(balance('between'), 1500::bigint, 'given while it is large');
SELECT change('between', 'small') AS changed \gset
SELECT is(waits('between'), 'proration_credit 0 0, proration_debit 1500 0', 'small again: what was given is billed again');
CALL billing.set_clock('between', '2027-04-21 00:00+00');
SELECT change('between', 'large') AS changed \gset
SELECT is(waits('between'), 'proration_credit 0 0, proration_debit 1500 0, proration_credit -1000 0, proration_debit 2000 0', 'five days later a third is left, and given back once');
CALL billing.set_clock('between', '2027-05-01 00:00+00');
SELECT is(state('between', 2), 'open 8500 1500 7000 7000', 'in all 100.00: 20.00 and 20.00 for April, 60.00 for May');
SELECT agrees('paid in between');

CALL begin_at('twice');
CALL billing.set_clock('twice', '2027-04-16 00:00+00');
SELECT change('twice', 'large', 'always_invoice') AS changed \gset
CALL billing.run_worker();
SELECT change('twice', 'small', 'always_invoice') AS changed \gset
CALL billing.run_worker();
SELECT is(state('twice', 2) || ', ' || state('twice', 3), 'open 3000 0 3000 3000, paid -3000 -3000 0 0', 'there and back, each with an invoice');
CALL billing.set_clock('twice', '2027-04-21 00:00+00');
SELECT change('twice', 'large') AS changed, pay('twice') AS paid \gset
SELECT is(notes('twice'), '1000 0 1000', 'what was undone counts no more: the credit of the 21st does');
SELECT agrees('undone');

-- ---------------------------------------------------------------------------
-- Credit notes by hand, refunds and disputes

CALL begin_at('noted');
CALL billing.set_clock('noted', '2027-04-16 00:00+00');
SELECT change('noted', 'large') AS changed, billing.create_credit_note(invoice_of('noted'), amount => 2000) IS NOT NULL AS noted, pay('noted') AS paid \gset
SELECT is(notes('noted') || ', ' || balance('noted'), '2000 0 0, 1000 0 1000, 1000', 'of a line that was taken back by 20.00 no more than the 10.00 that were paid');
SELECT fails(format('SELECT billing.create_credit_note(%L)', invoice_of('noted')), 'JB008', 'nothing is left', NULL, 'then nothing is left');
SELECT agrees('credit note by hand');

CALL begin_at('whole');
CALL billing.set_clock('whole', '2027-04-16 00:00+00');
SELECT change('whole', 'large') AS changed, pay('whole', 1000) AS paid, billing.create_credit_note(invoice_of('whole'), amount => 2000) IS NOT NULL AS noted \gset
SELECT is(notes('whole') || ', ' || balance('whole'), '2000 0 0, 1000 0 1000, 1000', 'the same where the note is what pays the rest');
CALL begin_at('gone');
CALL billing.set_clock('gone', '2027-04-16 00:00+00');
SELECT change('gone', 'large') AS changed, billing.create_credit_note(invoice_of('gone')) IS NOT NULL AS noted \gset
SELECT is(notes('gone') || ', ' || balance('gone'), '3000 0 0, 0', 'nothing was paid, nothing is given');
SELECT agrees('credited as a whole');

CALL begin_at('refunded', card => true);
CALL billing.set_clock('refunded', '2027-04-16 00:00+00');
SELECT change('refunded', 'large') AS changed, billing.pay_invoice(invoice_of('refunded')) \gset
CALL billing.run_worker();
SELECT is(notes('refunded') || ', ' || balance('refunded'), '1500 0 1500, 1500', 'by card as well');
SELECT p.id AS paid FROM billing.payment_intents AS p WHERE p.organization_id = 'refunded' \gset
SELECT fails(format('SELECT billing.create_refund(%L, 1501)', :'paid'), '22023', 'left of the payment', 'credit notes', 'a refund gives the rest only');
SELECT billing.create_refund(:'paid') IS NOT NULL AS refunded \gset
CALL billing.run_worker();
SELECT is((SELECT amount_refunded FROM billing.payment_intents WHERE id = :'paid') || ' ' || notes('refunded'), '1500 1500 0 1500', 'together what was paid');
SELECT agrees('refunded');

-- 20.00 by card and 10.00 by transfer; the bank takes the 20.00 back before the transfer comes
CALL begin_at('disputed', card => true);
SELECT billing.create_payment_intent(billing.find_customer('disputed'), 2000, off_session => true, invoice_id => invoice_of('disputed')) AS card \gset
CALL billing.run_worker();
CALL billing.set_clock('disputed', '2027-04-16 00:00+00');
SELECT change('disputed', 'large') AS changed \gset
SELECT is(waits('disputed'), 'proration_credit -1500 0, proration_debit 3000 0', 'two thirds are paid, so half is given back');
CALL begin_at('bank', card => true);
CALL billing.set_clock('bank', '2027-04-16 00:00+00');
SELECT change('bank', 'large') AS changed \gset
SELECT billing.create_payment_intent(billing.find_customer('bank'), 2000, off_session => true, invoice_id => invoice_of('bank')) AS card \gset
CALL billing.run_worker();
SELECT billing.sandbox_dispute(:'card');
CALL billing.run_worker();
SELECT d.id AS dispute FROM billing.disputes AS d WHERE d.organization_id = 'bank' \gset
SELECT pay('bank') AS paid \gset
SELECT is(state('bank') || ': ' || notes('bank'), 'paid 3000 0 3000 0: 1000 0 1000', 'no more is given than was kept');
SELECT billing.sandbox_resolve_dispute(:'dispute', 'won') AS won \gset
CALL billing.run_worker();
SELECT is(notes('bank') || ', ' || balance('bank'), '1000 0 1000, 500 0 500, 1500', 'the rest when the bank has given it back');
SELECT agrees('disputed');

-- ---------------------------------------------------------------------------
-- A customer whose data no key opens

CALL begin_at('sealed');
CALL billing.set_clock('sealed', '2027-04-16 00:00+00');
SELECT change('sealed', 'large') AS changed \gset
SELECT buyer AS buyer FROM billing.invoices WHERE id = invoice_of('sealed') \gset
ALTER TABLE billing.invoices DISABLE TRIGGER keep_invoices;
UPDATE billing.invoices SET buyer = '\x00' WHERE id = invoice_of('sealed');
SELECT pay('sealed') AS paid \gset
SELECT is(state('sealed') || ': ' || notes('sealed'), 'paid 3000 0 3000 0: 1500 0 1500', 'holds up no money');
CALL billing.run_worker();
SELECT n.id AS note, n.number AS number FROM billing.credit_notes AS n WHERE n.organization_id = 'sealed' \gset
SELECT fails(format('SELECT billing.credit_note_html(%L)', :'note'), 'JB012', '', NULL, 'the note can only not be printed');
UPDATE billing.invoices SET buyer = :'buyer' WHERE id = invoice_of('sealed');
ALTER TABLE billing.invoices ENABLE TRIGGER keep_invoices;
SELECT matches(billing.credit_note_html(:'note'), 'sealed@later', 'until it opens: then the customer of the invoice is on it');

-- ---------------------------------------------------------------------------
-- Changes in quick succession, before anything has its number

CREATE PROCEDURE quick_changes(organization text, times integer)
LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. times LOOP
		UPDATE billing.sandbox_clocks SET now = now + interval '7 hours 13 minutes' WHERE organization_id = organization;
		PERFORM change(organization, CASE WHEN i % 2 = 1 THEN 'large' ELSE 'small' END, 'always_invoice');
	END LOOP;
	COMMIT;
	CALL billing.run_worker();
	CALL billing.run_worker();
END
$$;
SELECT billing.attach_payment_method(billing.create_customer('quick', currency => 'USD', country => 'US'), 'pm_card_visa', set_default => true) AS card \gset
CALL billing.run_worker();
CALL billing.set_clock('quick', '2027-04-01 00:00+00');
SELECT billing.subscribe('quick', 'small', managed_by => 'local') AS sub \gset
CALL billing.run_worker();
CALL quick_changes('quick', 20);
SELECT is((SELECT sum(total) FROM billing.invoices WHERE organization_id = 'quick'), 3300::numeric, '20 changes: 30.00, and 30.00 more a month for 72:10 of 720 hours, in 10 parts that are rounded each');
SELECT is((SELECT sum(amount_received) FROM billing.payment_intents WHERE organization_id = 'quick') - balance('quick'), 3300::numeric, 'which is what is paid, less the balance');
SELECT cmp_ok((SELECT sum(amount_received) FROM billing.payment_intents WHERE organization_id = 'quick'), '<=', 6000::numeric, 'the card is never charged more than large costs');
SELECT agrees('quick changes');

-- ---------------------------------------------------------------------------
-- Given back in full in the same instant, and never paid

CREATE PROCEDURE there_and_back(organization text)
LANGUAGE plpgsql AS $$
BEGIN
	CALL begin_at(organization);
	PERFORM pay(organization);
	CALL billing.set_clock(organization, '2027-04-16 00:00+00');
	PERFORM change(organization, 'large', 'always_invoice');
	COMMIT;
	CALL billing.run_worker();
	PERFORM change(organization, 'small', 'always_invoice');
	COMMIT;
	CALL billing.run_worker();
END
$$;

CALL there_and_back('never');
SELECT is(state('never', 2) || ', ' || state('never', 3) || ', ' || balance('never'), 'open 1500 0 1500 1500, paid -1500 -1500 0 0, 1500', 'large is open, and back is balance');
SELECT fails(format('SELECT billing.void_invoice(%L)', invoice_of('never', 2)), 'JB008', 'given back', 'mark_invoice_uncollectible', 'it is not voided, but it can be given up');
SELECT billing.mark_invoice_uncollectible(invoice_of('never', 2));
SELECT is(entries('never') || ', ' || balance('never'), 'invoice 1500, invoice_given_up -1500, 0', 'given up: what it gave is taken back');
SELECT is((SELECT sum(s.amount) FROM billing.ledger_sides AS s WHERE s.organization_id = 'never' AND s.account = 'bad_debt'), 0::numeric, 'so nothing is lost');
SELECT matches(told(invoice_of('never', 2), 'taken back'), '^1500 USD', 'and explained');
SELECT agrees('given up');
SELECT pay('never', 400, 2) AS paid \gset
SELECT is(balance('never'), 400::bigint, 'what is paid of it all the same is given again');
SELECT pay('never', NULL, 2) AS paid \gset
SELECT is(balance('never') || ' ' || (SELECT sum(e.amount) FROM billing.customer_balance_entries AS e WHERE e.organization_id = 'never' AND e.reason = 'invoice_given_up'), '1500 0', 'to the cent');
SELECT is(told(invoice_of('never', 2), 'taken back'), NULL, 'with nothing left to explain');
SELECT agrees('paid after it was given up');

CALL there_and_back('spent');
CALL billing.set_clock('spent', '2027-05-01 00:00+00');
SELECT is(state('spent', 4), 'open 3000 1500 1500 1500', 'the balance pays half of May');
SELECT billing.mark_invoice_uncollectible(invoice_of('spent', 2));
SELECT is(balance('spent'), -1500::bigint, 'what is spent is owed');
CALL billing.set_clock('spent', '2027-06-01 00:00+00');
SELECT is(state('spent', 5), 'open 3000 -1500 4500 4500', 'with June');
SELECT agrees('spent');

CALL there_and_back('some');
SELECT pay('some', 500, 2) AS paid, billing.mark_invoice_uncollectible(invoice_of('some', 2)) \gset
SELECT is(balance('some'), 500::bigint, 'what was paid is kept');
SELECT agrees('some is paid');

-- given up first, and back in the same instant; then large once more
CALL begin_at('first');
SELECT pay('first') AS paid \gset
CALL billing.set_clock('first', '2027-04-16 00:00+00');
SELECT change('first', 'large', 'always_invoice') AS changed \gset
CALL billing.run_worker();
SELECT billing.mark_invoice_uncollectible(invoice_of('first', 2));
SELECT is(balance('first'), 0::bigint, 'nothing was given back of it');
SELECT change('first', 'small', 'always_invoice') AS changed \gset
CALL billing.run_worker();
SELECT is(state('first', 3) || ', ' || balance('first'), 'paid -1500 -1500 0 0, 0', 'back: what is given for what was given up is taken back at once');
SELECT change('first', 'large', 'always_invoice') AS changed \gset
CALL billing.run_worker();
SELECT is(state('first', 4) || ', ' || balance('first'), 'open 1500 0 1500 1500, 1500', 'and given again when it is undone: he owes the 15.00 of the first time');
SELECT agrees('given up first');

-- by day: there and back on one day, and nothing is paid until then
UPDATE billing.settings SET value = 'day' WHERE name = 'proration_unit';
CALL begin_at('day');
SELECT pay('day') AS paid \gset
CALL billing.set_clock('day', '2027-04-16 08:00+00');
SELECT billing.update_subscription(subscription_of('day'), quantity => 4, proration_behavior => 'always_invoice') AS changed \gset
CALL billing.run_worker();
CALL billing.set_clock('day', '2027-04-16 18:00+00');
SELECT billing.update_subscription(subscription_of('day'), quantity => 1, proration_behavior => 'always_invoice') AS changed \gset
CALL billing.run_worker();
SELECT is(state('day', 2) || ', ' || state('day', 3), 'open 4500 0 4500 4500, open 1500 0 1500 1500', 'four for 60.00 less 15.00; one again, and nothing of the four was paid');
SELECT pay('day', NULL, 2) AS paid, pay('day', NULL, 3) AS paid_too \gset
SELECT is(notes('day') || ', ' || balance('day'), '6000 0 6000, 6000', 'paid, all of the four is given back, what the credit beside it paid of it as well: 30.00 + 45.00 + 15.00 - 60.00 is April');
SELECT agrees('by day');
UPDATE billing.settings SET value = 'second' WHERE name = 'proration_unit';

-- taken by the invoice of May, which is voided
CALL begin_at('voided');
SELECT pay('voided') AS paid \gset
CALL billing.set_clock('voided', '2027-04-16 00:00+00');
SELECT change('voided', 'large', 'always_invoice') AS changed \gset
CALL billing.run_worker();
SELECT change('voided', 'small') AS changed, billing.mark_invoice_uncollectible(invoice_of('voided', 2)) \gset
SELECT is(waits('voided') || ', ' || balance('voided'), 'proration_credit -3000 0, proration_debit 1500 0, -1500', 'what waits counts as given');
CALL billing.set_clock('voided', '2027-05-01 00:00+00');
SELECT is(state('voided', 3), 'open 1500 -1500 3000 3000', 'May costs what it costs');
SELECT billing.void_invoice(invoice_of('voided', 3));
SELECT is(entries('voided') || ', ' || balance('voided'), 'invoice_given_up -1500, invoice 1500, invoice_voided -1500, invoice_given_up 1500, 0', 'voided it has given nothing, so nothing is taken back');
SELECT agrees('voided');

-- by dunning
UPDATE billing.settings SET value = 'canceled' WHERE name = 'dunning_end';
CALL there_and_back('dunned');
CALL billing.set_clock('dunned', '2027-07-20 00:00+00');
SELECT is((SELECT string_agg(i.status, ' ' ORDER BY i.id) FROM billing.invoices AS i WHERE i.organization_id = 'dunned' AND i.amount_due = 1500), 'uncollectible uncollectible', 'dunning gives up as well');
SELECT is((SELECT sum(e.amount) FROM billing.customer_balance_entries AS e WHERE e.organization_id = 'dunned' AND e.reason = 'invoice_given_up'), -1500::numeric, 'and what was given is taken back');
SELECT agrees('dunning');

-- ---------------------------------------------------------------------------
-- What a provider sells it takes back: no document of ours

UPDATE billing.providers SET merchant_of_record = true WHERE name = 'sandbox';
CALL begin_at('resold');
CALL billing.set_clock('resold', '2027-04-16 00:00+00');
SELECT change('resold', 'large') AS changed \gset
SELECT pay('resold') AS paid \gset
CALL billing.run_worker();
SELECT is(concat_ws(', ', entries('resold'), notes('resold')), 'unused_time 1500', 'of a statement the balance has it without a credit note');
SELECT is(told(invoice_of('resold'), 'not given back'), NULL, 'once');
CALL billing.set_clock('resold', '2027-05-01 00:00+00');
CALL billing.run_worker();
SELECT is(state('resold', 2) || ', ' || entries('resold'), 'open 9000 1500 7500 7500, unused_time 1500, invoice -1500', 'and the next one is paid with it');
SELECT agrees('statement');
UPDATE billing.providers SET merchant_of_record = false WHERE name = 'sandbox';

SELECT * FROM finish();

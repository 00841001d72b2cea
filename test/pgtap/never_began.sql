-- A subscription that ends before its first invoice is paid: nothing more is asked for, and what was paid of it belongs to the customer. Numbers are computed by hand.
\ir helpers.psql
\ir billing_helpers.psql
\ir given_back_helpers.psql
SELECT plan(38);

SELECT billing.configure_provider('sandbox');
SELECT billing.set_tax_rate('DE', 19, 'VAT', valid_from => '2020-01-01') AS vat, billing.set_tax_rate('MX', 16, 'IVA', valid_from => '2020-01-01') AS iva \gset
SELECT billing.create_plan('small', 'Small', 3000, 'USD') AS p1, billing.create_plan('euros', 'Euros', 3000, 'EUR') AS p2, billing.create_plan('basico', 'Básico', 30000, 'MXN') AS p3 \gset

-- One from April 1st on whose card is declined; amount: what came of its first invoice by other ways.
CREATE PROCEDURE begin_at(organization text, plan text DEFAULT 'small', country text DEFAULT 'US', amount bigint DEFAULT 1000, coupon text DEFAULT NULL, prepaid bigint DEFAULT 0,
						  balance bigint DEFAULT 0, card text DEFAULT 'pm_card_chargeCustomerFail')
LANGUAGE plpgsql AS $$
DECLARE
	customer uuid := billing.create_customer(organization, organization || '@never.example', country => country, currency => CASE plan WHEN 'euros' THEN 'EUR' ELSE 'USD' END);
BEGIN
	PERFORM billing.attach_payment_method(customer, card, set_default => true);
	IF prepaid > 0 THEN
		PERFORM billing.grant_credit(organization, prepaid);
	END IF;
	IF balance <> 0 THEN
		PERFORM billing.adjust_balance(organization, balance, 'from before');
	END IF;
	COMMIT;
	CALL billing.run_worker();
	CALL billing.set_clock(organization, '2027-04-01 00:00+00');
	PERFORM billing.subscribe(organization, plan, managed_by => 'local', coupon => coupon);
	COMMIT;
	CALL billing.run_worker();
	IF amount > 0 THEN
		PERFORM billing.mark_invoice_paid(invoice_of(organization), 'a part', amount => amount);
	END IF;
	COMMIT;
END
$$;
CREATE FUNCTION state(organization text, n integer DEFAULT 1) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' ', s.status || ':', i.status, i.amount_due, i.amount_paid, i.amount_credited, i.amount_remaining)
		FROM billing.invoices AS i JOIN billing.subscriptions AS s ON s.id = i.subscription_id WHERE i.id = invoice_of(organization, n));
-- Has nothing been asked for since, whatever card there is?
CREATE PROCEDURE another_card(organization text)
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.attach_payment_method(billing.find_customer(organization), 'pm_card_visa', set_default => true);
	COMMIT;
	CALL billing.run_worker();
	CALL billing.advance_clock(organization, '20 days');
END
$$;
CREATE FUNCTION of_account(name text, organization text) RETURNS numeric
LANGUAGE sql
RETURN (SELECT coalesce(sum(CASE WHEN l.debit = name THEN l.amount ELSE - l.amount END), 0) FROM billing.ledger AS l WHERE l.organization_id = organization AND name IN (l.debit, l.credit));

-- ---------------------------------------------------------------------------
-- It expires: 10.00 of 30.00 had come

CALL begin_at('expires');
SELECT is(state('expires'), 'incomplete: open 3000 1000 0 2000', 'a part is paid');
CALL billing.set_clock('expires', '2027-04-03 00:00+00');
SELECT is(state('expires'), 'incomplete_expired: paid 3000 1000 2000 0', 'the rest is not asked for');
SELECT is(notes('expires') || ', ' || balance('expires'), '3000 0 1000, 1000', 'a credit note of all of it gives the part to the balance');
SELECT is((SELECT reason || ' ' || status FROM billing.credit_notes WHERE organization_id = 'expires'), 'never_began issued', 'which says why');
CALL another_card('expires');
SELECT is(coalesce((SELECT string_agg(status, ', ') FROM billing.payment_intents WHERE organization_id = 'expires' AND status <> 'failed'), '-'), '-', 'nothing is charged to another card');
SELECT is(concat_ws(', ', of_account('receivable', 'expires'), of_account('revenue', 'expires'), of_account('cash_outside', 'expires'), of_account('customer_balance', 'expires')),
	'0, 0, 1000, -1000', 'nothing was sold, and the money is the customer''s');
-- the next one is paid by it: 30.00 less 10.00
SELECT billing.subscribe('expires', 'small', managed_by => 'local') AS again \gset
CALL billing.run_worker();
SELECT is(state('expires', 2) || ' ' || balance('expires'), 'active: paid 2000 2000 0 0 0', 'the next subscription is paid by it');

CALL begin_at('taxed', 'euros', 'DE');
CALL billing.set_clock('taxed', '2027-04-03 00:00+00');
SELECT is(state('taxed') || '; ' || notes('taxed') || ', ' || balance('taxed'), 'incomplete_expired: paid 3570 1000 2570 0; 3570 570 1000, 1000', 'with its tax');
SELECT is(of_account('tax_payable', 'taxed'), 0::numeric, 'no tax is owed');

-- ---------------------------------------------------------------------------
-- It is canceled, or gives way

CALL begin_at('canceled');
SELECT billing.cancel_subscription(subscription_of('canceled'), at_period_end => false);
CALL another_card('canceled');
SELECT is(state('canceled') || '; ' || notes('canceled') || ', ' || balance('canceled'), 'canceled: paid 3000 1000 2000 0; 3000 0 1000, 1000', 'canceled it is the same');

CALL begin_at('replaced');
SELECT billing.attach_payment_method(billing.find_customer('replaced'), 'pm_card_visa', set_default => true) AS card,
	   billing.subscribe('replaced', 'small', managed_by => 'local') AS again \gset
CALL billing.run_worker();
SELECT is(state('replaced'), 'incomplete_expired: paid 3000 1000 2000 0', 'one that gives way is not charged');
SELECT is(state('replaced', 2) || '; ' || balance('replaced'), 'active: paid 2000 2000 0 0; 0', 'and what was paid of it pays the other one');

-- ---------------------------------------------------------------------------
-- Paid in part by prepaid credit and balance: 5.00 and 7.00 of 30.00, and 10.00 of the rest

CALL begin_at('credits', prepaid => 500, balance => 700);
SELECT is(state('credits'), 'incomplete: open 1800 1000 0 800', 'credits pay some of it');
CALL billing.set_clock('credits', '2027-04-03 00:00+00');
SELECT is(state('credits') || '; ' || notes('credits') || ', ' || balance('credits'), 'incomplete_expired: paid 1800 1000 800 0; 3000 0 2200, 2200', 'they come back, too');

-- something was owed from before: 20.00, of which the 10.00 have paid a half
CALL begin_at('owes', balance => -2000);
SELECT is(state('owes'), 'incomplete: open 5000 1000 0 4000', 'what is owed is asked for with it');
CALL billing.set_clock('owes', '2027-04-03 00:00+00');
SELECT is(state('owes') || '; ' || notes('owes') || ', ' || balance('owes'), 'incomplete_expired: uncollectible 5000 1000 3000 1000; 3000 0 0, 0', 'that was to be paid, but nobody is charged for it');
CALL begin_at('owed', balance => -400);
CALL billing.set_clock('owed', '2027-04-03 00:00+00');
SELECT is(state('owed') || '; ' || notes('owed') || ', ' || balance('owed'), 'incomplete_expired: paid 3400 1000 2400 0; 3000 0 600, 600', 'what is paid pays it first');

-- a coupon that counts once
SELECT billing.create_coupon('once', percent => 50, duration => 'once') AS once \gset
CALL begin_at('coupon', coupon => 'once');
CALL billing.set_clock('coupon', '2027-04-03 00:00+00');
SELECT is(state('coupon') || '; ' || notes('coupon'), 'incomplete_expired: paid 1500 1000 500 0; 1500 0 1000', 'as it was billed');
SELECT is((SELECT uses || ' ' || used_up FROM billing.applied_coupons WHERE customer_id = billing.find_customer('coupon')), '0 false', 'its coupon was not used');

-- ---------------------------------------------------------------------------
-- Something of it was credited before, by a person: 5.00

CALL begin_at('noted', amount => 0);
SELECT billing.create_credit_note(invoice_of('noted'), amount => 500) AS note \gset
CALL billing.set_clock('noted', '2027-04-03 00:00+00');
SELECT is(state('noted') || '; ' || notes('noted') || ', ' || balance('noted'), 'incomplete_expired: paid 3000 0 3000 0; 500 0 0, 2500 0 0, 0', 'so is the rest, which cannot be void');
CALL begin_at('noted_paid');
SELECT billing.create_credit_note(invoice_of('noted_paid'), amount => 500) AS note \gset
CALL billing.set_clock('noted_paid', '2027-04-03 00:00+00');
SELECT is(state('noted_paid') || '; ' || notes('noted_paid') || ', ' || balance('noted_paid'), 'incomplete_expired: paid 3000 1000 2000 0; 500 0 0, 2500 0 1000, 1000', 'also where a part is paid');

-- ---------------------------------------------------------------------------
-- Given up before it ends

CALL begin_at('given_up', amount => 0);
SELECT billing.mark_invoice_uncollectible(invoice_of('given_up')) IS NULL AS given_up \gset
CALL billing.set_clock('given_up', '2027-04-03 00:00+00');
SELECT is(state('given_up'), 'incomplete_expired: void 3000 0 0 0', 'it is void then');
SELECT fails(format($$SELECT billing.mark_invoice_paid(%L, 'too late')$$, invoice_of('given_up')), 'JB008', 'is void', NULL, 'and takes no money for nothing');
CALL begin_at('given_up_paid');
SELECT billing.mark_invoice_uncollectible(invoice_of('given_up_paid')) IS NULL AS given_up \gset
SELECT billing.cancel_subscription(subscription_of('given_up_paid'), at_period_end => false);
SELECT is(state('given_up_paid') || '; ' || notes('given_up_paid') || ', ' || balance('given_up_paid'), 'canceled: paid 3000 1000 2000 0; 3000 0 1000, 1000', 'a part that was paid comes back');
SELECT is(of_account('bad_debt', 'given_up_paid'), 0::numeric, 'and is no loss');

-- ---------------------------------------------------------------------------
-- To a reference: 348.00 by OXXO, of which 100.00 come

SELECT count(billing.create_customer(o, o || '@b.example', country => 'MX', currency => 'MXN')) AS customers FROM unnest('{oxxo,void_oxxo,spei}'::text[]) AS o \gset
CALL billing.run_worker();
CALL billing.set_clock('oxxo', '2027-01-01 00:00+00');
CALL billing.set_clock('spei', '2027-01-01 00:00+00');
CALL billing.set_clock('void_oxxo', '2027-01-01 00:00+00');
SELECT billing.subscribe('oxxo', 'basico', collect_by => 'oxxo', managed_by => 'local') AS oxxo, billing.subscribe('spei', 'basico', collect_by => 'spei', managed_by => 'local') AS spei,
	   billing.subscribe('void_oxxo', 'basico', collect_by => 'oxxo', managed_by => 'local') AS void_oxxo \gset
CALL billing.run_worker();
SELECT number_to_pay(invoice_of('oxxo')) AS number, number_to_pay(invoice_of('spei')) AS clabe, number_to_pay(invoice_of('void_oxxo')) AS void_number \gset
SELECT billing.sandbox_pay_reference(:'number', 10000), billing.sandbox_pay_reference(:'clabe', 10000);
CALL billing.run_worker();
SELECT is(state('oxxo'), 'incomplete: open 34800 10000 0 24800', 'a part of the reference is paid');
CALL billing.set_clock('oxxo', '2027-02-15 00:00+00');
SELECT is(state('oxxo') || '; ' || notes('oxxo') || ', ' || balance('oxxo'), 'incomplete_expired: paid 34800 10000 24800 0; 34800 4800 10000, 10000', 'it comes back with its tax when nobody pays the rest');
SELECT is((SELECT count(*) FROM billing.payment_intents WHERE organization_id = 'oxxo' AND status IN ('pending', 'processing', 'requires_action')), 0::bigint, 'no reference waits any more');
SELECT billing.cancel_subscription(:'spei', at_period_end => false);
CALL billing.run_worker();
SELECT is(state('spei') || '; ' || balance('spei'), 'canceled: paid 34800 10000 24800 0; 10000', 'canceled before it runs out, too');
SELECT billing.sandbox_pay_reference(:'clabe', 24800);
CALL billing.run_worker();
SELECT is(state('spei') || '; ' || balance('spei'), 'canceled: paid 34800 10000 24800 0; 34800', 'who pays the rest all the same has a balance');
SELECT is((SELECT string_agg(what, ', ') FROM billing.attention WHERE organization_id = 'spei' AND object_type = 'payment_intent'), 'payment pays nothing', 'for a person to look at');
SELECT billing.cancel_subscription(:'void_oxxo', at_period_end => false);
CALL billing.run_worker();
SELECT billing.sandbox_pay_reference(:'void_number', 10000);
CALL billing.run_worker();
SELECT is(state('void_oxxo') || '; ' || balance('void_oxxo'), 'canceled: void 34800 0 0 0; 10000', 'of what is void as well');

-- ---------------------------------------------------------------------------
-- The provider is the seller: a statement has no credit notes

UPDATE billing.providers SET merchant_of_record = true WHERE name = 'sandbox';
CALL begin_at('resold');
CALL billing.set_clock('resold', '2027-04-03 00:00+00');
SELECT is(state('resold') || '; ' || balance('resold') || coalesce(notes('resold'), '-'), 'incomplete_expired: void 3000 1000 0 0; 1000-', 'it is void, and the part in the balance');
CALL another_card('resold');
SELECT is(state('resold') || '; ' || balance('resold'), 'incomplete_expired: void 3000 1000 0 0; 1000', 'once');
UPDATE billing.providers SET merchant_of_record = false WHERE name = 'sandbox';

-- ---------------------------------------------------------------------------
-- A payment that is under way may yet pay it

CALL begin_at('under_way', card => 'pm_usBankAccount_processing');
SELECT is((SELECT string_agg(status, ', ') FROM billing.payment_intents WHERE organization_id = 'under_way'), 'processing', 'a debit takes days');
SELECT fails(format('SELECT billing.cancel_subscription(%L, at_period_end => false)', subscription_of('under_way')), 'JB010', 'is being paid', NULL, 'nothing is taken back meanwhile');
CALL billing.set_clock('under_way', '2027-04-02 12:00+00');
SELECT is(state('under_way') || '; ' || coalesce(notes('under_way'), '-'), 'incomplete: open 3000 1000 0 2000; -', 'it does not expire either');
SELECT agrees('all of them');
SELECT * FROM finish();

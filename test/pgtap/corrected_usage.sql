-- Usage that was billed and turns out to be less: what is given back is what was billed for it, with its discount and its tax, up to what was paid
-- and is left of the line. Each story has an organisation of its own; numbers are computed by hand.
\ir helpers.psql
SELECT no_plan();

SELECT billing.configure_provider('sandbox');
SELECT billing.set_tax_rate('DE', 19, 'VAT', valid_from => '2020-01-01') IS NOT NULL AS taxed \gset
SELECT billing.create_meter('calls', 'sum') AS calls \gset
SELECT billing.create_plan('m', 'M', 1000, 'USD') AS p, billing.create_price('m', currency => 'USD', component => 'calls', metric => 'calls', unit_amount => 2) AS r \gset
SELECT billing.create_plan('euro', 'Euro', 1000, 'EUR') AS p, billing.create_price('euro', currency => 'EUR', component => 'calls', metric => 'calls', unit_amount => 2) AS r \gset
SELECT billing.create_plan('odd', 'Odd', 1000, 'EUR') AS p, billing.create_price('odd', currency => 'EUR', component => 'calls', metric => 'calls', unit_amount => 333) AS r \gset
SELECT billing.create_plan('tiers', 'Tiers', 1000, 'USD') AS p,
	   billing.create_price('tiers', currency => 'USD', component => 'calls', metric => 'calls', model => 'graduated',
							tiers => '[{"up_to": 100, "unit_amount": 2, "flat_amount": 50}, {"up_to": 200, "unit_amount": 1.5}, {"unit_amount": 0.333}]') AS r \gset
SELECT billing.create_plan('volume', 'Volume', 1000, 'USD') AS p,
	   billing.create_price('volume', currency => 'USD', component => 'calls', metric => 'calls', model => 'volume', tiers => '[{"up_to": 100, "unit_amount": 2}, {"unit_amount": 1}]') AS r \gset
SELECT billing.create_plan('commit', 'Commit', 1000, 'USD') AS p,
	   billing.create_price('commit', currency => 'USD', component => 'calls', metric => 'calls', unit_amount => 2, commitment => 3000) AS r \gset
SELECT billing.create_plan('thirty', 'Free units', 1000, 'USD') AS p,
	   billing.create_price('thirty', currency => 'USD', component => 'calls', metric => 'calls', unit_amount => 2, free_units => 30) AS r \gset
SELECT billing.create_coupon('HALF', percent => 50, duration => 'repeating', months => 2) AS half,
	   billing.create_coupon('TENTH', percent => 10, duration => 'repeating', months => 2, components => '{calls}') AS tenth \gset

-- Subscribed on April 1st, and it is the 15th; what is due is paid by card at once, or waits to be paid.
CREATE PROCEDURE begin_at(organization text, plan text DEFAULT 'm', country text DEFAULT NULL, coupon text DEFAULT NULL, card boolean DEFAULT true)
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.create_customer(organization, organization || '@usage.example', country => country, currency => CASE WHEN plan IN ('euro', 'odd') THEN 'EUR' END);
	COMMIT;
	CALL billing.set_clock(organization, '2027-04-01 00:00+00');
	IF card THEN
		PERFORM billing.attach_payment_method(billing.find_customer(organization), 'pm_card_visa', set_default => true);
	END IF;
	COMMIT;
	CALL billing.run_worker();
	PERFORM billing.subscribe(organization, plan, managed_by => 'local', coupon => coupon, collection_method => CASE WHEN NOT card THEN 'send_invoice' END,
							  days_until_due => CASE WHEN NOT card THEN 300 END);
	COMMIT;
	CALL billing.run_worker();
	CALL billing.set_clock(organization, '2027-04-15 00:00+00');
END
$$;
CREATE FUNCTION used(organization text, quantity numeric, day date) RETURNS boolean
LANGUAGE sql
RETURN billing.record_usage(organization, 'calls', quantity, day + time '12:00' AT TIME ZONE 'UTC');
-- The nth event of an organisation.
CREATE FUNCTION event(organization text, n integer DEFAULT 1) RETURNS uuid
LANGUAGE sql
RETURN (SELECT e.id FROM billing.usage_events AS e WHERE e.organization_id = organization AND e.kind = 'usage' ORDER BY e.id LIMIT 1 OFFSET n - 1);
-- Usage on invoices: month that it was used in, amount less discount, tax.
CREATE FUNCTION usage_of(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', to_char(i.period_start AT TIME ZONE 'UTC', 'MM'), l.amount - l.discount, nullif(l.tax, 0)) || CASE WHEN l.reverses IS NULL THEN '' ELSE ' back' END,
								  ', ' ORDER BY l.id)
		FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id
		WHERE i.organization_id = organization AND l.kind = 'usage' AND (l.amount <> 0 OR l.reverses IS NOT NULL));
CREATE FUNCTION totals(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(i.total::text, ', ' ORDER BY i.id) FROM billing.invoices AS i WHERE i.organization_id = organization);
CREATE FUNCTION balance(organization text) RETURNS bigint
LANGUAGE sql
RETURN coalesce((SELECT b.balance FROM billing.customer_balances AS b WHERE b.organization_id = organization), 0);
CREATE FUNCTION invoice_of(organization text, n integer) RETURNS uuid
LANGUAGE sql
RETURN (SELECT i.id FROM billing.invoices AS i WHERE i.organization_id = organization ORDER BY i.id LIMIT 1 OFFSET n - 1);

-- ---------------------------------------------------------------------------
-- Discount and tax go back in proportion

CALL begin_at('half', 'euro', 'DE', 'HALF');
SELECT used('half', 1000, '2027-04-10') AS used \gset
CALL billing.set_clock('half', '2027-05-03 00:00+00');
SELECT is(usage_of('half'), '05 1000 190', '1000 calls at 2, half off, and 19 % on that');
SELECT billing.void_usage('half', event('half')) AS void \gset
SELECT is((SELECT string_agg(kind || ' ' || amount || ' ' || tax, ', ' ORDER BY kind, amount) FROM billing.preview_invoice(subscription_of('half'))), 'base 1000 190, tax 0 0, usage -1000 -190', 'the next invoice gives that back');
CALL billing.set_clock('half', '2027-06-03 00:00+00');
SELECT is(usage_of('half'), '05 1000 190, 06 -1000 -190 back', 'as it was billed, though no discount is left');
SELECT is(totals('half') || ' ' || balance('half'), '595, 1785, 0 0', 'so calls cost nothing in the end');
SELECT is((SELECT description FROM billing.invoice_lines WHERE taken_off = 2000), 'calls, corrected', 'it is said');

-- 3 calls at 333 are 999; a tenth off is 99.9, so 100; 1899 with the base at 19 % are 361, of which 171 on 899
CALL begin_at('odd', 'odd', 'DE', 'TENTH');
SELECT used('odd', 1, '2027-04-10'), used('odd', 1, '2027-04-11'), used('odd', 1, '2027-04-12') AS used \gset
CALL billing.set_clock('odd', '2027-05-03 00:00+00');
SELECT is(usage_of('odd'), '05 899 171', 'what was billed');
SELECT billing.void_usage('odd', event('odd', 1)) AS void \gset
CALL billing.set_clock('odd', '2027-06-03 00:00+00');
SELECT is(usage_of('odd'), '05 899 171, 06 -300 -57 back', 'a third: 333 less 33 of the discount, 171 x 300 / 899 of the tax');
SELECT used('odd', 1, '2027-04-13') AS used \gset
CALL billing.set_clock('odd', '2027-07-03 00:00+00');
SELECT is(usage_of('odd'), '05 899 171, 06 -300 -57 back, 07 333 63', 'recorded again it is a line of its invoice: no discount any more, its tax');
SELECT billing.void_usage('odd', event('odd', 4)) AS void \gset
CALL billing.set_clock('odd', '2027-08-03 00:00+00');
SELECT is(usage_of('odd'), '05 899 171, 06 -300 -57 back, 07 333 63, 08 -333 -63 back', 'void again, that line goes back');
SELECT billing.void_usage('odd', event('odd', 2)) AS void \gset
CALL billing.set_clock('odd', '2027-09-03 00:00+00');
SELECT is(usage_of('odd'), '05 899 171, 06 -300 -57 back, 07 333 63, 08 -333 -63 back, 09 -299 -57 back', 'two thirds: 666 less 67 is 599, less the 300 of before');
SELECT billing.void_usage('odd', event('odd', 3)) AS void \gset
CALL billing.set_clock('odd', '2027-10-03 00:00+00');
SELECT is((SELECT sum(amount - discount) || ' ' || sum(tax) FROM billing.invoice_lines WHERE kind = 'usage' AND subscription_id = subscription_of('odd')), '0 0', 'all of it is nothing, to the cent');

-- ---------------------------------------------------------------------------
-- The price of the period, whatever it is by then

CREATE PROCEDURE dearer(organization text)
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.create_plan(organization, organization, 1000, 'USD'), billing.create_price(organization, currency => 'USD', component => 'calls', metric => 'calls', unit_amount => 2);
	COMMIT;
	CALL begin_at(organization, organization);
	PERFORM billing.create_price(organization, currency => 'USD', component => 'calls', metric => 'calls', unit_amount => 5, effective_at => '2027-05-01', existing => 'renewal');
	PERFORM used(organization, 100, '2027-04-10');
	COMMIT;
	CALL billing.set_clock(organization, '2027-05-03 00:00+00');
END
$$;
CALL dearer('late');
SELECT used('late', 10, '2027-04-11') AS used \gset
CALL billing.set_clock('late', '2027-06-03 00:00+00');
SELECT is(usage_of('late'), '05 200, 06 20', 'ten late ones at 2');
CALL dearer('voided');
SELECT billing.void_usage('voided', event('voided')) AS void \gset
CALL billing.set_clock('voided', '2027-06-03 00:00+00');
SELECT is(usage_of('voided'), '05 200, 06 -200 back', 'a hundred void ones at 2');
CALL dearer('ninety');
SELECT billing.correct_usage('ninety', event('ninety'), 90) AS corrected \gset
CALL billing.set_clock('ninety', '2027-06-03 00:00+00');
SELECT is(usage_of('ninety'), '05 200, 06 -20 back', 'ten of a hundred at 2');
CALL dearer('moved');
SELECT billing.update_subscription(subscription_of('moved'), plan => 'volume') AS s \gset
SELECT billing.void_usage('moved', event('moved')) AS void \gset
CALL billing.set_clock('moved', '2027-06-03 00:00+00');
SELECT is(usage_of('moved'), '05 200, 06 -200 back', 'also in another plan');

-- ---------------------------------------------------------------------------
-- A part of a period

CALL begin_at('part', 'commit');
SELECT used('part', 100, '2027-04-10') AS used \gset
CALL billing.set_clock('part', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('part'), plan => 'thirty') AS s \gset
CALL billing.set_clock('part', '2027-04-20 00:00+00');
SELECT used('part', 30, '2027-04-12') AS used \gset
CALL billing.set_clock('part', '2027-05-03 00:00+00');
SELECT used('part', 40, '2027-04-12') AS used \gset
CALL billing.set_clock('part', '2027-06-03 00:00+00');
SELECT is(usage_of('part'), '05 200, 05 1300', '170 calls stay within the commitment of half a month');

-- 1000 calls cost 2000, 600 only 1200: 1500 are due in any case
CALL begin_at('open_part', 'commit');
SELECT used('open_part', 600, '2027-04-10'), used('open_part', 400, '2027-04-11') AS used \gset
CALL billing.set_clock('open_part', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('open_part'), plan => 'thirty') AS s \gset
CALL billing.set_clock('open_part', '2027-04-20 00:00+00');
SELECT billing.void_usage('open_part', event('open_part', 2)) AS void \gset
CALL billing.set_clock('open_part', '2027-05-03 00:00+00');
SELECT is(usage_of('open_part'), '05 1200, 05 300', 'what nobody was billed for yet is billed as if it had been known');
SELECT billing.void_usage('open_part', event('open_part', 1)) AS void \gset
CALL billing.set_clock('open_part', '2027-06-03 00:00+00');
SELECT is(usage_of('open_part'), '05 1200, 05 300', 'a commitment is not given back');
CALL begin_at('two_lines');
SELECT used('two_lines', 100, '2027-04-10') AS used \gset
CALL billing.set_clock('two_lines', '2027-05-03 00:00+00');
SELECT used('two_lines', 50, '2027-04-11') AS used \gset
SELECT billing.update_subscription(subscription_of('two_lines'), plan => 'volume') AS s \gset
SELECT billing.void_usage('two_lines', event('two_lines', 1)) AS void \gset
CALL billing.set_clock('two_lines', '2027-06-03 00:00+00');
SELECT is(usage_of('two_lines'), '05 200, 06 -100 back', 'what waits goes first, then what is billed');

-- ---------------------------------------------------------------------------
-- Tiers

-- 250 calls: 50, 100 x 2, 100 x 1.5 and 50 x 0.333 (16.65); 130 calls: 295
CALL begin_at('tiers', 'tiers');
SELECT used('tiers', 130, '2027-04-10'), used('tiers', 120, '2027-04-11') AS used \gset
CALL billing.set_clock('tiers', '2027-05-03 00:00+00');
SELECT billing.void_usage('tiers', event('tiers', 2)) AS void \gset
CALL billing.set_clock('tiers', '2027-06-03 00:00+00');
SELECT is(usage_of('tiers'), '05 50, 05 200, 05 150, 05 17, 06 50, 06 -17 back, 06 -105 back', 'the last tiers go first; no call in May is the fee of the first');
SELECT is((SELECT string_agg(amount || ' ' || description, ', ' ORDER BY id) FROM billing.invoice_lines WHERE taken_off > 0 AND subscription_id = subscription_of('tiers')),
		  '-17 calls: tier 3, corrected, -105 calls: tier 2, corrected', 'and are named');

-- 100 calls at 2, one more makes all of them cost 1
CALL begin_at('volume', 'volume');
SELECT used('volume', 100, '2027-04-10') AS used \gset
CALL billing.set_clock('volume', '2027-05-03 00:00+00');
SELECT used('volume', 1, '2027-04-11') AS used \gset
CALL billing.set_clock('volume', '2027-06-03 00:00+00');
SELECT is(usage_of('volume'), '05 200, 06 -99 back', 'more usage may cost less');
SELECT billing.void_usage('volume', event('volume', 2)) AS void \gset
CALL billing.set_clock('volume', '2027-07-03 00:00+00');
SELECT is(usage_of('volume'), '05 200, 06 -99 back, 07 99', 'and less more');

-- ---------------------------------------------------------------------------
-- What was paid, and what is left of it

CALL begin_at('noted');
SELECT used('noted', 100, '2027-04-10') AS used \gset
CALL billing.set_clock('noted', '2027-05-03 00:00+00');
SELECT billing.create_credit_note(invoice_of('noted', 2)) AS note \gset
CALL billing.run_worker();
SELECT billing.void_usage('noted', event('noted')) AS void \gset
CALL billing.set_clock('noted', '2027-06-03 00:00+00');
SELECT is(usage_of('noted') || ', ' || balance('noted'), '05 200, 06 0 back, 200', 'what a credit note gave back is not given back again: 1200 less the 1000 of June');

CALL begin_at('refunded');
SELECT used('refunded', 100, '2027-04-10') AS used \gset
CALL billing.set_clock('refunded', '2027-05-03 00:00+00');
SELECT billing.create_refund(p.id, amount => 1100) AS refund FROM billing.payment_intents AS p WHERE p.invoice_id = invoice_of('refunded', 2) \gset
CALL billing.run_worker();
SELECT billing.void_usage('refunded', event('refunded')) AS void \gset
CALL billing.set_clock('refunded', '2027-06-03 00:00+00');
SELECT is(usage_of('refunded'), '05 200, 06 -100 back', 'nor what a refund did: 100 of 1200 are left');

CALL begin_at('unpaid', 'euro', 'DE', card => false);
SELECT used('unpaid', 100, '2027-04-10') AS used \gset
CALL billing.set_clock('unpaid', '2027-05-03 00:00+00');
SELECT billing.correct_usage('unpaid', event('unpaid'), 60) AS corrected \gset
CALL billing.set_clock('unpaid', '2027-06-03 00:00+00');
SELECT billing.correct_usage('unpaid', event('unpaid'), 50) AS corrected \gset
CALL billing.set_clock('unpaid', '2027-07-03 00:00+00');
SELECT is(usage_of('unpaid') || ', ' || balance('unpaid'), '05 200 38, 06 0 back, 07 0 back, 0', 'what is not paid is not given back');
SELECT billing.mark_invoice_paid(invoice_of('unpaid', 2), 'by transfer') AS paid \gset
SELECT is((SELECT string_agg(total || ' ' || tax, ', ') FROM billing.credit_notes WHERE organization_id = 'unpaid') || ', ' || balance('unpaid'), '119 19, 119', 'until it is: half of 200, with its tax');
SELECT billing.void_usage('unpaid', event('unpaid')) AS void \gset
CALL billing.set_clock('unpaid', '2027-08-03 00:00+00');
SELECT is(usage_of('unpaid'), '05 200 38, 06 0 back, 07 0 back, 08 -100 -19 back', 'the rest goes back by the next invoice');

CALL begin_at('void', card => false);
SELECT used('void', 100, '2027-04-10') AS used \gset
CALL billing.set_clock('void', '2027-05-03 00:00+00');
SELECT billing.void_invoice(invoice_of('void', 2));
SELECT billing.void_usage('void', event('void')) AS void \gset
CALL billing.set_clock('void', '2027-06-03 00:00+00');
SELECT is(totals('void'), '1000, 1200, 1000', 'nothing is given back of a void invoice');

CALL begin_at('kept');
SELECT used('kept', 100, '2027-04-10') AS used \gset
CALL billing.set_clock('kept', '2027-05-03 00:00+00');
SELECT billing.void_usage('kept', event('kept')) AS void \gset
SELECT billing.attach_payment_method(billing.find_customer('kept'), 'pm_card_chargeCustomerFail', set_default => true) AS card \gset
CALL billing.run_worker();
CALL billing.set_clock('kept', '2027-06-03 00:00+00');
SELECT fails(format('SELECT billing.void_invoice(%L)', invoice_of('kept', 3)), 'JB008', '^invoice ".*" gives back usage$', 'mark_invoice_uncollectible', 'nor is an invoice voided that gives usage back');
SELECT fails(format('SELECT billing.void_invoice(%L)', invoice_of('kept', 2)), 'JB008', '', NULL, 'or one that was given back');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'the books are in balance');
\ir ../proof/proof.sql
SELECT is_empty('SELECT rule, detail FROM proof.violations()', 'an independent check finds nothing');
SELECT * FROM finish();

-- What a credit note gave back of a line is not given back again when the rest of its period is. Numbers are computed by hand.
\ir helpers.psql
SELECT plan(10);

SELECT billing.configure_provider('sandbox');
SELECT billing.set_tax_rate('DE', 20, 'VAT', valid_from => '2020-01-01') IS NOT NULL AS taxed \gset
SELECT billing.create_plan('small', 'Small', 3000, 'EUR') AS p1, billing.create_plan('large', 'Large', 6000, 'EUR') AS p2, billing.create_plan('team', 'Team', 1000, 'EUR') AS p3 \gset
SELECT billing.create_price('team', 2000, 'EUR', component => 'seats') AS seats \gset

-- An organisation with a local subscription from April 1st on, whose first invoice is open.
CREATE PROCEDURE begin_at(organization text, plan text DEFAULT 'small', country text DEFAULT 'DE')
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.create_customer(organization, country => country, currency => 'EUR');
	COMMIT;
	CALL billing.run_worker();
	CALL billing.set_clock(organization, '2027-04-01 00:00+00');
	PERFORM billing.subscribe(organization, plan, collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local');
	COMMIT;
	CALL billing.run_worker();
END
$$;
CREATE FUNCTION invoice_of(organization text) RETURNS uuid
LANGUAGE sql
RETURN (SELECT i.id FROM billing.invoices AS i WHERE i.organization_id = organization ORDER BY i.id LIMIT 1);
CREATE FUNCTION line_of(organization text, component text DEFAULT 'base') RETURNS uuid
LANGUAGE sql
RETURN (SELECT l.id FROM billing.invoice_lines AS l WHERE l.invoice_id = invoice_of(organization) AND l.component = line_of.component);
CREATE FUNCTION note(organization text, amount bigint, component text DEFAULT 'base') RETURNS uuid
LANGUAGE sql
RETURN billing.create_credit_note(invoice_of(organization), jsonb_build_array(jsonb_build_object('line', line_of(organization, component), 'amount', amount)));
CREATE FUNCTION waits(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(l.kind || ' ' || l.amount || ' ' || l.tax, ', ' ORDER BY l.id) FROM billing.invoice_lines AS l WHERE l.invoice_id IS NULL AND l.subscription_id = subscription_of(organization));

-- ---------------------------------------------------------------------------
-- 30.00 and 6.00 tax for April; on the 16th half of it is left

CALL begin_at('all');
SELECT billing.mark_invoice_paid(invoice_of('all'), 'by transfer'), note('all', 3600) IS NOT NULL AS noted \gset
CALL billing.set_clock('all', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('all'), plan => 'large');
SELECT is(waits('all'), 'proration_credit 0 0, proration_debit 3000 0', 'a line that was taken back as a whole has nothing to give');

CALL begin_at('some');
SELECT billing.mark_invoice_paid(invoice_of('some'), 'by transfer'), note('some', 3000) IS NOT NULL AS noted \gset
CALL billing.set_clock('some', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('some'), plan => 'large');
SELECT is(waits('some'), 'proration_credit -500 -100, proration_debit 3000 0', 'of 36.00 and a note of 30.00 the rest is 6.00, with its tax');
SELECT billing.update_subscription(subscription_of('some'), plan => 'small');
SELECT is(waits('some'), NULL, 'back in the same instant what the note gave is not billed again');
CALL billing.set_clock('some', '2027-04-16 12:00+00');
SELECT billing.cancel_subscription(subscription_of('some'), at_period_end => false, prorate => true);
SELECT is((SELECT total FROM billing.invoices WHERE organization_id = 'some' ORDER BY id DESC LIMIT 1), -600::bigint, 'and an end gives the same 6.00 back');

CALL begin_at('little');
SELECT billing.mark_invoice_paid(invoice_of('little'), 'by transfer'), note('little', 600) IS NOT NULL AS noted \gset
CALL billing.set_clock('little', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('little'), plan => 'large', proration_behavior => 'always_invoice');
SELECT results_eq($$SELECT l.kind, l.amount FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id
	WHERE i.organization_id = 'little' AND l.kind LIKE 'proration%' ORDER BY l.position$$,
	$$VALUES ('proration_credit', -1500::bigint), ('proration_debit', 3000)$$, 'a note of what was used leaves the rest as it is');
CALL billing.run_worker();
SELECT fails(format($$SELECT billing.create_credit_note(%L, amount => 1201)$$, invoice_of('little')), '22023', 'left', NULL, 'a note cannot take more than both have left: 36.00 - 6.00 - 18.00');
SELECT billing.update_subscription(subscription_of('little'), plan => 'small', proration_behavior => 'always_invoice');
SELECT is((SELECT sum(total) FROM billing.invoices WHERE organization_id = 'little' AND billing_reason = 'subscription_update'), 0::numeric, 'and back in the same instant: in all nothing');

-- ---------------------------------------------------------------------------
-- Not paid, and two lines

CALL begin_at('open');
SELECT note('open', 1200) IS NOT NULL AS noted \gset
CALL billing.set_clock('open', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('open'), plan => 'large');
SELECT is(waits('open'), 'proration_credit 0 0, proration_debit 3000 0', 'a note on an open invoice is no payment');

CALL begin_at('team', 'team', 'US');
SELECT billing.mark_invoice_paid(invoice_of('team'), 'by transfer', amount => 300), note('team', 2000, 'seats') IS NOT NULL AS noted \gset
CALL billing.set_clock('team', '2027-04-16 00:00+00');
SELECT billing.cancel_subscription(subscription_of('team'), at_period_end => false, prorate => true);
SELECT results_eq($$SELECT l.component, l.amount FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id
	WHERE i.organization_id = 'team' AND l.kind = 'proration_credit' ORDER BY l.component$$,
	$$VALUES ('base', -300::bigint), ('seats', 0)$$, 'what is paid of the other line is given back, nothing of the one that the note took');
SELECT is_empty($$SELECT * FROM billing.ledger_imbalance$$, 'the books balance');

SELECT * FROM finish();

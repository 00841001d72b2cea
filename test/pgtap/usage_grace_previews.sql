-- Previews while a draft waits for late usage: it is the next invoice.
\ir helpers.psql
SELECT plan(17);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_meter('calls', 'sum') AS calls \gset
SELECT billing.create_plan('thirty', 'Thirty', 1000, 'EUR') AS thirty, billing.create_plan('pack', 'Pack', 1000, 'EUR') AS pack \gset
SELECT billing.create_price('thirty', NULL, 'EUR', component => 'calls', metric => 'calls', unit_amount => 2, free_units => 30) AS thirty_calls,
	   billing.create_price('pack', 500, 'EUR', component => 'calls', metric => 'calls', model => 'package', package_size => 100) AS pack_calls,
	   billing.set_tax_rate('DE', 10, 'VAT', valid_from => '2026-01-01') AS tenth,
	   billing.create_coupon('HALF', percent => 50, duration => 'forever') AS half \gset

-- From the 1st of April on; 130 calls are used in April, and it is the 1st of May.
CREATE PROCEDURE begins(organization text, coupon text DEFAULT NULL)
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.create_customer(organization, country => 'DE', currency => 'EUR');
	COMMIT;
	CALL billing.run_worker();
	CALL billing.set_clock(organization, '2027-04-01 00:00+00');
	PERFORM billing.subscribe(organization, 'thirty', 'pm_card_visa', managed_by => 'local', coupon => coupon);
	COMMIT;
	CALL billing.set_clock(organization, '2027-04-20 00:00+00');
	PERFORM billing.record_usage(organization, 'calls', 130);
	COMMIT;
	CALL billing.set_clock(organization, '2027-05-01 00:20+00');
END
$$;
CREATE FUNCTION as_line(l billing.preview_line) RETURNS text
LANGUAGE sql
RETURN concat_ws(' ', l.kind, l.component, l.description, l.quantity::double precision, l.amount, l.discount, l.tax, l.period_start, l.period_end);
CREATE FUNCTION billed(organization text, nth integer) RETURNS SETOF text
LANGUAGE sql
BEGIN ATOMIC
	SELECT concat_ws(' ', l.kind, l.component, l.description, l.quantity::double precision, l.amount, l.discount, l.tax, l.period_start, l.period_end)
	FROM billing.invoice_lines AS l
	WHERE l.invoice_id = (SELECT i.id FROM billing.invoices AS i WHERE i.organization_id = organization ORDER BY i.id OFFSET nth - 1 LIMIT 1)
	ORDER BY l.position;
END;
CREATE FUNCTION amounts(lines billing.preview_line[]) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', l.invoice, l.kind, l.amount), ', ' ORDER BY l.invoice, l.position) || ': ' || max(l.total) FROM unnest(lines) AS l);

-- ---------------------------------------------------------------------------
-- The next invoice, and all until a day

CALL begins('foresees', 'HALF');
CREATE TEMP TABLE next AS SELECT p FROM billing.preview_invoice(subscription_of('foresees')) AS p;
CREATE TEMP TABLE months AS SELECT p FROM billing.simulate('foresees', '2027-06-01 02:00+00') AS p;
-- half of 10.00 and of 2.00, and a tenth of it
SELECT is(amounts(ARRAY(SELECT p FROM next)), '1 base 1000, 1 usage 0, 1 usage 200, 1 discount -600, 1 tax 60: 660', 'the draft that waits is the next invoice, with the usage so far, discount and tax');
SELECT is((SELECT max((p).made_at) FROM next), '2027-05-01 00:00+00'::timestamptz, 'it is of the time that it was made');
SELECT is(amounts(ARRAY(SELECT p FROM months WHERE (p).invoice = 1)), '1 base 1000, 1 usage 0, 1 usage 200, 1 discount -600, 1 tax 60: 660', 'and the first one of all that come');
SELECT is(amounts(ARRAY(SELECT p FROM months WHERE (p).invoice > 1)), '2 base 1000, 2 discount -500, 2 tax 50: 550', 'before the one of June');
SELECT is(amounts(ARRAY(SELECT p FROM billing.preview_invoice(organization_id => 'foresees') AS p)), amounts(ARRAY(SELECT p FROM next)), 'the organisation has the same');
SELECT is((SELECT total FROM billing.invoices WHERE organization_id = 'foresees' AND status = 'draft'), 1000::bigint, 'nothing is written');
CALL billing.set_clock('foresees', '2027-06-01 02:00+00');
SELECT results_eq($$SELECT billed('foresees', 2)$$, $$SELECT as_line(p) FROM next ORDER BY (p).position$$, 'it comes as it was told');
SELECT results_eq($$SELECT billed('foresees', n) FROM generate_series(2, 3) AS n$$, $$SELECT as_line(p) FROM months ORDER BY (p).invoice, (p).position$$, 'and so do all of them');

-- ---------------------------------------------------------------------------
-- A change within the hour

CALL begins('changes');
CREATE TEMP TABLE change AS SELECT p FROM billing.preview_update(subscription_of('changes'), plan => 'pack') AS p;
-- the usage of April is billed with the change or without
SELECT is(amounts(ARRAY(SELECT p FROM change)), 'base -1000, proration_debit 1000: 0', 'what the change takes off the draft, and adds to it');
SELECT is((SELECT string_agg((p).discount || ' ' || (p).tax, ', ' ORDER BY (p).position) FROM change), '0 -100, 0 100', 'with its tax');
SELECT billing.update_subscription(subscription_of('changes'), plan => 'pack', proration_date => (SELECT max((p).proration_date) FROM change)) IS NOT NULL AS changed \gset
CREATE TEMP TABLE at_last AS SELECT p FROM billing.preview_invoice(subscription_of('changes')) AS p;
SELECT is(amounts(ARRAY(SELECT p FROM at_last)), '1 usage 0, 1 usage 200, 1 proration_debit 1000, 1 tax 120: 1320', 'the next invoice has it');
CALL billing.set_clock('changes', '2027-05-01 01:10+00');
SELECT results_eq($$SELECT billed('changes', 2)$$, $$SELECT as_line(p) FROM at_last ORDER BY (p).position$$, 'and is billed as it was told');

CALL begins('planned');
SELECT billing.update_subscription(subscription_of('planned'), cancel_at => '2027-05-01 00:40+00') IS NOT NULL AS planned \gset
SELECT billing.create_price('thirty', 2000, 'EUR', effective_at => '2027-05-01 00:30+00', existing => 'now') IS NOT NULL AS dearer \gset
CREATE TEMP TABLE ends AS SELECT p FROM billing.simulate('planned', '2027-07-01') AS p;
-- 30 minutes of 10.00 are 1
SELECT is(amounts(ARRAY(SELECT p FROM ends)), '1 base 1, 1 proration_debit 1999, 1 usage 0, 1 usage 200, 1 tax 220: 2420', 'what is planned within the hour is on the draft, too');
CALL billing.set_clock('planned', '2027-05-01 00:50+00');
SELECT is((SELECT status FROM billing.subscriptions WHERE organization_id = 'planned'), 'canceled', 'it has ended');
SELECT is(amounts(ARRAY(SELECT p FROM billing.simulate('planned', '2027-07-01') AS p)), amounts(ARRAY(SELECT p FROM ends)), 'what it leaves waiting is told');
CALL billing.set_clock('planned', '2027-07-01 00:00+00');
SELECT results_eq($$SELECT billed('planned', 2)$$, $$SELECT as_line(p) FROM ends ORDER BY (p).position$$, 'it comes as it was told');
SELECT is((SELECT count(*) FROM billing.invoices WHERE organization_id = 'planned'), 2::bigint, 'and nothing else');
SELECT * FROM finish();

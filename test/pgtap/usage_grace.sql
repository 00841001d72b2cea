-- A draft that waits for late usage is the next invoice: what changes meanwhile stands on it, and it says what its lines say.
\ir helpers.psql
SELECT plan(31);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_meter('calls', 'sum') AS calls \gset
SELECT billing.create_plan('thirty', 'Thirty', 1000, 'USD') AS thirty, billing.create_plan('pack', 'Pack', 1000, 'USD') AS pack, billing.create_plan('crew', 'Crew', 1000, 'USD') AS crew,
	   billing.create_plan('gratis', 'Gratis', 0, 'USD') AS gratis \gset
SELECT billing.create_price('thirty', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 2, free_units => 30) AS thirty_calls,
	   billing.create_price('pack', 500, 'USD', component => 'calls', metric => 'calls', model => 'package', package_size => 100) AS pack_calls,
	   billing.create_price('crew', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 2) AS crew_calls,
	   billing.create_price('crew', 310, 'USD', component => 'seats') AS crew_seats \gset

-- From the 1st of April on; 130 calls are used in April, and it is the 1st of May.
CREATE PROCEDURE begins(organization text, plan text, used integer DEFAULT 130, at timestamptz DEFAULT '2027-05-01 00:20+00')
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.create_customer(organization);
	COMMIT;
	CALL billing.run_worker();
	CALL billing.set_clock(organization, '2027-04-01 00:00+00');
	PERFORM billing.subscribe(organization, plan, 'pm_card_visa', managed_by => 'local');
	COMMIT;
	CALL billing.set_clock(organization, '2027-04-20 00:00+00');
	IF used > 0 THEN
		PERFORM billing.record_usage(organization, 'calls', used);
	END IF;
	COMMIT;
	CALL billing.set_clock(organization, at);
END
$$;
-- The invoices of an organisation from May on: status, total, lines.
CREATE FUNCTION invoices(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', to_char(i.issued_at AT TIME ZONE 'UTC', 'MM-DD'), i.status, i.total) || ': ' || coalesce(i.lines, 'no line'), '; ' ORDER BY i.id)
		FROM (SELECT n.*, (SELECT string_agg(l.kind || ' ' || l.amount, ', ' ORDER BY l.position) FROM billing.invoice_lines AS l WHERE l.invoice_id = n.id) AS lines
			  FROM billing.invoices AS n WHERE n.organization_id = organization AND n.issued_at >= '2027-05-01 00:00+00') AS i);
CREATE FUNCTION waiting(organization text) RETURNS bigint
LANGUAGE sql
RETURN (SELECT count(*) FROM billing.invoice_lines AS l JOIN billing.subscriptions AS s ON s.id = l.subscription_id WHERE s.organization_id = organization AND l.invoice_id IS NULL);

-- ---------------------------------------------------------------------------
-- A plan that changes within the hour

-- 20 minutes of 10.00 are 0
CALL begins('changes', 'thirty');
SELECT is(invoices('changes'), '05-01 draft 1000: base 1000', 'the draft waits for what comes late');
SELECT billing.update_subscription(subscription_of('changes'), plan => 'pack') IS NOT NULL AS changed \gset
SELECT is(invoices('changes'), '05-01 draft 1200: usage 0, usage 200, proration_debit 1000', 'the rest of the month stands on it, and it is what its lines are');
SELECT is(waiting('changes'), 0::bigint, 'nothing waits for the invoice after it');
CALL billing.set_clock('changes', '2027-05-01 01:10+00');
SELECT is(invoices('changes'), '05-01 paid 1200: usage 0, usage 200, proration_debit 1000', 'May is billed in May');
CALL billing.set_clock('changes', '2027-06-01 01:10+00');
SELECT is(invoices('changes'), '05-01 paid 1200: usage 0, usage 200, proration_debit 1000; 06-01 paid 1000: base 1000', 'and June in June');

CALL begins('quiet', 'thirty', 0);
SELECT billing.update_subscription(subscription_of('quiet'), plan => 'pack') IS NOT NULL AS changed \gset
CALL billing.set_clock('quiet', '2027-05-01 01:10+00');
SELECT is(invoices('quiet'), '05-01 paid 1000: proration_debit 1000', 'without usage there is an invoice as well');

CALL begins('now', 'thirty');
SELECT billing.update_subscription(subscription_of('now'), plan => 'pack', proration_behavior => 'always_invoice') IS NOT NULL AS changed \gset
CALL billing.set_clock('now', '2027-05-01 01:10+00');
SELECT is(invoices('now'), '05-01 paid 1200: base 1000, usage 0, usage 200; 05-01 paid 0: proration_credit -1000, proration_debit 1000', 'always_invoice does not wait: the draft is final first, and then there is one of the change');

-- ---------------------------------------------------------------------------
-- There and back

CALL begins('back', 'thirty');
SELECT billing.update_subscription(subscription_of('back'), plan => 'pack') IS NOT NULL AS changed \gset
SELECT billing.update_subscription(subscription_of('back'), plan => 'thirty') IS NOT NULL AS changed \gset
SELECT is(invoices('back'), '05-01 draft 1200: usage 0, usage 200, proration_debit 1000', 'in the same instant it nets to zero');
CALL billing.set_clock('back', '2027-06-01 01:10+00');
SELECT is(invoices('back'), '05-01 paid 1200: usage 0, usage 200, proration_debit 1000; 06-01 paid 1000: base 1000', 'and all of it is billed once');

-- ---------------------------------------------------------------------------
-- Further changes; 310 are 10 a day in May

UPDATE billing.settings SET value = '20 days' WHERE name = 'usage_grace';
CALL begins('seats', 'crew', 100, '2027-05-06 00:00+00');
SELECT is(invoices('seats'), '05-01 draft 1310: base 1000, seats 310', 'a draft that waits for 20 days');
SELECT billing.update_subscription(subscription_of('seats'), quantity => 3) IS NOT NULL AS changed \gset
SELECT is(invoices('seats'), '05-01 draft 1830: base 1000, seats 50, proration_debit 780', 'five days of a seat, 26 of three');
CALL billing.set_clock('seats', '2027-05-16 00:00+00');
SELECT billing.update_subscription(subscription_of('seats'), quantity => 2) IS NOT NULL AS changed \gset
SELECT is(invoices('seats'), '05-01 draft 1670: base 1000, seats 50, proration_debit 300, proration_debit 320', 'the next change cuts the line on the draft');
SELECT is((SELECT string_agg(concat_ws(' ', l.period_start::date, l.period_end::date), ', ' ORDER BY l.position) FROM billing.invoice_lines AS l
			WHERE l.subscription_id = subscription_of('seats') AND l.kind = 'proration_debit'), '2027-05-06 2027-05-16, 2027-05-16 2027-06-01', 'to the day');
CALL billing.set_clock('seats', '2027-05-21 01:00+00');
SELECT is(invoices('seats'), '05-21 paid 1870: base 1000, seats 50, proration_debit 300, proration_debit 320, usage 200', 'and it is billed with the usage of April');
SELECT billing.update_subscription(subscription_of('seats'), quantity => 1) IS NOT NULL AS changed \gset
SELECT is(waiting('seats'), 2::bigint, 'a change after it waits for the next one');

-- ---------------------------------------------------------------------------
-- To be invoiced now makes the draft final first

CALL begins('credits', 'crew', 100, '2027-05-06 00:00+00');
SELECT billing.update_subscription(subscription_of('credits'), quantity => 3, proration_behavior => 'always_invoice') IS NOT NULL AS changed \gset
CALL billing.set_clock('credits', '2027-05-16 00:00+00');
-- 26 of 31 days of 310, and of 930
SELECT is(invoices('credits'), '05-06 paid 1510: base 1000, seats 310, usage 200; 05-06 paid 520: proration_credit -260, proration_debit 780', 'five days of one seat and 26 of three are paid');
-- 16 of 26 days of 780, and 16 of 31 days of 620
SELECT billing.update_subscription(subscription_of('credits'), quantity => 2) IS NOT NULL AS changed \gset
SELECT is(waiting('credits'), 2::bigint, 'what comes then waits for the next one');
SELECT billing.update_subscription(subscription_of('credits'), quantity => 3) IS NOT NULL AS changed \gset
SELECT is(waiting('credits'), 0::bigint, 'and is gone when the change is undone at once');
SELECT billing.update_subscription(subscription_of('credits'), quantity => 1) IS NOT NULL AS changed \gset
CALL billing.set_clock('credits', '2027-06-01 00:20+00');
SELECT is(invoices('credits'), '05-06 paid 1510: base 1000, seats 310, usage 200; 05-06 paid 520: proration_credit -260, proration_debit 780; '
		  '06-01 draft 990: proration_credit -480, proration_debit 160, base 1000, seats 310', 'it stands on the next draft');
UPDATE billing.settings SET value = '1 hour' WHERE name = 'usage_grace';

-- ---------------------------------------------------------------------------
-- A draft of which nothing is left

CALL begins('leaves', 'thirty', 0);
SELECT billing.update_subscription(subscription_of('leaves'), plan => 'gratis') IS NOT NULL AS changed \gset
SELECT is(invoices('leaves'), '05-01 draft 0: no line', 'it waits on: it would be the next invoice');
CALL billing.set_clock('leaves', '2027-05-01 01:10+00');
SELECT is(invoices('leaves'), NULL, 'and is no invoice in the end');

-- ---------------------------------------------------------------------------
-- Usage on it that turns out to be less

CALL begins('less', 'thirty');
SELECT billing.record_usage('less', 'calls', 50, '2027-04-21 00:00+00') AS recorded \gset
SELECT billing.update_subscription(subscription_of('less'), plan => 'pack') IS NOT NULL AS changed \gset
SELECT is(invoices('less'), '05-01 draft 1300: usage 0, usage 300, proration_debit 1000', 'usage is billed at the prices that it had');
SELECT billing.void_usage('less', (SELECT e.id FROM billing.usage_events AS e WHERE e.organization_id = 'less' AND e.quantity = 130)) IS NOT NULL AS voided \gset
CALL billing.set_clock('less', '2027-05-01 00:40+00');
SELECT billing.update_subscription(subscription_of('less'), plan => 'thirty') IS NOT NULL AS changed \gset
-- 40 minutes of 10.00 are 1
SELECT is(invoices('less'), '05-01 draft 1040: proration_debit 1, usage 0, usage 40, proration_debit 999', '50 calls of which 30 are free: the lines on the draft are billed again');
CALL billing.set_clock('less', '2027-05-01 01:10+00');
SELECT is(invoices('less'), '05-01 paid 1040: proration_debit 1, usage 0, usage 40, proration_debit 999', 'and so it is final');

-- ---------------------------------------------------------------------------
-- A pause

CALL begins('pauses', 'crew', 100);
SELECT billing.record_usage('pauses', 'calls', 10, '2027-05-01 00:10+00') AS recorded \gset
SELECT billing.pause_subscription(subscription_of('pauses')) IS NOT NULL AS paused \gset
SELECT is(invoices('pauses'), '05-01 draft 1330: base 1000, seats 310, usage 20', 'usage until a pause stands on the draft, too');
CALL billing.set_clock('pauses', '2027-05-01 01:10+00');
SELECT is(invoices('pauses'), '05-01 paid 1530: base 1000, seats 310, usage 20, usage 200', 'and is billed with it');

-- ---------------------------------------------------------------------------

SELECT is_empty($$SELECT i.id FROM billing.invoices AS i JOIN billing.invoice_lines AS l ON l.invoice_id = i.id WHERE l.kind NOT IN ('credit', 'balance') GROUP BY i.id HAVING sum(l.amount) <> i.total$$,
	'the total of every invoice is the sum of its lines');
SELECT is_empty($$SELECT subscription_id FROM billing.invoices WHERE billing_reason = 'subscription_cycle' GROUP BY subscription_id, period_start HAVING count(*) > 1$$, 'a period has one invoice');
-- ---------------------------------------------------------------------------
-- A standstill: what there is, is for the oldest first, as it is without one

CALL begins('stands', 'crew', 0);
SELECT billing.update_subscription(subscription_of('stands'), items => '{"calls": null}') IS NOT NULL AS changed \gset
SELECT billing.adjust_balance('stands', 2000, 'sorry', 'USD') AS given \gset
UPDATE billing.sandbox_clocks SET now = '2027-07-02 00:00+00' WHERE organization_id = 'stands';
CALL billing.run_worker();
CALL billing.run_worker();
SELECT is((SELECT string_agg(to_char(i.period_start AT TIME ZONE 'UTC', 'MM-DD') || ' ' || i.amount_due, ', ' ORDER BY i.period_start) FROM billing.invoices AS i
		   WHERE i.organization_id = 'stands' AND i.period_start >= '2027-05-01 00:00+00'), '05-01 0, 06-01 620, 07-01 1310', 'balance pays what is oldest');

-- void: what it would have given is nobody's
SELECT billing.create_plan('dear', 'Dear', 6000, 'USD') AS dear, billing.create_price('dear', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 2) AS dear_calls \gset
CALL begins('below', 'dear', 0, '2027-04-21 00:00+00');
SELECT billing.update_subscription(subscription_of('below'), plan => 'thirty') IS NOT NULL AS changed \gset
CALL billing.set_clock('below', '2027-05-01 00:20+00');
-- 10 of 30 days of 60.00 and of 10.00, and May
SELECT is((SELECT i.total FROM billing.invoices AS i WHERE i.organization_id = 'below' AND i.status = 'draft'), -667::bigint, 'a draft may be below 0');
SELECT billing.void_invoice(id) FROM billing.invoices WHERE organization_id = 'below' AND status = 'draft';
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

-- Coupons with an amount: taken once for a period, and a change within it neither takes them off again nor loses what is left of them.
\ir helpers.psql
SELECT plan(44);

SELECT billing.create_plan('small', 'Small', 3000, 'USD') AS small, billing.create_plan('large', 'Large', 6000, 'USD') AS large, billing.create_plan('crew', 'Crew', 1000, 'USD') AS crew,
	   billing.create_plan('yearly', 'Yearly', 36000, 'USD', "interval" => 'year') AS yearly,
	   billing.create_plan('calls2', 'Calls', 1000, 'USD') AS calls2, billing.create_plan('calls3', 'More calls', 2000, 'USD') AS calls3 \gset
SELECT billing.create_price('crew', 300, 'USD', component => 'seats') AS seats, billing.create_price('calls2', currency => 'USD', component => 'calls', metric => 'api_calls', unit_amount => 2) AS two,
	   billing.create_price('calls3', currency => 'USD', component => 'calls', metric => 'api_calls', unit_amount => 3) AS three \gset
SELECT billing.create_coupon('TEN', amount => 1000, currency => 'USD', duration => 'forever') AS ten, billing.create_coupon('ONCE', amount => 1000, currency => 'USD') AS once,
	   billing.create_coupon('MUCH', amount => 5500, currency => 'USD', duration => 'forever') AS much, billing.create_coupon('TENTH', 10, duration => 'forever') AS tenth,
	   billing.create_coupon('SMALLER', amount => 800, currency => 'USD', duration => 'forever') AS smaller,
	   billing.create_coupon('SEATED', amount => 500, currency => 'USD', duration => 'forever', components => '{seats}') AS seated,
	   billing.create_coupon('SMALL', amount => 1000, currency => 'USD', duration => 'forever', plans => '{small}') AS for_small,
	   billing.create_coupon('BOTH', 10, duration => 'forever') AS both \gset

-- On April 1st, 30 days before May 1st.
CREATE PROCEDURE start(organization text, plan text, coupon text, quantity bigint DEFAULT 1, before text DEFAULT NULL, collection text DEFAULT NULL)
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.create_customer(organization, organization || '@example.com');
	COMMIT;
	CALL billing.set_clock(organization, '2027-04-01 00:00+00');
	IF collection IS NULL THEN
		PERFORM billing.attach_payment_method(billing.find_customer(organization), 'pm_card_visa', set_default => true);
	END IF;
	IF before IS NOT NULL THEN
		PERFORM billing.apply_coupon(before, organization_id => organization);
	END IF;
	COMMIT;
	CALL billing.run_worker();
	PERFORM billing.subscribe(organization, plan, managed_by => 'local', quantity => quantity, coupon => coupon, collection_method => collection,
							  days_until_due => CASE WHEN collection IS NOT NULL THEN 30 END);
	COMMIT;
	CALL billing.run_worker();
END
$$;
CREATE PROCEDURE change(organization text, at timestamptz, plan text DEFAULT NULL, quantity bigint DEFAULT NULL, behavior text DEFAULT 'always_invoice')
LANGUAGE plpgsql AS $$
BEGIN
	IF at > billing.now(organization) THEN
		CALL billing.set_clock(organization, at);
	END IF;
	PERFORM billing.update_subscription(subscription_of(organization), plan => plan, quantity => quantity, proration_behavior => behavior);
	COMMIT;
	CALL billing.run_worker();
END
$$;
CREATE FUNCTION totals(organization text) RETURNS bigint[]
LANGUAGE sql
RETURN ARRAY(SELECT i.total FROM billing.invoices AS i WHERE i.organization_id = organization AND i.status <> 'void' ORDER BY i.id);
-- Of the newest invoice: each line with its discount.
CREATE FUNCTION newest(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', l.kind, coalesce(l.component, l.description), l.amount, - nullif(l.discount, 0)), ', ' ORDER BY l.position) FROM billing.invoice_lines AS l
		WHERE l.kind <> 'balance' AND l.invoice_id = (SELECT i.id FROM billing.invoices AS i WHERE i.organization_id = organization ORDER BY i.id DESC LIMIT 1));

-- ---------------------------------------------------------------------------
-- One more seat is one more seat: 300 x 29/30

CALL start('seats', 'crew', 'TEN', 4);
SELECT is(totals('seats'), '{1200}', 'the amount is taken off the first invoice');
CALL billing.set_clock('seats', '2027-04-02 00:00+00');
SELECT results_eq($$SELECT kind, amount, discount, total FROM billing.preview_update(subscription_of('seats'), quantity => 5, proration_behavior => 'always_invoice')$$,
	$$VALUES ('proration_credit', -633::bigint, 0::bigint, 290::bigint), ('proration_debit', 1450, 527, 290), ('discount', -527, 0, 290)$$, 'the preview tells it');
CALL change('seats', '2027-04-02 00:00+00', quantity => 5);
SELECT is(newest('seats'), 'proration_credit seats -633, proration_debit seats 1450 -527, discount TEN: remaining time -527', 'the debit is discounted by what the credit took back');
CALL change('seats', '2027-04-02 01:00+00', quantity => 6);
SELECT is(newest('seats'), 'proration_credit seats -922, proration_debit seats 1738 -526, discount TEN: remaining time -526', 'and so on, an hour later');
CALL change('seats', '2027-04-02 02:00+00', quantity => 4);
SELECT is(totals('seats'), '{1200,290,290,-578}', 'three changes cost what the hours in between do');
SELECT is((SELECT uses FROM billing.list_coupons('seats')), 1::bigint, 'changes are no uses of it');

CALL start('waits', 'crew', 'TEN', 4);
CALL billing.set_clock('waits', '2027-04-02 00:00+00');
SELECT results_eq($$SELECT kind, amount, discount FROM billing.preview_update(subscription_of('waits'), quantity => 5)$$,
	$$VALUES ('proration_credit', -633::bigint, 0::bigint), ('proration_debit', 1450, 527)$$, 'what will wait is told with its discount');
CALL change('waits', '2027-04-02 00:00+00', quantity => 5, behavior => 'create_prorations');
SELECT is((SELECT sum(amount) FROM billing.preview_invoice(subscription_of('waits')) WHERE kind <> 'balance'), 1790::numeric, 'the preview of the next invoice');
CALL billing.set_clock('waits', '2027-05-01 00:00+00');
SELECT is(newest('waits'), 'proration_credit seats -633, proration_debit seats 1450 -527, base base 1000 -400, seats seats 1500 -600, discount TEN -1000, discount TEN: remaining time -527', 'which has the rest of the old month and the amount of the new one');
SELECT is(totals('waits'), '{1200,1790}', '290 for the seat, and 1500');
SELECT is((SELECT uses FROM billing.list_coupons('waits')), 2::bigint, 'used for two periods');

-- two changes that wait for the same invoice: 5 seats from the 2nd, 6 from the 16th
CALL start('twice', 'crew', 'TEN', 4);
CALL change('twice', '2027-04-02 00:00+00', quantity => 5, behavior => 'create_prorations');
CALL change('twice', '2027-04-16 00:00+00', quantity => 6, behavior => 'create_prorations');
CALL billing.set_clock('twice', '2027-05-01 00:00+00');
SELECT is(totals('twice'), '{1200,2240}', '-633 + 700 + 900 - 527, and 1800');

-- what waits and ends early keeps what was taken back for its time alone: -1933 and 2800 - 467, as if it had been invoiced at once
CALL start('ends', 'small', 'TEN');
CALL change('ends', '2027-04-02 00:00+00', 'large', behavior => 'create_prorations');
CALL billing.set_clock('ends', '2027-04-16 00:00+00');
SELECT billing.cancel_subscription(subscription_of('ends'), at_period_end => false, prorate => true);
CALL billing.run_worker();
SELECT is(newest('ends'), 'proration_credit base -1933, proration_debit base 2800 -467, discount TEN: remaining time -467', 'the rest of the amount goes with the rest of the period');
CALL start('ends_invoiced', 'small', 'TEN');
CALL change('ends_invoiced', '2027-04-02 00:00+00', 'large');
CALL billing.set_clock('ends_invoiced', '2027-04-16 00:00+00');
SELECT billing.cancel_subscription(subscription_of('ends_invoiced'), at_period_end => false, prorate => true);
CALL billing.run_worker();
SELECT is(totals('ends_invoiced'), '{2000,2900,-2500}', 'which is what it comes to then');

-- ---------------------------------------------------------------------------
-- Up, down, there and back: 5 of 30 days are left on the 26th

CALL start('up', 'small', 'ONCE');
CALL change('up', '2027-04-26 00:00+00', 'large');
SELECT is(newest('up'), 'proration_credit base -333, proration_debit base 1000 -167, discount ONCE: remaining time -167', 'one that is used up counts for the rest of its period');
CALL billing.set_clock('up', '2027-05-01 00:00+00');
SELECT is(totals('up'), '{2000,500,6000}', 'and not for the next one');
SELECT is((SELECT uses || ' ' || state FROM billing.list_coupons('up')), '1 used', 'it was used once');

CALL start('down', 'large', 'TEN');
CALL change('down', '2027-04-26 00:00+00', 'small');
SELECT is(totals('down'), '{5000,-500}', 'a downgrade gives the difference: -833 + 333');
CALL start('deep', 'large', 'MUCH');
CALL change('deep', '2027-04-26 00:00+00', 'small');
SELECT is(newest('deep'), 'proration_credit base -83, proration_debit base 500 -500, discount MUCH: remaining time -500', 'no more than the debits');

CALL start('back', 'small', 'TEN');
CALL change('back', '2027-04-26 00:00+00', 'large');
CALL change('back', '2027-04-26 00:00+00', 'small');
SELECT is(totals('back'), '{2000,500,-500}', 'there and back in one instant nets to zero');
CALL change('back', '2027-04-27 00:00+00', 'large');
SELECT is(totals('back'), '{2000,500,-500,400}', 'and the line counts as before: -267 + 667');
CALL start('undone', 'small', 'TEN');
CALL change('undone', '2027-04-26 00:00+00', 'large', behavior => 'create_prorations');
CALL change('undone', '2027-04-26 00:00+00', 'small', behavior => 'create_prorations');
CALL billing.set_clock('undone', '2027-05-01 00:00+00');
SELECT is(totals('undone'), '{2000,2000}', 'also while it waits');
CALL start('deep_back', 'large', 'MUCH');
CALL change('deep_back', '2027-04-26 00:00+00', 'small');
CALL change('deep_back', '2027-04-26 00:00+00', 'large');
SELECT is(totals('deep_back'), '{500,-83,83}', 'and where the debit was too small for it');

-- ---------------------------------------------------------------------------
-- Beside a percentage: 90 % of 290 are 261

CALL start('tenth_first', 'crew', 'TEN', 4, 'TENTH');
CALL change('tenth_first', '2027-04-02 00:00+00', quantity => 5);
SELECT is(newest('tenth_first'), 'proration_credit seats -517, proration_debit seats 1450 -672, discount TENTH -145, discount TEN: remaining time -527', 'the percentage first: 145 and 527');
SELECT is(totals('tenth_first'), '{980,261}', '2200 less 220 less 1000');
CALL start('ten_first', 'crew', 'BOTH', 4, 'TEN');
CALL change('ten_first', '2027-04-02 00:00+00', quantity => 5);
SELECT is(newest('ten_first'), 'proration_credit seats -570, proration_debit seats 1450 -619, discount TEN: remaining time -527, discount BOTH -92', 'the amount first: 527, and a tenth of 923');
SELECT is(totals('ten_first'), '{1080,261}', '1200 less 120');

-- ---------------------------------------------------------------------------
-- What it counts for

CALL start('seated', 'crew', 'SEATED', 4);
CALL change('seated', '2027-04-16 00:00+00', quantity => 5);
SELECT is(totals('seated'), '{1700,150}', 'half a month of a seat: -350 + 500');
CALL change('seated', '2027-04-16 00:00+00', 'large');
SELECT is(totals('seated'), '{1700,150,2000}', 'none of it counts for what it is not for: 3000 less 500 and 500');
CALL start('left', 'small', 'SMALL');
CALL change('left', '2027-04-16 00:00+00', 'large');
SELECT is(totals('left'), '{2000,2000}', 'nor for another plan: 3000 less 1000');

CALL start('removed', 'small', 'TEN');
SELECT billing.remove_coupon('TEN', subscription_of('removed'));
CALL change('removed', '2027-04-26 00:00+00', 'large');
SELECT is(totals('removed'), '{2000,500}', 'what an invoice had taken stays when the coupon is removed');

CALL start('year', 'small', 'TEN');
CALL change('year', '2027-04-16 00:00+00', 'yearly');
SELECT is(totals('year'), '{2000,34000}', 'a new period has the amount, and gives back what is left of the old one: 36000 - 1000 - 1000');

CALL start('calls', 'calls2', 'TEN');
CALL billing.set_clock('calls', '2027-04-16 00:00+00');
SELECT billing.record_usage('calls', 'api_calls', 100, occurred_at => '2027-04-10 00:00+00') AS used \gset
CALL settle();
CALL change('calls', '2027-04-16 00:00+00', 'calls3');
SELECT is(totals('calls'), '{0,700}', 'usage on the invoice of a change has no amount: 0 + 1000 - 500 + 200');

-- ---------------------------------------------------------------------------
-- Not paid, and void

CALL start('owes', 'crew', 'TEN', 4, collection => 'send_invoice');
CALL change('owes', '2027-04-02 00:00+00', quantity => 5);
SELECT is(newest('owes'), 'proration_credit seats 0, proration_debit seats 1450 -527, discount TEN: remaining time -527', 'the same where nothing is paid yet');
SELECT billing.mark_invoice_paid(i.id, 'wire') FROM billing.invoices AS i WHERE i.organization_id = 'owes' AND i.total = 1200;
CALL billing.run_worker();
SELECT is((SELECT sum(n.total) FROM billing.credit_notes AS n JOIN billing.invoices AS i ON i.id = n.invoice_id WHERE i.organization_id = 'owes'), 633::numeric, 'a credit note has the rest when it is');

CALL start('void', 'crew', 'ONCE', 4, collection => 'send_invoice');
SELECT billing.mark_invoice_paid(i.id, 'wire') FROM billing.invoices AS i WHERE i.organization_id = 'void';
CALL change('void', '2027-04-02 00:00+00', quantity => 5);
SELECT billing.void_invoice(i.id) FROM billing.invoices AS i WHERE i.organization_id = 'void' AND i.status = 'open';
SELECT is((SELECT uses || ' ' || state FROM billing.list_coupons('void')), '1 used', 'the void of a change gives no use back');
CALL change('void', '2027-04-03 00:00+00', quantity => 6);
SELECT is(totals('void'), '{1200,560}', 'two seats for 28 days: -611 + 1171');

-- ---------------------------------------------------------------------------
-- A first payment that failed

CREATE PROCEDURE start_poor(organization text, coupon text)
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.create_customer(organization, organization || '@example.com');
	COMMIT;
	CALL billing.set_clock(organization, '2027-04-01 00:00+00');
	PERFORM billing.attach_payment_method(billing.find_customer(organization), 'pm_card_chargeCustomerFail', set_default => true);
	COMMIT;
	CALL billing.run_worker();
	PERFORM billing.subscribe(organization, 'small', managed_by => 'local', coupon => coupon);
	COMMIT;
	CALL billing.run_worker();
END
$$;
SELECT billing.create_coupon('FEW' || n, 50, max_redemptions => 1) FROM generate_series(1, 3) AS n \g /dev/null
CALL start_poor('another', 'FEW1');
SELECT fails($$SELECT billing.apply_coupon('FEW1', organization_id => 'waits')$$, 'JB008', 'as often as it can be', NULL, 'while it is waited for, it is taken');
SELECT billing.subscribe('another', 'small', 'pm_card_visa', managed_by => 'local', coupon => 'FEW1') AS again \gset
CALL billing.run_worker();
SELECT results_eq($$SELECT s.status, c.state FROM billing.list_coupons('another') AS c JOIN billing.subscriptions AS s ON s.id = c.subscription_id ORDER BY s.id$$,
	$$VALUES ('incomplete_expired', 'removed'), ('active', 'used')$$, 'another card may have it');
CALL start_poor('late', 'FEW2');
CALL billing.set_clock('late', '2027-04-03 00:00+00');
CALL start_poor('gone', 'FEW3');
SELECT billing.cancel_subscription(subscription_of('gone'));
SELECT results_eq($$SELECT c.coupon, c.redemptions FROM billing.coupons AS c WHERE c.coupon LIKE 'FEW_' ORDER BY c.coupon$$, $$VALUES ('FEW1', 1::bigint), ('FEW2', 0), ('FEW3', 0)$$, 'who never paid did not redeem it');
SELECT is((SELECT state FROM billing.list_coupons('late')), 'removed', 'what expired has none');

-- ---------------------------------------------------------------------------
-- While a draft waits for late usage: by hand 20 minutes of 1000 (0), the rest of 2000, 20 for ten calls, less 1000

CREATE FUNCTION billed_in_may(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(i.billing_reason || ' ' || i.total, ', ' ORDER BY i.id) || ' = ' || sum(i.total)
		FROM billing.invoices AS i WHERE i.organization_id = organization AND i.issued_at >= '2027-05-01 00:00+00');
CALL start('grace', 'calls2', 'SMALLER');
CALL start('grace_now', 'calls2', 'SMALLER');
SELECT count(billing.record_usage(o, 'api_calls', 10, '2027-04-01 00:00+00')) AS used FROM unnest(ARRAY['grace', 'grace_now']) AS o \gset
CALL change('grace', '2027-05-01 00:20+00', 'calls3', behavior => 'create_prorations');
CALL change('grace_now', '2027-05-01 00:20+00', 'calls3');
CALL billing.set_clock('grace', '2027-05-01 02:00+00');
CALL billing.set_clock('grace_now', '2027-05-01 02:00+00');
SELECT is(billed_in_may('grace'), 'subscription_cycle 1219 = 1219', 'the amount comes off the draft on which the change stands');
SELECT is(billed_in_may('grace_now'), 'subscription_cycle 220, subscription_update 999 = 1219', 'or off the one that is final first, whose credit keeps it for the change');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

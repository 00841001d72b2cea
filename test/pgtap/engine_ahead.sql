-- Renewals that are paid to a reference are invoiced before their period begins.
\ir helpers.psql
SELECT plan(47);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_plan('small', 'Small', 30000, 'MXN') AS p1, billing.create_plan('large', 'Large', 60000, 'MXN') AS p2, billing.create_plan('yearly', 'Yearly', 300000, 'MXN', "interval" => 'year') AS p3,
	   billing.create_plan('metered', 'Metered', 30000, 'MXN') AS p4, billing.create_meter('calls', 'sum') AS meter \gset
SELECT billing.create_plan('seated', 'Seated', 10000, 'MXN') AS p5, billing.create_price('seated', 3000, 'MXN', component => 'seats') AS seats \gset
SELECT billing.create_price('metered', NULL, 'MXN', component => 'calls', metric => 'calls', unit_amount => 2, commitment => 3000) AS calls \gset

-- An organisation that is billed from April 1st on, by OXXO after its first payment; it pays so long after it got a reference.
CREATE PROCEDURE begin_at(organization text, plan text DEFAULT 'small', pays text DEFAULT 'pay_after:P2D')
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.create_customer(organization, organization || '@example.com', name => 'Ana', phone => '+525555555555', country => 'MX', currency => 'MXN');
	COMMIT;
	CALL billing.run_worker();
	CALL billing.set_clock(organization, '2031-04-01 00:00+00');
	PERFORM billing.subscribe(organization, plan, 'pm_card_visa', managed_by => 'local', metadata => jsonb_build_object('sandbox', pays));
	COMMIT;
	FOR n IN 1 .. 6000 LOOP
		CALL billing.run_worker();
		EXIT WHEN status_of(organization) = 'active';
		IF n = 6000 THEN
			RAISE EXCEPTION 'the first payment is still on its way';
		END IF;
		PERFORM pg_sleep(0.01);
		COMMIT;
	END LOOP;
	PERFORM billing.collect_by(subscription_of(organization), 'oxxo');
	COMMIT;
	CALL billing.run_worker();
END
$$;
CREATE FUNCTION billed(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', replace(i.billing_reason, 'subscription_', ''), i.total, i.status, to_char(i.issued_at AT TIME ZONE 'UTC', 'MM-DD'), 'for', to_char(i.period_start AT TIME ZONE 'UTC', 'MM-DD')), ', ' ORDER BY i.id)
		FROM billing.invoices AS i WHERE i.organization_id = organization AND i.billing_reason <> 'subscription_create');
CREATE FUNCTION waits(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(l.kind || ' ' || l.amount, ', ' ORDER BY l.id) FROM billing.invoice_lines AS l WHERE l.invoice_id IS NULL AND l.subscription_id = subscription_of(organization));
CREATE FUNCTION period(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' ', s.status, to_char(s.current_period_start AT TIME ZONE 'UTC', 'MM-DD'), to_char(s.current_period_end AT TIME ZONE 'UTC', 'MM-DD')) FROM billing.subscriptions AS s WHERE s.id = subscription_of(organization));
CREATE FUNCTION payments(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(p.status, ', ' ORDER BY p.id) FROM billing.payment_intents AS p JOIN billing.invoices AS i ON i.id = p.invoice_id
		WHERE i.organization_id = organization AND i.billing_reason <> 'subscription_create');

-- Until no payment is on its way between us and the provider; the worker may be at it.
CREATE PROCEDURE settled(organization text)
LANGUAGE plpgsql AS $$
BEGIN
	FOR n IN 1 .. 6000 LOOP
		CALL billing.run_worker();
		IF NOT EXISTS (SELECT FROM billing.invoices AS i WHERE i.organization_id = organization
					   AND (i.status = 'draft' OR (i.status = 'open' AND NOT EXISTS (SELECT FROM billing.payment_intents AS p WHERE p.invoice_id = i.id AND p.status = 'requires_action'))))
		   AND NOT EXISTS (SELECT FROM billing.outbox AS o WHERE o.ordering_key = billing.find_customer(organization)) THEN
			RETURN;
		END IF;
		COMMIT;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE EXCEPTION 'a payment is still on its way';
END
$$;

-- ---------------------------------------------------------------------------
-- Seven days

CALL begin_at('paid');
SELECT is((SELECT next_due_at FROM billing.subscriptions WHERE organization_id = 'paid'), '2031-04-24 00:00+00', 'something is due a week before the period ends');
CALL billing.set_clock('paid', '2031-04-23 00:00+00');
SELECT is(billed('paid'), NULL, 'not before');
CALL billing.set_clock('paid', '2031-04-24 00:00+00');
SELECT is(billed('paid') || ', ' || period('paid'), 'cycle 30000 open 04-24 for 05-01, active 04-01 05-01', 'the next period is invoiced, this one goes on');
SELECT is((SELECT to_char(expires_at AT TIME ZONE 'UTC', 'MM-DD') FROM billing.payment_intents WHERE organization_id = 'paid' AND status = 'requires_action'), '05-04', 'the reference is good until three days into it');
SELECT is((SELECT next_due_at FROM billing.subscriptions WHERE organization_id = 'paid'), '2031-05-01 00:00+00', 'then its beginning is due');
CALL billing.set_clock('paid', '2031-04-27 00:00+00');
SELECT is(billed('paid'), 'cycle 30000 paid 04-24 for 05-01', 'it is paid in time');
CALL billing.set_clock('paid', '2031-06-15 00:00+00');
SELECT is(billed('paid') || ', ' || period('paid'), 'cycle 30000 paid 04-24 for 05-01, cycle 30000 paid 05-25 for 06-01, active 06-01 07-01', 'one invoice for each period');

CALL begin_at('still');
UPDATE billing.sandbox_clocks SET now = '2031-07-10 00:00+00' WHERE organization_id = 'still';
CALL billing.run_worker();
SELECT is((SELECT string_agg(to_char(period_start AT TIME ZONE 'UTC', 'MM-DD'), ' ' ORDER BY id) FROM billing.invoices WHERE organization_id = 'still') || ', ' || period('still'), '04-01 05-01 06-01 07-01, active 07-01 08-01', 'after a standstill as well');

CALL begin_at('card');
CALL billing.set_clock('card', '2031-04-27 00:00+00');
SELECT billing.collect_by(subscription_of('card'), NULL);
SELECT is((SELECT next_due_at FROM billing.subscriptions WHERE organization_id = 'card'), '2031-05-01 00:00+00', 'whoever gives a card again');
CALL billing.set_clock('card', '2031-06-01 00:00+00');
SELECT is(billed('card') || ', ' || period('card'), 'cycle 30000 paid 04-24 for 05-01, cycle 30000 paid 06-01 for 06-01, active 06-01 07-01', 'is billed with the period again');

-- ---------------------------------------------------------------------------
-- Changed by none, then there and back in one instant

CALL begin_at('back');
CALL billing.set_clock('back', '2031-04-27 00:00+00');
SELECT billing.update_subscription(subscription_of('back'), plan => 'large', proration_behavior => 'none');
CALL billing.set_clock('back', '2031-04-28 00:00+00');
SELECT billing.update_subscription(subscription_of('back'), quantity => 2);
SELECT is(waits('back'), 'proration_credit -3000, proration_credit -30000, proration_debit 12000, proration_debit 120000', 'three days of April, and May, which is invoiced: both are given back and billed as it is');
SELECT billing.update_subscription(subscription_of('back'), quantity => 1);
SELECT is(waits('back'), NULL, 'back in that instant, both are as they were');
SELECT billing.update_subscription(subscription_of('back'), plan => 'small');
SELECT is(waits('back'), NULL, 'and for that nothing is due');
CALL billing.set_clock('back', '2031-04-29 00:00+00');
SELECT billing.update_subscription(subscription_of('back'), plan => 'large');
CALL billing.set_clock('back', '2031-04-30 00:00+00');
SELECT billing.update_subscription(subscription_of('back'), plan => 'small', proration_behavior => 'none');
SELECT is(waits('back'), 'proration_credit -2000, proration_credit -30000, proration_debit 4000, proration_debit 60000', 'what waits for May, too');
SELECT billing.update_subscription(subscription_of('back'), quantity => 2);
SELECT is(waits('back'), 'proration_credit -2000, proration_credit -30000, proration_debit 2000, proration_debit 2000, proration_debit 60000', 'is dropped for what it is now');
SELECT billing.update_subscription(subscription_of('back'), quantity => 1);
SELECT is(waits('back'), 'proration_credit -2000, proration_credit -30000, proration_debit 2000, proration_debit 2000, proration_debit 60000', 'and billed again');

-- invoiced ahead in between: May is billed as it was then, and as it is again
CALL begin_at('between', 'seated');
CALL billing.set_clock('between', '2031-04-02 00:00+00');
SELECT billing.collect_by(subscription_of('between'), NULL);
CALL billing.set_clock('between', '2031-04-28 00:00+00');
SELECT billing.update_subscription(subscription_of('between'), quantity => 2, proration_behavior => 'none');
SELECT billing.update_subscription(subscription_of('between'), quantity => 3);
SELECT is(waits('between'), 'proration_credit -300, proration_debit 900', 'two by none, three now');
SELECT billing.collect_by(subscription_of('between'), 'oxxo');
CALL billing.run_worker();
CALL settled('between');
SELECT is(billed('between'), 'cycle 19600 open 04-28 for 05-01', 'which are invoiced for May');
SELECT billing.update_subscription(subscription_of('between'), quantity => 2);
SELECT is(waits('between'), 'proration_credit -900, proration_credit -9000, proration_debit 300, proration_debit 6000', 'two again: nothing for April, and one less for May');

-- ---------------------------------------------------------------------------
-- Usage

CALL begin_at('metered', 'metered');
CALL billing.set_clock('metered', '2031-04-10 00:00+00');
SELECT billing.record_usage('metered', 'calls', 2000) AS used \gset
CALL billing.set_clock('metered', '2031-04-30 00:00+00');
SELECT is(billed('metered'), 'cycle 30000 paid 04-24 for 05-01', 'usage of a period that goes on is not on it');
CALL billing.set_clock('metered', '2031-05-25 00:00+00');
SELECT results_eq($$SELECT l.kind || ' ' || l.amount FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id
	WHERE i.organization_id = 'metered' AND i.period_start = '2031-06-01 00:00+00' ORDER BY l.position$$, $$VALUES ('usage 4000'), ('base 30000')$$, 'that of April is on the next invoice');
CALL billing.set_clock('metered', '2031-05-26 00:00+00');
SELECT billing.collect_by(subscription_of('metered'), NULL);
CALL billing.set_clock('metered', '2031-07-01 01:00+00');
SELECT results_eq($$SELECT l.kind || ' ' || sum(l.amount) || ' ' || to_char(l.period_start AT TIME ZONE 'UTC', 'MM-DD') FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id
	WHERE i.organization_id = 'metered' AND i.period_start = '2031-07-01 00:00+00' GROUP BY l.kind, l.period_start ORDER BY l.period_start$$,
	$$VALUES ('usage 3000 05-01'), ('usage 3000 06-01'), ('base 30000 07-01')$$, 'two periods of usage are two commitments');

-- ---------------------------------------------------------------------------
-- It will not come

CALL begin_at('ends', pays => 'pay_after:P9D');
CALL billing.set_clock('ends', '2031-04-25 00:00+00');
CALL settled('ends');
SELECT billing.cancel_subscription(subscription_of('ends'));
CALL settled('ends');
SELECT is(billed('ends') || ', ' || payments('ends'), 'cycle 30000 void 04-24 for 05-01, canceled', 'an end that is planned voids it and calls its reference off');
SELECT billing.resume_subscription(subscription_of('ends'));
CALL billing.run_worker();
CALL settled('ends');
SELECT is(billed('ends') || ', ' || payments('ends'), 'cycle 30000 void 04-24 for 05-01, cycle 30000 open 04-25 for 05-01, canceled, requires_action', 'taken back, there is another one');
SELECT billing.cancel_subscription(subscription_of('ends'), at_period_end => false, prorate => true);
CALL settled('ends');
SELECT is(billed('ends') || ', ' || payments('ends'), 'cycle 30000 void 04-24 for 05-01, cycle 30000 void 04-25 for 05-01, end -6000 paid 04-25 for 04-25, canceled, canceled', 'so does an end at once; 6 of 30 days are given back');

CALL begin_at('byhand', pays => 'pay_after:P9D');
CALL billing.set_clock('byhand', '2031-04-25 00:00+00');
CALL settled('byhand');
SELECT billing.void_invoice(id) FROM billing.invoices WHERE organization_id = 'byhand' AND status = 'open';
CALL settled('byhand');
SELECT is(billed('byhand') || ', ' || payments('byhand'), 'cycle 30000 void 04-24 for 05-01, cycle 30000 open 04-25 for 05-01, canceled, requires_action', 'voided by hand, it is made again: its period will come');

CALL begin_at('paidend');
CALL billing.set_clock('paidend', '2031-04-27 00:00+00');
SELECT billing.cancel_subscription(subscription_of('paidend'));
CALL billing.set_clock('paidend', '2031-05-02 00:00+00');
SELECT is(billed('paidend') || ', ' || period('paidend'), 'cycle 30000 paid 04-24 for 05-01, end -30000 paid 05-01 for 05-01, canceled 04-01 05-01', 'what is paid is given back at the end');

CALL begin_at('rest', pays => 'pay_after:P9D');
CALL billing.set_clock('rest', '2031-04-25 00:00+00');
CALL settled('rest');
SELECT billing.pause_subscription(subscription_of('rest'));
CALL settled('rest');
SELECT is(billed('rest'), 'cycle 30000 void 04-24 for 05-01', 'a pause voids it as well');
CALL begin_at('paidrest');
CALL billing.set_clock('paidrest', '2031-04-27 00:00+00');
SELECT billing.pause_subscription(subscription_of('paidrest'));
CALL billing.set_clock('paidrest', '2031-05-10 00:00+00');
SELECT billing.resume_subscription(subscription_of('paidrest'));
SELECT is(billed('paidrest') || ', ' || period('paidrest'), 'cycle 30000 paid 04-24 for 05-01, active 05-01 06-01', 'after a pause what is paid counts');

-- ---------------------------------------------------------------------------
-- Changes

CALL begin_at('up', pays => 'pay_after:P9D');
CALL billing.set_clock('up', '2031-04-25 00:00+00');
CALL settled('up');
SELECT billing.update_subscription(subscription_of('up'), plan => 'large');
-- 6 of 30 days, and all of May
SELECT is(waits('up'), 'proration_credit -6000, proration_credit -30000, proration_debit 12000, proration_debit 60000', 'a change counts for both periods');
SELECT billing.update_subscription(subscription_of('up'), plan => 'small');
SELECT is(waits('up'), NULL, 'and back: nothing');
SELECT billing.update_subscription(subscription_of('up'), plan => 'large', effective => 'period_end');
CALL billing.set_clock('up', '2031-05-01 00:00+00');
SELECT is(waits('up') || ', ' || period('up'), 'proration_credit -30000, proration_debit 60000, active 05-01 06-01', 'one that is planned for its beginning is made up for');
CALL billing.set_clock('up', '2031-05-25 00:00+00');
SELECT is((SELECT total FROM billing.invoices WHERE organization_id = 'up' ORDER BY id DESC LIMIT 1), 90000::bigint, 'on the next invoice');
CALL begin_at('year', pays => 'pay_after:P9D');
CALL billing.set_clock('year', '2031-04-25 00:00+00');
CALL settled('year');
SELECT billing.update_subscription(subscription_of('year'), plan => 'yearly');
CALL settled('year');
SELECT is(billed('year'), 'cycle 30000 void 04-24 for 05-01, update 294000 open 04-25 for 04-25', 'another interval voids it');
SELECT is(period('year'), 'active 04-25 04-25', 'and begins here');
CALL begin_at('plans');
SELECT billing.update_subscription(subscription_of('plans'), plan => 'large', effective => 'period_end');
CALL billing.set_clock('plans', '2031-04-30 00:00+00');
SELECT is(billed('plans'), NULL, 'where a change is planned already its invoice waits for the period');
CALL billing.set_clock('plans', '2031-05-01 00:00+00');
SELECT is(billed('plans'), 'cycle 60000 open 05-01 for 05-01', 'and is for what comes');

-- ---------------------------------------------------------------------------
-- Called off by a change: what its void made of the subscription and of the balance counts

-- As after a card that was declined for what comes.
CREATE PROCEDURE decline_at(organization text)
LANGUAGE plpgsql AS $$
BEGIN
	CALL begin_at(organization, pays => 'pay_after:P9D');
	CALL billing.set_clock(organization, '2031-04-25 00:00+00');
	CALL settled(organization);
	UPDATE billing.invoices SET attempt_count = 1 WHERE organization_id = organization AND status = 'open';
	UPDATE billing.subscriptions SET status = 'past_due', status_since = '2031-04-24 12:00+00' WHERE organization_id = organization;
	COMMIT;
END
$$;
CREATE FUNCTION state(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' since ', s.status, to_char(s.status_since AT TIME ZONE 'UTC', 'MM-DD')) FROM billing.subscriptions AS s WHERE s.id = subscription_of(organization));
-- From there on.
CREATE FUNCTION told(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(replace(e.type, 'subscription.', '') || ' ' || e.before_state || '>' || e.after_state, ', ' ORDER BY e.seq)
		FROM billing.events AS e WHERE e.id = subscription_of(organization) AND 'past_due' IN (e.before_state, e.after_state));

CALL decline_at('declined');
SELECT is(state('declined') || ', ' || billed('declined'), 'past_due since 04-24, cycle 30000 open 04-24 for 05-01', 'nothing but the invoice ahead has failed');
SELECT billing.update_subscription(subscription_of('declined'), plan => 'yearly');
SELECT is(state('declined') || ': ' || told('declined'), 'active: active past_due>active', 'a change that voids it: nothing is past due any more');
CALL decline_at('rested');
SELECT billing.pause_subscription(subscription_of('rested'), at_period_end => true);
SELECT is(state('rested') || ': ' || told('rested'), 'active: active past_due>active', 'so does a pause that is planned');
CALL decline_at('gone');
SELECT billing.cancel_subscription(subscription_of('gone'), at_period_end => false);
SELECT is(state('gone') || ': ' || told('gone'), 'canceled: canceled past_due>canceled', 'one that ends does not go on before');
-- another invoice has failed, too
CALL decline_at('owing');
UPDATE billing.invoices SET status = 'open', attempt_count = 1 WHERE organization_id = 'owing' AND billing_reason = 'subscription_create';
SELECT billing.update_subscription(subscription_of('owing'), plan => 'yearly');
SELECT is(state('owing'), 'past_due since 04-24', 'unless another one has failed, too');

-- invoiced, and called off, by one call
CALL begin_at('balance', pays => 'pay_after:P9D');
SELECT billing.adjust_balance('balance', 5000, 'sorry', 'MXN');
BEGIN;
UPDATE billing.sandbox_clocks SET now = '2031-04-25 00:00+00' WHERE organization_id = 'balance';
SELECT billing.update_subscription(subscription_of('balance'), plan => 'yearly') AS u \gset
SELECT is((SELECT string_agg(i.status || ' ' || i.total || ' ' || i.amount_due, ', ' ORDER BY i.id) FROM billing.invoices AS i WHERE i.organization_id = 'balance' AND i.billing_reason <> 'subscription_create'),
	'void 30000 25000, draft 294000 289000', 'what the balance paid of it pays the other one');
COMMIT;

SELECT is_empty($$SELECT subscription_id, period_start FROM billing.invoices WHERE billing_reason = 'subscription_cycle' AND status <> 'void' GROUP BY 1, 2 HAVING count(*) > 1$$, 'each period has one invoice');
SELECT is_empty($$SELECT * FROM billing.ledger_imbalance$$, 'the books balance');
-- what was paid ahead and is given up by another interval
CALL begin_at('given_up');
CALL billing.set_clock('given_up', '2031-04-24 00:00+00');
CALL settled('given_up');
CALL billing.set_clock('given_up', '2031-04-27 00:00+00');
CALL settled('given_up');
SELECT is(billed('given_up'), 'cycle 30000 paid 04-24 for 05-01', 'May is paid ahead');
SELECT billing.update_subscription(subscription_of('given_up'), plan => 'yearly', proration_behavior => 'none');
CALL billing.set_clock('given_up', '2031-04-28 00:00+00');
SELECT billing.update_subscription(subscription_of('given_up'), quantity => 2);
SELECT is((SELECT string_agg(l.kind, ', ' ORDER BY l.id) FROM billing.invoice_lines AS l WHERE l.invoice_id IS NULL AND l.subscription_id = subscription_of('given_up')),
	'proration_credit, proration_debit', 'a year that gives it up gives back of the year alone');

SELECT * FROM finish();

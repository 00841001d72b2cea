-- The life of local subscriptions where it ends, stands still, or is not what it should be. Numbers are computed by hand.
\ir helpers.psql
SELECT plan(34);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_plan('small', 'Small', 3000, 'USD') AS p1, billing.create_plan('large', 'Large', 6000, 'USD') AS p2, billing.create_plan('yearly', 'Yearly', 30000, 'USD', "interval" => 'year') AS p3,
	   billing.create_plan('euros', 'Euros', 3000, 'EUR') AS p4, billing.create_plan('metered', 'Metered', 1000, 'USD') AS p5, billing.create_plan('old', 'Old', 3000, 'USD') AS p6,
	   billing.create_meter('calls', 'sum') AS meter \gset
SELECT billing.create_price('metered', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 2) AS calls,
	   billing.create_price('yearly', 300, 'USD', component => 'seats') AS monthly_seats \gset

-- Local from April 1st on; sent, and paid so far, unless there is a method.
CREATE PROCEDURE begin_at(organization text, plan text DEFAULT 'small', method text DEFAULT NULL, trial_days integer DEFAULT 0, at_end text DEFAULT NULL, country text DEFAULT 'US')
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.create_customer(organization, country => country);
	COMMIT;
	CALL billing.run_worker();
	CALL billing.set_clock(organization, '2031-04-01 00:00+00');
	IF method IS NOT NULL OR at_end IS NOT NULL THEN
		PERFORM billing.subscribe(organization, plan, method, managed_by => 'local', trial_days => trial_days, trial_end_behavior => at_end);
	ELSE
		PERFORM billing.subscribe(organization, plan, collection_method => 'send_invoice', days_until_due => 300, managed_by => 'local', trial_days => trial_days);
	END IF;
	COMMIT;
	CALL billing.run_worker();
	PERFORM billing.mark_invoice_paid(i.id, 'by transfer') FROM billing.invoices AS i WHERE i.organization_id = organization AND i.status = 'open' AND method IS NULL;
	COMMIT;
END
$$;
CREATE FUNCTION invoices_of(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', replace(i.billing_reason, 'subscription_', ''), i.total, to_char(i.period_start AT TIME ZONE 'UTC', 'MM-DD')), ', ' ORDER BY i.id)
		FROM billing.invoices AS i WHERE i.organization_id = organization);
CREATE FUNCTION last_lines(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(l.kind || ' ' || l.amount, ', ' ORDER BY l.position) FROM billing.invoice_lines AS l
		WHERE l.invoice_id = (SELECT i.id FROM billing.invoices AS i WHERE i.organization_id = organization ORDER BY i.id DESC LIMIT 1));

-- ---------------------------------------------------------------------------
-- The customer is deleted

CALL begin_at('billed', 'metered');
CALL begin_at('forgiven', 'metered');
SELECT count(billing.record_usage(o, 'calls', 500)) AS used FROM string_to_table('billed forgiven', ' ') AS o \gset
CALL billing.set_clock('billed', '2031-04-16 00:00+00');
SELECT billing.delete_customer(billing.find_customer('billed'));
SELECT billing.delete_customer(billing.find_customer('forgiven'), final_invoice => false);
UPDATE billing.sandbox_clocks SET now = '2031-04-16 02:00+00' WHERE organization_id = 'billed';
CALL billing.run_worker();
CALL billing.run_worker();
SELECT is(status_of('billed') || ', ' || invoices_of('billed'), 'canceled, create 1000 04-01, end 1000 04-16', 'what was used is on a last invoice');
SELECT is((SELECT status FROM billing.invoices WHERE organization_id = 'billed' AND billing_reason = 'subscription_end'), 'open', 'which is there to be paid');
SELECT is(status_of('forgiven') || ', ' || invoices_of('forgiven'), 'canceled, create 1000 04-01', 'or is left out');

-- ---------------------------------------------------------------------------
-- Coupon, tax and proration together: 30.00 less 10 % is 27.00, 20 % of it 5.40

SELECT billing.set_tax_rate('FR', 20, 'VAT', valid_from => '2020-01-01') IS NOT NULL AS taxed, billing.create_coupon('TEN', percent => 10, duration => 'forever') AS coupon \gset
CALL begin_at('all', country => 'FR');
CALL billing.set_clock('all', '2031-04-02 00:00+00');
SELECT billing.update_subscription(subscription_of('all'), coupon => 'TEN');
CALL billing.set_clock('all', '2031-05-01 00:00+00');
SELECT is(last_lines('all'), 'base 3000, discount -300, tax 540', 'a coupon that is applied later counts from the next invoice on');
CALL billing.run_worker();
SELECT billing.mark_invoice_paid(i.id, 'by transfer') FROM billing.invoices AS i WHERE i.organization_id = 'all' AND i.status = 'open';
CALL billing.set_clock('all', '2031-05-16 12:00+00');
-- half of May: 15.00 less 1.50 is given back with 2.70; 30.00 less 3.00 is billed, 20 % of it 5.40, less 2.70
SELECT billing.update_subscription(subscription_of('all'), plan => 'large', proration_behavior => 'always_invoice');
SELECT is(last_lines('all'), 'proration_credit -1350, proration_debit 3000, discount -300, tax 270', 'half a month: what was billed goes back as it was billed');
SELECT is((SELECT total FROM billing.invoices WHERE organization_id = 'all' ORDER BY id DESC LIMIT 1), 1620::bigint, '-13.50 + 27.00 + 20 %');

-- ---------------------------------------------------------------------------
-- Later versions of a price

CALL begin_at('stays', 'old');
CALL begin_at('moves', 'old');
SELECT billing.create_price('old', 4000, 'USD', effective_at => '2031-04-16 00:00+00', existing => 'now') AS v2 \gset
CALL billing.set_clock('moves', '2031-04-16 00:00+00');
SELECT is((SELECT string_agg(l.kind || ' ' || l.amount, ', ' ORDER BY l.id) FROM billing.invoice_lines AS l WHERE l.invoice_id IS NULL AND l.subscription_id = subscription_of('moves')),
		  'proration_credit -1500, proration_debit 2000', 'existing => now: from its day on, prorated');
CALL billing.set_clock('moves', '2031-05-01 00:00+00');
SELECT is(last_lines('moves'), 'proration_credit -1500, proration_debit 2000, base 4000', 'then whole');
SELECT billing.create_price('old', 5000, 'USD', effective_at => '2031-05-10 00:00+00', existing => 'renewal') AS v3 \gset
CALL billing.set_clock('moves', '2031-05-20 00:00+00');
SELECT is(invoices_of('moves'), 'create 3000 04-01, cycle 4500 05-01', 'existing => renewal: not before');
CALL billing.set_clock('moves', '2031-06-01 00:00+00');
SELECT is(last_lines('moves'), 'base 5000', 'the next period');

-- ---------------------------------------------------------------------------
-- Pauses and trials

CALL begin_at('try', trial_days => 20);
SELECT billing.pause_subscription(subscription_of('try'));
CALL billing.set_clock('try', '2031-04-10 00:00+00');
SELECT billing.resume_subscription(subscription_of('try'));
SELECT is(status_of('try'), 'trialing', 'paused in its trial it goes on in it');
SELECT billing.pause_subscription(subscription_of('try'));
CALL billing.set_clock('try', '2031-05-10 00:00+00');
SELECT is(status_of('try') || ' ' || (SELECT count(*) FROM billing.invoices WHERE organization_id = 'try'), 'paused 0', 'a pause outlasts the trial');
SELECT billing.resume_subscription(subscription_of('try'));
SELECT is(status_of('try') || ', ' || invoices_of('try'), 'active, cycle 3000 05-10', 'then its first period begins here');
CALL begin_at('nomethod', trial_days => 10, at_end => 'pause');
CALL billing.set_clock('nomethod', '2031-04-12 00:00+00');
SELECT is(status_of('nomethod'), 'paused', 'a trial that ends without a method pauses, if told so');
SELECT billing.attach_payment_method(billing.find_customer('nomethod'), 'pm_card_visa', set_default => true) AS given \gset
CALL billing.run_worker();
SELECT billing.resume_subscription(subscription_of('nomethod'));
SELECT is(status_of('nomethod') || ', ' || invoices_of('nomethod'), 'active, cycle 3000 04-12', 'and is billed when it goes on');

-- ---------------------------------------------------------------------------
-- Nobody pays

CALL begin_at('owes', method => 'pm_card_chargeCustomerFail', trial_days => 5);
CALL billing.set_clock('owes', '2031-04-06 00:00+00');
SELECT is(status_of('owes'), 'past_due', 'the first failure');
CALL billing.set_clock('owes', '2031-04-30 00:00+00');
SELECT is(status_of('owes') || ' ' || (SELECT next_due_at IS NULL FROM billing.subscriptions WHERE organization_id = 'owes'), 'unpaid true', 'after the last attempt it is unpaid, and nothing is due');
CALL billing.set_clock('owes', '2031-06-10 00:00+00');
SELECT is(invoices_of('owes'), 'cycle 3000 04-06', 'nor billed');
SELECT billing.update_subscription(subscription_of('owes'), payment_method => 'pm_card_visa');
CALL billing.run_worker();
CALL billing.advance_clock('owes', '1 hour');
SELECT is(status_of('owes') || ', ' || invoices_of('owes'), 'active, cycle 3000 04-06, cycle 3000 06-10', 'another method of its own is charged at once, and it begins again');
UPDATE billing.settings SET value = 'canceled' WHERE name = 'dunning_end';
CALL begin_at('gone', method => 'pm_card_chargeCustomerFail', trial_days => 5);
CALL billing.set_clock('gone', '2031-04-30 00:00+00');
SELECT is(status_of('gone') || ', ' || invoices_of('gone'), 'canceled, cycle 3000 04-06', 'or it ends');
UPDATE billing.settings SET value = 'unpaid' WHERE name = 'dunning_end';

-- ---------------------------------------------------------------------------
-- One that ends by its date settles what stood beside it

CALL begin_at('beside');
INSERT INTO billing.subscriptions (customer_id, organization_id, plan_id, plan_group, price_id, status, managed_by, provider, account, livemode, conflict)
SELECT s.customer_id, s.organization_id, s.plan_id, s.plan_group, s.price_id, 'active', 'provider', s.provider, s.account, s.livemode, true FROM billing.subscriptions AS s WHERE s.organization_id = 'beside';
UPDATE billing.subscriptions SET cancel_at_period_end = true WHERE organization_id = 'beside' AND managed_by = 'local';
CALL billing.set_clock('beside', '2031-05-01 00:00+00');
SELECT results_eq($$SELECT managed_by, status, conflict FROM billing.subscriptions WHERE organization_id = 'beside' ORDER BY 1$$, $$VALUES ('local', 'canceled', false), ('provider', 'active', false)$$,
				  'the other one is no conflict any more');

-- ---------------------------------------------------------------------------
-- A stopped account: invoices are made, collecting waits

CALL begin_at('stopped', method => 'pm_card_visa');
UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'a test' WHERE provider = 'sandbox';
CALL billing.set_clock('stopped', '2031-05-02 00:00+00');
SELECT is(invoices_of('stopped') || ', ' || status_of('stopped'), 'create 3000 04-01, cycle 3000 05-01, active', 'it is renewed');
UPDATE billing.provider_accounts SET stopped_at = NULL, stopped_reason = NULL WHERE provider = 'sandbox';
CALL billing.advance_clock('stopped', '1 hour');
SELECT is((SELECT count(*) FROM billing.invoices WHERE organization_id = 'stopped' AND status = 'paid'), 2::bigint, 'and charged when it goes on');

-- ---------------------------------------------------------------------------
-- A standstill of two months by the clock of the server

SELECT billing.create_customer('real', country => 'US') AS real \gset
CALL billing.run_worker();
SELECT billing.subscribe('real', 'small', collection_method => 'send_invoice', days_until_due => 300, managed_by => 'local') AS subscription \gset
CALL billing.run_worker();
UPDATE billing.subscriptions SET billing_anchor = date_trunc('second', now()) - interval '2 months 10 days', schedule_start = date_trunc('second', now()) - interval '2 months 10 days',
	current_period_start = date_trunc('second', now()) - interval '2 months 10 days', current_period_end = date_trunc('second', now()) - interval '2 months 10 days' + interval '1 month',
	next_due_at = date_trunc('second', now()) - interval '2 months 10 days' + interval '1 month' WHERE id = :'subscription';
CALL billing.run_worker();
CALL billing.run_worker();
SELECT is((SELECT count(*) || ' ' || count(DISTINCT period_start) FROM billing.invoices WHERE organization_id = 'real' AND billing_reason = 'subscription_cycle'), '2 2', 'each period has one invoice');
SELECT ok((SELECT current_period_end > now() AND next_due_at = current_period_end FROM billing.subscriptions WHERE id = :'subscription'), 'and the next one is due when it ends');

-- ---------------------------------------------------------------------------
-- Refused

SELECT fails($$SELECT billing.subscribe('billed', 'small', managed_by => 'local')$$, 'JB005', 'customer', NULL, 'nobody is sold to who is deleted');
SELECT fails(format($$SELECT billing.update_subscription(%L, plan => 'euros')$$, subscription_of('moves')), '22023', 'no price in USD', 'EUR', 'a plan without a price in the currency');
SELECT billing.create_customer('new', country => 'US') AS new \gset
SELECT fails($$SELECT billing.subscribe('new', 'yearly', managed_by => 'local')$$, '22023', 'has no price in USD for 1 year', 'component', 'components have the interval of the base');
CALL billing.run_worker();
SELECT billing.subscribe('new', 'small', managed_by => 'local') AS waits \gset
SELECT fails(format($$SELECT billing.update_subscription(%L, plan => 'large')$$, :'waits'), 'JB008', 'is incomplete and cannot be changed', 'pay_invoice', 'one that waits for its first payment cannot be changed');
SELECT fails(format($$SELECT billing.update_subscription(%L, plan => 'large')$$, subscription_of('gone')), 'JB008', 'has ended', 'subscribe', 'nor one that has ended');
SELECT is_empty($$SELECT * FROM billing.ledger_imbalance$$, 'the books balance');

-- ---------------------------------------------------------------------------
-- The last invoice of a customer who is gone comes when it is due

SELECT billing.create_meter('parting', 'sum') AS parting, billing.create_plan('metered_end', 'Metered', 1000, 'USD') AS metered_end \gset
SELECT billing.create_price('metered_end', NULL, 'USD', component => 'parting', metric => 'parting', unit_amount => 2) AS parting_price, billing.create_customer('parts') AS parts \gset
CALL billing.run_worker();
CALL billing.set_clock('parts', '2027-04-01 00:00+00');
SELECT billing.subscribe('parts', 'metered_end', collection_method => 'send_invoice', days_until_due => 30, managed_by => 'local') AS parted \gset
CALL billing.set_clock('parts', '2027-04-10 00:00+00');
SELECT billing.record_usage('parts', 'parting', 100);
CALL billing.advance_clock('parts', '1 hour');
SELECT billing.delete_customer(:'parts');
CALL billing.run_worker();
SELECT is((SELECT status FROM billing.invoices WHERE organization_id = 'parts' AND billing_reason = 'subscription_end'), 'draft', 'it waits for late usage');
CALL billing.set_clock('parts', '2027-04-11 00:00+00');
SELECT is((SELECT status || ' ' || total FROM billing.invoices WHERE organization_id = 'parts' AND billing_reason = 'subscription_end'), 'open 200', 'and is made final when his clock comes there');
SELECT billing.void_invoice(id) FROM billing.invoices WHERE organization_id = 'parts' AND status = 'open';
\set ON_ERROR_STOP off
CALL billing.set_clock('parts', '2027-05-01 00:00+00');
SELECT is(:'LAST_ERROR_SQLSTATE'::text, 'JB005', 'nothing is left to play then');
\set ON_ERROR_STOP on
SELECT * FROM finish();

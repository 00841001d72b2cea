-- The billing engine: the life of a local subscription by the test clock, one story for each rule.
\ir helpers.psql
SELECT plan(72);

SELECT count(billing.create_customer(o, country => 'US')) AS customers
FROM string_to_table('january standstill carded bare paused owing part free metered once sent nobody planned second mixed yen many late expired dst debit refused another declined unusable', ' ') AS o \gset
CALL billing.run_worker();

-- What an organisation was billed: reason, total, state and beginning of each period.
CREATE FUNCTION billed(organization text) RETURNS SETOF text
LANGUAGE sql
BEGIN ATOMIC
	SELECT concat_ws(' ', replace(i.billing_reason, 'subscription_', ''), i.total, i.status, (i.period_start AT TIME ZONE 'UTC')::date)
	FROM billing.invoices AS i WHERE i.organization_id = organization ORDER BY i.issued_at, i.id;
END;
CREATE FUNCTION lines(organization text) RETURNS SETOF text
LANGUAGE sql
BEGIN ATOMIC
	SELECT concat_ws(' ', l.kind, l.amount, l.description) FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id
	WHERE i.organization_id = organization ORDER BY i.issued_at, i.id, l.position;
END;
CREATE FUNCTION happened(organization text) RETURNS SETOF text
LANGUAGE sql
BEGIN ATOMIC
	SELECT e.type FROM billing.events AS e WHERE e.organization_id = organization AND e.object = 'subscription' ORDER BY e.seq;
END;

-- ---------------------------------------------------------------------------
-- Periods

CALL billing.set_clock('january', '2031-01-31 10:00+00');
SELECT billing.subscribe('january', 'pro', 'pm_card_visa', managed_by => 'local') AS january \gset
SELECT is(status_of('january'), 'incomplete', 'what is due at the start has to be paid first');
SELECT is((SELECT incomplete_until FROM billing.subscriptions WHERE id = :'january'), '2031-02-01 09:00+00', 'within 23 hours');
CALL billing.run_worker();
SELECT is(status_of('january'), 'active', 'and is active when it is paid');
CALL billing.set_clock('january', '2031-06-01 00:00+00');
SELECT results_eq($$SELECT billed('january')$$,
	$$VALUES ('create 2900 paid 2031-01-31'), ('cycle 2900 paid 2031-02-28'), ('cycle 2900 paid 2031-03-31'), ('cycle 2900 paid 2031-04-30'), ('cycle 2900 paid 2031-05-31')$$,
	'the 31st comes back after February, an invoice for each period');
SELECT results_eq($$SELECT i.issued_at FROM billing.invoices AS i WHERE i.organization_id = 'january' ORDER BY 1 OFFSET 1 LIMIT 1$$,
	$$VALUES ('2031-02-28 10:00+00'::timestamptz)$$, 'each is issued at its own time');
SELECT is((SELECT next_due_at FROM billing.subscriptions WHERE id = :'january'), '2031-06-30 10:00+00', 'the next period ends on the last of June');

-- as if nothing had run for months: the clock stands, the due time is old
CALL billing.set_clock('standstill', '2031-01-10 00:00+00');
SELECT billing.subscribe('standstill', 'pro', collection_method => 'send_invoice', days_until_due => 10, managed_by => 'local') AS standstill \gset
SELECT is(status_of('standstill'), 'active', 'an invoice that is sent leaves it active');
CALL billing.run_worker();
UPDATE billing.sandbox_clocks SET now = '2031-04-20 00:00+00' WHERE organization_id = 'standstill';
CALL billing.run_worker();
SELECT results_eq($$SELECT billed('standstill')$$,
	$$VALUES ('create 2900 open 2031-01-10'), ('cycle 2900 open 2031-02-10'), ('cycle 2900 open 2031-03-10'), ('cycle 2900 open 2031-04-10')$$,
	'after a standstill there is an invoice for each period');
SELECT is((SELECT count(DISTINCT (subscription_id, period_start)) FROM billing.invoices WHERE organization_id = 'standstill'), 4::bigint, 'and one only');
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.invoices WHERE organization_id = 'standstill'), 4::bigint, 'however often the duty runs');

UPDATE billing.settings SET value = 'calendar' WHERE name = 'billing_alignment';
CALL billing.set_clock('part', '2031-01-20 00:00+00');
SELECT billing.subscribe('part', 'pro', 'pm_card_visa', managed_by => 'local') AS part \gset
UPDATE billing.settings SET value = 'anniversary' WHERE name = 'billing_alignment';
CALL billing.run_worker();
CALL billing.set_clock('part', '2031-02-02 00:00+00');
-- 12 of 31 days of 29.00
SELECT results_eq($$SELECT billed('part')$$, $$VALUES ('create 1123 paid 2031-01-20'), ('cycle 2900 paid 2031-02-01')$$, 'aligned to the calendar, the first period is a part');
SELECT is((SELECT billing_anchor FROM billing.subscriptions WHERE id = :'part'), '2031-01-01 00:00+00', 'counted from the beginning of the month');

SELECT billing.update_customer(billing.find_customer('dst'), '{"timezone": "America/New_York"}');
CALL billing.set_clock('dst', '2031-02-15 15:00+00');
SELECT billing.subscribe('dst', 'pro', 'pm_card_visa', managed_by => 'local') AS dst \gset
SELECT is((SELECT current_period_end FROM billing.subscriptions WHERE id = :'dst'), '2031-03-15 14:00+00', 'the clock of the customer counts: 10:00 in New York');

-- ---------------------------------------------------------------------------
-- Trials

CALL billing.set_clock('carded', '2031-01-01 00:00+00');
SELECT billing.subscribe('carded', 'pro', 'pm_card_visa', trial_days => 14, managed_by => 'local') AS carded \gset
SELECT is(status_of('carded'), 'trialing', 'a trial begins at once');
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.invoices WHERE organization_id = 'carded'), 0::bigint, 'and is not billed');
CALL billing.set_clock('carded', '2031-01-11 00:00+00');
SELECT results_eq($$SELECT happened('carded')$$, $$VALUES ('subscription.trialing')$$, 'its end is not announced yet');
CALL billing.set_clock('carded', '2031-01-12 00:00+00');
SELECT results_eq($$SELECT happened('carded')$$, $$VALUES ('subscription.trialing'), ('subscription.trial_will_end')$$, 'it is three days before');
CALL billing.set_clock('carded', '2031-01-16 00:00+00');
SELECT results_eq($$SELECT billed('carded')$$, $$VALUES ('cycle 2900 paid 2031-01-15')$$, 'with a card the first period follows');
SELECT results_eq($$SELECT happened('carded')$$, $$VALUES ('subscription.trialing'), ('subscription.trial_will_end'), ('subscription.active')$$, 'the notice comes once');

CALL billing.set_clock('bare', '2031-01-01 00:00+00');
CALL billing.set_clock('paused', '2031-01-01 00:00+00');
CALL billing.set_clock('owing', '2031-01-01 00:00+00');
SELECT billing.subscribe('bare', 'pro', trial_days => 7, managed_by => 'local') AS bare,
	billing.subscribe('paused', 'pro', trial_days => 7, trial_end_behavior => 'pause', managed_by => 'local') AS paused,
	billing.subscribe('owing', 'pro', trial_days => 7, trial_end_behavior => 'create_invoice', managed_by => 'local') AS owing \gset
CALL billing.set_clock('bare', '2031-01-08 00:00+00');
CALL billing.set_clock('paused', '2031-01-08 00:00+00');
CALL billing.set_clock('owing', '2031-01-08 00:00+00');
SELECT is(status_of('bare'), 'canceled', 'without a method a trial ends');
SELECT is((SELECT count(*) FROM billing.invoices WHERE organization_id = 'bare'), 0::bigint, 'and nothing is billed');
SELECT is(status_of('paused'), 'paused', 'or is paused');
SELECT is((SELECT next_due_at FROM billing.subscriptions WHERE id = :'paused'), NULL, 'until somebody acts');
SELECT results_eq($$SELECT billed('owing')$$, $$VALUES ('cycle 2900 open 2031-01-08')$$, 'or is billed all the same');

-- ---------------------------------------------------------------------------
-- Free, once, sent

CALL billing.set_clock('free', '2031-01-01 00:00+00');
SELECT billing.subscribe('free', 'free', managed_by => 'local') AS free \gset
SELECT is(status_of('free'), 'active', 'what costs nothing is active at once');
CALL billing.set_clock('free', '2031-03-15 00:00+00');
SELECT is((SELECT current_period_start FROM billing.subscriptions WHERE id = :'free'), '2031-03-01 00:00+00', 'its periods go on');
SELECT is((SELECT count(*) FROM billing.invoices WHERE organization_id = 'free'), 0::bigint, 'without an invoice');

SELECT billing.create_plan('setup', 'Setup', 1000, 'USD') AS setup \gset
SELECT billing.create_price('setup', 5000, 'USD', 'one_time', component => 'installation') AS installation \gset
SELECT billing.create_price('setup', 300, 'USD', component => 'seats') AS seats \gset
CALL billing.set_clock('once', '2031-01-01 00:00+00');
SELECT billing.subscribe('once', 'setup', 'pm_card_visa', quantity => 4, managed_by => 'local') AS once \gset
CALL billing.run_worker();
CALL billing.set_clock('once', '2031-02-02 00:00+00');
SELECT results_eq($$SELECT lines('once')$$,
	$$VALUES ('base 1000 Setup'), ('one_time 5000 Setup: installation'), ('seats 1200 Setup: seats'), ('base 1000 Setup'), ('seats 1200 Setup: seats')$$,
	'what is paid once is on the first invoice, and the quantity counts seats');

CALL billing.set_clock('nobody', '2031-01-01 00:00+00');
SELECT billing.subscribe('nobody', 'pro', managed_by => 'local') AS nobody \gset
CALL billing.set_clock('nobody', '2031-01-01 22:59+00');
SELECT is(status_of('nobody'), 'incomplete', 'the first payment is waited for');
CALL billing.set_clock('nobody', '2031-01-01 23:00+00');
SELECT is(status_of('nobody'), 'incomplete_expired', '23 hours');
SELECT results_eq($$SELECT billed('nobody')$$, $$VALUES ('create 2900 void 2031-01-01')$$, 'then its invoice is void');

-- A card in the same call: one that attaches and is declined, and one that does not even attach.
CALL billing.set_clock('declined', '2031-01-01 00:00+00');
CALL billing.set_clock('unusable', '2031-01-01 00:00+00');
SELECT billing.subscribe('declined', 'pro', 'pm_card_chargeCustomerFail', managed_by => 'local') AS declined, billing.subscribe('unusable', 'pro', 'pm_card_chargeDeclined', managed_by => 'local') AS unusable \gset
CALL billing.run_worker();
SELECT results_eq($$SELECT e.organization_id || ' ' || e.type FROM billing.events AS e WHERE e.organization_id IN ('declined', 'unusable') AND e.object IN ('invoice', 'subscription')
		AND e.type NOT LIKE '%.finalized' ORDER BY e.organization_id, e.seq$$,
	$$VALUES ('declined subscription.created'), ('declined invoice.payment_failed'), ('unusable subscription.created'), ('unusable invoice.payment_failed'), ('unusable invoice.payment_action_required')$$,
	'each is told once, and the second that another method is needed');
SELECT is((SELECT string_agg(concat_ws(' ', a.organization_id, a.cause, a.state, a.decline_code), ', ' ORDER BY a.organization_id, a.attempt)
		   FROM billing.dunning_attempts AS a WHERE a.organization_id IN ('declined', 'unusable')),
		  'declined issue failed generic_decline, unusable issue failed payment_method_refused', 'one attempt each, for what it was');
SELECT is((SELECT string_agg(p.organization_id || ' ' || p.status, ', ') FROM billing.payment_intents AS p WHERE p.organization_id IN ('declined', 'unusable')), 'declined failed', 'and one charge');
SELECT is((SELECT string_agg(DISTINCT s.status || ' ' || s.error_code, ', ') FROM billing.subscriptions AS s WHERE s.organization_id IN ('declined', 'unusable')),
		  'incomplete generic_decline, incomplete payment_method_refused', 'the subscription waits, and says why');
CALL billing.set_clock('unusable', '2031-01-01 01:00+00');
SELECT is_empty($$SELECT what FROM billing.attention WHERE organization_id IN ('declined', 'unusable')$$, 'for the customer, and for nobody else');
SELECT billing.attach_payment_method(billing.find_customer('declined'), 'pm_card_visa', set_default => true) AS better \gset
CALL billing.run_worker();
CALL billing.set_clock('unusable', '2031-01-01 23:00+00');
SELECT is(status_of('declined') || ' ' || status_of('unusable'), 'active incomplete_expired', 'another card pays, and without one it ends');

-- A debit takes longer than that: it is waited for.
SELECT count(billing.attach_payment_method(billing.find_customer(o), t, set_default => true)) AS debits
FROM (VALUES ('debit', 'pm_usBankAccount_success'), ('refused', 'pm_usBankAccount_insufficientFunds'), ('another', 'pm_usBankAccount_insufficientFunds')) AS v (o, t) \gset
CALL billing.run_worker();
CALL billing.set_clock('debit', '2031-01-01 00:00+00');
CALL billing.set_clock('refused', '2031-01-01 00:00+00');
CALL billing.set_clock('another', '2031-01-01 00:00+00');
SELECT count(billing.subscribe(o, 'pro', managed_by => 'local')) AS subscribed FROM string_to_table('debit refused another', ' ') AS o \gset
CALL billing.set_clock('debit', '2031-01-04 00:00+00');
CALL billing.set_clock('refused', '2031-01-04 00:00+00');
CALL billing.set_clock('another', '2031-01-04 00:00+00');
SELECT is((SELECT string_agg(DISTINCT concat_ws(' ', s.status, s.due_failures, s.due_error), ', ') FROM billing.subscriptions AS s WHERE s.organization_id IN ('debit', 'refused', 'another')),
		  'incomplete 0', 'days after the 23 hours a debit may still pay, which is no failure');
SELECT is_empty($$SELECT what FROM billing.attention WHERE organization_id IN ('debit', 'refused', 'another')$$, 'and nobody has to look at it');
SELECT fails($$SELECT billing.subscribe('refused', 'setup', managed_by => 'local')$$, 'JB008', 'has a subscription in plan group', 'await', 'nor does it give way meanwhile');
SELECT billing.attach_payment_method(billing.find_customer('another'), 'pm_card_visa', set_default => true) AS visa \gset
CALL billing.set_clock('debit', '2031-01-05 00:00+00');
CALL billing.set_clock('refused', '2031-01-05 22:00+00');
CALL billing.set_clock('another', '2031-01-05 00:00+00');
SELECT is(status_of('debit'), 'active', 'when it has paid the subscription is active');
SELECT is(status_of('refused'), 'incomplete', 'when it has failed the customer can pay otherwise');
CALL billing.set_clock('refused', '2031-01-05 23:00+00');
SELECT is((SELECT s.status || ' ' || s.ended_at || ' ' || i.status FROM billing.subscriptions AS s JOIN billing.invoices AS i ON i.subscription_id = s.id WHERE s.organization_id = 'refused'),
		  'incomplete_expired 2031-01-05 23:00:00+00 void', 'for 23 hours, as at first');
SELECT is(status_of('another'), 'active', 'but not before a method that came meanwhile was tried');
-- the bank thinks better of it
UPDATE billing.sandbox_state SET state = jsonb_set(state, '{payments,0,status}', '"processing"') WHERE customer_id = billing.find_customer('refused');
SELECT billing.sandbox_settle(p.id, 'succeeded') FROM billing.payment_intents AS p WHERE p.organization_id = 'refused' \g /dev/null
CALL billing.run_worker();
SELECT is(status_of('refused') || ' ' || (SELECT b.balance FROM billing.customer_balances AS b WHERE b.organization_id = 'refused'), 'incomplete_expired 2900', 'money that comes after the end is in the balance');
SELECT is((SELECT string_agg(what, ', ') FROM billing.attention WHERE organization_id = 'refused'), 'payment pays nothing', 'for a person to look at');

CALL billing.set_clock('planned', '2031-01-01 00:00+00');
SELECT billing.subscribe('planned', 'pro', 'pm_card_visa', cancel_at => '2031-02-10 00:00+00', managed_by => 'local') AS planned \gset
CALL billing.run_worker();
SELECT results_eq($$SELECT kind, due_at FROM billing.list_scheduled_changes('planned') WHERE state = 'pending'$$, $$VALUES ('cancel', '2031-02-10 00:00+00'::timestamptz)$$, 'an end that is planned can be read');
CALL billing.set_clock('planned', '2031-03-15 00:00+00');
SELECT is(status_of('planned'), 'canceled', 'and comes');
SELECT is((SELECT ended_at FROM billing.subscriptions WHERE id = :'planned'), '2031-02-10 00:00+00', 'at its time');

-- ---------------------------------------------------------------------------
-- Usage

SELECT billing.create_meter('calls', 'sum') AS calls \gset
SELECT billing.create_plan('metered', 'Metered', 1000, 'USD') AS plan \gset
SELECT billing.create_price('metered', NULL, 'USD', component => 'calls', metric => 'calls', model => 'graduated',
	tiers => '[{"up_to": 100, "unit_amount": 2}, {"unit_amount": 1}]', free_units => 50) AS calls_price \gset
CALL billing.set_clock('metered', '2031-01-01 00:00+00');
SELECT billing.subscribe('metered', 'metered', 'pm_card_visa', managed_by => 'local') AS metered \gset
CALL billing.run_worker();
SELECT results_eq($$SELECT lines('metered')$$, $$VALUES ('base 1000 Metered')$$, 'usage is not billed in advance');
CALL billing.set_clock('metered', '2031-01-20 00:00+00');
SELECT billing.record_usage('metered', 'calls', 160) AS recorded \gset
CALL billing.set_clock('metered', '2031-02-01 00:00+00');
SELECT results_eq($$SELECT billed('metered') OFFSET 1$$, $$VALUES ('cycle 1000 draft 2031-02-01')$$, 'an invoice with usage waits for what comes late');
SELECT is((SELECT current_period_start FROM billing.subscriptions WHERE id = :'metered'), '2031-02-01 00:00+00', 'while the period goes on');
SELECT billing.record_usage('metered', 'calls', 40, '2031-01-31 23:59+00') AS recorded \gset
CALL billing.set_clock('metered', '2031-02-01 01:00+00');
-- 200 used, 50 free: 100 at 2 and 50 at 1
SELECT results_eq($$SELECT lines('metered') OFFSET 1$$,
	$$VALUES ('base 1000 Metered'), ('usage 0 calls: free units'), ('usage 200 calls: tier 1'), ('usage 50 calls: tier 2')$$, 'then usage is billed by tier, late usage included');
SELECT results_eq($$SELECT billed('metered') OFFSET 1$$, $$VALUES ('cycle 1250 paid 2031-02-01')$$, 'in one invoice with the next period');
SELECT billing.record_usage('metered', 'calls', 10, '2031-01-15 00:00+00') AS recorded \gset
CALL billing.set_clock('metered', '2031-03-01 01:00+00');
SELECT results_eq($$SELECT lines('metered') OFFSET 5$$, $$VALUES ('base 1000 Metered'), ('usage 10 calls: +10 that came late')$$,
	'what comes later still is on the next invoice, at the price of the tier that it is in; no usage is no line');

SELECT billing.create_plan('other', 'Other', 500, 'USD', plan_group => 'other') AS other \gset
SELECT billing.create_price('other', 1, 'USD', component => 'calls', metric => 'calls') AS other_calls \gset
SELECT fails($$SELECT billing.subscribe('metered', 'other', managed_by => 'local')$$, 'JB008', 'is billed by another subscription', 'one plan', 'usage of an organisation is billed once');

-- An anchor is the grid, however far away.
SELECT billing.create_customer('grid', country => 'US') AS grid \gset
CALL billing.run_worker();
CALL billing.set_clock('grid', '2031-01-21 00:00+00');
SELECT billing.subscribe('grid', 'pro', managed_by => 'local', collection_method => 'send_invoice', days_until_due => 10, billing_anchor => '2035-02-01 00:00+00') AS grid_subscription \gset
SELECT is((SELECT current_period_end FROM billing.subscriptions WHERE id = :'grid_subscription'), '2031-02-01 00:00+00', 'the first period is a part, to the next moment of it');

-- ---------------------------------------------------------------------------
-- What is refused

SELECT fails($$SELECT billing.subscribe('mixed', 'pro', success_url => 'https://example.com', managed_by => 'local')$$, 'JB004', 'success_url', 'Leave it out', 'there is no checkout of ours');
SELECT fails($$SELECT billing.subscribe('mixed', 'pro', automatic_tax => true, managed_by => 'local')$$, 'JB004', 'automatic_tax', 'set_tax_rate', 'nor a tax that a provider computes');
SELECT fails($$SELECT billing.subscribe('mixed', 'pro', currency => 'EUR', managed_by => 'local')$$, '22023', 'no price in EUR', 'USD', 'a plan without a price in the currency is refused');
SELECT fails($$SELECT billing.subscribe('mixed', 'pro', quantity => -1, managed_by => 'local')$$, '22023', 'quantity must be', NULL, 'so is a negative quantity');
SELECT fails($$SELECT billing.subscribe('mixed', 'pro', billing_anchor => '2001-01-01', managed_by => 'local')$$, '22023', 'billing_anchor is not after the start', 'a moment after the start at which a whole period begins', 'an anchor that is past');
SELECT fails($$SELECT billing.subscribe('mixed', 'pro', coupon => 'nope', managed_by => 'local')$$, 'JB005', 'coupon', NULL, 'a coupon that there is not');
SELECT is((SELECT count(*) FROM billing.subscriptions WHERE organization_id = 'mixed'), 0::bigint, 'nothing is left half done');
SELECT fails($$SELECT billing.subscribe('carded', 'pro', managed_by => 'local')$$, 'JB008', 'has a subscription in plan group', 'update_subscription', 'and a second one of the group');

-- one that waits for its first payment gives way
CALL billing.set_clock('second', '2031-01-01 00:00+00');
SELECT billing.subscribe('second', 'pro', managed_by => 'local') AS first \gset
CALL billing.run_worker();
SELECT billing.subscribe('second', 'setup', 'pm_card_visa', managed_by => 'local') AS second \gset
CALL billing.run_worker();
SELECT is((SELECT status FROM billing.subscriptions WHERE id = :'first'), 'incomplete_expired', 'the first one gives way');
SELECT is((SELECT status FROM billing.invoices WHERE subscription_id = :'first'), 'void', 'with its invoice');
SELECT is((SELECT status FROM billing.subscriptions WHERE id = :'second'), 'active', 'to the second');

-- ---------------------------------------------------------------------------
-- One that cannot be billed holds nobody up

CALL billing.set_clock('many', '2031-01-01 00:00+00');
CALL billing.set_clock('late', '2031-01-01 00:00+00');
SELECT billing.subscribe('many', 'pro', 'pm_card_visa', managed_by => 'local') AS many,
	billing.subscribe('late', 'pro', 'pm_card_visa', managed_by => 'local') AS late \gset
CALL billing.run_worker();
UPDATE billing.subscriptions SET zone = 'Nowhere/Atall' WHERE id = :'many';
UPDATE billing.sandbox_clocks SET now = '2031-02-02 00:00+00' WHERE organization_id IN ('many', 'late');
CALL billing.run_worker();
SELECT results_eq($$SELECT billed('late') OFFSET 1$$, $$VALUES ('cycle 2900 paid 2031-02-01')$$, 'the others are billed');
SELECT is((SELECT what FROM billing.attention WHERE object_id = :'many'), 'subscription cannot be billed', 'and a person hears of it');
UPDATE billing.subscriptions SET zone = 'UTC' WHERE id = :'many';
CALL billing.advance_clock('many', interval '1 hour');
SELECT results_eq($$SELECT billed('many') OFFSET 1$$, $$VALUES ('cycle 2900 paid 2031-02-01')$$, 'it is billed when it can be');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

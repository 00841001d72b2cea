-- Stories of local subscriptions in which money could go wrong. Numbers are computed by hand, by docs/arithmetic.md.
\ir helpers.psql
\ir paid_helpers.psql
SELECT plan(48);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_meter('calls', 'sum') AS meter \gset
SELECT billing.create_plan('small', 'Small', 3000, 'USD') AS p1, billing.create_plan('large', 'Large', 6000, 'USD') AS p2, billing.create_plan('xl', 'XL', 12000, 'USD') AS p3,
	   billing.create_plan('yearly', 'Yearly', 30000, 'USD', "interval" => 'year') AS p4, billing.create_plan('metb', 'Metered B', 3000, 'USD') AS p5,
	   billing.create_plan('metc', 'Metered C', 3000, 'USD') AS p6, billing.create_plan('withsetup', 'With setup', 3000, 'USD') AS p7,
	   billing.create_plan('flatc', 'Flat', 3000, 'USD') AS p8, billing.create_plan('team', 'Team', 1000, 'USD') AS p9, billing.create_plan('v1', 'V1', 1000, 'USD') AS p10,
	   billing.create_plan('v3', 'V3', 3000, 'USD') AS p11 \gset
SELECT billing.create_price('metb', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 2) AS calls_2,
	   billing.create_price('metc', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 5) AS calls_5,
	   billing.create_price('withsetup', 5000, 'USD', 'one_time', component => 'installation') AS installation,
	   billing.create_price('flatc', 1000, 'USD', component => 'support', model => 'flat') AS support,
	   billing.create_price('team', 300, 'USD', component => 'seats') AS seats \gset

-- Another plan, as the call names it.
CREATE FUNCTION changes(organization text, plan text, behavior text DEFAULT 'create_prorations') RETURNS void
LANGUAGE sql
BEGIN ATOMIC
	SELECT billing.update_subscription(subscription_of(organization), plan => changes.plan, proration_behavior => behavior);
END;
-- Calls at a moment, that its clock has not passed or that lies behind it.
CREATE PROCEDURE uses(organization text, quantity numeric, at timestamptz)
LANGUAGE plpgsql AS $$
BEGIN
	IF billing.now(organization) < at THEN
		CALL billing.set_clock(organization, at);
	END IF;
	PERFORM billing.record_usage(organization, 'calls', quantity, at);
	COMMIT;
END
$$;
-- ---------------------------------------------------------------------------
-- Canceled before its first invoice has a number

SELECT billing.create_customer('gw') AS c1, billing.create_customer('gy') AS c2 \gset
CALL billing.run_worker();
CALL billing.set_clock('gw', '2027-04-01');
CALL billing.set_clock('gy', '2027-04-01');
-- in one transaction, else the worker may come first
BEGIN;
SELECT billing.subscribe('gw', 'small', 'pm_card_visa', managed_by => 'local') AS gw \gset
SELECT billing.cancel_subscription(:'gw');
SELECT billing.subscribe('gy', 'small', 'pm_card_visa', managed_by => 'local') AS gy1 \gset
SELECT billing.subscribe('gy', 'xl', 'pm_card_visa', managed_by => 'local') AS gy2 \gset
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT string_agg(status || ' ' || amount_paid, ', ') FROM billing.invoices WHERE organization_id = 'gw'), 'void 0', 'what was canceled at once is not charged');
SELECT is((SELECT count(*) FROM billing.payment_intents WHERE organization_id = 'gw'), 0::bigint, 'and no payment is made');
SELECT is((SELECT string_agg(status || ' ' || amount_paid, ', ' ORDER BY id) FROM billing.invoices WHERE organization_id = 'gy'), 'void 0, paid 12000', 'nor what gave way to another one');

-- ---------------------------------------------------------------------------
-- A change while an invoice waits for late usage: usage of April, 100 calls at 2

CALL begin_at('grace', 'metb');
CALL uses('grace', 100, '2027-04-10 00:00+00');
CALL billing.set_clock('grace', '2027-05-01 00:10+00');
SELECT changes('grace', 'large');
CALL billing.set_clock('grace', '2027-05-01 02:00+00');
SELECT is((SELECT sum(amount) FROM billing.invoice_lines WHERE subscription_id = subscription_of('grace') AND kind = 'usage'), 200::numeric, 'usage of the period is billed, although nothing is metered any more');
CALL begin_at('dearer', 'metb');
CALL uses('dearer', 100, '2027-04-10 00:00+00');
CALL billing.set_clock('dearer', '2027-05-01 00:10+00');
SELECT changes('dearer', 'metc');
CALL uses('dearer', 10, '2027-04-20 00:00+00');
CALL billing.set_clock('dearer', '2027-05-01 02:00+00');
SELECT is((SELECT string_agg(l.kind || ' ' || l.amount, ', ' ORDER BY l.position) FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id
		   WHERE i.organization_id = 'dearer' AND i.billing_reason = 'subscription_cycle' AND l.kind = 'usage'), 'usage 200', 'at the price that was in force');
CALL billing.set_clock('dearer', '2027-06-01 02:00+00');
SELECT is((SELECT sum(amount) FROM billing.invoice_lines WHERE subscription_id = subscription_of('dearer') AND kind = 'usage'), 220::numeric, 'what came late is a correction at the price of its period');

-- ---------------------------------------------------------------------------
-- Usage is billed in arrears, and not prorated: 500 calls at 2

CALL begin_at('lost', 'metb');
CALL uses('lost', 500, '2027-04-05 00:00+00');
CALL billing.set_clock('lost', '2027-04-16 00:00+00');
SELECT changes('lost', 'large', 'none');
SELECT is(waits('lost'), 'usage 1000', 'usage until the change is billed where nothing is prorated');

-- ---------------------------------------------------------------------------
-- After a standstill: 3000 for 15 of 30 days back, 6000 for as many

CALL begin_at('ss', 'v3');
SELECT billing.create_price('v3', 6000, 'USD', effective_at => '2027-04-16', existing => 'now') AS v3 \gset
UPDATE billing.sandbox_clocks SET now = '2027-05-20' WHERE organization_id = 'ss';
CALL billing.run_worker();
SELECT is(last_invoice('ss'), 'subscription_cycle 7500: proration_credit -1500, proration_debit 3000, base 6000', 'the old price is given back, too');

-- ---------------------------------------------------------------------------
-- A date before an earlier change

CALL begin_at('back', 'small');
CALL billing.set_clock('back', '2027-04-16 00:00+00');
SELECT changes('back', 'large');
CALL billing.set_clock('back', '2027-04-20 00:00+00');
SELECT fails(format($$SELECT billing.update_subscription(%L, plan => 'xl', proration_date => '2027-04-10')$$, subscription_of('back')), '22023', 'before', 'preview_update', 'time that was billed anew is not given back once more');
SELECT billing.update_subscription(subscription_of('back'), plan => 'xl', proration_date => '2027-04-16 00:00+00');
SELECT is(waits('back'), 'proration_credit -1500, proration_debit 6000', 'from the change itself on it is');

-- ---------------------------------------------------------------------------
-- Usage while it is paused is nobody's: 100 calls before, 500 in it, 50 after

CALL begin_at('rest', 'metb');
CALL uses('rest', 100, '2027-04-05 00:00+00');
CALL billing.set_clock('rest', '2027-04-10 00:00+00');
SELECT billing.pause_subscription(subscription_of('rest'));
SELECT is(waits('rest'), 'usage 200', 'a pause closes the usage until then');
CALL billing.set_clock('rest', '2027-05-20 00:00+00');
CALL uses('rest', 500, '2027-05-20 00:00+00');
CALL billing.set_clock('rest', '2027-06-15 00:00+00');
SELECT billing.resume_subscription(subscription_of('rest'));
CALL uses('rest', 50, '2027-06-16 00:00+00');
CALL billing.set_clock('rest', '2027-07-15 02:00+00');
SELECT is((SELECT string_agg(l.amount::text, ', ' ORDER BY l.id) FROM billing.invoice_lines AS l WHERE l.subscription_id = subscription_of('rest') AND l.kind = 'usage'), '200, 100', 'what is used in it is not billed');
CALL begin_at('gone', 'metb');
CALL uses('gone', 100, '2027-04-05 00:00+00');
CALL billing.set_clock('gone', '2027-04-10 00:00+00');
SELECT billing.pause_subscription(subscription_of('gone'));
CALL billing.set_clock('gone', '2027-04-10 00:00:01+00');
CALL uses('gone', 500, '2027-04-10 00:00:01+00');
CALL billing.set_clock('gone', '2027-04-20 00:00+00');
SELECT billing.cancel_subscription(subscription_of('gone'), at_period_end => false);
CALL billing.set_clock('gone', '2027-04-20 02:00+00');
SELECT is(last_invoice('gone'), 'subscription_end 200: usage 200', 'nor when it ends in it');

-- ---------------------------------------------------------------------------
-- Versions for the next period: at the end of a trial, and after a pause

CALL begin_at('vt', 'v1', trial_days => 10);
CALL begin_at('vp', 'v1');
SELECT billing.pause_subscription(subscription_of('vp'));
SELECT billing.create_price('v1', 2000, 'USD', effective_at => '2027-04-05', existing => 'renewal') AS v1 \gset
CALL billing.set_clock('vt', '2027-04-11 00:00+00');
SELECT is(last_invoice('vt'), 'subscription_cycle 2000: base 2000', 'the period after a trial has the new version');
CALL billing.set_clock('vp', '2027-05-09 00:00+00');
SELECT billing.resume_subscription(subscription_of('vp'));
SELECT is(last_invoice('vp'), 'subscription_cycle 2000: base 2000', 'so has the one after a pause');

-- ---------------------------------------------------------------------------
-- An end by date stays where it is

CALL begin_at('dated', 'small');
SELECT billing.update_subscription(subscription_of('dated'), cancel_at => '2027-05-01');
SELECT changes('dated', 'yearly');
CALL billing.set_clock('dated', '2027-05-02 00:00+00');
SELECT is(status_of('dated'), 'canceled', 'whatever the period is then');
CALL begin_at('why', 'small');
SELECT billing.update_subscription(subscription_of('why'), cancel_at => '2027-05-01');
SELECT billing.cancel_subscription(subscription_of('why'), reason => 'too dear');
SELECT is((SELECT string_agg(c.reason, ', ') || ' ' || bool_or(s.cancel_at_period_end) FROM billing.scheduled_changes AS c JOIN billing.subscriptions AS s ON s.id = c.subscription_id
		   WHERE s.organization_id = 'why' AND c.state = 'pending'), 'too dear true', 'that it is to end with its period is kept, and why');

-- ---------------------------------------------------------------------------
-- What is paid once

CALL begin_at('once', 'withsetup');
CALL billing.set_clock('once', '2027-04-16 00:00+00');
SELECT changes('once', 'large');
SELECT changes('once', 'withsetup');
SELECT is(waits('once'), NULL, 'there and back it is not paid once more');
CALL begin_at('undone', 'small');
CALL billing.set_clock('undone', '2027-04-16 00:00+00');
SELECT changes('undone', 'withsetup');
SELECT is(waits('undone'), 'proration_credit -1500, proration_debit 1500, one_time 5000', 'who comes to a plan later pays it');
SELECT changes('undone', 'small');
SELECT is(waits('undone'), NULL, 'back in the same instant he does not');

SELECT billing.create_add_on('onb', 'Onboarding', '{"sso": true}') AS a1, billing.create_add_on('backup', 'Backup', '{"sso": true}') AS a2 \gset
SELECT billing.set_add_on_price('onb', 10000, 'USD', 'one_time') AS onb, billing.set_add_on_price('backup', 250, 'USD') AS backup,
	   billing.set_add_on_price('backup', 2500, 'USD', 'year') AS backup_year \gset
CALL begin_at('ao', 'small');
SELECT billing.set_add_on('ao', 'onb', 1);
SELECT billing.set_add_on('ao', 'onb', 3);
SELECT is(waits('ao'), 'one_time 10000, one_time 20000', 'more units are paid');
SELECT billing.set_add_on('ao', 'onb', 2);
SELECT is((SELECT sum(amount) FROM billing.invoice_lines WHERE invoice_id IS NULL AND subscription_id = subscription_of('ao')), 20000::numeric, 'one of them is taken back in the same instant');
SELECT billing.set_add_on('ao', 'onb', 0);
SELECT is(waits('ao'), NULL, 'and all of them');
SELECT billing.set_add_on('ao', 'onb', 1);
CALL billing.set_clock('ao', '2027-04-02 00:00+00');
SELECT billing.set_add_on('ao', 'onb', 0);
SELECT is(waits('ao'), 'one_time 10000', 'later it is not');
SELECT billing.set_add_on('ao', 'onb', 1);
SELECT is(waits('ao'), 'one_time 10000, one_time 10000', 'and bought again it is paid again');

-- ---------------------------------------------------------------------------
-- Add-ons

SELECT billing.create_customer('ai') AS c3 \gset
CALL billing.run_worker();
CALL billing.set_clock('ai', '2027-04-01');
-- in one transaction, else the worker may come first
BEGIN;
SELECT billing.subscribe('ai', 'small', 'pm_card_visa', managed_by => 'local') AS ai \gset
SELECT fails($$SELECT billing.set_add_on('ai', 'backup', 2)$$, 'JB008', 'incomplete', 'pay_invoice', 'one that would not be billed is refused');
COMMIT;
CALL billing.run_worker();
SELECT billing.set_add_on('ai', 'backup', 2);
SELECT is(waits('ai'), 'proration_debit 500', 'after the first payment it is billed');
CALL begin_at('longer', 'small');
SELECT billing.set_add_on('longer', 'backup', 2);
CALL billing.set_clock('longer', '2027-05-01 00:00+00');
CALL pays('longer');
SELECT changes('longer', 'yearly');
SELECT is((SELECT string_agg(l.component || ' ' || l.amount, ', ' ORDER BY l.component, l.id) FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id
		   WHERE i.organization_id = 'longer' AND i.billing_reason = 'subscription_update' AND l.amount > 0 AND l.component IS NOT NULL), 'addon.backup 5000, base 30000', 'with another interval an add-on has its price for that');

-- ---------------------------------------------------------------------------
-- A pause ends no dunning

CALL begin_at('owes', 'small');
SELECT billing.attach_payment_method(id, 'pm_card_chargeCustomerFail') AS bad FROM billing.customers WHERE organization_id = 'owes' \gset
CALL billing.run_worker();
UPDATE billing.subscriptions SET collection_method = 'charge_automatically', days_until_due = NULL WHERE organization_id = 'owes';
CALL billing.set_clock('owes', '2027-05-01 01:00+00');
SELECT is(status_of('owes'), 'past_due', 'May is not paid');
SELECT billing.pause_subscription(subscription_of('owes'));
CALL billing.set_clock('owes', '2027-05-02 00:00+00');
SELECT billing.resume_subscription(subscription_of('owes'));
SELECT is(status_of('owes'), 'past_due', 'nor after a pause');
SELECT billing.pause_subscription(subscription_of('owes'));
CALL billing.set_clock('owes', '2027-05-25 00:00+00');
SELECT billing.resume_subscription(subscription_of('owes'));
SELECT is(status_of('owes'), 'unpaid', 'whose dunning has come to its end');

-- ---------------------------------------------------------------------------
-- An invoice of which something was given back is not void

CALL begin_at('gift', 'small');
CALL billing.set_clock('gift', '2027-04-16 00:00+00');
SELECT changes('gift', 'large', 'always_invoice');
CALL billing.run_worker();
SELECT id AS open FROM billing.invoices WHERE organization_id = 'gift' AND status = 'open' \gset
SELECT changes('gift', 'small', 'always_invoice');
CALL billing.run_worker();
SELECT fails(format('SELECT billing.void_invoice(%L)', :'open'), 'JB008', 'given back', 'create_credit_note', 'what was given back would be a gift');
SELECT is((SELECT status FROM billing.invoices WHERE id = :'open'), 'open', 'it stays as it is');

-- ---------------------------------------------------------------------------
-- Nothing of a flat component: 1000 for 15 of 30 days back

CALL begin_at('flat', 'flatc');
CALL billing.set_clock('flat', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('flat'), items => '{"support": 0}');
SELECT is(waits('flat'), 'proration_credit -500', 'none of it costs nothing, also for the rest of a period');

-- ---------------------------------------------------------------------------
-- At the very instant of a renewal

CALL begin_at('instant', 'small');
CALL billing.set_clock('instant', '2027-05-01 00:00+00');
CALL pays('instant');
SELECT changes('instant', 'large');
SELECT is(waits('instant'), 'proration_credit -3000, proration_debit 6000', 'all of the period is billed anew');
SELECT changes('instant', 'small');
SELECT is(waits('instant'), NULL, 'and back nothing is left');
CALL begin_at('twice', 'small');
CALL billing.set_clock('twice', '2027-04-16 00:00+00');
SELECT changes('twice', plan, 'always_invoice') FROM unnest(ARRAY['yearly', 'small']) AS plan;
CALL pays('twice');
SELECT billing.update_subscription(subscription_of('twice'), quantity => 2), billing.update_subscription(subscription_of('twice'), quantity => 1);
SELECT is((SELECT coalesce(sum(amount), 0) FROM billing.invoice_lines WHERE subscription_id = subscription_of('twice') AND invoice_id IS NULL), 0::numeric, 'nor where a period of the same was left at that instant');
SELECT billing.update_subscription(subscription_of('instant'), plan => 'large', effective => 'period_end');
SELECT billing.update_subscription(subscription_of('instant'), cancel_at => '2027-06-01');
CALL billing.set_clock('instant', '2027-06-01 00:00+00');
SELECT is((SELECT plan || ' ' || status FROM billing.get_subscription(subscription_of('instant'))), 'small canceled', 'an end comes before a change that was planned for that moment');

-- ---------------------------------------------------------------------------
-- A preview tells all that changes: of 20 days at 6000 five are used, 15 at 3000 come

CALL begin_at('seen', 'small');
CALL billing.set_clock('seen', '2027-04-11 00:00+00');
SELECT changes('seen', 'large');
SELECT is(waits('seen'), 'proration_credit -2000, proration_debit 4000', 'what waits');
CALL billing.set_clock('seen', '2027-04-16 00:00+00');
SELECT is((SELECT string_agg(kind || ' ' || amount, ', ' ORDER BY "position") FROM billing.preview_update(subscription_of('seen'), plan => 'small')), 'proration_debit -3000, proration_debit 1500', 'what is cut is seen');
SELECT changes('seen', 'small');
SELECT is(waits('seen'), 'proration_credit -2000, proration_debit 1000, proration_debit 1500', 'and so it comes');

-- One that is paused and was to end with its period ends with the one that a change in the pause begins, when it goes on
CALL begin_at('ends', 'small');
SELECT billing.cancel_subscription(subscription_of('ends')), billing.pause_subscription(subscription_of('ends'));
CALL billing.set_clock('ends', '2027-04-16 00:00+00');
SELECT is((SELECT count(*) FROM billing.preview_update(subscription_of('ends'), plan => 'yearly')), 0::bigint, 'in a pause a change costs nothing');
SELECT changes('ends', 'yearly');
CALL billing.set_clock('ends', '2027-04-21 00:00+00');
SELECT billing.resume_subscription(subscription_of('ends'));
SELECT is(last_invoice('ends'), 'subscription_update 29000: proration_credit -1000, base 30000', 'when it goes on it is billed');
SELECT is(status_of('ends') || ' ' || (SELECT due_at::date FROM billing.list_scheduled_changes('ends') WHERE kind = 'cancel' AND state = 'pending'), 'active 2028-04-21', 'its end is that of the new period');

-- ---------------------------------------------------------------------------
-- What is written and what is refused

CALL begin_at('seats', 'team', quantity => 5);
SELECT is((SELECT quantity FROM billing.get_subscription(subscription_of('seats'))), 5::bigint, 'quantity counts seats where the plan has them');
SELECT billing.create_plan('inc1', 'I1') AS inc, billing.create_price('inc1', 1190, 'USD', tax_behavior => 'inclusive') AS inc_price \gset
CALL begin_at('inc', 'inc1');
SELECT is(last_invoice('inc'), 'subscription_create 1190: base 1190', 'a plan that gets a price of the list is sold by it');
SELECT fails(format('SELECT billing.update_subscription(%L, items => %L)', subscription_of('seats'), items), '22023', message, 'Pass something like', 'items: ' || message)
FROM (VALUES ('{"seats": {"quantity": 2, "prise": "x"}}', 'unknown member "prise"'), ('{"seats": " 7"}', 'no whole quantity')) AS v (items, message);

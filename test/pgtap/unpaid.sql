-- A subscription that is unpaid gives no access: what is changed then counts from the moment that it comes back, as in a pause. Numbers are computed by hand.
\ir helpers.psql
\ir paid_helpers.psql
SELECT plan(29);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_plan('small', 'Small', 3000, 'USD') AS p1, billing.create_plan('large', 'Large', 6000, 'USD') AS p2, billing.create_plan('team', 'Team', 1000, 'USD') AS p3,
	   billing.create_plan('yearly', 'Yearly', 30000, 'USD', "interval" => 'year') AS p4, billing.create_plan('rising', 'Rising', 3000, 'USD') AS p5,
	   billing.create_plan('calls', 'Calls', 3000, 'USD') AS p6 \gset
SELECT billing.create_meter('calls', 'sum') AS meter \gset
SELECT billing.create_price('team', 300, 'USD', component => 'seats') AS seats, billing.create_price('calls', currency => 'USD', component => 'calls', metric => 'calls', unit_amount => 2) AS calls \gset
SET timezone = 'UTC';

-- One from March 1st on whose April could not be collected: unpaid since April 8th.
CREATE PROCEDURE unpaid_at(organization text, plan text, quantity bigint DEFAULT 1, at timestamptz DEFAULT '2027-04-16 00:00+00')
LANGUAGE plpgsql AS $$
BEGIN
	CALL begin_at(organization, plan, '2027-03-01 00:00+00', quantity => quantity);
	PERFORM billing.attach_payment_method(billing.find_customer(organization), 'pm_card_chargeCustomerFail', set_default => true);
	COMMIT;
	CALL billing.run_worker();
	UPDATE billing.subscriptions SET collection_method = 'charge_automatically', days_until_due = NULL WHERE organization_id = organization;
	COMMIT;
	CALL billing.set_clock(organization, at);
END
$$;
-- The n-th invoice of an organisation is paid by other ways.
CREATE PROCEDURE paid(organization text, n integer DEFAULT 2)
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.mark_invoice_paid((SELECT i.id FROM billing.invoices AS i WHERE i.organization_id = organization ORDER BY i.issued_at, i.id LIMIT 1 OFFSET n - 1), 'by transfer');
	COMMIT;
	CALL billing.run_worker();
END
$$;
CREATE FUNCTION of_change(organization text, plan text DEFAULT NULL, items jsonb DEFAULT NULL, proration_behavior text DEFAULT 'create_prorations') RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', l.kind, l.amount), ', ' ORDER BY l.invoice NULLS LAST, l.position)
		FROM billing.preview_update(subscription_of(organization), plan => of_change.plan, items => of_change.items, proration_behavior => of_change.proration_behavior) AS l);
CREATE FUNCTION since(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' ', s.status, s.current_period_start::date, s.current_period_end::date) FROM billing.subscriptions AS s WHERE s.id = subscription_of(organization));
CREATE FUNCTION invoices(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', i.billing_reason, i.status, i.total), ', ' ORDER BY i.issued_at, i.id) FROM billing.invoices AS i WHERE i.organization_id = organization);

-- ---------------------------------------------------------------------------
-- Back within April: its last 10 of 30 days

CALL unpaid_at('within', 'small');
SELECT is(since('within'), 'unpaid 2027-04-01 2027-05-01', 'April is unpaid');
SELECT is(of_change('within', plan => 'large', proration_behavior => 'always_invoice'), NULL, 'nothing is told of a change');
SELECT billing.update_subscription(subscription_of('within'), plan => 'large', proration_behavior => 'always_invoice');
SELECT is(waits('within') || invoices('within'), NULL, 'nor does anything wait for it');
CALL billing.run_worker();
SELECT is(invoices('within'), 'subscription_create paid 3000, subscription_cycle open 3000', 'or is invoiced');
SELECT is((SELECT items_before_pause IS NOT NULL FROM billing.subscriptions WHERE id = subscription_of('within')), true, 'what it was before is kept');
CALL billing.set_clock('within', '2027-04-21 00:00+00');
CALL paid('within');
SELECT is(since('within') || '; ' || waits('within'), 'active 2027-04-01 2027-05-01; proration_credit -1000, proration_debit 2000', 'it counts from the payment on');
CALL billing.set_clock('within', '2027-05-01 00:00+00');
SELECT is(last_invoice('within'), 'subscription_cycle 7000: proration_credit -1000, proration_debit 2000, base 6000', 'once');

-- ---------------------------------------------------------------------------
-- Back after April: a period at the new price, and nothing else; the card cannot pay that either

CALL unpaid_at('after', 'small');
SELECT billing.update_subscription(subscription_of('after'), plan => 'large');
CALL billing.set_clock('after', '2027-05-10 00:00+00');
SELECT is(invoices('after'), 'subscription_create paid 3000, subscription_cycle open 3000', 'while it is unpaid nothing is billed');
CALL paid('after');
SELECT is(since('after') || '; ' || last_invoice('after'), 'past_due 2027-05-10 2027-06-10; subscription_cycle 6000: base 6000', 'nothing is prorated for the time without access');

-- by another card, and to a cheaper plan
CALL unpaid_at('card', 'large');
SELECT billing.update_subscription(subscription_of('card'), plan => 'small');
CALL billing.set_clock('card', '2027-05-10 00:00+00');
SELECT billing.attach_payment_method(billing.find_customer('card'), 'pm_card_visa', set_default => true) AS method \gset
CALL billing.run_worker();
SELECT is(since('card') || '; ' || last_invoice('card') || '; ' || invoices('card'),
	'active 2027-05-10 2027-06-10; subscription_cycle 3000: base 3000; subscription_create paid 6000, subscription_cycle paid 6000, subscription_cycle paid 3000', 'nor for a cheaper one');
SELECT is((SELECT count(*) FROM billing.customer_balances WHERE organization_id = 'card' AND balance <> 0), 0::bigint, 'no balance comes of it');

-- ---------------------------------------------------------------------------
-- Several changes are one; there and back is none; none is none

CALL unpaid_at('twice', 'small');
SELECT billing.update_subscription(subscription_of('twice'), plan => 'large');
SELECT billing.update_subscription(subscription_of('twice'), plan => 'team', quantity => 4);
CALL billing.set_clock('twice', '2027-04-21 00:00+00');
CALL paid('twice');
SELECT is(waits('twice'), 'proration_credit -1000, proration_debit 333, proration_debit 400', 'several changes are one, from what it was to what it is');
CALL unpaid_at('back', 'small');
SELECT billing.update_subscription(subscription_of('back'), plan => 'large');
CALL billing.set_clock('back', '2027-04-18 00:00+00');
SELECT billing.update_subscription(subscription_of('back'), plan => 'small');
CALL paid('back');
SELECT is(since('back') || coalesce(waits('back'), '-'), 'active 2027-04-01 2027-05-01-', 'there and back is nothing');
CALL unpaid_at('none', 'small');
SELECT billing.update_subscription(subscription_of('none'), plan => 'large', proration_behavior => 'none');
CALL paid('none');
SELECT is(since('none') || coalesce(waits('none'), '-'), 'active 2027-04-01 2027-05-01-', 'none: nothing is prorated');

-- ---------------------------------------------------------------------------
-- Another interval begins when it comes back: 10 of 30 days are given back

CALL unpaid_at('year', 'small');
SELECT billing.update_subscription(subscription_of('year'), plan => 'yearly');
SELECT is(since('year'), 'unpaid 2027-04-01 2027-05-01', 'another interval waits as well');
CALL billing.set_clock('year', '2027-04-21 00:00+00');
CALL paid('year');
SELECT is(since('year') || '; ' || last_invoice('year'), 'past_due 2027-04-21 2028-04-21; subscription_update 29000: proration_credit -1000, base 30000', 'and begins when it comes back');
CALL unpaid_at('year_none', 'small');
SELECT billing.update_subscription(subscription_of('year_none'), plan => 'yearly', proration_behavior => 'none');
CALL billing.set_clock('year_none', '2027-04-21 00:00+00');
CALL paid('year_none');
SELECT is(since('year_none') || '; ' || last_invoice('year_none'), 'past_due 2027-04-21 2028-04-21; subscription_cycle 30000: base 30000', 'also without credit');

-- ---------------------------------------------------------------------------
-- Versions for all that came meanwhile

CALL unpaid_at('version', 'rising', at => '2027-04-11 00:00+00');
SELECT billing.create_price('rising', 4500, 'USD', effective_at => '2027-04-15', existing => 'now') AS risen \gset
CALL billing.set_clock('version', '2027-04-16 00:00+00');
SELECT is(coalesce(waits('version'), '-'), '-', 'a version that moves all at once bills nothing while it is unpaid');
SELECT billing.update_subscription(subscription_of('version'), quantity => 2);
CALL billing.set_clock('version', '2027-04-21 00:00+00');
CALL paid('version');
SELECT is(waits('version'), 'proration_credit -1000, proration_debit 3000', 'it counts from the payment on, with what was changed');

-- ---------------------------------------------------------------------------
-- Usage of that time is nobody's, whatever is changed: 100 calls before April 8th, 50 in it, 10 after the payment, of 2 each

CALL begin_at('usage', 'calls', '2027-03-01 00:00+00');
SELECT billing.attach_payment_method(billing.find_customer('usage'), 'pm_card_chargeCustomerFail', set_default => true) AS bad \gset
CALL billing.run_worker();
UPDATE billing.subscriptions SET collection_method = 'charge_automatically', days_until_due = NULL WHERE organization_id = 'usage';
CALL billing.set_clock('usage', '2027-04-05 00:00+00');
SELECT billing.record_usage('usage', 'calls', 100, occurred_at => billing.now('usage')) IS NOT NULL AS used \gset
CALL billing.set_clock('usage', '2027-04-16 00:00+00');
SELECT is(since('usage') || '; ' || waits('usage'), 'unpaid 2027-04-01 2027-05-01; usage 200', 'usage until then is billed');
SELECT billing.record_usage('usage', 'calls', 50, occurred_at => billing.now('usage')) IS NOT NULL AS used \gset
CALL billing.set_clock('usage', '2027-04-17 00:00+00');
SELECT billing.update_subscription(subscription_of('usage'), items => '{"calls": null}');
SELECT billing.update_subscription(subscription_of('usage'), items => '{"calls": {}}');
SELECT is(waits('usage'), 'usage 200', 'usage while it is unpaid is not');
CALL billing.set_clock('usage', '2027-04-21 00:00+00');
CALL paid('usage');
SELECT billing.record_usage('usage', 'calls', 10, occurred_at => billing.now('usage')) IS NOT NULL AS used \gset
CALL billing.set_clock('usage', '2027-05-01 02:00+00');
SELECT is(last_invoice('usage'), 'subscription_cycle 3220: usage 200, base 3000, usage 20', 'that after it is again');

-- ---------------------------------------------------------------------------
-- Canceled with what is left: of what it was; 20.00 of its 30.00 are paid

CALL unpaid_at('ends', 'small');
SELECT billing.update_subscription(subscription_of('ends'), plan => 'large');
SELECT billing.mark_invoice_paid((SELECT i.id FROM billing.invoices AS i WHERE i.organization_id = 'ends' ORDER BY i.issued_at DESC LIMIT 1), 'a part', amount => 2000);
SELECT billing.cancel_subscription(subscription_of('ends'), at_period_end => false, prorate => true);
CALL billing.run_worker();
SELECT is(since('ends') || '; ' || last_invoice('ends'), 'canceled 2027-04-01 2027-05-01; subscription_end -1500: proration_credit -1500, balance 1500', 'half of April as it was billed, not as it was changed');
SELECT is((SELECT items_before_pause FROM billing.subscriptions WHERE organization_id = 'ends'), NULL, 'nothing is kept any more');

-- ---------------------------------------------------------------------------
-- Unpaid by a pause that ends no dunning: changed in both, it is one change

CALL begin_at('paused', 'small', '2027-03-01 00:00+00');
SELECT billing.attach_payment_method(billing.find_customer('paused'), 'pm_card_chargeCustomerFail', set_default => true) AS bad \gset
CALL billing.run_worker();
UPDATE billing.subscriptions SET collection_method = 'charge_automatically', days_until_due = NULL WHERE organization_id = 'paused';
CALL billing.set_clock('paused', '2027-04-02 00:00+00');
SELECT billing.pause_subscription(subscription_of('paused'));
SELECT billing.update_subscription(subscription_of('paused'), plan => 'large');
CALL billing.set_clock('paused', '2027-04-11 00:00+00');
SELECT billing.resume_subscription(subscription_of('paused'));
SELECT billing.update_subscription(subscription_of('paused'), quantity => 2);
SELECT is(since('paused') || coalesce(waits('paused'), '-'), 'unpaid 2027-04-01 2027-05-01-', 'changed in the pause and after it');
CALL billing.set_clock('paused', '2027-04-21 00:00+00');
CALL paid('paused');
SELECT is(since('paused') || '; ' || waits('paused'), 'active 2027-04-01 2027-05-01; proration_credit -1000, proration_debit 4000', 'it is one change, from the payment on');

-- ---------------------------------------------------------------------------
-- Past due it has access, and is prorated as ever: half of April

CALL unpaid_at('due', 'small', at => '2027-04-02 00:00+00');
SELECT is(since('due'), 'past_due 2027-04-01 2027-05-01', 'past due');
SELECT billing.update_subscription(subscription_of('due'), plan => 'large');
SELECT is(waits('due'), 'proration_credit 0, proration_debit 5800', 'it is billed for what it has');

SELECT is((SELECT count(*) FROM billing.ledger_imbalance), 0::bigint, 'the ledger balances');
SELECT * FROM finish();

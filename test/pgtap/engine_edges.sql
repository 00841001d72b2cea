-- What people ask for at the edges of the engine: no seats, a plan without them, a change in a pause, usage at the moment of the end. Numbers are computed by hand.
\ir helpers.psql
\ir paid_helpers.psql
SELECT plan(47);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_plan('small', 'Small', 3000, 'USD') AS p1, billing.create_plan('large', 'Large', 6000, 'USD') AS p2, billing.create_plan('team', 'Team', 1000, 'USD') AS p3,
	   billing.create_plan('yearly', 'Yearly', 30000, 'USD', "interval" => 'year') AS p4, billing.create_plan('nothing', 'Nothing', 0, 'USD') AS p5,
	   billing.create_plan('euros', 'Euros', 3000, 'EUR') AS p6, billing.create_plan('more_euros', 'More euros', 6000, 'EUR') AS p7, billing.create_plan('pesos', 'Pesos', 30000, 'MXN') AS p8,
	   billing.create_plan('metered', 'Metered', 1000, 'USD') AS p9, billing.create_plan('rising', 'Rising', 3000, 'USD') AS p10 \gset
SELECT billing.create_meter('calls', 'sum') AS meter \gset
SELECT billing.create_price('team', 300, 'USD', component => 'seats') AS seats, billing.create_price('metered', currency => 'USD', component => 'calls', metric => 'calls', unit_amount => 2, free_units => 30) AS calls,
	   billing.set_tax_rate('DE', 19, 'VAT', valid_from => '2020-01-01') AS vat \gset

CREATE FUNCTION of_change(organization text, plan text DEFAULT NULL, items jsonb DEFAULT NULL, proration_behavior text DEFAULT 'create_prorations', effective text DEFAULT 'now') RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', l.kind, l.amount), ', ' ORDER BY l.invoice NULLS LAST, l.position)
		FROM billing.preview_update(subscription_of(organization), plan => of_change.plan, items => of_change.items, proration_behavior => of_change.proration_behavior, effective => of_change.effective) AS l);
CREATE FUNCTION period(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT s.status || ' ' || s.current_period_start::date || ' ' || s.current_period_end::date FROM billing.subscriptions AS s WHERE s.id = subscription_of(organization));
SET timezone = 'UTC';

-- ---------------------------------------------------------------------------
-- No seats: 0 of what is beside the base; 3 seats at 3.00 for half of April are 4.50

CALL begin_at('none', 'team', quantity => 3);
CALL billing.set_clock('none', '2027-04-16 00:00+00');
SELECT is(of_change('none', items => '{"seats": 0}'), 'proration_credit -450', 'no seats any more: told');
SELECT lives_ok(format($$SELECT billing.update_subscription(%L, items => '{"seats": 0}')$$, subscription_of('none')), 'taken');
SELECT is(waits('none') || '; ' || (SELECT quantity FROM billing.get_subscription(subscription_of('none'))), 'proration_credit -450; 0', 'and given back');
CALL billing.set_clock('none', '2027-05-01 00:00+00');
SELECT is(last_invoice('none'), 'subscription_cycle 550: proration_credit -450, base 1000', 'the next period has none');
SELECT billing.update_subscription(subscription_of('none'), items => '{"seats": 2}');
SELECT is(waits('none'), 'proration_debit 600', 'and they can come back');
CALL begin_at('none_later', 'team', quantity => 3);
SELECT billing.update_subscription(subscription_of('none_later'), items => '{"seats": 0}', effective => 'period_end');
SELECT is((SELECT string_agg(kind || ' ' || amount, ', ') FROM billing.preview_invoice(subscription_of('none_later'))), 'base 1000', 'none from the next period on: told');
CALL billing.set_clock('none_later', '2027-05-01 00:00+00');
SELECT is(last_invoice('none_later') || ', ' || (SELECT state FROM billing.list_scheduled_changes('none_later')), 'subscription_cycle 1000: base 1000, done', 'and billed so');
SELECT fails(format($$SELECT billing.update_subscription(%L, quantity => 0)$$, subscription_of('none_later')), '22023', 'at least 1', '"seats": 0', 'quantity 0 is refused, and told how');
SELECT fails(format($$SELECT billing.update_subscription(%L, items => '{}')$$, subscription_of('none_later')), '22023', 'nothing to change', 'items', 'items that name nothing change nothing');

-- ---------------------------------------------------------------------------
-- A count of seats is none of a plan without seats: half of April, 5 seats

CALL begin_at('flat', 'team', quantity => 5);
CALL billing.set_clock('flat', '2027-04-16 00:00+00');
SELECT is(of_change('flat', plan => 'large'), 'proration_credit -500, proration_credit -750, proration_debit 3000', 'one base, not five: told');
SELECT billing.update_subscription(subscription_of('flat'), plan => 'large', effective => 'period_end');
SELECT billing.update_subscription(subscription_of('flat'), plan => 'team', effective => 'period_end');
SELECT is((SELECT state FROM billing.list_scheduled_changes('flat')), 'canceled', 'planned and back again, the seats stay');
SELECT billing.update_subscription(subscription_of('flat'), plan => 'large', effective => 'period_end');
CALL billing.set_clock('flat', '2027-05-01 00:00+00');
SELECT is(last_invoice('flat'), 'subscription_cycle 6000: base 6000', 'and billed so at the end of the period');
SELECT billing.update_subscription(subscription_of('flat'), plan => 'team', quantity => 4, proration_behavior => 'none');
SELECT billing.update_subscription(subscription_of('flat'), plan => 'large', quantity => 3, proration_behavior => 'none');
SELECT is((SELECT items FROM billing.get_subscription(subscription_of('flat'))), '{"base": 3}', 'a quantity that is named counts');

-- ---------------------------------------------------------------------------
-- A change in a pause: prorated from the resume on, 10 of 30 days

CALL begin_at('rests', 'small');
CALL billing.set_clock('rests', '2027-04-11 00:00+00');
SELECT billing.pause_subscription(subscription_of('rests'));
SELECT is(of_change('rests', plan => 'large'), NULL, 'in a pause nothing is told');
SELECT billing.update_subscription(subscription_of('rests'), plan => 'large', proration_behavior => 'always_invoice');
SELECT is(waits('rests'), NULL, 'nor billed');
CALL billing.set_clock('rests', '2027-04-21 00:00+00');
SELECT billing.resume_subscription(subscription_of('rests'));
SELECT is(waits('rests'), 'proration_credit -1000, proration_debit 2000', 'the rest of April from the resume on');
CALL billing.set_clock('rests', '2027-05-01 00:00+00');
SELECT is(last_invoice('rests'), 'subscription_cycle 7000: proration_credit -1000, proration_debit 2000, base 6000', 'once');

CALL begin_at('rests_long', 'small');
CALL billing.set_clock('rests_long', '2027-04-11 00:00+00');
SELECT billing.pause_subscription(subscription_of('rests_long'));
SELECT billing.update_subscription(subscription_of('rests_long'), plan => 'large');
CALL billing.set_clock('rests_long', '2027-05-11 00:00+00');
SELECT billing.resume_subscription(subscription_of('rests_long'));
SELECT is(last_invoice('rests_long'), 'subscription_cycle 6000: base 6000', 'a pause beyond the period costs nothing');

CALL begin_at('rests_twice', 'small');
CALL billing.set_clock('rests_twice', '2027-04-11 00:00+00');
SELECT billing.pause_subscription(subscription_of('rests_twice'), resumes_at => '2027-04-21');
SELECT billing.update_subscription(subscription_of('rests_twice'), plan => 'large');
CALL billing.set_clock('rests_twice', '2027-04-15 00:00+00');
SELECT billing.update_subscription(subscription_of('rests_twice'), quantity => 2);
SELECT billing.update_subscription(subscription_of('rests_twice'), plan => 'team', quantity => 4);
CALL billing.set_clock('rests_twice', '2027-04-22 00:00+00');
SELECT is(waits('rests_twice'), 'proration_credit -1000, proration_debit 333, proration_debit 400', 'several changes in a pause are one, from what it was to what it is');

CALL begin_at('rests_back', 'small');
CALL billing.set_clock('rests_back', '2027-04-11 00:00+00');
SELECT billing.pause_subscription(subscription_of('rests_back'));
SELECT billing.update_subscription(subscription_of('rests_back'), plan => 'large');
SELECT billing.update_subscription(subscription_of('rests_back'), plan => 'small');
SELECT billing.resume_subscription(subscription_of('rests_back'));
SELECT is(waits('rests_back'), NULL, 'there and back is nothing');

CALL begin_at('rests_free', 'small');
CALL billing.set_clock('rests_free', '2027-04-11 00:00+00');
SELECT billing.pause_subscription(subscription_of('rests_free'));
SELECT billing.update_subscription(subscription_of('rests_free'), plan => 'large', proration_behavior => 'none');
SELECT billing.resume_subscription(subscription_of('rests_free'));
SELECT is(waits('rests_free'), NULL, 'none: nothing is prorated');

CALL begin_at('rests_year', 'small');
CALL billing.set_clock('rests_year', '2027-04-11 00:00+00');
SELECT billing.pause_subscription(subscription_of('rests_year'));
SELECT billing.update_subscription(subscription_of('rests_year'), plan => 'yearly');
CALL billing.set_clock('rests_year', '2027-04-21 00:00+00');
SELECT billing.resume_subscription(subscription_of('rests_year'));
SELECT is(last_invoice('rests_year'), 'subscription_update 29000: proration_credit -1000, base 30000', 'another interval begins with the resume');
SELECT is(period('rests_year'), 'active 2027-04-21 2028-04-21', 'of a new anchor');

CALL begin_at('rests_first', 'nothing');
CALL billing.set_clock('rests_first', '2027-04-11 00:00+00');
SELECT billing.pause_subscription(subscription_of('rests_first'));
SELECT billing.update_subscription(subscription_of('rests_first'), plan => 'small');
CALL billing.set_clock('rests_first', '2027-04-21 00:00+00');
SELECT billing.resume_subscription(subscription_of('rests_first'));
SELECT is(last_invoice('rests_first') || ', ' || period('rests_first'), 'subscription_update 3000: base 3000, active 2027-04-21 2027-05-21', 'so does the first price');

CALL begin_at('rests_version', 'rising');
CALL billing.set_clock('rests_version', '2027-04-11 00:00+00');
SELECT billing.create_price('rising', 4500, 'USD', effective_at => '2027-04-15', existing => 'now') AS risen \gset
SELECT billing.pause_subscription(subscription_of('rests_version'));
CALL billing.set_clock('rests_version', '2027-04-21 00:00+00');
SELECT billing.resume_subscription(subscription_of('rests_version'));
SELECT is(waits('rests_version'), 'proration_credit -1000, proration_debit 1500', 'a version that came in the pause counts from the resume on');

CALL begin_at('rests_end', 'small');
CALL billing.set_clock('rests_end', '2027-04-11 00:00+00');
SELECT billing.pause_subscription(subscription_of('rests_end'));
SELECT billing.update_subscription(subscription_of('rests_end'), plan => 'large');
SELECT billing.cancel_subscription(subscription_of('rests_end'), at_period_end => false);
CALL billing.run_worker();
SELECT is(status_of('rests_end') || ' ' || (SELECT count(*) FROM billing.invoices WHERE organization_id = 'rests_end'), 'canceled 1', 'ended in the pause nothing is billed');

-- ---------------------------------------------------------------------------
-- A coupon for two months, where renewals are invoiced ahead: April and May, by the period that is billed

SELECT billing.create_coupon('half', percent => 50, duration => 'repeating', months => 2) AS half \gset
SELECT billing.create_customer('ahead', 'a@example.com', country => 'MX', currency => 'MXN') AS ahead \gset
CALL billing.run_worker();
CALL billing.set_clock('ahead', '2027-04-01 00:00+00');
SELECT billing.subscribe('ahead', 'pesos', collection_method => 'send_invoice', days_until_due => 60, coupon => 'half', managed_by => 'local') AS s \gset
CALL pays('ahead');
SELECT billing.update_subscription(:'s', payment_method => 'pm_card_visa');
CALL billing.run_worker();
UPDATE billing.subscriptions SET collection_method = 'charge_automatically', collect_by = 'oxxo' WHERE id = :'s';
SELECT is((SELECT string_agg(DISTINCT made_at::date || ' ' || total, ', ') FROM billing.simulate('ahead', '2027-07-01')),
	'2027-04-24 15000, 2027-05-25 30000, 2027-06-24 30000', 'the invoice of May 25th is June''s, which the coupon is over for');

-- ---------------------------------------------------------------------------
-- What a change will cost with the next invoice, its tax and discount included

SELECT count(billing.create_customer(o, o || '@example.com', country => 'DE', currency => 'EUR')) AS customers FROM unnest('{taxed,cheap}'::text[]) AS o \gset
CALL billing.run_worker();
CALL billing.set_clock('taxed', '2027-04-01 00:00+00');
CALL billing.set_clock('cheap', '2027-04-01 00:00+00');
SELECT billing.subscribe(o, 'euros', collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local') FROM unnest('{taxed,cheap}'::text[]) AS o;
CALL pays('taxed');
CALL pays('cheap');
CALL billing.set_clock('taxed', '2027-04-16 00:00+00');
CALL billing.set_clock('cheap', '2027-04-16 00:00+00');
SELECT billing.apply_coupon('half', subscription_of('cheap')) AS applied \gset
CREATE FUNCTION cost(organization text, plan text) RETURNS SETOF text
LANGUAGE sql
BEGIN ATOMIC
	SELECT concat_ws(' ', l.kind, l.amount, l.discount, l.tax) FROM billing.preview_update(subscription_of(organization), plan => cost.plan) AS l ORDER BY l.position;
END;
CREATE FUNCTION billed(organization text) RETURNS SETOF text
LANGUAGE sql
BEGIN ATOMIC
	SELECT concat_ws(' ', l.kind, l.amount, l.discount, l.tax) FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id
	WHERE i.organization_id = organization AND l.kind LIKE 'proration%' ORDER BY l.position;
END;
SELECT results_eq($$SELECT cost('taxed', 'more_euros')$$, $$VALUES ('proration_credit -1500 0 -285'), ('proration_debit 3000 0 570')$$, 'lines that wait have the tax that they will have');
SELECT is((SELECT array_agg(DISTINCT total) FROM billing.preview_update(subscription_of('taxed'), plan => 'more_euros')), '{1785}', 'and what they come to: 15.00 and 19 %');
SELECT results_eq($$SELECT cost('cheap', 'more_euros')$$, $$VALUES ('proration_credit -1500 0 -285'), ('proration_debit 3000 1500 285')$$, 'the discount, too');
SELECT is((SELECT array_agg(DISTINCT total) FROM billing.preview_update(subscription_of('cheap'), plan => 'more_euros')), '{0}', 'half of the dearer plan costs what the cheaper one did');
CREATE TEMP TABLE told_cheap AS SELECT cost('cheap', 'more_euros') AS line;
SELECT billing.update_subscription(subscription_of('cheap'), plan => 'more_euros');
SELECT results_eq($$SELECT cost('cheap', 'euros')$$, $$VALUES ('proration_credit 1500 0 285'), ('proration_debit -3000 -1500 -285')$$, 'what waits is told by what it loses');
CALL billing.set_clock('cheap', '2027-05-01 00:00+00');
SELECT results_eq($$SELECT billed('cheap')$$, $$SELECT line FROM told_cheap$$, 'it is billed as it was told');

-- ---------------------------------------------------------------------------
-- Usage at the very moment of the end: 100 calls, 15 of 30 free, 85 at 2

CREATE FUNCTION usage_of(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(trim_scale(l.quantity) || ' ' || l.amount, ', ' ORDER BY s.id, l.id) FROM billing.invoice_lines AS l JOIN billing.subscriptions AS s ON s.id = l.subscription_id
		WHERE s.organization_id = organization AND l.kind = 'usage');
CALL begin_at('stops', 'metered');
CALL billing.set_clock('stops', '2027-04-16 00:00+00');
SELECT billing.record_usage('stops', 'calls', 100, occurred_at => billing.now('stops'));
SELECT billing.cancel_subscription(subscription_of('stops'), at_period_end => false);
SELECT billing.subscribe('stops', 'metered', collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local') AS again \gset
CALL billing.set_clock('stops', '2027-04-16 01:00+00');
SELECT is(usage_of('stops'), '15 0, 85 170', 'a cancellation bills what was used at its moment; free units of a part are whole');
SELECT billing.record_usage('stops', 'calls', 31, occurred_at => '2027-04-16 00:00:01+00');
CALL billing.set_clock('stops', '2027-05-16 01:00+00');
SELECT is(usage_of('stops'), '15 0, 85 170, 30 0, 1 2', 'one that begins at the same moment counts what comes after it, and is whole');
SELECT is((SELECT sum(quantity) FROM billing.usage_closing_lines WHERE organization_id = 'stops'), 131::numeric, 'nothing counts twice');

CALL begin_at('pauses', 'metered');
CALL billing.set_clock('pauses', '2027-04-16 00:00+00');
SELECT billing.record_usage('pauses', 'calls', 100, occurred_at => billing.now('pauses'));
SELECT billing.pause_subscription(subscription_of('pauses'));
SELECT is(waits('pauses'), 'usage 0, usage 170', 'a pause, too');
SELECT billing.resume_subscription(subscription_of('pauses'));
CALL billing.set_clock('pauses', '2027-05-01 01:00+00');
SELECT is((SELECT sum(quantity) FROM billing.usage_closing_lines WHERE organization_id = 'pauses'), 100::numeric, 'which a resume at that moment does not bill again');

CALL begin_at('leaves', 'metered');
CALL billing.set_clock('leaves', '2027-04-16 00:00+00');
SELECT billing.record_usage('leaves', 'calls', 100, occurred_at => billing.now('leaves'));
SELECT billing.delete_customer(billing.find_customer('leaves'), final_invoice => true);
UPDATE billing.invoices SET finalize_at = '2027-04-16 00:00+00' WHERE organization_id = 'leaves' AND status = 'draft';
CALL billing.run_worker();
SELECT is(usage_of('leaves'), '15 0, 85 170', 'so does who leaves for good');

CALL begin_at('ends', 'metered');
CALL billing.set_clock('ends', '2027-04-30 23:00+00');
SELECT billing.record_usage('ends', 'calls', 31, occurred_at => '2027-04-30 23:59:59.999999+00'), billing.record_usage('ends', 'calls', 1000, occurred_at => '2027-05-01 00:00+00', idempotency_key => 'after');
SELECT billing.cancel_subscription(subscription_of('ends'));
CALL billing.set_clock('ends', '2027-05-01 01:00+00');
SELECT is(usage_of('ends'), '30 0, 1 2', 'a period that ends is half-open as ever');

-- ---------------------------------------------------------------------------
-- Small ones

CALL begin_at('odd', 'small');
SELECT fails(format($$SELECT billing.update_subscription(%L, plan => 'large', effective => 'period_end', proration_behavior => 'always_invoice')$$, subscription_of('odd')), '22023', 'always_invoice',
	'Leave it out', 'at the end of a period there is nothing to prorate');
SELECT lives_ok(format($$SELECT billing.update_subscription(%L, plan => 'large', effective => 'period_end', proration_behavior => 'none')$$, subscription_of('odd')), 'none is what it is');
SELECT throws_ok(format($$SELECT billing.update_subscription(%L, quantity => 9223372036854775807, effective => 'period_end')$$, subscription_of('odd')), '22003', NULL,
	'a quantity that no amount can be made of is refused at once, also for later');
CALL billing.set_clock('odd', '2027-04-16 12:00+00');
SELECT billing.update_subscription(subscription_of('odd'), plan => 'large', proration_behavior => 'always_invoice');
CALL pays('odd');
SELECT billing.update_subscription(subscription_of('odd'), plan => 'small', proration_behavior => 'always_invoice');
CALL pays('odd');
SELECT results_eq($$SELECT l.amount, trim_scale(l.quantity), trim_scale(l.unit_amount) FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id
	WHERE i.organization_id = 'odd' AND l.kind = 'proration_debit' AND l.reverses IS NOT NULL$$, $$VALUES (1450::bigint, 1::numeric, 3000::numeric)$$, 'what is billed again says of what');

UPDATE billing.settings SET value = 'day' WHERE name = 'proration_unit';
CALL begin_at('same_day', 'small');
CALL billing.set_clock('same_day', '2027-04-16 10:00+00');
SELECT billing.update_subscription(subscription_of('same_day'), plan => 'large');
CALL billing.set_clock('same_day', '2027-04-16 12:00+00');
SELECT billing.update_subscription(subscription_of('same_day'), quantity => 2);
SELECT is(waits('same_day'), 'proration_credit -1500, proration_debit 6000', 'a line of no time is none');
UPDATE billing.settings SET value = 'second' WHERE name = 'proration_unit';
CALL begin_at('unpaid', 'small');
UPDATE billing.invoices SET status = 'open', amount_paid = 0, paid_elsewhere = 0, amount_remaining = 3000, paid_at = NULL WHERE organization_id = 'unpaid';
CALL billing.set_clock('unpaid', '2027-04-16 00:00+00');
SELECT is(of_change('unpaid', plan => 'large'), 'proration_credit 0, proration_debit 3000', 'a credit of nothing is one: it is written, too');
SELECT billing.update_subscription(subscription_of('unpaid'), plan => 'large', proration_behavior => 'always_invoice');
CALL pays('unpaid');
SELECT ok(billing.invoice_html(id) NOT LIKE '%unused time%', 'or printed') FROM billing.invoices WHERE organization_id = 'unpaid' AND billing_reason = 'subscription_update';

SELECT * FROM finish();

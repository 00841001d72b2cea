-- What cannot be billed is refused with a reason: a code, the thing by its name, its values, what to do. And nothing is half done.
\ir helpers.psql
SELECT plan(37);

SELECT billing.configure_provider('sandbox');

-- All that a call could leave behind.
CREATE FUNCTION everything() RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	name text;
	rows text;
	sum text := '';
BEGIN
	FOREACH name IN ARRAY string_to_array('plans prices price_tiers subscriptions subscription_items scheduled_changes invoices invoice_lines refunds credit_notes '
		'credit_note_lines customer_balances customer_balance_entries credit_grants coupons applied_coupons payment_intents payment_methods outbox events usage_closings ledger', ' ') LOOP
		EXECUTE format('SELECT md5(coalesce(string_agg(t::text, '','' ORDER BY t::text), '''')) FROM billing.%I AS t', name) INTO rows;
		sum := sum || rows;
	END LOOP;
	RETURN md5(sum);
END
$$;
-- Refused with this code; the message, the values and what to do are regular expressions.
CREATE FUNCTION refused(statement text, code text, message text, detail text, hint text, name text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	had_code text;
	had_message text;
	had_detail text;
	had_hint text;
	before text := everything();
BEGIN
	BEGIN
		EXECUTE statement;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS had_code = RETURNED_SQLSTATE, had_message = MESSAGE_TEXT, had_detail = PG_EXCEPTION_DETAIL, had_hint = PG_EXCEPTION_HINT;
	END;
	IF had_code = code AND had_message ~ message AND had_detail ~ detail AND had_detail <> '' AND had_hint ~ hint AND had_hint <> '' AND everything() = before THEN
		RETURN ok(true, name);
	END IF;
	RETURN ok(false, name) || E'\n' || diag(format(E'%s\nended with %s: %s\n%s\n%s', statement, had_code, had_message, had_detail, had_hint));
END
$$;

SELECT billing.create_plan('crew', 'Crew', 1000, 'USD') AS crew, billing.create_plan('cloud', 'Cloud', 1000, 'EUR') AS cloud \gset
SELECT billing.create_price('crew', 500, 'USD', component => 'seats') AS seats, billing.create_price('cloud', 500, 'EUR', component => 'seats') AS seats_eur,
	   billing.create_price('crew', 1200, 'USD', effective_at => '2099-01-01') AS later \gset
SELECT billing.create_customer('acme', 'a@example.com', name => 'Acme', country => 'US', currency => 'USD') AS acme,
	   billing.create_customer('euro', 'e@example.com', name => 'Euro', country => 'DE', currency => 'EUR') AS euro \gset
CALL billing.run_worker();
CALL billing.set_clock('acme', date_trunc('second', now()) + interval '1 hour');
SELECT billing.subscribe('acme', 'crew', 'pm_card_visa', quantity => 2, managed_by => 'local') AS sub \gset
CALL billing.run_worker();
SELECT id AS invoice FROM billing.list_invoices('acme') \gset
SELECT id AS payment FROM billing.list_payment_intents('acme') \gset
-- it is compared with whole seconds
SELECT billing.create_coupon('OVER', percent => 10, redeem_by => now() - interval '2 seconds') AS coupon \gset
SELECT is((SELECT status FROM billing.get_invoice(:'invoice')), 'paid', 'there is something to be refused for');

-- Overlapping price versions
SELECT refused($$SELECT billing.create_price('crew', 1300, 'USD', effective_at => '2099-01-01')$$, '23514', 'component "base" has a version from that moment on', 'It is price ', 'retired_at', 'two versions from one moment on');
SELECT refused($$SELECT billing.create_price('crew', 1300, 'USD', effective_at => '2020-01-01')$$, '22023', 'effective_at is in the past', '2020-01-01', 'Leave it out', 'a version of the past');

-- Currencies that do not mix
SELECT refused(format('SELECT billing.update_subscription(%L, items => %L)', :'sub', format('{"seats": {"price": "%s"}}', :'seats_eur')), '22023', 'in USD cannot change to a price in EUR', 'component "seats"', 'Name a price in USD', 'a component in another currency');
SELECT refused(format('SELECT billing.update_subscription(%L, ''cloud'')', :'sub'), '22023', 'plan "cloud" has no price in USD', '.', 'It is sold in EUR', 'a plan in another currency');
SELECT refused(format('SELECT billing.preview_update(%L, ''cloud'')', :'sub'), '22023', 'plan "cloud" has no price in USD', '.', 'It is sold in EUR', 'also in a preview');
SELECT refused(format('SELECT billing.subscribe(''euro'', ''cloud'', price => %L, currency => ''USD'', managed_by => ''local'')', (SELECT id FROM billing.prices WHERE plan_id = :'cloud' AND component = 'base')), '22023', 'is in EUR, not in USD', 'currency of its price', 'price in USD', 'a price and another currency');

-- Negative quantities
SELECT refused(format('SELECT billing.update_subscription(%L, quantity => %s)', :'sub', q), '22023', 'quantity must be at least 1', format('It is %s', q), 'cancel_subscription', format('quantity %s', q)) FROM unnest(ARRAY[-1, 0]) AS q;
SELECT refused(format('SELECT billing.preview_update(%L, quantity => -1)', :'sub'), '22023', 'quantity must be at least 1', 'It is -1', 'cancel_subscription', 'also in a preview');
SELECT refused(format('SELECT billing.update_subscription(%L, items => ''{"seats": -1}'')', :'sub'), '22023', '"seats" has no whole quantity from 0 up', 'It is -1', 'something like', 'of a component');
SELECT refused(format('SELECT billing.update_subscription(%L, items => ''{"base": 0}'')', :'sub'), '22023', '"base" must be at least 1', '.', 'cancel_subscription', 'none of the plan itself');
SELECT refused($$SELECT billing.subscribe('euro', 'cloud', quantity => -1, managed_by => 'local')$$, '22023', 'quantity must be at least 1', 'It is -1', 'seats', 'of a new one');
SELECT refused(format($$SELECT billing.create_invoice(%L, '[{"description": "x", "quantity": -1, "unit_amount": "5"}]')$$, :'acme'), '22023', 'line 1 has a quantity below 0', '"quantity": -1', 'unit_amount below 0', 'of a line by hand');
SELECT refused($$SELECT billing.create_price('crew', NULL, 'USD', component => 'x', model => 'graduated', tiers => '[{"up_to": 5, "unit_amount": -1}, {"unit_amount": 1}]')$$, '22023', 'tier 1 has a negative unit_amount', '"up_to": 5', 'something like', 'a tier below 0');
SELECT refused($$SELECT billing.create_price('crew', NULL, 'USD', component => 'x', unit_amount => -0.5)$$, '22023', 'unit_amount must not be negative', '-0.5', 'coupon', 'a price below 0');

-- A plan without a price in the customer's currency
SELECT refused($$SELECT billing.subscribe('euro', 'crew', managed_by => 'local')$$, '22023', 'plan "crew" has no price in EUR', 'that of the customer', 'It is sold in USD', 'a currency that the plan is not sold in');
SELECT billing.create_price('crew', 900, 'EUR') AS crew_eur \gset
SELECT refused($$SELECT billing.subscribe('euro', 'crew', managed_by => 'local')$$, '22023', 'component "seats" of plan "crew" has no price in EUR for 1 month', 'another currency or interval', 'create_price\(''crew'', ..., component => ''seats'', currency => ''EUR''', 'nor one of its components');

-- More back than was paid
SELECT refused(format('SELECT billing.create_refund(%L, %s)', :'payment', a), '22023', 'amount must be from 1 to what is left of the payment', format('Amount is %s, left are 2000', a), 'Leave amount out', format('a refund of %s', a)) FROM unnest(ARRAY[2001, 0, -1]) AS a;
SELECT refused(format('SELECT billing.create_credit_note(%L, amount => %s, destination => %L)', :'invoice', a, d), '22023', 'amount must be from 1 to what is left of the invoice', format('Amount is %s, left are 2000', a), 'Leave amount out', format('a credit note of %s to the %s', a, d))
FROM unnest(ARRAY[2001, 0]) AS a, unnest(ARRAY['balance', 'refund']) AS d;
SELECT refused(format($$SELECT billing.create_credit_note(%L, '[{"line": "x"}]')$$, :'invoice'), '22023', 'line "x" cannot be taken back', '.', 'invoice_lines_of', 'a line that there is not');

-- A coupon that has expired
SELECT refused(format('SELECT billing.apply_coupon(''OVER'', %L)', :'sub'), 'JB008', 'coupon "OVER" has expired', 'It could be applied until .* and it is', 'redeem_by', 'to a subscription');
SELECT refused(format('SELECT billing.update_subscription(%L, coupon => ''OVER'')', :'sub'), 'JB008', 'coupon "OVER" has expired', '.', 'redeem_by', 'with a change');
SELECT billing.create_price('crew', 500, 'EUR', component => 'seats') AS seats_2 \gset
SELECT refused($$SELECT billing.subscribe('euro', 'crew', coupon => 'OVER', managed_by => 'local')$$, 'JB008', 'coupon "OVER" has expired', '.', 'redeem_by', 'with a new subscription');

-- A subscription that is over
SELECT billing.cancel_subscription(:'sub', at_period_end => false) IS NULL AS ended \gset
CALL billing.run_worker();
SELECT refused(format(c.call, :'sub'), 'JB008', 'has ended|is canceled', '.', 'subscribe', c.call)
FROM (VALUES ('SELECT billing.update_subscription(%L, quantity => 3)'), ('SELECT billing.update_subscription(%L, quantity => 3, effective => ''period_end'')'),
			 ('SELECT billing.preview_update(%L, quantity => 3)'), ('SELECT billing.pause_subscription(%L)'), ('SELECT billing.resume_subscription(%L)'),
			 ('SELECT billing.apply_coupon(''OVER'', %L)'), ('SELECT billing.collect_by(%L, ''oxxo'')')) AS c (call);

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'the books are in balance');
SELECT * FROM finish();

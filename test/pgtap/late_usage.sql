-- Usage that comes late, when its price is gone: it costs what its period cost; and usage that nothing rates, which a person has to see.
\ir helpers.psql
SELECT plan(35);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_meter('calls', 'sum') AS calls, billing.create_meter('texts', 'sum') AS texts, billing.create_meter('seen', 'sum') AS seen \gset
SELECT billing.create_plan('metered', 'Metered', 1000, 'USD') AS metered, billing.create_plan('plain', 'Plain', 1000, 'USD') AS plain,
	   billing.create_plan('texting', 'Texting', 1000, 'USD') AS texting, billing.create_plan('gratis', 'Gratis', 0, 'USD') AS gratis,
	   billing.create_plan('euros', 'Euros', 1000, 'EUR') AS euros, billing.create_plan('dear', 'Dear', 1000, 'USD') AS dear \gset
SELECT billing.create_price('metered', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 2) AS calls_2,
	   billing.create_price('dear', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 2) AS dear_2,
	   billing.create_price('texting', NULL, 'USD', component => 'texts', metric => 'texts', unit_amount => 5) AS texts_5,
	   billing.create_price('euros', NULL, 'EUR', component => 'calls', metric => 'calls', unit_amount => 7) AS euros_7 \gset

-- An organisation that is billed from the 1st of April on, whose month has 30 days.
CREATE PROCEDURE begin_at(organization text, plan text DEFAULT 'metered')
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.create_customer(organization);
	COMMIT;
	CALL billing.run_worker();
	CALL billing.set_clock(organization, '2031-04-01 00:00+00');
	PERFORM billing.subscribe(organization, plan, collection_method => 'send_invoice', days_until_due => 300, managed_by => 'local');
	COMMIT;
	CALL billing.run_worker();
END
$$;
CREATE FUNCTION used(organization text, metric text, quantity numeric, at timestamptz) RETURNS boolean
LANGUAGE sql
RETURN billing.record_usage(organization, metric, quantity, at);
-- Lines of usage: day they begin, amount, what they say.
CREATE FUNCTION usage_of(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', to_char(l.period_start AT TIME ZONE 'UTC', 'MM-DD'), l.amount, l.description), ', ' ORDER BY l.period_start, l.id)
		FROM billing.invoice_lines AS l JOIN billing.subscriptions AS s ON s.id = l.subscription_id
		WHERE s.organization_id = organization AND l.kind = 'usage');
CREATE FUNCTION unbilled(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', u.reason, u.metric, to_char(u.period_start AT TIME ZONE 'UTC', 'MM-DD'), to_char(u.period_end AT TIME ZONE 'UTC', 'MM-DD'), u.quantity),
								  ', ' ORDER BY u.period_start, u.metric) FROM billing.unbilled_usage AS u WHERE u.organization_id = organization);
CREATE FUNCTION attention(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(': ', a.severity, a.what, a.detail), ', ' ORDER BY a.what, a.detail) FROM billing.attention AS a WHERE a.organization_id = organization AND a.what ~ 'usage');

-- ---------------------------------------------------------------------------
-- A plan without the metric

CALL begin_at('gone');
SELECT used('gone', 'calls', 100, '2031-04-01 12:00+00') AS used \gset
CALL billing.set_clock('gone', '2031-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('gone'), 'plain', proration_behavior => 'none');
SELECT is(unbilled('gone'), NULL, 'what was used until a change is billed by it');
SELECT used('gone', 'calls', 50, '2031-04-12 00:00+00'), used('gone', 'seen', 9, '2031-04-12 00:00+00') AS used \gset
CALL billing.set_clock('gone', '2031-04-21 00:00+00');
SELECT used('gone', 'calls', 70, '2031-04-20 00:00+00'), used('gone', 'seen', 9, '2031-04-20 00:00+00') AS used \gset
SELECT is(unbilled('gone'), 'no_price calls 04-16 04-21 70', 'what was used after it is billed by nobody, and seen; what was never sold is not');
SELECT is(attention('gone'), 'warning: usage has no price: 70 of calls since 2031-04-16 00:00:00+00', 'a person is told');
SELECT results_eq($$SELECT object_type, hint FROM billing.attention WHERE organization_id = 'gone'$$,
				  $$SELECT NULL::text, 'sell it (billing.create_price(), billing.update_subscription()), allow it (billing.set_plan_feature()) or bill it by billing.create_invoice(); '
				  'it is told for 30 days: billing.unbilled_usage WHERE organization_id = ''gone'''$$,
				  'and what to do');
SELECT is((SELECT string_agg(concat_ws(' ', kind, amount, description), ', ') FROM billing.preview_invoice(subscription_of('gone')) WHERE kind IN ('usage', 'base')),
		  'usage 200 calls, usage 100 calls: +50 that came late, base 1000 Plain', 'what was used before it and came late is of the next invoice, at the price that it had');
SELECT is((SELECT string_agg(invoice || ' ' || amount, ', ') FROM billing.simulate('gone', '2031-08-01') WHERE description ~ 'late'), '1 100', 'once');
CALL billing.set_clock('gone', '2031-05-01 01:00+00');
SELECT is(usage_of('gone'), '04-01 200 calls, 04-01 100 calls: +50 that came late', 'and is billed so');
SELECT is_empty($$SELECT * FROM billing.late_usage('gone')$$, 'nothing is late then');
CALL billing.set_clock('gone', '2031-06-01 01:00+00');
SELECT is(usage_of('gone'), '04-01 200 calls, 04-01 100 calls: +50 that came late', 'no second time');
SELECT used('gone', 'calls', 30, '2031-04-13 00:00+00') AS used \gset
CALL billing.set_clock('gone', '2031-07-01 01:00+00');
SELECT is(usage_of('gone'), '04-01 200 calls, 04-01 100 calls: +50 that came late, 04-01 60 calls: +30 that came late', 'what comes later still with the invoice after that');
SELECT is((SELECT string_agg(status || ' ' || total, ', ' ORDER BY issued_at) FROM billing.invoices WHERE organization_id = 'gone'), 'open 1000, open 1300, open 1000, open 1060', 'on an invoice each');

-- a person takes it as it is
SELECT count(*) FROM billing.close_usage_period('gone', '2031-04-16 00:00+00', '2031-07-01 01:00+00') \gset
SELECT is(coalesce(unbilled('gone'), '-') || coalesce(attention('gone'), '-'), '--', 'who closes it by hand has seen it');

-- ended with its last invoice
CALL begin_at('left');
CALL billing.set_clock('left', '2031-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('left'), 'plain');
SELECT used('left', 'calls', 50, '2031-04-12 00:00+00') AS used \gset
SELECT billing.cancel_subscription(subscription_of('left'), at_period_end => false);
CALL billing.run_worker();
SELECT is(usage_of('left'), '04-01 100 calls: +50 that came late', 'the last invoice is one, too');

-- one that is free from then on
CALL begin_at('free');
CALL billing.set_clock('free', '2031-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('free'), 'gratis', proration_behavior => 'none');
SELECT used('free', 'calls', 50, '2031-04-12 00:00+00') AS used \gset
CALL billing.set_clock('free', '2031-05-01 01:00+00');
SELECT is((SELECT string_agg(billing_reason || ' ' || total, ', ' ORDER BY issued_at) FROM billing.invoices WHERE organization_id = 'free'), 'subscription_create 1000, subscription_cycle 100', 'a free one has an invoice for it alone');

-- a plan that counts something else
CALL begin_at('texts');
CALL billing.set_clock('texts', '2031-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('texts'), 'texting');
SELECT used('texts', 'calls', 50, '2031-04-12 00:00+00'), used('texts', 'texts', 8, '2031-04-12 00:00+00') AS used \gset
CALL billing.set_clock('texts', '2031-04-20 00:00+00');
SELECT used('texts', 'calls', 6, '2031-04-20 00:00+00'), used('texts', 'texts', 10, '2031-04-20 00:00+00') AS used \gset
CALL billing.set_clock('texts', '2031-05-02 00:00+00');
SELECT is(usage_of('texts'), '04-01 100 calls: +50 that came late, 04-16 50 texts', 'each by the prices of its time: texts of before were not sold');
SELECT is(unbilled('texts'), 'no_price calls 04-16 05-02 6', 'and calls are not any more');
-- and comes back
SELECT billing.update_subscription(subscription_of('texts'), 'metered');
SELECT used('texts', 'calls', 1000, '2031-05-03 00:00+00') AS used \gset
SELECT is(unbilled('texts'), 'no_price calls 04-16 05-02 6', 'the time between stays to be seen');
SELECT is(attention('texts'), NULL, 'and is nobody''s task: they are sold again');
CALL billing.set_clock('texts', '2031-05-03 00:00+00');

-- ---------------------------------------------------------------------------
-- Another price

CALL begin_at('dearer', 'dear');
CALL billing.set_clock('dearer', '2031-04-16 00:00+00');
SELECT billing.create_price('dear', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 3) AS calls_3 \gset
SELECT billing.update_subscription(subscription_of('dearer'), items => format('{"calls": {"price": "%s"}}', :'calls_3')::jsonb);
SELECT used('dearer', 'calls', 10, '2031-04-11 00:00+00') AS used \gset
CALL billing.set_clock('dearer', '2031-05-01 01:00+00');
SELECT is(usage_of('dearer'), '04-01 20 calls: +10 that came late', 'late usage has the price of its time');
SELECT is((SELECT string_agg(invoice || ' ' || made_at::date || ' ' || amount, ', ') FROM billing.simulate('dearer', '2031-08-01') WHERE description ~ 'late'), NULL, 'which is billed');
SELECT used('dearer', 'calls', 10, '2031-04-11 00:00+00') AS used \gset
SELECT is((SELECT string_agg(invoice || ' ' || (made_at AT TIME ZONE 'UTC')::date || ' ' || amount, ', ') FROM billing.simulate('dearer', '2031-08-01') WHERE description ~ 'late'), '1 2031-06-01 20',
		  'simulate() bills it once');

-- ---------------------------------------------------------------------------
-- After the end

CALL begin_at('ended');
CALL billing.set_clock('ended', '2031-04-16 00:00+00');
SELECT billing.cancel_subscription(subscription_of('ended'), at_period_end => false);
CALL billing.set_clock('ended', '2031-04-16 00:30+00');
SELECT used('ended', 'calls', 5, '2031-04-11 00:00+00') AS used \gset
SELECT is(coalesce(unbilled('ended'), '-'), '-', 'the last invoice still waits for it');
CALL billing.set_clock('ended', '2031-04-16 02:00+00');
SELECT is(usage_of('ended'), '04-01 10 calls', 'and bills it');
SELECT used('ended', 'calls', 40, '2031-04-11 00:00+00'), used('ended', 'calls', 3, '2031-04-16 01:00+00') AS used \gset
SELECT is(unbilled('ended'), 'late calls 04-01 04-16 40, no_price calls 04-16 04-16 3', 'what comes after it is billed nowhere');
SELECT is(attention('ended'), 'warning: usage came too late to be billed: 40 of calls, used from 2031-04-01 00:00:00+00 to 2031-04-16 00:00:00+00, '
		  'warning: usage has no price: 3 of calls since 2031-04-16 00:00:00+00', 'and a person is told of both');
SELECT billing.subscribe('ended', 'euros', collection_method => 'send_invoice', days_until_due => 300, managed_by => 'local', currency => 'EUR') AS sub \gset
CALL billing.run_worker();
CALL billing.set_clock('ended', '2031-05-16 04:00+00');
SELECT is(usage_of('ended'), '04-01 10 calls', 'nor by another subscription of another currency');
SELECT is(unbilled('ended'), 'late calls 04-01 04-16 40', 'it stays to be seen');
SELECT billing.cancel_subscription(subscription_of('ended'), at_period_end => false);
CALL billing.run_worker();
SELECT billing.subscribe('ended', 'texting', collection_method => 'send_invoice', days_until_due => 300, managed_by => 'local') AS sub \gset
CALL billing.run_worker();
SELECT is(unbilled('ended'), NULL, 'the next one in its currency will bill it');
CALL billing.set_clock('ended', '2031-06-16 06:00+00');
SELECT is(usage_of('ended'), '04-01 10 calls, 04-01 80 calls: +40 that came late', 'at the price of its time');

-- ---------------------------------------------------------------------------
-- Ended in a pause: the closing of its end has no length, and the next one begins in the same second

CALL begin_at('again', 'metered');
CALL billing.set_clock('again', '2031-05-10 00:00+00');
SELECT billing.pause_subscription(subscription_of('again'));
SELECT used('again', 'calls', 10, '2031-04-20 00:00+00') AS used \gset
CALL billing.set_clock('again', '2031-05-16 00:00+00');
SELECT billing.cancel_subscription(subscription_of('again'), at_period_end => false);
SELECT billing.subscribe('again', 'metered', collection_method => 'send_invoice', days_until_due => 300, managed_by => 'local') AS sub \gset
SELECT used('again', 'calls', 7, '2031-05-16 00:00+00') AS used \gset
CALL billing.set_clock('again', '2031-06-16 02:00+00');
SELECT is(usage_of('again'), '04-01 20 calls: +10 that came late, 05-16 14 calls', 'what is used in its first second is billed, and what came late once');
SELECT is((SELECT count(*) FROM billing.invoices WHERE organization_id = 'again' AND status = 'draft'), 0::bigint, 'no invoice is left a draft');

-- ---------------------------------------------------------------------------
-- What the plan allows is no task

CALL begin_at('allowed');
CALL billing.set_clock('allowed', '2031-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('allowed'), 'plain');
SELECT used('allowed', 'calls', 5, '2031-04-16 00:00+00') AS used \gset
CALL billing.advance_clock('allowed', '1 hour');
SELECT is(attention('allowed') ~ '^warning: usage has no price: 5 of calls', true, 'without a price and a limit');
INSERT INTO billing.features (feature, kind) VALUES ('calls', 'limit');
SELECT billing.set_plan_feature('plain', 'calls', '100');
SELECT is(attention('allowed'), NULL, 'with a limit the plan includes it');
SELECT is(unbilled('allowed'), 'no_price calls 04-16 04-16 5', 'and it is seen all the same');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'the books are in balance');
SELECT * FROM finish();

-- Usage that is billed in parts: where a price changes within a period, or the period begins or ends early. Numbers are computed by hand.
\ir helpers.psql
SELECT plan(21);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_meter('calls', 'sum') AS meter \gset

-- Plans of April: a base of 10.00 and calls by different models.
CREATE FUNCTION sold(plan text) RETURNS void
LANGUAGE sql
BEGIN ATOMIC
	SELECT billing.create_plan(sold.plan, initcap(sold.plan), 1000, 'USD', plan_group => sold.plan);
END;
SELECT count(sold(p)) AS plans FROM string_to_table('commit flat tiers share moved', ' ') AS p \gset
SELECT billing.create_price('commit', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 2, free_units => 30, commitment => 3000) AS commit_2,
	   billing.create_price('flat', 3000, 'USD', component => 'calls', metric => 'calls', model => 'flat') AS flat,
	   billing.create_price('tiers', NULL, 'USD', component => 'calls', metric => 'calls', model => 'graduated',
							tiers => '[{"up_to": 100, "unit_amount": 2, "flat_amount": 600}, {"unit_amount": 1, "flat_amount": 200}]') AS tiers,
	   billing.create_price('share', NULL, 'USD', component => 'calls', metric => 'calls', model => 'percentage', percentage => 10, minimum => 500, maximum => 2000) AS share,
	   billing.create_price('moved', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 2, commitment => 3000) AS moved \gset

-- An organisation that is billed from then on.
CREATE PROCEDURE begin_at(organization text, plan text, at timestamptz DEFAULT '2031-04-01 00:00+00')
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.create_customer(organization);
	COMMIT;
	CALL billing.run_worker();
	CALL billing.set_clock(organization, at);
	PERFORM billing.subscribe(organization, plan, collection_method => 'send_invoice', days_until_due => 300, managed_by => 'local');
	COMMIT;
	CALL billing.run_worker();
END
$$;
CREATE FUNCTION used(organization text, quantity numeric, at timestamptz DEFAULT NULL) RETURNS boolean
LANGUAGE sql
RETURN billing.record_usage(organization, 'calls', quantity, coalesce(at, billing.now(organization)));
-- Lines of usage: day they begin, amount, what they are.
CREATE FUNCTION usage_of(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', to_char(l.period_start AT TIME ZONE 'UTC', 'MM-DD'), l.amount, nullif(split_part(l.description, ': ', 2), '')), ', ' ORDER BY l.period_start, l.id)
		FROM billing.invoice_lines AS l WHERE l.subscription_id = subscription_of(organization) AND l.kind = 'usage');
CREATE FUNCTION usage_sum(organization text) RETURNS bigint
LANGUAGE sql
RETURN (SELECT sum(l.amount)::bigint FROM billing.invoice_lines AS l WHERE l.subscription_id = subscription_of(organization) AND l.kind = 'usage');

-- ---------------------------------------------------------------------------
-- A price that changes on the 16th: 15 of 30 days each

CALL begin_at('changed', 'commit');
SELECT billing.create_price('commit', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 3, free_units => 30, commitment => 3000) AS commit_3 \gset
CALL billing.set_clock('changed', '2031-04-16 00:00+00');
SELECT used('changed', 100, '2031-04-10 00:00+00') AS used \gset
SELECT billing.update_subscription(subscription_of('changed'), items => format('{"calls": {"price": "%s"}}', :'commit_3')::jsonb);
-- 85 of 100 at 2 cents, and what is missing to 15.00
SELECT is(usage_of('changed'), '04-01 0 free units, 04-01 170, 04-01 1330 commitment', 'half of the period has half of the free units and of the commitment');
CALL billing.set_clock('changed', '2031-04-20 00:00+00');
SELECT used('changed', 1000) AS used \gset
CALL billing.set_clock('changed', '2031-05-01 01:00+00');
SELECT is(usage_of('changed'), '04-01 0 free units, 04-01 170, 04-01 1330 commitment, 04-16 0 free units, 04-16 2955', 'so has the other half: 985 at 3 cents');
SELECT is((SELECT sum(l.quantity) FROM billing.invoice_lines AS l WHERE l.subscription_id = subscription_of('changed') AND l.description = 'calls: free units'), 30::numeric, '30 are free in all');
CALL billing.set_clock('changed', '2031-06-01 01:00+00');
SELECT is(usage_sum('changed') - 1500 - 2955, 3000::bigint, 'a month without usage costs the commitment, once');
SELECT used('changed', 10, '2031-04-11 00:00+00') AS used \gset
SELECT used('changed', 10, '2031-04-21 00:00+00') AS used \gset
CALL billing.set_clock('changed', '2031-07-01 01:00+00');
-- 95 at 2 cents are still below 15.00; 995 at 3 cents are 10 more
SELECT is((SELECT string_agg(l.amount || ' ' || l.description, ', ' ORDER BY l.id) FROM billing.invoice_lines AS l WHERE l.subscription_id = subscription_of('changed') AND l.description LIKE '%late'),
		  '30 calls: +10 that came late', 'what comes late into a part is rated as the part');

CALL begin_at('flat', 'flat');
SELECT billing.create_price('flat', 6000, 'USD', component => 'calls', metric => 'calls', model => 'flat') AS flat_6 \gset
CALL billing.set_clock('flat', '2031-04-11 00:00+00');
SELECT used('flat', 1) AS used \gset
SELECT billing.update_subscription(subscription_of('flat'), items => format('{"calls": {"price": "%s"}}', :'flat_6')::jsonb);
SELECT used('flat', 1) AS used \gset
CALL billing.set_clock('flat', '2031-05-01 01:00+00');
SELECT is(usage_of('flat'), '04-01 1000 flat fee, 04-11 4000 flat fee', 'a flat fee counts for its days');

CALL begin_at('tiers', 'tiers');
SELECT billing.create_price('tiers', NULL, 'USD', component => 'calls', metric => 'calls', model => 'graduated',
							tiers => '[{"up_to": 100, "unit_amount": 4, "flat_amount": 600}, {"unit_amount": 2}]') AS tiers_2 \gset
CALL billing.set_clock('tiers', '2031-04-16 00:00+00');
SELECT used('tiers', 150, '2031-04-02 00:00+00') AS used \gset
SELECT billing.update_subscription(subscription_of('tiers'), items => format('{"calls": {"price": "%s"}}', :'tiers_2')::jsonb);
CALL billing.set_clock('tiers', '2031-04-20 00:00+00');
SELECT used('tiers', 150) AS used \gset
CALL billing.set_clock('tiers', '2031-05-01 01:00+00');
SELECT is(usage_of('tiers'), '04-01 300 fee of tier 1, 04-01 200 tier 1, 04-01 100 fee of tier 2, 04-01 50 tier 2, 04-16 300 fee of tier 1, 04-16 400 tier 1, 04-16 100 tier 2',
		  'fees of tiers in proportion, their bounds as they are');

CALL begin_at('share', 'share');
CALL billing.set_clock('share', '2031-04-16 00:00+00');
SELECT used('share', 100, '2031-04-02 00:00+00') AS used \gset
SELECT billing.cancel_subscription(subscription_of('share'), at_period_end => false);
CALL billing.set_clock('share', '2031-04-16 01:00+00');
SELECT is(usage_of('share'), '04-01 10 percentage, 04-01 240 minimum', 'a minimum in proportion');
CALL begin_at('most', 'share');
CALL billing.set_clock('most', '2031-04-16 00:00+00');
SELECT used('most', 50000, '2031-04-02 00:00+00') AS used \gset
SELECT billing.cancel_subscription(subscription_of('most'), at_period_end => false);
CALL billing.set_clock('most', '2031-04-16 01:00+00');
SELECT is(usage_of('most'), '04-01 5000 percentage, 04-01 -4000 above the maximum', 'and a maximum');

-- a version that everybody moves to at once, in the middle of the period
CALL begin_at('moved', 'moved');
SELECT billing.create_price('moved', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 5, commitment => 6000, effective_at => '2031-04-11 00:00+00', existing => 'now') AS moved_5 \gset
CALL billing.set_clock('moved', '2031-04-02 00:00+00');
SELECT used('moved', 1000) AS used \gset
CALL billing.set_clock('moved', '2031-04-12 00:00+00');
SELECT is(usage_of('moved'), '04-01 2000', 'existing => now: used until then at the old price');
CALL billing.set_clock('moved', '2031-05-01 01:00+00');
SELECT is(usage_of('moved'), '04-01 2000, 04-11 4000 commitment', 'then 20 of 30 days of the new commitment');

-- ---------------------------------------------------------------------------
-- Periods that begin or end early

CALL begin_at('ended', 'commit');
CALL billing.set_clock('ended', '2031-04-16 00:00+00');
SELECT billing.cancel_subscription(subscription_of('ended'), at_period_end => false);
CALL billing.set_clock('ended', '2031-04-16 01:00+00');
SELECT is(usage_of('ended'), '04-01 1500 commitment', 'an end in mid-period costs half of the commitment');
SELECT is((SELECT billing_reason || ' ' || total || ' ' || status FROM billing.invoices WHERE organization_id = 'ended' ORDER BY id DESC LIMIT 1), 'subscription_end 1500 open', 'on the last invoice');
CALL begin_at('usedup', 'commit');
SELECT used('usedup', 2030) AS used \gset
SELECT billing.cancel_subscription(subscription_of('usedup'));
CALL billing.set_clock('usedup', '2031-05-01 00:30+00');
SELECT used('usedup', 100, '2031-04-30 23:00+00') AS used \gset
CALL billing.set_clock('usedup', '2031-05-01 01:00+00');
SELECT is(status_of('usedup') || ' ' || usage_of('usedup'), 'canceled 04-01 0 free units, 04-01 6300', 'at the end of the period usage is billed whole, what comes late included');

UPDATE billing.settings SET value = 'calendar' WHERE name = 'billing_alignment';
CALL begin_at('aligned', 'commit', '2031-04-16 00:00+00');
UPDATE billing.settings SET value = 'anniversary' WHERE name = 'billing_alignment';
CALL billing.set_clock('aligned', '2031-05-01 01:00+00');
SELECT is(usage_of('aligned'), '04-16 1500 commitment', 'a first period that is a part has a part of the commitment');
CALL billing.set_clock('aligned', '2031-06-01 01:00+00');
SELECT is(usage_of('aligned'), '04-16 1500 commitment, 05-01 3000 commitment', 'the next one all of it');

UPDATE billing.settings SET value = 'day' WHERE name = 'proration_unit';
CALL begin_at('byday', 'commit');
CALL billing.set_clock('byday', '2031-04-16 18:00+00');
SELECT billing.cancel_subscription(subscription_of('byday'), at_period_end => false);
CALL billing.set_clock('byday', '2031-04-16 19:00+00');
SELECT is(usage_of('byday'), '04-01 1500 commitment', 'by day the day of the end does not count');
UPDATE billing.settings SET value = 'second' WHERE name = 'proration_unit';

-- paused and unpaid, nothing is billed: 9 of 30 days have 9 of 30 free units, and 2021 calls cost 3
CALL begin_at('rest', 'commit');
SELECT used('rest', 2030) AS used \gset
CALL billing.set_clock('rest', '2031-04-10 00:00+00');
SELECT billing.pause_subscription(subscription_of('rest'));
CALL billing.set_clock('rest', '2031-04-10 00:00:01+00');
SELECT used('rest', 500) AS used \gset
CALL billing.set_clock('rest', '2031-06-10 00:00+00');
SELECT used('rest', 1000, '2031-05-20 00:00+00') AS used \gset
SELECT billing.resume_subscription(subscription_of('rest'));
CALL billing.set_clock('rest', '2031-06-10 01:00+00');
SELECT is(usage_of('rest'), '04-01 0 free units, 04-01 6063', 'after a pause the time before it is billed, not that of the pause');
CALL billing.set_clock('rest', '2031-07-10 01:00+00');
SELECT is(usage_of('rest'), '04-01 0 free units, 04-01 6063, 06-10 3000 commitment', 'then usage counts again');
CALL begin_at('left', 'commit');
SELECT used('left', 2030) AS used \gset
CALL billing.set_clock('left', '2031-04-10 00:00+00');
SELECT billing.pause_subscription(subscription_of('left'));
CALL billing.set_clock('left', '2031-04-10 00:00:01+00');
SELECT used('left', 500) AS used \gset
CALL billing.set_clock('left', '2031-06-10 00:00+00');
SELECT used('left', 1000, '2031-05-20 00:00+00') AS used \gset
SELECT billing.cancel_subscription(subscription_of('left'));
CALL billing.set_clock('left', '2031-06-10 01:00+00');
SELECT is(usage_of('left'), '04-01 0 free units, 04-01 6063', 'nor where it ends out of the pause');

SELECT is_empty($$SELECT * FROM billing.ledger_imbalance$$, 'the books balance');
SELECT * FROM finish();

-- What would be billed is what is billed, and asking for it changes nothing.
\ir helpers.psql
SELECT plan(44);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_plan('small', 'Small', 3000, 'USD') AS p1, billing.create_plan('large', 'Large', 6000, 'USD') AS p2, billing.create_plan('yearly', 'Yearly', 30000, 'USD', "interval" => 'year') AS p3 \gset
SELECT billing.create_meter('calls', 'sum');
SELECT billing.create_price('large', component => 'calls', metric => 'calls', currency => 'USD', unit_amount => 2.5) AS calls \gset
SELECT count(billing.create_customer(o)) AS customers FROM unnest('{a,b}'::text[]) AS o \gset
CALL billing.run_worker();
CALL billing.set_clock('a', '2027-04-01 00:00+00');
CALL billing.set_clock('b', '2027-04-01 00:00+00');
SELECT billing.subscribe(o, p, collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local') FROM (VALUES ('a', 'small'), ('b', 'large')) AS v (o, p);
CALL billing.run_worker();
UPDATE billing.invoices SET status = 'paid', amount_paid = amount_due, paid_elsewhere = amount_due, amount_remaining = 0, paid_at = now();

CREATE FUNCTION lines(invoice uuid) RETURNS SETOF text
LANGUAGE sql
BEGIN ATOMIC
	SELECT concat_ws(' ', l.kind, l.component, l.description, l.quantity::double precision, l.amount, l.discount, l.tax, l.period_start, l.period_end)
	FROM billing.invoice_lines AS l WHERE l.invoice_id IS NOT DISTINCT FROM lines.invoice ORDER BY l.position, l.id;
END;
CREATE FUNCTION as_line(l billing.preview_line) RETURNS text
LANGUAGE sql
RETURN concat_ws(' ', l.kind, l.component, l.description, l.quantity::double precision, l.amount, l.discount, l.tax, l.period_start, l.period_end);

CALL billing.set_clock('a', '2027-04-16 12:00+00');
CREATE TEMP TABLE told AS SELECT p FROM billing.preview_update(subscription_of('a'), plan => 'large') AS p;
SELECT is((SELECT string_agg((p).kind || ' ' || (p).amount, ', ' ORDER BY (p).position) FROM told), 'proration_credit -1450, proration_debit 2900', 'a change is told');
SELECT is((SELECT count(*) FROM billing.invoice_lines WHERE invoice_id IS NULL), 0::bigint, 'and not made');
SELECT is((SELECT plan FROM billing.get_subscription(subscription_of('a'))), 'small', 'the plan is as it was');
CALL billing.set_clock('a', '2027-04-16 12:07+00');
SELECT billing.update_subscription(subscription_of('a'), plan => 'large', proration_date => (SELECT (p).proration_date FROM told LIMIT 1));
SELECT set_eq($$SELECT lines(NULL)$$, $$SELECT as_line(p) FROM told$$, 'with its proration_date exactly these lines are billed');

CALL billing.set_clock('b', '2027-04-05 00:00+00');
SELECT billing.record_usage('b', 'calls', 1001, occurred_at => '2027-04-03 00:00+00');
CALL billing.run_worker();
CREATE TEMP TABLE next AS SELECT p FROM billing.preview_invoice(subscription_of('b')) AS p;
SELECT is((SELECT string_agg((p).kind || ' ' || (p).amount, ', ' ORDER BY (p).position) FROM next), 'base 6000, usage 2503', 'the next invoice, usage so far included: 1001 at 2.5');
SELECT is((SELECT count(*) FROM billing.usage_closings WHERE organization_id = 'b'), 0::bigint, 'no usage is closed by it');
SELECT is((SELECT count(*) FROM billing.preview_invoice(organization_id => 'b')), 2::bigint, 'of an organisation: of each of its subscriptions');
SELECT is((SELECT string_agg(DISTINCT (s).invoice || ' ' || (s).made_at::date || ' ' || (s).total, ', ') FROM billing.simulate('b', '2027-07-02') AS s),
	'1 2027-05-01 8503, 2 2027-06-01 6000, 3 2027-07-01 6000', 'all invoices until a day');
SELECT is((SELECT count(*) FROM billing.invoices WHERE organization_id = 'b'), 1::bigint, 'none is written');
CALL billing.set_clock('b', '2027-05-01 02:00+00');
SELECT results_eq($$SELECT lines((SELECT id FROM billing.invoices WHERE organization_id = 'b' ORDER BY id DESC LIMIT 1))$$, $$SELECT as_line(p) FROM next ORDER BY (p).position$$,
	'then it is issued as it was told');
BEGIN READ ONLY;
SELECT lives_ok($$SELECT count(*) FROM billing.simulate('a', '2028-01-01')$$, 'a read-only transaction is enough');
COMMIT;

-- ---------------------------------------------------------------------------
-- With every argument that update_subscription() has

SELECT is((SELECT pg_get_function_arguments('billing.preview_update'::regproc)), (SELECT pg_get_function_arguments('billing.update_subscription'::regproc)), 'a change and its preview have the same arguments');

SELECT count(billing.create_customer(o)) AS customers FROM unnest('{amount,coupon,later,trial,bare,ending}'::text[]) AS o \gset
SELECT billing.create_coupon('TENTH', percent => 10, duration => 'once', max_redemptions => 5) AS tenth \gset
CALL billing.run_worker();
-- On April 1st, paid.
CREATE PROCEDURE begins_in_april(organization text, plan text, trial_days integer DEFAULT 0)
LANGUAGE plpgsql AS $$
BEGIN
	CALL billing.set_clock(organization, '2027-04-01 00:00+00');
	PERFORM billing.subscribe(organization, plan, collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local', trial_days => trial_days);
	COMMIT;
	CALL billing.run_worker();
	UPDATE billing.invoices SET status = 'paid', amount_paid = amount_due, paid_elsewhere = amount_due, amount_remaining = 0, paid_at = now() WHERE organization_id = organization AND status = 'open';
	COMMIT;
	CALL billing.set_clock(organization, '2027-04-16 00:00+00');
END
$$;
-- The lines of the newest invoice of an organisation.
CREATE FUNCTION newest(organization text) RETURNS SETOF text
LANGUAGE sql
BEGIN ATOMIC
	SELECT lines(i.id) FROM (SELECT v.id FROM billing.invoices AS v WHERE v.organization_id = organization ORDER BY v.id DESC LIMIT 1) AS i;
END;

CALL begins_in_april('amount', 'small');
CREATE TEMP TABLE agreed AS SELECT p FROM billing.preview_update(subscription_of('amount'), amount => 4000) AS p;
SELECT is((SELECT string_agg((p).kind || ' ' || (p).amount, ', ' ORDER BY (p).position) FROM agreed), 'proration_credit -1500, proration_debit 2000', 'an amount: half of 30.00 and half of 40.00');
SELECT is((SELECT count(*) FROM billing.prices WHERE amount = 4000), 0::bigint, 'no price is made for it');
BEGIN READ ONLY;
SELECT lives_ok($$SELECT * FROM billing.preview_update(subscription_of('amount'), plan => 'large', amount => 5000, effective => 'period_end', coupon => 'TENTH', payment_method => 'pm_card_visa')$$,
	'a read-only transaction is enough for that, too');
COMMIT;
SELECT billing.update_subscription(subscription_of('amount'), amount => 4000, proration_date => (SELECT (p).proration_date FROM agreed LIMIT 1));
SELECT set_eq($$SELECT lines(NULL) INTERSECT SELECT as_line(p) FROM agreed$$, $$SELECT as_line(p) FROM agreed$$, 'and it is billed as it was told');

CALL begins_in_april('coupon', 'small');
CREATE TEMP TABLE cheaper AS SELECT p FROM billing.preview_update(subscription_of('coupon'), plan => 'large', coupon => 'TENTH', proration_behavior => 'always_invoice') AS p;
-- 10 % of half of 60.00; what is given back is not discounted
SELECT is((SELECT string_agg((p).kind || ' ' || (p).amount, ', ' ORDER BY (p).position) || ': ' || max((p).total) FROM cheaper), 'proration_credit -1500, proration_debit 3000, discount -300: 1200', 'a coupon, on the invoice of the change');
SELECT is((SELECT count(*) FROM billing.applied_coupons), 0::bigint, 'none is redeemed');
SELECT billing.update_subscription(subscription_of('coupon'), plan => 'large', coupon => 'TENTH', proration_behavior => 'always_invoice');
SELECT results_eq($$SELECT newest('coupon')$$, $$SELECT as_line(p) FROM cheaper ORDER BY (p).position$$, 'and it is billed as it was told');

CALL begins_in_april('later', 'small');
CREATE TEMP TABLE at_end AS SELECT p FROM billing.preview_update(subscription_of('later'), plan => 'large', amount => 5000, coupon => 'TENTH', effective => 'period_end') AS p;
SELECT is((SELECT string_agg((p).kind || ' ' || (p).amount || ' ' || (p).made_at::date, ', ' ORDER BY (p).position) || ': ' || max((p).total) || coalesce(max((p).proration_date)::text, ' not prorated') FROM at_end),
	'base 5000 2027-05-01, discount -500 2027-05-01: 4500 not prorated', 'at the end of the period: the invoice that comes then');
SELECT is((SELECT count(*) FROM billing.list_scheduled_changes('later')), 0::bigint, 'nothing is planned');
SELECT billing.update_subscription(subscription_of('later'), plan => 'large', amount => 5000, coupon => 'TENTH', effective => 'period_end');
CALL billing.set_clock('later', '2027-05-02 00:00+00');
SELECT results_eq($$SELECT newest('later')$$, $$SELECT as_line(p) FROM at_end ORDER BY (p).position$$, 'which is issued as it was told');

-- Nobody has paid: nothing is given back, and the line that says so is printed.
SELECT billing.create_customer('unpaid') AS unpaid \gset
CALL billing.run_worker();
CALL billing.set_clock('unpaid', '2027-04-01 00:00+00');
SELECT billing.subscribe('unpaid', 'small', collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local');
CALL billing.set_clock('unpaid', '2027-04-16 00:00+00');
CREATE TEMP TABLE nothing_back AS SELECT p FROM billing.preview_update(subscription_of('unpaid'), plan => 'large') AS p;
SELECT is((SELECT string_agg((p).kind || ' ' || (p).amount, ', ' ORDER BY (p).position) || ': ' || max((p).total) FROM nothing_back), 'proration_credit 0, proration_debit 3000: 3000', 'a line of 0 is told');
SELECT billing.update_subscription(subscription_of('unpaid'), plan => 'large');
SELECT set_eq($$SELECT concat_ws(' ', l.kind, l.description, l.amount, l.period_start, l.period_end) FROM billing.invoice_lines AS l WHERE l.invoice_id IS NULL AND l.subscription_id = subscription_of('unpaid')$$,
	$$SELECT concat_ws(' ', (p).kind, (p).description, (p).amount, (p).period_start, (p).period_end) FROM nothing_back$$, 'as it is written');

CALL begins_in_april('trial', 'small', 30);
CREATE TEMP TABLE ends_now AS SELECT p FROM billing.preview_update(subscription_of('trial'), trial_end => '2027-04-16 00:00+00', quantity => 3) AS p;
SELECT is((SELECT string_agg((p).kind || ' ' || (p).amount, ', ' ORDER BY (p).position) FROM ends_now), 'base 9000', 'a trial that ends now: its first period, as it is changed');
SELECT is((SELECT string_agg((p).kind || ' ' || (p).amount || ' ' || (p).made_at::date, ', ') FROM billing.preview_update(subscription_of('trial'), trial_end => '2027-04-20 00:00+00') AS p), 'base 3000 2027-04-20', 'one that ends later: then');
SELECT is(status_of('trial'), 'trialing', 'it goes on');
SELECT billing.update_subscription(subscription_of('trial'), trial_end => '2027-04-16 00:00+00', quantity => 3);
SELECT results_eq($$SELECT newest('trial')$$, $$SELECT as_line(p) FROM ends_now ORDER BY (p).position$$, 'and it is billed as it was told');

CALL billing.set_clock('bare', '2027-04-01 00:00+00');
SELECT billing.subscribe('bare', 'small', trial_days => 14, managed_by => 'local') AS bare \gset
SELECT is_empty(format($$SELECT * FROM billing.preview_update(%L, trial_end => '2027-04-03')$$, :'bare'), 'without a payment method it ends with its trial');
SELECT is((SELECT sum(amount) FROM billing.preview_update(:'bare', trial_end => '2027-04-03', payment_method => 'pm_card_visa')), 3000::numeric, 'with one it goes on');

CALL begins_in_april('ending', 'small');
SELECT is_empty($$SELECT * FROM billing.preview_update(subscription_of('ending'), cancel_at => '2027-09-01')$$, 'an end by date bills nothing now');
SELECT is((SELECT count(*) FROM billing.list_scheduled_changes('ending')), 0::bigint, 'and is not planned');
SELECT fails($$SELECT * FROM billing.preview_update(subscription_of('ending'), cancel_at => '2027-04-02')$$, '22023', 'cancel_at is not a time to come', NULL, 'what the call would refuse is refused');
SELECT fails($$SELECT * FROM billing.preview_update(subscription_of('ending'))$$, '22023', 'nothing to change is named', NULL, 'something has to change');
SELECT fails($$SELECT * FROM billing.preview_update(subscription_of('ending'), trial_end => '2027-05-01')$$, 'JB008', 'is not in a trial', NULL, 'a trial has to be there');
SELECT fails($$SELECT * FROM billing.preview_update(subscription_of('ending'), coupon => 'NONE')$$, 'JB005', 'coupon', NULL, 'and a coupon');
SELECT fails($$SELECT * FROM billing.preview_update(subscription_of('ending'), amount => -1)$$, '22023', 'negative', NULL, 'an amount is not negative');
SELECT fails($$SELECT * FROM billing.preview_update(subscription_of('ending'), quantity => 2, effective => 'soon')$$, '22023', 'unknown effective', NULL, 'words are known');
SELECT fails($$SELECT * FROM billing.preview_update(subscription_of('ending'), payment_method => '4242 4242 4242 4242')$$, 'JB009', 'card number', NULL, 'a card number is none');
SELECT is((SELECT count(*) FROM billing.scheduled_changes WHERE subscription_id = subscription_of('ending')) + (SELECT count(*) FROM billing.applied_coupons WHERE organization_id = 'ending'), 0::bigint, 'nothing is half done');

SELECT fails(format($$SELECT * FROM billing.preview_update(%L, quantity => 2)$$, billing.new_id()), 'JB005', 'local subscription', NULL, 'it has to be one of ours');
SELECT fails($$SELECT * FROM billing.preview_invoice()$$, '23502', 'must be given', NULL, 'something has to be named');
SELECT fails($$SELECT * FROM billing.simulate('a', 'infinity')$$, '22023', 'infinite', NULL, 'not for ever');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

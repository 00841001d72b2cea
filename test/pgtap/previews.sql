-- What would be billed is what is billed, and asking for it changes nothing.
\ir helpers.psql
SELECT plan(15);

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

SELECT fails(format($$SELECT * FROM billing.preview_update(%L)$$, billing.new_id()), 'JB005', 'local subscription', NULL, 'it has to be one of ours');
SELECT fails($$SELECT * FROM billing.preview_invoice()$$, '23502', 'must be given', NULL, 'something has to be named');
SELECT fails($$SELECT * FROM billing.simulate('a', 'infinity')$$, '22023', 'infinite', NULL, 'not for ever');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

-- What readers say of organisations that are not there, of drafts that wait, and of one that cannot be billed.
\ir helpers.psql
\ir paid_helpers.psql
SELECT plan(14);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_meter('calls', 'sum') AS meter, billing.create_plan('counted', 'Counted', 1000, 'USD') AS counted \gset
SELECT billing.create_price('counted', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 2) AS calls \gset
CALL begin_at('there', 'counted');
CALL begin_at('huge', 'counted');

SELECT fails($$SELECT * FROM billing.simulate('their', '2028-01-01')$$, 'JB005', '"their"', 'create_customer', 'who is misspelt has nothing to simulate');
SELECT fails($$SELECT * FROM billing.preview_invoice(organization_id => 'their')$$, 'JB005', '"their"', 'create_customer', 'nor to preview');
SELECT fails($$SELECT * FROM billing.credit_balance('their')$$, 'JB005', '"their"', 'create_customer', 'nor a balance');
SELECT is((SELECT count(*) FROM billing.credit_balance('there')), 0::bigint, 'who is there and has nothing has no row');
SELECT fails($$SELECT * FROM billing.simulate('there', '2027-03-01')$$, '22023', 'until is in the past', 'interval', 'the past is not simulated');

-- ---------------------------------------------------------------------------
-- A draft that waits: 100 calls at 2, and the base of May

SELECT billing.record_usage('there', 'calls', 100);
CALL billing.set_clock('there', '2027-05-01 00:10+00');
SELECT is((SELECT i.total = (SELECT sum(l.amount) FROM billing.invoice_lines AS l WHERE l.invoice_id = i.id) FROM billing.list_invoices('there') AS i WHERE i.status = 'draft'), true, 'its total is the sum of its lines');
SELECT billing.cancel_subscription(subscription_of('there'), at_period_end => false);
SELECT is((SELECT bool_and(i.total = (SELECT coalesce(sum(l.amount), 0) FROM billing.invoice_lines AS l WHERE l.invoice_id = i.id)) FROM billing.list_invoices('there') AS i WHERE i.status = 'draft'), true, 'also when something changes in the hour of grace');

-- ---------------------------------------------------------------------------
-- One that cannot be rated

SELECT billing.record_usage('huge', 'calls', 1e20);
CALL billing.set_clock('huge', '2027-05-01 00:00+00');
CALL billing.set_clock('huge', '2027-05-01 01:30+00');
SELECT id AS huge FROM billing.invoices WHERE organization_id = 'huge' AND status = 'draft' \gset
SELECT matches((SELECT detail FROM billing.attention WHERE what = 'invoice cannot be made final'), 'cannot be rated \(.*void_usage', 'a person is told what to do');
SELECT matches((SELECT hint FROM billing.explain(:'huge') WHERE what = 'invoice is draft'), '^it cannot be made final', 'it is not late usage that it waits for');
SELECT billing.void_invoice(:'huge');
SELECT is((SELECT status FROM billing.get_invoice(:'huge')), 'void', 'and it is voided as it stands');

-- ---------------------------------------------------------------------------
-- One label for one sum

SELECT billing.set_seller('Example GmbH');
SELECT billing.create_invoice(billing.find_customer('there'), '[{"description": "Workshop", "amount": 5000}]', currency => 'USD') AS printed,
	   billing.create_invoice(billing.find_customer('there'), '[{"description": "Workshop", "amount": 5000}]', currency => 'USD', finalize => false) AS drafted \gset
CALL billing.run_worker();
SELECT billing.mark_invoice_paid(:'printed', 'by transfer');
CREATE FUNCTION said(id uuid, label text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(m[1], ', ') FROM regexp_matches(regexp_replace(regexp_replace(billing.invoice_html(id), '<style>.*</style>', ''), '<[^>]*>', ' ', 'g'), label || '\s+(\S+)', 'g') AS m);
SELECT is(said(:'printed', 'Amount due'), '50.00&#160;USD', 'what was due stands there once');
SELECT is(said(:'printed', 'Remaining'), '0.00&#160;USD, 0.00&#160;USD', 'and at the top what is left, as below');
SELECT is(said(:'drafted', 'Amount due'), '50.00&#160;USD, 50.00&#160;USD', 'of a draft all is due');
SELECT is(said(:'drafted', 'Remaining'), NULL, 'and nothing is left');

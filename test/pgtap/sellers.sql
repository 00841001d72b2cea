-- In live mode an invoice has a seller with a name, or it waits for him.
\ir helpers.psql
SELECT plan(18);

SELECT billing.configure_provider('stripe', 'sk_live_1', 'whsec_1', base_url => 'http://127.0.0.1:9');
SELECT billing.configure_provider('stripe', 'sk_test_1', 'whsec_2', base_url => 'http://127.0.0.1:9', account => 'trial');
-- what nobody answers is not tried here
UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'no network' WHERE provider = 'stripe';
SELECT billing.create_customer(o, o || '@b.example', o, currency => 'EUR', provider => 'stripe', account => CASE o WHEN 'tested' THEN 'trial' ELSE 'default' END)
FROM unnest('{real,other,tested}'::text[]) AS o;

-- item of check_provider(), as "ok value"
CREATE FUNCTION seller_of(account text) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' ', c.ok::text, c.value) FROM billing.check_provider('stripe', seller_of.account) AS c WHERE c.item = 'seller');
CREATE FUNCTION waiting() RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(a.detail || ': ' || a.hint, E'\n') FROM billing.attention AS a WHERE a.what = 'invoices wait for a seller');

SELECT is(seller_of('default'), 'has no name', 'as long as we bill nothing it is a word only');
SELECT billing.create_invoice(billing.find_customer(o), '[{"description": "Setup", "amount": 9900}]') FROM unnest('{real,real,tested}'::text[]) AS o;
SELECT id AS waits FROM billing.invoices WHERE organization_id = 'real' ORDER BY id LIMIT 1 \gset
SELECT billing.create_invoice(billing.find_customer('real'), '[{"description": "Later", "amount": 100}]', finalize => false) AS draft \gset
CALL billing.run_worker();

SELECT is((SELECT string_agg(status || ' ' || coalesce(number, '-'), ', ') FROM billing.invoices WHERE id <> :'draft' AND organization_id = 'real'), 'draft -, draft -', 'without a name no invoice of live mode gets a number');
SELECT is((SELECT status || ' ' || number FROM billing.invoices WHERE organization_id = 'tested'), 'open TEST-INV-000001', 'of test mode it does');
SELECT is((SELECT count(*) FROM billing.invoice_series WHERE livemode), 0::bigint, 'and no number is used');
SELECT is(waiting(), $$2 invoices of live mode have no number, as seller default has no name: billing.set_seller('...', seller => 'default', ...)$$, 'a person is told, once');
SELECT is((SELECT hint FROM billing.explain(:'waits') WHERE what = 'invoice is draft'), 'it waits for its number until its seller has a name: billing.set_seller()', 'and of each of them');
SELECT fails(format('SELECT billing.finalize_invoice(%L)', :'draft'), 'JB008', 'seller "default" has no name', 'set_seller', 'one that is made final by hand is refused');
SELECT fails(format('SELECT billing.finalize_invoice(%L)', :'waits'), 'JB008', 'seller "default" has no name', 'set_seller', 'so is one that waits');
SELECT is(seller_of('default'), 'false has no name', 'it is a problem of the account');
SELECT is(seller_of('trial'), 'has no name', 'not of one of test mode');

-- another one's go on
SELECT billing.set_seller('Other GmbH', seller => 'other', invoice_pattern => 'O-{number}');
SELECT billing.create_invoice(billing.find_customer('other'), '[{"description": "Setup", "amount": 9900}]', seller => 'other') AS others \gset
CALL billing.run_worker();
SELECT is((SELECT status || ' ' || number FROM billing.get_invoice(:'others')), 'open O-1', 'they hold up no other seller');
SELECT is((SELECT string_agg(status, ', ') FROM billing.invoices WHERE organization_id = 'real'), 'draft, draft, draft', 'and go on waiting');

SELECT billing.set_seller('Example GmbH', country => 'DE');
CALL billing.run_worker();
SELECT is((SELECT string_agg(status || ' ' || number, ', ' ORDER BY series_number) FROM billing.invoices WHERE id <> :'draft' AND organization_id = 'real'), 'open INV-000001, open INV-000002', 'with a name they get their numbers');
SELECT is((SELECT seller ->> 'name' FROM billing.get_invoice(:'waits')), 'Example GmbH', 'and say it');
SELECT is(waiting(), NULL, 'nobody waits any more');
SELECT billing.finalize_invoice(:'draft');
CALL billing.run_worker();
SELECT is((SELECT number FROM billing.get_invoice(:'draft')), 'INV-000003', 'and one more is made final');
SELECT is(seller_of('default'), 'true Example GmbH', 'which the account tells');
SELECT is(seller_of('trial'), 'true Example GmbH', 'each of them');

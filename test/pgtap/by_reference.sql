-- Subscriptions that are paid to references from their first invoice on.
\ir helpers.psql
\ir billing_helpers.psql
SELECT plan(17);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_plan('basico', 'Básico', 29900, 'MXN') AS basico, billing.create_plan('dollars', 'Dollars', 2900, 'USD') AS dollars \gset
SELECT count(billing.create_customer(o, o || '@b.example', country => 'MX', currency => 'MXN')) AS customers FROM unnest('{once,after,trial,later,other}'::text[]) AS o \gset
CREATE PROCEDURE at_new_year(organization text)
LANGUAGE plpgsql AS $$
BEGIN
	CALL billing.set_clock(organization, '2027-01-01 00:00+00');
END
$$;
CREATE FUNCTION first_invoice(organization text) RETURNS uuid
LANGUAGE sql
RETURN (SELECT i.id FROM billing.invoices AS i WHERE i.organization_id = organization ORDER BY i.id LIMIT 1);
CREATE FUNCTION references_of(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(p.method || ' ' || p.status, ', ' ORDER BY p.id) FROM billing.payment_intents AS p WHERE p.organization_id = organization);

CALL billing.run_worker();
CALL at_new_year('once');
SELECT billing.subscribe('once', 'basico', collect_by => 'oxxo') AS once \gset
CALL billing.run_worker();
SELECT is((SELECT collect_by || ' ' || status FROM billing.subscriptions WHERE id = :'once'), 'oxxo incomplete', 'a subscription says by what it is collected');
SELECT is(references_of('once'), 'oxxo requires_action', 'its first invoice has a reference');
SELECT is(attempts(first_invoice('once')) || ' ' || invoice(first_invoice('once')), 'issue running @0 open 0 29900', 'and nothing failed before');
SELECT is(happened(first_invoice('once')), 'invoice.finalized invoice.payment_action_required', 'as the application hears');
SELECT billing.sandbox_pay_reference(number_to_pay(first_invoice('once')));
CALL billing.run_worker();
SELECT is(invoice(first_invoice('once')) || ' ' || (SELECT status FROM billing.get_subscription(:'once')), 'paid 29900 0 active', 'who pays it has subscribed');
CALL billing.set_clock('once', '2027-01-26 00:00+00');
SELECT is((SELECT count(*) FROM billing.invoices WHERE subscription_id = :'once'), 2::bigint, 'the next period is invoiced ahead');

-- chosen afterwards: what failed before is not why it is open
CALL at_new_year('after');
SELECT billing.subscribe('after', 'basico') AS after \gset
CALL billing.run_worker();
SELECT is(invoice(first_invoice('after')), 'open 0 29900 no_payment_method', 'without a method nothing can be charged');
SELECT billing.collect_by(:'after', 'oxxo');
CALL billing.run_worker();
SELECT is(references_of('after') || ', ' || invoice(first_invoice('after')), 'oxxo requires_action, open 0 29900', 'a reference that waits is no error');

-- a trial needs no card then
CALL at_new_year('trial');
SELECT billing.subscribe('trial', 'basico', trial_days => 10, collect_by => 'spei') AS trial \gset
CALL billing.set_clock('trial', '2027-01-11 00:00+00');
SELECT is((SELECT status FROM billing.get_subscription(:'trial')) || ', ' || references_of('trial'), 'active, spei requires_action', 'a trial goes on to a reference');
-- one that begins later
CALL at_new_year('later');
SELECT billing.subscribe('later', 'basico', starts_at => '2027-02-01 00:00+00', collect_by => 'oxxo') AS later \gset
CALL billing.set_clock('later', '2027-02-01 00:00+00');
SELECT is(references_of('later'), 'oxxo requires_action', 'so does one that begins later');

-- ---------------------------------------------------------------------------
-- What is refused

SELECT fails($$SELECT billing.subscribe('other', 'basico', collect_by => 'cash')$$, '22023', 'collect_by', 'oxxo', 'another word');
SELECT fails($$SELECT billing.subscribe('other', 'basico', collect_by => '4242424242424242')$$, 'JB009', 'card number', NULL, 'a card number');
SELECT billing.configure_provider('stripe', 'sk_test_1', 'whsec_1', base_url => 'http://127.0.0.1:9');
SELECT fails($$SELECT billing.subscribe('other', 'dollars', currency => 'USD', collect_by => 'oxxo', provider => 'stripe', managed_by => 'local')$$, 'JB004', '', NULL, 'a currency in which no reference is made');
SELECT fails($$SELECT billing.subscribe('other', 'basico', managed_by => 'provider', collect_by => 'oxxo')$$, 'JB004', 'collect_by is not for a subscription that provider "sandbox" bills', $$managed_by => 'local'$$, 'where the provider collects');
SELECT is((SELECT count(*) FROM billing.subscriptions WHERE organization_id = 'other'), 0::bigint, 'nothing is half done');
SELECT billing.subscribe('other', 'basico', collect_by => 'oxxo', idempotency_key => 'k') AS kept \gset
SELECT is(billing.subscribe('other', 'basico', collect_by => 'oxxo', idempotency_key => 'k'), :'kept', 'the same call again is the same subscription');
SELECT fails($$SELECT billing.subscribe('other', 'basico', collect_by => 'spei', idempotency_key => 'k')$$, 'JB007', '', NULL, 'another reference is another call');
SELECT * FROM finish();

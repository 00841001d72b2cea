-- billing.explain(): why something is not active or paid, and what to do.
\ir helpers.psql
\ir billing_helpers.psql
SELECT plan(15);

SELECT count(billing.create_customer(o)) AS customers FROM string_to_table('paid bare declined voucher draft gone', ' ') AS o \gset
SELECT billing.create_plan('collected', 'Collected', 1000, "interval" => 'year') AS plan \gset
SELECT billing.attach_payment_method(billing.find_customer('paid'), 'pm_card_visa', set_default => true) AS m1,
	   billing.attach_payment_method(billing.find_customer('declined'), 'pm_card_chargeCustomerFail', set_default => true) AS m2 \gset
CALL billing.run_worker();
CREATE FUNCTION told(id uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(e.what, ', ' ORDER BY e.n) FROM billing.explain(id) WITH ORDINALITY AS e (what, detail, hint, n));
CREATE FUNCTION hint_of(id uuid, what text) RETURNS text
LANGUAGE sql
RETURN (SELECT e.hint FROM billing.explain(id) AS e WHERE e.what = hint_of.what);

SELECT billing.subscribe('paid', 'pro', managed_by => 'local') AS paid \gset
CALL billing.run_worker();
SELECT is(told(:'paid'), 'subscription is active', 'of what is well there is nothing to tell');
SELECT is(hint_of(:'paid', 'subscription is active'), NULL, 'and nothing to do');
SELECT is((SELECT string_agg(told(i.id), ' ') FROM billing.invoices AS i WHERE i.organization_id = 'paid'), 'invoice is paid', 'nor of a paid invoice');
SELECT is((SELECT string_agg(told(p.id), ' ') FROM billing.payment_intents AS p WHERE p.organization_id = 'paid'), 'payment is succeeded', 'and its payment');

SELECT billing.subscribe('bare', 'pro', managed_by => 'local') AS bare \gset
CALL billing.run_worker();
SELECT is(told(:'bare'), 'subscription is incomplete, invoice is open, customer has no payment method, attempt 1 failed', 'without a method nothing is paid');
SELECT matches(hint_of(:'bare', 'customer has no payment method'), 'attach_payment_method', 'and what to do is told');

SELECT sell('declined') AS declined \gset
SELECT bill('declined', 5000, subscription => :'declined') AS refused \gset
CALL billing.run_worker();
SELECT is(told(:'refused'), 'invoice is open, attempt 1 failed, attempt 2 planned, attempt 3 planned, attempt 4 planned', 'what was tried, and what is planned');
SELECT is(told((SELECT p.id FROM billing.payment_intents AS p WHERE p.invoice_id = :'refused')), 'payment is failed, bank said no', 'a decline, and what it means');
SELECT matches(told(:'declined'), '^subscription is past_due, invoice is open, .*, subscription is past_due$', 'a subscription, with what attention has of it');

SELECT bill('voucher', 50000, 'MXN', subscription => sell('voucher', reference => 'oxxo')) AS voucher \gset
CALL billing.run_worker();
SELECT is(told(:'voucher'), 'invoice is open, attempt 1 running, payment is requires_action', 'a voucher waits for the customer');
SELECT matches(hint_of(:'voucher', 'payment is requires_action'), 'client_config', 'who gets it so');
SELECT billing.create_invoice(billing.find_customer('draft'), '[{"description": "A", "amount": 1}]', finalize => false) AS draft \gset
SELECT matches(hint_of(:'draft', 'invoice is draft'), 'finalize_invoice', 'a draft is made final');
SELECT fails('SELECT * FROM billing.explain(billing.new_id())', 'JB005', 'unknown subscription, invoice or payment intent', 'list_', 'what is not there is unknown');

UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'bad key' WHERE provider = 'sandbox';
SELECT matches(told(:'voucher'), 'account is stopped', 'of an account that is stopped everything tells it');
CREATE ROLE explain_report;
SELECT billing.grant_access('explain_report', 'report');
SET ROLE explain_report;
SELECT matches(told(:'refused'), '^invoice is open', 'reports may ask, too');
RESET ROLE;
SELECT * FROM finish();

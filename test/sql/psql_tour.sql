--
-- The first ten minutes in psql: what a person sees.
--
-- Nothing here shows an id or a time, which are different each day.
--
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
-- other tests share this database
SET client_min_messages = warning;
DROP EXTENSION janua_billing CASCADE;
CREATE EXTENSION janua_billing;
RESET client_min_messages;

-- What is on offer
SELECT plan, name, amount, currency, "interval", trial_days FROM billing.get_plans();
SELECT plan, jsonb_pretty(features) AS features FROM billing.get_plans() WHERE plan = 'pro';

-- A customer and a subscription in the sandbox
BEGIN;
SELECT billing.create_customer('acme', 'billing@acme.example', 'Acme Ltd', 'MX') AS acme \gset
SELECT billing.subscribe('acme', 'pro', 'pm_card_visa', trial_days => 14) AS subscription \gset
SELECT s.operation, s.organization_id, s.provider, s.state, s.attempts
FROM billing.outbox_status AS s JOIN billing.outbox AS o USING (id) ORDER BY o.seq;
SELECT plan, status, pending FROM billing.subscription_details;
COMMIT;
CALL billing.run_worker();
SELECT organization_id, email, name, country, currency, provider FROM billing.customer_details;
SELECT plan, amount, currency, status, trial_end - trial_start AS trial, pending FROM billing.get_subscription(:'subscription');
SELECT type, brand, last4, is_default, state, error_code FROM billing.list_payment_methods(:'acme');
SELECT count(*) FROM billing.outbox_status;
CALL billing.advance_clock('acme', '1 month 14 days 1 hour');
SELECT number, status, billing_reason, currency, total, amount_paid, amount_remaining, attempt_count
FROM billing.list_invoices('acme');
SELECT type, before_state, after_state FROM billing.events WHERE object = 'subscription' AND type <> 'subscription.updated' ORDER BY seq;

-- A plan with seats and usage, billed by our own engine: what will come, and what an invoice says
SELECT billing.create_plan('crew', 'Crew', 2000, 'EUR') IS NOT NULL AS plan,
	billing.create_price('crew', 500, 'EUR', component => 'seats') IS NOT NULL AS seats,
	billing.create_price('crew', currency => 'EUR', component => 'calls', metric => 'api_calls', model => 'graduated',
		tiers => '[{"up_to": 1000, "unit_amount": 0}, {"unit_amount": 0.5}]') IS NOT NULL AS calls,
	billing.set_tax_rate('DE', 19, 'VAT', valid_from => '2026-01-01') IS NOT NULL AS rate,
	billing.create_coupon('SPRING', percent => 10) IS NOT NULL AS coupon;
SELECT billing.create_customer('hooli', 'gavin@hooli.example', 'Hooli', 'DE', currency => 'EUR') AS hooli \gset
CALL billing.set_clock('hooli', '2027-01-31 10:00+00');
SELECT billing.subscribe('hooli', 'crew', 'pm_card_visa', quantity => 3, managed_by => 'local') AS crew \gset
SELECT billing.await(:'crew');
SELECT plan, status, items, managed_by, current_period_end FROM billing.get_subscription(:'crew');
CALL billing.set_clock('hooli', '2027-02-14 10:00+00');
SELECT billing.record_usage('hooli', 'api_calls', 5000);
SELECT kind, description, quantity, unit_amount, amount, tax, total FROM billing.preview_invoice(:'crew');
SELECT kind, description, quantity, amount, period_start, period_end FROM billing.preview_update(:'crew', quantity => 7);
SELECT billing.update_subscription(:'crew', quantity => 7);
SELECT billing.update_subscription(:'crew', items => '{"seats": 9}', effective => 'period_end');
SELECT kind, state, due_at, terms FROM billing.list_scheduled_changes('hooli');
SELECT billing.apply_coupon('SPRING', :'crew') IS NOT NULL AS applied;
SELECT billing.grant_credit('hooli', 1000, 'EUR', name => 'Welcome') IS NOT NULL AS granted;
CALL billing.set_clock('hooli', '2027-02-28 12:00+00');
SELECT number, status, billing_reason, subtotal, discount, tax, total, credit_used, amount_due, amount_paid FROM billing.list_invoices('hooli');
SELECT id AS invoice FROM billing.list_invoices('hooli') WHERE billing_reason = 'subscription_cycle' \gset
SELECT position, kind, description, quantity, unit_amount, amount, discount, tax, period_start FROM billing.invoice_lines_of(:'invoice');
SELECT attempt, kind, cause, due_at, state, decline_code FROM billing.list_dunning_attempts(:'invoice');
SELECT billing.create_credit_note(:'invoice', amount => 1190, reason => 'service_disruption') IS NOT NULL AS noted;
CALL billing.run_worker();
SELECT number, invoice_number, subtotal, tax, total, amount_applied, balance_amount FROM billing.list_credit_notes('hooli');
SELECT * FROM billing.credit_balance('hooli');
SELECT account, balance FROM billing.ledger_balances WHERE currency = 'EUR' ORDER BY account;
SELECT count(*) AS imbalance FROM billing.ledger_imbalance;

-- Usage and entitlements
SELECT billing.record_usage('acme', 'api_calls', 1500, idempotency_key => 'import 1');
SELECT billing.record_usage('acme', 'api_calls', 1500, idempotency_key => 'import 1');
SELECT metric, quantity, "limit", remaining, percentage FROM billing.usage_summary('acme');
SELECT o, billing.has_feature(o, 'sso') AS sso, billing.feature_limit(o, 'users') AS users, billing.feature_value(o, 'support_level') AS support
FROM (VALUES ('acme'), ('somebody else')) AS v (o);

-- All is well
SELECT * FROM billing.attention;
SELECT queued, waiting, sending, unknown, dead, held, last_error FROM billing.worker_status;
SELECT provider, account, livemode, configured, bound_here, stopped_reason, queued, dead FROM billing.provider_health;

-- A card that is declined
SELECT billing.create_customer('broke') AS broke_customer \gset
SELECT billing.subscribe('broke', 'pro', 'pm_card_chargeDeclined') AS broke \gset
SELECT billing.await(:'broke');
SELECT state, error_code FROM billing.list_payment_methods(:'broke_customer');
SELECT status, amount_remaining, attempt_count FROM billing.list_invoices('broke');

--
-- What is said when something is wrong, and what it is called
--
\set VERBOSITY terse
SELECT billing.create_customer('acme', 'other@acme.example');
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
SELECT billing.create_customer('x', country => 'Mexico');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.create_customer('x', currency => 'pesos');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.create_customer('x', 'not an address');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.create_customer('x', provider => 'paypal');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.create_customer('x', provider => 'stripe');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.create_customer('x', name => '4242 4242 4242 4242');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.create_customer('x', idempotency_key => 'call 1', name => 'One') IS NOT NULL AS made;
SELECT billing.create_customer('x', idempotency_key => 'call 1', name => 'Two');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.subscribe('nobody', 'pro');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.subscribe('x', 'gold');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.subscribe('x', 'enterprise');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.subscribe('x', 'pro', currency => 'EUR');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.subscribe('x', 'pro', collection_method => 'send_invoice', days_until_due => 30, managed_by => 'provider');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.attach_payment_method(:'acme', 'pm_card_gold');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.subscribe('x', 'pro', managed_by => 'me');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.subscribe('x', 'crew', currency => 'EUR', managed_by => 'provider');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.update_subscription(:'crew', items => '{"seat": 9}');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.update_subscription(:'crew', items => '{"calls": 9}');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.update_subscription(:'crew', plan => 'pro');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.apply_coupon('WINTER', :'crew');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.create_credit_note(:'invoice', amount => 1000000);
\echo :LAST_ERROR_SQLSTATE
SELECT billing.preview_invoice();
\echo :LAST_ERROR_SQLSTATE
UPDATE billing.invoices SET total = 1 WHERE id = :'invoice';
\echo :LAST_ERROR_SQLSTATE
DELETE FROM billing.invoice_lines WHERE invoice_id = :'invoice' AND kind = 'tax';
\echo :LAST_ERROR_SQLSTATE
SELECT billing.has_feature('acme', 'flying');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.feature_limit('acme', 'sso');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.record_usage('acme', 'steps');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.record_usage('acme', 'api_calls', -1);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM billing.usage_summary('acme', '2026-02-01 00:00+00', '2026-01-01 00:00+00');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM billing.handle_webhook('sandbox', '{}', '{}');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM billing.handle_webhook('stripe', '{}', '{}');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.replay_webhook('evt_none');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.configure_provider('stripe', 'pk_test_x');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.configure_provider('stripe', 'sk_test_x', base_url => 'http://api.example.com');
\echo :LAST_ERROR_SQLSTATE
SELECT billing.create_plan('pro', 'Again', 100);
\echo :LAST_ERROR_SQLSTATE
SELECT billing.create_plan('a b', 'Blank', 100);
\echo :LAST_ERROR_SQLSTATE
SELECT billing.set_plan_feature('pro', 'users', 'many');
\echo :LAST_ERROR_SQLSTATE
DELETE FROM billing.plans WHERE plan = 'pro';
\echo :LAST_ERROR_SQLSTATE
UPDATE billing.settings SET value = 'XXX' WHERE name = 'default_currency';
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse
CALL billing.advance_clock('acme', '-1 day');
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
BEGIN;
SELECT billing.create_customer('here') AS here \gset
\set VERBOSITY terse
SELECT billing.await(:'here', '1 second');
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN;
CALL billing.run_worker();
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

--
-- The views for people
--
\d billing.customer_details
\d billing.subscription_details
\d billing.invoice_details
\d billing.invoice_line_details
\d billing.scheduled_change_details
\d billing.outbox_status
\d billing.webhook_status
\d billing.worker_status
\d billing.provider_health
\d billing.attention
\d billing.entitlements
\d billing.usage_report
\d billing.quota_utilization
\d billing.usage_daily
\d billing.usage_top
\d billing.usage_tail

-- The sandbox: faults, webhooks sent again, the buyer, and the test clock.
\ir helpers.psql
SELECT plan(61);

SELECT count(billing.create_customer(o)) AS customers
FROM string_to_table('busy broken lost declined much buyer bank months clock retry renew', ' ') AS o \gset
CALL billing.run_worker();
-- a pause between two attempts that a test can wait for
UPDATE billing.settings SET value = '10 milliseconds' WHERE name IN ('retry_base', 'retry_cap');

-- ---------------------------------------------------------------------------
-- Faults

BEGIN;
SELECT billing.sandbox_fail_next('subscription.create', '429');
SELECT billing.subscribe('busy', 'pro', 'pm_card_visa', managed_by => 'provider') AS busy \gset
COMMIT;
SELECT is(billing.await(:'busy', '20 seconds'), 'active', 'a request that was answered 429 is sent again');
SELECT is((SELECT attempts FROM billing.outbox_finished WHERE object_id = :'busy' AND operation = 'subscription.create'), 2, 'once');
SELECT is((SELECT generation FROM billing.outbox_finished WHERE object_id = :'busy' AND operation = 'subscription.create'), 0, 'under the same key');

BEGIN;
SELECT billing.sandbox_fail_next('subscription.create', '500');
SELECT billing.subscribe('broken', 'pro', 'pm_card_visa', managed_by => 'provider') AS broken \gset
COMMIT;
SELECT is(billing.await(:'broken', '20 seconds'), 'active', 'a request that was answered 500 is looked up, and sent again');
SELECT is((SELECT generation FROM billing.outbox_finished WHERE object_id = :'broken' AND operation = 'subscription.create'), 1, 'under a new key');

BEGIN;
SELECT billing.sandbox_fail_next('subscription.create', 'timeout_after_success');
SELECT billing.subscribe('lost', 'pro', 'pm_card_visa', managed_by => 'provider') AS lost \gset
COMMIT;
SELECT is(billing.await(:'lost', '20 seconds'), 'active', 'a request that was done while its answer was lost is found again');
SELECT is((SELECT jsonb_array_length(state -> 'subscriptions') FROM billing.sandbox_state WHERE customer_id = billing.find_customer('lost')), 1, 'and was done once');
SELECT is((SELECT count(*) FROM billing.invoices WHERE subscription_id = :'lost'), 1::bigint, 'paid once');

BEGIN;
SELECT billing.sandbox_fail_next('payment_method.attach', 'declined');
SELECT billing.attach_payment_method(billing.find_customer('declined'), 'pm_card_visa') AS declined \gset
COMMIT;
SELECT is(billing.await(:'declined', '20 seconds'), 'failed', 'a request can be declined');
SELECT is((SELECT error_code FROM billing.payment_methods WHERE id = :'declined'), 'card_declined', 'and says why');
SELECT is((SELECT count(*) FROM billing.sandbox_faults), 0::bigint, 'a fault is played once');

BEGIN;
SELECT billing.sandbox_fail_next('customer.update', '429', 3);
SELECT billing.update_customer(billing.find_customer('much'), '{"name": "Much"}');
COMMIT;
SELECT is(billing.await(billing.find_customer('much'), '30 seconds'), 'active', 'or as often as was said');
SELECT is((SELECT attempts FROM billing.outbox_finished WHERE object_id = billing.find_customer('much') AND operation = 'customer.update'), 4, 'which takes one attempt more');

SELECT fails($$SELECT billing.sandbox_fail_next('subscription.explode', '500')$$, '22023', 'unknown operation "subscription.explode"', 'customer.create, .*subscription.create', 'an unknown operation is refused, and those that there are are listed');
SELECT fails($$SELECT billing.sandbox_fail_next('customer.create', '418')$$, '22023', 'unknown outcome "418"', 'timeout_after_success, 429, 500, declined', 'an unknown outcome is refused, and those that there are are listed');
SELECT fails($$SELECT billing.sandbox_fail_next('customer.create', '429', 0)$$, '22023', 'times must be', NULL, 'never is not a number of times');

-- ---------------------------------------------------------------------------
-- A request that is given up

UPDATE billing.settings SET value = '3' WHERE name = 'max_attempts';
BEGIN;
SELECT billing.sandbox_fail_next('customer.update', '429', 3);
SELECT billing.update_customer(billing.find_customer('retry'), '{"name": "Retry"}');
SELECT id AS request FROM billing.outbox WHERE object_id = billing.find_customer('retry') \gset
COMMIT;
SELECT is(billing.await(billing.find_customer('retry'), '30 seconds'), 'active', 'a request is tried as often as the setting max_attempts says');
SELECT results_eq(format($$SELECT state, attempts, error_code FROM billing.outbox WHERE id = %L$$, :'request'), $$VALUES ('dead', 3, 'rate_limit')$$, 'then it is dead, with the reason');
SELECT is((SELECT hint FROM billing.attention WHERE organization_id = 'retry'), format('billing.retry_request(%L) or billing.cancel_request(%1$L)', :'request'), 'and a person is told what to do');
SELECT billing.retry_request(:'request');
SELECT is(billing.await(billing.find_customer('retry'), '20 seconds'), 'active', 'retry_request sends it again');
SELECT is((SELECT state FROM billing.outbox_finished WHERE id = :'request'), 'done', 'and then it is done');

-- ---------------------------------------------------------------------------
-- Webhooks sent again

SELECT billing.subscribe('buyer', 'pro', 'pm_card_authenticationRequired', managed_by => 'provider') AS buyer \gset
CALL billing.run_worker();
SELECT is(status_of('buyer'), 'incomplete', 'a payment waits for the buyer');

-- the webhooks of what the buyer does are held back, so that they can be put out of order
BEGIN;
SELECT max(seq) AS before FROM billing.sandbox_deliveries \gset
SELECT billing.sandbox_authenticate(:'buyer');
SELECT event_id AS paid FROM billing.sandbox_deliveries WHERE seq > :before AND payload::jsonb ->> 'type' = 'invoice.paid' \gset
SELECT event_id AS activated FROM billing.sandbox_deliveries WHERE seq > :before AND payload::jsonb ->> 'type' = 'customer.subscription.updated' \gset
SELECT billing.sandbox_redeliver(:'paid', 'reorder');
SELECT cmp_ok((SELECT due_at FROM billing.sandbox_deliveries WHERE event_id = :'paid'), '>', (SELECT due_at FROM billing.sandbox_deliveries WHERE event_id = :'activated'), 'reorder puts a webhook after the others');
SELECT billing.sandbox_redeliver(:'activated', 'delay');
SELECT cmp_ok((SELECT due_at FROM billing.sandbox_deliveries WHERE event_id = :'activated'), '>', now() + interval '59 minutes', 'delay puts it off for an hour');
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT state FROM billing.webhook_events WHERE event_id = :'paid'), 'applied', 'the webhook that was put last has come');
SELECT is((SELECT status FROM billing.invoices WHERE subscription_id = :'buyer'), 'paid', 'the invoice is paid');
SELECT is(status_of('buyer'), 'incomplete', 'while the webhook that was delayed has not come');
UPDATE billing.sandbox_deliveries SET due_at = now() WHERE event_id = :'activated';
CALL billing.run_worker();
SELECT is(status_of('buyer'), 'active', 'when it comes it counts');
SELECT billing.sandbox_redeliver(:'activated');
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.webhook_events WHERE event_id = :'activated'), 1::bigint, 'a webhook that comes twice is kept once');
SELECT is((SELECT count(*) FROM billing.sandbox_deliveries WHERE event_id = :'activated' AND delivered_at IS NOT NULL), 2::bigint, 'although it was delivered twice');
SELECT is((SELECT count(*) FROM billing.events WHERE id = :'buyer' AND type = 'subscription.active'), 1::bigint, 'and changes nothing the second time');
SELECT fails(format($$SELECT billing.sandbox_redeliver(%L, 'delay')$$, :'paid'), 'JB008', 'delivered already', 'duplicate', 'what was delivered cannot be delayed');
SELECT fails($$SELECT billing.sandbox_redeliver('evt_none')$$, 'JB005', 'evt_none', NULL, 'an unknown event is refused');
SELECT fails(format($$SELECT billing.sandbox_redeliver(%L, 'twice')$$, :'paid'), '22023', 'unknown mode', 'duplicate, delay, reorder', 'an unknown mode is refused, and those that there are are listed');

-- ---------------------------------------------------------------------------
-- The buyer

SELECT fails(format($$SELECT billing.sandbox_authenticate(%L)$$, :'buyer'), 'JB008', 'nothing to do for the buyer', NULL, 'nothing waits for the buyer of a subscription that is paid');
SELECT fails(format($$SELECT billing.sandbox_settle(%L)$$, :'buyer'), 'JB008', 'nothing to do for the buyer', NULL, 'nor is anything processing');
SELECT fails($$SELECT billing.sandbox_authenticate('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown payment, setup or subscription', NULL, 'an unknown object is refused');
SELECT billing.subscribe('bank', 'pro', 'pm_usBankAccount_processing') AS bank \gset
CALL billing.run_worker();
SELECT fails(format($$SELECT billing.sandbox_settle(%L, 'perhaps')$$, :'bank'), '22023', 'unknown outcome', 'succeeded, failed', 'a debit is settled or it fails');
SELECT billing.sandbox_settle(:'bank', 'failed');
CALL billing.run_worker();
SELECT is(status_of('bank'), 'incomplete', 'a debit that fails leaves the subscription incomplete');
SELECT billing.subscribe('clock', 'pro', 'pm_card_authenticationRequired') AS refused \gset
CALL billing.run_worker();
SELECT billing.sandbox_authenticate(:'refused', false);
CALL billing.run_worker();
SELECT is(status_of('clock'), 'incomplete', 'a buyer who does not authenticate pays nothing');

-- ---------------------------------------------------------------------------
-- The clock

CALL billing.set_clock('months', '2040-01-31 12:00+00');
SELECT is(billing.now('months'), '2040-01-31 12:00+00'::timestamptz, 'a clock can be set');
SELECT billing.subscribe('months', 'pro', 'pm_card_visa') AS months \gset
CALL billing.run_worker();
SELECT results_eq(format($$SELECT current_period_start, current_period_end FROM billing.subscriptions WHERE id = %L$$, :'months'),
	$$VALUES ('2040-01-31 12:00+00'::timestamptz, '2040-02-29 12:00+00'::timestamptz)$$, 'a month from the 31st of January ends on the last of February');
CALL billing.set_clock('months', '2040-03-01 00:00+00');
SELECT is((SELECT current_period_end FROM billing.subscriptions WHERE id = :'months'), '2040-03-31 12:00+00'::timestamptz, 'the next one on the 31st again: it is computed from the anchor');
CALL billing.advance_clock('months', '11 months');
SELECT is((SELECT count(*) FROM billing.invoices WHERE subscription_id = :'months' AND status = 'paid'), 13::bigint, 'a year of renewals is played month by month');
SELECT results_eq(format($$SELECT issued_at FROM billing.invoices WHERE subscription_id = %L ORDER BY 1 OFFSET 10 LIMIT 3$$, :'months'),
	$$VALUES ('2040-11-30 12:00+00'::timestamptz), ('2040-12-31 12:00+00'), ('2041-01-31 12:00+00')$$, 'each at its own time');
SELECT is(billing.now('months'), '2041-02-01 00:00+00'::timestamptz, 'and the clock shows where it was moved to');
SELECT billing.record_usage('months', 'api_calls') AS recorded \gset
SELECT is((SELECT occurred_at FROM billing.usage_events WHERE organization_id = 'months'), '2041-02-01 00:00+00'::timestamptz, 'usage happens by the clock');
SELECT ok((SELECT created_at < now() + interval '1 minute' FROM billing.invoices WHERE subscription_id = :'months' ORDER BY id DESC LIMIT 1), 'created_at is real time');
SELECT is(billing.now('renew'), now(), 'the clock of one organisation is not that of another');

\set ON_ERROR_STOP off
CALL billing.set_clock('months', '2041-01-31 00:00+00');
SELECT is(:'LAST_ERROR_SQLSTATE' || ' ' || :'LAST_ERROR_MESSAGE', '22023 a clock cannot go backwards', 'a clock never goes backwards');
CALL billing.advance_clock('months', '-1 second');
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '22023', 'not by a second');
CALL billing.advance_clock('months', NULL);
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '23502', 'it moves by something');
CALL billing.set_clock('months', 'infinity');
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '22023', 'and not to the end of days');
CALL billing.advance_clock('nobody', '1 day');
SELECT is(:'LAST_ERROR_SQLSTATE'::text, 'JB005', 'an organisation without a customer has no clock');
BEGIN;
CALL billing.advance_clock('months', '1 day');
ROLLBACK;
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '25001', 'a clock cannot be moved inside of a transaction block: it commits on its way');
BEGIN;
CALL billing.run_worker();
ROLLBACK;
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '25001', 'nor can the worker be run there');
\set ON_ERROR_STOP on
SELECT is(billing.now('months'), '2041-02-01 00:00+00'::timestamptz, 'what was refused has not moved it');

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', base_url => 'http://127.0.0.1:9');
SELECT billing.create_customer('outside', provider => 'stripe') AS outside \gset
SELECT billing.subscribe('outside', 'pro') AS subscription \gset
\set ON_ERROR_STOP off
CALL billing.advance_clock('outside', '1 day');
SELECT is(:'LAST_ERROR_SQLSTATE'::text, 'JB008', 'time cannot be moved for objects outside of the sandbox');
\set ON_ERROR_STOP on
SELECT fails(format($$SELECT billing.sandbox_authenticate(%L)$$, :'subscription'), 'JB008', 'not in the sandbox', NULL, 'nor can their buyer be played');

-- ---------------------------------------------------------------------------
-- Its account

SELECT fails($$SELECT billing.configure_provider('sandbox', options => '{"speed": 2}')$$, '22023', 'no such option as "speed"', 'behave_as', 'an unknown option of the sandbox is refused');
SELECT fails($$SELECT billing.configure_provider('sandbox', 'sk_test_x')$$, '22023', 'takes no secret_key', NULL, 'the sandbox takes no key');

SELECT * FROM finish();

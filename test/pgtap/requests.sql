-- Requests in the hands of people: waiting for them, sending them again, taking
-- them back.  Stripe stands for a provider that nobody can reach.
\ir helpers.psql
SELECT plan(42);

UPDATE billing.settings SET value = '10 milliseconds' WHERE name IN ('retry_base', 'retry_cap');
UPDATE billing.settings SET value = '1' WHERE name = 'max_attempts';

-- ---------------------------------------------------------------------------
-- await

BEGIN;
SELECT billing.create_customer('acme') AS acme \gset
SELECT fails(format($$SELECT billing.await(%L, '1 second')$$, :'acme'), 'JB008', 'belongs to this transaction', 'COMMIT first', 'a request of the open transaction cannot be waited for');
COMMIT;
SELECT is(billing.await(:'acme', '20 seconds'), 'active', 'await returns when the request is done, with the state of the object');
SELECT is((SELECT count(*) FROM billing.outbox), 0::bigint, 'which it is');
SELECT is(billing.await(:'acme', '0'), 'active', 'for an object without requests it returns at once');
SELECT fails($$SELECT billing.await('00000000-0000-7000-8000-000000000000', '1 second')$$, 'JB005', 'unknown object', NULL, 'an unknown object is refused');
SELECT fails($$SELECT billing.await(NULL, '1 second')$$, '23502', 'id must be given', NULL, 'an object has to be named');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT fails(format($$SELECT billing.await(%L, '1 second')$$, :'acme'), '25001', 'isolation level', 'READ COMMITTED', 'in REPEATABLE READ nothing new could be seen');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT fails(format($$SELECT billing.await(%L, '1 second')$$, :'acme'), '25001', 'isolation level', 'READ COMMITTED', 'nor in SERIALIZABLE');
COMMIT;

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', base_url => 'http://127.0.0.1:9');
UPDATE billing.settings SET value = 'sandbox' WHERE name = 'default_provider';
UPDATE billing.settings SET value = '1 hour' WHERE name IN ('retry_base', 'retry_cap');
UPDATE billing.settings SET value = '20' WHERE name = 'max_attempts';
SELECT billing.create_customer('far', provider => 'stripe') AS far \gset
SELECT clock_timestamp() AS before \gset
SELECT is(billing.await(:'far', '300 milliseconds'), 'active', 'when the time is up await returns the state as it is');
SELECT ok(clock_timestamp() - :'before'::timestamptz BETWEEN '290 milliseconds' AND '10 seconds', 'not before, and not much later');
SELECT is((SELECT count(*) FROM billing.outbox WHERE object_id = :'far'), 1::bigint, 'although the request is not done');
SELECT lives_ok(format($$SELECT billing.await(%L, '-1 second')$$, :'far'), 'a time that is over is over');

-- ---------------------------------------------------------------------------
-- Order and blocking

BEGIN;
SELECT billing.create_customer('row') AS row \gset
SELECT billing.update_customer(:'row', '{"name": "Row"}');
SELECT billing.attach_payment_method(:'row', 'pm_card_visa') AS method \gset
SELECT results_eq(format($$SELECT operation, state FROM billing.outbox WHERE ordering_key = %L ORDER BY seq$$, :'row'),
	$$VALUES ('customer.create', 'queued'), ('customer.update', 'waiting'), ('payment_method.attach', 'waiting')$$, 'of the requests of a customer only the first is queued');
SELECT alike((SELECT waiting_for FROM billing.outbox_status WHERE object_id = :'method'), 'request % (customer.create) of the same customer%', 'outbox_status says what each waits for');
SELECT id AS update FROM billing.outbox WHERE operation = 'customer.update' AND object_id = :'row' \gset
SELECT billing.cancel_request(:'update');
SELECT is((SELECT state || ' ' || error_code FROM billing.outbox_finished WHERE id = :'update'), 'canceled by cancel_request', 'a request that was not sent can be taken back');
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT array_agg(operation ORDER BY seq) FROM billing.outbox_finished WHERE ordering_key = :'row' AND state = 'done'), '{customer.create,payment_method.attach}', 'the others are sent in their order');

-- a cancellation passes what waits
BEGIN;
SELECT billing.subscribe('row', 'pro', managed_by => 'provider') AS subscription \gset
COMMIT;
CALL billing.run_worker();
BEGIN;
SELECT billing.update_customer(:'row', '{"name": "Row 2"}');
SELECT billing.update_subscription(:'subscription', quantity => 2);
SELECT billing.cancel_subscription(:'subscription', at_period_end => false);
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT array_agg(operation ORDER BY finished_at, seq) FROM billing.outbox_finished WHERE ordering_key = :'row' AND state = 'done' AND operation IN ('subscription.update', 'subscription.cancel', 'customer.update') AND created_at > (SELECT max(created_at) FROM billing.outbox_finished WHERE operation = 'subscription.create')),
	'{customer.update,subscription.cancel}', 'a cancellation passes waiting updates, which are dropped then');
SELECT is(status_of('row'), 'canceled', 'and the subscription is cancelled');

-- ---------------------------------------------------------------------------
-- A dead create holds what follows; any other dead request does not

UPDATE billing.settings SET value = '10 milliseconds' WHERE name IN ('retry_base', 'retry_cap');
UPDATE billing.settings SET value = '1' WHERE name = 'max_attempts';
BEGIN;
SELECT billing.sandbox_fail_next('customer.create', '429');
SELECT billing.create_customer('held') AS held \gset
SELECT billing.attach_payment_method(:'held', 'pm_card_visa') AS method \gset
COMMIT;
CALL billing.run_worker();
SELECT results_eq(format($$SELECT operation, state FROM billing.outbox WHERE ordering_key = %L ORDER BY seq$$, :'held'),
	$$VALUES ('customer.create', 'dead'), ('payment_method.attach', 'waiting')$$, 'a dead create holds what follows');
SELECT alike((SELECT waiting_for FROM billing.outbox_status WHERE object_id = :'method'), '%(customer.create), which is dead and holds this customer%', 'outbox_status says so');
SELECT is(billing.await(:'held', '10 seconds'), 'active', 'a dead request is not waited for');
SELECT id AS dead FROM billing.outbox WHERE ordering_key = :'held' AND state = 'dead' \gset
SELECT id AS waiting FROM billing.outbox WHERE ordering_key = :'held' AND state = 'waiting' \gset
SELECT fails(format($$SELECT billing.retry_request(%L)$$, :'waiting'), 'JB008', 'waiting for an older request', 'outbox_status', 'what waits cannot be sent before');
SELECT billing.retry_request(:'dead');
CALL billing.run_worker();
SELECT is((SELECT state FROM billing.payment_methods WHERE id = :'method'), 'attached', 'retry_request lets both go on');
SELECT fails(format($$SELECT billing.retry_request(%L)$$, :'dead'), 'JB008', 'is done', NULL, 'what is done is not sent again');
SELECT fails(format($$SELECT billing.cancel_request(%L)$$, :'dead'), 'JB008', 'is done', NULL, 'nor taken back');
SELECT fails($$SELECT billing.retry_request('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown request', 'outbox_status', 'an unknown request is refused');
SELECT fails($$SELECT billing.cancel_request('00000000-0000-7000-8000-000000000000')$$, 'JB005', 'unknown request', NULL, 'by cancel_request, too');
SELECT fails($$SELECT billing.cancel_request(NULL)$$, '23502', 'id must be given', NULL, 'a request has to be named');

-- a trial cannot begin again: the provider says no
SELECT billing.subscribe('held', 'pro', managed_by => 'provider') AS subscription \gset
CALL billing.run_worker();
BEGIN;
SELECT billing.update_subscription(:'subscription', trial_end => now() + interval '1 day');
SELECT billing.attach_payment_method(:'held', 'pm_card_amex') AS amex \gset
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT error_code FROM billing.subscriptions WHERE id = :'subscription'), 'trial_not_running', 'what a provider refused is said where it was asked for');
SELECT is((SELECT state FROM billing.payment_methods WHERE id = :'amex'), 'attached', 'a dead update holds nothing');
SELECT id AS dead FROM billing.outbox WHERE ordering_key = :'held' AND state = 'dead' \gset
SELECT is((SELECT count(*) FROM billing.attention WHERE organization_id = 'held'), 1::bigint, 'a person has to look at it');
SELECT lives_ok(format($$SELECT billing.cancel_request(%L)$$, :'dead'), 'a dead request that was refused can be given up');
SELECT is((SELECT state FROM billing.outbox_finished WHERE id = :'dead'), 'canceled', 'and is canceled');
SELECT is((SELECT count(*) FROM billing.attention WHERE organization_id = 'held'), 0::bigint, 'then nobody has to look at it any more');

-- a create that is given up lets what follows go
SELECT billing.create_plan('absurd', 'Absurd', 9000000000000000000) AS absurd \gset
BEGIN;
SELECT billing.create_customer('given up') AS customer \gset
SELECT billing.subscribe('given up', 'absurd', 'pm_card_visa', managed_by => 'provider') AS subscription \gset
SELECT billing.update_customer(:'customer', '{"name": "Given up"}');
COMMIT;
CALL billing.run_worker();
SELECT results_eq(format($$SELECT operation, state FROM billing.outbox WHERE ordering_key = %L ORDER BY seq$$, :'customer'),
	$$VALUES ('subscription.create', 'dead'), ('customer.update', 'waiting')$$, 'a subscription that was refused holds what follows');
SELECT id AS dead FROM billing.outbox WHERE ordering_key = :'customer' AND state = 'dead' \gset
SELECT billing.cancel_request(:'dead');
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.outbox WHERE ordering_key = :'customer'), 0::bigint, 'given up it lets that go');
SELECT lives_ok($$SELECT billing.subscribe('given up', 'pro', 'pm_card_visa', managed_by => 'provider')$$, 'and the organisation can start again');
CALL billing.run_worker();
SELECT is(status_of('given up'), 'active', 'with success');

-- nobody knows what became of it
UPDATE billing.settings SET value = '2' WHERE name = 'max_attempts';
BEGIN;
SELECT billing.sandbox_fail_next('payment_method.attach', 'timeout_after_success', 2);
SELECT billing.attach_payment_method(:'acme', 'pm_card_visa') AS unknown \gset
COMMIT;
SELECT is(billing.await(:'unknown', '30 seconds'), 'attached', 'of a request whose answers are all lost the webhook tells that it was done');
SELECT id AS request FROM billing.outbox WHERE object_id = :'unknown' \gset
SELECT is((SELECT state FROM billing.outbox WHERE id = :'request'), 'dead', 'while the request itself is dead in the end');
SELECT fails(format($$SELECT billing.cancel_request(%L)$$, :'request'), 'JB008', 'outcome is not known', 'retry_request', 'it cannot be taken back: it may have been done');
SELECT billing.retry_request(:'request');
CALL billing.run_worker();
SELECT is((SELECT jsonb_array_length(state -> 'methods') FROM billing.sandbox_state WHERE customer_id = :'acme'), 1, 'sent again it is looked up, and was done once');

SELECT * FROM finish();

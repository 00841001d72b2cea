-- What was asked before and did not go through: what was refused can be asked
-- again, what may have been done is neither done twice nor given up.
\ir helpers.psql
SELECT plan(27);

SELECT billing.create_customer(o) FROM unnest('{acme,other}'::text[]) AS o;
SELECT billing.find_customer('acme') AS acme \gset
SELECT billing.attach_payment_method(:'acme', 'pm_card_visa') AS visa \gset
CALL billing.run_worker();

-- What becomes of the request of that operation: refused, so that its bytes are gone, or nobody knows.
CREATE FUNCTION refuse(object uuid, what text) RETURNS void
LANGUAGE sql
BEGIN ATOMIC
	UPDATE billing.outbox SET state = 'dead', attempts = 1, error_type = 'invalid_request_error' WHERE object_id = object AND operation = what;
END;
CREATE FUNCTION lose(object uuid, what text) RETURNS void
LANGUAGE sql
BEGIN ATOMIC
	UPDATE billing.outbox SET state = 'dead', attempts = 20, request = '\x00', error_type = 'no_answer' WHERE object_id = object AND operation = what;
END;
CREATE FUNCTION payment(id uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT p.status FROM billing.payment_intents AS p WHERE p.id = payment.id);
CREATE FUNCTION unfinished(object uuid) RETURNS text[]
LANGUAGE sql
RETURN (SELECT array_agg(o.operation || ' ' || o.state ORDER BY o.seq) FROM billing.outbox AS o WHERE o.object_id = object);

-- ---------------------------------------------------------------------------
-- A cancellation that was refused is no cancellation

SELECT billing.subscribe('acme', 'pro', managed_by => 'provider') AS sub \gset
CALL billing.run_worker();
BEGIN;
SELECT billing.cancel_subscription(:'sub', at_period_end => false);
SELECT refuse(:'sub', 'subscription.cancel');
SELECT billing.cancel_subscription(:'sub', at_period_end => false);
SELECT is(unfinished(:'sub'), '{"subscription.cancel queued"}', 'a cancellation that was refused can be asked for again');
COMMIT;
SELECT is((SELECT count(*) FROM billing.outbox_finished WHERE object_id = :'sub' AND operation = 'subscription.cancel' AND state = 'canceled'), 1::bigint, 'the first one is given up');
CALL billing.run_worker();
SELECT is(status_of('acme'), 'canceled', 'and the subscription ends');
SELECT billing.subscribe('acme', 'pro', managed_by => 'provider') AS sub \gset
CALL billing.run_worker();
BEGIN;
SELECT billing.cancel_subscription(:'sub', at_period_end => false);
SELECT lose(:'sub', 'subscription.cancel');
SELECT billing.cancel_subscription(:'sub', at_period_end => false);
SELECT billing.cancel_subscription(:'sub', at_period_end => false);
SELECT is(unfinished(:'sub'), '{"subscription.cancel dead","subscription.cancel queued"}', 'one that nobody knows about is asked for again, too, once');
COMMIT;
CALL billing.run_worker();
SELECT is(status_of('acme'), 'canceled', 'to cancel twice is harmless');

-- ---------------------------------------------------------------------------
-- Money is not moved twice

SELECT billing.create_payment_intent(:'acme', 5000, 'USD', payment_method => :'visa', capture_method => 'manual') AS held \gset
CALL billing.run_worker();
SELECT is(payment(:'held'), 'requires_capture', 'a payment is authorised');
BEGIN;
SELECT billing.capture_payment_intent(:'held');
SELECT fails(format('SELECT billing.capture_payment_intent(%L)', :'held'), 'JB008', 'is being captured', 'await', 'it is captured once');
SELECT lose(:'held', 'payment_intent.capture');
SELECT fails(format('SELECT billing.capture_payment_intent(%L)', :'held'), 'JB008', 'is being captured', 'retry_request', 'not again while nobody knows whether it was');
UPDATE billing.outbox SET request = NULL WHERE object_id = :'held';
SELECT billing.capture_payment_intent(:'held');
SELECT is(unfinished(:'held'), '{"payment_intent.capture queued"}', 'but when it was refused');
COMMIT;
CALL billing.run_worker();
SELECT is(payment(:'held'), 'succeeded', 'and then it succeeds');

SELECT billing.create_payment_intent(:'acme', 4000, 'USD', confirm => false) AS twice \gset
CALL billing.run_worker();
BEGIN;
SELECT billing.confirm_payment_intent(:'twice', :'visa');
SELECT fails(format('SELECT billing.confirm_payment_intent(%L, %L)', :'twice', :'visa'), 'JB008', 'is being confirmed', 'await', 'two clicks are one charge');
SELECT lose(:'twice', 'payment_intent.confirm');
SELECT fails(format('SELECT billing.confirm_payment_intent(%L, %L)', :'twice', :'visa'), 'JB008', 'is being confirmed', 'retry_request', 'as long as nobody knows what became of the first');
UPDATE billing.outbox SET request = NULL WHERE object_id = :'twice';
SELECT billing.confirm_payment_intent(:'twice', :'visa');
COMMIT;
CALL billing.run_worker();
SELECT is(payment(:'twice'), 'succeeded', 'a refused one can be tried again');
SELECT fails(format('SELECT billing.confirm_payment_intent(%L, %L)', :'twice', :'visa'), 'JB008', 'is succeeded and cannot be confirmed', 'pending', 'a paid one cannot');

-- a confirmation that waited while the payment went on its way
SELECT billing.create_payment_intent(:'acme', 3000, 'USD', confirm => false) AS late \gset
CALL billing.run_worker();
BEGIN;
SELECT billing.confirm_payment_intent(:'late', :'visa');
UPDATE billing.payment_intents SET status = 'processing' WHERE id = :'late';
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT state || ' ' || error_code FROM billing.outbox_finished WHERE object_id = :'late' AND operation = 'payment_intent.confirm'), 'canceled the payment is on its way', 'what is on its way is not charged again');

-- an invoice that is not open any more
SELECT id AS invoice FROM billing.invoices WHERE organization_id = 'acme' AND status = 'paid' LIMIT 1 \gset
SELECT billing.create_payment_intent(:'acme', 3000, 'USD', confirm => false) AS billed \gset
CALL billing.run_worker();
UPDATE billing.payment_intents SET invoice_id = :'invoice' WHERE id = :'billed';
SELECT fails(format('SELECT billing.confirm_payment_intent(%L, %L)', :'billed', :'visa'), 'JB008', 'is paid and cannot be paid', 'open', 'an invoice that was paid otherwise is not paid again');
UPDATE billing.payment_intents SET invoice_id = NULL WHERE id = :'billed';
SELECT fails(format($$SELECT billing.confirm_payment_intent(%L, method => '4242 4242 4242 4242')$$, :'billed'), 'JB009', 'card number', NULL, 'a card number is no method');
SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', base_url => 'http://127.0.0.1:9');
UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'held by the test' WHERE provider = 'stripe';
BEGIN;
INSERT INTO billing.payment_methods (customer_id, provider, account, livemode, state, token) VALUES (:'acme', 'stripe', 'default', false, 'pending', 'pm_elsewhere')
	RETURNING id AS elsewhere \gset
SELECT fails(format('SELECT billing.confirm_payment_intent(%L, %L)', :'billed', :'elsewhere'), '22023', 'cannot be charged by account "default" at "sandbox"', '.', 'nor is a method of another account charged');
ROLLBACK;

-- ---------------------------------------------------------------------------
-- What was sent is not given up because of what happened since

BEGIN;
SELECT billing.create_payment_intent(:'acme', 2000, 'USD', payment_method => :'visa') AS sent \gset
SELECT billing.sandbox_fail_next('payment_intent.create', 'timeout_after_success');
COMMIT;
CALL billing.run_worker();
SELECT is(unfinished(:'sent'), '{"payment_intent.create unknown"}', 'the answer to a payment is lost');
UPDATE billing.payment_methods SET state = 'detached' WHERE id = :'visa';
UPDATE billing.outbox SET next_attempt_at = now() WHERE object_id = :'sent';
CALL billing.run_worker();
SELECT is((SELECT state FROM billing.outbox_finished WHERE object_id = :'sent'), 'done', 'that its method was detached meanwhile does not end it');
SELECT is((SELECT count(*) FROM billing.events WHERE id = :'sent' AND type = 'payment_intent.failed'), 0::bigint, 'it has never failed');
SELECT is(payment(:'sent'), 'succeeded', 'it was made');
BEGIN;
UPDATE billing.payment_methods SET state = 'attached' WHERE id = :'visa';
SELECT billing.create_payment_intent(:'acme', 2000, 'USD', payment_method => :'visa') AS unsent \gset
UPDATE billing.payment_methods SET state = 'detached' WHERE id = :'visa';
COMMIT;
CALL billing.run_worker();
SELECT is(payment(:'unsent'), 'failed', 'one that was not sent fails');

BEGIN;
SELECT billing.create_checkout_session(billing.find_customer('other'), plan => 'pro', success_url => 'https://a.example') AS page \gset
UPDATE billing.outbox SET state = 'unknown', attempts = 1, request = '\x00', next_attempt_at = 'infinity' WHERE object_id = :'page';
SELECT billing.expire_checkout_session(:'page');
SELECT billing.cancel_request((SELECT o.id FROM billing.outbox AS o WHERE o.object_id = :'page' AND o.operation = 'checkout_session.expire'));
SELECT is((SELECT status FROM billing.checkout_sessions WHERE id = :'page'), 'pending', 'a page that is being made is not given up because its end was taken back');
SELECT is(status_of('other'), 'incomplete', 'nor is what it sells');
ROLLBACK;

SELECT is((SELECT count(*) FROM billing.attention WHERE what = 'request is dead'), 1::bigint, 'what nobody knows about is left for a person');
SELECT is((SELECT count(*) FROM billing.outbox WHERE error_type = 'internal'), 0::bigint, 'and nothing went wrong inside');
SELECT * FROM finish();

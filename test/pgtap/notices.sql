-- Notices: what a provider says of an object that is no state of it becomes a row of billing.events,
-- once for an event, however often it is delivered, tried or replayed. The events are those of Stripe
-- for an account with a made-up key; nothing is sent.
\ir helpers.psql
CREATE EXTENSION pgcrypto;
SELECT plan(23);

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_first', base_url => 'http://127.0.0.1:9');

-- Delivers an event of Stripe with this id about an object, made so many seconds after a fixed time.
CREATE FUNCTION tell(id text, type text, object jsonb, after integer) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	body text := jsonb_build_object('id', id, 'object', 'event', 'type', type, 'created', 1900000000 + after, 'livemode', false,
		'data', jsonb_build_object('object', object));
	at text := floor(extract(epoch FROM now()))::text;
BEGIN
	RETURN (SELECT e.status FROM billing.handle_webhook('stripe', body, jsonb_build_object('Stripe-Signature',
		format('t=%s,v1=%s', at, encode(hmac(at || '.' || body, 'whsec_first', 'sha256'), 'hex')))) AS e);
END
$$;

CREATE FUNCTION subscription(id text, status text) RETURNS jsonb
LANGUAGE sql
RETURN jsonb_build_object('object', 'subscription', 'id', id, 'customer', 'cus_1', 'status', status, 'currency', 'usd',
	'items', '{"data": [{"id": "si_1", "price": "price_1", "quantity": 1}]}'::jsonb);

CREATE FUNCTION notices(what text) RETURNS bigint
LANGUAGE sql
RETURN (SELECT count(*) FROM billing.events AS e WHERE e.type = what);

CREATE FUNCTION state_of(event text) RETURNS text
LANGUAGE sql
RETURN (SELECT w.state FROM billing.webhook_events AS w WHERE w.event_id = event);

-- ---------------------------------------------------------------------------
-- Once

SELECT is(tell('evt_early', 'customer.subscription.trial_will_end', subscription('sub_1', 'trialing'), 20), 'waiting', 'what is about an unknown object waits for it');
SELECT is(notices('subscription.trial_will_end'), 0::bigint, 'and says nothing yet');
SELECT billing.create_customer('acme', 'a@acme.example', provider => 'stripe') AS acme \gset
SELECT billing.link_price('00000000-0000-7000-8001-000000000002', 'stripe', 'price_1');
INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
VALUES ('customer', :'acme', 'stripe', 'default', 'cus_1', false, '2020-01-01');
SELECT is(billing.replay_webhook('evt_early'), 'applied', 'when it is known it is applied');
SELECT results_eq($$SELECT e.object, e.id, e.organization_id, e.before_state, e.after_state FROM billing.events AS e WHERE type = 'subscription.trial_will_end'$$,
	$$SELECT 'subscription', s.id, 'acme', 'trialing', 'trialing' FROM billing.subscriptions AS s$$, 'as an event about the object in the state that it has');
SELECT isnt((SELECT applied_at FROM billing.webhook_events WHERE event_id = 'evt_early'), NULL, 'the inbox says when');
SELECT is(billing.replay_webhook('evt_early'), 'applied', 'a replay is taken');
SELECT is(tell('evt_early', 'customer.subscription.trial_will_end', subscription('sub_1', 'trialing'), 20), 'duplicate', 'a duplicate, too');
SELECT is(notices('subscription.trial_will_end'), 1::bigint, 'and neither says it again');
SELECT is(tell('evt_again', 'customer.subscription.trial_will_end', subscription('sub_1', 'trialing'), 30), 'applied', 'another event');
SELECT is(notices('subscription.trial_will_end'), 2::bigint, 'says it again');

-- a replay that comes to nothing and is tried again is still a replay
CREATE TEMPORARY TABLE refs AS SELECT * FROM billing.provider_refs;
DELETE FROM billing.provider_refs;
SELECT is(billing.replay_webhook('evt_again'), 'waiting', 'a replay of what was applied may have to wait');
INSERT INTO billing.provider_refs SELECT * FROM refs;
SELECT is(billing.replay_webhook('evt_again'), 'applied', 'until it is tried again');
SELECT is(notices('subscription.trial_will_end'), 2::bigint, 'and was said before');

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON billing.provider_refs FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT is(tell('evt_fails', 'customer.subscription.trial_will_end', subscription('sub_1', 'trialing'), 40), 'failed', 'an event that cannot be applied');
SELECT is(notices('subscription.trial_will_end'), 2::bigint, 'says nothing');
DROP TRIGGER refuse ON billing.provider_refs;
SELECT is(billing.replay_webhook('evt_fails'), 'applied', 'when the cause is gone');
SELECT is(notices('subscription.trial_will_end'), 3::bigint, 'it says it');

-- older than what is here: its state is not taken, what it says was said all the same
SELECT tell('evt_newer', 'customer.subscription.updated', subscription('sub_1', 'active'), 60);
SELECT is(tell('evt_older', 'customer.subscription.trial_will_end', subscription('sub_1', 'trialing'), 50), 'applied', 'one that comes late');
SELECT is((SELECT status FROM billing.subscriptions), 'active', 'changes no state');
SELECT is((SELECT after_state FROM billing.events WHERE type = 'subscription.trial_will_end' ORDER BY seq DESC LIMIT 1), 'active', 'and names the state that there is');

-- ---------------------------------------------------------------------------
-- The row

SELECT is((SELECT count(*) FROM billing.webhook_events WHERE state = 'applied' AND applied_at IS NULL), 0::bigint, 'what was applied has its time');
SELECT throws_ok($$UPDATE billing.webhook_events SET applied_at = NULL WHERE event_id = 'evt_early'$$, '23514', NULL, 'that cannot be lost');
SELECT is(state_of('evt_early'), 'applied', 'no webhook of all this is left over');
SELECT * FROM finish();

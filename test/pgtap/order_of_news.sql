-- What is told of one second: which of several states counts, and when the
-- provider is asked. The webhooks are Stripe's, for an account with a made-up
-- key; nothing is sent.
\ir helpers.psql
CREATE EXTENSION pgcrypto;
SELECT plan(30);

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_first', base_url => 'http://127.0.0.1:9');
UPDATE billing.settings SET value = '1 hour' WHERE name IN ('retry_base', 'retry_cap');
SELECT billing.create_customer('acme', 'a@acme.example', provider => 'stripe') AS acme \gset
SELECT billing.link_price('00000000-0000-7000-8001-000000000002', 'stripe', 'price_pro');
INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
VALUES ('customer', :'acme', 'stripe', 'default', 'cus_1', false, '2020-01-01');

-- An event of the same second as all others; event: its id, which orders what nothing else does.
CREATE FUNCTION tell(event text, object jsonb) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	body text := jsonb_build_object('id', event, 'object', 'event', 'created', 1900000000, 'livemode', false, 'data', jsonb_build_object('object', object),
		'type', CASE object ->> 'object' WHEN 'subscription' THEN 'customer.subscription.updated' WHEN 'invoice' THEN 'invoice.updated'
			WHEN 'payment_intent' THEN 'payment_intent.processing' ELSE 'customer.updated' END);
	at text := floor(extract(epoch FROM now()))::text;
BEGIN
	RETURN (SELECT e.status FROM billing.handle_webhook('stripe', body, jsonb_build_object('Stripe-Signature',
		format('t=%s,v1=%s', at, encode(hmac(at || '.' || body, 'whsec_first', 'sha256'), 'hex')))) AS e);
END
$$;

CREATE FUNCTION subscription(id text, status text, quantity integer DEFAULT 1) RETURNS jsonb
LANGUAGE sql
RETURN jsonb_build_object('object', 'subscription', 'id', id, 'status', status, 'customer', 'cus_1', 'items', jsonb_build_object('data', jsonb_build_array(
	jsonb_build_object('id', 'si_' || id, 'quantity', quantity, 'price', jsonb_build_object('id', 'price_pro')))));

CREATE FUNCTION invoice(id text, status text, attempts integer DEFAULT 0) RETURNS jsonb
LANGUAGE sql
RETURN jsonb_build_object('object', 'invoice', 'id', id, 'status', status, 'customer', 'cus_1', 'currency', 'usd', 'total', 2900, 'amount_due', 2900,
	'amount_paid', CASE status WHEN 'paid' THEN 2900 ELSE 0 END, 'amount_remaining', CASE status WHEN 'paid' THEN 0 ELSE 2900 END, 'attempt_count', attempts);

CREATE FUNCTION intent(id text, status text) RETURNS jsonb
LANGUAGE sql
RETURN jsonb_build_object('object', 'payment_intent', 'id', id, 'status', status, 'amount', 10000, 'currency', 'usd', 'customer', 'cus_1');

-- "<status> <quantity>, <requests that ask the provider>"
CREATE FUNCTION became(provider_id text) RETURNS text
LANGUAGE sql
RETURN (SELECT format('%s, %s', coalesce(s.status || ' ' || s.quantity, i.status || ' ' || i.attempt_count, p.status),
			(SELECT count(*) FROM billing.outbox AS o WHERE o.object_id = r.object_id AND o.operation LIKE '%.fetch'))
		FROM billing.provider_refs AS r LEFT JOIN billing.subscriptions AS s ON s.id = r.object_id LEFT JOIN billing.invoices AS i ON i.id = r.object_id
		LEFT JOIN billing.payment_intents AS p ON p.id = r.object_id
		WHERE r.provider_id = became.provider_id AND r.object_type IN ('subscription', 'invoice', 'payment_intent'));

-- A subscription begins, and lives, and ends: certain, whoever comes first.
DO $$ BEGIN PERFORM tell('evt_1' || s, subscription('sub_begin', s)) FROM unnest('{active,incomplete}'::text[]) AS s; END $$;
SELECT is(became('sub_begin'), 'active 1, 0', 'what is incomplete was so before it was active');
SELECT is(tell('evt_10', subscription('sub_begin', 'canceled')), 'applied', 'the end comes last');
SELECT is(tell('evt_99', subscription('sub_begin', 'past_due')), 'applied', 'what comes in after it');
SELECT is(became('sub_begin'), 'canceled 1, 0', 'is not newer, and nobody has to be asked');

-- Renewed and declined, or paid after all: nobody can tell.
SELECT is(tell('evt_22', subscription('sub_doubt', 'past_due')), 'applied', 'a payment is declined');
SELECT is(tell('evt_21', subscription('sub_doubt', 'active')), 'applied', 'and the renewal of the same second is told');
SELECT is(became('sub_doubt'), 'past_due 1, 1', 'most likely it came before, and the provider is asked');
SELECT is((SELECT in_doubt FROM billing.provider_refs WHERE provider_id = 'sub_doubt'), true, 'which one can see');
SELECT is(tell('evt_23', subscription('sub_doubt', 'unpaid')), 'applied', 'one more state');
SELECT is(became('sub_doubt'), 'unpaid 1, 1', 'is asked for by the same request');
SELECT is((SELECT string_agg(tell('evt_3' || q, subscription('sub_same', 'active', q)), ' ') FROM unnest('{2,3,1}'::integer[]) AS q), 'applied applied applied', 'the quantity changes three times in a second');
SELECT is(became('sub_same'), 'active 3, 1', 'the event ids decide until the provider has answered');

-- Told twice the same: no doubt.
SELECT is((SELECT string_agg(tell('evt_4' || n, subscription('sub_twice', 'active')), ' ') FROM generate_series(1, 3) AS n), 'applied applied applied', 'three events show one state');
SELECT is(became('sub_twice'), 'active 1, 0', 'which is asked of nobody');

-- An invoice only goes forward.
DO $$ BEGIN PERFORM tell('evt_5' || n, invoice('in_1', split_part(s, ' ', 1), split_part(s, ' ', 2)::integer))
	FROM unnest('{open 2,draft 0,open 1,paid 2,open 0}'::text[]) WITH ORDINALITY AS o (s, n); END $$;
SELECT is(became('in_1'), 'paid 2, 0', 'an invoice is made, opened, tried and paid in a second');

-- A payment may be tried again.
DO $$ BEGIN PERFORM tell('evt_6' || s, intent('pi_1', s)) FROM unnest('{processing,requires_payment_method,requires_action}'::text[]) AS s; END $$;
SELECT is(became('pi_1'), 'processing, 1', 'what comes between beginning and end of a payment is asked for');
DO $$ BEGIN PERFORM tell('evt_0', intent('pi_1', 'succeeded')); END $$;
SELECT is(became('pi_1'), 'succeeded, 1', 'money that has arrived is the end, whatever the event is called');

-- The answer to our own call.
SELECT is(tell('evt_71', subscription('sub_own', 'active')), 'applied', 'a subscription');
UPDATE billing.provider_refs SET as_of_event = '' WHERE provider_id = 'sub_own';
DO $$ BEGIN PERFORM tell('evt_70', subscription('sub_own', 'active')); PERFORM tell('evt_72', subscription('sub_own', 'incomplete')); END $$;
SELECT is(became('sub_own'), 'active 1, 0', 'webhooks that say what an answer of that second said, or what was before, raise no doubt');
DO $$ BEGIN PERFORM tell('evt_73', subscription('sub_own', 'active', 7)); END $$;
SELECT is(became('sub_own'), 'active 1, 1', 'one that says something else does');
DO $$ BEGIN PERFORM tell('evt_74', subscription('sub_own', 'canceled', 7)); END $$;
SELECT is(became('sub_own'), 'canceled 7, 1', 'but the end is the end');

-- What is told before what it belongs to.
SELECT is(tell('evt_81', intent('pi_early', 'processing') || '{"invoice": "in_late"}'), 'applied', 'a payment names an invoice that nobody knows');
SELECT is((SELECT count(*) FROM billing.waiting_links WHERE provider_id = 'in_late'), 1::bigint, 'which is noted');
SELECT is(tell('evt_82', invoice('in_late', 'open')), 'applied', 'the invoice is told');
SELECT is((SELECT i.status FROM billing.invoices AS i JOIN billing.payment_intents AS p ON p.invoice_id = i.id JOIN billing.provider_refs AS r ON r.object_id = p.id
	WHERE r.provider_id = 'pi_early'), 'open', 'and is the payment''s');
SELECT is(tell('evt_83', jsonb_set(subscription('sub_early', 'active'), '{items,data,0,price,id}', '"price_late"')), 'waiting', 'a subscription to a price that nobody knows waits');
UPDATE billing.webhook_events SET attempts = 21, next_attempt_at = NULL WHERE event_id = 'evt_83';
SELECT billing.create_price('pro', 7700, 'EUR') AS price \gset
SELECT billing.link_price(:'price', 'stripe', 'price_late');
SELECT ok((SELECT next_attempt_at <= now() FROM billing.webhook_events WHERE event_id = 'evt_83'), 'until the price is linked, however long that takes');
SELECT is(billing.replay_webhook('evt_83'), 'applied', 'and is applied then');

-- Replayed: nothing happens a second time.
SELECT count(*) AS events FROM billing.events \gset
DO $$ BEGIN PERFORM billing.replay_webhook(event_id) FROM billing.webhook_events; PERFORM billing.replay_webhook(event_id) FROM billing.webhook_events; END $$;
SELECT is((SELECT count(*) FROM billing.events), :events::bigint, 'a replay of all of them tells the application nothing');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');

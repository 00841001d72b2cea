-- Pages of a provider that are given up while a buyer still has them open: what
-- he makes there is never lost, and nothing is had without being paid. The
-- webhooks are those of Stripe for an account with a made-up key; nothing is sent.
\ir helpers.psql
CREATE EXTENSION pgcrypto;
SELECT plan(3);

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_first', base_url => 'http://127.0.0.1:9');
UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'held by the test' WHERE provider = 'stripe';
INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of) VALUES
	('price', '00000000-0000-7000-8001-000000000002', 'stripe', 'default', 'price_pro', false, '2020-01-01'),
	('product', (SELECT id FROM billing.plans WHERE plan = 'pro'), 'stripe', 'default', 'prod_pro', false, '2020-01-01');

-- Delivers an event about an object, made so many seconds after a fixed time; returns what became of it.
CREATE FUNCTION tell(object jsonb, after integer) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	body text := jsonb_build_object('id', 'evt_' || gen_random_uuid(), 'object', 'event', 'created', 1900000000 + after,
		'type', CASE object ->> 'object' WHEN 'subscription' THEN 'customer.subscription.updated' WHEN 'invoice' THEN 'invoice.updated' ELSE 'checkout.session.completed' END,
		'livemode', false, 'data', jsonb_build_object('object', object));
	at text := floor(extract(epoch FROM now()))::text;
BEGIN
	RETURN (SELECT e.status FROM billing.handle_webhook('stripe', body, jsonb_build_object('Stripe-Signature',
		format('t=%s,v1=%s', at, encode(hmac(at || '.' || body, 'whsec_first', 'sha256'), 'hex')))) AS e);
END
$$;

CREATE FUNCTION subscription(id text, organization text, status text, reference uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE sql
RETURN jsonb_strip_nulls(jsonb_build_object('object', 'subscription', 'id', id, 'customer', 'cus_' || organization, 'status', status, 'currency', 'usd',
	'metadata', jsonb_build_object('janua_ref', reference), 'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('id', 'si_of_' || id,
	'price', 'price_pro', 'quantity', 1, 'current_period_start', 1900000000, 'current_period_end', 1902592000)))));

CREATE FUNCTION completed(id text, organization text, subscription text, reference uuid) RETURNS jsonb
LANGUAGE sql
RETURN jsonb_build_object('object', 'checkout.session', 'id', id, 'customer', 'cus_' || organization, 'status', 'complete', 'payment_status', 'paid',
	'mode', 'subscription', 'subscription', subscription, 'metadata', jsonb_build_object('janua_ref', reference));

-- A page as the provider has opened it.
CREATE FUNCTION open_page(organization text) RETURNS uuid
LANGUAGE plpgsql
AS $$
DECLARE
	session uuid := billing.create_checkout_session(billing.find_customer(organization), plan => 'pro', success_url => 'https://a.example');
BEGIN
	DELETE FROM billing.outbox WHERE object_id = session;
	UPDATE billing.checkout_sessions SET status = 'open' WHERE id = session;
	INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
	VALUES ('checkout_session', session, 'stripe', 'default', 'cs_' || session, false, '2020-01-01');
	RETURN session;
END
$$;

CREATE FUNCTION sold_by(session uuid) RETURNS uuid
LANGUAGE sql
RETURN (SELECT c.subscription_id FROM billing.checkout_sessions AS c WHERE c.id = session);

-- What an organisation has, in the order in which it came: plan state, and ! for a conflict.
CREATE FUNCTION has(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(s.status || CASE WHEN s.conflict THEN '!' ELSE '' END, ' ' ORDER BY s.id) FROM billing.subscriptions AS s WHERE s.organization_id = organization);

CREATE FUNCTION closing(session uuid) RETURNS bigint
LANGUAGE sql
RETURN (SELECT count(*) FROM billing.outbox AS o WHERE o.object_id = session AND o.operation = 'checkout_session.expire');

SELECT billing.create_customer(o, o || '@acme.example', provider => 'stripe')
FROM unnest('{acme,canceled,session,both,free,again,unpaid,odd}'::text[]) AS o;
INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
SELECT 'customer', c.id, 'stripe', 'default', 'cus_' || c.organization_id, false, '2020-01-01' FROM billing.customers AS c;
DELETE FROM billing.outbox;

-- ---------------------------------------------------------------------------
-- Nothing is had unpaid

SELECT open_page('unpaid') AS page \gset
SELECT fails(format($$SELECT billing.update_subscription(%L, quantity => 2)$$, sold_by(:'page')), 'JB008', 'is incomplete and cannot be changed', 'billing.subscribe', 'what waits for its buyer cannot be changed');
SELECT fails(format($$SELECT billing.update_subscription(%L, 'free')$$, sold_by(:'page')), 'JB008', 'is incomplete', NULL, 'not even to another plan');
SELECT is(has('unpaid'), 'incomplete', 'and is not had');

SELECT * FROM finish();

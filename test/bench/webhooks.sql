-- The references of the benchmarks of webhooks, and what they are fed with.
CREATE EXTENSION pgcrypto SCHEMA public;
CREATE SCHEMA reference;

-- The check of a signature of Stripe as one writes it in SQL: split the header,
-- look at the time, compute, compare.  One expression, so that it is inlined.
CREATE FUNCTION reference.verify_webhook(secret text, payload text, headers jsonb) RETURNS boolean
LANGUAGE sql STABLE
RETURN abs(extract(epoch FROM clock_timestamp()) - split_part(split_part(headers ->> 'Stripe-Signature', 't=', 2), ',', 1)::bigint) <= 300
	AND encode(public.hmac(split_part(split_part(headers ->> 'Stripe-Signature', 't=', 2), ',', 1) || '.' || payload, secret, 'sha256'), 'hex')
		= split_part(split_part(headers ->> 'Stripe-Signature', 'v1=', 2), ',', 1);

-- One call of PL/pgSQL with the five writes of a webhook into copies of the same
-- tables with the same indexes: inbox, state, object, event, audit.  It checks
-- no signature, reads no JSON and encrypts nothing: it is told all ids.
CREATE TABLE reference.webhook_events (LIKE billing.webhook_events INCLUDING ALL);
CREATE TABLE reference.provider_refs (LIKE billing.provider_refs INCLUDING ALL);
CREATE TABLE reference.subscriptions (LIKE billing.subscriptions INCLUDING ALL);
CREATE TABLE reference.events (LIKE billing.events INCLUDING ALL);
CREATE TABLE reference.events_unsent (LIKE billing.events_unsent INCLUDING ALL);
CREATE TABLE reference.audit_log
(
	seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	object text NOT NULL,
	id uuid NOT NULL,
	at timestamptz NOT NULL DEFAULT now(),
	actor text NOT NULL,
	event_id text,
	before jsonb,
	after jsonb
);
CREATE INDEX audit_log_object ON reference.audit_log (id);

CREATE FUNCTION reference.handle_webhook(event_id text, subscription text, quantity bigint, happened timestamptz, body text)
RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	s reference.subscriptions;
	object uuid;
	event bigint;
BEGIN
	INSERT INTO reference.webhook_events (provider, account, event_id, livemode, type, provider_time, state, raw_body, attempts, handled_at,
		applied_at)
	VALUES ('stripe', 'default', handle_webhook.event_id, false, 'customer.subscription.updated', happened, 'applied',
			convert_to(rpad(body, length(body) + 33), 'UTF8'), 1, clock_timestamp(), clock_timestamp())
	ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RETURN 'duplicate';
	END IF;
	UPDATE reference.provider_refs AS r SET as_of = happened, as_of_event = handle_webhook.event_id
	WHERE r.provider_id = subscription AND r.object_type = 'subscription' AND r.provider = 'stripe' AND r.account = 'default'
		AND r.as_of < happened
	RETURNING r.object_id INTO object;
	UPDATE reference.subscriptions AS u SET quantity = handle_webhook.quantity, updated_at = now()
	WHERE u.id = object
	RETURNING u.* INTO s;
	INSERT INTO reference.events (type, object, id, organization_id, before_state, after_state)
	VALUES ('subscription.updated', 'subscription', object, s.organization_id, s.status, s.status) RETURNING seq INTO event;
	INSERT INTO reference.events_unsent (seq) VALUES (event);
	INSERT INTO reference.audit_log (object, id, actor, event_id, before, after)
	VALUES ('subscription', object, current_user, handle_webhook.event_id, jsonb_build_object('quantity', 1),
			jsonb_build_object('quantity', s.quantity));
	RETURN 'applied';
END
$$;

-- A webhook as it is delivered: about 2 KiB of JSON, the headers of a request.
CREATE FUNCTION reference.headers(body text, secret text) RETURNS jsonb
LANGUAGE sql STABLE
RETURN (SELECT jsonb_build_object('Host', 'billing.example.com', 'User-Agent', 'Stripe/1.0 (+https://stripe.com/docs/webhooks)',
		'Content-Length', length(body)::text, 'Accept', '*/*; q=0.5, application/xml', 'Cache-Control', 'no-cache',
		'Content-Type', 'application/json; charset=utf-8', 'X-Forwarded-For', '203.0.113.7', 'X-Forwarded-Proto', 'https',
		'Accept-Encoding', 'gzip', 'Stripe-Signature',
		't=' || t || ',v1=' || encode(public.hmac(t || '.' || body, secret, 'sha256'), 'hex'))
	FROM (SELECT extract(epoch FROM clock_timestamp())::bigint::text) AS now (t));

CREATE FUNCTION reference.event(id text, type text, object jsonb, happened bigint) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object('id', id, 'object', 'event', 'api_version', '2026-01-28.preview', 'created', happened, 'livemode', false,
	'pending_webhooks', 1, 'request', jsonb_build_object('id', 'req_1', 'idempotency_key', NULL), 'type', type,
	'data', jsonb_build_object('object', object))::text;

CREATE FUNCTION reference.subscription(number integer, quantity bigint) RETURNS jsonb
LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object('object', 'subscription', 'id', 'sub_' || number, 'customer', 'cus_' || number, 'status', 'active',
	'currency', 'usd', 'collection_method', 'charge_automatically', 'cancel_at_period_end', false, 'livemode', false,
	'items', jsonb_build_object('object', 'list', 'total_count', 1, 'data', jsonb_build_array(
		jsonb_build_object('id', 'si_' || number, 'object', 'subscription_item', 'quantity', quantity,
			'current_period_start', 1900000000, 'current_period_end', 1902592000,
			'price', jsonb_build_object('id', 'price_1', 'object', 'price', 'active', true, 'currency', 'usd', 'unit_amount', 2900,
				'type', 'recurring', 'recurring', jsonb_build_object('interval', 'month', 'interval_count', 1))))),
	'metadata', jsonb_build_object('note', repeat('x', 1000)));

CREATE TABLE reference.deliveries
(
	n integer PRIMARY KEY,
	event_id text NOT NULL,
	subscription text NOT NULL,
	quantity bigint NOT NULL,
	happened timestamptz NOT NULL,
	body text NOT NULL,
	headers jsonb NOT NULL
);
CREATE SEQUENCE reference.next;

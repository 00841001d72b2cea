-- Pages of a provider that are given up while a buyer still has them open: what
-- he makes there is never lost, and nothing is had without being paid. The
-- webhooks are those of Stripe for an account with a made-up key; nothing is sent.
\ir helpers.psql
CREATE EXTENSION pgcrypto;
SELECT plan(43);

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
FROM unnest('{acme,canceled,session,both,free,again,unpaid,odd,planned}'::text[]) AS o;
INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
SELECT 'customer', c.id, 'stripe', 'default', 'cus_' || c.organization_id, false, '2020-01-01' FROM billing.customers AS c;
DELETE FROM billing.outbox;

-- ---------------------------------------------------------------------------
-- A new sale takes its place

SELECT open_page('acme') AS first \gset
SELECT sold_by(:'first') AS first_sub \gset
SELECT billing.subscribe('acme', 'pro', 'pm_card_visa') AS second \gset
SELECT is(has('acme'), 'canceled incomplete', 'a subscription that waits for its buyer gives way to a new one');
SELECT is(closing(:'first'), 1::bigint, 'and the page on which it could still be bought is closed');
SELECT is(tell(subscription('sub_acme', 'acme', 'active', :'first_sub'), 10), 'applied', 'but the buyer was faster');
SELECT is(has('acme'), 'canceled incomplete! active', 'what he has bought is there, and comes before what still waits');
SELECT is((SELECT r.object_id FROM billing.provider_refs AS r WHERE r.provider_id = 'sub_acme') IN (:'first_sub', :'second'), false, 'in a row of its own');
SELECT is((SELECT count(*) FROM billing.attention WHERE organization_id = 'acme' AND what = 'second live subscription'), 0::bigint, 'one lives: nobody has to look at it');
SELECT is(tell(subscription('sub_acme', 'acme', 'past_due', :'first_sub'), 20), 'applied', 'its later news');
SELECT is(has('acme'), 'canceled incomplete! past_due', 'are about that row');
SELECT tell(subscription('sub_second', 'acme', 'active', :'second'), 30);
SELECT is(has('acme'), 'canceled active past_due!', 'when the other one is paid both live, and the older one comes first');
SELECT is((SELECT count(*) FROM billing.attention WHERE organization_id = 'acme' AND what = 'second live subscription'), 1::bigint, 'and a person has to look at it');
SELECT tell(subscription('sub_second', 'acme', 'canceled', :'second') || '{"ended_at": 1900000040}', 40);
SELECT is(has('acme'), 'canceled canceled past_due', 'until one of them ends');

-- ---------------------------------------------------------------------------
-- Given up by a call

SELECT open_page('canceled') AS page \gset
SELECT billing.cancel_subscription(sold_by(:'page'));
SELECT is(has('canceled'), 'canceled', 'a subscription that waits for its buyer can be given up');
SELECT is(closing(:'page'), 1::bigint, 'its page is closed at the provider');
SELECT billing.cancel_subscription(sold_by(:'page'));
SELECT is(closing(:'page'), 1::bigint, 'once');
SELECT tell(subscription('sub_canceled', 'canceled', 'incomplete', sold_by(:'page')), 10);
SELECT is(has('canceled'), 'canceled', 'what is not paid yet does not come back');
SELECT is(tell(subscription('sub_canceled', 'canceled', 'trialing', sold_by(:'page')), 20), 'applied', 'what was bought all the same');
SELECT is(has('canceled'), 'canceled trialing', 'is there');
SELECT is((SELECT concat_ws(' ', p.plan, s.provider, s.quantity) FROM billing.subscriptions AS s JOIN billing.plans AS p ON p.id = s.plan_id WHERE s.id = subscription_of('canceled')),
	'pro stripe 1', 'as it was sold');
SELECT is((SELECT array_agg(type ORDER BY seq) FROM billing.events WHERE id = subscription_of('canceled')), '{subscription.trialing}', 'and announced');

-- the session is told before the subscription
SELECT open_page('session') AS page \gset
SELECT billing.cancel_subscription(sold_by(:'page'));
SELECT is(tell(completed('cs_' || :'page', 'session', 'sub_session', :'page'), 10), 'applied', 'the page is told first');
SELECT is((SELECT count(*) FROM billing.provider_refs WHERE provider_id = 'sub_session'), 0::bigint, 'what has ended does not get the id of what lives');
SELECT is(tell(subscription('sub_session', 'session', 'active', sold_by(:'page')), 11), 'applied', 'then the subscription');
SELECT is(has('session'), 'canceled active', 'which is there');
SELECT is(tell(completed('cs_' || :'page', 'session', 'sub_session', :'page'), 12), 'applied', 'the page is told again');
SELECT is(sold_by(:'page'), subscription_of('session'), 'and is known to have sold it');

-- ---------------------------------------------------------------------------
-- Two pages for one subscription

SELECT billing.subscribe('free', 'free') AS free \gset
SELECT open_page('free') AS one \gset
SELECT is(sold_by(:'one'), :'free', 'a free subscription is to become a paid one');
SELECT is(tell(subscription('sub_free_1', 'free', 'active', :'free'), 10), 'applied', 'it is bought on a page');
SELECT is(tell(subscription('sub_free_2', 'free', 'active', :'free'), 20), 'applied', 'and on another one');
SELECT is(has('free'), 'active active!', 'both are billed, so both are there');
SELECT is((SELECT provider_subscription_id FROM billing.subscription_details WHERE id = :'free'), 'sub_free_1', 'the first one keeps its id');
SELECT billing.create_customer('twice', 'twice@acme.example', provider => 'stripe') AS twice \gset
INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
VALUES ('customer', :'twice', 'stripe', 'default', 'cus_twice', false, '2020-01-01');
SELECT billing.subscribe('twice', 'free') AS free \gset
SELECT open_page('twice') AS page \gset
SELECT billing.update_subscription(:'free', 'pro', payment_method => 'pm_card_visa');
SELECT is(closing(:'page'), 1::bigint, 'a free one that is turned into a paid one by a call is not sold on a page, too');

-- a subscription that is bought while another page still waits
SELECT open_page('both') AS page \gset
SELECT sold_by(:'page') AS waits \gset
SELECT is(tell(subscription('sub_both', 'both', 'active'), 10), 'applied', 'a subscription is made at the provider');
SELECT is(has('both'), 'active', 'it is the one that the page was to sell');

-- one that is to begin later waits for nobody
SELECT billing.subscribe('planned', 'pro', starts_at => now() + interval '1 year', managed_by => 'local') AS planned \gset
SELECT fails($$SELECT open_page('planned')$$, 'JB008', 'has a subscription in plan group', 'update_subscription', 'beside one that is to begin later nothing is sold');
SELECT is(tell(subscription('sub_planned', 'planned', 'active'), 10), 'applied', 'one that is made at the provider all the same');
SELECT is((SELECT status || ' ' || conflict FROM billing.subscriptions WHERE id = :'planned'), 'incomplete true', 'does not end it: both stand in attention once it has begun');

-- ---------------------------------------------------------------------------
-- Nothing is had unpaid

SELECT open_page('unpaid') AS page \gset
SELECT fails(format($$SELECT billing.update_subscription(%L, quantity => 2)$$, sold_by(:'page')), 'JB008', 'is incomplete and cannot be changed', 'billing.subscribe', 'what waits for its buyer cannot be changed');
SELECT fails(format($$SELECT billing.update_subscription(%L, 'free')$$, sold_by(:'page')), 'JB008', 'is incomplete', NULL, 'not even to another plan');
SELECT is(has('unpaid'), 'incomplete', 'and is not had');

-- ---------------------------------------------------------------------------
-- News that say less than they should

SELECT is(tell(subscription('sub_odd', 'odd', 'of another time'), 10), 'waiting', 'a subscription in a state that nobody knows waits for better news');
SELECT tell(subscription('sub_odd', 'odd', 'active'), 20);
SELECT is(tell(subscription('sub_odd', 'odd', 'of another time'), 30) || ' ' || has('odd'), 'applied active', 'one that is known stays as it is');
SELECT is(tell('{"object": "invoice", "id": "in_odd", "customer": "cus_odd", "status": null, "currency": "usd"}', 10), 'waiting', 'so it is with an invoice');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

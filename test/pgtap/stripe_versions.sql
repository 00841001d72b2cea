-- Events of other versions of Stripe's API: an endpoint may be pinned to an old one, or to one that is
-- newer than this module. Members are read where they were before they moved, and words that nobody knows
-- change no state. The account has a made-up key; nothing is sent.
\ir helpers.psql
CREATE EXTENSION pgcrypto;
SELECT plan(30);

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_first', base_url => 'http://127.0.0.1:9');
UPDATE billing.settings SET value = '1 hour' WHERE name IN ('retry_base', 'retry_cap');
SELECT billing.create_customer('acme', 'a@acme.example', provider => 'stripe') AS acme \gset
SELECT billing.link_price('00000000-0000-7000-8001-000000000002', 'stripe', 'price_1');
INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
VALUES ('customer', :'acme', 'stripe', 'default', 'cus_1', false, '2020-01-01');

CREATE SEQUENCE clock START 1900000001;

-- Delivers an event of a version of the API, each a second after the one before.
CREATE FUNCTION tell(version text, type text, object jsonb) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	time bigint := nextval('clock');
	body text := jsonb_build_object('id', 'evt_' || time, 'object', 'event', 'type', type, 'created', time, 'livemode', false,
		'api_version', version, 'data', jsonb_build_object('object', object));
	at text := floor(extract(epoch FROM now()))::text;
BEGIN
	RETURN (SELECT e.status FROM billing.handle_webhook('stripe', body, jsonb_build_object('Stripe-Signature',
		format('t=%s,v1=%s', at, encode(hmac(at || '.' || body, 'whsec_first', 'sha256'), 'hex')))) AS e);
END
$$;

CREATE FUNCTION known(kind text, id_there text) RETURNS uuid
LANGUAGE sql
RETURN (SELECT object_id FROM billing.provider_refs WHERE object_type = kind AND provider_id = id_there);

-- ---------------------------------------------------------------------------
-- Subscriptions: periods, prices and quantities moved to the items

SELECT is(tell('2019-12-03', 'customer.subscription.created', '{"object": "subscription", "id": "sub_1", "customer": "cus_1", "status": "active", "currency": "usd",
	"plan": {"id": "price_1", "object": "plan"}, "quantity": 3, "current_period_start": 1900000000, "current_period_end": 1902592000}'), 'applied', 'a subscription of 2019 is read');
SELECT results_eq($$SELECT price_id, quantity, current_period_end FROM billing.subscriptions$$,
	$$VALUES ('00000000-0000-7000-8001-000000000002'::uuid, 3::bigint, to_timestamp(1902592000))$$, 'with its plan as price, its quantity and its period');
SELECT tell('2024-06-20', 'customer.subscription.updated', '{"object": "subscription", "id": "sub_1", "customer": "cus_1", "status": "active", "currency": "usd",
	"items": {"data": [{"id": "si_1", "plan": {"id": "price_1"}, "price": {"id": "price_1"}, "quantity": 4}]}, "current_period_start": 1902592000, "current_period_end": 1905184000}');
SELECT results_eq($$SELECT quantity, current_period_end FROM billing.subscriptions$$, $$VALUES (4::bigint, to_timestamp(1905184000))$$, 'one of 2024: quantity of the item, period of its own');
SELECT tell('2026-10-28.endive', 'customer.subscription.updated', '{"object": "subscription", "id": "sub_1", "customer": "cus_1", "status": "active", "currency": "usd",
	"items": {"data": [{"id": "si_1", "price": {"id": "price_1"}, "quantity": 5, "current_period_start": 1905184000, "current_period_end": 1907776000}]}}');
SELECT results_eq($$SELECT quantity, current_period_end FROM billing.subscriptions$$, $$VALUES (5::bigint, to_timestamp(1907776000))$$, 'one of 2026: both of the item');
SELECT is(tell('2031-01-01.unknown', 'customer.subscription.updated', '{"object": "subscription", "id": "sub_1", "customer": "cus_1", "status": "hibernating", "currency": "usd"}'),
	'applied', 'a status of tomorrow is taken');
SELECT is(status_of('acme'), 'active', 'and changes nothing');

-- ---------------------------------------------------------------------------
-- Invoices: subscription, payment and taxes moved

SELECT is(tell('2022-08-01', 'payment_intent.created', '{"object": "payment_intent", "id": "pi_old", "customer": "cus_1", "status": "requires_source", "amount": 5000, "currency": "usd"}'),
	'applied', 'a payment of 2022 is read');
SELECT is((SELECT status FROM billing.payment_intents WHERE id = known('payment_intent', 'pi_old')), 'pending', 'which waits for what was called a source before 2019');
SELECT is(tell('2022-08-01', 'invoice.paid', '{"object": "invoice", "id": "in_old", "customer": "cus_1", "status": "paid", "paid": true, "currency": "usd", "total": 5000, "amount_due": 5000,
	"amount_paid": 5000, "amount_remaining": 0, "tax": 800, "subscription": "sub_1", "payment_intent": "pi_old", "created": 1900000000}'), 'applied', 'so is an invoice');
SELECT results_eq($$SELECT subscription_id = known('subscription', 'sub_1'), tax FROM billing.invoices WHERE id = known('invoice', 'in_old')$$, $$VALUES (true, 800::bigint)$$,
	'its subscription and its tax are its own members');
SELECT is((SELECT invoice_id FROM billing.payment_intents WHERE id = known('payment_intent', 'pi_old')), known('invoice', 'in_old'), 'and so is its payment');
SELECT tell('2024-06-20', 'invoice.created', '{"object": "invoice", "id": "in_taxes", "customer": "cus_1", "status": "open", "currency": "usd", "total": 5000, "amount_due": 5000,
	"total_tax_amounts": [{"amount": 300}, {"amount": 200}], "subscription": {"id": "sub_1", "object": "subscription"}, "created": 1900000000}');
SELECT results_eq($$SELECT subscription_id = known('subscription', 'sub_1'), tax FROM billing.invoices WHERE id = known('invoice', 'in_taxes')$$, $$VALUES (true, 500::bigint)$$,
	'one of 2024: the list of its taxes had another name, and the subscription may stand in full');
SELECT tell('2026-10-28.endive', 'payment_intent.created', '{"object": "payment_intent", "id": "pi_new", "customer": "cus_1", "status": "requires_payment_method", "amount": 5000, "currency": "usd"}');
SELECT tell('2026-10-28.endive', 'invoice.paid', '{"object": "invoice", "id": "in_new", "customer": "cus_1", "status": "paid", "currency": "usd", "total": 5000, "amount_due": 5000, "amount_paid": 5000,
	"amount_remaining": 0, "total_taxes": [{"amount": 700}], "parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}},
	"payments": {"data": [{"is_default": true, "payment": {"type": "payment_intent", "payment_intent": "pi_new"}}]}, "created": 1900000000}');
SELECT results_eq($$SELECT i.subscription_id = known('subscription', 'sub_1'), i.tax, p.id = known('payment_intent', 'pi_new') FROM billing.invoices AS i JOIN billing.payment_intents AS p ON p.invoice_id = i.id
	WHERE i.id = known('invoice', 'in_new')$$, $$VALUES (true, 700::bigint, true)$$, 'one of 2026: all three where they are now');
SELECT is(tell('2031-01-01.unknown', 'invoice.updated', '{"object": "invoice", "id": "in_new", "customer": "cus_1", "status": "composting", "currency": "usd", "total": 5000}'),
	'waiting', 'an invoice in a state of tomorrow waits until more is told');
SELECT is((SELECT status FROM billing.invoices WHERE id = known('invoice', 'in_new')), 'paid', 'and changes nothing');

-- ---------------------------------------------------------------------------
-- Payments: charges in a list, refunds in the charge

SELECT tell('2022-08-01', 'payment_intent.succeeded', '{"object": "payment_intent", "id": "pi_old", "customer": "cus_1", "status": "succeeded", "amount": 5000, "amount_received": 5000, "currency": "usd",
	"charges": {"object": "list", "data": [{"id": "ch_2", "object": "charge", "created": 1900000000, "payment_method_details": {"type": "card"}, "amount_refunded": 0, "receipt_url": "https://stripe.example/r"},
	{"id": "ch_1", "object": "charge", "created": 1899990000, "payment_method_details": {"type": "card"}}]}}');
SELECT results_eq($$SELECT p.status, r.provider_id, p.method, p.paid_at FROM billing.payment_intents AS p JOIN billing.provider_refs AS r ON r.object_id = p.id AND r.object_type = 'charge'
	WHERE p.id = known('payment_intent', 'pi_old')$$, $$VALUES ('succeeded', 'ch_2', 'card', to_timestamp(1900000000))$$, 'the latest charge is the first of the list');
SELECT is(tell('2022-08-01', 'charge.refunded', '{"object": "charge", "id": "ch_2", "payment_intent": "pi_old", "amount": 5000, "amount_captured": 5000, "amount_refunded": 1500, "captured": true, "created": 1900000000,
	"currency": "usd", "refunds": {"object": "list", "data": [{"object": "refund", "id": "re_1", "charge": "ch_2", "payment_intent": "pi_old", "amount": 1500, "currency": "usd", "status": "succeeded", "created": 1900000002}]}}'),
	'applied', 'a charge of 2022 lists its refunds');
SELECT results_eq($$SELECT p.status, p.amount_refunded, p.refunded_elsewhere, (SELECT count(*) FROM billing.refunds AS f WHERE f.payment_intent_id = p.id) FROM billing.payment_intents AS p
	WHERE p.id = known('payment_intent', 'pi_old')$$, $$VALUES ('partially_refunded', 1500::bigint, 0::bigint, 1::bigint)$$, 'each is a refund, and the sum contains it');
SELECT is(tell('2026-10-28.endive', 'charge.refunded', '{"object": "charge", "id": "ch_2", "payment_intent": "pi_old", "amount": 5000, "amount_captured": 5000, "amount_refunded": 2000, "captured": true, "created": 1900000000,
	"currency": "usd", "refunds": null}'), 'applied', 'one of 2026 lists none');
SELECT results_eq($$SELECT amount_refunded, refunded_elsewhere FROM billing.payment_intents WHERE id = known('payment_intent', 'pi_old')$$, $$VALUES (2000::bigint, 500::bigint)$$, 'and tells the sum');
SELECT is(tell('2018-11-08', 'payment_intent.requires_action', '{"object": "payment_intent", "id": "pi_source", "customer": "cus_1", "status": "requires_source_action", "amount": 100, "currency": "usd"}'),
	'applied', 'a payment of 2018 asks the customer');
SELECT is((SELECT status FROM billing.payment_intents WHERE id = known('payment_intent', 'pi_source')), 'requires_action', 'by another word');
SELECT is(tell('2031-01-01.unknown', 'payment_intent.processing', '{"object": "payment_intent", "id": "pi_odd", "customer": "cus_1", "status": "levitating", "amount": 100, "currency": "usd"}'),
	'waiting', 'a payment in a state of tomorrow waits until more is told');
SELECT is((SELECT count(*) FROM billing.payment_intents), 3::bigint, 'and leaves no row behind');
SELECT is(tell('2031-01-01.unknown', 'refund.updated', '{"object": "refund", "id": "re_1", "payment_intent": "pi_old", "amount": 1500, "currency": "usd", "status": "evaporated"}'), 'applied', 'a refund in a state of tomorrow is taken');
SELECT is((SELECT status FROM billing.refunds WHERE id = known('refund', 're_1')), 'succeeded', 'and changes nothing');
SELECT is(tell('2019-12-03', 'charge.dispute.closed', '{"object": "dispute", "id": "dp_1", "charge": "ch_2", "amount": 5000, "currency": "usd", "status": "charge_refunded"}'), 'applied', 'a dispute of 2019 is found by its charge');
SELECT is((SELECT status FROM billing.disputes), 'warning_closed', 'that a refund has settled');

-- ---------------------------------------------------------------------------
-- Pages: a session had no status before 2021

SELECT billing.create_checkout_session(:'acme', '[{"name": "Hat", "amount": 700, "currency": "USD", "quantity": 1}]', 'https://example.com/ok') AS page \gset
SELECT tell('2020-08-27', 'checkout.session.completed', jsonb_build_object('object', 'checkout.session', 'id', 'cs_1', 'payment_status', 'paid', 'metadata', jsonb_build_object('janua_ref', :'page')));
SELECT results_eq(format($$SELECT status, payment_status FROM billing.checkout_sessions WHERE id = %L$$, :'page'), $$VALUES ('complete', 'paid')$$, 'its event says that it is complete');
SELECT is((SELECT count(*) FROM billing.webhook_events WHERE state = 'failed'), 0::bigint, 'no event of any version has failed');
SELECT * FROM finish();

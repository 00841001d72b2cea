-- Webhooks: signature, inbox, order, and what is done with what cannot be read.
-- They are those of Stripe for an account with a made-up key; nothing is sent.
\ir helpers.psql
CREATE EXTENSION pgcrypto;

SELECT plan(101);


-- Stripe-Signature as Stripe makes it, for this body at this time.
CREATE FUNCTION signature(body bytea, secret text DEFAULT 'whsec_first', at timestamptz DEFAULT now()) RETURNS text
LANGUAGE sql
RETURN format('t=%s,v1=%s', floor(extract(epoch FROM at)),
	encode(hmac(convert_to(floor(extract(epoch FROM at))::text || '.', 'UTF8') || body, convert_to(secret, 'UTF8'), 'sha256'), 'hex'));

-- An event of Stripe about an object, made so many seconds after a fixed time.
CREATE FUNCTION event(id text, type text, object jsonb, after integer DEFAULT 0) RETURNS text
LANGUAGE sql
RETURN jsonb_build_object('id', id, 'object', 'event', 'type', type, 'created', 1900000000 + after, 'livemode', false,
	'data', jsonb_build_object('object', object))::text;

-- Delivers a body with a good signature.
CREATE FUNCTION deliver(body text, OUT event_id text, OUT type text, OUT status text)
LANGUAGE sql
AS $$ SELECT * FROM billing.handle_webhook('stripe', body, jsonb_build_object('Stripe-Signature', signature(convert_to(body, 'UTF8')))) $$;

CREATE FUNCTION customer_object(id text, reference uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE sql
RETURN jsonb_strip_nulls(jsonb_build_object('object', 'customer', 'id', id, 'livemode', false, 'metadata', jsonb_build_object('janua_ref', reference)));

-- ---------------------------------------------------------------------------
-- Accounts

SELECT fails($$SELECT billing.handle_webhook('stripe', '{}', '{}')$$, 'JB006', 'stripe', 'configure_provider', 'a provider that is not configured has no webhooks');
SELECT billing.configure_provider('stripe', 'sk_test_of_europe', 'whsec_europe', account => 'europe', base_url => 'http://127.0.0.1:9');
SELECT ok(billing.verify_webhook('stripe', 'x', jsonb_build_object('Stripe-Signature', signature('x', 'whsec_europe'))), 'without an account every one of the provider is tried, also when none is called default');
SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_first', base_url => 'http://127.0.0.1:9');
SELECT billing.create_customer('acme', 'a@acme.example', provider => 'stripe') AS acme \gset
SELECT billing.configure_provider('stripe', 'sk_test_of_asia', account => 'asia', base_url => 'http://127.0.0.1:9');
SELECT fails($$SELECT billing.handle_webhook('stripe', '{}', '{}', 'asia')$$, 'JB006', 'no webhook secret of stripe', 'webhook_secret', 'without a secret nothing is taken: an empty one would fit everybody');
SELECT fails($$SELECT billing.configure_provider('stripe', webhook_secret => ' ', account => 'asia')$$, '22023', 'webhook_secret is blank', NULL, 'a blank secret is refused');

-- ---------------------------------------------------------------------------
-- Signatures

SELECT event('evt_1', 'customer.updated', customer_object('cus_1', :'acme')) AS body \gset
SELECT signature(convert_to(:'body', 'UTF8')) AS signature \gset
SELECT ok(billing.verify_webhook('stripe', :'body'::text, jsonb_build_object('Stripe-Signature', :'signature')), 'a right signature is right');
SELECT ok(billing.verify_webhook('stripe', convert_to(:'body', 'UTF8'), jsonb_build_object('Stripe-Signature', :'signature')), 'for a body as bytes, too');
SELECT ok(billing.verify_webhook('stripe', :'body'::text, jsonb_build_object('stripe-signature', :'signature')), 'names of headers have no case: small');
SELECT ok(billing.verify_webhook('stripe', :'body'::text, jsonb_build_object('STRIPE-SIGNATURE', :'signature')), 'or large');
SELECT ok(billing.verify_webhook('stripe', :'body'::text, jsonb_build_object('Stripe-Signature', jsonb_build_array(:'signature'))), 'a header may be an array');
SELECT ok(billing.verify_webhook('stripe', :'body'::text, jsonb_build_object('Stripe-Signature', :'signature', 'X-Other', jsonb_build_array('a', 'b'))), 'beside others');
SELECT ok(billing.verify_webhook('stripe', :'body'::text, jsonb_build_object('Stripe-Signature', 't=1,v1=00,v0=00,' || :'signature')) IS NOT NULL, 'a header with more than it needs is read');
SELECT ok(NOT billing.verify_webhook('stripe', :'body' || ' ', jsonb_build_object('Stripe-Signature', :'signature')), 'a blank more is another body');
SELECT ok(NOT billing.verify_webhook('stripe', :'body'::text, jsonb_build_object('Stripe-Signature', signature(convert_to(:'body', 'UTF8'), 'whsec_other'))), 'another secret is wrong');
SELECT ok(NOT billing.verify_webhook('stripe', :'body'::text, jsonb_build_object('Stripe-Signature', signature(convert_to(:'body', 'UTF8'), at => now() - interval '301 seconds'))), 'a signature of 301 seconds ago is too old');
SELECT ok(billing.verify_webhook('stripe', :'body'::text, jsonb_build_object('Stripe-Signature', signature(convert_to(:'body', 'UTF8'), at => now() - interval '290 seconds'))), 'one of 290 seconds ago is not');
SELECT ok(NOT billing.verify_webhook('stripe', :'body'::text, jsonb_build_object('Stripe-Signature', signature(convert_to(:'body', 'UTF8'), at => now() + interval '400 seconds'))), 'one that is far ahead is wrong');
SELECT ok(NOT billing.verify_webhook('stripe', :'body'::text, '{}'), 'without the header it is wrong, and no error');
SELECT ok(NOT billing.verify_webhook('stripe', :'body'::text, '{"Stripe-Signature": "nonsense"}'), 'so is a header that cannot be read');
SELECT ok(NOT billing.verify_webhook('stripe', :'body'::text, '{"Stripe-Signature": null}'), 'so is null');
SELECT ok(NOT billing.verify_webhook('stripe', :'body'::text, '{"Stripe-Signature": [null, {"a": 1}]}'), 'so is an array of other things');
SELECT ok(NOT billing.verify_webhook('stripe', 'not json', '{"Stripe-Signature": "t=1,v1=00"}'), 'the body is not even parsed');
SELECT fails($$SELECT billing.verify_webhook('stripe', '{}', '[]')$$, '22023', 'headers is not an object', NULL, 'headers are an object');
SELECT fails($$SELECT billing.verify_webhook('paypal', '{}', '{}')$$, 'JB005', 'unknown provider "paypal"', 'stripe', 'an unknown provider is an error');
SELECT fails($$SELECT billing.verify_webhook('stripe', '{}', '{}', 'africa')$$, 'JB006', 'not configured', 'africa', 'so is an account that is not configured');
SELECT is((SELECT count(*) FROM billing.webhook_events), 0::bigint, 'verify_webhook stores nothing');

SELECT fails(format($$SELECT billing.handle_webhook('stripe', %L, '{}')$$, :'body'), 'JB001', 'not signed with our secret', 'raw body', 'handle_webhook refuses what has no signature');
SELECT fails(format($$SELECT billing.handle_webhook('stripe', %L, jsonb_build_object('Stripe-Signature', %L))$$, :'body' || ' ', :'signature'), 'JB001', 'not signed', NULL, 'or a wrong one');
SELECT fails(format($$SELECT billing.handle_webhook('stripe', %L, jsonb_build_object('Stripe-Signature', signature(%L, at => now() - interval '1 hour')))$$, :'body', convert_to(:'body', 'UTF8')), 'JB002', 'too long ago', 'clock', 'or an old one, by another code');
SELECT fails(format($$SELECT billing.handle_webhook('stripe', %L, jsonb_build_object('Stripe-Signature', signature(%L, at => now() + interval '1 hour')))$$, :'body', convert_to(:'body', 'UTF8')), 'JB002', 'far ahead', 'clock', 'or one of the future');
SELECT fails(format($$SELECT billing.handle_webhook('stripe', %L, jsonb_build_object('Stripe-Signature', signature(%L, 'x', now() - interval '1 hour')))$$, :'body', convert_to(:'body', 'UTF8')), 'JB001', 'not signed', NULL, 'an old and wrong one is wrong');
SELECT is((SELECT count(*) FROM billing.webhook_events), 0::bigint, 'nothing of these is stored');

-- ---------------------------------------------------------------------------
-- Applied once

SELECT results_eq(format('SELECT * FROM deliver(%L)', :'body'), $$VALUES ('evt_1', 'customer.updated', 'applied')$$, 'a webhook is applied');
SELECT is((SELECT provider_id FROM billing.provider_refs WHERE object_id = :'acme'), 'cus_1', 'by the reference that we sent, although our own call has no answer yet');
SELECT results_eq(format('SELECT * FROM deliver(%L)', :'body'), $$VALUES ('evt_1', 'customer.updated', 'duplicate')$$, 'the same once more is a duplicate');
SELECT is((SELECT count(*) FROM billing.webhook_events), 1::bigint, 'that is stored once');
SELECT ok((SELECT position('cus_1'::bytea IN raw_body) = 0 FROM billing.webhook_events), 'the body is kept encrypted');
SELECT results_eq(format($$SELECT status FROM billing.handle_webhook('stripe', convert_to(%L, 'UTF8'), jsonb_build_object('stripe-signature', jsonb_build_array(%L)))$$, :'body', :'signature'), $$VALUES ('duplicate')$$, 'as bytes it is the same webhook');

SELECT is((deliver(event('evt_2', 'customer.updated', customer_object('cus_1', :'acme') || '{"email": "new@acme.example"}', 10))).status, 'applied', 'a newer one is applied');
SELECT is((deliver(event('evt_3', 'customer.updated', customer_object('cus_1', :'acme') || '{"email": "old@acme.example"}', 5))).status, 'applied', 'an older one that comes later is taken');
SELECT is((SELECT as_of FROM billing.provider_refs WHERE object_id = :'acme'), to_timestamp(1900000010), 'and changes nothing');
SELECT is((SELECT reason FROM billing.webhook_events WHERE event_id = 'evt_3'), 'nothing newer than what is here', 'which it says');
SELECT is((deliver(event('evt_4', 'charge.captured', '{"object": "charge", "id": "ch_1"}'))).status, 'ignored', 'a type that has no effect here is ignored');
SELECT is((deliver(jsonb_set(event('evt_5', 'customer.updated', customer_object('cus_1', :'acme'), 20)::jsonb, '{livemode}', 'true')::text)).status, 'ignored', 'a live event for a test account is ignored');
SELECT alike((SELECT reason FROM billing.webhook_events WHERE event_id = 'evt_5'), '%live event%', 'with the reason');
SELECT is((deliver((event('evt_6', 'customer.updated', customer_object('cus_1', :'acme'), 20)::jsonb || '{"account": "acct_other"}')::text)).status, 'ignored', 'so is an event of another account');

-- ---------------------------------------------------------------------------
-- Before what it is about

SELECT is((deliver(event('evt_10', 'customer.subscription.created', '{"object": "subscription", "id": "sub_1", "customer": "cus_later", "status": "active", "currency": "usd",
	"items": {"data": [{"id": "si_1", "price": "price_1", "quantity": 2, "current_period_start": 1900000000, "current_period_end": 1902592000}]}}', 30))).status, 'waiting', 'an event about an object of an unknown customer waits');
SELECT is((SELECT waiting_for FROM billing.webhook_events WHERE event_id = 'evt_10'), 'cus_later', 'for the customer');
SELECT is(billing.replay_webhook('evt_10'), 'waiting', 'trying again helps nothing while it is unknown');
SELECT billing.create_customer('later', provider => 'stripe') AS later \gset
SELECT billing.link_price('00000000-0000-7000-8001-000000000002', 'stripe', 'price_1');
SELECT is((deliver(event('evt_11', 'customer.created', customer_object('cus_later', :'later'), 31))).status, 'applied', 'when the customer is known');
SELECT is(billing.replay_webhook('evt_10'), 'applied', 'it is applied');
SELECT results_eq($$SELECT status, quantity, managed_by FROM billing.subscriptions WHERE organization_id = 'later'$$, $$VALUES ('active', 2::bigint, 'provider')$$, 'a subscription that was made at the provider is here then');
SELECT is(billing.replay_webhook('evt_10'), 'applied', 'once more changes nothing');
SELECT is((SELECT count(*) FROM billing.subscriptions WHERE organization_id = 'later'), 1::bigint, 'and makes no second one');
SELECT is((deliver(event('evt_12', 'customer.subscription.created', '{"object": "subscription", "id": "sub_2", "customer": "cus_later", "status": "active", "currency": "usd",
	"items": {"data": [{"id": "si_2", "price": "price_1", "quantity": 1, "current_period_start": 1900000000, "current_period_end": 1902592000}]}}', 32))).status, 'applied', 'a second live one of the provider is taken as well');
SELECT is((SELECT conflict FROM billing.subscriptions AS s JOIN billing.provider_refs AS r ON r.object_id = s.id WHERE r.provider_id = 'sub_2'), true, 'as a conflict');
SELECT is((SELECT count(*) FROM billing.attention WHERE organization_id = 'later' AND what = 'second live subscription'), 1::bigint, 'that stands in attention');

-- state machine: canceled is final, whatever comes
SELECT is((deliver(event('evt_13', 'customer.subscription.deleted', '{"object": "subscription", "id": "sub_1", "customer": "cus_later", "status": "canceled", "ended_at": 1900000040, "canceled_at": 1900000040}', 40))).status, 'applied', 'the provider ends a subscription');
SELECT is((deliver(event('evt_14', 'customer.subscription.updated', '{"object": "subscription", "id": "sub_1", "customer": "cus_later", "status": "active"}', 50))).status, 'applied', 'a webhook that says it lives is taken');
SELECT is((SELECT s.status FROM billing.subscriptions AS s JOIN billing.provider_refs AS r ON r.object_id = s.id WHERE r.provider_id = 'sub_1'), 'canceled', 'but canceled is final');
SELECT results_eq($$SELECT r.provider_id, s.conflict FROM billing.subscriptions AS s JOIN billing.provider_refs AS r ON r.object_id = s.id WHERE r.provider_id IN ('sub_1', 'sub_2') ORDER BY 1$$,
	$$VALUES ('sub_1', false), ('sub_2', false)$$, 'the one that is left is no second one');
SELECT is((SELECT count(*) FROM billing.attention WHERE organization_id = 'later' AND what = 'second live subscription'), 0::bigint, 'and stands in attention no more');

-- invoices of it
SELECT is((deliver(event('evt_15', 'invoice.paid', '{"object": "invoice", "id": "in_1", "customer": "cus_later", "status": "paid", "currency": "usd", "total": 5800, "amount_due": 5800,
	"amount_paid": 5800, "amount_remaining": 0, "created": 1900000000, "number": "A-1", "parent": {"subscription_details": {"subscription": "sub_2"}}}', 60))).status, 'applied', 'an invoice that is paid is applied');
SELECT results_eq($$SELECT status, total, amount_paid, currency, provider_number FROM billing.invoices WHERE organization_id = 'later'$$, $$VALUES ('paid', 5800::bigint, 5800::bigint, 'USD', 'A-1')$$, 'with its amounts');
SELECT is((deliver(event('evt_16', 'invoice.payment_failed', '{"object": "invoice", "id": "in_1", "customer": "cus_later", "status": "open", "currency": "usd", "total": 5800, "amount_due": 5800,
	"amount_paid": 0, "amount_remaining": 5800, "created": 1900000000, "parent": {"subscription_details": {"subscription": "sub_2"}}}', 61))).status, 'applied', 'a late failure is taken');
SELECT is((SELECT status FROM billing.invoices WHERE organization_id = 'later'), 'paid', 'and never undoes what is paid');

-- ---------------------------------------------------------------------------
-- Unreadable, large, odd

SELECT is((deliver('this is no json')).status, 'failed', 'a body that is no JSON is kept as failed, not raised');
SELECT is((SELECT event_id FROM billing.webhook_events WHERE type = 'unreadable'), encode(sha256('this is no json'), 'hex'), 'under its hash');
SELECT is((deliver('this is no json')).status, 'duplicate', 'once');
SELECT is((deliver('{"hello": "world"}')).status, 'failed', 'so is JSON that is no event');
SELECT is((deliver('')).status, 'failed', 'so is an empty body');
SELECT is((SELECT status FROM billing.handle_webhook('stripe', '\xff00fe'::bytea, jsonb_build_object('Stripe-Signature', signature('\xff00fe')))), 'failed', 'so are bytes that are no UTF-8');
SELECT is((SELECT count(*) FROM billing.attention WHERE what = 'webhook failed'), 4::bigint, 'all of them stand in attention');
SELECT is((deliver('{"id": "evt_20", "object": "event", "type": "customer.updated", "created": 1900000070, "livemode": false, "data": {"object": {"object": "customer", "id": "cus_1", "name": "A\u0000B"}}}')).status, 'applied', 'an escaped NUL character, which PostgreSQL cannot keep, is no obstacle');
SELECT is((deliver('{"id": "evt_21", "object": "event", "type": "customer.updated", "data": ' || repeat('[', 5000) || repeat(']', 5000) || '}')).status, 'failed', 'a body that is nested too deep is kept as failed');
UPDATE billing.settings SET value = '1000' WHERE name = 'max_webhook_size';
SELECT fails($$SELECT deliver(repeat(' ', 1001))$$, 'JB013', 'larger than 1000 bytes', 'max_webhook_size', 'a body that is too large is refused');
UPDATE billing.settings SET value = '1048576' WHERE name = 'max_webhook_size';
SELECT fails($$SELECT billing.replay_webhook('evt_none')$$, 'JB005', 'unknown webhook event "evt_none"', NULL, 'an unknown event cannot be replayed');
UPDATE billing.webhook_events SET raw_body = NULL WHERE event_id = 'evt_1';
SELECT fails($$SELECT billing.replay_webhook('evt_1')$$, 'JB008', 'no longer kept', NULL, 'nor one whose body is gone');

-- ---------------------------------------------------------------------------
-- An event that cannot be applied: its reason quotes nothing

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'ana@acme.example is not wanted'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON billing.provider_refs FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT is((deliver(event('evt_30', 'customer.updated', customer_object('cus_1', :'acme'), 80))).status, 'failed', 'an event that raises an error is kept as failed');
SELECT alike((SELECT reason FROM billing.webhook_events WHERE event_id = 'evt_30'), 'P0001: %', 'with the SQLSTATE');
SELECT unalike((SELECT reason FROM billing.webhook_events WHERE event_id = 'evt_30'), '%ana@%', 'and without the message');
DROP TRIGGER refuse ON billing.provider_refs;
SELECT is(billing.replay_webhook('evt_30'), 'applied', 'when the cause is gone it is applied');

-- ---------------------------------------------------------------------------
-- Tolerance, rotation, several accounts

UPDATE billing.settings SET value = '2 hours' WHERE name = 'webhook_tolerance';
SELECT ok(billing.verify_webhook('stripe', 'x', jsonb_build_object('Stripe-Signature', signature('x', at => now() - interval '119 minutes'))), 'the setting webhook_tolerance says how old is too old');
UPDATE billing.settings SET value = '300 seconds' WHERE name = 'webhook_tolerance';

SELECT billing.configure_provider('stripe', webhook_secret => 'whsec_second');
SELECT ok(billing.verify_webhook('stripe', 'x', jsonb_build_object('Stripe-Signature', signature('x', 'whsec_second'))), 'a new secret is right at once');
SELECT ok(billing.verify_webhook('stripe', 'x', jsonb_build_object('Stripe-Signature', signature('x', 'whsec_first'))), 'the one before it stays right');
UPDATE billing.provider_accounts SET previous_webhook_secret_until = now() - interval '1 second' WHERE provider = 'stripe' AND account = 'default';
SELECT ok(NOT billing.verify_webhook('stripe', 'x', jsonb_build_object('Stripe-Signature', signature('x', 'whsec_first'))), 'for a while');

SELECT is((SELECT status FROM billing.handle_webhook('stripe', event('evt_eu', 'product.created', '{"object": "product", "id": "prod_1"}'),
	jsonb_build_object('Stripe-Signature', signature(convert_to(event('evt_eu', 'product.created', '{"object": "product", "id": "prod_1"}'), 'UTF8'), 'whsec_europe')))) IS NOT NULL, true, 'without an account every one of the provider is tried');
SELECT is((SELECT account FROM billing.webhook_events WHERE event_id = 'evt_eu'), 'europe', 'the one whose secret verifies is that of the webhook');
SELECT ok(NOT billing.verify_webhook('stripe', 'x', jsonb_build_object('Stripe-Signature', signature('x', 'whsec_europe')), 'default'), 'with an account only that one is tried');

-- ---------------------------------------------------------------------------
-- What waits too long

SELECT billing.configure_provider('stripe', webhook_secret => 'whsec_first');
SELECT is((deliver(event('evt_lost', 'invoice.paid', '{"object": "invoice", "id": "in_lost", "status": "paid", "currency": "usd", "customer": "cus_lost"}', 90))).status, 'waiting', 'an invoice of nobody');
SELECT is((SELECT count(*) FROM billing.attention WHERE what = 'webhook waits' AND detail LIKE '%cus_lost%'), 0::bigint, 'a webhook that waits for its object is nobody''s business');
UPDATE billing.webhook_events SET received_at = now() - interval '61 minutes' WHERE event_id = 'evt_lost';
SELECT is((SELECT count(*) FROM billing.attention WHERE what = 'webhook waits' AND detail LIKE '%cus_lost%'), 1::bigint, 'for an hour');
UPDATE billing.settings SET value = '1 day' WHERE name = 'webhook_patience';
SELECT is((SELECT count(*) FROM billing.attention WHERE what = 'webhook waits' AND detail LIKE '%cus_lost%'), 0::bigint, 'or for as long as the setting says');

-- ---------------------------------------------------------------------------
-- Several objects in one event

SELECT is((deliver(event('evt_pi', 'payment_intent.succeeded', '{"object": "payment_intent", "id": "pi_1", "customer": "cus_1", "status": "succeeded", "amount": 900, "amount_received": 900, "currency": "usd", "latest_charge": "ch_1"}', 70))).status,
	'applied', 'a payment');
CREATE FUNCTION two_refunds(first text, second text, payment text) RETURNS jsonb
LANGUAGE sql
RETURN jsonb_build_object('object', 'charge', 'id', 'ch_1', 'payment_intent', 'pi_1', 'amount', 900, 'currency', 'usd', 'created', 1900000070, 'refunds', jsonb_build_object('data', jsonb_build_array(
	jsonb_build_object('object', 'refund', 'id', first, 'payment_intent', 'pi_1', 'amount', 100, 'currency', 'usd', 'status', 'succeeded', 'created', 1900000071),
	jsonb_build_object('object', 'refund', 'id', second, 'payment_intent', payment, 'amount', 100, 'currency', 'usd', 'status', 'succeeded', 'created', 1900000071))));
SELECT count(*) AS told FROM billing.events \gset
SELECT is((deliver(event('evt_too_long', 'charge.refunded', two_refunds('re_1', 're_2', 'pi_' || repeat('x', 300)), 72))).status, 'failed', 'an event that can never be applied fails');
SELECT is((SELECT reason FROM billing.webhook_events WHERE event_id = 'evt_too_long'), 'an id in it is too long', 'which says why');
SELECT is((SELECT count(*) FROM billing.refunds), 0::bigint, 'and what stands in it before is not applied either');
SELECT is((SELECT count(*) FROM billing.events), :told::bigint, 'or told to anybody');
SELECT is((deliver(event('evt_half', 'charge.refunded', two_refunds('re_1', 're_2', 'pi_later'), 72))).status, 'waiting', 'one that waits for an object');
SELECT results_eq('SELECT status, amount FROM billing.refunds', $$VALUES ('succeeded', 100::bigint)$$, 'has told what is known already');
SELECT deliver(event('evt_pi_later', 'payment_intent.succeeded', '{"object": "payment_intent", "id": "pi_later", "customer": "cus_1", "status": "succeeded", "amount": 900, "amount_received": 900, "currency": "usd"}', 70));
SELECT is(billing.replay_webhook('evt_half'), 'applied', 'it is applied when that is known');
SELECT is((SELECT count(*) FROM billing.refunds), 2::bigint, 'each once');

SELECT * FROM finish();

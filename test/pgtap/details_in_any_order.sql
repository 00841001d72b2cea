-- What charges, mandates and sums of refunds tell beside the state of a payment or a method: however the
-- webhooks are shuffled, the rows are the same in the end. The events are those of Stripe for an account
-- with a made-up key; nothing is sent.
\ir helpers.psql
CREATE EXTENSION pgcrypto;
SELECT plan(29);

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_first', base_url => 'http://127.0.0.1:9');
UPDATE billing.settings SET value = '1 hour' WHERE name IN ('retry_base', 'retry_cap');
SELECT billing.create_customer('acme', 'a@acme.example', provider => 'stripe') AS acme \gset
INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
VALUES ('customer', :'acme', 'stripe', 'default', 'cus_1', false, '2020-01-01');

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

CREATE FUNCTION intent(status text, more jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE sql
RETURN jsonb_build_object('object', 'payment_intent', 'id', 'pi_?', 'status', status, 'amount', 10000, 'currency', 'usd',
	'customer', 'cus_1', 'amount_received', CASE status WHEN 'succeeded' THEN 10000 ELSE 0 END) || more;

-- A charge that was tried so many seconds after the fixed time.
CREATE FUNCTION charge(id text, after integer, more jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE sql
RETURN jsonb_build_object('object', 'charge', 'id', id || '_?', 'payment_intent', 'pi_?', 'amount', 10000, 'amount_captured', 10000,
	'amount_refunded', 0, 'captured', true, 'currency', 'usd', 'created', 1900000000 + after) || more;

CREATE FUNCTION refund(id text, status text, amount integer, after integer) RETURNS jsonb
LANGUAGE sql
RETURN jsonb_build_object('object', 'refund', 'id', id || '_?', 'status', status, 'amount', amount, 'currency', 'usd', 'payment_intent', 'pi_?',
	'created', 1900000000 + after);

CREATE TABLE story (name text, line integer GENERATED ALWAYS AS IDENTITY, type text, object jsonb, after integer);
INSERT INTO story (name, type, object, after) VALUES
	-- one card is declined, another one pays
	('retried', 'payment_intent.payment_failed', intent('requires_payment_method', '{"latest_charge": "ch1_?", "last_payment_error": {"code": "card_declined"}}'), 10),
	('retried', 'charge.failed', charge('ch1', 9, '{"failure_code": "card_declined", "outcome": {"type": "issuer_declined", "reason": "lost_card"}, "payment_method_details": {"type": "card"}}'), 10),
	('retried', 'payment_intent.processing', intent('processing', '{"latest_charge": "ch2_?"}'), 20),
	('retried', 'charge.pending', charge('ch2', 19, '{"payment_method_details": {"type": "sepa_debit"}}'), 20),
	('retried', 'charge.succeeded', charge('ch2', 19, '{"payment_method_details": {"type": "sepa_debit"}, "receipt_url": "https://stripe.example/2"}'), 30),
	('retried', 'payment_intent.succeeded', intent('succeeded', '{"latest_charge": "ch2_?"}'), 30),
	('retried', 'charge.updated', charge('ch2', 19, '{"payment_method_details": {"type": "sepa_debit"}, "receipt_url": "https://stripe.example/2"}'), 32),
	-- declined, and that is all: only the charge tells why
	('declined', 'payment_intent.created', intent('requires_payment_method'), 1),
	('declined', 'payment_intent.payment_failed', intent('requires_payment_method', '{"latest_charge": "ch1_?", "last_payment_error": {"type": "card_error"}}'), 11),
	('declined', 'charge.failed', charge('ch1', 9, '{"failure_code": "card_declined", "outcome": {"type": "issuer_declined", "reason": "lost_card"}}'), 11),
	-- two refunds, the first one fails late, and each change tells the sum
	('refunded', 'payment_intent.succeeded', intent('succeeded', '{"latest_charge": "ch1_?"}'), 5),
	('refunded', 'refund.created', refund('re1', 'pending', 1000, 10), 10),
	('refunded', 'charge.refunded', charge('ch1', 4, '{"amount_refunded": 1000}'), 10),
	('refunded', 'refund.created', refund('re2', 'succeeded', 3000, 20), 20),
	('refunded', 'charge.refunded', charge('ch1', 4, '{"amount_refunded": 4000}'), 20),
	('refunded', 'refund.failed', refund('re1', 'failed', 1000, 10), 30),
	('refunded', 'charge.updated', charge('ch1', 4, '{"amount_refunded": 3000}'), 31),
	-- sums alone
	('summed', 'payment_intent.succeeded', intent('succeeded', '{"latest_charge": "ch1_?"}'), 5),
	('summed', 'charge.refunded', charge('ch1', 4, '{"amount_refunded": 1000}'), 10),
	('summed', 'charge.refunded', charge('ch1', 4, '{"amount_refunded": 4000}'), 20),
	('summed', 'charge.updated', charge('ch1', 4, '{"amount_refunded": 2500}'), 30),
	-- a refund that fails before its sum is told, which is that of another one
	('apart', 'payment_intent.succeeded', intent('succeeded', '{"latest_charge": "ch1_?"}'), 5),
	('apart', 'refund.created', refund('re1', 'pending', 1000, 10), 10),
	('apart', 'refund.failed', refund('re1', 'failed', 1000, 10), 20),
	('apart', 'charge.refunded', charge('ch1', 4, '{"amount_refunded": 3000}'), 30),
	('apart', 'refund.created', refund('re2', 'succeeded', 500, 40), 40),
	-- two attempts in one second, and the money comes back before anybody says that it arrived
	('hurried', 'payment_intent.payment_failed', intent('requires_payment_method', '{"latest_charge": "ch9_?", "last_payment_error": {"code": "card_declined"}}'), 10),
	('hurried', 'charge.failed', charge('ch9', 10, '{"status": "failed", "amount_captured": 0, "captured": false, "failure_code": "card_declined", "payment_method_details": {"type": "card"}}'), 10),
	('hurried', 'payment_intent.succeeded', intent('succeeded', '{"latest_charge": "ch2_?"}'), 10),
	('hurried', 'charge.refunded', charge('ch2', 10, '{"amount_refunded": 1000, "payment_method_details": {"type": "link"}, "receipt_url": "https://stripe.example/2"}'), 20),
	('hurried', 'charge.updated', charge('ch9', 10, '{"status": "failed", "failure_code": "card_declined", "payment_method_details": {"type": "card"}}'), 30),
	-- what tells nothing but the customer comes after the money: only the state is the money's
	('late', 'payment_intent.succeeded', intent('succeeded', '{"latest_charge": "ch1_?", "payment_method_types": ["card"], "amount_received": 9000}'), 10),
	('late', 'payment_intent.processing', intent('of_tomorrow', '{"payment_method_types": ["us_bank_account"], "amount_received": 9000, "metadata": {}}'), 20),
	-- a mandate comes and goes, the card's data change meanwhile
	('mandate', 'payment_method.attached', '{"object": "payment_method", "id": "pm_?", "customer": "cus_1", "type": "sepa_debit", "sepa_debit": {"last4": "3000"}}', 1),
	('mandate', 'mandate.updated', '{"object": "mandate", "id": "m1_?", "payment_method": "pm_?", "status": "active"}', 10),
	('mandate', 'mandate.updated', '{"object": "mandate", "id": "m1_?", "payment_method": "pm_?", "status": "inactive"}', 20),
	('mandate', 'payment_method.updated', '{"object": "payment_method", "id": "pm_?", "customer": "cus_1", "type": "sepa_debit", "sepa_debit": {"last4": "3001"}}', 30),
	('mandate', 'mandate.updated', '{"object": "mandate", "id": "m2_?", "payment_method": "pm_?", "status": "active"}', 20);

-- Tells a story in an order, of objects of its own; what waits is applied when all is told.
CREATE FUNCTION play(what text, run text, lines integer[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	s story;
	event text;
BEGIN
	FOR s IN SELECT t.* FROM story AS t WHERE t.name = what ORDER BY array_position(lines, t.line) LOOP
		PERFORM tell(format('evt_%s_%s', run, s.line), s.type, replace(s.object::text, '?', run)::jsonb, s.after);
	END LOOP;
	FOR s IN SELECT t.* FROM story AS t WHERE t.name = what ORDER BY array_position(lines, t.line) LOOP
		event := format('evt_%s_%s', run, s.line);
		IF (SELECT state FROM billing.webhook_events WHERE event_id = event) = 'waiting' THEN
			PERFORM billing.replay_webhook(event);
		END IF;
	END LOOP;
END
$$;

-- What the rows of a run say, without the names of the run.
CREATE FUNCTION outcome(run text) RETURNS text
LANGUAGE sql
RETURN replace(coalesce((SELECT jsonb_strip_nulls(jsonb_build_object('status', p.status, 'charges', p.charges, 'latest', c.provider_id, 'method', p.method,
		'receipt', billing.decrypt(p.receipt_url, 'payment_intents.receipt_url', p.id), 'error', p.error_code, 'decline', p.decline_code,
		'received', p.amount_received, 'refunded', p.amount_refunded, 'elsewhere', p.refunded_elsewhere))::text
	FROM billing.payment_intents AS p JOIN billing.provider_refs AS r ON r.object_id = p.id AND r.object_type = 'payment_intent'
	LEFT JOIN billing.provider_refs AS c ON c.object_id = p.id AND c.object_type = 'charge' WHERE r.provider_id = 'pi_' || run),
	(SELECT concat_ws(' ', m.state, m.last4, m.error_code) FROM billing.payment_methods AS m
	JOIN billing.provider_refs AS r ON r.object_id = m.id AND r.object_type = 'payment_method' WHERE r.provider_id = 'pm_' || run)), run, '?');

CREATE FUNCTION lines_of(what text) RETURNS integer[]
LANGUAGE sql
RETURN (SELECT array_agg(s.line ORDER BY s.line) FROM story AS s WHERE s.name = what);

-- The outcomes of so many shuffled runs; more than one is too many.
CREATE FUNCTION outcomes(what text, runs integer) RETURNS SETOF text
LANGUAGE plpgsql
AS $$
BEGIN
	FOR i IN 1 .. runs LOOP
		PERFORM play(what, format('%s%s', what, i), (SELECT array_agg(l ORDER BY random()) FROM unnest(lines_of(what)) AS l));
	END LOOP;
	RETURN QUERY SELECT DISTINCT outcome(format('%s%s', what, i)) FROM generate_series(1, runs) AS i;
END
$$;

SELECT floor(random() * 1000000)::integer AS seed \gset
\if :{?SEED}
\set seed :SEED
\endif
SELECT diag('seed ' || :seed);
SELECT setseed(:seed / 1000000.0);

SELECT play(s.name, s.name || 0, lines_of(s.name)) FROM (SELECT DISTINCT name FROM story) AS s;

SELECT is(outcome('retried0')::jsonb, '{"status": "succeeded", "charges": ["ch1_?", "ch2_?"], "latest": "ch2_?", "method": "sepa_debit", "receipt": "https://stripe.example/2", "received": 10000, "refunded": 0, "elsewhere": 0}', 'a payment that was tried twice is that of the second charge');
SELECT is(outcome('declined0')::jsonb, '{"status": "failed", "charges": ["ch1_?"], "latest": "ch1_?", "error": "card_declined", "decline": "lost_card", "received": 0, "refunded": 0, "elsewhere": 0}', 'a charge tells why it was declined');
SELECT is(outcome('refunded0')::jsonb - 'charges' - 'latest' - 'received', '{"status": "partially_refunded", "refunded": 3000, "elsewhere": 0}', 'sums and refunds are not counted twice');
SELECT is(outcome('summed0')::jsonb - 'charges' - 'latest' - 'received', '{"status": "partially_refunded", "refunded": 2500, "elsewhere": 2500}', 'the newest sum counts');
SELECT is(outcome('apart0')::jsonb - 'charges' - 'latest' - 'received', '{"status": "partially_refunded", "refunded": 3500, "elsewhere": 3000}', 'a refund that had failed before is not in the sum, nor is one that came after it');
SELECT is(outcome('hurried0')::jsonb, '{"status": "partially_refunded", "charges": ["ch2_?", "ch9_?"], "latest": "ch2_?", "method": "link", "receipt": "https://stripe.example/2", "received": 10000, "refunded": 1000, "elsewhere": 1000}', 'of two attempts in one second the one that took the money tells the details');
SELECT is(outcome('late0')::jsonb, '{"status": "succeeded", "charges": ["ch1_?"], "latest": "ch1_?", "method": "us_bank_account", "received": 9000, "refunded": 0, "elsewhere": 0}', 'what is told later of a payment stays');
SELECT is(outcome('mandate0'), 'failed 3001 mandate_inactive', 'a method whose mandate is inactive is failed, whatever else is told of it');

SELECT results_eq(format('SELECT outcomes(%L, 60)', name), format('SELECT outcome(%L)', name || 0), name || ' in any order')
FROM (SELECT name FROM story GROUP BY name ORDER BY min(line)) AS s;

-- again: no row changes
CREATE TEMPORARY TABLE before AS SELECT p FROM billing.payment_intents AS p;
SELECT count(billing.replay_webhook(e.event_id)) FROM billing.webhook_events AS e;
SELECT is((SELECT count(*) FROM before AS b JOIN billing.payment_intents AS p ON p.id = (b.p).id
	WHERE to_jsonb(p) - 'updated_at' - 'receipt_url' IS DISTINCT FROM to_jsonb(b.p) - 'updated_at' - 'receipt_url'), 0::bigint, 'replaying all of it changes nothing');
SELECT is((SELECT count(*) FROM billing.webhook_events WHERE state IN ('failed', 'waiting')), 0::bigint, 'and nothing is left over');

-- a charge that was only held, or captured in part: what is let go is no refund
SELECT tell('evt_held', 'payment_intent.canceled', replace(intent('canceled')::text, '?', 'held')::jsonb, 50);
SELECT tell('evt_released', 'charge.refunded', replace(charge('ch1', 40, '{"captured": false, "amount_captured": 0, "amount_refunded": 10000, "refunded": true}')::text, '?', 'held')::jsonb, 50);
SELECT is(outcome('held')::jsonb ->> 'elsewhere', '0', 'an authorisation that is released is no refund');
SELECT tell('evt_part', 'payment_intent.succeeded', replace(intent('succeeded', '{"amount_received": 4000}')::text, '?', 'part')::jsonb, 60);
SELECT tell('evt_rest', 'charge.captured', replace(charge('ch1', 55, '{"amount_captured": 4000, "amount_refunded": 6000}')::text, '?', 'part')::jsonb, 60);
SELECT is(outcome('part')::jsonb ->> 'status', 'succeeded', 'nor is what was not captured');

-- a charge that does not say when it was tried
SELECT tell('evt_undated_paid', 'payment_intent.succeeded', replace(intent('succeeded')::text, '?', 'undated')::jsonb, 70);
SELECT tell('evt_undated', 'charge.refunded', replace((charge('ch1', 0, '{"amount_refunded": 700, "receipt_url": "https://stripe.example/1"}') - 'created')::text, '?', 'undated')::jsonb, 80);
SELECT is((SELECT state FROM billing.webhook_events WHERE event_id = 'evt_undated'), 'applied', 'a charge without a time is read');
SELECT is(outcome('undated')::jsonb, '{"status": "partially_refunded", "charges": ["ch1_?"], "received": 10000, "refunded": 700, "elsewhere": 700}', 'as an attempt, and with its sum');

-- the default method is named before it is known, then none is
SELECT tell('evt_first', 'payment_method.attached', '{"object": "payment_method", "id": "pm_first", "customer": "cus_1", "type": "card", "card": {"last4": "1111"}}', 90);
SELECT tell('evt_named_first', 'customer.updated', '{"object": "customer", "id": "cus_1", "invoice_settings": {"default_payment_method": "pm_first"}}', 91);
CREATE FUNCTION defaults() RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(m.last4, ' ') FROM billing.payment_methods AS m WHERE m.is_default);
SELECT is(defaults(), '1111', 'a customer names his default method');
SELECT tell('evt_named_second', 'customer.updated', '{"object": "customer", "id": "cus_1", "invoice_settings": {"default_payment_method": "pm_second"}}', 93);
SELECT is(defaults(), NULL, 'the one before is none while another one is not known yet');
SELECT tell('evt_second', 'payment_method.attached', '{"object": "payment_method", "id": "pm_second", "customer": "cus_1", "type": "card", "card": {"last4": "2222"}}', 92);
SELECT is(defaults(), '2222', 'which is the default when it appears');
SELECT is((SELECT count(*) FROM billing.waiting_links), 0::bigint, 'and nothing waits any more');
SELECT tell('evt_none', 'customer.updated', '{"object": "customer", "id": "cus_1", "invoice_settings": {"default_payment_method": null}}', 94);
SELECT is(defaults(), NULL, 'none is the default when the provider says so');

-- an unusable method
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 100, 'USD', payment_method => %L)$$, :'acme',
	(SELECT object_id FROM billing.provider_refs WHERE provider_id = 'pm_mandate0')), 'JB008', 'is failed', 'Pass another one', 'cannot be charged');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

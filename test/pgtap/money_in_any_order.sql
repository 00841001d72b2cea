-- News of payments for an invoice of ours, in any order: the same invoice, balance and ledger. The
-- webhooks are Stripe's, for an account with a made-up key; nothing is sent.
\ir helpers.psql
\ir billing_helpers.psql
CREATE EXTENSION pgcrypto;
SELECT plan(12);

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_first', base_url => 'http://127.0.0.1:9');
UPDATE billing.settings SET value = '1 hour' WHERE name IN ('retry_base', 'retry_cap');

-- Two payments of an invoice of 100.00 that were asked for one after the other: pi_a_<n> and pi_b_<n>.
CREATE PROCEDURE invoice_of(n text)
LANGUAGE plpgsql AS $$
DECLARE
	customer uuid := billing.create_customer(n, n || '@acme.example', provider => 'stripe');
	billed uuid := bill(n, 10000);
BEGIN
	UPDATE billing.invoices SET next_attempt_at = NULL WHERE id = billed;
	WITH p AS (
		INSERT INTO billing.payment_intents (id, customer_id, organization_id, provider, account, livemode, status, amount, currency, invoice_id)
		SELECT billing.new_id(), customer, n, 'stripe', 'default', false, 'processing', 10000, 'USD', billed FROM generate_series(1, 2)
		RETURNING id),
	o AS (SELECT p.id, row_number() OVER (ORDER BY p.id) AS r FROM p)
	INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
	SELECT 'payment_intent', o.id, 'stripe', 'default', CASE o.r WHEN 1 THEN 'pi_a_' ELSE 'pi_b_' END || n, false, timestamptz '2020-01-01' FROM o
	UNION ALL
	SELECT 'customer', customer, 'stripe', 'default', 'cus_' || n, false, '2020-01-01';
END
$$;

-- The news of the story, in the order in which they happened, a day between them.
CREATE TABLE story (at integer PRIMARY KEY, type text, object jsonb);
INSERT INTO story VALUES
	(1, 'payment_intent.payment_failed', '{"object": "payment_intent", "id": "pi_a_", "status": "requires_payment_method", "amount": 10000, "currency": "usd", "last_payment_error": {"code": "card_declined"}}'),
	(2, 'payment_intent.succeeded', '{"object": "payment_intent", "id": "pi_b_", "status": "succeeded", "amount": 10000, "amount_received": 10000, "currency": "usd", "latest_charge": "ch_b_"}'),
	(3, 'payment_intent.succeeded', '{"object": "payment_intent", "id": "pi_a_", "status": "succeeded", "amount": 10000, "amount_received": 10000, "currency": "usd", "latest_charge": "ch_a_"}'),
	(4, 'refund.updated', '{"object": "refund", "id": "re_", "status": "succeeded", "amount": 4000, "currency": "usd", "payment_intent": "pi_b_"}'),
	(5, 'charge.dispute.funds_withdrawn', '{"object": "dispute", "id": "dp_", "status": "needs_response", "amount": 10000, "currency": "usd", "payment_intent": "pi_a_", "charge": "ch_a_"}'),
	(6, 'refund.failed', '{"object": "refund", "id": "re_", "status": "failed", "amount": 4000, "currency": "usd", "payment_intent": "pi_b_"}'),
	(7, 'charge.dispute.funds_reinstated', '{"object": "dispute", "id": "dp_", "status": "won", "amount": 10000, "currency": "usd", "payment_intent": "pi_a_", "charge": "ch_a_"}');

CREATE FUNCTION tell(n text, step integer) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	body text := (SELECT jsonb_build_object('id', format('evt_%s_%s', n, s.at), 'object', 'event', 'created', 1900000000 + s.at * 86400, 'livemode', false, 'type', s.type,
		'data', jsonb_build_object('object', (regexp_replace(s.object::text, '"(pi_a|pi_b|ch_a|ch_b|re|dp)_"', '"\1_' || n || '"', 'g'))::jsonb
			|| jsonb_build_object('customer', 'cus_' || n))) FROM story AS s WHERE s.at = step);
	at text := floor(extract(epoch FROM now()))::text;
BEGIN
	RETURN (SELECT e.status FROM billing.handle_webhook('stripe', body, jsonb_build_object('Stripe-Signature',
		format('t=%s,v1=%s', at, encode(hmac(at || '.' || body, 'whsec_first', 'sha256'), 'hex')))) AS e);
END
$$;

-- What has become of it: invoice, payments and their shares, balance, ledger.
CREATE FUNCTION became(n text) RETURNS text
LANGUAGE sql
RETURN concat_ws(E'\n', (SELECT concat_ws(' ', 'invoice', i.status, i.amount_paid, i.amount_remaining) FROM billing.invoices AS i WHERE i.organization_id = n),
	(SELECT string_agg(concat_ws(' ', 'payment', left(r.provider_id, 4), p.status, p.amount_received, p.amount_refunded, k.amount, k.credited, k.withdrawn), E'\n' ORDER BY r.provider_id)
	 FROM billing.payment_intents AS p JOIN billing.provider_refs AS r ON r.object_id = p.id AND r.provider_id LIKE 'pi%' LEFT JOIN billing.invoice_payments AS k ON k.payment_intent_id = p.id
	 WHERE p.organization_id = n),
	(SELECT 'balance ' || b.balance FROM billing.customer_balances AS b WHERE b.organization_id = n),
	(SELECT string_agg(concat_ws(' ', s.account, s.amount), E'\n' ORDER BY s.account) FROM (SELECT s.account, sum(s.amount) AS amount FROM billing.ledger_sides AS s
	 WHERE s.organization_id = n GROUP BY s.account HAVING sum(s.amount) <> 0) AS s));

-- Each order of these steps, every how-manyth of all: their number, and how many ends there were.
CREATE FUNCTION ends(name text, steps integer[], every integer, OUT orders bigint, OUT ends bigint, OUT one text)
LANGUAGE plpgsql AS $$
DECLARE
	o record;
BEGIN
	FOR o IN
		WITH RECURSIVE p AS (
			SELECT ARRAY[]::integer[] AS done
			UNION ALL
			SELECT p.done || s FROM p CROSS JOIN unnest(steps) AS s WHERE s <> ALL (p.done))
		SELECT q.done, format('%s%s', name, q.n) AS org FROM (SELECT p.done, row_number() OVER (ORDER BY p.done) AS n FROM p WHERE cardinality(p.done) = cardinality(steps)) AS q
		WHERE q.n % every = 1 % every
	LOOP
		CALL invoice_of(o.org);
		PERFORM tell(o.org, s) FROM unnest(o.done) WITH ORDINALITY AS u (s, n) ORDER BY u.n;
		-- what waited for something that was told later
		PERFORM billing.replay_webhook(e.event_id) FROM billing.webhook_events AS e WHERE e.state = 'waiting' ORDER BY e.event_id;
		INSERT INTO reached VALUES (name, o.org, o.done, became(o.org));
	END LOOP;
	SELECT count(*), count(DISTINCT r.became), min(r.became) INTO orders, ends.ends, one FROM reached AS r WHERE r.story = name;
END
$$;
CREATE TABLE reached (story text, organization text, steps integer[], became text);

SELECT orders, ends, one FROM ends('late', '{1,2,3}', 1) \gset
SELECT is(:orders || ' ' || :ends::text, '6 1', 'an attempt that failed and succeeded late, beside another one');
SELECT is(:'one'::text, E'invoice paid 10000 0\npayment pi_a succeeded 10000 0 0 10000 0\npayment pi_b succeeded 10000 0 10000 0 0\nbalance 10000\ncash 20000\ncustomer_balance -10000\nrevenue -10000',
	'who paid first has paid, what came late is the customer''s');
SELECT orders, ends, one FROM ends('back', '{2,3,4}', 1) \gset
SELECT is(:orders || ' ' || :ends::text, '6 1', 'a refund of what had paid it');
SELECT is(:'one'::text, E'invoice paid 10000 0\npayment pi_a succeeded 10000 0 4000 6000 0\npayment pi_b partially_refunded 10000 4000 6000 0 0\nbalance 6000\ncash 16000\ncustomer_balance -6000\nrevenue -10000',
	'is made up for by the other one');
SELECT orders, ends, one FROM ends('gone', '{2,3,5}', 1) \gset
SELECT is(:orders || ' ' || :ends::text, '6 1', 'a dispute of what was too much');
SELECT is(:'one'::text, E'invoice paid 10000 0\npayment pi_a succeeded 10000 0 0 10000 10000\npayment pi_b succeeded 10000 0 10000 0 0\nbalance 0\ncash 10000\nrevenue -10000',
	'takes it back from the balance');
SELECT orders, ends, one FROM ends('lost', '{3,5}', 1) \gset
SELECT is(:orders || ' ' || :ends::text, '2 1', 'a dispute of what had paid it');
SELECT is(:'one'::text, E'invoice paid 10000 0\npayment pi_a succeeded 10000 0 10000 0 0\npayment pi_b processing 0 0\ndisputes 10000\nrevenue -10000',
	'is a loss: the invoice stays paid');
SELECT orders, ends, one FROM ends('all', '{1,2,3,4,5,6,7}', 41) \gset
SELECT is(:orders || ' ' || :ends::text, '123 1', 'refund and dispute, and both undone');
SELECT is(:'one'::text, E'invoice paid 10000 0\npayment pi_a succeeded 10000 0 0 10000 0\npayment pi_b succeeded 10000 0 10000 0 0\nbalance 10000\ncash 20000\ncustomer_balance -10000\nrevenue -10000',
	'end as if neither had been');
SELECT is_empty($$SELECT r.story, r.steps, r.became FROM reached AS r WHERE r.became <> (SELECT o.became FROM reached AS o WHERE o.story = r.story ORDER BY o.steps LIMIT 1) LIMIT 5$$,
	'no order is another one''s end');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

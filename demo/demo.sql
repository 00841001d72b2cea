-- The story of janua_billing, told by queries: `make demo` plays this file in a
-- throw-away server. Lines between :check and :story are not shown; they stop
-- the demo when something is not as it is told here.

\set check '\\set ECHO none \\\\ \\set QUIET on'
\set story '\\set QUIET off \\\\ \\set ECHO queries'
:check
\pset footer off
\pset null '-'
SET TIME ZONE 'UTC';
SET client_min_messages = warning;

CREATE FUNCTION pg_temp.expect(what text, holds boolean) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	IF holds IS NOT TRUE THEN
		RAISE EXCEPTION 'the demo expected: %', what;
	END IF;
END
$$;

\echo
\echo '======================================================================='
\echo ' janua_billing: billing behind SQL, inside PostgreSQL'
\echo '======================================================================='
\echo 'Everything below is a real query and its real result. The provider is'
\echo 'the embedded sandbox: no network, no key, no account is needed.'

\echo
\echo '--- 1. One extension, and plans to begin with -------------------------'
\echo
:story
CREATE EXTENSION janua_billing;

SELECT plan, amount, currency, features->'users' AS users, features->'api_calls' AS api_calls,
       features->'sso' AS sso
FROM billing.get_plans();
:check
\echo 'Amounts are in minor units (2900 is USD 29.00), -1 is unlimited, and the'
\echo 'price of enterprise is agreed with each customer.'
SELECT pg_temp.expect('three plans, pro at 2900', count(*) = 3 AND bool_or(plan = 'pro' AND amount = 2900))
FROM billing.get_plans() \gset

\echo
\echo '--- 2. A customer: a billing change is part of your transaction -------'
\echo
:story
BEGIN;

SELECT billing.create_customer('acme', email => 'ana@acme.example', name => 'Acme GmbH',
                               country => 'DE') AS acme \gset

SELECT operation, state, waiting_for FROM billing.outbox_status;
:check
\echo 'The request to the provider is a row, written in the same transaction.'
\echo 'Until the commit nobody else sees it and nothing is sent.'
SELECT pg_temp.expect('one queued request before the commit', count(*) = 1 AND bool_and(state = 'queued'))
FROM billing.outbox \gset
\echo
:story
COMMIT;

SELECT billing.await(:'acme');

SELECT operation, state, attempts,
       round(extract(epoch FROM finished_at - created_at) * 1000) AS milliseconds
FROM billing.outbox_finished;
:check
\echo 'The commit woke the background worker, which sent it. await() waited for'
\echo 'that; an application seldom needs to.'
SELECT pg_temp.expect('the request was sent after the commit',
	(SELECT count(*) FROM billing.outbox) = 0
	AND (SELECT count(*) FROM billing.outbox_finished WHERE operation = 'customer.create' AND state = 'done') = 1) \gset
\echo
\echo 'Now the same, but the transaction rolls back:'
\echo
:story
BEGIN;

SELECT billing.create_customer('ghost', email => 'ghost@nowhere.example') AS ghost \gset

ROLLBACK;

CALL billing.run_worker();

SELECT billing.find_customer('ghost') AS ghost, (SELECT count(*) FROM billing.outbox) AS queued,
       (SELECT count(*) FROM billing.outbox_finished) AS sent;
:check
\echo 'Nothing is left of it, and nothing was sent.'
SELECT pg_temp.expect('a rolled-back customer is not sent',
	billing.find_customer('ghost') IS NULL
	AND (SELECT count(*) FROM billing.outbox) = 0 AND (SELECT count(*) FROM billing.outbox_finished) = 1) \gset

\echo
\echo '--- 3. Personal data is encrypted -------------------------------------'
\echo
:story
SELECT left(email::text, 40) || '...' AS email, left(name::text, 40) || '...' AS name, country
FROM billing.customers;

SELECT organization_id, email, name, country FROM billing.customer_details;
:check
\echo 'The table (and every dump of it) holds AES-256-GCM; the view decrypts for'
\echo 'those who may read it. The key is in a file outside the database.'
SELECT pg_temp.expect('no clear text in the table',
	position('ana@acme.example'::bytea IN email) = 0 AND position('Acme'::bytea IN name) = 0)
FROM billing.customers \gset
SELECT pg_temp.expect('the view decrypts', email = 'ana@acme.example' AND name = 'Acme GmbH')
FROM billing.customer_details \gset

\echo
\echo '--- 4. A subscription with a trial ------------------------------------'
\echo
:story
SELECT billing.subscribe('acme', 'pro', payment_method => 'pm_card_visa', trial_days => 14) AS sub \gset

SELECT plan, status, trial_end::date, amount, currency, "interval"
FROM billing.get_subscription(:'sub');

CALL billing.run_worker();

SELECT type, brand, last4, is_default, state FROM billing.list_payment_methods(:'acme');
:check
\echo 'The engine in the database bills it, so it is there at once; the provider is'
\echo 'asked for the card. pm_card_visa is a test token: the database never sees a'
\echo 'card number.'
SELECT pg_temp.expect('acme is in its trial of 14 days',
	status = 'trialing' AND trial_end - trial_start = interval '14 days')
FROM billing.get_subscription(:'sub') \gset

\echo
\echo '--- 5. What the worker has done ---------------------------------------'
\echo
:story
SELECT operation, state, attempts, error_code FROM billing.outbox_finished ORDER BY seq;

SELECT type, state FROM billing.webhook_status ORDER BY received_at, event_id;

SELECT running, queued, sending, dead, last_error FROM billing.worker_status;
:check
\echo 'The requests of one customer go out one after the other, in the order in'
\echo 'which they were made. The sandbox answered by webhooks, signed like those'
\echo 'of a real provider, and they came in by the same door.'
SELECT pg_temp.expect('two requests in their order',
	array_agg(operation ORDER BY seq) = '{customer.create,payment_method.attach}')
FROM billing.outbox_finished \gset
SELECT pg_temp.expect('all webhooks are applied', count(*) >= 3 AND bool_and(state = 'applied'))
FROM billing.webhook_status \gset
SELECT pg_temp.expect('the worker runs and has nothing left', running AND queued = 0 AND dead = 0 AND last_error IS NULL)
FROM billing.worker_status \gset

\echo
\echo '--- 6. Usage ----------------------------------------------------------'
\echo
:story
SELECT billing.record_usage('acme', 'api_calls', 1200, idempotency_key => 'batch-1') AS first,
       billing.record_usage('acme', 'api_calls', 1200, idempotency_key => 'batch-1') AS again,
       billing.record_usage('acme', 'api_calls', 300) AS more;

SELECT billing.record_usage('acme', 'users', 7) AS users;

SELECT metric, quantity, "limit", remaining, percentage
FROM billing.usage_summary('acme')
WHERE quantity > 0
ORDER BY metric;
:check
\echo 'The same idempotency key counts once (f: it was counted before).'
SELECT pg_temp.expect('1500 calls of 100000', quantity = 1500 AND "limit" = 100000 AND percentage = 1.5)
FROM billing.usage_summary('acme') WHERE metric = 'api_calls' \gset

\echo
\echo '--- 7. Your own table of organisations --------------------------------'
\echo
:story
CREATE TABLE organizations (id text PRIMARY KEY, name text, email text, country text);

INSERT INTO organizations VALUES ('acme', 'Acme GmbH', 'ana@acme.example', 'DE');

SELECT billing.attach_organizations('organizations', email_column => 'email', name_column => 'name',
                                    country_column => 'country');

INSERT INTO organizations VALUES ('globex', 'Globex', 'hank@globex.example', 'US'),
                                 ('initech', 'Initech', 'bill@initech.example', 'US');

UPDATE organizations SET email = 'billing@globex.example' WHERE id = 'globex';

SELECT organization_id, email, country FROM billing.customer_details ORDER BY organization_id;
:check
\echo 'From now on an insert makes the customer, an update changes it, a delete'
\echo 'ends it, each in the transaction of your own statement.'
SELECT pg_temp.expect('triggers made and changed customers',
	array_agg(organization_id ORDER BY organization_id) = '{acme,globex,initech}'
	AND bool_or(organization_id = 'globex' AND email = 'billing@globex.example'))
FROM billing.customer_details \gset
\echo
\echo 'Who may use single sign-on? An entitlement is a plain predicate:'
\echo
:story
SELECT id, name, billing.feature_limit(id, 'users') AS users
FROM organizations
WHERE billing.has_feature(id, 'sso');
:check
\echo 'The others have no subscription and so the free plan, which has no sso.'
SELECT pg_temp.expect('only acme has sso', array_agg(id) = '{acme}')
FROM organizations WHERE billing.has_feature(id, 'sso') \gset

\echo
\echo '--- 8. Cards: a number is refused, a bad card is declined -------------'
\echo
:story
\set ON_ERROR_STOP off
SELECT billing.subscribe('globex', 'pro', payment_method => '4242 4242 4242 4242');
\set ON_ERROR_STOP on
:check
SELECT pg_temp.expect('a card number is JB009', :'SQLSTATE' = 'JB009') \gset
\echo
\echo 'SQLSTATE JB009: a raw card number is refused and kept out of the log.'
\echo 'A token of a card that the bank declines:'
\echo
:story
SELECT billing.subscribe('globex', 'pro', payment_method => 'pm_card_chargeDeclined') AS declined \gset

SELECT billing.await(:'declined');

SELECT s.status, m.state AS card, m.error_code AS card_error,
       billing.has_feature('globex', 'sso') AS sso
FROM billing.get_subscription(:'declined') AS s
CROSS JOIN billing.list_payment_methods(s.customer_id) AS m;
:check
\echo 'The call succeeded, the card did not: nothing was sold, and nothing is'
\echo 'stuck. Globex comes back with another card, which will fail later on:'
SELECT pg_temp.expect('a declined card sells nothing',
	s.status IN ('incomplete', 'incomplete_expired', 'canceled')
	AND NOT billing.has_feature('globex', 'sso'))
FROM billing.get_subscription(:'declined') AS s \gset
SELECT pg_temp.expect('the card says why', state = 'failed' AND error_code = 'card_declined')
FROM billing.list_payment_methods(billing.find_customer('globex')) \gset
\echo
:story
SELECT billing.subscribe('globex', 'pro', payment_method => 'pm_card_chargeCustomerFail',
                         trial_days => 14) AS globex_sub \gset

SELECT billing.await(:'globex_sub');
:check
SELECT pg_temp.expect('globex is in its trial', status = 'trialing') FROM billing.get_subscription(:'globex_sub') \gset

\echo
\echo '--- 9. A month and a half passes --------------------------------------'
\echo
:story
CALL billing.advance_clock('acme', '1 month 15 days');

CALL billing.advance_clock('globex', '15 days');

SELECT organization_id, status, current_period_start::date AS period_start,
       current_period_end::date AS period_end
FROM billing.subscription_details
WHERE id IN (:'sub', :'globex_sub')
ORDER BY organization_id;

SELECT number, organization_id, status, total, period_start::date, period_end::date, attempt_count AS attempts
FROM billing.invoice_details
ORDER BY organization_id, issued_at;
:check
\echo 'The test clock of each organisation moved on, and everything due on the'
\echo 'way was played: Acme''s trial ended, it paid, and a month later the'
\echo 'renewal; Globex''s first charge was declined, and the next ones are planned.'
\echo 'What needs a person:'
\echo
:story
SELECT severity, what, organization_id, detail FROM billing.attention;
:check
SELECT pg_temp.expect('acme renewed', status = 'active') FROM billing.get_subscription(:'sub') \gset
SELECT pg_temp.expect('the first month and the renewal are paid',
	count(*) = 2 AND bool_and(status = 'paid') AND sum(total) = 5800)
FROM billing.list_invoices('acme') \gset
SELECT pg_temp.expect('globex is past due', status = 'past_due') FROM billing.get_subscription(:'globex_sub') \gset
SELECT pg_temp.expect('attention shows it', count(*) = 1 AND bool_and(object_id = :'globex_sub'))
FROM billing.attention \gset

\echo
\echo '--- 10. Seats, usage and a change: the engine -------------------------'
\echo
:story
SELECT billing.create_plan('crew', 'Crew', 2000, 'USD') IS NOT NULL AS plan,
       billing.create_price('crew', 500, 'USD', component => 'seats') IS NOT NULL AS seats,
       billing.create_price('crew', currency => 'USD', component => 'calls', metric => 'api_calls', model => 'graduated',
                            tiers => '[{"up_to": 1000, "unit_amount": 0}, {"unit_amount": 0.5}]') IS NOT NULL AS calls,
       billing.set_tax_rate('DE', 19, 'VAT') IS NOT NULL AS tax;

INSERT INTO organizations VALUES ('hooli', 'Hooli', 'gavin@hooli.example', 'DE');

SELECT billing.subscribe('hooli', 'crew', payment_method => 'pm_card_visa', quantity => 3) AS hooli \gset

SELECT billing.await(:'hooli');

SELECT billing.record_usage('hooli', 'api_calls', 5000);

SELECT kind, description, quantity, unit_amount, amount, total FROM billing.preview_invoice(:'hooli');
:check
\echo 'That is what the next invoice will say. Four more people, from now on, and'
\echo 'the month ends:'
SELECT pg_temp.expect('hooli has paid', status = 'active') FROM billing.get_subscription(:'hooli') \gset
\echo
:story
SELECT billing.update_subscription(:'hooli', quantity => 7, proration_behavior => 'always_invoice');

CALL billing.advance_clock('hooli', '1 month 2 hours');

SELECT number, status, billing_reason AS reason, subtotal, tax, total FROM billing.list_invoices('hooli');

SELECT position, description, quantity, unit_amount, amount
FROM billing.list_invoices('hooli') AS i, billing.invoice_lines_of(i.id)
WHERE billing_reason = 'subscription_cycle';

SELECT account, balance FROM billing.ledger_balances WHERE balance <> 0 ORDER BY account;

SELECT count(*) AS imbalance FROM billing.ledger_imbalance;
:check
\echo 'billing.invoice_html() makes a page of an invoice that prints well.'
SELECT pg_temp.expect('three invoices, all paid', count(*) = 3 AND bool_and(status = 'paid')) FROM billing.list_invoices('hooli') \gset
SELECT pg_temp.expect('base, seven seats, usage and tax', sum(amount) = (2000 + 7 * 500 + 2000) * 1.19)
FROM billing.list_invoices('hooli') AS i, billing.invoice_lines_of(i.id) WHERE billing_reason = 'subscription_cycle' \gset
SELECT pg_temp.expect('the ledger agrees', count(*) = 0) FROM billing.ledger_imbalance \gset

\echo
\echo '--- 11. Webhooks from outside -----------------------------------------'
\echo 'What your web handler does: pass body and headers on, unchanged. Here we'
\echo 'play Stripe, with a made-up test key and secret. The address is a closed'
\echo 'port of this machine; nothing is sent anyway. Initech''s subscription was'
\echo 'made in Stripe''s dashboard, and the first that we hear of it is this:'
\echo
:story
UPDATE billing.settings SET value = 'sandbox' WHERE name = 'default_provider';

SELECT billing.configure_provider('stripe', secret_key => 'sk_test_made_up',
                                  webhook_secret => 'whsec_made_up', base_url => 'http://127.0.0.1:9');

SELECT billing.link_price(id, 'stripe', 'price_of_pro') FROM billing.prices WHERE amount = 2900;
:check
CREATE EXTENSION pgcrypto;

-- What Stripe puts into the header Stripe-Signature.
CREATE FUNCTION pg_temp.headers(payload text, signed_at timestamptz DEFAULT now()) RETURNS jsonb
LANGUAGE sql AS $$
	SELECT jsonb_build_object('Stripe-Signature', format('t=%s,v1=%s', t,
		encode(hmac(t || '.' || payload, 'whsec_made_up', 'sha256'), 'hex')))
	FROM floor(extract(epoch FROM signed_at)) AS t
$$;

CREATE FUNCTION pg_temp.event(id text, type text, object jsonb) RETURNS text
LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'object', 'event', 'type', type, 'livemode', false,
		'created', floor(extract(epoch FROM now())), 'data', jsonb_build_object('object', object))::text
$$;

-- What arrives at the web handler: body and headers.
CREATE TEMPORARY TABLE request (name text PRIMARY KEY, body text, headers jsonb);
INSERT INTO request (name, body)
SELECT 'subscription', pg_temp.event('evt_1', 'customer.subscription.created', jsonb_build_object(
		'id', 'sub_made_up', 'object', 'subscription', 'status', 'active', 'customer', 'cus_made_up',
		'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object(
			'id', 'si_made_up', 'price', jsonb_build_object('id', 'price_of_pro'), 'quantity', 1,
			'current_period_start', floor(extract(epoch FROM now())),
			'current_period_end', floor(extract(epoch FROM now() + interval '1 month')))))))
UNION ALL
SELECT 'customer', pg_temp.event('evt_2', 'customer.created', jsonb_build_object(
		'id', 'cus_made_up', 'object', 'customer', 'email', 'bill@initech.example',
		'metadata', jsonb_build_object('janua_ref', billing.find_customer('initech'))));
UPDATE request SET headers = pg_temp.headers(body);
INSERT INTO request
SELECT 'forged', replace(body, '"quantity": 1', '"quantity": 100'), headers
FROM request WHERE name = 'subscription';
INSERT INTO request
SELECT 'old', body, pg_temp.headers(body, now() - interval '10 minutes')
FROM request WHERE name = 'subscription';
SELECT pg_temp.expect('the forged body is another one', count(DISTINCT body) = 2)
FROM request WHERE name IN ('subscription', 'forged') \gset
\echo
:story
SELECT left(body, 62) || '...' AS body, left(headers::text, 62) || '...' AS headers
FROM request WHERE name = 'subscription' \gx

SELECT h.*
FROM request, billing.handle_webhook('stripe', body, headers) AS h
WHERE name = 'subscription';
:check
SELECT pg_temp.expect('the subscription waits for its customer', state = 'waiting' AND waiting_for = 'cus_made_up')
FROM billing.webhook_status WHERE event_id = 'evt_1' \gset
\echo 'The signature is good, but Stripe''s customer is not known here yet: the'
\echo 'event is kept until it is. That comes now, with our id in its metadata:'
\echo
:story
SELECT h.*
FROM request, billing.handle_webhook('stripe', body, headers) AS h
WHERE name = 'customer';

CALL billing.run_worker();

SELECT event_id, type, state FROM billing.webhook_status WHERE provider = 'stripe' ORDER BY event_id;

SELECT plan, status, provider_subscription_id, billing.has_feature('initech', 'sso') AS sso
FROM billing.list_subscriptions('initech');
:check
SELECT pg_temp.expect('both are applied', count(*) = 2 AND bool_and(state = 'applied'))
FROM billing.webhook_status WHERE provider = 'stripe' \gset
SELECT pg_temp.expect('initech has pro', plan = 'pro' AND status = 'active' AND billing.has_feature('initech', 'sso'))
FROM billing.list_subscriptions('initech') \gset
\echo 'Providers deliver more than once. The same webhook again:'
\echo
:story
SELECT h.*
FROM request, billing.handle_webhook('stripe', body, headers) AS h
WHERE name = 'subscription';
:check
SELECT pg_temp.expect('the second delivery changed nothing',
	(SELECT count(*) FROM billing.list_subscriptions('initech')) = 1
	AND (SELECT count(*) FROM billing.webhook_events WHERE provider = 'stripe') = 2) \gset
SELECT pg_temp.expect('and is called a duplicate', status = 'duplicate')
FROM request, billing.handle_webhook('stripe', body, headers)
WHERE name = 'subscription' \gset
\echo 'Somebody wants 100 seats for the price of one and changes the body; and'
\echo 'somebody sends what he recorded ten minutes ago:'
\echo
:story
\set ON_ERROR_STOP off
SELECT h.*
FROM request, billing.handle_webhook('stripe', body, headers) AS h
WHERE name = 'forged';
:check
\set forged :SQLSTATE
:story
SELECT h.*
FROM request, billing.handle_webhook('stripe', body, headers) AS h
WHERE name = 'old';
:check
\set old :SQLSTATE
\set ON_ERROR_STOP on
SELECT pg_temp.expect('a forged webhook is JB001', :'forged' = 'JB001') \gset
SELECT pg_temp.expect('an old webhook is JB002', :'old' = 'JB002') \gset
SELECT pg_temp.expect('nothing of them is kept', count(*) = 2) FROM billing.webhook_events WHERE provider = 'stripe' \gset
\echo
\echo 'JB001 and JB002: your handler answers 400, and nothing of it is kept.'

\echo
\echo '--- 12. The end -------------------------------------------------------'
\echo
:story
SELECT billing.cancel_subscription(:'globex_sub', at_period_end => false);

DELETE FROM organizations WHERE id = 'acme';

CALL billing.run_worker();

SELECT organization_id, status, ended_at IS NOT NULL AS ended
FROM billing.subscription_details
WHERE id IN (:'sub', :'globex_sub') ORDER BY organization_id;

SELECT (SELECT count(*) FROM billing.attention) AS attention,
       (SELECT count(*) FROM billing.outbox) AS unfinished, (SELECT count(*) FROM billing.events) AS events;
:check
SELECT pg_temp.expect('both have ended', count(*) = 2 AND bool_and(status = 'canceled'))
FROM billing.subscription_details WHERE id IN (:'sub', :'globex_sub') \gset
SELECT pg_temp.expect('nothing is left to do',
	(SELECT count(*) FROM billing.attention) = 0 AND (SELECT count(*) FROM billing.outbox) = 0) \gset
SELECT pg_temp.expect('invoices stay', count(*) = 2) FROM billing.list_invoices('acme') \gset
\echo 'Deleting the row ended Acme''s subscription at the provider; its invoices'
\echo 'stay. README.md shows the first ten minutes by hand, and the way to Stripe.'

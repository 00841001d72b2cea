-- What verify_webhook() keeps in its session, and when it forgets it. Other
-- sessions: test/isolation/specs/webhook_keys.spec; the key file: test/t/049_webhook_keys.pl.
\ir helpers.psql
CREATE EXTENSION pgcrypto SCHEMA public;

SELECT plan(28);

CREATE FUNCTION headers(secret text, age interval DEFAULT '0') RETURNS jsonb
LANGUAGE sql
RETURN (SELECT jsonb_build_object('Stripe-Signature', 't=' || t || ',v1=' || encode(public.hmac(t || '.x', secret, 'sha256'), 'hex'))
	FROM (SELECT floor(extract(epoch FROM clock_timestamp() - age))::text) AS n (t));
CREATE FUNCTION signed(secret text, age interval DEFAULT '0', account text DEFAULT NULL) RETURNS boolean
LANGUAGE sql
RETURN billing.verify_webhook('stripe', 'x', headers(secret, age), account);

SELECT fails($$SELECT signed('whsec_first')$$, 'JB006', '"stripe" is not configured', NULL, 'without an account there is nothing to check with');
SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_first', base_url => 'http://127.0.0.1:9');
SELECT ok(signed('whsec_first'), 'an account that is made is known at once');
SELECT ok(signed('whsec_first'), 'and stays known');
SELECT ok(NOT signed('whsec_second'), 'other secrets are not');

-- ---------------------------------------------------------------------------
-- A secret changes

SELECT billing.configure_provider('stripe', webhook_secret => 'whsec_second');
SELECT ok(signed('whsec_first') AND signed('whsec_second'), 'after a rotation both secrets are right');
UPDATE billing.provider_accounts SET previous_webhook_secret_until = clock_timestamp() + interval '1 second'
WHERE provider = 'stripe' RETURNING previous_webhook_secret_until AS until \gset
SELECT ok(signed('whsec_first') OR clock_timestamp() >= :'until', 'the one before is right until its time');
DO $$
BEGIN
	WHILE clock_timestamp() <= (SELECT previous_webhook_secret_until FROM billing.provider_accounts WHERE provider = 'stripe') LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;
SELECT ok(NOT signed('whsec_first'), 'and wrong after it, without any change of the row');
SELECT ok(signed('whsec_second'), 'the new one stays right');

BEGIN;
SELECT billing.configure_provider('stripe', webhook_secret => 'whsec_third');
SELECT ok(signed('whsec_third'), 'a change counts in the transaction that makes it');
SAVEPOINT s;
SELECT billing.configure_provider('stripe', webhook_secret => 'whsec_fourth');
SELECT ok(signed('whsec_fourth'), 'in a savepoint, too');
ROLLBACK TO s;
SELECT ok(NOT signed('whsec_fourth'), 'until that is rolled back');
ROLLBACK;
SELECT ok(NOT signed('whsec_third') AND signed('whsec_second'), 'after a rollback all is as before');

SELECT ok((SELECT billing.configure_provider('stripe', webhook_secret => 'whsec_fifth') IS NOT NULL AND signed('whsec_fifth')), 'it counts within one statement');

-- ---------------------------------------------------------------------------
-- A setting changes

UPDATE billing.settings SET value = '2 hours' WHERE name = 'webhook_tolerance';
SELECT ok(signed('whsec_fifth', '1 hour'), 'a longer tolerance counts at once');
UPDATE billing.settings SET value = NULL WHERE name = 'webhook_tolerance';
SELECT ok(NOT signed('whsec_fifth', '1 hour') AND signed('whsec_fifth', '4 minutes'), 'without a value it is 300 seconds');
SET session_replication_role = replica;
UPDATE billing.settings SET value = '2 hours' WHERE name = 'webhook_tolerance';
RESET session_replication_role;
SELECT ok(signed('whsec_fifth', '1 hour'), 'a change that comes by replication counts as any other');
UPDATE billing.settings SET value = '300 seconds' WHERE name = 'webhook_tolerance';

-- ---------------------------------------------------------------------------
-- Several accounts: only what is asked for is opened

SELECT billing.configure_provider('stripe', 'sk_test_of_europe', 'whsec_europe', account => 'europe', base_url => 'http://127.0.0.1:9');
SELECT ok(signed('whsec_europe'), 'a second account is tried as well');
UPDATE billing.provider_accounts SET webhook_secret = set_byte(webhook_secret, 20, get_byte(webhook_secret, 20) # 1) WHERE account = 'europe';
SELECT fails($$SELECT signed('whsec_europe')$$, 'JB012', 'does not open', NULL, 'a stored secret that was tampered with is an error');
SELECT ok(signed('whsec_fifth', account => 'default'), 'that does not concern other accounts');

-- ---------------------------------------------------------------------------
-- One that others know

SELECT billing.configure_provider('stripe', webhook_secret => 'whsec_after');
SELECT ok(signed('whsec_after', account => 'default') AND signed('whsec_fifth', account => 'default'), 'the secret before stays valid');
SELECT ok(billing.revoke_webhook_secret('stripe'), 'until it is revoked');
SELECT ok(signed('whsec_after', account => 'default') AND NOT signed('whsec_fifth', account => 'default'), 'which counts at once');
SELECT ok(NOT billing.revoke_webhook_secret('stripe'), 'a second time there is nothing to revoke');
SELECT fails($$SELECT billing.revoke_webhook_secret('stripe', 'nowhere')$$, 'JB005', 'no account "nowhere"', 'provider_accounts', 'an unknown account is named');
UPDATE billing.provider_accounts SET previous_webhook_secret = webhook_secret, previous_webhook_secret_until = now() - interval '1 second' WHERE account = 'default' AND provider = 'stripe';
\setenv DATABASE :DBNAME
\! psql -X -q -d "$DATABASE" -c 'CALL billing.run_worker()'
SELECT is((SELECT count(*) FROM billing.provider_accounts WHERE previous_webhook_secret IS NOT NULL AND previous_webhook_secret_until < now()), 0::bigint, 'one that is past its time is not kept');

-- ---------------------------------------------------------------------------
-- Who may

CREATE ROLE webhook_keys_hook;
CREATE ROLE webhook_keys_nobody;
GRANT USAGE ON SCHEMA public TO webhook_keys_hook, webhook_keys_nobody;
SELECT billing.grant_access('webhook_keys_hook', 'webhook');
GRANT USAGE ON SCHEMA billing TO webhook_keys_nobody;
SELECT billing.configure_provider('stripe', webhook_secret => 'whsec_sixth');
SET ROLE webhook_keys_hook;
SELECT ok(signed('whsec_sixth', account => 'default'), 'who may call it needs no right on any table');
SELECT is(current_user, 'webhook_keys_hook'::name, 'and is himself afterwards');
SET ROLE webhook_keys_nobody;
SELECT fails($$SELECT signed('whsec_sixth', account => 'default')$$, '42501', 'permission denied for function verify_webhook', NULL, 'nobody else may');
RESET ROLE;
DROP OWNED BY webhook_keys_hook, webhook_keys_nobody;
DROP ROLE webhook_keys_hook, webhook_keys_nobody;

SELECT * FROM finish();

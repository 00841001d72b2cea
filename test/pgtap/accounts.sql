-- Accounts at providers: their options and mode, what is told of them, and
-- their webhook endpoints.
\ir helpers.psql

SELECT plan(53);

CREATE FUNCTION options_of(account text) RETURNS jsonb
LANGUAGE sql
RETURN (SELECT a.options FROM billing.provider_accounts AS a WHERE a.provider = 'stripe' AND a.account = options_of.account);

-- item of check_provider(), as "ok value"
CREATE FUNCTION checked(account text, item text) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' ', c.ok::text, c.value) FROM billing.check_provider('stripe', checked.account) AS c WHERE c.item = checked.item);

-- ---------------------------------------------------------------------------
-- Options

SELECT is(checked('default', 'configured'), 'false no', 'an account that is not configured');
SELECT is((SELECT count(*) FROM billing.check_provider('stripe')), 1::bigint, 'has nothing else to be told');
SELECT billing.configure_provider('stripe', 'sk_test_a', base_url => 'http://127.0.0.1:9', options => '{"language": "es", "rate_per_second": 5, "anything": {"x": 1}}');
SELECT billing.configure_provider('stripe', options => '{"rate_per_second": 0, "capabilities": ["oxxo"]}');
SELECT is(options_of('default'), '{"language": "es", "rate_per_second": 0, "anything": {"x": 1}, "capabilities": ["oxxo"]}', 'options are merged into those that are there');
SELECT billing.configure_provider('stripe', options => '{"language": null, "anything": null}');
SELECT is(options_of('default'), '{"rate_per_second": 0, "capabilities": ["oxxo"]}', 'null removes one');
SELECT billing.configure_provider('stripe', 'sk_test_b');
SELECT is(options_of('default'), '{"rate_per_second": 0, "capabilities": ["oxxo"]}', 'a call without options leaves them');
SELECT fails(format($$SELECT billing.configure_provider('stripe', options => %L)$$, v.options), '22023', v.message, NULL, v.options)
FROM (VALUES ('[]', 'not an object'), ('{"sandbox": "yes"}', 'sandbox is not a boolean'), ('{"rate_per_second": -1}', 'rate_per_second'),
			 ('{"rate_per_second": "fast"}', 'rate_per_second'), ('{"headers": ["x"]}', 'headers is not an object'), ('{"headers": {"a b": "c"}}', 'headers'),
			 ('{"headers": {"Authorization": "Bearer x"}}', 'headers'), ('{"headers": {"X-A": 1}}', 'headers.X-A'), ('{"headers": {"X-A": "a\r\nb"}}', 'headers.X-A'),
			 ('{"capabilities": "oxxo"}', 'capabilities'), ('{"capabilities": [1.5]}', 'capabilities'), ('{"accept": 2}', 'accept is not a text')) AS v (options, message);
SELECT is(options_of('default'), '{"rate_per_second": 0, "capabilities": ["oxxo"]}', 'what is refused changes nothing');
SELECT billing.configure_provider('stripe', 'sk_test_c', account => 'twin', base_url => 'http://127.0.0.1:9/twin/', options => '{"headers": {"Accept": "application/json"}, "sandbox": true}');
SELECT is((SELECT base_url FROM billing.provider_accounts WHERE account = 'twin'), 'http://127.0.0.1:9/twin', 'another account has an address of its own');
SELECT is(options_of('twin'), '{"headers": {"Accept": "application/json"}, "sandbox": true}', 'and options of its own');
SELECT is(options_of('default') ? 'headers', false, 'which are no other''s');
SELECT billing.configure_provider('stripe', 'sk_live_c', account => 'twin');
SELECT is((SELECT livemode FROM billing.provider_accounts WHERE account = 'twin'), true, 'an account without objects may change its mode');
SELECT billing.configure_provider('stripe', 'sk_test_c', account => 'twin');

-- ---------------------------------------------------------------------------
-- What is told of an account

SELECT fails($$SELECT * FROM billing.check_provider('paypal')$$, 'JB005', 'unknown provider "paypal"', 'billing.providers', 'of an unknown provider nothing is told');
SELECT is(checked('default', 'secret_key'), 'true present', 'the key is there');
SELECT is(checked('default', 'mode'), 'test', 'its mode');
SELECT is(checked('default', 'bound_here'), 'true yes', 'it is bound to this database');
SELECT is(checked('default', 'circuit'), 'true closed', 'nothing failed');
SELECT is(checked('default', 'capabilities'), 'oxxo', 'its capabilities');
SELECT is(checked('default', 'webhook_secret'), 'false missing', 'there is no webhook secret yet');
SELECT ok((SELECT bool_and(c.hint IS NOT NULL) FROM billing.check_provider('stripe') AS c WHERE NOT c.ok), 'each problem has a hint');
UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'key refused' WHERE provider = 'stripe' AND account = 'twin';
SELECT is(checked('twin', 'running'), 'false stopped: key refused', 'a stopped account says why');
SELECT is((SELECT count(*) FROM billing.check_provider('sandbox') AS c WHERE NOT c.ok), 0::bigint, 'the sandbox has no problem');
INSERT INTO billing.provider_circuits (account_id, state, until, pause_seconds, failures, noted_at)
SELECT id, 'open', now() + interval '1 hour', 30, 5, clock_timestamp() + interval '1 second' FROM billing.provider_accounts WHERE account = 'twin';
SELECT ok(checked('twin', 'circuit') LIKE 'false open until %', 'a provider that does not answer is seen');
SELECT results_eq($$SELECT circuit, circuit_until > now() FROM billing.provider_health WHERE account = 'twin'$$, $$VALUES ('open', true)$$, 'also in provider_health');
UPDATE billing.provider_accounts SET updated_at = clock_timestamp() + interval '2 seconds' WHERE account = 'twin';
SELECT is(checked('twin', 'circuit'), 'true closed', 'until the account is configured anew');

-- ---------------------------------------------------------------------------
-- What providers can do

SELECT is((SELECT count(DISTINCT provider) FROM billing.provider_capabilities()), (SELECT count(*) FROM billing.providers), 'every provider');
SELECT is((SELECT count(*) FROM (SELECT operation FROM billing.provider_capabilities() GROUP BY operation HAVING count(*) <> (SELECT count(*) FROM billing.providers)) AS x), 0::bigint, 'with every operation');
SELECT is((SELECT support FROM billing.provider_capabilities() WHERE provider = 'stripe' AND operation = 'customer.create'), 'supported', 'and what becomes of it');
SELECT is((SELECT count(*) FROM billing.provider_capabilities() WHERE support NOT IN ('supported', 'emulated', 'refused')), 0::bigint, 'in one of three words');

-- ---------------------------------------------------------------------------
-- Webhook endpoints, as long as nobody answers

UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'quiet' WHERE provider = 'stripe';
SELECT fails($$SELECT billing.register_webhook('stripe')$$, '23502', 'url must be given', 'webhook_url', 'an endpoint has an address');
SELECT fails($$SELECT billing.register_webhook('stripe', 'http://app.example/hook')$$, '22023', 'cannot be that of', 'https', 'which is https');
SELECT fails($$SELECT billing.register_webhook('stripe', 'https://app.example', events => '{a b}')$$, '22023', 'events', 'invoice.paid', 'with events that can be types');
SELECT fails($$SELECT billing.register_webhook('stripe', 'https://app.example', account => 'none')$$, 'JB006', 'not configured', NULL, 'at an account that is there');
UPDATE billing.settings SET value = 'https://app.example/hooks/' WHERE name = 'webhook_url';
SELECT billing.register_webhook('stripe') AS hook \gset
SELECT results_eq($$SELECT url, state, enabled, events FROM billing.list_webhooks('stripe')$$, $$VALUES ('https://app.example/hooks/stripe', 'pending', true, '{}'::text[])$$, 'the default address has the provider''s name');
SELECT is(billing.register_webhook('stripe'), :'hook', 'the same call again finds it');
SELECT is(billing.register_webhook('stripe', events => '{invoice.paid}'), :'hook', 'with other events, too');
SELECT is((SELECT string_agg(operation, ' ' ORDER BY seq) FROM billing.outbox WHERE object_id = :'hook'), 'webhook_endpoint.create webhook_endpoint.update', 'which the provider hears of');
SELECT is((SELECT count(*) FROM billing.outbox WHERE object_id = :'hook' AND state = 'queued'), 1::bigint, 'one after the other');
SELECT billing.delete_webhook(:'hook');
SELECT is((SELECT state FROM billing.webhook_endpoints WHERE id = :'hook'), 'deleted', 'what was never sent is taken back');
SELECT is((SELECT count(*) FROM billing.outbox), 0::bigint, 'with all that followed');
SELECT fails(format($$SELECT billing.rotate_webhook_secret(%L)$$, :'hook'), 'JB008', 'is deleted', 'register_webhook', 'a deleted endpoint has no secret');
SELECT fails($$SELECT billing.delete_webhook(billing.new_id())$$, 'JB005', 'unknown webhook endpoint', 'list_webhooks', 'an endpoint that there is not');
SELECT fails($$DELETE FROM billing.webhook_endpoints$$, 'JB008', 'cannot be deleted', 'delete_webhook', 'rows stay');

SELECT * FROM finish();

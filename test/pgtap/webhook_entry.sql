-- The entry points for PostgREST, called as it calls them: the settings of a
-- request, then one statement with the raw body as its parameter. What the
-- errors become is PostgREST's table of SQLSTATEs: JB is no class of it and
-- becomes 400, PT500 becomes 500.
\ir helpers.psql
CREATE EXTENSION pgcrypto;

SELECT plan(45);

CREATE FUNCTION signature(body text, secret text DEFAULT 'whsec_entry', at timestamptz DEFAULT now()) RETURNS text
LANGUAGE sql
RETURN format('t=%s,v1=%s', floor(extract(epoch FROM at)),
	encode(hmac(convert_to(floor(extract(epoch FROM at))::text || '.' || body, 'UTF8'), convert_to(secret, 'UTF8'), 'sha256'), 'hex'));

-- What PostgREST sets before the call: names of headers in lower case.
CREATE FUNCTION request(headers jsonb) RETURNS void
LANGUAGE sql
AS $$ SELECT set_config('request.headers', headers::text, false), set_config('request.method', 'POST', false) $$;

CREATE FUNCTION post(body text, headers jsonb, OUT event_id text, OUT type text, OUT status text)
LANGUAGE plpgsql
AS $$
DECLARE
	answer json;
BEGIN
	PERFORM request(headers);
	EXECUTE 'SELECT billing_webhooks.stripe_webhook($1::json)' INTO answer USING body;
	SELECT answer ->> 'event_id', answer ->> 'type', answer ->> 'status' INTO event_id, type, status;
END
$$;
CREATE FUNCTION post(body text) RETURNS text
LANGUAGE sql
RETURN (SELECT p.status FROM post(body, jsonb_build_object('content-type', 'application/json; charset=utf-8', 'stripe-signature', signature(body))) AS p);

-- The raw body that was stored.
CREATE FUNCTION stored(event text) RETURNS text
LANGUAGE sql
RETURN (SELECT billing.decrypt(w.raw_body, 'webhook_events.raw_body', w.id) FROM billing.webhook_events AS w WHERE w.event_id = event);

-- ---------------------------------------------------------------------------
-- What is there, and for whom

SELECT is((SELECT string_agg(format('%s(%s) %s', p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid)), ', ' ORDER BY p.proname)
	FROM pg_proc AS p WHERE p.pronamespace = 'billing_webhooks'::regnamespace),
	'conekta_webhook(json) json, polar_webhook(json) json, stripe_webhook(json) json',
	'one function for each provider, with one unnamed json argument, is all that the schema has');
SELECT is((SELECT count(*) FROM pg_class WHERE relnamespace = 'billing_webhooks'::regnamespace), 0::bigint, 'and no table');
SELECT is((SELECT e.extname::text FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
	WHERE d.classid = 'pg_namespace'::regclass AND d.objid = 'billing_webhooks'::regnamespace AND d.deptype = 'e'), 'janua_billing', 'it belongs to the extension');

CREATE ROLE entry_nobody;
CREATE ROLE entry_web;
CREATE ROLE entry_app;
SELECT billing.grant_access('entry_web', 'webhook');
SELECT billing.grant_access('entry_app', 'app');
SELECT ok(NOT has_schema_privilege(r, 'billing_webhooks', 'USAGE')
	AND NOT has_function_privilege(r, 'billing_webhooks.stripe_webhook(json)', 'EXECUTE'), r || ' has nothing of it')
FROM unnest(ARRAY['entry_nobody', 'entry_app', 'public']) AS r;
SELECT ok(has_schema_privilege('entry_web', 'billing_webhooks', 'USAGE')
	AND has_function_privilege('entry_web', 'billing_webhooks.polar_webhook(json)', 'EXECUTE'), 'level webhook has it');
SELECT ok(NOT has_function_privilege('entry_web', 'billing.webhook_request(text, json)', 'EXECUTE'), 'but not what is behind it');
SELECT billing.grant_access('entry_web', 'report');
SELECT billing.revoke_access('entry_web', 'webhook');
SELECT ok(NOT has_schema_privilege('entry_web', 'billing_webhooks', 'USAGE')
	AND NOT has_function_privilege('entry_web', 'billing_webhooks.stripe_webhook(json)', 'EXECUTE'), 'until it is taken away');
SELECT billing.grant_access('entry_web', 'webhook');
SELECT billing.revoke_access('entry_web', 'report');
SELECT ok(has_function_privilege('entry_web', 'billing_webhooks.stripe_webhook(json)', 'EXECUTE'), 'it stays when another level is taken away');

-- ---------------------------------------------------------------------------
-- A webhook

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_entry', base_url => 'http://127.0.0.1:9');
SELECT '{"id": "evt_1", "object": "event", "type": "product.created", "created": 1900000000, "livemode": false, "data": {"object": {"object": "product", "id": "prod_1"}}}' AS body \gset
SELECT request(jsonb_build_object('stripe-signature', signature(:'body'), 'user-agent', 'Stripe/1.0'));
SET ROLE entry_web;
PREPARE as_postgrest AS SELECT pgrst_call.pgrst_scalar FROM (SELECT billing_webhooks.stripe_webhook($1::json) AS pgrst_scalar) AS pgrst_call;
EXECUTE as_postgrest(:'body') \gset answer_
EXECUTE as_postgrest(:'body') \gset again_
RESET ROLE;
SELECT is(:'answer_pgrst_scalar'::jsonb - 'status', '{"event_id": "evt_1", "type": "product.created"}', 'a webhook is taken in by a role of level webhook, and answered with its id and type');
SELECT is(:'answer_pgrst_scalar'::jsonb ->> 'status', 'ignored', 'and with what became of it');
SELECT is(:'again_pgrst_scalar'::jsonb ->> 'status', 'duplicate', 'once more it is a duplicate');
SELECT is(stored('evt_1'), :'body', 'its bytes are kept');

-- json keeps what was sent, to the last blank
SELECT isnt(post(E' \n{"id":"evt_2" ,\t"object":"event",  "type":"product.created","created":1900000000,"livemode":false,\r\n"data":{"object":{"object":"product","id":"prod_1"}}}\n\n'), 'failed', 'odd spacing keeps its signature');
SELECT is(stored('evt_2'), E' \n{"id":"evt_2" ,\t"object":"event",  "type":"product.created","created":1900000000,"livemode":false,\r\n"data":{"object":{"object":"product","id":"prod_1"}}}\n\n', 'and its bytes');
SELECT isnt(post('{"id":"evt_3","object":"event","type":"product.created","created":1900000000,"livemode":false,"data":{"object":{"object":"product","id":"prod_1","name":"Ni' || U&'\00F1' || 'o \u00f1 \ud83d\ude00 ' || U&'\+01F600 e\0301' || '"}}}'), 'failed', 'so does text beyond ASCII, escaped and not');
SELECT alike(stored('evt_3'), '%\\ud83d\\ude00 ' || U&'\+01F600 e\0301' || '%', 'as it was written');
SELECT isnt(post('{"id":"evt_4","id":"evt_4","object":"event","type":"product.deleted","type":"product.created","created":1900000000.0,"livemode":false,"data":{"object":{"object":"product","id":"prod_1","b":1,"a":1e2,"a":0.10}}}'), 'failed', 'so do keys that occur twice, their order, and numbers as they were written');
SELECT alike(stored('evt_4'), '%"b":1,"a":1e2,"a":0.10%', 'all of them');
SELECT ok(post('{"id":"evt_5","object":"event","type":"product.created","created":1900000000,"livemode":false,"data":{"object":{"object":"product","id":"prod_1","name":"a\u0000b"}}}') <> 'failed', 'so does an escaped NUL character');
SELECT is(post('{"no": "event"}'), 'failed', 'what is no event is kept and answered as usual');
SELECT is(post('[]'), 'failed', 'so is an array');
SELECT is(post('null'), 'failed', 'or nothing but null');
SELECT is((SELECT status FROM post(:'body', jsonb_build_object('stripe-signature', signature(:'body'), 'x-other', jsonb_build_array('a', 'b'), 'cookie', ''))), 'duplicate', 'other headers do not matter');

-- ---------------------------------------------------------------------------
-- Refused: nothing is stored

SELECT count(*) AS kept FROM billing.webhook_events \gset
SELECT fails(format($$SELECT post(%L, '{}')$$, :'body'), 'JB001', 'not signed', 'raw body', 'no signature: 400');
SELECT fails(format($$SELECT post(%L, jsonb_build_object('stripe-signature', %L))$$, :'body' || ' ', signature(:'body')), 'JB001', 'not signed', NULL, 'a blank more than was signed: 400');
SELECT fails(format($$SELECT post(%L, jsonb_build_object('stripe-signature', signature(%1$L, 'whsec_other')))$$, :'body'), 'JB001', 'not signed', NULL, 'another secret: 400');
SELECT fails(format($$SELECT post(%L, jsonb_build_object('stripe-signature', signature(%1$L, at => now() - interval '1 hour')))$$, :'body'), 'JB002', 'too long ago', 'clock', 'too old: 400');
SELECT fails(format($$SELECT post(%L, jsonb_build_object('stripe-signature', signature(%1$L, at => now() + interval '1 hour')))$$, :'body'), 'JB002', 'far ahead', 'clock', 'too new: 400');
UPDATE billing.settings SET value = '100' WHERE name = 'max_webhook_size';
SELECT fails(format('SELECT post(%L)', :'body'), 'JB013', 'larger than 100 bytes', 'max_webhook_size', 'too large: 400');
UPDATE billing.settings SET value = '1048576' WHERE name = 'max_webhook_size';
SELECT request('{}');
SELECT fails($$SELECT billing_webhooks.polar_webhook('{}'::json)$$, 'PT500', '"polar" is not configured', 'configure_provider', 'a provider that is not configured: 500, and the provider comes again');
SELECT fails($$SELECT billing_webhooks.conekta_webhook('{}'::json)$$, 'PT500', 'conekta', 'configure_provider', 'the same at another');
SELECT is((SELECT count(*) FROM billing.webhook_events), :'kept'::bigint, 'nothing of these is stored');

-- ---------------------------------------------------------------------------
-- What is no fault of the provider

CREATE FUNCTION detail_of(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN detail;
END
$$;
SELECT alike(detail_of($$SELECT billing_webhooks.polar_webhook('{}'::json)$$), 'JB0%', 'the code of the error is in the detail');

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = TG_ARGV[0], MESSAGE = 'no'; END $$;
SELECT '{"id": "evt_9", "object": "event", "type": "product.created", "created": 1900000000, "livemode": false, "data": {"object": {"object": "product", "id": "prod_1"}}}' AS other \gset
CREATE TRIGGER refuse BEFORE INSERT ON billing.webhook_events FOR EACH ROW EXECUTE FUNCTION refuse('23505');
SELECT fails(format('SELECT post(%L)', :'other'), 'PT500', '^no$', NULL, 'an error that PostgREST would answer 409: 500');
DROP TRIGGER refuse ON billing.webhook_events;
CREATE TRIGGER refuse BEFORE INSERT ON billing.webhook_events FOR EACH ROW EXECUTE FUNCTION refuse('53100');
SELECT fails(format('SELECT post(%L)', :'other'), 'PT500', '^no$', NULL, 'a full disk: 500');
DROP TRIGGER refuse ON billing.webhook_events;
CREATE TRIGGER refuse BEFORE INSERT ON billing.webhook_events FOR EACH ROW EXECUTE FUNCTION refuse('40001');
SELECT fails(format('SELECT post(%L)', :'other'), '40001', '^no$', NULL, 'a conflict of transactions keeps its code: PostgREST answers 500 by itself');
DROP TRIGGER refuse ON billing.webhook_events;
SELECT ok(post(:'other') <> 'failed', 'when the cause is gone it is taken');

-- ---------------------------------------------------------------------------
-- Not from PostgREST

RESET request.headers;
SELECT fails($$SELECT billing_webhooks.stripe_webhook('{}'::json)$$, '55000', 'request.headers', 'billing.handle_webhook', 'without headers of a request it says what to call instead');
SELECT set_config('request.headers', '', false);
SELECT fails($$SELECT billing_webhooks.stripe_webhook('{}'::json)$$, '55000', 'request.headers', 'billing.handle_webhook', 'also after the end of a request');
SELECT set_config('request.headers', 'stripe-signature: t=1', false);
SELECT fails($$SELECT billing_webhooks.stripe_webhook('{}'::json)$$, '55000', 'request.headers', 'billing.handle_webhook', 'and with what is no JSON');
SELECT set_config('request.headers', '["a"]', false);
SELECT fails($$SELECT billing_webhooks.stripe_webhook('{}'::json)$$, '55000', 'request.headers', 'billing.handle_webhook', 'or no object');

-- ---------------------------------------------------------------------------
-- Names come from nowhere else

CREATE SCHEMA trap;
CREATE FUNCTION trap.current_setting(text, boolean) RETURNS text LANGUAGE sql RETURN '{}';
CREATE FUNCTION trap.jsonb_typeof(jsonb) RETURNS text LANGUAGE sql RETURN 'trap';
CREATE FUNCTION trap.json_build_object(VARIADIC text[]) RETURNS json LANGUAGE sql RETURN '{"trap": true}'::json;
SET search_path = trap, pg_catalog, public;
SELECT is((SELECT status FROM post(:'body', jsonb_build_object('stripe-signature', signature(:'body')))), 'duplicate', 'functions of the same names in the caller''s search_path are not found');
RESET search_path;

DROP EXTENSION janua_billing CASCADE;
SELECT hasnt_schema('billing_webhooks', 'DROP EXTENSION takes the schema along');

SELECT * FROM finish();

-- Bad input of webhooks, of all three providers: what is signed is kept and
-- answered, whatever it is; what is not signed is refused; nothing is left half
-- done, and the next good event is applied.
\ir helpers.psql
CREATE EXTENSION pgcrypto;

SELECT plan(582);

-- ---------------------------------------------------------------------------
-- Signing

-- Conekta signs by RSA. This key has a small private exponent (65537), so that
-- PostgreSQL's numbers are quick enough to sign with it; its public exponent is
-- large in return.
CREATE FUNCTION public_key() RETURNS text LANGUAGE sql RETURN
'-----BEGIN PUBLIC KEY-----
MIICITANBgkqhkiG9w0BAQEFAAOCAg4AMIICCQKCAQEAlGRUMFOb5BDH0OQDywB0
+nTxVSNZRjODMjEVr7WsYa3ZWIXyYfuIwFQy0b5bFP6ASuAVaoVvK8szYkRPjsnf
3QmNl3c2JMRxiH+gYdV/0KTDXLjiVE0VXxlsUsSJTf4nquxXAVifeTaNdwDbQNr5
jK9tc63evotklXlZ6AJglzEANnHzyFknee86hK4TnvCInCNjoLfv7IB8nhbY/W2l
kGmTjgHv98DLG1VeBIdufmphfjk/XavZ64jXXXKOGwJ2VDs6hsiiadcQWOJacD53
6zWcGt/04hDuPrnakPs9L0mFJCTw0LbFq8vXM3V6U0aPk6+MyAqVYycaQQEQP+G4
uwKCAQA5oS1BB3eHfyza53LBqA/GJRyEoBHPvbm6CG4Pq1KjLM04H+0eOH3Hk+uY
oYDmCmDws04d7GxcabIu+7CaF7SlN0ySAm44oUImbMpwtGXLNfHZVMQxUS53nHwB
OOrKK2ZkbxzrHOvyO0l9agu8iE5aYNb1EhVrkt8hXduYyzOQA5RXj9eHywe4cWUc
oqMMqJBvTwLPrv7NIxjoQx6R5M+cXapRooDXQE1VEAR8gOs3vAnGM3JpjYtwOTjW
vdcKEt4m+ER0+hwSH7XBEWzycmqkGR4pvSr+8VrfB2Xb0lh8gaPlMWldkhkVYHSo
SQDQf47QtA9pRu0pQ+VPTJMB+G9B
-----END PUBLIC KEY-----';

CREATE FUNCTION modulus() RETURNS numeric LANGUAGE sql RETURN
18732743140950211844619983824265721153142576391322200963778073535296445358153798456209810661444543204645053039648442817553495942680851228863873648437338287562817019325761676877785874000826643900538330079732043481333563573941161646520580672070537913894464071159920974806579877621635986555204674979441610836415196840390851500694764389860770090845122577037611387675128527102157068757553136124336330004613991223560172536343002998618632147972323887421642644443542776179971344280607638089723100958519631120542574131177658137177306490165936568990211754258269687664784077409098887695528197846838467858182432862598238931368123;

CREATE FUNCTION to_number(bytes bytea) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	n numeric := 0;
BEGIN
	FOR i IN 0 .. length(bytes) - 1 LOOP
		n := n * 256 + get_byte(bytes, i);
	END LOOP;
	RETURN n;
END $$;

CREATE FUNCTION to_bytes(n numeric, size integer) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	bytes bytea := decode(repeat('00', size), 'hex');
BEGIN
	FOR i IN REVERSE size - 1 .. 0 LOOP
		bytes := set_byte(bytes, i, (n % 256)::integer);
		n := div(n, 256);
	END LOOP;
	RETURN bytes;
END $$;

-- PKCS #1 v1.5 over SHA-256 (RFC 8017, 8.2.1).
CREATE FUNCTION digest_header(body bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	padded numeric := to_number('\x0001'::bytea || decode(repeat('ff', 202), 'hex')
		|| '\x003031300d060960864801650304020105000420'::bytea || sha256(body));
	power numeric := padded;
BEGIN
	FOR i IN 1 .. 16 LOOP
		power := mod(power * power, modulus());
	END LOOP;
	RETURN translate(encode(to_bytes(mod(power * padded, modulus()), 256), 'base64'), E'\n', '');
END $$;

-- The headers of a good delivery. event_id is said by Polar's only.
CREATE FUNCTION signed(provider text, body bytea, event_id text DEFAULT 'msg_1') RETURNS jsonb
LANGUAGE sql
RETURN CASE provider
	WHEN 'stripe' THEN jsonb_build_object('Stripe-Signature', format('t=%s,v1=%s', floor(extract(epoch FROM now())),
		encode(hmac(convert_to(floor(extract(epoch FROM now())) || '.', 'UTF8') || body, 'whsec_of_stripe', 'sha256'), 'hex')))
	WHEN 'conekta' THEN jsonb_build_object('Digest', digest_header(body))
	ELSE jsonb_build_object('webhook-id', event_id, 'webhook-timestamp', floor(extract(epoch FROM now()))::text, 'webhook-signature',
		'v1,' || encode(hmac(convert_to(event_id || '.' || floor(extract(epoch FROM now())) || '.', 'UTF8') || body, 'polar_whs_of_polar', 'sha256'), 'base64'))
END;

-- ---------------------------------------------------------------------------
-- Events

-- The time of the next event as JSON, an hour after the one before.
CREATE SEQUENCE hours;
CREATE FUNCTION as_json(provider text, at timestamptz) RETURNS text
LANGUAGE sql
RETURN CASE provider WHEN 'polar' THEN to_json(to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))::text ELSE extract(epoch FROM at)::bigint::text END;
CREATE FUNCTION next_hour(provider text) RETURNS text
LANGUAGE sql
RETURN as_json(provider, '2030-01-01Z'::timestamptz + nextval('hours') * interval '1 hour');

-- Every argument is JSON as text; NULL leaves the member out. Polar says the id
-- in a header.
CREATE FUNCTION event(provider text, id text DEFAULT '"evt_bad"', type text DEFAULT '"customer.updated"', created text DEFAULT 'next',
	data text DEFAULT NULL, more text DEFAULT NULL) RETURNS text
LANGUAGE sql
RETURN '{' || concat_ws(',',
	CASE WHEN provider <> 'polar' THEN '"object":"event","livemode":false' END,
	CASE WHEN provider <> 'polar' THEN '"id":' || id END,
	'"type":' || type,
	CASE provider WHEN 'stripe' THEN '"created":' WHEN 'conekta' THEN '"created_at":' ELSE '"timestamp":' END
		|| CASE created WHEN 'next' THEN next_hour(provider) ELSE created END,
	'"data":' || data,
	more) || '}';

-- What stands in data: the object itself at Polar, elsewhere a member of it.
CREATE FUNCTION data(provider text, object text) RETURNS text
LANGUAGE sql
RETURN CASE provider WHEN 'polar' THEN object ELSE '{"object":' || object || '}' END;

CREATE FUNCTION customer(provider text, id text DEFAULT '"cus_1"', more text DEFAULT NULL) RETURNS text
LANGUAGE sql
RETURN data(provider, '{' || concat_ws(',', '"object":"customer","id":' || id, more,
	CASE WHEN provider = 'polar' THEN '"modified_at":' || next_hour(provider) END) || '}');

-- The status and the reason that the inbox keeps, or the SQLSTATE.
CREATE FUNCTION outcome(provider text, body bytea, event_id text DEFAULT NULL, headers jsonb DEFAULT NULL, account text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	result record;
BEGIN
	event_id := coalesce(event_id, 'msg_' || encode(sha256(body), 'hex'));
	SELECT * INTO result FROM billing.handle_webhook(provider, body, coalesce(headers, signed(provider, body, event_id)), account);
	RETURN result.status || coalesce(': ' || (SELECT e.reason FROM billing.webhook_events AS e
		WHERE e.provider = outcome.provider AND e.event_id = result.event_id), '');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

CREATE FUNCTION outcome(provider text, body text, event_id text DEFAULT NULL, headers jsonb DEFAULT NULL, account text DEFAULT NULL) RETURNS text
LANGUAGE sql
RETURN outcome(provider, convert_to(body, 'UTF8'), event_id, headers, account);

-- Good news about the customer, newer than all that was applied, is applied.
CREATE SEQUENCE good_events;
CREATE FUNCTION good_event(provider text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint := nextval('good_events');
	at timestamptz := (SELECT as_of + interval '1 second' FROM billing.provider_refs AS r WHERE r.provider = good_event.provider AND provider_id = 'cus_1');
BEGIN
	RETURN outcome(provider, event(provider, format('"evt_good_%s"', n), created => as_json(provider, at),
		data => data(provider, format('{"object":"customer","id":"cus_1","name":"Name %s","modified_at":%s}', n, as_json('polar', at)))));
END $$;

-- One test: a body, signed, has this outcome (a regular expression), which says
-- nothing of what stands in it; and what comes after it is as good as ever.
CREATE FUNCTION survives(provider text, what text, body bytea, expected text, event_id text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	had text := outcome(provider, body, event_id);
	after text := good_event(provider);
BEGIN
	IF had ~ ('^(' || expected || ')$') AND had !~ 'Zacarias|@' AND after = 'applied' THEN
		RETURN ok(true, provider || ': ' || what);
	END IF;
	RETURN ok(false, provider || ': ' || what) || E'\n' || diag(format(E'was: %s\nnot: %s\nthe next one: %s', had, expected, after));
END $$;
CREATE FUNCTION survives(provider text, what text, body text, expected text, event_id text DEFAULT NULL) RETURNS text
LANGUAGE sql
RETURN survives(provider, what, convert_to(body, 'UTF8'), expected, event_id);

-- ---------------------------------------------------------------------------
-- One customer at each of the three

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_of_stripe', base_url => 'http://127.0.0.1:9');
SELECT billing.configure_provider('conekta', 'key_of_nobody', public_key(), base_url => 'http://127.0.0.1:9', options => '{"sandbox": true}');
SELECT billing.configure_provider('polar', 'polar_oat_of_nobody', 'polar_whs_of_polar', base_url => 'http://127.0.0.1:9', options => '{"sandbox": true}');
CREATE TABLE parties AS SELECT p AS provider, billing.create_customer('of ' || p, p || '@example.com', 'Name', provider => p, country => 'MX', phone => '+525512345678') AS id
	FROM unnest(ARRAY['stripe', 'conekta', 'polar']) AS p;

SELECT is(outcome(provider, event(provider, '"evt_first"', '"customer.created"', data => customer(provider, more => format('"external_id":"%s","metadata":{"janua_ref":"%s"}', id, id))), 'msg_first'),
	'applied', 'the customer is known at ' || provider) FROM parties;
-- what is still to be sent about a customer is newer than what is told of him
DELETE FROM billing.outbox;
SELECT is(good_event(provider), 'applied', 'news of it from ' || provider || ' is applied') FROM parties;

-- Bodies that are signed and odd, and what becomes of each.
CREATE FUNCTION odd_bodies(p text) RETURNS TABLE (what text, body bytea, expected text)
LANGUAGE sql AS $$
	SELECT what, convert_to(body, 'UTF8'), expected FROM (VALUES
		('an empty body', '', 'failed: it is not JSON'),
		('a blank body', E' \n\t ', 'failed: it is not JSON'),
		('a number', '1', 'failed: not an event of this provider'),
		('a string', '"event"', 'failed: not an event of this provider'),
		('null', 'null', 'failed: not an event of this provider'),
		('an empty object', '{}', 'failed: not an event of this provider'),
		('an array of events', '[' || event(p, data => customer(p)) || ']', 'failed: not an event of this provider'),
		('two events one after the other', event(p, data => customer(p)) || event(p, data => customer(p)), 'failed: it is not JSON'),
		('half an event', left(event(p, data => customer(p)), 40), 'failed: it is not JSON'),
		('a byte order mark', U&'\FEFF' || event(p, data => customer(p)), 'failed: it is not JSON'),
		('100,000 open arrays', repeat('[', 100000), 'failed: it is nested too deep'),
		('100,000 arrays', event(p, data => repeat('[', 100000) || repeat(']', 100000)), 'failed: it is nested too deep'),
		('100,000 open objects', repeat('{"a":', 100000), 'failed: it is nested too deep'),
		('100,000 objects', event(p, data => repeat('{"a":', 100000) || '1' || repeat('}', 100000)), 'failed: it is nested too deep'),
		('100,000 brackets in a string', event(p, '"evt_brackets"', data => customer(p, more => format('"name":"%s"', repeat('[', 100000)))), 'applied'),
		('500 arrays beside the event', event(p, '"evt_500"', data => customer(p), more => '"x":' || repeat('[', 500) || repeat(']', 500)), 'applied'),
		('a member twice, the same', event(p, '"evt_twice"', data => customer(p), more => '"more":1,"more":1'), 'applied'),
		('a type twice: the last one counts', event(p, '"evt_type_twice"', data => customer(p), more => '"type":"nothing.known"'), 'ignored: (no effect on our rows|a type of event .*)'),
		('data twice: the last one counts', event(p, '"evt_data_twice"', data => customer(p), more => '"data":7'), '(ignored: no object that could be read|failed: not an event of this provider)'),
		('an escaped NUL in a name', event(p, '"evt_nul"', data => customer(p, more => '"name":"A\u0000B"')), 'applied'),
		('an escaped NUL in a name of a member', event(p, '"evt_nul_key"', data => customer(p, more => '"a\u0000b":1')), 'applied'),
		('a lone high surrogate', event(p, '"evt_high"', data => customer(p, more => '"name":"A\ud83d"')), 'applied'),
		('a lone low surrogate', event(p, '"evt_low"', data => customer(p, more => '"name":"\ude00B"')), 'applied'),
		('surrogates in the wrong order', event(p, '"evt_order"', data => customer(p, more => '"name":"\ude00\ud83d"')), 'applied'),
		('a pair of surrogates', event(p, '"evt_pair"', data => customer(p, more => '"name":"\ud83d\ude00"')), 'applied'),
		('an escape that is none', event(p, data => customer(p, more => '"name":"\x41"')), 'failed: it is not JSON'),
		('half an escape', event(p, data => customer(p, more => '"name":"\u00"')), 'failed: it is not JSON'),
		('a line break in a string', event(p, data => customer(p, more => E'"name":"a\nb"')), 'failed: it is not JSON'),
		('a number of 400 digits', event(p, '"evt_1e400"', data => customer(p), more => '"x":1e400'), 'applied'),
		('a number of 5000 digits', event(p, '"evt_5000"', data => customer(p), more => '"x":' || repeat('9', 5000)), 'applied'),
		('a number that no column holds', event(p, data => customer(p), more => '"x":1e200000'), 'failed: a number is out of range'),
		('an exponent that is no number', event(p, data => customer(p), more => '"x":1e99999999999999999999'), 'failed: (a number is out of range|it is not JSON)'),
		('NaN', event(p, data => customer(p), more => '"x":NaN'), 'failed: it is not JSON'),
		('a number with a leading zero', event(p, data => customer(p), more => '"x":01'), 'failed: it is not JSON'),
		('a comment', '/* */' || event(p, data => customer(p)), 'failed: it is not JSON'),
		('no type', event(p, type => NULL, data => customer(p)), 'failed: not an event of this provider'),
		('an unknown type', event(p, '"evt_unknown"', '"nothing.known"', data => customer(p)), 'ignored: (no effect on our rows|a type of event .*)'),
		('an empty type', event(p, '"evt_no_type"', '""', data => customer(p)), 'ignored: (no effect on our rows|a type of event .*)'),
		('no data', event(p, '"evt_no_data"'), '(ignored: no object that could be read|failed: not an event of this provider)'),
		('an unknown version of the API', event(p, '"evt_version"', data => customer(p), more => '"api_version":"2099-12-31.unheard"'), 'applied'),
		('an object that nobody knows', event(p, '"evt_stranger"', data => customer(p, '"cus_stranger"')), 'waiting: an object that is not known here'),
		('an object without an id', event(p, '"evt_no_id"', data => customer(p, 'null')), 'ignored: no object that could be read'),
		('an object whose id is an object', event(p, '"evt_id_object"', data => customer(p, '{"id":"cus_1"}')), 'ignored: no object that could be read'),
		('an object whose id is empty', event(p, '"evt_id_empty"', data => customer(p, '""')), 'ignored: no object that could be read'),
		('an object whose id is a megabyte', event(p, '"evt_id_large"', data => customer(p, format('"cus_%s"', repeat('a', 1000000)))), 'failed: an id in it is too long'),
		('an object whose id has quotes and control characters', event(p, '"evt_id_odd"', data => customer(p, '"cus''\"\\; DROP\n\t\u0001\u007f"')), 'waiting: an object that is not known here'),
		('a reference that is no uuid', event(p, '"evt_reference"', data => customer(p, '"cus_other"', '"external_id":"1","metadata":{"janua_ref":"1"}')), 'waiting: an object that is not known here'),
		('values of other types', event(p, '"evt_types"', data => customer(p, more => '"name":["Zacarias"],"email":{"a":1},"phone":true,"metadata":"x","livemode":"no"')), 'applied'),
		('no time', event(p, '"evt_no_time"', created => NULL, data => customer(p)), 'failed: (it does not say when it happened|not an event of this provider)'),
		('a time in milliseconds', event(p, '"evt_ms"', created => '1900000000000', data => customer(p)), 'failed: (it does not say when it happened|not an event of this provider)'),
		('the time zero', event(p, '"evt_zero"', created => '0', data => customer(p)), 'applied: nothing newer than what is here|failed: not an event of this provider'),
		('a time before 1970', event(p, '"evt_before"', created => '-86400', data => customer(p)), 'applied: nothing newer than what is here|failed: not an event of this provider'),
		('a time out of range', event(p, '"evt_far"', created => '99999999999999999', data => customer(p)), 'failed: (it does not say when it happened|not an event of this provider)'),
		('a time above int64', event(p, '"evt_farther"', created => '1e30', data => customer(p)), 'failed: (it does not say when it happened|not an event of this provider)'),
		('a fractional time', event(p, '"evt_fraction"', created => '1900000000.5', data => customer(p)), 'failed: (it does not say when it happened|not an event of this provider)'),
		('a time as null', event(p, '"evt_null_time"', created => 'null', data => customer(p)), 'failed: (it does not say when it happened|not an event of this provider)'),
		('a time as an array', event(p, '"evt_array_time"', created => '[1900000000]', data => customer(p)), 'failed: (it does not say when it happened|not an event of this provider)'),
		('a time that is no date', event(p, '"evt_no_date"', created => '"2030-02-30T00:00:00Z"', data => customer(p)), 'failed: (it does not say when it happened|not an event of this provider)')
	) AS odd (what, body, expected)
	UNION ALL SELECT 'a byte that is not UTF-8', convert_to(event(p, data => customer(p)), 'UTF8') || '\xff', 'failed: it is not UTF-8'
	UNION ALL SELECT 'half a character at the end', convert_to('"Ni', 'UTF8') || '\xc3', 'failed: it is not UTF-8'
	UNION ALL SELECT 'a character that is too long', '\x22c0af22', 'failed: it is not UTF-8'
	UNION ALL SELECT 'a surrogate in UTF-8', '\x22eda08022', 'failed: it is not UTF-8'
	UNION ALL SELECT 'a NUL byte', convert_to(event(p, data => customer(p)), 'UTF8') || '\x00', 'failed: it is not UTF-8'
	UNION ALL SELECT 'nothing but NUL bytes', '\x000000', 'failed: it is not UTF-8'
	UNION ALL SELECT 'UTF-16', '\xfffe7b007d00', 'failed: it is not UTF-8'
	UNION ALL SELECT 'data is ' || value, convert_to(event(p, format('"evt_data_%s"', n), data => value), 'UTF8'), '(ignored: no object that could be read|failed: not an event of this provider)'
		FROM unnest(ARRAY['null', '7', '"x"', 'true', '[]', '[{"object":{}}]', '{}']) WITH ORDINALITY AS v (value, n)
	UNION ALL SELECT 'the object is ' || value, convert_to(event(p, format('"evt_object_%s"', n), data => data(p, value)), 'UTF8'), '(ignored: no object that could be read|failed: not an event of this provider)'
		FROM unnest(ARRAY['null', '7', '"x"', 'true', '[]', '[{"id":"cus_1","object":"customer"}]', '{}']) WITH ORDINALITY AS v (value, n)
		WHERE p <> 'polar' -- there data is the object
	UNION ALL SELECT 'the type is ' || value, convert_to(event(p, format('"evt_type_%s"', n), type => value, data => customer(p)), 'UTF8'), 'failed: not an event of this provider'
		FROM unnest(ARRAY['null', '7', 'true', '["customer.updated"]', '{"a":1}']) WITH ORDINALITY AS v (value, n)
	UNION ALL SELECT 'the type is ' || length || ' bytes long', convert_to(event(p, format('"evt_type_of_%s"', length), type => format('"%s"', repeat('a', length)), data => customer(p)), 'UTF8'),
		CASE WHEN length > 255 THEN 'failed: its id or type is too long' ELSE 'ignored: (no effect on our rows|a type of event .*)' END
		FROM unnest(ARRAY[255, 256, 900000]) AS length
$$;

SELECT survives(provider, what, body, expected) FROM parties, odd_bodies(provider);

-- What is odd and read is read in full.
SELECT is(outcome(provider, event(provider, '"evt_read"', data => customer(provider, more => '"name":"A\u0000B\ud83dC\ude00D\ud83d\ude00\\u0000\\\u0000"')), 'msg_read'), 'applied',
	provider || ': a name that jsonb could not hold') FROM parties;
SELECT is((SELECT name FROM billing.customer_details WHERE id = p.id), U&'A\FFFDB\FFFDC\FFFDD\+01F600\\u0000\\\FFFD', p.provider || ': is read with U+FFFD for what cannot be kept, and nothing else') FROM parties AS p;
SELECT is((SELECT count(*) FROM billing.webhook_events WHERE reason ~ 'Zacarias|@'), 0::bigint, 'no reason quotes a person');

-- ---------------------------------------------------------------------------
-- Sizes: 1 MiB is taken, a byte more is not

CREATE FUNCTION of_size(provider text, bytes integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	body text := event(provider, format('"evt_of_%s"', bytes), data => customer(provider, more => '"name":"Large"'), more => '"x":"') || '"}';
BEGIN
	RETURN replace(body, '"x":"}"}', '"x":"' || repeat('x', bytes - length(body) + 1) || '"}');
END $$;
SELECT is(length(of_size(provider, 1048576)), 1048576, provider || ': a body of 1 MiB') FROM parties;
SELECT survives(provider, 'is read', of_size(provider, 1048576), 'applied') FROM parties;
SELECT count(*) AS stored FROM billing.webhook_events \gset
SELECT is(outcome(provider, of_size(provider, 1048577)), 'JB013', provider || ': one of a byte more is refused') FROM parties;
SELECT is(outcome(provider, of_size(provider, 1048577), headers => '{}'), 'JB013', provider || ': signed or not') FROM parties;
SELECT is((SELECT count(*) FROM billing.webhook_events), :stored::bigint, 'and nothing of it is stored');
UPDATE billing.settings SET value = '2000000' WHERE name = 'max_webhook_size';
SELECT survives(provider, 'the setting max_webhook_size is the limit', of_size(provider, 1048577), 'applied') FROM parties;
UPDATE billing.settings SET value = '1048576' WHERE name = 'max_webhook_size';

-- Few bytes that stand for many digits.
SET statement_timeout = '5 s';
SELECT survives('stripe', '50,000 numbers of 131,072 digits are read at once', event('stripe', '"evt_digits"', '"charge.dispute.created"',
	data => '{"object":{"object":"dispute","id":"dp_digits","payment_intent":"pi_none","status":"lost","currency":"mxn","amount":1,"balance_transactions":[' || repeat('{"amount":1e131071},', 50000) || '{}]}}'),
	'waiting: an object that is not known here');
RESET statement_timeout;

-- ---------------------------------------------------------------------------
-- What is not signed is refused, whatever it is, and leaves nothing

SELECT count(*) AS stored FROM billing.webhook_events \gset
SELECT is(outcome(provider, body, headers => signed(provider, body || 'x')), 'JB001', provider || ': not signed: ' || what)
FROM parties, (VALUES ('an empty body', ''::bytea), ('a NUL byte', '\x00'), ('no UTF-8', '\xff'), ('no JSON', '{'), ('a bomb', convert_to(repeat('[', 100000), 'UTF8')),
	('1 MiB', convert_to(repeat(' ', 1048576), 'UTF8'))) AS odd (what, body);
SELECT is(outcome('stripe', '{'::text, headers => jsonb_build_object('Stripe-Signature', format('t=%s,v1=%s', at, encode(hmac(at || '.{', 'whsec_of_stripe', 'sha256'), 'hex')))), 'JB002',
	'stripe: signed long ago') FROM floor(extract(epoch FROM now()) - 3600) AS at;
SELECT is(outcome('polar', '{'::text, headers => jsonb_build_object('webhook-id', 'msg_1', 'webhook-timestamp', at, 'webhook-signature',
	'v1,' || encode(hmac('msg_1.' || at || '.{', 'polar_whs_of_polar', 'sha256'), 'base64'))), 'JB002', 'polar: signed long ago') FROM floor(extract(epoch FROM now()) - 3600) AS at;

-- Headers that are none. NULL: refused as an argument.
SELECT is(outcome(provider, '{}'::text, headers => headers::jsonb), expected, format('%s: headers %s', provider, left(headers, 60)))
FROM parties, (VALUES ('[]', '22023'), ('"x"', '22023'), ('7', '22023'), ('null', '22023'), ('[["Stripe-Signature","t=1,v1=00"]]', '22023'), ('{}', 'JB001'), ('{"": ""}', 'JB001')) AS odd (headers, expected);
CREATE FUNCTION main_header(provider text) RETURNS text LANGUAGE sql
RETURN CASE provider WHEN 'stripe' THEN 'Stripe-Signature' WHEN 'conekta' THEN 'Digest' ELSE 'webhook-signature' END;
SELECT is(outcome(provider, '{}'::text, headers => signed(provider, '{}') || jsonb_build_object(main_header(provider), value::jsonb)), 'JB001', format('%s: a signature that is %s', provider, left(value, 40)))
FROM parties, unnest(ARRAY['null', '7', '1e131071', 'true', '""', '[]', '{}', '[null]', '[[]]', '[{"a":"b"}]', '{"v1":["00"]}', '["", ""]', '",,,,="', '"t=,v1="', '"v1,"', '"t=1,v1=\u0001"',
	to_json(repeat('a', 102400))::text, to_json(repeat('t=1,', 30000))::text, to_json('t=' || repeat('9', 100000) || ',v1=00')::text, to_json('t=1' || repeat(',v1=' || repeat('0', 64), 3000))::text,
	to_json(repeat('v1,AAAA ', 12000))::text, to_json(repeat('=', 102400))::text]) AS value;
SELECT is((SELECT count(*) FROM billing.webhook_events), :stored::bigint, 'nothing of all that is stored');

-- Good signatures among odd headers.
SELECT is(outcome(provider, body, 'msg_among', headers => signed(provider, convert_to(body, 'UTF8'), 'msg_among') || '{"": "x", "X-Null": null, "X-Deep": [[{"a": [1]}]], "X-Number": 7, "x-large": 1e1000}'), 'applied', provider || ': a good signature among odd headers')
FROM (SELECT provider, event(provider, '"evt_among"', data => customer(provider)) AS body FROM parties OFFSET 0) AS e;
SELECT is(outcome(provider, body, 'msg_listed', headers => (SELECT jsonb_object_agg(upper(key), jsonb_build_array(NULL, value, '[]'::jsonb)) FROM jsonb_each(signed(provider, convert_to(body, 'UTF8'), 'msg_listed')))), 'applied',
	provider || ': headers as lists, in which only texts count')
FROM (SELECT provider, event(provider, '"evt_listed"', data => customer(provider)) AS body FROM parties OFFSET 0) AS e;
SELECT is(outcome('stripe', body, headers => jsonb_build_object('Stripe-Signature', repeat('v1=' || repeat('0', 64) || ',', 3000) || (signed('stripe', convert_to(body, 'UTF8')) ->> 'Stripe-Signature'))), 'applied',
	'stripe: a good signature after 3000 others') FROM (SELECT event('stripe', '"evt_after_many"', data => customer('stripe')) AS body OFFSET 0) AS e;

-- ---------------------------------------------------------------------------
-- Ids of events

SELECT survives(provider, 'an id that is ' || value, event(provider, value, data => customer(provider)), 'failed: not an event of this provider')
FROM parties, unnest(ARRAY['null', '7', 'true', '""', '[]', '["evt_1"]', '{"id":"evt_1"}', NULL]) AS value WHERE provider <> 'polar';
SELECT survives(provider, 'no id', event(provider, NULL, data => customer(provider)), 'failed: not an event of this provider') FROM parties WHERE provider <> 'polar';
SELECT survives(provider, format('an id of %s bytes', bytes), event(provider, format('"%s"', repeat('e', bytes)), data => customer(provider)),
	CASE WHEN bytes > 255 THEN 'failed: its id or type is too long' ELSE 'applied' END, repeat('e', bytes))
FROM parties, unnest(ARRAY[255, 256, 3000, 1000000]) AS bytes;
SELECT survives(provider, 'an id with quotes and control characters', event(provider, '"e''\"\\;\n\t\u0001\u007f\u0000"', data => customer(provider)), 'applied', E'e''"\\;\x7f') FROM parties;
SELECT survives(provider, 'an id twice: the last one counts', event(provider, '"evt_shadowed"', data => customer(provider), more => '"id":"evt_counts"'), 'applied') FROM parties WHERE provider <> 'polar';
SELECT bag_eq($$SELECT provider, event_id FROM billing.webhook_events WHERE event_id IN ('evt_shadowed', 'evt_counts')$$, $$VALUES ('stripe', 'evt_counts'), ('conekta', 'evt_counts')$$, 'under the last one it is kept');
SELECT is(outcome(provider, event(provider, '"evt_same"', data => customer(provider, more => format('"name":"%s"', n))), 'msg_same'), CASE n WHEN 1 THEN 'applied' ELSE 'duplicate' END,
	format('%s: an id for the %s. time, with another content', provider, n)) FROM parties, generate_series(1, 2) AS n;

-- ---------------------------------------------------------------------------
-- Events for others, and of another kind

SELECT survives('stripe', 'a thin event', '{"id":"evt_thin","object":"v2.core.event","type":"v1.billing.meter.no_meter_found","created":"2030-01-01T00:00:00Z","livemode":false,
	"related_object":{"id":"mtr_1","type":"billing.meter","url":"/v1/billing/meters/mtr_1"}}', 'ignored: thin event');
SELECT survives('stripe', 'a thin event of another account', '{"id":"evt_thin_other","object":"v2.core.event","type":"v1.x","created":"2030-01-01T00:00:00Z","context":"acct_other"}', 'ignored: an event of another account');
SELECT survives('stripe', 'an event of a connected account', event('stripe', '"evt_connect"', data => customer('stripe', more => '"name":"Connected"'), more => '"account":"acct_other"'), 'ignored: an event of another account');
SELECT survives(provider, 'a live event for a test account', event(provider, '"evt_live"', data => customer(provider, more => '"name":"Live"'), more => '"livemode":true'), 'ignored: a live event for a test account')
FROM parties WHERE provider <> 'polar';
SELECT is(billing.replay_webhook(event_id, provider), 'ignored', format('%s: to replay %s changes nothing of that', provider, event_id)) FROM billing.webhook_events
WHERE event_id IN ('evt_connect', 'evt_live', 'evt_thin', 'evt_thin_other');
SELECT is((SELECT count(*) FROM billing.customer_details WHERE name IN ('Connected', 'Live')), 0::bigint, 'nothing of them was taken over');
SELECT is(billing.replay_webhook(event_id, provider), 'failed', format('%s: to replay what is unreadable leaves it failed', provider)) FROM
	(SELECT DISTINCT ON (provider) provider, event_id FROM billing.webhook_events WHERE type = 'unreadable' AND reason = 'it is nested too deep' ORDER BY provider, event_id) AS e;

SELECT billing.configure_provider('stripe', 'sk_test_of_second', 'whsec_of_second', account => 'second', base_url => 'http://127.0.0.1:9');
SELECT is(outcome('stripe', body, headers => jsonb_build_object('Stripe-Signature', format('t=%s,v1=%s', at, encode(hmac(at || '.' || body, 'whsec_of_second', 'sha256'), 'hex')))),
	'waiting: an object that is not known here', 'an event of one account that names a customer of another: ' || type)
FROM floor(extract(epoch FROM now())) AS at, (VALUES
	('customer.updated', '{"object":"customer","id":"cus_1","name":"Zacarias"}'),
	('invoice.paid', '{"object":"invoice","id":"in_second","customer":"cus_1","status":"paid","currency":"usd","total":100}'),
	('payment_intent.succeeded', '{"object":"payment_intent","id":"pi_second","customer":"cus_1","status":"succeeded","currency":"usd","amount":100,"amount_received":100}'),
	('customer.subscription.created', '{"object":"subscription","id":"sub_second","customer":"cus_1","status":"active","items":{"data":[{"id":"si_1","price":"price_1"}]}}'),
	('payment_method.attached', '{"object":"payment_method","id":"pm_second","customer":"cus_1","type":"card","card":{"brand":"visa"}}')) AS e (type, object),
	LATERAL (SELECT event('stripe', format('"evt_second_%s"', type), format('"%s"', type), data => data('stripe', object)) AS body OFFSET 0) AS b;
SELECT is((SELECT count(*) FROM billing.provider_refs WHERE account = 'second'), 0::bigint, 'nothing comes of it');
SELECT is((SELECT count(*) FROM billing.customer_details WHERE name = 'Zacarias'), 0::bigint, 'and the customer of the other account stays as it is');

-- ---------------------------------------------------------------------------
-- Money and states


CREATE FUNCTION payment(p text, id text, status text, amount text, currency text) RETURNS text LANGUAGE sql
RETURN event(p, format('"evt_of_%s"', id), CASE p WHEN 'stripe' THEN '"payment_intent.succeeded"' ELSE '"order.paid"' END, data => data(p, CASE p
	WHEN 'stripe' THEN format('{"object":"payment_intent","id":"%s","customer":"cus_1","status":%s,"amount":%s,"amount_received":%s,"currency":%s,"receipt_email":"zacarias@example.com"}', id, status, amount, amount, currency)
	WHEN 'conekta' THEN format('{"object":"order","id":"%s","customer_info":{"customer_id":"cus_1","email":"zacarias@example.com"},"payment_status":%s,"amount":%s,"currency":%s,"livemode":false}', id, status, amount, currency)
	ELSE format('{"id":"%s","customer_id":"cus_1","status":%s,"paid":true,"total_amount":%s,"due_amount":0,"currency":%s,"billing_reason":"purchase","created_at":"2030-01-01T00:00:00Z","modified_at":"2030-01-01T00:00:00Z"}', id, status, amount, currency)
	END));
CREATE FUNCTION paid(p text) RETURNS text LANGUAGE sql RETURN CASE p WHEN 'stripe' THEN '"succeeded"' ELSE '"paid"' END;
SELECT survives(provider, format('a payment %s', what), payment(provider, 'pay_' || md5(what), coalesce(status, paid(provider)), amount, currency), expected)
FROM parties, (VALUES
('of 100', NULL, '100', '"mxn"', 'applied'),
	('above int64', NULL, '9223372036854775808', '"mxn"', 'waiting: an object that is not known here'),
	('of int64', NULL, '9223372036854775807', '"mxn"', 'applied'),
	('below int64', NULL, '-9223372036854775809', '"mxn"', 'waiting: an object that is not known here'),
	('of the least int64', NULL, '-9223372036854775808', '"mxn"', 'waiting: an object that is not known here'),
	('below zero', NULL, '-100', '"mxn"', 'failed: 23514: .*|applied'),
	('of a fraction', NULL, '99.5', '"mxn"', 'waiting: an object that is not known here'),
	('of a whole number with decimals', NULL, '100.00', '"mxn"', 'applied'),
	('as text', NULL, '"100"', '"mxn"', 'waiting: an object that is not known here'),
	('as 1e2', NULL, '1e2', '"mxn"', 'applied'),
	('as 1e400', NULL, '1e400', '"mxn"', 'waiting: an object that is not known here'),
	('of null', NULL, 'null', '"mxn"', 'waiting: an object that is not known here'),
	('of an array', NULL, '[100]', '"mxn"', 'waiting: an object that is not known here'),
	('in xyz', NULL, '100', '"xyz"', 'failed: 23503: .*'),
	('in four letters', NULL, '100', '"mxnn"', 'failed: 23503: .*'),
	('in a number', NULL, '100', '484', 'failed: 23503: .*'),
	('in nothing', NULL, '100', 'null', 'waiting: an object that is not known here'),
	('in an empty currency', NULL, '100', '""', 'failed: 23503: .*'),
	('in a state that nobody knows', '"reticulated"', '100', '"mxn"', 'waiting: an object that is not known here|ignored: no object that could be read|applied'),
	('in a state that is null', 'null', '100', '"mxn"', 'waiting: an object that is not known here|ignored: no object that could be read|applied'),
	('in a state that is a number', '7', '100', '"mxn"', 'waiting: an object that is not known here|ignored: no object that could be read|applied'),
	('of 10,000 digits', NULL, repeat('9', 10000), '"mxn"', 'waiting: an object that is not known here'),
	('in a currency that is a megabyte', NULL, '100', to_json(repeat('m', 900000))::text, 'failed: 23503: .*'))
AS odd (what, status, amount, currency, expected);

SELECT is((SELECT array_agg(DISTINCT amount ORDER BY amount) FROM billing.payment_intents WHERE amount > 0), ARRAY[100, 9223372036854775807], 'amounts are as they were told or not there at all');

-- A state that nobody knows changes no payment and makes none, however often it comes.
SELECT survives(provider, 'a payment without a known state, again', event(provider, '"evt_again"', CASE provider WHEN 'stripe' THEN '"payment_intent.processing"' ELSE '"order.updated"' END, data => data(provider,
	CASE provider WHEN 'stripe' THEN format('{"object":"payment_intent","id":"pay_%s","customer":"cus_1","status":"reticulated","amount":100,"currency":"mxn"}', md5('of 100'))
	WHEN 'conekta' THEN format('{"object":"order","id":"pay_%s","customer_info":{"customer_id":"cus_1"},"payment_status":"reticulated","amount":100,"currency":"MXN"}', md5('of 100'))
	ELSE format('{"id":"pay_%s","customer_id":"cus_1","status":"reticulated","total_amount":100,"currency":"mxn","created_at":"2030-01-02T00:00:00Z"}', md5('of 100')) END)),
	'applied.*|ignored: no object that could be read') FROM parties;
SELECT is((SELECT array_agg(p.status ORDER BY p.provider) FROM billing.payment_intents AS p JOIN billing.provider_refs AS r ON r.object_id = p.id WHERE r.provider_id = 'pay_' || md5('of 100')),
	ARRAY['succeeded', 'succeeded', 'succeeded'], 'what is paid stays paid');

-- Other objects, whose words, times and ids are wrong: whatever becomes of the
-- event, it is no error and leaves no half of an object.
SELECT billing.link_price('00000000-0000-7000-8001-000000000002', provider, 'price_1') FROM parties;
SELECT survives(provider, format('%s %s', type, left(object, 70)), event(provider, format('"evt_odd_%s"', md5(object)), to_json(type)::text, data => data(provider, object)), '(applied|ignored|waiting|failed).*')
FROM (VALUES
	('stripe', 'customer.subscription.updated', '{"object":"subscription","id":"sub_word","customer":"cus_1","status":"reticulated","currency":"usd","items":{"data":[{"id":"si_1","price":"price_1","quantity":1}]}}'),
	('stripe', 'customer.subscription.updated', '{"object":"subscription","id":"sub_quantity","customer":"cus_1","status":"active","currency":"usd","items":{"data":[{"id":"si_1","price":"price_1","quantity":-5}]}}'),
	('stripe', 'customer.subscription.updated', '{"object":"subscription","id":"sub_period","customer":"cus_1","status":"active","currency":"usd","items":{"data":[{"id":"si_1","price":"price_1","quantity":9223372036854775807,"current_period_start":1900000000,"current_period_end":-1900000000}]}}'),
	('stripe', 'customer.subscription.updated', '{"object":"subscription","id":"sub_items","customer":"cus_1","status":"active","items":[{"price":"price_1"}],"cancel_at":99999999999999,"trial_end":"soon"}'),
	('stripe', 'customer.subscription.deleted', '{"object":"subscription","id":"sub_never","customer":"cus_1","status":"canceled"}'),
	('stripe', 'invoice.paid', '{"object":"invoice","id":"in_word","customer":"cus_1","status":"reticulated","currency":"usd","total":100}'),
	('stripe', 'invoice.paid', '{"object":"invoice","id":"in_total","customer":"cus_1","status":"paid","currency":"usd","total":-9223372036854775807,"amount_due":1e18,"attempt_count":2147483648,"total_taxes":[{"amount":9223372036854775807},{"amount":9223372036854775807}]}'),
	('stripe', 'invoice.paid', '{"object":"invoice","id":"in_long","customer":"cus_1","status":"paid","currency":"usd","total":1,"payments":{"data":[{"payment":{"payment_intent":{"id":[]}}}]},"parent":"x","number":{"a":1}}'),
	('stripe', 'setup_intent.succeeded', '{"object":"setup_intent","id":"seti_word","customer":"cus_1","status":"reticulated"}'),
	('stripe', 'payment_method.attached', '{"object":"payment_method","id":"pm_odd","customer":"cus_1","type":"card.brand.x","card":{"exp_month":99,"exp_year":2147483647,"last4":4242}}'),
	('stripe', 'payment_method.attached', '{"object":"payment_method","id":"pm_year","customer":"cus_1","type":"card","card":{"brand":7,"exp_month":99,"exp_year":2147483647,"last4":"123456789"}}'),
	('stripe', 'refund.updated', '{"object":"refund","id":"re_word","payment_intent":"pay_PAID","status":"reticulated","currency":"mxn","amount":10}'),
	('stripe', 'refund.updated', '{"object":"refund","id":"re_minus","payment_intent":"pay_PAID","status":"succeeded","currency":"mxn","amount":-10}'),
	('stripe', 'refund.updated', '{"object":"refund","id":"re_large","payment_intent":"pay_PAID","status":"succeeded","currency":"mxn","amount":9223372036854775807}'),
	('stripe', 'charge.refunded', '{"object":"charge","id":"ch_odd","refunds":{"data":[null,7,[],{},{"object":"refund"},{"object":"refund","id":"re_in_charge","status":"succeeded","amount":1,"payment_intent":"pay_PAID","currency":"mxn"}]}}'),
	('stripe', 'charge.dispute.created', '{"object":"dispute","id":"dp_word","payment_intent":"pay_PAID","status":"reticulated","currency":"mxn","amount":10,"balance_transactions":[{"amount":-9223372036854775808},{"amount":"1"}]}'),
	('stripe', 'checkout.session.completed', '{"object":"checkout.session","id":"cs_word","customer":"cus_1","status":"reticulated","payment_status":"maybe","amount_total":-1,"currency":"xyz"}'),
	('stripe', 'price.updated', '{"object":"price","id":"price_1","metadata":{"janua_ref":"00000000-0000-7000-8001-000000000002"},"unit_amount":-1}'),
	('stripe', 'customer.updated', '{"object":"invoice","id":"in_mistaken","customer":"cus_1","status":"open","currency":"usd"}'),
	('conekta', 'subscription.updated', '{"object":"subscription","id":"sub_word","customer_id":"cus_1","plan_id":"price_1","status":"reticulated"}'),
	('conekta', 'subscription.updated', '{"object":"subscription","id":"sub_period","customer_id":"cus_1","plan_id":"price_1","status":"active","billing_cycle_start":1900000000,"billing_cycle_end":-62135596800}'),
	('conekta', 'order.paid', '{"object":"order","id":"ord_charges","customer_info":{"customer_id":"cus_1"},"payment_status":"paid","amount":100,"currency":"MXN","charges":{"data":[null,7,{"id":[]},{"id":"ch_1","refunds":{"data":[null,{"id":"re_1","amount":-9223372036854775807}]},"chargeback":{"id":"cb_1","status":"reticulated"}}]}}'),
	('conekta', 'order.paid', '{"object":"order","id":"ord_list","customer_info":"cus_1","payment_status":["paid"],"amount":100,"currency":"MXN","charges":[1]}'),
	('conekta', 'charge.refunded', '{"object":"charge","id":"ch_1","order_id":"pay_PAID","amount":100,"currency":"MXN","refunds":[{"id":"re_2","amount":9223372036854775807},{"id":"re_3","amount":0}]}'),
	('conekta', 'charge.reversed', '{"object":"charge","id":"ch_1","order_id":"pay_PAID","amount":-100}'),
	('conekta', 'charge.chargeback.created', '{"object":"chargeback","id":"cb_2","order_id":["x"],"status":7}'),
	('conekta', 'customer.payment_source.card.blocked', '{"object":"payment_source","id":{"a":1}}'),
	('conekta', 'plan.deleted', '{"object":"plan","id":"janua_00000000-0000-7000-8001-00000000000x"}'),
	('polar', 'subscription.updated', '{"id":"sub_word","customer_id":"cus_1","product_id":"price_1","status":"reticulated"}'),
	('polar', 'subscription.updated', '{"id":"sub_period","customer_id":"cus_1","product_id":"price_1","status":"active","seats":-1,"current_period_start":"9999-12-31T23:59:59Z","current_period_end":"0001-01-01T00:00:00Z"}'),
	('polar', 'subscription.updated', '{"id":"sub_times","customer_id":"cus_1","product_id":"price_1","status":"active","modified_at":1900000000,"ends_at":"99999-01-01T00:00:00Z","current_period_start":"2030-01-01T00:00:00.+01:00"}'),
	('polar', 'order.paid', '{"id":"ord_sub","customer_id":"cus_1","subscription_id":"sub_none","status":"paid","paid":"yes","total_amount":100,"currency":"usd"}'),
	('polar', 'refund.updated', '{"id":"re_odd","order_id":"pay_PAID","status":"succeeded","amount":9223372036854775807,"tax_amount":1,"currency":"mxn","dispute":{"id":"dp_1","status":"reticulated"}}'),
	('polar', 'refund.updated', '{"id":"re_minus","order_id":"pay_PAID","status":"succeeded","amount":-5,"tax_amount":0,"currency":"mxn","dispute":[]}'),
	('polar', 'checkout.updated', '{"id":"co_odd","customer_id":7,"status":"reticulated","expires_at":"tomorrow"}'),
	('polar', 'customer.deleted', '{"id":"cus_never","external_id":"00000000-0000-7000-8000-000000000000"}')) AS odd (provider, type, template),
	LATERAL (SELECT replace(template, 'PAID', md5('of 100')) AS object OFFSET 0) AS o;
SELECT is((SELECT array_agg(DISTINCT p.status) FROM billing.payment_intents AS p JOIN billing.provider_refs AS r ON r.object_id = p.id WHERE r.provider_id = 'pay_' || md5('of 100') AND p.status NOT IN ('refunded', 'partially_refunded')),
	ARRAY['succeeded'], 'no payment is lost by all that');
SELECT is_empty(format('SELECT o.id FROM billing.%I AS o WHERE NOT EXISTS (SELECT FROM billing.provider_refs AS r WHERE r.object_id = o.id)', relation), 'no half of an object in ' || relation)
FROM unnest(ARRAY['payment_intents', 'refunds', 'disputes', 'invoices', 'subscriptions', 'setup_intents', 'payment_methods']) AS relation;
SELECT is((SELECT count(*) FROM billing.webhook_events WHERE reason ~* 'zacarias|@|reticulated'), 0::bigint, 'no reason quotes an event');
SELECT is((SELECT count(*) FROM billing.webhook_events WHERE state = 'received' OR handled_at IS NULL), 0::bigint, 'and none is left without an answer');

SELECT * FROM finish();

-- Who or what changed which object: billing.audit_log.
\ir helpers.psql
SELECT plan(61);

-- What was done by a call last; the worker may be writing beside us.
CREATE FUNCTION newest() RETURNS billing.audit_log
LANGUAGE sql
RETURN (SELECT l FROM billing.audit_log AS l WHERE l.cause = 'call' ORDER BY l.seq DESC LIMIT 1);

-- ---------------------------------------------------------------------------
-- Every table is decided about

SELECT is(ARRAY(SELECT c.relname FROM pg_class AS c
				WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p')
					AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tgfoid = 'billing.audit_row'::regproc)
				ORDER BY c.relname COLLATE "C"),
		  ARRAY[
			  -- what the extension comes with, and nobody changes
			  'access_levels', 'all_organizations',
			  -- news, and work in progress
			  'audit_log', 'credit_grant_entries', 'credit_note_lines', 'customer_balance_entries', 'customer_balances', 'dispute_transitions', 'dunning_attempts', 'environment_variables', 'events', 'events_unsent', 'idempotency_keys', 'invoice_lines', 'invoice_payments', 'invoice_series', 'ledger', 'ledger_accounts', 'limits_changed', 'outbox',
			  'outbox_finished', 'payment_intent_transitions', 'postponed_work', 'provider_circuits', 'provider_refs',
			  -- the sandbox's own state
			  'sandbox_clocks', 'sandbox_deliveries', 'sandbox_faults', 'sandbox_state',
			  'subscription_statuses', 'subscription_transitions', 'usage_alert_marks', 'usage_alerts', 'usage_closing_lines', 'usage_closing_marks', 'usage_closing_prices', 'usage_closings', 'usage_counters', 'usage_dirty', 'usage_events', 'usage_forward_marks', 'usage_forward_periods', 'usage_forwards', 'usage_keys', 'usage_organizations', 'usage_reservations', 'usage_rollup_state', 'usage_totals', 'usage_values', 'waiting_links', 'webhook_events', 'worker_state']::name[],
		  'a table is audited, or stands here');
SELECT is_empty($$
	SELECT t.tgrelid::regclass, c.name
	FROM pg_trigger AS t
	CROSS JOIN LATERAL string_to_array(encode(t.tgargs, 'escape'), '\000') AS a (words)
	CROSS JOIN LATERAL (SELECT ltrim(w, '-') FROM unnest(array_remove(a.words[2:2] || string_to_array(a.words[3], ',') || a.words[4:], '')) AS w) AS c (name)
	WHERE t.tgfoid = 'billing.audit_row'::regproc
		AND NOT EXISTS (SELECT FROM pg_attribute AS f WHERE f.attrelid = t.tgrelid AND f.attname = c.name AND f.attnum > 0)
	$$, 'the triggers name columns that there are');
SELECT is((SELECT count(*) FROM billing.audit_log), 0::bigint, 'what the extension comes with nobody has changed');

-- ---------------------------------------------------------------------------
-- A call

SELECT billing.create_customer('acme', email => 'ana@secret.example', name => 'Ana Secret', phone => '+49301234567', country => 'DE',
	description => 'secret note', metadata => '{"secret": "note"}') AS acme \gset
SELECT is((newest()).object || ' ' || (newest()).object_id || ' ' || (newest()).organization_id || ' ' || (newest()).action, 'customer ' || :'acme' || ' acme insert', 'a new customer is in the log');
SELECT is((newest()).cause || ' ' || (newest()).sql_user, 'call ' || session_user, 'made by a call of the SQL user');
SELECT ok((newest()).cause_id IS NULL AND (newest()).sql_role IS NULL AND (newest()).before IS NULL AND NOT (newest()).livemode, 'in test mode, from nothing');
SELECT is((newest()).after ->> 'country', 'DE', 'with what it says');
SELECT is((newest()).after - '{account,country,provider,tax_exempt}'::text[],
		  '{"name": "sealed", "email": "sealed", "phone": "sealed", "email_hash": "sealed", "metadata": "withheld", "description": "withheld"}'::jsonb,
		  'but not with what is said of a person or by one');
SELECT is((newest()).at, now(), 'at the time of its transaction') FROM billing.create_customer('timely');

SELECT billing.update_customer(:'acme', '{"country": "FR", "email": "ana@secret.example", "name": "Ana Secres"}');
SELECT is((newest()).before, '{"name": "sealed", "country": "DE"}'::jsonb, 'of an update stands what changed, as it was');
SELECT is((newest()).after, '{"name": "sealed", "country": "FR"}'::jsonb, 'and as it is; what was sealed again is no change');
SELECT billing.update_customer(:'acme', '{"description": "another secret"}');
SELECT is((newest()).before || (newest()).after, '{"description": "withheld"}'::jsonb, 'that a note changed is told, and not what it says');
SELECT billing.update_customer(:'acme', '{"phone": null}');
SELECT is((newest()).before || jsonb_build_object('after', (newest()).after), '{"phone": "sealed", "after": {"phone": null}}'::jsonb, 'or that it went');
SELECT count(*) AS rows FROM billing.audit_log WHERE object = 'customer' \gset
UPDATE billing.customers SET updated_at = now() + interval '1 second';
UPDATE billing.customers SET country = country;
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object = 'customer'), :rows::bigint, 'a touch is no change');

CREATE ROLE audit_admin LOGIN;
CREATE ROLE audit_app;
SELECT billing.grant_access('audit_admin', 'admin');
SELECT billing.grant_access('audit_app', 'app');
SELECT is((newest()).object || ' ' || (newest()).object_key || ' ' || (newest()).action, 'access_grant audit_app/app insert', 'who may do what is audited');
SET SESSION AUTHORIZATION audit_admin;
UPDATE billing.settings SET value = 'EUR' WHERE name = 'default_currency';
RESET SESSION AUTHORIZATION;
SELECT is((newest()).object_key || ' ' || (newest()).sql_user || ' ' || (newest()).before || ' ' || (newest()).after,
		  'default_currency audit_admin {"value": "USD"} {"value": "EUR"}', 'a setting that an administrator changed himself');
SET ROLE audit_app;
SELECT billing.create_customer('umbrella');
RESET ROLE;
SELECT is((newest()).sql_user || ' as ' || (newest()).sql_role, session_user || ' as audit_app', 'who was logged in, and as whom he acted');
SELECT billing.set_plan_feature('pro', 'sso', 'false');
SELECT is((newest()).object || ' ' || (newest()).object_id || ' ' || (newest()).object_key || ' ' || (newest()).after, 'plan_feature 00000000-0000-7000-8000-000000000002 sso {"value": "false"}', 'a feature of a plan, under the plan');
SELECT billing.set_tax_rate('DE', 19, name => 'USt.') AS everywhere \gset
SELECT is((newest()).object || ' ' || (newest()).object_id || ' ' || (newest()).object_key, 'tax_rate ' || :'everywhere' || ' DE', 'what has no second name has the first');
SELECT billing.set_tax_rate('CA', 13, name => 'HST', region => 'ON') AS regional \gset
SELECT is((newest()).object_id || ' ' || (newest()).object_key, :'regional' || ' CA/ON', 'or both');
CREATE TABLE public.nameless (id uuid, first text, second text);
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON public.nameless FOR EACH ROW EXECUTE FUNCTION billing.audit_row('nameless', 'id', 'first,second');
INSERT INTO public.nameless VALUES (NULL, NULL, NULL), (NULL, NULL, 'b');
SELECT is((newest()).object || ' ' || (newest()).object_key || coalesce((newest()).object_id::text, ''), 'nameless b', 'or the second alone');
UPDATE public.nameless SET first = 'a', second = NULL WHERE second = 'b';
SELECT is((newest()).object_key || ' ' || (newest()).before || (newest()).after, 'a {"first": null, "second": "b"}{"first": "a", "second": null}', 'and one without a uuid can change');
DROP TABLE public.nameless;
SELECT billing.attach_payment_method(:'acme', 'pm_card_visa') AS method \gset
SELECT is((newest()).object || ' ' || (newest()).organization_id || ' ' || ((newest()).after ->> 'token'), 'payment_method acme withheld', 'a payment method, under its organisation and without its token');

SET timezone = 'Asia/Tokyo';
UPDATE billing.plans SET retired_at = '2030-01-01 00:00:00.5+00' WHERE plan = 'enterprise';
RESET timezone;
SELECT is(format('%s %s', (newest()).before, (newest()).after), '{"retired_at": null} {"retired_at": "2030-01-01T00:00:00.5+00:00"}', 'times are UTC in every session');
UPDATE billing.routing_rules SET countries = '{MX,NULL,"D E"}' WHERE name = (SELECT r.name FROM billing.routing_rules AS r WHERE r.countries IS NULL ORDER BY r.name LIMIT 1);
SELECT is((newest()).after -> 'countries', '["MX", null, "D E"]'::jsonb, 'an array is one');
SELECT billing.grant_access('audit_app', 'report');
SELECT billing.revoke_access('audit_app', 'report');
SELECT is((newest()).action || ' ' || ((newest()).before ->> 'level') || coalesce((newest()).after::text, ''), 'delete report', 'of what is deleted stands what it was');
BEGIN;
UPDATE billing.settings SET value = 'USD' WHERE name = 'default_currency';
ROLLBACK;
SELECT is((newest()).action, 'delete', 'what is rolled back did not happen');
UPDATE billing.settings SET value = 'USD' WHERE name = 'default_currency';

-- ---------------------------------------------------------------------------
-- The answer to a request, a webhook, a duty

CALL billing.run_worker();
SELECT billing.subscribe('acme', 'pro', :'method', managed_by => 'provider') AS subscription \gset
-- a method that is refused is told by the answer alone; of the rest the webhook may come first
SELECT billing.attach_payment_method(:'acme', 'pm_card_chargeDeclined') AS refused \gset
SELECT max(seq) AS seq FROM billing.audit_log \gset
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.audit_log AS l WHERE l.seq > :seq AND l.cause NOT IN ('request', 'webhook')), 0::bigint, 'what the worker takes over was told by the provider');
SELECT ok(count(*) FILTER (WHERE l.object_id = :'refused') > 0 AND count(*) = count(f.id), 'an answer names its request')
FROM billing.audit_log AS l LEFT JOIN billing.outbox_finished AS f ON f.id = l.cause_id::uuid WHERE l.cause = 'request';
SELECT ok(count(*) > 0 AND count(*) = count(e.id), 'a webhook its event')
FROM billing.audit_log AS l LEFT JOIN billing.webhook_events AS e ON e.event_id = l.cause_id WHERE l.cause = 'webhook';
SELECT is((SELECT string_agg(DISTINCT coalesce(l.before ->> 'status', '-') || ' ' || (l.after ->> 'status'), ', ') FROM billing.audit_log AS l WHERE l.object_id = :'subscription' AND l.after ? 'status'),
		  '- incomplete, incomplete active', 'the history of a subscription');

-- Money that comes, and the page of an invoice, which is sealed anew with each piece of news.
CALL billing.advance_clock('acme', '1 month 2 hours');
SELECT is((SELECT count(*) FROM billing.audit_log AS l WHERE l.object = 'invoice' AND l.action = 'update' AND l.before ->> 'hosted_url' = 'sealed'), 0::bigint, 'an address that stays the same does not stand there again and again');
SELECT ok((SELECT bool_and(l.cause = 'webhook' AND l.livemode = false) FROM billing.audit_log AS l WHERE l.object = 'payment_intent' AND l.organization_id = 'acme'), 'payments of renewals come by webhook');

SELECT billing.configure_provider('sandbox', account => 'mexico', options => '{"behave_as": "conekta"}');
SELECT billing.create_price('pro', 49900, 'MXN') AS price \gset
SELECT billing.create_customer('ends', 'ends@b.mx', 'Ends', phone => '+525512345678', currency => 'MXN', provider => 'sandbox', account => 'mexico') AS ends \gset
SELECT billing.subscribe('ends', 'pro', 'tok_test_visa_4242', account => 'mexico', provider => 'sandbox') AS ending \gset
CALL billing.run_worker();
SELECT billing.cancel_subscription(:'ending', comment => 'secret reason');
SELECT is((SELECT l.cause || ' ' || (l.after ->> 'comment') FROM billing.audit_log AS l WHERE l.object = 'scheduled_change' ORDER BY l.seq DESC LIMIT 1), 'call sealed', 'what will be done later');
CALL billing.advance_clock('ends', '32 days');
SELECT is((SELECT l.cause || ' ' || (l.cause_id = l.object_id::text) || ' ' || (l.after ->> 'state') FROM billing.audit_log AS l WHERE l.object = 'scheduled_change' ORDER BY l.seq DESC LIMIT 1), 'worker true done', 'is done by the worker, because it was due');
SELECT is((SELECT count(*) FROM billing.audit_log AS l WHERE l.object_id = :'ending' AND l.cause = 'worker' AND l.after ? 'access_until'), 1::bigint, 'with all that belongs to it');

-- A webhook that fails in the middle leaves neither a row nor its name behind.
CREATE FUNCTION break_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
CREATE TRIGGER break_it AFTER UPDATE ON billing.subscriptions FOR EACH ROW WHEN (NEW.organization_id = 'acme') EXECUTE FUNCTION break_it();
SELECT max(seq) AS seq FROM billing.audit_log \gset
CALL billing.advance_clock('acme', '1 month');
SELECT ok(count(*) > 0, 'a webhook could not be applied') FROM billing.webhook_events WHERE state = 'failed';
SELECT is((SELECT count(*) FROM billing.audit_log AS l JOIN billing.webhook_events AS e ON e.event_id = l.cause_id WHERE l.seq > :seq AND e.state = 'failed'), 0::bigint, 'and has changed nothing');
UPDATE billing.settings SET value = '2 hours' WHERE name = 'retry_cap';
SELECT is((SELECT l.cause || coalesce(l.cause_id, '') FROM billing.audit_log AS l WHERE l.object_key = 'retry_cap'), 'call', 'the next statement is its user''s own');
DROP TRIGGER break_it ON billing.subscriptions;
SELECT count(billing.replay_webhook(event_id)) AS replayed FROM billing.webhook_events WHERE state = 'failed' \gset
SELECT ok(count(*) > 0, 'replayed it is the webhook''s again') FROM billing.audit_log AS l JOIN billing.webhook_events AS e ON e.event_id = l.cause_id WHERE l.seq > :seq AND l.object = 'subscription' AND e.attempts > 1;

-- What the application's own trigger does about a webhook was caused by that webhook.
CREATE FUNCTION note_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE billing.settings SET value = NEW.total || ' seconds' WHERE name = 'retry_base'; RETURN NULL; END $$;
CREATE TRIGGER a_note AFTER UPDATE ON billing.invoices FOR EACH ROW WHEN (NEW.status = 'paid' AND OLD.status <> 'paid') EXECUTE FUNCTION note_it();
CALL billing.advance_clock('acme', '1 month');
SELECT is((SELECT s.value FROM billing.settings AS s WHERE s.name = 'retry_base'), '2900 seconds', 'triggers of the application work beside ours');
SELECT is((SELECT l.cause || ' ' || (i.after ->> 'status') FROM billing.audit_log AS l JOIN billing.audit_log AS i ON i.cause_id = l.cause_id AND i.seq < l.seq WHERE l.object_key = 'retry_base'), 'webhook paid', 'the cause goes on, and stands before the effect');
DROP TRIGGER a_note ON billing.invoices;

-- ---------------------------------------------------------------------------
-- Nothing of a person

SELECT billing.configure_provider('stripe', 'sk_test_secretkey', 'whsec_secret', base_url => 'http://127.0.0.1:9', options => '{"headers": {"X-Key": "secret"}}');
SELECT is((newest()).object_key || ' ' || ((newest()).after -> 'secret_key') || ' ' || ((newest()).after -> 'options'), 'stripe/default "sealed" "withheld"', 'an account, without its keys');
SELECT is_empty($$SELECT * FROM billing.audit_log AS l WHERE to_jsonb(l)::text ~ '@|Ana |Ends|301234567|5512345678|"last4": "[0-9]|tok_|pm_card|sk_test|whsec_|X-Key|secret note|another secret|secret reason'$$, 'no personal value, token or key is in the log');

-- ---------------------------------------------------------------------------
-- Append-only

SELECT fails($$UPDATE billing.audit_log SET cause = 'call'$$, 'JB008', 'billing.audit_log is append-only', 'audit_retention', 'no row is changed, not even by a superuser');
SELECT fails($$DELETE FROM billing.audit_log$$, 'JB008', 'billing.audit_log is append-only', 'audit_retention', 'or deleted');
SELECT fails($$TRUNCATE billing.audit_log$$, 'JB008', 'billing.audit_log is append-only', 'audit_retention', 'nor are all');
SET ROLE janua_billing;
SELECT fails($$UPDATE billing.audit_log SET cause = 'call'$$, 'JB008', 'append-only', NULL, 'nor by the owner');
SELECT fails($$DELETE FROM billing.audit_log$$, 'JB008', 'append-only', NULL, 'who deletes none');
SELECT fails($$TRUNCATE billing.audit_log$$, 'JB008', 'append-only', NULL, 'and not all');
RESET ROLE;
SELECT is_empty($$SELECT r.rolname, p.privilege FROM pg_roles AS r, unnest('{INSERT,UPDATE,DELETE,TRUNCATE,TRIGGER}'::text[]) AS p (privilege)
	WHERE r.rolname IN ('audit_admin', 'audit_app') AND has_table_privilege(r.rolname, 'billing.audit_log', p.privilege)$$, 'no level may write it');
SET ROLE audit_app;
SELECT fails($$SELECT FROM billing.audit_log$$, '42501', 'permission denied', NULL, 'the application does not read it');
RESET ROLE;
SELECT fails($$SELECT billing.audit_row()$$, '39P01', 'trigger', NULL, 'the trigger cannot be called');

-- ---------------------------------------------------------------------------
-- Retention

SELECT fails($$UPDATE billing.settings SET value = '29 days' WHERE name = 'audit_retention'$$, '23514', 'settings_audit_retention', NULL, 'nobody wipes out what he has just done');
INSERT INTO billing.audit_log (at, object, object_key, action, after, cause, sql_user)
SELECT now() - age, 'setting', 'aged', 'insert', '{}', 'call', 'nobody' FROM unnest('{400 days,40 days,20 days}'::interval[]) AS age;
-- each process looks at it when it begins, and then every few minutes
\setenv DATABASE :DBNAME
\! psql -X -q -d "$DATABASE" -c 'CALL billing.run_worker()'
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_key = 'aged'), 3::bigint, 'rows are kept for ever');
UPDATE billing.settings SET value = '30 days' WHERE name = 'audit_retention';
SELECT count(*) AS rows, max(seq) AS last FROM billing.audit_log \gset
\! psql -X -q -d "$DATABASE" -c 'CALL billing.run_worker()'
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_key = 'aged'), 1::bigint, 'unless audit_retention says how long: then older ones go');
SELECT is((SELECT count(*) FROM billing.audit_log WHERE seq <= :last), :rows - 2::bigint, 'and no others');
SELECT fails($$DELETE FROM billing.audit_log WHERE object_key = 'aged'$$, 'JB008', 'append-only', NULL, 'by the worker only');

-- ---------------------------------------------------------------------------
-- While data is loaded

SET janua_billing.restoring = on;
UPDATE billing.settings SET value = '1 minute' WHERE name = 'retry_cap';
RESET janua_billing.restoring;
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_key = 'retry_cap'), 1::bigint, 'what is loaded brings its history along');
SET row_security = off;
UPDATE billing.settings SET value = '2 minutes' WHERE name = 'retry_cap';
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_key = 'retry_cap'), 1::bigint, 'as does what pg_dump has written');
RESET row_security;
SET ROLE audit_app;
SET row_security = off;
SELECT billing.create_customer('sly');
RESET row_security;
RESET ROLE;
SELECT is((newest()).organization_id, 'sly', 'a user cannot keep what he does out of the log');

SELECT * FROM finish();
DROP OWNED BY audit_admin, audit_app;
DROP ROLE audit_admin, audit_app;

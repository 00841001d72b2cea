-- Who may do what: rules that hold for everything in schema billing, then what
-- each level of grant_access() may and may not do.
\set SHOW_CONTEXT never
SET client_min_messages = warning;

-- Everything belongs to the owner.
SELECT pg_describe_object(d.classid, d.objid, 0)
FROM pg_depend AS d
JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'janua_billing'
LEFT JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
LEFT JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
LEFT JOIN pg_namespace AS n ON d.classid = 'pg_namespace'::regclass AND n.oid = d.objid
LEFT JOIN pg_type AS t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
WHERE d.deptype = 'e' AND coalesce(c.relowner, p.proowner, n.nspowner, t.typowner) IS DISTINCT FROM 'janua_billing'::regrole;

-- Nothing is granted to anybody when the extension is new, PUBLIC included.
SELECT o.kind, o.name
FROM (SELECT 'relation' AS kind, c.relname::text AS name, c.relacl AS acl
	  FROM pg_class AS c WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
	  UNION ALL
	  SELECT 'routine', p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner))
	  FROM pg_proc AS p WHERE p.pronamespace IN ('billing'::regnamespace, 'billing_webhooks'::regnamespace)
	  UNION ALL
	  SELECT 'schema', n.nspname::text, n.nspacl FROM pg_namespace AS n WHERE n.nspname IN ('billing', 'billing_webhooks')) AS o
WHERE EXISTS (SELECT FROM aclexplode(o.acl) AS a WHERE a.grantee <> 'janua_billing'::regrole);

-- Functions with the owner's rights, and those whose body is parsed when it runs, have a search_path of their own.
SELECT p.oid::regprocedure
FROM pg_proc AS p
JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace IN ('billing'::regnamespace, 'billing_webhooks'::regnamespace) AND (p.prosecdef OR l.lanname = 'plpgsql')
	AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false);

-- A function is IMMUTABLE only where that was thought about.
SELECT p.oid::regprocedure
FROM pg_proc AS p
WHERE p.pronamespace = 'billing'::regnamespace AND p.provolatile = 'i'
ORDER BY 1;

-- Everything says what it is for.
SELECT c.oid::regclass::text AS object
FROM pg_class AS c
WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p', 'v')
	AND obj_description(c.oid, 'pg_class') IS NULL
UNION ALL
SELECT p.oid::regprocedure::text
FROM pg_proc AS p
WHERE p.pronamespace IN ('billing'::regnamespace, 'billing_webhooks'::regnamespace) AND obj_description(p.oid, 'pg_proc') IS NULL;

-- Every table with rows of organisations has row level security.
SELECT c.oid::regclass
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname IN ('organization_id', 'customer_id') AND NOT a.attisdropped
WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity;

-- Levels name what exists; what no level has is for the owner, superusers and triggers.
SELECT l.level, l.object
FROM billing.access_levels AS l
WHERE NOT EXISTS (SELECT FROM pg_proc AS p
				  WHERE (l.kind, p.pronamespace) IN (('routine', 'billing'::regnamespace), ('entry', 'billing_webhooks'::regnamespace))
					  AND p.proname = l.object)
	AND NOT EXISTS (SELECT FROM pg_class AS c
					WHERE l.kind = 'table' AND c.relnamespace = 'billing'::regnamespace AND c.relname = l.object);
SELECT p.proname
FROM pg_proc AS p
WHERE p.pronamespace = 'billing'::regnamespace
	AND NOT EXISTS (SELECT FROM billing.access_levels AS l WHERE l.kind = 'routine' AND l.object = p.proname)
ORDER BY 1;

CREATE ROLE regress_admin;
CREATE ROLE regress_app;
CREATE ROLE regress_webhook;
CREATE ROLE regress_report;
CREATE ROLE regress_tenant;
CREATE ROLE regress_nobody;
SELECT billing.grant_access('regress_admin', 'admin');
SET ROLE regress_admin;
SELECT billing.grant_access('regress_app', 'app');
SELECT billing.grant_access('regress_webhook', 'webhook');
SELECT billing.grant_access('regress_report', 'report');
SELECT billing.grant_access('regress_tenant', 'tenant');
RESET ROLE;
SELECT role_name, level FROM billing.access_grants ORDER BY role_name;

-- What is on the web: three functions, for those who take webhooks in.
SELECT r.rolname, p.oid::regprocedure
FROM pg_roles AS r
CROSS JOIN pg_proc AS p
WHERE r.rolname LIKE 'regress\_%' AND NOT r.rolsuper AND p.pronamespace = 'billing_webhooks'::regnamespace
	AND (has_schema_privilege(r.rolname, 'billing_webhooks', 'USAGE') OR has_function_privilege(r.rolname, p.oid, 'EXECUTE'))
ORDER BY 1, 2::text COLLATE "C";

-- Whoever can decrypt reads no key, no frozen request and no raw body.
SELECT r.rolname, a.attrelid::regclass, a.attname
FROM pg_roles AS r
JOIN pg_attribute AS a ON a.atttypid = 'bytea'::regtype
	AND a.attrelid IN ('billing.provider_accounts'::regclass, 'billing.outbox'::regclass, 'billing.webhook_events'::regclass)
WHERE r.rolname LIKE 'regress\_%' AND has_column_privilege(r.rolname, a.attrelid, a.attnum, 'SELECT')
	AND NOT r.rolsuper;
-- A tenant reads no sealed column at all, and only views that are read with its own rights.
SELECT a.attrelid::regclass, a.attname
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid AND c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p', 'v')
WHERE a.attnum > 0 AND has_column_privilege('regress_tenant', a.attrelid, a.attnum, 'SELECT')
	AND (a.atttypid = 'bytea'::regtype
		 OR c.relkind = 'v' AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false));
-- A report reads nothing that somebody wrote about a customer.
SELECT a.attrelid::regclass, a.attname
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid AND c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p', 'v')
WHERE a.attname IN ('memo', 'paid_outside') AND has_column_privilege('regress_report', a.attrelid, a.attnum, 'SELECT');
-- Nobody but the owner puts triggers on our tables or writes them past the functions.
SELECT r.rolname, c.oid::regclass, string_agg(p.privilege, ', ' ORDER BY p.privilege) AS privileges
FROM pg_roles AS r
CROSS JOIN pg_class AS c
CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p (privilege)
WHERE r.rolname LIKE 'regress\_%' AND NOT r.rolsuper
	AND c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p', 'v')
	AND has_table_privilege(r.rolname, c.oid, p.privilege)
GROUP BY r.rolname, c.oid, c.relname
ORDER BY r.rolname, c.relname COLLATE "C";

-- Without a level: nothing.
SET ROLE regress_nobody;
SELECT billing.has_feature('acme', 'sso');
SELECT count(*) FROM billing.customers;
SELECT billing.grant_access('regress_nobody', 'admin');

-- app: what the application does, and no configuration.
SET ROLE regress_app;
SELECT count(billing.create_customer(o)) FROM unnest(ARRAY['acme', 'umbrella']) AS o;
SELECT count(billing.subscribe(o, 'free')) FROM unnest(ARRAY['acme', 'umbrella']) AS o;
SELECT organization_id, plan, status, amount, currency, "interval" FROM billing.list_subscriptions('acme');
SELECT organization_id, plan FROM billing.subscription_details ORDER BY organization_id;
SELECT organization_id, email, name FROM billing.customer_details ORDER BY organization_id;
SELECT count(*) FROM billing.list_invoices('acme');
SELECT billing.verify_webhook('sandbox', '{}', '{}');
SELECT billing.configure_provider('sandbox');
SELECT billing.grant_access('regress_app', 'admin');
SELECT secret_key FROM billing.provider_accounts;
UPDATE billing.settings SET value = 'EUR' WHERE name = 'default_currency';
UPDATE billing.subscriptions SET quantity = 100;
CREATE TRIGGER spy AFTER INSERT ON billing.customers FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('');

-- webhook: takes webhooks in, nothing else.
SET ROLE regress_webhook;
SELECT billing.verify_webhook('sandbox', '{}', '{}');
SELECT billing.handle_webhook('sandbox', '{}', '{}');
SELECT billing.has_feature('acme', 'sso');
SELECT count(*) FROM billing.webhook_events;

-- report: reads, without personal data.
SET ROLE regress_report;
SELECT organization_id, country FROM billing.customers ORDER BY organization_id;
SELECT organization_id, plan FROM billing.subscription_details ORDER BY organization_id;
SELECT provider, account, bound_here FROM billing.provider_health ORDER BY provider;
SELECT count(*) FROM billing.worker_status;
SELECT count(*) >= 0 AS readable FROM billing.attention;
SELECT email FROM billing.customers;
SELECT email FROM billing.customer_details;
SELECT count(*) >= 0 AS readable FROM billing.invoice_details, billing.credit_note_details;
SELECT memo FROM billing.invoices;
SELECT paid_outside FROM billing.invoices;
SELECT memo FROM billing.credit_notes;
SELECT billing.decrypt('\x00', 'customers.email', '00000000-0000-7000-8000-000000000001');
SELECT billing.create_customer('initech');

-- admin: configures and repairs; a key that was given is never shown again.
SET ROLE regress_admin;
BEGIN;
UPDATE billing.settings SET value = 'EUR' WHERE name = 'default_currency' RETURNING value, builtin;
INSERT INTO billing.currencies (code, exponent) VALUES ('XTS', 2) RETURNING code;
UPDATE billing.plans SET name = 'Starter' WHERE plan = 'free' RETURNING plan, name, builtin;
ROLLBACK;
SELECT provider, account FROM billing.provider_accounts;
SELECT secret_key FROM billing.provider_accounts;
UPDATE billing.provider_accounts SET bound_to = NULL;
SELECT request FROM billing.outbox;
DELETE FROM billing.customers;
SELECT billing.create_key_file('/tmp/regress_key_file');
SELECT billing.import_environment();

-- tenant: one organisation, named by the application.
SET ROLE regress_tenant;
SELECT count(*) FROM billing.subscription_details;
SET janua_billing.organization_id = 'acme';
SELECT organization_id, plan, status, pending FROM billing.subscription_details;
SELECT count(*) FROM billing.invoice_details;
SELECT plan, amount, currency FROM billing.get_plans();
SELECT count(*) FROM billing.provider_refs AS r
WHERE r.object_id NOT IN (SELECT s.id FROM billing.subscriptions AS s);
SELECT count(*) FROM billing.outbox WHERE object_id NOT IN (SELECT s.id FROM billing.subscriptions AS s);
-- one prepared statement, another organisation, another role
PREPARE mine AS SELECT organization_id FROM billing.subscriptions ORDER BY 1;
EXECUTE mine;
SET janua_billing.organization_id = 'umbrella';
EXECUTE mine;
SET ROLE regress_report;
EXECUTE mine;
SET ROLE regress_tenant;
EXECUTE mine;
SELECT billing.has_feature('umbrella', 'users');
SELECT billing.has_feature('acme', 'sso');
SELECT billing.list_subscriptions('acme');
SELECT client_secret FROM billing.subscriptions;
SELECT organization_id, livemode FROM billing.customers;
SELECT email FROM billing.customers;
-- the condition on the organisation uses an index
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM billing.subscriptions;
RESET enable_seqscan;
RESET janua_billing.organization_id;
RESET ROLE;

-- A table that was granted by hand shows one organisation, too.
GRANT USAGE ON SCHEMA billing TO regress_nobody;
GRANT SELECT ON billing.customers TO regress_nobody;
GRANT EXECUTE ON FUNCTION billing.sees_all_organizations() TO regress_nobody;
SET ROLE regress_nobody;
SELECT count(*) FROM billing.customers;
SET janua_billing.organization_id = 'acme';
SELECT organization_id FROM billing.customers;
RESET janua_billing.organization_id;
RESET ROLE;

-- Taking one of two levels away leaves the other.
SELECT billing.grant_access('regress_tenant', 'report');
SET ROLE regress_tenant;
EXECUTE mine;
RESET ROLE;
SELECT billing.revoke_access('regress_tenant', 'report');
SET ROLE regress_tenant;
EXECUTE mine;
SELECT count(*) FROM billing.provider_health;
RESET ROLE;
SELECT billing.revoke_access('regress_tenant', 'tenant');
SELECT has_schema_privilege('regress_tenant', 'billing', 'USAGE') AS still_usage,
	   has_any_column_privilege('regress_tenant', 'billing.subscriptions', 'SELECT') AS still_columns;

-- A new role of an old name starts with nothing.
DROP OWNED BY regress_webhook;
DROP ROLE regress_webhook;
CREATE ROLE regress_webhook;
SELECT billing.grant_access('regress_webhook', 'report');
SELECT billing.revoke_access('regress_webhook', 'report');
SELECT has_schema_privilege('regress_webhook', 'billing', 'USAGE');

-- Words that are none.
SELECT billing.grant_access('regress_app', 'root');
SELECT billing.grant_access('public', 'app');
SELECT billing.grant_access('janua_billing', 'app');
SELECT billing.revoke_access('regress_unknown', 'app');

DROP OWNED BY regress_admin, regress_app, regress_webhook, regress_report, regress_tenant, regress_nobody;
DROP ROLE regress_admin, regress_app, regress_webhook, regress_report, regress_tenant, regress_nobody;

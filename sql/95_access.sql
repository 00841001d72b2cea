-- Who may do what.  Nothing of billing is open to everybody: roles of the
-- application get a level by grant_access().  What a level is stands in a table.

CREATE TABLE billing.access_levels
(
	level text NOT NULL CHECK (level IN ('admin', 'app', 'webhook', 'report', 'tenant')),
	kind text NOT NULL CHECK (kind IN ('routine', 'table', 'entry')),
	object name NOT NULL,
	privileges text NOT NULL CHECK (privileges IN ('EXECUTE', 'SELECT', 'INSERT', 'UPDATE', 'INSERT, UPDATE')),
	columns name[],
	PRIMARY KEY (level, kind, object, privileges)
);
COMMENT ON TABLE billing.access_levels IS
	'What each level of grant_access() may do: admin (configures and repairs), app (the application), webhook (takes webhooks in), report '
	'(reads, without personal data), tenant (reads what belongs to one organisation).';
COMMENT ON COLUMN billing.access_levels.kind IS 'routine and table: of schema billing; entry: a routine of schema billing_webhooks.';
COMMENT ON COLUMN billing.access_levels.object IS 'Name in its schema; of a routine, with all its overloads.';
COMMENT ON COLUMN billing.access_levels.columns IS 'NULL: the whole table.';

CREATE TABLE billing.access_grants
(
	role_name name NOT NULL,
	level text NOT NULL,
	PRIMARY KEY (role_name, level)
);
COMMENT ON TABLE billing.access_grants IS
	'Levels that were given to roles. What counts are the privileges of the roles; this says which of them stay when one level is taken away.';
SELECT pg_extension_config_dump('billing.access_grants', '');

-- Row level security: who may read this table sees the rows of every
-- organisation, everybody else those of one.
CREATE TABLE billing.all_organizations ();
COMMENT ON TABLE billing.all_organizations IS
	'A mark without content: a role with SELECT on it sees the rows of all organisations, any other role those of the organisation that '
	'the setting janua_billing.organization_id names.';

-- IMMUTABLE on purpose: the answer is then known when a query is planned, and a
-- tenant's query can use the index on organization_id.  A plan that depends on
-- row level security is made anew for another role, and after GRANT and REVOKE
-- on its tables, exactly as if the policy itself named roles.
CREATE FUNCTION billing.sees_all_organizations() RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN has_table_privilege('billing.all_organizations', 'SELECT');
COMMENT ON FUNCTION billing.sees_all_organizations() IS
	'Does the current role see the rows of every organisation? For the policies of row level security; a role that is granted one of our '
	'tables by hand needs EXECUTE on it, too.';

DO $$
DECLARE
	protected text;
BEGIN
	-- with a column of its own that says whose a row is
	FOREACH protected IN ARRAY ARRAY['customers', 'subscriptions', 'scheduled_changes', 'invoices', 'dunning_attempts', 'payment_intents', 'setup_intents',
									 'refunds', 'disputes', 'ledger', 'credit_notes', 'checkout_sessions', 'portal_sessions', 'usage_events', 'usage_keys', 'usage_totals',
									 'usage_values', 'usage_dirty', 'usage_forwards', 'usage_forward_marks', 'usage_forward_periods', 'usage_counters', 'usage_reservations', 'usage_organizations', 'feature_overrides', 'organization_add_ons', 'usage_alerts', 'usage_alert_marks', 'usage_closings', 'usage_closing_lines', 'usage_closing_prices', 'usage_closing_marks',
									 'idempotency_keys',
									 'applied_coupons', 'customer_balances', 'customer_balance_entries', 'credit_grants', 'credit_grant_entries',
									 'events', 'audit_log', 'sandbox_clocks']
	LOOP
		EXECUTE format('ALTER TABLE billing.%I ENABLE ROW LEVEL SECURITY', protected);
		EXECUTE format('CREATE POLICY organization ON billing.%I USING (billing.sees_all_organizations() '
					   'OR organization_id = current_setting(''janua_billing.organization_id'', true))', protected);
	END LOOP;
	-- not for tenants at all
	FOREACH protected IN ARRAY ARRAY['payment_methods', 'outbox_finished', 'webhook_events', 'sandbox_state', 'sandbox_deliveries',
									 'waiting_links', 'subscription_statuses', 'postponed_work',
									 'attached_tables']
	LOOP
		EXECUTE format('ALTER TABLE billing.%I ENABLE ROW LEVEL SECURITY', protected);
		EXECUTE format('CREATE POLICY organization ON billing.%I USING (billing.sees_all_organizations())', protected);
	END LOOP;
END
$$;

-- The thresholds for all are for everybody.
ALTER TABLE billing.usage_thresholds ENABLE ROW LEVEL SECURITY;
CREATE POLICY organization ON billing.usage_thresholds
	USING (billing.sees_all_organizations() OR organization_id IN ('', current_setting('janua_billing.organization_id', true)));
-- What the views of tenants read beside them: subqueries see what the tenant sees.
ALTER TABLE billing.outbox ENABLE ROW LEVEL SECURITY;
CREATE POLICY organization ON billing.outbox
	USING (billing.sees_all_organizations()
		   OR EXISTS (SELECT FROM billing.subscriptions AS s WHERE s.id = outbox.object_id)
		   OR EXISTS (SELECT FROM billing.checkout_sessions AS c WHERE c.id = outbox.object_id));
ALTER TABLE billing.provider_refs ENABLE ROW LEVEL SECURITY;
CREATE POLICY organization ON billing.provider_refs
	USING (billing.sees_all_organizations()
		   OR EXISTS (SELECT FROM billing.subscriptions AS s WHERE s.id = provider_refs.object_id)
		   OR EXISTS (SELECT FROM billing.checkout_sessions AS c WHERE c.id = provider_refs.object_id)
		   OR EXISTS (SELECT FROM billing.invoices AS i WHERE i.id = provider_refs.object_id)
		   OR EXISTS (SELECT FROM billing.refunds AS f WHERE f.id = provider_refs.object_id)
		   OR EXISTS (SELECT FROM billing.disputes AS d WHERE d.id = provider_refs.object_id));
ALTER TABLE billing.subscription_items ENABLE ROW LEVEL SECURITY;
CREATE POLICY organization ON billing.subscription_items
	USING (billing.sees_all_organizations()
		   OR EXISTS (SELECT FROM billing.subscriptions AS s WHERE s.id = subscription_items.subscription_id));
ALTER TABLE billing.invoice_lines ENABLE ROW LEVEL SECURITY;
CREATE POLICY organization ON billing.invoice_lines
	USING (billing.sees_all_organizations()
		   OR EXISTS (SELECT FROM billing.invoices AS i WHERE i.id = invoice_lines.invoice_id)
		   OR EXISTS (SELECT FROM billing.subscriptions AS s WHERE s.id = invoice_lines.subscription_id));
ALTER TABLE billing.invoice_payments ENABLE ROW LEVEL SECURITY;
CREATE POLICY organization ON billing.invoice_payments
	USING (billing.sees_all_organizations()
		   OR EXISTS (SELECT FROM billing.payment_intents AS p WHERE p.id = invoice_payments.payment_intent_id));
ALTER TABLE billing.credit_note_lines ENABLE ROW LEVEL SECURITY;
CREATE POLICY organization ON billing.credit_note_lines
	USING (billing.sees_all_organizations()
		   OR EXISTS (SELECT FROM billing.credit_notes AS n WHERE n.id = credit_note_lines.credit_note_id));
-- The list prices are for everybody, an agreed one for the organisation that has it.
ALTER TABLE billing.prices ENABLE ROW LEVEL SECURITY;
CREATE POLICY organization ON billing.prices
	USING (billing.sees_all_organizations() OR customer_id IS NULL
		   OR EXISTS (SELECT FROM billing.subscriptions AS s WHERE s.price_id = prices.id)
		   OR EXISTS (SELECT FROM billing.subscription_items AS i WHERE i.price_id = prices.id));
ALTER TABLE billing.price_tiers ENABLE ROW LEVEL SECURITY;
CREATE POLICY organization ON billing.price_tiers
	USING (billing.sees_all_organizations() OR EXISTS (SELECT FROM billing.prices AS r WHERE r.id = price_tiers.price_id));

CREATE FUNCTION billing.grant_level(role name, level text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	granted record;
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA billing TO %I', grant_level.role);
	FOR granted IN
		SELECT DISTINCT 'USAGE' AS privileges, 'SCHEMA billing_webhooks' AS object
		FROM billing.access_levels AS l
		WHERE l.level = grant_level.level AND l.kind = 'entry'
		UNION ALL
		SELECT 'EXECUTE', 'ROUTINE ' || p.oid::regprocedure
		FROM billing.access_levels AS l
		JOIN pg_proc AS p ON p.proname = l.object
			AND p.pronamespace = CASE l.kind WHEN 'routine' THEN 'billing' WHEN 'entry' THEN 'billing_webhooks' END::regnamespace
		WHERE l.level = grant_level.level AND l.kind IN ('routine', 'entry')
		UNION ALL
		SELECT (SELECT string_agg(trim(w) || coalesce(c.list, ''), ', ') FROM string_to_table(l.privileges, ',') AS w),
			   'TABLE ' || format('billing.%I', l.object)
		FROM billing.access_levels AS l
		CROSS JOIN LATERAL (SELECT ' (' || string_agg(quote_ident(n), ', ') || ')' FROM unnest(l.columns) AS n) AS c (list)
		WHERE l.level = grant_level.level AND l.kind = 'table'
	LOOP
		EXECUTE format('GRANT %s ON %s TO %I', granted.privileges, granted.object, grant_level.role);
	END LOOP;
END
$$;
COMMENT ON FUNCTION billing.grant_level(name, text) IS 'Gives a role the privileges of a level; for grant_access() and revoke_access().';

-- Citus takes what is granted on distributed tables to its nodes, but not what
-- belongs to the extension there: the schema, and what row level security asks.
CREATE FUNCTION billing.grant_on_nodes(role name) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	command text;
	refused text;
BEGIN
	IF NOT EXISTS (SELECT FROM billing.usage_rollup_state AS s WHERE s.distributed) OR to_regproc('pg_catalog.run_command_on_workers') IS NULL THEN
		RETURN;
	END IF;
	SELECT string_agg(format(CASE WHEN o.granted THEN 'GRANT %1$s ON %2$s TO %3$I' ELSE 'REVOKE %1$s ON %2$s FROM %3$I' END,
							 o.privilege, o.object, grant_on_nodes.role), '; ')
	INTO command
	FROM (VALUES ('USAGE', 'SCHEMA billing', has_schema_privilege(grant_on_nodes.role, 'billing', 'USAGE')),
				 ('EXECUTE', 'FUNCTION billing.sees_all_organizations()',
				  has_function_privilege(grant_on_nodes.role, 'billing.sees_all_organizations()', 'EXECUTE')),
				 ('EXECUTE', 'FUNCTION billing.usage_tail_start()', has_function_privilege(grant_on_nodes.role, 'billing.usage_tail_start()', 'EXECUTE')),
				 ('EXECUTE', 'FUNCTION billing.in_usage_tail(bigint)',
				  has_function_privilege(grant_on_nodes.role, 'billing.in_usage_tail(bigint)', 'EXECUTE')),
				 ('SELECT', 'TABLE billing.all_organizations',
				  has_table_privilege(grant_on_nodes.role, 'billing.all_organizations', 'SELECT'))) AS o (privilege, object, granted);
	EXECUTE 'SELECT string_agg(DISTINCT r.result, '' '') FROM pg_catalog.run_command_on_workers($1) AS r WHERE NOT r.success'
		INTO refused USING command;
	IF refused IS NOT NULL THEN
		RAISE EXCEPTION 'privileges of role "%" cannot be taken to the nodes of Citus', grant_on_nodes.role
			USING ERRCODE = 'JB008', DETAIL = refused, HINT = 'See that every node runs and has the role, and try again.';
	END IF;
END
$$;
COMMENT ON FUNCTION billing.grant_on_nodes(name) IS
	'Where usage is distributed: what a role needs on the nodes to read it, as it is here; for grant_access(), revoke_access() and distribute_usage().';

-- A role that was dropped takes its privileges with it; one that is made later
-- under the same name must not inherit its levels.
CREATE FUNCTION billing.check_access(role name, level text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM billing.access_levels AS l WHERE l.level = check_access.level) THEN
		RAISE EXCEPTION 'unknown level "%"', check_access.level
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'It is one of: admin, app, webhook, report, tenant.';
	ELSIF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = check_access.role) THEN
		RAISE EXCEPTION 'role "%" does not exist', check_access.role
			USING ERRCODE = 'undefined_object',
				  HINT = 'CREATE ROLE makes one. Billing is never open to PUBLIC.';
	ELSIF check_access.role = 'janua_billing' THEN
		RAISE EXCEPTION 'role "janua_billing" owns billing and has no level'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Name the role that the application or the administrator logs in as.';
	END IF;

	LOCK TABLE billing.access_grants IN SHARE ROW EXCLUSIVE MODE;
	DELETE FROM billing.access_grants AS g
	WHERE g.role_name = check_access.role
		AND NOT EXISTS (SELECT
						FROM pg_namespace AS n
						CROSS JOIN LATERAL aclexplode(n.nspacl) AS a
						JOIN pg_roles AS r ON r.oid = a.grantee
						WHERE n.nspname = 'billing' AND r.rolname = g.role_name);
END
$$;
COMMENT ON FUNCTION billing.check_access(name, text) IS
	'Checks the arguments of grant_access() and revoke_access(), and forgets levels of a dropped role of the same name.';

CREATE FUNCTION billing.grant_access(role name, level text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM billing.check_access(grant_access.role, grant_access.level);
	PERFORM billing.grant_level(grant_access.role, grant_access.level);
	PERFORM billing.grant_on_nodes(grant_access.role);
	INSERT INTO billing.access_grants (role_name, level)
	VALUES (grant_access.role, grant_access.level)
	ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION billing.grant_access(name, text) IS
	'Gives a role a level; it may have several. admin: configures providers, plans and access, repairs what is stuck. app: everything that '
	'the application does. webhook: verify_webhook() and handle_webhook(), and the schema billing_webhooks, for PostgREST. report: reads, '
	'without personal data. tenant: reads what belongs to the organisation that the setting janua_billing.organization_id names. Whoever sets that setting chooses the organisation: the '
	'application sets it, and lets nobody run commands of his own as such a role. For superusers and roles with level admin. Errors: '
	'22023 unknown level, 42704 no such role.';

CREATE FUNCTION billing.revoke_access(role name, level text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kept text;
BEGIN
	PERFORM billing.check_access(revoke_access.role, revoke_access.level);
	DELETE FROM billing.access_grants AS g
	WHERE g.role_name = revoke_access.role AND g.level = revoke_access.level;

	EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA billing FROM %I', revoke_access.role);
	EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA billing FROM %I', revoke_access.role);
	EXECUTE format('REVOKE ALL ON SCHEMA billing FROM %I', revoke_access.role);
	EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA billing_webhooks FROM %I', revoke_access.role);
	EXECUTE format('REVOKE ALL ON SCHEMA billing_webhooks FROM %I', revoke_access.role);
	FOR kept IN SELECT g.level FROM billing.access_grants AS g WHERE g.role_name = revoke_access.role
	LOOP
		PERFORM billing.grant_level(revoke_access.role, kept);
	END LOOP;
	PERFORM billing.grant_on_nodes(revoke_access.role);
END
$$;
COMMENT ON FUNCTION billing.revoke_access(name, text) IS
	'Takes a level away from a role, and whatever was granted to it by hand; what its other levels allow stays. For superusers and roles '
	'with level admin. Errors: 22023 unknown level, 42704 no such role.';

-- The levels.  Not for any of them, superusers aside: create_key_file() and
-- import_environment(), which reach outside the database.
INSERT INTO billing.access_levels (level, kind, object, privileges)
SELECT l.level, 'routine', r.object, 'EXECUTE'
FROM (VALUES
	('{app}',
	 'create_customer update_customer delete_customer find_customer find_customers_by_email get_customer decrypt '
	 'attach_payment_method detach_payment_method set_default_payment_method list_payment_methods refresh_payment_methods '
	 'subscribe update_subscription preview_update preview_invoice simulate cancel_subscription pause_subscription resume_subscription retry_payment client_config '
	 'list_scheduled_changes cancel_scheduled_change '
	 'get_subscription list_subscriptions get_invoice list_invoices invoice_lines_of create_invoice invoice_links refresh_invoices fetch_invoice_document '
	 'create_checkout_session create_invoice_checkout expire_checkout_session refresh_checkout_session get_checkout_session '
	 'list_checkout_sessions '
	 'create_payment_link cancel_payment_link list_payment_links create_portal_session '
	 'finalize_invoice pay_invoice void_invoice send_invoice mark_invoice_uncollectible mark_invoice_paid collect_by list_dunning_attempts '
	 'invoice_html create_credit_note get_credit_note list_credit_notes credit_note_html '
	 'create_payment_intent confirm_payment_intent capture_payment_intent cancel_payment_intent verify_microdeposits '
	 'get_payment_intent list_payment_intents create_setup_intent cancel_setup_intent get_setup_intent list_setup_intents '
	 'create_refund cancel_refund get_refund list_refunds '
	 'get_dispute list_disputes submit_dispute_evidence accept_dispute fetch_disputes refresh '
	 'apply_coupon remove_coupon list_coupons adjust_balance grant_credit void_credit_grant '
	 'set_override set_add_on record_usage record_usage_batch skipped_usage void_usage correct_usage close_usage_period '
	 'consume reserve_usage commit_reservation release_reservation await run_worker attach_organizations detach_organizations organization_changed '
	 'advance_clock set_clock sandbox_fail_next sandbox_redeliver sandbox_authenticate sandbox_settle '
	 'sandbox_complete_checkout sandbox_pay_reference sandbox_expire sandbox_dispute sandbox_resolve_dispute'),
	('{app,webhook}', 'verify_webhook handle_webhook'),
	('{app,report,tenant}', 'has_feature feature_limit feature_value'),
	('{app,report,tenant}', 'usage_summary usage_quantity usage_by_dimension usage_series usage_report_of usage_tail_start in_usage_tail'),
	('{app,report}', 'check_quota preview_usage_period late_usage now database_binding'),
	('{app,report}', 'quote_price credit_balance'),
	('{app,report}', 'select_provider provider_capabilities check_provider explain'),
	('{app,report}', 'usage_hour_range forwarded_quantity'),
	('{}', 'forward_usage stop_forwarding'),
	('{}', 'register_webhook update_webhook refresh_webhooks rotate_webhook_secret revoke_webhook_secret delete_webhook list_webhooks'),
	('{app,report,tenant}', 'get_plans'),
	('{app,webhook,report,tenant}', 'sees_all_organizations'),
	('{}',
	 'configure_provider adopt_database create_add_on set_add_on_price create_plan create_price create_coupon set_tax_rate create_meter set_plan_feature link_price import_plans '
	 'set_seller set_usage_thresholds distribute_usage retry_request cancel_request replay_webhook grant_access revoke_access new_id email_hash')
) AS v (levels, objects)
CROSS JOIN LATERAL unnest(array_append(v.levels::text[], 'admin')) AS l (level)
CROSS JOIN LATERAL string_to_table(v.objects, ' ') AS r (object);

INSERT INTO billing.access_levels (level, kind, object, privileges)
SELECT l.level, 'table', r.object, 'SELECT'
FROM (VALUES
	('{app}', 'feature_overrides customers customer_details payment_methods invoices settings attached_tables payment_intent_details setup_intent_details'),
	('{app,report}', 'routing_rules optional_methods'),
	('{report}', 'webhook_endpoints provider_circuits'),
	('{report}', 'ledger ledger_accounts ledger_entries ledger_balances ledger_revenue provider_fees ledger_sides ledger_imbalance ledger_provider_differences'),
	('{app,report}', 'usage_top sellers invoice_series'),
	('{app,report}',
	 'all_organizations currencies countries providers provider_currencies entitlements usage_subscriptions events outbox_status webhook_status '
	 'subscriptions access_rules organization_add_ons'),
	('{app,report}', 'coupons tax_rates'),
	('{app,report,tenant}', 'applied_coupons customer_balances credit_grants credit_grant_entries'),
	('{app,report}', 'usage_late unbilled_usage usage_forwarding usage_forwards usage_forwarding_status'),
	('{report}', 'outbox_finished worker_status provider_health attention audit_log'),
	('{app,report,tenant}', 'plans prices price_tiers plan_features features add_ons add_on_features meters usage_events usage_totals usage_dirty usage_organizations '
	 'usage_thresholds usage_alerts usage_closings usage_closing_lines usage_closing_prices usage_counters usage_reservations '
	 'subscription_items invoice_lines credit_note_lines credit_note_details dunning_attempts invoice_payments usage_tail usage_totals_behind reported_organizations usage_report usage_daily quota_utilization subscription_details invoice_details invoice_line_details '
	 'scheduled_change_details checkout_session_details refund_details dispute_details installment_terms refund_rules decline_rules attempt_limits')
) AS v (levels, objects)
CROSS JOIN LATERAL unnest(v.levels::text[]) AS l (level)
CROSS JOIN LATERAL string_to_table(v.objects, ' ') AS r (object);

INSERT INTO billing.access_levels (level, kind, object, privileges) VALUES
	('app', 'table', 'usage_import', 'INSERT'),
	('admin', 'table', 'usage_import', 'INSERT');

INSERT INTO billing.access_levels (level, kind, object, privileges, columns) VALUES
	('report', 'table', 'customers', 'SELECT',
	 '{id,organization_id,provider,account,livemode,country,currency,locale,timezone,tax_exempt,needs_data,deleted_at,created_at,updated_at}'),
	('report', 'table', 'payment_methods', 'SELECT',
	 '{id,customer_id,provider,account,livemode,state,is_default,type,brand,exp_month,exp_year,wallet,error_code,created_at,updated_at}'),
	-- what a person wrote is not for everybody
	('app', 'table', 'customer_balance_entries', 'SELECT', NULL),
	('report', 'table', 'customer_balance_entries', 'SELECT',
	 '{id,customer_id,organization_id,currency,amount,balance_after,reason,source_type,source_id,occurred_at,created_at}'),
	('tenant', 'table', 'customer_balance_entries', 'SELECT',
	 '{id,customer_id,organization_id,currency,amount,balance_after,reason,source_type,source_id,occurred_at,created_at}'),
	('admin', 'table', 'coupons', 'UPDATE', '{name,redeem_by,max_redemptions,retired_at,metadata}'),
	('report', 'table', 'feature_overrides', 'SELECT', '{organization_id,feature,value,until,created_at}'),
	-- what their views show of tables that are not theirs
	('tenant', 'table', 'currencies', 'SELECT', '{code,exponent}'),
	('tenant', 'table', 'customers', 'SELECT', '{organization_id,livemode,deleted_at}'),
	('tenant', 'table', 'outbox', 'SELECT', '{object_id,operation,seq}'),
	('app', 'table', 'outbox', 'SELECT', '{object_id,operation,seq}'),
	('report', 'table', 'outbox', 'SELECT', '{object_id,operation,seq}'),
	('tenant', 'table', 'provider_refs', 'SELECT', '{object_type,object_id,provider,account,provider_id}'),
	('app', 'table', 'provider_refs', 'SELECT', '{object_type,object_id,provider,account,provider_id}'),
	('report', 'table', 'provider_refs', 'SELECT', '{object_type,object_id,provider,account,provider_id}');

-- admin reads everything but the sealed columns of accounts, requests, webhooks
-- and pages of the provider, which decrypt() would open for it; tenants read no sealed column,
-- reports neither those nor what somebody wrote about a customer.
INSERT INTO billing.access_levels (level, kind, object, privileges, columns)
SELECT 'admin', 'table', c.relname, 'SELECT',
	   CASE WHEN c.relname IN ('provider_accounts', 'outbox', 'webhook_events', 'checkout_sessions', 'portal_sessions') THEN
		   ARRAY(SELECT a.attname FROM pg_attribute AS a
				 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid <> 'bytea'::regtype
				 ORDER BY a.attnum) END
FROM pg_class AS c
WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p', 'v')
UNION ALL
SELECT l.level, 'table', t.name, 'SELECT',
	   ARRAY(SELECT a.attname FROM pg_attribute AS a
			 WHERE a.attrelid = format('billing.%I', t.name)::regclass AND a.attnum > 0 AND NOT a.attisdropped
				 AND a.atttypid <> 'bytea'::regtype AND (l.level <> 'report' OR a.attname NOT IN ('description', 'memo', 'paid_outside'))
				 -- what a payment costs us is nobody else's business
				 AND (l.level <> 'tenant' OR a.attname NOT LIKE 'fee\_%')
			 ORDER BY a.attnum)
FROM (VALUES
	('{tenant}', 'subscriptions'), ('{report,tenant}', 'invoices'), ('{app,report,tenant}', 'scheduled_changes'),
	('{app,report,tenant}', 'checkout_sessions'), ('{app,report,tenant}', 'payment_intents'),
	('{app,report,tenant}', 'setup_intents'), ('{app,report,tenant}', 'refunds'), ('{app,report,tenant}', 'disputes'), ('{app,report,tenant}', 'credit_notes')) AS t (levels, name)
CROSS JOIN LATERAL unnest(t.levels::text[]) AS l (level);

INSERT INTO billing.access_levels (level, kind, object, privileges)
SELECT 'admin', 'table', r.object, v.privileges
FROM (VALUES
	('UPDATE', 'settings providers prices access_rules'),
	('INSERT, UPDATE', 'routing_rules optional_methods usage_thresholds'),
	('INSERT, UPDATE', 'currencies countries provider_currencies features plans plan_features add_ons add_on_features meters installment_terms refund_rules decline_rules attempt_limits')
) AS v (privileges, objects)
CROSS JOIN LATERAL string_to_table(v.objects, ' ') AS r (object);

-- What is on the web is for the roles that take webhooks in, and for no other level.
INSERT INTO billing.access_levels (level, kind, object, privileges)
SELECT 'webhook', 'entry', p.proname, 'EXECUTE'
FROM pg_proc AS p
WHERE p.pronamespace = 'billing_webhooks'::regnamespace;

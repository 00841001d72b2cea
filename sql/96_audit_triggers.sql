-- Which tables are audited, and what of them is not shown. After all tables,
-- and after their seed rows, which nobody changed.
--
-- Not here: what is news itself or work in progress (events, webhook_events,
-- outbox, provider_refs, subscription_statuses, usage), the sandbox's own state, and what only the
-- extension writes. test/pgtap/audit.sql has that list, so that a new table is
-- decided about.
--
-- A digit comes first in the order in which triggers fire: a change is in the
-- log before what a trigger of the application does about it.

DO $$
DECLARE
	a record;
	columns text;
BEGIN
	-- table, what a row is, uuid, name, columns that are withheld (what a person wrote, or would know a person by)
	-- and, with a minus sign, left out (what changes without anybody having changed it)
	FOR a IN
		SELECT * FROM (VALUES
			('customers', 'customer', 'id', '', '{description}'),
			('payment_methods', 'payment_method', 'id', '', '{token,last4,-listed_by,-unusable_as_of}'),
			('subscriptions', 'subscription', 'id', '', '{-next_due_at,-due_failures,-due_error}'),
			('subscription_items', 'subscription_item', 'subscription_id', 'component', '{}'),
			('scheduled_changes', 'scheduled_change', 'id', '', '{}'),
			('payment_intents', 'payment_intent', 'id', '', '{description,statement_descriptor_suffix,-refunds_told_at,-details_charge,-details_charged_at}'),
			('setup_intents', 'setup_intent', 'id', '', '{description}'),
			('refunds', 'refund', 'id', '', '{}'),
			('disputes', 'dispute', 'id', '', '{}'),
			('invoices', 'invoice', 'id', '', '{-due_failures,-due_error,memo,paid_outside}'),
			('sellers', 'seller', '', 'seller', '{}'),
			('credit_notes', 'credit_note', 'id', '', '{memo}'),
			('checkout_sessions', 'checkout_session', 'id', '', '{name,success_url,cancel_url}'),
			('portal_sessions', 'portal_session', 'id', '', '{return_url}'),
			('coupons', 'coupon', 'id', 'coupon', '{-redemptions}'),
			('applied_coupons', 'applied_coupon', 'id', '', '{-uses}'),
			('tax_rates', 'tax_rate', 'id', 'country,region', '{}'),
			('credit_grants', 'credit_grant', 'id', '', '{}'),
			('plans', 'plan', 'id', 'plan', '{}'),
			('prices', 'price', 'id', '', '{}'),
			('price_tiers', 'price_tier', 'price_id', 'position', '{}'),
			('plan_features', 'plan_feature', 'plan_id', 'feature', '{}'),
			('features', 'feature', '', 'feature', '{}'),
			('access_rules', 'access_rule', '', 'status', '{}'),
			('feature_overrides', 'feature_override', '', 'organization_id,feature', '{reason}'),
			('add_ons', 'add_on', '', 'add_on', '{}'),
			('add_on_features', 'add_on_feature', '', 'add_on,feature', '{}'),
			('organization_add_ons', 'organization_add_on', '', 'organization_id,add_on', '{}'),
			('meters', 'meter', '', 'metric', '{}'),
			('usage_thresholds', 'usage_threshold', '', 'organization_id,metric', '{}'),
			('providers', 'provider', '', 'name', '{}'),
			('provider_accounts', 'provider_account', 'id', 'provider,account', '{}'),
			('provider_currencies', 'provider_currency', '', 'provider,currency', '{}'),
			('routing_rules', 'routing_rule', '', 'name', '{}'),
			('optional_methods', 'optional_method', '', 'provider,method', '{}'),
			('installment_terms', 'installment_term', '', 'provider,term,currency,issuer', '{}'),
			('refund_rules', 'refund_rule', '', 'provider,method', '{}'),
			('decline_rules', 'decline_rule', '', 'provider,code', '{}'),
			('attempt_limits', 'attempt_limit', '', 'method', '{}'),
			('webhook_endpoints', 'webhook_endpoint', 'id', '', '{}'),
			('usage_forwarding', 'usage_forwarding', 'id', 'metric,provider,account', '{-errors_reported_at}'),
			('settings', 'setting', '', 'name', '{}'),
			('currencies', 'currency', '', 'code', '{}'),
			('countries', 'country', '', 'code', '{}'),
			('attached_tables', 'attached_table', '', 'table_schema,table_name', '{}'),
			('access_grants', 'access_grant', '', 'role_name,level', '{}')
		) AS v (name, object, id, key, columns)
	LOOP
		SELECT coalesce(string_agg(', ' || quote_literal(c), '' ORDER BY ordinality), '') INTO columns
		FROM unnest(a.columns::text[]) WITH ORDINALITY AS c (c, ordinality);
		EXECUTE format('CREATE TRIGGER "0_audit" AFTER INSERT OR UPDATE OR DELETE ON billing.%I '
					   'FOR EACH ROW EXECUTE FUNCTION billing.audit_row(%L, %L, %L%s)', a.name, a.object, a.id, a.key, columns);
	END LOOP;
END
$$;

-- Entitlements: what the plan of an organisation allows.

-- The subscription that entitles an organisation, one per plan group: the one
-- documented predicate of access, used by features, limits and reports.
CREATE VIEW billing.entitlements AS
	SELECT s.organization_id, s.id AS subscription_id, s.plan_id, s.plan_group, s.quantity, s.status, s.livemode,
		   s.current_period_start, s.current_period_end
	FROM billing.subscriptions AS s
	WHERE (s.status IN ('trialing', 'active', 'past_due')
		   OR CASE WHEN s.status = 'canceled' AND s.access_until IS NOT NULL
				   THEN s.access_until > billing.now(s.organization_id) ELSE false END)
		AND (s.livemode
			 OR coalesce(current_setting('janua_billing.allow_sandbox', true)::boolean, false)
			 OR NOT EXISTS (SELECT FROM billing.provider_accounts AS a WHERE a.livemode));
COMMENT ON VIEW billing.entitlements IS
	'Subscriptions that give access: trialing, active, and past_due (the grace of a failed payment), and a canceled one until access_until. unpaid, paused, incomplete and '
	'ended ones give the default plan. Test-mode subscriptions count only while no live account exists or janua_billing.allow_sandbox is on.';

CREATE FUNCTION billing.has_feature(organization_id text, feature text) RETURNS boolean
LANGUAGE c STABLE SECURITY DEFINER PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_has_feature';
COMMENT ON FUNCTION billing.has_feature(text, text) IS
	'Is the feature in the plan of the organisation? A boolean that is true, a limit above 0, any text. Without a live subscription the '
	'default plan (free) counts. Errors: JB005 unknown feature.';

CREATE FUNCTION billing.feature_limit(organization_id text, feature text) RETURNS numeric
LANGUAGE c STABLE SECURITY DEFINER PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_feature_limit';
COMMENT ON FUNCTION billing.feature_limit(text, text) IS
	'The limit of a feature: Infinity is unlimited, 0 is not in the plan. Errors: JB005 unknown feature, 22023 the feature is no limit.';

CREATE FUNCTION billing.feature_value(organization_id text, feature text) RETURNS text
LANGUAGE c STABLE SECURITY DEFINER PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_feature_value';
COMMENT ON FUNCTION billing.feature_value(text, text) IS
	'The value of a feature as text, NULL when it is not in the plan. Errors: JB005 unknown feature.';

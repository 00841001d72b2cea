-- Coupons and credits as they are by the organisation's clock, which comes after their tables.

CREATE FUNCTION billing.list_coupons(organization_id text)
RETURNS TABLE (coupon text, name text, percent numeric, amount bigint, currency text, duration text, subscription_id uuid, applied_at timestamptz,
			   ends_at timestamptz, uses bigint, state text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT c.coupon, c.name, c.percent, c.amount, c.currency, c.duration, a.subscription_id, a.applied_at, a.ends_at, a.uses,
		   CASE WHEN a.removed_at IS NOT NULL THEN 'removed' WHEN a.used_up THEN 'used'
				WHEN a.ends_at <= billing.now(a.organization_id) THEN 'ended' ELSE 'active' END
	FROM billing.customers AS u
	JOIN billing.applied_coupons AS a ON a.customer_id = u.id
	JOIN billing.coupons AS c ON c.id = a.coupon_id
	WHERE u.organization_id = list_coupons.organization_id AND u.deleted_at IS NULL
	ORDER BY a.applied_at, a.id;
END;
COMMENT ON FUNCTION billing.list_coupons(text) IS
	'The coupons that an organisation or its subscriptions have or had, in the order in which they were applied. state: active, used, ended or '
	'removed. The table billing.coupons has all that there are.';

CREATE FUNCTION billing.credit_balance(organization_id text)
RETURNS TABLE (currency text, balance bigint, prepaid bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	IF NOT EXISTS (SELECT FROM billing.customers AS c WHERE c.organization_id = credit_balance.organization_id) THEN
		RAISE EXCEPTION 'unknown customer of organization "%"', credit_balance.organization_id
			USING ERRCODE = 'JB005', HINT = 'Use billing.create_customer() first.';
	END IF;
	RETURN QUERY
	WITH held AS (
		SELECT b.currency, b.balance, 0::bigint AS prepaid
		FROM billing.customers AS c
		JOIN billing.customer_balances AS b ON b.customer_id = c.id
		WHERE c.organization_id = credit_balance.organization_id AND c.deleted_at IS NULL
		UNION ALL
		SELECT g.currency, 0, g.remaining
		FROM billing.customers AS c
		JOIN billing.credit_grants AS g ON g.customer_id = c.id
		WHERE c.organization_id = credit_balance.organization_id AND c.deleted_at IS NULL AND g.remaining > 0
			AND (g.expires_at IS NULL OR g.expires_at > billing.now(credit_balance.organization_id)))
	SELECT h.currency, sum(h.balance)::bigint, sum(h.prepaid)::bigint
	FROM held AS h
	GROUP BY h.currency
	ORDER BY h.currency;
END
$$;
COMMENT ON FUNCTION billing.credit_balance(text) IS
	'What an organisation has with us, per currency in minor units: its balance (below 0: it owes that with its next invoice), and prepaid '
	'credits that are not expired by its clock. No rows: nothing. Errors: JB005 unknown organisation.';

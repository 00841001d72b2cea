-- Entitlements: what the plan of an organisation allows, what it has beside the
-- plan, and which subscriptions give access.

-- ---------------------------------------------------------------------------
-- Access

-- What a status means for access, as data: an administrator says how long a
-- failed payment is borne with.
CREATE TABLE billing.access_rules
(
	status text PRIMARY KEY
		CHECK (status IN ('incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'unpaid', 'paused', 'canceled')),
	gives_access boolean NOT NULL,
	grace interval,
	builtin boolean NOT NULL DEFAULT false,
	CHECK (grace IS NULL OR (gives_access AND grace >= interval '0' AND status IN ('past_due', 'unpaid', 'paused'))),
	CHECK (NOT gives_access OR status NOT IN ('canceled', 'incomplete_expired'))
);
COMMENT ON TABLE billing.access_rules IS
	'Which statuses of a subscription give access to what its plan entitles to. A canceled one gives it until subscriptions.access_until, '
	'whatever stands here.';
COMMENT ON COLUMN billing.access_rules.grace IS
	'How long a subscription gives access in this status, from subscriptions.status_since, days of 24 hours; NULL: as long as the status lasts.';

CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.access_rules
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('status');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.access_rules
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.access_rules
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set gives_access to false instead.');

INSERT INTO billing.access_rules (status, gives_access, builtin) VALUES
	('trialing', true, true), ('active', true, true), ('past_due', true, true),
	('unpaid', false, true), ('paused', false, true), ('incomplete', false, true),
	('incomplete_expired', false, true), ('canceled', false, true);
SELECT pg_extension_config_dump('billing.access_rules', 'WHERE NOT builtin');

-- The clock is asked only where an end is known: most subscriptions have none.
CREATE VIEW billing.subscription_access AS
	SELECT s.organization_id, s.id AS subscription_id, s.plan_id, s.plan_group, s.quantity, s.status, s.livemode,
		   s.current_period_start, s.current_period_end, e.access_until,
		   (r.gives_access OR (s.status = 'canceled' AND s.access_until IS NOT NULL))
			   AND CASE WHEN e.access_until IS NULL THEN true ELSE e.access_until > billing.now(s.organization_id) END AS gives_access
	FROM billing.subscriptions AS s
	JOIN billing.access_rules AS r ON r.status = s.status
	CROSS JOIN LATERAL (SELECT CASE WHEN s.status = 'canceled' THEN s.access_until
									WHEN r.grace IS NOT NULL THEN (s.status_since AT TIME ZONE 'UTC' + r.grace) AT TIME ZONE 'UTC'
							   END) AS e (access_until)
	WHERE s.livemode
		OR coalesce(current_setting('janua_billing.allow_sandbox', true)::boolean, false)
		OR NOT EXISTS (SELECT FROM billing.provider_accounts AS a WHERE a.livemode);
COMMENT ON VIEW billing.subscription_access IS
	'Subscriptions that count (those in test mode only while no live account exists or janua_billing.allow_sandbox is on), and whether they '
	'give access: what entitlements and usage_subscriptions share.';

-- The subscription that entitles an organisation, one per plan group: the one
-- documented predicate of access, used by features, limits and reports.
CREATE VIEW billing.entitlements AS
	SELECT a.organization_id, a.subscription_id, a.plan_id, a.plan_group, a.quantity, a.status, a.livemode,
		   a.current_period_start, a.current_period_end, a.access_until
	FROM billing.subscription_access AS a
	WHERE a.gives_access;
COMMENT ON VIEW billing.entitlements IS
	'Subscriptions that give access, by access_rules: as shipped trialing, active (also when it ends with its period), and past_due '
	'(the grace of a failed payment), and a canceled one until access_until. unpaid, paused, incomplete and ended ones give the default '
	'plan. Test-mode subscriptions count only while no live account exists or janua_billing.allow_sandbox is on.';
COMMENT ON COLUMN billing.entitlements.access_until IS 'When it stops to give access if nothing changes: the end of a grace. NULL: not known.';

-- When a grace ends in the middle of a period, what was used in it is still
-- used.  But one that gives no access is not waited for: whether it has another
-- period is for a payment to say.
CREATE VIEW billing.usage_subscriptions AS
	SELECT DISTINCT ON (a.organization_id)
		   a.organization_id, a.subscription_id, a.plan_id, a.status, a.gives_access, a.current_period_start, a.current_period_end
	FROM billing.subscription_access AS a
	WHERE CASE WHEN a.gives_access THEN true
			   ELSE a.status IN ('trialing', 'active', 'past_due', 'unpaid', 'paused') AND a.current_period_start IS NOT NULL
					AND a.current_period_end > billing.now(a.organization_id) END
	ORDER BY a.organization_id, a.current_period_start IS NOT NULL AND a.current_period_end IS NOT NULL DESC, a.plan_group = 'default' DESC,
			 a.gives_access DESC, a.current_period_start DESC, a.subscription_id;
COMMENT ON VIEW billing.usage_subscriptions IS
	'The subscription in whose period the usage of an organisation counts: one that gives access, or that lives (trialing, active, past_due, '
	'unpaid, paused) until the end of the period that is known; of several that of the plan group default first. Without one it is the '
	'calendar month in UTC.';

-- ---------------------------------------------------------------------------
-- Beside the plans

CREATE TABLE billing.feature_overrides
(
	organization_id text NOT NULL CHECK (organization_id <> ''),
	feature text NOT NULL REFERENCES billing.features (feature),
	value text NOT NULL CHECK (value <> ''),
	until timestamptz,
	reason text CHECK (length(reason) <= 500),
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (organization_id, feature)
);
COMMENT ON TABLE billing.feature_overrides IS
	'What one organisation has of a feature, whatever its plans and add-ons say: more or less.';
COMMENT ON COLUMN billing.feature_overrides.value IS 'As in plan_features; false and 0 take the feature away.';
COMMENT ON COLUMN billing.feature_overrides.until IS 'The first moment at which it counts no more; NULL: for good.';
CREATE TRIGGER check_plan_feature BEFORE INSERT OR UPDATE ON billing.feature_overrides
	FOR EACH ROW EXECUTE FUNCTION billing.check_plan_feature();

CREATE TABLE billing.add_ons
(
	add_on text PRIMARY KEY CHECK (add_on ~ '^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$'),
	name text NOT NULL CHECK (name <> ''),
	description text,
	retired_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE billing.add_ons IS
	'What an organisation can have on top of its plan, in units. Retired ones stay for those who have them.';
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.add_ons
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set retired_at instead.');

CREATE TABLE billing.add_on_features
(
	add_on text NOT NULL REFERENCES billing.add_ons (add_on),
	feature text NOT NULL REFERENCES billing.features (feature),
	value text CHECK (value <> ''),
	PRIMARY KEY (add_on, feature)
);
COMMENT ON TABLE billing.add_on_features IS 'What each unit of an add-on gives.';
COMMENT ON COLUMN billing.add_on_features.value IS
	'Of a limit: how much a unit adds, or unlimited. Of a boolean: true, it is switched on. NULL: nothing. A text is not added to.';

CREATE FUNCTION billing.check_add_on_feature() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind text := (SELECT f.kind FROM billing.features AS f WHERE f.feature = NEW.feature);
BEGIN
	IF kind = 'text' THEN
		RAISE EXCEPTION 'feature "%" is a text, which an add-on cannot add to', NEW.feature
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Put it into a plan, or use billing.set_override().';
	ELSIF kind = 'boolean' AND NEW.value <> 'true' THEN
		RAISE EXCEPTION 'value "%" of feature "%" is not true', NEW.value, NEW.feature
			USING ERRCODE = 'invalid_parameter_value', HINT = 'An add-on switches on; billing.set_override() switches off.';
	ELSIF kind = 'limit' AND NEW.value <> 'unlimited' AND NEW.value !~ '^[0-9]{1,30}(\.[0-9]{1,12})?$' THEN
		RAISE EXCEPTION 'value "%" of feature "%" is not a limit', NEW.value, NEW.feature
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'What a unit adds is a number from 0, or the word unlimited.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION billing.check_add_on_feature() IS 'Trigger of add_on_features: the value fits the kind of the feature.';
CREATE TRIGGER check_add_on_feature BEFORE INSERT OR UPDATE ON billing.add_on_features
	FOR EACH ROW EXECUTE FUNCTION billing.check_add_on_feature();

CREATE TABLE billing.organization_add_ons
(
	organization_id text NOT NULL CHECK (organization_id <> ''),
	add_on text NOT NULL REFERENCES billing.add_ons (add_on),
	quantity bigint NOT NULL CHECK (quantity > 0),
	since timestamptz NOT NULL,
	until timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (organization_id, add_on),
	CHECK (until > since)
);
COMMENT ON TABLE billing.organization_add_ons IS 'Which add-ons an organisation has, and how many units, from since (inclusive) to until (exclusive).';
ALTER TABLE billing.prices ADD FOREIGN KEY (add_on) REFERENCES billing.add_ons (add_on);
COMMENT ON COLUMN billing.organization_add_ons.until IS 'NULL: until it is removed.';

SELECT pg_extension_config_dump('billing.feature_overrides', '');
SELECT pg_extension_config_dump('billing.add_ons', '');
SELECT pg_extension_config_dump('billing.add_on_features', '');
SELECT pg_extension_config_dump('billing.organization_add_ons', '');

CREATE FUNCTION billing.set_override(
	organization_id text,
	feature text,
	value text,
	until timestamptz DEFAULT NULL,
	reason text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_set_override';
COMMENT ON FUNCTION billing.set_override(text, text, text, timestamptz, text) IS
	'Says what an organisation has of a feature, in place of what its plans and add-ons give: true or false, a number or unlimited, or a '
	'text. It counts from now until the moment until (exclusive; NULL: for good), by the organisation''s clock, and replaces an earlier '
	'one. value NULL removes it. reason: for those who read it later, 500 characters. Errors: JB005 unknown feature, 22023 a value of the '
	'wrong kind or until is not to come, JB009 a card number in value or reason.';

CREATE FUNCTION billing.create_add_on(add_on text, name text, features jsonb, description text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_add_on';
COMMENT ON FUNCTION billing.create_add_on(text, text, jsonb, text) IS
	'Makes an add-on. features: what each unit gives, {"users": 10, "sso": true}: a number is added to the limit, unlimited lifts it, true '
	'switches on. Errors: 23505 the code is taken, JB005 unknown feature, 22023 a bad code or value, or a feature that is a text, JB009 a '
	'card number.';

CREATE FUNCTION billing.set_add_on_price(
	add_on text,
	amount bigint DEFAULT NULL,
	currency text DEFAULT NULL,
	"interval" text DEFAULT 'month',
	interval_count integer DEFAULT 1,
	model text DEFAULT 'per_unit',
	unit_amount numeric DEFAULT NULL,
	tiers jsonb DEFAULT NULL,
	tax_behavior text DEFAULT NULL,
	description text DEFAULT NULL,
	effective_at timestamptz DEFAULT NULL,
	existing text DEFAULT 'stay')
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_set_add_on_price';
COMMENT ON FUNCTION billing.set_add_on_price(text, bigint, text, text, integer, text, numeric, jsonb, text, text, timestamptz, text) IS
	'Makes a price of an add-on for a currency and an interval, as create_price() does for a plan; it takes the place of the one before. A local '
	'subscription is billed for the add-ons of its organisation that have a price, as component addon.<code>. Errors: JB005 unknown add-on, '
	'JB008 it is retired, 22023 a bad or superfluous argument, 23502 one is missing, 23505 there is a version from that moment on, JB009 a card '
	'number.';

CREATE FUNCTION billing.set_add_on(
	organization_id text,
	add_on text,
	quantity bigint DEFAULT 1,
	until timestamptz DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_set_add_on';
COMMENT ON FUNCTION billing.set_add_on(text, text, bigint, timestamptz) IS
	'Says how many units of an add-on an organisation has from now on, until the moment until (exclusive; NULL: for good), by its clock. '
	'quantity 0 removes it. One with a price (set_add_on_price) is billed with the local subscription of the organisation, from now on in '
	'proportion; without a subscription with the next one that is made. Errors: JB005 unknown add-on, JB008 it is retired and the organisation '
	'does not have it, or its subscription cannot be changed, 22023 quantity below 0, until is not to come, or it has no price in the currency '
	'and interval of the subscription, JB004 it has a price and until is given, or a provider bills the subscription.';

CREATE TRIGGER forget_limits AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON billing.access_rules
	FOR EACH STATEMENT EXECUTE FUNCTION billing.forget_limits();
CREATE TRIGGER forget_limits AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON billing.add_ons
	FOR EACH STATEMENT EXECUTE FUNCTION billing.forget_limits();
CREATE TRIGGER forget_limits AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON billing.add_on_features
	FOR EACH STATEMENT EXECUTE FUNCTION billing.forget_limits();
CREATE TRIGGER mark_changed_limits AFTER INSERT OR UPDATE OR DELETE ON billing.feature_overrides
	FOR EACH ROW EXECUTE FUNCTION billing.mark_changed_limits();
CREATE TRIGGER mark_changed_limits AFTER INSERT OR UPDATE OR DELETE ON billing.organization_add_ons
	FOR EACH ROW EXECUTE FUNCTION billing.mark_changed_limits();

-- ---------------------------------------------------------------------------
-- What an organisation has
--
-- Not SECURITY DEFINER: taking another identity for each row of a query costs
-- ten times what the answer does. The functions run as their caller, and take
-- the owner's identity only to look something up that they do not remember.
-- STABLE, so that one with constant arguments is called once where it is all
-- of a condition or stands in that of an index. COST: beyond what a comparison
-- costs, so that cheaper conditions are asked first.

CREATE FUNCTION billing.has_feature(organization_id text, feature text) RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'billing_has_feature';
COMMENT ON FUNCTION billing.has_feature(text, text) IS
	'Has the organisation the feature? A boolean that is true, a limit above 0, any text. Without a live subscription the default plan '
	'(free) counts; overrides go before plans and add-ons. Errors: JB005 unknown feature, 42501 a role that sees one organisation asks '
	'about another.';

CREATE FUNCTION billing.feature_limit(organization_id text, feature text) RETURNS numeric
LANGUAGE c STABLE PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'billing_feature_limit';
COMMENT ON FUNCTION billing.feature_limit(text, text) IS
	'The limit of a feature: Infinity is unlimited, 0 is not in the plan. The largest of the plans, plus add-ons; an override goes before '
	'both. Errors: JB005 unknown feature, 22023 the feature is no limit, 42501 a role that sees one organisation asks about another.';

CREATE FUNCTION billing.feature_value(organization_id text, feature text) RETURNS text
LANGUAGE c STABLE PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'billing_feature_value';
COMMENT ON FUNCTION billing.feature_value(text, text) IS
	'The value of a feature as text, NULL when the organisation does not have it. Errors: JB005 unknown feature, 42501 a role that sees '
	'one organisation asks about another.';

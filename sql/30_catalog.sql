-- What is sold: plans, their prices, and what a plan entitles to.

CREATE TABLE billing.features
(
	feature text PRIMARY KEY CHECK (feature ~ '^[a-z][a-z0-9_.-]{0,62}$'),
	kind text NOT NULL CHECK (kind IN ('boolean', 'limit', 'text')),
	description text,
	builtin boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE billing.features IS
	'What a plan can entitle to: a boolean (sso), a limit (users) or a text (support_level).';

CREATE TABLE billing.plans
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	plan text NOT NULL UNIQUE CHECK (plan ~ '^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$'),
	name text NOT NULL,
	description text,
	plan_group text NOT NULL DEFAULT 'default' CHECK (plan_group <> ''),
	is_default boolean NOT NULL DEFAULT false,
	custom_price boolean NOT NULL DEFAULT false,
	trial_days integer NOT NULL DEFAULT 0 CHECK (trial_days BETWEEN 0 AND 730),
	sort_order integer NOT NULL DEFAULT 100,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
	retired_at timestamptz,
	builtin boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE billing.plans IS 'Plans, by their code. Retired ones stay for those who have them.';
COMMENT ON COLUMN billing.plans.plan_group IS
	'An organisation has at most one live subscription per group: plans of one group exclude each other.';
COMMENT ON COLUMN billing.plans.is_default IS
	'The plan of an organisation without a live subscription.';
COMMENT ON COLUMN billing.plans.custom_price IS
	'Sold at a price agreed with each customer: subscribe() needs price or amount.';
-- A constraint and not a unique index, because only a constraint can be checked
-- later: a dump brings the rows in any order.
ALTER TABLE billing.plans ADD CONSTRAINT plans_one_default
	EXCLUDE USING btree (plan_group WITH =) WHERE (is_default) DEFERRABLE;

CREATE TABLE billing.prices
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	plan_id uuid REFERENCES billing.plans (id),
	add_on text,
	customer_id uuid,
	currency text NOT NULL REFERENCES billing.currencies (code),
	amount bigint NOT NULL CHECK (amount >= 0),
	"interval" text NOT NULL DEFAULT 'month'
		CHECK ("interval" IN ('day', 'week', 'month', 'quarter', 'year', 'one_time')),
	interval_count integer NOT NULL DEFAULT 1 CHECK (interval_count BETWEEN 1 AND 52),
	component text NOT NULL DEFAULT 'base' CHECK (component ~ '^[a-z][a-zA-Z0-9_.-]{0,68}$'),
	model text NOT NULL DEFAULT 'per_unit' CHECK (model IN ('flat', 'per_unit', 'graduated', 'volume', 'package', 'percentage')),
	metric text,
	unit_amount numeric(38, 12) CHECK (unit_amount >= 0),
	package_size numeric(38, 12) CHECK (package_size > 0),
	percentage numeric(38, 12) CHECK (percentage BETWEEN 0 AND 100),
	free_units numeric(38, 12) NOT NULL DEFAULT 0 CHECK (free_units >= 0),
	minimum bigint CHECK (minimum >= 0),
	maximum bigint CHECK (maximum >= 0),
	commitment bigint NOT NULL DEFAULT 0 CHECK (commitment >= 0),
	tax_behavior text CHECK (tax_behavior IN ('exclusive', 'inclusive')),
	description text,
	existing text NOT NULL DEFAULT 'stay' CHECK (existing IN ('stay', 'renewal', 'now')),
	effective_at timestamptz NOT NULL DEFAULT now(),
	is_default boolean NOT NULL DEFAULT true,
	retired_at timestamptz,
	builtin boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now(),
	version_of text GENERATED ALWAYS AS (
		CASE WHEN customer_id IS NULL OR is_default
			 THEN coalesce(plan_id::text, add_on) || ' ' || component || ' ' || currency || ' ' || "interval" || ' ' || interval_count::text
				  || coalesce(' ' || customer_id::text, '') END) STORED,
	CHECK (num_nonnulls(plan_id, add_on) = 1),
	CHECK ((add_on IS NOT NULL) = starts_with(component, 'addon.')),
	CHECK ("interval" <> 'one_time' OR interval_count = 1),
	CHECK (metric IS NULL OR ("interval" <> 'one_time' AND component <> 'base')),
	CHECK (model <> 'package' OR package_size IS NOT NULL),
	CHECK (model <> 'percentage' OR percentage IS NOT NULL)
);
COMMENT ON TABLE billing.prices IS
	'Prices of plans and add-ons. The terms of a price never change: a change is a new price, a version of it.';
COMMENT ON COLUMN billing.prices.add_on IS 'Set for the price of an add-on, which belongs to no plan; the component is addon. and its code.';
COMMENT ON COLUMN billing.prices.version_of IS
	'The same for all versions of a price: plan or add-on, component, currency, interval, customer. The one with the latest effective_at that has '
	'come and that is not retired is sold. NULL: an amount agreed with a customer, which is sold to him when it is named, and has no versions.';
COMMENT ON COLUMN billing.prices.amount IS
	'Minor units of the currency, for one interval: of model flat the fee, of per_unit that of one unit unless unit_amount is finer. Else 0.';
COMMENT ON COLUMN billing.prices.component IS
	'What of the plan it prices: base (what the subscription''s quantity counts), seats, a metered part, an add-on.';
COMMENT ON COLUMN billing.prices.metric IS
	'Set for what is metered: the quantity is the usage of the period, billed when it is over. Others are billed in advance.';
COMMENT ON COLUMN billing.prices.unit_amount IS
	'Fractions of minor units: of one unit (per_unit) or one package. NULL: amount.';
COMMENT ON COLUMN billing.prices.free_units IS 'Taken off the quantity before all else.';
COMMENT ON COLUMN billing.prices.commitment IS 'Due for each period in any case, used or not. Minor units.';
COMMENT ON COLUMN billing.prices.tax_behavior IS 'Is tax added to it or inside? NULL: the setting tax_behavior.';
COMMENT ON COLUMN billing.prices.existing IS
	'What becomes of local subscriptions with the version before it, from effective_at on: they stay, move at renewal, or move at once.';
COMMENT ON COLUMN billing.prices.effective_at IS 'From when on it is the version that is sold.';
COMMENT ON COLUMN billing.prices.is_default IS
	'Taken when a subscription names plan and currency only: of several the one whose effective_at has come last. Of a customer''s price: it '
	'takes the place of the list for him, without being named.';
COMMENT ON COLUMN billing.prices.customer_id IS 'Set for a price agreed with one customer.';
ALTER TABLE billing.prices ADD CONSTRAINT prices_one_default
	EXCLUDE USING btree (plan_id WITH =, currency WITH =, effective_at WITH =)
	WHERE (component = 'base' AND customer_id IS NULL AND is_default AND retired_at IS NULL) DEFERRABLE;
CREATE UNIQUE INDEX prices_version ON billing.prices (version_of, effective_at) WHERE retired_at IS NULL AND version_of IS NOT NULL;
CREATE INDEX prices_versions ON billing.prices (version_of);
CREATE INDEX prices_plan ON billing.prices (plan_id);

-- Tiers of graduated and volume prices.
CREATE TABLE billing.price_tiers
(
	price_id uuid NOT NULL REFERENCES billing.prices (id),
	position integer NOT NULL CHECK (position BETWEEN 1 AND 1000),
	up_to numeric(38, 12) CHECK (up_to > 0),
	unit_amount numeric(38, 12) NOT NULL DEFAULT 0 CHECK (unit_amount >= 0),
	flat_amount bigint NOT NULL DEFAULT 0 CHECK (flat_amount >= 0),
	PRIMARY KEY (price_id, position)
);
COMMENT ON TABLE billing.price_tiers IS 'Tiers of graduated and volume prices: up_to is inclusive, the last has none.';
COMMENT ON COLUMN billing.price_tiers.unit_amount IS 'Minor units, with fractions, of each unit in the tier.';
COMMENT ON COLUMN billing.price_tiers.flat_amount IS 'Minor units, due once when the quantity reaches the tier.';
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.price_tiers
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('The terms of a price never change.');

-- A list of tiers that has its last one is complete: then nothing fits before it
-- either, for each position is taken.  A dump may bring the rows in any order.
CREATE FUNCTION billing.keep_price_tiers() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_OP = 'UPDATE' OR EXISTS (SELECT FROM billing.price_tiers AS t
								   WHERE t.price_id = NEW.price_id AND t.up_to IS NULL AND t.position <= NEW.position) THEN
		RAISE EXCEPTION 'the terms of price % cannot change', NEW.price_id
			USING ERRCODE = 'JB008',
				  HINT = 'Make a new price by billing.create_price(); it takes the place of this one for new subscriptions.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION billing.keep_price_tiers() IS 'Trigger of price_tiers: the tiers of a price are immutable.';
CREATE TRIGGER keep_price_tiers BEFORE INSERT OR UPDATE ON billing.price_tiers
	FOR EACH ROW EXECUTE FUNCTION billing.keep_price_tiers();
SELECT pg_extension_config_dump('billing.price_tiers', '');

CREATE TABLE billing.plan_features
(
	plan_id uuid NOT NULL REFERENCES billing.plans (id),
	feature text NOT NULL REFERENCES billing.features (feature),
	value text CHECK (value <> ''),
	builtin boolean NOT NULL DEFAULT false,
	PRIMARY KEY (plan_id, feature)
);
COMMENT ON TABLE billing.plan_features IS 'What a plan entitles to; a feature that is not listed is not in the plan.';
COMMENT ON COLUMN billing.plan_features.value IS
	'true or false, a number or unlimited, or a text, by the kind of the feature. NULL, false and 0 mean: not in the plan.';

-- A price is what a customer agreed to; only whether it is still offered may change.
CREATE FUNCTION billing.keep_price_terms() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF (NEW.id, NEW.plan_id, NEW.add_on, NEW.customer_id, NEW.currency, NEW.amount, NEW.interval, NEW.interval_count, NEW.component, NEW.model,
		NEW.metric, NEW.unit_amount, NEW.package_size, NEW.percentage, NEW.free_units, NEW.minimum, NEW.maximum, NEW.commitment,
		NEW.tax_behavior, NEW.description, NEW.existing, NEW.effective_at)
		IS DISTINCT FROM
		(OLD.id, OLD.plan_id, OLD.add_on, OLD.customer_id, OLD.currency, OLD.amount, OLD.interval, OLD.interval_count, OLD.component, OLD.model,
		OLD.metric, OLD.unit_amount, OLD.package_size, OLD.percentage, OLD.free_units, OLD.minimum, OLD.maximum, OLD.commitment,
		OLD.tax_behavior, OLD.description, OLD.existing, OLD.effective_at)
		-- a restored row takes the place of a built-in one: see replace_builtin()
		AND NOT (OLD.builtin AND NOT NEW.builtin) THEN
		RAISE EXCEPTION 'the terms of price % cannot change', OLD.id
			USING ERRCODE = 'JB008',
				  HINT = 'Make a new price by billing.create_price(); it takes the place of this one for new subscriptions.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION billing.keep_price_terms() IS 'Trigger of prices: terms of a price are immutable.';

CREATE TRIGGER a_keep_price_terms BEFORE UPDATE ON billing.prices
	FOR EACH ROW EXECUTE FUNCTION billing.keep_price_terms();

-- A limit that is not a number would be found out by a customer: refuse it here.
CREATE FUNCTION billing.check_plan_feature() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind text := (SELECT f.kind FROM billing.features AS f WHERE f.feature = NEW.feature);
BEGIN
	IF kind = 'boolean' AND NEW.value NOT IN ('true', 'false') THEN
		RAISE EXCEPTION 'value "%" of feature "%" is neither true nor false', NEW.value, NEW.feature
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF kind = 'limit' AND NEW.value <> 'unlimited' AND NEW.value !~ '^[0-9]{1,30}(\.[0-9]{1,12})?$' THEN
		RAISE EXCEPTION 'value "%" of feature "%" is not a limit', NEW.value, NEW.feature
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'A limit is a number from 0, or the word unlimited.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION billing.check_plan_feature() IS 'Trigger of plan_features: the value fits the kind of the feature.';

CREATE TRIGGER check_plan_feature BEFORE INSERT OR UPDATE ON billing.plan_features
	FOR EACH ROW EXECUTE FUNCTION billing.check_plan_feature();

-- Whoever renames a plan or takes something off sale, providers that have it hear of it.
CREATE FUNCTION billing.catalogue_changed() RETURNS trigger
LANGUAGE c SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_catalogue_changed';
COMMENT ON FUNCTION billing.catalogue_changed() IS
	'Trigger of plans and prices: tells every account that has it that it was renamed, retired or is sold again.';

-- A restored row that takes the place of a built-in one is no change: the
-- update is made inside the trigger replace_builtin then.
CREATE TRIGGER tell_providers AFTER UPDATE OF name, description, retired_at ON billing.plans
	FOR EACH ROW WHEN (NOT (OLD.builtin AND pg_trigger_depth() > 0))
	EXECUTE FUNCTION billing.catalogue_changed('plan');
CREATE TRIGGER tell_providers AFTER UPDATE OF retired_at ON billing.prices
	FOR EACH ROW WHEN (NOT (OLD.builtin AND pg_trigger_depth() > 0))
	EXECUTE FUNCTION billing.catalogue_changed('price');

CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.features
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('feature');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.features
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.features
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Leave it: a feature that no plan lists does nothing.');
CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.plans
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('id');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.plans
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.plans
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set retired_at instead.');
CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.prices
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('id');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.prices
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.prices
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set retired_at instead.');
CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.plan_features
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('plan_id,feature');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.plan_features
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.plan_features
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set the value to NULL instead.');

INSERT INTO billing.features (feature, kind, description, builtin) VALUES
	('users', 'limit', 'people with access', true),
	('teams', 'limit', 'teams', true),
	('storage', 'limit', 'bytes stored', true),
	('api_calls', 'limit', 'calls of the API per period', true),
	('sso', 'boolean', 'single sign-on', true),
	('support_level', 'text', 'how support is given', true);

-- Fixed ids: they are the same in every database, so that a restored row finds its built-in twin.
INSERT INTO billing.plans (id, plan, name, is_default, custom_price, sort_order, builtin) VALUES
	('00000000-0000-7000-8000-000000000001', 'free', 'Free', true, false, 10, true),
	('00000000-0000-7000-8000-000000000002', 'pro', 'Pro', false, false, 20, true),
	('00000000-0000-7000-8000-000000000003', 'enterprise', 'Enterprise', false, true, 30, true);

-- in force since long ago, so that they are the same in a restored database
INSERT INTO billing.prices (id, plan_id, currency, amount, effective_at, builtin) VALUES
	('00000000-0000-7000-8001-000000000001', '00000000-0000-7000-8000-000000000001', 'USD', 0, '2000-01-01 00:00+00', true),
	('00000000-0000-7000-8001-000000000002', '00000000-0000-7000-8000-000000000002', 'USD', 2900, '2000-01-01 00:00+00', true);

INSERT INTO billing.plan_features (plan_id, feature, value, builtin)
SELECT p.id, v.feature, v.value, true
FROM (VALUES
	('free', 'users', '3'), ('free', 'teams', '1'), ('free', 'storage', '1000000000'),
	('free', 'api_calls', '10000'), ('free', 'sso', 'false'), ('free', 'support_level', 'community'),
	('pro', 'users', '25'), ('pro', 'teams', '5'), ('pro', 'storage', '50000000000'),
	('pro', 'api_calls', '100000'), ('pro', 'sso', 'true'), ('pro', 'support_level', 'email'),
	('enterprise', 'users', 'unlimited'), ('enterprise', 'teams', 'unlimited'), ('enterprise', 'storage', 'unlimited'),
	('enterprise', 'api_calls', 'unlimited'), ('enterprise', 'sso', 'true'), ('enterprise', 'support_level', 'dedicated')
) AS v (plan, feature, value)
JOIN billing.plans AS p USING (plan);

SELECT pg_extension_config_dump('billing.features', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.plans', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.prices', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.plan_features', 'WHERE NOT builtin');

CREATE FUNCTION billing.create_plan(
	plan text,
	name text,
	amount bigint DEFAULT NULL,
	currency text DEFAULT NULL,
	"interval" text DEFAULT 'month',
	interval_count integer DEFAULT 1,
	description text DEFAULT NULL,
	features jsonb DEFAULT NULL,
	plan_group text DEFAULT 'default',
	trial_days integer DEFAULT 0,
	metadata jsonb DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_plan';
COMMENT ON FUNCTION billing.create_plan(text, text, bigint, text, text, integer, text, jsonb, text, integer, jsonb) IS
	'Makes a plan and, when amount is given, its price. amount: minor units per interval (0 is free); NULL makes a plan whose price '
	'is agreed with each customer. features: {"users": 10, "sso": true, "storage": "unlimited"}, features not seen before are '
	'added. The provider hears of it when it is first sold. Errors: 23505 the code is taken, 22023 a bad currency, interval or value.';

CREATE FUNCTION billing.create_price(
	plan text,
	amount bigint DEFAULT NULL,
	currency text DEFAULT NULL,
	"interval" text DEFAULT 'month',
	interval_count integer DEFAULT 1,
	component text DEFAULT 'base',
	model text DEFAULT 'per_unit',
	unit_amount numeric DEFAULT NULL,
	tiers jsonb DEFAULT NULL,
	package_size numeric DEFAULT NULL,
	percentage numeric DEFAULT NULL,
	minimum bigint DEFAULT NULL,
	maximum bigint DEFAULT NULL,
	free_units numeric DEFAULT NULL,
	commitment bigint DEFAULT 0,
	metric text DEFAULT NULL,
	tax_behavior text DEFAULT NULL,
	description text DEFAULT NULL,
	customer_id uuid DEFAULT NULL,
	effective_at timestamptz DEFAULT NULL,
	existing text DEFAULT 'stay')
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_price';
COMMENT ON FUNCTION billing.create_price(text, bigint, text, text, integer, text, text, numeric, jsonb, numeric, numeric, bigint, bigint,
										 numeric, bigint, text, text, text, uuid, timestamptz, text) IS
	'Makes a price of a plan in minor units, which takes the place of the present one for new subscriptions; those who have the old one keep '
	'it unless existing says otherwise. A base price that is sold at once is from then on the default of its currency; one of another interval '
	'can still be chosen by price or interval. currency: default the setting default_currency. "interval": day, week, month, quarter, year, '
	'one_time. component: base (what the quantity of the subscription counts), seats, or any other part that is billed beside it. model: flat '
	'(amount, whatever the quantity), per_unit (amount or unit_amount each), graduated and volume (tiers [{"up_to": 100, "unit_amount": 2, '
	'"flat_amount": 500}, ...]: bounds inclusive, the last without; a number may be a string, "0.05"), package (amount or unit_amount for each begun package_size), percentage (of a '
	'quantity that is money, between minimum and maximum). unit_amount: minor units with up to 12 decimals. free_units: taken off the quantity '
	'first. commitment: minor units due for each period in any case. metric: the quantity is the usage of the period, billed after it. '
	'tax_behavior: exclusive or inclusive, default the setting. customer_id: for this customer only, in place of the list. effective_at: from when '
	'on it is sold, default at once. existing: what becomes of local subscriptions with earlier versions: stay, renewal (they move with their '
	'next period after effective_at) or now (at effective_at, prorated). Errors: JB005 unknown plan, metric or customer, JB008 the plan is '
	'retired, 22023 a bad or superfluous argument, 23502 one is missing, 23514 there is a version from that moment on, JB004 existing for the '
	'first price of a customer, JB009 a card number.';

CREATE FUNCTION billing.set_plan_feature(plan text, feature text, value text) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_set_plan_feature';
COMMENT ON FUNCTION billing.set_plan_feature(text, text, text) IS
	'Sets what a plan entitles to: true or false, a number or unlimited, or a text. A feature not seen before is added with the kind '
	'that its value shows. NULL takes the feature out of the plan. Errors: JB005 unknown plan, 22023 value of the wrong kind.';

CREATE FUNCTION billing.link_price(
	price uuid,
	provider text,
	provider_price_id text,
	provider_product_id text DEFAULT NULL,
	account text DEFAULT 'default')
RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_link_price';
COMMENT ON FUNCTION billing.link_price(uuid, text, text, text, text) IS
	'Says that a price of ours exists at the provider already, so that none is made there. provider_price_id: of its price, or of the plan '
	'or product where a provider has one thing per price; provider_product_id: only where it has products beside prices. Errors: JB005 '
	'unknown price, JB006 provider not configured, JB004 the provider has no catalogue or no products, JB008 the price is linked or being '
	'pushed.';

CREATE FUNCTION billing.refuse_card_numbers(argument text, value jsonb) RETURNS void
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'billing_refuse_card_numbers';
COMMENT ON FUNCTION billing.refuse_card_numbers(text, jsonb) IS 'JB009 when a text in the value is a card number; for functions in SQL.';

-- Amounts are compared as numbers: 2 is 2.00.
CREATE FUNCTION billing.import_tiers(tiers jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
	SELECT jsonb_agg(jsonb_build_object('up_to', (t.tier ->> 'up_to')::numeric, 'unit_amount', coalesce((t.tier ->> 'unit_amount')::numeric, 0),
										'flat_amount', coalesce((t.tier ->> 'flat_amount')::numeric, 0)) ORDER BY t.position)
	FROM jsonb_array_elements(CASE WHEN jsonb_typeof(tiers) = 'array' THEN tiers ELSE '[]' END) WITH ORDINALITY AS t (tier, position);
END;
COMMENT ON FUNCTION billing.import_tiers(jsonb) IS 'Tiers in the one form in which import_plan() compares them.';

-- plpgsql: it only calls the functions above, which check what they are given.
CREATE FUNCTION billing.import_price(plan text, offer jsonb, index integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	unknown text;
	member record;
BEGIN
	SELECT k INTO unknown
	FROM jsonb_object_keys(offer) AS k
	WHERE k NOT IN ('amount', 'currency', 'interval', 'interval_count', 'component', 'model', 'unit_amount', 'tiers', 'package_size', 'percentage',
					'minimum', 'maximum', 'free_units', 'commitment', 'metric', 'tax_behavior', 'description', 'effective_at', 'existing')
	LIMIT 1;
	IF unknown IS NOT NULL THEN
		RAISE EXCEPTION 'a price in element % of plans has an unknown member "%"', index, unknown
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Members are the arguments of billing.create_price().';
	END IF;
	-- a number, or a string of one
	SELECT m.name, m.value INTO member
	FROM (SELECT o.key AS name, o.value, o.key IN ('amount', 'interval_count', 'minimum', 'maximum', 'commitment') AS whole
		  FROM jsonb_each_text(offer) AS o
		  WHERE o.key IN ('amount', 'interval_count', 'minimum', 'maximum', 'commitment', 'unit_amount', 'package_size', 'percentage', 'free_units')
		  UNION ALL
		  SELECT o.key || ' of tier ' || t.position, o.value, o.key = 'flat_amount'
		  FROM jsonb_array_elements(CASE WHEN jsonb_typeof(offer -> 'tiers') = 'array' THEN offer -> 'tiers' ELSE '[]' END) WITH ORDINALITY AS t (tier, position)
		  CROSS JOIN LATERAL jsonb_each_text(CASE WHEN jsonb_typeof(t.tier) = 'object' THEN t.tier ELSE '{}' END) AS o
		  WHERE o.key IN ('up_to', 'unit_amount', 'flat_amount')) AS m
	WHERE m.value !~ CASE WHEN m.whole THEN '^-?[0-9]+(\.0+)?$' ELSE '^-?[0-9]+(\.[0-9]+)?$' END
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'a price in element % of plans has no number as %: "%"', index, member.name, member.value
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Amounts are whole minor units, unit_amount may have decimals; a number may be written as a string.';
	END IF;
	IF EXISTS (
		SELECT
		FROM billing.prices AS r
		JOIN billing.plans AS p ON p.id = r.plan_id
		WHERE p.plan = import_price.plan AND r.customer_id IS NULL AND r.retired_at IS NULL
			AND r.currency = coalesce(upper(offer ->> 'currency'), (SELECT s.value FROM billing.settings AS s WHERE s.name = 'default_currency'))
			AND (r."interval", r.interval_count, r.component, r.model, r.amount, r.free_units, r.commitment)
				= (coalesce(offer ->> 'interval', 'month'), coalesce((offer ->> 'interval_count')::numeric::integer, 1), coalesce(offer ->> 'component', 'base'),
				   coalesce(offer ->> 'model', 'per_unit'), coalesce((offer ->> 'amount')::numeric::bigint, 0), coalesce((offer ->> 'free_units')::numeric, 0),
				   coalesce((offer ->> 'commitment')::numeric::bigint, 0))
			AND (r.unit_amount, r.package_size, r.percentage, r.minimum, r.maximum, r.metric, r.tax_behavior, r.description)
				IS NOT DISTINCT FROM
				((offer ->> 'unit_amount')::numeric, (offer ->> 'package_size')::numeric, (offer ->> 'percentage')::numeric,
				 (offer ->> 'minimum')::numeric::bigint, (offer ->> 'maximum')::numeric::bigint, offer ->> 'metric', offer ->> 'tax_behavior', offer ->> 'description')
			AND (offer ->> 'effective_at' IS NULL OR r.effective_at = (offer ->> 'effective_at')::timestamptz)
			AND billing.import_tiers(offer -> 'tiers') IS NOT DISTINCT FROM
				(SELECT billing.import_tiers(jsonb_agg(to_jsonb(t) ORDER BY t.position)) FROM billing.price_tiers AS t WHERE t.price_id = r.id)) THEN
		RETURN false;
	END IF;
	PERFORM billing.create_price(
		import_price.plan, (offer ->> 'amount')::numeric::bigint, offer ->> 'currency', coalesce(offer ->> 'interval', 'month'),
		coalesce((offer ->> 'interval_count')::numeric::integer, 1), component => offer ->> 'component', model => offer ->> 'model',
		unit_amount => (offer ->> 'unit_amount')::numeric, tiers => offer -> 'tiers', package_size => (offer ->> 'package_size')::numeric,
		percentage => (offer ->> 'percentage')::numeric, minimum => (offer ->> 'minimum')::numeric::bigint, maximum => (offer ->> 'maximum')::numeric::bigint,
		free_units => (offer ->> 'free_units')::numeric, commitment => coalesce((offer ->> 'commitment')::numeric::bigint, 0), metric => offer ->> 'metric',
		tax_behavior => offer ->> 'tax_behavior', description => offer ->> 'description', effective_at => (offer ->> 'effective_at')::timestamptz,
		existing => offer ->> 'existing');
	RETURN true;
END
$$;
COMMENT ON FUNCTION billing.import_price(text, jsonb, integer) IS 'One price of import_plans(): made unless it is there with these terms.';

CREATE FUNCTION billing.import_plan(plan jsonb, index integer) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	code text := import_plan.plan ->> 'plan';
	present billing.plans;
	unknown text;
	offer jsonb;
	own jsonb := jsonb_strip_nulls(jsonb_build_object('amount', import_plan.plan -> 'amount', 'currency', import_plan.plan -> 'currency',
													  'interval', import_plan.plan -> 'interval',
													  'interval_count', import_plan.plan -> 'interval_count'));
	feature record;
	changed boolean := false;
BEGIN
	SELECT k INTO unknown
	FROM jsonb_object_keys(import_plan.plan) AS k
	WHERE k NOT IN ('plan', 'name', 'description', 'amount', 'currency', 'interval', 'interval_count', 'prices', 'features', 'plan_group',
					'trial_days', 'metadata')
	LIMIT 1;
	IF unknown IS NOT NULL THEN
		RAISE EXCEPTION 'element % of plans has an unknown member "%"', index, unknown
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Members are: plan, name, description, amount, currency, interval, interval_count, prices, features, plan_group, '
						 'trial_days, metadata.';
	ELSIF code IS NULL THEN
		RAISE EXCEPTION 'element % of plans has no plan', index
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Give each its code, such as {"plan": "pro", ...}.';
	END IF;

	SELECT p.* INTO present FROM billing.plans AS p WHERE p.plan = code FOR NO KEY UPDATE;
	IF present.id IS NULL THEN
		IF import_plan.plan ->> 'name' IS NULL THEN
			RAISE EXCEPTION 'element % of plans has no name', index
				USING ERRCODE = 'invalid_parameter_value', HINT = 'A plan that is new needs one.';
		END IF;
		PERFORM billing.create_plan(code, import_plan.plan ->> 'name', description => import_plan.plan ->> 'description', features => import_plan.plan -> 'features',
									plan_group => coalesce(import_plan.plan ->> 'plan_group', 'default'),
									trial_days => coalesce((import_plan.plan ->> 'trial_days')::integer, 0),
									metadata => import_plan.plan -> 'metadata');
		-- its prices follow
		UPDATE billing.plans AS p
		SET custom_price = false
		WHERE p.plan = code
			AND (import_plan.plan ? 'amount'
				 OR EXISTS (SELECT FROM jsonb_array_elements(coalesce(import_plan.plan -> 'prices', '[]')) AS o
							WHERE coalesce(o.value ->> 'component', 'base') = 'base'));
	ELSE
		UPDATE billing.plans AS p
		SET name = coalesce(import_plan.plan ->> 'name', p.name),
			description = CASE WHEN import_plan.plan ? 'description' THEN import_plan.plan ->> 'description' ELSE p.description END,
			plan_group = coalesce(import_plan.plan ->> 'plan_group', p.plan_group),
			trial_days = coalesce((import_plan.plan ->> 'trial_days')::integer, p.trial_days),
			metadata = coalesce(import_plan.plan -> 'metadata', p.metadata)
		WHERE p.id = present.id
			AND (p.name, p.description, p.plan_group, p.trial_days, p.metadata) IS DISTINCT FROM
				(coalesce(import_plan.plan ->> 'name', p.name),
				 CASE WHEN import_plan.plan ? 'description' THEN import_plan.plan ->> 'description' ELSE p.description END,
				 coalesce(import_plan.plan ->> 'plan_group', p.plan_group),
				 coalesce((import_plan.plan ->> 'trial_days')::integer, p.trial_days),
				 coalesce(import_plan.plan -> 'metadata', p.metadata));
		changed := FOUND;
		FOR feature IN
			SELECT e.key, e.value
			FROM jsonb_each_text(coalesce(import_plan.plan -> 'features', '{}')) AS e
			LEFT JOIN billing.plan_features AS f ON f.plan_id = present.id AND f.feature = e.key
			WHERE f.value IS DISTINCT FROM e.value
		LOOP
			PERFORM billing.set_plan_feature(code, feature.key, feature.value);
			changed := true;
		END LOOP;
	END IF;

	FOR offer IN
		SELECT own WHERE import_plan.plan ? 'amount'
		UNION ALL
		SELECT o.value FROM jsonb_array_elements(coalesce(import_plan.plan -> 'prices', '[]')) AS o
	LOOP
		changed := billing.import_price(code, offer, index) OR changed;
	END LOOP;
	RETURN CASE WHEN present.id IS NULL THEN 'created' WHEN changed THEN 'updated' ELSE 'unchanged' END;
END
$$;
COMMENT ON FUNCTION billing.import_plan(jsonb, integer) IS 'One element of import_plans().';

CREATE FUNCTION billing.import_plans(plans jsonb) RETURNS TABLE (plan text, action text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	element jsonb;
	index integer := 0;
BEGIN
	PERFORM billing.refuse_card_numbers('plans', import_plans.plans);
	IF jsonb_typeof(import_plans.plans) IS DISTINCT FROM 'array' THEN
		RAISE EXCEPTION 'plans is not an array'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Pass something like ''[{"plan": "pro", "name": "Pro", "amount": 2900, "currency": "USD"}]''.';
	END IF;
	FOR element IN SELECT e.value FROM jsonb_array_elements(import_plans.plans) WITH ORDINALITY AS e ORDER BY e.ordinality
	LOOP
		IF jsonb_typeof(element) <> 'object' THEN
			RAISE EXCEPTION 'element % of plans is not an object', index USING ERRCODE = 'invalid_parameter_value';
		END IF;
		plan := element ->> 'plan';
		action := billing.import_plan(element, index);
		index := index + 1;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION billing.import_plans(jsonb) IS
	'Brings the catalogue to what the array says, and returns what became of each plan: created, updated or unchanged. Twice is no change. '
	'An element: {plan, name, description, amount, currency, interval, interval_count, prices: [{amount, currency, interval, '
	'interval_count, component, model, tiers, ...}], features, plan_group, trial_days, metadata}; what is left out stays. The members of a price '
	'are the arguments of create_price(), which makes one that is not there yet with these terms. Errors: 22023 an element that cannot be used, '
	'with its number, JB009 a card number, and those of create_price().';

CREATE FUNCTION billing.get_plans()
RETURNS TABLE (plan text, name text, amount bigint, currency text, "interval" text, interval_count integer,
			   trial_days integer, plan_group text, features jsonb, model text, components jsonb)
LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH sold AS (
		-- of each price the version that is in force
		SELECT DISTINCT ON (s.version_of) s.*
		FROM billing.prices AS s
		WHERE s.customer_id IS NULL AND s.retired_at IS NULL AND s.effective_at <= now()
		ORDER BY s.version_of, s.effective_at DESC
	), base AS (
		SELECT DISTINCT ON (b.plan_id, b.currency) b.*
		FROM sold AS b
		WHERE b.component = 'base' AND b.is_default
		ORDER BY b.plan_id, b.currency, b.effective_at DESC
	)
	SELECT p.plan, p.name, r.amount, r.currency, r."interval", r.interval_count, p.trial_days, p.plan_group,
		   (SELECT coalesce(jsonb_object_agg(pf.feature,
											 CASE
												 WHEN f.kind = 'limit' AND pf.value = 'unlimited' THEN to_jsonb(-1)
												 WHEN f.kind = 'limit' THEN to_jsonb(pf.value::numeric)
												 WHEN f.kind = 'boolean' THEN to_jsonb(pf.value::boolean)
												 ELSE to_jsonb(pf.value)
											 END), '{}')
			FROM billing.plan_features AS pf
			JOIN billing.features AS f ON f.feature = pf.feature
			WHERE pf.plan_id = p.id AND pf.value IS NOT NULL),
		   r.model,
		   (SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
					   'component', c.component, 'model', c.model, 'metric', c.metric, 'interval', c."interval", 'interval_count', c.interval_count,
					   'amount', CASE WHEN c.unit_amount IS NULL AND c.model IN ('flat', 'per_unit', 'package') THEN c.amount END,
					   'unit_amount', trim_scale(c.unit_amount), 'package_size', trim_scale(c.package_size),
					   'percentage', trim_scale(c.percentage), 'minimum', c.minimum, 'maximum', c.maximum,
					   'free_units', trim_scale(nullif(c.free_units, 0)), 'commitment', nullif(c.commitment, 0), 'description', c.description,
					   'tiers', (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
									 'up_to', trim_scale(t.up_to), 'unit_amount', trim_scale(t.unit_amount), 'flat_amount', nullif(t.flat_amount, 0)))
									 ORDER BY t.position)
								 FROM billing.price_tiers AS t WHERE t.price_id = c.id))) ORDER BY c.component), '[]')
			FROM sold AS c
			WHERE c.plan_id = p.id AND c.component <> 'base' AND c.currency = r.currency
				AND ((c."interval", c.interval_count) = (r."interval", r.interval_count) OR c."interval" = 'one_time'))
	FROM billing.plans AS p
	LEFT JOIN base AS r ON r.plan_id = p.id
	WHERE p.retired_at IS NULL
	ORDER BY p.sort_order, p.plan, r.currency;
END;
COMMENT ON FUNCTION billing.get_plans() IS
	'The plans on offer with price (minor units for model flat and per_unit, NULL: agreed with each customer) and features; an unlimited limit is '
	'-1. components: what else is billed, as arguments of create_price().';

-- Which provider a call goes to: rules that an administrator can change.

CREATE TABLE billing.routing_rules
(
	name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]*$'),
	position integer NOT NULL,
	kind text NOT NULL CHECK (kind IN ('provider', 'customer', 'setting', 'unconfigured')),
	provider text CHECK (provider ~ '^[a-z][a-z0-9_]*$'),
	account text CHECK (account ~ '^[a-zA-Z0-9_.-]{1,64}$'),
	countries text[] CHECK (countries <> '{}'),
	currencies text[] CHECK (currencies <> '{}'),
	methods text[] CHECK (methods <> '{}'),
	purposes text[] CHECK (purposes <> '{}'),
	description text NOT NULL,
	enabled boolean NOT NULL DEFAULT true,
	builtin boolean NOT NULL DEFAULT false,
	CHECK ((provider IS NOT NULL) = (kind IN ('provider', 'unconfigured'))),
	CHECK (account IS NULL OR provider IS NOT NULL)
);
COMMENT ON TABLE billing.routing_rules IS
	'How select_provider() and every call that names no provider choose one: the rules in the order of position, of which the first one '
	'counts whose conditions hold and whose account can take the call (has its key, is not stopped, supports operation, currency and '
	'country, and with a plan takes a currency in which it has a price). A provider that the call names comes before all rules. '
	'Positions are 100 apart, so that rules of one''s own fit between; shares of cost, tests on a part of the customers and an account '
	'to fall back on would be further kinds.';
COMMENT ON COLUMN billing.routing_rules.kind IS
	'provider: the one of the column. customer: where the customer of the call is (customers.provider). setting: the setting '
	'default_provider. unconfigured: the one of the column, while no account over the network has a key.';
COMMENT ON COLUMN billing.routing_rules.provider IS
	'May name a provider that this version does not have: then the rule is passed over.';
COMMENT ON COLUMN billing.routing_rules.account IS 'Of the provider; NULL: the account that the call names, else default.';
COMMENT ON COLUMN billing.routing_rules.countries IS 'The rule is for customers of these countries (ISO 3166-1) only; NULL: of all.';
COMMENT ON COLUMN billing.routing_rules.currencies IS 'For calls in these currencies only; NULL: in any or none.';
COMMENT ON COLUMN billing.routing_rules.methods IS
	'For calls that ask for one of these methods only: card, oxxo, spei, msi (a card in instalments), ...; NULL: for all.';
COMMENT ON COLUMN billing.routing_rules.purposes IS 'For one of these purposes only: saas, goods, custom; NULL: for all.';

INSERT INTO billing.routing_rules (name, position, kind, provider, countries, methods, purposes, description, builtin) VALUES
	('method_conekta', 100, 'provider', 'conekta', NULL, '{oxxo,spei,msi}', NULL,
	 'payment methods of Mexico', true),
	('method_stripe', 200, 'provider', 'stripe', NULL, '{oxxo,spei,msi}', NULL,
	 'the same at an account whose capabilities list the method', true),
	('purpose_custom', 300, 'provider', 'stripe', NULL, NULL, '{custom}',
	 'agreements of their own', true),
	('customer', 400, 'customer', NULL, NULL, NULL, NULL,
	 'where the customer is', true),
	('country_mx', 500, 'provider', 'conekta', '{MX}', NULL, NULL,
	 'customers in Mexico', true),
	('default_provider', 600, 'setting', NULL, NULL, NULL, NULL,
	 'the setting default_provider', true),
	('merchant_of_record', 700, 'provider', 'polar', NULL, NULL, NULL,
	 'who sells in his own name and cares for the taxes', true),
	('stripe', 800, 'provider', 'stripe', NULL, NULL, NULL,
	 'everything else', true),
	('sandbox', 900, 'unconfigured', 'sandbox', NULL, NULL, NULL,
	 'nothing is configured yet', true);

CREATE TABLE billing.optional_methods
(
	provider text NOT NULL CHECK (provider ~ '^[a-z][a-z0-9_]*$'),
	method text NOT NULL CHECK (method ~ '^[a-z][a-z0-9_]*$'),
	optional boolean NOT NULL DEFAULT true,
	builtin boolean NOT NULL DEFAULT false,
	PRIMARY KEY (provider, method)
);
COMMENT ON TABLE billing.optional_methods IS
	'Methods that a provider has for some accounts only: routing takes an account for them when its options list them, '
	'options => ''{"capabilities": ["oxxo"]}''. A call that names the provider is not asked.';
COMMENT ON COLUMN billing.optional_methods.optional IS 'False: every account has it.';

INSERT INTO billing.optional_methods (provider, method, builtin) VALUES
	('stripe', 'oxxo', true), ('stripe', 'spei', true), ('stripe', 'msi', true);

CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.routing_rules
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('name');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.routing_rules
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.routing_rules
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set enabled to false instead.');
CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.optional_methods
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('provider,method');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.optional_methods
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.optional_methods
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set optional to false instead.');

SELECT pg_extension_config_dump('billing.routing_rules', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.optional_methods', 'WHERE NOT builtin');

CREATE FUNCTION billing.select_provider(
	country text DEFAULT NULL,
	currency text DEFAULT NULL,
	amount bigint DEFAULT NULL,
	method text DEFAULT NULL,
	operation text DEFAULT NULL,
	organization_id text DEFAULT NULL,
	plan text DEFAULT NULL,
	purpose text DEFAULT NULL,
	installments integer DEFAULT NULL,
	provider text DEFAULT NULL,
	account text DEFAULT NULL)
RETURNS TABLE (provider text, account text, rule text, reason text, passed_over text[])
LANGUAGE c VOLATILE SECURITY DEFINER ROWS 1
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_select_provider';
COMMENT ON FUNCTION billing.select_provider(text, text, bigint, text, text, text, text, text, integer, text, text) IS
	'The provider and account that a call with these terms goes to, by which rule of routing_rules, why, and which rules were passed over '
	'for which reason. All arguments are optional. country: of the customer (ISO 3166-1; default: that of the organization''s customer). '
	'amount: minor units of currency. method: card, oxxo, spei, msi, ... (installments means msi). operation: such as '
	'payment_intent.create (default: subscription.create with a plan, payment_intent.create with an amount or a method, else '
	'customer.create). purpose: saas, goods, custom. provider: the one that a call names, which comes before all rules. Nothing is '
	'written. Errors: JB004 no configured provider can do it, JB005 unknown plan or provider, JB006 none is configured, '
	'JB011 live and test would be mixed, JB014 a country that nothing may be sold to, 22023 unknown country, currency, operation or word.';

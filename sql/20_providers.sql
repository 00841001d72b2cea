-- Providers, our accounts at them, and the ids under which they know our objects.

CREATE TABLE billing.providers
(
	name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]*$'),
	title text NOT NULL,
	embedded boolean NOT NULL DEFAULT false,
	currencies_listed boolean NOT NULL DEFAULT true,
	countries text[],
	merchant_of_record boolean NOT NULL DEFAULT false,
	retired boolean NOT NULL DEFAULT false,
	builtin boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE billing.providers IS 'Payment providers that this version can talk to.';
COMMENT ON COLUMN billing.providers.embedded IS 'Lives in the worker and uses no network.';
COMMENT ON COLUMN billing.providers.currencies_listed IS
	'It takes the currencies that provider_currencies has for it and no others; false: every currency.';
COMMENT ON COLUMN billing.providers.countries IS 'Countries of the customers that it may be chosen for (ISO 3166-1); NULL: all.';
COMMENT ON COLUMN billing.providers.merchant_of_record IS 'It is the seller of what it collects money for, and taxes it itself: no tax of ours.';

INSERT INTO billing.providers (name, title, embedded, currencies_listed, builtin) VALUES
	('sandbox', 'Sandbox (embedded, for tests)', true, false, true);
INSERT INTO billing.providers (name, title, embedded, merchant_of_record, builtin) VALUES
	('stripe', 'Stripe', false, false, true),
	('conekta', 'Conekta', false, false, true),
	('polar', 'Polar', false, true, true);

CREATE TABLE billing.provider_accounts
(
	provider text NOT NULL REFERENCES billing.providers (name),
	account text NOT NULL DEFAULT 'default' CHECK (account ~ '^[a-zA-Z0-9_.-]{1,64}$'),
	id uuid NOT NULL UNIQUE DEFAULT billing.new_id(),
	livemode boolean NOT NULL,
	base_url text NOT NULL,
	secret_key bytea,
	publishable_key text,
	webhook_secret bytea,
	previous_webhook_secret bytea,
	previous_webhook_secret_until timestamptz,
	options jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object'),
	bound_to text,
	stopped_at timestamptz,
	stopped_reason text,
	builtin boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (provider, account),
	CHECK ((stopped_at IS NULL) = (stopped_reason IS NULL)),
	CHECK ((previous_webhook_secret IS NULL) = (previous_webhook_secret_until IS NULL))
);
COMMENT ON TABLE billing.provider_accounts IS
	'Our accounts at the providers. Written by configure_provider(), import_environment() and adopt_database().';
COMMENT ON COLUMN billing.provider_accounts.secret_key IS 'Encrypted.';
COMMENT ON COLUMN billing.provider_accounts.webhook_secret IS 'Encrypted.';
COMMENT ON COLUMN billing.provider_accounts.previous_webhook_secret IS
	'Encrypted: still accepted until previous_webhook_secret_until, so that a secret can be rotated.';
COMMENT ON COLUMN billing.provider_accounts.bound_to IS
	'System identifier and oid of the database that may send for this account; a restored or replicated copy is another one and '
	'sends nothing until adopt_database(). NULL for embedded providers, which send nothing.';
COMMENT ON COLUMN billing.provider_accounts.stopped_at IS
	'Set when the provider refused our key; configure_provider() clears it.';

INSERT INTO billing.provider_accounts (provider, account, livemode, base_url, builtin)
VALUES ('sandbox', 'default', false, 'sandbox:', true);

CREATE TABLE billing.provider_circuits
(
	account_id uuid PRIMARY KEY,
	state text NOT NULL CHECK (state IN ('closed', 'open', 'half_open')),
	until timestamptz,
	pause_seconds double precision,
	failures integer NOT NULL,
	throttled_until timestamptz,
	noted_at timestamptz NOT NULL,
	CHECK ((state = 'closed') = (until IS NULL))
) WITH (fillfactor = 50);
COMMENT ON TABLE billing.provider_circuits IS
	'Written by the worker when calls to an account begin to fail, when it tries again, when it goes on, and when the provider asks for a '
	'pause (429). A row that is older than the last change of its account says nothing any more; provider_health shows it.';
COMMENT ON COLUMN billing.provider_circuits.state IS
	'closed: all is well; open: nothing is sent until "until"; half_open: one request is on its way to see whether the provider is back.';
COMMENT ON COLUMN billing.provider_circuits.failures IS 'Calls in a row without a usable answer (no connection, no answer, 5xx).';

CREATE TABLE billing.provider_refs
(
	object_type text NOT NULL,
	object_id uuid NOT NULL,
	provider text NOT NULL,
	account text NOT NULL,
	provider_id text NOT NULL,
	livemode boolean NOT NULL,
	as_of timestamptz NOT NULL,
	as_of_stage integer NOT NULL DEFAULT 0,
	as_of_event text COLLATE "C" NOT NULL DEFAULT '',
	as_of_digest bigint NOT NULL DEFAULT 0,
	in_doubt boolean NOT NULL DEFAULT false,
	PRIMARY KEY (object_id, object_type, provider, account),
	UNIQUE (provider_id, object_type, provider, account)
);
COMMENT ON TABLE billing.provider_refs IS
	'The provider''s ids of our objects, and how recent our knowledge of them is. The only place where such an id lives. No foreign '
	'key leads to provider_accounts: it would make every session lock the one row of the account.';
COMMENT ON COLUMN billing.provider_refs.as_of IS
	'Provider''s time of what was applied last. Of one time: as_of_stage (how far the object had come), then as_of_event (the webhook, '
	'"" for an answer to our own call) is the order in which news count; as_of_digest tells whether two of them say the same.';
COMMENT ON COLUMN billing.provider_refs.in_doubt IS
	'Webhooks of one second told different things and their order is not certain: the provider was asked for the object.';

CREATE INDEX provider_refs_in_doubt ON billing.provider_refs (object_id) WHERE in_doubt;

CREATE TABLE billing.waiting_links
(
	holder_id uuid NOT NULL,
	holder_type text NOT NULL,
	object_type text NOT NULL,
	provider text NOT NULL,
	account text NOT NULL,
	provider_id text NOT NULL,
	PRIMARY KEY (holder_id, object_type, provider, account)
);
COMMENT ON TABLE billing.waiting_links IS
	'What an object of ours was told to belong to and is not known here yet: the payment method of a subscription that was told first. '
	'The link is made when the object appears.';
CREATE INDEX waiting_links_target ON billing.waiting_links (provider_id);

CREATE TABLE billing.provider_currencies
(
	provider text NOT NULL REFERENCES billing.providers (name),
	currency text NOT NULL REFERENCES billing.currencies (code),
	wire_exponent smallint NOT NULL CHECK (wire_exponent BETWEEN 0 AND 4),
	step bigint NOT NULL DEFAULT 1 CHECK (step > 0),
	min_amount bigint NOT NULL DEFAULT 0 CHECK (min_amount >= 0),
	max_amount bigint CHECK (max_amount >= min_amount),
	optional boolean NOT NULL DEFAULT false,
	retired boolean NOT NULL DEFAULT false,
	builtin boolean NOT NULL DEFAULT false,
	PRIMARY KEY (provider, currency)
);
COMMENT ON TABLE billing.provider_currencies IS
	'The currencies that a provider takes (see providers.currencies_listed), in which units it counts them, and its limits. Where a '
	'provider takes every currency, one without a row has ISO 4217''s minor units and no limits.';
COMMENT ON COLUMN billing.provider_currencies.optional IS
	'Only some accounts have it, by contract: routing takes an account for it when its options list it, options => '
	'''{"currencies": ["USD"]}''. A call that names the provider is not asked.';
COMMENT ON COLUMN billing.provider_currencies.retired IS 'Not taken, or not any more.';
COMMENT ON COLUMN billing.provider_currencies.wire_exponent IS 'Decimal places of the provider''s unit; step and limits are in this unit.';
COMMENT ON COLUMN billing.provider_currencies.step IS 'Every amount is a multiple of it.';
COMMENT ON COLUMN billing.provider_currencies.min_amount IS
	'Smallest charge. The price of one unit may be lower: what counts is the sum that is charged.';

-- Stripe, "Supported currencies": ISK and UGX have two decimals there and whole
-- units only, MGA has none, and the last of three decimals is 0.  "Minimum and
-- maximum charge amounts": at most eight digits but where the unit is small;
-- where no minimum stands here, it is the worth of USD 0.50.
INSERT INTO billing.provider_currencies (provider, currency, wire_exponent, step, min_amount, max_amount, builtin)
SELECT 'stripe', c.code,
	   CASE c.code WHEN 'ISK' THEN 2 WHEN 'UGX' THEN 2 WHEN 'MGA' THEN 0 ELSE c.exponent END,
	   CASE WHEN c.code IN ('ISK', 'UGX') THEN 100 WHEN c.exponent = 3 THEN 10 ELSE 1 END,
	   coalesce(m.min_amount, 0),
	   CASE WHEN c.exponent <> 3 AND c.code NOT IN ('IDR', 'COP', 'HUF', 'INR', 'ISK', 'JPY', 'MGA', 'UGX') THEN 99999999 END,
	   true
FROM string_to_table(
	'AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CLP CNY COP CRC CVE CZK '
	'DJF DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR ISK JMD JOD JPY KES KGS KHR KMF '
	'KRW KWD KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN '
	'PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SEK SGD SHP SLE SOS SRD SZL THB TJS TND TOP TRY TTD TWD TZS UAH UGX USD '
	'UYU UZS VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW', ' ') AS v (currency)
JOIN billing.currencies AS c ON c.code = v.currency
LEFT JOIN (VALUES ('AED', 200), ('AUD', 50), ('BRL', 50), ('CAD', 50), ('CHF', 50), ('CZK', 1500), ('DKK', 250), ('EUR', 50),
				  ('GBP', 30), ('HKD', 400), ('HUF', 17500), ('INR', 50), ('JPY', 50), ('MXN', 1000), ('MYR', 200), ('NOK', 300),
				  ('NZD', 50), ('PLN', 200), ('RON', 200), ('SEK', 300), ('SGD', 50), ('THB', 1000), ('USD', 50)) AS m (currency, min_amount)
	ON m.currency = v.currency;

-- Conekta: centavos. The least that a card is charged, and what fits into a line (32 bits). Plans may be in USD, orders
-- only by contract.
INSERT INTO billing.provider_currencies (provider, currency, wire_exponent, min_amount, max_amount, optional, builtin) VALUES
	('conekta', 'MXN', 2, 300, 2147483647, false, true),
	('conekta', 'USD', 2, 1, 2147483647, true, true);

-- Polar, PresentmentCurrency and "Minimum amounts per currency" of a fixed price: 15 currencies without decimals, two for every
-- other one. ISK and UGX have two there, too, and whole units only.
INSERT INTO billing.provider_currencies (provider, currency, wire_exponent, step, min_amount, builtin)
SELECT 'polar', v.currency, v.wire_exponent, v.step, v.min_amount, true
FROM (VALUES
	 ('AED', 2, 1, 200), ('ALL', 2, 1, 5000), ('AMD', 2, 1, 20000), ('AOA', 2, 1, 50000), ('ARS', 2, 1, 75000),
	 ('AUD', 2, 1, 70), ('AWG', 2, 1, 100), ('AZN', 2, 1, 100), ('BAM', 2, 1, 100), ('BBD', 2, 1, 200),
	 ('BDT', 2, 1, 7000), ('BIF', 0, 1, 2000), ('BMD', 2, 1, 100), ('BND', 2, 1, 100), ('BOB', 2, 1, 500),
	 ('BRL', 2, 1, 250), ('BSD', 2, 1, 100), ('BWP', 2, 1, 1000), ('BZD', 2, 1, 200), ('CAD', 2, 1, 70),
	 ('CDF', 2, 1, 200000), ('CHF', 2, 1, 50), ('CLP', 0, 1, 500), ('CNY', 2, 1, 500), ('COP', 2, 1, 200000),
	 ('CRC', 2, 1, 30000), ('CVE', 2, 1, 5000), ('CZK', 2, 1, 1500), ('DJF', 0, 1, 100), ('DKK', 2, 1, 320),
	 ('DOP', 2, 1, 4000), ('DZD', 2, 1, 7000), ('EGP', 2, 1, 3000), ('ETB', 2, 1, 8000), ('EUR', 2, 1, 50),
	 ('FJD', 2, 1, 200), ('FKP', 2, 1, 100), ('GBP', 2, 1, 40), ('GEL', 2, 1, 200), ('GIP', 2, 1, 100),
	 ('GMD', 2, 1, 4000), ('GNF', 0, 1, 5000), ('GTQ', 2, 1, 500), ('GYD', 2, 1, 20000), ('HKD', 2, 1, 400),
	 ('HNL', 2, 1, 2000), ('HTG', 2, 1, 7000), ('HUF', 2, 1, 17500), ('IDR', 2, 1, 900000), ('ILS', 2, 1, 150),
	 ('INR', 2, 1, 6000), ('ISK', 2, 100, 7000), ('JMD', 2, 1, 8000), ('JPY', 0, 1, 80), ('KES', 2, 1, 7000),
	 ('KGS', 2, 1, 5000), ('KHR', 2, 1, 300000), ('KMF', 0, 1, 500), ('KRW', 0, 1, 800), ('KYD', 2, 1, 100),
	 ('KZT', 2, 1, 30000), ('LAK', 2, 1, 2000000), ('LKR', 2, 1, 20000), ('LRD', 2, 1, 10000), ('LSL', 2, 1, 1000),
	 ('MAD', 2, 1, 500), ('MDL', 2, 1, 1000), ('MGA', 0, 1, 3000), ('MKD', 2, 1, 5000), ('MNT', 2, 1, 200000),
	 ('MOP', 2, 1, 500), ('MUR', 2, 1, 5000), ('MVR', 2, 1, 800), ('MWK', 2, 1, 100000), ('MXN', 2, 1, 900),
	 ('MYR', 2, 1, 200), ('MZN', 2, 1, 5000), ('NAD', 2, 1, 1000), ('NGN', 2, 1, 70000), ('NIO', 2, 1, 2000),
	 ('NOK', 2, 1, 500), ('NPR', 2, 1, 8000), ('NZD', 2, 1, 90), ('PAB', 2, 1, 100), ('PEN', 2, 1, 200),
	 ('PGK', 2, 1, 300), ('PHP', 2, 1, 3500), ('PKR', 2, 1, 20000), ('PLN', 2, 1, 200), ('PYG', 0, 1, 4000),
	 ('QAR', 2, 1, 200), ('RON', 2, 1, 250), ('RSD', 2, 1, 6000), ('RWF', 0, 1, 1000), ('SAR', 2, 1, 200),
	 ('SBD', 2, 1, 400), ('SCR', 2, 1, 800), ('SEK', 2, 1, 500), ('SGD', 2, 1, 70), ('SHP', 2, 1, 100),
	 ('SOS', 2, 1, 50000), ('SRD', 2, 1, 2000), ('SZL', 2, 1, 1000), ('THB', 2, 1, 2000), ('TJS', 2, 1, 500),
	 ('TOP', 2, 1, 200), ('TRY', 2, 1, 3000), ('TTD', 2, 1, 400), ('TWD', 2, 1, 2000), ('TZS', 2, 1, 200000),
	 ('UAH', 2, 1, 3000), ('UGX', 2, 100, 200000), ('USD', 2, 1, 50), ('UYU', 2, 1, 2000), ('UZS', 2, 1, 700000),
	 ('VND', 0, 1, 20000), ('VUV', 0, 1, 100), ('WST', 2, 1, 200), ('XAF', 0, 1, 500), ('XCD', 2, 1, 200),
	 ('XCG', 2, 1, 100), ('XOF', 0, 1, 500), ('XPF', 0, 1, 100), ('YER', 2, 1, 20000), ('ZAR', 2, 1, 900),
	 ('ZMW', 2, 1, 1000)) AS v (currency, wire_exponent, step, min_amount);

CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.providers
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('name');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.providers
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.providers
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set retired to true instead.');
CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.provider_accounts
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('provider,account');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.provider_accounts
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.provider_accounts
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Stop the account by configure_provider() with another key.');

CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.provider_currencies
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('provider,currency');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.provider_currencies
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.provider_currencies
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set retired to true instead.');

SELECT pg_extension_config_dump('billing.providers', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.provider_currencies', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.provider_accounts', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.provider_refs', '');
SELECT pg_extension_config_dump('billing.waiting_links', '');

CREATE FUNCTION billing.configure_provider(
	provider text,
	secret_key text DEFAULT NULL,
	webhook_secret text DEFAULT NULL,
	publishable_key text DEFAULT NULL,
	base_url text DEFAULT NULL,
	account text DEFAULT 'default',
	options jsonb DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_configure_provider';
COMMENT ON FUNCTION billing.configure_provider(text, text, text, text, text, text, jsonb) IS
	'Makes or changes an account at a provider and binds it to this database. Secrets are stored encrypted; an argument that is NULL '
	'leaves what is there. A new webhook_secret keeps the old one valid for 24 hours. base_url: https, or http on loopback. options are '
	'merged into those that are there, null removes one: sandbox (boolean, where the key does not tell the mode), rate_per_second (0: not '
	'limited), capabilities and currencies (methods and currencies that only some accounts have, see optional_methods and '
	'provider_currencies), headers (sent with every request), accept, language and '
	'what else the provider knows. Errors: JB005 unknown provider, JB011 the key is of the other mode than the account''s objects, JB012 '
	'no key file, 22023 a key, URL or option that cannot be right.';

CREATE TABLE billing.environment_variables
(
	variable text PRIMARY KEY,
	provider text,
	argument text NOT NULL
);
COMMENT ON TABLE billing.environment_variables IS
	'What import_environment() reads: an argument of configure_provider() for a provider (options.NAME for a member of its options, true, '
	'false, 1 and 0 as a boolean), or a setting where provider is NULL.';
INSERT INTO billing.environment_variables (variable, provider, argument) VALUES
	('STRIPE_SECRET_KEY', 'stripe', 'secret_key'),
	('STRIPE_PUBLISHABLE_KEY', 'stripe', 'publishable_key'),
	('STRIPE_WEBHOOK_SECRET', 'stripe', 'webhook_secret'),
	('CONEKTA_PRIVATE_KEY', 'conekta', 'secret_key'),
	('CONEKTA_PUBLIC_KEY', 'conekta', 'publishable_key'),
	('CONEKTA_WEBHOOK_SECRET', 'conekta', 'webhook_secret'),
	('CONEKTA_SANDBOX', 'conekta', 'options.sandbox'),
	('POLAR_ACCESS_TOKEN', 'polar', 'secret_key'),
	('POLAR_ORGANIZATION_ID', 'polar', 'options.organization_id'),
	('POLAR_WEBHOOK_SECRET', 'polar', 'webhook_secret'),
	('POLAR_SANDBOX', 'polar', 'options.sandbox'),
	('DEFAULT_CURRENCY', NULL, 'default_currency'),
	('DEFAULT_PAYMENT_PROVIDER', NULL, 'default_provider'),
	('BILLING_WEBHOOK_URL', NULL, 'webhook_url');

CREATE FUNCTION billing.import_environment() RETURNS SETOF text
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'billing_import_environment';
COMMENT ON FUNCTION billing.import_environment() IS
	'Configures accounts and settings from the environment of the server (STRIPE_SECRET_KEY, STRIPE_PUBLISHABLE_KEY, '
	'STRIPE_WEBHOOK_SECRET, DEFAULT_CURRENCY, DEFAULT_PAYMENT_PROVIDER, BILLING_WEBHOOK_URL) and returns the names that were used. '
	'Superusers only.';

CREATE FUNCTION billing.adopt_database() RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_adopt_database';
COMMENT ON FUNCTION billing.adopt_database() IS
	'Binds every account to this database, after which its queued requests are sent from here; returns how many accounts changed. '
	'Call it in a restored copy only when the original sends no more. Errors: JB012 the key file does not open the secrets.';

CREATE FUNCTION billing.provider_capabilities()
RETURNS TABLE (provider text, operation text, support text, hint text)
LANGUAGE c VOLATILE SECURITY DEFINER ROWS 200
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_provider_capabilities';
COMMENT ON FUNCTION billing.provider_capabilities() IS
	'What each provider can do: every operation, and whether it is supported, emulated (not offered there: done here in its stead) or '
	'refused with JB004; hint says what to do instead. Of the account default where it is configured, else of one without options. A '
	'supported operation may still be refused for particular arguments.';

CREATE FUNCTION billing.database_binding() RETURNS text
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_database_binding';
COMMENT ON FUNCTION billing.database_binding() IS
	'System identifier and oid of this database, as in provider_accounts.bound_to.';

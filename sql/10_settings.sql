-- Business settings, currencies and countries: data that an administrator may
-- change.  What belongs to the server stands in postgresql.conf (janua_billing.*).

CREATE TABLE billing.settings
(
	name text PRIMARY KEY,
	value text,
	kind text NOT NULL DEFAULT 'text'
		CHECK (kind IN ('text', 'integer', 'boolean', 'interval', 'currency', 'provider')),
	description text NOT NULL,
	builtin boolean NOT NULL DEFAULT false,
	CHECK (value IS NULL OR CASE kind
		WHEN 'integer' THEN value::bigint > 0
		WHEN 'boolean' THEN value::boolean IS NOT NULL
		WHEN 'interval' THEN value::interval BETWEEN interval '0' AND interval '50 years'
		WHEN 'currency' THEN value ~ '^[A-Z]{3}$'
		WHEN 'provider' THEN value ~ '^[a-z][a-z0-9_]*$'
		ELSE true END)
);
COMMENT ON TABLE billing.settings IS
	'Business settings: transactional, dumped with the database. UPDATE billing.settings SET value = ... WHERE name = ...';

CREATE TABLE billing.currencies
(
	code text PRIMARY KEY CHECK (code ~ '^[A-Z]{3}$'),
	exponent smallint NOT NULL CHECK (exponent BETWEEN 0 AND 4),
	retired boolean NOT NULL DEFAULT false,
	builtin boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE billing.currencies IS 'Currencies of ISO 4217.';
COMMENT ON COLUMN billing.currencies.exponent IS
	'Decimal places of the minor unit: an amount of 2900 is 29.00 with exponent 2 and 2900 with exponent 0.';

CREATE TABLE billing.countries
(
	code text PRIMARY KEY CHECK (code ~ '^[A-Z]{2}$'),
	sanctioned boolean NOT NULL DEFAULT false,
	retired boolean NOT NULL DEFAULT false,
	builtin boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE billing.countries IS 'Countries by their two-letter code (ISO 3166-1).';
COMMENT ON COLUMN billing.countries.sanctioned IS 'Nothing may be sold there: customers of this country are refused with JB014.';

-- Not for a row that is restored: what it names may be restored after it.
CREATE FUNCTION billing.check_setting() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	fits boolean;
BEGIN
	IF NEW.value IS NOT DISTINCT FROM OLD.value OR OLD.builtin AND NOT NEW.builtin THEN
		RETURN NEW;
	END IF;
	-- the constraint of the table says the same, in words that help nobody
	BEGIN
		fits := CASE NEW.kind
			WHEN 'integer' THEN NEW.value::bigint BETWEEN 1 AND CASE NEW.name WHEN 'days_until_due' THEN 365 ELSE 9223372036854775807 END
			WHEN 'boolean' THEN NEW.value::boolean IS NOT NULL
			WHEN 'interval' THEN NEW.value::interval BETWEEN interval '0' AND interval '50 years'
			ELSE true END;
	EXCEPTION WHEN data_exception THEN
		fits := false;
	END;
	IF NOT fits THEN
		RAISE EXCEPTION 'value "%" of setting "%" cannot be used', NEW.value, NEW.name
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = CASE NEW.kind
					  WHEN 'integer' THEN CASE NEW.name WHEN 'days_until_due' THEN 'It is a whole number from 1 to 365.' ELSE 'It is a whole number above 0.' END
					  WHEN 'boolean' THEN 'It is true or false.'
					  ELSE 'It is an interval of at most 50 years, such as ''13 months'' or ''5 minutes''.' END;
	ELSIF NEW.kind = 'currency' AND NEW.value <> ALL (SELECT c.code FROM billing.currencies AS c WHERE NOT c.retired) THEN
		RAISE EXCEPTION 'unknown currency "%"', NEW.value
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Use a code of ISO 4217 such as USD, EUR or MXN; billing.currencies lists them.';
	ELSIF NEW.kind = 'provider' AND NEW.value <> ALL (SELECT p.name FROM billing.providers AS p WHERE NOT p.retired) THEN
		RAISE EXCEPTION 'unknown provider "%"', NEW.value
			USING ERRCODE = 'JB005', HINT = 'billing.providers lists them.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION billing.check_setting() IS 'Trigger of settings: a value is of the kind of its setting, and a currency or provider that it names exists.';

CREATE TRIGGER a_check_setting BEFORE UPDATE ON billing.settings
	FOR EACH ROW EXECUTE FUNCTION billing.check_setting();
CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.settings
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('name');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.settings
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.settings
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set its value to NULL instead.');
CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.currencies
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('code');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.currencies
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.currencies
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set retired to true instead.');
CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.countries
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('code');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.countries
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.countries
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set retired to true instead.');

INSERT INTO billing.settings (name, value, kind, description, builtin) VALUES
	('default_currency', 'USD', 'currency',
	 'currency of a subscription when neither the call nor the customer names one', true),
	('default_provider', NULL, 'provider',
	 'provider to use where the call names none and no earlier rule of routing_rules decides', true),
	('webhook_url', NULL, 'text',
	 'public URL under which the application receives webhooks; a provider''s endpoint is this, a slash and its name', true),
	('webhook_tolerance', '300 seconds', 'interval',
	 'how old the signed time of a webhook may be', true),
	('webhook_tolerance_future', '300 seconds', 'interval',
	 'how far ahead of our clock the signed time of a webhook may be', true),
	('max_webhook_size', '1048576', 'integer',
	 'largest body of a webhook in bytes', true),
	('webhook_patience', '1 hour', 'interval',
	 'how long a webhook may wait for an object that is not known here before the view attention reports it', true),
	('raw_body_retention', '90 days', 'interval',
	 'how long the raw (encrypted) bodies of webhooks are kept', true),
	('outbox_retention', '90 days', 'interval',
	 'how long finished requests are kept in outbox_finished', true),
	('max_attempts', '20', 'integer',
	 'sendings of a request before it is dead', true),
	('retry_base', '2 seconds', 'interval',
	 'first pause before a request is sent again; doubles with each attempt, full jitter', true),
	('retry_cap', '1 hour', 'interval',
	 'longest pause between two attempts', true),
	('circuit_threshold', '5', 'integer',
	 'calls to an account without a usable answer, one after the other, before no more are sent', true),
	('circuit_pause', '30 seconds', 'interval',
	 'how long nothing is sent then, until one call tries again; doubles with each failure, up to 10 minutes', true);

INSERT INTO billing.currencies (code, exponent, builtin)
SELECT code, 2, true
FROM string_to_table('AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY '
	'COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR '
	'IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN '
	'NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP '
	'SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG', ' ') AS code;
INSERT INTO billing.currencies (code, exponent, builtin)
SELECT code, 0, true
FROM string_to_table('BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF', ' ') AS code;
INSERT INTO billing.currencies (code, exponent, builtin)
SELECT code, 3, true
FROM string_to_table('BHD IQD JOD KWD LYD OMR TND', ' ') AS code;

INSERT INTO billing.countries (code, sanctioned, builtin)
SELECT code, code IN ('BY', 'CU', 'IR', 'KP', 'RU', 'SY'), true
FROM string_to_table('AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT '
	'BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK '
	'FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE '
	'JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ '
	'MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO '
	'RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW '
	'TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW', ' ') AS code;

SELECT pg_extension_config_dump('billing.settings', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.currencies', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.countries', 'WHERE NOT builtin');

CREATE FUNCTION billing.create_key_file(path text DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'billing_create_key_file';
COMMENT ON FUNCTION billing.create_key_file(text) IS
	'Makes the key file on the server (mode 0600, never overwrites) and returns its path. Superusers only. path: default '
	'janua_billing.key_file, else a file in the home of the server''s user named after the system identifier. '
	'Errors: 42501 not a superuser, 58P02 the file is there, 22023 inside the data directory.';

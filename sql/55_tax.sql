-- Tax rates: data, by country and region. What we bill ourselves is taxed by
-- them; what a provider bills, or sells as merchant of record, is not.

INSERT INTO billing.settings (name, value, kind, description, builtin) VALUES
	('tax_behavior', 'exclusive', 'text',
	 'is tax added to a price that does not say so itself (exclusive), or inside of it (inclusive)?', true),
	('tax_note_reverse', 'Reverse charge: the tax is owed by the recipient.', 'text',
	 'what an invoice says where the customer owes the tax himself', true),
	('tax_note_exempt', 'Exempt from tax.', 'text',
	 'what an invoice says to a customer who is exempt', true);

CREATE FUNCTION billing.check_tax_behavior() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NEW.value IS NULL OR NEW.value NOT IN ('exclusive', 'inclusive') THEN
		RAISE EXCEPTION 'value "%" of setting "tax_behavior" cannot be used', NEW.value
			USING ERRCODE = 'invalid_parameter_value', HINT = 'It is exclusive or inclusive.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION billing.check_tax_behavior() IS 'Trigger of settings: tax_behavior is one of its words.';
CREATE TRIGGER a_check_tax_behavior BEFORE UPDATE ON billing.settings
	FOR EACH ROW WHEN (NEW.name = 'tax_behavior') EXECUTE FUNCTION billing.check_tax_behavior();

-- Trigger arguments: the columns that stay as they were written.
CREATE FUNCTION billing.keep_terms() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	term text;
BEGIN
	FOREACH term IN ARRAY TG_ARGV
	LOOP
		IF to_jsonb(NEW) -> term IS DISTINCT FROM to_jsonb(OLD) -> term THEN
			RAISE EXCEPTION '% of a row of billing.% cannot change', term, TG_TABLE_NAME
				USING ERRCODE = 'JB008', HINT = 'Invoices were made by it. Make a new one in its place.';
		END IF;
	END LOOP;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION billing.keep_terms() IS 'Trigger of what invoices are computed by: the columns that it names never change.';

CREATE FUNCTION billing.refuse_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'billing.% is append-only', TG_TABLE_NAME
		USING ERRCODE = 'JB008', HINT = TG_ARGV[0];
END
$$;
COMMENT ON FUNCTION billing.refuse_change() IS 'Trigger of journals: rows are neither changed nor deleted.';

CREATE TABLE billing.tax_rates
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	country text NOT NULL REFERENCES billing.countries (code),
	region text CHECK (region <> '' AND region = upper(btrim(region))),
	name text NOT NULL CHECK (name <> ''),
	percent numeric(9, 6) NOT NULL CHECK (percent BETWEEN 0 AND 100),
	reverse_charge boolean NOT NULL DEFAULT false,
	valid_from timestamptz NOT NULL CHECK (isfinite(valid_from)),
	valid_to timestamptz CHECK (isfinite(valid_to)),
	created_at timestamptz NOT NULL DEFAULT now(),
	UNIQUE NULLS NOT DISTINCT (country, region, valid_from),
	CHECK (valid_to > valid_from)
);
COMMENT ON TABLE billing.tax_rates IS
	'Tax rates, by the customer''s country and region: an invoice is taxed by the one that is valid at its own time, the region''s before '
	'the country''s. A line has one rate: where two taxes are due together (GST and PST), their sum is the rate of the region. A country '
	'without a rate: no tax. Written by set_tax_rate(); a change is a new row from a date.';
COMMENT ON COLUMN billing.tax_rates.region IS 'State or province, as the address has it, in capitals; NULL: all of the country.';
COMMENT ON COLUMN billing.tax_rates.percent IS '19 is 19 %.';
COMMENT ON COLUMN billing.tax_rates.reverse_charge IS
	'A customer of that country with a tax id owes the tax himself: for countries in which the seller is not.';
COMMENT ON COLUMN billing.tax_rates.valid_to IS 'The first moment at which it is valid no more; NULL: until it is replaced.';
CREATE TRIGGER keep_terms BEFORE UPDATE ON billing.tax_rates
	FOR EACH ROW EXECUTE FUNCTION billing.keep_terms('id', 'country', 'region', 'name', 'percent', 'reverse_charge', 'valid_from', 'created_at');
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.tax_rates
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('billing.set_tax_rate() with percent NULL ends one.');
SELECT pg_extension_config_dump('billing.tax_rates', '');

CREATE FUNCTION billing.set_tax_rate(
	country text,
	percent numeric,
	name text DEFAULT NULL,
	region text DEFAULT NULL,
	valid_from timestamptz DEFAULT NULL,
	valid_to timestamptz DEFAULT NULL,
	reverse_charge boolean DEFAULT false)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_set_tax_rate';
COMMENT ON FUNCTION billing.set_tax_rate(text, numeric, text, text, timestamptz, timestamptz, boolean) IS
	'Sets the tax rate of a country, or a region of it, from valid_from (inclusive; default now) to valid_to (exclusive; NULL: until it is '
	'replaced), and returns its id. percent: 19 is 19 %, at most 6 decimals; NULL: no tax from then on, the result is NULL. name: as the '
	'invoice says it (VAT, IVA, GST). region: the state or province of the address, in any case. reverse_charge: customers with a tax id owe '
	'the tax themselves. A rate that is valid until replaced ends at valid_from. Errors: 23514 there is another one for that time, or '
	'the past would change, 22023 bad country, percent or end, or an infinite moment, 23502 no name.';

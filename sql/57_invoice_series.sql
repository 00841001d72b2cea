-- Who sells, and the numbers of what he issues. Afterwards invoices keep what
-- they say: triggers see to it.

INSERT INTO billing.settings (name, value, kind, description, builtin) VALUES
	('days_until_due', '30', 'integer',
	 'days until an invoice of our own that is sent is due, where neither the call nor the subscription says so', true);

CREATE FUNCTION billing.is_number_pattern(pattern text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
-- with one {number} taken out, and all {year}, no brace is left
RETURN length(pattern) <= 40 AND pattern ~ '\{number(:[1-9])?\}' AND pattern !~ '[[:cntrl:]]'
	AND replace(regexp_replace(pattern, '\{number(:[1-9])?\}', ''), '{year}', '') !~ '[{}]';
COMMENT ON FUNCTION billing.is_number_pattern(text) IS
	'Is it a pattern of numbers? At most 40 characters, {number} or {number:1} to {number:9} once, {year} as often as wanted, and no other brace.';

CREATE TABLE billing.sellers
(
	seller text PRIMARY KEY CHECK (seller ~ '^[a-z][a-z0-9_-]{0,62}$'),
	is_default boolean NOT NULL DEFAULT false,
	name text CHECK (name <> ''),
	address jsonb CHECK (jsonb_typeof(address) = 'object'),
	country text REFERENCES billing.countries (code),
	tax_ids jsonb CHECK (jsonb_typeof(tax_ids) = 'array'),
	email text,
	footer text,
	timezone text NOT NULL DEFAULT 'UTC',
	invoice_pattern text NOT NULL DEFAULT 'INV-{number:6}' CHECK (billing.is_number_pattern(invoice_pattern)),
	credit_note_pattern text NOT NULL DEFAULT 'CN-{number:6}' CHECK (billing.is_number_pattern(credit_note_pattern)),
	restart_yearly boolean NOT NULL DEFAULT false,
	first_number bigint NOT NULL DEFAULT 1 CHECK (first_number BETWEEN 1 AND 1000000000000),
	builtin boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	CHECK (invoice_pattern <> credit_note_pattern),
	CHECK (NOT restart_yearly OR (strpos(invoice_pattern, '{year}') > 0 AND strpos(credit_note_pattern, '{year}') > 0))
);
COMMENT ON TABLE billing.sellers IS 'Who sells: what our own invoices say of him, copied into each when it is numbered. Written by set_seller().';
COMMENT ON COLUMN billing.sellers.timezone IS 'Whose days and years count for the numbers.';
COMMENT ON COLUMN billing.sellers.invoice_pattern IS 'Text with {number} or {number:6} (at least six digits) and, if wanted, {year}.';
COMMENT ON COLUMN billing.sellers.restart_yearly IS 'Each year has a series of its own, from 1 on.';
COMMENT ON COLUMN billing.sellers.first_number IS 'What the first series of each kind begins with, in live mode.';
CREATE UNIQUE INDEX sellers_one_default ON billing.sellers (is_default) WHERE is_default;
CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.sellers
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('seller');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.sellers
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.sellers
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Make another one the default: billing.set_seller(..., is_default => true).');
INSERT INTO billing.sellers (seller, is_default, builtin) VALUES ('default', true, true);
SELECT pg_extension_config_dump('billing.sellers', 'WHERE NOT builtin');

CREATE TABLE billing.invoice_series
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	seller text NOT NULL REFERENCES billing.sellers (seller),
	kind text NOT NULL CHECK (kind IN ('invoice', 'credit_note')),
	livemode boolean NOT NULL,
	year integer NOT NULL DEFAULT 0,
	next_number bigint NOT NULL DEFAULT 1 CHECK (next_number > 0),
	last_issued_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	UNIQUE (seller, kind, livemode, year)
);
COMMENT ON TABLE billing.invoice_series IS
	'Series of numbers: one for each seller, kind and mode, and for each year where they restart. Only the numbering of the worker changes '
	'its rows, in a transaction of its own: no application holds a counter, and no rollback leaves a gap.';
COMMENT ON COLUMN billing.invoice_series.year IS '0: it goes on for ever.';
COMMENT ON COLUMN billing.invoice_series.last_issued_at IS 'The date of the last number: in live mode no later number has an earlier one.';
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.invoice_series
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('A series of numbers is kept.');
SELECT pg_extension_config_dump('billing.invoice_series', '');

CREATE FUNCTION billing.set_seller(
	name text,
	seller text DEFAULT 'default',
	address jsonb DEFAULT NULL,
	country text DEFAULT NULL,
	tax_ids jsonb DEFAULT NULL,
	email text DEFAULT NULL,
	footer text DEFAULT NULL,
	timezone text DEFAULT NULL,
	invoice_pattern text DEFAULT NULL,
	credit_note_pattern text DEFAULT NULL,
	restart_yearly boolean DEFAULT NULL,
	first_number bigint DEFAULT NULL,
	is_default boolean DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	series_there boolean;
	live_series_there boolean;
	patterns text[] := ARRAY[coalesce(set_seller.invoice_pattern, (SELECT s.invoice_pattern FROM billing.sellers AS s WHERE s.seller = set_seller.seller), 'INV-{number:6}'),
							 coalesce(set_seller.credit_note_pattern, (SELECT s.credit_note_pattern FROM billing.sellers AS s WHERE s.seller = set_seller.seller), 'CN-{number:6}')];
	restarts boolean := coalesce(set_seller.restart_yearly, (SELECT s.restart_yearly FROM billing.sellers AS s WHERE s.seller = set_seller.seller), false);
	pattern text;
	odd_tax_id text;
BEGIN
	PERFORM billing.refuse_card_numbers('set_seller', jsonb_build_array(set_seller.name, set_seller.seller, set_seller.address, set_seller.tax_ids,
		set_seller.email, set_seller.footer, set_seller.invoice_pattern, set_seller.credit_note_pattern));
	IF set_seller.name IS NULL OR set_seller.seller IS NULL THEN
		RAISE EXCEPTION '% must be given', CASE WHEN set_seller.name IS NULL THEN 'name' ELSE 'seller' END
			USING ERRCODE = 'not_null_violation', HINT = 'name is what is printed, seller the short name that calls say (default: ''default'').';
	ELSIF set_seller.country IS NOT NULL AND NOT EXISTS (SELECT FROM billing.countries AS c WHERE c.code = upper(set_seller.country) AND NOT c.retired) THEN
		RAISE EXCEPTION 'unknown country "%"', set_seller.country
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Use a two-letter code of ISO 3166-1 such as US, MX or DE; billing.countries lists them.';
	ELSIF set_seller.timezone IS NOT NULL AND NOT EXISTS (SELECT FROM pg_timezone_names AS z WHERE z.name = set_seller.timezone) THEN
		RAISE EXCEPTION 'unknown time zone "%"', set_seller.timezone
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Use a name such as America/Mexico_City; pg_timezone_names lists them.';
	ELSIF set_seller.seller !~ '^[a-z][a-z0-9_-]{0,62}$' THEN
		RAISE EXCEPTION 'seller "%" is no short name', set_seller.seller
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It begins with a letter, and has at most 63 of a to z, 0 to 9, _ and -.',
				  HINT = 'The name that is printed is the argument name.';
	ELSIF btrim(set_seller.name) = '' THEN
		RAISE EXCEPTION 'name is empty' USING ERRCODE = 'invalid_parameter_value', HINT = 'It is printed on every invoice: the name of the company.';
	ELSIF jsonb_typeof(set_seller.address) <> 'object' THEN
		RAISE EXCEPTION 'address is not an object'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It is of type %s.', jsonb_typeof(set_seller.address)),
				  HINT = 'Pass something like ''{"line1": "Main St 1", "city": "Berlin", "postal_code": "10115", "country": "DE"}''.';
	ELSIF jsonb_typeof(set_seller.tax_ids) <> 'array' THEN
		RAISE EXCEPTION 'tax_ids is not an array'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It is of type %s.', jsonb_typeof(set_seller.tax_ids)),
				  HINT = 'Pass something like ''[{"type": "eu_vat", "value": "DE123456789"}]''.';
	ELSIF set_seller.first_number NOT BETWEEN 1 AND 1000000000000 THEN
		RAISE EXCEPTION 'first_number is not from 1 to 1000000000000'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It is %s.', set_seller.first_number), HINT = 'Numbers go up by one from there on.';
	END IF;
	SELECT t.tax_id::text INTO odd_tax_id
	FROM jsonb_array_elements(set_seller.tax_ids) AS t (tax_id)
	WHERE NOT coalesce(jsonb_typeof(t.tax_id -> 'type') = 'string' AND jsonb_typeof(t.tax_id -> 'value') = 'string'
					   AND btrim(t.tax_id ->> 'type') <> '' AND btrim(t.tax_id ->> 'value') <> '', false);
	IF FOUND THEN
		RAISE EXCEPTION 'an element of tax_ids has no type or no value'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It is %s; both are texts.', odd_tax_id),
				  HINT = 'Pass something like ''[{"type": "eu_vat", "value": "DE123456789"}]''.';
	END IF;
	FOREACH pattern IN ARRAY patterns LOOP
		IF NOT billing.is_number_pattern(pattern) THEN
			RAISE EXCEPTION '"%" is no pattern of numbers', pattern
				USING ERRCODE = 'invalid_parameter_value',
					  DETAIL = 'It has at most 40 characters, {number} or {number:6} (1 to 9 digits at least) once, {year} if wanted, and no other brace.',
					  HINT = 'Pass something like ''INV-{number:6}'' or ''R{year}-{number:4}''.';
		ELSIF restarts AND strpos(pattern, '{year}') = 0 THEN
			RAISE EXCEPTION 'pattern "%" has no year', pattern
				USING ERRCODE = 'invalid_parameter_value', DETAIL = 'With restart_yearly each year begins with 1: without {year} numbers would come again.',
					  HINT = 'Put {year} into both patterns, such as ''R{year}-{number:4}'' and ''G{year}-{number:4}'', or let the numbers go on.';
		END IF;
	END LOOP;
	IF regexp_replace(patterns[1], ':[1-9]\}', '}') = regexp_replace(patterns[2], ':[1-9]\}', '}') THEN
		RAISE EXCEPTION 'invoices and credit notes have the same pattern'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('They are "%s" and "%s": an invoice and a credit note would have the same number.', patterns[1], patterns[2]),
				  HINT = 'Let them differ by a letter, such as ''INV-{number:6}'' and ''CN-{number:6}''.';
	END IF;
	IF is_default THEN
		UPDATE billing.sellers AS s SET is_default = false, updated_at = now() WHERE s.is_default AND s.seller <> set_seller.seller;
	ELSIF NOT is_default AND EXISTS (SELECT FROM billing.sellers AS s WHERE s.seller = set_seller.seller AND s.is_default) THEN
		RAISE EXCEPTION 'seller "%" is the default one', set_seller.seller
			USING ERRCODE = 'JB008', HINT = 'Make another one the default: billing.set_seller(..., is_default => true).';
	END IF;
	series_there := EXISTS (SELECT FROM billing.invoice_series AS n WHERE n.seller = set_seller.seller);
	live_series_there := EXISTS (SELECT FROM billing.invoice_series AS n WHERE n.seller = set_seller.seller AND n.livemode);
	IF series_there AND EXISTS (SELECT FROM billing.sellers AS s WHERE s.seller = set_seller.seller
			AND (s.restart_yearly <> set_seller.restart_yearly OR live_series_there AND s.first_number <> set_seller.first_number OR s.timezone <> set_seller.timezone)) THEN
		RAISE EXCEPTION 'seller "%" has issued numbers', set_seller.seller
			USING ERRCODE = 'JB008', DETAIL = 'Where his numbers begin, whether they restart and by which time zone cannot change any more.',
				  HINT = 'Make another seller the default; his series begin anew.';
	END IF;
	INSERT INTO billing.sellers AS s (seller, is_default, name, address, country, tax_ids, email, footer, timezone, invoice_pattern,
									  credit_note_pattern, restart_yearly, first_number)
	SELECT set_seller.seller, false, NULL, NULL, NULL, NULL, NULL, NULL, 'UTC', coalesce(set_seller.invoice_pattern, 'INV-{number:6}'),
		   coalesce(set_seller.credit_note_pattern, 'CN-{number:6}'), coalesce(set_seller.restart_yearly, false), 1
	WHERE NOT EXISTS (SELECT FROM billing.sellers AS o WHERE o.seller = set_seller.seller);
	UPDATE billing.sellers AS s
	SET is_default = coalesce(set_seller.is_default, s.is_default), name = set_seller.name,
		address = coalesce(set_seller.address, s.address), country = coalesce(upper(set_seller.country), s.country),
		tax_ids = coalesce(set_seller.tax_ids, s.tax_ids), email = coalesce(set_seller.email, s.email),
		footer = coalesce(set_seller.footer, s.footer), timezone = coalesce(set_seller.timezone, s.timezone),
		invoice_pattern = coalesce(set_seller.invoice_pattern, s.invoice_pattern),
		credit_note_pattern = coalesce(set_seller.credit_note_pattern, s.credit_note_pattern),
		restart_yearly = coalesce(set_seller.restart_yearly, s.restart_yearly),
		first_number = coalesce(set_seller.first_number, s.first_number), updated_at = now()
	WHERE s.seller = set_seller.seller;
	RETURN set_seller.seller;
END
$$;
COMMENT ON FUNCTION billing.set_seller(text, text, jsonb, text, jsonb, text, text, text, text, text, boolean, bigint, boolean) IS
	'Says who sells: what invoices and credit notes of our own name as their issuer from the next number on. Returns seller, which calls name him by. What is NULL stays as it is. '
	'seller: a short name, where there are several; is_default: the one who issues where the call names none. address: object as of a '
	'customer; tax_ids: array of {type, value}; footer: printed below every invoice; timezone: whose years count. invoice_pattern, '
	'credit_note_pattern: text with {number} or {number:6} (at least six digits) and {year}; test mode puts TEST- before it. '
	'restart_yearly: each year begins with 1, and both patterns have {year}. first_number: what the live series begin with. Errors: '
	'23502 no name, 22023 bad pattern, seller, tax_ids, address or first_number, unknown country or time zone, JB008 he has issued numbers and '
	'restart_yearly, first_number (numbers of test mode do not count for it) or timezone change, or he is the default and would not be any more.';

-- ---- what is final stays ----

CREATE FUNCTION billing.keep_invoices() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'invoice "%" is final', coalesce(OLD.number, OLD.id::text)
		USING ERRCODE = 'JB008', DETAIL = 'Its lines, parties, totals, number and dates cannot change.',
			  HINT = 'Correct it by a credit note: billing.create_credit_note().';
END
$$;
COMMENT ON FUNCTION billing.keep_invoices() IS 'Trigger of invoices: what is final stays as it is. Those of providers follow the provider.';
-- The comparison is made here, so that the updates that are fine call nothing. The tax of a provider that is the seller is told by its payments.
CREATE TRIGGER keep_invoices BEFORE UPDATE ON billing.invoices
	FOR EACH ROW WHEN (OLD.managed_by = 'local' AND OLD.status <> 'draft' AND (NEW.status = 'draft' OR
		(NEW.id, NEW.customer_id, NEW.organization_id, NEW.subscription_id, NEW.provider, NEW.account, NEW.livemode, NEW.managed_by,
		 NEW.number, NEW.series_id, NEW.series_number, NEW.billing_reason, NEW.currency, NEW.subtotal, NEW.discount, NEW.total - NEW.provider_tax, NEW.tax - NEW.provider_tax,
		 NEW.credit_used, NEW.balance_used, NEW.amount_due - NEW.provider_tax, NEW.merchant_of_record, NEW.period_start, NEW.period_end, NEW.seller, NEW.buyer, NEW.memo,
		 NEW.marked_at, NEW.due_at, NEW.issued_at)
		IS DISTINCT FROM
		(OLD.id, OLD.customer_id, OLD.organization_id, OLD.subscription_id, OLD.provider, OLD.account, OLD.livemode, OLD.managed_by,
		 OLD.number, OLD.series_id, OLD.series_number, OLD.billing_reason, OLD.currency, OLD.subtotal, OLD.discount, OLD.total - OLD.provider_tax, OLD.tax - OLD.provider_tax,
		 OLD.credit_used, OLD.balance_used, OLD.amount_due - OLD.provider_tax, OLD.merchant_of_record, OLD.period_start, OLD.period_end, OLD.seller, OLD.buyer, OLD.memo,
		 OLD.marked_at, OLD.due_at, OLD.issued_at)))
	EXECUTE FUNCTION billing.keep_invoices();
-- One that waits for its number has its lines, parties and totals already.
CREATE TRIGGER keep_marked_invoices BEFORE UPDATE ON billing.invoices
	FOR EACH ROW WHEN (OLD.managed_by = 'local' AND OLD.status = 'draft' AND OLD.marked_at IS NOT NULL AND
		(NEW.id, NEW.customer_id, NEW.organization_id, NEW.subscription_id, NEW.provider, NEW.account, NEW.livemode, NEW.managed_by,
		 NEW.billing_reason, NEW.currency, NEW.subtotal, NEW.discount, NEW.total, NEW.tax, NEW.credit_used, NEW.balance_used,
		 NEW.amount_due, NEW.period_start, NEW.period_end, NEW.memo, NEW.marked_at)
		IS DISTINCT FROM
		(OLD.id, OLD.customer_id, OLD.organization_id, OLD.subscription_id, OLD.provider, OLD.account, OLD.livemode, OLD.managed_by,
		 OLD.billing_reason, OLD.currency, OLD.subtotal, OLD.discount, OLD.total, OLD.tax, OLD.credit_used, OLD.balance_used,
		 OLD.amount_due, OLD.period_start, OLD.period_end, OLD.memo, OLD.marked_at))
	EXECUTE FUNCTION billing.keep_invoices();

-- Once for a statement, which may write thousands of lines. The invoices are found by their ids, whatever the plan was made for: joined in a
-- loop over the lines the check would take the square of the time.
CREATE FUNCTION billing.keep_invoice_lines() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	final text;
BEGIN
	IF TG_OP <> 'INSERT' THEN
		SELECT coalesce(i.number, i.id::text) INTO final
		FROM billing.invoices AS i WHERE i.id = ANY (ARRAY(SELECT l.invoice_id FROM old_lines AS l))
		AND i.managed_by = 'local' AND (i.status <> 'draft' OR i.marked_at IS NOT NULL) LIMIT 1;
	END IF;
	-- a dump brings final invoices before their lines
	IF TG_OP <> 'DELETE' AND final IS NULL AND NOT (TG_OP = 'INSERT' AND billing.ledger_is_restored()) THEN
		SELECT coalesce(i.number, i.id::text) INTO final
		FROM billing.invoices AS i WHERE i.id = ANY (ARRAY(SELECT l.invoice_id FROM new_lines AS l))
		AND i.managed_by = 'local' AND i.status <> 'draft' LIMIT 1;
	END IF;
	-- the tax of a provider that is the seller is told by its payments
	IF final IS NOT NULL AND TG_OP = 'UPDATE' THEN
		IF NOT EXISTS (SELECT FROM old_lines AS o LEFT JOIN new_lines AS n ON n.id = o.id LEFT JOIN billing.invoices AS i ON i.id = o.invoice_id
					   WHERE (i.merchant_of_record IS NOT NULL AND o.kind = 'tax'
							  AND to_jsonb(o) - '{amount,tax}'::text[] = to_jsonb(n) - '{amount,tax}'::text[]) IS NOT TRUE) THEN
			RETURN NULL;
		END IF;
	END IF;
	IF final IS NOT NULL THEN
		RAISE EXCEPTION 'invoice "%" is final', final
			USING ERRCODE = 'JB008', DETAIL = 'Its lines, parties, totals, number and dates cannot change.',
				  HINT = 'Correct it by a credit note: billing.create_credit_note().';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION billing.keep_invoice_lines() IS 'Trigger of invoice_lines: those of a final invoice stay as they are.';
CREATE TRIGGER keep_new_lines AFTER INSERT ON billing.invoice_lines
	REFERENCING NEW TABLE AS new_lines FOR EACH STATEMENT EXECUTE FUNCTION billing.keep_invoice_lines();
CREATE TRIGGER keep_lines AFTER UPDATE ON billing.invoice_lines
	REFERENCING OLD TABLE AS old_lines NEW TABLE AS new_lines FOR EACH STATEMENT EXECUTE FUNCTION billing.keep_invoice_lines();
CREATE TRIGGER keep_old_lines AFTER DELETE ON billing.invoice_lines
	REFERENCING OLD TABLE AS old_lines FOR EACH STATEMENT EXECUTE FUNCTION billing.keep_invoice_lines();

-- ---- invoices by hand ----

CREATE FUNCTION billing.create_invoice(
	customer_id uuid,
	lines jsonb,
	currency text DEFAULT NULL,
	days_until_due integer DEFAULT NULL,
	collection_method text DEFAULT NULL,
	memo text DEFAULT NULL,
	finalize boolean DEFAULT true,
	seller text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	provider text DEFAULT NULL,
	account text DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_invoice';
COMMENT ON FUNCTION billing.create_invoice(uuid, jsonb, text, integer, text, text, boolean, text, jsonb, text, text, text) IS
	'Makes an invoice of our own and returns its id. lines: array of {description, amount} or {description, quantity, unit_amount}, amounts '
	'in minor units, a unit_amount with up to 12 decimals; besides discountable (default true: coupons count), tax (default true; false: '
	'no tax), tax_inclusive, period_start and period_end. A line below 0 is an adjustment; the total may be 0, not below. Coupons of the '
	'customer, tax, prepaid credit and balance apply. collection_method: charge_automatically or send_invoice (default), with '
	'days_until_due (0 to 365, default the setting). finalize: false leaves a draft for finalize_invoice(). seller: by name. The worker '
	'gives the number after the commit. Errors: JB005 unknown customer or seller, 22023 bad line, total below 0, JB007 idempotency key '
	'reused, JB009 a card number.';

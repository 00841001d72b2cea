-- Pages of the provider on which one of our own invoices is paid: checkout
-- sessions (54_checkout.sql) for exactly what is due of it.

INSERT INTO billing.settings (name, value, kind, description, builtin) VALUES
	('hosted_invoice_page', 'false', 'boolean',
	 'an invoice of our own that is sent has a page of the provider made for it, when it is issued and with each reminder', true),
	('invoice_success_url', NULL, 'text',
	 'where the customer comes back to who has paid an invoice on such a page, where the call does not say so; {CHECKOUT_SESSION_ID} becomes the page''s id', true),
	('invoice_cancel_url', NULL, 'text',
	 'where he comes back to who leaves such a page without paying, where the call does not say so', true),
	('invoice_page_lifetime', '23 hours', 'interval',
	 'how long such a page can be paid, where the call does not say so and the provider does not decide it; until then nothing else is charged for the invoice', true);
ALTER TABLE billing.settings
	ADD CONSTRAINT settings_invoice_urls CHECK (name NOT IN ('invoice_success_url', 'invoice_cancel_url') OR value ~ '^https?://[^[:space:]]+$');

-- Not for a row that is restored: the other one may be restored after it.
CREATE FUNCTION billing.check_invoice_page() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	other text := (SELECT s.value FROM billing.settings AS s
				   WHERE s.name = CASE NEW.name WHEN 'invoice_success_url' THEN 'hosted_invoice_page' ELSE 'invoice_success_url' END);
BEGIN
	IF NOT (OLD.builtin AND NOT NEW.builtin)
	   AND (CASE NEW.name WHEN 'invoice_success_url' THEN NEW.value IS NULL AND other::boolean ELSE NEW.value::boolean AND other IS NULL END) THEN
		RAISE EXCEPTION 'hosted_invoice_page needs the setting invoice_success_url'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Set invoice_success_url first; before it is cleared set hosted_invoice_page to false.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION billing.check_invoice_page() IS 'Trigger of settings: pages of invoices are made by themselves only where a customer can come back to something.';
CREATE TRIGGER a_check_invoice_page BEFORE UPDATE ON billing.settings
	FOR EACH ROW WHEN (NEW.name IN ('hosted_invoice_page', 'invoice_success_url')) EXECUTE FUNCTION billing.check_invoice_page();

CREATE FUNCTION billing.create_invoice_checkout(
	invoice_id uuid,
	success_url text DEFAULT NULL,
	cancel_url text DEFAULT NULL,
	methods text[] DEFAULT NULL,
	installments integer[] DEFAULT NULL,
	locale text DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	provider text DEFAULT NULL,
	account text DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_invoice_checkout';
COMMENT ON FUNCTION billing.create_invoice_checkout(uuid, text, text, text[], integer[], text, timestamptz, jsonb, text, text, text) IS
	'Makes a page of the provider on which what is due of one of our own invoices is paid, and returns the id of this checkout session; '
	'client_config() of it, or of the invoice, tells its url when await() says open. success_url, cancel_url: default the settings '
	'invoice_success_url and invoice_cancel_url; {CHECKOUT_SESSION_ID} in them becomes the id. methods, installments, locale: as in '
	'create_checkout_session(). expires_at: default after the setting invoice_page_lifetime, or as the provider decides. metadata: default '
	'that of the subscription. provider, account: default those of the invoice. A page that can still be paid is the one attempt in flight: '
	'asked for again with the same addresses and nothing else the same page is returned, otherwise it is closed first. It is closed also when the '
	'invoice is paid by other ways, voided, or less is due. Errors: JB005 unknown invoice, JB008 it is not open, JB010 it is being paid '
	'already, JB004 not supported by the provider, or the invoice is the provider''s, 22023 an amount that the provider does not take, or a '
	'bad value, 23502 success_url is missing, JB007 idempotency key reused, JB009 a card number.';

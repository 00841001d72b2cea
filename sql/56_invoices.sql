-- Invoices of providers: what can be asked of them. Their table stands beside the
-- subscriptions that they are for.

CREATE FUNCTION billing.finalize_invoice(invoice_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_finalize_invoice';
COMMENT ON FUNCTION billing.finalize_invoice(uuid) IS
	'Makes a draft final: it is open then and can be paid. Errors: JB005 unknown invoice, JB008 its state does not allow it, JB004 not supported by the provider.';

CREATE FUNCTION billing.pay_invoice(invoice_id uuid, payment_method_id uuid DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_pay_invoice';
COMMENT ON FUNCTION billing.pay_invoice(uuid, uuid) IS
	'Asks the provider to collect an open invoice now, from the customer''s default method or the one that is named. '
	'Errors: JB005 unknown invoice, JB008 its state does not allow it, JB004 not supported by the provider, JB005 unknown payment method.';

CREATE FUNCTION billing.void_invoice(invoice_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_void_invoice';
COMMENT ON FUNCTION billing.void_invoice(uuid) IS
	'Voids an invoice of which nothing is paid; it keeps its number. Errors: JB005 unknown invoice, JB008 its state does not allow it, JB004 not supported by the provider.';

CREATE FUNCTION billing.send_invoice(invoice_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_send_invoice';
COMMENT ON FUNCTION billing.send_invoice(uuid) IS
	'Has the provider mail an open invoice to the customer. Errors: JB005 unknown invoice, JB008 its state does not allow it, JB004 not supported by the provider.';

CREATE FUNCTION billing.mark_invoice_uncollectible(invoice_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_mark_invoice_uncollectible';
COMMENT ON FUNCTION billing.mark_invoice_uncollectible(uuid) IS
	'Gives an open invoice up; it may still be paid. Errors: JB005 unknown invoice, JB008 its state does not allow it, JB004 not supported by the provider.';

CREATE FUNCTION billing.fetch_invoice_document(invoice_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_fetch_invoice_document';
COMMENT ON FUNCTION billing.fetch_invoice_document(uuid) IS
	'Asks the provider for the document of an invoice; invoice_links() tells where it is when await() has returned. '
	'Errors: JB005 unknown invoice, JB008 its state does not allow it, JB004 not supported by the provider.';

CREATE FUNCTION billing.refresh_invoices(customer_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_refresh_invoices';
COMMENT ON FUNCTION billing.refresh_invoices(uuid) IS
	'Asks the provider for the invoices of a customer, those that webhooks have not brought included. Errors: JB005 unknown customer, '
	'JB004 not supported by the provider.';

CREATE FUNCTION billing.invoice_links(invoice_id uuid, OUT hosted_url text, OUT pdf_url text) RETURNS record
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT billing.decrypt(i.hosted_url, 'invoices.hosted_url', i.id), billing.decrypt(i.pdf_url, 'invoices.pdf_url', i.id)
	FROM billing.invoices AS i
	WHERE i.id = invoice_links.invoice_id;
END;
COMMENT ON FUNCTION billing.invoice_links(uuid) IS
	'Where the customer can see and pay an invoice, and its document; NULL where the provider has told none. Both are for the customer alone.';

-- Invoices: their lines, and what can be asked of them. The table of invoices
-- stands beside the subscriptions that they are for.


-- Lines of our own invoices.
CREATE TABLE billing.invoice_lines
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	invoice_id uuid REFERENCES billing.invoices (id),
	position integer CHECK (position > 0),
	kind text NOT NULL
		CHECK (kind IN ('base', 'seats', 'component', 'usage', 'one_time', 'proration_credit', 'proration_debit', 'adjustment', 'discount', 'tax',
						'credit', 'balance')),
	subscription_id uuid REFERENCES billing.subscriptions (id),
	component text,
	price_id uuid REFERENCES billing.prices (id),
	metric text,
	tier integer CHECK (tier >= 0),
	description text NOT NULL,
	quantity numeric(38, 12),
	unit_amount numeric(38, 12),
	amount bigint NOT NULL,
	discount bigint NOT NULL DEFAULT 0,
	tax bigint NOT NULL DEFAULT 0,
	tax_rate_id uuid REFERENCES billing.tax_rates (id),
	tax_inclusive boolean NOT NULL DEFAULT false,
	untaxed boolean NOT NULL DEFAULT false,
	discountable boolean NOT NULL DEFAULT true,
	coupon_id uuid,
	grant_id uuid,
	period_start timestamptz,
	period_end timestamptz,
	whole_start timestamptz,
	whole_end timestamptz,
	whole_price numeric(38, 12),
	reverses uuid,
	not_covered bigint NOT NULL DEFAULT 0 CHECK (not_covered >= 0),
	taken_off bigint NOT NULL DEFAULT 0 CHECK (taken_off >= 0),
	amount_coupons uuid[] CHECK (cardinality(amount_coupons) > 0),
	amount_discounts bigint[] CHECK (0 < ALL (amount_discounts)),
	UNIQUE (invoice_id, position) DEFERRABLE,
	CHECK ((invoice_id IS NULL) = (position IS NULL)),
	CHECK (invoice_id IS NOT NULL OR subscription_id IS NOT NULL),
	CHECK (period_end >= period_start),
	CHECK ((whole_start IS NULL) = (whole_end IS NULL)),
	CHECK (not_covered = 0 OR (kind IN ('proration_credit', 'usage') AND reverses IS NOT NULL)),
	CHECK ((taken_off > 0) = (kind = 'usage' AND reverses IS NOT NULL)),
	CHECK (cardinality(amount_coupons) IS NOT DISTINCT FROM cardinality(amount_discounts))
);
COMMENT ON TABLE billing.invoice_lines IS
	'Lines of our own invoices. All but credit and balance add up to the total; those two, which are below 0 where they pay, lead from it to '
	'the amount due. They never change once the invoice is final.';
COMMENT ON COLUMN billing.invoice_lines.invoice_id IS 'NULL: it waits for the next invoice of its subscription.';
COMMENT ON COLUMN billing.invoice_lines.amount IS
	'Minor units: what the line costs, before discount and added tax, which are lines of their own (kinds discount and tax).';
COMMENT ON COLUMN billing.invoice_lines.discount IS 'Of that, its share of all discounts.';
COMMENT ON COLUMN billing.invoice_lines.tax IS
	'Its share of the tax: added to it, or inside where tax_inclusive. Of a line of kind tax: all of its rate, which is the sum of the '
	'shares; quantity is the percentage then, unit_amount what it is taken on.';
COMMENT ON COLUMN billing.invoice_lines.untaxed IS 'No rate applies to it, whatever those of the invoice are.';
COMMENT ON COLUMN billing.invoice_lines.tier IS '0 is the first tier; NULL without tiers.';
COMMENT ON COLUMN billing.invoice_lines.whole_start IS
	'The whole period that the line is a part of or equal to, and whole_price, what it would have cost: what a credit is computed from.';
COMMENT ON COLUMN billing.invoice_lines.reverses IS 'Of a proration credit, and of usage that was corrected to less: the line that it gives back from.';
COMMENT ON COLUMN billing.invoice_lines.not_covered IS
	'Of what reverses a line: what it would have given back besides, minor units with tax, had that been paid. When it is, a credit note makes up for it.';
COMMENT ON COLUMN billing.invoice_lines.taken_off IS
	'Of usage that was corrected to less: how much less the line that it reverses costs for it, minor units before discount. amount is what was given back of that.';
COMMENT ON COLUMN billing.invoice_lines.amount_coupons IS
	'Coupons with an amount (applied_coupons.id) that the line has something of: amount_discounts, minor units, tells how much of each. Of what is sold: a part of '
	'discount. Of a proration credit: what it takes back of that, as the debits of the same invoice are discounted by it. Of a debit that takes a credit back: '
	'what that had taken. Of a line of kind discount: a change keeps it, so it is no use of the coupon. NULL: none.';
CREATE INDEX invoice_lines_subscription ON billing.invoice_lines (subscription_id, period_end) WHERE subscription_id IS NOT NULL;
CREATE INDEX invoice_lines_waiting ON billing.invoice_lines (subscription_id) WHERE invoice_id IS NULL;
CREATE INDEX invoice_lines_reverses ON billing.invoice_lines (reverses) WHERE reverses IS NOT NULL;
SELECT pg_extension_config_dump('billing.invoice_lines', '');

CREATE FUNCTION billing.finalize_invoice(invoice_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_finalize_invoice';
COMMENT ON FUNCTION billing.finalize_invoice(uuid) IS
	'Makes a draft final: it is open then and can be paid. One of our own gets its number from the worker after the commit, and does not '
	'wait for late usage any more. Errors: JB005 unknown invoice, JB008 its state does not allow it, or it is of live mode and its seller has no name (set_seller), JB004 not supported by the provider.';

CREATE FUNCTION billing.pay_invoice(invoice_id uuid, payment_method_id uuid DEFAULT NULL, method text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_pay_invoice';
COMMENT ON FUNCTION billing.pay_invoice(uuid, uuid, text) IS
	'Collects an open invoice now, from the customer''s default method (that of the subscription first) or the one that is named. method, for '
	'an invoice of ours: oxxo or spei makes a reference that the customer pays. Errors: JB005 unknown invoice or payment method, JB008 its '
	'state does not allow it, JB004 not supported by the provider, JB010 it is being paid already, 23502 there is no payment method.';

CREATE FUNCTION billing.void_invoice(invoice_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_void_invoice';
COMMENT ON FUNCTION billing.void_invoice(uuid) IS
	'Voids an invoice of which nothing is paid; it keeps its number. One of our own gives back the credit, balance and coupons of duration once that it used (the months of a repeating one have gone by), '
	'references that wait to be paid are called off where the provider can (what is paid all the same is balance), and a draft may be '
	'voided, too. Usage that it billed stays billed, and a draft that waits for late usage has all that is known by then before it is void (unless it could not be made final because of it); what comes later is on the next invoice, as ever. Lines that had waited for it (prorations) are void with it: what they gave back can be '
	'given back again, what they charged is not charged. Its period is not billed again, but a change bills the rest of it; one that was made ahead of its period (oxxo, spei) is made again at once, with what is true now, as long as its period will come: cancel_subscription() or pause_subscription() at the period''s end calls it off by itself. A subscription that was past_due or unpaid for it alone is active again. Errors: JB005 unknown invoice, JB010 it is being paid, JB008 its state does not allow it, a credit note corrects it, a change or corrected usage gave back lines of it, it gives back usage itself, a credit note has made up for what its own lines did not give back, or it gives back the rest of a period that ended early, JB004 not supported by the provider.';

CREATE FUNCTION billing.send_invoice(invoice_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_send_invoice';
COMMENT ON FUNCTION billing.send_invoice(uuid) IS
	'Has the provider mail an open invoice to the customer; for one of ours the event invoice.sent tells the application to. Errors: JB005 unknown invoice, JB008 its state does not allow it, JB004 not supported by the provider.';

CREATE FUNCTION billing.mark_invoice_uncollectible(invoice_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_mark_invoice_uncollectible';
COMMENT ON FUNCTION billing.mark_invoice_uncollectible(uuid) IS
	'Gives an open invoice up; it may still be paid. What is owed stays owed: its subscription remains past_due or unpaid until it is paid or '
	'credited; void_invoice() is for what nobody owes. What changes gave back of it without its being paid is taken back from the customer''s '
	'balance (reason invoice_given_up), and given again as it is paid. Errors: JB005 unknown invoice, JB008 its state does not allow it, JB004 not supported by the provider.';

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

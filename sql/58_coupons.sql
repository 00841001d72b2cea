-- Coupons of what we bill ourselves: what they take off, and who has which.

CREATE TABLE billing.coupons
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	coupon text NOT NULL UNIQUE CHECK (coupon ~ '^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$'),
	name text NOT NULL CHECK (name <> ''),
	percent numeric(9, 6) CHECK (percent > 0 AND percent <= 100),
	amount bigint CHECK (amount > 0),
	currency text REFERENCES billing.currencies (code),
	duration text NOT NULL CHECK (duration IN ('once', 'repeating', 'forever')),
	months integer CHECK (months BETWEEN 1 AND 120),
	plan_ids uuid[] CHECK (cardinality(plan_ids) > 0),
	components text[] CHECK (cardinality(components) > 0),
	first_time boolean NOT NULL DEFAULT false,
	redeem_by timestamptz,
	max_redemptions bigint CHECK (max_redemptions > 0),
	redemptions bigint NOT NULL DEFAULT 0 CHECK (redemptions >= 0),
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
	retired_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	CHECK ((percent IS NULL) <> (amount IS NULL)),
	CHECK ((amount IS NULL) = (currency IS NULL)),
	CHECK ((duration = 'repeating') = (months IS NOT NULL)),
	CHECK (redemptions <= max_redemptions)
);
COMMENT ON TABLE billing.coupons IS
	'Coupons, by their code, for subscriptions that we bill ourselves. What a coupon takes off never changes; who has it keeps it when it is retired.';
COMMENT ON COLUMN billing.coupons.percent IS 'Of the lines that it counts for; else amount, minor units of currency, once for the invoice of a period: a change within it keeps its share.';
COMMENT ON COLUMN billing.coupons.duration IS
	'once: the first invoice that it takes something off; repeating: invoices of the months after it was applied; forever.';
COMMENT ON COLUMN billing.coupons.plan_ids IS 'It counts for subscriptions with one of these plans; NULL: all, and invoices without a subscription.';
COMMENT ON COLUMN billing.coupons.components IS 'It counts for lines of these components of the plan; NULL: all lines.';
COMMENT ON COLUMN billing.coupons.first_time IS 'Only for an organisation that has never paid an invoice.';
COMMENT ON COLUMN billing.coupons.redeem_by IS 'The first moment at which it cannot be applied any more, by the organisation''s clock.';
COMMENT ON COLUMN billing.coupons.redemptions IS 'How often it was applied. A removal gives none back; a subscription that ends before its first payment does.';
CREATE TRIGGER keep_terms BEFORE UPDATE ON billing.coupons
	FOR EACH ROW EXECUTE FUNCTION billing.keep_terms('id', 'coupon', 'percent', 'amount', 'currency', 'duration', 'months', 'plan_ids', 'components',
													 'created_at');
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.coupons
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set retired_at instead.');

CREATE TABLE billing.applied_coupons
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	coupon_id uuid NOT NULL REFERENCES billing.coupons (id),
	customer_id uuid NOT NULL REFERENCES billing.customers (id),
	organization_id text NOT NULL,
	subscription_id uuid REFERENCES billing.subscriptions (id),
	applied_at timestamptz NOT NULL,
	ends_at timestamptz,
	uses bigint NOT NULL DEFAULT 0 CHECK (uses >= 0),
	used_up boolean NOT NULL DEFAULT false,
	removed_at timestamptz,
	CHECK (ends_at >= applied_at),
	CHECK (NOT used_up OR uses > 0)
);
COMMENT ON TABLE billing.applied_coupons IS 'Which coupons a subscription has, or all invoices of an organisation, and how often they were used.';
COMMENT ON COLUMN billing.applied_coupons.subscription_id IS 'NULL: it counts for every invoice of the organisation.';
COMMENT ON COLUMN billing.applied_coupons.applied_at IS 'By the organisation''s clock; several count in this order.';
COMMENT ON COLUMN billing.applied_coupons.ends_at IS 'Of a repeating one: the first moment of an invoice that it counts for no more.';
COMMENT ON COLUMN billing.applied_coupons.uses IS 'Invoices that it took something off.';
COMMENT ON COLUMN billing.applied_coupons.used_up IS 'It counted once and was used. When that invoice is voided it counts for the next one.';
CREATE UNIQUE INDEX applied_coupons_once ON billing.applied_coupons (customer_id, coupon_id, subscription_id) NULLS NOT DISTINCT
	WHERE removed_at IS NULL AND NOT used_up AND ends_at IS NULL;
CREATE INDEX applied_coupons_customer ON billing.applied_coupons (customer_id);
CREATE INDEX applied_coupons_subscription ON billing.applied_coupons (subscription_id) WHERE subscription_id IS NOT NULL;
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.applied_coupons
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Use billing.remove_coupon().');

ALTER TABLE billing.invoice_lines ADD FOREIGN KEY (coupon_id) REFERENCES billing.coupons (id);

SELECT pg_extension_config_dump('billing.coupons', '');
SELECT pg_extension_config_dump('billing.applied_coupons', '');

CREATE FUNCTION billing.create_coupon(
	coupon text,
	percent numeric DEFAULT NULL,
	amount bigint DEFAULT NULL,
	currency text DEFAULT NULL,
	duration text DEFAULT 'once',
	months integer DEFAULT NULL,
	name text DEFAULT NULL,
	redeem_by timestamptz DEFAULT NULL,
	max_redemptions bigint DEFAULT NULL,
	plans text[] DEFAULT NULL,
	components text[] DEFAULT NULL,
	first_time boolean DEFAULT false,
	metadata jsonb DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_coupon';
COMMENT ON FUNCTION billing.create_coupon(text, numeric, bigint, text, text, integer, text, timestamptz, bigint, text[], text[], boolean, jsonb) IS
	'Makes a coupon for subscriptions that we bill ourselves. percent (above 0, at most 100) or amount (minor units of currency, once for '
	'the invoice of a period). duration: once, repeating (months from when it is applied) or forever. redeem_by: the first moment at which it cannot be '
	'applied any more. max_redemptions: how often it can be applied in all. plans, components: what it counts for, default all. first_time: '
	'only for organisations that have never paid an invoice. Errors: 23505 the code is taken, 22023 a bad code or value, 23502 neither '
	'percent nor amount, JB005 unknown plan, JB009 a card number.';

CREATE FUNCTION billing.apply_coupon(coupon text, subscription_id uuid DEFAULT NULL, organization_id text DEFAULT NULL) RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_apply_coupon';
COMMENT ON FUNCTION billing.apply_coupon(text, uuid, text) IS
	'Gives a coupon to a subscription that we bill ourselves, or to all invoices of an organisation; it counts from the next invoice on, an '
	'amount from the next one of a period. Returns the id of its row in applied_coupons. Several count one after the other, in the order in which they were applied. Errors: '
	'JB005 unknown coupon, subscription or organisation, JB008 it is retired, expired or used up, is there already, is for first-time '
	'buyers, or the provider bills the subscription, 22023 it is of another currency or for other plans, 23502 neither is named or both are.';

CREATE FUNCTION billing.remove_coupon(coupon text, subscription_id uuid DEFAULT NULL, organization_id text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_remove_coupon';
COMMENT ON FUNCTION billing.remove_coupon(text, uuid, text) IS
	'Takes a coupon from a subscription, or from the organisation; invoices that are final keep what it took off. Errors: JB005 unknown '
	'coupon, subscription or organisation, or it does not have the coupon, 23502 neither is named or both are.';

-- What we owe to customers: their balance, and prepaid credits.

CREATE TABLE billing.customer_balances
(
	customer_id uuid NOT NULL REFERENCES billing.customers (id),
	organization_id text NOT NULL,
	currency text NOT NULL REFERENCES billing.currencies (code),
	balance bigint NOT NULL,
	updated_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (customer_id, currency)
);
COMMENT ON TABLE billing.customer_balances IS
	'The balance of a customer in a currency: the sum of its entries. Above 0 we owe it, and it pays the next invoice; below 0 it is owed with that.';
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.customer_balances
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Use billing.adjust_balance().');

CREATE TABLE billing.customer_balance_entries
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	customer_id uuid NOT NULL REFERENCES billing.customers (id),
	organization_id text NOT NULL,
	currency text NOT NULL REFERENCES billing.currencies (code),
	amount bigint NOT NULL CHECK (amount <> 0),
	balance_after bigint NOT NULL,
	reason text NOT NULL CHECK (reason ~ '^[a-z][a-z_]{0,62}$'),
	note text CHECK (length(note) <= 500),
	source_type text,
	source_id uuid,
	occurred_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	CHECK ((source_type IS NULL) = (source_id IS NULL))
);
COMMENT ON TABLE billing.customer_balance_entries IS 'Every change of a customer''s balance; rows never change.';
COMMENT ON COLUMN billing.customer_balance_entries.amount IS 'Minor units; above 0 adds to what we owe to the customer.';
COMMENT ON COLUMN billing.customer_balance_entries.reason IS
	'invoice (what an invoice took from it or gave to it), invoice_voided, invoice_given_up (what was given back of one that is uncollectible and was not paid; above 0 as that is paid), '
	'invoice_refunded (what was given back of one whose payment was refunded or disputed, beyond what was kept; above 0 as that is undone), '
	'overpayment, dispute (of an overpayment), credit_note, adjustment (by a person).';
COMMENT ON COLUMN billing.customer_balance_entries.note IS 'What a person wrote about an adjustment.';
COMMENT ON COLUMN billing.customer_balance_entries.source_type IS 'What it comes from: invoice, payment_intent, dispute, credit_note, refund (of a credit note, which failed).';
COMMENT ON COLUMN billing.customer_balance_entries.occurred_at IS 'By the organisation''s clock.';
CREATE INDEX customer_balance_entries_customer ON billing.customer_balance_entries (customer_id, currency, id);
CREATE UNIQUE INDEX customer_balance_entries_invoice ON billing.customer_balance_entries (source_id, reason)
	WHERE source_type = 'invoice' AND reason IN ('invoice', 'invoice_voided');
CREATE INDEX customer_balance_entries_given_up ON billing.customer_balance_entries (source_id) WHERE reason IN ('invoice_given_up', 'invoice_refunded');
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON billing.customer_balance_entries
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_change('billing.adjust_balance() adds an entry.');

CREATE TABLE billing.credit_grants
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	customer_id uuid NOT NULL REFERENCES billing.customers (id),
	organization_id text NOT NULL,
	name text NOT NULL CHECK (name <> ''),
	currency text NOT NULL REFERENCES billing.currencies (code),
	amount bigint NOT NULL CHECK (amount > 0),
	remaining bigint NOT NULL,
	paid boolean NOT NULL DEFAULT false,
	priority integer NOT NULL DEFAULT 0,
	components text[] CHECK (cardinality(components) > 0),
	expires_at timestamptz,
	granted_at timestamptz NOT NULL,
	expired_at timestamptz,
	voided_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	CHECK (remaining BETWEEN 0 AND amount),
	CHECK (expires_at > granted_at),
	CHECK (remaining = 0 OR (expired_at IS NULL AND voided_at IS NULL))
);
COMMENT ON TABLE billing.credit_grants IS
	'Prepaid credits: they pay invoices of ours before the balance does, in the order of priority (low first), expiry and age.';
COMMENT ON COLUMN billing.credit_grants.paid IS 'The customer has paid for it; false: it is a present.';
COMMENT ON COLUMN billing.credit_grants.components IS 'It pays for lines of these components or metrics only; NULL: for all.';
COMMENT ON COLUMN billing.credit_grants.expires_at IS 'The first moment of an invoice that it does not pay any more, by the organisation''s clock.';
CREATE INDEX credit_grants_open ON billing.credit_grants (customer_id) WHERE remaining > 0;
CREATE INDEX credit_grants_expiring ON billing.credit_grants (expires_at) WHERE remaining > 0 AND expires_at IS NOT NULL;
CREATE TRIGGER keep_terms BEFORE UPDATE ON billing.credit_grants
	FOR EACH ROW EXECUTE FUNCTION billing.keep_terms('id', 'customer_id', 'currency', 'amount', 'paid', 'expires_at', 'granted_at', 'created_at');
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.credit_grants
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Use billing.void_credit_grant().');

CREATE TABLE billing.credit_grant_entries
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	grant_id uuid NOT NULL REFERENCES billing.credit_grants (id),
	organization_id text NOT NULL,
	kind text NOT NULL CHECK (kind IN ('grant', 'use', 'release', 'expire', 'void')),
	amount bigint NOT NULL CHECK (amount <> 0 AND (amount > 0) = (kind IN ('grant', 'release'))),
	invoice_id uuid REFERENCES billing.invoices (id),
	occurred_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	CHECK ((kind IN ('use', 'release')) = (invoice_id IS NOT NULL))
);
COMMENT ON TABLE billing.credit_grant_entries IS
	'Every change of a prepaid credit: their sum is what remains of it; rows never change.';
COMMENT ON COLUMN billing.credit_grant_entries.occurred_at IS 'By the organisation''s clock.';
CREATE INDEX credit_grant_entries_grant ON billing.credit_grant_entries (grant_id);
CREATE UNIQUE INDEX credit_grant_entries_invoice ON billing.credit_grant_entries (invoice_id, grant_id, kind) WHERE invoice_id IS NOT NULL;
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON billing.credit_grant_entries
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_change('billing.void_credit_grant() takes back what remains.');

ALTER TABLE billing.invoice_lines ADD FOREIGN KEY (grant_id) REFERENCES billing.credit_grants (id);

SELECT pg_extension_config_dump('billing.customer_balances', '');
SELECT pg_extension_config_dump('billing.customer_balance_entries', '');
SELECT pg_extension_config_dump('billing.credit_grants', '');
SELECT pg_extension_config_dump('billing.credit_grant_entries', '');

CREATE FUNCTION billing.adjust_balance(organization_id text, amount bigint, reason text, currency text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_adjust_balance';
COMMENT ON FUNCTION billing.adjust_balance(text, bigint, text, text) IS
	'Adds to the balance of an organisation and returns the new balance: amount in minor units, above 0 pays its next invoices, below 0 is '
	'owed with the next one. reason: what a person reads later, at most 500 characters. currency: default the customer''s, else the setting '
	'default_currency. Errors: JB005 no customer, 22023 amount 0 or of more than 15 digits, bad currency, 23502 no reason, JB009 a card number.';

CREATE FUNCTION billing.grant_credit(
	organization_id text,
	amount bigint,
	currency text DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL,
	priority integer DEFAULT 0,
	name text DEFAULT NULL,
	paid boolean DEFAULT false,
	components text[] DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_grant_credit';
COMMENT ON FUNCTION billing.grant_credit(text, bigint, text, timestamptz, integer, text, boolean, text[], text) IS
	'Gives prepaid credit to an organisation: it pays invoices of ours, before the balance. amount: minor units. expires_at: the first '
	'moment of an invoice that it does not pay any more, by the organisation''s clock; NULL: never. priority: lower ones are used first, '
	'then those that expire sooner, then the older. name: as the invoice says it. paid: the customer has paid for it. components: it pays '
	'for lines of these components or metrics only. Errors: JB005 no customer, 22023 amount not above 0 or of more than 15 digits, bad currency, expires_at is not to '
	'come, JB007 idempotency key reused, JB009 a card number.';

CREATE FUNCTION billing.void_credit_grant(grant_id uuid) RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_void_credit_grant';
COMMENT ON FUNCTION billing.void_credit_grant(uuid) IS
	'Takes back what remains of a prepaid credit and returns how much that was, in minor units; invoices that it paid stay paid. Errors: '
	'JB005 unknown grant, JB008 it is void or expired already.';

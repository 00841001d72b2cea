-- Customers: one per organisation of the application.

CREATE TABLE billing.customers
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	organization_id text NOT NULL CHECK (organization_id <> '' AND length(organization_id) <= 255),
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	email bytea,
	email_hash bytea,
	name bytea,
	phone bytea,
	address bytea,
	tax_ids bytea,
	country text,
	currency text,
	locale text,
	timezone text,
	tax_exempt text NOT NULL DEFAULT 'none' CHECK (tax_exempt IN ('none', 'exempt', 'reverse')),
	description text,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
	needs_data text,
	deleted_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	CHECK ((email IS NULL) = (email_hash IS NULL))
) WITH (fillfactor = 90);
COMMENT ON TABLE billing.customers IS
	'Customers. No foreign key leads to provider_accounts, whose few rows every new customer would have to lock. Personal data is encrypted; the view customer_details shows it to those who may see it.';
COMMENT ON COLUMN billing.customers.organization_id IS 'The application''s own id of the organisation.';
COMMENT ON COLUMN billing.customers.email_hash IS 'HMAC of the lower-case address under a key of its own, for find_customers_by_email().';
COMMENT ON COLUMN billing.customers.needs_data IS
	'What the provider requires and nobody gave yet; the provider hears of the customer when it is there.';
COMMENT ON COLUMN billing.customers.provider IS 'Provider of what this customer buys next, unless the call names one.';
CREATE UNIQUE INDEX customers_organization ON billing.customers (organization_id) WHERE deleted_at IS NULL;
CREATE INDEX customers_email ON billing.customers (email_hash) WHERE email_hash IS NOT NULL;
CREATE INDEX customers_needs_data ON billing.customers (id) WHERE needs_data IS NOT NULL;

CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.customers
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Use billing.delete_customer().');

CREATE TABLE billing.payment_methods
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	customer_id uuid NOT NULL REFERENCES billing.customers (id),
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'attached', 'failed', 'detached')),
	is_default boolean NOT NULL DEFAULT false,
	token text,
	type text,
	brand text,
	last4 text CHECK (last4 ~ '^[0-9A-Za-z]{1,4}$'),
	exp_month smallint CHECK (exp_month BETWEEN 1 AND 12),
	exp_year smallint,
	wallet text,
	reference bytea,
	mandate bytea,
	expires_at timestamptz,
	listed_by uuid,
	error_code text,
	unusable text CHECK (unusable <> ''),
	unusable_as_of timestamptz,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	CHECK (unusable IS NULL OR state <> 'attached'),
	CHECK (unusable IS NULL OR unusable_as_of IS NOT NULL)
);
COMMENT ON TABLE billing.payment_methods IS
	'Payment methods of customers: what a person needs to recognise one, never a number.';
COMMENT ON COLUMN billing.payment_methods.token IS 'The provider''s token that was given; removed when it is attached.';
COMMENT ON COLUMN billing.payment_methods.brand IS 'Of a card its network, of a bank account its bank.';
COMMENT ON COLUMN billing.payment_methods.reference IS
	'Encrypted: what to pay to, of a cash_recurrent or spei_recurrent; list_payment_methods() shows it.';
COMMENT ON COLUMN billing.payment_methods.mandate IS 'Encrypted: how the mandate for a debit was given; removed when it is attached.';
COMMENT ON COLUMN billing.payment_methods.expires_at IS 'When a reference ends; a card has exp_month and exp_year.';
COMMENT ON COLUMN billing.payment_methods.listed_by IS 'The request that last saw it in the provider''s list.';
COMMENT ON COLUMN billing.payment_methods.error_code IS 'Why the provider did not take it, or why it cannot be charged any more.';
COMMENT ON COLUMN billing.payment_methods.unusable IS
	'Why a method that the provider has cannot be charged, such as mandate_inactive: it is failed as long as that is so.';
COMMENT ON COLUMN billing.payment_methods.unusable_as_of IS 'When the provider last said whether it can be charged.';
CREATE INDEX payment_methods_customer ON billing.payment_methods (customer_id);

CREATE UNIQUE INDEX payment_methods_one_default ON billing.payment_methods (customer_id) WHERE is_default;

CREATE TABLE billing.idempotency_keys
(
	function text NOT NULL,
	organization_id text NOT NULL,
	key text NOT NULL CHECK (key <> '' AND length(key) <= 255),
	arguments jsonb NOT NULL,
	object_id uuid,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (organization_id, function, key)
);
COMMENT ON TABLE billing.idempotency_keys IS
	'Callers'' idempotency keys: the same key gives the same object. arguments holds a keyed hash of each argument, so that a '
	'difference can be named without keeping what was said.';

SELECT pg_extension_config_dump('billing.customers', '');
SELECT pg_extension_config_dump('billing.payment_methods', '');
SELECT pg_extension_config_dump('billing.idempotency_keys', '');

CREATE FUNCTION billing.decrypt(value bytea, column_name text, row_id uuid) RETURNS text
LANGUAGE c STABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', 'billing_decrypt';
COMMENT ON FUNCTION billing.decrypt(bytea, text, uuid) IS
	'Opens an encrypted value of a row: column_name as table.column. Errors: JB012 no key opens it, or it was moved from another row.';

CREATE VIEW billing.customer_details AS
	SELECT c.id, c.organization_id, c.provider, c.account, c.livemode,
		   billing.decrypt(c.email, 'customers.email', c.id) AS email,
		   billing.decrypt(c.name, 'customers.name', c.id) AS name,
		   billing.decrypt(c.phone, 'customers.phone', c.id) AS phone,
		   billing.decrypt(c.address, 'customers.address', c.id)::jsonb AS address,
		   billing.decrypt(c.tax_ids, 'customers.tax_ids', c.id)::jsonb AS tax_ids,
		   c.country, c.currency, c.locale, c.timezone, c.tax_exempt, c.description, c.metadata,
		   m.id AS default_payment_method_id, c.needs_data, r.provider_id AS provider_customer_id,
		   c.deleted_at, c.created_at, c.updated_at
	FROM billing.customers AS c
	LEFT JOIN billing.provider_refs AS r
		ON r.object_id = c.id AND r.object_type = 'customer' AND r.provider = c.provider AND r.account = c.account
	LEFT JOIN billing.payment_methods AS m ON m.customer_id = c.id AND m.is_default;
COMMENT ON VIEW billing.customer_details IS 'Customers with their personal data in clear text.';

CREATE FUNCTION billing.create_customer(
	organization_id text,
	email text DEFAULT NULL,
	name text DEFAULT NULL,
	country text DEFAULT NULL,
	provider text DEFAULT NULL,
	phone text DEFAULT NULL,
	address jsonb DEFAULT NULL,
	tax_ids jsonb DEFAULT NULL,
	tax_exempt text DEFAULT NULL,
	locale text DEFAULT NULL,
	currency text DEFAULT NULL,
	timezone text DEFAULT NULL,
	description text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	account text DEFAULT 'default',
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_customer';
COMMENT ON FUNCTION billing.create_customer(text, text, text, text, text, text, jsonb, jsonb, text, text, text, text, text, jsonb,
	text, text) IS
	'Makes the customer of an organisation and queues it for the provider; returns its id. organization_id: the application''s own id. '
	'country: ISO 3166-1, two letters. address: {line1, line2, city, state, postal_code, country}. tax_ids: [{type, value}]. '
	'provider: default is the configured one. Called again with the same arguments it returns the same id. Errors: 23505 the '
	'organisation has a customer with other data, JB005 unknown provider, JB006 provider not configured, 22023 bad country, '
	'currency or e-mail, 23502 data that the provider requires, JB007 idempotency key reused, JB009 a card number.';

CREATE FUNCTION billing.update_customer(customer_id uuid, changes jsonb) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_update_customer';
COMMENT ON FUNCTION billing.update_customer(uuid, jsonb) IS
	'Changes what the object names: email, name, phone, address, tax_ids, tax_exempt, country, currency, locale, timezone, description, '
	'metadata (merged, a null member removes it); null clears. Errors: JB005 unknown customer, JB008 deleted, 22023 unknown member '
	'or bad value.';

CREATE FUNCTION billing.delete_customer(customer_id uuid, final_invoice boolean DEFAULT true) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_delete_customer';
COMMENT ON FUNCTION billing.delete_customer(uuid, boolean) IS
	'Ends the customer: its subscriptions are cancelled, then it is deleted at the provider. Invoices, payments, refunds and the ledger stay. '
	'final_invoice: what our own subscriptions have used so far is billed on a last invoice, which stays open until it is paid, as the '
	'payment methods are gone; false leaves it out. Calling it twice is harmless. Errors: JB005 unknown customer.';

CREATE FUNCTION billing.find_customer(organization_id text) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT c.id FROM billing.customers AS c
	WHERE c.organization_id = find_customer.organization_id AND c.deleted_at IS NULL;
END;
COMMENT ON FUNCTION billing.find_customer(text) IS 'The customer of an organisation, NULL when there is none.';

CREATE FUNCTION billing.email_hash(email text) RETURNS bytea
LANGUAGE c STABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', 'billing_email_hash';
COMMENT ON FUNCTION billing.email_hash(text) IS 'Keyed hash of an e-mail address in lower case, as in customers.email_hash.';

CREATE FUNCTION billing.find_customers_by_email(email text) RETURNS SETOF uuid
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT c.id FROM billing.customers AS c
	WHERE c.email_hash = billing.email_hash(find_customers_by_email.email) AND c.deleted_at IS NULL
	ORDER BY c.created_at;
END;
COMMENT ON FUNCTION billing.find_customers_by_email(text) IS 'Customers with this e-mail address, in any case of letters.';

CREATE FUNCTION billing.get_customer(customer_id uuid) RETURNS SETOF billing.customer_details
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.customer_details AS d WHERE d.id = get_customer.customer_id;
END;
COMMENT ON FUNCTION billing.get_customer(uuid) IS 'The customer with its personal data.';

CREATE FUNCTION billing.attach_payment_method(
	customer_id uuid,
	payment_method text DEFAULT NULL,
	type text DEFAULT NULL,
	set_default boolean DEFAULT NULL,
	mandate jsonb DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	provider text DEFAULT NULL,
	account text DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_attach_payment_method';
COMMENT ON FUNCTION billing.attach_payment_method(uuid, text, text, boolean, jsonb, timestamptz, jsonb, text, text, text) IS
	'Attaches a payment method by the token that the provider gave to the browser. type: card, us_bank_account, sepa_debit; or '
	'cash_recurrent and spei_recurrent, references to be paid to, which have no token and may have expires_at. set_default: NULL makes '
	'the first one the default. mandate: {type: online or offline, ip_address, user_agent, accepted_at (a time, or unix seconds)}, for debits. '
	'Errors: JB005 unknown customer or token, JB004 not supported by the provider, 23502 no token, 22023 bad type or mandate, JB009 a card '
	'number instead of a token.';

CREATE FUNCTION billing.detach_payment_method(payment_method_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_detach_payment_method';
COMMENT ON FUNCTION billing.detach_payment_method(uuid) IS
	'Detaches a payment method; it cannot be attached again. Twice is harmless. Errors: JB005 unknown payment method.';

CREATE FUNCTION billing.set_default_payment_method(payment_method_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_set_default_payment_method';
COMMENT ON FUNCTION billing.set_default_payment_method(uuid) IS
	'Makes it the method that the customer''s renewals are charged to. Errors: JB005 unknown, JB008 detached or refused.';

CREATE FUNCTION billing.refresh_payment_methods(customer_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_refresh_payment_methods';
COMMENT ON FUNCTION billing.refresh_payment_methods(uuid) IS
	'Asks every provider that knows the customer for its payment methods: what is there and not known here is taken over, what we have and '
	'the provider does not list any more is detached. await() of the customer waits for it. Errors: JB005 unknown customer, JB004 not '
	'supported by the provider.';

CREATE FUNCTION billing.list_payment_methods(customer_id uuid)
RETURNS TABLE (id uuid, type text, brand text, last4 text, exp_month smallint, exp_year smallint, wallet text,
			   is_default boolean, state text, error_code text, reference jsonb, expires_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT m.id, m.type, m.brand, m.last4, m.exp_month, m.exp_year, m.wallet,
		   m.is_default, m.state, m.error_code,
		   billing.decrypt(m.reference, 'payment_methods.reference', m.id)::jsonb, m.expires_at
	FROM billing.payment_methods AS m
	WHERE m.customer_id = list_payment_methods.customer_id AND m.state <> 'detached'
	ORDER BY m.created_at;
END;
COMMENT ON FUNCTION billing.list_payment_methods(uuid) IS
	'Payment methods of a customer that are not detached: what a person needs to recognise one. reference: what to pay to, of a '
	'cash_recurrent or spei_recurrent.';

CREATE FUNCTION billing.now(organization_id text) RETURNS timestamptz
LANGUAGE c STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_now';
COMMENT ON FUNCTION billing.now(text) IS
	'The time for this organisation: its test clock where it has one, else the time of the transaction.';

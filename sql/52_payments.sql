-- Payment intents: one payment each, from the wish to the money and back.

CREATE TABLE billing.payment_intent_transitions
(
	from_state text NOT NULL,
	to_state text NOT NULL,
	PRIMARY KEY (from_state, to_state)
);
COMMENT ON TABLE billing.payment_intent_transitions IS
	'Which state of a payment intent may follow which, in one step or in several: the news between may come later. Nothing follows '
	'money that has arrived but its return; money that arrives late follows a cancellation.';
INSERT INTO billing.payment_intent_transitions (from_state, to_state)
SELECT f.from_state, t.to_state
FROM (VALUES
	('pending', 'requires_action processing requires_capture succeeded failed canceled'),
	('requires_action', 'pending processing requires_capture succeeded failed canceled'),
	('processing', 'pending requires_action requires_capture succeeded failed canceled'),
	('requires_capture', 'pending requires_action processing succeeded failed canceled'),
	('failed', 'pending requires_action processing requires_capture succeeded canceled'),
	('canceled', 'succeeded')) AS f (from_state, to_states)
CROSS JOIN LATERAL string_to_table(f.to_states, ' ') AS t (to_state);

CREATE TABLE billing.payment_intents
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	customer_id uuid NOT NULL REFERENCES billing.customers (id),
	organization_id text NOT NULL,
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	status text NOT NULL DEFAULT 'pending'
		CHECK (status IN ('pending', 'requires_action', 'processing', 'requires_capture', 'succeeded', 'failed', 'canceled',
						  'partially_refunded', 'refunded')),
	provider_status text,
	amount bigint NOT NULL CHECK (amount >= 0),
	currency text NOT NULL REFERENCES billing.currencies (code),
	amount_capturable bigint NOT NULL DEFAULT 0 CHECK (amount_capturable >= 0),
	amount_received bigint NOT NULL DEFAULT 0 CHECK (amount_received >= 0),
	amount_refunded bigint NOT NULL DEFAULT 0 CHECK (amount_refunded >= 0),
	refunded_elsewhere bigint NOT NULL DEFAULT 0 CHECK (refunded_elsewhere >= 0),
	provider_tax bigint NOT NULL DEFAULT 0 CHECK (provider_tax >= 0),
	provider_number text,
	refunds_told bigint CHECK (refunds_told >= 0),
	asked_amount bigint CHECK (asked_amount >= 0),
	asked_currency text REFERENCES billing.currencies (code),
	refunds_told_at timestamptz,
	method text CHECK (method ~ '^[a-z][a-z0-9_]*$'),
	payment_method_id uuid REFERENCES billing.payment_methods (id),
	capture_method text NOT NULL DEFAULT 'automatic' CHECK (capture_method IN ('automatic', 'manual')),
	off_session boolean NOT NULL DEFAULT false,
	installments integer CHECK (installments > 1),
	invoice_id uuid REFERENCES billing.invoices (id),
	subscription_id uuid REFERENCES billing.subscriptions (id),
	checkout_session_id uuid,
	unasked boolean NOT NULL DEFAULT false,
	client_secret bytea,
	next_action bytea,
	terms bytea,
	charges text[] NOT NULL DEFAULT '{}',
	receipt_url bytea,
	details_charge text COLLATE "C",
	details_charged_at timestamptz,
	fee_amount bigint,
	fee_currency text REFERENCES billing.currencies (code),
	fee_told_at timestamptz,
	receipt_email bytea,
	expires_at timestamptz,
	error_code text,
	decline_code text,
	cancellation_reason text,
	description text,
	statement_descriptor_suffix text,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
	paid_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	CHECK (status NOT IN ('succeeded', 'partially_refunded', 'refunded') OR paid_at IS NOT NULL),
	CHECK (status <> 'refunded' OR amount_refunded > 0),
	CHECK ((refunds_told IS NULL) = (refunds_told_at IS NULL)),
	CHECK ((details_charge IS NULL) = (details_charged_at IS NULL)),
	CHECK ((asked_amount IS NULL) = (asked_currency IS NULL)),
	CHECK (num_nulls(fee_amount, fee_currency, fee_told_at) IN (0, 3))
);
COMMENT ON TABLE billing.payment_intents IS
	'Payments as the provider last told them. Amounts are minor units of the currency; refunds and disputes have tables of their own.';
COMMENT ON COLUMN billing.payment_intents.unasked IS
	'It came into being at the provider, and not by a call: by a reference that the customer keeps, a subscription there, its dashboard.';
COMMENT ON COLUMN billing.payment_intents.provider_status IS 'The provider''s word where it differs from ours.';
COMMENT ON COLUMN billing.payment_intents.amount_capturable IS 'Authorised and not yet taken.';
COMMENT ON COLUMN billing.payment_intents.amount_refunded IS
	'Given back: the succeeded rows of billing.refunds and refunded_elsewhere.';
COMMENT ON COLUMN billing.payment_intents.refunded_elsewhere IS
	'What the provider says was given back beyond the refunds that we know.';
COMMENT ON COLUMN billing.payment_intents.provider_tax IS
	'Of amount_received: the tax that a provider which is the seller has added to what was asked for. It owes and keeps it; of what is '
	'refunded it gives back its part.';
COMMENT ON COLUMN billing.payment_intents.provider_number IS 'The number that a provider which is the seller has given the sale.';
COMMENT ON COLUMN billing.payment_intents.refunds_told IS
	'The sum of what was given back, as the provider last told it at refunds_told_at; refunded_elsewhere is counted from it.';
COMMENT ON COLUMN billing.payment_intents.asked_amount IS
	'What we asked for, where the provider has told another amount or currency, in minor units of asked_currency; NULL: it never has. What '
	'is paid is booked as told.';
COMMENT ON COLUMN billing.payment_intents.installments IS 'Monthly instalments that the customer''s bank makes of it; we get one payment.';
COMMENT ON COLUMN billing.payment_intents.client_secret IS 'Encrypted; shown by client_config() only, gone when the payment is over.';
COMMENT ON COLUMN billing.payment_intents.next_action IS
	'Encrypted: what the customer has to do. The view payment_intent_details shows it.';
COMMENT ON COLUMN billing.payment_intents.terms IS
	'Encrypted: where the browser returns to and how a mandate was given, until the payment is over.';
COMMENT ON COLUMN billing.payment_intents.charges IS
	'The provider''s ids of all attempts, as told; the latest one is in provider_refs. A look-up finds a new attempt by them.';
COMMENT ON COLUMN billing.payment_intents.receipt_url IS 'Encrypted.';
COMMENT ON COLUMN billing.payment_intents.details_charge IS
	'The attempt, by the provider''s id, that receipt_url, installments and method are of: the one that was tried last, at '
	'details_charged_at, of those that told theirs. NULL: they are as the payment told them.';
COMMENT ON COLUMN billing.payment_intents.fee_amount IS
	'What the provider keeps of it for its service, minor units of fee_currency, as it was told last, at fee_told_at; NULL: it is not known. '
	'Refunds and disputes have fees of their own, and a refund takes none back unless the provider says so.';
COMMENT ON COLUMN billing.payment_intents.fee_currency IS 'What the provider takes the fee in, which may be another currency than that of the payment.';
COMMENT ON COLUMN billing.payment_intents.receipt_email IS 'Encrypted.';
CREATE INDEX payment_intents_customer ON billing.payment_intents (customer_id, created_at);
CREATE INDEX payment_intents_charges ON billing.payment_intents USING gin (charges);
CREATE INDEX payment_intents_organization ON billing.payment_intents (organization_id, created_at);
CREATE INDEX payment_intents_invoice ON billing.payment_intents (invoice_id) WHERE invoice_id IS NOT NULL;
CREATE INDEX payment_intents_checkout_session ON billing.payment_intents (checkout_session_id) WHERE checkout_session_id IS NOT NULL;

CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.payment_intents
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Use billing.cancel_payment_intent().');

SELECT pg_extension_config_dump('billing.payment_intents', '');

-- One rule for documents and ledger: rounded once, so that all of an amount has all of its tax.
CREATE FUNCTION billing.provider_tax_in(amount bigint, tax bigint, received bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN tax = 0 OR received = 0 THEN 0
	ELSE least(amount, received) - round(least(amount, received)::numeric * (received - least(tax, received)) / received)::bigint END;
COMMENT ON FUNCTION billing.provider_tax_in(bigint, bigint, bigint) IS
	'How much of an amount, which is a part of what was received or all of it, is the seller''s tax: tax is all of it, received what was paid with it. Minor units.';


-- What a bank makes instalments of.

CREATE TABLE billing.installment_terms
(
	provider text NOT NULL REFERENCES billing.providers (name),
	term integer NOT NULL CHECK (term > 1),
	currency text NOT NULL REFERENCES billing.currencies (code),
	issuer text NOT NULL DEFAULT '',
	min_amount bigint NOT NULL CHECK (min_amount > 0),
	builtin boolean NOT NULL DEFAULT false,
	PRIMARY KEY (provider, term, currency, issuer)
);
COMMENT ON TABLE billing.installment_terms IS
	'Months in which a card payment may be split by the customer''s bank (MSI), and the smallest amount for each. A term '
	'that is not offered any more gets an amount that nobody pays.';
COMMENT ON COLUMN billing.installment_terms.term IS 'Months.';
COMMENT ON COLUMN billing.installment_terms.issuer IS
	'Bank of the card, empty for any. It is known only when the card is charged: what counts before is the smallest amount of the term.';
COMMENT ON COLUMN billing.installment_terms.min_amount IS 'Minor units of the currency.';

INSERT INTO billing.installment_terms (provider, term, currency, min_amount, builtin)
SELECT p.name, t.term, 'MXN', CASE WHEN p.name = 'stripe' AND t.term = 9 THEN 90000 ELSE t.min_amount END, true
FROM billing.providers AS p
CROSS JOIN (VALUES (3, 30000), (6, 60000), (9, 80000), (12, 120000), (18, 180000)) AS t (term, min_amount)
WHERE p.name IN ('sandbox', 'stripe', 'conekta');

CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.installment_terms
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('provider,term,currency,issuer');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.installment_terms
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.installment_terms
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set min_amount to what nobody pays instead.');

-- Setup intents: a payment method for later.

CREATE TABLE billing.setup_intents
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	customer_id uuid NOT NULL REFERENCES billing.customers (id),
	organization_id text NOT NULL,
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	status text NOT NULL DEFAULT 'pending'
		CHECK (status IN ('pending', 'requires_action', 'processing', 'succeeded', 'failed', 'canceled')),
	provider_status text,
	usage text NOT NULL DEFAULT 'off_session' CHECK (usage IN ('off_session', 'on_session')),
	payment_method_id uuid REFERENCES billing.payment_methods (id),
	client_secret bytea,
	next_action bytea,
	terms bytea,
	error_code text,
	description text,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE billing.setup_intents IS
	'Attempts to save a payment method with the customer''s consent, as the provider last told them.';
COMMENT ON COLUMN billing.setup_intents.usage IS 'off_session: to be charged without the customer; on_session: with him.';
COMMENT ON COLUMN billing.setup_intents.payment_method_id IS 'The method that was saved.';
COMMENT ON COLUMN billing.setup_intents.client_secret IS 'Encrypted; shown by client_config() only, gone when it is over.';
COMMENT ON COLUMN billing.setup_intents.next_action IS 'Encrypted: what the customer has to do.';
COMMENT ON COLUMN billing.setup_intents.terms IS 'Encrypted: return_url and mandate, until it is over.';
CREATE INDEX setup_intents_customer ON billing.setup_intents (customer_id, created_at);
CREATE INDEX setup_intents_organization ON billing.setup_intents (organization_id, created_at);

CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.setup_intents
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Use billing.cancel_setup_intent().');

SELECT pg_extension_config_dump('billing.installment_terms', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.setup_intents', '');

-- Functions.

CREATE FUNCTION billing.create_payment_intent(
	customer_id uuid,
	amount bigint,
	currency text DEFAULT NULL,
	method text DEFAULT NULL,
	payment_method text DEFAULT NULL,
	confirm boolean DEFAULT NULL,
	off_session boolean DEFAULT false,
	capture_method text DEFAULT 'automatic',
	installments integer DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL,
	line_items jsonb DEFAULT NULL,
	tax_lines jsonb DEFAULT NULL,
	description text DEFAULT NULL,
	statement_descriptor_suffix text DEFAULT NULL,
	receipt_email text DEFAULT NULL,
	return_url text DEFAULT NULL,
	setup_future_usage text DEFAULT NULL,
	invoice_id uuid DEFAULT NULL,
	mandate jsonb DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	provider text DEFAULT NULL,
	account text DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_payment_intent';
COMMENT ON FUNCTION billing.create_payment_intent(uuid, bigint, text, text, text, boolean, boolean, text, integer, timestamptz, jsonb,
	jsonb, text, text, text, text, text, uuid, jsonb, jsonb, text, text, text) IS
	'Asks for a payment and returns its id. amount: minor units. currency: default the customer''s. method: card, oxxo, spei, '
	'us_bank_account, sepa_debit, ...; default what the account offers. payment_method: the id of an attached one (uuid), or a provider''s '
	'token, which is used once. confirm: charge now; default when there is something to charge, or a voucher to make. off_session: the '
	'customer is not there; without payment_method his default one is charged. capture_method: automatic, or manual (authorise now, '
	'capture_payment_intent() later). installments: months (table installment_terms). line_items: [{name, amount, quantity, description} '
	'or {price, quantity}], tax_lines: [{description, amount}]; their sum is amount. setup_future_usage: off_session or on_session keeps '
	'the method. mandate: {type: online or offline, ip_address, user_agent, accepted_at}. Errors: JB005 unknown customer, payment method '
	'or invoice, JB004 not supported by the provider, JB008 the payment method or the invoice is not in a state for it, JB009 a card '
	'number, JB010 the invoice has an attempt in flight, 22023 bad value or an amount that the provider does not take, 23502 something '
	'is missing, JB007 idempotency key reused.';

CREATE FUNCTION billing.confirm_payment_intent(
	payment_intent_id uuid,
	payment_method text DEFAULT NULL,
	method text DEFAULT NULL,
	return_url text DEFAULT NULL,
	off_session boolean DEFAULT NULL,
	installments integer DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL,
	mandate jsonb DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_confirm_payment_intent';
COMMENT ON FUNCTION billing.confirm_payment_intent(uuid, text, text, text, boolean, integer, timestamptz, jsonb) IS
	'Charges a payment intent that is pending, or tries one again that has failed or waits for the customer. Arguments as of '
	'create_payment_intent(). Errors: JB005 unknown payment intent or payment method, JB008 its state does not allow it, JB004 not '
	'supported by the provider, JB010 the invoice has another attempt in flight, 22023 bad value.';

CREATE FUNCTION billing.capture_payment_intent(payment_intent_id uuid, amount bigint DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_capture_payment_intent';
COMMENT ON FUNCTION billing.capture_payment_intent(uuid, bigint) IS
	'Takes what was authorised, or a part of it (minor units); the rest is released. Errors: JB005 unknown payment intent, JB008 nothing '
	'is authorised, 22023 more than is authorised, JB004 not supported by the provider.';

CREATE FUNCTION billing.cancel_payment_intent(payment_intent_id uuid, reason text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_cancel_payment_intent';
COMMENT ON FUNCTION billing.cancel_payment_intent(uuid, text) IS
	'Gives a payment up before it is paid. Twice is harmless. reason: duplicate, fraudulent, requested_by_customer or abandoned. Errors: '
	'JB005 unknown payment intent, JB008 it is paid (refund it), 22023 unknown reason.';

CREATE FUNCTION billing.verify_microdeposits(payment_intent_id uuid, amounts integer[] DEFAULT NULL, descriptor_code text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_verify_microdeposits';
COMMENT ON FUNCTION billing.verify_microdeposits(uuid, integer[], text) IS
	'Proves that a bank account is the customer''s: the two amounts (minor units) that arrived there, or the code on its statement. '
	'Errors: JB005 unknown payment intent, JB008 it does not wait for that, 22023 neither or both are given.';

CREATE FUNCTION billing.create_setup_intent(
	customer_id uuid,
	payment_method text DEFAULT NULL,
	usage text DEFAULT 'off_session',
	confirm boolean DEFAULT NULL,
	return_url text DEFAULT NULL,
	mandate jsonb DEFAULT NULL,
	description text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	provider text DEFAULT NULL,
	account text DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_setup_intent';
COMMENT ON FUNCTION billing.create_setup_intent(uuid, text, text, boolean, text, jsonb, text, jsonb, text, text, text) IS
	'Asks the customer''s consent to save a payment method for later and returns the setup intent''s id; client_config() has what the '
	'browser needs. payment_method: the id of an attached one (uuid) or a provider''s token; without one the browser gives it. usage: '
	'off_session or on_session. confirm: default when payment_method is given. mandate: as of create_payment_intent(). Errors: JB005 '
	'unknown customer or payment method, JB004 not supported by the provider, JB008 the payment method is detached, JB009 a card number, '
	'22023 bad value, JB007 idempotency key reused.';

CREATE FUNCTION billing.cancel_setup_intent(setup_intent_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_cancel_setup_intent';
COMMENT ON FUNCTION billing.cancel_setup_intent(uuid) IS
	'Gives a setup intent up. Twice is harmless. Errors: JB005 unknown setup intent, JB008 it has succeeded (detach the method).';

CREATE FUNCTION billing.client_config(id uuid) RETURNS jsonb
LANGUAGE c STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_client_config';
COMMENT ON FUNCTION billing.client_config(uuid) IS
	'What the browser needs for a payment intent, setup intent, incomplete subscription, invoice of ours, checkout session, payment link or '
	'portal session: {provider, account, publishable_key, client_secret, next_action, url, expires_at (unix seconds), status}, what there is of '
	'it. Where this database bills, a subscription or invoice leads to the payment that is open, and payment_intent names it. The only place that shows client secrets and the urls of sessions. Errors: JB005 unknown object.';

CREATE FUNCTION billing.refresh(id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_refresh';
COMMENT ON FUNCTION billing.refresh(uuid) IS
	'Asks the provider anew for the object with this id (customer, payment intent, refund, dispute, subscription, invoice, checkout '
	'session) and takes over what it says. Errors: JB005 unknown object, JB008 no provider knows it yet, JB004 the provider cannot be asked for it.';

-- Payment intents: one payment each, from the wish to the money and back.

CREATE TABLE billing.payment_intent_transitions
(
	from_state text NOT NULL,
	to_state text NOT NULL,
	PRIMARY KEY (from_state, to_state)
);
COMMENT ON TABLE billing.payment_intent_transitions IS
	'Which state of a payment intent may follow which. Nothing follows money that has arrived but its return; money that arrives late '
	'follows a cancellation.';
INSERT INTO billing.payment_intent_transitions (from_state, to_state)
SELECT f.from_state, t.to_state
FROM (VALUES
	('pending', 'requires_action processing requires_capture succeeded failed canceled'),
	('requires_action', 'pending processing requires_capture succeeded failed canceled'),
	('processing', 'requires_action requires_capture succeeded failed canceled'),
	('requires_capture', 'processing succeeded failed canceled'),
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
	method text CHECK (method ~ '^[a-z][a-z0-9_]*$'),
	payment_method_id uuid REFERENCES billing.payment_methods (id),
	capture_method text NOT NULL DEFAULT 'automatic' CHECK (capture_method IN ('automatic', 'manual')),
	off_session boolean NOT NULL DEFAULT false,
	installments integer CHECK (installments > 1),
	invoice_id uuid REFERENCES billing.invoices (id),
	subscription_id uuid REFERENCES billing.subscriptions (id),
	checkout_session_id uuid,
	client_secret bytea,
	next_action bytea,
	terms bytea,
	receipt_url bytea,
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
	CHECK (status <> 'refunded' OR amount_refunded > 0)
);
COMMENT ON TABLE billing.payment_intents IS
	'Payments as the provider last told them. Amounts are minor units of the currency; refunds and disputes have tables of their own.';
COMMENT ON COLUMN billing.payment_intents.provider_status IS 'The provider''s word where it differs from ours.';
COMMENT ON COLUMN billing.payment_intents.amount_capturable IS 'Authorised and not yet taken.';
COMMENT ON COLUMN billing.payment_intents.amount_refunded IS
	'Given back: the succeeded rows of billing.refunds and refunded_elsewhere.';
COMMENT ON COLUMN billing.payment_intents.refunded_elsewhere IS
	'What the provider says was given back beyond the refunds that we know.';
COMMENT ON COLUMN billing.payment_intents.installments IS 'Monthly instalments that the customer''s bank makes of it; we get one payment.';
COMMENT ON COLUMN billing.payment_intents.client_secret IS 'Encrypted; shown by client_config() only, gone when the payment is over.';
COMMENT ON COLUMN billing.payment_intents.next_action IS
	'Encrypted: what the customer has to do. The view payment_intent_details shows it.';
COMMENT ON COLUMN billing.payment_intents.terms IS
	'Encrypted: where the browser returns to and how a mandate was given, until the payment is over.';
COMMENT ON COLUMN billing.payment_intents.receipt_url IS 'Encrypted.';
COMMENT ON COLUMN billing.payment_intents.receipt_email IS 'Encrypted.';
CREATE INDEX payment_intents_customer ON billing.payment_intents (customer_id, created_at);
CREATE INDEX payment_intents_organization ON billing.payment_intents (organization_id, created_at);
CREATE INDEX payment_intents_invoice ON billing.payment_intents (invoice_id) WHERE invoice_id IS NOT NULL;
CREATE INDEX payment_intents_checkout_session ON billing.payment_intents (checkout_session_id) WHERE checkout_session_id IS NOT NULL;

CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.payment_intents
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Use billing.cancel_payment_intent().');

SELECT pg_extension_config_dump('billing.payment_intents', '');

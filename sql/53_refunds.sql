-- Refunds and disputes: how money goes back.

CREATE TABLE billing.disputes
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	payment_intent_id uuid NOT NULL REFERENCES billing.payment_intents (id),
	customer_id uuid NOT NULL REFERENCES billing.customers (id),
	organization_id text NOT NULL,
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	status text NOT NULL
		CHECK (status IN ('warning_needs_response', 'warning_under_review', 'warning_closed', 'needs_response', 'under_review', 'won',
						  'lost', 'prevented')),
	provider_status text,
	amount bigint NOT NULL CHECK (amount >= 0),
	currency text NOT NULL REFERENCES billing.currencies (code),
	reason text,
	evidence bytea,
	evidence_due_by timestamptz,
	evidence_submitted_at timestamptz,
	funds_withdrawn_at timestamptz,
	funds_reinstated_at timestamptz,
	error_code text,
	fee_amount bigint,
	fee_currency text REFERENCES billing.currencies (code),
	fee_told_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	CHECK (num_nulls(fee_amount, fee_currency, fee_told_at) IN (0, 3))
);
COMMENT ON TABLE billing.disputes IS
	'Payments that the customer''s bank takes back, as the provider last told them. Money moves at withdrawal and reinstatement, not when '
	'a dispute is won or lost.';
COMMENT ON COLUMN billing.disputes.provider_status IS 'The provider''s word where it differs from ours.';
COMMENT ON COLUMN billing.disputes.amount IS 'Minor units of the currency.';
COMMENT ON COLUMN billing.disputes.evidence IS 'Encrypted: what was written in our defence, by field.';
COMMENT ON COLUMN billing.disputes.funds_withdrawn_at IS 'When the provider took the money from us.';
COMMENT ON COLUMN billing.disputes.funds_reinstated_at IS 'When it gave it back.';
COMMENT ON COLUMN billing.disputes.fee_amount IS
	'What the provider takes for the dispute, minor units of fee_currency, as it was told last, at fee_told_at; NULL: it is not known. Below 0 it gave some back.';
CREATE INDEX disputes_payment ON billing.disputes (payment_intent_id);
CREATE INDEX disputes_organization ON billing.disputes (organization_id, created_at);
CREATE INDEX disputes_open ON billing.disputes (evidence_due_by) WHERE status IN ('warning_needs_response', 'needs_response');

CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.disputes
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Disputes are kept.');

CREATE TABLE billing.dispute_transitions
(
	from_state text NOT NULL,
	to_state text NOT NULL,
	PRIMARY KEY (from_state, to_state)
);
COMMENT ON TABLE billing.dispute_transitions IS
	'Which state of a dispute may follow which. A decision may be appealed or taken back; a warning may become a dispute.';
INSERT INTO billing.dispute_transitions (from_state, to_state)
SELECT f.from_state, t.to_state
FROM (VALUES
	('warning_needs_response', 'warning_under_review warning_closed needs_response under_review won lost prevented'),
	('warning_under_review', 'warning_needs_response warning_closed needs_response under_review won lost prevented'),
	('warning_closed', 'needs_response under_review won lost'),
	('needs_response', 'under_review won lost prevented'),
	('under_review', 'needs_response won lost prevented'),
	('won', 'needs_response under_review lost'),
	('lost', 'needs_response under_review won')) AS f (from_state, to_states)
CROSS JOIN LATERAL string_to_table(f.to_states, ' ') AS t (to_state);

CREATE TABLE billing.refunds
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	payment_intent_id uuid NOT NULL REFERENCES billing.payment_intents (id),
	customer_id uuid NOT NULL REFERENCES billing.customers (id),
	organization_id text NOT NULL,
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'succeeded', 'failed', 'canceled')),
	requires_action boolean NOT NULL DEFAULT false CHECK (status = 'pending' OR NOT requires_action),
	amount bigint NOT NULL CHECK (amount > 0),
	currency text NOT NULL REFERENCES billing.currencies (code),
	reason text,
	description bytea,
	dispute_id uuid REFERENCES billing.disputes (id),
	credit_note_id uuid,
	error_code text,
	failed_at timestamptz,
	provider_created_at timestamptz,
	fee_amount bigint,
	fee_currency text REFERENCES billing.currencies (code),
	fee_told_at timestamptz,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	CHECK (num_nulls(fee_amount, fee_currency, fee_told_at) IN (0, 3))
);
COMMENT ON TABLE billing.refunds IS
	'Refunds. A pending one reserves its amount of the payment, a failed or canceled one has released it.';
COMMENT ON COLUMN billing.refunds.requires_action IS 'The customer has to do something before he gets the money.';
COMMENT ON COLUMN billing.refunds.amount IS 'What the customer gets back, tax included; minor units of the currency.';
COMMENT ON COLUMN billing.refunds.description IS 'Encrypted.';
COMMENT ON COLUMN billing.refunds.dispute_id IS 'Paid back because of this dispute.';
COMMENT ON COLUMN billing.refunds.credit_note_id IS 'The credit note that it pays out; NULL: it was asked for by itself.';
COMMENT ON COLUMN billing.refunds.error_code IS 'Why the provider refused it, or why it failed later.';
COMMENT ON COLUMN billing.refunds.failed_at IS 'When the provider said that it failed or was canceled.';
COMMENT ON COLUMN billing.refunds.provider_created_at IS 'When it was made, by the provider''s clock.';
COMMENT ON COLUMN billing.refunds.fee_amount IS
	'What the provider takes for the refund, minor units of fee_currency, as it was told last, at fee_told_at; NULL: it is not known. Below 0 it gives of the payment''s fee back.';
CREATE INDEX refunds_payment ON billing.refunds (payment_intent_id);
CREATE INDEX refunds_organization ON billing.refunds (organization_id, created_at);

CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.refunds
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Use billing.cancel_refund().');

CREATE TABLE billing.refund_rules
(
	provider text NOT NULL REFERENCES billing.providers (name),
	method text NOT NULL,
	whole boolean NOT NULL DEFAULT true,
	partial boolean NOT NULL DEFAULT true,
	days integer CHECK (days > 0),
	builtin boolean NOT NULL DEFAULT false,
	PRIMARY KEY (provider, method),
	CHECK (whole OR NOT partial)
);
COMMENT ON TABLE billing.refund_rules IS
	'What cannot be refunded at a provider, by method of payment. A method without a row can be, whole and in parts, at any time.';
COMMENT ON COLUMN billing.refund_rules.days IS 'Refundable for so many days after the payment; NULL: no limit.';

-- Stripe's table of payment methods: OXXO cannot be refunded, debits for as long as their scheme allows.
INSERT INTO billing.refund_rules (provider, method, whole, partial, days, builtin) VALUES
	('stripe', 'oxxo', false, false, NULL, true),
	('stripe', 'sepa_debit', true, true, 180, true),
	('stripe', 'us_bank_account', true, true, 180, true);

CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.refund_rules
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('provider,method');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.refund_rules
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.refund_rules
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set whole and partial to true and days to NULL instead.');

SELECT pg_extension_config_dump('billing.disputes', '');
SELECT pg_extension_config_dump('billing.refunds', '');
SELECT pg_extension_config_dump('billing.refund_rules', 'WHERE NOT builtin');

CREATE FUNCTION billing.create_refund(
	payment_intent_id uuid,
	amount bigint DEFAULT NULL,
	reason text DEFAULT NULL,
	description text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_refund';
COMMENT ON FUNCTION billing.create_refund(uuid, bigint, text, text, jsonb, text) IS
	'Gives a payment back and returns the refund''s id. amount: minor units, tax included; default all that is left. reason: '
	'requested_by_customer, duplicate, fraudulent, service_disruption, satisfaction_guarantee or other. What is pending counts as given '
	'back, and so does what changes and credit notes gave back of its invoice as credit, so that never more than was paid goes back. Errors: JB005 unknown payment intent, JB008 it is not paid or '
	'nothing is left of it, 22023 more than is left or an amount that the provider does not take, JB004 its method cannot be refunded '
	'like that, JB009 a card number, JB007 idempotency key reused.';

CREATE FUNCTION billing.cancel_refund(refund_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_cancel_refund';
COMMENT ON FUNCTION billing.cancel_refund(uuid) IS
	'Takes a pending refund back: at once when the provider has not heard of it. Twice is harmless. Errors: JB005 unknown refund, JB008 it '
	'has succeeded or failed, JB004 not supported by the provider.';

CREATE FUNCTION billing.submit_dispute_evidence(dispute_id uuid, evidence jsonb, submit boolean DEFAULT true) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_submit_dispute_evidence';
COMMENT ON FUNCTION billing.submit_dispute_evidence(uuid, jsonb, boolean) IS
	'Answers a dispute. evidence: {field: text} with the provider''s names of the fields, added to what was given before and kept '
	'encrypted. submit: false keeps it at the provider as a draft, true hands it to the bank, which can be done once. Errors: JB005 '
	'unknown dispute, JB008 it does not wait for an answer, JB004 the provider answers itself, JB009 a card number, 22023 not an object '
	'of texts.';

CREATE FUNCTION billing.accept_dispute(dispute_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_accept_dispute';
COMMENT ON FUNCTION billing.accept_dispute(uuid) IS
	'Gives a dispute up: the customer keeps the money. It cannot be taken back. Errors: JB005 unknown dispute, JB008 it is over, JB004 '
	'not supported by the provider.';

CREATE FUNCTION billing.fetch_disputes(provider text, account text DEFAULT 'default', since timestamptz DEFAULT NULL) RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_fetch_disputes';
COMMENT ON FUNCTION billing.fetch_disputes(text, text, timestamptz) IS
	'Asks the provider for the disputes of an account, where webhooks do not tell them, and returns the account''s id for await(). since: '
	'only those made after it. Errors: JB005 unknown provider, JB006 not configured, JB004 not supported by the provider.';

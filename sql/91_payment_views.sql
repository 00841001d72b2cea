-- Payments, refunds and disputes for people.  A reference or a CLABE is for the
-- customer to pay to, so it is shown in clear to those who serve him; the secret
-- of a browser is not: client_config() has it.

CREATE VIEW billing.payment_intent_details AS
	SELECT p.id, p.organization_id, p.customer_id, p.status,
		   CASE p.status
			   WHEN 'requires_action' THEN 'pending'
			   WHEN 'requires_capture' THEN 'processing'
			   WHEN 'partially_refunded' THEN 'succeeded'
			   ELSE p.status
		   END AS status_simple,
		   p.provider, p.account, p.livemode, p.provider_status, r.provider_id AS provider_payment_id, h.provider_id AS provider_charge_id,
		   p.amount, p.currency, p.amount_capturable, p.amount_received, p.amount_refunded, p.asked_amount, p.asked_currency, p.fee_amount, p.fee_currency, p.method, p.payment_method_id,
		   p.capture_method, p.off_session, p.installments, p.invoice_id, p.subscription_id, p.checkout_session_id,
		   a.action ->> 'type' AS action_type, a.action ->> 'url' AS action_url, a.action ->> 'reference' AS reference,
		   a.action ->> 'barcode_url' AS barcode_url, a.action ->> 'clabe' AS clabe, a.action ->> 'bank' AS bank,
		   to_timestamp((a.action ->> 'expires_at')::double precision) AS action_expires_at,
		   p.expires_at, p.error_code, p.decline_code, p.cancellation_reason, p.description, p.statement_descriptor_suffix,
		   billing.decrypt(p.receipt_email, 'payment_intents.receipt_email', p.id) AS receipt_email,
		   billing.decrypt(p.receipt_url, 'payment_intents.receipt_url', p.id) AS receipt_url,
		   ARRAY(SELECT o.operation FROM billing.outbox AS o WHERE o.object_id = p.id ORDER BY o.seq) AS pending,
		   p.metadata, p.paid_at, p.created_at, p.updated_at
	FROM billing.payment_intents AS p
	CROSS JOIN LATERAL (
		SELECT billing.decrypt(p.next_action, 'payment_intents.next_action', p.id)::jsonb AS action OFFSET 0) AS a
	LEFT JOIN billing.provider_refs AS r
		ON r.object_id = p.id AND r.object_type = 'payment_intent' AND r.provider = p.provider AND r.account = p.account
	LEFT JOIN billing.provider_refs AS h
		ON h.object_id = p.id AND h.object_type = 'charge' AND h.provider = p.provider AND h.account = p.account;
COMMENT ON VIEW billing.payment_intent_details IS
	'Payments with what the customer has to do, in clear text. Amounts are minor units of the currency.';
COMMENT ON COLUMN billing.payment_intent_details.status_simple IS 'pending, processing, succeeded, failed, canceled or refunded.';
COMMENT ON COLUMN billing.payment_intent_details.action_type IS
	'What the customer has to do: redirect (action_url), oxxo (reference, barcode_url), spei (clabe, bank), verify_microdeposits or other.';
COMMENT ON COLUMN billing.payment_intent_details.fee_amount IS
	'What the provider keeps of it, minor units of fee_currency; NULL: it has not told it.';
COMMENT ON COLUMN billing.payment_intent_details.pending IS 'Requests about it that are not finished, in their order.';

CREATE VIEW billing.setup_intent_details AS
	SELECT s.id, s.organization_id, s.customer_id, s.status, s.provider, s.account, s.livemode, s.provider_status,
		   r.provider_id AS provider_setup_intent_id, s.usage, s.payment_method_id,
		   a.action ->> 'type' AS action_type, a.action ->> 'url' AS action_url,
		   s.error_code, s.description, s.metadata, s.created_at, s.updated_at
	FROM billing.setup_intents AS s
	CROSS JOIN LATERAL (
		SELECT billing.decrypt(s.next_action, 'setup_intents.next_action', s.id)::jsonb AS action OFFSET 0) AS a
	LEFT JOIN billing.provider_refs AS r
		ON r.object_id = s.id AND r.object_type = 'setup_intent' AND r.provider = s.provider AND r.account = s.account;
COMMENT ON VIEW billing.setup_intent_details IS 'Setup intents with what the customer has to do, in clear text.';

CREATE FUNCTION billing.get_payment_intent(payment_intent_id uuid) RETURNS SETOF billing.payment_intent_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.payment_intent_details AS d WHERE d.id = get_payment_intent.payment_intent_id;
END;
COMMENT ON FUNCTION billing.get_payment_intent(uuid) IS 'The payment as the provider last told it; no row when there is none.';

CREATE FUNCTION billing.list_payment_intents(organization_id text) RETURNS SETOF billing.payment_intent_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 20
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.payment_intent_details AS d
	WHERE d.organization_id = list_payment_intents.organization_id
	ORDER BY d.created_at DESC, d.id DESC;
END;
COMMENT ON FUNCTION billing.list_payment_intents(text) IS 'Payments of an organisation, newest first.';

CREATE FUNCTION billing.get_setup_intent(setup_intent_id uuid) RETURNS SETOF billing.setup_intent_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.setup_intent_details AS d WHERE d.id = get_setup_intent.setup_intent_id;
END;
COMMENT ON FUNCTION billing.get_setup_intent(uuid) IS 'The setup intent as the provider last told it; no row when there is none.';

CREATE FUNCTION billing.list_setup_intents(organization_id text) RETURNS SETOF billing.setup_intent_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 5
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.setup_intent_details AS d
	WHERE d.organization_id = list_setup_intents.organization_id
	ORDER BY d.created_at DESC, d.id DESC;
END;
COMMENT ON FUNCTION billing.list_setup_intents(text) IS 'Setup intents of an organisation, newest first.';

CREATE VIEW billing.refund_details WITH (security_invoker = true) AS
	SELECT f.id, f.organization_id, f.customer_id, f.payment_intent_id, f.status, f.requires_action, f.provider, f.account, f.livemode,
		   r.provider_id AS provider_refund_id, f.amount, f.currency, f.reason, f.dispute_id, f.error_code, f.metadata,
		   f.created_at, f.updated_at
	FROM billing.refunds AS f
	LEFT JOIN billing.provider_refs AS r
		ON r.object_id = f.id AND r.object_type = 'refund' AND r.provider = f.provider AND r.account = f.account;
COMMENT ON VIEW billing.refund_details IS 'Refunds with the provider''s id. Amounts are minor units of the currency.';

CREATE FUNCTION billing.get_refund(refund_id uuid) RETURNS SETOF billing.refund_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.refund_details AS d WHERE d.id = get_refund.refund_id;
END;
COMMENT ON FUNCTION billing.get_refund(uuid) IS 'The refund as the provider last told it; no row when there is none.';

CREATE FUNCTION billing.list_refunds(organization_id text) RETURNS SETOF billing.refund_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 5
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.refund_details AS d
	WHERE d.organization_id = list_refunds.organization_id
	ORDER BY d.created_at DESC, d.id DESC;
END;
COMMENT ON FUNCTION billing.list_refunds(text) IS 'Refunds of an organisation, newest first.';

CREATE VIEW billing.dispute_details WITH (security_invoker = true) AS
	SELECT d.id, d.organization_id, d.customer_id, d.payment_intent_id, d.status, d.provider, d.account, d.livemode, d.provider_status,
		   r.provider_id AS provider_dispute_id, d.amount, d.currency, d.reason, d.evidence_due_by, d.evidence_submitted_at,
		   d.funds_withdrawn_at, d.funds_reinstated_at, d.error_code, d.created_at, d.updated_at
	FROM billing.disputes AS d
	LEFT JOIN billing.provider_refs AS r
		ON r.object_id = d.id AND r.object_type = 'dispute' AND r.provider = d.provider AND r.account = d.account;
COMMENT ON VIEW billing.dispute_details IS 'Disputes with the provider''s id. Amounts are minor units of the currency.';

CREATE FUNCTION billing.get_dispute(dispute_id uuid) RETURNS SETOF billing.dispute_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.dispute_details AS d WHERE d.id = get_dispute.dispute_id;
END;
COMMENT ON FUNCTION billing.get_dispute(uuid) IS 'The dispute as the provider last told it; no row when there is none.';

CREATE FUNCTION billing.list_disputes(organization_id text DEFAULT NULL) RETURNS SETOF billing.dispute_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 5
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.dispute_details AS d
	WHERE list_disputes.organization_id IS NULL OR d.organization_id = list_disputes.organization_id
	ORDER BY d.evidence_due_by, d.created_at DESC, d.id DESC;
END;
COMMENT ON FUNCTION billing.list_disputes(text) IS
	'Disputes of an organisation, or of all; those whose evidence is due first come first.';

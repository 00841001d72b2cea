-- The sandbox: a provider that lives in the worker, with a test clock per organisation.

CREATE TABLE billing.sandbox_state
(
	customer_id uuid PRIMARY KEY REFERENCES billing.customers (id),
	account text NOT NULL DEFAULT 'default',
	state jsonb NOT NULL,
	next_due timestamptz
);
COMMENT ON TABLE billing.sandbox_state IS 'What the sandbox knows of each customer; ids and terms, no personal data.';
CREATE INDEX sandbox_state_due ON billing.sandbox_state (next_due) WHERE next_due IS NOT NULL;
-- whose the reference or CLABE is that somebody pays to
CREATE INDEX sandbox_state_numbers ON billing.sandbox_state USING gin ((state -> 'numbers')) WHERE state ? 'numbers';

CREATE TABLE billing.sandbox_clocks
(
	organization_id text PRIMARY KEY,
	now timestamptz NOT NULL
);
COMMENT ON TABLE billing.sandbox_clocks IS
	'Test clocks: an organisation without a row lives in real time, one with a row stands still until it is moved on.';

CREATE TABLE billing.sandbox_faults
(
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	operation text NOT NULL,
	outcome text NOT NULL CHECK (outcome IN ('timeout_after_success', '429', '500', 'declined')),
	times integer NOT NULL CHECK (times > 0)
);
COMMENT ON TABLE billing.sandbox_faults IS 'Faults that the sandbox still has to play; see sandbox_fail_next().';

-- Webhooks that the sandbox has sent and nobody has handled yet.
CREATE TABLE billing.sandbox_deliveries
(
	seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	event_id text NOT NULL,
	customer_id uuid NOT NULL,
	account text NOT NULL,
	payload text NOT NULL,
	due_at timestamptz NOT NULL DEFAULT now(),
	delivered_at timestamptz
);
COMMENT ON TABLE billing.sandbox_deliveries IS 'Webhooks of the sandbox: waiting, and those delivered lately (for sandbox_redeliver).';
CREATE INDEX sandbox_deliveries_due ON billing.sandbox_deliveries (due_at, seq) WHERE delivered_at IS NULL;
CREATE INDEX sandbox_deliveries_customer ON billing.sandbox_deliveries (customer_id, due_at, seq) WHERE delivered_at IS NULL;
CREATE INDEX sandbox_deliveries_event ON billing.sandbox_deliveries (event_id);

SELECT pg_extension_config_dump('billing.sandbox_state', '');
SELECT pg_extension_config_dump('billing.sandbox_clocks', '');

CREATE PROCEDURE billing.advance_clock(organization_id text, by interval)
LANGUAGE c
AS 'MODULE_PATHNAME', 'billing_advance_clock';
COMMENT ON PROCEDURE billing.advance_clock(text, interval) IS
	'Moves the organisation''s test clock forward and plays what falls due on the way (trial ends, renewals, retries), each at its own '
	'time and with its own commit; of a deleted customer, too, as long as his last invoices wait. Errors: JB005 unknown organisation, JB008 the organisation has objects outside the sandbox, 22023 backwards, 25001 inside a '
	'transaction block.';

CREATE PROCEDURE billing.set_clock(organization_id text, at timestamptz)
LANGUAGE c
AS 'MODULE_PATHNAME', 'billing_set_clock';
COMMENT ON PROCEDURE billing.set_clock(text, timestamptz) IS 'advance_clock() to a moment.';

CREATE FUNCTION billing.sandbox_fail_next(operation text, outcome text, times integer DEFAULT 1) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_sandbox_fail_next';
COMMENT ON FUNCTION billing.sandbox_fail_next(text, text, integer) IS
	'The next requests of this operation fail in the sandbox: timeout_after_success (done, the answer is lost), 429, 500 or declined. '
	'Errors: 22023 unknown operation or outcome.';

CREATE FUNCTION billing.sandbox_redeliver(event text, mode text DEFAULT 'duplicate') RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_sandbox_redeliver';
COMMENT ON FUNCTION billing.sandbox_redeliver(text, text) IS
	'Delivers a webhook of the sandbox again. mode: duplicate (once more, now), delay (in an hour instead of now, when it is not '
	'delivered yet), reorder (after all that wait now). Errors: JB005 unknown event, JB008 the mode does not fit its state.';

CREATE FUNCTION billing.sandbox_authenticate(id uuid, success boolean DEFAULT true) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_sandbox_authenticate';
COMMENT ON FUNCTION billing.sandbox_authenticate(uuid, boolean) IS
	'Plays the buyer in front of 3-D Secure. id: a payment intent, a setup intent, or a subscription or invoice with an open payment. Errors: JB005 '
	'unknown object, JB008 nothing waits for it or it is not in the sandbox.';

CREATE FUNCTION billing.sandbox_settle(id uuid, outcome text DEFAULT 'succeeded') RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_sandbox_settle';
COMMENT ON FUNCTION billing.sandbox_settle(uuid, text) IS
	'Settles now what takes its time: the bank debit of a payment intent, subscription or invoice, or a refund. outcome: succeeded or failed; a '
	'refund that has succeeded can still fail. Errors: JB005 unknown object, JB008 nothing is on its way, 22023 unknown outcome.';

CREATE FUNCTION billing.sandbox_complete_checkout(session_id uuid, payment_method text DEFAULT 'pm_card_visa') RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_sandbox_complete_checkout';
COMMENT ON FUNCTION billing.sandbox_complete_checkout(uuid, text) IS
	'Plays the buyer in a checkout session. payment_method: a test token, or oxxo or spei. When it is declined, or has to be authenticated '
	'(sandbox_authenticate), the session stays open. Errors: JB005 unknown session, JB008 it is not open or cannot be paid like this.';

CREATE FUNCTION billing.sandbox_pay_reference(reference text, amount bigint DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_sandbox_pay_reference';
COMMENT ON FUNCTION billing.sandbox_pay_reference(text, bigint) IS
	'Pays to a reference (OXXO) or CLABE (SPEI) that the sandbox has given out. amount: minor units, NULL the rest of what is asked for; '
	'less and more can be paid, also too late. Errors: JB005 unknown reference, JB008 nothing is to pay, 22023 amount.';

CREATE FUNCTION billing.sandbox_expire(id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_sandbox_expire';
COMMENT ON FUNCTION billing.sandbox_expire(uuid) IS
	'Ends the waiting now (where this database bills, that of the newest payment): of an open checkout session, of a payment intent that the buyer has to act for (or that of an invoice), of an incomplete subscription. '
	'Errors: JB005 unknown object, JB008 nothing of it can expire.';

CREATE FUNCTION billing.sandbox_dispute(payment_intent_id uuid, amount bigint DEFAULT NULL, reason text DEFAULT 'fraudulent') RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_sandbox_dispute';
COMMENT ON FUNCTION billing.sandbox_dispute(uuid, bigint, text) IS
	'Lets the buyer''s bank take money of a payment back. amount: minor units, NULL all that is left of it. Errors: JB005 unknown payment '
	'intent, JB008 nothing is left, or less than the amount.';

CREATE FUNCTION billing.sandbox_resolve_dispute(dispute_id uuid, outcome text) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_sandbox_resolve_dispute';
COMMENT ON FUNCTION billing.sandbox_resolve_dispute(uuid, text) IS
	'Decides a dispute. outcome: won (the money comes back; an inquiry is closed) or lost (an inquiry becomes a dispute). Errors: JB005 '
	'unknown dispute, JB008 it is decided already, 22023 unknown outcome.';

-- Collection of our own invoices: attempts as rows, what a decline means, and
-- which payment paid which invoice.

CREATE TABLE billing.decline_rules
(
	provider text NOT NULL DEFAULT '' CHECK (provider = '' OR provider ~ '^[a-z][a-z0-9_]*$'),
	code text NOT NULL CHECK (code <> ''),
	action text NOT NULL CHECK (action IN ('retry', 'new_method', 'page', 'stop')),
	builtin boolean NOT NULL DEFAULT false,
	PRIMARY KEY (provider, code)
);
COMMENT ON TABLE billing.decline_rules IS
	'What is done when a charge was declined. The decline code is looked up first, then the error code; a row of the provider comes before one '
	'for all. A code without a row is tried again.';
COMMENT ON COLUMN billing.decline_rules.provider IS 'Empty: of every provider.';
COMMENT ON COLUMN billing.decline_rules.code IS
	'A decline code or error code as providers tell it; of ours: no_payment_method, not_paid (a reference ran out), not_supported and '
	'not_possible (the charge could not even be asked for).';
COMMENT ON COLUMN billing.decline_rules.action IS
	'retry: by the schedule. new_method: by the schedule, as soon as another method is charged. page: nothing is charged by itself any more, '
	'the customer is asked by the schedule to pay on a page of the provider (create_invoice_checkout(); it is made where the setting '
	'invoice_success_url is given). stop: not by itself any more; a new default method, pay_invoice() and the customer still can.';

INSERT INTO billing.decline_rules (provider, code, action, builtin)
SELECT '', c.code, v.action, true
FROM (VALUES
	('retry', 'insufficient_funds generic_decline card_declined do_not_honor processing_error issuer_not_available try_again_later reenter_transaction '
			  'card_velocity_exceeded withdrawal_count_limit_exceeded approve_with_id call_issuer no_action_taken incorrect_cvc not_paid'),
	('new_method', 'expired_card invalid_expiry_month invalid_expiry_year no_payment_method payment_method_refused card_not_supported '
				   'currency_not_supported'),
	('stop', 'stolen_card lost_card pickup_card restricted_card fraudulent incorrect_number invalid_number invalid_account account_closed '
			 'bank_account_restricted no_account debit_not_authorized authentication_required do_not_try_again revocation_of_authorization '
			 'revocation_of_all_authorizations stop_payment_order not_supported not_possible')) AS v (action, codes)
CROSS JOIN LATERAL string_to_table(v.codes, ' ') AS c (code);

-- An organisation of Polar may not charge saved cards unless Polar has allowed it.
INSERT INTO billing.decline_rules (provider, code, action, builtin) VALUES ('polar', 'OffSessionChargesNotEnabled', 'page', true);

CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.decline_rules
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('provider,code');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.decline_rules
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.decline_rules
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set action to retry instead.');

CREATE TABLE billing.attempt_limits
(
	method text PRIMARY KEY CHECK (method ~ '^[a-z][a-z0-9_]*$'),
	attempts integer NOT NULL CHECK (attempts > 0),
	days integer CHECK (days > 0),
	builtin boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE billing.attempt_limits IS
	'How often an invoice may be charged by a method: what networks allow. A method without a row has no limit but the schedule.';
COMMENT ON COLUMN billing.attempt_limits.days IS 'Counted over so many days; NULL: over all time.';

-- Nacha: a returned debit is presented at most twice again. Card networks: 15 tries of one charge in 30 days.
INSERT INTO billing.attempt_limits (method, attempts, days, builtin) VALUES
	('us_bank_account', 3, NULL, true),
	('card', 15, 30, true);

CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.attempt_limits
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('method');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.attempt_limits
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.attempt_limits
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Set attempts to what nobody reaches instead.');

CREATE TABLE billing.dunning_attempts
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	invoice_id uuid NOT NULL REFERENCES billing.invoices (id),
	organization_id text NOT NULL,
	attempt integer NOT NULL CHECK (attempt > 0),
	kind text NOT NULL CHECK (kind IN ('charge', 'reminder')),
	cause text NOT NULL CHECK (cause IN ('issue', 'schedule', 'new_method', 'asked')),
	due_at timestamptz NOT NULL,
	state text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'running', 'succeeded', 'failed', 'canceled')),
	payment_method_id uuid REFERENCES billing.payment_methods (id),
	payment_intent_id uuid REFERENCES billing.payment_intents (id),
	decline_code text,
	action text CHECK (action IN ('retry', 'new_method', 'page', 'stop')),
	started_at timestamptz,
	finished_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	UNIQUE (invoice_id, attempt),
	CHECK (state <> 'planned' OR (payment_intent_id IS NULL AND finished_at IS NULL)),
	CHECK (state NOT IN ('succeeded', 'failed', 'canceled') OR finished_at IS NOT NULL),
	CHECK (kind = 'charge' OR (payment_intent_id IS NULL AND state <> 'running'))
);
COMMENT ON TABLE billing.dunning_attempts IS
	'Attempts to collect our own invoices, made and planned: charges, and reminders of invoices that are sent. Times are by the '
	'organisation''s clock.';
COMMENT ON COLUMN billing.dunning_attempts.cause IS
	'issue: the first one; schedule: the setting dunning_schedule after the first one failed; new_method: the customer has a new default '
	'method; asked: pay_invoice() or retry_payment().';
COMMENT ON COLUMN billing.dunning_attempts.due_at IS 'Of a reference that is used again and again, once it is running: until when it is waited for.';
COMMENT ON COLUMN billing.dunning_attempts.decline_code IS 'Why it failed or was not made; called_off: the invoice was paid otherwise, voided or given up first.';
COMMENT ON COLUMN billing.dunning_attempts.action IS 'What decline_rules said to that.';
CREATE UNIQUE INDEX dunning_attempts_one_running ON billing.dunning_attempts (invoice_id) WHERE state = 'running';
CREATE UNIQUE INDEX dunning_attempts_payment ON billing.dunning_attempts (payment_intent_id) WHERE payment_intent_id IS NOT NULL;
CREATE INDEX dunning_attempts_organization ON billing.dunning_attempts (organization_id, due_at);

CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.dunning_attempts
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Attempts are kept.');

-- Who pays, in whatever way, is not reminded any more.
CREATE FUNCTION billing.stop_dunning() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE billing.dunning_attempts AS a
	SET state = 'canceled', finished_at = coalesce((SELECT k.now FROM billing.sandbox_clocks AS k WHERE k.organization_id = NEW.organization_id), now())
	WHERE a.invoice_id = NEW.id AND (a.state = 'planned' OR (a.state = 'running' AND a.payment_intent_id IS NULL));
	NEW.next_attempt_at := NULL;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION billing.stop_dunning() IS 'Trigger of invoices: one that is not open any more is not collected.';
CREATE TRIGGER stop_dunning BEFORE UPDATE OF status ON billing.invoices
	FOR EACH ROW WHEN (NEW.managed_by = 'local' AND OLD.status IN ('open', 'uncollectible') AND NEW.status NOT IN ('draft', 'open'))
	EXECUTE FUNCTION billing.stop_dunning();

CREATE TABLE billing.invoice_payments
(
	payment_intent_id uuid PRIMARY KEY REFERENCES billing.payment_intents (id),
	invoice_id uuid REFERENCES billing.invoices (id),
	amount bigint NOT NULL,
	credited bigint NOT NULL CHECK (credited >= 0),
	withdrawn bigint NOT NULL DEFAULT 0 CHECK (withdrawn BETWEEN 0 AND credited),
	tax bigint NOT NULL DEFAULT 0,
	tax_left bigint NOT NULL DEFAULT 0 CHECK (tax_left BETWEEN 0 AND tax),
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	CHECK (invoice_id IS NOT NULL OR amount = 0)
);
COMMENT ON TABLE billing.invoice_payments IS
	'What became of the money of each payment of our own invoices: amount paid the invoice, credited is in the customer''s balance. Both '
	'together are what was received and not given back; they are computed anew from that, so that the order of news does not matter.';
COMMENT ON COLUMN billing.invoice_payments.invoice_id IS 'NULL: it came by a reusable reference when nothing was to be paid.';
COMMENT ON COLUMN billing.invoice_payments.amount IS
	'Minor units of the invoice''s currency; below 0 where a credit note paid back by this payment what had come otherwise.';
COMMENT ON COLUMN billing.invoice_payments.credited IS 'Minor units of the payment''s currency: too much, or too late.';
COMMENT ON COLUMN billing.invoice_payments.withdrawn IS 'Of credited, what a bank has taken back: it is not in the balance while the bank has it.';
COMMENT ON COLUMN billing.invoice_payments.tax IS
	'Of a statement: the tax that the seller has added to amount, before refunds. amount, credited and withdrawn are without it.';
COMMENT ON COLUMN billing.invoice_payments.tax_left IS 'Of that, what was not refunded.';
CREATE INDEX invoice_payments_invoice ON billing.invoice_payments (invoice_id) WHERE invoice_id IS NOT NULL;

SELECT pg_extension_config_dump('billing.decline_rules', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.attempt_limits', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('billing.dunning_attempts', '');
SELECT pg_extension_config_dump('billing.invoice_payments', '');

INSERT INTO billing.settings (name, value, kind, description, builtin) VALUES
	('dunning_schedule', '3 5 7', 'text',
	 'days after the first failed attempt on which an invoice is charged again, or after its due date on which it is reminded of', true),
	('dunning_end', 'unpaid', 'text',
	 'what becomes of a subscription whose last attempt failed: unpaid (its invoice stays open), or canceled (its invoice is uncollectible)', true),
	('invoice_lead_days', '7', 'integer',
	 'how many days before its period a renewal that is paid by reference (OXXO, SPEI) is invoiced', true),
	('reference_grace', '3 days', 'interval',
	 'how long after the due date of its invoice a reference can still be paid', true);
ALTER TABLE billing.settings
	ADD CONSTRAINT settings_dunning_schedule CHECK (name <> 'dunning_schedule' OR value ~ '^[0-9]{1,3}( [0-9]{1,3})*$'),
	ADD CONSTRAINT settings_dunning_end CHECK (name <> 'dunning_end' OR value IN ('unpaid', 'canceled'));

CREATE FUNCTION billing.mark_invoice_paid(
	invoice_id uuid,
	note text,
	paid_at timestamptz DEFAULT NULL,
	amount bigint DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_mark_invoice_paid';
COMMENT ON FUNCTION billing.mark_invoice_paid(uuid, text, timestamptz, bigint) IS
	'Books that an invoice of ours was paid by other ways: a transfer, in cash. note: by which. paid_at: default now. amount: minor units; '
	'default all that is left to pay, less leaves the invoice open. Errors: JB005 unknown invoice, JB008 it is not open or uncollectible, '
	'JB004 the invoice is a provider''s, JB009 a card number, 22023 more than is left, or a time to come, 23502 no note.';

CREATE FUNCTION billing.collect_by(subscription_id uuid, method text) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_collect_by';
COMMENT ON FUNCTION billing.collect_by(uuid, text) IS
	'Says how the invoices of a subscription of ours are collected: method oxxo or spei makes a reference for each, which the customer pays, '
	'and renewals are invoiced the setting invoice_lead_days ahead; NULL charges the payment method. Errors: JB005 unknown subscription, '
	'JB004 the provider bills it or makes no such references, JB008 it has ended, 22023 another method.';

CREATE FUNCTION billing.list_dunning_attempts(invoice_id uuid) RETURNS SETOF billing.dunning_attempts
LANGUAGE sql STABLE SECURITY DEFINER ROWS 5
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT a.* FROM billing.dunning_attempts AS a WHERE a.invoice_id = list_dunning_attempts.invoice_id ORDER BY a.due_at, a.attempt;
END;
COMMENT ON FUNCTION billing.list_dunning_attempts(uuid) IS 'The attempts to collect an invoice of ours, made and planned, in the order in which they are due.';

-- The ledger: every movement of money or of a claim, by double entry.
--
-- A row is one movement: an amount leaves the credit account and arrives at the
-- debit account, in one currency, so no row can be unbalanced.  Rows are added
-- and never changed.
--
-- Nobody posts by hand.  What a document stands for is a position: a few
-- amounts that follow from its row alone.  The triggers of the documents add the
-- difference between the position of the new row and that of the old one, in the
-- same statement.  So the ledger is right whatever code changes a document, each
-- change counts once, and a correction is a movement of its own.
--
-- Many invoices are numbered in one statement: theirs is a trigger of the
-- statement, and the others fire for those rows only whose money has changed.

CREATE TABLE billing.ledger_accounts
(
	account text PRIMARY KEY,
	kind text NOT NULL CHECK (kind IN ('asset', 'liability', 'income', 'expense')),
	description text NOT NULL
);
COMMENT ON TABLE billing.ledger_accounts IS
	'The accounts of the ledger. The balance of an asset or expense is what was debited less what was credited, of the others the reverse.';
INSERT INTO billing.ledger_accounts (account, kind, description) VALUES
	('receivable', 'asset', 'What customers owe for invoices that are open'),
	('cash', 'asset', 'Money at the providers, or paid out by them to us'),
	('cash_outside', 'asset', 'Money that came other ways: invoices that were marked as paid'),
	('tax_payable', 'liability', 'Tax on what was invoiced'),
	('customer_balance', 'liability', 'What customers have to their credit; below 0 what was too small to be charged'),
	('prepaid_credit', 'liability', 'Prepaid credits that are neither used nor expired'),
	('unapplied', 'liability', 'Money that came for an invoice and is not booked to one yet'),
	('credits_issued', 'liability', 'Credit notes on their way to what they lower, or back to the customer'),
	('revenue', 'income', 'What was invoiced, without tax'),
	('sales', 'income', 'Payments without an invoice'),
	('expired_credit', 'income', 'Prepaid credits that expired'),
	('refunds', 'expense', 'Money given back, or taken back, of what was paid and stays invoiced'),
	('disputes', 'expense', 'Money that banks have taken back of other payments than of our invoices'),
	('bad_debt', 'expense', 'Invoices that were given up'),
	('credits_given', 'expense', 'Prepaid credits and balances that were given'),
	('provider_fees', 'expense', 'What providers keep for their service, where they tell it'),
	('provider_differences', 'expense', 'What the figures of a provider''s invoice do not add up by; see ledger_provider_differences');

CREATE TABLE billing.ledger
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	booked_at timestamptz NOT NULL,
	recorded_at timestamptz NOT NULL DEFAULT now(),
	organization_id text NOT NULL,
	customer_id uuid NOT NULL,
	livemode boolean NOT NULL,
	kind text NOT NULL,
	debit text NOT NULL,
	credit text NOT NULL,
	amount bigint NOT NULL,
	currency text NOT NULL,
	invoice_id uuid,
	payment_intent_id uuid,
	refund_id uuid,
	dispute_id uuid,
	credit_note_id uuid,
	grant_id uuid,
	CHECK (amount > 0 AND debit <> credit),
	CHECK (debit = ANY ('{receivable,cash,cash_outside,tax_payable,customer_balance,prepaid_credit,unapplied,credits_issued,revenue,sales,expired_credit,refunds,disputes,bad_debt,credits_given,provider_fees,provider_differences}')),
	CHECK (credit = ANY ('{receivable,cash,cash_outside,tax_payable,customer_balance,prepaid_credit,unapplied,credits_issued,revenue,sales,expired_credit,refunds,disputes,bad_debt,credits_given,provider_fees,provider_differences}'))
);
COMMENT ON TABLE billing.ledger IS
	'Movements by double entry, added by the triggers of the documents and never changed. They have no foreign keys: documents are never '
	'deleted, and the check of a key costs more than the row.';
COMMENT ON COLUMN billing.ledger.booked_at IS 'By the organisation''s clock: when the invoice was issued, the payment made; of a later change when it came.';
COMMENT ON COLUMN billing.ledger.recorded_at IS 'When the transaction began that wrote it.';
COMMENT ON COLUMN billing.ledger.kind IS
	'What moved: invoice, tax, invoice_payment, outside_payment, written_off, difference, payment, refund, dispute, balance, prepaid, '
	'credit_note, fee, provider_tax. What takes one back is of its kind, with the accounts reversed.';
COMMENT ON COLUMN billing.ledger.debit IS 'The account that the amount arrives at (ledger_accounts).';
COMMENT ON COLUMN billing.ledger.credit IS 'The account that it leaves.';
COMMENT ON COLUMN billing.ledger.amount IS 'Minor units of the currency.';
COMMENT ON COLUMN billing.ledger.invoice_id IS 'What it is about, in this column and those after it.';
CREATE INDEX ledger_organization ON billing.ledger (organization_id, booked_at);
CREATE INDEX ledger_invoice ON billing.ledger (invoice_id) WHERE invoice_id IS NOT NULL;
CREATE INDEX ledger_payment ON billing.ledger (payment_intent_id) WHERE payment_intent_id IS NOT NULL;
SELECT pg_extension_config_dump('billing.ledger', '');

CREATE FUNCTION billing.keep_ledger() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'billing.ledger is append-only'
		USING ERRCODE = 'JB008', HINT = 'What was wrong is corrected by another movement: change the document, and it is written.';
END
$$;
COMMENT ON FUNCTION billing.keep_ledger() IS 'Trigger of ledger: rows neither change nor go.';
CREATE TRIGGER keep_ledger BEFORE UPDATE OR DELETE ON billing.ledger
	FOR EACH ROW EXECUTE FUNCTION billing.keep_ledger();
CREATE TRIGGER keep_whole_ledger BEFORE TRUNCATE ON billing.ledger
	FOR EACH STATEMENT EXECUTE FUNCTION billing.keep_ledger();

-- A restore brings the ledger along with the documents.  What pg_dump writes
-- turns row_security off before anything else; that counts for superusers only.
CREATE FUNCTION billing.ledger_is_restored() RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT coalesce(current_setting('janua_billing.restoring', true), 'off') = 'on'
		OR current_setting('row_security') = 'off' AND (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = session_user);
END;
COMMENT ON FUNCTION billing.ledger_is_restored() IS 'Is a dump being restored? Then the ledger comes with it, and its triggers rest.';

-- ---------------------------------------------------------------------------
-- Invoices

-- The position of an invoice, from its row alone.  Ours: what is invoiced is
-- owed, tax apart; what is paid comes from unapplied or from outside; what is
-- missing of it although it counts as paid was given back; what is given up is
-- bad debt.  Credits that it uses, and credit notes, move by entries of their own.
-- The tax of a provider that is the seller is none of ours: statements stand here
-- without it, and what came in with it has gone to that provider.  A
-- provider's: what it says was invoiced, paid and is owed; what these do not add
-- up by is a difference.
CREATE FUNCTION billing.ledger_of_invoice(
	local boolean,
	status text,
	total bigint,
	tax bigint,
	amount_due bigint,
	amount_paid bigint,
	paid_elsewhere bigint,
	amount_credited bigint,
	amount_remaining bigint)
RETURNS TABLE (kind text, debit text, credit text, amount bigint)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
	SELECT v.kind, v.debit, v.credit, v.amount
	FROM (SELECT CASE WHEN status IN ('open', 'paid', 'uncollectible') THEN total ELSE 0 END AS total,
				 CASE WHEN status IN ('open', 'paid', 'uncollectible') THEN coalesce(tax, 0) ELSE 0 END AS tax,
				 CASE WHEN status IN ('open', 'uncollectible') THEN amount_remaining ELSE 0 END AS owed) AS i
	CROSS JOIN LATERAL (VALUES
		('invoice', 'receivable', 'revenue', i.total - i.tax),
		('tax', 'receivable', 'tax_payable', i.tax),
		('invoice_payment', 'unapplied', 'receivable', amount_paid - paid_elsewhere),
		('outside_payment', 'cash_outside', 'receivable', paid_elsewhere),
		('refund', 'refunds', 'receivable', CASE WHEN local AND status = 'paid' THEN amount_due - amount_paid - amount_credited ELSE 0 END),
		('written_off', 'bad_debt', 'receivable', CASE WHEN status = 'uncollectible' THEN i.owed ELSE 0 END),
		('difference', 'provider_differences', 'receivable', CASE WHEN local THEN 0 ELSE i.total - amount_paid - i.owed END)
	) AS v (kind, debit, credit, amount)
	WHERE v.amount <> 0;
END;
COMMENT ON FUNCTION billing.ledger_of_invoice(boolean, text, bigint, bigint, bigint, bigint, bigint, bigint, bigint) IS
	'What an invoice with these figures stands for in the ledger, as movements; amounts below 0 go the other way.';

-- booked_at of the first movement is the date of the invoice; what comes later has the time at which it comes.
CREATE FUNCTION billing.ledger_invoices() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF billing.ledger_is_restored() THEN
		RETURN NULL;
	END IF;
	IF TG_OP = 'INSERT' THEN
		INSERT INTO billing.ledger (booked_at, organization_id, customer_id, livemode, kind, debit, credit, amount, currency, invoice_id)
		SELECT i.issued_at, i.organization_id, i.customer_id, i.livemode, p.kind, CASE WHEN p.amount > 0 THEN p.debit ELSE p.credit END,
			   CASE WHEN p.amount > 0 THEN p.credit ELSE p.debit END, abs(p.amount), i.currency, i.id
		FROM new_rows AS i
		CROSS JOIN LATERAL billing.ledger_of_invoice(i.managed_by = 'local', i.status, i.total - i.provider_tax, i.tax - i.provider_tax,
													 i.amount_due - i.provider_tax, i.amount_paid - i.provider_tax_paid,
													 i.paid_elsewhere, i.amount_credited, i.amount_remaining) AS p
		WHERE i.status <> 'draft';
		RETURN NULL;
	END IF;
	IF NOT EXISTS (SELECT FROM new_rows) THEN
		RETURN NULL;
	END IF;
	INSERT INTO billing.ledger (booked_at, organization_id, customer_id, livemode, kind, debit, credit, amount, currency, invoice_id)
	SELECT CASE WHEN d.first THEN d.issued_at ELSE coalesce(c.now, now()) END, d.organization_id, d.customer_id, d.livemode, d.kind,
		   CASE WHEN d.amount > 0 THEN d.debit ELSE d.credit END, CASE WHEN d.amount > 0 THEN d.credit ELSE d.debit END,
		   abs(d.amount), d.currency, d.id
	FROM (SELECT i.id, i.organization_id, i.customer_id, i.livemode, i.currency, p.kind, p.debit, p.credit,
				 sum(i.sign * p.amount)::bigint AS amount, max(i.issued_at) AS issued_at, bool_and(i.sign > 0 AND p.kind IN ('invoice', 'tax')) AS first
		  FROM (SELECT 1 AS sign, n.* FROM new_rows AS n WHERE n.status <> 'draft'
				UNION ALL
				SELECT -1, o.* FROM old_rows AS o WHERE o.status <> 'draft') AS i
		  CROSS JOIN LATERAL billing.ledger_of_invoice(i.managed_by = 'local', i.status, i.total - i.provider_tax, i.tax - i.provider_tax,
													 i.amount_due - i.provider_tax, i.amount_paid - i.provider_tax_paid,
													   i.paid_elsewhere, i.amount_credited, i.amount_remaining) AS p
		  GROUP BY i.id, i.organization_id, i.customer_id, i.livemode, i.currency, p.kind, p.debit, p.credit
		  HAVING sum(i.sign * p.amount) <> 0) AS d
	LEFT JOIN billing.sandbox_clocks AS c ON c.organization_id = d.organization_id;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION billing.ledger_invoices() IS 'Trigger of invoices: what a statement has changed of them moves in the ledger.';
CREATE TRIGGER ledger_new_invoices AFTER INSERT ON billing.invoices
	REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION billing.ledger_invoices();
CREATE TRIGGER ledger_changed_invoices AFTER UPDATE ON billing.invoices
	REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION billing.ledger_invoices();

-- ---------------------------------------------------------------------------
-- Payments, refunds, disputes: one row at a time, and only when money moved

-- One movement or what takes it back, for the triggers below.
CREATE FUNCTION billing.ledger_move(
	booked_at timestamptz,
	organization_id text,
	customer_id uuid,
	livemode boolean,
	kind text,
	debit text,
	credit text,
	amount bigint,
	currency text,
	invoice_id uuid DEFAULT NULL,
	payment_intent_id uuid DEFAULT NULL,
	refund_id uuid DEFAULT NULL,
	dispute_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO billing.ledger (booked_at, organization_id, customer_id, livemode, kind, debit, credit, amount, currency, invoice_id,
								payment_intent_id, refund_id, dispute_id)
	SELECT booked_at, organization_id, customer_id, livemode, kind, CASE WHEN amount > 0 THEN debit ELSE credit END,
		   CASE WHEN amount > 0 THEN credit ELSE debit END, abs(amount), currency, invoice_id, payment_intent_id, refund_id, dispute_id
	WHERE amount <> 0;
END;
COMMENT ON FUNCTION billing.ledger_move(timestamptz, text, uuid, boolean, text, text, text, bigint, text, uuid, uuid, uuid, uuid) IS
	'Adds a movement to the ledger; below 0 it goes from debit to credit, 0 is none. For the triggers of the ledger.';

-- Where the other side of a payment is: what an invoice or a subscription is paid
-- by is booked to it, the rest is a sale.
CREATE FUNCTION billing.ledger_side_of_payment(invoice_id uuid, subscription_id uuid) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN invoice_id IS NULL AND subscription_id IS NULL THEN 'sales' ELSE 'unapplied' END;
COMMENT ON FUNCTION billing.ledger_side_of_payment(uuid, uuid) IS 'The account that a payment comes from.';

-- Money that goes back of an invoice of ours is taken off what that is paid by;
-- anything else, a provider's invoice included, stays as it was told.
CREATE FUNCTION billing.ledger_side_of_return(invoice_id uuid, otherwise text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE WHEN EXISTS (SELECT FROM billing.invoices AS i WHERE i.id = invoice_id AND i.managed_by = 'local') THEN 'unapplied' ELSE otherwise END;
END;
COMMENT ON FUNCTION billing.ledger_side_of_return(uuid, text) IS
	'The account that money goes back to, of a payment of this invoice: otherwise, if it is none of ours.';

-- The tax of a provider that is the seller came in with the payment of a statement,
-- and is the provider's: what is left of it after refunds has gone to it.
CREATE FUNCTION billing.ledger_provider_tax(invoice_id uuid, tax bigint, received bigint, refunded bigint) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE WHEN tax > 0 AND received > 0
				AND EXISTS (SELECT FROM billing.invoices AS i WHERE i.id = invoice_id AND i.managed_by = 'local' AND i.merchant_of_record IS NOT NULL)
				THEN tax - billing.provider_tax_in(refunded, tax, received) ELSE 0 END;
END;
COMMENT ON FUNCTION billing.ledger_provider_tax(uuid, bigint, bigint, bigint) IS
	'How much of a payment of this invoice is the tax of a provider that is the seller: of refunded, which went back, its part is not.';

-- Of what banks have taken back, the seller loses its tax, and we the rest.
CREATE FUNCTION billing.ledger_disputed_tax(payment_intent_id uuid, invoice_id uuid, tax bigint, received bigint) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT coalesce(sum(billing.ledger_provider_tax(ledger_disputed_tax.invoice_id, tax, received, 0)
						- billing.ledger_provider_tax(ledger_disputed_tax.invoice_id, tax, received, d.amount)), 0)::bigint
	FROM billing.disputes AS d
	WHERE d.payment_intent_id = ledger_disputed_tax.payment_intent_id AND tax > 0
		AND d.funds_withdrawn_at IS NOT NULL AND d.funds_reinstated_at IS NULL;
END;
COMMENT ON FUNCTION billing.ledger_disputed_tax(uuid, uuid, bigint, bigint) IS
	'How much of what banks hold of a payment of this invoice is the tax of a provider that is the seller.';

CREATE FUNCTION billing.ledger_payment() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	at timestamptz := billing.now(NEW.organization_id);
	new_return text := 'refunds';
	old_return text := 'refunds';
	new_tax bigint := 0;
	old_tax bigint := 0;
	new_disputed bigint := 0;
	old_disputed bigint := 0;
BEGIN
	IF billing.ledger_is_restored() THEN
		RETURN NULL;
	END IF;
	IF NEW.refunded_elsewhere <> 0 OR OLD.refunded_elsewhere <> 0 THEN
		new_return := billing.ledger_side_of_return(NEW.invoice_id, 'refunds');
		old_return := billing.ledger_side_of_return(OLD.invoice_id, 'refunds');
	END IF;
	IF NEW.provider_tax <> 0 THEN
		new_tax := billing.ledger_provider_tax(NEW.invoice_id, NEW.provider_tax, NEW.amount_received, NEW.amount_refunded);
		new_disputed := billing.ledger_disputed_tax(NEW.id, NEW.invoice_id, NEW.provider_tax, NEW.amount_received);
	END IF;
	IF OLD.provider_tax <> 0 THEN
		old_tax := billing.ledger_provider_tax(OLD.invoice_id, OLD.provider_tax, OLD.amount_received, OLD.amount_refunded);
		old_disputed := billing.ledger_disputed_tax(OLD.id, OLD.invoice_id, OLD.provider_tax, OLD.amount_received);
	END IF;
	-- in one statement of its own: a function of SQL for each movement costs more than the movement
	INSERT INTO billing.ledger (booked_at, organization_id, customer_id, livemode, kind, debit, credit, amount, currency, invoice_id, payment_intent_id)
	SELECT CASE WHEN moved.first AND moved.kind = 'payment' THEN coalesce(NEW.paid_at, at) ELSE at END, NEW.organization_id, NEW.customer_id,
		   NEW.livemode, moved.kind, CASE WHEN moved.amount > 0 THEN moved.debit ELSE moved.credit END,
		   CASE WHEN moved.amount > 0 THEN moved.credit ELSE moved.debit END, abs(moved.amount), moved.currency, moved.invoice_id, NEW.id
	FROM (SELECT m.kind, m.debit, m.credit, m.currency, m.invoice_id, sum(m.amount)::bigint AS amount, bool_and(m.is_new) AS first
		  FROM (VALUES
			  ('payment', 'cash', billing.ledger_side_of_payment(NEW.invoice_id, NEW.subscription_id), NEW.currency, NEW.invoice_id,
			   NEW.amount_received, true),
			  ('refund', new_return, 'cash', NEW.currency, NEW.invoice_id, NEW.refunded_elsewhere, true),
			  ('provider_tax', 'unapplied', 'cash', NEW.currency, NEW.invoice_id, new_tax, true),
			  ('provider_tax', 'unapplied', 'cash', OLD.currency, OLD.invoice_id, - old_tax, false),
			  ('dispute', 'cash', 'disputes', NEW.currency, NEW.invoice_id, new_disputed, true),
			  ('dispute', 'cash', 'disputes', OLD.currency, OLD.invoice_id, - old_disputed, false),
			  ('payment', 'cash', billing.ledger_side_of_payment(OLD.invoice_id, OLD.subscription_id), OLD.currency, OLD.invoice_id,
			   - OLD.amount_received, false),
			  ('refund', old_return, 'cash', OLD.currency, OLD.invoice_id, - OLD.refunded_elsewhere, false)
		  ) AS m (kind, debit, credit, currency, invoice_id, amount, is_new)
		  WHERE m.amount <> 0
		  GROUP BY m.kind, m.debit, m.credit, m.currency, m.invoice_id
		  HAVING sum(m.amount) <> 0) AS moved;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION billing.ledger_payment() IS 'Trigger of payment_intents: money has come, or belongs elsewhere than it was thought to.';
CREATE TRIGGER ledger_new_payment AFTER INSERT ON billing.payment_intents
	FOR EACH ROW WHEN (NEW.amount_received <> 0 OR NEW.refunded_elsewhere <> 0)
	EXECUTE FUNCTION billing.ledger_payment();
CREATE TRIGGER ledger_changed_payment AFTER UPDATE ON billing.payment_intents
	FOR EACH ROW WHEN ((NEW.amount_received, NEW.refunded_elsewhere) <> (OLD.amount_received, OLD.refunded_elsewhere)
					   OR NEW.provider_tax <> 0 AND (NEW.provider_tax, NEW.amount_refunded) <> (OLD.provider_tax, OLD.amount_refunded)
					   OR NEW.amount_received <> 0 AND (NEW.currency, NEW.invoice_id, NEW.subscription_id)
							IS DISTINCT FROM (OLD.currency, OLD.invoice_id, OLD.subscription_id))
	EXECUTE FUNCTION billing.ledger_payment();

CREATE FUNCTION billing.ledger_refund() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	at timestamptz := billing.now(NEW.organization_id);
	paid uuid := (SELECT p.invoice_id FROM billing.payment_intents AS p WHERE p.id = NEW.payment_intent_id);
	side text := billing.ledger_side_of_return(paid, 'refunds');
BEGIN
	IF billing.ledger_is_restored() THEN
		RETURN NULL;
	END IF;
	IF OLD.status = 'succeeded' THEN
		PERFORM billing.ledger_move(at, OLD.organization_id, OLD.customer_id, OLD.livemode, 'refund', side, 'cash', - OLD.amount,
			OLD.currency, paid, OLD.payment_intent_id, OLD.id);
	END IF;
	IF NEW.status = 'succeeded' THEN
		PERFORM billing.ledger_move(at, NEW.organization_id, NEW.customer_id, NEW.livemode, 'refund', side, 'cash', NEW.amount,
			NEW.currency, paid, NEW.payment_intent_id, NEW.id);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION billing.ledger_refund() IS 'Trigger of refunds: one has succeeded, or failed after all.';
CREATE TRIGGER ledger_new_refund AFTER INSERT ON billing.refunds
	FOR EACH ROW WHEN (NEW.status = 'succeeded')
	EXECUTE FUNCTION billing.ledger_refund();
CREATE TRIGGER ledger_changed_refund AFTER UPDATE ON billing.refunds
	FOR EACH ROW WHEN ((NEW.status = 'succeeded') <> (OLD.status = 'succeeded')
					   OR NEW.status = 'succeeded' AND (NEW.amount, NEW.currency) <> (OLD.amount, OLD.currency))
	EXECUTE FUNCTION billing.ledger_refund();

-- Money moves at withdrawal and reinstatement, not when a dispute is won or lost.
-- An invoice stays paid: what is gone is an expense.
CREATE FUNCTION billing.ledger_dispute() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	at timestamptz := billing.now(NEW.organization_id);
	paid uuid;
	tax bigint;
	received bigint;
BEGIN
	IF billing.ledger_is_restored() THEN
		RETURN NULL;
	END IF;
	SELECT p.invoice_id, p.provider_tax, p.amount_received INTO paid, tax, received
	FROM billing.payment_intents AS p WHERE p.id = NEW.payment_intent_id;
	IF OLD.funds_withdrawn_at IS NOT NULL AND OLD.funds_reinstated_at IS NULL THEN
		PERFORM billing.ledger_move(at, OLD.organization_id, OLD.customer_id, OLD.livemode, 'dispute', 'disputes', 'cash',
			- OLD.amount + (billing.ledger_provider_tax(paid, tax, received, 0) - billing.ledger_provider_tax(paid, tax, received, OLD.amount)),
			OLD.currency, paid, OLD.payment_intent_id, dispute_id => OLD.id);
	END IF;
	IF NEW.funds_withdrawn_at IS NOT NULL AND NEW.funds_reinstated_at IS NULL THEN
		PERFORM billing.ledger_move(at, NEW.organization_id, NEW.customer_id, NEW.livemode, 'dispute', 'disputes', 'cash',
			NEW.amount - (billing.ledger_provider_tax(paid, tax, received, 0) - billing.ledger_provider_tax(paid, tax, received, NEW.amount)),
			NEW.currency, paid, NEW.payment_intent_id, dispute_id => NEW.id);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION billing.ledger_dispute() IS 'Trigger of disputes: the bank took the money, or gave it back.';
CREATE TRIGGER ledger_new_dispute AFTER INSERT ON billing.disputes
	FOR EACH ROW WHEN (NEW.funds_withdrawn_at IS NOT NULL AND NEW.funds_reinstated_at IS NULL)
	EXECUTE FUNCTION billing.ledger_dispute();
CREATE TRIGGER ledger_changed_dispute AFTER UPDATE ON billing.disputes
	FOR EACH ROW WHEN ((NEW.funds_withdrawn_at IS NOT NULL AND NEW.funds_reinstated_at IS NULL)
							<> (OLD.funds_withdrawn_at IS NOT NULL AND OLD.funds_reinstated_at IS NULL)
					   OR NEW.funds_withdrawn_at IS NOT NULL AND NEW.funds_reinstated_at IS NULL
							AND (NEW.amount, NEW.currency) <> (OLD.amount, OLD.currency))
	EXECUTE FUNCTION billing.ledger_dispute();

-- ---------------------------------------------------------------------------
-- Fees: what providers keep for their service
--
-- A payment, a refund and a dispute each have a fee of their own, told with them,
-- later, or never.  It leaves the money at the provider in the currency that the
-- provider takes it in, whatever the currency of the document, and whether or not
-- the document itself moves money: of a payment that fails a fee may be kept.
-- Giving a payment back does not give its fee back, unless the provider says so.

-- booked_at of the first movement of a payment's fee is the time of the payment;
-- what is told of it after that has the time at which it comes.
CREATE FUNCTION billing.ledger_fee() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	moved record;
	at timestamptz := billing.now(NEW.organization_id);
	payment uuid;
	paid uuid;
	paid_before uuid;
BEGIN
	IF billing.ledger_is_restored() THEN
		RETURN NULL;
	END IF;
	IF TG_TABLE_NAME = 'payment_intents' THEN
		payment := NEW.id;
		paid := NEW.invoice_id;
		paid_before := OLD.invoice_id;
		IF OLD.fee_amount IS NULL THEN
			at := coalesce(NEW.paid_at, at);
		END IF;
	ELSE
		payment := NEW.payment_intent_id;
		paid := (SELECT p.invoice_id FROM billing.payment_intents AS p WHERE p.id = NEW.payment_intent_id);
		paid_before := paid;
	END IF;
	FOR moved IN
		SELECT m.currency, m.invoice_id, sum(m.amount)::bigint AS amount
		FROM (VALUES (NEW.fee_currency, paid, NEW.fee_amount),
					 (OLD.fee_currency, paid_before, - OLD.fee_amount)) AS m (currency, invoice_id, amount)
		WHERE m.amount <> 0
		GROUP BY m.currency, m.invoice_id
		HAVING sum(m.amount) <> 0
	LOOP
		PERFORM billing.ledger_move(at, NEW.organization_id, NEW.customer_id, NEW.livemode, 'fee', 'provider_fees', 'cash', moved.amount,
			moved.currency, moved.invoice_id, payment,
			CASE WHEN TG_TABLE_NAME = 'refunds' THEN NEW.id END, CASE WHEN TG_TABLE_NAME = 'disputes' THEN NEW.id END);
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION billing.ledger_fee() IS
	'Trigger of payment_intents, refunds and disputes: a fee is told, or another one than before; what differs moves.';
CREATE TRIGGER ledger_new_fee AFTER INSERT ON billing.payment_intents
	FOR EACH ROW WHEN (NEW.fee_amount <> 0)
	EXECUTE FUNCTION billing.ledger_fee();
CREATE TRIGGER ledger_changed_fee AFTER UPDATE ON billing.payment_intents
	FOR EACH ROW WHEN ((NEW.fee_amount, NEW.fee_currency) IS DISTINCT FROM (OLD.fee_amount, OLD.fee_currency)
					   OR NEW.fee_amount <> 0 AND NEW.invoice_id IS DISTINCT FROM OLD.invoice_id)
	EXECUTE FUNCTION billing.ledger_fee();
CREATE TRIGGER ledger_new_fee AFTER INSERT ON billing.refunds
	FOR EACH ROW WHEN (NEW.fee_amount <> 0)
	EXECUTE FUNCTION billing.ledger_fee();
CREATE TRIGGER ledger_changed_fee AFTER UPDATE ON billing.refunds
	FOR EACH ROW WHEN ((NEW.fee_amount, NEW.fee_currency) IS DISTINCT FROM (OLD.fee_amount, OLD.fee_currency))
	EXECUTE FUNCTION billing.ledger_fee();
CREATE TRIGGER ledger_new_fee AFTER INSERT ON billing.disputes
	FOR EACH ROW WHEN (NEW.fee_amount <> 0)
	EXECUTE FUNCTION billing.ledger_fee();
CREATE TRIGGER ledger_changed_fee AFTER UPDATE ON billing.disputes
	FOR EACH ROW WHEN ((NEW.fee_amount, NEW.fee_currency) IS DISTINCT FROM (OLD.fee_amount, OLD.fee_currency))
	EXECUTE FUNCTION billing.ledger_fee();

-- ---------------------------------------------------------------------------
-- For people

CREATE VIEW billing.ledger_entries AS
	SELECT l.id, l.booked_at, l.organization_id, l.livemode, l.kind, l.debit, l.credit, l.amount, l.currency,
		   to_char(l.amount / 10::numeric ^ c.exponent, 'FM999999999999999990' || CASE WHEN c.exponent > 0 THEN '.' || repeat('0', c.exponent) ELSE '' END)
			   || ' ' || l.currency AS amount_text,
		   i.number AS invoice_number, l.invoice_id, l.payment_intent_id, l.refund_id, l.dispute_id, l.credit_note_id, l.grant_id, l.customer_id, l.recorded_at
	FROM billing.ledger AS l
	JOIN billing.currencies AS c ON c.code = l.currency
	LEFT JOIN billing.invoices AS i ON i.id = l.invoice_id;
COMMENT ON VIEW billing.ledger_entries IS 'The ledger with amounts as people write them and the numbers of invoices.';

CREATE VIEW billing.ledger_balances AS
	SELECT a.account, a.kind, s.currency, s.livemode,
		   CASE WHEN a.kind IN ('asset', 'expense') THEN 1 ELSE -1 END * sum(s.amount) AS balance,
		   sum(greatest(s.amount, 0)) AS debited, - sum(least(s.amount, 0)) AS credited
	FROM (SELECT l.debit AS account, l.currency, l.livemode, sum(l.amount) AS amount FROM billing.ledger AS l GROUP BY l.debit, l.currency, l.livemode
		  UNION ALL
		  SELECT l.credit, l.currency, l.livemode, - sum(l.amount) FROM billing.ledger AS l GROUP BY l.credit, l.currency, l.livemode) AS s
	JOIN billing.ledger_accounts AS a ON a.account = s.account
	GROUP BY a.account, a.kind, s.currency, s.livemode;
COMMENT ON VIEW billing.ledger_balances IS
	'What stands on each account, by currency and mode. The balances of assets and expenses together are those of liabilities and income.';

CREATE VIEW billing.ledger_revenue AS
	SELECT date_trunc('month', l.booked_at, 'UTC') AS month, l.currency, l.livemode,
		   coalesce(sum(l.amount) FILTER (WHERE l.credit IN ('revenue', 'sales')), 0) - coalesce(sum(l.amount) FILTER (WHERE l.debit IN ('revenue', 'sales')), 0) AS revenue,
		   coalesce(sum(l.amount) FILTER (WHERE l.debit = 'refunds'), 0) - coalesce(sum(l.amount) FILTER (WHERE l.credit = 'refunds'), 0) AS refunds,
		   coalesce(sum(l.amount) FILTER (WHERE l.debit = 'disputes'), 0) - coalesce(sum(l.amount) FILTER (WHERE l.credit = 'disputes'), 0) AS disputes,
		   coalesce(sum(l.amount) FILTER (WHERE l.debit = 'bad_debt'), 0) - coalesce(sum(l.amount) FILTER (WHERE l.credit = 'bad_debt'), 0) AS bad_debt,
		   coalesce(sum(l.amount) FILTER (WHERE l.debit = 'provider_fees'), 0) - coalesce(sum(l.amount) FILTER (WHERE l.credit = 'provider_fees'), 0) AS fees
	FROM billing.ledger AS l
	GROUP BY 1, 2, 3;
COMMENT ON VIEW billing.ledger_revenue IS
	'What was invoiced or sold in each month (UTC), without tax, and what of it was given back, taken back or given up in that month; '
	'and the fees of providers, as far as they tell them. Minor units.';

CREATE VIEW billing.provider_fees AS
	SELECT 'payment_intent' AS object_type, p.id AS object_id, p.id AS payment_intent_id, p.organization_id, p.provider, p.account, p.livemode,
		   p.amount_received AS amount, p.currency, p.fee_amount, p.fee_currency, p.fee_told_at
	FROM billing.payment_intents AS p
	WHERE p.fee_amount IS NOT NULL
	UNION ALL
	SELECT 'refund', r.id, r.payment_intent_id, r.organization_id, r.provider, r.account, r.livemode, r.amount, r.currency, r.fee_amount,
		   r.fee_currency, r.fee_told_at
	FROM billing.refunds AS r
	WHERE r.fee_amount IS NOT NULL
	UNION ALL
	SELECT 'dispute', d.id, d.payment_intent_id, d.organization_id, d.provider, d.account, d.livemode, d.amount, d.currency, d.fee_amount,
		   d.fee_currency, d.fee_told_at
	FROM billing.disputes AS d
	WHERE d.fee_amount IS NOT NULL;
COMMENT ON VIEW billing.provider_fees IS
	'What providers keep of payments, refunds and disputes, where they tell it. amount: of the document (of a payment what was received), '
	'minor units of currency; fee_amount: minor units of fee_currency, below 0 given back. A payment that is not here has a fee that is not known.';

-- The ledger, continued: what we owe to customers. Balances, prepaid credits and
-- credit notes have journals that only grow; a row of one is a movement, or a few.

-- What a change of a balance comes from, by its reason: an invoice that used it,
-- or was given up or refunded after parts of it were given back (so much less is lost), a payment of too much, a bank that took it back, a credit note, its refund that
-- failed, or a person.
CREATE FUNCTION billing.ledger_balance_entries() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF billing.ledger_is_restored() THEN
		RETURN NULL;
	END IF;
	INSERT INTO billing.ledger (booked_at, organization_id, customer_id, livemode, kind, debit, credit, amount, currency, invoice_id,
								payment_intent_id, refund_id, dispute_id, credit_note_id)
	SELECT e.occurred_at, e.organization_id, e.customer_id, c.livemode, 'balance',
		   CASE WHEN e.amount > 0 THEN s.side ELSE 'customer_balance' END, CASE WHEN e.amount > 0 THEN 'customer_balance' ELSE s.side END,
		   abs(e.amount), e.currency, CASE e.source_type WHEN 'invoice' THEN e.source_id WHEN 'payment_intent' THEN p.invoice_id END,
		   CASE WHEN e.source_type = 'payment_intent' THEN e.source_id END, CASE WHEN e.source_type = 'refund' THEN e.source_id END,
		   CASE WHEN e.source_type = 'dispute' THEN e.source_id END,
		   CASE WHEN e.source_type = 'credit_note' THEN e.source_id END
	FROM new_rows AS e
	JOIN billing.customers AS c ON c.id = e.customer_id
	LEFT JOIN billing.payment_intents AS p ON e.source_type = 'payment_intent' AND p.id = e.source_id
	CROSS JOIN LATERAL (SELECT CASE e.source_type WHEN 'invoice' THEN CASE e.reason WHEN 'invoice_given_up' THEN 'bad_debt' WHEN 'invoice_refunded' THEN 'refunds' ELSE 'receivable' END
												  WHEN 'credit_note' THEN 'credits_issued'
												  WHEN 'dispute' THEN 'disputes'
												  WHEN 'refund' THEN 'refunds'
												  WHEN 'payment_intent' THEN billing.ledger_side_of_payment(p.invoice_id, p.subscription_id)
												  ELSE 'credits_given' END AS side) AS s;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION billing.ledger_balance_entries() IS 'Trigger of customer_balance_entries: each is a movement.';
CREATE TRIGGER ledger_balance_entries AFTER INSERT ON billing.customer_balance_entries
	REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION billing.ledger_balance_entries();

-- A credit that was paid for was a sale, which it takes the place of until it is
-- used; of a present that expires nothing is left.
CREATE FUNCTION billing.ledger_grant_entries() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF billing.ledger_is_restored() THEN
		RETURN NULL;
	END IF;
	INSERT INTO billing.ledger (booked_at, organization_id, customer_id, livemode, kind, debit, credit, amount, currency, invoice_id, grant_id)
	SELECT e.occurred_at, e.organization_id, g.customer_id, c.livemode, 'prepaid',
		   CASE WHEN e.amount > 0 THEN s.side ELSE 'prepaid_credit' END, CASE WHEN e.amount > 0 THEN 'prepaid_credit' ELSE s.side END,
		   abs(e.amount), g.currency, e.invoice_id, e.grant_id
	FROM new_rows AS e
	JOIN billing.credit_grants AS g ON g.id = e.grant_id
	JOIN billing.customers AS c ON c.id = g.customer_id
	CROSS JOIN LATERAL (SELECT CASE WHEN e.kind IN ('use', 'release') THEN 'receivable'
									WHEN NOT g.paid THEN 'credits_given'
									WHEN e.kind = 'expire' THEN 'expired_credit'
									ELSE 'sales' END AS side) AS s;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION billing.ledger_grant_entries() IS 'Trigger of credit_grant_entries: each is a movement.';
CREATE TRIGGER ledger_grant_entries AFTER INSERT ON billing.credit_grant_entries
	REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION billing.ledger_grant_entries();

-- Settled when it is made: revenue and tax go down, what is owed goes down, and
-- the customer's balance gets its part by an entry.  What is paid back was paid
-- for the invoice: the refund made it an expense, which it is not.  Where lines
-- with another tax are left, the tax of a note is below zero and moves the other way.
CREATE FUNCTION billing.ledger_credit_note() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF billing.ledger_is_restored() THEN
		RETURN NULL;
	END IF;
	INSERT INTO billing.ledger (booked_at, organization_id, customer_id, livemode, kind, debit, credit, amount, currency, invoice_id, credit_note_id)
	SELECT NEW.issued_at, NEW.organization_id, NEW.customer_id, NEW.livemode, 'credit_note', CASE WHEN m.amount > 0 THEN m.debit ELSE m.credit END,
		   CASE WHEN m.amount > 0 THEN m.credit ELSE m.debit END, abs(m.amount), NEW.currency,
		   NEW.invoice_id, NEW.id
	FROM (VALUES ('revenue', 'credits_issued', NEW.total - NEW.tax),
				 ('tax_payable', 'credits_issued', NEW.tax),
				 ('credits_issued', 'receivable', NEW.amount_applied),
				 ('credits_issued', 'refunds', NEW.refund_amount)) AS m (debit, credit, amount)
	WHERE m.amount <> 0;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION billing.ledger_credit_note() IS 'Trigger of credit_notes: what was invoiced is taken back.';
CREATE TRIGGER ledger_credit_note AFTER INSERT ON billing.credit_notes
	FOR EACH ROW EXECUTE FUNCTION billing.ledger_credit_note();

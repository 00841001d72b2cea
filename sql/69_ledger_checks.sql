-- Whether ledger and documents agree.  The views do not ask the functions that
-- the triggers of the ledger ask: what should be there is told by the documents
-- once more, in other words.

-- Every movement twice, on the account that it arrives at and the one that it leaves.
CREATE VIEW billing.ledger_sides AS
	SELECT l.debit AS account, l.amount, l.currency, l.livemode, l.organization_id, l.customer_id, l.invoice_id, l.payment_intent_id, l.credit_note_id, l.grant_id
	FROM billing.ledger AS l
	UNION ALL
	SELECT l.credit, - l.amount, l.currency, l.livemode, l.organization_id, l.customer_id, l.invoice_id, l.payment_intent_id, l.credit_note_id, l.grant_id
	FROM billing.ledger AS l;
COMMENT ON VIEW billing.ledger_sides IS 'The ledger with a row for each side of a movement: what was debited is above 0, what was credited below.';

CREATE VIEW billing.ledger_imbalance AS
	WITH invoice_sides AS (
		SELECT s.invoice_id, s.currency,
			   sum(s.amount) FILTER (WHERE s.account = 'receivable') AS receivable,
			   - sum(s.amount) FILTER (WHERE s.account IN ('revenue', 'tax_payable') AND s.credit_note_id IS NULL) AS invoiced,
			   - sum(s.amount) FILTER (WHERE s.account = 'tax_payable' AND s.credit_note_id IS NULL) AS tax,
			   sum(s.amount) FILTER (WHERE s.account IN ('revenue', 'tax_payable') AND s.credit_note_id IS NOT NULL) AS taken_back,
			   sum(s.amount) FILTER (WHERE s.account = 'bad_debt') AS bad_debt,
			   - sum(s.amount) FILTER (WHERE s.account = 'unapplied') AS unapplied
		FROM billing.ledger_sides AS s
		WHERE s.invoice_id IS NOT NULL
		GROUP BY s.invoice_id, s.currency
	), invoice_lines AS (
		SELECT l.invoice_id,
			   sum(l.amount) FILTER (WHERE l.kind NOT IN ('credit', 'balance')) AS total,
			   - sum(l.amount) FILTER (WHERE l.kind = 'credit') AS credit_used,
			   - sum(l.amount) FILTER (WHERE l.kind = 'balance') AS balance_used
		FROM billing.invoice_lines AS l
		WHERE l.invoice_id IS NOT NULL
		GROUP BY l.invoice_id
	), credit_notes AS (
		SELECT n.invoice_id, sum(n.total) AS total, sum(n.amount_applied) AS applied
		FROM billing.credit_notes AS n
		GROUP BY n.invoice_id
	), taken_back AS (
		SELECT e.source_id AS invoice_id, - sum(e.amount) AS amount
		FROM billing.customer_balance_entries AS e
		WHERE e.reason = 'invoice_given_up'
		GROUP BY e.source_id
	), invoices AS (
		SELECT i.*, i.managed_by = 'local' AS local, i.status IN ('open', 'paid', 'uncollectible') AS final,
			   coalesce(s.receivable, 0) AS receivable, coalesce(s.invoiced, 0) AS invoiced, coalesce(s.tax, 0) AS booked_tax,
			   coalesce(s.bad_debt, 0) AS bad_debt, coalesce(s.unapplied, 0) AS unapplied, coalesce(l.total, 0) AS lines_total,
			   coalesce(s.taken_back, 0) AS booked_notes, coalesce(n.total, 0) AS notes, coalesce(n.applied, 0) AS notes_applied,
			   coalesce(l.credit_used, 0) AS lines_credit, coalesce(l.balance_used, 0) AS lines_balance, coalesce(b.amount, 0) AS taken_from_balance
		FROM billing.invoices AS i
		LEFT JOIN invoice_sides AS s ON s.invoice_id = i.id AND s.currency = i.currency
		LEFT JOIN invoice_lines AS l ON l.invoice_id = i.id
		LEFT JOIN credit_notes AS n ON n.invoice_id = i.id
		LEFT JOIN taken_back AS b ON b.invoice_id = i.id
	), fees AS (
		SELECT f.payment_intent_id, f.fee_currency AS currency, sum(f.fee_amount) AS documents
		FROM billing.provider_fees AS f
		GROUP BY f.payment_intent_id, f.fee_currency
	), fee_sides AS (
		SELECT s.payment_intent_id, s.currency, sum(s.amount) AS ledger
		FROM billing.ledger_sides AS s
		WHERE s.account = 'provider_fees'
		GROUP BY s.payment_intent_id, s.currency
	), statements AS (
		-- what the seller has added is his
		SELECT p.id, p.provider_tax AS tax, p.amount_refunded AS refunded, p.amount_received AS received, p.amount_received - p.provider_tax AS ours
		FROM billing.payment_intents AS p
		JOIN billing.invoices AS i ON i.id = p.invoice_id AND i.merchant_of_record IS NOT NULL
		WHERE p.amount_received > 0 AND i.managed_by = 'local'
	), payments AS (
		SELECT m.payment_intent_id, m.currency, sum(m.amount) AS documents
		FROM (SELECT p.id AS payment_intent_id, p.currency, p.amount_received - p.refunded_elsewhere AS amount FROM billing.payment_intents AS p
			  UNION ALL
			  SELECT p.id, p.currency, t.refunded - t.tax - round(t.refunded::numeric * t.ours / t.received) FROM statements AS t JOIN billing.payment_intents AS p ON p.id = t.id
			  UNION ALL
			  SELECT r.payment_intent_id, r.currency, - r.amount FROM billing.refunds AS r WHERE r.status = 'succeeded'
			  UNION ALL
			  SELECT d.payment_intent_id, d.currency, - coalesce(round(d.amount::numeric * t.ours / t.received), d.amount) FROM billing.disputes AS d
			  LEFT JOIN statements AS t ON t.id = d.payment_intent_id
			  WHERE d.funds_withdrawn_at IS NOT NULL AND d.funds_reinstated_at IS NULL
			  UNION ALL
			  SELECT f.payment_intent_id, f.currency, - f.documents FROM fees AS f) AS m
		GROUP BY m.payment_intent_id, m.currency
	), payment_sides AS (
		SELECT s.payment_intent_id, s.currency, sum(s.amount) AS ledger
		FROM billing.ledger_sides AS s
		WHERE s.account = 'cash' AND s.payment_intent_id IS NOT NULL
		GROUP BY s.payment_intent_id, s.currency
	)
	SELECT c.what, i.id AS object_id, i.organization_id, i.currency, i.livemode, c.ledger AS ledger, c.documents AS documents
	FROM invoices AS i
	CROSS JOIN LATERAL (VALUES
		('invoice: owed', i.receivable,
		 CASE WHEN i.status = 'open' THEN i.amount_remaining
			  WHEN i.local AND i.status = 'draft' AND i.marked_at IS NOT NULL THEN - i.credit_used - i.balance_used ELSE 0 END),
		('invoice: invoiced', i.invoiced, CASE WHEN i.final THEN i.total - i.provider_tax ELSE 0 END),
		('invoice: tax', i.booked_tax, CASE WHEN i.final THEN coalesce(i.tax, 0) - i.provider_tax ELSE 0 END),
		('invoice: given up', i.bad_debt, CASE WHEN i.status = 'uncollectible' THEN i.amount_remaining ELSE 0 END - i.taken_from_balance),
		('invoice: payments booked', CASE WHEN i.local THEN i.unapplied ELSE 0 END, 0),
		('invoice: lines and total', CASE WHEN i.local THEN i.lines_total ELSE i.total END, i.total),
		('invoice: lines and credit used', CASE WHEN i.local THEN i.lines_credit END, i.credit_used),
		('invoice: lines and balance used', CASE WHEN i.local THEN i.lines_balance END, i.balance_used),
		-- a draft that was put void before it was settled was never due
		('invoice: due', CASE WHEN i.local AND (i.status <> 'void' OR i.marked_at IS NOT NULL) THEN i.total - i.credit_used - i.balance_used END, i.amount_due),
		('invoice: remaining', CASE WHEN i.local AND i.status IN ('open', 'uncollectible') THEN i.amount_due - i.provider_tax - (i.amount_paid - i.provider_tax_paid) - i.amount_credited END, i.amount_remaining),
		('invoice: credit notes', i.booked_notes, i.notes),
		('invoice: credit notes taken off', i.amount_credited, i.notes_applied)
	) AS c (what, ledger, documents)
	WHERE c.ledger <> c.documents AND (i.status <> 'draft' OR i.marked_at IS NOT NULL)
	UNION ALL
	SELECT 'payment: cash', coalesce(p.payment_intent_id, s.payment_intent_id), i.organization_id, coalesce(p.currency, s.currency), i.livemode,
		   coalesce(s.ledger, 0), coalesce(p.documents, 0)
	FROM payments AS p
	FULL JOIN payment_sides AS s ON s.payment_intent_id = p.payment_intent_id AND s.currency = p.currency
	LEFT JOIN billing.payment_intents AS i ON i.id = coalesce(p.payment_intent_id, s.payment_intent_id)
	WHERE coalesce(s.ledger, 0) <> coalesce(p.documents, 0)
	UNION ALL
	SELECT 'payment: fees', coalesce(f.payment_intent_id, s.payment_intent_id), i.organization_id, coalesce(f.currency, s.currency), i.livemode,
		   coalesce(s.ledger, 0), coalesce(f.documents, 0)
	FROM fees AS f
	FULL JOIN fee_sides AS s ON s.payment_intent_id = f.payment_intent_id AND s.currency = f.currency
	LEFT JOIN billing.payment_intents AS i ON i.id = coalesce(f.payment_intent_id, s.payment_intent_id)
	WHERE coalesce(s.ledger, 0) <> coalesce(f.documents, 0)
	UNION ALL
	SELECT 'balance of the customer', coalesce(b.customer_id, s.customer_id), c.organization_id, coalesce(b.currency, s.currency), c.livemode,
		   coalesce(s.ledger, 0), coalesce(b.balance, 0)
	FROM billing.customer_balances AS b
	FULL JOIN (SELECT l.customer_id, l.currency, - sum(l.amount) AS ledger FROM billing.ledger_sides AS l WHERE l.account = 'customer_balance'
			   GROUP BY l.customer_id, l.currency) AS s ON s.customer_id = b.customer_id AND s.currency = b.currency
	LEFT JOIN billing.customers AS c ON c.id = coalesce(b.customer_id, s.customer_id)
	WHERE coalesce(s.ledger, 0) <> coalesce(b.balance, 0)
	UNION ALL
	SELECT 'prepaid credit', coalesce(g.id, s.grant_id), g.organization_id, g.currency, c.livemode, coalesce(s.ledger, 0), coalesce(g.remaining, 0)
	FROM billing.credit_grants AS g
	JOIN billing.customers AS c ON c.id = g.customer_id
	FULL JOIN (SELECT l.grant_id, - sum(l.amount) AS ledger FROM billing.ledger_sides AS l WHERE l.account = 'prepaid_credit' GROUP BY l.grant_id) AS s
		ON s.grant_id = g.id
	WHERE coalesce(s.ledger, 0) <> coalesce(g.remaining, 0)
	UNION ALL
	-- what a credit note takes back goes somewhere
	SELECT 'credit note: settled', s.credit_note_id, s.organization_id, s.currency, s.livemode, sum(s.amount), 0
	FROM billing.ledger_sides AS s
	WHERE s.account = 'credits_issued'
	GROUP BY s.credit_note_id, s.organization_id, s.currency, s.livemode
	HAVING sum(s.amount) <> 0
	UNION ALL
	-- no account but ours, and the same on both sides
	SELECT 'trial balance', NULL, NULL, b.currency, b.livemode,
		   sum(b.balance) FILTER (WHERE b.kind IN ('asset', 'expense')), sum(b.balance) FILTER (WHERE b.kind IN ('liability', 'income'))
	FROM billing.ledger_balances AS b
	GROUP BY b.currency, b.livemode
	HAVING coalesce(sum(b.balance) FILTER (WHERE b.kind IN ('asset', 'expense')), 0) <> coalesce(sum(b.balance) FILTER (WHERE b.kind IN ('liability', 'income')), 0);
COMMENT ON VIEW billing.ledger_imbalance IS
	'Where ledger and documents disagree, or a document with itself: empty at any moment, or something is wrong with us. what: the check; '
	'object_id: the invoice, payment or customer. Minor units, without a limit, so that no sum of one document breaks the check of all.';

CREATE VIEW billing.ledger_provider_differences AS
	SELECT 'figures of the invoice' AS what, s.invoice_id, i.organization_id, i.provider, i.account, s.currency, s.livemode, sum(s.amount) AS amount
	FROM billing.ledger_sides AS s
	JOIN billing.invoices AS i ON i.id = s.invoice_id
	WHERE s.account = 'provider_differences'
	GROUP BY s.invoice_id, i.organization_id, i.provider, i.account, s.currency, s.livemode
	HAVING sum(s.amount) <> 0
	UNION ALL
	SELECT 'payments of the invoice', s.invoice_id, i.organization_id, i.provider, i.account, s.currency, s.livemode, - sum(s.amount)
	FROM billing.ledger_sides AS s
	JOIN billing.invoices AS i ON i.id = s.invoice_id
	WHERE s.account = 'unapplied' AND i.managed_by = 'provider'
	GROUP BY s.invoice_id, i.organization_id, i.provider, i.account, s.currency, s.livemode
	HAVING sum(s.amount) <> 0;
COMMENT ON VIEW billing.ledger_provider_differences IS
	'Invoices of providers whose figures do not add up: total, paid and owed as told (a balance that the customer has there, say), or '
	'what is paid of them by its payments (above 0: more has come than is told; below: payments are not told, or not yet).';

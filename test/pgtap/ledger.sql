-- The ledger: what each change of a document moves, and that it agrees with the documents.
\ir helpers.psql
SELECT plan(19);

CREATE FUNCTION moved(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(format('%s %s>%s %s', m.kind, m.credit, m.debit, m.amount), ', ' ORDER BY m.kind, m.credit, m.amount)
		FROM (SELECT l.kind, l.credit, l.debit, sum(l.amount) AS amount FROM billing.ledger AS l WHERE l.organization_id = organization
			  GROUP BY l.kind, l.credit, l.debit) AS m);

SELECT is(ARRAY(SELECT a.account FROM billing.ledger_accounts AS a ORDER BY a.account),
		  (SELECT array_agg(x ORDER BY x) FROM pg_constraint AS k
		   CROSS JOIN LATERAL unnest(substring(pg_get_constraintdef(k.oid) FROM '\{.*\}')::text[]) AS x
		   WHERE k.conrelid = 'billing.ledger'::regclass AND pg_get_constraintdef(k.oid) ~ '\(debit = ANY'),
		  'a movement is between accounts that there are');

-- ---------------------------------------------------------------------------
-- Payments without an invoice

SELECT billing.create_customer('sale', 'sale@example.com', 'Sale', 'US', provider => 'sandbox', currency => 'USD') AS sale \gset
SELECT billing.create_payment_intent(:'sale', 5000, 'USD', payment_method => 'pm_card_visa') AS paid \gset
CALL billing.run_worker();
SELECT is(moved('sale'), 'payment sales>cash 5000', 'a payment without an invoice is a sale');
SELECT billing.create_refund(:'paid', 1200) AS refund \gset
CALL billing.run_worker();
SELECT is(moved('sale'), 'payment sales>cash 5000, refund cash>refunds 1200', 'a refund goes out of the same cash');
SELECT billing.sandbox_settle(:'refund', 'failed');
CALL billing.run_worker();
SELECT is(moved('sale'), 'payment sales>cash 5000, refund cash>refunds 1200, refund refunds>cash 1200', 'one that fails comes back by a movement of its own');
SELECT billing.sandbox_dispute(:'paid', 700);
CALL billing.run_worker();
SELECT ok(moved('sale') ~ 'dispute cash>disputes 700', 'a dispute takes its money');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');

-- ---------------------------------------------------------------------------
-- Our own invoices

SELECT billing.set_tax_rate('DE', 19, name => 'VAT');
SELECT billing.create_customer('ours', 'ours@example.com', 'Ours', 'DE', provider => 'sandbox', currency => 'USD') AS ours \gset
SELECT billing.attach_payment_method(:'ours', 'pm_card_visa');
SELECT billing.grant_credit('ours', 1000, 'USD'), billing.adjust_balance('ours', 451, 'sorry', 'USD');
CALL billing.advance_clock('ours', '1 day');
SELECT billing.subscribe('ours', 'pro', managed_by => 'local') AS subscription \gset
CALL billing.advance_clock('ours', '1 hour');
SELECT is(moved('ours'),
	'balance customer_balance>credits_given 451, balance receivable>customer_balance 451, invoice revenue>receivable 2900, '
	'invoice_payment receivable>unapplied 2000, payment unapplied>cash 2000, prepaid prepaid_credit>credits_given 1000, '
	'prepaid receivable>prepaid_credit 1000, tax tax_payable>receivable 551',
	'an invoice is owed, with its tax, less credit and balance, until it is paid');
SELECT is((SELECT i.id IS NOT NULL FROM billing.invoices AS i WHERE i.organization_id = 'ours' AND i.status = 'paid'), true, 'and is paid');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT is((SELECT b.balance FROM billing.ledger_balances AS b WHERE b.account = 'unapplied' AND b.currency = 'USD'), 0::numeric, 'nothing is left between payment and invoice');
SELECT billing.create_refund(p.id, 500) FROM billing.payment_intents AS p WHERE p.organization_id = 'ours';
CALL billing.run_worker();
SELECT is((SELECT sum(s.amount) FROM billing.ledger_sides AS s WHERE s.organization_id = 'ours' AND s.account = 'refunds'), 500::numeric, 'what is given back of a paid invoice is an expense');
SELECT is((SELECT sum(s.amount) FROM billing.ledger_sides AS s WHERE s.organization_id = 'ours' AND s.account = 'receivable'), 0::numeric, 'and nothing that is owed');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');

-- ---------------------------------------------------------------------------
-- It is kept

SELECT fails('UPDATE billing.ledger SET amount = 1', 'JB008', 'append-only', 'another movement', 'no row changes');
SELECT fails('DELETE FROM billing.ledger', 'JB008', 'append-only', NULL, 'none goes');
SELECT fails('TRUNCATE billing.ledger', 'JB008', 'append-only', NULL, 'and not all of them');
SELECT fails($$INSERT INTO billing.ledger (booked_at, organization_id, customer_id, livemode, kind, debit, credit, amount, currency)
	VALUES (now(), 'x', billing.new_id(), false, 'fee', 'cash', 'wallet', 1, 'USD')$$, '23514', 'ledger', NULL, 'an account that is none of ours is refused');
BEGIN;
ALTER TABLE billing.ledger DISABLE TRIGGER keep_ledger;
UPDATE billing.ledger SET amount = amount + 1 WHERE id = (SELECT l.id FROM billing.ledger AS l WHERE l.kind = 'invoice' LIMIT 1);
SELECT isnt_empty('SELECT * FROM billing.ledger_imbalance', 'what is wrong is seen');
ROLLBACK;
CREATE ROLE ledger_report;
SELECT billing.grant_access('ledger_report', 'report');
SET ROLE ledger_report;
SELECT isnt_empty('SELECT * FROM billing.ledger_entries', 'reports read it');
RESET ROLE;
SELECT * FROM finish();

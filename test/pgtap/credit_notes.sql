-- Credit notes: what is taken back of an invoice of ours, never more than was billed and paid.
\ir helpers.psql
SELECT plan(57);

SELECT billing.set_tax_rate('DE', 19, 'VAT', valid_from => '2020-01-01') IS NOT NULL AS ready \gset
SELECT billing.create_customer('acme', 'ana@acme.example', name => 'Acme', country => 'DE', currency => 'EUR') AS acme \gset
SELECT billing.attach_payment_method(:'acme', 'pm_card_visa') IS NOT NULL AS ready \gset
CALL billing.run_worker();

CREATE FUNCTION billed(lines jsonb, collection_method text DEFAULT 'send_invoice') RETURNS uuid
LANGUAGE sql
RETURN billing.create_invoice(billing.find_customer('acme'), lines, 'EUR', collection_method => collection_method);

CREATE FUNCTION line(invoice uuid, at integer) RETURNS uuid
LANGUAGE sql
RETURN (SELECT l.id FROM billing.invoice_lines AS l WHERE l.invoice_id = invoice AND l.position = at);

-- What a credit note says in short: subtotal tax total, applied balance refund.
CREATE FUNCTION note(id uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT format('%s %s %s, %s %s %s', n.subtotal, n.tax, n.total, n.amount_applied, n.balance_amount, n.refund_amount)
		FROM billing.credit_notes AS n WHERE n.id = note.id);

CREATE FUNCTION invoice(id uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT format('%s %s %s', i.status, i.amount_credited, i.amount_remaining) FROM billing.invoices AS i WHERE i.id = invoice.id);

CREATE FUNCTION balance() RETURNS bigint
LANGUAGE sql
RETURN coalesce((SELECT b.balance FROM billing.customer_balances AS b WHERE b.customer_id = billing.find_customer('acme')), 0);

-- ---------------------------------------------------------------------------
-- An open invoice

SELECT billed('[{"description": "Work", "amount": 1000}, {"description": "Travel", "amount": 333}]') AS open \gset
SELECT billing.create_invoice(:'acme', '[{"description": "Work", "amount": 1}]', 'EUR', finalize => false) AS draft \gset
SELECT fails(format($$SELECT billing.create_credit_note(%L)$$, :'draft'), 'JB008', 'is draft', 'can still be changed', 'a draft is not credited');
CALL billing.run_worker();
SELECT is((SELECT total || ' ' || tax FROM billing.invoices WHERE id = :'open'), '1586 253', '1333 and 19 % of it');

BEGIN;
SELECT billing.create_credit_note(:'open', jsonb_build_array(jsonb_build_object('line', line(:'open', 1), 'amount', 100)), reason => 'service_disruption', memo => 'sorry') AS part \gset
SELECT is(note(:'part'), '84 16 100, 100 0 0', 'the tax of a part goes back in proportion: 100 of 1190 has 15.97');
SELECT is(invoice(:'open'), 'open 100 1486', 'less is to be paid');
SELECT is((SELECT status FROM billing.get_credit_note(:'part')), 'draft', 'the number is not given yet');
SELECT is(billing.create_credit_note(:'open', amount => 5, idempotency_key => 'k'), billing.create_credit_note(:'open', amount => 5, idempotency_key => 'k'), 'one key makes one');
SELECT fails(format($$SELECT billing.create_credit_note(%L, amount => 6, idempotency_key => 'k')$$, :'open'), 'JB007', 'amount', NULL, 'and not another');
ROLLBACK;

SELECT billing.create_credit_note(:'open', jsonb_build_array(jsonb_build_object('line', line(:'open', 1), 'amount', 100)), reason => 'service_disruption', memo => 'sorry') AS part \gset
CALL billing.run_worker();
SELECT is((SELECT status || ' ' || number || ' ' || invoice_number FROM billing.get_credit_note(:'part')), 'issued TEST-CN-000001 TEST-INV-000001', 'the worker gives the number, from a series of its own');
SELECT results_eq(format('SELECT type FROM billing.events WHERE id = %L ORDER BY seq', :'part'), $$VALUES ('credit_note.created'), ('credit_note.issued')$$, 'both are events');
SELECT fails(format($$UPDATE billing.credit_notes SET memo = 'x' WHERE id = %L$$, :'part'), 'JB008', 'cannot change', 'create_invoice', 'it never changes');
SELECT fails(format($$UPDATE billing.credit_note_lines SET amount = 1 WHERE credit_note_id = %L$$, :'part'), 'JB008', 'cannot change', NULL, 'its lines do not change');
SELECT fails(format($$DELETE FROM billing.credit_notes WHERE id = %L$$, :'part'), 'JB008', 'cannot be deleted', NULL, 'it does not go');
SELECT fails(format($$DELETE FROM billing.credit_note_lines WHERE credit_note_id = %L$$, :'part'), 'JB008', 'cannot', NULL, 'nor do its lines');

SELECT fails(format($$SELECT billing.create_credit_note(%L, '[{"line": "%s", "amount": 1091}]')$$, :'open', line(:'open', 1)), '22023', 'left of the line', 'Leave amount out', 'not more than is left of a line');
SELECT fails(format($$SELECT billing.create_credit_note(%L, amount => 1487)$$, :'open'), '22023', 'left of the invoice', NULL, 'not more than is left of the invoice');
SELECT fails(format($$SELECT billing.create_credit_note(%L, amount => 0)$$, :'open'), '22023', 'amount must be from 1', NULL, 'nor nothing');
SELECT fails(format($$SELECT billing.create_credit_note(%L, '[{"line": "%s"}, {"line": "%s"}]')$$, :'open', line(:'open', 1), line(:'open', 1)), '22023', 'named twice', NULL, 'a line is named once');
SELECT fails(format($$SELECT billing.create_credit_note(%L, '[{"line": "%s"}]')$$, :'open', line(:'open', 3)), '22023', 'cannot be taken back', 'Discounts, taxes', 'the line of the tax goes with the others');
SELECT fails(format($$SELECT billing.create_credit_note(%L, '[]')$$, :'open'), '22023', 'at least one line', NULL, 'some line');
SELECT fails(format($$SELECT billing.create_credit_note(%L, '[{"line": "%s", "amount": 1.5}]')$$, :'open', line(:'open', 1)), '22023', 'whole number', 'minor units', 'whole minor units');
SELECT fails(format($$SELECT billing.create_credit_note(%L, '[{"line": "%s"}]', 5)$$, :'open', line(:'open', 1)), '22023', 'given both', NULL, 'lines or an amount');
SELECT fails(format($$SELECT billing.create_credit_note(%L, destination => 'moon')$$, :'open'), '22023', 'destination', 'balance', 'destinations are two');
SELECT fails(format($$SELECT billing.create_credit_note(%L, reason => 'because')$$, :'open'), '22023', 'reason', 'duplicate', 'reasons are known');
SELECT fails(format($$SELECT billing.create_credit_note(%L, memo => '4242424242424242')$$, :'open'), 'JB009', '.', NULL, 'no card number');
SELECT fails($$SELECT billing.create_credit_note(NULL)$$, '23502', 'invoice_id', NULL, 'an invoice is named');
SELECT fails($$SELECT billing.create_credit_note('00000000-0000-0000-0000-000000000000')$$, 'JB005', 'unknown invoice', NULL, 'one that there is');

SELECT billing.create_credit_note(:'open') AS rest \gset
SELECT is(note(:'rest'), '1249 237 1486, 1486 0 0', 'all that is left, with the last of the tax: 253 - 16');
SELECT is(invoice(:'open'), 'paid 1586 0', 'nothing is to be paid any more');
SELECT is((SELECT count(*) FROM billing.events WHERE id = :'open' AND type = 'invoice.paid'), 1::bigint, 'which is told');
SELECT fails(format($$SELECT billing.create_credit_note(%L)$$, :'open'), 'JB008', 'nothing is left', 'list_credit_notes', 'there is no more');
SELECT is((SELECT sum(n.total) || ' ' || sum(n.tax) FROM billing.list_credit_notes('acme') AS n WHERE n.invoice_id = :'open'), '1586 253', 'together they mirror the invoice');
SELECT is(balance(), 0::bigint, 'nothing was paid, nothing is given back');

-- ---------------------------------------------------------------------------
-- A paid one, to the balance

SELECT billed('[{"description": "Work", "amount": 1000}, {"description": "Books", "amount": 501}, {"description": "Rebate", "amount": -100}]') AS outside \gset
CALL billing.run_worker();
SELECT billing.mark_invoice_paid(:'outside', 'bank transfer') IS NULL AS ready \gset
SELECT is((SELECT status || ' ' || total || ' ' || tax FROM billing.invoices WHERE id = :'outside'), 'paid 1667 266', '1401 and 266.19');
SELECT fails(format($$SELECT billing.create_credit_note(%L, destination => 'refund')$$, :'outside'), '22023', 'above what was paid', 'balance', 'what came by other ways is not refunded by a provider');
SELECT billing.create_credit_note(:'outside', amount => 1000) AS spread \gset
SELECT is((SELECT sum(amount) || ' ' || sum(tax) FROM billing.credit_note_lines WHERE credit_note_id = :'spread'), (SELECT subtotal || ' ' || tax FROM billing.credit_notes WHERE id = :'spread'), 'an amount is spread over the lines, which add up');
SELECT is(note(:'spread'), '840 160 1000, 0 1000 0', '1000 of 1667 has 159.57 of 266');
SELECT is((SELECT count(*) FROM billing.credit_note_lines WHERE credit_note_id = :'spread' AND amount < 0), 1::bigint, 'a rebate on it goes with them');
SELECT is(balance(), 1000::bigint, 'it is in the balance');
SELECT billing.create_credit_note(:'outside') AS spread_rest \gset
SELECT is(note(:'spread_rest'), '561 106 667, 0 667 0', 'and the rest');
SELECT is((SELECT sum(c.amount) || ' ' || sum(c.tax) FROM billing.credit_note_lines AS c WHERE c.invoice_line_id = line(:'outside', 3)), (SELECT l.amount || ' ' || l.tax FROM billing.invoice_lines AS l WHERE l.id = line(:'outside', 3)), 'each line is mirrored exactly');
SELECT is(balance(), 1667::bigint, 'all of it is in the balance');
CALL billing.run_worker();
SELECT is((SELECT string_agg(number, ' ' ORDER BY marked_at, id) FROM billing.credit_notes), 'TEST-CN-000001 TEST-CN-000002 TEST-CN-000003 TEST-CN-000004', 'they are numbered in their order, without a gap');

-- ---------------------------------------------------------------------------
-- A paid one, back to the card

SELECT billing.create_customer('beta', 'b@beta.example', country => 'US', currency => 'USD') AS beta \gset
SELECT billing.attach_payment_method(:'beta', 'pm_card_visa') IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT billing.create_invoice(:'beta', '[{"description": "Seats", "amount": 5000}]', 'USD', collection_method => 'charge_automatically') AS card \gset
CALL billing.run_worker();
SELECT is((SELECT status || ' ' || amount_paid FROM billing.invoices WHERE id = :'card'), 'paid 5000', 'an invoice that was charged');
SELECT billing.create_credit_note(:'card', amount => 2000, reason => 'duplicate', destination => 'refund') AS back \gset
SELECT is(note(:'back'), '2000 0 2000, 0 0 2000', 'is paid back');
CALL billing.run_worker();
SELECT is((SELECT f.status || ' ' || f.amount || ' ' || f.reason FROM billing.refunds AS f WHERE f.credit_note_id = :'back'), 'succeeded 2000 duplicate', 'by a refund');
SELECT is((SELECT cardinality(refund_ids) FROM billing.get_credit_note(:'back')), 1, 'that the credit note names');
SELECT is(invoice(:'card'), 'paid 0 0', 'the invoice stays paid');
SELECT billing.create_refund((SELECT id FROM billing.payment_intents WHERE invoice_id = :'card'), 2500) IS NOT NULL AS ready \gset
CALL billing.run_worker();
SELECT fails(format($$SELECT billing.create_credit_note(%L)$$, :'card'), '22023', 'above what was paid', 'by itself gets no credit note', 'what was refunded by itself is not given twice');
SELECT is(note(billing.create_credit_note(:'card', amount => 500)), '500 0 500, 0 500 0', 'what was kept is');

-- ---------------------------------------------------------------------------
-- What a proration has given back already

SELECT billing.subscribe('beta', 'pro', managed_by => 'provider') AS subscription \gset
SELECT billed('[{"description": "Plan", "amount": 1000}]') AS prorated \gset
CALL billing.run_worker();
INSERT INTO billing.invoice_lines (kind, subscription_id, description, amount, tax, tax_rate_id, reverses)
SELECT 'proration_credit', :'subscription', 'Unused time', -400, -76, l.tax_rate_id, l.id FROM billing.invoice_lines AS l WHERE l.id = line(:'prorated', 1);
SELECT fails(format($$SELECT billing.create_credit_note(%L, amount => 715)$$, :'prorated'), '22023', 'left of the invoice', NULL, 'what a proration credit gives back is not given twice');
SELECT is(note(billing.create_credit_note(:'prorated')), '600 114 714, 0 714 0', 'the rest of the line is, with the rest of its tax; what the balance paid goes back to it');

-- ---------------------------------------------------------------------------
-- One that was given up

SELECT billing.create_invoice(:'acme', '[{"description": "Work", "amount": 2000}]', 'CHF') AS lost \gset
CALL billing.run_worker();
SELECT billing.mark_invoice_uncollectible(:'lost');
SELECT billing.create_credit_note(:'lost', amount => 1190) AS half \gset
SELECT is(note(:'half') || ', ' || invoice(:'lost'), '1000 190 1190, 1190 0 0, uncollectible 1190 1190', 'what was given up can be taken back, with its tax');
SELECT is((SELECT sum(s.amount) FROM billing.ledger_sides AS s WHERE s.invoice_id = :'lost' AND s.account = 'bad_debt'), 1190::numeric, 'then so much less is lost');
SELECT fails(format($$SELECT billing.create_credit_note(%L, amount => 1191)$$, :'lost'), '22023', 'what is left of the invoice', NULL, 'not more than was given up');
SELECT is(note(billing.create_credit_note(:'lost')), '1000 190 1190, 1190 0 0', 'and the rest of it');
SELECT is(invoice(:'lost'), 'paid 2380 0', 'then nothing is left to pay');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

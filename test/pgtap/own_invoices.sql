-- Invoices of our own: what they add up to, their numbers, what of them can
-- change, and what is refused.
\ir helpers.psql
SELECT plan(113);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_customer(o, o || '@b.example', initcap(o), currency => 'EUR', country => 'DE',
							   tax_ids => '[{"type": "eu_vat", "value": "DE123456789"}]') FROM unnest('{acme,umbrella,taxed,empty}'::text[]) AS o;

CREATE FUNCTION invoice_of(organization text, lines jsonb) RETURNS uuid
LANGUAGE sql
RETURN billing.create_invoice(billing.find_customer(organization), lines);
CREATE FUNCTION numbers(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(i.series_number || ' ' || i.status, ', ' ORDER BY i.series_number) FROM billing.invoices AS i WHERE i.organization_id = organization);
-- What the lines add up to, by the rule of the table's comment.
CREATE FUNCTION adds_up(invoice billing.invoices) RETURNS boolean
LANGUAGE sql
RETURN (SELECT sum(l.amount) FILTER (WHERE l.kind NOT IN ('credit', 'balance')) = invoice.total AND sum(l.amount) = invoice.amount_due
			   AND coalesce(sum(l.amount) FILTER (WHERE l.kind NOT IN ('credit', 'balance', 'discount', 'tax')), 0) = invoice.subtotal
			   AND coalesce(-sum(l.amount) FILTER (WHERE l.kind = 'discount'), 0) = invoice.discount
			   AND coalesce(sum(l.discount), 0) = invoice.discount
			   AND coalesce(sum(l.tax) FILTER (WHERE l.kind = 'tax'), 0) = invoice.tax
			   AND coalesce(sum(l.tax) FILTER (WHERE l.kind <> 'tax'), 0) = invoice.tax
			   AND coalesce(-sum(l.amount) FILTER (WHERE l.kind = 'credit'), 0) = invoice.credit_used
			   AND coalesce(-sum(l.amount) FILTER (WHERE l.kind = 'balance'), 0) = invoice.balance_used
			   AND min(l.position) = 1 AND max(l.position) = count(*)
		FROM billing.invoice_lines AS l WHERE l.invoice_id = invoice.id);

-- ---------------------------------------------------------------------------
-- From the call to the number

-- in one transaction, as the worker is quick
BEGIN;
SELECT invoice_of('acme', '[{"description": "Setup", "amount": 9900}, {"description": "Hours", "quantity": 2.5, "unit_amount": 1999.99}]') AS first \gset
SELECT is((SELECT status || ' ' || (marked_at IS NOT NULL) || ' ' || coalesce(number, '-') FROM billing.get_invoice(:'first')), 'draft true -', 'an invoice is made final without a number');
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT status || ' ' || number FROM billing.get_invoice(:'first')), 'open TEST-INV-000001', 'the worker gives it, and the invoice is open');
SELECT is((SELECT total FROM billing.get_invoice(:'first')), 14900::bigint, '2.5 hours at 19.9999 are 50.00');
SELECT is((SELECT due_at - issued_at FROM billing.get_invoice(:'first')), interval '30 days', 'it is due by the setting');
SELECT is((SELECT amount_due || ' ' || amount_paid || ' ' || amount_remaining FROM billing.get_invoice(:'first')), '14900 0 14900', 'all of it is to be paid');
SELECT is((SELECT next_attempt_at = due_at FROM billing.get_invoice(:'first')), true, 'nobody charges what is sent before it is due');
SELECT is((SELECT string_agg(type || ' ' || before_state || '-' || after_state, ', ' ORDER BY seq) FROM billing.events WHERE id = :'first'), 'invoice.finalized draft-open, invoice.sent open-open', 'the application is told');
SELECT is((SELECT billing.decrypt(i.buyer, 'invoices.buyer', i.id)::jsonb FROM billing.invoices AS i WHERE i.id = :'first'),
		  '{"organization_id": "acme", "name": "Acme", "email": "acme@b.example", "country": "DE", "tax_exempt": "none", "tax_ids": [{"type": "eu_vat", "value": "DE123456789"}]}'::jsonb, 'the buyer is copied');
SELECT unalike((SELECT encode(buyer, 'escape') FROM billing.invoices WHERE id = :'first'), '%Acme%', 'and sealed');
SELECT is((SELECT seller ->> 'seller' FROM billing.get_invoice(:'first')), 'default', 'so is the seller');
SELECT results_eq(format($$SELECT position, kind, description, amount FROM billing.invoice_lines_of(%L)$$, :'first'),
	$$VALUES (1, 'one_time', 'Setup', 9900::bigint), (2, 'one_time', 'Hours', 5000)$$, 'its lines are as they were given');

SELECT invoice_of('acme', '[{"description": "A gift", "amount": 0}]') AS gift \gset
CALL billing.run_worker();
SELECT is((SELECT status || ' ' || number || ' ' || (paid_at = issued_at) FROM billing.get_invoice(:'gift')), 'paid TEST-INV-000002 true', 'what costs nothing is paid');
SELECT is((SELECT string_agg(type, ', ' ORDER BY seq) FROM billing.events WHERE id = :'gift'), 'invoice.finalized, invoice.paid', 'and said to be');
SELECT billing.create_invoice(billing.find_customer('acme'), '[{"description": "Card", "amount": 500}]', collection_method => 'charge_automatically') AS charged \gset
SELECT is((SELECT collection_method FROM billing.get_invoice(:'charged')), 'charge_automatically', 'one may be charged');
SELECT billing.create_invoice(billing.find_customer('acme'), '[{"description": "Soon", "amount": 500}]', days_until_due => 7, memo => 'Thank you', metadata => '{"po": "4711"}') AS soon \gset
CALL billing.run_worker();
SELECT is((SELECT (due_at - issued_at) || ' ' || memo || ' ' || metadata FROM billing.invoices WHERE id = :'soon'), '7 days Thank you {"po": "4711"}', 'with days, a memo and metadata');

-- ---------------------------------------------------------------------------
-- Drafts

SELECT billing.create_invoice(billing.find_customer('acme'), '[{"description": "Later", "amount": 700}, {"description": "Less", "amount": -200}]', finalize => false) AS draft \gset
CALL billing.run_worker();
SELECT is((SELECT status || ' ' || total || ' ' || (marked_at IS NULL) FROM billing.get_invoice(:'draft')), 'draft 500 true', 'a draft waits');
BEGIN;
SELECT billing.finalize_invoice(:'draft');
SELECT lives_ok(format('SELECT billing.finalize_invoice(%L)', :'draft'), 'to make it final twice is harmless');
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT status || ' ' || total FROM billing.get_invoice(:'draft')), 'open 500', 'finalize_invoice() makes it final');
SELECT fails(format('SELECT billing.finalize_invoice(%L)', :'draft'), 'JB008', 'is open', 'Only a draft', 'which cannot be done to what is open');
SELECT billing.create_invoice(billing.find_customer('empty'), '[{"description": "Never", "amount": 700}]', finalize => false) AS never \gset
SELECT billing.void_invoice(:'never');
CALL billing.run_worker();
SELECT is((SELECT status || ' ' || coalesce(number, '-') FROM billing.get_invoice(:'never')), 'void -', 'a draft is voided without a number');
INSERT INTO billing.invoices (customer_id, organization_id, provider, account, livemode, status, managed_by, billing_reason, currency, subtotal, discount,
							  total, tax, credit_used, balance_used, amount_due, amount_remaining, collection_method, issued_at)
SELECT c.id, c.organization_id, c.provider, c.account, false, 'draft', 'local', 'manual', 'EUR', 0, 0, 0, 0, 0, 0, 0, 0, 'send_invoice', now()
FROM billing.customers AS c WHERE c.organization_id = 'empty' RETURNING id AS nothing \gset
SELECT billing.finalize_invoice(:'nothing');
SELECT is((SELECT count(*) FROM billing.get_invoice(:'nothing')), 0::bigint, 'one without a line is dropped: there is never an empty invoice');

-- ---------------------------------------------------------------------------
-- Numbers have no gaps, whatever becomes of transactions

BEGIN;
SELECT invoice_of('umbrella', '[{"description": "Never was", "amount": 1}]');
ROLLBACK;
DO $$
BEGIN
	FOR i IN 1 .. 20 LOOP
		BEGIN
			PERFORM invoice_of('umbrella', '[{"description": "Perhaps", "amount": 100}]');
			IF i % 3 = 0 THEN
				RAISE EXCEPTION 'no';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END
$$;
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.invoices WHERE organization_id = 'umbrella' AND status = 'open'), 14::bigint, 'what was rolled back is not there');
SELECT is((SELECT max(series_number) - count(*) FROM billing.invoices WHERE series_id IS NOT NULL), 0::bigint, 'and left no gap');
SELECT is((SELECT next_number - 1 FROM billing.invoice_series), (SELECT max(series_number) FROM billing.invoices), 'the series goes on after the last one');
SELECT is((SELECT count(*) FROM billing.invoices AS a JOIN billing.invoices AS b ON b.series_id = a.series_id AND b.series_number > a.series_number AND b.issued_at < a.issued_at), 0::bigint, 'dates ascend with numbers');

-- ---------------------------------------------------------------------------
-- Sellers

SELECT billing.set_seller('Acme Billing GmbH', seller => 'eu', address => '{"city": "Berlin"}', country => 'de', tax_ids => '[{"type": "eu_vat", "value": "DE1"}]',
						  footer => 'Handelsregister', invoice_pattern => 'R{year}-{number:4}', credit_note_pattern => 'G{year}-{number:4}', restart_yearly => true);
SELECT billing.create_invoice(billing.find_customer('acme'), '[{"description": "There", "amount": 100}]', seller => 'eu') AS there \gset
CALL billing.run_worker();
SELECT is((SELECT number FROM billing.get_invoice(:'there')), 'TEST-R' || extract(year FROM now()) || '-0001', 'each seller has numbers of his own');
SELECT is((SELECT seller FROM billing.get_invoice(:'there')), '{"seller": "eu", "name": "Acme Billing GmbH", "address": {"city": "Berlin"}, "country": "DE", "tax_ids": [{"type": "eu_vat", "value": "DE1"}],
	"footer": "Handelsregister", "timezone": "UTC"}'::jsonb, 'and is copied');
SELECT billing.set_seller('Acme Europe GmbH', seller => 'eu', is_default => true);
SELECT is((SELECT seller ->> 'name' FROM billing.get_invoice(:'there')), 'Acme Billing GmbH', 'as he was then');
SELECT invoice_of('acme', '[{"description": "Here", "amount": 100}]') AS here \gset
CALL billing.run_worker();
SELECT is((SELECT number || ' ' || (seller ->> 'name') FROM billing.get_invoice(:'here')), 'TEST-R' || extract(year FROM now()) || '-0002 Acme Europe GmbH', 'the default one issues what names none');
SELECT fails($$SELECT billing.set_seller('Acme', seller => 'eu', restart_yearly => false)$$, 'JB008', 'has issued numbers', 'another seller', 'how numbers restart stays when there are some');
SELECT fails($$SELECT billing.set_seller('Acme', seller => 'eu', is_default => false)$$, 'JB008', 'is the default', 'another one', 'there is always a default one');
SELECT fails($$SELECT billing.set_seller(NULL)$$, '23502', 'name must be given', NULL, 'he has a name');
SELECT fails($$SELECT billing.set_seller('A', country => 'XX')$$, '22023', 'unknown country', 'ISO 3166', 'and a country that there is');
SELECT fails($$SELECT billing.set_seller('A', timezone => 'Mars')$$, '22023', 'unknown time zone', NULL, 'or a time zone');
SELECT fails(format('SELECT billing.set_seller(''A'', seller => ''c'', invoice_pattern => %L)', p), '22023', 'is no pattern of numbers', 'INV-\{number:6\}', format('a pattern has one number: %s', p))
FROM unnest(ARRAY['INV', '', '{number:6}{number:0}{nu', '{number}-{number:4}', '{Number}', 'INV-{number} {month}', E'INV\n{number}', repeat('x', 40) || '{number}']) AS p;
SELECT fails($$SELECT billing.set_seller('A', seller => 'c', restart_yearly => true)$$, '22023', 'pattern "INV-\{number:6\}" has no year', 'R\{year\}', 'and a year where it restarts');
SELECT fails($$SELECT billing.set_seller('A', seller => 'c', credit_note_pattern => 'INV-{number:4}')$$, '22023', 'have the same pattern', 'differ', 'and no number comes twice');
SELECT fails(format('SELECT billing.set_seller(''A'', seller => ''c'', tax_ids => %L)', t), '22023', 'tax_ids', 'eu_vat', format('tax ids are that: %s', t))
FROM unnest(ARRAY['[5]', '[null]', '[{"a": 1}]', '[{"type": "eu_vat", "value": 5}]', '[{"type": "eu_vat", "value": " "}]', '{"type": "eu_vat", "value": "DE1"}', '"DE1"', 'null']) AS t;
SELECT fails($$SELECT billing.set_seller('A', address => '[]')$$, '22023', 'address is not an object', 'line1', 'an address is one');
SELECT fails($$SELECT billing.set_seller(' ')$$, '22023', 'name is empty', 'printed', 'a name is one');
SELECT fails($$SELECT billing.set_seller('A', seller => 'No Name')$$, '22023', 'no short name', 'argument name', 'a short name is short');
SELECT fails($$SELECT billing.set_seller('A', first_number => 0)$$, '22023', 'first_number', NULL, 'numbers begin with 1 at least');
SELECT is(billing.set_seller('Acme Europe GmbH', seller => 'eu'), 'eu', 'who is set is told');
SELECT fails($$SELECT billing.set_seller('4242 4242 4242 4242')$$, 'JB009', 'card number', NULL, 'and no card number');
SELECT is((SELECT count(*) FROM billing.sellers), 2::bigint, 'what is refused leaves nothing');

-- ---------------------------------------------------------------------------
-- What is final stays

SELECT fails(format('UPDATE billing.invoices SET %I = %s WHERE id = %L', c.name, c.value, :'first'), 'JB008', 'TEST-INV-000001.* is final', 'credit note', c.name || ' cannot change')
FROM (VALUES ('total', '1'), ('amount_due', '1'), ('tax', '1'), ('number', $$'X'$$), ('issued_at', 'now()'), ('due_at', 'NULL'), ('buyer', 'NULL'), ('seller', 'NULL'),
			 ('status', $$'draft'$$), ('managed_by', $$'provider'$$), ('memo', $$'other'$$)) AS c (name, value);
SELECT fails(format('UPDATE billing.invoice_lines SET amount = 1 WHERE invoice_id = %L', :'first'), 'JB008', 'is final', 'credit note', 'nor can a line');
SELECT fails(format('DELETE FROM billing.invoice_lines WHERE invoice_id = %L', :'first'), 'JB008', 'is final', 'credit note', 'none goes');
SELECT fails(format($$INSERT INTO billing.invoice_lines (invoice_id, position, kind, description, amount) VALUES (%L, 9, 'one_time', 'More', 1)$$, :'first'), 'JB008', 'is final', 'credit note', 'and none comes');
SELECT fails(format('DELETE FROM billing.invoices WHERE id = %L', :'first'), 'JB008', 'cannot be deleted', 'void_invoice', 'it cannot be deleted');
BEGIN;
SELECT invoice_of('acme', '[{"description": "Marked", "amount": 100}]') AS marked \gset
SELECT fails(format('UPDATE billing.invoices SET total = 1 WHERE id = %L', :'marked'), 'JB008', 'is final', NULL, 'one that waits for its number stays as well');
SELECT fails(format('UPDATE billing.invoice_lines SET amount = 1 WHERE invoice_id = %L', :'marked'), 'JB008', 'is final', NULL, 'with its lines');

-- ---------------------------------------------------------------------------
-- Void and uncollectible

SELECT billing.void_invoice(:'marked');
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT status || ' ' || coalesce(number, '-') FROM billing.get_invoice(:'marked')), 'void -', 'voided before its number came, it gets none');
SELECT billing.mark_invoice_uncollectible(:'first');
SELECT is((SELECT status FROM billing.get_invoice(:'first')), 'uncollectible', 'an open one is given up');
SELECT billing.void_invoice(:'first');
SELECT is((SELECT status || ' ' || number || ' ' || (voided_at IS NOT NULL) FROM billing.get_invoice(:'first')), 'void TEST-INV-000001 true', 'or voided, and keeps its number');
SELECT is((SELECT string_agg(type, ', ' ORDER BY seq) FROM billing.events WHERE id = :'first'), 'invoice.finalized, invoice.sent, invoice.uncollectible, invoice.void', 'all of it is told');
SELECT fails(format('SELECT billing.void_invoice(%L)', :'first'), 'JB008', 'is void', NULL, 'once');
SELECT fails(format('SELECT billing.void_invoice(%L)', :'gift'), 'JB008', 'is paid', 'create_credit_note', 'what is paid is not voided');
SELECT fails(format('SELECT billing.mark_invoice_uncollectible(%L)', :'gift'), 'JB008', 'is paid', NULL, 'nor given up');
SELECT fails('SELECT billing.void_invoice(billing.new_id())', 'JB005', 'unknown invoice', NULL, 'one that is not there is unknown');

-- ---------------------------------------------------------------------------
-- Tax and prepaid credit

SELECT billing.set_tax_rate('DE', 19, 'USt.') AS rate \gset
SELECT invoice_of('taxed', '[{"description": "A", "amount": 33}, {"description": "B", "amount": 33}, {"description": "C", "amount": 34}, {"description": "Postage", "amount": 500, "tax": false}]') AS taxed \gset
SELECT is((SELECT subtotal || ' ' || tax || ' ' || total FROM billing.get_invoice(:'taxed')), '600 19 619', 'tax is on the sum of its lines');
SELECT results_eq(format($$SELECT kind, amount, tax, quantity, unit_amount FROM billing.invoice_lines_of(%L)$$, :'taxed'),
	$$VALUES ('one_time', 33::bigint, 6::bigint, NULL::numeric, NULL::numeric), ('one_time', 33, 6, NULL, NULL), ('one_time', 34, 7, NULL, NULL), ('one_time', 500, 0, NULL, NULL), ('tax', 19, 19, 19, 100)$$,
	'spread over them, and a line of its own');
SELECT billing.grant_credit('taxed', 1000, 'EUR');
SELECT invoice_of('taxed', '[{"description": "A", "amount": 1000}]') AS credited \gset
SELECT is((SELECT total || ' ' || credit_used || ' ' || amount_due FROM billing.get_invoice(:'credited')), '1190 1000 190', 'prepaid credit pays what it can');
CALL billing.run_worker();
SELECT billing.void_invoice(:'credited');
SELECT invoice_of('taxed', '[{"description": "A", "amount": 1000}]') AS again \gset
SELECT is((SELECT credit_used FROM billing.get_invoice(:'again')), 1000::bigint, 'and comes back when its invoice is voided');
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.invoices AS i WHERE i.managed_by = 'local' AND NOT adds_up(i)), 0::bigint, 'all invoices add up');

SELECT invoice_of('acme', '[{"description": "Setup", "amount": "9900"}, {"description": "Hours", "quantity": "2.5", "unit_amount": "1999.99"}]') AS strings \gset
SELECT is((SELECT subtotal FROM billing.invoices WHERE id = :'strings'),
	14900::bigint, 'numbers may be strings: 99.00 and 49.99975');

-- ---------------------------------------------------------------------------
-- What is refused

SELECT fails(format('SELECT invoice_of(%L, %L)', 'acme', l.lines), l.code, l.message, NULL, l.message)
FROM (VALUES ('[]', '22023', 'not an array of 1 to 1000'), ('{}', '22023', 'not an array'), ('[1]', '22023', 'line 1 is not an object'),
			 ('[{"amount": 1}]', '22023', 'line 1 has no description'), ('[{"description": "A"}]', '22023', 'line 1 has no amount'),
			 ('[{"description": "A", "amount": 1.5}]', '22023', 'has an amount that cannot be used'),
			 ('[{"description": "A", "amount": "1.5"}]', '22023', 'has an amount that cannot be used'),
			 ('[{"description": "A", "amount": "much"}]', '22023', 'has an amount that cannot be used'),
			 ('[{"description": "A", "amount": 1, "quantity": 2}]', '22023', 'has an amount and more'),
			 ('[{"description": "A", "unit_amount": 1, "quantity": -2}]', '22023', 'a quantity below 0'),
			 ('[{"description": "A", "unit_amount": "1e4"}]', '22023', 'a unit_amount that cannot be used'),
			 ('[{"description": "A", "amount": 9223372036854775807}, {"description": "A", "amount": 1}]', '22023', 'line 1 is too large'),
			 ('[{"description": "A", "amount": 1}, {"description": "B", "amount": -2}]', '22023', 'cannot be below 0'),
			 ('[{"description": "A", "amount": 1, "taxes": 1}]', '22023', 'unknown member "taxes"'),
			 ('[{"description": "A", "amount": 1, "tax": "no"}]', '22023', 'a tax that cannot be used'),
			 ('[{"description": "4242 4242 4242 4242", "amount": 1}]', 'JB009', 'card number')) AS l (lines, code, message);
SELECT fails($$SELECT billing.create_invoice(billing.new_id(), '[{"description": "A", "amount": 1}]')$$, 'JB005', 'unknown customer', NULL, 'a customer who is not there');
SELECT fails(format($$SELECT billing.create_invoice(%L, '[{"description": "A", "amount": 1}]', seller => 'nobody')$$, billing.find_customer('acme')), 'JB005', 'unknown seller', 'set_seller', 'a seller who is not there');
SELECT fails(format($$SELECT billing.create_invoice(%L, '[{"description": "A", "amount": 1}]', days_until_due => -1)$$, billing.find_customer('acme')), '22023', 'days_until_due', NULL, 'days below 0');
SELECT fails(format($$SELECT billing.create_invoice(%L, '[{"description": "A", "amount": 1}]', days_until_due => 1, collection_method => 'charge_automatically')$$, billing.find_customer('acme')),
			 '22023', 'sent', NULL, 'days until due of what is charged');
SELECT billing.create_invoice(billing.find_customer('acme'), '[{"description": "Once", "amount": 1}]', idempotency_key => 'k') AS once \gset
SELECT is(billing.create_invoice(billing.find_customer('acme'), '[{"description": "Once", "amount": 1}]', idempotency_key => 'k'), :'once', 'the same key makes one invoice');
SELECT fails(format($$SELECT billing.create_invoice(%L, '[{"description": "Twice", "amount": 1}]', idempotency_key => 'k')$$, billing.find_customer('acme')), 'JB007', 'lines', NULL, 'and another call with it is refused');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

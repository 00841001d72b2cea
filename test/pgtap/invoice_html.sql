-- Printed invoices and credit notes: well-formed, whole in themselves, nothing unescaped.
\ir helpers.psql
SELECT plan(52);

CREATE FUNCTION at(html text, path text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(x::text, '|') FROM unnest(xpath(path, xmlparse(DOCUMENT html), ARRAY[ARRAY['h', 'http://www.w3.org/1999/xhtml']])) AS x);
CREATE FUNCTION words(html text) RETURNS text
LANGUAGE sql
RETURN replace(regexp_replace(html, '<[^>]*>', ' ', 'g'), '&#160;', ' ');

SELECT billing.set_seller('Sales & "Sons" <GmbH>', address => '{"line1": "Weg 1", "line2": "Hof", "postal_code": "10115", "city": "Berlin", "country": "DE"}',
	country => 'DE', tax_ids => '[{"type": "eu_vat", "value": "DE123456789"}]', email => 's@example.com', footer => 'HRB <1>');
SELECT billing.set_tax_rate('DE', 19, 'VAT', valid_from => '2020-01-01') IS NOT NULL AS ready \gset
SELECT billing.create_customer('acme', 'ana@acme.example', name => E'<script>alert("x")</script> & \'Co\' \u0001\uFFFE ]]>', country => 'DE', currency => 'EUR',
	tax_ids => '[{"type": "eu_vat", "value": "DE<987>"}]', address => '{"line1": "</p><b>", "postal_code": "1", "city": "A&B"}', timezone => 'America/Mexico_City') AS acme \gset

SELECT billing.create_invoice(:'acme', '[
	{"description": "Seats <b>&amp;</b>", "quantity": 1234567.5, "unit_amount": "1.25", "period_start": "2026-01-01 06:00+00", "period_end": "2026-02-01 06:00+00"},
	{"description": "Rebate", "amount": -100000}]', 'EUR', memo => E'Two\n<lines> & "quotes"', finalize => false) AS draft \gset
SELECT billing.invoice_html(:'draft') AS html \gset
SELECT ok(xml_is_well_formed_document(:'html'), 'a draft is well-formed');
SELECT is(at(:'html', '//h:div[@class="mark"]/text()'), 'Draft', 'it is marked');
SELECT is(at(:'html', '//h:section[@class="seller"]/h:p[@class="name"]/text()'), 'Sales &amp; "Sons" &lt;GmbH&gt;', 'with the seller as he is');
SELECT ok(words(:'html') !~ 'Remaining', 'nothing was paid of a draft');
SELECT billing.finalize_invoice(:'draft') IS NULL AS ready \gset
CALL billing.run_worker();

SELECT billing.invoice_html(:'draft') AS html \gset
SELECT ok(xml_is_well_formed_document(:'html'), 'an invoice is well-formed');
SELECT is(at(:'html', '//h:script'), NULL, 'without a script');
SELECT is(at(:'html', '//@src | //@href | //h:link | //h:img | //h:iframe'), NULL, 'it fetches nothing');
SELECT ok(:'html' !~* 'url\(|@import|javascript:|http://(?!www.w3.org/1999/xhtml)|https:', 'not in its style either');
SELECT is(at(:'html', '//h:b | //h:i'), NULL, 'nothing that was written becomes markup');
SELECT is(at(:'html', '/h:html/@lang'), 'en', 'its language is told');
SELECT is(at(:'html', '//h:title/text()'), 'Invoice TEST-INV-000001', 'it has a title');
SELECT is(at(:'html', '//h:h1/text()'), 'Invoice TEST-INV-000001', 'and says what it is');
SELECT is(at(:'html', '//h:div[@class="mark"]'), NULL, 'nothing is written across it');
SELECT is(at(:'html', '//h:p[@class="test"]/text()'), 'Test mode', 'but that it is of the test mode');
SELECT ok(at(:'html', '//h:section[@class="customer"]/h:p[@class="name"]/text()') LIKE '&lt;script&gt;alert("x")&lt;/script&gt; &amp; ''Co'' ' || U&'\FFFD\FFFD' || ' ]]&gt;', 'the name of the customer, whatever it is');
SELECT is(at(:'html', '//h:p[@class="tax-id"]/text()'), 'Tax ID: DE123456789|Tax ID: DE&lt;987&gt;', 'both tax ids');
SELECT is(at(:'html', '//h:section[@class="customer"]/h:p[@class="line"]/text()'), '&lt;/p&gt;&lt;b&gt;|1 A&amp;B|DE', 'the address');
SELECT is(at(:'html', '//h:dt[text()="Supply period"]/following-sibling::h:dd[1]/h:time/@datetime'), '2026-01-01|2026-01-31', 'the period in days of the customer''s zone, the last one included');
SELECT is(at(:'html', '//h:table[1]/h:thead//h:th/@scope'), 'col|col|col|col|col', 'columns have heads');
SELECT is(at(:'html', '//h:tbody//h:th[not(@scope)]'), NULL, 'and so have rows');
SELECT is(at(:'html', '//h:table[1]/h:tbody/h:tr[1]/h:th/text()'), 'Seats &lt;b&gt;&amp;amp;&lt;/b&gt;', 'a line says what it is for');
SELECT is(translate(at(:'html', '//h:table[1]/h:tbody/h:tr[1]/h:td[@class="n"]/text()'), U&'\00A0', '_'), '1_234_567.5|0.0125|15_432.09', 'quantity, price with its decimals, amount');
SELECT is(translate(at(:'html', '//h:table[1]/h:tbody/h:tr[2]/h:td[@class="n"]/text()'), U&'\00A0', '_'), '-1_000.00', 'a rebate is below 0');
SELECT is(translate(at(:'html', '//h:tr[@class="tax"]/h:th/text() | //h:tr[@class="tax"]/h:td/text()'), U&'\00A0', '_'), 'VAT 19_% (base 14_432.09_EUR)|2_742.10_EUR', 'the tax by its rate and base');
SELECT is(translate(at(:'html', '//h:tr[@class="total strong"]/h:td/text()'), U&'\00A0', '_'), '17_174.19_EUR', 'the total');
SELECT ok(words(:'html') ~ 'neither a CFDI', 'it says what it is not');
SELECT is(at(:'html', '//h:footer/h:p[1]/text()'), 'HRB &lt;1&gt;', 'the seller''s own words stand at its end');
SELECT is(at(:'html', '//h:p[@class="memo"]/text()'), E'Two\n&lt;lines&gt; &amp; "quotes"|HRB &lt;1&gt;', 'the memo is there');
SELECT ok(:'html' ~ '@page' AND :'html' ~ '@media print' AND :'html' ~ 'table-header-group' AND :'html' ~ 'break-inside: avoid', 'it is made for paper');

-- What became of it
SELECT billing.mark_invoice_paid(:'draft', 'wire <7>') IS NULL AS ready \gset
SELECT billing.create_credit_note(:'draft', amount => 1000, reason => 'duplicate', memo => '<u>') AS note \gset
CALL billing.run_worker();
SELECT billing.invoice_html(:'draft') AS html \gset
SELECT ok(words(:'html') ~ 'Other means: wire &lt;7&gt;', 'how it was paid');
SELECT is(at(:'html', '//h:table[h:caption="Credit notes"]//h:td[1]/text()'), 'TEST-CN-000001', 'and what was taken back');
SELECT billing.credit_note_html(:'note') AS html \gset
SELECT ok(xml_is_well_formed_document(:'html'), 'a credit note is well-formed');
SELECT is(at(:'html', '//h:h1/text()'), 'Credit note TEST-CN-000001', 'says what it is');
SELECT is(at(:'html', '//h:dt[text()="Corrects invoice"]/following-sibling::h:dd[1]/text()'), 'TEST-INV-000001, ', 'and of which invoice');
SELECT is(translate(at(:'html', '//h:tr[@class="tax"]/h:th/text()'), U&'\00A0', '_'), 'VAT 19_% (base 8.40_EUR)', 'with its tax');
SELECT is(translate(at(:'html', '//h:tr[@class="balance"]/h:td/text()'), U&'\00A0', '_'), '10.00_EUR', 'and where the money went');

-- Paid, and paid back: what stands there adds up. The summary and the lists below it, in cents.
CREATE FUNCTION cents(html text, path text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(translate(x::text, U&'. \00A0USD', ''), ' ') FROM unnest(xpath(path, xmlparse(DOCUMENT html), ARRAY[ARRAY['h', 'http://www.w3.org/1999/xhtml']])) AS x);
CREATE FUNCTION settled(id uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' ', status, amount_due, amount_paid, amount_credited, amount_refunded, amount_remaining) FROM billing.get_invoice(settled.id));
SELECT billing.configure_provider('sandbox') \gset
SELECT billing.create_customer('payer', 'p@example.com', name => 'P', country => 'US', currency => 'USD') AS payer \gset
SELECT billing.attach_payment_method(:'payer', 'pm_card_visa') AS card \gset
CALL billing.run_worker();
SELECT billing.create_invoice(:'payer', '[{"description": "A", "amount": 4000}]', 'USD', collection_method => 'send_invoice') AS paid \gset
CALL billing.run_worker();
SELECT billing.create_credit_note(:'paid', amount => 1000) AS note \gset
SELECT billing.pay_invoice(:'paid') IS NULL AS ready \gset
CALL billing.run_worker();
SELECT billing.create_credit_note(:'paid', amount => 1000, destination => 'refund') AS note \gset
CALL billing.run_worker();
SELECT billing.create_credit_note(:'paid', amount => 500) AS note \gset
SELECT billing.create_refund(p.id, 200) AS refund FROM billing.list_payment_intents('payer') AS p \gset
CALL billing.run_worker();
SELECT is(settled(:'paid'), 'paid 4000 1800 1000 1200 0', 'what is due is kept, taken off before it was paid, or paid back');
SELECT billing.invoice_html(:'paid') AS html \gset
SELECT is(cents(:'html', '//h:tr[contains(@class, "due") or @class="paid" or @class="credited" or contains(@class, "remaining") or @class="refunded"]/h:td/text()'),
		  '4000 3000 1000 000 1200', 'due, paid, taken off by credit notes, remaining; and paid back');
SELECT is(at(:'html', '//h:tr[@class="credited" or @class="refunded"]/h:th/text()'), 'Taken off by credit notes|Paid back', 'and says what is what');
SELECT is(cents(:'html', '//h:table[h:caption="Payments"]//h:td[@class="n"]/text()'), '3000 -1000 -200', 'payments come to what was paid less what was paid back');
SELECT is(translate(at(:'html', '//h:table[h:caption="Credit notes"]//h:td[2]/text()'), U&'\00A0', '_'), 'Taken off the amount due: 10.00|Paid back: 10.00|Added to the balance: 5.00',
		  'each credit note says where it went');
SELECT is((SELECT detail FROM billing.explain(:'paid') LIMIT 1) ~ ', 4000 USD, 1200 of it paid back', true, 'explain() tells it, too');

-- more than was asked for
SELECT billing.create_customer('over', 'o@example.com', name => 'O', phone => '+525512345678', country => 'US', currency => 'MXN') AS over \gset
CALL billing.run_worker();
SELECT billing.create_invoice(:'over', '[{"description": "B", "amount": 40000}]', 'MXN', collection_method => 'send_invoice') AS over \gset
CALL billing.run_worker();
SELECT billing.pay_invoice(:'over', method => 'oxxo') IS NULL AS ready \gset
CALL billing.run_worker();
SELECT billing.sandbox_pay_reference(reference, 45000) IS NULL AS ready FROM billing.list_payment_intents('over') \gset
CALL billing.run_worker();
SELECT is(settled(:'over'), 'paid 40000 40000 0 0 0', 'what is too much is not of the invoice');
SELECT is(replace(cents(billing.invoice_html(:'over'), '//h:table[h:caption="Payments"]//h:td[@class="n"]/text()'), 'MXN', ''), '45000 -5000', 'and goes on from the list to the balance');

-- Spanish, inclusive tax, no decimals, three decimals, reverse charge
SELECT billing.set_tax_rate('MX', 16, 'IVA', valid_from => '2020-01-01') IS NOT NULL AS ready \gset
SELECT billing.create_customer('uno', country => 'MX', currency => 'JPY', locale => 'es-MX') AS uno \gset
SELECT billing.create_invoice(:'uno', '[{"description": "Plan", "amount": 1160, "tax_inclusive": true}]', 'JPY') AS yen \gset
SELECT billing.create_customer('dos', country => 'DE', currency => 'KWD', locale => 'estonian', tax_exempt => 'reverse') AS dos \gset
SELECT billing.create_invoice(:'dos', '[{"description": "Plan", "amount": 1234567}]', 'KWD') AS dinar \gset
CALL billing.run_worker();
SELECT billing.invoice_html(:'yen') AS html \gset
SELECT ok(xml_is_well_formed_document(:'html') AND at(:'html', '/h:html/@lang') = 'es', 'another language');
SELECT is(at(:'html', '//h:h1/text()'), 'Factura TEST-INV-000004', 'with its words');
SELECT is(translate(at(:'html', '//h:tr[@class="tax inside"]/h:th/text() | //h:tr[@class="tax inside"]/h:td/text()'), U&'\00A0', '_'), 'IVA 16_% (incluido, base imponible 1_000_JPY)|160_JPY', 'tax that is inside is told so');
SELECT billing.invoice_html(:'dinar') AS html \gset
SELECT is(translate(at(:'html', '//h:tr[@class="total strong"]/h:td/text()'), U&'\00A0', '_'), '1_234.567_KWD', 'three decimals');
SELECT ok(words(:'html') ~ 'Reverse charge', 'who owes the tax is told');

-- Refusals
INSERT INTO billing.invoices (customer_id, organization_id, provider, account, livemode, status, currency, total, amount_due, amount_remaining, issued_at)
SELECT id, organization_id, provider, account, livemode, 'open', 'EUR', 1, 1, 1, now() FROM billing.customers WHERE id = :'acme' RETURNING id AS mirrored \gset
SELECT fails(format('SELECT billing.invoice_html(%L)', :'mirrored'), 'JB004', 'printed by provider', 'invoice_links', 'a provider''s invoice is the provider''s');
SELECT fails(format('SELECT billing.create_credit_note(%L)', :'mirrored'), 'JB004', 'corrected by provider', NULL, 'also where it is wrong');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

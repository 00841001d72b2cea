-- Tax rates by country and region, and what local invoices are taxed by.
\ir helpers.psql
SELECT plan(28);

-- The newest invoice of an organisation.
CREATE FUNCTION newest(organization text) RETURNS billing.invoices
LANGUAGE sql
RETURN (SELECT i FROM billing.invoices AS i WHERE i.organization_id = organization ORDER BY i.id DESC LIMIT 1);

-- ---------------------------------------------------------------------------
-- Rates are data

SELECT billing.set_tax_rate('de', 19, 'VAT') AS germany \gset
SELECT results_eq($$SELECT country, region, name, percent, valid_to FROM billing.tax_rates$$, $$VALUES ('DE', NULL, 'VAT', 19::numeric(9, 6), NULL::timestamptz)$$, 'a rate of a country');
SELECT billing.set_tax_rate('US', 8.875, 'Sales tax', ' ny ') AS york \gset
SELECT is((SELECT region FROM billing.tax_rates WHERE id = :'york'), 'NY', 'a region is known in any case');
SELECT billing.set_tax_rate('FR', 20, 'TVA', reverse_charge => true) AS france \gset
SELECT billing.set_tax_rate('DE', 21, 'VAT', valid_from => now() + interval '100 days') AS later \gset
SELECT results_eq($$SELECT percent, valid_to IS NULL FROM billing.tax_rates WHERE country = 'DE' ORDER BY valid_from$$, $$VALUES (19::numeric(9, 6), false), (21, true)$$, 'a change is a new row from a date, where the one before it ends');
SELECT is((SELECT a.valid_to FROM billing.tax_rates AS a WHERE a.id = :'germany'), (SELECT b.valid_from FROM billing.tax_rates AS b WHERE b.id = :'later'), 'without a gap');
SELECT fails($$SELECT billing.set_tax_rate('DE', 18, 'VAT')$$, '23514', 'there is a tax rate of DE for that time', 'to come', 'what overlaps is refused');
SELECT fails($$SELECT billing.set_tax_rate('FR', 18, 'TVA', valid_from => now() - interval '1 day')$$, '23514', 'there is a tax rate of FR', NULL, 'and what would change the past');
SELECT fails($$SELECT billing.set_tax_rate('US', 1, 'x', 'NY', now() + interval '1 day', now())$$, '22023', 'valid_to is not after valid_from', NULL, 'a rate ends after it begins');
SELECT fails(format('SELECT billing.set_tax_rate(''IT'', 22, ''IVA'', %s => %L)', a, m), '22023', a || ' is infinite', 'defaults to now', format('%s is no %s', m, a))
FROM unnest(ARRAY['valid_from', 'valid_to']) AS a, unnest(ARRAY['infinity', '-infinity']) AS m;
SELECT isnt(billing.set_tax_rate('IT', 22, 'IVA', valid_from => '2000-01-01 00:00+00'), NULL, 'the beginning of 2000 is a moment like others');
SELECT fails($$SELECT billing.set_tax_rate('XX', 1, 'x')$$, '22023', 'country', NULL, 'a country is one');
SELECT fails($$SELECT billing.set_tax_rate('ES', 101, 'IVA')$$, '22023', 'percent is not from 0 to 100', NULL, 'no more than 100 %');
SELECT fails($$SELECT billing.set_tax_rate('ES', -1, 'IVA')$$, '22023', 'percent is not from 0 to 100', NULL, 'nor below 0');
SELECT fails($$SELECT billing.set_tax_rate('ES', 21)$$, '23502', 'name must be given', NULL, 'it has a name');
SELECT fails($$UPDATE billing.tax_rates SET percent = 7$$, 'JB008', 'percent of a row of billing.tax_rates cannot change', NULL, 'a rate never changes');
SELECT fails($$DELETE FROM billing.tax_rates$$, 'JB008', 'cannot be deleted', NULL, 'nor goes');
SELECT fails($$UPDATE billing.settings SET value = 'both' WHERE name = 'tax_behavior'$$, '22023', 'tax_behavior', 'exclusive or inclusive', 'the behaviour is one of two');

-- ---------------------------------------------------------------------------
-- What is billed is taxed

SELECT count(billing.create_customer(o, country => c, address => a::jsonb, tax_ids => t::jsonb, tax_exempt => e)) AS customers
FROM (VALUES ('german', 'DE', NULL, NULL, NULL), ('yorker', 'US', '{"state": "ny"}', NULL, NULL), ('texan', 'US', '{"state": "TX"}', NULL, NULL),
			 ('french', 'FR', NULL, NULL, NULL), ('french_firm', 'FR', NULL, '[{"type": "eu_vat", "value": "FR12345678901"}]', NULL),
			 ('exempt', 'DE', NULL, NULL, 'exempt'), ('reverse', 'DE', NULL, NULL, 'reverse'), ('nowhere', NULL, NULL, NULL, NULL)) AS v (o, c, a, t, e) \gset
SELECT count(billing.subscribe(o, 'pro', managed_by => 'local')) AS subscriptions
FROM string_to_table('german yorker texan french french_firm exempt reverse nowhere', ' ') AS o \gset
SELECT results_eq($$SELECT organization_id, total, tax FROM billing.invoices ORDER BY organization_id$$,
	$$VALUES ('exempt', 2900::bigint, 0::bigint), ('french', 3480, 580), ('french_firm', 2900, 0), ('german', 3451, 551), ('nowhere', 2900, 0), ('reverse', 2900, 0), ('texan', 2900, 0), ('yorker', 3157, 257)$$,
	'by country, by region before it, not where there is no rate, nor for those who are exempt or owe it themselves');
SELECT results_eq($$SELECT l.kind, l.amount, l.tax, l.tax_rate_id IS NOT NULL, l.tax_inclusive FROM billing.invoice_lines AS l WHERE l.invoice_id = (newest('german')).id ORDER BY l.position$$,
	$$VALUES ('base', 2900::bigint, 551::bigint, true, false), ('tax', 551, 551, true, false)$$, 'tax is a line, and a share of each line');
SELECT is((SELECT count(*) FROM billing.invoice_lines AS l WHERE l.kind = 'tax' AND l.description ~ 'Reverse charge' AND l.amount = 0), 2::bigint, 'reverse charge is told');
SELECT is((SELECT count(*) FROM billing.invoice_lines AS l WHERE l.kind = 'tax' AND l.description ~ 'Exempt' AND l.amount = 0), 1::bigint, 'so is an exemption');

UPDATE billing.settings SET value = 'inclusive' WHERE name = 'tax_behavior';
SELECT billing.create_customer('inside', country => 'DE') AS inside \gset
SELECT billing.subscribe('inside', 'pro', managed_by => 'local') AS inside_s \gset
SELECT results_eq($$SELECT (newest('inside')).total, (newest('inside')).tax$$, $$VALUES (2900::bigint, 463::bigint)$$, 'inclusive tax is inside: 29.00 contain 4.63');
UPDATE billing.settings SET value = 'exclusive' WHERE name = 'tax_behavior';

-- ---------------------------------------------------------------------------
-- By the invoice's own time

SELECT billing.create_customer('clock', country => 'DE') AS clock \gset
SELECT billing.grant_credit('clock', 1000000, 'USD') AS rich \gset
SELECT billing.subscribe('clock', 'pro', managed_by => 'local') AS clock_s \gset
CALL billing.advance_clock('clock', '130 days');
SELECT results_eq($$SELECT tax FROM billing.invoices WHERE organization_id = 'clock' ORDER BY id$$, $$VALUES (551::bigint), (551), (551), (551), (609)$$, 'the rate of its own time counts');

SELECT is(billing.set_tax_rate('FR', NULL, valid_from => now() + interval '1 second'), NULL, 'a rate can end');
SELECT isnt((SELECT valid_to FROM billing.tax_rates WHERE id = :'france'), NULL, 'then there is none');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

-- Balances and prepaid credits: what they are, and what they pay.
\ir helpers.psql
SELECT plan(37);

SELECT count(billing.create_customer(o)) AS customers FROM string_to_table('acme owed order expiring part', ' ') AS o \gset

-- ---------------------------------------------------------------------------
-- The balance

SELECT is(billing.adjust_balance('acme', 500, 'for the trouble', 'USD'), 500::bigint, 'a person adds to a balance');
SELECT is(billing.adjust_balance('acme', -200, 'a mistake'), 300::bigint, 'or takes from it');
SELECT is(billing.adjust_balance('acme', 700, 'in euros', 'eur'), 700::bigint, 'each currency has its own');
SELECT results_eq($$SELECT * FROM billing.credit_balance('acme')$$, $$VALUES ('EUR', 700::bigint, 0::bigint), ('USD', 300, 0)$$, 'both are told');
SELECT results_eq($$SELECT amount, balance_after, reason, note FROM billing.customer_balance_entries WHERE currency = 'USD' ORDER BY id$$,
	$$VALUES (500::bigint, 500::bigint, 'adjustment', 'for the trouble'), (-200, 300, 'adjustment', 'a mistake')$$, 'each change is an entry');
SELECT fails($$UPDATE billing.customer_balance_entries SET amount = 1$$, 'JB008', 'append-only', NULL, 'which never changes');
SELECT fails($$DELETE FROM billing.customer_balance_entries$$, 'JB008', 'append-only', NULL, 'nor goes');
SELECT fails($$SELECT billing.adjust_balance('acme', 0, 'x')$$, '22023', 'amount is 0', NULL, 'nothing is no change');
SELECT fails($$SELECT billing.adjust_balance('acme', 1, NULL)$$, '23502', 'reason must be given', NULL, 'why');
SELECT fails($$SELECT billing.adjust_balance('nobody', 1, 'x')$$, 'JB005', 'nobody', NULL, 'whose');
SELECT fails($$SELECT billing.adjust_balance('acme', 1, 'x', 'XXX')$$, '22023', 'unknown currency', NULL, 'of what');
SELECT fails($$SELECT billing.adjust_balance('acme', 1, '4242 4242 4242 4242')$$, 'JB009', 'card', NULL, 'a card number is never kept');

-- ---------------------------------------------------------------------------
-- Grants

SELECT billing.grant_credit('acme', 1000, 'USD', name => 'Welcome', idempotency_key => 'k') AS welcome \gset
SELECT is(billing.grant_credit('acme', 1000, 'USD', name => 'Welcome', idempotency_key => 'k'), :'welcome'::uuid, 'the same key gives the same grant');
SELECT fails($$SELECT billing.grant_credit('acme', 1001, 'USD', name => 'Welcome', idempotency_key => 'k')$$, 'JB007', 'another amount', NULL, 'and no other');
SELECT results_eq($$SELECT prepaid FROM billing.credit_balance('acme') WHERE currency = 'USD'$$, $$VALUES (1000::bigint)$$, 'it is there once');
SELECT fails($$SELECT billing.grant_credit('acme', 0)$$, '22023', 'amount is not above 0', NULL, 'a credit is above 0');
SELECT fails($$SELECT billing.grant_credit('acme', 1, expires_at => now() - interval '1 second')$$, '22023', 'expires_at has passed', NULL, 'and is not over already');
SELECT fails($$SELECT billing.grant_credit('acme', 1, components => '{}')$$, '22023', 'components is empty', NULL, 'for something');

SELECT billing.subscribe('acme', 'pro', managed_by => 'local') AS acme \gset
SELECT results_eq($$SELECT total, credit_used, balance_used, amount_due FROM billing.invoices WHERE organization_id = 'acme'$$, $$VALUES (2900::bigint, 1000::bigint, 300::bigint, 1600::bigint)$$, 'credit pays first, then the balance');
SELECT results_eq($$SELECT l.kind, l.amount, l.description FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id WHERE i.organization_id = 'acme' AND l.kind IN ('credit', 'balance') ORDER BY l.position$$,
	$$VALUES ('credit', -1000::bigint, 'Welcome'), ('balance', -300, 'Paid by balance')$$, 'each is a line');
SELECT results_eq($$SELECT * FROM billing.credit_balance('acme') WHERE currency = 'USD'$$, $$VALUES ('USD', 0::bigint, 0::bigint)$$, 'and is gone');
SELECT is((SELECT sum(e.amount) FROM billing.credit_grant_entries AS e WHERE e.grant_id = :'welcome'), 0::numeric, 'its entries add up to what remains');
SELECT is((SELECT e.invoice_id FROM billing.credit_grant_entries AS e WHERE e.grant_id = :'welcome' AND e.kind = 'use'), (SELECT i.id FROM billing.invoices AS i WHERE i.organization_id = 'acme'), 'and name the invoice');

SELECT billing.adjust_balance('owed', -150, 'too little to be charged') AS owed \gset
SELECT billing.subscribe('owed', 'pro', managed_by => 'local') AS owed_s \gset
SELECT results_eq($$SELECT total, balance_used, amount_due FROM billing.invoices WHERE organization_id = 'owed'$$, $$VALUES (2900::bigint, -150::bigint, 3050::bigint)$$, 'what is owed is due with the next invoice');
SELECT is((SELECT balance FROM billing.customer_balances WHERE organization_id = 'owed'), 0::bigint, 'and owed no more');

-- ---------------------------------------------------------------------------
-- Order

SELECT billing.grant_credit('order', 100, 'USD', name => 'last', priority => 5) AS g1 \gset
SELECT billing.grant_credit('order', 100, 'USD', name => 'never') AS g2 \gset
SELECT billing.grant_credit('order', 100, 'USD', now() + interval '20 days', name => 'later') AS g3 \gset
SELECT billing.grant_credit('order', 100, 'USD', now() + interval '10 days', name => 'sooner') AS g4 \gset
SELECT billing.grant_credit('order', 100, 'EUR', name => 'euros') AS g5 \gset
SELECT billing.grant_credit('order', 100, 'USD', name => 'seats', components => '{seats}') AS g6 \gset
SELECT is(billing.void_credit_grant(:'g2'), 100::bigint, 'a grant can be taken back');
SELECT fails(format('SELECT billing.void_credit_grant(%L)', :'g2'), 'JB008', 'void already', NULL, 'once');
SELECT billing.subscribe('order', 'pro', managed_by => 'local') AS order_s \gset
SELECT results_eq($$SELECT l.description FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id WHERE i.organization_id = 'order' AND l.kind = 'credit' ORDER BY l.position$$,
	$$VALUES ('sooner'), ('later'), ('last')$$, 'by priority, expiry and age; not what is for other components, another currency, or void');

-- ---------------------------------------------------------------------------
-- Expiry

SELECT billing.grant_credit('expiring', 3000, 'USD', now() + interval '10 days') AS e1 \gset
SELECT billing.subscribe('expiring', 'pro', managed_by => 'local') AS expiring_s \gset
CALL billing.advance_clock('expiring', '11 days');
SELECT results_eq(format('SELECT remaining, expired_at = expires_at FROM billing.credit_grants WHERE id = %L', :'e1'), $$VALUES (0::bigint, true)$$, 'what is left expires by the clock');
SELECT is((SELECT e.amount FROM billing.credit_grant_entries AS e WHERE e.grant_id = :'e1' AND e.kind = 'expire'), -100::bigint, 'an entry tells how much');
SELECT is((SELECT count(*) FROM billing.events AS e WHERE e.type = 'credit_grant.expired' AND e.id = :'e1'), 1::bigint, 'and an event that it did');
CALL billing.advance_clock('expiring', '25 days');
SELECT is((SELECT i.credit_used FROM billing.invoices AS i WHERE i.organization_id = 'expiring' ORDER BY i.id DESC LIMIT 1), 0::bigint, 'it pays no more');

-- ---------------------------------------------------------------------------
-- A void invoice gives back what paid it

SELECT i.id AS acme_invoice FROM billing.invoices AS i WHERE i.organization_id = 'acme' \gset
SELECT billing.void_invoice(:'acme_invoice');
SELECT results_eq($$SELECT * FROM billing.credit_balance('acme') WHERE currency = 'USD'$$, $$VALUES ('USD', 300::bigint, 1000::bigint)$$, 'credit and balance of a void invoice come back');
SELECT results_eq($$SELECT reason, amount FROM billing.customer_balance_entries WHERE organization_id = 'acme' AND currency = 'USD' ORDER BY id DESC LIMIT 1$$, $$VALUES ('invoice_voided', 300::bigint)$$, 'as an entry of its own');
SELECT is_empty($$SELECT FROM billing.customer_balances AS b WHERE b.balance <> (SELECT sum(e.amount) FROM billing.customer_balance_entries AS e WHERE e.customer_id = b.customer_id AND e.currency = b.currency)$$, 'balances are the sums of their entries');
SELECT is_empty($$SELECT FROM billing.credit_grants AS g WHERE g.remaining <> (SELECT sum(e.amount) FROM billing.credit_grant_entries AS e WHERE e.grant_id = g.id)$$, 'so is what remains of grants');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

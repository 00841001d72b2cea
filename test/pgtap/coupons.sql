-- Coupons: what there are, who has one, and what they take off local invoices.
\ir helpers.psql
SELECT plan(38);

CREATE FUNCTION discounts(organization text) RETURNS bigint[]
LANGUAGE sql
RETURN ARRAY(SELECT i.discount FROM billing.invoices AS i WHERE i.organization_id = organization ORDER BY i.id);

-- ---------------------------------------------------------------------------
-- What there are

SELECT billing.create_coupon('TEN', 10, name => 'Ten percent') AS ten \gset
SELECT billing.create_coupon('FIVE', amount => 500, currency => 'usd', duration => 'forever') AS five \gset
SELECT billing.create_coupon('MONTHS', 50, duration => 'repeating', months => 2) AS months \gset
SELECT billing.create_coupon('ALL', 100, duration => 'forever', max_redemptions => 1) AS everything \gset
SELECT billing.create_coupon('EURO', amount => 100, currency => 'EUR') AS euro \gset
SELECT billing.create_coupon('FREE', 10, plans => '{free}') AS free \gset
SELECT billing.create_coupon('SEATS', 100, duration => 'forever', components => '{seats}') AS seats \gset
SELECT billing.create_coupon('OLD', 10, redeem_by => now() - interval '1 second') AS old \gset
SELECT billing.create_coupon('FIRST', 10, first_time => true) AS first \gset
SELECT fails($$SELECT billing.create_coupon('TEN', 20)$$, '23505', 'there is a coupon "TEN" already', NULL, 'a code is taken once');
SELECT fails($$SELECT billing.create_coupon('a b', 20)$$, '22023', 'is no code', NULL, 'a code has no blanks');
SELECT fails($$SELECT billing.create_coupon('X', 0)$$, '22023', 'percent is not above 0', NULL, 'nothing is no discount');
SELECT fails($$SELECT billing.create_coupon('X', 100.1)$$, '22023', 'at most 100', NULL, 'nor is more than all');
SELECT fails($$SELECT billing.create_coupon('X')$$, '23502', 'percent or amount must be given', NULL, 'it takes something off');
SELECT fails($$SELECT billing.create_coupon('X', 1, 1, 'USD')$$, '22023', 'both given', NULL, 'one of the two');
SELECT fails($$SELECT billing.create_coupon('X', amount => -1, currency => 'USD')$$, '22023', 'amount is not above 0', NULL, 'not below 0');
SELECT fails($$SELECT billing.create_coupon('X', amount => 1)$$, '23502', 'currency must be given', NULL, 'an amount has a currency');
SELECT fails($$SELECT billing.create_coupon('X', 1, duration => 'repeating')$$, '23502', 'months must be given', NULL, 'repeating for how long');
SELECT fails($$SELECT billing.create_coupon('X', 1, months => 3)$$, '22023', 'months is for duration repeating', NULL, 'once has no months');
SELECT fails($$SELECT billing.create_coupon('X', 1, plans => '{nothing}')$$, 'JB005', 'unknown plan "nothing"', NULL, 'plans are there');
SELECT fails($$SELECT billing.create_coupon('X', 1, plans => '{}')$$, '22023', 'plans is empty', NULL, 'for no plan at all');
SELECT fails($$UPDATE billing.coupons SET percent = 20 WHERE coupon = 'TEN'$$, 'JB008', 'percent of a row', NULL, 'what it takes off never changes');

-- ---------------------------------------------------------------------------
-- Who gets one

SELECT count(billing.create_customer(o)) AS customers FROM string_to_table('acme both repeated firm part other provider', ' ') AS o \gset
SELECT count(billing.grant_credit(o, 10000000, 'USD')) AS rich FROM string_to_table('acme both repeated firm part other', ' ') AS o \gset
SELECT billing.subscribe('acme', 'pro', managed_by => 'local', coupon => 'TEN') AS acme \gset
SELECT is(discounts('acme'), '{290}', 'the first invoice is discounted');
SELECT is((SELECT state FROM billing.list_coupons('acme')), 'used', 'and the coupon is used');
SELECT fails($$SELECT billing.subscribe('other', 'pro', managed_by => 'local', coupon => 'NONE')$$, 'JB005', 'unknown coupon "NONE"', NULL, 'an unknown one is refused');
SELECT fails($$SELECT billing.subscribe('other', 'pro', managed_by => 'local', coupon => 'OLD')$$, 'JB008', 'has expired', NULL, 'an expired one');
SELECT fails($$SELECT billing.subscribe('other', 'pro', managed_by => 'local', coupon => 'EURO')$$, '22023', 'is of another currency', NULL, 'one of another currency');
SELECT fails($$SELECT billing.subscribe('other', 'pro', managed_by => 'local', coupon => 'FREE')$$, '22023', 'is for other plans', NULL, 'one for other plans');
SELECT is((SELECT count(*) FROM billing.subscriptions WHERE organization_id = 'other'), 0::bigint, 'and nothing is half done');
SELECT is((SELECT redemptions FROM billing.coupons WHERE coupon = 'FREE'), 0::bigint, 'nor counted');
CALL billing.run_worker();
SELECT fails(format('SELECT billing.apply_coupon(%L, %L)', 'FIRST', :'acme'), 'JB008', 'not paid an invoice yet', NULL, 'one for the first time, who has paid');
SELECT lives_ok($$SELECT billing.apply_coupon('FIRST', organization_id => 'other')$$, 'but who has not');
SELECT fails($$SELECT billing.apply_coupon('TEN')$$, '23502', 'subscription_id or organization_id must be given', NULL, 'for whom');
SELECT fails($$SELECT billing.apply_coupon('TEN', organization_id => 'nobody')$$, 'JB005', 'nobody', NULL, 'who is there');
SELECT billing.subscribe('provider', 'pro', 'pm_card_visa', managed_by => 'provider') AS provider \gset
SELECT fails(format('SELECT billing.apply_coupon(%L, %L)', 'TEN', :'provider'), 'JB008', 'is billed by its provider', 'update_subscription', 'not for what the provider bills');

SELECT billing.apply_coupon('ALL', organization_id => 'firm') AS firm_a \gset
SELECT fails($$SELECT billing.apply_coupon('ALL', organization_id => 'other')$$, 'JB008', 'applied as often as it can be', NULL, 'no more often than it may be');
SELECT billing.subscribe('firm', 'pro', managed_by => 'local') AS firm \gset
SELECT results_eq($$SELECT discount, total, amount_due FROM billing.invoices WHERE organization_id = 'firm'$$, $$VALUES (2900::bigint, 0::bigint, 0::bigint)$$, 'all of it, and never below zero');

-- ---------------------------------------------------------------------------
-- What they take off

SELECT billing.apply_coupon('FIVE', organization_id => 'both') AS both_a \gset
SELECT fails($$SELECT billing.apply_coupon('FIVE', organization_id => 'both')$$, 'JB008', 'is applied already', NULL, 'once at a time');
SELECT billing.subscribe('both', 'pro', managed_by => 'local', coupon => 'TEN') AS both \gset
SELECT is(discounts('both'), '{740}', 'in their order: 5.00, then 10 % of what is left');
SELECT billing.subscribe('repeated', 'pro', managed_by => 'local', coupon => 'MONTHS') AS repeated \gset
SELECT billing.subscribe('part', 'pro', managed_by => 'local', coupon => 'SEATS') AS part \gset
SELECT is(discounts('part'), '{0}', 'one for components leaves the others alone');

CALL billing.advance_clock('both', '32 days');
SELECT is(discounts('both'), '{740,500}', 'once is once, forever is forever');
SELECT billing.remove_coupon('FIVE', organization_id => 'both');
SELECT fails($$SELECT billing.remove_coupon('FIVE', organization_id => 'both')$$, 'JB005', 'applied coupon', NULL, 'what is not there cannot be removed');
CALL billing.advance_clock('both', '31 days');
SELECT is(discounts('both'), '{740,500,0}', 'a removed one counts no longer');
SELECT is((SELECT string_agg(coupon || ' ' || state, ', ') FROM billing.list_coupons('both')), 'FIVE removed, TEN used', 'and is listed still');
CALL billing.advance_clock('repeated', '95 days');
SELECT is(discounts('repeated'), '{1450,1450,0,0}', 'two months are two invoices');
-- 2.9 % of 100000 are 2900, at most 1000: of 1000 + 1000 half is taken off, not half of what the maximum cuts
SELECT billing.create_meter('moved', 'sum') AS moved, billing.create_plan('carrier', 'Carrier', 1000, 'USD') AS carrier,
	   billing.create_coupon('HALF', 50, duration => 'forever') AS half, billing.create_customer('carried') AS carried \gset
SELECT billing.create_price('carrier', NULL, 'USD', component => 'moved', metric => 'moved', model => 'percentage', percentage => 2.9, maximum => 1000) AS price \gset
CALL billing.set_clock('carried', '2031-04-01 00:00+00');
SELECT billing.subscribe('carried', 'carrier', 'pm_card_visa', managed_by => 'local', coupon => 'HALF') AS sub \gset
CALL billing.set_clock('carried', '2031-04-10 00:00+00');
SELECT billing.record_usage('carried', 'moved', 100000, occurred_at => '2031-04-09 00:00+00') AS used \gset
CALL billing.set_clock('carried', '2031-05-01 02:00+00');
SELECT is((SELECT string_agg(i.total || ' ' || i.discount, ', ' ORDER BY i.id) FROM billing.invoices AS i WHERE i.organization_id = 'carried'), '500 500, 1000 1000', 'of what a maximum leaves');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

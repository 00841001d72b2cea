-- What a void invoice leaves behind: references, late money, lines that had waited for it.
\ir helpers.psql
\ir billing_helpers.psql
SELECT plan(32);

SELECT count(billing.create_customer(o)) AS customers FROM string_to_table('oxxo late noted given ended coupon again early', ' ') AS o \gset
SELECT billing.create_plan('collected', 'Collected', 1000, "interval" => 'year') AS plan,
	   billing.create_plan('small', 'Small', 3000, 'USD') AS small, billing.create_plan('large', 'Large', 6000, 'USD') AS large \gset
CREATE FUNCTION shares(id uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(k.amount || '+' || k.credited, ' ' ORDER BY k.payment_intent_id) FROM billing.invoice_payments AS k WHERE k.invoice_id = shares.id);

-- ---------------------------------------------------------------------------
-- References that wait

SELECT bill('oxxo', 50000, 'MXN', subscription => sell('oxxo', reference => 'oxxo')) AS oxxo, bill('late', 50000, 'MXN', subscription => sell('late', reference => 'oxxo', wish => 'late:P1D')) AS late,
	   bill('noted', 50000, 'MXN', subscription => sell('noted', reference => 'spei', wish => 'pay_after:P9D')) AS noted \gset
CALL billing.set_clock('oxxo', now());
CALL billing.set_clock('late', now());
CALL billing.set_clock('noted', now());
CALL billing.run_worker();
SELECT is(charged(:'oxxo'), 'requires_action 50000', 'a reference waits to be paid');
SELECT billing.void_invoice(:'oxxo');
SELECT is(invoice(:'oxxo'), 'void 0 0', 'its invoice is voided');
CALL billing.run_worker();
SELECT is(charged(:'oxxo'), 'canceled 50000', 'and the reference is called off');
CALL billing.advance_clock('oxxo', '10 days');
SELECT is(invoice(:'oxxo'), 'void 0 0', 'nobody asks for it any more');
SELECT is(attempts(:'oxxo'), 'issue canceled called_off @0', 'nothing is planned');
SELECT is((SELECT count(*) FROM billing.dunning_attempts WHERE invoice_id = :'oxxo' AND state IN ('planned', 'running')), 0::bigint, 'or running');

CALL billing.advance_clock('late', '3 days 12 hours');
SELECT is(charged(:'late'), 'canceled 50000', 'one that has run out');
SELECT billing.void_invoice(:'late');
CALL billing.advance_clock('late', '1 day');
SELECT is(invoice(:'late') || ', ' || shares(:'late'), 'void 0 0, 0+50000', 'and is paid when its invoice is void');
SELECT is((SELECT balance FROM billing.customer_balances WHERE organization_id = 'late'), 50000::bigint, 'is the balance of the customer');
SELECT is((SELECT what FROM billing.attention WHERE organization_id = 'late' AND object_type = 'payment_intent'), 'payment pays nothing', 'for a person to look at');

SELECT billing.create_credit_note(:'noted', memo => 'not delivered') AS note \gset
CALL billing.run_worker();
SELECT is(invoice(:'noted') || ', ' || charged(:'noted'), 'paid 0 0, canceled 50000', 'what a credit note has paid is not waited for either');
SELECT is(happened(:'noted'), 'invoice.payment_action_required invoice.paid', 'which is no failed payment');

-- ---------------------------------------------------------------------------
-- Lines that had waited for it

CALL billing.set_clock('given', '2027-04-01 00:00+00');
SELECT billing.subscribe('given', 'large', collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local') AS given \gset
CALL billing.run_worker();
SELECT billing.mark_invoice_paid((SELECT id FROM billing.invoices WHERE organization_id = 'given'), 'by transfer');
CALL billing.set_clock('given', '2027-04-16 00:00+00');
SELECT billing.update_subscription(:'given', plan => 'small');
CALL billing.set_clock('given', '2027-05-01 00:00+00');
SELECT i.id AS may, i.total AS may_total FROM billing.invoices AS i WHERE i.organization_id = 'given' ORDER BY i.issued_at DESC LIMIT 1 \gset
SELECT is(:may_total, 1500, 'half of April is given back with May: -30.00 and 15.00 and 30.00');
SELECT billing.void_invoice(:'may');
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.invoice_lines WHERE invoice_id IS NULL), 0::bigint, 'what had waited for it does not wait again');
SELECT i.id AS april FROM billing.invoices AS i WHERE i.organization_id = 'given' ORDER BY i.issued_at LIMIT 1 \gset
SELECT fails(format('SELECT billing.create_credit_note(%L, amount => 6001)', :'april'), '22023', 'what is left', NULL, 'of what was billed first');
SELECT billing.create_credit_note(:'april', amount => 6000) AS back \gset
SELECT is((SELECT balance FROM billing.customer_balances WHERE organization_id = 'given'), 6000::bigint, 'all can be given back');

-- ---------------------------------------------------------------------------
-- One that ended a period early: 91.00 for the quarter from April 1st, of 91 days

SELECT billing.create_plan('quarterly', 'Quarterly', 9100, 'USD', 'quarter') AS quarterly \gset
CALL billing.set_clock('ended', '2027-04-01 00:00+00');
SELECT billing.subscribe('ended', 'quarterly', collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local') AS ended \gset
CALL billing.run_worker();
CALL billing.set_clock('ended', '2027-04-16 00:00+00');
SELECT billing.update_subscription(:'ended', plan => 'small');
CALL billing.run_worker();
SELECT i.id AS monthly, i.total AS monthly_total FROM billing.invoices AS i WHERE i.organization_id = 'ended' ORDER BY i.id DESC LIMIT 1 \gset
SELECT i.id AS quarter FROM billing.invoices AS i WHERE i.organization_id = 'ended' ORDER BY i.id LIMIT 1 \gset
SELECT is(:monthly_total, 3000, 'the quarter is not paid, so 76 days of it are not given back');
SELECT fails(format('SELECT billing.void_invoice(%L)', :'monthly'), 'JB008', 'what was left of a period', 'mark_invoice_uncollectible', 'void, the quarter would count to its end, and nobody would give it back');
SELECT billing.mark_invoice_uncollectible(:'monthly');
SELECT billing.mark_invoice_paid(:'quarter', 'by transfer');
SELECT is((SELECT balance FROM billing.customer_balances WHERE organization_id = 'ended'), 7600::bigint, 'given up, the 76 days are given back when the quarter is paid');
SELECT billing.cancel_subscription(:'ended', at_period_end => false, prorate => true);
CALL billing.run_worker();
SELECT is((SELECT balance FROM billing.customer_balances WHERE organization_id = 'ended'), 7600::bigint, 'once');
SELECT is((SELECT i.status FROM billing.invoices AS i WHERE i.id = :'monthly'), 'uncollectible', 'the month stays given up');

-- ---------------------------------------------------------------------------
-- Coupons that it used

SELECT billing.create_coupon('ONCE', 10) AS once, billing.create_coupon('MONTHS', 50, duration => 'repeating', months => 2) AS months \gset
CREATE FUNCTION discounts(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(i.status || ' ' || i.discount, ', ' ORDER BY i.id) FROM billing.invoices AS i WHERE i.organization_id = organization);
CREATE FUNCTION coupons_of(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', c.coupon, a.uses, a.used_up), ', ' ORDER BY a.applied_at, a.id)
		FROM billing.applied_coupons AS a JOIN billing.coupons AS c ON c.id = a.coupon_id WHERE a.organization_id = organization);
CALL billing.set_clock('coupon', '2027-04-01 00:00+00');
SELECT billing.apply_coupon('ONCE', organization_id => 'coupon') AS a1, billing.apply_coupon('MONTHS', organization_id => 'coupon') AS a2 \gset
SELECT billing.create_invoice(billing.find_customer('coupon'), '[{"description": "Hours", "amount": 10000}]', currency => 'USD') AS mistaken \gset
CALL billing.run_worker();
SELECT is(discounts('coupon') || '; ' || coupons_of('coupon'), 'open 5500; ONCE 1 t, MONTHS 1 f', '10 % and half of the rest');
SELECT billing.void_invoice(:'mistaken');
SELECT is(coupons_of('coupon'), 'ONCE 0 f, MONTHS 0 f', 'were not used on an invoice that is void');
SELECT billing.create_invoice(billing.find_customer('coupon'), '[{"description": "Hours", "amount": 10000}]', currency => 'USD') AS anew \gset
CALL billing.run_worker();
SELECT is(discounts('coupon') || '; ' || coupons_of('coupon'), 'void 5500, open 5500; ONCE 1 t, MONTHS 1 f', 'and count for the next one');
CALL billing.set_clock('coupon', '2027-07-01 00:00+00');
SELECT billing.void_invoice(:'anew');
SELECT billing.create_invoice(billing.find_customer('coupon'), '[{"description": "Hours", "amount": 10000}]', currency => 'USD') AS later \gset
CALL billing.run_worker();
SELECT is(discounts('coupon'), 'void 5500, void 5500, open 1000', 'the months of the other one are over all the same');

SELECT billing.apply_coupon('ONCE', organization_id => 'again') AS a3 \gset
SELECT billing.create_invoice(billing.find_customer('again'), '[{"description": "Hours", "amount": 10000}]', currency => 'USD') AS first \gset
CALL billing.run_worker();
SELECT billing.apply_coupon('ONCE', organization_id => 'again') AS a4 \gset
SELECT lives_ok(format('SELECT billing.void_invoice(%L)', :'first'), 'who has it again meanwhile');
SELECT is(coupons_of('again'), 'ONCE 1 t, ONCE 0 f', 'has it once');
-- ---------------------------------------------------------------------------
-- A draft that waits for late usage

SELECT billing.create_plan('metered', 'Metered', 1000, 'USD') AS metered, billing.create_meter('calls', 'sum') AS meter \gset
SELECT billing.create_price('metered', NULL, 'USD', component => 'calls', metric => 'calls', unit_amount => 2) AS calls \gset
CREATE FUNCTION lines_of(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(i.status || ' ' || i.total || ': ' || (SELECT coalesce(string_agg(l.description || ' ' || l.amount, ', ' ORDER BY l.position), '') FROM billing.invoice_lines AS l WHERE l.invoice_id = i.id), ' | ' ORDER BY i.id)
		FROM billing.invoices AS i WHERE i.organization_id = organization AND i.billing_reason = 'subscription_cycle');
CALL billing.set_clock('early', '2027-04-01 00:00+00');
SELECT billing.subscribe('early', 'metered', collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local') AS early \gset
CALL billing.set_clock('early', '2027-04-20 00:00+00');
SELECT billing.record_usage('early', 'calls', 130);
CALL billing.set_clock('early', '2027-05-01 00:20+00');
SELECT billing.void_invoice(i.id) FROM billing.invoices AS i WHERE i.organization_id = 'early' AND i.status = 'draft';
SELECT is(lines_of('early'), 'void 1260: Metered 1000, calls 260', 'has what was used so far, which is void with it');
SELECT is((SELECT string_agg(to_char(period_start AT TIME ZONE 'UTC', 'MM-DD') || ' ' || to_char(period_end AT TIME ZONE 'UTC', 'MM-DD'), ', ') FROM billing.usage_closings WHERE organization_id = 'early'),
	'04-01 05-01', 'its period is closed');
CALL billing.set_clock('early', '2027-05-03 00:00+00');
SELECT billing.record_usage('early', 'calls', 10, occurred_at => '2027-04-25 00:00+00');
SELECT is((SELECT sum(amount) FROM billing.preview_invoice(:'early')), 1020::numeric, 'what comes late is on the next one');
CALL billing.set_clock('early', '2027-06-01 02:00+00');
SELECT is(lines_of('early'), 'void 1260: Metered 1000, calls 260 | open 1020: Metered 1000, calls: +10 that came late 20', 'at the price of its period');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

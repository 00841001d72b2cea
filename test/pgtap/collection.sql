-- What pays our own invoices: references, too little, too much, too late, and what goes back.
\ir helpers.psql
\ir billing_helpers.psql
SELECT plan(55);

SELECT count(billing.create_customer(o)) AS customers
FROM string_to_table('oxxo spei under over late gone back half held keeper other card', ' ') AS o \gset
SELECT billing.create_plan('collected', 'Collected', 1000, "interval" => 'year') AS plan \gset
CREATE FUNCTION give(organization text, token text) RETURNS uuid
LANGUAGE sql
RETURN billing.attach_payment_method(billing.find_customer(organization), token, set_default => true);
CREATE FUNCTION shares(id uuid) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(k.amount || '+' || k.credited, ' ' ORDER BY k.payment_intent_id) FROM billing.invoice_payments AS k WHERE k.invoice_id = shares.id);
CREATE FUNCTION payment_of(id uuid) RETURNS uuid
LANGUAGE sql
RETURN (SELECT p.id FROM billing.payment_intents AS p WHERE p.invoice_id = payment_of.id ORDER BY p.id DESC LIMIT 1);

-- ---------------------------------------------------------------------------
-- References

SELECT bill('oxxo', 50000, 'MXN', subscription => sell('oxxo', reference => 'oxxo')) AS oxxo, bill('spei', 50000, 'MXN', subscription => sell('spei', reference => 'spei')) AS spei,
	   bill('gone', 50000, 'MXN', subscription => sell('gone', reference => 'oxxo', wish => 'expire')) AS gone \gset
CALL billing.set_clock('oxxo', now());
CALL billing.set_clock('spei', now());
CALL billing.set_clock('gone', now());
CALL billing.run_worker();
SELECT is(invoice(:'oxxo') || ' ' || attempts(:'oxxo'), 'open 0 50000 issue running @0', 'a reference waits to be paid');
SELECT is(happened(:'oxxo'), 'invoice.payment_action_required', 'by the customer, who is told');
SELECT ok(number_to_pay(:'oxxo') ~ '^\d{14}$' AND number_to_pay(:'spei') ~ '^\d{18}$', 'at a till, or by a transfer');
SELECT is((SELECT round(extract(epoch FROM expires_at - billing.now('oxxo')) / 86400) FROM billing.payment_intents WHERE id = payment_of(:'oxxo')), 3::numeric, 'for as long as the due date and the grace');
SELECT fails(format($$SELECT billing.pay_invoice(%L, method => 'spei')$$, :'oxxo'), 'JB010', 'is being paid already', NULL, 'there is no other one beside it');
CALL billing.advance_clock('oxxo', '3 days');
CALL billing.advance_clock('spei', '3 days');
SELECT is(invoice(:'oxxo') || ' ' || invoice(:'spei'), 'paid 50000 0 paid 50000 0', 'who pays it has paid');
CALL billing.advance_clock('gone', '4 days');
SELECT is(attempts(:'gone'), 'issue failed not_paid @0, schedule planned @6, schedule planned @8, schedule planned @10', 'a reference that runs out is a failed attempt');
CALL billing.advance_clock('gone', '3 days');
SELECT is(charged(:'gone'), 'canceled 50000, requires_action 50000', 'the next one comes when the one before is dead');
CALL billing.advance_clock('gone', '30 days');
SELECT is(invoice(:'gone') || ' ' || (SELECT count(*) FROM billing.payment_intents WHERE invoice_id = :'gone'), 'open 0 50000 not_paid 4', 'until the plan is over');
SELECT billing.collect_by((SELECT id FROM billing.subscriptions WHERE organization_id = 'gone'), NULL);
SELECT is((SELECT collect_by FROM billing.subscriptions WHERE organization_id = 'gone'), NULL, 'a subscription can be charged again');
SELECT fails(format($$SELECT billing.collect_by(%L, 'cash')$$, (SELECT id FROM billing.subscriptions WHERE organization_id = 'gone')), '22023', 'method', NULL, 'or be paid by one of two references');
SELECT fails($$SELECT billing.collect_by('00000000-0000-7000-8000-000000000009', 'oxxo')$$, 'JB005', 'unknown subscription', NULL, 'where there is one');

-- ---------------------------------------------------------------------------
-- Too little, too much, too late

SELECT bill('under', 50000, 'MXN', subscription => sell('under', reference => 'oxxo', wish => 'pay_after:P9D')) AS under,
	   bill('over', 50000, 'MXN', subscription => sell('over', reference => 'oxxo', wish => 'over:700')) AS over,
	   bill('late', 50000, 'MXN', subscription => sell('late', reference => 'oxxo', wish => 'late:P1D')) AS late \gset
CALL billing.set_clock('under', now());
CALL billing.set_clock('over', now());
CALL billing.set_clock('late', now());
CALL billing.run_worker();
SELECT billing.sandbox_pay_reference(number_to_pay(:'under'), 20000);
CALL billing.run_worker();
SELECT is(invoice(:'under'), 'open 20000 30000', 'a part of it leaves it open');
SELECT is(attempts(:'under'), 'issue running @0', 'and the reference is waited for');
CALL billing.advance_clock('under', '4 days');
SELECT is(attempts(:'under'), 'issue failed not_paid @0, schedule planned @6, schedule planned @8, schedule planned @10', 'until it runs out');
CALL billing.advance_clock('under', '3 days');
SELECT is(charged(:'under'), 'canceled 50000, requires_action 30000', 'the next one is for the rest');
SELECT billing.sandbox_pay_reference(number_to_pay(:'under'), 30000);
CALL billing.run_worker();
SELECT is(invoice(:'under') || ', ' || shares(:'under'), 'paid 50000 0, 20000+0 30000+0', 'both parts pay it');
CALL billing.advance_clock('over', '3 days');
SELECT is(invoice(:'over') || ', ' || shares(:'over'), 'paid 50000 0, 50000+700', 'what is too much is the customer''s');
SELECT is((SELECT what FROM billing.attention WHERE object_id = payment_of(:'over') AND severity = 'warning'), 'payment pays nothing', 'for a person to look at');
SELECT is((SELECT count(*) FROM billing.events WHERE id = payment_of(:'over') AND type = 'payment.unapplied'), 1::bigint, 'and the application to hear of, once');
CALL billing.advance_clock('late', '3 days 12 hours');
SELECT is((SELECT status FROM billing.subscriptions WHERE organization_id = 'late'), 'past_due', 'past due is what is not paid in time');
SELECT is(attempts(:'late'), 'issue failed not_paid @0, schedule planned @6, schedule planned @8, schedule planned @10', 'not paid in time');
CALL billing.advance_clock('late', '1 day');
SELECT is((SELECT status FROM billing.subscriptions WHERE organization_id = 'late'), 'active', 'a subscription that was past due is active');
SELECT is(invoice(:'late'), 'paid 50000 0', 'paid late is paid');
SELECT is(attempts(:'late'), 'issue succeeded @0, schedule canceled @6, schedule canceled @8, schedule canceled @10', 'and nothing else is asked for');

-- ---------------------------------------------------------------------------
-- What goes back

SELECT give('back', 'pm_card_visa'), give('half', 'pm_card_refundFail'), give('held', 'pm_card_createDispute') \gset
CALL billing.run_worker();
SELECT bill('back', 10000) AS back, bill('half', 10000) AS half, bill('held', 10000) AS held \gset
CALL billing.set_clock('half', now());
CALL billing.set_clock('held', now());
CALL billing.run_worker();
SELECT billing.create_refund(payment_of(:'back'), 4000) AS refund \gset
SELECT billing.create_refund(payment_of(:'half'), 4000) AS refund \gset
CALL billing.run_worker();
SELECT is(invoice(:'back') || ', ' || shares(:'back'), 'paid 6000 0, 6000+0', 'what is given back is not paid, and not open either');
CALL billing.advance_clock('half', '10 days');
SELECT is((SELECT status FROM billing.refunds WHERE payment_intent_id = payment_of(:'half')), 'failed', 'a refund that fails');
SELECT is(invoice(:'half') || ', ' || shares(:'half'), 'paid 10000 0, 10000+0', 'is paid again');
CALL billing.advance_clock('held', '10 days');
SELECT is((SELECT count(*) FROM billing.disputes WHERE payment_intent_id = payment_of(:'held')), 1::bigint, 'a payment that is disputed');
SELECT is(invoice(:'held'), 'paid 10000 0', 'has paid its invoice');

SELECT bill('back', 10000, collection => 'send_invoice', days => 10) AS more \gset
CALL billing.run_worker();
SELECT billing.create_payment_intent(billing.find_customer('back'), 10700, 'USD', payment_method => 'pm_card_visa', invoice_id => :'more') AS paid \gset
CALL billing.run_worker();
SELECT is(invoice(:'more') || ', ' || shares(:'more'), 'paid 10000 0, 10000+700', 'who pays more has a balance');
SELECT billing.create_refund(:'paid', 700) AS refund \gset
CALL billing.run_worker();
SELECT is(invoice(:'more') || ', ' || shares(:'more'), 'paid 10000 0, 10000+0', 'what goes back is what was too much first');
SELECT is((SELECT count(*) FROM billing.attention WHERE object_id = :'paid'), 0::bigint, 'and that is all');
SELECT is(happened(:'more'), 'invoice.sent invoice.paid', 'whoever asked for the payment');

-- ---------------------------------------------------------------------------
-- Two ways at once: what comes second is the customer's, whichever it is

SELECT bill('other', 50000, 'MXN', subscription => sell('other', reference => 'oxxo', wish => 'pay_after:P9D')) AS other \gset
CALL billing.set_clock('other', now());
CALL billing.run_worker();
SELECT number_to_pay(:'other') AS number \gset
SELECT billing.mark_invoice_paid(:'other', 'in cash', amount => 45000);
CALL billing.run_worker();
SELECT is(invoice(:'other'), 'open 45000 5000', 'most of it by other ways');
SELECT billing.sandbox_pay_reference(:'number', 50000);
CALL billing.run_worker();
SELECT is(invoice(:'other') || ', ' || shares(:'other'), 'paid 50000 0, 5000+45000', 'and then all of it: the rest is the customer''s');

SELECT is((SELECT balance FROM billing.customer_balances WHERE organization_id = 'other'), 45000::bigint, 'in his balance');
SELECT is((SELECT balance FROM billing.customer_balances WHERE organization_id = 'back'), 0::bigint, 'where nothing is left that was given back');

-- ---------------------------------------------------------------------------
-- References that are used again and again

SELECT billing.attach_payment_method(billing.find_customer('keeper'), type => 'spei_recurrent', set_default => true) AS kept \gset
CALL billing.run_worker();
SELECT bill('keeper', 30000, 'MXN', subscription => sell('keeper')) AS first, bill('keeper', 20000, 'MXN') AS second \gset
CALL billing.set_clock('keeper', now());
CALL billing.run_worker();
SELECT is(attempts(:'first'), 'issue running @3', 'a reference that the customer keeps is waited for');
SELECT is(happened(:'first'), 'invoice.payment_action_required', 'when he was told');
SELECT is((SELECT count(*) FROM billing.payment_intents), (SELECT count(*) FROM billing.payment_intents WHERE organization_id <> 'keeper'), 'nothing is asked for');
CALL billing.advance_clock('keeper', '4 days');
SELECT is(attempts(:'second'), 'issue failed not_paid @3, schedule planned @6, schedule planned @8, schedule planned @10', 'for a while');
SELECT is(attempts(:'first'), 'issue failed not_paid @3, schedule planned @6, schedule planned @8, schedule planned @10', 'one like the other');
SELECT m ->> 'number' AS kept FROM billing.sandbox_state, jsonb_array_elements(state -> 'methods') AS m WHERE customer_id = billing.find_customer('keeper') \gset
SELECT billing.sandbox_pay_reference(:'kept', 10000);
CALL billing.run_worker();
SELECT is(invoice(:'first') || ', ' || invoice(:'second'), 'open 10000 20000 not_paid, open 0 20000 not_paid', 'what arrives without being asked for pays the oldest invoice, if only in part');
SELECT is((SELECT p.unasked AND p.subscription_id = i.subscription_id FROM billing.payment_intents AS p JOIN billing.invoices AS i ON i.id = p.invoice_id WHERE p.organization_id = 'keeper'), true, 'and belongs to it');
SELECT billing.sandbox_pay_reference(:'kept', 25000);
CALL billing.run_worker();
SELECT is(invoice(:'first') || ', ' || shares(:'first'), 'paid 30000 0, 10000+0 20000+5000', 'then the rest of it; what is more is the customer''s');
SELECT is(invoice(:'second'), 'open 0 20000 not_paid', 'and not another invoice''s');
SELECT is(attempts(:'first'), 'issue failed not_paid @3, schedule canceled @6, schedule canceled @8, schedule canceled @10', 'what was planned is called off');
SELECT billing.sandbox_pay_reference(:'kept', 20000);
CALL billing.run_worker();
SELECT is(invoice(:'second'), 'paid 20000 0', 'the next payment pays the next invoice');
SELECT billing.sandbox_pay_reference(:'kept', 700);
CALL billing.run_worker();
SELECT is((SELECT balance FROM billing.customer_balances WHERE organization_id = 'keeper'), 5700::bigint, 'where nothing is to be paid it is balance');
SELECT is((SELECT count(*) FROM billing.attention WHERE organization_id = 'keeper' AND what = 'payment pays nothing'), 2::bigint, 'for a person to look at');

-- ---------------------------------------------------------------------------
-- One that cannot be collected holds up no other one

SELECT give('card', 'pm_card_visa') AS visa \gset
CALL billing.run_worker();
SELECT bill('card', 1000, account => 'nowhere') AS wrong \gset
SELECT bill('card', 1000) AS right \gset
CALL billing.run_worker();
SELECT is(invoice(:'wrong'), 'open 0 1000', 'an account that there is not is held');
SELECT is(invoice(:'right'), 'paid 1000 0', 'and the next invoice is paid');
SELECT is((SELECT count(*) FROM billing.dunning_attempts WHERE state = 'running' AND organization_id <> 'keeper'), 0::bigint, 'nothing is left running');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

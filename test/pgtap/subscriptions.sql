-- Subscriptions: from the call to the provider's word and back, in the sandbox.
\ir helpers.psql
SELECT plan(120);

SELECT count(billing.create_customer(o, o || '@example.com')) AS customers
FROM string_to_table('trial nopm paused invoice now slow fail change group custom free cancel key keep twice back dead gone', ' ') AS o \gset

-- ---------------------------------------------------------------------------
-- Trial

BEGIN;
SELECT billing.subscribe('trial', 'pro', 'pm_card_visa', trial_days => 14, managed_by => 'provider') AS trial \gset
SELECT is(status_of('trial'), 'incomplete', 'a new subscription is incomplete until the provider confirms');
SELECT is((SELECT array_agg(operation ORDER BY seq) FROM billing.outbox WHERE ordering_key = billing.find_customer('trial') AND operation <> 'customer.create'),
	'{payment_method.attach,subscription.create}', 'the payment method is attached first');
COMMIT;
CALL billing.run_worker();
SELECT is(status_of('trial'), 'trialing', 'with trial days it is trialing then');
SELECT is((SELECT trial_end - trial_start FROM billing.subscriptions WHERE id = :'trial'), '14 days', 'for as many days');
SELECT is((SELECT count(*) FROM billing.invoices WHERE subscription_id = :'trial' AND total > 0), 0::bigint, 'which cost nothing');
CALL billing.advance_clock('trial', '13 days 23 hours');
SELECT is(status_of('trial'), 'trialing', 'an hour before its end it is trialing');
CALL billing.advance_clock('trial', '2 hours');
SELECT is(status_of('trial'), 'active', 'after its end it is active');
SELECT results_eq(format($$SELECT total, amount_paid, status FROM billing.invoices WHERE subscription_id = %L AND total > 0$$, :'trial'),
	$$VALUES (2900::bigint, 2900::bigint, 'paid')$$, 'and the first month is paid');
SELECT is((SELECT current_period_end FROM billing.subscriptions WHERE id = :'trial'),
	(SELECT current_period_start + interval '1 month' FROM billing.subscriptions WHERE id = :'trial'), 'its period is a month');

SELECT billing.subscribe('nopm', 'pro', trial_days => 7, managed_by => 'provider') AS nopm \gset
SELECT billing.subscribe('paused', 'pro', trial_days => 7, trial_end_behavior => 'pause', managed_by => 'provider') AS paused \gset
SELECT billing.subscribe('invoice', 'pro', trial_days => 7, trial_end_behavior => 'create_invoice', managed_by => 'provider') AS invoice \gset
CALL billing.run_worker();
CALL billing.advance_clock('nopm', '8 days');
SELECT is(status_of('nopm'), 'canceled', 'a trial without a payment method ends in a cancellation');
CALL billing.advance_clock('paused', '8 days');
SELECT is(status_of('paused'), 'paused', 'or in a pause, where that was wanted');
CALL billing.advance_clock('invoice', '8 days');
SELECT is(status_of('invoice'), 'past_due', 'or in an invoice that nobody pays');

-- once per organisation and plan group, unless the call says it
SELECT billing.create_plan('tried', 'Tried', 1000, trial_days => 5) AS tried \gset
SELECT billing.subscribe('nopm', 'tried', 'pm_card_visa', managed_by => 'provider') AS nopm \gset
CALL billing.run_worker();
SELECT is(status_of('nopm'), 'active', 'the trial of a plan is given once: the second time there is none');
SELECT billing.cancel_subscription(:'nopm', at_period_end => false);
CALL billing.run_worker();
SELECT billing.subscribe('nopm', 'tried', trial_days => 5, managed_by => 'provider') AS nopm \gset
CALL billing.run_worker();
SELECT is(status_of('nopm'), 'trialing', 'unless the call names it');
SELECT billing.subscribe('keep', 'tried', managed_by => 'provider') AS keep \gset
CALL billing.run_worker();
SELECT is((SELECT trial_end - trial_start FROM billing.subscriptions WHERE id = :'keep'), '5 days', 'the plan''s trial is the default');

-- ---------------------------------------------------------------------------
-- The first payment

SELECT billing.subscribe('now', 'pro', 'pm_card_visa', quantity => 3, managed_by => 'provider') AS now \gset
CALL billing.run_worker();
SELECT is(status_of('now'), 'active', 'without a trial it is active as soon as it is paid');
SELECT is((SELECT total FROM billing.invoices WHERE subscription_id = :'now'), 8700::bigint, 'the price times the quantity');
SELECT is((SELECT last4 FROM billing.payment_methods AS m JOIN billing.subscriptions AS s ON s.payment_method_id = m.id WHERE s.id = :'now'), '4242', 'by the method that was given');

SELECT billing.subscribe('slow', 'pro', managed_by => 'provider') AS slow \gset
CALL billing.run_worker();
SELECT is(status_of('slow'), 'incomplete', 'without a payment method it stays incomplete');
CALL billing.advance_clock('slow', '22 hours');
SELECT is(status_of('slow'), 'incomplete', 'for 22 hours');
CALL billing.advance_clock('slow', '61 minutes');
SELECT is(status_of('slow'), 'incomplete_expired', 'after 23 hours it expires');
SELECT is((SELECT status FROM billing.invoices WHERE subscription_id = :'slow'), 'void', 'and its invoice is void');
SELECT fails(format($$SELECT billing.update_subscription(%L, quantity => 2)$$, :'slow'), 'JB008', 'has ended', 'subscribe', 'what has expired cannot be changed');

-- ---------------------------------------------------------------------------
-- Dunning by the clock

SELECT billing.subscribe('fail', 'pro', 'pm_card_chargeCustomerFail', trial_days => 1, managed_by => 'provider') AS fail \gset
CALL billing.run_worker();
CALL billing.advance_clock('fail', '1 day 1 minute');
SELECT is(status_of('fail'), 'past_due', 'a renewal that is declined makes it past due');
SELECT ok(billing.has_feature('fail', 'sso'), 'which is a grace: it has its features');
SELECT is((SELECT attempt_count FROM billing.invoices WHERE subscription_id = :'fail' AND status = 'open'), 1, 'after one attempt');
CALL billing.advance_clock('fail', '3 days');
SELECT is((SELECT attempt_count FROM billing.invoices WHERE subscription_id = :'fail' AND status = 'open'), 2, 'tried again 3 days after the first failure');
CALL billing.advance_clock('fail', '1 day');
SELECT is((SELECT attempt_count FROM billing.invoices WHERE subscription_id = :'fail' AND status = 'open'), 2, 'and not after 4');
CALL billing.advance_clock('fail', '1 day');
SELECT is((SELECT attempt_count FROM billing.invoices WHERE subscription_id = :'fail' AND status = 'open'), 3, 'but after 5');
CALL billing.advance_clock('fail', '2 days');
SELECT is(status_of('fail'), 'canceled', 'after the last try, 7 days after the first, it is cancelled');
SELECT ok(NOT billing.has_feature('fail', 'sso'), 'and the features are gone');

SELECT billing.subscribe('back', 'pro', 'pm_card_chargeCustomerFail', trial_days => 1, managed_by => 'provider') AS back \gset
CALL billing.run_worker();
CALL billing.advance_clock('back', '1 day 1 minute');
SELECT billing.update_subscription(:'back', payment_method => 'pm_card_visa');
CALL billing.run_worker();
CALL billing.advance_clock('back', '3 days');
SELECT is(status_of('back'), 'active', 'a payment method that works brings it back');

-- ---------------------------------------------------------------------------
-- Changing

SELECT billing.create_plan('plus', 'Plus', 5900) AS plus \gset
SELECT billing.create_plan('yearly', 'Yearly', 29000, "interval" => 'year') AS yearly \gset
SELECT billing.subscribe('change', 'pro', 'pm_card_visa', managed_by => 'provider') AS change \gset
CALL billing.run_worker();
SELECT current_period_start + (current_period_end - current_period_start) / 2 AS middle FROM billing.subscriptions WHERE id = :'change' \gset
CALL billing.set_clock('change', :'middle');
BEGIN;
SELECT billing.update_subscription(:'change', quantity => 2);
SELECT is((SELECT quantity FROM billing.subscriptions WHERE id = :'change'), 1::bigint, 'a change shows when the provider confirms');
COMMIT;
CALL billing.run_worker();
SELECT is((SELECT quantity FROM billing.subscriptions WHERE id = :'change'), 2::bigint, 'then the quantity is changed');
SELECT is((SELECT count(*) FROM billing.invoices WHERE subscription_id = :'change'), 1::bigint, 'create_prorations makes no invoice at once');
SELECT billing.update_subscription(:'change', 'plus', proration_behavior => 'always_invoice');
CALL billing.run_worker();
SELECT is((SELECT p.plan FROM billing.subscriptions AS s JOIN billing.plans AS p ON p.id = s.plan_id WHERE s.id = :'change'), 'plus', 'the plan can be changed');
SELECT is((SELECT total FROM billing.invoices WHERE subscription_id = :'change' AND billing_reason = 'subscription_update'),
	1450 + 5900 - 2900::bigint, 'always_invoice bills half a month of the difference, and what was pending');
SELECT billing.update_subscription(:'change', quantity => 1, proration_behavior => 'none');
CALL billing.run_worker();
SELECT current_period_end + interval '1 minute' AS next FROM billing.subscriptions WHERE id = :'change' \gset
CALL billing.set_clock('change', :'next');
SELECT is((SELECT total FROM billing.invoices WHERE subscription_id = :'change' ORDER BY issued_at DESC LIMIT 1), 5900::bigint, 'none gives no credit: the next month costs its price');
SELECT billing.update_subscription(:'change', 'yearly');
CALL billing.run_worker();
SELECT is((SELECT date_trunc('second', current_period_start) FROM billing.subscriptions WHERE id = :'change'), date_trunc('second', billing.now('change')), 'a new interval begins a new period now');
SELECT cmp_ok((SELECT total FROM billing.invoices WHERE subscription_id = :'change' ORDER BY issued_at DESC, id DESC LIMIT 1), '<', 29000::bigint, 'that is billed at once, less the rest of the old one');
SELECT cmp_ok((SELECT total FROM billing.invoices WHERE subscription_id = :'change' ORDER BY issued_at DESC, id DESC LIMIT 1), '>', 23000::bigint, 'which is no more than a month');
SELECT billing.update_subscription(:'change', payment_method => 'pm_card_amex');
CALL billing.run_worker();
SELECT is((SELECT brand FROM billing.payment_methods AS m JOIN billing.subscriptions AS s ON s.payment_method_id = m.id WHERE s.id = :'change'), 'amex', 'the payment method can be changed');

SELECT fails(format($$SELECT billing.update_subscription(%L)$$, :'change'), '22023', 'nothing to change', 'plan, price', 'a change changes something');
SELECT fails(format($$SELECT billing.update_subscription(%L, quantity => 0)$$, :'change'), '22023', 'quantity must be', NULL, 'a quantity is at least 1');
SELECT fails(format($$SELECT billing.update_subscription(%L, quantity => -5)$$, :'change'), '22023', 'quantity must be', NULL, 'and not negative');
SELECT fails(format($$SELECT billing.update_subscription(%L, quantity => 2, proration_behavior => 'some')$$, :'change'), '22023', 'unknown proration_behavior "some"', 'create_prorations, none, always_invoice', 'an unknown proration is refused, and those that there are are listed');
SELECT fails(format($$SELECT billing.update_subscription(%L, 'nope')$$, :'change'), 'JB005', 'unknown plan "nope"', 'free, pro', 'an unknown plan is refused');
SELECT fails(format($$SELECT billing.update_subscription(%L, 'enterprise')$$, :'change'), '22023', 'price agreed', 'amount', 'a plan with a custom price needs one');
SELECT fails($$SELECT billing.update_subscription('00000000-0000-7000-8000-000000000000', quantity => 2)$$, 'JB005', 'unknown subscription', NULL, 'an unknown subscription is refused');
SELECT fails($$SELECT billing.update_subscription(NULL, quantity => 2)$$, '23502', 'subscription_id must be given', NULL, 'a subscription has to be named');

-- ---------------------------------------------------------------------------
-- Cancelling and resuming

SELECT billing.subscribe('cancel', 'pro', 'pm_card_visa', managed_by => 'provider') AS cancel \gset
CALL billing.run_worker();
SELECT fails(format($$SELECT billing.resume_subscription(%L)$$, :'cancel'), 'JB008', 'neither paused nor', NULL, 'there is nothing to resume');
SELECT billing.cancel_subscription(:'cancel');
CALL billing.run_worker();
SELECT results_eq(format($$SELECT status, cancel_at_period_end FROM billing.subscriptions WHERE id = %L$$, :'cancel'), $$VALUES ('active', true)$$, 'a cancellation is at the end of the period by default');
SELECT billing.resume_subscription(:'cancel');
CALL billing.run_worker();
SELECT results_eq(format($$SELECT status, cancel_at_period_end FROM billing.subscriptions WHERE id = %L$$, :'cancel'), $$VALUES ('active', false)$$, 'which can be taken back');
SELECT billing.cancel_subscription(:'cancel');
CALL billing.run_worker();
CALL billing.advance_clock('cancel', '32 days');
SELECT is(status_of('cancel'), 'canceled', 'at the end of the period it ends');
SELECT is((SELECT ended_at FROM billing.subscriptions WHERE id = :'cancel'), (SELECT current_period_end FROM billing.subscriptions WHERE id = :'cancel'), 'to the second');
SELECT is((SELECT count(*) FROM billing.invoices WHERE subscription_id = :'cancel'), 1::bigint, 'and no further month is billed');
SELECT fails(format($$SELECT billing.resume_subscription(%L)$$, :'cancel'), 'JB008', 'has ended', 'subscribe', 'what has ended cannot be resumed');
SELECT lives_ok(format($$SELECT billing.cancel_subscription(%L)$$, :'cancel'), 'cancelling what is cancelled is harmless');
SELECT billing.subscribe('cancel', 'pro', managed_by => 'provider') AS cancel \gset
CALL billing.run_worker();
SELECT is(status_of('cancel'), 'active', 'the organisation can subscribe again, and its default method pays');
SELECT billing.cancel_subscription(:'cancel', at_period_end => false);
CALL billing.run_worker();
SELECT is(status_of('cancel'), 'canceled', 'a cancellation can be at once');
SELECT billing.cancel_subscription(:'keep');
CALL billing.run_worker();
CALL billing.advance_clock('keep', '6 days');
SELECT is((SELECT ended_at = trial_end FROM billing.subscriptions WHERE id = :'keep'), true, 'from a trial it ends with the trial');
SELECT billing.cancel_subscription(:'invoice');
CALL billing.run_worker();
SELECT is(status_of('invoice'), 'canceled', 'from past due it ends at once, whatever was said');
SELECT billing.attach_payment_method(billing.find_customer('paused'), 'pm_card_visa') AS method \gset
CALL billing.run_worker();
SELECT billing.resume_subscription(:'paused');
CALL billing.run_worker();
SELECT is(status_of('paused'), 'active', 'a paused one runs again when it is resumed');

BEGIN;
SELECT billing.subscribe('gone', 'pro', 'pm_card_visa', managed_by => 'provider') AS gone \gset
SELECT billing.cancel_subscription(:'gone', at_period_end => false);
COMMIT;
CALL billing.run_worker();
SELECT is(status_of('gone'), 'canceled', 'one that is cancelled before the provider heard of it ends, too');
SELECT is((SELECT count(*) FROM billing.outbox WHERE object_id = :'gone'), 0::bigint, 'and leaves no request behind');

-- ---------------------------------------------------------------------------
-- One per organisation and group

SELECT fails($$SELECT billing.subscribe('now', 'plus', 'pm_card_visa', managed_by => 'provider')$$, 'JB008', 'organization "now" has a subscription in plan group "default"', 'update_subscription', 'a second live one is refused');
BEGIN;
SELECT billing.subscribe('twice', 'pro', managed_by => 'provider') AS twice \gset
SELECT fails($$SELECT billing.subscribe('twice', 'plus', managed_by => 'provider')$$, 'JB008', 'has a subscription', 'await', 'a second click is refused while the first is on its way');
COMMIT;
CALL billing.run_worker();
SELECT billing.subscribe('twice', 'plus', 'pm_card_visa', managed_by => 'provider') AS second \gset
CALL billing.run_worker();
SELECT results_eq(format($$SELECT status, superseded_by FROM billing.subscriptions WHERE id = %L$$, :'twice'), format($$VALUES ('canceled', %L::uuid)$$, :'second'), 'an incomplete one gives way to a new one');
SELECT is(status_of('twice'), 'active', 'which is paid');
SELECT billing.create_plan('support', 'Support', 900, plan_group => 'support', features => '{"hotline": true}') AS support \gset
SELECT billing.subscribe('now', 'support', 'pm_card_visa', managed_by => 'provider') AS support \gset
CALL billing.run_worker();
SELECT results_eq($$SELECT plan_group, status FROM billing.subscriptions WHERE organization_id = 'now' ORDER BY 1$$, $$VALUES ('default', 'active'), ('support', 'active')$$, 'plans of another group are beside it');
SELECT fails(format($$SELECT billing.update_subscription(%L, 'support')$$, :'now'), '22023', 'in group "support"', 'beside', 'a plan of another group cannot take its place');

-- ---------------------------------------------------------------------------
-- Custom prices

SELECT fails($$SELECT billing.subscribe('custom', 'enterprise', managed_by => 'provider')$$, '22023', 'price agreed', 'amount', 'a custom price is never taken as 0');
SELECT billing.subscribe('custom', 'enterprise', 'pm_card_visa', amount => 123456, "interval" => 'year', managed_by => 'provider') AS custom \gset
CALL billing.run_worker();
SELECT results_eq(format($$SELECT s.status, r.amount, r."interval", i.total FROM billing.subscriptions AS s JOIN billing.prices AS r ON r.id = s.price_id
	JOIN billing.invoices AS i ON i.subscription_id = s.id WHERE s.id = %L$$, :'custom'), $$VALUES ('active', 123456::bigint, 'year', 123456::bigint)$$, 'with an amount it is sold at that');
SELECT price_id AS agreed FROM billing.subscriptions WHERE id = :'custom' \gset
SELECT fails(format($$SELECT billing.subscribe('dead', 'enterprise', price => %L, managed_by => 'provider')$$, :'agreed'), 'JB005', 'unknown price', NULL, 'a price agreed with one customer is none of another');
SELECT fails(format($$SELECT billing.subscribe('dead', 'pro', price => %L, amount => 1, managed_by => 'provider')$$, '00000000-0000-7000-8001-000000000002'), '22023', 'both given', NULL, 'price and amount exclude each other');
SELECT fails($$SELECT billing.subscribe('dead', 'free', price => '00000000-0000-7000-8001-000000000002', managed_by => 'provider')$$, '22023', 'belongs to plan "pro"', NULL, 'a price belongs to its plan');
SELECT fails($$SELECT billing.subscribe('dead', 'enterprise', amount => -1, managed_by => 'provider')$$, '22023', 'amount is negative', NULL, 'an amount is not negative');

-- ---------------------------------------------------------------------------
-- Free, paid, free

BEGIN;
SELECT billing.subscribe('free', 'free', managed_by => 'provider') AS free \gset
SELECT is(status_of('free'), 'active', 'a free subscription is active at once');
SELECT is((SELECT count(*) FROM billing.outbox WHERE object_id = :'free'), 0::bigint, 'and no provider hears of it');
COMMIT;
SELECT billing.update_subscription(:'free', 'pro', payment_method => 'pm_card_visa');
CALL billing.run_worker();
SELECT is((SELECT p.plan || ' ' || s.status FROM billing.subscriptions AS s JOIN billing.plans AS p ON p.id = s.plan_id WHERE s.id = :'free'), 'pro active', 'it becomes a paid one when it is paid for');
SELECT is((SELECT total FROM billing.invoices WHERE subscription_id = :'free'), 2900::bigint, 'from now on, for a whole month');
SELECT billing.update_subscription(:'free', 'free', proration_behavior => 'none');
CALL billing.run_worker();
SELECT is((SELECT p.plan || ' ' || s.status FROM billing.subscriptions AS s JOIN billing.plans AS p ON p.id = s.plan_id WHERE s.id = :'free'), 'free active', 'and a free one again');
CALL billing.advance_clock('free', '2 months');
SELECT is((SELECT coalesce(sum(total), 0)::bigint FROM billing.invoices WHERE subscription_id = :'free'), 2900::bigint, 'that costs nothing more');
SELECT billing.subscribe('dead', 'free', managed_by => 'provider') AS dead \gset
SELECT billing.update_subscription(:'dead', 'pro', payment_method => 'pm_card_chargeCustomerFail');
CALL billing.run_worker();
SELECT is((SELECT p.plan || ' ' || s.status FROM billing.subscriptions AS s JOIN billing.plans AS p ON p.id = s.plan_id WHERE s.id = :'dead'), 'free active', 'when the payment fails, the free one stays as it was');
SELECT isnt((SELECT error_code FROM billing.subscriptions WHERE id = :'dead'), NULL, 'and says why');
SELECT billing.cancel_subscription(:'dead', at_period_end => false);
SELECT is(status_of('dead'), 'canceled', 'a free one ends at once');

-- ---------------------------------------------------------------------------
-- Dates that a call names

SELECT billing.update_subscription(:'nopm', trial_end => billing.now('nopm') + interval '2 days');
CALL billing.run_worker();
SELECT is((SELECT date_trunc('second', trial_end) FROM billing.subscriptions WHERE id = :'nopm'), date_trunc('second', billing.now('nopm') + interval '2 days'), 'the end of a trial can be moved');
SELECT billing.subscribe('group', 'pro', 'pm_card_visa', cancel_at => now() + interval '10 days', managed_by => 'provider') AS planned \gset
CALL billing.run_worker();
SELECT is(status_of('group'), 'active', 'a subscription can have its end planned');
CALL billing.advance_clock('group', '10 days 1 second');
SELECT is(status_of('group'), 'canceled', 'and ends then');
SELECT billing.create_customer('unplanned') AS unplanned \gset
SELECT billing.subscribe('unplanned', 'free', managed_by => 'provider') AS unplanned \gset
SELECT fails(format($$SELECT billing.update_subscription(%L, cancel_at => now() + interval '1 day')$$, :'unplanned'), 'JB004', 'a free subscription has no end', NULL, 'a free one cannot have its end planned later either');
SELECT fails(format($$SELECT billing.update_subscription(%L, trial_end => now() + interval '1 day')$$, :'unplanned'), 'JB004', 'a free subscription has no trial', NULL, 'nor a trial');

-- ---------------------------------------------------------------------------
-- Keys, and what is refused

SELECT billing.subscribe('key', 'pro', trial_days => 3, idempotency_key => 'k', managed_by => 'provider') AS key \gset
SELECT is(billing.subscribe('key', 'pro', trial_days => 3, idempotency_key => 'k', managed_by => 'provider'), :'key', 'the same key and arguments give the same subscription');
SELECT fails($$SELECT billing.subscribe('key', 'plus', trial_days => 3, idempotency_key => 'k', managed_by => 'provider')$$, 'JB007', 'another plan', NULL, 'the key with another plan is refused');
SELECT fails($$SELECT billing.subscribe('key', 'pro', trial_days => 3, off_session => true, idempotency_key => 'k', managed_by => 'provider')$$, 'JB007', 'another off_session', NULL, 'the key with another off_session is refused');
CALL billing.run_worker();
SELECT is(billing.subscribe('key', 'pro', trial_days => 3, idempotency_key => 'k', managed_by => 'provider'), :'key', 'also when it is live');
SELECT fails($$SELECT billing.subscribe('nobody', 'pro')$$, 'JB005', 'unknown customer of organization "nobody"', 'create_customer', 'without a customer there is no subscription');
SELECT fails($$SELECT billing.subscribe('slow', 'gold', managed_by => 'provider')$$, 'JB005', 'unknown plan "gold"', 'free, pro, enterprise', 'an unknown plan is refused, and those that there are are listed');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', 'pm_nobody', managed_by => 'provider')$$, 'JB005', 'pm_nobody', 'pm_card_visa', 'an unknown token is refused');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', quantity => 0, managed_by => 'provider')$$, '22023', 'quantity', NULL, 'a quantity of 0 is refused');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', trial_days => -1, managed_by => 'provider')$$, '22023', 'trial_days', NULL, 'a negative trial is refused');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', trial_days => 731, managed_by => 'provider')$$, '22023', 'trial_days', NULL, 'so is one of more than two years');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', currency => 'EUR', managed_by => 'provider')$$, '22023', 'no price in EUR', 'sold in USD per month', 'a currency without a price is refused, and those that there are are listed');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', "interval" => 'year', managed_by => 'provider')$$, '22023', 'no price in USD per year', 'per month', 'so is an interval without a price');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', collection_method => 'send_invoice', days_until_due => 7, managed_by => 'provider')$$, 'JB004', '.', 'charge_automatically', 'what the provider cannot do is refused with what it can');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', collection_method => 'barter', managed_by => 'provider')$$, '22023', 'collection_method', 'send_invoice', 'an unknown way to collect is refused');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', trial_end_behavior => 'hope', managed_by => 'provider')$$, '22023', 'trial_end_behavior', 'cancel, pause, create_invoice', 'an unknown end of a trial is refused');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', provider => 'stripe', managed_by => 'provider')$$, 'JB006', 'stripe', 'configure_provider', 'a provider that is not configured is refused');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', cancel_at => now() - interval '1 day', managed_by => 'provider')$$, '22023', 'cancel_at is not a time to come', 'cancel_subscription', 'an end that is over is refused');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', cancel_at => 'infinity', managed_by => 'provider')$$, '22023', 'cancel_at', NULL, 'and one that never comes');
SELECT fails($$SELECT billing.subscribe('slow', 'free', cancel_at => now() + interval '1 month', managed_by => 'provider')$$, 'JB004', 'a free subscription has no end', 'cancel_subscription', 'a free one has no planned end: nobody would keep it');
SELECT fails(format($$SELECT billing.update_subscription(%L, trial_end => 'infinity')$$, :'key'), '22023', 'cannot be infinite', NULL, 'nor is there a trial without an end');
SELECT fails(format($$SELECT billing.update_subscription(%L, cancel_at => now() - interval '1 day')$$, :'key'), '22023', 'cancel_at', NULL, 'a change cannot end it in the past');
SELECT is((SELECT count(*) FROM billing.subscriptions WHERE organization_id = 'slow'), 1::bigint, 'of refused calls nothing is left');
SELECT fails($$DELETE FROM billing.subscriptions$$, 'JB008', 'cannot be deleted', 'cancel_subscription', 'subscriptions are never deleted');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', collection_method => 'send_invoice', managed_by => 'provider')$$, '23502', 'days_until_due must be given', NULL, 'an invoice that is sent has a time to pay it');
SELECT fails($$SELECT billing.subscribe('slow', 'pro', collection_method => 'send_invoice', days_until_due => -1, managed_by => 'provider')$$, '22023', 'days_until_due', NULL, 'which is not negative');
SELECT fails(format($$SELECT billing.subscribe('slow', 'pro', days_until_due => 7, managed_by => %L)$$, manager), '22023', 'days_until_due is for invoices that are sent', 'send_invoice', 'and is for no other: ' || manager)
FROM unnest('{provider,local}'::text[]) AS manager;
SELECT results_eq($$SELECT DISTINCT before_state || ' ' || after_state FROM billing.events AS e WHERE object = 'subscription' AND before_state <> after_state
	EXCEPT SELECT from_state || ' ' || to_state FROM billing.subscription_transitions$$, $$SELECT ''::text WHERE false$$, 'no transition that is not allowed was made by any of this');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

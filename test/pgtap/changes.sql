-- Local subscriptions are changed, ended and paused. Numbers are computed by hand, by docs/arithmetic.md.
\ir helpers.psql
\ir paid_helpers.psql
SELECT plan(83);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_plan('small', 'Small', 3000, 'USD') AS p1, billing.create_plan('large', 'Large', 6000, 'USD') AS p2, billing.create_plan('nothing', 'Nothing', 0, 'USD') AS p3,
	   billing.create_plan('euros', 'Euros', 3000, 'EUR') AS p4, billing.create_plan('team', 'Team', 1000, 'USD') AS p5, billing.create_plan('yearly', 'Yearly', 30000, 'USD', "interval" => 'year') AS p6,
	   billing.create_plan('other', 'Other', 500, 'USD', plan_group => 'others') AS p7 \gset
SELECT billing.create_price('team', 300, 'USD', component => 'seats') AS seats \gset

CREATE FUNCTION planned(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(c.kind || ' ' || c.state || ' ' || to_char(c.due_at AT TIME ZONE 'UTC', 'MM-DD HH24:MI'), ', ' ORDER BY c.id) FROM billing.list_scheduled_changes(organization) AS c);

-- ---------------------------------------------------------------------------
-- April at 30.00, changed on the 16th at noon: 14.5 of 30 days are left

CALL begin_at('up', 'small');
CALL billing.set_clock('up', '2027-04-16 12:00+00');
SELECT billing.update_subscription(subscription_of('up'), plan => 'large');
SELECT is(waits('up'), 'proration_credit -1450, proration_debit 2900', 'the rest of April is given back and billed anew');
SELECT is((SELECT plan FROM billing.get_subscription(subscription_of('up'))), 'large', 'the plan is another one at once');
SELECT billing.update_subscription(subscription_of('up'), plan => 'small');
SELECT is(waits('up'), NULL, 'changed back in the same instant nothing is left of it');
SELECT billing.update_subscription(subscription_of('up'), quantity => 3);
SELECT is(waits('up'), 'proration_credit -1450, proration_debit 4350', 'three instead of one');
CALL billing.set_clock('up', '2027-04-21 12:00+00');
SELECT billing.update_subscription(subscription_of('up'), quantity => 1);
SELECT is(waits('up'), 'proration_credit -1450, proration_debit 1500, proration_debit 950', 'what waits is cut: five days of three, then one for 9.5 of 30 days');
CALL billing.set_clock('up', '2027-05-01 00:00+00');
SELECT is(last_invoice('up'), 'subscription_cycle 4000: proration_credit -1450, proration_debit 1500, proration_debit 950, base 3000', 'the next invoice has what waited');

-- what is void was not billed
SELECT billing.create_customer(o) FROM unnest(ARRAY['void', 'void_end']) AS o;
CALL billing.run_worker();
CALL billing.set_clock('void', '2027-04-01 00:00+00');
CALL billing.set_clock('void_end', '2027-04-01 00:00+00');
SELECT billing.subscribe(o, 'team', collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local', quantity => 3) FROM unnest(ARRAY['void', 'void_end']) AS o;
CALL billing.run_worker();
SELECT billing.void_invoice(id) FROM billing.invoices WHERE organization_id = 'void';
CALL billing.set_clock('void', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('void'), quantity => 4);
SELECT is(waits('void'), 'proration_debit 600', 'after its invoice is void, a change bills the rest of its period');
SELECT billing.update_subscription(subscription_of('void'), quantity => 3);
SELECT is(waits('void'), NULL, 'there and back bills nothing');
SELECT billing.update_subscription(subscription_of('void'), quantity => 4, proration_behavior => 'always_invoice');
SELECT billing.update_subscription(subscription_of('void'), quantity => 3, proration_behavior => 'always_invoice');
SELECT is((SELECT sum(total) FROM billing.invoices WHERE organization_id = 'void' AND billing_reason = 'subscription_update'), 0::numeric, 'nor invoiced at once');
CALL billing.set_clock('void', '2027-04-21 00:00+00');
SELECT billing.update_subscription(subscription_of('void'), quantity => 4);
CALL billing.set_clock('void', '2027-04-22 00:00+00');
SELECT billing.update_subscription(subscription_of('void'), quantity => 3);
SELECT is(waits('void'), 'proration_debit 40, proration_debit 270', 'one that comes later is one of its own');
SELECT billing.void_invoice(id) FROM billing.invoices WHERE organization_id = 'void_end';
SELECT billing.cancel_subscription(subscription_of('void_end'), at_period_end => false, prorate => true);
SELECT is((SELECT string_agg(status, ', ') FROM billing.invoices WHERE organization_id = 'void_end'), 'void', 'at the end there is nothing to invoice');

-- what was changed by an invoice that is void, beside what is paid; 15 of 30 days of 30.00 and of 90.00
CALL begin_at('beside', 'small');
CALL billing.set_clock('beside', '2027-04-11 00:00+00');
SELECT billing.update_subscription(subscription_of('beside'), plan => 'large', proration_behavior => 'always_invoice');
CALL billing.run_worker();
SELECT billing.void_invoice(id) FROM billing.invoices WHERE organization_id = 'beside' AND billing_reason = 'subscription_update';
CALL billing.set_clock('beside', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('beside'), plan => 'small', quantity => 3);
SELECT is(waits('beside'), 'proration_credit -1500, proration_debit 4500', 'what is paid is given back, what is void is not');
SELECT billing.update_subscription(subscription_of('beside'), plan => 'large', quantity => 1);
SELECT is(waits('beside'), NULL, 'and there and back is nothing');
SELECT billing.update_subscription(subscription_of('beside'), plan => 'small', quantity => 1);
SELECT is(waits('beside'), NULL, 'nor is what is paid billed again');

CALL begin_at('now', 'small');
CALL billing.set_clock('now', '2027-04-16 12:00+00');
SELECT billing.update_subscription(subscription_of('now'), plan => 'large', proration_behavior => 'always_invoice');
SELECT is(last_invoice('now'), 'subscription_update 1450: proration_credit -1450, proration_debit 2900', 'or is invoiced at once');
SELECT billing.update_subscription(subscription_of('now'), plan => 'small', proration_behavior => 'always_invoice');
SELECT is((SELECT sum(total) FROM billing.invoices WHERE organization_id = 'now' AND billing_reason = 'subscription_update'), 0::numeric, 'and back: in all nothing, although nobody has paid yet');
CALL billing.set_clock('now', '2027-04-21 00:00+00');
SELECT billing.update_subscription(subscription_of('now'), plan => 'large');
SELECT is(waits('now'), 'proration_credit -1000, proration_debit 2000', 'then it is what it was');
SELECT billing.update_subscription(subscription_of('now'), quantity => 2, proration_behavior => 'none');
SELECT is(waits('now'), 'proration_credit -1000, proration_debit 2000', 'none: nothing is prorated');

CALL begin_at('poor', 'small');
UPDATE billing.invoices SET status = 'open', amount_paid = 600, paid_elsewhere = 600, amount_remaining = 2400, paid_at = NULL WHERE organization_id = 'poor';
CALL billing.set_clock('poor', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('poor'), plan => 'large');
SELECT is(waits('poor'), 'proration_credit -600, proration_debit 3000', 'no more goes back than was paid');

UPDATE billing.settings SET value = 'day' WHERE name = 'proration_unit';
CALL begin_at('days', 'small');
CALL billing.set_clock('days', '2027-04-16 12:00+00');
SELECT billing.update_subscription(subscription_of('days'), plan => 'large');
SELECT is(waits('days'), 'proration_credit -1500, proration_debit 3000', 'by day: the day of the change belongs to the new plan');
UPDATE billing.settings SET value = 'second' WHERE name = 'proration_unit';

-- ---------------------------------------------------------------------------
-- Another interval, the first price, no price

CALL begin_at('year', 'small');
CALL billing.set_clock('year', '2027-04-16 12:00+00');
SELECT billing.update_subscription(subscription_of('year'), plan => 'yearly');
SELECT is(last_invoice('year'), 'subscription_update 28550: proration_credit -1450, base 30000', 'another interval begins a period, which is invoiced at once');
SELECT is((SELECT current_period_end FROM billing.subscriptions WHERE organization_id = 'year'), '2028-04-16 12:00+00', 'of a new anchor');
CALL begin_at('free', 'nothing');
CALL billing.set_clock('free', '2027-04-16 12:00+00');
SELECT billing.update_subscription(subscription_of('free'), plan => 'small');
SELECT is(last_invoice('free'), 'subscription_update 3000: base 3000', 'so does the first price');
CALL billing.run_worker();
UPDATE billing.invoices SET status = 'paid', amount_paid = amount_due, paid_elsewhere = amount_due, amount_remaining = 0, paid_at = now() WHERE organization_id = 'free' AND status = 'open';
CALL billing.set_clock('free', '2027-05-01 12:00+00');
SELECT billing.update_subscription(subscription_of('free'), plan => 'nothing');
SELECT is(last_invoice('free'), 'subscription_update -1500: proration_credit -1500, balance 1500', 'free again: what is given back becomes balance');

CALL begin_at('trial', 'small', trial_days => 10);
SELECT billing.update_subscription(subscription_of('trial'), plan => 'large');
SELECT is(waits('trial'), NULL, 'in a trial nothing is prorated');
SELECT billing.update_subscription(subscription_of('trial'), trial_end => '2027-04-05 00:00+00');
CALL billing.set_clock('trial', '2027-04-05 00:00+00');
SELECT is(last_invoice('trial'), 'subscription_cycle 6000: base 6000', 'its end can be moved; the plan that it has then is billed');

-- ---------------------------------------------------------------------------
-- Components

CALL begin_at('team', 'team', quantity => 5);
SELECT results_eq($$SELECT component, quantity FROM billing.subscription_items WHERE subscription_id = subscription_of('team') ORDER BY 1$$, $$VALUES ('base', 1::bigint), ('seats', 5)$$, 'quantity is that of the seats');
CALL billing.set_clock('team', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('team'), items => '{"seats": 7}');
SELECT is(waits('team'), 'proration_credit -750, proration_debit 1050', 'seats are prorated by themselves');
SELECT billing.update_subscription(subscription_of('team'), items => '{"seats": null}');
SELECT is(waits('team'), 'proration_credit -750', 'and can be removed');
SELECT billing.update_subscription(subscription_of('team'), items => format('{"seats": {"price": "%s", "quantity": 5}}', :'seats')::jsonb);
SELECT is(waits('team'), NULL, 'and added again: as it was');

-- ---------------------------------------------------------------------------
-- At the end of the period, and taken back

CALL begin_at('later', 'large');
SELECT billing.update_subscription(subscription_of('later'), plan => 'small', effective => 'period_end');
SELECT billing.update_subscription(subscription_of('later'), quantity => 2, effective => 'period_end');
SELECT is(planned('later'), 'change pending 05-01 00:00', 'what is planned is one row');
SELECT is((SELECT terms - 'prices' FROM billing.list_scheduled_changes('later')), '{"plan": "small", "quantities": {"base": 2}}', 'whose terms can be read');
CALL billing.set_clock('later', '2027-05-01 00:00+00');
SELECT is(last_invoice('later'), 'subscription_cycle 6000: base 6000', 'it is billed from then on');
SELECT is((SELECT plan || ' ' || quantity FROM billing.get_subscription(subscription_of('later'))), 'small 2', 'it is as planned');
SELECT billing.update_subscription(subscription_of('later'), plan => 'large', effective => 'period_end');
SELECT billing.cancel_scheduled_change(id) FROM billing.list_scheduled_changes('later') WHERE state = 'pending';
SELECT is(planned('later'), 'change done 05-01 00:00, change canceled 06-01 00:00', 'it can be taken back');
SELECT fails(format($$SELECT billing.cancel_scheduled_change(%L)$$, id), 'JB008', 'is done', NULL, 'what is done cannot') FROM billing.list_scheduled_changes('later') WHERE state = 'done';

-- ---------------------------------------------------------------------------
-- Ends

SELECT billing.cancel_subscription(subscription_of('later'), comment => 'too dear');
SELECT is((SELECT cancel_at_period_end FROM billing.subscriptions WHERE organization_id = 'later'), true, 'it ends with its period');
SELECT billing.resume_subscription(subscription_of('later'));
SELECT is((SELECT cancel_at_period_end FROM billing.subscriptions WHERE organization_id = 'later'), false, 'or goes on');
SELECT billing.cancel_subscription(subscription_of('later'));
CALL billing.set_clock('later', '2027-06-01 00:00+00');
SELECT is(status_of('later') || ' ' || (SELECT count(*) FROM billing.invoices WHERE organization_id = 'later'), 'canceled 2', 'then it ends and is not billed');
SELECT is(planned('later'), 'change done 05-01 00:00, change canceled 06-01 00:00, cancel canceled 06-01 00:00, cancel done 06-01 00:00', 'each of it stands in a row');
SELECT fails(format($$SELECT billing.update_subscription(%L, plan => 'large')$$, subscription_of('later')), 'JB008', 'has ended', 'subscribe', 'an ended one cannot be changed');
SELECT fails(format($$SELECT billing.resume_subscription(%L)$$, subscription_of('later')), 'JB008', 'has ended', 'subscribe', 'nor resumed');

CALL begin_at('ends', 'small');
CALL billing.set_clock('ends', '2027-04-16 12:00+00');
SELECT billing.cancel_subscription(subscription_of('ends'), at_period_end => false, prorate => true);
SELECT is(status_of('ends') || ' ' || last_invoice('ends'), 'canceled subscription_end -1450: proration_credit -1450, balance 1450', 'it ends now: the rest becomes balance');
CALL begin_at('date', 'small');
SELECT billing.update_subscription(subscription_of('date'), cancel_at => '2027-04-20 00:00+00');
SELECT is(planned('date'), 'cancel pending 04-20 00:00', 'it can end on a day');
CALL billing.set_clock('date', '2027-04-20 00:00+00');
SELECT is(status_of('date'), 'canceled', 'then it does');

-- ---------------------------------------------------------------------------
-- Pauses

CALL begin_at('rest', 'small');
SELECT billing.pause_subscription(subscription_of('rest'), resumes_at => '2027-04-10 00:00+00');
SELECT is(status_of('rest') || ' ' || planned('rest'), 'paused resume pending 04-10 00:00', 'it is paused, until then');
CALL billing.set_clock('rest', '2027-04-11 00:00+00');
SELECT is(status_of('rest') || ' ' || (SELECT current_period_end::date FROM billing.subscriptions WHERE organization_id = 'rest'), 'active 2027-05-01', 'it goes on in its period');
SELECT billing.pause_subscription(subscription_of('rest'), at_period_end => true);
CALL billing.set_clock('rest', '2027-05-09 00:00+00');
SELECT is(status_of('rest') || ' ' || (SELECT count(*) FROM billing.invoices WHERE organization_id = 'rest'), 'paused 1', 'paused at the end of its period it is not billed');
SELECT billing.resume_subscription(subscription_of('rest'));
SELECT is(status_of('rest') || ' ' || (SELECT current_period_end::date FROM billing.subscriptions WHERE organization_id = 'rest'), 'active 2027-06-09', 'later a new period begins');

-- ---------------------------------------------------------------------------
-- Refused

CALL begin_at('no', 'small');
SELECT subscription_of('no') AS no \gset
SELECT fails(format($$SELECT billing.update_subscription(%L, quantity => 0)$$, :'no'), '22023', 'at least 1', NULL, 'no quantity of 0');
SELECT fails(format($$SELECT billing.update_subscription(%L, quantity => -1)$$, :'no'), '22023', 'at least 1', NULL, 'none below it');
SELECT fails(format($$SELECT billing.update_subscription(%L, items => '{"base": -1}')$$, :'no'), '22023', 'whole quantity', NULL, 'nor of an item');
SELECT fails(format($$SELECT billing.update_subscription(%L, items => '{"base": null}')$$, :'no'), '22023', 'cannot be removed', 'cancel_subscription', 'its base stays');
SELECT fails(format($$SELECT billing.update_subscription(%L, items => '{"seats": 2}')$$, :'no'), 'JB005', 'component "seats"', NULL, 'a component has to be there');
SELECT fails(format($$SELECT billing.update_subscription(%L, items => '{"seats": {"price": "%s"}, "base": 1.5}')$$, :'no', :'seats'), '22023', 'whole quantity', NULL, 'units are whole');
SELECT fails(format($$SELECT billing.update_subscription(%L, quantity => 4, items => '{"base": 3}')$$, :'no'), '22023', '"base" is what quantity counts', 'Pass it once', 'nothing is counted twice');
CALL begin_at('twice', 'team');
SELECT fails(format($$SELECT billing.update_subscription(%L, quantity => 4, items => '{"seats": {"quantity": 3}}')$$, subscription_of('twice')), '22023', '"seats" is what quantity counts', 'Pass it once', 'where there are seats they are what quantity counts');
SELECT fails(format($$SELECT billing.preview_update(%L, quantity => 4, items => '{"seats": null}', effective => 'period_end')$$, subscription_of('twice')), '22023', '"seats" is what quantity counts', 'Pass it once', 'nor counted and removed');
SELECT lives_ok(format($$SELECT billing.update_subscription(%L, quantity => 4, items => '{"base": 2}')$$, subscription_of('twice')), 'another component has its own');
SELECT fails(format($$SELECT billing.update_subscription(%L, quantity => 9223372036854775807)$$, subscription_of('twice')), '22003', '"seats" cannot be rated', 'too large for the price.$', 'seats too many are nothing that was recorded');
SELECT throws_ok(format($$SELECT billing.update_subscription(%L, plan => 'euros')$$, :'no'), NULL, NULL, 'a plan without a price in the currency is refused');
SELECT fails(format($$SELECT billing.update_subscription(%L, proration_date => '2027-03-01', quantity => 2)$$, :'no'), '22023', 'present period', 'preview_update', 'the past is billed');
SELECT fails(format($$SELECT billing.pause_subscription(%L, behavior => 'keep_as_draft')$$, :'no'), 'JB004', 'no invoices', NULL, 'a pause keeps no drafts');
SELECT fails(format($$SELECT billing.resume_subscription(%L)$$, :'no'), 'JB008', 'neither paused', NULL, 'there is nothing to resume');
SELECT billing.subscribe('no', 'other', collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local') AS beside \gset
SELECT fails(format($$SELECT billing.update_subscription(%L, plan => 'other')$$, :'no'), 'JB008', 'plan group "others"', NULL, 'there is one in the other group');
SELECT is(waits('no'), NULL, 'nothing of it was half done');

-- ---------------------------------------------------------------------------
-- To and fro at any instant is nothing

SELECT coalesce(nullif(current_setting('billing_test.seed', true), ''), (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 100000 || '')::integer AS seed \gset
SELECT diag('seed ' || :seed), setseed(:seed / 100000.0);
CALL begin_at('often', 'small');
CREATE PROCEDURE to_and_fro() LANGUAGE plpgsql AS $$
DECLARE
	at timestamptz := '2027-04-01 00:00+00';
	s uuid := subscription_of('often');
	half text;
BEGIN
	FOR i IN 1 .. 12 LOOP
		at := at + make_interval(secs => floor(random() * 180000));
		CALL billing.set_clock('often', at);
		half := (ARRAY['create_prorations', 'always_invoice'])[1 + floor(random() * 2)::integer];
		PERFORM billing.update_subscription(s, plan => 'large', quantity => 1 + floor(random() * 9)::bigint, proration_behavior => half);
		PERFORM billing.update_subscription(s, plan => 'small', quantity => 1, proration_behavior => half);
		COMMIT;
	END LOOP;
END
$$;
CALL to_and_fro();
SELECT is((SELECT coalesce(sum(l.amount), 0) FROM billing.invoice_lines AS l WHERE l.subscription_id = subscription_of('often') AND l.kind <> 'base'), 0::numeric, 'upgrade and undo are nothing');

-- ---------------------------------------------------------------------------
-- Faults that random lives have found.
SELECT billing.create_plan('rising', 'Rising', 3000, 'USD') AS p8 \gset
SELECT billing.create_price('rising', 4000, 'USD', effective_at => '2027-08-16 00:00+00', existing => 'now') AS risen \gset
SELECT billing.create_coupon('first_third', percent => 33) AS coupon \gset

-- an add-on that comes and goes in a pause
INSERT INTO billing.features (feature, kind) VALUES ('helped', 'boolean');
SELECT billing.create_add_on('help', 'Help', '{"helped": true}') AS add_on, billing.set_add_on_price('help', 700, 'USD') AS help \gset
CALL begin_at('passing', 'small');
CALL billing.set_clock('passing', '2027-04-16 00:00+00');
SELECT billing.pause_subscription(subscription_of('passing'));
SELECT billing.set_add_on('passing', 'help', 1), billing.set_add_on('passing', 'help', 0);
SELECT billing.resume_subscription(subscription_of('passing'));
SELECT is(status_of('passing') || coalesce(waits('passing'), '-'), 'active-', 'of what came and went in a pause nothing is left');
SELECT is((SELECT items::text FROM billing.get_subscription(subscription_of('passing'))), '{"base": 1}', 'neither is the item');

CALL begin_at('trial_pause', 'small', trial_days => 10);
SELECT billing.pause_subscription(subscription_of('trial_pause'));
SELECT lives_ok($$SELECT billing.update_subscription(subscription_of('trial_pause'), plan => 'large')$$, 'one that is paused in its trial is changed');
SELECT is(waits('trial_pause') || last_invoice('trial_pause'), NULL, 'and billed nothing for it');

CALL begin_at('given_up', 'small');
CALL billing.set_clock('given_up', '2027-04-11 00:00+00');
SELECT billing.update_subscription(subscription_of('given_up'), plan => 'yearly', proration_behavior => 'none');
CALL billing.set_clock('given_up', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('given_up'), quantity => 2);
SELECT is(waits('given_up'), 'proration_credit 0, proration_debit 59180', 'a rest that was given up by a change with none is not given back by the next one');

-- in the second in which the period began, too
CALL begin_at('given_up_at_once', 'small');
SELECT billing.update_subscription(subscription_of('given_up_at_once'), plan => 'yearly', proration_behavior => 'none');
CALL pays('given_up_at_once');
CALL billing.set_clock('given_up_at_once', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('given_up_at_once'), quantity => 2);
SELECT is(waits('given_up_at_once'), 'proration_credit -28770, proration_debit 57541', 'neither is one that was given up in the second in which it began');
SELECT billing.update_subscription(subscription_of('given_up_at_once'), quantity => 1);
SELECT is(waits('given_up_at_once'), NULL, 'and there and back is nothing');
CALL begin_at('free_between', 'small');
SELECT billing.update_subscription(subscription_of('free_between'), plan => 'nothing', proration_behavior => 'none');
SELECT billing.update_subscription(subscription_of('free_between'), plan => 'small', proration_behavior => 'none');
CALL pays('free_between');
CALL billing.set_clock('free_between', '2027-04-16 00:00+00');
SELECT billing.update_subscription(subscription_of('free_between'), plan => 'large');
SELECT is(waits('free_between'), 'proration_credit -1500, proration_debit 3000', 'nor where the same month was begun twice in that second');
SELECT billing.update_subscription(subscription_of('free_between'), plan => 'small');
SELECT is(waits('free_between'), NULL, 'the way back restores the one that counts');

SELECT billing.create_customer('once');
CALL billing.set_clock('once', '2027-04-01 00:00+00');
SELECT billing.subscribe('once', 'team', quantity => 2, coupon => 'first_third', collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local') AS once \gset
CALL billing.run_worker();
SELECT billing.update_subscription(:'once', quantity => 5);
SELECT billing.update_subscription(:'once', quantity => 2);
SELECT is(waits('once'), NULL, 'change and back in the instant of the beginning leaves the line with the discount that counts once');

CALL begin_at('standstill', 'rising', '2027-07-01 00:00+00');
UPDATE billing.sandbox_clocks SET now = '2027-11-10 00:00+00' WHERE organization_id = 'standstill';
CALL billing.run_worker();
SELECT is((SELECT string_agg(l.kind || ' ' || l.amount, ', ' ORDER BY l.period_start, l.id) FROM billing.invoice_lines AS l WHERE l.subscription_id = subscription_of('standstill')),
	'base 3000, base 3000, proration_credit -1548, proration_debit 2065, base 4000, base 4000, base 4000',
	'after a standstill a price that changes at once gives back what was billed of its period, long over by then');

CALL begin_at('voided', 'small');
CALL billing.set_clock('voided', '2027-05-01 00:00+00');
UPDATE billing.subscriptions SET status = 'past_due', status_since = now() WHERE id = subscription_of('voided');
SELECT billing.void_invoice(i.id) FROM billing.invoices AS i WHERE i.organization_id = 'voided' AND i.status = 'open';
SELECT is((SELECT status FROM billing.subscriptions WHERE id = subscription_of('voided')), 'active', 'one that owes nothing any more, since its invoice was voided, goes on');

-- ten dollars given back at once, where so much is owed from before
CREATE FUNCTION balance_line(owed bigint) RETURNS text
LANGUAGE sql
RETURN (SELECT concat_ws(' ', i.amount_due, l.description, l.amount) FROM billing.invoices AS i JOIN billing.invoice_lines AS l ON l.invoice_id = i.id AND l.kind = 'balance'
		WHERE i.organization_id = 'owes' || owed AND i.total = -1000);
CREATE PROCEDURE give_ten_back(owed bigint)
LANGUAGE plpgsql AS $$
BEGIN
	CALL begin_at('owes' || owed, 'large');
	CALL billing.set_clock('owes' || owed, '2027-04-21 00:00+00');
	PERFORM billing.adjust_balance('owes' || owed, - owed, 'a dispute', 'USD') WHERE owed > 0;
	PERFORM billing.update_subscription(subscription_of('owes' || owed), plan => 'small', proration_behavior => 'always_invoice');
END
$$;
CALL give_ten_back(0);
CALL give_ten_back(400);
CALL give_ten_back(1500);
SELECT is(balance_line(0), '0 Kept as balance 1000', 'what is given back is kept');
SELECT is(balance_line(400), '0 Owed from before, the rest kept as balance 1000', 'what is owed from before is set off first');
SELECT is(balance_line(1500), '500 Owed from before 1500', 'where more is owed, nothing is kept');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

-- Subscriptions that are to begin later: nothing before, and then what one of that moment is. Numbers are computed by hand.
\ir helpers.psql
SELECT plan(75);

SELECT billing.configure_provider('sandbox');
SELECT count(billing.create_customer(o, country => 'US')) AS customers
FROM string_to_table('later taken back trial seats yearly part calendar anniversary reduced metered now renewal secure at_once gone standstill free sent unpaid added', ' ') AS o \gset
CALL billing.run_worker();
SELECT billing.create_meter('calls', 'sum') AS meter \gset
SELECT billing.create_plan('team', 'Team', 1000, 'USD') AS team, billing.create_plan('annual', 'Annual', 30000, 'USD', "interval" => 'year') AS annual,
	billing.create_plan('usage', 'Usage', 1000, 'USD') AS usage, billing.create_plan('v_now', 'Now', 1000, 'USD') AS v_now, billing.create_plan('v_renewal', 'Renewal', 1000, 'USD') AS v_renewal \gset
SELECT billing.create_price('team', 300, 'USD', component => 'seats') AS seats,
	billing.create_price('usage', component => 'calls', metric => 'calls', currency => 'USD', unit_amount => 2.5) AS calls,
	billing.create_price('v_now', 1500, 'USD', effective_at => '2031-01-20', existing => 'now') AS later_now,
	billing.create_price('v_renewal', 1500, 'USD', effective_at => '2031-01-20', existing => 'renewal') AS later_renewal \gset

-- What an organisation was billed: reason, total, state and beginning of each period.
CREATE FUNCTION billed(organization text) RETURNS SETOF text
LANGUAGE sql
BEGIN ATOMIC
	SELECT concat_ws(' ', replace(i.billing_reason, 'subscription_', ''), i.total, i.status, (i.period_start AT TIME ZONE 'UTC')::date)
	FROM billing.invoices AS i WHERE i.organization_id = organization ORDER BY i.issued_at, i.id;
END;
CREATE FUNCTION invoices(organization text) RETURNS bigint
LANGUAGE sql
RETURN (SELECT count(*) FROM billing.invoices AS i WHERE i.organization_id = organization);
CREATE FUNCTION plans(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(c.kind || ' ' || c.state || ' ' || to_char(c.due_at AT TIME ZONE 'UTC', 'MM-DD HH24:MI'), ', ' ORDER BY c.due_at) FROM billing.list_scheduled_changes(organization) AS c);
CREATE FUNCTION happened(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(replace(e.type, 'subscription.', ''), ' ' ORDER BY e.seq) FROM billing.events AS e WHERE e.organization_id = organization AND e.object = 'subscription');
-- ---------------------------------------------------------------------------
-- Until then, and then

CALL billing.set_clock('later', '2031-01-10 00:00+00');
SELECT billing.subscribe('later', 'pro', 'pm_card_visa', starts_at => '2031-02-01 00:00+00', idempotency_key => 'k') AS later \gset
CALL billing.run_worker();
SELECT is(status_of('later'), 'incomplete', 'what is to begin later has not begun');
SELECT is(plans('later'), 'start pending 02-01 00:00', 'its start is a row that can be read');
SELECT is((SELECT concat_ws(' ', current_period_start, current_period_end, incomplete_until) FROM billing.subscriptions WHERE id = :'later'), '', 'it has no period, and does not expire');
SELECT is((SELECT next_due_at FROM billing.subscriptions WHERE id = :'later'), '2031-02-01 00:00+00', 'it is due then');
SELECT is(billing.has_feature('later', 'sso'), false, 'it gives no access');
SELECT is(invoices('later'), 0::bigint, 'and nothing is billed');
SELECT is((SELECT what || ': ' || detail || ': ' || hint FROM billing.explain(:'later') LIMIT 1), format('subscription is to begin: pro, billed by us, at %s: it begins by itself; billing.cancel_subscription(''%s'') ends it before',
	'2031-02-01 00:00:00+00'::timestamptz, :'later'), 'explain() says so');
SELECT results_eq($$SELECT kind, amount, made_at, reason FROM billing.preview_invoice(subscription_of('later'))$$, $$VALUES ('base', 2900::bigint, '2031-02-01 00:00+00'::timestamptz, 'subscription_create')$$,
	'its first invoice can be seen');
SELECT results_eq($$SELECT made_at::date, total FROM billing.simulate('later', '2031-03-15')$$, $$VALUES ('2031-02-01'::date, 2900::bigint), ('2031-03-01', 2900)$$, 'and those after it');
SELECT is(billing.subscribe('later', 'pro', 'pm_card_visa', starts_at => '2031-02-01 00:00+00', idempotency_key => 'k'), :'later', 'the same call again is the same subscription');
SELECT fails($$SELECT billing.subscribe('later', 'pro', 'pm_card_visa', starts_at => '2031-02-02 00:00+00', idempotency_key => 'k')$$, 'JB007', 'another starts_at', NULL, 'another start is another call');
CALL billing.set_clock('later', '2031-01-31 23:59:59+00');
SELECT is(status_of('later') || ' ' || invoices('later'), 'incomplete 0', 'a second before it still waits');
CALL billing.set_clock('later', '2031-02-01 00:00+00');
SELECT is(status_of('later'), 'active', 'then it begins, and is active when it is paid');
SELECT is(billing.has_feature('later', 'sso'), true, 'with all that it gives');
SELECT results_eq($$SELECT billed('later')$$, $$VALUES ('create 2900 paid 2031-02-01')$$, 'its first period is billed');
SELECT is((SELECT issued_at FROM billing.invoices WHERE organization_id = 'later'), '2031-02-01 00:00+00', 'at its own time');
SELECT is(plans('later'), 'start done 02-01 00:00', 'the row is done');
SELECT is(happened('later'), 'created updated active', 'each step is told');
CALL billing.set_clock('later', '2031-04-02 00:00+00');
SELECT results_eq($$SELECT billed('later')$$, $$VALUES ('create 2900 paid 2031-02-01'), ('cycle 2900 paid 2031-03-01'), ('cycle 2900 paid 2031-04-01')$$, 'periods count from the start');

-- as if nothing had run for months
CALL billing.set_clock('standstill', '2031-01-10 00:00+00');
SELECT billing.subscribe('standstill', 'pro', starts_at => '2031-02-01 00:00+00', collection_method => 'send_invoice', days_until_due => 10) AS standstill \gset
UPDATE billing.sandbox_clocks SET now = '2031-04-10 00:00+00' WHERE organization_id = 'standstill';
CALL billing.run_worker();
SELECT results_eq($$SELECT billed('standstill')$$, $$VALUES ('create 2900 open 2031-02-01'), ('cycle 2900 open 2031-03-01'), ('cycle 2900 open 2031-04-01')$$, 'after a standstill it has begun at its time');
SELECT is(status_of('standstill'), 'active', 'what is sent is active from its start');

CALL billing.set_clock('free', '2031-01-10 00:00+00');
SELECT billing.subscribe('free', 'free', starts_at => '2031-02-01 00:00+00', managed_by => 'local') AS free \gset
SELECT is(status_of('free'), 'incomplete', 'also what costs nothing begins later');
CALL billing.set_clock('free', '2031-02-01 00:00+00');
SELECT is(status_of('free') || ' ' || invoices('free'), 'active 0', 'and is active then');

CALL billing.set_clock('at_once', '2031-01-10 00:00+00');
SELECT billing.subscribe('at_once', 'pro', 'pm_card_visa', starts_at => '2031-01-10 00:00:00.5+00') AS at_once \gset
SELECT is(invoices('at_once'), 1::bigint, 'what begins in this second begins now');
SELECT is(plans('at_once'), NULL, 'and is not planned');

-- ---------------------------------------------------------------------------
-- Taken back

CALL billing.set_clock('taken', '2031-01-10 00:00+00');
SELECT billing.subscribe('taken', 'pro', 'pm_card_visa', trial_days => 14, starts_at => '2031-02-01 00:00+00', cancel_at => '2031-06-01 00:00+00') AS taken \gset
SELECT is(plans('taken'), 'start pending 02-01 00:00, cancel pending 06-01 00:00', 'an end that is planned is beside it');
SELECT fails($$SELECT billing.subscribe('taken', 'team', 'pm_card_visa')$$, 'JB008', 'has a subscription in plan group', 'update_subscription', 'the place of its group is taken');
SELECT is(status_of('taken'), 'incomplete', 'it does not give way');
SELECT fails(format($$SELECT billing.pause_subscription(%L)$$, :'taken'), 'JB008', 'cannot be paused', NULL, 'nothing is paused before');
SELECT fails(format($$SELECT billing.retry_payment(%L)$$, :'taken'), 'JB008', 'unpaid', NULL, 'nothing is paid before');
SELECT fails(format($$SELECT billing.update_subscription(%L, cancel_at => '2031-02-01 00:00+00')$$, :'taken'), '22023', 'cancel_at is not after the start', 'cancel_subscription', 'an end comes after the start');
SELECT billing.cancel_subscription(:'taken');
SELECT is(status_of('taken') || ' ' || invoices('taken'), 'canceled 0', 'it is canceled without an invoice');
SELECT is(plans('taken'), 'start canceled 02-01 00:00, cancel canceled 06-01 00:00', 'with all that was planned');
CALL billing.set_clock('taken', '2031-02-02 00:00+00');
SELECT is(status_of('taken') || ' ' || invoices('taken'), 'canceled 0', 'and does not begin');

CALL billing.set_clock('back', '2031-01-10 00:00+00');
SELECT billing.subscribe('back', 'pro', 'pm_card_visa', starts_at => '2031-02-01 00:00+00') AS back \gset
SELECT fails(format($$SELECT billing.resume_subscription(%L)$$, :'back'), 'JB008', 'neither paused nor about', NULL, 'there is nothing to resume');
SELECT billing.cancel_scheduled_change(id) FROM billing.list_scheduled_changes('back');
SELECT is(status_of('back') || ' ' || plans('back'), 'canceled start canceled 02-01 00:00', 'a start that is taken back ends it');
SELECT billing.subscribe('back', 'pro', 'pm_card_visa') AS again \gset
SELECT is(status_of('back'), 'incomplete', 'another one can be made then');

CALL billing.set_clock('gone', '2031-01-10 00:00+00');
SELECT billing.subscribe('gone', 'pro', 'pm_card_visa', starts_at => '2031-02-01 00:00+00') AS gone \gset
SELECT billing.delete_customer(billing.find_customer('gone'));
SELECT is(status_of('gone') || ' ' || invoices('gone'), 'canceled 0', 'it goes with its customer');

-- ---------------------------------------------------------------------------
-- Trials

CALL billing.set_clock('trial', '2031-01-10 00:00+00');
SELECT billing.subscribe('trial', 'pro', 'pm_card_visa', trial_days => 14, starts_at => '2031-02-01 00:00+00') AS trial \gset
SELECT is((SELECT concat_ws(' ', trial_start, (trial_end AT TIME ZONE 'UTC')::date) FROM billing.subscriptions WHERE id = :'trial'), '2031-02-15', 'a trial counts from the start, and has not begun');
SELECT results_eq($$SELECT made_at::date, total FROM billing.simulate('trial', '2031-03-01')$$, $$VALUES ('2031-02-15'::date, 2900::bigint)$$, 'the first invoice comes after it');
CALL billing.set_clock('trial', '2031-02-11 00:00+00');
SELECT is(happened('trial'), 'created trialing', 'it begins with the subscription');
SELECT is((SELECT trial_start FROM billing.subscriptions WHERE id = :'trial'), '2031-02-01 00:00+00', 'at its time');
CALL billing.set_clock('trial', '2031-02-16 00:00+00');
SELECT is(happened('trial'), 'created trialing trial_will_end active', 'its end is announced');
SELECT results_eq($$SELECT billed('trial')$$, $$VALUES ('cycle 2900 paid 2031-02-15')$$, 'and billed');

-- ---------------------------------------------------------------------------
-- Changed before

CALL billing.set_clock('seats', '2031-01-10 00:00+00');
SELECT billing.subscribe('seats', 'team', 'pm_card_visa', quantity => 3, starts_at => '2031-02-01 00:00+00') AS seats \gset
CALL billing.set_clock('seats', '2031-01-20 00:00+00');
SELECT is_empty(format($$SELECT * FROM billing.preview_update(%L, quantity => 5)$$, :'seats'), 'before the start a change bills nothing');
SELECT billing.update_subscription(:'seats', quantity => 5);
SELECT is((SELECT count(*) FROM billing.invoice_lines WHERE subscription_id = :'seats'), 0::bigint, 'nothing is prorated');
CALL billing.set_clock('seats', '2031-02-02 00:00+00');
SELECT results_eq($$SELECT billed('seats')$$, $$VALUES ('create 2500 paid 2031-02-01')$$, 'it begins as it was changed: 10.00 and 5 seats of 3.00');

CALL billing.set_clock('yearly', '2031-01-10 00:00+00');
SELECT billing.subscribe('yearly', 'pro', 'pm_card_visa', starts_at => '2031-02-01 00:00+00') AS yearly \gset
SELECT billing.update_subscription(:'yearly', plan => 'annual', proration_behavior => 'always_invoice');
CALL billing.set_clock('yearly', '2031-02-02 00:00+00');
SELECT results_eq($$SELECT billed('yearly')$$, $$VALUES ('create 30000 paid 2031-02-01')$$, 'another plan and interval takes its place');
SELECT is((SELECT current_period_end FROM billing.subscriptions WHERE id = :'yearly'), '2032-02-01 00:00+00', 'its year begins with it');

-- ---------------------------------------------------------------------------
-- Alignment

CALL billing.set_clock('part', '2031-01-10 00:00+00');
SELECT billing.subscribe('part', 'pro', 'pm_card_visa', starts_at => '2031-02-15 00:00+00', billing_alignment => 'calendar') AS part \gset
CALL billing.set_clock('part', '2031-03-02 00:00+00');
-- 14 of 28 days of 29.00
SELECT results_eq($$SELECT billed('part')$$, $$VALUES ('create 1450 paid 2031-02-15'), ('cycle 2900 paid 2031-03-01')$$, 'aligned to the calendar, the first period is a part from the start on');
CALL billing.set_clock('calendar', '2031-01-20 00:00+00');
SELECT billing.subscribe('calendar', 'pro', 'pm_card_visa', billing_alignment => 'calendar') AS calendar \gset
CALL billing.set_clock('calendar', '2031-02-02 00:00+00');
-- 12 of 31 days of 29.00
SELECT results_eq($$SELECT billed('calendar')$$, $$VALUES ('create 1123 paid 2031-01-20'), ('cycle 2900 paid 2031-02-01')$$, 'one subscription is aligned, whatever the setting is');
UPDATE billing.settings SET value = 'calendar' WHERE name = 'billing_alignment';
CALL billing.set_clock('anniversary', '2031-01-20 00:00+00');
SELECT billing.subscribe('anniversary', 'pro', 'pm_card_visa', billing_alignment => 'anniversary') AS anniversary \gset
UPDATE billing.settings SET value = 'anniversary' WHERE name = 'billing_alignment';
SELECT is((SELECT current_period_end FROM billing.subscriptions WHERE id = :'anniversary'), '2031-02-20 00:00+00', 'or is not');

-- ---------------------------------------------------------------------------
-- Coupons, usage, versions of prices, add-ons

SELECT billing.create_coupon('HALF', percent => 50, duration => 'repeating', months => 2) AS half \gset
CALL billing.set_clock('reduced', '2031-01-10 00:00+00');
SELECT billing.subscribe('reduced', 'pro', 'pm_card_visa', starts_at => '2031-03-01 00:00+00', coupon => 'HALF') AS reduced \gset
CALL billing.set_clock('reduced', '2031-05-02 00:00+00');
SELECT results_eq($$SELECT billed('reduced')$$, $$VALUES ('create 1450 paid 2031-03-01'), ('cycle 1450 paid 2031-04-01'), ('cycle 2900 paid 2031-05-01')$$, 'the months of a coupon count from the start');

CALL billing.set_clock('metered', '2031-01-10 00:00+00');
SELECT billing.subscribe('metered', 'usage', 'pm_card_visa', starts_at => '2031-02-01 00:00+00') AS metered \gset
SELECT billing.record_usage('metered', 'calls', 1000, '2031-01-09 00:00+00');
CALL billing.set_clock('metered', '2031-02-10 00:00+00');
SELECT billing.record_usage('metered', 'calls', 11, '2031-02-10 00:00+00');
CALL billing.set_clock('metered', '2031-03-02 00:00+00');
-- 11 calls of 2.5 cents are 27.5
SELECT results_eq($$SELECT billed('metered')$$, $$VALUES ('create 1000 paid 2031-02-01'), ('cycle 1028 paid 2031-03-01')$$, 'what was used before the start is nobody''s');

CALL billing.set_clock('now', '2031-01-10 00:00+00');
CALL billing.set_clock('renewal', '2031-01-10 00:00+00');
SELECT billing.subscribe('now', 'v_now', 'pm_card_visa', starts_at => '2031-02-01 00:00+00') AS now, billing.subscribe('renewal', 'v_renewal', 'pm_card_visa', starts_at => '2031-02-01 00:00+00') AS renewal \gset
CALL billing.set_clock('now', '2031-03-02 00:00+00');
CALL billing.set_clock('renewal', '2031-03-02 00:00+00');
SELECT results_eq($$SELECT billed('now')$$, $$VALUES ('create 1500 paid 2031-02-01'), ('cycle 1500 paid 2031-03-01')$$, 'a price that changes for all has changed by then');
SELECT results_eq($$SELECT billed('renewal')$$, $$VALUES ('create 1000 paid 2031-02-01'), ('cycle 1500 paid 2031-03-01')$$, 'else it begins at the price that was agreed');

SELECT billing.create_add_on('extra', 'Extra', '{"users": 5}') AS extra, billing.set_add_on_price('extra', 200, 'USD') AS extra_price \gset
CALL billing.set_clock('added', '2031-01-10 00:00+00');
SELECT billing.subscribe('added', 'pro', 'pm_card_visa', starts_at => '2031-02-01 00:00+00') AS added \gset
SELECT billing.set_add_on('added', 'extra', 2);
CALL billing.set_clock('added', '2031-02-02 00:00+00');
SELECT results_eq($$SELECT billed('added')$$, $$VALUES ('create 3300 paid 2031-02-01')$$, 'an add-on that came meanwhile is billed from the start on: 29.00 and 2 of 2.00');

-- ---------------------------------------------------------------------------
-- Its first payment

CALL billing.set_clock('secure', '2031-01-10 00:00+00');
SELECT billing.subscribe('secure', 'pro', 'pm_card_authenticationRequired', starts_at => '2031-02-01 00:00+00') AS secure \gset
CALL billing.set_clock('secure', '2031-02-01 00:00+00');
SELECT is((SELECT p.status || ' ' || p.off_session || ' ' || p.error_code FROM billing.payment_intents AS p WHERE p.organization_id = 'secure'), 'failed true authentication_required', 'nobody is there to authenticate it');
SELECT is(status_of('secure'), 'incomplete', 'so it waits');
SELECT is((SELECT incomplete_until FROM billing.subscriptions WHERE id = :'secure'), '2031-02-01 23:00+00', 'for 23 hours from its start');
SELECT billing.pay_invoice(id) AS paid FROM billing.invoices WHERE organization_id = 'secure' \gset
CALL billing.run_worker();
SELECT is((SELECT p.status || ' ' || p.off_session FROM billing.payment_intents AS p WHERE p.organization_id = 'secure' ORDER BY p.id DESC LIMIT 1), 'requires_action false', 'for somebody who pays it');

CALL billing.set_clock('unpaid', '2031-01-10 00:00+00');
SELECT billing.subscribe('unpaid', 'pro', starts_at => '2031-02-01 00:00+00') AS unpaid \gset
CALL billing.set_clock('unpaid', '2031-02-03 00:00+00');
SELECT is(status_of('unpaid'), 'incomplete_expired', 'or gives up');
SELECT results_eq($$SELECT billed('unpaid')$$, $$VALUES ('create 2900 void 2031-02-01')$$, 'with its invoice');

-- ---------------------------------------------------------------------------
-- What is refused

SELECT fails(format($$SELECT billing.subscribe('unpaid', 'pro', %s)$$, w.arguments), w.code, w.message, w.hint, w.name) FROM (VALUES
	($$starts_at => '2031-02-02 23:59:59+00'$$, '22023', 'starts_at is in the past', 'create_invoice', 'nothing begins in the past'),
	($$starts_at => 'infinity'$$, '22023', 'starts_at is more than 100 years from now', NULL, 'nor never'),
	($$starts_at => '-infinity'$$, '22023', 'starts_at is in the past', NULL, 'nor before all time'),
	($$starts_at => '10000-01-01', billing_alignment => 'calendar', trial_days => 730$$, '22023', 'starts_at is more than 100 years from now', NULL, 'nor where the calendar ends'),
	($$starts_at => '2031-03-01', cancel_at => '2031-03-01'$$, '22023', 'cancel_at is not after the start', NULL, 'what ends begins before'),
	($$starts_at => '2031-03-01', billing_anchor => '2031-02-20'$$, '22023', 'billing_anchor is not after the start', NULL, 'as does what is counted from a day'),
	($$starts_at => '2031-03-01', managed_by => 'provider'$$, 'JB004', 'starts_at is not for', 'managed_by => .local', 'no provider begins one later'),
	($$billing_alignment => 'calendar', managed_by => 'provider'$$, 'JB004', 'billing_alignment is not for', 'managed_by => .local', 'nor aligns it'),
	($$billing_alignment => 'lunar'$$, '22023', 'unknown billing_alignment "lunar"', NULL, 'an alignment that there is'),
	($$billing_alignment => 'calendar', billing_anchor => '2031-03-01'$$, '22023', 'both given', NULL, 'one of two')) AS w (arguments, code, message, hint, name);
SELECT is(status_of('unpaid'), 'incomplete_expired', 'nothing is half done');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

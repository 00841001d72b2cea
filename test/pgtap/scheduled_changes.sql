-- What is done later in the stead of a provider that can end a subscription only
-- at once; the sandbox behaves as one.
\ir helpers.psql
SELECT plan(21);

SELECT billing.configure_provider('sandbox', account => 'mexico', options => '{"behave_as": "conekta"}');
SELECT billing.create_price('pro', 49900, 'MXN') AS price \gset
SELECT billing.create_customer(o, o || '@b.mx', o, phone => '+525512345678', currency => 'MXN', provider => 'sandbox', account => 'mexico') FROM unnest('{ends,stays,dark}'::text[]) AS o;

-- The change that waits, if there is one.
CREATE FUNCTION pending(organization text) RETURNS billing.scheduled_changes
LANGUAGE sql
RETURN (SELECT c FROM billing.scheduled_changes AS c WHERE c.organization_id = organization AND c.state = 'pending');
CREATE FUNCTION invoices(organization text) RETURNS bigint
LANGUAGE sql
RETURN (SELECT count(*) FROM billing.invoices AS i WHERE i.organization_id = organization);

SELECT count(billing.subscribe(o, 'pro', 'tok_test_visa_4242', account => 'mexico', provider => 'sandbox')) AS subscribed FROM unnest('{ends,stays,dark}'::text[]) AS o \gset
CALL billing.run_worker();
SELECT is(status_of('ends') || ' ' || status_of('stays') || ' ' || status_of('dark'), 'active active active', 'there are subscriptions');

-- ---------------------------------------------------------------------------
-- The end of a period

SELECT billing.cancel_subscription(subscription_of('ends'), comment => 'too dear');
SELECT billing.cancel_subscription(subscription_of('ends'), comment => 'too dear');
SELECT is((SELECT count(*) FROM billing.scheduled_changes WHERE organization_id = 'ends'), 1::bigint, 'a cancellation at the end of the period is kept here, once');
SELECT is((SELECT count(*) FROM billing.outbox WHERE object_id = subscription_of('ends')), 0::bigint, 'the provider does not hear of it yet');
SELECT is((SELECT cancel_at_period_end FROM billing.subscriptions WHERE id = subscription_of('ends')), true, 'the subscription says so');
SELECT is((pending('ends')).effective_at, (SELECT current_period_end FROM billing.subscriptions WHERE id = subscription_of('ends')), 'it ends with its period');
SELECT is((pending('ends')).effective_at - (pending('ends')).due_at, interval '24 hours', 'the provider hears of it a day before');
SELECT unalike((pending('ends'))::text, '%too dear%', 'what was said about it is not in clear');
CALL billing.advance_clock('ends', '32 days');
SELECT is(status_of('ends'), 'canceled', 'then it is canceled');
SELECT is(invoices('ends'), 1::bigint, 'and not renewed');
SELECT is((SELECT access_until FROM billing.subscriptions WHERE id = subscription_of('ends')), (SELECT effective_at FROM billing.scheduled_changes WHERE organization_id = 'ends'), 'access stays until the end of the period');
SELECT is((SELECT state FROM billing.scheduled_changes WHERE organization_id = 'ends'), 'done', 'the change is done');

-- ---------------------------------------------------------------------------
-- Taken back

SELECT billing.cancel_subscription(subscription_of('stays'));
SELECT billing.resume_subscription(subscription_of('stays'));
SELECT is((SELECT state FROM billing.scheduled_changes WHERE organization_id = 'stays'), 'canceled', 'a cancellation is taken back');
SELECT is((SELECT cancel_at_period_end FROM billing.subscriptions WHERE id = subscription_of('stays')), false, 'and the subscription goes on');
CALL billing.advance_clock('stays', '32 days');
SELECT is(status_of('stays') || ' ' || invoices('stays'), 'active 2', 'into its next period');
SELECT billing.cancel_subscription(subscription_of('stays'));
SELECT billing.cancel_scheduled_change((pending('stays')).id);
SELECT is(pending('stays'), NULL, 'by the change itself, too');
SELECT fails(format('SELECT billing.cancel_scheduled_change(%L)', (SELECT id FROM billing.scheduled_changes WHERE organization_id = 'stays' LIMIT 1)), 'JB008', 'is canceled', NULL, 'once');

-- ---------------------------------------------------------------------------
-- A comment that cannot be read any more

SELECT billing.cancel_subscription(subscription_of('dark'), comment => 'forgotten');
UPDATE billing.scheduled_changes SET comment = '\x0102' WHERE organization_id = 'dark';
SELECT billing.cancel_subscription(subscription_of('stays'));
CALL billing.advance_clock('dark', '32 days');
SELECT is(status_of('dark'), 'canceled', 'what cannot be read does not keep a subscription from its end');
SELECT is(invoices('dark'), 1::bigint, 'nor bills the next period');
CALL billing.advance_clock('stays', '32 days');
SELECT is(status_of('stays') || ' ' || invoices('stays'), 'canceled 2', 'nor does it stop what is due for others');
SELECT is((SELECT count(*) FROM billing.attention WHERE object_type = 'subscription'), 0::bigint, 'nobody has to look at any of it');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();

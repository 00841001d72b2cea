-- The sandbox: what it does in the stead of others, pauses, and the verbs of its invoices.
\ir helpers.psql
SELECT plan(36);

-- ---------------------------------------------------------------------------
-- Behaving as somebody else

SELECT fails($$SELECT billing.configure_provider('sandbox', account => 'x', options => '{"behave_as": "nobody"}')$$, '22023', 'cannot behave as "nobody"', 'billing.providers', 'it behaves as a provider that there is');
SELECT fails($$SELECT billing.configure_provider('sandbox', account => 'x', options => '{"behave_as": "sandbox"}')$$, '22023', 'cannot behave as "sandbox"', NULL, 'not as itself');
SELECT billing.configure_provider('sandbox', account => 'mexico', options => '{"behave_as": "conekta"}');
SELECT billing.configure_provider('sandbox', account => 'merchant', options => '{"behave_as": "polar"}');
SELECT billing.configure_provider('sandbox', account => 'plain', options => '{"behave_as": "stripe"}');
SELECT billing.create_customer('tacos', 'a@b.mx', 'Tacos', phone => '+525512345678', provider => 'sandbox', account => 'mexico') AS tacos \gset
SELECT billing.create_customer('polaris', 'a@b.example', provider => 'sandbox', account => 'merchant') AS polaris \gset
SELECT billing.create_customer('striped', provider => 'sandbox', account => 'plain') AS striped \gset
CALL billing.run_worker();

SELECT fails($$SELECT billing.create_customer('nameless', provider => 'sandbox', account => 'merchant')$$, '23502', 'email', NULL, 'what it requires of a customer is that provider''s wish');
SELECT fails(format($$SELECT billing.create_setup_intent(%L, 'pm_card_visa')$$, :'tacos'), 'JB004', 'setup_intent.create', 'token', 'where there are no setup intents there are none');
SELECT fails(format($$SELECT billing.create_payment_intent(%L, 10000, 'USD', payment_method => 'tok_test_visa_4242')$$, :'tacos'), 'JB004', 'payment_intent.create', 'MXN', 'nor other currencies');
SELECT fails(format($$SELECT billing.attach_payment_method(%L, 'pm_card_visa')$$, :'polaris'), 'JB004', 'payment_method.attach', 'portal', 'where the customer looks after his cards himself nobody else does');
SELECT fails($$SELECT billing.subscribe('polaris', 'pro')$$, 'JB004', 'subscription.create', 'checkout', 'where subscriptions are sold by checkout they are sold by checkout');
SELECT fails(format($$SELECT billing.attach_payment_method(%L, 'pm_card_unknown')$$, :'striped'), 'JB005', 'unknown payment method', 'pm_card_visa', 'an unknown token is unknown everywhere');
SELECT fails(format($$SELECT billing.attach_payment_method(%L, type => 'spei_recurrent')$$, :'striped'), 'JB004', 'payment_method.attach', NULL, 'there are no references to be paid to again and again');
SELECT billing.create_payment_intent(:'tacos', 10000, 'MXN', payment_method => 'tok_test_visa_4242') AS pesos \gset
SELECT billing.create_payment_intent(:'striped', 10000, 'USD', payment_method => 'pm_card_visa') AS dollars \gset
CALL billing.run_worker();
SELECT results_eq(format($$SELECT status FROM billing.payment_intents WHERE id IN (%L, %L)$$, :'pesos', :'dollars'), $$VALUES ('succeeded'), ('succeeded')$$, 'what it does is done');

-- who bills by default
CREATE FUNCTION billed_by(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT s.managed_by FROM billing.subscriptions AS s WHERE s.organization_id = organization ORDER BY s.id DESC LIMIT 1);
SELECT billing.create_plan('taco', 'Taco', 9900, 'MXN') AS taco, billing.create_plan('salsa', 'Salsa', 900, 'MXN', plan_group => 'salsa') AS salsa \gset
SELECT billing.create_customer(o) FROM unnest('{itself,gratis,named}'::text[]) AS o;
SELECT billing.subscribe('itself', 'pro', 'pm_card_visa'), billing.subscribe('gratis', 'free'), billing.subscribe('named', 'pro', 'pm_card_visa', managed_by => 'provider'),
	billing.subscribe('striped', 'pro', 'pm_card_visa'), billing.subscribe('tacos', 'taco', 'tok_test_visa_4242', currency => 'MXN');
SELECT is(billed_by('itself') || ' ' || billed_by('gratis'), 'local local', 'subscriptions of the sandbox are ours, the free ones, too');
SELECT is(billed_by('named'), 'provider', 'unless the call names the provider');
SELECT is(billed_by('striped'), 'provider', 'where it behaves as a provider, that one''s default holds');
SELECT is(billed_by('tacos'), 'provider', 'so one amount by card is billed there');
SELECT billing.subscribe('tacos', 'salsa', currency => 'MXN', quantity => 2) AS salsa \gset
SELECT is(billed_by('tacos'), 'local', 'and what that provider cannot bill by us');
CALL billing.run_worker();

-- the order of events
SELECT billing.create_checkout_session(:'polaris', plan => 'pro', success_url => 'https://a.example') AS buy \gset
CALL billing.run_worker();
SELECT billing.sandbox_complete_checkout(:'buy');
CALL billing.run_worker();
SELECT is(status_of('polaris'), 'active', 'the checkout sells it');
SELECT max(seq) AS before FROM billing.sandbox_deliveries \gset
CALL billing.advance_clock('polaris', '32 days');
SELECT is((SELECT string_agg(payload::jsonb ->> 'type', ' ' ORDER BY seq) FROM billing.sandbox_deliveries WHERE seq > :before),
	'customer.subscription.cycled customer.subscription.updated invoice.created invoice.finalized payment_intent.succeeded invoice.paid', 'a renewal is told before it is paid');
SELECT max(seq) AS before FROM billing.sandbox_deliveries \gset
SELECT billing.cancel_subscription(subscription_of('polaris'), at_period_end => false);
CALL billing.run_worker();
SELECT is((SELECT string_agg(payload::jsonb ->> 'type', ' ' ORDER BY seq) FROM billing.sandbox_deliveries WHERE seq > :before),
	'customer.subscription.updated customer.subscription.canceled customer.subscription.revoked', 'an end is told three times');
SELECT is(status_of('polaris'), 'canceled', 'and is one');

-- ---------------------------------------------------------------------------
-- Pauses

SELECT count(billing.create_customer(o)) AS customers FROM string_to_table('rest sleep nap away owes', ' ') AS o \gset
SELECT billing.subscribe('rest', 'pro', 'pm_card_visa') AS rest \gset
SELECT billing.subscribe('sleep', 'pro', 'pm_card_visa') AS sleep \gset
SELECT billing.subscribe('nap', 'pro', 'pm_card_visa') AS nap \gset
CALL billing.run_worker();
SELECT billing.pause_subscription(:'rest');
CALL billing.run_worker();
SELECT is(status_of('rest'), 'paused', 'a subscription stands still');
CALL billing.advance_clock('rest', '10 days');
SELECT billing.resume_subscription(:'rest');
CALL billing.run_worker();
SELECT is(status_of('rest') || ' ' || (SELECT count(*) FROM billing.invoices WHERE subscription_id = :'rest'), 'active 1', 'and goes on in the period that is paid for');
SELECT billing.pause_subscription(:'rest');
CALL billing.run_worker();
CALL billing.advance_clock('rest', '3 months');
SELECT is((SELECT count(*) FROM billing.invoices WHERE subscription_id = :'rest'), 1::bigint, 'while it stands still nothing is billed');
SELECT billing.resume_subscription(:'rest');
CALL billing.run_worker();
SELECT is(status_of('rest') || ' ' || (SELECT count(*) FROM billing.invoices WHERE subscription_id = :'rest' AND status = 'paid'), 'active 2', 'later it begins a new period');
SELECT billing.pause_subscription(:'sleep', at_period_end => true);
CALL billing.run_worker();
SELECT is(status_of('sleep'), 'active', 'it can stop at the end of its period');
CALL billing.advance_clock('sleep', '2 months');
SELECT is(status_of('sleep') || ' ' || (SELECT count(*) FROM billing.invoices WHERE subscription_id = :'sleep'), 'paused 1', 'instead of being renewed');
SELECT billing.pause_subscription(:'nap', resumes_at => billing.now('nap') + interval '60 days');
CALL billing.run_worker();
CALL billing.advance_clock('nap', '59 days');
SELECT is(status_of('nap'), 'paused', 'or for a time');
CALL billing.advance_clock('nap', '2 days');
SELECT is(status_of('nap') || ' ' || (SELECT count(*) FROM billing.invoices WHERE subscription_id = :'nap' AND status = 'paid'), 'active 2', 'that ends by itself');

-- ---------------------------------------------------------------------------
-- Invoices

SELECT billing.subscribe('owes', 'pro', 'pm_card_visa', managed_by => 'provider') AS owes \gset
CALL billing.run_worker();
SELECT billing.update_subscription(:'owes', payment_method => 'pm_card_chargeCustomerFail');
CALL billing.run_worker();
CALL billing.advance_clock('owes', '32 days');
SELECT is(status_of('owes'), 'past_due', 'a renewal fails');
SELECT billing.retry_payment(:'owes');
CALL billing.run_worker();
SELECT is(status_of('owes'), 'past_due', 'it fails again');
SELECT id AS invoice FROM billing.invoices WHERE subscription_id = :'owes' AND status = 'open' \gset
SELECT is((SELECT attempt_count >= 2 FROM billing.invoices WHERE id = :'invoice'), true, 'which counts');
SELECT billing.set_default_payment_method(billing.attach_payment_method(billing.find_customer('owes'), 'pm_card_visa'));
CALL billing.run_worker();
SELECT billing.cancel_request(id) FROM billing.outbox WHERE state = 'dead';
SELECT fails(format($$SELECT billing.send_invoice(%L)$$, :'invoice'), 'JB004', 'invoice.send', 'no mail', 'nobody gets mail');
SELECT billing.void_invoice(:'invoice');
CALL billing.run_worker();
SELECT is((SELECT status FROM billing.invoices WHERE id = :'invoice'), 'void', 'an open invoice can be given up');
SELECT is((SELECT status || ' ' || cancellation_reason FROM billing.payment_intents WHERE invoice_id = :'invoice'), 'canceled void_invoice', 'and its payment with it');

-- ---------------------------------------------------------------------------
-- What there is no point in playing

SELECT fails($$SELECT billing.subscribe('away', 'pro', 'pm_card_visa', collection_method => 'send_invoice', days_until_due => 7, managed_by => 'provider')$$, 'JB004', 'subscription.create', 'charge_automatically', 'invoices are not sent');
SELECT fails($$SELECT billing.subscribe('away', 'pro', 'pm_card_visa', coupon => 'HALF', managed_by => 'provider')$$, 'JB004', 'subscription.create', 'coupon', 'there are no discounts');
SELECT fails(format($$SELECT billing.create_portal_session(%L)$$, billing.find_customer('away')), '23502', 'return_url', NULL, 'the portal has no page of its own');

SELECT * FROM finish();

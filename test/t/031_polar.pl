# Polar over HTTP: from SQL to its API and back by its webhooks. It is the
# seller: what is paid begins in its checkout, and it has no idempotency keys.
use strict;
use warnings;
use utf8;

use Encode qw(decode_utf8 encode_utf8);
use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main');

sub sql { return decode_utf8($node->safe_psql('postgres', encode_utf8($_[0]))) }

# What psql says of a statement that is refused.
sub refusal
{
	my (undef, undef, $errors) = $node->psql('postgres', encode_utf8($_[0]));

	return decode_utf8($errors);
}

sub at_polar { return @{ $simulator->control('objects/' . shift() . '?' . join('&', 'provider=polar', @_)) } }

sub requests { return @{ $simulator->control('requests?' . join '&', 'provider=polar', @_) } }

sub act { return $simulator->control('act', { provider => 'polar', @_ }) }

sub fault { return $simulator->control('faults', { match => { provider => 'polar', %{ $_[0] } }, @_[ 1 .. $#_ ] }) }

# Waits for the object's requests, and says in what state it is.
sub await { return sql("SELECT billing.await('$_[0]', '60 seconds')") }

sub subscription { return sql("SELECT $_[1] FROM billing.subscriptions AS s JOIN billing.plans AS p ON p.id = s.plan_id WHERE s.id = '$_[0]'") }

# The page on which a plan is bought: (our session, Polar's checkout).
sub checkout
{
	my ($customer, $arguments) = @_;
	my $session = sql("SELECT billing.create_checkout_session('$customer', success_url => 'https://app.example.com/done', $arguments)");

	is(await($session), 'open', 'a checkout is open');
	my ($checkout) = at_polar('checkouts', "metadata.janua_session=$session");
	return ($session, $checkout->{id});
}

my $url = $simulator->url;
sql(<<"SQL");
SELECT billing.configure_provider('polar', 'polar_oat_test', 'polar_whs_SimulatorTestSecret0123456789abcdef', base_url => '$url/polar',
	options => '{"sandbox": true, "rate_per_second": 0}');
UPDATE billing.settings SET value = '1000000' WHERE name = 'circuit_threshold';
UPDATE billing.settings SET value = '100 ms' WHERE name = 'retry_base';
SQL
is(sql("SELECT livemode FROM billing.provider_accounts WHERE provider = 'polar'"), 'f', 'the sandbox option says the mode');
like(refusal("SELECT billing.configure_provider('polar', 'sk_test_x', account => 'b')"), qr/polar_oat_/, 'a key of another provider is refused');

# ---- customers ----

like(refusal("SELECT billing.create_customer('org_0', provider => 'polar')"), qr/requires email/, 'Polar wants an email');
like(refusal(qq(SELECT billing.create_customer('org_0', 'x\@example.com', provider => 'polar', tax_ids => '[{"type": "us_ein", "value": "12-3456789"}]'))),
	qr/requires country/, 'and a country where there is a tax id');
my $customer = sql(<<'SQL');
SELECT billing.create_customer('org_1', 'Niño@example.com', 'A B+C', 'DE', 'polar', address => '{"line1": "Weg 1", "city": "Köln", "country": "DE"}',
	tax_ids => '[{"type": "eu_vat", "value": "DE123456789"}]', locale => 'de', metadata => '{"tier": "gold", "old": "x"}')
SQL
is(await($customer), 'active', 'a new customer is known to Polar');
my ($found) = at_polar('customers', "external_id=$customer");
is($found->{email}, 'Niño@example.com', 'its e-mail arrives');
is($found->{billing_address}{city}, 'Köln', 'its address arrives');
is($found->{tax_id}[0], 'DE123456789', 'its tax id arrives');
is_deeply($found->{metadata}, { tier => 'gold', old => 'x', organization_id => 'org_1' }, 'its metadata arrives');

sql(qq(SELECT billing.update_customer('$customer', '{"name": null, "metadata": {"old": null, "new": "y"}}')));
is(await($customer), 'active', 'a change is told');
($found) = at_polar('customers', "external_id=$customer");
is($found->{name}, undef, 'a cleared name is cleared there');
is_deeply($found->{metadata}, { tier => 'gold', new => 'y', organization_id => 'org_1' }, 'metadata is merged, although Polar replaces it');
sql(qq(SELECT billing.update_customer('$customer', '{"tax_ids": [{"type": "eu_vat", "value": "DE999999999"}]}')));
await($customer);
($found) = at_polar('customers', "external_id=$customer");
is($found->{tax_id}[0], 'DE999999999', 'a tax id is replaced');

my $gone = sql("SELECT billing.create_customer('org_gone', 'gone\@example.com', provider => 'polar')");
sql("SELECT billing.delete_customer('$gone')");
is(await($gone), 'deleted', 'a customer is deleted');
is((requests('method=DELETE', 'path=^/v1/customers/'))[-1]{status}, 204, 'also there');

like(refusal("SELECT billing.attach_payment_method('$customer', 'pm_card_visa')"), qr/portal/, 'a payment method is attached in the portal only');
my $saved = act(action => 'add_payment_method', customer => $found->{id}, last4 => '1881');
sql("SELECT billing.refresh_payment_methods('$customer')");
await($customer);
is(sql("SELECT type, brand, last4, is_default, state FROM billing.list_payment_methods('$customer')"), 'card|visa|1881|t|attached',
	'what the customer saved there is taken over');

# ---- portal ----

my $portal = sql("SELECT billing.create_portal_session('$customer', 'https://app.example.com/back')");
is(await($portal), 'open', 'a portal session is open');
is(sql("SELECT url IS NOT NULL FROM billing.portal_sessions WHERE id = '$portal'"), 't', 'its address is kept');

# ---- subscriptions by checkout ----

my $errors = refusal("SELECT billing.subscribe('org_1', 'pro')");
like($errors, qr/checkout/, 'a paid plan is not sold without a checkout');
my ($session, $checkout) = checkout($customer, "plan => 'pro'");
my ($product) = at_polar('products');
is($product->{recurring_interval}, 'month', 'the price was pushed as a product');
is($product->{prices}[0]{price_amount}, 2900, 'with its amount');
is(sql("SELECT url IS NOT NULL FROM billing.checkout_sessions WHERE id = '$session'"), 't', 'the address of the page is kept');
act(action => 'complete_checkout', checkout => $checkout);
my @told = hand_over($node, $simulator);
is(scalar(grep { / failed/ } @told), 0, 'no event fails') or diag(join "\n", @told);
is(sql("SELECT status, payment_status FROM billing.checkout_sessions WHERE id = '$session'"), 'complete|paid', 'the session is complete');
my $subscription = sql("SELECT subscription_id FROM billing.checkout_sessions WHERE id = '$session'");
is(subscription($subscription, 's.status, p.plan, s.quantity'), 'active|pro|1', 'the subscription is ours, by the reference in its metadata');
is(sql("SELECT billing.has_feature('org_1', 'sso')"), 't', 'it entitles');
is(sql("SELECT status, amount_paid, amount_remaining FROM billing.invoices WHERE subscription_id = '$subscription'"), 'paid|2900|0', 'its order is an invoice');

# ---- changes ----

sql("SELECT billing.create_plan('team', 'Team', 9900)");
like(refusal("SELECT billing.update_subscription('$subscription', 'team', proration_behavior => 'none')"), qr/prorates/, 'not prorating is refused');
sql("SELECT billing.update_subscription('$subscription', 'team', proration_behavior => 'always_invoice')");
await($subscription);
is(subscription($subscription, 's.status, p.plan'), 'active|team', 'the plan is changed');
is((requests('method=PATCH', 'path=^/v1/subscriptions/'))[-1]{body} =~ /"proration_behavior": ?"invoice"/ ? 1 : 0, 1, 'and invoiced at once');

# The handful of the ways to end and to pause.
sql("SELECT billing.cancel_subscription('$subscription', reason => 'too_expensive')");
await($subscription);
is(subscription($subscription, 's.status, s.cancel_at_period_end'), 'active|t', 'it will end with the period');
hand_over($node, $simulator);
is(subscription($subscription, 's.status, s.cancel_at_period_end'), 'active|t', 'the event subscription.canceled is not the end');
sql("SELECT billing.resume_subscription('$subscription')");
await($subscription);
is(subscription($subscription, 's.status, s.cancel_at_period_end'), 'active|f', 'that is taken back');
like(refusal("SELECT billing.pause_subscription('$subscription')"), qr/at_period_end/, 'it is not paused at once');
sql("SELECT billing.pause_subscription('$subscription', at_period_end => true)");
await($subscription);
ok((at_polar('subscriptions'))[0]{pause_at_period_end}, 'it is paused at the end of the period');
# a period that ends now has begun before
$simulator->control('edit', { provider => 'polar', kind => 'subscriptions', id => (at_polar('subscriptions'))[0]{id},
	fields => { current_period_start => '2020-01-01T00:00:00Z' } });
hand_over($node, $simulator);
act(action => 'cycle', subscription => (at_polar('subscriptions'))[0]{id});
hand_over($node, $simulator);
is(subscription($subscription, 's.status'), 'paused', 'which comes');
sql("SELECT billing.resume_subscription('$subscription')");
is(await($subscription), 'active', 'it runs again');
like(refusal("SELECT billing.retry_payment('$subscription')"), qr/./, 'Polar tries payments again by itself');
hand_over($node, $simulator);

# A renewal carries the metadata of the checkout and is an invoice of its own.
act(action => 'cycle', subscription => (at_polar('subscriptions'))[0]{id});
hand_over($node, $simulator);
is(sql("SELECT count(*) FROM billing.invoices WHERE subscription_id = '$subscription' AND billing_reason = 'subscription_cycle' AND status = 'paid'"), '2',
	'each period that began is an invoice');

# ---- declined ----

$simulator->control('settings', { provider => 'polar', card_outcomes => { map { $_->{id} => 'decline' } at_polar('payment_methods') } });
sql("SELECT billing.update_subscription('$subscription', 'pro', proration_behavior => 'always_invoice')");
await($subscription);
sql("SELECT billing.create_plan('big', 'Big', 99900)");
sql("SELECT billing.update_subscription('$subscription', 'big', proration_behavior => 'always_invoice')");
await($subscription);
is(subscription($subscription, 's.status, s.error_code IS NOT NULL'), 'active|t', 'a change that is not paid is refused and leaves the subscription as it was');
isnt(subscription($subscription, 'p.plan'), 'big', 'with its plan');
is(sql("SELECT state FROM billing.outbox_finished WHERE object_id = '$subscription' ORDER BY finished_at DESC LIMIT 1"), 'done', 'a decline is an answer');
$simulator->control('settings', { provider => 'polar', card_outcomes => {} });

sql("SELECT billing.cancel_subscription('$subscription', at_period_end => false)");
is(await($subscription), 'canceled', 'it is canceled at once');
hand_over($node, $simulator);
is(sql("SELECT billing.has_feature('org_1', 'sso')"), 'f', 'and entitles to nothing more');

# ---- links ----

my $price = sql("SELECT id FROM billing.prices WHERE plan_id = (SELECT id FROM billing.plans WHERE plan = 'pro')");
my $link = sql(qq(SELECT billing.create_payment_link('Pro', '[{"price": "$price"}]', provider => 'polar')));
is(await($link), 'open', 'a payment link is open');
sql("SELECT billing.cancel_payment_link('$link')");
is(await($link), 'canceled', 'and deleted');
is(scalar(grep { !$_->{deleted} } at_polar('checkout_links')), 0, 'also there');
like(refusal(qq(SELECT billing.create_checkout_session('$customer', '[{"name": "Hat", "amount": 500, "currency": "USD"}]', 'https://a.example.com/'))),
	qr/product_id/, 'an amount without a product needs the one for such charges');

# ---- one-off payments: a draft order that is charged ----

my $payer = sql("SELECT billing.create_customer('payer', 'payer\@example.com', 'Pat', 'DE', 'polar')");
await($payer);
my ($payer_there) = at_polar('customers', "external_id=$payer");
act(action => 'add_payment_method', customer => $payer_there->{id}, last4 => '4242');
sql("SELECT billing.refresh_payment_methods('$payer')");
await($payer);
my $card = sql("SELECT id FROM billing.list_payment_methods('$payer')");
like(refusal("SELECT billing.create_payment_intent('$payer', 5000, 'USD', payment_method => '$card')"), qr/product_id/,
	'an amount is charged under a product only');
my $goods = $simulator->control('call', { provider => 'polar', method => 'POST', path => '/v1/products/', params => { name => 'Charges',
	prices => [ { amount_type => 'fixed', price_amount => 100, price_currency => 'usd' } ], recurring_interval => undef } })->{body}{id};
like(refusal(qq(SELECT billing.configure_provider('polar', options => '{"product_id": "x"}'))), qr/UUID/, 'the product is named by its id');
sql(qq(SELECT billing.configure_provider('polar', options => '{"product_id": "$goods"}')));
$simulator->control('settings', { provider => 'polar', tax_rate => 0.19 });

# What is known of a payment, and the order behind it.
sub payment { return sql("SELECT status, amount, amount_received, error_code, decline_code FROM billing.payment_intents WHERE id = '$_[0]'") }

sub order_of { return (at_polar('orders', "metadata.janua_payment=$_[0]"))[0] }

foreach my $arguments ("method => 'oxxo'", "installments => 3", "capture_method => 'manual'")
{
	like(refusal("SELECT billing.create_payment_intent('$payer', 5000, 'USD', payment_method => '$card', $arguments)"), qr/HINT/, "$arguments is refused with a way out");
}
my $payment = sql("SELECT billing.create_payment_intent('$payer', 5000, 'USD', payment_method => '$card', confirm => true, description => 'Tokens')");
is(await($payment), 'succeeded', 'a saved card is charged');
is(order_of($payment)->{total_amount}, 5950, 'Polar adds the tax');
is((split /\|/, payment($payment))[2], '5950', 'what was received is with it');
hand_over($node, $simulator);
is((split /\|/, payment($payment))[0], 'succeeded', 'its events say the same');
sub fee { return sql("SELECT fee_amount, fee_currency FROM billing.payment_intents WHERE id = '$_[0]'") }
is(fee($payment), '278|USD', 'what Polar keeps is told with it');
$simulator->control('edit', { provider => 'polar', kind => 'orders', id => order_of($payment)->{id}, fields => { platform_fee_amount => 350, platform_fee_currency => 'eur' } });
hand_over($node, $simulator);
sql("SELECT billing.refresh('$payment')");
await($payment);
is(fee($payment), '350|EUR', 'or later, in what it pays out');
is(sql("SELECT string_agg(debit || ' ' || amount || ' ' || currency, ', ' ORDER BY currency, debit DESC) FROM billing.ledger WHERE payment_intent_id = '$payment' AND kind = 'fee'"),
	'provider_fees 350 EUR, provider_fees 278 USD, cash 278 USD', 'which is booked in that');
like(refusal("SELECT billing.capture_payment_intent('$payment')"), qr/ERROR/, 'there is nothing to capture');

my $draft = sql("SELECT billing.create_payment_intent('$payer', 700, 'USD', confirm => false)");
is(await($draft), 'pending', 'without confirm it is a draft');
is(fee($draft), '|', 'of which nothing is kept yet');
like(refusal("SELECT billing.cancel_payment_intent('$draft')"), qr/confirm_payment_intent/, 'a draft cannot be canceled');
sql("SELECT billing.confirm_payment_intent('$draft', '$card')");
is(await($draft), 'succeeded', 'and charged when it is confirmed');

$simulator->control('settings', { provider => 'polar', card_outcomes => { map { $_->{id} => 'decline' } at_polar('payment_methods') } });
my $declined = sql("SELECT billing.create_payment_intent('$payer', 900, 'USD', payment_method => '$card', confirm => true)");
is(await($declined), 'failed', 'a declined card fails the payment');
like(payment($declined), qr/PaymentFailed\|\w+/, 'with the reason that Polar gives');
$simulator->control('settings', { provider => 'polar', card_outcomes => {} });
sql("SELECT billing.confirm_payment_intent('$declined', '$card')");
is(await($declined), 'succeeded', 'the same draft can be charged again');
$simulator->control('settings', { provider => 'polar', off_session_charges => JSON::PP::false });
my $forbidden = sql("SELECT billing.create_payment_intent('$payer', 900, 'USD', payment_method => '$card', confirm => true)");
wait_for($node, "SELECT state, error_type FROM billing.outbox WHERE object_id = '$forbidden'", 'dead|OffSessionChargesNotEnabled',
	'an organisation without the flag is told so');
$simulator->control('settings', { provider => 'polar', off_session_charges => JSON::PP::true });
sql("SELECT billing.retry_request(id) FROM billing.outbox WHERE object_id = '$forbidden'");
is(await($forbidden), 'succeeded', 'and can try again');

# ---- refunds: the wire wants them without tax ----

my $refund = sql("SELECT billing.create_refund('$payment', 1190, 'requested_by_customer')");
is(await($refund), 'succeeded', 'a part is refunded');
is((at_polar('refunds', "metadata.janua_ref=$refund"))[0]{amount}, 1000, 'the wire has it without tax');
is((at_polar('refunds', "metadata.janua_ref=$refund"))[0]{reason}, 'customer_request', 'in the words of Polar');
is(sql("SELECT amount FROM billing.refunds WHERE id = '$refund'"), '1190', 'the customer gets back what was asked for');
my $rest = sql("SELECT billing.create_refund('$payment')");
is(await($rest), 'succeeded', 'the rest is refunded');
is(sql("SELECT amount FROM billing.refunds WHERE id = '$rest'"), '4760', 'to the last cent');
is(payment($payment) =~ /^refunded/ ? 1 : 0, 1, 'the payment is refunded') or diag(payment($payment));
hand_over($node, $simulator);
is(payment($payment) =~ /^refunded/ ? 1 : 0, 1, 'its events say the same');

# ---- disputes ----

act(action => 'dispute', order => order_of($draft)->{id});
sql("SELECT billing.fetch_disputes('polar')");
wait_for($node, "SELECT status, amount FROM billing.disputes", 'needs_response|833', 'a dispute is found by asking');
my $dispute = sql('SELECT id FROM billing.disputes');
like(refusal(qq(SELECT billing.submit_dispute_evidence('$dispute', '{"uncategorized_text": "x"}'))), qr/accept_dispute/, 'Polar answers it itself');
fault({ method => 'POST', path => '/accept$' }, action => 'drop_after');
sql("SELECT billing.accept_dispute('$dispute')");
is(await($dispute), 'lost', 'it is accepted, once, although the answer was lost');
act(action => 'dispute', order => order_of($declined)->{id}, status => 'prevented');
hand_over($node, $simulator);
is(sql("SELECT count(*) FROM billing.disputes WHERE status = 'prevented'"), '1', 'a refund brings the dispute that it prevented');

# ---- invoices ----

my $invoice = sql("SELECT id FROM billing.invoices WHERE subscription_id = '$subscription' ORDER BY created_at LIMIT 1");
like(refusal("SELECT billing.void_invoice('$invoice')"), qr/ERROR/, 'an invoice of Polar is its own');
$simulator->control('settings', { provider => 'polar', invoice_lag_ms => 500 });
fault({ method => 'POST', path => '/invoice$' }, action => 'drop_after');
my ($billed) = at_polar('orders', "id=" . sql("SELECT provider_id FROM billing.provider_refs WHERE object_id = '$invoice' AND object_type = 'invoice'"));
$simulator->control('edit', { provider => 'polar', kind => 'orders', id => $billed->{id}, fields => { billing_name => 'A', billing_address => { country => 'DE' } } });
sql("SELECT billing.fetch_invoice_document('$invoice')");
await($invoice);
like(sql("SELECT pdf_url FROM billing.invoice_links('$invoice')"), qr{^https://invoices}, 'its document is made and told');

# ---- webhook endpoints ----

my $endpoint = sql("SELECT billing.register_webhook('polar', 'https://hooks.example.com/polar')");
await($endpoint);
is(scalar at_polar('webhook_endpoints'), 1, 'an endpoint is registered');
is((at_polar('webhook_endpoints'))[0]{format}, 'raw', 'that gets the raw events');
my $secret = (at_polar('webhook_endpoints'))[0]{secret};
my ($delivered) = @{ $simulator->control('events?provider=polar&limit=1') };
is((webhook($node, 'polar', encode_utf8($delivered->{body}), $delivered->{headers}))[0], 0, 'what it signs is accepted');
sql("SELECT billing.rotate_webhook_secret('$endpoint')");
await($endpoint);
isnt((at_polar('webhook_endpoints'))[0]{secret}, $secret, 'its secret is rotated');
sql("SELECT billing.delete_webhook('$endpoint')");
await($endpoint);
is(scalar(grep { !$_->{deleted} } at_polar('webhook_endpoints')), 0, 'and it is deleted');

# ---- answers that are lost: exactly one object all the same ----

my $lost = 0;

# A request that moves money may still be at work for some seconds, in which
# nobody says that it was not done. Here they pass at once.
sub let_it_settle
{
	return sql(<<'SQL');
UPDATE billing.outbox SET sent_at = sent_at - interval '10 seconds' WHERE error_type = 'may_be_at_work' AND sent_at > now() - interval '10 seconds';
SELECT billing.retry_request(id) FROM billing.outbox WHERE error_type = 'may_be_at_work' AND state = 'unknown' AND next_attempt_at > now() + interval '1 second'
SQL
}

# Does what POSTs to a path, whose answer is lost in the given way; what is there afterwards.
sub with_lost_answer
{
	my ($path, $how, $make) = @_;

	fault({ method => 'POST', path => $path }, %$how);
	my $id = $make->(++$lost);
	poll_until(sub { let_it_settle(); sql("SELECT count(*) FROM billing.outbox WHERE object_id = '$id' AND state <> 'dead'") eq '0' }, "the requests of $id");
	return ($id, await($id));
}

my @WAYS = (
	[ 'an answer that is dropped',     { action => 'drop_after' } ],
	[ 'a connection that is dropped',  { action => 'drop_before' } ],
	[ 'an error after the act',        { action => 'status', status => 500, perform => JSON::PP::true } ],
	[ 'an error before the act',       { action => 'status', status => 503 } ],
	[ 'an answer that is cut in half', { action => 'malformed_body' } ],
	[ 'a rate limit',                  { action => 'status', status => 429, retry_after => 1 } ]);

foreach my $way (@WAYS)
{
	my ($name, $how) = @$way;
	my ($id, $state) = with_lost_answer('^/v1/customers/$', $how,
		sub { sql("SELECT billing.create_customer('lost_$_[0]', 'lost_$_[0]\@example.com', provider => 'polar')") });
	my $amount = 1000 + $lost;
	my $plan = "lost_$lost";

	is($state, 'active', "$name: the customer is made");
	is(scalar at_polar('customers', "external_id=$id"), 1, "$name: once");

	sql("SELECT billing.create_plan('$plan', 'Lost $lost', $amount)");
	fault({ method => 'POST', path => '^/v1/products/$' }, %$how);
	my ($page, $page_state) = with_lost_answer('^/v1/checkouts/$', $how,
		sub { sql("SELECT billing.create_checkout_session('$id', success_url => 'https://app.example.com/', plan => '$plan')") });
	is($page_state, 'open', "$name: the checkout is made");
	is(scalar at_polar('checkouts', "metadata.janua_session=$page"), 1, "$name: once");
	is(scalar(grep { $_->{prices}[0]{price_amount} == $amount } at_polar('products')), 1, "$name: and its product, once");

	my $plan_price = sql("SELECT p.id FROM billing.prices AS p JOIN billing.plans AS l ON l.id = p.plan_id WHERE l.plan = '$plan'");
	my ($lost_link, $link_state) = with_lost_answer('^/v1/checkout-links/$', $how,
		sub { sql(qq(SELECT billing.create_payment_link('L', '[{"price": "$plan_price"}]', provider => 'polar'))) });
	is($link_state, 'open', "$name: the link is made");
	is(scalar at_polar('checkout_links', "metadata.janua_link=$lost_link"), 1, "$name: once");

	my (undef, $portal_state) = with_lost_answer('^/v1/customer-sessions/$', $how, sub { sql("SELECT billing.create_portal_session('$id')") });
	is($portal_state, 'open', "$name: the portal session is made, perhaps another one");

	fault({ method => 'POST', path => '^/v1/orders/$' }, %$how);
	my ($paid, $paid_state) = with_lost_answer('/finalize$', $how,
		sub { sql("SELECT billing.create_payment_intent('$payer', 1000, 'USD', payment_method => '$card', confirm => true)") });
	is($paid_state, 'succeeded', "$name: the payment is made");
	is(scalar at_polar('orders', "metadata.janua_payment=$paid"), 1, "$name: as one order");
	is(scalar at_polar('payments', 'order_id=' . order_of($paid)->{id}), 1, "$name: charged once");
	my ($lost_refund, $refund_state) = with_lost_answer('^/v1/refunds/$', $how, sub { sql("SELECT billing.create_refund('$paid', 500)") });
	is($refund_state, 'succeeded', "$name: the refund is made");
	is(scalar at_polar('refunds', "metadata.janua_ref=$lost_refund"), 1, "$name: once");
	my ($lost_endpoint) = with_lost_answer('^/v1/webhooks/endpoints$', $how, sub { sql("SELECT billing.register_webhook('polar', 'https://hooks.example.com/$_[0]')") });
	is(scalar(grep { $_->{url} eq "https://hooks.example.com/$lost" } at_polar('webhook_endpoints')), 1, "$name: the endpoint is made once");
}

# ---- refusals ----

fault({ method => 'POST', path => '^/v1/customers/$' }, action => 'redirect');
my $redirected = sql("SELECT billing.create_customer('redirected', 'redirected\@example.com', provider => 'polar')");
wait_for($node, "SELECT state, error_type FROM billing.outbox WHERE object_id = '$redirected'", 'dead|redirect', 'a redirect is not followed');
my $same = sql("SELECT billing.create_customer('same', 'Niño\@example.com', provider => 'polar')");
wait_for($node, "SELECT state, error_type, error_code FROM billing.outbox WHERE object_id = '$same'", 'dead|RequestValidationError|email',
	'the field that is refused is told, and nothing of its content');

# ---- signatures ----

my ($event) = @{ $simulator->control('events?provider=polar&limit=1') };
my ($status, $output) = webhook($node, 'polar', encode_utf8($event->{body}), $event->{headers});
like($output, qr/\|/, 'an event comes in again');
like(refusal(JanuaTest::webhook_call('polar', encode_utf8("$event->{body} "), $event->{headers})), qr/signature/, 'a changed body is refused');
my ($old) = @{ $simulator->control('events?provider=polar&limit=1&timestamp=' . (time() - 301)) };
like(refusal(JanuaTest::webhook_call('polar', encode_utf8($old->{body}), $old->{headers})), qr/too long ago/, 'an old signature is refused');
$simulator->control('settings', { provider => 'polar', webhook_key => 'b' });
sql("SELECT billing.configure_provider('polar', webhook_secret => 'whsec_ovyN6cPrTv56AApvzCaJno08SSmGJmgbWilb33N2JuK')");
($event) = @{ $simulator->control('events?provider=polar&limit=1&secret=whsec_ovyN6cPrTv56AApvzCaJno08SSmGJmgbWilb33N2JuK') };
is((webhook($node, 'polar', encode_utf8($event->{body}), $event->{headers}))[0], 0, 'a secret that is read as base64 counts, too');

# ---- the account ----

$simulator->control('settings', { provider => 'polar', refused_keys => ['polar_oat_test'] });
sql("SELECT billing.create_customer('stopped', 'stopped\@example.com', provider => 'polar')");
wait_for($node, "SELECT stopped_reason FROM billing.provider_accounts WHERE provider = 'polar'", '401', 'a token that is refused stops the account');

my $violations = $simulator->control('violations');
is(scalar(grep { $_->{kind} ne 'path' || $_->{path} !~ m{^/v1/x} } grep { ($_->{provider} || '') eq 'polar' } @{ $violations->{violations} }), 0,
	'every request is as the document wants it') or diag(explain($violations));

done_testing();

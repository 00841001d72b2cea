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
SQL
is(sql("SELECT livemode FROM billing.provider_accounts WHERE provider = 'polar'"), 'f', 'the sandbox option says the mode');
like(refusal("SELECT billing.configure_provider('polar', 'sk_test_x', account => 'b')"), qr/polar_oat_/, 'a key of another provider is refused');

# ---- customers ----

like(refusal("SELECT billing.create_customer('org_0', provider => 'polar')"), qr/requires email/, 'Polar wants an email');
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
is((at_polar('subscriptions'))[0]{pause_at_period_end}, JSON::PP::true, 'it is paused at the end of the period');
sql("SELECT billing.resume_subscription('$subscription')");
await($subscription);
is((at_polar('subscriptions'))[0]{pause_at_period_end}, JSON::PP::false, 'that is taken back, too');
like(refusal("SELECT billing.retry_payment('$subscription')"), qr/./, 'Polar tries payments again by itself');
hand_over($node, $simulator);

# A renewal carries the metadata of the checkout and is an invoice of its own.
act(action => 'cycle', subscription => (at_polar('subscriptions'))[0]{id});
hand_over($node, $simulator);
is(sql("SELECT count(*) FROM billing.invoices WHERE subscription_id = '$subscription' AND billing_reason = 'subscription_cycle' AND status = 'paid'"), '1',
	'a renewal is an invoice');

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

# ---- answers that are lost: exactly one object all the same ----

my $lost = 0;

# Does what POSTs to a path, whose answer is lost in the given way; what is there afterwards.
sub with_lost_answer
{
	my ($path, $how, $make) = @_;

	fault({ method => 'POST', path => $path }, %$how);
	my $id = $make->(++$lost);
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
like(refusal(JanuaTest::webhook_call('polar', encode_utf8($old->{body}), $old->{headers})), qr/time|old/, 'an old signature is refused');
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

# Checkout and portal sessions, payment links and the catalogue at Stripe, over HTTP and back by its webhooks.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub await { return sql("SELECT billing.await('$_[0]', '30 seconds')") }
sub session { return sql("SELECT concat_ws(' ', status, payment_status) FROM billing.checkout_sessions WHERE id = '$_[0]'") }
sub provider_id { return sql("SELECT provider_id FROM billing.provider_refs WHERE object_type = '$_[0]' AND object_id = '$_[1]'") }

sub requests
{
	return map { "$_->{method} $_->{path} $_->{status}" } @{ $simulator->control('requests?' . join '&', @_) };
}

# What Stripe has of an object of ours.
sub at_stripe
{
	my ($kind, $type, $id) = @_;
	my $wanted = provider_id($type, $id);

	return (grep { $_->{id} eq $wanted } @{ $simulator->control("objects/$kind") })[0];
}

# The buyer acts at Stripe, and its webhooks come in.
sub act
{
	my ($action, %given) = @_;

	$simulator->control('act', { provider => 'stripe', action => $action, %given });
	hand_over($node, $simulator);
}

configure_stripe($node, $simulator);
my $customer = sql("SELECT billing.create_customer('acme', 'a\@example.com')");
is(await($customer), 'active', 'a customer');

# ---- a payment ----

my $pay = sql(<<"SQL");
SELECT billing.create_checkout_session('$customer', '[{"name": "Ticket", "amount": 2500, "quantity": 2, "description": "in the stalls"}]',
	'https://acme.example/done?session={CHECKOUT_SESSION_ID}', 'https://acme.example/back', methods => '{card}', locale => 'es',
	expires_at => now() + interval '2 hours', metadata => '{"cart": "7"}')
SQL
is(await($pay), 'open', 'a session is opened');
like(sql("SELECT billing.client_config('$pay') ->> 'url'"), qr{^https://checkout\.stripe\.com/}, 'with an address');
my $there = at_stripe('checkout_sessions', 'checkout_session', $pay);
is($there->{success_url}, "https://acme.example/done?session=$pay", 'our id is in the address to come back to');
is($there->{metadata}{cart}, '7', 'metadata goes along');
act('complete_checkout', checkout_session => provider_id('checkout_session', $pay));
is(session($pay), 'complete paid', 'the webhook says that it is paid');
is(sql("SELECT i.status, i.amount_received FROM billing.payment_intents AS i WHERE i.checkout_session_id = '$pay'"), 'succeeded|5000',
	'and the payment that waited for it has succeeded');
is(sql("SELECT count(*) FROM billing.payment_intents"), '1', 'it is the only one');

my $debit = sql(<<"SQL");
SELECT billing.create_checkout_session('$customer', '[{"name": "Desk", "amount": 30000}]', 'https://a.example', methods => '{us_bank_account}')
SQL
is(await($debit), 'open', 'another session');
act('complete_checkout', checkout_session => provider_id('checkout_session', $debit), payment_method => 'pm_usBankAccount_success');
is(session($debit), 'complete unpaid', 'while a debit is on its way the buyer is through, and it is not paid');
sql("SELECT billing.refresh_checkout_session('$debit')");
await($debit);
is(session($debit), 'complete unpaid', 'which Stripe confirms');
my $bounced = sql(<<"SQL");
SELECT billing.create_checkout_session('$customer', '[{"name": "Chair", "amount": 9000}]', 'https://a.example', methods => '{us_bank_account}')
SQL
await($bounced);
act('complete_checkout', checkout_session => provider_id('checkout_session', $bounced), payment_method => 'pm_usBankAccount_insufficientFunds');
is(session($bounced), 'complete unpaid', 'another debit');
$simulator->control('clock', { advance => 5 * 86400 });
hand_over($node, $simulator);
is(session($debit), 'complete paid', 'until the money is there');
is(session($bounced), 'failed unpaid', 'or it comes to nothing');

# ---- a subscription, with its price pushed first ----

my $buy = sql("SELECT billing.create_checkout_session('$customer', plan => 'pro', quantity => 3, success_url => 'https://a.example')");
is(await($buy), 'open', 'a session for a plan');
is_deeply([ requests('method=POST', 'path=^/v1/(products|prices|checkout/sessions)$') ]->[-3],
	'POST /v1/products 200', 'the plan and its price were pushed before');
act('complete_checkout', checkout_session => provider_id('checkout_session', $buy));
is(sql("SELECT s.status, s.quantity FROM billing.subscriptions AS s JOIN billing.checkout_sessions AS c ON c.subscription_id = s.id WHERE c.id = '$buy'"),
	'active|3', 'the subscription that waited is active');
is(sql("SELECT count(*) FROM billing.subscriptions"), '1', 'it is the only one');

# ---- closing, portal ----

my $closed = sql("SELECT billing.create_checkout_session('$customer', '[{\"name\": \"A\", \"amount\": 100}]', 'https://a.example')");
await($closed);
sql("SELECT billing.expire_checkout_session('$closed')");
is(await($closed), 'expired', 'an open session is closed');
is(sql("SELECT status FROM billing.payment_intents WHERE checkout_session_id = '$closed'"), 'canceled', 'and its payment with it');

my $portal = sql("SELECT billing.create_portal_session('$customer', 'https://a.example/account')");
is(await($portal), 'open', 'a portal session');
like(sql("SELECT billing.client_config('$portal') ->> 'url'"), qr{^https://}, 'has an address');
is(sql("SELECT expires_at > now() FROM billing.portal_sessions"), 't', 'and an end');

# ---- links ----

my $link = sql("SELECT billing.create_payment_link('Fund', '[{\"name\": \"Fund\", \"amount\": 1000}]', max_payments => 5)");
is(await($link), 'open', 'a payment link');
like(sql("SELECT billing.client_config('$link') ->> 'url'"), qr{^https://buy\.stripe\.com/}, 'has an address');
sql("SELECT billing.cancel_payment_link('$link')");
is(await($link), 'canceled', 'and can be closed');

# ---- the provider's list of methods ----

my $visa = sql("SELECT billing.attach_payment_method('$customer', 'pm_card_visa')");
is(await($visa), 'attached', 'a method');
my $detached = provider_id('payment_method', $visa);
$simulator->control('call', { method => 'POST', path => "/v1/payment_methods/$detached/detach" });
sql("SELECT billing.refresh_payment_methods('$customer')");
await($customer);
is(sql("SELECT state FROM billing.payment_methods WHERE id = '$visa'"), 'detached', 'what is not listed any more is detached');

# ---- the catalogue ----

my $plan = sql("SELECT id FROM billing.plans WHERE plan = 'pro'");
sql("UPDATE billing.plans SET name = 'Professional' WHERE plan = 'pro'");
await($plan);
is(at_stripe('products', 'product', $plan)->{name}, 'Professional', 'a renamed plan is renamed there');
my $old = sql("SELECT id FROM billing.prices WHERE plan_id = '$plan' AND is_default");
sql("SELECT billing.create_price('pro', 3900)");
await($old);
is(!!at_stripe('prices', 'price', $old)->{active}, !!0, 'a replaced price is archived there');
is(sql("SELECT count(*) FROM billing.outbox"), '0', 'nothing is left over');

done_testing();

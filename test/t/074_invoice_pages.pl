# A page on which an invoice of ours is paid, at Stripe, Conekta and Polar: what
# is asked for, as their documents judge it, and what their webhooks bring.
use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use JanuaTest;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main');
my $url = $simulator->url;

sub sql { return $node->safe_psql('postgres', encode_utf8($_[0])) }
sub await { return sql("SELECT billing.await('$_[0]', '60 seconds')") }
sub act { $simulator->control('act', {@_}); hand_over($node, $simulator) }
sub invoice { return sql("SELECT concat_ws(' ', status, amount_paid, amount_remaining) FROM billing.invoices WHERE id = '$_[0]'") }
sub session { return sql("SELECT concat_ws(' ', status, payment_status) FROM billing.checkout_sessions WHERE id = '$_[0]'") }
sub balance { return sql("SELECT coalesce(sum(b.balance), 0) FROM billing.customer_balances AS b JOIN billing.customers AS c ON c.id = b.customer_id WHERE c.organization_id = '$_[0]'") }
sub provider_id { return sql("SELECT provider_id FROM billing.provider_refs WHERE object_type = 'checkout_session' AND object_id = '$_[0]'") }

# What psql says of a statement that is refused.
sub refusal
{
	my (undef, undef, $errors) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]");
	return $errors;
}

# The last request of this kind.
sub request { return (@{ $simulator->control('requests?' . join '&', @_) })[-1] }

configure_stripe($node, $simulator);
my ($key) = grep { $_->{active} } @{ $simulator->control('signing_keys?provider=conekta') };
sql("SELECT billing.configure_provider('conekta', 'key_test', webhook_secret => '$key->{public_key}', base_url => '$url/conekta', options => '{\"sandbox\": true, \"rate_per_second\": 0}')");
sql(<<"SQL");
SELECT billing.configure_provider('polar', 'polar_oat_test', 'polar_whs_SimulatorTestSecret0123456789abcdef', base_url => '$url/polar',
	options => '{"sandbox": true, "rate_per_second": 0}')
SQL

my %customer;
foreach my $provider (qw(stripe conekta polar))
{
	my $currency = $provider eq 'conekta' ? 'MXN' : 'USD';

	$customer{$provider} = sql("SELECT billing.create_customer('$provider', '$provider\@example.com', name => 'Ana Pérez', phone => '+525512345678', provider => '$provider', currency => '$currency')");
	await($customer{$provider});
}

# An open invoice that is sent.
sub bill
{
	my ($provider, $amount) = @_;
	my $id = sql("SELECT billing.create_invoice('$customer{$provider}', '[{\"description\": \"Setup\", \"amount\": $amount}]', days_until_due => 10)");

	wait_for($node, "SELECT status FROM billing.invoices WHERE id = '$id'", 'open', "an invoice of $amount");
	return $id;
}

sub page
{
	my ($invoice, $more) = @_;
	my $id = sql("SELECT billing.create_invoice_checkout('$invoice', 'https://app.example.com/paid?page={CHECKOUT_SESSION_ID}', 'https://app.example.com/left'" . ($more // '') . ')');

	is(await($id), 'open', 'a page is open');
	return $id;
}

# ---- Stripe ----

my $invoice = bill('stripe', 12_000);
my $number = sql("SELECT number FROM billing.invoices WHERE id = '$invoice'");
my $page = page($invoice);
my $form = request('provider=stripe', 'method=POST', 'path=^/v1/checkout/sessions$');
my %given = map { my ($name, $value) = split /=/, $_, 2; s/\+/ /g, s/%([0-9A-F]{2})/chr hex $1/ge foreach $name, $value; ($name => $value) } split /&/, $form->{body};
my $payment = sql("SELECT id FROM billing.payment_intents WHERE checkout_session_id = '$page'");
is($given{mode} . ' ' . $given{'line_items[0][price_data][unit_amount]'} . ' ' . $given{'line_items[0][price_data][currency]'} . ' ' . $given{'line_items[0][quantity]'}, 'payment 12000 usd 1', 'Stripe is asked for what is due');
is($given{'line_items[0][price_data][product_data][name]'}, "Invoice $number", 'under the name of the invoice');
is($given{success_url} . ' ' . $given{cancel_url}, "https://app.example.com/paid?page=$page https://app.example.com/left", 'with a way back');
is($given{'payment_intent_data[metadata][janua_ref]'}, $payment, 'the payment is known beforehand');
is(sql("SELECT extract(epoch FROM expires_at)::bigint FROM billing.checkout_sessions WHERE id = '$page'"), $given{expires_at}, 'and when the page ends');
like(sql("SELECT billing.client_config('$invoice') ->> 'url'"), qr{^https://checkout\.stripe\.com/}, 'the invoice leads to it');
is(page($invoice), $page, 'which is shown again');
$simulator->control('act', { provider => 'stripe', action => 'complete_checkout', checkout_session => provider_id($page) });
hand_over($node, $simulator, type => 'checkout.session.completed');
is(session($page) . ' ' . invoice($invoice), 'complete paid paid 12000 0', 'that it was paid is told by the session alone');
$simulator->{handed_over} = 0;
hand_over($node, $simulator, times => 2);
is(invoice($invoice) . ' ' . balance('stripe'), 'paid 12000 0 0', 'and once when the rest comes too, twice');
is(sql("SELECT method FROM billing.payment_intents WHERE id = '$payment'"), 'card', 'which says how');

$invoice = bill('stripe', 9_000);
$page = page($invoice);
sql("SELECT billing.void_invoice('$invoice')");
is(await($page), 'expired', 'the page of an invoice that is void is closed');
is(request('provider=stripe', 'method=POST', 'path=/expire$')->{status}, 200, 'by Stripe');
hand_over($node, $simulator);

$invoice = bill('stripe', 9_000);
$page = page($invoice);
act(provider => 'stripe', action => 'complete_checkout', checkout_session => provider_id($page));
is(invoice($invoice), 'paid 9000 0', 'and that of another one is paid');
like(refusal("SELECT billing.create_invoice_checkout('" . bill('stripe', 20) . "', 'https://a.example')"), qr/22023.*amount/s, 'Stripe takes 50 cents at least');

# ---- Conekta ----

$invoice = bill('conekta', 50_000);
$page = page($invoice, ", methods => '{card,oxxo}', installments => '{3,6}'");
my $order = JSON::PP->new->decode(request('provider=conekta', 'method=POST', 'path=^/orders$')->{body});
is($order->{checkout}{type} . ' ' . $order->{currency} . ' ' . $order->{line_items}[0]{unit_price} . ' ' . $order->{line_items}[0]{quantity}, 'HostedPayment MXN 50000 1', 'Conekta is asked for what is due');
is_deeply($order->{checkout}{allowed_payment_methods}, [ 'card', 'cash' ], 'by what the call allows');
ok($order->{checkout}{expires_at} > time + 22 * 3600 && $order->{checkout}{expires_at} < time + 24 * 3600, 'until the page ends');
act(provider => 'conekta', action => 'complete_checkout', id => provider_id($page));
is(session($page) . ' ' . invoice($invoice), 'complete paid paid 50000 0', 'an order that is paid pays the invoice');

$invoice = bill('conekta', 30_000);
$page = page($invoice);
sql("SELECT billing.mark_invoice_paid('$invoice', 'transfer', amount => 10000)");
await($page);
like(session($page), qr/^(canceled|expired) /, 'the page of an invoice that was paid in part is closed');
$page = page($invoice);
is(sql("SELECT amount_total FROM billing.checkout_sessions WHERE id = '$page'"), 20_000, 'another one is about the rest');
act(provider => 'conekta', action => 'complete_checkout', id => provider_id($page), method => 'cash');
like(session($page) . ' ' . invoice($invoice), qr/^\w+ unpaid open 10000 20000$/, 'cash is on its way');
like(refusal("SELECT billing.create_invoice_checkout('$invoice', 'https://a.example')"), qr/JB010/, 'and nothing else beside it');

# ---- Polar ----

$invoice = bill('polar', 7_000);
like(refusal("SELECT billing.create_invoice_checkout('$invoice', 'https://a.example')"), qr/JB004.*product_id/s, 'Polar sells products only');
my $goods = $simulator->control('call', { provider => 'polar', method => 'POST', path => '/v1/products/', params => { name => 'Charges',
	prices => [ { amount_type => 'fixed', price_amount => 100, price_currency => 'usd' } ], recurring_interval => undef } })->{body}{id};
sql(qq(SELECT billing.configure_provider('polar', options => '{"product_id": "$goods"}')));
$simulator->control('settings', { provider => 'polar', tax_rate => 0.19 });
$page = page($invoice);
my $checkout = JSON::PP->new->decode(request('provider=polar', 'method=POST', 'path=^/v1/checkouts/$')->{body});
is_deeply($checkout->{products}, [$goods], 'of which it is asked for one');
is_deeply($checkout->{prices}{$goods}, [ { amount_type => 'fixed', price_amount => 7000, price_currency => 'usd', tax_behavior => 'exclusive' } ], 'for what is due, to which it adds its tax');
ok(sql("SELECT expires_at < now() + interval '2 hours' FROM billing.checkout_sessions WHERE id = '$page'") eq 't', 'Polar decides when the page ends');
is(page($invoice), $page, 'which is shown again');
like(refusal("SELECT billing.create_invoice_checkout('$invoice', 'https://other.example')"), qr/JB010.*closes no page/s, 'and not closed for another one');
sql("SELECT billing.mark_invoice_paid('$invoice', 'transfer', amount => 2000)");
$simulator->control('act', { provider => 'polar', action => 'complete_checkout', checkout => provider_id($page) });
hand_over($node, $simulator, type => 'order.paid');
is(invoice($invoice) . ' ' . balance('polar'), 'paid 7950 0 2000', 'what was paid on it, told by the order alone, pays the rest, with its part of the tax, and is balance');
$simulator->{handed_over} = 0;
hand_over($node, $simulator);
is(session($page) . ' ' . invoice($invoice) . ' ' . balance('polar'), 'complete paid paid 7950 0 2000', 'and the rest of the news change nothing');

is(join("\n", map { "$_->{method} $_->{path}: $_->{violations}[0]" } grep { @{ $_->{violations} || [] } } @{ $simulator->control('requests') }), '', 'no request is against a document');
is(sql('SELECT count(*) FROM billing.ledger_imbalance'), 0, 'ledger and documents agree');
done_testing();

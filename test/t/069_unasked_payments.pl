# Money that arrives at Conekta without being asked for, by a reference that the
# customer keeps: its order names the customer and no payment source.
use strict;
use warnings;
use utf8;

use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub await { return sql("SELECT billing.await('$_[0]', '60 seconds')") }

my ($key) = grep { $_->{active} } @{ $simulator->control('signing_keys?provider=conekta') };
my $url = $simulator->url . '/conekta';
sql("SELECT billing.configure_provider('conekta', 'key_test', webhook_secret => '$key->{public_key}', base_url => '$url', options => '{\"sandbox\": true, \"rate_per_second\": 0}')");
my $customer = sql("SELECT billing.create_customer('org_1', 'ana\@example.com', 'Ana', phone => '+525512345678', provider => 'conekta', currency => 'MXN')");
await($customer);
my %number;
foreach my $type ('cash_recurrent', 'spei_recurrent')
{
	my $id = sql("SELECT billing.attach_payment_method('$customer', type => '$type', set_default => false)");
	await($id);
	$number{$type} = sql("SELECT coalesce(reference ->> 'clabe', reference ->> 'reference', reference ->> 'number') FROM billing.list_payment_methods('$customer') WHERE id = '$id'");
	like($number{$type}, qr/^\d{10,}$/, "a number for $type");
}
my @invoices = map { sql("SELECT billing.create_invoice('$customer', '[{\"description\": \"Setup\", \"amount\": $_}]', currency => 'MXN', days_until_due => 10)") } (50_000, 30_000);
wait_for($node, "SELECT string_agg(DISTINCT status, ' ') FROM billing.invoices", 'open', 'two invoices are open');

# The buyer pays, and all webhooks about it come in.
my %told;
sub pay
{
	my ($type, $amount) = @_;

	$simulator->control('act', { provider => 'conekta', action => 'pay_reference', reference => $number{$type}, amount => $amount });
	foreach my $event (grep { !$told{ $_->{id} }++ } @{ $simulator->control('events?provider=conekta') })
	{
		webhook($node, 'conekta', $event->{body}, $event->{headers});
	}
	return sql("SELECT string_agg(status || ' ' || amount_paid, ', ' ORDER BY total DESC) FROM billing.invoices");
}

is(pay('spei_recurrent', 50_000), 'paid 50000, open 0', 'a transfer pays the oldest invoice');
is(pay('cash_recurrent', 35_000), 'paid 50000, paid 30000', 'cash pays the next one');
is(sql("SELECT balance FROM billing.customer_balances"), 5000, 'what is too much is the balance of the customer');
is(sql("SELECT count(*) FILTER (WHERE unasked) || ' ' || count(*) FROM billing.payment_intents"), '2 2', 'nothing of it was asked for');
is(sql("SELECT count(*) FROM billing.ledger_imbalance"), 0, 'ledger and documents agree');
done_testing();

# A request whose answer was lost, and whose look-up failed until it was given
# up: what its webhook tells meanwhile is not taken for somebody else's.
use strict;
use warnings;

use Encode qw(encode_utf8);
use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main');
my $url = $simulator->url;
my ($key) = grep { $_->{active} } @{ $simulator->control('signing_keys?provider=conekta') };

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub await { return sql("SELECT billing.await('$_[0]', '60 seconds')") }
sub setting { return sql("UPDATE billing.settings SET value = '$_[1]' WHERE name = '$_[0]'") }
sub fault { return $simulator->control('faults', { action => $_[1], times => $_[2] // 1, match => { provider => 'conekta', %{ $_[0] } } }) }
sub at_conekta { return @{ $simulator->control("objects/$_[0]?provider=conekta&$_[1]") } }
sub id_at { return sql("SELECT provider_id FROM billing.provider_refs WHERE object_type = '$_[0]' AND object_id = '$_[1]'") }

sql(<<"SQL");
SELECT billing.configure_provider('conekta', 'key_test', webhook_secret => '$key->{public_key}', base_url => '$url/conekta',
	options => '{"sandbox": true, "rate_per_second": 0}');
UPDATE billing.settings SET value = '1000000' WHERE name = 'circuit_threshold';
UPDATE billing.settings SET value = '20 milliseconds' WHERE name = 'retry_base';
SELECT billing.create_plan('mx', 'Mensual', 29900, 'MXN')
SQL

# Its answer is lost, nobody can be asked, and it is given up.
sub given_up
{
	my ($path, $statement) = @_;

	setting('max_attempts', 2);
	fault({ method => 'POST', path => $path }, 'drop_after');
	fault({ method => 'GET', path => $path }, 'drop_before', 0);
	my $id = sql($statement);
	wait_for($node, "SELECT state FROM billing.outbox WHERE object_id = '$id'", 'dead', 'a request is given up, its outcome unknown');
	$simulator->control('faults', undef, 'DELETE');
	setting('max_attempts', 20);
	return $id;
}

sub retried
{
	my ($id) = @_;

	sql("SELECT billing.retry_request(id) FROM billing.outbox WHERE object_id = '$id'");
	return await($id);
}

my $customer = sql("SELECT billing.create_customer('org_1', 'ana\@example.com', 'Ana', phone => '+525512345678', provider => 'conekta', currency => 'MXN')");
await($customer);
my $there = id_at('customer', $customer);
await(sql("SELECT billing.attach_payment_method('$customer', 'tok_test_visa_4242')"));

my $reference = given_up('/payment_sources', "SELECT billing.attach_payment_method('$customer', type => 'spei_recurrent')");
sql("SELECT billing.refresh_payment_methods('$customer')");
wait_for($node, "SELECT count(*) FROM billing.outbox WHERE state <> 'dead'", '0', 'the list of the methods comes in between');
is(retried($reference), 'attached', 'the reference is found');
is(scalar at_conekta('payment_sources', "parent_id=$there&type=spei_recurrent"), 1, 'it was made once');
is(sql("SELECT count(*) FROM billing.payment_methods WHERE type = 'spei_recurrent'"), '1', 'and is one here');

await(sql("SELECT billing.subscribe('org_1', 'mx', trial_days => 1)"));
sql("SELECT billing.cancel_subscription(id, false) FROM billing.subscriptions");
wait_for($node, 'SELECT count(*) FROM billing.outbox', '0', 'the plan is there');
hand_over($node, $simulator);
my $before = at_conekta('subscriptions', "customer_id=$there");
my $subscription = given_up('/subscriptions', "SELECT billing.subscribe('org_1', 'mx')");
hand_over($node, $simulator);
is(retried($subscription), 'active', 'the subscription is found');
is(scalar(at_conekta('subscriptions', "customer_id=$there")) - $before, 1, 'it was made once');
sql('CALL billing.run_worker()');
is(sql("SELECT count(*) FROM billing.subscriptions WHERE status = 'active'"), '1', 'and is one here');
is(sql("SELECT count(*) FROM billing.webhook_events WHERE state NOT IN ('applied', 'ignored')"), '0', 'every webhook has found its object');

is($simulator->control('violations')->{count}, 0, 'every request matches the document') or diag(explain($simulator->control('violations')));

done_testing();

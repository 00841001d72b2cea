# What is sent is done once: every request that makes something, when its answer
# is lost; when the worker is killed between the two; and when its webhook is
# faster than the question what became of it.
use strict;
use warnings;

use File::Basename qw(dirname);
use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Which test proves it for which operation: the simulator carries it out and
# drops the connection. 042 counts what was made in its column "lost"; the others
# do so for the further requests of an operation and for other methods.
my %PROOF = (
	'042_failure_matrix' => {
		stripe => [ qw(customer.create customer.set_tax_ids payment_method.attach setup_intent.create product.create price.create subscription.create payment_intent.create payment_intent.confirm
			  refund.create checkout_session.create payment_link.create webhook_endpoint.create webhook_endpoint.rotate meter.create) ],
		conekta => [ qw(customer.create customer.set_tax_ids payment_method.attach price.create subscription.create payment_intent.create payment_intent.confirm refund.create
			  checkout_session.create payment_link.create webhook_endpoint.create) ],
		polar => [ qw(customer.create price.create payment_intent.create payment_intent.confirm refund.create checkout_session.create payment_link.create webhook_endpoint.create meter.create) ],
	},
	# by the totals at the provider
	'064_usage_forwarding' => { stripe => ['usage.report'], polar => ['usage.ingest'] },
	# the signing key, which is an object of its own; the one portal of a subscription; references; a subscription that its webhook tells first
	'030_conekta' => { conekta => [qw(webhook_endpoint.rotate portal_session.create payment_method.attach subscription.create)] },
	# a session is found by nobody, two do no harm
	'042_failure_matrix, which lets there be another one' => { stripe => ['portal_session.create'], polar => ['portal_session.create'] },
	# nothing in SQL leads there, see 042
	'nobody' => { polar => ['subscription.create'] },
	# these change what is there, and make nothing
	'042_failure_matrix, by the state in the end' => { polar => [qw(customer.set_tax_ids webhook_endpoint.rotate)] },
);

my $simulator = start_simulator();
my $node = new_node('main', conf => "restart_after_crash = on\n");
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

# ---- killed between the request and its answer ----

sub worker { return sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'janua_billing worker' AND datname = 'postgres'") }

# What makes a payment at each provider, and what there has to be one of.
my $charges = $simulator->control('call', { provider => 'polar', method => 'POST', path => '/v1/products/',
	params => { name => 'Charges', prices => [ { amount_type => 'fixed', price_amount => 100, price_currency => 'usd' } ], recurring_interval => undef } })->{body}{id};
my @PAYMENTS = (
	[ 'stripe', 'USD', 'sk_test_x', '{"rate_per_second": 0}', '^/v1/payment_intents$', 'pm_card_visa', 'payment_intents', 'metadata.janua_ref' ],
	[ 'conekta', 'MXN', 'key_test', '{"sandbox": true, "rate_per_second": 0}', '^/orders$', 'tok_test_visa_4242_killed', 'orders', 'metadata.janua_ref' ],
	[ 'polar', 'USD', 'polar_oat_x', qq({"sandbox": true, "rate_per_second": 0, "product_id": "$charges"}), '^/v1/orders/$', undef, 'orders', 'metadata.janua_payment' ]);
foreach my $payment (@PAYMENTS)
{
	my ($provider, $currency, $secret, $options, $path, $token, $kind, $field) = @$payment;

	sql("SELECT billing.configure_provider('$provider', '$secret', base_url => '$url/$provider', options => '$options')");
	my $payer = sql("SELECT billing.create_customer('$provider', '$provider\@example.com', 'Ana', phone => '+525512345678', provider => '$provider', currency => '$currency')");
	await($payer);
	if (!defined $token)
	{
		$simulator->control('act', { provider => $provider, action => 'add_payment_method', customer => id_at('customer', $payer) });
		sql("SELECT billing.refresh_payment_methods('$payer')");
		await($payer);
		$token = sql("SELECT id FROM billing.list_payment_methods('$payer')");
	}
	$simulator->control('faults', { action => 'delay', ms => 2000, match => { provider => $provider, method => 'POST', path => $path } });
	my $id = sql("SELECT billing.create_payment_intent('$payer', 50000, '$currency', payment_method => '$token', confirm => true)");
	my $made = sub { return scalar @{ $simulator->control("objects/$kind?provider=$provider&$field=$id") } };
	my $killed = worker();

	ok(poll_until(sub { $made->() == 1 }, 'the payment'), "$provider: it is done, and its answer on the way");
	is(kill('KILL', $killed), 1, "$provider: the worker is killed");
	ok(poll_until(sub { eval { my $new = worker(); $new ne '' && $new ne $killed } }, 'another worker'), "$provider: another one takes its place");
	is(await($id), 'succeeded', "$provider: the payment is known");
	is($made->(), 1, "$provider: there is one");
	isnt(id_at('payment_intent', $id), '', "$provider: its id is known");
	is(sql("SELECT state FROM billing.outbox_finished WHERE object_id = '$id'"), 'done', "$provider: the request is done");
}

# ---- nothing is left out ----

my %proved;
foreach my $where (keys %PROOF)
{
	my $providers = $PROOF{$where};

	foreach my $provider (keys %$providers)
	{
		$proved{"$provider $_"} = 1 foreach @{ $providers->{$provider} };
	}
	next unless $where =~ /^(\d\w+)/;
	ok(-e dirname($0) . "/$1.pl", "there is a test $1");
}
is(join(' ', grep { !$proved{$_} } split /\n/, sql(<<'SQL')), '', 'every operation that makes something is proved somewhere');
SELECT provider || ' ' || operation FROM billing.provider_capabilities() WHERE support = 'supported' AND provider <> 'sandbox'
AND (operation LIKE '%.create' OR operation IN ('customer.set_tax_ids', 'payment_method.attach', 'payment_intent.confirm', 'webhook_endpoint.rotate', 'usage.report', 'usage.ingest'))
SQL

is($simulator->control('violations')->{count}, 0, 'every request matches the document') or diag(explain($simulator->control('violations')));

done_testing();

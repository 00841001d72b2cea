# A worker that is killed, and a server that is: nothing is lost and nothing is
# there twice.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $CUSTOMERS = 200;

my $simulator = start_simulator();
my $node = new_node('main', conf => "janua_billing.max_in_flight = 32\nrestart_after_crash = on\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub in_flight { return sql("SELECT count(*) FROM billing.outbox WHERE state = 'sending'") }

sub worker { return worker_pid($node) }

sub wait_for_flight
{
	return ok(poll_until(sub { in_flight() > 0 && worker() ne '' }, 'calls in flight'), 'calls are in flight');
}

sub kill_worker
{
	my $pid = worker();

	is(kill('KILL', $pid), 1, 'the worker is killed');
	ok(poll_until(sub { my $new = worker(); $new ne '' && $new ne $pid }, 'another worker'), 'another one takes its place');
}

sub create_customers
{
	my ($prefix) = @_;

	sql("SELECT billing.create_customer('${prefix}_' || i, '${prefix}_' || i || '\@example.com') FROM generate_series(1, $CUSTOMERS) AS i");
}

# Every customer of ours is at the provider, once, and every one there is ours.
sub check_customers
{
	my ($what) = @_;
	my %times;

	wait_for($node, 'SELECT count(*) FROM billing.outbox', '0', "$what: every request comes to an end");
	$times{ $_->{metadata}{janua_ref} }++ foreach @{ $simulator->control('objects/customers') };
	is_deeply([ sort keys %times ], [ split /\n/, sql('SELECT id FROM billing.customers ORDER BY id') ], "$what: nothing is lost");
	is(join(' ', grep { $times{$_} > 1 } keys %times), '', "$what: nothing is there twice");
	is(sql(<<'SQL'), '0', "$what: every customer knows its id at the provider");
SELECT count(*) FROM billing.customers AS c WHERE NOT EXISTS (SELECT FROM billing.provider_refs AS r WHERE r.object_id = c.id)
SQL
}

configure_stripe($node, $simulator);
sql("UPDATE billing.settings SET value = '20 milliseconds' WHERE name = 'retry_base'");
$simulator->control('latency', { ms => 300 });

create_customers('killed');
wait_for_flight();
kill_worker();
wait_for_flight();
kill_worker();
check_customers('killed twice');

$simulator->control('faults', { action => 'drop_after', times => 0, probability => 0.2, match => { method => 'POST' } });
create_customers('dropped');
wait_for_flight();
kill_worker();
check_customers('killed while answers are lost');
$simulator->control('faults', undef, 'DELETE');

create_customers('stopped');
wait_for_flight();
$node->stop('immediate');
$node->start;
check_customers('a server that stops at once');

create_customers('restarted');
wait_for_flight();
$node->restart;
check_customers('a server that is restarted');

# What the dead worker had already been told but not yet written down is told again under the same key.
ok(scalar(grep { $_->{replayed} } @{ $simulator->control('requests?method=POST') }) > 0, 'a second sending is answered like the first');

# A customer with several requests in a row keeps their order.
my $customer = sql("SELECT billing.create_customer('ordered', 'ordered\@example.com')");
sql("SELECT billing.update_customer('$customer', '{\"name\": \"$_\"}')") foreach 1 .. 5;
wait_for_flight();
kill_worker();
wait_for($node, 'SELECT count(*) FROM billing.outbox', '0', 'the requests of one customer are sent after a kill');
is($simulator->control("objects/customers?metadata.janua_ref=$customer")->[0]{name}, '5', 'with the last value last');
is(sql(<<"SQL"), 't', 'in their order');
SELECT array_agg(seq ORDER BY finished_at) = array_agg(seq ORDER BY seq) FROM billing.outbox_finished WHERE ordering_key = '$customer'
SQL

# A subscription, whose making costs money.
my $subscription = sql("SELECT billing.subscribe('ordered', 'pro', 'pm_card_visa')");
ok(poll_until(sub { sql("SELECT count(*) FROM billing.outbox WHERE operation = 'subscription.create' AND state = 'sending'") eq '1' },
		'the subscription is being made'),
	'a subscription is being made');
kill_worker();
is(sql("SELECT billing.await('$subscription', '60 seconds')"), 'active', 'it is active after a kill');
is(scalar @{ $simulator->control('objects/subscriptions') }, 1, 'and there is one');
is(scalar @{ $simulator->control('objects/charges') }, 1, 'that was paid once');

# A request that ends its worker each time is given up, others go on.
sql("UPDATE billing.settings SET value = '2' WHERE name = 'max_attempts'");
$simulator->control('latency', { ms => 0 });
$simulator->control('faults', { action => 'hang', times => 0, match => { method => 'POST', path => '^/v1/customers$', body => 'organization_id\\]=poison' } });
my $poison = sql("SELECT billing.create_customer('poison', 'poison\@example.com')");
foreach my $attempt (1 .. 2)
{
	wait_for($node, "SELECT state, attempts FROM billing.outbox WHERE object_id = '$poison'", "sending|$attempt", "attempt $attempt");
	kill_worker();
}
wait_for($node, "SELECT state, error_type FROM billing.outbox WHERE object_id = '$poison'", 'dead|lease_expired',
	'a request that ends its worker each time is dead');
my $healthy = sql("SELECT billing.create_customer('healthy', 'healthy\@example.com')");
is(sql("SELECT billing.await('$healthy', '30 seconds')"), 'active', 'others go on');

# So is one that cannot even be built.
my $spoiled = sql(<<'SQL');
BEGIN;
SELECT billing.create_customer('spoiled', 'spoiled@example.com');
UPDATE billing.customers SET email = '\xdeadbeef' WHERE organization_id = 'spoiled';
COMMIT;
SQL
wait_for($node, "SELECT state, error_type FROM billing.outbox WHERE object_id = '$spoiled'", 'dead|internal', 'a request that cannot be built is dead');
is(worker() ne '' ? 'running' : 'gone', 'running', 'without taking the worker along');

is($simulator->control('violations')->{count}, 0, 'every request matches the document') or diag(explain($simulator->control('violations')));

done_testing();

# How fast requests go to an account, what makes it pause, and that one
# provider's trouble is no other's.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $simulator = start_simulator();
my $other = start_simulator();
my $node = new_node('main', conf => "janua_billing.max_in_flight = 16\njanua_billing.http_timeout = '20s'\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub setting { return sql("UPDATE billing.settings SET value = '$_[1]' WHERE name = '$_[0]'") }
sub health { return sql("SELECT $_[1] FROM billing.provider_health WHERE provider = 'stripe' AND account = '$_[0]'") }

sub configure
{
	my ($account, $url, $options) = @_;
	return sql("SELECT billing.configure_provider('stripe', 'sk_test_$account', account => '$account', base_url => '$url', options => '$options')");
}

# COUNT customers named PREFIX1, ... in one transaction.
sub customers
{
	my ($account, $prefix, $count) = @_;
	return sql("SELECT billing.create_customer('$prefix' || i, '$prefix' || i || '\@example.com', provider => 'stripe', account => '$account') FROM generate_series(1, $count) AS i");
}

sub unfinished { return sql("SELECT count(*) FROM billing.outbox AS o JOIN billing.customers AS c ON c.id = o.object_id WHERE c.organization_id LIKE '$_[0]%'") }

# When the requests about these customers arrived at the provider, in seconds.
sub arrivals
{
	my ($at, $prefix) = @_;
	my @found = sort { $a <=> $b } map { $_->{received_at} / 1000 }
	  grep { ($_->{body} // '') =~ /organization_id(\]|%5D)=$prefix\d/ } @{ $at->control('requests?method=POST') };
	return @found;
}

# The largest number of them within one second.
sub most_in_a_second
{
	my (@times) = @_;
	my ($most, $from) = (0, 0);

	for my $to (0 .. $#times)
	{
		$from++ while $times[$to] - $times[$from] >= 1;
		$most = $to - $from + 1 if $to - $from + 1 > $most;
	}
	return $most;
}

# ---- the bucket ----

configure('default', $simulator->url, '{"rate_per_second": 20}');
configure('other', $other->url, '{"rate_per_second": 0}');
setting('retry_base', '20 milliseconds');
customers('default', 'paced', 60);
wait_for($node, "SELECT count(*) FROM billing.outbox", '0', '60 calls at 20 a second are done');
my @times = arrivals($simulator, 'paced');
is(scalar @times, 60, 'each was sent once');
cmp_ok($times[-1] - $times[0], '>=', 2, 'which takes two seconds at least');
cmp_ok($times[-1] - $times[0], '<', 6, 'and not much more');
# what leaves in time may arrive a little later: one call's grace
cmp_ok(most_in_a_second(@times), '<=', 21, 'no second sees more than the limit');

configure('default', $simulator->url, '{"rate_per_second": 0}');
customers('default', 'free', 60);
wait_for($node, "SELECT count(*) FROM billing.outbox", '0', 'without a limit');
@times = arrivals($simulator, 'free');
cmp_ok($times[-1] - $times[0], '<', 2, 'they go as fast as they can');

# run_worker() waits for the bucket, too: what is due is done when it returns
my $lone = new_node('lone', preload => 0);
$lone->safe_psql('postgres', "SELECT billing.configure_provider('stripe', 'sk_test_lone', base_url => '" . $simulator->url . "', options => '{\"rate_per_second\": 2}')");
$lone->safe_psql('postgres', "BEGIN; SELECT billing.create_customer('lone' || i, provider => 'stripe') FROM generate_series(1, 4) AS i; UPDATE billing.worker_state SET pid = pg_backend_pid(); COMMIT; CALL billing.run_worker()");
is($lone->safe_psql('postgres', 'SELECT count(*) FROM billing.outbox'), '0', 'run_worker() waits until the bucket has filled');
$lone->stop;

# ---- one hangs, the other does not notice ----

$simulator->control('faults', { action => 'hang', times => 0, match => { method => 'POST', path => '^/v1/customers$', body => '=hung' } });
customers('default', 'hung', 40);
ok(poll_until(sub { sql("SELECT count(*) FROM billing.outbox WHERE state = 'sending' AND account = 'default'") >= 8 }, 'calls hang'), 'many calls to a provider that hangs');
my $longest = 0;
for my $i (1 .. 20)
{
	my $begin = Time::HiRes::time();
	my $state = sql("SELECT billing.create_customer('brisk$i', provider => 'stripe', account => 'other') AS id \\gset\nSELECT billing.await(:'id')");
	my $took = Time::HiRes::time() - $begin;

	$longest = $took if $took > $longest;
	is($state, 'active', "call $i to the other account is answered") if $state ne 'active';
}
is(unfinished('brisk'), '0', 'the other account does its work');
cmp_ok($longest, '<', 2, 'at its usual speed');
diag("slowest call beside a hanging provider: $longest s");
cmp_ok(sql("SELECT count(*) FROM billing.outbox WHERE state = 'sending' AND account = 'default'"), '<', 16, 'the hanging one never has all slots');
my $begin = Time::HiRes::time();
customers('other', 'crowd', 60);
wait_for($node, "SELECT count(*) FROM billing.outbox WHERE account = 'other'", '0', 'also for many calls');
cmp_ok(Time::HiRes::time() - $begin, '<', 5, 'side by side');
$begin = Time::HiRes::time();
is(sql("SELECT billing.create_customer('here', provider => 'sandbox') AS id \\gset\nSELECT billing.await(:'id')"), 'active', 'nor does the sandbox notice');
cmp_ok(Time::HiRes::time() - $begin, '<', 2, 'at once');
$simulator->control('faults', undef, 'DELETE');
sql("SELECT billing.configure_provider('stripe')");
wait_for($node, "SELECT count(*) FROM billing.outbox", '0', 'and what hung is done in the end');
is(scalar(@{ $simulator->control('objects/customers?metadata.organization_id=hung7') }), 1, 'once');

# ---- 429 ----

$simulator->control('faults', { action => 'status', status => 429, retry_after => 3, times => 1, match => { method => 'POST', body => '=busy1(&|$)' } });
customers('default', 'busy', 1);
ok(poll_until(sub { health('default', 'throttled_until IS NOT NULL') eq 't' }, 'throttled'), 'a 429 is seen in provider_health');
my $asked = Time::HiRes::time();
customers('default', 'after', 5);
customers('other', 'meanwhile', 5);
wait_for($node, "SELECT count(*) FROM billing.outbox WHERE account = 'other'", '0', 'the other account goes on');
is(scalar arrivals($simulator, 'after'), 0, 'nothing else is sent to the account that asked for a pause');
wait_for($node, "SELECT count(*) FROM billing.outbox", '0', 'until it is over');
my ($refused) = arrivals($simulator, 'busy');
my ($next) = arrivals($simulator, 'after');
cmp_ok($next - $refused, '>=', 2.9, 'as long as Retry-After says');
cmp_ok($next - $refused, '<', 6, 'and no longer');

# ---- the breaker ----

sub breaker_at { return health('default', 'circuit') }

setting('circuit_threshold', 5);
setting('circuit_pause', '2 seconds');
$simulator->control('faults', { action => 'status', status => 503, times => 0, match => { method => 'POST', body => '=broken' } });
customers('default', 'broken', 30);
wait_for($node, "SELECT circuit FROM billing.provider_health WHERE provider = 'stripe' AND account = 'default'", 'open', 'failures in a row open the circuit');
is(health('default', 'circuit_until > now()'), 't', 'for a while');
is(sql("SELECT severity FROM billing.attention WHERE what = 'provider does not answer'"), 'critical', 'somebody is told');
my $sent = scalar arrivals($simulator, 'broken');
Time::HiRes::sleep(1);
my @later = arrivals($simulator, 'broken');
is(scalar @later, $sent, 'nothing is sent meanwhile') if health('default', 'circuit_until > now()') eq 't';
ok(poll_until(sub { scalar(arrivals($simulator, 'broken')) > $sent }, 'probe'), 'then one request probes');
Time::HiRes::sleep(0.5);
is(scalar arrivals($simulator, 'broken'), $sent + 1, 'only one');
is(breaker_at(), 'open', 'it failed, too: the circuit stays open');
is(sql("SELECT pause_seconds FROM billing.provider_circuits WHERE state = 'open'"), '4', 'for twice as long');
customers('other', 'fine', 3);
wait_for($node, "SELECT count(*) FROM billing.outbox WHERE account = 'other'", '0', 'the other account has a circuit of its own');
$simulator->control('faults', undef, 'DELETE');
wait_for($node, "SELECT circuit FROM billing.provider_health WHERE provider = 'stripe' AND account = 'default'", 'closed', 'a probe that is answered closes it');
wait_for($node, "SELECT count(*) FROM billing.outbox", '0', 'and everything is sent');
is(scalar(@{ $simulator->control('objects/customers?metadata.organization_id=broken17') }), 1, 'once');
is(sql("SELECT count(*) FROM billing.attention WHERE what = 'provider does not answer'"), '0', 'nobody has to look any more');

# the next process goes on where this one was
$simulator->control('faults', { action => 'drop_before', times => 0, match => { method => 'POST', body => '=gone' } });
setting('circuit_pause', '1 hour');
customers('default', 'gone', 10);
wait_for($node, "SELECT circuit FROM billing.provider_health WHERE provider = 'stripe' AND account = 'default'", 'open', 'lost connections open it as well');
$simulator->control('faults', undef, 'DELETE');
$node->restart;
sql("SELECT billing.create_customer('aside', provider => 'stripe', account => 'other')");
wait_for($node, "SELECT count(*) FROM billing.outbox WHERE account = 'other'", '0', 'after a restart');
is(breaker_at(), 'open', 'it is still open');
is(unfinished('gone'), '10', 'and nothing was sent');
sql("SELECT billing.configure_provider('stripe')");
wait_for($node, "SELECT count(*) FROM billing.outbox", '0', 'who configures the account starts anew');

# ---- the key is refused ----

$simulator->control('settings', { refused_keys => ['sk_test_default'] });
customers('default', 'locked', 1);
wait_for($node, "SELECT stopped_at IS NOT NULL FROM billing.provider_health WHERE provider = 'stripe' AND account = 'default'", 't', 'a refused key stops the account');
isnt(health('default', 'stopped_reason'), '', 'with the reason');
customers('other', 'unlocked', 1);
wait_for($node, "SELECT count(*) FROM billing.outbox WHERE account = 'other'", '0', 'and no other');

# ---- headers of an account ----

$simulator->control('settings', { refused_keys => [] });
sql(q{SELECT billing.configure_provider('stripe', options => '{"headers": {"X-Twin": "yes", "Stripe-Account": "acct_1"}}')});
wait_for($node, "SELECT count(*) FROM billing.outbox", '0', 'it is started again with options');
my ($twin) = grep { ($_->{body} // '') =~ /=locked1/ && ($_->{headers}{'x-twin'} // '') eq 'yes' } @{ $simulator->control('requests?method=POST') };
ok($twin, 'whose headers go out with each request');

done_testing();

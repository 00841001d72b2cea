# A limit of 1000 with 8 connections that consume, roll back, reserve, repeat
# keys and are killed: what is counted in the end is exactly 1000, and so is the
# counter. Then the worker ends what has expired, and a copy counts anew.
use strict;
use warnings;

use JanuaTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $CONNECTIONS = 8;
my $LIMIT = 1000;
my $seed = $ENV{QUOTA_SEED} || int(rand(1_000_000));

note("QUOTA_SEED=$seed");
my $node = new_node('main', conf => "restart_after_crash = on\n");
my $connection = $node->connstr('postgres');
my $scratch = PostgreSQL::Test::Utils::tempdir();

sub sql { return $node->safe_psql('postgres', $_[0]) }

# While backends are killed the server may refuse psql before it has read a word.
sub try_sql { return try_psql($node, $_[0]) }

sql("UPDATE billing.plan_features SET value = '$LIMIT' WHERE feature = 'api_calls'");

# ---------------------------------------------------------------------------
# One client: calls of every kind until nothing more fits.

sub script_of
{
	my ($client, $round) = @_;
	my @calls = (
		"SELECT billing.consume('acme', 'api_calls');\n",
		"SELECT billing.consume('acme', 'api_calls', 2, '$client-$round-%d');\n",
		"BEGIN; SELECT billing.consume('acme', 'api_calls', 3); ROLLBACK;\n",
		"BEGIN; SELECT billing.consume('acme', 'api_calls'); SAVEPOINT s; SELECT billing.consume('acme', 'api_calls', 4); ROLLBACK TO s; COMMIT;\n",
		"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT billing.consume('acme', 'api_calls'); COMMIT;\n",
		"SELECT billing.reserve_usage('acme', 'api_calls', 3) AS r \\gset\nSELECT billing.commit_reservation(:'r', 1);\n",
		"SELECT billing.reserve_usage('acme', 'api_calls', 2) AS r \\gset\nSELECT billing.release_reservation(:'r');\n");
	my $script = '';

	for my $n (1 .. 40)
	{
		my $call = $calls[ int(rand(@calls)) ];

		$call = sprintf($call, $n) if $call =~ /%d/;
		# a key again, as somebody does who got no answer
		$call x= 2 if $call =~ /$client-$round/ && rand() < 0.5;
		$script .= $call;
	}
	return $script;
}

sub client
{
	my $client = shift;

	srand($seed + $client);
	for my $round (1 .. 200)
	{
		my $file = "$scratch/$client-$round.sql";

		append_to_file($file, script_of($client, $round));
		system("psql -X -q -d \"$connection\" -f $file >/dev/null 2>>$scratch/$client.errors");
		my ($status, $left) = try_sql("SELECT billing.check_quota('acme', 'api_calls')");
		last if $status == 0 && $left eq 'f';
	}
	POSIX::_exit(0);
}

my @clients;
for my $client (1 .. $CONNECTIONS)
{
	my $pid = fork() // die "fork: $!";

	client($client) if $pid == 0;
	push @clients, $pid;
}

# Meanwhile: looks, and backends that are killed in the middle of it.
my $looks = 0;
my $over = 0;
my $killed = 0;
my $running = sub { return scalar grep { waitpid($_, POSIX::WNOHANG()) == 0 } @clients };
my $end = Time::HiRes::time() + 120;
while ($running->() > 0 && Time::HiRes::time() < $end)
{
	my ($status, $wrong) = try_sql(
		"SELECT count(*) FROM billing.usage_counters AS c WHERE c.used + c.reserved > $LIMIT OR c.used <> "
		  . "(SELECT s.quantity FROM billing.usage_summary('acme') AS s WHERE s.metric = 'api_calls')");

	if ($status == 0)
	{
		$looks++;
		$over += $wrong;
	}
	next if $killed >= 2 || rand() < 0.3;
	my (undef, $pid) = try_sql("SELECT pid FROM pg_stat_activity WHERE query ~ 'consume|reserve' AND pid <> pg_backend_pid() ORDER BY state = 'active' DESC LIMIT 1");
	$killed += kill('KILL', $pid) if $pid;
}
ok(poll_until(sub { (try_sql('SELECT 1'))[0] == 0 }, 'the server answers'), 'the server is there in the end');
note("looks: $looks, killed: $killed");
is($over, 0, 'at no moment was anything over the limit, or the counter another than the events');
cmp_ok($looks, '>', 3, 'somebody looked');
cmp_ok($killed, '>', 0, 'backends were killed');

# What a killed one had reserved is free after its time; the rest is used up one by one.
sql("UPDATE billing.usage_reservations SET created_at = created_at - interval '1 hour', expires_at = expires_at - interval '1 hour' WHERE state = 'open'");
sql("SELECT billing.consume('acme', 'api_calls') FROM generate_series(1, $LIMIT)");
is(sql("SELECT sum(quantity) FROM billing.usage_events"), $LIMIT, 'exactly the limit is counted');
is(sql("SELECT used || ' ' || reserved FROM billing.usage_counters"), "$LIMIT 0", 'by the counter as well');
is(sql("SELECT count(*) FROM (SELECT idempotency_key FROM billing.usage_events WHERE idempotency_key IS NOT NULL GROUP BY 1 HAVING count(*) > 1) AS d"), '0', 'a key counts once');
is(sql("SELECT billing.consume('acme', 'api_calls', 1)"), 'f', 'nothing more fits');

# ---------------------------------------------------------------------------
# The worker ends what has expired.

sql("SELECT billing.reserve_usage('late', 'api_calls', 10)");
sql("UPDATE billing.usage_reservations SET created_at = created_at - interval '1 hour', expires_at = expires_at - interval '1 hour' WHERE organization_id = 'late'");
sql('CALL billing.run_worker()');
is(sql("SELECT state FROM billing.usage_reservations WHERE organization_id = 'late'"), 'expired', 'the worker ends a reservation');
is(sql("SELECT reserved FROM billing.usage_counters WHERE organization_id = 'late'"), '0', 'and frees the counter');
sql("UPDATE billing.usage_reservations SET created_at = created_at - interval '40 days', expires_at = expires_at - interval '40 days', ended_at = ended_at - interval '40 days' WHERE organization_id = 'late'");
sql('CALL billing.run_worker()');
is(sql("SELECT count(*) FROM billing.usage_reservations WHERE organization_id = 'late'"), '0', 'and forgets it after a while');

# ---------------------------------------------------------------------------
# A copy has no counters, and makes them from the events.

sql("SELECT billing.reserve_usage('copied', 'api_calls', 10)");
sql("SELECT billing.consume('copied', 'api_calls', 7)");
my $dump = $node->basedir . '/quota.dump';
$node->command_ok([ 'pg_dump', '--format=custom', '--file', $dump, 'postgres' ], 'pg_dump');
sql('CREATE DATABASE there');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'there', $dump ], 'pg_restore');
is($node->safe_psql('there', "SELECT billing.check_quota('copied', 'api_calls', 983), billing.check_quota('copied', 'api_calls', 984)"), 't|f', 'the copy knows what is left');
is($node->safe_psql('there', "SELECT billing.consume('copied', 'api_calls', 984), billing.consume('copied', 'api_calls', 983)"), 'f|t', 'and keeps to it');
is($node->safe_psql('there', "SELECT used || ' ' || reserved FROM billing.usage_counters WHERE organization_id = 'copied'"), '990 10', 'by a counter of its own');

$node->stop;
done_testing();

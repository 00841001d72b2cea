# Eight clients record usage for a minute, while the worker is killed and the server stopped at random moments:
# each acknowledged event is counted exactly once, in the events, in the totals
# and in the summary. Then prepared transactions, copies, and retention.
use strict;
use warnings;

use JanuaTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $CONNECTIONS = 8;
my $ORGANIZATIONS = 5;
my $SECONDS = $ENV{USAGE_CRASH_SECONDS} || 60;
my $EVENTS = 40;    # of one script
my $seed = $ENV{USAGE_CRASH_SEED} || int(rand(1_000_000));

note("USAGE_CRASH_SEED=$seed");
srand($seed);

my $node = new_node('main', conf => "restart_after_crash = on\nmax_prepared_transactions = 5\n");
my $scratch = PostgreSQL::Test::Utils::tempdir();
my $connection = $node->connstr('postgres');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# ---------------------------------------------------------------------------
# One client: records events with keys, some alone and some in batches, and
# repeats what was not acknowledged until it is. Leaves its keys in a file.

sub script_of
{
	my ($client, $from) = @_;
	my $script = '';

	for my $n ($from .. $from + $EVENTS - 1)
	{
		my $key = "$client-$n";
		my $organization = 'org_' . ($n % $ORGANIZATIONS);
		my $minutes = ($n * 37) % 5000;

		if ($n % 10 == 0)
		{
			$script .= "SELECT 'ack $key', billing.record_usage_batch(array_fill('$organization'::text, '{5}'), array_fill('api_calls'::text, '{5}'), "
			  . "array_fill(2::numeric, '{5}'), array_fill(now() - interval '$minutes minutes', '{5}'), ARRAY['$key', '$key/1', '$key/2', '$key/3', '$key/4']);\n";
		}
		else
		{
			$script .= "SELECT 'ack $key', billing.record_usage('$organization', 'api_calls', 2, now() - interval '$minutes minutes', '$key');\n";
		}
	}
	return $script;
}

sub client
{
	my ($client, $end) = @_;
	my $next = 0;

	srand($seed + $client);
	while (Time::HiRes::time() < $end)
	{
		my $file = "$scratch/$client.sql";

		append_to_file("$file.new", script_of($client, $next));
		rename("$file.new", $file) or die "$file: $!";
		my $out = `psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$connection" -f $file 2>$scratch/$client.errors`;
		my @acknowledged = $out =~ /^ack \d+-(\d+)\|/mg;

		# in order: all before the last one are acknowledged as well
		$next = $acknowledged[-1] + 1 if @acknowledged;
		Time::HiRes::sleep(0.1) if $? != 0;
	}
	append_to_file("$scratch/$client.count", $next);
	POSIX::_exit(0);
}

sql("SELECT billing.record_usage('first', 'users')");
my $end = Time::HiRes::time() + $SECONDS;
my @clients;
for my $client (1 .. $CONNECTIONS)
{
	my $pid = fork() // die "fork: $!";

	client($client, $end) if $pid == 0;
	push @clients, $pid;
}

# ---------------------------------------------------------------------------
# What happens meanwhile.

# On one snapshot the summary is what the events come to at any moment.
my $differing = <<"SQL";
SELECT count(*) FROM (SELECT 'org_' || i AS o FROM generate_series(0, $ORGANIZATIONS - 1) AS i) AS s
WHERE (SELECT quantity FROM billing.usage_summary(o, now() - interval '10 days', now() + interval '1 hour') WHERE metric = 'api_calls')
	<> (SELECT coalesce(sum(quantity), 0) FROM billing.usage_events AS u WHERE u.organization_id = o AND u.metric = 'api_calls')
SQL
my %happened = (worker => 0, crash => 0, server => 0, looks => 0);
my $wrong = 0;
while (Time::HiRes::time() < $end - 3)
{
	my $chance = rand();
	my $until = Time::HiRes::time() + 0.3 + rand(2);

	while (Time::HiRes::time() < $until)
	{
		my ($status, $count) = try_psql($node, $differing);

		next unless $status == 0;
		$happened{looks}++;
		$wrong += $count;
	}
	if ($chance < 0.7)
	{
		my (undef, $pid) = try_psql($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'janua_billing worker' AND datname = 'postgres'");

		next unless $pid;
		$happened{ $chance < 0.4 ? 'worker' : 'crash' } += kill($chance < 0.4 ? 'TERM' : 'KILL', $pid);
	}
	else
	{
		$node->stop('immediate');
		$node->start;
		$happened{server}++;
	}
}
waitpid($_, 0) foreach @clients;
note(join ', ', map { "$_: $happened{$_}" } sort keys %happened);
cmp_ok($happened{looks}, '>', 10, 'somebody looked now and then');
is($wrong, 0, 'and every summary was right');
ok($happened{server} > 0, 'the server was stopped at once now and then');
cmp_ok($happened{worker} + $happened{crash}, '>', 0, 'so was the worker');
ok(poll_until(sub { (try_psql($node, 'SELECT 1'))[0] == 0 }, 'the server answers'), 'and is there again');

# ---------------------------------------------------------------------------
# In the end.

my $acknowledged = 0;
my @lost;
for my $client (1 .. $CONNECTIONS)
{
	my $count = slurp_file("$scratch/$client.count");
	my @there = split /\n/, sql("SELECT idempotency_key FROM billing.usage_events WHERE idempotency_key LIKE '$client-%'");
	my %there = map { $_ => 1 } @there;

	is(scalar(@there), scalar(keys %there), "client $client: no event is there twice");
	for my $n (0 .. $count - 1)
	{
		push @lost, grep { !$there{$_} } "$client-$n", $n % 10 == 0 ? map { "$client-$n/$_" } 1 .. 4 : ();
	}
	$acknowledged += $count;
}
is("@lost", '', "none of $acknowledged acknowledged calls is lost");
cmp_ok($acknowledged, '>', 1000, 'there were some');

my $events = sql("SELECT organization_id, sum(quantity) FROM billing.usage_events WHERE metric = 'api_calls' GROUP BY 1 ORDER BY 1");
my $summary = "SELECT o, (SELECT quantity FROM billing.usage_summary(o, now() - interval '10 days', now() + interval '1 hour') WHERE metric = 'api_calls') "
  . "FROM (SELECT 'org_' || i AS o FROM generate_series(0, $ORGANIZATIONS - 1) AS i) AS s ORDER BY 1";
is(sql($summary), $events, 'the summary is what the events come to');
sql('CALL billing.run_worker()');
is(sql("SELECT organization_id, sum(sum) FROM billing.usage_totals WHERE metric = 'api_calls' GROUP BY 1 ORDER BY 1"), $events, 'so are the totals');
is(sql($summary), $events, 'and the summary over them');
is(sql("SELECT sum(events) FROM billing.usage_totals WHERE metric = 'api_calls'"), sql("SELECT count(*) FROM billing.usage_keys"), 'a key for each event');

# ---------------------------------------------------------------------------
# A prepared transaction is in the tail for as long as it likes.

sub used { return sql("SELECT quantity FROM billing.usage_summary('prepared') WHERE metric = 'api_calls'") }

sql("BEGIN; SELECT billing.record_usage('prepared', 'api_calls', 5); PREPARE TRANSACTION 'p'");
sql("SELECT billing.record_usage('prepared', 'api_calls', 1)");
sql('CALL billing.run_worker()');
is(used(), 1, 'what is prepared does not count');
$node->stop('immediate');
$node->start;
sql("SELECT billing.record_usage('prepared', 'api_calls', 1)");
sql('CALL billing.run_worker()');
sql("COMMIT PREPARED 'p'");
is(used(), 7, 'and counts once committed, after a restart and rollups');
sql('CALL billing.run_worker()');
is(sql("SELECT sum(sum) FROM billing.usage_totals WHERE organization_id = 'prepared'"), '7', 'in the totals, too');

# ---------------------------------------------------------------------------
# A copy, where transactions have other numbers.

sql("BEGIN; SELECT billing.record_usage('prepared', 'api_calls', 10); PREPARE TRANSACTION 'q'");
sql("SELECT billing.record_usage('prepared', 'api_calls', 100)");
sql("COMMIT PREPARED 'q'");
my $dump = $node->basedir . '/usage.dump';
$node->command_ok([ 'pg_dump', '--format=custom', '--file', $dump, 'postgres' ], 'pg_dump');
my $copy = new_node('copy', extension => 0);
my $before = sql($summary);
$copy->safe_psql('postgres', 'CREATE DATABASE there');
$copy->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'there', $dump ], 'a dump is restored into a new cluster');
is($copy->safe_psql('there', $summary), $before, 'every total is the same');
my $record = "SELECT billing.record_usage('prepared', 'api_calls', 1000)";
$copy->safe_psql('there', $record);
my $ask = "SELECT quantity FROM billing.usage_summary('prepared') WHERE metric = 'api_calls'";
is($copy->safe_psql('there', $ask), '1117', 'usage there is added');
cp_key();
$copy->safe_psql('there', 'CALL billing.run_worker()');
is($copy->safe_psql('there', $ask), '1117', 'by its worker as well');
is($copy->safe_psql('there', "SELECT sum(sum) FROM billing.usage_totals WHERE organization_id = 'prepared'"), '1117', 'in the totals');
is($copy->safe_psql('there', $summary), $before, 'the others are as before');
is($copy->safe_psql('there', "SELECT billing.record_usage('org_1', 'api_calls', 2, now(), '1-1')"), 'f', 'keys are known there');

sub cp_key
{
	return $copy->command_ok([ 'cp', $node->basedir . '/keys/janua_billing.key', $copy->basedir . '/keys/janua_billing.key' ], 'with the key file');
}

# ---------------------------------------------------------------------------
# Retention: events go by the month, totals stay.

sql("SELECT billing.record_usage('old', 'api_calls', 5, '2020-05-05 10:07+00', 'old')");
sql("SELECT billing.record_usage('old', 'api_calls', 7, '2020-05-05 10:20+00')");
my $old = "SELECT quantity FROM billing.usage_summary('old', '2020-05-01 00:00+00', '2020-06-01 00:00+00') WHERE metric = 'api_calls'";
is(sql($old), '12', 'usage of long ago');
# twice: what is not in the totals yet is kept
sql('CALL billing.run_worker()');
sql('CALL billing.run_worker()');
is(sql("SELECT to_regclass('billing.usage_events_2020_05') IS NULL"), 't', 'its events are removed');
is(sql($old), '12', 'and its totals stay');
my (undef, undef, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT billing.record_usage('old', 'api_calls', 5, '2020-05-05 10:07+00', 'new')");
like($error, qr/22023: occurred_at is before the events that are kept.*usage_retention/s, 'nothing is added to them');
(undef, undef, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT * FROM billing.usage_summary('old', '2020-05-01 00:07+00', '2020-06-01 00:00+00')");
like($error, qr/22023: usage of .* is known by quarters of an hour only/, 'and none of them is cut');


# Keys outlive their events, and no longer. The first look of a session finds them, its next pass removes them.
sql("UPDATE billing.usage_keys SET stamp = '2019-01-01' WHERE organization_id = 'old'");
$node->safe_psql('postgres', 'CALL billing.run_worker(); CALL billing.run_worker()');
is(sql("SELECT count(*) FROM billing.usage_keys WHERE organization_id = 'old'"), '0', 'keys of what is removed go');
cmp_ok(sql('SELECT count(*) FROM billing.usage_keys'), '>', 1000, 'the others stay');

$node->stop;
$copy->stop;
done_testing();

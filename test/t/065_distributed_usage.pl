# Usage on tables that Citus distributes over two nodes: every way in and every
# total as on one machine, many sessions at once, and nothing lost or counted
# twice when the worker, a node and the coordinator die.
use strict;
use warnings;

use JanuaTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $CONNECTIONS = 4;
my $SECONDS = $ENV{USAGE_CRASH_SECONDS} || 15;

my $alone = new_node('alone');
if ($alone->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'citus'") == 0)
{
	$alone->stop;
	plan skip_all => 'Citus is not installed: nothing is distributed here';
}

sub refused
{
	my ($node, $statement, $pattern, $name) = @_;
	my (undef, undef, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like($error, $pattern, $name);
}

refused($alone, 'SELECT billing.distribute_usage()', qr/JB004: usage cannot be distributed: Citus is not loaded.*shared_preload_libraries/s, 'without Citus it is refused');
$alone->stop;

# ---------------------------------------------------------------------------
# A coordinator and two nodes

my $conf = <<"CONF";
shared_preload_libraries = 'citus, janua_billing'
max_prepared_transactions = 100
max_connections = 200
restart_after_crash = on
citus.recover_2pc_interval = 1s
CONF
my %node = map { $_ => new_node($_, conf => $conf, extension => 0) } qw(coordinator one two);
my $coordinator = $node{coordinator};

sub sql { return $coordinator->safe_psql('postgres', $_[0]) }

$_->safe_psql('postgres', 'CREATE EXTENSION citus') foreach values %node;
create_extension($coordinator, 'postgres');
sql("CREATE ROLE reporter LOGIN; CREATE ROLE tenant LOGIN; SELECT billing.grant_access('reporter', 'report')");
refused($coordinator, 'SELECT billing.distribute_usage(0)', qr/22023: shard_count is out of range/, 'a number of shards that cannot be is refused');
sql("SELECT citus_set_coordinator_host('" . $coordinator->host . "', " . $coordinator->port . ')');
refused($coordinator, 'SELECT billing.distribute_usage()', qr/JB008: usage cannot be distributed: no node takes shards.*citus_add_node/s, 'so is a cluster without nodes');
sql("SELECT citus_add_node('" . $_->host . "', " . $_->port . ')') foreach @node{qw(one two)};
refused($coordinator, 'SELECT billing.distribute_usage()', qr/JB008: usage cannot be distributed: role "janua_billing" cannot log in.*ALTER ROLE/s, 'and an owner who cannot log in');
sql('ALTER ROLE janua_billing LOGIN');
refused($coordinator, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT billing.distribute_usage()', qr/JB008: usage is distributed in a transaction of level read committed/, 'and an old snapshot');
refused($node{one}, $_, qr/JB004: usage is .*on the coordinator.*Connect to the coordinator|JB004: usage is distributed from the coordinator/s, "on a node: $_")
  foreach "SELECT billing.record_usage('acme', 'api_calls')", "SELECT * FROM billing.usage_summary('acme')", 'SELECT billing.distribute_usage()';
is($node{one}->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'janua_billing worker'"), '0', 'and no worker of ours runs there');

# ---------------------------------------------------------------------------
# What was there before comes along: totals, the tail, keys.

sub used
{
	my ($organization, $metric, $range) = @_;

	$range = $range ? ", $range" : '';
	return sql("SELECT quantity FROM billing.usage_summary('$organization'$range) WHERE metric = '" . ($metric || 'api_calls') . "'");
}

sql("SELECT billing.record_usage('before', 'api_calls', 5, idempotency_key => 'a'), billing.record_usage('before', 'storage', 77)");
sql('CALL billing.run_worker()');
sql("SELECT billing.record_usage('before', 'api_calls', 6)");
is(sql('SELECT billing.distribute_usage(8)'), 't', 'usage is distributed');
is(sql('SELECT billing.distribute_usage()'), 'f', 'once');
is(sql("SELECT count(DISTINCT colocationid) || ' ' || count(*) FROM pg_dist_partition WHERE logicalrelid = ANY (SELECT format('billing.%I', t)::regclass FROM unnest(billing.distributed_tables()) AS t)"),
	'1 7', 'all of its tables, side by side');
cmp_ok(sql('SELECT count(DISTINCT nodeid) FROM pg_dist_shard_placement AS p JOIN pg_dist_node AS n ON n.nodename = p.nodename AND n.nodeport = p.nodeport'), '==', 2, 'on both nodes');
is(used('before'), '11', 'totals and tail came along');
is(used('before', 'storage'), '77', 'levels, too');
is(sql("SELECT billing.record_usage('before', 'api_calls', 5, idempotency_key => 'a')"), 'f', 'and keys');
sql('CALL billing.run_worker()');
is(used('before'), '11', 'the worker changes nothing');
is(sql("SELECT sum(sum) FROM billing.usage_totals WHERE organization_id = 'before' AND metric = 'api_calls'"), '11', 'but the totals');

# ---------------------------------------------------------------------------
# The ways in

my $batch = "SELECT billing.record_usage_batch((SELECT array_agg('org_' || i % 20) FROM generate_series(1, 1000) AS i), array_fill('api_calls'::text, '{1000}'), "
  . "array_fill(2::numeric, '{1000}'), (SELECT array_agg(now() - i * interval '1 minute') FROM generate_series(1, 1000) AS i), "
  . "(SELECT array_agg('batch-' || i / 2) FROM generate_series(1, 1000) AS i))";
is(sql($batch), '1000', 'a batch over many organisations, where a key is of one of them');
is(sql($batch), '0', 'counts once');
sql("COPY billing.usage_import (organization_id, metric, quantity) FROM PROGRAM 'for i in 1 2 3 4 5; do printf \"org_1\\tapi_calls\\t3\\n\"; done'");
my $event = sql("SELECT id FROM billing.usage_events WHERE organization_id = 'org_1' AND quantity = 3 ORDER BY id LIMIT 1");
is(sql("SELECT billing.void_usage('org_1', '$event')"), 't', 'an event is voided');
is(sql("SELECT billing.void_usage('org_1', '$event')"), 'f', 'once');
is(sql("SELECT billing.record_usage('org_2', 'api_calls', 2, '2024-02-29 12:34+00')"), 't', 'a month gets its partition on every node');
is(sql("BEGIN; SELECT billing.record_usage('undone', 'api_calls'); SAVEPOINT s; SELECT billing.record_usage('undone', 'api_calls'); ROLLBACK TO s; COMMIT; "
		. "SELECT quantity FROM billing.usage_summary('undone') WHERE metric = 'api_calls'"), "t\nt\n1", 'what a savepoint takes back does not count');
refused($coordinator, "UPDATE billing.usage_events SET quantity = 1", qr/JB008: billing.usage_events is append-only/, 'events do not change on the nodes either');
refused($coordinator, "UPDATE billing.meters SET aggregation = 'max' WHERE metric = 'api_calls'", qr/JB008: metric "api_calls" is in use/, 'nor does what they are counted by');

# Roles with a level read the tables; a tenant says who he is in a way that Citus passes on.
my $count = "SELECT count(DISTINCT organization_id) FROM billing.usage_events WHERE organization_id LIKE 'org\\_%'";
is(sql("SET ROLE reporter; $count"), '20', 'who had a level before reads on');
sql("SELECT billing.grant_access('tenant', 'tenant')");
is(sql("SET ROLE tenant; $count"), '0', 'a tenant sees nothing by default');
is(sql("SET ROLE tenant; SET citus.propagate_set_commands = 'local'; BEGIN; SET LOCAL janua_billing.organization_id = 'org_7'; $count; COMMIT"), '1', 'and what is his');
sql("SELECT billing.revoke_access('reporter', 'report'), billing.grant_access('reporter', 'tenant')");
is(sql("SET ROLE reporter; $count"), '0', 'a level that is taken away is taken away on the nodes');

my $all_time = "'2000-01-01 00:00+00', '2040-01-01 00:07+00'";
my $raw = "SELECT organization_id, sum(quantity) FROM billing.usage_events WHERE organization_id LIKE 'org\\_%' GROUP BY 1 ORDER BY 1";
my $summary = "SELECT o, (SELECT quantity FROM billing.usage_summary(o, $all_time) WHERE metric = 'api_calls') FROM (SELECT 'org_' || i AS o FROM generate_series(0, 19) AS i) AS s ORDER BY 1";
my $totals = "SELECT organization_id, sum(sum) FROM billing.usage_totals WHERE organization_id LIKE 'org\\_%' GROUP BY 1 ORDER BY 1";

is(sql($summary), sql($raw), 'summaries are what the events come to');
sql('CALL billing.run_worker()');
is(sql($totals), sql($raw), 'so are the totals');
is(sql('SELECT count(*) FROM billing.usage_dirty'), '0', 'with no mark left');
is(sql($summary), sql($raw), 'and the summaries over them');

# ---------------------------------------------------------------------------
# Reports and views are what the events come to, before a rollup and after.

sql("INSERT INTO billing.meters (metric, aggregation, property, dimensions) VALUES ('visits', 'sum', NULL, '{region}'), ('people', 'unique', 'person', '{region}'), ('peak', 'max', NULL, '{region}')");
my $visits = sub {
	my ($from, $to) = @_;

	sql("SELECT count(billing.record_usage('org_' || i % 5, metric, 1 + i % 7, date_trunc('month', now()) + i * interval '20 seconds' - interval '4 minutes', "
		  . "properties => jsonb_build_object('region', (ARRAY['eu', 'us', 'mx'])[1 + i % 3], 'person', 'p' || i % 11))) "
		  . "FROM generate_series($from, $to) AS i, (VALUES ('visits'), ('people'), ('peak')) AS m (metric)");
};
my $span = "date_trunc('month', now()) - interval '3 minutes', date_trunc('month', now()) + interval '25 minutes'";
my $in_span = "occurred_at >= date_trunc('month', now()) - interval '3 minutes' AND occurred_at < date_trunc('month', now()) + interval '25 minutes'";
my %result = (visits => 'trim_scale(sum(quantity))', people => "count(DISTINCT properties ->> 'person')", peak => 'trim_scale(max(quantity))');
my @views = (
	[ 'usage_daily', "SELECT organization_id, day, quantity, events FROM billing.usage_daily WHERE metric = 'visits' ORDER BY 1, 2",
		"SELECT organization_id, (occurred_at AT TIME ZONE 'UTC')::date, trim_scale(sum(quantity)), count(*) FROM billing.usage_events WHERE metric = 'visits' GROUP BY 1, 2 ORDER BY 1, 2" ],
	[ 'usage_top', "SELECT rank, organization_id, quantity FROM billing.usage_top WHERE metric = 'visits' ORDER BY 1, 2",
		"SELECT rank() OVER (ORDER BY q DESC), o, q FROM (SELECT organization_id AS o, trim_scale(sum(quantity)) AS q FROM billing.usage_events WHERE metric = 'visits' AND occurred_at >= date_trunc('month', now(), 'UTC') GROUP BY 1) AS s ORDER BY 1, 2" ],
	[ 'usage_report', "SELECT organization_id, quantity FROM billing.usage_report WHERE metric = 'visits' AND quantity > 0 ORDER BY 1",
		"SELECT organization_id, trim_scale(sum(quantity)) FROM billing.usage_events WHERE metric = 'visits' AND occurred_at >= date_trunc('month', now(), 'UTC') GROUP BY 1 ORDER BY 1" ]);

sub reports_are_exact
{
	my ($when) = @_;

	foreach my $metric (sort keys %result)
	{
		is(sql("SELECT o, r.dimensions ->> 'region', r.quantity, r.events FROM (SELECT 'org_' || i AS o FROM generate_series(0, 4) AS i) AS s, billing.usage_by_dimension(o, '$metric', NULL, $span) AS r ORDER BY 1, 2"),
			sql("SELECT organization_id, properties ->> 'region', $result{$metric}, count(*) FROM billing.usage_events WHERE metric = '$metric' AND $in_span GROUP BY 1, 2 ORDER BY 1, 2"),
			"$metric by dimension, $when");
		is(sql("SELECT o, billing.usage_quantity(o, '$metric', $span, '{\"region\": \"mx\"}') FROM (SELECT 'org_' || i AS o FROM generate_series(0, 4) AS i) AS s ORDER BY 1"),
			sql("SELECT organization_id, $result{$metric} FROM billing.usage_events WHERE metric = '$metric' AND $in_span AND properties ->> 'region' = 'mx' GROUP BY 1 ORDER BY 1"),
			"a slice of $metric, $when");
	}
	is(sql("SELECT sum(quantity), sum(events) FROM billing.usage_series('org_1', 'visits', $span, '10 minutes')"),
		sql("SELECT trim_scale(sum(quantity)), count(*) FROM billing.usage_events WHERE organization_id = 'org_1' AND metric = 'visits' AND $in_span"), "a series, $when");
	is(sql($_->[1]), sql($_->[2]), "$_->[0], $when") foreach @views;
}

$visits->(1, 60);
reports_are_exact('by marks');
sql('CALL billing.run_worker()');
reports_are_exact('from totals');
$visits->(61, 90);
reports_are_exact('from both');
# the worker leaves the present quarter of an hour alone
sql("SELECT billing.record_usage('fresh', 'visits', 5), billing.record_usage('fresh', 'visits', 6)");
is(sql("SELECT count(*), trim_scale(sum(quantity)) FROM billing.usage_tail WHERE organization_id = 'fresh'"), '2|11', 'the tail is what marks stand for');
is(sql("SELECT organization_id FROM billing.reported_organizations WHERE organization_id = 'fresh'"), 'fresh', 'whoever is in it alone is reported');

# ---------------------------------------------------------------------------
# Limits: as many as fit, and not one more.

sql("INSERT INTO billing.features (feature, kind) VALUES ('jobs', 'limit'), ('runs', 'limit')");
sql("SELECT billing.set_plan_feature('free', 'jobs', '150'), billing.set_plan_feature('free', 'runs', '1000000'), billing.create_meter('jobs', enforced => true), billing.create_meter('runs', enforced => true)");

my $counted = "SELECT (SELECT used || '+' || reserved FROM billing.usage_counters WHERE organization_id = '%1\$s' AND metric = '%2\$s') || ' ' || (SELECT trim_scale(sum(quantity)) FROM billing.usage_events WHERE organization_id = '%1\$s' AND metric = '%2\$s')";
my @consumers = map {
	my $pid = fork() // die "fork: $!";

	if ($pid == 0)
	{
		my $connstr = $coordinator->connstr('postgres');

		open my $psql, '|-', 'psql', '-X', '-q', '-o', '/dev/null', '-d', $connstr or die $!;
		print $psql "SELECT billing.consume('limited', 'jobs');\n" x 40;
		close $psql;
		POSIX::_exit($? >> 8);
	}
	$pid;
} 1 .. 8;
waitpid($_, 0) foreach @consumers;
is(sql(sprintf($counted, 'limited', 'jobs')), '150+0 150', 'eight connections consume exactly the limit');
is(used('limited', 'jobs'), '150', 'says the summary');
is(sql("SELECT billing.consume('limited', 'jobs'), billing.check_quota('limited', 'jobs')"), 'f|f', 'and no more');
is(sql("SELECT billing.consume('other', 'jobs', 100, 'c'), billing.consume('other', 'jobs', 100, 'd'), billing.consume('other', 'jobs', 50, 'd'), billing.consume('other', 'jobs', 100, 'c')"), 't|f|t|t', 'a key that did not fit is free');
my $reservation = sql("SELECT billing.reserve_usage('third', 'jobs', 60, '1 hour')");
is(sql("SELECT billing.consume('third', 'jobs', 91), billing.consume('third', 'jobs', 90)"), 'f|t', 'what is reserved is held back');
sql("SELECT billing.commit_reservation('$reservation', 20)");
is(sql(sprintf($counted, 'third', 'jobs')), '110+0 110', 'and counts as what is committed');
$reservation = sql("SELECT billing.reserve_usage('third', 'jobs', 40, '1 hour')");
is(sql("SELECT billing.release_reservation('$reservation')"), 't', 'or is released');
sql("SELECT billing.reserve_usage('third', 'jobs', 40, '1 microsecond')");
is(sql("SELECT billing.consume('third', 'jobs', 40)"), 't', 'and when it expires it is free');
sql("SELECT billing.record_usage('third', 'jobs', 7)");
is(sql(sprintf($counted, 'third', 'jobs')), '157+0 157', 'what is recorded without a limit counts in it');
sql("SELECT billing.record_usage('late', 'jobs', 9, date_trunc('month', now()) - interval '5 days')");
sql("SELECT billing.close_usage_period('late', date_trunc('month', now()) - interval '1 month', date_trunc('month', now()))");
sql("SELECT billing.record_usage('late', 'jobs', 4, date_trunc('month', now()) - interval '5 days')");
is(sql("SELECT organization_id, metric, quantity FROM billing.usage_late"), 'late|jobs|4', 'what comes after a closing is late');
sql('CALL billing.run_worker()');
is(sql("SELECT string_agg(threshold::text, ' ' ORDER BY threshold) FROM billing.usage_alerts WHERE organization_id = 'limited'"), '50 75 90 100', 'and alerts are raised');

# ---------------------------------------------------------------------------
# Many at once, while everything dies now and then. A client repeats what was
# not acknowledged; whoever looks sees at least what was acknowledged before.

my $scratch = PostgreSQL::Test::Utils::tempdir();
my $connection = $coordinator->connstr('postgres');

sub client
{
	my ($client, $end) = @_;
	my $next = 0;

	while (Time::HiRes::time() < $end)
	{
		my $script = join '', map {
			my $minutes = $_ * 7 % 100;
			$client > $CONNECTIONS ? "SELECT 'ack $_', billing.consume('hot', 'runs', 2, 'key-$client-$_');\n"
			  : "SELECT 'ack $_', billing.record_usage('crash_$client', 'api_calls', 2, now() - interval '$minutes minutes', 'key-$_');\n"
		} $next .. $next + 19;

		append_to_file("$scratch/$client.new", $script);
		rename("$scratch/$client.new", "$scratch/$client.sql") or die $!;
		my $out = `psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$connection" -f $scratch/$client.sql 2>>$scratch/$client.errors`;
		my @acknowledged = $out =~ /^ack (\d+)\|/mg;

		$next = $acknowledged[-1] + 1 if @acknowledged;
		append_to_file("$scratch/$client.count", "$next\n");
		Time::HiRes::sleep(0.1) if $? != 0;
	}
	POSIX::_exit(0);
}

sub acknowledged
{
	my ($client) = @_;

	return 0 unless -e "$scratch/$client.count";
	return (split /\n/, slurp_file("$scratch/$client.count"))[-1] || 0;
}

my $end = Time::HiRes::time() + $SECONDS;
my @pids;
foreach my $client (1 .. $CONNECTIONS + 2)
{
	my $pid = fork() // die "fork: $!";

	client($client, $end) if $pid == 0;
	push @pids, $pid;
}

my %happened = (looks => 0, worker => 0, node => 0, coordinator => 0);
my $short = 0;
my @deaths = qw(worker node coordinator);
while (Time::HiRes::time() < $end - 2)
{
	my $until = Time::HiRes::time() + 1 + rand(1.5);

	while (Time::HiRes::time() < $until)
	{
		my $client = 1 + int(rand($CONNECTIONS));
		my $before = acknowledged($client);
		my ($status, $used) = $coordinator->psql('postgres', "CALL billing.run_worker(); SELECT quantity FROM billing.usage_summary('crash_$client', $all_time) WHERE metric = 'api_calls'");

		next unless $status == 0;
		$happened{looks}++;
		$short++ if $used < 2 * $before;
	}
	my $what = shift @deaths;

	push @deaths, $what;
	if ($what eq 'worker')
	{
		my (undef, $pid) = $coordinator->psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'janua_billing worker'");

		next unless $pid;
		kill('KILL', $pid);
	}
	else
	{
		my $dies = $what eq 'node' ? $node{two} : $coordinator;

		$dies->stop('immediate');
		$dies->start;
	}
	$happened{$what}++;
}
waitpid($_, 0) foreach @pids;
note(join ', ', map { "$_: $happened{$_}" } sort keys %happened);
ok(poll_until(sub { ($coordinator->psql('postgres', 'SELECT 1'))[0] == 0 }, 'the coordinator answers'), 'the coordinator is there again');
cmp_ok($happened{$_}, '>', 0, "$_, now and then") foreach sort keys %happened;
is($short, 0, 'no summary missed what was acknowledged');

wait_for($coordinator, 'SELECT recover_prepared_transactions() * 0', '0', 'what was prepared is settled');
sql('CALL billing.run_worker()');
my $total = 0;
foreach my $client (1 .. $CONNECTIONS)
{
	my $count = acknowledged($client);
	my ($events, $keys, $lost) = split /\|/, sql("SELECT count(*), count(DISTINCT idempotency_key), count(*) FILTER (WHERE k IS NOT NULL AND idempotency_key IS NULL) "
		. "FROM (SELECT idempotency_key FROM billing.usage_events WHERE organization_id = 'crash_$client') AS e FULL JOIN (SELECT 'key-' || i AS k FROM generate_series(0, $count - 1) AS i) AS k ON k = idempotency_key");

	$total += $count;
	is($lost, 0, "client $client: none of $count acknowledged events is lost");
	is($events, $keys, 'none is there twice');
	is(used("crash_$client", undef, $all_time), 2 * $events, 'each counts once');
	is(sql("SELECT sum(sum) FROM billing.usage_totals WHERE organization_id = 'crash_$client'"), 2 * $events, 'in the totals, too');
	is(sql("SELECT count(*) FROM billing.usage_keys WHERE organization_id = 'crash_$client'"), $keys, 'and has its key');
}
cmp_ok($total, '>', 100, 'there were some');
foreach my $client ($CONNECTIONS + 1, $CONNECTIONS + 2)
{
	my $count = acknowledged($client);

	cmp_ok($count, '>', 0, "client $client consumes");
	is(sql("SELECT count(DISTINCT idempotency_key) FROM billing.usage_events WHERE organization_id = 'hot' AND idempotency_key = ANY (SELECT 'key-$client-' || i FROM generate_series(0, $count - 1) AS i)"), $count, 'each of it is an event');
}
like(sql(sprintf($counted, 'hot', 'runs')), qr/^(\d+)\+0 \1$/, 'the counter is what its events come to');
is(sql("SELECT count(*) - count(DISTINCT idempotency_key) FROM billing.usage_events WHERE organization_id = 'hot'"), '0', 'and none is there twice');

# ---------------------------------------------------------------------------
# Retention, in sessions of their own: a partition that the totals hold goes from every node.

sql("UPDATE billing.settings SET value = '13 months' WHERE name = 'usage_retention'");
sql('CALL billing.run_worker()') foreach 1 .. 2;
is(sql("SELECT to_regclass('billing.usage_events_2024_02') IS NULL"), 't', 'events past retention are removed');
is($node{one}->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname LIKE 'usage_events_2024_02%'"), '0', 'on the nodes');
is(used('org_2', undef, "'2024-01-01 00:00+00', '2024-04-01 00:00+00'"), '2', 'their totals stay');
sql("UPDATE billing.usage_keys SET stamp = '2019-01-01' WHERE organization_id = 'before'");
$coordinator->safe_psql('postgres', 'CALL billing.run_worker(); CALL billing.run_worker()');
is(sql("SELECT count(*) FROM billing.usage_keys WHERE organization_id = 'before'"), '0', 'keys of what is removed go');
cmp_ok(sql('SELECT count(*) FROM billing.usage_keys'), '>', 100, 'the others stay');

$_->stop foreach values %node;
done_testing();

# Retention: old events go by the month while eight connections record usage,
# none of which waits longer than the removal waits for its lock; whoever reads
# for long keeps them until then. Totals stay, and keys outlive their events.
use strict;
use warnings;

use IPC::Run ();
use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $LOCK_TIMEOUT = 0.1;    # of src/usage_partitions.c
my $PATIENCE = 5.0;        # for a busy machine, besides; without the timeout it would be as long as somebody reads
my $node = new_node('main', conf => "timezone = 'UTC'\nmax_prepared_transactions = 5\nautovacuum = off\n");
my $scratch = PostgreSQL::Test::Utils::tempdir();

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Each session begins with a look for what is old.
sub keep { return sql('CALL billing.run_worker()') }

sub partition
{
	my ($months) = @_;

	return sql("SELECT to_char(now() - interval '$months months', '\"usage_events_\"YYYY_MM')");
}

sub is_there { return sql("SELECT to_regclass('billing.$_[0]') IS NOT NULL") eq 't' }

sub old_usage { return sql("SELECT quantity FROM billing.usage_summary('old', '2010-01-01', now()) WHERE metric = 'api_calls'") }

# The worker would come by at a time of its own choosing.
sql("SELECT billing.record_usage('first', 'api_calls')");
sql("SELECT billing.record_usage('old', 'api_calls', 1, now() - make_interval(months => m), 'old ' || m || ' ' || n) FROM generate_series(15, 18) AS m, generate_series(1, 500) AS n");
sql("SELECT billing.record_usage('old', 'api_calls', 1, now() - interval '3 months', 'young')");
is(old_usage(), '2001', 'usage of long ago');

# ---- eight connections record, and go on to the end ----

my $script = "$scratch/record.sql";
append_to_file($script, "\\set o random(1, 100)\nSELECT billing.record_usage('org_' || :o, 'api_calls');\n");
my ($pgbench_out, $pgbench_err) = ('', '');
my $pgbench = IPC::Run::start(
	[ 'pgbench', '-n', '-c', '8', '-j', '2', '-T', '20', '-f', $script, '-l', "--log-prefix=$scratch/latency", $node->connstr('postgres') ],
	'>', \$pgbench_out, '2>', \$pgbench_err);
wait_for($node, "SELECT count(*) > 100 FROM billing.usage_events WHERE organization_id LIKE 'org\\_%'", 't', 'eight connections record usage');

# Somebody reads all of it, another one a single month; a third one is about to correct an event.
my $reader = $node->background_psql('postgres');
my $reader_of_one = $node->background_psql('postgres');
my ($oldest, $next) = map { partition($_) } 18, 17;

$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $read = $reader->query_safe('SELECT count(*) FROM billing.usage_events WHERE organization_id = \'old\'');
keep() for 1 .. 3;
ok(is_there($oldest), 'what is being read stays');
is($reader->query_safe('SELECT count(*) FROM billing.usage_events WHERE organization_id = \'old\''), $read, 'and can be read again');
$reader->query_safe('COMMIT');

$reader_of_one->query_safe("BEGIN; SELECT count(*) FROM billing.$oldest");
keep() for 1 .. 2;
ok(is_there($oldest), 'a month that is being read stays');
$reader_of_one->query_safe('COMMIT');
sql("BEGIN; SELECT billing.void_usage('old', id) FROM billing.usage_events WHERE organization_id = 'old' AND idempotency_key = 'old 18 1'; PREPARE TRANSACTION 'void'");
keep();
ok(is_there($oldest), 'one in which something is about to change stays');
sql("COMMIT PREPARED 'void'");
is(old_usage(), '2000', 'which counts then');

# With nobody in the way it goes within some tries, one month at a time.
ok(poll_until(sub { keep(); !is_there($oldest) }, 'the oldest month is removed'), 'with nobody in the way it goes');
ok(poll_until(sub { keep(); !is_there($next) && !is_there(partition(16)) }, 'the others are removed'), 'and so do the others');
ok(is_there(partition(3)), 'what is within retention stays');
is(old_usage(), '2000', 'the totals are what they were');

$pgbench->finish;
like($pgbench_out, qr/number of failed transactions: 0 /, 'none of the eight was refused');
my ($calls, $longest) = (0, 0);
for my $file (glob "$scratch/latency.*")
{
	for my $line (split /\n/, slurp_file($file))
	{
		my (undef, undef, $us) = split ' ', $line;

		$calls++;
		$longest = $us / 1e6 if $us / 1e6 > $longest;
	}
}
note("$calls calls, the longest of $longest s");
cmp_ok($calls, '>', 500, 'they recorded much');
cmp_ok($longest, '<', $LOCK_TIMEOUT + $PATIENCE, 'and none of them waited for long');
keep();
is(sql("SELECT count(*) FROM billing.usage_events WHERE organization_id LIKE 'org\\_%'"), $calls, 'each call is an event');
is(sql("SELECT sum(sum) FROM billing.usage_totals WHERE organization_id LIKE 'org\\_%'"), $calls, 'and counts in the totals');

# ---- what is closed ----

my ($status, $out, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT billing.record_usage('old', 'api_calls', 1, now() - interval '18 months', 'late')");
like($error, qr/22023: occurred_at is before the events that are kept.*usage_retention/s, 'nothing is added to what was removed');
is(sql("SELECT billing.record_usage('old', 'api_calls', 1, now() - interval '18 months', 'old 18 2')"), 'f', 'a key that is known is still known');
is(sql("SELECT count(*) FROM billing.usage_keys WHERE key = 'late'"), '0', 'and the other one is not used up');


# ---- snapshots from before a removal ----

# One has the event in its tail, since nothing was rolled up; one has it in its totals.
my $seven = "SELECT quantity FROM billing.usage_summary('late', '2010-01-01', now()) WHERE metric = 'api_calls'";
my $holder = $node->background_psql('postgres');
my $early = $node->background_psql('postgres', on_error_stop => 0);
my $later = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT FROM billing.usage_rollup_state FOR UPDATE');
sql("SELECT billing.record_usage('late', 'api_calls', 7, now() - interval '10 months')");
$early->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$holder->query_safe('COMMIT');
wait_for($node, "SELECT sum(sum) FROM billing.usage_totals WHERE organization_id = 'late'", '7', 'an event of ten months ago');
$later->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql("UPDATE billing.settings SET value = '8 months' WHERE name = 'usage_retention'");
ok(poll_until(sub { keep(); !is_there(partition(10)) }, 'the month is removed'), 'is removed, the limit being eight');
is($later->query_safe($seven), '7', 'a snapshot from before counts it by its totals');
$early->query($seven);
like($early->{stderr}, qr/usage that this snapshot counts was removed meanwhile/, 'and one whose totals lack it is told so');
$early->query('ROLLBACK');
is($early->query($seven), '7', 'to begin anew');
sql("UPDATE billing.settings SET value = '13 months' WHERE name = 'usage_retention'");
$_->quit foreach $holder, $early, $later;

# ---- keys ----

# Twelve months go by: what was recorded now has the stamp of now.
sql("SELECT billing.record_usage('key', 'api_calls', 5, now(), 'once')");
sql("UPDATE billing.usage_keys SET stamp = stamp - interval '12 months' WHERE key IN ('once')");
# the first look of a session finds what is old, its next pass removes it
$node->safe_psql('postgres', "CALL billing.run_worker();\nCALL billing.run_worker();");
is(sql("SELECT billing.record_usage('key', 'api_calls', 5, now(), 'once')"), 'f', 'a retry twelve months later, with another time, counts once');
is(sql("SELECT quantity FROM billing.usage_summary('key') WHERE metric = 'api_calls'"), '5', 'as it did');
sql("UPDATE billing.usage_keys SET stamp = stamp - interval '2 years' WHERE key IN ('once')");
$node->safe_psql('postgres', "CALL billing.run_worker();\nCALL billing.run_worker();");
is(sql("SELECT count(*) FROM billing.usage_keys WHERE key = 'once'"), '0', 'in the end keys go as well');
is(sql("SELECT count(*) FROM billing.usage_keys WHERE key = 'young'"), '1', 'after their events only');

$reader->quit;
$reader_of_one->quit;
$node->stop;
done_testing();

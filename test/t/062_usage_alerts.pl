# Alerts while the worker is killed between the totals and what they are
# compared with: each threshold is said once, with one event, whatever crashes.
use strict;
use warnings;

use JanuaTest;
use Test::More;
use Time::HiRes ();

my $ORGANIZATIONS = 1500;
my $KILLS = 4;
my $seed = $ENV{USAGE_ALERTS_SEED} || int(rand(1_000_000));

note("USAGE_ALERTS_SEED=$seed");
srand($seed);

my $node = new_node('main', conf => "restart_after_crash = on\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

# NULL when the server is just recovering.
sub ask
{
	my ($status, $answer) = try_psql($node, $_[0]);

	return $status == 0 ? $answer : undef;
}

my $worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'janua_billing worker' AND datname = 'postgres'";
my $marks = 'SELECT count(*) FROM billing.usage_alert_marks';

# ---------------------------------------------------------------------------
# Usage of many organisations; one after the other gets its alerts.

sub use_all
{
	my ($quantity) = @_;

	sql("SELECT billing.record_usage_batch(array_agg('org_' || i), array_agg('api_calls'::text), array_agg(${quantity}::numeric)) FROM generate_series(1, $ORGANIZATIONS) AS i");
}

sql("SELECT billing.record_usage('first', 'users')");
use_all(8000);

my $between = 0;
for my $kill (1 .. $KILLS)
{
	ok(poll_until(sub { my $count = ask($marks); defined $count && $count > 0 }, 'there is something to look at'), "before kill $kill the worker has added up usage");
	Time::HiRes::sleep(rand(0.15));
	my $left = ask($marks);
	my $pid = ask($worker);

	$between += kill('KILL', $pid) if $pid && $left;
	ok(poll_until(sub { defined ask('SELECT 1') }, 'the server answers'), 'the server is there again');
	# what is in the totals is marked again by more of it
	use_all(0.001) if ask($marks) == 0;
}
cmp_ok($between, '>', 0, "the worker was killed $between times with something left to look at");

sql('CALL billing.run_worker()');
ok(poll_until(sub { (ask($marks) // '') eq '0' }, 'all is looked at'), 'in the end all is looked at');
is(sql('SELECT threshold, count(*), count(DISTINCT organization_id) FROM billing.usage_alerts GROUP BY 1 ORDER BY 1'),
	"50|$ORGANIZATIONS|$ORGANIZATIONS\n75|$ORGANIZATIONS|$ORGANIZATIONS", 'each organisation has each alert once');
is(sql("SELECT after_state, count(*), count(DISTINCT id) FROM billing.events WHERE type = 'usage.threshold_reached' GROUP BY 1 ORDER BY 1"),
	"50|$ORGANIZATIONS|$ORGANIZATIONS\n75|$ORGANIZATIONS|$ORGANIZATIONS", 'and its event once');
is(sql("SELECT count(*) FROM billing.usage_alerts AS a JOIN billing.usage_alerts AS b USING (organization_id, metric, period_start) WHERE a.threshold = 50 AND b.threshold = 75 AND a.id > b.id"),
	'0', 'the lower one before the higher one');

# ---------------------------------------------------------------------------
# The worker by itself, also where it cannot write for a while.

sql("SELECT billing.record_usage('alone', 'api_calls', 10000)");
ok(poll_until(sub { ask("SELECT count(*) FROM billing.usage_alerts WHERE organization_id = 'alone'") eq '4' }, 'alerts'), 'nobody has to ask for alerts');

my $held = "BEGIN; LOCK TABLE billing.usage_alerts IN EXCLUSIVE MODE; SELECT billing.record_usage('held', 'users', 3); COMMIT AND CHAIN; LOCK TABLE billing.usage_alerts IN EXCLUSIVE MODE; "
  . "SELECT pg_sleep(0.02) FROM generate_series(1, 150) WHERE (SELECT count(*) FROM billing.usage_alerts WHERE organization_id = 'held') = 0; COMMIT";
sql($held);
ok(poll_until(sub { ask("SELECT count(*) FROM billing.usage_alerts WHERE organization_id = 'held'") eq '4' }, 'alerts'), 'a lock on the table delays them, and loses none');

$node->stop;
done_testing();

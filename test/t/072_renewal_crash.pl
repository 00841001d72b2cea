# The worker is killed at random moments while 2,000 subscriptions are renewed:
# each has one invoice for the period, numbered and sent, and the ledger balances.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $KILLS = 4;
my $SUBSCRIPTIONS = 2000;
my $seed = $ENV{RENEWAL_CRASH_SEED} || int(rand(1_000_000));

note("RENEWAL_CRASH_SEED=$seed");
srand($seed);

my $node = new_node('main', conf => "restart_after_crash = on\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub worker { return worker_pid($node) }

sub left
{
	return eval { sql('SELECT count(*) FROM billing.subscriptions WHERE next_due_at <= now()') } // $SUBSCRIPTIONS;
}

sql("SELECT billing.configure_provider('sandbox')");
sql("SELECT billing.create_plan('team', 'Team', 2900, 'USD'), billing.create_price('team', 900, 'USD', component => 'seats')");
sql("SELECT count(billing.create_customer('org_' || n, 'org_' || n || '\@example.com', 'Org ' || n, currency => 'USD')) FROM generate_series(1, $SUBSCRIPTIONS) AS n");
sql(<<'SQL');
SELECT count(billing.subscribe('org_' || n, 'team', quantity => 3, managed_by => 'local', collection_method => 'send_invoice', days_until_due => 14))
FROM (SELECT substr(organization_id, 5) AS n FROM billing.customers) AS c
SQL
ok(poll_until(sub { worker() ne '' }, 'the worker'), 'the worker runs');
my $first = "status <> 'draft' AND billing_reason = 'subscription_create'";
wait_for($node, "SELECT count(*) FROM billing.invoices WHERE $first", $SUBSCRIPTIONS, 'each has its first invoice');

# their month is over
sql(<<'SQL');
UPDATE billing.subscriptions SET billing_anchor = date_trunc('second', now()), schedule_start = date_trunc('second', now()) - interval '1 month',
	current_period_start = date_trunc('second', now()) - interval '1 month', current_period_end = date_trunc('second', now()),
	next_due_at = date_trunc('second', now())
SQL

my $left = $SUBSCRIPTIONS;
my $interrupted = 0;

# before a batch is through, or in the middle of the one after it
for my $kill (1 .. $KILLS)
{
	my $pid = worker();

	poll_until(sub { left() < $left }, 'a batch') if $kill > 1;
	Time::HiRes::sleep(rand(0.2));
	kill('KILL', $pid);
	ok(poll_until(sub { my $new = worker(); $new ne '' && $new ne $pid }, 'another worker'), "kill $kill: another worker takes its place");
	$left = left();
	note("$left are left");
	last if $left == 0;
	$interrupted++ if $left < $SUBSCRIPTIONS;
}
cmp_ok($interrupted, '>', 0, 'in the middle of the run at least once');

wait_for($node, 'SELECT count(*) FROM billing.subscriptions WHERE next_due_at <= now()', '0', 'every subscription is renewed');
wait_for($node, "SELECT count(*) FROM billing.invoices WHERE status = 'draft'", '0', 'every invoice has its number');
is(sql("SELECT count(*), count(DISTINCT subscription_id), min(total), max(total) FROM billing.invoices WHERE billing_reason = 'subscription_cycle'"),
	join('|', $SUBSCRIPTIONS, $SUBSCRIPTIONS, 5600, 5600), 'one invoice of each for the new period');
is(sql(<<'SQL'), '0', 'it is the period that the subscription is in');
SELECT count(*) FROM billing.subscriptions AS s
WHERE NOT EXISTS (SELECT FROM billing.invoices AS i WHERE i.subscription_id = s.id AND i.billing_reason = 'subscription_cycle'
	AND i.period_start = s.current_period_start AND i.period_end = s.current_period_end)
SQL
is(sql('SELECT count(*), min(series_number), max(series_number) FROM billing.invoices'), join('|', 2 * $SUBSCRIPTIONS, 1, 2 * $SUBSCRIPTIONS), 'numbers have no gap');
is(sql("SELECT type, count(*), count(DISTINCT id) FROM billing.events WHERE type LIKE 'invoice.%' GROUP BY type ORDER BY type"),
	join("\n", map { join('|', $_, (2 * $SUBSCRIPTIONS) x 2) } qw(invoice.finalized invoice.sent)), 'each was told and sent once');
is(sql('SELECT count(*) FROM billing.dunning_attempts'), 2 * $SUBSCRIPTIONS, 'with one row about it');
is(sql('SELECT count(*) FROM billing.ledger_imbalance'), '0', 'the ledger agrees');

done_testing();

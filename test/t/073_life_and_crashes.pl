# A life of a subscription that our engine bills, played twice: once as it comes,
# and once with the server process that plays it killed (kill -9) again and again
# in the middle of its work, after which the whole server recovers. Both bill the
# same: the same invoices with the same lines, and the same money.
#
#   JANUA_SEED=N    repeats the life; when it is killed is left to chance
use strict;
use warnings;

use FindBin;
use IPC::Run ();
use JanuaLife;
use JanuaTest;
use Test::More;
use Time::HiRes ();

my $KILLS = 5;
my $seed = $ENV{JANUA_SEED} || 1 + int(rand(1_000_000));
my $node = new_node('main', conf => "timezone = 'UTC'\nrestart_after_crash = on\n", extension => 0);
my $killed = 0;

note("JANUA_SEED=$seed");

# What was billed and paid, in words that are the same whenever it is played.
my $BILLED = <<'SQL';
SELECT string_agg(concat_ws(' ', i.billing_reason, i.status, i.period_start, i.period_end, i.total, i.amount_due, i.amount_paid, i.amount_remaining,
							(SELECT string_agg(concat_ws(' ', l.kind, l.component, l.quantity, l.amount, l.discount, l.tax, l.period_start, l.period_end), ', ' ORDER BY l.position)
							 FROM billing.invoice_lines AS l WHERE l.invoice_id = i.id)), E'\n' ORDER BY i.id)
FROM billing.invoices AS i
SQL

sub alive { my ($database) = @_; return poll_until(sub { return $node->psql($database, 'SELECT 1') == 0 }, 'the server has recovered') }

# A clock goes to a time by a process that may be killed; what is left to do is done when it is told again.
sub play_until
{
	my ($database, $organization, $until, $may_kill) = @_;

	while ($may_kill && $killed < $KILLS && rand() < 0.7)
	{
		my ($out, $err) = ('', '');
		my $run = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr($database), '-c', 'SELECT pg_backend_pid()', '-c', "CALL billing.set_clock('$organization', '$until')" ],
			'<', \undef, '>', \$out, '2>', \$err);

		$run->pump until $out =~ /(\d+)\n/ || !$run->pumpable;
		my $pid = $1;
		# soon, until it was killed once: a short life may have no long step
		Time::HiRes::sleep(rand($killed > 0 ? 0.3 : 0.02));
		$killed += kill 'KILL', $pid if $pid && $run->pumpable;
		$run->finish;
		# a server that has not seen yet what became of its process still lets one in
		poll_until(sub { return !kill 0, $pid }, 'the process is gone') if $pid;
		alive($database);
		last if $err eq '';
	}
	$node->safe_psql($database, "CALL billing.set_clock('$organization', '$until')");
}

sub play
{
	my ($database, $may_kill) = @_;
	my $made = JanuaLife->new(seed => $seed, days => 300);
	my ($catalogue, @steps) = ($made->catalogue, $made->life(1));

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	create_extension($node, $database);
	$node->safe_psql($database, 'CREATE SCHEMA proof');
	$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database), '-f', "$FindBin::RealBin/../proof/$_.sql" ], "the proof is loaded: $_") for qw(foresight proof);
	$node->safe_psql($database, $catalogue);
	srand;
	for my $step (@steps)
	{
		if ($step =~ /^CALL billing\.(advance|set)_clock\('(\w+)', (.*)\);/s)
		{
			my $until = $1 eq 'set' ? $3 : "billing.now('$2') + interval $3";
			play_until($database, $2, $node->safe_psql($database, "SELECT $until"), $may_kill);
		}
		else
		{
			$node->psql($database, $step);
			# what comes next may ask what has become of it
			$node->safe_psql($database, 'CALL billing.run_worker()');
		}
	}
	$node->safe_psql($database, 'CALL billing.run_worker()');
	return $node->safe_psql($database, $BILLED);
}

my $undisturbed = play('undisturbed', 0);
my $disturbed = play('disturbed', 1);

note("killed $killed times; " . (() = $undisturbed =~ /^subscription/mg) . ' invoices');
cmp_ok($killed, '>', 0, 'it was killed in the middle of its work');
is($disturbed, $undisturbed, "and has billed the same (JANUA_SEED=$seed)");
is($node->safe_psql('disturbed', 'SELECT * FROM proof.violations()'), '', 'nothing is wrong with it');

$node->stop;
done_testing();

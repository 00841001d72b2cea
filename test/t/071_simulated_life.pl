# Five years in the life of random subscriptions that our engine bills, played
# by the test clock; afterwards an independent check (test/proof/proof.sql) finds
# nothing wrong with any of them, the ledger agrees with the documents, and what
# was previewed is what came (test/proof/foresight.sql).
#
#   JANUA_SEED=N    repeats a run; it is printed
#   JANUA_LIVES=N   so many lives, 6 without it (1000 is the full size)
#   JANUA_YEARS=N   5 without it
#   JANUA_ONLY=N    plays this one of them alone
use strict;
use warnings;

use FindBin;
use IPC::Run ();
use JanuaLife;
use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $SESSIONS = 2;
my $seed = $ENV{JANUA_SEED} || 1 + int(rand(1_000_000));
my $lives = $ENV{JANUA_LIVES} || 6;
my $only = $ENV{JANUA_ONLY};
my $days = 365 * ($ENV{JANUA_YEARS} || 5);
my $node = new_node('main', conf => "timezone = 'UTC'\n");

note("JANUA_SEED=$seed JANUA_LIVES=$lives");

my $made = JanuaLife->new(seed => $seed, days => $days);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql("CREATE SCHEMA proof");
for my $part (qw(foresight proof))
{
	$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', "$FindBin::RealBin/../proof/$part.sql" ], "the proof is loaded: $part");
}
sql($made->catalogue);
note('settings: ' . sql("SELECT string_agg(name || ' ' || value, ', ' ORDER BY name) FROM billing.settings WHERE name IN ('proration_unit', 'billing_alignment', 'dunning_end', 'usage_grace')"));

# ---- played ----

my (@scripts, @runs);
for my $life (1 .. $lives)
{
	my @script = $made->life($life);

	push @{ $scripts[ $life % $SESSIONS ] }, @script if !$only || $life == $only;
}
for my $session (0 .. $SESSIONS - 1)
{
	my $file = $node->basedir . "/life$session.sql";

	PostgreSQL::Test::Utils::append_to_file($file, join '', "\\set VERBOSITY verbose\n", @{ $scripts[$session] // [] });
	# into files: nobody reads of one session while another one is waited for
	$runs[$session] = { out => "$file.out", err => "$file.err" };
	$runs[$session]{run} = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-f', $file ], '<', \undef, '>', $runs[$session]{out}, '2>', $runs[$session]{err});
}
my (%done, %refused);
for my $played (@runs)
{
	ok($played->{run}->finish, 'a session played its lives to the end');
	my ($out, $err) = map { PostgreSQL::Test::Utils::slurp_file($played->{$_}) } qw(out err);
	$done{$1}++ while $out =~ /^([a-z_ -]+)\|/mg;
	# a step that the state does not allow is refused with a reason
	my @refused = $err =~ /ERROR:  (\w+): (.*)/g;
	my %unexpected;

	while (my ($code, $message) = splice @refused, 0, 2)
	{
		$refused{$code}++;
		$unexpected{"$code $message"}++ unless $code =~ /^(JB008|JB005|JB004|22023|23502|JB010)$/;
	}
	is(join("\n", sort keys %unexpected), '', 'whatever is refused is refused with a reason');
}
note("took effect: " . join ', ', map { ($done{$_} || 0) . "/$made->{tried}{$_} $_" } sort keys %{ $made->tried });
note("refused: " . join ', ', map { "$refused{$_} $_" } sort keys %refused);

# ---- and checked ----

sql('CALL billing.run_worker()');
cmp_ok(sql("SELECT count(*) FROM billing.invoices WHERE managed_by = 'local'"), '>', $only ? 1 : $lives, 'there is something to check');
note(sql("SELECT status, count(*) FROM billing.invoices GROUP BY status"));
note(sql("SELECT status, count(*) FROM billing.subscriptions GROUP BY status"));
note('given back when it was paid, and taken back when it was given up: ' . sql("SELECT count(*) FILTER (WHERE n.reason = 'unused_time'), (SELECT count(*) FROM billing.customer_balance_entries AS e WHERE e.reason = 'invoice_given_up') FROM billing.credit_notes AS n"));
sql('ANALYZE');
sql('CREATE TABLE proof.found AS SELECT * FROM proof.violations()');
# of each rule that is broken, one life in full
diag(sql(<<'SQL'));
SELECT v.rule || ': ' || v.detail || E'\n' || (SELECT string_agg(concat_ws(' ', i.number, i.status, i.billing_reason, l.kind, l.component, l.amount, l.quantity, l.period_start, l.period_end), E'\n' ORDER BY l.period_start, l.id)
						   FROM billing.invoice_lines AS l LEFT JOIN billing.invoices AS i ON i.id = l.invoice_id WHERE l.subscription_id = v.object_id AND l.kind NOT IN ('tax', 'discount'))
|| E'\n' || (SELECT string_agg(e.type, ', ' ORDER BY e.seq) FROM billing.events AS e WHERE e.id = v.object_id)
FROM (SELECT DISTINCT ON (w.rule) w.rule, w.object_id, w.detail FROM proof.found AS w ORDER BY w.rule, w.object_id) AS v
SQL
is(sql('SELECT rule, count(*), min(object_id::text), min(detail) FROM proof.found GROUP BY rule ORDER BY rule'), '', "nothing is wrong with any of them (JANUA_SEED=$seed)");
is(sql('SELECT * FROM billing.ledger_imbalance LIMIT 5'), '', 'ledger and documents agree');

note('compared: ' . sql("SELECT string_agg(times || ' ' || what, ', ' ORDER BY what) FROM proof.compared"));
is(sql("SELECT what, count(*), min(organization_id) FROM proof.differences GROUP BY what"), '', "what was previewed is what came (JANUA_SEED=$seed)");
diag(sql("SELECT DISTINCT ON (what) organization_id, what, at, E'\\n told ' || told::text, E'\\n came ' || came::text FROM proof.differences ORDER BY what, length(told::text || came::text)"));

$node->stop;
done_testing();

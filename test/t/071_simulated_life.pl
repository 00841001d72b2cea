# Five years in the life of random subscriptions that our engine bills, played
# by the test clock; afterwards an independent check (test/proof/proof.sql) finds
# nothing wrong with any of them, and the ledger agrees with the documents.
# proration_behavior none, which bills time twice when a period is begun anew, is not played.
#
#   JANUA_SEED=N    repeats a run; it is printed
#   JANUA_LIVES=N   so many subscriptions, 8 without it (1000 is the full size)
#   JANUA_YEARS=N   5 without it
use strict;
use warnings;

use FindBin;
use IPC::Run ();
use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $SESSIONS = 2;
my $seed = $ENV{JANUA_SEED} || 1 + int(rand(1_000_000));
my $lives = $ENV{JANUA_LIVES} || 8;
my $days = 365 * ($ENV{JANUA_YEARS} || 5);
my $node = new_node('main', conf => "timezone = 'UTC'\n");

note("JANUA_SEED=$seed JANUA_LIVES=$lives");
srand($seed);

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub one_of { return $_[ int(rand(@_)) ] }
sub chance { return rand() < $_[0] }

# ---- what is sold ----

sql(<<'SQL');
SELECT billing.create_plan(p, p, a, 'USD', i, n) FROM (VALUES
	('weekly', 900, 'week', 1), ('monthly', 2900, 'month', 1), ('team', 1999, 'month', 1), ('metered', 500, 'month', 1), ('half', 9999, 'month', 6),
	('quarterly', 7777, 'quarter', 1), ('yearly', 29000, 'year', 1), ('tendays', 333, 'day', 10)) AS v (p, a, i, n);
SELECT billing.create_price('team', 777, 'USD', component => 'seats');
SELECT billing.create_meter(m) FROM unnest(ARRAY['calls', 'pages']) AS m;
SELECT billing.create_price('metered', currency => 'USD', component => 'calls', metric => 'calls', model => 'graduated',
	tiers => '[{"up_to": 100, "unit_amount": 0}, {"up_to": 1000, "unit_amount": 1.5, "flat_amount": 200}, {"up_to": null, "unit_amount": 0.7}]');
SELECT billing.create_price('metered', currency => 'USD', component => 'pages', metric => 'pages', model => 'package', unit_amount => 99, package_size => 7);
SELECT billing.set_tax_rate('DE', 19, name => 'VAT'), billing.set_tax_rate('MX', 16, name => 'IVA'), billing.set_tax_rate('CA', 8.875, name => 'GST');
SELECT billing.create_coupon('tenth', percent => 10), billing.create_coupon('third', percent => 33.3333, duration => 'once'),
	billing.create_coupon('off', amount => 250, currency => 'USD', duration => 'repeating', months => 5);
SQL

my @plans = qw(weekly monthly team metered half quarterly yearly tendays);
my @zones = qw(UTC America/New_York America/Mexico_City Europe/Berlin Asia/Kolkata Pacific/Apia Australia/Lord_Howe America/Sao_Paulo Pacific/Chatham Africa/Casablanca);
my %cards = (good => 'pm_card_visa', bad => 'pm_card_chargeCustomerFail');

# ---- a life, as statements ----

# What may be refused in the state that it meets; anything else that goes wrong ends the test.
my $newest = "(SELECT s.id FROM billing.subscriptions AS s WHERE s.organization_id = '%s' ORDER BY s.id DESC LIMIT 1)";

sub action
{
	my ($org) = @_;
	my $s = sprintf $newest, $org;
	my $roll = rand();

	return "SELECT billing.update_subscription($s, plan => '" . one_of(@plans) . "', proration_behavior => '" . one_of(qw(create_prorations always_invoice)) . "'"
	  . (chance(0.3) ? ", effective => 'period_end'" : '') . ')' if $roll < 0.2;
	return "SELECT billing.update_subscription($s, quantity => " . (1 + int(rand(9))) . ", proration_behavior => '" . one_of(qw(create_prorations always_invoice)) . "')" if $roll < 0.35;
	return "SELECT billing.record_usage('$org', '" . one_of(qw(calls pages)) . "', " . int(rand(2000)) . ')' if $roll < 0.55;
	return "SELECT billing.apply_coupon('" . one_of(qw(tenth third off)) . "', organization_id => '$org')" if $roll < 0.6;
	return "SELECT billing.grant_credit('$org', " . (100 + int(rand(5000))) . ", 'USD')" if $roll < 0.64;
	return "SELECT billing.adjust_balance('$org', " . (int(rand(3000)) - 500 || 1) . ", 'by hand', 'USD')" if $roll < 0.67;
	return "SELECT billing.attach_payment_method(billing.find_customer('$org'), '" . $cards{ chance(0.6) ? 'good' : 'bad' } . "', set_default => true)" if $roll < 0.75;
	return "SELECT billing.pause_subscription($s)" if $roll < 0.78;
	return "SELECT billing.resume_subscription($s)" if $roll < 0.86;
	return "SELECT billing.cancel_subscription($s, at_period_end => " . (chance(0.7) ? 'true' : 'false, prorate => true') . ')' if $roll < 0.89;
	return "SELECT billing.create_refund((SELECT p.id FROM billing.payment_intents AS p WHERE p.organization_id = '$org' AND p.status = 'succeeded' ORDER BY p.id DESC LIMIT 1)"
	  . (chance(0.5) ? ', 100' : '') . ')' if $roll < 0.92;
	return "SELECT billing.create_credit_note((SELECT i.id FROM billing.invoices AS i WHERE i.organization_id = '$org' AND i.status IN ('open', 'paid') ORDER BY i.id DESC LIMIT 1), amount => " . (10 + int(rand(400))) . ')' if $roll < 0.95;
	return "SELECT billing.subscribe('$org', '" . one_of(@plans) . "', managed_by => 'local', currency => 'USD')";
}

sub life
{
	my ($n) = @_;
	my $org = "life$n";
	my @steps = (
		"SELECT billing.create_customer('$org', '$org\@example.com', 'Life', '" . one_of(qw(DE MX CA US)) . "', currency => 'USD', timezone => '" . one_of(@zones) . "', provider => 'sandbox')",
		"SELECT billing.attach_payment_method(billing.find_customer('$org'), '" . $cards{ chance(0.85) ? 'good' : 'bad' } . "', set_default => true)",
		'CALL billing.run_worker()',
		"CALL billing.set_clock('$org', now() + '" . int(rand(800 * 86400)) . " seconds')",
		"SELECT billing.subscribe('$org', '" . one_of(@plans) . "', managed_by => 'local', currency => 'USD', quantity => " . (1 + int(rand(5)))
		  . (chance(0.3) ? ', trial_days => ' . one_of(3, 7, 14, 30) : '') . (chance(0.2) ? ", coupon => '" . one_of(qw(tenth third off)) . "'" : '') . ')');
	my $day = 0;

	while ($day < $days)
	{
		my $by = 1 + int(rand(one_of(3, 20, 90, 150)));

		push @steps, "CALL billing.advance_clock('$org', '$by days " . int(rand(86400)) . " seconds')";
		push @steps, action($org) while chance(0.6);
		$day += $by;
	}
	return map { "$_;\n" } @steps, "CALL billing.advance_clock('$org', '2 hours')";
}

# ---- played ----

my (@scripts, @runs);
push @{ $scripts[ $_ % $SESSIONS ] }, life($_) for 1 .. $lives;
for my $session (0 .. $SESSIONS - 1)
{
	my $file = $node->basedir . "/life$session.sql";

	PostgreSQL::Test::Utils::append_to_file($file, join '', "\\set VERBOSITY verbose\n", @{ $scripts[$session] });
	$runs[$session] = { out => '', err => '' };
	$runs[$session]{run} = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-f', $file ], '<', \undef, '>', \$runs[$session]{out}, '2>', \$runs[$session]{err});
}
for my $played (@runs)
{
	ok($played->{run}->finish, 'a session played its lives to the end');
	# a step that the state does not allow is refused with a reason
	my @refused = $played->{err} =~ /ERROR:  (\w+): (.*)/g;
	my %unexpected;

	while (my ($code, $message) = splice @refused, 0, 2)
	{
		$unexpected{"$code $message"}++ unless $code =~ /^(JB008|JB005|JB004|22023|23502|JB010)$/;
	}
	is(join("\n", sort keys %unexpected), '', 'whatever is refused is refused with a reason');
}

# ---- and checked ----

sql('CALL billing.run_worker()');
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', "$FindBin::RealBin/../proof/proof.sql" ], 'the proof is loaded');
cmp_ok(sql("SELECT count(*) FROM billing.invoices WHERE managed_by = 'local'"), '>', $lives, 'there is something to check');
note(sql("SELECT status, count(*) FROM billing.invoices GROUP BY status"));
note(sql("SELECT status, count(*) FROM billing.subscriptions GROUP BY status"));
# of each rule that is broken, one life in full
diag(sql(<<'SQL'));
SELECT v.rule || ': ' || v.detail || E'\n' || (SELECT string_agg(concat_ws(' ', i.number, i.status, i.billing_reason, l.kind, l.component, l.amount, l.quantity, l.period_start, l.period_end), E'\n' ORDER BY l.period_start, l.id)
						   FROM billing.invoice_lines AS l LEFT JOIN billing.invoices AS i ON i.id = l.invoice_id WHERE l.subscription_id = v.object_id AND l.kind NOT IN ('tax', 'discount'))
|| E'\n' || (SELECT string_agg(e.type, ', ' ORDER BY e.seq) FROM billing.events AS e WHERE e.id = v.object_id)
FROM (SELECT DISTINCT ON (w.rule) w.rule, w.object_id, w.detail FROM proof.violations() AS w ORDER BY w.rule, w.object_id) AS v
SQL
is(sql('SELECT rule, count(*), min(object_id::text), min(detail) FROM proof.violations() GROUP BY rule ORDER BY rule'), '', "nothing is wrong with any of them (JANUA_SEED=$seed)");
is(sql('SELECT * FROM billing.ledger_imbalance LIMIT 5'), '', 'ledger and documents agree');

$node->stop;
done_testing();

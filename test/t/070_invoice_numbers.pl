# The worker is killed at random moments while it numbers 2,000 invoices: each
# gets its number, none is given twice, none is missing, and dates ascend.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $ROUNDS = 5;
my $INVOICES = 400;    # of a round
my $seed = $ENV{INVOICE_NUMBERS_SEED} || int(rand(1_000_000));

note("INVOICE_NUMBERS_SEED=$seed");
srand($seed);

my $node = new_node('main', conf => "restart_after_crash = on\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub worker { return worker_pid($node) }

sql("SELECT billing.configure_provider('sandbox')");
sql("SELECT billing.create_customer('org_' || n, 'org_' || n || '\@example.com', 'Org ' || n, currency => 'EUR') FROM generate_series(1, 20) AS n");
ok(poll_until(sub { worker() ne '' }, 'the worker'), 'the worker runs');

my $killed = 0;

for my $round (1 .. $ROUNDS)
{
	sql(<<"SQL");
SELECT count(billing.create_invoice(c.id, '[{"description": "Round $round", "amount": 100}]'))
FROM billing.customers AS c, generate_series(1, $INVOICES / 20)
SQL
	Time::HiRes::sleep(rand(0.1));
	my $pid = worker();
	$killed += kill('KILL', $pid) if $pid ne '';
	ok(poll_until(sub { my $new = worker(); $new ne '' && $new ne $pid }, 'another worker'), "round $round: another worker takes its place");
}
is($killed, $ROUNDS, 'it was killed each time');

wait_for($node, "SELECT count(*) FROM billing.invoices WHERE status = 'draft'", '0', 'every invoice gets its number');
is(sql('SELECT count(*), min(series_number), max(series_number), count(DISTINCT number) FROM billing.invoices'),
	join('|', $ROUNDS * $INVOICES, 1, $ROUNDS * $INVOICES, $ROUNDS * $INVOICES), 'no number is missing and none is there twice');
is(sql('SELECT next_number FROM billing.invoice_series'), $ROUNDS * $INVOICES + 1, 'the series goes on after the last');
is(sql(<<'SQL'), '0', 'dates ascend with numbers');
SELECT count(*) FROM (SELECT issued_at < lag(issued_at) OVER (ORDER BY series_number) AS back FROM billing.invoices) AS i WHERE back
SQL
is(sql("SELECT count(*), count(DISTINCT id) FROM billing.events WHERE type = 'invoice.finalized'"),
	join('|', ($ROUNDS * $INVOICES) x 2), 'each was told once');
is(sql('SELECT count(*) FROM billing.invoices WHERE buyer IS NULL OR seller IS NULL OR due_at IS NULL'), '0', 'and says who sells to whom');

done_testing();

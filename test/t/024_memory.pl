# The worker's memory stays flat, however many requests it has carried. The
# bench does the same over 100,000; here a leak of some bytes a request shows.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

use constant REQUESTS => 1000;
# Pages of the allocator come and go; a leak of 150 bytes a request is above it.
use constant ALLOWED_KB => 1200;

my $simulator = start_simulator('--log', 'off');
my $node = new_node('main');

configure_stripe($node, $simulator);
# until connections, plans and caches are what they will ever be
wave("warm$_", REQUESTS) for 1 .. 5;
my $before = rss_anon();
wave("wave$_", REQUESTS) for 1 .. 8;
my $after = rss_anon();

note(sprintf 'RssAnon after %d requests: %d kB, after %d more: %d kB', 5 * REQUESTS, $before, 8 * REQUESTS, $after);
cmp_ok($after - $before, '<', ALLOWED_KB, 'the private memory of the worker stays flat');
cmp_ok($after, '<', 64 * 1024, 'and under 64 MB');
is($simulator->control('violations')->{count}, 0, 'every request was as the provider wants it');

$node->stop;
$simulator->stop;
done_testing();

# One half at once, the other half one commit each, as an application does it.
sub wave
{
	my ($name, $count) = @_;
	my $half = $count / 2;

	$node->safe_psql('postgres', <<"SQL");
SELECT count(billing.create_customer('$name-' || i, email => '$name' || i || '\@example.com')) FROM generate_series(1, $half) AS i;
DO \$\$
BEGIN
	FOR i IN 1 .. $half LOOP
		PERFORM billing.update_customer(billing.find_customer('$name-' || i), jsonb_build_object('name', 'Name ' || i));
		COMMIT;
	END LOOP;
END \$\$;
SQL
	wait_for($node, 'SELECT count(*) FROM billing.outbox', '0', "$count requests are done");
}

# In kB.
sub rss_anon
{
	my $pid = $node->safe_psql('postgres', 'SELECT pid FROM billing.worker_status WHERE running');
	my ($size) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB$/m;

	return $size;
}

# Closed periods over prepared transactions, a crash, and the end of what
# retention keeps: what was billed of all periods is what was used in them.
use strict;
use warnings;

use JanuaTest;
use Test::More;

my $node = new_node('main', conf => "max_prepared_transactions = 5\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub closed
{
	my ($organization, $from, $until) = @_;

	return sql("SELECT metric, kind, to_char(period_start AT TIME ZONE 'UTC', 'MM-DD'), quantity FROM billing.close_usage_period('$organization', '$from+00', '$until+00')");
}

sql("UPDATE billing.settings SET value = '50 years' WHERE name = 'usage_retention'");

# ---------------------------------------------------------------------------
# Prepared usage is late, a prepared closing is waited for.

sql("SELECT billing.record_usage('acme', 'api_calls', 1, '2025-01-10 00:00+00')");
sql("BEGIN; SELECT billing.record_usage('acme', 'api_calls', 10, '2025-01-10 00:00+00'); PREPARE TRANSACTION 'usage'");
sql("BEGIN; SELECT billing.close_usage_period('acme', '2025-01-01 00:00+00', '2025-02-01 00:00+00'); PREPARE TRANSACTION 'closing'");
sql("SELECT billing.record_usage('acme', 'api_calls', 100, '2025-01-10 00:00+00')");
$node->stop('immediate');
$node->start;
my $impatient = "SET lock_timeout = '300ms'; SELECT billing.close_usage_period('acme', '2025-02-01 00:00+00', '2025-03-01 00:00+00')";
my (undef, undef, $error) = $node->psql('postgres', $impatient);
like($error, qr/lock timeout/, 'a prepared closing is waited for, also after a crash');
sql("COMMIT PREPARED 'closing'");
is(closed('acme', '2025-01-01 00:00', '2025-02-01 00:00'), 'api_calls|usage|01-01|1', 'then it has what it had');
is(closed('acme', '2025-02-01 00:00', '2025-03-01 00:00'), 'api_calls|correction|01-01|100', 'what came since is late');
sql("COMMIT PREPARED 'usage'");
is(closed('acme', '2025-03-01 00:00', '2025-04-01 00:00'), 'api_calls|correction|01-01|10', 'and so is what was prepared');

# ---------------------------------------------------------------------------
# Retention. Two periods that meet inside of a quarter of an hour, 10:00 to
# 10:15 on the 20th of May; the first one begins inside of one in April.

my @first = ('2020-04-20 10:07', '2020-05-20 10:07');
my @second = ('2020-05-20 10:07', '2020-06-20 10:07');
sub at { return "SELECT billing.record_usage('old', 'api_calls', $_[1], '$_[0]+00'), billing.record_usage('old', 'storage', $_[1], '$_[0]+00')" }
sub forget_before
{
	my ($day, $partition) = @_;

	sql("UPDATE billing.settings SET value = (now() - timestamptz '$day 00:00+00')::text WHERE name = 'usage_retention'");
	# what is not in the totals yet is kept
	return poll_until(sub { sql('CALL billing.run_worker()'); sql("SELECT to_regclass('billing.$partition') IS NULL") eq 't' }, "$partition is removed");
}

sql(at('2020-04-20 10:03', 1));
sql(at('2020-04-20 10:08', 2));
sql(at('2020-05-20 10:03', 4));
sql(at('2020-05-20 10:08', 8));
is(closed('old', @first), "api_calls|usage|04-20|6\nstorage|usage|04-20|4", 'a period begins and ends at a moment');
is(closed('old', @second), "api_calls|usage|05-20|8\nstorage|usage|05-20|8", 'and the next one there');
sql(at('2020-05-01 00:00', 16));
ok(forget_before('2020-05-10', 'usage_events_2020_04'), 'the events of April are removed');
($error) = ($node->psql('postgres', at('2020-04-20 10:09', 1)))[2];
like($error, qr/before the events that are kept/, 'and none is added');
sql(at('2020-05-20 10:04', 32));
sql(at('2020-05-20 10:09', 64));
is(closed('old', '2020-07-01 00:00', '2020-08-01 00:00'),
	"storage|usage|07-01|64\napi_calls|correction|04-20|48\nstorage|correction|04-20|28\napi_calls|correction|05-20|64\nstorage|correction|05-20|56",
	'a period whose first events are gone still takes what comes late');
sql(at('2020-05-20 10:05', 128));
sql(at('2020-05-20 10:10', 256));
sql(at('2020-05-19 00:00', 512));
ok(forget_before('2020-06-10', 'usage_events_2020_05'), 'the events of May are removed');
is(sql("SELECT sum(quantity) FROM billing.usage_late WHERE metric = 'api_calls'"), 128 + 256 + 512, 'what had come late is not lost with its events');
# a level: from 16 to 512 at 10:00, where the first period ends from now on
is(closed('old', '2020-08-01 00:00', '2020-09-01 00:00'),
	"storage|usage|08-01|256\napi_calls|correction|04-20|512\nstorage|correction|04-20|496\napi_calls|correction|05-20|384\nstorage|correction|05-20|192\nstorage|correction|07-01|192",
	'of the quarter in which both meet it counts with the later one');
is(sql('SELECT count(*) FROM billing.usage_late'), '0', 'then all is taken over');
sql(at('2020-06-20 10:00', 1024));
is(closed('old', '2020-09-01 00:00', '2020-10-01 00:00'), "storage|usage|09-01|1024\napi_calls|correction|05-20|1024\nstorage|correction|05-20|768\nstorage|correction|07-01|768\nstorage|correction|08-01|768",
	'later ones go on');
is(sql("SELECT sum(quantity) FROM billing.usage_closing_lines WHERE organization_id = 'old' AND metric = 'api_calls'"), 2047 - 1, 'all of it once');
my $total = "SELECT quantity FROM billing.usage_summary('old', '2020-04-20 10:00+00', '2020-07-01 00:00+00') WHERE metric = 'api_calls'";
is(sql($total), '2047', 'with what was used before the first period');
(undef, undef, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT billing.close_usage_period('older', '2020-04-01 00:07+00', '2020-05-01 00:00+00')");
like($error, qr/22023: usage of .* is known by quarters of an hour only/, 'a period that cannot be known exactly any more is not closed');

# ---------------------------------------------------------------------------
# A copy has what was billed.

my $dump = $node->basedir . '/closings.dump';
$node->command_ok([ 'pg_dump', '--format=custom', '--file', $dump, 'postgres' ], 'pg_dump');
sql('CREATE DATABASE there');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'there', $dump ], 'pg_restore');
for my $table (qw(usage_closings usage_closing_lines usage_closing_prices usage_thresholds usage_alerts))
{
	my $rows = "SELECT coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '') FROM billing.$table AS t";

	is($node->safe_psql('there', $rows), sql($rows), "$table is the same");
}

$node->stop;
done_testing();

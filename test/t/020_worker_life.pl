# The life of the background worker: when it starts, whom it gets out of the
# way of, and when it ends.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'time';

my $worker = q{FROM pg_stat_activity WHERE backend_type = 'janua_billing worker'};
my $simulator = start_simulator();

sub configure
{
	my ($node, $database) = @_;
	my $url = $simulator->url;

	$node->safe_psql($database || 'postgres',
		"SELECT billing.configure_provider('stripe', secret_key => 'sk_test_life', base_url => '$url')");
}

sub create_customers
{
	my ($node, $database, $count) = @_;

	$node->safe_psql($database, <<"SQL");
SELECT billing.create_customer(gen_random_uuid()::text, email => 'life\@example.com') FROM generate_series(1, $count)
SQL
}

sub worker_pid
{
	my ($node, $database) = @_;

	return $node->safe_psql('postgres', "SELECT pid $worker AND datname = '$database'");
}

# Requests that the simulator has and does not answer.
sub hanging
{
	return scalar grep { !$_->{status} } @{ $simulator->control('requests') };
}

sub hang_for_ever
{
	$simulator->control('faults', { match => {}, action => 'hang', times => 0 });
}

sub stop_hanging
{
	$simulator->control('faults', undef, 'DELETE');
	$simulator->control('requests', undef, 'DELETE');
}

sub wait_for_hanging
{
	my ($count, $name) = @_;

	JanuaTest::poll_until(sub { hanging() == $count }, "$count hanging requests");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(hanging(), $count, $name);
}

# Runs the statement and says how many seconds it took.
sub seconds
{
	my ($node, $sql) = @_;
	my $begin = time;

	$node->safe_psql('postgres', $sql);
	return time - $begin;
}

sub wait_for_log
{
	my ($node, $pattern, $offset, $name) = @_;
	my $found = JanuaTest::poll_until(sub { substr(slurp_file($node->logfile), $offset) =~ $pattern }, "$pattern");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($found, $name);
}

sub lines_of_log
{
	my ($node, $offset, $pattern) = @_;

	return scalar grep { $_ =~ $pattern } split /\n/, substr(slurp_file($node->logfile), $offset);
}

# ---------------------------------------------------------------------------
# Without shared_preload_libraries.

my $lazy = new_node('lazy', preload => 0);

is($lazy->safe_psql('postgres', "SELECT count(*) $worker"), '0', 'without preload CREATE EXTENSION starts no worker');
is($lazy->safe_psql('postgres', q{SELECT billing.has_feature('nobody', 'sso')}), 'f', 'a feature is asked for');
is($lazy->safe_psql('postgres', "SELECT count(*) $worker"), '0', 'a call that writes nothing starts no worker');

configure($lazy);
wait_for($lazy, "SELECT count(*) $worker", '1', 'the first call that writes starts the worker');

$lazy->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 10000) $worker");
my $script = $lazy->basedir . '/create.sql';
append_to_file($script, "SELECT billing.create_customer(gen_random_uuid()::text, email => 'many\@example.com');\n");
$lazy->command_ok(
	[ 'pgbench', '--no-vacuum', '--client=24', '--transactions=1', "--file=$script", 'postgres' ],
	'24 sessions call at once while there is no worker');
wait_for($lazy, q{SELECT count(*) FROM billing.outbox_finished WHERE state = 'done'}, '24', 'all that they asked for is done');
wait_for($lazy, "SELECT count(*) $worker", '1', 'one worker stays');
is($simulator->control('objects/customers?count=1')->{count}, 24, 'the provider has each customer once');

$lazy->stop;
$lazy->start;
is($lazy->safe_psql('postgres', "SELECT count(*) $worker"), '0', 'after a restart nothing runs yet');
is($lazy->safe_psql('postgres', 'SELECT running FROM billing.worker_status'), 'f', 'and worker_status says so');
create_customers($lazy, 'postgres', 1);
wait_for($lazy, 'SELECT running FROM billing.worker_status', 't', 'the next call that writes starts it again');

# Errors: the worker says what is wrong, does not spin, and goes on by itself.
my $offset = -s $lazy->logfile;
$lazy->safe_psql('postgres', 'ALTER TABLE billing.outbox RENAME COLUMN lookup TO hidden');
wait_for($lazy, q{SELECT last_error ~ '^42703: ' AND last_error !~ 'lookup' AND now() - last_error_at < '1 minute' FROM billing.worker_state}, 't',
	'worker_state tells the last error, without its message');
my $begin = time;
JanuaTest::poll_until(sub { lines_of_log($lazy, $offset, qr/ERROR: .*lookup/) >= 3 }, 'three errors');
cmp_ok(time - $begin, ">", 2.5, 'the pauses between errors become longer');
cmp_ok(lines_of_log($lazy, $offset, qr/ERROR/), "<", 6, 'the log stays small');
$lazy->safe_psql('postgres', 'ALTER TABLE billing.outbox RENAME COLUMN hidden TO lookup');
$lazy->reload;
create_customers($lazy, 'postgres', 1);
wait_for($lazy, 'SELECT count(*) FROM billing.outbox', '0', 'when the trouble is over the work goes on');
$lazy->stop;

# ---------------------------------------------------------------------------
# Where no worker can start, a session does its work.

my $full = new_node('full', preload => 0, conf => "max_worker_processes = 0\n");
configure($full);
create_customers($full, 'postgres', 3);
is($full->safe_psql('postgres', 'SELECT count(*) FROM billing.outbox'), '3', 'without a free slot the requests stay queued');

my ($status, $stdout, $stderr) = $full->psql('postgres', "BEGIN;\nCALL billing.run_worker();");
like($stderr, qr/ERROR:  billing\.run_worker\(\) cannot run inside a transaction block/, 'run_worker() refuses in a transaction block');
($status, $stdout, $stderr) = $full->psql('postgres', "\\set VERBOSITY sqlstate\nBEGIN;\nCALL billing.run_worker();");
like($stderr, qr/25001/, 'with SQLSTATE 25001');
($status, $stdout, $stderr) =
  $full->psql('postgres', 'DO $$ BEGIN CALL billing.run_worker(); END $$');
is($status, 0, 'it may be called from a DO block that is not in a transaction');
is($full->safe_psql('postgres', 'SELECT count(*) FROM billing.outbox'), '0', 'and has sent everything');

create_customers($full, 'postgres', 3);
$full->safe_psql('postgres', 'CALL billing.run_worker()');
is($full->safe_psql('postgres', q{SELECT count(*) FROM billing.outbox_finished WHERE state = 'done'}),
	'6', 'CALL billing.run_worker() does the work of the worker');
is(lines_of_log($full, 0, qr/PANIC|FATAL/), 0, 'a commit that gets no worker is harmless');

# A draft is due to be made final while another session holds its customer
$full->safe_psql('postgres', <<'SQL');
SELECT billing.configure_provider('sandbox'), billing.create_plan('metered', 'Metered', 2900, 'USD'), billing.create_meter('calls', 'sum');
SELECT billing.create_price('metered', currency => 'USD', component => 'calls', metric => 'calls', unit_amount => 2);
SELECT billing.create_customer('held', 'held@example.com', 'Held', currency => 'USD', provider => 'sandbox');
SELECT billing.subscribe('held', 'metered', managed_by => 'local', collection_method => 'send_invoice', days_until_due => 14) AS subscription \gset
CALL billing.run_worker();
SELECT billing.record_usage('held', 'calls', 100), billing.cancel_subscription(:'subscription', at_period_end => false);
UPDATE billing.invoices SET finalize_at = now() WHERE organization_id = 'held' AND status = 'draft';
SQL
my $holder = $full->background_psql('postgres');
$holder->query_safe(q{BEGIN; SELECT FROM billing.customers WHERE organization_id = 'held' FOR UPDATE});
my $runner = $full->background_psql('postgres');
$runner->query_until(qr/runs/, "\\echo runs\nCALL billing.run_worker();\n\\echo returned\n");
wait_for($full, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL billing.run_worker%' AND wait_event_type = 'Extension'}, '1',
	'run_worker() waits for a draft whose customer a session holds');
$holder->query_safe('COMMIT');
$runner->query_until(qr/returned/, '');
is($full->safe_psql('postgres', q{SELECT string_agg(status, ' ') FROM billing.invoices WHERE organization_id = 'held' AND number IS NOT NULL}), 'open open', 'and makes it final before it returns');
$holder->quit;
$runner->quit;
$full->stop;

# ---------------------------------------------------------------------------
# With shared_preload_libraries, few slots and many databases.

my $node = new_node('main', conf => "max_worker_processes = 5\nlog_min_messages = debug1\n");
$node->safe_psql('postgres', "CREATE DATABASE plain$_") for 1 .. 8;
for my $database (qw(one two))
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	create_extension($node, $database);
	configure($node, $database);
}
$offset = -s $node->logfile;
$node->restart;
wait_for($node, "SELECT string_agg(datname, ' ' ORDER BY datname) $worker", 'one postgres two',
	'after a start every database with the extension has its worker, and no other');
wait_for_log($node, qr/unregistering background worker "janua_billing launcher"/, $offset, 'the launcher leaves');
is(lines_of_log($node, $offset, qr/WARNING/), 0, 'databases without the extension take no slot away');

create_customers($node, $_, 2) for qw(one two);
for my $database (qw(one two))
{
	wait_for($node, 'SELECT count(*) FROM billing.outbox_finished', '2', "the requests of database $database are sent", $database);
}
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT datname) $worker"), '3|3', 'one worker for each database');

# ---------------------------------------------------------------------------
# SIGHUP.

hang_for_ever();
$simulator->control('requests', undef, 'DELETE');
$node->append_conf('postgresql.conf', "janua_billing.max_in_flight = 2\n");
$node->reload;
create_customers($node, 'one', 8);
wait_for_hanging(2, 'max_in_flight limits the calls on the wire');
$node->append_conf('postgresql.conf', "janua_billing.max_in_flight = 5\n");
$node->reload;
wait_for_hanging(5, 'a higher max_in_flight counts from the reload on');
$node->append_conf('postgresql.conf', "janua_billing.max_in_flight = 8\njanua_billing.http_timeout = '500ms'\n");
$node->reload;
wait_for($node, q{SELECT count(*) > 0 FROM billing.outbox WHERE error_type IS NOT NULL}, 't',
	'a lower http_timeout counts for the calls after the reload', 'one');
$node->append_conf('postgresql.conf', "janua_billing.http_timeout = '60s'\n");
$node->reload;
stop_hanging();
$node->safe_psql('one', 'SELECT pg_terminate_backend(' . worker_pid($node, 'one') . ', 10000)');
create_customers($node, 'one', 1);
wait_for($node, 'SELECT count(*) FROM billing.outbox', '0', 'all of them are sent in the end', 'one');
hang_for_ever();

# ---------------------------------------------------------------------------
# SIGTERM with calls hanging.

create_customers($node, 'two', 4);
JanuaTest::poll_until(
	sub { $node->safe_psql('two', q{SELECT count(*) FROM billing.outbox WHERE state = 'sending'}) eq '4' }, 'calls hang');
my $pid = worker_pid($node, 'two');
cmp_ok(seconds($node, "SELECT pg_terminate_backend($pid, 10000)"), '<', 2, 'SIGTERM ends the worker in under 2 s with calls hanging');
stop_hanging();
wait_for($node, 'SELECT count(*) FROM billing.outbox', '0', 'it comes back by itself and sends what was in flight', 'two');
isnt(worker_pid($node, 'two'), $pid, 'as another process');
is($node->safe_psql('two', 'SELECT max(attempts) FROM billing.outbox_finished'), '2', 'what was in flight counts as an attempt');

# ---------------------------------------------------------------------------
# DROP EXTENSION.

hang_for_ever();
create_customers($node, 'two', 4);
wait_for_hanging(4, 'calls of database two hang');
$pid = worker_pid($node, 'two');
$begin = time;
$node->safe_psql('two', 'SET client_min_messages = warning; DROP EXTENSION janua_billing CASCADE');
cmp_ok(time - $begin, '<', 2, 'DROP EXTENSION does not wait for calls that hang');
wait_for($node, "SELECT count(*) $worker AND datname = 'two'", '0', 'the worker leaves after DROP EXTENSION');
stop_hanging();

create_extension($node, 'two');
configure($node, 'two');
create_customers($node, 'two', 1);
wait_for($node, q{SELECT count(*) FROM billing.outbox_finished WHERE state = 'done'}, '1', 'a new extension has a new worker', 'two');

# Dropped and made again between two looks of the worker.
$pid = worker_pid($node, 'two');
$node->safe_psql('two', <<'SQL');
SET client_min_messages = warning;
BEGIN;
DROP EXTENSION janua_billing CASCADE;
CREATE EXTENSION janua_billing;
COMMIT;
SQL
configure($node, 'two');
create_customers($node, 'two', 1);
wait_for($node, q{SELECT count(*) FROM billing.outbox_finished WHERE state = 'done'}, '1',
	'an extension that was made anew in one transaction works', 'two');
wait_for($node, "SELECT count(*), bool_or(pid = $pid) $worker AND datname = 'two'", '1|f', 'with one worker, a new one');
is($node->safe_psql('two', 'SELECT running FROM billing.worker_status'), 't', 'that worker_status knows');

# ---------------------------------------------------------------------------
# DROP DATABASE and CREATE DATABASE ... TEMPLATE.

hang_for_ever();
create_customers($node, $_, 4) for qw(one two);
wait_for_hanging(8, 'calls of two databases hang');
cmp_ok(seconds($node, 'DROP DATABASE plain8'), '<', 2, 'DROP DATABASE of another database ends in under 2 s with calls hanging');
cmp_ok(seconds($node, 'CREATE DATABASE copied TEMPLATE two'), '<', 3, 'a database whose calls hang can be copied');
wait_for($node, "SELECT count(*) $worker AND datname = 'two'", '1', 'the worker of the original comes back');

my $oid = $node->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'one'});
$offset = -s $node->logfile;
cmp_ok(seconds($node, 'DROP DATABASE one'), '<', 2, 'DROP DATABASE of its own database ends in under 2 s with calls hanging');
stop_hanging();
$node->safe_psql('two', 'SELECT pg_terminate_backend(' . worker_pid($node, 'two') . ', 10000)');
create_customers($node, 'two', 1);
wait_for($node, 'SELECT count(*) FROM billing.outbox', '0', 'the other database goes on', 'two');

wait_for_log($node, qr/unregistering background worker "janua_billing worker for database $oid"/, $offset,
	'the worker of a database that is gone is given up');
is(lines_of_log($node, $offset, qr/FATAL:  database/), 0, 'without trying to connect to it');

my $requests = $simulator->control('totals')->{requests};
is($node->safe_psql('copied', q{SELECT count(*) > 0 FROM billing.outbox}), 't', 'the copy has the requests of the original');
$node->safe_psql('copied', 'CALL billing.run_worker()');
is($simulator->control('totals')->{requests}, $requests, 'and sends none of them');
$node->safe_psql('copied', 'SELECT billing.adopt_database()');
wait_for($node, 'SELECT count(*) FROM billing.outbox', '0', 'before it is adopted; then its own worker does', 'copied');

# A database that takes no connections any more.
$oid = $node->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'copied'});
$offset = -s $node->logfile;
$pid = worker_pid($node, 'copied');
$node->safe_psql('postgres', 'ALTER DATABASE copied ALLOW_CONNECTIONS false');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 10000)");
wait_for_log($node, qr/unregistering background worker "janua_billing worker for database $oid"/, $offset,
	'the worker of a database that takes no connections is given up');
is(lines_of_log($node, $offset, qr/FATAL:  database "copied" is not currently accepting/), 1, 'after one try');

is($simulator->control('violations')->{count}, 0, 'every request was as the provider wants it');
$node->stop;
$simulator->stop;
done_testing();

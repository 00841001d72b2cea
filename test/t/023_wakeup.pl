# From commit to the provider: who wakes the worker, and how soon; what the
# application hears in turn.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'time';

my $simulator = start_simulator();
my $node = new_node('main', conf => "max_prepared_transactions = 5\n");

configure_stripe($node, $simulator);
wait_for($node, 'SELECT running FROM billing.worker_status', 't', 'the worker runs');

sub created
{
	my ($organization) = @_;

	return $node->safe_psql('postgres', <<"SQL") . "\n";
SELECT billing.create_customer('$organization', email => '$organization\@example.com')
SQL
}

sub done_for
{
	my ($organization, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_for($node, <<"SQL", 't', $name);
SELECT EXISTS (SELECT FROM billing.provider_refs WHERE object_id = billing.find_customer('$organization'))
SQL
}

# ---------------------------------------------------------------------------
# How soon.  The session's clock, read just before it commits, and the
# simulator's are the same.

created('warm');
done_for('warm', 'a connection is open');
my $session = $node->background_psql('postgres');
my @latency;

for my $i (1 .. 25)
{
	$simulator->control('requests', undef, 'DELETE');
	my $called = $session->query_safe(<<"SQL");
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::numeric(20, 3)
FROM billing.create_customer('latency$i', email => 'latency$i\@example.com')
SQL
	my $request;

	JanuaTest::poll_until(sub { ($request) = @{ $simulator->control('requests?method=POST') } }, 'a request');
	push @latency, $request->{received_at} - $called;
	done_for("latency$i", "request $i is done");
}
@latency = sort { $a <=> $b } @latency;
note(sprintf 'commit to request: p50 %.1f ms, most %.1f ms', $latency[12], $latency[-1]);
cmp_ok($latency[12], '<', 200, 'a commit reaches the provider at once');

# ---------------------------------------------------------------------------
# What commits is sent, what does not is not.

$node->safe_psql('postgres', <<'SQL');
BEGIN;
SELECT billing.create_customer('kept', email => 'kept@example.com');
SAVEPOINT a;
SELECT billing.create_customer('undone', email => 'undone@example.com');
ROLLBACK TO a;
SAVEPOINT b;
SELECT billing.create_customer('released', email => 'released@example.com');
RELEASE b;
COMMIT;
BEGIN;
SELECT billing.create_customer('rolled_back', email => 'rolled_back@example.com');
ROLLBACK;
DO $$
BEGIN
	BEGIN
		PERFORM billing.create_customer('failed', email => 'failed@example.com');
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
	END;
	PERFORM billing.create_customer('after_failure', email => 'after_failure@example.com');
END $$;
SQL
done_for($_, "sent: $_") for qw(kept released after_failure);
my %emails = map { ($_->{email} // '') => 1 } @{ $simulator->control('objects/customers') };
ok(!$emails{"$_\@example.com"}, "not sent: $_") for qw(undone rolled_back failed);

$node->safe_psql('postgres', <<'SQL');
BEGIN;
SELECT billing.create_customer('prepared', email => 'prepared@example.com');
PREPARE TRANSACTION 'prepared';
SQL
is($node->safe_psql('postgres', q{SELECT count(*) FROM billing.outbox}), '0', 'a prepared transaction sends nothing');
$node->safe_psql('postgres', q{COMMIT PREPARED 'prepared'});
done_for('prepared', 'what it held is found after COMMIT PREPARED without a wake-up');

my $script = $node->basedir . '/parallel.sql';
append_to_file($script, <<'SQL');
SELECT billing.create_customer('parallel-' || :client_id || '-' || gen_random_uuid(), email => 'parallel@example.com');
SQL
$node->command_ok([ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '25', '-f', $script, 'postgres' ], 'eight sessions commit side by side');
wait_for($node, q{SELECT count(*) FROM billing.outbox}, '0', 'everything is sent');
is(scalar(grep { $_->{email} eq 'parallel@example.com' } @{ $simulator->control('objects/customers') }), 200, 'and each once');

# ---------------------------------------------------------------------------
# NOTIFY.

$session->query_safe('LISTEN billing_events');
my $id = $node->safe_psql('postgres', q{SELECT billing.create_customer('notified', email => 'notified@example.com')});
my $notified = '';
JanuaTest::poll_until(
	sub {
		# psql says what came when a command ends
		$notified .= $session->query_safe('SELECT 1');
		return $notified =~ /"id": "$id"/;
	},
	'a notification');
like($notified, qr/Asynchronous notification "billing_events" with payload "\{/, 'an event is announced');
my ($payload) = $notified =~ /with payload "(\{[^\n]*"id": "$id"[^\n]*\})" received/;
my $event = JSON::PP::decode_json($payload // '{}');
is(join(' ', sort keys %$event), 'id object organization_id seq type', 'with seq, type, object, id and organization_id');
is($event->{organization_id}, 'notified', 'of the right organization');
is($node->safe_psql('postgres', "SELECT type, object, id FROM billing.events WHERE seq = " . ($event->{seq} // 0)),
	"$event->{type}|$event->{object}|$event->{id}", 'it is the row of billing.events');

# ---------------------------------------------------------------------------
# await().

$id = $node->safe_psql('postgres', q{SELECT billing.create_customer('awaited', email => 'awaited@example.com')});
is($node->safe_psql('postgres', "SELECT billing.await('$id')"), 'active', 'await() waits for the request');
is($node->safe_psql('postgres', "SELECT count(*) FROM billing.outbox WHERE object_id = '$id'"), '0', 'until it is finished');

sub refused
{
	my ($sql, $state, $name) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like($stderr, qr/ERROR:  $state$/m, $name);
}

refused(<<"SQL", 'JB008', 'await() refuses in the transaction of the request');
BEGIN;
SELECT billing.update_customer('$id', '{"name": "Changed"}');
SELECT billing.await('$id');
SQL
refused(<<"SQL", '25001', 'and in REPEATABLE READ');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT billing.await('$id');
SQL
refused('SELECT billing.await(gen_random_uuid())', 'JB005', 'and for an object that it does not know');

$simulator->control('faults', { match => { method => 'POST' }, action => 'delay', ms => 1500 });
$node->safe_psql('postgres', qq(SELECT billing.update_customer('$id', '{"name": "Late"}')));
refused(<<"SQL", 'JB008', 'await() refuses at once, also behind an older request that is on its way');
SET statement_timeout = '1s';
BEGIN;
SELECT billing.update_customer('$id', '{"name": "Later"}');
SELECT billing.await('$id');
SQL
my $begin = time;
is($node->safe_psql('postgres', "SELECT billing.await('$id', '200 milliseconds')"), 'active', 'await() gives up in the end, and tells the state');
cmp_ok(time - $begin, '<', 1.4, 'after the time that it was given');
is($node->safe_psql('postgres', "SELECT billing.await('$id')"), 'active', 'a longer one sees the end');
is($node->safe_psql('postgres', "SELECT count(*) FROM billing.outbox WHERE object_id = '$id'"), '0', 'of the request');

# ---------------------------------------------------------------------------
# A trigger that somebody puts on our tables.

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE seen (how text, who text, super boolean, path text);
GRANT ALL ON seen TO PUBLIC;
CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.seen
	SELECT TG_NAME, current_user, rolsuper, current_setting('search_path') FROM pg_roles WHERE rolname = current_user;
	BEGIN
		SET LOCAL ROLE postgres;
		INSERT INTO public.seen VALUES ('escaped', current_user);
	EXCEPTION WHEN insufficient_privilege OR invalid_parameter_value OR active_sql_transaction THEN
	END;
	RETURN NULL;
END $$;
CREATE TRIGGER spy_at_once AFTER INSERT ON billing.provider_refs FOR EACH ROW EXECUTE FUNCTION spy();
CREATE CONSTRAINT TRIGGER spy_deferred AFTER INSERT ON billing.provider_refs DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION spy();
CREATE CONSTRAINT TRIGGER spy_customer AFTER INSERT OR UPDATE ON billing.outbox_finished DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION spy();
SQL
created('spied');
done_for('spied', 'the worker applies an answer');
is($node->safe_psql('postgres', 'SELECT DISTINCT how, who, super FROM seen ORDER BY how'),
	join("\n", map { "$_|janua_billing|f" } qw(spy_at_once spy_customer spy_deferred)),
	'a trigger on our tables, deferred or not, runs as janua_billing and cannot become more');

# One that refuses concerns its own request only.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE CONSTRAINT TRIGGER veto AFTER INSERT ON billing.provider_refs DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION veto();
SQL
created('vetoed');
wait_for($node, 'SELECT state, error_type, attempts FROM billing.outbox', 'dead|internal|1', 'a trigger that refuses ends the one request');
$node->safe_psql('postgres', 'DROP TRIGGER veto ON billing.provider_refs');
$node->safe_psql('postgres', 'SELECT billing.retry_request(id) FROM billing.outbox');
done_for('vetoed', 'and its answer can be applied later');
is(scalar(grep { $_->{email} eq 'vetoed@example.com' } @{ $simulator->control('objects/customers') }), 1, 'without sending it again');

is($simulator->control('violations')->{count}, 0, 'every request was as the provider wants it');
$session->quit;
$node->stop;
$simulator->stop;
done_testing();

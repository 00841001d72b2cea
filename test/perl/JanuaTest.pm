# What the TAP tests share: servers with the extension in them, the simulator
# that stands in for the providers, webhooks, and waiting for a state.
#
#   my $node = new_node('main');
#   my $simulator = start_simulator();
#   $node->safe_psql('postgres', "SELECT billing.configure_provider(..., base_url => '"
#       . $simulator->url . "')");
#   wait_for($node, 'SELECT state FROM billing.outbox', 'done', 'the request is done');
#
# tools/test sets PERL5LIB, PG_REGRESS, TESTDIR, JANUA_NODE and JANUA_SIMULATOR.
package JanuaTest;

use strict;
use warnings;

use Exporter 'import';
use Encode         ();
use File::Basename ();
use IPC::Run ();
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

our @EXPORT = qw(new_node create_extension start_simulator configure_stripe poll_until wait_for try_psql worker_pid webhook hand_over);

my $timeout = $PostgreSQL::Test::Utils::timeout_default || 180;

# A started server with the extension in database postgres, its library
# preloaded and its key file written. Options:
#   conf => text       more lines for postgresql.conf
#   init => [...]      arguments of PostgreSQL::Test::Cluster::init
#   preload => 0       do not preload the library
#   extension => 0     only a started server
#   start => 0         only an initialised one
sub new_node
{
	my ($name, %option) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	# Beside the data directory, where a backup of it does not go.
	my $keys = $node->basedir . '/keys';

	$node->init(@{ $option{init} || [] });
	mkdir $keys, 0700 or die "$keys: $!";
	$node->append_conf('postgresql.conf', "janua_billing.key_file = '$keys/janua_billing.key'\n");
	$node->append_conf('postgresql.conf', "max_worker_processes = 32\n");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'janua_billing'\n")
	  if $option{preload} // 1;
	$node->append_conf('postgresql.conf', $option{conf}) if defined $option{conf};
	return $node unless $option{start} // 1;

	$node->start;
	create_extension($node, 'postgres') if $option{extension} // 1;
	return $node;
}

# Creates the extension in a database, and the key file if the server has none.
sub create_extension
{
	my ($node, $database) = @_;
	my $key_file = $node->basedir . '/keys/janua_billing.key';

	$node->safe_psql($database, 'CREATE EXTENSION janua_billing');
	$node->safe_psql($database, "SELECT billing.create_key_file('$key_file')") unless -e $key_file;
}

# Calls CHECK until it returns true; says what it waited for when it never does.
sub poll_until
{
	my ($check, $what) = @_;
	my $end = Time::HiRes::time() + $timeout;

	until ($check->())
	{
		if (Time::HiRes::time() > $end)
		{
			diag("not so within $timeout s: $what");
			return 0;
		}
		Time::HiRes::sleep(0.05);
	}
	return 1;
}

# Status and output, of a server that may be on its way up again: a psql that it refuses
# can be gone before it has read the statement, and then its caller dies. Status 2: that.
sub try_psql
{
	my ($node, $statement) = @_;
	my @answer = eval { $node->psql('postgres', $statement) };

	return $@ ? (2, '') : @answer;
}

# The worker's process as the server sees it: what it wrote itself may be of one
# that is gone. '' where there is none, or the server is on its way up again.
sub worker_pid
{
	my ($node) = @_;

	return eval {
		$node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'janua_billing worker' AND datname = 'postgres'");
	} // '';
}

# One test: the query comes to return the expected text.
sub wait_for
{
	my ($node, $query, $expected, $name, $database) = @_;
	my $result = '';
	my $arrived = poll_until(
		sub {
			my ($status, $stderr);
			($status, $result, $stderr) = $node->psql($database || 'postgres', $query);
			$result = $stderr if $status != 0;
			return $result eq $expected;
		},
		$query);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return pass($name) if $arrived;
	return is($result, $expected, $name);
}

# Hands a webhook to the extension as an application would: the raw bytes and
# the headers. Returns what psql returns: status, output, errors.
sub webhook
{
	my ($node, $provider, $payload, $headers, %option) = @_;

	return $node->psql($option{database} || 'postgres', webhook_call($provider, $payload, $headers, $option{account}));
}

sub webhook_call
{
	my ($provider, $payload, $headers, $account) = @_;
	my $bytes = unpack('H*', $payload);
	my $json = unpack('H*', JSON::PP->new->utf8->canonical->encode($headers));

	$account = $account ? ", account => '$account'" : '';
	return <<"SQL";
SELECT * FROM billing.handle_webhook('$provider', decode('$bytes', 'hex'),
	convert_from(decode('$json', 'hex'), 'UTF8')::jsonb$account);
SQL
}

sub start_simulator { return JanuaTest::Simulator->start(@_) }

# Makes the simulator our account at Stripe. It is called as often as a test
# likes, and may fail one call after the other.
sub configure_stripe
{
	my ($node, $simulator, $database) = @_;
	my $url = $simulator->url;

	$node->safe_psql($database || 'postgres', <<"SQL");
SELECT billing.configure_provider('stripe', secret_key => 'sk_test_x',
	webhook_secret => 'whsec_simulator_test_secret', base_url => '$url', options => '{"rate_per_second": 0}');
UPDATE billing.settings SET value = '1000000' WHERE name = 'circuit_threshold';
SQL
}

# Hands the events that the simulator published since the last time to the
# extension. Options: type => '...', order => ..., times => ..., as in the
# simulator's README. Returns "type status" of each, and errors as they are.
sub hand_over
{
	my ($node, $simulator, %option) = @_;
	my $seen = $simulator->{handed_over} || 0;
	my $query = join '', map { "&$_=$option{$_}" } sort keys %option;
	my $events = $simulator->control("events?after=$seen$query");

	return unless @$events;
	my (undef, $output, $errors) = $node->psql('postgres',
		join('', map { webhook_call($_->{provider}, Encode::encode_utf8($_->{body}), $_->{headers}) } @$events),
		on_error_stop => 0);
	foreach my $event (@$events)
	{
		$seen = $event->{seq} if $event->{seq} > $seen;
	}
	$simulator->{handed_over} = $seen;
	# where an event and an answer of one second contradict each other, the object is asked for
	foreach (1 .. 50)
	{
		last if $node->safe_psql('postgres', "SELECT count(*) FROM billing.outbox WHERE operation LIKE '%.fetch' AND state IN ('queued', 'sending')") eq '0';
		Time::HiRes::usleep(100_000);
	}
	return (map({ (split /\|/)[1] . ' ' . (split /\|/)[2] } split /\n/, $output), $errors || ());
}

# ---------------------------------------------------------------------------
# One running simulator. It goes away with the object, and with the test: it
# exits when its standard input ends.
package JanuaTest::Simulator;

use HTTP::Tiny ();
use JSON::PP   ();

my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my $count = 0;

# start(ARGUMENT...): more arguments for main.js.
sub start
{
	my ($class, @arguments) = @_;
	my $main = ($ENV{JANUA_SIMULATOR} || die 'JANUA_SIMULATOR is not set') . '/main.js';
	my $log = sprintf '%s/%s_simulator%s.log', $PostgreSQL::Test::Utils::log_path,
	  File::Basename::basename($0, '.pl'), $count++ || '';
	my $self = bless { input => '', output => '' }, $class;

	$self->{process} = IPC::Run::start(
		[ $ENV{JANUA_NODE} || 'node', $main, '--port', 0, '--exit-with-stdin', @arguments ],
		'<', \$self->{input}, '>', \$self->{output}, '2>', $log,
		my $timer = IPC::Run::timeout($timeout));
	until (($self->{url}) = $self->{output} =~ m{listening on (https?://\S+)\n})
	{
		IPC::Run::pump($self->{process}) or die "the simulator ended; see $log";
	}
	$timer->reset;
	return $self;
}

sub url { return $_[0]{url} }

# control(PATH): GET /_control/PATH.  control(PATH, DATA): POST it as JSON.
# control(PATH, DATA, METHOD): another method. Returns the answer's JSON as data.
sub control
{
	my ($self, $path, $data, $method) = @_;
	my %content = defined $data
	  ? (headers => { 'content-type' => 'application/json' }, content => $json->encode($data))
	  : ();
	my $answer = HTTP::Tiny->new(timeout => 30)
	  ->request($method || (defined $data ? 'POST' : 'GET'), "$self->{url}/_control/$path", \%content);

	die "simulator, /_control/$path: $answer->{status} $answer->{content}" unless $answer->{success};
	return length($answer->{content} // '') ? $json->decode($answer->{content}) : undef;
}

sub stop
{
	my ($self) = @_;
	my $process = delete $self->{process} or return;

	eval { IPC::Run::kill_kill($process, grace => 2) };
}

sub DESTROY
{
	my ($self) = @_;

	local ($@, $?, $!);
	$self->stop;
}

1;

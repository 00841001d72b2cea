# Webhooks in any order: random histories of each provider end in the same rows,
# whatever the order in which their events arrive, how often, and on how many
# connections at once.
#
# One account hears a history in order: by the provider's time, the finality of
# the state, the id of the event. The others hear it shuffled, with duplicates,
# on four connections. Afterwards everything comes twice more, and is replayed
# twice.
#
#   JANUA_SEED=N     repeats a history; it is printed
#   JANUA_ROUNDS=N   more histories, with the seeds that follow
#   JANUA_PROVIDER=  of one provider only
#   JANUA_EXPLAIN=1  shows the events of each object that differs
use strict;
use warnings;

use IPC::Run ();
use JSON::PP ();
use JanuaHistory;
use JanuaTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $EVENTS = 200;
my $CONNECTIONS = 4;
my @ACCOUNTS = qw(inorder shuffled1 shuffled2);
my $seed = $ENV{JANUA_SEED} || 1 + int(rand(1_000_000));
my $rounds = $ENV{JANUA_ROUNDS} || 1;
my @providers = $ENV{JANUA_PROVIDER} || qw(stripe conekta polar);
my $json = JSON::PP->new->utf8->canonical;
my ($began, $ends) = map { POSIX::strftime('%Y-%m-%dT%H:%M:%S', gmtime $_) } time(), time() + 7200;
my $node = new_node('main', conf => "timezone = 'UTC'\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

# ---- rows that can be compared ----

# What an account's rows say, with the providers' ids in place of ours, and what
# is sealed opened. Left out: our ids, who the account is, and when we wrote.
sql(<<'SQL');
CREATE FUNCTION public.told_rows(of_provider text, of_account text) RETURNS TABLE (kind text, name text, content jsonb)
LANGUAGE plpgsql AS $$
DECLARE
	opened text;
	keys text[] := '{id,account,organization_id,customer_key,created_at,updated_at,listed_by}';
BEGIN
	CREATE TEMP TABLE names ON COMMIT DROP AS
		SELECT object_id AS id, object_type || ' ' || provider_id AS name FROM billing.provider_refs
		WHERE provider = of_provider AND account = of_account AND object_type NOT IN ('charge', 'subscription_item', 'price', 'product');
	INSERT INTO names
		SELECT o.id, o.kind || ' made by us for ' || replace(o.organization_id, of_account, '') FROM (
			SELECT id, organization_id, 'subscription' AS kind FROM billing.subscriptions WHERE account = of_account AND provider = of_provider
			UNION ALL SELECT id, organization_id, 'payment_intent' FROM billing.payment_intents WHERE account = of_account AND provider = of_provider
			UNION ALL SELECT id, organization_id, 'customer' FROM billing.customers WHERE account = of_account AND provider = of_provider
			UNION ALL SELECT id, organization_id, 'checkout_session' FROM billing.checkout_sessions WHERE account = of_account AND provider = of_provider) AS o
		WHERE o.id NOT IN (SELECT n.id FROM names AS n);
	FOREACH kind IN ARRAY '{customers,payment_methods,subscriptions,invoices,payment_intents,refunds,disputes,checkout_sessions,setup_intents}'::text[] LOOP
		SELECT string_agg(format(', %L, billing.decrypt(t.%I, %L, t.id)', a.attname, a.attname, kind || '.' || a.attname), '')
		INTO opened FROM pg_attribute AS a
		WHERE a.attrelid = ('billing.' || kind)::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'bytea'::regtype
			AND a.attname <> 'email_hash';
		RETURN QUERY EXECUTE format($q$
			SELECT %L, coalesce(n.name, 'without a name'), (SELECT jsonb_object_agg(e.key, coalesce(to_jsonb(m.name), e.value)) FROM
				jsonb_each((to_jsonb(t) - %L::text[]) %s || jsonb_build_object('who', 'any' %s)) AS e
				LEFT JOIN names AS m ON m.id::text = e.value #>> '{}')
			FROM billing.%I AS t LEFT JOIN names AS n USING (id) WHERE t.provider = $1 AND t.account = $2$q$,
			kind, keys || CASE WHEN kind = 'customers' THEN '{email_hash}'::text[] ELSE '{}' END,
			CASE WHEN kind IN ('payment_intents', 'refunds', 'disputes') THEN '|| jsonb_build_object(''created_at'', nullif(t.created_at, greatest(t.created_at, now() - interval ''1 day'')))' ELSE '' END,
			opened, kind) USING of_provider, of_account;
	END LOOP;
	RETURN QUERY SELECT 'refs', r.object_type || ' ' || r.provider_id, jsonb_build_object('of', n.name)
		FROM billing.provider_refs AS r LEFT JOIN names AS n ON n.id = r.object_id WHERE r.provider = of_provider AND r.account = of_account;
	DROP TABLE names;
END $$;
SQL

# {kind name => {column => value}}
sub rows_of
{
	my ($provider, $account) = @_;
	my %rows;

	foreach my $line (split /\n/, sql("SELECT jsonb_build_array(kind, name, content) FROM public.told_rows('$provider', '$account') ORDER BY 1"))
	{
		my ($kind, $name, $content) = @{ JSON::PP->new->decode($line) };
		# when we ourselves did something is another time in each account
		foreach my $value (grep { defined && !ref } values %$content)
		{
			$value = 'lately' if $value =~ /^\d{4}-\d\d-\d\dT/ && $value ge $began && $value lt $ends;
		}
		$rows{"$kind $name"} = $content;
	}
	return \%rows;
}

# Lines that say where two sets of rows differ.
sub differences
{
	my ($expected, $found) = @_;
	my %all = (%$expected, %$found);
	my @lines;
	my $text = sub { defined $_[0] ? JSON::PP->new->canonical->allow_nonref->encode($_[0]) : 'nothing' };

	foreach my $row (sort keys %all)
	{
		my ($left, $right) = ($expected->{$row}, $found->{$row});

		push @lines, "$row: there in order only" and next unless $right;
		push @lines, "$row: not there in order" and next unless $left;
		push @lines, map { "$row.$_: in order " . $text->($left->{$_}) . ', here ' . $text->($right->{$_}) }
		  grep { $text->($left->{$_}) ne $text->($right->{$_}) } sort keys %$left;
	}
	return @lines;
}

# ---- accounts ----

# Two prices that an account may sell at, and a third in no time.
sql(<<"SQL");
UPDATE billing.settings SET value = '1000000' WHERE name = 'circuit_threshold';
SELECT billing.create_plan('any_usd_' || n, 'Any ' || n, 1000 * n, 'USD') FROM generate_series(1, 3) AS n;
SELECT billing.create_plan('any_mxn_' || n, 'Any ' || n, 10000 * n, 'MXN') FROM generate_series(1, 3) AS n;
SQL

# An account nobody answers for, with what we made there ourselves; the requests
# that say so never go out. Returns our ids by name.
sub open_account
{
	my ($history, $provider, $account, $secret) = @_;
	my $key = { stripe => 'sk_test_1', conekta => 'key_1', polar => 'polar_oat_1' }->{$provider};
	my $plan = 'any_' . lc($history->currency) . '_';
	my $number = 0;
	my %ids;
	my $public = $history->can('public_secret') ? $history->public_secret($secret) : $secret;
	my $statements = join '', map { $number++; "SELECT billing.link_price((SELECT p.id FROM billing.prices AS p JOIN billing.plans AS l ON l.id = p.plan_id WHERE l.plan = '$plan$number'), '$provider', '$_', account => '$account');\n" } $history->prices;

	foreach my $pair ($history->setup_statements($account))
	{
		my ($name, $call) = @$pair;

		$call =~ s/\@(\w+)\@/SELECT id FROM made WHERE name = '$1'/g;
		$statements .= "INSERT INTO made SELECT '$name', $call;\n";
	}
	my $output = sql(<<"SQL");
SELECT billing.configure_provider('$provider', '$key', \$secret\$$public\$secret\$, base_url => 'http://127.0.0.1:9', account => '$account',
	options => '{"sandbox": true}');
BEGIN;
CREATE TEMP TABLE made (name text, id uuid) ON COMMIT DROP;
$statements
DELETE FROM billing.outbox WHERE account = '$account';
SELECT '=' || name || ' ' || id FROM made;
COMMIT;
SQL
	$ids{$1} = $2 while $output =~ /^=(\w+) (\S+)$/mg;
	return \%ids;
}

# ---- delivery ----

# Delivers lists of events, each by a connection of its own, at the same time.
sub deliver
{
	my ($history, $account, @lists) = @_;
	my @sessions;

	foreach my $list (@lists)
	{
		my $script = join '', map { statement($history, $account, $_) } @$list;
		my %session = (output => '', errors => '');

		$session{process} = IPC::Run::start([ 'psql', '-X', '-q', '-A', '-t', '-d', $node->connstr('postgres') ], '<', \$script, '>', \$session{output}, '2>', \$session{errors});
		push @sessions, \%session;
	}
	foreach my $session (@sessions)
	{
		$session->{process}->finish;
		BAIL_OUT("a webhook was refused: $session->{errors}") if $session->{errors} ne '';
	}
	return map { split /\n/, $_->{output} } @sessions;
}

sub statement
{
	my ($history, $account, $event) = @_;
	my ($body, $headers) = $history->signed($event, $account->{references}, $account->{secret});
	my ($bytes, $header_bytes) = map { unpack 'H*', $_ } $body, $json->encode($headers);

	return "SELECT status FROM billing.handle_webhook('$account->{provider}', decode('$bytes', 'hex'), "
	  . "convert_from(decode('$header_bytes', 'hex'), 'UTF8')::jsonb, '$account->{name}');\n";
}

# Shuffled, each once to three times, in as many parts as there are connections.
sub disorder
{
	my ($history, @events) = @_;
	my @deliveries = $history->shuffled(map { ($_) x $history->between(1, 3) } @events);
	my @parts;

	push @{ $parts[ $_ % $CONNECTIONS ] }, $deliveries[$_] foreach 0 .. $#deliveries;
	return @parts;
}

# What waits for an object, or met another webhook at the same row, is due at once.
sub settle
{
	my ($account) = @_;
	my $left = "FROM billing.webhook_events WHERE account = '$account->{name}' AND state IN ('received', 'waiting', 'failed')";

	for (my $tries = 0; $tries < 10 && sql("SELECT count(*) $left") ne '0'; $tries++)
	{
		sql("UPDATE billing.webhook_events SET next_attempt_at = now() WHERE account = '$account->{name}' AND state IN ('waiting', 'failed')");
		sql('CALL billing.run_worker()');
	}
	return sql("SELECT type, state, reason, waiting_for $left ORDER BY 1");
}

sub replay_all
{
	my ($account) = @_;

	sql("SELECT count(billing.replay_webhook(e.event_id, e.provider, e.account)) FROM (SELECT * FROM billing.webhook_events, generate_series(1, 2) "
		. "WHERE account = '$account->{name}' ORDER BY md5(event_id || generate_series)) AS e");
}

# ---- one history ----

sub complain
{
	my ($history, $account, @lines) = @_;
	my %seen;

	diag("$account->{name}: $_") foreach @lines;
	return unless $ENV{JANUA_EXPLAIN};
	foreach my $object (grep { !$seen{$_}++ } map { /^\w+ \w+ ([^.:]+)/ } @lines)
	{
		my %how = map { /^(\S+) (.*)/ } split /\n/, sql("SELECT event_id || ' arrived ' || rank() OVER (ORDER BY received_at, id) || ', ' || state || coalesce(': ' || reason, '') "
				. "|| ', tries ' || attempts FROM billing.webhook_events WHERE account = '$account->{name}'");

		diag("$object: known as of " . sql("SELECT as_of || ', stage ' || as_of_stage || ', ' || as_of_event FROM billing.provider_refs WHERE provider_id = '$object' AND account = '$account->{name}' ORDER BY 1"));
		diag("$object, in order:");
		diag("  $how{$_->{id}}: $_->{id} $_->{type} $_->{body}") foreach grep { index($_->{body}, $object) >= 0 } $history->events;
	}
}

sub check_history
{
	my ($provider, $seed) = @_;
	my $history = JanuaHistory->new($provider, $seed)->play($EVENTS);
	my @events = $history->events;
	my (@accounts, $expected);

	foreach my $number (0 .. $#ACCOUNTS)
	{
		my $name = "$ACCOUNTS[$number]$provider$seed";
		my $secret = $history->secret($number);

		push @accounts, { provider => $provider, name => $name, secret => $secret, references => open_account($history, $provider, $name, $secret) };
	}
	foreach my $account (@accounts)
	{
		my $what = "$account->{name} (seed $seed)";

		deliver($history, $account, $account == $accounts[0] ? [@events] : disorder($history, @events));
		is(settle($account), '', "$what: every event is applied in the end");
		my $rows = rows_of($provider, $account->{name});
		$expected ||= $rows;
		my @lines = differences($expected, $rows);
		ok(!@lines, "$what: the rows are those of the order") or complain($history, $account, @lines);

		my $told = sql('SELECT count(*) FROM billing.events');
		deliver($history, $account, disorder($history, @events)) foreach 1 .. 2;
		@lines = differences($rows, rows_of($provider, $account->{name}));
		ok(!@lines, "$what: everything twice more changes nothing") or complain($history, $account, @lines);
		replay_all($account);
		@lines = differences($rows, rows_of($provider, $account->{name}));
		ok(!@lines, "$what: everything replayed twice changes nothing") or complain($history, $account, @lines);
		is(sql('SELECT count(*) FROM billing.events'), $told, "$what: and tells nobody anything new");
	}
}

note("JANUA_SEED=$seed repeats this");
foreach my $round (0 .. $rounds - 1)
{
	check_history($_, $seed + $round) foreach @providers;
}
cmp_ok(sql('SELECT count(*) FROM billing.provider_fees'), '>', 0, 'fees were told');
is(sql("SELECT string_agg(b.what || ' ' || b.ledger || ' ' || b.documents, E'\\n') FROM billing.ledger_imbalance AS b"), '', 'ledger and documents agree');
done_testing();

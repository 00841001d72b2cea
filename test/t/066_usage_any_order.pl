# Usage in any order: the same events, voids and corrections end in the same
# totals and summaries, whatever the order in which they are recorded, in which
# way, by how many sessions, and whenever a rollup comes by.
#
# A random history is recorded for one organisation after another, each time in
# an order of its own: in waves, since a correction follows what it corrects; each
# wave by four sessions at once, which choose one of the ways in for some events at
# a time. Keys come again. Then the totals are compared among the organisations, and
# with what plain SQL makes of the raw events.
#
#   JANUA_SEED=N     repeats a history; it is printed
#   JANUA_ROUNDS=N   more histories, with the seeds that follow
use strict;
use warnings;

use IPC::Run ();
use JSON::PP ();
use JanuaTest;
use List::Util qw(shuffle);
use PostgreSQL::Test::Utils;
use Test::More;

my $EVENTS = 600;
my $ORDERS = 5;
my $WAVES = 5;
my $SESSIONS = 4;
my @METRICS = qw(a_sum a_count a_max a_latest a_seats a_total a_people a_level a_rent);
my $seed = $ENV{JANUA_SEED} || 1 + int(rand(1_000_000));
my $rounds = $ENV{JANUA_ROUNDS} || 1;
my $json = JSON::PP->new->canonical;
my $node = new_node('main', conf => "timezone = 'UTC'\nmax_prepared_transactions = 10\n");
my $scratch = PostgreSQL::Test::Utils::tempdir();

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(<<'SQL');
INSERT INTO billing.meters (metric, aggregation, carried, property, dimensions) VALUES
	('a_sum', 'sum', false, NULL, '{region,tier}'), ('a_count', 'count', false, NULL, '{region}'), ('a_max', 'max', false, NULL, '{region}'),
	('a_latest', 'latest', false, NULL, '{}'), ('a_seats', 'latest', true, NULL, '{region}'), ('a_total', 'sum', true, NULL, '{}'),
	('a_people', 'unique', false, 'person', '{region}'), ('a_level', 'weighted', false, NULL, '{}'), ('a_rent', 'weighted', true, NULL, '{}');
UPDATE billing.settings SET value = '50 years' WHERE name = 'usage_retention';

-- The events as they count now.
CREATE VIEW live AS
	SELECT u.organization_id, u.metric, u.occurred_at, u.properties, u.quantity + coalesce(c.quantity, 0) AS quantity, coalesce(c.is_void, false) AS is_void,
		   date_bin('15 min', u.occurred_at, '2000-01-01') AS bucket, m.aggregation, m.carried,
		   coalesce((SELECT jsonb_object_agg(d, u.properties -> d) FROM unnest(m.dimensions) AS d WHERE u.properties ? d), '{}') AS dimensions
	FROM billing.usage_events AS u JOIN billing.meters AS m USING (metric)
	LEFT JOIN LATERAL (SELECT sum(v.quantity) AS quantity, bool_or(v.kind = 'void') AS is_void FROM billing.usage_events AS v
					   WHERE v.organization_id = u.organization_id AND v.corrects = u.id AND v.occurred_at = u.occurred_at) AS c ON true
	WHERE u.kind = 'usage';

CREATE VIEW expected_totals AS
	SELECT organization_id, metric, bucket, dimensions, trim_scale(sum(quantity)) AS sum, count(*) FILTER (WHERE NOT is_void) AS events,
		   CASE WHEN has_levels THEN trim_scale(max(quantity)) END AS largest, CASE WHEN has_levels THEN min(occurred_at) END AS first_at,
		   CASE WHEN has_levels THEN max(occurred_at) END AS latest_at,
		   CASE WHEN has_levels THEN trim_scale((array_agg(quantity ORDER BY occurred_at DESC))[1]) END AS latest,
		   CASE WHEN aggregation = 'weighted' THEN trim_scale(sum(quantity * extract(epoch FROM next_at - occurred_at))) END AS area
	FROM (SELECT *, aggregation IN ('max', 'latest', 'weighted') AS has_levels,
				 lead(occurred_at) OVER (PARTITION BY organization_id, metric, bucket, is_void ORDER BY occurred_at) AS next_at FROM live) AS l
	WHERE NOT (has_levels AND is_void)
	GROUP BY organization_id, metric, bucket, dimensions, has_levels, aggregation;

CREATE VIEW had_totals AS
	SELECT organization_id, metric, bucket, t.dimensions, trim_scale(sum) AS sum, events, trim_scale(largest) AS largest, first_at, latest_at,
		   trim_scale(latest) AS latest, CASE WHEN aggregation = 'weighted' THEN trim_scale(area) END AS area
	FROM billing.usage_totals AS t JOIN billing.meters USING (metric);

CREATE VIEW expected_values AS
	SELECT organization_id, metric, bucket, dimensions, properties ->> 'person' AS value, count(*) FILTER (WHERE NOT is_void) AS events
	FROM live WHERE aggregation = 'unique' GROUP BY 1, 2, 3, 4, 5;

CREATE FUNCTION expected_quantity(organization text, of_metric text, start_at timestamptz, end_at timestamptz) RETURNS numeric
LANGUAGE sql AS $$
	WITH counted AS (
		SELECT * FROM live WHERE organization_id = organization AND metric = of_metric AND NOT is_void AND occurred_at < end_at AND (carried OR occurred_at >= start_at)
	),
	levels AS (
		SELECT quantity, greatest(occurred_at, start_at) AS from_at, lead(occurred_at, 1, end_at) OVER (ORDER BY occurred_at) AS until_at FROM counted
	)
	SELECT coalesce(CASE m.aggregation
		WHEN 'sum' THEN (SELECT sum(quantity) FROM counted)
		WHEN 'count' THEN (SELECT count(*) FROM counted)
		WHEN 'max' THEN (SELECT max(quantity) FROM counted)
		WHEN 'latest' THEN (SELECT quantity FROM counted ORDER BY occurred_at DESC LIMIT 1)
		WHEN 'unique' THEN (SELECT count(DISTINCT properties ->> 'person') FROM counted)
		ELSE (SELECT sum(quantity * extract(epoch FROM until_at - from_at)) FROM levels WHERE until_at > start_at) / extract(epoch FROM end_at - start_at) END, 0)
	FROM billing.meters AS m WHERE m.metric = of_metric
$$;
CREATE TABLE ranges (start_at timestamptz, end_at timestamptz);
SQL

# ---- a history: events, and what changes them afterwards ----

# Over four months, much of it at the borders of quarters of an hour; no two at
# the same moment, where the order would count.
sub make_history
{
	my @events;
	my $start = 1767225600;    # 2026-01-01

	for my $n (1 .. $EVENTS)
	{
		my $metric = $METRICS[ rand @METRICS ];
		my $second = rand() < 0.3 ? 900 * int(rand(4 * 24 * 119)) : int(rand(119 * 86400));
		my $region = (qw(eu us), undef)[ rand 3 ];

		# many in a few quarters of an hour
		$second = 30 * 86400 + int(rand(3600)) if rand() < 0.4;
		push @events,
		  {
			name => "e$n",
			metric => $metric,
			quantity => 1 + int(rand(50)) + (rand() < 0.3 ? 0.25 : 0),
			at => sprintf('%s.%06d+00', time_text($start + $second), $n),
			properties => { person => 'p' . int(rand(12)), tier => int(rand(3)), defined $region ? (region => $region) : () },
			key => rand() < 0.6 ? "key $n" : undef,
			changes => [ map { rand() < 0.4 ? 'void' : 1 + int(rand(90)) } 1 .. (rand() < 0.25 ? 1 + int(rand(3)) : 0) ],
		  };
		# nothing follows a void
		my $changes = $events[-1]{changes};
		for my $i (0 .. $#$changes) { splice(@$changes, $i + 1) if $i < @$changes && $changes->[$i] eq 'void' }
	}
	return @events;
}

sub time_text
{
	my @at = gmtime $_[0];

	return sprintf('%04d-%02d-%02d %02d:%02d:%02d', $at[5] + 1900, $at[4] + 1, @at[ 3, 2, 1, 0 ]);
}

# ---- ways to record some events: text of a script ----

sub quoted { return defined $_[0] ? "'" . $_[0] =~ s/'/''/gr . "'" : 'NULL' }

sub as_calls
{
	my ($organization, @events) = @_;

	return join '', map { sprintf "SELECT billing.record_usage('%s', '%s', %s, '%s', %s, '%s');\n", $organization, @$_{qw(metric quantity at)}, quoted($_->{key}), $json->encode($_->{properties}) } @events;
}

sub as_arrays
{
	my ($organization, @events) = @_;
	my $array = sub { my ($type, $of) = @_; return 'ARRAY[' . join(', ', map { quoted($of->($_)) } @events) . "]::$type\[]" };

	return 'SELECT billing.record_usage_batch(' . join(', ', $array->('text', sub { $organization }), $array->('text', sub { $_[0]{metric} }),
		$array->('numeric', sub { $_[0]{quantity} }), $array->('timestamptz', sub { $_[0]{at} }), $array->('text', sub { $_[0]{key} }),
		$array->('jsonb', sub { $json->encode($_[0]{properties}) })) . ");\n";
}

sub as_jsonb
{
	my ($organization, @events) = @_;
	my @rows = map { { organization_id => $organization, metric => $_->{metric}, quantity => 0 + $_->{quantity}, occurred_at => $_->{at}, idempotency_key => $_->{key}, properties => $_->{properties} } } @events;

	return 'SELECT billing.record_usage_batch(' . quoted($json->encode(\@rows)) . "::jsonb);\n";
}

sub as_copy
{
	my ($organization, @events) = @_;
	my $lines = join '', map { join("\t", $organization, @$_{qw(metric quantity at)}, $_->{key} // '\N', $json->encode($_->{properties})) . "\n" } @events;

	return "COPY billing.usage_import FROM STDIN;\n$lines\\.\n";
}

# Alone, in a transaction, after a savepoint that was rolled back, or prepared.
sub some_events
{
	my ($organization, @events) = @_;
	my $way = (\&as_calls, \&as_arrays, \&as_jsonb, \&as_copy)[ rand 4 ];
	my $script = $way->($organization, @events);
	my $chance = rand();

	return "BEGIN;\nSAVEPOINT s;\n" . as_calls($organization, @events) . "ROLLBACK TO s;\n${script}COMMIT;\n" if $chance < 0.15;
	return "BEGIN;\n$script" . "SELECT pg_sleep(0.05);\nCOMMIT;\n" if $chance < 0.3;
	return "BEGIN;\n$script" . "ROLLBACK;\n$script" if $chance < 0.4;
	my $name = "p" . int(rand(1_000_000_000));
	return "BEGIN;\n${script}PREPARE TRANSACTION '$name';\nSELECT pg_sleep(0.1);\nCOMMIT PREPARED '$name';\n" if $chance < 0.5;
	return $script;
}

# The event is found by what no other has: its time.
sub some_change
{
	my ($organization, $event, $change) = @_;
	my $id = "(SELECT id FROM billing.usage_events WHERE organization_id = '$organization' AND occurred_at = '$event->{at}' AND kind = 'usage')";

	return $change eq 'void' ? "SELECT billing.void_usage('$organization', $id);\n" : "SELECT billing.correct_usage('$organization', $id, $change);\n";
}

# ---- an order: who does what in which wave ----

sub scripts_of_order
{
	my ($organization, @history) = @_;
	my @waves = map { [] } 1 .. $WAVES;

	for my $event (@history)
	{
		my $first = int(rand($WAVES - @{ $event->{changes} }));
		my @later = (sort { $a <=> $b } (shuffle($first + 1 .. $WAVES - 1))[ 0 .. $#{ $event->{changes} } ]);

		push @{ $waves[$first] }, { event => $event };
		push @{ $waves[ $later[$_] ] }, { event => $event, change => $event->{changes}[$_] } foreach 0 .. $#{ $event->{changes} };
		# a key again, then or later, by itself: holding other keys, too, it could be part of a deadlock
		push @{ $waves[ $first + int(rand($WAVES - $first)) ] }, { event => $event, again => 1 } if defined $event->{key} && rand() < 0.3;
	}
	return map { scripts_of_wave($organization, shuffle(@$_)) } @waves;
}

sub scripts_of_wave
{
	my ($organization, @todo) = @_;
	my @scripts = map { '' } 1 .. $SESSIONS;

	for my $n (0 .. $#scripts)
	{
		my @mine = @todo[ grep { $_ % $SESSIONS == $n } 0 .. $#todo ];

		while (@mine)
		{
			my @some = splice(@mine, 0, 1 + int(rand(25)));
			my @events = map { $_->{event} } grep { !defined $_->{change} && !$_->{again} } @some;

			$scripts[$n] .= some_events($organization, @events) if @events;
			$scripts[$n] .= as_calls($organization, map { $_->{event} } grep { $_->{again} } @some);
			$scripts[$n] .= some_change($organization, @$_{qw(event change)}) foreach grep { defined $_->{change} } @some;
			$scripts[$n] .= "CALL billing.run_worker();\n" if rand() < 0.1;
		}
	}
	return \@scripts;
}

# What the sessions were refused.
sub run_together
{
	my (@scripts) = @_;
	my @runs;

	for my $n (0 .. $#scripts)
	{
		my %run = (in => $scripts[$n], out => '', err => '');

		$run{handle} = IPC::Run::start([ 'psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', '-' ],
			'<', \$run{in}, '>', \$run{out}, '2>', \$run{err});
		push @runs, \%run;
	}
	my $failed = '';
	for my $run (@runs)
	{
		$run->{handle}->finish;
		$failed .= $run->{err} if $run->{err} =~ /ERROR/;
	}
	return $failed;
}

# ---- comparing ----

sub without_organization
{
	my ($view, $organization) = @_;

	return sql("SELECT jsonb_agg(to_jsonb(t) - 'organization_id' ORDER BY metric, bucket, dimensions::text, to_jsonb(t)::text) FROM $view AS t WHERE organization_id = '$organization' AND metric LIKE 'a\\_%'");
}

sub differing
{
	my ($had, $expected, $organization) = @_;
	my $mine = "WHERE organization_id = '$organization' AND metric LIKE 'a\\_%'";

	return sql("(SELECT 'had', h FROM (SELECT * FROM $had $mine EXCEPT SELECT * FROM $expected $mine) AS h LIMIT 5) UNION ALL "
		. "(SELECT 'wanted', h FROM (SELECT * FROM $expected $mine EXCEPT SELECT * FROM $had $mine) AS h LIMIT 5)");
}

# On one snapshot, averages to nine decimals.
sub wrong_summaries
{
	my ($organization) = @_;

	return sql("SELECT string_agg(format('%s [%s, %s): %s instead of %s', s.metric, r.start_at, r.end_at, s.quantity, e.quantity), E'\\n') FROM ranges AS r "
		. "CROSS JOIN LATERAL billing.usage_summary('$organization', r.start_at, r.end_at) AS s "
		. "CROSS JOIN LATERAL expected_quantity('$organization', s.metric, r.start_at, r.end_at) AS e (quantity) "
		. "WHERE s.metric LIKE 'a\\_%' AND round(s.quantity, 9) <> round(e.quantity, 9)");
}

sub prove_round
{
	my ($round_seed) = @_;

	note("JANUA_SEED=$round_seed");
	srand($round_seed);
	sql("TRUNCATE ranges; SELECT setseed(" . ($round_seed % 1000) / 1000 . "); INSERT INTO ranges VALUES ('2026-01-01', '2026-05-01'), ('2026-01-31', '2026-02-01'), ('2026-01-31 00:10', '2026-01-31 00:50'); "
		. "INSERT INTO ranges SELECT least(a, b), greatest(a, b) + interval '1 us' FROM (SELECT '2026-01-31'::timestamptz + random() * interval '1 hour' AS a, '2026-01-31'::timestamptz + random() * interval '1 hour' AS b FROM generate_series(1, 5)) AS r; "
		. "INSERT INTO ranges SELECT least(a, b), greatest(a, b) + interval '1 us' FROM (SELECT '2026-01-01'::timestamptz + random() * interval '119 days' AS a, '2026-01-01'::timestamptz + random() * interval '119 days' AS b FROM generate_series(1, 5)) AS r");
	my @history = make_history();
	my ($first_totals, $first_values);

	for my $order (1 .. $ORDERS)
	{
		my $organization = "r${round_seed}_$order";
		my $failed = '';
		my $wrong = '';

		for my $scripts (scripts_of_order($organization, @history))
		{
			$failed .= run_together(@$scripts);
			$wrong .= wrong_summaries($organization);
		}
		is($failed, '', "order $order: everything is recorded");
		is($wrong, '', "order $order: after each wave the summaries are what the events come to");
		is(sql("SELECT count(*) FROM billing.usage_events WHERE organization_id = '$organization' AND kind = 'usage'"), scalar(@history), "order $order: each event once");
		sql('CALL billing.run_worker()');
		is(differing('had_totals', 'expected_totals', $organization), '', "order $order: the totals are what the events come to");
		is(wrong_summaries($organization), '', "order $order: and the summaries over them");
		my $totals = without_organization('had_totals', $organization);
		my $values = without_organization('billing.usage_values', $organization);
		is($values, without_organization('expected_values', $organization), "order $order: the values are those of the events");
		($first_totals, $first_values) = ($totals, $values) if $order == 1;
		ok($totals eq $first_totals && $values eq $first_values, "order $order: the same as in the first one");
	}
	return;
}

sql("SELECT billing.record_usage('first', 'users')");
prove_round($seed + $_) foreach 0 .. $rounds - 1;
$node->stop;
done_testing();

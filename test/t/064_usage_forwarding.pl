# Usage that a provider bills: a hundred thousand events become few calls, what
# the provider has is what we have, and neither a lost answer nor a worker that
# is killed changes that. Corrections, late events, cut hours, hours that are
# too old, and what the provider refuses.
use strict;
use warnings;

use JanuaTest;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $EVENTS = 100_000;
my $ORGANIZATIONS = 4;
my $HOURS = 30;

my $simulator = start_simulator();
my $node = new_node('main', conf => "restart_after_crash = on\n");
my $url = $simulator->url;

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub settled
{
	my ($what) = @_;

	wait_for($node, "SELECT s.seen_until > (SELECT max(recorded_in) FROM billing.usage_events) AND s.open = '{}' FROM billing.usage_rollup_state AS s", 't', "$what: all is in the totals");
	wait_for($node, "SELECT count(*) FROM billing.usage_forward_marks WHERE hour < now() - interval '2 hours'", '0', "$what: no mark is left");
	wait_for($node, "SELECT count(*) FROM billing.outbox WHERE state <> 'dead'", '0', "$what: no request is left");
}

# What the provider has of a metric, by the customer's id there.
sub at_stripe
{
	my %values;

	$values{ $_->{customer} } += $_->{value} foreach @{ $simulator->control('objects/meter_values') };
	return %values;
}

sub at_polar
{
	my %values;

	$values{ $_->{customer_id} } += $_->{metadata}{value} foreach @{ $simulator->control('objects/events?provider=polar') };
	return %values;
}

# The same of what is counted here.
sub ours
{
	my ($provider) = @_;

	return map { my ($id, $sum) = split /\|/; ($id => 0 + $sum) } split /\n/, sql(<<"SQL");
SELECT r.provider_id, trim_scale(sum(u.quantity)) FROM billing.usage_events AS u
JOIN billing.customers AS c USING (organization_id)
JOIN billing.provider_refs AS r ON r.object_id = c.id AND r.object_type = 'customer' AND r.provider = '$provider'
WHERE u.metric = 'api_calls' AND u.occurred_at >= now() - interval '34 days' AND u.occurred_at < date_trunc('hour', now()) - interval '1 hour'
GROUP BY 1
SQL
}

sub calls { return scalar @{ $simulator->control("requests?provider=$_[0]&path=$_[1]&method=POST&limit=100000") } }

sql(<<"SQL");
SELECT billing.configure_provider('stripe', 'sk_test_x', 'whsec_simulator_test_secret', base_url => '$url', options => '{"rate_per_second": 0}');
SELECT billing.configure_provider('polar', 'polar_oat_test', 'polar_whs_SimulatorTestSecret0123456789abcdef', base_url => '$url/polar',
	options => '{"sandbox": true, "rate_per_second": 0}');
UPDATE billing.settings SET value = '1000000' WHERE name = 'circuit_threshold';
UPDATE billing.settings SET value = '0' WHERE name = 'usage_forward_delay';
UPDATE billing.settings SET value = '0.2' WHERE name IN ('retry_base');
SQL

# ---- meters ----

my $stripe_meter = sql("SELECT billing.forward_usage('api_calls', 'stripe', since => now() - interval '34 days')");
my $polar_meter = sql("SELECT billing.forward_usage('api_calls', 'polar', event_name => 'calls', since => now() - interval '34 days')");
is(sql("SELECT billing.await('$stripe_meter')"), 'active', 'Stripe has a meter');
is(sql("SELECT billing.await('$polar_meter')"), 'active', 'Polar has a meter');
my ($meter) = @{ $simulator->control('objects/meters') };
is_deeply([ @$meter{qw(event_name event_time_window status)}, $meter->{default_aggregation}{formula} ], [qw(api_calls hour active sum)], 'it adds hours up');
is(sql("SELECT provider_id FROM billing.provider_refs WHERE object_id = '$stripe_meter'"), $meter->{id}, 'and its id is known');
is(sql("SELECT billing.forward_usage('api_calls', 'stripe')"), $stripe_meter, 'the same call again is the same meter');
$simulator->control('faults', { match => { path => '^/v1/billing/meters$', method => 'POST' }, action => 'drop_after' });
my $level = sql("SELECT billing.forward_usage('storage', 'stripe', since => now() - interval '3 days')");
is(sql("SELECT billing.await('$level')"), 'active', 'a meter whose answer was lost');
is(scalar @{ $simulator->control('objects/meters?event_name=storage') }, 1, 'is made once');

# One that is there already is looked at before it is used.
my $raw = $simulator->control('call', { method => 'POST', path => '/v1/billing/meters',
		params => { display_name => 'x', event_name => 'users', default_aggregation => { formula => 'last' } } })->{body};
my $linked = sql("SELECT billing.forward_usage('users', 'stripe', link => '$raw->{id}')");
is(sql("SELECT billing.await('$linked')"), 'failed', 'a meter that counts each event cannot be corrected by totals');
is(sql("SELECT error_code FROM billing.usage_forwarding WHERE id = '$linked'"), 'meter_is_not_hourly', 'and says so');
my $made = $simulator->control('call', { method => 'POST', path => '/v1/billing/meters',
		params => { display_name => 'x', event_name => 'teams', default_aggregation => { formula => 'last' }, event_time_window => 'hour' } })->{body};
$linked = sql("SELECT billing.forward_usage('teams', 'stripe', link => '$made->{id}')");
is(sql("SELECT billing.await('$linked')"), 'active', 'one that is as ours are is used');

# ---- customers and subscriptions ----

foreach my $provider ('stripe', 'polar')
{
	foreach my $n (1 .. $ORGANIZATIONS)
	{
		my $customer = sql("SELECT billing.create_customer('${provider}_$n', '${provider}_$n\@example.com', 'A', 'DE', '$provider', currency => 'USD')");

		is(sql("SELECT billing.await('$customer')"), 'active', "a customer of $provider");
	}
}
# Their subscriptions are as the provider told them a while ago.
sql(<<"SQL");
INSERT INTO billing.subscriptions (customer_id, organization_id, plan_id, plan_group, price_id, status, provider, account, livemode, current_period_start, current_period_end)
SELECT c.id, c.organization_id, p.id, p.plan_group, r.id, 'active', c.provider, 'default', false, now() - interval '20 days', now() + interval '10 days'
FROM billing.customers AS c CROSS JOIN billing.plans AS p JOIN LATERAL (SELECT * FROM billing.prices AS r WHERE r.plan_id = p.id LIMIT 1) AS r ON true
WHERE p.plan = 'pro';
SQL
is(sql('SELECT count(*) FROM billing.usage_forward_periods'), 2 * $ORGANIZATIONS, 'their periods are known');

# ---- many events, lost answers, a worker that is killed ----

$simulator->control('faults', { match => { path => '/meter_events$|/events/ingest$' }, action => 'drop_after', times => 0, probability => 0.2 });
sql(<<"SQL");
SELECT billing.record_usage_batch(array_agg(o || '_' || (1 + i % $ORGANIZATIONS)), array_agg('api_calls'::text), array_agg((i % 7 + 1)::numeric / 4),
	array_agg(date_trunc('hour', now()) - interval '2 hours' - make_interval(secs => i % ($HOURS * 3600))))
FROM generate_series(1, $EVENTS / 2) AS i CROSS JOIN (VALUES ('stripe'), ('polar')) AS p (o);
SQL
foreach (1 .. 6)
{
	my $pid = sql('SELECT pid FROM billing.worker_state');

	Time::HiRes::sleep(0.2 + rand(0.6));
	kill 'KILL', $pid if $pid;
	poll_until(sub { ($node->psql('postgres', 'SELECT 1'))[0] == 0 }, 'the server is there again');
}
settled('many events');
$simulator->control('faults', undef, 'DELETE');
is_deeply({ at_stripe() }, { ours('stripe') }, "Stripe has what we have of $EVENTS events") or diag(explain({ at_stripe() }), explain({ ours('stripe') }));
is_deeply({ at_polar() }, { ours('polar') }, 'and so has Polar');
my $told = scalar @{ $simulator->control('objects/meter_events') };
cmp_ok($told, '<=', $ORGANIZATIONS * ($HOURS + 2) * 2, "by one event for each organisation and hour, or few more: $told");
cmp_ok(calls('polar', '/events/ingest$'), '<=', 60, 'Polar by few calls');
is(sql("SELECT count(*) FROM billing.usage_forwarding_status WHERE difference <> 0 AND hour < now() - interval '2 hours'"), '0', 'no hour differs')
  or diag(sql("SELECT * FROM billing.usage_forwarding_status WHERE difference <> 0 LIMIT 5"));
is($simulator->control('violations')->{count}, 0, 'every request is as the OpenAPI documents say') or diag(explain($simulator->control('violations')));

# ---- corrections and late events ----

my $before = $told;
sql(<<"SQL");
SELECT billing.void_usage(u.organization_id, u.id) FROM (SELECT organization_id, id FROM billing.usage_events WHERE organization_id IN ('stripe_1', 'polar_1')
	AND kind = 'usage' ORDER BY organization_id, occurred_at, id LIMIT 3000) AS u;
SELECT billing.correct_usage(u.organization_id, u.id, 100) FROM (SELECT organization_id, id FROM billing.usage_events WHERE organization_id IN ('stripe_2', 'polar_2')
	AND kind = 'usage' ORDER BY organization_id, occurred_at, id LIMIT 10) AS u;
SELECT billing.record_usage(o, 'api_calls', 7, now() - interval '10 days') FROM (VALUES ('stripe_3'), ('polar_3')) AS p (o);
SQL
settled('corrections');
is_deeply({ at_stripe() }, { ours('stripe') }, 'voided, corrected and late usage is at Stripe');
is_deeply({ at_polar() }, { ours('polar') }, 'and at Polar');
is(sql("SELECT bool_or(told < 0) FROM billing.usage_forwards WHERE provider = 'polar'"), 't', 'which was told negative differences');
is(sql("SELECT bool_or(told < 0) FROM billing.usage_forwards WHERE provider = 'stripe'"), 'f', 'and Stripe only what an hour comes to');

# ---- a period is over in the middle of an hour ----

my $cut = sql(<<"SQL");
UPDATE billing.subscriptions SET current_period_end = date_trunc('hour', now()) - interval '2 hours' + interval '27 minutes 41 seconds' WHERE organization_id = 'stripe_4';
SELECT billing.record_usage('stripe_4', 'api_calls', 3, date_trunc('hour', now()) - interval '2 hours' + interval '27 minutes 40 seconds');
SELECT billing.record_usage('stripe_4', 'api_calls', 5, date_trunc('hour', now()) - interval '2 hours' + interval '27 minutes 41 seconds');
UPDATE billing.subscriptions SET current_period_start = current_period_end, current_period_end = now() + interval '20 days' WHERE organization_id = 'stripe_4';
SELECT extract(epoch FROM date_trunc('hour', now()) - interval '2 hours')::bigint;
SQL
$cut =~ s/.*\n//s;
wait_for($node, "SELECT string_agg(told::text, ' ' ORDER BY hour) FROM (SELECT DISTINCT ON (hour) hour, trim_scale(told) AS told FROM billing.usage_forwards "
	  . "WHERE organization_id = 'stripe_4' AND hour >= to_timestamp($cut) AND state = 'accepted' ORDER BY hour, revision DESC) AS h", '3 5',
	'what came before the end is told of the hour, the rest of the next one');

# ---- what is too old ----

sql(<<"SQL");
UPDATE billing.usage_forwarding SET since = now() - interval '60 days' WHERE metric = 'api_calls';
UPDATE billing.usage_forward_periods SET starts_at = now() - interval '50 days' WHERE organization_id = 'stripe_3';
SELECT billing.record_usage('stripe_3', 'api_calls', 11, now() - interval '40 days');
SQL
wait_for($node, "SELECT state || ' ' || quantity FROM billing.usage_forwards WHERE organization_id = 'stripe_3' AND hour < now() - interval '35 days'",
	'too_old 11', 'an hour of 40 days ago is not sent');
is(sql("SELECT difference FROM billing.usage_forwarding_status WHERE state = 'too_old'"), '11', 'and shows as a difference');

# ---- a level ----

sql(<<"SQL");
SELECT billing.record_usage('stripe_1', 'storage', 500, now() - interval '30 days');
SELECT billing.record_usage('stripe_1', 'storage', 700, date_trunc('hour', now()) - interval '40 hours' + interval '10 minutes');
SELECT billing.record_usage('stripe_1', 'storage', 650, date_trunc('hour', now()) - interval '40 hours' + interval '5 minutes');
SQL
wait_for($node, "SELECT string_agg(trim_scale(told)::text, ' ' ORDER BY hour) FROM billing.usage_forwards WHERE metric = 'storage' AND organization_id = 'stripe_1' AND state = 'accepted'",
	'700', 'the last level of an hour is told');

# ---- refused ----

$simulator->control('edit', { provider => 'polar', kind => 'customers', fields => { deleted => JSON::PP::true }, id => sql("SELECT r.provider_id FROM billing.provider_refs AS r "
	  . "JOIN billing.customers AS c ON c.id = r.object_id WHERE r.provider = 'polar' AND c.organization_id = 'polar_4'") });
sql("SELECT billing.record_usage(o, 'api_calls', 13, now() - interval '5 days') FROM (VALUES ('polar_1'), ('polar_4')) AS p (o)");
wait_for($node, "SELECT string_agg(organization_id || ' ' || state || coalesce(' ' || error_code, ''), ', ' ORDER BY organization_id) FROM billing.usage_forwards "
	  . "WHERE quantity = 13 AND provider = 'polar'", 'polar_1 accepted, polar_4 failed customer_id', 'one that is refused holds up no other');
is(sql("SELECT string_agg(organization_id, ' ') FROM billing.usage_forwarding_status WHERE state = 'failed'"), 'polar_4', 'and shows');
is(sql("SELECT count(*) FROM billing.attention WHERE what = 'request is dead' AND detail LIKE 'usage.ingest%'"), '1', 'also in attention');

# ---- what the provider finds out later ----

$simulator->control('act', { provider => 'stripe', action => 'report_meter_error', meter => $meter->{id} });
hand_over($node, $simulator);
is(sql("SELECT error_code FROM billing.usage_forwarding WHERE id = '$stripe_meter' AND errors_reported_at IS NOT NULL"), 'meter_event_customer_not_found',
	'Stripe tells that it could not count an event');
is(sql("SELECT count(*) FROM billing.attention WHERE what = 'usage was not counted'"), '1', 'which shows in attention');

done_testing();

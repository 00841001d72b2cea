# A streaming standby: nothing is sent from there until it is promoted, and
# then exactly what was still to be done.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^janua_billing'};
my $simulator = start_simulator();
my $url = $simulator->url;
my $primary = new_node('primary', init => [ allows_streaming => 1 ]);

$primary->safe_psql('postgres',
	"SELECT billing.configure_provider('stripe', secret_key => 'sk_test_standby', base_url => '$url')");
$primary->safe_psql('postgres', q{SELECT billing.create_customer('first', email => 'first@example.com')});
wait_for($primary, 'SELECT count(*) FROM billing.outbox', '0', 'the primary sends');
$primary->safe_psql('postgres', q{SELECT billing.record_usage('first', 'api_calls', 2, idempotency_key => 'known')});
wait_for($primary, q{SELECT sum(sum) FROM billing.usage_totals WHERE metric = 'api_calls'}, '2', 'the primary adds usage up');
$primary->safe_psql('postgres', q{BEGIN; SELECT billing.record_usage('first', 'api_calls', 100); ROLLBACK; SELECT billing.record_usage('first', 'api_calls', 3)});

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);

is($standby->safe_psql('postgres', $workers), '0', 'no worker and no launcher runs on a standby');
is($standby->safe_psql('postgres', q{SELECT billing.has_feature('first', 'sso'), billing.feature_limit('first', 'users')}),
	'f|3', 'entitlements can be asked for on a standby');
is($standby->safe_psql('postgres', q{SELECT email FROM billing.customer_details WHERE organization_id = 'first'}),
	'first@example.com', 'personal data can be read there');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM billing.get_plans()}), '3', 'and the plans');
is($standby->safe_psql('postgres', 'SELECT running FROM billing.worker_status'), 'f', 'worker_status says that nothing runs');

is($standby->safe_psql('postgres', q{SELECT quantity FROM billing.usage_summary('first') WHERE metric = 'api_calls'}), '5', 'usage is added up there, too');

for my $call (q{SELECT billing.create_customer('second', email => 'second@example.com')}, 'CALL billing.run_worker()',
	q{SELECT billing.record_usage('first', 'api_calls')}, q{SELECT billing.record_usage('first', 'api_calls', idempotency_key => 'known')},
	q{SELECT billing.record_usage_batch('[{"organization_id": "first", "metric": "api_calls"}]')},
	q{SELECT billing.void_usage('first', id) FROM billing.usage_events LIMIT 1}, q{INSERT INTO billing.usage_import (organization_id, metric) VALUES ('first', 'api_calls')})
{
	my ($status, $stdout, $stderr) = $standby->psql('postgres', "\\set VERBOSITY sqlstate\n$call");

	like($stderr, qr/ERROR:  25006$/m, "refused as read-only: $call");
}

# The primary is lost while some requests are on the wire and others wait.
$simulator->control('faults', { match => { method => 'POST' }, action => 'hang', times => 0 });
$primary->safe_psql('postgres', <<'SQL');
SELECT billing.create_customer('standby' || i, email => 'standby' || i || '@example.com') FROM generate_series(1, 20) AS i;
UPDATE billing.settings SET value = '1' WHERE name = 'no such setting';
SQL
$primary->safe_psql('postgres', <<'SQL');
SELECT billing.update_customer(billing.find_customer('standby' || i), jsonb_build_object('name', 'Standby ' || i))
FROM generate_series(1, 20) AS i
SQL
wait_for($primary, q{SELECT count(*) FROM billing.outbox WHERE state = 'sending'}, '20', 'twenty requests are on the wire');
$primary->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SELECT state, count(*) FROM billing.outbox GROUP BY state ORDER BY state'),
	"sending|20\nwaiting|20", 'the standby knows of all of them');
my $sent = $simulator->control('totals')->{requests};
$primary->stop('immediate');
is($standby->safe_psql('postgres', $workers), '0', 'still nothing runs on the standby');
is($simulator->control('totals')->{requests}, $sent, 'and nothing was sent from it');

$simulator->control('faults', undef, 'DELETE');
$standby->promote;
wait_for($standby, 'SELECT running FROM billing.worker_status', 't', 'after the promotion the worker starts');
wait_for($standby, 'SELECT count(*) FROM billing.outbox', '0', 'and does what was still to be done');
is($simulator->control('objects/customers?count=1')->{count}, 21, 'each customer exists once at the provider');
is($standby->safe_psql('postgres',
		q{SELECT count(*), count(DISTINCT provider_id) FROM billing.provider_refs WHERE object_type = 'customer'}),
	'21|21', 'and here');
is($standby->safe_psql('postgres', q{SELECT operation, state, count(*) FROM billing.outbox_finished GROUP BY 1, 2 ORDER BY 1, 2}),
	"customer.create|done|21\ncustomer.update|done|20", 'every request is done');

my %keys;
$keys{ $_->{idempotency_key} }{ $_->{body} }++ for grep { $_->{method} eq 'POST' } @{ $simulator->control('requests') };
is(scalar(grep { keys %$_ > 1 } values %keys), 0, 'what was on the wire went out again with the same key and the same bytes');
is(scalar(keys %keys), 41, 'under one key for each request');

$standby->safe_psql('postgres', q{SELECT billing.create_customer('second', email => 'second@example.com')});
wait_for($standby, q{SELECT count(*) FROM billing.outbox}, '0', 'the new primary takes new work');
is($simulator->control('violations')->{count}, 0, 'every request was as the provider wants it');

$standby->stop;
$simulator->stop;
done_testing();

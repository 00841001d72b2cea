# pg_dump and restore: everything comes along, nothing personal can be read in
# the dump, and the copy sends nothing before it is adopted.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('original');
my $other = new_node('other', extension => 0);
# Whatever of this is found in a dump was not encrypted.
my @personal = (
	'dumped.person@example.com', 'Dumped Person Ltd', '+49301234567', 'Dumped Street 7', 'DE136695976',
	'sk_test_x', 'whsec_simulator_test_secret');

# ---------------------------------------------------------------------------
# A database in which there is something of everything.

configure_stripe($node, $simulator);
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE organizations (id text PRIMARY KEY, email text, label text);
SELECT billing.attach_organizations('organizations', email_column => 'email', name_column => 'label');

SELECT billing.create_plan('team', 'Team', amount => 9900, features => '{"users": 10, "exports": true}');
SELECT billing.create_price('team', 12900);
SELECT billing.create_price('pro', 3900);
SELECT billing.set_plan_feature('pro', 'users', '30');
UPDATE billing.plans SET retired_at = now() WHERE plan = 'enterprise';
-- the default moves, and the old one is written last
UPDATE billing.plans SET is_default = false WHERE plan = 'free';
UPDATE billing.plans SET is_default = true WHERE plan = 'team';
UPDATE billing.plans SET name = 'Gratis' WHERE plan = 'free';
UPDATE billing.prices SET retired_at = now() WHERE id = '00000000-0000-7000-8001-000000000002';
UPDATE billing.settings SET value = 'EUR' WHERE name = 'default_currency';
UPDATE billing.settings SET value = '400 seconds' WHERE name = 'webhook_tolerance';
UPDATE billing.currencies SET retired = true WHERE code = 'CLP';

SELECT billing.create_customer('dumped', email => 'dumped.person@example.com', name => 'Dumped Person Ltd', country => 'DE',
	phone => '+49301234567', description => 'Dumped Note', metadata => '{"note": "Dumped Metadata"}', address => '{"line1": "Dumped Street 7", "city": "Berlin", "postal_code": "10115", "country": "DE"}',
	tax_ids => '[{"type": "eu_vat", "value": "DE136695976"}]', currency => 'USD', idempotency_key => 'dumped-1');
SELECT billing.attach_payment_method(billing.find_customer('dumped'), 'pm_card_visa');
SQL
wait_for($node, 'SELECT count(*) FROM billing.outbox', '0', 'the provider knows the customer');
$node->safe_psql('postgres', q{SELECT billing.subscribe('dumped', 'pro', currency => 'USD')});
wait_for($node, 'SELECT count(*) FROM billing.outbox', '0', 'and the subscription');
hand_over($node, $simulator);
$node->safe_psql('postgres', q{SELECT billing.record_usage('dumped', 'api_calls', 5, idempotency_key => 'usage-' || i) FROM generate_series(1, 10) AS i});
wait_for($node, 'SELECT count(*) FROM billing.events_unsent', '0', 'events are announced');
wait_for($node, <<'SQL', '0', 'usage is in the totals');
SELECT count(*) FROM billing.usage_events AS u, billing.usage_rollup_state AS s WHERE u.recorded_in >= s.seen_until OR u.recorded_in / 4096 IN (SELECT o / 4096 FROM unnest(s.open) AS o)
SQL

# What our own engine bills: with tiers, a coupon, tax, credits, several components; one that pays, one that does not.
$node->safe_psql('postgres', <<'SQL');
SELECT billing.set_seller('Seller GmbH', country => 'DE');
SELECT billing.set_tax_rate('DE', 19, 'VAT', valid_from => '2020-01-01');
SELECT billing.create_plan('crew', 'Crew', 2000, 'USD');
SELECT billing.create_price('crew', 500, 'USD', component => 'seats');
SELECT billing.create_price('crew', NULL, 'USD', component => 'calls', model => 'graduated', metric => 'api_calls', tiers => '[{"up_to": 100, "unit_amount": 0}, {"unit_amount": 2}]');
SELECT billing.create_coupon('DUMP', percent => 10, duration => 'forever');
SELECT billing.create_customer('ours', email => 'ours@example.com', country => 'DE', currency => 'USD');
SELECT billing.grant_credit('ours', 300, 'USD');
SELECT billing.attach_payment_method(billing.find_customer('ours'), 'pm_card_visa');
SELECT billing.create_customer('poor', email => 'poor@example.com', currency => 'USD');
SELECT billing.attach_payment_method(billing.find_customer('poor'), 'pm_card_chargeCustomerFail');
SQL
wait_for($node, 'SELECT count(*) FROM billing.outbox', '0', 'the provider knows the customers that we bill');
$node->safe_psql('postgres', <<'SQL');
SELECT billing.subscribe('ours', 'crew', quantity => 3, coupon => 'DUMP', managed_by => 'local');
SELECT billing.subscribe('poor', 'pro', managed_by => 'local', currency => 'USD');
SQL
wait_for($node, q{SELECT string_agg(status, ' ' ORDER BY organization_id) FROM billing.subscriptions WHERE managed_by = 'local'}, 'active incomplete', 'one is paid, one is not');
wait_for($node, q{SELECT string_agg(DISTINCT status, ' ' ORDER BY status) FROM billing.invoices WHERE managed_by = 'local'}, 'open paid', 'as their invoices say');
hand_over($node, $simulator);
wait_for($node, 'SELECT count(*) FROM billing.outbox', '0', 'nothing is on its way');
$node->safe_psql('postgres', q{SELECT billing.update_subscription(id, quantity => 5) FROM billing.subscriptions WHERE organization_id = 'ours'});
is($node->safe_psql('postgres', <<'SQL'), '3|t|t|t|t|t|t', 'there are items, lines that wait, tiers, a ledger in balance, credits and attempts');
SELECT (SELECT count(*) FROM billing.subscription_items AS i JOIN billing.subscriptions AS s ON s.id = i.subscription_id WHERE s.organization_id = 'ours'),
	EXISTS (SELECT FROM billing.invoice_lines WHERE invoice_id IS NULL), EXISTS (SELECT FROM billing.price_tiers), EXISTS (SELECT FROM billing.ledger),
	NOT EXISTS (SELECT FROM billing.ledger_imbalance), EXISTS (SELECT FROM billing.credit_grants), EXISTS (SELECT FROM billing.dunning_attempts)
SQL

# What is refused ends dead; what meets a stopped account stays queued.
$simulator->control('faults', { match => { method => 'POST', body => 'refused' }, action => 'status', status => 400, times => 1 });
$node->safe_psql('postgres', q{SELECT billing.create_customer('refused', email => 'refused@example.com')});
wait_for($node, q{SELECT count(*) FROM billing.outbox WHERE state = 'dead'}, '1', 'one request is dead');
$node->safe_psql('postgres', <<'SQL');
UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'for the test' WHERE provider = 'stripe';
INSERT INTO organizations VALUES ('queued1', 'queued1@example.com', 'Queued One'), ('queued2', 'queued2@example.com', 'Queued Two');
UPDATE organizations SET label = 'Queued Two Ltd' WHERE id = 'queued2';
SQL
is($node->safe_psql('postgres', 'SELECT state, count(*) FROM billing.outbox GROUP BY state ORDER BY state'),
	"dead|1\nqueued|2\nwaiting|1", 'requests are queued, waiting and dead');

# ---------------------------------------------------------------------------
# The contents of a database as text, without what belongs to the copy alone.

my $tables = $node->safe_psql('postgres', <<'SQL');
SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
WHERE relnamespace = 'billing'::regnamespace AND relkind IN ('r', 'p')
	AND relname NOT IN ('worker_state', 'provider_accounts', 'sandbox_deliveries')
SQL

sub contents
{
	my ($server, $database) = @_;
	my $all = '';

	for my $table (split / /, $tables)
	{
		$all .= $server->safe_psql($database, "SELECT '$table', to_jsonb(t)::text FROM billing.$table AS t ORDER BY 2") . "\n";
	}
	# a built-in row that nobody changed is as old as the extension in its database
	$all =~ s/("builtin": true.*?"created_at": )"[^"]*"/$1"-"/g;
	return $all . $server->safe_psql($database, <<'SQL');
SELECT 'accounts', provider, account, CASE WHEN provider <> 'sandbox' THEN id END, livemode, base_url, encode(secret_key, 'hex'),
	encode(webhook_secret, 'hex'), bound_to, stopped_reason
FROM billing.provider_accounts ORDER BY 2, 3;
SELECT 'sequences', (SELECT last_value FROM billing.outbox_seq), (SELECT last_value FROM billing.events_seq_seq),
	(SELECT last_value FROM billing.audit_log_seq_seq);
SELECT 'person', organization_id, email, name, phone, address, tax_ids FROM billing.customer_details ORDER BY 2;
SELECT 'plans', to_jsonb(p)::text FROM billing.get_plans() AS p ORDER BY 2;
SELECT 'default plan', billing.feature_limit('nobody', 'users');
SELECT 'usage', metric, quantity FROM billing.usage_summary('dumped') ORDER BY 2;
SELECT 'guard', tgrelid::regclass, tgname FROM pg_trigger WHERE NOT tgisinternal
	AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'billing'::regnamespace AND NOT relispartition) ORDER BY 2, 3;
SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'public.organizations'::regclass ORDER BY 2;
SQL
}

# Says only what differs.
sub same_contents
{
	my ($server, $database, $expected, $name) = @_;
	my (%there, %here);

	$there{$_}++ for split /\n/, $expected;
	$here{$_}++ for split /\n/, contents($server, $database);
	my @missing = grep { !$here{$_} } sort keys %there;
	my @added = grep { !$there{$_} } sort keys %here;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join("\n", (map { "missing: $_" } @missing), map { "added: $_" } @added), '', $name);
}

# What is not even encrypted elsewhere is not in the audit log either.
my $audit = $node->safe_psql('postgres', 'SELECT to_jsonb(l)::text FROM billing.audit_log AS l ORDER BY l.seq');
for my $value (@personal, 'refused@example.com', 'queued1@example.com', 'Queued One', 'Dumped Note', 'Dumped Metadata', 'pm_card_visa', '"4242"')
{
	ok(index($audit, $value) < 0 && index($audit, unpack('H*', $value)) < 0, "not in the audit log: $value");
}
like($audit, qr/"cause": "webhook"/, 'which has what webhooks did');
like($audit, qr/"cause": "request"/, 'and what requests did');

my $original = contents($node, 'postgres');
my $base = $node->basedir;
my ($plain, $custom) = ("$base/plain.sql", "$base/custom.dump");

$node->command_ok([ 'pg_dump', '--file', $plain, 'postgres' ], 'pg_dump, plain');
$node->command_ok([ 'pg_dump', '--format=custom', '--file', $custom, 'postgres' ], 'pg_dump, custom');
my $text = slurp_file($plain);
for my $value (@personal, 'refused@example.com', 'queued1@example.com')
{
	my $dumped = $text;

	# the application's own table is its own business
	$dumped =~ s/^COPY public\.organizations .*?^\\\.$//ms;
	ok(index($dumped, $value) < 0 && index($dumped, unpack('H*', $value)) < 0, "not in the dump: $value");
}

# ---------------------------------------------------------------------------
# Restored.

my $sent = $simulator->control('totals')->{requests};
$node->safe_psql('postgres', 'CREATE DATABASE from_plain');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'from_plain', '-f', $plain ], 'the plain dump can be restored');
same_contents($node, 'from_plain', $original, 'with everything in it');
$node->safe_psql('postgres', 'CREATE DATABASE from_custom');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'from_custom', $custom ], 'the custom dump can be restored');
same_contents($node, 'from_custom', $original, 'with everything in it');

# Elsewhere, where the key file is not.
$other->safe_psql('postgres', 'CREATE DATABASE elsewhere');
$other->command_ok([ 'pg_restore', '--exit-on-error', '--no-owner', '-d', 'elsewhere', $custom ],
	'it can be restored into another cluster');
my (undef, undef, $stderr) = $other->psql('elsewhere', "\\set VERBOSITY verbose\nSELECT email FROM billing.customer_details");
like($stderr, qr/JB012: .*there is no key file.*HINT:  As a superuser: SELECT billing\.create_key_file/s,
	'without the key file personal data cannot be read, and the error says so');
(undef, undef, $stderr) = $other->psql('elsewhere', "\\set VERBOSITY verbose\nSELECT billing.adopt_database()");
like($stderr, qr/JB012: .*HINT:  /s, 'nor can the copy be adopted');
$other->command_ok([ 'cp', $node->basedir . '/keys/janua_billing.key', $other->basedir . '/keys/janua_billing.key' ],
	'the key file is put there');
same_contents($other, 'elsewhere', $original, 'with the key file everything is there');

# What is changed in a copy goes on in the log that came with it.
$node->safe_psql('from_custom', q{UPDATE billing.settings SET value = 'MXN' WHERE name = 'default_currency'});
is($node->safe_psql('from_custom', q{SELECT before, after, seq > (SELECT max(o.seq) FROM billing.audit_log AS o WHERE o.seq < l.seq)
	FROM billing.audit_log AS l ORDER BY seq DESC LIMIT 1}), '{"value": "EUR"}|{"value": "MXN"}|t', 'the audit log goes on where it ended');

# ---------------------------------------------------------------------------
# The copy is quiet, then it is adopted.

for my $copy ([ $node, 'from_plain' ], [ $node, 'from_custom' ], [ $other, 'elsewhere' ])
{
	my ($server, $database) = @$copy;

	$server->safe_psql($database, "UPDATE billing.provider_accounts SET stopped_at = NULL, stopped_reason = NULL WHERE provider = 'stripe'");
	# a renewal, a draft that is marked and an open invoice: all of them due
	$server->safe_psql($database, <<'SQL');
SELECT billing.create_invoice(billing.find_customer('ours'), '[{"description": "Copied", "quantity": 1, "unit_amount": "1000"}]', 'USD');
UPDATE billing.subscriptions SET next_due_at = now() - interval '1 hour' WHERE organization_id = 'ours';
UPDATE billing.invoices SET next_attempt_at = now() - interval '1 hour' WHERE status = 'open' AND organization_id = 'poor';
SQL
	$server->safe_psql($database, 'CALL billing.run_worker()');
	is($server->safe_psql($database, <<'SQL'), '1|draft||1', "$database: nothing is renewed, numbered or collected");
SELECT (SELECT count(*) FROM billing.subscriptions WHERE next_due_at < now()), i.status, i.number,
	(SELECT count(*) FROM billing.invoices WHERE next_attempt_at < now() - interval '30 minutes')
FROM billing.invoices AS i WHERE i.billing_reason = 'manual'
SQL
	is($server->safe_psql($database, q{SELECT count(*) FROM billing.outbox WHERE state = 'queued'}),
		'2', "$database: what is queued stays queued");
}
is($simulator->control('totals')->{requests}, $sent, 'no copy has sent anything');

# What is loaded while restoring makes no customer.
$node->safe_psql('from_plain', <<'SQL');
SET janua_billing.restoring = on;
INSERT INTO organizations VALUES ('loaded', 'loaded@example.com', 'Loaded');
UPDATE organizations SET label = 'Changed' WHERE id = 'queued1';
DELETE FROM organizations WHERE id = 'loaded';
SQL
is($node->safe_psql('from_plain', q{SELECT billing.find_customer('loaded') IS NULL, (SELECT count(*) FROM billing.outbox)}),
	't|4', 'the triggers of attach_organizations() are quiet while janua_billing.restoring is on');
$node->safe_psql('from_plain', q{INSERT INTO organizations VALUES ('new', 'new@example.com', 'New')});
is($node->safe_psql('from_plain', q{SELECT billing.find_customer('new') IS NOT NULL, (SELECT count(*) FROM billing.outbox)}),
	't|5', 'and work again afterwards');

is($other->safe_psql('elsewhere', 'SELECT billing.adopt_database()'), '1', 'a copy is adopted');
wait_for($other, q{SELECT string_agg(state, ' ') FROM billing.outbox}, 'dead', 'then its own worker sends what was queued', 'elsewhere');
is($simulator->control('totals')->{requests} - $sent, 3, 'exactly that');
is($simulator->control('objects/customers?count=1')->{count}, 5, 'the provider has the customers once');
$other->safe_psql('elsewhere', q{SELECT billing.retry_request(id) FROM billing.outbox});
wait_for($other, 'SELECT count(*) FROM billing.outbox', '0', 'a dead request can be sent again from there', 'elsewhere');
is($other->safe_psql('elsewhere', q{SELECT bool_and(seq > 0), count(*) = count(DISTINCT seq) FROM billing.outbox_finished}),
	't|t', 'no number was given twice');
is($simulator->control('violations')->{count}, 0, 'every request was as the provider wants it');

$node->stop;
$other->stop;
$simulator->stop;
done_testing();

# A worker that is killed between the request and its answer never charges an
# invoice twice, and what came of it is booked.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main', conf => "restart_after_crash = on\n");
my $url = $simulator->url;

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub worker { return sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'janua_billing worker' AND datname = 'postgres'") }

sql(qq(SELECT billing.configure_provider('stripe', 'sk_test_x', base_url => '$url/stripe', options => '{"rate_per_second": 0}')));
my $customer = sql("SELECT billing.create_customer('org_1', 'ana\@example.com', 'Ana', provider => 'stripe', currency => 'USD')");
sql("SELECT billing.await('$customer', '60 seconds')");
my $method = sql("SELECT billing.attach_payment_method('$customer', 'pm_card_visa', set_default => true)");
sql("SELECT billing.await('$method', '60 seconds')");
wait_for($node, "SELECT is_default FROM billing.payment_methods", 't', 'there is a default method');

$simulator->control('faults', { action => 'delay', ms => 2000, match => { provider => 'stripe', method => 'POST', path => '^/v1/payment_intents$' } });
my $invoice = sql(<<"SQL");
INSERT INTO billing.invoices (customer_id, organization_id, provider, account, livemode, status, managed_by, number, series_id, series_number,
							  billing_reason, currency, subtotal, discount, total, tax, credit_used, balance_used, amount_due, amount_remaining,
							  collection_method, issued_at, next_attempt_at)
VALUES ('$customer', 'org_1', 'stripe', 'default', false, 'open', 'local', 'T-1', '$customer', 1, 'manual', 'USD', 5000, 0, 5000, 0, 0, 0, 5000, 5000,
		'charge_automatically', now(), now())
RETURNING id
SQL
sql("SELECT billing.await('$customer', '1 second')");
my $made = sub { return scalar @{ $simulator->control('objects/payment_intents?provider=stripe') } };
ok(poll_until(sub { $made->() == 1 }, 'the payment'), 'the invoice is charged, and the answer on its way');
my $killed = worker();
is(kill('KILL', $killed), 1, 'the worker is killed');
ok(poll_until(sub { eval { my $new = worker(); $new ne '' && $new ne $killed } }, 'another worker'), 'another one takes its place');
wait_for($node, "SELECT status FROM billing.invoices", 'paid', 'what came of it is known');
is($made->(), 1, 'there is one payment there');
is(sql("SELECT count(*) || ' ' || min(status) FROM billing.payment_intents"), '1 succeeded', 'and one here');
is(sql("SELECT attempt || ' ' || state FROM billing.dunning_attempts"), '1 succeeded', 'of one attempt');
is(sql("SELECT amount_paid || ' ' || amount_remaining FROM billing.invoices"), '5000 0', 'which paid once');
done_testing();

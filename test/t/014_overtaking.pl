# Answers, webhooks and the application's own transactions in any order.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub at_stripe { return @{ $simulator->control("objects/$_[0]?metadata.janua_ref=$_[1]") } }
sub customer { return sql("SELECT billing.create_customer('$_[0]', '$_[0]\@example.com')") }
sub await { return sql("SELECT billing.await('$_[0]', '30 seconds')") }

# Holds back the answer to the first such request; the provider has done it.
sub hold_back
{
	my ($path, $ms) = @_;

	return $simulator->control('faults', { action => 'delay', ms => $ms, match => { method => 'POST', path => $path } });
}

sub wait_until_there
{
	my ($kind, $id) = @_;

	return ok(poll_until(sub { scalar at_stripe($kind, $id) }, "one of $kind"), 'the provider has done it, its answer is on the way');
}

configure_stripe($node, $simulator);
sql("UPDATE billing.settings SET value = '20 milliseconds' WHERE name = 'retry_base'");

# ---- the webhook is faster than the answer ----

my $customer = customer('first');
await($customer);
hand_over($node, $simulator);
hold_back('^/v1/subscriptions$', 1500);
my $subscription = sql("SELECT billing.subscribe('first', 'pro', 'pm_card_visa')");
wait_until_there('subscriptions', $subscription);
my @handled = hand_over($node, $simulator);
is((grep { $_ eq 'customer.subscription.created applied' } @handled), 1, 'a webhook that is faster than the answer finds our row') or diag(join ', ', @handled);
is(sql("SELECT status FROM billing.subscriptions WHERE id = '$subscription'"), 'active', 'and activates it');
is(sql("SELECT state FROM billing.outbox WHERE object_id = '$subscription'"), 'sending', 'before the answer is there');
is(await($subscription), 'active', 'the answer changes nothing');
is(sql("SELECT count(*), min(status) FROM billing.subscriptions"), '1|active', 'there is one row');
is(sql("SELECT count(*) FROM billing.invoices WHERE status = 'paid'"), '1', 'and one paid invoice');
is(sql("SELECT count(*) FROM billing.webhook_events WHERE state IN ('waiting', 'failed')"), '0', 'no webhook is left over')
  or diag(sql("SELECT type, state, reason, waiting_for FROM billing.webhook_events"));

# ---- the same for a customer, and for its events in reverse ----

hold_back('^/v1/customers$', 1500);
my $second = customer('second');
wait_until_there('customers', $second);
hand_over($node, $simulator);
is(sql("SELECT count(*) FROM billing.provider_refs WHERE object_id = '$second'"), '1', 'a webhook tells the id of a customer before the answer does');
is(await($second), 'active', 'the answer says the same');
is(sql("SELECT count(*) FROM billing.customers"), '2', 'there is one row of it');

$subscription = sql("SELECT billing.subscribe('second', 'pro')");
is(await($subscription), 'incomplete', 'a subscription waits for its payment');
my ($there) = at_stripe('subscriptions', $subscription);
$simulator->control('call', { method => 'POST', path => "/v1/invoices/$there->{latest_invoice}/pay", params => { payment_method => 'pm_card_visa' } });
hand_over($node, $simulator, order => 'reverse', times => 2);
is(sql("SELECT status FROM billing.subscriptions WHERE id = '$subscription'"), 'active', 'events in reverse order, each twice, end in the last state');
is(sql("SELECT count(*) FROM billing.webhook_events WHERE state IN ('waiting', 'failed')"), '0', 'none is left over')
  or diag(sql("SELECT type, state, reason, waiting_for FROM billing.webhook_events WHERE state IN ('waiting', 'failed')"));

# ---- a payment method, which cannot carry our reference ----

hold_back('/attach$', 1500);
my $method = sql("SELECT billing.attach_payment_method('$second', 'pm_card_visa')");
ok(poll_until(sub { my ($c) = at_stripe('customers', $second); scalar @{ $simulator->control("objects/payment_methods?customer=$c->{id}") } > 1 }, 'a second method'),
	'a payment method is attached, its answer is on the way');
hand_over($node, $simulator);
is(await($method), 'attached', 'its answer finds the row of the call');
wait_for($node, "SELECT count(*) FROM billing.webhook_events WHERE state = 'waiting'", '0', 'the webhook that came before follows');
is(sql("SELECT count(*) FROM billing.payment_methods WHERE customer_id = '$second' AND id = '$method'"), '1', 'and finds it, too');
is(sql("SELECT count(*) FROM billing.payment_methods WHERE customer_id = '$second'"), scalar @{ $simulator->control("objects/payment_methods?customer=" . (at_stripe('customers', $second))[0]{id}) },
	'there are as many here as there');

# Changes of one second, in any order: Stripe's times are whole seconds and its ids tell nothing.
$simulator->control('clock', { freeze => JSON::PP::true });
foreach my $order (qw(in_order reverse odd_even))
{
	my $id = customer("tie_$order");
	my $tied = sql("SELECT billing.subscribe('tie_$order', 'pro', 'pm_card_visa')");
	await($tied);
	hand_over($node, $simulator);
	my ($object) = at_stripe('subscriptions', $tied);
	$simulator->control('edit', { kind => 'subscriptions', id => $object->{id}, fields => { latest_invoice => undef } });
	$simulator->control('edit', { kind => 'subscriptions', id => $object->{id}, fields => { status => 'past_due' } });
	$simulator->control('edit', { kind => 'subscriptions', id => $object->{id}, fields => { status => 'unpaid' } }) if $order eq 'in_order';
	hand_over($node, $simulator, order => $order);
	is(sql("SELECT status FROM billing.subscriptions WHERE id = '$tied'"), $order eq 'in_order' ? 'unpaid' : 'past_due',
		"changes of one second end in the last state, $order");
}
$simulator->control('clock', { freeze => JSON::PP::false });

# Our clock may be ahead of the provider's: what happens next is not older than our answer.
$simulator->control('clock', { jump => time() - 2 });
my $ahead = customer('ahead');
my $hurried = sql("SELECT billing.subscribe('ahead', 'pro')");
is(await($hurried), 'incomplete', 'a subscription waits for its payment, told by a clock that is behind');
($there) = at_stripe('subscriptions', $hurried);
$simulator->control('call', { method => 'POST', path => "/v1/invoices/$there->{latest_invoice}/pay", params => { payment_method => 'pm_card_visa' } });
hand_over($node, $simulator);
is(sql("SELECT status FROM billing.subscriptions WHERE id = '$hurried'"), 'active', 'a payment at once after it counts');
$simulator->control('clock', { jump => time() });

# An event of before our change must not undo it, also within one second.
my $renamed = customer('renamed');
await($renamed);
sql("SELECT billing.update_customer('$renamed', '{\"name\": \"new\"}')");
await($renamed);
hand_over($node, $simulator, order => 'reverse');
is(sql("SELECT email, name FROM billing.customer_details WHERE id = '$renamed'"), 'renamed@example.com|new', 'events of our own calls undo nothing');

# ---- the application holds a customer ----

my $held = customer('held');
my $other = customer('other');
await($_) foreach $held, $other;
hold_back('^/v1/customers/', 1000);
sql("SELECT billing.update_customer('$held', '{\"name\": \"answered\"}')");
ok(poll_until(sub { ((at_stripe('customers', $held))[0]{name} // '') eq 'answered' }, 'the update is done'), 'an update is done, its answer is on the way');
my $session = $node->background_psql('postgres');
$session->query_safe("BEGIN; SELECT FROM billing.customers WHERE id = '$held' FOR UPDATE");
wait_for($node, "SELECT state, answer IS NOT NULL FROM billing.outbox WHERE object_id = '$held'", 'sending|t',
	'an answer about a row that a session holds is kept');
sql("SELECT billing.update_customer('$other', '{\"name\": \"meanwhile\"}')");
is(await($other), 'active', 'the worker goes on with others');
is((at_stripe('customers', $other))[0]{name}, 'meanwhile', 'who are served');
is(sql("SELECT count(*) FROM billing.outbox WHERE object_id = '$held'"), '1', 'the answer is still waiting');
$session->query_safe('COMMIT');
wait_for($node, "SELECT count(*) FROM billing.outbox WHERE object_id = '$held'", '0', 'and applied when the session lets go');

$session->query_safe("BEGIN; SELECT FROM billing.customers WHERE id = '$other' FOR UPDATE; SELECT billing.update_customer('$other', '{\"name\": \"mine\"}')");
is(sql("SELECT count(*) FROM billing.outbox"), '0', 'a transaction that is open sends nothing');
$session->query_safe('COMMIT');
is(await($other), 'active', 'it is sent when it commits');
is((at_stripe('customers', $other))[0]{name}, 'mine', 'as it was committed');

# ---- what is rolled back ----

my $seen = $simulator->control('totals')->{requests};
$node->psql('postgres', <<'SQL');
BEGIN;
SELECT billing.create_customer('rolled_back', 'r@example.com');
SELECT billing.subscribe('rolled_back', 'pro');
ROLLBACK;
SQL
sql(<<'SQL');
BEGIN;
SAVEPOINT s;
SELECT billing.create_customer('savepoint', 's@example.com');
ROLLBACK TO SAVEPOINT s;
SELECT billing.create_customer('committed', 'c@example.com');
COMMIT;
SQL
wait_for($node, "SELECT count(*) FROM billing.outbox", '0', 'the worker has done what there was');
is($simulator->control('totals')->{requests}, $seen + 1, 'of a transaction and a savepoint that were rolled back nothing is sent');
is(sql("SELECT count(*) FROM billing.customers WHERE organization_id IN ('rolled_back', 'savepoint')"), '0', 'and nothing is there');

# ---- enqueued while the one before is being finished ----

$simulator->control('latency', { min_ms => 0, max_ms => 3 });
my $busy = customer('busy');
await($busy);
for my $round (1 .. 10)
{
	sql(join ';', map { "SELECT billing.update_customer('$busy', '{\"name\": \"$round.$_\"}')" } 1 .. 20);
}
is(await($busy), 'active', 'requests that are enqueued while others of their customer end are all sent');
is(sql("SELECT count(*) FROM billing.outbox"), '0', 'none is stranded');
is(sql("SELECT count(*) FROM billing.outbox_finished WHERE object_id = '$busy' AND operation = 'customer.update'"), '200', 'not one');
is((at_stripe('customers', $busy))[0]{name}, '10.20', 'the last value is the last');

# The sweep finds what a race would leave behind.
my $stranded = customer('stranded');
await($stranded);
sql(<<"SQL");
BEGIN;
SELECT billing.update_customer('$stranded', '{"name": "found"}');
UPDATE billing.outbox SET state = 'waiting' WHERE object_id = '$stranded';
COMMIT;
SQL
is(await($stranded), 'active', 'a request that waits for nobody is found');
is((at_stripe('customers', $stranded))[0]{name}, 'found', 'and sent');

is($simulator->control('violations')->{count}, 0, 'every request matches the document') or diag(explain($simulator->control('violations')));

done_testing();

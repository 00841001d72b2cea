# Every type of event of Polar and what it does to our rows: one line each, in
# the order in which they are documented. Then what the state of a customer repairs.
use strict;
use warnings;
use utf8;

use Encode qw(decode_utf8 encode_utf8);
use JanuaTest;
use JSON::PP ();
use POSIX qw(strftime);
use PostgreSQL::Test::Utils;
use Test::More;

# Everything that the documentation names; of a family that it names by its
# beginning (benefit.*), all that the API's document has. Each has to have a
# line below, and to be known.
my @NAMED = qw(
  checkout.created checkout.updated checkout.expired
  customer.created customer.updated customer.deleted customer.state_changed
  order.created order.updated order.paid order.refunded
  subscription.created subscription.updated subscription.active subscription.cycled subscription.uncanceled
  subscription.canceled subscription.revoked subscription.past_due subscription.paused subscription.resumed
  refund.created refund.updated product.created product.updated
  discount.created discount.updated discount.deleted benefit.created benefit.updated
  benefit_grant.created benefit_grant.cycled benefit_grant.updated benefit_grant.revoked
  customer_seat.assigned customer_seat.claimed customer_seat.revoked member.created member.updated member.deleted
  organization.updated);

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $simulator = start_simulator();
my $node = new_node('main');
my $url = $simulator->url;
my $serial = 0;

sub sql { return decode_utf8($node->safe_psql('postgres', encode_utf8($_[0]))) }
sub await { return sql("SELECT billing.await('$_[0]', '60 seconds')") }
sub control { return $simulator->control(@_) }
sub at_polar { return @{ control('objects/' . shift() . '?' . join('&', 'provider=polar', @_)) } }
sub new_uuid { return sprintf '00000000-0000-4000-8000-%012d', ++$serial }

# Later each time, and later than anything that the simulator dates.
sub at { return strftime('%Y-%m-%dT%H:%M:%S.000000Z', gmtime(time + 3600 + 10 * ++$serial)) }

# Delivers a signed event about this object, as it is from now on: "state reason".
sub deliver
{
	my ($type, $object, %more) = @_;
	my $id = new_uuid();
	my $at = $more{at} || at();
	my $data = { %$object, modified_at => $object->{modified_at} && $more{as_it_is} ? $object->{modified_at} : $at };

	control('emit', { provider => 'polar', id => $id, raw => { type => $type, timestamp => $at, data => $data } });
	my ($event) = grep { $_->{id} eq $id } @{ control('events?provider=polar&limit=100000') };
	my (undef, undef, $errors) = webhook($node, 'polar', encode_utf8($event->{body}), $event->{headers});

	return $errors if $errors;
	return sql("SELECT concat_ws(' ', state, reason) FROM billing.webhook_events WHERE event_id = '$id'");
}

sql(<<"SQL");
SELECT billing.configure_provider('polar', 'polar_oat_test', 'polar_whs_SimulatorTestSecret0123456789abcdef', base_url => '$url/polar',
	options => '{"sandbox": true, "rate_per_second": 0}');
UPDATE billing.settings SET value = '100 ms' WHERE name = 'retry_base';
SQL

sub customer
{
	my ($organization) = @_;
	my $id = sql("SELECT billing.create_customer('$organization', '$organization\@example.com', provider => 'polar')");

	await($id);
	return ($id, (at_polar('customers', "external_id=$id"))[0]);
}

# (our session, Polar's checkout)
sub checkout
{
	my ($customer) = @_;
	my $id = sql("SELECT billing.create_checkout_session('$customer', plan => 'pro', success_url => 'https://app.example.com/done')");

	await($id);
	return ($id, (at_polar('checkouts', "metadata.janua_session=$id"))[0]);
}

# An organisation with a subscription that it bought: (customer, customer there, our subscription, that there).
sub subscriber
{
	my ($customer, $there) = customer($_[0]);
	my ($session, $page) = checkout($customer);

	control('act', { provider => 'polar', action => 'complete_checkout', checkout => $page->{id} });
	hand_over($node, $simulator);
	my $subscription = sql("SELECT subscription_id FROM billing.checkout_sessions WHERE id = '$session'");
	return ($customer, $there, $subscription, (at_polar('subscriptions', "customer_id=$there->{id}"))[0]);
}

my ($customer, $customer_there, $subscription, $subscribed) = subscriber('org_1');
my ($order) = at_polar('orders', "subscription_id=$subscribed->{id}");
my ($product) = at_polar('products');
is(sql("SELECT status FROM billing.subscriptions WHERE id = '$subscription'"), 'active', 'a subscription is there');

# ---------------------------------------------------------------------------
# What the lines do

# A page of its own that is told to be so.
sub checkout_line
{
	my ($type, $fields, $expected) = @_;
	my ($buyer) = customer('org_page_' . ++$serial);
	my ($id, $page) = checkout($buyer);

	is(deliver($type, { %$page, %$fields }), 'applied', "$type is applied");
	is(sql("SELECT concat_ws(' ', status, payment_status) FROM billing.checkout_sessions WHERE id = '$id'"), $expected, "$type: $expected");
}

sub customer_line
{
	my ($type, $fields, $query, $expected) = @_;
	my ($id, $there) = customer('org_customer_' . ++$serial);

	is(deliver($type, { %$there, %$fields }), 'applied', "$type is applied");
	is(sql($query =~ s/:id/'$id'/gr), $expected, "$type: $expected");
}

# A further order of the subscription: its invoice and its payment.
sub order_line
{
	my ($type, $fields, $expected) = @_;
	my $id = new_uuid();

	is(deliver($type, { %$order, id => $id, billing_reason => 'subscription_cycle', metadata => {}, checkout_id => undef, refunded_amount => 0, refunded_tax_amount => 0,
				created_at => at(), %$fields }), 'applied', "$type is applied");
	is(sql("SELECT concat_ws(' ', i.status, i.amount_paid, p.status, p.amount_received, p.amount_refunded) FROM billing.invoices AS i JOIN billing.provider_refs AS r ON r.object_id = i.id "
			. "AND r.object_type = 'invoice' AND r.provider_id = '$id' JOIN billing.provider_refs AS q ON q.provider_id = '$id' AND q.object_type = 'payment_intent' "
			. 'JOIN billing.payment_intents AS p ON p.id = q.object_id'), $expected, "$type: invoice and payment are $expected");
	return $id;
}

# The one subscription, told to be so from now on.
sub subscription_line
{
	my ($type, $fields, $expected) = @_;

	$subscribed = { %$subscribed, %$fields };
	is(deliver($type, $subscribed), 'applied', "$type is applied");
	is(sql("SELECT concat_ws(' ', status, quantity, CASE WHEN cancel_at_period_end THEN 'to be canceled' END, "
			. "CASE WHEN current_period_end = '2031-01-01T00:00:00Z' THEN 'new period' END, CASE WHEN ended_at IS NOT NULL THEN 'ended' END) "
			. "FROM billing.subscriptions WHERE id = '$subscription'"), $expected, "$type: $expected");
}

my $refund = { id => new_uuid(), created_at => at(), metadata => {}, status => 'pending', reason => 'customer_request', amount => 1000, tax_amount => 0, currency => 'usd',
	order_id => $order->{id}, subscription_id => $subscribed->{id}, customer_id => $customer_there->{id}, revoke_benefits => $false, dispute => undef };

sub refund_line
{
	my ($type, $fields, $expected) = @_;

	$refund = { %$refund, %$fields };
	is(deliver($type, $refund), 'applied', "$type is applied");
	is(sql("SELECT concat_ws(' ', f.status, f.amount, d.status, p.status) FROM billing.refunds AS f JOIN billing.payment_intents AS p ON p.id = f.payment_intent_id "
			. "LEFT JOIN billing.disputes AS d ON d.id = f.dispute_id"), $expected, "$type: $expected");
}

sub ignored_line
{
	my ($type, $reason) = @_;

	like(deliver($type, { id => new_uuid(), created_at => at() }), $reason, "$type is without effect, and says why");
}

# ---------------------------------------------------------------------------
# The lines

my %next = (status => 'pending', paid => $false, due_amount => 2900);
my @LINES = (
	[ 'checkout.created', \&checkout_line, { status => 'open' }, 'open unpaid' ],
	[ 'checkout.updated', \&checkout_line, { status => 'confirmed' }, 'processing unpaid' ],
	[ 'checkout.updated', \&checkout_line, { status => 'succeeded' }, 'complete paid' ],
	[ 'checkout.updated', \&checkout_line, { status => 'failed' }, 'failed unpaid' ],
	[ 'checkout.expired', \&checkout_line, { status => 'expired' }, 'expired unpaid' ],
	[ 'customer.created', \&customer_line, { email => 'new@example.com' }, 'SELECT email FROM billing.customer_details WHERE id = :id', 'new@example.com' ],
	[ 'customer.updated', \&customer_line, { name => 'Ana María' }, 'SELECT name FROM billing.customer_details WHERE id = :id', 'Ana María' ],
	[ 'customer.deleted', \&customer_line, {}, 'SELECT deleted_at IS NOT NULL FROM billing.customers WHERE id = :id', 't' ],
	[ 'customer.state_changed', \&customer_line, { name => 'Luz', active_subscriptions => [], granted_benefits => [], active_meters => [] },
		'SELECT name FROM billing.customer_details WHERE id = :id', 'Luz' ],
	[ 'order.created', \&order_line, { %next }, 'open 0 pending 0 0' ],
	[ 'order.updated', \&order_line, { %next, next_payment_attempt_at => at() }, 'open 0 failed 0 0' ],
	[ 'order.updated', \&order_line, { %next, status => 'void' }, 'void 0 canceled 0 0' ],
	[ 'order.paid', \&order_line, { status => 'paid', paid => $true, due_amount => 0 }, 'paid 2900 succeeded 2900 0' ],
	[ 'order.refunded', \&order_line, { status => 'partially_refunded', paid => $true, due_amount => 0, refunded_amount => 900 }, 'paid 2900 partially_refunded 2900 900' ],
	[ 'order.refunded', \&order_line, { status => 'refunded', paid => $true, due_amount => 0, refunded_amount => 2900 }, 'paid 2900 refunded 2900 2900' ],
	[ 'subscription.created', \&subscription_line, {}, 'active 1' ],
	[ 'subscription.updated', \&subscription_line, { seats => 3 }, 'active 3' ],
	[ 'subscription.active', \&subscription_line, {}, 'active 3' ],
	[ 'subscription.cycled', \&subscription_line, { current_period_end => '2031-01-01T00:00:00Z' }, 'active 3 new period' ],
	[ 'subscription.canceled', \&subscription_line, { cancel_at_period_end => $true, canceled_at => at(), ends_at => '2031-01-01T00:00:00Z' }, 'active 3 to be canceled new period' ],
	[ 'subscription.uncanceled', \&subscription_line, { cancel_at_period_end => $false, canceled_at => undef, ends_at => undef }, 'active 3 new period' ],
	[ 'subscription.past_due', \&subscription_line, { status => 'past_due', past_due_at => at() }, 'past_due 3 new period' ],
	[ 'subscription.active', \&subscription_line, { status => 'active', past_due_at => undef }, 'active 3 new period' ],
	[ 'subscription.paused', \&subscription_line, { status => 'paused', paused_at => at() }, 'paused 3 new period' ],
	[ 'subscription.resumed', \&subscription_line, { status => 'active', paused_at => undef }, 'active 3 new period' ],
	[ 'subscription.revoked', \&subscription_line, { status => 'canceled', ended_at => at(), ends_at => at() }, 'canceled 3 new period ended' ],
	[ 'refund.created', \&refund_line, {}, 'pending 1000 succeeded' ],
	[ 'refund.updated', \&refund_line, { status => 'succeeded', dispute => { id => new_uuid(), created_at => at(), modified_at => undef, status => 'prevented', resolved => $true, closed => $true,
				amount => 1000, tax_amount => 0, currency => 'usd', reason => 'fraudulent', evidence_due_by => undef, past_due => $false, order_id => $order->{id}, payment_id => new_uuid() } },
		'succeeded 1000 prevented partially_refunded' ],
	[ 'product.created', sub { is(deliver($_[0], $product), 'applied', "$_[0] of ours is applied") } ],
	[ 'product.updated', sub { is(deliver($_[0], $product), 'applied', "$_[0] of ours is applied") } ],
	(map { [ $_, \&ignored_line, qr/^ignored discounts/ ] } grep { /^discount\./ } @NAMED),
	(map { [ $_, \&ignored_line, qr/^ignored what a plan gives/ ] } grep { /^benefit/ } @NAMED),
	(map { [ $_, \&ignored_line, qr/^ignored who has a seat/ ] } grep { /^customer_seat\./ } @NAMED),
	(map { [ $_, \&ignored_line, qr/^ignored members/ ] } grep { /^member\./ } @NAMED),
	[ 'organization.updated', \&ignored_line, qr/^ignored the account is configured here/ ],
);

foreach my $line (@LINES)
{
	my ($type, $run, @arguments) = @$line;

	$run->($type, @arguments);
}
my %has_line = map { $_->[0] => 1 } @LINES;
is(join(' ', grep { !$has_line{$_} } @NAMED), '', 'every type that is named has a line');
is(sql("SELECT string_agg(DISTINCT type, ' ') FROM billing.webhook_events WHERE reason LIKE '%does not know%'"), '', 'and is known');
is(deliver('order.teleported', {}), 'ignored a type of event that this version does not know', 'one that is not named says something else');
is(deliver('customer.created', { id => new_uuid(), created_at => at(), external_id => undef, email => 'x@example.com' }), 'ignored made by others', 'customers of others are theirs');
is(deliver('product.updated', { id => new_uuid(), created_at => at(), metadata => {} }), 'applied nothing newer than what is here', 'and so are their products');

# ---------------------------------------------------------------------------
# The state of a customer repairs what was lost

sub state_of
{
	my ($there, @active) = @_;
	my @fields = qw(id created_at modified_at metadata status amount currency recurring_interval current_period_start current_period_end trial_start trial_end
	  cancel_at_period_end canceled_at started_at ends_at product_id discount_id);

	return { %$there, active_subscriptions => [ map { my $s = $_; +{ (map { $_ => $s->{$_} } @fields), meters => [] } } @active ], granted_benefits => [], active_meters => [] };
}

sub fetches { return sql("SELECT count(*) FROM billing.outbox_finished WHERE object_id = '$_[0]' AND operation = 'subscription.fetch'") }

# Forgets the events that came up meanwhile: they were lost.
sub lose_events
{
	my $events = control('events?limit=100000');

	$simulator->{handed_over} = $events->[-1]{seq};
}

my ($owner, $owner_there, $kept, $kept_there) = subscriber('org_2');
deliver('customer.state_changed', state_of($owner_there, $kept_there), as_it_is => 1);
await($kept);
is(fetches($kept), '0', 'a subscription that is listed as we know it is not asked for');
is(sql("SELECT pause_at_period_end, cancel_at_period_end, status FROM billing.subscriptions WHERE id = '$kept'"), 'f|f|active', 'and stays as it is');

# what changes there is of a later second than what we know
$node->poll_query_until('postgres', "SELECT clock_timestamp() >= date_trunc('second', as_of) + interval '1 second' FROM billing.provider_refs WHERE object_id = '$kept'");
control('call', { provider => 'polar', method => 'PATCH', path => "/v1/subscriptions/$kept_there->{id}", params => { cancel_at_period_end => $true } });
lose_events();
($kept_there) = at_polar('subscriptions', "id=$kept_there->{id}");
is(deliver('customer.state_changed', state_of($owner_there, $kept_there), as_it_is => 1), 'applied', 'one that was changed since');
await($kept);
is(fetches($kept), '1', 'is asked for');
is(sql("SELECT cancel_at_period_end FROM billing.subscriptions WHERE id = '$kept'"), 't', 'and so the change is known');

control('call', { provider => 'polar', method => 'DELETE', path => "/v1/subscriptions/$kept_there->{id}", params => {} });
lose_events();
deliver('customer.state_changed', state_of($owner_there), as_it_is => 1);
is(sql("SELECT status FROM billing.subscriptions WHERE id = '$kept'") =~ /^(active|canceled)$/ ? 1 : 0, 1, 'one that is not listed is not ended by that alone');
await($kept);
is(fetches($kept), '2', 'but asked for');
is(sql("SELECT status, ended_at IS NOT NULL FROM billing.subscriptions WHERE id = '$kept'"), 'canceled|t', 'and so its end is known');

my ($loser, $loser_there) = customer('org_3');
my ($page_id, $page) = checkout($loser);
control('act', { provider => 'polar', action => 'complete_checkout', checkout => $page->{id} });
lose_events();
my ($lost_there) = at_polar('subscriptions', "customer_id=$loser_there->{id}");
is(deliver('customer.state_changed', state_of($loser_there, $lost_there), as_it_is => 1), 'applied', 'one whose events were all lost');
my $lost = sql("SELECT object_id FROM billing.provider_refs WHERE provider_id = '$lost_there->{id}' AND object_type = 'subscription'");
is($lost, sql("SELECT subscription_id FROM billing.checkout_sessions WHERE id = '$page_id'"), 'is the one that waited for its buyer');
await($lost);
is(sql("SELECT status FROM billing.subscriptions WHERE id = '$lost'"), 'active', 'and runs');
is(fetches($lost), '1', 'the whole of it is asked for');
is(sql("SELECT count(*) FROM billing.webhook_events WHERE state = 'failed'"), '0', 'no event fails') or diag(sql("SELECT type, reason FROM billing.webhook_events WHERE state = 'failed'"));
is(control('violations')->{count}, 0, 'every request matches the document');

done_testing();

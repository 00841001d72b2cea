# Every type of event of Conekta and what it does to our rows: one line each, in
# the order in which they are documented. Then amounts that differ from ours.
use strict;
use warnings;
use utf8;

use Encode qw(decode_utf8 encode_utf8);
use JanuaTest;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;

# Everything that the documentation names; of a family that it names by its
# beginning (webhook.*), one. Each has to have a line below, and to be known.
my @NAMED = qw(
  order.created order.pending_payment charge.created charge.pending_confirmation
  order.pre_authorized charge.preauthorized order.under_fraud_review charge.under_fraud_review
  order.paid charge.paid order.declined charge.declined order.fraudulent charge.fraudulent
  order.expired charge.expired order.canceled charge.canceled order.voided
  order.refunded charge.refunded order.partially_refunded charge.reversed
  order.charged_back charge.chargeback.created charge.chargeback.under_review charge.chargeback.updated
  charge.chargeback.won charge.chargeback.lost order.updated charge.score_updated
  subscription.created subscription.updated subscription.paid subscription.payment_failed subscription.paused
  subscription.resumed subscription.canceled subscription.cancelled subscription.expired
  customer.created customer.updated customer.deleted customer.payment_source.card.blocked
  plan.created plan.updated plan.deleted webhook.created receipt.created payout.created payee.created
  cashout.created webhook_ping);

my $simulator = start_simulator();
my $node = new_node('main');
my $serial = 0;

sub sql { return decode_utf8($node->safe_psql('postgres', encode_utf8($_[0]))) }
sub await { return sql("SELECT billing.await('$_[0]', '60 seconds')") }
sub control { return $simulator->control(@_) }
sub there { return (@{ control("objects/$_[0]?provider=conekta&id=$_[1]") })[0] }
sub edit { return control('edit', { provider => 'conekta', kind => $_[0], id => $_[1], fields => $_[2] }) }

sub id_at
{
	my ($type, $id) = @_;

	return sql("SELECT provider_id FROM billing.provider_refs WHERE object_type = '$type' AND object_id = '$id'");
}

# Delivers a signed event about this object, made a moment from now: "state reason".
sub deliver
{
	my ($type, $object, %more) = @_;
	my $id = control('emit', { provider => 'conekta', type => $type, object => $object, created => time + 2, %more })->{id};
	my ($event) = grep { $_->{id} eq $id } @{ control("events?provider=conekta&type=$type") };
	my (undef, undef, $errors) = webhook($node, 'conekta', encode_utf8($event->{body}), $event->{headers});

	return $errors if $errors;
	return sql("SELECT concat_ws(' ', state, reason) FROM billing.webhook_events WHERE event_id = '$id'");
}

my ($key) = grep { $_->{active} } @{ control('signing_keys?provider=conekta') };
my $url = $simulator->url . '/conekta';
sql("SELECT billing.configure_provider('conekta', 'key_test', webhook_secret => '$key->{public_key}', base_url => '$url', options => '{\"sandbox\": true, \"rate_per_second\": 0}')");
sql("UPDATE billing.settings SET value = '20 milliseconds' WHERE name = 'retry_base'");

sub customer
{
	my $organization = 'org_' . ++$serial;
	my $id = sql("SELECT billing.create_customer('$organization', '$organization\@example.com', name => 'Ana Pérez', phone => '+525512345678', provider => 'conekta', currency => 'MXN')");

	await($id);
	return ($id, $organization);
}

my ($customer, $organization) = customer();

# ---------------------------------------------------------------------------
# What an event is about: made anew for each line

my $pay = "SELECT billing.create_payment_intent('$customer', 25000, 'MXN'";
my %MAKE = (
	bare => sub { "$pay)" },
	oxxo => sub { "$pay, method => 'oxxo', confirm => true)" },
	paid => sub { "$pay, payment_method => 'tok_test_visa_4242_" . ++$serial . "', confirm => true)" },
);

# (our id, the order as Conekta shows it)
sub payment
{
	my $id = sql($MAKE{ $_[0] }->());

	await($id);
	return ($id, there('orders', id_at('payment_intent', $id)));
}

sub charge_of { return $_[0]{charges}{data}[0] }

# The order with one charge in this state; of cash, to be paid to a reference.
sub with_charge
{
	my ($order, $status, %more) = @_;

	return {
		%$order,
		payment_status => $status,
		charges => { object => 'list', has_more => JSON::PP::false, total => 1, data => [ {
			object => 'charge', id => sprintf('%024x', ++$serial), order_id => $order->{id}, status => $status, amount => 25000, currency => 'MXN', livemode => JSON::PP::false,
			created_at => time, payment_method => { object => 'cash_payment', type => 'cash', reference => '93000262276908', barcode_url => 'https://barcodes.example.com/1.png', expires_at => time + 86400 },
			%more } ] },
	};
}

my $PAYMENT = "concat_ws(' ', status, nullif(amount_received, 0), nullif(amount_refunded, 0), error_code, cancellation_reason)";

# An event about an order that carries all there is to say.
sub order_line
{
	my ($type, $fixture, $make, $expected) = @_;
	my ($id, $order) = payment($fixture);

	is(deliver($type, $make->($order)), 'applied', "$type is applied");
	is(sql("SELECT $PAYMENT FROM billing.payment_intents WHERE id = '$id'"), $expected, "$type: $expected");
	return ($id, $order);
}

# An event about a charge: the order is asked for unless it is known to stand so.
sub charge_line
{
	my ($type, $status, $expected, $asked) = @_;
	my ($id, $order) = payment('oxxo');
	my $charge = charge_of($order);

	edit('charges', $charge->{id}, { status => $status, $status eq 'paid' ? (paid_at => time) : () });
	edit('orders', $order->{id}, { payment_status => $status });
	is(deliver($type, { %$charge, status => $status }), $asked ? 'applied the provider is asked' : 'applied nothing newer than what is here', "$type is taken as a hint");
	await($id);
	is(sql("SELECT status FROM billing.payment_intents WHERE id = '$id'"), $expected, "$type: $expected, as the order says");
	is(sql("SELECT count(*) FROM billing.outbox_finished WHERE object_id = '$id' AND operation = 'payment_intent.fetch'"), $asked, $asked ? "$type: it was asked for" : "$type: nobody asked for what is known");
}

# What a charge alone tells of a paid order.
sub money_line
{
	my ($type, $fields, $query, $expected) = @_;
	my ($id, $order) = payment('paid');

	is(deliver($type, { %{ charge_of($order) }, %$fields }), 'applied', "$type is applied");
	is(sql($query =~ s/:id/'$id'/gr), $expected, "$type: $expected");
}

sub chargeback { return { chargeback => { object => 'chargeback', id => 'chbk_' . ++$serial, @_ } } }
my $DISPUTE = "SELECT concat_ws(' ', status, amount, CASE WHEN funds_withdrawn_at IS NOT NULL THEN 'withdrawn' END, CASE WHEN funds_reinstated_at IS NOT NULL THEN 'back' END) FROM billing.disputes WHERE payment_intent_id = :id";

my $subscription;
my $subscribed;

# An event about the one subscription that there is now; made where there is none.
sub subscription_line
{
	my ($type, $fields, $expected) = @_;

	if (!defined $subscription)
	{
		$subscription = sql("SELECT billing.subscribe('$organization', 'mx')");
		await($subscription);
		$subscribed = there('subscriptions', id_at('subscription', $subscription));
	}
	$subscribed = { %$subscribed, %$fields };
	is(deliver($type, $subscribed, created => time + 10 + ++$serial), 'applied', "$type is applied");
	is(sql("SELECT concat_ws(' ', status, CASE WHEN current_period_end = to_timestamp(1900000000) THEN 'new cycle' END) FROM billing.subscriptions WHERE id = '$subscription'"), $expected, "$type: $expected");
	undef $subscription if $expected =~ /^canceled/;
}

# An event about a customer made for it; $check is run with its id.
sub customer_line
{
	my ($type, $fields, $query, $expected) = @_;
	my ($id) = customer();

	is(deliver($type, { %{ there('customers', id_at('customer', $id)) }, %$fields }), 'applied', "$type is applied");
	is(sql($query =~ s/:id/'$id'/gr), $expected, "$type: $expected");
}

sub ignored_line
{
	my ($type, $object, $reason) = @_;

	like(deliver($type, $object), $reason, "$type is without effect, and says why");
}

sql("SELECT billing.create_plan('mx', 'México', 29900, 'MXN')");
my $card = sql("SELECT billing.attach_payment_method('$customer', 'tok_test_visa_4242_card')");
await($card);

# ---------------------------------------------------------------------------
# The lines

my @LINES = (
	[ 'order.created', \&order_line, 'bare', sub { $_[0] }, 'pending' ],
	[ 'order.pending_payment', \&order_line, 'bare', sub { with_charge($_[0], 'pending_payment') }, 'requires_action' ],
	[ 'charge.created', \&charge_line, 'pending_payment', 'requires_action', 0 ],
	[ 'charge.pending_confirmation', \&charge_line, 'pending_confirmation', 'requires_action', 0 ],
	[ 'order.pre_authorized', \&order_line, 'bare', sub { with_charge($_[0], 'pre_authorized') }, 'requires_capture' ],
	[ 'charge.preauthorized', \&charge_line, 'pre_authorized', 'requires_capture', 1 ],
	[ 'order.under_fraud_review', \&order_line, 'bare', sub { with_charge($_[0], 'under_fraud_review') }, 'processing' ],
	[ 'charge.under_fraud_review', \&charge_line, 'under_fraud_review', 'processing', 1 ],
	[ 'order.paid', \&order_line, 'bare', sub { with_charge($_[0], 'paid', paid_at => time) }, 'succeeded 25000' ],
	[ 'charge.paid', \&charge_line, 'paid', 'succeeded', 1 ],
	[ 'order.declined', \&order_line, 'bare', sub { with_charge($_[0], 'declined', failure_code => 'insufficient_funds') }, 'failed insufficient_funds' ],
	[ 'charge.declined', \&charge_line, 'declined', 'failed', 1 ],
	[ 'order.fraudulent', \&order_line, 'bare', sub { with_charge($_[0], 'fraudulent', failure_code => 'suspected_fraud') }, 'failed suspected_fraud' ],
	[ 'charge.fraudulent', \&charge_line, 'fraudulent', 'failed', 1 ],
	[ 'order.expired', \&order_line, 'oxxo', sub { with_charge($_[0], 'expired') }, 'canceled expired' ],
	[ 'charge.expired', \&charge_line, 'expired', 'canceled', 1 ],
	[ 'order.canceled', \&order_line, 'bare', sub { +{ %{ $_[0] }, payment_status => 'canceled' } }, 'canceled canceled' ],
	[ 'charge.canceled', \&charge_line, 'canceled', 'canceled', 1 ],
	[ 'order.voided', \&order_line, 'bare', sub { with_charge($_[0], 'voided') }, 'canceled voided' ],
	[ 'order.refunded', \&order_line, 'paid', sub { +{ %{ $_[0] }, payment_status => 'refunded', amount_refunded => 25000 } }, 'refunded 25000 25000' ],
	[ 'charge.refunded', \&money_line, { status => 'partially_refunded', refunds => { object => 'list', data => [ { object => 'refund', id => 'ref_1', amount => -8000, status => 'refunded', created_at => time } ] } },
		"SELECT concat_ws(' ', f.status, f.amount, p.status) FROM billing.refunds AS f JOIN billing.payment_intents AS p ON p.id = f.payment_intent_id WHERE p.id = :id", 'succeeded 8000 partially_refunded' ],
	[ 'order.partially_refunded', \&order_line, 'paid', sub { +{ %{ $_[0] }, payment_status => 'partially_refunded', amount_refunded => 10000 } }, 'partially_refunded 25000 10000' ],
	[ 'charge.reversed', \&money_line, { status => 'reversed' }, "SELECT $PAYMENT FROM billing.payment_intents WHERE id = :id", 'refunded 25000 25000' ],
	[ 'order.charged_back', sub {
		my ($id) = order_line($_[0], 'paid', sub { with_charge($_[0], 'charged_back', %{ chargeback(status => 'lost') }) }, 'succeeded 25000');
		is(sql($DISPUTE =~ s/:id/'$id'/r), 'lost 25000 withdrawn', "$_[0]: its chargeback is a dispute that is lost");
	} ],
	[ 'charge.chargeback.created', \&money_line, chargeback(), $DISPUTE, 'needs_response 25000' ],
	[ 'charge.chargeback.under_review', \&money_line, chargeback(status => 'pending_review'), $DISPUTE, 'under_review 25000' ],
	[ 'charge.chargeback.updated', \&money_line, chargeback(status => 'represented'), $DISPUTE, 'under_review 25000' ],
	[ 'charge.chargeback.won', \&money_line, chargeback(status => 'won'), $DISPUTE, 'won 25000 back' ],
	[ 'charge.chargeback.lost', \&money_line, chargeback(), $DISPUTE, 'lost 25000 withdrawn' ],
	[ 'order.updated', \&order_line, 'bare', sub { with_charge($_[0], 'pending_payment') }, 'requires_action' ],
	[ 'charge.score_updated', \&ignored_line, { object => 'charge', id => 'x' }, qr/^ignored scores of fraud/ ],
	[ 'subscription.created', \&subscription_line, {}, 'active' ],
	[ 'subscription.updated', \&subscription_line, { status => 'active' }, 'active' ],
	[ 'subscription.payment_failed', \&subscription_line, { status => 'past_due' }, 'past_due' ],
	[ 'subscription.paid', \&subscription_line, { status => 'active', billing_cycle_start => 1890000000, billing_cycle_end => 1900000000 }, 'active new cycle' ],
	[ 'subscription.paused', \&subscription_line, { status => 'paused' }, 'paused new cycle' ],
	[ 'subscription.resumed', \&subscription_line, { status => 'active' }, 'active new cycle' ],
	[ 'subscription.canceled', \&subscription_line, { status => 'canceled', canceled_at => time }, 'canceled new cycle' ],
	[ 'subscription.cancelled', \&subscription_line, { status => 'canceled', canceled_at => time }, 'canceled' ],
	[ 'subscription.expired', \&subscription_line, { status => 'expired' }, 'canceled' ],
	[ 'customer.created', \&customer_line, { email => 'new@example.com' }, "SELECT email FROM billing.customer_details WHERE id = :id", 'new@example.com' ],
	[ 'customer.updated', \&customer_line, { name => 'Ana María' }, "SELECT name FROM billing.customer_details WHERE id = :id", 'Ana María' ],
	[ 'customer.deleted', \&customer_line, {}, "SELECT deleted_at IS NOT NULL FROM billing.customers WHERE id = :id", 't' ],
	[ 'customer.payment_source.card.blocked', sub {
		is(deliver($_[0], { object => 'payment_source', id => id_at('payment_method', $card), type => 'card', parent_id => id_at('customer', $customer) }), 'applied', "$_[0] is applied");
		is(sql("SELECT state, error_code FROM billing.payment_methods WHERE id = '$card'"), 'failed|card_blocked', "$_[0]: it cannot be charged any more");
	} ],
	[ 'plan.created', sub { is(deliver($_[0], (@{ control('objects/plans?provider=conekta') })[0]), 'applied', "$_[0] of ours is applied") } ],
	[ 'plan.updated', \&ignored_line, { object => 'plan', id => 'gold-plan', amount => 1 }, qr/^applied nothing newer/ ],
	[ 'plan.deleted', sub { is(deliver($_[0], (@{ control('objects/plans?provider=conekta') })[0], created => time + 90), 'applied', "$_[0] of ours is applied") } ],
	[ 'webhook.created', \&ignored_line, {}, qr/^ignored endpoints are read/ ],
	[ 'receipt.created', \&ignored_line, {}, qr/^ignored receipts/ ],
	[ 'payout.created', \&ignored_line, {}, qr/^ignored payouts/ ],
	[ 'payee.created', \&ignored_line, {}, qr/^ignored payouts/ ],
	[ 'cashout.created', \&ignored_line, {}, qr/^ignored payouts/ ],
	[ 'webhook_ping', \&ignored_line, {}, qr/^ignored a test of the endpoint/ ],
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
is(deliver('customer.created', { object => 'customer', id => 'cus_others', email => 'x@example.com' }), 'ignored made by others', 'customers of others are theirs');

# ---------------------------------------------------------------------------
# A charge without its order, and refunds that are not listed

my ($id, $order) = payment('paid');
edit('orders', $order->{id}, { payment_status => 'refunded', amount_refunded => 25000 });
is(deliver('charge.refunded', { object => 'charge', id => charge_of($order)->{id}, status => 'refunded' }), 'applied the provider is asked', 'a charge that tells no order and no refund is a hint');
await($id);
is(sql("SELECT status, amount_refunded FROM billing.payment_intents WHERE id = '$id'"), 'refunded|25000', 'what was given back the order says');
is(deliver('charge.paid', { object => 'charge', id => 'unknown', order_id => 'ord_unknown', status => 'paid' }), 'waiting an object that is not known here', 'a charge of an unknown order waits for it');

# ---------------------------------------------------------------------------
# Amounts: what is paid is booked, and what was asked for stands beside it

my $ATTENTION = "SELECT count(*) FROM billing.attention WHERE what = 'payment differs from what was asked for' AND object_id =";
($id, $order) = payment('bare');
is(deliver('order.paid', { %{ with_charge($order, 'paid', amount => 24000) }, amount => 24000 }), 'applied', 'an order that was paid with less than we asked for');
is(sql("SELECT status, amount_received, asked_amount, asked_currency FROM billing.payment_intents WHERE id = '$id'"), 'succeeded|24000|25000|MXN', 'is booked as it was paid');
is(sql("SELECT count(*) FROM billing.events WHERE id = '$id' AND type = 'payment_intent.amount_differs'"), '1', 'an event says so');
is(sql("$ATTENTION '$id'"), '1', 'a person is told');
is(sql("SELECT count(*) FROM (SELECT FROM billing.outbox WHERE object_id = '$id' UNION ALL SELECT FROM billing.outbox_finished WHERE object_id = '$id' AND operation = 'payment_intent.fetch') AS f"), '1', 'and Conekta is asked');
($id, $order) = payment('bare');
deliver('order.paid', { %{ with_charge($order, 'paid', currency => 'USD') }, currency => 'USD' });
is(sql("SELECT status, amount_received, currency, asked_currency FROM billing.payment_intents WHERE id = '$id'"), 'succeeded|25000|USD|MXN', 'another currency is not taken for ours');
is(sql("$ATTENTION '$id'"), '1', 'which a person is told, too');
($id, $order) = payment('bare');
my $split = with_charge($order, 'paid', amount => 15000);
push @{ $split->{charges}{data} }, { %{ charge_of($split) }, id => sprintf('%024x', ++$serial), amount => 10000, created_at => time + 1 };
deliver('order.paid', $split);
is(sql("SELECT status, amount_received, asked_amount FROM billing.payment_intents WHERE id = '$id'"), 'succeeded|25000|', 'the charges of a split order count together');
my ($one, $other) = @{ $split->{charges}{data} };
my $fee = "SELECT concat(fee_amount, fee_currency) FROM billing.payment_intents WHERE id = '$id'";
$one->{fee} = 700;
deliver('order.updated', $split, created => time + 3);
is(sql($fee), '', 'of their fees one is not known');
$other->{fee} = 500;
deliver('order.updated', $split, created => time + 4);
is(sql($fee), '1200MXN', 'when both are, they count together');
$other->{fee} = 450;
deliver('order.updated', $split, created => time + 5);
is(sql("SELECT string_agg(debit || ' ' || amount, ', ' ORDER BY id) FROM billing.ledger WHERE payment_intent_id = '$id' AND kind = 'fee'"), 'provider_fees 1200, cash 50', 'of a fee that changes the difference is booked');
$id = sql("$pay, payment_method => 'tok_test_visa_4242_part', confirm => true, capture_method => 'manual')");
await($id);
sql("SELECT billing.capture_payment_intent('$id', 20000)");
await($id);
is(sql("SELECT status, amount_received, asked_amount FROM billing.payment_intents WHERE id = '$id'"), 'succeeded|20000|', 'a part that we captured ourselves is what we asked for');

# ---------------------------------------------------------------------------
# Several active keys: any of them may sign

my ($first) = grep { $_->{active} } @{ control('signing_keys?provider=conekta') };
control('call', { provider => 'conekta', method => 'POST', path => '/webhook_keys', params => { active => JSON::PP::true } });
control('call', { provider => 'conekta', method => 'POST', path => '/webhook_keys', params => { active => JSON::PP::true } });
my $hook = sql("SELECT billing.register_webhook('conekta', 'https://hooks.example.com/conekta')");
is(await($hook), 'active', 'an endpoint is registered while three keys are active');
sql("UPDATE billing.provider_accounts SET previous_webhook_secret = NULL, previous_webhook_secret_until = NULL WHERE provider = 'conekta'");
my @active = grep { $_->{active} } @{ control('signing_keys?provider=conekta') };
is(scalar @active, 3, 'three keys sign');
foreach my $signer (@active)
{
	control('webhooks', { secrets => { conekta => [ $signer->{private_key} ] } });
	like(deliver('webhook_ping', {}), qr/^ignored/, "an event signed by key $signer->{id} is known");
}
sql("SELECT billing.rotate_webhook_secret('$hook')");
is(await($hook), 'active', 'the keys are changed');
like(deliver('webhook_ping', {}), qr/^ignored/, 'those that there were still count for a day');
sql("UPDATE billing.provider_accounts SET previous_webhook_secret_until = now() - interval '1 second' WHERE provider = 'conekta'");
like(deliver('webhook_ping', {}), qr/not signed with our secret/, 'and then no more');

done_testing();

# Webhooks without a signature, at an account that takes them: hints what to ask
# the provider for, and nothing more.
use strict;
use warnings;
use utf8;

use Encode qw(decode_utf8 encode_utf8);
use JanuaTest;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main');

sub sql { return decode_utf8($node->safe_psql('postgres', encode_utf8($_[0]))) }
sub await { return sql("SELECT billing.await('$_[0]', '60 seconds')") }
sub control { return $simulator->control(@_) }

# What handle_webhook() says of this event, unsigned unless headers are given: "id|type|status" or its error.
sub deliver
{
	my ($event, %headers) = @_;
	my (undef, $output, $errors) = webhook($node, 'conekta', JSON::PP->new->utf8->canonical->encode($event), \%headers);

	return $errors || $output;
}

my $number = 0;

sub event
{
	my ($type, $object) = @_;

	return { id => sprintf('%024x', ++$number), object => 'event', type => $type, created_at => time, livemode => JSON::PP::false, data => { object => $object } };
}

sub refusal
{
	my (undef, undef, $errors) = $node->psql('postgres', "\\set VERBOSITY verbose\n" . encode_utf8($_[0]));

	return decode_utf8($errors);
}

sub configure { return "SELECT billing.configure_provider('conekta', 'key_test', base_url => '" . $simulator->url . "/conekta', options => '{\"sandbox\": true, \"rate_per_second\": 0, $_[0]}')" }

# ---- the option ----

like(refusal(configure('"verify": "never"')), qr/22023.*verify is api/s, 'the option verify is api');
like(refusal(configure('"verify": true')), qr/22023/, 'and nothing else');
sql(configure('"verify": null'));
sql("UPDATE billing.settings SET value = '20 milliseconds' WHERE name = 'retry_base'");
my $customer = sql("SELECT billing.create_customer('org_1', 'a\@example.com', name => 'Ana Pérez', phone => '+525512345678', provider => 'conekta', currency => 'MXN')");
await($customer);
my $payment = sql("SELECT billing.create_payment_intent('$customer', 25000, 'MXN', method => 'oxxo', confirm => true)");
await($payment);
my $order_id = sql("SELECT provider_id FROM billing.provider_refs WHERE object_type = 'payment_intent' AND object_id = '$payment'");
my $order = { object => 'order', id => $order_id, payment_status => 'paid', amount => 1, currency => 'USD', livemode => JSON::PP::false, metadata => { janua_ref => $payment },
	customer_info => { customer_id => 'cus_nobody' } };

sub fetches { return sql("SELECT (SELECT count(*) FROM billing.outbox WHERE operation LIKE '%.fetch') + (SELECT count(*) FROM billing.outbox_finished WHERE operation LIKE '%.fetch')") }

like(deliver(event('order.paid', $order)), qr/no webhook secret of conekta is configured/, 'without the option and without a key nothing is taken');
my ($key) = grep { $_->{active} } @{ control('signing_keys?provider=conekta') };
sql("SELECT billing.configure_provider('conekta', webhook_secret => '$key->{public_key}')");
like(deliver(event('order.paid', $order)), qr/is not signed with our secret.*signature header is missing/s, 'without the option a missing signature is refused');
is(sql('SELECT count(*) FROM billing.webhook_events'), '0', 'and nothing is kept');

# ---- a hint ----

sql(configure('"verify": "api"'));
is(deliver(event('order.paid', $order)), "unsigned|order.paid|ignored", 'with it a webhook without a signature is taken, and its sender learns nothing');
is(sql("SELECT state || ': ' || reason FROM billing.webhook_events"), 'applied: not signed: the provider is asked for its object', 'as a hint');
await($payment);
is(sql("SELECT status, amount_received, currency FROM billing.payment_intents WHERE id = '$payment'"), 'requires_action|0|MXN', 'that nobody believes');
is(fetches(), '1', 'but looks into');
is(sql("SELECT raw_body IS NULL FROM billing.webhook_events"), 't', 'what it said is not kept');
like(refusal("SELECT billing.verify_webhook('conekta', '{}', '{}')"), qr/^$/, 'verify_webhook() raises nothing');
is(sql("SELECT billing.verify_webhook('conekta', '{}', '{}')"), 'f', 'and says that it is not signed');

my ($there) = grep { $_->{id} eq $order_id } @{ control('objects/orders?provider=conekta') };
control('act', { provider => 'conekta', action => 'pay_reference', reference => $there->{charges}{data}[0]{payment_method}{reference} });
is(deliver(event('charge.paid', { object => 'charge', id => $there->{charges}{data}[0]{id}, order_id => $order_id, status => 'declined' })), "unsigned|charge.paid|ignored", 'a charge is a hint about its order');
await($payment);
is(sql("SELECT status, amount_received FROM billing.payment_intents WHERE id = '$payment'"), 'succeeded|25000', 'what the order says is taken over');
is(deliver(event('charge.chargeback.created', { object => 'chargeback', id => 'chbk_1', charge_id => $there->{charges}{data}[0]{id}, status => 'lost' })), "unsigned|charge.chargeback.created|ignored", 'so is a chargeback, by its charge');
await($payment);
is(sql('SELECT count(*) FROM billing.disputes'), '0', 'that the order knows nothing of');

# ---- none of ours ----

my $before = fetches();
like(deliver(event('order.paid', { %$order, id => 'ord_unknown' })), qr/^unsigned\|order\.paid\|ignored$/, 'an object that is not known here is ignored, whatever reference it carries');
is(sql("SELECT reason FROM billing.webhook_events WHERE event_id = 'unsigned:ignored'"), 'not signed, and about an object that is not known here', 'with the reason');
like(deliver(event('plan.updated', { object => 'plan', id => 'gold' })), qr/\|ignored$/, 'so is one that nobody can be asked for');
like(deliver(event('webhook_ping', {})), qr/\|ignored$/, 'so is a ping');
like(sql("SELECT reason FROM billing.webhook_events WHERE event_id = 'unsigned:ignored'"), qr/^not signed; a test of the endpoint/, 'which says so');
like(deliver({ %{ event('order.paid', $order) }, livemode => JSON::PP::true }), qr/\|ignored$/, 'a live event is none of a test account');
is(fetches(), $before, 'nobody is asked');

# ---- what is no event, or wrongly signed ----

like(deliver({ hello => 'world' }), qr/signature header is missing|no webhook secret/, 'what is no event is refused');
like(deliver(event('x' x 200, $order)), qr/signature header is missing|no webhook secret/, 'so is a type of any length');
sql("SELECT billing.configure_provider('conekta', webhook_secret => '$key->{public_key}')");
like(deliver(event('order.paid', $order), Digest => 'AAAA' x 86), qr/is not signed with our secret/, 'a wrong signature is no missing one');

# ---- a flood ----

my $later = sql("SELECT billing.create_payment_intent('$customer', 25000, 'MXN')");
await($later);
my $second = { %$order, id => sql("SELECT provider_id FROM billing.provider_refs WHERE object_type = 'payment_intent' AND object_id = '$later'") };
# nobody sends meanwhile: another account's key would do as well
sql("UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'test' WHERE provider = 'conekta'");
my $rows = sql('SELECT count(*) FROM billing.webhook_events');
deliver(event('order.updated', $second)) for 1 .. 20;
is(sql("SELECT count(*) FROM billing.outbox WHERE object_id = '$later'"), '1', 'twenty hints about one object are one question');
is(sql('SELECT count(*) FROM billing.webhook_events') - $rows, 1, 'and one row');
is(sql("SELECT attempts FROM billing.webhook_events WHERE event_id = 'unsigned:order.updated:$later'"), '20', 'that counts them');
deliver(event('order.updated', { %$second, id => "ord_$_" })) for 1 .. 20;
is(sql('SELECT count(*) FROM billing.webhook_events') - $rows, 1, 'what is not ours fills nothing');

# ---- a signed one beside it ----

sql("UPDATE billing.provider_accounts SET stopped_at = NULL, stopped_reason = NULL WHERE provider = 'conekta'");
control('emit', { provider => 'conekta', type => 'customer.updated', object => (grep { $_->{id} } @{ control('objects/customers?provider=conekta') })[0] });
my $signed = (@{ control('events?provider=conekta&type=customer.updated') })[-1];
my (undef, $output) = webhook($node, 'conekta', encode_utf8($signed->{body}), $signed->{headers});
like($output, qr/^\Q$signed->{id}\E\|customer\.updated\|applied/, 'a signed webhook is taken at its word');

# ---- two accounts ----

sql("SELECT billing.configure_provider('conekta', 'key_other', account => 'alpha', base_url => '" . $simulator->url . "/conekta', options => '{\"sandbox\": true, \"verify\": \"api\"}')");
deliver(event('order.updated', $second));
is(sql("SELECT account FROM billing.webhook_events WHERE event_id = 'unsigned:order.updated:$later'"), 'default', 'of several accounts the one that knows the object is asked');
is($simulator->control('violations')->{count}, 0, 'every request matches the document');

done_testing();

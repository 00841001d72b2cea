# What goes over the wire is, byte for byte, what Stripe's own client sends for
# the same call.
use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use IPC::Run ();
use JSON::PP ();
use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main');
my $sdk = "$ENV{JANUA_SIMULATOR}/sdk_bytes.js";

sub sql { return $node->safe_psql('postgres', encode_utf8($_[0])) }

sub ref_of { return sql("SELECT provider_id FROM billing.provider_refs WHERE object_id = '$_[0]' AND object_type = '$_[1]'") }

# The calls of Stripe's client, as JSON text because the order of parameters
# counts, and beside each the request that ours became.
my (@calls, @ours);
my $seen = 0;

# The requests since the last time, in their order.
sub new_requests
{
	my $requests = $simulator->control("requests?after=$seen");

	$seen = $requests->[-1]{seq} if @$requests;
	return @$requests;
}

# One call in SQL, and what Stripe's client is asked for in its place: pairs of
# a method and its arguments, one for each request that follows.
sub same
{
	my ($name, $object, @pairs) = @_;

	sql("SELECT billing.await('$object', '30 seconds')") if $object;
	my @requests = new_requests();
	is(scalar @requests, @pairs / 2, "$name: as many requests as expected")
	  or diag(join "\n", map { "$_->{method} $_->{path} $_->{body}" } @requests);
	for my $i (0 .. @pairs / 2 - 1)
	{
		my ($call, $arguments) = @pairs[ 2 * $i, 2 * $i + 1 ];

		push @calls, qq({"name": "$name: $call", "call": "$call", "arguments": [$arguments]});
		push @ours, $requests[$i] || {};
	}
}

configure_stripe($node, $simulator);

# ---- customers ----

my $minimal = sql("SELECT billing.create_customer('org_minimal')");
same('a customer without data', $minimal,
	'customers.create', qq({"metadata": {"janua_ref": "$minimal", "organization_id": "org_minimal"}}));

my $customer = sql(<<'SQL');
SELECT billing.create_customer('org/1 ñ', 'niño+tag@example.com', $$A B+C&=é~!*()' ✓ 日本 😀$$, 'MX', phone => '+52 55 1234 5678',
	description => E'line one\nline two "quoted" <tag> 100% a/b?c#d;e,f [x] {y} \\ ^ ` |',
	address => '{"line1": "1 Main St", "line2": "Apt #2", "city": "México", "state": "CDMX", "postal_code": "01000", "country": "MX"}',
	tax_ids => '[{"type": "mx_rfc", "value": "ABC010101AB1"}, {"type": "eu_vat", "value": "DE123456789"}]',
	tax_exempt => 'reverse', locale => 'es-MX', metadata => '{"k 1": "v/1", "b": "c"}')
SQL
same('a customer with everything', $customer,
	'customers.create', <<"JSON");
{"email": "niño+tag\@example.com", "name": "A B+C&=é~!*()' ✓ 日本 😀", "phone": "+52 55 1234 5678",
 "description": "line one\\nline two \\"quoted\\" <tag> 100% a/b?c#d;e,f [x] {y} \\\\ ^ ` |",
 "address": {"line1": "1 Main St", "line2": "Apt #2", "city": "México", "state": "CDMX", "postal_code": "01000", "country": "MX"},
 "tax_id_data": [{"type": "mx_rfc", "value": "ABC010101AB1"}, {"type": "eu_vat", "value": "DE123456789"}],
 "tax_exempt": "reverse", "preferred_locales": ["es-MX"],
 "metadata": {"b": "c", "k 1": "v/1", "janua_ref": "$customer", "organization_id": "org/1 ñ"}}
JSON
my $cus = ref_of($customer, 'customer');

sql("SELECT billing.update_customer('$customer', '{\"name\": null, \"email\": \"b\@example.com\", \"metadata\": {\"k 1\": null, \"new\": \"x y\"}}')");
same('an update that clears and merges', $customer,
	'customers.update', qq("$cus", {"email": "b\@example.com", "name": "", "metadata": {"b": "c", "k 1": "", "new": "x y"}}));

# ---- payment methods ----

my $method = sql("SELECT billing.attach_payment_method('$customer', 'pm_card_visa')");
sql("SELECT billing.await('$method', '30 seconds')");
my $pm = ref_of($method, 'payment_method');
same('the first payment method', $method,
	'paymentMethods.attach', qq("pm_card_visa", {"customer": "$cus"}),
	'customers.update', qq("$cus", {"invoice_settings": {"default_payment_method": "$pm"}}));
my $second = sql("SELECT billing.attach_payment_method('$customer', 'pm_card_mastercard', set_default => false)");
same('another payment method', $second, 'paymentMethods.attach', qq("pm_card_mastercard", {"customer": "$cus"}));
my $pm2 = ref_of($second, 'payment_method');
sql("SELECT billing.set_default_payment_method('$second')");
same('another default', $second, 'customers.update', qq("$cus", {"invoice_settings": {"default_payment_method": "$pm2"}}));
sql("SELECT billing.set_default_payment_method('$method')");
same('the default as it was', $method, 'customers.update', qq("$cus", {"invoice_settings": {"default_payment_method": "$pm"}}));
sql("SELECT billing.detach_payment_method('$second')");
same('a detached payment method', $second, 'paymentMethods.detach', qq("$pm2"));

# ---- subscriptions ----

my $waiting = sql("SELECT billing.subscribe('org_minimal', 'pro', quantity => 2, metadata => '{\"a\": \"b\"}')");
sql("SELECT billing.await('$waiting', '30 seconds')");
my ($plan, $price) = split /\|/, sql("SELECT p.id, r.id FROM billing.prices AS r JOIN billing.plans AS p ON p.id = r.plan_id WHERE p.plan = 'pro'");
my ($product_at, $price_at) = (ref_of($plan, 'product'), ref_of($price, 'price'));
my $cus_minimal = ref_of($minimal, 'customer');
same('the first subscription of a plan', $waiting,
	'products.create', qq({"name": "Pro", "metadata": {"janua_ref": "$plan"}}),
	'prices.create', qq({"currency": "usd", "unit_amount": 2900, "product": "$product_at", "recurring": {"interval": "month", "interval_count": 1},
		"nickname": "pro", "metadata": {"janua_ref": "$price"}}),
	'subscriptions.create', qq({"customer": "$cus_minimal", "items": [{"price": "$price_at", "quantity": 2}], "payment_behavior": "default_incomplete",
		"payment_settings": {"save_default_payment_method": "on_subscription"},
		"metadata": {"a": "b", "janua_ref": "$waiting", "organization_id": "org_minimal"}, "expand": ["latest_invoice.confirmation_secret"]}));
sql("SELECT billing.cancel_subscription('$waiting')");
my $sub = ref_of($waiting, 'subscription');
same('the end of an incomplete one', $waiting, 'subscriptions.cancel', qq("$sub"));

my $trial = sql("SELECT billing.subscribe('org_minimal', 'pro', trial_days => 14, trial_end_behavior => 'pause')");
same('a trial', $trial, 'subscriptions.create', qq({"customer": "$cus_minimal", "items": [{"price": "$price_at", "quantity": 1}], "trial_period_days": 14,
	"trial_settings": {"end_behavior": {"missing_payment_method": "pause"}}, "metadata": {"janua_ref": "$trial", "organization_id": "org_minimal"}}));

my $paid = sql("SELECT billing.subscribe('org/1 ñ', 'pro', off_session => true)");
same('a subscription by the default card', $paid, 'subscriptions.create', qq({"customer": "$cus", "items": [{"price": "$price_at", "quantity": 1}],
	"default_payment_method": "$pm", "payment_behavior": "allow_incomplete", "off_session": true,
	"metadata": {"janua_ref": "$paid", "organization_id": "org/1 ñ"}, "expand": ["latest_invoice.confirmation_secret"]}));
$sub = ref_of($paid, 'subscription');
my $item = ref_of($paid, 'subscription_item');

sql("SELECT billing.update_subscription('$paid', quantity => 7)");
same('another quantity', $paid, 'subscriptions.update', qq("$sub", {"items": [{"id": "$item", "quantity": 7}], "proration_behavior": "create_prorations"}));
sql("SELECT billing.create_plan('team', 'Team & Co', 9900, 'EUR', 'year', description => 'for 100 %')");
sql("SELECT billing.create_price('team', 12000, 'USD', 'year')");
sql("SELECT billing.update_subscription('$paid', 'team', proration_behavior => 'always_invoice')");
sql("SELECT billing.await('$paid', '30 seconds')");
my ($team, $team_price) = split /\|/, sql("SELECT p.id, r.id FROM billing.prices AS r JOIN billing.plans AS p ON p.id = r.plan_id WHERE p.plan = 'team' AND r.currency = 'USD'");
my ($team_at, $team_price_at) = (ref_of($team, 'product'), ref_of($team_price, 'price'));
same('another plan', $paid,
	'products.create', qq({"name": "Team & Co", "description": "for 100 %", "metadata": {"janua_ref": "$team"}}),
	'prices.create', qq({"currency": "usd", "unit_amount": 12000, "product": "$team_at", "recurring": {"interval": "year", "interval_count": 1},
		"nickname": "team", "metadata": {"janua_ref": "$team_price"}}),
	'subscriptions.update', qq("$sub", {"items": [{"id": "$item", "price": "$team_price_at"}], "proration_behavior": "always_invoice"}));
sql("SELECT billing.cancel_subscription('$paid', reason => 'too_expensive', comment => 'Adiós & thanks')");
same('an end with the period', $paid, 'subscriptions.update', qq("$sub", {"cancel_at_period_end": true,
	"cancellation_details": {"comment": "Adiós & thanks", "feedback": "too_expensive"}}));
sql("SELECT billing.resume_subscription('$paid')");
same('a cancellation taken back', $paid, 'subscriptions.update', qq("$sub", {"cancel_at_period_end": false}));
sql("SELECT billing.cancel_subscription('$paid', false, prorate => true, invoice_now => false, reason => 'unused')");
same('an end at once', $paid, 'subscriptions.cancel', qq("$sub", {"invoice_now": false, "prorate": true, "cancellation_details": {"feedback": "unused"}}));

# ---- look-ups and the end ----

$simulator->control('faults', { action => 'malformed_body', match => { method => 'POST', path => '^/v1/customers$' } });
my $lost = sql("SELECT billing.create_customer('org_lost')");
same('a customer whose answer was lost', $lost,
	'customers.create', qq({"metadata": {"janua_ref": "$lost", "organization_id": "org_lost"}}),
	'customers.search', qq({"query": "metadata['janua_ref']:'$lost'"}));
sql("SELECT billing.delete_customer('$lost')");
same('a deleted customer', $lost, 'customers.del', '"' . ref_of($lost, 'customer') . '"');

# ---- the same by Stripe's client ----

my $output;
IPC::Run::run([ $ENV{JANUA_NODE} || 'node', $sdk, '--calls' ], '<', \encode_utf8('[' . join(',', @calls) . ']'), '>', \$output)
  or die "$sdk failed";
my @theirs = map { JSON::PP->new->utf8->decode($_) } split /\n/, $output;
is(scalar @theirs, scalar @ours, 'both make as many calls');
for my $i (0 .. $#theirs)
{
	my ($our, $their) = ($ours[$i], $theirs[$i]);

	is("$our->{method} $our->{path}\n$our->{body}", "$their->{method} $their->{path}\n$their->{body}", $their->{name});
	is($our->{headers}{$_}, $their->{headers}{$_}, "$their->{name}: $_") foreach qw(stripe-version content-length);
	is($our->{headers}{'content-type'}, $their->{headers}{'content-type'}, "$their->{name}: content-type") if $our->{method} eq 'POST';
}

my $requests = $simulator->control('requests');
my @posts = grep { $_->{method} eq 'POST' } @$requests;
my %keys = map { $_->{headers}{'idempotency-key'} => 1 } @posts;
is(scalar(grep { ($_->{headers}{'idempotency-key'} // '') !~ /^[0-9a-f-]{36}:\d+:\d+$/ } @posts), 0, 'every POST has a key: request, step, generation');
is(scalar keys %keys, scalar @posts, 'of its own');
is(scalar(grep { $_->{method} ne 'POST' && defined $_->{headers}{'idempotency-key'} } @$requests), 0, 'nothing else has one');
is(scalar(grep { $_->{headers}{authorization} ne 'Bearer sk_test_x' } @$requests), 0, 'every request has our secret key');
is($simulator->control('violations')->{count}, 0, 'every request matches the document') or diag(explain($simulator->control('violations')));

done_testing();

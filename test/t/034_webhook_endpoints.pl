# Webhook endpoints at the provider: made, changed, rotated, listed, deleted;
# their secret is the account's, and nobody sees it.
use strict;
use warnings;

use JanuaTest;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub at_stripe { return grep { !$_->{deleted} } @{ $simulator->control('objects/webhook_endpoints') } }
sub row { return sql("SELECT $_[1] FROM billing.webhook_endpoints WHERE id = '$_[0]'") }
sub secret { return sql("SELECT billing.decrypt($_[0], 'provider_accounts.$_[0]', id) FROM billing.provider_accounts WHERE provider = 'stripe'") }

# A webhook that is signed by this secret: is it taken?
sub signed_by
{
	my ($secret) = @_;
	my ($event) = @{ $simulator->control("events?limit=1&secret=$secret") };
	my (undef, $output, $errors) = webhook($node, 'stripe', Encode::encode_utf8($event->{body}), $event->{headers});

	return $errors =~ /not signed with our secret/ ? 'refused' : $errors eq '' ? 'taken' : $errors;
}

configure_stripe($node, $simulator);
my $hook = sql("SELECT billing.register_webhook('stripe', 'https://app.example/hooks/stripe')");
is(sql("SELECT billing.await('$hook')"), 'active', 'an endpoint is made');
my ($made) = at_stripe();
is($made->{url}, 'https://app.example/hooks/stripe', 'with its address');
cmp_ok(scalar @{ $made->{enabled_events} }, '>', 5, 'for all the events that are read here');
is(row($hook, 'enabled'), 't', 'it is enabled');
isnt(row($hook, 'api_version'), '', 'with a fixed version of the API');
is(secret('previous_webhook_secret'), 'whsec_simulator_test_secret', 'the secret before it stays');
my $first = secret('webhook_secret');
like($first, qr/^whsec_/, 'and the new one is the account\'s');
sql("SELECT billing.create_customer('c', provider => 'stripe')");
wait_for($node, 'SELECT count(*) FROM billing.outbox', '0', 'something happens at the provider');
is(signed_by($first), 'taken', 'what is signed by it is taken');
is(signed_by('whsec_simulator_test_secret'), 'taken', 'for a day also what is signed by the old one');
is(signed_by('whsec_of_somebody'), 'refused', 'nothing else');
is(sql("SELECT billing.register_webhook('stripe', 'https://app.example/hooks/stripe')"), $hook, 'registered again it is the same');

sql("SELECT billing.update_webhook('$hook', enabled => false, events => '{invoice.paid,customer.updated}')");
is(sql("SELECT billing.await('$hook')"), 'active', 'it is changed');
is_deeply([ sort @{ (at_stripe())[0]{enabled_events} } ], [qw(customer.updated invoice.paid)], 'its events');
is((at_stripe())[0]{status}, 'disabled', 'and whether it is used');
is(sql("SELECT count(*) FROM billing.check_provider('stripe') WHERE item = 'webhook_endpoint' AND NOT ok AND hint LIKE '%update_webhook%'"), '1', 'which check_provider() notices');
sql("SELECT billing.update_webhook('$hook', enabled => true)");
is(sql("SELECT billing.await('$hook')"), 'active', 'and again');
is(row($hook, 'enabled'), 't', 'as it was');

sql("SELECT billing.rotate_webhook_secret('$hook')");
is(sql("SELECT billing.await('$hook')"), 'active', 'a new secret');
my $second = secret('webhook_secret');
isnt($second, $first, 'is another one');
is(secret('previous_webhook_secret'), $first, 'the old one stays for a day');
is(scalar at_stripe(), 1, 'there is one endpoint');
is(signed_by($second), 'taken', 'what is signed by the new secret is taken');
is(signed_by($first), 'taken', 'and by the old one');

# somebody makes one in the dashboard, and deletes ours
$simulator->control('call', { method => 'POST', path => '/v1/webhook_endpoints', params => { url => 'https://other.example/', enabled_events => ['*'] } });
my $account = sql("SELECT billing.refresh_webhooks('stripe')");
is(sql("SELECT billing.await('$account')"), 'active', 'the provider tells which there are');
is(sql("SELECT string_agg(url || ' ' || registered, ', ' ORDER BY url) FROM billing.list_webhooks('stripe')"), 'https://app.example/hooks/stripe true, https://other.example/ false', 'ours and those of others');
is(secret('webhook_secret'), $second, 'a list changes no secret');
sql("SELECT billing.delete_webhook('$hook')");
is(sql("SELECT billing.await('$hook')"), 'deleted', 'it is deleted');
is(join(' ', map { $_->{url} } at_stripe()), 'https://other.example/', 'at the provider, too');
my ($other) = at_stripe();
$simulator->control('call', { method => 'DELETE', path => "/v1/webhook_endpoints/$other->{id}", params => {} });
sql("SELECT billing.refresh_webhooks('stripe')");
wait_for($node, 'SELECT count(*) FROM billing.list_webhooks()', '0', 'what is gone at the provider is gone here');

# a lost answer: the secret was in it
$simulator->control('faults', { action => 'drop_after', match => { method => 'POST', path => '^/v1/webhook_endpoints$' } });
$hook = sql("SELECT billing.register_webhook('stripe', 'https://app.example/hooks/stripe')");
is(sql("SELECT billing.await('$hook', '30 seconds')"), 'active', 'after a lost answer it is there');
is(scalar at_stripe(), 1, 'once');
is(signed_by(secret('webhook_secret')), 'taken', 'with its secret');

is(sql("SELECT count(*) FROM billing.events WHERE object = 'webhook_endpoint' AND type = 'webhook_endpoint.active'"), '2', 'what happened is in the events');
unlike(sql("SELECT string_agg(o::text, '') FROM billing.outbox_finished AS o"), qr/whsec/, 'no secret lies in the requests');
unlike($node->safe_psql('postgres', "SELECT pg_read_file(pg_current_logfile())") // '', qr/whsec_/, 'nor in the log') if sql('SELECT pg_current_logfile() IS NOT NULL') eq 't';
is($simulator->control('violations')->{count}, 0, 'every request matches the document') or diag(explain($simulator->control('violations')));

# ---- answers of the other mode ----

my $customer = sql("SELECT billing.find_customer('c')");
my $id = sql("SELECT provider_id FROM billing.provider_refs WHERE object_id = '$customer'");
$simulator->control('edit', { kind => 'customers', id => $id, fields => { livemode => JSON::PP::true } });
sql("SELECT billing.update_customer('$customer', '{\"name\": \"Live\"}')");
wait_for($node, "SELECT stopped_reason FROM billing.provider_health WHERE provider = 'stripe' AND account = 'default'", 'the key is of a test account, its answers are of live mode', 'an answer of the other mode stops the account');
is(sql("SELECT state FROM billing.outbox WHERE object_id = '$customer'"), 'queued', 'the request waits for the right key');

done_testing();

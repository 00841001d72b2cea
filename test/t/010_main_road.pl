# The main road over HTTP: from SQL to Stripe's API and back by its webhooks.
use strict;
use warnings;
use utf8;

use Encode qw(decode_utf8 encode_utf8);
use HTTP::Tiny ();
use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main');

sub sql { return decode_utf8($node->safe_psql('postgres', encode_utf8($_[0]))) }

# What the simulator has under our reference.
sub at_stripe
{
	my ($kind, $reference) = @_;
	my $found = $simulator->control("objects/$kind?metadata.janua_ref=$reference");

	is(scalar @$found, 1, "Stripe has one of our $kind");
	return $found->[0] || {};
}

sub requests { return $simulator->control('requests?' . join '&', @_) }

# Waits for the object's requests, and says in what state it is.
sub await { return sql("SELECT billing.await('$_[0]', '30 seconds')") }

sub subscription
{
	my ($id, $columns) = @_;

	return sql("SELECT $columns FROM billing.subscriptions AS s JOIN billing.plans AS p ON p.id = s.plan_id WHERE s.id = '$id'");
}

# A customer and a subscription of its own: subscribed(ORGANIZATION, ARGUMENTS).
sub subscribed
{
	my ($organization, $arguments) = @_;

	sql("SELECT billing.create_customer('$organization', '$organization\@example.com')");
	return sql("SELECT billing.subscribe('$organization', $arguments)");
}

configure_stripe($node, $simulator);

# ---- customers ----

my $customer = sql(<<'SQL');
SELECT billing.create_customer('org_1', 'Niño+tag@example.com', 'A B+C&=é', 'MX', 'stripe', phone => '+52 55 1234 5678',
	address => '{"line1": "1 Main St", "city": "México", "country": "MX"}', tax_ids => '[{"type": "mx_rfc", "value": "ABC010101AB1"}]',
	locale => 'es-MX', metadata => '{"tier": "gold", "old": "x"}')
SQL
is(await($customer), 'active', 'a new customer is known to the provider soon');
my $found = at_stripe('customers', $customer);
is($found->{email}, 'Niño+tag@example.com', 'its e-mail arrives as it was given');
is($found->{name}, 'A B+C&=é', 'its name arrives as it was given');
is($found->{address}{city}, 'México', 'its address arrives as it was given');
is($found->{metadata}{tier}, 'gold', 'its metadata arrives as it was given');
is($found->{metadata}{organization_id}, 'org_1', 'the provider is told the organization');
is(sql("SELECT billing.find_customers_by_email('Niño+TAG\@EXAMPLE.com')"), $customer, 'a customer is found by e-mail in any case of letters');
is(sql("SELECT email FROM billing.get_customer('$customer')"), 'Niño+tag@example.com', 'the e-mail is shown to those who may see it');

sql(<<"SQL");
SELECT billing.update_customer('$customer', '{"email": "b\@example.com", "phone": null, "metadata": {"old": null, "new": "y"}}')
SQL
is(await($customer), 'active', 'an updated customer is told to the provider');
$found = at_stripe('customers', $customer);
is($found->{email}, 'b@example.com', 'a new e-mail arrives');
is($found->{phone}, undef, 'a cleared phone is cleared there');
is_deeply([ sort keys %{ $found->{metadata} } ], [qw(janua_ref new organization_id tier)], 'metadata is merged');

sql("SELECT billing.update_customer('$customer', '{\"tax_ids\": [{\"type\": \"eu_vat\", \"value\": \"DE123456789\"}]}')");
is(await($customer), 'active', 'a replaced tax id is told to the provider');
is_deeply([ map { "$_->{type} $_->{value}" } grep { !$_->{deleted} } @{ $simulator->control('objects/tax_ids') } ], ['eu_vat DE123456789'],
	'the old one is removed and the new one added');

my $gone = sql("SELECT billing.create_customer('org_gone', 'gone\@example.com')");
sql("SELECT billing.delete_customer('$gone')");
is(await($gone), 'deleted', 'a customer that is deleted at once is still made and deleted in this order');
is_deeply([ map { "$_->{method} $_->{status}" } @{ requests('path=^/v1/customers') } ]->[-1],
	'DELETE 200', 'the provider is told the end');

# ---- payment methods ----

my $method = sql("SELECT billing.attach_payment_method('$customer', 'pm_card_visa')");
is(await($method), 'attached', 'a payment method is attached');
is(sql("SELECT brand, last4, is_default FROM billing.list_payment_methods('$customer')"), 'visa|4242|t',
	'the provider tells brand and last digits; the first one is the default');
ok(at_stripe('customers', $customer)->{invoice_settings}{default_payment_method}, 'also at the provider');

my $declined = sql("SELECT billing.attach_payment_method('$customer', 'pm_card_chargeDeclined')");
is(await($declined), 'failed', 'a declined card is not attached');
is(sql("SELECT error_code FROM billing.payment_methods WHERE id = '$declined'"), 'generic_decline', 'the reason is kept');
is(sql("SELECT state, error_code FROM billing.outbox_finished WHERE object_id = '$declined'"), 'done|generic_decline',
	'a decline is an answer, not a failure of the request');
my $second = sql("SELECT billing.attach_payment_method('$customer', 'pm_card_mastercard')");
is(await($second), 'attached', 'a second one is attached');
sql("SELECT billing.set_default_payment_method('$second')");
is(await($second), 'attached', 'the default changes');
is(sql("SELECT last4 FROM billing.list_payment_methods('$customer') WHERE is_default"), '4444', 'to the second one');
sql("SELECT billing.set_default_payment_method('$method'); SELECT billing.detach_payment_method('$second')");
is(await($second), 'detached', 'a payment method is detached');

# ---- subscriptions ----

my $subscription = sql("SELECT billing.subscribe('org_1', 'pro')");
is(await($subscription), 'active', 'a subscription that is paid at once is active');
is(sql("SELECT billing.has_feature('org_1', 'sso'), billing.feature_limit('org_1', 'users')"), 't|25', 'it entitles');
is(scalar @{ requests('method=POST', 'path=^/v1/products$') }, 1, 'the plan was pushed as a product first');
is(scalar @{ requests('method=POST', 'path=^/v1/prices$') }, 1, 'and its price');
is(sql("SELECT status, amount_paid FROM billing.invoices WHERE subscription_id = '$subscription'"), 'paid|2900',
	'the first invoice came with the answer') or diag(sql('TABLE billing.invoices'));

my $other = subscribed('org_2', "'pro', 'pm_card_visa', quantity => 3");
is(await($other), 'active', 'another organization subscribes with a token');
is(subscription($other, 'quantity'), '3', 'to three of it');
is(scalar @{ requests('method=POST', 'path=^/v1/(products|prices)$') }, 2, 'nothing is pushed again');

my ($status, $output, $errors) = $node->psql('postgres', "SELECT billing.subscribe('org_2', 'pro')");
like($errors, qr/has a subscription in plan group/, 'a second live subscription is refused');

my $trial = subscribed('org_3', "'pro', trial_days => 14");
is(await($trial), 'trialing', 'a trial needs no payment method');
is(sql("SELECT date_trunc('day', trial_end - trial_start) FROM billing.subscriptions WHERE id = '$trial'"), '14 days', 'it lasts as long as asked for');
is(sql("SELECT billing.has_feature('org_3', 'sso')"), 't', 'a trial entitles');

sql("SELECT billing.create_plan('team', 'Team', 9900, features => '{\"users\": 100, \"sso\": true}')");
sql("SELECT billing.update_subscription('$other', 'team', 5)");
is(await($other), 'active', 'plan and quantity are changed');
is(subscription($other, 'plan, quantity'), 'team|5', 'both, in one call');
is(at_stripe('subscriptions', $other)->{items}{data}[0]{quantity}, 5, 'also at the provider');
sql("SELECT billing.update_subscription('$other', quantity => 2)");
await($other);
is(subscription($other, 'plan, quantity'), 'team|2', 'the quantity alone is changed');

sql("SELECT billing.cancel_subscription('$other')");
is(await($other), 'active', 'a subscription that ends with its period is still active');
is(subscription($other, 'cancel_at_period_end'), 't', 'and says so');
sql("SELECT billing.resume_subscription('$other')");
await($other);
is(subscription($other, 'cancel_at_period_end, cancel_at'), 'f|', 'a cancellation is taken back');
sql("SELECT billing.cancel_subscription('$other', false, reason => 'too_expensive', comment => 'bye')");
is(await($other), 'canceled', 'a subscription is cancelled at once');
is(sql("SELECT billing.has_feature('org_2', 'sso')"), 'f', 'what has ended does not entitle');
is(at_stripe('subscriptions', $other)->{cancellation_details}{feedback}, 'too_expensive', 'the provider is told the reason');
my $again = sql("SELECT billing.subscribe('org_2', 'pro')");
is(await($again), 'active', 'one that has ended makes room for the next');

# ---- declined ----

my $refused = subscribed('org_4', "'pro', 'pm_card_chargeDeclined'");
is(await($refused), 'incomplete', 'a subscription by a declined card does not begin');
is(subscription($refused, 'error_code'), 'payment_method_refused', 'and says why');
my $retried = sql("SELECT billing.subscribe('org_4', 'pro', 'pm_card_visa')");
is(await($retried), 'active', 'a better card makes a new one');
is(subscription($refused, 'status, superseded_by'), "canceled|$retried", 'which takes its place');

my $unpaid = subscribed('org_5', "'pro', 'pm_card_chargeCustomerFail'");
is(await($unpaid), 'incomplete', 'a subscription whose first payment is declined is incomplete');
is(sql("SELECT billing.has_feature('org_5', 'sso')"), 'f', 'it does not entitle');

# ---- webhooks ----

hand_over($node, $simulator);
is(sql("SELECT string_agg(DISTINCT state, ',') FROM billing.webhook_events"), 'applied,ignored', 'every event so far finds its object')
  or diag(sql("SELECT type, state, reason FROM billing.webhook_events WHERE state NOT IN ('applied', 'ignored')"));
is(sql("SELECT count(*) FROM billing.subscriptions"), '7', 'no webhook made a second row of what we made')
  or diag(sql("SELECT id, organization_id, status, conflict FROM billing.subscriptions"));
is(sql("SELECT count(*) FROM billing.customers"), '6', 'of a customer neither');
is(subscription($subscription, 'status'), 'active', 'the state after the events is the state after the answers');
is(subscription($other, 'status, quantity'), 'canceled|2', 'an older event does not undo a newer state');

my $incomplete = subscribed('org_6', "'pro'");
is(await($incomplete), 'incomplete', 'a subscription without a payment method waits for the first payment');
is(sql("SELECT billing.client_config('$incomplete') ->> 'client_secret' ~ '_secret_'"), 't', 'the browser gets the secret to pay with');
my $invoice = at_stripe('subscriptions', $incomplete)->{latest_invoice};
$simulator->control('call', { method => 'POST', path => "/v1/invoices/$invoice/pay", params => { payment_method => 'pm_card_visa' } });
is(subscription($incomplete, 'status'), 'incomplete', 'nothing happens before the provider tells');
my @handled = hand_over($node, $simulator);
is((grep { $_ eq 'customer.subscription.updated applied' } @handled) > 0, 1, 'its webhook is applied') or diag(join ', ', @handled);
is(subscription($incomplete, 'status'), 'active', 'the webhook activates the subscription');
is(sql("SELECT status, amount_paid FROM billing.invoices WHERE subscription_id = '$incomplete'"), 'paid|2900', 'its invoice is paid');
is(sql("SELECT billing.client_config('$incomplete') ->> 'client_secret'"), '', 'the secret is gone');
is(sql("SELECT billing.has_feature('org_6', 'sso')"), 't', 'it entitles now');

my ($event) = @{ $simulator->control('events?type=invoice.paid') }[-1];
my $events = sql('SELECT count(*) FROM billing.webhook_events');
($status, $output, $errors) = webhook($node, 'stripe', encode_utf8($event->{body}), $event->{headers});
is($output, "$event->{id}|invoice.paid|duplicate", 'an event that came already is a success that does nothing');
is(sql('SELECT count(*) FROM billing.webhook_events'), $events, 'and is kept once');

my ($forged) = @{ $simulator->control('events?type=invoice.paid&secret=whsec_somebody_else') }[-1];
($status, $output, $errors) = webhook($node, 'stripe', encode_utf8($forged->{body}), $forged->{headers});
like($errors, qr/is not signed with our secret/, 'a forged signature is refused');
(my $changed = $event->{body}) =~ s/"amount_paid": ?\d+/"amount_paid":1/;
($status, $output, $errors) = webhook($node, 'stripe', encode_utf8($changed), $event->{headers});
like($errors, qr/is not signed with our secret/, 'a changed body is refused');
($status, $output, $errors) = webhook($node, 'stripe', encode_utf8($event->{body}), {});
like($errors, qr/is not signed with our secret/, 'a missing signature is refused');
my ($old) = @{ $simulator->control('events?type=invoice.paid&timestamp=' . (time() - 301)) }[-1];
($status, $output, $errors) = webhook($node, 'stripe', encode_utf8($old->{body}), $old->{headers});
like($errors, qr/was signed too long ago/, 'an old signature is refused');
my ($empty) = @{ $simulator->control('events?type=invoice.paid&secret=') }[-1];
($status, $output, $errors) = webhook($node, 'stripe', encode_utf8($empty->{body}), $empty->{headers});
like($errors, qr/is not signed with our secret/, 'a signature with an empty secret is refused');
($status, $output, $errors) = $node->psql('postgres', "SELECT billing.configure_provider('stripe', webhook_secret => '')");
isnt($status, 0, 'an empty secret cannot be configured');
is(sql('SELECT count(*) FROM billing.webhook_events'), $events, 'nothing of these is stored');

# ---- usage ----

is(sql("SELECT billing.record_usage('org_6', 'api_calls', 10, idempotency_key => 'k1')"), 't', 'usage is recorded');
is(sql("SELECT billing.record_usage('org_6', 'api_calls', 99, idempotency_key => 'k1')"), 'f', 'a key counts once');
sql("SELECT billing.record_usage('org_6', 'api_calls', 5)");
sql("SELECT billing.record_usage('org_6', 'storage', 7000)");
is(sql("SELECT metric, quantity, \"limit\", remaining FROM billing.usage_summary('org_6') WHERE metric IN ('api_calls', 'storage') ORDER BY metric"),
	"api_calls|15|100000|99985\nstorage|7000|50000000000|49999993000", 'and summarised against the plan');

# ---- renewals: the simulator's clock goes on ----

my $before = subscription($subscription, 'current_period_end');
$simulator->control('clock', { advance => 32 * 86400 });
@handled = hand_over($node, $simulator);
ok((grep { $_ eq 'invoice.paid applied' } @handled), 'the invoice of a renewal is applied') or diag(join ', ', @handled);
is(subscription($subscription, "status, current_period_start = '$before'"), 'active|t', 'the renewal begins where the last period ended');
is(sql("SELECT count(*), sum(amount_paid) FROM billing.invoices WHERE subscription_id = '$subscription'"), '2|5800', 'its invoice is there');
is(subscription($trial, 'status'), 'canceled', 'a trial without a payment method ends');

my $stripe_id = sql("SELECT provider_id FROM billing.provider_refs WHERE object_id = '$subscription' AND object_type = 'subscription'");
my $stripe_customer = sql("SELECT provider_id FROM billing.provider_refs WHERE object_id = '$customer' AND object_type = 'customer'");
my $failing = $simulator->control('call',
	{ method => 'POST', path => '/v1/payment_methods/pm_card_chargeCustomerFail/attach', params => { customer => $stripe_customer } });
$simulator->control('call',
	{ method => 'POST', path => "/v1/subscriptions/$stripe_id", params => { default_payment_method => $failing->{body}{id} } });
$simulator->control('clock', { advance => 31 * 86400 });
@handled = hand_over($node, $simulator);
ok((grep { $_ eq 'invoice.payment_failed applied' } @handled), 'a failed renewal is applied') or diag(join ', ', @handled);
is(subscription($subscription, 'status'), 'past_due', 'the subscription is past due');
is(sql("SELECT billing.has_feature('org_1', 'sso')"), 't', 'and entitles while it may still be paid');
ok(sql("SELECT count(*) FROM billing.events WHERE type = 'invoice.payment_failed' AND organization_id = 'org_1'") + sql("SELECT count(*) FROM billing.events WHERE type = 'invoice.open' AND organization_id = 'org_1'") > 0, 'the application is told');

is(subscription($unpaid, 'status'), 'incomplete_expired', 'a subscription that was never paid has expired');

# ---- what people do at the provider ----

$simulator->control('call', { method => 'POST', path => "/v1/customers/$stripe_customer", params => { email => 'portal@example.com', name => 'Portal' } });
hand_over($node, $simulator);
is(sql("SELECT email, name FROM billing.get_customer('$customer')"), 'portal@example.com|Portal', 'what was changed at the provider is taken over');

$simulator->control('clock', { advance => 2 });
$simulator->control('call', { method => 'POST', path => "/v1/customers/$stripe_customer", params => { name => 'Unheard' } });
sql("SELECT billing.refresh('$customer')");
await($customer);
is(sql("SELECT name FROM billing.get_customer('$customer')"), 'Unheard', 'also when its webhook was lost and we ask');

my $pro_price = sql("SELECT provider_id FROM billing.provider_refs WHERE object_type = 'price' AND object_id = (SELECT price_id FROM billing.subscriptions WHERE id = '$subscription')");
my $lone = sql("SELECT billing.create_customer('org_lone', 'lone\@example.com')");
await($lone);
my $lone_at = at_stripe('customers', $lone)->{id};
$simulator->control('call', { method => 'POST', path => '/v1/subscriptions', params => { customer => $lone_at, items => [ { price => $pro_price } ], trial_period_days => 7 } })
  foreach 1 .. 2;
hand_over($node, $simulator);
is(sql("SELECT string_agg(status || ' ' || conflict, ', ' ORDER BY conflict) FROM billing.subscriptions WHERE customer_id = '$lone'"), 'trialing false, trialing true',
	'subscriptions that were made at the provider become ours; a second one is a conflict');
is(sql("SELECT count(*) FROM billing.attention WHERE what = 'second live subscription'"), '1', 'that somebody has to look at');
$simulator->control('call', { method => 'DELETE', path => "/v1/customers/$lone_at" });
hand_over($node, $simulator);
is(sql("SELECT billing.find_customer('org_lone')"), '', 'a customer that was deleted at the provider is deleted');
is(sql("SELECT string_agg(DISTINCT status, ',') FROM billing.subscriptions WHERE customer_id = '$lone'"), 'canceled', 'with its subscriptions');

# ---- catalogue ----

my $product = $simulator->control('call', { method => 'POST', path => '/v1/products', params => { name => 'Legacy' } })->{body}{id};
my $price = $simulator->control('call', { method => 'POST', path => '/v1/prices',
	params => { product => $product, currency => 'usd', unit_amount => 500, recurring => { interval => 'month' } } })->{body}{id};
sql("SELECT billing.create_plan('legacy', 'Legacy', 500)");
sql(<<"SQL");
SELECT billing.link_price(r.id, 'stripe', '$price', '$product') FROM billing.prices AS r JOIN billing.plans AS p ON p.id = r.plan_id WHERE p.plan = 'legacy'
SQL
my $pushes = @{ requests('method=POST', 'path=^/v1/(products|prices)$') };
my $linked = subscribed('org_7', "'legacy', 'pm_card_visa'");
is(await($linked), 'active', 'a linked price is subscribed to');
is(at_stripe('subscriptions', $linked)->{items}{data}[0]{price}{id}, $price, 'it is the one that was there');
is(scalar @{ requests('method=POST', 'path=^/v1/(products|prices)$') }, $pushes, 'and nothing is pushed');

# ---- free ----

sql("SELECT billing.create_customer('org_8', 'org_8\@example.com')");
await(sql("SELECT billing.find_customer('org_8')"));
my $seen = $simulator->control('totals')->{requests};
my $free = sql("SELECT billing.subscribe('org_8', 'free')");
is(await($free), 'active', 'a free plan is active at once');
is(sql("SELECT count(*) FROM billing.outbox"), '0', 'nothing is queued for it');
is($simulator->control('totals')->{requests}, $seen, 'the provider hears nothing of it');
sql("SELECT billing.update_subscription('$free', 'pro', payment_method => 'pm_card_chargeCustomerFail')");
is(await($free), 'active', 'a paid plan whose payment is declined');
is(subscription($free, 'plan, status, error_code IS NOT NULL'), 'free|active|t', 'leaves the free one as it was, and says why');
sql("SELECT billing.update_subscription('$free', 'pro', payment_method => 'pm_card_visa')");
is(await($free), 'active', 'free changes to paid');
is(subscription($free, 'plan'), 'pro', 'the plan is the paid one');
is(sql("SELECT billing.has_feature('org_8', 'sso')"), 't', 'it entitles');
sql("SELECT billing.update_subscription('$free', 'free')");
is(await($free), 'active', 'paid changes to free');
is(subscription($free, 'plan'), 'free', 'the plan is the free one');
is(sql("SELECT billing.has_feature('org_8', 'sso')"), 'f', 'it entitles to no more than free does');

# ---- the end ----

sql("SELECT billing.delete_customer('$customer')");
is(await($customer), 'deleted', 'a customer with a subscription is deleted');
await($subscription);
is(subscription($subscription, 'status'), 'canceled', 'its subscription has ended');
hand_over($node, $simulator);
is(sql("SELECT count(*) FROM billing.webhook_events WHERE state NOT IN ('applied', 'ignored')"), '0', 'no webhook is left over')
  or diag(sql("SELECT type, state, reason, waiting_for FROM billing.webhook_events WHERE state NOT IN ('applied', 'ignored')"));
is(sql("SELECT count(*) FROM billing.outbox"), '0', 'no request is left over') or diag(sql("SELECT operation, state, error_type, error_code FROM billing.outbox"));

my $violations = $simulator->control('violations');
is($violations->{count}, 0, 'every request matches the document') or diag(explain($violations));

SKIP:
{
	skip 'there is no OpenAPI document', 1 unless @{ $simulator->control('health')->{validating} || [] };
	HTTP::Tiny->new->post_form($simulator->url . '/v1/customers', { emial => 'a@example.com' },
		{ headers => { authorization => 'Bearer sk_test_x', 'stripe-version' => '2026-10-28.endive', 'idempotency-key' => 'wrong' } });
	is($simulator->control('violations')->{violations}[0]{param}, 'emial', 'a request that does not match is noticed');
}

done_testing();

# What goes over the wire to Conekta and Polar is what their own clients send
# for the same call: method, path and query, the headers that matter, and the
# body as data (the clients keep the order of their arguments, which says
# nothing).
use strict;
use warnings;
use utf8;

use Encode qw(decode_utf8 encode_utf8);
use IPC::Run ();
use JSON::PP ();
use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main');
my $json = JSON::PP->new->canonical->allow_nonref;
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

sub sql { return decode_utf8($node->safe_psql('postgres', encode_utf8($_[0]))) }

sub ref_of { return sql("SELECT provider_id FROM billing.provider_refs WHERE object_id = '$_[1]' AND object_type = '$_[0]'") }

sub await { return sql("SELECT billing.await('$_[0]', '30 seconds')") }

# What the clients send and we do not, and why. A line that nothing needs fails the test.
#  provider    field           value                                  why we do not
my @NOT_OURS = (
	[ 'conekta', 'content-type', 'application/x-www-form-urlencoded', 'a request without a body has no type of one; the client says it of POST and PUT' ],
	[ 'polar',   'content-type', 'application/json',                  'a request without a body has no type of one; the client says it of every request' ],
	[ 'polar',   'sorting',      '-created_at',                       'the order that Polar takes by itself, and that is asked for nowhere' ]);

my %needed;

# The calls of the clients, and beside each the request that ours became.
my (%calls, %ours);
my $seen = 0;

sub new_requests
{
	my $requests = $simulator->control("requests?after=$seen");

	$seen = $requests->[-1]{seq} if @$requests;
	return @$requests;
}

# One call in SQL, and what the client is asked for in its place: pairs of a
# method and its arguments, one for each request that follows.
sub same
{
	my ($provider, $name, $object, @pairs) = @_;

	await($object) if $object;
	my @requests = new_requests();
	is(scalar @requests, @pairs / 2, "$provider, $name: as many requests as expected")
	  or diag(join "\n", map { "$_->{status} $_->{method} $_->{path} $_->{body}" } @requests);
	for my $i (0 .. @pairs / 2 - 1)
	{
		my ($call, $arguments) = @pairs[ 2 * $i, 2 * $i + 1 ];

		push @{ $calls{$provider} }, { name => "$provider, $name: $call", call => $call, arguments => $arguments };
		push @{ $ours{$provider} }, $requests[$i] || {};
	}
}

sub act { return $simulator->control('act', @_ == 1 ? $_[0] : {@_}) }

sub objects { return @{ $simulator->control("objects/$_[1]?" . join '&', "provider=$_[0]", @_[ 2 .. $#_ ]) } }

# The buyer or the bank has done something: its webhooks come in, and what they cause is not compared.
sub hear
{
	hand_over($node, $simulator);
	# where two events of one second contradict each other, or one tells a part only, the provider is asked
	poll_until(sub { sql("SELECT count(*) FROM billing.outbox WHERE operation LIKE '%.fetch'") eq '0' }, 'every object that is in doubt was asked for');
	new_requests();
}

# ===========================================================================
# Conekta. Its client says the language where it is told one.
# ===========================================================================

my $url = $simulator->url;
sql(<<"SQL");
SELECT billing.configure_provider('conekta', 'key_test', base_url => '$url/conekta',
	options => '{"sandbox": true, "rate_per_second": 0, "three_ds_mode": "strict"}');
SELECT billing.configure_provider('polar', 'polar_oat_test', 'polar_whs_SimulatorTestSecret0123456789abcdef', base_url => '$url/polar',
	options => '{"sandbox": true, "rate_per_second": 0}');
UPDATE billing.settings SET value = '1000000' WHERE name = 'circuit_threshold';
SQL
my ($key) = grep { $_->{active} } @{ $simulator->control('signing_keys?provider=conekta') };
sql("SELECT billing.configure_provider('conekta', webhook_secret => '$key->{public_key}')");

sub conekta { same('conekta', @_) }

# ---- customers ----

my $phone = '+525512345678';
my $ana = sql("SELECT billing.create_customer('org_1', 'ana\@example.com', 'Ana', provider => 'conekta', phone => '$phone', currency => 'MXN')");
conekta('a customer', $ana, 'customers.createCustomer', [ { name => 'Ana', email => 'ana@example.com', phone => $phone, custom_reference => $ana,
	metadata => { janua_ref => $ana, organization_id => 'org_1' } }, 'es' ]);
my $cus = ref_of('customer', $ana);

my $name = q(Niño & Cía "SA" ✓ 日本 😀);
my $full = sql(<<"SQL");
SELECT billing.create_customer('org/1 ñ', 'niño+tag\@example.com', '$name', 'MX', 'conekta', '$phone',
	'{"line1": "Av. Siempre Viva 742", "line2": "piso 2", "postal_code": "06100", "city": "Ciudad de México", "state": "CDMX", "country": "MX"}',
	'[{"type": "mx_rfc", "value": "ABC010101AB1"}]', locale => 'en-US', currency => 'MXN', metadata => '{"k 1": "v/1", "b": "c"}')
SQL
my %entity = (company_name => $name, email => 'niño+tag@example.com', phone => $phone, address => { street1 => 'Av. Siempre Viva 742', street2 => 'piso 2',
	postal_code => '06100', city => 'Ciudad de México', state => 'CDMX', country => 'MX' });
my %tags = (organization_id => 'org/1 ñ', janua_ref => $full);
conekta('a customer with everything', $full, 'customers.createCustomer', [ { name => $name, email => 'niño+tag@example.com', phone => $phone, custom_reference => $full,
	fiscal_entities => [ { tax_id => 'ABC010101AB1', %entity } ], metadata => { 'k 1' => 'v/1', b => 'c', %tags } }, 'en' ]);
my $cus_full = ref_of('customer', $full);
sql(qq(SELECT billing.update_customer('$full', '{"name": "Niño", "metadata": {"b": null, "n": "x y"}}')));
conekta('a change', $full, 'customers.updateCustomer', [ $cus_full, { name => 'Niño', metadata => { 'k 1' => 'v/1', n => 'x y', b => undef, %tags } }, 'es' ]);
sql(qq(SELECT billing.update_customer('$full', '{"tax_ids": [{"type": "mx_rfc", "value": "XAXX010101000"}]}')));
my ($fiscal) = objects('conekta', 'fiscal_entities');
conekta('another RFC', $full, 'customers.getCustomerById', [ $cus_full, 'es' ],
	'customers.updateCustomerFiscalEntities', [ $cus_full, $fiscal->{id}, { tax_id => 'XAXX010101000', %entity, company_name => 'Niño' }, 'es' ]);
sql(qq(SELECT billing.update_customer('$ana', '{"address": {"line1": "R 1", "postal_code": "06100", "city": "CDMX", "country": "MX"}, "tax_ids": [{"type": "mx_rfc", "value": "AAA010101AAA"}]}')));
conekta('a first RFC', $ana, 'customers.getCustomerById', [ $cus, 'es' ], 'customers.getCustomerById', [ $cus, 'es' ],
	'customers.createCustomerFiscalEntities', [ $cus, { tax_id => 'AAA010101AAA', company_name => 'Ana', email => 'ana@example.com', phone => $phone,
		address => { street1 => 'R 1', postal_code => '06100', city => 'CDMX', country => 'MX' } }, 'es' ]);

# ---- payment sources ----

my $card = sql("SELECT billing.attach_payment_method('$ana', 'tok_test_visa_4242_1')");
await($card);
my $src = ref_of('payment_method', $card);
conekta('the first card', $card, 'paymentMethods.createCustomerPaymentMethods', [ $cus, { type => 'card', token_id => 'tok_test_visa_4242_1' }, 'es' ],
	'customers.updateCustomer', [ $cus, { default_payment_source_id => $src }, 'es' ]);
my $second = sql("SELECT billing.attach_payment_method('$ana', 'tok_test_mastercard_4444_1', set_default => false)");
conekta('another card', $second, 'paymentMethods.createCustomerPaymentMethods', [ $cus, { type => 'card', token_id => 'tok_test_mastercard_4444_1' }, 'es' ]);
my $src2 = ref_of('payment_method', $second);
sql("SELECT billing.set_default_payment_method('$second')");
conekta('another default', $second, 'customers.updateCustomer', [ $cus, { default_payment_source_id => $src2 }, 'es' ]);
sql("SELECT billing.set_default_payment_method('$card')");
conekta('the default as it was', $card, 'customers.updateCustomer', [ $cus, { default_payment_source_id => $src }, 'es' ]);
sql("SELECT billing.detach_payment_method('$second')");
conekta('a card that is removed', $second, 'paymentMethods.deleteCustomerPaymentMethods', [ $cus, $src2, 'es' ]);
my $later = time + 30 * 86400;
my $cash = sql("SELECT billing.attach_payment_method('$ana', type => 'cash_recurrent', set_default => false, expires_at => to_timestamp($later))");
conekta('a reference for cash', $cash, 'paymentMethods.createCustomerPaymentMethods', [ $cus, { type => 'cash_recurrent', expires_at => $later }, 'es' ]);
my $clabe = sql("SELECT billing.attach_payment_method('$ana', type => 'spei_recurrent', set_default => false)");
conekta('a CLABE', $clabe, 'paymentMethods.createCustomerPaymentMethods', [ $cus, { type => 'spei_recurrent' }, 'es' ]);
sql("SELECT billing.refresh_payment_methods('$ana')");
conekta('the sources', $ana, 'paymentMethods.getCustomerPaymentMethods', [ $cus, 'es', undef, 250 ]);

# ---- orders ----

# The order of a payment, but for what the caller adds.
sub order
{
	my ($payment, $amount, %more) = @_;

	return [ { currency => 'MXN', customer_info => { customer_id => $cus }, line_items => [ { name => 'Pago', unit_price => $amount, quantity => 1 } ],
		metadata => { janua_ref => $payment, organization_id => 'org_1' }, %more }, 'es' ];
}

sub charged { return (charges => [ { amount => $_[1], reference_id => $_[0], payment_method => $_[2] } ]) }

my $open = sql("SELECT billing.create_payment_intent('$ana', 40000, 'MXN')");
conekta('an order', $open, 'orders.createOrder', order($open, 40000));
sql("SELECT billing.confirm_payment_intent('$open', '$card', installments => 3)");
await($open);
my $request = sql("SELECT id FROM billing.outbox_finished WHERE object_id = '$open' AND operation = 'payment_intent.confirm'");
my $ord = ref_of('payment_intent', $open);
conekta('a charge', $open, 'charges.ordersCreateCharge', [ $ord, { amount => 40000, reference_id => $request,
	payment_method => { type => 'card', payment_source_id => $src, monthly_installments => 3 } }, 'es' ], 'orders.getOrderById', [ $ord, 'es' ]);
my $held = sql(<<"SQL");
SELECT billing.create_payment_intent('$ana', 34684, 'MXN', payment_method => '$card', confirm => true, capture_method => 'manual', return_url => 'https://example.com/back?a=1&b=ñ',
	line_items => '[{"name": "Plan Pro – 1 mes", "amount": 29900, "description": "del año"}]', tax_lines => '[{"description": "IVA", "amount": 4784}]', metadata => '{"n": "1"}')
SQL
conekta('an order with everything', $held, 'orders.createOrder', order($held, 0, line_items => [ { name => 'Plan Pro – 1 mes', unit_price => 29900, quantity => 1, description => 'del año' } ],
	tax_lines => [ { description => 'IVA', amount => 4784 } ], charged($held, 34684, { type => 'card', payment_source_id => $src }), pre_authorize => $true,
	return_url => 'https://example.com/back?a=1&b=ñ', three_ds_mode => 'strict', metadata => { n => '1', janua_ref => $held, organization_id => 'org_1' }));
$ord = ref_of('payment_intent', $held);
act(provider => 'conekta', action => 'authenticate', order => $ord);
hear();
sql("SELECT billing.capture_payment_intent('$held', 30000)");
conekta('a part that is captured', $held, 'orders.ordersCreateCapture', [ $ord, 'es', undef, { amount => 30000 } ]);
my $released = sql("SELECT billing.create_payment_intent('$ana', 5000, 'MXN', payment_method => 'tok_test_visa_4242_2', capture_method => 'manual', description => 'Apartado')");
conekta('an authorisation', $released, 'orders.createOrder', order($released, 5000, charged($released, 5000, { type => 'card', token_id => 'tok_test_visa_4242_2' }),
	line_items => [ { name => 'Apartado', unit_price => 5000, quantity => 1 } ], pre_authorize => $true));
$ord = ref_of('payment_intent', $released);
sql("SELECT billing.cancel_payment_intent('$released')");
conekta('an order given up', $released, 'orders.cancelOrder', [ $ord, 'es' ]);
my $msi = sql("SELECT billing.create_payment_intent('$ana', 60000, 'MXN', payment_method => 'tok_test_visa_4242_3', installments => 6)");
conekta('six months', $msi, 'orders.createOrder', order($msi, 60000, charged($msi, 60000, { type => 'card', token_id => 'tok_test_visa_4242_3', monthly_installments => 6 })));
$later = time + 3 * 86400;
my $oxxo = sql("SELECT billing.create_payment_intent('$ana', 25000, 'MXN', method => 'oxxo', expires_at => to_timestamp($later))");
conekta('a voucher', $oxxo, 'orders.createOrder', order($oxxo, 25000, charged($oxxo, 25000, { type => 'cash', expires_at => $later })));
my $spei = sql("SELECT billing.create_payment_intent('$ana', 25000, 'MXN', method => 'spei')");
conekta('a transfer', $spei, 'orders.createOrder', order($spei, 25000, charged($spei, 25000, { type => 'spei' })));
$ord = ref_of('payment_intent', $spei);
sql("SELECT billing.refresh('$spei')");
conekta('an order that is asked for', $spei, 'orders.getOrderById', [ $ord, 'es' ]);

# ---- refunds ----

$ord = ref_of('payment_intent', $msi);
my $refund = sql("SELECT billing.create_refund('$msi', 500, 'fraudulent')");
conekta('a refund', $refund, 'orders.orderRefund', [ $ord, { amount => 500, reason => 'suspected_fraud' }, 'es' ]);
my $rest = sql("SELECT billing.create_refund('$msi')");
conekta('the rest', $rest, 'orders.orderRefund', [ $ord, { amount => 59500, reason => 'requested_by_client' }, 'es' ]);
act(provider => 'conekta', action => 'pay_reference', reference => sql("SELECT billing.client_config('$oxxo') -> 'next_action' ->> 'reference'"));
hear();
$ord = ref_of('payment_intent', $oxxo);
my $fetched = sql("SELECT billing.create_refund('$oxxo', reason => 'service_disruption')");
conekta('cash that is fetched', $fetched, 'orders.orderRefund', [ $ord, { amount => 25000, reason => 'cannot_be_fulfilled' }, 'es' ]);
sql("SELECT billing.cancel_refund('$fetched')");
conekta('or not', $fetched, 'orders.orderCancelRefund', [ $ord, ref_of('refund', $fetched), 'es' ]);

# ---- plans and subscriptions ----

sql("SELECT billing.create_plan('mx', 'México', 29900, 'MXN')");
sql("SELECT billing.create_plan('mx_year', 'México anual', 299000, 'MXN', 'year', 1)");
my $subscription = sql("SELECT billing.subscribe('org_1', 'mx')");
await($subscription);
my ($price, $yearly) = map { sql("SELECT r.id FROM billing.prices AS r JOIN billing.plans AS p ON p.id = r.plan_id WHERE p.plan = '$_'") } 'mx', 'mx_year';
my $sub = ref_of('subscription', $subscription);
conekta('a plan and a subscription', $subscription,
	'plans.createPlan', [ { id => "janua-$price", name => 'México', amount => 29900, currency => 'MXN', interval => 'month', frequency => 1 }, 'es' ],
	'subscriptions.subscriptionCreate', [ $cus, { plan_id => "janua-$price", card_id => $src }, 'es' ]);
sql("SELECT billing.update_subscription('$subscription', 'mx_year', proration_behavior => 'none')");
conekta('another plan', $subscription,
	'plans.createPlan', [ { id => "janua-$yearly", name => 'México anual', amount => 299000, currency => 'MXN', interval => 'year', frequency => 1 }, 'es' ],
	'subscriptions.subscriptionUpdate', [ $cus, $sub, { plan_id => "janua-$yearly" }, 'es' ]);
sql("SELECT billing.pause_subscription('$subscription')");
conekta('a pause', $subscription, 'subscriptions.subscriptionPause', [ $cus, $sub, 'es' ]);
sql("SELECT billing.resume_subscription('$subscription')");
conekta('its end', $subscription, 'subscriptions.subscriptionResume', [ $cus, $sub, 'es' ]);
sql("SELECT billing.refresh('$subscription')");
conekta('a subscription that is asked for', $subscription, 'subscriptions.subscriptionsGet', [ $cus, $sub, 'es' ]);
hear();
act(provider => 'conekta', action => 'bill', subscription => $sub, outcome => 'declined');
hear();
sql("SELECT billing.retry_payment('$subscription')");
conekta('a payment tried again', $subscription, 'subscriptions.subscriptionUpdate', [ $cus, $sub, { card_id => $src }, 'es' ],
	'subscriptions.subscriptionsRetry', [ $cus, $sub, 'es' ]);
my $portal = sql("SELECT billing.create_portal_session('$ana', subscription_id => '$subscription', locale => 'en-GB')");
conekta('the portal', $portal, 'portal.createCustomerPortal', [ $sub, 'en' ]);
sql("SELECT billing.cancel_subscription('$subscription', false)");
conekta('the end', $subscription, 'subscriptions.subscriptionCancel', [ $cus, $sub, 'es' ]);
my $plan = sql("SELECT id FROM billing.plans WHERE plan = 'mx'");
sql("UPDATE billing.plans SET name = 'México 2' WHERE plan = 'mx'");
conekta('a plan renamed', $price, 'plans.updatePlan', [ "janua-$price", { name => 'México 2' }, 'es' ]);

# ---- checkouts and links ----

$later = time + 2 * 86400;
my $lines = '[{"name": "Camisa", "amount": 30000, "currency": "MXN", "quantity": 2, "description": "azul & roja"}]';
my $page = sql(<<"SQL");
SELECT billing.create_checkout_session('$ana', '$lines', 'https://example.com/ok?s={CHECKOUT_SESSION_ID}', 'https://example.com/no', methods => '{card,oxxo,spei}', installments => '{3,6}',
	tax_lines => '[{"description": "IVA", "amount": 9600}]', locale => 'en', expires_at => to_timestamp($later), metadata => '{"cart": "7"}')
SQL
my $paying = sql("SELECT payment_intent_id FROM billing.checkout_sessions WHERE id = '$page'");
my %camisas = (line_items => [ { name => 'Camisa', unit_price => 30000, quantity => 2, description => 'azul & roja' } ]);
conekta('a hosted page', $page, 'orders.createOrder', [ { currency => 'MXN', customer_info => { customer_id => $cus }, %camisas, tax_lines => [ { description => 'IVA', amount => 9600 } ],
	checkout => { type => 'HostedPayment', allowed_payment_methods => [ 'card', 'cash', 'bank_transfer' ], monthly_installments_enabled => $true,
		monthly_installments_options => [ 3, 6 ], success_url => "https://example.com/ok?s=$page", failure_url => 'https://example.com/no', expires_at => $later },
	metadata => { cart => '7', janua_ref => $paying, janua_session => $page, organization_id => 'org_1' } }, 'en' ]);
my $checkout = ref_of('checkout_session', $page);
sql("SELECT billing.expire_checkout_session('$page')");
conekta('a page that is closed', $page, 'checkouts.cancelCheckout', [ $checkout, 'es' ]);
my $link = sql("SELECT billing.create_payment_link('Pago de servicio', '$lines', methods => '{card,cash}', expires_at => to_timestamp($later), max_payments => 3, provider => 'conekta', metadata => '{\"l\": \"m\"}')");
conekta('a link', $link, 'checkouts.createCheckout', [ { name => 'Pago de servicio', type => 'PaymentLink', recurrent => $true, payments_limit_count => 3, expires_at => $later,
	needs_shipping_contact => $false, allowed_payment_methods => [ 'card', 'cash' ],
	order_template => { currency => 'MXN', %camisas, metadata => { l => 'm', janua_session => $link } } }, 'es' ]);
$checkout = ref_of('checkout_session', $link);
sql("SELECT billing.cancel_payment_link('$link')");
conekta('a link that is closed', $link, 'checkouts.cancelCheckout', [ $checkout, 'es' ]);

# ---- webhook endpoints ----

my $hook = sql("SELECT billing.register_webhook('conekta', 'https://example.com/hook', events => '{order.paid,subscription.canceled}')");
conekta('an endpoint', $hook, 'webhooks.createWebhook', [ { url => 'https://example.com/hook', subscribed_events => [ 'order.paid', 'subscription.canceled' ] }, 'es' ],
	'webhookKeys.getWebhookKeys', [ 'es', undef, 250 ]);
my $endpoint = ref_of('webhook_endpoint', $hook);
sql("SELECT billing.update_webhook('$hook', url => 'https://example.com/hook2', enabled => false)");
conekta('an endpoint that is changed', $hook, 'webhooks.updateWebhook', [ $endpoint, { url => 'https://example.com/hook2', active => $false }, 'es' ]);
my ($old) = map { $_->{id} } grep { $_->{active} } objects('conekta', 'webhook_keys');
sql("SELECT billing.rotate_webhook_secret('$hook')");
conekta('a new key', $hook, 'webhooks.getWebhook', [ $endpoint, 'es' ], 'webhookKeys.getWebhookKeys', [ 'es', undef, 250 ],
	'webhookKeys.createWebhookKey', [ 'es', { active => $true } ], 'webhookKeys.updateWebhookKey', [ $old, 'es', { active => $false } ]);
my $account = sql("SELECT billing.refresh_webhooks('conekta')");
conekta('the endpoints', $account, 'webhooks.getWebhooks', [ 'es', undef, 250 ]);
sql("SELECT billing.delete_webhook('$hook')");
conekta('an endpoint deleted', $hook, 'webhooks.deleteWebhook', [ $endpoint, 'es' ]);

# ---- a look-up and the end ----

$simulator->control('faults', { action => 'malformed_body', match => { provider => 'conekta', method => 'POST', path => '^/customers$' } });
my $lost = sql("SELECT billing.create_customer('org_lost', 'l\@example.com', 'Luz', provider => 'conekta', phone => '$phone')");
conekta('a customer whose answer was lost', $lost, 'customers.createCustomer', [ { name => 'Luz', email => 'l@example.com', phone => $phone, custom_reference => $lost,
	metadata => { janua_ref => $lost, organization_id => 'org_lost' } }, 'es' ], 'customers.getCustomers', [ 'es', undef, 250, $lost ]);
my $cus_lost = ref_of('customer', $lost);
sql("SELECT billing.delete_customer('$lost')");
conekta('a customer deleted', $lost, 'customers.deleteCustomerById', [ $cus_lost, 'es' ]);

# ===========================================================================
# Polar
# ===========================================================================

sub polar { same('polar', @_) }

# ---- customers ----

my $buyer = sql("SELECT billing.create_customer('org_p', 'a\@example.com', provider => 'polar')");
polar('a customer', $buyer, 'customers.create', [ { email => 'a@example.com', external_id => $buyer, metadata => { organization_id => 'org_p' } } ]);
my $person = ref_of('customer', $buyer);
my $rich = sql(<<"SQL");
SELECT billing.create_customer('org/p ñ', 'niño+p\@example.com', '$name', 'DE', 'polar', address => '{"line1": "Unter den Linden 1", "city": "Berlin", "postal_code": "10117", "country": "DE"}',
	tax_ids => '[{"type": "eu_vat", "value": "DE123456789"}]', locale => 'de-DE', metadata => '{"tier": "gold", "old": "x"}')
SQL
polar('a customer with everything', $rich, 'customers.create', [ { email => 'niño+p@example.com', external_id => $rich, name => $name, tax_id => 'DE123456789', locale => 'de-DE',
	billing_address => { line1 => 'Unter den Linden 1', city => 'Berlin', postal_code => '10117', country => 'DE' }, metadata => { tier => 'gold', old => 'x', organization_id => 'org/p ñ' } } ]);
my $company = ref_of('customer', $rich);
sql(qq(SELECT billing.update_customer('$rich', '{"name": null, "email": "b\@example.com", "metadata": {"old": null, "new": "y"}}')));
polar('a change', $rich, 'customers.get', [ $company ],
	'customers.update', [ $company, { name => undef, email => 'b@example.com', metadata => { tier => 'gold', new => 'y', organization_id => 'org/p ñ' } } ]);
sql(qq(SELECT billing.update_customer('$rich', '{"tax_ids": [{"type": "eu_vat", "value": "FR12345678901"}]}')));
polar('another tax id', $rich, 'customers.update', [ $company, { tax_id => 'FR12345678901' } ]);
my $saved = act(provider => 'polar', action => 'add_payment_method', customer => $person, last4 => '4242');
new_requests();
sql("SELECT billing.refresh_payment_methods('$buyer')");
polar('the payment methods', $buyer, 'customers.listPaymentMethods', [ $person, { limit => 100 } ]);
my $visa = sql("SELECT id FROM billing.list_payment_methods('$buyer')");
my $entrance = sql("SELECT billing.create_portal_session('$buyer', 'https://example.com/back?a=1&b=2')");
polar('the portal', $entrance, 'customerSessions.create', [ { customer_id => $person, return_url => 'https://example.com/back?a=1&b=2' } ]);

# ---- checkouts, products, subscriptions ----

my $sale = sql("SELECT billing.create_checkout_session('$buyer', plan => 'pro', success_url => 'https://example.com/ok?s={CHECKOUT_SESSION_ID}', cancel_url => 'https://example.com/no', trial_days => 0, locale => 'es', metadata => '{\"cart\": \"7\"}')");
await($sale);
my ($sold, $pro) = map { sql("SELECT $_") } "subscription_id FROM billing.checkout_sessions WHERE id = '$sale'",
	"r.id FROM billing.prices AS r JOIN billing.plans AS p ON p.id = r.plan_id WHERE p.plan = 'pro'";
my $product = ref_of('price', $pro);
polar('a product and a checkout', $sale,
	'products.create', [ { name => 'Pro', prices => [ { amount_type => 'fixed', price_amount => 2900, price_currency => 'usd' } ], recurring_interval => 'month',
		recurring_interval_count => 1, metadata => { janua_ref => $pro } } ],
	'checkouts.create', [ { products => [$product], customer_id => $person, currency => 'usd', success_url => "https://example.com/ok?s=$sale", return_url => 'https://example.com/no',
		allow_discount_codes => $false, locale => 'es', metadata => { cart => '7', organization_id => 'org_p', janua_session => $sale, janua_subscription => $sold } } ]);
my $there = ref_of('checkout_session', $sale);
sql("SELECT billing.refresh_checkout_session('$sale')");
polar('a checkout that is asked for', $sale, 'checkouts.get', [$there]);
act(provider => 'polar', action => 'complete_checkout', checkout => $there);
hear();
my $running = ref_of('subscription', $sold);
my $trying = sql("SELECT billing.create_checkout_session('$rich', plan => 'pro', quantity => 5, success_url => 'https://example.com/ok', trial_days => 14, allow_promotion_codes => true)");
my $tried = sql("SELECT subscription_id FROM billing.checkout_sessions WHERE id = '$trying'");
polar('seats and a trial', $trying, 'checkouts.create', [ { products => [$product], seats => 5, customer_id => $company, currency => 'usd', success_url => 'https://example.com/ok',
	allow_discount_codes => $true, allow_trial => $true, trial_interval => 'day', trial_interval_count => 14,
	metadata => { organization_id => 'org/p ñ', janua_session => $trying, janua_subscription => $tried } } ]);

sql("SELECT billing.create_plan('team', 'Team & Co', 9900, description => 'for 100 %')");
sql("SELECT billing.update_subscription('$sold', 'team')");
await($sold);
my $team = sql("SELECT r.id FROM billing.prices AS r JOIN billing.plans AS p ON p.id = r.plan_id WHERE p.plan = 'team'");
polar('another plan', $sold,
	'products.create', [ { name => 'Team & Co', description => 'for 100 %', prices => [ { amount_type => 'fixed', price_amount => 9900, price_currency => 'usd' } ],
		recurring_interval => 'month', recurring_interval_count => 1, metadata => { janua_ref => $team } } ],
	'subscriptions.update', [ $running, { product_id => ref_of('price', $team), proration_behavior => 'prorate' } ]);
sql("SELECT billing.update_subscription('$sold', 'pro', effective => 'period_end')");
polar('a plan for the next period', $sold, 'subscriptions.update', [ $running, { product_id => $product, proration_behavior => 'next_period' } ]);
sql("SELECT billing.cancel_subscription('$sold', reason => 'too_expensive', comment => 'Adiós & thanks')");
polar('an end with the period', $sold, 'subscriptions.update', [ $running, { cancel_at_period_end => $true, customer_cancellation_reason => 'too_expensive',
	customer_cancellation_comment => 'Adiós & thanks' } ]);
sql("SELECT billing.resume_subscription('$sold')");
polar('a cancellation taken back', $sold, 'subscriptions.update', [ $running, { cancel_at_period_end => $false } ]);
sql("SELECT billing.pause_subscription('$sold', at_period_end => true, resumes_at => '2030-01-01T00:00:00Z')");
polar('a pause', $sold, 'subscriptions.update', [ $running, { pause_at_period_end => $true, resumes_at => '2030-01-01T00:00:00Z' } ]);
$simulator->control('clock', { advance => 60 }); # a period is not empty
act(provider => 'polar', action => 'cycle', subscription => $running);
hear();
sql("SELECT billing.resume_subscription('$sold')");
polar('its end', $sold, 'subscriptions.update', [ $running, { resume => $true } ]);
sql("SELECT billing.refresh('$sold')");
polar('a subscription that is asked for', $sold, 'subscriptions.get', [$running]);
hear();
sql("SELECT billing.refresh_invoices('$buyer')");
polar('the orders', $buyer, 'orders.list', [ { customer_id => $person, limit => 100 } ]);
my $invoice = sql("SELECT id FROM billing.invoices WHERE subscription_id = '$sold' ORDER BY created_at LIMIT 1");
my $billed = ref_of('invoice', $invoice);
sql("SELECT billing.refresh('$invoice')");
polar('an order that is asked for', $invoice, 'orders.get', [$billed]);
$simulator->control('edit', { provider => 'polar', kind => 'orders', id => $billed, fields => { billing_name => 'A', billing_address => { country => 'DE' } } });
new_requests();
sql("SELECT billing.fetch_invoice_document('$invoice')");
polar('a document', $invoice, 'orders.get', [$billed], 'orders.generateInvoice', [$billed], 'orders.invoice', [$billed], 'orders.get', [$billed]);
sql("SELECT billing.cancel_subscription('$sold', false)");
polar('an end at once', $sold, 'subscriptions.revoke', [$running]);

my $offer = sql("SELECT billing.create_payment_link('Pago de servicio', '[{\"price\": \"$pro\"}]', success_url => 'https://example.com/ok', provider => 'polar', metadata => '{\"l\": \"m\"}')");
polar('a link', $offer, 'checkoutLinks.create', [ { payment_processor => 'stripe', products => [$product], label => 'Pago de servicio', success_url => 'https://example.com/ok',
	allow_discount_codes => $false, metadata => { l => 'm', janua_link => $offer } } ]);
$there = ref_of('checkout_session', $offer);
sql("SELECT billing.cancel_payment_link('$offer')");
polar('a link that is closed', $offer, 'checkoutLinks.delete', [$there]);
sql("UPDATE billing.plans SET name = 'Professional' WHERE plan = 'pro'");
polar('a product renamed', $pro, 'products.update', [ $product, { name => 'Professional' } ]);
sql("SELECT billing.create_price('pro', 3900)");
polar('a product archived', $pro, 'products.update', [ $product, { is_archived => $true } ]);

# ---- orders, refunds, disputes ----

my $goods = $simulator->control('call', { provider => 'polar', method => 'POST', path => '/v1/products/', params => { name => 'Charges',
	prices => [ { amount_type => 'fixed', price_amount => 100, price_currency => 'usd' } ], recurring_interval => undef } })->{body}{id};
sql(qq(SELECT billing.configure_provider('polar', options => '{"product_id": "$goods"}')));
hear();
my $payment = sql("SELECT billing.create_payment_intent('$buyer', 4200, 'USD', payment_method => '$visa', confirm => true, description => 'Consulting – 3 h', metadata => '{\"n\": \"1\"}')");
await($payment);
my $ordered = ref_of('payment_intent', $payment);
polar('a payment', $payment, 'orders.create', [ { customer_id => $person, product_id => $goods, amount => 4200, currency => 'usd', description => 'Consulting – 3 h',
	metadata => { n => '1', organization_id => 'org_p', janua_payment => $payment } } ], 'orders.finalize', [ $ordered, { payment_method_id => $saved->{id} } ]);
my $draft = sql("SELECT billing.create_payment_intent('$buyer', 700, 'USD', payment_method => '$visa', confirm => false)");
polar('a draft', $draft, 'orders.create', [ { customer_id => $person, product_id => $goods, amount => 700, currency => 'usd',
	metadata => { organization_id => 'org_p', janua_payment => $draft } } ]);
sql("SELECT billing.confirm_payment_intent('$draft')");
polar('a draft that is charged as it was asked for', $draft, 'orders.finalize', [ ref_of('payment_intent', $draft), { payment_method_id => $saved->{id} } ]);
my $back = sql("SELECT billing.create_refund('$payment', 1000, 'requested_by_customer', 'sorry', '{\"n\": \"1\"}')");
polar('a refund', $back, 'orders.get', [$ordered], 'refunds.create', [ { order_id => $ordered, amount => 1000, reason => 'customer_request', comment => 'sorry',
	metadata => { n => '1', organization_id => 'org_p', janua_ref => $back } } ]);
act(provider => 'polar', action => 'dispute', order => ref_of('payment_intent', $draft));
hear();
$account = sql("SELECT billing.fetch_disputes('polar')");
polar('the disputes', $account, 'disputes.list', [ { limit => 100 } ]);
my $dispute = sql("SELECT id FROM billing.disputes WHERE provider = 'polar'");
sql("SELECT billing.accept_dispute('$dispute')");
polar('a dispute that is accepted', $dispute, 'disputes.accept', [ ref_of('dispute', $dispute) ]);

# ---- usage ----

my $meter = sql("SELECT billing.forward_usage('api_calls', 'polar', since => now() - interval '5 hours')");
polar('a meter', $meter, 'meters.create', [ { name => 'api_calls', filter => { conjunction => 'and', clauses => [ { property => 'name', operator => 'eq', value => 'api_calls' } ] },
	aggregation => { func => 'sum', property => 'value' }, metadata => { janua_ref => $meter } } ]);
sql(<<"SQL");
UPDATE billing.settings SET value = '0' WHERE name = 'usage_forward_delay';
INSERT INTO billing.usage_forward_periods (organization_id, subscription_id, starts_at, ends_at, provider, account)
SELECT organization_id, id, now() - interval '1 day', now() + interval '9 days', 'polar', 'default' FROM billing.customers WHERE organization_id = 'org_p';
SELECT billing.record_usage('org_p', 'api_calls', 2.5, now() - interval '3 hours');
SQL
wait_for($node, 'SELECT state FROM billing.usage_forwards', 'accepted', 'usage is forwarded');
my ($identifier, $hour) = split /\|/, sql(q{SELECT identifier, to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') FROM billing.usage_forwards});
polar('usage of an hour', undef, 'events.ingest', [ { events => [ { name => 'api_calls', customer_id => sql("SELECT r.provider_id FROM billing.provider_refs AS r "
	  . "JOIN billing.customers AS c ON c.id = r.object_id WHERE c.organization_id = 'org_p' AND r.provider = 'polar'"), external_id => $identifier, timestamp => $hour,
	metadata => { value => 2.5 } } ] } ]);

# ---- webhook endpoints, the end ----

$hook = sql("SELECT billing.register_webhook('polar', 'https://hooks.example.com/polar', events => '{order.paid,subscription.revoked}')");
polar('an endpoint', $hook, 'webhooks.createWebhookEndpoint', [ { url => 'https://hooks.example.com/polar', format => 'raw', events => [ 'order.paid', 'subscription.revoked' ] } ]);
$endpoint = ref_of('webhook_endpoint', $hook);
sql("SELECT billing.update_webhook('$hook', url => 'https://hooks.example.com/2', enabled => false)");
polar('an endpoint that is changed', $hook, 'webhooks.updateWebhookEndpoint', [ $endpoint, { url => 'https://hooks.example.com/2', enabled => $false } ]);
sql("SELECT billing.rotate_webhook_secret('$hook')");
polar('a new secret', $hook, 'webhooks.resetWebhookEndpointSecret', [$endpoint]);
$account = sql("SELECT billing.refresh_webhooks('polar')");
polar('the endpoints', $account, 'webhooks.listWebhookEndpoints', [ { limit => 100 } ]);
sql("SELECT billing.delete_webhook('$hook')");
polar('an endpoint deleted', $hook, 'webhooks.deleteWebhookEndpoint', [$endpoint]);
my $gone = sql("SELECT billing.create_customer('org_gone', 'gone\@example.com', provider => 'polar')");
polar('another customer', $gone, 'customers.create', [ { email => 'gone@example.com', external_id => $gone, metadata => { organization_id => 'org_gone' } } ]);
my $leaving = ref_of('customer', $gone);
sql("SELECT billing.delete_customer('$gone')");
polar('a customer deleted', $gone, 'customers.delete', [$leaving]);

# ===========================================================================
# The same by the clients.
# ===========================================================================

# {path, and the members of the query as text}; names and values as they are meant.
sub target
{
	my ($path, $query) = split /\?/, $_[0], 2;
	my %members;

	foreach my $member (split /&/, $query // '')
	{
		my ($field, $value) = map { s/%([0-9A-Fa-f]{2})/chr hex $1/ger } split /=/, $member, 2;
		$members{$field} = $value;
	}
	return { path => $path, query => \%members };
}

sub data { return $_[0] eq '' ? '' : $json->encode($json->decode($_[0])) }

# Takes what is not ours to send out of a query or the headers.
sub without
{
	my ($provider, $members) = @_;

	foreach my $line (grep { $_->[0] eq $provider } @NOT_OURS)
	{
		my (undef, $field, $value) = @$line;

		next unless defined $members->{$field} && $members->{$field} eq $value;
		$needed{"$provider $field"} = 1;
		delete $members->{$field};
	}
}

sub compare
{
	my ($provider, $our, $their) = @_;
	my ($here, $there) = map { target($_->{path} // '') } $our, $their;
	my %headers = %{ $their->{headers} };

	without($provider, $there->{query});
	without($provider, \%headers) if $their->{body} eq '';
	is(($our->{method} // '') . ' ' . $json->encode($here), "$their->{method} " . $json->encode($there), "$their->{name}: method, path and query");
	is(data($our->{body} // ''), data($their->{body}), "$their->{name}: body");
	is($our->{headers}{$_}, $headers{$_}, "$their->{name}: $_") foreach qw(accept accept-language polar-version content-type);
	like($our->{headers}{authorization} // '', qr/^Bearer \S+$/, "$their->{name}: authorization");
	ok(!exists $our->{headers}{$_}, "$their->{name}: no $_") foreach qw(expect idempotency-key);
}

foreach my $provider (sort keys %calls)
{
	my $output;

	cmp_ok(scalar @{ $calls{$provider} }, '>=', 25, "$provider: at least 25 calls");
	IPC::Run::run([ $ENV{JANUA_NODE} || 'node', "$ENV{JANUA_SIMULATOR}/sdk_bytes_$provider.js", '--calls' ], '<', \encode_utf8($json->encode($calls{$provider})), '>', \$output)
	  or die "the client of $provider failed";
	my @theirs = map { $json->decode(decode_utf8($_)) } split /\n/, $output;
	is(scalar @theirs, scalar @{ $ours{$provider} }, "$provider: both make as many calls");
	compare($provider, $ours{$provider}[$_], $theirs[$_]) for 0 .. $#theirs;
}
ok($needed{"$_->[0] $_->[1]"}, "$_->[0] sends $_->[1] $_->[2], and we do not: $_->[3]") foreach @NOT_OURS;
is($simulator->control('violations')->{count}, 0, 'every request matches the document') or diag(explain($simulator->control('violations')));

done_testing();

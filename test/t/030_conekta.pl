# Conekta, over HTTP: every call from SQL to the applied answer, and that there
# is exactly one object after an answer was lost, for every POST.
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
my $handed_over = 0;
my $serial = 0;

sub sql { return decode_utf8($node->safe_psql('postgres', encode_utf8($_[0]))) }
sub await { return sql("SELECT billing.await('$_[0]', '60 seconds')") }

# What a call that is refused says.
sub refusal
{
	my (undef, undef, $errors) = $node->psql('postgres', "\\set VERBOSITY verbose\n" . encode_utf8($_[0]));
	return decode_utf8($errors);
}

sub objects { return @{ $simulator->control("objects/$_[0]?provider=conekta" . join '', map { "&$_" } @_[ 1 .. $#_ ]) } }
sub requests { return @{ $simulator->control('requests?provider=conekta&' . join '&', @_) } }
sub body { return JSON::PP->new->decode($_[0]->{body}) }
sub act { return $simulator->control('act', { provider => 'conekta', @_ }) }

sub id_at
{
	my ($type, $id) = @_;

	return sql("SELECT provider_id FROM billing.provider_refs WHERE object_type = '$type' AND object_id = '$id' AND provider = 'conekta'");
}

# A card token that nobody has used yet.
sub token { return "tok_test_$_[0]_" . ++$serial }

sub customer
{
	my ($organization) = @_;
	my $id = sql("SELECT billing.create_customer('$organization', '$organization\@example.com', name => 'Ana Pérez', phone => '+525512345678', provider => 'conekta', currency => 'MXN')");

	await($id);
	return $id;
}

sub attached
{
	my ($customer, $card) = @_;
	my $token = token($card);
	my $id = sql("SELECT billing.attach_payment_method('$customer', '$token')");

	await($id);
	return $id;
}

# A paid order of so many centavos.
sub paid
{
	my ($customer, $amount) = @_;
	my $token = token('visa_4242');
	my $id = sql("SELECT billing.create_payment_intent('$customer', $amount, 'MXN', payment_method => '$token', confirm => true)");

	is(await($id), 'succeeded', "$amount are paid");
	return $id;
}

sub intent { return sql("SELECT $_[1] FROM billing.payment_intents WHERE id = '$_[0]'") }

# Hands the events since the last time to the extension.
sub hand_over_conekta
{
	my $events = $simulator->control("events?provider=conekta&after=$handed_over");
	my @states;

	foreach my $event (@$events)
	{
		my ($status, $output, $errors) = webhook($node, 'conekta', encode_utf8($event->{body}), $event->{headers});

		push @states, $status == 0 ? (split /\|/, $output)[1] . ' ' . (split /\|/, $output)[2] : $errors;
		$handed_over = $event->{seq};
	}
	# where an event and an answer of one second contradict each other, the order is asked for
	poll_until(sub { sql("SELECT count(*) FROM billing.outbox WHERE operation LIKE '%.fetch' AND state IN ('queued', 'sending')") eq '0' }, 'what is in doubt was asked for');
	return @states;
}

# The answer to the next such request is lost after it was carried out.
sub lose
{
	my ($method, $path) = @_;

	$simulator->control('faults', { match => { provider => 'conekta', method => $method, path => $path }, action => 'drop_after' });
}

my ($key) = grep { $_->{active} } @{ $simulator->control('signing_keys?provider=conekta') };
my $url = $simulator->url . '/conekta';

sql("UPDATE billing.settings SET value = '20 milliseconds' WHERE name = 'retry_base'");
sql("SELECT billing.configure_provider('conekta', 'key_test', webhook_secret => '$key->{public_key}', publishable_key => 'key_pub', base_url => '$url', options => '{\"sandbox\": true}')");

# ---- accounts ----

like(refusal("SELECT billing.configure_provider('conekta', 'sk_test_1', account => 'a')"), qr/22023.*begins with key_/s, 'a key of somebody else is refused');
like(refusal("SELECT billing.configure_provider('conekta', 'key_1', account => 'a', options => '{\"headers\": {\"authorization\": \"x\"}}')"), qr/22023/, 'no option carries an authorization');
is(sql("SELECT livemode FROM billing.provider_accounts WHERE provider = 'conekta'"), 'f', 'sandbox means the test mode');
sql("SELECT billing.configure_provider('conekta', 'key_2', account => 'shop')");
is(sql("SELECT livemode FROM billing.provider_accounts WHERE provider = 'conekta' AND account = 'shop'"), 't', 'without it an account is live');

# ---- customers ----

like(refusal("SELECT billing.create_customer('org_0', 'x\@example.com', provider => 'conekta')"), qr/23502: conekta requires name/, 'a customer needs a name');
my $customer = customer('org_1');
my ($there) = objects('customers', "custom_reference=$customer");
is($there->{id}, id_at('customer', $customer), 'a customer is made');
is($there->{metadata}{organization_id}, 'org_1', 'with our ids');
sql("SELECT billing.update_customer('$customer', '{\"name\": \"Ana María\", \"metadata\": {\"tier\": \"gold\"}}')");
await($customer);
($there) = objects('customers', "custom_reference=$customer");
is("$there->{name} $there->{metadata}{tier} $there->{metadata}{janua_ref}", "Ana María gold $customer", 'a change is told, and our reference stays');
like(refusal("SELECT billing.update_customer('$customer', '{\"phone\": null}')"), qr/JB004|23502/, 'what Conekta needs cannot be taken away');

like(refusal("SELECT billing.update_customer('$customer', '{\"tax_ids\": [{\"type\": \"eu_vat\", \"value\": \"DE123456789\"}]}')"), qr/JB004.*mx_rfc/s, 'no tax id but an RFC');
like(refusal("SELECT billing.update_customer('$customer', '{\"tax_ids\": [{\"type\": \"mx_rfc\", \"value\": \"AAA010101AAA\"}]}')"), qr/23502.*address/s, 'an RFC needs an address');
my $address = '{"line1": "Reforma 1", "postal_code": "06100", "city": "Ciudad de México", "country": "MX"}';
foreach my $rfc ('AAA010101AAA', 'BBB010101BBB')
{
	sql("SELECT billing.update_customer('$customer', '{\"address\": $address, \"tax_ids\": [{\"type\": \"mx_rfc\", \"value\": \"$rfc\"}]}')");
	await($customer);
	my @entities = objects('fiscal_entities');
	is(join(' ', map { $_->{tax_id} } @entities), $rfc, "one fiscal entity, with the RFC $rfc");
}

# ---- payment methods ----

my $card = attached($customer, 'visa_4242');
is(sql("SELECT type, brand, last4, exp_year, is_default FROM billing.payment_methods WHERE id = '$card'"), 'card|visa|4242|2030|t', 'a card is attached');
my $second = attached($customer, 'mastercard_4444');
sql("SELECT billing.set_default_payment_method('$second')");
await($second);
is((objects('customers', "custom_reference=$customer"))[0]{default_payment_source_id}, id_at('payment_method', $second), 'the default is told');
sql("SELECT billing.set_default_payment_method('$card')");
await($card);
foreach my $type ('cash_recurrent', 'spei_recurrent')
{
	my $id = sql("SELECT billing.attach_payment_method('$customer', type => '$type')");
	is(await($id), 'attached', "a reference of type $type");
}
is(scalar objects('payment_sources'), 4, 'four sources');
sql("SELECT billing.detach_payment_method('$second')");
is(await($second), 'detached', 'one is detached');
like(refusal("SELECT billing.create_setup_intent('$customer')"), qr/JB004.*attach_payment_method/s, 'no setup intents');

# ---- payments by card ----

my $paid = paid($customer, 50000);
is(intent($paid, 'amount_received, method, currency'), '50000|card|MXN', 'it says what was received');
is(intent($paid, 'fee_amount, fee_currency'), '1972|MXN', 'and what Conekta keeps of it');
is(sql("SELECT debit, credit, amount, currency FROM billing.ledger WHERE payment_intent_id = '$paid' AND kind = 'fee'"), 'provider_fees|cash|1972|MXN', 'which is booked');
my ($order) = objects('orders', "metadata.janua_ref=$paid");
is($order->{charges}{data}[0]{reference_id}, $paid, 'the charge carries our reference');
my $stored = sql("SELECT billing.create_payment_intent('$customer', 12000, 'MXN', payment_method => '" . id_at('payment_method', $card) . "', confirm => true, line_items => '[{\"name\": \"Camisa\", \"amount\": 5000, \"quantity\": 2}]', tax_lines => '[{\"description\": \"IVA\", \"amount\": 2000}]')");
is(await($stored), 'succeeded', 'lines and taxes make up an order');
my $msi = sql("SELECT billing.create_payment_intent('$customer', 60000, 'MXN', payment_method => '" . token('visa_4242') . "', confirm => true, installments => 6)");
is(await($msi), 'succeeded', 'six months without interest');
is(intent($msi, 'installments'), 6, 'the months are known');
like(refusal("SELECT billing.create_payment_intent('$customer', 60000, 'MXN', payment_method => '" . token('visa_4242') . "', confirm => true, installments => 7)"), qr/JB004|22023/, 'not seven');
like(refusal("SELECT billing.create_payment_intent('$customer', 60000, 'USD', payment_method => '" . token('visa_4242') . "', confirm => true)"), qr/JB004.*MXN/s, 'no orders in dollars');

my $held = sql("SELECT billing.create_payment_intent('$customer', 40000, 'MXN', payment_method => '" . token('visa_4242') . "', confirm => true, capture_method => 'manual')");
is(await($held), 'requires_capture', 'a payment is authorised');
sql("SELECT billing.capture_payment_intent('$held')");
is(await($held), 'succeeded', 'and captured as a whole');
my $part = sql("SELECT billing.create_payment_intent('$customer', 40000, 'MXN', payment_method => '" . token('visa_4242') . "', confirm => true, capture_method => 'manual')");
await($part);
sql("SELECT billing.capture_payment_intent('$part', 30000)");
is(await($part), 'succeeded', 'or in part');
is(intent($part, 'amount_received'), 30000, 'that part is received');
my $released = sql("SELECT billing.create_payment_intent('$customer', 40000, 'MXN', payment_method => '" . token('visa_4242') . "', confirm => true, capture_method => 'manual')");
await($released);
sql("SELECT billing.cancel_payment_intent('$released')");
is(await($released), 'canceled', 'or given up');

my $declined = sql("SELECT billing.create_payment_intent('$customer', 50000, 'MXN', payment_method => '" . token('card_declined') . "', confirm => true)");
is(await($declined), 'failed', 'a declined card');
like(intent($declined, 'error_code, decline_code'), qr/declined/, 'says why');
isnt(id_at('payment_intent', $declined), '', 'the order that it left behind is known');
sql("SELECT billing.confirm_payment_intent('$declined', '" . token('visa_4242') . "')");
is(await($declined), 'succeeded', 'and is paid by a better card');
is(scalar(objects('orders', "metadata.janua_ref=$declined")), 1, 'it is the same order');
$simulator->control('settings', { provider => 'conekta', declined_leaves_order => JSON::PP::false });
my $nothing = sql("SELECT billing.create_payment_intent('$customer', 50000, 'MXN', payment_method => '" . token('card_declined') . "', confirm => true)");
is(await($nothing), 'failed', 'a declined card that leaves nothing behind');
$simulator->control('settings', { provider => 'conekta', declined_leaves_order => JSON::PP::true });

my $asked = sql("SELECT billing.create_payment_intent('$customer', 50000, 'MXN', payment_method => '" . token('3ds') . "', confirm => true, return_url => 'https://example.com/back')");
is(await($asked), 'succeeded', 'without a mode nobody asks for proof');
sql("SELECT billing.configure_provider('conekta', options => '{\"sandbox\": true, \"three_ds_mode\": \"smart\"}')");
$asked = sql("SELECT billing.create_payment_intent('$customer', 50000, 'MXN', payment_method => '" . token('3ds') . "', confirm => true, return_url => 'https://example.com/back')");
is(await($asked), 'requires_action', 'the bank asks for proof');
like(sql("SELECT billing.client_config('$asked') -> 'next_action' ->> 'url'"), qr{^https://pay\.conekta\.com/3ds/}, 'there');
act(action => 'authenticate', order => id_at('payment_intent', $asked));
ok((grep { $_ eq 'order.paid applied' } hand_over_conekta()), 'the webhook says that it is paid');
is(intent($asked, 'status'), 'succeeded', 'and so it is');

# ---- payments by reference ----

my $oxxo = sql("SELECT billing.create_payment_intent('$customer', 25000, 'MXN', method => 'oxxo', confirm => true, expires_at => now() + '3 days')");
is(await($oxxo), 'requires_action', 'a voucher waits for the customer');
like(sql("SELECT billing.client_config('$oxxo') -> 'next_action'"), qr/"type": "oxxo".*"barcode_url"|"barcode_url".*"type": "oxxo"/, 'with its barcode');
is(intent($oxxo, 'fee_amount'), '', 'the fee that its charge names is not taken yet');
my $reference = sql("SELECT billing.client_config('$oxxo') -> 'next_action' ->> 'reference'");
act(action => 'pay_reference', reference => $reference);
hand_over_conekta();
is(intent($oxxo, 'status, amount_received'), 'succeeded|25000', 'it is paid in the shop');
my $spei = sql("SELECT billing.create_payment_intent('$customer', 25000, 'MXN', method => 'spei', confirm => true)");
is(await($spei), 'requires_action', 'a transfer waits, too');
like(sql("SELECT billing.client_config('$spei') -> 'next_action' ->> 'clabe'"), qr/^\d{18}$/, 'with its CLABE');
act(action => 'expire', id => id_at('payment_intent', $spei));
hand_over_conekta();
is(intent($spei, 'status'), 'canceled', 'and runs out');
my $later = sql("SELECT billing.create_payment_intent('$customer', 25000, 'MXN')");
is(await($later), 'pending', 'an order without a charge');
sql("SELECT billing.confirm_payment_intent('$later', method => 'spei')");
is(await($later), 'requires_action', 'gets one');
sql("SELECT billing.cancel_payment_intent('$later')");
is(await($later), 'canceled', 'and is cancelled');

# ---- refunds and disputes ----

my $refund = sql("SELECT billing.create_refund('$paid', 20000, 'duplicate')");
is(await($refund), 'succeeded', 'a part is paid back');
is(intent($paid, 'status, amount_refunded'), 'partially_refunded|20000', 'the payment says so');
is(body((requests('method=POST', 'path=/refunds$'))[-1])->{reason}, 'duplicated_transaction', 'with the reason in their words');
is(await(sql("SELECT billing.create_refund('$paid')")), 'succeeded', 'the rest is paid back');
is(intent($paid, 'status'), 'refunded', 'and nothing is left');
my $cash = sql("SELECT billing.create_refund('$oxxo')");
is(await($cash), 'pending', 'cash is fetched');
sql("SELECT billing.cancel_refund('$cash')");
is(await($cash), 'canceled', 'or not');
is(intent($oxxo, 'status, amount_refunded'), 'succeeded|0', 'and the payment is whole again');

my $taken_back = sql("SELECT billing.create_payment_intent('$customer', 25000, 'MXN', method => 'oxxo', confirm => true)");
await($taken_back);
act(action => 'pay_reference', reference => sql("SELECT billing.client_config('$taken_back') -> 'next_action' ->> 'reference'"));
hand_over_conekta();
act(action => 'reverse', charge => (objects('orders', "metadata.janua_ref=$taken_back"))[0]{charges}{data}[0]{id});
hand_over_conekta();
is(intent($taken_back, 'status, amount_refunded'), 'refunded|25000', 'cash that the shop took back is not kept');

act(action => 'chargeback', order => id_at('payment_intent', $stored));
hand_over_conekta();
is(sql("SELECT status, amount FROM billing.disputes WHERE payment_intent_id = '$stored'"), 'needs_response|12000', 'a chargeback is a dispute');
act(action => 'chargeback', order => id_at('payment_intent', $stored), status => 'lost');
hand_over_conekta();
is(sql("SELECT status FROM billing.disputes WHERE payment_intent_id = '$stored'"), 'lost', 'that is lost');

# ---- subscriptions ----

sql("SELECT billing.create_plan('mx', 'México', 29900, 'MXN')");
sql("SELECT billing.create_plan('mx_year', 'México anual', 299000, 'MXN', 'year')");
like(refusal("SELECT billing.subscribe('org_1', 'mx', quantity => 3, managed_by => 'provider')"), qr/JB004.*quantity/s, 'no quantities');
my $subscription = sql("SELECT billing.subscribe('org_1', 'mx')");
is(await($subscription), 'active', 'a subscription by the card at hand');
my ($plan) = objects('plans');
is("$plan->{amount} $plan->{currency} $plan->{interval} $plan->{name}", '29900 MXN month México', 'its price is a plan there');
hand_over_conekta();
is(sql("SELECT count(*) FROM billing.subscriptions WHERE organization_id = 'org_1'"), '1', 'its webhook makes no second one');
like(refusal("SELECT billing.update_subscription('$subscription', 'mx_year')"), qr/JB004.*proration_behavior => 'none'/s, 'no proration');
sql("SELECT billing.update_subscription('$subscription', 'mx_year', proration_behavior => 'none')");
is(await($subscription), 'active', 'the plan is changed');
is((objects('subscriptions', "id=" . id_at('subscription', $subscription)))[0]{plan_id}, id_at('price', sql("SELECT price_id FROM billing.subscriptions WHERE id = '$subscription'")), 'there, too');
sql("SELECT billing.pause_subscription('$subscription')");
is(await($subscription), 'paused', 'it is paused');
sql("SELECT billing.resume_subscription('$subscription')");
is(await($subscription), 'active', 'and resumed');
sql("SELECT billing.cancel_subscription('$subscription')");
is(sql("SELECT cancel_at_period_end FROM billing.subscriptions WHERE id = '$subscription'"), 't', 'its end with the period is ours to see to');
is(scalar(requests('method=POST', 'path=subscriptions/[^/]*/cancel')), 0, 'Conekta hears nothing of it yet');
sql("SELECT billing.resume_subscription('$subscription')");

my $due = id_at('subscription', $subscription);
act(action => 'bill', subscription => $due, outcome => 'declined');
hand_over_conekta();
is(sql("SELECT status FROM billing.subscriptions WHERE id = '$subscription'"), 'past_due', 'a failed payment');
sql("SELECT billing.retry_payment('$subscription')");
is(await($subscription), 'active', 'is retried');

my $portal = sql("SELECT billing.create_portal_session('$customer', subscription_id => '$subscription')");
await($portal);
like(sql("SELECT billing.client_config('$portal') ->> 'url'"), qr{^https://subscriptions\.conekta\.com/}, 'a portal of the subscription');
like(refusal("SELECT billing.create_portal_session('$customer')"), qr/23502|JB004/, 'there is none without one');

sql("SELECT billing.cancel_subscription('$subscription', false)");
is(await($subscription), 'canceled', 'it is cancelled at once');
my $trial = sql("SELECT billing.subscribe('org_1', 'mx', trial_days => 7)");
is(await($trial), 'trialing', 'a trial');
sql("SELECT billing.cancel_subscription('$trial', false)");
await($trial);

# ---- checkouts ----

my $lines = '[{"name": "Camisa", "amount": 30000, "currency": "MXN", "quantity": 1}]';
my $page = sql("SELECT billing.create_checkout_session('$customer', '$lines', 'https://example.com/ok?s={CHECKOUT_SESSION_ID}', 'https://example.com/no', methods => '{card,oxxo}')");
is(await($page), 'open', 'a hosted page');
like(sql("SELECT billing.client_config('$page') ->> 'url'"), qr{^https://pay\.conekta\.com/checkout/}, 'with its address');
act(action => 'complete_checkout', id => id_at('checkout_session', $page));
hand_over_conekta();
is(sql("SELECT status, payment_status FROM billing.checkout_sessions WHERE id = '$page'"), 'complete|paid', 'it is paid');
is(sql("SELECT p.status FROM billing.payment_intents AS p JOIN billing.checkout_sessions AS c ON c.payment_intent_id = p.id WHERE c.id = '$page'"), 'succeeded', 'and so is its payment');
my $closed = sql("SELECT billing.create_checkout_session('$customer', '$lines', 'https://example.com/ok', 'https://example.com/no')");
await($closed);
sql("SELECT billing.expire_checkout_session('$closed')");
like(await($closed), qr/^(expired|canceled)$/, 'a page is closed');
my $sold = sql("SELECT billing.create_checkout_session('$customer', plan => 'mx', success_url => 'https://example.com/ok', cancel_url => 'https://example.com/no')");
is(await($sold), 'open', 'a page that sells a subscription');
act(action => 'complete_checkout', id => id_at('checkout_session', $sold));
hand_over_conekta();
is(sql("SELECT s.status FROM billing.subscriptions AS s JOIN billing.checkout_sessions AS c ON c.subscription_id = s.id WHERE c.id = '$sold'"), 'active', 'which is the one that waited for it');
my $link = sql("SELECT billing.create_payment_link('Camisa azul', '$lines', max_payments => 3, provider => 'conekta')");
is(await($link), 'open', 'a payment link');
sql("SELECT billing.cancel_payment_link('$link')");
is(await($link), 'canceled', 'that is withdrawn');

# ---- a lost answer leaves one object ----

# [operation, kind of object, method, path, SQL that returns the id, state in the end]
my $poor = customer('org_lost');
my $purse = attached($poor, 'visa_4242');
my $bought = paid($poor, 90000);
my $kept = sql("SELECT billing.create_payment_intent('$poor', 40000, 'MXN', payment_method => '" . token('visa_4242') . "', confirm => true, capture_method => 'manual')");
await($kept);
my $open = sql("SELECT billing.create_payment_intent('$poor', 40000, 'MXN')");
await($open);
my $dropped = sql("SELECT billing.create_payment_intent('$poor', 40000, 'MXN', method => 'spei', confirm => true)");
await($dropped);
my $new_token = token('visa_4242');
my $last_token = token('visa_4242');
sql("SELECT billing.create_plan('lost', 'Perdido', 10000, 'MXN')");
my @LOST = (
	[ 'customer', 'customers', 'POST', '^/customers$', "SELECT billing.create_customer('org_lost_2', 'l\@example.com', name => 'Luz', phone => '+525512345678', provider => 'conekta')" ],
	[ 'card', 'payment_sources', 'POST', '/payment_sources$', "SELECT billing.attach_payment_method('$poor', '$new_token')" ],
	[ 'reference', 'payment_sources', 'POST', '/payment_sources$', "SELECT billing.attach_payment_method('$poor', type => 'spei_recurrent')" ],
	[ 'payment', 'orders', 'POST', '^/orders$', "SELECT billing.create_payment_intent('$poor', 70000, 'MXN', payment_method => '$last_token', confirm => true)" ],
	[ 'charge', 'charges', 'POST', '/charges$', "SELECT billing.confirm_payment_intent('$open', method => 'spei')", $open ],
	[ 'capture', undef, 'POST', '/capture$', "SELECT billing.capture_payment_intent('$kept')", $kept ],
	[ 'cancellation', undef, 'POST', '^/orders/[^/]*/cancel$', "SELECT billing.cancel_payment_intent('$dropped')", $dropped ],
	[ 'refund', 'refunds', 'POST', '/refunds$', "SELECT billing.create_refund('$bought', 10000)" ],
	[ 'second refund of the same amount', 'refunds', 'POST', '/refunds$', "SELECT billing.create_refund('$bought', 10000)" ],
	[ 'hosted page', 'orders', 'POST', '^/orders$', "SELECT billing.create_checkout_session('$poor', '$lines', 'https://example.com/ok', 'https://example.com/no')" ],
	[ 'payment link', 'checkouts', 'POST', '^/checkouts$', "SELECT billing.create_payment_link('Perdida', '$lines', provider => 'conekta')" ],
	[ 'plan', 'plans', 'POST', '^/plans$', "SELECT billing.subscribe('org_lost', 'lost')" ],
);
my $lost_subscription;
foreach my $line (@LOST)
{
	my ($what, $kind, $method, $path, $statement, $object) = @$line;
	my $before = $kind ? scalar objects($kind) : 0;

	lose($method, $path);
	my $id = sql($statement);
	$id = $object if defined $object;
	my $state = await($id);
	unlike($state, qr/^(pending|failed)$/, "$what: the answer is found ($state)") if $what ne 'refund';
	is(sql("SELECT count(*) FROM billing.outbox WHERE object_id = '$id'"), '0', "$what: nothing is left over")
	  or diag(sql("SELECT operation, state, error_type, error_code FROM billing.outbox WHERE object_id = '$id'"));
	is(scalar(objects($kind)) - $before, 1, "$what: one is there") if $kind;
	$lost_subscription = $id if $what eq 'plan';
}
is(scalar(grep { $_->{id} eq id_at('price', sql("SELECT price_id FROM billing.subscriptions WHERE id = '$lost_subscription'")) } objects('plans')), 1, 'the plan is the one with our id');

# Of a subscription, and of what is done with it. Its webhooks come before anybody looks.
sql("SELECT billing.cancel_subscription('$lost_subscription', false)");
await($lost_subscription);
my $subscriptions = objects('subscriptions');
lose('POST', '/subscriptions$');
my $again = sql("SELECT billing.subscribe('org_lost', 'lost')");
hand_over_conekta();
is(await($again), 'active', 'subscription: the answer is found');
is(scalar(objects('subscriptions')) - $subscriptions, 1, 'subscription: one is there');
hand_over_conekta();
is(sql("SELECT count(*) FROM billing.subscriptions WHERE organization_id = 'org_lost' AND status = 'active'"), '1', 'subscription: one is here, too');
foreach my $step ([ 'pause', 'pause_subscription', 'paused' ], [ 'resume', 'resume_subscription', 'active' ])
{
	lose('POST', "/$step->[0]\$");
	sql("SELECT billing.$step->[1]('$again')");
	is(await($again), $step->[2], "$step->[0]: the answer is found");
}
act(action => 'bill', subscription => id_at('subscription', $again), outcome => 'declined');
hand_over_conekta();
my $orders = objects('orders');
lose('POST', '/retry$');
sql("SELECT billing.retry_payment('$again')");
is(await($again), 'active', 'retry: the answer is found');
is(scalar(objects('orders')) - $orders, 1, 'retry: it was charged once');
lose('POST', 'subscriptions/[^/]*/cancel$');
sql("SELECT billing.cancel_subscription('$again', false)");
is(await($again), 'canceled', 'cancellation: the answer is found');
lose('POST', '/customer_portal$');
$portal = sql("SELECT billing.create_portal_session('$poor', subscription_id => '$again')");
await($portal);
is(scalar(objects('customer_portals', 'id=' . id_at('subscription', $again))), 1, 'portal: one is there');
lose('POST', '/fiscal_entities$');
sql("SELECT billing.update_customer('$poor', '{\"address\": $address, \"tax_ids\": [{\"type\": \"mx_rfc\", \"value\": \"CCC010101CCC\"}]}')");
await($poor);
is(scalar(grep { $_->{tax_id} eq 'CCC010101CCC' } objects('fiscal_entities')), 1, 'fiscal entity: one is there');

# A request that was never carried out is sent again, but not before a search would show it.
$simulator->control('faults', { match => { provider => 'conekta', method => 'POST', path => '^/orders$' }, action => 'drop_before' });
my $unsent = sql("SELECT billing.create_payment_intent('$poor', 12345, 'MXN', payment_method => '" . token('visa_4242') . "', confirm => true)");
wait_for($node, "SELECT coalesce(max(error_type), '') FROM billing.outbox WHERE object_id = '$unsent' AND state = 'unknown'", 'search_lag', 'silence proves nothing at first');
sql("UPDATE billing.outbox SET sent_at = sent_at - interval '1 minute' WHERE object_id = '$unsent'; SELECT billing.retry_request(id) FROM billing.outbox WHERE object_id = '$unsent'");
is(await($unsent), 'succeeded', 'then it is sent again');
is(scalar(objects('orders', "metadata.janua_ref=$unsent")), 1, 'once');

# ---- other answers ----

foreach my $fault ([ 409, 'done' ], [ 429, 'done' ])
{
	$simulator->control('faults', { match => { provider => 'conekta', method => 'POST', path => '^/orders$' }, action => 'status', status => $fault->[0], retry_after => 1 });
	my $id = paid($poor, 10000 + $fault->[0]);
	is(scalar(objects('orders', "metadata.janua_ref=$id")), 1, "$fault->[0]: it is sent again, without a look-up");
}
$simulator->control('faults', { match => { provider => 'conekta', method => 'POST', path => '^/orders$' }, action => 'status', status => 500, perform => JSON::PP::true });
my $failed = paid($poor, 10500);
is(scalar(objects('orders', "metadata.janua_ref=$failed")), 1, '500: what was done is found');
$simulator->control('faults', { match => { provider => 'conekta', method => 'POST', path => '^/orders$' }, action => 'redirect' });
my $sent_away = sql("SELECT billing.create_payment_intent('$poor', 12345, 'MXN', payment_method => '" . token('visa_4242') . "', confirm => true)");
wait_for($node, "SELECT concat_ws(' ', state, error_type) FROM billing.outbox WHERE object_id = '$sent_away'", 'dead redirect', 'a redirection is followed by nobody');
sql("SELECT billing.cancel_request(id) FROM billing.outbox WHERE object_id = '$sent_away'");

# ---- webhooks ----

hand_over_conekta();
is(sql("SELECT string_agg(DISTINCT type || ' ' || state || ' ' || coalesce(reason, ''), E'\\n') FROM billing.webhook_events WHERE state NOT IN ('applied', 'ignored')"), '', 'every event finds its object')
  or diag(sql("SELECT type, state, reason, waiting_for FROM billing.webhook_events WHERE state NOT IN ('applied', 'ignored')"));
my ($event) = @{ $simulator->control('events?provider=conekta&type=order.paid') }[-1];
my ($status, $output, $errors) = webhook($node, 'conekta', encode_utf8($event->{body}), $event->{headers});
like($output, qr/order\.paid\|duplicate/, 'an event that came already does nothing');
$simulator->control('emit', { provider => 'conekta', type => 'webhook_ping', object => {} });
is(join(' ', hand_over_conekta()), 'webhook_ping ignored', 'a ping is signed, and says nothing');
my $former = (objects('subscriptions', 'id=' . id_at('subscription', $again)))[0];
$simulator->control('emit', { provider => 'conekta', type => 'subscription.cancelled', object => $former });
is(join(' ', hand_over_conekta()), 'subscription.cancelled applied', 'the former spelling counts, too');
($status, $output, $errors) = webhook($node, 'conekta', encode_utf8($event->{body}) . ' ', $event->{headers});
like($errors, qr/is not signed with our secret/, 'a changed body is refused');
($status, $output, $errors) = webhook($node, 'conekta', encode_utf8($event->{body}), {});
like($errors, qr/is not signed with our secret/, 'a missing signature is refused');

# ---- webhook endpoints and their keys ----

sub active_keys { return grep { $_->{active} } @{ $simulator->control('signing_keys?provider=conekta') } }

like(refusal("SELECT billing.register_webhook('conekta', 'http://127.0.0.1/hook')"), qr/JB004.*public/s, 'nobody outside reaches this machine');
lose('POST', '^/webhooks$');
my $hook = sql("SELECT billing.register_webhook('conekta', 'https://hooks.example.com/conekta')");
is(await($hook), 'active', 'an endpoint is registered, its answer lost');
is(scalar(objects('webhooks')), 1, 'one is there');
is(scalar(active_keys()), 1, 'the key that there is will do');
lose('POST', '^/webhook_keys$');
sql("SELECT billing.rotate_webhook_secret('$hook')");
is(await($hook), 'active', 'its key is changed, that answer lost, too');
my @active = active_keys();
is(scalar @active, 1, 'one key signs');
isnt($active[0]{public_key}, $key->{public_key}, 'another one');
$simulator->control('emit', { provider => 'conekta', type => 'webhook_ping', object => {} });
is((hand_over_conekta())[-1], 'webhook_ping ignored', 'by which events are known');
$simulator->control('call', { provider => 'conekta', method => 'PUT', path => "/webhook_keys/$active[0]{id}", params => { active => JSON::PP::false } });
lose('POST', '^/webhook_keys$');
my $other = sql("SELECT billing.register_webhook('conekta', 'https://hooks.example.com/other')");
is(await($other), 'active', 'without a key one is made');
is(scalar(active_keys()), 1, 'once');
$simulator->control('emit', { provider => 'conekta', type => 'webhook_ping', object => {} });
is((hand_over_conekta())[-1], 'webhook_ping ignored', 'and known here');
sql("SELECT billing.update_webhook('$other', events => '{order.paid}')");
await($other);
is(join(',', map { @{ $_->{subscribed_events} } } grep { $_->{url} =~ /other/ } objects('webhooks')), 'order.paid', 'its events are changed');
await(sql("SELECT billing.refresh_webhooks('conekta')"));
is(sql("SELECT count(*) FROM billing.list_webhooks('conekta')"), '2', 'both are listed');
sql("SELECT billing.delete_webhook('$other')");
is(await($other), 'deleted', 'one is deleted');

# ---- the end ----

sql("SELECT billing.delete_customer('$customer')");
is(await($customer), 'deleted', 'a customer is deleted');
is(intent($oxxo, 'fee_amount'), 1131, 'the fee of the voucher came with its money');
is(sql('SELECT count(*) FROM billing.ledger_imbalance'), '0', 'ledger and documents agree');
is(sql("SELECT count(*) FROM billing.outbox"), '0', 'no request is left over') or diag(sql("SELECT operation, state, error_type, error_code FROM billing.outbox"));
my $violations = $simulator->control('violations');
is($violations->{count}, 0, 'every request matches the document') or diag(explain($violations));

done_testing();

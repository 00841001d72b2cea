# Payments, refunds, disputes, checkouts and invoices at Stripe, from SQL to the
# applied answer and back by webhooks.
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

sub sql { return decode_utf8($node->safe_psql('postgres', encode_utf8($_[0]))) }

sub await { return sql("SELECT billing.await('$_[0]', '30 seconds')") }

sub at_stripe
{
	my ($kind, $reference) = @_;
	my $found = $simulator->control("objects/$kind?metadata.janua_ref=$reference");

	is(scalar @$found, 1, "Stripe has one of our $kind");
	return $found->[0] || {};
}

sub act { return $simulator->control('act', { provider => 'stripe', action => $_[0], %{ $_[1] } }) }

# Hands over what has happened; what comes before its object is applied after it.
sub news
{
	my @failed = grep { !/ (applied|ignored|waiting)$/ } hand_over($node, $simulator);

	is_deeply(\@failed, [], 'every webhook is taken');
	sql('CALL billing.run_worker()');
}

# Days go by at Stripe.
sub days_later
{
	$simulator->control('clock', { advance => $_[0] * 86400 });
	news();
}

sub refused_with
{
	my ($statement, $pattern, $name) = @_;
	my (undef, undef, $errors) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");

	like($errors, $pattern, $name);
}

sub payment { return sql("SELECT $_[1] FROM billing.payment_intents WHERE id = '$_[0]'") }

my $count = 0;

# A customer of its own, with these payment methods attached.
sub customer
{
	my ($id, @methods) = ('', @_);
	my $organization = 'org_' . ++$count;

	$id = sql("SELECT billing.create_customer('$organization', '$organization\@example.com', 'Niño $count', 'MX', phone => '+525512345678')");
	foreach my $method (@methods)
	{
		await(sql("SELECT billing.attach_payment_method('$id', '$method')"));
	}
	return $id;
}

my $url = $simulator->url;
sql(<<"SQL");
SELECT billing.configure_provider('stripe', secret_key => 'sk_test_x', webhook_secret => 'whsec_simulator_test_secret', base_url => '$url',
	options => '{"capabilities": ["oxxo", "spei", "msi"], "stripe_account": "acct_1Connected"}')
SQL
refused_with(q{SELECT billing.configure_provider('stripe', secret_key => 'sk_test_x', options => '{"stripe_account": "acct_1\r\nX: y"}')},
	qr/22023.*options cannot be right.*stripe_account/s, 'a connected account has an id of Stripe');

# ---- cards ----

my $customer = customer('pm_card_visa');
my $paid = sql("SELECT billing.create_payment_intent('$customer', 2500, 'USD', off_session => true, description => 'Hat & scarf', metadata => '{\"a\": \"b\"}')");
is(await($paid), 'succeeded', 'the default card is charged');
is(payment($paid, 'amount_received, method'), '2500|card', 'the whole of it');
my $there = at_stripe('payment_intents', $paid);
is($there->{description}, 'Hat & scarf', 'Stripe is told what for');
my ($request) = grep { $_->{path} eq '/v1/payment_intents' } @{ $simulator->control('requests') };
is($request->{headers}{'stripe-account'}, 'acct_1Connected', 'the connected account is named');

my $declined = sql("SELECT billing.create_payment_intent('$customer', 2500, 'USD', payment_method => 'pm_card_visa_chargeDeclinedInsufficientFunds')");
is(await($declined), 'failed', 'a declined card fails the payment');
is(payment($declined, 'decline_code'), 'insufficient_funds', 'the reason is kept');
sql("SELECT billing.confirm_payment_intent('$declined', 'pm_card_visa')");
is(await($declined), 'succeeded', 'another card pays the same payment');

my $asked = sql("SELECT billing.create_payment_intent('$customer', 2500, 'USD', payment_method => 'pm_card_authenticationRequired', return_url => 'https://example.com/back')");
is(await($asked), 'requires_action', '3-D Secure asks the customer');
like(sql("SELECT billing.client_config('$asked') -> 'next_action' ->> 'url'"), qr{^https://hooks\.stripe\.com/}, 'at this URL');
act('authenticate', { payment_intent => at_stripe('payment_intents', $asked)->{id} });
news();
is(payment($asked, 'status'), 'succeeded', 'who has proved himself has paid');

my $held = sql("SELECT billing.create_payment_intent('$customer', 2500, 'USD', capture_method => 'manual', payment_method => 'pm_card_visa')");
is(await($held), 'requires_capture', 'a payment is authorised');
sql("SELECT billing.capture_payment_intent('$held', 1000)");
is(await($held), 'succeeded', 'and captured');
is(payment($held, 'amount_received'), '1000', 'in part');
my $released = sql("SELECT billing.create_payment_intent('$customer', 2500, 'USD', capture_method => 'manual', payment_method => 'pm_card_visa')");
await($released);
sql("SELECT billing.cancel_payment_intent('$released', 'duplicate')");
is(await($released), 'canceled', 'or cancelled');
is(payment($released, 'cancellation_reason'), 'duplicate', 'with the reason');

# ---- what Stripe keeps: told in answers, as nothing is expanded in webhooks ----

# "payment|refund" and so on: fee_amount fee_currency
sub fees { return join '|', map { sql("SELECT coalesce(string_agg(fee_amount || ' ' || fee_currency, ', '), 'unknown') FROM billing.$_") } @_ }
sub fee { my ($table, $id) = @_; return fees("$table WHERE id = '$id'") }

is(fee('payment_intents', $paid), '103 USD', 'the fee of a charge is in the answer to it');
is(fee('payment_intents', $held), '59 USD', 'of a part that is captured, when it is');
is(fee('payment_intents', $declined), '103 USD', 'of the attempt that succeeded');
is(fee('payment_intents', $released), 'unknown', 'nothing is told where nothing was taken');
is(fee('payment_intents', $asked), 'unknown', 'nor by webhooks');
sql("SELECT billing.refresh('$asked')");
await($asked);
is(fee('payment_intents', $asked), '103 USD', 'it is, when Stripe is asked');
$simulator->control('settings', { balance_currency => 'mxn' });
my $exchanged = sql("SELECT billing.create_payment_intent('$customer', 2500, 'USD', payment_method => 'pm_card_visa')");
await($exchanged);
is(fee('payment_intents', $exchanged), '103 MXN', 'it is in the currency of the balance');
$simulator->control('settings', { balance_currency => undef });

# A restricted key that may not read movements: nothing is paid twice, and nothing is lost.
foreach my $when ('before', 'after')
{
	$simulator->control('settings', { balance_forbidden => $when });
	my $restricted = sql("SELECT billing.create_payment_intent('$customer', 2500, 'USD', payment_method => 'pm_card_visa')");
	is(await($restricted), 'succeeded', "refused $when it is carried out, a payment is made");
	at_stripe('payment_intents', $restricted);
	is(fee('payment_intents', $restricted), 'unknown', 'without its fee');
	my $returned = sql("SELECT billing.create_refund('$restricted', 500)");
	is(await($returned), 'succeeded', 'so is a refund');
	at_stripe('refunds', $returned);
	sql("SELECT billing.refresh('$restricted')");
	is(await($restricted), 'partially_refunded', 'and what is asked for');
}
is(sql("SELECT count(*) FROM billing.outbox WHERE state = 'dead'") . sql("SELECT count(*) FROM billing.provider_accounts WHERE stopped_at IS NOT NULL"), '00', 'no request is dead, and no account stopped');
sql(q{SELECT billing.configure_provider('stripe', options => '{"read_fees": false}')});
my $unasked = sql("SELECT billing.create_payment_intent('$customer', 2500, 'USD', payment_method => 'pm_card_visa')");
is(await($unasked), 'succeeded', 'an account may say that fees are not asked for');
is(sql("SELECT attempts FROM billing.outbox_finished WHERE object_id = '$unasked' AND operation = 'payment_intent.create'"), '1', 'then nothing is refused');
refused_with(q{SELECT billing.configure_provider('stripe', options => '{"read_fees": "perhaps"}')}, qr/22023.*read_fees/s, 'by true or false');
sql(q{SELECT billing.configure_provider('stripe', options => '{"read_fees": null}')});
$simulator->control('settings', { balance_forbidden => undef });
is(sql("SELECT string_agg(l.debit || ' ' || l.credit || ' ' || l.amount || ' ' || l.currency, ', ' ORDER BY l.kind) FROM billing.ledger AS l WHERE l.payment_intent_id = '$exchanged'"),
	'provider_fees cash 103 MXN, cash sales 2500 USD', 'and so it is booked');

# ---- debits, vouchers, transfers, instalments ----

my $mandate = q{'{"type": "online", "ip_address": "192.0.2.1", "user_agent": "Mozilla/5.0"}'};
my $debit = sql("SELECT billing.create_payment_intent('$customer', 5000, 'USD', 'us_bank_account', 'pm_usBankAccount_success', mandate => $mandate)");
my $bounced = sql("SELECT billing.create_payment_intent('$customer', 5000, 'EUR', 'sepa_debit', 'pm_failed_de', mandate => $mandate)");
is(await($debit), 'processing', 'a bank debit is on its way');
is(await($bounced), 'processing', 'so is the other one');
days_later(6);
is(payment($debit, 'status'), 'succeeded', 'days later it is paid');
is(payment($bounced, 'status, error_code'), 'failed|debit_not_authorized', 'or it is not');
is(fee('payment_intents', $debit), 'unknown', 'its fee is not in a webhook');

my $voucher = sql("SELECT billing.create_payment_intent('$customer', 20000, 'MXN', 'oxxo', expires_at => now() + interval '9 days')");
is(await($voucher), 'requires_action', 'a voucher waits to be paid');
like(sql("SELECT billing.client_config('$voucher') -> 'next_action' ->> 'reference'"), qr/^\d{14}$/, 'by its reference');
my $transfer = sql("SELECT billing.create_payment_intent('$customer', 20000, 'MXN', 'spei')");
is(await($transfer), 'requires_action', 'a transfer waits, too');
like(sql("SELECT billing.client_config('$transfer') -> 'next_action' ->> 'clabe'"), qr/^\d{18}$/, 'by its CLABE');
is(payment($transfer, 'method'), 'spei', 'a transfer in pesos is SPEI');
act('pay_reference', { payment_intent => at_stripe('payment_intents', $_)->{id} }) foreach $voucher, $transfer;
news();
is(payment($_, 'status'), 'succeeded', 'it is paid at the till or the bank') foreach $voucher, $transfer;
refused_with("SELECT billing.create_payment_intent('$customer', 20000, 'USD', 'oxxo')", qr/JB004.*MXN only/s, 'a voucher is in pesos');
refused_with("SELECT billing.create_payment_intent('$customer', 20000, 'MXN', 'cash')", qr/JB004.*no method/s, 'Stripe has no other cash');

my $months = sql("SELECT billing.create_payment_intent('$customer', 60000, 'MXN', payment_method => 'pm_card_mx', installments => 6)");
is(await($months), 'succeeded', 'instalments are one payment');
my $charge = at_stripe('payment_intents', $months)->{latest_charge};
is($simulator->control("objects/charges?id=$charge")->[0]{payment_method_details}{card}{installments}{plan}{count}, 6, 'in six months');
my $lines = sql(<<"SQL");
SELECT billing.create_payment_intent('$customer', 1800, 'USD', payment_method => 'pm_card_visa',
	line_items => '[{"name": "Hat", "amount": 800, "quantity": 2}]', tax_lines => '[{"description": "VAT", "amount": 200}]')
SQL
is(await($lines), 'succeeded', 'lines and tax are told');

# ---- setup intents and payment methods ----

my $setup = sql("SELECT billing.create_setup_intent('$customer', 'pm_success_de', mandate => $mandate)");
is(await($setup), 'succeeded', 'a debit is set up with its mandate');
my $open = sql("SELECT billing.create_setup_intent('$customer')");
await($open);
like(sql("SELECT billing.client_config('$open') ->> 'client_secret'"), qr/_secret_/, 'the browser gets the secret to set up with');
sql("SELECT billing.cancel_setup_intent('$open')");
is(await($open), 'canceled', 'one that nobody finishes is given up');
my $agreed = sql("SELECT billing.attach_payment_method('$customer', 'pm_usBankAccount_success', type => 'us_bank_account', mandate => $mandate)");
is(await($agreed), 'attached', 'a bank account is attached with its mandate');
refused_with("SELECT billing.attach_payment_method('$customer', NULL, type => 'spei_recurrent')", qr/JB004.*references/s, 'references to be paid again are not to be had');
news();

# ---- refunds and disputes ----

my $part = sql("SELECT billing.create_refund('$paid', 500, 'duplicate', 'twice the same')");
is(await($part), 'succeeded', 'a part is given back');
is(payment($paid, 'status, amount_refunded'), 'partially_refunded|500', 'the payment shows it');
is(at_stripe('refunds', $part)->{reason}, 'duplicate', 'with the reason');
is(fee('refunds', $part), '0 USD', 'nothing is taken for it');
$simulator->control('settings', { refund_fee => -74 });
my $rest = sql("SELECT billing.create_refund('$paid')");
is(await($rest), 'succeeded', 'the rest, too');
is(payment($paid, 'status, amount_refunded'), 'refunded|2500', 'then it is all given back');
news();
is(payment($paid, 'status, amount_refunded'), 'refunded|2500', 'its webhooks say the same');
is(fee('payment_intents', $paid), '103 USD', 'the fee stays what it was');
is(fee('refunds', $rest), '-74 USD', 'what is given back of it is told by the refund');
is(sql("SELECT sum(s.amount) FROM billing.ledger_sides AS s WHERE s.payment_intent_id = '$paid' AND s.account = 'provider_fees'"), '29', 'the ledger has both');
$simulator->control('settings', { refund_fee => 0 });

my $fails = sql("SELECT billing.create_payment_intent('$customer', 1000, 'USD', payment_method => 'pm_card_refundFail')");
await($fails);
my $refund = sql("SELECT billing.create_refund('$fails')");
is(await($refund), 'succeeded', 'a refund seems to be done');
days_later(2);
is(sql("SELECT status FROM billing.refunds WHERE id = '$refund'"), 'failed', 'and fails days later');
is(payment($fails, 'status, amount_refunded'), 'succeeded|0', 'the payment is whole again');

my $disputed = sql("SELECT billing.create_payment_intent('$customer', 3000, 'USD', payment_method => 'pm_card_createDispute')");
await($disputed);
news();
my $dispute = sql("SELECT id FROM billing.disputes WHERE payment_intent_id = '$disputed'");
is(sql("SELECT status, amount, funds_withdrawn_at IS NOT NULL FROM billing.disputes WHERE id = '$dispute'"), 'needs_response|3000|t', 'a dispute takes the money');
is(fee('disputes', $dispute), '1500 USD', 'and a fee of its own');
refused_with("SELECT billing.submit_dispute_evidence('$dispute', '{\"letter\": \"x\"}')", qr/JB004.*uncategorized_text/s, 'evidence has Stripe’s fields');
sql("SELECT billing.submit_dispute_evidence('$dispute', '{\"uncategorized_text\": \"winning_evidence\"}')");
is(await($dispute), 'won', 'evidence wins it');
is(sql("SELECT funds_reinstated_at IS NOT NULL FROM billing.disputes WHERE id = '$dispute'"), 't', 'the money comes back');
is(fee('disputes', $dispute), '1500 USD', 'the fee does not');
act('dispute', { payment_intent => at_stripe('payment_intents', $lines)->{id} });
news();
my $given_up = sql("SELECT id FROM billing.disputes WHERE payment_intent_id = '$lines'");
sql("SELECT billing.accept_dispute('$given_up')");
is(await($given_up), 'lost', 'a dispute is accepted');
await(sql("SELECT billing.fetch_disputes('stripe')"));

# ---- checkout ----

my $page = sql(<<"SQL");
SELECT billing.create_checkout_session('$customer', '[{"name": "Hat", "amount": 700, "currency": "USD", "quantity": 2}]',
	'https://example.com/ok?id={CHECKOUT_SESSION_ID}', 'https://example.com/no', methods => '{card}', automatic_tax => true, collect_tax_id => true, locale => 'es-MX')
SQL
is(await($page), 'open', 'a page to pay on is made');
like(sql("SELECT billing.client_config('$page') ->> 'url'"), qr{^https://checkout\.stripe\.com/}, 'at its URL');
$there = at_stripe('checkout_sessions', $page);
is($there->{success_url}, "https://example.com/ok?id=$page", 'it leads back with our id');
is($there->{locale}, 'es', 'in the language that Stripe has');
act('complete_checkout', { checkout_session => $there->{id} });
news();
is(sql("SELECT status, payment_status FROM billing.checkout_sessions WHERE id = '$page'"), 'complete|paid', 'the buyer has paid');
is(sql("SELECT p.status, p.amount_received FROM billing.payment_intents AS p JOIN billing.checkout_sessions AS c ON c.payment_intent_id = p.id WHERE c.id = '$page'"),
	'succeeded|1400', 'its payment is ours');

my $slow = sql(qq{SELECT billing.create_checkout_session('$customer', '[{"name": "Hat", "amount": 700, "currency": "USD", "quantity": 1}]', 'https://example.com/ok')});
await($slow);
act('complete_checkout', { checkout_session => at_stripe('checkout_sessions', $slow)->{id}, payment_method => 'pm_usBankAccount_accountClosed' });
news();
is(sql("SELECT status, payment_status FROM billing.checkout_sessions WHERE id = '$slow'"), 'complete|unpaid', 'complete and unpaid is not paid');
days_later(5);
is(sql("SELECT status FROM billing.checkout_sessions WHERE id = '$slow'"), 'failed', 'and may fail');
sql("SELECT billing.refresh_checkout_session('$slow')");
is(await($slow), 'failed', 'asked again Stripe says the same');

my $shut = sql(qq{SELECT billing.create_checkout_session('$customer', '[{"name": "Hat", "amount": 700, "currency": "USD", "quantity": 1}]', 'https://example.com/ok')});
await($shut);
sql("SELECT billing.expire_checkout_session('$shut')");
is(await($shut), 'expired', 'a page is closed');

my $buyer = customer();
my $sold = sql("SELECT billing.create_checkout_session('$buyer', success_url => 'https://example.com/ok', plan => 'pro', trial_days => 7)");
await($sold);
act('complete_checkout', { checkout_session => at_stripe('checkout_sessions', $sold)->{id} });
news();
is(sql("SELECT s.status FROM billing.subscriptions AS s JOIN billing.checkout_sessions AS c ON c.subscription_id = s.id WHERE c.id = '$sold'"), 'trialing',
	'a subscription is sold on a page');

my $link = sql(q{SELECT billing.create_payment_link('Hats', '[{"name": "Hat", "amount": 700, "currency": "USD", "quantity": 1}]', max_payments => 3, provider => 'stripe')});
is(await($link), 'open', 'a link to pay by is made');
act('pay_link', { payment_link => at_stripe('payment_links', $link)->{id} });
news();
is(sql("SELECT kind, status FROM billing.checkout_sessions WHERE id = '$link'"), 'link|open', 'it stays open when somebody has paid');
sql("SELECT billing.cancel_payment_link('$link')");
is(await($link), 'canceled', 'until it is closed');

my $portal = sql("SELECT billing.create_portal_session('$customer', 'https://example.com/account')");
await($portal);
like(sql("SELECT billing.client_config('$portal') ->> 'url'"), qr{^https://billing\.stripe\.com/}, 'the customer gets the page of the portal');

# ---- subscriptions and invoices ----

my $runner = customer('pm_card_visa');
my $subscription = sql("SELECT billing.subscribe('org_$count', 'pro')");
await($subscription);
sql("SELECT billing.pause_subscription('$subscription')");
is(await($subscription), 'paused', 'a subscription is paused');
is(at_stripe('subscriptions', $subscription)->{status}, 'paused', 'by Stripe itself where billing is flexible');
sql("SELECT billing.resume_subscription('$subscription')");
is(await($subscription), 'active', 'and goes on');
sql("SELECT billing.pause_subscription('$subscription', behavior => 'keep_as_draft')");
is(await($subscription), 'paused', 'or only its collection is');
days_later(32);
my $draft = sql("SELECT id FROM billing.invoices WHERE subscription_id = '$subscription' AND status = 'draft'");
sql("SELECT billing.resume_subscription('$subscription')");
is(await($subscription), 'active', 'until it is resumed');
sql("SELECT billing.finalize_invoice('$draft')");
is(await($draft), 'open', 'a draft is finalised');
sql("SELECT billing.fetch_invoice_document('$draft')");
await($draft);
like(sql("SELECT pdf_url FROM billing.invoice_links('$draft')"), qr/pdf$/, 'it has its document');
sql("SELECT billing.pay_invoice('$draft')");
is(await($draft), 'paid', 'and is paid');
sql("SELECT billing.refresh_invoices('$runner')");
is(await($runner), 'active', 'all invoices of a customer are fetched');

customer('pm_card_chargeCustomerFail');
my $trial = sql("SELECT billing.subscribe('org_$count', 'pro', trial_days => 1)");
await($trial);
days_later(2);
is(sql("SELECT status FROM billing.subscriptions WHERE id = '$trial'"), 'past_due', 'a renewal that fails is past due');
sql("SELECT billing.retry_payment('$trial')");
is(await($trial), 'past_due', 'another try with the same card fails again');
sql("SELECT billing.update_subscription('$trial', payment_method => 'pm_card_visa')");
await($trial);
sql("SELECT billing.retry_payment('$trial')");
is(await($trial), 'active', 'a better card pays it');
# ---- answers that were lost ----

# The call is carried out, its answer cannot be read: the look-up finds what it made.
sub lost
{
	my ($path, $kind, $statement) = @_;

	$simulator->control('faults', { action => 'malformed_body', match => { method => 'POST', path => $path } });
	my $id = sql($statement);
	my $state = await($id);
	at_stripe($kind, $id);
	return $state;
}

my $line = q{'[{"name": "Hat", "amount": 700, "currency": "USD", "quantity": 1}]'};
my $again = sql("SELECT billing.create_payment_intent('$customer', 900, 'USD', payment_method => 'pm_card_visa')");
await($again);
is(lost('^/v1/payment_intents$', 'payment_intents', "SELECT billing.create_payment_intent('$customer', 900, 'USD', payment_method => 'pm_card_visa')"),
	'succeeded', 'a payment whose answer was lost');
is(lost('^/v1/setup_intents$', 'setup_intents', "SELECT billing.create_setup_intent('$customer')"), 'pending', 'a setup whose answer was lost');
is(lost('^/v1/refunds$', 'refunds', "SELECT billing.create_refund('$again', 100)"), 'succeeded', 'a refund whose answer was lost');
is(lost('^/v1/checkout/sessions$', 'checkout_sessions', "SELECT billing.create_checkout_session('$customer', $line, 'https://example.com/ok')"),
	'open', 'a page whose answer was lost');
is(lost('^/v1/payment_links$', 'payment_links', "SELECT billing.create_payment_link('Hats', $line, provider => 'stripe')"), 'open', 'a link whose answer was lost');
foreach my $change ([ "cancel_payment_intent('%s')", '/cancel$', 'canceled' ], [ "capture_payment_intent('%s')", '/capture$', 'succeeded' ])
{
	my ($call, $path, $state) = @$change;
	my $authorised = sql("SELECT billing.create_payment_intent('$customer', 900, 'USD', payment_method => 'pm_card_visa', capture_method => 'manual')");

	await($authorised);
	$simulator->control('faults', { action => 'malformed_body', match => { method => 'POST', path => $path } });
	sql('SELECT billing.' . sprintf($call, $authorised));
	is(await($authorised), $state, "a change whose answer was lost: $state");
}

# ---- the same by Stripe's client ----

# The order of the parameters counts, hence JSON as text.
sub ours { return grep { $_->{method} eq 'POST' && $_->{body} =~ /$_[0]/ } @{ $simulator->control('requests?method=POST') } }

sub ref_of { return sql("SELECT provider_id FROM billing.provider_refs WHERE object_type = '$_[0]' AND object_id = '$_[1]'") }

my $cus = ref_of('customer', $customer);
my $organization = '"organization_id": "org_1"';
my @same = (
	[ $paid, 'paymentIntents.create', qq({"amount": 2500, "currency": "usd", "customer": "$cus", "allowed_payment_method_types": ["card"], "confirm": true,
		"payment_method": "PM", "off_session": true, "capture_method": "automatic", "description": "Hat & scarf",
		"metadata": {"a": "b", "janua_ref": "$paid", $organization}, "expand": ["latest_charge.balance_transaction"]}) ],
	[ $debit, 'paymentIntents.create', qq({"amount": 5000, "currency": "usd", "customer": "$cus", "allowed_payment_method_types": ["us_bank_account"], "confirm": true,
		"payment_method": "pm_usBankAccount_success", "off_session": false,
		"mandate_data": {"customer_acceptance": {"type": "online", "online": {"ip_address": "192.0.2.1", "user_agent": "Mozilla/5.0"}}},
		"capture_method": "automatic", "metadata": {"janua_ref": "$debit", $organization}, "expand": ["latest_charge.balance_transaction"]}) ],
	[ $voucher, 'paymentIntents.create', qq({"amount": 20000, "currency": "mxn", "customer": "$cus", "allowed_payment_method_types": ["oxxo"], "confirm": true,
		"payment_method_data": {"type": "oxxo", "billing_details": {"email": "org_1\@example.com", "name": "Niño 1", "phone": "+525512345678"}}, "off_session": false,
		"capture_method": "automatic", "payment_method_options": {"oxxo": {"expires_after_days": 7}},
		"metadata": {"janua_ref": "$voucher", $organization}, "expand": ["latest_charge.balance_transaction"]}) ],
	[ $months, 'paymentIntents.create', qq({"amount": 60000, "currency": "mxn", "customer": "$cus", "automatic_payment_methods": {"enabled": true, "allow_redirects": "never"},
		"confirm": true, "payment_method": "pm_card_mx", "off_session": false, "capture_method": "automatic",
		"payment_method_options": {"card": {"installments": {"enabled": true, "plan": {"count": 6, "interval": "month", "type": "fixed_count"}}}},
		"metadata": {"janua_ref": "$months", $organization}, "expand": ["latest_charge.balance_transaction"]}) ],
	[ $part, 'refunds.create', qq({"payment_intent": "@{[ref_of('payment_intent', $paid)]}", "amount": 500, "reason": "duplicate",
		"metadata": {"description": "twice the same", "janua_ref": "$part", $organization}, "expand": ["balance_transaction"]}) ],
	[ $setup, 'setupIntents.create', qq({"customer": "$cus", "payment_method": "pm_success_de", "automatic_payment_methods": {"enabled": true, "allow_redirects": "never"},
		"usage": "off_session", "confirm": true,
		"mandate_data": {"customer_acceptance": {"type": "online", "online": {"ip_address": "192.0.2.1", "user_agent": "Mozilla/5.0"}}},
		"metadata": {"janua_ref": "$setup", $organization}}) ],
	[ $page, 'checkout.sessions.create', qq({"mode": "payment", "customer": "$cus",
		"line_items": [{"price_data": {"currency": "usd", "product_data": {"name": "Hat"}, "unit_amount": 700}, "quantity": 2}],
		"success_url": "https://example.com/ok?id=$page", "cancel_url": "https://example.com/no", "allowed_payment_method_types": ["card"],
		"automatic_tax": {"enabled": true}, "tax_id_collection": {"enabled": true}, "customer_update": {"address": "auto", "name": "auto"}, "locale": "es",
		"payment_intent_data": {"metadata": {"janua_ref": "PAYMENT", $organization}}, "metadata": {"janua_ref": "$page", $organization}}) ],
);
my $payment_of_page = sql("SELECT payment_intent_id FROM billing.checkout_sessions WHERE id = '$page'");
my $default = sql("SELECT r.provider_id FROM billing.provider_refs AS r JOIN billing.payment_methods AS m ON m.id = r.object_id WHERE m.customer_id = '$customer' AND m.is_default");
foreach my $call (@same)
{
	$call->[2] =~ s/PAYMENT/$payment_of_page/;
	$call->[2] =~ s/"PM"/"$default"/;
}
my $calls = encode_utf8('[' . join(',', map { qq({"name": "$_->[0]", "call": "$_->[1]", "arguments": [$_->[2]]}) } @same) . ']');
my $output;
IPC::Run::run([ $ENV{JANUA_NODE} || 'node', "$ENV{JANUA_SIMULATOR}/sdk_bytes.js", '--calls' ], '<', \$calls, '>', \$output) or die 'sdk_bytes.js failed';
my @theirs = map { JSON::PP->new->utf8->decode($_) } split /\n/, $output;
for my $i (0 .. $#same)
{
	my ($our) = ours("metadata\\[janua_ref\\]=$same[$i][0]");

	is("$our->{method} $our->{path}\n$our->{body}", "$theirs[$i]{method} $theirs[$i]{path}\n$theirs[$i]{body}", "$same[$i][1] is what Stripe's client sends");
}

is(sql("SELECT string_agg(DISTINCT type, ' ') FROM billing.webhook_events WHERE state = 'waiting'"), 'charge.succeeded payment_intent.created payment_intent.succeeded',
	'every webhook has found its object, but those of the stranger who paid by the link');
my $failed = sql("SELECT count(*) FROM billing.outbox WHERE state = 'dead'");
is($failed, '0', 'no request has failed') or diag(sql("SELECT operation, error_type, error_code FROM billing.outbox WHERE state = 'dead'"));
is($simulator->control('violations')->{count}, 0, 'every request matches the document') or diag(explain($simulator->control('violations')));

done_testing();

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

# Where webhooks of one second contradict each other the provider is asked.
sub hear
{
	hand_over($node, $simulator);
	poll_until(sub { sql("SELECT count(*) FROM billing.outbox WHERE operation LIKE '%.fetch'") eq '0' }, 'every object that is in doubt was asked for');
	new_requests();
}

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

# ---- subscriptions: first terms, pauses, retries ----

# A coupon is the provider's own thing.
$simulator->control('call', { method => 'POST', path => '/v1/coupons', params => { id => $_, percent_off => 10, duration => 'forever' } }) for 'TENOFF', 'MORE_OFF';
new_requests();
my $end = time + 90 * 86400;
my $full = sql("SELECT billing.subscribe('org/1 ñ', 'pro', quantity => 3, collection_method => 'send_invoice', days_until_due => 14, cancel_at => to_timestamp($end), coupon => 'TENOFF', automatic_tax => true, metadata => '{\"k\": \"v\"}')");
same('a subscription by invoice', $full, 'subscriptions.create', qq({"customer": "$cus", "items": [{"price": "$price_at", "quantity": 3}],
	"default_payment_method": "$pm", "collection_method": "send_invoice", "days_until_due": 14, "cancel_at": $end,
	"discounts": [{"coupon": "TENOFF"}], "automatic_tax": {"enabled": true},
	"metadata": {"k": "v", "janua_ref": "$full", "organization_id": "org/1 ñ"}}));
$sub = ref_of($full, 'subscription');
$item = ref_of($full, 'subscription_item');
sql("SELECT billing.update_subscription('$full', quantity => 4, proration_behavior => 'none', payment_method => '$method', coupon => 'MORE_OFF')");
same('another coupon and method', $full, 'subscriptions.update', qq("$sub", {"items": [{"id": "$item", "quantity": 4}], "proration_behavior": "none",
	"default_payment_method": "$pm", "discounts": [{"coupon": "MORE_OFF"}]}));
my $later = time + 86400;
sql("SELECT billing.update_subscription('$full', trial_end => to_timestamp($later), cancel_at => to_timestamp($end + 60), proration_date => to_timestamp($later - 90000))");
same('other dates', $full, 'subscriptions.update', qq("$sub", {"proration_behavior": "create_prorations", "proration_date": ) . ($later - 90000) .
	qq(, "trial_end": $later, "cancel_at": ) . ($end + 60) . '}');
sql("SELECT billing.pause_subscription('$full', behavior => 'keep_as_draft', resumes_at => to_timestamp($later))");
same('a pause of collecting', $full, 'subscriptions.update', qq("$sub", {"pause_collection": {"behavior": "keep_as_draft", "resumes_at": $later}}));
sql("SELECT billing.resume_subscription('$full')");
same('collecting again', $full, 'subscriptions.update', qq("$sub", {"pause_collection": ""}));
sql("SELECT billing.pause_subscription('$full')");
same('a pause', $full, 'subscriptions.retrieve', qq("$sub"), 'subscriptions.pause', qq("$sub", {"type": "subscription"}));
sql("SELECT billing.resume_subscription('$full')");
same('the end of the pause', $full, 'subscriptions.resume', qq("$sub", {"billing_cycle_anchor": {"type": "now"}}));
sql("SELECT billing.refresh('$full')");
same('a subscription that is asked for', $full, 'subscriptions.retrieve', qq("$sub", {"expand": ["latest_invoice.confirmation_secret"]}));
sql("SELECT billing.refresh_invoices('$customer')");
same('the invoices', $customer, 'invoices.list', qq({"customer": "$cus", "expand": ["data.payments"], "limit": 100}));
hear();
sql("SELECT billing.await('$customer', '30 seconds')");
new_requests();

# ---- invoices ----

my @open = split /\n/, sql("SELECT id FROM billing.invoices WHERE customer_id = '$customer' AND status = 'open' ORDER BY id");
cmp_ok(scalar @open, '>=', 2, 'there are open invoices');
my ($invoice, $other_invoice) = @open;
my ($in, $other_in) = map { ref_of($_, 'invoice') } $invoice, $other_invoice;
my $expanded = '{"expand": ["payments"]}';

# Stripe makes its own final within an hour; this one is not yet.
$simulator->control('edit', { kind => 'invoices', id => $in, fields => { status => 'draft', number => undef } });
sql("UPDATE billing.invoices SET status = 'draft' WHERE id = '$invoice'");
sql("SELECT billing.finalize_invoice('$invoice')");
same('a final invoice', $invoice, 'invoices.finalizeInvoice', qq("$in", $expanded));
sql("SELECT billing.send_invoice('$invoice')");
same('an invoice that is sent', $invoice, 'invoices.sendInvoice', qq("$in", $expanded));
sql("SELECT billing.refresh('$invoice')");
same('an invoice that is asked for', $invoice, 'invoices.retrieve', qq("$in", $expanded));
sql("SELECT billing.pay_invoice('$invoice', '$method')");
same('an invoice paid by a card', $invoice, 'invoices.pay', qq("$in", {"payment_method": "$pm", "expand": ["payments"]}));
sql("SELECT billing.mark_invoice_uncollectible('$other_invoice')");
same('an invoice given up', $other_invoice, 'invoices.markUncollectible', qq("$other_in", $expanded));
sql("SELECT billing.void_invoice('$other_invoice')");
same('a void invoice', $other_invoice, 'invoices.voidInvoice', qq("$other_in", $expanded));

# ---- payment intents ----

my $charge = '"expand": ["latest_charge.balance_transaction"]';

sub tags { return qq("metadata": {"janua_ref": "$_[0]", "organization_id": "$_[1]"}) }

my $offer = sql("SELECT billing.create_payment_intent('$minimal', 2000, 'USD')");
same('a payment for the browser', $offer, 'paymentIntents.create', qq({"amount": 2000, "currency": "usd", "customer": "$cus_minimal",
	"automatic_payment_methods": {"enabled": true}, "capture_method": "automatic", @{[tags($offer, 'org_minimal')]}, $charge}));
my $pi = ref_of($offer, 'payment_intent');
sql("SELECT billing.confirm_payment_intent('$offer', 'pm_card_visa', return_url => 'https://example.com/back?a=b&c=ñ')");
same('a payment that is confirmed', $offer, 'paymentIntents.confirm',
	qq("$pi", {"payment_method": "pm_card_visa", "return_url": "https://example.com/back?a=b&c=ñ", $charge}));

my $held = sql(<<"SQL");
SELECT billing.create_payment_intent('$customer', 1500, 'USD', method => 'card', payment_method => '$method', confirm => true, capture_method => 'manual',
	line_items => '[{"name": "Hat & scarf", "amount": 700, "quantity": 2}]', tax_lines => '[{"description": "VAT", "amount": 60}, {"description": "city", "amount": 40}]',
	description => 'Árbol "x"', statement_descriptor_suffix => 'HAT 7', receipt_email => 'r+1\@example.com', return_url => 'https://example.com/r',
	setup_future_usage => 'on_session', metadata => '{"n": "1"}')
SQL
same('a payment with everything', $held, 'paymentIntents.create', qq({"amount": 1500, "currency": "usd", "customer": "$cus", "allowed_payment_method_types": ["card"],
	"confirm": true, "payment_method": "$pm", "off_session": false, "return_url": "https://example.com/r", "capture_method": "manual", "setup_future_usage": "on_session",
	"amount_details": {"line_items": [{"product_name": "Hat & scarf", "quantity": 2, "unit_cost": 700}], "tax": {"total_tax_amount": 100}},
	"description": "Árbol \\"x\\"", "statement_descriptor_suffix": "HAT 7", "receipt_email": "r+1\@example.com",
	"metadata": {"n": "1", "janua_ref": "$held", "organization_id": "org/1 ñ"}, $charge}));
$pi = ref_of($held, 'payment_intent');
sql("SELECT billing.capture_payment_intent('$held', 1200)");
same('a part that is captured', $held, 'paymentIntents.capture', qq("$pi", {"amount_to_capture": 1200, $charge}));
sql("SELECT billing.refresh('$held')");
same('a payment that is asked for', $held, 'paymentIntents.retrieve', qq("$pi", {$charge}));

my $debit = sql(<<"SQL");
SELECT billing.create_payment_intent('$customer', 2100, 'EUR', method => 'sepa_debit', payment_method => 'pm_success_de', off_session => true,
	mandate => '{"type": "online", "ip_address": "192.0.2.1", "user_agent": "Mozilla/5.0 (X11)", "accepted_at": 1790000000}')
SQL
same('a debit with its mandate', $debit, 'paymentIntents.create', qq({"amount": 2100, "currency": "eur", "customer": "$cus", "allowed_payment_method_types": ["sepa_debit"],
	"confirm": true, "payment_method": "pm_success_de", "off_session": true,
	"mandate_data": {"customer_acceptance": {"type": "online", "online": {"ip_address": "192.0.2.1", "user_agent": "Mozilla/5.0 (X11)"}, "accepted_at": 1790000000}},
	"capture_method": "automatic", @{[tags($debit, 'org/1 ñ')]}, $charge}));

my $name = q(A B+C&=é~!*()' ✓ 日本 😀);
my $payer = qq("billing_details": {"email": "b\@example.com", "name": "Ana", "phone": "+52 55 1234 5678"});
sql(qq(SELECT billing.update_customer('$customer', '{"name": "Ana"}')));
same('a name', $customer, 'customers.update', qq("$cus", {"name": "Ana"}));
my $oxxo = sql("SELECT billing.create_payment_intent('$customer', 20000, 'MXN', method => 'oxxo', expires_at => now() + interval '3 days 1 hour')");
same('a voucher', $oxxo, 'paymentIntents.create', qq({"amount": 20000, "currency": "mxn", "customer": "$cus", "allowed_payment_method_types": ["oxxo"], "confirm": true,
	"payment_method_data": {"type": "oxxo", $payer}, "off_session": false, "capture_method": "automatic",
	"payment_method_options": {"oxxo": {"expires_after_days": 3}}, @{[tags($oxxo, 'org/1 ñ')]}, $charge}));
my $spei = sql("SELECT billing.create_payment_intent('$customer', 20000, 'MXN', method => 'spei')");
same('a transfer', $spei, 'paymentIntents.create', qq({"amount": 20000, "currency": "mxn", "customer": "$cus", "allowed_payment_method_types": ["customer_balance"], "confirm": true,
	"payment_method_data": {"type": "customer_balance", $payer}, "off_session": false, "capture_method": "automatic",
	"payment_method_options": {"customer_balance": {"funding_type": "bank_transfer", "bank_transfer": {"type": "mx_bank_transfer"}}}, @{[tags($spei, 'org/1 ñ')]}, $charge}));
$pi = ref_of($spei, 'payment_intent');
sql("SELECT billing.cancel_payment_intent('$spei', 'requested_by_customer')");
same('a payment given up', $spei, 'paymentIntents.cancel', qq("$pi", {"cancellation_reason": "requested_by_customer"}));

my $months = sql("SELECT billing.create_payment_intent('$customer', 90000, 'MXN', method => 'card', payment_method => 'pm_card_visa', installments => 6)");
same('six instalments', $months, 'paymentIntents.create', qq({"amount": 90000, "currency": "mxn", "customer": "$cus", "allowed_payment_method_types": ["card"], "confirm": true,
	"payment_method": "pm_card_visa", "off_session": false, "capture_method": "automatic",
	"payment_method_options": {"card": {"installments": {"enabled": true, "plan": {"count": 6, "interval": "month", "type": "fixed_count"}}}},
	@{[tags($months, 'org/1 ñ')]}, $charge}));
my $planned = sql("SELECT billing.create_payment_intent('$customer', 90000, 'MXN', method => 'card', installments => 3)");
same('instalments for later', $planned, 'paymentIntents.create', qq({"amount": 90000, "currency": "mxn", "customer": "$cus", "allowed_payment_method_types": ["card"],
	"capture_method": "automatic", "payment_method_options": {"card": {"installments": {"enabled": true}}}, @{[tags($planned, 'org/1 ñ')]}, $charge}));
$pi = ref_of($planned, 'payment_intent');
sql("SELECT billing.confirm_payment_intent('$planned', 'pm_card_visa')");
same('are not forgotten', $planned, 'paymentIntents.confirm', qq("$pi", {"payment_method": "pm_card_visa",
	"payment_method_options": {"card": {"installments": {"enabled": true, "plan": {"count": 3, "interval": "month", "type": "fixed_count"}}}}, $charge}));

# An account that has no login for its bank is proved by two deposits.
sub deposited
{
	my ($customer) = @_;
	my $payment = sql("SELECT billing.create_payment_intent('$customer', 5000, 'USD', method => 'us_bank_account')");

	sql("SELECT billing.await('$payment', '30 seconds')");
	$simulator->control('call', { method => 'POST', path => '/v1/payment_intents/' . ref_of($payment, 'payment_intent') . '/confirm', params => {
		payment_method => 'pm_usBankAccount_success', mandate_data => { customer_acceptance => { type => 'offline' } },
		payment_method_options => { us_bank_account => { verification_method => 'microdeposits' } } } });
	hear();
	return $payment;
}

my $deposits = deposited($customer);
$pi = ref_of($deposits, 'payment_intent');
sql("SELECT billing.verify_microdeposits('$deposits', '{32,45}')");
same('two deposits', $deposits, 'paymentIntents.verifyMicrodeposits', qq("$pi", {"amounts": [32, 45]}));
$deposits = deposited($customer);
$pi = ref_of($deposits, 'payment_intent');
sql("SELECT billing.verify_microdeposits('$deposits', descriptor_code => 'SM11AA')");
same('a code on the statement', $deposits, 'paymentIntents.verifyMicrodeposits', qq("$pi", {"descriptor_code": "SM11AA"}));

# ---- refunds and disputes ----

my $refund = sql("SELECT billing.create_refund('$held', 500, 'duplicate', 'a scarf too many', metadata => '{\"b\": \"c d\"}')");
$pi = ref_of($held, 'payment_intent');
my $movement = '"expand": ["balance_transaction"]';
same('a refund', $refund, 'refunds.create', qq({"payment_intent": "$pi", "amount": 500, "reason": "duplicate",
	"metadata": {"description": "a scarf too many", "b": "c d", "janua_ref": "$refund", "organization_id": "org/1 ñ"}, $movement}));
sql("SELECT billing.refresh('$refund')");
same('a refund that is asked for', $refund, 'refunds.retrieve', '"' . ref_of($refund, 'refund') . qq(", {$movement}));
my $wish = sql("SELECT billing.create_refund('$held', reason => 'service_disruption')");
same('the rest, in their word', $wish, 'refunds.create', qq({"payment_intent": "$pi", "amount": 700, "reason": "requested_by_customer",
	"metadata": {"janua_ref": "$wish", "organization_id": "org/1 ñ"}, $movement}));
my $slow = sql("SELECT billing.create_payment_intent('$customer', 2500, 'USD', payment_method => 'pm_card_pendingRefund')");
sql("SELECT billing.await('$slow', '30 seconds')");
new_requests();
my $waiting_refund = sql("SELECT billing.create_refund('$slow')");
same('all of it', $waiting_refund, 'refunds.create', qq({"payment_intent": "@{[ref_of($slow, 'payment_intent')]}", "amount": 2500, @{[tags($waiting_refund, 'org/1 ñ')]}, $movement}));
my $re = ref_of($waiting_refund, 'refund');
$simulator->control('edit', { kind => 'refunds', id => $re, fields => { status => 'requires_action' } });
hear();
sql("SELECT billing.cancel_refund('$waiting_refund')");
same('a refund given up', $waiting_refund, 'refunds.cancel', qq("$re"));

my @disputed = map { sql("SELECT billing.create_payment_intent('$customer', 3000, 'USD', payment_method => 'pm_card_visa')") } 1, 2;
foreach my $payment (@disputed)
{
	sql("SELECT billing.await('$payment', '30 seconds')");
	$simulator->control('act', { provider => 'stripe', action => 'dispute', payment_intent => ref_of($payment, 'payment_intent') });
}
hear();
my ($dispute, $lost_dispute) = map { sql("SELECT id FROM billing.disputes WHERE payment_intent_id = '$_'") } @disputed;
my $du = ref_of($dispute, 'dispute');
sql(qq(SELECT billing.submit_dispute_evidence('$dispute', '{"uncategorized_text": "sent on 2026-11-01 & signed", "shipping_carrier": "UPS"}', submit => false)));
same('evidence', $dispute, 'disputes.update', qq("$du", {"evidence": {"shipping_carrier": "UPS", "uncategorized_text": "sent on 2026-11-01 & signed"}, "submit": false}));
sql(qq(SELECT billing.submit_dispute_evidence('$dispute', '{"service_date": "2026-11-01"}')));
same('evidence that counts', $dispute, 'disputes.update', qq("$du", {"evidence": {"service_date": "2026-11-01", "shipping_carrier": "UPS",
	"uncategorized_text": "sent on 2026-11-01 & signed"}, "submit": true}));
sql("SELECT billing.accept_dispute('$lost_dispute')");
same('a dispute that is accepted', $lost_dispute, 'disputes.close', '"' . ref_of($lost_dispute, 'dispute') . '"');
my $account = sql("SELECT billing.fetch_disputes('stripe', since => to_timestamp(1700000000))");
same('the disputes', $account, 'disputes.list', '{"created": {"gte": 1700000000}, "limit": 100}');

# ---- setup intents, lists ----

my $setup = sql("SELECT billing.create_setup_intent('$minimal')");
same('a setup for the browser', $setup, 'setupIntents.create', qq({"customer": "$cus_minimal", "automatic_payment_methods": {"enabled": true}, "usage": "off_session",
	@{[tags($setup, 'org_minimal')]}}));
sql("SELECT billing.cancel_setup_intent('$setup')");
same('a setup given up', $setup, 'setupIntents.cancel', '"' . ref_of($setup, 'setup_intent') . '"');
my $kept = sql(<<"SQL");
SELECT billing.create_setup_intent('$minimal', 'pm_success_de', usage => 'on_session', return_url => 'https://example.com/s',
	mandate => '{"type": "offline"}', description => 'for later', metadata => '{"m": "n"}')
SQL
same('a setup with everything', $kept, 'setupIntents.create', qq({"customer": "$cus_minimal", "payment_method": "pm_success_de", "automatic_payment_methods": {"enabled": true},
	"usage": "on_session", "confirm": true, "return_url": "https://example.com/s", "mandate_data": {"customer_acceptance": {"type": "offline"}},
	"description": "for later", "metadata": {"m": "n", "janua_ref": "$kept", "organization_id": "org_minimal"}}));
sql("SELECT billing.refresh_payment_methods('$customer')");
same('the payment methods', $customer, 'customers.listPaymentMethods', qq("$cus", {"limit": 100}));
sql(qq(SELECT billing.update_customer('$minimal', '{"tax_ids": [{"type": "eu_vat", "value": "DE123456789"}]}')));
same('a tax id', $minimal, 'customers.listTaxIds', qq("$cus_minimal", {"limit": 100}),
	'customers.createTaxId', qq("$cus_minimal", {"type": "eu_vat", "value": "DE123456789"}));

# ---- checkouts, links, the portal ----

my $until = time + 7200;
my $page = sql(<<"SQL");
SELECT billing.create_checkout_session('$customer', '[{"name": "Ticket", "amount": 2500, "quantity": 2, "description": "in the stalls"}]',
	'https://example.com/ok?id={CHECKOUT_SESSION_ID}&x=ñ', 'https://example.com/no', currency => 'MXN', methods => '{card,spei}', installments => '{3,6}',
	coupon => 'TENOFF', collect_tax_id => true, automatic_tax => true, locale => 'es-MX', expires_at => to_timestamp($until), metadata => '{"cart": "7"}')
SQL
sql("SELECT billing.await('$page', '30 seconds')");
my $paying = sql("SELECT payment_intent_id FROM billing.checkout_sessions WHERE id = '$page'");
same('a page to pay on', $page, 'checkout.sessions.create', qq({"mode": "payment", "customer": "$cus",
	"line_items": [{"price_data": {"currency": "mxn", "product_data": {"name": "Ticket", "description": "in the stalls"}, "unit_amount": 2500}, "quantity": 2}],
	"success_url": "https://example.com/ok?id=$page&x=ñ", "cancel_url": "https://example.com/no", "allowed_payment_method_types": ["card", "customer_balance"],
	"payment_method_options": {"card": {"installments": {"enabled": true}}, "customer_balance": {"bank_transfer": {"type": "mx_bank_transfer"}, "funding_type": "bank_transfer"}},
	"discounts": [{"coupon": "TENOFF"}], "automatic_tax": {"enabled": true}, "tax_id_collection": {"enabled": true}, "customer_update": {"address": "auto", "name": "auto"},
	"locale": "es", "expires_at": $until, "payment_intent_data": {@{[tags($paying, 'org/1 ñ')]}},
	"metadata": {"cart": "7", "janua_ref": "$page", "organization_id": "org/1 ñ"}}));
my $cs = ref_of($page, 'checkout_session');
sql("SELECT billing.refresh_checkout_session('$page')");
same('a page that is asked for', $page, 'checkout.sessions.retrieve', qq("$cs", {"expand": ["payment_intent"]}));
sql("SELECT billing.expire_checkout_session('$page')");
same('a page that is closed', $page, 'checkout.sessions.expire', qq("$cs"));

my $plain = sql("SELECT billing.create_customer('org_page')");
same('a buyer', $plain, 'customers.create', qq({@{[tags($plain, 'org_page')]}}));
my $cus_page = ref_of($plain, 'customer');
my $sale = sql("SELECT billing.create_checkout_session('$plain', plan => 'pro', quantity => 3, trial_days => 7, success_url => 'https://example.com/ok', allow_promotion_codes => true)");
sql("SELECT billing.await('$sale', '30 seconds')");
my $sold = sql("SELECT subscription_id FROM billing.checkout_sessions WHERE id = '$sale'");
same('a page that sells a subscription', $sale, 'checkout.sessions.create', qq({"mode": "subscription", "customer": "$cus_page", "line_items": [{"price": "$price_at", "quantity": 3}],
	"success_url": "https://example.com/ok", "allow_promotion_codes": true,
	"subscription_data": {@{[tags($sold, 'org_page')]}, "trial_period_days": 7}, @{[tags($sale, 'org_page')]}}));
my $card_page = sql("SELECT billing.create_checkout_session('$plain', mode => 'setup', currency => 'USD', success_url => 'https://example.com/ok')");
same('a page that keeps a card', $card_page, 'checkout.sessions.create', qq({"mode": "setup", "customer": "$cus_page", "currency": "usd", "success_url": "https://example.com/ok",
	@{[tags($card_page, 'org_page')]}}));

my $link = sql("SELECT billing.create_payment_link('Fund', '[{\"name\": \"Fund & co\", \"amount\": 1000}]', currency => 'USD', methods => '{card}', success_url => 'https://example.com/t', max_payments => 5)");
same('a link', $link, 'paymentLinks.create', qq({"line_items": [{"price_data": {"currency": "usd", "product_data": {"name": "Fund & co"}, "unit_amount": 1000}, "quantity": 1}],
	"payment_method_types": ["card"], "after_completion": {"type": "redirect", "redirect": {"url": "https://example.com/t"}},
	"restrictions": {"completed_sessions": {"limit": 5}}, "payment_intent_data": {"description": "Fund"}, "metadata": {"janua_ref": "$link"}}));
sql("SELECT billing.cancel_payment_link('$link')");
same('a link that is closed', $link, 'paymentLinks.update', '"' . ref_of($link, 'checkout_session') . '", {"active": false}');
my $portal = sql("SELECT billing.create_portal_session('$customer', 'https://example.com/account', locale => 'de-AT')");
same('the portal', $portal, 'billingPortal.sessions.create', qq({"customer": "$cus", "return_url": "https://example.com/account", "locale": "de"}));

# ---- the catalogue ----

sql("UPDATE billing.plans SET name = 'Professional', description = 'more of it' WHERE plan = 'pro'");
same('a plan renamed', $plan, 'products.update', qq("$product_at", {"name": "Professional", "description": "more of it"}));
sql("SELECT billing.create_price('pro', 3900)");
same('a price replaced', $price, 'prices.update', qq("$price_at", {"active": false}));

# ---- usage ----

my $meter = sql("SELECT billing.forward_usage('api_calls', 'stripe', since => now() - interval '5 hours')");
same('a meter', $meter, 'billing.meters.create', qq({"display_name": "api_calls", "event_name": "api_calls", "default_aggregation": {"formula": "sum"},
	"event_time_window": "hour", "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"}, "value_settings": {"event_payload_key": "value"}}));
sql(<<"SQL");
UPDATE billing.settings SET value = '0' WHERE name = 'usage_forward_delay';
INSERT INTO billing.usage_forward_periods (organization_id, subscription_id, starts_at, ends_at, provider, account)
SELECT organization_id, id, now() - interval '1 day', now() + interval '9 days', 'stripe', 'default' FROM billing.customers WHERE id = '$customer';
SELECT billing.record_usage(organization_id, 'api_calls', 2.5, now() - interval '3 hours') FROM billing.customers WHERE id = '$customer';
SQL
wait_for($node, 'SELECT state FROM billing.usage_forwards', 'accepted', 'usage is forwarded');
my ($identifier, $hour) = split /\|/, sql('SELECT identifier, extract(epoch FROM hour)::bigint FROM billing.usage_forwards');
same('usage of an hour', undef, 'billing.meterEvents.create',
	qq({"event_name": "api_calls", "payload": {"stripe_customer_id": "$cus", "value": "2.5"}, "identifier": "$identifier", "timestamp": $hour}));

# ---- webhook endpoints ----

my $hook = sql("SELECT billing.register_webhook('stripe', 'https://example.com/hook?a=b', events => '{invoice.paid,customer.updated}')");
same('an endpoint', $hook, 'webhookEndpoints.create', qq({"url": "https://example.com/hook?a=b", "enabled_events": ["invoice.paid", "customer.updated"],
	"api_version": "2026-10-28.endive", "metadata": {"janua_ref": "$hook"}}));
my $we = ref_of($hook, 'webhook_endpoint');
sql("SELECT billing.update_webhook('$hook', enabled => false, events => '{invoice.paid}')");
same('an endpoint that is changed', $hook, 'webhookEndpoints.update', qq("$we", {"enabled_events": ["invoice.paid"], "disabled": true}));
sql("SELECT billing.rotate_webhook_secret('$hook')");
sql("SELECT billing.await('$hook', '30 seconds')");
same('a new secret', $hook, 'webhookEndpoints.create', qq({"url": "https://example.com/hook?a=b", "enabled_events": ["invoice.paid"],
	"api_version": "2026-10-28.endive", "metadata": {"janua_ref": "$hook"}}), 'webhookEndpoints.del', qq("$we"));
$account = sql("SELECT billing.refresh_webhooks('stripe')");
same('the endpoints', $account, 'webhookEndpoints.list', '{"limit": 100}');
$we = ref_of($hook, 'webhook_endpoint');
sql("SELECT billing.delete_webhook('$hook')");
same('an endpoint deleted', $hook, 'webhookEndpoints.del', qq("$we"));

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

# Every operation that a provider supports, through the SQL functions, over
# HTTP and back: once with as little as possible and once with all that can be
# said. Each request has to be as the provider's OpenAPI document wants it.
#
# The tables below are the test. A row is an operation, the call with the least
# arguments, and the one with all; without the latter there is nothing more to
# say. "name = call" keeps what the call returns as :name. A row that begins
# with (...) prepares something, by SQL or by what is no call of ours: the buyer
# pays, the bank takes back, somebody works in the dashboard. What is supported
# and has no row, or was not reached, fails by its name.
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
my %value;      # what calls returned, by name
my $provider;   # whose table is being run
my %reached;    # by operation

sub sql { return decode_utf8($node->safe_psql('postgres', encode_utf8($_[0]))) }

sub act { return $simulator->control('act', { provider => $provider, @_ }) }

sub call { return $simulator->control('call', { provider => $provider, method => $_[0], path => $_[1], params => $_[2] || {} })->{body} }

sub settings { return $simulator->control('settings', { provider => $provider, @_ }) }

# The provider's id of what has that name: at('customer', 'small').
sub at { return sql("SELECT provider_id FROM billing.provider_refs WHERE object_type = '$_[0]' AND object_id = '$value{$_[1]}' AND provider = '$provider'") }

# Keeps the result of a query under a name.
sub keep { return $value{ $_[0] } = sql($_[1]) }

# Usage of an organisation that has a subscription: the worker tells it by itself.
sub forward
{
	my ($operation, $organization) = @_;

	sql(<<"SQL");
UPDATE billing.settings SET value = '0' WHERE name = 'usage_forward_delay';
INSERT INTO billing.usage_forward_periods (organization_id, subscription_id, starts_at, ends_at, provider, account)
VALUES ('$organization', billing.new_id(), now() - interval '2 days', now() + interval '9 days', '$provider', 'default');
SELECT billing.record_usage('$organization', 'api_calls', 2, now() - interval '5 hours');
SQL
	$reached{$operation} = 1
	  if poll_until(sub { sql("SELECT count(*) FROM billing.outbox_finished WHERE operation = '$operation' AND state = 'done'") > 0 }, "$operation is done");
}

# ---- Stripe ----

my @STRIPE = (
	[ 'customer.create',
		q{small = create_customer('stripe_small', provider => 'stripe')},
		q{big = create_customer('stripe_big', 'big@example.com', 'Müller & Söhne', 'DE', 'stripe', '+49 30 1234567',
			address => '{"line1": "Weg 1", "line2": "Hof", "city": "Köln", "state": "NW", "postal_code": "50667", "country": "DE"}',
			tax_ids => '[{"type": "eu_vat", "value": "DE123456789"}]', tax_exempt => 'reverse', locale => 'de-DE', currency => 'USD',
			timezone => 'Europe/Berlin', description => 'all of it', metadata => '{"tier": "gold", "old": "x"}')} ],
	[ 'customer.update',
		q{update_customer(:small, '{"email": "small@example.com"}')},
		q{update_customer(:big, '{"email": "new@example.com", "name": "Müller", "phone": null, "description": "less", "locale": "fr",
			"address": {"line1": "Weg 2", "city": "Bonn", "country": "DE"}, "tax_exempt": "none", "metadata": {"old": null, "new": "y"}}')} ],
	[ 'customer.set_tax_ids',
		q{update_customer(:small, '{"tax_ids": [{"type": "us_ein", "value": "12-3456789"}]}')},
		q{update_customer(:big, '{"tax_ids": [{"type": "eu_vat", "value": "FR12345678901"}, {"type": "gb_vat", "value": "GB123456789"}]}')} ],
	[ 'customer.fetch', q{refresh(:small)} ],

	# payment methods
	[ 'payment_method.attach',
		q{card = attach_payment_method(:small, 'pm_card_visa')},
		q{account = attach_payment_method(:big, 'pm_usBankAccount_success', 'us_bank_account', true, :mandate, metadata => '{"a": "b"}')} ],
	[ 'payment_method.attach',
		q{good = attach_payment_method(:big, 'pm_card_mastercard', 'card')},
		q{debit = attach_payment_method(:big, 'pm_success_de', 'sepa_debit', false, :mandate)} ],
	[ 'payment_method.set_default', q{set_default_payment_method(:good)} ],
	[ 'payment_method.list', q{refresh_payment_methods(:big)} ],
	[ 'payment_method.detach', q{detach_payment_method(:debit)} ],
	[ 'setup_intent.create',
		q{setup = create_setup_intent(:small)},
		q{create_setup_intent(:big, 'pm_usBankAccount_success', 'on_session', true, 'https://a.example/back', :mandate, 'for later', '{"a": "b"}')} ],
	[ 'setup_intent.cancel', q{cancel_setup_intent(:setup)} ],

	# subscriptions; products and prices are made when they are first sold
	[ '(a plan with all that a plan has)', q{create_plan('stripe_full', 'Full', 4900, 'USD', 'year', 2, 'All of it', plan_group => 'full', metadata => '{"a": "b"}')} ],
	[ '(another one to change to)', q{create_plan('stripe_other', 'Other', 9900, 'USD', 'year', 2, plan_group => 'full')} ],
	[ '(one that is billed by invoice)', q{create_plan('stripe_invoiced', 'Invoiced', 1900, 'USD', plan_group => 'invoiced')} ],
	[ '(a coupon)', sub { call('POST', '/v1/coupons', { id => 'SPRING', percent_off => 10, duration => 'forever' }) } ],
	[ 'product.create price.create subscription.create',
		q{subscription = subscribe('stripe_small', 'pro')},
		q{trial = subscribe('stripe_big', 'stripe_full', 'pm_card_visa', 10, 3, 'USD', cancel_at => now() + interval '3 years', trial_end_behavior => 'pause',
			off_session => true, coupon => 'SPRING', automatic_tax => true, metadata => '{"a": "b"}')} ],
	[ 'subscription.create',
		q{invoiced = subscribe('stripe_small', 'stripe_invoiced', collection_method => 'send_invoice', days_until_due => 14)},
		q{subscribe('stripe_big', 'stripe_invoiced', collection_method => 'send_invoice', days_until_due => 14, billing_anchor => now() + interval '9 days')} ],
	[ 'subscription.update',
		q{update_subscription(:subscription, quantity => 2)},
		q{update_subscription(:trial, 'stripe_other', 4, 'always_invoice', payment_method => 'pm_card_mastercard', proration_date => now() + interval '1 day',
			trial_end => now() + interval '20 days', cancel_at => now() + interval '2 years', coupon => 'SPRING')} ],
	[ 'subscription.cancel_at_period_end',
		q{cancel_subscription(:subscription)},
		q{cancel_subscription(:trial, reason => 'too_expensive', comment => 'bye')} ],
	[ 'subscription.uncancel', q{resume_subscription(:subscription)} ],
	[ 'subscription.pause', q{pause_subscription(:subscription)} ],
	[ 'subscription.resume', q{resume_subscription(:subscription)} ],
	[ 'subscription.pause',
		q{pause_subscription(:subscription, behavior => 'void')},
		q{pause_subscription(:trial, resumes_at => now() + interval '9 days', behavior => 'keep_as_draft')} ],
	[ 'subscription.resume', q{resume_subscription(:trial)} ],
	[ '(a first payment is declined)', q{poor = create_customer('stripe_poor', provider => 'stripe')} ],
	[ '(by this card)', q{unpaid = subscribe('stripe_poor', 'pro', 'pm_card_chargeCustomerFail')} ],
	[ '(a better card is entered in the dashboard)', sub {
		my $card = call('POST', '/v1/payment_methods/pm_card_visa/attach', { customer => at('customer', 'poor') });
		call('POST', '/v1/subscriptions/' . at('subscription', 'unpaid'), { default_payment_method => $card->{id} });
	} ],
	[ 'subscription.retry_payment', q{retry_payment(:unpaid)} ],
	[ 'subscription.fetch', q{refresh(:unpaid)} ],
	[ 'product.update',
		q{UPDATE billing.plans SET name = 'Renamed' WHERE plan = 'stripe_other'},
		q{UPDATE billing.plans SET name = 'Fuller', description = 'More of it', retired_at = now() WHERE plan = 'stripe_full'} ],
	[ 'price.update', q{create_price('stripe_other', 10900, 'USD', 'year', 2)} ],
	[ 'subscription.cancel',
		q{cancel_subscription(:unpaid, false)},
		q{cancel_subscription(:subscription, false, true, true, 'too_expensive', 'bye')} ],

	# payments
	[ 'payment_intent.create',
		q{pending = create_payment_intent(:small, 1000)},
		q{held = create_payment_intent(:big, 3000, 'USD', 'card', :good, true, capture_method => 'manual',
			line_items => '[{"name": "Hat", "amount": 1000, "quantity": 2}]', tax_lines => '[{"description": "VAT", "amount": 1000}]',
			description => 'Hats', statement_descriptor_suffix => 'HATS', receipt_email => 'r@example.com', return_url => 'https://a.example/back',
			setup_future_usage => 'off_session', metadata => '{"a": "b"}')} ],
	[ 'payment_intent.create',
		q{ready = create_payment_intent(:big, 2500, payment_method => :good, confirm => false)},
		q{create_payment_intent(:big, 2000, 'USD', 'us_bank_account', :account, true, true, mandate => :mandate)} ],
	[ 'payment_intent.create',
		q{voucher = create_payment_intent(:big, 50000, 'MXN', 'oxxo', receipt_email => 'r@example.com', expires_at => now() + interval '4 days', provider => 'stripe')},
		q{create_payment_intent(:big, 50000, 'MXN', 'spei', provider => 'stripe')} ],
	[ 'payment_intent.create',
		q{months = create_payment_intent(:big, 90000, 'MXN', 'card', :good, installments => 6, confirm => false)},
		q{create_payment_intent(:big, 90000, 'MXN', 'card', 'pm_card_mx', true, installments => 6, return_url => 'https://a.example/back', provider => 'stripe')} ],
	[ 'payment_intent.confirm',
		q{confirm_payment_intent(:ready)},
		q{confirm_payment_intent(:months, :good, 'card', 'https://a.example/back', false, 3)} ],
	[ 'payment_intent.capture', q{capture_payment_intent(:held)} ],
	[ '(another one that is held)', q{held = create_payment_intent(:big, 3000, payment_method => :good, capture_method => 'manual')} ],
	[ 'payment_intent.capture', q{capture_payment_intent(:held, 2000)}, ],
	[ 'payment_intent.cancel', q{cancel_payment_intent(:pending)} ],
	[ '(accounts that are not proved)', q{amounts = create_payment_intent(:big, 2000, method => 'us_bank_account')} ],
	[ '(another one)', q{code = create_payment_intent(:big, 2000, method => 'us_bank_account')} ],
	[ '(and one to give up)', q{abandoned = create_payment_intent(:big, 2000)} ],
	[ '(the customer names the accounts)', sub { ask_for_microdeposits($_) foreach 'amounts', 'code' } ],
	[ 'payment_intent.verify_microdeposits',
		q{verify_microdeposits(:amounts, ARRAY[32, 45])},
		q{verify_microdeposits(:code, descriptor_code => 'SM11AA')} ],
	[ 'payment_intent.cancel', q{cancel_payment_intent(:abandoned, 'abandoned')} ],
	[ 'payment_intent.fetch', q{refresh(:ready)} ],

	# refunds and disputes
	[ 'refund.create',
		q{refund = create_refund(:ready, 100)},
		q{create_refund(:ready, 200, 'duplicate', 'paid twice', '{"a": "b"}')} ],
	[ '(a voucher is paid, and paid back in the dashboard: the buyer has to say where to)', sub {
		act(action => 'pay_reference', payment_intent => at('payment_intent', 'voucher'));
		call('POST', '/v1/refunds', { payment_intent => at('payment_intent', 'voucher') });
	} ],
	[ '(that refund)', q{waiting = (SELECT id FROM billing.refunds WHERE payment_intent_id = :voucher)} ],
	[ 'refund.cancel', q{cancel_refund(:waiting)} ],
	[ 'refund.fetch', q{refresh(:refund)} ],
	[ '(two payments)', q{first = create_payment_intent(:big, 4000, payment_method => :good)} ],
	[ '(...)', q{second = create_payment_intent(:big, 4100, payment_method => :good)} ],
	[ '(that the bank takes back)', sub { act(action => 'dispute', payment_intent => at('payment_intent', $_)) foreach 'first', 'second' } ],
	[ '(one)', q{first = (SELECT id FROM billing.disputes WHERE amount = 4000)} ],
	[ '(and the other)', q{second = (SELECT id FROM billing.disputes WHERE amount = 4100)} ],
	[ 'dispute.list', q{fetch_disputes('stripe')}, q{fetch_disputes('stripe', 'default', now() - interval '1 day')} ],
	[ 'dispute.submit_evidence',
		q{submit_dispute_evidence(:first, '{"uncategorized_text": "It arrived."}')},
		q{submit_dispute_evidence(:second, '{"customer_name": "M", "customer_email_address": "m@example.com", "product_description": "Hats", "service_date": "2026-01-01",
			"shipping_carrier": "Post", "shipping_tracking_number": "12", "refund_policy_disclosure": "read", "uncategorized_text": "x"}', false)} ],
	[ 'dispute.accept', q{accept_dispute(:second)} ],
	[ 'dispute.fetch', q{refresh(:first)} ],

	# pages
	[ 'checkout_session.create',
		q{page = create_checkout_session(:small, '[{"name": "Ticket", "amount": 2500}]', 'https://a.example/done')},
		q{create_checkout_session(:big, '[{"name": "Ticket", "amount": 250000, "quantity": 2, "description": "in the stalls"}, {"name": "Fee", "amount": 100}]',
			'https://a.example/done?s={CHECKOUT_SESSION_ID}', 'https://a.example/no', 'payment', currency => 'MXN', methods => '{card,oxxo,spei}', installments => '{3,6}',
			coupon => 'SPRING', collect_tax_id => true, automatic_tax => true, locale => 'es', expires_at => now() + interval '2 hours', metadata => '{"a": "b"}')} ],
	[ 'checkout_session.create',
		q{create_checkout_session(:small, plan => 'pro', success_url => 'https://a.example/done')},
		q{create_checkout_session(:big, plan => 'pro', quantity => 2, trial_days => 9, success_url => 'https://a.example/done', mode => 'subscription',
			allow_promotion_codes => true, methods => '{card}')} ],
	[ 'checkout_session.create', q{create_checkout_session(:small, mode => 'setup', success_url => 'https://a.example/done', currency => 'USD')} ],
	[ 'checkout_session.fetch', q{refresh_checkout_session(:page)} ],
	[ 'checkout_session.expire', q{expire_checkout_session(:page)} ],
	[ 'payment_link.create',
		q{link = create_payment_link('Fund', '[{"name": "Fund", "amount": 1000}]', provider => 'stripe')},
		q{create_payment_link('Fund', '[{"name": "Fund", "amount": 100000, "quantity": 2, "description": "for all"}, {"name": "Fee", "amount": 100}]', 'MXN', '{card,oxxo}',
			success_url => 'https://a.example/thanks', max_payments => 5, metadata => '{"a": "b"}', provider => 'stripe')} ],
	[ 'payment_link.cancel', q{cancel_payment_link(:link)} ],
	[ 'portal_session.create',
		q{create_portal_session(:small)},
		q{create_portal_session(:big, 'https://a.example/account', :trial, 'de', '{"a": "b"}')} ],

	# invoices
	[ '(invoices are written in the dashboard)', sub { act(action => 'draft_invoice', customer => at('customer', 'big'), amount => $_) foreach 5001 .. 5004 } ],
	[ 'invoice.list', q{refresh_invoices(:big)} ],
	[ '(each)', q{paid = (SELECT id FROM billing.invoices WHERE total = 5001)} ],
	[ '(is)', q{named = (SELECT id FROM billing.invoices WHERE total = 5002)} ],
	[ '(a)', q{void = (SELECT id FROM billing.invoices WHERE total = 5003)} ],
	[ '(draft)', q{lost = (SELECT id FROM billing.invoices WHERE total = 5004)} ],
	[ 'invoice.finalize', q{finalize_invoice(:paid)} ],
	[ 'invoice.finalize', q{finalize_invoice(:named)} ],
	[ 'invoice.finalize', q{finalize_invoice(:void)} ],
	[ 'invoice.finalize', q{finalize_invoice(:lost)} ],
	[ 'invoice.send', q{send_invoice(:void)} ],
	[ 'invoice.pay', q{pay_invoice(:paid)}, q{pay_invoice(:named, :good)} ],
	[ 'invoice.void', q{void_invoice(:void)} ],
	[ 'invoice.mark_uncollectible', q{mark_invoice_uncollectible(:lost)} ],
	[ 'invoice.fetch', q{refresh(:paid)} ],
	[ 'invoice.document', q{fetch_invoice_document(:paid)} ],

	[ 'customer.delete', q{delete_customer(:small)} ],

	# usage
	[ 'meter.create',
		q{meter = forward_usage('api_calls', 'stripe', since => now() - interval '1 day')},
		q{forward_usage('storage', 'stripe', event_name => 'bytes', since => now() - interval '1 day')} ],
	[ '(a meter that is there)', sub {
		$value{meter} = call('POST', '/v1/billing/meters', { display_name => 'x', event_name => 'users', default_aggregation => { formula => 'last' }, event_time_window => 'hour' })->{id};
	} ],
	[ 'meter.fetch', q{forward_usage('users', 'stripe', link => :meter)} ],
	[ '(usage)', sub { forward('usage.report', 'stripe_big') } ],

	# webhook endpoints: last, as their secrets take the place of the one that the simulator signs with
	[ 'webhook_endpoint.create',
		q{register_webhook('stripe', 'https://hooks.example.com/one')},
		q{endpoint = register_webhook('stripe', 'https://hooks.example.com/two', events => '{invoice.paid,customer.updated}')} ],
	[ 'webhook_endpoint.update',
		q{update_webhook(:endpoint, enabled => false)},
		q{update_webhook(:endpoint, 'https://hooks.example.com/three', true, '{invoice.paid}')} ],
	[ 'webhook_endpoint.rotate', q{rotate_webhook_secret(:endpoint)} ],
	[ 'webhook_endpoint.list', q{refresh_webhooks('stripe')} ],
	[ 'webhook_endpoint.delete', q{delete_webhook(:endpoint)} ],
);

# The buyer's bank account is to be proved by two small deposits.
sub ask_for_microdeposits
{
	call('POST', '/v1/payment_intents/' . at('payment_intent', $_[0]) . '/confirm',
		{ payment_method => 'pm_usBankAccount_success', mandate_data => { customer_acceptance => { type => 'offline' } },
			payment_method_options => { us_bank_account => { verification_method => 'microdeposits' } } });
}

# ---- Conekta ----

# A token is taken once: what follows its name makes it another one.
my @CONEKTA = (
	[ 'customer.create',
		q{small = create_customer('conekta_small', 'small@example.com', 'Ana Pérez', provider => 'conekta', phone => '+525512345678')},
		q{big = create_customer('conekta_big', 'big@example.com', 'Luz Núñez', 'MX', 'conekta', '+525587654321',
			address => '{"line1": "Reforma 1", "line2": "Piso 2", "city": "Ciudad de México", "state": "CDMX", "postal_code": "06100", "country": "MX"}',
			tax_ids => '[{"type": "mx_rfc", "value": "AAA010101AAA"}]', locale => 'es', currency => 'MXN', timezone => 'America/Mexico_City',
			description => 'all of it', metadata => '{"tier": "gold", "old": "x"}')} ],
	[ 'customer.update',
		q{update_customer(:small, '{"name": "Ana María"}')},
		q{update_customer(:big, '{"email": "new@example.com", "name": "Luz", "phone": "+525500000000", "description": "less", "locale": "en",
			"metadata": {"old": null, "new": "y"}}')} ],
	[ 'customer.update customer.set_tax_ids',
		q{update_customer(:small, '{"address": {"line1": "Juárez 5", "postal_code": "06600", "city": "CDMX", "country": "MX"},
			"tax_ids": [{"type": "mx_rfc", "value": "BBB010101BBB"}]}')},
		q{update_customer(:big, '{"address": {"line1": "Reforma 3", "line2": "Piso 4", "postal_code": "06500", "city": "CDMX", "state": "CDMX", "country": "MX"},
			"tax_ids": [{"type": "mx_rfc", "value": "CCC010101CCC"}]}')} ],
	[ 'customer.fetch', q{refresh(:small)} ],

	# payment methods
	[ 'payment_method.attach',
		q{card = attach_payment_method(:small, 'tok_test_visa_4242_1')},
		q{good = attach_payment_method(:big, 'tok_test_visa_4242_2', 'card', true, metadata => '{"a": "b"}')} ],
	[ 'payment_method.attach',
		q{attach_payment_method(:big, type => 'spei_recurrent')},
		q{shop = attach_payment_method(:big, type => 'cash_recurrent', set_default => false, expires_at => now() + interval '60 days')} ],
	[ 'payment_method.set_default', q{set_default_payment_method(:good)} ],
	[ 'payment_method.list', q{refresh_payment_methods(:big)} ],
	[ 'payment_method.detach', q{detach_payment_method(:shop)} ],

	# subscriptions; a price is a plan there, made when it is first sold
	[ '(a plan)', q{create_plan('conekta_plain', 'Sencillo', 29900, 'MXN')} ],
	[ '(one with all that a plan has)', q{create_plan('conekta_full', 'Completo', 99900, 'MXN', 'year', 1, 'Todo', trial_days => 7, metadata => '{"a": "b"}')} ],
	[ '(one to change to)', q{create_plan('conekta_other', 'Otro', 39900, 'MXN', 'week', 2)} ],
	[ 'price.create subscription.create',
		q{subscription = subscribe('conekta_small', 'conekta_plain', currency => 'MXN')},
		q{trial = subscribe('conekta_big', 'conekta_full', 'tok_test_visa_4242_3', 20, currency => 'MXN', collection_method => 'charge_automatically',
			trial_end_behavior => 'cancel', off_session => true, metadata => '{"a": "b"}')} ],
	[ 'subscription.update',
		q{update_subscription(:subscription, 'conekta_other', proration_behavior => 'none')},
		q{update_subscription(:trial, 'conekta_other', proration_behavior => 'none', payment_method => 'tok_test_mastercard_4444_1', trial_end => now() + interval '30 days')} ],
	[ '(its end with the period is ours to see to)', q{cancel_subscription(:subscription, reason => 'too_expensive', comment => 'adiós')} ],
	[ '(and so is that it goes on)', q{resume_subscription(:subscription)} ],
	[ 'subscription.pause',
		q{pause_subscription(:subscription)},
		q{pause_subscription(:trial, behavior => 'void')} ],
	[ 'subscription.resume', q{resume_subscription(:subscription)} ],
	[ '(a payment fails)', sub { act(action => 'bill', subscription => at('subscription', 'subscription'), outcome => 'declined') } ],
	[ 'subscription.retry_payment', q{retry_payment(:subscription)} ],
	[ 'subscription.fetch', q{refresh(:subscription)} ],
	[ 'portal_session.create',
		q{create_portal_session(:small, subscription_id => :subscription)},
		q{create_portal_session(:big, subscription_id => :trial, locale => 'es', metadata => '{"a": "b"}')} ],
	[ 'price.update',
		q{UPDATE billing.plans SET name = 'Muy sencillo' WHERE plan = 'conekta_plain'},
		q{UPDATE billing.plans SET name = 'Completísimo', description = 'Todo y más' WHERE plan = 'conekta_full'} ],
	[ 'subscription.cancel',
		q{cancel_subscription(:subscription, false)},
		q{cancel_subscription(:trial, false, reason => 'too_expensive', comment => 'adiós')} ],

	# payments
	[ 'payment_intent.create',
		q{pending = create_payment_intent(:small, 10000, 'MXN')},
		q{months = create_payment_intent(:big, 90000, 'MXN', 'card', :good, true, false, 'automatic', 6,
			line_items => '[{"name": "Camisa", "amount": 40000, "quantity": 2, "description": "azul"}]', tax_lines => '[{"description": "IVA", "amount": 10000}]',
			return_url => 'https://a.example/back', metadata => '{"a": "b"}')} ],
	[ 'payment_intent.create',
		q{voucher = create_payment_intent(:small, 20000, 'MXN', 'oxxo')},
		q{cash = create_payment_intent(:big, 21000, 'MXN', 'oxxo', confirm => true, expires_at => now() + interval '5 days', description => 'Pan')} ],
	[ 'payment_intent.create',
		q{transfer = create_payment_intent(:small, 22000, 'MXN', 'spei')},
		q{create_payment_intent(:big, 23000, 'MXN', 'spei', confirm => true, expires_at => now() + interval '5 days')} ],
	[ 'payment_intent.create',
		q{held = create_payment_intent(:small, 30000, 'MXN', payment_method => 'tok_test_visa_4242_4', capture_method => 'manual')},
		q{partly = create_payment_intent(:big, 30000, 'MXN', 'card', :good, true, true, 'manual')} ],
	[ '(one to pay in months)', q{later = create_payment_intent(:big, 60000, 'MXN', payment_method => :good, confirm => false)} ],
	[ 'payment_intent.confirm',
		q{confirm_payment_intent(:pending, 'tok_test_visa_4242_5')},
		q{confirm_payment_intent(:later, :good, 'card', off_session => false, installments => 3)} ],
	[ '(one to pay in a shop)', q{later = create_payment_intent(:big, 10000, 'MXN')} ],
	[ 'payment_intent.confirm', q{confirm_payment_intent(:later, method => 'oxxo', expires_at => now() + interval '2 days')} ],
	[ 'payment_intent.capture', q{capture_payment_intent(:held)}, q{capture_payment_intent(:partly, 20000)} ],
	[ 'payment_intent.cancel', q{cancel_payment_intent(:later)}, q{cancel_payment_intent(:transfer, 'abandoned')} ],
	[ 'payment_intent.fetch', q{refresh(:pending)} ],
	[ 'refund.create',
		q{refund = create_refund(:pending)},
		q{create_refund(:held, 1000, 'duplicate', 'pagado dos veces', '{"a": "b"}')} ],
	[ '(a voucher is paid in a shop)', sub { act(action => 'pay_reference', reference => sql("SELECT billing.client_config('$value{voucher}') -> 'next_action' ->> 'reference'")) } ],
	[ 'refund.create', q{waiting = create_refund(:voucher)} ],
	[ 'refund.cancel', q{cancel_refund(:waiting)} ],
	[ 'refund.fetch', q{refresh(:refund)} ],

	# pages
	[ 'checkout_session.create',
		q{page = create_checkout_session(:small, '[{"name": "Camisa", "amount": 30000, "currency": "MXN"}]', 'https://a.example/si', 'https://a.example/no')},
		q{create_checkout_session(:big, '[{"name": "Camisa", "amount": 30000, "quantity": 2, "description": "azul"}, {"name": "Envío", "amount": 1000}]',
			'https://a.example/si?s={CHECKOUT_SESSION_ID}', 'https://a.example/no', 'payment', currency => 'MXN', methods => '{card,oxxo,spei}', installments => '{3,6,9}',
			tax_lines => '[{"description": "IVA", "amount": 9600}]', locale => 'es', expires_at => now() + interval '2 days', metadata => '{"a": "b"}')} ],
	[ 'checkout_session.create',
		q{create_checkout_session(:small, plan => 'conekta_plain', currency => 'MXN', success_url => 'https://a.example/si', cancel_url => 'https://a.example/no')} ],
	[ 'checkout_session.fetch', q{refresh_checkout_session(:page)} ],
	[ 'checkout_session.expire', q{expire_checkout_session(:page)} ],
	[ 'payment_link.create',
		q{link = create_payment_link('Camisa', '[{"name": "Camisa", "amount": 30000, "currency": "MXN"}]', provider => 'conekta')},
		q{create_payment_link('Camisas', '[{"name": "Camisa", "amount": 30000, "quantity": 2, "description": "azul"}]', 'MXN', '{card,oxxo,spei}', '{3,6}',
			now() + interval '9 days', 'https://a.example/si', 5, '{"a": "b"}', 'conekta')} ],
	[ 'payment_link.cancel', q{cancel_payment_link(:link)} ],

	[ 'customer.delete', q{delete_customer(:small)} ],

	# webhook endpoints
	[ 'webhook_endpoint.create',
		q{register_webhook('conekta', 'https://hooks.example.com/one')},
		q{endpoint = register_webhook('conekta', 'https://hooks.example.com/two', events => '{order.paid,customer.updated}')} ],
	[ 'webhook_endpoint.update',
		q{update_webhook(:endpoint, events => '{order.paid}')},
		q{update_webhook(:endpoint, 'https://hooks.example.com/three', false, '{order.paid,order.expired}')} ],
	[ 'webhook_endpoint.rotate', q{rotate_webhook_secret(:endpoint)} ],
	[ 'webhook_endpoint.list', q{refresh_webhooks('conekta')} ],
	[ 'webhook_endpoint.delete', q{delete_webhook(:endpoint)} ],
);

# ---- Polar ----

my @POLAR = (
	[ 'customer.create',
		q{small = create_customer('polar_small', 'small@example.com', provider => 'polar')},
		q{big = create_customer('polar_big', 'big@example.com', 'Müller & Söhne', 'DE', 'polar', '+49 30 1234567',
			address => '{"line1": "Weg 1", "line2": "Hof", "city": "Köln", "state": "NW", "postal_code": "50667", "country": "DE"}',
			tax_ids => '[{"type": "eu_vat", "value": "DE123456789"}]', locale => 'de', currency => 'USD', timezone => 'Europe/Berlin',
			description => 'all of it', metadata => '{"tier": "gold", "old": "x"}')} ],
	[ 'customer.update',
		q{update_customer(:small, '{"name": "Small"}')},
		q{update_customer(:big, '{"email": "new@example.com", "name": null, "phone": null, "description": "less", "locale": "fr",
			"address": {"line1": "Weg 2", "city": "Bonn", "country": "DE"}, "metadata": {"old": null, "new": "y"}}')} ],
	[ 'customer.set_tax_ids',
		q{update_customer(:small, '{"country": "US", "tax_ids": [{"type": "us_ein", "value": "12-3456789"}]}')},
		q{update_customer(:big, '{"tax_ids": []}')} ],
	[ 'customer.fetch', q{refresh(:small)} ],
	[ '(the customer saves a card in the portal)', sub { act(action => 'add_payment_method', customer => at('customer', 'big'), last4 => '1881') } ],
	[ 'payment_method.list', q{refresh_payment_methods(:big)} ],
	[ '(that card)', q{good = (SELECT id FROM billing.payment_methods WHERE customer_id = :big)} ],

	# sold by checkout; a price is a product there, made when it is first sold
	[ '(a plan with all that a plan has)', q{create_plan('polar_full', 'Full', 4900, 'USD', 'year', 2, 'All of it', plan_group => 'full', metadata => '{"a": "b"}')} ],
	[ '(another one to change to)', q{create_plan('polar_other', 'Other', 9900, 'USD', 'year', 2, plan_group => 'full')} ],
	[ '(a coupon)', sub {
		$value{coupon} = call('POST', '/v1/discounts/', { name => 'Spring', type => 'percentage', basis_points => 1000, duration => 'forever' })->{id};
	} ],
	[ '(one product for all that has none)', sub {
		my $product = call('POST', '/v1/products/', { name => 'Charges', prices => [ { amount_type => 'fixed', price_amount => 100, price_currency => 'usd' } ], recurring_interval => undef });
		sql(qq(SELECT billing.configure_provider('polar', options => '{"product_id": "$product->{id}"}')));
	} ],
	[ 'price.create checkout_session.create',
		q{page = create_checkout_session(:small, plan => 'pro', success_url => 'https://a.example/done')},
		q{sold = create_checkout_session(:big, plan => 'polar_full', quantity => 1, success_url => 'https://a.example/done?s={CHECKOUT_SESSION_ID}', cancel_url => 'https://a.example/no',
			mode => 'subscription', trial_days => 9, currency => 'USD', coupon => :coupon, allow_promotion_codes => true, collect_tax_id => true, automatic_tax => true, locale => 'de',
			metadata => '{"a": "b"}')} ],
	[ 'checkout_session.create',
		q{create_checkout_session(:small, '[{"name": "Ticket", "amount": 2500}]', 'https://a.example/done')},
		q{create_checkout_session(:big, '[{"name": "Ticket", "amount": 2500, "quantity": 2, "description": "in the stalls"}, {"name": "Fee", "amount": 100}]',
			'https://a.example/done', mode => 'payment', currency => 'USD', combine => true)} ],
	[ '(subscribe makes a checkout)', q{subscription = subscribe('polar_small', 'pro', success_url => 'https://a.example/done', cancel_url => 'https://a.example/no')} ],
	[ 'checkout_session.fetch', q{refresh_checkout_session(:page)} ],
	[ '(the buyers pay)', sub {
		$value{page} = sql("SELECT id FROM billing.checkout_sessions WHERE subscription_id = '$value{subscription}'");
		act(action => 'complete_checkout', checkout => at('checkout_session', $_)) foreach 'page', 'sold';
	} ],
	[ '(a trial)', q{trial = (SELECT subscription_id FROM billing.checkout_sessions WHERE id = :sold)} ],
	[ 'subscription.update',
		q{update_subscription(:subscription, trial_end => now() + interval '9 days')},
		q{update_subscription(:trial, 'polar_other', proration_behavior => 'always_invoice')} ],
	[ 'subscription.update', q{update_subscription(:trial, 'polar_full', effective => 'period_end')} ],
	[ 'subscription.cancel_at_period_end',
		q{cancel_subscription(:subscription)},
		q{cancel_subscription(:trial, reason => 'too_expensive', comment => 'bye')} ],
	[ 'subscription.uncancel', q{resume_subscription(:subscription)} ],
	[ '(and the other one)', q{resume_subscription(:trial)} ],
	[ 'subscription.pause',
		q{pause_subscription(:subscription, true)},
		q{pause_subscription(:trial, true, now() + interval '3 years')} ],
	[ '(its period ends)', sub { act(action => 'cycle', subscription => at('subscription', 'subscription')) } ],
	[ 'subscription.resume', q{resume_subscription(:subscription)} ],
	[ 'subscription.fetch', q{refresh(:subscription)} ],
	[ 'portal_session.create',
		q{create_portal_session(:small)},
		q{create_portal_session(:big, 'https://a.example/account', :trial, metadata => '{"a": "b"}')} ],
	[ 'price.update',
		q{UPDATE billing.plans SET name = 'Renamed' WHERE plan = 'polar_other'},
		q{UPDATE billing.plans SET name = 'Fuller', description = 'More of it', retired_at = now() WHERE plan = 'polar_full'} ],
	[ 'price.update', q{create_price('polar_other', 10900, 'USD', 'year', 2)} ],
	[ 'invoice.list', q{refresh_invoices(:small)} ],
	[ '(its invoice)', q{invoice = (SELECT id FROM billing.invoices WHERE subscription_id = :subscription AND total > 0 ORDER BY created_at LIMIT 1)} ],
	[ 'invoice.fetch', q{refresh(:invoice)} ],
	[ '(who is billed)', sub {
		$simulator->control('edit', { provider => 'polar', kind => 'orders', id => at('invoice', 'invoice'), fields => { billing_name => 'A', billing_address => { country => 'DE' } } });
	} ],
	[ 'invoice.document', q{fetch_invoice_document(:invoice)} ],
	[ 'subscription.cancel',
		q{cancel_subscription(:subscription, false)},
		q{cancel_subscription(:trial, false, reason => 'too_expensive', comment => 'bye')} ],

	# payments: a draft order that is charged
	[ 'payment_intent.create',
		q{draft = create_payment_intent(:big, 1000, 'USD')},
		q{paid = create_payment_intent(:big, 5000, 'USD', 'card', :good, true, true, 'automatic', line_items => '[{"name": "Hat", "amount": 2500, "quantity": 2}]',
			description => 'Hats', metadata => '{"a": "b"}')} ],
	[ '(another draft)', q{another = create_payment_intent(:big, 2000, 'USD', payment_method => :good, confirm => false)} ],
	[ 'payment_intent.confirm',
		q{confirm_payment_intent(:another)},
		q{confirm_payment_intent(:draft, :good, 'card', off_session => true)} ],
	[ 'payment_intent.fetch', q{refresh(:paid)} ],
	[ 'refund.create',
		q{refund = create_refund(:paid)},
		q{create_refund(:draft, 500, 'duplicate', 'paid twice', '{"a": "b"}')} ],
	[ 'refund.fetch', q{refresh(:refund)} ],
	[ '(the bank takes a payment back)', sub {
		my ($order) = @{ $simulator->control("objects/orders?provider=polar&metadata.janua_payment=$value{another}") };
		act(action => 'dispute', order => $order->{id});
	} ],
	[ 'dispute.list', q{fetch_disputes('polar')}, q{fetch_disputes('polar', 'default', now() - interval '1 day')} ],
	[ '(that dispute)', q{dispute = (SELECT id FROM billing.disputes WHERE payment_intent_id = :another)} ],
	[ 'dispute.fetch', q{refresh(:dispute)} ],
	[ 'dispute.accept', q{accept_dispute(:dispute)} ],

	# links
	[ '(a price)', q{price = (SELECT id FROM billing.prices WHERE plan_id = (SELECT id FROM billing.plans WHERE plan = 'pro') AND is_default LIMIT 1)} ],
	[ '(as a line)', q{line = (SELECT jsonb_build_array(jsonb_build_object('price', :price)))} ],
	[ 'payment_link.create',
		q{link = create_payment_link('Pro', :line, provider => 'polar')},
		q{create_payment_link('Pro', :line, 'USD', success_url => 'https://a.example/thanks', metadata => '{"a": "b"}', provider => 'polar')} ],
	[ 'payment_link.cancel', q{cancel_payment_link(:link)} ],

	# usage
	[ 'meter.create', q{forward_usage('api_calls', 'polar', since => now() - interval '1 day')} ],
	[ '(a meter that is there)', sub {
		sql("INSERT INTO billing.meters (metric) VALUES ('polar_mails')");
		$value{meter} = call('POST', '/v1/meters/', { name => 'mails', filter => { conjunction => 'and', clauses => [ { property => 'name', operator => 'eq', value => 'mails' } ] },
			aggregation => { func => 'sum', property => 'value' } })->{id};
	} ],
	[ 'meter.fetch', q{forward_usage('polar_mails', 'polar', event_name => 'mails', link => :meter)} ],
	[ '(usage)', sub { forward('usage.ingest', 'polar_big') } ],

	[ 'customer.delete', q{delete_customer(:small)} ],

	# webhook endpoints
	[ 'webhook_endpoint.create',
		q{register_webhook('polar', 'https://hooks.example.com/one')},
		q{endpoint = register_webhook('polar', 'https://hooks.example.com/two', events => '{order.paid,customer.updated}')} ],
	[ 'webhook_endpoint.update',
		q{update_webhook(:endpoint, enabled => false)},
		q{update_webhook(:endpoint, 'https://hooks.example.com/three', true, '{order.paid}')} ],
	[ 'webhook_endpoint.rotate', q{rotate_webhook_secret(:endpoint)} ],
	[ 'webhook_endpoint.list', q{refresh_webhooks('polar')} ],
	[ 'webhook_endpoint.delete', q{delete_webhook(:endpoint)} ],
);

# ---- how a table is run ----

# Puts the values into a call, and calls it.
sub run_call
{
	my ($text) = @_;
	my $name = $text =~ s/^(\w+) = // ? $1 : undef;
	my $query;

	$text =~ s/:(\w+)\b(?!:)/defined $value{$1} ? "'$value{$1}'" : ":$1"/ge;
	$query = $text =~ /^UPDATE / ? $text : $text =~ /^\(/ ? "SELECT $text" : "SELECT billing.$text";
	my $result = sql($query);
	$value{$name} = $result if defined $name;
}

# What others do comes later than what we did; providers tell the time in seconds.
sub play
{
	$simulator->control('clock', { advance => 2 });
	$_[0]->();
}

# Why the last statement failed, without how it was run.
sub reason { return $@ =~ /(ERROR:.*?)\nwhile running/s ? $1 : $@ }

# Until every request has its answer and every webhook has come in.
sub settle
{
	foreach (1 .. 3)
	{
		poll_until(sub { sql("SELECT count(*) FROM billing.outbox WHERE state <> 'dead'") eq '0' }, 'no request is left over')
		  or diag(sql("SELECT operation, state, error_type, error_code FROM billing.outbox"));
		last unless hand_over($node, $simulator);
	}
}

# How often each operation was carried out so far: {operation}.
sub finished
{
	return { map { split /\|/ } split /\n/,
		sql("SELECT operation, count(*) FROM billing.outbox_finished WHERE provider = '$provider' AND state = 'done' AND error_type IS NULL GROUP BY 1") };
}

my $finished = {};
my $violations = 0;

# What the provider refused in the step, and what was not as its document wants it.
sub complain
{
	my $found = $simulator->control('violations');

	diag(sql("SELECT operation, state, error_type, error_code FROM billing.outbox WHERE provider = '$provider' "
			. "UNION ALL (SELECT operation, state, error_type, error_code FROM billing.outbox_finished WHERE provider = '$provider' ORDER BY finished_at DESC LIMIT 3)"));
	diag(explain([ @{ $found->{violations} }[ $violations .. $found->{count} - 1 ] ])) if $found->{count} > $violations;
}

# One call, and the operations that come of it.
sub step
{
	my ($operations, $kind, $call) = @_;
	my $before = $finished;

	eval { run_call($call); 1 } or return fail("$provider: $operations, $kind: " . reason());
	settle();
	$finished = finished();
	my $valid = $simulator->control('violations')->{count} == $violations;
	foreach my $operation (split / /, $operations)
	{
		my $right = ok($valid && ($finished->{$operation} || 0) > ($before->{$operation} || 0), "$provider: $operation, $kind");
		$right ? $reached{$operation} = 1 : complain();
	}
	$violations = $simulator->control('violations')->{count};
}

sub run_table
{
	my ($name, @rows) = @_;

	$provider = $name;
	%reached = ();
	$finished = {};
	%value = (mandate => '{"type": "online", "ip_address": "203.0.113.7", "user_agent": "Mozilla/5.0", "accepted_at": "2026-01-02T03:04:05Z"}');
	foreach my $row (@rows)
	{
		my ($operation, @calls) = @$row;

		if ($operation =~ /^\(/)
		{
			eval { ref $calls[0] ? play($calls[0]) : run_call($calls[0]); 1 } or fail("$provider: $operation: " . reason());
			settle();
			$finished = finished();
			next;
		}
		step($operation, 'minimal', $calls[0]);
		step($operation, 'full', $calls[1]) if @calls > 1;
	}
	foreach my $operation (split /\n/, sql("SELECT operation FROM billing.provider_capabilities() WHERE provider = '$provider' AND support = 'supported' ORDER BY operation"))
	{
		ok($reached{$operation}, "$provider: $operation is reached");
	}
	is(sql("SELECT string_agg(DISTINCT operation, ' ') FROM billing.outbox_finished AS f WHERE provider = '$provider' AND state = 'done' "
			. "AND NOT EXISTS (SELECT FROM billing.provider_capabilities() AS c WHERE c.provider = f.provider AND c.operation = f.operation AND c.support = 'supported')"),
		'', "$provider: nothing is done that is not supported");
}

my ($key) = grep { $_->{active} } @{ $simulator->control('signing_keys?provider=conekta') };
my $url = $simulator->url;

configure_stripe($node, $simulator);
sql(<<"SQL");
SELECT billing.configure_provider('conekta', 'key_test', '$key->{public_key}', 'key_public', '$url/conekta', options => '{"sandbox": true, "rate_per_second": 0}');
SELECT billing.configure_provider('polar', 'polar_oat_test', 'polar_whs_SimulatorTestSecret0123456789abcdef', base_url => '$url/polar',
	options => '{"sandbox": true, "rate_per_second": 0}');
SQL
run_table('stripe', @STRIPE);
run_table('conekta', @CONEKTA);
run_table('polar', @POLAR);

is(sql("SELECT string_agg(provider || ' ' || type || ' ' || reason, ', ') FROM billing.webhook_events WHERE state IN ('failed', 'received')"), '', 'every webhook is read');
is(sql("SELECT count(*) FROM billing.outbox"), '0', 'no request is left over') or diag(sql("SELECT provider, operation, state, error_type, error_code FROM billing.outbox"));
note('without the OpenAPI documents nothing is validated') unless @{ $simulator->control('health')->{validating} || [] };
my $found = $simulator->control('violations');
is($found->{count}, 0, 'every request is as the document wants it') or diag(explain($found));

done_testing();

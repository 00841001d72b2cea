# Every type of Stripe's events, delivered with a good signature: what it does to
# our rows, or the reason why it does nothing.
#
# The list of types is kept here; it is compared with the table in
# providers/stripe_events.c and, where ../shared/providers.md is at hand, with the
# facts that both were written from. A case whose query answers before the event
# what it has to answer after it cannot fail, and so fails.
use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_hex);
use File::Basename qw(dirname);
use JSON::PP ();
use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = dirname(__FILE__) . '/../..';
my $node = new_node('main');
my $json = JSON::PP->new->canonical;
my $number = 0;
my $time = 1900000000;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# ---- events ----

# Delivers an event about an object; returns its id and what became of it. Each
# is a second after the one before, or at the time that is named.
sub deliver
{
	my ($type, $object, $at) = @_;
	my $id = 'evt_' . ++$number;
	my $body = $json->encode({ id => $id, object => 'event', type => $type, created => $at || ++$time, livemode => JSON::PP::false,
		data => { object => $object } });
	my $now = time;
	my $signature = "t=$now,v1=" . hmac_sha256_hex("$now.$body", 'whsec_events');
	my (undef, $output, $errors) = webhook($node, 'stripe', $body, { 'Stripe-Signature' => $signature });

	die "$type: $errors" if $errors;
	return ($id, (split /\|/, $output)[2]);
}

sub reason { return sql("SELECT coalesce(reason, '') FROM billing.webhook_events WHERE event_id = '$_[0]'") }

# What stands in the row that has this id at Stripe.
sub row
{
	my ($type, $id, $columns) = @_;

	return "SELECT $columns FROM billing.${type}s AS t JOIN billing.provider_refs AS r ON r.object_id = t.id AND r.object_type = '$type' "
	  . "WHERE r.provider_id = '$id'";
}

sub ref_of { return "SELECT count(*) FROM billing.provider_refs WHERE object_type = '$_[0]' AND provider_id = '$_[1]'" }

# How often something was said of it in billing.events, and in which state.
sub said
{
	my ($type, $object, $id) = @_;

	return "SELECT count(*), max(e.before_state), max(e.after_state) FROM billing.events AS e JOIN billing.provider_refs AS r ON r.object_id = e.id "
	  . "AND r.object_type = '$object' WHERE e.type = '$type' AND r.provider_id = '$id'";
}

# ---- objects, as Stripe has them ----

my $made = 0;

# A customer of ours with its id at Stripe: (our id, Stripe's id).
sub customer
{
	my $name = 'org_' . ++$made;
	my $id = sql("SELECT billing.create_customer('$name', '$name\@example.com', provider => 'stripe')");

	sql(<<"SQL");
INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
VALUES ('customer', '$id', 'stripe', 'default', 'cus_$made', false, '2020-01-01');
DELETE FROM billing.outbox WHERE object_id = '$id';
SQL
	return ($id, "cus_$made");
}

sub metadata { return { metadata => { janua_ref => $_[0] } } }

sub method { return { object => 'payment_method', id => $_[0], customer => $_[1], type => 'card', card => { brand => 'visa', last4 => '4242', exp_month => 1, exp_year => 2031, %{ $_[2] || {} } } } }

sub setup { return { object => 'setup_intent', id => $_[0], customer => $_[1], status => $_[2], %{ $_[3] || {} } } }

sub intent
{
	my ($id, $customer, $status, $more) = @_;

	return { object => 'payment_intent', id => $id, customer => $customer, status => $status, amount => 5000, currency => 'usd',
		amount_received => $status eq 'succeeded' ? 5000 : 0, %{ $more || {} } };
}

sub charge
{
	my ($id, $intent, $more) = @_;

	return { object => 'charge', id => $id, payment_intent => $intent, amount => 5000, amount_captured => 5000, amount_refunded => 0, captured => JSON::PP::true,
		currency => 'usd', created => $time, status => 'succeeded', payment_method_details => { type => 'card' },
		receipt_url => "https://pay.stripe.com/receipts/$id", %{ $more || {} } };
}

# Made at a time, or now.
sub refund { return { object => 'refund', id => $_[0], payment_intent => $_[1], amount => 1000, currency => 'usd', status => $_[2], created => $_[3] || $time } }

sub dispute { return { object => 'dispute', id => $_[0], charge => "ch_of_$_[1]", payment_intent => $_[1], amount => 5000, currency => 'usd', status => $_[2] } }

sub subscription
{
	my ($id, $customer, $status, $more) = @_;

	return { object => 'subscription', id => $id, customer => $customer, status => $status, currency => 'usd',
		items => { data => [ { id => "si_$id", price => 'price_pro', quantity => 2, current_period_start => 1900000000, current_period_end => 1902592000 } ] },
		%{ $more || {} } };
}

sub invoice
{
	my ($id, $customer, $status, $more) = @_;

	return { object => 'invoice', id => $id, customer => $customer, status => $status, currency => 'usd', total => 5000, amount_due => 5000,
		amount_paid => $status eq 'paid' ? 5000 : 0, amount_remaining => $status eq 'paid' ? 0 : 5000, created => $time, %{ $more || {} } };
}

# ---- what each type does ----

# case(TYPE, [THERE => event before it...], OBJECT, QUERY, EXPECTED): the event is
# applied, and the query then answers EXPECTED, which it did not before.
my %told;

sub moves
{
	my ($type, $object, $query, $expected, @before) = @_;

	while (my ($before, $shown) = splice(@before, 0, 2))
	{
		my ($id, $status) = deliver($before, $shown);

		die "$before before $type is $status: " . reason($id) if $status ne 'applied';
	}
	isnt(sql($query), $expected, "before $type");
	my ($id, $status) = deliver($type, $object);
	is("$status: " . sql($query), "applied: $expected", $type) or diag(reason($id));
	$told{$type}++;
}

# The event is stored, and says why nothing is done.
sub rests
{
	my ($type, $object, $reason) = @_;
	my ($id, $status) = deliver($type, $object);

	is("$status: " . reason($id), "ignored: $reason", $type);
	$told{$type}++;
}

sql(<<'SQL');
SELECT billing.configure_provider('stripe', secret_key => 'sk_test_events', webhook_secret => 'whsec_events', base_url => 'http://127.0.0.1:9');
UPDATE billing.settings SET value = '1 hour' WHERE name IN ('retry_base', 'retry_cap');
SELECT billing.create_plan('team', 'Team', 900, 'USD');
SELECT billing.link_price('00000000-0000-7000-8001-000000000002', 'stripe', 'price_pro');
SQL
my ($our, $cus) = customer();

# customers and payment methods
my ($fresh) = customer();
sql("DELETE FROM billing.provider_refs WHERE object_id = '$fresh'");
moves('customer.created', { object => 'customer', id => 'cus_fresh', %{ metadata($fresh) } }, ref_of('customer', 'cus_fresh'), '1');
rests('customer.created', { object => 'customer', id => 'cus_stranger' }, 'made by others');
moves('customer.updated', { object => 'customer', id => $cus, email => 'new@example.com' }, "SELECT email FROM billing.customer_details WHERE id = '$our'", 'new@example.com');
my ($gone, $cus_gone) = customer();
moves('customer.deleted', { object => 'customer', id => $cus_gone }, "SELECT deleted_at IS NOT NULL FROM billing.customers WHERE id = '$gone'", 't');

moves('payment_method.attached', method('pm_1', $cus), row('payment_method', 'pm_1', 'state, last4, exp_year'), 'attached|4242|2031');
moves('payment_method.updated', method('pm_1', $cus, { exp_year => 2035 }), row('payment_method', 'pm_1', 'exp_year'), '2035');
moves('payment_method.automatically_updated', method('pm_1', $cus, { last4 => '1881' }), row('payment_method', 'pm_1', 'last4'), '1881');
moves('payment_method.detached', { %{ method('pm_1', $cus) }, customer => undef }, row('payment_method', 'pm_1', 'state'), 'detached');
moves('mandate.updated', { object => 'mandate', id => 'mandate_1', payment_method => 'pm_2', status => 'inactive' },
	row('payment_method', 'pm_2', 'state, error_code, is_default'), 'failed|mandate_inactive|f', 'payment_method.attached', method('pm_2', $cus));
rests('mandate.updated', { object => 'mandate', id => 'mandate_2', status => 'inactive' }, 'no object that could be read');

# setup intents
moves('setup_intent.created', setup('seti_1', $cus, 'requires_payment_method'), row('setup_intent', 'seti_1', 'status'), 'pending');
moves('setup_intent.requires_action', setup('seti_1', $cus, 'requires_action'), row('setup_intent', 'seti_1', 'status'), 'requires_action');
moves('setup_intent.setup_failed', setup('seti_1', $cus, 'requires_payment_method', { last_setup_error => { code => 'card_declined' } }),
	row('setup_intent', 'seti_1', 'status, error_code'), 'failed|card_declined');
moves('setup_intent.succeeded', setup('seti_1', $cus, 'succeeded', { payment_method => 'pm_2' }),
	row('setup_intent', 'seti_1', 'status, payment_method_id IS NOT NULL'), 'succeeded|t');
moves('setup_intent.canceled', setup('seti_2', $cus, 'canceled'), row('setup_intent', 'seti_2', 'status'), 'canceled');

# payment intents
moves('payment_intent.created', intent('pi_1', $cus, 'requires_payment_method'), row('payment_intent', 'pi_1', 'status, amount'), 'pending|5000');
moves('payment_intent.requires_action', intent('pi_1', $cus, 'requires_action'), row('payment_intent', 'pi_1', 'status'), 'requires_action');
moves('payment_intent.processing', intent('pi_1', $cus, 'processing'), row('payment_intent', 'pi_1', 'status'), 'processing');
moves('payment_intent.amount_capturable_updated', intent('pi_1', $cus, 'requires_capture', { amount_capturable => 5000 }),
	row('payment_intent', 'pi_1', 'status, amount_capturable'), 'requires_capture|5000');
moves('payment_intent.partially_funded', intent('pi_2', $cus, 'requires_action'), row('payment_intent', 'pi_2', 'status'), 'requires_action');
moves('payment_intent.payment_failed', intent('pi_2', $cus, 'requires_payment_method', { last_payment_error => { code => 'card_declined', decline_code => 'lost_card' } }),
	row('payment_intent', 'pi_2', 'status, error_code, decline_code'), 'failed|card_declined|lost_card');
moves('payment_intent.succeeded', intent('pi_1', $cus, 'succeeded', { latest_charge => 'ch_of_pi_1' }),
	row('payment_intent', 'pi_1', 'status, amount_received'), 'succeeded|5000');
moves('payment_intent.canceled', intent('pi_2', $cus, 'canceled', { cancellation_reason => 'abandoned' }),
	row('payment_intent', 'pi_2', 'status, cancellation_reason'), 'canceled|abandoned');

# charges: details, never a state
my $details = q{t.status, t.charges, t.method, billing.decrypt(t.receipt_url, 'payment_intents.receipt_url', t.id)};
moves('charge.succeeded', charge('ch_s', 'pi_3'), row('payment_intent', 'pi_3', $details), 'pending|{ch_s}|card|https://pay.stripe.com/receipts/ch_s',
	'payment_intent.created', intent('pi_3', $cus, 'requires_payment_method'));
moves('charge.failed', charge('ch_f', 'pi_4', { receipt_url => undef, failure_code => 'card_declined', outcome => { type => 'issuer_declined', reason => 'insufficient_funds' } }),
	row('payment_intent', 'pi_4', 'status, charges, error_code, decline_code'), 'failed|{ch_f}|card_declined|insufficient_funds',
	'payment_intent.payment_failed', intent('pi_4', $cus, 'requires_payment_method', { last_payment_error => { type => 'card_error' } }));
foreach my $type (qw(captured pending expired updated))
{
	moves("charge.$type", charge("ch_$type", "pi_$type"), row('payment_intent', "pi_$type", $details), "processing|{ch_$type}|card|https://pay.stripe.com/receipts/ch_$type",
		'payment_intent.processing', intent("pi_$type", $cus, 'processing'));
}
rests('charge.updated', { object => 'charge', id => 'ch_old' }, 'a charge of no payment intent');

# money that goes back
my $paid_back = 'status, amount_refunded, refunded_elsewhere';
moves('charge.refunded', charge('ch_of_pi_1', 'pi_1', { amount_refunded => 1000 }), row('payment_intent', 'pi_1', $paid_back), 'partially_refunded|1000|1000');
my $summed = $time;
moves('refund.created', refund('re_1', 'pi_1', 'pending', $summed), row('refund', 're_1', 'status, amount'), 'pending|1000');
moves('refund.updated', refund('re_1', 'pi_1', 'succeeded', $summed), row('refund', 're_1', 'status'), 'succeeded');
moves('refund.failed', { %{ refund('re_1', 'pi_1', 'failed', $summed) }, failure_reason => 'lost_or_stolen_card' }, row('refund', 're_1', 'status, error_code'), 'failed|lost_or_stolen_card');
moves('charge.refund.updated', refund('re_2', 'pi_1', 'succeeded'), row('payment_intent', 'pi_1', $paid_back), 'partially_refunded|1000|0');

moves('charge.dispute.created', dispute('du_1', 'pi_1', 'needs_response'), row('dispute', 'du_1', 'status, funds_withdrawn_at IS NULL'), 'needs_response|t');
moves('charge.dispute.funds_withdrawn', dispute('du_1', 'pi_1', 'needs_response'), row('dispute', 'du_1', 'funds_withdrawn_at IS NULL'), 'f');
moves('charge.dispute.updated', dispute('du_1', 'pi_1', 'under_review'), row('dispute', 'du_1', 'status'), 'under_review');
moves('charge.dispute.closed', dispute('du_1', 'pi_1', 'won'), row('dispute', 'du_1', 'status'), 'won');
moves('charge.dispute.funds_reinstated', dispute('du_1', 'pi_1', 'won'), row('dispute', 'du_1', 'funds_reinstated_at IS NULL'), 'f');
moves('charge.dispute.closed', dispute('du_2', 'pi_1', 'lost'), row('dispute', 'du_2', 'status'), 'lost');
moves('charge.dispute.closed', dispute('du_3', 'pi_1', 'warning_closed'), row('dispute', 'du_3', 'status'), 'warning_closed');

# pages: of each kind of end one
sub page { return sql(qq{SELECT billing.create_checkout_session('$our', '[{"name": "Hat", "amount": 700, "currency": "USD", "quantity": 1}]', 'https://example.com/ok')}) }

sub session { return { object => 'checkout.session', id => "cs_$_[0]", status => $_[1], payment_status => $_[2], %{ metadata($_[0]) } } }

my @pages = map { page() } 1 .. 4;
my @page_rows = map { "SELECT status, payment_status FROM billing.checkout_sessions WHERE id = '$_'" } @pages;
moves('checkout.session.completed', session($pages[0], 'complete', 'paid'), $page_rows[0], 'complete|paid');
moves('checkout.session.completed', session($pages[1], 'complete', 'unpaid'), $page_rows[1], 'complete|unpaid');
moves('checkout.session.async_payment_succeeded', session($pages[1], 'complete', 'paid'), $page_rows[1], 'complete|paid');
moves('checkout.session.async_payment_failed', session($pages[2], 'complete', 'unpaid'), $page_rows[2], 'failed|unpaid',
	'checkout.session.completed', session($pages[2], 'complete', 'unpaid'));
moves('checkout.session.expired', session($pages[3], 'expired', 'unpaid'), $page_rows[3], 'expired|unpaid');
my $link = sql(q{SELECT billing.create_payment_link('Hats', '[{"name": "Hat", "amount": 700, "currency": "USD", "quantity": 1}]', provider => 'stripe')});
my %link = (object => 'payment_link', id => 'plink_1', url => 'https://buy.stripe.com/x', %{ metadata($link) });
moves('payment_link.created', { %link, active => JSON::PP::true }, "SELECT status FROM billing.checkout_sessions WHERE id = '$link'", 'open');
moves('payment_link.updated', { %link, active => JSON::PP::false }, "SELECT status FROM billing.checkout_sessions WHERE id = '$link'", 'canceled');

# subscriptions
my $subscribed = row('subscription', 'sub_1', 'status');
moves('customer.subscription.created', subscription('sub_1', $cus, 'trialing'), row('subscription', 'sub_1', 'status, quantity, current_period_end'),
	'trialing|2|' . sql('SELECT to_timestamp(1902592000)'));
moves('customer.subscription.trial_will_end', subscription('sub_1', $cus, 'trialing'), said('subscription.trial_will_end', 'subscription', 'sub_1'), '1|trialing|trialing');
moves('customer.subscription.updated', subscription('sub_1', $cus, 'active', { cancel_at_period_end => JSON::PP::true }),
	row('subscription', 'sub_1', 'status, cancel_at_period_end'), 'active|t');
moves('customer.subscription.paused', subscription('sub_1', $cus, 'paused'), $subscribed, 'paused');
moves('customer.subscription.resumed', subscription('sub_1', $cus, 'active'), $subscribed, 'active');
my $team = sql("SELECT p.id FROM billing.prices AS p JOIN billing.plans AS l ON l.id = p.plan_id WHERE l.plan = 'team'");
sql("SELECT billing.link_price('$team', 'stripe', 'price_team')");
my %pending = (pending_update => { subscription_items => [ { id => 'si_sub_1', price => 'price_team' } ] });
moves('customer.subscription.updated', subscription('sub_1', $cus, 'active', \%pending), row('subscription', 'sub_1', 'pending_price_id'), $team);
my $teamed = subscription('sub_1', $cus, 'active');
$teamed->{items}{data}[0]{price} = 'price_team';
moves('customer.subscription.pending_update_applied', $teamed, row('subscription', 'sub_1', 'price_id, pending_price_id IS NULL'), "$team|t");
moves('customer.subscription.pending_update_expired', $teamed, row('subscription', 'sub_1', 'price_id, pending_price_id IS NULL'), "$team|t",
	'customer.subscription.updated', { %$teamed, %pending });
moves('customer.subscription.deleted', subscription('sub_1', $cus, 'canceled', { ended_at => $time }), row('subscription', 'sub_1', 'status, ended_at IS NOT NULL'), 'canceled|t');

# invoices
my ($other, $cus_other) = customer();
deliver('customer.subscription.created', subscription('sub_2', $cus_other, 'active'));
my %for = (parent => { subscription_details => { subscription => 'sub_2' } });
my $invoiced = row('invoice', 'in_1', 'status');
moves('invoice.created', invoice('in_1', $cus_other, 'draft', \%for), row('invoice', 'in_1', 'status, total, subscription_id IS NOT NULL'), 'draft|5000|t');
moves('invoice.updated', invoice('in_1', $cus_other, 'draft', { %for, total => 5500 }), row('invoice', 'in_1', 'total'), '5500');
moves('invoice.finalization_failed', invoice('in_1', $cus_other, 'draft', { %for, last_finalization_error => { code => 'customer_tax_location_invalid' } }),
	row('invoice', 'in_1', 'status, error_code'), 'draft|customer_tax_location_invalid');
is(sql(said('invoice.finalization_failed', 'invoice', 'in_1')), '1|draft|draft', 'and it is said');
moves('invoice.finalized', invoice('in_1', $cus_other, 'open', { %for, number => 'A-1' }), row('invoice', 'in_1', 'status, provider_number, error_code'), 'open|A-1|');
moves('invoice.sent', invoice('in_1', $cus_other, 'open', { %for, hosted_invoice_url => 'https://invoice.stripe.com/i/1' }),
	row('invoice', 'in_1', '(billing.invoice_links(t.id)).hosted_url'), 'https://invoice.stripe.com/i/1');
moves('invoice.payment_failed', invoice('in_1', $cus_other, 'open', { %for, attempt_count => 1 }), row('invoice', 'in_1', 'status, attempt_count'), 'open|1');
foreach my $what (qw(payment_action_required will_be_due overdue))
{
	moves("invoice.$what", invoice('in_1', $cus_other, 'open', { %for, attempt_count => 1 }), said("invoice.$what", 'invoice', 'in_1'), '1|open|open');
}
moves('invoice.upcoming', { object => 'invoice', customer => $cus_other, %for }, said('subscription.invoice_upcoming', 'subscription', 'sub_2'), '1|active|active');
moves('invoice.upcoming', { object => 'invoice', id => 'upcoming_in_1', customer => $cus_other }, said('customer.invoice_upcoming', 'customer', $cus_other), '1||');
moves('invoice.payment_attempt_required', invoice('in_1', $cus_other, 'open', { %for, attempt_count => 2 }), row('invoice', 'in_1', 'attempt_count'), '2');
moves('invoice_payment.paid', { object => 'invoice_payment', id => 'inpay_1', invoice => 'in_1', status => 'paid', payment => { type => 'payment_intent', payment_intent => 'pi_5' } },
	row('payment_intent', 'pi_5', '(SELECT i.provider_number FROM billing.invoices AS i WHERE i.id = t.invoice_id), t.subscription_id IS NOT NULL'), 'A-1|t',
	'payment_intent.created', intent('pi_5', $cus_other, 'requires_payment_method'));
rests('invoice_payment.paid', { object => 'invoice_payment', id => 'inpay_2', invoice => 'in_1', payment => { type => 'payment_record' } }, 'paid by no payment intent');
moves('invoice.paid', invoice('in_1', $cus_other, 'paid', { %for, attempt_count => 2 }), row('invoice', 'in_1', 'status, amount_paid'), 'paid|5000');
moves('invoice.overpaid', invoice('in_1', $cus_other, 'paid', { %for, attempt_count => 2, amount_paid => 6000 }), row('invoice', 'in_1', 'amount_paid'), '6000');
moves('invoice.payment_succeeded', invoice('in_2', $cus_other, 'paid'), row('invoice', 'in_2', 'status'), 'paid');
moves('invoice.voided', invoice('in_3', $cus_other, 'void'), row('invoice', 'in_3', 'status'), 'void', 'invoice.created', invoice('in_3', $cus_other, 'draft'));
moves('invoice.marked_uncollectible', invoice('in_4', $cus_other, 'uncollectible'), row('invoice', 'in_4', 'status'), 'uncollectible');
moves('invoice.deleted', invoice('in_5', $cus_other, 'draft'), row('invoice', 'in_5', 'status'), 'void', 'invoice.created', invoice('in_5', $cus_other, 'draft'));

moves('radar.early_fraud_warning.created', { object => 'radar.early_fraud_warning', id => 'issfr_1', payment_intent => 'pi_1', charge => 'ch_of_pi_1' },
	said('payment_intent.early_fraud_warning', 'payment_intent', 'pi_1'), '1|partially_refunded|partially_refunded');
moves('radar.early_fraud_warning.created', { object => 'radar.early_fraud_warning', id => 'issfr_2', charge => 'ch_s' },
	said('payment_intent.early_fraud_warning', 'payment_intent', 'pi_3'), '1|pending|pending');

# the catalogue: only that it is there, the terms are ours
sub as_of { return "SELECT extract(epoch FROM as_of)::bigint FROM billing.provider_refs WHERE provider_id = '$_[0]'" }

foreach my $what ([ 'price', sql(q{SELECT billing.create_price('team', 1900, 'USD')}) ], [ 'product', sql(q{SELECT billing.create_plan('lab', 'Lab', 100, 'USD')}) ])
{
	my ($word, $id) = @$what;

	moves("$word.created", { object => $word, id => "${word}_1", %{ metadata($id) } }, ref_of($word, "${word}_1"), '1');
	rests("$word.created", { object => $word, id => "${word}_stranger" }, 'made by others');
	moves("$word.updated", { object => $word, id => "${word}_1" }, as_of("${word}_1"), $time + 1);
	moves("$word.deleted", { object => $word, id => "${word}_1" }, as_of("${word}_1"), $time + 1);
}

my %reasons = (
	q{coupons and codes are the provider's own} => [ qw(coupon.created coupon.updated coupon.deleted promotion_code.created promotion_code.updated
		customer.discount.created customer.discount.updated customer.discount.deleted) ],
	q{tax rates are the provider's own} => [qw(tax_rate.created tax_rate.updated)],
	q{an invoice tells what is left of it itself} => [qw(credit_note.created credit_note.updated credit_note.voided)],
	q{an invoice tells its amounts itself} => [qw(invoiceitem.created invoiceitem.deleted)],
	q{tax ids are kept as they were given to us} => [qw(customer.tax_id.created customer.tax_id.updated customer.tax_id.deleted)],
	q{meters are the provider's own} => [qw(billing.meter.created billing.meter.updated billing.meter.deactivated billing.meter.reactivated)],
	q{a subscription tells itself what its schedule made of it} => [ map { "subscription_schedule.$_" } qw(created updated released canceled completed aborted expiring) ],
	q{a plan is told as a price, too} => [qw(plan.created plan.updated plan.deleted)],
	q{a warning is told when it is made} => ['radar.early_fraud_warning.updated'],
	q{our own call is answered by it} => ['billing_portal.session.created'],
);
foreach my $reason (sort keys %reasons)
{
	rests($_, { object => 'other', id => 'x_1' }, $reason) foreach @{ $reasons{$reason} };
}

# ---- families, and what nobody knows ----

my $source = slurp_file("$root/providers/stripe_events.c");
my ($table) = $source =~ /event_rules\[\] = \{\n(.*?)\n\};/s or die 'stripe_events.c has no table';
my @rules = $table =~ /^\t\{"([^"]+)"/mg;
my @families = map { s/\*$//r } grep { /\*$/ } @rules;

rests("${_}something.new", { object => 'other' }, 'about nothing that is kept here') foreach map { $_ eq 'issuing_' ? 'issuing_card.' : $_ } @families;
{
	my ($id, $status) = deliver('subscription.of_tomorrow', { object => 'other' });
	is("$status: " . reason($id), 'ignored: a type of event that is not known here', 'a type that nobody knows is stored and says so');
}

# ---- the table, the test and the facts name the same types ----

my %rule = map { $_ => 1 } @rules;
my %family_told = map { $_ => 1 } grep { my $type = $_; grep { index($type, $_) == 0 } @families } grep { !$rule{$_} } keys %told;
is(join(' ', grep { !$told{$_} } grep { !/\*$/ } @rules), '', 'every row of the table was told');
is(join(' ', sort grep { !$rule{$_} && !$family_told{$_} } keys %told), '', 'every type that was told has a row');
is(scalar @rules, scalar(keys %rule), 'no row stands twice');

my @facts = qw(
	customer.created customer.updated customer.deleted
	payment_method.attached payment_method.updated payment_method.automatically_updated payment_method.detached mandate.updated
	setup_intent.succeeded setup_intent.setup_failed setup_intent.canceled setup_intent.requires_action
	payment_intent.created payment_intent.requires_action payment_intent.processing payment_intent.amount_capturable_updated payment_intent.partially_funded
	payment_intent.succeeded payment_intent.payment_failed payment_intent.canceled
	charge.succeeded charge.failed charge.captured charge.pending charge.expired charge.updated
	charge.refunded
	refund.created refund.updated refund.failed charge.refund.updated
	charge.dispute.created charge.dispute.updated charge.dispute.funds_withdrawn charge.dispute.funds_reinstated charge.dispute.closed
	checkout.session.completed
	checkout.session.async_payment_succeeded checkout.session.async_payment_failed checkout.session.expired
	customer.subscription.created customer.subscription.updated customer.subscription.paused customer.subscription.resumed customer.subscription.deleted
	customer.subscription.trial_will_end customer.subscription.pending_update_applied customer.subscription.pending_update_expired
	invoice.created invoice.updated invoice.finalized invoice.sent invoice.overdue invoice.will_be_due invoice.upcoming
	invoice.paid invoice.payment_succeeded invoice.payment_failed invoice.payment_action_required invoice.finalization_failed
	invoice.voided invoice.marked_uncollectible invoice.deleted invoice_payment.paid
	price.* product.* coupon.* promotion_code.* tax_rate.* credit_note.* customer.tax_id.* billing.meter.* subscription_schedule.*
);

# The types that rows of the facts name, wildcards as their families.
sub expand { return map { my ($type, $family) = ($_, s/\*$//r); $type =~ /\*$/ ? grep { index($_, $family) == 0 && !/\*$/ } @rules : $type } @_ }

my @expanded = expand(@facts);
is(join("\n", @rules[ 0 .. $#expanded ]), join("\n", @expanded), 'the table follows the facts line by line');

# "customer.created / updated / deleted", "price.*, product.*", "invoice.paid (and payment_succeeded) / ...": a word without a dot
# is of the family of the one before it.
sub types_in
{
	my ($cell) = @_;
	my ($family, @types) = ('');

	$cell =~ s/upcoming\(no id\)/upcoming/;
	foreach my $word (grep { /[a-z]/ && $_ ne 'and' } split m{[\s,/;()]+}, $cell)
	{
		my $type = $word =~ /\./ ? $word : "$family.$word";

		push @types, $type;
		($family) = $type =~ /^(.*)\.[^.]*$/;
	}
	return @types;
}

SKIP:
{
	my $path = "$root/../shared/providers.md";

	skip 'no ../shared/providers.md', 1 unless -e $path;
	my ($section) = slurp_file($path) =~ /\nStripe:\n\| event \| effect \|\n\|---\|---\|\n(.*?)\n[^|]/s or die "$path has no table of Stripe's events";
	my @types;

	foreach my $line (split /\n/, $section)
	{
		my (undef, $event, $effect) = split /\s*\|\s*/, $line;

		# one type stands in a cell of the other column: "mandate.updated status inactive -> method unusable"
		push @types, types_in($event), $effect =~ /\b([a-z_]+\.[a-z_.]+)\b/g;
	}
	is(join("\n", @types), join("\n", @facts), 'the facts name the types that are tested');
}

is(sql("SELECT count(*) FROM billing.webhook_events WHERE state IN ('failed', 'waiting')"), '0', 'no event was left over');

done_testing();

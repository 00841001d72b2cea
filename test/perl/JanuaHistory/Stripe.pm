# What happens at Stripe: see JanuaHistory.
package JanuaHistory::Stripe;

use strict;
use warnings;

use parent 'JanuaHistory';

use Digest::SHA ();

my ($true, $false) = ($JanuaHistory::true, $JanuaHistory::false);
my @PRICES = map { "price_any_$_" } 1 .. 3;

sub prices { return @PRICES }
sub currency { return 'USD' }
sub secret { return "whsec_any_order_$_[1]" }

sub new_event_id { return $_[0]->new_id('evt_') }

sub event_body
{
	my ($self, $type, $object, %more) = @_;

	return {
		object => 'event', type => $type, created => $self->now, livemode => $false, api_version => '2026-10-28.endive', pending_webhooks => 1,
		data => { object => $object, ($more{previous} ? (previous_attributes => $more{previous}) : ()) },
	};
}

sub headers
{
	my ($self, $event, $body, $secret) = @_;
	my $time = time();

	return { 'Stripe-Signature' => "t=$time,v1=" . Digest::SHA::hmac_sha256_hex("$time.$body", $secret) };
}

# What we made ourselves, by name; the rest was made at Stripe.
sub setup_statements
{
	my ($self, $account) = @_;
	my @statements = map {
		[ "customer$_", "billing.create_customer('$account-$_', 'c$_\@$account.example', name => 'C', provider => 'stripe', account => '$account')" ]
	} 1 .. $self->{customers};

	push @statements, [ 'subscription1', "billing.subscribe('$account-1', 'any_usd_1')" ];
	push @statements, [ 'payment1', "billing.create_payment_intent((\@customer1\@), 5000, 'USD')" ];
	push @statements,
	  [
		'checkout1',
		"billing.create_checkout_session((\@customer2\@), '[{\"name\": \"Hat\", \"amount\": 700, \"currency\": \"USD\"}]', 'https://example.com/ok')"
	  ];
	push @statements, [ 'checkout1_payment', "(SELECT payment_intent_id FROM billing.checkout_sessions WHERE id = (\@checkout1\@))" ];
	return @statements;
}

sub populate
{
	my ($self) = @_;

	$self->{customers} = 5;
	$self->{customer_ids} = [ map { $self->new_id('cus_') } 1 .. 5 ];
	$self->{methods} = [ map { { id => $self->new_id('pm_'), customer => $self->{customer_ids}[ $_ % 5 ] } } 1 .. 2 ];
	$self->customer($_) foreach 1 .. 5;
	$self->subscription($_) foreach 1 .. 4;
	$self->invoice($_) foreach 1 .. 3;
	$self->payment($_) foreach 1 .. 3;
	$self->refund($_) foreach 1 .. 3;
	$self->dispute foreach 1 .. 2;
	$self->checkout;
	$self->method($_) foreach @{ $self->{methods} };
	$self->setup_intent;
}

# Changes members of an object and tells of it, with what they were before.
sub change
{
	my ($self, $type, $object, %members) = @_;
	my %previous = map { $_ => $object->{$_} } grep { exists $object->{$_} } keys %members;

	@$object{ keys %members } = values %members;
	return $self->tell($type, $object, previous => \%previous);
}

sub customer_id { return $_[0]{customer_ids}[ $_[1] - 1 ] }

sub customer
{
	my ($self, $number) = @_;
	my $c = {
		id => $self->customer_id($number), object => 'customer', created => $self->now, livemode => $false, metadata => { janua_ref => "REF:customer$number" },
		email => "c$number\@example.com", name => 'C', phone => undef, currency => undef, delinquent => $false, invoice_settings => { default_payment_method => undef },
	};
	my $born;

	$self->add_object(sub {
		return sub { $born = 1; $self->tell('customer.created', $c) }
		  unless $born;
		# seldom: there is more to life
		return () if $self->chance(0.9);
		return (
			sub { $self->change('customer.updated', $c, name => $self->pick('Ada', 'Grace', 'Barbara')) },
			sub { $self->change('customer.updated', $c, email => $self->pick('a', 'b', 'c') . "$number\@example.com") },
			sub { $self->change('customer.updated', $c, phone => $self->pick('+15550001', '+15550002', undef)) },
			map {
				my $method = $_;
				sub { $self->change('customer.updated', $c, invoice_settings => { default_payment_method => $method->{id} }) }
			} grep { $_->{attached} && $_->{customer} eq $c->{id} } @{ $self->{methods} },
		);
	});
}

sub method
{
	my ($self, $known) = @_;
	my $m = {
		id => $known->{id}, object => 'payment_method', type => 'card', created => $self->now, livemode => $false, metadata => {}, customer => $known->{customer},
		card => { brand => 'visa', last4 => '4242', exp_month => 1, exp_year => 2030, wallet => undef },
	};
	my $state = '';
	my $renew = sub {
		my ($type) = @_;
		my %before = %{ $m->{card} };

		$m->{card} = { %before, exp_month => $self->between(1, 12), exp_year => $self->between(2031, 2040) };
		$self->tell($type, $m, previous => { card => \%before });
	};

	$self->add_object(sub {
		return sub { $state = 'attached'; $known->{attached} = 1; $self->tell('payment_method.attached', $m) }
		  if $state eq '';
		return () if $state eq 'detached';
		return (
			sub { $renew->('payment_method.updated') },
			sub { $renew->('payment_method.automatically_updated') },
			sub { $state = 'detached'; $known->{attached} = 0; $self->change('payment_method.detached', $m, customer => undef) });
	});
}

# A live one of each customer; the first one is the one that we made.
sub subscription
{
	my ($self, $number) = @_;
	my $start = $self->now;
	my $s = {
		id => $self->new_id('sub_'), object => 'subscription', created => $start, livemode => $false, customer => $self->customer_id($number), currency => 'usd',
		metadata => $number == 1 ? { janua_ref => 'REF:subscription1' } : {}, cancel_at_period_end => $false, cancel_at => undef, canceled_at => undef, ended_at => undef,
		trial_start => undef, trial_end => undef, pause_collection => undef, default_payment_method => undef, latest_invoice => $self->new_id('in_'),
		items => { object => 'list', data => [ { id => $self->new_id('si_'), object => 'subscription_item', quantity => 1, price => { id => $PRICES[0], object => 'price' },
			current_period_start => $start, current_period_end => $start + 30 * 86400 } ] },
	};
	# a new item, as the old one is what the event says that it was
	my $items = sub {
		my (%members) = @_;

		return (items => { object => 'list', data => [ { %{ $s->{items}{data}[0] }, %members } ] });
	};
	my $renew = sub {
		my $end = $s->{items}{data}[0]{current_period_end};

		return $items->(current_period_start => $end, current_period_end => $end + 30 * 86400);
	};
	my $updated = sub { $self->change('customer.subscription.updated', $s, @_) };
	my $end = sub {
		my ($status, $type) = @_;

		$self->change($type, $s, status => $status, ended_at => $self->now, canceled_at => $self->now);
	};
	my $create = sub {
		$s->{created} = $self->now;
		$s->{status} = $self->pick('incomplete', 'trialing', 'active');
		@$s{qw(trial_start trial_end)} = ($self->now, $self->now + 7 * 86400) if $s->{status} eq 'trialing';
		$self->tell('customer.subscription.created', $s);
	};
	my %steps = (
		incomplete => sub { (
			sub { $updated->(status => 'active') },
			sub { $updated->(status => 'active') },
			sub { $end->('incomplete_expired', 'customer.subscription.updated') }) },
		trialing => sub { (
			sub { $updated->(status => 'active', $renew->()) },
			sub { $updated->(status => 'past_due', $renew->()) },
			sub { $self->tell('customer.subscription.trial_will_end', $s) },
			sub { $self->change('customer.subscription.paused', $s, status => 'paused') }) },
		active => sub { (
			sub { $updated->($renew->()) },
			sub { $updated->($renew->()); $updated->(status => 'past_due') },
			sub { $updated->($items->(quantity => $self->between(1, 9))) },
			sub { $updated->($items->(price => { id => $self->pick(@PRICES), object => 'price' })) },
			sub { $updated->(cancel_at_period_end => $true, cancel_at => $s->{items}{data}[0]{current_period_end}, canceled_at => $self->now) },
			sub { $updated->(cancel_at_period_end => $false, cancel_at => undef, canceled_at => undef) },
			sub { $updated->(pause_collection => { behavior => 'void', resumes_at => undef }) },
			sub { $updated->(pause_collection => undef) },
			sub { $updated->(default_payment_method => $self->pick((map { $_->{id} } grep { $_->{customer} eq $s->{customer} } @{ $self->{methods} }), undef)) },
			sub { $self->change('customer.subscription.paused', $s, status => 'paused') },
			sub { $self->change('customer.subscription.pending_update_applied', $s, $items->(quantity => $self->between(1, 9))) },
			$number == 4 ? () : sub { $end->('canceled', 'customer.subscription.deleted') }) },
		past_due => sub { (
			sub { $updated->(status => 'active') },
			sub { $updated->(status => 'active') },
			sub { $updated->(status => 'unpaid') },
			$number == 4 ? () : sub { $end->('canceled', 'customer.subscription.deleted') }) },
		unpaid => sub { (
			sub { $updated->(status => 'active') },
			$number == 4 ? () : sub { $end->('canceled', 'customer.subscription.deleted') }) },
		paused => sub { (
			sub { $self->change('customer.subscription.resumed', $s, status => 'active') },
			sub { $self->change('customer.subscription.resumed', $s, status => 'active', $renew->()) }) },
	);

	# the last one never ends, so that something can always happen
	push @{ $self->{subscriptions} }, $s;
	$self->add_object(sub {
		return $create unless defined $s->{status};
		return $number == 4 && $s->{status} eq 'incomplete' ? sub { $updated->(status => 'active') } : ($steps{ $s->{status} } || sub { () })->();
	});
}

# Of the subscription of that number, paid in one or several goes or not at all.
sub invoice
{
	my ($self, $number) = @_;
	my $s = $self->{subscriptions}[ $number - 1 ];
	my $total = 100 * $self->between(10, 90);
	my $payment = $self->new_id('pi_');
	my $i = {
		id => $self->new_id('in_'), object => 'invoice', livemode => $false, metadata => {}, customer => $s->{customer}, currency => 'usd', status => 'draft', number => undef,
		parent => { type => 'subscription_details', subscription_details => { subscription => $s->{id} } }, total => $total, amount_due => $total, amount_paid => 0,
		amount_remaining => $total, total_taxes => [ { amount => $total / 10 } ], billing_reason => 'subscription_cycle', attempt_count => 0, attempted => $false,
		period_start => $self->now, period_end => $self->now + 86400, due_date => undef, next_payment_attempt => undef, hosted_invoice_url => undef, invoice_pdf => undef,
		status_transitions => { paid_at => undef, finalized_at => undef, voided_at => undef, marked_uncollectible_at => undef },
	};
	my $born;
	my $moved = sub { (status => $_[0], status_transitions => { %{ $i->{status_transitions} }, ($_[1] => $self->now) }, next_payment_attempt => undef) };
	my $pay = sub {
		$self->change('invoice.paid', $i, $moved->('paid', 'paid_at'), amount_paid => $i->{amount_due}, amount_remaining => 0, attempt_count => $i->{attempt_count} + 1);
		$self->tell('invoice.payment_succeeded', $i);
	};
	my %steps = (
		draft => sub { (
			sub { my $new = 100 * $self->between(10, 90); $self->change('invoice.updated', $i, total => $new, amount_due => $new, amount_remaining => $new, total_taxes => [ { amount => $new / 10 } ]) },
			sub { $self->change('invoice.finalized', $i, $moved->('open', 'finalized_at'), number => "A-$number", hosted_invoice_url => "https://invoice.example/$i->{id}", invoice_pdf => "https://invoice.example/$i->{id}.pdf",
				due_date => $self->pick(undef, $self->now + 86400)) },
			sub { $born = 'deleted'; $self->tell('invoice.deleted', $i) }) },
		open => sub { (
			$pay,
			sub { $self->change('invoice.payment_failed', $i, attempt_count => $i->{attempt_count} + 1, attempted => $true, next_payment_attempt => $self->now + 3 * 86400) },
			sub { $self->change('invoice.payment_failed', $i, attempt_count => $i->{attempt_count} + 1, attempted => $true, next_payment_attempt => $self->pick(undef, $self->now + 86400)) },
			sub { $self->tell('invoice.payment_action_required', $i) },
			sub { my $part = int($i->{amount_remaining} / 2); $self->change('invoice.updated', $i, amount_paid => $i->{amount_paid} + $part, amount_remaining => $i->{amount_remaining} - $part) },
			$i->{amount_paid} == 0 ? sub { $self->change('invoice.voided', $i, $moved->('void', 'voided_at')) } : (),
			sub { $self->change('invoice.marked_uncollectible', $i, $moved->('uncollectible', 'marked_uncollectible_at')) }) },
		uncollectible => sub { ($pay, sub { $self->change('invoice.voided', $i, $moved->('void', 'voided_at')) }) },
	);

	$self->add_object(sub {
		return () if !defined $s->{status} || ($born || '') eq 'deleted';
		return sub { $born = 1; $i->{created} = $self->now; $self->tell('invoice.created', $i) }
		  unless $born;
		return ($steps{ $i->{status} } || sub { () })->();
	});
}

sub new_payment
{
	my ($self, %members) = @_;

	return {
		id => $self->new_id('pi_'), object => 'payment_intent', livemode => $false, metadata => {}, currency => 'usd', amount => 5000, amount_received => 0, amount_capturable => 0,
		status => 'requires_payment_method', capture_method => 'automatic', payment_method => undef, payment_method_types => [ 'card', 'oxxo' ], latest_charge => undef,
		client_secret => $self->new_id('secret_'), next_action => undef, last_payment_error => undef, cancellation_reason => undef, canceled_at => undef, receipt_email => undef,
		%members,
	};
}

sub new_charge
{
	my ($self) = @_;
	my $id = $self->new_id('ch_');

	$self->{charged_at}{$id} = $self->now;
	return $id;
}

# The charge that took the money of a payment, with one of its refunds in it or,
# as today, without any.
sub charge_of
{
	my ($self, $p, @refunds) = @_;
	my $back = $self->{back}{ $p->{id} } || 0;

	return {
		id => $p->{latest_charge}, object => 'charge', created => $self->{charged_at}{ $p->{latest_charge} }, livemode => $false, payment_intent => $p->{id}, customer => $p->{customer},
		amount => $p->{amount}, amount_captured => $p->{amount}, amount_refunded => $back, currency => 'usd', status => 'succeeded', paid => $true, captured => $true,
		refunded => $back >= $p->{amount} ? $true : $false, receipt_url => 'https://receipt.example/1', payment_method_details => { type => 'card' }, metadata => {},
		(@refunds ? (refunds => { object => 'list', data => \@refunds }) : ()),
	};
}

my @ERRORS = (
	{ code => 'card_declined', decline_code => 'insufficient_funds', type => 'card_error' },
	{ code => 'expired_card', decline_code => undef, type => 'card_error' },
	{ code => 'payment_intent_authentication_failure', type => 'invalid_request_error', payment_method => { id => 'pm_x', object => 'payment_method', type => 'card' } },
);
my @ACTIONS = (
	{ type => 'redirect_to_url', redirect_to_url => { url => 'https://hooks.example/3ds', return_url => undef } },
	{ type => 'oxxo_display_details', oxxo_display_details => { number => '123', hosted_voucher_url => 'https://oxxo.example/1', expires_after => 1_790_000_000 } },
);

# The steps of a payment; each attempt makes a charge of its own.
sub payment_steps
{
	my ($self, $p) = @_;
	my $to = sub {
		my ($status, $type, %members) = @_;

		$self->change("payment_intent.$type", $p, status => $status, next_action => undef, %members);
	};
	my $fails = sub {
		$to->('requires_payment_method', 'payment_failed', last_payment_error => $self->pick(@ERRORS), latest_charge => $self->new_charge, payment_method => undef);
	};
	my $arrives = sub {
		$to->('succeeded', 'succeeded', amount_received => $p->{amount}, amount_capturable => 0, last_payment_error => undef, latest_charge => $self->new_charge,
			payment_method => $self->pick((map { $_->{id} } grep { $_->{customer} eq ($p->{customer} || '') } @{ $self->{methods} }), undef));
	};
	my $authorized = sub {
		$to->('requires_capture', 'amount_capturable_updated', amount_capturable => $p->{amount}, last_payment_error => undef, latest_charge => $self->new_charge);
	};
	my $ends = sub {
		$to->('canceled', 'canceled', cancellation_reason => $self->pick('abandoned', 'requested_by_customer', 'duplicate'), canceled_at => $self->now, amount_capturable => 0);
	};
	my $asks = sub { $to->('requires_action', 'requires_action', next_action => $self->pick(@ACTIONS), last_payment_error => undef) };
	my $waits = sub { $to->('processing', 'processing', last_payment_error => undef, latest_charge => $self->new_charge) };
	my %steps = (
		requires_payment_method => [ $asks, $waits, $authorized, $arrives, $fails, $fails, $ends ],
		requires_action => [ $waits, $arrives, $fails, $fails, $ends, $authorized ],
		processing => [ $arrives, $fails ],
		requires_capture => [ $arrives, $ends ],
	);

	return @{ $steps{ $p->{status} } || [] };
}

sub payment
{
	my ($self, $number) = @_;
	my $p = $self->new_payment(customer => $self->customer_id($number), ($number == 1 ? (metadata => { janua_ref => 'REF:payment1' }) : ()));
	my $born;

	push @{ $self->{payments} }, $p;
	$self->add_object(sub {
		return sub { $born = 1; $p->{created} = $self->now; $self->tell('payment_intent.created', $p) }
		  unless $born;
		return $self->payment_steps($p);
	});
}

sub refund
{
	my ($self) = @_;
	my $amount = 100 * $self->between(5, 20);
	my ($p, $r);
	my $become = sub {
		my ($status, $type, %members) = @_;

		$self->{back}{ $p->{id} } -= $amount if $status eq 'failed' || $status eq 'canceled';
		$self->change($type, $r, status => $status, %members);
	};
	my $create = sub {
		$self->{back}{ $p->{id} } += $amount;
		$r = {
			id => $self->new_id('re_'), object => 'refund', created => $self->now, livemode => $false, metadata => {}, currency => 'usd', amount => $amount, payment_intent => $p->{id},
			charge => $p->{latest_charge}, status => $self->pick('pending', 'requires_action', 'succeeded'), reason => $self->pick('duplicate', undef), failure_reason => undef,
		};
		$self->tell('refund.created', $r);
		$self->tell('charge.refunded', $self->charge_of($p, $self->chance(0.3) ? $r : ())) if $self->chance(0.6);
	};
	my @update = (qw(refund.updated charge.refund.updated));
	my %steps = (
		pending => sub { (
			sub { $become->('succeeded', $self->pick(@update)) },
			sub { $become->('failed', 'refund.failed', failure_reason => 'declined') }) },
		requires_action => sub { (
			sub { $become->('pending', 'refund.updated') },
			sub { $become->('succeeded', 'refund.updated') },
			sub { $become->('canceled', 'refund.updated') }) },
		succeeded => sub { $self->chance(0.3) ? (sub { $become->('failed', 'refund.failed', failure_reason => 'lost_or_stolen_card') }) : () },
	);

	$self->add_object(sub {
		return ($steps{ $r->{status} } || sub { () })->() if $r;
		($p) = $self->shuffled(grep { $_->{status} eq 'succeeded' && $_->{amount_received} - ($self->{back}{ $_->{id} } || 0) >= $amount } @{ $self->{payments} });
		return $p ? $create : ();
	});
}

sub dispute
{
	my ($self) = @_;
	my ($p, $d);
	my $moved = sub { (balance_transactions => [ @{ $d->{balance_transactions} }, { id => $self->new_id('txn_'), amount => $_[0], fee => $_[0] < 0 ? 1500 : $self->pick(0, -1500), currency => 'usd' } ]) };
	my $create = sub {
		my $warning = $self->chance(0.3);

		$d = {
			id => $self->new_id('du_'), object => 'dispute', created => $self->now, livemode => $false, metadata => {}, currency => 'usd', amount => 1000, payment_intent => $p->{id},
			charge => $p->{latest_charge}, status => $warning ? 'warning_needs_response' : 'needs_response', reason => 'fraudulent', balance_transactions => [],
			evidence_details => { due_by => $self->now + 7 * 86400, submission_count => 0 },
		};
		$self->tell('charge.dispute.created', $d);
		$self->change('charge.dispute.funds_withdrawn', $d, $moved->(-1000)) unless $warning;
	};
	my $submitted = sub { (evidence_details => { %{ $d->{evidence_details} }, submission_count => 1 }) };
	my %steps = (
		warning_needs_response => sub { (
			sub { $self->change('charge.dispute.updated', $d, status => 'warning_under_review', $submitted->()) },
			sub { $self->change('charge.dispute.closed', $d, status => 'warning_closed') },
			sub { $self->change('charge.dispute.updated', $d, status => 'needs_response'); $self->change('charge.dispute.funds_withdrawn', $d, $moved->(-1000)) }) },
		warning_under_review => sub { (sub { $self->change('charge.dispute.closed', $d, status => 'warning_closed') }) },
		needs_response => sub { (
			sub { $self->change('charge.dispute.updated', $d, status => 'under_review', $submitted->()) },
			sub { $self->change('charge.dispute.updated', $d, reason => $self->pick('fraudulent', 'general', 'unrecognized')) },
			sub { $self->change('charge.dispute.closed', $d, status => 'lost') }) },
		under_review => sub { (
			sub { $self->change('charge.dispute.closed', $d, status => 'lost') },
			sub { $self->change('charge.dispute.closed', $d, status => 'won'); $self->change('charge.dispute.funds_reinstated', $d, $moved->(1000)) }) },
	);

	$self->add_object(sub {
		return ($steps{ $d->{status} } || sub { () })->() if $d;
		($p) = $self->shuffled(grep { $_->{status} eq 'succeeded' } @{ $self->{payments} });
		return $p ? $create : ();
	});
}

# The page that we made; its payment comes into being when the buyer is through.
sub checkout
{
	my ($self) = @_;
	my $p = $self->new_payment(customer => $self->customer_id(2), amount => 700, metadata => { janua_ref => 'REF:checkout1_payment' });
	my $c = {
		id => $self->new_id('cs_test_'), object => 'checkout.session', livemode => $false, metadata => { janua_ref => 'REF:checkout1' }, mode => 'payment', status => 'open',
		payment_status => 'unpaid', url => undef, client_secret => undef, customer => $self->customer_id(2), payment_intent => undef, subscription => undef, setup_intent => undef,
		currency => 'usd', amount_total => 700, expires_at => $self->now + 86400,
	};
	my $complete = sub {
		my ($payment_status) = @_;

		@$c{qw(status payment_status payment_intent)} = ('complete', $payment_status, $p->{id});
		$p->{created} = $self->now;
		$self->tell('payment_intent.created', $p);
		if ($payment_status eq 'paid')
		{
			$self->change('payment_intent.succeeded', $p, status => 'succeeded', amount_received => 700, latest_charge => $self->new_charge);
		}
		else
		{
			$self->change('payment_intent.processing', $p, status => 'processing');
		}
		$self->tell('checkout.session.completed', $c);
	};
	my $settled = 0;

	$self->add_object(sub {
		return (
			sub { $complete->('paid') },
			sub { $complete->('unpaid') },
			sub { $complete->('unpaid') },
			sub { $c->{status} = 'expired'; $self->tell('checkout.session.expired', $c) })
		  if $c->{status} eq 'open';
		return () if $c->{status} ne 'complete' || $c->{payment_status} eq 'paid' || $settled++;
		return (
			sub {
				$self->change('payment_intent.succeeded', $p, status => 'succeeded', amount_received => 700, latest_charge => $self->new_charge);
				$self->change('checkout.session.async_payment_succeeded', $c, payment_status => 'paid');
			},
			sub {
				$self->change('payment_intent.payment_failed', $p, status => 'requires_payment_method', last_payment_error => $ERRORS[0], latest_charge => $self->new_charge);
				$self->tell('checkout.session.async_payment_failed', $c);
			});
	});
}

sub setup_intent
{
	my ($self) = @_;
	my $s = {
		id => $self->new_id('seti_'), object => 'setup_intent', livemode => $false, metadata => {}, customer => $self->customer_id(3), status => 'requires_payment_method', payment_method => undef,
		client_secret => $self->new_id('secret_'), next_action => undef, last_setup_error => undef, usage => 'off_session',
	};
	my $born;
	my $fail = sub { $self->change('setup_intent.setup_failed', $s, status => 'requires_payment_method', next_action => undef, payment_method => undef, last_setup_error => $self->pick(@ERRORS)) };
	# a method of the same customer, as everywhere at Stripe
	my $done = sub { $self->change('setup_intent.succeeded', $s, status => 'succeeded', next_action => undef, last_setup_error => undef, payment_method => $self->{methods}[1]{id}) };
	my $give_up = sub { $self->change('setup_intent.canceled', $s, status => 'canceled', next_action => undef) };
	my %steps = (
		requires_payment_method => [ $fail, $fail, $done, $give_up,
			sub { $self->change('setup_intent.requires_action', $s, status => 'requires_action', next_action => $ACTIONS[0], last_setup_error => undef) } ],
		requires_action => [ $fail, $done, $give_up ],
	);

	$self->add_object(sub {
		return sub { $born = 1; $s->{created} = $self->now; $self->tell('setup_intent.created', $s) }
		  unless $born;
		return @{ $steps{ $s->{status} } || [] };
	});
}

1;

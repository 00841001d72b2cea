# What happens at Polar: see JanuaHistory. An order is an invoice and its
# payment; its time goes to the microsecond, and the events of one change are
# all of one state.
package JanuaHistory::Polar;

use strict;
use warnings;

use parent 'JanuaHistory';

use Digest::SHA  ();
use MIME::Base64 ();
use POSIX        ();

my ($true, $false) = ($JanuaHistory::true, $JanuaHistory::false);
my @PRODUCTS = map { sprintf '77777777-0000-4000-8000-%012d', $_ } 1 .. 3;

sub prices { return @PRODUCTS }
sub currency { return 'USD' }
sub secret { return "polar_whs_any_order_$_[1]" }

# The id is in the header.
sub new_event_id { return $_[0]->new_uuid }
sub ids_in_body { return 0 }

sub rfc3339
{
	my ($seconds, $micros) = @_;

	return POSIX::strftime('%Y-%m-%dT%H:%M:%S', gmtime $seconds) . sprintf('.%06dZ', $micros || 0);
}

# Now, a moment after the last time that somebody asked.
sub stamp
{
	my ($self) = @_;
	my $moment = "$self->{now}";

	$self->{micros} = 0 if ($self->{last_moment} || '') ne $moment;
	$self->{last_moment} = $moment;
	$self->{micros} += $self->between(1, 2000);
	return rfc3339($self->{now}, $self->{micros});
}

sub later { return rfc3339($_[0]->now + $_[1]) }

sub event_body
{
	my ($self, $type, $object, %more) = @_;

	return { type => $type, timestamp => $self->stamp, data => $object };
}

sub headers
{
	my ($self, $event, $body, $secret) = @_;
	my $time = time();

	return {
		'webhook-id' => $event->{id}, 'webhook-timestamp' => $time,
		'webhook-signature' => 'v1,' . MIME::Base64::encode_base64(Digest::SHA::hmac_sha256("$event->{id}.$time.$body", $secret), ''),
	};
}

# A change, and the events that tell of it.
sub change
{
	my ($self, $types, $object, %members) = @_;

	@$object{ keys %members } = values %members;
	$object->{modified_at} = $self->stamp;
	$self->tell($_, $object) foreach split ' ', $types;
	return;
}

sub create
{
	my ($self, $types, $object) = @_;

	@$object{qw(created_at modified_at)} = ($self->stamp, undef);
	$self->tell($_, $object) foreach split ' ', $types;
	return;
}

# ---- what we made ourselves ----

sub setup_statements
{
	my ($self, $account) = @_;
	my @statements = map {
		[ "customer$_", "billing.create_customer('$account-$_', 'c$_\@$account.example', name => 'C', provider => 'polar', account => '$account')" ]
	} 1 .. $self->{customers};

	push @statements, [ 'checkout1', "billing.create_checkout_session((\@customer1\@), success_url => 'https://example.com/ok', plan => 'any_usd_1')" ];
	push @statements, [ 'subscription1', "(SELECT subscription_id FROM billing.checkout_sessions WHERE id = (\@checkout1\@))" ];
	return @statements;
}

sub populate
{
	my ($self) = @_;

	$self->{customers} = 6;
	$self->{customer_ids} = [ map { $self->new_uuid } 1 .. 6 ];
	$self->customer($_) foreach 1 .. 6;
	$self->subscription($_) foreach 1 .. 4;
	$self->order($_) foreach 1 .. 7;
	$self->refund($_) foreach 1 .. 5;
	# a second one of a customer, when the first one has ended, and beside it
	$self->subscription(2, $self->{subscriptions}[1]);
	$self->subscription($_) foreach 3, 3;
}

sub customer_id { return $_[0]{customer_ids}[ $_[1] - 1 ] }

sub customer
{
	my ($self, $number) = @_;
	my $c = { id => $self->customer_id($number), external_id => "REF:customer$number", email => "c$number\@example.com", name => 'C', metadata => {}, deleted_at => undef };
	my $born;

	$self->add_object(sub {
		return sub { $born = 1; $self->create('customer.created', $c) }
		  unless $born;
		return () if $self->chance(0.9);
		return (
			sub { $self->change('customer.updated', $c, name => $self->pick('Ada', 'Grace', undef)) },
			sub { $self->change('customer.updated', $c, email => $self->pick('a', 'b', 'c') . "$number\@example.com") });
	});
}

# The first one is what our page sells. It begins when those AFTER which it comes have ended.
sub subscription
{
	my ($self, $number, @after) = @_;
	my $s = {
		id => $self->new_uuid, customer_id => $self->customer_id($number), product_id => $PRODUCTS[0], amount => 1000, currency => 'usd', seats => undef, metadata => {}, trial_start => undef,
		trial_end => undef, cancel_at_period_end => $false, canceled_at => undef, ends_at => undef, ended_at => undef, pause_at_period_end => $false, paused_at => undef, resumes_at => undef,
		past_due_at => undef, pending_update => undef, checkout_id => undef,
	};
	my $page = { id => $self->new_uuid, status => 'open', metadata => { janua_session => 'REF:checkout1' }, url => 'https://polar.example/1', client_secret => 'polar_c_1', customer_id => $s->{customer_id},
		subscription_id => undef, currency => 'usd', total_amount => 1000, is_payment_required => $true, expires_at => $self->later(86400) };
	my $period = sub { my $end = $_[0]; my $start = $s->{period} || $self->now; $s->{period} = $start + 30 * 86400; return (current_period_start => rfc3339($start), current_period_end => rfc3339($s->{period})) };
	my $updated = sub { my ($type, @members) = @_; $self->change("subscription.updated $type", $s, @members) };
	my $begin = sub {
		%$s = (%$s, $period->());
		@$s{qw(trial_start trial_end)} = ($s->{current_period_start}, $s->{current_period_end}) if $self->chance(0.3);
		$s->{status} = $s->{trial_start} ? 'trialing' : 'active';
		$self->create('subscription.created subscription.active', $s);
	};
	my $buy = sub {
		@$s{qw(metadata checkout_id)} = ({ janua_subscription => 'REF:subscription1' }, $page->{id});
		$begin->();
		$self->change('checkout.updated', $page, status => 'succeeded', subscription_id => $s->{id});
	};
	my $lasts = $number == 4;
	my $end = sub { $self->change('subscription.updated subscription.canceled subscription.revoked', $s, status => 'canceled', canceled_at => $s->{canceled_at} || $self->later(0), ended_at => $self->later(0), ends_at => $self->later(0)) };
	my %steps = (
		trialing => sub { (sub { $updated->('subscription.cycled', status => 'active', $period->()) }) },
		active => sub { (
			sub { $updated->('subscription.cycled', $period->()) },
			sub { $updated->('subscription.cycled', $period->()); $updated->('subscription.past_due', status => 'past_due', past_due_at => $self->later(0)) },
			sub { $updated->('subscription.canceled', cancel_at_period_end => $true, canceled_at => $self->later(0), ends_at => $s->{current_period_end}) },
			sub { $updated->('subscription.uncanceled', cancel_at_period_end => $false, canceled_at => undef, ends_at => undef) },
			sub { $updated->('', product_id => $self->pick(@PRODUCTS), pending_update => undef) },
			sub { $updated->('', pending_update => $self->pick({ product_id => $PRODUCTS[1] }, undef)) },
			sub { $updated->('', seats => $self->between(1, 9)) },
			sub { $updated->('', pause_at_period_end => $self->pick($true, $false), resumes_at => $self->pick($self->later(90 * 86400), undef)) },
			sub { $updated->('subscription.paused', status => 'paused', paused_at => $self->later(0), pause_at_period_end => $false) },
			$lasts ? () : $end) },
		past_due => sub { (sub { $updated->('subscription.active', status => 'active') }, $lasts ? () : ($end, sub { $updated->('', status => 'unpaid') })) },
		unpaid => sub { (sub { $updated->('subscription.active', status => 'active') }, $end) },
		paused => sub { (sub { $updated->('subscription.resumed', status => 'active', paused_at => undef, resumes_at => undef, $period->()) }) },
	);

	push @{ $self->{subscriptions} }, $s;
	$self->add_object(sub {
		return ($steps{ $s->{status} } || sub { () })->() if defined $s->{status};
		return () if grep { ($_->{status} || '') ne 'canceled' } @after;
		return $begin if $number != 1;
		return sub { $self->create('checkout.created', $page) }
		  unless $page->{created_at};
		return () if $page->{status} eq 'expired';
		return $buy if $page->{status} eq 'confirmed';
		return (sub { $self->change('checkout.updated', $page, status => 'confirmed') }, sub { $self->change('checkout.updated', $page, url => $page->{url}) }, sub { $self->change('checkout.updated checkout.expired', $page, status => 'expired') });
	});
}

# Of the subscription of that number, else a purchase.
sub order
{
	my ($self, $number) = @_;
	my $s = $number <= 4 ? $self->{subscriptions}[ $number - 1 ] : undef;
	my $o = {
		id => $self->new_uuid, status => 'pending', paid => $false, subtotal_amount => 1000, discount_amount => 0, net_amount => 1000, tax_amount => 160, total_amount => 1160, applied_balance_amount => 0,
		due_amount => 1160, refunded_amount => 0, refunded_tax_amount => 0, currency => 'usd', billing_reason => $s ? 'subscription_cycle' : 'purchase', invoice_number => "P-$number",
		customer_id => $s ? $s->{customer_id} : $self->customer_id(1 + $number % 6), subscription_id => $s ? $s->{id} : undef, checkout_id => undef, next_payment_attempt_at => undef, metadata => {},
		items => [], platform_fee_amount => 0, platform_fee_currency => undef,
	};
	my $fee = sub { (platform_fee_amount => $self->pick(0, 86, 104), platform_fee_currency => $self->pick('usd', 'usd', 'eur')) };
	my $pay = sub { $self->change('order.updated order.paid', $o, status => 'paid', paid => $true, due_amount => 0, next_payment_attempt_at => undef, $self->chance(0.6) ? $fee->() : ()) };
	my $retry = sub { $self->change('order.updated', $o, next_payment_attempt_at => $self->later(3 * 86400)) };

	push @{ $self->{orders} }, $o;
	$self->add_object(sub {
		return () if $s && !defined $s->{status};
		return sub {
			$o->{subscription} = { %$s, metadata => {} } if $s;
			$o->{status} = 'draft' if !$s && $self->chance(0.3);
			$self->create('order.created', $o);
		  }
		  unless $o->{created_at};
		return sub { $self->change('order.updated', $o, status => 'pending') }
		  if $o->{status} eq 'draft';
		return ($pay, $retry, $retry, sub { $self->change('order.updated', $o, status => 'void') }) if $o->{status} eq 'pending';
		return $self->chance(0.1) ? sub { $self->change('order.updated', $o, invoice_number => "P-$number", $fee->()) } : ();
	});
}

# Refunds without tax; the order counts what has succeeded.
sub refund
{
	my ($self, $number) = @_;
	my ($net, $tax) = @{ $self->pick([ 300, 48 ], [ 500, 80 ]) };
	my ($o, $r, $d);
	my $count = sub {
		my ($sign) = @_;

		$o->{refunded_amount} += $sign * $net;
		$o->{refunded_tax_amount} += $sign * $tax;
		my $status = !$o->{refunded_amount} ? 'paid' : $o->{refunded_amount} >= $o->{net_amount} ? 'refunded' : 'partially_refunded';
		$self->change($sign > 0 ? 'order.updated order.refunded' : 'order.updated', $o, status => $status);
	};
	my $become = sub {
		my ($status) = @_;
		my $before = $r->{status};

		$d->{status} = $status eq 'succeeded' ? 'prevented' : 'needs_response' if $d && $d->{status} ne 'prevented';
		$d->{modified_at} = $self->stamp if $d;
		$self->change('refund.updated', $r, status => $status);
		$self->{back}{ $o->{id} } -= $net if $status =~ /^(failed|canceled)$/;
		$count->(1) if $status eq 'succeeded';
		$count->(-1) if $before eq 'succeeded';
	};

	$self->add_object(sub {
		if ($r)
		{
			return (sub { $become->('succeeded') }, sub { $become->('succeeded') }, sub { $become->('failed') }, sub { $become->('canceled') }) if $r->{status} eq 'pending';
			return $r->{status} eq 'succeeded' && $self->chance(0.3) ? sub { $become->('failed') } : ();
		}
		($o) = $self->shuffled(grep { $_->{paid} && $_->{net_amount} - ($self->{back}{ $_->{id} } || 0) >= $net } @{ $self->{orders} });
		return () unless $o;
		return sub {
			$self->{back}{ $o->{id} } += $net;
			$r = {
				id => $self->new_uuid, status => $self->pick('pending', 'succeeded'), reason => 'customer_request', amount => $net, tax_amount => $tax, currency => 'usd', order_id => $o->{id},
				subscription_id => $o->{subscription_id}, customer_id => $o->{customer_id}, metadata => {}, dispute => undef,
			};
			if ($number == 1)
			{
				$d = { id => $self->new_uuid, status => 'early_warning', amount => $net, tax_amount => $tax, currency => 'usd', order_id => $o->{id}, payment_id => $self->new_uuid, resolved => $false, closed => $false };
				@$d{qw(created_at modified_at)} = ($self->stamp, undef);
				@$r{qw(dispute reason)} = ($d, 'dispute_prevention');
			}
			$self->create('refund.created', $r);
			$count->(1) if $r->{status} eq 'succeeded';
		};
	});
}

1;

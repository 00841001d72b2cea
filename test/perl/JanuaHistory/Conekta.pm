# What happens at Conekta: see JanuaHistory. An order is a payment; its charges
# hold the refunds and the chargeback.
package JanuaHistory::Conekta;

use strict;
use warnings;

use parent 'JanuaHistory';

use IPC::Run ();
use JSON::PP ();

my ($true, $false) = ($JanuaHistory::true, $JanuaHistory::false);
my @PLANS = map { "any_plan_$_" } 1 .. 3;

sub prices { return @PLANS }
sub currency { return 'MXN' }

# ---- signatures: Conekta's key signs, we have the public one ----

my @keys;

sub node
{
	my ($program, $input) = @_;
	my $output = '';

	IPC::Run::run([ $ENV{JANUA_NODE} || 'node', '-e', $program ], '<', \JSON::PP->new->utf8->encode($input), '>', \$output) or die "node failed\n";
	return JSON::PP->new->utf8->decode($output);
}

# {public, private} of the account of that number.
sub secret
{
	my ($self, $number) = @_;

	$keys[$number] ||= node(<<'JS', []);
const { publicKey, privateKey } = require('crypto').generateKeyPairSync('rsa', { modulusLength: 2048 });
process.stdout.write(JSON.stringify({ public: publicKey.export({ type: 'spki', format: 'pem' }), private: privateKey.export({ type: 'pkcs8', format: 'pem' }) }));
JS
	return $keys[$number];
}

sub public_secret { return $_[1]{public} }

# All bodies of an account in one go: a signature has no time in it.
sub sign_all
{
	my ($self, $bodies, $secret) = @_;
	my $signatures = node(<<'JS', { key => $secret->{private}, bodies => $bodies });
const { key, bodies } = JSON.parse(require('fs').readFileSync(0));
process.stdout.write(JSON.stringify(bodies.map((body) => require('crypto').sign('RSA-SHA256', Buffer.from(body), key).toString('base64'))));
JS
	@{ $secret->{signatures} }{@$bodies} = @$signatures;
	return;
}

sub headers
{
	my ($self, $event, $body, $secret) = @_;

	$self->sign_all([ map { $self->body_for($_, $self->{bodies_for}) } $self->events ], $secret) unless $secret->{signatures}{$body};
	return { Digest => $secret->{signatures}{$body} || die "a body that was not signed\n" };
}

# ---- events ----

sub new_event_id { return $_[0]->new_id('') }

sub event_body
{
	my ($self, $type, $object, %more) = @_;

	return {
		object => 'event', type => $type, created_at => $self->now, livemode => $false, webhook_status => 'pending', webhook_logs => [],
		data => { object => $object, previous_attributes => $more{previous} || {} },
	};
}

sub change
{
	my ($self, $type, $object, %members) = @_;
	my %previous = map { $_ => $object->{$_} } grep { exists $object->{$_} } keys %members;

	@$object{ keys %members } = values %members;
	return $self->tell($type, $object, previous => \%previous);
}

# ---- what we made ourselves ----

sub setup_statements
{
	my ($self, $account) = @_;
	my @statements = map {
		[ "customer$_", "billing.create_customer('$account-$_', 'c$_\@$account.example', name => 'C', phone => '+525512345678', provider => 'conekta', account => '$account')" ]
	} 1 .. $self->{customers};

	push @statements, [ 'payment1', "billing.create_payment_intent((\@customer1\@), 5000, 'MXN')" ];
	push @statements,
	  [ 'checkout1', "billing.create_checkout_session((\@customer2\@), '[{\"name\": \"Hat\", \"amount\": 7000, \"currency\": \"MXN\"}]', 'https://example.com/ok', 'https://example.com/no')" ];
	push @statements, [ 'checkout1_payment', "(SELECT payment_intent_id FROM billing.checkout_sessions WHERE id = (\@checkout1\@))" ];
	return @statements;
}

sub populate
{
	my ($self) = @_;

	$self->{customers} = 5;
	$self->{customer_ids} = [ map { $self->new_id('cus_') } 1 .. 5 ];
	$self->customer($_) foreach 1 .. 5;
	$self->subscription($_) foreach 1 .. 4;
	# a second one of a customer, when the first one has ended, and beside it
	$self->subscription(1, $self->subscriptions_of(1));
	$self->subscription($_) foreach 2, 3, 3;
	$self->order($_) foreach 1 .. 7;
	$self->refund foreach 1 .. 4;
	$self->chargeback foreach 1 .. 2;
}

sub customer_id { return $_[0]{customer_ids}[ $_[1] - 1 ] }

sub customer
{
	my ($self, $number) = @_;
	my $c = {
		id => $self->customer_id($number), object => 'customer', livemode => $false, metadata => { janua_ref => "REF:customer$number" }, email => "c$number\@example.com", name => 'C',
		phone => '+525500000000', created_at => $self->now,
	};
	my $born;

	$self->add_object(sub {
		return sub { $born = 1; $self->tell('customer.created', $c) }
		  unless $born;
		return () if $self->chance(0.9);
		return (
			sub { $self->change('customer.updated', $c, name => $self->pick('Ada', 'Grace', 'Barbara')) },
			sub { $self->change('customer.updated', $c, phone => $self->pick('+525500000001', '+525500000002')) });
	});
}

sub subscriptions_of { return @{ $_[0]{subscriptions}{ $_[1] } } }

# One that was made at Conekta: it keeps no reference of ours. It begins when those AFTER which it comes have ended.
sub subscription
{
	my ($self, $number, @after) = @_;
	my $s = {
		id => $self->new_id('sub_'), object => 'subscription', livemode => $false, customer_id => $self->customer_id($number), plan_id => $PLANS[0], card_id => undef, charge_id => undef,
		billing_cycle_start => undef, billing_cycle_end => undef, trial_start => undef, trial_end => undef, canceled_at => undef, canceled_reason => undef, paused_at => undef,
	};
	my $cycle = sub { my $begin = $s->{billing_cycle_end} || $self->now; return (billing_cycle_start => $begin, billing_cycle_end => $begin + 30 * 86400) };
	my $create = sub {
		$s->{created_at} = $self->now;
		if ($self->chance(0.4))
		{
			@$s{qw(status trial_start trial_end)} = ('in_trial', $self->now, $self->now + 7 * 86400);
		}
		else
		{
			%$s = (%$s, status => 'active', $cycle->());
		}
		$self->tell('subscription.created', $s);
	};
	push @{ $self->{subscriptions}{$number} }, $s;
	my $lasts = $number == 4;
	my $cancel = sub { $self->change('subscription.canceled', $s, status => 'canceled', canceled_at => $self->now, canceled_reason => 'user') };
	my %steps = (
		in_trial => sub { (
			sub { $self->change('subscription.paid', $s, status => 'active', $cycle->()) },
			sub { $self->change('subscription.payment_failed', $s, status => 'past_due', $cycle->()) }) },
		active => sub { (
			sub { $self->change('subscription.paid', $s, $cycle->()) },
			sub { $self->change('subscription.payment_failed', $s, status => 'past_due', $cycle->()) },
			sub { $self->change('subscription.updated', $s, plan_id => $self->pick(@PLANS)) },
			sub { $self->change('subscription.paused', $s, status => 'paused', paused_at => $self->now) },
			$lasts ? () : ($cancel, sub { $self->change('subscription.expired', $s, status => 'expired', canceled_at => $self->pick(undef, $self->now)) })) },
		past_due => sub { (
			sub { $self->change('subscription.paid', $s, status => 'active') },
			sub { $self->tell('subscription.payment_failed', $s) },
			$lasts ? () : $cancel) },
		paused => sub { (sub { $self->change('subscription.resumed', $s, status => 'active', paused_at => undef) }) },
	);

	$self->add_object(sub {
		return (grep { ($_->{status} || '') !~ /^(canceled|expired)$/ } @after) ? () : $create
		  unless defined $s->{status};
		return ($steps{ $s->{status} } || sub { () })->();
	});
}

# ---- orders ----

sub last_charge { return $_[1]{charges}{data}[-1] }

sub add_charge
{
	my ($self, $o, %members) = @_;
	my $charge = {
		id => $self->new_id(''), object => 'charge', livemode => $false, order_id => $o->{id}, amount => $o->{amount}, currency => 'MXN', created_at => $self->now, paid_at => undef,
		failure_code => undef, failure_message => undef, monthly_installments => undef, payment_method => { object => 'card_payment', type => 'credit', payment_source_id => undef },
		refunds => { object => 'list', data => [] }, chargeback => undef, fee => $self->pick(undef, 145, 145, 210), %members,
	};

	push @{ $o->{charges}{data} }, $charge;
	return;
}

sub settle_charge
{
	my ($self, $o, %members) = @_;
	my $charge = $self->last_charge($o);

	@$charge{ keys %members } = values %members;
	return;
}

# The steps of an order from where it is.
sub order_steps
{
	my ($self, $o) = @_;
	my $word = sub { $self->change("order.$_[0]", $o, payment_status => $_[1] // $_[0]) };
	my $paid = sub {
		my $again = ($o->{payment_status} || '') =~ /^(pending_payment|pre_authorized|under_fraud_review|expired)$/;

		$self->add_charge($o) unless $again;
		$self->settle_charge($o, status => 'paid', paid_at => $self->now, failure_code => undef);
		$word->('paid');
	};
	my $declined = sub {
		$self->add_charge($o, status => 'declined', failure_code => $self->pick('insufficient_funds', 'expired_card', undef));
		$word->('declined');
	};
	my $cash = sub {
		$self->add_charge($o, status => 'pending_payment',
			payment_method => { object => 'cash_payment', type => 'cash', reference => '9300' . $self->between(1000, 9999), barcode_url => 'https://bar.example/1', expires_at => $self->now + 86400 });
		$word->('pending_payment');
	};
	my $authorized = sub { $self->add_charge($o, status => 'pre_authorized', monthly_installments => $self->pick(undef, 3)); $word->('pre_authorized') };
	my $review = sub { $self->add_charge($o, status => 'under_fraud_review'); $word->('under_fraud_review') };
	my $expired = sub { $self->settle_charge($o, status => 'expired'); $word->('expired') };
	my %steps = (
		new => [ $paid, $declined, $cash, $authorized, $review, sub { $word->('canceled') } ],
		declined => [ $paid, $paid, $declined, $cash ],
		pending_payment => [ $paid, $expired ],
		pre_authorized => [ $paid, sub { $self->settle_charge($o, status => 'voided'); $word->('voided') } ],
		under_fraud_review => [ $paid, sub { $self->settle_charge($o, status => 'fraudulent'); $word->('fraudulent') } ],
		# the customer paid the voucher when its time was over
		expired => [ $self->chance(0.3) ? $paid : () ],
		paid => [ $self->chance(0.2) ? (sub { $self->settle_charge($o, fee => $self->pick(145, 190)); $self->tell('order.updated', $o) }) : () ],
	);

	return @{ $steps{ $o->{payment_status} // 'new' } || [] };
}

# The first one we made, the second one is paid on a page of ours.
sub order
{
	my ($self, $number) = @_;
	my $o = {
		id => $self->new_id('ord_'), object => 'order', livemode => $false, amount => 5000, amount_refunded => 0, currency => 'MXN', payment_status => undef,
		customer_info => { customer_id => $self->customer_id(1 + $number % 5), name => 'C' }, metadata => {}, charges => { object => 'list', data => [] },
	};
	my $born;

	if ($number == 1)
	{
		$o->{metadata} = { janua_ref => 'REF:payment1' };
		$o->{customer_info}{customer_id} = $self->customer_id(1);
	}
	if ($number == 2)
	{
		$o->{metadata} = { janua_ref => 'REF:checkout1_payment', janua_session => 'REF:checkout1' };
		$o->{customer_info}{customer_id} = $self->customer_id(2);
		$o->{amount} = 7000;
		$o->{checkout} = { id => $self->new_uuid, object => 'checkout', type => 'HostedPayment', status => 'Issued', url => 'https://pay.example/1', expires_at => $self->now + 86400 };
	}
	push @{ $self->{orders} }, $o;
	$self->add_object(sub {
		return sub { $born = 1; $o->{created_at} = $self->now; $self->tell('order.created', $o) }
		  unless $born;
		return $self->order_steps($o);
	});
}

sub refundable
{
	my ($self, $amount) = @_;
	my ($o) = $self->shuffled(grep { ($_->{payment_status} || '') =~ /^(paid|partially_refunded)$/ && $_->{amount} - ($self->{back}{ $_->{id} } || 0) >= $amount } @{ $self->{orders} });

	return $o;
}

# The order counts what was given back, and its state follows.
sub tell_refund
{
	my ($self, $o) = @_;
	my $sum = 0;

	$sum -= $_->{amount} foreach grep { ($_->{status} || '') eq 'refunded' } @{ $self->last_charge($o)->{refunds}{data} };
	my $state = $sum == 0 ? 'paid' : $sum >= $o->{amount} ? 'refunded' : 'partially_refunded';
	@$o{qw(amount_refunded payment_status)} = ($sum, $state);
	$self->last_charge($o)->{status} = $state;
	return $self->tell($state eq 'paid' ? 'order.updated' : "order.$state", $o) if $self->chance(0.5);
	$self->tell('charge.refunded', $self->last_charge($o));
	return $self->tell($state eq 'paid' ? 'order.updated' : "order.$state", $o);
}

sub refund
{
	my ($self) = @_;
	my $amount = $self->pick(1000, 2000, 5000);
	my ($o, $r);

	$self->add_object(sub {
		if ($r)
		{
			return () if $r->{status} ne 'pending';
			return (
				sub { $r->{status} = 'refunded'; $self->tell_refund($o) },
				sub { $r->{status} = 'expired'; $self->{back}{ $o->{id} } -= $amount; $self->tell_refund($o) });
		}
		$o = $self->refundable($amount);
		return () unless $o;
		return sub {
			$self->{back}{ $o->{id} } += $amount;
			$r = { id => $self->new_id(''), object => 'refund', amount => -$amount, status => $self->pick('pending', 'refunded'), created_at => $self->now, auth_code => '1' };
			push @{ $self->last_charge($o)->{refunds}{data} }, $r;
			$self->tell_refund($o);
		};
	});
}

sub chargeback
{
	my ($self) = @_;
	my ($o, $c);
	my $move = sub {
		my ($type, $status) = @_;

		$c->{status} = $status;
		$self->last_charge($o)->{status} = $status eq 'won' ? 'paid' : 'charged_back';
		$o->{payment_status} = $status eq 'won' ? 'paid' : 'charged_back';
		$self->tell("charge.chargeback.$type", $self->last_charge($o));
		$self->tell($status eq 'won' ? 'order.updated' : 'order.charged_back', $o);
	};
	my %steps = (
		action_required => [ sub { $move->('under_review', 'represented') }, sub { $move->('lost', 'lost') } ],
		represented => [ sub { $move->('won', 'won') }, sub { $move->('lost', 'lost') }, sub { $move->('updated', 'rt') } ],
		rt => [ sub { $move->('lost', 'lost') }, sub { $move->('won', 'covered') } ],
	);

	$self->add_object(sub {
		return @{ $steps{ $c->{status} } || [] } if $c;
		($o) = $self->shuffled(grep { ($_->{payment_status} || '') eq 'paid' && !$self->{back}{ $_->{id} } } @{ $self->{orders} });
		return () unless $o;
		return sub {
			$self->{back}{ $o->{id} } = $o->{amount};
			$c = { id => $self->new_id('chbk_'), object => 'chargeback', charge_id => $self->last_charge($o)->{id}, reason => 'unrecognized', created_at => $self->now, evidence_due_by => $self->now + 7 * 86400 };
			$self->last_charge($o)->{chargeback} = $c;
			$move->('created', 'action_required');
		};
	});
}

1;

# Random lives of subscriptions that our engine bills, as statements for psql:
# what is sold, who buys it, and what may happen to a subscription in the course
# of years. test/t/071_simulated_life.pl plays them.
#
#   my $lives = JanuaLife->new(seed => 7, days => 1826);
#   $lives->catalogue                  SQL that makes what is sold
#   $lives->life(12)                   the statements of a life, one a line
#   $lives->tried                      how often each kind of action is in them
#
# A statement that may be refused in the state that it meets writes its kind and
# what it returned ("update|0190...") when it took effect, and else an error. The
# years begin at a fixed day, so that a seed repeats a run whenever it is played.
package JanuaLife;

use strict;
use warnings;

# After every day on which a test runs; a clock is never behind the real time.
my $BEGIN = '2035-01-01 00:00:00+00';

my %cards = (good => 'pm_card_visa', bad => 'pm_card_chargeCustomerFail');
my @plans = qw(weekly monthly team metered storage half quarterly twoquarters yearly twoyears tendays threeweeks setup gratis);
my @zones = qw(UTC America/New_York America/Mexico_City Europe/Berlin Asia/Kolkata Pacific/Apia Australia/Lord_Howe America/Sao_Paulo Pacific/Chatham
  Africa/Casablanca America/Havana Asia/Tehran Europe/Dublin America/Santiago Asia/Beirut America/St_Johns);
my @coupons = qw(tenth third half_off off much);
my @metrics = qw(calls pages volume hours files);
# amounts of the catalogue are in hundredths of a dollar
my %currencies = (USD => 1, MXN => 17, JPY => 1.5, KWD => 3);

sub new
{
	my ($class, %option) = @_;

	srand($option{seed});
	return bless { days => 1826, tried => {}, %option }, $class;
}

sub tried { return $_[0]{tried} }

sub one_of { return $_[ int(rand(@_)) ] }
sub chance { return rand() < $_[0] }

# ---- what is sold ----

sub prices_in
{
	my ($currency, $factor) = @_;
	my $amount = sub { return int($_[0] * $factor) };
	my $sql = '';

	for my $plan (
		[ 'weekly', 900, 'week', 1 ], [ 'monthly', 2900, 'month', 1 ], [ 'team', 1999, 'month', 1 ], [ 'metered', 500, 'month', 1 ], [ 'storage', 1500, 'quarter', 1 ],
		[ 'half', 9999, 'month', 6 ], [ 'quarterly', 7777, 'quarter', 1 ], [ 'twoquarters', 15001, 'quarter', 2 ], [ 'yearly', 29000, 'year', 1 ],
		[ 'twoyears', 50001, 'year', 2 ], [ 'tendays', 333, 'day', 10 ], [ 'threeweeks', 2001, 'week', 3 ], [ 'setup', 4000, 'month', 1 ], [ 'gratis', 0, 'month', 1 ])
	{
		my ($name, $price, $interval, $count) = @$plan;
		my $terms = "'$currency', '$interval', $count";

		$price = $amount->($price);
		# the first one makes the plan
		$sql .= $currency eq 'USD' ? "SELECT billing.create_plan('$name', '$name', $price, $terms);\n" : "SELECT billing.create_price('$name', $price, $terms" . ($name eq 'half' ? ", tax_behavior => 'inclusive'" : '') . ");\n";
		next if $price == 0;
		# a version that nobody moves to, one at renewal, one at once
		next unless $name =~ /^(monthly|team|quarterly|tendays|yearly)$/;
		$sql .= "SELECT billing.create_price('$name', $price + $_->[0], $terms, effective_at => '$_->[1]', existing => '$_->[2]');\n"
		  for ([ 11, '2036-05-05 05:05:05+00', 'stay' ], [ 23, '2037-07-17 12:00:00+00', 'renewal' ], [ 47, '2038-09-09 09:09:09+00', 'now' ]);
	}
	my ($a, $b, $c) = map { $amount->($_) } 777, 5000, 99;

	return $sql . <<"SQL";
SELECT billing.create_price('team', $a, '$currency', component => 'seats');
SELECT billing.create_price('setup', $b, '$currency', 'one_time', component => 'installation');
SELECT billing.create_price('setup', currency => '$currency', component => 'seats', model => 'volume', tiers => '[{"up_to": 3, "unit_amount": 300}, {"up_to": null, "unit_amount": 250, "flat_amount": 70}]');
SELECT billing.create_price('metered', currency => '$currency', component => 'calls', metric => 'calls', model => 'graduated',
	tiers => '[{"up_to": 100, "unit_amount": 0}, {"up_to": 1000, "unit_amount": 1.5, "flat_amount": 200}, {"up_to": null, "unit_amount": 0.7}]');
SELECT billing.create_price('metered', currency => '$currency', component => 'pages', metric => 'pages', model => 'package', unit_amount => $c, package_size => 7);
SELECT billing.create_price('metered', currency => '$currency', component => 'hours', metric => 'hours', unit_amount => 3.25, free_units => 10, commitment => 50);
SELECT billing.create_price('storage', currency => '$currency', component => 'volume', metric => 'volume', model => 'percentage', percentage => 2.9, minimum => 30, maximum => 4000, "interval" => 'quarter');
SELECT billing.create_price('storage', currency => '$currency', component => 'files', metric => 'files', model => 'volume', "interval" => 'quarter',
	tiers => '[{"up_to": 500, "unit_amount": 0.5}, {"up_to": null, "unit_amount": 0.25, "flat_amount": 100}]');
SELECT billing.set_add_on_price('support', $a, '$currency', i, n) FROM (VALUES ('month', 1), ('quarter', 1), ('year', 1), ('week', 1)) AS v (i, n);
SELECT billing.create_coupon('off_$currency', amount => $c, currency => '$currency', duration => 'repeating', months => 5),
	billing.create_coupon('much_$currency', amount => $a * 2, currency => '$currency', duration => 'forever');
SQL
}

sub catalogue
{
	my ($self) = @_;

	my %settings = (proration_unit => one_of(qw(second second day)), billing_alignment => one_of(qw(anniversary anniversary calendar)), dunning_end => one_of(qw(unpaid canceled)),
		usage_grace => one_of('1 hour', '1 hour', '0'));

	%settings = (%settings, %{ $self->{settings} || {} });
	return join('', map { "UPDATE billing.settings SET value = '$settings{$_}' WHERE name = '$_';\n" } sort keys %settings) . <<'SQL' . join '', map { prices_in($_, $currencies{$_}) } 'USD', grep { $_ ne 'USD' } sort keys %currencies;
SELECT billing.create_meter(m) FROM unnest(ARRAY['calls', 'pages', 'volume', 'hours', 'files']) AS m;
INSERT INTO billing.features (feature, kind) VALUES ('help', 'boolean');
SELECT billing.create_add_on('support', 'Support', '{"help": true}');
SELECT billing.set_tax_rate('DE', 19, name => 'VAT'), billing.set_tax_rate('MX', 16, name => 'IVA'), billing.set_tax_rate('CA', 8.875, name => 'GST'),
	billing.set_tax_rate('JP', 10, name => 'JCT'), billing.set_tax_rate('FR', 20, name => 'TVA', reverse_charge => true);
SELECT billing.create_coupon('tenth', percent => 10), billing.create_coupon('third', percent => 33.3333, duration => 'once'),
	billing.create_coupon('half_off', percent => 50, duration => 'forever');
SQL
}

# ---- a life, as statements ----

sub attempt
{
	my ($self, $kind, $expression) = @_;

	$self->{tried}{$kind}++;
	return "SELECT '$kind', $expression";
}

sub subscription { return "(SELECT s.id FROM billing.subscriptions AS s WHERE s.organization_id = '$_[0]' ORDER BY s.id DESC LIMIT 1)" }
sub newest { return "(SELECT o.id FROM billing.$_[1] AS o WHERE o.organization_id = '$_[0]'" . (defined $_[2] ? " AND o.$_[2]" : '') . ' ORDER BY o.id DESC LIMIT 1)' }
sub behavior { return one_of(qw(create_prorations create_prorations always_invoice always_invoice none)) }
sub coupon { my ($self) = @_; my $name = one_of(@coupons); return $name =~ /^(off|much)$/ ? "${name}_$self->{currency}" : $name }

# One of the newest twenty events.
sub some_usage { return "(SELECT e.id FROM billing.usage_events AS e WHERE e.organization_id = '$_[0]' AND e.kind = 'usage' ORDER BY e.id DESC LIMIT 1 OFFSET " . int(rand(20)) . ')' }

# What can be done: how often, and how. Each returns a kind and an expression.
my @actions = (
	[ 16, sub { my ($self, $org, $s) = @_; my $b = behavior(); return ("plan $b", "billing.update_subscription($s, plan => '" . one_of(@plans) . "', proration_behavior => '$b')" . ($b eq 'none' ? ", proof.forgo($s, true)" : '')) } ],
	[ 4, sub { my ($self, $org, $s) = @_; return ('plan later', "billing.update_subscription($s, plan => '" . one_of(@plans) . "', effective => 'period_end')") } ],
	[ 12, sub { my ($self, $org, $s) = @_; my $b = behavior(); return ("quantity $b", "billing.update_subscription($s, quantity => " . (1 + int(rand(9))) . ", proration_behavior => '$b')" . ($b eq 'none' ? ", proof.forgo($s, false)" : '')) } ],
	[ 3, sub { my ($self, $org, $s) = @_; return ('quantity later', "billing.update_subscription($s, quantity => " . (1 + int(rand(9))) . ", effective => 'period_end')") } ],
	[ 10, sub { my ($self, $org, $s) = @_; my $b = behavior(); return ("previewed $b", "proof.update_as_previewed($s, " . (chance(0.5) ? "'" . one_of(@plans) . "', NULL" : 'NULL, ' . (1 + int(rand(9)))) . ", '$b')") } ],
	[ 4, sub { my ($self, $org, $s) = @_; return ('change and back', "proof.change_and_back($s, " . (1 + int(rand(9))) . ')') } ],
	[ 3, sub { my ($self, $org, $s) = @_; return ('plan taken back', 'billing.cancel_scheduled_change(' . newest($org, 'scheduled_changes', "state = 'pending'") . ')') } ],
	[ 16, sub { my ($self, $org) = @_; return ('usage', "billing.record_usage('$org', '" . one_of(@metrics) . "', " . int(rand(2000)) . ')') } ],
	[ 5, sub { my ($self, $org) = @_; return ('late usage', "billing.record_usage('$org', '" . one_of(@metrics) . "', " . (1 + int(rand(500))) . ", occurred_at => billing.now('$org') - interval '" . (1 + int(rand(40))) . " days')") } ],
	[ 4, sub { my ($self, $org) = @_; return ('usage void', "billing.void_usage('$org', " . some_usage($org) . ')') } ],
	[ 4, sub { my ($self, $org) = @_; return ('usage corrected', "billing.correct_usage('$org', " . some_usage($org) . ', ' . int(rand(2000)) . ')') } ],
	[ 4, sub { my ($self, $org) = @_; return ('coupon', "billing.apply_coupon('" . $self->coupon . "', organization_id => '$org')") } ],
	[ 4, sub { my ($self, $org) = @_; return ('prepaid credit', "billing.grant_credit('$org', " . (100 + int(rand(5000))) . ", '$self->{currency}', priority => " . int(rand(3)) . (chance(0.4) ? ", expires_at => billing.now('$org') + interval '" . (1 + int(rand(200))) . " days'" : '') . ')') } ],
	[ 3, sub { my ($self, $org) = @_; return ('balance', "billing.adjust_balance('$org', " . (int(rand(3000)) - 500 || 1) . ", 'by hand', '$self->{currency}')") } ],
	[ 8, sub { my ($self, $org) = @_; return ('card', "billing.attach_payment_method(billing.find_customer('$org'), '" . $cards{ chance(0.65) ? 'good' : 'bad' } . "', set_default => true)") } ],
	[ 3, sub { my ($self, $org, $s) = @_; return ('pause', "billing.pause_subscription($s" . (chance(0.3) ? ', at_period_end => true' : '') . (chance(0.4) ? ", resumes_at => billing.now('$org') + interval '" . (1 + int(rand(60))) . " days'" : '') . ')') } ],
	[ 8, sub { my ($self, $org, $s) = @_; return ('resume', "billing.resume_subscription($s)") } ],
	[ 2, sub { my ($self, $org, $s) = @_; return ('cancel at the end', "billing.cancel_subscription($s)") } ],
	[ 2, sub { my ($self, $org, $s) = @_; return ('cancel now', "billing.cancel_subscription($s, at_period_end => false, prorate => " . (chance(0.6) ? 'true' : 'false') . ')') } ],
	[ 2, sub { my ($self, $org, $s) = @_; return ('cancel at', "billing.update_subscription($s, cancel_at => billing.now('$org') + interval '" . (1 + int(rand(100))) . " days')") } ],
	[ 3, sub { my ($self, $org) = @_; return ('refund', 'billing.create_refund(' . newest($org, 'payment_intents', "status = 'succeeded'") . (chance(0.5) ? ', 100' : '') . ')') } ],
	[ 3, sub { my ($self, $org) = @_; return ('credit note', 'billing.create_credit_note(' . newest($org, 'invoices', "status IN ('open', 'paid')") . ', amount => ' . (10 + int(rand(400))) . ')') } ],
	[ 1, sub { my ($self, $org) = @_; return ('dispute', 'billing.sandbox_dispute(' . newest($org, 'payment_intents', "status = 'succeeded'") . ')') } ],
	[ 2, sub { my ($self, $org) = @_; return ('dispute decided', 'billing.sandbox_resolve_dispute(' . newest($org, 'disputes', "status = 'needs_response'") . ", '" . one_of(qw(won lost)) . "')") } ],
	[ 5, sub { my ($self, $org) = @_; return ('marked paid', 'billing.mark_invoice_paid(' . newest($org, 'invoices', "status IN ('open', 'uncollectible')") . ", 'by transfer'" . (chance(0.4) ? ', amount => ' . (1 + int(rand(900))) : '') . ')') } ],
	[ 3, sub { my ($self, $org) = @_; return ('pay by hand', 'billing.pay_invoice(' . newest($org, 'invoices', "status = 'open'") . ($self->{currency} eq 'MXN' && chance(0.7) ? ", method => 'oxxo'" : '') . ')') } ],
	[ 1, sub { my ($self, $org) = @_; return ('void', 'billing.void_invoice(' . newest($org, 'invoices', "status = 'open'") . ')') } ],
	[ 1, sub { my ($self, $org) = @_; return ('uncollectible', 'billing.mark_invoice_uncollectible(' . newest($org, 'invoices', "status = 'open'") . ')') } ],
	[ 3, sub { my ($self, $org) = @_; return ('add-on', "billing.set_add_on('$org', 'support', " . int(rand(4)) . ')') } ],
	[ 2, sub { my ($self, $org, $s) = @_; return ('trial end', "billing.update_subscription($s, trial_end => billing.now('$org') + interval '" . int(rand(20)) . " days')") } ],
	[ 1, sub { my ($self, $org) = @_; return ('tax exempt', "billing.update_customer(billing.find_customer('$org'), '{\"tax_exempt\": \"" . one_of(qw(none exempt reverse)) . "\"}')") } ],
	[ 30, sub { my ($self, $org) = @_; return ('subscribe', $self->subscribing($org)) } ]);
my $weight = 0;
$weight += $_->[0] for @actions;

sub subscribing
{
	my ($self, $org) = @_;

	return "billing.subscribe('$org', '" . one_of(@plans) . "', managed_by => 'local', currency => '$self->{currency}', quantity => " . (1 + int(rand(5)))
	  . (chance(0.3) ? ', trial_days => ' . one_of(3, 7, 14, 30) . ", trial_end_behavior => '" . one_of(qw(cancel pause create_invoice)) . "'" : '')
	  . (chance(0.15) ? ", coupon => '" . $self->coupon . "'" : '')
	  . (chance(0.15) ? ", collection_method => 'send_invoice', days_until_due => " . int(rand(40)) : '')
	  . (chance(0.15) ? ", billing_anchor => date_trunc('month', billing.now('$org'))" : '') . ')';
}

sub action
{
	my ($self, $org) = @_;
	my $roll = rand($weight);

	for my $action (@actions)
	{
		$roll -= $action->[0];
		next if $roll >= 0;
		return $self->attempt($action->[1]->($self, $org, subscription($org)));
	}
}

# Time goes on: by chance with what is told before it compared with what comes.
sub time_passes
{
	my ($self, $org, $days) = @_;
	my $roll = rand();

	return ("SELECT proof.foresee_invoice('$org')", "CALL billing.set_clock('$org', proof.seen_at('$org'))", "SELECT proof.compare('$org')") if $roll < 0.1;
	return ("SELECT proof.foresee_life('$org', interval '$days days')", "CALL billing.set_clock('$org', proof.seen_at('$org'))", "SELECT proof.compare('$org')") if $roll < 0.15;
	# into the hour in which the invoice of a period waits for late usage
	return "CALL billing.set_clock('$org', proof.within_grace('$org', interval '$days days'))" if $roll < 0.25;
	return "CALL billing.advance_clock('$org', '$days days " . int(rand(86400)) . " seconds')";
}

sub life
{
	my ($self, $n) = @_;
	my $org = "life$n";
	my $day = 0;

	$self->{currency} = one_of(qw(USD USD MXN JPY KWD));
	my @steps = (
		"SELECT billing.create_customer('$org', '$org\@example.com', 'Life', '" . one_of(qw(DE MX CA US JP FR)) . "', currency => '$self->{currency}', timezone => '" . one_of(@zones)
		  . "', provider => 'sandbox', tax_exempt => '" . one_of(qw(none none none none exempt reverse)) . "')",
		chance(0.9) ? "SELECT billing.attach_payment_method(billing.find_customer('$org'), '" . $cards{ chance(0.85) ? 'good' : 'bad' } . "', set_default => true)" : (),
		'CALL billing.run_worker()',
		"CALL billing.set_clock('$org', timestamptz '$BEGIN' + interval '" . int(rand(800 * 86400)) . " seconds')",
		$self->attempt('subscribe', $self->subscribing($org)));

	while ($day < $self->{days})
	{
		my $by = 1 + int(rand(one_of(3, 20, 90, 150)));

		push @steps, $self->time_passes($org, $by);
		push @steps, $self->action($org) while chance(0.6);
		$day += $by;
	}
	return map { "$_;\n" } @steps, "CALL billing.advance_clock('$org', '2 hours')";
}

1;

# docs/providers.md says what each provider can do; here every cell of its
# tables is compared with what the extension says itself.
#
# A hint is told in its short form: up to the first colon or semicolon.
use strict;
use warnings;
use utf8;

use Encode qw(decode_utf8 encode_utf8);
use File::Basename qw(dirname);
use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main');
my $url = $simulator->url;
my ($key) = grep { $_->{active} } @{ $simulator->control('signing_keys?provider=conekta') };

sub sql { return decode_utf8($node->safe_psql('postgres', encode_utf8($_[0]))) }

sub short
{
	my ($hint) = @_;

	$hint =~ s/[:;] .*//s;
	$hint =~ s/\.$//;
	return $hint;
}

# ---- the document ----

# The rows of the tables under a heading: lists of cells.
sub table
{
	my ($document, $heading) = @_;
	my ($section) = $document =~ /^#+ \Q$heading\E\n(.*?)(?=^#|\z)/ms or die "docs/providers.md has no heading $heading";
	my @rows = map { [ split /\s*\|\s*/, $_ =~ s/^\|\s*//r ] } grep { /^\|/ && !/^\|-/ } split /\n/, $section;

	shift @rows;
	return @rows;
}

my $path = dirname(__FILE__) . '/../../docs/providers.md';
my $document = decode_utf8(slurp_file($path));

# ---- operations ----

my %WORDS = (supported => 'yes', emulated => 'by us: ', refused => 'no: ');
my @PROVIDERS = qw(stripe conekta polar sandbox);
my (%can, @operations);

foreach my $line (split /\n/, sql('SELECT provider, operation, support, hint FROM billing.provider_capabilities()'))
{
	my ($provider, $operation, $support, $hint) = split /\|/, $line, 4;

	push @operations, $operation unless grep { $_ eq $operation } @operations;
	$can{$provider}{$operation} = $WORDS{$support} . short($hint);
}
my @rows = table($document, 'What each provider does');
is_deeply([ map { $_->[0] } @rows ], \@operations, 'the table has every operation, in order');
foreach my $row (@rows)
{
	my ($operation, $function, @cells) = @$row;

	is($cells[$_], $can{ $PROVIDERS[$_] }{$operation}, "$operation at $PROVIDERS[$_]") foreach 0 .. $#PROVIDERS;
	next if $function =~ /^`UPDATE billing\.(plans|prices)`$/;
	is(sql("SELECT count(*) > 0 FROM pg_proc WHERE pronamespace = 'billing'::regnamespace AND proname = btrim('$function', '`')"), 't', "$function is a function");
}

# ---- arguments ----

sql(<<"SQL");
SELECT billing.configure_provider('stripe', 'sk_test_x', 'whsec_simulator_test_secret', base_url => '$url', options => '{"rate_per_second": 0}');
SELECT billing.configure_provider('conekta', 'key_test', '$key->{public_key}', base_url => '$url/conekta', options => '{"sandbox": true, "rate_per_second": 0}');
SELECT billing.configure_provider('polar', 'polar_oat_test', 'polar_whs_SimulatorTestSecret0123456789abcdef', base_url => '$url/polar',
	options => '{"sandbox": true, "rate_per_second": 0, "product_id": "00000000-0000-4000-8000-000000000000"}');
SELECT billing.create_price('pro', 49900, 'MXN');
SELECT billing.create_plan('team', 'Team', 9900, 'USD');
SELECT billing.create_price('team', 149900, 'MXN');
SELECT billing.create_plan('daily', 'Daily', 1900, 'MXN', 'day');
SQL

my $provider;
my %value;

sub act { return $simulator->control('act', { provider => $provider, @_ }) }

sub at { return sql("SELECT provider_id FROM billing.provider_refs WHERE object_id = '$_[0]' AND object_type = '$_[1]' AND provider = '$provider'") }

# A customer of the provider, subscribed; and one that has nothing yet.
sub prepare
{
	my ($currency, $subscribed) = @_;
	my $terms = "'\@example.com', 'Ana', phone => '+525512345678', currency => '$currency', provider => '$provider'";

	$value{customer} = sql("SELECT billing.create_customer('${provider}_acme', 'a' || $terms)");
	$value{subscriber} = sql("SELECT billing.create_customer('${provider}_other', 'b' || $terms)");
	is(sql("SELECT billing.await('$value{$_}', '60 seconds')"), 'active', "a customer of $provider") foreach 'customer', 'subscriber';
	$value{subscription} = sql("SELECT billing.subscribe('${provider}_other', 'pro', $subscribed)");
	$value{payment} = sql("SELECT billing.create_payment_intent('$value{subscriber}', 5000, '$currency', provider => '$provider')");
}

sub prepare_stripe
{
	prepare('USD', "'pm_card_visa'");
	my $paid = sql("SELECT billing.create_payment_intent('$value{subscriber}', 5000, 'USD', payment_method => 'pm_card_visa')");
	sql("SELECT billing.await('$paid', '60 seconds')");
	act(action => 'dispute', payment_intent => at($paid, 'payment_intent'));
	hand_over($node, $simulator);
	$value{dispute} = sql("SELECT id FROM billing.disputes WHERE payment_intent_id = '$paid'");
}

sub prepare_conekta { prepare('MXN', "'tok_test_visa_4242'") }

# What is paid begins in a checkout.
sub prepare_polar
{
	prepare('USD', "success_url => 'https://a.example'");
	my $page = sql("SELECT id FROM billing.checkout_sessions WHERE subscription_id = '$value{subscription}'");
	sql("SELECT billing.await('$page', '60 seconds')");
	act(action => 'complete_checkout', checkout => at($page, 'checkout_session'));
	hand_over($node, $simulator);
}

# The call as the document has it, for these objects; the provider is named where that can be done.
sub filled_in
{
	my ($call) = @_;

	$call =~ s/:(\w+)\b/'$value{$1}'/g;
	$call =~ s/'acme'/'${provider}_acme'/;
	$call =~ s/\)$/, provider => '$provider')/ if $call =~ /^(attach_payment_method|create_\w+)\(/;
	return "SELECT billing.$call;";
}

# What is said of each call: its SQLSTATE and the short form of its hint.
sub answers
{
	my @calls = @_;
	my $script = join '', "\\set VERBOSITY verbose\n", map { filled_in($_) . "\n\\warn ---\n" } @calls;
	my (undef, undef, $errors) = $node->psql('postgres', encode_utf8($script), on_error_stop => 0);

	return map {
		my ($code) = /ERROR:  (\w{5}):/;
		my ($hint) = /^HINT:  (.*)$/m;
		($code || 'nothing') . ' ' . short($hint || '');
	} split /^---\n/m, decode_utf8($errors);
}

sub check_refusals
{
	my ($heading) = @_;
	my @refused = table($document, $heading);
	my @answers = answers(map { $_->[0] =~ s/^`|`$//gr } @refused);

	is($answers[$_], "JB004 $refused[$_][1]", "$provider: $refused[$_][0]") foreach 0 .. $#refused;
}

foreach my $case ([ 'Stripe', \&prepare_stripe ], [ 'Conekta', \&prepare_conekta ], [ 'Polar', \&prepare_polar ])
{
	my ($name, $prepare) = @$case;

	($provider, %value) = lc $name;
	$prepare->();
	is(sql("SELECT billing.await('$value{subscription}', '60 seconds')"), 'active', "a subscription at $provider");
	check_refusals("Arguments that $name has no place for");
}
sql(q(SELECT billing.configure_provider('polar', options => '{"product_id": null}')));
check_refusals('Without the option product_id');

done_testing();

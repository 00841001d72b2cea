# verify_webhook against signatures that are not ours: every vector and every
# refusal of the documents, at a clock that is moved to the second; and random
# bodies that the providers' own packages signed, each bent by one byte.
#
# JANUA_SEED=N repeats a run. The one refusal that SQL cannot show is P3 judged by
# key (a) alone, as verify_webhook tries both: test/unit/test_signature.c has it.
use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use FindBin;
use JanuaTest;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $test = "$FindBin::RealBin/..";
my $directory = PostgreSQL::Test::Utils::tempdir();
my $json = JSON::PP->new->utf8->canonical;
my $true = JSON::PP::true;
my $false = JSON::PP::false;

sub compile
{
	my ($target, @arguments) = @_;

	system_or_bail($ENV{CC} || 'gcc', '-std=c11', '-Wall', '-Wextra', '-Werror', '-O1', '-o', "$directory/$target", @arguments);
	return "$directory/$target";
}

# ---------------------------------------------------------------------------
# A server whose backends can have another time

my $clock = compile('moved_clock.so', '-shared', '-fPIC', "$test/perl/moved_clock.c");
my $node = new_node('main', start => 0, preload => 0);
{
	local $ENV{LD_PRELOAD} = $clock;
	local $ENV{MOVED_CLOCK} = $directory;
	$node->start;
}
create_extension($node, 'postgres');
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE cases (
	no integer GENERATED ALWAYS AS IDENTITY, what text, provider text, account text, clock bigint, body bytea, is_text boolean, headers jsonb,
	expected boolean, as_bytes text, as_text text);

-- This session's clock stands at so many seconds since 1970; NULL: it runs.
CREATE FUNCTION move_clock(seconds bigint) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	EXECUTE format('COPY (SELECT %L::bigint WHERE %1$L IS NOT NULL) TO %L', seconds, current_setting('test.directory') || '/' || pg_backend_pid());
END
$$;

CREATE FUNCTION verified(one cases, as_text boolean) RETURNS text
LANGUAGE plpgsql
AS $$
BEGIN
	IF as_text THEN
		RETURN billing.verify_webhook(one.provider, convert_from(one.body, 'UTF8'), one.headers, one.account);
	END IF;
	RETURN billing.verify_webhook(one.provider, one.body, one.headers, one.account);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;

CREATE FUNCTION judge() RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	one cases;
BEGIN
	FOR one IN SELECT * FROM cases LOOP
		PERFORM move_clock(one.clock);
		UPDATE cases AS c SET as_bytes = verified(one, false), as_text = CASE WHEN one.is_text THEN verified(one, true) END WHERE c.no = one.no;
	END LOOP;
	PERFORM move_clock(NULL);
END
$$;
SQL
$node->append_conf('postgresql.conf', "test.directory = '$directory'");
$node->reload;

my $files = 0;

# Makes the accounts and has every case judged. The data are in a file, or given
# to be written to one. Returns the cases with what was said; of those that are
# not as expected also headers and body.
sub judge
{
	my ($data, $before) = @_;
	my $file = ref $data ? "$directory/data" . $files++ : $data;

	append_to_file($file, $json->encode($data)) if ref $data;
	$before //= '';
	return $json->decode($node->safe_psql('postgres', <<"SQL"));
\\o /dev/null
SELECT billing.configure_provider(a ->> 'provider',
	CASE a ->> 'provider' WHEN 'stripe' THEN 'sk_test_' WHEN 'conekta' THEN 'key_' ELSE 'polar_oat_' END || md5(a ->> 'account'), s.secret,
	account => a ->> 'account', base_url => 'http://127.0.0.1:9',
	options => CASE a ->> 'provider' WHEN 'stripe' THEN '{}' ELSE '{"sandbox": true}' END::jsonb)
FROM jsonb_array_elements(pg_read_file('$file')::jsonb -> 'accounts') AS a
CROSS JOIN LATERAL jsonb_array_elements_text(a -> 'secrets') WITH ORDINALITY AS s (secret, n)
ORDER BY a ->> 'account', s.n;
$before;
TRUNCATE cases;
INSERT INTO cases (what, provider, account, clock, body, is_text, headers, expected)
SELECT c.what, c.provider, c.account, c.clock, decode(c.body, 'hex'), c.text, c.headers, c.expected
FROM jsonb_to_recordset(pg_read_file('$file')::jsonb -> 'cases')
	AS c (what text, provider text, account text, clock bigint, body text, text boolean, headers jsonb, expected boolean);
SELECT judge();
\\o
SELECT json_agg(json_build_object('what', what, 'provider', provider, 'expected', expected, 'is_text', is_text, 'right', r.yes,
	'said', CASE WHEN NOT r.yes THEN format('as bytes: %s, as text: %s, at %s, headers %s, body %s', as_bytes, as_text, clock, headers, left(body::text, 4000)) END) ORDER BY no)
FROM cases
CROSS JOIN LATERAL (SELECT as_bytes = expected::text AND (NOT is_text OR as_text = expected::text)) AS r (yes);
SQL
}

# ---------------------------------------------------------------------------
# The documented vectors and refusals

my $print = compile('print_vectors', "$test/unit/print_vectors.c");
my %vector;
foreach my $line (split /\n/, `$print`)
{
	my ($provider, @field) = split /\t/, $line;
	my ($name, $secret, $t, $body, $signature, $id) = map { pack 'H*', $_ } @field;

	$vector{$name} = { provider => $provider, secret => $secret, t => $t, body => $body, signature => $signature, id => $id, account => lc $name };
}
is(join(' ', sort keys %vector), 'C1 C2 C3 CN1 CN2 CN3 P1 P2 P3 P4 P5 S1 S2 S3', 'every vector of the documents is there');

my @accounts = map { { provider => $_->{provider}, account => $_->{account}, secrets => [ $_->{secret} ] } } values %vector;
push @accounts,
  { provider => 'stripe', account => 'other', secrets => ['whsec_other'] },
  { provider => 'polar', account => 'short', secrets => [ $vector{P1}{secret} =~ s/^polar_whs_//r ] };

my @cases;

# One case: a vector, bent by what is named.
sub vector
{
	my ($what, $name, $expected, %bent) = @_;
	my %v = (%{ $vector{$name} }, at => 5, %bent);
	my %headers =
		$v{provider} eq 'stripe' ? ('Stripe-Signature' => $v{signature})
	  : $v{provider} eq 'polar'  ? ('webhook-id' => $v{id}, 'webhook-timestamp' => $v{timestamp} // $v{t}, 'webhook-signature' => $v{signature})
	  :                            (Digest => $v{signature});

	delete $headers{ $v{without} } if $v{without};
	push @cases, {
		what => "$name: $what", provider => $v{provider}, account => $v{account}, clock => $vector{$name}{t} + $v{at},
		body => unpack('H*', $v{body}), text => $true, headers => \%headers, expected => $expected ? $true : $false };
}

vector('accepted', $_, 1) foreach qw(S1 S2 S3 P1 P2 P3 P4 P5 C1 C2 C3);

my ($t, $v1) = ($vector{S1}{t}, $vector{S1}{signature} =~ /v1=(\w+)/);
vector('body and one space', 'S1', 0, body => "$vector{S1}{body} ");
vector('another secret', 'S1', 0, account => 'other');
vector('another time', 'S1', 0, signature => 't=' . ($t + 1) . ",v1=$v1");
vector('300 seconds old', 'S1', 1, at => 300);
vector('301 seconds old', 'S1', 0, at => 301);
vector('300 seconds ahead', 'S1', 1, at => -300);
vector('301 seconds ahead', 'S1', 0, at => -301);
vector('v0 in place of v1', 'S1', 0, signature => "t=$t,v0=$v1");
vector('no time', 'S1', 0, signature => "v1=$v1");
vector('a time that is no number', 'S1', 0, signature => "t=abc,v1=$v1");
vector('upper-case digits', 'S1', 0, signature => "t=$t,v1=" . uc $v1);
vector('cut to 62 characters', 'S1', 0, signature => "t=$t,v1=" . substr($v1, 0, 62));
vector('an empty header', 'S1', 0, signature => '');
vector('no header', 'S1', 0, without => 'Stripe-Signature');
vector('a space between the parts', 'S1', 0, signature => "t=$t, v1=$v1");
vector('another v1 before it, a v0 behind it', 'S1', 1, signature => "t=$t,v1=" . '0' x 64 . ",v1=$v1,v0=ff");
vector('the last of two times counts', 'S1', 1, signature => "t=1,t=$t,v1=$v1");

my $good = $vector{P1}{signature};
vector('body and one space', 'P1', 0, body => "$vector{P1}{body} ");
vector('another id', 'P1', 0, id => 'msg_x');
vector('another time', 'P1', 0, timestamp => $vector{P1}{t} + 1);
vector('300 seconds old', 'P1', 1, at => 300);
vector('301 seconds old', 'P1', 0, at => 301);
vector('301 seconds ahead', 'P1', 0, at => -301);
vector('the label v1a', 'P1', 0, signature => $good =~ s/^v1,/v1a,/r);
vector("no header $_", 'P1', 0, without => $_) foreach qw(webhook-id webhook-timestamp webhook-signature);
vector('a time that is no number', 'P1', 0, timestamp => 'abc');
vector('the secret without polar_whs_', 'P1', 0, account => 'short');
vector('another signature before it', 'P1', 1, signature => "v1,AAAA $good");

vector('body and a newline', 'C1', 0, body => "$vector{C1}{body}\n");
vector('the signature of another key', 'C1', 0, signature => $vector{CN1}{signature});
vector('SHA-1', 'C1', 0, signature => $vector{CN2}{signature});
vector('PSS padding', 'C1', 0, signature => $vector{CN3}{signature});
vector('cut by four characters', 'C1', 0, signature => substr($vector{C1}{signature}, 0, -4));
vector('an empty header', 'C1', 0, signature => '');
vector('no header', 'C1', 0, without => 'Digest');
vector('the hash of the body', 'C1', 0, signature => sha256_hex($vector{C1}{body}));
vector('the signature of another body', 'C1', 0, signature => $vector{C2}{signature});

foreach my $case (@{ judge({ accounts => \@accounts, cases => \@cases }) })
{
	ok($case->{right}, ($case->{expected} ? 'accepted: ' : 'refused: ') . $case->{what}) or diag($case->{said});
}

# a day ahead, as Stripe's own package has it, when the setting allows it
@cases = ();
vector('a day ahead, when the setting allows it', 'S1', 1, at => -86400);
vector('301 seconds old all the same', 'S1', 0, at => 301);
foreach my $case (@{ judge({ accounts => [], cases => \@cases }, q{UPDATE billing.settings SET value = '2 days' WHERE name = 'webhook_tolerance_future'}) })
{
	ok($case->{right}, ($case->{expected} ? 'accepted: ' : 'refused: ') . $case->{what}) or diag($case->{said});
}
$node->safe_psql('postgres', q{UPDATE billing.settings SET value = '300 seconds' WHERE name = 'webhook_tolerance_future'});

my (undef, undef, $errors) = $node->psql('postgres', q{SELECT billing.configure_provider('stripe', webhook_secret => '', account => 's1')});
like($errors, qr/webhook_secret is blank/, 'an empty secret is refused');
$node->safe_psql('postgres', q{SELECT billing.configure_provider('stripe', 'sk_test_none', account => 'none', base_url => 'http://127.0.0.1:9')});
(undef, undef, $errors) = $node->psql('postgres', q{\set VERBOSITY sqlstate
SELECT billing.verify_webhook('stripe', '{}'::text, '{"Stripe-Signature": "t=1,v1="}', 'none')});
like($errors, qr/JB006/, 'and without a secret nothing is verified');

# ---------------------------------------------------------------------------
# Random bodies

my $seed = $ENV{JANUA_SEED} || 1 + int rand 1_000_000;
my $count = 40;
my $node_program = $ENV{JANUA_NODE} || 'node';

note("JANUA_SEED=$seed");
run_log([ $node_program, "$ENV{JANUA_SIMULATOR}/sign_random.js", $seed, $count, time ], '>', "$directory/random.json") or BAIL_OUT('sign_random.js failed');
my $random = judge("$directory/random.json");
my %kinds;
push @{ $kinds{"$_->{provider}: $_->{what}"} }, $_ foreach @$random;
foreach my $kind (sort keys %kinds)
{
	my @wrong = grep { !$_->{right} } @{ $kinds{$kind} };

	is(scalar @wrong, 0, sprintf('%d %s, %s', scalar @{ $kinds{$kind} }, $kinds{$kind}[0]{expected} ? 'accepted' : 'refused', $kind))
	  or diag("JANUA_SEED=$seed; $wrong[0]{said}");
}
cmp_ok(scalar(grep { $_->{expected} } @$random), '>', 8 * $count, 'there were right ones');
cmp_ok(scalar(grep { !$_->{is_text} } @$random), '>', 0, 'and bytes that are no text');
is($node->safe_psql('postgres', 'SELECT count(*) FROM billing.webhook_events'), '0', 'nothing is stored by verifying');

done_testing();

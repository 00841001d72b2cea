# The web handlers of docs/webhooks.md, as they stand there, against real HTTP
# requests; and the other code of that guide: roles, reading of events, the
# trigger that provides what was paid.
use strict;
use warnings;

use Digest::SHA qw(hmac_sha256 hmac_sha256_hex);
use Encode ();
use FindBin;
use HTTP::Tiny ();
use IO::Socket::INET ();
use IPC::Run ();
use JanuaTest;
use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $polar_secret = 'polar_whs_HandlerSecret0123456789abcdefghi';
my $guide = slurp_file("$FindBin::RealBin/../../docs/webhooks.md");
my $json = JSON::PP->new->utf8->canonical;
my $web = HTTP::Tiny->new(timeout => 60);

# The fenced blocks of a language below a heading.
sub blocks
{
	my ($heading, $language) = @_;
	my ($section) = $guide =~ /^##+ \Q$heading\E$(.*?)(?=^##+ |\z)/ms or die "docs/webhooks.md has no \"$heading\"";

	return $section =~ /^```\Q$language\E\n(.*?)^```$/msg;
}

# ---------------------------------------------------------------------------
# Requests

sub stripe_signature
{
	my ($body, %option) = @_;
	my $t = $option{at} // time;

	return "t=$t,v1=" . hmac_sha256_hex("$t.$body", $option{secret} // 'whsec_handlers');
}

# An event of Stripe as its bytes.
sub event
{
	my ($id, $type, $object) = @_;

	return $json->encode({
		id => $id, object => 'event', type => $type, created => time - 10, livemode => JSON::PP::false,
		data => { object => $object } });
}

sub post
{
	my ($url, $provider, $body, %headers) = @_;
	my $answer = $web->post("$url/webhooks/$provider", { content => $body, headers => { 'Content-Type' => 'application/json', %headers } });

	diag($answer->{content}) if $answer->{status} == 599;
	return $answer->{status};
}

sub deliver
{
	my ($url, $body, %option) = @_;

	return post($url, 'stripe', $body, 'Stripe-Signature' => stripe_signature($body, %option));
}

# ---------------------------------------------------------------------------
# The server, with roles and trigger as the guide says

my $node = new_node('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub stored { return sql("SELECT count(*) FROM billing.webhook_events WHERE event_id LIKE '$_[0]'") }
sub status { return sql("SELECT state FROM billing.webhook_events WHERE event_id = '$_[0]'") }
sub bytes_of { return sql("SELECT convert_to(billing.decrypt(raw_body, 'webhook_events.raw_body', id), 'UTF8') FROM billing.webhook_events WHERE event_id = '$_[0]'") }

my ($role) = blocks('What a web handler does', 'sql');
sql($role);
# less patience than in the guide
sql(q{ALTER ROLE web_handler SET statement_timeout = '3s'});
# nobody is there: what counts here is what comes in
sql("SELECT billing.configure_provider('stripe', 'sk_test_x', 'whsec_handlers', base_url => 'http://127.0.0.1:9')");
sql("SELECT billing.configure_provider('polar', 'polar_oat_x', '$polar_secret', base_url => 'http://127.0.0.1:9', options => '{\"sandbox\": true}')");

my @trigger = blocks('Triggers on our tables', 'sql');
is(scalar @trigger, 2, 'the example of a trigger has a table, and the rest');
sql($_) foreach @trigger;

my ($postgrest) = blocks('Without an application server: PostgREST', 'sql');
sql($postgrest);
is(sql(q{SELECT has_function_privilege('webhook_caller', 'billing_webhooks.stripe_webhook(json)', 'EXECUTE')
	AND pg_has_role('webhook_postgrest', 'webhook_caller', 'SET')}), 't', 'the roles for PostgREST have what they need')
  if $node->pg_version >= 16;
my ($configuration) = blocks('Without an application server: PostgREST', 'ini');
my ($schemas, $anonymous) = map { $configuration =~ /^db-$_ = "(\w+)"$/m } qw(schemas anon-role);
is(sql("SELECT has_schema_privilege('$anonymous', '$schemas', 'USAGE')"), 't', 'and its configuration names them');
foreach my $call ($guide =~ m{https://hooks\.app\.example/rpc/(\w+)}g)
{
	is(sql("SELECT count(*) FROM pg_proc WHERE proname = '$call' AND pronamespace = '$schemas'::regnamespace"), '1', "$call is there");
}

# ---------------------------------------------------------------------------
# The handlers as children; they end with the test.

my %running;

sub start_handler
{
	my ($name, $command, %environment) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $log = "$PostgreSQL::Test::Utils::log_path/051_handlers_$name.log";

	local %ENV = (%ENV, %environment, PORT => $port, PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'web_handler', PGDATABASE => 'postgres');
	$running{$name} = IPC::Run::start([ map { s/PORT/$port/r } @$command ], '<', \undef, '>', $log, '2>&1');
	poll_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Proto => 'tcp') || !$running{$name}->pumpable && die("$name ended; see $log") }, "$name listens")
	  or die "$name does not listen; see $log";
	return "http://127.0.0.1:$port";
}

END
{
	local $?;
	IPC::Run::kill_kill($_, grace => 5) foreach values %running;
}

# The Python that has both modules: the distribution's, when another one comes first in PATH.
my ($python) = grep { system("$_ -c 'import flask, psycopg' >/dev/null 2>&1") == 0 } qw(python3 /usr/bin/python3)
  or die 'no python3 with flask and psycopg; run tools/setup test';

my $directory = PostgreSQL::Test::Utils::tempdir();
my ($express) = blocks('Express', 'js');
my ($flask) = blocks('Flask', 'python');
append_to_file("$directory/express_handler.js", $express);
append_to_file("$directory/flask_handler.py", $flask);

my %url = (
	express => start_handler('express', [ $ENV{JANUA_NODE} || 'node', "$directory/express_handler.js" ], NODE_PATH => "$ENV{JANUA_SIMULATOR}/node_modules"),
	flask => start_handler('flask',
		[ $python, '-m', 'flask', '--app', "$directory/flask_handler.py", 'run', '--host', '127.0.0.1', '--port', 'PORT' ],
		PYTHONDONTWRITEBYTECODE => 1));

foreach my $name (sort keys %url)
{
	my $url = $url{$name};
	my $customer = sql("SELECT billing.create_customer('$name', provider => 'stripe')");
	my $body;

	note($name);

	# ---- taken ----
	$body = event("evt_${name}_1", 'customer.updated', { object => 'customer', id => "cus_$name", metadata => { janua_ref => $customer } });
	is(deliver($url, $body), 200, "$name: a good signature is answered 200");
	is(status("evt_${name}_1"), 'applied', "$name: and the event is there, applied");
	is(sql("SELECT provider_id FROM billing.provider_refs WHERE object_id = '$customer'"), "cus_$name", "$name: with what it says");
	is(deliver($url, $body), 200, "$name: the same once more is answered 200");
	is(stored("evt_${name}_%"), '1', "$name: and stored once");
	is(post($url, 'stripe', $body, 'STRIPE-SIGNATURE' => stripe_signature($body)), 200, "$name: names of headers have no case");

	# ---- bytes ----
	$body = " {\n\t\"id\" : \"evt_${name}_bytes\",  \"object\":\"event\",\"type\":\"product.created\", \"created\": 1.9e9, \"livemode\":false,\r\n"
	  . "\"data\":{\"object\":{\"object\":\"product\",\"id\":\"prod_1\",\"name\":\"Ni\xc3\xb1o \\u00f1 \xe2\x9c\x93 \xf0\x9f\x98\x80 e\xcc\x81 \\ud83d\\ude00 \\/ \x7f\",\"a\":1,\"a\":2}}}\n\n";
	is(deliver($url, $body), 200, "$name: odd spacing, accents, emoji and keys that occur twice keep their signature");
	is(bytes_of("evt_${name}_bytes"), '\x' . unpack('H*', $body), "$name: and their bytes");
	$body = "{\"handler\": \"$name\", \"latin\": \"\xf1\"}";
	is(deliver($url, $body), 200, "$name: a signed body that is no UTF-8 is answered 200");
	is(sql("SELECT state FROM billing.webhook_events WHERE event_id = encode(sha256('\\x" . unpack('H*', $body) . "'), 'hex')"), 'failed', "$name: and kept as failed");

	# ---- another provider ----
	$body = "{\"type\":\"product.created\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"data\":{\"id\":\"$name\"}}";
	my %polar = ('webhook-id' => "msg_$name", 'webhook-timestamp' => time);
	$polar{'webhook-signature'} = 'v1,' . encode_base64(hmac_sha256("$polar{'webhook-id'}.$polar{'webhook-timestamp'}.$body", $polar_secret), '');
	is(post($url, 'polar', $body, %polar), 200, "$name: a webhook of Polar is answered 200");
	is(stored("msg_$name"), '1', "$name: and stored");

	# ---- refused ----
	my $before = stored('%');
	$body = event("evt_${name}_bad", 'product.created', { object => 'product', id => 'prod_1' });
	is(deliver($url, $body, secret => 'whsec_other'), 400, "$name: another secret is answered 400");
	is(post($url, 'stripe', "$body ", 'Stripe-Signature' => stripe_signature($body)), 400, "$name: so is another body");
	is(post($url, 'stripe', $body), 400, "$name: or no signature");
	is(post($url, 'stripe', ''), 400, "$name: or nothing at all");
	is(post($url, 'polar', $body, 'Stripe-Signature' => stripe_signature($body)), 400, "$name: or the signature of another provider");
	is(deliver($url, $body, at => time - 400), 400, "$name: or one that is too old");
	is(deliver($url, $body, at => time + 400), 400, "$name: or ahead of our clock");
	is(deliver($url, $body . ' ' x 1_048_576), 400, "$name: or a body that is too large");
	is(stored('%'), $before, "$name: nothing of these is stored");
	is(deliver($url, event("evt_${name}_large", 'product.created', { object => 'product', id => 'prod_1', text => 'x' x 900_000 })), 200, "$name: a large one is taken");

	# ---- the database says no ----
	is(post($url, 'paypal', $body, 'Stripe-Signature' => stripe_signature($body)), 500, "$name: an unknown provider is answered 500");
	$body = event("evt_${name}_late", 'product.created', { object => 'product', id => 'prod_1' });
	sql("SELECT billing.revoke_access('web_handler', 'webhook')");
	is(deliver($url, $body), 500, "$name: a role without rights is answered 500");
	sql("SELECT billing.grant_access('web_handler', 'webhook')");
	my $blocker = $node->background_psql('postgres');
	$blocker->query_safe('BEGIN; LOCK TABLE billing.webhook_events IN ACCESS EXCLUSIVE MODE');
	is(deliver($url, $body), 500, "$name: so is a time-out of the statement");
	$blocker->query_safe('ROLLBACK');
	$blocker->quit;
	$node->stop('fast');
	is(deliver($url, $body), 500, "$name: or a server that is down");
	$node->start;
	is(stored("evt_${name}_late"), '0', "$name: nothing is stored of that either");
	is(deliver($url, $body), 200, "$name: when the server is back it is answered 200");
	is(stored("evt_${name}_late"), '1', "$name: and is there");

	# ---- a trigger in the same transaction ----
	my %invoice = (
		object => 'invoice', id => "in_$name", customer => "cus_$name", status => 'paid', currency => 'usd', total => 5800, amount_due => 5800,
		amount_paid => 5800, amount_remaining => 0, created => time - 100, period_start => time - 100, period_end => time + 1000);
	is(deliver($url, event("evt_${name}_paid", 'invoice.paid', \%invoice)), 200, "$name: an invoice is paid");
	is(sql("SELECT count(*) FROM provisions WHERE organization_id = '$name'"), '1', "$name: what it is for is provided");
	is(sql("SELECT count(*) FROM provisions AS p JOIN billing.invoices AS i ON i.id = p.invoice_id WHERE i.organization_id = '$name' AND i.status = 'paid'"), '1', "$name: by the id of the invoice");
	sql('ALTER TABLE provisions RENAME TO away');
	is(deliver($url, event("evt_${name}_paid_2", 'invoice.paid', { %invoice, id => "in_${name}_2" })), 200, "$name: when the trigger fails, the webhook is answered 200");
	is(status("evt_${name}_paid_2"), 'failed', "$name: the event is kept as failed");
	is(sql("SELECT count(*) FROM billing.invoices WHERE organization_id = '$name'"), '1', "$name: and nothing of it is applied");
	sql('ALTER TABLE away RENAME TO provisions');
	wait_for($node, "SELECT state FROM billing.webhook_events WHERE event_id = 'evt_${name}_paid_2'", 'applied', "$name: when the cause is gone the worker applies it");
	is(sql("SELECT count(*) FROM provisions WHERE organization_id = '$name'"), '2', "$name: and what it is for is provided");
}

is(sql('SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE oid = \'billing.invoices\'::regclass'), 'janua_billing', 'the tables are still billing\'s');

# ---------------------------------------------------------------------------
# A trigger that fails at the answer to a request, and in a call

sql(q{CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
	CREATE TRIGGER no AFTER UPDATE ON billing.subscriptions FOR EACH ROW WHEN (NEW.status = 'active') EXECUTE FUNCTION no();
	SELECT billing.create_customer('answers', email => 'a@answers.example', provider => 'sandbox')});
my $subscription = sql(q{SELECT billing.subscribe('answers', 'pro', payment_method => 'pm_card_visa', provider => 'sandbox', managed_by => 'provider')});
my $request = "FROM billing.outbox WHERE object_id = '$subscription'";
wait_for($node, "SELECT state, answer IS NOT NULL $request", 'dead|t', 'when a trigger fails at an answer, the request is dead with its answer kept');
is(sql("SELECT status FROM billing.get_subscription('$subscription')"), 'incomplete', 'and nothing of it is applied');
sql('DROP TRIGGER no ON billing.subscriptions');
my $attempts = sql("SELECT attempts $request");
sql("SELECT billing.retry_request(id) $request");
wait_for($node, "SELECT status FROM billing.get_subscription('$subscription')", 'active', 'retry_request applies the answer');
is(sql("SELECT attempts FROM billing.outbox_finished WHERE object_id = '$subscription'"), $attempts, 'and nothing is sent again');
sql('CREATE TRIGGER no AFTER INSERT ON billing.customers FOR EACH ROW EXECUTE FUNCTION no()');
my (undef, undef, $errors) = $node->psql('postgres', q{SELECT billing.create_customer('refused', provider => 'sandbox')});
like($errors, qr/ERROR:  no/, 'when it fails in a call the call fails');
sql('DROP TRIGGER no ON billing.customers');

# ---------------------------------------------------------------------------
# Events out: read as the guide reads them

my ($table, $reader) = blocks('Reading every event at least once', 'sql');
my $all = sql('SELECT count(*) FROM billing.events');
sql($table);
cmp_ok($all, '>=', 6, 'there are events');
my @events = split /\n/, sql($reader);
is(scalar @events, $all, 'a new reader sees all of them');
is(scalar(grep { /\|invoice\.paid\|invoice\|[^|]*\|(express|flask)$/ } @events), 4, 'those of the invoices');
my ($first) = $events[0] =~ /^(\d+)/;
sql("INSERT INTO handled_events SELECT seq FROM billing.events WHERE seq <> $first");
is(sql($reader), $events[0], 'then the one that it has not handled, although it handled later ones');
sql("INSERT INTO handled_events VALUES ($first)");
is(sql($reader), '', 'and then none');

my ($example) = (blocks('Being told at once', 'sql'))[0] =~ /^-- (\{.*\})$/m;
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN billing_events');
sql("SELECT billing.create_customer('heard', provider => 'stripe')");
my $heard;
poll_until(sub { ($heard) = $listener->query_safe('SELECT 1') =~ /notification "billing_events" with payload "(\{.*?\})" received/s }, 'a notification');
is_deeply([ sort keys %{ $json->decode($heard // '{}') } ], [ sort keys %{ $json->decode($example) } ], 'a notification has what the guide says');
$listener->quit;

done_testing();

# What goes wrong between us and the provider: whatever it is, one object is
# there in the end, or the request is dead with its reason.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# What happens to the first sending of each request; what becomes of the
# request (a dead one is retried afterwards); under how many keys it was sent.
my @TABLE = (
	[ 'conflict',          'done',                                 1, { action => 'status', status => 409 } ],
	[ 'rate_limit',        'done',                                 1, { action => 'status', status => 429, retry_after => 1 } ],
	[ 'internal',          'done',                                 2, { action => 'status', status => 500 } ],
	[ 'internal_stored',   'done',                                 2, { action => 'status', status => 500, stored => JSON::PP::true } ],
	[ 'internal_done',     'done',                                 1, { action => 'status', status => 500, stored => JSON::PP::true, perform => JSON::PP::true } ],
	[ 'unavailable',       'done',                                 1, { action => 'status', status => 503 } ],
	[ 'proxy',             'done',                                 1, { action => 'status', status => 502, body => '<html>' } ],
	[ 'drop_before',       'done',                                 1, { action => 'drop_before' } ],
	[ 'drop_after',        'done',                                 1, { action => 'drop_after' } ],
	[ 'reset',             'done',                                 1, { action => 'drop_after', reset => JSON::PP::true } ],
	[ 'hang',              'done',                                 1, { action => 'hang' } ],
	[ 'hang_late',         'done',                                 1, { action => 'hang', after_headers => JSON::PP::true, perform => JSON::PP::true } ],
	[ 'slow_loris',        'done',                                 1, { action => 'slow_loris' } ],
	[ 'truncate',          'done',                                 1, { action => 'truncate' } ],
	[ 'malformed_body',    'done',                                 1, { action => 'malformed_body' } ],
	[ 'malformed_status',  'done',                                 1, { action => 'malformed_status' } ],
	[ 'huge_body',         'done',                                 1, { action => 'huge_body', size => 4 * 1024 * 1024 } ],
	[ 'not_utf8',          'done',                                 1, { action => 'not_utf8' } ],
	[ 'redirect',          'dead redirect 302',                    2, { action => 'redirect' } ],
	[ 'refused',           'dead invalid_request_error 400',       2, { action => 'status', status => 400 } ],
	[ 'not_found',         'dead invalid_request_error resource_missing',      2, { action => 'status', status => 404 } ],
	[ 'forbidden',         'dead invalid_request_error 403',       2, { action => 'status', status => 403 } ],
);

my $simulator = start_simulator();
my $node = new_node('main', conf => "janua_billing.http_timeout = '1s'\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub fault { return $simulator->control('faults', @_) }
sub requests { return @{ $simulator->control('requests?' . join '&', @_) } }
sub at_stripe { return @{ $simulator->control("objects/$_[0]?metadata.janua_ref=$_[1]") } }

sub setting { return sql("UPDATE billing.settings SET value = '$_[1]' WHERE name = '$_[0]'") }

# The unfinished requests, or what became of a finished one.
sub outcome
{
	my ($object, $operation) = @_;

	return sql(<<"SQL");
SELECT concat_ws(' ', state, error_type, error_code) FROM billing.outbox WHERE object_id = '$object' AND operation = '$operation'
UNION ALL SELECT state FROM billing.outbox_finished WHERE object_id = '$object' AND operation = '$operation'
SQL
}

# A customer may be missing in Stripe's search for a minute; until then nobody
# says that it is not there. Here the minute passes at once.
sub let_a_minute_pass
{
	return sql(<<'SQL');
UPDATE billing.outbox SET sent_at = sent_at - interval '1 minute' WHERE error_type = 'search_lag' AND sent_at > now() - interval '1 minute';
SELECT billing.retry_request(id) FROM billing.outbox WHERE error_type = 'search_lag' AND state = 'unknown' AND next_attempt_at > now() + interval '5 seconds'
SQL
}

# Until nothing is under way any more; what is dead, and what it holds, stays.
sub settle
{
	my ($what) = @_;

	return ok( poll_until(
			sub {
				let_a_minute_pass();
				return sql(<<'SQL') eq '0';
SELECT count(*) FROM billing.outbox AS o WHERE state IN ('queued', 'sending', 'unknown')
OR (state = 'waiting' AND NOT EXISTS (SELECT FROM billing.outbox AS d WHERE d.state = 'dead' AND (d.ordering_key = o.ordering_key OR d.id = o.blocked_by)))
SQL
			},
			$what),
		$what);
}

configure_stripe($node, $simulator);
setting('retry_base', '20 milliseconds');

# ---- every fault, at every kind of request ----

my (%customer, %price, %subscription);

# Three rounds: one customer for each fault, then what it buys, then the end of it.
sub check_round
{
	my ($operation, $kind, $objects, $method, $path) = @_;

	settle("every $operation comes to an end");
	foreach my $line (@TABLE)
	{
		my ($name, $expected, $keys) = @$line;
		my $object = $objects->{$name};

		is(outcome($object, $operation), $expected, "$operation, $name: $expected");
		next if $expected !~ /^dead/;
		is(scalar at_stripe($kind, $object), $method eq 'POST' ? 0 : 1, "$operation, $name: nothing was done") if $method eq 'POST';
		sql("SELECT billing.retry_request(id) FROM billing.outbox WHERE object_id = '$object' AND state = 'dead'");
	}
	settle("every dead $operation goes through when it is retried");
	my @keys = map { $_->{idempotency_key} } requests("path=$path", 'method=POST');

	foreach my $line (@TABLE)
	{
		my ($name, undef, $keys) = @$line;
		my $object = $objects->{$name};
		my @found = at_stripe($kind, $object);
		my %keys;

		is(outcome($object, $operation), 'done', "$operation, $name: done in the end");
		is(scalar @found, 1, "$operation, $name: there is one of it");
		next if $method ne 'POST';
		my $request = sql("SELECT id FROM billing.outbox_finished WHERE object_id = '$object' AND operation = '$operation'");
		$keys{$_} = 1 foreach grep { /^$request:/ } @keys;
		is(scalar keys %keys, $keys, "$operation, $name: sent under $keys key(s)");
	}
	fault(undef, 'DELETE');
}

foreach my $line (@TABLE)
{
	my ($name, undef, undef, $fault) = @$line;

	fault({ %$fault, match => { method => 'POST', path => '^/v1/customers$', body => "organization_id\\]=$name(&|\$)" } });
	$customer{$name} = sql("SELECT billing.create_customer('$name', '$name\@example.com', provider => 'stripe')");
}
check_round('customer.create', 'customers', \%customer, 'POST', '^/v1/customers$');

foreach my $line (@TABLE)
{
	my ($name, undef, undef, $fault) = @$line;

	fault({ %$fault, match => { method => 'POST', path => '^/v1/prices$', body => "nickname=$name(&|\$)" } });
	sql("SELECT billing.create_plan('$name', '$name', 500)");
	$subscription{$name} = sql("SELECT billing.subscribe('$name', '$name', 'pm_card_visa')");
	$price{$name} = sql("SELECT price_id FROM billing.subscriptions WHERE id = '$subscription{$name}'");
}
check_round('price.create', 'prices', \%price, 'POST', '^/v1/prices$');

sql("SELECT billing.cancel_subscription('$_', false)") foreach values %subscription;
settle('the first subscriptions are cancelled');
foreach my $line (@TABLE)
{
	my ($name, undef, undef, $fault) = @$line;

	fault({ %$fault, match => { method => 'POST', path => '^/v1/subscriptions$', body => "organization_id\\]=$name(&|\$)" } });
	$subscription{$name} = sql("SELECT billing.subscribe('$name', '$name')");
}
check_round('subscription.create', 'subscriptions', \%subscription, 'POST', '^/v1/subscriptions$');
is(sql("SELECT count(*) FROM billing.subscriptions WHERE status = 'active'"), scalar @TABLE, 'all of them are active');

foreach my $line (@TABLE)
{
	my ($name, undef, undef, $fault) = @$line;
	my ($there) = at_stripe('subscriptions', $subscription{$name});

	fault({ %$fault, match => { method => 'DELETE', path => "^/v1/subscriptions/$there->{id}\$" } });
	sql("SELECT billing.cancel_subscription('$subscription{$name}', false)");
}
settle('every subscription.cancel comes to an end');
foreach my $line (@TABLE)
{
	my ($name, $expected) = @$line;

	# What Stripe says is not there, or cannot be ended, may have ended: it is looked at.
	is(outcome($subscription{$name}, 'subscription.cancel'), $expected, "subscription.cancel, $name: $expected");
}
sql("SELECT billing.retry_request(id) FROM billing.outbox WHERE state = 'dead'");
settle('every dead one goes through when it is retried');
is(join(' ', grep { (at_stripe('subscriptions', $subscription{$_}))[0]{status} ne 'canceled' } sort keys %subscription), '', 'all of them have ended there');
is(sql("SELECT count(*) FROM billing.subscriptions WHERE status <> 'canceled'"), '0', 'and here');
fault(undef, 'DELETE');

# ---- refused connections ----

my $port = PostgreSQL::Test::Cluster::get_free_port();
sql("SELECT billing.configure_provider('stripe', base_url => 'http://127.0.0.1:$port')");
my $lonely = sql("SELECT billing.create_customer('lonely', 'lonely\@example.com', provider => 'stripe')");
wait_for($node, "SELECT attempts > 1, error_type, error_code FROM billing.outbox WHERE object_id = '$lonely' AND state = 'queued'",
	't|transport|not_sent', 'a refused connection is tried again');
sql("SELECT billing.configure_provider('stripe', base_url => '" . $simulator->url . "')");
settle('until somebody listens');
is(scalar at_stripe('customers', $lonely), 1, 'then it goes through');

# ---- given up, retried, cancelled ----

setting('max_attempts', 3);
fault({ action => 'drop_after', times => 3, match => { method => 'POST', path => '^/v1/customers$' } });
my $lost = sql("SELECT billing.create_customer('lost', 'lost\@example.com', provider => 'stripe')");
wait_for($node, "SELECT state, attempts, error_type, error_code FROM billing.outbox WHERE object_id = '$lost'",
	'dead|3|transport|no_answer', 'a request that never gets an answer is dead after max_attempts');
my $request = sql("SELECT id FROM billing.outbox WHERE object_id = '$lost'");
my ($status, $output, $errors) = $node->psql('postgres', "SELECT billing.cancel_request('$request')");
like($errors, qr/its outcome is not known|is not known/, 'it cannot be cancelled: nobody knows what became of it');
$simulator->control('forget_idempotency_keys', {});
sql("SELECT billing.retry_request('$request')");
settle('it is retried');
is(outcome($lost, 'customer.create'), 'done', 'with success');
is(scalar at_stripe('customers', $lost), 1, 'the provider was asked first: there is one customer, although it has forgotten the key');

# Stripe keeps a key for a day. A request that is older is not sent again before somebody has looked.
setting('retry_base', '1 hour');
fault({ action => 'drop_after', match => { method => 'POST', path => '^/v1/customers$' } });
my $late = sql("SELECT billing.create_customer('late', 'late\@example.com', provider => 'stripe')");
wait_for($node, "SELECT state, attempts FROM billing.outbox WHERE object_id = '$late'", 'queued|1', 'a request waits for its next attempt');
sql("UPDATE billing.outbox SET first_sent_at = first_sent_at - interval '1 day', sent_at = sent_at - interval '1 day' WHERE object_id = '$late'");
$simulator->control('forget_idempotency_keys', {});
sql("SELECT billing.retry_request(id) FROM billing.outbox WHERE object_id = '$late'");
settle('a day later it is tried again');
is(scalar at_stripe('customers', $late), 1, 'there is one customer although the key is forgotten');
setting('retry_base', '20 milliseconds');

fault({ action => 'status', status => 500, times => 0, match => { path => '^/v1/customers' } });
my $broken = sql("SELECT billing.create_customer('broken', 'broken\@example.com', provider => 'stripe')");
wait_for($node, "SELECT state, attempts, error_type FROM billing.outbox WHERE object_id = '$broken'",
	'dead|3|api_error', 'a provider that is broken leaves a dead request');
sql("SELECT billing.update_customer('$broken', '{\"name\": \"B\"}')");
is(outcome($broken, 'customer.update'), 'waiting', 'what follows a dead creation waits');
fault(undef, 'DELETE');
sql("SELECT billing.retry_request(id) FROM billing.outbox WHERE object_id = '$broken' AND state = 'dead'");
settle('it is retried when the provider works again');
is((at_stripe('customers', $broken))[0]{name}, 'B', 'and what waited follows');
setting('max_attempts', 20);

fault({ action => 'status', status => 400, match => { method => 'POST', path => '^/v1/customers$' } });
my $bad = sql("SELECT billing.create_customer('bad', 'bad\@example.com', provider => 'stripe')");
wait_for($node, "SELECT state FROM billing.outbox WHERE object_id = '$bad'", 'dead', 'a refused creation is dead');
is(sql("SELECT count(*) FROM billing.outbox WHERE state = 'dead' AND request IS NOT NULL"), '0', 'its bytes are not kept');
sql("SELECT billing.update_customer('$bad', '{\"name\": \"C\"}')");
sql("SELECT billing.cancel_request(id) FROM billing.outbox WHERE object_id = '$bad' AND operation = 'customer.update'");
is(outcome($bad, 'customer.update'), 'canceled', 'what was never sent can be cancelled');
sql("SELECT billing.update_customer('$bad', '{\"name\": \"D\"}')");
sql("SELECT billing.cancel_request(id) FROM billing.outbox WHERE object_id = '$bad' AND state = 'dead'");
wait_for($node, "SELECT count(*) FROM billing.outbox", '0', 'what was refused can be given up, and what waited for it has no purpose then');
is(scalar at_stripe('customers', $bad), 0, 'nothing of it is at the provider');
($status, $output, $errors) = $node->psql('postgres', "SELECT billing.retry_request('$request')");
like($errors, qr/is done/, 'what is done is not retried');

my $refused = sql("SELECT billing.create_customer('update_refused', 'u\@example.com', provider => 'stripe')");
settle('a customer is there');
fault({ action => 'status', status => 400, match => { method => 'POST', path => '^/v1/customers/', body => 'name=first' } });
sql("SELECT billing.update_customer('$refused', '{\"name\": \"first\"}')");
wait_for($node, "SELECT state FROM billing.outbox WHERE object_id = '$refused'", 'dead', 'a refused update is dead');
sql("SELECT billing.update_customer('$refused', '{\"phone\": \"+1 555 0100\"}')");
wait_for($node, "SELECT count(*) FROM billing.outbox WHERE object_id = '$refused' AND state <> 'dead'", '0', 'it holds nothing that follows');
is((at_stripe('customers', $refused))[0]{phone}, '+1 555 0100', 'which arrives');
sql("SELECT billing.retry_request(id) FROM billing.outbox WHERE state = 'dead'");
settle('and is retried');
is((at_stripe('customers', $refused))[0]{name}, 'first', 'on demand');

# ---- a key that is refused ----

$simulator->control('settings', { refused_keys => ['sk_test_x'] });
my $held = sql("SELECT billing.create_customer('held', 'held\@example.com', provider => 'stripe')");
wait_for($node, "SELECT stopped_at IS NOT NULL, stopped_reason <> '' FROM billing.provider_accounts WHERE provider = 'stripe'", 't|t',
	'a refused key stops the account');
my $seen = $simulator->control('totals')->{requests};
my $held_too = sql("SELECT billing.create_customer('held_too', 'held_too\@example.com', provider => 'stripe')");
my $elsewhere = sql("SELECT billing.create_customer('elsewhere', 'elsewhere\@example.com', provider => 'sandbox')");
is(sql("SELECT billing.await('$elsewhere')"), 'active', 'other accounts go on');
is($simulator->control('totals')->{requests}, $seen, 'nothing is sent with the refused key');
is(sql("SELECT count(*) FROM billing.outbox WHERE state IN ('queued', 'waiting')"), '2', 'the requests wait');
sql("SELECT billing.configure_provider('stripe', secret_key => 'sk_test_y')");
settle('a good key resumes them');
is(scalar(at_stripe('customers', $held)) . scalar(at_stripe('customers', $held_too)), '11', 'both arrive once');

# ---- order, and nobody waits for others ----

fault({ action => 'hang', times => 2, match => { method => 'POST', path => '^/v1/customers$', body => 'organization_id\\]=slow' } });
fault({ action => 'status', status => 500, times => 2, match => { method => 'POST', path => '^/v1/customers/', body => 'name=two' } });
my $slow = sql("SELECT billing.create_customer('slow', 'slow\@example.com', provider => 'stripe')");
sql("SELECT billing.update_customer('$slow', '{\"name\": \"$_\"}')") foreach qw(one two);
sql("SELECT billing.attach_payment_method('$slow', 'pm_card_visa')");
my $quick = sql("SELECT billing.create_customer('quick', 'quick\@example.com', provider => 'stripe')");
is(sql("SELECT billing.await('$quick')"), 'active', 'a customer does not wait for another one');
is(outcome($slow, 'customer.create') =~ /^(sending|queued)/ ? 'under way' : 'over', 'under way', 'whose call hangs');
settle('the slow one goes through');
my @order = sort { $a->[1] <=> $b->[1] } map { [ split /\|/ ] } split /\n/, sql("SELECT operation, seq, finished_at FROM billing.outbox_finished WHERE ordering_key = '$slow'");
is(join(' ', map { $_->[0] } @order), 'customer.create customer.update customer.update payment_method.attach', 'all of it');
is_deeply([ map { $_->[0] } sort { $a->[2] cmp $b->[2] } @order ], [ map { $_->[0] } @order ], 'one after the other in the order of the calls');
is((at_stripe('customers', $slow))[0]{name}, 'two', 'with the last value');

is($simulator->control('violations')->{count}, 0, 'every request matches the document') or diag(explain($simulator->control('violations')));

done_testing();

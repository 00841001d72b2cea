# Invoices of our own that providers collect: at Conekta by card, OXXO and SPEI,
# at Polar, which is the seller and adds its tax, by a saved card and on a page.
# To the last minor unit, whether webhooks or answers come first, and back.
use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use JanuaTest;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;

my $simulator = start_simulator();
my $node = new_node('main');
my $url = $simulator->url;

sub sql { return $node->safe_psql('postgres', encode_utf8($_[0])) }
sub await { return sql("SELECT billing.await('$_[0]', '60 seconds')") }
sub act { return $simulator->control('act', {@_}) }
sub news { hand_over($node, $simulator); return }
sub invoice { return sql("SELECT concat_ws(' ', status, total, 'tax', tax, 'paid', amount_paid, 'left', amount_remaining) FROM billing.invoices WHERE id = '$_[0]'") }
sub payment { return sql("SELECT concat_ws(' ', status, amount_received, amount_refunded) FROM billing.payment_intents WHERE invoice_id = '$_[0]' ORDER BY created_at DESC LIMIT 1") }
sub payment_id { return sql("SELECT id FROM billing.payment_intents WHERE invoice_id = '$_[0]' ORDER BY created_at DESC LIMIT 1") }
sub balance { return sql("SELECT coalesce(sum(b.balance), 0) FROM billing.customer_balances AS b JOIN billing.customers AS c ON c.id = b.customer_id WHERE c.organization_id = '$_[0]'") }
sub imbalance { return sql("SELECT coalesce(string_agg(concat_ws(' ', what, ledger, documents), ', '), '') FROM billing.ledger_imbalance") }
# What stands on the accounts of one customer, those that are not 0, before fees.
sub books { return sql("SELECT coalesce(string_agg(account || ' ' || amount, ' ' ORDER BY account), '') FROM (SELECT s.account, sum(s.amount) AS amount FROM billing.ledger AS l CROSS JOIN LATERAL (VALUES (l.debit, l.amount), (l.credit, - l.amount)) AS s (account, amount) WHERE l.organization_id = '$_[0]' AND l.kind <> 'fee' GROUP BY s.account HAVING sum(s.amount) <> 0) AS a") }

sub refusal
{
	my (undef, undef, $errors) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]");
	return $errors;
}

my ($key) = grep { $_->{active} } @{ $simulator->control('signing_keys?provider=conekta') };
sql(<<"SQL");
SELECT billing.configure_provider('conekta', 'key_test', webhook_secret => '$key->{public_key}', base_url => '$url/conekta', options => '{"sandbox": true, "rate_per_second": 0}');
SELECT billing.configure_provider('polar', 'polar_oat_test', 'polar_whs_SimulatorTestSecret0123456789abcdef', base_url => '$url/polar', options => '{"sandbox": true, "rate_per_second": 0}');
UPDATE billing.settings SET value = '100 ms' WHERE name = 'retry_base';
SELECT billing.create_plan('mx', 'Equipo', 10000, 'MXN'), billing.create_plan('us', 'Team', 5000, 'USD'), billing.create_plan('us2', 'Crew', 9000, 'USD');
SELECT billing.create_price('us', 500, 'USD', component => 'seats'), billing.create_price('us2', 500, 'USD', component => 'seats');
SELECT billing.set_tax_rate('MX', 16, 'IVA', valid_from => '2020-01-01'), billing.set_tax_rate('DE', 19, 'VAT', valid_from => '2020-01-01');
SQL

# The first invoice of an organisation, when it has come this far.
sub first_invoice
{
	my ($organization, $until) = @_;

	wait_for($node, "SELECT $until FROM billing.invoices WHERE organization_id = '$organization'", 't', "the invoice of $organization");
	return sql("SELECT id FROM billing.invoices WHERE organization_id = '$organization' ORDER BY created_at LIMIT 1");
}

# ---- Conekta: ours is the tax, and the number ----

sub conekta
{
	my ($organization, $more, $collect) = @_;

	await(sql("SELECT billing.create_customer('$organization', '$organization\@example.com', 'Ana Pérez', country => 'MX', phone => '+525512345678', provider => 'conekta', currency => 'MXN')"));
	sql("BEGIN; SELECT billing.subscribe('$organization', 'mx', managed_by => 'local', provider => 'conekta'$more) AS s \\gset\n" . ($collect ? "SELECT billing.collect_by(:'s', '$collect');" : '') . 'COMMIT');
	return first_invoice($organization, $collect ? "status = 'open'" : "status = 'paid'");
}

my $first = conekta('card_first', ", payment_method => 'tok_test_visa_4242'");
is(invoice($first) . ' ' . payment($first), 'paid 11600 tax 1600 paid 11600 left 0 succeeded 11600 0', 'Conekta: a card pays all of an invoice, by the answer');
news();
is(invoice($first) . ' ' . balance('card_first'), 'paid 11600 tax 1600 paid 11600 left 0 0', 'and the webhooks tell nothing new');
is((@{ $simulator->control('objects/orders?provider=conekta') })[-1]{amount}, 11600, 'the order was made of what is due');
await(sql("SELECT billing.create_refund('" . payment_id($first) . "')"));
news();
is(invoice($first) . ' ' . payment($first), 'paid 11600 tax 1600 paid 0 left 0 refunded 11600 11600', 'it is refunded whole');

foreach my $method ('oxxo', 'spei')
{
	my $id = conekta("by_$method", '', $method);

	wait_for($node, "SELECT status FROM billing.payment_intents WHERE invoice_id = '$id'", 'requires_action', "a reference by $method");
	is(invoice($id), 'open 11600 tax 1600 paid 0 left 11600', "Conekta: $method waits");
	my $reference = sql("SELECT billing.client_config('$id') -> 'next_action' ->> '" . ($method eq 'oxxo' ? 'reference' : 'clabe') . "'");
	act(provider => 'conekta', action => 'pay_reference', reference => $reference);
	# the webhook is the first to tell
	news();
	is(invoice($id) . ' ' . payment($id) . ' ' . balance("by_$method"), 'paid 11600 tax 1600 paid 11600 left 0 succeeded 11600 0 0', "and is paid, to the centavo");
	is(sql("SELECT status FROM billing.subscriptions WHERE organization_id = 'by_$method'"), 'active', 'which activates the subscription');
	sql("SELECT billing.refresh('" . payment_id($id) . "')");
	await(payment_id($id));
	is(invoice($id), 'paid 11600 tax 1600 paid 11600 left 0', 'an answer after it changes nothing');
	if ($method eq 'spei')
	{
		await(sql("SELECT billing.create_refund('" . payment_id($id) . "', 5800)"));
		news();
		is(invoice($id) . ' ' . payment($id), 'paid 11600 tax 1600 paid 5800 left 0 partially_refunded 11600 5800', 'half of it is refunded');
	}
}
is(imbalance(), '', 'ledger and documents agree');

# ---- Polar: it is the seller ----

my $goods = $simulator->control('call', { provider => 'polar', method => 'POST', path => '/v1/products/', params => { name => 'Charges',
	prices => [ { amount_type => 'fixed', price_amount => 100, price_currency => 'usd' } ], recurring_interval => undef } })->{body}{id};
sql(qq(SELECT billing.configure_provider('polar', options => '{"product_id": "$goods"}')));
$simulator->control('settings', { provider => 'polar', tax_rate => 0.19 });

sub polar_customer
{
	my ($organization) = @_;
	my $id = sql("SELECT billing.create_customer('$organization', '$organization\@example.com', 'Pat', provider => 'polar', currency => 'USD', country => 'DE')");

	await($id);
	my ($there) = @{ $simulator->control("objects/customers?provider=polar&external_id=$id") };
	act(provider => 'polar', action => 'add_payment_method', customer => $there->{id}, last4 => '4242');
	sql("SELECT billing.refresh_payment_methods('$id')");
	await($id);
	return $id;
}

sub polar_subscription
{
	my ($organization) = @_;

	polar_customer($organization);
	return sql("SELECT billing.subscribe('$organization', 'us', quantity => 3, provider => 'polar', managed_by => 'local')");
}

sub order_of { return (@{ $simulator->control('objects/orders?provider=polar&metadata.janua_payment=' . payment_id($_[0])) })[0] }

my $numbers = sql("SELECT max(series_number) FROM billing.invoices");
my $subscription = polar_subscription('po');
my $statement = first_invoice('po', "status = 'paid'");
my $order = order_of($statement);
is("$order->{net_amount} $order->{tax_amount} $order->{total_amount}", '6500 1235 7735', 'Polar: the order is made of what is due, and its tax comes on top');
is($order->{description}, 'Team', 'it has a name without a number of ours');
is(invoice($statement) . ' ' . payment($statement), 'paid 7735 tax 1235 paid 7735 left 0 succeeded 7735 0', 'what the customer pays is the statement, with the tax of the seller');
is(sql("SELECT concat_ws(' ', merchant_of_record, provider_number, coalesce(number, 'none'), provider_tax) FROM billing.invoices WHERE id = '$statement'"),
	"polar $order->{invoice_number} none 1235", 'it names the seller and its number, and has none of ours');
is(sql("SELECT string_agg(concat_ws(' ', kind, amount), ', ' ORDER BY position) FROM billing.invoice_lines WHERE invoice_id = '$statement'"),
	'base 5000, seats 1500, tax 1235', 'its lines add up');
is(balance('po') . sql("SELECT count(*) FROM billing.attention WHERE organization_id = 'po'"), '00', 'nothing is too much, and nothing is to be looked at');
is(books('po'), 'cash 6500 revenue -6500', 'the books have what is ours');
news();
is(invoice($statement) . ' ' . balance('po'), 'paid 7735 tax 1235 paid 7735 left 0 0', 'the webhooks say the same');
is(sql("SELECT max(series_number) FROM billing.invoices") . sql("SELECT status FROM billing.subscriptions WHERE id = '$subscription'"), "${numbers}active", 'no number of our series is used');
my $page = sql("SELECT billing.invoice_html('$statement')");
like($page, qr/Statement $order->{invoice_number}.*<h2>Seller.*Polar.*77\.35.*Polar is the seller: it adds the tax/s, 'the page says who sells');
unlike($page, qr/<h1>Invoice/, 'and is no invoice');
like(refusal("SELECT billing.create_credit_note('$statement')"), qr/JB004.*statement.*create_refund/s, 'it is refunded, not credited');
like(refusal("SELECT billing.void_invoice('$statement')"), qr/JB008/, 'and not voided once it is paid');
like(refusal("UPDATE billing.invoices SET total = total + 1 WHERE id = '$statement'"), qr/JB008/, 'totals do not change by hand');
like(refusal("UPDATE billing.invoice_lines SET amount = amount + 1 WHERE invoice_id = '$statement' AND kind = 'base'"), qr/JB008/, 'nor do lines');

# Previews are net, and so are prorations.
is(sql("SELECT string_agg(concat_ws(' ', kind, amount), ', ' ORDER BY position) FROM billing.preview_invoice('$subscription')"), 'base 5000, seats 1500, tax 0', 'a preview is without it');
like(sql("SELECT description FROM billing.preview_invoice('$subscription') WHERE kind = 'tax'"), qr/added by Polar/, 'and says who adds it');

my $part = sql("SELECT billing.create_refund('" . payment_id($statement) . "', 2380)");
is(await($part), 'succeeded', 'a part is refunded');
is((@{ $simulator->control("objects/refunds?provider=polar&metadata.janua_ref=$part") })[0]{amount}, 2000, 'without tax on the wire');
is(invoice($statement) . ' ' . books('po'), 'paid 7735 tax 1235 paid 5355 left 0 cash 4500 refunds 2000 revenue -6500', 'in proportion in the books');
news();
is(await(sql("SELECT billing.create_refund('" . payment_id($statement) . "')")), 'succeeded', 'the rest is refunded');
news();
is(invoice($statement) . ' ' . payment($statement) . ' ' . balance('po'), 'paid 7735 tax 1235 paid 0 left 0 refunded 7735 7735 0', 'nothing is left of it');
is(books('po'), 'refunds 6500 revenue -6500', 'nor in the books');
is(imbalance(), '', 'ledger and documents agree');

# The webhook is faster than the answer.
polar_customer('fast');
$simulator->control('faults', { match => { provider => 'polar', method => 'POST', path => '/finalize$' }, action => 'drop_after' });
sql("SELECT billing.subscribe('fast', 'us', quantity => 3, provider => 'polar', managed_by => 'local')");
poll_until(sub { scalar grep { $_->{status} eq 'paid' && $_->{customer}{email} =~ /^fast/ } @{ $simulator->control('objects/orders?provider=polar') } }, 'the order is paid');
news();
my $fast = first_invoice('fast', "status = 'paid'");
is(invoice($fast) . ' ' . balance('fast') . ' ' . books('fast'), 'paid 7735 tax 1235 paid 7735 left 0 0 cash 6500 revenue -6500', 'a webhook that is faster pays the same');
poll_until(sub { sql("UPDATE billing.outbox SET sent_at = sent_at - interval '10 seconds' WHERE error_type = 'may_be_at_work'; SELECT billing.retry_request(id) FROM billing.outbox WHERE error_type = 'may_be_at_work' AND state = 'unknown'");
	sql("SELECT count(*) FROM billing.outbox WHERE object_id = '" . payment_id($fast) . "' AND state <> 'dead'") eq '0' }, 'the look-up is done');
is(invoice($fast) . ' ' . scalar(grep { $_->{customer}{email} =~ /^fast/ } @{ $simulator->control('objects/orders?provider=polar') }), 'paid 7735 tax 1235 paid 7735 left 0 1', 'once, when its answer is found');

# A bank that takes it back takes the seller's tax from the seller.
act(provider => 'polar', action => 'dispute', order => (grep { $_->{customer}{email} =~ /^fast/ } @{ $simulator->control('objects/orders?provider=polar') })[0]{id});
sql("SELECT billing.fetch_disputes('polar')");
wait_for($node, 'SELECT status, amount FROM billing.disputes', 'needs_response|7735', 'a dispute is about all of it');
my $dispute = sql('SELECT id FROM billing.disputes');
sql("SELECT billing.accept_dispute('$dispute')");
is(await($dispute), 'lost', 'which is given up');
is(invoice($fast) . ' ' . books('fast'), 'paid 7735 tax 1235 paid 7735 left 0 disputes 6500 revenue -6500', 'and costs us what was ours');

# Balance is net: it pays of what is asked for, and Polar taxes the rest.
polar_customer('rich');
sql("SELECT billing.adjust_balance('rich', 1500, 'a gift', 'USD')");
sql("SELECT billing.subscribe('rich', 'us', quantity => 3, provider => 'polar', managed_by => 'local')");
my $lower = first_invoice('rich', "status = 'paid'");
is(sql("SELECT concat_ws(' ', status, total, tax, credit_used + balance_used, amount_due, amount_paid) FROM billing.invoices WHERE id = '$lower'"), 'paid 7450 950 1500 5950 5950', 'balance is without tax, and so is what Polar is asked for');
is(imbalance(), '', 'ledger and documents agree');

# ---- without the flag for saved cards: a page ----

$simulator->control('settings', { provider => 'polar', off_session_charges => JSON::PP::false });
sql("UPDATE billing.settings SET value = 'https://app.example.com/paid' WHERE name = 'invoice_success_url'");
my $shy = polar_customer('shy');
my $asked = sql("SELECT billing.create_invoice('$shy', '[{\"description\": \"Audit\", \"amount\": 9000}]', 'USD', collection_method => 'charge_automatically')");
wait_for($node, "SELECT string_agg(concat_ws(' ', kind, state, decline_code, action), ', ' ORDER BY attempt) FROM billing.dunning_attempts WHERE invoice_id = '$asked' AND cause = 'issue'",
	'charge failed OffSessionChargesNotEnabled page, reminder succeeded', 'a charge that is forbidden becomes a page');
is(sql("SELECT string_agg(DISTINCT kind, ' ') FROM billing.dunning_attempts WHERE invoice_id = '$asked' AND state = 'planned'"), 'reminder', 'and is not repeated in vain');
wait_for($node, "SELECT status FROM billing.checkout_sessions WHERE invoice_id = '$asked'", 'open', 'which is open');
like(sql("SELECT billing.client_config('$asked') ->> 'url'"), qr{^https?://}, 'and where the invoice leads to');
like(sql("SELECT string_agg(concat_ws(' ', what, detail, hint), E'\\n') FROM billing.explain('$asked')"), qr/create_invoice_checkout/, 'explain() knows the way out');
my $checkout = (@{ $simulator->control('objects/checkouts?provider=polar') })[-1];
is("$checkout->{net_amount} $checkout->{tax_amount} $checkout->{tax_behavior}", '9000 1710 exclusive', 'it asks for what is due, without tax');
act(provider => 'polar', action => 'complete_checkout', checkout => $checkout->{id});
news();
is(invoice($asked) . ' ' . balance('shy') . ' ' . books('shy'), 'paid 10710 tax 1710 paid 10710 left 0 0 cash 9000 revenue -9000', 'and pays it');
is(sql("SELECT count(*) FROM billing.dunning_attempts WHERE invoice_id = '$asked' AND state = 'planned'"), 0, 'then nothing is planned any more');

# A page of Polar cannot be closed: who pays on it for an invoice that is void has a balance, without the tax that Polar keeps.
my $late = sql("SELECT billing.create_invoice('$shy', '[{\"description\": \"Visit\", \"amount\": 8000}]', 'USD', days_until_due => 10)");
wait_for($node, "SELECT status FROM billing.invoices WHERE id = '$late'", 'open', 'an invoice that is sent');
await(sql("SELECT billing.create_invoice_checkout('$late', 'https://a.example')"));
sql("SELECT billing.void_invoice('$late')");
act(provider => 'polar', action => 'complete_checkout', checkout => (@{ $simulator->control('objects/checkouts?provider=polar') })[-1]{id});
news();
is(invoice($late) . ' ' . balance('shy') . ' ' . books('shy'), 'void 8000 tax 0 paid 0 left 0 8000 cash 17000 customer_balance -8000 revenue -9000', 'money that comes too late is balance without its tax');
like(sql("SELECT hint FROM billing.attention WHERE what = 'payment pays nothing'"), qr/create_refund\('[^']+', 9520\)/, 'and goes back with it');
is(await(sql("SELECT billing.create_refund('" . payment_id($late) . "', 9520)")), 'succeeded', 'so it does');
news();
is(balance('shy') . ' ' . books('shy'), '0 cash 9000 revenue -9000', 'and nothing is left of it');

# ---- what belongs to another seller ----

my $ours = sql("SELECT billing.create_invoice('$shy', '[{\"description\": \"Audit\", \"amount\": 9000}]', 'USD', days_until_due => 10)");
wait_for($node, "SELECT status FROM billing.invoices WHERE id = '$ours'", 'open', 'an open statement');
like(refusal("SELECT billing.create_invoice_checkout('$ours', 'https://a.example', provider => 'sandbox')"), qr/JB004.*is the seller/s, 'no other provider collects what Polar sells');
sql("SELECT billing.void_invoice('$ours')");
is(invoice($ours), 'void 9000 tax 0 paid 0 left 0', 'what is not paid can be voided');

is(imbalance(), '', 'ledger and documents agree');
is(join("\n", map { "$_->{method} $_->{path}: $_->{violations}[0]" } grep { @{ $_->{violations} || [] } } @{ $simulator->control('requests') }), '', 'no request is against a document');
done_testing();

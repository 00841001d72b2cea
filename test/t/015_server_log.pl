# What must never be in the server's log, also where a statement failed: card
# numbers and secrets, with PostgreSQL's own settings of logging.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $card = '4242 4242 4242 4242';
my $secret = 'sk_test_notforthelog';
# the test framework logs every statement, PostgreSQL by itself only those that fail
my $node = new_node('main', conf => "log_statement = 'none'\n");

sub refused
{
	my ($statement, $sqlstate, $name) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");

	like($err, qr/$sqlstate:/, $name);
}

refused("SELECT billing.create_customer('a', name => '$card');", 'JB009', 'a card number as a name is refused');
refused("SELECT billing.create_customer('a', 'bad mail', name => '$card');", 'JB009', 'before anything else is found wrong');
refused("DO \$\$ BEGIN PERFORM billing.create_customer('a', description => '$card'); END \$\$;", 'JB009', 'inside a function, too');
refused("SELECT billing.configure_provider('stripe', '$secret', base_url => 'http://example.com');", '22023', 'a key with a bad address is refused');
refused('SELECT billing.get_customer(NULL, 1);', '42883', 'an error of another kind is told');

my $log = slurp_file($node->logfile);
like($log, qr/holds a card number/, 'the log tells of the card number');
like($log, qr/get_customer\(NULL, 1\)/, 'it shows statements that failed');
unlike($log, qr/4242/, 'but not the one with the number');
unlike($log, qr/notforthelog/, 'nor the one with the key');

$node->stop;
done_testing();

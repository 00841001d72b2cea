# The SQL of docs/entitlements.md, as it stands there, in its order: every
# statement succeeds, and every result is the one that the guide tells.
use strict;
use warnings;

use FindBin;
use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $guide = slurp_file("$FindBin::RealBin/../../docs/entitlements.md");
my $node = new_node('main');
my $blocks = 0;
my $results = 0;

while ($guide =~ /^## (.*?)$|^```sql\n(.*?)^```$/msg)
{
	my ($block) = ($2);
	our $heading;

	$heading = $1 if defined $1;
	next unless defined $block;
	my @told = $block =~ /;\s+-- (.*?)\s*$/mg;
	my ($code, $output, $errors) = $node->psql('postgres', $block, on_error_stop => 1, extra_params => ['-q']);
	my @found = grep { $_ ne '' } split /\n/, $output;

	is($code, 0, "$heading: runs") or diag($errors);
	is(join("\n", @found), join("\n", @told), "$heading: says what the guide tells");
	$blocks++;
	$results += @told;
}
cmp_ok($blocks, '>=', 7, 'all parts of the guide were run');
cmp_ok($results, '>=', 15, 'and their results compared');

done_testing();

# The SQL of the guides in docs/, as it stands there, in its order: every
# statement succeeds, and every result is the one that the guide tells.  That is
# the comment behind a statement, or lines that begin with two blanks in the
# comment below it.  Blocks with an ellipsis need a provider and are left out.
use strict;
use warnings;

use FindBin;
use JanuaTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Returns how many blocks were run and how many results were compared.
sub run_guide
{
	my ($name) = @_;
	my $guide = slurp_file("$FindBin::RealBin/../../docs/$name.md");
	my $node = new_node($name);
	my ($blocks, $results, $heading) = (0, 0, '');

	# the guides have fixed dates, which retention reaches one day
	$node->safe_psql('postgres', "UPDATE billing.settings SET value = '50 years' WHERE name = 'usage_retention'");
	while ($guide =~ /^##+ (.*?)$|^```sql\n(.*?)^```$/msg)
	{
		my ($title, $block) = ($1, $2);

		$heading = $title if defined $title;
		next if !defined $block || $block =~ /\.\.\./;
		my @told = $block =~ /(?:;[ ]+-- |^--  )(.*?)\s*$/mg;
		my ($code, $output, $errors) = $node->psql('postgres', $block, on_error_stop => 1, extra_params => ['-q']);
		my @found = grep { $_ ne '' } split /\n/, $output;

		is($code, 0, "$name, $heading: runs") or diag($errors);
		is(join("\n", @found), join("\n", @told), "$name, $heading: says what the guide tells");
		$blocks++;
		$results += @told;
	}
	$node->stop;
	return ($blocks, $results);
}

my %least = (billing => [ 17, 60 ], entitlements => [ 7, 15 ], usage => [ 15, 50 ]);

foreach my $name (sort keys %least)
{
	my ($blocks, $results) = run_guide($name);

	cmp_ok($blocks, '>=', $least{$name}[0], "$name: all parts of the guide were run");
	cmp_ok($results, '>=', $least{$name}[1], "$name: and their results compared");
}

done_testing();

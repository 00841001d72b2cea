# The server's environment makes accounts, with their options, and settings.
use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

$ENV{STRIPE_SECRET_KEY} = 'sk_test_environment';
$ENV{STRIPE_WEBHOOK_SECRET} = 'whsec_environment';
$ENV{STRIPE_PUBLISHABLE_KEY} = ' ';
$ENV{BILLING_WEBHOOK_URL} = 'https://app.example/hooks';
$ENV{JANUA_SANDBOX} = '1';
$ENV{JANUA_LIVE} = 'False';
$ENV{JANUA_NAME} = 'b6a1';

my $node = new_node('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql("INSERT INTO billing.environment_variables VALUES ('JANUA_SANDBOX', 'stripe', 'options.sandbox'), ('JANUA_LIVE', 'stripe', 'options.live'), ('JANUA_NAME', 'stripe', 'options.organization_id')");
is(sql("SELECT string_agg(v, ' ' ORDER BY v COLLATE \"C\") FROM billing.import_environment() AS v"), 'BILLING_WEBHOOK_URL JANUA_LIVE JANUA_NAME JANUA_SANDBOX STRIPE_SECRET_KEY STRIPE_WEBHOOK_SECRET', 'what is used is told, a blank is none');
is(sql("SELECT options FROM billing.provider_accounts WHERE provider = 'stripe'"), '{"live": false, "sandbox": true, "organization_id": "b6a1"}', 'options are booleans where they look like it, else text');
is(sql("SELECT secret_key IS NOT NULL AND webhook_secret IS NOT NULL AND publishable_key IS NULL AND NOT livemode FROM billing.provider_accounts WHERE provider = 'stripe'"), 't', 'the account is there');
is(sql("SELECT value FROM billing.settings WHERE name = 'webhook_url'"), 'https://app.example/hooks', 'so is the setting');
sql("SELECT billing.configure_provider('stripe', options => '{\"rate_per_second\": 3}')");
sql('SELECT count(*) FROM billing.import_environment()');
is(sql("SELECT options ->> 'rate_per_second' FROM billing.provider_accounts WHERE provider = 'stripe'"), '3', 'another import leaves the options that it does not name');

done_testing();

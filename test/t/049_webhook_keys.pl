# What a session keeps to check webhooks goes with the key file that opened it.

use strict;
use warnings;

use JanuaTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = new_node('main');
my $file = $node->safe_psql('postgres', 'SHOW janua_billing.key_file');

$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION pgcrypto;
SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_test', base_url => 'http://127.0.0.1:9');
CREATE FUNCTION signed() RETURNS boolean LANGUAGE sql AS $$
	SELECT billing.verify_webhook('stripe', 'x', jsonb_build_object('Stripe-Signature',
		't=' || t || ',v1=' || encode(hmac(t || '.x', 'whsec_test', 'sha256'), 'hex')))
	FROM (SELECT floor(extract(epoch FROM clock_timestamp()))::text) AS n (t) $$;

-- polls until the outcome is that one: 'true', 'false' or an SQLSTATE
CREATE FUNCTION becomes(wanted text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	had text;
	until timestamptz := clock_timestamp() + interval '60 seconds';
BEGIN
	LOOP
		BEGIN
			had := signed()::text;
		EXCEPTION WHEN OTHERS THEN
			had := SQLSTATE;
		END;
		EXIT WHEN had = wanted OR clock_timestamp() > until;
		PERFORM pg_sleep(0.02);
	END LOOP;
	RETURN had;
END $$;
SQL

# One session all the way: what it keeps is what this is about.
my $said = $node->safe_psql('postgres', <<"SQL");
SELECT becomes('true');
COPY (SELECT) TO PROGRAM 'mv "$file" "$file.away"';
SELECT becomes('JB012');
COPY (SELECT) TO PROGRAM 'mv "$file.away" "$file"';
SELECT becomes('true');
SQL
is($said, "true\nJB012\ntrue", 'without its key file a session verifies nothing, and with it again');

$node->stop;
done_testing();

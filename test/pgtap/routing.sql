-- Which provider a call goes to: rules, their order, and what is refused.
\ir helpers.psql

SELECT plan(37);

-- rule and provider of a call, and the reasons for which others were passed over
CREATE FUNCTION routed(VARIADIC terms text[] DEFAULT '{}') RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	found text;
BEGIN
	EXECUTE format('SELECT rule || '': '' || provider || ''/'' || account FROM billing.select_provider(%s)', array_to_string(terms, ', '))
	INTO found;
	RETURN found;
END
$$;

-- ---------------------------------------------------------------------------
-- Nothing is configured, then one provider

SELECT is(routed(), 'sandbox: sandbox/default', 'nothing is configured: the sandbox');
SELECT is(routed($$country => 'MX'$$, $$plan => 'pro'$$), 'sandbox: sandbox/default', 'whatever is asked for');
SELECT fails($$SELECT billing.select_provider(plan => 'gold')$$, 'JB005', 'unknown plan "gold"', 'free', 'a plan that there is not');
SELECT fails($$SELECT billing.select_provider(country => 'XX')$$, '22023', 'unknown country', 'ISO 3166', 'a country that there is not');
SELECT fails($$SELECT billing.select_provider(currency => 'XXX')$$, '22023', 'unknown currency', 'ISO 4217', 'nor a currency');
SELECT fails($$SELECT billing.select_provider(purpose => 'fun')$$, '22023', 'purpose', 'saas', 'nor a purpose');
SELECT fails($$SELECT billing.select_provider(operation => 'customer.sell')$$, '22023', 'unknown operation', 'provider_capabilities', 'nor an operation');
SELECT fails($$SELECT billing.select_provider(provider => 'stripe')$$, 'JB006', 'stripe', 'configure_provider', 'a provider that is named has to be configured');

SELECT billing.configure_provider('stripe', 'sk_test_x', base_url => 'http://127.0.0.1:9');
SELECT is(routed(), 'stripe: stripe/default', 'the provider that is configured');
SELECT is((SELECT passed_over FROM billing.select_provider(country => 'MX')), '{conekta: not configured,polar: not configured}', 'which rules were passed over is told');
SELECT ok((SELECT reason LIKE '%passed over: conekta: not configured%' FROM billing.select_provider(country => 'MX')), 'and is part of the reason');
SELECT is(routed($$provider => 'sandbox'$$), 'named: sandbox/default', 'what the call names comes before all rules');
SELECT fails($$SELECT billing.select_provider(currency => 'IRR')$$, 'JB004', 'no provider that is configured', 'routing_rules', 'a currency that nobody takes');
SELECT fails($$SELECT billing.select_provider(currency => 'IRR', provider => 'stripe')$$, 'JB004', 'provider "stripe" does not take IRR', 'provider_currencies', 'also where the provider is named');
SELECT fails($$SELECT billing.select_provider(currency => 'MXN', amount => 999)$$, 'JB004', '.', NULL, 'an amount below the minimum');
SELECT is(routed($$currency => 'MXN'$$, 'amount => 1000'), 'stripe: stripe/default', 'and one that is enough');
SELECT fails($$SELECT billing.select_provider(currency => 'EUR', plan => 'pro')$$, 'JB004', '.', NULL, 'a plan without a price in the currency');
SELECT is(routed($$plan => 'enterprise'$$, $$currency => 'EUR'$$), 'stripe: stripe/default', 'a plan at a custom price has one in every currency');

-- ---------------------------------------------------------------------------
-- Methods

SELECT fails($$SELECT billing.select_provider(method => 'oxxo', currency => 'MXN')$$, 'JB004', '.', NULL, 'OXXO needs an account that has it');
SELECT billing.configure_provider('stripe', options => '{"capabilities": ["oxxo", "msi"]}');
SELECT is(routed($$method => 'oxxo'$$, $$currency => 'MXN'$$), 'method_stripe: stripe/default', 'whose capabilities list it');
SELECT is(routed('installments => 6', $$currency => 'MXN'$$), 'method_stripe: stripe/default', 'instalments are MSI');
SELECT fails($$SELECT billing.select_provider(method => 'spei')$$, 'JB004', '.', NULL, 'each method by itself');
UPDATE billing.optional_methods SET optional = false WHERE provider = 'stripe' AND method = 'spei';
SELECT is(routed($$method => 'spei'$$), 'method_stripe: stripe/default', 'unless the administrator says that every account has it');

-- ---------------------------------------------------------------------------
-- Rules of one's own

INSERT INTO billing.routing_rules (name, position, kind, provider, account, countries, description)
VALUES ('europe', 450, 'provider', 'stripe', 'europe', '{DE,FR}', 'our company in Europe');
SELECT is(routed($$country => 'DE'$$), 'stripe: stripe/default', 'an account that there is not is passed over');
SELECT billing.configure_provider('stripe', 'sk_test_e', account => 'europe', base_url => 'http://127.0.0.1:9');
SELECT is(routed($$country => 'de'$$), 'europe: stripe/europe', 'until it is there');
SELECT is(routed($$country => 'US'$$), 'stripe: stripe/default', 'for its countries only');
SELECT billing.create_customer('berlin', country => 'DE') AS berlin \gset
SELECT is((SELECT account FROM billing.customers WHERE organization_id = 'berlin'), 'europe', 'a new customer follows it');
SELECT is(routed($$organization_id => 'berlin'$$), 'customer: stripe/europe', 'and what he buys follows him');
UPDATE billing.settings SET value = 'sandbox' WHERE name = 'default_provider';
SELECT is(routed(), 'default_provider: sandbox/default', 'the setting comes before the last rules');
UPDATE billing.routing_rules SET enabled = false WHERE name = 'default_provider';
SELECT is(routed(), 'stripe: stripe/default', 'unless its rule is switched off');
SELECT fails($$DELETE FROM billing.routing_rules WHERE name = 'sandbox'$$, 'JB008', 'cannot be deleted', 'enabled', 'rules are switched off, not deleted');
UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'key refused' WHERE account = 'europe';
SELECT is(routed($$country => 'DE'$$), 'stripe: stripe/default', 'a stopped account is passed over');
UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'key refused' WHERE provider = 'stripe' AND account = 'default';
SELECT is(routed($$country => 'US'$$), 'stripe: stripe/default', 'but when there is no other it is taken, and the request waits');

-- ---------------------------------------------------------------------------
-- Sanctions

SELECT fails($$SELECT billing.create_customer('x', country => 'KP')$$, 'JB014', 'nothing may be sold to country "KP"', 'sanctioned = false', 'no customer in a sanctioned country');
SELECT fails(format($$SELECT billing.update_customer(%L, '{"address": {"country": "SY"}}')$$, :'berlin'), 'JB014', '"SY"', NULL, 'nobody moves there');
SELECT fails($$SELECT billing.select_provider(country => 'cu')$$, 'JB014', '"CU"', NULL, 'and nobody sells there');
UPDATE billing.countries SET sanctioned = false WHERE code = 'SY';
SELECT is(routed($$country => 'SY'$$), 'stripe: stripe/default', 'the list can be changed');

SELECT * FROM finish();

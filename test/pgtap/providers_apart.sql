-- One provider's trouble is nobody else's: what is asked of a customer, or sold
-- of a plan, at one account does not wait for another one.
\ir helpers.psql
SELECT plan(5);

SELECT billing.configure_provider('stripe', 'sk_test_nobody', base_url => 'http://127.0.0.1:9', account => 'silent');
SELECT billing.configure_provider('stripe', 'sk_test_other', base_url => 'http://127.0.0.1:9');
UPDATE billing.settings SET value = '1 hour' WHERE name IN ('retry_base', 'retry_cap');

SELECT billing.create_customer('acme', 'a@acme.example', provider => 'stripe', account => 'silent') AS acme \gset
SELECT billing.attach_payment_method(:'acme', 'pm_card_visa', provider => 'sandbox', account => 'default') AS card \gset
CALL billing.run_worker();
SELECT is((SELECT state FROM billing.payment_methods WHERE id = :'card'), 'attached', 'a customer whom one provider does not answer about goes on at another');
SELECT isnt((SELECT state FROM billing.outbox WHERE object_id = :'acme' AND provider = 'stripe'), 'waiting', 'while the first one is tried again');

SELECT billing.create_customer('beta', 'b@beta.example', provider => 'stripe') AS beta \gset
SELECT billing.subscribe('acme', 'pro', provider => 'stripe', account => 'silent') AS here \gset
SELECT billing.subscribe('beta', 'pro') AS there \gset
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.outbox WHERE operation = 'product.create' AND state <> 'waiting'), 2::bigint, 'a plan is pushed to each account by itself');
SELECT is((SELECT count(*) FROM billing.outbox WHERE operation = 'price.create' AND state = 'waiting'), 2::bigint, 'in order at each');

SELECT billing.cancel_request(id) FROM billing.outbox WHERE operation = 'subscription.create' AND object_id = :'here' AND attempts = 0;
SELECT is((SELECT count(*) FROM billing.outbox WHERE operation = 'subscription.create'), 1::bigint, 'and what is taken back at one stays at the other');

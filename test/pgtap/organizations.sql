-- The application's own table makes customers, in its own transactions.
\ir helpers.psql
SELECT plan(87);

CREATE TABLE orgs (id integer PRIMARY KEY, mail text, title text, land text, money text, note text);
INSERT INTO orgs VALUES (1, 'one@example.com', 'One', 'MX', 'MXN', ''), (2, 'broken address', 'Two', 'Mexico', 'pesos', ''), (3, NULL, NULL, NULL, NULL, '');

-- ---------------------------------------------------------------------------
-- Attaching

SELECT fails($$SELECT billing.attach_organizations('orgs', 'nope')$$, '42703', 'has no column "nope"', 'id, mail, title', 'an unknown column is refused, and those that there are are listed');
SELECT fails($$SELECT billing.attach_organizations('orgs', email_column => 'email')$$, '42703', 'email_column: .*no column "email"', 'id, mail', 'with the argument that named it');
SELECT fails($$SELECT billing.attach_organizations('orgs', on_delete => 'ignore')$$, '22023', 'unknown on_delete "ignore"', 'delete, cancel, keep', 'an unknown on_delete is refused, and those that there are are listed');
SELECT fails($$SELECT billing.attach_organizations('orgs', default_plan => 'gold')$$, 'JB005', 'unknown plan "gold"', 'free, pro', 'an unknown plan is refused');
SELECT fails($$SELECT billing.attach_organizations('orgs', default_plan => 'enterprise')$$, '22023', 'price agreed', NULL, 'a default plan has a price');
SELECT fails($$SELECT billing.attach_organizations('orgs', provider => 'stripe')$$, 'JB006', 'stripe', 'configure_provider', 'a provider that is not configured is refused');
SELECT fails($$SELECT billing.attach_organizations('billing.customers')$$, '42809', 'cannot be a table of organizations', NULL, 'the tables of billing are not the application''s');
CREATE TEMP TABLE temporary (id integer);
SELECT fails($$SELECT billing.attach_organizations('temporary')$$, '42809', 'cannot be a table of organizations', NULL, 'nor are temporary ones');
CREATE VIEW orgs_view AS SELECT * FROM orgs;
SELECT fails($$SELECT billing.attach_organizations('orgs_view')$$, '42809', 'cannot be a table of organizations', NULL, 'nor views');
SELECT fails($$SELECT billing.attach_organizations(NULL)$$, '23502', 'target must be given', NULL, 'a table has to be named');
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgrelid = 'orgs'::regclass), 0::bigint, 'of a refused call nothing is left');

SELECT is(billing.attach_organizations('orgs', email_column => 'mail', name_column => 'title', country_column => 'land', currency_column => 'money', backfill => true),
	3::bigint, 'backfill makes customers of the rows that are there, and counts them');
SELECT results_eq($$SELECT organization_id, email, name, country, currency FROM billing.customer_details ORDER BY 1$$,
	$$VALUES ('1', 'one@example.com', 'One', 'MX', 'MXN'), ('2', NULL, 'Two', NULL, NULL), ('3', NULL, NULL, NULL, NULL)$$,
	'with their data; what cannot be used is left out');
SELECT fails($$SELECT billing.attach_organizations('orgs')$$, '42710', 'attached already', 'detach_organizations', 'a table is attached once');
SELECT is((SELECT count(*) FROM billing.attached_tables WHERE table_name = 'orgs'), 1::bigint, 'attached_tables lists it');

-- ---------------------------------------------------------------------------
-- Insert

INSERT INTO orgs VALUES (10, 'ten@example.com', 'Ten', 'de', 'eur', '');
SELECT results_eq($$SELECT email, name, country, currency FROM billing.customer_details WHERE organization_id = '10'$$, $$VALUES ('ten@example.com', 'Ten', 'DE', 'EUR')$$, 'an insert makes the customer');
BEGIN;
INSERT INTO orgs VALUES (11, 'eleven@example.com', 'Eleven', 'DE', 'EUR', '');
SELECT is((SELECT count(*) FROM billing.outbox WHERE object_id = billing.find_customer('11')), 1::bigint, 'with its request, in the same transaction');
ROLLBACK;
SELECT is(billing.find_customer('11'), NULL::uuid, 'which are gone when it rolls back');
SELECT lives_ok($$INSERT INTO orgs VALUES (12, 'not an address', 'Twelve', 'Nowhere', 'gold', '')$$, 'a bad e-mail address does not make the statement fail');
SELECT results_eq($$SELECT email, name, country FROM billing.customer_details WHERE organization_id = '12'$$, $$VALUES (NULL::text, 'Twelve', NULL::text)$$, 'the customer is made without it');
SELECT lives_ok($$INSERT INTO orgs SELECT g, g || '@example.com' FROM generate_series(100, 199) AS g$$, 'many rows at once');
SELECT is((SELECT count(*) FROM billing.customers WHERE organization_id::integer BETWEEN 100 AND 199), 100::bigint, 'are as many customers');
COPY orgs (id, mail, title) FROM stdin;
20	twenty@example.com	Twenty
21	\N	Twenty-one
\.
SELECT results_eq($$SELECT organization_id, email FROM billing.customer_details WHERE organization_id IN ('20', '21') ORDER BY 1$$, $$VALUES ('20', 'twenty@example.com'), ('21', NULL)$$, 'so are rows that COPY brings');
SELECT billing.create_customer('30', 'mine@example.com') AS mine \gset
SELECT lives_ok($$INSERT INTO orgs VALUES (30, 'other@example.com')$$, 'a row of an organisation that has a customer is taken');
SELECT is(billing.find_customer('30'), :'mine', 'and keeps it');
INSERT INTO orgs VALUES (20, 'again@example.com') ON CONFLICT (id) DO UPDATE SET mail = excluded.mail;
SELECT is((SELECT email FROM billing.customer_details WHERE organization_id = '20'), 'again@example.com', 'an insert that becomes an update updates');
INSERT INTO orgs VALUES (20) ON CONFLICT DO NOTHING;
SELECT is((SELECT email FROM billing.customer_details WHERE organization_id = '20'), 'again@example.com', 'one that does nothing does nothing');
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.outbox), 0::bigint, 'the worker tells the provider of all');

-- ---------------------------------------------------------------------------
-- Update

BEGIN;
UPDATE orgs SET mail = 'new@example.com' WHERE id = 1;
SELECT is((SELECT array_agg(operation) FROM billing.outbox WHERE object_id = billing.find_customer('1')), '{customer.update}', 'an update of the e-mail address is a request');
COMMIT;
SELECT is((SELECT email FROM billing.customer_details WHERE organization_id = '1'), 'new@example.com', 'and changes the customer');
BEGIN;
UPDATE orgs SET note = 'nobody has to know', mail = mail WHERE id = 1;
SELECT is((SELECT count(*) FROM billing.events WHERE id = billing.find_customer('1') AND type = 'customer.updated' AND created_at = now()), 0::bigint, 'an update of other columns is none');
COMMIT;
UPDATE orgs SET title = NULL WHERE id = 1;
SELECT is((SELECT name FROM billing.customer_details WHERE organization_id = '1'), NULL, 'null clears');
UPDATE orgs SET land = 'US', money = 'USD', title = 'Uno' WHERE id = 1;
SELECT results_eq($$SELECT name, country, currency FROM billing.customer_details WHERE organization_id = '1'$$, $$VALUES ('Uno', 'US', 'USD')$$, 'name, country and currency follow');
SELECT lives_ok($$UPDATE orgs SET mail = 'no address' WHERE id = 1$$, 'a bad e-mail address does not make an update fail');
SELECT fails($$UPDATE orgs SET id = 999 WHERE id = 1$$, 'JB008', 'organization ids cannot change', 'insert a new row', 'the id of an organisation cannot change');
CREATE FUNCTION upper_title() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.title := upper(NEW.title); RETURN NEW; END $$;
CREATE TRIGGER upper_title BEFORE UPDATE ON orgs FOR EACH ROW EXECUTE FUNCTION upper_title();
UPDATE orgs SET note = 'x' WHERE id = 1;
SELECT is((SELECT name FROM billing.customer_details WHERE organization_id = '1'), 'UNO', 'what a trigger of the application changes is seen');
CALL billing.run_worker();

-- ---------------------------------------------------------------------------
-- Delete

SELECT billing.subscribe('10', 'pro', trial_days => 3, currency => 'USD') AS ten \gset
CALL billing.run_worker();
SELECT billing.find_customer('10') AS customer \gset
DELETE FROM orgs WHERE id = 10;
SELECT is(billing.find_customer('10'), NULL::uuid, 'a delete ends the customer');
CALL billing.run_worker();
SELECT is(status_of('10'), 'canceled', 'and cancels its subscription');
SELECT is((SELECT count(*) FROM billing.outbox_finished WHERE object_id = :'customer' AND operation = 'customer.delete'), 1::bigint, 'at the provider, too');
SELECT lives_ok($$DELETE FROM orgs WHERE id = 10$$, 'a delete of nothing is nothing');
INSERT INTO orgs VALUES (10, 'ten@example.com');
SELECT isnt(billing.find_customer('10'), :'customer', 'the same id later is a new customer');
BEGIN;
DELETE FROM orgs;
ROLLBACK;
SELECT isnt(billing.find_customer('10'), NULL, 'a delete that rolls back ends nothing');
TRUNCATE orgs;
SELECT isnt(billing.find_customer('10'), NULL, 'TRUNCATE leaves customers as they are');

-- ---------------------------------------------------------------------------
-- Detaching

ALTER TABLE orgs RENAME COLUMN mail TO email;
SELECT fails($$INSERT INTO orgs VALUES (40, 'x@example.com')$$, '42703', 'has no column "mail"', 'detach_organizations', 'a column that was renamed is an error, not a customer without an address');
SELECT lives_ok($$SELECT billing.detach_organizations('orgs')$$, 'a table can be detached');
SELECT lives_ok($$INSERT INTO orgs VALUES (41, 'x@example.com')$$, 'then its rows');
SELECT is(billing.find_customer('41'), NULL::uuid, 'make no customers');
SELECT isnt(billing.find_customer('10'), NULL, 'and those that there are stay');
SELECT is((SELECT count(*) FROM billing.attached_tables), 0::bigint, 'it is not listed any more');
SELECT fails($$SELECT billing.detach_organizations('orgs')$$, 'JB005', 'attached table', NULL, 'a table that is not attached cannot be detached');

-- ---------------------------------------------------------------------------
-- on_delete, default_plan

CREATE TABLE keepers (id text PRIMARY KEY);
SELECT is(billing.attach_organizations('keepers', on_delete => 'keep', default_plan => 'free'), 0::bigint, 'without backfill no customers are made of what is there');
INSERT INTO keepers VALUES ('k');
SELECT is(status_of('k'), 'active', 'each new customer is subscribed to the default plan');
DELETE FROM keepers;
SELECT isnt(billing.find_customer('k'), NULL, 'keep leaves the customer as it is');
SELECT is(status_of('k'), 'active', 'with its subscription');
INSERT INTO keepers VALUES ('k');
SELECT is((SELECT count(*) FROM billing.subscriptions WHERE organization_id = 'k'), 1::bigint, 'which it finds again');

CREATE TABLE cancelers (id text PRIMARY KEY, mail text);
SELECT billing.attach_organizations('cancelers', email_column => 'mail', on_delete => 'cancel', default_plan => 'pro') AS attached \gset
INSERT INTO cancelers VALUES ('c', 'c@example.com');
CALL billing.run_worker();
SELECT is(status_of('c'), 'incomplete', 'a default plan that costs something waits for its payment');
DELETE FROM cancelers;
CALL billing.run_worker();
SELECT is(status_of('c'), 'canceled', 'cancel ends the subscriptions');
SELECT isnt(billing.find_customer('c'), NULL, 'and leaves the customer');

CREATE TABLE europeans (id text PRIMARY KEY, money text);
SELECT billing.attach_organizations('europeans', currency_column => 'money', default_plan => 'pro') AS attached \gset
SELECT lives_ok($$INSERT INTO europeans VALUES ('e', 'EUR')$$, 'a currency in which the default plan has no price does not make the statement fail');
SELECT results_eq($$SELECT currency, status_of('e') FROM billing.customers WHERE organization_id = 'e'$$, $$VALUES ('EUR', NULL::text)$$, 'the customer is made, and not subscribed');
UPDATE billing.plans SET retired_at = now() WHERE plan = 'pro';
SELECT lives_ok($$INSERT INTO europeans VALUES ('u', 'USD')$$, 'nor does a default plan that was retired');
UPDATE billing.plans SET retired_at = NULL WHERE plan = 'pro';
INSERT INTO europeans VALUES ('v', 'USD');
SELECT is(status_of('v'), 'incomplete', 'where it is sold it is subscribed to');

-- ---------------------------------------------------------------------------
-- What a provider wants and the row has not

SELECT billing.configure_provider('sandbox', account => 'mexico', options => '{"behave_as": "conekta"}');
CREATE TABLE mexicans (id text PRIMARY KEY, mail text, title text, phone text);
SELECT billing.attach_organizations('mexicans', email_column => 'mail', name_column => 'title', phone_column => 'phone', provider => 'sandbox', account => 'mexico') AS attached \gset
SELECT lives_ok($$INSERT INTO mexicans VALUES ('m', 'm@example.mx', 'Eme')$$, 'a row without what the provider requires is taken');
SELECT is((SELECT needs_data FROM billing.customers WHERE organization_id = 'm'), 'phone', 'the customer says what is missing');
SELECT is((SELECT count(*) FROM billing.outbox_finished WHERE object_id = billing.find_customer('m')), 0::bigint, 'and the provider does not hear of it');
SELECT is((SELECT detail FROM billing.attention WHERE organization_id = 'm'), 'sandbox requires phone', 'a person sees it in attention');
UPDATE mexicans SET phone = '+525512345678';
CALL billing.run_worker();
SELECT results_eq($$SELECT needs_data, provider_customer_id IS NOT NULL FROM billing.customer_details WHERE organization_id = 'm'$$, $$VALUES (NULL::text, true)$$, 'when it is there the customer is made at the provider');

SELECT billing.detach_organizations('mexicans');
SELECT billing.attach_organizations('mexicans', email_column => 'mail', name_column => 'title', phone_column => 'phone', provider => 'sandbox', account => 'mexico', default_plan => 'pro') AS attached \gset
SELECT lives_ok($$INSERT INTO mexicans VALUES ('n', 'n@example.mx', 'Ene')$$, 'so is one that is to be subscribed');
CALL billing.run_worker();
SELECT is(status_of('n'), NULL, 'the subscription waits for the data, too');
SELECT fails($$SELECT billing.subscribe('n', 'pro')$$, '23502', 'sandbox requires phone', 'update_customer', 'a call says what is missing');
SELECT fails($$SELECT billing.attach_payment_method(billing.find_customer('n'), 'pm_card_visa')$$, '23502', 'sandbox requires phone', 'update_customer', 'any call that the provider would hear of');
UPDATE mexicans SET phone = '+525512345679' WHERE id = 'n';
CALL billing.run_worker();
SELECT is(status_of('n'), 'incomplete', 'when they are there it is made');
SELECT is((SELECT count(*) FROM billing.outbox), 0::bigint, 'and nothing was sent twice');

-- ---------------------------------------------------------------------------
-- What is wrong with billing's configuration is not the application's fault

CREATE TABLE unlucky (id text, mail text, title text);
SELECT billing.attach_organizations('unlucky', email_column => 'mail', name_column => 'title', default_plan => 'pro', provider => 'sandbox', account => 'mexico') AS attached \gset
DROP TRIGGER janua_billing_insert ON unlucky;
CREATE TRIGGER janua_billing_insert AFTER INSERT ON unlucky FOR EACH ROW
	EXECUTE FUNCTION billing.organization_changed('{"id_column": "id", "email_column": "mail", "name_column": "title", "provider": "stripe"}');
SELECT lives_ok($$INSERT INTO unlucky VALUES ('u1', 'u@example.com', 'U')$$, 'a provider that is not configured does not make the statement fail');
SELECT is(billing.find_customer('u1'), NULL::uuid, 'the customer is left out');
SELECT fails($$INSERT INTO unlucky VALUES ('u2', 'u@example.com', '4242 4242 4242 4242')$$, 'JB009', 'name holds a card number', 'pm_card_visa', 'a card number does, with its hint');
SELECT fails($$INSERT INTO unlucky VALUES (NULL, 'u@example.com', 'U')$$, '23502', 'must not be null', NULL, 'so does a row without an id');
SELECT fails($$UPDATE unlucky SET id = 'u3'$$, 'JB008', 'organization ids cannot change', 'insert a new row', 'and an id that changes');
SELECT lives_ok(format($$INSERT INTO unlucky VALUES (%L)$$, repeat('x', 256)), 'an id that is too long for a customer is left out, too');
SELECT lives_ok($$DELETE FROM unlucky WHERE length(id) = 256$$, 'and can be deleted');

DROP TRIGGER janua_billing_insert ON unlucky;
CREATE TRIGGER janua_billing_insert AFTER INSERT ON unlucky FOR EACH ROW
	EXECUTE FUNCTION billing.organization_changed('{"id_column": "id", "email_column": "mail", "default_plan": "tailored"}');
SELECT billing.create_plan('tailored', 'Tailored', 100) AS tailored \gset
UPDATE billing.plans SET custom_price = true WHERE plan = 'tailored';
SELECT lives_ok($$INSERT INTO unlucky VALUES ('u4', 'u@example.com')$$, 'a plan that cannot be sold does not make the statement fail');
SELECT isnt(billing.find_customer('u4'), NULL, 'the customer is made');
SELECT is(status_of('u4'), NULL, 'and only the subscription left out');

-- with a subtransaction left open the next statement of this session would fail
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(10); RETURN NEW; END $$;
CREATE TRIGGER dawdle BEFORE INSERT ON billing.customers FOR EACH ROW EXECUTE FUNCTION dawdle();
SET statement_timeout = '200ms';
\set ON_ERROR_STOP 0
INSERT INTO unlucky VALUES ('u5', 'u@example.com');
\set ON_ERROR_STOP 1
RESET statement_timeout;
SELECT is(:'LAST_ERROR_MESSAGE'::text, 'canceling statement due to statement timeout', 'a timeout ends the statement');
SELECT is((SELECT count(*) FROM unlucky WHERE id = 'u5'), 0::bigint, 'with its row, and the session goes on');
DROP TRIGGER dawdle ON billing.customers;

-- partitions
CREATE TABLE parts (id integer, region text, mail text) PARTITION BY LIST (region);
CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
CREATE TABLE parts_us PARTITION OF parts FOR VALUES IN ('us');
SELECT billing.attach_organizations('parts', email_column => 'mail') AS attached \gset
INSERT INTO parts VALUES (900, 'eu', 'p@example.com');
SELECT billing.find_customer('900') AS part \gset
UPDATE parts SET region = 'us' WHERE id = 900;
SELECT is(billing.find_customer('900'), :'part', 'a row that moves to another partition keeps its customer');

SET janua_billing.restoring = on;
INSERT INTO parts VALUES (901, 'eu', 'q@example.com');
SELECT is(billing.find_customer('901'), NULL::uuid, 'while a dump is restored the triggers are quiet');
RESET janua_billing.restoring;

SELECT * FROM finish();

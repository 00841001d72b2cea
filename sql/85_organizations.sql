-- Triggers on the application's own table of organisations.

CREATE TABLE billing.attached_tables
(
	table_schema text NOT NULL,
	table_name text NOT NULL,
	options jsonb NOT NULL,
	attached_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (table_schema, table_name)
);
COMMENT ON TABLE billing.attached_tables IS
	'Tables of the application that make customers, under the names they had when they were attached; see attach_organizations(). '
	'What counts are the triggers on the tables.';
COMMENT ON COLUMN billing.attached_tables.options IS 'The argument of the triggers.';
SELECT pg_extension_config_dump('billing.attached_tables', '');

CREATE FUNCTION billing.organization_changed() RETURNS trigger
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_organization_changed';
COMMENT ON FUNCTION billing.organization_changed() IS
	'Trigger on the application''s table: an insert makes the customer, an update changes it, a delete deletes it. Put in place by '
	'attach_organizations(). Does nothing while janua_billing.restoring is on. Errors: 42703 a column was renamed, 23502 the id is '
	'null, JB008 the id changes, JB009 a card number, JB012 no key file.';

CREATE FUNCTION billing.attach_organizations(
	target regclass,
	id_column name DEFAULT 'id',
	email_column name DEFAULT NULL,
	name_column name DEFAULT NULL,
	country_column name DEFAULT NULL,
	phone_column name DEFAULT NULL,
	locale_column name DEFAULT NULL,
	currency_column name DEFAULT NULL,
	default_plan text DEFAULT NULL,
	on_delete text DEFAULT 'delete',
	provider text DEFAULT NULL,
	account text DEFAULT NULL,
	backfill boolean DEFAULT false)
RETURNS bigint
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_attach_organizations';
COMMENT ON FUNCTION billing.attach_organizations(regclass, name, name, name, name, name, name, name, text, text, text, text, boolean) IS
	'From now on an insert into the table makes the customer, an update of the named columns changes it and a delete ends it, in the '
	'same transaction. The statement never fails because a provider wants more data (see the view attention) or because of an e-mail '
	'address, country or currency that cannot be used (it is left out with a WARNING). '
	'TRUNCATE leaves customers and subscriptions as they are; a row that moves to another partition keeps its customer. '
	'default_plan: a plan that each new customer is subscribed to. on_delete: delete (cancel and delete the customer), cancel (cancel its '
	'subscriptions) or keep. backfill: make customers of the rows that are there; returns how many. Needs the TRIGGER privilege on the '
	'table, and SELECT for backfill. Errors: 42703 no such column, 42710 attached already, 42501 not allowed, 42809 not a table of the '
	'application, 22023 bad on_delete or a plan without a price, JB005 unknown plan or provider, JB006 provider not configured, 25001 '
	'backfill in REPEATABLE READ or stricter.';

CREATE FUNCTION billing.detach_organizations(target regclass) RETURNS void
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_detach_organizations';
COMMENT ON FUNCTION billing.detach_organizations(regclass) IS
	'Takes the triggers of attach_organizations() away; customers stay. Only the owner of the table may. Errors: JB005 the table is not '
	'attached, 42501 not allowed.';

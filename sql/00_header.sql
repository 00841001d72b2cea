\echo Use "CREATE EXTENSION janua_billing" to load this file. \quit

-- Nothing below may be resolved in a schema that somebody else can write to.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- The owner of everything: a role that nobody can log in as, but the nodes of
-- Citus, where the coordinator comes to the others as the owner of a table.  It
-- is shared by all databases of the cluster and stays when the extension is dropped.
DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'janua_billing') THEN
		CREATE ROLE janua_billing NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT BYPASSRLS;
		COMMENT ON ROLE janua_billing IS 'owner of the objects of the extension janua_billing';
	ELSIF EXISTS (SELECT FROM pg_roles
				  WHERE rolname = 'janua_billing'
					  AND (rolsuper OR rolcanlogin AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus'))) THEN
		RAISE EXCEPTION 'role "janua_billing" can log in or is a superuser'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = 'The role owns the billing tables and is what the background worker runs as.',
				  HINT = 'ALTER ROLE janua_billing NOLOGIN NOSUPERUSER BYPASSRLS, or drop the role, and try again.';
	ELSIF EXISTS (SELECT FROM pg_roles
				  WHERE rolname = 'janua_billing' AND NOT rolbypassrls) THEN
		ALTER ROLE janua_billing BYPASSRLS;
	END IF;
END
$$;

-- Webhooks and providers speak UTF-8; their signatures are over its bytes.
DO $$
BEGIN
	IF current_setting('server_encoding') <> 'UTF8' THEN
		RAISE EXCEPTION 'janua_billing needs a database with encoding UTF8'
			USING ERRCODE = 'feature_not_supported',
				  DETAIL = 'This one has ' || current_setting('server_encoding') || '.',
				  HINT = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0.';
	END IF;
END
$$;

CREATE SCHEMA billing;
COMMENT ON SCHEMA billing IS
	'billing behind SQL: customers, plans, subscriptions, usage, invoices and webhooks of several payment providers';

-- Version 7 ids sort by the time at which they were made, which keeps the
-- indexes of busy tables dense.
CREATE FUNCTION billing.new_id() RETURNS uuid
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_new_id';
COMMENT ON FUNCTION billing.new_id() IS
	'A new uuid of version 7 (RFC 9562): milliseconds since 1970, then random bits.';

-- A dumped row of a seeded table replaces the built-in row of the same key:
-- pg_restore inserts it into the freshly created extension.
CREATE FUNCTION billing.replace_builtin() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	key_columns text := TG_ARGV[0];
	assignments text;
	matches text;
	builtin_there boolean;
BEGIN
	SELECT string_agg(format('%1$I = ($1).%1$I', attname), ', ' ORDER BY attnum)
	INTO assignments
	FROM pg_attribute
	WHERE attrelid = TG_RELID AND attnum > 0 AND NOT attisdropped AND attgenerated = '';

	SELECT string_agg(format('t.%1$I = ($1).%1$I', k), ' AND ')
	INTO matches
	FROM unnest(string_to_array(key_columns, ',')) AS k;

	EXECUTE format('SELECT EXISTS (SELECT FROM %I.%I AS t WHERE %s AND t.builtin)', TG_TABLE_SCHEMA, TG_TABLE_NAME, matches)
	INTO builtin_there
	USING NEW;
	IF NOT builtin_there THEN
		RETURN NEW;
	END IF;

	-- Between two rows of a dump there may be two defaults; what counts is the
	-- end.  Only ours: constraints of the application stay as they are.
	SET CONSTRAINTS billing.plans_one_default, billing.prices_one_default DEFERRED;
	EXECUTE format('UPDATE %I.%I AS t SET %s WHERE %s AND t.builtin',
				   TG_TABLE_SCHEMA, TG_TABLE_NAME, assignments, matches)
	USING NEW;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION billing.replace_builtin() IS
	'Trigger of the seeded tables: an inserted row takes the place of the built-in row with the same key.';

-- An administrator's change makes a seeded row his own: from then on it is
-- dumped, and no later version of the extension touches it.
CREATE FUNCTION billing.clear_builtin() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- what is generated is not there yet
	IF OLD.builtin AND NEW.builtin AND to_jsonb(OLD) - 'version_of' IS DISTINCT FROM to_jsonb(NEW) - 'version_of' THEN
		NEW.builtin := false;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION billing.clear_builtin() IS
	'Trigger of the seeded tables: a changed row is no longer built in.';

-- Rows that others refer to are retired, never deleted.
CREATE FUNCTION billing.refuse_delete() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'rows of billing.% cannot be deleted', TG_TABLE_NAME
		USING ERRCODE = 'JB008', HINT = TG_ARGV[0];
END
$$;
COMMENT ON FUNCTION billing.refuse_delete() IS
	'Trigger of the tables whose rows are retired, voided or kept instead of deleted.';

-- Last: everything goes to the owner, and nothing is left to anybody else.  The
-- owner comes before the privileges: they are remembered as those that the
-- extension came with, with the owner as the one who gave them, and pg_dump
-- writes down only what differs from them.

DO $$
DECLARE
	member record;
	grantee text;
BEGIN
	-- the sequence of an identity column and the row type of a table follow the table;
	-- a column of a partition key depends on its own table
	FOR member IN
		SELECT i.type, i.identity
		FROM pg_depend AS d
		JOIN pg_extension AS e ON e.oid = d.refobjid
		CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) AS i
		WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'janua_billing'
			AND NOT EXISTS (SELECT FROM pg_depend AS s
							WHERE s.classid = d.classid AND s.objid = d.objid AND s.objsubid = 0
								AND s.refclassid IN ('pg_class'::regclass, 'pg_type'::regclass) AND s.deptype IN ('a', 'i'))
	LOOP
		EXECUTE format('ALTER %s %s OWNER TO janua_billing', member.type, member.identity);
	END LOOP;

	-- not only PUBLIC: ALTER DEFAULT PRIVILEGES may have given new objects to others
	FOR grantee IN
		SELECT 'PUBLIC'
		UNION
		SELECT quote_ident(r.rolname)
		FROM (SELECT c.relacl FROM pg_class AS c WHERE c.relnamespace = 'billing'::regnamespace
			  UNION ALL
			  SELECT p.proacl FROM pg_proc AS p WHERE p.pronamespace IN ('billing'::regnamespace, 'billing_webhooks'::regnamespace)
			  UNION ALL
			  SELECT n.nspacl FROM pg_namespace AS n WHERE n.nspname IN ('billing', 'billing_webhooks')) AS o (acl)
		CROSS JOIN LATERAL aclexplode(o.acl) AS a
		JOIN pg_roles AS r ON r.oid = a.grantee
		WHERE r.rolname <> 'janua_billing'
	LOOP
		EXECUTE format('REVOKE ALL ON SCHEMA billing, billing_webhooks FROM %s', grantee);
		EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA billing FROM %s', grantee);
		EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA billing FROM %s', grantee);
		EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA billing, billing_webhooks FROM %s', grantee);
	END LOOP;
END
$$;

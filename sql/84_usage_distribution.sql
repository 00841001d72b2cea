-- Usage beyond one machine: the tables that grow with it, handed to Citus.
-- docs/scaling.md says what that brings and costs.

-- Every transaction that records usage adds marks of its own, so that those who
-- record never wait for each other here, and nobody takes away a mark whose
-- event he could not see.  Empty for as long as usage is not distributed.
CREATE TABLE billing.usage_dirty
(
	bucket timestamptz NOT NULL,
	id uuid NOT NULL,
	organization_id text NOT NULL,
	metric text NOT NULL,
	PRIMARY KEY (organization_id, metric, bucket, id)
);
COMMENT ON TABLE billing.usage_dirty IS
	'Where usage is distributed: quarters of an hour whose totals are not what their events come to. Written with the event, by its transaction; '
	'readers add up the events of these, the worker does so for the totals and takes away the marks that it saw before.';
SELECT pg_extension_config_dump('billing.usage_dirty', '');

-- The one list of what is distributed, all by organization_id.  A table that
-- others refer to comes before them; whoever writes to or reads one in C goes
-- through SPI when UsageTables.distributed says so.
CREATE FUNCTION billing.distributed_tables() RETURNS name[]
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN ARRAY['usage_keys', 'usage_events', 'usage_totals', 'usage_values', 'usage_dirty', 'usage_counters', 'usage_reservations']::name[];
COMMENT ON FUNCTION billing.distributed_tables() IS 'The tables that distribute_usage() hands to Citus, in this order.';

CREATE FUNCTION billing.check_distribution() RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	nodes bigint;
	local_group integer;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_available_extensions AS a WHERE a.name = 'citus') THEN
		RAISE EXCEPTION 'usage cannot be distributed: Citus is not installed on this server'
			USING ERRCODE = 'JB004', DETAIL = 'Distributed tables are those of the extension citus.',
				  HINT = 'Install Citus on every node, put it first in shared_preload_libraries (citus, janua_billing), restart, and CREATE EXTENSION citus.';
	ELSIF current_setting('citus.shard_count', true) IS NULL THEN
		RAISE EXCEPTION 'usage cannot be distributed: Citus is not loaded'
			USING ERRCODE = 'JB004', DETAIL = 'The setting citus.shard_count is unknown.',
				  HINT = 'Put citus first in shared_preload_libraries (citus, janua_billing), on every node, restart, and CREATE EXTENSION citus.';
	ELSIF NOT EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'citus') THEN
		RAISE EXCEPTION 'usage cannot be distributed: this database has no extension citus'
			USING ERRCODE = 'JB004', DETAIL = format('Citus is loaded, but not part of the database "%s".', current_database()),
				  HINT = 'CREATE EXTENSION citus, here and in the database of the same name on every node, then citus_add_node().';
	END IF;
	EXECUTE 'SELECT groupid FROM pg_catalog.pg_dist_local_group' INTO local_group;
	IF local_group <> 0 THEN
		RAISE EXCEPTION 'usage is distributed from the coordinator'
			USING ERRCODE = 'JB004', DETAIL = format('This is the node of group %s.', local_group), HINT = 'Connect to the coordinator.';
	END IF;
	EXECUTE 'SELECT count(*) FROM pg_catalog.pg_dist_node WHERE shouldhaveshards AND noderole = ''primary''' INTO nodes;
	IF nodes = 0 THEN
		RAISE EXCEPTION 'usage cannot be distributed: no node takes shards'
			USING ERRCODE = 'JB008', DETAIL = 'pg_dist_node has no primary with shouldhaveshards.',
				  HINT = 'SELECT citus_set_coordinator_host(...) and citus_add_node(...) for each of the others.';
	ELSIF NOT (SELECT r.rolcanlogin FROM pg_roles AS r WHERE r.rolname = 'janua_billing') THEN
		RAISE EXCEPTION 'usage cannot be distributed: role "janua_billing" cannot log in'
			USING ERRCODE = 'JB008', DETAIL = 'The coordinator connects to the other nodes as the owner of the tables.',
				  HINT = 'ALTER ROLE janua_billing LOGIN, on every node, and let it in from the addresses of the nodes alone (pg_hba.conf, pg_dist_authinfo).';
	ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'usage is distributed in a transaction of level read committed'
			USING ERRCODE = 'JB008', DETAIL = format('This one is %s: it may not see what was recorded last.', current_setting('transaction_isolation')),
				  HINT = 'BEGIN ISOLATION LEVEL READ COMMITTED.';
	END IF;
END
$$;
COMMENT ON FUNCTION billing.check_distribution() IS 'Refuses what distribute_usage() cannot do here, and says what is missing.';

CREATE FUNCTION billing.distribute_usage(shard_count integer DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	tables name[] := billing.distributed_tables();
	listed name;
	leaf regclass;
	there boolean;
	added boolean := false;
BEGIN
	IF shard_count NOT BETWEEN 1 AND 64000 THEN
		RAISE EXCEPTION 'shard_count is out of range'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It is %s.', shard_count),
				  HINT = 'Pass 1 to 64000, two to four per processor core of all nodes, or NULL for the setting citus.shard_count.';
	END IF;
	PERFORM billing.check_distribution();

	-- In the order of those who record and roll up: makers of partitions, the
	-- rollup, then everybody who has one of the tables open.
	LOCK TABLE billing.usage_rollup_state IN SHARE UPDATE EXCLUSIVE MODE;
	PERFORM FROM billing.usage_rollup_state FOR UPDATE;
	EXECUTE (SELECT 'LOCK TABLE ' || string_agg(format('billing.%I', n), ', ' ORDER BY i) || ' IN ACCESS EXCLUSIVE MODE'
			 FROM unnest(tables) WITH ORDINALITY AS t (n, i));

	-- What the totals have not taken in is found by its quarter from now on.
	IF NOT EXISTS (SELECT FROM billing.usage_rollup_state AS s WHERE s.distributed) THEN
		INSERT INTO billing.usage_dirty (organization_id, metric, bucket, id)
		SELECT t.organization_id, t.metric, t.bucket, billing.new_id()
		FROM (SELECT DISTINCT u.organization_id, u.metric, date_bin('15 minutes', u.occurred_at, '2000-01-01 00:00+00') AS bucket
			  FROM billing.usage_events AS u
			  WHERE u.recorded_in >= billing.usage_tail_start() AND billing.in_usage_tail(u.recorded_in)) AS t;
		INSERT INTO billing.usage_rollup_state (bound_to, base, distributed)
		VALUES (billing.database_binding(), (SELECT coalesce(max(u.recorded_in) / 4096 + 1, 0) FROM billing.usage_events AS u), true)
		ON CONFLICT (only_one) DO UPDATE SET distributed = true, base = greatest(usage_rollup_state.base, excluded.base);
	END IF;

	-- keep_usage() refuses on the shards what it refuses here, and does nothing else.
	PERFORM set_config('citus.enable_unsafe_triggers', 'on', true);
	PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);
	-- Citus tells at length that it copies, and that what it has copied is still here
	PERFORM set_config('client_min_messages', 'warning', true);
	FOREACH listed IN ARRAY tables
	LOOP
		EXECUTE 'SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = $1)'
			INTO there USING format('billing.%I', listed)::regclass;
		CONTINUE WHEN there;
		IF listed = tables[1] THEN
			EXECUTE 'SELECT pg_catalog.create_distributed_table($1, ''organization_id'', colocate_with => ''none'', shard_count => '
					'coalesce($2, current_setting(''citus.shard_count'')::integer))'
				USING format('billing.%I', listed)::regclass, shard_count;
		ELSE
			EXECUTE 'SELECT pg_catalog.create_distributed_table($1, ''organization_id'', colocate_with => $2)'
				USING format('billing.%I', listed)::regclass, format('billing.%I', tables[1]);
		END IF;
		added := true;
		FOR leaf IN SELECT t.relid FROM pg_partition_tree(format('billing.%I', listed)::regclass) AS t WHERE t.isleaf
		LOOP
			EXECUTE 'SELECT pg_catalog.truncate_local_data_after_distributing_table($1)' USING leaf;
		END LOOP;
	END LOOP;
	PERFORM billing.grant_on_nodes(r.rolname)
	FROM pg_roles AS r
	WHERE r.rolname IN (SELECT g.role_name FROM billing.access_grants AS g);
	RETURN added;
END
$$;
COMMENT ON FUNCTION billing.distribute_usage(integer) IS
	'Hands the tables of usage to Citus, distributed by organization_id and colocated; recording, rollup and summaries go on as before. shard_count: of '
	'each table, default the setting citus.shard_count; it counts the first time only. Returns false when all of them were distributed before. Nobody '
	'records meanwhile: it takes as long as copying the rows. Errors: JB004 Citus is not there or this is not the coordinator, JB008 no node takes '
	'shards or the owner cannot log in, 22023 shard_count.';

-- distribute_usage() where there is no Citus: it says what is missing and leaves everything as it was.
\ir helpers.psql
SELECT plan(6);

SELECT billing.record_usage('acme', 'api_calls', 5) AS recorded \gset
SELECT fails('SELECT billing.distribute_usage()', 'JB004', 'usage cannot be distributed: Citus is not (installed|loaded)', 'shared_preload_libraries', 'without Citus it is refused');
SELECT fails('SELECT billing.distribute_usage(0)', '22023', 'shard_count is out of range', '1 to 64000', 'a number of shards has to be possible');
SELECT is((SELECT distributed FROM billing.usage_rollup_state), false, 'nothing is distributed then');
SELECT is_empty('SELECT FROM billing.usage_dirty', 'on one server nobody writes marks');
SELECT is((SELECT quantity FROM billing.usage_summary('acme') WHERE metric = 'api_calls'), 5::numeric, 'and all goes on');
SELECT results_eq('SELECT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid WHERE c.relnamespace = ''billing''::regnamespace
	AND c.relname = ANY (billing.distributed_tables()) AND a.attname = ''organization_id'' AND a.attnotnull ORDER BY 1',
	'SELECT unnest(billing.distributed_tables()) ORDER BY 1', 'what can be distributed has an organisation in every row');
SELECT * FROM finish();

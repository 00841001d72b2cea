/*-------------------------------------------------------------------------
 *
 * usage_shards.c
 *	  Writes and reads usage events where Citus distributes their tables.
 *
 * There the table of this server is a name, and rows go through SPI to the
 * shard of their organisation.  usage_store.c and usage_scan.c come here when
 * usage_rollup_state says so.
 *
 * With its events a transaction writes a mark for each quarter of an hour that
 * it touches.  All tables are colocated, so a mark and its events are written
 * by one transaction on one node, and show there at the same moment, whenever
 * the other nodes commit.  docs/architecture.md, "Usage on shards", says what
 * readers and the rollup make of that.
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "columns.h"
#include "utils/guc.h"

/* Rows that go with one statement. */
#define SHARD_BATCH 10000

struct ShardStore
{
	TimestampTz now;
	int64 transaction;
	UsageRow *rows;
	int count;
	int room;
};

/* ------------------------------------------------------------------------
 * Keys
 * ------------------------------------------------------------------------
 */
QUERY(claim_key,
	  "INSERT INTO billing.usage_keys (organization_id, key, stamp) VALUES ($1, $2, $3) "
	  "ON CONFLICT DO NOTHING",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID);
QUERY(release_key, "DELETE FROM billing.usage_keys WHERE organization_id = $1 AND key = $2",
	  TEXTOID, TEXTOID);

static Arg
arg_varlena(const void *value)
{
	return arg_datum(PointerGetDatum(value), value == NULL);
}

ShardStore *
shard_store_open(TimestampTz now, int64 transaction)
{
	ShardStore *store = palloc0(sizeof(ShardStore));

	store->now = now;
	store->transaction = transaction;
	return store;
}

bool
shard_store_claim(ShardStore *store, const UsageRow *row)
{
	Identity identity = identity_take_owner();
	bool claimed;

	db_open();
	claimed = RUN(claim_key, arg_varlena(row->organization_id), arg_varlena(row->key),
				  arg_datum(TimestampTzGetDatum(Max(store->now, row->occurred_at)), false)) > 0;
	db_close();
	identity_give_back(identity);
	return claimed;
}

void
shard_store_unclaim(const UsageRow *row)
{
	Identity identity = identity_take_owner();

	db_open();
	RUN(release_key, arg_varlena(row->organization_id), arg_varlena(row->key));
	db_close();
	identity_give_back(identity);
}

/* Whoever is about to use it is waited for by claiming it. */
bool
shard_store_knows(ShardStore *store, const UsageRow *row)
{
	if (!shard_store_claim(store, row))
		return true;
	shard_store_unclaim(row);
	return false;
}

/* ------------------------------------------------------------------------
 * Events and marks
 * ------------------------------------------------------------------------
 */
#define EVENT_COLUMNS                                                                 \
	"(occurred_at, recorded_at, recorded_in, id, organization_id, metric, quantity, " \
	"kind, idempotency_key, properties, corrects)"

QUERY(insert_event,
	  "INSERT INTO billing.usage_events " EVENT_COLUMNS
	  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
	  TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, UUIDOID, TEXTOID, TEXTOID, NUMERICOID, TEXTOID,
	  TEXTOID, JSONBOID, UUIDOID);
QUERY(
	insert_mark,
	"INSERT INTO billing.usage_dirty (organization_id, metric, bucket, id) VALUES ($1, $2, $3, $4)",
	TEXTOID, TEXTOID, TIMESTAMPTZOID, UUIDOID);
QUERY_CUSTOM(insert_events,
			 "INSERT INTO billing.usage_events " EVENT_COLUMNS
			 " SELECT u.at, $1, $2, u.id, u.organization_id, "
			 "u.metric, u.quantity, u.kind, u.key, u.properties, u.corrects "
			 "FROM unnest($3, $4, $5, $6, $7, $8, $9, $10, $11) "
			 "AS u (at, id, organization_id, metric, quantity, kind, key, properties, corrects)",
			 TIMESTAMPTZOID, INT8OID, TIMESTAMPTZARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
			 NUMERICARRAYOID, TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID, UUIDARRAYOID);
QUERY_CUSTOM(
	insert_marks,
	"INSERT INTO billing.usage_dirty (organization_id, metric, bucket, id) "
	"SELECT d.organization_id, d.metric, d.bucket, billing.new_id() "
	"FROM (SELECT DISTINCT * FROM unnest($1, $2, $3)) AS d (organization_id, metric, bucket)",
	TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID);

static const char *
kind_of(const UsageRow *row)
{
	return row->kind == NULL ? "usage" : row->kind;
}

static void
write_row(const ShardStore *store, const UsageRow *row)
{
	pg_uuid_t mark;

	RUN(insert_event, arg_datum(TimestampTzGetDatum(row->occurred_at), false),
		arg_datum(TimestampTzGetDatum(store->now), false), arg_int(store->transaction),
		arg_uuid(&row->id), arg_varlena(row->organization_id), arg_varlena(row->metric),
		arg_varlena(row->quantity), arg_text(kind_of(row)), arg_varlena(row->key),
		arg_json(row->properties), arg_uuid(row->corrects));
	usage_make_id(&mark);
	RUN(insert_mark, arg_varlena(row->organization_id), arg_varlena(row->metric),
		arg_datum(TimestampTzGetDatum(usage_bucket(row->occurred_at)), false), arg_uuid(&mark));
}

static void
write_rows(const ShardStore *store)
{
	int count = store->count;
	Column at = COLUMN_TIME(count);
	Column bucket = COLUMN_TIME(count);
	Column id = COLUMN_UUID(count);
	Column organization_id = COLUMN_TEXT(count);
	Column metric = COLUMN_TEXT(count);
	Column quantity = COLUMN_NUMBER(count);
	Column kind = COLUMN_TEXT(count);
	Column key = COLUMN_TEXT(count);
	Column properties = COLUMN_JSON(count);
	Column corrects = COLUMN_UUID(count);

	for (int i = 0; i < count; i++)
	{
		const UsageRow *row = &store->rows[i];

		at.values[i] = TimestampTzGetDatum(row->occurred_at);
		bucket.values[i] = TimestampTzGetDatum(usage_bucket(row->occurred_at));
		column_pointer(&id, i, &row->id);
		column_pointer(&organization_id, i, row->organization_id);
		column_pointer(&metric, i, row->metric);
		column_pointer(&quantity, i, row->quantity);
		kind.values[i] = CStringGetTextDatum(kind_of(row));
		column_pointer(&key, i, row->key);
		column_pointer(&properties, i, row->properties);
		column_pointer(&corrects, i, row->corrects);
	}
	RUN(insert_events, arg_datum(TimestampTzGetDatum(store->now), false),
		arg_int(store->transaction), column_arg(&at, count), column_arg(&id, count),
		column_arg(&organization_id, count), column_arg(&metric, count),
		column_arg(&quantity, count), column_arg(&kind, count), column_arg(&key, count),
		column_arg(&properties, count), column_arg(&corrects, count));
	RUN(insert_marks, column_arg(&organization_id, count), column_arg(&metric, count),
		column_arg(&bucket, count));
}

/*
 * A statement about many shards opens a connection for each of them, and each
 * would have to be prepared at commit: with one per node a batch over a
 * thousand organisations is many times faster.  For the rest of the caller's
 * identity, or transaction.
 */
void
shards_one_after_another(void)
{
	if (GetConfigOption("citus.multi_shard_modify_mode", true, false) != NULL)
		(void) set_config_option("citus.multi_shard_modify_mode", "sequential", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static void
write_out(ShardStore *store)
{
	Identity identity;

	if (store->count == 0)
		return;
	identity = identity_take_owner();
	db_open();
	if (store->count == 1)
		write_row(store, store->rows);
	else
	{
		shards_one_after_another();
		write_rows(store);
	}
	db_close();
	identity_give_back(identity);
	store->count = 0;
}

/* What the row points to stays as it is until the store is closed. */
void
shard_store_put(ShardStore *store, const UsageRow *row)
{
	if (store->count == store->room)
	{
		store->room = store->room == 0 ? 1 : Min(store->room * 8, SHARD_BATCH);
		store->rows = store->rows == NULL ? palloc(sizeof(UsageRow))
										  : repalloc(store->rows, sizeof(UsageRow) * store->room);
	}
	store->rows[store->count++] = *row;
	if (store->count == SHARD_BATCH)
		write_out(store);
}

void
shard_store_close(ShardStore *store)
{
	write_out(store);
}

/* ------------------------------------------------------------------------
 * Reading events
 * ------------------------------------------------------------------------
 */
QUERY_CUSTOM(
	scan_time,
	"SELECT occurred_at, recorded_in, id, organization_id, metric, quantity, kind, properties, corrects "
	"FROM billing.usage_events WHERE organization_id = $1 AND metric = $2 AND occurred_at >= $3 AND occurred_at < $4 "
	"ORDER BY occurred_at",
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

static void *
varlena_at(Rows rows, int64 row, int column)
{
	bool isnull;
	Datum value = rows_datum(rows, row, column, &isnull);

	return isnull ? NULL : DatumGetPointer(value);
}

void
shards_scan_time(const char *organization_id, const char *metric, TimestampTz from,
				 TimestampTz until, VisitUsage visit, void *context)
{
	int64 count = RUN(scan_time, arg_text(organization_id), arg_text(metric),
					  arg_datum(TimestampTzGetDatum(from), false),
					  arg_datum(TimestampTzGetDatum(until), false));
	Rows rows = rows_keep();

	for (int64 i = 0; i < count; i++)
	{
		UsageEvent event = {.occurred_at = rows_time(rows, i, 1),
							.recorded_in = rows_int(rows, i, 2),
							.id = *rows_uuid(rows, i, 3),
							.organization_id = varlena_at(rows, i, 4),
							.metric = varlena_at(rows, i, 5),
							.quantity = DatumGetNumeric(PointerGetDatum(varlena_at(rows, i, 6))),
							.kind = *rows_text(rows, i, 7),
							.properties = varlena_at(rows, i, 8),
							.corrects = rows_uuid(rows, i, 9)};

		CHECK_FOR_INTERRUPTS();
		visit(&event, context);
	}
}

/*-------------------------------------------------------------------------
 *
 * usage_groups.c
 *	  What a rollup adds up: a group per row of the tables of totals.
 *
 * Kept in memory by organisation, metric, quarter of an hour, dimensions and
 * value, then written together, with one statement for each table.  Whoever
 * follows the totals (alerts, forwarding, the list of organisations) is told
 * with them.
 *
 *-------------------------------------------------------------------------
 */
#include "usage_groups.h"

#include "columns.h"
#include "common/hashfn.h"

/* ------------------------------------------------------------------------
 * Groups
 * ------------------------------------------------------------------------
 */
void
totals_clear(GroupTable *table)
{
	table->slot_count = 1024;
	table->count = 0;
	table->slots = palloc0(sizeof(TotalGroup *) * table->slot_count);
}

static void
groups_grow(GroupTable *table)
{
	uint32 slot_count = table->slot_count * 4;
	TotalGroup **slots = palloc0(sizeof(TotalGroup *) * slot_count);

	for (uint32 i = 0; i < table->slot_count; i++)
	{
		TotalGroup *next;

		for (TotalGroup *group = table->slots[i]; group != NULL; group = next)
		{
			next = group->next;
			group->next = slots[group->hash & (slot_count - 1)];
			slots[group->hash & (slot_count - 1)] = group;
		}
	}
	pfree(table->slots);
	table->slots = slots;
	table->slot_count = slot_count;
}

static uint32
hash_varlena(const void *value)
{
	return value == NULL
			   ? 0
			   : hash_bytes((const unsigned char *) VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

static bool
same_varlena(const void *a, const void *b)
{
	if (a == b)
		return true;
	if (a == NULL || b == NULL)
		return false;
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

static void *
copy_varlena(const void *value)
{
	void *copy;

	if (value == NULL)
		return NULL;
	copy = palloc(VARSIZE_ANY(value));
	memcpy(copy, value, VARSIZE_ANY(value));
	return copy;
}

/* The rules may have been read again meanwhile. */
static bool
is_meter(const Meter *a, const Meter *b)
{
	return a == b || strcmp(a->metric, b->metric) == 0;
}

TotalGroup *
totals_group(GroupTable *table, const TotalGroup *wanted)
{
	uint32 hash = hash_varlena(wanted->organization_id);
	TotalGroup *group;

	hash = hash_combine(hash, hash_bytes_uint32((uint32) (wanted->bucket / USAGE_BUCKET)));
	hash = hash_combine(hash, hash_bytes((const unsigned char *) wanted->meter->metric,
										 strlen(wanted->meter->metric)));
	if (wanted->meter->dimension_count > 0)
		hash = hash_combine(hash, hash_varlena(wanted->dimensions));
	if (wanted->value != NULL)
		hash = hash_combine(hash, hash_varlena(wanted->value));
	for (group = table->slots[hash & (table->slot_count - 1)]; group != NULL; group = group->next)
	{
		if (group->hash == hash && group->bucket == wanted->bucket &&
			is_meter(group->meter, wanted->meter) &&
			same_varlena(group->organization_id, wanted->organization_id) &&
			same_varlena(group->dimensions, wanted->dimensions) &&
			same_varlena(group->value, wanted->value))
			return group;
	}
	if (table->count >= table->slot_count)
		groups_grow(table);
	group = palloc0(sizeof(TotalGroup));
	*group = *wanted;
	group->hash = hash;
	group->organization_id = copy_varlena(wanted->organization_id);
	if (wanted->meter->dimension_count > 0)
		group->dimensions = copy_varlena(wanted->dimensions);
	group->value = copy_varlena(wanted->value);
	group->next = table->slots[hash & (table->slot_count - 1)];
	table->slots[hash & (table->slot_count - 1)] = group;
	table->count++;
	return group;
}

/* All of them, in an array; for the arguments of a query. */
TotalGroup **
totals_list(const GroupTable *table)
{
	TotalGroup **list = palloc(sizeof(TotalGroup *) * Max(table->count, 1));
	uint32 count = 0;

	for (uint32 i = 0; i < table->slot_count; i++)
	{
		for (TotalGroup *group = table->slots[i]; group != NULL; group = group->next)
			list[count++] = group;
	}
	return list;
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------
 */
QUERY(
	write_totals,
	"INSERT INTO billing.usage_totals AS t (organization_id, metric, bucket, dimensions, sum, events, largest, "
	"first_at, latest_at, latest_id, latest, area) "
	"SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) "
	"ON CONFLICT (organization_id, metric, bucket, dimensions) DO UPDATE SET "
	"sum = t.sum + excluded.sum, events = t.events + excluded.events, "
	"largest = greatest(t.largest, excluded.largest), first_at = least(t.first_at, excluded.first_at), "
	"(latest_at, latest_id, latest) = (SELECT CASE WHEN later THEN excluded.latest_at ELSE t.latest_at END, "
	"CASE WHEN later THEN excluded.latest_id ELSE t.latest_id END, CASE WHEN later THEN excluded.latest ELSE t.latest END "
	"FROM (SELECT t.latest_at IS NULL OR (excluded.latest_at, excluded.latest_id) > (t.latest_at, t.latest_id) AS later) AS l)",
	TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID, NUMERICARRAYOID, INT8ARRAYOID,
	NUMERICARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, UUIDARRAYOID, NUMERICARRAYOID,
	NUMERICARRAYOID);
QUERY(
	write_values,
	"INSERT INTO billing.usage_values AS v (organization_id, metric, bucket, dimensions, value, events) "
	"SELECT * FROM unnest($1, $2, $3, $4, $5, $6) "
	"ON CONFLICT (organization_id, metric, bucket, dimensions, value) DO UPDATE SET "
	"events = v.events + excluded.events",
	TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID, TEXTARRAYOID, INT8ARRAYOID);

/* For whoever lists organisations: looking through the totals for them takes long. */
QUERY(write_organizations,
	  "INSERT INTO billing.usage_organizations (organization_id) SELECT DISTINCT unnest($1) "
	  "ON CONFLICT DO NOTHING",
	  TEXTARRAYOID);

/* The columns that both tables have. */
typedef struct Keys
{
	Column organization_id;
	Column metric;
	Column bucket;
	Column dimensions;
} Keys;

static Keys
keys_of(TotalGroup *const *list, uint32 count)
{
	Keys keys = {COLUMN_TEXT(count), COLUMN_TEXT(count), COLUMN_TIME(count), COLUMN_JSON(count)};

	for (uint32 i = 0; i < count; i++)
	{
		column_pointer(&keys.organization_id, i, list[i]->organization_id);
		keys.metric.values[i] = CStringGetTextDatum(list[i]->meter->metric);
		keys.bucket.values[i] = TimestampTzGetDatum(list[i]->bucket);
		column_pointer(&keys.dimensions, i, list[i]->dimensions);
	}
	return keys;
}

/* The same where the quarters of an hour were empty before. */
QUERY_CUSTOM(
	put_totals,
	"INSERT INTO billing.usage_totals (organization_id, metric, bucket, dimensions, sum, events, largest, "
	"first_at, latest_at, latest_id, latest, area) "
	"SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
	TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID, NUMERICARRAYOID, INT8ARRAYOID,
	NUMERICARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, UUIDARRAYOID, NUMERICARRAYOID,
	NUMERICARRAYOID);
QUERY_CUSTOM(
	put_values,
	"INSERT INTO billing.usage_values (organization_id, metric, bucket, dimensions, value, events) "
	"SELECT * FROM unnest($1, $2, $3, $4, $5, $6)",
	TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID, TEXTARRAYOID, INT8ARRAYOID);

static void
write_total_groups(SqlQuery *query, GroupTable *table)
{
	uint32 count = table->count;
	TotalGroup **list = totals_list(table);
	Keys keys = keys_of(list, count);
	Column sum = COLUMN_NUMBER(count);
	Column events = COLUMN_INT(count);
	Column largest = COLUMN_NUMBER(count);
	Column first_at = COLUMN_TIME(count);
	Column latest_at = COLUMN_TIME(count);
	Column latest_id = COLUMN_UUID(count);
	Column latest = COLUMN_NUMBER(count);
	Column area = COLUMN_NUMBER(count);

	if (count == 0)
		return;
	for (uint32 i = 0; i < count; i++)
	{
		Fold *fold = &list[i]->fold;
		bool none = fold->latest == NULL;

		column_pointer(&sum, i, fold_sum(fold));
		events.values[i] = Int64GetDatum(fold->events);
		column_pointer(&largest, i, fold->largest);
		first_at.values[i] = TimestampTzGetDatum(fold->first_at);
		latest_at.values[i] = TimestampTzGetDatum(fold->latest_at);
		first_at.nulls[i] = latest_at.nulls[i] = none;
		column_pointer(&latest_id, i, none ? NULL : &fold->latest_id);
		column_pointer(&latest, i, fold->latest);
		column_pointer(&area, i, fold->area);
	}
	RUN(*query, column_arg(&keys.organization_id, count), column_arg(&keys.metric, count),
		column_arg(&keys.bucket, count), column_arg(&keys.dimensions, count),
		column_arg(&sum, count), column_arg(&events, count), column_arg(&largest, count),
		column_arg(&first_at, count), column_arg(&latest_at, count), column_arg(&latest_id, count),
		column_arg(&latest, count), column_arg(&area, count));
	RUN(write_organizations, column_arg(&keys.organization_id, count));
	usage_alerts_mark(column_arg(&keys.organization_id, count), column_arg(&keys.metric, count));
}

static void
write_value_groups(SqlQuery *query, GroupTable *table)
{
	uint32 count = table->count;
	TotalGroup **list = totals_list(table);
	Keys keys = keys_of(list, count);
	Column value = COLUMN_TEXT(count);
	Column events = COLUMN_INT(count);

	if (count == 0)
		return;
	for (uint32 i = 0; i < count; i++)
	{
		column_pointer(&value, i, list[i]->value);
		events.values[i] = Int64GetDatum(list[i]->fold.events);
	}
	RUN(*query, column_arg(&keys.organization_id, count), column_arg(&keys.metric, count),
		column_arg(&keys.bucket, count), column_arg(&keys.dimensions, count),
		column_arg(&value, count), column_arg(&events, count));
}

void
totals_touch(const GroupTable *table)
{
	Keys keys = keys_of(totals_list(table), table->count);
	Arg organization_ids;
	Arg metrics;
	Arg buckets;

	if (table->count == 0)
		return;
	organization_ids = column_arg(&keys.organization_id, table->count);
	metrics = column_arg(&keys.metric, table->count);
	buckets = column_arg(&keys.bucket, table->count);
	usage_forwarding_touched(organization_ids, metrics, buckets);
	usage_closings_touched(organization_ids, metrics, buckets);
}

void
totals_add(GroupTable *table)
{
	write_total_groups(&write_totals, table);
}

void
totals_put(GroupTable *table)
{
	write_total_groups(&put_totals, table);
}

void
totals_add_values(GroupTable *table)
{
	write_value_groups(&write_values, table);
}

void
totals_put_values(GroupTable *table)
{
	write_value_groups(&put_values, table);
}

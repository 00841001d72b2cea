/*-------------------------------------------------------------------------
 *
 * usage_scan.c
 *	  Reads usage events back, past SPI and the executor.
 *
 * Two ways in: by organisation, metric and time (the edges of a range, and
 * quarters of an hour that are added up again), and by the transaction that
 * recorded them (the tail, for all organisations).  Both see what the active
 * snapshot sees.  While a dump is being restored the partitions have no
 * indexes yet; then they are read from end to end.
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

typedef struct Reader
{
	Relation relation;
	Relation index; /* NULL: there is none */
	TupleTableSlot *slot;
	AttrNumber occurred_at;
	AttrNumber recorded_in;
	AttrNumber id;
	AttrNumber organization_id;
	AttrNumber metric;
	AttrNumber quantity;
	AttrNumber kind;
	AttrNumber properties;
	AttrNumber corrects;
} Reader;

static AttrNumber
column(TupleDesc descriptor, const char *name)
{
	for (int i = 0; i < descriptor->natts; i++)
	{
		if (strcmp(NameStr(TupleDescAttr(descriptor, i)->attname), name) == 0)
			return (AttrNumber) (i + 1);
	}
	elog(ERROR, "a partition of usage_events has no column %s", name);
}

/* The index whose first columns are these. */
static Relation
open_index(Relation relation, const AttrNumber *columns, int count)
{
	ListCell *cell;

	foreach (cell, RelationGetIndexList(relation))
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		int same = 0;

		while (same < count && same < index->rd_index->indnkeyatts &&
			   index->rd_index->indkey.values[same] == columns[same])
			same++;
		if (same == count && index->rd_index->indisvalid)
			return index;
		index_close(index, AccessShareLock);
	}
	return NULL;
}

static void
open_reader(Reader *reader, Oid partition)
{
	TupleDesc descriptor;

	reader->relation = table_open(partition, AccessShareLock);
	descriptor = RelationGetDescr(reader->relation);
	reader->slot = table_slot_create(reader->relation, NULL);
	reader->occurred_at = column(descriptor, "occurred_at");
	reader->recorded_in = column(descriptor, "recorded_in");
	reader->id = column(descriptor, "id");
	reader->organization_id = column(descriptor, "organization_id");
	reader->metric = column(descriptor, "metric");
	reader->quantity = column(descriptor, "quantity");
	reader->kind = column(descriptor, "kind");
	reader->properties = column(descriptor, "properties");
	reader->corrects = column(descriptor, "corrects");
	reader->index = NULL;
}

static void
close_reader(Reader *reader)
{
	ExecDropSingleTupleTableSlot(reader->slot);
	if (reader->index != NULL)
		index_close(reader->index, AccessShareLock);
	table_close(reader->relation, AccessShareLock);
}

static void
read_event(const Reader *reader, UsageEvent *event)
{
	TupleTableSlot *slot = reader->slot;
	const Datum *values = slot->tts_values;
	const bool *nulls = slot->tts_isnull;

	slot_getallattrs(slot);
	event->occurred_at = DatumGetTimestampTz(values[reader->occurred_at - 1]);
	event->recorded_in = DatumGetInt64(values[reader->recorded_in - 1]);
	memcpy(&event->id, DatumGetUUIDP(values[reader->id - 1]), sizeof(pg_uuid_t));
	event->organization_id = DatumGetTextPP(values[reader->organization_id - 1]);
	event->metric = DatumGetTextPP(values[reader->metric - 1]);
	event->quantity = DatumGetNumeric(values[reader->quantity - 1]);
	event->kind = *VARDATA_ANY(DatumGetTextPP(values[reader->kind - 1]));
	event->properties = nulls[reader->properties - 1]
							? NULL
							: (Jsonb *) DatumGetPointer(values[reader->properties - 1]);
	event->corrects = nulls[reader->corrects - 1] ? NULL
												  : DatumGetUUIDP(values[reader->corrects - 1]);
}

typedef bool (*WantEvent)(const UsageEvent *event, const void *filter);

static void
scan_index(Reader *reader, ScanKey keys, int key_count, VisitUsage visit, void *context)
{
	IndexScanDesc scan = compat_index_beginscan(reader->relation, reader->index,
												GetActiveSnapshot(), key_count);

	index_rescan(scan, keys, key_count, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, reader->slot))
	{
		UsageEvent event;

		CHECK_FOR_INTERRUPTS();
		read_event(reader, &event);
		visit(&event, context);
	}
	index_endscan(scan);
}

static void
scan_table(Reader *reader, WantEvent want, const void *filter, VisitUsage visit, void *context)
{
	TableScanDesc scan = table_beginscan(reader->relation, GetActiveSnapshot(), 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, reader->slot))
	{
		UsageEvent event;

		CHECK_FOR_INTERRUPTS();
		read_event(reader, &event);
		if (want(&event, filter))
			visit(&event, context);
	}
	table_endscan(scan);
}

/* ------------------------------------------------------------------------
 * By time
 * ------------------------------------------------------------------------
 */
typedef struct TimeFilter
{
	text *organization_id;
	text *metric;
	TimestampTz from;
	TimestampTz until;
} TimeFilter;

static bool
is_text(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

static bool
in_time(const UsageEvent *event, const void *context)
{
	const TimeFilter *filter = context;

	return event->occurred_at >= filter->from && event->occurred_at < filter->until &&
		   is_text(event->organization_id, filter->organization_id) &&
		   is_text(event->metric, filter->metric);
}

static void
text_key(ScanKey key, Relation index, AttrNumber column_number, text *value)
{
	ScanKeyEntryInitialize(key, 0, column_number, BTEqualStrategyNumber, InvalidOid,
						   index->rd_indcollation[column_number - 1], F_TEXTEQ,
						   PointerGetDatum(value));
}

void
usage_scan_time(const char *organization_id, const char *metric, TimestampTz from,
				TimestampTz until, VisitUsage visit, void *context)
{
	TimeFilter filter = {cstring_to_text(organization_id), cstring_to_text(metric), from, until};
	Relation events;
	ListCell *cell;

	if (from >= until)
		return;
	if (usage_tables()->distributed)
	{
		shards_scan_time(organization_id, metric, from, until, visit, context);
		return;
	}
	events = table_open(usage_tables()->events, AccessShareLock);
	foreach (cell, usage_partitions(events, from, until))
	{
		Reader reader;

		open_reader(&reader, ((UsagePartition *) lfirst(cell))->relation);
		reader.index = open_index(
			reader.relation,
			(AttrNumber[]){reader.organization_id, reader.metric, reader.occurred_at}, 3);
		if (reader.index == NULL)
			scan_table(&reader, in_time, &filter, visit, context);
		else
		{
			ScanKeyData keys[4];

			text_key(&keys[0], reader.index, 1, filter.organization_id);
			text_key(&keys[1], reader.index, 2, filter.metric);
			ScanKeyInit(&keys[2], 3, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
						TimestampTzGetDatum(from));
			ScanKeyInit(&keys[3], 3, BTLessStrategyNumber, F_TIMESTAMPTZ_LT,
						TimestampTzGetDatum(until));
			scan_index(&reader, keys, 4, visit, context);
		}
		close_reader(&reader);
	}
	table_close(events, AccessShareLock);
}

/* ------------------------------------------------------------------------
 * By transaction
 * ------------------------------------------------------------------------
 */
typedef struct TailFilter
{
	const UsageMark *mark;
	int64 limit;
} TailFilter;

static bool
in_tail(const UsageEvent *event, const void *context)
{
	const TailFilter *filter = context;

	return event->recorded_in < filter->limit && !mark_has(filter->mark, event->recorded_in);
}

static void
scan_range(Reader *reader, int64 from, int64 limit, VisitUsage visit, void *context)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_INT8LT, Int64GetDatum(limit));
	scan_index(reader, keys, 2, visit, context);
}

void
usage_scan_tail(const UsageMark *mark, int64 limit, VisitUsage visit, void *context)
{
	TailFilter filter = {mark, limit};
	Relation events;
	ListCell *cell;

	usage_require_local("the tail of the totals");
	events = table_open(usage_tables()->events, AccessShareLock);
	foreach (cell, usage_partitions(events, DT_NOBEGIN, DT_NOEND))
	{
		Reader reader;

		open_reader(&reader, ((UsagePartition *) lfirst(cell))->relation);
		reader.index = open_index(reader.relation, &reader.recorded_in, 1);
		if (reader.index == NULL)
			scan_table(&reader, in_tail, &filter, visit, context);
		else
		{
			for (int i = 0; i < mark->open_count; i++)
				scan_range(&reader, mark->open[i], mark->open[i] + 1, visit, context);
			scan_range(&reader, mark->until, limit, visit, context);
		}
		close_reader(&reader);
	}
	table_close(events, AccessShareLock);
}

int64
usage_scan_next(const UsageMark *mark)
{
	Relation events;
	int64 next = PG_INT64_MAX;
	ListCell *cell;

	usage_require_local("the tail of the totals");
	events = table_open(usage_tables()->events, AccessShareLock);
	foreach (cell, usage_partitions(events, DT_NOBEGIN, DT_NOEND))
	{
		Reader reader;

		open_reader(&reader, ((UsagePartition *) lfirst(cell))->relation);
		reader.index = open_index(reader.relation, &reader.recorded_in, 1);
		if (reader.index != NULL)
		{
			ScanKeyData key;
			IndexScanDesc scan = compat_index_beginscan(reader.relation, reader.index,
														GetActiveSnapshot(), 1);

			ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_INT8GE,
						Int64GetDatum(mark->until));
			index_rescan(scan, &key, 1, NULL, 0);
			if (index_getnext_slot(scan, ForwardScanDirection, reader.slot))
			{
				UsageEvent event;

				read_event(&reader, &event);
				next = Min(next, event.recorded_in);
			}
			index_endscan(scan);
		}
		close_reader(&reader);
	}
	table_close(events, AccessShareLock);
	return next;
}

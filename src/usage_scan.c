/*-------------------------------------------------------------------------
 *
 * usage_scan.c
 *	  Reads usage events back, past SPI and the executor.
 *
 * Two ways in: by organisation, metric and time (the edges of a range, and
 * quarters of an hour that are added up again), and by the transaction that
 * recorded them (the tail, for all organisations).  The tail of one
 * organisation goes both ways at once.  All see what the active snapshot sees.
 * While a dump is being restored the partitions have no indexes yet; then they
 * are read from end to end.
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
 * The tail of one organisation
 *
 * No index leads to it: that would cost each event that is recorded.  There
 * are two ways, through the tail of all organisations and through all events
 * of the organisation, and either may be a thousand times longer than the
 * other.  Which one is not known before, so both are gone side by side,
 * and what comes to its end first has found everything.
 * ------------------------------------------------------------------------
 */
/* A tail that is shorter is not worth a second way. */
#define SHORT_TAIL 100
/* Entries of a turn: those of the organisation lie apart, and cost several times as much to read. */
#define TAIL_PACE 1000
#define OWN_PACE  250

typedef struct Way
{
	Reader reader;
	IndexScanDesc scan;
	const UsageMark *mark;
	text *organization_id;
	int ranges_begun; /* of the tail: one for each open transaction, and what follows the mark */
	List *found;
} Way;

static void *
copy_bytes(const void *bytes, Size size)
{
	return memcpy(palloc(size), bytes, size);
}

UsageEvent *
usage_event_copy(const UsageEvent *event)
{
	UsageEvent *copy = copy_bytes(event, sizeof(UsageEvent));

	copy->organization_id = copy_bytes(event->organization_id, VARSIZE_ANY(event->organization_id));
	copy->metric = copy_bytes(event->metric, VARSIZE_ANY(event->metric));
	copy->quantity = DatumGetNumericCopy(NumericGetDatum(event->quantity));
	if (event->properties != NULL)
		copy->properties = DatumGetJsonbPCopy(PointerGetDatum(event->properties));
	if (event->corrects != NULL)
		copy->corrects = copy_bytes(event->corrects, sizeof(pg_uuid_t));
	return copy;
}

static void
way_keep(Way *way)
{
	UsageEvent event;

	read_event(&way->reader, &event);
	way->found = lappend(way->found, usage_event_copy(&event));
}

/* False when there are no more. */
static bool
tail_next_range(Way *way)
{
	const UsageMark *mark = way->mark;
	ScanKeyData keys[2];
	int range = way->ranges_begun++;
	int64 from = range < mark->open_count ? mark->open[range] : mark->until;

	if (range > mark->open_count)
		return false;
	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(range < mark->open_count ? usage_last_number(from) : PG_INT64_MAX));
	index_rescan(way->scan, keys, 2, NULL, 0);
	return true;
}

static bool
is_of_organization(Way *way)
{
	bool isnull;
	Datum value = slot_getattr(way->reader.slot, way->reader.organization_id, &isnull);

	return is_text(DatumGetTextPP(value), way->organization_id);
}

/* True when the way is at its end. */
static bool
tail_advance(Way *way, int entries)
{
	while (entries > 0)
	{
		CHECK_FOR_INTERRUPTS();
		if (way->ranges_begun > 0 &&
			index_getnext_slot(way->scan, ForwardScanDirection, way->reader.slot))
		{
			entries--;
			if (is_of_organization(way))
				way_keep(way);
		}
		else if (!tail_next_range(way))
			return true;
	}
	return false;
}

static bool
own_advance(Way *way, int entries)
{
	while (entries-- > 0)
	{
		bool isnull;
		Datum recorded_in;

		CHECK_FOR_INTERRUPTS();
		if (!index_getnext_slot(way->scan, ForwardScanDirection, way->reader.slot))
			return true;
		recorded_in = slot_getattr(way->reader.slot, way->reader.recorded_in, &isnull);
		if (!mark_has(way->mark, DatumGetInt64(recorded_in)))
			way_keep(way);
	}
	return false;
}

/* False when there is no such index. */
static bool
way_open(Way *way, Oid partition, bool by_transaction)
{
	Reader *reader = &way->reader;

	open_reader(reader, partition);
	reader->index = open_index(reader->relation,
							   by_transaction ? &reader->recorded_in
											  : (AttrNumber[]){reader->organization_id,
															   reader->metric, reader->occurred_at},
							   by_transaction ? 1 : 3);
	if (reader->index == NULL)
		return false;
	way->scan = compat_index_beginscan(reader->relation, reader->index, GetActiveSnapshot(),
									   by_transaction ? 2 : 1);
	if (!by_transaction)
	{
		ScanKeyData key;

		text_key(&key, reader->index, 1, way->organization_id);
		index_rescan(way->scan, &key, 1, NULL, 0);
	}
	return true;
}

static void
way_close(Way *way)
{
	if (way->scan != NULL)
		index_endscan(way->scan);
	close_reader(&way->reader);
}

/* Both ways from here on. */
static List *
go_both_ways(Way *tail, Oid partition)
{
	Way own = {.mark = tail->mark, .organization_id = tail->organization_id};
	bool both = way_open(&own, partition, false);
	bool own_over = false;

	while (!own_over && !tail_advance(tail, TAIL_PACE))
		own_over = both && own_advance(&own, OWN_PACE);
	way_close(&own);
	return own_over ? own.found : tail->found;
}

typedef struct OwnTail
{
	const UsageMark *mark;
	text *organization_id;
} OwnTail;

static bool
in_own_tail(const UsageEvent *event, const void *context)
{
	const OwnTail *own = context;

	return is_text(event->organization_id, own->organization_id) &&
		   !mark_has(own->mark, event->recorded_in);
}

static void
list_event(const UsageEvent *event, void *list)
{
	*(List **) list = lappend(*(List **) list, usage_event_copy(event));
}

List *
usage_scan_own_tail(const UsageMark *mark, const char *organization_id)
{
	Relation events = table_open(usage_tables()->events, AccessShareLock);
	text *organization = cstring_to_text(organization_id);
	List *found = NIL;
	ListCell *cell;

	foreach (cell, usage_partitions(events, DT_NOBEGIN, DT_NOEND))
	{
		Oid partition = ((UsagePartition *) lfirst(cell))->relation;
		Way tail = {.mark = mark, .organization_id = organization};

		if (!way_open(&tail, partition, true))
		{
			OwnTail own = {mark, organization};

			scan_table(&tail.reader, in_own_tail, &own, list_event, &found);
		}
		else if (tail_advance(&tail, SHORT_TAIL))
			found = list_concat(found, tail.found);
		else
			found = list_concat(found, go_both_ways(&tail, partition));
		way_close(&tail);
	}
	table_close(events, AccessShareLock);
	return found;
}

/* ------------------------------------------------------------------------
 * By transaction
 * ------------------------------------------------------------------------
 */
/* Transactions that run and are stepped over: what they wrote already may be much, and is not seen. */
#define STEP_OVER_MAX 4

/* Half-open. */
typedef struct Numbers
{
	int64 from;
	int64 until;
} Numbers;

typedef struct NumberList
{
	int count;
	Numbers *items; /* in order */
} NumberList;

static void
add_numbers(NumberList *list, int64 from, int64 until)
{
	if (from < until)
		list->items[list->count++] = (Numbers){from, until};
}

static bool
is_running(const UsageSight *sight, int64 number)
{
	for (int i = 0; i < sight->running_count; i++)
	{
		if (number >= sight->running[i] && number <= usage_last_number(sight->running[i]))
			return true;
	}
	return false;
}

static int
numbers_order(const void *a, const void *b)
{
	const Numbers *left = a;
	const Numbers *right = b;

	return left->from < right->from ? -1 : left->from > right->from;
}

/* In a database that is not bound no number says anything about a snapshot. */
static NumberList
numbers_of_tail(const UsageMark *mark)
{
	const UsageTables *tables = usage_tables();
	UsageSight sight = {PG_INT64_MAX, -1, 0, NULL};
	NumberList list = {0};
	int64 from = mark->until;
	int stepped_over = 0;

	if (tables->bound)
		sight = usage_sight(tables);
	list.items = palloc(sizeof(Numbers) * (mark->open_count + STEP_OVER_MAX + 2));
	for (int i = 0; i < mark->open_count; i++)
	{
		if (!is_running(&sight, mark->open[i]))
			add_numbers(&list, mark->open[i], usage_last_number(mark->open[i]) + 1);
	}
	for (int i = 0; i < sight.running_count && stepped_over < STEP_OVER_MAX; i++)
	{
		if (sight.running[i] < from)
			continue;
		add_numbers(&list, from, sight.running[i]);
		from = usage_last_number(sight.running[i]) + 1;
		stepped_over++;
	}
	add_numbers(&list, from, sight.until);
	if (sight.own >= sight.until)
		add_numbers(&list, Max(sight.own, from), usage_last_number(sight.own) + 1);
	qsort(list.items, list.count, sizeof(Numbers), numbers_order);
	return list;
}

static bool
in_tail(const UsageEvent *event, const void *mark)
{
	return !mark_has(mark, event->recorded_in);
}

static IndexScanDesc
begin_numbers(Reader *reader, const Numbers *numbers)
{
	IndexScanDesc scan = compat_index_beginscan(reader->relation, reader->index,
												GetActiveSnapshot(), 2);
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(numbers->from));
	ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_INT8LT, Int64GetDatum(numbers->until));
	index_rescan(scan, keys, 2, NULL, 0);
	return scan;
}

static void
scan_numbers(Reader *reader, const Numbers *numbers, VisitUsage visit, void *context)
{
	IndexScanDesc scan = begin_numbers(reader, numbers);

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
scan_tail_of(Reader *reader, const UsageMark *mark, const NumberList *list, VisitUsage visit,
			 void *context)
{
	if (reader->index == NULL)
		scan_table(reader, in_tail, mark, visit, context);
	else
	{
		for (int i = 0; i < list->count; i++)
			scan_numbers(reader, &list->items[i], visit, context);
	}
}

/* All partitions, with the index by number. */
static Reader *
open_readers(Relation events, int *count)
{
	List *partitions = usage_partitions(events, DT_NOBEGIN, DT_NOEND);
	Reader *readers = palloc(sizeof(Reader) * Max(list_length(partitions), 1));
	ListCell *cell;

	*count = 0;
	foreach (cell, partitions)
	{
		Reader *reader = &readers[(*count)++];

		open_reader(reader, ((UsagePartition *) lfirst(cell))->relation);
		reader->index = open_index(reader->relation, &reader->recorded_in, 1);
	}
	return readers;
}

static void
close_readers(Reader *readers, int count)
{
	for (int i = 0; i < count; i++)
		close_reader(&readers[i]);
}

void
usage_scan_tail(const UsageMark *mark, VisitUsage visit, void *context)
{
	Relation events = table_open(usage_tables()->events, AccessShareLock);
	NumberList list = numbers_of_tail(mark);
	int count;
	Reader *readers = open_readers(events, &count);

	for (int i = 0; i < count; i++)
		scan_tail_of(&readers[i], mark, &list, visit, context);
	close_readers(readers, count);
	table_close(events, AccessShareLock);
}

/* Each index is in order by itself. */
typedef struct Head
{
	Reader *reader;
	IndexScanDesc scan;
	UsageEvent event;
	bool is_end;
} Head;

static void
advance(Head *head)
{
	head->is_end = !index_getnext_slot(head->scan, ForwardScanDirection, head->reader->slot);
	if (!head->is_end)
		read_event(head->reader, &head->event);
}

static Head *
smallest_head(Head *heads, int count)
{
	Head *smallest = NULL;

	for (int i = 0; i < count; i++)
	{
		if (!heads[i].is_end &&
			(smallest == NULL || heads[i].event.recorded_in < smallest->event.recorded_in))
			smallest = &heads[i];
	}
	return smallest;
}

static void
merge_numbers(Head *heads, int count, int64 most, TailScan *done, VisitUsage visit, void *context)
{
	int64 last = -1;
	Head *head;

	while ((head = smallest_head(heads, count)) != NULL)
	{
		int64 number = head->event.recorded_in;

		if (number != last && done->events >= most)
		{
			done->reached = number;
			return;
		}
		last = number;
		for (; !head->is_end && head->event.recorded_in == number; advance(head))
		{
			CHECK_FOR_INTERRUPTS();
			visit(&head->event, context);
			done->events++;
		}
	}
}

static void
scan_numbers_in_order(Reader *readers, int count, const Numbers *numbers, int64 most,
					  TailScan *done, VisitUsage visit, void *context)
{
	Head *heads = palloc(sizeof(Head) * Max(count, 1));

	for (int i = 0; i < count; i++)
	{
		heads[i].reader = &readers[i];
		heads[i].scan = begin_numbers(&readers[i], numbers);
		advance(&heads[i]);
	}
	merge_numbers(heads, count, most, done, visit, context);
	for (int i = 0; i < count; i++)
		index_endscan(heads[i].scan);
	pfree(heads);
}

typedef struct Counted
{
	VisitUsage visit;
	void *context;
	int64 events;
} Counted;

static void
visit_counted(const UsageEvent *event, void *context)
{
	Counted *counted = context;

	counted->events++;
	counted->visit(event, counted->context);
}

TailScan
usage_scan_tail_in_order(const UsageMark *mark, int64 most, VisitUsage visit, void *context)
{
	Relation events = table_open(usage_tables()->events, AccessShareLock);
	NumberList list = numbers_of_tail(mark);
	TailScan done = {0, PG_INT64_MAX};
	bool indexed = true;
	int count;
	Reader *readers = open_readers(events, &count);

	for (int i = 0; i < count; i++)
		indexed = indexed && readers[i].index != NULL;
	if (!indexed)
	{
		/* without an order there is no place to stop */
		Counted counted = {visit, context, 0};

		for (int i = 0; i < count; i++)
			scan_tail_of(&readers[i], mark, &list, visit_counted, &counted);
		done.events = counted.events;
	}
	for (int i = 0; indexed && i < list.count && done.reached == PG_INT64_MAX; i++)
		scan_numbers_in_order(readers, count, &list.items[i], most, &done, visit, context);
	close_readers(readers, count);
	table_close(events, AccessShareLock);
	return done;
}

static void
see_event(const UsageEvent *event, void *seen)
{
	*(bool *) seen = true;
}

static void
keep_greatest(const UsageEvent *event, void *greatest)
{
	*(int64 *) greatest = Max(*(int64 *) greatest, event->recorded_in);
}

static bool
any_event(const UsageEvent *event, const void *filter)
{
	return true;
}

int64
usage_scan_last(Oid partition)
{
	Reader reader;
	int64 last = -1;

	open_reader(&reader, partition);
	reader.index = open_index(reader.relation, &reader.recorded_in, 1);
	if (reader.index == NULL)
		scan_table(&reader, any_event, NULL, keep_greatest, &last);
	else
	{
		IndexScanDesc scan = begin_numbers(&reader, &(Numbers){0, PG_INT64_MAX});

		if (index_getnext_slot(scan, BackwardScanDirection, reader.slot))
		{
			UsageEvent event;

			read_event(&reader, &event);
			last = event.recorded_in;
		}
		index_endscan(scan);
	}
	close_reader(&reader);
	return last;
}

bool
usage_scan_has_tail(Oid partition, const UsageMark *mark)
{
	NumberList list = numbers_of_tail(mark);
	Reader reader;
	bool seen = false;

	open_reader(&reader, partition);
	reader.index = open_index(reader.relation, &reader.recorded_in, 1);
	scan_tail_of(&reader, mark, &list, see_event, &seen);
	close_reader(&reader);
	return seen;
}

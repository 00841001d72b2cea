/*-------------------------------------------------------------------------
 *
 * usage_tail.c
 *	  Events that the totals do not hold yet, read once for many questions.
 *
 * Of one organisation, or of everybody for a call that goes through many.
 * Both are kept in memory, by organisation and metric.  Where usage is
 * distributed there is none: marks say there which totals are behind.
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

typedef struct TailKey
{
	const char *organization_id; /* not terminated */
	int organization_length;
	const char *metric;
	int metric_length;
} TailKey;

typedef struct TailOfMetric
{
	TailKey key;
	List *events; /* UsageEvent, in no order */
} TailOfMetric;

struct UsageTail
{
	MemoryContext memory;
	HTAB *lists;
	int64 count;
	int64 most;
};

static uint32
hash_key(const void *key, Size size)
{
	const TailKey *tail_key = key;

	return hash_combine(
		hash_bytes((const unsigned char *) tail_key->organization_id,
				   tail_key->organization_length),
		hash_bytes((const unsigned char *) tail_key->metric, tail_key->metric_length));
}

static int
compare_keys(const void *a, const void *b, Size size)
{
	const TailKey *left = a;
	const TailKey *right = b;

	if (left->organization_length != right->organization_length ||
		left->metric_length != right->metric_length)
		return 1;
	return memcmp(left->organization_id, right->organization_id, left->organization_length) != 0 ||
		   memcmp(left->metric, right->metric, left->metric_length) != 0;
}

static UsageTail *
tail_new(int64 most)
{
	HASHCTL control = {.keysize = sizeof(TailKey),
					   .entrysize = sizeof(TailOfMetric),
					   .hash = hash_key,
					   .match = compare_keys,
					   .hcxt = CurrentMemoryContext};
	UsageTail *tail = palloc(sizeof(UsageTail));

	tail->memory = CurrentMemoryContext;
	tail->lists = hash_create("billing usage tail", 64, &control,
							  HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	tail->count = 0;
	tail->most = most;
	return tail;
}

/* The event stays where it is. */
static void
put_event(UsageTail *tail, UsageEvent *event)
{
	TailKey key = {VARDATA_ANY(event->organization_id),
				   (int) VARSIZE_ANY_EXHDR(event->organization_id), VARDATA_ANY(event->metric),
				   (int) VARSIZE_ANY_EXHDR(event->metric)};
	bool found;
	TailOfMetric *of_metric = hash_search(tail->lists, &key, HASH_ENTER, &found);

	if (!found)
		of_metric->events = NIL;
	of_metric->events = lappend(of_metric->events, event);
}

UsageTail *
usage_tail_empty(void)
{
	return tail_new(PG_INT64_MAX);
}

UsageTail *
usage_tail(const char *organization_id)
{
	UsageTail *tail = tail_new(PG_INT64_MAX);
	UsageMark mark;
	ListCell *cell;

	if (usage_tables()->distributed)
		return tail;
	mark = usage_mark();
	foreach (cell, usage_scan_own_tail(&mark, organization_id))
		put_event(tail, lfirst(cell));
	return tail;
}

static void
keep_event(const UsageEvent *event, void *context)
{
	UsageTail *tail = context;
	MemoryContext old;

	if (++tail->count > tail->most)
		return;
	old = MemoryContextSwitchTo(tail->memory);
	put_event(tail, usage_event_copy(event));
	MemoryContextSwitchTo(old);
}

UsageTail *
usage_tail_of_everybody(int64 most)
{
	UsageTail *tail = tail_new(most);
	UsageMark mark;

	if (usage_tables()->distributed)
		return tail;
	mark = usage_mark();
	usage_scan_tail(&mark, keep_event, tail);
	return tail->count > most ? NULL : tail;
}

List *
usage_tail_events(const UsageTail *tail, const char *organization_id, const char *metric)
{
	TailKey key = {organization_id, (int) strlen(organization_id), metric, (int) strlen(metric)};
	TailOfMetric *found = hash_search(tail->lists, &key, HASH_FIND, NULL);

	return found == NULL ? NIL : found->events;
}

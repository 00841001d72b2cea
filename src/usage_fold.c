/*-------------------------------------------------------------------------
 *
 * usage_fold.c
 *	  Adds usage events up.
 *
 * Sums and numbers of events take corrections and voids as they come: those
 * carry the difference.  What depends on single events (the largest, the
 * latest, a level over time) first applies them to what they correct: that is
 * what Levels are for.
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

/* Whole numbers between its negative and it are added up without numerics. */
#define WHOLE_BOUND INT64CONST(1000000000000000)
/* Beyond it the part of a sum that is a whole number is moved into the numeric. */
#define WHOLE_MAX (PG_INT64_MAX / 2)

static Numeric
calculate(PGFunction function, Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)));
}

Numeric
numeric_plus(Numeric a, Numeric b)
{
	return calculate(numeric_add, a, b);
}

Numeric
numeric_minus(Numeric a, Numeric b)
{
	return calculate(numeric_sub, a, b);
}

Numeric
numeric_times(Numeric a, Numeric b)
{
	return calculate(numeric_mul, a, b);
}

Numeric
numeric_over(Numeric a, Numeric b)
{
	return DatumGetNumeric(
		DirectFunctionCall2(numeric_div, NumericGetDatum(a), NumericGetDatum(b)));
}

int
numeric_order(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

/* ------------------------------------------------------------------------
 * Folds
 * ------------------------------------------------------------------------
 */
static Numeric
numeric_copy(Numeric value)
{
	Numeric copy = palloc(VARSIZE_ANY(value));

	memcpy(copy, value, VARSIZE_ANY(value));
	return copy;
}

static void
add_numeric(Numeric *total, Numeric value)
{
	Numeric before = *total;

	*total = before == NULL ? numeric_copy(value) : numeric_plus(before, value);
	if (before != NULL)
		pfree(before);
}

/* Adds a number that nobody else has. */
static void
add_own(Numeric *total, Numeric value)
{
	add_numeric(total, value);
	pfree(value);
}

/* How many bytes it takes says nothing: 1e29 has as many as 1. */
static bool
is_small_whole(Numeric quantity)
{
	static Numeric above = NULL;
	static Numeric below = NULL;

	if (below == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext); /* constants */

		above = int64_to_numeric(WHOLE_BOUND);
		below = int64_to_numeric(-WHOLE_BOUND);
		MemoryContextSwitchTo(old);
	}
	/* NaN and the infinities are beyond them, too */
	return numeric_order(quantity, above) < 0 && numeric_order(quantity, below) > 0 &&
		   DatumGetInt32(DirectFunctionCall1(numeric_scale, NumericGetDatum(quantity))) == 0;
}

/* Most quantities are small whole numbers. */
static void
add_sum(Fold *fold, Numeric quantity)
{
	int64 whole;

	if (!is_small_whole(quantity))
	{
		add_numeric(&fold->sum, quantity);
		return;
	}
	whole = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(quantity)));
	if (fold->whole > WHOLE_MAX || fold->whole < -WHOLE_MAX)
	{
		add_own(&fold->sum, int64_to_numeric(fold->whole));
		fold->whole = 0;
	}
	fold->whole += whole;
}

void
fold_event(Fold *fold, const UsageEvent *event)
{
	add_sum(fold, event->quantity);
	if (event->kind != 'c')
		fold->events += event->kind == 'u' ? 1 : -1;
}

Numeric
fold_sum(const Fold *fold)
{
	Numeric whole = int64_to_numeric(fold->whole);

	return fold->sum == NULL ? whole : numeric_plus(whole, fold->sum);
}

static int
moment_order(TimestampTz at, const pg_uuid_t *id, TimestampTz other_at, const pg_uuid_t *other_id)
{
	if (at != other_at)
		return at < other_at ? -1 : 1;
	return memcmp(id, other_id, sizeof(pg_uuid_t));
}

/* What a fold points to is its own. */
static void
replace(Numeric *place, Numeric value)
{
	if (*place != NULL)
		pfree(*place);
	*place = numeric_copy(value);
}

static void
keep_largest(Fold *fold, Numeric quantity)
{
	if (fold->largest == NULL || numeric_order(quantity, fold->largest) > 0)
		replace(&fold->largest, quantity);
}

/* Quantity times seconds. */
static Numeric
area_of(Numeric quantity, TimestampTz from, TimestampTz until)
{
	return numeric_times(quantity, int64_div_fast_to_numeric(until - from, 6));
}

/*
 * In order of time the level before ends here; out of order (where only the
 * largest and the latest are wanted) the area means nothing.
 */
void
fold_level(Fold *fold, TimestampTz at, const pg_uuid_t *id, Numeric quantity)
{
	keep_largest(fold, quantity);
	if (fold->latest == NULL)
		fold->first_at = at;
	else if (moment_order(at, id, fold->latest_at, &fold->latest_id) < 0)
	{
		fold->first_at = Min(fold->first_at, at);
		return;
	}
	else if (at > fold->latest_at)
		add_own(&fold->area, area_of(fold->latest, fold->latest_at, at));
	fold->latest_at = at;
	fold->latest_id = *id;
	replace(&fold->latest, quantity);
}

void
fold_append(Fold *fold, const Fold *next)
{
	fold->events += next->events;
	add_own(&fold->sum, fold_sum(next));
	if (next->latest == NULL)
		return;
	keep_largest(fold, next->largest);
	if (fold->latest != NULL && next->first_at > fold->latest_at)
		add_own(&fold->area, area_of(fold->latest, fold->latest_at, next->first_at));
	if (next->area != NULL)
		add_numeric(&fold->area, next->area);
	if (fold->latest == NULL)
		fold->first_at = next->first_at;
	if (fold->latest == NULL ||
		moment_order(next->latest_at, &next->latest_id, fold->latest_at, &fold->latest_id) > 0)
	{
		fold->latest_at = next->latest_at;
		fold->latest_id = next->latest_id;
		replace(&fold->latest, next->latest);
	}
}

/* ------------------------------------------------------------------------
 * Levels
 * ------------------------------------------------------------------------
 */
Levels *
levels_new(void)
{
	Levels *levels = palloc(sizeof(Levels));
	HASHCTL control = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(Level)};

	levels->memory = CurrentMemoryContext;
	control.hcxt = levels->memory;
	levels->by_id = hash_create("billing levels", 64, &control,
								HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	levels->count = 0;
	return levels;
}

static void
start_level(Levels *levels, Level *level)
{
	level->quantity = NULL;
	level->there = false;
	level->is_void = false;
	level->properties = NULL;
	levels->count++;
}

void
levels_add(const UsageEvent *event, void *context)
{
	Levels *levels = context;
	MemoryContext old = MemoryContextSwitchTo(levels->memory);
	bool found;
	Level *level = hash_search(levels->by_id, event->kind == 'u' ? &event->id : event->corrects,
							   HASH_ENTER, &found);

	if (!found)
		start_level(levels, level);
	if (event->kind == 'u')
	{
		level->there = true;
		level->at = event->occurred_at;
		if (event->properties != NULL)
			level->properties = (Jsonb *) PG_DETOAST_DATUM_COPY(PointerGetDatum(event->properties));
	}
	if (event->kind == 'v')
		level->is_void = true;
	add_numeric(&level->quantity, event->quantity);
	MemoryContextSwitchTo(old);
}

static int
level_order(const void *a, const void *b)
{
	const Level *left = *(Level *const *) a;
	const Level *right = *(Level *const *) b;

	return moment_order(left->at, &left->id, right->at, &right->id);
}

Level **
levels_sorted(Levels *levels, int64 *count)
{
	Level **sorted = palloc(sizeof(Level *) * Max(levels->count, 1));
	HASH_SEQ_STATUS status;
	Level *level;

	*count = 0;
	hash_seq_init(&status, levels->by_id);
	while ((level = hash_seq_search(&status)) != NULL)
	{
		if (level->there && !level->is_void)
			sorted[(*count)++] = level;
	}
	qsort(sorted, *count, sizeof(Level *), level_order);
	return sorted;
}

/* ------------------------------------------------------------------------
 * Different values
 * ------------------------------------------------------------------------
 */
typedef struct ValueCount
{
	char value[256]; /* the key: at most 255 bytes, by usage_rules.c */
	int64 events;
} ValueCount;

void
values_count(HTAB **values, const char *value, int64 events)
{
	HASHCTL control = {
		.keysize = 256, .entrysize = sizeof(ValueCount), .hcxt = CurrentMemoryContext};
	bool found;
	ValueCount *entry;

	if (*values == NULL)
		*values = hash_create("billing usage values", 256, &control,
							  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	entry = hash_search(*values, value, HASH_ENTER, &found);
	entry->events = events + (found ? entry->events : 0);
}

Numeric
values_different(HTAB *values)
{
	HASH_SEQ_STATUS status;
	ValueCount *entry;
	int64 different = 0;

	if (values == NULL)
		return NULL;
	hash_seq_init(&status, values);
	while ((entry = hash_seq_search(&status)) != NULL)
		different += entry->events > 0;
	return int64_to_numeric(different);
}

/*-------------------------------------------------------------------------
 *
 * usage.h
 *	  Usage, between its files.
 *
 * usage.c and usage_import.c take events in: usage_rules.c says whether one
 * can be counted, usage_store.c writes it into the partition that
 * usage_partitions.c finds or makes.  usage_scan.c reads events back,
 * usage_fold.c adds them up; usage_rollup.c does so for the tables of totals,
 * usage_read.c for readers.  usage_state.c knows what the totals hold.  Where
 * Citus distributes the tables, usage_shards.c stands in for usage_store.c and
 * usage_scan.c, usage_shards_read.c for usage_read.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_USAGE_H
#define JANUA_USAGE_H

#include "db.h"
#include "nodes/pg_list.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

/* ------------------------------------------------------------------------
 * usage_rules.c: meters, and what an event may be.
 * ------------------------------------------------------------------------
 */
typedef enum Aggregation
{
	AGGREGATE_SUM,
	AGGREGATE_COUNT,
	AGGREGATE_MAX,
	AGGREGATE_LATEST,
	AGGREGATE_UNIQUE,
	AGGREGATE_WEIGHTED
} Aggregation;

typedef struct Meter
{
	char metric[NAMEDATALEN]; /* the key of the hash table */
	Aggregation aggregation;
	bool carried;
	char *property; /* of unique */
	int dimension_count;
	char **dimensions;
} Meter;

/* What a caller wants to be counted, then what is stored of it. */
typedef struct UsageRow
{
	text *organization_id; /* NULL: not given, as with all pointers */
	text *metric;
	Numeric quantity;
	TimestampTz occurred_at;
	bool has_time;
	text *key;
	Jsonb *properties;
	pg_uuid_t id;
	const char *kind;          /* NULL: usage */
	const pg_uuid_t *corrects; /* NULL for usage */
} UsageRow;

/* Why an event cannot be counted. */
typedef struct Refusal
{
	int sqlstate;
	char *message;
	char *detail; /* may be NULL, as the hint */
	char *hint;
} Refusal;

/* What stays the same from row to row of a call. */
typedef struct RuleScope
{
	text *organization_id; /* whose clock was asked last */
	TimestampTz now;
} RuleScope;

/*
 * NULL when the event can be counted: then quantity and occurred_at are in the
 * form in which they are stored, and id is set.
 */
extern Refusal *usage_check(UsageRow *row, RuleScope *scope);

/* NULL when the organisation and key can be looked up. */
extern Refusal *usage_check_key(const UsageRow *row);

/* NULL when it is a number that is counted; *trimmed has no zeros at the end. */
extern Refusal *usage_check_quantity(Numeric quantity, Numeric *trimmed);

/* Raises it; row_number, from 1, is named when above 0. */
extern _Noreturn void usage_refuse(const Refusal *refusal, int64 row_number);

/* NULL when there is no such metric. */
extern const Meter *meter_find(const text *metric);
extern const Meter *meter_named(const char *metric);

/* Of unique: the value that counts, NULL when the event has none. */
extern text *meter_value(const Meter *meter, Jsonb *properties);
/* The event's dimensions as an object; {} without. */
extern Jsonb *meter_dimensions(const Meter *meter, Jsonb *properties);

/* ------------------------------------------------------------------------
 * usage_state.c: what is remembered per session, and what the totals hold.
 * ------------------------------------------------------------------------
 */
typedef struct UsageTables
{
	Oid events;
	Oid keys;
	Oid keys_index;
	Oid clocks;
	Oid clocks_index;
	Oid meters;
	Oid settings;
	Oid state;
	int64 ahead;      /* microseconds */
	bool bound;       /* to this database; false: base means nothing */
	bool distributed; /* distribute_usage() was called: usage_shards.c writes and reads */
	int64 base;
	TimestampTz raw_since;
	HTAB *meter_table;
} UsageTables;

/* The rules and tables as they are now; a meter that was found stays there until the end of the transaction. */
extern const UsageTables *usage_tables(void);

/* The same, with the totals bound to this database: what a writer calls first. */
extern const UsageTables *usage_tables_bound(void);

/* JB004 where usage is distributed, for what only knows the tables of one server; "what" is a sentence's subject. */
extern void usage_require_local(const char *what);

/* The number that the current transaction gives to its events. */
extern int64 usage_transaction(const UsageTables *tables);

/* Events below "until" that are not among "open" are in the totals. */
typedef struct UsageMark
{
	int64 until;
	int open_count;
	int64 *open;
} UsageMark;

extern bool mark_has(const UsageMark *mark, int64 recorded_in);

/* On the active snapshot. */
extern UsageMark usage_mark(void);

/* ------------------------------------------------------------------------
 * usage_partitions.c
 * ------------------------------------------------------------------------
 */
typedef struct UsagePartition
{
	Oid relation;
	TimestampTz from;
	TimestampTz until;
} UsagePartition;

/* InvalidOid when there is none. */
extern Oid usage_partition_at(Relation events, TimestampTz occurred_at);

/* Those that overlap [from, until), in order of time. */
extern List *usage_partitions(Relation events, TimestampTz from, TimestampTz until);

/* Makes what is missing; nothing of usage_events may be open. */
extern void usage_partitions_make(const TimestampTz *times, int count);

/* Duties: makes partitions for the months to come, removes those past retention; removes keys. */
extern void usage_partitions_keep(void);
extern void usage_keys_keep(void);

/* ------------------------------------------------------------------------
 * usage_store.c
 * ------------------------------------------------------------------------
 */
typedef struct UsageStore UsageStore;

/* Opens for events at these times, each of which usage_check() has passed. */
extern UsageStore *usage_store_open(const char *function, const TimestampTz *times, int count);
/* False: the key is known. Waits for a session that is about to use it. */
extern bool usage_store_claim(UsageStore *store, const UsageRow *row);
/* Is it known? Waits like claim. */
extern bool usage_store_knows(UsageStore *store, const UsageRow *row);
extern void usage_store_put(UsageStore *store, const UsageRow *row);
extern void usage_store_close(UsageStore *store);

/* The next id of version 7; greater than the last one that this session made. */
extern void usage_make_id(pg_uuid_t *id);

/*
 * Records rows that came together. Returns how many were counted. first_row: the
 * number of the first one in a refusal, 0 not to name it. skipped: NULL to raise
 * the first refusal, else called for each.
 */
typedef void (*SkipUsage)(int64 row_number, const Refusal *refusal);
extern int64 usage_record(const char *function, UsageRow *rows, int64 count, int64 first_row,
						  SkipUsage skipped);

/* ------------------------------------------------------------------------
 * usage_scan.c
 * ------------------------------------------------------------------------
 */
typedef struct UsageEvent
{
	TimestampTz occurred_at;
	int64 recorded_in;
	pg_uuid_t id;
	text *organization_id;
	text *metric;
	Numeric quantity;
	char kind;         /* u, v, c */
	Jsonb *properties; /* may be NULL; not detoasted beyond this call */
	const pg_uuid_t *corrects;
} UsageEvent;

typedef void (*VisitUsage)(const UsageEvent *event, void *context);

/* One organisation's events of one metric in [from, until), in order of time, on the active snapshot. */
extern void usage_scan_time(const char *organization_id, const char *metric, TimestampTz from,
							TimestampTz until, VisitUsage visit, void *context);

/* Events of all organisations that the mark does not have, below "limit", on the active snapshot. */
extern void usage_scan_tail(const UsageMark *mark, int64 limit, VisitUsage visit, void *context);

/* The smallest recorded_in from mark->until on; PG_INT64_MAX when there is none. */
extern int64 usage_scan_next(const UsageMark *mark);

/* ------------------------------------------------------------------------
 * usage_shards.c, usage_shards_read.c: where Citus distributes the tables
 * ------------------------------------------------------------------------
 */
typedef struct ShardStore ShardStore;

/* What usage_store.c hands on when usage is distributed; transaction: recorded_in of the events. */
extern ShardStore *shard_store_open(TimestampTz now, int64 transaction);
extern bool shard_store_claim(ShardStore *store, const UsageRow *row);
extern bool shard_store_knows(ShardStore *store, const UsageRow *row);
extern void shard_store_put(ShardStore *store, const UsageRow *row);
extern void shard_store_close(ShardStore *store);

/* One connection per node for what follows, until the end of the identity that the caller has. */
extern void shards_one_after_another(void);

/* As usage_scan_time(), which calls it. */
extern void shards_scan_time(const char *organization_id, const char *metric, TimestampTz from,
							 TimestampTz until, VisitUsage visit, void *context);

/* ------------------------------------------------------------------------
 * usage_fold.c
 * ------------------------------------------------------------------------
 */
#define USAGE_BUCKET (15 * USECS_PER_MINUTE)

/* Where the quarter of an hour begins. */
static inline TimestampTz
usage_bucket(TimestampTz at)
{
	TimestampTz rest = at % USAGE_BUCKET;

	return at - rest - (rest < 0 ? USAGE_BUCKET : 0);
}

typedef struct Fold
{
	int64 whole; /* part of the sum, while it fits */
	Numeric sum; /* the rest of it, may be NULL */
	int64 events;
	Numeric largest; /* NULL: nothing, as latest */
	TimestampTz first_at;
	TimestampTz latest_at;
	pg_uuid_t latest_id;
	Numeric latest;
	Numeric area; /* quantity times seconds from first_at to latest_at; may be NULL for 0 */
} Fold;

/* Adds an event to sum and number; levels only where nothing corrects it. */
extern void fold_event(Fold *fold, const UsageEvent *event);
/* One that was corrected already, in order of time and id. */
extern void fold_level(Fold *fold, TimestampTz at, const pg_uuid_t *id, Numeric quantity);
/* What follows in time. */
extern void fold_append(Fold *fold, const Fold *next);
extern Numeric fold_sum(const Fold *fold);

/* Events with what corrects them applied, in order of time and id; void ones are left out. */
typedef struct Levels
{
	MemoryContext memory;
	HTAB *by_id;
	int64 count;
} Levels;
typedef struct Level
{
	pg_uuid_t id; /* the key of the hash table */
	TimestampTz at;
	Numeric quantity;
	bool there;
	bool is_void;
	Jsonb *properties;
} Level;
extern Levels *levels_new(void);
extern void levels_add(const UsageEvent *event, void *levels);
extern Level **levels_sorted(Levels *levels, int64 *count);

extern Numeric numeric_plus(Numeric a, Numeric b);
extern Numeric numeric_minus(Numeric a, Numeric b);
extern Numeric numeric_times(Numeric a, Numeric b);
extern Numeric numeric_over(Numeric a, Numeric b);
extern int numeric_order(Numeric a, Numeric b);

/* ------------------------------------------------------------------------
 * usage_period.c
 * ------------------------------------------------------------------------
 */
/* Half-open. */
typedef struct UsageRange
{
	TimestampTz start;
	TimestampTz end;
} UsageRange;

/* The current one of the organisation. */
extern UsageRange usage_period(const char *organization_id);

/* ------------------------------------------------------------------------
 * usage_read.c
 * ------------------------------------------------------------------------
 */
typedef struct UsageTail UsageTail;

/* The organisation's events that the totals do not hold, on the active snapshot. */
extern UsageTail *usage_tail(const char *organization_id);

/*
 * What was used of a metric in the range, by its aggregation; 0 when nothing.
 * The caller holds a lock on usage_events, so that no partition is removed meanwhile.
 */
extern Numeric usage_quantity(const char *organization_id, const Meter *meter,
							  const UsageTail *tail, UsageRange range);

/* 22023 when events in [from, until), which no total is for, were removed by retention. */
extern void usage_check_kept(TimestampTz from, TimestampTz until);

/* Full quarters of an hour in the range; empty at its end when there are none. */
extern UsageRange usage_full_quarters(UsageRange range);

/*
 * The same where usage is distributed: on one snapshot of the organisation's
 * shard. NULL: nothing.
 */
extern Numeric shards_quantity(const char *organization_id, const Meter *meter, UsageRange range);

/* ------------------------------------------------------------------------
 * usage_rollup.c
 * ------------------------------------------------------------------------
 */
/*
 * A duty: moves the tail into the totals, or a part of it; 1 when there is more.
 * Now and then, or at once.
 */
extern int usage_rollup(bool at_once);

#endif /* JANUA_USAGE_H */

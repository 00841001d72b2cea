/*-------------------------------------------------------------------------
 *
 * usage.h
 *	  Usage, between its files.
 *
 * usage.c and usage_import.c take events in: usage_rules.c says whether one
 * can be counted, usage_store.c writes it into the partition that
 * usage_partitions.c finds or makes.  usage_scan.c reads events back,
 * usage_fold.c adds them up; usage_rollup.c does so for the tables of totals
 * (usage_groups.c), usage_read.c for readers, with what usage_tail.c found.
 * usage_state.c knows what the totals hold.  The functions for readers are in
 * usage_summary.c and usage_slices.c; what they share in usage_reader.c and
 * usage_period.c.
 * usage_alerts.c follows the rollup and compares with limits; usage_closings.c
 * keeps what was billed, and finds what has come since.
 * usage_forwarding.c says what is forwarded to a provider, usage_forward.c
 * finds what is to be told, usage_reports.c is how it is told.
 * What keeps to a limit stands in quota.h.  Where Citus distributes the
 * tables, usage_shards.c stands in for usage_store.c and usage_scan.c,
 * usage_shards_read.c for the queries of usage_read.c.
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
	bool enforced;  /* its events are added to counters, see quota.h */
	char *property; /* of unique */
	int dimension_count;
	char **dimensions;
} Meter;

/* Why an event cannot be counted. */
typedef struct Refusal
{
	int sqlstate;
	char *message;
	char *detail; /* may be NULL, as the hint */
	char *hint;
} Refusal;

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
	Refusal *unreadable;       /* NULL: it could be read */
} UsageRow;

/* What stays the same from row to row of a call. */
typedef struct RuleScope
{
	text *organization_id; /* whose clock was asked last */
	TimestampTz now;
} RuleScope;

/* message may be made with psprintf(); detail and hint may be NULL. */
extern Refusal *usage_refusal(int sqlstate, char *message, char *detail, char *hint);

/*
 * NULL when the event can be counted: then quantity and occurred_at are in the
 * form in which they are stored, and id is set.
 */
extern Refusal *usage_check(UsageRow *row, RuleScope *scope);

/* NULL when the organisation and key can be looked up. */
extern Refusal *usage_check_key(const UsageRow *row);

/* NULL when the organisation's id is one, and there is such a metric. */
extern Refusal *usage_check_metric(const UsageRow *row);

/* NULL when it is a number that is counted; *trimmed has no zeros at the end. */
extern Refusal *usage_check_quantity(Numeric quantity, Numeric *trimmed);

/* Raises it; row_number, from 1, is named when above 0. */
extern _Noreturn void usage_refuse(const Refusal *refusal, int64 row_number);

/* The organisation's time, for callers without SPI and the owner's identity. */
extern TimestampTz usage_now(text *organization_id);

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
	Oid counters;
	Oid counters_index;
	Oid limits; /* the mark of quota_limits.c */
	Oid subscriptions;
	Oid subscriptions_index; /* by organization_id, as the next two */
	Oid overrides;
	Oid overrides_index;
	Oid add_ons;
	Oid add_ons_index;
	Oid meters;
	Oid settings;
	Oid state;
	int64 ahead;      /* microseconds */
	bool bound;       /* to this database; false: base means nothing */
	bool distributed; /* distribute_usage() was called: usage_shards.c writes and reads */
	int64 base;
	TimestampTz raw_since;
	int64 removed_until;
	bool any_enforced;
	HTAB *meter_table;
} UsageTables;

/* Of the schema billing; also while the extension is being installed. */
extern Oid usage_table_named(const char *name);

/* The rules and tables as they are now; a meter that was found stays there until the end of the transaction. */
extern const UsageTables *usage_tables(void);

/* The same, with the totals bound to this database: what a writer calls first. */
extern const UsageTables *usage_tables_bound(void);

/* The oid of limits_changed as far as it is known here; for callbacks, which may read nothing. */
extern Oid usage_limits_mark(void);

/*
 * Events are numbered by their transaction, and within it by parts of so many,
 * so that the totals can take in a part of a transaction, however large it is.
 */
#define USAGE_PARTS       4096
#define USAGE_PART_EVENTS 16384

/* Is this one of those that Citus has shards on, and not the coordinator? */
extern bool usage_is_on_a_node(void);

/* The first number that the current transaction gives to its events. */
extern int64 usage_transaction(const UsageTables *tables);

/* The last one of the same transaction. */
static inline int64
usage_last_number(int64 number)
{
	return number | (USAGE_PARTS - 1);
}

/*
 * Events below "until" are in the totals; but of the transactions that "open"
 * names those from that number on are not.
 */
typedef struct UsageMark
{
	int64 until;
	int open_count;
	int64 *open;
} UsageMark;

extern bool mark_has(const UsageMark *mark, int64 recorded_in);

/*
 * On the active snapshot. Raises 40001 when retention has removed events that an
 * older snapshot does not have in its totals: whoever reads them locks
 * usage_events before.
 */
extern UsageMark usage_mark(void);

/* The first numbers of transactions, on the active snapshot; in a database that is bound. */
typedef struct UsageSight
{
	int64 until; /* none of those from here on is seen, but our own */
	int64 own;   /* -1: none yet */
	int running_count;
	int64 *running; /* below until, in order: not seen */
} UsageSight;
extern UsageSight usage_sight(const UsageTables *tables);

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
/* Takes back the key that was claimed last: it is free again, here at once, for others when this transaction ends. */
extern void usage_store_unclaim(UsageStore *store, const UsageRow *row);
/* Is it known? Waits like claim. */
extern bool usage_store_knows(UsageStore *store, const UsageRow *row);
/* Events of enforced metrics change their counters when the store is closed. */
extern void usage_store_put(UsageStore *store, const UsageRow *row);
/* The same for callers who change the counter themselves, and may make ready before they lock it. */
extern void usage_store_prepare(UsageStore *store, TimestampTz occurred_at);
extern void usage_store_put_counted(UsageStore *store, const UsageRow *row);
extern void usage_store_close(UsageStore *store);

/* By bytes; below, above or 0, as memcmp(). */
extern int usage_text_order(const text *a, const text *b);

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

/* Events of all organisations that the mark does not have, on the active snapshot, in no order. */
extern void usage_scan_tail(const UsageMark *mark, VisitUsage visit, void *context);

/* The same from their smallest number on; stops after the number with which there are "most" or more. */
typedef struct TailScan
{
	int64 events;  /* how many were visited */
	int64 reached; /* all below it; PG_INT64_MAX: all */
} TailScan;
extern TailScan usage_scan_tail_in_order(const UsageMark *mark, int64 most, VisitUsage visit,
										 void *context);

/* The greatest number in the partition; -1 when it is empty. */
extern int64 usage_scan_last(Oid partition);

/* Has the partition an event that the mark does not have? */
extern bool usage_scan_has_tail(Oid partition, const UsageMark *mark);
/* The same of one organisation: a List of copies of UsageEvent. */
extern List *usage_scan_own_tail(const UsageMark *mark, const char *organization_id);

/* Into the current memory context, with all that it points to. */
extern UsageEvent *usage_event_copy(const UsageEvent *event);

/* ------------------------------------------------------------------------
 * usage_shards.c, usage_shards_read.c: where Citus distributes the tables
 * ------------------------------------------------------------------------
 */
typedef struct ShardStore ShardStore;

/* What usage_store.c hands on when usage is distributed; transaction: recorded_in of the events. */
extern ShardStore *shard_store_open(TimestampTz now, int64 transaction);
extern bool shard_store_claim(ShardStore *store, const UsageRow *row);
extern void shard_store_unclaim(const UsageRow *row);
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

/* Of unique: how many events have a value; a table is made for the first, in the current memory context. */
extern void values_count(HTAB **values, const char *value, int64 events);
/* How many values have events; NULL where there are none. */
extern Numeric values_different(HTAB *values);

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

/* That of a call whose arguments from "first" on are start_at and end_at; what is NULL is the current one's. 22023 */
extern UsageRange usage_range(FunctionCallInfo fcinfo, int first, const char *organization_id);

/* ------------------------------------------------------------------------
 * usage_tail.c
 * ------------------------------------------------------------------------
 */
typedef struct UsageTail UsageTail;

/* The organisation's events that the totals do not hold, on the active snapshot. */
extern UsageTail *usage_tail(const char *organization_id);

/* No events: for who wants to know what the totals hold. */
extern UsageTail *usage_tail_empty(void);

/* Those of all organisations; NULL when there are more than that. */
extern UsageTail *usage_tail_of_everybody(int64 most);

/* A List of UsageEvent, in no order. */
extern List *usage_tail_events(const UsageTail *tail, const char *organization_id,
							   const char *metric);

/* ------------------------------------------------------------------------
 * usage_read.c
 * ------------------------------------------------------------------------
 */
/*
 * What was used of a metric in the range, by its aggregation; 0 when nothing.
 * The caller holds a lock on usage_events, so that no partition is removed meanwhile.
 */
extern Numeric usage_quantity(const char *organization_id, const Meter *meter,
							  const UsageTail *tail, UsageRange range);

/* A part of the dimensions of a meter. */
typedef struct UsageSlice
{
	Jsonb *contains;     /* what the event's dimensions have to contain; NULL: anything */
	int dimension_count; /* by the values of these it is kept apart; 0: all in one */
	char **dimensions;
} UsageSlice;

/* The same of a slice that is not kept apart; NULL: of everything. */
extern Numeric usage_quantity_in(const char *organization_id, const Meter *meter,
								 const UsageTail *tail, UsageRange range, const UsageSlice *slice);

typedef struct UsageAnswer
{
	Jsonb *dimensions; /* those that it is kept apart by */
	Numeric quantity;
	int64 events; /* in the range, without void ones: also where the quantity is carried */
} UsageAnswer;

/* With the number of events, for a slice or everything: a List of UsageAnswer; exactly one when it is not kept apart. */
extern List *usage_answers(const char *organization_id, const Meter *meter, const UsageTail *tail,
						   UsageRange range, const UsageSlice *slice);

/* ------------------------------------------------------------------------
 * usage_shards_read.c, for usage_read.c
 * ------------------------------------------------------------------------
 */
typedef struct ShardQuestion
{
	const char *organization_id;
	const char *metric;
	Aggregation aggregation;
	UsageRange range;
	UsageRange inner; /* its whole quarters of an hour */
	Jsonb *contains;  /* of a level: in these dimensions together; NULL: in each by itself */
} ShardQuestion;

typedef struct ShardAnswer ShardAnswer;

/* Rows of totals: some of those that a query returned, with their columns moved. */
typedef struct TotalRows
{
	Rows rows;
	int64 count;
	const int64 *at; /* NULL: all of them */
	int shift;
} TotalRows;

static inline int64
total_row(const TotalRows *totals, int64 row)
{
	return totals->at == NULL ? row : totals->at[row];
}

/* On one snapshot of the organisation's shard. */
extern ShardAnswer *shards_ask(const ShardQuestion *question);
/* Events of the edges and of the quarters whose totals are behind. */
extern void shards_visit(const ShardAnswer *answer, VisitUsage visit, void *context);
/* The totals of all other quarters. */
extern TotalRows shards_totals(const ShardAnswer *answer);

/* ------------------------------------------------------------------------
 * usage_reader.c
 * ------------------------------------------------------------------------
 */
typedef struct UsageReader
{
	Identity identity;
	Relation events;
	const UsageTail *tail;
} UsageReader;

/*
 * For a function that is not SECURITY DEFINER: a connection, the owner's
 * identity, the tail, and the lock. Errors: 23502, 42501 for tenants.
 */
extern UsageReader usage_reader_open(FunctionCallInfo fcinfo, const char *organization_id);
extern void usage_reader_close(UsageReader reader);

/* ------------------------------------------------------------------------
 * usage_rollup.c
 * ------------------------------------------------------------------------
 */
/*
 * A duty: moves the tail into the totals, or a part of it; 1 when there is more.
 * Now and then, or at once.
 */
extern int usage_rollup(bool at_once);

/* At its last run another process was at it. */
extern bool usage_rollup_is_elsewhere(void);

/* ------------------------------------------------------------------------
 * usage_alerts.c
 * ------------------------------------------------------------------------
 */
/* Arrays of organisations and metrics whose totals this transaction has changed; with repetitions. */
extern void usage_alerts_mark(Arg organization_ids, Arg metrics);

/* A duty: raises the alerts of what was marked; 1 when the session that asks has more to do. */
extern int usage_alerts_raise(bool at_once);

/* ------------------------------------------------------------------------
 * usage_closings.c
 * ------------------------------------------------------------------------
 */
/* A period as it is, or as it is still known when the events at its edges are gone. */
typedef enum UsageCut
{
	CUT_EXACT,
	CUT_FROM_QUARTER, /* from the beginning of the quarter of an hour that its start is in */
	CUT_IN_QUARTERS,  /* and until the beginning of the one that its end is in */
	USAGE_CUTS
} UsageCut;

/* What a closing takes over of a metric. */
typedef struct UsageLine
{
	char metric[NAMEDATALEN];
	bool correction; /* of a period that was closed before */
	UsageRange period;
	/* of a correction the differences; CUT_EXACT is what is billed, and may be 0 where only the others are not */
	Numeric amounts[USAGE_CUTS];
} UsageLine;

/* Whose invoice a closing is billed with. */
typedef struct UsageBuyer
{
	const pg_uuid_t *subscription_id;
	const char *currency; /* what came late into a period of another one is left for others */
} UsageBuyer;

/*
 * Closes the period in this transaction and returns its lines (UsageLine): usage
 * first, then corrections of other periods, each of which is told exactly once.
 * A period that is closed already returns what it returned then.  Closings of
 * one organisation wait for each other until the end of the transaction.
 * Without a buyer it is closed by hand.
 * 22023, JB008: it is no period, overlaps a closed one, or is not over.
 */
extern List *usage_period_close(const char *organization_id, UsageRange period,
								const UsageBuyer *buyer);

/*
 * The corrections alone, where nothing is metered any more.  *closing is set to
 * where the closing stands that took them over; there is none without lines.
 */
extern List *usage_late_take(const char *organization_id, TimestampTz at, const UsageBuyer *buyer,
							 TimestampTz *closing);
extern List *usage_late_preview(const char *organization_id, const UsageBuyer *buyer);

/* As usage_forwarding_touched(): marks the closed periods that they are in. */
extern void usage_closings_touched(Arg organization_ids, Arg metrics, Arg buckets);

/* The same lines on the active snapshot, without closing; the period need not be over. */
extern List *usage_period_preview(const char *organization_id, UsageRange period,
								  const UsageBuyer *buyer);

/* ------------------------------------------------------------------------
 * usage_forward.c
 * ------------------------------------------------------------------------
 */
/*
 * The totals of these quarters of an hour are about to change: called by the
 * rollup, in its transaction, with columns of one length.
 */
extern void usage_forwarding_touched(Arg organization_ids, Arg metrics, Arg buckets);

/* A duty: tells the providers of hours that are over or have changed; above 0 when there may be more. */
extern int usage_forward(void);

#endif /* JANUA_USAGE_H */

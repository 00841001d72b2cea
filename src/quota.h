/*-------------------------------------------------------------------------
 *
 * quota.h
 *	  Hard limits, between their files.
 *
 * quota.c has consume() and check_quota(), quota_reservations.c what is
 * reserved for a while, quota_enforcing.c makes a metric one with hard limits.
 * quota_limits.c knows how much an organisation may
 * use and in which period; quota_counters.c how much it has used, in the one
 * row per organisation and metric that everybody who counts changes last;
 * quota_shards.c does so where Citus has that row.
 *
 * An event of an enforced metric changes the counter in its own transaction.
 * The counter belongs to one period; it moves on to the next one under its
 * lock, from the exact quantity, when somebody first needs it there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_QUOTA_H
#define JANUA_QUOTA_H

#include "usage.h"

/* ------------------------------------------------------------------------
 * quota_limits.c
 * ------------------------------------------------------------------------
 */
typedef struct Quota
{
	Numeric limit; /* Infinity: unlimited */
	UsageRange period;
} Quota;

/* As it is at this moment of the organisation's time; remembered, so that asking costs nothing. */
extern Quota quota_of(const text *organization_id, const Meter *meter, TimestampTz now);

/*
 * The same from the tables, on the active snapshot; with the owner's identity
 * and a connection to SPI.  until: before it only a change of a table changes
 * it; may be NULL.
 */
extern Quota quota_read(const char *organization_id, const Meter *meter, TimestampTz now,
						TimestampTz *until);

/* Until when events count in the period: it goes on until its successor is known. */
extern UsageRange quota_range(const Quota *quota, TimestampTz now);

/* ------------------------------------------------------------------------
 * quota_counters.c
 * ------------------------------------------------------------------------
 */
/* The row of an organisation and metric, as it was read. */
typedef struct Counter
{
	bool on_shard; /* then the next three, and "at", are not used */
	Relation relation;
	Relation index;
	TupleTableSlot *slot;
	text *organization_id;
	text *metric;
	bool found;
	ItemPointerData at;
	bool has_period; /* false: nobody has needed it yet */
	UsageRange period;
	Numeric used;
	Numeric reserved;
} Counter;

extern void counter_open(Counter *counter, text *organization_id, text *metric);

/*
 * Writes what was used and is reserved now, and locks the row.  False: it was
 * changed after it was read; now it is locked and read again (or not found).
 * 40001 where the isolation level forbids that.
 */
extern bool counter_write(Counter *counter, Numeric used, Numeric reserved);
extern void counter_close(Counter *counter);

/*
 * Makes the row, or moves it on to the present period, from the exact
 * quantity.  Waits for everybody who is recording.
 */
extern void counter_renew(text *organization_id, const Meter *meter);

/* What an event adds to its counter; NULL for nothing. */
extern Numeric counter_amount(const Meter *meter, const UsageRow *row);

/* Of a store: notes what a row adds, and adds it, in the order of counters. */
extern List *counters_note(List *counts, const UsageRow *row);
extern void counters_apply(List *counts);

/* ------------------------------------------------------------------------
 * quota_enforcing.c
 * ------------------------------------------------------------------------
 */
/*
 * Switches it to hard limits; until the transaction ends others who record
 * wait.  55P03 when for some seconds there was no moment without somebody
 * who is recording.
 */
extern void quota_enforce(const char *metric);

/* ------------------------------------------------------------------------
 * quota_shards.c, for quota_counters.c: where usage is distributed
 * ------------------------------------------------------------------------
 */
/* With found, period and quantities as they are now. */
extern void shard_counter_read(Counter *counter);
/* As counter_write(). */
extern bool shard_counter_write(Counter *counter, Numeric used, Numeric reserved);

/* ------------------------------------------------------------------------
 * quota.c
 * ------------------------------------------------------------------------
 */
/*
 * The metric, enforced from here on.  22023 when it has nothing that could be
 * consumed, or the quantity is not what one event of it counts.
 */
extern const Meter *quota_meter(const UsageRow *row);

/* The counter in the present period. */
typedef struct Allowance
{
	Counter counter;
	Quota quota;
	const Meter *meter;
	TimestampTz now;
} Allowance;

extern void allowance_open(Allowance *allowance, text *organization_id, const Meter *meter,
						   TimestampTz now);
/* Does so much more fit? */
extern bool allowance_has(Allowance *allowance, Numeric quantity);
/*
 * Changes what is used and reserved, which may be negative; more than before
 * in all only if it fits: else false, and nothing is changed.
 */
extern bool allowance_take(Allowance *allowance, Numeric used, Numeric reserved);
extern void allowance_close(Allowance *allowance);

/* ------------------------------------------------------------------------
 * quota_reservations.c
 * ------------------------------------------------------------------------
 */
/* Ends reservations that have expired; how many. */
extern int64 reservations_end(const char *organization_id, const char *metric);

/* A duty: does so wherever there are such. */
extern void reservations_keep(void);

#endif /* JANUA_QUOTA_H */

/*-------------------------------------------------------------------------
 *
 * usage_groups.h
 *	  Groups of events, as the tables of totals have them; for usage_rollup.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_USAGE_GROUPS_H
#define JANUA_USAGE_GROUPS_H

#include "usage.h"

typedef struct TotalGroup
{
	struct TotalGroup *next; /* of the same slot */
	uint32 hash;
	text *organization_id;
	const Meter *meter;
	TimestampTz bucket;
	Jsonb *dimensions;
	text *value; /* of unique, in the table of values; else NULL */
	Fold fold;
} TotalGroup;

typedef struct GroupTable
{
	TotalGroup **slots;
	uint32 slot_count; /* a power of 2 */
	uint32 count;
} GroupTable;

/* An empty one, in the current memory context. */
extern void totals_clear(GroupTable *table);

/* The group with these keys; made when it is not there yet, in the current memory context. */
extern TotalGroup *totals_group(GroupTable *table, const TotalGroup *wanted);

/* All of them, in an array. */
extern TotalGroup **totals_list(const GroupTable *table);

/* Tells forwarding that the totals of these quarters of an hour change: before they are written. */
extern void totals_touch(const GroupTable *table);

/* Adds them to the tables of totals and of values; puts them where there is nothing of their quarters. */
extern void totals_add(GroupTable *table);
extern void totals_put(GroupTable *table);
extern void totals_add_values(GroupTable *table);
extern void totals_put_values(GroupTable *table);

#endif /* JANUA_USAGE_GROUPS_H */

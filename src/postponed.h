/*-------------------------------------------------------------------------
 *
 * postponed.h
 *	  What a duty could not do is left out for a while.
 *
 * A duty takes the first few of what is due.  One that cannot be done must not
 * stay among them: its row of billing.postponed_work says until when the duty
 * looks past it, longer each time.  Rows that know by themselves when they are
 * tried again (subscriptions.next_due_at, invoices.finalize_at) need none, but
 * where that cannot be written either.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_POSTPONED_H
#define JANUA_POSTPONED_H

#include "db.h"

/* A condition of a query of what is due, to be followed by the id and a parenthesis: NOT_POSTPONED "i.id) ". */
#define NOT_POSTPONED                                          \
	"NOT EXISTS (SELECT FROM billing.postponed_work AS later " \
	"WHERE later.retry_at > clock_timestamp() AND later.object_id = "

/* Has it a row?  Likewise; for a duty that ends it for each by itself. */
#define WAS_POSTPONED \
	"EXISTS (SELECT FROM billing.postponed_work AS earlier WHERE earlier.object_id = "

typedef struct Undone
{
	const char *what; /* such as "invoice cannot be numbered" */
	const char *object_type;
	const pg_uuid_t *id;
	const char *organization_id; /* NULL: of none */
	const char *sqlstate;
} Undone;

/* So many that a session keeps from being done one unit tries: each costs it a lock_timeout. */
#define PASSING_MOST 5

/*
 * Leaves it out for a while.  What passes by itself counts as no failure and is
 * tried again soon; of an organisation with a test clock at once, since its time
 * stands still meanwhile.  True: it has failed for the first time.
 */
extern bool work_postpone(const Undone *undone);

/* They are done, or are to be tried at once. */
extern void work_resume(pg_uuid_t *const *ids, int count);

/* Of what nobody has tried again for long: it is done, or needs not be. */
extern void work_forget_old(void);

#endif /* JANUA_POSTPONED_H */

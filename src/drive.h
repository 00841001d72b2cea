/*-------------------------------------------------------------------------
 *
 * drive.h
 *	  The loop of duties, for the background worker and for sessions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_DRIVE_H
#define JANUA_DRIVE_H

#include "db.h"

/* Opens and closes the duties for this process; the lease token is returned. */
extern pg_uuid_t *drive_open(void);
extern void drive_close(void);

/* What a pass looks at. */
typedef enum PassKind
{
	PASS_NETWORK,   /* answers that came, and what may be sent in their place */
	PASS_WOKEN,     /* somebody committed: all that may have come of it */
	PASS_EVERYTHING /* now and then: also what nobody tells about */
} PassKind;

/*
 * One pass over the duties.  Returns the milliseconds after which there is
 * something to do, 0 for at once, -1 when nothing is known to be due.
 */
extern long drive_pass(PassKind kind);

/* Passes and waits until nothing is due and nothing is in flight. */
extern void drive_until_idle(void);

/* Around a procedure of an ordinary session (CALL run_worker()). */
extern void drive_session_begin(FunctionCallInfo fcinfo, const char *procedure);
extern void drive_session_end(void);

#endif /* JANUA_DRIVE_H */

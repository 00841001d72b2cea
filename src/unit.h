/*-------------------------------------------------------------------------
 *
 * unit.h
 *	  Units of work: short transactions of the worker.
 *
 * The worker's duties run in a background worker, where a unit is a
 * transaction of its own, and in an ordinary session (CALL run_worker()),
 * where it is a part of a procedure that commits on its way.  The duties do
 * not know the difference.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_UNIT_H
#define JANUA_UNIT_H

#include "db.h"

/*
 * Opens a unit: a transaction, the owner's identity and a connection to SPI.
 * False, and nothing is open, when the extension is being dropped or is gone.
 */
extern bool unit_begin(void);
extern void unit_commit(void);

/*
 * Runs a duty in a unit of its own.  An ERROR undoes it, is told to the log
 * and goes no further: calls in flight and the other duties are not its
 * business.  False when it was not done.
 */
extern bool unit_run(void (*work)(void *context), void *context, const char *duty);

/* After an ERROR in the background worker: puts everything back. */
extern void unit_abort(void);

/* Between these two, units belong to a procedure of an ordinary session. */
extern void unit_session_begin(FunctionCallInfo fcinfo, const char *procedure);
extern void unit_session_end(void);
extern bool unit_in_session(void);

/*
 * The worker serves this one extension; another one of the same name, made
 * after it was dropped, has a worker of its own.
 */
extern void unit_serve(Oid extension);

/* The extension was dropped: the worker may leave. */
extern bool unit_extension_gone(void);

#endif /* JANUA_UNIT_H */

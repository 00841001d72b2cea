/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The background worker: one per database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_WORKER_H
#define JANUA_WORKER_H

#include "compat.h"

/* Registers the launcher when the library is preloaded. Called once from _PG_init. */
extern void worker_init(void);

/* Asks the postmaster for the worker of a database; safe after commit: no ERROR, no memory. */
extern bool worker_start(Oid database);

/* Is this process the worker (or the launcher)? */
extern bool worker_is_me(void);

/* Entry points named in the registrations. */
extern JANUA_EXPORT void billing_worker_main(Datum argument);
extern JANUA_EXPORT void billing_launcher_main(Datum argument);

#endif /* JANUA_WORKER_H */

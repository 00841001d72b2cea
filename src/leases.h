/*-------------------------------------------------------------------------
 *
 * leases.h
 *	  Puts right what processes left behind in the outbox.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_LEASES_H
#define JANUA_LEASES_H

#include "db.h"

/* Puts back what a process that is gone had claimed; token NULL: only what is over its time. */
extern void leases_release(const pg_uuid_t *token);

/* Promotes and unblocks what a race left behind (see outbox.c). */
extern void outbox_sweep(void);

#endif /* JANUA_LEASES_H */

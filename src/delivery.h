/*-------------------------------------------------------------------------
 *
 * delivery.h
 *	  Carries out what lies in the outbox: claim, send, apply.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_DELIVERY_H
#define JANUA_DELIVERY_H

#include "outbox.h"

/* Sets up for this process; token is the lease that it takes. */
extern void delivery_open(const pg_uuid_t *token);

/* Forgets what is in flight; its leases stay until they end or are released. */
extern void delivery_close(void);

/* Claims as many requests as there are free slots and puts them on the wire. Returns how many. */
extern int delivery_claim(void);

/* Takes every answer that is there and applies it. Returns how many. */
extern int delivery_complete(void);

/* Applies answers that had to wait for a row's lock, in turn. Returns how many, 0 when one still waits. */
extern int delivery_apply_stored(void);
extern bool delivery_has_stored(void);

/* Answers may lie in rows that were let go: looks for them. */
extern void delivery_expect_stored(void);

/* Requests of ours in flight or answered and not yet applied. */
extern int delivery_in_flight(void);

/* Milliseconds until the next request is due and may be sent, -1 when there is none. */
extern long delivery_next_due(void);

/* Was something due then that only waited for the pace of its account? */
extern bool delivery_filling(void);

/* Was something due then whose account was not to be sent to yet, for whatever reason? */
extern bool delivery_held(void);

#endif /* JANUA_DELIVERY_H */

/*-------------------------------------------------------------------------
 *
 * own_invoices.h
 *	  What callers ask of invoices that are our own.
 *
 * The functions of SQL are for every invoice; invoices.c asks here first.
 * False: it is none of ours, and nothing was done.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_OWN_INVOICES_H
#define JANUA_OWN_INVOICES_H

#include "db.h"

extern bool own_invoice_finalize(const pg_uuid_t *id);
extern bool own_invoice_void(const pg_uuid_t *id);

/* own_invoice_void() without a word to the engine, which calls it off within a run of its own. */
extern void own_invoice_call_off(const pg_uuid_t *id);

extern bool own_invoice_give_up(const pg_uuid_t *id);

/*
 * A subscription of ours has ended before its first invoice was paid: nothing
 * more of its invoices is asked for.  What nobody has paid is void; of what is
 * paid in part, or credited, a credit note takes back all that is left, and the
 * part goes to the balance.  The subscription is stored as ended.  JB010 while a
 * payment is under way.
 */
extern void own_invoices_take_back(const pg_uuid_t *subscription_id);

#endif /* JANUA_OWN_INVOICES_H */

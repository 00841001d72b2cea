/*-------------------------------------------------------------------------
 *
 * given_back.h
 *	  What changes gave back of an invoice, as it is paid or given up later.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_GIVEN_BACK_H
#define JANUA_GIVEN_BACK_H

#include "engine.h"

/*
 * What was given back of the lines of an invoice follows what is paid of it.  To
 * be called after its state, what is paid of it or what is given back of it has
 * changed; again, it does nothing.  The caller holds the customer, and no run of
 * his that has completed drafts and is not written.
 */
extern void given_back_settle(const pg_uuid_t *invoice_id);

/* The same for the invoices of which lines of this one, which was voided or credited, gave back. */
extern void given_back_less(const pg_uuid_t *invoice_id);

/* The rest of a line for a time that is unused, which a credit could not give back before it was paid. */
typedef struct UnusedTime
{
	const pg_uuid_t *line_id;
	const pg_uuid_t *credit_line_id;
	char *description;
	TimestampTz period_start;
	TimestampTz period_end;
	int64 amount; /* minor units, with its tax */
} UnusedTime;

/*
 * credit_notes.c: a credit note that gives the balance what is left of these
 * (UnusedTime), up to what was paid of the invoice and kept, less what credits
 * have given of it; none when nothing is.  The caller holds the customer.
 */
extern void credit_note_for_unused(const pg_uuid_t *invoice_id, const List *times);

/*
 * credit_notes.c: a credit note over all that is left of an invoice of ours that
 * is no statement, whether open, paid or given up: what is still to be paid of it
 * is not, and the balance gets what was paid and kept.  None when nothing is left.
 */
extern void credit_note_for_rest(pg_uuid_t *invoice_id, const char *reason);

#endif /* JANUA_GIVEN_BACK_H */

/*-------------------------------------------------------------------------
 *
 * credits.h
 *	  What credits.c (a draft is paid by them) and credit_grants.c (who has
 *	  how much) share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_CREDITS_H
#define JANUA_CREDITS_H

#include "engine.h"

/* One change of a balance: a row of billing.customer_balance_entries. */
typedef struct BalanceEntry
{
	const pg_uuid_t *customer_id;
	const char *currency;
	int64 amount;
	const char *reason;
	const char *note;        /* NULL: none */
	const char *source_type; /* NULL: none */
	const pg_uuid_t *source_id;
	TimestampTz occurred_at;
} BalanceEntry;

/*
 * Writes entries, in their order, and the balances that come of them, in one
 * statement; returns the balance after the last of them.  Their customers are
 * locked.
 */
extern int64 balance_entries_write(const BalanceEntry *entries, int count);

/* Has an invoice that is older than the end of a grant g yet to be made, or a draft to be completed?  Then it may still use it. */
#define GRANT_IS_STILL_WANTED                                                                \
	"(EXISTS (SELECT FROM billing.subscriptions AS s WHERE s.customer_id = g.customer_id "   \
	"AND s.next_due_at <= g.expires_at) OR EXISTS (SELECT FROM billing.invoices AS i "       \
	"WHERE i.customer_id = g.customer_id AND i.managed_by = 'local' AND i.status = 'draft' " \
	"AND i.marked_at IS NULL AND i.finalize_at IS NOT NULL AND i.issued_at < g.expires_at))"

#endif /* JANUA_CREDITS_H */

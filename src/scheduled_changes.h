/*-------------------------------------------------------------------------
 *
 * scheduled_changes.h
 *	  What we do later in a provider's stead.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_SCHEDULED_CHANGES_H
#define JANUA_SCHEDULED_CHANGES_H

#include "subscriptions.h"

/*
 * Carries an operation out in the provider's stead when it says that it is
 * EMULATED; false when the provider does it itself.  The caller holds the
 * customer's lock.  JB004 when neither can.
 */
extern bool emulate(const Subscription *subscription, const Account *account, Operation operation,
					const char *reason, const char *comment);

/* Nothing is left to be done for a subscription that has ended otherwise. */
extern void scheduled_changes_drop(const pg_uuid_t *subscription_id);

/* Carries out what is due. Returns how many. For the worker. */
extern int scheduled_changes_run(void);

#endif /* JANUA_SCHEDULED_CHANGES_H */

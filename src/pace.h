/*-------------------------------------------------------------------------
 *
 * pace.h
 *	  How fast, and whether at all, requests go to an account.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_PACE_H
#define JANUA_PACE_H

#include "accounts.h"

/* What this process knows of one account; lives as long as the process. */
typedef struct AccountPace AccountPace;

/* Nothing is in flight (any more). */
extern void pace_open(void);

/* Of an account as it was just read: a changed one starts anew. */
extern AccountPace *pace_of(const Account *account);

/* How many requests may go to the account now. */
extern int pace_allowance(AccountPace *pace);

/* When the allowance will be more than 0; 0: it is now. */
extern TimestampTz pace_ready_at(AccountPace *pace);

/* Does nothing but the bucket hold requests back, which fills by itself? */
extern bool pace_only_filling(AccountPace *pace);

/* A request goes out; its answer has come, or it was dropped. */
extern void pace_sent(AccountPace *pace);
extern void pace_released(AccountPace *pace);
extern int pace_in_flight(const AccountPace *pace);

/* What the answer says of the account. Inside a unit. */
extern void pace_answered(AccountPace *pace, const HttpResponse *response);

/* Writes what has changed to billing.provider_circuits. Inside a unit. */
extern void pace_note(void);

#endif /* JANUA_PACE_H */

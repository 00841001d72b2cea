/*-------------------------------------------------------------------------
 *
 * webhook_keys.h
 *	  What the signatures of webhooks are checked with, kept per backend.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_WEBHOOK_KEYS_H
#define JANUA_WEBHOOK_KEYS_H

#include "accounts.h"

/* The settings of the same name. */
typedef struct WebhookTerms
{
	WebhookTolerance tolerance;
	int64 max_size; /* bytes */
} WebhookTerms;

/*
 * Everything is as the last committed change left it, and the changes of this
 * transaction: nothing that is kept is older.  Needs neither the owner's
 * identity nor a connection to SPI.  What it returns lives until the next
 * query or call that may look at tables; now is the real time.
 */
extern const WebhookTerms *webhook_keys_open(TimestampTz now);

/*
 * The accounts of a provider that have a webhook secret, one after the other
 * by name; account NULL: all.  *position begins with 0.  Opens the secrets that
 * were not used yet: JB012 when the key file does not open them.
 */
typedef struct WebhookAccount
{
	const Account *account;
	SignatureSecret secrets[2];
	int secret_count;
} WebhookAccount;

extern bool webhook_keys_next(const char *provider, const char *account, TimestampTz now,
							  int *position, WebhookAccount *found);

#endif /* JANUA_WEBHOOK_KEYS_H */

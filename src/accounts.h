/*-------------------------------------------------------------------------
 *
 * accounts.h
 *	  Our accounts at providers: which there are, who may send for them, and
 *	  which one a new object belongs to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_ACCOUNTS_H
#define JANUA_ACCOUNTS_H

#include "db.h"
#include "provider.h"

typedef struct Account
{
	const Provider *module;
	pg_uuid_t *id;
	char *provider;
	char *account;
	bool livemode;
	char *base_url;
	Jsonb *options;  /* never NULL */
	bool bound_here; /* embedded, or bound to this database */
	bool stopped;
	TimestampTz updated_at;
} Account;

/*
 * For queries that read accounts as "a" beside their provider as "p": an
 * account without its key is half configured.
 */
#define ACCOUNT_COLUMNS \
	"a.id, p.name, a.account, a.livemode, a.base_url, a.options, a.bound_to, a.stopped_at IS NOT NULL, a.updated_at"
#define ACCOUNT_CONFIGURED "(p.embedded OR a.secret_key IS NOT NULL)"

/* ACCOUNT_COLUMNS, from column 1 on. */
extern Account *account_read(Rows rows, int64 row);

/* For longer than what it was read from. */
extern Account *account_copy(const Account *account);

/* The account; JB005 for an unknown provider, JB006 when it is not configured. */
extern Account *account_get(const char *provider, const char *account);

/*
 * The account that is named, else the one that the rules of routing choose
 * for a new customer of whom nothing is known (routing.h).
 */
extern Account *account_choose(const char *provider, const char *account);

/* JB011: an embedded provider beside a live account, unless allow_sandbox is on. */
extern void account_check_embedded(const Account *account);

/*
 * Is there an account of live mode, so that embedded providers are not used?
 * Where the call or its customer names one, allow_sandbox lets it pass.
 */
extern bool account_embedded_excluded(bool named);

/* With its secret opened, for a provider's module. */
extern ProviderAccount *account_open(const Account *account);

/* Without secrets: for supports() and missing(). */
extern ProviderAccount *account_public(const Account *account);

/*
 * Accounts that this database may send for now: bound here, not stopped.
 * List of Account *.
 */
extern List *accounts_runnable(void);

/* The secret that an embedded provider signs its webhooks with. */
extern char *account_embedded_secret(const Account *account);

/* The provider refused our key: nothing more is sent until configure_provider(). */
extern void account_stop(const char *provider, const char *account, const char *reason);

/*
 * A provider has made a secret for its webhooks: the one before it stays valid
 * for 24 hours.  The caller holds the account's row.
 */
extern void account_keep_webhook_secret(const char *provider, const char *account,
										const char *secret);

/* "<system identifier>:<database oid>" of this database. */
extern char *database_binding(void);

/* What the provider bills by itself, at this account. */
extern ProviderBilling account_billing(const Account *account);

/* Can the provider do it, or do we in its stead?  alternative: what else to do; NULL: not told. */
extern Support account_supports(const Account *account, Operation operation, const Jsonb *arguments,
								const char **alternative);

/* JB004 (or JB005 for an unknown token of the sandbox) with the alternative as its hint. */
extern void account_refuse(const Account *account, Operation operation, const Jsonb *arguments,
						   const char *alternative);

/* Refuses what the provider cannot do. */
extern void account_require(const Account *account, Operation operation, const Jsonb *arguments);

/* The argument that the provider misses, NULL when it has all. */
extern const char *account_missing(const Account *account, Operation operation,
								   const Jsonb *arguments);

/* The GUC allow_sandbox as it is set now. */
extern bool account_sandbox_allowed(void);

/* The GUC allow_sandbox. Called once from _PG_init. */
extern void accounts_init(void);

#endif /* JANUA_ACCOUNTS_H */

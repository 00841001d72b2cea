/*-------------------------------------------------------------------------
 *
 * webhook_keys.c
 *	  What the signatures of webhooks are checked with, kept per backend.
 *
 * Called by webhooks.c.  To read accounts and settings and to open secrets for
 * each webhook would cost ten times its signature.  So they are read once, and
 * a secret is made ready when it is first used: what stays in memory is the
 * state of a hash, never the text.
 *
 * What is kept is dropped, and wiped, as soon as any session commits a change
 * of billing.provider_accounts or billing.settings, or makes one itself: triggers
 * there send the message by which PostgreSQL itself forgets a changed table, and
 * that message is as transactional as the change.  A key file that changed drops
 * it as well.  A secret that is only valid for a while is looked at each time.
 *
 *-------------------------------------------------------------------------
 */
#include "webhook_keys.h"

#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "crypto.h"
#include "keys.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* A secret as it is stored, and what was made of it when it was first used. */
typedef struct KeptSecret
{
	const char *column;
	bytea *sealed; /* NULL: there is none */
	SignatureKey *key;
} KeptSecret;

typedef struct KeptAccount
{
	Account *account;
	KeptSecret current;
	KeptSecret previous;
	TimestampTz previous_until;
} KeptAccount;

static struct
{
	MemoryContext memory; /* NULL: nothing is kept */
	bool loading;         /* also after an ERROR in between */
	bool outdated;        /* changed while it was read: good for one call */
	Oid accounts_table;
	Oid settings_table;
	uint64 keys_version;
	WebhookTerms terms;
	KeptAccount *accounts;
	int count;
} kept;

/* ---- to forget ---- */

/* Neither fails nor allocates: called in the middle of an abort, too. */
static void
forget(void)
{
	for (int i = 0; i < kept.count; i++)
	{
		signature_key_free(kept.accounts[i].current.key);
		signature_key_free(kept.accounts[i].previous.key);
	}
	kept.count = 0;
	kept.accounts = NULL;
	kept.loading = false;
	kept.outdated = false;
	if (kept.memory != NULL)
		MemoryContextDelete(kept.memory);
	kept.memory = NULL;
}

/* No message is taken in while somebody holds what webhook_keys_next() returned. */
static void
table_changed(Datum arg, Oid table)
{
	if (kept.memory == NULL ||
		(OidIsValid(table) && table != kept.accounts_table && table != kept.settings_table))
		return;
	if (kept.loading)
		kept.outdated = true;
	else
		forget();
}

SQL_FUNCTION(billing_webhook_keys_changed)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "not called as a trigger");
	CacheInvalidateRelcache(trigger->tg_relation);
	return PointerGetDatum(NULL);
}

/* ---- to read ---- */

QUERY(webhook_accounts,
	  "SELECT " ACCOUNT_COLUMNS
	  ", a.webhook_secret, a.previous_webhook_secret, a.previous_webhook_secret_until "
	  "FROM billing.provider_accounts AS a JOIN billing.providers AS p ON p.name = a.provider "
	  "WHERE p.embedded OR a.webhook_secret IS NOT NULL ORDER BY a.provider, a.account",
	  InvalidOid);

static void
read_account(Rows rows, int64 row, KeptAccount *account)
{
	account->account = account_read(rows, row);
	account->current = (KeptSecret){"provider_accounts.webhook_secret", rows_bytes(rows, row, 10)};
	account->previous = (KeptSecret){"provider_accounts.previous_webhook_secret",
									 rows_bytes(rows, row, 11)};
	account->previous_until = rows_time(rows, row, 12);
}

/* An account of a provider that this version does not know is no webhook's. */
static void
read_accounts(void)
{
	int64 count = READ(webhook_accounts, arg_null());
	Rows rows = rows_keep();

	MemoryContextSwitchTo(kept.memory);
	kept.accounts = palloc0(sizeof(KeptAccount) * Max(count, 1));
	for (int64 i = 0; i < count; i++)
	{
		if (provider_find(rows_text(rows, i, 2)) != NULL)
			read_account(rows, i, &kept.accounts[kept.count++]);
	}
}

QUERY(
	webhook_settings,
	"SELECT max(extract(epoch FROM value::interval)) FILTER (WHERE name = 'webhook_tolerance')::bigint, "
	"max(extract(epoch FROM value::interval)) FILTER (WHERE name = 'webhook_tolerance_future')::bigint "
	"FROM billing.settings WHERE name IN ('webhook_tolerance', 'webhook_tolerance_future')",
	InvalidOid);
QUERY(max_webhook_size,
	  "SELECT value::bigint FROM billing.settings WHERE name = 'max_webhook_size'", InvalidOid);

static void
read_terms(void)
{
	kept.terms = (WebhookTerms){{SIGNATURE_TOLERANCE, SIGNATURE_TOLERANCE}, 1024 * 1024};
	READ(webhook_settings, arg_null());
	if (!row_null(0, 1))
		kept.terms.tolerance.past = (int) row_int(0, 1);
	if (!row_null(0, 2))
		kept.terms.tolerance.future = (int) row_int(0, 2);
	if (READ(max_webhook_size, arg_null()) > 0 && !row_null(0, 1))
		kept.terms.max_size = row_int(0, 1);
}

/*
 * With a snapshot of this moment also where the transaction has one for all of
 * its time: a message that was taken in comes only once, and what is kept
 * outlives the transaction.
 */
static void
load(void)
{
	static bool callback_registered = false;
	MemoryContext caller = CurrentMemoryContext;
	Oid schema = get_namespace_oid("billing", false);
	Identity identity;

	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(table_changed, (Datum) 0);
		callback_registered = true;
	}
	/* for the life of the backend, until it is forgotten */
	kept.memory = AllocSetContextCreate(TopMemoryContext, "keys of webhooks", ALLOCSET_SMALL_SIZES);
	kept.loading = true;
	kept.accounts_table = get_relname_relid("provider_accounts", schema);
	kept.settings_table = get_relname_relid("settings", schema);

	identity = identity_take_owner();
	db_open();
	PushActiveSnapshot(GetLatestSnapshot());
	read_terms();
	read_accounts();
	PopActiveSnapshot();
	db_close();
	identity_give_back(identity);
	MemoryContextSwitchTo(caller);
	kept.loading = false;
}

/* To take in what others have committed costs a look at a flag when there is nothing. */
const WebhookTerms *
webhook_keys_open(TimestampTz now)
{
	uint64 keys = keys_version(now);

	AcceptInvalidationMessages();
	if (kept.loading || kept.outdated || kept.keys_version != keys)
		forget();
	if (kept.memory == NULL)
	{
		kept.keys_version = keys;
		load();
	}
	return &kept.terms;
}

/* ---- to use ---- */

/* The text stays only where nothing could be made of it: the verification says what that means. */
static void
add_secret(WebhookAccount *found, KeptSecret *secret)
{
	const Account *account = found->account;
	SignatureSecret *added = &found->secrets[found->secret_count];
	char *text;

	if (secret->key == NULL)
	{
		text = account->module->embedded != NULL
				   ? account_embedded_secret(account)
				   : unseal_text(secret->column, account->id, secret->sealed);
		if (text == NULL)
			return;
		secret->key = signature_key_new(text, strlen(text));
		*added = (SignatureSecret){text, strlen(text)};
		if (secret->key != NULL)
			crypto_wipe(text, strlen(text));
	}
	if (secret->key != NULL)
		*added = (SignatureSecret){.key = secret->key};
	found->secret_count++;
}

static void
drop_secret(KeptSecret *secret)
{
	signature_key_free(secret->key);
	secret->key = NULL;
	secret->sealed = NULL;
}

bool
webhook_keys_next(const char *provider, const char *account, TimestampTz now, int *position,
				  WebhookAccount *found)
{
	while (*position < kept.count)
	{
		KeptAccount *candidate = &kept.accounts[(*position)++];

		if (strcmp(candidate->account->provider, provider) != 0 ||
			(account != NULL && strcmp(candidate->account->account, account) != 0))
			continue;
		found->account = candidate->account;
		found->secret_count = 0;
		add_secret(found, &candidate->current);
		if (candidate->previous_until > now)
			add_secret(found, &candidate->previous);
		else
			drop_secret(&candidate->previous);
		return true;
	}
	return false;
}

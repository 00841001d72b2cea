/*-------------------------------------------------------------------------
 *
 * accounts.c
 *	  Our accounts at providers: which there are, and which one to use.
 *
 * Called by every subject that talks to a provider and by the delivery.  How
 * accounts come to be stands in account_setup.c.  Nothing is kept: a call
 * reads its account in one query, so that a changed key counts at once.  What
 * webhooks are checked with is kept, in webhook_keys.c.
 *
 * An account is bound to one database of one cluster.  In a copy (a restored
 * dump, a logical subscriber) the binding names the original, and nothing is
 * sent from it until adopt_database().
 *
 *-------------------------------------------------------------------------
 */
#include "accounts.h"

#include "access/xlog.h"
#include "check.h"
#include "errors.h"
#include "funcapi.h"
#include "json.h"
#include "keys.h"
#include "routing.h"
#include "utils/guc.h"

#define PROVIDER_LIST "SELECT name FROM billing.providers WHERE NOT retired ORDER BY name"

static bool allow_sandbox = false;

char *
database_binding(void)
{
	return psprintf(UINT64_FORMAT ":%u", GetSystemIdentifier(), MyDatabaseId);
}

SQL_FUNCTION(billing_database_binding)
{
	PG_RETURN_TEXT_P(cstring_to_text(database_binding()));
}

static const Provider *
module_of(const char *provider)
{
	const Provider *module = provider_find(provider);

	if (module == NULL)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("this version cannot talk to provider \"%s\"", provider),
						errhint("Install the version of janua_billing that has it.")));
	return module;
}

Account *
account_read(Rows rows, int64 row)
{
	Account *account = palloc0(sizeof(Account));
	char *bound_to = rows_text(rows, row, 7);

	account->id = rows_uuid(rows, row, 1);
	account->provider = rows_text(rows, row, 2);
	account->account = rows_text(rows, row, 3);
	account->livemode = rows_bool(rows, row, 4);
	account->base_url = rows_text(rows, row, 5);
	account->options = rows_json(rows, row, 6);
	account->stopped = rows_bool(rows, row, 8);
	account->updated_at = rows_time(rows, row, 9);
	account->module = module_of(account->provider);
	account->bound_here = account->module->embedded != NULL ||
						  (bound_to != NULL && strcmp(bound_to, database_binding()) == 0);
	return account;
}

Account *
account_copy(const Account *account)
{
	Account *copy = palloc(sizeof(Account));

	*copy = *account;
	copy->id = palloc(sizeof(pg_uuid_t));
	memcpy(copy->id, account->id, sizeof(pg_uuid_t));
	copy->provider = pstrdup(account->provider);
	copy->account = pstrdup(account->account);
	copy->base_url = pstrdup(account->base_url);
	copy->options = palloc(VARSIZE(account->options));
	memcpy(copy->options, account->options, VARSIZE(account->options));
	return copy;
}

/* ------------------------------------------------------------------------
 * Finding an account
 * ------------------------------------------------------------------------
 */
static void
not_configured(const char *provider, const char *account)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_JB_NOT_CONFIGURED), errmsg("provider \"%s\" is not configured", provider),
		 errdetail("There is no account \"%s\" with a key.", account),
		 errhint(
			 "SELECT billing.configure_provider('%s', secret_key => ..., webhook_secret => ..., account => '%s');",
			 provider, account)));
}

static void
unknown_provider(const char *provider)
{
	unknown_object("provider", provider, psprintf("There are: %s.", hint_list(PROVIDER_LIST)));
}

QUERY(
	find_account,
	"SELECT " ACCOUNT_COLUMNS " FROM billing.providers AS p "
	"LEFT JOIN billing.provider_accounts AS a ON a.provider = p.name AND a.account = $2 AND " ACCOUNT_CONFIGURED
	" "
	"WHERE p.name = $1",
	TEXTOID, TEXTOID);

Account *
account_get(const char *provider, const char *account)
{
	const char *name = account != NULL ? account : "default";

	check_given("provider", provider != NULL);
	if (RUN(find_account, arg_text(provider), arg_text(name)) == 0)
		unknown_provider(provider);
	if (row_null(0, 1))
		not_configured(provider, name);
	return account_read(SPI_tuptable, 0);
}

QUERY(live_account, "SELECT FROM billing.provider_accounts WHERE livemode LIMIT 1", InvalidOid);

bool
account_embedded_excluded(bool named)
{
	return !(named && allow_sandbox) && RUN(live_account, arg_null()) > 0;
}

void
account_check_embedded(const Account *account)
{
	if (account->module->embedded != NULL && account_embedded_excluded(true))
		ereport(ERROR,
				(errcode(ERRCODE_JB_MODE_MIXED),
				 errmsg("provider \"%s\" cannot be used beside a live account", account->provider),
				 errdetail("What is sold there is for tests and nobody pays for it."),
				 errhint("Name a live provider; for tests in this database name \"%s\" in the "
						 "call and set janua_billing.allow_sandbox to on.",
						 account->provider)));
}

Account *
account_choose(const char *provider, const char *account)
{
	return route_account(&(RouteTerms){
		.provider = provider,
		.account = account,
		.amount = NO_AMOUNT,
		.operation = OPERATION_CUSTOMER_CREATE,
	});
}

QUERY(
	runnable_accounts,
	"SELECT " ACCOUNT_COLUMNS " FROM billing.provider_accounts AS a "
	"JOIN billing.providers AS p ON p.name = a.provider "
	"WHERE a.stopped_at IS NULL AND (p.embedded OR (a.secret_key IS NOT NULL AND a.bound_to = $1)) "
	"ORDER BY a.provider, a.account",
	TEXTOID);

List *
accounts_runnable(void)
{
	List *accounts = NIL;
	int64 count = RUN(runnable_accounts, arg_text(database_binding()));

	for (int64 i = 0; i < count; i++)
		accounts = lappend(accounts, account_read(SPI_tuptable, i));
	return accounts;
}

/* ------------------------------------------------------------------------
 * Secrets
 * ------------------------------------------------------------------------
 */
/* Copies: the delivery keeps it beyond the transaction in which the account was read. */
ProviderAccount *
account_public(const Account *account)
{
	ProviderAccount *opened = palloc0(sizeof(ProviderAccount));
	Jsonb *options = palloc(VARSIZE(account->options));

	memcpy(options, account->options, VARSIZE(account->options));
	opened->provider = pstrdup(account->provider);
	opened->account = pstrdup(account->account);
	opened->base_url = pstrdup(account->base_url);
	opened->secret_key = "";
	opened->livemode = account->livemode;
	opened->options = options;
	return opened;
}

QUERY(find_secret_key, "SELECT secret_key FROM billing.provider_accounts WHERE id = $1", UUIDOID);

ProviderAccount *
account_open(const Account *account)
{
	ProviderAccount *opened = account_public(account);

	if (account->module->embedded != NULL)
		return opened;
	if (RUN(find_secret_key, arg_uuid(account->id)) == 0 || row_null(0, 1))
		not_configured(account->provider, account->account);
	opened->secret_key = unseal_text("provider_accounts.secret_key", account->id, row_bytes(0, 1));
	return opened;
}

/* Nobody has to type it in, and both sides live in this database. */
char *
account_embedded_secret(const Account *account)
{
	return derived_secret(psprintf("webhook:%s:%s", account->provider, account->account));
}

QUERY(
	stop_account,
	"UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = $3, updated_at = now() "
	"WHERE provider = $1 AND account = $2 AND stopped_at IS NULL",
	TEXTOID, TEXTOID, TEXTOID);

void
account_stop(const char *provider, const char *account, const char *reason)
{
	RUN(stop_account, arg_text(provider), arg_text(account), arg_text(reason));
}

/* ------------------------------------------------------------------------
 * What the provider can do
 * ------------------------------------------------------------------------
 */
Support
account_supports(const Account *account, Operation operation, const Jsonb *arguments,
				 const char **alternative)
{
	*alternative = NULL;
	return account->module->supports(operation, arguments, account_public(account), alternative);
}

ProviderBilling
account_billing(const Account *account)
{
	if (account->module->billing_of == NULL)
		return account->module->billing;
	return account->module->billing_of(account_public(account));
}

/*
 * Is it only the token that the provider does not know?  Then it can do the
 * operation without arguments, but not with nothing but the token.
 */
static const char *
unknown_token(const Account *account, Operation operation, const Jsonb *arguments)
{
	const char *key = operation == OPERATION_PAYMENT_METHOD_ATTACH ? "payment_method" : "token";
	const char *token = json_text(arguments, key);
	const char *alternative;
	JsonBuilder none;
	JsonBuilder alone;

	if (account->module->embedded == NULL || token == NULL)
		return NULL;
	json_open(&none);
	json_open(&alone);
	json_add_text(&alone, key, token);
	if (account_supports(account, operation, json_close(&none), &alternative) == UNSUPPORTED ||
		account_supports(account, operation, json_close(&alone), &alternative) != UNSUPPORTED)
		return NULL;
	return token;
}

void
account_refuse(const Account *account, Operation operation, const Jsonb *arguments,
			   const char *alternative)
{
	const char *token = unknown_token(account, operation, arguments);

	if (token != NULL)
		unknown_object("payment method", token, alternative);
	ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
					errmsg("provider \"%s\" does not support %s with these arguments",
						   account->provider, operation_name(operation)),
					alternative == NULL ? 0 : errhint("%s", alternative)));
}

/* What is emulated is never sent: its subject has to ask before it enqueues. */
void
account_require(const Account *account, Operation operation, const Jsonb *arguments)
{
	const char *alternative;

	switch (account_supports(account, operation, arguments, &alternative))
	{
		case SUPPORTED:
			return;
		case UNSUPPORTED:
			account_refuse(account, operation, arguments, alternative);
			break;
		case EMULATED:
			elog(ERROR, "operation %s is not sent to provider %s", operation_name(operation),
				 account->provider);
	}
}

const char *
account_missing(const Account *account, Operation operation, const Jsonb *arguments)
{
	return account->module->missing(operation, arguments, account_public(account));
}

/* As if it were configured for tests, without anything that only an account of ours has. */
static ProviderAccount *
account_of_nobody(const Provider *module)
{
	ProviderAccount *account = palloc0(sizeof(ProviderAccount));
	JsonBuilder builder;

	json_open(&builder);
	account->provider = module->name;
	account->account = "default";
	account->base_url = module->default_base_url(false);
	account->secret_key = "";
	account->options = json_close(&builder);
	return account;
}

static void
put_capability(ReturnSetInfo *result, const Provider *module, Operation operation,
			   const ProviderAccount *account)
{
	static const char *const words[] = {
		[UNSUPPORTED] = "refused", [SUPPORTED] = "supported", [EMULATED] = "emulated"};
	const char *alternative = NULL;
	JsonBuilder builder;
	Support support;
	Datum values[4];
	bool nulls[4] = {false};

	json_open(&builder);
	support = module->supports(operation, json_close(&builder), account, &alternative);
	values[0] = CStringGetTextDatum(module->name);
	values[1] = CStringGetTextDatum(operation_name(operation));
	values[2] = CStringGetTextDatum(words[support]);
	nulls[3] = support == SUPPORTED || alternative == NULL;
	values[3] = nulls[3] ? (Datum) 0 : CStringGetTextDatum(alternative);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

QUERY(known_providers,
	  "SELECT " ACCOUNT_COLUMNS ", v.name FROM billing.providers AS v "
	  "LEFT JOIN (billing.provider_accounts AS a JOIN billing.providers AS p "
	  "ON p.name = a.provider AND a.account = 'default' AND " ACCOUNT_CONFIGURED
	  ") ON p.name = v.name "
	  "WHERE NOT v.retired ORDER BY v.embedded, v.name",
	  InvalidOid);

SQL_FUNCTION(billing_provider_capabilities)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int64 count;
	Rows rows;

	InitMaterializedSRF(fcinfo, 0);
	db_open();
	count = RUN(known_providers, arg_null());
	rows = rows_keep();
	for (int64 i = 0; i < count; i++)
	{
		const Provider *module = module_of(rows_text(rows, i, 10));
		ProviderAccount *account = rows_null(rows, i, 1) ? account_of_nobody(module)
														 : account_public(account_read(rows, i));

		for (int operation = 0; operation < OPERATION_COUNT; operation++)
			put_capability(result, module, (Operation) operation, account);
	}
	db_close();
	return (Datum) 0;
}

bool
account_sandbox_allowed(void)
{
	return allow_sandbox;
}

void
accounts_init(void)
{
	/* not for everybody: who may set it can have any plan without paying */
	DefineCustomBoolVariable(
		"janua_billing.allow_sandbox",
		"Lets the sandbox be used, and count for access, beside live accounts.", NULL,
		&allow_sandbox, false, PGC_SUSET, 0, NULL, NULL, NULL);
}

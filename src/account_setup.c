/*-------------------------------------------------------------------------
 *
 * account_setup.c
 *	  How accounts at providers come to be: configure_provider(),
 *	  import_environment(), adopt_database().
 *
 * The only file that writes keys and bindings of billing.provider_accounts.
 * Secrets are sealed under the account's id.  While these functions run, no
 * error puts the statement or its context into the log: both may hold a key
 * in clear text.
 *
 *-------------------------------------------------------------------------
 */
#include "accounts.h"

#include <ctype.h>

#include "check.h"
#include "errors.h"
#include "json.h"
#include "keys.h"
#include "mb/pg_wchar.h"
#include "subjects.h"
#include "utils/tuplestore.h"

#define ACCOUNT_NAME_MAX 64
#define SECRET_MAX       8192 /* a PEM of any size fits */

/* RFC 9110: a token */
#define HEADER_NAME_CHARACTERS \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"
#define HEADER_VALUE_MAX 1024

/* As given; NULL leaves what is there. */
typedef struct AccountTerms
{
	const char *provider;
	const char *account;
	const char *secret_key;
	const char *webhook_secret;
	const char *publishable_key;
	const char *base_url;
	const Jsonb *options;
} AccountTerms;

/* The row as it is, locked; id is a new one where there is none. */
typedef struct Present
{
	bool exists;
	pg_uuid_t *id;
	bool livemode;
	char *base_url;
	bytea *secret_key;
	bytea *webhook_secret;
	Jsonb *options;
	bool has_key;
} Present;

static void
hide_statement(void *arg)
{
	errhidestmt(true);
	errhidecontext(true);
}

/* ------------------------------------------------------------------------
 * Checks
 * ------------------------------------------------------------------------
 */
QUERY(find_provider, "SELECT embedded, retired FROM billing.providers WHERE name = $1", TEXTOID);

static const Provider *
usable_provider(const char *provider)
{
	const Provider *module = provider_find(provider);

	if (RUN(find_provider, arg_text(provider)) == 0 || module == NULL)
		unknown_object(
			"provider", provider,
			psprintf(
				"There are: %s.",
				hint_list("SELECT name FROM billing.providers WHERE NOT retired ORDER BY name")));
	if (row_bool(0, 2))
		ereport(ERROR, (errcode(ERRCODE_JB_STATE), errmsg("provider \"%s\" is retired", provider),
						errhint("UPDATE billing.providers SET retired = false WHERE name = '%s';",
								provider)));
	return module;
}

static void
check_account_name(const char *account)
{
	size_t length = strlen(account);

	for (size_t i = 0; i < length; i++)
	{
		if (!isascii((unsigned char) account[i]) ||
			(!isalnum((unsigned char) account[i]) && strchr("_.-", account[i]) == NULL))
			length = 0;
	}
	if (length == 0 || length > ACCOUNT_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("account \"%s\" is no name of an account", account),
				 errhint("A name has 1 to %d letters, digits, dots, hyphens and underscores.",
						 ACCOUNT_NAME_MAX)));
}

static void
check_secret(const char *argument, const char *value)
{
	if (value != NULL && (value[strspn(value, " \t\r\n")] == '\0' || strlen(value) > SECRET_MAX))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s is blank or longer than %d bytes", argument, SECRET_MAX)));
}

static _Noreturn void
bad_option(const char *option, const char *what, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("option %s is not %s", option, what), errhint("%s", hint)));
}

/* It goes into every request, beside what the provider's module says: names that are its own are not for sale. */
static void
check_header(const char *name, const JsonbValue *value, void *context)
{
	static const char *const reserved[] = {
		"authorization", "connection",      "content-length",    "content-type",
		"host",          "idempotency-key", "transfer-encoding",
	};
	const char *hint = "Pass something like {\"headers\": {\"Accept\": \"application/json\"}}.";
	size_t length = value->type == jbvString ? (size_t) value->val.string.len : 0;

	if (value->type == jbvNull)
		return;
	if (name[0] == '\0' || name[strspn(name, HEADER_NAME_CHARACTERS)] != '\0')
		bad_option("headers", "an object with names of HTTP headers", hint);
	for (int i = 0; i < (int) lengthof(reserved); i++)
	{
		if (pg_strcasecmp(name, reserved[i]) == 0)
			bad_option("headers", "without the headers that are set here",
					   psprintf("Leave out %s.", name));
	}
	if (value->type != jbvString || length > HEADER_VALUE_MAX)
		bad_option(psprintf("headers.%s", name), "a text of usual length", hint);
	for (size_t i = 0; i < length; i++)
	{
		if (value->val.string.val[i] < ' ' || value->val.string.val[i] > '~')
			bad_option(psprintf("headers.%s", name), "printable ASCII", hint);
	}
}

static void
check_list(const Jsonb *options, const char *option, const char *characters, const char *hint)
{
	Jsonb *list = json_part(options, option);

	if (list == NULL || !JB_ROOT_IS_ARRAY(list))
		bad_option(option, "a list", hint);
	for (int i = 0; i < json_length(list, ""); i++)
	{
		char *word = json_text(list, psprintf("%d", i));

		if (word == NULL || word[0] == '\0' || word[strspn(word, characters)] != '\0')
			bad_option(option, "a list of such words", hint);
	}
}

/* Members that mean something here; others belong to the provider's module. */
static void
check_known_option(const char *key, const JsonbValue *value, void *options)
{
	if (value->type == jbvNull)
		return;
	if (strcmp(key, "sandbox") == 0 && value->type != jbvBool)
		bad_option(key, "a boolean", "Pass {\"sandbox\": true} or {\"sandbox\": false}.");
	if (strcmp(key, "rate_per_second") == 0 &&
		(value->type != jbvNumeric || strtod(json_scalar_text(value), NULL) < 0))
		bad_option(key, "a number from 0 on", "0 stands for no limit.");
	if ((strcmp(key, "accept") == 0 || strcmp(key, "language") == 0) && value->type != jbvString)
		bad_option(key, "a text", "Leave it out for the provider's default.");
	if (strcmp(key, "headers") == 0)
	{
		Jsonb *headers = json_part(options, key);

		if (headers == NULL || !JB_ROOT_IS_OBJECT(headers))
			bad_option(key, "an object", "Pass {\"headers\": {\"name\": \"value\"}}.");
		json_visit(headers, check_header, NULL);
	}
	if (strcmp(key, "capabilities") == 0)
		check_list(options, key, "abcdefghijklmnopqrstuvwxyz0123456789_",
				   "Pass methods, such as {\"capabilities\": [\"oxxo\", \"spei\"]}.");
	if (strcmp(key, "currencies") == 0)
		check_list(options, key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
				   "Pass codes of ISO 4217, such as {\"currencies\": [\"USD\"]}.");
}

static void
check_options(const Provider *module, const Jsonb *options)
{
	const char *trouble;

	check_no_card_json("options", options);
	if (options == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options is not an object")));
	json_visit(options, check_known_option, unconstify(Jsonb *, options));
	if (module->check_options == NULL)
		return;
	trouble = module->check_options(options);
	if (trouble != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("options cannot be right for provider \"%s\"", module->name),
						errdetail("Reason: %s.", trouble),
						errhint("Correct that option or leave it out.")));
}

/* A member of the call takes the place of the one that is there, null removes it. */
QUERY(
	merge_options,
	"SELECT coalesce(jsonb_object_agg(m.key, m.value), '{}') FROM jsonb_each(coalesce($1, '{}') || coalesce($2, '{}')) AS m "
	"WHERE jsonb_typeof(m.value) <> 'null'",
	JSONBOID, JSONBOID);

static Jsonb *
merged_options(const Jsonb *present, const Jsonb *given)
{
	RUN(merge_options, arg_json(present), arg_json(given));
	return row_json(0, 1);
}

static void
check_embedded_option(const char *key, const JsonbValue *value, void *provider)
{
	const char *model;

	/* the provider has checked it */
	if (strcmp(key, "fees") == 0)
		return;
	if (strcmp(key, "behave_as") != 0 || (value->type != jbvString && value->type != jbvNull))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("provider \"%s\" has no such option as \"%s\"",
							   (const char *) provider, key),
						errhint("Its options are behave_as, with the name of a provider, and fees, "
								"what it keeps of a payment.")));
	model = json_scalar_text(value);
	if (model != NULL && (provider_find(model) == NULL || provider_find(model)->embedded != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("provider \"%s\" cannot behave as \"%s\"", (const char *) provider, model),
				 errhint("Name a provider that is reached over the network; "
						 "billing.providers lists them.")));
}

/* There is nobody to log in to. */
static void
check_embedded_terms(const AccountTerms *terms)
{
	const char *argument = terms->secret_key != NULL        ? "secret_key"
						   : terms->webhook_secret != NULL  ? "webhook_secret"
						   : terms->publishable_key != NULL ? "publishable_key"
						   : terms->base_url != NULL        ? "base_url"
															: NULL;

	if (argument != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("provider \"%s\" takes no %s", terms->provider, argument),
			 errdetail("It lives in the database and uses no network."),
			 errhint("Pass account and options only; it also works without being configured.")));
	if (terms->options != NULL)
		json_visit(terms->options, check_embedded_option, unconstify(char *, terms->provider));
}

static void
check_terms(const Provider *module, const AccountTerms *terms)
{
	check_account_name(terms->account);
	check_options(module, terms->options);
	check_no_card("publishable_key", terms->publishable_key);
	if (module->embedded != NULL)
	{
		check_embedded_terms(terms);
		return;
	}
	check_secret("secret_key", terms->secret_key);
	check_secret("webhook_secret", terms->webhook_secret);
	check_secret("publishable_key", terms->publishable_key);
}

/* The key that the account will have; NULL when the one that is there cannot be opened. */
static const char *
key_of(const AccountTerms *terms, const Present *present)
{
	if (terms->secret_key != NULL)
		return terms->secret_key;
	if (!present->has_key)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION), errmsg("secret_key must be given"),
						errdetail("Account \"%s\" at provider \"%s\" has none yet.", terms->account,
								  terms->provider)));
	if (!unseals("provider_accounts.secret_key", present->id, present->secret_key))
		return NULL;
	return unseal_text("provider_accounts.secret_key", present->id, present->secret_key);
}

/* The mode that the account will have: the key says it, or the options where it does not. */
static bool
mode_of(const Provider *module, const AccountTerms *terms, const Present *present,
		const Jsonb *options)
{
	bool livemode = present->livemode;
	const char *secret_key;
	const char *trouble;

	if (module->embedded != NULL)
		return false;
	secret_key = key_of(terms, present);
	if (secret_key == NULL)
		return livemode;
	trouble = module->check_key(secret_key, options, &livemode);
	if (trouble != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("secret_key cannot be a key of provider \"%s\"", terms->provider),
						errdetail("Reason: %s.", trouble),
						errhint("Copy the secret key from the provider's dashboard.")));
	return livemode;
}

QUERY(account_objects,
	  "SELECT FROM (SELECT) AS one "
	  "WHERE EXISTS (SELECT FROM billing.customers WHERE provider = $1 AND account = $2) "
	  "OR EXISTS (SELECT FROM billing.provider_refs WHERE provider = $1 AND account = $2) "
	  "OR EXISTS (SELECT FROM billing.outbox WHERE provider = $1 AND account = $2)",
	  TEXTOID, TEXTOID);

static const char *
mode_name(bool livemode)
{
	return livemode ? "live" : "test";
}

/* Ids of one mode mean nothing in the other. */
static void
check_mode(const AccountTerms *terms, const Present *present, bool livemode)
{
	if (!present->has_key || present->livemode == livemode ||
		RUN(account_objects, arg_text(terms->provider), arg_text(terms->account)) == 0)
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_JB_MODE_MIXED),
		 errmsg(
			 "the key is of %s mode and account \"%s\" at provider \"%s\" has objects of %s mode",
			 mode_name(livemode), terms->account, terms->provider, mode_name(present->livemode)),
		 errhint("Configure the key under another account: account => '%s'.",
				 mode_name(livemode))));
}

/* Without the slash at its end: paths begin with one. */
static char *
check_base_url(const char *base_url)
{
	char *url = pstrdup(base_url);
	size_t length = strlen(url);
	const char *trouble = NULL;

	while (length > 0 && url[length - 1] == '/')
		url[--length] = '\0';
	if (!http_url_allowed(url, &trouble))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("base_url \"%s\" cannot be used", base_url),
				 errdetail("Reason: %s.", trouble), errhint("Use https, or http on loopback.")));
	if (strpbrk(url, "?#") != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("base_url \"%s\" has a query or a fragment", base_url),
						errhint("Pass scheme, host, port and perhaps the beginning of the path.")));
	return url;
}

/* A default of the other mode does not stay when the mode changes. */
static char *
base_url_of(const Provider *module, const AccountTerms *terms, const Present *present,
			bool livemode)
{
	if (terms->base_url != NULL)
		return check_base_url(terms->base_url);
	if (present->exists &&
		(present->livemode == livemode ||
		 strcmp(present->base_url, module->default_base_url(present->livemode)) != 0))
		return present->base_url;
	return pstrdup(module->default_base_url(livemode));
}

/* ------------------------------------------------------------------------
 * Writing an account
 * ------------------------------------------------------------------------
 */
QUERY(lock_account,
	  "SELECT id, livemode, base_url, webhook_secret, secret_key, options "
	  "FROM billing.provider_accounts WHERE provider = $1 AND account = $2 FOR UPDATE",
	  TEXTOID, TEXTOID);

static Present
present_account(const AccountTerms *terms)
{
	Present present = {0};

	if (RUN(lock_account, arg_text(terms->provider), arg_text(terms->account)) == 0)
	{
		present.id = new_id();
		return present;
	}
	present.exists = true;
	present.id = row_uuid(0, 1);
	present.livemode = row_bool(0, 2);
	present.base_url = row_text(0, 3);
	present.webhook_secret = row_bytes(0, 4);
	present.secret_key = row_bytes(0, 5);
	present.has_key = present.secret_key != NULL;
	present.options = row_json(0, 6);
	return present;
}

/* The old webhook secret sealed for its new column; NULL when nothing has to be kept. */
static bytea *
replaced_webhook_secret(const AccountTerms *terms, const Present *present)
{
	char *old;

	if (terms->webhook_secret == NULL || present->webhook_secret == NULL ||
		!unseals("provider_accounts.webhook_secret", present->id, present->webhook_secret))
		return NULL;
	old = unseal_text("provider_accounts.webhook_secret", present->id, present->webhook_secret);
	if (strcmp(old, terms->webhook_secret) == 0)
		return NULL;
	return seal_text("provider_accounts.previous_webhook_secret", present->id, old);
}

QUERY(
	insert_account,
	"INSERT INTO billing.provider_accounts (id, provider, account, livemode, base_url, secret_key, "
	"publishable_key, webhook_secret, options, bound_to) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
	UUIDOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, BYTEAOID, TEXTOID, BYTEAOID, JSONBOID, TEXTOID);
QUERY(update_account,
	  "UPDATE billing.provider_accounts SET livemode = $2, base_url = $3, "
	  "secret_key = coalesce($4, secret_key), publishable_key = coalesce($5, publishable_key), "
	  "webhook_secret = coalesce($6, webhook_secret), options = $7, bound_to = $8, "
	  "previous_webhook_secret = coalesce($9, previous_webhook_secret), "
	  "previous_webhook_secret_until = CASE WHEN $9 IS NULL THEN previous_webhook_secret_until "
	  "ELSE now() + interval '24 hours' END, "
	  "stopped_at = NULL, stopped_reason = NULL, updated_at = now() WHERE id = $1",
	  UUIDOID, BOOLOID, TEXTOID, BYTEAOID, TEXTOID, BYTEAOID, JSONBOID, TEXTOID, BYTEAOID);

static void
account_configure(const AccountTerms *terms)
{
	const Provider *module = usable_provider(terms->provider);
	Present present;
	bool livemode;
	char *base_url;
	char *bound_to = module->embedded != NULL ? NULL : database_binding();
	bytea *secret_key;
	bytea *webhook_secret;
	Jsonb *options;

	check_terms(module, terms);
	present = present_account(terms);
	options = merged_options(present.options, terms->options);
	livemode = mode_of(module, terms, &present, options);
	check_mode(terms, &present, livemode);
	base_url = base_url_of(module, terms, &present, livemode);
	secret_key = seal_text("provider_accounts.secret_key", present.id, terms->secret_key);
	webhook_secret = seal_text("provider_accounts.webhook_secret", present.id,
							   terms->webhook_secret);

	if (present.exists)
		RUN(update_account, arg_uuid(present.id), arg_bool(livemode), arg_text(base_url),
			arg_bytes(secret_key), arg_text(terms->publishable_key), arg_bytes(webhook_secret),
			arg_json(options), arg_text(bound_to),
			arg_bytes(replaced_webhook_secret(terms, &present)));
	else
		RUN(insert_account, arg_uuid(present.id), arg_text(terms->provider),
			arg_text(terms->account), arg_bool(livemode), arg_text(base_url), arg_bytes(secret_key),
			arg_text(terms->publishable_key), arg_bytes(webhook_secret), arg_json(options),
			arg_text(bound_to));

	/* requests may wait for the account that was stopped until now */
	worker_wake_at_commit();
}

QUERY(update_webhook_secret,
	  "UPDATE billing.provider_accounts SET webhook_secret = $2, "
	  "previous_webhook_secret = coalesce($3, previous_webhook_secret), "
	  "previous_webhook_secret_until = CASE WHEN $3 IS NULL THEN previous_webhook_secret_until "
	  "ELSE now() + interval '24 hours' END WHERE id = $1",
	  UUIDOID, BYTEAOID, BYTEAOID);

void
account_keep_webhook_secret(const char *provider, const char *account, const char *secret)
{
	AccountTerms terms = {.provider = provider, .account = account, .webhook_secret = secret};
	Present present = present_account(&terms);

	if (!present.exists)
		elog(ERROR, "account %s at %s is gone", account, provider);
	RUN(update_webhook_secret, arg_uuid(present.id),
		arg_bytes(seal_text("provider_accounts.webhook_secret", present.id, secret)),
		arg_bytes(replaced_webhook_secret(&terms, &present)));
}

SQL_FUNCTION(billing_configure_provider)
{
	ErrorContextCallback callback = {error_context_stack, hide_statement, NULL};
	AccountTerms terms = {
		.provider = ARG_TEXT(0),
		.secret_key = ARG_TEXT(1),
		.webhook_secret = ARG_TEXT(2),
		.publishable_key = ARG_TEXT(3),
		.base_url = ARG_TEXT(4),
		.account = ARG_TEXT(5),
		.options = ARG_JSON(6),
	};

	error_context_stack = &callback;
	check_given("provider", terms.provider != NULL);
	check_given("account", terms.account != NULL);
	db_open();
	account_configure(&terms);
	db_close();
	error_context_stack = callback.previous;
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * The environment
 * ------------------------------------------------------------------------
 */

/* Blank counts as absent: that is how a container's empty variable looks. */
static char *
environment_value(const char *variable)
{
	char *value = getenv(variable);

	if (value == NULL || value[strspn(value, " \t\r\n")] == '\0')
		return NULL;
	if (!pg_verify_mbstr(GetDatabaseEncoding(), value, (int) strlen(value), true))
		ereport(ERROR, (errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
						errmsg("environment variable \"%s\" is not in the encoding of the database",
							   variable)));
	return value;
}

/* Of an option: what looks like a boolean is one. */
static void
set_option(AccountTerms *terms, const char *option, const char *value)
{
	bool yes = pg_strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0;
	bool no = pg_strcasecmp(value, "false") == 0 || strcmp(value, "0") == 0;
	JsonBuilder builder;

	json_open(&builder);
	if (yes || no)
		json_add_bool(&builder, option, yes);
	else
		json_add_text(&builder, option, value);
	terms->options = merged_options(terms->options, json_close(&builder));
}

static void
set_term(AccountTerms *terms, const char *variable, const char *argument, const char *value)
{
	if (strncmp(argument, "options.", strlen("options.")) == 0)
		set_option(terms, argument + strlen("options."), value);
	else if (strcmp(argument, "secret_key") == 0)
		terms->secret_key = value;
	else if (strcmp(argument, "webhook_secret") == 0)
		terms->webhook_secret = value;
	else if (strcmp(argument, "publishable_key") == 0)
		terms->publishable_key = value;
	else if (strcmp(argument, "base_url") == 0)
		terms->base_url = value;
	else
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("environment variable \"%s\" stands for an unknown argument \"%s\"",
							   variable, argument),
						errhint("Correct its row in billing.environment_variables.")));
}

QUERY(set_setting, "UPDATE billing.settings SET value = $2 WHERE name = $1", TEXTOID, TEXTOID);

static void
import_setting(const char *name, const char *value)
{
	if (strcmp(name, "default_currency") == 0)
		value = check_currency(value);
	if (strcmp(name, "default_provider") == 0)
		(void) usable_provider(value);
	if (RUN(set_setting, arg_text(name), arg_text(value)) == 0)
		unknown_object("setting", name, NULL);
}

static void
report_used(ReturnSetInfo *result, const char *variable)
{
	Datum value = CStringGetTextDatum(variable);
	bool isnull = false;

	tuplestore_putvalues(result->setResult, result->setDesc, &value, &isnull);
}

QUERY(known_variables, "SELECT variable, provider, argument FROM billing.environment_variables "
					   "ORDER BY provider NULLS LAST, variable");

/* The variables of one provider come one after the other and make one account. */
static void
import_all(ReturnSetInfo *result)
{
	AccountTerms terms = {.account = "default"};
	int64 count = RUN(known_variables);
	Rows rows = rows_keep();

	for (int64 i = 0; i < count; i++)
	{
		char *variable = rows_text(rows, i, 1);
		char *provider = rows_text(rows, i, 2);
		char *value = environment_value(variable);

		if (terms.provider != NULL && (provider == NULL || strcmp(provider, terms.provider) != 0))
		{
			account_configure(&terms);
			terms = (AccountTerms){.account = "default"};
		}
		if (value == NULL)
			continue;
		if (provider == NULL)
			import_setting(rows_text(rows, i, 3), value);
		else
		{
			terms.provider = provider;
			set_term(&terms, variable, rows_text(rows, i, 3), value);
		}
		report_used(result, variable);
	}
	if (terms.provider != NULL)
		account_configure(&terms);
}

SQL_FUNCTION(billing_import_environment)
{
	ErrorContextCallback callback = {error_context_stack, hide_statement, NULL};
	Identity identity;

	if (!superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to read the environment of the server"),
						errdetail("Only superusers may do that."),
						errhint("Use billing.configure_provider().")));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);

	error_context_stack = &callback;
	identity = identity_take_owner();
	db_open();
	import_all((ReturnSetInfo *) fcinfo->resultinfo);
	db_close();
	identity_give_back(identity);
	error_context_stack = callback.previous;
	return (Datum) 0;
}

/* ------------------------------------------------------------------------
 * A copy becomes the original
 * ------------------------------------------------------------------------
 */
QUERY(sealed_accounts,
	  "SELECT id, provider, account, secret_key, webhook_secret, previous_webhook_secret "
	  "FROM billing.provider_accounts ORDER BY provider, account FOR UPDATE");
QUERY(bind_accounts,
	  "UPDATE billing.provider_accounts AS a SET bound_to = $1, updated_at = now() "
	  "FROM billing.providers AS p "
	  "WHERE p.name = a.provider AND NOT p.embedded AND a.bound_to IS DISTINCT FROM $1",
	  TEXTOID);

static void
check_opens(Rows rows, int64 row, int column, const char *name)
{
	bytea *sealed = rows_bytes(rows, row, column);

	if (sealed == NULL || unseals(name, rows_uuid(rows, row, 1), sealed))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_JB_KEY),
			 errmsg("the key file does not open the secrets of account \"%s\" at provider \"%s\"",
					rows_text(rows, row, 3), rows_text(rows, row, 2)),
			 errdetail("Value: %s.", name),
			 errhint("Put the key file of the original on this server.")));
}

SQL_FUNCTION(billing_adopt_database)
{
	int64 count;
	Rows rows;
	int64 changed;

	db_open();
	count = RUN(sealed_accounts);
	rows = rows_keep();
	for (int64 i = 0; i < count; i++)
	{
		check_opens(rows, i, 4, "provider_accounts.secret_key");
		check_opens(rows, i, 5, "provider_accounts.webhook_secret");
		check_opens(rows, i, 6, "provider_accounts.previous_webhook_secret");
	}
	changed = RUN(bind_accounts, arg_text(database_binding()));
	worker_wake_at_commit();
	db_close();
	PG_RETURN_INT64(changed);
}

/*-------------------------------------------------------------------------
 *
 * client_config.c
 *	  What a browser needs: the only place that shows client secrets.
 *
 * One query for each type of object that a browser deals with; a new type is a
 * new query in the table.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "json.h"
#include "keys.h"

/* Columns of every query; the sealed ones are NULL where a type has none. */
enum
{
	PROVIDER = 1,
	ACCOUNT,
	PUBLISHABLE_KEY,
	STATUS,
	CLIENT_SECRET, /* sealed, like the next two */
	NEXT_ACTION,
	URL,
	EXPIRES_AT
};

#define CONFIG_OF(table, columns)                                                                \
	"SELECT o.provider, o.account, a.publishable_key, o.status, " columns " FROM billing." table \
	" AS o JOIN billing.provider_accounts AS a ON a.provider = o.provider "                      \
	"AND a.account = o.account WHERE o.id = $1"

QUERY(subscription_config,
	  CONFIG_OF("subscriptions", "o.client_secret, NULL::bytea, NULL::bytea, NULL::timestamptz"),
	  UUIDOID);
QUERY(payment_intent_config,
	  CONFIG_OF("payment_intents", "o.client_secret, o.next_action, NULL::bytea, o.expires_at"),
	  UUIDOID);
QUERY(setup_intent_config,
	  CONFIG_OF("setup_intents", "o.client_secret, o.next_action, NULL::bytea, NULL::timestamptz"),
	  UUIDOID);

typedef struct ConfigSource
{
	SqlQuery *query;
	const char *table; /* its sealed columns are named after it */
} ConfigSource;

static const ConfigSource sources[] = {
	{&payment_intent_config, "payment_intents"},
	{&setup_intent_config, "setup_intents"},
	{&subscription_config, "subscriptions"},
};

static char *
opened(const ConfigSource *source, const char *column, const pg_uuid_t *id, int position)
{
	return unseal_text(psprintf("%s.%s", source->table, column), id, row_bytes(0, position));
}

static Jsonb *
config_of(const ConfigSource *source, const pg_uuid_t *id)
{
	const char *reason;
	char *action;
	JsonBuilder b;

	if (query_read(source->query, (const Arg[]){arg_uuid(id)}) == 0)
		return NULL;
	action = opened(source, "next_action", id, NEXT_ACTION);
	json_open(&b);
	json_add_text(&b, "provider", row_text(0, PROVIDER));
	json_add_text(&b, "account", row_text(0, ACCOUNT));
	json_add_text(&b, "publishable_key", row_text(0, PUBLISHABLE_KEY));
	json_add_text(&b, "status", row_text(0, STATUS));
	json_add_text(&b, "client_secret", opened(source, "client_secret", id, CLIENT_SECRET));
	if (action != NULL)
		json_add_json(&b, "next_action", json_parse(action, strlen(action), &reason));
	json_add_text(&b, "url", opened(source, "url", id, URL));
	json_add_time(&b, "expires_at", row_time(0, EXPIRES_AT));
	return json_close(&b);
}

SQL_FUNCTION(billing_client_config)
{
	pg_uuid_t *id = ARG_UUID(0);
	Jsonb *config = NULL;

	db_open();
	check_given("id", id != NULL);
	for (size_t i = 0; i < lengthof(sources) && config == NULL; i++)
		config = config_of(&sources[i], id);
	if (config == NULL)
		unknown_object("object", uuid_text(id),
					   "Pass the id of a payment intent, a setup intent or a subscription.");
	PG_RETURN_DATUM(db_close_json(config));
}

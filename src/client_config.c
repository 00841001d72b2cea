/*-------------------------------------------------------------------------
 *
 * client_config.c
 *	  What a browser needs: the only place that shows client secrets.
 *
 * One query for each type of object that a browser deals with; a new type is a
 * new query in the table.  What this database bills itself is paid by payment
 * intents of ours: a subscription or an invoice leads to the one that is open.
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

/* What is past its end is not shown, even before it is removed; by the organisation's own time. */
#define UNLESS_EXPIRED(column)                                                               \
	"CASE WHEN o.expires_at IS NULL OR o.expires_at > coalesce((SELECT k.now "               \
	"FROM billing.sandbox_clocks AS k WHERE k.organization_id = o.organization_id), now()) " \
	"THEN o." column " END"

QUERY(payment_intent_config,
	  CONFIG_OF("payment_intents", "o.client_secret, o.next_action, NULL::bytea, o.expires_at"),
	  UUIDOID);
QUERY(setup_intent_config,
	  CONFIG_OF("setup_intents", "o.client_secret, o.next_action, NULL::bytea, NULL::timestamptz"),
	  UUIDOID);
QUERY(subscription_config,
	  CONFIG_OF("subscriptions", "o.client_secret, NULL::bytea, NULL::bytea, NULL::timestamptz"),
	  UUIDOID);
QUERY(invoice_config,
	  CONFIG_OF("invoices", "NULL::bytea, NULL::bytea, NULL::bytea, NULL::timestamptz"), UUIDOID);
QUERY(checkout_config,
	  CONFIG_OF(
		  "checkout_sessions",
		  UNLESS_EXPIRED("client_secret") ", NULL::bytea, " UNLESS_EXPIRED("url") ", o.expires_at"),
	  UUIDOID);
QUERY(portal_config,
	  CONFIG_OF("portal_sessions",
				UNLESS_EXPIRED("token") ", NULL::bytea, " UNLESS_EXPIRED("url") ", o.expires_at"),
	  UUIDOID);

typedef struct ConfigSource
{
	SqlQuery *query;
	/* as what they are sealed; NULL where a type has none */
	const char *client_secret;
	const char *next_action;
	const char *url;
} ConfigSource;

static const ConfigSource sources[] = {
	{&payment_intent_config, "payment_intents.client_secret", "payment_intents.next_action", NULL},
	{&setup_intent_config, "setup_intents.client_secret", "setup_intents.next_action", NULL},
	{&subscription_config, "subscriptions.client_secret", NULL, NULL},
	{&invoice_config, NULL, NULL, NULL},
	{&checkout_config, "checkout_sessions.client_secret", NULL, "checkout_sessions.url"},
	{&portal_config, "portal_sessions.token", NULL, "portal_sessions.url"},
};

/* A subscription, a payment or an invoice that is paid on a page of the provider: the url is the page's. */
QUERY(
	page_of,
	"SELECT o.id, " UNLESS_EXPIRED(
		"url") ", o.expires_at FROM billing.checkout_sessions AS o "
			   "WHERE (o.subscription_id = $1 OR o.payment_intent_id = $1 OR o.invoice_id = $1) AND o.status = 'open' "
			   "ORDER BY o.created_at DESC LIMIT 1",
	UUIDOID);

/* The payment that a subscription or an invoice of ours waits for, the newest one. */
QUERY(
	payment_of,
	"SELECT p.id, p.client_secret, p.next_action, p.expires_at FROM billing.payment_intents AS p "
	"JOIN billing.invoices AS i ON i.id = p.invoice_id "
	"WHERE (i.subscription_id = $1 OR i.id = $1) AND i.managed_by = 'local' AND i.status = 'open' "
	"AND p.status IN ('pending', 'requires_action', 'processing', 'requires_capture') "
	"ORDER BY p.id DESC LIMIT 1",
	UUIDOID);

static char *
opened(const char *column, const pg_uuid_t *id, int position)
{
	return column == NULL ? NULL : unseal_text(column, id, row_bytes(0, position));
}

static void
add_action(JsonBuilder *b, const char *action)
{
	const char *reason;

	if (action != NULL)
		json_add_json(b, "next_action", json_parse(action, strlen(action), &reason));
}

/* Whose page is to be shown: that of the payment, if there is one. */
static const pg_uuid_t *
add_payment(JsonBuilder *b, const pg_uuid_t *id)
{
	pg_uuid_t *payment;

	if (READ(payment_of, arg_uuid(id)) == 0)
		return id;
	payment = row_uuid(0, 1);
	json_add_text(b, "payment_intent", uuid_text(payment));
	json_add_text(b, "client_secret", opened("payment_intents.client_secret", payment, 2));
	add_action(b, opened("payment_intents.next_action", payment, 3));
	json_add_time(b, "expires_at", row_time(0, 4));
	return payment;
}

static Jsonb *
config_of(const ConfigSource *source, const pg_uuid_t *id)
{
	const pg_uuid_t *paid = id;
	JsonBuilder b;

	if (query_read(source->query, (const Arg[]){arg_uuid(id)}) == 0)
		return NULL;
	json_open(&b);
	json_add_text(&b, "provider", row_text(0, PROVIDER));
	json_add_text(&b, "account", row_text(0, ACCOUNT));
	json_add_text(&b, "publishable_key", row_text(0, PUBLISHABLE_KEY));
	json_add_text(&b, "status", row_text(0, STATUS));
	json_add_text(&b, "client_secret", opened(source->client_secret, id, CLIENT_SECRET));
	add_action(&b, opened(source->next_action, id, NEXT_ACTION));
	json_add_text(&b, "url", opened(source->url, id, URL));
	json_add_time(&b, "expires_at", row_time(0, EXPIRES_AT));
	if (source->query == &subscription_config || source->query == &invoice_config)
		paid = add_payment(&b, id);
	if (source->url == NULL && READ(page_of, arg_uuid(paid)) > 0)
	{
		json_add_text(&b, "url", opened("checkout_sessions.url", row_uuid(0, 1), 2));
		json_add_time(&b, "expires_at", row_time(0, 3));
	}
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
		unknown_object(
			"object", uuid_text(id),
			"Pass the id of a payment intent, setup intent, subscription, invoice, checkout "
			"session, payment link or portal session.");
	PG_RETURN_DATUM(db_close_json(config));
}

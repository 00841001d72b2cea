/*-------------------------------------------------------------------------
 *
 * webhook_endpoints.c
 *	  Webhook endpoints: where the providers send their events to.
 *
 * An endpoint belongs to an account, so its requests have the account as
 * their ordering key.  The secret that the provider makes for it is shown
 * once, in the answer; it becomes the account's in the same transaction
 * (account_setup.c), and lies nowhere else.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "errors.h"
#include "json.h"

#define URL_MAX 2000

typedef struct Endpoint
{
	pg_uuid_t *id;
	Account *account;
	char *url;
	char *state;
	Jsonb *events; /* an array of texts */
} Endpoint;

/* ------------------------------------------------------------------------
 * Rows
 * ------------------------------------------------------------------------
 */
QUERY(
	load_endpoint,
	"SELECT id, provider, account, url, state, to_jsonb(events) FROM billing.webhook_endpoints WHERE id = $1",
	UUIDOID);

/* NULL when there is none. */
static Endpoint *
endpoint_load(const pg_uuid_t *id)
{
	Endpoint *endpoint = palloc(sizeof(Endpoint));
	char *provider;
	char *account;

	if (RUN(load_endpoint, arg_uuid(id)) == 0)
		return NULL;
	endpoint->id = row_uuid(0, 1);
	provider = row_text(0, 2);
	account = row_text(0, 3);
	endpoint->url = row_text(0, 4);
	endpoint->state = row_text(0, 5);
	endpoint->events = row_json(0, 6);
	endpoint->account = account_get(provider, account);
	return endpoint;
}

QUERY(lock_account, "SELECT FROM billing.provider_accounts WHERE id = $1 FOR NO KEY UPDATE",
	  UUIDOID);

/* Under the lock of the account, so that its state stands still. */
static Endpoint *
endpoint_load_locked(const pg_uuid_t *id)
{
	Endpoint *endpoint;

	check_given("webhook_id", id != NULL);
	endpoint = endpoint_load(id);
	if (endpoint == NULL)
		unknown_object("webhook endpoint", uuid_text(id), "billing.list_webhooks() lists them.");
	RUN(lock_account, arg_uuid(endpoint->account->id));
	return endpoint_load(id);
}

static void
require_live(const Endpoint *endpoint)
{
	if (strcmp(endpoint->state, "deleted") == 0 || strcmp(endpoint->state, "failed") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("webhook endpoint \"%s\" is %s", uuid_text(endpoint->id), endpoint->state),
				 errhint("billing.register_webhook() makes a new one.")));
}

static void
enqueue(const Endpoint *endpoint, Operation operation, const Jsonb *arguments)
{
	outbox_enqueue(endpoint->account, operation, endpoint->id, endpoint->account->id, arguments,
				   NULL);
}

/* ------------------------------------------------------------------------
 * Checks
 * ------------------------------------------------------------------------
 */
static void
check_endpoint_url(const char *url)
{
	const char *trouble = NULL;

	if (url == NULL)
		return;
	check_no_card("url", url);
	if (strlen(url) > URL_MAX)
		trouble = psprintf("it is longer than %d bytes", URL_MAX);
	else if (http_url_allowed(url, &trouble))
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("url \"%s\" cannot be that of a webhook endpoint", url),
					errdetail("Reason: %s.", trouble),
					errhint("Pass the public https address of the application's handler.")));
}

static char *
url_or_default(const char *url, const char *provider)
{
	char *base;
	size_t length;

	if (url != NULL)
		return pstrdup(url);
	base = setting_text("webhook_url");
	if (base == NULL)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION), errmsg("url must be given"),
						errhint("Or UPDATE billing.settings SET value = 'https://...' WHERE name = "
								"'webhook_url'.")));
	length = strlen(base);
	while (length > 0 && base[length - 1] == '/')
		base[--length] = '\0';
	return psprintf("%s/%s", base, provider);
}

QUERY(
	check_events_array,
	"SELECT to_jsonb($1), NOT EXISTS (SELECT FROM unnest($1) AS e WHERE e IS NULL OR e !~ '^[a-zA-Z0-9_.*-]{1,100}$')",
	TEXTARRAYOID);

/* As an array of jsonb; NULL stays NULL. */
static Jsonb *
check_events(Datum events, bool isnull)
{
	if (isnull)
		return NULL;
	RUN(check_events_array, arg_datum(events, false));
	if (!row_bool(0, 2))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("events holds what is no type of an event"),
						errhint("Pass types as the provider calls them, such as invoice.paid, or "
								"none for all that billing reads.")));
	return row_json(0, 1);
}

/* ------------------------------------------------------------------------
 * Calls
 * ------------------------------------------------------------------------
 */
QUERY(
	find_endpoint,
	"SELECT id, to_jsonb(events) = $4 FROM billing.webhook_endpoints "
	"WHERE provider = $1 AND account = $2 AND url = $3 AND registered AND state IN ('pending', 'active')",
	TEXTOID, TEXTOID, TEXTOID, JSONBOID);
QUERY(insert_endpoint,
	  "INSERT INTO billing.webhook_endpoints (id, provider, account, livemode, url, events) "
	  "VALUES ($1, $2, $3, $4, $5, ARRAY(SELECT jsonb_array_elements_text($6)))",
	  UUIDOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, JSONBOID);
QUERY(
	change_endpoint,
	"UPDATE billing.webhook_endpoints SET url = coalesce($2, url), enabled = coalesce($3, enabled), "
	"events = CASE WHEN $4 IS NULL THEN events ELSE ARRAY(SELECT jsonb_array_elements_text($4)) END, "
	"updated_at = now() WHERE id = $1",
	UUIDOID, TEXTOID, BOOLOID, JSONBOID);

static void
endpoint_change(const Endpoint *endpoint, const char *url, Arg enabled, const Jsonb *events)
{
	JsonBuilder builder;

	require_live(endpoint);
	json_open(&builder);
	json_add_text(&builder, "url", url);
	if (!enabled.isnull)
		json_add_bool(&builder, "enabled", DatumGetBool(enabled.value));
	json_add_json(&builder, "events", events);
	enqueue(endpoint, OPERATION_WEBHOOK_ENDPOINT_UPDATE, json_close(&builder));
	RUN(change_endpoint, arg_uuid(endpoint->id), arg_text(url), enabled, arg_json(events));
}

static Jsonb *
url_argument(const char *url)
{
	JsonBuilder builder;

	json_open(&builder);
	json_add_text(&builder, "url", url);
	return json_close(&builder);
}

static pg_uuid_t *
endpoint_register(const Account *account, const char *url, const Jsonb *events)
{
	pg_uuid_t *id = new_id();

	account_require(account, OPERATION_WEBHOOK_ENDPOINT_CREATE, url_argument(url));
	RUN(lock_account, arg_uuid(account->id));
	if (RUN(find_endpoint, arg_text(account->provider), arg_text(account->account), arg_text(url),
			arg_json(events)) > 0)
	{
		bool same = row_bool(0, 2);

		id = row_uuid(0, 1);
		if (!same)
			endpoint_change(endpoint_load(id), NULL, arg_null(), events);
		return id;
	}
	RUN(insert_endpoint, arg_uuid(id), arg_text(account->provider), arg_text(account->account),
		arg_bool(account->livemode), arg_text(url), arg_json(events));
	enqueue(endpoint_load(id), OPERATION_WEBHOOK_ENDPOINT_CREATE, json_empty());
	return id;
}

SQL_FUNCTION(billing_register_webhook)
{
	char *provider = ARG_TEXT(0);
	char *url = ARG_TEXT(1);
	Account *account;
	Jsonb *events;

	check_endpoint_url(url);
	db_open();
	check_given("provider", provider != NULL);
	check_given("events", !PG_ARGISNULL(3));
	account = account_get(provider, ARG_TEXT(2));
	events = check_events(PG_GETARG_DATUM(3), PG_ARGISNULL(3));
	url = url_or_default(url, provider);
	check_endpoint_url(url);
	PG_RETURN_DATUM(db_close_uuid(endpoint_register(account, url, events)));
}

SQL_FUNCTION(billing_update_webhook)
{
	char *url = ARG_TEXT(1);
	Arg enabled = PG_ARGISNULL(2) ? arg_null() : arg_bool(PG_GETARG_BOOL(2));
	Jsonb *events;

	check_endpoint_url(url);
	db_open();
	events = check_events(PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3), PG_ARGISNULL(3));
	endpoint_change(endpoint_load_locked(ARG_UUID(0)), url, enabled, events);
	db_close();
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_refresh_webhooks)
{
	char *provider = ARG_TEXT(0);
	Account *account;

	db_open();
	check_given("provider", provider != NULL);
	account = account_get(provider, ARG_TEXT(1));
	outbox_enqueue(account, OPERATION_WEBHOOK_ENDPOINT_LIST, account->id, account->id, json_empty(),
				   NULL);
	PG_RETURN_DATUM(db_close_uuid(account->id));
}

SQL_FUNCTION(billing_rotate_webhook_secret)
{
	Endpoint *endpoint;

	db_open();
	endpoint = endpoint_load_locked(ARG_UUID(0));
	require_live(endpoint);
	enqueue(endpoint, OPERATION_WEBHOOK_ENDPOINT_ROTATE, json_empty());
	db_close();
	PG_RETURN_VOID();
}

QUERY(set_deleted,
	  "UPDATE billing.webhook_endpoints SET state = 'deleted', enabled = false, error_code = NULL, "
	  "updated_at = now() WHERE id = $1 AND state <> 'deleted'",
	  UUIDOID);

static void
endpoint_mark_deleted(const pg_uuid_t *id)
{
	if (RUN(set_deleted, arg_uuid(id)) > 0)
		event_record("webhook_endpoint.deleted", "webhook_endpoint", id, NULL, NULL, "deleted");
}

static char *
endpoint_ref(const Endpoint *endpoint)
{
	return ref_find(object_type_name(BILLING_WEBHOOK_ENDPOINT), endpoint->id,
					endpoint->account->provider, endpoint->account->account);
}

/* What was never sent is taken back; what the provider refused is not there. */
static void
endpoint_delete(Endpoint *endpoint)
{
	if (strcmp(endpoint->state, "deleted") == 0)
		return;
	if (endpoint_ref(endpoint) != NULL)
		enqueue(endpoint, OPERATION_WEBHOOK_ENDPOINT_DELETE, json_empty());
	else if (outbox_withdraw_creation(endpoint->id, OPERATION_WEBHOOK_ENDPOINT_CREATE))
	{
		outbox_promote(uuid_array(&endpoint->account->id, 1));
		endpoint_mark_deleted(endpoint->id);
	}
	else
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("webhook endpoint \"%s\" is being made", uuid_text(endpoint->id)),
						errhint("Wait for it by billing.await(), then delete it.")));
}

SQL_FUNCTION(billing_delete_webhook)
{
	db_open();
	endpoint_delete(endpoint_load_locked(ARG_UUID(0)));
	db_close();
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * Out: what a request says when it is sent
 * ------------------------------------------------------------------------
 */
/* Where the secret takes a request of its own, the endpoint is there before the last step. */
static Description
describe_creation(const Endpoint *endpoint, const OutboxRow *row)
{
	JsonBuilder builder;

	if (endpoint_ref(endpoint) != NULL && row->step == 0)
		return (Description){OBSOLETE, NULL, "the endpoint is there already"};
	json_open(&builder);
	json_add_text(&builder, "reference", uuid_text(endpoint->id));
	json_add_text(&builder, "url", endpoint->url);
	json_add_json(&builder, "events", endpoint->events);
	return (Description){READY, json_close(&builder), NULL};
}

static Description
describe_change(const Endpoint *endpoint, const OutboxRow *row)
{
	char *provider_id = endpoint_ref(endpoint);
	bool update = row->operation == OPERATION_WEBHOOK_ENDPOINT_UPDATE;
	JsonBuilder builder;

	if (provider_id == NULL)
		return (Description){OBSOLETE, NULL, "the endpoint was never made"};
	json_open(&builder);
	json_add_text(&builder, "reference", uuid_text(endpoint->id));
	json_add_text(&builder, "webhook_endpoint", provider_id);
	if (update)
	{
		json_add_text(&builder, "url", json_text(row->arguments, "url"));
		if (json_has(row->arguments, "enabled"))
			json_add_bool(&builder, "enabled", json_bool(row->arguments, "enabled", true));
		json_add_json(&builder, "events", json_part(row->arguments, "events"));
	}
	if (row->operation == OPERATION_WEBHOOK_ENDPOINT_ROTATE)
	{
		json_add_text(&builder, "url", endpoint->url);
		json_add_json(&builder, "events", endpoint->events);
	}
	return (Description){READY, json_close(&builder), NULL};
}

Description
webhook_endpoint_describe(const OutboxRow *row)
{
	Endpoint *endpoint;

	if (row->operation == OPERATION_WEBHOOK_ENDPOINT_LIST)
		return (Description){READY, json_empty(), NULL};
	endpoint = endpoint_load(row->object_id);
	if (endpoint == NULL)
		elog(ERROR, "webhook endpoint %s is gone", uuid_text(row->object_id));
	/* a rotation that made a new one and is about to remove the old one goes on */
	if (strcmp(endpoint->state, "deleted") == 0 && row->step == 0)
		return (Description){OBSOLETE, NULL, "the endpoint is deleted"};
	if (row->operation == OPERATION_WEBHOOK_ENDPOINT_CREATE)
		return describe_creation(endpoint, row);
	return describe_change(endpoint, row);
}

/* ------------------------------------------------------------------------
 * In: what the provider says
 * ------------------------------------------------------------------------
 */
QUERY(
	note_error,
	"UPDATE billing.webhook_endpoints SET error_code = $2, "
	"state = CASE WHEN state = 'pending' AND $3 THEN 'failed' ELSE state END, updated_at = now() WHERE id = $1",
	UUIDOID, TEXTOID, BOOLOID);

void
webhook_endpoint_refused(const OutboxRow *row, const CallResult *result)
{
	RUN(note_error, arg_uuid(row->object_id),
		arg_text(result->error_code != NULL ? result->error_code : result->error_type),
		arg_bool(row->operation == OPERATION_WEBHOOK_ENDPOINT_CREATE));
}

/* Of this account, known to the provider until now, and not among those that it lists. */
QUERY(
	missing_endpoints,
	"SELECT e.id FROM billing.webhook_endpoints AS e JOIN billing.provider_refs AS r "
	"ON r.object_id = e.id AND r.object_type = 'webhook_endpoint' AND r.provider = e.provider AND r.account = e.account "
	"WHERE e.provider = $1 AND e.account = $2 AND e.state = 'active' AND r.provider_id <> ALL ($3)",
	TEXTOID, TEXTOID, TEXTARRAYOID);

static void
delete_missing(const OutboxRow *row, const CallResult *result)
{
	int count = list_length(result->snapshots);
	const char **listed = palloc(sizeof(char *) * count);
	ListCell *cell;
	Rows rows;

	foreach (cell, result->snapshots)
		listed[foreach_current_index(cell)] = ((ProviderSnapshot *) lfirst(cell))->provider_id;
	RUN(missing_endpoints, arg_text(row->provider), arg_text(row->account),
		arg_text_array(listed, count));
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows); i++)
		endpoint_mark_deleted(rows_uuid(rows, i, 1));
}

/* A list that goes on in another request is not whole: nothing is missing from it yet. */
void
webhook_endpoint_done(const OutboxRow *row, const CallResult *result)
{
	if (row->operation == OPERATION_WEBHOOK_ENDPOINT_DELETE)
		endpoint_mark_deleted(row->object_id);
	else if (row->step == 0 && result->next_step == 0)
		delete_missing(row, result);
}

QUERY(endpoint_exists,
	  "SELECT FROM billing.webhook_endpoints WHERE id = $1 AND provider = $2 AND account = $3",
	  UUIDOID, TEXTOID, TEXTOID);

static bool
exists_here(const pg_uuid_t *id, const News *news)
{
	return id != NULL && RUN(endpoint_exists, arg_uuid(id), arg_text(news->provider),
							 arg_text(news->account)) > 0;
}

/*
 * By its id at the provider, by our reference, or because our call was about
 * it (but that of a list is about the account).  NULL: made by somebody else.
 */
static pg_uuid_t *
endpoint_of(const ProviderSnapshot *snapshot, const News *news)
{
	pg_uuid_t *id = ref_object(object_type_name(BILLING_WEBHOOK_ENDPOINT), snapshot->provider_id,
							   news->provider, news->account);
	pg_uuid_t *reference = snapshot->reference == NULL ? NULL : uuid_parse(snapshot->reference);

	if (id != NULL || snapshot->deleted)
		return id;
	if (exists_here(reference, news))
		return reference;
	if (!exists_here(news->own_id, news))
		return NULL;
	id = palloc(sizeof(pg_uuid_t));
	*id = *news->own_id;
	return id;
}

QUERY(
	found_endpoint,
	"INSERT INTO billing.webhook_endpoints (id, provider, account, livemode, url, state, registered) "
	"VALUES ($1, $2, $3, $4, $5, 'active', false)",
	UUIDOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID);
QUERY(
	apply_endpoint,
	"UPDATE billing.webhook_endpoints AS e SET url = coalesce($2, url), enabled = $3, "
	"events = CASE WHEN $4 IS NULL THEN events ELSE ARRAY(SELECT jsonb_array_elements_text($4)) END, "
	"api_version = coalesce($5, api_version), state = 'active', error_code = NULL, updated_at = now() "
	"FROM (SELECT state FROM billing.webhook_endpoints WHERE id = $1) AS old WHERE e.id = $1 RETURNING old.state",
	UUIDOID, TEXTOID, BOOLOID, JSONBOID, TEXTOID);

static void
apply_state(const pg_uuid_t *id, const WebhookEndpointSnapshot *told)
{
	char *before;

	RUN(apply_endpoint, arg_uuid(id), arg_text(told->url), arg_bool(told->enabled),
		arg_json(told->events), arg_text(told->api_version));
	before = row_text(0, 1);
	if (strcmp(before, "active") != 0)
		event_record("webhook_endpoint.active", "webhook_endpoint", id, NULL, before, "active");
}

Applied
webhook_endpoint_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const WebhookEndpointSnapshot *told = &snapshot->webhook_endpoint;
	pg_uuid_t *id = endpoint_of(snapshot, news);

	if (id == NULL && (snapshot->deleted || told->url == NULL))
		return SNAPSHOT_STALE;
	if (id == NULL)
	{
		id = new_id();
		RUN(found_endpoint, arg_uuid(id), arg_text(news->provider), arg_text(news->account),
			arg_bool(news->livemode), arg_text(told->url));
	}
	if (told->secret != NULL)
		account_keep_webhook_secret(news->provider, news->account, told->secret);
	if (!ref_advance(snapshot, id, news, STAGE(0, 0)))
		return SNAPSHOT_STALE;
	if (snapshot->deleted)
		endpoint_mark_deleted(id);
	else
		apply_state(id, told);
	return SNAPSHOT_APPLIED;
}

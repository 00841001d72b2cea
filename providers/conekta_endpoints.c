/*-------------------------------------------------------------------------
 *
 * conekta_endpoints.c
 *	  Webhook endpoints and the keys that sign their events: requests and
 *	  answers.
 *
 * The keys belong to the company, not to the endpoint, and any active one may
 * sign.  A new endpoint is told with all active keys, of which one is made when
 * there is none; a rotation makes a new one and retires those that were there.
 *
 *-------------------------------------------------------------------------
 */
#include "conekta.h"

#include "lib/stringinfo.h"

/* The most that a list gives at once. */
#define LIST "limit=250"

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */
static char *
endpoint_path(const ProviderCall *call)
{
	return psprintf("/webhooks/%s",
					path_part(json_text(call->arguments, "webhook_endpoint"), "webhook_endpoint"));
}

static void
add_events(JsonBuilder *body, const ProviderCall *call)
{
	if (json_length(call->arguments, "events") > 0)
		json_add_json(body, "subscribed_events", json_part(call->arguments, "events"));
	else
		conekta_add_event_types(body, "subscribed_events");
}

static void
build_endpoint(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "url", json_text(call->arguments, "url"));
	add_events(&body, call);
	conekta_send_json(call, "POST", "/webhooks", json_close(&body), request);
}

static void
build_endpoint_update(const ProviderCall *call, ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_text(&body, "url", json_text(call->arguments, "url"));
	if (json_part(call->arguments, "events") != NULL)
		add_events(&body, call);
	if (json_text(call->arguments, "enabled") != NULL)
		json_add_bool(&body, "active", json_bool(call->arguments, "enabled", true));
	conekta_send_json(call, "PUT", endpoint_path(call), json_close(&body), request);
}

static void
build_key(const ProviderCall *call, const char *method, const char *path, bool active,
		  ProviderRequest *request)
{
	JsonBuilder body;

	json_open(&body);
	json_add_bool(&body, "active", active);
	conekta_send_json(call, method, path, json_close(&body), request);
}

/* The steps after the first, of create and of rotate. */
static void
build_key_step(const ProviderCall *call, ProviderRequest *request)
{
	if (call->step == 1)
		conekta_get(call, "/webhook_keys?" LIST, request);
	else if (call->step == 2)
		build_key(call, "POST", "/webhook_keys", true, request);
	else
		build_key(call, "PUT",
				  psprintf("/webhook_keys/%s", path_part(json_text(call->carry, "old.0"), "old")),
				  false, request);
}

void
conekta_build_endpoint(const ProviderCall *call, ProviderRequest *request)
{
	bool creates = call->operation == OPERATION_WEBHOOK_ENDPOINT_CREATE;

	if (call->operation == OPERATION_WEBHOOK_ENDPOINT_UPDATE)
		build_endpoint_update(call, request);
	else if (call->operation == OPERATION_WEBHOOK_ENDPOINT_DELETE)
		conekta_start(call, "DELETE", endpoint_path(call), request);
	else if (call->operation == OPERATION_WEBHOOK_ENDPOINT_LIST)
		conekta_get_page(call, "/webhooks", request);
	else if (call->step > 0)
		build_key_step(call, request);
	else if (creates)
		build_endpoint(call, request);
	else
		conekta_get(call, endpoint_path(call), request);
}

/* By its URL where its id is not known yet. */
void
conekta_build_endpoint_lookup(const ProviderCall *call, ProviderRequest *request)
{
	char *url = json_text(call->arguments, "url");

	if (call->step > 0)
		conekta_get(call, "/webhook_keys?" LIST, request);
	else if (call->operation == OPERATION_WEBHOOK_ENDPOINT_CREATE)
		conekta_get(call, psprintf("/webhooks?" LIST "&url=%s", path_part(url, "url")), request);
	else
		conekta_get(call, endpoint_path(call), request);
}

/* ------------------------------------------------------------------------
 * Webhook endpoints: the endpoint first, then the key that signs
 * ------------------------------------------------------------------------
 */
static void
plan_keys(const Jsonb *endpoint, CallResult *result)
{
	JsonBuilder carry;

	json_open(&carry);
	json_add_json(&carry, "endpoint", endpoint);
	result->carry = json_close(&carry);
	result->next_step = 1;
}

static void
take_endpoint(const ProviderCall *call, const Jsonb *object, CallResult *result)
{
	ProviderSnapshot *snapshot = object == NULL
									 ? NULL
									 : conekta_endpoint_snapshot(object, call->account->livemode);
	char *id = conekta_expected_id(call);

	if (snapshot == NULL || (id != NULL && strcmp(id, snapshot->provider_id) != 0))
	{
		conekta_unreadable(result);
		return;
	}
	result->outcome = OUTCOME_DONE;
	result->snapshots = list_make1(snapshot);
	if (call->operation == OPERATION_WEBHOOK_ENDPOINT_DELETE)
		snapshot->deleted = snapshot->terminal = true;
	else if (call->operation == OPERATION_WEBHOOK_ENDPOINT_CREATE)
	{
		snapshot->reference = call->reference;
		plan_keys(object, result);
	}
	else if (call->operation == OPERATION_WEBHOOK_ENDPOINT_ROTATE)
		plan_keys(object, result);
}

/* Keeps the endpoint in the carry, and the keys (but the first few) that are to be retired. */
static void
plan_retirement(const ProviderCall *call, int done, CallResult *result)
{
	JsonBuilder carry;
	int count = json_length(call->carry, "old");

	if (done >= count)
		return;
	json_open(&carry);
	json_add_json(&carry, "endpoint", json_part(call->carry, "endpoint"));
	json_open_array(&carry, "old");
	for (int i = done; i < count; i++)
		json_append_text(&carry, json_text(call->carry, psprintf("old.%d", i)));
	json_close_array(&carry);
	result->carry = json_close(&carry);
	result->next_step = call->step + 1;
}

/* The endpoint with the keys that its events are signed by; pem: NULL when there is none. */
static void
take_keys(const ProviderCall *call, const char *pem, CallResult *result)
{
	Jsonb *endpoint = json_part(call->carry, "endpoint");
	ProviderSnapshot *snapshot = endpoint == NULL
									 ? NULL
									 : conekta_endpoint_snapshot(endpoint, call->account->livemode);

	if (pem == NULL || snapshot == NULL)
	{
		conekta_unreadable(result);
		return;
	}
	snapshot->webhook_endpoint.secret = pem;
	if (call->operation == OPERATION_WEBHOOK_ENDPOINT_CREATE)
		snapshot->reference = call->reference;
	result->outcome = OUTCOME_DONE;
	result->snapshots = list_make1(snapshot);
	if (call->operation == OPERATION_WEBHOOK_ENDPOINT_ROTATE)
		plan_retirement(call, 0, result);
}

/* Those that sign, one after the other; but not those that a rotation is about to retire. */
static char *
active_keys(const ProviderCall *call, const Jsonb *list)
{
	int count = json_length(list, "data");
	StringInfoData pems;

	initStringInfo(&pems);
	for (int i = 0; i < count; i++)
	{
		char *at = psprintf("data.%d", i);
		char *pem = json_text(list, psprintf("%s.public_key", at));

		if (pem != NULL && json_bool(list, psprintf("%s.active", at), false) &&
			!conekta_listed(call->carry, "old", json_text(list, psprintf("%s.id", at))))
			appendStringInfo(&pems, "%s%s", pems.len == 0 ? "" : "\n", pem);
	}
	return pems.len == 0 ? NULL : pems.data;
}

bool
conekta_take_webhook_keys(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	char *pems = active_keys(call, list);

	if (pems != NULL)
		take_keys(call, pems, result);
	return pems != NULL;
}

/* Step 1: a key that is active will do, but not for a rotation. */
static void
plan_key(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	bool rotates = call->operation == OPERATION_WEBHOOK_ENDPOINT_ROTATE;
	int count = json_length(list, "data");
	JsonBuilder carry;

	if (json_part(list, "data") == NULL)
	{
		conekta_unreadable(result);
		return;
	}
	if (!rotates && conekta_take_webhook_keys(call, list, result))
		return;
	json_open(&carry);
	json_add_json(&carry, "endpoint", json_part(call->carry, "endpoint"));
	json_open_array(&carry, "old");
	for (int i = 0; i < count; i++)
	{
		if (json_bool(list, psprintf("data.%d.active", i), false))
			json_append_text(&carry, json_text(list, psprintf("data.%d.id", i)));
	}
	json_close_array(&carry);
	result->carry = json_close(&carry);
	result->next_step = 2;
	result->outcome = OUTCOME_DONE;
}

void
conekta_take_endpoint(const ProviderCall *call, const Jsonb *body, CallResult *result)
{
	if (call->step == 0)
		take_endpoint(call, body, result);
	else if (body == NULL)
		conekta_unreadable(result);
	else if (call->step == 1)
		plan_key(call, body, result);
	else if (call->step == 2)
		take_keys(call, json_text(body, "public_key"), result);
	else
	{
		result->outcome = OUTCOME_DONE;
		plan_retirement(call, 1, result);
	}
}

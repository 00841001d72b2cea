/*-------------------------------------------------------------------------
 *
 * stripe_account.c
 *	  Where Stripe sends its webhooks.
 *
 * Stripe tells the secret of an endpoint once, in the answer that made it.
 * Hence a new secret is a new endpoint for the same URL, after which the old
 * one goes; and an endpoint whose answer was lost is of no use: the look-up
 * that finds it has it removed and another one made.
 *
 * carry {remove, again}: the endpoint that goes in this step, and whether
 * one has to be made after it.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe_requests.h"

/* As given; none given: all that moves our rows. */
static void
form_events(Form *form)
{
	int count = json_length(form->arguments, "events");
	size_t next = 0;
	const char *type;

	for (int i = 0; i < count; i++)
		form_given(form, psprintf("enabled_events[%d]", i), psprintf("events.%d", i));
	for (int i = 0; count == 0 && (type = stripe_next_event_type(&next)) != NULL; i++)
		form_add(form, psprintf("enabled_events[%d]", i), type);
}

/* The version is pinned, so that events look as this module reads them. */
static void
build_create(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_given(&form, "url", "url");
	form_events(&form);
	form_add(&form, "api_version", STRIPE_VERSION);
	form_given(&form, "description", "description");
	form_reference(&form, call);
	stripe_post(request, "/v1/webhook_endpoints", &form);
}

static void
build_list(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "limit", STRIPE_LIST_LIMIT);
	form_add(&form, "starting_after", stripe_page_start(call));
	stripe_get(request, "/v1/webhook_endpoints", &form);
}

static const Jsonb *
removal(const char *endpoint, bool again)
{
	JsonBuilder carry;

	json_open(&carry);
	json_add_text(&carry, "remove", endpoint);
	json_add_bool(&carry, "again", again);
	return json_close(&carry);
}

static void
take_created(const ProviderCall *call, const Jsonb *endpoint, CallResult *result)
{
	stripe_take_object(call, endpoint, result);
	if (result->outcome == OUTCOME_DONE && call->operation == OPERATION_WEBHOOK_ENDPOINT_ROTATE)
		stripe_continue(call, removal(json_text(call->arguments, "webhook_endpoint"), false),
						result);
}

/* The one that is being replaced carries the same reference. */
static bool
is_lost_one(const ProviderCall *call, const Jsonb *endpoint)
{
	return same_text(json_text(endpoint, "metadata." STRIPE_REFERENCE), call->reference) &&
		   same_text(json_text(endpoint, "url"), json_text(call->arguments, "url")) &&
		   !same_text(json_text(endpoint, "id"), json_text(call->arguments, "webhook_endpoint"));
}

static void
find_lost(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	int count = json_length(list, "data");

	result->outcome = OUTCOME_ABSENT;
	for (int i = 0; i < count; i++)
	{
		Jsonb *endpoint = json_part(list, psprintf("data.%d", i));

		if (endpoint != NULL && is_lost_one(call, endpoint))
		{
			stripe_continue(call, removal(json_text(endpoint, "id"), true), result);
			return;
		}
	}
}

static void
build_removal(const ProviderCall *call, ProviderRequest *request)
{
	stripe_delete(
		request,
		psprintf("/v1/webhook_endpoints/%s", path_part(json_text(call->carry, "remove"), "remove")),
		NULL);
}

/* endpoint: NULL when it was gone already. */
static void
take_removed(const ProviderCall *call, const Jsonb *endpoint, CallResult *result)
{
	if (endpoint != NULL && !json_bool(endpoint, "deleted", false))
		stripe_set_unreadable(result);
	else if (json_bool(call->carry, "again", false))
		stripe_continue(call, NULL, result);
	else
		result_set_error(result, OUTCOME_DONE, NULL, NULL);
}

static void
build_get_removed(const ProviderCall *call, ProviderRequest *request)
{
	stripe_get(
		request,
		psprintf("/v1/webhook_endpoints/%s", path_part(json_text(call->carry, "remove"), "remove")),
		NULL);
}

static const StripeStep create = {
	.type = BILLING_WEBHOOK_ENDPOINT,
	.proof = PROOF_LIST,
	.makes_reference = true,
	.build = build_create,
	.take = take_created,
	.build_lookup = build_list,
	.found = find_lost,
};

/* The look-up finds it (send again) or gets 404. */
static const StripeStep remove_other = {
	.type = BILLING_WEBHOOK_ENDPOINT,
	.proof = PROOF_OBJECT,
	.removes = true,
	.build = build_removal,
	.take = take_removed,
	.build_lookup = build_get_removed,
};

static const StripeStep *
pick_step(const ProviderCall *call)
{
	return call->carry != NULL && json_has(call->carry, "remove") ? &remove_other : &create;
}

static char *
endpoint_path(const ProviderCall *call)
{
	return stripe_path(call, "webhook_endpoints", "webhook_endpoint");
}

static void
build_get(const ProviderCall *call, ProviderRequest *request)
{
	stripe_get(request, endpoint_path(call), NULL);
}

static void
build_update(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_given(&form, "url", "url");
	if (json_has(call->arguments, "events"))
		form_events(&form);
	if (json_has(call->arguments, "enabled"))
		form_add(&form, "disabled", json_bool(call->arguments, "enabled", true) ? "false" : "true");
	stripe_post(request, endpoint_path(call), &form);
}

static bool
shows_update(const ProviderCall *call, const Jsonb *endpoint)
{
	bool enabled = same_text(json_text(endpoint, "status"), "enabled");

	return !json_has(call->arguments, "events") &&
		   stripe_shows_argument(call, "url", json_text(endpoint, "url")) &&
		   json_bool(call->arguments, "enabled", enabled) == enabled;
}

static void
build_delete(const ProviderCall *call, ProviderRequest *request)
{
	stripe_delete(request, endpoint_path(call), NULL);
}

static bool
shows_deleted(const ProviderCall *call, const Jsonb *endpoint)
{
	return json_bool(endpoint, "deleted", false);
}

static const StripeStep update = {
	.type = BILLING_WEBHOOK_ENDPOINT,
	.argument = "webhook_endpoint",
	.proof = PROOF_OBJECT,
	.build = build_update,
	.build_lookup = build_get,
	.shows = shows_update,
};

static const StripeStep delete_endpoint = {
	.type = BILLING_WEBHOOK_ENDPOINT,
	.argument = "webhook_endpoint",
	.proof = PROOF_OBJECT,
	.removes = true,
	.build = build_delete,
	.build_lookup = build_get,
	.shows = shows_deleted,
};

static const StripeStep list_page = {
	.type = BILLING_WEBHOOK_ENDPOINT,
	.proof = PROOF_REPEAT,
	.build = build_list,
	.take = stripe_take_page,
};

static const StripeOperation operations[] = {
	{OPERATION_WEBHOOK_ENDPOINT_CREATE, .pick = pick_step},
	{OPERATION_WEBHOOK_ENDPOINT_UPDATE, &update},
	{OPERATION_WEBHOOK_ENDPOINT_ROTATE, .pick = pick_step},
	{OPERATION_WEBHOOK_ENDPOINT_DELETE, &delete_endpoint},
	{OPERATION_WEBHOOK_ENDPOINT_LIST, &list_page},
};

const StripeOperations stripe_account_operations = {operations, lengthof(operations)};

/*-------------------------------------------------------------------------
 *
 * polar_usage.c
 *	  Meters of Polar, and what they are told of usage.
 *
 * A meter adds up a number in the metadata of all events of a name.  Events
 * are taken many at a time and cannot be taken back: a correction is another
 * event with the difference.  Each counts once by its external_id, so that a
 * call whose answer was lost is simply made again.
 *
 *-------------------------------------------------------------------------
 */
#include "polar.h"

#include "utils/fmgrprotos.h"

#define EVENT_VALUE "value"

/* Polar wants a name of 3 characters at least. */
#define METER_NAME_MIN 3

void
polar_build_meter(const ProviderCall *call, ProviderRequest *request)
{
	char *name = json_text(call->arguments, "name");
	JsonBuilder body;
	JsonBuilder clause;

	json_open(&clause);
	json_add_text(&clause, "property", "name");
	json_add_text(&clause, "operator", "eq");
	json_add_text(&clause, "value", json_text(call->arguments, "event_name"));

	json_open(&body);
	json_add_text(&body, "name", strlen(name) < METER_NAME_MIN ? psprintf("%s usage", name) : name);
	json_open_object(&body, "filter");
	json_add_text(&body, "conjunction", "and");
	json_open_array(&body, "clauses");
	json_append_json(&body, json_close(&clause));
	json_close_array(&body);
	json_close_object(&body);
	json_open_object(&body, "aggregation");
	json_add_text(&body, "func", "sum");
	json_add_text(&body, "property", EVENT_VALUE);
	json_close_object(&body);
	json_open_object(&body, "metadata");
	json_add_text(&body, POLAR_REFERENCE, call->reference);
	json_close_object(&body);
	json_add_text(&body, "organization_id", polar_organization(call));
	polar_send_json(request, "POST", "/v1/meters/", &body);
}

/* A decimal as a number of JSON, with all its digits. */
static Jsonb *
number_of(const char *text)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

static Jsonb *
event_of(const ProviderCall *call, const Jsonb *told)
{
	JsonBuilder event;

	json_open(&event);
	json_add_text(&event, "name", json_text(told, "event_name"));
	json_add_text(&event, "customer_id", json_text(told, "customer"));
	json_add_text(&event, "external_id", json_text(told, "identifier"));
	json_add_text(&event, "timestamp", rfc3339_text(json_unix_time(told, "at")));
	json_open_object(&event, "metadata");
	json_add_json(&event, EVENT_VALUE, number_of(json_text(told, "quantity")));
	json_close_object(&event);
	json_add_text(&event, "organization_id", polar_organization(call));
	return json_close(&event);
}

void
polar_build_ingest(const ProviderCall *call, ProviderRequest *request)
{
	int count = json_length(call->arguments, "events");
	JsonBuilder body;

	json_open(&body);
	json_open_array(&body, "events");
	for (int i = 0; i < count; i++)
		json_append_json(&body,
						 event_of(call, json_part(call->arguments, psprintf("events.%d", i))));
	json_close_array(&body);
	polar_send_json(request, "POST", "/v1/events/ingest", &body);
}

/* How many of them it knew does not matter: they were ours, by their ids. */
void
polar_take_ingested(const Jsonb *body, CallResult *result)
{
	int64 inserted;

	if (json_int(body, "inserted", &inserted))
		result_set_error(result, OUTCOME_DONE, NULL, NULL);
	else
		polar_unreadable(result);
}

void
polar_read_meter(const Jsonb *object, ProviderSnapshot *snapshot)
{
	MeterSnapshot *meter = &snapshot->meter;

	snapshot->reference = json_text(object, "metadata." POLAR_REFERENCE);
	if (same_text(json_text(object, "aggregation.func"), "sum") &&
		same_text(json_text(object, "aggregation.property"), EVENT_VALUE))
		meter->aggregation = "sum";
	if (json_length(object, "filter.clauses") == 1 &&
		same_text(json_text(object, "filter.clauses.0.property"), "name") &&
		same_text(json_text(object, "filter.clauses.0.operator"), "eq"))
		meter->event_name = json_text(object, "filter.clauses.0.value");
	meter->active = json_text(object, "archived_at") == NULL;
}

/*-------------------------------------------------------------------------
 *
 * stripe_usage.c
 *	  Meters of Stripe, and what they are told of usage.
 *
 * Our meters have an event_time_window of an hour: events are taken as added
 * up per hour, and of several for one customer and hour the last one counts.
 * So an event tells what the hour comes to, and to tell it again, corrected or
 * after a lost answer, takes the place of what was told before.
 *
 * Events are checked after they were accepted; what cannot be counted is told
 * by a thin event about the meter.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe_requests.h"

#include "json.h"

#define EVENT_CUSTOMER "stripe_customer_id"
#define EVENT_VALUE    "value"

#define ERROR_REPORT "v1.billing.meter.error_report_triggered"

static const char *
formula_of(const char *aggregation)
{
	return same_text(aggregation, "latest") ? "last" : "sum";
}

static void
build_meter_create(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_argument(&form, "display_name", "name");
	form_argument(&form, "event_name", "event_name");
	form_add(&form, "default_aggregation[formula]",
			 formula_of(json_text(call->arguments, "aggregation")));
	form_add(&form, "event_time_window", "hour");
	form_add(&form, "customer_mapping[type]", "by_id");
	form_add(&form, "customer_mapping[event_payload_key]", EVENT_CUSTOMER);
	form_add(&form, "value_settings[event_payload_key]", EVENT_VALUE);
	stripe_post(request, "/v1/billing/meters", &form);
}

static void
list_meters(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "status", "active");
	form_add(&form, "limit", STRIPE_LIST_LIMIT);
	stripe_get(request, "/v1/billing/meters", &form);
}

/* A meter has no metadata, but of those that are active one has the name. */
static void
find_meter(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	int count = json_length(list, "data");

	for (int i = 0; i < count; i++)
	{
		Jsonb *meter = json_part(list, psprintf("data.%d", i));

		if (meter != NULL &&
			same_text(json_text(meter, "event_name"), json_text(call->arguments, "event_name")))
		{
			stripe_take_object(call, meter, result);
			return;
		}
	}
	result->outcome = OUTCOME_ABSENT;
}

static const StripeStep create_meter = {
	.type = BILLING_METER,
	.proof = PROOF_LIST,
	.makes_reference = true,
	.build = build_meter_create,
	.build_lookup = list_meters,
	.found = find_meter,
};

static void
get_meter(const ProviderCall *call, ProviderRequest *request)
{
	stripe_get(request, stripe_path(call, "billing/meters", "meter"), NULL);
}

static const StripeStep fetch_meter = {
	.type = BILLING_METER,
	.argument = "meter",
	.proof = PROOF_REPEAT,
	.makes_reference = true,
	.build = get_meter,
};

/* The time is that of the hour's beginning, however late it is told. */
static void
build_report(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_argument(&form, "event_name", "event_name");
	form_argument(&form, "payload[" EVENT_CUSTOMER "]", "customer");
	form_argument(&form, "payload[" EVENT_VALUE "]", "quantity");
	form_argument(&form, "identifier", "identifier");
	form_argument(&form, "timestamp", "at");
	stripe_post(request, "/v1/billing/meter_events", &form);
}

static void
take_reported(const ProviderCall *call, const Jsonb *body, CallResult *result)
{
	result_set_error(result, OUTCOME_DONE, NULL, NULL);
}

/* No event can be asked for; the meter tells whether it would take one, and a second one does no harm. */
static const StripeStep report_usage = {
	.type = BILLING_USAGE,
	.proof = PROOF_OBJECT,
	.known = "duplicate_meter_event",
	.build = build_report,
	.take = take_reported,
	.build_lookup = get_meter,
};

static const StripeOperation operations[] = {
	{OPERATION_METER_CREATE, &create_meter},
	{OPERATION_METER_FETCH, &fetch_meter},
	{OPERATION_USAGE_REPORT, &report_usage},
};

const StripeOperations stripe_usage_operations = {operations, lengthof(operations)};

/* ------------------------------------------------------------------------
 * Objects and events
 * ------------------------------------------------------------------------
 */
void
stripe_read_meter(const Jsonb *object, ProviderSnapshot *snapshot)
{
	MeterSnapshot *meter = &snapshot->meter;
	char *formula = json_text(object, "default_aggregation.formula");

	meter->event_name = json_text(object, "event_name");
	if (same_text(formula, "sum"))
		meter->aggregation = "sum";
	else if (same_text(formula, "last"))
		meter->aggregation = "latest";
	meter->hourly = same_text(json_text(object, "event_time_window"), "hour");
	meter->active = same_text(json_text(object, "status"), "active");
	/* it takes our events only by these two members */
	if (!same_text(json_text(object, "customer_mapping.event_payload_key"), EVENT_CUSTOMER) ||
		!same_text(json_text(object, "value_settings.event_payload_key"), EVENT_VALUE))
		meter->event_name = NULL;
}

/* A word like "meter_event_invalid_value"; anything else may quote what was sent. */
static char *
error_word(const Jsonb *event)
{
	char *code = json_text(event, "data.reason.error_types.0.code");

	if (code == NULL || *code == '\0' || strlen(code) > 64 ||
		code[strspn(code, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '\0')
		return pstrdup("not_told");
	return code;
}

ProviderSnapshot *
stripe_meter_errors(const Jsonb *event, bool livemode)
{
	char *id = json_text(event, "related_object.id");
	ProviderSnapshot *snapshot;

	if (id == NULL || *id == '\0' || !same_text(json_text(event, "type"), ERROR_REPORT))
		return NULL;
	snapshot = snapshot_new(BILLING_METER, id, livemode);
	snapshot->partial = true;
	snapshot->meter.errors_at = json_rfc3339_time(event, "created");
	snapshot->meter.error_code = error_word(event);
	return snapshot;
}

/*-------------------------------------------------------------------------
 *
 * usage_forwarding.c
 *	  Which metrics are forwarded to which provider, and its meters.
 *
 * A provider that bills what was used has a meter for it, which is made here
 * or linked.  It takes usage in one of two ways: what an hour comes to (then a
 * correction takes the place of what was told), or differences that it adds
 * up.  Which way it is decides what a linked meter has to be like, so one that
 * is linked is asked for first.
 *
 * A number of events is told as a quantity, like a sum, because it was counted
 * here; so a meter of ours adds values up, or takes the last one of a level.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "errors.h"
#include "json.h"
#include "usage.h"

#define EVENT_NAME_MAX        100
#define EVENT_NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-"

/* What a provider takes no more. */
#define OLDEST (35 * USECS_PER_DAY)

/* ------------------------------------------------------------------------
 * Checks
 * ------------------------------------------------------------------------
 */
static const char *
aggregation_word(const Meter *meter)
{
	return meter->aggregation == AGGREGATE_LATEST ? "latest" : "sum";
}

static void
check_meter(const Meter *meter)
{
	const char *trouble = NULL;

	if (meter->aggregation != AGGREGATE_SUM && meter->aggregation != AGGREGATE_COUNT &&
		meter->aggregation != AGGREGATE_LATEST)
		trouble = "A provider adds up values, or takes the last one of a level; this metric is "
				  "neither.";
	else if (meter->carried && meter->aggregation != AGGREGATE_LATEST)
		trouble = "A provider adds up what was used in a period; this metric carries over what was "
				  "used before.";
	if (trouble != NULL)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("usage of \"%s\" cannot be forwarded", meter->metric),
						errdetail("%s", trouble),
						errhint("Sell the plan with managed_by => 'local': billing charges it.")));
}

static void
check_event_name(const char *event_name)
{
	size_t length = strlen(event_name);

	if (length > 0 && length <= EVENT_NAME_MAX &&
		strspn(event_name, EVENT_NAME_CHARACTERS) == length)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("event_name \"%s\" cannot be used", event_name),
			 errhint("It has 1 to %d letters, digits and _ . : - of ASCII.", EVENT_NAME_MAX)));
}

static void
check_since(TimestampTz since)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();

	if (since >= now - OLDEST && since <= now + USECS_PER_DAY)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("usage cannot be forwarded since %s", pstrdup(timestamptz_to_str(since))),
			 errdetail("Providers take usage of the last 35 days."),
			 errhint("Pass a time between 35 days ago and tomorrow.")));
}

static Jsonb *
aggregation_argument(const Meter *meter)
{
	JsonBuilder builder;

	json_open(&builder);
	json_add_text(&builder, "aggregation", aggregation_word(meter));
	return json_close(&builder);
}

/* True: the provider takes differences.  JB004 when it takes neither. */
static bool
takes_differences(const Account *account, const Jsonb *aggregation)
{
	const char *alternative;

	if (account_supports(account, OPERATION_USAGE_REPORT, aggregation, &alternative) == SUPPORTED)
		return false;
	account_require(account, OPERATION_USAGE_INGEST, aggregation);
	return true;
}

/* ------------------------------------------------------------------------
 * Rows
 * ------------------------------------------------------------------------
 */
typedef struct Forwarding
{
	pg_uuid_t *id;
	Account *account;
	const Meter *meter;
	char *event_name;
	char *state;
	bool differences;
} Forwarding;

QUERY(load_forwarding,
	  "SELECT id, provider, account, metric, event_name, state, differences "
	  "FROM billing.usage_forwarding WHERE id = $1",
	  UUIDOID);

/* NULL when there is none. */
static Forwarding *
forwarding_load(const pg_uuid_t *id)
{
	Forwarding *f = palloc0(sizeof(Forwarding));
	char *provider;
	char *account;

	if (RUN(load_forwarding, arg_uuid(id)) == 0)
		return NULL;
	f->id = row_uuid(0, 1);
	provider = row_text(0, 2);
	account = row_text(0, 3);
	f->meter = meter_named(row_text(0, 4));
	f->event_name = row_text(0, 5);
	f->state = row_text(0, 6);
	f->differences = row_bool(0, 7);
	f->account = account_get(provider, account);
	return f;
}

static char *
meter_ref(const Forwarding *f)
{
	return ref_find(object_type_name(BILLING_METER), f->id, f->account->provider,
					f->account->account);
}

/* Two calls for one account come one after the other. */
QUERY(lock_account, "SELECT FROM billing.provider_accounts WHERE id = $1 FOR NO KEY UPDATE",
	  UUIDOID);
QUERY(find_forwarding,
	  "SELECT id, event_name FROM billing.usage_forwarding "
	  "WHERE metric = $1 AND provider = $2 AND account = $3",
	  TEXTOID, TEXTOID, TEXTOID);
QUERY(name_taken,
	  "SELECT metric FROM billing.usage_forwarding "
	  "WHERE event_name = $1 AND provider = $2 AND account = $3 AND metric <> $4",
	  TEXTOID, TEXTOID, TEXTOID, TEXTOID);
QUERY(
	insert_forwarding,
	"INSERT INTO billing.usage_forwarding (id, metric, provider, account, livemode, event_name, "
	"since, differences, state) VALUES ($1, $2, $3, $4, $5, $6, date_trunc('hour', $7, 'UTC'), $8, $9)",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TIMESTAMPTZOID, BOOLOID, TEXTOID);
QUERY(
	resume_forwarding,
	"UPDATE billing.usage_forwarding SET enabled = true, since = CASE WHEN enabled THEN "
	"least(since, date_trunc('hour', $2, 'UTC')) ELSE date_trunc('hour', $2, 'UTC') END, "
	"state = CASE state WHEN 'failed' THEN 'pending' ELSE state END, "
	"error_code = CASE state WHEN 'failed' THEN NULL ELSE error_code END, updated_at = now() WHERE id = $1",
	UUIDOID, TIMESTAMPTZOID);

typedef struct ForwardingCall
{
	const Meter *meter;
	Account *account;
	const char *event_name;
	TimestampTz since;
	const char *link;
} ForwardingCall;

static void
check_name_free(const ForwardingCall *call)
{
	if (RUN(name_taken, arg_text(call->event_name), arg_text(call->account->provider),
			arg_text(call->account->account), arg_text(call->meter->metric)) == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_JB_STATE),
					errmsg("event_name \"%s\" is that of another metric", call->event_name),
					errdetail("Usage of \"%s\" is forwarded under it.", row_text(0, 1)),
					errhint("Pass another event_name.")));
}

/* Its id when it is there already, and on again; NULL when it is new. */
static pg_uuid_t *
resume(const ForwardingCall *call)
{
	pg_uuid_t *id;
	char *event_name;

	if (RUN(find_forwarding, arg_text(call->meter->metric), arg_text(call->account->provider),
			arg_text(call->account->account)) == 0)
		return NULL;
	id = row_uuid(0, 1);
	event_name = row_text(0, 2);
	if (strcmp(event_name, call->event_name) != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("usage of \"%s\" is forwarded as \"%s\" already",
							   call->meter->metric, event_name),
						errhint("Pass event_name => '%s', or make another metric.", event_name)));
	RUN(resume_forwarding, arg_uuid(id), arg_datum(TimestampTzGetDatum(call->since), false));
	return id;
}

static bool
needs_meter(const Account *account, const Jsonb *aggregation)
{
	const char *alternative;

	return account_supports(account, OPERATION_METER_CREATE, aggregation, &alternative) ==
		   SUPPORTED;
}

static pg_uuid_t *
begin(const ForwardingCall *call)
{
	Jsonb *aggregation = aggregation_argument(call->meter);
	bool differences = takes_differences(call->account, aggregation);
	pg_uuid_t *id = resume(call);

	if (id != NULL)
		return id;
	check_name_free(call);
	id = new_id();
	RUN(insert_forwarding, arg_uuid(id), arg_text(call->meter->metric),
		arg_text(call->account->provider), arg_text(call->account->account),
		arg_bool(call->account->livemode), arg_text(call->event_name),
		arg_datum(TimestampTzGetDatum(call->since), false), arg_bool(differences),
		arg_text(needs_meter(call->account, aggregation) ? "pending" : "active"));
	return id;
}

/* ------------------------------------------------------------------------
 * The provider's meter
 * ------------------------------------------------------------------------
 */
/* Older than all that the provider will say of it: only the id is known. */
static News
news_of(const Account *account)
{
	return (News){.provider = account->provider,
				  .account = account->account,
				  .livemode = account->livemode,
				  .as_of = 1,
				  .event_id = ""};
}

/* A meter that is there already is linked to this metric alone. */
static void
link_meter(const Forwarding *f, const char *meter)
{
	char *present = meter_ref(f);
	pg_uuid_t *owner = ref_object(object_type_name(BILLING_METER), meter, f->account->provider,
								  f->account->account);
	News news = news_of(f->account);

	if (present != NULL && strcmp(present, meter) == 0)
		return;
	if (present != NULL || owner != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 present != NULL ? errmsg("usage of \"%s\" is linked to meter \"%s\" already",
										  f->meter->metric, present)
								 : errmsg("meter \"%s\" is linked to another metric", meter),
				 errhint("billing.usage_forwarding and billing.provider_refs show what is "
						 "linked to what.")));
	if (outbox_under_way(f->id, OPERATION_METER_CREATE))
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("a meter for \"%s\" is being made at provider \"%s\"",
							   f->meter->metric, f->account->provider),
						errhint("Wait for it by billing.await().")));
	ref_put(object_type_name(BILLING_METER), f->id, meter, &news);
}

static void
provide_meter(const Forwarding *f, const char *link)
{
	if (strcmp(f->state, "pending") != 0 || outbox_under_way(f->id, OPERATION_METER_FETCH))
		return;
	if (link != NULL)
		link_meter(f, link);
	if (meter_ref(f) != NULL)
		outbox_enqueue(f->account, OPERATION_METER_FETCH, f->id, f->account->id,
					   aggregation_argument(f->meter), NULL);
	else if (!outbox_under_way(f->id, OPERATION_METER_CREATE))
		outbox_enqueue(f->account, OPERATION_METER_CREATE, f->id, f->account->id,
					   aggregation_argument(f->meter), NULL);
}

/* What was there before: periods of subscriptions, and usage. */
QUERY(
	note_periods,
	"SELECT billing.note_usage_period(s) FROM billing.subscriptions AS s "
	"WHERE s.provider = $1 AND s.account = $2 AND s.managed_by = 'provider' AND s.status <> 'canceled'",
	TEXTOID, TEXTOID);
QUERY(
	mark_used,
	"SELECT billing.mark_forwarding_since(o.organization_id, $1, greatest(f.since, o.starts_at), o.starts_at) "
	"FROM billing.usage_forwarding AS f JOIN (SELECT organization_id, provider, account, max(starts_at) AS starts_at "
	"FROM billing.usage_forward_periods GROUP BY organization_id, provider, account) AS o USING (provider, account) "
	"WHERE f.metric = $1 AND f.provider = $2 AND f.account = $3",
	TEXTOID, TEXTOID, TEXTOID);

SQL_FUNCTION(billing_forward_usage)
{
	char *metric = ARG_TEXT(0);
	char *provider = ARG_TEXT(1);
	char *event_name = ARG_TEXT(3);
	ForwardingCall call = {.link = ARG_TEXT(5)};
	pg_uuid_t *id;

	check_no_card("event_name", event_name);
	check_no_card("link", call.link);
	check_given("metric", metric != NULL);
	check_given("provider", provider != NULL);
	check_given("since", !PG_ARGISNULL(4));
	db_open();
	call.meter = meter_named(metric);
	if (call.meter == NULL)
		unknown_object("metric", metric, "billing.meters lists them.");
	check_meter(call.meter);
	call.account = account_get(provider, ARG_TEXT(2));
	call.event_name = event_name == NULL ? metric : event_name;
	check_event_name(call.event_name);
	call.since = PG_GETARG_TIMESTAMPTZ(4);
	check_since(call.since);
	RUN(lock_account, arg_uuid(call.account->id));
	id = begin(&call);
	provide_meter(forwarding_load(id), call.link);
	RUN(note_periods, arg_text(provider), arg_text(call.account->account));
	RUN(mark_used, arg_text(metric), arg_text(provider), arg_text(call.account->account));
	PG_RETURN_DATUM(db_close_uuid(id));
}

/* ------------------------------------------------------------------------
 * Out and in
 * ------------------------------------------------------------------------
 */
Description
meter_describe(const OutboxRow *row)
{
	Forwarding *f = forwarding_load(row->object_id);
	JsonBuilder builder;
	char *meter;

	if (f == NULL)
		elog(ERROR, "forwarding %s is gone", uuid_text(row->object_id));
	meter = meter_ref(f);
	if (row->operation == OPERATION_METER_CREATE && meter != NULL)
		return (Description){OBSOLETE, NULL, "the meter is there already"};
	json_open(&builder);
	json_add_text(&builder, "meter", meter);
	json_add_text(&builder, "name", f->meter->metric);
	json_add_text(&builder, "event_name", f->event_name);
	json_add_text(&builder, "aggregation", aggregation_word(f->meter));
	return (Description){READY, json_close(&builder), NULL};
}

QUERY(fail_meter,
	  "UPDATE billing.usage_forwarding SET state = 'failed', error_code = $2, updated_at = now() "
	  "WHERE id = $1",
	  UUIDOID, TEXTOID);
QUERY(start_meter,
	  "UPDATE billing.usage_forwarding SET state = 'active', error_code = NULL, updated_at = now() "
	  "WHERE id = $1",
	  UUIDOID);
QUERY(
	note_errors,
	"UPDATE billing.usage_forwarding SET errors_reported_at = $2, error_code = $3, updated_at = now() "
	"WHERE id = $1 AND (errors_reported_at IS NULL OR errors_reported_at <= $2)",
	UUIDOID, TIMESTAMPTZOID, TEXTOID);

void
meter_refused(const OutboxRow *row, const CallResult *result)
{
	RUN(fail_meter, arg_uuid(row->object_id),
		arg_text(result->error_code != NULL ? result->error_code : result->error_type));
}

/* NULL, or why our usage told to this meter would not be billed as it is. */
static const char *
mismatch(const Forwarding *f, const MeterSnapshot *meter)
{
	if (!meter->active)
		return "meter_not_active";
	if (meter->event_name == NULL || strcmp(meter->event_name, f->event_name) != 0)
		return "meter_has_another_event_name";
	if (meter->aggregation == NULL || strcmp(meter->aggregation, aggregation_word(f->meter)) != 0)
		return "meter_has_another_aggregation";
	if (!f->differences && !meter->hourly)
		return "meter_is_not_hourly";
	return NULL;
}

/* Our call was about it, or it is known by its id. */
static pg_uuid_t *
forwarding_of(const ProviderSnapshot *snapshot, const News *news)
{
	pg_uuid_t *id = ref_object(object_type_name(BILLING_METER), snapshot->provider_id,
							   news->provider, news->account);

	return id != NULL || news->own_type != BILLING_METER ? id : (pg_uuid_t *) news->own_id;
}

Applied
meter_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const MeterSnapshot *meter = &snapshot->meter;
	pg_uuid_t *id = forwarding_of(snapshot, news);
	Forwarding *f = id == NULL ? NULL : forwarding_load(id);
	const char *trouble;

	/* meters that somebody else made are nothing to us, now or later */
	if (f == NULL)
		return SNAPSHOT_STALE;
	if (snapshot->partial)
		return RUN(note_errors, arg_uuid(f->id), arg_time(meter->errors_at),
				   arg_text(meter->error_code)) > 0
				   ? SNAPSHOT_APPLIED
				   : SNAPSHOT_STALE;
	if (!ref_advance(snapshot, f->id, news, STAGE(0, 0)))
		return SNAPSHOT_STALE;
	trouble = mismatch(f, meter);
	if (trouble != NULL)
		RUN(fail_meter, arg_uuid(f->id), arg_text(trouble));
	else
		RUN(start_meter, arg_uuid(f->id));
	return SNAPSHOT_APPLIED;
}

/*-------------------------------------------------------------------------
 *
 * usage_reports.c
 *	  What a provider is told of hours, from the outbox on.
 *
 * A request is about a batch of rows of usage_forwards.  One that is refused
 * is split, so that a single hour that the provider does not take holds up no
 * other; the identifiers see to it that nothing counts twice.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "json.h"

/*
 * What was refused and is tried once more.  A revision in whose place a newer
 * one came is in no batch of ours any more (usage_forward.c).
 */
QUERY(retake_batch,
	  "UPDATE billing.usage_forwards SET state = 'sent', error_code = NULL "
	  "WHERE batch = $1 AND state = 'failed'",
	  UUIDOID);
QUERY_IN_ORDER(
	load_batch,
	"SELECT f.event_name, trim_scale(w.told)::text, w.hour, w.identifier, w.customer_id, f.id "
	"FROM billing.usage_forwards AS w JOIN billing.usage_forwarding AS f USING (metric, provider, account) "
	"WHERE w.batch = $1 AND w.state = 'sent' ORDER BY w.organization_id, w.metric, w.hour, w.revision",
	UUIDOID);
QUERY(
	fail_gone,
	"UPDATE billing.usage_forwards SET state = 'failed', error_code = $3 WHERE batch = $1 AND customer_id = $2 AND state = 'sent'",
	UUIDOID, UUIDOID, TEXTOID);

static char *
customer_at(const OutboxRow *row, const pg_uuid_t *customer_id)
{
	return ref_find(object_type_name(BILLING_CUSTOMER), customer_id, row->provider, row->account);
}

/* NULL when its customer is not there any more. */
static Jsonb *
told_of(const OutboxRow *row, Rows rows, int64 i)
{
	pg_uuid_t *customer_id = rows_uuid(rows, i, 5);
	char *customer = customer_at(row, customer_id);
	JsonBuilder told;

	if (customer == NULL)
	{
		RUN(fail_gone, arg_uuid(row->object_id), arg_uuid(customer_id),
			arg_text("customer_is_not_there"));
		return NULL;
	}
	json_open(&told);
	json_add_text(&told, "customer", customer);
	json_add_text(&told, "meter",
				  ref_find(object_type_name(BILLING_METER), rows_uuid(rows, i, 6), row->provider,
						   row->account));
	json_add_text(&told, "event_name", rows_text(rows, i, 1));
	json_add_text(&told, "quantity", rows_text(rows, i, 2));
	json_add_time(&told, "at", rows_time(rows, i, 3));
	json_add_text(&told, "identifier", rows_text(rows, i, 4));
	return json_close(&told);
}

Description
usage_describe(const OutboxRow *row)
{
	JsonBuilder many;
	Jsonb *only = NULL;
	int count = 0;
	Rows rows;

	RUN(retake_batch, arg_uuid(row->object_id));
	RUN(load_batch, arg_uuid(row->object_id));
	rows = rows_keep();
	json_open(&many);
	json_open_array(&many, "events");
	for (int64 i = 0; i < rows_count(rows); i++)
	{
		Jsonb *told = told_of(row, rows, i);

		if (told == NULL)
			continue;
		json_append_json(&many, told);
		only = told;
		count++;
	}
	json_close_array(&many);
	if (count == 0)
		return (Description){OBSOLETE, NULL, "a newer revision says it, or the customer is gone"};
	if (row->operation == OPERATION_USAGE_REPORT)
		return (Description){READY, only, NULL};
	return (Description){READY, json_close(&many), NULL};
}

QUERY(
	accept_batch,
	"UPDATE billing.usage_forwards SET state = 'accepted', accepted_at = now(), error_code = NULL "
	"WHERE batch = $1 AND state = 'sent'",
	UUIDOID);

void
usage_done(const OutboxRow *row, const CallResult *result)
{
	RUN(accept_batch, arg_uuid(row->object_id));
}

QUERY(fail_batch,
	  "UPDATE billing.usage_forwards SET state = 'failed', error_code = $2 "
	  "WHERE batch = $1 AND state = 'sent'",
	  UUIDOID, TEXTOID);
QUERY(split_batch,
	  "UPDATE billing.usage_forwards SET batch = billing.new_id() "
	  "WHERE batch = $1 AND state = 'sent' RETURNING batch",
	  UUIDOID);
QUERY(batch_size, "SELECT count(*) FROM billing.usage_forwards WHERE batch = $1 AND state = 'sent'",
	  UUIDOID);

/* Each alone: those that are fine go through, and the others are refused by themselves. */
static void
split(const OutboxRow *row)
{
	Account *account = account_get(row->provider, row->account);
	Rows rows;

	RUN(split_batch, arg_uuid(row->object_id));
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows); i++)
		outbox_enqueue(account, row->operation, rows_uuid(rows, i, 1), row->ordering_key,
					   json_empty(), NULL);
	(void) outbox_give_up(row->object_id, row->operation);
}

void
usage_refused(const OutboxRow *row, const CallResult *result)
{
	RUN(batch_size, arg_uuid(row->object_id));
	if (row_int(0, 1) > 1)
		split(row);
	else
		RUN(fail_batch, arg_uuid(row->object_id),
			arg_text(result->error_code != NULL ? result->error_code : result->error_type));
}

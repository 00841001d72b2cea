/*-------------------------------------------------------------------------
 *
 * payment_method_sync.c
 *	  Payment methods between us and the providers: what a request says about
 *	  one, and what is taken over from what a provider says.
 *
 * Brand, last four digits and expiry come from the provider; nothing that
 * could be charged elsewhere is ever kept.
 *
 *-------------------------------------------------------------------------
 */
#include "payment_methods.h"

#include "engine.h"
#include "json.h"
#include "keys.h"

/* ---- to the provider ---- */

QUERY(
	method_failed,
	"UPDATE billing.payment_methods SET state = 'failed', error_code = $2, token = NULL, mandate = NULL, is_default = false, "
	"updated_at = now() WHERE id = $1 AND state = 'pending'",
	UUIDOID, TEXTOID);

QUERY(known_methods,
	  "SELECT coalesce(jsonb_agg(r.provider_id ORDER BY r.provider_id), '[]') "
	  "FROM billing.payment_methods AS m JOIN billing.provider_refs AS r "
	  "ON r.object_id = m.id AND r.object_type = 'payment_method' "
	  "WHERE m.customer_id = $1 AND r.provider = $2 AND r.account = $3",
	  UUIDOID, TEXTOID, TEXTOID);

/* By what we knew when it went out a look-up finds the one that is new. */
static void
add_known(JsonBuilder *b, const OutboxRow *row)
{
	json_add_json(b, "known",
				  outbox_known(row, &known_methods,
							   (const Arg[]){arg_uuid(row->ordering_key), arg_text(row->provider),
											 arg_text(row->account)}));
}

static void
add_mandate(JsonBuilder *b, const OutboxRow *row, const Method *method)
{
	char *mandate = unseal_text("payment_methods.mandate", row->object_id, method->mandate);
	const char *reason;

	if (mandate != NULL)
		json_add_json(b, "mandate", json_parse(mandate, strlen(mandate), &reason));
}

static Description
describe_attach(const OutboxRow *row, const Method *method, JsonBuilder *b)
{
	int64 expires_at;

	json_add_text(b, "payment_method", json_text(row->arguments, "payment_method"));
	json_add_text(b, "type", json_text(row->arguments, "type"));
	json_add_bool(b, "set_default", json_bool(row->arguments, "set_default", false));
	if (json_int(row->arguments, "expires_at", &expires_at))
		json_add_int(b, "expires_at", expires_at);
	add_mandate(b, row, method);
	add_known(b, row);
	return (Description){READY, json_close(b), NULL};
}

Description
payment_method_describe(const OutboxRow *row)
{
	Method method;
	JsonBuilder b;
	char *customer = ref_find("customer", row->ordering_key, row->provider, row->account);
	char *provider_id = ref_find("payment_method", row->object_id, row->provider, row->account);

	if (!payment_method_load(row->object_id, &method))
		elog(ERROR, "payment method %s is gone", uuid_text(row->object_id));
	if (customer == NULL)
	{
		RUN(method_failed, arg_uuid(row->object_id), arg_text("customer_missing"));
		return (Description){OBSOLETE, NULL, "the customer was never created there"};
	}
	json_open(&b);
	json_add_text(&b, "customer", customer);
	json_add_text(&b, "reference", uuid_text(row->object_id));
	if (row->operation == OPERATION_PAYMENT_METHOD_ATTACH)
		return describe_attach(row, &method, &b);
	if (provider_id == NULL || !payment_method_is_there(&method) ||
		(row->operation != OPERATION_PAYMENT_METHOD_DETACH && method.unusable != NULL))
		return (Description){OBSOLETE, NULL, "the payment method is not attached"};
	json_add_text(&b, "payment_method", provider_id);
	return (Description){READY, json_close(&b), NULL};
}

void
payment_method_refused(const OutboxRow *row, const CallResult *result)
{
	Method method;

	if (RUN(method_failed, arg_uuid(row->object_id),
			arg_text(result->error_code != NULL ? result->error_code : result->error_type)) == 0)
		return;
	if (!payment_method_load(row->object_id, &method))
		return;
	event_record("payment_method.failed", "payment_method", row->object_id, method.organization_id,
				 "pending", "failed");
	collection_method_settled(method.customer_id);
}

QUERY(
	clear_default,
	"UPDATE billing.payment_methods SET is_default = false WHERE customer_id = $1 AND is_default AND id <> $2",
	UUIDOID, UUIDOID);
QUERY(set_default_row,
	  "UPDATE billing.payment_methods SET is_default = true, updated_at = now() "
	  "WHERE id = $1 AND NOT is_default AND state = 'attached'",
	  UUIDOID);
QUERY(
	method_detached,
	"UPDATE billing.payment_methods SET state = 'detached', is_default = false, token = NULL, mandate = NULL, "
	"reference = NULL, updated_at = now() "
	"WHERE id = $1 AND state <> 'detached'",
	UUIDOID);

static void
make_default(const pg_uuid_t *customer_id, const pg_uuid_t *id)
{
	RUN(clear_default, arg_uuid(customer_id), arg_uuid(id));
	if (RUN(set_default_row, arg_uuid(id)) > 0)
		collection_method_arrived(customer_id);
}

static void
detach_row(const pg_uuid_t *id, const Method *method)
{
	if (RUN(method_detached, arg_uuid(id)) > 0)
		event_record("payment_method.detached", "payment_method", id, method->organization_id,
					 method->state, "detached");
}

#define IS_THERE "(m.state = 'attached' OR (m.state = 'failed' AND m.unusable IS NOT NULL))"
QUERY(attached_methods,
	  "SELECT m.id FROM billing.payment_methods AS m WHERE m.customer_id = $1 AND " IS_THERE,
	  UUIDOID);

void
payment_methods_detach_all(const pg_uuid_t *customer_id)
{
	Rows methods;

	RUN(attached_methods, arg_uuid(customer_id));
	methods = rows_keep();
	for (int64 i = 0; i < rows_count(methods); i++)
	{
		pg_uuid_t *id = rows_uuid(methods, i, 1);
		Method method;

		if (payment_method_load(id, &method))
			detach_row(id, &method);
	}
}

void
payment_method_done(const OutboxRow *row, const CallResult *result)
{
	Method method;

	if (result->next_step != 0 || !payment_method_load(row->object_id, &method))
		return;
	if (row->operation == OPERATION_PAYMENT_METHOD_DETACH)
		detach_row(row->object_id, &method);
	else if (row->operation == OPERATION_PAYMENT_METHOD_SET_DEFAULT ||
			 json_bool(row->arguments, "set_default", false))
		make_default(method.customer_id, row->object_id);
}

/* ---- the provider's list ---- */

Description
payment_method_list_describe(const OutboxRow *row)
{
	char *customer = ref_find("customer", row->object_id, row->provider, row->account);
	JsonBuilder b;

	if (customer == NULL)
		return (Description){OBSOLETE, NULL, "the customer was never created there"};
	json_open(&b);
	json_add_text(&b, "customer", customer);
	json_add_text(&b, "reference", uuid_text(row->object_id));
	return (Description){READY, json_close(&b), NULL};
}

QUERY(mark_listed,
	  "UPDATE billing.payment_methods AS m SET listed_by = $1 FROM billing.provider_refs AS r "
	  "WHERE r.object_id = m.id AND r.object_type = 'payment_method' AND r.provider_id = $2 "
	  "AND r.provider = $3 AND r.account = $4",
	  UUIDOID, TEXTOID, TEXTOID, TEXTOID);

/* What became known since the list was asked for need not be in it. */
QUERY(not_listed,
	  "SELECT m.id FROM billing.payment_methods AS m JOIN billing.outbox AS o ON o.id = $2 "
	  "WHERE m.customer_id = $1 AND m.provider = $3 AND m.account = $4 AND " IS_THERE
	  " AND m.listed_by IS DISTINCT FROM $2 AND m.created_at < o.created_at",
	  UUIDOID, UUIDOID, TEXTOID, TEXTOID);

/* A list may come in several pages: each marks what is on it, the last one ends the rest. */
void
payment_method_list_done(const OutboxRow *row, const CallResult *result)
{
	Rows gone;
	ListCell *cell;

	foreach (cell, result->snapshots)
	{
		const ProviderSnapshot *snapshot = lfirst(cell);

		if (snapshot->type == BILLING_PAYMENT_METHOD)
			RUN(mark_listed, arg_uuid(row->id), arg_text(snapshot->provider_id),
				arg_text(row->provider), arg_text(row->account));
	}
	if (result->next_step != 0)
		return;
	RUN(not_listed, arg_uuid(row->object_id), arg_uuid(row->id), arg_text(row->provider),
		arg_text(row->account));
	gone = rows_keep();
	for (int64 i = 0; i < rows_count(gone); i++)
	{
		pg_uuid_t *id = rows_uuid(gone, i, 1);
		Method method;

		if (payment_method_load(id, &method))
			detach_row(id, &method);
	}
}

/* ---- from the provider ---- */

QUERY(
	mirror_method,
	"UPDATE billing.payment_methods SET state = $9, token = NULL, mandate = NULL, error_code = unusable, "
	"type = coalesce($2, type), reference = CASE WHEN NOT $10 THEN coalesce($8, reference) END, "
	"brand = coalesce($3, brand), last4 = coalesce($4, last4), exp_month = coalesce($5, exp_month), "
	"exp_year = coalesce($6, exp_year), wallet = coalesce($7, wallet), updated_at = now() WHERE id = $1",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT2OID, INT2OID, TEXTOID, BYTEAOID, TEXTOID, BOOLOID);
QUERY(insert_found,
	  "INSERT INTO billing.payment_methods (id, customer_id, provider, account, livemode, state) "
	  "VALUES ($1, $2, $3, $4, $5, 'pending')",
	  UUIDOID, UUIDOID, TEXTOID, TEXTOID, BOOLOID);
/* The bytes are kept as long as the outcome is open, also when the request was given up. */
QUERY(
	attaching,
	"SELECT FROM billing.outbox AS o JOIN billing.payment_methods AS m ON m.id = o.object_id "
	"WHERE m.customer_id = $1 AND m.provider = $2 AND m.account = $3 AND o.operation = 'payment_method.attach' "
	"AND o.request IS NOT NULL LIMIT 1",
	UUIDOID, TEXTOID, TEXTOID);

static Arg
arg_int2(int value)
{
	return value == 0 ? arg_null() : arg_datum(Int16GetDatum((int16) value), false);
}

/*
 * A method that came into being at the provider (in its portal, in a
 * checkout).  While an attachment of ours is under way it is probably that
 * one: it cannot carry our reference, so the webhook waits for the answer.
 */
static pg_uuid_t *
adopt_method(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const char *customer = snapshot->payment_method.customer;
	pg_uuid_t *customer_id = ref_object("customer", customer, news->provider, news->account);
	pg_uuid_t *id;

	if (customer_id == NULL || !news_lock_customer(news, customer_id))
	{
		*waiting_for = customer != NULL ? customer : snapshot->provider_id;
		return NULL;
	}
	/* whoever held the lock may have brought it, or the answer that was waited for */
	id = snapshot_object(snapshot, news);
	if (id != NULL)
		return id;
	if (RUN(attaching, arg_uuid(customer_id), arg_text(news->provider), arg_text(news->account)) >
		0)
	{
		*waiting_for = snapshot->provider_id;
		return NULL;
	}
	id = new_id();
	RUN(insert_found, arg_uuid(id), arg_uuid(customer_id), arg_text(news->provider),
		arg_text(news->account), arg_bool(news->livemode));
	return id;
}

/*
 * Whether it can be charged has an order of its own: the provider says it apart
 * from the method (of its mandate, of a card that the bank blocked).  Of one
 * second, what forbids counts.
 */
QUERY(
	tell_usable,
	"UPDATE billing.payment_methods SET unusable = $2, unusable_as_of = $3, "
	"state = CASE WHEN state = 'attached' AND $2 IS NOT NULL THEN 'failed' "
	"WHEN state = 'failed' AND unusable IS NOT NULL AND $2 IS NULL THEN 'attached' ELSE state END, "
	"error_code = CASE WHEN $2 IS NOT NULL THEN $2 WHEN unusable IS NOT NULL THEN NULL ELSE error_code END, "
	"is_default = is_default AND $2 IS NULL, updated_at = now() "
	"WHERE id = $1 AND (coalesce(unusable_as_of, '-infinity') < $3 "
	"OR (unusable_as_of = $3 AND unusable IS NULL AND $2 IS NOT NULL)) RETURNING state",
	UUIDOID, TEXTOID, TIMESTAMPTZOID);

static Applied
apply_usable(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	pg_uuid_t *id = ref_object("payment_method", snapshot->provider_id, news->provider,
							   news->account);
	Method method;
	char *state;

	*waiting_for = snapshot->provider_id;
	if (id == NULL || !payment_method_load(id, &method) ||
		!news_lock_customer(news, method.customer_id) || !payment_method_load(id, &method))
		return SNAPSHOT_UNKNOWN;
	if (RUN(tell_usable, arg_uuid(id), arg_text(snapshot->payment_method.unusable),
			arg_time(news->as_of)) == 0)
		return SNAPSHOT_STALE;
	state = row_text(0, 1);
	if (strcmp(state, method.state) != 0)
		event_record(psprintf("payment_method.%s", state), "payment_method", id,
					 method.organization_id, method.state, state);
	return SNAPSHOT_APPLIED;
}

Applied
payment_method_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const PaymentMethodSnapshot *told = &snapshot->payment_method;
	pg_uuid_t *id = snapshot_object(snapshot, news);
	bool gone = snapshot->deleted || told->customer == NULL;
	Method method;
	const char *state;

	if (snapshot->partial)
		return apply_usable(snapshot, news, waiting_for);
	/* one that is gone before we heard of it is kept as such where we know whose it was */
	if (id == NULL && told->customer == NULL)
		return SNAPSHOT_STALE;
	if (id == NULL)
		id = adopt_method(snapshot, news, waiting_for);
	if (id == NULL || !payment_method_load(id, &method))
		return SNAPSHOT_UNKNOWN;
	/* the customer first, as everybody takes it; for an answer to our own call it is locked */
	if (news->own_id == NULL &&
		(!outbox_lock_customer(method.customer_id) || !payment_method_load(id, &method)))
		return SNAPSHOT_UNKNOWN;
	if (!ref_advance(snapshot, id, news, STAGE(0, 0)))
		return SNAPSHOT_STALE;
	state = gone ? method.state : method.unusable != NULL ? "failed" : "attached";
	RUN(mirror_method, arg_uuid(id), arg_text(told->type), arg_text(told->brand),
		arg_text(told->last4), arg_int2(told->exp_month), arg_int2(told->exp_year),
		arg_text(told->wallet),
		arg_bytes(told->reference == NULL
					  ? NULL
					  : seal_text("payment_methods.reference", id, json_string(told->reference))),
		arg_text(state), arg_bool(gone));
	if (gone)
	{
		detach_row(id, &method);
		return SNAPSHOT_APPLIED;
	}
	if (strcmp(method.state, state) != 0 || news->own_id == NULL)
		event_record(strcmp(method.state, state) != 0 ? psprintf("payment_method.%s", state)
													  : "payment_method.updated",
					 "payment_method", id, method.organization_id, method.state, state);
	if (told->is_default)
		make_default(method.customer_id, id);
	/* its customer may have been told before it */
	if (strcmp(method.state, state) != 0)
		collection_method_arrived(method.customer_id);
	return SNAPSHOT_APPLIED;
}

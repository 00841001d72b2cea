/*-------------------------------------------------------------------------
 *
 * disputes.c
 *	  Disputes: payments that the customer's bank takes back.
 *
 * They begin at the provider and are told to us by webhooks, or fetched where
 * it sends none.  What is written in our defence may be about a person: it is
 * sealed in the row and opened when the request is sent.  Money counts when it
 * is withdrawn and when it is reinstated, not when somebody wins.
 *
 *-------------------------------------------------------------------------
 */
#include "payments.h"

#include "check.h"
#include "collection.h"
#include "errors.h"
#include "keys.h"
#include "wire_amounts.h"

typedef struct Dispute
{
	pg_uuid_t *id;
	pg_uuid_t *payment_intent_id;
	pg_uuid_t *customer_id;
	char *organization_id;
	char *provider;
	char *account;
	char *status;
	char *currency;
	bytea *evidence;
	TimestampTz due_by;
	TimestampTz withdrawn_at;
	TimestampTz reinstated_at;
	char *provider_id;
} Dispute;

QUERY(
	load_dispute,
	"SELECT d.id, d.customer_id, d.organization_id, d.provider, d.account, d.status, d.currency, d.evidence, "
	"d.evidence_due_by, d.funds_withdrawn_at, d.funds_reinstated_at, r.provider_id, d.payment_intent_id FROM billing.disputes AS d "
	"LEFT JOIN billing.provider_refs AS r ON r.object_id = d.id AND r.object_type = 'dispute' "
	"AND r.provider = d.provider AND r.account = d.account WHERE d.id = $1",
	UUIDOID);

static Dispute *
dispute_load(const pg_uuid_t *id)
{
	Dispute *d;

	if (id == NULL || RUN(load_dispute, arg_uuid(id)) == 0)
		return NULL;
	d = palloc(sizeof(Dispute));
	d->id = row_uuid(0, 1);
	d->customer_id = row_uuid(0, 2);
	d->organization_id = row_text(0, 3);
	d->provider = row_text(0, 4);
	d->account = row_text(0, 5);
	d->status = row_text(0, 6);
	d->currency = row_text(0, 7);
	d->evidence = row_bytes(0, 8);
	d->due_by = row_time(0, 9);
	d->withdrawn_at = row_time(0, 10);
	d->reinstated_at = row_time(0, 11);
	d->provider_id = row_text(0, 12);
	d->payment_intent_id = row_uuid(0, 13);
	return d;
}

/* Under the lock of its customer, so that its state stands still. */
static Dispute *
dispute_load_locked(const pg_uuid_t *id)
{
	Dispute *d;

	check_given("dispute_id", id != NULL);
	d = dispute_load(id);
	if (d == NULL)
		unknown_object("dispute", uuid_text(id), "billing.list_disputes() lists them.");
	outbox_lock_customer(d->customer_id);
	return dispute_load(id);
}

static bool
awaits_response(const Dispute *d)
{
	return strcmp(d->status, "needs_response") == 0 ||
		   strcmp(d->status, "warning_needs_response") == 0;
}

/* ---- what callers ask for ---- */

static void
refuse_evidence_member(const char *key, const JsonbValue *value, void *context)
{
	if (value->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("member \"%s\" of evidence is no text", key),
				 errhint("Pass {field: text} with the provider's names of the fields; of a file "
						 "that was uploaded there, its id.")));
}

static void
check_evidence(const Jsonb *evidence)
{
	check_given("evidence", evidence != NULL);
	if (!JB_ROOT_IS_OBJECT(evidence))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("evidence is not an object"),
				 errhint("Pass something like '{\"uncategorized_text\": \"...\"}'.")));
	json_visit(evidence, refuse_evidence_member, NULL);
}

static void
require_awaiting(const Dispute *d)
{
	if (!awaits_response(d))
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("dispute \"%s\" does not wait for an answer", uuid_text(d->id)),
				 errdetail("Its status is %s.", d->status),
				 errhint("billing.get_dispute() shows it; billing.refresh() asks the provider "
						 "anew.")));
	if (d->due_by != 0 && d->due_by < clock_now(d->organization_id))
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("the time to answer dispute \"%s\" is over", uuid_text(d->id)),
						errdetail("Evidence was due by %s.", timestamptz_to_str(d->due_by)),
						errhint("The bank decides without it; billing.refresh() asks the provider "
								"how it stands.")));
}

QUERY(keep_evidence, "UPDATE billing.disputes SET evidence = $2, updated_at = now() WHERE id = $1",
	  UUIDOID, BYTEAOID);

/* What was given before, with what is given now over it. */
static char *
merged_evidence(const Dispute *d, const Jsonb *evidence)
{
	char *before = unseal_text("disputes.evidence", d->id, d->evidence);
	const char *reason;
	Datum merged;

	if (before == NULL)
		return json_string(evidence);
	merged = DirectFunctionCall2(jsonb_concat,
								 JsonbPGetDatum(json_parse(before, strlen(before), &reason)),
								 JsonbPGetDatum(unconstify(Jsonb *, evidence)));
	return json_string(DatumGetJsonbP(merged));
}

/* The request itself holds no evidence: what is sealed in the row goes with it. */
static void
require_evidence_taken(const Account *account, const Jsonb *evidence)
{
	JsonBuilder b;

	json_open(&b);
	json_add_json(&b, "evidence", evidence);
	account_require(account, OPERATION_DISPUTE_SUBMIT_EVIDENCE, json_close(&b));
}

SQL_FUNCTION(billing_submit_dispute_evidence)
{
	pg_uuid_t *id = ARG_UUID(0);
	Jsonb *evidence = ARG_JSON(1);
	bool submit = ARG_BOOL(2, true);
	Dispute *d;
	Account *account;
	JsonBuilder b;

	db_open();
	check_no_card_json("evidence", evidence);
	check_evidence(evidence);
	d = dispute_load_locked(id);
	require_awaiting(d);
	account = account_get(d->provider, d->account);
	require_evidence_taken(account, evidence);
	RUN(keep_evidence, arg_uuid(id),
		arg_bytes(seal_text("disputes.evidence", id, merged_evidence(d, evidence))));
	json_open(&b);
	json_add_bool(&b, "submit", submit);
	outbox_enqueue(account, OPERATION_DISPUTE_SUBMIT_EVIDENCE, id, d->customer_id, json_close(&b),
				   NULL);
	db_close();
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_accept_dispute)
{
	pg_uuid_t *id = ARG_UUID(0);
	Dispute *d;
	JsonBuilder b;

	db_open();
	d = dispute_load_locked(id);
	if (!awaits_response(d) && strcmp(d->status, "under_review") != 0 &&
		strcmp(d->status, "warning_under_review") != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE), errmsg("dispute \"%s\" is over", uuid_text(id)),
						errdetail("Its status is %s.", d->status),
						errhint("billing.get_dispute() shows it.")));
	if (!outbox_under_way(id, OPERATION_DISPUTE_ACCEPT))
	{
		json_open(&b);
		outbox_enqueue(account_get(d->provider, d->account), OPERATION_DISPUTE_ACCEPT, id,
					   d->customer_id, json_close(&b), NULL);
	}
	db_close();
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_fetch_disputes)
{
	char *provider = ARG_TEXT(0);
	char *account_name = ARG_TEXT(1);
	TimestampTz since = ARG_TIME(2);
	Account *account;
	JsonBuilder b;

	db_open();
	if (TIMESTAMP_NOT_FINITE(since))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("since cannot be infinite"),
				 errhint("Leave it out to fetch all of them.")));
	account = account_get(provider, account_name);
	json_open(&b);
	json_add_time(&b, "since", since);
	outbox_enqueue(account, OPERATION_DISPUTE_LIST, account->id, account->id, json_close(&b), NULL);
	PG_RETURN_DATUM(db_close_uuid(account->id));
}

/* ---- to the provider ---- */

static void
add_evidence(JsonBuilder *b, const OutboxRow *row, const Dispute *d)
{
	char *text = unseal_text("disputes.evidence", d->id, d->evidence);
	const char *reason;

	if (text != NULL)
		json_add_json(b, "evidence", json_parse(text, strlen(text), &reason));
	json_add_bool(b, "submit", json_bool(row->arguments, "submit", true));
}

Description
dispute_describe(const OutboxRow *row)
{
	Dispute *d = dispute_load(row->object_id);
	JsonBuilder b;

	if (d == NULL)
		elog(ERROR, "dispute %s is gone", uuid_text(row->object_id));
	if (row->operation == OPERATION_DISPUTE_SUBMIT_EVIDENCE && !awaits_response(d) &&
		outbox_is_fresh(row))
		return (Description){OBSOLETE, NULL, "the dispute does not wait for an answer any more"};
	json_open(&b);
	json_add_text(&b, "dispute", d->provider_id);
	json_add_text(&b, "reference", uuid_text(d->id));
	if (row->operation == OPERATION_DISPUTE_SUBMIT_EVIDENCE)
		add_evidence(&b, row, d);
	return (Description){READY, json_close(&b), NULL};
}

Description
dispute_list_describe(const OutboxRow *row)
{
	return (Description){READY, row->arguments, NULL};
}

QUERY(note_error, "UPDATE billing.disputes SET error_code = $2, updated_at = now() WHERE id = $1",
	  UUIDOID, TEXTOID);

void
dispute_refused(const OutboxRow *row, const CallResult *result)
{
	RUN(note_error, arg_uuid(row->object_id),
		arg_text(result->error_code != NULL ? result->error_code : result->error_type));
}

/* ---- from the provider ---- */

QUERY(transition_allowed,
	  "SELECT FROM billing.dispute_transitions WHERE from_state = $1 AND to_state = $2", TEXTOID,
	  TEXTOID);
QUERY(
	adopt_dispute,
	"INSERT INTO billing.disputes (id, payment_intent_id, customer_id, organization_id, provider, account, livemode, "
	"status, amount, currency, created_at) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, coalesce($11, now()))",
	UUIDOID, UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, INT8OID, TEXTOID,
	TIMESTAMPTZOID);

/* Every dispute begins at the provider; it is ours when its payment is. */
static Dispute *
adopt(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const DisputeSnapshot *told = &snapshot->dispute;
	PaymentIntent *p = payment_intent_load(
		payment_intent_told(told->payment_intent, told->charge, news));
	const char *currency;
	pg_uuid_t *id;

	if (p == NULL || told->status == NULL)
	{
		*waiting_for = told->payment_intent != NULL ? told->payment_intent : told->charge;
		return NULL;
	}
	news_lock_customer(news, p->customer_id);
	id = snapshot_object(snapshot, news);
	if (id != NULL)
		return dispute_load(id);
	id = new_id();
	currency = told->currency != NULL ? told->currency : p->currency;
	RUN(adopt_dispute, arg_uuid(id), arg_uuid(p->id), arg_uuid(p->customer_id),
		arg_text(p->organization_id), arg_text(p->provider), arg_text(p->account),
		arg_bool(p->livemode), arg_text(told->status),
		arg_int(told->amount == NO_AMOUNT
					? p->amount_received
					: amount_from_wire(news->provider, currency, told->amount)),
		arg_text(currency), arg_time(told->created_at));
	event_record("dispute.created", "dispute", id, p->organization_id, NULL, told->status);
	return dispute_load(id);
}

QUERY(mirror_dispute,
	  "UPDATE billing.disputes SET status = $2, provider_status = coalesce($3, provider_status), "
	  "amount = coalesce($4, amount), reason = coalesce($5, reason), "
	  "evidence_due_by = coalesce($6, evidence_due_by), "
	  "error_code = NULL, updated_at = now() WHERE id = $1",
	  UUIDOID, TEXTOID, TEXTOID, INT8OID, TEXTOID, TIMESTAMPTZOID);
/* It was so at this time at the latest: the earliest that is told counts. */
QUERY(
	note_past,
	"UPDATE billing.disputes SET evidence_submitted_at = CASE WHEN $2 THEN least(evidence_submitted_at, $5) "
	"ELSE evidence_submitted_at END, "
	"funds_withdrawn_at = CASE WHEN $3 THEN least(funds_withdrawn_at, $5) ELSE funds_withdrawn_at END, "
	"funds_reinstated_at = CASE WHEN $4 THEN least(funds_reinstated_at, $5) ELSE funds_reinstated_at END, "
	"updated_at = now() WHERE id = $1 AND ($2 AND coalesce(evidence_submitted_at > $5, true) "
	"OR $3 AND coalesce(funds_withdrawn_at > $5, true) OR $4 AND coalesce(funds_reinstated_at > $5, true))",
	UUIDOID, BOOLOID, BOOLOID, BOOLOID, TIMESTAMPTZOID);

static void
mirror(const Dispute *d, const DisputeSnapshot *told, const News *news, const char *status)
{
	RUN(mirror_dispute, arg_uuid(d->id), arg_text(status), arg_text(told->provider_status),
		told->amount == NO_AMOUNT
			? arg_null()
			: arg_int(amount_from_wire(news->provider, d->currency, told->amount)),
		arg_text(told->reason), arg_time(told->evidence_due_by));
}

static void
record_funds(const Dispute *d, const DisputeSnapshot *told)
{
	if (told->funds_withdrawn && d->withdrawn_at == 0)
		event_record("dispute.funds_withdrawn", "dispute", d->id, d->organization_id, d->status,
					 d->status);
	if (told->funds_reinstated && d->reinstated_at == 0)
		event_record("dispute.funds_reinstated", "dispute", d->id, d->organization_id, d->status,
					 d->status);
}

/* How far it has come, for what is told of one second (refs.h). */
static int
stage_of(const char *status)
{
	static const struct
	{
		const char *status;
		int stage;
	} stages[] = {
		{"warning_needs_response", STAGE(0, 0)},
		{"warning_under_review", STAGE(0, 1)},
		{"needs_response", STAGE(1, 0)},
		{"under_review", STAGE(1, 1)},
		{"warning_closed", STAGE(2, 0)},
		{"prevented", STAGE(2, 1)},
		{"won", STAGE(2, 2)},
		{"lost", STAGE(2, 3)},
	};

	for (size_t i = 0; i < lengthof(stages); i++)
	{
		if (strcmp(stages[i].status, status) == 0)
			return stages[i].stage;
	}
	return STAGE(0, 0);
}

/* False: it is older than what is known. */
static bool
advance(const Dispute *d, const ProviderSnapshot *snapshot, const News *news)
{
	const DisputeSnapshot *told = &snapshot->dispute;
	const char *status = told->status != NULL ? told->status : d->status;

	if ((strcmp(status, d->status) != 0 &&
		 RUN(transition_allowed, arg_text(d->status), arg_text(status)) == 0) ||
		!ref_advance(snapshot, d->id, news, stage_of(status)))
		return false;
	mirror(d, told, news, status);
	if (strcmp(d->status, status) != 0)
		event_record(psprintf("dispute.%s", status), "dispute", d->id, d->organization_id,
					 d->status, status);
	return true;
}

Applied
dispute_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const DisputeSnapshot *told = &snapshot->dispute;
	pg_uuid_t *id = snapshot_object(snapshot, news);
	Dispute *d = dispute_load(id);
	bool newer;

	if (d != NULL && news_lock_customer(news, d->customer_id))
		d = dispute_load(id);
	if (d == NULL)
		d = adopt(snapshot, news, waiting_for);
	if (d == NULL)
		return SNAPSHOT_UNKNOWN;
	record_funds(d, told);
	/* that money has moved stays true, however late it is told */
	RUN(note_past, arg_uuid(d->id), arg_bool(told->evidence_submitted),
		arg_bool(told->funds_withdrawn), arg_bool(told->funds_reinstated), arg_time(news->as_of));
	newer = advance(d, snapshot, news);
	fee_take(BILLING_DISPUTE, d->id, &told->fee, news);
	collection_payment_changed(d->payment_intent_id);
	return newer ? SNAPSHOT_APPLIED : SNAPSHOT_STALE;
}

/*-------------------------------------------------------------------------
 *
 * collection.c
 *	  The duty that collects our own invoices.
 *
 * An open invoice is looked at when its next_attempt_at is due by the
 * organisation's clock.  One that is charged gets a payment intent, one that
 * is sent is announced and reminded of (dunning.c).  What comes of a payment is
 * told by its own news (collection_money.c).
 *
 * Each attempt is a row of dunning_attempts, and the request to the provider is
 * written with it in one transaction: a process that dies in between leaves
 * neither or both, and the request is sent once (outbox.c).  Customers are
 * locked first, as everywhere; one that a session holds is left for the next
 * pass.
 *
 *-------------------------------------------------------------------------
 */
#include "collection.h"

#include "audit.h"
#include "errors.h"
#include "payments.h"
#include "postponed.h"
#include "unit.h"
#include "wire_amounts.h"

/* So many in one unit, so that none lasts long. */
#define COLLECT_BATCH 100
/* After an error that concerns one invoice alone, or while a method is being attached. */
#define ERROR_PAUSE (INT64CONST(3600) * USECS_PER_SEC)

QUERY(
	load_invoice,
	"SELECT i.id, i.customer_id, i.organization_id, i.subscription_id, i.provider, i.account, i.status, i.number, "
	"i.currency, i.amount_paid, i.amount_remaining, i.collection_method, i.billing_reason, s.collect_by, i.issued_at, i.due_at, "
	"i.period_start, i.next_attempt_at, s.status, s.payment_method_id, i.error_code = 'overdue', s.metadata, "
	"coalesce(i.number, (SELECT l.description FROM billing.invoice_lines AS l WHERE l.invoice_id = i.id ORDER BY l.position LIMIT 1)) FROM billing.invoices AS i "
	"LEFT JOIN billing.subscriptions AS s ON s.id = i.subscription_id WHERE i.id = $1 AND i.managed_by = 'local'",
	UUIDOID);

OwnInvoice *
own_invoice_load(const pg_uuid_t *id)
{
	OwnInvoice *i;

	if (id == NULL || RUN(load_invoice, arg_uuid(id)) == 0)
		return NULL;
	i = palloc(sizeof(OwnInvoice));
	i->id = row_uuid(0, 1);
	i->customer_id = row_uuid(0, 2);
	i->organization_id = row_text(0, 3);
	i->subscription_id = row_uuid(0, 4);
	i->provider = row_text(0, 5);
	i->account = row_text(0, 6);
	i->status = row_text(0, 7);
	i->number = row_text(0, 8);
	i->currency = row_text(0, 9);
	i->amount_paid = row_int(0, 10);
	i->remaining = row_int(0, 11);
	i->collection_method = row_text(0, 12);
	i->reason = row_text(0, 13);
	i->collect_by = row_text(0, 14);
	i->issued_at = row_time(0, 15);
	i->due_at = row_time(0, 16);
	i->period_start = row_time(0, 17);
	i->next_attempt_at = row_time(0, 18);
	i->subscription_status = row_text(0, 19);
	i->subscription_method = row_uuid(0, 20);
	i->overdue = row_bool(0, 21);
	i->metadata = row_json(0, 22);
	i->title = row_text(0, 23);
	i->now = clock_now(i->organization_id);
	return i;
}

/* A reference is made also for one that is sent. */
bool
send_invoices_only(const OwnInvoice *invoice)
{
	return strcmp(invoice->collection_method, "send_invoice") == 0 && invoice->collect_by == NULL;
}

int
collection_lead_days(const BilledSubscription *s)
{
	return s->collect_by == NULL ? 0 : s->settings->lead_days;
}

QUERY(smallest_charge,
	  "SELECT min_amount FROM billing.provider_currencies WHERE provider = $1 AND currency = $2",
	  TEXTOID, TEXTOID);

int64
collection_minimum(const char *provider, const char *currency)
{
	int64 wire = RUN(smallest_charge, arg_text(provider), arg_text(currency)) == 0 ? 0
																				   : row_int(0, 1);
	int64 amount = amount_from_wire(provider, currency, wire);

	/* where the provider counts finer, rounding down would fall below */
	return wire > 0 && !provider_takes_amount(provider, currency, amount) ? amount + 1 : amount;
}

/* ---- when ---- */

QUERY(
	schedule_next,
	"UPDATE billing.invoices AS i SET next_attempt_at = coalesce((SELECT min(a.due_at) FROM billing.dunning_attempts AS a "
	"WHERE a.invoice_id = i.id AND (a.state = 'planned' OR (a.state = 'running' AND a.payment_intent_id IS NULL))), "
	"CASE WHEN $2 AND NOT EXISTS (SELECT FROM billing.dunning_attempts AS a WHERE a.invoice_id = i.id AND a.cause = 'schedule') "
	"AND i.error_code IS DISTINCT FROM 'overdue' THEN i.due_at END, "
	"CASE WHEN NOT EXISTS (SELECT FROM billing.dunning_attempts AS a WHERE a.invoice_id = i.id) THEN i.next_attempt_at END), "
	"updated_at = now() WHERE i.id = $1 AND i.status = 'open'",
	UUIDOID, BOOLOID);

void
collection_schedule(const OwnInvoice *invoice)
{
	RUN(schedule_next, arg_uuid(invoice->id), arg_bool(send_invoices_only(invoice)));
}

QUERY(wait_for_news,
	  "UPDATE billing.invoices SET next_attempt_at = $2, updated_at = now() WHERE id = $1", UUIDOID,
	  TIMESTAMPTZOID);

/* ---- an attempt ---- */

QUERY(
	add_attempt,
	"INSERT INTO billing.dunning_attempts (id, invoice_id, organization_id, attempt, kind, cause, due_at) "
	"SELECT $1, $2, $3, coalesce((SELECT max(a.attempt) FROM billing.dunning_attempts AS a WHERE a.invoice_id = $2), 0) + 1, $4, $5, $6",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);

pg_uuid_t *
attempt_add(const OwnInvoice *invoice, const char *cause)
{
	pg_uuid_t *id = new_id();

	RUN(add_attempt, arg_uuid(id), arg_uuid(invoice->id), arg_text(invoice->organization_id),
		arg_text(send_invoices_only(invoice) && strcmp(cause, "asked") != 0 ? "reminder"
																			: "charge"),
		arg_text(cause), arg_time(invoice->now));
	return id;
}

QUERY(
	paid_in_part,
	"SELECT FROM billing.dunning_attempts AS a WHERE a.invoice_id = $1 AND a.state = 'succeeded' AND a.kind = 'charge' "
	"AND NOT EXISTS (SELECT FROM billing.dunning_attempts AS b WHERE b.invoice_id = $1 "
	"AND (b.state IN ('planned', 'running') OR b.attempt > a.attempt)) LIMIT 1",
	UUIDOID);

/*
 * Nothing is on its way any more.  Where less came than was asked for and
 * nothing else is planned, the rest is asked for at once.
 */
void
collection_go_on(const pg_uuid_t *invoice_id)
{
	OwnInvoice *invoice = own_invoice_load(invoice_id);

	if (strcmp(invoice->status, "open") != 0)
		return;
	if (RUN(paid_in_part, arg_uuid(invoice_id)) > 0)
		(void) attempt_add(invoice, "issue");
	collection_schedule(invoice);
}

/* What a provider sells as the seller it alone can charge, and nothing else: it would tax it. */
QUERY(
	method_to_charge,
	"SELECT m.id, m.type, m.provider, m.account FROM billing.payment_methods AS m WHERE m.customer_id = $1 "
	"AND (m.state = 'attached' OR (m.state = 'pending' AND EXISTS (SELECT FROM billing.outbox AS o "
	"WHERE o.object_id = m.id AND o.operation = 'payment_method.attach' AND o.state <> 'dead'))) "
	"AND (m.id = $2 OR m.is_default) AND (m.provider = $3 OR NOT EXISTS (SELECT FROM billing.providers AS p "
	"WHERE p.merchant_of_record AND p.name IN (m.provider, $3))) ORDER BY (m.id IS NOT DISTINCT FROM $2) DESC LIMIT 1",
	UUIDOID, UUIDOID, TEXTOID);

typedef struct ChargeWith
{
	const char *reference; /* oxxo, spei: one is made; NULL: what follows is charged */
	pg_uuid_t *method_id;  /* NULL: there is none */
	char *type;
	char *provider;
	char *account;
} ChargeWith;

static ChargeWith
charge_with(const OwnInvoice *invoice, const pg_uuid_t *payment_method_id, const char *method)
{
	ChargeWith with = {
		.reference = method, .provider = invoice->provider, .account = invoice->account};

	if (method == NULL && payment_method_id == NULL)
		with.reference = invoice->collect_by;
	if (with.reference != NULL ||
		RUN(method_to_charge, arg_uuid(invoice->customer_id),
			arg_uuid(payment_method_id != NULL ? payment_method_id : invoice->subscription_method),
			arg_text(invoice->provider)) == 0)
		return with;
	with.method_id = row_uuid(0, 1);
	with.type = row_text(0, 2);
	with.provider = row_text(0, 3);
	with.account = row_text(0, 4);
	return with;
}

/* What the customer pays to by himself, again and again. */
static bool
is_reusable_reference(const char *type)
{
	return type != NULL &&
		   (strcmp(type, "cash_recurrent") == 0 || strcmp(type, "spei_recurrent") == 0);
}

QUERY(
	next_planned,
	"SELECT min(due_at) FROM billing.dunning_attempts WHERE invoice_id = $1 AND state = 'planned' AND id <> $2 AND due_at > $3",
	UUIDOID, UUIDOID, TIMESTAMPTZOID);

/*
 * Until when a reference can be paid: the due date of the invoice and a grace,
 * later on until the next one is due to be made.
 */
static TimestampTz
reference_until(const OwnInvoice *invoice, const pg_uuid_t *attempt_id)
{
	TimestampTz grace = (TimestampTz) (setting_seconds("reference_grace", 3.0 * SECS_PER_DAY) *
									   USECS_PER_SEC);
	TimestampTz due = Max(invoice->due_at != 0 ? invoice->due_at : invoice->issued_at,
						  invoice->period_start);

	if (RUN(next_planned, arg_uuid(invoice->id), arg_uuid(attempt_id), arg_time(invoice->now)) >
			0 &&
		!row_null(0, 1))
		return row_time(0, 1);
	return Max(due, invoice->now) + Max(grace, USECS_PER_HOUR);
}

QUERY(
	run_attempt,
	"UPDATE billing.dunning_attempts SET state = 'running', payment_method_id = $2, payment_intent_id = $3, started_at = $4, "
	"due_at = coalesce($5, due_at) WHERE id = $1",
	UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
QUERY(
	note_attempt,
	"UPDATE billing.invoices SET attempt_count = attempt_count + 1, next_attempt_at = $2, updated_at = now() WHERE id = $1",
	UUIDOID, TIMESTAMPTZOID);

static void
need_customer(const OwnInvoice *invoice)
{
	event_record("invoice.payment_action_required", "invoice", invoice->id,
				 invoice->organization_id, invoice->status, invoice->status);
}

QUERY(began_by_itself,
	  "SELECT FROM billing.dunning_attempts AS a JOIN billing.scheduled_changes AS c "
	  "ON c.subscription_id = $2 AND c.kind = 'start' WHERE a.id = $1 AND a.cause = 'issue'",
	  UUIDOID, UUIDOID);

/*
 * The first payment of a subscription: who has just subscribed can authenticate
 * it.  Where that was long ago and it begins now, nobody can; who pays what was
 * declined then can again.
 */
static bool
customer_is_present(const OwnInvoice *invoice, const pg_uuid_t *attempt_id)
{
	return strcmp(invoice->reason, "subscription_create") == 0 &&
		   strcmp(invoice->subscription_status, "incomplete") == 0 &&
		   RUN(began_by_itself, arg_uuid(attempt_id), arg_uuid(invoice->subscription_id)) == 0;
}

static void
start_with(const OwnInvoice *invoice, const pg_uuid_t *attempt_id, const ChargeWith *with)
{
	bool waits = with->reference == NULL && is_reusable_reference(with->type);
	TimestampTz until = waits || with->reference != NULL ? reference_until(invoice, attempt_id) : 0;
	InvoiceCharge charge = {
		.invoice_id = invoice->id,
		.amount = invoice->remaining,
		.currency = invoice->currency,
		.description = invoice->title,
		.payment_method_id = with->method_id,
		.method = with->reference,
		.customer_present = customer_is_present(invoice, attempt_id),
		.expires_at = until,
		.metadata = invoice->metadata,
		.provider = with->provider,
		.account = with->account,
	};
	pg_uuid_t *payment = NULL;

	if (!waits)
		payment = payment_intent_for_invoice(customer_load(invoice->customer_id, true), &charge);
	RUN(run_attempt, arg_uuid(attempt_id), arg_uuid(with->method_id), arg_uuid(payment),
		arg_time(invoice->now), arg_time(waits ? until : 0));
	RUN(note_attempt, arg_uuid(invoice->id), arg_time(waits ? until : 0));
	if (!waits && with->reference == NULL)
		return;
	need_customer(invoice);
	if (invoice->subscription_id != NULL)
		engine_wait_for_payment(invoice->subscription_id, until + USECS_PER_DAY);
}

void
attempt_start(const OwnInvoice *invoice, const pg_uuid_t *attempt_id,
			  const pg_uuid_t *payment_method_id, const char *method)
{
	ChargeWith with = charge_with(invoice, payment_method_id, method);

	if (with.reference == NULL && with.method_id == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_NOT_NULL_VIOLATION),
			 errmsg("there is nothing to charge invoice \"%s\" to", uuid_text(invoice->id)),
			 errdetail("The customer has no default payment method."),
			 errhint(
				 "Use billing.attach_payment_method() while the customer is there, or pass a method that makes a reference.")));
	start_with(invoice, attempt_id, &with);
}

/* ---- the duty ---- */

typedef struct Start
{
	const OwnInvoice *invoice;
	const pg_uuid_t *attempt_id;
	const ChargeWith *with;
} Start;

static void
start_it(void *context)
{
	const Start *start = context;

	start_with(start->invoice, start->attempt_id, start->with);
}

/* Why it could not even be asked for, in the words of decline_rules. */
static const char *
code_of_error(const char *sqlstate)
{
	return strcmp(sqlstate, "JB004") == 0 ? "not_supported" : "not_possible";
}

/* What passes by itself is an error of the invoice as a whole: then nothing of it is kept. */
static void
start_or_fail(const OwnInvoice *invoice, const pg_uuid_t *attempt_id, const ChargeWith *with)
{
	Start start = {invoice, attempt_id, with};
	char *sqlstate;
	char *message;

	if (guarded(start_it, &start, &sqlstate, &message))
		return;
	if (sqlstate_passes(sqlstate))
		ereport(ERROR, (errcode(MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3],
											  sqlstate[4])),
						errmsg_internal("%s", message)));
	ereport(LOG, (errmsg("invoice \"%s\" of billing cannot be charged: %s", uuid_text(invoice->id),
						 message)));
	dunning_failed(invoice, attempt_id, code_of_error(sqlstate), sqlstate);
	need_customer(invoice);
}

QUERY(
	due_attempt,
	"SELECT id, payment_method_id, kind = 'reminder' FROM billing.dunning_attempts "
	"WHERE invoice_id = $1 AND state = 'planned' AND due_at <= $2 ORDER BY due_at, attempt LIMIT 1",
	UUIDOID, TIMESTAMPTZOID);
QUERY(any_attempt, "SELECT FROM billing.dunning_attempts WHERE invoice_id = $1 LIMIT 1", UUIDOID);
QUERY(
	being_attached,
	"SELECT FROM billing.payment_methods WHERE customer_id = $1 AND state = 'pending' AND (id = $2 OR $3) LIMIT 1",
	UUIDOID, UUIDOID, BOOLOID);
QUERY(wait_for_method,
	  "UPDATE billing.invoices SET next_attempt_at = $2, updated_at = now() WHERE id = $1", UUIDOID,
	  TIMESTAMPTZOID);

/*
 * The method of the subscription is being attached, or the first one of the
 * customer: the first attempt is for it, collection_method_settled() looks again.
 */
static bool
waits_for_method(const OwnInvoice *invoice)
{
	ChargeWith with = charge_with(invoice, NULL, NULL);

	if (with.reference != NULL ||
		RUN(being_attached, arg_uuid(invoice->customer_id), arg_uuid(invoice->subscription_method),
			arg_bool(with.method_id == NULL)) == 0)
		return false;
	RUN(wait_for_method, arg_uuid(invoice->id), arg_time(invoice->now + ERROR_PAUSE));
	return true;
}

QUERY(method_refused, "SELECT FROM billing.payment_methods WHERE id = $1 AND state = 'failed'",
	  UUIDOID);

/* Why nothing can be charged: the provider refused the method of the subscription, or there is none. */
static const char *
why_without_method(const OwnInvoice *invoice)
{
	if (invoice->subscription_method != NULL &&
		RUN(method_refused, arg_uuid(invoice->subscription_method)) > 0)
		return "payment_method_refused";
	return "no_payment_method";
}

static void
charge_due(const OwnInvoice *invoice)
{
	pg_uuid_t *attempt_id;
	ChargeWith with;
	const char *why;
	TimestampTz until;

	if (RUN(any_attempt, arg_uuid(invoice->id)) == 0)
	{
		if (waits_for_method(invoice))
			return;
		(void) attempt_add(invoice, "issue");
	}
	if (payment_in_flight(invoice->id, &until))
	{
		RUN(wait_for_news, arg_uuid(invoice->id), arg_time(until));
		return;
	}
	dunning_keep_distance(invoice);
	if (RUN(due_attempt, arg_uuid(invoice->id), arg_time(invoice->now)) == 0)
	{
		collection_schedule(invoice);
		return;
	}
	attempt_id = row_uuid(0, 1);
	if (row_bool(0, 3))
	{
		dunning_ask(invoice, attempt_id);
		return;
	}
	with = charge_with(invoice, row_uuid(0, 2), NULL);
	if (invoice->remaining < collection_minimum(with.provider, invoice->currency))
	{
		dunning_leave(invoice, attempt_id, "below_minimum");
		return;
	}
	why = dunning_forbids(invoice, attempt_id, with.method_id,
						  with.reference == NULL ? with.type : with.reference);
	if (why != NULL)
		dunning_skip(invoice, attempt_id, why);
	else if (with.reference == NULL && with.method_id == NULL)
	{
		dunning_failed(invoice, attempt_id, why_without_method(invoice), NULL);
		need_customer(invoice);
	}
	else
		start_or_fail(invoice, attempt_id, &with);
}

static void
collect(void *context)
{
	const pg_uuid_t *id = context;
	OwnInvoice *invoice = own_invoice_load(id);

	/* it may have moved on since the list was made */
	if (invoice == NULL || strcmp(invoice->status, "open") != 0 || invoice->next_attempt_at == 0 ||
		invoice->next_attempt_at > invoice->now)
		return;
	if (dunning_catch_up(invoice))
	{
		invoice = own_invoice_load(id);
		if (strcmp(invoice->status, "open") != 0 || invoice->next_attempt_at == 0 ||
			invoice->next_attempt_at > invoice->now)
			return;
	}
	if (send_invoices_only(invoice))
		dunning_remind(invoice);
	else
		charge_due(invoice);
}

static void
collect_as_cause(void *context)
{
	audit_caused(AUDIT_WORKER, uuid_text(context), collect, context);
}

QUERY(
	try_later,
	"UPDATE billing.invoices SET next_attempt_at = $2, error_code = $3, updated_at = now() WHERE id = $1",
	UUIDOID, TIMESTAMPTZOID, TEXTOID);

/* One that could not be collected, and why. */
typedef struct Uncollected
{
	pg_uuid_t *id;
	const char *organization_id;
	bool was_left_out;
	char *sqlstate;
} Uncollected;

static void
put_one_off(void *context)
{
	const Uncollected *uncollected = context;

	RUN(try_later, arg_uuid(uncollected->id),
		arg_time(clock_now(uncollected->organization_id) + ERROR_PAUSE),
		arg_text(uncollected->sqlstate));
}

static void
leave_out(void *context)
{
	const Uncollected *uncollected = context;

	(void) work_postpone(&(Undone){.what = "invoice cannot be collected",
								   .object_type = "invoice",
								   .id = uncollected->id,
								   .organization_id = uncollected->organization_id,
								   .sqlstate = uncollected->sqlstate});
}

typedef enum Collected
{
	COLLECTED, /* or put off */
	IN_THE_WAY /* of a session: left out for a moment */
} Collected;

/* One that cannot be collected holds nothing else up. */
static Collected
collect_one(Uncollected *invoice)
{
	char *sqlstate;
	char *message;

	if (guarded(collect_as_cause, invoice->id, &invoice->sqlstate, &message))
	{
		if (invoice->was_left_out)
			work_resume(&invoice->id, 1);
		return COLLECTED;
	}
	if (sqlstate_passes(invoice->sqlstate))
	{
		(void) guarded(leave_out, invoice, &sqlstate, &message);
		return IN_THE_WAY;
	}
	ereport(LOG, (errmsg("invoice \"%s\" of billing cannot be collected: %s",
						 uuid_text(invoice->id), message)));
	/* what keeps it from being collected (a trigger of somebody) may keep it from this, too */
	if (!guarded(put_one_off, invoice, &sqlstate, &message))
		(void) guarded(leave_out, invoice, &sqlstate, &message);
	return COLLECTED;
}

/*
 * Time is the test clock's where the organisation has one; those are few, and
 * asked for apart, so that the index on next_attempt_at is of use: for the same
 * reason the time is asked for in a SELECT of its own, once.  Held, as requests
 * are: what is bound elsewhere.
 */
#define HELD_OR_NOT                                                                                           \
	"JOIN billing.customers AS u ON u.id = i.customer_id JOIN billing.providers AS p ON p.name = i.provider " \
	"JOIN billing.provider_accounts AS a ON a.provider = i.provider AND a.account = i.account "
#define NOT_HELD \
	"(p.embedded OR (a.bound_to = $2 AND a.stopped_at IS NULL)) AND " NOT_POSTPONED "i.id) "
QUERY_IN_ORDER(
	due_invoices,
	"SELECT i.id, i.organization_id, " WAS_POSTPONED "i.id) FROM billing.invoices AS i " HELD_OR_NOT
	"WHERE i.managed_by = 'local' AND i.status = 'open' AND i.next_attempt_at <= (SELECT clock_timestamp()) AND " NOT_HELD
	"AND NOT EXISTS (SELECT FROM billing.sandbox_clocks AS k WHERE k.organization_id = i.organization_id) "
	"ORDER BY i.next_attempt_at LIMIT $1 FOR NO KEY UPDATE OF u SKIP LOCKED",
	INT8OID, TEXTOID);
QUERY(
	due_by_clock,
	"SELECT i.id, i.organization_id, " WAS_POSTPONED
	"i.id) FROM billing.sandbox_clocks AS k CROSS JOIN LATERAL (SELECT * FROM billing.invoices AS o "
	"WHERE o.organization_id = k.organization_id AND o.managed_by = 'local' AND o.status = 'open' AND o.next_attempt_at <= k.now OFFSET 0) AS i " HELD_OR_NOT
	"WHERE " NOT_HELD "ORDER BY i.next_attempt_at LIMIT $1 FOR NO KEY UPDATE OF u SKIP LOCKED",
	INT8OID, TEXTOID);

static int
collect_all(SqlQuery *query)
{
	int done = 0;
	int in_the_way = 0;
	Rows rows;

	query_run(query, (const Arg[]){arg_int(COLLECT_BATCH), arg_text(database_binding())});
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows) && in_the_way < PASSING_MOST; i++)
	{
		Uncollected invoice = {.id = rows_uuid(rows, i, 1),
							   .organization_id = rows_text(rows, i, 2),
							   .was_left_out = rows_bool(rows, i, 3)};

		if (collect_one(&invoice) == COLLECTED)
			done++;
		else
			in_the_way++;
	}
	return done;
}

static void
run_due(void *context)
{
	*(int *) context = collect_all(&due_invoices) + collect_all(&due_by_clock);
}

int
collection_pass(void)
{
	int done = 0;

	return unit_run(run_due, &done, "collect invoices") ? done : 0;
}

/* ---- a new method ---- */

/* A charge is on its way that may yet fail: what comes meanwhile is tried after it. */
#define IN_FLIGHT "a.state = 'running' AND a.payment_intent_id IS NOT NULL"
/* A reference that is paid again and again is waited for: nothing else is asked for meanwhile. */
#define WAITED_FOR "a.state = 'running' AND a.payment_intent_id IS NULL"

/*
 * The default method of the customer, or the one that the subscription has now.
 * One that was tried is not new, however often it is told; nor is one, while a
 * charge of another is in flight, that was there before it.  One that is planned
 * already gives way to the latest.
 */
QUERY(
	waiting_for_method,
	"SELECT DISTINCT ON (i.issued_at, i.id) i.id, CASE WHEN s.collect_by IS NULL THEN m.id END, "
	"(SELECT a.id FROM billing.dunning_attempts AS a WHERE a.invoice_id = i.id AND a.state = 'planned' AND a.cause = 'new_method') "
	"FROM billing.payment_methods AS m "
	"JOIN billing.invoices AS i ON i.customer_id = m.customer_id LEFT JOIN billing.subscriptions AS s ON s.id = i.subscription_id "
	"WHERE m.customer_id = $1 AND (m.is_default OR m.id = s.payment_method_id) AND m.state = 'attached' "
	"AND i.managed_by = 'local' AND i.status = 'open' AND i.collection_method = 'charge_automatically' "
	"AND EXISTS (SELECT FROM billing.dunning_attempts AS a LEFT JOIN billing.payment_intents AS p ON p.id = a.payment_intent_id "
	"WHERE a.invoice_id = i.id AND (a.state = 'failed' "
	"OR (" IN_FLIGHT " AND (m.id = s.payment_method_id OR m.updated_at > p.created_at)))) "
	"AND NOT EXISTS (SELECT FROM billing.dunning_attempts AS a WHERE a.invoice_id = i.id "
	"AND (" WAITED_FOR " OR a.payment_method_id = m.id)) "
	"ORDER BY i.issued_at, i.id, (m.id IS NOT DISTINCT FROM s.payment_method_id) DESC",
	UUIDOID);
QUERY(attempt_with, "UPDATE billing.dunning_attempts SET payment_method_id = $2 WHERE id = $1",
	  UUIDOID, UUIDOID);

QUERY(
	look_for_method,
	"UPDATE billing.invoices AS i SET next_attempt_at = coalesce((SELECT k.now FROM billing.sandbox_clocks AS k "
	"WHERE k.organization_id = i.organization_id), now()), updated_at = now() WHERE i.customer_id = $1 AND i.managed_by = 'local' "
	"AND i.status = 'open' AND i.collection_method = 'charge_automatically' AND i.next_attempt_at IS NOT NULL "
	"AND NOT EXISTS (SELECT FROM billing.dunning_attempts AS a WHERE a.invoice_id = i.id)",
	UUIDOID);

void
collection_method_settled(const pg_uuid_t *customer_id)
{
	if (RUN(look_for_method, arg_uuid(customer_id)) > 0)
		worker_wake_at_commit();
}

/* With the new one, whatever the subscription is charged to else. */
void
collection_method_arrived(const pg_uuid_t *customer_id)
{
	Rows rows;

	collection_method_settled(customer_id);
	if (RUN(waiting_for_method, arg_uuid(customer_id)) == 0)
		return;
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows); i++)
	{
		OwnInvoice *invoice = own_invoice_load(rows_uuid(rows, i, 1));
		pg_uuid_t *planned = rows_uuid(rows, i, 3);

		RUN(attempt_with, arg_uuid(planned != NULL ? planned : attempt_add(invoice, "new_method")),
			arg_uuid(rows_uuid(rows, i, 2)));
		collection_schedule(invoice);
	}
	worker_wake_at_commit();
}

QUERY(
	waiting_for_reference,
	"SELECT i.id FROM billing.invoices AS i WHERE i.subscription_id = $1 AND i.managed_by = 'local' AND i.status = 'open' "
	"AND i.collection_method = 'charge_automatically' "
	"AND EXISTS (SELECT FROM billing.dunning_attempts AS a WHERE a.invoice_id = i.id AND (a.state = 'failed' OR " IN_FLIGHT
	")) "
	"AND NOT EXISTS (SELECT FROM billing.dunning_attempts AS a WHERE a.invoice_id = i.id "
	"AND (" WAITED_FOR
	" OR (a.state = 'planned' AND a.cause = 'new_method'))) ORDER BY i.issued_at, i.id",
	UUIDOID);

void
collection_reference_chosen(const pg_uuid_t *subscription_id)
{
	Rows rows;

	if (RUN(waiting_for_reference, arg_uuid(subscription_id)) == 0)
		return;
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows); i++)
	{
		OwnInvoice *invoice = own_invoice_load(rows_uuid(rows, i, 1));

		(void) attempt_add(invoice, "new_method");
		collection_schedule(invoice);
	}
	worker_wake_at_commit();
}

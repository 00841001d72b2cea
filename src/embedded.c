/*-------------------------------------------------------------------------
 *
 * embedded.c
 *	  The far side of embedded providers: state, clock, webhooks.
 *
 * An embedded provider is a function of a request and the state of one
 * customer.  This file keeps the state in a table, tells the provider the
 * organisation's time, and lets its webhooks come in by the same door as
 * those of every other provider.
 *
 *-------------------------------------------------------------------------
 */
#include "embedded.h"

#include "check.h"
#include "errors.h"
#include "postponed.h"
#include "subjects.h"
#include "unit.h"
#include "webhooks.h"

#define DELIVERY_BATCH 50

/* ---- state ---- */

QUERY(
	load_state,
	"SELECT s.state, s.account FROM billing.sandbox_state AS s WHERE s.customer_id = $1 FOR UPDATE",
	UUIDOID);
QUERY(
	save_state,
	"INSERT INTO billing.sandbox_state (customer_id, account, state, next_due) VALUES ($1, $2, $3, $4) "
	"ON CONFLICT (customer_id) DO UPDATE SET state = excluded.state, next_due = excluded.next_due",
	UUIDOID, TEXTOID, JSONBOID, TIMESTAMPTZOID);
QUERY(
	queue_delivery,
	"INSERT INTO billing.sandbox_deliveries (event_id, customer_id, account, payload) VALUES ($1, $2, $3, $4)",
	TEXTOID, UUIDOID, TEXTOID, TEXTOID);
QUERY(
	take_fault,
	"UPDATE billing.sandbox_faults SET times = times - 1 WHERE id = ("
	"SELECT id FROM billing.sandbox_faults WHERE operation = $1 AND times > 1 ORDER BY id LIMIT 1 FOR UPDATE) "
	"RETURNING outcome",
	TEXTOID);
QUERY(take_last_fault,
	  "DELETE FROM billing.sandbox_faults WHERE id = ("
	  "SELECT id FROM billing.sandbox_faults WHERE operation = $1 ORDER BY id LIMIT 1 FOR UPDATE) "
	  "RETURNING outcome",
	  TEXTOID);
QUERY(any_fault,
	  "SELECT times FROM billing.sandbox_faults WHERE operation = $1 ORDER BY id LIMIT 1", TEXTOID);

static const char *
next_fault(Operation operation)
{
	const char *name = operation_name(operation);

	if (RUN(any_fault, arg_text(name)) == 0)
		return NULL;
	if (row_int4(0, 1) > 1 ? RUN(take_fault, arg_text(name)) : RUN(take_last_fault, arg_text(name)))
		return row_text(0, 1);
	return NULL;
}

static EmbeddedExchange
exchange_open(const pg_uuid_t *customer_id, TimestampTz now, const ProviderAccount *account)
{
	EmbeddedExchange exchange = {.now = now, .account = account};

	/* two requests of a customer never run at once: its ordering key sees to that */
	if (RUN(load_state, arg_uuid(customer_id)) > 0)
		exchange.state = row_json(0, 1);
	return exchange;
}

static void
exchange_close(const EmbeddedExchange *exchange, const pg_uuid_t *customer_id)
{
	ListCell *cell;

	if (exchange->new_state != NULL)
		RUN(save_state, arg_uuid(customer_id), arg_text(exchange->account->account),
			arg_json(exchange->new_state), arg_time(exchange->next_due));
	foreach (cell, exchange->events)
	{
		const EmbeddedEvent *event = lfirst(cell);

		RUN(queue_delivery, arg_text(event->id), arg_uuid(customer_id),
			arg_text(exchange->account->account), arg_text(event->payload));
	}
	if (exchange->events != NIL)
		worker_wake_at_commit();
}

typedef struct Performance
{
	const OutboxRow *row;
	const ProviderAccount *account;
	const ProviderRequest *request;
	const char *wire_key;
	HttpResponse *response;
} Performance;

static void
perform(void *context)
{
	Performance *p = context;
	const pg_uuid_t *customer_id = p->row->ordering_key;
	Customer *customer = customer_load(customer_id, false);
	EmbeddedExchange exchange;

	if (customer == NULL)
		elog(ERROR, "customer %s is gone", uuid_text(customer_id));
	exchange = exchange_open(customer_id, clock_now(customer->organization_id), p->account);
	exchange.fault = next_fault(p->row->operation);
	provider_find(p->row->provider)
		->embedded->perform(&exchange, p->request, p->wire_key, p->response);
	p->response->sent_at = exchange.now;
	p->response->received_at = exchange.now;
	exchange_close(&exchange, customer_id);
}

bool
embedded_perform(const OutboxRow *row, const ProviderAccount *account,
				 const ProviderRequest *request, const char *wire_key, HttpResponse *response)
{
	Performance p = {row, account, request, wire_key, response};

	return unit_run(perform, &p, "carry out a request of the sandbox");
}

/* ---- time ---- */

/* Which embedded provider keeps a customer's state. */
QUERY(state_account,
	  "SELECT p.name, s.account FROM billing.sandbox_state AS s, billing.providers AS p "
	  "WHERE s.customer_id = $1 AND p.embedded LIMIT 1",
	  UUIDOID);

void
embedded_elapse_customer(const pg_uuid_t *customer_id, TimestampTz now)
{
	Account *account;
	EmbeddedExchange exchange;

	if (RUN(state_account, arg_uuid(customer_id)) == 0)
		return;
	account = account_get(row_text(0, 1), row_text(0, 2));
	exchange = exchange_open(customer_id, now, account_public(account));
	account->module->embedded->elapse(&exchange);
	exchange_close(&exchange, customer_id);
}

QUERY_IN_ORDER(
	due_now,
	"SELECT s.customer_id, c.organization_id, " WAS_POSTPONED
	"s.customer_id) FROM billing.sandbox_state AS s JOIN billing.customers AS c ON c.id = s.customer_id "
	"WHERE s.next_due <= clock_timestamp() AND " NOT_POSTPONED
	"s.customer_id) AND NOT EXISTS (SELECT FROM billing.sandbox_clocks AS k WHERE k.organization_id = c.organization_id) "
	"ORDER BY s.next_due LIMIT $1 FOR UPDATE OF s SKIP LOCKED",
	INT8OID);

static void
elapse_now(void *context)
{
	embedded_elapse_customer(context, GetCurrentTimestamp());
}

static void
leave_out(void *context)
{
	(void) work_postpone(context);
}

/* What is wrong with one customer's state holds up no other's. */
static void
elapse_one(pg_uuid_t *customer_id, const char *organization_id, bool was_left_out)
{
	Undone undone = {.what = "sandbox cannot be played",
					 .object_type = "customer",
					 .id = customer_id,
					 .organization_id = organization_id};
	char *sqlstate;
	char *message;

	if (guarded(elapse_now, customer_id, &sqlstate, &message))
	{
		if (was_left_out)
			work_resume(&customer_id, 1);
		return;
	}
	undone.sqlstate = sqlstate;
	ereport(LOG, (errmsg("the sandbox of customer %s cannot be played: %s", uuid_text(customer_id),
						 message),
				  errdetail("SQLSTATE %s. It is tried again later.", sqlstate)));
	(void) guarded(leave_out, &undone, &sqlstate, &message);
}

static void
elapse_due(void *context)
{
	int64 count = RUN(due_now, arg_int(DELIVERY_BATCH));
	Rows rows = rows_keep();

	for (int64 i = 0; i < count; i++)
		elapse_one(rows_uuid(rows, i, 1), rows_text(rows, i, 2), rows_bool(rows, i, 3));
	*(int *) context = (int) count;
}

int
embedded_elapse(void)
{
	int count = 0;

	return unit_run(elapse_due, &count, "play what is due in the sandbox") ? count : 0;
}

/* ---- webhooks ---- */

QUERY(
	due_delivery,
	"SELECT d.seq, p.name, d.account, d.payload FROM billing.sandbox_deliveries AS d "
	"CROSS JOIN billing.providers AS p "
	"WHERE p.embedded AND d.delivered_at IS NULL AND d.due_at <= clock_timestamp() "
	"AND NOT EXISTS (SELECT FROM billing.sandbox_deliveries AS e WHERE e.customer_id = d.customer_id "
	"AND e.delivered_at IS NULL AND (e.due_at, e.seq) < (d.due_at, d.seq)) "
	"ORDER BY d.due_at, d.seq LIMIT 1 FOR UPDATE OF d SKIP LOCKED",
	InvalidOid);
QUERY(mark_delivered,
	  "UPDATE billing.sandbox_deliveries SET delivered_at = clock_timestamp() WHERE seq = $1",
	  INT8OID);
QUERY(
	put_off_delivery,
	"UPDATE billing.sandbox_deliveries SET due_at = clock_timestamp() + interval '10 seconds' WHERE seq = $1",
	INT8OID);

typedef struct Incoming
{
	const char *provider;
	const char *account;
	const char *payload;
} Incoming;

/* In a subtransaction: a webhook that raises is sent again, like by any provider. */
static void
hand_in(void *context)
{
	const Incoming *incoming = context;
	Account *account = account_get(incoming->provider, incoming->account);
	Jsonb *headers = account->module->embedded->sign(
		incoming->payload, account_embedded_secret(account), GetCurrentTimestamp());

	webhook_handle(incoming->provider, incoming->payload, strlen(incoming->payload), headers,
				   incoming->account);
}

/*
 * The oldest of a customer first: one that another process is just handing in
 * keeps the later ones back.  One to a unit: a unit that held the rows of many customers could
 * meet a statement of the application that wants the same ones.
 */
static bool
deliver_one(void)
{
	Incoming incoming;
	int64 seq;
	char *sqlstate;
	char *message;

	if (!unit_begin())
		return false;
	if (RUN(due_delivery, arg_null()) == 0)
	{
		unit_commit();
		return false;
	}
	seq = row_int(0, 1);
	incoming = (Incoming){row_text(0, 2), row_text(0, 3), row_text(0, 4)};
	if (guarded(hand_in, &incoming, &sqlstate, &message))
		RUN(mark_delivered, arg_int(seq));
	else
	{
		ereport(LOG, (errmsg("a webhook of the %s was not taken: %s", incoming.provider, message)));
		RUN(put_off_delivery, arg_int(seq));
	}
	unit_commit();
	return true;
}

int
embedded_deliver(void)
{
	int count = 0;

	while (count < DELIVERY_BATCH && deliver_one())
		count++;
	return count;
}

QUERY(
	next_embedded,
	"SELECT least((SELECT s.next_due FROM billing.sandbox_state AS s WHERE s.next_due IS NOT NULL AND " NOT_POSTPONED
	"s.customer_id) AND NOT EXISTS (SELECT FROM billing.customers AS c JOIN billing.sandbox_clocks AS k "
	"ON k.organization_id = c.organization_id WHERE c.id = s.customer_id) ORDER BY s.next_due LIMIT 1), "
	"(SELECT min(due_at) FROM billing.sandbox_deliveries WHERE delivered_at IS NULL))",
	InvalidOid);

long
embedded_next_due(void)
{
	TimestampTz due;
	TimestampTz now = GetCurrentTimestamp();

	if (!unit_begin())
		return -1;
	RUN(next_embedded, arg_null());
	due = row_time(0, 1);
	unit_commit();
	return due == 0 ? -1 : due <= now ? 0 : (long) Min((due - now) / 1000 + 1, 3600 * 1000);
}

/* ---- the buyer ---- */

const char *
embedded_act(const Buyer *buyer, const char *action, const char *reference, const Jsonb *arguments)
{
	Account *account = account_get(buyer->provider, buyer->account);
	EmbeddedExchange exchange;

	outbox_lock_customer(buyer->customer_id);
	exchange = exchange_open(buyer->customer_id, clock_now(buyer->organization_id),
							 account_public(account));
	account->module->embedded->act(&exchange, action, reference, arguments);
	if (exchange.refused == NULL)
		exchange_close(&exchange, buyer->customer_id);
	return exchange.refused;
}

/* ---- trouble ---- */

static const char *const fault_words[] = {"timeout_after_success", "429", "500", "declined", NULL};
static const char *const redeliver_words[] = {"duplicate", "delay", "reorder", NULL};

QUERY(insert_fault,
	  "INSERT INTO billing.sandbox_faults (operation, outcome, times) VALUES ($1, $2, $3)", TEXTOID,
	  TEXTOID, INT4OID);

SQL_FUNCTION(billing_sandbox_fail_next)
{
	char *operation = ARG_TEXT(0);
	char *outcome = ARG_TEXT(1);
	int times = ARG_INT4(2, 1);

	db_open();
	check_given("operation", operation != NULL);
	check_given("outcome", outcome != NULL);
	check_word("outcome", outcome, fault_words);
	if (operation_by_name(operation) == OPERATION_COUNT)
	{
		StringInfoData names;

		initStringInfo(&names);
		for (int i = 0; i < OPERATION_COUNT; i++)
			appendStringInfo(&names, "%s%s", i == 0 ? "" : ", ", operation_name((Operation) i));
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("unknown operation \"%s\"", operation),
						errhint("It is one of: %s.", names.data)));
	}
	if (times < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("times must be at least 1")));
	RUN(insert_fault, arg_text(operation), arg_text(outcome), arg_int4(times));
	db_close();
	PG_RETURN_VOID();
}

QUERY(find_delivery,
	  "SELECT seq, delivered_at IS NOT NULL FROM billing.sandbox_deliveries WHERE event_id = $1 "
	  "ORDER BY seq LIMIT 1 FOR UPDATE",
	  TEXTOID);
QUERY(
	deliver_again,
	"INSERT INTO billing.sandbox_deliveries (event_id, customer_id, account, payload, due_at) "
	"SELECT event_id, customer_id, account, payload, now() FROM billing.sandbox_deliveries WHERE seq = $1",
	INT8OID);
QUERY(delay_delivery,
	  "UPDATE billing.sandbox_deliveries SET due_at = now() + interval '1 hour' WHERE seq = $1",
	  INT8OID);
QUERY(
	deliver_last,
	"UPDATE billing.sandbox_deliveries SET due_at = greatest(now(), (SELECT max(due_at) + interval '1 microsecond' "
	"FROM billing.sandbox_deliveries WHERE delivered_at IS NULL)) WHERE seq = $1",
	INT8OID);

SQL_FUNCTION(billing_sandbox_redeliver)
{
	char *event = ARG_TEXT(0);
	char *mode = ARG_TEXT(1);
	int64 seq;
	bool delivered;

	db_open();
	check_given("event", event != NULL);
	check_given("mode", mode != NULL);
	check_word("mode", mode, redeliver_words);
	if (RUN(find_delivery, arg_text(event)) == 0)
		unknown_object("event of the sandbox", event, "billing.sandbox_deliveries lists them.");
	seq = row_int(0, 1);
	delivered = row_bool(0, 2);
	if (delivered && strcmp(mode, "duplicate") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE), errmsg("event \"%s\" is delivered already", event),
				 errhint("Use the mode duplicate to deliver it once more.")));
	query_run(strcmp(mode, "duplicate") == 0 ? &deliver_again
			  : strcmp(mode, "delay") == 0   ? &delay_delivery
											 : &deliver_last,
			  (const Arg[]){arg_int(seq)});
	worker_wake_at_commit();
	db_close();
	PG_RETURN_VOID();
}

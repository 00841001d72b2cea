/*-------------------------------------------------------------------------
 *
 * events.c
 *	  Events out: every change of state is a row, written with the change, and
 *	  so is what a provider says that is no state.
 *
 * Called by the subjects and, for notices, by webhooks.c.  The row in
 * events_unsent is what the worker announces by NOTIFY and deletes: a NOTIFY
 * in every transaction would make commits wait for each other.
 *
 *-------------------------------------------------------------------------
 */
#include "payments.h"

QUERY(insert_event,
	  "WITH event AS ("
	  "INSERT INTO billing.events (type, object, id, organization_id, before_state, after_state) "
	  "VALUES ($1, $2, $3, $4, $5, $6) RETURNING seq) "
	  "INSERT INTO billing.events_unsent (seq) SELECT seq FROM event",
	  TEXTOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID);

void
event_record(const char *type, const char *object, const pg_uuid_t *id, const char *organization_id,
			 const char *before, const char *after)
{
	RUN(insert_event, arg_text(type), arg_text(object), arg_uuid(id), arg_text(organization_id),
		arg_text(before), arg_text(after));
	worker_wake_at_commit();
}

/* ---- notices ---- */

/* Whose the object is and the state that it has: of what a notice can be about. */
QUERY(customer_now, "SELECT organization_id, NULL::text FROM billing.customers WHERE id = $1",
	  UUIDOID);
QUERY(method_now,
	  "SELECT c.organization_id, m.state FROM billing.payment_methods AS m "
	  "JOIN billing.customers AS c ON c.id = m.customer_id WHERE m.id = $1",
	  UUIDOID);
QUERY(subscription_now, "SELECT organization_id, status FROM billing.subscriptions WHERE id = $1",
	  UUIDOID);
QUERY(invoice_now, "SELECT organization_id, status FROM billing.invoices WHERE id = $1", UUIDOID);
QUERY(setup_now, "SELECT organization_id, status FROM billing.setup_intents WHERE id = $1",
	  UUIDOID);
QUERY(payment_now, "SELECT organization_id, status FROM billing.payment_intents WHERE id = $1",
	  UUIDOID);
QUERY(refund_now, "SELECT organization_id, status FROM billing.refunds WHERE id = $1", UUIDOID);
QUERY(dispute_now, "SELECT organization_id, status FROM billing.disputes WHERE id = $1", UUIDOID);
QUERY(checkout_now, "SELECT organization_id, status FROM billing.checkout_sessions WHERE id = $1",
	  UUIDOID);

static SqlQuery *const states[BILLING_OBJECT_COUNT] = {
	[BILLING_CUSTOMER] = &customer_now,
	[BILLING_PAYMENT_METHOD] = &method_now,
	[BILLING_SUBSCRIPTION] = &subscription_now,
	[BILLING_INVOICE] = &invoice_now,
	[BILLING_SETUP_INTENT] = &setup_now,
	[BILLING_PAYMENT_INTENT] = &payment_now,
	[BILLING_REFUND] = &refund_now,
	[BILLING_DISPUTE] = &dispute_now,
	[BILLING_CHECKOUT_SESSION] = &checkout_now,
};

static pg_uuid_t *
notice_object(const EventNotice *notice, const News *news)
{
	if (notice->object == BILLING_PAYMENT_INTENT)
		return payment_intent_told(notice->provider_id, notice->charge, news);
	return ref_object(object_type_name(notice->object), notice->provider_id, news->provider,
					  news->account);
}

static void
record_notice(const EventNotice *notice, const pg_uuid_t *id)
{
	SqlQuery *state = states[notice->object];
	char *organization_id;
	char *now;

	if (state == NULL || query_run(state, (const Arg[]){arg_uuid(id)}) == 0)
		elog(ERROR, "no %s that a notice could be about", object_type_name(notice->object));
	organization_id = row_text(0, 1);
	now = row_text(0, 2);
	event_record(notice->type, object_type_name(notice->object), id, organization_id, now, now);
}

const char *
notices_record(const List *notices, const News *news)
{
	List *objects = NIL;
	ListCell *cell;

	foreach (cell, notices)
	{
		const EventNotice *notice = lfirst(cell);
		pg_uuid_t *id = notice_object(notice, news);

		if (id == NULL)
			return notice->provider_id != NULL ? notice->provider_id : notice->charge;
		objects = lappend(objects, id);
	}
	for (int i = 0; i < list_length(notices); i++)
		record_notice(list_nth(notices, i), list_nth(objects, i));
	return NULL;
}

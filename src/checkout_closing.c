/*-------------------------------------------------------------------------
 *
 * checkout_closing.c
 *	  The end of checkout sessions and payment links, and asking the provider
 *	  how one stands.
 *
 * A page that nobody can have opened is withdrawn here; any other one is
 * closed by its provider, where that is possible.
 *
 *-------------------------------------------------------------------------
 */
#include "checkout.h"

#include "check.h"
#include "errors.h"
#include "json.h"

static pg_uuid_t *
key_of(const CheckoutSession *session)
{
	return session->link ? account_get(session->provider, session->account)->id
						 : session->customer_id;
}

/* Never sent, or refused: nobody has it open. */
static bool
withdraw_session(const CheckoutSession *session)
{
	Operation creation = session->link ? OPERATION_PAYMENT_LINK_CREATE
									   : OPERATION_CHECKOUT_SESSION_CREATE;
	pg_uuid_t *key = key_of(session);

	if (session->provider_id != NULL || !outbox_withdraw_creation(session->id, creation))
		return false;
	checkout_end(session, session->link ? "canceled" : "expired", NULL);
	outbox_promote(uuid_array(&key, 1));
	worker_wake_at_commit();
	return true;
}

/* What the provider may have is closed there. */
static void
close_session(const CheckoutSession *session)
{
	Operation closing = session->link ? OPERATION_PAYMENT_LINK_CANCEL
									  : OPERATION_CHECKOUT_SESSION_EXPIRE;

	if (!outbox_under_way(session->id, closing) && !withdraw_session(session))
		(void) outbox_enqueue(account_get(session->provider, session->account), closing,
							  session->id, key_of(session), json_empty(), NULL);
}

/* ---- because of a subscription, or an invoice ---- */

/* What was never sent is withdrawn at any provider. */
bool
checkout_close(const pg_uuid_t *id)
{
	const CheckoutSession *session = checkout_load(id);
	const char *alternative;

	if (account_supports(account_get(session->provider, session->account),
						 OPERATION_CHECKOUT_SESSION_EXPIRE, json_empty(),
						 &alternative) != SUPPORTED)
		return withdraw_session(session);
	close_session(session);
	return true;
}

static void
close_sessions(Rows sessions)
{
	for (int64 i = 0; i < rows_count(sessions); i++)
		(void) checkout_close(rows_uuid(sessions, i, 1));
}

QUERY(
	open_sessions_of_others,
	"SELECT c.id FROM billing.checkout_sessions AS c JOIN billing.subscriptions AS s ON s.id = c.subscription_id "
	"WHERE c.customer_id = $1 AND s.plan_group = $2 AND c.status IN ('pending', 'open') ORDER BY c.created_at",
	UUIDOID, TEXTOID);

void
checkout_close_earlier(const Customer *customer, const char *plan_group)
{
	RUN(open_sessions_of_others, arg_uuid(customer->id), arg_text(plan_group));
	close_sessions(rows_keep());
}

QUERY(open_sessions_of,
	  "SELECT id FROM billing.checkout_sessions WHERE subscription_id = $1 "
	  "AND status IN ('pending', 'open') ORDER BY created_at",
	  UUIDOID);

void
checkout_close_pages(const pg_uuid_t *subscription_id)
{
	RUN(open_sessions_of, arg_uuid(subscription_id));
	close_sessions(rows_keep());
}

/* One on which the buyer is paying right now is closed, too; what has been paid is not. */
QUERY(
	pages_not_wanted,
	"SELECT c.id FROM billing.checkout_sessions AS c JOIN billing.invoices AS i ON i.id = c.invoice_id "
	"JOIN billing.payment_intents AS p ON p.id = c.payment_intent_id WHERE c.invoice_id = $1 "
	"AND c.status IN ('pending', 'open') AND p.status IN ('pending', 'requires_action', 'failed', 'canceled') "
	"AND (i.status NOT IN ('open', 'uncollectible') OR (c.line_items #>> '{0,amount}')::bigint <> i.amount_remaining) "
	"ORDER BY c.created_at, c.id",
	UUIDOID);

void
checkout_close_invoice_pages(const pg_uuid_t *invoice_id)
{
	if (RUN(pages_not_wanted, arg_uuid(invoice_id)) > 0)
		close_sessions(rows_keep());
}

/* ---- what callers ask for ---- */

static void
close_called(const char *argument, const pg_uuid_t *id, bool link)
{
	CheckoutSession *session;

	check_given(argument, id != NULL);
	session = checkout_load(id);
	/* the key first, as the delivery takes it: then the link itself */
	if (session != NULL && session->link)
		outbox_lock_key(KEY_ACCOUNT, key_of(session));
	session = checkout_load_locked(id);
	if (session == NULL)
		unknown_object(link ? "payment link" : "checkout session", uuid_text(id), NULL);
	if (session->link != link)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("\"%s\" is a %s", uuid_text(id),
							   link ? "checkout session" : "payment link"),
						errhint("Use billing.%s().",
								link ? "expire_checkout_session" : "cancel_payment_link")));
	if (checkout_over(session->status) || (link && strcmp(session->status, "complete") == 0))
		return;
	if (strcmp(session->status, "complete") == 0 || strcmp(session->status, "processing") == 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("checkout session \"%s\" is %s", uuid_text(id), session->status),
						errhint("What was paid is given back by a refund.")));
	close_session(session);
}

SQL_FUNCTION(billing_expire_checkout_session)
{
	db_open();
	close_called("checkout_session_id", ARG_UUID(0), false);
	db_close();
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_cancel_payment_link)
{
	db_open();
	close_called("payment_link_id", ARG_UUID(0), true);
	db_close();
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_refresh_checkout_session)
{
	pg_uuid_t *id = ARG_UUID(0);
	CheckoutSession *session;
	Account *account;

	db_open();
	check_given("checkout_session_id", id != NULL);
	session = checkout_load_locked(id);
	if (session == NULL || session->link)
		unknown_object("checkout session", uuid_text(id), NULL);
	account = account_get(session->provider, session->account);
	/* one that is still to be made tells how it stands when it is */
	if (session->provider_id != NULL)
		(void) outbox_enqueue(account, OPERATION_CHECKOUT_SESSION_FETCH, id, session->customer_id,
							  json_empty(), NULL);
	db_close();
	PG_RETURN_VOID();
}

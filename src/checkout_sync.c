/*-------------------------------------------------------------------------
 *
 * checkout_sync.c
 *	  Checkout sessions and payment links between us and the providers: what
 *	  a request says about one, and what is taken over from what a provider
 *	  says.
 *
 * Complete is not paid: a debit or a voucher takes its time, and payment_status
 * stays unpaid until the provider says otherwise.
 *
 *-------------------------------------------------------------------------
 */
#include "checkout.h"

#include "keys.h"
#include "subscriptions.h"
#include "wire_amounts.h"

/* ---- rows ---- */

QUERY(
	load_session,
	"SELECT c.id, c.kind = 'link', c.customer_id, c.organization_id, c.provider, c.account, c.livemode, c.mode, "
	"c.status, c.payment_status, c.name, c.currency, c.success_url, c.cancel_url, c.payment_intent_id, "
	"c.subscription_id, c.metadata, r.provider_id, c.invoice_id FROM billing.checkout_sessions AS c "
	"LEFT JOIN billing.provider_refs AS r ON r.object_id = c.id AND r.object_type = 'checkout_session' "
	"AND r.provider = c.provider AND r.account = c.account WHERE c.id = $1",
	UUIDOID);
QUERY(lock_session, "SELECT FROM billing.checkout_sessions WHERE id = $1 FOR NO KEY UPDATE",
	  UUIDOID);

CheckoutSession *
checkout_load(const pg_uuid_t *id)
{
	CheckoutSession *session;

	if (RUN(load_session, arg_uuid(id)) == 0)
		return NULL;
	session = palloc(sizeof(CheckoutSession));
	session->id = row_uuid(0, 1);
	session->link = row_bool(0, 2);
	session->customer_id = row_uuid(0, 3);
	session->organization_id = row_text(0, 4);
	session->provider = row_text(0, 5);
	session->account = row_text(0, 6);
	session->livemode = row_bool(0, 7);
	session->mode = row_text(0, 8);
	session->status = row_text(0, 9);
	session->payment_status = row_text(0, 10);
	session->name = row_text(0, 11);
	session->currency = row_text(0, 12);
	session->success_url = row_text(0, 13);
	session->cancel_url = row_text(0, 14);
	session->payment_intent_id = row_uuid(0, 15);
	session->subscription_id = row_uuid(0, 16);
	session->metadata = row_json(0, 17);
	session->provider_id = row_text(0, 18);
	session->invoice_id = row_uuid(0, 19);
	return session;
}

CheckoutSession *
checkout_load_locked(const pg_uuid_t *id)
{
	CheckoutSession *session = checkout_load(id);

	if (session == NULL)
		return NULL;
	if (session->customer_id != NULL)
		outbox_lock_customer(session->customer_id);
	RUN(lock_session, arg_uuid(id));
	return checkout_load(id);
}

bool
checkout_over(const char *status)
{
	return strcmp(status, "expired") == 0 || strcmp(status, "canceled") == 0 ||
		   strcmp(status, "failed") == 0;
}

QUERY(
	end_session,
	"UPDATE billing.checkout_sessions SET status = $2, error_code = $3, url = NULL, client_secret = NULL, "
	"updated_at = now() WHERE id = $1",
	UUIDOID, TEXTOID, TEXTOID);

/* What waited for the buyer waits no longer; what he has made already stays. */
static void
abandon(const CheckoutSession *session, const char *status)
{
	Subscription *s = session->subscription_id == NULL
						  ? NULL
						  : subscription_load(session->subscription_id);

	if (session->payment_intent_id != NULL)
		payment_intent_abandon(session->payment_intent_id, psprintf("checkout_%s", status));
	if (s != NULL && strcmp(s->status, "incomplete") == 0 && s->provider_id == NULL)
		subscription_end_here(s);
}

void
checkout_end(const CheckoutSession *session, const char *status, const char *error_code)
{
	RUN(end_session, arg_uuid(session->id), arg_text(status), arg_text(error_code));
	event_record(psprintf("checkout_session.%s", status), "checkout_session", session->id,
				 session->organization_id, session->status, status);
	abandon(session, status);
}

/* ---- to the provider ---- */

/* Members of the arguments that go out as they are. */
static const char *const text_members[] = {"name", "mode", "currency", "coupon", "locale", NULL};
static const char *const number_members[] = {"amount", "trial_days", "expires_at", "max_payments",
											 NULL};
static const char *const choice_members[] = {"allow_promotion_codes", "collect_tax_id",
											 "automatic_tax", "tax_added", NULL};
static const char *const list_members[] = {"methods", "installments", "tax_lines", NULL};

static void
copy_members(JsonBuilder *b, const Jsonb *arguments)
{
	int64 number;

	for (int i = 0; text_members[i] != NULL; i++)
		json_add_text(b, text_members[i], json_text(arguments, text_members[i]));
	for (int i = 0; number_members[i] != NULL; i++)
	{
		if (json_int(arguments, number_members[i], &number))
			json_add_int(b, number_members[i], number);
	}
	for (int i = 0; choice_members[i] != NULL; i++)
	{
		if (json_has(arguments, choice_members[i]))
			json_add_bool(b, choice_members[i], json_bool(arguments, choice_members[i], false));
	}
	for (int i = 0; list_members[i] != NULL; i++)
		json_add_json(b, list_members[i], json_part(arguments, list_members[i]));
}

static void
copy_line(JsonBuilder *b, const Jsonb *line)
{
	static const char *const texts[] = {"name", "description", "currency", "interval", NULL};
	static const char *const numbers[] = {"amount", "interval_count", "quantity", NULL};
	int64 number;

	for (int i = 0; texts[i] != NULL; i++)
		json_add_text(b, texts[i], json_text(line, texts[i]));
	for (int i = 0; numbers[i] != NULL; i++)
	{
		if (json_int(line, numbers[i], &number))
			json_add_int(b, numbers[i], number);
	}
}

QUERY(
	price_on_its_way,
	"SELECT FROM billing.outbox WHERE object_id = $1 AND operation = 'price.create' AND provider = $2 "
	"AND account = $3 LIMIT 1",
	UUIDOID, TEXTOID, TEXTOID);

/*
 * NULL when its price is still to come there.  What is paid once can go
 * without: by its name and amount.
 */
static Jsonb *
describe_line(const OutboxRow *row, const Jsonb *line)
{
	pg_uuid_t *id = uuid_parse(json_text(line, "price_id"));
	Price *price = id == NULL ? NULL : price_load(id);
	char *there = NULL;
	JsonBuilder b;

	if (price != NULL && provider_find(row->provider)->catalogue == CATALOGUE_NONE)
		there = uuid_text(id); /* as in subscription.create: it comes back in the news */
	else if (price != NULL)
	{
		there = ref_find("price", id, row->provider, row->account);
		if (there == NULL && (strcmp(price->interval, "one_time") != 0 ||
							  RUN(price_on_its_way, arg_uuid(id), arg_text(row->provider),
								  arg_text(row->account)) > 0))
			return NULL;
	}
	json_open(&b);
	json_add_text(&b, "price", there);
	if (price != NULL)
		json_add_text(&b, "product",
					  ref_find("product", price->plan_id, row->provider, row->account));
	copy_line(&b, line);
	return json_close(&b);
}

static bool
add_lines(JsonBuilder *b, const OutboxRow *row)
{
	int count = json_length(row->arguments, "line_items");

	if (count == 0)
		return true;
	json_open_array(b, "line_items");
	for (int i = 0; i < count; i++)
	{
		Jsonb *line = describe_line(row, json_part(row->arguments, psprintf("line_items.%d", i)));

		if (line == NULL)
			return false;
		json_append_json(b, line);
	}
	json_close_array(b);
	return true;
}

static void
add_reference(JsonBuilder *b, const char *name, const pg_uuid_t *id)
{
	if (id != NULL)
		json_add_text(b, name, uuid_text(id));
}

static Description
describe_create(const OutboxRow *row, const CheckoutSession *session)
{
	char *customer = session->link
						 ? NULL
						 : ref_find("customer", session->customer_id, row->provider, row->account);
	JsonBuilder b;

	if (strcmp(session->status, "pending") != 0 && outbox_is_fresh(row))
		return (Description){OBSOLETE, NULL, "it is not wanted any more"};
	if (!session->link && customer == NULL)
	{
		checkout_end(session, "failed", "customer_missing");
		return (Description){OBSOLETE, NULL, "the customer was never created there"};
	}
	json_open(&b);
	json_add_text(&b, "reference", uuid_text(session->id));
	json_add_text(&b, "organization_id", session->organization_id);
	json_add_text(&b, "customer", customer);
	copy_members(&b, row->arguments);
	if (!add_lines(&b, row))
		return (Description){NOT_YET, NULL, "a price does not exist there"};
	json_add_text(&b, "success_url", session->success_url);
	json_add_text(&b, "cancel_url", session->cancel_url);
	add_reference(&b, "payment_reference", session->payment_intent_id);
	add_reference(&b, "subscription_reference", session->subscription_id);
	json_add_json(&b, "metadata", session->metadata);
	return (Description){READY, json_close(&b), NULL};
}

Description
checkout_describe(const OutboxRow *row)
{
	CheckoutSession *session = checkout_load(row->object_id);
	JsonBuilder b;

	if (session == NULL)
		elog(ERROR, "checkout session %s is gone", uuid_text(row->object_id));
	if (row->operation == OPERATION_CHECKOUT_SESSION_CREATE ||
		row->operation == OPERATION_PAYMENT_LINK_CREATE)
		return describe_create(row, session);
	if (session->provider_id == NULL)
		return (Description){OBSOLETE, NULL, "it was never made there"};
	if (row->operation != OPERATION_CHECKOUT_SESSION_FETCH &&
		(checkout_over(session->status) || strcmp(session->status, "complete") == 0))
		return (Description){OBSOLETE, NULL, "it is over"};
	json_open(&b);
	json_add_text(&b, "checkout_session", session->provider_id);
	json_add_text(&b, "reference", uuid_text(session->id));
	return (Description){READY, json_close(&b), NULL};
}

QUERY(note_error,
	  "UPDATE billing.checkout_sessions SET error_code = $2, updated_at = now() WHERE id = $1",
	  UUIDOID, TEXTOID);

/* One that the provider does not make will never be; one that it does not close stays as it is. */
void
checkout_refused(const OutboxRow *row, const CallResult *result)
{
	const char *code = result->error_code != NULL ? result->error_code : result->error_type;
	bool creation = row->operation == OPERATION_CHECKOUT_SESSION_CREATE ||
					row->operation == OPERATION_PAYMENT_LINK_CREATE;
	CheckoutSession *session = checkout_load(row->object_id);

	if (code == NULL)
		code = "refused";
	if (creation && session != NULL && strcmp(session->status, "pending") == 0 &&
		session->provider_id == NULL)
		checkout_end(session, "failed", code);
	else
		RUN(note_error, arg_uuid(row->object_id), arg_text(code));
}

/* ---- from the provider ---- */

/* How far the buyer has come; a page that is closed can still turn out to be paid. */
static int
stage(const char *status)
{
	return strcmp(status, "pending") == 0      ? 0
		   : strcmp(status, "open") == 0       ? 1
		   : strcmp(status, "processing") == 0 ? 2
		   : strcmp(status, "complete") == 0   ? 4
											   : 3;
}

/*
 * How far it has come, for what is told of one second (refs.h).  After a
 * payment that failed the buyer may try again.
 */
static int
stage_of(const CheckoutSessionSnapshot *told)
{
	bool paid = told->payment_status != NULL && strcmp(told->payment_status, "unpaid") != 0;

	if (strcmp(told->status, "failed") == 0)
		return STAGE(2, 1);
	return STAGE(stage(told->status), strcmp(told->status, "complete") == 0 && paid ? 1 : 0);
}

static bool
may_become(const CheckoutSession *session, const char *told)
{
	const char *status = session->status;

	if (strcmp(status, told) == 0 || stage(told) > stage(status))
		return true;
	/* the buyer was through, and then the debit came to nothing */
	if (strcmp(told, "failed") == 0 && strcmp(status, "complete") == 0 &&
		session->payment_status != NULL && strcmp(session->payment_status, "unpaid") == 0)
		return true;
	/* a payment that failed: the buyer may try again */
	return strcmp(told, "open") == 0 &&
		   (strcmp(status, "processing") == 0 || strcmp(status, "failed") == 0);
}

QUERY(
	making_one,
	"SELECT FROM billing.outbox WHERE provider = $1 AND account = $2 AND state IN ('sending', 'unknown') "
	"AND operation IN ('checkout_session.create', 'payment_link.create') LIMIT 1",
	TEXTOID, TEXTOID);

/*
 * A page that somebody made at the provider itself is none of ours: what is
 * paid on it comes as a payment.  While one of ours is being made it may be
 * that one.
 */
static Applied
not_ours(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	if (snapshot->reference != NULL ||
		RUN(making_one, arg_text(news->provider), arg_text(news->account)) == 0)
		return SNAPSHOT_STALE;
	*waiting_for = snapshot->provider_id;
	return SNAPSHOT_UNKNOWN;
}

/*
 * What the buyer made, as the session tells it.  Its own news decide how it
 * stands: the session only says which it is, so that the note of its id is
 * older than anything.
 */
static pg_uuid_t *
made_by_buyer(const char *type, const pg_uuid_t *expected, const char *provider_id,
			  const News *news)
{
	News oldest = *news;
	pg_uuid_t *known;

	if (provider_id == NULL)
		return NULL;
	known = ref_object(type, provider_id, news->provider, news->account);
	if (known != NULL || expected == NULL ||
		ref_find(type, expected, news->provider, news->account) != NULL)
		return known;
	oldest.as_of = DT_NOBEGIN;
	ref_put(type, expected, provider_id, &oldest);
	return NULL;
}

/*
 * A page whose time is over ($13: what time it is) has no address, as it loses
 * it also when nobody tells anything (housekeeping.c).
 */
QUERY(
	mirror_session,
	"UPDATE billing.checkout_sessions SET status = $2, provider_status = coalesce($3, provider_status), "
	"payment_status = CASE WHEN payment_status = 'paid' THEN 'paid' ELSE coalesce($4, payment_status) END, "
	"url = CASE WHEN $2 IN ('open', 'processing') AND coalesce(coalesce($8, expires_at) >= $13, true) "
	"THEN coalesce($5, url) END, "
	"client_secret = CASE WHEN $2 IN ('open', 'processing') AND coalesce(coalesce($8, expires_at) >= $13, true) "
	"THEN coalesce($6, client_secret) END, "
	"amount_total = coalesce($7, amount_total), expires_at = coalesce($8, expires_at), "
	"completed_at = CASE WHEN $2 = 'complete' THEN least(completed_at, $9) ELSE completed_at END, "
	"payment_intent_id = coalesce($10, payment_intent_id), subscription_id = coalesce($11, subscription_id), "
	"setup_intent_id = coalesce($12, setup_intent_id), updated_at = now() WHERE id = $1",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, BYTEAOID, BYTEAOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID);

/* A later state may have been told first. */
QUERY(
	completed_earlier,
	"UPDATE billing.checkout_sessions SET completed_at = $2 WHERE id = $1 AND coalesce(completed_at > $2, true)",
	UUIDOID, TIMESTAMPTZOID);

static Arg
arg_total(const CheckoutSession *session, const CheckoutSessionSnapshot *told)
{
	const char *currency = told->currency != NULL ? told->currency : session->currency;

	if (told->amount_total == NO_AMOUNT || currency == NULL)
		return arg_null();
	return arg_int(amount_from_wire(session->provider, currency, told->amount_total));
}

/* The row that waits for the buyer; one that was given up is not what he has made. */
static pg_uuid_t *
expected_subscription(const CheckoutSession *session)
{
	Subscription *s = session->subscription_id == NULL
						  ? NULL
						  : subscription_load(session->subscription_id);

	return s == NULL || subscription_ended(s->status) ? NULL : s->id;
}

static void
mirror(const CheckoutSession *session, const CheckoutSessionSnapshot *told, const News *news)
{
	RUN(mirror_session, arg_uuid(session->id), arg_text(told->status),
		arg_text(told->provider_status), arg_text(told->payment_status),
		arg_bytes(seal_text("checkout_sessions.url", session->id, told->url)),
		arg_bytes(seal_text("checkout_sessions.client_secret", session->id, told->client_secret)),
		arg_total(session, told), arg_time(told->expires_at), arg_time(news->as_of),
		arg_uuid(made_by_buyer("payment_intent", session->payment_intent_id, told->payment_intent,
							   news)),
		arg_uuid(made_by_buyer("subscription", expected_subscription(session), told->subscription,
							   news)),
		arg_uuid(made_by_buyer("setup_intent", NULL, told->setup_intent, news)),
		arg_time(clock_now(session->organization_id)));
}

QUERY(
	keep_page,
	"UPDATE billing.checkout_sessions SET url = coalesce(url, $2), client_secret = coalesce(client_secret, $3) "
	"WHERE id = $1 AND status IN ('open', 'processing') AND coalesce(expires_at >= $4, true)",
	UUIDOID, BYTEAOID, BYTEAOID, TIMESTAMPTZOID);

/* A webhook that was faster than the answer has told the rest, but not the address. */
static void
keep_secrets(const CheckoutSession *session, const CheckoutSessionSnapshot *told)
{
	RUN(keep_page, arg_uuid(session->id),
		arg_bytes(seal_text("checkout_sessions.url", session->id, told->url)),
		arg_bytes(seal_text("checkout_sessions.client_secret", session->id, told->client_secret)),
		arg_time(clock_now(session->organization_id)));
}

QUERY(still_expected,
	  "SELECT FROM billing.payment_intents WHERE id = $1 AND status NOT IN ('succeeded', "
	  "'partially_refunded', 'refunded')",
	  UUIDOID);

/*
 * The page of an invoice is paid: so is the invoice, also when nobody tells of
 * the payment itself.  What is told of that is newer, and completes it.
 */
static void
book_payment(const CheckoutSession *session, const CheckoutSessionSnapshot *told, const News *news)
{
	ProviderSnapshot *payment;
	News oldest = *news;
	const char *waiting_for;

	if (session->invoice_id == NULL || told->payment_intent == NULL ||
		told->payment_status == NULL || strcmp(told->payment_status, "paid") != 0 ||
		RUN(still_expected, arg_uuid(session->payment_intent_id)) == 0)
		return;
	payment = snapshot_new(BILLING_PAYMENT_INTENT, told->payment_intent, news->livemode);
	payment->reference = uuid_text(session->payment_intent_id);
	payment->payment_intent.status = "succeeded";
	payment->payment_intent.currency = told->currency;
	payment->payment_intent.amount = told->amount_total;
	payment->payment_intent.paid_at = news->as_of;
	oldest.as_of = DT_NOBEGIN;
	(void) payment_intent_apply(payment, &oldest, &waiting_for);
}

static void
announce(const CheckoutSession *session, const CheckoutSessionSnapshot *told)
{
	bool paid_now = told->payment_status != NULL && strcmp(told->payment_status, "paid") == 0 &&
					(session->payment_status == NULL ||
					 strcmp(session->payment_status, "paid") != 0);

	if (strcmp(session->status, told->status) != 0)
		event_record(psprintf("checkout_session.%s", told->status), "checkout_session", session->id,
					 session->organization_id, session->status, told->status);
	else if (paid_now)
		event_record("checkout_session.paid", "checkout_session", session->id,
					 session->organization_id, session->status, told->status);
}

/* An answer about a link has its account locked already. */
static CheckoutSession *
load_for_news(const pg_uuid_t *id, const News *news)
{
	CheckoutSession *session = checkout_load(id);

	if (session != NULL && session->customer_id != NULL)
		news_lock_customer(news, session->customer_id);
	return session == NULL ? NULL : checkout_load_locked(id);
}

Applied
checkout_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const CheckoutSessionSnapshot *told = &snapshot->checkout_session;
	pg_uuid_t *id = snapshot_object(snapshot, news);
	CheckoutSession *session = id == NULL ? NULL : load_for_news(id, news);
	const char *status;
	CheckoutSessionSnapshot now = *told;

	if (session == NULL)
		return not_ours(snapshot, news, waiting_for);
	status = told->status != NULL ? told->status : snapshot->deleted ? "canceled" : session->status;
	now.status = status;
	if (strcmp(status, "complete") == 0)
		RUN(completed_earlier, arg_uuid(session->id), arg_time(news->as_of));
	if (!may_become(session, status))
		return SNAPSHOT_STALE;
	if (!ref_advance(snapshot, session->id, news, stage_of(&now)))
	{
		keep_secrets(session, told);
		return SNAPSHOT_STALE;
	}
	mirror(session, &now, news);
	announce(session, &now);
	book_payment(session, told, news);
	/* a buyer whose payment failed may still try again on the same page */
	if (strcmp(status, "expired") == 0 || strcmp(status, "canceled") == 0)
		abandon(session, status);
	return SNAPSHOT_APPLIED;
}

/*-------------------------------------------------------------------------
 *
 * refs.c
 *	  The providers' ids of our objects, and how fresh our knowledge is.
 *
 * News about an object arrives twice and out of order: as the answer to our
 * own call and as webhooks.  This file decides what is newer; the subjects
 * only ask.  Providers date to the second, and more than one thing happens in a
 * second: what the order cannot decide for certain is asked of the provider.
 *
 *-------------------------------------------------------------------------
 */
#include "refs.h"

#include "links.h"
#include "subjects.h"

QUERY(find_ref,
	  "SELECT provider_id FROM billing.provider_refs "
	  "WHERE object_id = $1 AND object_type = $2 AND provider = $3 AND account = $4",
	  UUIDOID, TEXTOID, TEXTOID, TEXTOID);

char *
ref_find(const char *object_type, const pg_uuid_t *object_id, const char *provider,
		 const char *account)
{
	if (RUN(find_ref, arg_uuid(object_id), arg_text(object_type), arg_text(provider),
			arg_text(account)) == 0)
		return NULL;
	return row_text(0, 1);
}

QUERY(find_object,
	  "SELECT object_id FROM billing.provider_refs "
	  "WHERE provider_id = $1 AND object_type = $2 AND provider = $3 AND account = $4",
	  TEXTOID, TEXTOID, TEXTOID, TEXTOID);

pg_uuid_t *
ref_object(const char *object_type, const char *provider_id, const char *provider,
		   const char *account)
{
	if (provider_id == NULL || RUN(find_object, arg_text(provider_id), arg_text(object_type),
								   arg_text(provider), arg_text(account)) == 0)
		return NULL;
	return row_uuid(0, 1);
}

/*
 * Metadata is what anybody with a key of the account can write: a reference
 * counts only within the account, and a customer's only within its mode.
 * What is bought or paid or given back twice under one reference is two
 * objects: the second one must not take the place of the first.
 */
#define UNKNOWN_THERE                                                            \
	"NOT EXISTS (SELECT FROM billing.provider_refs AS r WHERE r.object_id = $1 " \
	"AND r.object_type = $5 AND r.provider = $2 AND r.account = $3) "
QUERY(referred,
	  "SELECT FROM billing.customers WHERE id = $1 AND $5 = 'customer' AND livemode = $4 "
	  "UNION ALL SELECT FROM billing.payment_methods WHERE id = $1 AND $5 = 'payment_method' "
	  "AND provider = $2 AND account = $3 "
	  "UNION ALL SELECT FROM billing.subscriptions WHERE id = $1 AND $5 = 'subscription' "
	  "AND provider = $2 AND account = $3 AND " UNKNOWN_THERE
	  "UNION ALL SELECT FROM billing.payment_intents WHERE id = $1 AND $5 = 'payment_intent' "
	  "AND provider = $2 AND account = $3 AND " UNKNOWN_THERE
	  "UNION ALL SELECT FROM billing.setup_intents WHERE id = $1 AND $5 = 'setup_intent' "
	  "AND provider = $2 AND account = $3 "
	  "UNION ALL SELECT FROM billing.refunds WHERE id = $1 AND $5 = 'refund' "
	  "AND provider = $2 AND account = $3 AND " UNKNOWN_THERE
	  "UNION ALL SELECT FROM billing.checkout_sessions WHERE id = $1 AND $5 = 'checkout_session' "
	  "AND provider = $2 AND account = $3 "
	  "UNION ALL SELECT FROM billing.plans WHERE id = $1 AND $5 = 'product' "
	  "UNION ALL SELECT FROM billing.prices WHERE id = $1 AND $5 = 'price'",
	  UUIDOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID);

static pg_uuid_t *
referred_object(const ProviderSnapshot *snapshot, const News *news)
{
	pg_uuid_t *id = uuid_parse(snapshot->reference);

	if (id == NULL ||
		RUN(referred, arg_uuid(id), arg_text(news->provider), arg_text(news->account),
			arg_bool(news->livemode), arg_text(object_type_name(snapshot->type))) == 0)
		return NULL;
	return id;
}

/*
 * An answer to our own call needs no query: the call was about own_id.  The
 * type has to be the same, because an answer may tell of several objects.
 */
pg_uuid_t *
snapshot_object(const ProviderSnapshot *snapshot, const News *news)
{
	pg_uuid_t *id;

	if (news->own_id != NULL && news->own_type == snapshot->type)
	{
		id = palloc(sizeof(pg_uuid_t));
		memcpy(id, news->own_id, sizeof(pg_uuid_t));
		return id;
	}
	id = ref_object(object_type_name(snapshot->type), snapshot->provider_id, news->provider,
					news->account);
	if (id == NULL && snapshot->reference != NULL)
		id = referred_object(snapshot, news);
	return id;
}

bool
news_lock_customer(const News *news, const pg_uuid_t *customer_id)
{
	return news->event_id[0] == '\0' ? customer_lock_nowait(customer_id)
									 : customer_lock(customer_id);
}

/* More than any stage of a subject: a terminal state is not left again. */
#define TERMINAL_STAGE STAGE(100, 0)

/*
 * The part of life is the stage without its step.  What has a position of the
 * provider's own (always beside stage 0) is ordered by that.
 */
QUERY(
	advance_ref,
	"INSERT INTO billing.provider_refs AS r (object_type, object_id, provider, account, provider_id, "
	"livemode, as_of, as_of_stage, as_of_event, as_of_digest) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
	"ON CONFLICT (object_id, object_type, provider, account) DO UPDATE "
	"SET provider_id = excluded.provider_id, as_of = excluded.as_of, "
	"as_of_stage = excluded.as_of_stage, as_of_event = excluded.as_of_event, as_of_digest = excluded.as_of_digest, "
	"in_doubt = $11 AND (r.as_of, r.as_of_stage / 100) = (excluded.as_of, excluded.as_of_stage / 100) "
	"AND r.as_of_digest <> excluded.as_of_digest "
	"WHERE (r.as_of, r.as_of_stage / 100) < (excluded.as_of, excluded.as_of_stage / 100) "
	"OR (r.as_of = excluded.as_of AND r.as_of_event = '' AND excluded.as_of_event = '') "
	"OR ((r.as_of, r.as_of_stage / 100) = (excluded.as_of, excluded.as_of_stage / 100) "
	"AND (excluded.as_of_event = '' OR (r.as_of_event <> '' "
	"AND (r.as_of_stage, r.as_of_event) < (excluded.as_of_stage, excluded.as_of_event)))) "
	"RETURNING in_doubt, xmax = 0",
	TEXTOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TIMESTAMPTZOID, INT4OID, TEXTOID, INT8OID,
	BOOLOID);

/* It is older than what we have, as far as one can tell. */
QUERY(
	doubt_ref,
	"UPDATE billing.provider_refs AS r SET in_doubt = true "
	"WHERE object_type = $1 AND object_id = $2 AND provider = $3 AND account = $4 "
	"AND (r.as_of, r.as_of_stage / 100) = ($5, $6 / 100) AND as_of_event <> $7 AND as_of_digest <> $8",
	TEXTOID, UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID, TEXTOID, INT8OID);

/* Webhooks that came before the object was known are due now; seldom there are any. */
QUERY(wake_waiting_events,
	  "UPDATE billing.webhook_events SET next_attempt_at = now() "
	  "WHERE waiting_for = $1 AND provider = $2",
	  TEXTOID, TEXTOID);

QUERY(
	awaited,
	"SELECT EXISTS (SELECT FROM billing.webhook_events WHERE waiting_for = $1 AND provider = $2), "
	"EXISTS (SELECT FROM billing.waiting_links WHERE provider_id = $1 AND provider = $2)",
	TEXTOID, TEXTOID);

void
ref_appeared(const char *object_type, const char *provider_id, const pg_uuid_t *object_id,
			 const News *news)
{
	bool links;

	RUN(awaited, arg_text(provider_id), arg_text(news->provider));
	links = row_bool(0, 2);
	if (row_bool(0, 1))
		RUN(wake_waiting_events, arg_text(provider_id), arg_text(news->provider));
	if (links)
		links_make(object_type, provider_id, object_id, news);
}

bool
ref_advance(const ProviderSnapshot *snapshot, const pg_uuid_t *object_id, const News *news,
			int stage)
{
	const char *type = object_type_name(snapshot->type);
	TimestampTz as_of = snapshot->as_of != 0 ? snapshot->as_of : news->as_of;
	const char *event = snapshot->position != NULL ? snapshot->position : news->event_id;
	int64 digest = snapshot_digest(snapshot);
	bool webhook = news->event_id[0] != '\0';
	bool advanced;
	bool in_doubt;

	if (snapshot->position != NULL)
		stage = 0;
	else if (snapshot->terminal)
		stage += TERMINAL_STAGE;
	advanced = RUN(advance_ref, arg_text(type), arg_uuid(object_id), arg_text(news->provider),
				   arg_text(news->account), arg_text(snapshot->provider_id),
				   arg_bool(news->livemode), arg_time(as_of), arg_int4(stage), arg_text(event),
				   arg_int(digest), arg_bool(webhook && snapshot->position == NULL)) > 0;
	if (!advanced)
		in_doubt = webhook && snapshot->position == NULL &&
				   RUN(doubt_ref, arg_text(type), arg_uuid(object_id), arg_text(news->provider),
					   arg_text(news->account), arg_time(as_of), arg_int4(stage), arg_text(event),
					   arg_int(digest)) > 0;
	else
	{
		in_doubt = row_bool(0, 1);
		if (row_bool(0, 2))
			ref_appeared(type, snapshot->provider_id, object_id, news);
	}
	if (in_doubt)
		refresh_doubtful(type, object_id, news->provider, news->account);
	return advanced;
}

QUERY(
	has_ref,
	"SELECT FROM billing.provider_refs WHERE object_id = $1 AND object_type = $2 AND provider = $3 "
	"AND account = $4 AND provider_id = $5",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID);
QUERY(
	put_ref,
	"INSERT INTO billing.provider_refs AS r (object_type, object_id, provider, account, provider_id, "
	"livemode, as_of) VALUES ($1, $2, $3, $4, $5, $6, $7) "
	"ON CONFLICT (object_id, object_type, provider, account) DO UPDATE "
	"SET provider_id = excluded.provider_id, as_of = excluded.as_of "
	"WHERE r.provider_id <> excluded.provider_id",
	TEXTOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TIMESTAMPTZOID);

void
ref_put(const char *object_type, const pg_uuid_t *object_id, const char *provider_id,
		const News *news)
{
	/* mostly it is there; to insert it in vain would lock its row, which is written to disk */
	if (RUN(has_ref, arg_uuid(object_id), arg_text(object_type), arg_text(news->provider),
			arg_text(news->account), arg_text(provider_id)) > 0)
		return;
	if (RUN(put_ref, arg_text(object_type), arg_uuid(object_id), arg_text(news->provider),
			arg_text(news->account), arg_text(provider_id), arg_bool(news->livemode),
			arg_time(news->as_of)) > 0)
		ref_appeared(object_type, provider_id, object_id, news);
}

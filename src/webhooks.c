/*-------------------------------------------------------------------------
 *
 * webhooks.c
 *	  The door for what providers say.
 *
 * Signature first: nothing of an unsigned body is parsed or kept.  Then the
 * inbox row, unique by event id, so that a webhook counts once whoever
 * delivers it how often; then the event is applied in a subtransaction.  An
 * event that cannot be applied is kept with its reason and acknowledged: a
 * provider that hears errors switches the endpoint off.
 *
 *-------------------------------------------------------------------------
 */
#include "webhooks.h"

#include "access/xact.h"
#include "accounts.h"
#include "audit.h"
#include "check.h"
#include "crypto.h"
#include "errors.h"
#include "funcapi.h"
#include "json.h"
#include "keys.h"
#include "mb/pg_wchar.h"
#include "operations.h"
#include "subjects.h"
#include "unit.h"
#include "webhook_headers.h"
#include "webhook_keys.h"

#define RETRY_BATCH      50
#define MAX_RETRIES      20
#define RAW_BODY_COLUMN  "webhook_events.raw_body"
#define UNIQUE_VIOLATION "23505"

/* Ids are in indexes, whose entries are limited; the providers' have 20 to 60 bytes. */
#define MAX_ID_LENGTH 255

/* ---- signature ---- */

/* What several accounts say: the best news counts. */
static int
signature_rank(SignatureResult result)
{
	switch (result)
	{
		case SIGNATURE_OK:
			return 7;
		case SIGNATURE_TOO_OLD:
		case SIGNATURE_TOO_NEW:
			return 6;
		case SIGNATURE_UNAVAILABLE:
			return 5;
		case SIGNATURE_MISMATCH:
			return 4;
		case SIGNATURE_MALFORMED:
			return 3;
		case SIGNATURE_MISSING:
			return 2;
		case SIGNATURE_NO_SECRET:
			return 1;
	}
	return 0;
}

/* An unknown provider or account is told apart from one without a secret. */
static void
require_account(const char *provider, const char *account)
{
	Identity identity = identity_take_owner();

	db_open();
	account_get(provider, account != NULL ? account : "default");
	db_close();
	identity_give_back(identity);
}

/*
 * Without a named account every one of the provider is tried; the one whose
 * secret verifies names itself.  verified: as long as webhook_keys.h says.
 */
static SignatureResult
verify(const char *provider, const char *payload, size_t length, const Jsonb *headers,
	   const char *account, const Account **verified)
{
	WebhookHeaders lookup = webhook_headers_of(headers);
	TimestampTz now = GetCurrentTimestamp();
	const WebhookTerms *terms = webhook_keys_open(now);
	int64 unix_now = now / USECS_PER_SEC + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	SignatureResult best = SIGNATURE_NO_SECRET;
	WebhookAccount webhook;
	int position = 0;

	*verified = NULL;
	while (best != SIGNATURE_OK && webhook_keys_next(provider, account, now, &position, &webhook))
	{
		SignatureResult result = webhook.account->module->verify(
			payload, length, &lookup, webhook.secrets, webhook.secret_count, unix_now,
			terms->tolerance, NULL);

		if (signature_rank(result) >= signature_rank(best))
		{
			best = result;
			*verified = webhook.account;
		}
	}
	if (*verified == NULL)
		require_account(provider, account);
	return best;
}

static void
require_secret(SignatureResult result, const char *provider)
{
	if (result == SIGNATURE_UNAVAILABLE)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("the signature of a webhook could not be checked")));
	if (result == SIGNATURE_NO_SECRET)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_CONFIGURED),
						errmsg("no webhook secret of %s is configured", provider),
						errhint("Use billing.configure_provider('%s', webhook_secret => ...).",
								provider)));
}

static void
require_signature(SignatureResult result, const char *provider)
{
	require_secret(result, provider);
	if (result == SIGNATURE_OK)
		return;
	if (result == SIGNATURE_TOO_OLD || result == SIGNATURE_TOO_NEW)
		ereport(
			ERROR,
			(errcode(ERRCODE_JB_WEBHOOK_TIME),
			 errmsg("webhook of %s was signed too %s", provider,
					result == SIGNATURE_TOO_OLD ? "long ago" : "far ahead of this server's clock"),
			 errhint("Check the clock of this server; the settings webhook_tolerance and "
					 "webhook_tolerance_future say what is accepted."),
			 errhidestmt(true)));
	ereport(ERROR, (errcode(ERRCODE_JB_SIGNATURE),
					errmsg("webhook of %s is not signed with our secret", provider),
					errdetail("%s.", signature_reason(result)),
					errhint("Pass the raw body exactly as it was received, and its headers."),
					errhidestmt(true)));
}

/* Nothing was signed, or there is nothing to check it by; a wrong signature is neither. */
static bool
is_unsigned(SignatureResult result)
{
	return result == SIGNATURE_MISSING || result == SIGNATURE_NO_SECRET;
}

static void
check_size(size_t length)
{
	int64 limit = webhook_keys_open(GetCurrentTimestamp())->max_size;

	if ((int64) length > limit)
		ereport(ERROR, (errcode(ERRCODE_JB_TOO_LARGE),
						errmsg("webhook is larger than " INT64_FORMAT " bytes", limit),
						errhint("The setting max_webhook_size is the limit."), errhidestmt(true)));
}

/* ---- inbox ---- */

/* A webhook in the inbox, or about to be. */
typedef struct Inbox
{
	pg_uuid_t *id;
	const Account *account;
	EventIdentity identity;
	Jsonb *payload;     /* NULL: unreadable */
	const char *reason; /* why it is unreadable or not for us */
	bool unreadable;
	bool fresh;          /* stored a moment ago, as if all will go well */
	bool applied_before; /* what it says once was written then */
} Inbox;

static const char *
body_digest(const char *payload, size_t length)
{
	uint8_t digest[CRYPTO_SHA256_SIZE];
	char *hex = palloc(CRYPTO_HEX_SIZE(sizeof(digest)));

	if (!crypto_sha256(payload, length, digest))
		elog(ERROR, "could not hash a webhook");
	crypto_hex_encode(digest, sizeof(digest), hex);
	return hex;
}

static bool
too_long(const char *id)
{
	return id != NULL && strlen(id) > MAX_ID_LENGTH;
}

/* Who it is; an unreadable body is known by its hash. */
static void
identify(Inbox *inbox, const char *payload, size_t length, const WebhookHeaders *headers)
{
	EventIdentity *identity = &inbox->identity;

	inbox->payload = json_parse(payload, length, &inbox->reason);
	if (inbox->payload != NULL &&
		!inbox->account->module->identify_event(inbox->payload, headers, identity))
		inbox->reason = "not an event of this provider";
	else if (inbox->payload != NULL && (too_long(identity->id) || too_long(identity->type)))
		inbox->reason = "its id or type is too long";
	if (inbox->reason != NULL)
	{
		inbox->unreadable = true;
		identity->id = body_digest(payload, length);
		identity->type = "unreadable";
		return;
	}
	if (identity->sub_account != NULL)
		inbox->reason = "an event of another account";
	else if (identity->has_livemode && identity->livemode != inbox->account->livemode)
		inbox->reason = identity->livemode ? "a live event for a test account"
										   : "a test event for a live account";
}

QUERY(
	insert_event,
	"INSERT INTO billing.webhook_events (id, provider, account, event_id, livemode, type, provider_time, state, "
	"reason, attempts, handled_at, applied_at, raw_body) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, clock_timestamp(), "
	"CASE WHEN $8 = 'applied' THEN clock_timestamp() END, $10) "
	"ON CONFLICT (provider, account, event_id) DO NOTHING",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID,
	BYTEAOID);

/* What an event comes to when applying it brings no surprise. */
static const char *
expected_state(const Inbox *inbox)
{
	return inbox->unreadable ? "failed" : inbox->reason != NULL ? "ignored" : "applied";
}

/*
 * False: it is there already. Waits for another session that is just storing it.
 * The row is written before anything is applied, and in the state that it will
 * most likely have in the end, so that most events write it once.
 */
static bool
store(Inbox *inbox, const char *payload, size_t length)
{
	inbox->id = new_id();
	inbox->fresh = true;
	return RUN(insert_event, arg_uuid(inbox->id), arg_text(inbox->account->provider),
			   arg_text(inbox->account->account), arg_text(inbox->identity.id),
			   arg_bool(inbox->account->livemode), arg_text(inbox->identity.type),
			   arg_time(inbox->identity.time), arg_text(expected_state(inbox)),
			   arg_text(inbox->reason),
			   arg_bytes(seal(RAW_BODY_COLUMN, inbox->id, payload, length))) > 0;
}

/* $7: the attempts that the row counts already for this one. */
QUERY(
	set_state,
	"UPDATE billing.webhook_events SET state = $2, reason = $3, waiting_for = $4, "
	"attempts = attempts + 1 - $7, handled_at = clock_timestamp(), "
	"applied_at = CASE WHEN $2 = 'applied' THEN coalesce(applied_at, clock_timestamp()) "
	"WHEN $7 = 0 THEN applied_at END, "
	"next_attempt_at = CASE WHEN $2 IN ('failed', 'waiting') AND $5 AND attempts - $7 < $6 "
	"THEN clock_timestamp() + least(interval '1 hour', interval '5 seconds' * pow(2, least(attempts - $7, 12))) END "
	"WHERE id = $1",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT4OID, INT4OID);

static const char *
conclude(const Inbox *inbox, const char *state, const char *reason, const char *waiting_for,
		 bool again)
{
	bool as_stored = inbox->fresh && !again && waiting_for == NULL && reason == inbox->reason &&
					 strcmp(state, expected_state(inbox)) == 0;

	if (!as_stored)
		RUN(set_state, arg_uuid(inbox->id), arg_text(state), arg_text(reason),
			arg_text(waiting_for), arg_bool(again), arg_int4(MAX_RETRIES),
			arg_int4(inbox->fresh ? 1 : 0));
	if (again)
		worker_wake_at_commit();
	return state;
}

/* ---- apply ---- */

typedef struct Application
{
	const Inbox *inbox;
	const char *unusable; /* why nothing of it can be applied, now or later */
	const char *ignored;
	const char *waiting_for;
	bool any_applied;
	bool asked; /* what it leaves open the provider is asked for */
} Application;

/* Undoes what the event has brought so far: nobody would ever bring the rest. */
static void
give_up(Application *a, const char *why)
{
	a->unusable = why;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg_internal("%s", why)));
}

static void
wait_for(Application *a, const char *id)
{
	if (too_long(id))
		give_up(a, "an id in it is too long");
	a->waiting_for = id;
}

/*
 * A state that is told again changes nothing, a notice that is written again
 * would be another one.  The object may have become known only by a snapshot of
 * the same event.
 */
static void
apply_notices(Application *a, const List *notices, const News *news)
{
	if (notices == NIL || a->inbox->applied_before)
		return;
	wait_for(a, notices_record(notices, news));
	a->any_applied |= a->waiting_for == NULL;
}

/* What stands in an event that is read and still says nothing that can be kept. */
static const char *
trouble_with(const EventReading *reading, const News *news)
{
	ListCell *cell;

	if (reading->snapshots != NIL && news->as_of == 0)
		return "it does not say when it happened";
	foreach (cell, reading->snapshots)
	{
		const ProviderSnapshot *snapshot = lfirst(cell);

		if (too_long(snapshot->provider_id))
			return "an id in it is too long";
	}
	return NULL;
}

/*
 * Each snapshot is true by itself: what stands before one of an unknown object
 * is applied already while the event waits, and once more, which changes
 * nothing, when the object is known.  An event that can never be applied leaves
 * nothing.
 */
static void
apply(void *context)
{
	Application *a = context;
	const Inbox *inbox = a->inbox;
	EventReading reading = {0};
	News news = {
		.provider = inbox->account->provider,
		.account = inbox->account->account,
		.livemode = inbox->account->livemode,
		.as_of = inbox->identity.time,
		.event_id = inbox->identity.id,
	};
	ListCell *cell;

	inbox->account->module->read_event(inbox->payload, &reading);
	a->ignored = reading.ignored;
	a->unusable = trouble_with(&reading, &news);
	if (a->unusable != NULL)
		return;
	foreach (cell, reading.snapshots)
	{
		const ProviderSnapshot *snapshot = lfirst(cell);
		const char *waiting_for = snapshot->provider_id;

		switch (snapshot_apply(snapshot, &news, &waiting_for))
		{
			case SNAPSHOT_APPLIED:
				a->any_applied = true;
				break;
			case SNAPSHOT_STALE:
				break;
			case SNAPSHOT_UNKNOWN:
				wait_for(a, waiting_for);
				return;
		}
	}
	wait_for(a, doubts_settle(&reading, &news, &a->asked));
	if (a->waiting_for == NULL)
		apply_notices(a, reading.notices, &news);
}

static void
apply_as_cause(void *context)
{
	const Application *a = context;

	audit_caused(AUDIT_WEBHOOK, a->inbox->identity.id, apply, context);
}

/*
 * Two webhooks that bring the same new object at once meet at its unique id:
 * the second one finds the object when it looks again.
 */
static bool
try_apply(Application *a, char **sqlstate, char **message)
{
	if (guarded(apply_as_cause, a, sqlstate, message))
		return true;
	if (strcmp(*sqlstate, UNIQUE_VIOLATION) != 0)
		return false;
	*a = (Application){.inbox = a->inbox};
	return guarded(apply_as_cause, a, sqlstate, message);
}

/*
 * The message may quote what the event says of a person: the body is kept
 * encrypted, and so the row gets only what kind of error it was.
 */
static const char *
conclude_error(const Inbox *inbox, const char *event_id, const char *sqlstate, const char *message)
{
	ereport(LOG_SERVER_ONLY, (errmsg("webhook event \"%s\" could not be applied", event_id),
							  errdetail_internal("%s: %s", sqlstate, message), errhidestmt(true),
							  errhidecontext(true)));
	return conclude(inbox, "failed", error_in_words(sqlstate), NULL, true);
}

static const char *
apply_event(Inbox *inbox)
{
	Application a = {.inbox = inbox};
	char *sqlstate;
	char *message;

	if (inbox->unreadable)
		return conclude(inbox, "failed", inbox->reason, NULL, false);
	if (inbox->reason != NULL)
		return conclude(inbox, "ignored", inbox->reason, NULL, false);
	if (!try_apply(&a, &sqlstate, &message) && a.unusable == NULL)
		return conclude_error(inbox, inbox->identity.id, sqlstate, message);
	if (a.unusable != NULL)
		return conclude(inbox, "failed", a.unusable, NULL, false);
	if (a.waiting_for != NULL)
		return conclude(inbox, "waiting", "an object that is not known here", a.waiting_for, true);
	if (a.ignored != NULL)
		return conclude(inbox, "ignored", a.ignored, NULL, false);
	if (a.any_applied)
		return conclude(inbox, "applied", NULL, NULL, false);
	return conclude(inbox, "applied",
					a.asked ? "the provider is asked" : "nothing newer than what is here", NULL,
					false);
}

WebhookResult
webhook_handle(const char *provider, const char *payload, size_t length, const Jsonb *headers,
			   const char *account)
{
	WebhookHeaders lookup;
	Inbox inbox = {0};
	SignatureResult signature;
	WebhookResult result;

	check_size(length);
	lookup = webhook_headers_of(headers);
	signature = verify(provider, payload, length, headers, account, &inbox.account);
	if (is_unsigned(signature) &&
		webhook_take_unsigned(provider, payload, length, &lookup, account, &result))
		return result;
	require_signature(signature, provider);
	inbox.account = account_copy(inbox.account);
	identify(&inbox, payload, length, &lookup);
	result.event_id = inbox.identity.id;
	result.type = inbox.identity.type;
	result.status = store(&inbox, payload, length) ? apply_event(&inbox) : "duplicate";
	return result;
}

/* ---- once more ---- */

#define EVENT_COLUMNS "id, provider, account, event_id, raw_body, applied_at IS NOT NULL"

QUERY(due_event,
	  "SELECT " EVENT_COLUMNS
	  " FROM billing.webhook_events WHERE next_attempt_at <= clock_timestamp() "
	  "ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED",
	  InvalidOid);
QUERY(find_event,
	  "SELECT " EVENT_COLUMNS
	  ", count(*) OVER () FROM (SELECT * FROM billing.webhook_events WHERE event_id = $1 "
	  "AND ($2 IS NULL OR provider = $2) AND ($3 IS NULL OR account = $3) FOR UPDATE) AS e",
	  TEXTOID, TEXTOID, TEXTOID);

static const char *
reapply(Rows rows, int64 i)
{
	Inbox inbox = {0};
	bytea *sealed = rows_bytes(rows, i, 5);
	WebhookHeaders headers;
	size_t length;
	char *payload;

	inbox.id = rows_uuid(rows, i, 1);
	inbox.account = account_get(rows_text(rows, i, 2), rows_text(rows, i, 3));
	if (sealed == NULL)
		return conclude(&inbox, "failed", "its body is no longer kept", NULL, false);
	payload = unseal(RAW_BODY_COLUMN, inbox.id, sealed, &length);
	headers = webhook_headers_kept(rows_text(rows, i, 4));
	identify(&inbox, payload, length, &headers);
	inbox.identity.id = rows_text(rows, i, 4);
	inbox.applied_before = rows_bool(rows, i, 6);
	return apply_event(&inbox);
}

static void
reapply_first(void *context)
{
	(void) reapply(context, 0);
}

/* One event to a unit, so that no two customers' rows are held at once. */
static bool
retry_one(void)
{
	Inbox inbox = {0};
	Rows rows;
	char *sqlstate;
	char *message;
	bool found;

	if (!unit_begin())
		return false;
	found = RUN(due_event, arg_null()) > 0;
	rows = rows_keep();
	if (found && !guarded(reapply_first, rows, &sqlstate, &message))
	{
		/* not even its body can be read, such as when its key is not here */
		inbox.id = rows_uuid(rows, 0, 1);
		conclude_error(&inbox, rows_text(rows, 0, 4), sqlstate, message);
	}
	unit_commit();
	return found;
}

int
webhooks_retry(void)
{
	int count = 0;

	while (count < RETRY_BATCH && retry_one())
		count++;
	return count;
}

/* ---- SQL ---- */

/*
 * The payload is text or bytea: both are bytes with a length, and a database
 * of ours is UTF-8, so that text is what was signed.
 */
#define PAYLOAD_BYTES(n)  VARDATA_ANY(PG_GETARG_VARLENA_PP(n))
#define PAYLOAD_LENGTH(n) VARSIZE_ANY_EXHDR(PG_GETARG_VARLENA_PP(n))

SQL_FUNCTION(billing_verify_webhook)
{
	char *provider = ARG_TEXT(0);
	const Account *account;
	SignatureResult result;

	check_given("provider", provider != NULL);
	check_given("payload", !PG_ARGISNULL(1));
	result = verify(provider, PAYLOAD_BYTES(1), PAYLOAD_LENGTH(1), ARG_JSON(2), ARG_TEXT(3),
					&account);
	require_secret(result, provider);
	PG_RETURN_BOOL(result == SIGNATURE_OK);
}

SQL_FUNCTION(billing_handle_webhook)
{
	TupleDesc tupdesc;
	WebhookResult result;
	Datum values[3];
	bool nulls[3] = {false, false, false};
	HeapTuple tuple;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	db_open();
	check_given("provider", !PG_ARGISNULL(0));
	check_given("payload", !PG_ARGISNULL(1));
	result = webhook_handle(ARG_TEXT(0), PAYLOAD_BYTES(1), PAYLOAD_LENGTH(1), ARG_JSON(2),
							ARG_TEXT(3));
	values[0] = CStringGetTextDatum(result.event_id);
	values[1] = CStringGetTextDatum(result.type);
	values[2] = CStringGetTextDatum(result.status);
	tuple = SPI_copytuple(heap_form_tuple(tupdesc, values, nulls));
	db_close();
	PG_RETURN_DATUM(HeapTupleGetDatum(tuple));
}

SQL_FUNCTION(billing_replay_webhook)
{
	char *event_id = ARG_TEXT(0);
	const char *status;
	Rows rows;

	db_open();
	check_given("event_id", event_id != NULL);
	if (RUN(find_event, arg_text(event_id), arg_text(ARG_TEXT(1)), arg_text(ARG_TEXT(2))) == 0)
		unknown_object("webhook event", event_id, "billing.webhook_events lists them.");
	rows = rows_keep();
	if (rows_int(rows, 0, 7) > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("event \"%s\" is known to several accounts", event_id),
						errhint("Pass provider and account.")));
	if (rows_null(rows, 0, 5))
		ereport(
			ERROR,
			(errcode(ERRCODE_JB_STATE),
			 errmsg("the body of event \"%s\" is no longer kept", event_id),
			 errdetail("The setting raw_body_retention says how long bodies are kept; of a webhook "
					   "that was not signed nothing is.")));
	status = reapply(rows, 0);
	PG_RETURN_DATUM(db_close_text(status));
}

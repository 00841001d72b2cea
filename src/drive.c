/*-------------------------------------------------------------------------
 *
 * drive.c
 *	  The loop of duties, for the background worker and for sessions.
 *
 * The duties: deliver what is in the outbox (delivery.c), play embedded
 * providers (embedded.c), try webhooks again (webhooks.c), announce events
 * and remove what is old (housekeeping.c), do what providers do not
 * (scheduled_changes.c), bill what we bill ourselves (engine.c), number and
 * collect invoices (invoice_numbers.c, collection.c), add usage up
 * (usage_rollup.c), compare it with limits (usage_alerts.c) and tell providers
 * of it (usage_forward.c), end reservations (quota_reservations.c) and prepaid
 * credits (credit_grants.c), and end what processes left behind: leases, races.
 *
 *-------------------------------------------------------------------------
 */
#include "drive.h"

#include "accounts.h"
#include "delivery.h"
#include "embedded.h"
#include "engine.h"
#include "housekeeping.h"
#include "http.h"
#include "keys.h"
#include "leases.h"
#include "postponed.h"
#include "quota.h"
#include "scheduled_changes.h"
#include "storage/latch.h"
#include "subjects.h"
#include "unit.h"
#include "usage.h"
#include "utils/memutils.h"
#include "webhooks.h"

/* How long a pass waits for the row of a customer that a session holds. */
#define LOCKED_ROW_PAUSE_MS 100
/* Commits may come by the thousand: what is not a call is looked at no more often than this. */
#define LOOK_AROUND_MS 10
/* Somebody else's process is at work on what we wait for. */
#define OTHERS_PAUSE_MS 20

/* So many of them for what is to be billed or added up: then nobody is at it, but a session holds it. */
#define OTHERS_WAITS_MOST 250

static MemoryContext drive_memory = NULL;

pg_uuid_t *
drive_open(void)
{
	pg_uuid_t *token = new_id();

	if (drive_memory == NULL)
		/* scratch of a pass, reset after each; lives as long as the process */
		drive_memory = AllocSetContextCreate(TopMemoryContext, "billing pass",
											 ALLOCSET_DEFAULT_SIZES);
	delivery_open(token);
	return token;
}

void
drive_close(void)
{
	delivery_close();
}

/* -1 stands for never. */
static long
earlier(long a, long b)
{
	return a < 0 ? b : b < 0 ? a : Min(a, b);
}

/* What is due but was not to be had (locked by a session) is tried again after a pause. */
static long
not_at_once(long due)
{
	return due < 0 ? due : Max(due, OTHERS_PAUSE_MS);
}

/* The last batch of the engine was not empty: there may be another one. */
static bool more_is_due = false;

/* In this order: what one makes the next one takes up in the same pass. */
static int
bill_what_is_due(void)
{
	int work = engine_pass();

	more_is_due = work > 0;
	work += drafts_finalize_due();
	work += invoices_number();
	return work + collection_pass();
}

/* An invoice has its number, and goes out, as soon as the commit that made it final is seen. */
static int
bill_what_was_marked(void)
{
	int numbered;

	/* one batch each time, and what others wait for in between */
	if (more_is_due)
		return bill_what_is_due();
	numbered = invoices_number();
	return numbered == 0 ? 0 : numbered + collection_pass();
}

/*
 * What only a commit (of a session, or our own) can have brought.  These units
 * mostly find nothing; after every commit of a busy application they would
 * cost more than the calls.  True when all of them were looked at.
 */
static bool
look_around(PassKind kind, int *work)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();
	int more;

	if (kind == PASS_WOKEN && !TimestampDifferenceExceeds(last, now, LOOK_AROUND_MS))
		return false;
	more = embedded_elapse() + embedded_deliver() + webhooks_retry();
	if (kind != PASS_EVERYTHING)
		more += bill_what_was_marked();
	*work += more + events_announce();
	/* what they did may be followed by more of it at once */
	last = more > 0 ? 0 : now;
	return true;
}

long
drive_pass(PassKind kind)
{
	MemoryContext old = MemoryContextSwitchTo(drive_memory);
	int work = 0;
	int settled;
	bool looked = false;
	long due = -1;

	if (kind == PASS_EVERYTHING)
	{
		leases_release(NULL);
		outbox_sweep();
		housekeeping_pass();
		reservations_keep();
		work += scheduled_changes_run();
	}
	work += usage_rollup(kind == PASS_EVERYTHING);
	if (kind == PASS_EVERYTHING)
		work += bill_what_is_due();
	work += usage_alerts_raise(kind == PASS_EVERYTHING);
	if (kind == PASS_EVERYTHING)
		work += usage_forward() + credits_expire();
	settled = delivery_complete();
	work += delivery_apply_stored();
	if (settled > 0 || kind != PASS_NETWORK)
		work += delivery_claim();
	if (kind != PASS_NETWORK)
		looked = look_around(kind, &work);
	if (work > 0 || settled > 0)
		due = 0;
	else
	{
		if (delivery_has_stored())
			due = LOCKED_ROW_PAUSE_MS;
		if (looked)
			due = earlier(due, not_at_once(earlier(delivery_next_due(), embedded_next_due())));
		else if (kind != PASS_NETWORK)
			due = earlier(due, LOOK_AROUND_MS);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(drive_memory);
	return due;
}

/*
 * What another process has leased counts as in flight, too: whoever asked for
 * the work to be done wants it done when the call returns.
 */
QUERY(
	others_at_work,
	"SELECT EXISTS (SELECT FROM billing.outbox WHERE state = 'sending' AND leased_until > clock_timestamp()) "
	"OR EXISTS (SELECT FROM billing.sandbox_deliveries WHERE delivered_at IS NULL AND due_at <= clock_timestamp()) "
	"OR EXISTS (SELECT FROM billing.webhook_events WHERE next_attempt_at <= clock_timestamp()), "
	"EXISTS (SELECT FROM billing.outbox AS o JOIN billing.provider_accounts AS a "
	"ON a.provider = o.provider AND a.account = o.account JOIN billing.providers AS p ON p.name = a.provider "
	"WHERE o.state IN ('queued', 'unknown') AND o.next_attempt_at <= clock_timestamp() "
	"AND a.stopped_at IS NULL AND (p.embedded OR a.secret_key IS NOT NULL AND a.bound_to = $1)), "
	"EXISTS (SELECT FROM billing.subscriptions AS s JOIN billing.providers AS p ON p.name = s.provider "
	"JOIN billing.provider_accounts AS a ON a.provider = s.provider AND a.account = s.account "
	"WHERE s.next_due_at <= now() AND (p.embedded OR a.bound_to = $1) AND " NOT_POSTPONED
	"s.id) AND NOT EXISTS (SELECT FROM billing.sandbox_clocks AS k WHERE k.organization_id = s.organization_id)) "
	"OR EXISTS (SELECT FROM billing.sandbox_clocks AS k "
	"JOIN billing.subscriptions AS s ON s.organization_id = k.organization_id AND s.next_due_at <= k.now "
	"WHERE " NOT_POSTPONED "s.id)) "
	"OR EXISTS (SELECT FROM billing.invoices AS i JOIN billing.providers AS p ON p.name = i.provider "
	"JOIN billing.provider_accounts AS a ON a.provider = i.provider AND a.account = i.account "
	"JOIN billing.sellers AS r ON r.seller = i.seller_name OR (i.seller_name IS NULL AND r.is_default) "
	"WHERE i.managed_by = 'local' AND i.status = 'draft' AND i.marked_at IS NOT NULL "
	"AND (p.embedded OR a.bound_to = $1) AND (NOT i.livemode OR p.merchant_of_record OR r.name IS NOT NULL) "
	"AND " NOT_POSTPONED "i.id)) "
	"OR EXISTS (SELECT FROM billing.invoices AS i JOIN billing.providers AS p ON p.name = i.provider "
	"JOIN billing.provider_accounts AS a ON a.provider = i.provider AND a.account = i.account "
	"WHERE i.managed_by = 'local' AND i.status = 'draft' AND i.marked_at IS NULL AND i.finalize_at <= now() "
	"AND (p.embedded OR a.bound_to = $1) AND " NOT_POSTPONED
	"i.id) AND NOT EXISTS (SELECT FROM billing.sandbox_clocks AS k WHERE k.organization_id = i.organization_id)) "
	"OR EXISTS (SELECT FROM billing.sandbox_clocks AS k JOIN billing.invoices AS i ON i.organization_id = k.organization_id "
	"WHERE i.managed_by = 'local' AND i.status = 'draft' AND i.marked_at IS NULL AND i.finalize_at <= k.now "
	"AND " NOT_POSTPONED "i.id)) "
	"OR EXISTS (SELECT FROM billing.invoices AS i JOIN billing.providers AS p ON p.name = i.provider "
	"JOIN billing.provider_accounts AS a ON a.provider = i.provider AND a.account = i.account "
	"WHERE i.managed_by = 'local' AND i.status = 'open' AND i.next_attempt_at <= (SELECT clock_timestamp()) "
	"AND (p.embedded OR (a.bound_to = $1 AND a.stopped_at IS NULL)) AND " NOT_POSTPONED
	"i.id) AND NOT EXISTS (SELECT FROM billing.sandbox_clocks AS k WHERE k.organization_id = i.organization_id)) "
	"OR EXISTS (SELECT FROM billing.sandbox_clocks AS k JOIN billing.invoices AS i ON i.organization_id = k.organization_id "
	"JOIN billing.providers AS p ON p.name = i.provider AND p.embedded "
	"WHERE i.managed_by = 'local' AND i.status = 'open' AND i.next_attempt_at <= k.now AND " NOT_POSTPONED
	"i.id))",
	TEXTOID);

/*
 * Asked in one statement, so that what moves on between two looks is seen by
 * one of them: a request that was being sent when the pass looked for queued
 * ones may have brought the next one into the queue since.  Not while an
 * account pauses: what is queued for it stays.
 */
static bool
others_busy(bool queue_counts, bool billing_counts)
{
	bool busy;

	if (!unit_begin())
		return false;
	RUN(others_at_work, arg_text(database_binding()));
	busy = row_bool(0, 1) || (queue_counts && row_bool(0, 2)) || (billing_counts && row_bool(0, 3));
	unit_commit();
	return busy;
}

void
drive_until_idle(void)
{
	int waits = 0;

	for (;;)
	{
		long due;

		CHECK_FOR_INTERRUPTS();
		due = drive_pass(PASS_EVERYTHING);
		if (due == 0)
		{
			waits = 0;
			continue;
		}
		if (delivery_in_flight() > 0)
			http_wait(due > 0 ? Min(due, 1000) : 1000, PG_WAIT_EXTENSION);
		else if (due > 0 && (due <= LOCKED_ROW_PAUSE_MS || delivery_filling()))
			http_wait(due, PG_WAIT_EXTENSION);
		else if (others_busy(!delivery_held(), waits < OTHERS_WAITS_MOST) ||
				 (usage_rollup_is_elsewhere() && waits < OTHERS_WAITS_MOST))
		{
			waits++;
			http_wait(OTHERS_PAUSE_MS, PG_WAIT_EXTENSION);
		}
		else
			return;
	}
}

/*
 * When an ERROR ended the last procedure of this session, its calls may still
 * be open here and units still count as the session's: drive_open() and
 * unit_session_begin() start from nothing.  Its leases end by their time; what
 * was sent is sent again under the same key.
 */
void
drive_session_begin(FunctionCallInfo fcinfo, const char *procedure)
{
	unit_session_begin(fcinfo, procedure);
	/* without a key nothing could ever be done: said here (JB012) instead of waiting for it */
	(void) keyed_hash("session", procedure);
	drive_open();
}

void
drive_session_end(void)
{
	drive_close();
	unit_session_end();
}

SQL_FUNCTION(billing_run_worker)
{
	drive_session_begin(fcinfo, "billing.run_worker()");
	drive_until_idle();
	drive_session_end();
	PG_RETURN_VOID();
}

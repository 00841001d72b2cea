/*-------------------------------------------------------------------------
 *
 * housekeeping.c
 *	  Announcements and retention.
 *
 * NOTIFY takes a lock of the whole database at commit: a notification in
 * every transaction would make them wait for each other.  So the worker
 * announces, many at a time.
 *
 *-------------------------------------------------------------------------
 */
#include "db.h"

#include "audit.h"
#include "commands/async.h"
#include "housekeeping.h"
#include "json.h"
#include "postponed.h"
#include "subjects.h"
#include "unit.h"
#include "usage.h"

#define ANNOUNCE_BATCH    1000
#define PRUNE_BATCH       10000
#define PRUNE_INTERVAL_MS (10 * 60 * 1000)

QUERY(
	take_unsent,
	"WITH taken AS (DELETE FROM billing.events_unsent WHERE seq = ANY (ARRAY("
	"SELECT seq FROM billing.events_unsent ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING seq) "
	"SELECT jsonb_build_object('seq', e.seq, 'type', e.type, 'object', e.object, 'id', e.id, "
	"'organization_id', e.organization_id)::text "
	"FROM taken JOIN billing.events AS e USING (seq) ORDER BY e.seq",
	INT8OID);

static void
announce(void *context)
{
	int64 count = RUN(take_unsent, arg_int(ANNOUNCE_BATCH));

	for (int64 i = 0; i < count; i++)
		Async_Notify("billing_events", row_text(i, 1));
	*(int *) context = (int) count;
}

int
events_announce(void)
{
	int count = 0;

	return unit_run(announce, &count, "announce events") ? count : 0;
}

QUERY(
	prune_outbox,
	"DELETE FROM billing.outbox_finished WHERE id = ANY (ARRAY("
	"SELECT id FROM billing.outbox_finished WHERE finished_at < now() - make_interval(secs => $1) "
	"ORDER BY finished_at LIMIT $2))",
	FLOAT8OID, INT8OID);
QUERY(prune_bodies,
	  "UPDATE billing.webhook_events SET raw_body = NULL WHERE id = ANY (ARRAY("
	  "SELECT id FROM billing.webhook_events WHERE raw_body IS NOT NULL "
	  "AND received_at < now() - make_interval(secs => $1) "
	  "ORDER BY received_at LIMIT $2))",
	  FLOAT8OID, INT8OID);
QUERY(
	forget_secrets,
	"UPDATE billing.provider_accounts SET previous_webhook_secret = NULL, previous_webhook_secret_until = NULL "
	"WHERE previous_webhook_secret_until < now()",
	InvalidOid);
QUERY(prune_deliveries,
	  "DELETE FROM billing.sandbox_deliveries WHERE delivered_at < now() - interval '7 days'",
	  InvalidOid);

/* By the organisation's own time, as whoever shows them counts; see client_config(). */
QUERY(
	empty_checkouts,
	"UPDATE billing.checkout_sessions AS c SET url = NULL, client_secret = NULL WHERE (c.url IS NOT NULL OR c.client_secret IS NOT NULL) "
	"AND c.expires_at < coalesce((SELECT k.now FROM billing.sandbox_clocks AS k WHERE k.organization_id = c.organization_id), now())",
	InvalidOid);
QUERY(
	empty_portals,
	"UPDATE billing.portal_sessions AS p SET status = 'expired', url = NULL, token = NULL WHERE p.status = 'open' "
	"AND p.expires_at < coalesce((SELECT k.now FROM billing.sandbox_clocks AS k WHERE k.organization_id = p.organization_id), now())",
	InvalidOid);
QUERY(prune_portals,
	  "DELETE FROM billing.portal_sessions WHERE id = ANY (ARRAY("
	  "SELECT id FROM billing.portal_sessions WHERE status IN ('expired', 'failed') "
	  "AND created_at < now() - make_interval(secs => $1) ORDER BY created_at LIMIT $2))",
	  FLOAT8OID, INT8OID);

/*
 * Of an hour that has lost its events nothing changes any more, and a provider
 * takes nothing that is older than 35 days: when what it comes to was accepted
 * last, and its period is over, nobody asks for it again.
 */
QUERY(
	prune_forwards,
	"DELETE FROM billing.usage_forwards AS w USING (SELECT n.organization_id, n.metric, n.hour, n.provider, n.account "
	"FROM billing.usage_forwards AS n WHERE n.hour < (SELECT least(s.raw_since, now() - interval '36 days') FROM billing.usage_rollup_state AS s) "
	"AND n.state = 'accepted' AND NOT EXISTS (SELECT FROM billing.usage_forwards AS a WHERE a.organization_id = n.organization_id "
	"AND a.metric = n.metric AND a.hour = n.hour AND a.provider = n.provider AND a.account = n.account AND a.revision > n.revision) "
	"AND NOT EXISTS (SELECT FROM billing.usage_forward_periods AS p WHERE p.organization_id = n.organization_id AND p.provider = n.provider "
	"AND p.account = n.account AND p.starts_at < n.hour + interval '1 hour' AND (p.ends_at IS NULL OR p.ends_at > now())) "
	"ORDER BY n.hour LIMIT $1) AS o WHERE w.organization_id = o.organization_id AND w.metric = o.metric AND w.hour = o.hour "
	"AND w.provider = o.provider AND w.account = o.account",
	INT8OID);

static void
prune(void *context)
{
	double days = 24 * 3600;

	RUN(prune_outbox,
		arg_datum(Float8GetDatum(setting_seconds("outbox_retention", 90 * days)), false),
		arg_int(PRUNE_BATCH));
	RUN(prune_bodies,
		arg_datum(Float8GetDatum(setting_seconds("raw_body_retention", 90 * days)), false),
		arg_int(PRUNE_BATCH));
	RUN(forget_secrets, arg_null());
	RUN(prune_deliveries, arg_null());
	RUN(empty_checkouts, arg_null());
	RUN(empty_portals, arg_null());
	RUN(prune_portals,
		arg_datum(Float8GetDatum(setting_seconds("outbox_retention", 90 * days)), false),
		arg_int(PRUNE_BATCH));
	RUN(prune_forwards, arg_int(PRUNE_BATCH));
	work_forget_old();
	audit_prune(PRUNE_BATCH);
}

void
housekeeping_pass(void)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();

	usage_keys_keep();
	if (last != 0 && !TimestampDifferenceExceeds(last, now, PRUNE_INTERVAL_MS))
		return;
	last = now;
	(void) unit_run(prune, NULL, "remove what is past its retention");
	usage_partitions_keep();
}

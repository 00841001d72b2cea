/*-------------------------------------------------------------------------
 *
 * leases.c
 *	  Puts right what processes left behind in the outbox: leases of those
 *	  that died, and requests that wait for nobody.
 *
 * For the worker's loop (drive.c).  Each duty is a unit of its own: when it
 * fails the log says so, and the calls in flight go on.
 *
 *-------------------------------------------------------------------------
 */
#include "leases.h"

#include "delivery.h"
#include "operations.h"
#include "settle.h"
#include "subjects.h"
#include "unit.h"

/*
 * What a process left behind.  Where the provider remembers keys the same
 * bytes go out under the same key; elsewhere somebody has to ask first.  A
 * request that ended its worker once too often is dead.
 */
QUERY(
	expired,
	"SELECT id, provider, attempts, lookup FROM billing.outbox "
	"WHERE state = 'sending' AND answer IS NULL AND (lease_token = $1 OR leased_until < clock_timestamp()) "
	"ORDER BY seq LIMIT 1000 FOR UPDATE SKIP LOCKED",
	UUIDOID);
QUERY(put_back_lease,
	  "UPDATE billing.outbox SET state = $2, lease_token = NULL, leased_until = NULL, "
	  "next_attempt_at = clock_timestamp(), error_type = coalesce($3, error_type) WHERE id = $1",
	  UUIDOID, TEXTOID, TEXTOID);
QUERY(free_stored_answers,
	  "UPDATE billing.outbox SET leased_until = clock_timestamp() "
	  "WHERE state = 'sending' AND answer IS NOT NULL AND lease_token = $1",
	  UUIDOID);

static void
release_leases(void *context)
{
	const pg_uuid_t *token = context;
	int64 max_attempts = setting_int("max_attempts", 20);
	Rows rows;

	RUN(expired, arg_uuid(token));
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows); i++)
	{
		const Provider *module = provider_find(rows_text(rows, i, 2));
		bool lookup = rows_bool(rows, i, 4);
		bool tired = rows_int4(rows, i, 3) >= max_attempts;
		bool same_key = module != NULL &&
						(module->idempotency_window > 0 || module->embedded != NULL) && !lookup;

		RUN(put_back_lease, arg_uuid(rows_uuid(rows, i, 1)),
			arg_text(tired      ? "dead"
					 : same_key ? "queued"
								: "unknown"),
			tired ? arg_text("lease_expired") : arg_null());
	}
	if (token != NULL)
		RUN(free_stored_answers, arg_uuid(token));
}

void
leases_release(const pg_uuid_t *token)
{
	if (unit_run(release_leases, unconstify(pg_uuid_t *, token), "release leases"))
		delivery_expect_stored();
}

/*
 * A session that enqueued while its predecessor was being finished may have
 * left a request waiting for nobody, or blocked by what is done.  Keys are
 * visited by a skip scan, a limited number each time.
 */
#define SWEEP_KEYS 500

QUERY(unblock_orphans,
	  "UPDATE billing.outbox AS o SET blocked_by = NULL WHERE o.blocked_by IS NOT NULL "
	  "AND NOT EXISTS (SELECT FROM billing.outbox AS b WHERE b.id = o.blocked_by)",
	  InvalidOid);
QUERY(
	idle_keys,
	"WITH RECURSIVE keys AS ("
	"(SELECT ordering_key, key_type, 1 AS n FROM billing.outbox WHERE state = 'waiting' AND ordering_key > $1 "
	"ORDER BY ordering_key LIMIT 1) "
	"UNION ALL "
	"SELECT w.ordering_key, w.key_type, keys.n + 1 FROM keys CROSS JOIN LATERAL ("
	"SELECT ordering_key, key_type FROM billing.outbox WHERE state = 'waiting' AND ordering_key > keys.ordering_key "
	"ORDER BY ordering_key LIMIT 1) AS w WHERE keys.n < $2) "
	"SELECT ordering_key, key_type, "
	"EXISTS (SELECT FROM billing.provider_accounts AS p "
	"WHERE EXISTS (SELECT FROM billing.outbox AS w WHERE w.ordering_key = keys.ordering_key "
	"AND w.provider = p.provider AND w.account = p.account AND w.state = 'waiting') "
	"AND NOT EXISTS (SELECT FROM billing.outbox AS a WHERE a.ordering_key = keys.ordering_key "
	"AND a.provider = p.provider AND a.account = p.account "
	"AND a.state <> 'waiting' AND (a.state <> 'dead' OR a.holds))) FROM keys",
	UUIDOID, INT4OID);

static void
sweep(void *context)
{
	static pg_uuid_t from; /* where the last sweep ended; zeros: the beginning */
	Rows rows;
	int64 count;

	RUN(unblock_orphans, arg_null());
	count = RUN(idle_keys, arg_uuid(&from), arg_int4(SWEEP_KEYS));
	rows = rows_keep();
	for (int64 i = 0; i < count; i++)
	{
		pg_uuid_t *key = rows_uuid(rows, i, 1);

		if (rows_bool(rows, i, 3) && settle_lock_key(key_kind_by_name(rows_text(rows, i, 2)), key))
			outbox_promote(uuid_array(&key, 1));
		from = *key;
	}
	if (count < SWEEP_KEYS)
		memset(&from, 0, sizeof(from));
}

void
outbox_sweep(void)
{
	(void) unit_run(sweep, NULL, "promote what waits for nobody");
}

/*-------------------------------------------------------------------------
 *
 * postponed.c
 *	  What a duty could not do is left out for a while.
 *
 * Called by duties inside their units, after what failed was undone.
 *
 *-------------------------------------------------------------------------
 */
#include "postponed.h"

#include "errors.h"

/* The first wait, doubled by each failure, and the longest. */
#define RETRY_FIRST_SECS 60
#define RETRY_MOST_SECS  (6 * SECS_PER_HOUR)
/* What a session holds, or a full disk: soon over, mostly; else twice as long as it has lasted. */
#define PASSING_FIRST_SECS 5
#define PASSING_MOST_SECS  300

QUERY(
	put_failure,
	"INSERT INTO billing.postponed_work AS w (object_id, object_type, organization_id, what, failures, error, retry_at) "
	"VALUES ($1, $2, $3, $4, 1, $5, clock_timestamp() + make_interval(secs => $6)) ON CONFLICT (object_id) DO UPDATE "
	"SET object_type = excluded.object_type, what = excluded.what, failures = least(w.failures + 1, 30), error = excluded.error, "
	"retry_at = clock_timestamp() + make_interval(secs => least($6 * power(2, least(w.failures, 20)), $7)) "
	"RETURNING w.failures = 1",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT8OID);
QUERY(
	put_moment,
	"INSERT INTO billing.postponed_work AS w (object_id, object_type, organization_id, what, failures, retry_at) "
	"SELECT $1, $2, $3, $4, 0, clock_timestamp() + make_interval(secs => $5) "
	"WHERE NOT EXISTS (SELECT FROM billing.sandbox_clocks AS k WHERE k.organization_id = $3) "
	"ON CONFLICT (object_id) DO UPDATE SET retry_at = clock_timestamp() "
	"+ least(greatest(2 * (clock_timestamp() - w.since), make_interval(secs => $5)), make_interval(secs => $6))",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT8OID);

bool
work_postpone(const Undone *undone)
{
	if (sqlstate_passes(undone->sqlstate))
	{
		RUN(put_moment, arg_uuid(undone->id), arg_text(undone->object_type),
			arg_text(undone->organization_id), arg_text(undone->what), arg_int(PASSING_FIRST_SECS),
			arg_int(PASSING_MOST_SECS));
		return false;
	}
	RUN(put_failure, arg_uuid(undone->id), arg_text(undone->object_type),
		arg_text(undone->organization_id), arg_text(undone->what),
		arg_text(error_in_words(undone->sqlstate)), arg_int(RETRY_FIRST_SECS),
		arg_int(RETRY_MOST_SECS));
	return row_bool(0, 1);
}

QUERY(resume, "DELETE FROM billing.postponed_work WHERE object_id = ANY ($1)", UUIDARRAYOID);

void
work_resume(pg_uuid_t *const *ids, int count)
{
	if (count > 0)
		RUN(resume, arg_datum(PointerGetDatum(uuid_array(ids, count)), false));
}

QUERY(forget_old,
	  "DELETE FROM billing.postponed_work WHERE retry_at < clock_timestamp() - interval '1 day'",
	  InvalidOid);

void
work_forget_old(void)
{
	RUN(forget_old, arg_null());
}

/*-------------------------------------------------------------------------
 *
 * subscription_status.c
 *	  Since when a subscription is in the state that it is in.
 *
 * A grace after a failed payment is counted from the first news that it failed,
 * and news come in any order: what is older than what is known changes no
 * state, but it may say that the state began earlier, or was another one
 * between.  So the news of states are kept, as a set, and the moment is found
 * by the set alone: the first news of the present state after the last news of
 * any other.  What can never count again is removed at once, which leaves one
 * row for a subscription that is well.
 *
 *-------------------------------------------------------------------------
 */
#include "subscriptions.h"

/* How far it has come, for what is told of one second (refs.h). */
int
subscription_stage(const char *status)
{
	static const struct
	{
		const char *status;
		int stage;
	} stages[] = {
		{"incomplete", STAGE(0, 0)},         {"trialing", STAGE(1, 0)}, {"active", STAGE(1, 1)},
		{"past_due", STAGE(1, 2)},           {"unpaid", STAGE(1, 3)},   {"paused", STAGE(1, 4)},
		{"incomplete_expired", STAGE(2, 0)}, {"canceled", STAGE(2, 1)},
	};

	for (size_t i = 0; i < lengthof(stages); i++)
	{
		if (strcmp(stages[i].status, status) == 0)
			return stages[i].stage;
	}
	return STAGE(0, 0);
}

bool
subscription_status_is_dated(const char *status)
{
	return strcmp(status, "past_due") == 0 || strcmp(status, "unpaid") == 0 ||
		   strcmp(status, "paused") == 0;
}

QUERY(note_status,
	  "INSERT INTO billing.subscription_statuses (subscription_id, as_of, stage, status) "
	  "VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
	  UUIDOID, TIMESTAMPTZOID, INT4OID, TEXTOID);

void
subscription_status_told(const pg_uuid_t *id, const char *status, TimestampTz as_of)
{
	RUN(note_status, arg_uuid(id), arg_datum(TimestampTzGetDatum(as_of), false),
		arg_int4(subscription_stage(status)), arg_text(status));
}

/* The second: told for the same moment as another state, which should be later. */
QUERY(
	status_began,
	"SELECT min(t.as_of) FILTER (WHERE o.as_of IS NULL OR (t.as_of, t.stage) > (o.as_of, o.stage)), max(t.as_of) "
	"FROM billing.subscription_statuses AS t "
	"LEFT JOIN (SELECT l.as_of, l.stage FROM billing.subscription_statuses AS l "
	"WHERE l.subscription_id = $1 AND l.status <> $2 ORDER BY l.as_of DESC, l.stage DESC LIMIT 1) AS o ON true "
	"WHERE t.subscription_id = $1 AND t.status = $2",
	UUIDOID, TEXTOID);
QUERY(
	forget_before_last,
	"DELETE FROM billing.subscription_statuses AS t WHERE t.subscription_id = $1 AND (t.as_of, t.stage) < "
	"(SELECT l.as_of, l.stage FROM billing.subscription_statuses AS l "
	"WHERE l.subscription_id = $1 ORDER BY l.as_of DESC, l.stage DESC LIMIT 1)",
	UUIDOID);
QUERY(
	forget_before_other,
	"DELETE FROM billing.subscription_statuses AS t WHERE t.subscription_id = $1 AND (t.as_of, t.stage) < "
	"(SELECT l.as_of, l.stage FROM billing.subscription_statuses AS l "
	"WHERE l.subscription_id = $1 AND l.status <> $2 ORDER BY l.as_of DESC, l.stage DESC LIMIT 1)",
	UUIDOID, TEXTOID);

TimestampTz
subscription_status_since(const pg_uuid_t *id, const char *status)
{
	TimestampTz began;

	if (!subscription_status_is_dated(status))
	{
		RUN(forget_before_last, arg_uuid(id));
		return 0;
	}
	RUN(status_began, arg_uuid(id), arg_text(status));
	began = row_time(0, 1);
	if (began == 0)
		return row_time(0, 2);
	RUN(forget_before_other, arg_uuid(id), arg_text(status));
	return began;
}

QUERY(
	put_since,
	"UPDATE billing.subscriptions SET status_since = $2 WHERE id = $1 AND status_since IS DISTINCT FROM $2",
	UUIDOID, TIMESTAMPTZOID);

void
subscription_status_settle(const pg_uuid_t *id, const char *status)
{
	TimestampTz since = subscription_status_since(id, status);

	if (since != 0)
		RUN(put_since, arg_uuid(id), arg_time(since));
}

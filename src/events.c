/*-------------------------------------------------------------------------
 *
 * events.c
 *	  Events out: every change of state is a row, written with the change.
 *
 * Called by the subjects.  The row in events_unsent is what the worker
 * announces by NOTIFY and deletes: a NOTIFY in every transaction would make
 * commits wait for each other.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

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

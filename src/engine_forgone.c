/*-------------------------------------------------------------------------
 *
 * engine_forgone.c
 *	  What was billed for a period that was left without a credit.
 *
 * proration_behavior none gives nothing back, also not when a later change does:
 * the rest of the period that ended early is given up.  What began before the
 * present period is told by that.  What did not - the period that was left began
 * in the same second, or it was the next one, invoiced ahead - looks like what
 * was billed for the present one, so its lines are kept by their ids
 * (subscriptions.forgone_lines) as long as anything could take them for that.
 *
 * Called by engine_changes.c, engine_rest.c, engine_ahead.c and engine_renewal.c.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

#include "json.h"

static bool
is_kept(const BilledSubscription *s, const InvoiceLine *line)
{
	ListCell *cell;

	foreach (cell, s->forgone)
	{
		if (uuid_equal(lfirst(cell), line->id))
			return true;
	}
	return false;
}

bool
line_counts(const BilledSubscription *s, const InvoiceLine *line)
{
	return line->period_start >= s->period_start && !is_kept(s, line);
}

/* What was given back of them stays so; it is not restored either. */
void
forgo_period(BilledSubscription *s)
{
	List *forgone = list_copy(s->forgone);
	ListCell *cell;

	foreach (cell, s->billed)
	{
		const InvoiceLine *line = lfirst(cell);

		if (line_counts(s, line))
			forgone = lappend(forgone, line->id);
	}
	s->forgone = forgone;
}

void
forgone_follow_period(BilledSubscription *s)
{
	List *keep = NIL;
	ListCell *cell;

	if (s->forgone == NIL)
		return;
	foreach (cell, s->billed)
	{
		const InvoiceLine *line = lfirst(cell);

		if (line->period_start >= s->period_start && is_kept(s, line))
			keep = lappend(keep, line->id);
	}
	s->forgone = keep;
}

List *
forgone_read(const Jsonb *ids)
{
	int count = ids == NULL ? 0 : json_length(ids, "");
	List *forgone = NIL;

	for (int i = 0; i < count; i++)
		forgone = lappend(forgone, uuid_parse(json_text(ids, psprintf("%d", i))));
	return forgone;
}

const Jsonb *
forgone_text(const BilledSubscription *s)
{
	JsonBuilder b;
	ListCell *cell;

	if (s->forgone == NIL)
		return NULL;
	json_open(&b);
	json_open_array(&b, "lines");
	foreach (cell, s->forgone)
		json_append_text(&b, uuid_text(lfirst(cell)));
	json_close_array(&b);
	return json_part(json_close(&b), "lines");
}

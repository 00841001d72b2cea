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

static List *
with_those_of(List *forgone, const BilledSubscription *s, const List *lines)
{
	ListCell *cell;

	foreach (cell, lines)
	{
		const InvoiceLine *line = lfirst(cell);

		if (line_counts(s, line))
			forgone = lappend(forgone, line->id);
	}
	return forgone;
}

/* What was given back of them stays so; it is not restored either. */
void
forgo_period(BilledSubscription *s)
{
	List *forgone = list_copy(s->forgone);

	forgone = with_those_of(forgone, s, s->billed);
	s->forgone = with_those_of(forgone, s, s->voided);
}

static List *
those_to_keep(List *keep, const BilledSubscription *s, const List *lines)
{
	ListCell *cell;

	foreach (cell, lines)
	{
		const InvoiceLine *line = lfirst(cell);

		if (line->period_start >= s->period_start && is_kept(s, line))
			keep = lappend(keep, line->id);
	}
	return keep;
}

void
forgone_follow_period(BilledSubscription *s)
{
	List *keep = NIL;

	if (s->forgone == NIL)
		return;
	keep = those_to_keep(keep, s, s->billed);
	s->forgone = those_to_keep(keep, s, s->voided);
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

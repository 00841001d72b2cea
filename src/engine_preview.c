/*-------------------------------------------------------------------------
 *
 * engine_preview.c
 *	  What would be billed: of a change, of the next invoice, until a day.
 *
 * Each is a run of the engine that is not written (engine.h): nothing is locked,
 * closed or consumed, and no number is taken.  So it cannot tell anything else
 * than what the same run would bill.  All is read on the snapshot of the statement
 * that asks, so that what others commit meanwhile is in all of it or in nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_plans.h"

#include "check.h"
#include "errors.h"
#include "subscriptions.h"
#include "utils/tuplestore.h"

/* The columns of all three functions. */
#define PREVIEW_COLUMNS 19

/* So many due times are some 27 years of days; each looks at all drafts before it. */
#define SIMULATE_MOST 10000

typedef struct PreviewRow
{
	int invoice; /* 0: the line waits for an invoice to come */
	int position;
	TimestampTz proration_date;
	const BilledSubscription *subscription;
	const InvoiceDraft *draft;
	const InvoiceLine *line;
	const int64 *total; /* of lines that wait; NULL: not known */
	bool untold;        /* discount and tax are not known */
} PreviewRow;

static void
put_text(Datum *values, bool *nulls, int column, const char *value)
{
	nulls[column] = value == NULL;
	values[column] = value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
}

static void
put_time(Datum *values, bool *nulls, int column, TimestampTz value)
{
	nulls[column] = value == 0;
	values[column] = TimestampTzGetDatum(value);
}

static void
put_fraction(Datum *values, bool *nulls, int column, bool given, MoneyFraction value)
{
	nulls[column] = !given;
	values[column] = given ? NumericGetDatum(numeric_of_fraction(value)) : (Datum) 0;
}

static void
put_row(ReturnSetInfo *result, const PreviewRow *row)
{
	const InvoiceLine *line = row->line;
	const InvoiceDraft *draft = row->draft;
	Datum values[PREVIEW_COLUMNS] = {0};
	bool nulls[PREVIEW_COLUMNS] = {false};

	nulls[0] = row->invoice == 0;
	values[0] = Int32GetDatum(row->invoice);
	nulls[1] = row->subscription == NULL;
	values[1] = nulls[1] ? (Datum) 0 : UUIDPGetDatum(row->subscription->id);
	put_text(values, nulls, 2, draft == NULL ? NULL : draft->reason);
	put_time(values, nulls, 3, draft == NULL ? 0 : draft->made_at);
	values[4] = Int32GetDatum(row->position);
	put_text(values, nulls, 5, line_kind_name(line->kind));
	put_text(values, nulls, 6, line->component);
	put_text(values, nulls, 7, line->description);
	put_fraction(values, nulls, 8, line->has_quantity, line->quantity);
	put_fraction(values, nulls, 9, line->has_quantity, line->unit_amount);
	values[10] = Int64GetDatum(line->amount);
	nulls[11] = nulls[12] = row->untold;
	values[11] = Int64GetDatum(line->discount);
	values[12] = Int64GetDatum(line->tax);
	put_text(values, nulls, 13,
			 row->subscription == NULL ? draft->currency : row->subscription->currency);
	put_time(values, nulls, 14, line->period_start);
	put_time(values, nulls, 15, line->period_end);
	nulls[16] = draft == NULL && row->total == NULL;
	values[16] = Int64GetDatum(nulls[16] ? 0 : draft == NULL ? *row->total : draft->totals.total);
	nulls[17] = draft == NULL;
	values[17] = Int64GetDatum(draft == NULL ? 0 : draft->due);
	put_time(values, nulls, 18, row->proration_date);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_draft(ReturnSetInfo *result, const InvoiceDraft *draft, int invoice, TimestampTz proration_date)
{
	for (int i = 0; i < list_length(draft->lines); i++)
		put_row(result, &(PreviewRow){.invoice = invoice,
									  .position = i + 1,
									  .proration_date = proration_date,
									  .subscription = draft->subscription,
									  .draft = draft,
									  .line = list_nth(draft->lines, i)});
}

static void
complete(BillingRun *run, InvoiceDraft *draft)
{
	if (!draft->is_final)
		draft_complete(run, draft);
}

/* The first one that would be final before a moment (0: ever) and is not yet. */
static InvoiceDraft *
first_to_complete(const BillingRun *run, TimestampTz until)
{
	InvoiceDraft *first = NULL;
	ListCell *cell;

	foreach (cell, run->drafts)
	{
		InvoiceDraft *draft = lfirst(cell);

		if (!draft->is_final && (until == 0 || draft->finalize_at < until) &&
			(first == NULL || draft->finalize_at < first->finalize_at))
			first = draft;
	}
	return first;
}

/*
 * Drafts that would be final before a moment (0: ever), each after the other,
 * with the usage that there is now.  One that comes to nothing leaves the list.
 */
static void
complete_until(BillingRun *run, TimestampTz until)
{
	InvoiceDraft *draft;

	while ((draft = first_to_complete(run, until)) != NULL)
		complete(run, draft);
}

/* More due times than lie between two invoices of a subscription. */
#define STEPS_MAX 1000

static InvoiceDraft *
next_draft(BillingRun *run, BilledSubscription *s)
{
	int before = list_length(run->drafts);

	for (int i = 0; i < STEPS_MAX && list_length(run->drafts) == before; i++)
	{
		TimestampTz due = engine_next_due(s);

		if (due == 0)
			return NULL;
		CHECK_FOR_INTERRUPTS();
		engine_play(run, s, due);
	}
	return list_length(run->drafts) == before ? NULL : list_nth(run->drafts, before);
}

/* ------------------------------------------------------------------------
 * A change
 * ------------------------------------------------------------------------
 */

/* A line that waited before the change, as it was then. */
typedef struct WaitingLine
{
	const InvoiceLine *line;
	InvoiceLine was;
} WaitingLine;

/* What there is before a change: drafts, and lines that are not final. */
typedef struct Before
{
	List *drafts;
	List *waiting; /* WaitingLine */
} Before;

/* The usage of a draft that waits is on it with the change or without. */
static Before
what_is_there(BillingRun *run, const BilledSubscription *s)
{
	Before before = {list_copy(run->drafts), NIL};
	ListCell *cell;

	bill_usage_of_waiting_drafts(run, s);
	foreach (cell, lines_not_final(run, s))
	{
		WaitingLine *waiting = palloc(sizeof(WaitingLine));

		waiting->line = lfirst(cell);
		waiting->was = *waiting->line;
		before.waiting = lappend(before.waiting, waiting);
	}
	return before;
}

static bool
was_waiting(const List *waiting, const InvoiceLine *line)
{
	ListCell *cell;

	foreach (cell, waiting)
	{
		if (((const WaitingLine *) lfirst(cell))->line == line)
			return true;
	}
	return false;
}

static const InvoiceLine *
line_with_id(const List *lines, const pg_uuid_t *id)
{
	ListCell *cell;

	foreach (cell, lines)
	{
		const InvoiceLine *line = lfirst(cell);

		if (uuid_equal(line->id, id))
			return line;
	}
	return NULL;
}

/* A waiting line that the change adds, takes away or shortens, as it is told. */
typedef struct ChangedLine
{
	InvoiceLine told;
	bool known; /* discount and tax are those of the next invoice */
} ChangedLine;

/* On an invoice of the change itself it is told with that. */
static bool
is_on_new_draft(const BillingRun *run, const Before *before, const InvoiceLine *line)
{
	ListCell *cell;

	foreach (cell, run->drafts)
	{
		InvoiceDraft *draft = lfirst(cell);

		if (!list_member_ptr(before->drafts, draft) && list_member_ptr(draft->lines, line))
			return true;
	}
	return false;
}

/* It waits on, or on a draft that has waited, also one that is final by then. */
static bool
stands(const BilledSubscription *s, const Before *before, const InvoiceLine *line)
{
	ListCell *cell;

	foreach (cell, before->drafts)
	{
		if (list_member_ptr(((const InvoiceDraft *) lfirst(cell))->lines, line))
			return true;
	}
	return list_member_ptr(s->pending, line);
}

/* What a line that waited loses: all of it, or the time that is cut off. */
static ChangedLine *
lost_line(const BilledSubscription *s, const Before *before, const WaitingLine *waiting)
{
	bool stays = stands(s, before, waiting->line);
	ChangedLine *less = palloc0(sizeof(ChangedLine));

	less->told = waiting->was;
	less->told.amount = (stays ? waiting->line->amount : 0) - waiting->was.amount;
	less->told.has_quantity = false;
	if (stays)
		less->told.period_start = waiting->line->period_end;
	return less;
}

static List *
changed_lines(const BillingRun *run, const BilledSubscription *s, const Before *before)
{
	List *changed = NIL;
	ListCell *cell;

	foreach (cell, before->waiting)
	{
		const WaitingLine *waiting = lfirst(cell);
		ChangedLine *less = lost_line(s, before, waiting);

		if (less->told.amount != 0 && !is_on_new_draft(run, before, waiting->line))
			changed = lappend(changed, less);
	}
	foreach (cell, lines_not_final(run, s))
	{
		const InvoiceLine *line = lfirst(cell);
		ChangedLine *more;

		if (was_waiting(before->waiting, line) || is_on_new_draft(run, before, line))
			continue;
		more = palloc0(sizeof(ChangedLine));
		more->told = *line;
		changed = lappend(changed, more);
	}
	return changed;
}

/*
 * Discount and tax by the next invoice: with the change, less what there would
 * be without it.  A line that something else will change before that is not
 * told.
 */
static void
tell_by_next_invoice(ChangedLine *line, const InvoiceDraft *with, const InvoiceDraft *without)
{
	const pg_uuid_t *id = line->told.id;
	const InvoiceLine *after = with == NULL ? NULL : line_with_id(with->lines, id);
	const InvoiceLine *before = without == NULL ? NULL : line_with_id(without->lines, id);
	int64 amount = (after == NULL ? 0 : after->amount) - (before == NULL ? 0 : before->amount);

	line->told.discount = (after == NULL ? 0 : after->discount) -
						  (before == NULL ? 0 : before->discount);
	line->told.tax = (after == NULL ? 0 : after->tax) - (before == NULL ? 0 : before->tax);
	line->known = (after != NULL || before != NULL) && amount == line->told.amount;
}

/* The next invoice: a draft that waits beyond a moment (0: whichever), unless it comes to nothing, or one that is to be made. */
static const InvoiceDraft *
next_completed(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	InvoiceDraft *draft;

	while ((draft = draft_that_waits(run, s, at)) != NULL)
	{
		complete(run, draft);
		if (list_member_ptr(run->drafts, draft))
			return draft;
	}
	draft = next_draft(run, s);
	if (draft != NULL)
		complete(run, draft);
	return draft;
}

/* As the change itself left it: the run goes on to the next invoice, and so does one without the change. */
static void
tell_changed(ReturnSetInfo *result, BillingRun *run, BilledSubscription *s, List *changed,
			 TimestampTz at)
{
	BilledSubscription *unchanged;
	BillingRun *without = local_open(s->id, true, &unchanged);
	const InvoiceDraft *next = next_completed(run, s, at);
	const InvoiceDraft *next_without = next_completed(without, unchanged, at);
	bool known = true;
	int64 total = 0;
	int position = 0;
	ListCell *cell;

	foreach (cell, changed)
	{
		ChangedLine *line = lfirst(cell);

		tell_by_next_invoice(line, next, next_without);
		known = known && line->known;
		total += line_gross(&line->told);
	}
	foreach (cell, changed)
	{
		const ChangedLine *line = lfirst(cell);

		put_row(result, &(PreviewRow){.position = ++position,
									  .proration_date = at,
									  .subscription = s,
									  .line = &line->told,
									  .total = known ? &total : NULL,
									  .untold = !line->known});
	}
}

/* Invoices of the change itself, then the lines that wait for the next one. */
static void
put_change(ReturnSetInfo *result, BillingRun *run, BilledSubscription *s, const Before *before,
		   TimestampTz at)
{
	List *changed = changed_lines(run, s, before);
	List *drafts = list_copy(run->drafts);
	int invoice = 0;
	ListCell *cell;

	foreach (cell, drafts)
	{
		InvoiceDraft *draft = lfirst(cell);

		if (list_member_ptr(before->drafts, draft))
			continue;
		complete(run, draft);
		if (list_member_ptr(run->drafts, draft))
			put_draft(result, draft, ++invoice, at);
	}
	if (changed != NIL)
		tell_changed(result, run, s, changed, at);
}

/* When what was asked for counts: now, with the period, or when the trial ends. */
static TimestampTz
change_counts_at(const BilledSubscription *s, const UpdateTerms *terms)
{
	const ScheduledChange *change = planned(s, "change");
	TimestampTz at = s->customer->now;

	if (is_status(s, "trialing") && terms->trial_end != 0)
		at = Max(at, s->trial_end);
	if (change != NULL && strcmp(terms->effective, "period_end") == 0)
		at = Max(at, change->due_at);
	return at;
}

SQL_FUNCTION(billing_preview_update)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	pg_uuid_t *id = ARG_UUID(0);
	UpdateTerms terms;
	BilledSubscription *s;
	BillingRun *run;
	Before before;
	TimestampTz at = 0;

	InitMaterializedSRF(fcinfo, 0);
	db_open_reading();
	terms = subscription_update_terms(fcinfo);
	check_given("subscription_id", id != NULL);
	run = local_open(id, true, &s);
	local_require_changeable(s);
	subscription_check_cancel_at(s->customer->organization_id, terms.cancel_at);
	if (local_changes_items(&terms) && strcmp(terms.effective, "now") == 0)
		at = local_proration_date(s, terms.proration_date);
	before = what_is_there(run, s);
	local_change(run, s, &terms);
	/* as the change itself: one that was to end with its period may end here */
	if (change_counts_at(s, &terms) > s->customer->now)
		complete_until(run, change_counts_at(s, &terms));
	engine_play(run, s, change_counts_at(s, &terms));
	put_change(result, run, s, &before, at);
	db_close();
	PG_RETURN_NULL();
}

/* ------------------------------------------------------------------------
 * The next invoice
 * ------------------------------------------------------------------------
 */

/* Of one that has ended, the last invoice may wait for late usage. */
QUERY(
	local_of_organization,
	"SELECT s.id FROM billing.subscriptions AS s WHERE s.organization_id = $1 AND s.managed_by = 'local' "
	"AND (s.status NOT IN ('canceled', 'incomplete_expired') OR EXISTS (SELECT FROM billing.invoices AS i "
	"WHERE i.subscription_id = s.id AND i.managed_by = 'local' AND i.status = 'draft' AND i.marked_at IS NULL "
	"AND i.finalize_at IS NOT NULL)) ORDER BY s.id",
	TEXTOID);

/* One who is deleted has nothing to come. */
QUERY(was_there, "SELECT FROM billing.customers WHERE organization_id = $1 LIMIT 1", TEXTOID);

static BillingRun *
load_organization(const char *organization_id)
{
	pg_uuid_t **ids;
	int64 count;

	/* nothing to come, and a name that is misspelt, are not the same */
	if (customer_of_organization(organization_id, false) == NULL &&
		RUN(was_there, arg_text(organization_id)) == 0)
		unknown_object("customer of organization", organization_id,
					   "Use billing.create_customer() first.");
	count = RUN(local_of_organization, arg_text(organization_id));
	ids = palloc(sizeof(pg_uuid_t *) * Max(count, 1));
	for (int64 i = 0; i < count; i++)
		ids[i] = row_uuid(i, 1);
	return run_load(ids, (int) count, false, true);
}

SQL_FUNCTION(billing_preview_invoice)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	pg_uuid_t *id = ARG_UUID(0);
	char *organization_id = ARG_TEXT(1);
	BilledSubscription *s;
	BillingRun *run;
	int invoice = 0;
	ListCell *cell;

	InitMaterializedSRF(fcinfo, 0);
	db_open_reading();
	check_given("subscription_id or organization_id", (id != NULL) != (organization_id != NULL));
	if (id != NULL)
		run = local_open(id, true, &s);
	else
		run = load_organization(organization_id);
	foreach (cell, run->subscriptions)
	{
		const InvoiceDraft *draft = next_completed(run, lfirst(cell), 0);

		if (draft != NULL)
			put_draft(result, draft, ++invoice, 0);
	}
	db_close();
	PG_RETURN_NULL();
}

/* ------------------------------------------------------------------------
 * Until a day
 * ------------------------------------------------------------------------
 */

/* As it is when everything is paid: it can be given back, and what waits for money goes on. */
static void
count_as_paid(BillingRun *run, BilledSubscription *s, TimestampTz at)
{
	ListCell *cell;

	foreach (cell, s->billed)
	{
		InvoiceLine *line = lfirst(cell);

		line->paid = line_gross(line);
	}
	if (subscription_starts_at(s) != 0)
		return;
	if (is_status(s, "incomplete") || is_status(s, "past_due"))
		set_status(run, s, "active", at);
	else if (is_status(s, "unpaid"))
		engine_resume(run, s, at);
}

static BilledSubscription *
first_due(const BillingRun *run, TimestampTz until)
{
	BilledSubscription *first = NULL;
	TimestampTz first_at = 0;
	ListCell *cell;

	foreach (cell, run->subscriptions)
	{
		BilledSubscription *s = lfirst(cell);
		TimestampTz due = engine_next_due(s);

		if (due == 0 || due > until || (first != NULL && due >= first_at))
			continue;
		first = s;
		first_at = due;
	}
	return first;
}

SQL_FUNCTION(billing_simulate)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *organization_id = ARG_TEXT(0);
	TimestampTz until = ARG_TIME(1);
	BillingRun *run;
	BilledSubscription *s;
	ListCell *cell;
	int steps = 0;

	InitMaterializedSRF(fcinfo, 0);
	db_open_reading();
	check_given("organization_id", organization_id != NULL);
	check_given("until", !PG_ARGISNULL(1));
	if (TIMESTAMP_NOT_FINITE(until))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("until cannot be infinite"),
				 errdetail("A subscription goes on for ever, and so would its invoices."),
				 errhint("Pass a day: some years ahead at most.")));
	run = load_organization(organization_id);
	if (until < clock_now(organization_id))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("until is in the past"),
						errdetail("until is %s; for organization \"%s\" it is %s.",
								  pstrdup(timestamptz_to_str(until)), organization_id,
								  pstrdup(timestamptz_to_str(clock_now(organization_id)))),
						errhint("Pass something like billing.now('%s') + interval '1 month'.",
								organization_id)));
	foreach (cell, run->subscriptions)
	{
		s = lfirst(cell);
		count_as_paid(run, s, s->customer->now);
	}
	while ((s = first_due(run, until)) != NULL)
	{
		TimestampTz due = engine_next_due(s);

		CHECK_FOR_INTERRUPTS();
		/* until it is final, what changes stands on a draft that waits */
		complete_until(run, due);
		engine_play(run, s, due);
		count_as_paid(run, s, due);
		if (++steps > SIMULATE_MOST)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("more than %d things are due until then", SIMULATE_MOST),
							errdetail("The last one that was looked at is due at %s.",
									  pstrdup(timestamptz_to_str(due))),
							errhint("Choose an earlier moment.")));
	}
	complete_until(run, 0);
	for (int i = 0; i < list_length(run->drafts); i++)
		put_draft(result, list_nth(run->drafts, i), i + 1, 0);
	db_close();
	PG_RETURN_NULL();
}

/*-------------------------------------------------------------------------
 *
 * credit_note_numbers.c
 *	  The duty that numbers credit notes, as invoice_numbers.c numbers invoices:
 *	  in the order in which they were made, from series of their own.  One that
 *	  cannot be numbered holds up nobody.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "accounts.h"
#include "invoice_numbers.h"
#include "postponed.h"
#include "unit.h"

/* Credit notes that one transaction numbers. */
#define NUMBER_BATCH 500

QUERY(any_draft, "SELECT EXISTS (SELECT FROM billing.credit_notes AS n WHERE n.status = 'draft' "
				 "AND " NOT_POSTPONED "n.id))");
/* The seller is the one who issued the invoice. */
QUERY_IN_ORDER(
	take_drafts,
	"SELECT n.id, n.organization_id, n.livemode, coalesce(i.seller_name, $3), n.marked_at FROM billing.credit_notes AS n "
	"JOIN billing.invoices AS i ON i.id = n.invoice_id JOIN billing.providers AS p ON p.name = n.provider "
	"JOIN billing.provider_accounts AS a ON a.provider = n.provider AND a.account = n.account "
	"WHERE n.status = 'draft' AND (p.embedded OR a.bound_to = $2) AND " NOT_POSTPONED
	"n.id) ORDER BY n.marked_at, n.id LIMIT $1 FOR NO KEY UPDATE OF n SKIP LOCKED",
	INT8OID, TEXTOID, TEXTOID);
QUERY(
	put_number,
	"UPDATE billing.credit_notes SET status = 'issued', number = $2, series_id = $3, series_number = $4, issued_at = $5 "
	"WHERE id = $1 AND status = 'draft'",
	UUIDOID, TEXTOID, UUIDOID, INT8OID, TIMESTAMPTZOID);

static void
give_number(Rows rows, int64 row, List **open)
{
	pg_uuid_t *id = rows_uuid(rows, row, 1);
	char *seller = rows_text(rows, row, 4);
	TimestampTz issued_at = rows_time(rows, row, 5);
	int year = seller_year(seller, issued_at);
	NumberSeries *series = series_of(open, seller, "credit_note", rows_bool(rows, row, 3), year);
	int64 number;
	char *printed = series_next(series, year, &issued_at, &number);

	RUN(put_number, arg_uuid(id), arg_text(printed), arg_uuid(series->id), arg_int(number),
		arg_time(issued_at));
	event_record("credit_note.issued", "credit_note", id, rows_text(rows, row, 2), "draft",
				 "issued");
}

/* Drafts of one run: rows of take_drafts. */
typedef struct Drafts
{
	Rows rows;
	int64 first;
	int64 count;
} Drafts;

static void
number_rows(void *context)
{
	const Drafts *drafts = context;
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * Max(drafts->count, 1));
	List *open = NIL;

	for (int64 i = 0; i < drafts->count; i++)
	{
		ids[i] = rows_uuid(drafts->rows, drafts->first + i, 1);
		give_number(drafts->rows, drafts->first + i, &open);
	}
	series_close(open);
	work_resume(ids, (int) drafts->count);
}

static void
put_off(void *context)
{
	(void) work_postpone(context);
}

static int
number_each(const Drafts *all)
{
	int done = 0;

	for (int64 i = 0; i < all->count; i++)
	{
		Drafts one = {all->rows, i, 1};
		Undone undone = {.what = "credit note cannot be numbered",
						 .object_type = "credit_note",
						 .id = rows_uuid(all->rows, i, 1),
						 .organization_id = rows_text(all->rows, i, 2)};
		char *sqlstate;
		char *message;

		if (guarded(number_rows, &one, &sqlstate, &message))
		{
			done++;
			continue;
		}
		undone.sqlstate = sqlstate;
		ereport(LOG, (errmsg("credit note %s of billing cannot be numbered: %s",
							 uuid_text(undone.id), message),
					  errdetail("SQLSTATE %s. It is tried again later.", undone.sqlstate)));
		done += guarded(put_off, &undone, &sqlstate, &message);
	}
	return done;
}

static void
number_drafts(void *context)
{
	Drafts all = {0};
	char *sqlstate;
	char *message;
	char *seller;

	RUN(any_draft, arg_null());
	if (!row_bool(0, 1))
		return;
	numbers_begin();
	seller = seller_default();
	all.count = RUN(take_drafts, arg_int(NUMBER_BATCH), arg_text(database_binding()),
					arg_text(seller));
	all.rows = rows_keep();
	*(int *) context = guarded(number_rows, &all, &sqlstate, &message) ? (int) all.count
																	   : number_each(&all);
}

int
credit_notes_number(void)
{
	int done = 0;

	return unit_run(number_drafts, &done, "number credit notes") ? done : 0;
}

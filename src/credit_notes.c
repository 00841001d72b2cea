/*-------------------------------------------------------------------------
 *
 * credit_notes.c
 *	  Credit notes: what is taken back of a final invoice of ours, and where
 *	  the money goes.
 *
 * Of each line at most what it was billed with is taken back: less earlier
 * credit notes, and less the proration credits that give it back on other
 * invoices.  Its tax goes back in proportion, and with the last of the line the
 * last of its tax, so that a whole credit is the exact mirror.
 *
 * The customer is locked, then the invoice: two sessions together never take
 * back more than there is.  The money moves in the transaction that makes the
 * credit note; its number comes from the worker, as that of an invoice.
 *
 *-------------------------------------------------------------------------
 */
#include "collection.h"

#include "check.h"
#include "errors.h"
#include "given_back.h"
#include "json.h"
#include "keys.h"
#include "payments.h"

static const char *const reason_words[] = {
	"requested_by_customer",  "duplicate", "fraudulent", "service_disruption",
	"satisfaction_guarantee", "other",     NULL};
static const char *const destination_words[] = {"balance", "refund", NULL};

typedef struct Invoice
{
	pg_uuid_t *id;
	pg_uuid_t *customer_id;
	char *organization_id;
	char *provider;
	char *account;
	bool livemode;
	char *managed_by;
	char *status;
	char *currency;
	int64 amount_remaining; /* minor units */
	Jsonb *seller;
	bytea *buyer;
	bool statement; /* the provider is the seller */
} Invoice;

/* What can be taken back of a line, and what is. */
typedef struct Line
{
	pg_uuid_t *id;
	char *description;
	pg_uuid_t *tax_rate_id;
	bool tax_inclusive;
	TimestampTz period_start;
	TimestampTz period_end;
	int64 left; /* minor units, tax included; below 0 for a credit on the invoice */
	int64 tax_left;
	int64 taken;
	int64 tax_taken;
	bool named;
	const pg_uuid_t *credit_line_id; /* that it makes up for; NULL: somebody asked for it */
} Line;

typedef struct CreditNote
{
	pg_uuid_t *id;
	const Invoice *invoice;
	const char *reason;
	const char *memo;
	Line *lines;
	int line_count;
	int64 subtotal;
	int64 tax;
	int64 total;
	int64 applied;
	int64 to_balance;
	int64 to_refund;
	List *refundable; /* RefundablePayment */
} CreditNote;

typedef struct RefundablePayment
{
	pg_uuid_t *id;
	int64 left;
} RefundablePayment;

/* ---- the invoice ---- */

QUERY(
	load_invoice,
	"SELECT customer_id, organization_id, provider, account, livemode, managed_by, status, currency, amount_remaining, "
	"seller, buyer, EXISTS (SELECT FROM billing.providers AS p WHERE p.name = i.provider AND p.merchant_of_record) "
	"FROM billing.invoices AS i WHERE id = $1",
	UUIDOID);
QUERY(lock_invoice, "SELECT FROM billing.invoices WHERE id = $1 FOR NO KEY UPDATE", UUIDOID);

static Invoice *
load_invoice_row(pg_uuid_t *id)
{
	Invoice *i;

	if (RUN(load_invoice, arg_uuid(id)) == 0)
		unknown_object("invoice", uuid_text(id), NULL);
	i = palloc(sizeof(Invoice));
	i->id = id;
	i->customer_id = row_uuid(0, 1);
	i->organization_id = row_text(0, 2);
	i->provider = row_text(0, 3);
	i->account = row_text(0, 4);
	i->livemode = row_bool(0, 5);
	i->managed_by = row_text(0, 6);
	i->status = row_text(0, 7);
	i->currency = row_text(0, 8);
	i->amount_remaining = row_int(0, 9);
	i->seller = row_json(0, 10);
	i->buyer = row_bytes(0, 11);
	i->statement = row_bool(0, 12);
	return i;
}

static Invoice *
invoice_load_locked(pg_uuid_t *id)
{
	Invoice *i;

	check_given("invoice_id", id != NULL);
	i = load_invoice_row(id);
	outbox_lock_customer(i->customer_id);
	RUN(lock_invoice, arg_uuid(id));
	return load_invoice_row(id);
}

/* Of one that was given up, too: then its tax is not owed either, and the loss is less. */
static void
check_invoice(const Invoice *i)
{
	if (strcmp(i->managed_by, "local") != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("invoice \"%s\" is corrected by provider \"%s\"", uuid_text(i->id),
							   i->provider),
						errdetail("It is of %s, who numbers and corrects it.", i->provider),
						errhint("Make the credit note there, or pay it back by "
								"billing.create_refund().")));
	if (i->statement)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
						errmsg("invoice \"%s\" is a statement: %s is the seller", uuid_text(i->id),
							   i->provider),
						errdetail("What it sells is corrected by credit notes of its own."),
						errhint("Pay it back by billing.create_refund(); billing.void_invoice() is "
								"for what is not paid.")));
	if (strcmp(i->status, "open") != 0 && strcmp(i->status, "paid") != 0 &&
		strcmp(i->status, "uncollectible") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("invoice \"%s\" is %s", uuid_text(i->id), i->status),
				 errdetail("It would have to be open, paid or uncollectible."),
				 errhint("%s", strcmp(i->status, "draft") == 0
								   ? "A draft can still be changed: nothing of it is billed yet."
								   : "Nothing of it is to be paid.")));
}

/* ---- what is left ---- */

/*
 * added is what the customer pays of a line.  A line of another invoice that
 * reverses this one counts as given back by as much as credit notes have not
 * undone of it; that of a void invoice does not count.
 */
QUERY(
	load_lines,
	"WITH given AS (SELECT c.invoice_line_id, sum(c.amount + CASE WHEN c.tax_inclusive THEN 0 ELSE c.tax END) AS paid, "
	"sum(c.tax) AS tax FROM billing.credit_note_lines AS c WHERE c.invoice_line_id IN "
	"(SELECT l.id FROM billing.invoice_lines AS l WHERE l.invoice_id = $1 UNION ALL "
	"SELECT r.id FROM billing.invoice_lines AS l JOIN billing.invoice_lines AS r ON r.reverses = l.id "
	"WHERE l.invoice_id = $1) GROUP BY c.invoice_line_id) "
	"SELECT l.id, l.description, l.tax_rate_id, l.tax_inclusive, l.period_start, l.period_end, "
	"(l.amount - l.discount + CASE WHEN l.tax_inclusive THEN 0 ELSE l.tax END - coalesce(g.paid, 0) "
	"+ coalesce(v.paid, 0))::bigint, (l.tax - coalesce(g.tax, 0) + coalesce(v.tax, 0))::bigint "
	"FROM billing.invoice_lines AS l LEFT JOIN given AS g ON g.invoice_line_id = l.id LEFT JOIN LATERAL "
	"(SELECT sum(r.amount - r.discount + CASE WHEN r.tax_inclusive THEN 0 ELSE r.tax END - coalesce(h.paid, 0)) AS paid, "
	"sum(r.tax - coalesce(h.tax, 0)) AS tax FROM billing.invoice_lines AS r "
	"LEFT JOIN billing.invoices AS i ON i.id = r.invoice_id LEFT JOIN given AS h ON h.invoice_line_id = r.id "
	"WHERE r.reverses = l.id AND i.status IS DISTINCT FROM 'void') AS v ON true "
	"WHERE l.invoice_id = $1 AND l.kind NOT IN ('discount', 'tax', 'credit', 'balance') ORDER BY l.position",
	UUIDOID);

static void
lines_load(CreditNote *note)
{
	int64 count = RUN(load_lines, arg_uuid(note->invoice->id));

	note->lines = palloc0(sizeof(Line) * Max(count, 1));
	note->line_count = (int) count;
	for (int64 row = 0; row < count; row++)
	{
		Line *line = &note->lines[row];

		line->id = row_uuid(row, 1);
		line->description = row_text(row, 2);
		line->tax_rate_id = row_uuid(row, 3);
		line->tax_inclusive = row_bool(row, 4);
		line->period_start = row_time(row, 5);
		line->period_end = row_time(row, 6);
		line->left = row_int(row, 7);
		line->tax_left = row_int(row, 8);
	}
}

static int64
all_left(const CreditNote *note)
{
	int64 sum = 0;

	for (int i = 0; i < note->line_count; i++)
		sum += note->lines[i].left;
	return sum;
}

/* ---- what is taken ---- */

static void
refuse_amount(const char *what, int64 amount, int64 left)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("amount must be from 1 to what is left of the %s", what),
			 errdetail("Amount is " INT64_FORMAT ", left are " INT64_FORMAT ", tax included.",
					   amount, left),
			 errhint("Leave amount out to take back all that is left.")));
}

static void
refuse_overflow(MoneyStatus status)
{
	if (status != MONEY_OK)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("amounts of the invoice are too large for a credit note"),
						errdetail("Their share of the tax cannot be computed in 63 bits."),
						errhint("Take its lines back one by one.")));
}

/* Of lines of one rate: their tax in proportion, rounded once and spread by largest remainder. */
static void
take_tax(Line **lines, int count)
{
	int64 *weights = palloc(sizeof(int64) * count);
	int64 *parts = palloc(sizeof(int64) * count);
	int64 left = 0;
	int64 taken = 0;
	int64 tax_left = 0;
	int64 tax;

	for (int i = 0; i < count; i++)
	{
		left += lines[i]->left;
		taken += lines[i]->taken;
		tax_left += lines[i]->tax_left;
		weights[i] = lines[i]->tax_left;
	}
	if (tax_left == 0 || left == 0)
	{
		/* no tax, or lines that cancel out and go back as a whole or not at all */
		for (int i = 0; i < count; i++)
			lines[i]->tax_taken = taken == left && lines[i]->taken == lines[i]->left
									  ? lines[i]->tax_left
									  : 0;
		return;
	}
	refuse_overflow(left > 0 ? money_ratio(tax_left, taken, left, &tax)
							 : money_ratio(tax_left, -taken, -left, &tax));
	refuse_overflow(money_spread(tax, weights, count, parts));
	for (int i = 0; i < count; i++)
		lines[i]->tax_taken = parts[i];
}

static bool
same_rate(const Line *a, const Line *b)
{
	if (a->tax_inclusive != b->tax_inclusive || !a->tax_rate_id != !b->tax_rate_id)
		return false;
	return a->tax_rate_id == NULL || uuid_equal(a->tax_rate_id, b->tax_rate_id);
}

/* An amount of the whole invoice: every line in proportion, credits on it too. */
static void
take_amount(CreditNote *note, int64 amount)
{
	int64 *weights = palloc(sizeof(int64) * note->line_count);
	int64 *parts = palloc(sizeof(int64) * note->line_count);
	Line **group = palloc(sizeof(Line *) * note->line_count);

	for (int i = 0; i < note->line_count; i++)
		weights[i] = note->lines[i].left;
	refuse_overflow(money_spread(amount, weights, note->line_count, parts));
	for (int i = 0; i < note->line_count; i++)
	{
		note->lines[i].taken = parts[i];
		note->lines[i].named = false;
	}
	for (int i = 0; i < note->line_count; i++)
	{
		int count = 0;

		if (note->lines[i].named)
			continue;
		for (int j = i; j < note->line_count; j++)
		{
			if (!note->lines[j].named && same_rate(&note->lines[i], &note->lines[j]))
			{
				note->lines[j].named = true;
				group[count++] = &note->lines[j];
			}
		}
		take_tax(group, count);
	}
}

static Line *
line_by_id(CreditNote *note, const pg_uuid_t *id)
{
	for (int i = 0; id != NULL && i < note->line_count; i++)
	{
		if (uuid_equal(note->lines[i].id, id))
			return &note->lines[i];
	}
	return NULL;
}

static Line *
line_named(CreditNote *note, const char *text)
{
	Line *line = line_by_id(note, uuid_parse(text));

	if (line != NULL)
		return line;
	ereport(
		ERROR,
		(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		 errmsg("line \"%s\" cannot be taken back of invoice \"%s\"", text == NULL ? "" : text,
				uuid_text(note->invoice->id)),
		 errdetail("It is no id of a line of that invoice that was sold."),
		 errhint(
			 "billing.invoice_lines_of() has its lines. Discounts, taxes and credits go back with "
			 "the lines that they belong to.")));
}

static void
refuse_line(const Jsonb *line, const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a line %s", what),
					errdetail("It is %s.", line == NULL ? "not there" : json_string(line)),
					errhint("It has line and amount: {\"line\": \"...\", \"amount\": 100}.")));
}

static void
line_member(const char *key, const JsonbValue *value, void *context)
{
	(void) value;
	if (strcmp(key, "line") != 0 && strcmp(key, "amount") != 0)
		refuse_line(context, psprintf("has an unknown member \"%s\"", key));
}

static void
take_line(CreditNote *note, const Jsonb *lines, int n)
{
	const Jsonb *given = json_part(lines, psprintf("%d", n));
	Line *line;
	int64 amount;

	if (given == NULL || !JB_ROOT_IS_OBJECT(given))
		refuse_line(given, "is not an object");
	json_visit(given, line_member, unconstify(Jsonb *, given));
	line = line_named(note, json_text(lines, psprintf("%d.line", n)));
	amount = line->left;
	if (line->named)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("line \"%s\" is named twice", uuid_text(line->id)),
						errdetail("The second time as element %d.", n + 1),
						errhint("Name it once, with the sum of the amounts.")));
	if (json_has(lines, psprintf("%d.amount", n)) &&
		!json_whole(lines, psprintf("%d.amount", n), &amount))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("amount of line \"%s\" is not a whole number", uuid_text(line->id)),
						errdetail("It is %s.", json_text(lines, psprintf("%d.amount", n)) == NULL
												   ? "null"
												   : json_text(lines, psprintf("%d.amount", n))),
						errhint("Amounts are minor units of the currency, tax included.")));
	if (amount <= 0 || amount > line->left)
		refuse_amount("line", amount, Max(line->left, 0));
	line->named = true;
	line->taken = amount;
	take_tax(&line, 1);
}

static void
take_lines(CreditNote *note, const Jsonb *lines)
{
	int64 left = all_left(note);
	int64 taken = 0;

	if (!JB_ROOT_IS_ARRAY(lines) || JB_ROOT_IS_SCALAR(lines) || json_length(lines, "") == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("lines is not an array with at least one line"),
						errdetail("It is %s.", json_string(lines)),
						errhint("Pass [{\"line\": \"...\", \"amount\": 100}, ...].")));
	for (int n = 0; n < json_length(lines, ""); n++)
		take_line(note, lines, n);
	for (int i = 0; i < note->line_count; i++)
		taken += note->lines[i].taken;
	if (taken > left)
		refuse_amount("invoice", taken, left);
}

static void
add_up(CreditNote *note)
{
	for (int i = 0; i < note->line_count; i++)
	{
		note->total += note->lines[i].taken;
		note->tax += note->lines[i].tax_taken;
		note->subtotal += note->lines[i].taken -
						  (note->lines[i].tax_inclusive ? 0 : note->lines[i].tax_taken);
	}
}

static void
take(CreditNote *note, const Jsonb *lines, int64 amount)
{
	int64 left = all_left(note);

	if (left <= 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("nothing is left to take back of invoice \"%s\"",
							   uuid_text(note->invoice->id)),
						errdetail("Credit notes have taken back all of its lines."),
						errhint("billing.list_credit_notes() shows what was taken back.")));
	if (lines != NULL)
		take_lines(note, lines);
	else if (amount != NO_AMOUNT && (amount <= 0 || amount > left))
		refuse_amount("invoice", amount, left);
	else
		take_amount(note, amount == NO_AMOUNT ? left : amount);
	add_up(note);
}

/* What was not paid when it went unused: no more than is left of the line, and of what is paid. */
static int64
take_unused(CreditNote *note, const UnusedTime *time, int64 room)
{
	Line *line = line_by_id(note, time->line_id);
	int64 amount;

	if (line == NULL)
		return 0;
	amount = Min(Min(time->amount, line->left), room);
	if (amount <= 0)
		return 0;
	line->taken = amount;
	line->credit_line_id = time->credit_line_id;
	line->description = time->description;
	line->period_start = time->period_start;
	line->period_end = time->period_end;
	take_tax(&line, 1);
	return amount;
}

/* ---- where the money goes ---- */

QUERY(
	find_payments,
	"SELECT id FROM billing.payment_intents WHERE invoice_id = $1 AND amount_received > 0 ORDER BY paid_at, id",
	UUIDOID);
QUERY(money_of_invoice, "SELECT kept, given FROM billing.money_of_invoice($1)", UUIDOID);

/*
 * What the customer has paid of the invoice and not got back, in any way.  What he
 * paid too much is in his balance already.
 */
static int64
paid_and_kept(const pg_uuid_t *invoice_id)
{
	if (RUN(money_of_invoice, arg_uuid(invoice_id)) == 0)
		return 0;
	return Max(row_int(0, 1) - row_int(0, 2), 0);
}

/* What could be paid back of the payments of the invoice. */
static int64
load_refundable(CreditNote *note)
{
	int64 count = RUN(find_payments, arg_uuid(note->invoice->id));
	Rows rows = rows_keep();
	int64 sum = 0;

	for (int64 row = 0; row < count; row++)
	{
		RefundablePayment *payment = palloc(sizeof(RefundablePayment));

		payment->id = rows_uuid(rows, row, 1);
		payment->left = refund_left(payment->id);
		sum += payment->left;
		note->refundable = lappend(note->refundable, payment);
	}
	return sum;
}

static void
settle(CreditNote *note, const char *destination)
{
	const Invoice *i = note->invoice;
	bool refund = strcmp(destination, "refund") == 0;
	int64 refundable = load_refundable(note);
	int64 rest;
	int64 most;

	note->applied = Min(note->total, i->amount_remaining);
	rest = note->total - note->applied;
	if (rest == 0)
		return;
	most = paid_and_kept(i->id);
	if (refund)
		most = Min(most, refundable);
	if (rest > most)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("credit note is above what was paid of invoice \"%s\"", uuid_text(i->id)),
			 errdetail("To be given back are " INT64_FORMAT ", " INT64_FORMAT " can be: what was "
					   "paid%s, less refunds, disputes, earlier credit notes and what changes "
					   "gave back.",
					   rest, most, refund ? " by payments that can be refunded" : ""),
			 errhint("%s", refund ? "Use destination => 'balance', or a smaller amount."
								  : "Use a smaller amount. What billing.create_refund() paid back "
									"by itself gets no credit note later: destination => 'refund' "
									"makes both at once.")));
	if (refund)
		note->to_refund = rest;
	else
		note->to_balance = rest;
}

/* ---- writing ---- */

QUERY(
	insert_note,
	"INSERT INTO billing.credit_notes (id, invoice_id, customer_id, organization_id, provider, account, livemode, reason, "
	"memo, currency, subtotal, tax, total, amount_applied, balance_amount, refund_amount, seller, buyer, marked_at, "
	"issued_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $19)",
	UUIDOID, UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID,
	INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, JSONBOID, BYTEAOID, TIMESTAMPTZOID);
QUERY(
	insert_line,
	"INSERT INTO billing.credit_note_lines (credit_note_id, position, invoice_line_id, description, amount, tax, "
	"tax_rate_id, tax_inclusive, period_start, period_end, credit_line_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
	UUIDOID, INT4OID, UUIDOID, TEXTOID, INT8OID, INT8OID, UUIDOID, BOOLOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, UUIDOID);

/*
 * The customer as on the invoice, sealed for this row.  One whom no key opens
 * does not hold up the money, which news of a payment may bring: the note is then
 * printed with what the invoice has, as soon as that opens.
 */
static bytea *
copy_buyer(const CreditNote *note)
{
	if (note->invoice->buyer == NULL ||
		!unseals("invoices.buyer", note->invoice->id, note->invoice->buyer))
		return NULL;
	return seal_text("credit_notes.buyer", note->id,
					 unseal_text("invoices.buyer", note->invoice->id, note->invoice->buyer));
}

static void
write_note(const CreditNote *note)
{
	const Invoice *i = note->invoice;
	int position = 0;

	RUN(insert_note, arg_uuid(note->id), arg_uuid(i->id), arg_uuid(i->customer_id),
		arg_text(i->organization_id), arg_text(i->provider), arg_text(i->account),
		arg_bool(i->livemode), arg_text(note->reason), arg_text(note->memo), arg_text(i->currency),
		arg_int(note->subtotal), arg_int(note->tax), arg_int(note->total), arg_int(note->applied),
		arg_int(note->to_balance), arg_int(note->to_refund), arg_json(i->seller),
		arg_bytes(copy_buyer(note)), arg_time(engine_now(i->organization_id)));
	for (int n = 0; n < note->line_count; n++)
	{
		const Line *line = &note->lines[n];

		if (line->taken == 0)
			continue;
		RUN(insert_line, arg_uuid(note->id), arg_int4(++position), arg_uuid(line->id),
			arg_text(line->description),
			arg_int(line->taken - (line->tax_inclusive ? 0 : line->tax_taken)),
			arg_int(line->tax_taken), arg_uuid(line->tax_rate_id), arg_bool(line->tax_inclusive),
			arg_time(line->period_start), arg_time(line->period_end),
			arg_uuid(line->credit_line_id));
	}
}

QUERY(
	apply_to_invoice,
	"UPDATE billing.invoices SET amount_credited = amount_credited + $2, amount_remaining = amount_remaining - $2, "
	"status = CASE WHEN amount_remaining = $2 THEN 'paid' ELSE status END, "
	"paid_at = CASE WHEN amount_remaining = $2 THEN $3 ELSE paid_at END, "
	"next_attempt_at = CASE WHEN amount_remaining = $2 THEN NULL ELSE next_attempt_at END, updated_at = now() "
	"WHERE id = $1 RETURNING status",
	UUIDOID, INT8OID, TIMESTAMPTZOID);

/* What was to be paid becomes less; when nothing is left of it the invoice is paid. */
static void
apply(const CreditNote *note)
{
	const Invoice *i = note->invoice;

	if (note->applied == 0)
		return;
	RUN(apply_to_invoice, arg_uuid(i->id), arg_int(note->applied),
		arg_time(engine_now(i->organization_id)));
	if (strcmp(row_text(0, 1), "paid") != 0)
	{
		checkout_close_invoice_pages(i->id);
		return;
	}
	event_record("invoice.paid", "invoice", i->id, i->organization_id, i->status, "paid");
	given_back_settle(i->id);
	invoice_call_off_payments(i->id);
	engine_invoice_paid(i->id);
}

/* The payments of the invoice in their order. */
static void
pay_back(const CreditNote *note)
{
	int64 rest = note->to_refund;
	ListCell *cell;

	foreach (cell, note->refundable)
	{
		const RefundablePayment *payment = lfirst(cell);
		int64 part = Min(rest, payment->left);

		if (part == 0)
			continue;
		(void) refund_for_credit_note(payment->id, part, note->reason, note->id);
		rest -= part;
	}
}

/* The money moves with it. */
static void
make(const CreditNote *note)
{
	const Invoice *i = note->invoice;

	write_note(note);
	event_record("credit_note.created", "credit_note", note->id, i->organization_id, NULL, "draft");
	if (note->to_balance > 0)
		balance_add(i->customer_id, i->currency, note->to_balance, "credit_note", "credit_note",
					note->id);
	pay_back(note);
	apply(note);
	worker_wake_at_commit();
}

static pg_uuid_t *
create(const Invoice *invoice, const Jsonb *lines, int64 amount, const char *reason,
	   const char *destination, const char *memo)
{
	CreditNote note = {new_id(), invoice, reason, memo};

	check_invoice(invoice);
	lines_load(&note);
	take(&note, lines, amount);
	settle(&note, destination);
	make(&note);
	given_back_settle(invoice->id);
	given_back_less(invoice->id);
	return note.id;
}

void
credit_note_for_rest(pg_uuid_t *invoice_id, const char *reason)
{
	Invoice *invoice = invoice_load_locked(invoice_id);
	CreditNote note = {.invoice = invoice};
	int64 most = invoice->amount_remaining + paid_and_kept(invoice_id);
	int64 left;

	lines_load(&note);
	left = all_left(&note);
	if (Min(left, most) > 0)
		(void) create(invoice, NULL, Min(left, most), reason, "balance", NULL);
}

/* The provider has sold it, so no document of ours takes it back. */
static void
give_to_balance(const CreditNote *note)
{
	for (int i = 0; i < note->line_count; i++)
	{
		const Line *line = &note->lines[i];

		if (line->taken > 0)
			balance_add(note->invoice->customer_id, note->invoice->currency, line->taken,
						"unused_time", "invoice_line", line->credit_line_id);
	}
}

void
credit_note_for_unused(const pg_uuid_t *invoice_id, const List *times)
{
	CreditNote note = {.id = new_id(), .reason = "unused_time"};
	ListCell *cell;
	int64 room;

	RUN(lock_invoice, arg_uuid(invoice_id));
	note.invoice = load_invoice_row(unconstify(pg_uuid_t *, invoice_id));
	lines_load(&note);
	(void) load_refundable(&note);
	room = paid_and_kept(invoice_id);
	foreach (cell, times)
		room -= take_unused(&note, lfirst(cell), room);
	add_up(&note);
	if (note.total == 0)
		return;
	if (note.invoice->statement)
	{
		give_to_balance(&note);
		return;
	}
	note.to_balance = note.total;
	make(&note);
}

SQL_FUNCTION(billing_create_credit_note)
{
	pg_uuid_t *invoice_id = ARG_UUID(0);
	Jsonb *lines = ARG_JSON(1);
	int64 amount = ARG_INT(2, NO_AMOUNT);
	char *reason = ARG_TEXT(3);
	char *destination = ARG_TEXT(4);
	char *memo = ARG_TEXT(5);
	char *key = ARG_TEXT(6);
	KeyedArgument arguments[] = {
		{"invoice_id", invoice_id == NULL ? NULL : uuid_text(invoice_id)},
		{"lines", lines == NULL ? NULL : json_string(lines)},
		{"amount", psprintf(INT64_FORMAT, amount)},
		{"reason", reason},
		{"destination", destination},
		{"memo", memo},
	};
	Invoice *invoice;
	pg_uuid_t *id;

	db_open();
	check_no_card_json("lines", lines);
	check_no_card("reason", reason);
	check_no_card("memo", memo);
	check_word("reason", reason, reason_words);
	check_given("destination", destination != NULL);
	check_word("destination", destination, destination_words);
	if (lines != NULL && amount != NO_AMOUNT)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("lines and amount are given both"),
						errdetail("amount is " INT64_FORMAT ".", amount),
						errhint("Name the amounts of the lines, or one amount for all of them.")));
	invoice = invoice_load_locked(invoice_id);
	id = idempotency_find("create_credit_note", invoice->organization_id, key, arguments,
						  lengthof(arguments));
	if (id == NULL)
	{
		id = create(invoice, lines, amount, reason, destination, memo);
		idempotency_store("create_credit_note", invoice->organization_id, key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

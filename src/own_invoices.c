/*-------------------------------------------------------------------------
 *
 * own_invoices.c
 *	  What callers ask of invoices that are our own: to make one by hand, to
 *	  make a draft final, to void one or give it up; and what becomes of that of
 *	  a subscription that ends before it has begun.
 *
 * Nothing here gives a number: what is made final is marked, and the worker
 * numbers it (invoice_numbers.c).  Collection stands in collection.c.
 *
 *-------------------------------------------------------------------------
 */
#include "own_invoices.h"

#include "accounts.h"
#include "check.h"
#include "collection.h"
#include "draft_steps.h"
#include "errors.h"
#include "given_back.h"
#include "json.h"
#include "postponed.h"

#define LINES_MAX     1000
#define DAYS_MAX      365
#define MEMO_MAX      2000
#define LINE_TEXT_MAX 500

/* ------------------------------------------------------------------------
 * One that is there
 * ------------------------------------------------------------------------
 */
QUERY(
	load_own,
	"SELECT i.customer_id, i.organization_id, i.subscription_id, i.status, i.amount_paid, "
	"i.amount_credited, i.marked_at IS NOT NULL, i.merchant_of_record IS NOT NULL, i.currency, i.paid_elsewhere, "
	"i.usage IS NOT NULL AND i.marked_at IS NULL AND i.due_failures = 0 FROM billing.invoices AS i WHERE i.id = $1 AND i.managed_by = 'local'",
	UUIDOID);

typedef struct Own
{
	const pg_uuid_t *id;
	pg_uuid_t *customer_id;
	char *organization_id;
	pg_uuid_t *subscription_id; /* NULL: none */
	char *status;
	int64 amount_paid;
	int64 amount_credited;
	bool marked;
	bool
		has_open_usage; /* a draft that waits for late usage, and can be completed as far as is known */
	bool statement;     /* the provider is the seller */
	char *currency;
	int64 paid_elsewhere;
} Own;

/* Under the lock of its customer, so that its state stands still; false when it is none of ours. */
static bool
own_load(const pg_uuid_t *id, Own *own)
{
	if (id == NULL || RUN(load_own, arg_uuid(id)) == 0)
		return false;
	outbox_lock_customer(row_uuid(0, 1));
	RUN(load_own, arg_uuid(id));
	own->id = id;
	own->customer_id = row_uuid(0, 1);
	own->organization_id = row_text(0, 2);
	own->subscription_id = row_uuid(0, 3);
	own->status = row_text(0, 4);
	own->amount_paid = row_int(0, 5);
	own->amount_credited = row_int(0, 6);
	own->marked = row_bool(0, 7);
	own->statement = row_bool(0, 8);
	own->currency = row_text(0, 9);
	own->paid_elsewhere = row_int(0, 10);
	own->has_open_usage = row_bool(0, 11);
	return true;
}

static bool
has_status(const Own *own, const char *status)
{
	return strcmp(own->status, status) == 0;
}

static void
refuse_state(const Own *own, const char *wanted, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_JB_STATE),
					errmsg("invoice \"%s\" is %s", uuid_text(own->id), own->status),
					errdetail("It would have to be %s.", wanted), errhint("%s", hint)));
}

/* Of one by hand; what a period gives back may be more than it costs. */
static void
check_total(int64 total)
{
	if (total < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the total of an invoice cannot be below 0"),
						errdetail("It is " INT64_FORMAT ".", total),
						errhint("Give the customer credit by billing.grant_credit(), or correct an "
								"invoice by billing.create_credit_note().")));
}

/* What a period costs is billed after the end, too. */
QUERY(for_nobody,
	  "SELECT FROM billing.invoices AS i JOIN billing.customers AS c ON c.id = i.customer_id "
	  "WHERE i.id = $1 AND i.billing_reason = 'manual' AND c.deleted_at IS NOT NULL",
	  UUIDOID);
QUERY(total_by_hand,
	  "SELECT total FROM billing.invoices WHERE id = $1 AND billing_reason = 'manual'", UUIDOID);

/* The numbering would leave it waiting (invoice_numbers.c). */
QUERY(
	nameless_seller,
	"SELECT s.seller FROM billing.invoices AS i JOIN billing.sellers AS s ON s.seller = i.seller_name "
	"OR (i.seller_name IS NULL AND s.is_default) JOIN billing.providers AS p ON p.name = i.provider AND NOT p.merchant_of_record "
	"WHERE i.id = $1 AND i.livemode AND s.name IS NULL",
	UUIDOID);

static void
refuse_nameless_seller(const pg_uuid_t *id)
{
	if (RUN(nameless_seller, arg_uuid(id)) > 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_JB_STATE), errmsg("seller \"%s\" has no name", row_text(0, 1)),
			 errdetail("Invoice \"%s\" is of live mode: what it says of its seller cannot be "
					   "changed once it has a number.",
					   uuid_text(id)),
			 errhint("Say who sells by billing.set_seller(); what waits gets its number then.")));
}

/* One that is marked waits for its number only: the same call again has that tried at once. */
static void
finalize(Own *own)
{
	pg_uuid_t *id = (pg_uuid_t *) own->id;

	if (!has_status(own, "draft"))
		refuse_state(own, "draft", "Only a draft is made final.");
	refuse_nameless_seller(id);
	if (own->marked)
	{
		work_resume(&id, 1);
		worker_wake_at_commit();
		return;
	}
	if (RUN(for_nobody, arg_uuid(id)) > 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("the customer of invoice \"%s\" is deleted", uuid_text(id)),
						errdetail("It is a draft, made by hand before that."),
						errhint("Nobody is billed any more: void it by billing.void_invoice().")));
	drafts_complete_stored(&id, 1, &own->subscription_id, own->subscription_id != NULL ? 1 : 0);
	if (RUN(total_by_hand, arg_uuid(id)) > 0)
		check_total(row_int(0, 1));
}

QUERY(being_paid,
	  "SELECT p.id FROM billing.payment_intents AS p WHERE p.invoice_id = $1 "
	  "AND p.status IN ('pending', 'processing', 'requires_capture') "
	  "AND NOT (p.status = 'pending' AND EXISTS (SELECT FROM billing.checkout_sessions AS c "
	  "WHERE c.id = p.checkout_session_id AND c.status IN ('pending', 'open'))) LIMIT 1",
	  UUIDOID);
QUERY(
	put_void,
	"UPDATE billing.invoices SET status = 'void', voided_at = $2, amount_remaining = 0, "
	"next_attempt_at = NULL, finalize_at = NULL, error_code = NULL, updated_at = now() WHERE id = $1 "
	"AND status IN ('draft', 'open', 'uncollectible')",
	UUIDOID, TIMESTAMPTZOID);
QUERY(
	put_uncollectible,
	"UPDATE billing.invoices SET status = 'uncollectible', next_attempt_at = NULL, updated_at = now() "
	"WHERE id = $1",
	UUIDOID);

static void
tell(const Own *own, const char *status)
{
	event_record(psprintf("invoice.%s", status), "invoice", own->id, own->organization_id,
				 own->status, status);
}

QUERY(given_back,
	  "SELECT l.description, -sum(r.amount)::bigint FROM billing.invoice_lines AS l "
	  "JOIN billing.invoice_lines AS r ON r.reverses = l.id "
	  "LEFT JOIN billing.invoices AS v ON v.id = r.invoice_id "
	  "WHERE l.invoice_id = $1 AND v.status IS DISTINCT FROM 'void' "
	  "GROUP BY l.id, l.description HAVING sum(r.amount) < 0 LIMIT 1",
	  UUIDOID);

/* What a change gave back of it would be a gift. */
static void
refuse_given_back(const Own *own)
{
	if (RUN(given_back, arg_uuid(own->id)) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("lines of invoice \"%s\" were given back", uuid_text(own->id)),
				 errdetail("Of \"%s\" " INT64_FORMAT " were credited by a later change.",
						   row_text(0, 1), row_int(0, 2)),
				 errhint("Take back what is left of it by billing.create_credit_note(), or give "
						 "it up by billing.mark_invoice_uncollectible(), which takes what was "
						 "given back of it from the balance.")));
}

QUERY(made_up,
	  "SELECT n.number, m.description FROM billing.invoice_lines AS l "
	  "JOIN billing.credit_note_lines AS m ON m.credit_line_id = l.id "
	  "JOIN billing.credit_notes AS n ON n.id = m.credit_note_id WHERE l.invoice_id = $1 LIMIT 1",
	  UUIDOID);

/* What its credits lacked was given since: void, they would give it once more. */
static void
refuse_made_up(const Own *own)
{
	if (RUN(made_up, arg_uuid(own->id)) > 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("lines of invoice \"%s\" were made up for", uuid_text(own->id)),
						errdetail("Credit note \"%s\" has given what \"%s\" could not give back "
								  "before it was paid.",
								  row_null(0, 1) ? "" : row_text(0, 1), row_text(0, 2)),
						errhint("Take it back by billing.create_credit_note().")));
}

QUERY(ends_a_period,
	  "SELECT o.description, e.at FROM billing.invoice_lines AS r "
	  "JOIN billing.invoice_lines AS o ON o.id = r.reverses "
	  "JOIN billing.subscriptions AS s ON s.id = r.subscription_id "
	  "CROSS JOIN LATERAL (VALUES (s.schedule_start), (s.ended_at)) AS e (at) "
	  "WHERE r.invoice_id = $1 AND r.kind = 'proration_credit' "
	  "AND e.at > o.period_start AND e.at < o.period_end LIMIT 1",
	  UUIDOID);

/*
 * A line that its credits give back would count as billed again, although its
 * period is over: nothing ever gives back the rest of that.
 */
static void
refuse_end(const Own *own)
{
	if (RUN(ends_a_period, arg_uuid(own->id)) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("invoice \"%s\" gives back what was left of a period", uuid_text(own->id)),
				 errdetail("The period of \"%s\" ended early, at %s.", row_text(0, 1),
						   timestamptz_to_str(row_time(0, 2))),
				 errhint("Give it up by billing.mark_invoice_uncollectible() when it is open, or "
						 "take back what it bills by billing.create_credit_note().")));
}

QUERY(corrects_usage,
	  "SELECT l.description, -l.amount FROM billing.invoice_lines AS l "
	  "WHERE l.invoice_id = $1 AND l.taken_off > 0 ORDER BY l.position LIMIT 1",
	  UUIDOID);

/* A closing has taken the correction over: nothing would ever give it back again. */
static void
refuse_corrections(const Own *own)
{
	if (RUN(corrects_usage, arg_uuid(own->id)) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("invoice \"%s\" gives back usage", uuid_text(own->id)),
				 errdetail("Usage was corrected to less: \"%s\" gives " INT64_FORMAT " back.",
						   row_text(0, 1), row_int(0, 2)),
				 errhint("Give it up by billing.mark_invoice_uncollectible() when it is open, or "
						 "take back what it bills by billing.create_credit_note().")));
}

static void
refuse_being_paid(const Own *own)
{
	if (RUN(being_paid, arg_uuid(own->id)) > 0)
		ereport(ERROR, (errcode(ERRCODE_JB_DUPLICATE_PAYMENT),
						errmsg("invoice \"%s\" is being paid", uuid_text(own->id)),
						errdetail("Payment \"%s\" is under way.", row_text(0, 1)),
						errhint("Cancel it by billing.cancel_payment_intent(), or wait for it.")));
}

/*
 * The usage of a draft is void with it as that of a final one is: its period is
 * closed, so that what comes late after this is a line of the next invoice.
 */
static void
close_usage(const Own *own)
{
	if (has_status(own, "draft") && own->has_open_usage)
		bill_stored_usage(own->subscription_id, unconstify(pg_uuid_t *, own->id));
}

/*
 * It keeps its number.  What credits and balance paid comes back, so do coupons, and what waits
 * for the customer is called off; usage that it billed stays billed.  Lines that
 * had waited for it are void with it: what one of them gave back counts as
 * billed again, and what one of them charged is not charged.
 */
static void
put_it_void(Own *own)
{
	if (RUN(put_void, arg_uuid(own->id), arg_time(engine_now(own->organization_id))) == 0)
	{
		/* numbered meanwhile, with nothing due: numbering holds no customer */
		own->status = "paid";
		refuse_state(own, "draft, open or uncollectible",
					 "What was paid is corrected by billing.create_credit_note().");
	}
	if (own->marked)
		credits_release(own->id);
	coupons_release(own->id);
	invoice_call_off_payments(own->id);
	given_back_less(own->id);
	tell(own, "void");
}

static void
void_it(Own *own)
{
	if (!has_status(own, "draft") && !has_status(own, "open") && !has_status(own, "uncollectible"))
		refuse_state(own, "draft, open or uncollectible",
					 "What was paid is corrected by billing.create_credit_note().");
	if (own->amount_paid > 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("invoice \"%s\" is paid in part", uuid_text(own->id)),
						errdetail(INT64_FORMAT " of it are paid.", own->amount_paid),
						errhint("What was paid is corrected by billing.create_credit_note().")));
	if (own->amount_credited > 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("invoice \"%s\" is corrected by a credit note", uuid_text(own->id)),
						errdetail(INT64_FORMAT " of it are credited.", own->amount_credited),
						errhint("Credit the rest, too: billing.create_credit_note().")));
	refuse_being_paid(own);
	close_usage(own);
	refuse_given_back(own);
	refuse_made_up(own);
	refuse_end(own);
	refuse_corrections(own);
	put_it_void(own);
}

static void
void_and_go_on(Own *own)
{
	void_it(own);
	engine_invoice_voided(own->id);
}

static void
give_up(Own *own)
{
	if (!has_status(own, "open"))
		refuse_state(own, "open", "Only what is open can be given up.");
	RUN(put_uncollectible, arg_uuid(own->id));
	invoice_withdraw_charges(own->id);
	given_back_settle(own->id);
	tell(own, "uncollectible");
}

/* ------------------------------------------------------------------------
 * The one of a subscription that has not begun, and will not
 * ------------------------------------------------------------------------
 */

/*
 * A statement has no credit notes: void, its payments are what was paid too much
 * (collection_money.c), and so is what came other ways.
 */
static void
take_back_statement(Own *own)
{
	put_it_void(own);
	invoice_payment_changed(own->id);
	if (own->paid_elsewhere > 0)
		balance_add(own->customer_id, own->currency, own->paid_elsewhere, "overpayment", "invoice",
					own->id);
}

/*
 * Of an invoice that is paid in part nothing was delivered: a credit note takes
 * it back.  What is left to pay then was owed from before; it is still owed, but
 * nobody is charged for it.
 */
static void
take_back(Own *own)
{
	refuse_being_paid(own);
	if (own->statement)
	{
		take_back_statement(own);
		return;
	}
	credit_note_for_rest((pg_uuid_t *) own->id, "never_began");
	coupons_release(own->id);
	(void) own_load(own->id, own);
	if (has_status(own, "open"))
		give_up(own);
}

QUERY(of_subscription,
	  "SELECT id FROM billing.invoices WHERE subscription_id = $1 AND managed_by = 'local' "
	  "AND status IN ('draft', 'open', 'uncollectible') ORDER BY id",
	  UUIDOID);

/* Also those that wait for their numbers: nobody is to be asked for them. */
void
own_invoices_take_back(const pg_uuid_t *subscription_id)
{
	Rows rows;

	RUN(of_subscription, arg_uuid(subscription_id));
	rows = rows_keep();
	for (int64 row = 0; row < rows_count(rows); row++)
	{
		Own own;

		if (!own_load(rows_uuid(rows, row, 1), &own))
			continue;
		if (own.amount_paid > 0 || own.amount_credited > 0)
			take_back(&own);
		else
			void_it(&own);
	}
}

static bool
with_own(const pg_uuid_t *id, void (*act)(Own *own))
{
	Own own;
	bool found;

	db_open();
	found = own_load(id, &own);
	if (found)
		act(&own);
	db_close();
	return found;
}

bool
own_invoice_finalize(const pg_uuid_t *id)
{
	return with_own(id, finalize);
}

bool
own_invoice_void(const pg_uuid_t *id)
{
	return with_own(id, void_and_go_on);
}

void
own_invoice_call_off(const pg_uuid_t *id)
{
	if (!with_own(id, void_it))
		elog(ERROR, "invoice %s is none of ours", uuid_text(id));
}

bool
own_invoice_give_up(const pg_uuid_t *id)
{
	return with_own(id, give_up);
}

/* ------------------------------------------------------------------------
 * One that is made by hand
 * ------------------------------------------------------------------------
 */
typedef struct GivenLine
{
	const Jsonb *json; /* NULL: no object or array */
	int number;        /* from 1 on */
} GivenLine;

static void
bad_line(const GivenLine *given, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("line %d %s", given->number, what),
			 given->json == NULL ? 0 : errdetail("It is %s.", json_string(given->json)),
			 errhint("%s", hint)));
}

static bool
line_fraction(const GivenLine *given, const char *member, MoneyFraction *value)
{
	char *text = json_text(given->json, member);

	if (text == NULL)
		return false;
	if (money_fraction_parse(text, strlen(text), value) != MONEY_OK)
		bad_line(given, psprintf("has a %s that cannot be used", member),
				 "It is a number with at most 12 decimals.");
	return true;
}

/* So that the sum of LINES_MAX lines, and of thousands of invoices, is no overflow. */
static int64
bounded(const GivenLine *given, int64 amount)
{
	if (amount > AMOUNT_MAX || amount < -AMOUNT_MAX)
		bad_line(given, "is too large", "Amounts have at most 15 digits.");
	return amount;
}

/* Of quantity and unit_amount, or as it is given. */
static int64
line_amount(const GivenLine *given, MoneyFraction *quantity, MoneyFraction *unit_amount,
			bool *has_quantity)
{
	MoneyExact exact = {0};
	bool has_unit = line_fraction(given, "unit_amount", unit_amount);
	bool has_count = line_fraction(given, "quantity", quantity);
	int64 amount = 0;

	*has_quantity = has_unit;
	if (json_has(given->json, "amount"))
	{
		if (has_unit || has_count)
			bad_line(given, "has an amount and more",
					 "Pass amount, or quantity and unit_amount, from which it follows.");
		if (!json_whole(given->json, "amount", &amount))
			bad_line(given, "has an amount that cannot be used",
					 "It is a whole number of minor units: 4900 is 49.00 USD.");
		return bounded(given, amount);
	}
	if (!has_unit)
		bad_line(given, "has no amount", "Pass amount, or quantity and unit_amount.");
	if (!has_count)
		*quantity = money_fraction_from_int(1);
	if (quantity->scaled < 0)
		bad_line(given, "has a quantity below 0",
				 "A line that gives back has a unit_amount below 0.");
	if (money_exact_add_product(&exact, *unit_amount, *quantity) != MONEY_OK ||
		money_exact_round(exact, &amount) != MONEY_OK)
		bad_line(given, "is too large", "Amounts have at most 15 digits.");
	return bounded(given, amount);
}

/* What PostgreSQL says of a time that is none names no line. */
static void
tell_line(void *given)
{
	errcontext("line %d of the invoice", ((const GivenLine *) given)->number);
}

static TimestampTz
line_time(const GivenLine *given, const char *member)
{
	char *text = json_text(given->json, member);
	ErrorContextCallback told = {error_context_stack, tell_line, unconstify(GivenLine *, given)};
	TimestampTz at;

	if (text == NULL)
		return 0;
	error_context_stack = &told;
	at = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text),
												 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	error_context_stack = told.previous;
	return at;
}

static void
line_member(const char *key, const JsonbValue *value, void *context)
{
	static const char *const members[] = {"description",   "amount",       "quantity",
										  "unit_amount",   "discountable", "tax",
										  "tax_inclusive", "period_start", "period_end"};
	const GivenLine *given = context;
	bool is_switch = strcmp(key, "discountable") == 0 || strncmp(key, "tax", 3) == 0;

	for (size_t i = 0; i < lengthof(members); i++)
	{
		if (strcmp(key, members[i]) == 0)
		{
			if (is_switch && value->type != jbvBool)
				bad_line(given, psprintf("has a %s that cannot be used", key),
						 "It is true or false.");
			return;
		}
	}
	bad_line(
		given, psprintf("has an unknown member \"%s\"", key),
		"There are description, amount, quantity, unit_amount, discountable, tax, tax_inclusive, "
		"period_start and period_end.");
}

static void
add_line(InvoiceDraft *draft, const Jsonb *lines, int number, bool inclusive)
{
	const GivenLine place = {json_part(lines, psprintf("%d", number - 1)), number};
	const GivenLine *given = &place;
	char *description = json_string_at(place.json, "description");
	MoneyFraction quantity = {0};
	MoneyFraction unit_amount = {0};
	bool has_quantity;
	int64 amount;
	InvoiceLine *line;

	if (place.json == NULL || !JB_ROOT_IS_OBJECT(place.json))
		bad_line(given, "is not an object",
				 "Pass something like {\"description\": \"Setup\", \"amount\": 9900}.");
	json_visit(place.json, line_member, unconstify(GivenLine *, given));
	if (description == NULL || description[strspn(description, " \t\r\n")] == '\0' ||
		strlen(description) > LINE_TEXT_MAX)
		bad_line(given, "has no description that can be used",
				 psprintf("It is a text of 1 to %d bytes.", LINE_TEXT_MAX));
	amount = line_amount(given, &quantity, &unit_amount, &has_quantity);
	line = draft_add(draft, amount < 0 ? LINE_ADJUSTMENT : LINE_ONE_TIME, amount, description);
	line->has_quantity = has_quantity;
	line->quantity = quantity;
	line->unit_amount = unit_amount;
	line->discountable = amount > 0 && json_bool(place.json, "discountable", true);
	line->untaxed = !json_bool(place.json, "tax", true);
	line->tax_inclusive = json_bool(place.json, "tax_inclusive", inclusive);
	line->period_start = line_time(given, "period_start");
	line->period_end = line_time(given, "period_end");
	if (line->period_end != 0 && line->period_start == 0)
		bad_line(given, "has a period_end alone", "Pass period_start, too.");
	if (TIMESTAMP_NOT_FINITE(line->period_start) || TIMESTAMP_NOT_FINITE(line->period_end))
		bad_line(given, "has a period without an end", "Both ends are points in time.");
	if (line->period_end != 0 && line->period_end < line->period_start)
		bad_line(given, "has a period that ends before it begins", "period_start comes first.");
}

typedef struct InvoiceTerms
{
	const Jsonb *lines;
	const char *currency;
	int days_until_due; /* -1: not named */
	const char *collection_method;
	const char *memo;
	bool finalize;
	const char *seller;
	const Jsonb *metadata;
	const char *provider;
	const char *account;
} InvoiceTerms;

QUERY(find_seller, "SELECT FROM billing.sellers WHERE seller = $1", TEXTOID);

static void
check_terms(const InvoiceTerms *terms)
{
	static const char *const methods[] = {"charge_automatically", "send_invoice", NULL};
	int count;

	check_given("lines", terms->lines != NULL);
	count = JB_ROOT_IS_ARRAY(terms->lines) ? json_length(terms->lines, "") : 0;
	if (count == 0 || count > LINES_MAX)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("lines is not an array of 1 to %d lines", LINES_MAX),
			 errdetail("It has %d.", count),
			 errhint("Pass something like '[{\"description\": \"Setup\", \"amount\": 9900}]'.")));
	check_word("collection_method", terms->collection_method, methods);
	if (terms->days_until_due > DAYS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("days_until_due is out of range"),
				 errdetail("It is %d.", terms->days_until_due),
				 errhint("It is from 0 to %d.", DAYS_MAX)));
	if (terms->days_until_due >= 0 && strcmp(terms->collection_method, "send_invoice") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("days_until_due is for invoices that are sent"),
						errdetail("This one is charged automatically, when it is made final."),
						errhint("Pass collection_method => 'send_invoice'.")));
	if (terms->memo != NULL && strlen(terms->memo) > MEMO_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("memo is longer than %d bytes", MEMO_MAX),
						errdetail("It has %zu.", strlen(terms->memo)),
						errhint("What is longer is for a document of its own.")));
	check_metadata(terms->metadata);
	if (terms->seller != NULL && RUN(find_seller, arg_text(terms->seller)) == 0)
		unknown_object("seller", terms->seller,
					   "billing.sellers lists them; billing.set_seller() makes one.");
}

static const char *
currency_of(const InvoiceTerms *terms, const Customer *customer)
{
	if (terms->currency != NULL)
		return check_currency(terms->currency);
	return customer->currency != NULL ? customer->currency : setting_text("default_currency");
}

static InvoiceDraft *
draft_by_hand(BillingRun *run, const InvoiceTerms *terms, const Customer *customer)
{
	Account *account = terms->provider != NULL ? account_choose(terms->provider, terms->account)
											   : account_get(customer->provider, customer->account);
	InvoiceDraft *draft = palloc0(sizeof(InvoiceDraft));
	bool inclusive = tax_is_inclusive_by_default();

	customer_check_mode(customer, account);
	draft->id = new_id();
	draft->customer = run_customer(run, customer->id);
	draft->provider = account->provider;
	draft->account = account->account;
	draft->livemode = account->livemode;
	draft->reason = "manual";
	draft->currency = currency_of(terms, customer);
	draft->made_at = draft->customer->now;
	draft->collection_method = terms->collection_method;
	draft->days_until_due = terms->days_until_due;
	draft->seller = terms->seller;
	draft->memo = terms->memo;
	draft->metadata = terms->metadata;
	draft->is_new = true;
	run->drafts = lappend(run->drafts, draft);
	for (int i = 0; i < json_length(terms->lines, ""); i++)
		add_line(draft, terms->lines, i + 1, inclusive);
	return draft;
}

static pg_uuid_t *
invoice_create(const InvoiceTerms *terms, const Customer *customer)
{
	BillingRun *run = run_begin(false);
	InvoiceDraft *draft = draft_by_hand(run, terms, customer);
	int64 total = 0;

	for (int i = 0; i < list_length(draft->lines); i++)
		total += ((const InvoiceLine *) list_nth(draft->lines, i))->amount;
	check_total(total);
	if (terms->finalize)
	{
		draft_complete(run, draft);
		/* coupons and tax may take it below what its lines add up to */
		check_total(draft->totals.total);
	}
	run_write(run);
	return draft->id;
}

static const char *
argument_text(const Jsonb *value)
{
	return value == NULL ? NULL : json_string(value);
}

SQL_FUNCTION(billing_create_invoice)
{
	pg_uuid_t *customer_id = ARG_UUID(0);
	char *method = ARG_TEXT(4);
	char *key = ARG_TEXT(11);
	InvoiceTerms terms = {
		.lines = ARG_JSON(1),
		.currency = ARG_TEXT(2),
		.days_until_due = PG_ARGISNULL(3)          ? -1
						  : PG_GETARG_INT32(3) < 0 ? DAYS_MAX + 1
												   : PG_GETARG_INT32(3),
		.collection_method = method != NULL ? method : "send_invoice",
		.memo = ARG_TEXT(5),
		.finalize = ARG_BOOL(6, true),
		.seller = ARG_TEXT(7),
		.metadata = ARG_JSON(8),
		.provider = ARG_TEXT(9),
		.account = ARG_TEXT(10),
	};
	const KeyedArgument arguments[] = {
		{"customer_id", customer_id == NULL ? NULL : uuid_text(customer_id)},
		{"lines", argument_text(terms.lines)},
		{"currency", terms.currency},
		{"days_until_due", psprintf("%d", terms.days_until_due)},
		{"collection_method", method},
		{"memo", terms.memo},
		{"finalize", terms.finalize ? "true" : "false"},
		{"seller", terms.seller},
		{"metadata", argument_text(terms.metadata)},
		{"provider", terms.provider},
		{"account", terms.account},
	};
	Customer *customer;
	pg_uuid_t *id;

	db_open();
	check_no_card_json("lines", terms.lines);
	check_no_card("memo", terms.memo);
	check_no_card("currency", terms.currency);
	check_no_card("seller", terms.seller);
	check_no_card("provider", terms.provider);
	check_no_card("account", terms.account);
	check_no_card_json("metadata", terms.metadata);
	check_given("customer_id", customer_id != NULL);
	check_terms(&terms);
	customer = customer_load(customer_id, true);
	if (customer == NULL || customer->deleted)
		unknown_object("customer", uuid_text(customer_id), NULL);
	id = idempotency_find("create_invoice", customer->organization_id, key, arguments,
						  lengthof(arguments));
	if (id == NULL)
	{
		id = invoice_create(&terms, customer);
		idempotency_store("create_invoice", customer->organization_id, key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

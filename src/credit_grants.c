/*-------------------------------------------------------------------------
 *
 * credit_grants.c
 *	  What we owe to customers: balances and prepaid credits, and every change
 *	  of them.
 *
 * A balance is a row beside the entries that it is the sum of; both are written
 * by one statement.  Nothing here takes from a balance by itself: invoices do
 * (credits.c), and people (adjust_balance()).  A prepaid credit ends by a duty of
 * the worker once nothing that is older than its end is waiting to be billed.
 *
 *-------------------------------------------------------------------------
 */
#include "credits.h"

#include "check.h"
#include "columns.h"
#include "errors.h"
#include "mb/pg_wchar.h"
#include "postponed.h"
#include "utils/fmgroids.h"
#include "unit.h"

#define NOTE_MAX     500
#define EXPIRE_BATCH 100

/* ------------------------------------------------------------------------
 * Balances
 * ------------------------------------------------------------------------
 */
QUERY(
	insert_entries,
	"WITH new AS (SELECT u.*, c.organization_id FROM unnest($1::uuid[], $2::text[], $3::bigint[], "
	"$4::text[], $5::text[], $6::text[], $7::uuid[], $8::timestamptz[]) WITH ORDINALITY AS u "
	"(customer_id, currency, amount, reason, note, source_type, source_id, occurred_at, n) "
	"JOIN billing.customers AS c ON c.id = u.customer_id), "
	"sums AS (SELECT n.customer_id, n.organization_id, n.currency, sum(n.amount)::bigint AS amount "
	"FROM new AS n GROUP BY n.customer_id, n.organization_id, n.currency), "
	"put AS (INSERT INTO billing.customer_balances AS b (customer_id, organization_id, currency, "
	"balance) SELECT s.customer_id, s.organization_id, s.currency, s.amount FROM sums AS s "
	"ON CONFLICT (customer_id, currency) DO UPDATE SET balance = b.balance + excluded.balance, "
	"updated_at = now() RETURNING b.customer_id, b.currency, b.balance) "
	"INSERT INTO billing.customer_balance_entries (customer_id, organization_id, currency, amount, "
	"balance_after, reason, note, source_type, source_id, occurred_at) "
	"SELECT n.customer_id, n.organization_id, n.currency, n.amount, "
	"(p.balance - s.amount::numeric + sum(n.amount) OVER (PARTITION BY n.customer_id, n.currency "
	"ORDER BY n.n))::bigint, n.reason, n.note, n.source_type, n.source_id, n.occurred_at "
	"FROM new AS n JOIN sums AS s ON s.customer_id = n.customer_id AND s.currency = n.currency "
	"JOIN put AS p ON p.customer_id = n.customer_id AND p.currency = n.currency ORDER BY n.n "
	"RETURNING balance_after",
	UUIDARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	UUIDARRAYOID, TIMESTAMPTZARRAYOID);

int64
balance_entries_write(const BalanceEntry *entries, int count)
{
	Column customer_id = COLUMN_UUID(count);
	Column currency = COLUMN_TEXT(count);
	Column amount = COLUMN_INT(count);
	Column reason = COLUMN_TEXT(count);
	Column note = COLUMN_TEXT(count);
	Column source_type = COLUMN_TEXT(count);
	Column source_id = COLUMN_UUID(count);
	Column occurred_at = COLUMN_TIME(count);

	for (int i = 0; i < count; i++)
	{
		column_pointer(&customer_id, i, entries[i].customer_id);
		column_text(&currency, i, entries[i].currency);
		column_int(&amount, i, entries[i].amount);
		column_text(&reason, i, entries[i].reason);
		column_text(&note, i, entries[i].note);
		column_text(&source_type, i, entries[i].source_type);
		column_pointer(&source_id, i, entries[i].source_id);
		column_time(&occurred_at, i, entries[i].occurred_at);
	}
	if (RUN(insert_entries, column_arg(&customer_id, count), column_arg(&currency, count),
			column_arg(&amount, count), column_arg(&reason, count), column_arg(&note, count),
			column_arg(&source_type, count), column_arg(&source_id, count),
			column_arg(&occurred_at, count)) != count)
		elog(ERROR, "of %d entries of balances " UINT64_FORMAT " were written", count,
			 SPI_processed);
	return row_int(count - 1, 1);
}

void
balance_add(const pg_uuid_t *customer_id, const char *currency, int64 amount, const char *reason,
			const char *source_type, const pg_uuid_t *source_id)
{
	const Customer *customer = customer_load(customer_id, true);
	BalanceEntry entry = {
		.customer_id = customer_id,
		.currency = currency,
		.amount = amount,
		.reason = reason,
		.source_type = source_type,
		.source_id = source_id,
	};

	if (customer == NULL)
		elog(ERROR, "no customer %s", uuid_text(customer_id));
	if (amount == 0)
		return;
	entry.occurred_at = engine_now(customer->organization_id);
	(void) balance_entries_write(&entry, 1);
}

static Customer *
locked_customer(const char *organization_id)
{
	Customer *customer;

	check_given("organization_id", organization_id != NULL);
	customer = customer_of_organization(organization_id, true);
	if (customer == NULL)
		unknown_object("customer of organization", organization_id,
					   "Use billing.create_customer() first.");
	return customer;
}

static const char *
currency_of(const char *named, const Customer *customer)
{
	const char *currency = named != NULL ? check_currency(named) : customer->currency;

	if (currency == NULL)
		currency = setting_text("default_currency");
	check_given("currency", currency != NULL);
	return currency;
}

SQL_FUNCTION(billing_adjust_balance)
{
	char *organization_id = ARG_TEXT(0);
	BalanceEntry entry = {
		.amount = ARG_INT(1, 0),
		.note = ARG_TEXT(2),
		.reason = "adjustment",
	};
	char *currency = ARG_TEXT(3);
	const Customer *customer;
	int64 balance;

	check_no_card("reason", entry.note);
	check_given("amount", !PG_ARGISNULL(1));
	check_given("reason", entry.note != NULL && *entry.note != '\0');
	if (entry.amount == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("amount is 0"),
				 errdetail("It would change nothing."),
				 errhint("Above 0 it pays the next invoices, below 0 it is owed with them.")));
	check_amount("amount", entry.amount);
	if (pg_mbstrlen(entry.note) > NOTE_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("reason is longer than %d characters", NOTE_MAX),
						errdetail("It has %d.", pg_mbstrlen(entry.note)),
						errhint("Keep the whole story elsewhere, and name it here.")));
	db_open();
	customer = locked_customer(organization_id);
	entry.customer_id = customer->id;
	entry.currency = currency_of(currency, customer);
	entry.occurred_at = engine_now(customer->organization_id);
	balance = balance_entries_write(&entry, 1);
	event_record("customer.balance_adjusted", "customer", customer->id, customer->organization_id,
				 NULL, NULL);
	db_close();
	PG_RETURN_INT64(balance);
}

/* ------------------------------------------------------------------------
 * Prepaid credits
 * ------------------------------------------------------------------------
 */
QUERY(
	insert_grant,
	"WITH given AS (INSERT INTO billing.credit_grants (id, customer_id, organization_id, name, "
	"currency, amount, remaining, paid, priority, components, expires_at, granted_at) "
	"VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8, $9, $10, $11) RETURNING *) "
	"INSERT INTO billing.credit_grant_entries (grant_id, organization_id, kind, amount, occurred_at) "
	"SELECT g.id, g.organization_id, 'grant', g.amount, g.granted_at FROM given AS g",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, BOOLOID, INT4OID, TEXTARRAYOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID);

typedef struct GrantTerms
{
	char *organization_id;
	Arg amount;
	char *currency;
	Arg expires_at;
	int32 priority;
	char *name;
	bool paid;
	Arg components;
	char *idempotency_key;
} GrantTerms;

static void
check_grant(const GrantTerms *terms)
{
	check_given("amount", !terms->amount.isnull);
	if (DatumGetInt64(terms->amount.value) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("amount is not above 0"),
				 errdetail("It is " INT64_FORMAT ".", DatumGetInt64(terms->amount.value)),
				 errhint("It is in minor units; billing.void_credit_grant() takes credit back.")));
	check_amount("amount", DatumGetInt64(terms->amount.value));
	if (terms->name != NULL && *terms->name == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("name is empty"),
						errdetail("An invoice that it pays says it."),
						errhint("Leave it out for \"Prepaid credit\".")));
	if (!terms->components.isnull)
	{
		ArrayType *list = DatumGetArrayTypeP(terms->components.value);

		if (ARR_NDIM(list) != 1 || array_contains_nulls(list))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("components is empty or holds NULL"),
							errdetail("It has %d elements.",
									  ArrayGetNItems(ARR_NDIM(list), ARR_DIMS(list))),
							errhint("NULL: the credit pays for everything.")));
	}
}

static void
check_expiry(const GrantTerms *terms, TimestampTz now)
{
	TimestampTz expires_at = DatumGetTimestampTz(terms->expires_at.value);

	if (!terms->expires_at.isnull && expires_at <= now)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("expires_at has passed already"),
			 errdetail("It is %s, and the organization's time is %s.",
					   pstrdup(timestamptz_to_str(expires_at)), pstrdup(timestamptz_to_str(now))),
			 errhint("It is the first moment at which it pays no more; NULL: never.")));
}

static pg_uuid_t *
grant_credit(const GrantTerms *terms, const Customer *customer)
{
	pg_uuid_t *id = new_id();
	TimestampTz now = engine_now(customer->organization_id);

	check_expiry(terms, now);
	RUN(insert_grant, arg_uuid(id), arg_uuid(customer->id), arg_text(customer->organization_id),
		arg_text(terms->name != NULL ? terms->name : "Prepaid credit"),
		arg_text(currency_of(terms->currency, customer)), terms->amount, arg_bool(terms->paid),
		arg_int4(terms->priority), terms->components, terms->expires_at, arg_time(now));
	event_record("credit_grant.granted", "credit_grant", id, customer->organization_id, NULL,
				 "open");
	return id;
}

static char *
text_of(FunctionCallInfo fcinfo, int n, PGFunction output)
{
	return PG_ARGISNULL(n) ? NULL
						   : DatumGetCString(DirectFunctionCall1(output, PG_GETARG_DATUM(n)));
}

SQL_FUNCTION(billing_grant_credit)
{
	GrantTerms terms = {
		.organization_id = ARG_TEXT(0),
		.amount = arg_datum(PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1), PG_ARGISNULL(1)),
		.currency = ARG_TEXT(2),
		.expires_at = arg_datum(PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3), PG_ARGISNULL(3)),
		.priority = ARG_INT4(4, 0),
		.name = ARG_TEXT(5),
		.paid = ARG_BOOL(6, false),
		.components = arg_datum(PG_ARGISNULL(7) ? (Datum) 0 : PG_GETARG_DATUM(7), PG_ARGISNULL(7)),
		.idempotency_key = ARG_TEXT(8),
	};
	const KeyedArgument arguments[] = {
		{"amount", text_of(fcinfo, 1, int8out)},
		{"currency", terms.currency},
		{"expires_at", text_of(fcinfo, 3, timestamptz_out)},
		{"priority", psprintf("%d", terms.priority)},
		{"name", terms.name},
		{"paid", terms.paid ? "true" : "false"},
		{"components",
		 PG_ARGISNULL(7) ? NULL : OidOutputFunctionCall(F_ARRAY_OUT, PG_GETARG_DATUM(7))},
	};
	const Customer *customer;
	pg_uuid_t *id;

	check_no_card("name", terms.name);
	check_no_card("idempotency_key", terms.idempotency_key);
	check_grant(&terms);
	db_open();
	customer = locked_customer(terms.organization_id);
	id = idempotency_find("grant_credit", terms.organization_id, terms.idempotency_key, arguments,
						  lengthof(arguments));
	if (id == NULL)
	{
		id = grant_credit(&terms, customer);
		idempotency_store("grant_credit", terms.organization_id, terms.idempotency_key, id);
	}
	return db_close_uuid(id);
}

QUERY(find_grant,
	  "SELECT customer_id, organization_id, remaining, voided_at, expired_at "
	  "FROM billing.credit_grants WHERE id = $1",
	  UUIDOID);
QUERY(
	void_grant,
	"WITH before AS (SELECT id, organization_id, remaining FROM billing.credit_grants WHERE id = $1), "
	"over AS (UPDATE billing.credit_grants SET remaining = 0, voided_at = $2 WHERE id = $1) "
	"INSERT INTO billing.credit_grant_entries (grant_id, organization_id, kind, amount, occurred_at) "
	"SELECT b.id, b.organization_id, 'void', -b.remaining, $2 FROM before AS b WHERE b.remaining > 0",
	UUIDOID, TIMESTAMPTZOID);

SQL_FUNCTION(billing_void_credit_grant)
{
	pg_uuid_t *id = ARG_UUID(0);
	const Customer *customer;
	int64 remaining;

	db_open();
	check_given("grant_id", id != NULL);
	if (RUN(find_grant, arg_uuid(id)) == 0)
		unknown_object("credit grant", uuid_text(id), "billing.credit_grants lists them.");
	customer = customer_load(row_uuid(0, 1), true);
	(void) RUN(find_grant, arg_uuid(id));
	if (!row_null(0, 4) || !row_null(0, 5))
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("credit grant \"%s\" is %s already", uuid_text(id),
						row_null(0, 4) ? "expired" : "void"),
				 errdetail("Since %s nothing is left of it.",
						   pstrdup(timestamptz_to_str(row_time(0, row_null(0, 4) ? 5 : 4)))),
				 errhint("billing.adjust_balance() takes back what it has paid by mistake.")));
	remaining = row_int(0, 3);
	RUN(void_grant, arg_uuid(id), arg_time(engine_now(customer->organization_id)));
	event_record("credit_grant.voided", "credit_grant", id, customer->organization_id, "open",
				 "void");
	db_close();
	PG_RETURN_INT64(remaining);
}

/* ------------------------------------------------------------------------
 * An invoice was voided
 * ------------------------------------------------------------------------
 */
QUERY(invoice_customer, "SELECT customer_id FROM billing.invoices WHERE id = $1", UUIDOID);
/*
 * What has expired since comes back, too, and expires by the duty; what comes
 * back to one that is void is void with it.
 */
QUERY(
	release_grants,
	"WITH used AS (SELECT e.grant_id, -e.amount AS amount FROM billing.credit_grant_entries AS e "
	"WHERE e.invoice_id = $1 AND e.kind = 'use' AND NOT EXISTS (SELECT "
	"FROM billing.credit_grant_entries AS r WHERE r.invoice_id = $1 AND r.grant_id = e.grant_id "
	"AND r.kind = 'release')), "
	"back AS (UPDATE billing.credit_grants AS g SET remaining = CASE WHEN g.voided_at IS NULL "
	"THEN g.remaining + u.amount ELSE 0 END, expired_at = NULL FROM used AS u WHERE g.id = u.grant_id "
	"RETURNING g.id, g.organization_id, u.amount, g.voided_at) "
	"INSERT INTO billing.credit_grant_entries (grant_id, organization_id, kind, amount, invoice_id, "
	"occurred_at) SELECT b.id, b.organization_id, 'release', b.amount, $1, $2 FROM back AS b UNION ALL "
	"SELECT b.id, b.organization_id, 'void', -b.amount, NULL, $2 FROM back AS b WHERE b.voided_at IS NOT NULL",
	UUIDOID, TIMESTAMPTZOID);
QUERY(invoice_entry,
	  "SELECT e.currency, e.amount FROM billing.customer_balance_entries AS e "
	  "WHERE e.source_type = 'invoice' AND e.source_id = $1 AND e.reason = 'invoice' "
	  "AND NOT EXISTS (SELECT FROM billing.customer_balance_entries AS v "
	  "WHERE v.source_type = 'invoice' AND v.source_id = $1 AND v.reason = 'invoice_voided')",
	  UUIDOID);

void
credits_release(const pg_uuid_t *invoice_id)
{
	BalanceEntry entry = {
		.reason = "invoice_voided",
		.source_type = "invoice",
		.source_id = invoice_id,
	};

	if (RUN(invoice_customer, arg_uuid(invoice_id)) == 0)
		elog(ERROR, "no invoice %s", uuid_text(invoice_id));
	entry.customer_id = row_uuid(0, 1);
	entry.occurred_at = engine_now(customer_load(entry.customer_id, true)->organization_id);
	RUN(release_grants, arg_uuid(invoice_id), arg_time(entry.occurred_at));
	if (RUN(invoice_entry, arg_uuid(invoice_id)) == 0)
		return;
	entry.currency = row_text(0, 1);
	entry.amount = -row_int(0, 2);
	(void) balance_entries_write(&entry, 1);
}

/* ------------------------------------------------------------------------
 * The duty
 * ------------------------------------------------------------------------
 */

/*
 * Those with a test clock are found by it, so that the others use the index.  A
 * customer whom a session holds is left for the next pass, and not one of the
 * first few.
 */
QUERY_IN_ORDER(
	expired_grants,
	"SELECT g.id, g.organization_id FROM billing.credit_grants AS g JOIN billing.customers AS c ON c.id = g.customer_id "
	"WHERE g.remaining > 0 AND g.expires_at <= now() AND NOT EXISTS (SELECT FROM billing.sandbox_clocks AS k "
	"WHERE k.organization_id = g.organization_id) AND NOT " GRANT_IS_STILL_WANTED
	" AND " NOT_POSTPONED "g.id) ORDER BY g.expires_at LIMIT $1 FOR NO KEY UPDATE OF c SKIP LOCKED",
	INT8OID);
QUERY(
	expired_by_clock,
	"SELECT g.id, g.organization_id FROM billing.sandbox_clocks AS k "
	"JOIN billing.customers AS c ON c.organization_id = k.organization_id "
	"JOIN billing.credit_grants AS g ON g.customer_id = c.id AND g.remaining > 0 AND g.expires_at <= k.now "
	"WHERE NOT " GRANT_IS_STILL_WANTED " AND " NOT_POSTPONED
	"g.id) ORDER BY g.expires_at LIMIT $1 FOR NO KEY UPDATE OF c SKIP LOCKED",
	INT8OID);
/* Looked at once more, now that nobody else changes them. */
QUERY(
	expire_grants,
	"WITH gone AS (SELECT g.id, g.organization_id, g.remaining, g.expires_at "
	"FROM billing.credit_grants AS g WHERE g.id = ANY ($1) AND g.remaining > 0 AND NOT " GRANT_IS_STILL_WANTED
	"), "
	"over AS (UPDATE billing.credit_grants AS g SET remaining = 0, expired_at = g.expires_at "
	"FROM gone AS e WHERE g.id = e.id) "
	"INSERT INTO billing.credit_grant_entries (grant_id, organization_id, kind, amount, occurred_at) "
	"SELECT e.id, e.organization_id, 'expire', -e.remaining, e.expires_at FROM gone AS e "
	"RETURNING grant_id, organization_id",
	UUIDARRAYOID);

typedef struct Expiring
{
	pg_uuid_t **ids;
	char **organization_ids;
	int count;
} Expiring;

static void
find_expired(Expiring *expiring)
{
	SqlQuery *const queries[] = {&expired_grants, &expired_by_clock};

	expiring->ids = palloc(sizeof(pg_uuid_t *) * EXPIRE_BATCH);
	expiring->organization_ids = palloc(sizeof(char *) * EXPIRE_BATCH);
	for (size_t q = 0; q < lengthof(queries) && expiring->count < EXPIRE_BATCH; q++)
	{
		int64 found = query_run(queries[q], (const Arg[]){arg_int(EXPIRE_BATCH - expiring->count)});

		for (int64 i = 0; i < found; i++)
		{
			expiring->organization_ids[expiring->count] = row_text(i, 2);
			expiring->ids[expiring->count++] = row_uuid(i, 1);
		}
	}
}

static void
expire(void *context)
{
	const Expiring *expiring = context;
	int64 count = RUN(
		expire_grants,
		arg_datum(PointerGetDatum(uuid_array(expiring->ids, expiring->count)), false));
	Rows rows = rows_keep();

	for (int64 i = 0; i < count; i++)
		event_record("credit_grant.expired", "credit_grant", rows_uuid(rows, i, 1),
					 rows_text(rows, i, 2), "open", "expired");
	work_resume(expiring->ids, expiring->count);
}

static void
leave_out(void *context)
{
	(void) work_postpone(context);
}

/* True when it is done, or put off. */
static bool
expire_one(Expiring *one)
{
	Undone undone = {.what = "prepaid credit cannot be ended",
					 .object_type = "credit_grant",
					 .id = one->ids[0],
					 .organization_id = one->organization_ids[0]};
	char *sqlstate;
	char *message;

	if (guarded(expire, one, &sqlstate, &message))
		return true;
	undone.sqlstate = sqlstate;
	if (!sqlstate_passes(sqlstate))
		ereport(LOG, (errmsg("prepaid credit %s of billing cannot be ended: %s",
							 uuid_text(undone.id), message),
					  errdetail("SQLSTATE %s. It is tried again later.", sqlstate)));
	return guarded(leave_out, &undone, &sqlstate, &message) && !sqlstate_passes(undone.sqlstate);
}

/* One that cannot be ended holds up no other. */
static int
expire_each(const Expiring *all)
{
	int done = 0;
	int passing = 0;

	for (int i = 0; i < all->count && passing < PASSING_MOST; i++)
	{
		Expiring one = {all->ids + i, all->organization_ids + i, 1};

		if (expire_one(&one))
			done++;
		else
			passing++;
	}
	return done;
}

static void
expire_batch(void *context)
{
	Expiring expiring = {0};
	char *sqlstate;
	char *message;

	find_expired(&expiring);
	if (expiring.count == 0 || guarded(expire, &expiring, &sqlstate, &message))
		*(int *) context = expiring.count;
	else
		*(int *) context = expire_each(&expiring);
}

int
credits_expire(void)
{
	int count = 0;

	if (!unit_run(expire_batch, &count, "end prepaid credits"))
		return 0;
	return count;
}

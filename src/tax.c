/*-------------------------------------------------------------------------
 *
 * tax.c
 *	  Tax rates as data, and which of them a draft is taxed by.
 *
 * Asked by draft_complete() (invoice_drafts.c).  All rates are read once per
 * run; of the customers only what is sealed (the region, and whether there is a
 * tax id), for all customers of the run in one statement, and only where a rate
 * depends on it.  Without any rate a run costs one query on an empty table.
 *
 * What counts is the invoice's own time.  A line that gives back what was
 * billed before keeps the rate that it was billed with, valid or not.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "catalog/pg_collation.h"
#include "check.h"
#include "errors.h"
#include "json.h"
#include "keys.h"

typedef struct StoredRate
{
	pg_uuid_t *id;
	char *country;
	char *region; /* NULL: all of the country */
	char *name;
	MoneyFraction percent;
	bool reverse_charge;
	TimestampTz valid_from;
	TimestampTz valid_to; /* 0: not known yet */
} StoredRate;

struct RunTaxes
{
	MemoryContext memory; /* that of the run */
	int count;
	StoredRate *rates;
	List *merchants; /* providers that tax what they sell themselves: name and title by turns */
	char *reverse_note;
	char *exempt_note;
};

/* What a rate may depend on, of a customer. */
struct CustomerTax
{
	const char *country;
	const char *region;
	bool has_tax_id;
};

/* ---- what there is ---- */

QUERY(load_rates,
	  "SELECT r.id, r.country, r.region, r.name, r.percent::text, r.reverse_charge, r.valid_from, "
	  "r.valid_to FROM billing.tax_rates AS r");
QUERY(load_merchants,
	  "SELECT p.name, p.title FROM billing.providers AS p WHERE p.merchant_of_record");

static void
rate_from_row(StoredRate *rate, int64 row)
{
	char *percent = row_text(row, 5);

	rate->id = row_uuid(row, 1);
	rate->country = row_text(row, 2);
	rate->region = row_text(row, 3);
	rate->name = row_text(row, 4);
	if (money_fraction_parse(percent, strlen(percent), &rate->percent) != MONEY_OK)
		elog(ERROR, "tax rate of %s percent", percent);
	rate->reverse_charge = row_bool(row, 6);
	rate->valid_from = row_time(row, 7);
	rate->valid_to = row_time(row, 8);
}

/* Exempt customers are told so also where there is no rate; so are those who owe the tax. */
static RunTaxes *
taxes_load(BillingRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(run));
	RunTaxes *taxes = palloc0(sizeof(RunTaxes));
	int64 merchants;

	taxes->memory = CurrentMemoryContext;
	taxes->count = (int) RUN(load_rates);
	taxes->rates = palloc(sizeof(StoredRate) * Max(taxes->count, 1));
	for (int i = 0; i < taxes->count; i++)
		rate_from_row(&taxes->rates[i], i);
	merchants = RUN(load_merchants);
	for (int64 i = 0; i < merchants; i++)
		taxes->merchants = lappend(lappend(taxes->merchants, row_text(i, 1)), row_text(i, 2));
	MemoryContextSwitchTo(old);
	return taxes;
}

static const char *
note_of(RunTaxes *taxes, char **kept, const char *setting)
{
	if (*kept == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(taxes->memory);
		char *note = setting_text(setting);

		*kept = note != NULL ? note : pstrdup("");
		MemoryContextSwitchTo(old);
	}
	return *kept;
}

/* Its title, where the provider is the seller; else NULL. */
static const char *
seller_title(const RunTaxes *taxes, const char *provider)
{
	for (int i = 0; i < list_length(taxes->merchants); i += 2)
	{
		if (strcmp(list_nth(taxes->merchants, i), provider) == 0)
			return list_nth(taxes->merchants, i + 1);
	}
	return NULL;
}

/* ---- what is sealed of the customers ---- */

QUERY(load_details,
	  "SELECT u.n, c.address, c.tax_ids FROM unnest($1::uuid[]) WITH ORDINALITY AS u (id, n) "
	  "JOIN billing.customers AS c ON c.id = u.id "
	  "WHERE c.address IS NOT NULL OR c.tax_ids IS NOT NULL",
	  UUIDARRAYOID);

/* Where the country is not told, the address may tell it. */
static bool
needs_details(const RunTaxes *taxes, const BilledCustomer *customer)
{
	if (customer->country == NULL)
		return taxes->count > 0;
	for (int i = 0; i < taxes->count; i++)
	{
		if (strcmp(taxes->rates[i].country, customer->country) == 0 &&
			(taxes->rates[i].region != NULL || taxes->rates[i].reverse_charge))
			return true;
	}
	return false;
}

static char *
upper_trimmed(const char *name)
{
	Datum upper_case;

	if (name == NULL)
		return NULL;
	upper_case = DirectFunctionCall1Coll(upper, DEFAULT_COLLATION_OID, CStringGetTextDatum(name));
	return TextDatumGetCString(DirectFunctionCall1(btrim1, upper_case));
}

static void
read_details(CustomerTax *tax, const BilledCustomer *customer, Rows rows, int64 row)
{
	const bytea *sealed = rows_bytes(rows, row, 2);
	const bytea *ids = rows_bytes(rows, row, 3);
	const char *reason;
	const char *text;

	if (sealed != NULL)
	{
		text = unseal_text("customers.address", customer->id, sealed);
		if (text != NULL)
		{
			const Jsonb *address = json_parse(text, strlen(text), &reason);

			if (address != NULL)
			{
				tax->region = upper_trimmed(json_text(address, "state"));
				if (tax->country == NULL)
					tax->country = upper_trimmed(json_text(address, "country"));
			}
		}
	}
	if (ids != NULL)
	{
		text = unseal_text("customers.tax_ids", customer->id, ids);
		if (text != NULL)
		{
			const Jsonb *list = json_parse(text, strlen(text), &reason);

			tax->has_tax_id = list != NULL && json_length(list, "") > 0;
		}
	}
}

/* Of all customers of the run that were not asked about yet. */
static void
customers_load(BillingRun *run, BilledCustomer *wanted)
{
	RunTaxes *taxes = run->taxes;
	MemoryContext old = MemoryContextSwitchTo(taxes->memory);
	List *all = list_append_unique_ptr(list_copy(run->customers), wanted);
	BilledCustomer **asked = palloc(sizeof(BilledCustomer *) * list_length(all));
	pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * list_length(all));
	int count = 0;
	ListCell *cell;

	foreach (cell, all)
	{
		BilledCustomer *customer = lfirst(cell);

		if (customer->tax != NULL)
			continue;
		customer->tax = palloc0(sizeof(CustomerTax));
		customer->tax->country = customer->country;
		if (needs_details(taxes, customer))
		{
			asked[count] = customer;
			ids[count++] = customer->id;
		}
	}
	if (count > 0)
	{
		int64 found = RUN(load_details, arg_uuids(ids, count));
		Rows rows = rows_keep();

		for (int64 i = 0; i < found; i++)
		{
			BilledCustomer *customer = asked[rows_int(rows, i, 1) - 1];

			read_details(customer->tax, customer, rows, i);
		}
	}
	MemoryContextSwitchTo(old);
}

/* ---- what a draft is taxed by ---- */

static bool
rate_is_valid(const StoredRate *rate, TimestampTz at)
{
	return rate->valid_from <= at && (rate->valid_to == 0 || at < rate->valid_to);
}

/* The region's rate before the country's. */
static const StoredRate *
rate_of(const RunTaxes *taxes, const CustomerTax *tax, TimestampTz at)
{
	const StoredRate *found = NULL;

	if (tax->country == NULL)
		return NULL;
	for (int i = 0; i < taxes->count; i++)
	{
		const StoredRate *rate = &taxes->rates[i];

		if (strcmp(rate->country, tax->country) != 0 || !rate_is_valid(rate, at))
			continue;
		if (rate->region == NULL && found == NULL)
			found = rate;
		else if (rate->region != NULL && tax->region != NULL &&
				 strcmp(rate->region, tax->region) == 0)
			found = rate;
	}
	return found;
}

static const StoredRate *
rate_by_id(const RunTaxes *taxes, const pg_uuid_t *id)
{
	for (int i = 0; i < taxes->count; i++)
	{
		if (uuid_equal(taxes->rates[i].id, id))
			return &taxes->rates[i];
	}
	elog(ERROR, "tax rate %s is not there", uuid_text(id));
}

static List *
add_rate(List *list, const StoredRate *rate, bool inclusive, bool current)
{
	DraftTax *entry = palloc0(sizeof(DraftTax));

	entry->tax_rate_id = rate->id;
	entry->name = rate->name;
	entry->terms.percent = rate->percent;
	entry->terms.behavior = inclusive ? TAX_INCLUSIVE : TAX_EXCLUSIVE;
	entry->current = current;
	return lappend(list, entry);
}

static List *
add_note(const StoredRate *rate, const char *note)
{
	DraftTax *entry = palloc0(sizeof(DraftTax));

	entry->name = rate != NULL ? rate->name : "Tax";
	entry->note = note;
	entry->terms.behavior = TAX_EXCLUSIVE;
	entry->current = true;
	return list_make1(entry);
}

/* What it comes to is known when it is paid: then the line gets its amount (collection_money.c). */
static List *
tax_of_seller(const char *title)
{
	List *list = add_note(NULL, psprintf("added by %s", title));

	((DraftTax *) linitial(list))->always = true;
	return list;
}

static int
entry_of(const List *taxes, const pg_uuid_t *id, bool inclusive)
{
	TaxBehavior behavior = inclusive ? TAX_INCLUSIVE : TAX_EXCLUSIVE;

	for (int i = 0; i < list_length(taxes); i++)
	{
		const DraftTax *entry = list_nth(taxes, i);

		if (entry->terms.behavior == behavior && entry->tax_rate_id != NULL && id != NULL &&
			uuid_equal(entry->tax_rate_id, id))
			return i;
	}
	return NO_TAX_RATE;
}

/* The rate of a customer, added and inside; or one that taxes nothing and says why. */
static List *
current_rates(RunTaxes *taxes, const InvoiceDraft *draft)
{
	const BilledCustomer *customer = draft->customer;
	const StoredRate *rate = rate_of(taxes, customer->tax, draft->made_at);

	if (strcmp(customer->tax_exempt, "exempt") == 0)
		return add_note(rate, note_of(taxes, &taxes->exempt_note, "tax_note_exempt"));
	if (strcmp(customer->tax_exempt, "reverse") == 0 ||
		(rate != NULL && rate->reverse_charge && customer->tax->has_tax_id))
		return add_note(rate, note_of(taxes, &taxes->reverse_note, "tax_note_reverse"));
	if (rate == NULL)
		return NIL;
	return add_rate(add_rate(NIL, rate, false, true), rate, true, true);
}

List *
taxes_of(BillingRun *run, const InvoiceDraft *draft)
{
	RunTaxes *taxes;
	const char *title;
	List *list;
	ListCell *cell;

	if (run->taxes == NULL)
		run->taxes = taxes_load(run);
	taxes = run->taxes;
	title = seller_title(taxes, draft->provider);
	if (title != NULL)
		return tax_of_seller(title);
	if (draft->customer->tax == NULL)
		customers_load(run, draft->customer);
	list = current_rates(taxes, draft);
	foreach (cell, draft->lines)
	{
		const InvoiceLine *line = lfirst(cell);

		if (line->own_tax && line->tax_rate_id != NULL &&
			entry_of(list, line->tax_rate_id, line->tax_inclusive) == NO_TAX_RATE)
			list = add_rate(list, rate_by_id(taxes, line->tax_rate_id), line->tax_inclusive, false);
	}
	return list;
}

int
tax_of_line(List *taxes, const InvoiceDraft *draft, const InvoiceLine *line)
{
	TaxBehavior behavior = line->tax_inclusive ? TAX_INCLUSIVE : TAX_EXCLUSIVE;

	if (line->own_tax)
		return entry_of(taxes, line->tax_rate_id, line->tax_inclusive);
	for (int i = 0; i < list_length(taxes); i++)
	{
		const DraftTax *entry = list_nth(taxes, i);

		if (entry->current && (entry->tax_rate_id == NULL || entry->terms.behavior == behavior))
			return i;
	}
	return NO_TAX_RATE;
}

bool
tax_is_inclusive_by_default(void)
{
	const char *behavior = setting_text("tax_behavior");

	return behavior != NULL && strcmp(behavior, "inclusive") == 0;
}

/* ------------------------------------------------------------------------
 * set_tax_rate()
 * ------------------------------------------------------------------------
 */
QUERY(lock_rates, "LOCK TABLE billing.tax_rates IN SHARE ROW EXCLUSIVE MODE");
/* The one that lasts until it is replaced ends where the new one begins. */
QUERY(end_rate,
	  "UPDATE billing.tax_rates SET valid_to = $3 WHERE country = $1 AND region IS NOT DISTINCT "
	  "FROM $2 AND valid_from < $3 AND valid_to IS NULL",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID);
QUERY(find_overlap,
	  "SELECT r.name, r.percent::text, r.valid_from, r.valid_to FROM billing.tax_rates AS r "
	  "WHERE r.country = $1 AND r.region IS NOT DISTINCT FROM $2 AND r.valid_from < coalesce($4, "
	  "'infinity') AND coalesce(r.valid_to, 'infinity') > $3 AND (r.valid_from >= $3 "
	  "OR r.valid_to IS NOT NULL OR $3 < date_trunc('second', now())) LIMIT 1",
	  TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
QUERY(
	insert_rate,
	"INSERT INTO billing.tax_rates (id, country, region, name, percent, reverse_charge, valid_from, "
	"valid_to) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, NUMERICOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
QUERY(percent_fits, "SELECT $1 BETWEEN 0 AND 100 AND scale(trim_scale($1)) <= 6", NUMERICOID);

typedef struct RateTerms
{
	char *country;
	char *region;
	char *name;
	Arg percent;
	bool reverse_charge;
	TimestampTz valid_from;
	TimestampTz valid_to;
} RateTerms;

static void
check_rate(RateTerms *terms)
{
	check_given("country", terms->country != NULL);
	terms->country = check_country(terms->country);
	terms->region = upper_trimmed(terms->region);
	if (terms->region != NULL && *terms->region == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("region is empty"),
						errdetail("It is blank: no address has such a state or province."),
						errhint("NULL is all of the country.")));
	if (!terms->percent.isnull)
	{
		check_given("name", terms->name != NULL && *terms->name != '\0');
		RUN(percent_fits, terms->percent);
		if (!row_bool(0, 1))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("percent is not from 0 to 100 with at most 6 decimals"),
							errdetail("It is %s.", DatumGetCString(DirectFunctionCall1(
													   numeric_out, terms->percent.value))),
							errhint("19 is 19 %%.")));
	}
	if (TIMESTAMP_NOT_FINITE(terms->valid_from) || TIMESTAMP_NOT_FINITE(terms->valid_to))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s is infinite",
					TIMESTAMP_NOT_FINITE(terms->valid_from) ? "valid_from" : "valid_to"),
			 errdetail(
				 "A rate begins at a moment, and is valid until one or until it is replaced."),
			 errhint("valid_from defaults to now; leave out valid_to for a rate without an end.")));
	if (terms->valid_to != 0 && terms->valid_to <= terms->valid_from)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("valid_to is not after valid_from"),
				 errdetail("They are %s and %s.", pstrdup(timestamptz_to_str(terms->valid_to)),
						   pstrdup(timestamptz_to_str(terms->valid_from))),
				 errhint("It is the first moment at which the rate is valid no more.")));
}

/* It is always given, also as the beginning of 2000. */
static Arg
moment(TimestampTz at)
{
	return arg_datum(TimestampTzGetDatum(at), false);
}

/* The time of an invoice has whole seconds. */
static TimestampTz
whole_second(TimestampTz moment)
{
	return moment == 0 || TIMESTAMP_NOT_FINITE(moment) ? moment
													   : moment_of_unix(unix_seconds(moment));
}

/* Only what is to come can be replaced: invoices were made by what was valid. */
static void
refuse_overlap(const RateTerms *terms)
{
	char *name;
	char *percent;
	TimestampTz from;
	TimestampTz to;

	if (RUN(find_overlap, arg_text(terms->country), arg_text(terms->region),
			moment(terms->valid_from), arg_time(terms->valid_to)) == 0)
		return;
	name = row_text(0, 1);
	percent = row_text(0, 2);
	from = row_time(0, 3);
	to = row_time(0, 4);
	ereport(ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION),
			 errmsg("there is a tax rate of %s%s%s for that time", terms->country,
					terms->region != NULL ? " " : "", terms->region != NULL ? terms->region : ""),
			 errdetail("%s of %s %% is valid from %s to %s.", name, percent,
					   pstrdup(timestamptz_to_str(from)),
					   to == 0 ? "further notice" : pstrdup(timestamptz_to_str(to))),
			 errhint("A rate is replaced from a moment that is to come, and not before one that is "
					 "set already; valid_to ends it before that.")));
}

SQL_FUNCTION(billing_set_tax_rate)
{
	RateTerms terms = {
		.country = ARG_TEXT(0),
		.percent = arg_datum(PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1), PG_ARGISNULL(1)),
		.name = ARG_TEXT(2),
		.region = ARG_TEXT(3),
		.valid_from = PG_ARGISNULL(4) ? GetCurrentTransactionStartTimestamp() : ARG_TIME(4),
		.valid_to = ARG_TIME(5),
		.reverse_charge = ARG_BOOL(6, false),
	};
	pg_uuid_t *id = new_id();

	check_no_card("name", terms.name);
	check_no_card("region", terms.region);
	db_open();
	terms.valid_from = whole_second(terms.valid_from);
	terms.valid_to = whole_second(terms.valid_to);
	check_rate(&terms);
	RUN(lock_rates);
	refuse_overlap(&terms);
	RUN(end_rate, arg_text(terms.country), arg_text(terms.region), moment(terms.valid_from));
	if (terms.percent.isnull)
	{
		db_close();
		PG_RETURN_NULL();
	}
	RUN(insert_rate, arg_uuid(id), arg_text(terms.country), arg_text(terms.region),
		arg_text(terms.name), terms.percent, arg_bool(terms.reverse_charge),
		moment(terms.valid_from), arg_time(terms.valid_to));
	return db_close_uuid(id);
}

/*-------------------------------------------------------------------------
 *
 * usage.c
 *	  record_usage() and record_usage_batch(): takes usage in.
 *
 * These functions run as their caller; usage_store.c writes with no other
 * permission than EXECUTE on them.  Rows in arrays and in jsonb become the
 * same UsageRow, and usage_record() does the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "access/xact.h"
#include "check.h"
#include "errors.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

/* ------------------------------------------------------------------------
 * One event
 * ------------------------------------------------------------------------
 */
/* The key comes first: a known one is false whatever the rest says. */
static bool
record_one(UsageRow *row)
{
	RuleScope scope = {0};
	Refusal *refused = usage_check(row, &scope);
	UsageStore *store;
	bool counted = true;

	if (refused != NULL && (row->key == NULL || usage_check_key(row) != NULL))
		usage_refuse(refused, 0);
	store = usage_store_open("billing.record_usage()", &row->occurred_at, refused == NULL ? 1 : 0);
	if (row->key != NULL)
		counted = refused != NULL ? !usage_store_knows(store, row) : usage_store_claim(store, row);
	if (counted && refused != NULL)
		usage_refuse(refused, 0);
	if (counted)
		usage_store_put(store, row);
	usage_store_close(store);
	return counted;
}

SQL_FUNCTION(billing_record_usage)
{
	UsageRow row = {0};

	row.organization_id = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	row.metric = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	row.quantity = PG_ARGISNULL(2) ? NULL : PG_GETARG_NUMERIC(2);
	row.has_time = !PG_ARGISNULL(3);
	row.occurred_at = row.has_time ? PG_GETARG_TIMESTAMPTZ(3) : 0;
	row.key = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	row.properties = PG_ARGISNULL(5) ? NULL : PG_GETARG_JSONB_P(5);
	PG_RETURN_BOOL(record_one(&row));
}

/* ------------------------------------------------------------------------
 * What a batch left out
 * ------------------------------------------------------------------------
 */
typedef struct Skipped
{
	struct Skipped *next;
	int64 row_number;
	int sqlstate;
	char *message;
	char *detail;
} Skipped;

/* Kept until the next batch of the session. */
static MemoryContext skipped_memory = NULL;
static Skipped *skipped_first = NULL;
static Skipped *skipped_last = NULL;

static void
skipped_clear(void)
{
	if (skipped_memory == NULL)
		skipped_memory = AllocSetContextCreate(TopMemoryContext, "billing skipped usage",
											   ALLOCSET_SMALL_SIZES);
	MemoryContextReset(skipped_memory);
	skipped_first = skipped_last = NULL;
}

static void
skip(int64 row_number, const Refusal *refusal)
{
	Skipped *made = MemoryContextAlloc(skipped_memory, sizeof(Skipped));

	made->next = NULL;
	made->row_number = row_number;
	made->sqlstate = refusal->sqlstate;
	made->message = MemoryContextStrdup(skipped_memory, refusal->message);
	made->detail = refusal->detail == NULL ? NULL
										   : MemoryContextStrdup(skipped_memory, refusal->detail);
	if (skipped_last == NULL)
		skipped_first = made;
	else
		skipped_last->next = made;
	skipped_last = made;
}

SQL_FUNCTION(billing_skipped_usage)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (Skipped *at = skipped_first; at != NULL; at = at->next)
	{
		Datum values[4] = {Int64GetDatum(at->row_number),
						   CStringGetTextDatum(unpack_sql_state(at->sqlstate)),
						   CStringGetTextDatum(at->message),
						   at->detail == NULL ? (Datum) 0 : CStringGetTextDatum(at->detail)};
		bool nulls[4] = {false, false, false, at->detail == NULL};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* So that a row's place fits into memory, whatever is in it. */
#define BATCH_MAX 1000000

static UsageRow *
rows_new(int64 count)
{
	if (count > BATCH_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a batch has more than %d events", BATCH_MAX),
						errdetail("It has " INT64_FORMAT ".", count),
						errhint("Pass it in parts, or use COPY billing.usage_import.")));
	return palloc0(sizeof(UsageRow) * Max(count, 1));
}

static int64
record_rows(UsageRow *rows, int64 count, const char *on_error)
{
	static const char *const words[] = {"raise", "skip", NULL};
	bool skips = on_error != NULL && strcmp(on_error, "skip") == 0;

	check_given("on_error", on_error != NULL);
	check_word("on_error", on_error, words);
	skipped_clear();
	return usage_record("billing.record_usage_batch()", rows, count, 1, skips ? skip : NULL);
}

/* ------------------------------------------------------------------------
 * Arrays
 * ------------------------------------------------------------------------
 */
typedef struct Elements
{
	Datum *values;
	bool *nulls;
	int count;
	bool given;
} Elements;

static Elements
elements_of(FunctionCallInfo fcinfo, int argument, const char *name, Oid type, int16 length,
			bool by_value, char alignment)
{
	Elements elements = {0};
	ArrayType *array;

	if (PG_ARGISNULL(argument))
		return elements;
	array = PG_GETARG_ARRAYTYPE_P(argument);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has more than one dimension", name),
				 errdetail("It has %d.", ARR_NDIM(array)), errhint("Pass one element per event.")));
	deconstruct_array(array, type, length, by_value, alignment, &elements.values, &elements.nulls,
					  &elements.count);
	elements.given = true;
	return elements;
}

static void
check_lengths(const Elements *columns, const char *const *names, int count)
{
	for (int i = 1; i < count; i++)
	{
		if (columns[i].given && columns[i].count != columns[0].count)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s has another length than %s", names[i], names[0]),
					 errdetail("They have %d and %d elements.", columns[i].count, columns[0].count),
					 errhint("Pass one element per event in each array; NULL stands for none.")));
	}
}

/* NULL for an element that is NULL, or where there is no array. */
static void *
pointer_at(const Elements *elements, int i)
{
	if (!elements->given || elements->nulls[i])
		return NULL;
	return PG_DETOAST_DATUM_PACKED(elements->values[i]);
}

static void *
whole_pointer_at(const Elements *elements, int i)
{
	if (!elements->given || elements->nulls[i])
		return NULL;
	return PG_DETOAST_DATUM(elements->values[i]);
}

SQL_FUNCTION(billing_record_usage_batch)
{
	static const char *const names[] = {"organization_ids", "metrics",          "quantities",
										"occurred_at",      "idempotency_keys", "properties"};
	Elements columns[6] = {
		elements_of(fcinfo, 0, names[0], TEXTOID, -1, false, TYPALIGN_INT),
		elements_of(fcinfo, 1, names[1], TEXTOID, -1, false, TYPALIGN_INT),
		elements_of(fcinfo, 2, names[2], NUMERICOID, -1, false, TYPALIGN_INT),
		elements_of(fcinfo, 3, names[3], TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE),
		elements_of(fcinfo, 4, names[4], TEXTOID, -1, false, TYPALIGN_INT),
		elements_of(fcinfo, 5, names[5], JSONBOID, -1, false, TYPALIGN_INT)};
	UsageRow *rows;

	for (int i = 0; i < 3; i++)
		check_given(names[i], columns[i].given);
	check_lengths(columns, names, lengthof(columns));
	rows = rows_new(columns[0].count);
	for (int i = 0; i < columns[0].count; i++)
	{
		rows[i].organization_id = pointer_at(&columns[0], i);
		rows[i].metric = pointer_at(&columns[1], i);
		rows[i].quantity = whole_pointer_at(&columns[2], i);
		rows[i].has_time = columns[3].given && !columns[3].nulls[i];
		if (rows[i].has_time)
			rows[i].occurred_at = DatumGetTimestampTz(columns[3].values[i]);
		rows[i].key = pointer_at(&columns[4], i);
		rows[i].properties = whole_pointer_at(&columns[5], i);
	}
	PG_RETURN_INT64(record_rows(rows, columns[0].count, ARG_TEXT(6)));
}

/* ------------------------------------------------------------------------
 * jsonb
 * ------------------------------------------------------------------------
 */
#define MEMBER_LIST \
	"There are: organization_id, metric, quantity, occurred_at, idempotency_key, properties."

/* The first reason counts; the other members are read nevertheless: a known key is known whatever the rest says. */
static void
bad_member(UsageRow *row, const char *member, const char *hint)
{
	if (row->unreadable == NULL)
		row->unreadable = usage_refusal(ERRCODE_INVALID_PARAMETER_VALUE,
										psprintf("member \"%s\" cannot be read", member), NULL,
										pstrdup(hint));
}

static text *
member_text(UsageRow *row, const char *member, const JsonbValue *value)
{
	if (value->type == jbvString)
		return cstring_to_text_with_len(value->val.string.val, value->val.string.len);
	if (value->type != jbvNull)
		bad_member(row, member, "It is a text.");
	return NULL;
}

static Numeric
member_number(UsageRow *row, const char *member, const JsonbValue *value)
{
	if (value->type == jbvNumeric)
		return value->val.numeric;
	if (value->type != jbvNull)
		bad_member(row, member, "It is a number.");
	return NULL;
}

static void
member_time(UsageRow *row, const char *member, const JsonbValue *value)
{
	text *written = member_text(row, member, value);
	Datum read;

	if (written == NULL)
		return;
	row->has_time = compat_read_text(timestamptz_in, text_to_cstring(written), &read);
	if (row->has_time)
		row->occurred_at = DatumGetTimestampTz(read);
	else
		bad_member(row, member, "It is a time like 2026-01-31T12:00:00Z.");
}

static void
read_member(UsageRow *row, const char *member, JsonbValue *value)
{
	if (strcmp(member, "organization_id") == 0)
		row->organization_id = member_text(row, member, value);
	else if (strcmp(member, "metric") == 0)
		row->metric = member_text(row, member, value);
	else if (strcmp(member, "quantity") == 0)
		row->quantity = member_number(row, member, value);
	else if (strcmp(member, "idempotency_key") == 0)
		row->key = member_text(row, member, value);
	else if (strcmp(member, "properties") == 0)
		row->properties = value->type == jbvNull ? NULL : JsonbValueToJsonb(value);
	else if (strcmp(member, "occurred_at") == 0)
		member_time(row, member, value);
	else
		bad_member(row, member, MEMBER_LIST);
}

static void
read_row(UsageRow *row, JsonbValue *element)
{
	JsonbIterator *iterator;
	JsonbValue value;
	JsonbIteratorToken token;

	if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
	{
		row->unreadable = usage_refusal(ERRCODE_INVALID_PARAMETER_VALUE, "it is no object", NULL,
										MEMBER_LIST);
		return;
	}
	row->quantity = int64_to_numeric(1);
	iterator = JsonbIteratorInit(element->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		char *member;

		if (token != WJB_KEY)
			continue;
		member = pnstrdup(value.val.string.val, value.val.string.len);
		(void) JsonbIteratorNext(&iterator, &value, true);
		read_member(row, member, &value);
	}
}

SQL_FUNCTION(billing_record_usage_json)
{
	Jsonb *events = ARG_JSON(0);
	UsageRow *rows;
	int64 count;

	check_given("events", events != NULL);
	if (!JB_ROOT_IS_ARRAY(events) || JB_ROOT_IS_SCALAR(events))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("events is no array"),
			 errhint(
				 "Pass something like '[{\"organization_id\": \"acme\", \"metric\": \"api_calls\"}]'.")));
	count = JB_ROOT_COUNT(events);
	rows = rows_new(count);
	for (int64 i = 0; i < count; i++)
		read_row(&rows[i], getIthJsonbValueFromContainer(&events->root, (uint32) i));
	PG_RETURN_INT64(record_rows(rows, count, ARG_TEXT(1)));
}

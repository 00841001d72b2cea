/*-------------------------------------------------------------------------
 *
 * usage_rules.c
 *	  Which usage can be counted.
 *
 * The rules are the same for one event, a batch and COPY.  They refuse by
 * returning why, so that a batch can go on with the other rows.  Everything
 * that the constraints of usage_events say is checked here as well: rows are
 * written without the executor (usage_store.c), which would check them.
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "check.h"
#include "errors.h"
#include "mb/pg_wchar.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#define TEXT_MAX 255 /* characters of an organisation's id and of a key */

/* Bytes of a value in a message. */
#define SHOWN_MAX 80

/* As the constraint of usage_events. */
#define QUANTITY_BOUND "1e30"

/* How fine a quantity may be. */
#define DECIMALS_MAX 12

/* Bytes of properties as they are stored, and of one that is grouped by or counted. */
#define PROPERTIES_MAX 8192
#define VALUE_MAX      255

/* Before it there is no usage that anybody is billed for: 2000-01-01, the zero of TimestampTz. */
#define OCCURRED_AT_MIN 0

#define METRIC_LIST "SELECT metric FROM billing.meters ORDER BY metric"

Refusal *
usage_refusal(int sqlstate, char *message, char *detail, char *hint)
{
	Refusal *made = palloc(sizeof(Refusal));

	*made = (Refusal){sqlstate, message, detail, hint};
	return made;
}

/* For a message; only as long as a message should be. */
static char *
shown(const char *value, int length)
{
	if (length <= SHOWN_MAX)
		return pnstrdup(value, length);
	return psprintf("%.*s...", pg_mbcliplen(value, length, SHOWN_MAX), value);
}

static char *
shown_text(const text *value)
{
	return shown(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

/* The list of metrics is asked only for a message that somebody will see. */
static char *
list_of_metrics(void)
{
	Identity identity = identity_take_owner();
	char *list;

	db_open();
	list = hint_list(METRIC_LIST);
	list = TextDatumGetCString(db_close_text(list));
	identity_give_back(identity);
	return psprintf("There are: %s.", list);
}

void
usage_refuse(const Refusal *refused, int64 row_number)
{
	const char *hint = refused->hint;

	if (refused->sqlstate == ERRCODE_JB_UNKNOWN_OBJECT)
		hint = list_of_metrics();
	ereport(ERROR,
			(errcode(refused->sqlstate),
			 row_number > 0 ? errmsg("row " INT64_FORMAT ": %s", row_number, refused->message)
							: errmsg("%s", refused->message),
			 refused->detail != NULL ? errdetail("%s", refused->detail) : 0,
			 hint != NULL ? errhint("%s", hint) : 0));
	pg_unreachable();
}

/* ------------------------------------------------------------------------
 * Arguments
 * ------------------------------------------------------------------------
 */
static Refusal *
not_given(const char *argument)
{
	return usage_refusal(ERRCODE_NOT_NULL_VIOLATION, psprintf("%s must be given", argument), NULL,
						 NULL);
}

static bool
is_short(const text *value)
{
	int bytes = VARSIZE_ANY_EXHDR(value);

	return bytes > 0 &&
		   (bytes <= TEXT_MAX || pg_mbstrlen_with_len(VARDATA_ANY(value), bytes) <= TEXT_MAX);
}

/* They are invisible wherever somebody looks for the id, and mostly come from a file that was cut badly. */
static bool
has_control(const text *value)
{
	const unsigned char *bytes = (const unsigned char *) VARDATA_ANY(value);
	int length = VARSIZE_ANY_EXHDR(value);

	for (int i = 0; i < length; i++)
	{
		if (bytes[i] < 0x20 || bytes[i] == 0x7f)
			return true;
	}
	return false;
}

static Refusal *
check_short(const char *argument, const text *value)
{
	if (value == NULL)
		return NULL;
	if (!is_short(value))
		return usage_refusal(
			ERRCODE_INVALID_PARAMETER_VALUE,
			psprintf("%s is empty or longer than %d characters", argument, TEXT_MAX), NULL, NULL);
	if (has_control(value))
		return usage_refusal(
			ERRCODE_INVALID_PARAMETER_VALUE, psprintf("%s holds a control character", argument),
			psprintf("It is \"%s\".", shown_text(value)), "Remove line ends, tabs and the like.");
	return NULL;
}

Refusal *
usage_check_key(const UsageRow *row)
{
	Refusal *refused;

	if (row->organization_id == NULL)
		return not_given("organization_id");
	refused = check_short("organization_id", row->organization_id);
	return refused != NULL ? refused : check_short("idempotency_key", row->key);
}

static bool
is_countable(Numeric quantity)
{
	static Numeric bound = NULL;

	if (bound == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext); /* a constant */

		bound = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(QUANTITY_BOUND),
													ObjectIdGetDatum(InvalidOid),
													Int32GetDatum(-1)));
		MemoryContextSwitchTo(old);
	}
	/* NaN is greater than every number for PostgreSQL, as is Infinity */
	return DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(quantity),
											NumericGetDatum(bound))) &&
		   numeric_order(quantity, int64_to_numeric(0)) >= 0;
}

static char *
shown_number(Numeric value)
{
	char *digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value)));

	return shown(digits, strlen(digits));
}

/* Zeros at the end do not count as decimals, since every division makes some. */
Refusal *
usage_check_quantity(Numeric quantity, Numeric *trimmed)
{
	int decimals;

	if (quantity == NULL)
		return not_given("quantity");
	if (!is_countable(quantity))
		return usage_refusal(ERRCODE_INVALID_PARAMETER_VALUE, "quantity cannot be counted",
							 psprintf("quantity is %s.", shown_number(quantity)),
							 "It is a number from 0, below " QUANTITY_BOUND ".");
	decimals = DatumGetInt32(DirectFunctionCall1(numeric_scale, NumericGetDatum(quantity)));
	*trimmed = quantity;
	if (decimals == 0)
		return NULL;
	decimals = DatumGetInt32(DirectFunctionCall1(numeric_min_scale, NumericGetDatum(quantity)));
	if (decimals > DECIMALS_MAX)
		return usage_refusal(
			ERRCODE_INVALID_PARAMETER_VALUE, "quantity has too many decimals",
			psprintf("It has %d.", decimals),
			psprintf("There may be %d: round(quantity, %d).", DECIMALS_MAX, DECIMALS_MAX));
	*trimmed = DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(quantity)));
	return NULL;
}

static Refusal *
check_use(const Meter *meter, const UsageRow *row)
{
	if (meter->aggregation != AGGREGATE_SUM ||
		numeric_order(row->quantity, int64_to_numeric(0)) > 0)
		return NULL;
	return usage_refusal(ERRCODE_INVALID_PARAMETER_VALUE, "quantity cannot be counted",
						 psprintf("quantity is 0, and metric \"%s\" is a sum.", meter->metric),
						 "Record nothing where nothing was used.");
}

static Refusal *
check_occurred_at(TimestampTz occurred_at, TimestampTz now, const UsageTables *tables)
{
	if (!TIMESTAMP_NOT_FINITE(occurred_at) && occurred_at >= OCCURRED_AT_MIN &&
		occurred_at <= now + tables->ahead)
	{
		if (occurred_at >= tables->raw_since)
			return NULL;
		return usage_refusal(
			ERRCODE_INVALID_PARAMETER_VALUE, "occurred_at is in a time that is closed",
			psprintf("occurred_at is %s.", pstrdup(timestamptz_to_str(occurred_at))),
			psprintf(
				"The setting usage_retention has removed the events before %s: record it later.",
				pstrdup(timestamptz_to_str(tables->raw_since))));
	}
	return usage_refusal(
		ERRCODE_INVALID_PARAMETER_VALUE, "occurred_at is not a time that usage can have",
		psprintf("occurred_at is %s.", pstrdup(timestamptz_to_str(occurred_at))),
		tables->ahead == USECS_PER_DAY
			? "Pass when it happened, from the year 2000, at most a day ahead of billing.now() for the organisation."
			: "Pass when it happened, from the year 2000, at most the setting usage_ahead ahead of billing.now() for the organisation.");
}

/* ------------------------------------------------------------------------
 * Properties
 * ------------------------------------------------------------------------
 */
static JsonbValue *
property_of(Jsonb *properties, const char *name, JsonbValue *found)
{
	if (properties == NULL)
		return NULL;
	return getKeyJsonValueFromContainer(&properties->root, name, strlen(name), found);
}

text *
meter_value(const Meter *meter, Jsonb *properties)
{
	JsonbValue storage;
	JsonbValue *value = property_of(properties, meter->property, &storage);

	if (value == NULL)
		return NULL;
	switch (value->type)
	{
		case jbvString:
			return cstring_to_text_with_len(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return cstring_to_text(DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric))));
		case jbvBool:
			return cstring_to_text(value->val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

Jsonb *
meter_dimensions(const Meter *meter, Jsonb *properties)
{
	JsonbParseState *state = NULL;
	JsonbValue *made;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < meter->dimension_count; i++)
	{
		JsonbValue storage;
		JsonbValue key = {.type = jbvString};
		JsonbValue *value = property_of(properties, meter->dimensions[i], &storage);

		if (value == NULL)
			continue;
		key.val.string.val = meter->dimensions[i];
		key.val.string.len = strlen(meter->dimensions[i]);
		/* 1 and 1.0 are the same to jsonb, and shall be to who compares bytes */
		if (value->type == jbvNumeric)
			value->val.numeric = DatumGetNumeric(
				DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(value->val.numeric)));
		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_VALUE, value);
	}
	made = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(made);
}

static bool
is_small_scalar(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return value->val.string.len <= VALUE_MAX;
		case jbvNumeric:
			return VARSIZE_ANY(value->val.numeric) <= VALUE_MAX / 2;
		case jbvBool:
		case jbvNull:
			return true;
		default:
			return false;
	}
}

static Refusal *
check_dimension(const Meter *meter, Jsonb *properties, const char *name)
{
	JsonbValue storage;
	JsonbValue *value = property_of(properties, name, &storage);

	if (value == NULL || is_small_scalar(value))
		return NULL;
	return usage_refusal(
		ERRCODE_INVALID_PARAMETER_VALUE,
		psprintf("property \"%s\" cannot be used by metric \"%s\"", name, meter->metric), NULL,
		psprintf("It is a text of at most %d bytes, a number or a boolean.", VALUE_MAX));
}

static Refusal *
check_properties(const Meter *meter, Jsonb *properties)
{
	Refusal *refused = NULL;

	if (properties != NULL && !JB_ROOT_IS_OBJECT(properties))
		return usage_refusal(ERRCODE_INVALID_PARAMETER_VALUE, "properties is not an object", NULL,
							 "Pass something like '{\"region\": \"eu\"}'.");
	if (properties != NULL && VARSIZE_ANY(properties) > PROPERTIES_MAX)
		return usage_refusal(
			ERRCODE_INVALID_PARAMETER_VALUE, "properties is too large",
			psprintf("It has %u bytes.", (unsigned) VARSIZE_ANY(properties)),
			psprintf("There may be %d: leave out what nothing is grouped by.", PROPERTIES_MAX));
	for (int i = 0; i < meter->dimension_count && refused == NULL; i++)
		refused = check_dimension(meter, properties, meter->dimensions[i]);
	if (refused != NULL || meter->aggregation != AGGREGATE_UNIQUE)
		return refused;
	refused = check_dimension(meter, properties, meter->property);
	if (refused == NULL && meter_value(meter, properties) == NULL)
		refused = usage_refusal(
			ERRCODE_INVALID_PARAMETER_VALUE, psprintf("properties has no \"%s\"", meter->property),
			psprintf("Metric \"%s\" counts its different values.", meter->metric),
			psprintf("Pass something like '{\"%s\": \"a\"}'.", meter->property));
	return refused;
}

/* ------------------------------------------------------------------------
 * The whole event
 * ------------------------------------------------------------------------
 */
const Meter *
meter_named(const char *metric)
{
	return hash_search(usage_tables()->meter_table, metric, HASH_FIND, NULL);
}

const Meter *
meter_find(const text *metric)
{
	char name[NAMEDATALEN];
	int length = VARSIZE_ANY_EXHDR(metric);

	if (length >= NAMEDATALEN)
		return NULL;
	memcpy(name, VARDATA_ANY(metric), length);
	name[length] = '\0';
	return meter_named(name);
}

static bool
same_text(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* clock_now() for somebody who has neither SPI nor the owner's identity. */
static TimestampTz
now_of(const UsageTables *tables, text *organization_id)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	Relation clocks = table_open(tables->clocks, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	if (RelationGetNumberOfBlocks(clocks) > 0)
	{
		Snapshot snapshot = RegisterSnapshot(GetTransactionSnapshot());

		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(organization_id));
		key.sk_collation = TupleDescAttr(RelationGetDescr(clocks), 0)->attcollation;
		scan = systable_beginscan(clocks, tables->clocks_index, true, snapshot, 1, &key);
		tuple = systable_getnext(scan);
		if (HeapTupleIsValid(tuple))
		{
			bool isnull;
			Datum value = heap_getattr(tuple, 2, RelationGetDescr(clocks), &isnull);

			now = DatumGetTimestampTz(value);
		}
		systable_endscan(scan);
		UnregisterSnapshot(snapshot);
	}
	table_close(clocks, AccessShareLock);
	return now;
}

TimestampTz
usage_now(text *organization_id)
{
	return now_of(usage_tables(), organization_id);
}

static TimestampTz
scope_now(RuleScope *scope, const UsageTables *tables, text *organization_id)
{
	if (scope->organization_id == NULL || !same_text(scope->organization_id, organization_id))
	{
		scope->now = now_of(tables, organization_id);
		scope->organization_id = organization_id;
	}
	return scope->now;
}

static Refusal *
unknown_metric(const text *metric)
{
	return usage_refusal(ERRCODE_JB_UNKNOWN_OBJECT,
						 psprintf("unknown metric \"%s\"", shown_text(metric)), NULL, NULL);
}

Refusal *
usage_check_metric(const UsageRow *row)
{
	Refusal *refused = usage_check_key(row);

	if (refused != NULL)
		return refused;
	if (row->metric == NULL)
		return not_given("metric");
	return meter_find(row->metric) == NULL ? unknown_metric(row->metric) : NULL;
}

Refusal *
usage_check(UsageRow *row, RuleScope *scope)
{
	const UsageTables *tables = usage_tables();
	const Meter *meter;
	TimestampTz now;
	Refusal *refused = row->unreadable != NULL ? row->unreadable : usage_check_key(row);

	if (refused != NULL)
		return refused;
	if (row->metric == NULL)
		return not_given("metric");
	refused = usage_check_quantity(row->quantity, &row->quantity);
	if (refused != NULL)
		return refused;
	now = scope_now(scope, tables, row->organization_id);
	if (!row->has_time)
		row->occurred_at = now;
	refused = check_occurred_at(row->occurred_at, now, tables);
	if (refused != NULL)
		return refused;
	meter = meter_find(row->metric);
	if (meter == NULL)
		return unknown_metric(row->metric);
	refused = check_use(meter, row);
	if (refused == NULL)
		refused = check_properties(meter, row->properties);
	if (refused == NULL)
		usage_make_id(&row->id);
	return refused;
}

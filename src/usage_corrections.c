/*-------------------------------------------------------------------------
 *
 * usage_corrections.c
 *	  void_usage() and correct_usage(): events that change what others count.
 *
 * Both write an event at the time of the one that they are about, with its
 * properties, so that it lands in the same total.  The row of that event is
 * locked meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "access/xact.h"
#include "check.h"
#include "errors.h"
#include "utils/snapmgr.h"

QUERY(
	lock_event,
	"SELECT metric, quantity, occurred_at, properties, kind, recorded_in FROM billing.usage_events "
	"WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE",
	TEXTOID, UUIDOID);
QUERY(
	corrections_of,
	"SELECT coalesce(sum(quantity), 0), coalesce(bool_or(kind = 'void'), false) FROM billing.usage_events "
	"WHERE organization_id = $1 AND metric = $2 AND occurred_at = $3 AND corrects = $4",
	TEXTOID, TEXTOID, TIMESTAMPTZOID, UUIDOID);

/* The event as it counts now. */
typedef struct Original
{
	UsageRow row;
	bool is_void;
} Original;

static Original
lock_original(FunctionCallInfo fcinfo)
{
	char *organization_id = ARG_TEXT(0);
	pg_uuid_t *id = ARG_UUID(1);
	Original found = {0};
	Numeric corrections;
	bool isnull;

	check_given("organization_id", organization_id != NULL);
	check_given("event_id", id != NULL);
	if (RUN(lock_event, arg_text(organization_id), arg_uuid(id)) == 0)
		unknown_object("usage event", uuid_text(id),
					   "billing.usage_events lists those that retention has left.");
	if (*row_text(0, 5) != 'u')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("event %s is no usage", uuid_text(id)),
						errdetail("It is of kind %s.", row_text(0, 5)),
						errhint("Name the event that it corrects.")));
	/* the totals take corrections in only after what they correct */
	if (row_int(0, 6) > usage_last_number(usage_transaction(usage_tables_bound())))
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("event %s was recorded after this transaction began", uuid_text(id)),
						errhint("Try again in a new transaction.")));
	found.row.organization_id = cstring_to_text(organization_id);
	found.row.metric = cstring_to_text(row_text(0, 1));
	found.row.quantity = DatumGetNumericCopy(rows_datum(SPI_tuptable, 0, 2, &isnull));
	found.row.occurred_at = row_time(0, 3);
	found.row.properties = row_null(0, 4) ? NULL : row_json(0, 4);
	found.row.corrects = id;
	/* whoever held the lock before has committed, which an older snapshot does not see */
	PushActiveSnapshot(GetLatestSnapshot());
	READ(corrections_of, arg_text(organization_id),
		 arg_datum(PointerGetDatum(found.row.metric), false),
		 arg_datum(TimestampTzGetDatum(found.row.occurred_at), false), arg_uuid(id));
	PopActiveSnapshot();
	corrections = DatumGetNumeric(rows_datum(SPI_tuptable, 0, 1, &isnull));
	found.row.quantity = numeric_plus(found.row.quantity, corrections);
	found.is_void = row_bool(0, 2);
	return found;
}

static void
put(const char *function, UsageRow *row, const char *kind, Numeric difference)
{
	UsageStore *store = usage_store_open(function, &row->occurred_at, 1);

	row->kind = kind;
	row->quantity = DatumGetNumeric(
		DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(difference)));
	usage_make_id(&row->id);
	usage_store_put(store, row);
	usage_store_close(store);
	CommandCounterIncrement();
}

SQL_FUNCTION(billing_void_usage)
{
	Original original;

	db_open();
	original = lock_original(fcinfo);
	if (!original.is_void)
		put("billing.void_usage()", &original.row, "void",
			numeric_minus(int64_to_numeric(0), original.row.quantity));
	db_close();
	PG_RETURN_BOOL(!original.is_void);
}

SQL_FUNCTION(billing_correct_usage)
{
	Numeric wanted = PG_ARGISNULL(2) ? NULL : PG_GETARG_NUMERIC(2);
	Original original;
	Refusal *refused;

	db_open();
	refused = usage_check_quantity(wanted, &wanted);
	if (refused != NULL)
		usage_refuse(refused, 0);
	original = lock_original(fcinfo);
	if (original.is_void)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("event %s is void", uuid_text(original.row.corrects)),
						errhint("Record the usage again.")));
	if (numeric_order(wanted, original.row.quantity) == 0)
	{
		db_close();
		PG_RETURN_NULL();
	}
	put("billing.correct_usage()", &original.row, "correction",
		numeric_minus(wanted, original.row.quantity));
	return db_close_uuid(&original.row.id);
}

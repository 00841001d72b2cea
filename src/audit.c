/*-------------------------------------------------------------------------
 *
 * audit.c
 *	  Who or what changed which object, before and after.
 *
 * A trigger on each table that is audited (sql/96_audit_triggers.sql says
 * which, and what of it is not shown) writes a row of billing.audit_log in the
 * transaction of the change.  It is in C because it runs with every row that a
 * webhook touches: an UPDATE that changed nothing worth telling costs a
 * comparison, any other one the insertion of a row, done by hand.
 *
 * Nothing of a person gets in.  Of a sealed column (bytea) the log says that
 * it changed, of a document (jsonb) and of a column that the trigger names,
 * because it holds what somebody wrote, too.  Everything is sealed with a new
 * nonce each time: whether a sealed value changed is seen by opening both.
 *
 * The log is append-only also for its owner.  The one way through the trigger
 * that guards it is open while audit_prune() runs, for the rows that it removes.
 *
 *-------------------------------------------------------------------------
 */
#include "audit.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "errors.h"
#include "executor/executor.h"
#include "json.h"
#include "keys.h"
#include "postmaster/bgworker.h"
#include "subjects.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

/* ------------------------------------------------------------------------
 * Why
 * ------------------------------------------------------------------------
 */
static const char *const cause_words[] = {
	[AUDIT_CALL] = "call",
	[AUDIT_WEBHOOK] = "webhook",
	[AUDIT_REQUEST] = "request",
	[AUDIT_WORKER] = "worker",
};

static struct
{
	AuditCause cause;
	const char *id;
} present = {AUDIT_CALL, NULL};

void
audit_caused(AuditCause cause, const char *id, void (*work)(void *context), void *context)
{
	AuditCause outer_cause = present.cause;
	const char *outer_id = present.id;

	present.cause = cause;
	present.id = id;
	PG_TRY();
	{
		work(context);
	}
	PG_FINALLY();
	{
		present.cause = outer_cause;
		present.id = outer_id;
	}
	PG_END_TRY();
}

static bool
in_worker(void)
{
	return MyBgworkerEntry != NULL &&
		   strcmp(MyBgworkerEntry->bgw_library_name, "janua_billing") == 0;
}

/* ------------------------------------------------------------------------
 * What changed
 * ------------------------------------------------------------------------
 */

/* Arguments of the trigger; what follows them are names of columns. */
enum
{
	ARGUMENT_OBJECT, /* what a row is */
	ARGUMENT_ID,     /* column with its uuid, or empty */
	ARGUMENT_KEY,    /* columns by which a person names it, with commas, or empty */
	ARGUMENT_COLUMNS /* and on: "name" is withheld, "-name" left out */
};

typedef struct Change
{
	const Trigger *trigger;
	const char *table;
	TupleDesc columns;
	TupleTableSlot *before; /* NULL: an INSERT */
	TupleTableSlot *after;  /* NULL: a DELETE */
	TupleTableSlot *row;    /* the one of them that tells which object it is */
	const pg_uuid_t *id;    /* NULL: it has no uuid */
} Change;

typedef enum Treatment
{
	SHOWN,
	SEALED,
	WITHHELD,
	LEFT_OUT
} Treatment;

/* They change because the row does, or say when it was made: "at" does that. */
static const char *const bookkeeping[] = {"created_at", "updated_at", "builtin", NULL};
/* What an inserted or deleted row says in columns of the log's own. */
static const char *const own_columns[] = {"organization_id", "livemode", NULL};

static bool
is_one_of(const char *word, const char *const *words)
{
	for (; *words != NULL; words++)
	{
		if (strcmp(word, *words) == 0)
			return true;
	}
	return false;
}

static Treatment
treatment_of(const Change *change, Form_pg_attribute column)
{
	const char *name = NameStr(column->attname);

	if (is_one_of(name, bookkeeping))
		return LEFT_OUT;
	for (int i = ARGUMENT_COLUMNS; i < change->trigger->tgnargs; i++)
	{
		const char *argument = change->trigger->tgargs[i];

		if (argument[0] == '-' && strcmp(argument + 1, name) == 0)
			return LEFT_OUT;
		if (strcmp(argument, name) == 0)
			return WITHHELD;
	}
	if (column->atttypid == BYTEAOID)
		return SEALED;
	return column->atttypid == JSONBOID ? WITHHELD : SHOWN;
}

/* The number of a column from 0, or -1. */
static int
column_index(const Change *change, const char *name)
{
	int number = SPI_fnumber(change->columns, name);

	return number > 0 ? number - 1 : -1;
}

static bool
same_value(const Change *change, int i)
{
	Form_pg_attribute column = TupleDescAttr(change->columns, i);
	Datum was = change->before->tts_values[i];
	Datum is = change->after->tts_values[i];

	if (change->before->tts_isnull[i] || change->after->tts_isnull[i])
		return change->before->tts_isnull[i] == change->after->tts_isnull[i];
	if (datum_image_eq(was, is, column->attbyval, column->attlen))
		return true;
	return column->atttypid == BYTEAOID && change->id != NULL &&
		   sealed_alike(psprintf("%s.%s", change->table, NameStr(column->attname)), change->id,
						DatumGetByteaPP(was), DatumGetByteaPP(is));
}

/* What is told of a row that comes or goes: all that it says. */
static bool
worth_telling(const Change *change, int i)
{
	const char *name = NameStr(TupleDescAttr(change->columns, i)->attname);

	return !change->row->tts_isnull[i] && !is_one_of(name, own_columns) &&
		   strcmp(name, change->trigger->tgargs[ARGUMENT_ID]) != 0;
}

/* The columns to tell of, by their index. */
static int
choose_columns(const Change *change, int *chosen)
{
	bool update = change->before != NULL && change->after != NULL;
	int count = 0;

	for (int i = 0; i < change->columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(change->columns, i);

		if (column->attisdropped || (update ? same_value(change, i) : !worth_telling(change, i)) ||
			treatment_of(change, column) == LEFT_OUT)
			continue;
		chosen[count++] = i;
	}
	return count;
}

/* ------------------------------------------------------------------------
 * As jsonb
 * ------------------------------------------------------------------------
 */
static void
add_texts(JsonBuilder *builder, const char *name, ArrayType *array)
{
	Datum *values;
	bool *nulls;
	int count;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
	json_open_array(builder, name);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			json_append_null(builder);
		else
			json_append_text(builder, TextDatumGetCString(values[i]));
	}
	json_close_array(builder);
}

/* ISO 8601 in UTC, whatever the session's time zone is. */
static void
add_time(JsonBuilder *builder, const char *name, Datum value)
{
	char text[MAXDATELEN + 1];
	int utc = 0;

	json_add_text(builder, name, JsonEncodeDateTime(text, value, TIMESTAMPTZOID, &utc));
}

static void
add_as_text(JsonBuilder *builder, const char *name, Datum value, Oid type)
{
	Oid output;
	bool varlena;

	getTypeOutputInfo(type, &output, &varlena);
	json_add_text(builder, name, OidOutputFunctionCall(output, value));
}

static void
add_shown(JsonBuilder *builder, const char *name, Datum value, Oid type)
{
	switch (type)
	{
		case BOOLOID:
			json_add_bool(builder, name, DatumGetBool(value));
			break;
		case INT2OID:
			json_add_int(builder, name, DatumGetInt16(value));
			break;
		case INT4OID:
			json_add_int(builder, name, DatumGetInt32(value));
			break;
		case INT8OID:
			json_add_int(builder, name, DatumGetInt64(value));
			break;
		case TEXTOID:
			json_add_text(builder, name, TextDatumGetCString(value));
			break;
		case UUIDOID:
			json_add_text(builder, name, uuid_text(DatumGetUUIDP(value)));
			break;
		case TIMESTAMPTZOID:
			add_time(builder, name, value);
			break;
		case TEXTARRAYOID:
			add_texts(builder, name, DatumGetArrayTypeP(value));
			break;
		default:
			add_as_text(builder, name, value, type);
			break;
	}
}

static Arg
arg_state(const Change *change, const TupleTableSlot *slot, const int *chosen, int count)
{
	JsonBuilder builder;

	if (slot == NULL)
		return arg_null();
	json_open(&builder);
	for (int n = 0; n < count; n++)
	{
		int i = chosen[n];
		Form_pg_attribute column = TupleDescAttr(change->columns, i);
		const char *name = NameStr(column->attname);
		Treatment treatment = treatment_of(change, column);

		if (slot->tts_isnull[i])
			json_add_null(&builder, name);
		else if (treatment == SHOWN)
			add_shown(&builder, name, slot->tts_values[i], column->atttypid);
		else
			json_add_text(&builder, name, treatment == SEALED ? "sealed" : "withheld");
	}
	return arg_json(json_close(&builder));
}

/* ------------------------------------------------------------------------
 * Whose it is, and who did it
 * ------------------------------------------------------------------------
 */

/* A column of the row, as it is; NULL where the table has none of this name. */
static Arg
arg_column(const Change *change, const char *name)
{
	int i = column_index(change, name);

	return i < 0 ? arg_null() : arg_datum(change->row->tts_values[i], change->row->tts_isnull[i]);
}

QUERY(customer_organization, "SELECT organization_id FROM billing.customers WHERE id = $1",
	  UUIDOID);

static Arg
arg_organization(const Change *change)
{
	MemoryContext memory = CurrentMemoryContext;
	char *organization = NULL;
	Arg customer;

	if (column_index(change, "organization_id") >= 0)
		return arg_column(change, "organization_id");
	customer = arg_column(change, "customer_id");
	if (customer.isnull)
		return arg_null();
	db_open();
	if (RUN(customer_organization, customer) > 0)
		organization = MemoryContextStrdup(memory, row_text(0, 1));
	db_close();
	return arg_text(organization);
}

/* "stripe/default": what a person calls it; a part that is null has no name. */
static Arg
arg_key(const Change *change)
{
	const char *names = change->trigger->tgargs[ARGUMENT_KEY];
	StringInfoData key;

	if (*names == '\0')
		return arg_null();
	initStringInfo(&key);
	while (*names != '\0')
	{
		size_t length = strcspn(names, ",");
		int i = column_index(change, pnstrdup(names, length));
		Oid output;
		bool varlena;

		if (i < 0)
			elog(ERROR, "the audit of %s names a column that is not there: %s", change->table,
				 names);
		if (!change->row->tts_isnull[i])
		{
			getTypeOutputInfo(TupleDescAttr(change->columns, i)->atttypid, &output, &varlena);
			if (key.len > 0)
				appendStringInfoChar(&key, '/');
			appendStringInfoString(&key, OidOutputFunctionCall(output, change->row->tts_values[i]));
		}
		names += length + (names[length] == ',' ? 1 : 0);
	}
	return arg_text(key.len > 0 ? key.data : NULL);
}

/* The worker logs in as nobody: it is the owner. */
static Arg
arg_user(void)
{
	Oid user = in_worker() ? owner_role() : GetSessionUserId();
	const char *name = GetUserNameFromId(user, true);

	/* a role that was dropped while its session goes on */
	return arg_text(name != NULL ? name : psprintf("%u", user));
}

/* The role of SET ROLE, not the owner as whom our functions run. */
static Arg
arg_role(void)
{
	if (in_worker() || GetOuterUserId() == GetSessionUserId())
		return arg_null();
	return arg_text(GetUserNameFromId(GetOuterUserId(), true));
}

/* ------------------------------------------------------------------------
 * The row
 * ------------------------------------------------------------------------
 */
/* The columns of billing.audit_log. */
enum
{
	LOG_SEQ,
	LOG_AT,
	LOG_OBJECT,
	LOG_OBJECT_ID,
	LOG_OBJECT_KEY,
	LOG_ORGANIZATION_ID,
	LOG_LIVEMODE,
	LOG_ACTION,
	LOG_BEFORE,
	LOG_AFTER,
	LOG_CAUSE,
	LOG_CAUSE_ID,
	LOG_SQL_USER,
	LOG_SQL_ROLE,
	LOG_COLUMNS
};

static Oid
relation_of_billing(const char *name)
{
	return get_relname_relid(name, get_namespace_oid("billing", false));
}

static void
fill_row(TupleTableSlot *slot, const Arg *row)
{
	if (slot->tts_tupleDescriptor->natts != LOG_COLUMNS)
		elog(ERROR, "billing.audit_log has other columns than this library knows");
	ExecClearTuple(slot);
	for (int i = 0; i < LOG_COLUMNS; i++)
	{
		slot->tts_values[i] = row[i].value;
		slot->tts_isnull[i] = row[i].isnull;
	}
	ExecStoreVirtualTuple(slot);
}

/*
 * What an INSERT would do, without starting and ending a query for each row,
 * which took longer than the row.  NOT NULL, indexes and the row triggers that
 * somebody may have put on the log are served as by an INSERT.
 */
static void
append_row(const Arg *row)
{
	Relation log = table_open(relation_of_billing("audit_log"), RowExclusiveLock);
	EState *state = CreateExecutorState();
	MemoryContext old = MemoryContextSwitchTo(state->es_query_cxt);
	ResultRelInfo *target = makeNode(ResultRelInfo);
	TupleTableSlot *slot = table_slot_create(log, &state->es_tupleTable);

	InitResultRelInfo(target, log, 0, NULL, 0);
	state->es_opened_result_relations = list_make1(target);
	state->es_output_cid = GetCurrentCommandId(true);
	fill_row(slot, row);
	AfterTriggerBeginQuery();
	ExecOpenIndices(target, false);
	ExecSimpleRelationInsert(target, state, slot);
	AfterTriggerEndQuery(state);
	ExecCloseIndices(target);
	ExecResetTupleTable(state->es_tupleTable, false);
	MemoryContextSwitchTo(old);
	FreeExecutorState(state);
	table_close(log, NoLock);
}

static void
write_change(const Change *change, const int *chosen, int count)
{
	bool duty = present.cause == AUDIT_CALL && in_worker();
	Arg row[LOG_COLUMNS] = {
		[LOG_SEQ] = arg_int(nextval_internal(relation_of_billing("audit_log_seq_seq"), false)),
		[LOG_AT] = arg_time(GetCurrentTransactionStartTimestamp()),
		[LOG_OBJECT] = arg_text(change->trigger->tgargs[ARGUMENT_OBJECT]),
		[LOG_OBJECT_ID] = arg_uuid(change->id),
		[LOG_OBJECT_KEY] = arg_key(change),
		[LOG_ORGANIZATION_ID] = arg_organization(change),
		[LOG_LIVEMODE] = arg_column(change, "livemode"),
		[LOG_ACTION] = arg_text(change->before == NULL  ? "insert"
								: change->after == NULL ? "delete"
														: "update"),
		[LOG_BEFORE] = arg_state(change, change->before, chosen, count),
		[LOG_AFTER] = arg_state(change, change->after, chosen, count),
		[LOG_CAUSE] = arg_text(cause_words[duty ? AUDIT_WORKER : present.cause]),
		[LOG_CAUSE_ID] = arg_text(present.id),
		[LOG_SQL_USER] = arg_user(),
		[LOG_SQL_ROLE] = arg_role(),
	};

	append_row(row);
}

/*
 * Administrators and superusers change rows themselves.  What somebody hung on
 * the log runs as the owner then, too, and never as a superuser.
 */
static void
write_as_owner(const Change *change, const int *chosen, int count)
{
	bool owner = GetUserId() == owner_role();
	Identity identity;

	if (!owner)
		identity = identity_take_owner();
	write_change(change, chosen, count);
	if (!owner)
		identity_give_back(identity);
}

/* ------------------------------------------------------------------------
 * The triggers
 * ------------------------------------------------------------------------
 */
static void
audit(const TriggerData *trigger)
{
	Change change = {
		.trigger = trigger->tg_trigger,
		.table = RelationGetRelationName(trigger->tg_relation),
		.columns = RelationGetDescr(trigger->tg_relation),
		.row = trigger->tg_trigslot,
	};
	int *chosen = palloc(sizeof(int) * change.columns->natts);
	int count;
	int id;

	if (!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		change.before = trigger->tg_trigslot;
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		change.after = trigger->tg_trigslot;
	else if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		change.after = change.row = trigger->tg_newslot;
	slot_getallattrs(trigger->tg_trigslot);
	slot_getallattrs(change.row);
	id = column_index(&change, change.trigger->tgargs[ARGUMENT_ID]);
	if (id >= 0 && !change.row->tts_isnull[id])
		change.id = DatumGetUUIDP(change.row->tts_values[id]);
	count = choose_columns(&change, chosen);
	if (count > 0)
		write_as_owner(&change, chosen, count);
}

/*
 * A restore brings the history of its rows along.  What pg_dump writes turns
 * row_security off before anything else; that counts only for what a superuser
 * writes himself, or every user could keep his deeds out of the log that way.
 */
static bool
restoring(void)
{
	return billing_restoring || (!row_security && superuser());
}

SQL_FUNCTION(billing_audit_row)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		trigger->tg_trigger->tgnargs < ARGUMENT_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("billing.audit_row() is the trigger of the tables that are audited")));
	if (!restoring())
		audit(trigger);
	return PointerGetDatum(NULL);
}

/* Rows from before this time may go; 0: none. */
static TimestampTz prune_before = 0;

static bool
past_retention(const TriggerData *trigger)
{
	bool isnull;
	Datum at;

	if (prune_before == 0 || !TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		return false;
	at = SPI_getbinval(trigger->tg_trigtuple, RelationGetDescr(trigger->tg_relation),
					   SPI_fnumber(RelationGetDescr(trigger->tg_relation), "at"), &isnull);
	return DatumGetTimestampTz(at) < prune_before;
}

SQL_FUNCTION(billing_keep_audit_log)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("billing.keep_audit_log() is the trigger of billing.audit_log")));
	if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !past_retention(trigger))
		ereport(ERROR, (errcode(ERRCODE_JB_STATE), errmsg("billing.audit_log is append-only"),
						errhint("The setting audit_retention says how long its rows are kept; the "
								"worker removes older ones.")));
	return PointerGetDatum(trigger->tg_trigtuple);
}

/* ------------------------------------------------------------------------
 * Retention
 * ------------------------------------------------------------------------
 */

/* The oldest rows have the lowest numbers: no index on the time is needed to find them. */
QUERY_IN_ORDER(
	prune_rows,
	"DELETE FROM billing.audit_log WHERE seq = ANY (ARRAY(SELECT o.seq FROM ("
	"SELECT l.seq, l.at FROM billing.audit_log AS l ORDER BY l.seq LIMIT $2) AS o WHERE o.at < $1))",
	TIMESTAMPTZOID, INT8OID);

void
audit_prune(int64 batch)
{
	double seconds = setting_seconds("audit_retention", 0);

	if (seconds <= 0)
		return;
	PG_TRY();
	{
		prune_before = GetCurrentTransactionStartTimestamp() -
					   (TimestampTz) (seconds * USECS_PER_SEC);
		RUN(prune_rows, arg_time(prune_before), arg_int(batch));
	}
	PG_FINALLY();
	{
		prune_before = 0;
	}
	PG_END_TRY();
}

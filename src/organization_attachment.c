/*-------------------------------------------------------------------------
 *
 * organization_attachment.c
 *	  Puts our triggers on the application's table of organisations, and takes
 *	  them off again.
 *
 * attach_organizations() runs as the caller, so that PostgreSQL itself decides
 * who may put a trigger on a table and read its rows; only what is written to
 * our own tables is done as their owner.  The triggers carry their options as
 * one argument, a jsonb object with the names of the columns: they are dumped
 * with the application's table and work in every database it is restored to.
 *
 *-------------------------------------------------------------------------
 */
#include "organizations.h"

#include "access/relation.h"
#include "catalog/catalog.h"
#include "check.h"
#include "json.h"
#include "utils/lsyscache.h"

#define INSERT_TRIGGER "janua_billing_insert"
#define UPDATE_TRIGGER "janua_billing_update"
#define DELETE_TRIGGER "janua_billing_delete"

/* Rows that a backfill reads at a time. */
#define BACKFILL_BATCH 1000

static const char *const on_delete_words[] = {"delete", "cancel", "keep", NULL};

static Jsonb *
attachment_json(const Attachment *attachment)
{
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, "id_column", attachment->id_column);
	for (int i = 0; i < MEMBER_COUNT; i++)
		json_add_text(&b, organization_members[i].option, attachment->columns[i]);
	json_add_text(&b, "default_plan", attachment->default_plan);
	json_add_text(&b, "on_delete", attachment->on_delete);
	json_add_text(&b, "provider", attachment->provider);
	json_add_text(&b, "account", attachment->account);
	return json_close(&b);
}

/* ------------------------------------------------------------------------
 * attach: checks
 * ------------------------------------------------------------------------
 */

/* What is known of the table while it is not open: triggers cannot be dropped from one that is. */
typedef struct Target
{
	Oid oid;
	char kind;
	char *schema;
	char *name;
	char *quoted; /* schema and name for a command */
} Target;

static Target
target_of(Relation table)
{
	Target target = {
		.oid = RelationGetRelid(table),
		.kind = table->rd_rel->relkind,
		.schema = get_namespace_name(RelationGetNamespace(table)),
		.name = pstrdup(RelationGetRelationName(table)),
	};

	target.quoted = quote_qualified_identifier(target.schema, target.name);
	return target;
}

static void
check_table(Relation table, const Target *target)
{
	const char *trouble = target->kind != RELKIND_RELATION &&
								  target->kind != RELKIND_PARTITIONED_TABLE
							  ? "It is not a table."
						  : table->rd_rel->relpersistence == RELPERSISTENCE_TEMP
							  ? "It is a temporary table."
						  : strcmp(target->schema, "billing") == 0 ||
								  IsCatalogNamespace(RelationGetNamespace(table))
							  ? "It does not belong to the application."
							  : NULL;

	if (trouble != NULL)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("%s cannot be a table of organizations", target->quoted),
						errdetail("%s", trouble),
						errhint("Name the table whose rows are the application's organizations.")));
}

static char *
column_list(Relation table)
{
	TupleDesc columns = RelationGetDescr(table);
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (!column->attisdropped)
			appendStringInfo(&list, "%s%s", list.len == 0 ? "" : ", ", NameStr(column->attname));
	}
	return list.data;
}

static void
check_column(Relation table, const char *argument, const char *column)
{
	if (column != NULL && SPI_fnumber(RelationGetDescr(table), column) <= 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("%s: table \"%s\" has no column \"%s\"", argument,
							   RelationGetRelationName(table), column),
						errhint("It has: %s.", column_list(table))));
}

static void
check_columns(Relation table, const Attachment *attachment)
{
	check_column(table, "id_column", attachment->id_column);
	for (int i = 0; i < MEMBER_COUNT; i++)
		check_column(table, organization_members[i].option, attachment->columns[i]);
}

QUERY(find_plan, "SELECT custom_price FROM billing.plans WHERE plan = $1 AND retired_at IS NULL",
	  TEXTOID);

/* As the owner: what would otherwise fail with the first insert. */
static void
check_terms(const Attachment *attachment)
{
	check_word("on_delete", attachment->on_delete, on_delete_words);
	if (attachment->provider != NULL || attachment->account != NULL)
		(void) account_choose(attachment->provider, attachment->account);
	if (attachment->default_plan == NULL)
		return;
	if (RUN(find_plan, arg_text(attachment->default_plan)) == 0)
		unknown_object("plan", attachment->default_plan,
					   psprintf("There are: %s.",
								hint_list("SELECT plan FROM billing.plans WHERE retired_at IS NULL "
										  "AND NOT custom_price ORDER BY sort_order, plan")));
	if (row_bool(0, 1))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("plan \"%s\" is sold at a price agreed with each customer",
							   attachment->default_plan),
						errhint("default_plan needs a plan that has a price.")));
}

/* ------------------------------------------------------------------------
 * attach and detach: triggers, as the caller
 * ------------------------------------------------------------------------
 */
QUERY(find_trigger,
	  "SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = $1 AND tgname = $2 AND NOT tgisinternal",
	  OIDOID, TEXTOID);

static bool
has_trigger(const Target *target, const char *name)
{
	return RUN(find_trigger, arg_datum(ObjectIdGetDatum(target->oid), false), arg_text(name)) > 0;
}

static void
run_ddl(const char *command)
{
	int result = SPI_execute(command, false, 0);

	if (result != SPI_OK_UTILITY)
		elog(ERROR, "could not change triggers: %s", SPI_result_code_string(result));
}

static void
create_trigger(const Target *target, const char *name, const char *event, const char *condition,
			   const char *argument)
{
	run_ddl(psprintf("CREATE TRIGGER %s AFTER %s ON %s FOR EACH ROW %s "
					 "EXECUTE FUNCTION billing.organization_changed(%s)",
					 name, event, target->quoted, condition, argument));
}

static void
append_changed(StringInfo condition, const char *column)
{
	const char *quoted = quote_identifier(column);

	appendStringInfo(condition, "%s(old.%s)::text IS DISTINCT FROM (new.%s)::text",
					 condition->len == 0 ? "WHEN (" : " OR ", quoted, quoted);
}

/*
 * An update is looked at only when one of the columns has another value:
 * UPDATE OF would miss what a BEFORE trigger of the application changes.  As
 * text, because some types have no equality.
 */
static void
create_triggers(const Target *target, const Attachment *attachment, const Jsonb *options)
{
	const char *argument = quote_literal_cstr(json_string(options));
	StringInfoData changed;

	initStringInfo(&changed);
	append_changed(&changed, attachment->id_column);
	for (int i = 0; i < MEMBER_COUNT; i++)
		if (attachment->columns[i] != NULL)
			append_changed(&changed, attachment->columns[i]);
	appendStringInfoChar(&changed, ')');

	create_trigger(target, INSERT_TRIGGER, "INSERT", "", argument);
	create_trigger(target, UPDATE_TRIGGER, "UPDATE", changed.data, argument);
	create_trigger(target, DELETE_TRIGGER, "DELETE", "", argument);
}

/* A table of this name may have been attached and dropped. */
QUERY(
	register_table,
	"INSERT INTO billing.attached_tables (table_schema, table_name, options) VALUES ($1, $2, $3) "
	"ON CONFLICT (table_schema, table_name) DO UPDATE SET options = excluded.options, attached_at = now()",
	TEXTOID, TEXTOID, JSONBOID);
QUERY(unregister_table,
	  "DELETE FROM billing.attached_tables WHERE table_schema = $1 AND table_name = $2", TEXTOID,
	  TEXTOID);

/* ------------------------------------------------------------------------
 * Backfill
 * ------------------------------------------------------------------------
 */

/* A connection to SPI of its own, so that nothing of a row outlives it. */
static bool
backfill_row(const Attachment *attachment, Rows rows, int64 index)
{
	Organization organization = {0};
	Identity identity;
	bool created;

	db_open();
	organization.id = rows_text(rows, index, 1);
	if (organization.id == NULL)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
						errmsg("a row has no value in column \"%s\"", attachment->id_column),
						errhint("Give it one, or attach without backfill.")));
	for (int i = 0; i < MEMBER_COUNT; i++)
		organization.values[i] = rows_text(rows, index, 2 + i);
	identity = identity_take_owner();
	created = organization_create(attachment, &organization, false);
	identity_give_back(identity);
	db_close();
	return created;
}

/* Rows of an inheritance child do not fire its parent's triggers; those of a partition do. */
static char *
backfill_query(const Target *target, const Attachment *attachment)
{
	StringInfoData query;

	initStringInfo(&query);
	appendStringInfo(&query, "SELECT %s", quote_identifier(attachment->id_column));
	for (int i = 0; i < MEMBER_COUNT; i++)
		appendStringInfo(&query, ", %s",
						 attachment->columns[i] == NULL ? "NULL"
														: quote_identifier(attachment->columns[i]));
	appendStringInfo(&query, " FROM %s%s", target->kind == RELKIND_RELATION ? "ONLY " : "",
					 target->quoted);
	return query.data;
}

static int64
backfill_rows(const Target *target, const Attachment *attachment)
{
	Portal cursor = SPI_cursor_open_with_args(NULL, backfill_query(target, attachment), 0, NULL,
											  NULL, NULL, false, CURSOR_OPT_NO_SCROLL);
	int64 created = 0;
	Rows batch;

	for (;;)
	{
		SPI_cursor_fetch(cursor, true, BACKFILL_BATCH);
		batch = rows_keep();
		if (rows_count(batch) == 0)
			break;
		for (int64 i = 0; i < rows_count(batch); i++)
			created += backfill_row(attachment, batch, i);
		SPI_freetuptable(batch);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(cursor);
	return created;
}

/* ------------------------------------------------------------------------
 * attach and detach
 * ------------------------------------------------------------------------
 */
static Target
check_target(Oid oid, const Attachment *attachment)
{
	Relation table = relation_open(oid, AccessShareLock);
	Target target = target_of(table);

	check_table(table, &target);
	check_columns(table, attachment);
	relation_close(table, NoLock);
	return target;
}

static int64
organizations_attach(Oid oid, const Attachment *attachment, bool backfill)
{
	Target target = check_target(oid, attachment);
	Jsonb *options = attachment_json(attachment);
	Identity identity;

	if (has_trigger(&target, INSERT_TRIGGER))
		ereport(
			ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("table %s is attached already", target.quoted),
			 errhint("To change how, call billing.detach_organizations() first; customers stay.")));
	identity = identity_take_owner();
	check_terms(attachment);
	identity_give_back(identity);

	create_triggers(&target, attachment, options);

	identity = identity_take_owner();
	RUN(register_table, arg_text(target.schema), arg_text(target.name), arg_json(options));
	identity_give_back(identity);
	return backfill ? backfill_rows(&target, attachment) : 0;
}

/* An older snapshot misses rows that were committed before the triggers were there. */
static void
check_isolation(void)
{
	if (IsolationUsesXactSnapshot())
		ereport(
			ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg(
				 "backfill does not work in a transaction of isolation REPEATABLE READ or SERIALIZABLE"),
			 errdetail("Rows of other sessions could be left out."),
			 errhint("BEGIN ISOLATION LEVEL READ COMMITTED.")));
}

#define ARG_NAME(n) (PG_ARGISNULL(n) ? NULL : NameStr(*PG_GETARG_NAME(n)))

SQL_FUNCTION(billing_attach_organizations)
{
	Attachment attachment = {
		.id_column = ARG_NAME(1),
		.columns =
			{
				[MEMBER_EMAIL] = ARG_NAME(2),
				[MEMBER_NAME] = ARG_NAME(3),
				[MEMBER_COUNTRY] = ARG_NAME(4),
				[MEMBER_PHONE] = ARG_NAME(5),
				[MEMBER_LOCALE] = ARG_NAME(6),
				[MEMBER_CURRENCY] = ARG_NAME(7),
			},
		.default_plan = ARG_TEXT(8),
		.on_delete = PG_ARGISNULL(9) ? "delete" : ARG_TEXT(9),
		.provider = ARG_TEXT(10),
		.account = ARG_TEXT(11),
	};
	bool backfill = ARG_BOOL(12, false);
	int64 created;

	check_given("target", !PG_ARGISNULL(0));
	check_given("id_column", attachment.id_column != NULL);
	if (backfill)
		check_isolation();
	db_open();
	created = organizations_attach(PG_GETARG_OID(0), &attachment, backfill);
	db_close();
	PG_RETURN_INT64(created);
}

/* Dropping a column may have taken the trigger with it that looks at it. */
static bool
drop_trigger(const Target *target, const char *name)
{
	if (!has_trigger(target, name))
		return false;
	run_ddl(psprintf("DROP TRIGGER %s ON %s", name, target->quoted));
	return true;
}

static void
organizations_detach(Oid oid)
{
	Relation table = relation_open(oid, AccessShareLock);
	Target target = target_of(table);
	Identity identity;
	int dropped = 0;

	relation_close(table, NoLock);
	dropped += drop_trigger(&target, INSERT_TRIGGER);
	dropped += drop_trigger(&target, UPDATE_TRIGGER);
	dropped += drop_trigger(&target, DELETE_TRIGGER);
	if (dropped == 0)
		unknown_object("attached table", target.quoted,
					   "billing.attached_tables lists those that are.");
	identity = identity_take_owner();
	RUN(unregister_table, arg_text(target.schema), arg_text(target.name));
	identity_give_back(identity);
}

SQL_FUNCTION(billing_detach_organizations)
{
	check_given("target", !PG_ARGISNULL(0));
	db_open();
	organizations_detach(PG_GETARG_OID(0));
	db_close();
	PG_RETURN_VOID();
}

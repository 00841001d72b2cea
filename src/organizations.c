/*-------------------------------------------------------------------------
 *
 * organizations.c
 *	  Triggers on the application's own table of organisations: its rows
 *	  become customers in the transaction that writes them.
 *
 * attach_organizations() runs as the caller, so that PostgreSQL itself decides
 * who may put a trigger on a table and read its rows; only what is written to
 * our own tables is done as their owner.  The triggers carry their options as
 * one argument, a jsonb object with the names of the columns: they are dumped
 * with the application's table and work in every database it is restored to.
 *
 * Columns are found by name whenever a trigger fires.  A column that was
 * renamed is an error, never a customer without an e-mail address.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/partition.h"
#include "check.h"
#include "commands/trigger.h"
#include "errors.h"
#include "json.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#define INSERT_TRIGGER "janua_billing_insert"
#define UPDATE_TRIGGER "janua_billing_update"
#define DELETE_TRIGGER "janua_billing_delete"

/* Rows that a backfill reads at a time. */
#define BACKFILL_BATCH 1000

static const char *const on_delete_words[] = {"delete", "cancel", "keep", NULL};

/* What a column of the table can be for a customer: the members of update_customer(). */
typedef enum Member
{
	MEMBER_EMAIL,
	MEMBER_NAME,
	MEMBER_COUNTRY,
	MEMBER_PHONE,
	MEMBER_LOCALE,
	MEMBER_CURRENCY,
	MEMBER_COUNT
} Member;

static const struct
{
	const char *member;
	const char *option;
} members[MEMBER_COUNT] = {
	[MEMBER_EMAIL] = {"email", "email_column"},
	[MEMBER_NAME] = {"name", "name_column"},
	[MEMBER_COUNTRY] = {"country", "country_column"},
	[MEMBER_PHONE] = {"phone", "phone_column"},
	[MEMBER_LOCALE] = {"locale", "locale_column"},
	[MEMBER_CURRENCY] = {"currency", "currency_column"},
};

/* How a table is attached; what was not given is NULL. */
typedef struct Attachment
{
	const char *id_column;
	const char *columns[MEMBER_COUNT];
	const char *default_plan;
	const char *on_delete;
	const char *provider;
	const char *account;
} Attachment;

/* A row of the table, as far as it concerns billing. */
typedef struct Organization
{
	const char *id;
	const char *values[MEMBER_COUNT];
} Organization;

/* What is to be done about an organisation. */
typedef struct Change
{
	const Attachment *attachment;
	const Organization *organization;
	pg_uuid_t *customer;
	const Jsonb *members; /* of an update: those that changed */
	bool in_trigger;
} Change;

static Jsonb *
attachment_json(const Attachment *attachment)
{
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, "id_column", attachment->id_column);
	for (int i = 0; i < MEMBER_COUNT; i++)
		json_add_text(&b, members[i].option, attachment->columns[i]);
	json_add_text(&b, "default_plan", attachment->default_plan);
	json_add_text(&b, "on_delete", attachment->on_delete);
	json_add_text(&b, "provider", attachment->provider);
	json_add_text(&b, "account", attachment->account);
	return json_close(&b);
}

/* The argument of a trigger.  Anybody who may use the function can have written it. */
static Attachment
attachment_parse(const char *argument)
{
	const char *reason;
	Jsonb *json = json_parse(argument, strlen(argument), &reason);
	Attachment attachment = {0};

	if (json != NULL)
		attachment.id_column = json_text(json, "id_column");
	if (attachment.id_column == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg(
				 "the argument of the trigger is not what billing.attach_organizations() writes"),
			 errhint("Drop the trigger and call billing.attach_organizations().")));
	for (int i = 0; i < MEMBER_COUNT; i++)
		attachment.columns[i] = json_text(json, members[i].option);
	attachment.default_plan = json_text(json, "default_plan");
	attachment.on_delete = json_text(json, "on_delete");
	attachment.provider = json_text(json, "provider");
	attachment.account = json_text(json, "account");
	return attachment;
}

/* ------------------------------------------------------------------------
 * What a statement of the application survives
 * ------------------------------------------------------------------------
 */

/* Billing's own configuration, of which the application knows nothing. */
static bool
is_misconfiguration(int sqlstate)
{
	return sqlstate == ERRCODE_JB_NOT_SUPPORTED || sqlstate == ERRCODE_JB_UNKNOWN_OBJECT ||
		   sqlstate == ERRCODE_JB_NOT_CONFIGURED || sqlstate == ERRCODE_JB_MODE_MIXED ||
		   sqlstate == ERRCODE_INVALID_PARAMETER_VALUE;
}

static void
warn_left_out(const Change *change, const char *left_out, const ErrorData *error)
{
	ereport(WARNING, (errcode(error->sqlerrcode),
					  errmsg("organization \"%s\" %s: %s", change->organization->id, left_out,
							 error->message),
					  error->detail == NULL ? 0 : errdetail("%s", error->detail),
					  error->hint == NULL ? 0 : errhint("%s", error->hint)));
}

/*
 * In a trigger an error of billing's configuration undoes the work only, and a
 * warning tells what was left out.  All else is raised as it was, so that a
 * card number stays hidden, and a deadlock can be retried.  Not by guarded():
 * a cancel that leaves its subtransaction open would leave the application's
 * session in an aborted one, whether it has begun a transaction or not.
 *
 * The call that attaches a table is billing's own: there every error is raised.
 */
static bool
carry_out(void (*work)(Change *change), Change *change, const char *left_out)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	if (!change->in_trigger)
	{
		work(change);
		return true;
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		work(change);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;

	if (error == NULL)
		return true;
	if (!is_misconfiguration(error->sqlerrcode))
		ReThrowError(error);
	warn_left_out(change, left_out, error);
	return false;
}

/* ------------------------------------------------------------------------
 * An organisation and its customer; as the owner
 * ------------------------------------------------------------------------
 */
QUERY(has_subscription, "SELECT FROM billing.subscriptions WHERE customer_id = $1 LIMIT 1",
	  UUIDOID);

QUERY(needs_data, "SELECT FROM billing.customers WHERE id = $1 AND needs_data IS NOT NULL",
	  UUIDOID);

static bool
data_is_missing(const pg_uuid_t *id)
{
	return RUN(needs_data, arg_uuid(id)) > 0;
}

QUERY(plan_on_offer,
	  "SELECT FROM billing.plans AS p JOIN billing.prices AS r ON r.plan_id = p.id "
	  "WHERE p.plan = $1 AND p.retired_at IS NULL AND r.is_default AND r.retired_at IS NULL "
	  "AND r.customer_id IS NULL AND r.currency = coalesce($2, "
	  "(SELECT s.value FROM billing.settings AS s WHERE s.name = 'default_currency'))",
	  TEXTOID, TEXTOID);

/*
 * A customer that its provider cannot know yet is subscribed when the row has
 * all that is wanted.  Another session may have made the customer, and
 * subscribed or deleted it, since we looked.
 */
static void
subscribe_customer(Change *change)
{
	const char *plan = change->attachment->default_plan;
	Customer *customer = customer_load(change->customer, true);

	if (customer == NULL || customer->deleted || data_is_missing(customer->id) ||
		RUN(has_subscription, arg_uuid(customer->id)) > 0)
		return;
	if (RUN(plan_on_offer, arg_text(plan), arg_text(customer->currency)) > 0)
		subscription_create_default(customer, plan);
	else
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("organization \"%s\" is not subscribed to plan \"%s\"",
						customer->organization_id, plan),
				 errdetail("The plan is retired, or has no price in the customer's currency."),
				 errhint("billing.create_price() makes one, billing.subscribe() subscribes.")));
}

static void
subscribe_to_default(Change *change)
{
	const char *plan = change->attachment->default_plan;

	if (plan != NULL)
		(void) carry_out(subscribe_customer, change,
						 psprintf("is not subscribed to plan \"%s\"", plan));
}

static void
create_customer(Change *change)
{
	const Attachment *attachment = change->attachment;
	const Organization *organization = change->organization;
	CustomerTerms terms = {
		.organization_id = organization->id,
		.email = organization->values[MEMBER_EMAIL],
		.name = organization->values[MEMBER_NAME],
		.country = organization->values[MEMBER_COUNTRY],
		.phone = organization->values[MEMBER_PHONE],
		.locale = organization->values[MEMBER_LOCALE],
		.currency = organization->values[MEMBER_CURRENCY],
		.provider = attachment->provider,
		.account = attachment->account,
		.lenient = true,
	};

	change->customer = customer_create(&terms);
}

/* Makes the customer if there is none; true when it is new. */
static bool
organization_create(const Attachment *attachment, const Organization *organization, bool in_trigger)
{
	Change change = {
		.attachment = attachment, .organization = organization, .in_trigger = in_trigger};

	if (customer_of_organization(organization->id, false) != NULL ||
		!carry_out(create_customer, &change, "has no customer"))
		return false;
	subscribe_to_default(&change);
	return true;
}

static void
update_customer(Change *change)
{
	customer_update(change->customer, change->members, true);
}

static void
organization_update(const Attachment *attachment, const Organization *before,
					const Organization *after)
{
	Change change = {.attachment = attachment, .organization = after, .in_trigger = true};
	Customer *customer;
	JsonBuilder b;
	int changes = 0;
	bool was_incomplete;

	if (strcmp(before->id, after->id) != 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_JB_STATE), errmsg("organization ids cannot change"),
			 errdetail("Column \"%s\" would change from \"%s\" to \"%s\".", attachment->id_column,
					   before->id, after->id),
			 errhint(
				 "What the organization has bought is known by its id: insert a new row, or call "
				 "billing.detach_organizations() first.")));
	/* locked: what is decided from here on is about a customer that stays */
	customer = customer_of_organization(after->id, true);
	if (customer == NULL)
	{
		(void) organization_create(attachment, after, true);
		return;
	}
	json_open(&b);
	for (int i = 0; i < MEMBER_COUNT; i++)
	{
		const char *old = before->values[i];
		const char *new = after->values[i];

		if (old == new || (old != NULL && new != NULL &&strcmp(old, new) == 0))
			continue;
		if (new == NULL)
			json_add_null(&b, members[i].member);
		else
			json_add_text(&b, members[i].member, new);
		changes++;
	}
	if (changes == 0)
		return;
	change.customer = customer->id;
	change.members = json_close(&b);
	was_incomplete = data_is_missing(customer->id);
	if (carry_out(update_customer, &change, "is not changed for billing") && was_incomplete)
		subscribe_to_default(&change);
}

static void
cancel_customer(Change *change)
{
	subscription_cancel_all(change->customer);
}

static void
delete_customer(Change *change)
{
	customer_delete(change->customer);
}

static void
organization_delete(const Attachment *attachment, const Organization *organization)
{
	Change change = {.attachment = attachment, .organization = organization, .in_trigger = true};
	Customer *customer = customer_of_organization(organization->id, true);

	if (customer == NULL || attachment->on_delete == NULL ||
		strcmp(attachment->on_delete, "keep") == 0)
		return;
	change.customer = customer->id;
	if (strcmp(attachment->on_delete, "cancel") == 0)
		(void) carry_out(cancel_customer, &change, "keeps its subscriptions");
	else
		(void) carry_out(delete_customer, &change, "stays a customer");
}

/* ------------------------------------------------------------------------
 * The trigger
 * ------------------------------------------------------------------------
 */
static int
column_number(Relation table, const char *column)
{
	int number = SPI_fnumber(RelationGetDescr(table), column);

	if (number <= 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("table \"%s\" has no column \"%s\", from which billing reads",
					RelationGetRelationName(table), column),
			 errhint("After renaming or dropping a column call billing.detach_organizations() and "
					 "billing.attach_organizations() again.")));
	return number;
}

static char *
column_text(Relation table, HeapTuple row, const char *column)
{
	return SPI_getvalue(row, RelationGetDescr(table), column_number(table, column));
}

static Organization
organization_read(const Attachment *attachment, Relation table, HeapTuple row)
{
	Organization organization = {.id = column_text(table, row, attachment->id_column)};

	if (organization.id == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("column \"%s\" of an organization must not be null", attachment->id_column),
				 errdetail("Table \"%s\" makes customers, and a customer is known by it.",
						   RelationGetRelationName(table))));
	for (int i = 0; i < MEMBER_COUNT; i++)
		if (attachment->columns[i] != NULL)
			organization.values[i] = column_text(table, row, attachment->columns[i]);
	return organization;
}

static bool
row_exists(Relation root, const char *id_column, Oid id_type, Datum id)
{
	char *query = psprintf(
		"SELECT FROM %s WHERE %s OPERATOR(pg_catalog.=) $1 LIMIT 1",
		quote_qualified_identifier(get_namespace_name(RelationGetNamespace(root)),
								   RelationGetRelationName(root)),
		quote_identifier(id_column));

	if (SPI_execute_with_args(query, 1, &id_type, &id, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for a row of \"%s\"", RelationGetRelationName(root));
	return SPI_processed > 0;
}

/*
 * A row that an UPDATE moves to another partition is deleted from its old one
 * and inserted into the new one, and so the triggers see it: its customer
 * must stay.  At the end of the statement, when they fire, the row is there
 * again.  It is looked for as the owner of the table, as foreign keys do it,
 * past the row security of that table.
 */
static bool
moved_to_another_partition(const Attachment *attachment, Relation partition, HeapTuple row)
{
	int number = column_number(partition, attachment->id_column);
	Relation root;
	Oid user;
	int security_context;
	Datum id;
	bool isnull;
	bool found;

	if (!partition->rd_rel->relispartition)
		return false;
	id = SPI_getbinval(row, RelationGetDescr(partition), number, &isnull);
	root = table_open(llast_oid(get_partition_ancestors(RelationGetRelid(partition))),
					  AccessShareLock);
	GetUserIdAndSecContext(&user, &security_context);
	SetUserIdAndSecContext(root->rd_rel->relowner,
						   security_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	found = row_exists(root, attachment->id_column,
					   SPI_gettypeid(RelationGetDescr(partition), number), id);
	SetUserIdAndSecContext(user, security_context);
	table_close(root, AccessShareLock);
	return found;
}

static void
organization_changed(const TriggerData *trigger)
{
	Attachment attachment = attachment_parse(trigger->tg_trigger->tgargs[0]);
	Relation table = trigger->tg_relation;
	Organization row = organization_read(&attachment, table, trigger->tg_trigtuple);

	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		(void) organization_create(&attachment, &row, true);
	else if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
	{
		Organization after = organization_read(&attachment, table, trigger->tg_newtuple);

		organization_update(&attachment, &row, &after);
	}
	else if (!moved_to_another_partition(&attachment, table, trigger->tg_trigtuple))
		organization_delete(&attachment, &row);
}

/* SECURITY DEFINER: whoever writes the application's table needs no rights to billing. */
SQL_FUNCTION(billing_organization_changed)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || trigger->tg_trigger->tgnargs != 1)
		ereport(
			ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg(
				 "billing.organization_changed() works only as AFTER ROW trigger with one argument"),
			 errhint("Use billing.attach_organizations().")));
	if (!billing_restoring)
	{
		db_open();
		organization_changed(trigger);
		db_close();
	}
	/* nobody looks at what an AFTER trigger returns */
	return PointerGetDatum(NULL);
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
		check_column(table, members[i].option, attachment->columns[i]);
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

/* Read by the policies of row level security only. */
static char *organization_id;

void
organizations_init(void)
{
	DefineCustomStringVariable("janua_billing.organization_id",
							   "Organization whose rows a role of level tenant sees.",
							   "Set by the application for each request.", &organization_id, "",
							   PGC_USERSET, 0, NULL, NULL, NULL);
}

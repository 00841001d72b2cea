/*-------------------------------------------------------------------------
 *
 * organizations.c
 *	  What happens when the application's own table of organisations changes:
 *	  its rows become customers in the transaction that writes them.
 *
 * How a table gets the triggers stands in organization_attachment.c.  Their one
 * argument is a jsonb object with the names of the columns.
 *
 * Columns are found by name whenever a trigger fires.  A column that was
 * renamed is an error, never a customer without an e-mail address.
 *
 *-------------------------------------------------------------------------
 */
#include "organizations.h"

#include "access/table.h"
#include "catalog/partition.h"
#include "errors.h"
#include "json.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

const MemberName organization_members[MEMBER_COUNT] = {
	[MEMBER_EMAIL] = {"email", "email_column"},
	[MEMBER_NAME] = {"name", "name_column"},
	[MEMBER_COUNTRY] = {"country", "country_column"},
	[MEMBER_PHONE] = {"phone", "phone_column"},
	[MEMBER_LOCALE] = {"locale", "locale_column"},
	[MEMBER_CURRENCY] = {"currency", "currency_column"},
};

/* What is to be done about an organisation. */
typedef struct Change
{
	const Attachment *attachment;
	const Organization *organization;
	pg_uuid_t *customer;
	const Jsonb *members; /* of an update: those that changed */
	bool in_trigger;
} Change;

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
		attachment.columns[i] = json_text(json, organization_members[i].option);
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
	  "AND r.component = 'base' AND r.effective_at <= now() "
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

bool
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
			json_add_null(&b, organization_members[i].member);
		else
			json_add_text(&b, organization_members[i].member, new);
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
	subscription_cancel_all(change->customer, true);
}

static void
delete_customer(Change *change)
{
	customer_delete(change->customer, true);
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

/*-------------------------------------------------------------------------
 *
 * overrides.c
 *	  set_override(), create_add_on(), set_add_on(): what one organisation
 *	  has beside its plans.
 *
 * Called by the application and by administrators; read by entitlements.c.
 * Time is the organisation's own (clock.c).  Whether a value fits its feature
 * is checked by triggers of the tables, so that it also holds for what is
 * written there by hand.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "entitlements.h"
#include "errors.h"
#include "json.h"
#include "mb/pg_wchar.h"

#define REASON_MAX 500

QUERY(feature_kind, "SELECT kind FROM billing.features WHERE feature = $1", TEXTOID);
QUERY(put_override,
	  "INSERT INTO billing.feature_overrides (organization_id, feature, value, until, reason) "
	  "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (organization_id, feature) "
	  "DO UPDATE SET value = excluded.value, until = excluded.until, reason = excluded.reason, "
	  "created_at = excluded.created_at",
	  TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID);
QUERY(remove_override,
	  "DELETE FROM billing.feature_overrides WHERE organization_id = $1 AND feature = $2", TEXTOID,
	  TEXTOID);

static void
check_organization(const char *organization_id)
{
	check_given("organization_id", organization_id != NULL && *organization_id != '\0');
}

static void
check_feature(const char *feature)
{
	if (RUN(feature_kind, arg_text(feature)) == 0)
		unknown_feature(feature);
}

/* The end is exclusive: one that is now would never have counted. */
static void
check_until(bool given, TimestampTz until, TimestampTz now)
{
	if (given && until <= now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("until has passed already"),
				 errdetail("It is %s, and the organization's time is %s.",
						   pstrdup(timestamptz_to_str(until)), pstrdup(timestamptz_to_str(now))),
				 errhint("It is the first moment that does not count; NULL: for good.")));
}

SQL_FUNCTION(billing_set_override)
{
	char *organization_id = ARG_TEXT(0);
	char *feature = ARG_TEXT(1);
	char *value = ARG_TEXT(2);
	Arg until = arg_datum(PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3), PG_ARGISNULL(3));
	char *reason = ARG_TEXT(4);

	check_no_card("value", value);
	check_no_card("reason", reason);
	check_organization(organization_id);
	check_given("feature", feature != NULL);
	if (reason != NULL && pg_mbstrlen(reason) > REASON_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("reason is longer than %d characters", REASON_MAX)));
	db_open();
	check_feature(feature);
	if (value == NULL)
		RUN(remove_override, arg_text(organization_id), arg_text(feature));
	else
	{
		if (*value == '\0')
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("value of feature \"%s\" is empty", feature),
							errhint("NULL removes the override.")));
		check_until(!until.isnull, DatumGetTimestampTz(until.value), clock_now(organization_id));
		RUN(put_override, arg_text(organization_id), arg_text(feature), arg_text(value), until,
			arg_text(reason));
	}
	db_close();
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * Add-ons
 * ------------------------------------------------------------------------
 */
QUERY(find_add_on, "SELECT retired_at IS NOT NULL FROM billing.add_ons WHERE add_on = $1 FOR SHARE",
	  TEXTOID);
QUERY(insert_add_on,
	  "INSERT INTO billing.add_ons (add_on, name, description) VALUES ($1, $2, $3) "
	  "ON CONFLICT DO NOTHING RETURNING add_on",
	  TEXTOID, TEXTOID, TEXTOID);
QUERY(insert_add_on_feature,
	  "INSERT INTO billing.add_on_features (add_on, feature, value) VALUES ($1, $2, $3)", TEXTOID,
	  TEXTOID, TEXTOID);
QUERY(has_add_on,
	  "SELECT FROM billing.organization_add_ons WHERE organization_id = $1 AND add_on = $2",
	  TEXTOID, TEXTOID);
/* One that was over begins anew. */
QUERY(
	put_add_on,
	"INSERT INTO billing.organization_add_ons AS h (organization_id, add_on, quantity, since, until) "
	"VALUES ($1, $2, $3, $4, $5) ON CONFLICT (organization_id, add_on) "
	"DO UPDATE SET quantity = excluded.quantity, until = excluded.until, "
	"since = CASE WHEN h.until <= excluded.since THEN excluded.since ELSE least(h.since, excluded.since) END",
	TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID);
QUERY(remove_add_on,
	  "DELETE FROM billing.organization_add_ons WHERE organization_id = $1 AND add_on = $2",
	  TEXTOID, TEXTOID);

static void
add_feature(const char *feature, const JsonbValue *value, void *add_on)
{
	char *text = json_scalar_text(value);

	check_feature(feature);
	if (text == NULL || *text == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("value of feature \"%s\" is not what a unit adds", feature),
						errhint("Pass a number, \"unlimited\" or true.")));
	RUN(insert_add_on_feature, arg_text(add_on), arg_text(feature), arg_text(text));
}

/* Raised before the table's constraint, which would not say what a code is. */
static void
check_add_on_code(const char *code)
{
	size_t length = strlen(code);
	bool fits = length > 0 && length <= 63 && strchr("_.-", code[0]) == NULL;

	for (size_t i = 0; i < length && fits; i++)
		fits = isalnum((unsigned char) code[i]) || strchr("_.-", code[i]) != NULL;
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("add_on \"%s\" is no code", code),
				 errhint("A code is 1 to 63 letters, digits, _ . and -, and begins with a "
						 "letter or digit.")));
}

SQL_FUNCTION(billing_create_add_on)
{
	char *add_on = ARG_TEXT(0);
	char *name = ARG_TEXT(1);
	Jsonb *features = ARG_JSON(2);
	char *description = ARG_TEXT(3);

	check_no_card("add_on", add_on);
	check_no_card("name", name);
	check_no_card_json("features", features);
	check_no_card("description", description);
	check_given("add_on", add_on != NULL);
	check_given("name", name != NULL && *name != '\0');
	check_given("features", features != NULL);
	check_add_on_code(add_on);
	if (!JB_ROOT_IS_OBJECT(features) || JB_ROOT_COUNT(features) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("features is not an object with members"),
						errhint("Pass what each unit gives, such as '{\"users\": 10}'.")));
	db_open();
	if (RUN(insert_add_on, arg_text(add_on), arg_text(name), arg_text(description)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("there is an add-on \"%s\" already", add_on),
				 errhint("Take another code, or change its rows in billing.add_on_features.")));
	json_visit(features, add_feature, add_on);
	db_close();
	PG_RETURN_VOID();
}

static void
check_offered(const char *organization_id, const char *add_on)
{
	bool retired;

	if (RUN(find_add_on, arg_text(add_on)) == 0)
		unknown_object("add-on", add_on,
					   psprintf("There are: %s.",
								hint_list("SELECT add_on FROM billing.add_ons ORDER BY add_on")));
	retired = row_bool(0, 1);
	if (retired && RUN(has_add_on, arg_text(organization_id), arg_text(add_on)) == 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE), errmsg("add-on \"%s\" is retired", add_on),
						errdetail("Those who have it keep it, and nobody else gets it."),
						errhint("Set retired_at in billing.add_ons to NULL to offer it again.")));
}

SQL_FUNCTION(billing_set_add_on)
{
	char *organization_id = ARG_TEXT(0);
	char *add_on = ARG_TEXT(1);
	int64 quantity = ARG_INT(2, -1);
	Arg until = arg_datum(PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3), PG_ARGISNULL(3));
	TimestampTz now;

	check_organization(organization_id);
	check_given("add_on", add_on != NULL);
	check_given("quantity", !PG_ARGISNULL(2));
	if (quantity < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("quantity is below 0"),
				 errdetail("It is " INT64_FORMAT ".", quantity), errhint("0 removes the add-on.")));
	db_open();
	check_offered(organization_id, add_on);
	now = clock_now(organization_id);
	add_on_is_set(organization_id, add_on, quantity, !until.isnull);
	if (quantity == 0)
		RUN(remove_add_on, arg_text(organization_id), arg_text(add_on));
	else
	{
		check_until(!until.isnull, DatumGetTimestampTz(until.value), now);
		RUN(put_add_on, arg_text(organization_id), arg_text(add_on), arg_int(quantity),
			arg_time(now), until);
	}
	db_close();
	PG_RETURN_VOID();
}

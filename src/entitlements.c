/*-------------------------------------------------------------------------
 *
 * entitlements.c
 *	  has_feature(), feature_limit(), feature_value(): what a plan allows.
 *
 * Called for single rows of any query of the application, on the snapshot of
 * that query.  Two small queries are asked instead of one that says it all:
 * starting a plan of fifteen nodes costs more than running two of four.
 *
 * The plans of an organisation are those of the view billing.entitlements and,
 * for every plan group without one, the group's default plan.  Of several
 * plans the best counts: true, the largest limit, the text of the plan with
 * the highest sort_order.
 *
 *-------------------------------------------------------------------------
 */
#include "entitlements.h"

#include "check.h"
#include "errors.h"
#include "utils/array.h"

QUERY(
	find_plans,
	"SELECT e.plan_id, e.plan_group, false FROM billing.entitlements AS e WHERE e.organization_id = $1 "
	"UNION ALL SELECT d.id, d.plan_group, true FROM billing.plans AS d WHERE d.is_default",
	TEXTOID);

/* No row: there is no such feature. One row per plan that lists it, one with NULL when none does. */
QUERY(find_values,
	  "SELECT f.kind, v.value FROM billing.features AS f "
	  "LEFT JOIN billing.plan_features AS v "
	  "ON v.feature = f.feature AND v.plan_id = ANY ($1) AND v.value IS NOT NULL "
	  "WHERE f.feature = $2",
	  UUIDARRAYOID, TEXTOID);
QUERY(find_first_value,
	  "SELECT v.value FROM billing.plan_features AS v JOIN billing.plans AS p ON p.id = v.plan_id "
	  "WHERE v.feature = $2 AND v.plan_id = ANY ($1) AND v.value IS NOT NULL "
	  "ORDER BY p.sort_order DESC, p.plan LIMIT 1",
	  UUIDARRAYOID, TEXTOID);

/* Is there a subscription in the group?  Of the rows of find_plans. */
static bool
group_is_subscribed(const char *group, int64 count)
{
	for (int64 i = 0; i < count; i++)
	{
		if (!row_bool(i, 3) && strcmp(row_text(i, 2), group) == 0)
			return true;
	}
	return false;
}

/* The ids of the organisation's plans, as an argument. */
static Arg
plans_of(const char *organization_id)
{
	int64 count = READ(find_plans, arg_text(organization_id));
	Datum *ids = palloc(count * sizeof(Datum));
	int found = 0;

	for (int64 i = 0; i < count; i++)
	{
		bool is_default = row_bool(i, 3);

		if (!is_default || !group_is_subscribed(row_text(i, 2), count))
			ids[found++] = UUIDPGetDatum(row_uuid(i, 1));
	}
	return arg_datum(
		PointerGetDatum(construct_array(ids, found, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)),
		false);
}

Numeric
numeric_of_text(const char *text)
{
	return DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
											   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static bool
numeric_is_greater(Numeric a, Numeric b)
{
	return DatumGetBool(DirectFunctionCall2(numeric_gt, NumericGetDatum(a), NumericGetDatum(b)));
}

static FeatureKind
kind_of_name(const char *name)
{
	switch (name[0])
	{
		case 'b':
			return FEATURE_BOOLEAN;
		case 'l':
			return FEATURE_LIMIT;
		default:
			return FEATURE_TEXT;
	}
}

/* Takes the limit over when it is the first or a larger one. */
static void
offer_limit(Entitlement *found, char *value)
{
	Numeric limit = numeric_of_text(strcmp(value, "unlimited") == 0 ? "Infinity" : value);

	if (found->value == NULL || numeric_is_greater(limit, found->limit))
	{
		found->value = value;
		found->limit = limit;
	}
}

bool
entitlement_find(const char *organization_id, const char *feature, Entitlement *found)
{
	Arg plans = plans_of(organization_id);
	int64 count = READ(find_values, plans, arg_text(feature));

	memset(found, 0, sizeof(*found));
	if (count == 0)
		return false;

	found->kind = kind_of_name(row_text(0, 1));
	if (found->kind == FEATURE_TEXT && count > 1)
	{
		READ(find_first_value, plans, arg_text(feature));
		found->value = row_text(0, 1);
		return true;
	}
	for (int64 i = 0; i < count; i++)
	{
		char *value = row_text(i, 2);

		if (value == NULL)
			continue;
		if (found->kind == FEATURE_LIMIT)
			offer_limit(found, value);
		else if (found->value == NULL || strcmp(value, "true") == 0)
			found->value = value;
	}
	if (found->kind == FEATURE_LIMIT && found->value == NULL)
		found->limit = int64_to_numeric(0);
	return true;
}

/* ------------------------------------------------------------------------
 * SQL functions
 * ------------------------------------------------------------------------
 */
static Entitlement
entitlement_of_call(const char *organization_id, const char *feature)
{
	Entitlement found;

	check_given("organization_id", organization_id != NULL);
	check_given("feature", feature != NULL);
	if (!entitlement_find(organization_id, feature, &found))
		unknown_object(
			"feature", feature,
			psprintf("There are: %s.",
					 hint_list("SELECT feature FROM billing.features ORDER BY feature")));
	return found;
}

SQL_FUNCTION(billing_has_feature)
{
	Entitlement found;
	bool has = false;

	db_open();
	found = entitlement_of_call(ARG_TEXT(0), ARG_TEXT(1));
	switch (found.kind)
	{
		case FEATURE_BOOLEAN:
			has = found.value != NULL && strcmp(found.value, "true") == 0;
			break;
		case FEATURE_LIMIT:
			has = numeric_is_greater(found.limit, int64_to_numeric(0));
			break;
		case FEATURE_TEXT:
			has = found.value != NULL;
			break;
	}
	db_close();
	PG_RETURN_BOOL(has);
}

SQL_FUNCTION(billing_feature_limit)
{
	char *feature = ARG_TEXT(1);
	Entitlement found;
	Datum limit;

	db_open();
	found = entitlement_of_call(ARG_TEXT(0), feature);
	if (found.kind != FEATURE_LIMIT)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("feature \"%s\" is no limit", feature),
						errhint("Use billing.has_feature() or billing.feature_value().")));
	limit = SPI_datumTransfer(NumericGetDatum(found.limit), false, -1);
	db_close();
	return limit;
}

SQL_FUNCTION(billing_feature_value)
{
	Entitlement found;

	db_open();
	found = entitlement_of_call(ARG_TEXT(0), ARG_TEXT(1));
	if (found.value == NULL)
	{
		db_close();
		PG_RETURN_NULL();
	}
	return db_close_text(found.value);
}

/*-------------------------------------------------------------------------
 *
 * entitlement_terms.c
 *	  What there is to say about a feature, and what comes of it: for one
 *	  organisation, or for all of them at once.
 *
 * An override is all there is to it where the organisation has one.  Else the
 * plans count, which are those of the view billing.entitlements and, for every
 * plan group without one, the group's default plan.  Of several plans the best
 * counts: true, the largest limit, the text of the plan with the highest
 * sort_order.  Add-ons add to a limit, and switch a boolean on.
 *
 * Everything is read on the active snapshot.  For one organisation two small
 * queries are asked instead of one that says it all: starting a plan of fifteen
 * nodes costs more than running two of four.
 *
 *-------------------------------------------------------------------------
 */
#include "entitlements.h"

#include "subjects.h"
#include "utils/array.h"
#include "utils/memutils.h"

QUERY(
	find_plans,
	"SELECT e.plan_id, e.plan_group, false FROM billing.entitlements AS e WHERE e.organization_id = $1 "
	"UNION ALL SELECT d.id, d.plan_group, true FROM billing.plans AS d WHERE d.is_default",
	TEXTOID);

/*
 * What there is to say of a feature: its kind (no such row: there is no such
 * feature), the override, add-ons with their quantity, plans with their rank.
 */
QUERY(find_terms,
	  "SELECT 'kind', f.kind, NULL::bigint, NULL::text, NULL::timestamptz, NULL::timestamptz "
	  "FROM billing.features AS f WHERE f.feature = $2 "
	  "UNION ALL SELECT 'override', o.value, NULL, NULL, NULL, o.until "
	  "FROM billing.feature_overrides AS o WHERE o.organization_id = $1 AND o.feature = $2 "
	  "UNION ALL SELECT 'add-on', v.value, h.quantity, NULL, h.since, h.until "
	  "FROM billing.organization_add_ons AS h "
	  "JOIN billing.add_on_features AS v ON v.add_on = h.add_on AND v.feature = $2 "
	  "WHERE h.organization_id = $1 AND v.value IS NOT NULL "
	  "UNION ALL SELECT 'plan', v.value, p.sort_order, p.plan, NULL, NULL "
	  "FROM billing.plan_features AS v JOIN billing.plans AS p ON p.id = v.plan_id "
	  "WHERE v.plan_id = ANY ($3) AND v.feature = $2 AND v.value IS NOT NULL",
	  TEXTOID, TEXTOID, UUIDARRAYOID);

typedef enum TermSource
{
	TERM_KIND,
	TERM_OVERRIDE,
	TERM_ADD_ON,
	TERM_PLAN
} TermSource;

/* A row of find_terms. */
typedef struct Term
{
	TermSource source;
	char *value;
	int64 number; /* quantity or rank */
	char *plan;
} Term;

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

/* "unlimited" or a number that is known to be one. */
static Numeric
limit_of_value(const char *value)
{
	return numeric_of_text(strcmp(value, "unlimited") == 0 ? "Infinity" : value);
}

static char *
value_of_limit(Numeric limit)
{
	if (numeric_is_inf(limit))
		return "unlimited";
	return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(limit)));
}

/* ------------------------------------------------------------------------
 * Terms
 * ------------------------------------------------------------------------
 */
static TermSource
source_of_name(const char *name)
{
	switch (name[0])
	{
		case 'k':
			return TERM_KIND;
		case 'o':
			return TERM_OVERRIDE;
		case 'a':
			return TERM_ADD_ON;
		default:
			return TERM_PLAN;
	}
}

/* The clock is asked when a term is found that has a beginning or an end. */
static bool
term_counts(Rows rows, int64 row, const char *organization_id, TimestampTz *now)
{
	bool begins = !rows_null(rows, row, 5);
	bool ends = !rows_null(rows, row, 6);

	if (!begins && !ends)
		return true;
	if (*now == 0)
		*now = clock_read(organization_id);
	return (!begins || rows_time(rows, row, 5) <= *now) &&
		   (!ends || *now < rows_time(rows, row, 6));
}

static Term *
terms_of(const char *organization_id, const char *feature, int *count)
{
	Arg plans = plans_of(organization_id);
	int64 rows = READ(find_terms, arg_text(organization_id), arg_text(feature), plans);
	Rows found = rows_keep();
	Term *terms = palloc(sizeof(Term) * Max(rows, 1));
	TimestampTz now = 0;

	*count = 0;
	for (int64 i = 0; i < rows; i++)
	{
		if (term_counts(found, i, organization_id, &now))
			terms[(*count)++] = (Term){.source = source_of_name(rows_text(found, i, 1)),
									   .value = rows_text(found, i, 2),
									   .number = rows_int(found, i, 3),
									   .plan = rows_text(found, i, 4)};
	}
	return terms;
}

static const Term *
term_from(const Term *terms, int count, TermSource source)
{
	for (int i = 0; i < count; i++)
	{
		if (terms[i].source == source)
			return &terms[i];
	}
	return NULL;
}

/* ------------------------------------------------------------------------
 * The best of it
 * ------------------------------------------------------------------------
 */
static Numeric
calculate(PGFunction operator, Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(operator, NumericGetDatum(a), NumericGetDatum(b)));
}

/* NULL stays NULL: no plan lists it, and no add-on adds to it. */
static void
find_limit(Entitlement *found, const Term *terms, int count)
{
	const Term *best = NULL;
	Numeric added = NULL;

	found->limit = int64_to_numeric(0);
	for (int i = 0; i < count; i++)
	{
		const Term *term = &terms[i];
		Numeric limit;

		if (term->source == TERM_KIND)
			continue;
		limit = limit_of_value(term->value);
		if (term->source == TERM_ADD_ON)
		{
			/* 0 times Infinity cannot be: a quantity is above 0 */
			limit = calculate(numeric_mul, limit, int64_to_numeric(term->number));
			added = added == NULL ? limit : calculate(numeric_add, added, limit);
		}
		else if (best == NULL || numeric_is_greater(limit, found->limit))
		{
			best = term;
			found->limit = limit;
		}
	}
	if (added != NULL)
	{
		found->limit = calculate(numeric_add, found->limit, added);
		found->value = value_of_limit(found->limit);
	}
	else if (best != NULL)
		found->value = best->value;
}

static void
find_boolean(Entitlement *found, const Term *terms, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (terms[i].source == TERM_KIND)
			continue;
		if (found->value == NULL || strcmp(terms[i].value, "true") == 0)
			found->value = terms[i].value;
	}
}

static void
find_text(Entitlement *found, const Term *terms, int count)
{
	const Term *best = NULL;

	for (int i = 0; i < count; i++)
	{
		const Term *term = &terms[i];

		if (term->source == TERM_PLAN &&
			(best == NULL || term->number > best->number ||
			 (term->number == best->number && strcmp(term->plan, best->plan) < 0)))
			best = term;
	}
	found->value = best == NULL ? NULL : best->value;
}

/* False: there is no such feature. */
static bool
best_of(const Term *terms, int count, Entitlement *found)
{
	const Term *kind = term_from(terms, count, TERM_KIND);
	const Term *override = term_from(terms, count, TERM_OVERRIDE);

	memset(found, 0, sizeof(*found));
	if (kind == NULL)
		return false;
	found->kind = kind_of_name(kind->value);
	if (override != NULL)
	{
		found->value = override->value;
		if (found->kind == FEATURE_LIMIT)
			found->limit = limit_of_value(override->value);
		return true;
	}
	switch (found->kind)
	{
		case FEATURE_BOOLEAN:
			find_boolean(found, terms, count);
			break;
		case FEATURE_LIMIT:
			find_limit(found, terms, count);
			break;
		case FEATURE_TEXT:
			find_text(found, terms, count);
			break;
	}
	return true;
}

bool
entitlement_find(const char *organization_id, const char *feature, Entitlement *found)
{
	int count;
	Term *terms = terms_of(organization_id, feature, &count);

	return best_of(terms, count, found);
}

/* ------------------------------------------------------------------------
 * All organisations
 * ------------------------------------------------------------------------
 */
/* The columns of find_terms, with organisation and plan group. A plan without the feature keeps the default of its group away. */
QUERY(
	find_all_terms,
	"SELECT 'plan', v.value, p.sort_order::bigint, p.plan, NULL::timestamptz, NULL::timestamptz, "
	"e.organization_id, e.plan_group "
	"FROM billing.entitlements AS e JOIN billing.plans AS p ON p.id = e.plan_id "
	"LEFT JOIN billing.plan_features AS v ON v.plan_id = e.plan_id AND v.feature = $1 "
	"UNION ALL SELECT 'override', o.value, NULL, NULL, NULL, o.until, o.organization_id, NULL "
	"FROM billing.feature_overrides AS o WHERE o.feature = $1 "
	"UNION ALL SELECT 'add-on', v.value, h.quantity, NULL, h.since, h.until, h.organization_id, NULL "
	"FROM billing.organization_add_ons AS h "
	"JOIN billing.add_on_features AS v ON v.add_on = h.add_on AND v.feature = $1 "
	"WHERE v.value IS NOT NULL "
	"LIMIT $2",
	TEXTOID, INT8OID);
QUERY(
	find_default_terms,
	"SELECT 'kind', f.kind, NULL::bigint, NULL::text, NULL::timestamptz, NULL::timestamptz, NULL::text "
	"FROM billing.features AS f WHERE f.feature = $1 "
	"UNION ALL SELECT 'plan', v.value, p.sort_order, p.plan, NULL, NULL, p.plan_group "
	"FROM billing.plans AS p "
	"JOIN billing.plan_features AS v ON v.plan_id = p.id AND v.feature = $1 AND v.value IS NOT NULL "
	"WHERE p.is_default",
	TEXTOID);

/* What rows say of one organisation; its plans without the feature have no value. */
typedef struct OwnTerm
{
	char *organization_id;
	char *plan_group; /* NULL: no plan */
	Term term;
} OwnTerm;

static int
compare_own(const void *a, const void *b)
{
	return strcmp(((const OwnTerm *) a)->organization_id, ((const OwnTerm *) b)->organization_id);
}

static Term
term_of_row(Rows rows, int64 row)
{
	return (Term){.source = source_of_name(rows_text(rows, row, 1)),
				  .value = rows_text(rows, row, 2),
				  .number = rows_int(rows, row, 3),
				  .plan = rows_text(rows, row, 4)};
}

/* Rows that do not count now are left out: an organisation of which none is left is as all others. */
static OwnTerm *
own_terms(Rows rows, int64 count, int *found)
{
	OwnTerm *own = palloc(sizeof(OwnTerm) * Max(count, 1));

	*found = 0;
	for (int64 i = 0; i < count; i++)
	{
		char *organization_id = rows_text(rows, i, 7);
		TimestampTz now = 0;

		if (term_counts(rows, i, organization_id, &now))
			own[(*found)++] = (OwnTerm){organization_id, rows_text(rows, i, 8),
										term_of_row(rows, i)};
	}
	qsort(own, *found, sizeof(OwnTerm), compare_own);
	return own;
}

static bool
has_plan_in(const OwnTerm *own, int count, const char *group)
{
	for (int i = 0; i < count; i++)
	{
		if (group != NULL && own[i].plan_group != NULL && strcmp(own[i].plan_group, group) == 0)
			return true;
	}
	return false;
}

static bool
best_of_own(const OwnTerm *own, int own_count, Rows defaults, int64 default_count,
			Entitlement *found)
{
	Term *terms = palloc(sizeof(Term) * (own_count + default_count + 1));
	int count = 0;

	for (int64 i = 0; i < default_count; i++)
	{
		if (!has_plan_in(own, own_count, rows_text(defaults, i, 7)))
			terms[count++] = term_of_row(defaults, i);
	}
	for (int i = 0; i < own_count; i++)
	{
		if (own[i].term.value != NULL)
			terms[count++] = own[i].term;
	}
	return best_of(terms, count, found);
}

bool
entitlements_of_all(const char *feature, int64 most, VisitEntitlement visit, void *context)
{
	MemoryContext outer = CurrentMemoryContext;
	MemoryContext each;
	int64 count = READ(find_all_terms, arg_text(feature), arg_int(most + 1));
	Rows rows = rows_keep();
	OwnTerm *own;
	int own_count;
	int64 default_count;
	Rows defaults;
	Entitlement found;

	if (count > most)
		return false;
	own = own_terms(rows, count, &own_count);
	default_count = READ(find_default_terms, arg_text(feature));
	defaults = rows_keep();
	each = AllocSetContextCreate(outer, "billing entitlement", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(each);
	for (int first = 0, next; first < own_count; first = next)
	{
		for (next = first + 1; next < own_count && compare_own(&own[first], &own[next]) == 0;)
			next++;
		if (best_of_own(&own[first], next - first, defaults, default_count, &found))
			visit(own[first].organization_id, &found, context);
		MemoryContextReset(each);
	}
	if (best_of_own(NULL, 0, defaults, default_count, &found))
		visit(NULL, &found, context);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(each);
	return true;
}

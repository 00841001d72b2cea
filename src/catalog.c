/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  What is sold: plans, their features, and which price is chosen.
 *
 * The SQL functions with which plans are made, and price_choose(), with which a
 * subscription finds the price of its base; prices.c makes prices, components.c
 * finds what else a plan is billed for.  Nothing here talks to a provider: a
 * plan goes there when it is first sold (catalog_sync.c).
 *
 * Terms of a price never change.  Sold is of each price the version whose time
 * has come last; an amount agreed with one customer is a price of that customer.
 *
 *-------------------------------------------------------------------------
 */
#include "prices.h"

#include <ctype.h>

#include "check.h"
#include "errors.h"
#include "json.h"

#define CODE_MAX       63
#define TRIAL_DAYS_MAX 730

#define PLAN_LIST \
	"SELECT plan FROM billing.plans WHERE retired_at IS NULL ORDER BY sort_order, plan"

/* plain: amount times quantity in each interval says all of it. */
#define PRICE_COLUMNS                                                                                                \
	"r.id, p.id, p.plan, p.plan_group, p.trial_days, r.amount, r.currency, r.interval, r.interval_count, "           \
	"r.model, r.unit_amount IS NULL AND r.model IN ('flat', 'per_unit') AND r.free_units = 0 AND r.commitment = 0, " \
	"r.customer_id IS NOT NULL"
#define PRICE_COLUMN_COUNT 12
#define PRICE_TABLES       "billing.prices AS r JOIN billing.plans AS p ON p.id = r.plan_id"

/* A version whose time has come before $n took its place. */
#define SUPERSEDED(n)                                                            \
	"EXISTS (SELECT FROM billing.prices AS n WHERE n.version_of = r.version_of " \
	"AND n.retired_at IS NULL AND n.effective_at > r.effective_at AND n.effective_at <= " n ")"

typedef struct SoldPlan
{
	pg_uuid_t *id;
	char *plan;
	bool custom_price;
} SoldPlan;

/* ------------------------------------------------------------------------
 * Checks
 * ------------------------------------------------------------------------
 */

/* The pattern of the table's constraint, so that the error says what to do. */
void
check_code(const char *argument, const char *code, bool upper_case)
{
	size_t length = strlen(code);
	bool good = length > 0 && length <= CODE_MAX && isalnum((unsigned char) code[0]);

	for (size_t i = 0; good && i < length; i++)
	{
		unsigned char c = (unsigned char) code[i];

		good = isascii(c) && (islower(c) || (i > 0 && strchr("_.-", c) != NULL) ||
							  (isdigit(c) && (i > 0 || upper_case)) || (isupper(c) && upper_case));
	}
	if (!good)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s \"%s\" cannot be used as a code", argument, code),
			 errhint(
				 "A code has up to %d characters: %sletters, digits, hyphens, dots and underscores, %s first.",
				 CODE_MAX, upper_case ? "" : "small ",
				 upper_case ? "a letter or digit" : "a letter")));
}

static void
unknown_plan(const char *plan)
{
	unknown_object("plan", plan, psprintf("There are: %s.", hint_list(PLAN_LIST)));
}

/* ------------------------------------------------------------------------
 * Features of plans
 * ------------------------------------------------------------------------
 */
QUERY(add_feature,
	  "INSERT INTO billing.features (feature, kind) "
	  "SELECT $1, $2 WHERE NOT EXISTS (SELECT FROM billing.features WHERE feature = $1) "
	  "ON CONFLICT DO NOTHING",
	  TEXTOID, TEXTOID);
QUERY(put_feature,
	  "INSERT INTO billing.plan_features (plan_id, feature, value) VALUES ($1, $2, $3) "
	  "ON CONFLICT (plan_id, feature) DO UPDATE SET value = excluded.value",
	  UUIDOID, TEXTOID, TEXTOID);
QUERY(remove_feature,
	  "UPDATE billing.plan_features SET value = NULL WHERE plan_id = $1 AND feature = $2", UUIDOID,
	  TEXTOID);
QUERY(find_feature, "SELECT FROM billing.features WHERE feature = $1", TEXTOID);

/* "10", "5.5"; "-1", too, which is then refused as a limit. */
static bool
looks_like_number(const char *value)
{
	size_t digits;

	if (*value == '-')
		value++;
	digits = strspn(value, "0123456789");
	value += digits;
	if (digits > 0 && *value == '.')
	{
		digits = strspn(value + 1, "0123456789");
		value += 1 + digits;
	}
	return digits > 0 && *value == '\0';
}

/* The kind of a feature not seen before is the one that its value shows. */
static const char *
kind_of_value(const char *value)
{
	if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0)
		return "boolean";
	if (strcmp(value, "unlimited") == 0 || looks_like_number(value))
		return "limit";
	return "text";
}

/* A feature that is misspelt is made, too; so say that one was. */
static void
add_feature_if_new(const char *feature, const char *value)
{
	const char *kind = kind_of_value(value);

	if (RUN(add_feature, arg_text(feature), arg_text(kind)) > 0)
		ereport(NOTICE,
				(errmsg("feature \"%s\" is new: a %s", feature, kind),
				 strcmp(kind, "limit") == 0 ? errdetail("A plan without it allows none.")
				 : strcmp(kind, "text") == 0
					 ? errdetail("A text limits nothing; a limit is a number, or unlimited.")
					 : errdetail("A plan without it does not have it.")));
}

static void
plan_feature_set(const pg_uuid_t *plan_id, const char *feature, const char *value)
{
	check_code("feature", feature, false);
	if (value == NULL)
	{
		if (RUN(find_feature, arg_text(feature)) == 0)
			unknown_object(
				"feature", feature,
				psprintf("There are: %s.",
						 hint_list("SELECT feature FROM billing.features ORDER BY feature")));
		RUN(remove_feature, arg_uuid(plan_id), arg_text(feature));
		return;
	}
	if (*value == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("value of feature \"%s\" is empty", feature),
						errhint("NULL takes the feature out of the plan.")));
	add_feature_if_new(feature, value);
	RUN(put_feature, arg_uuid(plan_id), arg_text(feature), arg_text(value));
}

static void
set_feature_member(const char *key, const JsonbValue *value, void *plan_id)
{
	if (value->type == jbvBinary)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("value of feature \"%s\" is an object or array", key),
						errhint("Pass true, false, a number, \"unlimited\" or a text.")));
	if (value->type != jbvNull)
		plan_feature_set(plan_id, key, json_scalar_text(value));
}

QUERY(find_plan,
	  "SELECT id, plan, custom_price, retired_at IS NOT NULL FROM billing.plans WHERE plan = $1",
	  TEXTOID);

SQL_FUNCTION(billing_set_plan_feature)
{
	char *plan = ARG_TEXT(0);
	char *feature = ARG_TEXT(1);

	check_given("plan", plan != NULL);
	check_given("feature", feature != NULL);
	db_open();
	if (RUN(find_plan, arg_text(plan)) == 0)
		unknown_plan(plan);
	plan_feature_set(row_uuid(0, 1), feature, ARG_TEXT(2));
	db_close();
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * Making plans
 * ------------------------------------------------------------------------
 */
QUERY(
	insert_plan,
	"INSERT INTO billing.plans (id, plan, name, description, plan_group, custom_price, trial_days, metadata) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce($8, '{}')) ON CONFLICT (plan) DO NOTHING",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT4OID, JSONBOID);
static void
check_plan_terms(const char *plan, const char *name, const char *plan_group, int trial_days,
				 const Jsonb *features)
{
	check_code("plan", plan, true);
	if (*name == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("name is empty")));
	if (*plan_group == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("plan_group is empty")));
	if (trial_days < 0 || trial_days > TRIAL_DAYS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("trial_days is %d", trial_days),
				 errhint("It is 0 to %d.", TRIAL_DAYS_MAX)));
	if (features != NULL && !JB_ROOT_IS_OBJECT(features))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("features is not an object"),
			 errhint(
				 "Pass something like '{\"users\": 10, \"sso\": true, \"storage\": \"unlimited\"}'.")));
}

SQL_FUNCTION(billing_create_plan)
{
	char *plan = ARG_TEXT(0);
	char *name = ARG_TEXT(1);
	bool priced = !PG_ARGISNULL(2);
	PriceTerms terms = {.plan_id = new_id(),
						.amount = ARG_INT(2, 0),
						.currency = ARG_TEXT(3),
						.interval = ARG_TEXT(4),
						.interval_count = ARG_INT4(5, 1),
						.minimum = NO_AMOUNT,
						.maximum = NO_AMOUNT};
	char *description = ARG_TEXT(6);
	Jsonb *features = ARG_JSON(7);
	char *plan_group = PG_ARGISNULL(8) ? "default" : ARG_TEXT(8);
	int trial_days = ARG_INT4(9, 0);
	Jsonb *metadata = ARG_JSON(10);
	const pg_uuid_t *id = terms.plan_id;

	/* before all else: any other error would put the statement into the log */
	check_no_card("name", name);
	check_no_card("description", description);
	check_no_card_json("metadata", metadata);
	check_given("plan", plan != NULL);
	check_given("name", name != NULL);
	check_plan_terms(plan, name, plan_group, trial_days, features);
	check_metadata(metadata);

	db_open();
	price_terms_check(&terms);
	if (RUN(insert_plan, arg_uuid(id), arg_text(plan), arg_text(name), arg_text(description),
			arg_text(plan_group), arg_bool(!priced), arg_int4(trial_days), arg_json(metadata)) == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION), errmsg("there is a plan \"%s\" already", plan),
			 errhint(
				 "Use billing.create_price() for a new price and billing.set_plan_feature() for what it entitles to.")));
	if (priced)
		(void) price_insert(&terms, true);
	if (features != NULL)
		json_visit(features, set_feature_member, (void *) id);
	return db_close_uuid(id);
}

/* ------------------------------------------------------------------------
 * Choosing a price
 * ------------------------------------------------------------------------
 */

/* PRICE_COLUMNS, from column 1 on. */
static Price *
price_read(int64 row)
{
	Price *price = palloc(sizeof(Price));

	price->id = row_uuid(row, 1);
	price->plan_id = row_uuid(row, 2);
	price->plan = row_text(row, 3);
	price->plan_group = row_text(row, 4);
	price->plan_trial_days = row_int4(row, 5);
	price->amount = row_int(row, 6);
	price->currency = row_text(row, 7);
	price->interval = row_text(row, 8);
	price->interval_count = row_int4(row, 9);
	price->model = row_text(row, 10);
	price->plain = row_bool(row, 11);
	price->agreed = row_bool(row, 12);
	return price;
}

QUERY(load_price, "SELECT " PRICE_COLUMNS " FROM " PRICE_TABLES " WHERE r.id = $1", UUIDOID);

bool
price_is_free(const Price *price)
{
	return price->plain ? price->amount == 0 : component_price_is_free(component_price(price->id));
}

/* NULL when there is none; also that of an add-on, which no subscription is made with. */
Price *
price_load(const pg_uuid_t *id)
{
	return RUN(load_price, arg_uuid(id)) == 0 ? NULL : price_read(0);
}

QUERY(customer_organization, "SELECT organization_id FROM billing.customers WHERE id = $1",
	  UUIDOID);

/* By the organisation's clock, so that a version to come can be tried out with a test clock. */
static TimestampTz
choice_moment(const PriceChoice *choice)
{
	if (choice->customer_id == NULL ||
		RUN(customer_organization, arg_uuid(choice->customer_id)) == 0)
		return GetCurrentTransactionStartTimestamp();
	return sale_moment(clock_now(row_text(0, 1)));
}

static void
plan_is_retired(const char *plan)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("plan \"%s\" is no longer sold", plan),
					errhint("Sold are: %s.", hint_list(PLAN_LIST))));
}

static SoldPlan
sold_plan(const char *code)
{
	SoldPlan plan;

	check_given("plan", code != NULL);
	if (RUN(find_plan, arg_text(code)) == 0)
		unknown_plan(code);
	if (row_bool(0, 4))
		plan_is_retired(code);
	plan.id = row_uuid(0, 1);
	plan.plan = row_text(0, 2);
	plan.custom_price = row_bool(0, 3);
	return plan;
}

QUERY(find_named_price,
	  "SELECT " PRICE_COLUMNS ", r.retired_at IS NOT NULL OR " SUPERSEDED(
		  "$3") ", p.retired_at IS NOT NULL, r.effective_at > $3, r.component "
				"FROM " PRICE_TABLES
				" WHERE r.id = $1 AND (r.customer_id IS NULL OR r.customer_id = $2)",
	  UUIDOID, UUIDOID, TIMESTAMPTZOID);

static void
price_is_not_sold(const Price *price, bool is_to_come)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					is_to_come ? errmsg("price %s is not sold yet", uuid_text(price->id))
							   : errmsg("price %s is no longer sold", uuid_text(price->id)),
					errhint("Leave price out to take the present price of the plan.")));
}

/* A price agreed with another customer is as unknown as one that never was. */
static Price *
named_price(const PriceChoice *choice)
{
	Price *price;
	char *component;

	if (RUN(find_named_price, arg_uuid(choice->price), arg_uuid(choice->customer_id),
			arg_time(choice_moment(choice))) == 0)
		unknown_object("price", uuid_text(choice->price), "billing.prices lists them.");
	price = price_read(0);
	if (row_bool(0, PRICE_COLUMN_COUNT + 1) || row_bool(0, PRICE_COLUMN_COUNT + 3))
		price_is_not_sold(price, row_bool(0, PRICE_COLUMN_COUNT + 3));
	if (row_bool(0, PRICE_COLUMN_COUNT + 2))
		plan_is_retired(price->plan);
	component = row_text(0, PRICE_COLUMN_COUNT + 4);
	if (strcmp(component, "base") != 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("price %s is not the price of a plan but of its component \"%s\"",
					uuid_text(price->id), component),
			 errhint("Leave it out: a subscription to plan \"%s\" has it beside the base price.",
					 price->plan)));
	if (choice->plan != NULL && strcmp(choice->plan, price->plan) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("price %s belongs to plan \"%s\", not to plan \"%s\"",
							   uuid_text(price->id), price->plan, choice->plan),
						errhint("Pass plan => '%s' with it.", price->plan)));
	if (choice->interval != NULL && strcmp(choice->interval, price->interval) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("price %s is per %s, not per %s", uuid_text(price->id),
							   price->interval, choice->interval),
						errhint("Leave interval out: the price has its own.")));
	return price;
}

/* The default one, or the best of an interval: the customer's own, the default, then the newest. */
QUERY(
	find_offered_price,
	"SELECT " PRICE_COLUMNS " FROM " PRICE_TABLES " "
	"WHERE r.plan_id = $1 AND r.currency = $2 AND r.component = 'base' AND r.retired_at IS NULL "
	"AND r.effective_at <= $5 AND r.version_of IS NOT NULL AND NOT " SUPERSEDED(
		"$5") " AND (r.customer_id IS NULL OR r.customer_id = $4) "
			  "AND CASE WHEN $3 IS NULL THEN r.is_default ELSE r.interval = $3 END "
			  "ORDER BY r.customer_id NULLS LAST, r.is_default DESC, r.effective_at DESC, r.created_at DESC, "
			  "r.id DESC LIMIT 1",
	UUIDOID, TEXTOID, TEXTOID, UUIDOID, TIMESTAMPTZOID);

static Price *
offered_to(const SoldPlan *plan, const char *currency, const char *interval,
		   const PriceChoice *choice)
{
	if (RUN(find_offered_price, arg_uuid(plan->id), arg_text(currency), arg_text(interval),
			arg_uuid(choice->customer_id), arg_time(choice_moment(choice))) == 0)
		return NULL;
	return price_read(0);
}

static char *
offer_hint(const SoldPlan *plan)
{
	const char *condition = psprintf(
		"FROM billing.prices WHERE plan_id = '%s' AND component = 'base' AND retired_at IS NULL "
		"AND effective_at <= now() AND customer_id IS NULL",
		uuid_text(plan->id));
	char *currencies = hint_list(psprintf("SELECT DISTINCT currency %s ORDER BY 1", condition));

	if (*currencies == '\0')
		return psprintf("Make one by billing.create_price('%s', ...).", plan->plan);
	return psprintf("It is sold in %s per %s; billing.create_price() makes other prices.",
					currencies,
					hint_list(psprintf("SELECT DISTINCT \"interval\" %s ORDER BY 1", condition)));
}

static Price *
offered_price(const SoldPlan *plan, const char *currency, const PriceChoice *choice)
{
	const char *interval = choice->interval;
	Price *price = offered_to(plan, currency, interval, choice);

	if (plan->custom_price && (price == NULL || !price->agreed))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("plan \"%s\" is sold at a price agreed with each customer", plan->plan),
				 errhint("Pass amount (minor units per interval) or price.")));
	if (price == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("plan \"%s\" has no price in %s%s%s", plan->plan, currency,
					interval == NULL ? "" : " per ", interval == NULL ? "" : interval),
			 errdetail(
				 "Where the call names no currency it is that of the customer, else the setting default_currency."),
			 errhint("%s", offer_hint(plan))));
	return price;
}

QUERY(
	find_agreed_price,
	"SELECT " PRICE_COLUMNS " FROM " PRICE_TABLES " "
	"WHERE r.plan_id = $1 AND r.customer_id = $2 AND r.currency = $3 AND r.amount = $4 "
	"AND r.interval = $5 AND r.interval_count = $6 AND r.retired_at IS NULL AND r.version_of IS NULL "
	"ORDER BY r.created_at LIMIT 1",
	UUIDOID, UUIDOID, TEXTOID, INT8OID, TEXTOID, INT4OID);

QUERY(plan_terms, "SELECT plan_group, trial_days FROM billing.plans WHERE id = $1", UUIDOID);

static Price *
imagined_price(const SoldPlan *plan, const PriceTerms *terms)
{
	Price *price = palloc0(sizeof(Price));

	price->id = price_imagine(terms);
	price->plan_id = plan->id;
	price->plan = plan->plan;
	RUN(plan_terms, arg_uuid(plan->id));
	price->plan_group = row_text(0, 1);
	price->plan_trial_days = row_int4(0, 2);
	price->amount = terms->amount;
	price->currency = pstrdup(terms->currency);
	price->interval = pstrdup(terms->interval);
	price->interval_count = terms->interval_count;
	price->model = pstrdup(terms->model);
	price->plain = true;
	price->agreed = true;
	return price;
}

/* Unless the call says it, an agreed amount is for the interval of the plan's price. */
static Price *
agreed_price(const SoldPlan *plan, const char *currency, const PriceChoice *choice)
{
	PriceTerms terms = {.plan_id = plan->id,
						.customer_id = choice->customer_id,
						.amount = choice->amount,
						.currency = currency,
						.interval = choice->interval,
						.interval_count = 1,
						.minimum = NO_AMOUNT,
						.maximum = NO_AMOUNT};
	Price *offered = terms.interval == NULL ? offered_to(plan, currency, NULL, choice) : NULL;

	if (offered != NULL)
	{
		terms.interval = offered->interval;
		terms.interval_count = offered->interval_count;
	}
	price_terms_check(&terms);

	if (RUN(find_agreed_price, arg_uuid(plan->id), arg_uuid(choice->customer_id),
			arg_text(currency), arg_int(terms.amount), arg_text(terms.interval),
			arg_int4(terms.interval_count)) > 0)
		return price_read(0);
	if (choice->preview)
		return imagined_price(plan, &terms);
	return price_load(price_insert(&terms, false));
}

QUERY(customer_currency, "SELECT currency FROM billing.customers WHERE id = $1", UUIDOID);

static char *
chosen_currency(const PriceChoice *choice)
{
	const char *currency = choice->currency;

	if (currency == NULL && choice->customer_id != NULL &&
		RUN(customer_currency, arg_uuid(choice->customer_id)) > 0)
		currency = row_text(0, 1);
	return price_currency(currency);
}

Price *
price_choose(const PriceChoice *choice)
{
	SoldPlan plan;
	char *currency;

	check_word("interval", choice->interval, price_intervals);
	if (choice->price != NULL && choice->amount != NO_AMOUNT)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("price and amount are both given"),
						errhint("Pass price for a price that is there, or amount for a new one.")));
	if (choice->price != NULL)
		return named_price(choice);

	plan = sold_plan(choice->plan);
	currency = chosen_currency(choice);
	if (choice->amount != NO_AMOUNT)
		return agreed_price(&plan, currency, choice);
	return offered_price(&plan, currency, choice);
}

/*-------------------------------------------------------------------------
 *
 * prices.c
 *	  How a price is made: its terms, its tiers, its place among its versions.
 *
 * The terms are checked argument by argument, so that the error names what is
 * wrong, and at last by the arithmetic that will rate them (price_prepare).
 * A price that is sold at once retires the version that is sold now; one with
 * a later effective_at stands beside it until its time has come.
 *
 * create_price() itself, and price_terms_check(), price_insert() and
 * price_version() for catalog.c and add_on_prices.c.
 *
 *-------------------------------------------------------------------------
 */
#include "prices.h"

#include "check.h"
#include "columns.h"
#include "errors.h"
#include "json.h"
#include "numeric_args.h"

#define INTERVAL_COUNT_MAX 52
#define DESCRIPTION_MAX    500

#define METRIC_LIST "SELECT metric FROM billing.meters ORDER BY metric"

const char *const price_intervals[] = {"day", "week", "month", "quarter", "year", "one_time", NULL};

static const char *const models[] = {"flat",    "per_unit",   "graduated", "volume",
									 "package", "percentage", NULL};
static const char *const tax_words[] = {"exclusive", "inclusive", NULL};
static const char *const existing_words[] = {"stay", "renewal", "now", NULL};

/* ------------------------------------------------------------------------
 * Checks
 * ------------------------------------------------------------------------
 */
static bool
has_model(const PriceTerms *terms, const char *model)
{
	return strcmp(terms->model, model) == 0;
}

static bool
is_tiered(const PriceTerms *terms)
{
	return has_model(terms, "graduated") || has_model(terms, "volume");
}

static void
check_not_negative(const char *argument, int64 amount)
{
	if (amount != NO_AMOUNT && amount < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s is negative", argument),
				 errdetail("%s is " INT64_FORMAT ".", argument, amount),
				 errhint("Pass minor units of the currency: 2900 is 29.00 USD; 0 is free.")));
}

static void
check_number(const char *argument, Numeric value, bool zero_allowed)
{
	MoneyFraction fraction;

	if (value == NULL)
		return;
	fraction = fraction_of_numeric(value, argument);
	if (fraction.scaled < 0 || (fraction.scaled == 0 && !zero_allowed))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s must %s", argument, zero_allowed ? "not be negative" : "be above 0"),
			 errdetail("%s is %s.", argument, numeric_normalize(value)),
			 errhint(
				 "Amounts are in minor units; a discount is a coupon: billing.create_coupon().")));
}

static void
check_interval(const PriceTerms *terms)
{
	check_word("interval", terms->interval, price_intervals);
	if (terms->interval_count < 1 || terms->interval_count > INTERVAL_COUNT_MAX ||
		(strcmp(terms->interval, "one_time") == 0 && terms->interval_count != 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("interval_count %d does not fit the interval \"%s\"", terms->interval_count,
						terms->interval),
				 errdetail("A period is that many of the interval; what is paid once has none."),
				 errhint("It is 1 to %d, and 1 for one_time.", INTERVAL_COUNT_MAX)));
}

/* An argument that the model does not use would be a price that somebody thinks he made. */
static void
refuse_beside(const PriceTerms *terms, const char *argument, bool given, const char *fits)
{
	if (given)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s does not go with model %s", argument, terms->model),
						errdetail("It would change nothing of what component \"%s\" costs.",
								  terms->component),
						errhint("It goes with model %s.", fits)));
}

static void
check_model_arguments(const PriceTerms *terms)
{
	bool units = has_model(terms, "per_unit") || has_model(terms, "package");

	refuse_beside(terms, "unit_amount", terms->unit_amount != NULL && !units,
				  "per_unit or package; that of a tier stands in tiers");
	refuse_beside(terms, "package_size",
				  terms->package_size != NULL && !has_model(terms, "package"), "package");
	refuse_beside(terms, "percentage", terms->percentage != NULL && !has_model(terms, "percentage"),
				  "percentage");
	refuse_beside(terms, "tiers", terms->tiers != NULL && !is_tiered(terms), "graduated or volume");
	refuse_beside(terms, "minimum", terms->minimum != NO_AMOUNT && !has_model(terms, "percentage"),
				  "percentage; commitment goes with every model");
	refuse_beside(terms, "maximum", terms->maximum != NO_AMOUNT && !has_model(terms, "percentage"),
				  "percentage");
	refuse_beside(terms, "amount",
				  terms->amount != NO_AMOUNT && terms->amount != 0 && !units &&
					  !has_model(terms, "flat"),
				  "flat, per_unit or package");
	refuse_beside(terms, "free_units", terms->free_units != NULL && has_model(terms, "flat"),
				  "per_unit, graduated, volume, package or percentage");

	if (terms->amount != NO_AMOUNT && terms->unit_amount != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("amount and unit_amount are both given"),
				 errdetail("They are " INT64_FORMAT " and %s.", terms->amount,
						   numeric_normalize(terms->unit_amount)),
				 errhint("Pass amount for whole minor units, unit_amount for parts of them.")));
	check_given("amount", terms->amount != NO_AMOUNT || terms->unit_amount != NULL ||
							  !(units || has_model(terms, "flat")));
	check_given("package_size", terms->package_size != NULL || !has_model(terms, "package"));
	check_given("percentage", terms->percentage != NULL || !has_model(terms, "percentage"));
	check_given("tiers", terms->tiers != NULL || !is_tiered(terms));
}

QUERY(find_meter, "SELECT FROM billing.meters WHERE metric = $1", TEXTOID);

static void
check_metric(const PriceTerms *terms)
{
	if (terms->metric == NULL)
		return;
	if (RUN(find_meter, arg_text(terms->metric)) == 0)
		unknown_object(
			"metric", terms->metric,
			psprintf("There are: %s; billing.create_meter() makes one.", hint_list(METRIC_LIST)));
	if (strcmp(terms->component, "base") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("component base cannot be metered"),
				 errdetail("Its quantity is the one of the subscription."),
				 errhint("Give the plan a base price, 0 if it has none, and pass the metered one "
						 "with component => '%s'.",
						 terms->metric)));
	if (strcmp(terms->interval, "one_time") == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("what is metered cannot be paid once"),
						errdetail("The usage of metric \"%s\" is billed after each period.",
								  terms->metric),
						errhint("Pass the interval of the plan's base price.")));
}

static void
check_description(const char *description)
{
	if (description != NULL && (*description == '\0' || strlen(description) > DESCRIPTION_MAX))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("description is empty or longer than %d bytes", DESCRIPTION_MAX),
						errdetail("It has %zu.", strlen(description)),
						errhint("Leave it out: then the line says plan and component.")));
}

static void
check_effective_at(TimestampTz at)
{
	if (at == 0)
		return;
	if (TIMESTAMP_NOT_FINITE(at) || at < GetCurrentTransactionStartTimestamp())
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("effective_at is %s", TIMESTAMP_NOT_FINITE(at) ? "no moment" : "in the past"),
			 errdetail("It is %s, and it is %s now.", pstrdup(timestamptz_to_str(at)),
					   pstrdup(timestamptz_to_str(GetCurrentTransactionStartTimestamp()))),
			 errhint("Leave it out for a price that is sold at once.")));
}

/* ------------------------------------------------------------------------
 * Tiers
 * ------------------------------------------------------------------------
 */
typedef struct GivenTier
{
	const Jsonb *json; /* NULL: no object or array */
	int number;        /* from 0 on */
} GivenTier;

static void
bad_tier(const GivenTier *tier, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("tier %d %s", tier->number + 1, problem),
			 tier->json == NULL ? 0 : errdetail("It is %s.", json_string(tier->json)),
			 errhint("Pass something like '[{\"up_to\": 100, \"unit_amount\": 2}, "
					 "{\"unit_amount\": 1.5, \"flat_amount\": 500}]': bounds are inclusive and "
					 "ascend, the last tier has none; amounts are minor units.")));
}

static void
check_tier_member(const char *key, const JsonbValue *value, void *tier)
{
	if (strcmp(key, "up_to") != 0 && strcmp(key, "unit_amount") != 0 &&
		strcmp(key, "flat_amount") != 0)
		bad_tier(tier, psprintf("has an unknown member \"%s\"", key));
	if (value->type != jbvNumeric && value->type != jbvString && value->type != jbvNull)
		bad_tier(tier, psprintf("has a member \"%s\" that is no number", key));
}

/* 0 when it is absent or null. */
static MoneyFraction
tier_number(const GivenTier *tier, const char *member)
{
	MoneyFraction fraction = {0};
	char *text = json_text(tier->json, member);

	if (text == NULL)
		return fraction;
	if (money_fraction_parse(text, strlen(text), &fraction) != MONEY_OK)
		bad_tier(tier,
				 psprintf("has a member \"%s\" that is no number with at most 12 decimals: %s",
						  member, text));
	if (fraction.scaled < 0)
		bad_tier(tier, psprintf("has a negative %s", member));
	return fraction;
}

static PriceTier
tier_read(const GivenTier *tier)
{
	PriceTier read = {0};

	if (tier->json == NULL || !JB_ROOT_IS_OBJECT(tier->json))
		bad_tier(tier, "is not an object");
	json_visit(tier->json, check_tier_member, unconstify(GivenTier *, tier));
	read.up_to = tier_number(tier, "up_to");
	read.unbounded = json_text(tier->json, "up_to") == NULL;
	read.unit_price = tier_number(tier, "unit_amount");
	if (json_text(tier->json, "flat_amount") != NULL &&
		!json_whole(tier->json, "flat_amount", &read.flat_fee))
		bad_tier(tier, "has a flat_amount that is not in whole minor units");
	if (read.flat_fee < 0)
		bad_tier(tier, "has a negative flat_amount");
	return read;
}

/* What the table will hold, in the form in which it is rated. */
static void
tiers_of(const PriceTerms *terms, RatedPrice *rated)
{
	if (terms->tiers == NULL)
		return;
	rated->tier_count = JB_ROOT_IS_ARRAY(terms->tiers) && !JB_ROOT_IS_SCALAR(terms->tiers)
							? json_length(terms->tiers, "")
							: 0;
	if (rated->tier_count == 0 || rated->tier_count > RATING_MAX_TIERS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("tiers is not an array of 1 to %d tiers", RATING_MAX_TIERS),
						errdetail("It has %d.", rated->tier_count),
						errhint("Pass something like '[{\"up_to\": 100, \"unit_amount\": 2}, "
								"{\"unit_amount\": 1.5}]'.")));
	rated->tiers = palloc0(sizeof(PriceTier) * (Size) rated->tier_count);
	for (int i = 0; i < rated->tier_count; i++)
	{
		bool last = i == rated->tier_count - 1;
		const GivenTier tier = {json_part(terms->tiers, psprintf("%d", i)), i};

		rated->tiers[i] = tier_read(&tier);
		if (rated->tiers[i].unbounded != last)
			bad_tier(&tier, last ? "is the last one and has an up_to" : "has no up_to");
		if (!last &&
			rated->tiers[i].up_to.scaled <= (i == 0 ? 0 : rated->tiers[i - 1].up_to.scaled))
			bad_tier(&tier, "does not end above the one before it");
	}
}

static MoneyFraction
fraction_or_zero(Numeric value, const char *what)
{
	return value == NULL ? (MoneyFraction){0} : fraction_of_numeric(value, what);
}

static PriceModel
model_of(const PriceTerms *terms)
{
	for (int i = 0; models[i] != NULL; i++)
		if (has_model(terms, models[i]))
			return (PriceModel) (PRICE_FLAT + i);
	elog(ERROR, "price model \"%s\" is not known", terms->model);
}

static RatedPrice
rated_terms(const PriceTerms *terms)
{
	int64 amount = terms->amount == NO_AMOUNT ? 0 : terms->amount;
	RatedPrice rated = {.model = model_of(terms),
						.flat_fee = amount,
						.unit_price = terms->unit_amount == NULL
										  ? money_fraction_from_int(amount)
										  : fraction_of_numeric(terms->unit_amount, "unit_amount"),
						.package_size = fraction_or_zero(terms->package_size, "package_size"),
						.percent = fraction_or_zero(terms->percentage, "percentage"),
						.free_units = fraction_or_zero(terms->free_units, "free_units"),
						.has_minimum = terms->minimum != NO_AMOUNT,
						.minimum = terms->minimum == NO_AMOUNT ? 0 : terms->minimum,
						.has_maximum = terms->maximum != NO_AMOUNT,
						.maximum = terms->maximum == NO_AMOUNT ? 0 : terms->maximum,
						.commitment = terms->commitment};

	tiers_of(terms, &rated);
	return rated;
}

static void
check_rated(const PriceTerms *terms)
{
	RatedPrice rated = rated_terms(terms);
	RatingStatus status = price_prepare(&rated);

	if (status != RATING_OK)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the price of component \"%s\" cannot be calculated with",
							   terms->component),
						errdetail("%s", rating_reason(status)),
						errhint("docs/arithmetic.md says what each model needs.")));
}

char *
price_currency(const char *currency)
{
	char *checked = check_currency(currency != NULL ? currency : setting_text("default_currency"));

	if (checked == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_NOT_NULL_VIOLATION), errmsg("currency must be given"),
			 errdetail("The setting default_currency has no value."),
			 errhint(
				 "Pass currency, such as 'USD', or set the default one: UPDATE billing.settings SET value = 'USD' WHERE name = 'default_currency';")));
	return checked;
}

void
price_terms_check(PriceTerms *terms)
{
	if (terms->interval == NULL)
		terms->interval = "month";
	if (terms->component == NULL)
		terms->component = "base";
	if (terms->model == NULL)
		terms->model = "per_unit";
	if (terms->existing == NULL)
		terms->existing = "stay";
	check_word("model", terms->model, models);
	check_word("tax_behavior", terms->tax_behavior, tax_words);
	check_word("existing", terms->existing, existing_words);
	check_interval(terms);
	check_not_negative("amount", terms->amount);
	check_not_negative("minimum", terms->minimum);
	check_not_negative("maximum", terms->maximum);
	check_not_negative("commitment", terms->commitment);
	check_number("unit_amount", terms->unit_amount, true);
	check_number("package_size", terms->package_size, false);
	check_number("percentage", terms->percentage, true);
	check_number("free_units", terms->free_units, true);
	check_description(terms->description);
	check_effective_at(terms->effective_at);
	check_model_arguments(terms);
	check_metric(terms);
	terms->currency = price_currency(terms->currency);
	check_rated(terms);
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------
 */
QUERY(
	insert_price,
	"INSERT INTO billing.prices (id, plan_id, add_on, customer_id, currency, amount, \"interval\", interval_count, "
	"component, model, metric, unit_amount, package_size, percentage, free_units, minimum, maximum, commitment, "
	"tax_behavior, description, existing, effective_at, is_default) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, coalesce($15, 0), $16, $17, $18, $19, $20, "
	"$21, coalesce($22, now()), $23)",
	UUIDOID, UUIDOID, TEXTOID, UUIDOID, TEXTOID, INT8OID, TEXTOID, INT4OID, TEXTOID, TEXTOID,
	TEXTOID, NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID, INT8OID, INT8OID, INT8OID, TEXTOID,
	TEXTOID, TEXTOID, TIMESTAMPTZOID, BOOLOID);
QUERY(insert_tiers,
	  "INSERT INTO billing.price_tiers (price_id, position, up_to, unit_amount, flat_amount) "
	  "SELECT $1, t.position, t.up_to, t.unit_amount, t.flat_amount "
	  "FROM unnest($2, $3, $4) WITH ORDINALITY AS t (up_to, unit_amount, flat_amount, position) "
	  "ORDER BY t.position",
	  UUIDOID, NUMERICARRAYOID, NUMERICARRAYOID, INT8ARRAYOID);

static Arg
arg_numeric(Numeric value)
{
	return arg_datum(NumericGetDatum(value), value == NULL);
}

static Arg
arg_amount(int64 amount)
{
	return amount == NO_AMOUNT ? arg_null() : arg_int(amount);
}

static void
insert_tiers_of(const pg_uuid_t *id, const PriceTerms *terms)
{
	RatedPrice rated = {0};
	Column up_to;
	Column unit_amount;
	Column flat_amount;

	if (terms->tiers == NULL)
		return;
	tiers_of(terms, &rated);
	up_to = COLUMN_NUMBER((uint32) rated.tier_count);
	unit_amount = COLUMN_NUMBER((uint32) rated.tier_count);
	flat_amount = COLUMN_INT((uint32) rated.tier_count);
	for (int i = 0; i < rated.tier_count; i++)
	{
		const PriceTier *tier = &rated.tiers[i];

		column_pointer(&up_to, (uint32) i,
					   tier->unbounded ? NULL : numeric_of_fraction(tier->up_to));
		column_pointer(&unit_amount, (uint32) i, numeric_of_fraction(tier->unit_price));
		column_int(&flat_amount, i, tier->flat_fee);
	}
	RUN(insert_tiers, arg_uuid(id), column_arg(&up_to, rated.tier_count),
		column_arg(&unit_amount, rated.tier_count), column_arg(&flat_amount, rated.tier_count));
}

pg_uuid_t *
price_insert(const PriceTerms *terms, bool is_default)
{
	pg_uuid_t *id = new_id();

	RUN(insert_price, arg_uuid(id), arg_uuid(terms->plan_id), arg_text(terms->add_on),
		arg_uuid(terms->customer_id), arg_text(terms->currency),
		arg_int(terms->amount == NO_AMOUNT ? 0 : terms->amount), arg_text(terms->interval),
		arg_int4(terms->interval_count), arg_text(terms->component), arg_text(terms->model),
		arg_text(terms->metric), arg_numeric(terms->unit_amount), arg_numeric(terms->package_size),
		arg_numeric(terms->percentage), arg_numeric(terms->free_units), arg_amount(terms->minimum),
		arg_amount(terms->maximum), arg_int(terms->commitment), arg_text(terms->tax_behavior),
		arg_text(terms->description), arg_text(terms->existing), arg_time(terms->effective_at),
		arg_bool(is_default));
	insert_tiers_of(id, terms);
	component_prices_forget();
	return id;
}

pg_uuid_t *
price_imagine(const PriceTerms *terms)
{
	ComponentPrice price = {
		.id = new_id(),
		.plan_id = unconstify(pg_uuid_t *, terms->plan_id),
		.customer_id = unconstify(pg_uuid_t *, terms->customer_id),
		.component = unconstify(char *, terms->component),
		.currency = unconstify(char *, terms->currency),
		.interval = unconstify(char *, terms->interval),
		.interval_count = terms->interval_count,
		.tax_inclusive = tax_is_inclusive_by_default(),
		.rated = rated_terms(terms),
	};

	component_price_remember(&price);
	return price.id;
}

/* ------------------------------------------------------------------------
 * Versions
 * ------------------------------------------------------------------------
 */

/* $1 to $7: prices.version_of by its parts. */
#define SAME_VERSIONS                                                                 \
	"r.version_of IS NOT NULL AND r.plan_id IS NOT DISTINCT FROM $1 "                 \
	"AND r.add_on IS NOT DISTINCT FROM $2 AND r.customer_id IS NOT DISTINCT FROM $3 " \
	"AND r.component = $4 AND r.currency = $5 AND r.\"interval\" = $6 AND r.interval_count = $7"
#define VERSION_TYPES UUIDOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT4OID
#define VERSION_ARGS(terms)                                                                     \
	arg_uuid((terms)->plan_id), arg_text((terms)->add_on), arg_uuid((terms)->customer_id),      \
		arg_text((terms)->component), arg_text((terms)->currency), arg_text((terms)->interval), \
		arg_int4((terms)->interval_count)

QUERY(find_version,
	  "SELECT r.id FROM billing.prices AS r WHERE " SAME_VERSIONS
	  " AND r.retired_at IS NULL AND r.effective_at = $8",
	  VERSION_TYPES, TIMESTAMPTZOID);
QUERY(any_version,
	  "SELECT bool_or(r.is_default AND r.retired_at IS NULL) FROM billing.prices AS r "
	  "WHERE " SAME_VERSIONS " HAVING count(*) > 0",
	  VERSION_TYPES);
QUERY(
	any_default,
	"SELECT FROM billing.prices AS r WHERE r.plan_id = $1 AND r.currency = $2 AND r.component = 'base' "
	"AND r.customer_id IS NULL AND r.is_default AND r.retired_at IS NULL",
	UUIDOID, TEXTOID);
QUERY(retire_version,
	  "UPDATE billing.prices AS r SET retired_at = now() WHERE " SAME_VERSIONS
	  " AND r.retired_at IS NULL AND r.effective_at <= now()",
	  VERSION_TYPES);

/* Which list price of a currency is the default is a matter of its line of versions: with those to come. */
QUERY(make_default,
	  "UPDATE billing.prices AS r SET is_default = (" SAME_VERSIONS " AND r.retired_at IS NULL) "
	  "WHERE r.plan_id = $1 AND r.currency = $5 AND r.component = 'base' AND r.customer_id IS NULL "
	  "AND r.is_default <> (" SAME_VERSIONS " AND r.retired_at IS NULL)",
	  VERSION_TYPES);

/*
 * A subscription that moves at once is looked at then.  What one is made with
 * while this is not committed yet moves at its renewal.
 */
#define WITH_A_VERSION                                                        \
	"IN (SELECT i.subscription_id FROM billing.subscription_items AS i "      \
	"JOIN billing.prices AS r ON r.id = i.price_id WHERE " SAME_VERSIONS ") " \
	"AND s.managed_by = 'local' AND s.status NOT IN ('canceled', 'incomplete_expired')"
QUERY(
	lock_customers,
	"SELECT FROM billing.customers AS c WHERE c.id IN (SELECT s.customer_id FROM billing.subscriptions AS s "
	"WHERE s.id " WITH_A_VERSION ") ORDER BY c.id FOR NO KEY UPDATE",
	VERSION_TYPES);
QUERY(wake_subscriptions,
	  "UPDATE billing.subscriptions AS s SET next_due_at = least(s.next_due_at, $8) "
	  "WHERE s.id " WITH_A_VERSION,
	  VERSION_TYPES, TIMESTAMPTZOID);

static void
refuse_same_moment(const PriceTerms *terms)
{
	pg_uuid_t *present;

	if (terms->effective_at == 0 ||
		RUN(find_version, VERSION_ARGS(terms), arg_time(terms->effective_at)) == 0)
		return;
	present = row_uuid(0, 1);
	ereport(
		ERROR,
		(errcode(ERRCODE_CHECK_VIOLATION),
		 errmsg("component \"%s\" has a version from that moment on already", terms->component),
		 errdetail("It is price %s.", uuid_text(present)),
		 errhint("Choose another effective_at, or take that one back: UPDATE billing.prices SET "
				 "retired_at = now() WHERE id = '%s';",
				 uuid_text(present))));
}

/* What a customer with a price of the list has is no version of his own price. */
static void
check_existing(const PriceTerms *terms, bool has_versions)
{
	if (terms->customer_id != NULL && !has_versions && strcmp(terms->existing, "stay") != 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_JB_NOT_SUPPORTED),
			 errmsg("existing => '%s' needs an earlier price of the customer", terms->existing),
			 errdetail("The first price of a customer takes the place of none."),
			 errhint("Leave existing out, and use billing.update_subscription(price => ...).")));
}

static bool
is_list_base(const PriceTerms *terms)
{
	return terms->plan_id != NULL && terms->customer_id == NULL &&
		   strcmp(terms->component, "base") == 0;
}

/* One to come is the default where its line of versions is, or where the currency has none. */
static bool
comes_as_default(const PriceTerms *terms, bool has_versions, bool line_is_default)
{
	if (!is_list_base(terms) || terms->effective_at == 0)
		return true;
	if (has_versions)
		return line_is_default;
	return RUN(any_default, arg_uuid(terms->plan_id), arg_text(terms->currency)) == 0;
}

static void
wake(const PriceTerms *terms)
{
	if (strcmp(terms->existing, "now") != 0)
		return;
	/* customers first, as everywhere: the engine has hundreds of them in a batch, but waits for none */
	RUN(lock_customers, VERSION_ARGS(terms));
	RUN(wake_subscriptions, VERSION_ARGS(terms),
		arg_time(terms->effective_at != 0 ? terms->effective_at
										  : GetCurrentTransactionStartTimestamp()));
}

/* Made without a price, a plan is sold at one that is agreed with each customer, until it has one of the list. */
QUERY(sell_by_list, "UPDATE billing.plans SET custom_price = false WHERE id = $1 AND custom_price",
	  UUIDOID);

pg_uuid_t *
price_version(const PriceTerms *terms)
{
	bool has_versions = RUN(any_version, VERSION_ARGS(terms)) > 0;
	bool line_is_default = has_versions && row_bool(0, 1);
	bool is_default = comes_as_default(terms, has_versions, line_is_default);
	pg_uuid_t *id;

	refuse_same_moment(terms);
	check_existing(terms, has_versions);
	if (terms->effective_at == 0)
	{
		RUN(retire_version, VERSION_ARGS(terms));
		if (is_list_base(terms))
			RUN(make_default, VERSION_ARGS(terms));
	}
	if (is_list_base(terms))
		RUN(sell_by_list, arg_uuid(terms->plan_id));
	id = price_insert(terms, is_default);
	wake(terms);
	return id;
}

/* ------------------------------------------------------------------------
 * create_price()
 * ------------------------------------------------------------------------
 */
QUERY(lock_plan,
	  "SELECT id, retired_at IS NOT NULL FROM billing.plans WHERE plan = $1 FOR NO KEY UPDATE",
	  TEXTOID);

static pg_uuid_t *
plan_for_price(const char *plan)
{
	if (RUN(lock_plan, arg_text(plan)) == 0)
		unknown_object("plan", plan,
					   psprintf("There are: %s.",
								hint_list("SELECT plan FROM billing.plans WHERE retired_at IS NULL "
										  "ORDER BY sort_order, plan")));
	if (row_bool(0, 2))
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE), errmsg("plan \"%s\" is retired", plan),
				 errdetail("Nobody can subscribe to it any more, so that it gets no price."),
				 errhint("UPDATE billing.plans SET retired_at = NULL WHERE plan = '%s';", plan)));
	return row_uuid(0, 1);
}

static void
check_customer_of_price(const pg_uuid_t *customer_id)
{
	Customer *customer;

	if (customer_id == NULL)
		return;
	customer = customer_load(customer_id, false);
	if (customer == NULL)
		unknown_object("customer", uuid_text(customer_id), "billing.create_customer() makes one.");
	if (customer->deleted)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("customer \"%s\" is deleted", uuid_text(customer_id)),
						errdetail("Nobody is billed any more by a price that was agreed with it."),
						errhint("Leave customer_id out for a price of the list.")));
}

/* Add-ons have prices of their own, which belong to no plan. */
static void
check_component(const char *component)
{
	if (component == NULL)
		return;
	check_code("component", component, false);
	if (strncmp(component, "addon.", 6) == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("component \"%s\" would be an add-on", component),
			 errdetail(
				 "Names that begin with addon. are of add-ons, whose prices belong to no plan."),
			 errhint("Use billing.set_add_on_price('%s', ...).", component + strlen("addon."))));
}

SQL_FUNCTION(billing_create_price)
{
	char *plan = ARG_TEXT(0);
	PriceTerms terms = {.amount = ARG_INT(1, NO_AMOUNT),
						.currency = ARG_TEXT(2),
						.interval = ARG_TEXT(3),
						.interval_count = ARG_INT4(4, 1),
						.component = ARG_TEXT(5),
						.model = ARG_TEXT(6),
						.unit_amount = ARG_NUMERIC(7),
						.tiers = ARG_JSON(8),
						.package_size = ARG_NUMERIC(9),
						.percentage = ARG_NUMERIC(10),
						.minimum = ARG_INT(11, NO_AMOUNT),
						.maximum = ARG_INT(12, NO_AMOUNT),
						.free_units = ARG_NUMERIC(13),
						.commitment = ARG_INT(14, 0),
						.metric = ARG_TEXT(15),
						.tax_behavior = ARG_TEXT(16),
						.description = ARG_TEXT(17),
						.customer_id = ARG_UUID(18),
						.effective_at = ARG_TIME(19),
						.existing = ARG_TEXT(20)};

	/* before all else: any other error would put the statement into the log */
	check_no_card("description", terms.description);
	check_given("plan", plan != NULL);
	check_component(terms.component);
	db_open();
	price_terms_check(&terms);
	check_customer_of_price(terms.customer_id);
	terms.plan_id = plan_for_price(plan);
	return db_close_uuid(price_version(&terms));
}

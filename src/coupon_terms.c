/*-------------------------------------------------------------------------
 *
 * coupon_terms.c
 *	  What coupons there are and who gets one: create_coupon(),
 *	  apply_coupon(), remove_coupon().
 *
 * Only for what we bill ourselves; on a subscription that a provider bills,
 * coupons are the provider's (subscribe(), update_subscription()).  What they
 * take off is computed in coupons.c and allocation.c.
 *
 * How often a coupon was applied is counted in its row, which is locked from
 * then on until the end of the transaction: the limit is exact.
 *
 *-------------------------------------------------------------------------
 */
#include "coupons.h"

#include "check.h"
#include "errors.h"
#include "subscriptions.h"

/* ---- a row ---- */

static List *
array_list(Rows rows, int64 row, int column, Oid type)
{
	bool isnull;
	Datum value = rows_datum(rows, row, column, &isnull);
	Datum *elements;
	bool *nulls;
	int count;
	List *list = NIL;

	if (isnull)
		return NIL;
	if (type == TEXTOID)
		deconstruct_array(DatumGetArrayTypePCopy(value), TEXTOID, -1, false, TYPALIGN_INT,
						  &elements, &nulls, &count);
	else
		deconstruct_array(DatumGetArrayTypePCopy(value), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
						  &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
		list = lappend(list, type == TEXTOID ? (void *) TextDatumGetCString(elements[i])
											 : (void *) DatumGetUUIDP(elements[i]));
	return list;
}

StoredCoupon *
coupon_from_row(Rows rows, int64 row, int column)
{
	StoredCoupon *coupon = palloc0(sizeof(StoredCoupon));
	char *percent = rows_text(rows, row, column + 3);

	coupon->id = rows_uuid(rows, row, column);
	coupon->code = rows_text(rows, row, column + 1);
	coupon->name = rows_text(rows, row, column + 2);
	coupon->terms.kind = percent != NULL ? COUPON_PERCENT : COUPON_AMOUNT;
	if (percent != NULL &&
		money_fraction_parse(percent, strlen(percent), &coupon->terms.percent) != MONEY_OK)
		elog(ERROR, "coupon of %s percent", percent);
	coupon->terms.amount = rows_int(rows, row, column + 4);
	coupon->currency = rows_text(rows, row, column + 5);
	coupon->once = strcmp(rows_text(rows, row, column + 6), "once") == 0;
	coupon->months = rows_int4(rows, row, column + 7);
	coupon->plan_ids = array_list(rows, row, column + 8, UUIDOID);
	coupon->components = array_list(rows, row, column + 9, TEXTOID);
	return coupon;
}

bool
coupon_is_for_plan(const StoredCoupon *coupon, const pg_uuid_t *plan_id)
{
	ListCell *cell;

	if (coupon->plan_ids == NIL)
		return true;
	foreach (cell, coupon->plan_ids)
	{
		if (uuid_equal(lfirst(cell), plan_id))
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------------
 * Who gets one
 * ------------------------------------------------------------------------
 */
QUERY(find_coupon,
	  "SELECT " COUPON_COLUMNS ", c.retired_at IS NOT NULL, c.redeem_by, c.first_time, "
	  "c.max_redemptions, c.redemptions >= c.max_redemptions "
	  "FROM billing.coupons AS c WHERE c.coupon = $1",
	  TEXTOID);
QUERY(count_redemption,
	  "UPDATE billing.coupons SET redemptions = redemptions + 1 WHERE id = $1 "
	  "AND retired_at IS NULL AND (max_redemptions IS NULL OR redemptions < max_redemptions)",
	  UUIDOID);
QUERY(
	has_paid,
	"SELECT FROM billing.invoices WHERE customer_id = $1 AND status = 'paid' AND total > 0 LIMIT 1",
	UUIDOID);
/* The same day of the month, by the zone of who has it. */
QUERY(end_of_months, "SELECT ($1 AT TIME ZONE $3 + make_interval(months => $2)) AT TIME ZONE $3",
	  TIMESTAMPTZOID, INT4OID, TEXTOID);

static _Noreturn void
refuse_state(const char *code, const char *why, const char *detail, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_JB_STATE), errmsg("coupon \"%s\" %s", code, why),
					errdetail("%s", detail), errhint("%s", hint)));
}

void
coupon_refuse_twice(const char *code)
{
	refuse_state(code, "is applied already", "It counts once at a time.",
				 "billing.list_coupons() shows what is applied, billing.remove_coupon() ends it.");
}

static _Noreturn void
refuse_used_up(const char *code)
{
	refuse_state(code, "was applied as often as it can be",
				 "redemptions has reached max_redemptions in billing.coupons.",
				 "Raise max_redemptions, or make another coupon by billing.create_coupon().");
}

static _Noreturn void
refuse_target(const StoredCoupon *coupon, const char *why, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("coupon \"%s\" %s", coupon->code, why), errdetail("%s", detail),
					errhint("Choose one that fits; billing.coupons lists them.")));
}

static StoredCoupon *
find_by_code(const char *code)
{
	if (RUN(find_coupon, arg_text(code)) == 0)
		unknown_object("coupon", code,
					   "billing.coupons lists them; billing.create_coupon() makes one.");
	return coupon_from_row(SPI_tuptable, 0, 1);
}

/* Of find_coupon's row. */
static void
check_offer(const StoredCoupon *coupon, const CouponTarget *target)
{
	TimestampTz redeem_by = row_time(0, 12);
	bool first_time = row_bool(0, 13);

	if (row_bool(0, 11))
		refuse_state(coupon->code, "is retired", "Who has it keeps it.",
					 "UPDATE billing.coupons SET retired_at = NULL offers it again.");
	if (redeem_by != 0 && target->at >= redeem_by)
		refuse_state(coupon->code, "has expired",
					 psprintf("It could be applied until %s, and it is %s.",
							  pstrdup(timestamptz_to_str(redeem_by)),
							  pstrdup(timestamptz_to_str(target->at))),
					 "Set redeem_by in billing.coupons to a later time, or choose another coupon.");
	if (row_bool(0, 15))
		refuse_used_up(coupon->code);
	if (first_time && RUN(has_paid, arg_uuid(target->customer_id)) > 0)
		refuse_state(coupon->code, "is for organizations that have not paid an invoice yet",
					 psprintf("Customer \"%s\" has.", uuid_text(target->customer_id)),
					 "Choose one without first_time.");
}

static void
check_target(const StoredCoupon *coupon, const CouponTarget *target)
{
	if (coupon->currency != NULL && target->currency != NULL &&
		strcmp(coupon->currency, target->currency) != 0)
		refuse_target(coupon, "is of another currency",
					  psprintf("It takes off %s, and what is billed is %s.", coupon->currency,
							   target->currency));
	if (target->subscription_id != NULL && !coupon_is_for_plan(coupon, target->plan_id))
		refuse_target(coupon, "is for other plans",
					  psprintf("It does not count for plan %s.", uuid_text(target->plan_id)));
}

static const char *
zone_of(const CouponTarget *target)
{
	const char *zone = target->zone != NULL ? target->zone : setting_text("timezone");

	return zone != NULL ? zone : "UTC";
}

AppliedCoupon *
coupon_redeem(const char *code, const CouponTarget *target, bool preview)
{
	AppliedCoupon *applied = palloc0(sizeof(AppliedCoupon));
	const StoredCoupon *coupon = find_by_code(code);
	TimestampTz from = Max(target->at, target->starts_at);

	check_offer(coupon, target);
	check_target(coupon, target);
	applied->id = new_id();
	applied->coupon = coupon;
	applied->subscription_id = target->subscription_id;
	applied->applied_at = from;
	if (coupon->months > 0)
	{
		RUN(end_of_months, arg_time(from), arg_int4(coupon->months), arg_text(zone_of(target)));
		applied->ends_at = row_time(0, 1);
	}
	/* somebody else may have had the last one since it was read */
	if (!preview && RUN(count_redemption, arg_uuid(coupon->id)) == 0)
		refuse_used_up(code);
	return applied;
}

/* ---- by a call ---- */

QUERY(find_subscription,
	  "SELECT s.customer_id, s.plan_id, s.currency, s.zone, s.managed_by, s.status, "
	  "(SELECT h.due_at FROM billing.scheduled_changes AS h WHERE h.subscription_id = s.id "
	  "AND h.kind = 'start' AND h.state = 'pending') "
	  "FROM billing.subscriptions AS s WHERE s.id = $1",
	  UUIDOID);
QUERY(customer_zone, "SELECT timezone FROM billing.customers WHERE id = $1", UUIDOID);

static void
refuse_managed(const pg_uuid_t *subscription_id, const char *managed_by, const char *status)
{
	if (strcmp(managed_by, "local") != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("subscription \"%s\" is billed by its provider",
							   uuid_text(subscription_id)),
						errdetail("Coupons of such a subscription are the provider's."),
						errhint("Pass the provider's coupon to billing.update_subscription().")));
	if (subscription_ended(status))
		ereport(
			ERROR,
			(errcode(ERRCODE_JB_STATE),
			 errmsg("subscription \"%s\" is %s", uuid_text(subscription_id), status),
			 errdetail("It has no more invoices that a coupon could count for."),
			 errhint(
				 "Pass organization_id for a coupon of all that the organization is billed for, or coupon to billing.subscribe().")));
}

static CouponTarget
subscription_target(const pg_uuid_t *subscription_id)
{
	CouponTarget target = {.subscription_id = subscription_id};

	if (RUN(find_subscription, arg_uuid(subscription_id)) == 0)
		unknown_object("subscription", uuid_text(subscription_id),
					   "billing.list_subscriptions() lists those of an organization.");
	target.customer_id = row_uuid(0, 1);
	target.organization_id = customer_load(target.customer_id, true)->organization_id;
	(void) RUN(find_subscription, arg_uuid(subscription_id));
	target.plan_id = row_uuid(0, 2);
	target.currency = row_text(0, 3);
	target.zone = row_text(0, 4);
	target.starts_at = row_time(0, 7);
	refuse_managed(subscription_id, row_text(0, 5), row_text(0, 6));
	return target;
}

static CouponTarget
organization_target(const char *organization_id)
{
	CouponTarget target = {0};
	Customer *customer = customer_of_organization(organization_id, true);

	if (customer == NULL)
		unknown_object("customer of organization", organization_id,
					   "Use billing.create_customer() first.");
	target.customer_id = customer->id;
	target.organization_id = customer->organization_id;
	target.currency = customer->currency;
	(void) RUN(customer_zone, arg_uuid(customer->id));
	target.zone = row_text(0, 1);
	return target;
}

/* The customer is locked from here on. */
static CouponTarget
target_of_call(const char *code, const pg_uuid_t *subscription_id, const char *organization_id)
{
	CouponTarget target;

	check_given("coupon", code != NULL);
	if ((subscription_id == NULL) == (organization_id == NULL))
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
						errmsg("subscription_id or organization_id must be given, and not both"),
						errdetail("%s given.", subscription_id == NULL ? "None is" : "Both are"),
						errhint("A coupon of an organization counts for all of its invoices.")));
	target = subscription_id != NULL ? subscription_target(subscription_id)
									 : organization_target(organization_id);
	target.at = engine_now(target.organization_id);
	return target;
}

QUERY(find_applied,
	  "SELECT FROM billing.applied_coupons WHERE coupon_id = $1 AND customer_id = $2 "
	  "AND subscription_id IS NOT DISTINCT FROM $3 AND removed_at IS NULL AND NOT used_up "
	  "AND (ends_at IS NULL OR ends_at > $4)",
	  UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID);
QUERY(insert_applied,
	  "INSERT INTO billing.applied_coupons (id, coupon_id, customer_id, organization_id, "
	  "subscription_id, applied_at, ends_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
	  UUIDOID, UUIDOID, UUIDOID, TEXTOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

SQL_FUNCTION(billing_apply_coupon)
{
	char *code = ARG_TEXT(0);
	pg_uuid_t *subscription_id = ARG_UUID(1);
	char *organization_id = ARG_TEXT(2);
	CouponTarget target;
	AppliedCoupon *applied;

	check_no_card("coupon", code);
	db_open();
	target = target_of_call(code, subscription_id, organization_id);
	applied = coupon_redeem(code, &target, false);
	if (RUN(find_applied, arg_uuid(applied->coupon->id), arg_uuid(target.customer_id),
			arg_uuid(subscription_id), arg_time(target.at)) > 0)
		coupon_refuse_twice(code);
	RUN(insert_applied, arg_uuid(applied->id), arg_uuid(applied->coupon->id),
		arg_uuid(target.customer_id), arg_text(target.organization_id), arg_uuid(subscription_id),
		arg_time(applied->applied_at), arg_time(applied->ends_at));
	event_record("coupon.applied", "applied_coupon", applied->id, target.organization_id, NULL,
				 "active");
	return db_close_uuid(applied->id);
}

QUERY(remove_applied,
	  "UPDATE billing.applied_coupons AS a SET removed_at = $4 FROM billing.coupons AS c "
	  "WHERE c.id = a.coupon_id AND c.coupon = $1 AND a.customer_id = $2 "
	  "AND a.subscription_id IS NOT DISTINCT FROM $3 AND a.removed_at IS NULL AND NOT a.used_up "
	  "AND (a.ends_at IS NULL OR a.ends_at > $4) RETURNING a.id",
	  TEXTOID, UUIDOID, UUIDOID, TIMESTAMPTZOID);

SQL_FUNCTION(billing_remove_coupon)
{
	char *code = ARG_TEXT(0);
	pg_uuid_t *subscription_id = ARG_UUID(1);
	char *organization_id = ARG_TEXT(2);
	CouponTarget target;

	check_no_card("coupon", code);
	db_open();
	target = target_of_call(code, subscription_id, organization_id);
	(void) find_by_code(code);
	if (RUN(remove_applied, arg_text(code), arg_uuid(target.customer_id), arg_uuid(subscription_id),
			arg_time(target.at)) == 0)
		unknown_object("applied coupon", code, "billing.list_coupons() shows what is applied.");
	event_record("coupon.removed", "applied_coupon", row_uuid(0, 1), target.organization_id,
				 "active", "removed");
	db_close();
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * create_coupon()
 * ------------------------------------------------------------------------
 */
QUERY(unknown_plan,
	  "SELECT u.plan FROM unnest($1::text[]) AS u (plan) "
	  "WHERE NOT EXISTS (SELECT FROM billing.plans AS p WHERE p.plan = u.plan) LIMIT 1",
	  TEXTARRAYOID);
QUERY(percent_fits, "SELECT $1 > 0 AND $1 <= 100 AND scale(trim_scale($1)) <= 6", NUMERICOID);
QUERY(
	insert_coupon,
	"INSERT INTO billing.coupons (id, coupon, name, percent, amount, currency, duration, months, "
	"redeem_by, max_redemptions, plan_ids, components, first_time, metadata) "
	"VALUES ($1, $2, coalesce($3, $2), $4, $5, $6, $7, $8, $9, $10, "
	"(SELECT array_agg(DISTINCT p.id) FROM billing.plans AS p WHERE p.plan = ANY ($11)), $12, $13, "
	"coalesce($14, '{}')) ON CONFLICT (coupon) DO NOTHING",
	UUIDOID, TEXTOID, TEXTOID, NUMERICOID, INT8OID, TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID,
	INT8OID, TEXTARRAYOID, TEXTARRAYOID, BOOLOID, JSONBOID);

typedef struct CouponTerms
{
	char *code;
	char *name;
	Arg percent;
	Arg amount;
	char *currency;
	char *duration;
	Arg months;
	TimestampTz redeem_by;
	Arg max_redemptions;
	Arg plans;
	Arg components;
	bool first_time;
	Jsonb *metadata;
} CouponTerms;

static _Noreturn void
bad_terms(const char *what, const char *detail, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", what),
					errdetail("%s", detail), errhint("%s", hint)));
}

static char *
number_text(Datum numeric)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out, numeric));
}

static bool
is_code(const char *code)
{
	size_t length = code == NULL ? 0 : strlen(code);
	bool fits = length > 0 && length <= 63 && strchr("_.-", code[0]) == NULL;

	for (size_t i = 0; i < length && fits; i++)
		fits = isalnum((unsigned char) code[i]) || strchr("_.-", code[i]) != NULL;
	return fits;
}

static void
check_value(CouponTerms *terms)
{
	if (terms->percent.isnull && terms->amount.isnull)
		check_given("percent or amount", false);
	if (!terms->percent.isnull && !terms->amount.isnull)
		bad_terms("percent and amount are both given",
				  psprintf("They are %s and " INT64_FORMAT ".", number_text(terms->percent.value),
						   DatumGetInt64(terms->amount.value)),
				  "A coupon takes off one of them.");
	if (!terms->percent.isnull)
	{
		RUN(percent_fits, terms->percent);
		if (!row_bool(0, 1))
			bad_terms("percent is not above 0 and at most 100, with at most 6 decimals",
					  psprintf("It is %s.", number_text(terms->percent.value)),
					  "12.5 takes off an eighth.");
		if (terms->currency != NULL)
			bad_terms("a percentage has no currency", psprintf("Currency is %s.", terms->currency),
					  "Pass currency beside amount only.");
		return;
	}
	if (DatumGetInt64(terms->amount.value) <= 0)
		bad_terms("amount is not above 0",
				  psprintf("It is " INT64_FORMAT ".", DatumGetInt64(terms->amount.value)),
				  "It is in minor units of the currency.");
	check_given("currency", terms->currency != NULL);
	terms->currency = check_currency(terms->currency);
}

static void
check_duration(const CouponTerms *terms)
{
	static const char *const durations[] = {"once", "repeating", "forever", NULL};
	bool repeating;

	check_given("duration", terms->duration != NULL);
	check_word("duration", terms->duration, durations);
	repeating = terms->duration != NULL && strcmp(terms->duration, "repeating") == 0;
	if (repeating)
		check_given("months", !terms->months.isnull);
	if (repeating != !terms->months.isnull)
		bad_terms("months is for duration repeating only",
				  psprintf("duration is %s, months %d.", terms->duration,
						   DatumGetInt32(terms->months.value)),
				  "Leave one of the two out.");
	if (repeating &&
		(DatumGetInt32(terms->months.value) < 1 || DatumGetInt32(terms->months.value) > 120))
		bad_terms("months is not from 1 to 120",
				  psprintf("It is %d.", DatumGetInt32(terms->months.value)),
				  "Use duration forever for one without an end.");
}

static void
check_list(const char *argument, const Arg *list)
{
	ArrayType *array;

	if (list->isnull)
		return;
	array = DatumGetArrayTypeP(list->value);
	if (ARR_NDIM(array) != 1 || array_contains_nulls(array))
		bad_terms(psprintf("%s is empty or holds NULL", argument),
				  psprintf("It has %d elements.", ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array))),
				  "NULL is all of them.");
}

static void
check_terms(CouponTerms *terms)
{
	size_t bytes = terms->code == NULL ? 0 : strlen(terms->code);

	check_given("coupon", terms->code != NULL);
	if (!is_code(terms->code))
		bad_terms(
			psprintf("coupon \"%s\" is no code", terms->code), psprintf("It has %zu bytes.", bytes),
			"A code is 1 to 63 letters, digits, _ . and -, and begins with a letter or digit.");
	if (terms->name != NULL && *terms->name == '\0')
		bad_terms("name is empty", "Invoices say it in the line of the discount.",
				  "NULL takes the code.");
	check_value(terms);
	check_duration(terms);
	if (!terms->max_redemptions.isnull && DatumGetInt64(terms->max_redemptions.value) < 1)
		bad_terms("max_redemptions is below 1",
				  psprintf("It is " INT64_FORMAT ".", DatumGetInt64(terms->max_redemptions.value)),
				  "NULL is without a limit.");
	check_list("plans", &terms->plans);
	check_list("components", &terms->components);
	check_metadata(terms->metadata);
	if (RUN(unknown_plan, terms->plans) > 0)
		unknown_object("plan", row_text(0, 1), "billing.plans lists them.");
}

#define ARG_ARG(n) arg_datum(PG_ARGISNULL(n) ? (Datum) 0 : PG_GETARG_DATUM(n), PG_ARGISNULL(n))

SQL_FUNCTION(billing_create_coupon)
{
	CouponTerms terms = {
		.code = ARG_TEXT(0),
		.percent = ARG_ARG(1),
		.amount = ARG_ARG(2),
		.currency = ARG_TEXT(3),
		.duration = ARG_TEXT(4),
		.months = ARG_ARG(5),
		.name = ARG_TEXT(6),
		.redeem_by = ARG_TIME(7),
		.max_redemptions = ARG_ARG(8),
		.plans = ARG_ARG(9),
		.components = ARG_ARG(10),
		.first_time = ARG_BOOL(11, false),
		.metadata = ARG_JSON(12),
	};
	pg_uuid_t *id = new_id();

	check_no_card("coupon", terms.code);
	check_no_card("name", terms.name);
	check_no_card_json("metadata", terms.metadata);
	db_open();
	check_terms(&terms);
	if (RUN(insert_coupon, arg_uuid(id), arg_text(terms.code), arg_text(terms.name), terms.percent,
			terms.amount, arg_text(terms.currency), arg_text(terms.duration), terms.months,
			arg_time(terms.redeem_by), terms.max_redemptions, terms.plans, terms.components,
			arg_bool(terms.first_time), arg_json(terms.metadata)) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION),
						errmsg("there is a coupon \"%s\" already", terms.code),
						errdetail("Codes are unique, those of retired coupons, too."),
						errhint("What a coupon takes off never changes: take another code.")));
	return db_close_uuid(id);
}

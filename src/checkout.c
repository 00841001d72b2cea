/*-------------------------------------------------------------------------
 *
 * checkout.c
 *	  Checkout sessions and payment links: what callers ask for.
 *
 * A session is a page of the provider on which one customer pays; a link is
 * one that anybody may pay.  What a session makes has its row here before the
 * buyer sees the page: the payment, or the subscription, whose id goes along
 * as our reference, so that the webhook that brings it finds it.
 *
 * Success and cancel URLs hold our id where the caller wrote
 * {CHECKOUT_SESSION_ID}, for every provider.
 *
 *-------------------------------------------------------------------------
 */
#include "checkout.h"

#include "utils/fmgroids.h"

#include "check.h"
#include "errors.h"
#include "routing.h"
#include "subscriptions.h"
#include "wire_amounts.h"

#define ID_PLACE       "{CHECKOUT_SESSION_ID}"
#define BELOW_ZERO     (-2) /* one that the call names and nobody can mean */
#define TRIAL_DAYS_MAX 730
#define MONTHS_MAX     60

static const char *const modes[] = {"payment", "subscription", "setup", NULL};

/* ---- checks ---- */

/* Before anything else: every other error puts the statement into the log. */
void
checkout_check_no_card(const CheckoutTerms *terms)
{
	check_no_card("name", terms->name);
	check_no_card_json("line_items", terms->line_items);
	check_no_card("coupon", terms->coupon);
	check_no_card_json("tax_lines", terms->tax_lines);
	check_no_card_json("metadata", terms->metadata);
}

static void
check_methods(ArrayType *methods)
{
	Datum *words;
	bool *nulls;
	int count;

	if (methods == NULL)
		return;
	deconstruct_array(methods, TEXTOID, -1, false, TYPALIGN_INT, &words, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		const char *word = nulls[i] ? "" : TextDatumGetCString(words[i]);

		check_no_card("methods", word);
		if (*word == '\0' || strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(word))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("\"%s\" in methods is not a payment method", word),
							errhint("Methods are words such as card, oxxo, spei, us_bank_account "
									"or sepa_debit.")));
	}
}

static void
check_installments(ArrayType *installments)
{
	Datum *months;
	bool *nulls;
	int count;

	if (installments == NULL)
		return;
	deconstruct_array(installments, INT4OID, 4, true, TYPALIGN_INT, &months, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i] || DatumGetInt32(months[i]) < 2 || DatumGetInt32(months[i]) > MONTHS_MAX)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("element %d of installments is not a number of months", i),
							errhint("Pass the terms to offer, such as '{3,6,9,12}'.")));
	}
}

static void
check_tax_lines(const Jsonb *tax_lines)
{
	if (tax_lines == NULL)
		return;
	if (!JB_ROOT_IS_ARRAY(tax_lines) || JB_ROOT_IS_SCALAR(tax_lines))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("tax_lines is not an array"),
				 errhint("Pass something like '[{\"description\": \"IVA\", \"amount\": 400}]'.")));
	for (int i = 0; i < json_length(tax_lines, ""); i++)
	{
		int64 amount;

		if (json_text(tax_lines, psprintf("%d.description", i)) == NULL ||
			!json_whole(tax_lines, psprintf("%d.amount", i), &amount) || amount < 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("element %d of tax_lines has no description or no amount", i),
							errhint("amount is in minor units and not negative.")));
	}
}

static void
check_expiry(const char *organization_id, TimestampTz expires_at)
{
	TimestampTz now = organization_id == NULL ? GetCurrentTransactionStartTimestamp()
											  : clock_now(organization_id);

	if (expires_at != 0 && (TIMESTAMP_NOT_FINITE(expires_at) || expires_at <= now))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("expires_at is not a time to come"),
						errdetail("expires_at is %s.", timestamptz_to_str(expires_at)),
						errhint("Leave it out for the provider's default.")));
}

void
checkout_check_terms(const CheckoutTerms *terms)
{
	check_word("mode", terms->mode, modes);
	check_url("success_url", terms->success_url);
	check_url("cancel_url", terms->cancel_url);
	check_methods(terms->methods);
	check_installments(terms->installments);
	check_tax_lines(terms->tax_lines);
	check_metadata(terms->metadata);
	if (terms->quantity != NOT_NAMED && terms->quantity < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("quantity must be at least 1"),
				 errdetail("It is " INT64_FORMAT ".", terms->quantity),
				 errhint("Leave it out for one.")));
	if (terms->trial_days == BELOW_ZERO || terms->trial_days > TRIAL_DAYS_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("trial_days must be from 0 to %d", TRIAL_DAYS_MAX)));
}

/* ---- what is sold ---- */

/* NULL: nothing, a setup only keeps a payment method. */
static CheckoutLines *
lines_of(const CheckoutTerms *terms, const Customer *customer)
{
	const char *currency = terms->currency;
	bool named = terms->plan != NULL || terms->price != NULL;
	CheckoutLines *lines = NULL;

	if (named && terms->line_items != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("line_items is given beside plan or price"),
						errhint("Put the price into line_items.")));
	if (!named && terms->quantity != NOT_NAMED)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("quantity is given without plan or price"),
						errhint("Put it into line_items.")));
	if (terms->line_items != NULL)
		lines = checkout_lines_read(terms->line_items, currency, customer);
	else if (named)
		lines = checkout_lines_of_price(
			&(PriceChoice){.plan = terms->plan,
						   .price = terms->price,
						   .amount = NO_AMOUNT,
						   .currency = currency != NULL ? currency : customer->currency,
						   .customer_id = customer->id},
			terms->quantity == NOT_NAMED ? 1 : terms->quantity);
	if (lines != NULL && terms->combine)
		checkout_lines_combine(lines);
	return lines;
}

static _Noreturn void
refuse_mode(const char *mode, const char *why, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("mode \"%s\" does not fit: %s", mode, why), errhint("%s", hint)));
}

/* The mode that the lines say, and no other. */
static const char *
mode_of(const CheckoutTerms *terms, const CheckoutLines *lines)
{
	const char *mode = lines == NULL              ? "setup"
					   : lines->recurring != NULL ? "subscription"
												  : "payment";

	if (lines == NULL && (terms->mode == NULL || strcmp(terms->mode, "setup") != 0))
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION), errmsg("line_items must be given"),
						errhint("Or plan or price; mode => 'setup' needs none.")));
	if (terms->mode != NULL && strcmp(terms->mode, mode) != 0)
	{
		if (lines != NULL && strcmp(terms->mode, "setup") == 0)
			refuse_mode(terms->mode, "there are line_items", "A setup sells nothing.");
		refuse_mode(terms->mode,
					lines->recurring != NULL ? "a line is paid again and again"
											 : "no line is paid again and again",
					"Leave mode out: the lines say it.");
	}
	if (strcmp(mode, "subscription") != 0 && terms->trial_days != NOT_NAMED)
		refuse_mode(mode, "trial_days is for subscriptions", "Leave trial_days out.");
	if (terms->tax_lines != NULL && strcmp(mode, "payment") != 0)
		refuse_mode(mode, "tax_lines is for payments", "Leave tax_lines out.");
	if (strcmp(mode, "payment") == 0 && lines->total == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there is nothing to pay"),
						errhint("The sum of line_items is 0.")));
	return mode;
}

static int64
total_of(const CheckoutTerms *terms, const CheckoutLines *lines)
{
	int64 total = lines == NULL ? 0 : lines->total;

	for (int i = 0; terms->tax_lines != NULL && i < json_length(terms->tax_lines, ""); i++)
	{
		int64 amount;

		if (json_whole(terms->tax_lines, psprintf("%d.amount", i), &amount))
			total = checkout_sum(total, amount, 1);
	}
	return total;
}

/* ---- arguments of the request ---- */

static void
add_array(JsonBuilder *b, const char *name, ArrayType *array)
{
	bool texts;
	Datum *values;
	bool *nulls;
	int count;

	if (array == NULL)
		return;
	texts = ARR_ELEMTYPE(array) == TEXTOID;
	deconstruct_array(array, ARR_ELEMTYPE(array), texts ? -1 : 4, !texts, TYPALIGN_INT, &values,
					  &nulls, &count);
	json_open_array(b, name);
	for (int i = 0; i < count; i++)
	{
		if (texts)
			json_append_text(b, TextDatumGetCString(values[i]));
		else
			json_append_int(b, DatumGetInt32(values[i]));
	}
	json_close_array(b);
}

static void
add_choice(JsonBuilder *b, const char *name, int choice)
{
	if (choice != NOT_NAMED)
		json_add_bool(b, name, choice != 0);
}

static void
add_tax_lines(JsonBuilder *b, const Jsonb *tax_lines, const char *currency, const char *provider)
{
	if (tax_lines == NULL)
		return;
	json_open_array(b, "tax_lines");
	for (int i = 0; i < json_length(tax_lines, ""); i++)
	{
		JsonBuilder line;
		int64 amount = 0;

		(void) json_whole(tax_lines, psprintf("%d.amount", i), &amount);
		json_open(&line);
		json_add_text(&line, "description", json_text(tax_lines, psprintf("%d.description", i)));
		json_add_int(&line, "amount", wire_price(provider, currency, amount));
		json_append_json(b, json_close(&line));
	}
	json_close_array(b);
}

/*
 * All that the request says but ids and addresses, in the provider's units: so
 * that the provider's module can refuse it in the call.
 */
static Jsonb *
create_arguments(const CheckoutTerms *terms, const CheckoutLines *lines, const char *mode,
				 int trial_days, const char *provider)
{
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, "name", terms->name);
	if (terms->name == NULL)
		json_add_text(&b, "mode", mode);
	if (lines != NULL)
	{
		checkout_lines_add(&b, lines, provider);
		json_add_text(&b, "currency", lines->currency);
		json_add_int(&b, "amount", wire_price(provider, lines->currency, total_of(terms, lines)));
		add_tax_lines(&b, terms->tax_lines, lines->currency, provider);
	}
	else
		json_add_text(&b, "currency", terms->currency);
	if (trial_days > 0)
		json_add_int(&b, "trial_days", trial_days);
	add_array(&b, "methods", terms->methods);
	add_array(&b, "installments", terms->installments);
	json_add_text(&b, "coupon", terms->coupon);
	add_choice(&b, "allow_promotion_codes", terms->allow_promotion_codes);
	add_choice(&b, "collect_tax_id", terms->collect_tax_id);
	add_choice(&b, "automatic_tax", terms->automatic_tax);
	if (terms->invoice_id != NULL)
		json_add_bool(&b, "tax_added", true);
	json_add_text(&b, "locale", terms->locale);
	json_add_time(&b, "expires_at", terms->expires_at);
	if (terms->max_payments != NOT_NAMED)
		json_add_int(&b, "max_payments", terms->max_payments);
	return json_close(&b);
}

/* 23502 when the provider needs something that the call leaves out. */
static void
check_missing(const Account *account, Operation operation, const Jsonb *arguments)
{
	const char *missing = account_missing(account, operation, arguments);

	if (missing != NULL)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
						errmsg("%s requires %s", account->provider, missing),
						errhint("Pass %s, or name another provider.", missing)));
}

/* ---- rows ---- */

QUERY(
	insert_session,
	"INSERT INTO billing.checkout_sessions (id, kind, customer_id, organization_id, provider, account, livemode, mode, "
	"name, currency, amount_total, line_items, max_payments, success_url, cancel_url, payment_intent_id, "
	"subscription_id, expires_at, metadata, invoice_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, "
	"coalesce($12, '[]'), $13, $14, $15, $16, $17, $18, coalesce($19, '{}'), $20)",
	UUIDOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID,
	INT8OID, JSONBOID, INT4OID, TEXTOID, TEXTOID, UUIDOID, UUIDOID, TIMESTAMPTZOID, JSONBOID,
	UUIDOID);

char *
checkout_url(const char *url, const pg_uuid_t *id)
{
	StringInfoData result;
	const char *place;

	if (url == NULL)
		return NULL;
	initStringInfo(&result);
	while ((place = strstr(url, ID_PLACE)) != NULL)
	{
		appendBinaryStringInfo(&result, url, (int) (place - url));
		appendStringInfoString(&result, uuid_text(id));
		url = place + strlen(ID_PLACE);
	}
	appendStringInfoString(&result, url);
	return result.data;
}

/* What the buyer makes on the page. */
typedef struct Made
{
	pg_uuid_t *payment_intent;
	pg_uuid_t *subscription;
} Made;

static void
insert_row(const pg_uuid_t *id, const CheckoutTerms *terms, const Customer *customer,
		   const Account *account, const CheckoutLines *lines, const char *mode, const Made *made)
{
	RUN(insert_session, arg_uuid(id), arg_text(customer == NULL ? "link" : "session"),
		arg_uuid(customer == NULL ? NULL : customer->id),
		arg_text(customer == NULL ? NULL : customer->organization_id), arg_text(account->provider),
		arg_text(account->account), arg_bool(account->livemode), arg_text(mode),
		arg_text(terms->name), arg_text(lines == NULL ? terms->currency : lines->currency),
		lines == NULL ? arg_null() : arg_int(total_of(terms, lines)),
		arg_json(lines == NULL ? NULL : checkout_lines_json(lines)),
		terms->max_payments == NOT_NAMED ? arg_null() : arg_int4(terms->max_payments),
		arg_text(checkout_url(terms->success_url, id)),
		arg_text(checkout_url(terms->cancel_url, id)), arg_uuid(made->payment_intent),
		arg_uuid(made->subscription),
		arg_time(terms->expires_at != 0 ? terms->expires_at : terms->ends_about),
		arg_json(terms->metadata), arg_uuid(terms->invoice_id));
	event_record("checkout_session.created", "checkout_session", id,
				 customer == NULL ? NULL : customer->organization_id, NULL, "pending");
}

/* ---- subscriptions ---- */

/*
 * A free subscription that no provider knows is turned into the one that is
 * paid for: the organisation keeps what it has until then.
 */
static bool
can_become_paid(const Subscription *s, const Account *account)
{
	return strcmp(s->status, "active") == 0 && s->provider_id == NULL && !outbox_busy(s->id) &&
		   strcmp(s->provider, account->provider) == 0 &&
		   strcmp(s->account, account->account) == 0 && price_is_free(price_load(s->price_id));
}

static pg_uuid_t *
subscription_row(const CheckoutLine *line, const Customer *customer, const Account *account,
				 const Jsonb *metadata)
{
	const Price *price = line->price;
	Subscription *present;

	checkout_close_earlier(customer, price->plan_group);
	present = subscription_of_group(customer->organization_id, price->plan_group);
	if (price->amount > 0 && present != NULL && can_become_paid(present, account))
		return present->id;
	return subscription_for_checkout(customer, account, price, line->quantity, metadata);
}

/* ---- a session ---- */

static Made
make_rows(const pg_uuid_t *id, const CheckoutTerms *terms, const Customer *customer,
		  const Account *account, const CheckoutLines *lines, const char *mode)
{
	Made made = {NULL, NULL};

	if (strcmp(mode, "payment") == 0)
		made.payment_intent = payment_intent_for_checkout(customer, account, total_of(terms, lines),
														  lines->currency, id, terms->invoice_id,
														  terms->metadata);
	else if (strcmp(mode, "subscription") == 0)
		made.subscription = subscription_row(lines->recurring, customer, account, terms->metadata);
	return made;
}

pg_uuid_t *
checkout_session_create(CheckoutTerms *terms, const Customer *customer, const Account *account)
{
	CheckoutLines *lines;
	const char *mode;
	pg_uuid_t *id = new_id();
	int trial_days = 0;
	pg_uuid_t *blocked_by = NULL;
	Jsonb *arguments;
	Made made;

	terms->currency = check_currency(terms->currency);
	lines = lines_of(terms, customer);
	mode = mode_of(terms, lines);
	check_expiry(customer->organization_id, terms->expires_at);
	if (strcmp(mode, "subscription") == 0)
		trial_days = subscription_trial_days(customer, lines->recurring->price, terms->trial_days);
	arguments = create_arguments(terms, lines, mode, trial_days, account->provider);
	account_require(account, OPERATION_CHECKOUT_SESSION_CREATE, arguments);
	if (terms->invoice_id != NULL)
		(void) wire_charge(account->provider, lines->currency, lines->total);
	check_missing(account, OPERATION_CHECKOUT_SESSION_CREATE, arguments);
	customer_ensure_at(customer, account);
	made = make_rows(id, terms, customer, account, lines, mode);
	insert_row(id, terms, customer, account, lines, mode, &made);
	if (lines != NULL)
		blocked_by = checkout_lines_ensure_at(lines, account);
	(void) outbox_enqueue(account, OPERATION_CHECKOUT_SESSION_CREATE, id, customer->id, arguments,
						  blocked_by);
	return id;
}

QUERY(session_subscription, "SELECT subscription_id FROM billing.checkout_sessions WHERE id = $1",
	  UUIDOID);

pg_uuid_t *
checkout_subscribe(const Customer *customer, const Account *account, const CheckoutSale *sale)
{
	CheckoutTerms terms = {
		.success_url = sale->success_url,
		.cancel_url = sale->cancel_url,
		.mode = "subscription",
		.price = sale->price->id,
		.quantity = sale->quantity,
		.trial_days = sale->trial_days,
		.currency = sale->price->currency,
		.coupon = sale->coupon,
		.allow_promotion_codes = NOT_NAMED,
		.collect_tax_id = NOT_NAMED,
		.automatic_tax = sale->automatic_tax,
		.max_payments = NOT_NAMED,
		.metadata = sale->metadata,
	};

	checkout_check_terms(&terms);
	(void) RUN(session_subscription, arg_uuid(checkout_session_create(&terms, customer, account)));
	return row_uuid(0, 1);
}

#define ARG_ARRAY(n)  (PG_ARGISNULL(n) ? NULL : PG_GETARG_ARRAYTYPE_P(n))
#define ARG_CHOICE(n) (PG_ARGISNULL(n) ? NOT_NAMED : (int) PG_GETARG_BOOL(n))
#define ARRAY_TEXT(n) \
	(PG_ARGISNULL(n) ? NULL : OidOutputFunctionCall(F_ARRAY_OUT, PG_GETARG_DATUM(n)))
#define JSON_TEXT(json) ((json) == NULL ? NULL : json_string(json))
#define NUMBER_TEXT(i)  psprintf(INT64_FORMAT, (int64) (i))

SQL_FUNCTION(billing_create_checkout_session)
{
	pg_uuid_t *customer_id = ARG_UUID(0);
	CheckoutTerms terms = {
		.line_items = ARG_JSON(1),
		.success_url = ARG_TEXT(2),
		.cancel_url = ARG_TEXT(3),
		.mode = ARG_TEXT(4),
		.plan = ARG_TEXT(5),
		.price = ARG_UUID(6),
		.quantity = PG_ARGISNULL(7) ? NOT_NAMED : Max(PG_GETARG_INT64(7), 0),
		.trial_days = PG_ARGISNULL(8)          ? NOT_NAMED
					  : PG_GETARG_INT32(8) < 0 ? BELOW_ZERO
											   : PG_GETARG_INT32(8),
		.currency = ARG_TEXT(9),
		.methods = ARG_ARRAY(10),
		.installments = ARG_ARRAY(11),
		.coupon = ARG_TEXT(12),
		.allow_promotion_codes = ARG_CHOICE(13),
		.collect_tax_id = ARG_CHOICE(14),
		.automatic_tax = ARG_CHOICE(15),
		.tax_lines = ARG_JSON(16),
		.locale = ARG_TEXT(17),
		.expires_at = ARG_TIME(18),
		.combine = ARG_BOOL(19, false),
		.max_payments = NOT_NAMED,
		.metadata = ARG_JSON(20),
	};
	char *provider = ARG_TEXT(21);
	char *account_name = ARG_TEXT(22);
	char *key = ARG_TEXT(23);
	KeyedArgument arguments[] = {
		{"customer_id", customer_id == NULL ? NULL : uuid_text(customer_id)},
		{"line_items", JSON_TEXT(terms.line_items)},
		{"success_url", terms.success_url},
		{"cancel_url", terms.cancel_url},
		{"mode", terms.mode},
		{"plan", terms.plan},
		{"price", terms.price == NULL ? NULL : uuid_text(terms.price)},
		{"quantity", NUMBER_TEXT(terms.quantity)},
		{"trial_days", NUMBER_TEXT(terms.trial_days)},
		{"currency", terms.currency},
		{"methods", ARRAY_TEXT(10)},
		{"installments", ARRAY_TEXT(11)},
		{"coupon", terms.coupon},
		{"allow_promotion_codes", NUMBER_TEXT(terms.allow_promotion_codes)},
		{"collect_tax_id", NUMBER_TEXT(terms.collect_tax_id)},
		{"automatic_tax", NUMBER_TEXT(terms.automatic_tax)},
		{"tax_lines", JSON_TEXT(terms.tax_lines)},
		{"locale", terms.locale},
		{"expires_at", NUMBER_TEXT(terms.expires_at)},
		{"combine", NUMBER_TEXT(terms.combine)},
		{"metadata", JSON_TEXT(terms.metadata)},
		{"provider", provider},
		{"account", account_name},
	};
	Customer *customer;
	pg_uuid_t *id;

	checkout_check_no_card(&terms);
	db_open();
	check_given("customer_id", customer_id != NULL);
	check_given("success_url", terms.success_url != NULL);
	checkout_check_terms(&terms);
	customer = customer_load(customer_id, true);
	if (customer == NULL || customer->deleted)
		unknown_object("customer", uuid_text(customer_id), NULL);
	id = idempotency_find("create_checkout_session", customer->organization_id, key, arguments,
						  lengthof(arguments));
	if (id == NULL)
	{
		id = checkout_session_create(
			&terms, customer,
			route_account(&(RouteTerms){.provider = provider,
										.account = account_name,
										.currency = terms.currency,
										.amount = NO_AMOUNT,
										.operation = OPERATION_CHECKOUT_SESSION_CREATE,
										.plan = terms.plan,
										.customer = customer}));
		idempotency_store("create_checkout_session", customer->organization_id, key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

/* ---- a payment link ---- */

static pg_uuid_t *
link_create(const CheckoutTerms *terms, const Account *account)
{
	CheckoutLines *lines = checkout_lines_read(terms->line_items, check_currency(terms->currency),
											   NULL);
	const char *mode = mode_of(terms, lines);
	pg_uuid_t *id = new_id();
	pg_uuid_t *blocked_by;
	Jsonb *arguments;

	check_expiry(NULL, terms->expires_at);
	blocked_by = checkout_lines_ensure_at(lines, account);
	arguments = create_arguments(terms, lines, mode, 0, account->provider);
	check_missing(account, OPERATION_PAYMENT_LINK_CREATE, arguments);
	insert_row(id, terms, NULL, account, lines, mode, &(Made){NULL, NULL});
	(void) outbox_enqueue(account, OPERATION_PAYMENT_LINK_CREATE, id, account->id, arguments,
						  blocked_by);
	return id;
}

/* A link is about no organisation: its caller's keys are those of the whole database. */
SQL_FUNCTION(billing_create_payment_link)
{
	CheckoutTerms terms = {
		.name = ARG_TEXT(0),
		.line_items = ARG_JSON(1),
		.currency = ARG_TEXT(2),
		.methods = ARG_ARRAY(3),
		.installments = ARG_ARRAY(4),
		.expires_at = ARG_TIME(5),
		.success_url = ARG_TEXT(6),
		.max_payments = PG_ARGISNULL(7) ? NOT_NAMED : PG_GETARG_INT32(7),
		.metadata = ARG_JSON(8),
		.quantity = NOT_NAMED,
		.trial_days = NOT_NAMED,
		.allow_promotion_codes = NOT_NAMED,
		.collect_tax_id = NOT_NAMED,
		.automatic_tax = NOT_NAMED,
	};
	char *provider = ARG_TEXT(9);
	char *account_name = ARG_TEXT(10);
	char *key = ARG_TEXT(11);
	KeyedArgument arguments[] = {
		{"name", terms.name},
		{"line_items", JSON_TEXT(terms.line_items)},
		{"currency", terms.currency},
		{"methods", ARRAY_TEXT(3)},
		{"installments", ARRAY_TEXT(4)},
		{"expires_at", NUMBER_TEXT(terms.expires_at)},
		{"success_url", terms.success_url},
		{"max_payments", NUMBER_TEXT(terms.max_payments)},
		{"metadata", JSON_TEXT(terms.metadata)},
		{"provider", provider},
		{"account", account_name},
	};
	pg_uuid_t *id;

	checkout_check_no_card(&terms);
	db_open();
	check_given("name", terms.name != NULL && terms.name[0] != '\0');
	check_given("line_items", terms.line_items != NULL);
	checkout_check_terms(&terms);
	if (!PG_ARGISNULL(7) && terms.max_payments < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("max_payments must be at least 1"),
						errhint("Leave it out: then the link can be paid any number of times.")));
	id = idempotency_find("create_payment_link", "", key, arguments, lengthof(arguments));
	if (id == NULL)
	{
		id = link_create(&terms, account_choose(provider, account_name));
		idempotency_store("create_payment_link", "", key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

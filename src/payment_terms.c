/*-------------------------------------------------------------------------
 *
 * payment_terms.c
 *	  Arguments that payments and setup intents have in common: what is paid
 *	  with, by which account, for which lines, in how many instalments.
 *
 * Everything that can be known before anything is queued is checked here, so
 * that a caller hears it in his own transaction.  Called by payments.c,
 * setup_intents.c and, for the lines, by payment_sync.c.
 *
 *-------------------------------------------------------------------------
 */
#include "payments.h"

#include "check.h"
#include "errors.h"
#include "managers.h"
#include "money.h"
#include "wire_amounts.h"

/* ---- what is paid with ---- */

#define METHOD_COLUMNS "m.id, m.customer_id, m.state, m.provider, m.account, m.type"

QUERY(named_method, "SELECT " METHOD_COLUMNS " FROM billing.payment_methods AS m WHERE m.id = $1",
	  UUIDOID);
/* By the provider's id, or by the token of one that is about to be attached. */
QUERY(told_method,
	  "SELECT " METHOD_COLUMNS " FROM billing.payment_methods AS m "
	  "LEFT JOIN billing.provider_refs AS r ON r.object_id = m.id "
	  "AND r.object_type = 'payment_method' "
	  "WHERE m.customer_id = $1 AND ((m.state = 'attached' AND r.provider_id = $2) "
	  "OR (m.state = 'pending' AND m.token = $2)) LIMIT 1",
	  UUIDOID, TEXTOID);
QUERY(default_method,
	  "SELECT " METHOD_COLUMNS
	  " FROM billing.payment_methods AS m WHERE m.customer_id = $1 AND m.provider = $2 "
	  "AND m.account = $3 AND m.is_default AND m.state = 'attached'",
	  UUIDOID, TEXTOID, TEXTOID);

static PaymentMethodChoice
choice_from_row(void)
{
	return (PaymentMethodChoice){.method_id = row_uuid(0, 1),
								 .provider = row_text(0, 4),
								 .account = row_text(0, 5),
								 .type = row_text(0, 6)};
}

static PaymentMethodChoice
choose_by_id(const Customer *customer, const pg_uuid_t *id)
{
	char *state;

	if (RUN(named_method, arg_uuid(id)) == 0 || !uuid_equal(row_uuid(0, 2), customer->id))
		unknown_object("payment method", uuid_text(id),
					   "billing.list_payment_methods() lists those of the customer.");
	state = row_text(0, 3);
	if (strcmp(state, "attached") != 0 && strcmp(state, "pending") != 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("payment method \"%s\" is %s", uuid_text(id), state),
						errhint("Pass another one; billing.list_payment_methods() lists them.")));
	return choice_from_row();
}

PaymentMethodChoice
payment_method_choose(const Customer *customer, const char *text)
{
	pg_uuid_t *id;

	if (text == NULL)
		return (PaymentMethodChoice){0};
	if (RUN(told_method, arg_uuid(customer->id), arg_text(text)) > 0)
		return choice_from_row();
	id = uuid_parse(text);
	return id != NULL ? choose_by_id(customer, id) : (PaymentMethodChoice){.token = text};
}

bool
payment_method_default(const Customer *customer, const Account *account,
					   PaymentMethodChoice *choice)
{
	if (RUN(default_method, arg_uuid(customer->id), arg_text(account->provider),
			arg_text(account->account)) == 0)
		return false;
	*choice = choice_from_row();
	return true;
}

void
payment_method_check_account(const PaymentMethodChoice *choice, const Account *account)
{
	if (choice->method_id == NULL || (strcmp(account->provider, choice->provider) == 0 &&
									  strcmp(account->account, choice->account) == 0))
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("payment method \"%s\" cannot be charged by account \"%s\" at \"%s\"",
						   uuid_text(choice->method_id), account->account, account->provider),
					errdetail("It belongs to account \"%s\" at \"%s\".", choice->account,
							  choice->provider),
					errhint("Leave provider and account out, or pass a method of that account.")));
}

Account *
payment_account(const RouteTerms *call, const PaymentMethodChoice *choice)
{
	RouteTerms terms = *call;
	Account *chosen;

	if (choice->method_id != NULL && terms.provider == NULL)
	{
		terms.provider = choice->provider;
		terms.account = choice->account;
	}
	chosen = route_account(&terms);
	payment_method_check_account(choice, chosen);
	return chosen;
}

void
check_method(const char *method)
{
	if (method == NULL)
		return;
	check_no_card("method", method);
	if (method[0] < 'a' || method[0] > 'z' || strlen(method) > 63 ||
		method[strspn(method, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '\0')
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown method \"%s\"", method),
			 errhint(
				 "Use a name such as card, oxxo, spei, us_bank_account or sepa_debit; a token belongs into payment_method.")));
}

char *
payment_currency(const Customer *customer, const char *currency)
{
	if (currency != NULL)
		return check_currency(currency);
	if (customer->currency != NULL)
		return customer->currency;
	currency = setting_text("default_currency");
	check_given("currency", currency != NULL);
	return check_currency(currency);
}

void
payment_require_arguments(const Account *account, Operation operation, const Jsonb *arguments)
{
	const char *missing = account_missing(account, operation, arguments);

	if (missing != NULL)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
						errmsg("%s must be given: %s requires it", missing, account->provider),
						errhint("Pass %s.", missing)));
}

/* ---- what is nobody else's business ---- */

static const char *const mandate_words[] = {"online", "offline", NULL};

static void
refuse_mandate_member(const char *key, const JsonbValue *value, void *context)
{
	static const char *const members[] = {"type", "ip_address", "user_agent", "accepted_at"};

	for (size_t i = 0; i < lengthof(members); i++)
	{
		if (strcmp(key, members[i]) == 0)
			return;
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("unknown member \"%s\" of mandate", key),
					errhint("It has: type, ip_address, user_agent, accepted_at.")));
}

/* Unix seconds, or a time as SQL writes it. */
static TimestampTz
accepted_at(const Jsonb *mandate)
{
	char *text = json_text(mandate, "accepted_at");
	int64 seconds;

	if (text == NULL)
		return 0;
	if (json_int(mandate, "accepted_at", &seconds))
		return json_unix_time(mandate, "accepted_at");
	return DatumGetTimestampTz(DirectFunctionCall3(
		timestamptz_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

Jsonb *
checked_mandate(const Jsonb *mandate)
{
	char *type;
	JsonBuilder b;

	if (mandate == NULL)
		return NULL;
	if (!JB_ROOT_IS_OBJECT(mandate))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("mandate is not an object"),
			 errhint(
				 "Pass {\"type\": \"online\", \"ip_address\": ..., \"user_agent\": ...} or {\"type\": \"offline\"}.")));
	json_visit(mandate, refuse_mandate_member, NULL);
	type = json_text(mandate, "type");
	check_given("type of mandate", type != NULL);
	check_word("type of mandate", type, mandate_words);
	if (type != NULL && strcmp(type, "online") == 0)
	{
		check_given("ip_address of an online mandate", json_text(mandate, "ip_address") != NULL);
		check_given("user_agent of an online mandate", json_text(mandate, "user_agent") != NULL);
	}
	json_open(&b);
	json_add_text(&b, "type", type);
	json_add_text(&b, "ip_address", json_text(mandate, "ip_address"));
	json_add_text(&b, "user_agent", json_text(mandate, "user_agent"));
	json_add_time(&b, "accepted_at", accepted_at(mandate));
	return json_close(&b);
}

/* scheme:something, without blanks: apps have schemes of their own. */
static void
check_return_url(const char *url)
{
	const char *colon;

	if (url == NULL)
		return;
	colon = strchr(url, ':');
	if (colon == NULL || colon == url || colon[1] == '\0' || strpbrk(url, " \t\r\n<>\"") != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("return_url is not a URL"),
						errhint("Pass something like https://app.example/paid.")));
}

char *
private_terms(const char *return_url, const Jsonb *mandate)
{
	JsonBuilder b;

	check_return_url(return_url);
	mandate = checked_mandate(mandate);
	if (return_url == NULL && mandate == NULL)
		return NULL;
	json_open(&b);
	json_add_text(&b, "return_url", return_url);
	json_add_json(&b, "mandate", mandate);
	return json_string(json_close(&b));
}

/* ---- lines ---- */

QUERY(price_name,
	  "SELECT l.name FROM billing.prices AS p JOIN billing.plans AS l ON l.id = p.plan_id "
	  "WHERE p.id = $1",
	  UUIDOID);

/* Adds up what is billed; lines of one call are few, their product is checked all the same. */
typedef struct LineSum
{
	const Account *account;
	const char *currency;
	int64 total;
	pg_uuid_t *blocked_by;
} LineSum;

static void
refuse_line(const char *member, int index, const char *why)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("element %d of %s %s", index, member, why),
					errhint("Elements of line_items are {name, amount, quantity, description} or "
							"{price, quantity}, of tax_lines {description, amount}; amounts are "
							"minor units.")));
}

static void
add_to_sum(LineSum *sum, const char *member, int index, int64 amount, int64 quantity)
{
	int64 product;

	if (money_mul(amount, quantity, &product) != MONEY_OK ||
		money_add(sum->total, product, &sum->total) != MONEY_OK)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("element %d of %s is out of range", index, member)));
	(void) wire_price(sum->account->provider, sum->currency, amount);
}

static int64
line_quantity(const Jsonb *line, int index)
{
	int64 quantity = 1;

	if (json_has(line, "quantity") && (!json_whole(line, "quantity", &quantity) || quantity < 1))
		refuse_line("line_items", index, "has a quantity that is not a number from 1");
	return quantity;
}

/* The price of a line, paid once; its counterpart at the provider is made if needed. */
static Price *
line_price(LineSum *sum, const Jsonb *line, int index)
{
	char *text = json_text(line, "price");
	pg_uuid_t *id = text == NULL ? NULL : uuid_parse(text);
	Price *price = id == NULL ? NULL : price_load(id);
	pg_uuid_t *request;

	if (price == NULL)
		unknown_object("price", text == NULL ? "" : text, "Pass the id of a price.");
	if (strcmp(price->interval, "one_time") != 0)
		refuse_line("line_items", index, "has a price that is paid again and again");
	if (strcmp(price->currency, sum->currency) != 0)
		refuse_line("line_items", index, psprintf("has a price in %s", price->currency));
	manager_check_provider(price, 1);
	if (sum->account->module->catalogue != CATALOGUE_NONE)
	{
		request = price_ensure_at(price, sum->account);
		if (sum->blocked_by == NULL)
			sum->blocked_by = request;
	}
	return price;
}

static Jsonb *
priced_line(LineSum *sum, const Jsonb *line, int index)
{
	Price *price = line_price(sum, line, index);
	int64 quantity = line_quantity(line, index);
	JsonBuilder b;

	if (RUN(price_name, arg_uuid(price->id)) == 0)
		elog(ERROR, "price %s has no plan", uuid_text(price->id));
	json_open(&b);
	json_add_text(&b, "name", row_text(0, 1));
	json_add_text(&b, "description", json_text(line, "description"));
	json_add_text(&b, "price_id", uuid_text(price->id));
	json_add_int(&b, "amount", price->amount);
	json_add_int(&b, "quantity", quantity);
	add_to_sum(sum, "line_items", index, price->amount, quantity);
	return json_close(&b);
}

static Jsonb *
named_line(LineSum *sum, const Jsonb *line, int index)
{
	char *name = json_text(line, "name");
	char *currency = json_text(line, "currency");
	int64 quantity = line_quantity(line, index);
	int64 amount;
	JsonBuilder b;

	if (name == NULL || *name == '\0')
		refuse_line("line_items", index, "has no name");
	if (!json_whole(line, "amount", &amount) || amount < 0)
		refuse_line("line_items", index, "has no amount from 0");
	if (currency != NULL && strcmp(check_currency(currency), sum->currency) != 0)
		refuse_line("line_items", index, psprintf("is in %s", currency));
	json_open(&b);
	json_add_text(&b, "name", name);
	json_add_text(&b, "description", json_text(line, "description"));
	json_add_int(&b, "amount", amount);
	json_add_int(&b, "quantity", quantity);
	add_to_sum(sum, "line_items", index, amount, quantity);
	return json_close(&b);
}

static Jsonb *
line_item(LineSum *sum, const Jsonb *line, int index)
{
	return json_has(line, "price") ? priced_line(sum, line, index) : named_line(sum, line, index);
}

static Jsonb *
tax_line(LineSum *sum, const Jsonb *line, int index)
{
	char *description = json_text(line, "description");
	int64 amount;
	JsonBuilder b;

	if (description == NULL || *description == '\0')
		refuse_line("tax_lines", index, "has no description");
	if (!json_whole(line, "amount", &amount) || amount < 0)
		refuse_line("tax_lines", index, "has no amount from 0");
	json_open(&b);
	json_add_text(&b, "description", description);
	json_add_int(&b, "amount", amount);
	add_to_sum(sum, "tax_lines", index, amount, 1);
	return json_close(&b);
}

/* {"lines": [...]}: a builder makes objects. */
static Jsonb *
each_line(LineSum *sum, const char *member, const Jsonb *lines,
		  Jsonb *(*line_of)(LineSum *sum, const Jsonb *line, int index))
{
	JsonBuilder b;

	if (lines == NULL)
		return NULL;
	if (!JB_ROOT_IS_ARRAY(lines) || JB_ROOT_IS_SCALAR(lines) || json_length(lines, "") == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s is not an array with elements", member)));
	json_open(&b);
	json_open_array(&b, "lines");
	for (int i = 0; i < json_length(lines, ""); i++)
	{
		Jsonb *line = json_part(lines, psprintf("%d", i));

		if (line == NULL || !JB_ROOT_IS_OBJECT(line))
			refuse_line(member, i, "is not an object");
		json_append_json(&b, line_of(sum, line, i));
	}
	json_close_array(&b);
	return json_part(json_close(&b), "lines");
}

PaymentLines
payment_lines(const Account *account, const Jsonb *line_items, const Jsonb *tax_lines, int64 amount,
			  const char *currency)
{
	LineSum sum = {.account = account, .currency = currency};
	PaymentLines lines = {0};

	if (line_items == NULL && tax_lines == NULL)
		return lines;
	lines.line_items = each_line(&sum, "line_items", line_items, line_item);
	lines.tax_lines = each_line(&sum, "tax_lines", tax_lines, tax_line);
	lines.blocked_by = sum.blocked_by;
	if (sum.total != amount)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("line_items and tax_lines do not add up to amount"),
						errdetail("Their sum is " INT64_FORMAT ", amount is " INT64_FORMAT ".",
								  sum.total, amount),
						errhint("Amounts of lines are for one unit of quantity.")));
	return lines;
}

/* What the provider sells a price as; NULL where it has no catalogue, or not yet. */
static char *
product_of_line(const OutboxRow *row, const Jsonb *line, bool *ready)
{
	char *price_id = json_text(line, "price_id");
	Price *price;
	char *product = NULL;

	if (price_id == NULL)
		return NULL;
	price = price_load(uuid_parse(price_id));
	switch (provider_find(row->provider)->catalogue)
	{
		case CATALOGUE_NONE:
			return NULL;
		case CATALOGUE_PRICES:
			product = ref_find("price", price->id, row->provider, row->account);
			break;
		case CATALOGUE_PRODUCTS:
			product = ref_find("product", price->plan_id, row->provider, row->account);
			break;
	}
	if (product == NULL)
		*ready = false;
	return product;
}

bool
payment_lines_to_wire(JsonBuilder *b, const OutboxRow *row, const char *currency)
{
	static const char *const members[] = {"line_items", "tax_lines"};
	static const char *const copied[] = {"name", "description", "quantity", NULL};
	bool ready = true;

	for (size_t m = 0; m < lengthof(members); m++)
	{
		Jsonb *lines = json_part(row->arguments, members[m]);

		if (lines == NULL)
			continue;
		json_open_array(b, members[m]);
		for (int i = 0; i < json_length(lines, ""); i++)
		{
			Jsonb *line = json_part(lines, psprintf("%d", i));
			int64 amount = 0;
			JsonBuilder one;

			(void) json_int(line, "amount", &amount);
			json_open(&one);
			json_copy(&one, line, copied);
			json_add_int(&one, "amount", wire_price(row->provider, currency, amount));
			json_add_text(&one, "product", product_of_line(row, line, &ready));
			json_append_json(b, json_close(&one));
		}
		json_close_array(b);
	}
	return ready;
}

/* ---- instalments ---- */

QUERY(term_minimum,
	  "SELECT min(min_amount) FROM billing.installment_terms "
	  "WHERE provider = $1 AND term = $2 AND currency = $3",
	  TEXTOID, INT4OID, TEXTOID);

static char *
terms_on_offer(const Account *account, const char *currency, int64 amount)
{
	char *list = hint_list(
		psprintf("SELECT DISTINCT term FROM billing.installment_terms WHERE provider = %s "
				 "AND currency = %s AND min_amount <= " INT64_FORMAT " ORDER BY term",
				 quote_literal_cstr(account->provider), quote_literal_cstr(currency), amount));

	return *list == '\0' ? psprintf("There is none for this amount in %s.", currency)
						 : psprintf("For this amount there are: %s months.", list);
}

void
check_installments(const Account *account, int installments, int64 amount, const char *currency,
				   const char *method, bool off_session)
{
	int64 minimum = -1;

	if (installments == 0)
		return;
	if (method != NULL && strcmp(method, "card") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("method \"%s\" has no instalments", method),
						errhint("Instalments are for cards: leave installments out.")));
	if (off_session)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("instalments need the customer to be there"),
						errhint("Leave installments out of payments that are made off_session.")));
	if (RUN(term_minimum, arg_text(account->provider), arg_int4(installments), arg_text(currency)) >
			0 &&
		!row_null(0, 1))
		minimum = row_int(0, 1);
	if (minimum < 0 || minimum > amount)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("provider \"%s\" does not split " INT64_FORMAT " %s into %d instalments",
						account->provider, amount, currency, installments),
				 minimum > 0 ? errdetail("The smallest amount for %d is " INT64_FORMAT ".",
										 installments, minimum)
							 : 0,
				 errhint("%s", terms_on_offer(account, currency, amount))));
}

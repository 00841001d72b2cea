/*-------------------------------------------------------------------------
 *
 * routing.c
 *	  Which of our accounts a call goes to.
 *
 * The rules are rows; this file only knows how to ask whether an account can
 * take a call: it is there with its key, it works, it is of the organisation's
 * mode, and the provider takes method, country, currency, amount, plan and
 * operation.  Every rule that was passed over is kept with the reason, so
 * that select_provider() can explain itself.
 *
 * Called by the subjects, through account_choose() and directly.
 *
 *-------------------------------------------------------------------------
 */
#include "routing.h"

#include "check.h"
#include "errors.h"
#include "funcapi.h"
#include "json.h"
#include "wire_amounts.h"

/* A card in instalments, as the rules call it. */
#define METHOD_INSTALLMENTS "msi"

static const char *const purpose_words[] = {"saas", "goods", "custom", NULL};

/* ------------------------------------------------------------------------
 * Can this account take the call?
 *
 * Each function says why not, without the provider's name, or NULL.
 * ------------------------------------------------------------------------
 */
static const char *
trouble_of_mode(const Account *account, const RouteTerms *terms)
{
	bool named = terms->customer != NULL &&
				 strcmp(terms->customer->provider, account->provider) == 0;

	if (account->module->embedded != NULL && account_embedded_excluded(named))
		return "not beside a live account";
	if (terms->customer != NULL && terms->customer->livemode != account->livemode)
		return psprintf("account %s is in %s mode, the organization in %s mode", account->account,
						account->livemode ? "live" : "test",
						terms->customer->livemode ? "live" : "test");
	return NULL;
}

QUERY(
	method_to_be_listed,
	"SELECT FROM billing.optional_methods AS o WHERE o.provider = $1 AND o.method = $2 AND o.optional "
	"AND NOT coalesce($3 -> 'capabilities' ? $2, false)",
	TEXTOID, TEXTOID, JSONBOID);

static const char *
trouble_of_method(const Account *account, const RouteTerms *terms)
{
	if (terms->method == NULL || RUN(method_to_be_listed, arg_text(account->provider),
									 arg_text(terms->method), arg_json(account->options)) == 0)
		return NULL;
	return psprintf("capabilities of account %s do not list %s", account->account, terms->method);
}

QUERY(
	currency_to_be_listed,
	"SELECT FROM billing.provider_currencies AS c WHERE c.provider = $1 AND c.currency = $2 AND c.optional "
	"AND NOT coalesce($3 -> 'currencies' ? $2, false)",
	TEXTOID, TEXTOID, JSONBOID);

static const char *
trouble_of_money(const Account *account, const RouteTerms *terms)
{
	if (terms->currency == NULL)
		return NULL;
	if (!provider_takes_currency(account->provider, terms->currency))
		return psprintf("does not take %s", terms->currency);
	if (RUN(currency_to_be_listed, arg_text(account->provider), arg_text(terms->currency),
			arg_json(account->options)) > 0)
		return psprintf("currencies of account %s do not list %s", account->account,
						terms->currency);
	if (terms->amount == NO_AMOUNT ||
		provider_takes_amount(account->provider, terms->currency, terms->amount))
		return NULL;
	return psprintf("does not take an amount of " INT64_FORMAT " in %s", terms->amount,
					terms->currency);
}

/* Of a plan that is sold at a price of its own to everybody, the call brings the price. */
#define TAKEN \
	"(NOT c.retired AND (NOT c.optional OR coalesce($4 -> 'currencies' ? c.currency, false)))"
QUERY(
	plan_at_provider,
	"SELECT l.custom_price OR EXISTS (SELECT FROM billing.prices AS r "
	"LEFT JOIN billing.provider_currencies AS c ON c.provider = p.name AND c.currency = r.currency "
	"WHERE r.plan_id = l.id AND r.component = 'base' AND r.customer_id IS NULL AND r.retired_at IS NULL "
	"AND r.effective_at <= now() "
	"AND ($3 IS NULL OR r.currency = $3) AND coalesce(" TAKEN ", NOT p.currencies_listed)), "
	"coalesce($3, (SELECT CASE WHEN count(*) = 1 THEN min(c.currency) END "
	"FROM billing.provider_currencies AS c WHERE c.provider = p.name AND p.currencies_listed AND " TAKEN
	")) "
	"FROM billing.plans AS l JOIN billing.providers AS p ON p.name = $2 WHERE l.plan = $1",
	TEXTOID, TEXTOID, TEXTOID, JSONBOID);

static const char *
trouble_of_plan(const Account *account, const RouteTerms *terms)
{
	if (terms->plan == NULL)
		return NULL;
	RUN(plan_at_provider, arg_text(terms->plan), arg_text(account->provider),
		arg_text(terms->currency), arg_json(account->options));
	if (row_bool(0, 1))
		return NULL;
	if (!row_null(0, 2))
		return psprintf("plan %s has no %s price", terms->plan, row_text(0, 2));
	return psprintf("plan %s has no price in a currency that it takes", terms->plan);
}

/* As the operation's own arguments: what is known of them already. */
static Jsonb *
arguments_of(const RouteTerms *terms)
{
	bool installments = terms->method != NULL && strcmp(terms->method, METHOD_INSTALLMENTS) == 0;
	JsonBuilder builder;

	json_open(&builder);
	json_add_text(&builder, "currency", terms->currency);
	json_add_text(&builder, "method", installments ? "card" : terms->method);
	if (terms->installments > 0)
		json_add_int(&builder, "installments", terms->installments);
	return json_close(&builder);
}

static const char *
trouble_of_operation(const Account *account, const RouteTerms *terms)
{
	const char *alternative;

	if (terms->operation == OPERATION_COUNT ||
		account_supports(account, terms->operation, arguments_of(terms), &alternative) !=
			UNSUPPORTED)
		return NULL;
	if (alternative == NULL)
		return psprintf("does not support %s", operation_name(terms->operation));
	return psprintf("does not support %s (%s)", operation_name(terms->operation), alternative);
}

static const char *
trouble_of(const Account *account, const RouteTerms *terms)
{
	static const char *(*const troubles[])(const Account *account, const RouteTerms *terms) = {
		trouble_of_mode, trouble_of_method, trouble_of_money, trouble_of_plan, trouble_of_operation,
	};

	for (int i = 0; i < (int) lengthof(troubles); i++)
	{
		const char *trouble = troubles[i](account, terms);

		if (trouble != NULL)
			return trouble;
	}
	return NULL;
}

/* ------------------------------------------------------------------------
 * The terms
 * ------------------------------------------------------------------------
 */
QUERY(find_plan, "SELECT FROM billing.plans WHERE plan = $1", TEXTOID);

static RouteTerms
checked_terms(const RouteTerms *given)
{
	RouteTerms terms = *given;

	/* every function has it as the default of its argument: alone it names nothing */
	if (terms.provider == NULL && terms.account != NULL && strcmp(terms.account, "default") == 0)
		terms.account = NULL;
	if (terms.country == NULL && terms.customer != NULL)
	{
		terms.country = terms.customer->country;
		check_country_served(terms.country);
	}
	terms.currency = check_currency(terms.currency);
	check_word("purpose", terms.purpose, purpose_words);
	if (terms.installments > 0)
		terms.method = METHOD_INSTALLMENTS;
	if (terms.plan != NULL && RUN(find_plan, arg_text(terms.plan)) == 0)
		unknown_object("plan", terms.plan,
					   psprintf("There are: %s.",
								hint_list("SELECT plan FROM billing.plans WHERE retired_at IS NULL "
										  "ORDER BY sort_order, plan")));
	return terms;
}

/* ------------------------------------------------------------------------
 * Choosing
 * ------------------------------------------------------------------------
 */

/* The account where the customer is, if he is at the provider that is named. */
static const char *
named_account(const RouteTerms *terms)
{
	if (terms->account == NULL && terms->customer != NULL &&
		strcmp(terms->customer->provider, terms->provider) == 0)
		return terms->customer->account;
	return terms->account;
}

/* What the caller names is his choice: no rule is asked, but what cannot be is refused here. */
static Route
named_route(const RouteTerms *terms)
{
	Account *account = account_get(terms->provider, named_account(terms));
	const char *alternative = NULL;

	account_check_embedded(account);
	if (terms->customer != NULL)
		customer_check_mode(terms->customer, account);
	provider_require_currency(account->provider, terms->currency);
	if (terms->operation != OPERATION_COUNT &&
		account_supports(account, terms->operation, arguments_of(terms), &alternative) ==
			UNSUPPORTED)
		account_refuse(account, terms->operation, arguments_of(terms), alternative);
	return (Route){account, "named", "named in the call", NIL};
}

/*
 * The rules whose conditions hold, each with the account that it leads to (or
 * NULL columns).  A provider that this version does not have is not
 * configured, like one without a key.
 */
QUERY(
	applicable_rules,
	"SELECT " ACCOUNT_COLUMNS ", r.name, r.description, w.provider, "
	"$1 IS NULL OR p.countries IS NULL OR $1 = ANY (p.countries) "
	"FROM billing.routing_rules AS r CROSS JOIN LATERAL (SELECT "
	"CASE r.kind WHEN 'customer' THEN $5 "
	"WHEN 'setting' THEN (SELECT s.value FROM billing.settings AS s WHERE s.name = 'default_provider') "
	"ELSE r.provider END, "
	"coalesce($7, r.account, CASE r.kind WHEN 'customer' THEN $6 END, 'default')) AS w (provider, account) "
	"LEFT JOIN billing.providers AS p ON p.name = w.provider AND NOT p.retired "
	"LEFT JOIN billing.provider_accounts AS a "
	"ON a.provider = p.name AND a.account = w.account AND " ACCOUNT_CONFIGURED " "
	"WHERE r.enabled AND w.provider IS NOT NULL AND (r.account IS NULL OR r.account = w.account) "
	"AND (r.countries IS NULL OR $1 = ANY (r.countries)) "
	"AND (r.currencies IS NULL OR $2 = ANY (r.currencies)) "
	"AND (r.methods IS NULL OR $3 = ANY (r.methods)) "
	"AND (r.purposes IS NULL OR $4 = ANY (r.purposes)) "
	"AND (r.kind <> 'unconfigured' OR $5 IS NULL AND NOT EXISTS (SELECT FROM billing.provider_accounts AS n "
	"JOIN billing.providers AS v ON v.name = n.provider "
	"WHERE NOT v.embedded AND NOT v.retired AND n.secret_key IS NOT NULL)) "
	"ORDER BY r.position, r.name",
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID);

static void
pass_over(Route *route, const char *provider, const char *trouble)
{
	char *line = psprintf("%s: %s", provider, trouble);
	ListCell *cell;

	foreach (cell, route->passed_over)
	{
		if (strcmp(lfirst(cell), line) == 0)
			return;
	}
	route->passed_over = lappend(route->passed_over, line);
}

static char *
join(List *lines)
{
	StringInfoData text;
	ListCell *cell;

	initStringInfo(&text);
	foreach (cell, lines)
		appendStringInfo(&text, "%s%s", foreach_current_index(cell) == 0 ? "" : "; ",
						 (char *) lfirst(cell));
	return text.data;
}

/*
 * A stopped account is the last resort: what waits for its key is better than
 * an application that cannot sign up anybody.
 */
static bool
ask_rules(Rows rows, const RouteTerms *terms, Route *route)
{
	bool found = false;

	for (int64 i = 0; i < rows_count(rows); i++)
	{
		char *provider = rows_text(rows, i, 12);
		Account *account;
		const char *trouble;

		if (rows_null(rows, i, 1))
		{
			pass_over(route, provider, "not configured");
			continue;
		}
		account = account_read(rows, i);
		trouble = rows_bool(rows, i, 13) ? trouble_of(account, terms)
										 : psprintf("not for customers in %s", terms->country);
		if (trouble == NULL && account->stopped)
			trouble = psprintf("account %s is stopped", account->account);
		else if (trouble == NULL)
		{
			route->account = account;
			route->rule = rows_text(rows, i, 10);
			route->reason = rows_text(rows, i, 11);
			return true;
		}
		else
			account = NULL;
		pass_over(route, provider, trouble);
		if (account != NULL && !found)
		{
			route->account = account;
			route->rule = rows_text(rows, i, 10);
			route->reason = "no other account can take it; it is sent when the key works again";
			found = true;
		}
	}
	return found;
}

QUERY(
	any_configured,
	"SELECT FROM billing.provider_accounts AS a JOIN billing.providers AS p ON p.name = a.provider "
	"WHERE NOT p.embedded AND NOT p.retired AND a.secret_key IS NOT NULL LIMIT 1",
	InvalidOid);

static _Noreturn void
no_route(const Route *route)
{
	if (RUN(any_configured, arg_null()) == 0)
		ereport(ERROR, (errcode(ERRCODE_JB_NOT_CONFIGURED), errmsg("no provider is configured"),
						route->passed_over == NIL ? 0 : errdetail("%s.", join(route->passed_over)),
						errhint("SELECT billing.configure_provider(...);")));
	ereport(ERROR, (errcode(ERRCODE_JB_NOT_SUPPORTED),
					errmsg("no provider that is configured can take this call"),
					route->passed_over == NIL ? 0 : errdetail("%s.", join(route->passed_over)),
					errhint("Name a provider and account, configure another one, or change "
							"billing.routing_rules.")));
}

/* The first rule whose account can take the call; false when there is none. */
static bool
route_by_rules(const RouteTerms *given, Route *route)
{
	RouteTerms terms = checked_terms(given);

	*route = (Route){0};
	if (terms.provider != NULL)
	{
		*route = named_route(&terms);
		return true;
	}
	RUN(applicable_rules, arg_text(terms.country), arg_text(terms.currency), arg_text(terms.method),
		arg_text(terms.purpose), arg_text(terms.customer == NULL ? NULL : terms.customer->provider),
		arg_text(terms.customer == NULL ? NULL : terms.customer->account), arg_text(terms.account));
	if (!ask_rules(rows_keep(), &terms, route))
		return false;
	if (route->passed_over != NIL)
		route->reason = psprintf("%s (passed over: %s)", route->reason, join(route->passed_over));
	return true;
}

Route
route_choose(const RouteTerms *terms)
{
	Route route;

	if (!route_by_rules(terms, &route))
		no_route(&route);
	return route;
}

/*
 * Where no account can take a call about a customer, it is his that says why:
 * the caller can then do something about the amount, the plan or the state.
 */
Account *
route_account(const RouteTerms *terms)
{
	const Customer *customer = terms->customer;
	Route route;

	if (route_by_rules(terms, &route))
		return route.account;
	if (customer == NULL)
		no_route(&route);
	return account_get(customer->provider,
					   terms->account != NULL ? terms->account : customer->account);
}

/* ------------------------------------------------------------------------
 * SQL
 * ------------------------------------------------------------------------
 */
static Operation
operation_of(const char *name, const RouteTerms *terms)
{
	Operation operation;

	if (name == NULL)
		return terms->plan != NULL ? OPERATION_SUBSCRIPTION_CREATE
			   : terms->amount != NO_AMOUNT || terms->method != NULL || terms->installments > 0
				   ? OPERATION_PAYMENT_INTENT_CREATE
				   : OPERATION_CUSTOMER_CREATE;
	operation = operation_by_name(name);
	if (operation == OPERATION_COUNT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown operation \"%s\"", name),
				 errhint("billing.provider_capabilities() lists them.")));
	return operation;
}

static Datum
text_array(List *lines)
{
	int count = list_length(lines);
	Datum *texts = palloc(sizeof(Datum) * count);
	ListCell *cell;

	foreach (cell, lines)
		texts[foreach_current_index(cell)] = CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(construct_array(texts, count, TEXTOID, -1, false, TYPALIGN_INT));
}

SQL_FUNCTION(billing_select_provider)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *organization_id = ARG_TEXT(5);
	RouteTerms terms = {
		.country = ARG_TEXT(0),
		.currency = ARG_TEXT(1),
		.amount = ARG_INT(2, NO_AMOUNT),
		.method = ARG_TEXT(3),
		.plan = ARG_TEXT(6),
		.purpose = ARG_TEXT(7),
		.installments = ARG_INT4(8, 0),
		.provider = ARG_TEXT(9),
		.account = ARG_TEXT(10),
	};
	Route route;
	Datum values[5];
	bool nulls[5] = {false};

	InitMaterializedSRF(fcinfo, 0);
	db_open();
	terms.operation = operation_of(ARG_TEXT(4), &terms);
	terms.country = check_country(terms.country);
	check_country_served(terms.country);
	if (organization_id != NULL)
		terms.customer = customer_of_organization(organization_id, false);
	route = route_choose(&terms);
	values[0] = CStringGetTextDatum(route.account->provider);
	values[1] = CStringGetTextDatum(route.account->account);
	values[2] = CStringGetTextDatum(route.rule);
	values[3] = CStringGetTextDatum(route.reason);
	values[4] = text_array(route.passed_over);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	db_close();
	return (Datum) 0;
}

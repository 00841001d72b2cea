/*-------------------------------------------------------------------------
 *
 * check.c
 *	  What callers may pass: one small function per rule.
 *
 *-------------------------------------------------------------------------
 */
#include "check.h"

#include "card_number.h"
#include "errors.h"
#include "json.h"
#include "mb/pg_wchar.h"
#include "utils/formatting.h"

#define METADATA_MAX_KEYS  50
#define METADATA_MAX_KEY   40
#define METADATA_MAX_VALUE 500
#define EMAIL_MAX          254 /* RFC 5321, with the angle brackets taken off */

void
check_given(const char *argument, bool given)
{
	if (!given)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION), errmsg("%s must be given", argument)));
}

void
check_amount(const char *argument, int64 amount)
{
	if (amount > AMOUNT_MAX || amount < -AMOUNT_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s is too large", argument),
				 errdetail("It is " INT64_FORMAT ".", amount),
				 errhint("Amounts are in minor units and have at most 15 digits.")));
}

/*
 * The statement is kept out of the log: it holds the number.  So is the
 * context, which may quote the statement of a function around ours.
 */
void
check_no_card(const char *argument, const char *text)
{
	size_t length;
	const char *token;

	if (text == NULL)
		return;
	length = strlen(text);
	if (!card_number_is(text, length) && !card_number_inside(text, length))
		return;
	token = card_number_test_token(text, length);
	ereport(
		ERROR,
		(errcode(ERRCODE_JB_CARD_NUMBER), errmsg("%s holds a card number", argument),
		 errdetail("Card numbers must never reach this database."),
		 token != NULL
			 ? errhint("This is a published test number: use the token \"%s\".", token)
			 : errhint("Let the provider's form in the browser make a token of it and pass that."),
		 errhidestmt(true), errhidecontext(true)));
}

void
check_no_card_json(const char *argument, const Jsonb *json)
{
	JsonbIterator *iterator;
	JsonbValue value;
	JsonbIteratorToken token;

	if (json == NULL)
		return;
	iterator = JsonbIteratorInit((JsonbContainer *) &json->root);
	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		if (token != WJB_KEY && token != WJB_VALUE && token != WJB_ELEM)
			continue;
		if (value.type == jbvString)
			check_no_card(argument, pnstrdup(value.val.string.val, value.val.string.len));
		else if (value.type == jbvNumeric)
			check_no_card(argument, json_scalar_text(&value));
	}
}

SQL_FUNCTION(billing_refuse_card_numbers)
{
	check_no_card_json(ARG_TEXT(0), ARG_JSON(1));
	PG_RETURN_VOID();
}

static char *
upper_case(const char *text)
{
	return asc_toupper(text, strlen(text));
}

QUERY(currency_known, "SELECT FROM billing.currencies WHERE code = $1 AND NOT retired", TEXTOID);
QUERY(country_known, "SELECT FROM billing.countries WHERE code = $1 AND NOT retired", TEXTOID);

bool
is_currency(const char *currency)
{
	return RUN(currency_known, arg_text(upper_case(currency))) > 0;
}

bool
is_country(const char *country)
{
	return RUN(country_known, arg_text(upper_case(country))) > 0;
}

char *
check_currency(const char *currency)
{
	if (currency == NULL)
		return NULL;
	if (!is_currency(currency))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown currency \"%s\"", currency),
			 errhint(
				 "Use a code of ISO 4217 such as USD, EUR or MXN; billing.currencies lists them.")));
	return upper_case(currency);
}

char *
check_country(const char *country)
{
	if (country == NULL)
		return NULL;
	if (!is_country(country))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown country \"%s\"", country),
			 errhint(
				 "Use a two-letter code of ISO 3166-1 such as US, MX or DE; billing.countries lists them.")));
	return upper_case(country);
}

QUERY(country_sanctioned, "SELECT FROM billing.countries WHERE code = $1 AND sanctioned", TEXTOID);

bool
is_country_served(const char *country)
{
	return country == NULL || RUN(country_sanctioned, arg_text(upper_case(country))) == 0;
}

void
check_country_served(const char *country)
{
	if (!is_country_served(country))
		ereport(ERROR,
				(errcode(ERRCODE_JB_COUNTRY_REFUSED),
				 errmsg("nothing may be sold to country \"%s\"", upper_case(country)),
				 errdetail("It is sanctioned."),
				 errhint("If that is not so any more: UPDATE billing.countries SET sanctioned = "
						 "false WHERE code = '%s';",
						 upper_case(country))));
}

/* What is really an address only its mail server knows; this refuses what cannot be one. */
bool
is_email(const char *email)
{
	const char *at = strrchr(email, '@');

	return at != NULL && at != email && at[1] != '\0' && strlen(email) <= EMAIL_MAX &&
		   strpbrk(email, " \t\r\n<>,;") == NULL;
}

void
check_email(const char *email)
{
	if (email != NULL && !is_email(email))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("email is not an e-mail address"),
				 errhint("Pass a single address such as billing@example.com.")));
}

void
check_url(const char *argument, const char *url)
{
	if (url != NULL && strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s is not an address of a web page", argument),
						errhint("Pass something like https://app.example.com/done.")));
}

void
check_word(const char *argument, const char *value, const char *const *words)
{
	StringInfoData list;

	if (value == NULL)
		return;
	check_no_card(argument, value);
	initStringInfo(&list);
	for (int i = 0; words[i] != NULL; i++)
	{
		if (strcmp(value, words[i]) == 0)
			return;
		appendStringInfo(&list, "%s%s", i == 0 ? "" : ", ", words[i]);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown %s \"%s\"", argument, value),
			 errhint("It is one of: %s.", list.data)));
}

static void
check_metadata_member(const char *key, const JsonbValue *value, void *context)
{
	int *keys = context;
	char *text = json_scalar_text(value);

	if (++*keys > METADATA_MAX_KEYS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("metadata has more than %d members", METADATA_MAX_KEYS)));
	if (value->type == jbvBinary)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("member \"%s\" of metadata is an object or array", key),
						errhint("Providers keep flat metadata: text, numbers and booleans.")));
	if (pg_mbstrlen(key) > METADATA_MAX_KEY || key[0] == '\0' || strpbrk(key, "[]") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key \"%s\" of metadata cannot be used", key),
				 errhint("Keys have 1 to %d characters and no brackets.", METADATA_MAX_KEY)));
	if (text != NULL && pg_mbstrlen(text) > METADATA_MAX_VALUE)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("member \"%s\" of metadata is longer than %d characters", key,
							   METADATA_MAX_VALUE)));
}

void
check_metadata(const Jsonb *metadata)
{
	int keys = 0;

	if (metadata == NULL)
		return;
	/* the errors below would put the statement, and the number, into the log */
	check_no_card_json("metadata", metadata);
	if (!JB_ROOT_IS_OBJECT(metadata))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("metadata is not an object"),
				 errhint("Pass something like '{\"tier\": \"gold\"}'.")));
	json_visit(metadata, check_metadata_member, &keys);
}

void
unknown_object(const char *what, const char *value, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_JB_UNKNOWN_OBJECT), errmsg("unknown %s \"%s\"", what, value),
					hint == NULL ? 0 : errhint("%s", hint)));
}

char *
hint_list(const char *query)
{
	StringInfoData list;

	initStringInfo(&list);
	if (SPI_execute(query, false, 51) != SPI_OK_SELECT)
		elog(ERROR, "could not list what there is");
	for (uint64 i = 0; i < Min(SPI_processed, 50); i++)
		appendStringInfo(&list, "%s%s", i == 0 ? "" : ", ", row_text(i, 1));
	if (SPI_processed > 50)
		appendStringInfoString(&list, ", ...");
	return list.data;
}

/*-------------------------------------------------------------------------
 *
 * customer_terms.c
 *	  What may be said of a customer: the checks of its data, and what a
 *	  provider or the law lacks of it.
 *
 *-------------------------------------------------------------------------
 */
#include "customers.h"

#include "check.h"
#include "errors.h"
#include "json.h"
#include "mb/pg_wchar.h"

#define ORGANIZATION_ID_MAX 255 /* as the constraint of the table */

static const char *const tax_exempt_words[] = {"none", "exempt", "reverse", NULL};

static void
check_address(const Jsonb *address)
{
	if (address == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(address))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("address is not an object"),
			 errhint(
				 "Pass {\"line1\", \"line2\", \"city\", \"state\", \"postal_code\", \"country\"}.")));
	check_country(json_text(address, "country"));
}

static void
check_tax_ids(const Jsonb *tax_ids)
{
	if (tax_ids == NULL)
		return;
	if (!JB_ROOT_IS_ARRAY(tax_ids) || JB_ROOT_IS_SCALAR(tax_ids))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("tax_ids is not an array"),
			 errhint(
				 "Pass something like '[{\"type\": \"eu_vat\", \"value\": \"DE123456789\"}]'.")));
	for (int i = 0; i < json_length(tax_ids, ""); i++)
	{
		if (json_text(tax_ids, psprintf("%d.type", i)) == NULL ||
			json_text(tax_ids, psprintf("%d.value", i)) == NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("element %d of tax_ids has no type or no value", i)));
	}
}

static void
check_timezone(const char *timezone)
{
	if (timezone != NULL && pg_tzset(timezone) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown time zone \"%s\"", timezone),
				 errhint("Use a name such as America/Mexico_City; pg_timezone_names lists them.")));
}

/*
 * Asked before anything else: the error of any other check would put the
 * statement, and the number with it, into the log.  Tax ids of some countries
 * and phone numbers pass for card numbers now and then.
 */
void
customer_check_no_card(const CustomerTerms *terms)
{
	check_no_card("email", terms->email);
	check_no_card("name", terms->name);
	check_no_card("country", terms->country);
	check_no_card("tax_exempt", terms->tax_exempt);
	check_no_card("locale", terms->locale);
	check_no_card("currency", terms->currency);
	check_no_card("timezone", terms->timezone);
	check_no_card("description", terms->description);
	check_no_card_json("address", terms->address);
	check_no_card_json("metadata", terms->metadata);
}

/* Values of the application's table that cannot be used are left out, with a warning. */
CustomerTerms
customer_usable_terms(const CustomerTerms *given)
{
	CustomerTerms terms = *given;

	if (terms.email != NULL && !is_email(terms.email))
		terms.email = NULL;
	if (terms.country != NULL && !is_country(terms.country))
		terms.country = NULL;
	if (terms.currency != NULL && !is_currency(terms.currency))
		terms.currency = NULL;
	if (terms.email != given->email || terms.country != given->country ||
		terms.currency != given->currency)
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a value of organization \"%s\" cannot be used for billing and is left out",
						terms.organization_id),
				 errdetail("Of e-mail address, country and currency at least one is not valid.")));
	return terms;
}

void
customer_check_terms(CustomerTerms *terms)
{
	check_given("organization_id",
				terms->organization_id != NULL && terms->organization_id[0] != '\0');
	if (pg_mbstrlen(terms->organization_id) > ORGANIZATION_ID_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("organization_id is longer than %d characters", ORGANIZATION_ID_MAX),
						errhint("Pass the application's own id of the organization.")));
	check_email(terms->email);
	terms->country = check_country(terms->country);
	terms->currency = check_currency(terms->currency);
	check_word("tax_exempt", terms->tax_exempt, tax_exempt_words);
	check_timezone(terms->timezone);
	check_address(terms->address);
	check_tax_ids(terms->tax_ids);
	check_metadata(terms->metadata);
}

/* The country of the customer, else that of the address; NULL: not told. */
const char *
customer_country(const CustomerTerms *terms)
{
	return terms->country != NULL   ? terms->country
		   : terms->address != NULL ? json_text(terms->address, "country")
									: NULL;
}

/*
 * Nothing may be sold to a sanctioned country.  A statement on the
 * application's own table does not fail because of it: the row shows the
 * country, and no provider hears of a new customer.  False in that case.
 */
bool
customer_check_countries(const CustomerTerms *terms)
{
	const char *of_address = terms->address == NULL ? NULL : json_text(terms->address, "country");
	bool same = terms->country != NULL && of_address != NULL &&
				pg_strcasecmp(terms->country, of_address) == 0;

	if (!terms->lenient)
	{
		check_country_served(terms->country);
		if (!same)
			check_country_served(of_address);
		return true;
	}
	if (is_country_served(terms->country))
		return true;
	ereport(WARNING, (errcode(ERRCODE_JB_COUNTRY_REFUSED),
					  errmsg("nothing may be sold to organization \"%s\"", terms->organization_id),
					  errdetail("Country %s is sanctioned.", terms->country)));
	return false;
}

/* The terms as the provider's module sees them, to ask what is missing. */
Jsonb *
customer_terms_json(const CustomerTerms *terms)
{
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, "email", terms->email);
	json_add_text(&b, "name", terms->name);
	json_add_text(&b, "phone", terms->phone);
	json_add_json(&b, "address", customer_address(terms));
	json_add_json(&b, "tax_ids", terms->tax_ids);
	return json_close(&b);
}

/* What keeps the customer from the provider; NULL: nothing. */
const char *
customer_missing_at(const Account *account, const CustomerTerms *terms, bool served)
{
	if (!served)
		return "a country that may be sold to";
	return account_missing(account, OPERATION_CUSTOMER_CREATE, customer_terms_json(terms));
}

void
customer_refuse_missing(const Account *account, const char *missing, const char *remedy)
{
	ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
					errmsg("%s requires %s of a customer", account->provider, missing),
					errhint("%s, or name another provider.", remedy)));
}

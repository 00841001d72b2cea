/*-------------------------------------------------------------------------
 *
 * stripe_customers.c
 *	  Customers at Stripe, and their tax ids.
 *
 * Tax ids are objects of their own there: the wanted list is reached by one
 * request for each that is wrong or missing.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe_requests.h"

/* ------------------------------------------------------------------------
 * Customers
 * ------------------------------------------------------------------------
 */
static void
form_customer_terms(Form *form)
{
	form_argument(form, "email", "email");
	form_argument(form, "name", "name");
	form_argument(form, "phone", "phone");
	form_argument(form, "description", "description");
	form_address(form, "address", "address");
}

static void
build_create(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	int tax_ids = json_length(call->arguments, "tax_ids");

	form_open(&form, call);
	form_customer_terms(&form);
	for (int i = 0; i < tax_ids; i++)
	{
		form_argument(&form, psprintf("tax_id_data[%d][type]", i), psprintf("tax_ids.%d.type", i));
		form_argument(&form, psprintf("tax_id_data[%d][value]", i),
					  psprintf("tax_ids.%d.value", i));
	}
	form_argument(&form, "tax_exempt", "tax_exempt");
	form_given(&form, "preferred_locales[0]", "locale");
	form_reference(&form, call);
	stripe_post(request, "/v1/customers", &form);
}

static void
search_created(const ProviderCall *call, ProviderRequest *request)
{
	stripe_search(call, "customers", request);
}

static void
build_update(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_customer_terms(&form);
	form_argument(&form, "tax_exempt", "tax_exempt");
	form_given(&form, "preferred_locales[0]", "locale");
	form_metadata(&form);
	stripe_post(request, stripe_path(call, "customers", "customer"), &form);
}

static void
build_get(const ProviderCall *call, ProviderRequest *request)
{
	stripe_get(request, stripe_path(call, "customers", "customer"), NULL);
}

/*
 * An update that is sent twice changes nothing the second time, so "no" is
 * always a safe answer; what is compared is what is easy to compare.
 */
static bool
shows_update(const ProviderCall *call, const Jsonb *customer)
{
	static const char *const fields[] = {"email", "name", "phone", "description", "tax_exempt"};

	if (json_has(call->arguments, "address") || json_has(call->arguments, "locale") ||
		json_has(call->arguments, "metadata"))
		return false;
	for (size_t i = 0; i < lengthof(fields); i++)
	{
		if (!stripe_shows_argument(call, fields[i], json_text(customer, fields[i])))
			return false;
	}
	return true;
}

static void
build_delete(const ProviderCall *call, ProviderRequest *request)
{
	stripe_delete(request, stripe_path(call, "customers", "customer"), NULL);
}

static bool
shows_deleted(const ProviderCall *call, const Jsonb *customer)
{
	return json_bool(customer, "deleted", false);
}

static const StripeStep create = {
	.type = BILLING_CUSTOMER,
	.proof = PROOF_SEARCH,
	.makes_reference = true,
	.build = build_create,
	.build_lookup = search_created,
};

static const StripeStep update = {
	.type = BILLING_CUSTOMER,
	.argument = "customer",
	.proof = PROOF_OBJECT,
	.build = build_update,
	.build_lookup = build_get,
	.shows = shows_update,
};

static const StripeStep end = {
	.type = BILLING_CUSTOMER,
	.argument = "customer",
	.proof = PROOF_OBJECT,
	.confirms = true,
	.removes = true,
	.build = build_delete,
	.build_lookup = build_get,
	.shows = shows_deleted,
};

static const StripeStep fetch = {
	.type = BILLING_CUSTOMER,
	.argument = "customer",
	.proof = PROOF_REPEAT,
	.build = build_get,
};

/* ------------------------------------------------------------------------
 * Tax ids
 *
 * Step 0 reads what is there; each further step removes or adds the first one
 * that the step before left to do in carry {remove: [id], add: [{type value}]}.
 * ------------------------------------------------------------------------
 */
static char *
tax_ids_path(const ProviderCall *call)
{
	return psprintf("%s/tax_ids", stripe_path(call, "customers", "customer"));
}

static void
build_tax_id_list(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "limit", STRIPE_LIST_LIMIT);
	stripe_get(request, tax_ids_path(call), &form);
}

static void
build_tax_id_removal(const ProviderCall *call, ProviderRequest *request)
{
	char *removed = json_text(call->carry, "remove.0");

	stripe_delete(request, psprintf("%s/%s", tax_ids_path(call), path_part(removed, "remove")),
				  NULL);
}

static void
build_tax_id(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_add(&form, "type", json_text(call->carry, "add.0.type"));
	form_add(&form, "value", json_text(call->carry, "add.0.value"));
	stripe_post(request, tax_ids_path(call), &form);
}

/* Is {type, value} among the first count elements of the array at path? */
static bool
has_tax_id(const Jsonb *json, const char *path, int count, const char *type, const char *value)
{
	for (int i = 0; i < count; i++)
	{
		if (same_text(json_text(json, psprintf("%s.%d.type", path, i)), type) &&
			same_text(json_text(json, psprintf("%s.%d.value", path, i)), value))
			return true;
	}
	return false;
}

/* Done, or on to the next step when carry {remove, add} has something left. */
static void
continue_tax_ids(const ProviderCall *call, const Jsonb *carry, CallResult *result)
{
	if (json_length(carry, "remove") > 0 || json_length(carry, "add") > 0)
		stripe_continue(call, carry, result);
	else
		result_set_error(result, OUTCOME_DONE, NULL, NULL);
}

static void
take_tax_id_list(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	JsonBuilder carry;
	int present = json_length(list, "data");
	int wanted = json_length(call->arguments, "tax_ids");

	if (json_part(list, "data") == NULL)
	{
		stripe_set_unreadable(result);
		return;
	}
	json_open(&carry);
	json_open_array(&carry, "remove");
	for (int i = 0; i < present; i++)
	{
		char *type = json_text(list, psprintf("data.%d.type", i));
		char *value = json_text(list, psprintf("data.%d.value", i));

		if (!has_tax_id(call->arguments, "tax_ids", wanted, type, value))
			json_append_text(&carry, json_text(list, psprintf("data.%d.id", i)));
	}
	json_close_array(&carry);
	json_open_array(&carry, "add");
	for (int i = 0; i < wanted; i++)
	{
		char *type = json_text(call->arguments, psprintf("tax_ids.%d.type", i));
		char *value = json_text(call->arguments, psprintf("tax_ids.%d.value", i));

		if (!has_tax_id(list, "data", present, type, value) &&
			!has_tax_id(call->arguments, "tax_ids", i, type, value))
			json_append_json(&carry, json_part(call->arguments, psprintf("tax_ids.%d", i)));
	}
	json_close_array(&carry);
	continue_tax_ids(call, json_close(&carry), result);
}

/* The first of what was to do is done. */
static void
finish_tax_id(const ProviderCall *call, CallResult *result)
{
	JsonBuilder carry;
	int removals = json_length(call->carry, "remove");
	int additions = json_length(call->carry, "add");

	json_open(&carry);
	json_open_array(&carry, "remove");
	for (int i = 1; i < removals; i++)
		json_append_text(&carry, json_text(call->carry, psprintf("remove.%d", i)));
	json_close_array(&carry);
	json_open_array(&carry, "add");
	for (int i = removals > 0 ? 0 : 1; i < additions; i++)
		json_append_json(&carry, json_part(call->carry, psprintf("add.%d", i)));
	json_close_array(&carry);
	continue_tax_ids(call, json_close(&carry), result);
}

/* tax_id: NULL when what was to be removed is not known any more. */
static void
take_tax_id(const ProviderCall *call, const Jsonb *tax_id, CallResult *result)
{
	if (tax_id == NULL || json_text(tax_id, "id") != NULL)
		finish_tax_id(call, result);
	else
		stripe_set_unreadable(result);
}

/* Of a step whose answer was lost: is the first of what was to do done? */
static bool
tax_id_step_shows(const ProviderCall *call, const Jsonb *list)
{
	int present = json_length(list, "data");
	char *removed = json_text(call->carry, "remove.0");

	if (removed == NULL)
		return has_tax_id(list, "data", present, json_text(call->carry, "add.0.type"),
						  json_text(call->carry, "add.0.value"));
	for (int i = 0; i < present; i++)
	{
		if (same_text(json_text(list, psprintf("data.%d.id", i)), removed))
			return false;
	}
	return true;
}

static void
find_tax_id(const ProviderCall *call, const Jsonb *list, CallResult *result)
{
	if (tax_id_step_shows(call, list))
		finish_tax_id(call, result);
	else
		result->outcome = OUTCOME_ABSENT;
}

static const StripeStep read_tax_ids = {
	.type = BILLING_CUSTOMER,
	.proof = PROOF_REPEAT,
	.build = build_tax_id_list,
	.take = take_tax_id_list,
};

static const StripeStep remove_tax_id = {
	.type = BILLING_CUSTOMER,
	.proof = PROOF_LIST,
	.removes = true,
	.build = build_tax_id_removal,
	.take = take_tax_id,
	.build_lookup = build_tax_id_list,
	.found = find_tax_id,
};

static const StripeStep add_tax_id = {
	.type = BILLING_CUSTOMER,
	.proof = PROOF_LIST,
	.build = build_tax_id,
	.take = take_tax_id,
	.build_lookup = build_tax_id_list,
	.found = find_tax_id,
};

static const StripeStep *
pick_tax_id_step(const ProviderCall *call)
{
	if (call->step == 0)
		return &read_tax_ids;
	return json_length(call->carry, "remove") > 0 ? &remove_tax_id : &add_tax_id;
}

static const StripeOperation operations[] = {
	{OPERATION_CUSTOMER_CREATE, &create},
	{OPERATION_CUSTOMER_UPDATE, &update},
	{OPERATION_CUSTOMER_SET_TAX_IDS, .pick = pick_tax_id_step},
	{OPERATION_CUSTOMER_DELETE, &end},
	{OPERATION_CUSTOMER_FETCH, &fetch},
};

const StripeOperations stripe_customer_operations = {operations, lengthof(operations)};

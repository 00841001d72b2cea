/*-------------------------------------------------------------------------
 *
 * stripe_catalog.c
 *	  Plans are products at Stripe, price versions are prices.
 *
 * A price never changes its amount; all that can be done to one that is
 * published is to rename or archive it.
 *
 *-------------------------------------------------------------------------
 */
#include "stripe_requests.h"

static void
build_product_create(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_argument(&form, "name", "name");
	form_argument(&form, "description", "description");
	form_reference(&form, call);
	stripe_post(request, "/v1/products", &form);
}

static void
search_product(const ProviderCall *call, ProviderRequest *request)
{
	stripe_search(call, "products", request);
}

static const StripeStep create_product = {
	.type = BILLING_PRODUCT,
	.proof = PROOF_SEARCH,
	.makes_reference = true,
	.build = build_product_create,
	.build_lookup = search_product,
};

static void
build_product_update(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_argument(&form, "name", "name");
	form_argument(&form, "description", "description");
	form_argument(&form, "active", "active");
	stripe_post(request, stripe_path(call, "products", "product"), &form);
}

static void
get_product(const ProviderCall *call, ProviderRequest *request)
{
	stripe_get(request, stripe_path(call, "products", "product"), NULL);
}

static bool
shows_product(const ProviderCall *call, const Jsonb *product)
{
	return stripe_shows_argument(call, "name", json_text(product, "name")) &&
		   stripe_shows_argument(call, "description", json_text(product, "description")) &&
		   stripe_shows_argument(call, "active", json_text(product, "active"));
}

static const StripeStep update_product = {
	.type = BILLING_PRODUCT,
	.argument = "product",
	.proof = PROOF_OBJECT,
	.build = build_product_update,
	.build_lookup = get_product,
	.shows = shows_product,
};

static void
build_price_create(const ProviderCall *call, ProviderRequest *request)
{
	Form form;
	char *interval = json_text(call->arguments, "interval");

	form_open(&form, call);
	form_currency(&form, "currency", "currency");
	form_argument(&form, "unit_amount", "amount");
	form_argument(&form, "product", "product");
	if (interval != NULL && strcmp(interval, "one_time") != 0)
	{
		form_add(&form, "recurring[interval]", interval);
		form_argument(&form, "recurring[interval_count]", "interval_count");
	}
	form_argument(&form, "nickname", "nickname");
	form_reference(&form, call);
	stripe_post(request, "/v1/prices", &form);
}

static void
list_prices(const ProviderCall *call, ProviderRequest *request)
{
	stripe_list_children(call, "prices", "product", NULL, request);
}

static const StripeStep create_price = {
	.type = BILLING_PRICE,
	.proof = PROOF_LIST,
	.makes_reference = true,
	.build = build_price_create,
	.build_lookup = list_prices,
};

/* The name of a price here is its nickname; its plan's name is the product's. */
static void
build_price_update(const ProviderCall *call, ProviderRequest *request)
{
	Form form;

	form_open(&form, call);
	form_argument(&form, "active", "active");
	form_argument(&form, "nickname", "nickname");
	stripe_post(request, stripe_path(call, "prices", "price"), &form);
}

static void
get_price(const ProviderCall *call, ProviderRequest *request)
{
	stripe_get(request, stripe_path(call, "prices", "price"), NULL);
}

static bool
shows_price(const ProviderCall *call, const Jsonb *price)
{
	return stripe_shows_argument(call, "active", json_text(price, "active")) &&
		   stripe_shows_argument(call, "nickname", json_text(price, "nickname"));
}

static const StripeStep update_price = {
	.type = BILLING_PRICE,
	.argument = "price",
	.proof = PROOF_OBJECT,
	.build = build_price_update,
	.build_lookup = get_price,
	.shows = shows_price,
};

static const StripeOperation operations[] = {
	{OPERATION_PRODUCT_CREATE, &create_product},
	{OPERATION_PRODUCT_UPDATE, &update_product},
	{OPERATION_PRICE_CREATE, &create_price},
	{OPERATION_PRICE_UPDATE, &update_price},
};

const StripeOperations stripe_catalog_operations = {operations, lengthof(operations)};

/*-------------------------------------------------------------------------
 *
 * registry.c
 *	  Finds providers and operations by name.
 *
 * Each provider's file registers itself when the library is loaded (a
 * constructor, so before _PG_init); nothing is registered later.
 *
 *-------------------------------------------------------------------------
 */
#include "provider.h"

#define MAX_PROVIDERS 16

static const Provider *providers[MAX_PROVIDERS];
static int provider_count = 0;

/* Indexed by Operation; the names stand in the outbox and are public. */
static const char *const operation_names[OPERATION_COUNT] = {
	[OPERATION_CUSTOMER_CREATE] = "customer.create",
	[OPERATION_CUSTOMER_UPDATE] = "customer.update",
	[OPERATION_CUSTOMER_SET_TAX_IDS] = "customer.set_tax_ids",
	[OPERATION_CUSTOMER_DELETE] = "customer.delete",
	[OPERATION_PAYMENT_METHOD_ATTACH] = "payment_method.attach",
	[OPERATION_PAYMENT_METHOD_SET_DEFAULT] = "payment_method.set_default",
	[OPERATION_PAYMENT_METHOD_DETACH] = "payment_method.detach",
	[OPERATION_PRODUCT_CREATE] = "product.create",
	[OPERATION_PRICE_CREATE] = "price.create",
	[OPERATION_SUBSCRIPTION_CREATE] = "subscription.create",
	[OPERATION_SUBSCRIPTION_UPDATE] = "subscription.update",
	[OPERATION_SUBSCRIPTION_CANCEL] = "subscription.cancel",
	[OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END] = "subscription.cancel_at_period_end",
	[OPERATION_SUBSCRIPTION_UNCANCEL] = "subscription.uncancel",
	[OPERATION_SUBSCRIPTION_RESUME] = "subscription.resume",
};

static const char *const object_type_names[] = {
	[BILLING_CUSTOMER] = "customer",         [BILLING_PAYMENT_METHOD] = "payment_method",
	[BILLING_PRODUCT] = "product",           [BILLING_PRICE] = "price",
	[BILLING_SUBSCRIPTION] = "subscription", [BILLING_INVOICE] = "invoice",
};

/*
 * Runs before main() or inside dlopen(): there is no ereport here.  A
 * provider beyond the limit would be a mistake of the build, which abort()
 * shows at once.
 */
void
provider_register(const Provider *provider)
{
	if (provider_count == MAX_PROVIDERS)
		abort();
	providers[provider_count++] = provider;
}

const Provider *
provider_find(const char *name)
{
	for (int i = 0; i < provider_count; i++)
	{
		if (strcmp(providers[i]->name, name) == 0)
			return providers[i];
	}
	return NULL;
}

const char *
operation_name(Operation operation)
{
	Assert(operation < OPERATION_COUNT);
	return operation_names[operation];
}

Operation
operation_by_name(const char *name)
{
	for (int i = 0; i < OPERATION_COUNT; i++)
	{
		if (strcmp(operation_names[i], name) == 0)
			return (Operation) i;
	}
	return OPERATION_COUNT;
}

const char *
object_type_name(BillingObject type)
{
	return object_type_names[type];
}

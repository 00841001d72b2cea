/*-------------------------------------------------------------------------
 *
 * operations.c
 *	  What each operation means to its subject, in one table.
 *
 * The delivery knows requests and answers, the subjects know rows; this is
 * the only place where the two meet.
 *
 *-------------------------------------------------------------------------
 */
#include "operations.h"

#include "subjects.h"

static const OperationTraits traits[OPERATION_COUNT] = {
	[OPERATION_CUSTOMER_CREATE] = {BILLING_CUSTOMER, .holds = true, .describe = customer_describe},
	[OPERATION_CUSTOMER_UPDATE] = {BILLING_CUSTOMER, .describe = customer_describe},
	[OPERATION_CUSTOMER_SET_TAX_IDS] = {BILLING_CUSTOMER, .describe = customer_describe},
	[OPERATION_CUSTOMER_DELETE] = {BILLING_CUSTOMER, .describe = customer_describe},
	[OPERATION_PAYMENT_METHOD_ATTACH] = {BILLING_PAYMENT_METHOD,
										 .describe = payment_method_describe,
										 .refused = payment_method_refused,
										 .done = payment_method_done},
	[OPERATION_PAYMENT_METHOD_SET_DEFAULT] = {BILLING_PAYMENT_METHOD,
											  .describe = payment_method_describe,
											  .done = payment_method_done},
	[OPERATION_PAYMENT_METHOD_DETACH] = {BILLING_PAYMENT_METHOD,
										 .describe = payment_method_describe,
										 .done = payment_method_done},
	[OPERATION_PRODUCT_CREATE] = {BILLING_PRODUCT, .key = KEY_PLAN, .holds = true,
								  .describe = product_describe},
	[OPERATION_PRICE_CREATE] = {BILLING_PRICE, .key = KEY_PLAN, .holds = true,
								.describe = price_describe},
	[OPERATION_SUBSCRIPTION_CREATE] = {BILLING_SUBSCRIPTION, .holds = true,
									   .describe = subscription_describe,
									   .refused = subscription_refused},
	[OPERATION_SUBSCRIPTION_UPDATE] = {BILLING_SUBSCRIPTION, .describe = subscription_describe,
									   .refused = subscription_refused},
	[OPERATION_SUBSCRIPTION_CANCEL] = {BILLING_SUBSCRIPTION, .urgent = true,
									   .describe = subscription_describe,
									   .refused = subscription_refused},
	[OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END] = {BILLING_SUBSCRIPTION, .urgent = true,
													 .describe = subscription_describe,
													 .refused = subscription_refused},
	[OPERATION_SUBSCRIPTION_UNCANCEL] = {BILLING_SUBSCRIPTION, .describe = subscription_describe,
										 .refused = subscription_refused},
	[OPERATION_SUBSCRIPTION_RESUME] = {BILLING_SUBSCRIPTION, .describe = subscription_describe,
									   .refused = subscription_refused},
	[OPERATION_WEBHOOK_ENDPOINT_CREATE] = {BILLING_WEBHOOK_ENDPOINT, .key = KEY_ACCOUNT,
										   .describe = webhook_endpoint_describe,
										   .refused = webhook_endpoint_refused},
	[OPERATION_WEBHOOK_ENDPOINT_UPDATE] = {BILLING_WEBHOOK_ENDPOINT, .key = KEY_ACCOUNT,
										   .describe = webhook_endpoint_describe,
										   .refused = webhook_endpoint_refused},
	[OPERATION_WEBHOOK_ENDPOINT_ROTATE] = {BILLING_WEBHOOK_ENDPOINT, .key = KEY_ACCOUNT,
										   .describe = webhook_endpoint_describe,
										   .refused = webhook_endpoint_refused},
	[OPERATION_WEBHOOK_ENDPOINT_DELETE] = {BILLING_WEBHOOK_ENDPOINT, .key = KEY_ACCOUNT,
										   .describe = webhook_endpoint_describe,
										   .refused = webhook_endpoint_refused,
										   .done = webhook_endpoint_done},
	/* about the account: its object is the account's id */
	[OPERATION_WEBHOOK_ENDPOINT_LIST] = {BILLING_WEBHOOK_ENDPOINT, .key = KEY_ACCOUNT,
										 .describe = webhook_endpoint_describe,
										 .done = webhook_endpoint_done},
};

const OperationTraits *
operation_traits(Operation operation)
{
	Assert(operation < OPERATION_COUNT);
	if (traits[operation].describe == NULL)
		elog(ERROR, "operation %s belongs to no subject", operation_name(operation));
	return &traits[operation];
}

static const char *const key_kind_names[KEY_KIND_COUNT] = {
	[KEY_CUSTOMER] = "customer", [KEY_PLAN] = "plan", [KEY_ACCOUNT] = "account"};

const char *
key_kind_name(KeyKind kind)
{
	return key_kind_names[kind];
}

KeyKind
key_kind_by_name(const char *name)
{
	for (int i = 0; i < KEY_KIND_COUNT; i++)
	{
		if (strcmp(key_kind_names[i], name) == 0)
			return (KeyKind) i;
	}
	elog(ERROR, "unknown kind of key: %s", name);
}

typedef Applied (*SnapshotApplier)(const ProviderSnapshot *snapshot, const News *news,
								   const char **waiting_for);

static const SnapshotApplier appliers[BILLING_OBJECT_COUNT] = {
	[BILLING_CUSTOMER] = customer_apply,
	[BILLING_PAYMENT_METHOD] = payment_method_apply,
	[BILLING_PRODUCT] = product_apply,
	[BILLING_PRICE] = price_apply,
	[BILLING_SUBSCRIPTION] = subscription_apply,
	[BILLING_INVOICE] = invoice_apply,
	[BILLING_WEBHOOK_ENDPOINT] = webhook_endpoint_apply,
};

Applied
snapshot_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	if (appliers[snapshot->type] == NULL)
		elog(ERROR, "nothing is known of a %s", object_type_name(snapshot->type));
	return appliers[snapshot->type](snapshot, news, waiting_for);
}

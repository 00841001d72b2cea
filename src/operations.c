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
	[OPERATION_PRODUCT_CREATE] = {BILLING_PRODUCT, .on_plan = true, .holds = true,
								  .describe = product_describe},
	[OPERATION_PRICE_CREATE] = {BILLING_PRICE, .on_plan = true, .holds = true,
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
};

const OperationTraits *
operation_traits(Operation operation)
{
	Assert(operation < OPERATION_COUNT);
	return &traits[operation];
}

Applied
snapshot_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	switch (snapshot->type)
	{
		case BILLING_CUSTOMER:
			return customer_apply(snapshot, news, waiting_for);
		case BILLING_PAYMENT_METHOD:
			return payment_method_apply(snapshot, news, waiting_for);
		case BILLING_PRODUCT:
			return product_apply(snapshot, news, waiting_for);
		case BILLING_PRICE:
			return price_apply(snapshot, news, waiting_for);
		case BILLING_SUBSCRIPTION:
			return subscription_apply(snapshot, news, waiting_for);
		case BILLING_INVOICE:
			return invoice_apply(snapshot, news, waiting_for);
	}
	elog(ERROR, "unknown type of snapshot: %d", (int) snapshot->type);
}

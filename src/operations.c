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
	/* nothing of ours was told with it: its answer may be what somebody changed there */
	[OPERATION_CUSTOMER_FETCH] = {BILLING_CUSTOMER, .asks = true, .describe = customer_describe},
	[OPERATION_PAYMENT_METHOD_ATTACH] = {BILLING_PAYMENT_METHOD, .pays = true,
										 .describe = payment_method_describe,
										 .refused = payment_method_refused,
										 .done = payment_method_done},
	[OPERATION_PAYMENT_METHOD_SET_DEFAULT] = {BILLING_PAYMENT_METHOD,
											  .describe = payment_method_describe,
											  .done = payment_method_done},
	[OPERATION_PAYMENT_METHOD_DETACH] = {BILLING_PAYMENT_METHOD,
										 .describe = payment_method_describe,
										 .done = payment_method_done},
	/* about the customer: an answer tells of many methods */
	[OPERATION_PAYMENT_METHOD_LIST] = {BILLING_CUSTOMER, .asks = true,
									   .describe = payment_method_list_describe,
									   .done = payment_method_list_done},
	[OPERATION_PRODUCT_CREATE] = {BILLING_PRODUCT, .key = KEY_PLAN, .holds = true,
								  .describe = product_describe},
	[OPERATION_PRODUCT_UPDATE] = {BILLING_PRODUCT, .key = KEY_PLAN, .describe = product_describe},
	[OPERATION_PRICE_CREATE] = {BILLING_PRICE, .key = KEY_PLAN, .holds = true,
								.describe = price_describe},
	[OPERATION_PRICE_UPDATE] = {BILLING_PRICE, .key = KEY_PLAN, .describe = price_describe},
	[OPERATION_SUBSCRIPTION_CREATE] = {BILLING_SUBSCRIPTION, .holds = true, .pays = true,
									   .describe = subscription_describe,
									   .refused = subscription_refused},
	[OPERATION_SUBSCRIPTION_UPDATE] = {BILLING_SUBSCRIPTION, .pays = true,
									   .describe = subscription_describe,
									   .refused = subscription_refused},
	[OPERATION_SUBSCRIPTION_CANCEL] = {BILLING_SUBSCRIPTION, .urgent = true,
									   .describe = subscription_describe,
									   .refused = subscription_refused},
	[OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END] = {BILLING_SUBSCRIPTION, .urgent = true,
													 .describe = subscription_describe,
													 .refused = subscription_refused},
	[OPERATION_SUBSCRIPTION_UNCANCEL] = {BILLING_SUBSCRIPTION, .describe = subscription_describe,
										 .refused = subscription_refused},
	[OPERATION_SUBSCRIPTION_PAUSE] = {BILLING_SUBSCRIPTION, .describe = subscription_describe,
									  .refused = subscription_refused},
	[OPERATION_SUBSCRIPTION_RETRY_PAYMENT] = {BILLING_SUBSCRIPTION, .pays = true,
											  .describe = subscription_describe,
											  .refused = subscription_refused},
	[OPERATION_SUBSCRIPTION_FETCH] = {BILLING_SUBSCRIPTION, .asks = true,
									  .describe = subscription_describe},
	[OPERATION_SUBSCRIPTION_RESUME] = {BILLING_SUBSCRIPTION, .pays = true,
									   .describe = subscription_describe,
									   .refused = subscription_refused},
	[OPERATION_SETUP_INTENT_CREATE] = {BILLING_SETUP_INTENT, .pays = true,
									   .describe = setup_intent_describe,
									   .refused = setup_intent_refused},
	[OPERATION_SETUP_INTENT_CANCEL] = {BILLING_SETUP_INTENT, .urgent = true,
									   .describe = setup_intent_describe,
									   .refused = setup_intent_refused},
	[OPERATION_PAYMENT_INTENT_CREATE] = {BILLING_PAYMENT_INTENT, .pays = true,
										 .describe = payment_intent_describe,
										 .refused = payment_intent_refused,
										 .gone = collection_request_gone},
	[OPERATION_PAYMENT_INTENT_CONFIRM] = {BILLING_PAYMENT_INTENT, .pays = true,
										  .describe = payment_intent_describe,
										  .refused = payment_intent_refused,
										  .gone = collection_request_gone},
	[OPERATION_PAYMENT_INTENT_CAPTURE] = {BILLING_PAYMENT_INTENT, .pays = true,
										  .describe = payment_intent_describe,
										  .refused = payment_intent_refused},
	[OPERATION_PAYMENT_INTENT_CANCEL] = {BILLING_PAYMENT_INTENT, .urgent = true,
										 .describe = payment_intent_describe,
										 .refused = payment_intent_refused},
	[OPERATION_PAYMENT_INTENT_VERIFY_MICRODEPOSITS] = {BILLING_PAYMENT_INTENT, .pays = true,
													   .describe = payment_intent_describe,
													   .refused = payment_intent_refused},
	[OPERATION_PAYMENT_INTENT_FETCH] = {BILLING_PAYMENT_INTENT, .asks = true,
										.describe = payment_intent_describe},
	[OPERATION_REFUND_CREATE] = {BILLING_REFUND, .urgent = true, .describe = refund_describe,
								 .refused = refund_refused},
	[OPERATION_REFUND_CANCEL] = {BILLING_REFUND, .urgent = true, .describe = refund_describe,
								 .refused = refund_refused},
	[OPERATION_REFUND_FETCH] = {BILLING_REFUND, .asks = true, .describe = refund_describe},
	[OPERATION_DISPUTE_SUBMIT_EVIDENCE] = {BILLING_DISPUTE, .describe = dispute_describe,
										   .refused = dispute_refused},
	[OPERATION_DISPUTE_ACCEPT] = {BILLING_DISPUTE, .describe = dispute_describe,
								  .refused = dispute_refused},
	[OPERATION_DISPUTE_FETCH] = {BILLING_DISPUTE, .asks = true, .describe = dispute_describe},
	[OPERATION_DISPUTE_LIST] = {BILLING_DISPUTE, .asks = true, .key = KEY_ACCOUNT, .many = true,
								.describe = dispute_list_describe},
	[OPERATION_INVOICE_FETCH] = {BILLING_INVOICE, .asks = true, .describe = invoice_describe},
	[OPERATION_INVOICE_LIST] = {BILLING_CUSTOMER, .asks = true, .describe = invoice_list_describe},
	[OPERATION_INVOICE_FINALIZE] = {BILLING_INVOICE, .describe = invoice_describe,
									.refused = invoice_refused},
	[OPERATION_INVOICE_PAY] = {BILLING_INVOICE, .pays = true, .describe = invoice_describe,
							   .refused = invoice_refused},
	[OPERATION_INVOICE_VOID] = {BILLING_INVOICE, .describe = invoice_describe,
								.refused = invoice_refused},
	[OPERATION_INVOICE_SEND] = {BILLING_INVOICE, .describe = invoice_describe,
								.refused = invoice_refused},
	[OPERATION_INVOICE_MARK_UNCOLLECTIBLE] = {BILLING_INVOICE, .describe = invoice_describe,
											  .refused = invoice_refused},
	[OPERATION_INVOICE_DOCUMENT] = {BILLING_INVOICE, .describe = invoice_describe,
									.refused = invoice_refused},
	/* nothing follows from a page that is not made: what comes after it does not wait */
	[OPERATION_CHECKOUT_SESSION_CREATE] = {BILLING_CHECKOUT_SESSION, .describe = checkout_describe,
										   .refused = checkout_refused},
	[OPERATION_CHECKOUT_SESSION_EXPIRE] = {BILLING_CHECKOUT_SESSION, .describe = checkout_describe,
										   .refused = checkout_refused},
	[OPERATION_CHECKOUT_SESSION_FETCH] = {BILLING_CHECKOUT_SESSION, .asks = true,
										  .describe = checkout_describe,
										  .refused = checkout_refused},
	[OPERATION_PAYMENT_LINK_CREATE] = {BILLING_CHECKOUT_SESSION, .key = KEY_ACCOUNT,
									   .describe = checkout_describe, .refused = checkout_refused},
	[OPERATION_PAYMENT_LINK_CANCEL] = {BILLING_CHECKOUT_SESSION, .key = KEY_ACCOUNT,
									   .describe = checkout_describe, .refused = checkout_refused},
	[OPERATION_PORTAL_SESSION_CREATE] = {BILLING_PORTAL_SESSION, .describe = portal_describe,
										 .refused = portal_refused},
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
	[OPERATION_WEBHOOK_ENDPOINT_LIST] = {BILLING_WEBHOOK_ENDPOINT, .asks = true, .key = KEY_ACCOUNT,
										 .many = true, .describe = webhook_endpoint_describe,
										 .done = webhook_endpoint_done},
	[OPERATION_METER_CREATE] = {BILLING_METER, .key = KEY_ACCOUNT, .describe = meter_describe,
								.refused = meter_refused},
	[OPERATION_METER_FETCH] = {BILLING_METER, .asks = true, .key = KEY_ACCOUNT,
							   .describe = meter_describe, .refused = meter_refused},
	/* about some rows of usage_forwards, by their batch */
	[OPERATION_USAGE_REPORT] = {BILLING_USAGE, .describe = usage_describe, .refused = usage_refused,
								.done = usage_done},
	[OPERATION_USAGE_INGEST] = {BILLING_USAGE, .key = KEY_ACCOUNT, .describe = usage_describe,
								.refused = usage_refused, .done = usage_done},
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
	[BILLING_SETUP_INTENT] = setup_intent_apply,
	[BILLING_PAYMENT_INTENT] = payment_intent_apply,
	[BILLING_REFUND] = refund_apply,
	[BILLING_DISPUTE] = dispute_apply,
	[BILLING_CHECKOUT_SESSION] = checkout_apply,
	[BILLING_PORTAL_SESSION] = portal_apply,
	[BILLING_WEBHOOK_ENDPOINT] = webhook_endpoint_apply,
	[BILLING_METER] = meter_apply,
};

Applied
snapshot_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	if (appliers[snapshot->type] == NULL)
		elog(ERROR, "nothing is known of a %s", object_type_name(snapshot->type));
	return appliers[snapshot->type](snapshot, news, waiting_for);
}

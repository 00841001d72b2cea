/*-------------------------------------------------------------------------
 *
 * registry.c
 *	  Finds providers and operations by name; makes empty snapshots, notices and
 *	  doubts.
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
	[OPERATION_CUSTOMER_FETCH] = "customer.fetch",
	[OPERATION_PAYMENT_METHOD_ATTACH] = "payment_method.attach",
	[OPERATION_PAYMENT_METHOD_SET_DEFAULT] = "payment_method.set_default",
	[OPERATION_PAYMENT_METHOD_DETACH] = "payment_method.detach",
	[OPERATION_PAYMENT_METHOD_LIST] = "payment_method.list",
	[OPERATION_SETUP_INTENT_CREATE] = "setup_intent.create",
	[OPERATION_SETUP_INTENT_CANCEL] = "setup_intent.cancel",
	[OPERATION_PRODUCT_CREATE] = "product.create",
	[OPERATION_PRODUCT_UPDATE] = "product.update",
	[OPERATION_PRICE_CREATE] = "price.create",
	[OPERATION_PRICE_UPDATE] = "price.update",
	[OPERATION_SUBSCRIPTION_CREATE] = "subscription.create",
	[OPERATION_SUBSCRIPTION_UPDATE] = "subscription.update",
	[OPERATION_SUBSCRIPTION_CANCEL] = "subscription.cancel",
	[OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END] = "subscription.cancel_at_period_end",
	[OPERATION_SUBSCRIPTION_UNCANCEL] = "subscription.uncancel",
	[OPERATION_SUBSCRIPTION_PAUSE] = "subscription.pause",
	[OPERATION_SUBSCRIPTION_RESUME] = "subscription.resume",
	[OPERATION_SUBSCRIPTION_RETRY_PAYMENT] = "subscription.retry_payment",
	[OPERATION_SUBSCRIPTION_FETCH] = "subscription.fetch",
	[OPERATION_PAYMENT_INTENT_CREATE] = "payment_intent.create",
	[OPERATION_PAYMENT_INTENT_CONFIRM] = "payment_intent.confirm",
	[OPERATION_PAYMENT_INTENT_CAPTURE] = "payment_intent.capture",
	[OPERATION_PAYMENT_INTENT_CANCEL] = "payment_intent.cancel",
	[OPERATION_PAYMENT_INTENT_VERIFY_MICRODEPOSITS] = "payment_intent.verify_microdeposits",
	[OPERATION_PAYMENT_INTENT_FETCH] = "payment_intent.fetch",
	[OPERATION_REFUND_CREATE] = "refund.create",
	[OPERATION_REFUND_CANCEL] = "refund.cancel",
	[OPERATION_REFUND_FETCH] = "refund.fetch",
	[OPERATION_DISPUTE_SUBMIT_EVIDENCE] = "dispute.submit_evidence",
	[OPERATION_DISPUTE_ACCEPT] = "dispute.accept",
	[OPERATION_DISPUTE_FETCH] = "dispute.fetch",
	[OPERATION_DISPUTE_LIST] = "dispute.list",
	[OPERATION_CHECKOUT_SESSION_CREATE] = "checkout_session.create",
	[OPERATION_CHECKOUT_SESSION_EXPIRE] = "checkout_session.expire",
	[OPERATION_CHECKOUT_SESSION_FETCH] = "checkout_session.fetch",
	[OPERATION_PAYMENT_LINK_CREATE] = "payment_link.create",
	[OPERATION_PAYMENT_LINK_CANCEL] = "payment_link.cancel",
	[OPERATION_PORTAL_SESSION_CREATE] = "portal_session.create",
	[OPERATION_INVOICE_FETCH] = "invoice.fetch",
	[OPERATION_INVOICE_LIST] = "invoice.list",
	[OPERATION_INVOICE_FINALIZE] = "invoice.finalize",
	[OPERATION_INVOICE_PAY] = "invoice.pay",
	[OPERATION_INVOICE_VOID] = "invoice.void",
	[OPERATION_INVOICE_SEND] = "invoice.send",
	[OPERATION_INVOICE_MARK_UNCOLLECTIBLE] = "invoice.mark_uncollectible",
	[OPERATION_INVOICE_DOCUMENT] = "invoice.document",
	[OPERATION_WEBHOOK_ENDPOINT_CREATE] = "webhook_endpoint.create",
	[OPERATION_WEBHOOK_ENDPOINT_UPDATE] = "webhook_endpoint.update",
	[OPERATION_WEBHOOK_ENDPOINT_ROTATE] = "webhook_endpoint.rotate",
	[OPERATION_WEBHOOK_ENDPOINT_DELETE] = "webhook_endpoint.delete",
	[OPERATION_WEBHOOK_ENDPOINT_LIST] = "webhook_endpoint.list",
	[OPERATION_METER_CREATE] = "meter.create",
	[OPERATION_METER_FETCH] = "meter.fetch",
	[OPERATION_USAGE_REPORT] = "usage.report",
	[OPERATION_USAGE_INGEST] = "usage.ingest",
};

static const char *const object_type_names[BILLING_OBJECT_COUNT] = {
	[BILLING_CUSTOMER] = "customer",
	[BILLING_PAYMENT_METHOD] = "payment_method",
	[BILLING_PRODUCT] = "product",
	[BILLING_PRICE] = "price",
	[BILLING_SUBSCRIPTION] = "subscription",
	[BILLING_INVOICE] = "invoice",
	[BILLING_SETUP_INTENT] = "setup_intent",
	[BILLING_PAYMENT_INTENT] = "payment_intent",
	[BILLING_REFUND] = "refund",
	[BILLING_DISPUTE] = "dispute",
	[BILLING_CHECKOUT_SESSION] = "checkout_session",
	[BILLING_PORTAL_SESSION] = "portal_session",
	[BILLING_WEBHOOK_ENDPOINT] = "webhook_endpoint",
	[BILLING_METER] = "meter",
	[BILLING_USAGE] = "usage",
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

/* Zero bytes say "not told" of everything but an amount. */
ProviderSnapshot *
snapshot_new(BillingObject type, const char *provider_id, bool livemode)
{
	ProviderSnapshot *snapshot = palloc0(sizeof(ProviderSnapshot));

	snapshot->type = type;
	snapshot->provider_id = provider_id;
	snapshot->livemode = livemode;
	switch (type)
	{
		case BILLING_INVOICE:
		{
			InvoiceSnapshot *invoice = &snapshot->invoice;

			invoice->total = invoice->tax = invoice->amount_due = NO_AMOUNT;
			invoice->amount_paid = invoice->amount_remaining = NO_AMOUNT;
			break;
		}
		case BILLING_PAYMENT_INTENT:
		{
			PaymentIntentSnapshot *intent = &snapshot->payment_intent;

			intent->amount = intent->amount_capturable = NO_AMOUNT;
			intent->amount_received = intent->amount_refunded = NO_AMOUNT;
			intent->provider_tax = NO_AMOUNT;
			break;
		}
		case BILLING_REFUND:
			snapshot->refund.amount = NO_AMOUNT;
			break;
		case BILLING_DISPUTE:
			snapshot->dispute.amount = NO_AMOUNT;
			break;
		case BILLING_CHECKOUT_SESSION:
			snapshot->checkout_session.amount_total = NO_AMOUNT;
			break;
		default:
			break;
	}
	return snapshot;
}

EventNotice *
event_notice(EventReading *reading, const char *type, BillingObject object, const char *provider_id)
{
	EventNotice *notice = palloc0(sizeof(EventNotice));

	notice->type = type;
	notice->object = object;
	notice->provider_id = provider_id;
	reading->notices = lappend(reading->notices, notice);
	return notice;
}

void
event_doubt(EventReading *reading, const ProviderSnapshot *glimpse, bool begins)
{
	EventDoubt *doubt = palloc0(sizeof(EventDoubt));

	doubt->glimpse = glimpse;
	doubt->begins = begins;
	reading->doubts = lappend(reading->doubts, doubt);
}

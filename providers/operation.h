/*-------------------------------------------------------------------------
 *
 * operation.h
 *	  What a provider can be asked to do, and the arguments of each operation.
 *
 * Arguments of an operation, as build_request() finds them.  Names in
 * <angles> are the provider's own ids; a leading ? may be absent; "null" in
 * an update clears the field.  Amounts are in the provider's units of the
 * currency (the subjects convert), currency codes upper case, times unix
 * seconds.  Every creating operation also has "reference" (our uuid of the
 * object) and "organization_id" (text) to be put into the provider's metadata
 * beside the members of ?metadata.
 *
 * known[]: the provider's ids of the objects of this kind that we know already
 * (of the customer, of the payment); by it a look-up at a provider that keeps
 * neither keys nor references finds the one that is new.
 *
 * customer.create		?email ?name ?phone ?description ?address{line1 line2 city state
 *						postal_code country} ?tax_ids[{type value}] ?tax_exempt ?locale ?metadata
 * customer.update		<customer> and any of the above but tax_ids, null clears; metadata is
 *						merged, a null member removes its key (and is never null as a whole)
 * customer.set_tax_ids	<customer> tax_ids[{type value}]: the whole new list; ?name ?email ?phone
 *						?address as in customer.create (a fiscal entity carries them)
 * customer.delete		<customer>
 * customer.fetch		<customer>
 * payment_method.attach <customer> ?payment_method(token) ?type(card|us_bank_account|sepa_debit|
 *						cash_recurrent|spei_recurrent) set_default ?mandate{...} ?expires_at known[]
 *						(no token for the two _recurrent types, which are references to be paid to)
 * payment_method.set_default <customer> <payment_method>
 * payment_method.detach <payment_method> ?<customer>
 * payment_method.list	<customer>: a snapshot of each that is there
 * setup_intent.create	<customer> ?<payment_method> ?token confirm(bool) ?usage(off_session|on_session)
 *						?return_url ?mandate{type(online|offline) ?ip_address ?user_agent ?accepted_at}
 *						?description ?metadata
 * setup_intent.cancel	<setup_intent>
 * product.create		name ?description ?metadata
 * product.update		<product> ?name ?description ?active(bool)
 * price.create			?<product> name(of the plan) ?description amount currency interval
 *						interval_count ?nickname ?metadata (interval day|week|month|year|one_time)
 * price.update			<price> ?name ?nickname ?active(bool)
 * subscription.create	<customer> ?<price> amount currency interval interval_count quantity
 *						?trial_days ?trial_end ?<payment_method> due_now(bool: something has to be
 *						paid at once) ?trial_end_behavior(cancel|pause|create_invoice) ?collection_method
 *						(charge_automatically|send_invoice) ?days_until_due ?cancel_at ?billing_anchor
 *						?off_session ?all_or_nothing(bool: no subscription when the payment fails)
 *						?coupon(the provider's id) ?automatic_tax(bool) ?metadata known[]
 * subscription.update	<subscription> ?<customer> ?<item> ?<price> (?amount ?currency ?interval
 *						?interval_count) ?quantity proration_behavior(create_prorations|none|
 *						always_invoice) ?effective(now|period_end) ?proration_date ?<payment_method>
 *						?trial_end ?cancel_at ?coupon
 * subscription.cancel	<subscription> ?<customer> ?prorate ?invoice_now ?reason ?comment
 * subscription.cancel_at_period_end <subscription> ?<customer> ?reason ?comment
 * subscription.uncancel <subscription> ?<customer>
 * subscription.pause	<subscription> ?<customer> at_period_end(bool) ?resumes_at
 *						?behavior(void|keep_as_draft|mark_uncollectible)
 * subscription.resume	<subscription> ?<customer> provider_status
 * subscription.retry_payment <subscription> ?<customer> ?<invoice> ?<payment_method>
 * subscription.fetch	<subscription> ?<customer>
 * payment_intent.create <customer> amount currency ?method(card|oxxo|spei|us_bank_account|
 *						sepa_debit|...; absent: what the account offers) ?<payment_method>
 *						(attached) ?token (used once, not attached) confirm(bool) ?off_session
 *						?capture_method(automatic|manual) ?installments(months) ?expires_at
 *						?line_items[{name amount quantity ?description ?<product>}] ?tax_lines[{description
 *						amount}] ?description ?statement_descriptor_suffix ?receipt_email ?return_url
 *						?setup_future_usage(on_session|off_session) ?mandate{as above} ?metadata
 *						?billing_details{?name ?email ?phone} (who pays; a voucher may need it)
 *						(the sum of lines and tax_lines is amount)
 * payment_intent.confirm <payment_intent> amount currency ?method ?<payment_method> ?token
 *						?return_url ?off_session ?installments ?expires_at ?mandate known[](of charges)
 *						?billing_details{as above}
 * payment_intent.capture <payment_intent> ?amount
 * payment_intent.cancel <payment_intent> ?reason(duplicate|fraudulent|requested_by_customer|abandoned)
 * payment_intent.verify_microdeposits <payment_intent> ?amounts[] ?descriptor_code
 * payment_intent.fetch	<payment_intent>
 * refund.create		<payment_intent> ?<charge> amount whole(bool: all that was paid) currency
 *						?reason(requested_by_customer|duplicate|fraudulent|service_disruption|
 *						satisfaction_guarantee|other) ?description refunded_before(amount already
 *						refunded or on its way) ?metadata known[]
 * refund.cancel		<refund> <payment_intent>
 * refund.fetch			<refund> ?<payment_intent>
 * dispute.submit_evidence <dispute> evidence{field: text} submit(bool)
 * dispute.accept		<dispute>
 * dispute.fetch		<dispute>
 * dispute.list			?since(unix seconds): a snapshot of each
 * checkout_session.create mode(payment|subscription|setup) <customer> line_items[{?<price> ?<product>
 *						?name ?amount ?currency ?interval ?interval_count quantity ?description}]
 *						currency amount(sum) success_url ?cancel_url ?trial_days ?methods[] ?installments[]
 *						?coupon ?allow_promotion_codes ?collect_tax_id ?automatic_tax ?tax_lines ?locale
 *						?expires_at ?<subscription>(to be upgraded) ?subscription_reference(our uuid of the
 *						subscription that it makes) ?payment_reference(our uuid of the payment intent)
 *						?tax_added(bool: the amounts are without the tax that the provider adds as the seller) ?metadata
 * checkout_session.expire <checkout_session>
 * checkout_session.fetch <checkout_session>
 * payment_link.create	name line_items[as above] currency amount ?methods[] ?installments[] ?expires_at
 *						?success_url ?max_payments(int) ?metadata
 * payment_link.cancel	<checkout_session>
 * portal_session.create <customer> ?<subscription> ?return_url ?locale
 * invoice.fetch		<invoice>
 * invoice.list			<customer> ?<subscription>: a snapshot of each
 * invoice.finalize, invoice.pay (?<payment_method>), invoice.void, invoice.send,
 * invoice.mark_uncollectible <invoice>
 * invoice.document		<invoice>: makes the PDF where that takes a request, and tells its URL
 * webhook_endpoint.create url events[](empty: all that we read) ?description
 * webhook_endpoint.update <webhook_endpoint> ?url ?enabled(bool) ?events[]
 * webhook_endpoint.rotate <webhook_endpoint> url events[]: a new secret
 * webhook_endpoint.delete <webhook_endpoint>
 * webhook_endpoint.list: a snapshot of each
 * meter.create			name event_name aggregation(sum|latest): a meter that is told of by one of
 *						the next two, by a value for each hour
 * meter.fetch			<meter> event_name aggregation
 * usage.report			<customer> ?<meter> event_name quantity(decimal, as text) at(the hour begins)
 *						identifier: what the hour comes to; it takes the place of what was reported
 *						of this hour before, also when it is sent twice
 * usage.ingest			events[{<customer> event_name quantity at identifier}]: how much more, or less,
 *						it has become; each identifier is counted once there
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_OPERATION_H
#define JANUA_OPERATION_H

typedef enum Operation
{
	OPERATION_CUSTOMER_CREATE,
	OPERATION_CUSTOMER_UPDATE,
	OPERATION_CUSTOMER_SET_TAX_IDS,
	OPERATION_CUSTOMER_DELETE,
	OPERATION_CUSTOMER_FETCH,
	OPERATION_PAYMENT_METHOD_ATTACH,
	OPERATION_PAYMENT_METHOD_SET_DEFAULT,
	OPERATION_PAYMENT_METHOD_DETACH,
	OPERATION_PAYMENT_METHOD_LIST,
	OPERATION_SETUP_INTENT_CREATE,
	OPERATION_SETUP_INTENT_CANCEL,
	OPERATION_PRODUCT_CREATE,
	OPERATION_PRODUCT_UPDATE,
	OPERATION_PRICE_CREATE,
	OPERATION_PRICE_UPDATE,
	OPERATION_SUBSCRIPTION_CREATE,
	OPERATION_SUBSCRIPTION_UPDATE,
	OPERATION_SUBSCRIPTION_CANCEL,
	OPERATION_SUBSCRIPTION_CANCEL_AT_PERIOD_END,
	OPERATION_SUBSCRIPTION_UNCANCEL,
	OPERATION_SUBSCRIPTION_PAUSE,
	OPERATION_SUBSCRIPTION_RESUME,
	OPERATION_SUBSCRIPTION_RETRY_PAYMENT,
	OPERATION_SUBSCRIPTION_FETCH,
	OPERATION_PAYMENT_INTENT_CREATE,
	OPERATION_PAYMENT_INTENT_CONFIRM,
	OPERATION_PAYMENT_INTENT_CAPTURE,
	OPERATION_PAYMENT_INTENT_CANCEL,
	OPERATION_PAYMENT_INTENT_VERIFY_MICRODEPOSITS,
	OPERATION_PAYMENT_INTENT_FETCH,
	OPERATION_REFUND_CREATE,
	OPERATION_REFUND_CANCEL,
	OPERATION_REFUND_FETCH,
	OPERATION_DISPUTE_SUBMIT_EVIDENCE,
	OPERATION_DISPUTE_ACCEPT,
	OPERATION_DISPUTE_FETCH,
	OPERATION_DISPUTE_LIST,
	OPERATION_CHECKOUT_SESSION_CREATE,
	OPERATION_CHECKOUT_SESSION_EXPIRE,
	OPERATION_CHECKOUT_SESSION_FETCH,
	OPERATION_PAYMENT_LINK_CREATE,
	OPERATION_PAYMENT_LINK_CANCEL,
	OPERATION_PORTAL_SESSION_CREATE,
	OPERATION_INVOICE_FETCH,
	OPERATION_INVOICE_LIST,
	OPERATION_INVOICE_FINALIZE,
	OPERATION_INVOICE_PAY,
	OPERATION_INVOICE_VOID,
	OPERATION_INVOICE_SEND,
	OPERATION_INVOICE_MARK_UNCOLLECTIBLE,
	OPERATION_INVOICE_DOCUMENT,
	OPERATION_WEBHOOK_ENDPOINT_CREATE,
	OPERATION_WEBHOOK_ENDPOINT_UPDATE,
	OPERATION_WEBHOOK_ENDPOINT_ROTATE,
	OPERATION_WEBHOOK_ENDPOINT_DELETE,
	OPERATION_WEBHOOK_ENDPOINT_LIST,
	OPERATION_METER_CREATE,
	OPERATION_METER_FETCH,
	OPERATION_USAGE_REPORT,
	OPERATION_USAGE_INGEST,
	OPERATION_COUNT
} Operation;

/* "customer.create" and back; OPERATION_COUNT when there is no such operation. */
extern const char *operation_name(Operation operation);
extern Operation operation_by_name(const char *name);

#endif /* JANUA_OPERATION_H */

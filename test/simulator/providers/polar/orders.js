// Polar: orders and the payments for them. An order comes from a checkout, from a subscription's cycle, or
// is drafted by the seller and charged to a saved method by finalize.

import { Answer } from '../../core/json_provider.js';
import { HIDDEN, ORGANIZATION, checkMetadata, holds, holdsMetadata, invalidBody, missing, newId, page, pick, refused } from './store.js';

const PRODUCT = [
  'metadata', 'id', 'created_at', 'modified_at', 'trial_interval', 'trial_interval_count', 'name', 'description', 'visibility', 'recurring_interval', 'recurring_interval_count',
  'meter_interval', 'meter_interval_count', 'is_recurring', 'is_archived', 'organization_id',
];

export class Orders {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
    this.store.views.orders = (o) => this.#view(o);
  }

  #view(order) {
    const { refunded_amount: refunded, refunded_tax_amount: refundedTax } = order;
    const open = this.provider.refunds.pendingOf(order.id);
    const product = this.store.find('products', order.product_id);
    return {
      ...order, paid: ['paid', 'refunded', 'partially_refunded'].includes(order.status),
      is_invoice_generated: order[HIDDEN].invoiceAt !== null && order[HIDDEN].invoiceAt <= Date.now(),
      refundable_amount: order.net_amount - refunded - open.amount, refundable_tax_amount: order.tax_amount - refundedTax - open.tax_amount,
      customer: this.store.find('customers', order.customer_id), product: product ? pick(product, PRODUCT) : null, discount: this.provider.discounts.shown(order.discount_id),
      subscription: order.subscription_id && this.provider.subscriptions.brief(order.subscription_id),
    };
  }

  // amount: what it costs before discount and tax. items: [{label, amount, proration?, product_price_id?}], else one of the product.
  insert({ customer, product, amount, currency, billing_reason: reason, status, subscription = null, checkout = null, metadata = {}, description, items, seats = null, discount = null, tax_behavior: behavior = null }) {
    const off = this.provider.discounts.off(discount, amount);
    const { net_amount: net, tax_amount: tax, total_amount: total } = this.provider.catalog.withTax(amount - off, behavior);
    const price = product && this.provider.catalog.priceOf(product, currency);
    const lines = items ?? [{ label: product.name, amount, product_price_id: price?.id ?? null }];
    return this.store.create('orders', {
      status: total === 0 && status === 'pending' ? 'paid' : status, subtotal_amount: amount, discount_amount: off, net_amount: net, tax_amount: tax, total_amount: total,
      applied_balance_amount: 0, due_amount: total, refunded_amount: 0,
      refunded_tax_amount: 0, currency, billing_reason: reason, billing_name: customer.billing_name, billing_address: customer.billing_address,
      invoice_number: status === 'draft' ? null : this.#invoiceNumber(), is_invoice_generated: false, receipt_number: null, seats, customer_id: customer.id,
      product_id: product?.id ?? null, discount_id: discount, subscription_id: subscription, checkout_id: checkout, next_payment_attempt_at: null, metadata: { ...metadata },
      platform_fee_amount: 0, platform_fee_currency: null, description: description ?? product.name,
      items: lines.map((line, i) => ({
        created_at: this.store.stamp(), modified_at: null, id: newId(), label: line.label, amount: line.amount, tax_amount: i === 0 ? tax : 0, proration: line.proration ?? false,
        product_price_id: line.product_price_id ?? null,
      })),
      [HIDDEN]: { invoiceAt: null },
    });
  }

  #invoiceNumber() {
    this.store.counters.polarInvoice = (this.store.counters.polarInvoice ?? 0) + 1;
    return `SIM-${String(this.store.counters.polarInvoice).padStart(4, '0')}`;
  }

  // What Polar keeps, known when the money is there; in the currency that it pays out.
  #feeOf({ amount, currency }) {
    const { fee_percent: percent, fee_fixed: fixed, payout_currency: payout } = this.provider.settings;
    return { platform_fee_amount: fixed + Math.round((amount * percent) / 100), platform_fee_currency: payout ?? currency };
  }

  // ---- payments ----

  does(method) {
    return this.provider.settings.card_outcomes[method.id] ?? method[HIDDEN].does;
  }

  // One attempt to take the order's due amount from a saved method. -> null, or why it failed.
  attempt(order, method, trigger) {
    const does = this.does(method);
    const failed = does === 'pay' ? null : does === 'authenticate' ? 'authentication_required' : 'card_declined';
    const payment = this.store.create('payments', {
      processor: 'stripe', status: failed ? 'failed' : 'succeeded', amount: order.due_amount, currency: order.currency, method: method.type, trigger,
      decline_reason: failed, decline_message: failed && 'Your card was declined.', organization_id: ORGANIZATION, checkout_id: order.checkout_id, order_id: order.id,
      ...(method.type === 'card' && { method_metadata: pick(method.method_metadata, ['brand', 'last4']) }), [HIDDEN]: { customer: order.customer_id },
    });
    if (!failed) this.store.set('orders', order.id, { ...this.#feeOf(payment), status: 'paid', due_amount: 0, next_payment_attempt_at: null, receipt_number: `RCP-${payment.id.slice(0, 8)}` });
    return failed;
  }

  paid(id) {
    const order = this.store.find('orders', id);
    this.store.emit('order.updated', order);
    this.store.emit('order.paid', order);
  }

  // The method that pays without the customer being there: the one named, else the default one.
  methodOf(customer, id) {
    const wanted = id ?? customer.default_payment_method_id;
    const method = wanted && this.store.find('payment_methods', wanted);
    return method && !method.deleted && method.customer_id === customer.id ? method : null;
  }

  listPayments({ query }) {
    const found = this.store.newest('payments').filter((p) => holds(query.order_id, p.order_id) && holds(query.checkout_id, p.checkout_id) && holds(query.status, p.status)
      && holds(query.method, p.method) && holds(query.customer_id, p[HIDDEN].customer));
    if (query.customer_email !== undefined) this.provider.notImitated('the filter customer_email of payments');
    return page(found, query);
  }

  readPayment({ ids: [id] }) {
    return this.store.get('payments', id);
  }

  // ---- the calls ----

  create({ body }) {
    const metadata = checkMetadata(body.metadata);
    const customer = this.store.named('customers', body.customer_id, 'customer_id');
    const product = this.provider.catalog.sellable(body.product_id, 'product_id');
    if (product.is_recurring) throw invalidBody('product_id', 'Only one-time products can be ordered.');
    const price = this.provider.catalog.priceOf(product, body.currency) ?? (body.amount !== undefined && body.amount !== null ? product.prices[0] : null);
    if (!price) throw invalidBody('currency', 'The product has no price in this currency.');
    const amount = body.amount ?? this.provider.catalog.amountOf(price);
    if (!(amount >= 0)) throw invalidBody('amount', 'Input should be greater than or equal to 0');
    const order = this.insert({
      customer, product, amount, currency: (body.currency ?? price.price_currency).toLowerCase(), billing_reason: 'purchase', status: 'draft', metadata, description: body.description ?? undefined,
    });
    this.store.emit('order.created', order);
    return new Answer(201, this.store.show(order));
  }

  // Charges the saved method while the caller waits. A declined charge leaves the draft as it was.
  finalize({ ids: [id], body }) {
    const order = this.store.get('orders', id);
    if (order.status !== 'draft') throw refused(412, 'OrderNotDraft', 'The order is not in draft status.');
    if (!this.provider.settings.off_session_charges) throw refused(403, 'OffSessionChargesNotEnabled', 'Off-session charges are not enabled for this organization.');
    const customer = this.store.find('customers', order.customer_id);
    if (body.payment_method_id && !this.methodOf(customer, body.payment_method_id)) throw invalidBody('payment_method_id', 'Payment method does not exist.');
    const method = this.methodOf(customer, body.payment_method_id);
    if (!method) throw invalidBody('payment_method_id', 'The customer has no payment method.');
    const failed = this.attempt(order, method, 'purchase');
    if (failed === 'authentication_required') throw refused(402, 'PaymentActionRequired', 'The payment requires the customer to act.');
    if (failed) throw refused(402, 'PaymentFailed', 'Your card was declined.');
    this.store.set('orders', id, { invoice_number: this.#invoiceNumber() });
    this.paid(id);
    return this.store.show(this.store.find('orders', id));
  }

  list({ query }) {
    const external = query.external_customer_id;
    const found = this.store.newest('orders').filter((o) => holds(query.customer_id, o.customer_id) && holds(query.product_id, o.product_id) && holds(query.subscription_id, o.subscription_id)
      && holds(query.checkout_id, o.checkout_id) && holds(query.discount_id, o.discount_id) && holds(query.status, o.status) && holds(external, o.customer.external_id) && holdsMetadata(query.metadata, o.metadata)
      && (!query.created_after || Date.parse(o.created_at) >= Date.parse(query.created_after)) && (!query.created_before || Date.parse(o.created_at) <= Date.parse(query.created_before)));
    if (query.product_billing_type !== undefined) this.provider.notImitated('the filter product_billing_type of orders');
    return page(found, query);
  }

  read({ ids: [id] }) {
    return this.store.show(this.store.get('orders', id));
  }

  update({ ids: [id], body }) {
    const order = this.store.get('orders', id);
    if (order[HIDDEN].invoiceAt !== null) throw invalidBody('billing_address', 'The invoice has been generated already.');
    const after = this.store.set('orders', id, pick(body, ['billing_name', 'billing_address']));
    this.store.emit('order.updated', after);
    return this.store.show(after);
  }

  generateInvoice({ ids: [id] }) {
    const order = this.store.get('orders', id);
    if (!this.store.show(order).paid) throw refused(409, 'OrderNotEligibleForInvoice', 'The order is not eligible for an invoice.');
    if (!order.billing_name || !order.billing_address) throw refused(422, 'MissingInvoiceBillingDetails', 'Billing name and address are required to generate an invoice.');
    const lag = this.provider.settings.invoice_lag_ms;
    order[HIDDEN].invoiceAt ??= Date.now() + lag;
    if (lag === 0) this.store.emit('order.updated', order);
    return new Answer(202, null);
  }

  readInvoice({ ids: [id] }) {
    const order = this.store.show(this.store.get('orders', id));
    if (!order.is_invoice_generated) throw missing();
    return { url: `https://invoices.example.com/${order.invoice_number}.pdf?signature=${id.slice(0, 8)}` };
  }

  readReceipt({ ids: [id] }) {
    const order = this.store.get('orders', id);
    if (order.receipt_number === null) throw missing();
    return { url: `https://receipts.example.com/${order.receipt_number}.pdf` };
  }

  // By the control API: the seller gives an unpaid order up.
  void({ order: id }) {
    const order = this.store.get('orders', id);
    if (!['draft', 'pending'].includes(order.status)) throw invalidBody('order', `The order is ${order.status}.`);
    const after = this.store.set('orders', id, { status: 'void', due_amount: 0, next_payment_attempt_at: null });
    this.store.emit('order.updated', after);
    return this.store.show(after);
  }
}

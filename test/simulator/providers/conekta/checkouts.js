// Conekta: hosted checkouts, inside an order (HostedPayment, Integration) or as links of their own
// (PaymentLink), from which any number of orders may come.

import { randomUUID } from 'node:crypto';
import { HIDDEN, invalid, missing, page, pick, precondition } from './store.js';

const DAY = 86400;
const METHODS = ['cash', 'card', 'bank_transfer', 'bnpl', 'pay_by_bank', 'apple', 'google'];

const FIELDS = [
  'name', 'type', 'expires_at', 'success_url', 'failure_url', 'redirection_time', 'monthly_installments_enabled', 'monthly_installments_options', 'max_failed_retries',
  'needs_shipping_contact', 'on_demand_enabled', 'force_save_card', 'recurrent', 'payments_limit_count', 'plan_ids', 'excluded_payment_methods', 'exclude_card_networks',
];

export class Checkouts {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
  }

  #insert(body, hidden) {
    const now = this.store.clock.now();
    const methods = body.allowed_payment_methods ?? ['cash', 'card', 'bank_transfer'];
    for (const method of methods) if (!METHODS.includes(method)) throw invalid(`The payment method "${method}" is not valid.`, 'allowed_payment_methods', 'checkout.allowed_payment_methods');
    if (body.monthly_installments_options?.some((n) => ![3, 6, 9, 12, 18, 24].includes(n))) throw invalid('These instalments are not offered.', 'monthly_installments_options', 'checkout.monthly_installments_options');
    const expires = body.expires_at ?? now + 3 * DAY;
    if (expires < now + 300 || expires > now + 365 * DAY) throw invalid('expires_at has to be from 5 minutes to 365 days ahead.', 'expires_at', 'checkout.expires_at');
    for (const plan of body.plan_ids ?? []) this.provider.subscriptions.plan(plan);
    const id = randomUUID();
    const slug = id.replaceAll('-', '');
    return this.store.insert('checkouts', {
      id, object: 'checkout', name: '', type: 'HostedPayment', livemode: false, status: 'Issued', slug, url: `https://pay.conekta.com/${hidden.order ? 'checkout' : 'link'}/${slug}`,
      can_not_expire: false, emails_sent: 0, exclude_card_networks: [], expires_at: expires, force_3ds_flow: false, is_redirect_on_failure: false, metadata: {},
      monthly_installments_enabled: false, monthly_installments_options: [], needs_shipping_contact: false, paid_payments_count: 0, recurrent: false, sms_sent: 0,
      starts_at: now, ...pick(body, FIELDS), allowed_payment_methods: methods, [HIDDEN]: hidden,
    });
  }

  forOrder(order, body) {
    if (body.type === 'HostedPayment' && !body.success_url) throw invalid('success_url is missing.', 'checkout.success_url', 'checkout.success_url.missing');
    const checkout = this.#insert({ name: 'ord', ...body }, { order: order.id });
    order[HIDDEN].checkout = checkout.id;
    this.store.change('orders', order.id, {
      channel: { id: `channel_${order.id.slice(4)}`, segment: 'Checkout', checkout_request_id: checkout.id, checkout_request_type: checkout.type },
    });
  }

  create({ body }) {
    if (body.type !== 'PaymentLink') throw invalid(`The type "${body.type}" is not valid.`, 'type', 'checkout.type');
    const customer = body.order_template.customer_info?.customer_id;
    if (customer !== undefined) this.provider.customers.get(customer);
    return this.#insert(body, { order: null, template: body.order_template, orders: [] });
  }

  list({ query, base }) {
    return page(this.store.newest('checkouts').filter((c) => c.type === 'PaymentLink'), query, { base, path: '/checkouts' });
  }

  get(id) {
    const checkout = this.store.find('checkouts', id);
    if (!checkout) throw missing('Checkout', id);
    return checkout;
  }

  read({ ids: [id] }) {
    return this.get(id);
  }

  cancel({ ids: [id] }) {
    if (this.get(id).status !== 'Issued') throw precondition(`The checkout is ${this.get(id).status}.`, 'checkout.cannot_be_canceled');
    return this.close(id, 'Cancelled');
  }

  email({ ids: [id] }) {
    const { emails_sent: sent } = this.get(id);
    return this.store.change('checkouts', id, { emails_sent: sent + 1 });
  }

  close(id, status) {
    return this.store.change('checkouts', id, { status });
  }

  // The buyer fills the page in. method: card (paid at once, by `token`), cash or bank_transfer (a
  // reference to be paid); a link makes an order, and with plan_ids a subscription of a new customer.
  complete({ id, method = 'card', token = `tok_test_visa_4242_${randomUUID().slice(0, 8)}`, installments, plan, customer_info: buyer }) {
    const checkout = this.#open(id);
    if (!checkout.allowed_payment_methods.includes(method)) throw invalid(`The checkout does not take ${method}.`, 'method', 'checkout.method');
    if (checkout.plan_ids?.length) return this.#subscribe(checkout, token, plan ?? checkout.plan_ids[0], buyer);
    const order = checkout[HIDDEN].order ? this.provider.orders.get(checkout[HIDDEN].order) : this.#orderOf(checkout, buyer);
    const payment = method === 'card' ? { type: 'card', token_id: token, ...(installments && { monthly_installments: installments }) } : { type: method === 'cash' ? 'cash' : 'spei' };
    this.provider.orders.checkMethod(payment, order.amount, order.customer_info.customer_id);
    const { decline } = this.provider.orders.charge(order.id, { payment_method: payment });
    const paid = method === 'card' && !decline;
    if (paid) this.paid(checkout.id);
    return this.store.show(this.provider.orders.get(order.id));
  }

  #open(id) {
    const order = id.startsWith('ord_') && this.provider.orders.get(id);
    const checkout = this.get(order ? order[HIDDEN].checkout : id);
    if (checkout.status !== 'Issued') throw precondition(`The checkout is ${checkout.status}.`, 'checkout.not_open');
    return checkout;
  }

  #orderOf(checkout, buyer = { name: 'Buyer', email: 'buyer@example.com', phone: '+5215555555555' }) {
    const template = checkout[HIDDEN].template;
    const given = template.customer_info ?? buyer;
    const customer = given.customer_id ? this.provider.customers.get(given.customer_id) : null;
    const info = customer
      ? { object: 'customer_info', customer_id: customer.id, name: customer.name, email: customer.email, phone: customer.phone, corporate: customer.corporate, customer_custom_reference: customer.custom_reference || null }
      : { object: 'customer_info', corporate: false, customer_custom_reference: null, ...given };
    const sum = (lines = []) => lines.reduce((total, l) => total + (l.amount ?? l.unit_price * l.quantity), 0);
    const amount = sum(template.line_items) + sum(template.tax_lines) - sum(template.discount_lines);
    const channel = { id: `channel_${checkout.slug.slice(0, 17)}`, segment: 'Checkout', checkout_request_id: checkout.id, checkout_request_type: checkout.type };
    const order = this.provider.orders.insert(template, info, amount, { channel });
    checkout[HIDDEN].orders.push(order.id);
    order[HIDDEN].link = checkout.id;
    this.store.emit('order.created', order);
    return order;
  }

  #subscribe(checkout, token, plan, buyer) {
    const order = checkout[HIDDEN].order && this.provider.orders.get(checkout[HIDDEN].order);
    const info = order?.customer_info ?? checkout[HIDDEN].template?.customer_info ?? buyer ?? { name: 'Buyer', email: 'buyer@example.com', phone: '+5215555555555' };
    const id = info.customer_id ?? this.provider.customers.create({ body: pick(info, ['name', 'email', 'phone']) }).id;
    const source = this.provider.customers.createSource({ ids: [id], body: { type: 'card', token_id: token } });
    const subscription = this.provider.subscriptions.create({ ids: [id], body: { plan_id: plan, card_id: source.id } });
    this.paid(checkout.id);
    return subscription;
  }

  // One payment more; a page or a link that allows no further one is closed.
  paid(id) {
    const checkout = this.get(id);
    const count = checkout.paid_payments_count + 1;
    const full = checkout[HIDDEN].order !== null || !checkout.recurrent || (checkout.payments_limit_count && count >= checkout.payments_limit_count);
    this.store.change('checkouts', id, { paid_payments_count: count, ...(full && { status: 'Finalized' }) });
  }

  expire(id) {
    const { [HIDDEN]: { order } } = this.close(id, 'Expired');
    if (order === null || this.provider.orders.get(order).payment_status !== undefined) return;
    const after = this.store.change('orders', order, { payment_status: 'expired', updated_at: this.store.clock.now() });
    this.store.emit('order.expired', after);
  }

  *dueWork() {
    for (const { id, status, expires_at: at } of this.store.newestFirst('checkouts')) if (status === 'Issued') yield { at, run: () => this.expire(id) };
  }
}

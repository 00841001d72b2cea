// Polar: checkouts and the links that open them. The buyer's part is done by actions of the control API:
// confirm, complete (which makes customer, payment method, order and subscription) and expire.

import { addIntervals } from '../../core/clock.js';
import { Answer } from '../../core/json_provider.js';
import { HIDDEN, ORGANIZATION, checkMetadata, holds, invalidBody, iso, page, pick, randomText, refused, seconds } from './store.js';

const HOUR = 3600;
const MODES = { country: 'required', state: 'disabled', city: 'disabled', postal_code: 'disabled', line1: 'disabled', line2: 'disabled' };

const CUSTOMER_FIELDS = [
  'customer_name', 'customer_email', 'customer_ip_address', 'customer_billing_name', 'customer_billing_address', 'customer_tax_id', 'locale', 'is_business_customer',
  'customer_metadata',
];

const OTHER_FIELDS = [
  'return_url', 'embed_origin', 'allow_discount_codes', 'require_billing_address', 'allow_trial', 'trial_interval', 'trial_interval_count', 'custom_field_data', 'success_url',
];

const LINK_FIELDS = ['label', 'allow_discount_codes', 'require_billing_address', 'seats', 'success_url', 'return_url', 'trial_interval', 'trial_interval_count'];

const briefProduct = ({ metadata, attached_custom_fields, ...product }) => product;

export class Checkouts {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
    this.store.views.checkouts = (c) => this.#view(c);
    this.store.views.checkout_links = (l) => ({ ...l, products: l[HIDDEN].products.map((id) => this.store.find('products', id)), discount: this.provider.discounts.shown(l.discount_id) });
  }

  // ---- checkouts ----

  create({ body }) {
    return new Answer(201, this.store.show(this.open(body)));
  }

  open(body) {
    const metadata = checkMetadata(body.metadata);
    const discount = this.provider.discounts.named(body.discount_id);
    if (body.products.length === 0) throw invalidBody('products', 'At least one product is required.');
    const products = body.products.map((id) => this.provider.catalog.sellable(id, 'products'));
    const customer = this.#customer(body);
    const upgraded = body.subscription_id ? this.store.named('subscriptions', body.subscription_id, 'subscription_id') : null;
    if (upgraded && upgraded.amount > 0) throw invalidBody('subscription_id', 'Only free subscriptions can be upgraded.');
    const secret = `polar_c_${randomText(43)}`;
    const prices = Object.fromEntries(Object.entries(body.prices ?? {}).map(([id, list]) => [id, list.map((price) => this.provider.catalog.adHocPrice(price, id))]));
    const checkout = this.store.create('checkouts', {
      payment_processor: 'stripe', status: 'open', client_secret: secret, url: `https://sandbox.polar.sh/checkout/${secret}`, expires_at: iso(this.store.clock.now() + HOUR),
      return_url: null, embed_origin: null, seats: null, min_seats: null, max_seats: null, tax_behavior: 'exclusive', organization_id: ORGANIZATION, discount_id: discount?.id ?? null,
      allow_discount_codes: true, require_billing_address: false, is_discount_applicable: true, customer_id: customer?.id ?? null, is_business_customer: false, customer_name: customer?.name ?? null,
      customer_email: customer?.email ?? null, customer_ip_address: null, customer_billing_name: null, customer_billing_address: customer?.billing_address ?? null,
      customer_tax_id: customer?.tax_id?.[0] ?? null, payment_method_type: null, payment_processor_metadata: {}, allow_trial: true, trial_interval: null, trial_interval_count: null,
      external_customer_id: body.external_customer_id ?? customer?.external_id ?? null, subscription_id: body.subscription_id ?? null, customer_metadata: {},
      ...pick(body, [...CUSTOMER_FIELDS, ...OTHER_FIELDS, 'seats', 'min_seats', 'max_seats']), metadata,
      [HIDDEN]: { products: products.map((p) => p.id), prices: body.prices ? prices : null, amount: body.amount, currency: body.currency },
    });
    const success = (body.success_url ?? 'https://sandbox.polar.sh/checkout/{CHECKOUT_ID}/confirmation').replaceAll('{CHECKOUT_ID}', checkout.id);
    const whole = this.store.change('checkouts', checkout.id, { success_url: success, ...this.#choose(checkout, products[0].id) });
    this.store.emit('checkout.created', whole);
    return whole;
  }

  #customer(body) {
    if (body.customer_id) return this.store.named('customers', body.customer_id, 'customer_id');
    if (!body.external_customer_id) return null;
    for (const customer of this.store.newestFirst('customers')) if (customer.external_id === body.external_customer_id) return customer;
    return null;
  }

  // The amounts of a checkout once one of its products is chosen.
  #choose(checkout, productId) {
    const { prices, amount: wanted, currency } = checkout[HIDDEN];
    const product = this.store.find('products', productId);
    const price = prices?.[productId]?.[0] ?? this.provider.catalog.priceOf(product, currency);
    if (!price) throw invalidBody('currency', 'The product has no price in this currency.');
    const seats = price.amount_type === 'seat_based' ? checkout.seats ?? price.seat_tiers.minimum_seats : null;
    const amount = this.provider.catalog.amountOf(price, { seats: seats ?? 1, amount: wanted ?? undefined });
    const off = this.provider.discounts.off(checkout.discount_id, amount);
    const interval = checkout.allow_trial === false || !product.is_recurring ? null : checkout.trial_interval ?? product.trial_interval;
    const count = interval && (checkout.trial_interval_count ?? product.trial_interval_count ?? 1);
    return {
      product_id: productId, product_price_id: price.id, currency: price.price_currency, amount, discount_amount: off, ...this.provider.catalog.withTax(amount - off, price.tax_behavior), seats,
      tax_behavior: price.tax_behavior === 'inclusive' ? 'inclusive' : 'exclusive',
      active_trial_interval: interval, active_trial_interval_count: count, trial_end: interval && iso(addIntervals(this.store.clock.now(), interval, count, 1)),
      is_free_product_price: amount === 0, is_payment_required: amount > 0 && !interval, is_payment_setup_required: product.is_recurring && amount > 0, is_payment_form_required: amount > 0,
    };
  }

  #view(checkout) {
    const { products, prices } = checkout[HIDDEN];
    const product = this.store.find('products', checkout.product_id);
    return {
      ...checkout, products: products.map((id) => briefProduct(this.store.find('products', id))), product: product && briefProduct(product), product_price: this.#priceOf(checkout),
      prices, discount: this.provider.discounts.shown(checkout.discount_id), attached_custom_fields: [], billing_address_fields: MODES,
    };
  }

  #priceOf({ product_id: id, product_price_id: price, [HIDDEN]: { prices } }) {
    return [...(prices?.[id] ?? []), ...this.store.find('products', id).prices].find((p) => p.id === price) ?? null;
  }

  list({ query }) {
    const found = this.store.newest('checkouts').filter((c) => holds(query.customer_id, c.customer_id) && holds(query.product_id, c.product_id) && holds(query.status, c.status)
      && holds(query.external_customer_id, c.external_customer_id) && (!query.query || c.customer_email?.includes(query.query)));
    return page(found, query);
  }

  read({ ids: [id] }) {
    return this.store.show(this.store.get('checkouts', id));
  }

  update({ ids: [id], body }) {
    const checkout = this.store.get('checkouts', id);
    if (checkout.status !== 'open') throw refused(403, 'NotOpenCheckout', 'The checkout is not open.');
    const more = body.metadata === undefined ? {} : { metadata: checkMetadata(body.metadata) };
    if (body.discount_id !== undefined) more.discount_id = this.provider.discounts.named(body.discount_id)?.id ?? null;
    if (body.amount !== undefined) checkout[HIDDEN].amount = body.amount;
    const changed = this.store.set('checkouts', id, { ...pick(body, [...CUSTOMER_FIELDS, ...OTHER_FIELDS, 'seats']), ...more });
    const product = body.product_id ?? checkout.product_id;
    if (!checkout[HIDDEN].products.includes(product)) throw invalidBody('product_id', 'Product is not available in this checkout.');
    return this.store.show(this.store.change('checkouts', id, this.#choose(changed, product), 'checkout.updated'));
  }

  // ---- the buyer ----

  #openOne(id, states = ['open']) {
    const checkout = this.store.get('checkouts', id);
    if (!states.includes(checkout.status)) throw refused(403, 'NotOpenCheckout', `The checkout is ${checkout.status}.`);
    return checkout;
  }

  // The buyer has pressed the button, the bank has not answered yet.
  confirm({ checkout: id, product, customer_email: email, customer_name: name, customer_billing_address: address, seats }) {
    const checkout = this.#openOne(id);
    const chosen = product ?? checkout.product_id;
    const entered = { ...(seats && { seats }), ...(email && { customer_email: email }), ...(name && { customer_name: name }), ...(address && { customer_billing_address: address }) };
    const changed = this.store.set('checkouts', id, { ...entered, status: 'confirmed', payment_method_type: 'card' });
    if (changed.customer_email === null) this.store.change('checkouts', id, { customer_email: 'buyer@example.com' });
    return this.store.show(this.store.change('checkouts', id, this.#choose(this.store.find('checkouts', id), chosen), 'checkout.updated'));
  }

  // succeed: false is a declined card. A card with `does` other than pay declines when it is charged later.
  complete({ checkout: id, success = true, card = {}, ...entered }) {
    if (this.#openOne(id, ['open', 'confirmed']).status === 'open') this.confirm({ checkout: id, ...entered });
    if (!success) return this.store.show(this.store.change('checkouts', id, { status: 'failed' }, 'checkout.updated'));
    const checkout = this.store.find('checkouts', id);
    const customer = this.#buyer(checkout);
    const method = checkout.is_payment_form_required ? this.provider.customers.addMethod({ customer: customer.id, ...card }) : null;
    const product = this.store.find('products', checkout.product_id);
    this.store.change('checkouts', id, { customer_id: customer.id, external_customer_id: customer.external_id });
    const subscription = product.is_recurring ? this.#subscribe(checkout, customer, product, method) : null;
    const order = this.#order(checkout, this.store.find('customers', customer.id), product, subscription, method);
    this.store.change('checkouts', id, { status: 'succeeded', subscription_id: subscription?.id ?? null }, 'checkout.updated');
    return { checkout: this.store.show(this.store.find('checkouts', id)), customer, subscription: subscription && this.store.show(this.store.find('subscriptions', subscription.id)), order: this.store.show(this.store.find('orders', order.id)) };
  }

  #buyer(checkout) {
    const known = checkout.customer_id && this.store.find('customers', checkout.customer_id);
    const fields = pick(checkout, ['customer_name', 'customer_billing_address']);
    if (known) return this.store.set('customers', known.id, { name: known.name ?? fields.customer_name, billing_name: known.billing_name ?? fields.customer_name, billing_address: known.billing_address ?? fields.customer_billing_address });
    for (const customer of this.store.newestFirst('customers')) if (customer.email?.toLowerCase() === checkout.customer_email.toLowerCase()) return customer;
    return this.provider.customers.insert({
      email: checkout.customer_email, name: checkout.customer_name, billing_address: checkout.customer_billing_address, tax_id: checkout.customer_billing_address ? checkout.customer_tax_id : null,
      external_id: checkout.external_customer_id, metadata: { ...checkout.customer_metadata },
    });
  }

  // A free subscription that is upgraded ends, and the paid one takes its place.
  #subscribe(checkout, customer, product, method) {
    if (checkout.subscription_id) this.provider.subscriptions.revoke(checkout.subscription_id);
    const trial = checkout.active_trial_interval && { interval: checkout.active_trial_interval, count: checkout.active_trial_interval_count };
    return this.provider.subscriptions.begin({
      customer, product, price: this.#priceOf(checkout), metadata: checkout.metadata, seats: checkout.seats, amount: checkout.amount, checkout: checkout.id, trial, method: method?.id, discount: checkout.discount_id,
    });
  }

  #order(checkout, customer, product, subscription, method) {
    const order = this.provider.orders.insert({
      customer, product, amount: checkout.active_trial_interval ? 0 : checkout.amount, currency: checkout.currency, billing_reason: subscription ? 'subscription_create' : 'purchase',
      status: 'pending', subscription: subscription?.id ?? null, checkout: checkout.id, metadata: checkout.metadata, seats: checkout.seats, discount: checkout.discount_id,
      tax_behavior: checkout.tax_behavior,
    });
    this.provider.discounts.redeem(checkout.discount_id);
    this.store.emit('order.created', order);
    if (order.status === 'pending') this.provider.orders.attempt(order, { ...this.store.find('payment_methods', method.id), [HIDDEN]: { does: 'pay' } }, 'purchase');
    this.provider.orders.paid(order.id);
    return order;
  }

  expire({ checkout: id }) {
    this.#openOne(id);
    return this.store.show(this.store.change('checkouts', id, { status: 'expired' }, 'checkout.expired'));
  }

  *dueWork() {
    for (const { id, status, expires_at: at } of this.store.newestFirst('checkouts')) if (status === 'open') yield { at: seconds(at), run: () => this.expire({ checkout: id }) };
  }

  // ---- links ----

  createLink({ body }) {
    const metadata = checkMetadata(body.metadata);
    const discount = this.provider.discounts.named(body.discount_id);
    const products = body.products ?? [body.product_id ?? this.#productOfPrice(body.product_price_id)];
    for (const id of products) this.provider.catalog.sellable(id, 'products');
    const secret = `polar_cl_${randomText(43)}`;
    const link = this.store.create('checkout_links', {
      trial_interval: null, trial_interval_count: null, payment_processor: 'stripe', client_secret: secret, url: `https://buy.polar.sh/${secret}`, success_url: null, return_url: null, label: null,
      allow_discount_codes: true, require_billing_address: false, discount_id: discount?.id ?? null, seats: null, organization_id: ORGANIZATION, ...pick(body, LINK_FIELDS), metadata, [HIDDEN]: { products },
    });
    return new Answer(201, this.store.show(link));
  }

  #productOfPrice(priceId) {
    const product = this.store.all('products').find((p) => p.prices.some((price) => price.id === priceId));
    if (!product) throw invalidBody('product_price_id', 'Price does not exist.');
    return product.id;
  }

  listLinks({ query }) {
    const found = this.store.newest('checkout_links').filter((l) => query.product_id === undefined || l.products.some((p) => holds(query.product_id, p.id)));
    return page(found, query);
  }

  readLink({ ids: [id] }) {
    return this.store.show(this.store.get('checkout_links', id));
  }

  updateLink({ ids: [id], body }) {
    const link = this.store.get('checkout_links', id);
    for (const product of body.products ?? []) this.provider.catalog.sellable(product, 'products');
    if (body.products) link[HIDDEN].products = body.products;
    const more = body.metadata === undefined ? {} : { metadata: checkMetadata(body.metadata) };
    if (body.discount_id !== undefined) more.discount_id = this.provider.discounts.named(body.discount_id)?.id ?? null;
    return this.store.show(this.store.set('checkout_links', id, { ...pick(body, LINK_FIELDS), ...more }));
  }

  deleteLink({ ids: [id] }) {
    this.store.get('checkout_links', id);
    this.store.change('checkout_links', id, { deleted: true });
    return new Answer(204);
  }

  // Somebody follows the link: a checkout opens.
  follow({ checkout_link: id }) {
    const link = this.store.get('checkout_links', id);
    return this.store.show(this.open({ products: link[HIDDEN].products, metadata: link.metadata, ...pick(link, ['discount_id', 'success_url', 'return_url', 'seats', 'trial_interval', 'trial_interval_count']) }));
  }
}

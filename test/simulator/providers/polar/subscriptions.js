// Polar: subscriptions. By the API only free ones are made; paid ones come from a checkout. A PATCH is
// exactly one of its shapes. Polar tells every change by subscription.updated first, then by its own word.

import { addIntervals } from '../../core/clock.js';
import { Answer } from '../../core/json_provider.js';
import { HIDDEN, checkMetadata, holds, holdsMetadata, invalidBody, iso, newId, page, pick, refused, seconds } from './store.js';

const DAY = 86400;
const LIVE = ['trialing', 'active', 'past_due', 'paused'];

const BRIEF = [
  'metadata', 'created_at', 'modified_at', 'id', 'amount', 'currency', 'recurring_interval', 'recurring_interval_count', 'status', 'current_period_start', 'current_period_end',
  'current_meter_period_start', 'current_meter_period_end', 'trial_start', 'trial_end', 'cancel_at_period_end', 'canceled_at', 'started_at', 'ends_at', 'ended_at', 'past_due_at',
  'pause_at_period_end', 'paused_at', 'resumes_at', 'customer_id', 'product_id', 'discount_id', 'checkout_id', 'seats', 'customer_cancellation_reason', 'customer_cancellation_comment',
];

const alreadyCanceled = () => refused(403, 'AlreadyCanceledSubscription', 'This subscription is already canceled or will be at the end of the period.');
const inactive = () => refused(403, 'InactiveSubscription', 'This subscription is not active.');
const unpaid = () => refused(402, 'PaymentFailed', 'Your card was declined.');

export class Subscriptions {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
    this.store.views.subscriptions = (s) => this.#view(s);
  }

  #view(subscription) {
    const product = this.store.find('products', subscription.product_id);
    return {
      ...subscription, customer: this.store.find('customers', subscription.customer_id), product, discount: this.provider.discounts.shown(subscription.discount_id),
      prices: [subscription[HIDDEN].price], meters: [],
    };
  }

  brief(id) {
    return pick(this.store.find('subscriptions', id), BRIEF);
  }

  #tell(id, ...types) {
    const subscription = this.store.find('subscriptions', id);
    for (const type of ['updated', ...types]) this.store.emit(`subscription.${type}`, subscription);
  }

  #state({ customer_id: customer }) {
    this.provider.customers.stateChanged(customer);
  }

  // ---- creation ----

  create({ body }) {
    const metadata = checkMetadata(body.metadata);
    const product = this.provider.catalog.sellable(body.product_id, 'product_id');
    if (!product.is_recurring) throw invalidBody('product_id', 'Product is not a recurring product.');
    if (!this.provider.catalog.isFree(product)) throw invalidBody('product_id', 'Product is not free. The customer should go through a checkout to create a paid subscription.');
    const customer = body.customer_id !== undefined ? this.store.named('customers', body.customer_id, 'customer_id') : this.#byExternalId(body.external_customer_id);
    const { id } = this.begin({ customer, product, price: product.prices[0], metadata });
    return new Answer(201, this.store.show(this.store.find('subscriptions', id)));
  }

  #byExternalId(id) {
    for (const customer of this.store.newestFirst('customers')) if (customer.external_id === id) return customer;
    throw invalidBody('external_customer_id', 'Customer does not exist.');
  }

  // A subscription begins, with a trial or with its first period. The caller sees to its first order.
  begin({ customer, product, price, metadata = {}, seats = null, amount, checkout = null, trial = null, method = null, discount = null }) {
    const now = this.store.clock.now();
    const trialEnd = trial && addIntervals(now, trial.interval, trial.count, 1);
    const end = trialEnd ?? addIntervals(now, product.recurring_interval, product.recurring_interval_count, 1);
    const subscription = this.store.create('subscriptions', {
      amount: this.provider.catalog.amountOf(price, { seats: seats ?? 1, amount }), currency: price.price_currency, recurring_interval: product.recurring_interval,
      recurring_interval_count: product.recurring_interval_count, status: trialEnd ? 'trialing' : 'active', current_period_start: iso(now), current_period_end: iso(end),
      current_meter_period_start: null, current_meter_period_end: null, trial_start: trialEnd ? iso(now) : null, trial_end: trialEnd ? iso(trialEnd) : null, cancel_at_period_end: false,
      canceled_at: null, started_at: iso(now), ends_at: null, ended_at: null, past_due_at: null, pause_at_period_end: false, paused_at: null, resumes_at: null, customer_id: customer.id,
      product_id: product.id, discount_id: discount, checkout_id: checkout, seats, customer_cancellation_reason: null, customer_cancellation_comment: null, metadata: { ...metadata },
      pending_update: null, [HIDDEN]: { price, method, pending: [], failures: 0, retryAt: null, order: null },
    });
    this.store.emit('subscription.created', subscription);
    this.#tell(subscription.id, 'active');
    this.#state(subscription);
    return subscription;
  }

  // ---- reading ----

  list({ query }) {
    const live = (s) => ['active', 'trialing', 'past_due'].includes(s.status);
    const found = this.store.newest('subscriptions').filter((s) => holds(query.customer_id, s.customer_id) && holds(query.product_id, s.product_id) && holds(query.status, s.status)
      && holds(query.external_customer_id, s.customer.external_id) && holds(query.active, live(s)) && holds(query.cancel_at_period_end, s.cancel_at_period_end)
      && holds(query.discount_id, s.discount_id) && holdsMetadata(query.metadata, s.metadata));
    for (const name of ['customer_cancellation_reason', 'canceled_at_after', 'canceled_at_before', 'started_after', 'started_before']) {
      if (query[name] !== undefined) this.provider.notImitated(`the filter ${name} of subscriptions`);
    }
    return page(found, query);
  }

  read({ ids: [id] }) {
    return this.store.show(this.store.get('subscriptions', id));
  }

  // ---- changes ----

  update({ ids: [id], body }) {
    const subscription = this.store.get('subscriptions', id);
    if (subscription.ended_at !== null) throw alreadyCanceled();
    const shapes = [
      ['revoke', () => this.revoke(id, body)], ['cancel_at_period_end', () => this.#cancel(subscription, body)], ['pause_at_period_end', () => this.#pause(subscription, body)],
      ['resume', () => this.#resume(subscription)], ['seats', () => this.#seats(subscription, body)], ['current_billing_period_end', () => this.#period(subscription, body)],
      ['pending_update', () => this.#clear(subscription)],
    ];
    const shape = shapes.find(([name]) => body[name] !== undefined);
    if (shape) shape[1]();
    else this.#change(subscription, body);
    return this.read({ ids: [id] });
  }

  delete({ ids: [id] }) {
    if (this.store.get('subscriptions', id).ended_at !== null) throw alreadyCanceled();
    this.revoke(id);
    return this.read({ ids: [id] });
  }

  #why({ customer_cancellation_reason: reason = null, customer_cancellation_comment: comment = null }) {
    return { customer_cancellation_reason: reason, customer_cancellation_comment: comment };
  }

  // The end at once.
  revoke(id, body = {}) {
    const now = iso(this.store.clock.now());
    const old = this.store.find('subscriptions', id);
    const after = this.store.set('subscriptions', id, {
      status: 'canceled', canceled_at: old.canceled_at ?? now, ends_at: now, ended_at: now, pending_update: null, ...(old.canceled_at === null && this.#why(body)),
    });
    this.#tell(id, ...(old.cancel_at_period_end ? ['revoked'] : ['canceled', 'revoked']));
    this.#state(after);
  }

  #cancel(subscription, body) {
    const { id } = subscription;
    if (body.cancel_at_period_end === subscription.cancel_at_period_end) {
      if (body.cancel_at_period_end) throw alreadyCanceled();
      return;
    }
    if (!body.cancel_at_period_end) {
      this.store.set('subscriptions', id, { cancel_at_period_end: false, canceled_at: null, ends_at: null, ...this.#why({}) });
      this.#tell(id, 'uncanceled');
      return;
    }
    if (subscription.status === 'paused') return this.revoke(id, body);
    this.store.set('subscriptions', id, { cancel_at_period_end: true, canceled_at: iso(this.store.clock.now()), ends_at: subscription.current_period_end, ...this.#why(body) });
    this.#tell(id, 'canceled');
  }

  #pause({ id, status, cancel_at_period_end: canceling }, body) {
    if (!['active', 'trialing'].includes(status)) throw inactive();
    if (canceling) throw alreadyCanceled();
    this.store.set('subscriptions', id, { pause_at_period_end: body.pause_at_period_end, resumes_at: body.pause_at_period_end ? body.resumes_at ?? null : null });
    this.#tell(id);
  }

  // A new period begins and is charged.
  #resume({ id, status }) {
    if (status !== 'paused') throw invalidBody('resume', 'The subscription is not paused.');
    const subscription = this.store.find('subscriptions', id);
    const now = this.store.clock.now();
    this.store.set('subscriptions', id, {
      status: 'active', paused_at: null, resumes_at: null, pause_at_period_end: false, current_period_start: iso(now), current_period_end: iso(this.#after(now, subscription)),
    });
    this.#tell(id, 'resumed');
    this.#state(subscription);
    this.#bill(id, 'subscription_cycle');
  }

  #after(start, { recurring_interval: interval, recurring_interval_count: count }) {
    return addIntervals(start, interval, count, 1);
  }

  #period({ id, current_period_start: start }, { current_billing_period_end: end }) {
    if (seconds(end) <= seconds(start)) throw invalidBody('current_billing_period_end', 'The end has to be after the start.');
    this.store.set('subscriptions', id, { current_period_end: iso(seconds(end)) });
    this.#tell(id);
  }

  #clear({ id }) {
    this.store.set('subscriptions', id, { pending_update: null });
    this.#tell(id);
  }

  #change(subscription, body) {
    const discount = this.provider.discounts.named(body.discount_id);
    const metadata = body.metadata === undefined ? undefined : checkMetadata(body.metadata);
    if (body.product_id) this.#changeProduct(subscription, body.product_id, body.proration_behavior ?? 'prorate');
    if (body.trial_end !== undefined) this.#changeTrial(subscription, body.trial_end);
    const rest = { ...(metadata && { metadata }), ...(body.discount_id !== undefined && { discount_id: discount?.id ?? null }) };
    if (Object.keys(rest).length === 0) return;
    this.store.set('subscriptions', subscription.id, rest);
    this.#tell(subscription.id);
  }

  #changeTrial({ id, status, current_period_end: end }, given) {
    if (given === null || given === 'now') {
      if (status !== 'trialing') throw invalidBody('trial_end', 'The subscription is not trialing.');
      this.store.set('subscriptions', id, { current_period_end: iso(this.store.clock.now()), trial_end: iso(this.store.clock.now()) });
      this.#cycle(id);
      return;
    }
    if (seconds(given) <= this.store.clock.now()) throw invalidBody('trial_end', 'The trial end has to be in the future.');
    this.store.set('subscriptions', id, { status: 'trialing', trial_start: iso(this.store.clock.now()), trial_end: iso(seconds(given)), current_period_end: iso(seconds(given)) });
    this.#tell(id);
  }

  #changeProduct(subscription, productId, behavior) {
    const product = this.provider.catalog.sellable(productId, 'product_id');
    if (!product.is_recurring) throw invalidBody('product_id', 'Product is not a recurring product.');
    if (productId === subscription.product_id) throw invalidBody('product_id', 'Subscription is already on this product.');
    const price = this.provider.catalog.priceOf(product, subscription.currency);
    if (!price) throw invalidBody('product_id', `The product has no price in ${subscription.currency}.`);
    const seats = price.amount_type === 'seat_based' ? subscription.seats ?? 1 : null;
    const amount = this.provider.catalog.amountOf(price, { seats: seats ?? 1 });
    this.#apply(subscription, behavior, { product_id: productId, seats }, { product, price, amount, label: product.name });
  }

  #seats(subscription, { seats, proration_behavior: behavior }) {
    const { price } = subscription[HIDDEN];
    if (price.amount_type !== 'seat_based') throw invalidBody('seats', 'The product is not sold by seats.');
    if (seats < 1) throw invalidBody('seats', 'Input should be greater than 0');
    if (subscription.status !== 'active' && subscription.status !== 'trialing') throw inactive();
    const product = this.store.find('products', subscription.product_id);
    const amount = this.provider.catalog.amountOf(price, { seats });
    this.#apply(subscription, behavior ?? 'prorate', { seats }, { product, price, amount, label: `${seats} seats` });
  }

  // Another product or number of seats, by what the seller wants done about the rest of the period.
  #apply(subscription, behavior, changes, target) {
    const { id } = subscription;
    if (behavior === 'next_period') {
      const pending = { id: newId(), created_at: this.store.stamp(), modified_at: null, applies_at: subscription.current_period_end, product_id: null, seats: null, ...changes };
      this.store.set('subscriptions', id, { pending_update: pending });
      subscription[HIDDEN].target = target;
      this.#tell(id);
      return;
    }
    const now = this.store.clock.now();
    const [start, end] = [seconds(subscription.current_period_start), seconds(subscription.current_period_end)];
    const rest = subscription.status === 'trialing' ? 0 : Math.max(0, (end - now) / (end - start));
    const credit = { label: `Remaining time on ${subscription.amount}`, amount: -Math.round(subscription.amount * rest), proration: true };
    const reset = behavior === 'reset';
    const debit = { label: target.label, amount: reset ? target.amount : Math.round(target.amount * rest), proration: !reset, product_price_id: target.price.id };
    const due = credit.amount + debit.amount;
    if (behavior === 'prorate') subscription[HIDDEN].pending.push(credit, debit);
    else if (due > 0) this.#chargeChange(subscription, target.product, [credit, debit], due);
    else if (due < 0) subscription[HIDDEN].pending.push({ ...credit, amount: due });
    const period = reset ? { current_period_start: iso(now), current_period_end: iso(this.#after(now, target.product)) } : {};
    const { recurring_interval, recurring_interval_count } = target.product;
    subscription[HIDDEN].price = target.price;
    const after = this.store.set('subscriptions', id, { ...changes, ...period, amount: target.amount, recurring_interval, recurring_interval_count, pending_update: null });
    this.#tell(id);
    this.#state(after);
  }

  // The change is only made when it is paid.
  #chargeChange(subscription, product, items, amount) {
    const customer = this.store.find('customers', subscription.customer_id);
    const method = this.provider.orders.methodOf(customer, subscription[HIDDEN].method);
    if (!method || this.provider.orders.does(method) !== 'pay') throw unpaid();
    const order = this.provider.orders.insert({
      customer, product, amount, currency: subscription.currency, billing_reason: 'subscription_update', status: 'pending', subscription: subscription.id, metadata: subscription.metadata, items,
    });
    this.store.emit('order.created', order);
    this.provider.orders.attempt(order, method, 'purchase');
    this.provider.orders.paid(order.id);
  }

  // ---- cycles ----

  // The order of a period, and its payment. A free one is paid without an attempt.
  #bill(id, reason) {
    const subscription = this.store.find('subscriptions', id);
    const { pending } = subscription[HIDDEN];
    const product = this.store.find('products', subscription.product_id);
    const customer = this.store.find('customers', subscription.customer_id);
    const items = [{ label: product.name, amount: subscription.amount, product_price_id: subscription[HIDDEN].price.id }, ...pending.splice(0)];
    const amount = Math.max(0, items.reduce((sum, item) => sum + item.amount, 0));
    const order = this.provider.orders.insert({
      customer, product, amount, currency: subscription.currency, billing_reason: reason, status: 'pending', subscription: id, metadata: subscription.metadata, items,
      seats: subscription.seats, discount: this.provider.discounts.ofRenewal(subscription),
    });
    this.store.emit('order.created', order);
    if (order.status === 'paid') this.provider.orders.paid(order.id);
    else this.#collect(id, order.id, 'subscription_cycle');
  }

  #collect(id, orderId, trigger) {
    const subscription = this.store.find('subscriptions', id);
    const order = this.store.find('orders', orderId);
    const method = this.provider.orders.methodOf(this.store.find('customers', subscription.customer_id), subscription[HIDDEN].method);
    const failed = method ? this.provider.orders.attempt(order, method, trigger) : 'no_payment_method';
    if (!failed) {
      Object.assign(subscription[HIDDEN], { failures: 0, retryAt: null, order: null });
      this.provider.orders.paid(orderId);
      if (subscription.status === 'past_due') this.#recover(id);
      return;
    }
    this.#fail(id, orderId);
  }

  #recover(id) {
    const after = this.store.set('subscriptions', id, { status: 'active', past_due_at: null });
    this.#tell(id, 'active');
    this.#state(after);
  }

  #fail(id, orderId) {
    const subscription = this.store.find('subscriptions', id);
    const hidden = subscription[HIDDEN];
    const days = this.provider.settings.dunning_days;
    const next = days[hidden.failures++];
    const last = next === undefined;
    hidden.retryAt = last ? null : this.store.clock.now() + next * DAY;
    hidden.order = orderId;
    this.store.emit('order.updated', this.store.set('orders', orderId, { next_payment_attempt_at: last ? null : iso(hidden.retryAt) }));
    if (subscription.status !== 'past_due') {
      this.store.set('subscriptions', id, { status: 'past_due', past_due_at: iso(this.store.clock.now()) });
      this.#tell(id, 'past_due');
    }
    if (last) this.revoke(id);
  }

  // The end of a period: the end of the subscription, a pause, or the next period.
  #cycle(id) {
    const subscription = this.store.find('subscriptions', id);
    if (subscription.cancel_at_period_end) return this.revoke(id);
    if (subscription.pause_at_period_end) {
      this.store.set('subscriptions', id, { status: 'paused', paused_at: iso(this.store.clock.now()), pause_at_period_end: false });
      this.#tell(id, 'paused');
      return this.#state(subscription);
    }
    const start = seconds(subscription.current_period_end);
    const pending = this.#takePending(subscription);
    this.store.set('subscriptions', id, { status: 'active', current_period_start: iso(start), ...pending });
    const after = this.store.set('subscriptions', id, { current_period_end: iso(this.#after(start, this.store.find('subscriptions', id))) });
    this.store.emit('subscription.cycled', after);
    this.#tell(id);
    this.#state(after);
    return this.#bill(id, 'subscription_cycle');
  }

  #takePending(subscription) {
    const { pending_update: update, [HIDDEN]: hidden } = subscription;
    if (update === null) return {};
    const { product, price, amount } = hidden.target;
    hidden.price = price;
    return {
      pending_update: null, amount, recurring_interval: product.recurring_interval, recurring_interval_count: product.recurring_interval_count,
      ...(update.product_id !== null && { product_id: update.product_id }), ...(update.seats !== null && { seats: update.seats }),
    };
  }

  // By the control API: the period ends now.
  cycleNow({ subscription: id }) {
    const { status } = this.store.get('subscriptions', id);
    if (!['active', 'trialing'].includes(status)) throw invalidBody('subscription', `The subscription is ${status}.`);
    this.store.set('subscriptions', id, { current_period_end: iso(this.store.clock.now()) });
    this.#cycle(id);
    return this.read({ ids: [id] });
  }

  // By the control API: what is owed is tried again now, as when the customer does it in the portal.
  retryNow({ subscription: id }) {
    const { [HIDDEN]: { order } } = this.store.get('subscriptions', id);
    if (order === null) throw invalidBody('subscription', 'The subscription owes nothing.');
    this.#collect(id, order, 'retry_customer');
    return this.read({ ids: [id] });
  }

  *dueWork() {
    for (const { id, status, current_period_end: end, resumes_at: resumes, [HIDDEN]: { retryAt, order } } of this.store.newestFirst('subscriptions')) {
      if (!LIVE.includes(status)) continue;
      if (status === 'active' || status === 'trialing') yield { at: seconds(end), run: () => this.#cycle(id) };
      if (status === 'past_due' && retryAt !== null) yield { at: retryAt, run: () => this.#collect(id, order, 'retry_dunning') };
      if (status === 'paused' && resumes !== null) yield { at: seconds(resumes), run: () => this.#resume(this.store.find('subscriptions', id)) };
    }
  }
}

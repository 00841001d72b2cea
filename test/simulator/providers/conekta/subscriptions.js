// Conekta: plans and the subscriptions to them. A subscription is charged when it begins (or its trial
// ends) and at each end of a billing cycle; a failed charge is repeated every retry_delay_hours, and after
// max_retries the subscription is cancelled. Each charge is an order of its own.

import { addIntervals } from '../../core/clock.js';
import { Answer } from '../../core/json_provider.js';
import { HIDDEN, invalid, missing, newId, objectId, page, pick, precondition, unprocessed } from './store.js';

const HOUR = 3600;
const OVER = ['canceled', 'expired'];

// The end of a cycle that starts at the given time.
function cycleEnd(start, { interval, frequency }) {
  if (interval === 'half_month') return addIntervals(start, 'day', 15 * frequency, 1);
  return addIntervals(start, interval, frequency, 1);
}

export class Subscriptions {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
  }

  // ---- plans ----

  createPlan({ body }) {
    const id = body.id ?? newId('plan');
    const old = this.store.find('plans', id);
    if (old && !old.deleted) throw invalid(`The plan "${id}" exists already.`, 'id', 'plan.id.taken');
    this.#checkPlan(body);
    const plan = {
      id, object: 'plan', livemode: false, created_at: this.store.clock.now(), currency: 'MXN', expiry_count: null, trial_period_days: null, max_retries: 3, retry_delay_hours: 48,
      ...pick(body, ['name', 'amount', 'currency', 'interval', 'frequency', 'trial_period_days', 'expiry_count', 'max_retries', 'retry_delay_hours']),
    };
    return this.store.add('plans', plan, 'plan.created');
  }

  #checkPlan({ amount = 1, frequency = 1, currency = 'MXN', max_retries: retries = 3, retry_delay_hours: delay = 48 }) {
    if (amount < 1) throw invalid('The amount has to be at least 1.', 'amount', 'plan.amount');
    if (frequency < 1) throw invalid('The frequency has to be at least 1.', 'frequency', 'plan.frequency');
    if (!['MXN', 'USD'].includes(currency)) throw invalid(`The currency "${currency}" is not supported.`, 'currency', 'plan.currency');
    if (retries < 3) throw invalid('max_retries has to be at least 3.', 'max_retries', 'plan.max_retries');
    if (delay < 48) throw invalid('retry_delay_hours has to be at least 48.', 'retry_delay_hours', 'plan.retry_delay_hours');
  }

  plan(id) {
    return this.store.get('plans', id, 'Plan');
  }

  listPlans({ query, base }) {
    const plans = this.store.newest('plans').filter((p) => (query.currency ?? p.currency) === p.currency && (query.frequency ?? p.frequency) === p.frequency);
    return page(plans, query, { base, path: '/plans' });
  }

  readPlan({ ids: [id] }) {
    return this.plan(id);
  }

  updatePlan({ ids: [id], body }) {
    this.plan(id);
    this.#checkPlan(body);
    return this.store.change('plans', id, pick(body, ['amount', 'currency', 'name', 'expiry_count']), 'plan.updated');
  }

  deletePlan({ ids: [id] }) {
    const plan = this.plan(id);
    if (this.store.all('subscriptions').some((s) => s.plan_id === id && !OVER.includes(s.status))) throw invalid('The plan has subscribers.', 'id', 'plan.has_subscriptions');
    this.store.change('plans', id, { deleted: true });
    this.store.emit('plan.deleted', plan);
    return plan;
  }

  // ---- subscriptions ----

  create({ ids: [customerId], body }) {
    const customer = this.provider.customers.get(customerId);
    const plan = this.plan(body.plan_id);
    const card = this.#card(customer, body.card_id);
    const now = this.store.clock.now();
    const trialEnd = this.#trialEnd(body.trial_end, now) ?? (plan.trial_period_days ? now + plan.trial_period_days * 86400 : null);
    const subscription = {
      id: newId('sub'), object: 'subscription', status: trialEnd ? 'in_trial' : 'active', plan_id: plan.id, card_id: card.id, customer_id: customerId,
      customer_custom_reference: customer.custom_reference, created_at: now, subscription_start: now, trial_start: trialEnd ? now : null, trial_end: trialEnd,
      billing_cycle_start: null, billing_cycle_end: null, canceled_at: null, paused_at: null, charge_id: null, [HIDDEN]: { cycles: 0, failures: 0, retryAt: null },
    };
    this.store.insert('subscriptions', subscription);
    customer[HIDDEN].subscriptions.push(subscription.id);
    this.store.emit('subscription.created', subscription);
    if (!trialEnd) this.bill(subscription.id);
    return this.store.find('subscriptions', subscription.id);
  }

  #trialEnd(given, now) {
    if (given === undefined) return undefined;
    if (given !== 0 && given <= now) throw invalid('trial_end has to be in the future.', 'trial_end', 'subscription.trial_end.past');
    return given;
  }

  #card(customer, id) {
    const wanted = id ?? customer.default_payment_source_id;
    if (!wanted) throw invalid('The customer has no payment source.', 'card_id', 'subscription.card_id.missing');
    const source = this.provider.customers.source(customer.id, wanted);
    if (source.type !== 'card') throw invalid('A subscription is paid by card.', 'card_id', 'subscription.card_id.type');
    return source;
  }

  get([customerId, id]) {
    this.provider.customers.get(customerId);
    const subscription = this.store.get('subscriptions', id, 'Subscription');
    if (subscription.customer_id !== customerId) throw missing('Subscription', id);
    return subscription;
  }

  list({ ids: [customerId], query, base }) {
    this.provider.customers.get(customerId);
    return page(this.store.newest('subscriptions').filter((s) => s.customer_id === customerId), query, { base, path: `/customers/${customerId}/subscriptions` });
  }

  read({ ids }) {
    return this.get(ids);
  }

  // A new plan or card holds from the next cycle on; a new trial_end begins a trial.
  update({ ids, body }) {
    const subscription = this.#living(ids);
    const customer = this.provider.customers.get(ids[0]);
    const changes = {};
    if (body.plan_id !== undefined) changes.plan_id = this.plan(body.plan_id).id;
    if (body.card_id !== undefined) changes.card_id = this.#card(customer, body.card_id).id;
    if (body.trial_end !== undefined) {
      changes.trial_end = this.#trialEnd(body.trial_end, this.store.clock.now());
      if (changes.trial_end) Object.assign(changes, { status: 'in_trial', trial_start: subscription.trial_start ?? this.store.clock.now() });
    }
    return this.store.change('subscriptions', subscription.id, changes, 'subscription.updated');
  }

  #living(ids) {
    const subscription = this.get(ids);
    if (OVER.includes(subscription.status)) throw precondition(`The subscription is ${subscription.status}.`, 'subscription.ended');
    return subscription;
  }

  pause({ ids }) {
    const { id, status } = this.#living(ids);
    if (status === 'paused') throw precondition('The subscription is paused already.', 'subscription.paused');
    return this.#enter(id, { status: 'paused', paused_at: this.store.clock.now() }, 'subscription.paused');
  }

  // A cycle that ended meanwhile is not made up for: a new one begins, and is paid.
  resume({ ids }) {
    const { id, status, billing_cycle_end: end, trial_end: trial } = this.#living(ids);
    if (status !== 'paused') throw precondition('The subscription is not paused.', 'subscription.not_paused');
    const now = this.store.clock.now();
    this.#enter(id, { status: trial && trial > now ? 'in_trial' : 'active', paused_at: null }, 'subscription.resumed');
    if (!(trial && trial > now) && (end === null || end <= now)) this.bill(id);
    return this.store.find('subscriptions', id);
  }

  cancel({ ids }) {
    return this.end(this.#living(ids).id, 'user_cancelation');
  }

  end(id, reason) {
    const subscription = this.store.find('subscriptions', id);
    if (OVER.includes(subscription.status)) return subscription;
    return this.#enter(id, { status: 'canceled', canceled_at: this.store.clock.now(), canceled_reason: reason }, 'subscription.canceled');
  }

  retry({ ids }) {
    const { id, status } = this.#living(ids);
    if (status !== 'past_due') throw precondition(`The subscription owes nothing, it is ${status}.`, 'subscription.not_past_due');
    this.bill(id);
    const after = this.store.find('subscriptions', id);
    if (after.status !== 'active') throw unprocessed('bank.declined', 'La tarjeta fue declinada por el banco.');
    return after;
  }

  events({ ids, query, base }) {
    const { id } = this.get(ids);
    const events = this.provider.eventsOf((e) => e.type.startsWith('subscription.') && e.object.id === id);
    return page(events, query, { base, path: `/customers/${ids[0]}/subscriptions/${id}/events` });
  }

  #enter(id, changes, event) {
    const after = this.store.change('subscriptions', id, changes);
    this.store.emit(event, after);
    return after;
  }

  // ---- billing ----

  // One cycle: an order is made and charged. outcome, "paid" or "declined", overrules the card.
  bill(id, outcome) {
    const subscription = this.store.find('subscriptions', id);
    const plan = this.store.find('plans', subscription.plan_id);
    const customer = this.provider.customers.get(subscription.customer_id);
    const { orders, settings } = this.provider;
    const order = orders.insert(
      { currency: plan.currency, line_items: [{ name: plan.name, unit_price: plan.amount, quantity: 1 }], metadata: {} },
      { object: 'customer_info', customer_id: customer.id, name: customer.name, email: customer.email, phone: customer.phone, corporate: customer.corporate, customer_custom_reference: customer.custom_reference || null },
      plan.amount,
    );
    this.store.emit('order.created', order);
    const forced = { paid: 'pay', declined: 'decline' }[outcome];
    const usual = settings.card_outcomes[subscription.card_id];
    if (forced) settings.card_outcomes[subscription.card_id] = forced;
    const { charge, decline } = orders.charge(order.id, { payment_method: { type: 'card', payment_source_id: subscription.card_id } });
    if (usual === undefined) delete settings.card_outcomes[subscription.card_id];
    else settings.card_outcomes[subscription.card_id] = usual;
    if (decline) this.#failed(subscription, plan, order, charge);
    else this.#paid(subscription, plan, order, charge);
    return this.store.find('subscriptions', id);
  }

  #paid(subscription, plan, order, charge) {
    const hidden = subscription[HIDDEN];
    const now = this.store.clock.now();
    const start = subscription.status !== 'past_due' && subscription.billing_cycle_end !== null && subscription.billing_cycle_end <= now ? subscription.billing_cycle_end : now;
    Object.assign(hidden, { cycles: hidden.cycles + 1, failures: 0, retryAt: null });
    this.#enter(subscription.id, {
      status: 'active', billing_cycle_start: start, billing_cycle_end: cycleEnd(start, plan), last_billing_cycle_order_id: order.id, charge_id: charge.id,
    }, 'subscription.paid');
  }

  #failed(subscription, plan, order, charge) {
    const hidden = subscription[HIDDEN];
    hidden.failures++;
    hidden.retryAt = this.store.clock.now() + plan.retry_delay_hours * HOUR;
    this.#enter(subscription.id, { status: 'past_due', last_billing_cycle_order_id: order.id, charge_id: charge.id }, 'subscription.payment_failed');
    if (hidden.failures > plan.max_retries) this.end(subscription.id, 'max_retries_reached');
  }

  #renew(id) {
    const { plan_id: plan, [HIDDEN]: { cycles } } = this.store.find('subscriptions', id);
    const { expiry_count: count } = this.store.find('plans', plan);
    if (count !== null && count !== undefined && cycles >= count) return this.#enter(id, { status: 'expired' }, 'subscription.expired');
    return this.bill(id);
  }

  *dueWork() {
    for (const { id, status, trial_end: trial, billing_cycle_end: end, [HIDDEN]: { retryAt } } of this.store.newestFirst('subscriptions')) {
      if (status === 'in_trial') yield { at: trial, run: () => this.bill(id) };
      if (status === 'active' && end !== null) yield { at: end, run: () => this.#renew(id) };
      if (status === 'past_due' && retryAt !== null) yield { at: retryAt, run: () => this.bill(id) };
    }
  }

  // ---- the customer's portal ----

  createPortal({ ids: [id] }) {
    const subscription = this.store.get('subscriptions', id, 'Subscription');
    const portal = this.store.find('customer_portals', id) ?? this.#newPortal(subscription);
    return new Answer(201, this.#portalView(portal));
  }

  readPortal({ ids: [id] }) {
    const portal = this.store.find('customer_portals', id);
    if (!portal) throw missing('CustomerPortal', id);
    return this.#portalView(portal);
  }

  #newPortal({ id, customer_id: customer }) {
    const now = this.store.clock.now();
    const slug = objectId();
    return this.store.insert('customer_portals', {
      id, object: 'customer_portal', slug, subscription_id: id, customer_id: customer, livemode: false, company_id: '5f0f5a5b5c5d5e5f60616263', created_at: now, updated_at: now,
      portal_url: `https://subscriptions.conekta.com/${slug}`,
    });
  }

  #portalView(portal) {
    const { card_id: card, plan_id: planId, status } = this.store.find('subscriptions', portal.subscription_id);
    const { id, object, name, email } = this.provider.customers.get(portal.customer_id);
    return {
      ...portal, id: portal.slug, customer: { id, object, name, email },
      subscription: { id: portal.subscription_id, object: 'subscription', status, plan_id: planId, customer_id: id, card: { id: card, object: 'card' } },
    };
  }
}

// Subscriptions: the calls of the API. What happens to them as time passes is in renewals.js.

import { addIntervals, periodAt } from '../../core/clock.js';
import { amountOf } from './catalog.js';
import { list, search } from './query.js';
import { HIDDEN, applyFields, bool, int, invalid, mergeMetadata, missing, newId } from './store.js';

const DAY = 86400;
const ENDED = new Set(['canceled', 'incomplete_expired']);

// Accepted by the real one, but they change amounts or dates in ways that are not imitated here. Refusing
// them is better than an answer that looks right and is not.
const NOT_IMITATED = [
  'add_invoice_items', 'backdate_start_date', 'billing_cycle_anchor_config', 'billing_schedules', 'billing_thresholds',
  'pending_invoice_item_interval', 'transfer_data', 'trial_from_plan', 'application_fee_percent',
];

export class Subscriptions {
  constructor(stripe) {
    this.stripe = stripe;
    this.store = stripe.store;
  }

  ended(subscription) {
    return ENDED.has(subscription.status);
  }

  #refuseNotImitated(params) {
    for (const name of NOT_IMITATED) {
      if (params[name] !== undefined && params[name] !== '') this.stripe.notImitated(`the parameter ${name} of subscriptions`);
    }
    if (params.payment_behavior === 'pending_if_incomplete') this.stripe.notImitated('payment_behavior=pending_if_incomplete');
  }

  // ---- items ----

  #priceOf(given) {
    if (given.price) {
      const price = this.stripe.catalog.price(given.price, 'items[price]');
      if (!price.active) throw invalid(`The price specified is inactive. This field only accepts active prices.`, 'items[0][price]');
      if (price.type !== 'recurring') throw invalid(`The price specified is set to \`type=one_time\` but this field only accepts prices with \`type=recurring\`.`, 'items[0][price]');
      return price;
    }
    if (given.price_data) return this.stripe.catalog.createPrice({ ...given.price_data });
    throw invalid('Missing required param: items[0][price].', 'items[0][price]', 'parameter_missing');
  }

  #item(given, price, period, subscriptionId, old) {
    const metered = price.recurring.usage_type === 'metered';
    const quantity = given.quantity === undefined ? old?.quantity ?? 1 : int(given.quantity);
    if (metered && given.quantity !== undefined) throw invalid('Quantity should not be specified for metered prices.', 'items[0][quantity]');
    const item = {
      id: old?.id ?? newId('si'),
      object: 'subscription_item',
      billing_thresholds: null,
      created: old?.created ?? this.store.clock.now(),
      current_period_end: period.end,
      current_period_start: period.start,
      current_trial: null,
      discounts: [],
      metadata: given.metadata === undefined ? old?.metadata ?? {} : mergeMetadata(old?.metadata ?? {}, given.metadata),
      plan: planOf(price),
      price,
      ...(!metered && { quantity }),
      subscription: subscriptionId,
      tax_rates: [],
    };
    return item;
  }

  #checkSameSchedule(prices) {
    const [first] = prices;
    for (const price of prices) {
      if (price.currency !== first.currency) throw invalid(`The price specified supports currencies of \`${price.currency}\`. This doesn't match the expected currency: \`${first.currency}\`.`, 'items[0][price]');
      if (price.recurring.interval !== first.recurring.interval || price.recurring.interval_count !== first.recurring.interval_count) {
        this.stripe.notImitated('items with different billing periods in one subscription');
      }
    }
    return first;
  }

  // ---- create ----

  #trialEnd(params, now) {
    if (params.trial_end !== undefined && params.trial_period_days !== undefined) {
      throw invalid('You cannot set both `trial_end` and `trial_period_days`.', 'trial_period_days');
    }
    if (params.trial_end === 'now' || params.trial_end === '') return null;
    if (params.trial_end !== undefined) {
      const end = int(params.trial_end);
      if (end <= now) throw invalid('Invalid timestamp: must be an integer Unix timestamp in the future.', 'trial_end');
      return end;
    }
    const days = int(params.trial_period_days, 0);
    if (days < 0 || days > 730) throw invalid('The trial period must be between 0 and 730 days.', 'trial_period_days');
    return days > 0 ? now + days * DAY : null;
  }

  create(params) {
    this.#refuseNotImitated(params);
    if (!params.customer) throw invalid('Missing required param: customer.', 'customer', 'parameter_missing');
    const customer = this.stripe.customers.live(params.customer, 'customer');
    if (!params.items?.length) throw invalid('Missing required param: items.', 'items', 'parameter_missing');
    const now = this.store.clock.now();
    const trialEnd = this.#trialEnd(params, now);
    const prices = params.items.map((given) => this.#priceOf(given));
    const { currency, recurring } = this.#checkSameSchedule(prices);
    const anchor = params.billing_cycle_anchor ? int(params.billing_cycle_anchor) : trialEnd ?? now;
    if (params.billing_cycle_anchor && trialEnd) this.stripe.notImitated('billing_cycle_anchor beside a trial');
    const whole = periodAt(anchor, recurring.interval, recurring.interval_count, now);
    const period = trialEnd ? { start: now, end: trialEnd } : { start: Math.max(whole.start, now), end: whole.end };
    const share = (period.end - period.start) / (whole.end - whole.start);
    const id = newId('sub');
    const items = params.items.map((given, i) => this.#item(given, prices[i], period, id));
    const method = this.#methodGiven(params, customer.id);
    const subscription = this.#shell(id, params, { customer, currency, items, anchor, trialEnd, period, now, method });
    const due = (item) => (trialEnd ? 0 : Math.round(amountOf(item.price, item.quantity) * share));
    const full = items.reduce((sum, item) => sum + due(item), 0);
    const first = full - this.stripe.coupons.discountOf(params.discounts, full, currency);
    this.#checkPayer(params, subscription, first);
    this.store.insert('subscriptions', subscription);
    this.#firstInvoice(params, subscription, period, due);
    return this.#announce(id);
  }

  #methodGiven(params, customerId) {
    if (!params.default_payment_method) return null;
    const method = this.store.find('payment_methods', params.default_payment_method);
    if (!method || method.customer !== customerId) {
      throw invalid(
        `The customer does not have a payment method with the ID ${params.default_payment_method}. The payment method must be attached to the customer.`,
        'default_payment_method',
        'resource_missing',
      );
    }
    return method;
  }

  #shell(id, params, { customer, currency, items, anchor, trialEnd, period, now, method }) {
    const mode = params.billing_mode?.type ?? 'flexible';
    const coupons = this.stripe.coupons.given(params.discounts);
    const shell = {
      id,
      object: 'subscription',
      application: null,
      application_fee_percent: null,
      automatic_tax: { disabled_reason: null, enabled: bool(params.automatic_tax?.enabled, false), liability: null },
      billing_cycle_anchor: anchor,
      billing_cycle_anchor_config: null,
      billing_mode: { flexible: mode === 'flexible' ? { proration_discounts: 'included' } : null, type: mode },
      billing_schedules: [],
      billing_thresholds: null,
      cancel_at: null,
      cancel_at_period_end: false,
      canceled_at: null,
      cancellation_details: { comment: null, feedback: null, feedback_option: null, reason: null },
      collection_method: params.collection_method ?? 'charge_automatically',
      created: now,
      currency,
      customer: customer.id,
      customer_account: null,
      days_until_due: params.days_until_due === undefined ? null : int(params.days_until_due),
      default_payment_method: method?.id ?? null,
      default_source: null,
      default_tax_rates: [],
      description: params.description ?? null,
      discounts: coupons.map((d) => d.id),
      ended_at: null,
      invoice_settings: { account_tax_ids: null, custom_fields: null, description: null, footer: null, issuer: { type: 'self' } },
      items: { object: 'list', data: items, has_more: false, total_count: items.length, url: `/v1/subscription_items?subscription=${id}` },
      latest_invoice: null,
      livemode: false,
      managed_payments: null,
      metadata: mergeMetadata({}, params.metadata),
      next_pending_invoice_item_invoice: null,
      on_behalf_of: null,
      pause_collection: null,
      payment_settings: {
        payment_method_options: null,
        payment_method_types: null,
        save_default_payment_method: params.payment_settings?.save_default_payment_method ?? 'off',
      },
      pending_invoice_item_interval: null,
      pending_setup_intent: null,
      pending_update: null,
      schedule: null,
      start_date: now,
      status: trialEnd ? 'trialing' : 'incomplete',
      test_clock: null,
      transfer_data: null,
      trial_end: trialEnd,
      trial_settings: trialSettings(params.trial_settings),
      trial_start: trialEnd ? now : null,
      // coupons: what is still to be taken off. pending: proration lines for the next invoice. silent: no events yet, the object is being made.
      [HIDDEN]: { pending: [], silent: true, willEndSent: false, retrying: null, coupons },
    };
    return { ...shell, ...this.#cancelWish(params, period, now) };
  }

  // Without any payment method the first invoice cannot be tried: refused, nothing is made.
  #checkPayer(params, subscription, amount) {
    if (subscription.collection_method === 'send_invoice') {
      if (subscription.days_until_due === null) throw invalid('Missing required param: days_until_due.', 'days_until_due', 'parameter_missing');
      return;
    }
    if (amount === 0 || params.payment_behavior === 'default_incomplete') return;
    const method = this.#payer(subscription);
    if (!method) {
      throw invalid(
        'This customer has no attached payment source or default payment method. Please consider adding a default payment method. For more information, visit https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority.',
        undefined,
        'resource_missing',
      );
    }
    this.#refuseIfDeclined(params, method);
  }

  // error_if_incomplete: a payment that would not go through stops the call before anything is changed.
  #refuseIfDeclined(params, method) {
    if (params.payment_behavior !== 'error_if_incomplete') return;
    const outcome = method ? this.stripe.customers.chargeOutcome(method, bool(params.off_session, false)) : { code: 'resource_missing', message: 'There is no payment method to charge.' };
    if (outcome === 'authenticate') throw this.stripe.invoices.cardError({ code: 'subscription_payment_intent_requires_action', message: 'Payment for this subscription requires additional user action before it can be completed successfully.' });
    if (outcome !== null) throw this.stripe.invoices.cardError(outcome);
  }

  #payer(subscription) {
    const customer = this.store.find('customers', subscription.customer);
    const id = subscription.default_payment_method ?? customer?.invoice_settings?.default_payment_method;
    return id ? this.store.find('payment_methods', id) : null;
  }

  #firstInvoice(params, subscription, period, due) {
    const trial = subscription.status === 'trialing';
    const items = subscription.items.data;
    const lines = items.map((item) => this.stripe.invoices.itemLine(subscription, item, period, due(item)));
    const draft = this.stripe.invoices.make(subscription, 'subscription_create', lines, { start: subscription.created, end: subscription.created });
    this.store.change('subscriptions', subscription.id, { latest_invoice: draft.id });
    if (trial && !this.#payer(subscription) && params.payment_behavior === 'default_incomplete') {
      const intent = this.stripe.setups.create({ customer: subscription.customer });
      this.store.change('subscriptions', subscription.id, { pending_setup_intent: intent.id });
    }
    const invoice = this.stripe.invoices.finalize(draft.id);
    if (subscription.collection_method === 'send_invoice') {
      if (!trial) this.store.change('subscriptions', subscription.id, { status: 'active' });
      return;
    }
    if (invoice.status === 'open' && params.payment_behavior !== 'default_incomplete') {
      this.stripe.invoices.attempt(invoice.id, this.#payer(subscription), { offSession: bool(params.off_session, false) });
    }
  }

  // The creation is told once, with the state that came out of it.
  #announce(id) {
    const subscription = this.store.find('subscriptions', id);
    subscription[HIDDEN].silent = false;
    this.store.emit('customer.subscription.created', subscription);
    this.stripe.renewals.announceTrialEnd(subscription);
    return subscription;
  }

  // ---- read ----

  get(params, id) {
    const subscription = this.store.find('subscriptions', id);
    if (!subscription) throw missing('subscription', id);
    return subscription;
  }

  // Ended ones are listed only when asked for.
  list(params) {
    const status = params.status;
    return list(this.store, 'subscriptions', params, '/v1/subscriptions', (s) => {
      if (params.customer !== undefined && s.customer !== params.customer) return false;
      if (params.price !== undefined && !s.items.data.some((i) => i.price.id === params.price)) return false;
      if (params.collection_method !== undefined && s.collection_method !== params.collection_method) return false;
      if (status === 'all') return true;
      if (status === 'ended') return this.ended(s);
      return status === undefined ? s.status !== 'canceled' : s.status === status;
    });
  }

  search(params) {
    return search(this.store, 'subscriptions', params, '/v1/subscriptions/search', this.stripe.settings.search_lag_ms);
  }

  // ---- update ----

  update(params, id) {
    const before = this.get({}, id);
    if (this.ended(before)) return this.#updateEnded(params, before);
    this.#refuseNotImitated(params);
    const now = this.store.clock.now();
    const changes = applyFields(before, params, ['description']);
    this.#settings(params, before, changes);
    const period = currentPeriod(before);
    const items = params.items === undefined ? before.items.data : this.#changedItems(params.items, before, period);
    const trial = this.#trialChange(params, before, now);
    Object.assign(changes, trial.changes, this.#cancelWish(params, trial.period ?? period, now, before));
    return this.#applyUpdate(params, before, { changes, items, trial, now, period });
  }

  #updateEnded(params, before) {
    const others = Object.keys(params).filter((name) => !['metadata', 'cancellation_details', 'expand'].includes(name));
    if (others.length > 0) throw invalid('A canceled subscription can only update its cancellation_details and metadata.', others[0]);
    const changes = applyFields(before, params, []);
    if (params.cancellation_details) changes.cancellation_details = { ...before.cancellation_details, ...params.cancellation_details };
    return this.store.change('subscriptions', before.id, changes, 'customer.subscription.updated');
  }

  #settings(params, before, changes) {
    if (params.default_payment_method !== undefined) changes.default_payment_method = this.#methodGiven(params, before.customer)?.id ?? null;
    if (params.collection_method !== undefined) changes.collection_method = params.collection_method;
    if (params.days_until_due !== undefined) changes.days_until_due = int(params.days_until_due);
    if (params.automatic_tax) changes.automatic_tax = { ...before.automatic_tax, enabled: bool(params.automatic_tax.enabled, false) };
    if (params.trial_settings) changes.trial_settings = trialSettings(params.trial_settings);
    if (params.payment_settings?.save_default_payment_method) {
      changes.payment_settings = { ...before.payment_settings, save_default_payment_method: params.payment_settings.save_default_payment_method };
    }
    if (params.discounts !== undefined) {
      before[HIDDEN].coupons = params.discounts === '' ? [] : this.stripe.coupons.given(params.discounts);
      changes.discounts = before[HIDDEN].coupons.map((d) => d.id);
    }
    if (params.pause_collection !== undefined) {
      changes.pause_collection = params.pause_collection === ''
        ? null
        : { behavior: params.pause_collection.behavior, resumes_at: int(params.pause_collection.resumes_at, null) };
    }
    if (params.cancellation_details) changes.cancellation_details = { ...before.cancellation_details, ...params.cancellation_details };
  }

  // An entry with an id changes that item, one without adds another; deleted=true takes one away.
  #changedItems(given, before, period) {
    const items = [...before.items.data];
    for (const entry of given) {
      const at = entry.id === undefined ? -1 : items.findIndex((i) => i.id === entry.id);
      if (entry.id !== undefined && at < 0) throw invalid(`No such subscription_item: '${entry.id}'`, 'items[0][id]', 'resource_missing');
      if (bool(entry.deleted, false)) {
        items.splice(at, 1);
        continue;
      }
      const price = at >= 0 && !entry.price && !entry.price_data ? items[at].price : this.#priceOf(entry);
      if (at < 0 && items.some((i) => i.price.id === price.id)) {
        throw invalid(`Cannot add multiple subscription items with the same plan: ${price.id}`, 'items[0][price]');
      }
      const item = this.#item(entry, price, period, before.id, items[at]);
      if (at < 0) items.push(item);
      else items[at] = item;
    }
    if (items.length === 0) throw invalid('A subscription must have at least one active plan.', 'items');
    this.#checkSameSchedule(items.map((i) => i.price));
    return items;
  }

  #trialChange(params, before, now) {
    if (params.trial_end === undefined) return { changes: {} };
    if (params.trial_end === 'now') return { changes: {}, endNow: before.status === 'trialing' };
    const end = this.#trialEnd(params, now);
    before[HIDDEN].willEndSent = false;
    return {
      changes: { trial_end: end, trial_start: before.trial_start ?? now, status: 'trialing', billing_cycle_anchor: end },
      period: { start: before.status === 'trialing' ? currentPeriod(before).start : now, end },
    };
  }

  // cancel_at_period_end and cancel_at; false or '' takes the wish back.
  #cancelWish(params, period, now, before) {
    if (params.cancel_at_period_end !== undefined && params.cancel_at !== undefined && params.cancel_at !== '') {
      throw invalid('You cannot set both `cancel_at` and `cancel_at_period_end`.', 'cancel_at');
    }
    const withdrawn = { cancel_at: null, cancel_at_period_end: false, canceled_at: null };
    const details = before?.cancellation_details ?? { comment: null, feedback: null, feedback_option: null, reason: null };
    const wished = { canceled_at: before?.canceled_at ?? now, cancellation_details: { ...details, ...params.cancellation_details, reason: 'cancellation_requested' } };
    if (params.cancel_at_period_end !== undefined) {
      if (bool(params.cancel_at_period_end)) return { ...wished, cancel_at: period.end, cancel_at_period_end: true };
      return before?.cancel_at_period_end ? { ...withdrawn, cancellation_details: { ...details, reason: null } } : {};
    }
    if (params.cancel_at === '') return { ...withdrawn, cancellation_details: { ...details, reason: null } };
    if (params.cancel_at === undefined) return {};
    const at = /^(min|max)_period_end$/.test(params.cancel_at) ? period.end : int(params.cancel_at);
    if (!(at > now)) throw invalid('Invalid timestamp: must be an integer Unix timestamp in the future.', 'cancel_at');
    return { ...wished, cancel_at: at, cancel_at_period_end: at === period.end };
  }

  #applyUpdate(params, before, { changes, items, trial, now, period }) {
    const newSchedule = !sameSchedule(before.items.data[0].price, items[0].price);
    const behavior = params.proration_behavior ?? 'create_prorations';
    const billed = before.status === 'active' || before.status === 'past_due';
    const lines = billed && behavior !== 'none' ? this.#prorations(before, items, int(params.proration_date, now), newSchedule) : [];
    const restart = newSchedule && billed && !trial.period;
    if (restart || (behavior === 'always_invoice' && lines.length > 0)) {
      const net = lines.reduce((sum, l) => sum + l.amount, 0) + (restart ? items.reduce((sum, i) => sum + amountOf(i.price, i.quantity), 0) : 0);
      if (net > 0) this.#refuseIfDeclined(params, this.#payer({ ...before, ...changes }));
    }
    const next = restart ? periodAt(now, items[0].price.recurring.interval, items[0].price.recurring.interval_count, now) : trial.period ?? period;
    if (restart) changes.billing_cycle_anchor = now;
    changes.items = { ...before.items, data: withPeriod(items, next), total_count: items.length };
    before[HIDDEN].pending.push(...lines);
    const after = this.store.change('subscriptions', before.id, changes, 'customer.subscription.updated');
    if (trial.endNow) {
      this.store.change('subscriptions', before.id, { trial_end: now });
      this.stripe.renewals.endTrial(this.store.find('subscriptions', before.id), now);
    } else if (restart || (behavior === 'always_invoice' && lines.length > 0)) {
      this.#invoiceNow(after, restart ? next : null, bool(params.off_session, false), params.payment_behavior !== 'default_incomplete');
    }
    return this.store.find('subscriptions', before.id);
  }

  // The unused part of what was paid comes back, the rest of the period at the new terms is owed. With a new
  // billing period only the credit: the new period is billed in full.
  #prorations(before, items, moment, newSchedule) {
    const { start, end } = currentPeriod(before);
    const share = Math.min(1, Math.max(0, (end - moment) / (end - start)));
    const period = { start: Math.max(start, moment), end };
    const lines = [];
    const part = (item) => Math.round(amountOf(item.price, item.quantity) * share);
    const name = (item) => this.store.find('products', item.price.product)?.name ?? item.price.product;
    const add = (item, amount, word) => {
      if (amount !== 0) lines.push(this.stripe.invoices.prorationLine(before, item, amount, period, `${word} time on ${item.quantity ?? 1} × ${name(item)}`));
    };
    for (const old of before.items.data) {
      const now = items.find((i) => i.id === old.id);
      if (now && now.price.id === old.price.id && now.quantity === old.quantity && !newSchedule) continue;
      add(old, -part(old), 'Unused');
      if (now && !newSchedule) add(now, part(now), 'Remaining');
    }
    for (const item of items) {
      if (!newSchedule && !before.items.data.some((i) => i.id === item.id)) add(item, part(item), 'Remaining');
    }
    return lines;
  }

  // An invoice between two renewals: what is pending and, after a change of the schedule, the new period.
  #invoiceNow(subscription, period, offSession, tryPayment = true, reason = 'subscription_update') {
    const hidden = subscription[HIDDEN];
    const lines = hidden.pending.splice(0);
    if (period) lines.push(...subscription.items.data.map((item) => this.stripe.invoices.itemLine(subscription, item, period)));
    if (lines.length === 0) return null;
    const now = this.store.clock.now();
    const draft = this.stripe.invoices.make(subscription, reason, lines, { start: now, end: now });
    this.store.change('subscriptions', subscription.id, { latest_invoice: draft.id });
    const invoice = this.stripe.invoices.finalize(draft.id);
    if (invoice.status !== 'open' || subscription.collection_method !== 'charge_automatically' || !tryPayment) return invoice;
    return this.stripe.invoices.attempt(invoice.id, this.stripe.invoices.methodOf(invoice), { offSession }).invoice;
  }

  // ---- end, pause, resume ----

  cancel(params, id) {
    const subscription = this.get({}, id);
    if (this.ended(subscription)) throw missing('subscription', id);
    if (bool(params.prorate, false) && (subscription.status === 'active' || subscription.status === 'past_due')) {
      subscription[HIDDEN].pending.push(...this.#prorations(subscription, [], this.store.clock.now(), false));
    }
    if (bool(params.invoice_now, false)) this.#invoiceNow(subscription, null, true);
    return this.end(id, 'cancellation_requested', params.cancellation_details);
  }

  // Canceled now. An unpaid first invoice dies with it; later ones stay open, as with the real one.
  end(id, reason, details = {}) {
    const subscription = this.store.find('subscriptions', id);
    const now = this.store.clock.now();
    const invoice = this.store.find('invoices', subscription.latest_invoice);
    if (subscription.status === 'incomplete' && invoice?.status === 'open') this.stripe.invoices.void({}, invoice.id);
    const ended = this.store.change('subscriptions', id, {
      canceled_at: subscription.canceled_at ?? now,
      cancellation_details: { ...subscription.cancellation_details, ...details, reason },
      ended_at: now,
      pause_collection: null,
      status: 'canceled',
    });
    this.store.emit('customer.subscription.deleted', ended);
    return ended;
  }

  pause(params, id) {
    const subscription = this.get({}, id);
    if (subscription.billing_mode.type !== 'flexible') throw invalid('Only subscriptions with billing_mode flexible can be paused.', 'id');
    if (subscription.status !== 'active' && subscription.status !== 'trialing' && subscription.status !== 'past_due') {
      throw invalid(`This subscription cannot be paused because its status is ${subscription.status}.`, 'id');
    }
    if (['now', 'item_current_period_start'].includes(params.bill_for?.unused_time_from?.type)) {
      const moment = params.bill_for.unused_time_from.type === 'now' ? this.store.clock.now() : currentPeriod(subscription).start;
      subscription[HIDDEN].pending.push(...this.#prorations(subscription, [], moment, false));
      if (params.invoicing_behavior !== 'pending_invoice_item') this.#invoiceNow(subscription, null, true);
    }
    return this.setPaused(id, 'pause_requested');
  }

  setPaused(id, type) {
    const before = this.store.find('subscriptions', id);
    const paused = this.store.change('subscriptions', id, { status: 'paused', status_details: { paused: { subscription: { type } } } });
    this.store.emit('customer.subscription.paused', paused, { status: before.status });
    this.store.emit('customer.subscription.updated', paused, { status: before.status });
    return paused;
  }

  // The anchor moves to now unless told otherwise; a period that is over by then is billed anew.
  resume(params, id) {
    const subscription = this.get({}, id);
    if (subscription.status !== 'paused') throw invalid(`This subscription cannot be resumed because its status is ${subscription.status}.`, 'id');
    const now = this.store.clock.now();
    const { interval, interval_count: count } = subscription.items.data[0].price.recurring;
    const unchanged = params.billing_cycle_anchor?.type === 'unchanged';
    const anchor = unchanged ? subscription.billing_cycle_anchor : now;
    const period = periodAt(anchor, interval, count, now);
    const bill = !unchanged || currentPeriod(subscription).end <= now;
    const resumed = this.store.change('subscriptions', id, {
      billing_cycle_anchor: anchor,
      items: { ...subscription.items, data: withPeriod(subscription.items.data, period) },
      status: 'active',
      status_details: undefined,
    });
    this.store.emit('customer.subscription.resumed', resumed, { status: 'paused' });
    this.store.emit('customer.subscription.updated', resumed, { status: 'paused' });
    if (bill) this.#invoiceNow(resumed, period, true, true, 'subscription_cycle');
    return this.store.find('subscriptions', id);
  }

  // ---- what an invoice's payment means ----

  #ofInvoice(invoice) {
    const id = invoice.parent?.subscription_details?.subscription;
    return id ? this.store.find('subscriptions', id) : null;
  }

  #setStatus(subscription, status) {
    const event = subscription[HIDDEN].silent ? undefined : 'customer.subscription.updated';
    this.store.change('subscriptions', subscription.id, { status }, event);
  }

  invoicePaid(invoice) {
    const subscription = this.#ofInvoice(invoice);
    if (!subscription) return;
    if (subscription[HIDDEN].retrying === invoice.id) subscription[HIDDEN].retrying = null;
    if (subscription.latest_invoice !== invoice.id) return;
    if (['incomplete', 'past_due', 'unpaid'].includes(subscription.status)) this.#setStatus(subscription, 'active');
  }

  invoiceFailed(invoice) {
    const subscription = this.#ofInvoice(invoice);
    if (!subscription || this.ended(subscription)) return;
    if (invoice.next_payment_attempt) subscription[HIDDEN].retrying = invoice.id;
    if (subscription.status === 'active' || subscription.status === 'trialing') this.#setStatus(subscription, 'past_due');
  }

  // Dunning: the days after the first failure at which a renewal is tried again.
  nextAttempt(invoice, attempts) {
    if (invoice.billing_reason === 'subscription_create' || invoice.collection_method !== 'charge_automatically') return null;
    const days = this.stripe.settings.dunning_days[attempts - 1];
    return days === undefined ? null : invoice.status_transitions.finalized_at + days * DAY;
  }
}

function planOf(price) {
  return {
    id: price.id,
    object: 'plan',
    active: price.active,
    amount: price.unit_amount,
    amount_decimal: price.unit_amount_decimal,
    billing_scheme: price.billing_scheme,
    created: price.created,
    currency: price.currency,
    interval: price.recurring.interval,
    interval_count: price.recurring.interval_count,
    livemode: false,
    metadata: price.metadata,
    meter: price.recurring.meter,
    nickname: price.nickname,
    product: price.product,
    tiers_mode: price.tiers_mode,
    transform_usage: null,
    trial_period_days: price.recurring.trial_period_days,
    usage_type: price.recurring.usage_type,
  };
}

function trialSettings(given) {
  return {
    end_behavior: {
      billing_cycle_anchor: given?.end_behavior?.billing_cycle_anchor ?? null,
      missing_payment_method: given?.end_behavior?.missing_payment_method ?? 'create_invoice',
    },
  };
}

const sameSchedule = (a, b) => a.recurring.interval === b.recurring.interval && a.recurring.interval_count === b.recurring.interval_count;

export function currentPeriod(subscription) {
  const [item] = subscription.items.data;
  return { start: item.current_period_start, end: item.current_period_end };
}

export function withPeriod(items, period) {
  return items.map((item) => ({ ...item, current_period_start: period.start, current_period_end: period.end }));
}

export function nextPeriod(subscription) {
  const { interval, interval_count: count } = subscription.items.data[0].price.recurring;
  const { end } = currentPeriod(subscription);
  const { start } = periodAt(subscription.billing_cycle_anchor, interval, count, end);
  return { start: end, end: start === end ? periodAt(subscription.billing_cycle_anchor, interval, count, end).end : addIntervals(end, interval, count, 1) };
}

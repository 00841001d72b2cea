// What Stripe does by itself as time passes: trials end, periods renew, failed payments are tried again,
// wishes to cancel come due. It happens only while the clock is being moved, in the order of the due times,
// with the clock standing at each due time, so that every object and event carries the time it would have.

import { HIDDEN } from './store.js';
import { currentPeriod, nextPeriod, withPeriod } from './subscriptions.js';

const DAY = 86400;
const INCOMPLETE_FOR = 23 * 3600;

// A binary heap of {at, id}: a year of 10,000 subscriptions is 120,000 steps, too many to search for each.
class Due {
  #heap = [];

  push(at, id) {
    const heap = this.#heap;
    let i = heap.push({ at, id }) - 1;
    while (i > 0) {
      const up = (i - 1) >> 1;
      if (heap[up].at <= heap[i].at) break;
      [heap[up], heap[i]] = [heap[i], heap[up]];
      i = up;
    }
  }

  pop() {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (heap.length === 0) return top;
    heap[0] = last;
    for (let i = 0; ; ) {
      let least = i;
      for (const child of [2 * i + 1, 2 * i + 2]) if (child < heap.length && heap[child].at < heap[least].at) least = child;
      if (least === i) return top;
      [heap[least], heap[i]] = [heap[i], heap[least]];
      i = least;
    }
  }

  get size() {
    return this.#heap.length;
  }

  get next() {
    return this.#heap[0]?.at;
  }
}

export class Renewals {
  constructor(stripe) {
    this.stripe = stripe;
    this.store = stripe.store;
  }

  // Moves the clock to the target, doing on the way all that comes due. -> how many things happened
  advance(target) {
    const due = new Due();
    for (const subscription of this.store.all('subscriptions')) this.#schedule(due, subscription, target);
    let steps = 0;
    while (due.size > 0 || this.store.nextDue() <= target) {
      if (this.store.nextDue() <= (due.next ?? target)) {
        const timer = this.store.takeDue(target);
        if (timer.at > this.store.clock.now()) this.store.clock.set(timer.at);
        timer.run();
        steps++;
        continue;
      }
      const { at, id } = due.pop();
      const subscription = this.store.find('subscriptions', id);
      const task = this.#nextTask(subscription);
      if (!task || task.at !== at) continue;
      if (at > this.store.clock.now()) this.store.clock.set(at);
      task.run(subscription, at);
      steps++;
      this.#schedule(due, this.store.find('subscriptions', id), target);
    }
    this.store.clock.set(target);
    return steps;
  }

  #schedule(due, subscription, target) {
    const task = this.#nextTask(subscription);
    if (task && task.at <= target) due.push(task.at, subscription.id);
  }

  // The earliest of the things that wait for this subscription; at equal times the first in the list.
  #nextTask(s) {
    if (this.stripe.subscriptions.ended(s)) return null;
    const tasks = [];
    const add = (at, run) => at !== null && at !== undefined && tasks.push({ at, run: run.bind(this) });
    add(s.cancel_at, this.#cancelWished);
    if (s.status === 'incomplete') add(s.created + INCOMPLETE_FOR, this.#expire);
    if (s.status === 'trialing') {
      if (!s[HIDDEN].willEndSent) add(s.trial_end - 3 * DAY, this.announceTrialEnd);
      add(s.trial_end, this.endTrial);
    }
    if (s.status === 'active' || s.status === 'past_due' || s.status === 'unpaid') add(currentPeriod(s).end, this.#renew);
    if (s.pause_collection?.resumes_at) add(s.pause_collection.resumes_at, this.#resumeCollection);
    const retrying = s[HIDDEN].retrying && this.store.find('invoices', s[HIDDEN].retrying);
    if (retrying?.next_payment_attempt) add(retrying.next_payment_attempt, this.#retry);
    return tasks.reduce((best, task) => (best === null || task.at < best.at ? task : best), null);
  }

  #cancelWished(subscription) {
    this.stripe.subscriptions.end(subscription.id, subscription.cancellation_details.reason ?? 'cancellation_requested');
  }

  #expire(subscription) {
    const invoice = this.store.find('invoices', subscription.latest_invoice);
    if (invoice?.status === 'open') this.stripe.invoices.void({}, invoice.id);
    this.store.change('subscriptions', subscription.id, { status: 'incomplete_expired', ended_at: this.store.clock.now() }, 'customer.subscription.updated');
  }

  // Three days before the end, or at once when the trial is shorter than that.
  announceTrialEnd(subscription) {
    const hidden = subscription[HIDDEN];
    if (subscription.status !== 'trialing' || hidden.willEndSent || subscription.trial_end - 3 * DAY > this.store.clock.now()) return;
    hidden.willEndSent = true;
    this.store.emit('customer.subscription.trial_will_end', subscription);
  }

  endTrial(subscription, at) {
    const invoices = this.stripe.invoices;
    const payer = invoices.methodOf({ customer: subscription.customer, parent: { subscription_details: { subscription: subscription.id } } });
    const missing = subscription.trial_settings.end_behavior.missing_payment_method;
    if (!payer && subscription.collection_method === 'charge_automatically') {
      if (missing === 'cancel') return this.stripe.subscriptions.end(subscription.id, 'cancellation_requested');
      if (missing === 'pause') return this.stripe.subscriptions.setPaused(subscription.id, 'trial_end_without_payment_method');
    }
    const started = this.store.change('subscriptions', subscription.id, { billing_cycle_anchor: at, trial_end: at });
    this.#bill(started, nextPeriod({ ...started, items: { data: withPeriod(started.items.data, { start: started.trial_start, end: at }) } }), { status: 'active' });
  }

  #renew(subscription) {
    this.#bill(subscription, nextPeriod(subscription), {});
  }

  // The new period first, then its invoice: finalised and charged at once, where the real one waits
  // for about an hour.
  #bill(subscription, period, changes) {
    const before = currentPeriod(subscription);
    const renewed = this.store.change('subscriptions', subscription.id, {
      ...changes,
      items: { ...subscription.items, data: withPeriod(subscription.items.data, period) },
    }, 'customer.subscription.updated');
    const lines = renewed[HIDDEN].pending.splice(0);
    lines.push(...renewed.items.data.map((item) => this.stripe.invoices.itemLine(renewed, item, period)));
    const draft = this.stripe.invoices.make(renewed, 'subscription_cycle', lines, before);
    this.store.change('subscriptions', renewed.id, { latest_invoice: draft.id }, 'customer.subscription.updated');
    this.#collect(renewed, draft);
  }

  #collect(subscription, draft) {
    if (subscription.status === 'unpaid') return;
    switch (subscription.pause_collection?.behavior) {
      case 'keep_as_draft':
        this.store.change('invoices', draft.id, { auto_advance: false }, 'invoice.updated');
        return;
      case 'mark_uncollectible':
        this.stripe.invoices.markUncollectible({}, draft.id);
        return;
      case 'void':
        this.stripe.invoices.finalize(draft.id);
        if (this.store.find('invoices', draft.id).status === 'open') this.stripe.invoices.void({}, draft.id);
        return;
      default:
        this.#charge(this.stripe.invoices.finalize(draft.id));
    }
  }

  #charge(invoice) {
    if (invoice.status !== 'open') return;
    if (invoice.collection_method === 'send_invoice') {
      this.store.emit('invoice.sent', invoice);
      return;
    }
    this.stripe.invoices.attempt(invoice.id, this.stripe.invoices.methodOf(invoice));
  }

  #resumeCollection(subscription) {
    this.store.change('subscriptions', subscription.id, { pause_collection: null }, 'customer.subscription.updated');
  }

  // After the last try the account's setting decides: cancel, unpaid, or leave it past_due.
  #retry(subscription) {
    const invoice = this.store.find('invoices', subscription[HIDDEN].retrying);
    if (invoice.status !== 'open') {
      subscription[HIDDEN].retrying = null;
      return;
    }
    const { invoice: tried } = this.stripe.invoices.attempt(invoice.id, this.stripe.invoices.methodOf(invoice));
    if (tried.status === 'paid' || tried.next_payment_attempt) return;
    subscription[HIDDEN].retrying = null;
    const now = this.store.find('subscriptions', subscription.id);
    if (this.stripe.settings.dunning_then === 'cancel') this.stripe.subscriptions.end(now.id, 'payment_failed');
    else if (this.stripe.settings.dunning_then === 'unpaid') {
      this.store.change('subscriptions', now.id, { status: 'unpaid' }, 'customer.subscription.updated');
    }
  }
}

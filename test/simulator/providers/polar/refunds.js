// Polar: refunds and disputes. The amount of a refund is without tax; its tax follows in proportion.

import { Answer } from '../../core/json_provider.js';
import { ORGANIZATION, checkMetadata, holds, invalidBody, iso, page, refused } from './store.js';

const OPEN = ['needs_response', 'early_warning', 'under_review'];

export class Refunds {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
    this.store.views.refunds = (r) => ({ ...r, dispute: r.dispute && this.#brief(this.store.find('disputes', r.dispute)) });
    this.store.views.disputes = (d) => ({ ...d, customer: this.store.find('customers', this.store.find('orders', d.order_id).customer_id) });
  }

  #brief({ case_id: gone, ...dispute }) {
    return dispute;
  }

  // What is on its way back, and so cannot be refunded again.
  pendingOf(orderId) {
    const sum = { amount: 0, tax_amount: 0 };
    for (const refund of this.store.newestFirst('refunds')) {
      if (refund.order_id !== orderId || refund.status !== 'pending') continue;
      sum.amount += refund.amount;
      sum.tax_amount += refund.tax_amount;
    }
    return sum;
  }

  create({ body }) {
    const order = this.store.show(this.store.named('orders', body.order_id, 'order_id'));
    const metadata = checkMetadata(body.metadata);
    if (order.status === 'refunded') throw refused(403, 'RefundedAlready', 'Order is already fully refunded.');
    if (!order.paid) throw invalidBody('order_id', `The order is ${order.status}.`);
    if (!(body.amount >= 1)) throw invalidBody('amount', 'Input should be greater than 0');
    if (body.amount > order.refundable_amount) throw invalidBody('amount', `Refund amount exceeds remaining order balance: ${order.refundable_amount}`);
    if (body.revoke_benefits && order.subscription_id) throw invalidBody('revoke_benefits', 'Benefits of a subscription cannot be revoked by a refund.');
    return new Answer(201, this.insert(order, body.amount, { ...body, metadata }));
  }

  insert(order, amount, { reason, metadata = {}, revoke_benefits: revoke = false, dispute = null }) {
    const whole = amount === order.refundable_amount;
    const tax = whole ? order.refundable_tax_amount : Math.round((amount / order.refundable_amount) * order.refundable_tax_amount);
    const refund = this.store.create('refunds', {
      metadata, status: this.provider.settings.refund_status, reason, amount, tax_amount: tax, currency: order.currency, organization_id: ORGANIZATION, order_id: order.id,
      subscription_id: order.subscription_id, customer_id: order.customer_id, revoke_benefits: revoke, dispute,
    });
    this.store.emit('refund.created', refund);
    if (refund.status === 'succeeded') this.#book(refund);
    return this.store.show(refund);
  }

  #book({ order_id: id, amount, tax_amount: tax }) {
    const order = this.store.find('orders', id);
    const refunded = order.refunded_amount + amount;
    const after = this.store.set('orders', id, {
      refunded_amount: refunded, refunded_tax_amount: order.refunded_tax_amount + tax, status: refunded >= order.net_amount ? 'refunded' : 'partially_refunded',
    });
    this.store.emit('order.updated', after);
    this.store.emit('order.refunded', after);
  }

  // By the control API: a pending one goes through or does not.
  finish({ refund: id, status = 'succeeded' }) {
    const refund = this.store.get('refunds', id);
    if (refund.status !== 'pending') throw invalidBody('refund', `The refund is ${refund.status}.`);
    const after = this.store.set('refunds', id, { status });
    this.store.emit('refund.updated', after);
    if (status === 'succeeded') this.#book(after);
    return this.store.show(after);
  }

  list({ query }) {
    const found = this.store.newest('refunds').filter((r) => holds(query.id, r.id) && holds(query.order_id, r.order_id) && holds(query.subscription_id, r.subscription_id)
      && holds(query.customer_id, r.customer_id) && holds(query.succeeded, r.status === 'succeeded')
      && holds(query.external_customer_id, this.store.find('customers', r.customer_id).external_id));
    return page(found, query);
  }

  // ---- disputes ----

  // By the control API. Opened without a word to the seller's endpoint; a prevented one is a refund at once.
  open({ order: id, status = 'needs_response', amount, reason = 'fraudulent' }) {
    const order = this.store.show(this.store.get('orders', id));
    const payment = [...this.store.newestFirst('payments')].find((p) => p.order_id === id && p.status === 'succeeded');
    if (!payment) throw invalidBody('order', 'The order has no payment.');
    const net = amount ?? order.refundable_amount;
    const dispute = this.store.create('disputes', {
      status, resolved: false, closed: false, amount: net, tax_amount: Math.round((net / order.net_amount) * order.tax_amount), currency: order.currency, reason,
      evidence_due_by: iso(this.store.clock.now() + 7 * 86400), past_due: false, order_id: id, payment_id: payment.id, case_id: null,
    });
    if (status === 'prevented') this.#prevent(dispute);
    return this.store.show(this.store.find('disputes', dispute.id));
  }

  #prevent(dispute) {
    this.store.set('disputes', dispute.id, { status: 'prevented', resolved: true, closed: true });
    const order = this.store.show(this.store.find('orders', dispute.order_id));
    this.insert(order, Math.min(dispute.amount, order.refundable_amount), { reason: 'dispute_prevention', dispute: dispute.id });
  }

  move({ dispute: id, status }) {
    const dispute = this.store.get('disputes', id);
    if (status === 'prevented') this.#prevent(dispute);
    else this.store.set('disputes', id, { status, closed: ['won', 'lost'].includes(status), resolved: ['won', 'lost'].includes(status) });
    return this.store.show(this.store.find('disputes', id));
  }

  listDisputes({ query }) {
    const found = this.store.newest('disputes').filter((d) => holds(query.order_id, d.order_id) && holds(query.status, d.status));
    return page(found, query);
  }

  readDispute({ ids: [id] }) {
    return this.store.show(this.store.get('disputes', id));
  }

  // An early warning is settled by giving the money back, an open dispute is given up.
  accept({ ids: [id] }) {
    const dispute = this.store.get('disputes', id);
    if (!OPEN.includes(dispute.status)) throw refused(409, 'DisputeNotOpenError', 'The dispute is not open.');
    return this.move({ dispute: id, status: dispute.status === 'early_warning' ? 'prevented' : 'lost' });
  }
}

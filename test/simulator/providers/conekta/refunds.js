// Conekta: refunds. They sit in a charge, have negative amounts, and are asked of the order.

import { HIDDEN, invalid, missing, objectId, precondition } from './store.js';

const REASONS = ['requested_by_client', 'cannot_be_fulfilled', 'duplicated_transaction', 'suspected_fraud', 'other'];

export class Refunds {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
  }

  create({ ids: [id], body }) {
    const { orders } = this.provider;
    const order = orders.get(id);
    if (!REASONS.includes(body.reason)) throw invalid(`The reason "${body.reason}" is not valid.`, 'reason', 'refund.reason.invalid');
    if (body.amount < 1) throw invalid('The amount has to be at least 1.', 'amount', 'refund.amount.too_small');
    if (!order.is_refundable) throw invalid(`The order is not refundable, it is ${order.payment_status ?? 'unpaid'}.`, 'order', 'order.not_refundable');
    const left = (charge) => charge.amount - orders.refundedOf(charge);
    const charges = orders.chargesOf(order).filter((c) => ['paid', 'partially_refunded'].includes(c.status));
    const refundable = charges.reduce((sum, c) => sum + left(c), 0);
    if (body.amount > refundable) throw invalid(`The amount ${body.amount} is more than the refundable ${refundable}.`, 'amount', 'refund.amount.exceeds_refundable');
    let open = body.amount;
    for (const charge of charges) {
      const part = Math.min(open, left(charge));
      if (part > 0) this.#refund(charge, part, body.expires_at);
      open -= part;
    }
    return this.store.show(orders.follow(id));
  }

  #refund(charge, amount, expires) {
    const cash = charge.payment_method.object === 'cash_payment';
    const refund = {
      id: objectId(), object: 'refund', amount: -amount, auth_code: '867372', created_at: this.store.clock.now(),
      status: cash ? 'pending' : this.provider.settings.refund_status, ...(cash && { expires_at: expires ?? this.store.clock.now() + 30 * 86400 }), [HIDDEN]: { charge: charge.id },
    };
    this.store.insert('refunds', refund);
    charge[HIDDEN].refunds.push(refund.id);
    this.#settle(charge.id);
  }

  #settle(chargeId) {
    const charge = this.store.find('charges', chargeId);
    const refunded = this.provider.orders.refundedOf(charge);
    const status = refunded === 0 ? 'paid' : refunded === charge.amount ? 'refunded' : 'partially_refunded';
    const after = this.store.change('charges', chargeId, { status });
    if (status === 'refunded') this.store.emit('charge.refunded', after);
  }

  // Only a refund that has not left can be taken back.
  delete({ ids: [orderId, id] }) {
    const order = this.provider.orders.get(orderId);
    const refund = this.store.get('refunds', id, 'Refund');
    const { charge } = refund[HIDDEN];
    if (!order[HIDDEN].charges.includes(charge)) throw missing('Refund', id);
    if (refund.status !== 'pending') throw precondition(`The refund cannot be canceled, it is ${refund.status}.`, 'refund.not_pending');
    this.store.change('refunds', id, { deleted: true });
    this.#settle(charge);
    return this.store.show(this.provider.orders.follow(orderId));
  }

  // The cash was fetched, the bank has sent the money.
  finish({ refund: id, status }) {
    const refund = this.store.get('refunds', id, 'Refund');
    this.store.change('refunds', refund.id, { status: status ?? this.provider.settings.refund_status });
    const { order_id: order } = this.store.find('charges', refund[HIDDEN].charge);
    this.store.emit('order.updated', this.provider.orders.get(order));
    return this.store.show(this.provider.orders.get(order));
  }
}

// Conekta: what the buyer and the bank do, as actions of the control API.

import { HIDDEN, invalid, missing, newId } from './store.js';

const CHARGEBACK_EVENT = { won: 'won', lost: 'lost', under_review: 'under_review' };

export class Buyer {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
  }

  actions() {
    const { checkouts, subscriptions, refunds } = this.provider;
    return {
      pay_reference: (given) => this.payReference(given),
      expire: ({ id }) => this.expire(id),
      authenticate: (given) => this.authenticate(given),
      chargeback: (given) => this.chargeback(given),
      complete_checkout: (given) => checkouts.complete(given),
      bill: ({ subscription, outcome }) => subscriptions.bill(this.store.get('subscriptions', subscription, 'Subscription').id, outcome),
      finish_refund: (given) => refunds.finish(given),
      fraud_review: ({ charge, status = 'under_fraud_review' }) => this.#review(charge, status),
      reverse: ({ charge }) => this.#reverse(charge),
    };
  }

  // A cash reference or a CLABE is paid: that of a charge, or a reusable one of a customer, which makes an
  // order that nobody asked for. A CLABE takes any amount.
  payReference({ reference, amount }) {
    for (const charge of this.store.newestFirst('charges')) {
      const { reference: cash, clabe } = charge.payment_method;
      if (cash !== reference && clabe !== reference) continue;
      if (charge.status !== 'pending_payment') throw invalid(`The charge is ${charge.status}.`, 'reference');
      if (amount !== undefined && amount !== charge.amount) throw invalid(`The charge is for ${charge.amount}.`, 'amount');
      this.provider.orders.settle(charge.id, 'paid');
      const order = this.provider.orders.get(charge.order_id);
      const checkout = order[HIDDEN].checkout ?? order[HIDDEN].link;
      if (checkout) this.provider.checkouts.paid(checkout);
      return this.store.show(order);
    }
    return this.#payReusable(reference, amount);
  }

  #payReusable(reference, amount) {
    const source = this.store.all('payment_sources').find((s) => !s.deleted && s.reference === reference);
    if (!source) throw missing('Reference', reference);
    if (!(amount >= 1)) throw invalid('A reusable reference is paid with an amount.', 'amount');
    const customer = this.provider.customers.get(source.parent_id);
    const { orders } = this.provider;
    const order = orders.insert(
      { currency: 'MXN', line_items: [{ name: 'Payment', unit_price: amount, quantity: 1 }] },
      { object: 'customer_info', customer_id: customer.id, name: customer.name, email: customer.email, phone: customer.phone, corporate: customer.corporate, customer_custom_reference: customer.custom_reference || null },
      amount,
    );
    this.store.emit('order.created', order);
    const { charge } = orders.charge(order.id, { payment_method: { type: source.type === 'spei_recurrent' ? 'spei' : 'cash' } });
    const own = source.type === 'spei_recurrent' ? { clabe: reference, receiving_account_number: reference } : { reference, barcode_url: source.barcode_url };
    this.store.change('charges', charge.id, { payment_method: { ...charge.payment_method, ...own } });
    orders.settle(charge.id, 'paid');
    return this.store.show(orders.get(order.id));
  }

  // An order, a charge or a checkout runs out, whatever the clock says.
  expire(id) {
    if (this.store.find('checkouts', id)) {
      this.provider.checkouts.expire(id);
      return this.store.find('checkouts', id);
    }
    const charge = this.store.find('charges', id) ?? this.provider.orders.chargesOf(this.provider.orders.get(id)).find((c) => c.status.startsWith('pending'));
    if (!charge) throw invalid('Nothing of this order is pending.', 'id');
    this.provider.orders.settle(charge.id, 'expired');
    return this.store.show(this.provider.orders.get(charge.order_id));
  }

  // The buyer comes back from 3-D Secure.
  authenticate({ order: id, success = true }) {
    const order = this.provider.orders.get(id);
    const charge = this.provider.orders.chargesOf(order).find((c) => c.status === 'pending_confirmation');
    if (!charge) throw invalid('Nothing of this order waits for the buyer.', 'order');
    const failed = { failure_code: 'three_ds_failed', failure_message: 'La autenticación del tarjetahabiente falló.' };
    if (success) this.provider.orders.settle(charge.id, order[HIDDEN].preAuthorize ? 'pre_authorized' : 'paid');
    else this.provider.orders.settle(charge.id, 'declined', failed);
    return this.store.show(this.provider.orders.get(id));
  }

  // The first word opens it, later ones move it on; won gives the money back.
  chargeback({ charge: given, order, status = 'action_required', reason = 'unrecognized' }) {
    const charge = this.store.find('charges', given) ?? this.provider.orders.chargesOf(this.provider.orders.get(order)).find((c) => c.paid_at !== null);
    if (!charge) throw missing('Charge', given);
    const now = this.store.clock.now();
    const before = charge.chargeback;
    const chargeback = {
      ...(before ?? { id: newId('chbk'), object: 'chargeback', charge_id: charge.id, reason, created_at: now, evidence_due_by: now + 7 * 86400, note: null, files: [] }), status,
    };
    this.store.change('charges', charge.id, { chargeback, status: status === 'won' ? 'paid' : 'charged_back' });
    const event = before ? CHARGEBACK_EVENT[status] ?? 'updated' : 'created';
    this.store.emit(`charge.chargeback.${event}`, this.store.find('charges', charge.id));
    this.provider.orders.follow(charge.order_id);
    return this.store.show(this.store.find('charges', charge.id));
  }

  #review(charge, status) {
    if (!['under_fraud_review', 'fraudulent', 'paid'].includes(status)) throw invalid('status is under_fraud_review, fraudulent or paid.', 'status');
    this.store.get('charges', charge, 'Charge');
    return this.store.show(this.provider.orders.settle(charge, status));
  }

  // Cash that the shop took back.
  #reverse(charge) {
    this.store.get('charges', charge, 'Charge');
    return this.store.show(this.provider.orders.settle(charge, 'reversed'));
  }
}
